"""A real page in a real Chromium: `moss-agent web` as a process of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import Site, fill_home, load, start
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium from the system; without it the browser tests are skipped."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is needed; on Debian, as root: apt-get install chromium")
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
    """What a context asked for and complained about, and how often pages were loaded."""

    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    loads: list[Page] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page; afterwards nothing may have gone to another host, and no script may have failed."""
    contexts: list[BrowserContext] = []
    watch = Watch()
    allowed: set[str] = set()

    def open_page(at: Site, wait: str = ".line", **options: object) -> Page:
        options.setdefault("viewport", {"width": 1440, "height": 900})
        context = browser.new_context(**options)
        contexts.append(context)
        allowed.add(urlsplit(at.url).netloc)
        context.on("request", lambda request: watch.hosts.add(urlsplit(request.url).netloc))
        page = context.new_page()
        page.on("pageerror", lambda error: watch.errors.append(str(error)))
        page.on(
            "console",
            lambda message: watch.errors.append(message.text) if message.type == "error" else None,
        )
        page.on("load", lambda loaded: watch.loads.append(loaded))
        page.set_default_timeout(20_000)
        load(page, at.url, wait)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert watch.hosts - {""} <= allowed, "the page asked another host"
    reloaded = len(watch.loads) > len(contexts)
    excused = CUT_OFF if reloaded else ()
    assert [error for error in watch.errors if not any(each in error for each in excused)] == []
