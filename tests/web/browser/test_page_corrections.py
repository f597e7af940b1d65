"""Correcting on the page: in place, with place and playback kept, with undo, and nothing lost."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

import pytest
from pages import Site, ask, forget_what_was_played, load, plays_from
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

TYPED = "The zeppelin costs <b>4,200</b> & nothing else."


def line(page: Page, text: str):
    return page.locator(".line", has_text=text)


def elsewhere(site: Site, page: Page, **edit: object) -> str:
    """Correct something as another page would; returns why that was refused."""
    recording = page.evaluate("moss.corrected.recording")
    request = urllib.request.Request(
        f"{site.url}/edits/{recording}", json.dumps(edit).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["error"]


def test_a_sentence_is_corrected_in_place_while_it_plays(own_site: Site, visit: Visit) -> None:
    page = visit(own_site, reduced_motion="reduce")
    audio = page.evaluate_handle("document.getElementById('player')")
    page.evaluate("document.getElementById('player').play()")
    row = line(page, "4,200 for the weekend")
    # Not what is seen of it: of a row that was not drawn yet, browsers give no text that is seen.
    original = row.locator(".text").text_content()
    number = row.get_attribute("data-id")
    row.scroll_into_view_if_needed()
    page.evaluate("moss.following = false")
    row.dblclick()
    field = page.locator(".field-box textarea")
    expect(field).to_be_focused()
    assert field.input_value() == original
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(row.locator(".text")).to_have_text(original)
    # Rows that were not drawn before are as tall as they are by the next frame.
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    top = row.bounding_box()["y"]
    # E on the row that has the focus, and saving by leaving the field.
    page.keyboard.press("e")
    field.fill(TYPED)
    page.wait_for_function("!document.getElementById('player').paused")
    page.keyboard.press("Control+Space")
    page.wait_for_function("document.getElementById('player').paused")
    forget_what_was_played(page)
    page.keyboard.press("Control+Space")
    plays_from(page, float(row.get_attribute("data-start")), float(row.get_attribute("data-end")))
    page.keyboard.press("F2")
    page.wait_for_function("played.some(({ rate }) => rate < 1)")
    # It stops at the end of the sentence, which is to take longer than saving.
    page.evaluate("audio => { audio.playbackRate = 0.1; }", audio)
    page.click("[data-filter]")
    corrected = page.locator(f".line[data-id='{number}']")
    expect(corrected).to_have_class("line corrected")
    expect(corrected.locator(".text")).to_have_text(TYPED)
    assert page.locator("#transcript b").count() == 0, "what is typed is text"
    assert abs(corrected.bounding_box()["y"] - top) < 3, "the place is kept"
    assert page.evaluate("audio => audio === document.getElementById('player') && !audio.paused", audio)
    # What was heard is in the history, and comes back.
    corrected.hover()
    page.focus(f".line[data-id='{number}']")
    page.keyboard.press("e")
    page.click(".field-tools >> text=History")
    expect(page.locator(".history del")).to_have_text([f"{original}"])
    page.click("dialog >> text=Close")
    page.keyboard.press("Control+z")
    expect(corrected.locator(".text")).to_have_text(original)
    page.keyboard.press("Control+Shift+z")
    expect(corrected.locator(".text")).to_have_text(TYPED)
    load(page, wait=".line.corrected")
    expect(page.locator(".line.corrected .text")).to_have_text(TYPED)
    page.click("[data-undo]")
    expect(corrected.locator(".text")).to_have_text(original)
    expect(page.locator("[data-undo]")).to_be_disabled()


def test_sentences_are_split_merged_and_given_to_another_speaker(own_site: Site, visit: Visit) -> None:
    page = visit(own_site)
    every = page.locator(".line").count()
    row = line(page, "4,200 for the weekend")
    number, text = row.get_attribute("data-id"), row.locator(".text").text_content()
    row.dblclick()
    at = text.index("weekend")
    page.evaluate("at => moss.editing.field.setSelectionRange(at, at)", at)
    page.click(".field-tools >> text=Split here")
    expect(page.locator(".line")).to_have_count(every + 1)
    expect(page.locator(f".line[data-id='{number}'] .text")).to_have_text(text[:at].strip())
    page.keyboard.press("e")
    page.click(".field-tools >> text=Merge with next")
    expect(page.locator(".line")).to_have_count(every)
    expect(page.locator(f".line[data-id='{number}'] .text")).to_have_text(text)
    row = page.locator(f".line[data-id='{number}']")
    row.hover()
    page.click(".row-tools [aria-label=Speaker]")
    page.fill("dialog input[type=text]", "Zora")
    page.click("dialog button[type=submit]")
    expect(page.locator(".turn", has=row).locator(".who")).to_have_text("Zora")
    expect(page.locator("[data-rename='Zora']")).to_have_count(1)
    page.focus(f".line[data-id='{number}']")
    page.keyboard.press("Control+z")
    expect(page.locator(".who", has_text="Zora")).to_have_count(0)
    expect(page.locator("[data-rename='Zora']")).to_have_count(0)


def test_what_somebody_else_changed_meanwhile_is_said_and_nothing_is_lost(
    own_site: Site, visit: Visit
) -> None:
    page = visit(own_site)
    row = line(page, "4,200 for the weekend")
    number = int(row.get_attribute("data-id"))
    ask(page, "What was said between 0:28 and 0:34?")
    expect(page.locator("#answers .bot-row").last).to_contain_text("4,200 for the weekend")
    row.dblclick()
    field = page.locator(".field-box textarea")
    field.fill("Mine, not theirs.")
    theirs = "Theirs, not mine at all."
    assert elsewhere(own_site, page, action="text", segments=[number], text=theirs) == ""
    # It follows at once, and the field stays open with what was typed in it.
    expect(page.locator(".field-box .told")).to_contain_text(theirs)
    assert field.input_value() == "Mine, not theirs."
    expect(field).to_be_focused()
    expect(page.locator("#answers .bot-row").last).to_contain_text(theirs)
    page.keyboard.press("Escape")
    expect(page.locator(f".line[data-id='{number}'] .text")).to_have_text(theirs)
    # An old version is refused, and the sentence says what it is now.
    old = elsewhere(own_site, page, action="text", segments=[number], text="Old.", versions={number: 0})
    assert theirs in old
    page.focus(f".line[data-id='{number}']")
    page.keyboard.press("e")
    field.fill("   ")
    page.keyboard.press("Enter")
    expect(page.locator(".field-box .told")).to_contain_text("word")
    page.keyboard.press("Escape")
    expect(page.locator(f".line[data-id='{number}'] .text")).to_have_text(theirs)
