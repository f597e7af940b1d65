"""A stage that works through the windows of a recording: the loop that all such stages share.

What is missing is looked up in the database, the engine is prepared, windows are processed side by side,
and each is stored as soon as it is finished, whatever the order, in one transaction. So a slow window holds
nothing up, and a ``kill -9`` costs no more than the windows in work.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from sqlalchemy.orm import Session

from index.notes import describe
from index.pipeline.ingest_context import IngestContext
from index.pipeline.parallel import as_finished
from index.progress import Meter, Progress
from index.recording_errors import Cancelled, EngineStopped, HearingError
from index.records import Note, NoteKind, Span, StageName
from index.store.database import WindowColumns

GONE_AFTER = 5
"""An engine that failed on so many windows in a row is taken to be gone; the rest is not tried."""


Timed = Span | WindowColumns
"""What has a ``start`` and an ``end``, in seconds on the recording's clock."""

Window = TypeVar("Window", bound=Timed)
Result = TypeVar("Result")
Handover = Callable[
    [Callable[[Window], "Result | HearingError | None"], Sequence[Window], int, threading.Event],
    Iterator[tuple[Window, "Result | HearingError | None"]],
]


class Stage(ABC, Generic[Window, Result]):
    """One stage of the ingest, for one recording.

    Args:
        context: The run it is part of.
    """

    name: ClassVar[StageName]
    """Shown with the progress."""

    failure: ClassVar[NoteKind]
    """The note that says on which windows the engine failed."""

    essential: ClassVar[bool] = False
    """Whether the recording fails where the engine cannot be used at all."""

    def __init__(self, context: IngestContext) -> None:
        self.context = context

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many windows the engine processes side by side; exact after ``prepare``."""

    @abstractmethod
    def missing(self) -> Sequence[Window]:
        """The windows that are not done, in order of time."""

    @abstractmethod
    def prepare(self, missing: Sequence[Window]) -> None:
        """Load what is not loaded yet, and find out what all windows need.

        Raises:
            HearingError: The engine cannot be loaded.
            Cancelled: The context's ``cancel`` was set.
        """

    @abstractmethod
    def process(self, window: Window) -> Result:
        """What the engine makes of a window; called from several threads at a time, stores nothing.

        Raises:
            HearingError: The engine failed on the window.
            Cancelled: The context's ``cancel`` was set.
        """

    @abstractmethod
    def store(self, session: Session, window: Window, result: Result) -> None:
        """Write a result, and that its window is done, in the transaction of ``session``."""

    def finish(self) -> None:
        """What is to be done when no window is left to be tried, also when the work was stopped."""

    def place(self, left: int) -> str:
        """Where the stage is, in words, with so many windows left; empty where it does not say."""
        return ""

    def run(self) -> None:
        """Process the windows that are missing; those on which the engine fails stay missing, with a note.

        Raises:
            HearingError: The stage is essential, and its engine cannot be loaded, failed on everything, or on
                ``GONE_AFTER`` windows in a row.
            Cancelled: The context's ``cancel`` was set.
        """
        missing = self.missing()
        failures = Failures(self.name)
        if missing:
            self.context.forget_notes(self.failure)
            try:
                self._work(missing, failures)
            except HearingError as error:
                if self.essential:
                    raise
                failures.error = error
        self.finish()
        self.context.check_cancel()
        if failures.error is not None:
            self.conclude(failures.error)

    def conclude(self, error: HearingError) -> None:
        """Note which windows are still missing after the engine failed on some.

        Raises:
            HearingError: The stage is essential, and nothing is done.
        """
        self.context.add_note(Note(self.failure, self.name, spans_of(self.missing()), detail=reason(error)))

    def _work(self, missing: Sequence[Window], failures: Failures) -> None:
        context = self.context
        start, duration = missing[0].start, context.recording.duration
        context.report(Progress(self.name, start, duration, detail=self.place(len(missing))))
        self.prepare(missing)
        meter = Meter(self.name, [window.end for window in missing], start, duration)
        results = attempts(self.process, missing, self.at_once, context.cancel, failures)
        for done, (window, result) in enumerate(results, 1):
            if not isinstance(result, HearingError):
                with context.database.transaction() as session:
                    self.store(session, window, result)
                context.count_time()
            context.report(replace(meter.finished(window.end), detail=self.place(len(missing) - done)))


def attempts(
    process: Callable[[Window], Result],
    windows: Sequence[Window],
    workers: int,
    cancel: threading.Event,
    failures: Failures,
    handover: Handover[Window, Result] = as_finished,
) -> Iterator[tuple[Window, Result | HearingError]]:
    """Process windows side by side; a few failures cost only their windows.

    Args:
        process: Called in a thread of its own for each window; may raise ``HearingError`` and ``Cancelled``.
        windows: In order of time.
        workers: Windows in work at a time.
        cancel: Once it is set, nothing more is begun; windows that were given up are left out.
        failures: Counts the windows on which the engine failed.
        handover: ``as_finished`` or ``in_order``.

    Yields:
        Each window with its result, or the error that it ended in.

    Raises:
        HearingError: The engine failed on ``GONE_AFTER`` windows in a row.
    """

    def attempt(window: Window) -> Result | HearingError | None:
        try:
            return process(window)
        except HearingError as error:
            return error
        except Cancelled:
            return None

    for window, result in handover(attempt, windows, workers, cancel):
        if result is None:
            continue
        if isinstance(result, HearingError):
            failures.failed(result, window.start)
        else:
            failures.succeeded()
        yield window, result


class Failures:
    """The windows of one stage on which the engine failed: a few cost themselves, many in a row the stage.

    Args:
        stage: Where they happen.

    Attributes:
        count: How many there are.
        error: The last one.
    """

    def __init__(self, stage: StageName) -> None:
        self.stage = stage
        self.count = 0
        self.error: HearingError | None = None
        self._in_a_row = 0
        self._any_succeeded = False

    def succeeded(self) -> None:
        """A window was processed."""
        self._in_a_row = 0
        self._any_succeeded = True

    def failed(self, error: HearingError, at: float) -> None:
        """The engine failed on the window that begins at second ``at``.

        Raises:
            HearingError: It failed on so many in a row that it must be gone; ``EngineStopped`` where it
                worked before.
        """
        self.count += 1
        self.error = error
        self._in_a_row += 1
        if self._in_a_row < GONE_AFTER:
            return
        if not self._any_succeeded:
            raise error
        note = Note(NoteKind.ENGINE_STOPPED, self.stage, (Span(at, at),), detail=str(error))
        raise EngineStopped(describe(note), note)

    def check_any(self) -> None:
        """Fail where not one window was processed.

        Raises:
            HearingError: The engine's own sentence.
        """
        if self.error is not None and not self._any_succeeded:
            raise self.error


def spans_of(windows: Sequence[Timed]) -> tuple[Span, ...]:
    """The times of windows."""
    return tuple(Span(window.start, window.end) for window in windows)


def reason(error: HearingError) -> str:
    """What the engine itself said."""
    return error.note.detail if isinstance(error, EngineStopped) else str(error)
