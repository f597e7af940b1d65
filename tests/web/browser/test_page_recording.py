"""The middle of the page: what is known about a recording, its player and its sentences."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pages import TITLE, Sentence, Site, load, marks, plays_from, start, store, tone
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]


def seek_row(page: Page, text: str):
    return page.locator(".line", has_text=text)


def test_the_sample_is_open_with_its_length_speakers_and_coverage(site: Site, visit: Visit) -> None:
    page = visit(site)
    expect(page.locator("#head h2")).to_have_text(TITLE)
    expect(page.locator("#head .facts")).to_contain_text("5:06")
    expect(page.locator("#head .facts")).to_contain_text("99 % of detected speech accounted for")
    expect(page.locator("#shelf .card.selected")).to_contain_text("3 speakers")
    assert page.locator("[data-rename]").all_inner_texts() == ["Speaker 1", "Speaker 2", "Speaker 3"]
    expect(page.locator(".speakers")).to_contain_text("estimated")


def test_a_gap_is_a_row_and_is_listed_with_the_coverage(site: Site, visit: Visit) -> None:
    page = visit(site)
    expect(page.locator(".line.gap")).to_contain_text("not transcribed, 2.2 s")
    page.click("details.coverage summary")
    page.click("details.coverage .cite")
    plays_from(page, 151, 153.2)


def test_clicking_a_sentence_plays_it_and_marks_it(site: Site, visit: Visit) -> None:
    page = visit(site)
    row = seek_row(page, "4,200 for the weekend")
    row.click()
    plays_from(page, float(row.get_attribute("data-start")), float(row.get_attribute("data-end")))
    marks(page, row)


def test_the_mark_follows_the_audio_and_stays_in_view(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.evaluate("document.getElementById('player').play()")
    page.evaluate("document.getElementById('player').currentTime = 200")
    page.wait_for_function("played.some(({ kind, at }) => kind === 'mark' && 190 <= at && at <= 202)")
    current = page.locator(".line.current")
    expect(current).to_have_count(1)
    expect(current).to_be_in_viewport()
    page.wait_for_function("played.filter(({ kind, at }) => kind === 'mark' && at >= 190).length > 1")
    expect(current).to_be_in_viewport()


def test_sentences_are_played_with_the_keyboard_alone(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.focus(".line[tabindex='0']")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.start")
    page.keyboard.press("Enter")
    plays_from(page, float(focused), float(focused) + 1)
    assert float(focused) > 5
    width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "2px", "the focus ring must be visible"


def test_finding_words_hides_the_other_sentences(site: Site, visit: Visit) -> None:
    page = visit(site)
    every = page.locator(".line:visible").count()
    page.fill("[data-filter]", "certificate")
    expect(page.locator(".line:visible")).to_have_count(1)
    expect(page.locator("#filter output")).to_have_text(f"1 of {every}")
    page.fill("[data-filter]", "")
    expect(page.locator(".line:visible")).to_have_count(every)


def test_a_speaker_is_renamed_everywhere_and_two_are_merged(own_site: Site, visit: Visit) -> None:
    page = visit(own_site)
    page.click("[data-rename='Speaker 1']")
    page.fill("dialog input", "Anna & <b>Co</b>")
    page.keyboard.press("Enter")
    expect(page.locator("[data-rename]").first).to_have_text("Anna & <b>Co</b>")
    expect(page.locator(".who").first).to_have_text("Anna & <b>Co</b>")
    page.click("[data-rename='Speaker 3']")
    page.fill("dialog input", "speaker 2")
    page.click("dialog button[type=submit]")
    # Merging is asked for.
    page.click("dialog button:text-is('Cancel')")
    expect(page.locator("[data-rename]")).to_have_count(3)
    page.click("[data-rename='Speaker 3']")
    page.fill("dialog input", "speaker 2")
    page.click("dialog button[type=submit]")
    page.click("dialog button:text-is('Merge')")
    expect(page.locator("[data-rename]")).to_have_count(2)
    assert "Speaker 3" not in page.locator(".who").all_inner_texts()
    load(page)
    expect(page.locator(".who").first).to_have_text("Anna & <b>Co</b>")


def test_every_export_downloads_under_the_recordings_title(site: Site, visit: Visit) -> None:
    page = visit(site)
    for ending in ("txt", "md", "docx", "srt", "vtt", "json"):
        page.click("details.menu > summary.btn")
        with page.expect_download() as download:
            page.click(f".sheet a[href$='.{ending}']")
        assert download.value.suggested_filename == f"{TITLE}.{ending}"
        assert Path(download.value.path()).stat().st_size > 1000


def test_the_summary_plays_from_its_times_and_follows_the_template(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.get_by_role("tab", name="Summary").click()
    summary = page.locator("#summary")
    expect(summary).to_contain_text("Decisions")
    expect(summary).to_contain_text("Open questions")
    link = summary.locator("a.cite", has_text=":").nth(3)
    minutes, seconds = link.inner_text().split(":")
    link.click()
    second = 60 * int(minutes) + int(seconds)
    plays_from(page, second - 2.5, second + 2.5)
    page.get_by_role("radio", name="Call").check(force=True)
    expect(summary).to_contain_text("Next steps")
    with page.expect_download() as download:
        page.click("text=Download .md")
    assert "Next steps" in Path(download.value.path()).read_text()


@pytest.fixture(scope="module")
def long_site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample, and a recording of three hours with 3,000 sentences."""
    home = tmp_path_factory.mktemp("long") / "home"
    shutil.copytree(filled_home, home)
    workspace = fill_home_again(home)
    embedder = workspace.embedder
    # What is found in it does not matter; embedding it would take longer than all tests of this file.
    numbers = np.random.default_rng(1).standard_normal

    def encode_passages(texts: Sequence[str]) -> np.ndarray:
        vectors = numbers((len(texts), embedder.dimensions)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    embedder.encode_passages = encode_passages
    sentences = [
        Sentence(
            3.6 * number, 3.6 * number + 3.2, f"Speaker {1 + number // 7 % 4}", f"Sentence number {number}."
        )
        for number in range(3000)
    ]
    store(workspace, tone(home / "long.flac", 60), "A very long day", sentences, [])
    workspace.close()
    running = start(home)
    yield running
    running.stop()


def fill_home_again(home: Path):
    from agent.settings import Settings
    from agent.workspace import open_workspace

    return open_workspace(Settings(home=home))


def test_three_thousand_sentences_stay_fluid(long_site: Site, visit: Visit) -> None:
    page = visit(long_site)
    expect(page.locator(".line")).to_have_count(3000)
    # A quarter of the frames: the rest may have to wait for what else the machine does.
    usual = page.evaluate(
        """async () => {
          const pane = document.getElementById("transcript");
          const took = [];
          let last = performance.now();
          for (let step = 0; step < 60; step += 1) {
            pane.scrollTop = (step * 7919) % pane.scrollHeight;
            moss.follow(true);
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            took.push(now - last);
            last = now;
          }
          return took.sort((a, b) => a - b)[took.length / 4];
        }"""
    )
    assert usual < 300, f"a frame took {usual:.0f} ms"
    search = """() => {
      const began = performance.now();
      document.querySelector("[data-filter]").value = "2999";
      moss.search();
      return performance.now() - began;
    }"""
    shown = [page.evaluate(search) for _ in range(3)]
    assert min(shown) < 300
    expect(page.locator(".line:visible")).to_have_count(1)


@pytest.fixture
def asking_site(filled_home: Path, models: Path, tmp_path: Path) -> Iterator[Site]:
    """A page of its own on which nobody was asked about voices yet; Speaker 2 may be Anna."""
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    (home / "models").symlink_to(models)
    with sqlite3.connect(home / "library.sqlite") as database:
        second = database.execute("SELECT id, recording_id FROM speakers WHERE name = 'Speaker 2'").fetchone()
        database.execute("INSERT INTO voices (id, name, encoder) VALUES (1, 'Anna', 'an encoder')")
        database.execute(
            "INSERT INTO voice_samples (voice_id, recording_id, seconds, embedding, stale) "
            "VALUES (1, ?, 9.0, ?, 0)",
            (second[1], bytes(1024)),
        )
        database.execute(
            "INSERT INTO voice_matches (speaker_id, voice_id, state, label, score) "
            "VALUES (?, 1, 'maybe', 'Speaker 2', 0.8)",
            (second[0],),
        )
    running = start(home, MOSS_AGENT_VOICES="ask")
    yield running
    running.stop()


def test_voices_are_known_again_once_somebody_agreed_and_asked_about_where_unsure(
    asking_site: Site, visit: Visit
) -> None:
    page = visit(asking_site)
    expect(page.locator(".known-voices .cite")).to_have_count(3)
    expect(page.locator(".maybe")).to_have_count(0)
    page.click("[data-rename='Speaker 1']")
    page.fill("dialog input", "Ben")
    page.keyboard.press("Enter")
    page.click("dialog button:text-is('Remember voices')")
    expect(page.locator(".maybe")).to_have_text("Anna?")
    page.click("[data-voice='Speaker 2'][data-same=yes]")
    expect(page.locator("[data-rename='Anna']")).to_be_visible()
    expect(page.locator("[data-ask-voices]")).to_have_count(0)
    page.click("[data-rename='Ben']")
    page.fill("dialog input", "Benno")
    page.keyboard.press("Enter")
    expect(page.locator("[data-rename='Benno']")).to_be_visible()


@pytest.fixture(scope="module")
def silent_site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample, and a transcript without its media."""
    home = tmp_path_factory.mktemp("silent") / "home"
    shutil.copytree(filled_home, home)
    workspace = fill_home_again(home)
    said = home / "ferry.txt"
    said.write_text(
        "[0:01] Anna: Who books the ferry?\n[0:04] Ben: I will book the ferry today.\n"
        "[1:09] Anna: Then I will call the harbour office tomorrow.\n[1:20] Ben: The budget is small.\n"
    )
    workspace.import_transcript(said, title="Ferry talk")
    workspace.close()
    running = start(home)
    yield running
    running.stop()


def test_a_transcript_without_audio_has_a_lane_that_leads_to_its_sentences(
    silent_site: Site, visit: Visit
) -> None:
    page = visit(silent_site)
    page.locator(".card-open", has_text="Ferry talk").click()
    expect(page.get_by_role("button", name="Add the media file")).to_be_visible()
    page.wait_for_function("moss.timeline.silent && moss.timeline.data?.lanes.length === 2")
    lane = page.get_by_role("slider", name="Position in the recording")
    box = lane.bounding_box()
    length = float(page.locator("#lane").get_attribute("data-duration"))
    page.mouse.click(box["x"] + box["width"] * 72 / length, box["y"] + box["height"] - 3)
    expect(page.locator(".line.current")).to_contain_text("harbour office")
    lane.press("Home")
    lane.press("ArrowRight")
    expect(page.locator(".line.current")).to_contain_text("book the ferry today")
    assert "Ben" in lane.get_attribute("aria-valuetext")
    page.get_by_role("button", name="Comment at this moment").click()
    expect(page.get_by_role("dialog")).to_contain_text("Comment at 0:05")
    page.keyboard.press("Escape")
    recording = page.locator("#lane").get_attribute("data-recording")
    load(page, f"{silent_site.url}/?recording={recording}&t=1:09")
    expect(page.locator(".line.current")).to_contain_text("harbour office")


def test_topics_are_reached_on_a_phone_and_by_keyboard(site: Site, visit: Visit) -> None:
    page = visit(site, viewport={"width": 390, "height": 844})
    menu = page.locator("#player-bar [data-topics]")
    expect(menu).to_be_visible()
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    topics = page.get_by_role("list", name="Topics").get_by_role("button")
    count = topics.count()
    assert count == page.evaluate("moss.timeline.topics.length") > 1
    for button in topics.all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    second = page.evaluate("moss.timeline.topics[1].start")
    plays_from(page, second, second + 1)
    expect(topics.first).to_be_hidden()


def test_hearing_again_says_what_is_lost_before_it_begins(own_site: Site, visit: Visit) -> None:
    page = visit(own_site)
    first = page.locator(".line").first
    first.dblclick()
    page.keyboard.press("Control+A")
    page.keyboard.type("Good evening.")
    page.keyboard.press("Enter")
    expect(first).to_contain_text("Good evening.")
    again = page.get_by_role("button", name="Hear this recording again")
    again.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 correction is lost")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator(".card.job")).to_have_count(0)
    expect(first).to_contain_text("Good evening.")
    again.click()
    dialog.get_by_role("button", name="Drop corrections and hear again").click()
    job = page.locator(".card.job")
    expect(job).to_have_count(1)
    job.get_by_role("button", name="Cancel").click()
    resume = page.get_by_role("button", name="Resume")
    expect(resume).to_be_visible(timeout=60_000)


def test_media_that_turned_up_later_is_added_on_the_page(
    filled_home: Path, models: Path, tmp_path: Path, visit: Visit
) -> None:
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    (home / "models").symlink_to(models)
    workspace = fill_home_again(home)
    said = home / "tone.txt"
    said.write_text("[0:01] Anna: Who books the ferry?\n[0:04] Ben: I will book the ferry today.\n")
    workspace.import_transcript(said, title="Ferry talk")
    workspace.close()
    running = start(home)
    page = visit(running)
    page.locator(".card-open", has_text="Ferry talk").click()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add the media file").click()
    chooser.value.set_files([str(tone(tmp_path / "ferry.flac", 10))])
    expect(page.locator("#player")).to_have_attribute("data-duration", "10.000")
    page.close()
    running.stop()
