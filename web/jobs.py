"""Files that wait to be listened to, one or a few at a time, in threads of the server.

Jobs belong to the server, not to a browser: closing or reloading the page changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from index.audio.decode import file_id
from index.pipeline.ingest import Progress
from index.recording_errors import (
    Busy,
    Cancelled,
    DatabaseAway,
    InvalidInput,
    MediaError,
    MossAgentError,
    not_imported,
    would_lose,
)
from index.records import Recording
from index.store.access import EVERYTHING, Actor, Person, acting_as

if TYPE_CHECKING:
    from agent.workspace import Workspace

State = Literal["waiting", "running", "failed", "stopped", "done"]

LOOK_AGAIN_SECONDS = 5.0
"""How often it is looked whether what is held back may be begun."""

FINISHED_KEPT = 200
"""Jobs that are still told about after they left the queue."""
log = logging.getLogger(__name__)


class Adder(Protocol):
    """What takes a file in: ``Workspace.add``."""

    def __call__(
        self,
        path: Path,
        title: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        *,
        track: int | None = None,
    ) -> Recording:
        """See ``index.ingest.Ingest.add``."""
        ...


HearAgain = Callable[[str, Callable[[Progress], None], threading.Event, int], object]
"""What hears a recording again: ``Workspace.hear_again``."""

Attach = Callable[[str, Path, int | None, Callable[[Progress], None], threading.Event, int | None], object]
"""What gives an imported transcript its media file: ``Workspace.attach_media``."""


@dataclass(frozen=True)
class Job:
    """One file on its way into the library; finished jobs leave the queue.

    Attributes:
        id: Names the job on the page.
        title: Shown until the recording has one of its own.
        path: The file to take in.
        speakers: Number of speakers when the user gave one.
        release: Deletes the file once it was added or given up; None for a file of the user's own.
        cancelled: Told when the user cancels it, not when the server ends.
        state: Where it is.
        progress: The latest report while it runs.
        recording: Id of the recording; known from the start for an upload, else once the file was read.
        error: One sentence for the user, when it failed.
        retry: Whether trying again can help; not with a file that is no media.
        losing: How many corrections may be lost by hearing ``recording`` anew from its audio copy; None where
            a file is taken in.
        is_attached: Whether the file is the media of ``recording``, an imported transcript, and no recording
            of its own.
        noted: Told whenever the state changes, so that the queue survives the server.
        track: Audio track to hear, from 1, when the user chose one.
        by: Who sent it, and in whose name it is taken in.
    """

    id: str
    title: str
    path: Path
    speakers: int | None = None
    release: Callable[[], None] | None = None
    cancelled: Callable[[], object] | None = None
    state: State = "waiting"
    progress: Progress | None = None
    recording: str | None = None
    error: str | None = None
    retry: bool = True
    track: int | None = None
    losing: int | None = None
    is_attached: bool = False
    noted: Callable[[State, str | None], object] | None = None
    by: Actor = EVERYTHING


class Jobs:
    """The queue of files and the threads that work on it.

    Args:
        add: Takes one file in and reports as it goes.
        at_once: Says how many files are worth taking in at a time; asked in a thread of its own, once a
            file waits while another is taken in.
        identify: Gives the id that a file's recording has or will have.
        actor: Says who asks; everybody sees their own jobs, and administrators nobody's too.
        hear_again: Transcribes a recording anew from its audio copy: ``Workspace.hear_again``.
        is_held: Says whether what somebody sent waits for now, since their account is disabled.
        attach: Gives an imported transcript its media: ``Workspace.attach_media``.
    """

    def __init__(
        self,
        add: Adder,
        at_once: Callable[[], int] = lambda: 1,
        hear_again: HearAgain | None = None,
        identify: Callable[[Path], str] = file_id,
        actor: Callable[[], Actor] = lambda: EVERYTHING,
        is_held: Callable[[Actor], bool] = lambda _: False,
        attach: Attach | None = None,
    ) -> None:
        self._is_held = is_held
        self._add = add
        self._hear_again, self._attach = hear_again, attach
        self._identify, self._actor = identify, actor
        self._at_once = at_once
        self._jobs: dict[str, Job] = {}
        self._left: OrderedDict[str, Job] = OrderedDict()
        self._cancels: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._workers: list[threading.Thread] = []

    def submit(
        self,
        path: Path,
        title: str,
        speakers: int | None = None,
        release: Callable[[], None] | None = None,
        state: Literal["waiting", "stopped", "failed"] = "waiting",
        recording: str | None = None,
        cancelled: Callable[[], object] | None = None,
        track: int | None = None,
        noted: Callable[[State, str | None], object] | None = None,
        error: str | None = None,
        source: str | None = None,
        losing: int | None = None,
        is_attached: bool = False,
    ) -> Job:
        """Put a file at the end of the queue; a stopped or failed one waits until it is resumed.

        See ``Job`` for what is told of it; ``error`` is why it is stopped or failed, and ``source`` what must
        not be queued twice, where several processes share a queue. The job is known by it after a restart as
        before: whoever was given its id may ask for it again.
        """
        known = source[:12] if source else ""
        job = Job(
            known if known and known not in self._jobs else uuid.uuid4().hex[:12],
            title,
            path,
            speakers,
            release,
            cancelled,
            state,
            recording=recording,
            error=error,
            track=track,
            losing=losing,
            is_attached=is_attached,
            noted=noted,
            by=self._actor(),
        )
        with self._changed:
            self._jobs[job.id] = job
            self._cancels[job.id] = threading.Event()
            if not self._workers:
                self._begin_worker()
            self._wake()
        return job

    def _wake(self) -> None:
        """A job waits: tell the threads, and where all are busy see whether one more is worth it."""
        self._changed.notify_all()
        running = sum(job.state == "running" for job in self._jobs.values())
        if running >= len(self._workers):
            threading.Thread(target=self._call_help, daemon=True).start()

    def _begin_worker(self) -> None:
        worker = threading.Thread(target=self._work, name="listening", daemon=True)
        self._workers.append(worker)
        worker.start()

    def list(self) -> list[Job]:
        """Jobs of whoever asks that are not finished, first come first."""
        return [job for job in self._all() if self._shows(job)]

    def _all(self) -> Sequence[Job]:
        """Everybody's jobs that are not finished."""
        with self._changed:
            return tuple(self._jobs.values())

    def _shows(self, job: Job) -> bool:
        """Whether a job is theirs who ask."""
        actor = self._actor()
        if actor == EVERYTHING or not isinstance(actor, Person):
            return actor == EVERYTHING
        return job.by.id == actor.id if isinstance(job.by, Person) else actor.is_admin

    def left(self) -> tuple[Job, ...]:
        """The jobs that left the queue last, done or given up, the oldest first."""
        with self._changed:
            return tuple(job for job in self._left.values() if self._shows(job))

    def find(self, job: str) -> Job | None:
        """A job by its id, also one that left the queue not long ago."""
        with self._changed:
            found = self._jobs.get(job) or self._left.get(job)
            return found if found is not None and self._shows(found) else None

    def cancel(self, job: str) -> None:
        """Stop a job; what was transcribed is kept. A job that only waits disappears."""
        with self._changed:
            found = self._jobs.get(job)
            if found is None or not self._shows(found):
                return
            self._cancels[job].set()
            if found.cancelled is not None:
                found.cancelled()
            if found.state == "waiting":
                self._forget(found)

    def resume(self, job: str) -> None:
        """Queue a stopped or failed job again; it goes on at the first missing window."""
        with self._changed:
            found = self._jobs.get(job)
            if found is None or not self._shows(found) or found.state in ("waiting", "running"):
                return
            del self._jobs[job]
            self._jobs[job] = replace(found, state="waiting", error=None, progress=None)
            _note(self._jobs[job])
            self._cancels[job] = threading.Event()
            self._wake()

    def dismiss(self, job: str) -> None:
        """Forget a stopped or failed job, and its upload."""
        with self._changed:
            found = self._jobs.get(job)
            if found is not None and self._shows(found) and found.state in ("failed", "stopped"):
                self._forget(found)

    def dismiss_recording(self, recording: str) -> None:
        """Forget what is left of a recording that is being removed."""
        for job in self._all():
            if job.recording == recording:
                if job.state == "waiting":
                    self.cancel(job.id)
                self.dismiss(job.id)

    def working_on(self, recording: str) -> bool:
        """Whether this recording is being listened to right now."""
        return any(job.recording == recording and job.state == "running" for job in self._all())

    def has(self, recording: str) -> bool:
        """Whether this recording waits or is being listened to, whoever sent it."""
        return any(job.recording == recording and job.state in ("waiting", "running") for job in self._all())

    def close(self, timeout: float = 30.0) -> None:
        """Stop the running jobs at their next window and end the threads, within ``timeout`` seconds."""
        with self._changed:
            self._closing = True
            for event in self._cancels.values():
                event.set()
            self._changed.notify_all()
        until = time.monotonic() + timeout
        for worker in list(self._workers):
            worker.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        # The queue is everybody's; each file is taken in in the name of whoever sent it.
        with acting_as(EVERYTHING):
            while (job := self._take()) is not None:
                self._run(job)

    def _take(self) -> Job | None:
        """Wait for a job and begin it; None at the end."""
        with self._changed:
            while (job := self._next()) is None and not self._closing:
                waits = any(job.state == "waiting" for job in self._jobs.values())
                self._changed.wait(LOOK_AGAIN_SECONDS if waits else None)
            if self._closing or job is None:
                return None
            job = self._update(job.id, state="running")
            if self._next() is not None:
                self._wake()
            return job

    def _call_help(self) -> None:
        """Begin another thread, if the engine is good for one more file at a time."""
        try:
            most = self._at_once()
        except Exception:
            return  # the job itself meets the same error and shows it
        with self._changed:
            if len(self._workers) < most and self._next() is not None and not self._closing:
                self._begin_worker()

    def _next(self) -> Job | None:
        return next((job for job in self._jobs.values() if self._may_begin(job)), None)

    def _may_begin(self, job: Job) -> bool:
        try:
            return job.state == "waiting" and not self._is_held(job.by)
        except MossAgentError:
            return True  # the job itself meets the error and shows it

    def _run(self, job: Job) -> None:
        try:
            with acting_as(job.by):
                self._take_in(job)
        except Cancelled:
            self._stopped(job)
        except DatabaseAway as error:
            self._broken_off(job, str(error))
        except MediaError as error:
            # Nothing was stored, and the file will not get better: what was uploaded can go.
            if job.release is not None:
                job.release()
            self._update(job.id, state="failed", error=str(error), retry=False)
        except MossAgentError as error:
            self._update(job.id, state="failed", error=str(error))
        except Exception as error:
            log.exception("adding %s failed", job.path.name)
            kind = type(error).__name__
            self._update(job.id, state="failed", error=f"Unexpected error ({kind}: {error}).")
        else:
            self._finished(job)

    def _stopped(self, job: Job) -> None:
        """The work on a job was cancelled, by the user or by the end of the server."""
        stopped = self._update(job.id, state="stopped", note=not self._closing)
        if self._closing:
            # Not the user's wish: it goes on when the server starts again.
            _note(replace(stopped, state="waiting"))

    def _broken_off(self, job: Job, error: str) -> None:
        """The work on a job ended because its database was away."""
        self._update(job.id, state="failed", error=error)

    def _finished(self, job: Job) -> None:
        """The file of a job is in the library."""
        with self._changed:
            self._forget(self._jobs[job.id], "done")

    def _take_in(self, job: Job) -> None:
        """Add the job's file, give it to its transcript, or hear its recording again."""
        cancel = self._cancels[job.id]

        def report(progress: Progress) -> None:
            self._report(job.id, progress)

        if job.losing is not None and job.recording is not None and self._hear_again is not None:
            self._hear_again(job.recording, report, cancel, job.losing)
            return
        if job.is_attached and job.recording is not None and self._attach is not None:
            self._attach(job.recording, job.path, job.speakers, report, cancel, job.track)
            return
        self._update(job.id, recording=self._identify(job.path))
        chosen = {} if job.track is None else {"track": job.track}
        self._add(job.path, job.title, job.speakers, report, cancel, **chosen)

    def _report(self, job: str, report: Progress) -> None:
        self._update(job, progress=report)

    def _update(self, job: str, note: bool = True, **values: object) -> Job:
        with self._changed:
            changed = replace(self._jobs[job], **values)  # type: ignore[arg-type]
            self._jobs[job] = changed
            if note and "state" in values:
                _note(changed)
            return changed

    def _forget(self, job: Job, state: State = "stopped") -> None:
        self._jobs.pop(job.id, None)
        self._left[job.id] = replace(job, state=state, retry=False, release=None, cancelled=None)
        while len(self._left) > FINISHED_KEPT:
            self._left.popitem(last=False)
        self._cancels.pop(job.id, None)
        if job.release is not None:
            job.release()


def _note(job: Job) -> None:
    if job.noted is not None:
        job.noted(job.state, job.error)


def hear_again(workspace: Workspace, jobs: Jobs, reference: str, losing: int = 0) -> Job:
    """Queue a recording to be heard again from its audio copy, or to go on where that broke off.

    Args:
        workspace: An open workspace.
        jobs: The queue.
        reference: Which recording.
        losing: How many corrections may be lost by that.

    Raises:
        Forbidden: Whoever asks may only read it.
        Busy: It waits or is being transcribed already.
        InvalidInput: It has no audio copy.
        WouldLoseCorrections: It has more corrections.
    """
    recording = workspace.recording(reference)
    workspace.people.require(recording.id, "edit")
    audio = workspace.library.audio_path(recording.id)
    if jobs.has(recording.id):
        raise Busy("This recording is being transcribed already.")
    if not recording.has_media or not audio.exists():
        raise InvalidInput(f"“{recording.title}” has no audio that could be heard again.")
    count = workspace.corrections_lost(recording.id)
    if recording.status == "ready" and count > losing:
        raise would_lose(f"“{recording.title}” has", count, "hear it again")
    jobs.dismiss_recording(recording.id)
    return jobs.submit(audio, recording.title, recording=recording.id, losing=losing)


def attachable(workspace: Workspace, jobs: Jobs, reference: str) -> Recording:
    """An imported transcript that may be given its media file now.

    Raises:
        Forbidden: Whoever asks may only read it.
        Busy: It is being given one already.
        InvalidInput: It was transcribed from its own media.
    """
    recording = workspace.recording(reference)
    workspace.people.require(recording.id, "edit")
    if recording.imported is None:
        raise not_imported(recording.title)
    if jobs.has(recording.id):
        raise Busy("This transcript is being given its media file already; wait for it, or cancel it.")
    jobs.dismiss_recording(recording.id)
    return recording


def remove_recording(
    workspace: Workspace, jobs: Jobs, reference: str, drop_corrections: bool = False
) -> Recording:
    """Delete a recording from every store, and what is left of it in the queue; returns what was removed.

    Raises:
        Busy: It is being transcribed.
        MossAgentError: See ``Workspace.remove``.
    """
    recording = workspace.recording(reference)
    workspace.people.require(recording.id, "edit")
    if jobs.working_on(recording.id):
        raise Busy("This recording is being transcribed; cancel it first.")
    workspace.remove(recording.id, drop_corrections)
    jobs.dismiss_recording(recording.id)
    return recording
