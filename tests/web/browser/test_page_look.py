"""Light and dark, narrow screens, names for screen readers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pages import Site, ask, load
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Visit = Callable[..., Page]
PHONE = {"width": 390, "height": 844}

BRIGHTNESS = """selector => {
  const ground = getComputedStyle(document.querySelector(selector)).backgroundColor;
  const [r, g, b] = ground.match(/[\\d.]+/g).map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""

# WCAG 2: relative luminance, and the ratio that normal text needs.
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > .99) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    const seen = parent.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!seen || !node.textContent.trim() || parent.closest("script, style, .sr-only, audio")) continue;
    const both = [light(parse(getComputedStyle(parent).color)), light(ground(parent))];
    const ratio = (Math.max(...both) + .05) / (Math.min(...both) + .05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 30)}`);
  }
  return bad;
}"""

# What sticks out at the right: cut off, or the cause of sideways scrolling.
TOO_WIDE = """width => [...document.querySelectorAll("#top *, #columns *")]
  .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > width + 1)
  .map((element) => element.outerHTML.slice(0, 80))"""

NAMELESS = """() => [...document.querySelectorAll(
    "button, input, textarea, a[href], summary, audio, [role=button]")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.getAttribute("aria-label") || element.title || element.textContent.trim()
    || element.labels?.[0]?.textContent.trim()))
  .map((element) => element.outerHTML.slice(0, 120))"""


def test_the_system_decides_between_light_and_dark(site: Site, visit: Visit) -> None:
    dark = visit(site, color_scheme="dark")
    assert dark.evaluate(BRIGHTNESS, "#recording") < 60
    light = visit(site, color_scheme="light")
    assert light.evaluate(BRIGHTNESS, "#recording") > 200


def test_the_toggle_overrules_the_system_and_is_remembered(site: Site, visit: Visit) -> None:
    page = visit(site, color_scheme="light")
    page.click("[data-theme-toggle]")
    assert page.evaluate(BRIGHTNESS, "#recording") < 60
    load(page)
    assert page.evaluate(BRIGHTNESS, "#recording") < 60
    page.click("[data-theme-toggle]")
    assert page.evaluate(BRIGHTNESS, "#recording") > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(site: Site, visit: Visit, scheme: str) -> None:
    page = visit(site, color_scheme=scheme)
    ask(page, "What was decided?")
    page.wait_for_timeout(500)
    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_one_view_at_a_time_without_sideways_scrolling(site: Site, visit: Visit) -> None:
    page = visit(site, viewport=PHONE, has_touch=True)
    views = {"library": "#shelf", "recording": "#transcript", "chat": "#question"}
    for view, part in views.items():
        page.click(f"nav [data-view={view}]")
        expect(page.locator(part)).to_be_visible()
        for other in set(views.values()) - {part}:
            expect(page.locator(other)).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate(TOO_WIDE, PHONE["width"]) == []


def test_on_a_phone_a_dialog_lies_within_the_screen(site: Site, visit: Visit) -> None:
    page = visit(site, viewport=PHONE, has_touch=True)
    for opener in ("#head .chip", "[data-history]"):
        page.locator(opener).first.click()
        dialog = page.locator("dialog[open]")
        expect(dialog).to_be_visible()
        box = dialog.bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], opener
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)


def test_on_a_phone_an_answer_leads_to_the_recording(site: Site, visit: Visit) -> None:
    page = visit(site, viewport=PHONE, has_touch=True)
    page.click("nav [data-view=chat]")
    ask(page, "What was said at minute 2?")
    page.locator("#answers a.cite", has_text="2:42").last.click()
    expect(page.locator("#transcript")).to_be_visible()
    expect(page.locator(".line.current")).to_be_in_viewport()


def test_a_tablet_shows_the_library_beside_one_view(site: Site, visit: Visit) -> None:
    page = visit(site, viewport={"width": 1000, "height": 800})
    expect(page.locator("#shelf")).to_be_visible()
    expect(page.locator("#transcript")).to_be_visible()
    expect(page.locator("#question")).to_be_hidden()
    page.click("nav [data-view=chat]")
    expect(page.locator("#question")).to_be_visible()


def test_every_control_has_a_name(site: Site, visit: Visit) -> None:
    page = visit(site)
    ask(page, "What was decided?")
    assert page.evaluate(NAMELESS) == []
