"""The right of the page: questions, the steps to an answer, citations that play."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import RUN, Site, answer, ask, heard, load, marks, plays_from, start
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

# The real assistant, which waits after the first step about minute 2 until somebody presses Stop.
SLOWLY = """
from agent.assistant import Assistant
stream = Assistant.stream
def slow(assistant, question, recording=None, thread=None, cancel=None):
    for event in stream(assistant, question, recording, thread, cancel):
        yield event
        if "minute 2" in question and type(event).__name__ == "StepFinished":
            cancel.wait(60)
Assistant.stream = slow
"""


@pytest.fixture
def slow_site(filled_home: Path, tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    running = start(home, SLOWLY + RUN)
    yield running
    running.stop()


def test_stop_keeps_the_question_and_what_was_done_so_far(slow_site: Site, visit: Visit) -> None:
    page = visit(slow_site)
    page.fill("#question textarea", "What was said at minute 2?")
    page.keyboard.press("Enter")
    expect(page.locator("#answers .thought-group")).to_contain_text("Read 2:00–3:00")
    page.click("#question .stop-button")
    expect(page.locator("#question .submit-button")).to_be_visible()
    expect(page.locator("#answers .bot-row").last).to_contain_text("Stopped.")
    expect(page.locator("#answers .loading-spinner")).to_have_count(0)
    ask(page, "What was said at minute 1?")
    expect(page.locator("#answers .user-row")).to_have_count(2)
    load(page)
    expect(page.locator("#answers .user-row").first).to_contain_text("minute 2")
    expect(page.locator("#answers .thought-group").first).to_contain_text("Read 2:00–3:00")
    expect(page.locator("#answers")).to_contain_text("Stopped.")


def test_minute_two_is_answered_with_exactly_its_sentences(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was said at minute 2?")
    text = answer(page)
    for segment in heard():
        if segment.start < 180 and segment.end > 120:
            assert segment.text in text
        elif len(segment.text) > 15:
            assert segment.text not in text
    assert "2:00" in text and "3:00" in text


def test_a_citation_plays_its_own_seconds(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was said at minute 2?")
    link = page.locator("#answers a.cite", has_text="2:42").last
    expect(link).to_have_role("button")
    start, end = map(float, re.search(r"#play/([\d.]+)/([\d.]+)/", link.get_attribute("href")).groups())
    link.click()
    plays_from(page, start, end)
    marks(page, page.locator(".line", has_text="The certificate expired"))


def test_a_citation_is_pressed_with_the_space_bar(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was said at minute 2?")
    page.locator("#answers a.cite", has_text="2:48").last.focus()
    page.keyboard.press("Space")
    plays_from(page, 168, 172)


def test_the_tools_that_were_used_can_be_unfolded(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was said at minute 2?")
    step = page.locator("#answers .thought-group").last
    expect(step).to_contain_text("Read 2:00–3:00")
    expect(step).not_to_contain_text("The stage line was 10,000")
    step.locator(".title").click()
    expect(step).to_contain_text("The stage line was 10,000")


def test_a_suggested_question_is_asked_by_one_click(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.click("[data-suggest] >> text=What was decided?")
    expect(page.locator("#answers .bot-row")).to_contain_text("North Key")
    expect(page.locator("#chips")).not_to_contain_text("What was decided?")


def test_every_suggested_question_has_an_answer_that_plays(site: Site, visit: Visit) -> None:
    page = visit(site)
    questions = page.locator("[data-suggest]").all_inner_texts()
    assert len(questions) == 4
    for question in questions:
        ask(page, question)
        cited = page.locator("#answers .bot-row").last.locator(".message-content a.cite")
        expect(cited.first).to_be_visible(), question


def test_a_conversation_goes_on_survives_a_reload_and_ends(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was said at minute 1?")
    ask(page, "And after that?")
    assert "2:0" in answer(page)
    load(page)
    expect(page.locator("#answers .user-row")).to_have_count(2)
    expect(page.locator("#answers .user-row").first).to_contain_text("minute 1")
    page.click("[data-new-chat]")
    expect(page.locator("#answers .user-row")).to_have_count(0)
    expect(page.locator("[data-suggest]").first).to_be_visible()


def test_a_question_about_nothing_that_was_said_gets_no_citation(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What did they say about penguins in Antarctica?")
    assert page.locator("#answers .bot-row").last.locator(".message-content a.cite").count() == 0
    assert answer(page)


def test_the_beginning_of_each_answer_is_in_view(site: Site, visit: Visit) -> None:
    page = visit(site)
    for question in ("write the meeting summary", "what was said at minute 2?", "penguins?"):
        ask(page, question)
        page.wait_for_timeout(500)
        pane = page.locator("#answers").bounding_box()
        for row in ("user-row", "bot-row"):
            box = page.locator(f"#answers .{row}").last.bounding_box()
            assert pane and box and pane["y"] - 2 <= box["y"] < pane["y"] + pane["height"] - 20, (
                question,
                row,
            )


def test_the_slash_key_goes_to_the_question(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.keyboard.press("/")
    expect(page.locator("#question textarea")).to_be_focused()
    assert page.input_value("#question textarea") == ""
