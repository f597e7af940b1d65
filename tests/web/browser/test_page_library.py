"""The left of the page: adding, watching, cancelling, removing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import httpx2
import pytest
from pages import RUN, TITLE, Site, answer, ask, load, start
from playwright.sync_api import Page, expect

from web.server import SAMPLE
from web.uploads import Uploads

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

# The real transcription, which after a file's first window waits until the test lets it go on.
HELD = """
import sys, time
from pathlib import Path
from index.pipeline.transcribe_stage import TranscribeStage
from index.transcription.whisper import WhisperTranscriber
WhisperTranscriber.window_speech_seconds = 10.0
process, begun = TranscribeStage.process, set()
go = Path(sys.argv[sys.argv.index("--home") + 1]) / "go"
def held(self, window):
    if self.context.id in begun:
        while not (go.exists() or self.context.cancel.wait(0.05)):
            pass
    begun.add(self.context.id)
    return process(self, window)
TranscribeStage.process = held
"""

# The real first start, whose sample is the opening of the one that is shipped.
SHORTER = """
import web.server
from pathlib import Path
web.server.SAMPLE = Path({clip!r})
"""

TWO_WINDOWS = 24
"""Seconds of the sample that are transcribed in two steps (see ``HELD``)."""

DRAWN = "#shelf .card"
"""What shows that a page is drawn whose newest recording may be one without a sentence."""

TWO_SECONDS = re.compile(r"Recording 0:(0[2-9]|[1-5]\d)")
"""What is shown once a microphone has been heard for two seconds or longer."""

UPLOAD_FAULTS = ("Failed to load resource",)
"""How Chromium complains of a request that failed or was refused."""


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


@pytest.fixture(scope="module")
def held(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page whose transcription takes as long as the test says (see ``let_go``)."""
    home = tmp_path_factory.mktemp("held") / "home"
    shutil.copytree(filled_home, home)
    running = start(home, HELD + RUN, MOSS_AGENT_TRANSCRIBER="tiny.en")
    yield running
    let_go(running)
    running.stop()


@pytest.fixture
def held_site(held: Site) -> Site:
    """It, holding; each test adds files of its own."""
    (held.home / "go").unlink(missing_ok=True)
    return held


@pytest.fixture(scope="module")
def shelf_site(filled_home: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page on which each test adds something of its own, or nothing."""
    home = tmp_path_factory.mktemp("shelf") / "home"
    shutil.copytree(filled_home, home)
    (home / "models").symlink_to(models)
    running = start(home)
    yield running
    running.stop()


def let_go(site: Site) -> None:
    (site.home / "go").touch()


@pytest.mark.slow
def test_a_chosen_file_is_transcribed_while_one_chats(
    held_site: Site, visit: Visit, sample: Path, tmp_path: Path
) -> None:
    page = visit(held_site, reduced_motion="reduce")  # what moves costs as much as transcribing
    choose(page, clip(sample, tmp_path / "first half.mp3", TWO_WINDOWS))
    running = page.locator(".card.job", has_text="first half")
    expect(running).to_contain_text("Transcribing")
    choose(page, clip(sample, tmp_path / "short.mp3", 8))
    expect(page.locator(".card.job", has_text="short")).to_contain_text("Waiting · next in line")
    ask(page, "What was said at minute 2?")
    assert "the certificate expired" in answer(page).lower()
    expect(running).to_have_count(1), "the answer did not wait for the transcription"
    expect(running).to_contain_text(re.compile(r"\d+ % · [\d.]+× realtime · .* left"))
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
    page = visit(held_site, reduced_motion="reduce")  # what moves costs as much as transcribing
    choose(page, clip(sample, tmp_path / "a call.mp3", TWO_WINDOWS + 1))
    first = page.locator(".card.job", has_text="a call")
    expect(first).to_contain_text("Transcribing")
    # Chosen with the first one it would be queued before it, where it arrives sooner.
    choose(page, clip(sample, tmp_path / "a note.mp3", 9))
    second = page.locator(".card.job", has_text="a note")
    expect(second).to_contain_text("Waiting")
    second.get_by_role("button", name="Cancel").click()
    expect(second).to_have_count(0)
    first.get_by_role("button", name="Cancel").click()
    expect(first).to_contain_text("Stopped; what was transcribed is kept.")
    let_go(held_site)
    first.get_by_role("button", name="Resume").click()
    expect(page.locator(".card:not(.job)", has_text="a call")).to_contain_text("covered", timeout=120_000)


def test_a_broken_upload_is_one_sentence_and_leaves_nothing(
    shelf_site: Site, visit: Visit, tmp_path: Path
) -> None:
    broken = tmp_path / "notes <b>.mp3"
    broken.write_text("these are no sounds")
    page = visit(shelf_site, DRAWN)
    choose(page, broken)
    card = page.locator(".card.failed", has_text="notes")
    expect(card.locator(".card-title")).to_have_text("notes <b>")
    expect(card.locator(".bad")).to_contain_text("is not a media file")
    sentence = card.locator(".bad").inner_text()
    assert sentence.count(". ") == 0 and "Traceback" not in sentence
    card.get_by_role("button", name="Dismiss").click()
    expect(card).to_have_count(0)
    assert list((shelf_site.home / "uploads").glob("*/*.mp3")) == []


@pytest.mark.slow
def test_the_microphone_records_into_the_library(shelf_site: Site, visit: Visit) -> None:
    page = visit(shelf_site, DRAWN, permissions=["microphone"])
    cards = page.locator(".card:not(.job)", has_text="Recording 20")
    before = cards.count()
    page.click("[data-record]")
    expect(page.locator("[data-upload]")).to_contain_text(TWO_SECONDS)
    page.get_by_role("button", name="Stop and add").click()
    expect(cards).to_have_count(before + 1, timeout=90_000)
    card = cards.first
    expect(card).to_contain_text("0:0")
    card.locator("[data-open]").click()
    # Chromium's pretend microphone beeps; nobody speaks.
    expect(page.locator("#transcript")).to_contain_text("No speech was found")


def test_a_recording_outlives_an_unplugged_microphone_and_a_failed_upload(
    shelf_site: Site, visit: Visit, tmp_path: Path
) -> None:
    page = visit(shelf_site, DRAWN, permissions=["microphone"], faults=UPLOAD_FAULTS)
    cards = page.locator(".card", has_text="Recording 20")
    before = cards.count()
    page.route("**/gradio_api/upload", lambda route: route.abort())
    page.click("[data-record]")
    expect(page.locator("[data-upload]")).to_contain_text(TWO_SECONDS)
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
    expect(cards).to_have_count(before + 1)
    expect(row).to_have_count(0)
    assert page.evaluate("moss.unsent.size") == 0


def test_recording_does_not_begin_with_a_wrong_number_of_speakers(shelf_site: Site, visit: Visit) -> None:
    page = visit(shelf_site, DRAWN, permissions=["microphone"])
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
    shelf_site: Site, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "some.mp3").write_bytes(b"x")
    page = visit(shelf_site, DRAWN)
    page.fill("[data-speakers]", "51")
    choose(page, tmp_path / "some.mp3")
    page.wait_for_timeout(500)
    expect(page.locator(".card", has_text="some")).to_have_count(0)


def test_a_wrong_audio_track_is_refused_before_sending(
    shelf_site: Site, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "some.mp3").write_bytes(b"x")
    page = visit(shelf_site, DRAWN)
    page.fill("[data-track]", "0")
    choose(page, tmp_path / "some.mp3")
    page.wait_for_timeout(500)
    expect(page.locator(".card", has_text="some")).to_have_count(0)
    page.fill("[data-track]", "2")
    choose(page, tmp_path / "some.mp3")
    expect(page.locator(".card", has_text="some")).to_have_count(1)
    expect(page.locator("[data-track]")).to_have_value("")
    page.locator(".card.failed", has_text="some").get_by_role("button", name="Dismiss").click()
    expect(page.locator(".card", has_text="some")).to_have_count(0)


def test_words_that_must_be_spelled_right_are_kept_as_text(shelf_site: Site, visit: Visit) -> None:
    words = "NorthKey\n<img src=x onerror=alert(1)>\n</textarea>Callum"
    page = visit(shelf_site, DRAWN)
    page.locator("#glossary summary").click()
    page.fill("[data-glossary]", words)
    page.click("[data-spell]")
    expect(page.locator("#glossary summary")).to_contain_text("(3)")
    assert (shelf_site.home / "glossary.txt").read_text() == f"{words}\n"
    load(page, wait=DRAWN)
    page.locator("#glossary summary", has_text="(3)").click()
    expect(page.locator("[data-glossary]")).to_have_value(words)
    page.fill("[data-glossary]", "x" * 81)
    page.click("[data-spell]")
    expect(page.locator(".toast-body")).to_contain_text("81")
    assert (shelf_site.home / "glossary.txt").read_text() == f"{words}\n"


def test_a_list_that_is_longer_than_the_screen_is_scrolled_and_covers_nothing(
    own_site: Site, visit: Visit
) -> None:
    for number in range(12):
        talk = f"[00:00:01] Anna: This is talk number {number}.\n"
        reply = httpx2.post(f"{own_site.url}/api/v1/imports", files={"file": (f"talk {number}.txt", talk)})
        assert reply.status_code == 201
    page = visit(own_site, DRAWN)
    page.set_viewport_size({"width": 1280, "height": 560})
    expect(page.locator("#shelf .card")).to_have_count(13)
    foot = page.locator("#engines").bounding_box()
    assert foot is not None
    page.mouse.move(foot["x"] + 40, foot["y"] - 20)
    page.mouse.wheel(0, 5_000)
    page.wait_for_function("document.querySelector('#shelf').scrollTop > 0")
    last = page.locator("#shelf .card").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] <= foot["y"], "the last card stands above the foot"
    page.locator(".card-open", has_text=TITLE).click()
    expect(page.locator("#head")).to_contain_text(TITLE)


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
    expect(page.get_by_role("tab")).to_have_count(0), "there is nothing to show in any of them"
    expect(page.locator("audio")).to_have_count(0)
    assert not list((own_site.home / "audio").glob("*.flac"))


@pytest.fixture(scope="module")
def interrupted_site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page that takes small files, on which the user had stopped an upload before the server ended."""
    home = tmp_path_factory.mktemp("interrupted") / "home"
    shutil.copytree(filled_home, home)
    left = Uploads(home)
    (left.arriving / "h").mkdir()
    (left.arriving / "h" / "half.mp3").write_bytes(b"x")
    upload = left.claim(str(left.arriving / "h" / "half.mp3"), "Half a talk", None)
    left.note_state(upload.name, "stopped")
    running = start(home, MOSS_AGENT_MAX_UPLOAD_MB="1")
    yield running
    running.stop()


def test_an_upload_of_an_earlier_run_can_go_on_or_be_forgotten(interrupted_site: Site, visit: Visit) -> None:
    page = visit(interrupted_site, DRAWN)
    card = page.locator(".card.job", has_text="Half a talk")
    expect(card).to_contain_text("Stopped")
    expect(card.get_by_role("button", name="Resume")).to_be_visible()
    card.get_by_role("button", name="Forget").click()
    expect(card).to_have_count(0)
    assert list((interrupted_site.home / "uploads").iterdir()) == []
    assert list((interrupted_site.home / "upload-jobs").iterdir()) == []


def test_a_file_over_the_limit_is_refused_in_one_sentence(
    interrupted_site: Site, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "big.wav").write_bytes(b"\0" * 3 * 2**20)
    page = visit(interrupted_site, DRAWN, faults=UPLOAD_FAULTS)
    choose(page, tmp_path / "big.wav")
    expect(page.locator(".toast-body")).to_contain_text("“big.wav” is larger than this page accepts")


@pytest.fixture
def new_site(sample: Path, tmp_path: Path) -> Iterator[Site]:
    """A first start: nothing there yet."""
    assert sample == SAMPLE
    home = tmp_path / "new"
    home.mkdir()
    shorter = SHORTER.format(clip=str(clip(sample, tmp_path / "opening.mp3", 40)))
    running = start(home, shorter + RUN, cold=True, MOSS_AGENT_TRANSCRIBER="tiny.en")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.mark.slow
def test_the_first_start_adds_the_sample_and_a_later_one_does_not(new_site: Site, visit: Visit) -> None:
    page = visit(new_site, wait="#shelf .card")
    expect(page.locator(".card")).to_contain_text(TITLE, ignore_case=True)
    expect(page.locator(".line").first).to_contain_text("Good morning", timeout=120_000)
    expect(page.locator(".card:not(.job)")).to_contain_text("covered", timeout=240_000)
    ask(page, "What was said in the first 40 seconds?")
    assert "good morning" in answer(page).lower()
    page.hover(".card")
    page.click("[data-remove]")
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#shelf")).to_contain_text("No recordings yet.")
    page.goto("about:blank")
    new_site.stop()
    again = start(new_site.home)
    try:
        later = visit(again, wait="#shelf .hollow")
        expect(later.locator("#shelf")).to_contain_text("No recordings yet.")
        later.wait_for_timeout(2500)
        expect(later.locator(".card")).to_have_count(0)
        later.goto("about:blank")
    finally:
        again.stop()
