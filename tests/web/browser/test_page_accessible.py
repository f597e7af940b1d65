"""Names, roles, contrast and focus, as axe-core (https://github.com/dequelabs/axe-core) checks them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pages import Site, ask
from playwright.sync_api import Page, expect

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is needed")
pytestmark = pytest.mark.browser
Visit = Callable[..., Page]

# Where a field stands in a box of its own, the box shows that it has the focus.
FOCUSED = r"""() => {
  const node = document.activeElement;
  const box = node.getBoundingClientRect();
  const luminance = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one?.parentElement; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  // What is no text needs three to one (WCAG 1.4.11).
  const rings = (one) => {
    const style = getComputedStyle(one);
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1) return false;
    const [light, dark] = [luminance(style.outlineColor), luminance(ground(one))].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05) >= 3;
  };
  let ringed = false;
  for (let one = node, up = 0; one && up < 6; one = one.parentElement, up += 1) ringed ||= rings(one);
  const name = node.getAttribute("aria-label") || node.title || node.textContent.trim()
    || node.labels?.[0]?.textContent || "";
  const seen = box.width > 0 && box.height > 0;
  return { tag: node.tagName, id: node.id, name: name.trim().slice(0, 40), seen, ringed };
}"""


def violations(page: Page, part: str | None = None) -> list[str]:
    """What axe finds wrong on the page, or in a part of it (a selector)."""
    found = axe.Axe().run(page, part).response["violations"]
    return [
        f"{each['id']}: {node['html'][:140]} {node.get('failureSummary', '')[:200]}"
        for each in found
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_axe_finds_nothing_on_any_part_of_the_page(site: Site, visit: Visit, scheme: str, width: int) -> None:
    page = visit(site, color_scheme=scheme, viewport={"width": width, "height": 900}, has_touch=width < 500)
    page.wait_for_function("moss.timeline.peaks && moss.timeline.data")
    narrow = width < 1120
    found = {"transcript": violations(page)}
    page.get_by_role("tab", name="Talk time").click()
    found["talk time"] = violations(page, "#recording")
    page.get_by_role("tab", name="Summary").click()
    expect(page.locator("#summary")).to_contain_text("Decisions")
    found["summary"] = violations(page, "#recording")
    if narrow:
        page.click("nav [data-view=library]")
    page.fill("[data-library-search]", "extra crew")
    expect(page.locator(".found-place").first).to_be_visible(timeout=60_000)
    found["search"] = violations(page, "#library")
    if narrow:
        page.click("nav [data-view=chat]")
    ask(page, "What was decided?")
    page.wait_for_timeout(500)  # what appears fades in
    found["answer"] = violations(page)
    page.evaluate("moss.showKeys()")
    found["keys"] = violations(page)
    page.keyboard.press("Escape")
    page.evaluate("void moss.comment(5)")
    expect(page.locator("dialog textarea")).to_be_focused()
    found["comment"] = violations(page)
    assert {part: wrong for part, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_reached_by_tab_with_a_name_and_a_visible_focus(
    site: Site, visit: Visit, scheme: str
) -> None:
    page = visit(site, color_scheme=scheme)
    page.wait_for_function("moss.timeline.peaks && moss.timeline.data")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1]["id"] == "" and reached[-1]["tag"] == "BODY":
            break
    names = [each["name"] for each in reached]
    for wanted in (
        "Search all recordings",
        "Position in the recording",
        "Play",
        "Comment at this moment",
        "Copy link to this moment",
        "Find in transcript",
        "Speaker",
    ):
        assert any(name.startswith(wanted) for name in names), f"{wanted} is not reached: {names}"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys").get_by_role("button", name="Close")).to_be_focused()
    reached.append(page.evaluate(FOCUSED))
    bad = [
        each
        for each in reached
        if each["tag"] != "BODY" and not (each["name"] and each["seen"] and each["ringed"])
    ]
    assert bad == []
