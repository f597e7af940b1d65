"""A fast engine for a cluster's workers, which writes down what it did and fails where it is told to."""

from __future__ import annotations

import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from index.audio.windows import AudioWindow
from index.cluster.worker import TranscriberHost
from index.recording_errors import Cancelled, HearingError
from index.records import Segment


class Scripted:
    """A ``Transcriber`` whose words tell which samples it was given.

    Args:
        folder: Where it writes ``log``, a line when it begins and one when it ends. A file ``hold`` there
            keeps windows in work, ``die-…`` ends the process (each once), ``refuse`` fails every window.
        at_once: Windows at a time.
    """

    name = "scripted"
    times_words = False
    window_speech_seconds = 4.0
    max_window_seconds = 20.0
    max_splits = 0

    def __init__(self, folder: Path, at_once: int = 1) -> None:
        self.folder = folder
        self.windows_at_once = at_once

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Nothing is loaded."""

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """English, if it can hear."""
        return ("en", 0.9) if np.any(audio) else None

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """One sentence for each stretch of speech."""
        self.write("begin", f"{window.start:.2f}")
        for order in self.folder.glob("die-*"):
            # Where two begin at a time, one of them takes the order.
            with suppress(FileNotFoundError):
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / "refuse").exists():
            raise HearingError("It was told to refuse.")
        while (self.folder / "hold").exists():
            if window.stop is not None and window.stop.is_set():
                self.write("stopped", f"{window.start:.2f}")
                raise Cancelled("Stopped.")
            time.sleep(0.01)
        self.write("end", f"{window.start:.2f}")
        said = [
            f"Samples {zlib.crc32(np.ascontiguousarray(window.audio)):x} hold speech {number}."
            for number, _ in enumerate(window.speech)
        ]
        return [
            Segment(span.start, span.end, text, engine=self.name, language=window.language)
            for span, text in zip(window.speech, said, strict=True)
        ]

    def write(self, what: str, about: str) -> None:
        """A line in the log; lines of several processes do not mix."""
        line = f"{what} {about} {os.getpid()} {time.monotonic():.4f}\n".encode()
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(log, line)
        os.close(log)


class ScriptedHost(TranscriberHost):
    """The same as calls reach it, and ``note``, which only writes down what it was given."""

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> Any:
        """See ``Host``."""
        if what != "note":
            return super().do(what, arguments, payload, stop)
        window = AudioWindow(np.ones(16, np.float32), float(arguments[0]), (), stop=stop)
        self.transcriber.transcribe(window)
        return os.getpid()


def scripted_host(folder: str, at_once: int, threads: int) -> ScriptedHost:
    """Makes one on a worker."""
    return ScriptedHost(Scripted(Path(folder), at_once))


def endless_task(note: Callable[[float], None], folder: Path) -> None:
    """A task that ends only when it is told to."""
    scripted = Scripted(folder)
    scripted.write("begin", "0")
    note(5.0)
    try:
        while True:
            time.sleep(0.01)
    finally:
        scripted.write("end", "0")


def deadly_task(note: Callable[[float], None], *_: Any) -> None:
    """A task whose process is ended, wherever it is begun."""
    os.kill(os.getpid(), signal.SIGKILL)


def log_of(folder: Path) -> list[tuple[str, str, int, float]]:
    """What was written: what, about what, by which process, when."""
    if not (folder / "log").exists():
        return []
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    return [(what, about, int(pid), float(at)) for what, about, pid, at in lines]
