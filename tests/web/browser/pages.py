"""What the tests of the page share: homes to serve, the server, and gestures."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Locator, Page

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import decode_to_flac, file_id
from index.search.indexing import index_recording
from index.store.database import RecordingRow, SegmentRow, SpeakerRow
from tests.support.preloaded import Program

# What the audio did and which line was marked, in a list of the page: where the audio is when a test asks
# depends on how busy the machine is.
PLAYED = """
window.played = [];
for (const kind of ["play", "pause", "seeking", "ratechange", "timeupdate"]) {
  document.addEventListener(kind, ({ target: { id, currentTime: at, playbackRate: rate, paused } }) => {
    if (id === "player") played.push({ kind, at, rate, paused });
  }, true);
}
new MutationObserver((changes) => {
  for (const { target } of changes) {
    if (target.matches(".line.current")) played.push({ kind: "mark", at: Number(target.dataset.start) });
  }
}).observe(document, { attributeFilter: ["class"], subtree: true });
"""
TITLE = "Harbour Lights planning call"
GAP = [151.0, 153.2]
RUN = "from agent.cli import main; main()"


@dataclass(frozen=True)
class Sentence:
    """One line of a recording that a test makes."""

    start: float
    end: float
    speaker: str
    text: str


@dataclass
class Site:
    """A running page."""

    url: str
    home: Path
    process: Program | subprocess.Popen[str] = field(repr=False)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def store(workspace: Workspace, audio: Path, title: str, sentences: list[Sentence], gaps: list) -> str:
    """Put a recording into a library as if it had been listened to; returns its id."""
    recording = file_id(audio) if audio.suffix == ".mp3" else sha256(title.encode()).hexdigest()
    copy = workspace.library.audio_path(recording)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if audio.suffix == ".mp3":
        decode_to_flac(audio, copy)
    else:
        shutil.copy(audio, copy)
    speech = sum(sentence.end - sentence.start for sentence in sentences)
    missing = sum(end - start for start, end in gaps)
    with workspace.library.database.transaction() as session:
        session.add(
            RecordingRow(
                id=recording,
                title=title,
                source_name=audio.name,
                duration=soundfile.info(copy).duration,
                status="ready",
                added_at=f"2026-01-0{1 + len(workspace.library.recordings())}T10:00:00+00:00",
                language="en",
                coverage=speech / (speech + missing),
                gaps=gaps,
                speech=[[sentence.start, sentence.end] for sentence in sentences],
                engine="test",
            )
        )
        session.flush()
        rows: dict[str, SpeakerRow] = {}
        for sentence in sentences:
            if sentence.speaker not in rows:
                rows[sentence.speaker] = SpeakerRow(recording_id=recording, name=sentence.speaker)
                session.add(rows[sentence.speaker])
        session.flush()
        for sentence in sentences:
            session.add(
                SegmentRow(
                    recording_id=recording,
                    speaker_id=rows[sentence.speaker].id,
                    start=sentence.start,
                    end=sentence.end,
                    text=sentence.text,
                    words=[],
                )
            )
    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    return recording


def heard() -> list[Sentence]:
    """What was really heard on the sample."""
    data = json.loads((Path(__file__).parents[2] / "data" / "harbour_heard.json").read_text())
    return [Sentence(entry["start"], entry["end"], entry["speaker"], entry["text"]) for entry in data]


def tone(path: Path, seconds: float) -> Path:
    """A quiet tone, 16 kHz mono FLAC, for recordings of which only the text matters."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    soundfile.write(path, (0.05 * np.sin(2 * np.pi * 220 * times)).astype(np.float32), 16_000)
    return path


def fill_home(home: Path, sample: Path) -> Workspace:
    """A home with the sample in it, and the mark that it needs no adding."""
    workspace = open_workspace(Settings(home=home))
    store(workspace, sample, TITLE, heard(), [GAP])
    (home / ".sample-added").touch()
    return workspace


def start(home: Path, run: str = RUN, cold: bool = False, **settings: str) -> Site:
    """Run `moss-agent web` over a home and wait for its address.

    Args:
        home: Its home folder.
        run: The program.
        cold: As the user starts it, in a new interpreter, which imports everything first.
        settings: Environment variables.
    """
    arguments = ["--home", str(home), "web", "--port", str(_port()), "--json"]
    log, environment = home / "server.log", {"HF_HUB_OFFLINE": "1", "MOSS_AGENT_VOICES": "off", **settings}
    process: Program | subprocess.Popen[str]
    if cold:
        process = subprocess.Popen(
            [sys.executable, "-c", run, *arguments],
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env={**os.environ, **environment},
        )
    else:
        process = Program(run, arguments, environment, log)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(10)
        pytest.fail(log.read_text())
    return Site(json.loads(line)["url"], home, process)


def _port() -> int:
    """The first free one of this process's ports.

    A tab shows a page at an address it knows for half the processor time, since its scripts are compiled.
    The ports are none of those that the system gives to programs that ask for any.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in range(20_000 + 100 * worker, 20_100 + 100 * worker):
        with socket.socket() as probe, suppress(OSError):
            # As servers do: connections to the one before it may not be forgotten yet.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


def load(page: Page, address: str | None = None, wait: str = ".line") -> None:
    """Load an address, or the same one anew, and wait until the page is drawn.

    A browser is done with loading before Gradio has built the page, which takes a busy machine longer than an
    expectation waits.

    Args:
        page: A tab.
        address: Where it goes; None loads what is open anew.
        wait: Selector of what shows that the page is drawn.
    """
    if address is None:
        page.reload()
    else:
        page.goto(address)
    page.wait_for_selector(wait, state="attached")


def ask(page: Page, question: str) -> None:
    """Type a question and wait until its answer is complete."""
    before = page.locator("#answers .bot-row").count()
    page.fill("#question textarea", question)
    page.keyboard.press("Enter")
    page.wait_for_function(
        """before => document.querySelectorAll("#answers .bot-row").length > before
          && !document.querySelector("#question .stop-button")""",
        arg=before,
    )


def answer(page: Page) -> str:
    """The last answer's text."""
    return page.locator("#answers .bot-row").last.inner_text()


def plays_from(page: Page, start: float, end: float) -> None:
    """Wait until the audio, while it was to play, went to a time in a range (seconds; up to its end)."""
    page.wait_for_function(
        """([start, end]) => played.some(
          ({ kind, at, paused }) => kind === "seeking" && !paused && start <= at && at < end)""",
        arg=[start, end],
    )


def marks(page: Page, line: Locator) -> None:
    """Wait until a line of the transcript was marked as the one that is heard."""
    page.wait_for_function(
        "line => played.some(({ kind, at }) => kind === 'mark' && at === Number(line.dataset.start))",
        arg=line.element_handle(),
    )


def forget_what_was_played(page: Page) -> None:
    """So that what is asked for from now on has happened from now on."""
    page.evaluate("played.length = 0")


def player(page: Page, what: str) -> object:
    """A property of the audio element."""
    return page.evaluate(f"document.getElementById('player').{what}")
