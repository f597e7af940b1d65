"""The lane over the recording, the keys, and links to a moment."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from pages import TITLE, Site, answer, ask, load, player, plays_from
from playwright.sync_api import Error, Page, Route, expect

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]
PHONE = {"width": 390, "height": 844}

COLOURS = """(names) => {
  const hue = ([red, green, blue]) => {
    const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
    if (most - least < 40) return null;
    const at = most === red ? (green - blue) / (most - least)
      : most === green ? 2 + (blue - red) / (most - least) : 4 + (red - green) / (most - least);
    return Math.round(at * 60);
  };
  const canvas = document.querySelector("#lane canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) seen.add(hue(data.slice(at, at + 3)));
  const style = getComputedStyle(document.documentElement);
  const wanted = (name) => hue(
    style.getPropertyValue(`--${name}`).match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16)));
  return names.filter((name) => [...seen].some((one) => one !== null && Math.abs(one - wanted(name)) <= 4));
}"""
VOICES = ["voice-0", "voice-1", "voice-2"]


def drawn(page: Page) -> None:
    page.wait_for_function("moss.timeline.peaks && moss.timeline.data && moss.timeline.topics.length")


def recording(page: Page) -> str:
    return str(player(page, "dataset.recording"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_lane_shows_every_voice_and_seeks_where_it_is_clicked(
    site: Site, visit: Visit, scheme: str
) -> None:
    page = visit(site, color_scheme=scheme)
    drawn(page)
    assert page.evaluate("moss.timeline.data.lanes.map((lane) => lane.name)") == [
        "Speaker 1",
        "Speaker 2",
        "Speaker 3",
    ]
    assert page.evaluate(COLOURS, VOICES) == VOICES
    lane = page.get_by_role("slider", name="Position in the recording")
    box = lane.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    page.wait_for_function("Math.abs(document.getElementById('player').currentTime - 153) < 2")
    expect(lane).to_have_attribute("aria-valuenow", "153")
    expect(page.locator(".line.current")).to_be_in_viewport()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    expect(page.locator(".lane-tip")).to_contain_text("1:16")


def test_the_lane_is_a_slider_to_the_keyboard(site: Site, visit: Visit) -> None:
    page = visit(site)
    drawn(page)
    lane = page.get_by_role("slider", name="Position in the recording")
    lane.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.getElementById('player').currentTime > 300")
    page.keyboard.press("Home")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('player').currentTime === 35")
    expect(lane).to_have_attribute("aria-valuetext", "0:35 of 5:06, Speaker 2, Fairies")
    page.keyboard.press("Enter")
    page.wait_for_function("!document.getElementById('player').paused")


def test_the_lane_is_dragged_on_a_phone(site: Site, visit: Visit) -> None:
    page = visit(site, viewport=PHONE, has_touch=True)
    drawn(page)
    box = page.locator("#lane canvas").bounding_box()
    assert box and box["width"] > 300
    page.touchscreen.tap(box["x"] + box["width"] * 0.9, box["y"] + 20)
    page.wait_for_function("Math.abs(document.getElementById('player').currentTime - 275) < 3")


def test_found_sentences_and_citations_are_marked(site: Site, visit: Visit) -> None:
    page = visit(site)
    drawn(page)
    page.fill("[data-filter]", "certificate")
    page.wait_for_function("moss.timeline.found.length === 1")
    page.fill("[data-filter]", "")
    page.wait_for_function("moss.timeline.found.length === 0")
    ask(page, "What was decided?")
    assert "0:59" in answer(page)
    page.wait_for_function("moss.timeline.cited.some(([start]) => Math.floor(start) === 59)")


def test_zooming_draws_a_part_and_the_whole_again(site: Site, visit: Visit) -> None:
    page = visit(site)
    drawn(page)
    page.get_by_role("slider", name="Position in the recording").focus()
    page.keyboard.press("+")
    page.wait_for_function("moss.timeline.view.to - moss.timeline.view.from < 160 && moss.timeline.peaks")
    page.keyboard.press("-")
    page.wait_for_function("moss.timeline.view.to - moss.timeline.view.from > 300 && moss.timeline.peaks")


def test_keys_play_seek_step_and_change_the_speed_which_is_remembered(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.keyboard.press("k")
    page.wait_for_function("!document.getElementById('player').paused")
    page.keyboard.press(" ")
    page.wait_for_function("document.getElementById('player').paused")
    page.evaluate("moss.seek(60)")
    page.wait_for_function("document.getElementById('player').currentTime === 60")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('player').currentTime === 65")
    page.keyboard.press("ArrowDown")
    after = page.evaluate("moss.rows.map((row) => Number(row.dataset.start)).find((start) => start > 65)")
    page.wait_for_function(
        "start => Math.abs(document.getElementById('player').currentTime - start) < 0.1", arg=after
    )
    page.keyboard.press("ArrowUp")
    page.wait_for_function("start => document.getElementById('player').currentTime < start - 0.1", arg=after)
    page.keyboard.press(">")
    expect(page.locator("[data-speed]")).to_have_text("1.25×")
    assert player(page, "playbackRate") == 1.25
    load(page, wait="[data-speed]")
    expect(page.locator("[data-speed]")).to_have_text("1.25×")
    assert player(page, "playbackRate") == 1.25


@pytest.mark.parametrize("has_arrived", [True, False])
def test_one_key_goes_back_and_plays_slower_until_it_is_here_again(
    site: Site, visit: Visit, has_arrived: bool
) -> None:
    page = visit(site)
    if has_arrived:
        page.wait_for_function("document.getElementById('player').readyState > 1")
    else:
        held: list[Route] = []
        page.route("**/audio/*", lambda route: held.append(route))
        load(page)
    page.evaluate("moss.seek(60)")
    page.wait_for_function("document.getElementById('player').currentTime === 60")
    page.keyboard.press("r")
    if not has_arrived:
        page.wait_for_function("!document.getElementById('player').paused")
        page.unroute("**/audio/*")
        for route in held:
            # Those that were asked for anew are no longer waited for.
            with suppress(Error):
                route.continue_()
    plays_from(page, 56, 57)
    page.wait_for_function(
        "played.some(({ kind, at, rate }) => kind === 'timeupdate' && 56 < at && at < 60 && rate === 0.75)"
    )
    page.evaluate("document.getElementById('player').currentTime = 60.1")
    page.wait_for_function("document.getElementById('player').playbackRate === 1")


def test_keys_mean_nothing_where_one_types_and_can_be_switched_off(site: Site, visit: Visit) -> None:
    page = visit(site)
    page.focus("[data-filter]")
    page.keyboard.type("k r?")
    assert page.input_value("[data-filter]") == "k r?"
    assert player(page, "paused") is True
    page.fill("[data-filter]", "")
    page.locator("[data-filter]").blur()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet).to_be_visible()
    sheet.get_by_label("Use these keys").uncheck()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("k")
    page.wait_for_timeout(200)
    assert player(page, "paused") is True


def test_a_link_opens_its_moment_and_is_given_away(site: Site, visit: Visit) -> None:
    first = visit(site)
    name = recording(first)
    first.evaluate("moss.seek(125.5)")
    first.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first.click("[data-copy-moment]")
    expect(first.get_by_role("status").filter(has_text="Link copied")).to_be_visible()
    link = first.evaluate("navigator.clipboard.readText()")
    assert link == f"{site.url}/?recording={name}&t=125.5"
    page = visit(Site(link, site.home, site.process))
    page.wait_for_function("document.getElementById('player').currentTime === 125.5")
    expect(page.locator("#head h2")).to_have_text(TITLE)
    expect(page.locator(".line.current")).to_be_in_viewport()
    assert player(page, "paused") is True


@pytest.mark.parametrize(
    ("asked", "told"), [("recording=%3Cb%3Enone&t=5", "not here"), ("recording={}&t=9999", "5:06 long")]
)
def test_a_link_that_leads_nowhere_says_so_in_one_sentence(
    site: Site, visit: Visit, asked: str, told: str
) -> None:
    page = visit(site)
    load(page, f"{site.url}/?{asked.format(recording(page))}", wait="#head .note")
    expect(page.locator("#head .note")).to_contain_text(told)
    page.wait_for_timeout(1500)
    expect(page.locator("#head .note")).to_contain_text(told)
    page.click("[data-open]")
    expect(page.locator("#head .note")).to_have_count(0)
    expect(page.get_by_role("tab")).to_have_count(3)
    expect(page).not_to_have_url(re.compile(r"\?"))
