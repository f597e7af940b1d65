"""What all tests share: the sample, what was heard on it, and homes of their own."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import Engine, make_url

from agent.privacy import switch_off_telemetry
from index.store import database
from index.store.backends import Backend, Sqlite
from tests.servers import chroma, chroma_server
from tests.support import forked_worker, preloaded
from tests.support.loaded_once import load_once
from tests.support.remembered import Remembered, make_file, remember

__all__ = ["chroma", "chroma_server"]

switch_off_telemetry()
os.environ["HF_HUB_OFFLINE"] = "1"


def share_cores(workers: int) -> None:
    """Tests that run side by side would wait for each other's threads; read when torch is first imported."""
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


share_cores(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
# A shared machine may take any time over one example; tests hold what comes out, benchmarks how fast.
# The same examples in every run: whether a change passes is no matter of luck.
settings.register_profile("any-machine", deadline=None, max_examples=25, derandomize=True)
# For who changes what such a test is about: `pytest --hypothesis-profile=thorough`.
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("any-machine")
for _name in [name for name in os.environ if name.startswith("MOSS_AGENT_")]:
    del os.environ[_name]

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"


# What is imported, and the tests themselves, stay until the end: the garbage collector would look through all
# of it again and again.
gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Fork the workers of the whole suite from one process that has imported the large libraries."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and len(specs) > 1:
        share_cores(len(specs))
        path = preloaded.socket_path()
        preloaded.connected().close()
        os.environ[preloaded.FOLDER] = str(path.parent)
        for spec in specs:
            spec.python = forked_worker.python_command(str(path))


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.freeze()
    gc.enable()
    _modules_seen[0] = len(sys.modules)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no core waits for the last of them at the end."""
    slow = {
        item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("browser")
    }
    items.sort(key=lambda item: item.path not in slow)


_modules_seen = [0]


def pytest_runtest_setup() -> None:
    """Take what large libraries keep for good out of the garbage collector's sight: looking through it again
    and again takes longer than building an application does."""
    if len(sys.modules) > _modules_seen[0] + 100:
        gc.collect()
        gc.freeze()
        _modules_seen[0] = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def remembered(once: Callable[[str, Callable[[Path], object]], Path]) -> Iterator[None]:
    """What the packaged models made of a sentence, a voice or a stretch of sound in one test serves the next,
    which would get the same; so do the models in memory."""
    folder = once("remembered", lambda folder: make_file(folder / "kept.sqlite"))
    kept = Remembered(folder / "kept.sqlite")
    with pytest.MonkeyPatch.context() as patch:
        remember(patch, kept)
        load_once(patch)
        yield
    kept.close()


@pytest.fixture(scope="session", autouse=True)
def migrated_once(once: Callable[[str, Callable[[Path], object]], Path]) -> Iterator[None]:
    """A new library in a file is a copy of one that went through all migrations, which take fifty times as
    long; most tests begin with a new library."""
    migrate = database.migrate

    def make(folder: Path) -> None:
        backend = Sqlite(make_url(f"sqlite:///{folder}/library.sqlite"))
        engine = backend.open(read_only=False)
        migrate(engine, backend)
        engine.dispose()

    def copied(engine: Engine, backend: Backend) -> None:
        if isinstance(backend, Sqlite) and not backend.path.exists():
            made = once("newest-library", make) / "library.sqlite"
            copy = backend.path.with_name(f"{backend.path.name}.{os.getpid()}.{threading.get_ident()}")
            # Where it cannot be copied, migrating says why; a link never takes another file's place.
            with suppress(OSError):
                shutil.copyfile(made, copy)
                os.link(copy, backend.path)
            copy.unlink(missing_ok=True)
        migrate(engine, backend)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "migrate", copied)
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_read_once() -> Iterator[None]:
    """Typer reads the signatures of all commands anew for each one, which takes longer than most of them."""
    from typer import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "get_command", cache(main.get_command))
        yield


@pytest.fixture(scope="session")
def sample() -> Path:
    """The shipped five-minute meeting."""
    return ROOT / "web" / "sample" / "harbour_meeting.mp3"


@pytest.fixture(scope="session")
def script() -> list[dict]:
    """Every sentence of the sample as it was written, with speaker and true times."""
    segments = json.loads((DATA / "harbour_meeting.json").read_text())["segments"]
    return [segment for segment in segments if segment.get("kind") != "sound"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once a run, also where tests run side by side: the first fills it, the others wait."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir(exist_ok=True)
                fill(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def models(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The recogniser's joined weights, where its packages are installed."""
    from index.recording_errors import WeightsError
    from index.weights import whisper_folder

    def join(folder: Path) -> None:
        with suppress(WeightsError):
            whisper_folder("base", folder)

    return once("models", join)


@pytest.fixture(scope="session")
def moss_fixture() -> Iterator[Path]:
    """Folder of the shipped tiny MOSS-Audio, which has learned the opening of the sample; only to be read."""
    from tests.fixture.shipped import checked

    folder = checked()
    yield folder
    checked(folder)
