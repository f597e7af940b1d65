"""A real page in a real Chromium: `moss-agent web` as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import PLAYED, Site, fill_home, load, start
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


DESK = {"width": 1440, "height": 900}
FAILED = pytest.StashKey[bool]()
# A busy machine takes longer than Playwright's five seconds over a file, an answer or a click.
expect.set_options(timeout=120_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium from the system; without it the browser tests are skipped."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is needed; on Debian, as root: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def filled_home(once: Callable[[str, Callable[[Path], object]], Path], sample: Path) -> Path:
    """A library with the sample as it was heard; copied, never changed."""
    return once("filled", lambda home: fill_home(home, sample).close())


@pytest.fixture(scope="session")
def site(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page that tests only read from."""
    home = tmp_path_factory.mktemp("read") / "home"
    shutil.copytree(filled_home, home)
    running = start(home)
    yield running
    running.stop()


@pytest.fixture
def own_site(filled_home: Path, models: Path, tmp_path: Path) -> Iterator[Site]:
    """A page that a test may change; weights that were joined for another are not joined again."""
    home = tmp_path / "home"
    shutil.copytree(filled_home, home)
    (home / "models").symlink_to(models)
    running = start(home)
    yield running
    running.stop()


CUT_OFF = ("AbortError: signal is aborted", "onnection errored out")
"""How Gradio complains of requests that were under way when its page was loaded anew."""


@dataclass
class Watch:
    """What a test's pages asked for and complained about, and how often they were loaded."""

    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    loads: int = 0


class Tab:
    """A tab in a context of its own, lent to one test after another.

    A tab that has shown the page before shows it again for half the processor time of a new one, since its
    scripts are compiled. What a test left in it is gone before the next one gets it: see ``clear``.
    """

    def __init__(self, browser: Browser, touch: bool) -> None:
        self.touch = touch
        self.context = browser.new_context(has_touch=touch, viewport=DESK)
        self.context.add_init_script(PLAYED)
        self.page = self.context.new_page()
        self._developer_tools = self.context.new_cdp_session(self.page)
        self._watch = Watch()
        self.context.on("request", lambda request: self._watch.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self._watch.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("load", self._loaded)

    def lend(self, watch: Watch, **looks: object) -> Page:
        """Get it ready for a test.

        Args:
            watch: What is noted from now on goes there.
            looks: ``viewport``, ``color_scheme``, ``reduced_motion`` and ``permissions``, as Playwright's
                contexts have them.
        """
        self._watch = watch
        self.page.set_viewport_size(looks.pop("viewport", DESK))  # type: ignore[arg-type]
        if permissions := looks.pop("permissions", None):
            self.context.grant_permissions(permissions)  # type: ignore[arg-type]
        self.page.emulate_media(
            color_scheme=looks.pop("color_scheme", "light"),  # type: ignore[arg-type]
            reduced_motion=looks.pop("reduced_motion", "no-preference"),  # type: ignore[arg-type]
        )
        assert not looks, f"what is not set back afterwards: {looks}"
        self.page.set_default_timeout(120_000)
        return self.page

    def clear(self) -> bool:
        """Leave the page and forget all of it; returns whether the tab can be lent again."""
        if self.page.is_closed() or len(self.context.pages) > 1:
            return False
        self.page.unroute_all()
        origin = self.page.evaluate("location.origin !== 'null' && sessionStorage.clear(), location.origin")
        # What happened until here has been noted by now; what leaving interrupts is nobody's fault.
        self._watch = Watch()
        self.page.goto("about:blank")
        self._developer_tools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        self.context.clear_cookies()
        self.context.clear_permissions()
        return True

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._watch.errors.append(message.text)

    def _loaded(self, _: Page) -> None:
        self._watch.loads += 1


@pytest.fixture(scope="session")
def tabs(browser: Browser) -> Iterator[list[Tab]]:
    """Tabs that no test uses now."""
    idle: list[Tab] = []
    yield idle
    for tab in idle:
        tab.context.close()


@pytest.fixture
def visit(browser: Browser, tabs: list[Tab], request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Open a page; afterwards nothing may have gone to another host, and no script may have failed.

    Which complaints a test is about, it names as ``faults``.
    """
    lent: list[Tab] = []
    watch = Watch()
    allowed: set[str] = set()

    excused: list[str] = []

    def open_page(
        at: Site, wait: str = ".line", has_touch: bool = False, faults: Sequence[str] = (), **looks: object
    ) -> Page:
        excused.extend(faults)
        tab = next((tab for tab in tabs if tab.touch == has_touch), None)
        if tab is None:
            tab = Tab(browser, has_touch)
        else:
            tabs.remove(tab)
        lent.append(tab)
        page = tab.lend(watch, **looks)
        allowed.add(urlsplit(at.url).netloc)
        load(page, at.url, wait)
        return page

    yield open_page
    for tab in lent:
        # Whatever a failed test left open is closed with its tab.
        if request.node.stash.get(FAILED, False) or not tab.clear():
            tab.context.close()
        else:
            tabs.append(tab)
    assert watch.hosts - {""} <= allowed, "the page asked another host"
    if watch.loads > len(lent):
        excused.extend(CUT_OFF)
    assert [error for error in watch.errors if not any(each in error for each in excused)] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note which tests failed, for the fixture ``visit``."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
