"""How far the work on a recording is, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from index.records import StageName


@dataclass(frozen=True)
class Progress:
    """How far one stage of taking in a recording is.

    Attributes:
        stage: What is being done.
        done: Seconds of audio this stage has finished.
        total: Seconds of audio in all; 0 while unknown.
        speed: Seconds of audio heard per second, in this run; None before the first window.
        seconds_left: Expected until the stage is complete; None while unknown.
        detail: Where the stage is, in words, such as ``window 3 of 12``; empty where it does not say.
    """

    stage: StageName
    done: float
    total: float
    speed: float | None = None
    seconds_left: float | None = None
    detail: str = ""

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


Report = Callable[[Progress], None]


class Meter:
    """Speed and time left of a stage, from the audio done and the time it took in this run.

    Args:
        stage: What is being done.
        ends: Where each window ends, seconds, in order of time; windows may be finished in any order.
        start: Where the first window begins, seconds.
        total: The recording's length, seconds.
    """

    def __init__(self, stage: StageName, ends: Sequence[float], start: float, total: float) -> None:
        self.stage = stage
        self.start = start
        self.total = total
        self.done = start
        self._before = dict(zip(ends, [start, *ends], strict=False))
        self._began = time.monotonic()

    def finished(self, end: float) -> Progress:
        """The progress now that the window that ends at second ``end`` is finished.

        The time between it and the window before counts as done with it.
        """
        self.done = min(self.total, self.done + end - self._before[end])
        speed = (self.done - self.start) / max(time.monotonic() - self._began, 1e-6)
        left = (self.total - self.done) / max(speed, 1e-6)
        return Progress(self.stage, self.done, self.total, speed, left)


class Stopwatch:
    """The time that work took, lap by lap."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        taken, self._began = now - self._began, now
        return taken
