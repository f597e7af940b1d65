"""Nothing from a recording is interpreted, nothing leaves the machine, nothing else is served."""

from __future__ import annotations

import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import Sentence, Site, ask, start, store, tone
from playwright.sync_api import Page, expect

from agent.settings import Settings
from agent.workspace import open_workspace

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

HOSTILE = (
    "<img src=x onerror=window.owned=1>",
    "<script>window.owned=1</script>",
    "[click](javascript:window.owned=1)",
    "![x](http://127.0.0.1:9/x.png)",
    "**bold** _em_ `code` # head",
    "${window.owned=1} {{7*7}} `${7*7}`",
    "</div></style><style>*{display:none}</style>",
    "https://example.com www.example.com $$x^2$$ :smile: &lt;b&gt;",
)
TITLE = "Hostile <img src=x onerror=window.owned=1> **call** ${1+1}"
SPEAKER = "<b onclick=alert(1)>Eve</b> [x](javascript:1) `"


@pytest.fixture(scope="module")
def hostile_site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    shutil.copytree(filled_home, home)
    workspace = open_workspace(Settings(home=home))
    lines = [
        Sentence(5.0 * number, 5.0 * number + 4, SPEAKER, f"We decided to {text} by Friday.")
        for number, text in enumerate(HOSTILE)
    ]
    store(workspace, tone(home / "tone.flac", 60), TITLE, lines, [])
    workspace.close()
    running = start(home)
    yield running
    running.stop()


def unharmed(page: Page) -> None:
    """No script ran, and no element came out of a recording's text."""
    assert page.evaluate("window.owned") is None
    for selector in (
        "img[src*='127.0.0.1:9']",
        "img[src='x']",
        "a[href^='javascript']",
        "a[href*='example.com']",
        "[onerror], [onclick]",
        ".katex",
    ):
        assert page.locator(selector).count() == 0, selector
    for part in ("#shelf", "#head", "#transcript", "#answers .message-content", "#answers .thought-group"):
        found = page.evaluate(
            """part => [...document.querySelectorAll(part)]
              .flatMap((element) => [...element.querySelectorAll("b, em, code, script, style")])
              .map((element) => element.outerHTML)""",
            part,
        )
        assert found == [], part


def test_hostile_text_is_shown_as_it_was_said_everywhere(hostile_site: Site, visit: Visit) -> None:
    page = visit(hostile_site)
    expect(page.locator("#head h2")).to_have_text(TITLE)
    expect(page.locator("#shelf .card.selected .card-title")).to_have_text(TITLE)
    expect(page.locator(".who").first).to_have_text(SPEAKER)
    for text, row in zip(HOSTILE, page.locator(".line .text").all(), strict=True):
        assert row.inner_text() == f"We decided to {text} by Friday."
    unharmed(page)
    ask(page, "What was said in the first 40 seconds?")
    page.locator("#answers .thought-group .title").last.click()
    page.wait_for_timeout(300)
    shown = page.locator("#answers").inner_text()
    for text in HOSTILE:
        assert " ".join(text.split()) in re.sub(r"\s+", " ", shown)
    unharmed(page)


def test_hostile_text_stays_text_in_the_summary(hostile_site: Site, visit: Visit) -> None:
    page = visit(hostile_site)
    page.get_by_role("tab", name="Summary").click()
    expect(page.locator("#summary a.cite").first).to_be_visible(timeout=60_000)
    unharmed(page)
    assert page.locator("#summary").locator("em, code, img, script, style").count() <= 20
    assert page.locator("#summary img, #summary script, #summary code").count() == 0


def test_hostile_text_stays_text_in_dialogs_notices_and_questions(hostile_site: Site, visit: Visit) -> None:
    page = visit(hostile_site)
    page.click("[data-rename] >> nth=0")
    expect(page.locator("dialog h2")).to_have_text(f"Who is {SPEAKER}?")
    unharmed(page)
    page.click("dialog button:not([type=submit])")
    page.evaluate("moss.complain('<img src=x onerror=window.owned=1> **so** it is')")
    expect(page.locator(".toast-body")).to_contain_text("<img src=x onerror=window.owned=1>")
    unharmed(page)
    ask(page, "<img src=x onerror=window.owned=1> **what** ![x](http://127.0.0.1:9/x.png)?")
    expect(page.locator("#answers .user-row").last).to_contain_text(
        "**what** ![x](http://127.0.0.1:9/x.png)?"
    )
    unharmed(page)


def test_removing_asks_with_the_title_as_text(hostile_site: Site, visit: Visit) -> None:
    page = visit(hostile_site)
    page.hover("#shelf .card.selected")
    page.click("#shelf .card.selected [data-remove]")
    expect(page.locator("dialog p")).to_contain_text(TITLE)
    unharmed(page)
    page.keyboard.press("Escape")
    expect(page.locator("#shelf .card")).to_have_count(2)


def test_the_served_page_names_no_foreign_address_a_browser_would_fetch(site: Site) -> None:
    with urllib.request.urlopen(site.url) as reply:
        html = reply.read().decode()
        policy = reply.headers["Content-Security-Policy"]
    fetched = re.findall(
        r"<(?:script|link|img|iframe|source|audio)\b[^>]*?(?:src|href)=[\"'](https?:)?//", html
    )
    assert fetched == []
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//|@import", html) == []
    assert "default-src 'self'" in policy and "http" not in policy


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as reply:
            reply.read()
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file={home}/library.sqlite",
        "gradio_api/file={home}/conversations.sqlite",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file={home}/uploads/../library.sqlite",
        "gradio_api/file=http://127.0.0.1:9/x",
        "gradio_api/proxy=https://example.hf.space/x",
        "audio/..%2Flibrary.sqlite",
        "audio/unknown",
        "export/unknown.txt",
        "gradio_api/file={home}/arriving/h/talk.mp3",
        "gradio_api/file={home}/uploads/h/talk.mp3",
        "gradio_api/file/{home}/uploads/h/talk.mp3",
        "gradio_api/info",
        "gradio_api/openapi.json",
        "gradio_api/deep_link",
        "monitoring",
        "docs",
        "openapi.json",
    ],
)
def test_a_visitor_reads_no_other_file(site: Site, path: str) -> None:
    for folder in ("arriving", "uploads"):
        (site.home / folder / "h").mkdir(exist_ok=True)
        (site.home / folder / "h" / "talk.mp3").write_bytes(b"private words")
    assert status(f"{site.url}/{path.format(home=site.home)}") in (403, 404)


def test_audio_is_served_in_ranges(site: Site) -> None:
    recording = next((site.home / "audio").glob("*.flac")).stem
    request = urllib.request.Request(f"{site.url}/audio/{recording}", headers={"Range": "bytes=100-199"})
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 206
        assert len(reply.read()) == 100
        assert reply.headers["Content-Type"] == "audio/flac"


def test_another_sites_name_for_this_machine_is_refused(site: Site) -> None:
    assert status(site.url, Host="evil.example") == 403
    assert status(site.url) == 200


def test_a_path_that_was_not_uploaded_is_not_added(own_site: Site, visit: Visit) -> None:
    page = visit(own_site)
    outside = own_site.home / "library.sqlite"
    page.evaluate(
        "path => moss.send('add', 'added', { file: path, title: 'stolen', speakers: null })", str(outside)
    )
    expect(page.locator(".toast-body")).to_contain_text("did not arrive")
    expect(page.locator("#shelf")).not_to_contain_text("stolen")
