"""Talk time, reading one speaker, comments, and the search over the whole library."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pages import TITLE, Sentence, Site, load, player, plays_from, start, store, tone
from playwright.sync_api import Error, Page, Route, expect

from agent.settings import Settings
from agent.workspace import open_workspace

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]
OTHER = "Harbour walk <i>"
SAID = "The extra crew sleeps & eats <b>aboard</b>."


@pytest.fixture(scope="module")
def two_site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample, and a short recording with text that looks like HTML."""
    home = tmp_path_factory.mktemp("two") / "home"
    shutil.copytree(filled_home, home)
    workspace = open_workspace(Settings(home=home))
    sentences = [
        Sentence(1, 4, "Ann", "We walk along the harbour."),
        Sentence(5, 9, "Ann", SAID),
        Sentence(10, 12, "Bo", "Good."),
    ]
    store(workspace, tone(home / "walk.flac", 20), OTHER, sentences, [])
    workspace.close()
    running = start(home)
    yield running
    running.stop()


@pytest.fixture
def bare_site(two_site: Site) -> Site:
    """It without any comment, whatever the test before left there."""
    with closing(sqlite3.connect(two_site.home / "library.sqlite")) as database, database:
        database.execute("DELETE FROM comments")
    return two_site


def open_recording(page: Page, title: str) -> None:
    """Open it where it is not open yet: opening ends with the transcript's tab, which nothing tells of."""
    if page.locator("#head h2").text_content() != title:
        page.locator("[data-open]", has_text=title).first.click()
        expect(page.locator("#head h2")).to_have_text(title)
        expect(page.locator("#player")).to_have_attribute("aria-label", f"Player of {title}")


def test_talk_time_is_shown_and_leads_to_what_one_speaker_says(two_site: Site, visit: Visit) -> None:
    page = visit(two_site)
    open_recording(page, OTHER)
    page.get_by_role("tab", name="Talk time").click()
    rows = page.locator("#talk li")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("78 %")
    expect(rows.first).to_contain_text("1 turn")
    expect(page.locator(".talk-sum")).to_contain_text("0:11 without (55 %)")
    page.click("[data-only='Ann']")
    expect(page.locator(".line:visible")).to_have_count(2)
    page.fill("[data-filter]", "crew")
    expect(page.locator(".line:visible")).to_have_count(1)
    expect(page.locator("#filter output")).to_have_text("1 of 3")
    page.select_option("[data-only-voice]", "Bo")
    expect(page.locator(".line:visible")).to_have_count(0)
    page.fill("[data-filter]", "")
    expect(page.locator(".line:visible")).to_have_count(1)
    open_recording(page, TITLE)
    expect(page.locator("[data-only-voice]")).to_have_value("")
    expect(page.locator(".line:visible").first).to_contain_text("Good morning")


def test_one_search_finds_in_every_recording_and_plays(two_site: Site, visit: Visit) -> None:
    page = visit(two_site)
    page.fill("[data-library-search]", "extra crews")
    places = page.locator(".found-place")
    expect(places.filter(has_text="aboard")).to_be_visible(timeout=60_000)
    expect(places.filter(has_text="anyone object to paying for the extra crew")).to_be_visible()
    expect(page.locator("#found .hint")).to_contain_text("in 2 recordings")
    expect(page.locator("#shelf")).to_be_hidden()
    assert SAID in page.locator("#found").inner_text(), "nothing in it is taken for HTML"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('#found') !== null")
    place = places.filter(has_text="anyone object")
    place.click()
    expect(page.locator("#head h2")).to_have_text(TITLE)
    plays_from(page, 49, 53)
    page.fill("[data-library-search]", "harbour walk <i>")
    expect(page.locator(".found-title")).to_have_text(OTHER)
    page.focus("[data-library-search]")
    page.keyboard.press("Escape")
    expect(page.locator("#shelf")).to_be_visible()
    expect(page.locator(".found-place")).to_have_count(0)


def test_a_comment_is_made_changed_and_deleted_by_keys_and_shown_on_the_lane(
    bare_site: Site, visit: Visit
) -> None:
    page = visit(bare_site)
    open_recording(page, OTHER)
    page.evaluate("moss.seek(6)")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    page.keyboard.type("<b>Ask</b> them")
    page.keyboard.press("Control+Enter")
    remark = page.locator(".remark")
    expect(remark.locator("p")).to_have_text("<b>Ask</b> them")
    before = page.evaluate(
        "document.querySelector('.remark').previousElementSibling.querySelector('.text').textContent"
    )
    assert before == SAID, "it stands behind the sentence that it is in"
    page.wait_for_function(
        "moss.timeline.data.comments.length === 1 && moss.timeline.data.comments[0].at === 6"
    )
    page.evaluate("moss.seek(15)")
    remark.get_by_role("button", name="Play from 0:06").click()
    plays_from(page, 5, 8)
    page.evaluate("document.getElementById('player').pause()")
    remark.get_by_role("button", name="Change").click()
    page.fill("dialog textarea", "Asked")
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(remark.locator("p")).to_have_text("Asked")
    load(page)
    expect(remark.locator("p")).to_have_text("Asked")
    remark.hover()
    remark.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(remark).to_have_count(0)
    page.wait_for_function("moss.timeline.data.comments.length === 0")


def test_a_comment_before_the_first_sentence_is_seen(bare_site: Site, visit: Visit) -> None:
    page = visit(bare_site)
    open_recording(page, OTHER)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    page.keyboard.type("Before anybody speaks")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".remark p")).to_be_visible()
    page.locator(".remark").hover()
    page.locator(".remark").get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".remark")).to_have_count(0)


def test_a_comment_is_made_where_one_went_before_the_audio_arrived(bare_site: Site, visit: Visit) -> None:
    page = visit(bare_site)
    open_recording(page, TITLE)
    held: list[Route] = []
    page.route("**/audio/*", lambda route: held.append(route))
    open_recording(page, OTHER)
    assert player(page, "readyState") == 0, "nothing is known of the file yet"
    page.evaluate("moss.seek(6)")
    expect(page.locator(".line.current")).to_contain_text(SAID)
    expect(page.locator("[data-now]")).to_have_text("0:06")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    expect(page.get_by_role("dialog")).to_contain_text("Comment at 0:06")
    page.keyboard.press("Escape")
    page.evaluate("moss.play(document.getElementById('player').dataset.recording, 10, 12)")
    page.unroute("**/audio/*")
    for route in held:
        # Those that were asked for anew are no longer waited for.
        with suppress(Error):
            route.continue_()
    page.wait_for_function("document.getElementById('player').readyState > 1")
    plays_from(page, 9, 12)


def test_the_waveform_stays_where_the_view_stays(two_site: Site, visit: Visit) -> None:
    page = visit(two_site)
    open_recording(page, OTHER)
    page.wait_for_function("moss.timeline.peaks && moss.timeline.loaded.includes(' ')")
    page.evaluate("moss.timeline.show(0, moss.timeline.duration)")
    page.wait_for_function("moss.timeline.peaks")


def test_a_summary_is_written_again_by_an_instruction_and_copied_as_it_is_shown(
    two_site: Site, visit: Visit
) -> None:
    page = visit(two_site)
    open_recording(page, TITLE)
    page.get_by_role("tab", name="Summary").click()
    summary = page.locator("#summary")
    expect(summary).to_contain_text("Decisions")
    page.fill("[data-instruction]", "only what concerns <b>the rowing club</b>")
    page.keyboard.press("Enter")
    expect(summary).to_contain_text("the instruction cannot be followed")
    expect(summary).to_contain_text("What fits “only what concerns <b>the rowing club</b>”")
    expect(summary.locator("a.cite").first).to_be_visible()
    expect(page.locator("[data-unwrite]")).to_be_hidden()
    with page.expect_download() as download:
        page.click("text=Download .md")
    assert "the instruction cannot be followed" in Path(download.value.path()).read_text()
    page.get_by_role("radio", name="Call").check(force=True)
    expect(summary).to_contain_text("Next steps")
    expect(summary).to_contain_text("What fits")
    page.fill("[data-instruction]", "")
    page.locator("[data-instruction]").press("Enter")
    expect(summary).not_to_contain_text("What fits")
