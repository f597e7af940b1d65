"""Stages: what the parts of the ingest share, and the run of one recording that they belong to.

A stage looks up in the database which windows are missing, prepares its engine and processes windows side by
side. Each is stored as soon as it is finished, whatever the order, in one transaction. So a slow window holds
nothing up, and a ``kill -9`` costs no more than the windows in work.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from sqlalchemy import update
from sqlalchemy.orm import Session

from index.notes import describe
from index.progress import Meter, Progress, Report, Stopwatch
from index.recording_errors import Cancelled, EngineStopped, HearingError
from index.records import Note, NoteKind, Recording, Span, StageName
from index.store.database import Database, RecordingRow, WindowColumns
from index.store.library import Library

GONE_AFTER = 5
"""An engine that failed on so many windows in a row is taken to be gone; the rest is not tried."""

Timed = Span | WindowColumns
"""What has a ``start`` and an ``end``, in seconds on the recording's clock."""

Window = TypeVar("Window", bound=Timed)
Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task], Result]
Handover = Callable[
    [Callable[[Window], "Result | HearingError | None"], Sequence[Window], int, threading.Event],
    Iterator[tuple[Window, "Result | HearingError | None"]],
]


@dataclass
class IngestContext:
    """One run of the stages for one recording.

    Attributes:
        library: Where the recording is stored.
        id: The recording's id.
        audio: Its 16 kHz copy.
        report: Called with the progress, from the thread of the run.
        cancel: Set from another thread to stop.
        watch: Measures the time taken.
    """

    library: Library
    id: str
    audio: Path
    report: Report
    cancel: threading.Event
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def database(self) -> Database:
        """The library's database."""
        return self.library.database

    @property
    def recording(self) -> Recording:
        """The recording as it stands in the database now."""
        return self.library.recording(self.id)

    def set(self, **values: object) -> None:
        """Write columns of the recording."""
        with self.database.transaction() as session:
            session.execute(update(RecordingRow).where(RecordingRow.id == self.id).values(**values))

    def count_time(self) -> None:
        """Add the time since the last call to what the recording took."""
        self.set(seconds_taken=RecordingRow.seconds_taken + self.watch.lap())

    def add_note(self, note: Note) -> None:
        """Store what could not be done; see ``add_note``."""
        with self.database.transaction() as session:
            add_note(session, self.id, note)

    def forget_notes(self, *kinds: NoteKind) -> None:
        """Drop the notes of these kinds, which are no longer true."""
        with self.database.transaction() as session:
            row = session.get_one(RecordingRow, self.id)
            row.notes = tuple(note for note in row.notes if note.kind not in kinds)

    def check_cancel(self) -> None:
        """Stop here if the user wants that.

        Raises:
            Cancelled: ``cancel`` is set.
        """
        if self.cancel.is_set():
            raise Cancelled(
                "Stopped. What was transcribed so far is kept; add the file again to continue from there."
            )


def add_note(session: Session, recording: str, note: Note) -> None:
    """Add a note to those of a recording; notes that differ in their spans only become one."""
    row = session.get_one(RecordingRow, recording)
    notes = list(row.notes)
    for index, known in enumerate(notes):
        if replace(known, spans=note.spans) == note:
            notes[index] = replace(known, spans=_united(known.spans, note.spans))
            break
    else:
        notes.append(note)
    row.notes = tuple(notes)


def _united(spans: Iterable[Span], others: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted({*spans, *others}, key=lambda span: (span.start, span.end)))


# --- work done side by side ----------------------------------------------------------------------------


def in_order(
    work: Work[Task, Result], tasks: Iterable[Task], workers: int, stop: threading.Event
) -> Iterator[tuple[Task, Result]]:
    """Do every task in one of ``workers`` threads; results come out in the order of the tasks.

    No more than ``workers`` tasks are begun ahead of the one that is waited for. After ``stop`` is set no
    task is begun; the results of those that were begun still come out. When the caller leaves, or a task
    raises, the rest is dropped.

    Args:
        work: Called in a thread of its own for each task; may raise.
        tasks: In order.
        workers: Threads, at least 1.
        stop: Set it from any thread.
    """
    return _handed_over(work, tasks, workers, stop, next_done=lambda begun: next(iter(begun)))


def as_finished(
    work: Work[Task, Result], tasks: Iterable[Task], workers: int, stop: threading.Event
) -> Iterator[tuple[Task, Result]]:
    """Like ``in_order``, but each result comes out as soon as it is there, however long others take.

    So no more is lost when the program dies than what the workers have in hand, and one result more.
    """
    return _handed_over(work, tasks, workers, stop, next_done=_first_done)


def _first_done(begun: Mapping[Future[Result], Task]) -> Future[Result]:
    done, _ = wait(begun, return_when=FIRST_COMPLETED)
    return next(future for future in begun if future in done)


def _handed_over(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    workers: int,
    stop: threading.Event,
    next_done: Callable[[Mapping[Future[Result], Task]], Future[Result]],
) -> Iterator[tuple[Task, Result]]:
    waiting = iter(tasks)
    begun: dict[Future[Result], Task] = {}

    def unless_stopped(task: Task) -> Result:
        if stop.is_set():
            raise CancelledError
        return work(task)

    with ThreadPoolExecutor(workers, thread_name_prefix="window") as pool:
        try:
            while True:
                while len(begun) <= workers and (task := next(waiting, None)) is not None:
                    # A copy each, so that the thread works in the same person's name.
                    begun[pool.submit(copy_context().run, unless_stopped, task)] = task
                if not begun:
                    return
                future = next_done(begun)
                task = begun.pop(future)
                try:
                    result = future.result()
                except CancelledError:
                    continue
                yield task, result
        except KeyboardInterrupt:
            # The workers look at this, so that nobody waits for them to finish.
            stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# --- the stage itself ----------------------------------------------------------------------------------


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
