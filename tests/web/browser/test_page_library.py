"""The left of the page: adding, watching, cancelling, removing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
from pages import RUN, TITLE, Site, answer, ask, load, start
from playwright.sync_api import Browser, Page, expect

from web.uploads import Uploads

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

# The real transcription, which after its first window waits until the test lets it go on.
HELD = """
import sys, time
from itertools import count
from pathlib import Path
from index.pipeline.transcribe_stage import TranscribeStage
process, begun = TranscribeStage.process, count()
go = Path(sys.argv[sys.argv.index("--home") + 1]) / "go"
def held(self, window):
    if next(begun) > 0:
        while not (go.exists() or self.context.cancel.is_set()):
            time.sleep(0.01)
    return process(self, window)
TranscribeStage.process = held
"""


def clip(sample: Path, target: Path, seconds: float) -> Path:
    """The first seconds of the sample, as another mp3."""
    with av.open(str(sample)) as source, av.open(str(target), "w") as made:
        stream = made.add_stream("mp3", rate=16_000)
        for frame in source.decode(audio=0):
            if frame.time > seconds:
                break
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return target


def choose(page: Page, *files: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("[data-choose]")
    chooser.value.set_files([str(file) for file in files])


@pytest.fixture
def held_site(filled_home: Path, models: Path, tmp_path: Path) -> Iterator[Site]:
    """A page of its own whose transcription takes as long as the test says (see ``let_go``)."""
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    (home / "models").symlink_to(models)
    running = start(home, HELD + RUN)
    yield running
    let_go(running)
    running.stop()


def let_go(site: Site) -> None:
    (site.home / "go").touch()


@pytest.mark.slow
def test_a_chosen_file_is_transcribed_while_one_chats(
    held_site: Site, visit: Visit, sample: Path, tmp_path: Path
) -> None:
    page = visit(held_site)
    choose(page, clip(sample, tmp_path / "first half.mp3", 80))
    running = page.locator(".card.job", has_text="first half")
    expect(running).to_contain_text("Transcribing", timeout=60_000)
    choose(page, clip(sample, tmp_path / "short.mp3", 8))
    expect(page.locator(".card.job", has_text="short")).to_contain_text("Waiting · next in line")
    ask(page, "What was said at minute 2?")
    assert "the certificate expired" in answer(page).lower()
    expect(running).to_have_count(1), "the answer did not wait for the transcription"
    expect(running).to_contain_text(re.compile(r"\d+ % · [\d.]+× realtime · .* left"), timeout=60_000)
    load(page)
    expect(page.locator(".card.job", has_text="first half")).to_be_visible()
    let_go(held_site)
    done = page.locator(".card:not(.job)", has_text="short")
    expect(done).to_contain_text("covered", timeout=180_000)
    done.locator("[data-open]").click()
    expect(page.locator(".line").first).to_contain_text("Good morning")
    assert list((held_site.home / "uploads").glob("*/*.mp3")) == []


@pytest.mark.slow
def test_a_running_and_a_waiting_job_can_be_cancelled_and_the_first_goes_on(
    held_site: Site, visit: Visit, sample: Path, tmp_path: Path
) -> None:
    page = visit(held_site)
    choose(page, clip(sample, tmp_path / "first.mp3", 60), clip(sample, tmp_path / "second.mp3", 8))
    second = page.locator(".card.job", has_text="second")
    expect(second).to_contain_text("Waiting")
    second.get_by_role("button", name="Cancel").click()
    expect(second).to_have_count(0)
    first = page.locator(".card.job", has_text="first")
    expect(first).to_contain_text("Transcribing", timeout=60_000)
    first.get_by_role("button", name="Cancel").click()
    expect(first).to_contain_text("Stopped; what was transcribed is kept.", timeout=60_000)
    let_go(held_site)
    first.get_by_role("button", name="Resume").click()
    expect(page.locator(".card:not(.job)", has_text="first")).to_contain_text("covered", timeout=120_000)


def test_a_broken_upload_is_one_sentence_and_leaves_nothing(
    own_site: Site, visit: Visit, tmp_path: Path
) -> None:
    broken = tmp_path / "notes <b>.mp3"
    broken.write_text("these are no sounds")
    page = visit(own_site)
    choose(page, broken)
    card = page.locator(".card.failed")
    expect(card.locator(".card-title")).to_have_text("notes <b>")
    expect(card.locator(".bad")).to_contain_text("is not a media file")
    sentence = card.locator(".bad").inner_text()
    assert sentence.count(". ") == 0 and "Traceback" not in sentence
    card.get_by_role("button", name="Dismiss").click()
    expect(card).to_have_count(0)
    assert list((own_site.home / "uploads").glob("*/*.mp3")) == []


@pytest.mark.slow
def test_the_microphone_records_into_the_library(own_site: Site, visit: Visit) -> None:
    page = visit(own_site, permissions=["microphone"])
    page.click("[data-record]")
    expect(page.locator("[data-upload]")).to_contain_text("Recording 0:02")
    page.get_by_role("button", name="Stop and add").click()
    card = page.locator(".card:not(.job)", has_text="Recording 20")
    expect(card).to_contain_text("0:0", timeout=90_000)
    card.locator("[data-open]").click()
    # Chromium's pretend microphone beeps; nobody speaks.
    expect(page.locator("#transcript")).to_contain_text("No speech was found")


def test_a_recording_outlives_an_unplugged_microphone_and_a_failed_upload(
    own_site: Site, visit: Visit, tmp_path: Path, browser: Browser
) -> None:
    page = browser.new_page()
    load(page, own_site.url)
    page.context.grant_permissions(["microphone"])
    page.route("**/gradio_api/upload", lambda route: route.abort())
    page.click("[data-record]")
    expect(page.locator("[data-upload]")).to_contain_text("Recording 0:02")
    (tmp_path / "other.mp3").write_bytes(b"x")
    choose(page, tmp_path / "other.mp3")
    expect(page.locator(".toast-body")).to_contain_text("could not be sent")
    expect(page.get_by_role("button", name="Stop and add")).to_be_visible()
    # What an unplugged microphone does: its track ends, and with it the recorder.
    page.evaluate(
        "moss.recorder.stream.getTracks().forEach((track) => { track.stop(); }); moss.recorder.stop()"
    )
    row = page.locator(".upload-row")
    expect(row).to_contain_text("could not be sent; is moss-agent still running?")
    with page.expect_download() as saved:
        row.get_by_text("Download").click()
    assert saved.value.path().read_bytes()[:4] == b"\x1aE\xdf\xa3", "a WebM file"
    assert page.evaluate("moss.unsent.size") == 1
    page.unroute("**/gradio_api/upload")
    row.get_by_role("button", name="Try again").click()
    expect(page.locator(".card", has_text="Recording 20")).to_be_visible()
    expect(row).to_have_count(0)
    assert page.evaluate("moss.unsent.size") == 0
    page.close()


def test_recording_does_not_begin_with_a_wrong_number_of_speakers(own_site: Site, visit: Visit) -> None:
    page = visit(own_site, permissions=["microphone"])
    page.fill("[data-speakers]", "0")
    page.click("[data-record]")
    page.wait_for_timeout(500)
    expect(page.get_by_role("button", name="Stop and add")).to_have_count(0)
    page.fill("[data-speakers]", "2")
    page.click("[data-record]")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator(".upload-row")).to_have_count(0)
    assert page.evaluate("moss.unsent.size") == 0


def test_a_number_of_speakers_out_of_range_is_refused_before_sending(
    own_site: Site, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "some.mp3").write_bytes(b"x")
    page = visit(own_site)
    page.fill("[data-speakers]", "51")
    choose(page, tmp_path / "some.mp3")
    page.wait_for_timeout(500)
    expect(page.locator(".card.job")).to_have_count(0)


def test_a_wrong_audio_track_is_refused_before_sending(own_site: Site, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "some.mp3").write_bytes(b"x")
    page = visit(own_site)
    page.fill("[data-track]", "0")
    choose(page, tmp_path / "some.mp3")
    page.wait_for_timeout(500)
    expect(page.locator(".card.job")).to_have_count(0)
    page.fill("[data-track]", "2")
    choose(page, tmp_path / "some.mp3")
    expect(page.locator(".card.job")).to_have_count(1)
    expect(page.locator("[data-track]")).to_have_value("")


def test_words_that_must_be_spelled_right_are_kept_as_text(own_site: Site, visit: Visit) -> None:
    words = "NorthKey\n<img src=x onerror=alert(1)>\n</textarea>Callum"
    page = visit(own_site)
    page.locator("#glossary summary").click()
    page.fill("[data-glossary]", words)
    page.click("[data-spell]")
    expect(page.locator("#glossary summary")).to_contain_text("(3)")
    assert (own_site.home / "glossary.txt").read_text() == f"{words}\n"
    load(page)
    page.locator("#glossary summary", has_text="(3)").click()
    expect(page.locator("[data-glossary]")).to_have_value(words)
    page.fill("[data-glossary]", "x" * 81)
    page.click("[data-spell]")
    expect(page.locator(".toast-body")).to_contain_text("81")
    assert (own_site.home / "glossary.txt").read_text() == f"{words}\n"


def test_removing_asks_first_and_leaves_an_empty_state(own_site: Site, visit: Visit) -> None:
    page = visit(own_site)
    page.hover(".card")
    page.click("[data-remove]")
    page.locator("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".card")).to_have_count(1)
    page.hover(".card")
    page.click("[data-remove]")
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#shelf")).to_contain_text("No recordings yet.")
    expect(page.locator("#head")).to_contain_text("Open a recording")
    expect(page.locator("audio")).to_have_count(0)
    assert not list((own_site.home / "audio").glob("*.flac"))


@pytest.fixture
def interrupted_site(filled_home: Path, tmp_path: Path) -> Iterator[Site]:
    """A page on which the user had stopped an upload before the server ended."""
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    left = Uploads(home)
    (left.arriving / "h").mkdir()
    (left.arriving / "h" / "half.mp3").write_bytes(b"x")
    upload = left.claim(str(left.arriving / "h" / "half.mp3"), "Half a talk", None)
    left.note_state(upload.name, "stopped")
    running = start(home)
    yield running
    running.stop()


def test_an_upload_of_an_earlier_run_can_go_on_or_be_forgotten(interrupted_site: Site, visit: Visit) -> None:
    page = visit(interrupted_site)
    card = page.locator(".card.job", has_text="Half a talk")
    expect(card).to_contain_text("Stopped")
    expect(card.get_by_role("button", name="Resume")).to_be_visible()
    card.get_by_role("button", name="Forget").click()
    expect(card).to_have_count(0)
    assert list((interrupted_site.home / "uploads").iterdir()) == []
    assert list((interrupted_site.home / "upload-jobs").iterdir()) == []


def test_a_file_over_the_limit_is_refused_in_one_sentence(
    filled_home: Path, tmp_path: Path, browser: Browser
) -> None:
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    running = start(home, MOSS_AGENT_MAX_UPLOAD_MB="1")
    (tmp_path / "big.wav").write_bytes(b"\0" * 3 * 2**20)
    try:
        page = browser.new_page()
        load(page, running.url)
        choose(page, tmp_path / "big.wav")
        expect(page.locator(".toast-body")).to_contain_text("“big.wav” is larger than this page accepts")
        page.close()
    finally:
        running.stop()


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Site]:
    """A first start: nothing there yet."""
    home = tmp_path / "new"
    home.mkdir()
    running = start(home, cold=True, MOSS_AGENT_TRANSCRIBER="tiny.en")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.mark.slow
def test_the_first_start_adds_the_sample_and_a_later_one_does_not(
    new_site: Site, visit: Visit, browser: Browser
) -> None:
    page = visit(new_site, wait="#shelf .card")
    expect(page.locator(".card")).to_contain_text(TITLE, ignore_case=True)
    expect(page.locator(".line").first).to_contain_text("Good morning", timeout=120_000)
    expect(page.locator(".card:not(.job)")).to_contain_text("covered", timeout=240_000)
    ask(page, "What was said at minute 2?")
    assert "certificate" in answer(page)
    page.hover(".card")
    page.click("[data-remove]")
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#shelf")).to_contain_text("No recordings yet.")
    page.context.close()
    new_site.stop()
    again = start(new_site.home)
    try:
        later = browser.new_page()
        later.goto(again.url)
        expect(later.locator("#shelf")).to_contain_text("No recordings yet.", timeout=20_000)
        later.wait_for_timeout(2500)
        expect(later.locator(".card")).to_have_count(0)
        later.close()
    finally:
        again.stop()
