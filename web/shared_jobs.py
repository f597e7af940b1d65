"""The queue of files where several processes work on it, kept in the database.

Every process looks for what waits, and takes one file at a time for each of its threads. While it works it
says so every second, with how far it is; whoever looks at the queue in another process sees that, and may
cancel it. What a process has left behind that no longer says anything is taken over by another one, which
goes on at the first missing window.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import ColumnElement, and_, delete, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from index.audio.decode import file_id
from index.progress import Progress
from index.recording_errors import MossAgentError
from index.records import StageName
from index.store.access import EVERYTHING, NOBODY, Actor, Person, acting_as, acting_person
from index.store.database import Database, JobRow
from index.store.people import PersonRow
from web.jobs import FINISHED_KEPT, Adder, Attach, HearAgain, Job, Jobs, State
from web.uploads import BROKE_OFF, MOST_BEGUN, Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace

BEAT_SECONDS = 1.0
"""How often a process tells how far it is, and looks for what waits and what was cancelled."""

LEASE_SECONDS = 30.0
"""After so long without a word a process is taken for dead."""

LOOKED_AT = 50
"""Waiting files that are asked for at a time, to find one that this process can read."""

log = logging.getLogger(__name__)


def open_jobs(workspace: Workspace) -> Jobs:
    """The queue of a process: its own, or where several may work over the same stores, theirs together."""
    if not workspace.is_shared:
        return Jobs(
            workspace.add,
            lambda: workspace.files_at_once,
            workspace.hear_again,
            workspace.identify,
            lambda: workspace.actor,
            workspace.people.is_disabled,
            workspace.attach_media,
        )
    uploads = Uploads(workspace.home, is_shared=True)
    database = workspace.library.database
    return SharedJobs(
        database,
        workspace.add,
        lambda: workspace.files_at_once,
        uploads.release,
        workspace.hear_again,
        workspace.identify,
        lambda: workspace.actor,
        partial(workspace.people.person, even_disabled=True),
        workspace.attach_media,
    )


class SharedJobs(Jobs):
    """A queue in the database and the threads of this process that work on it.

    Args:
        database: Where it is.
        add: As in ``Jobs``.
        at_once: As in ``Jobs``.
        release: Deletes an upload by its name, once it was added or given up.
        hear_again, identify, actor: As in ``Jobs``.
        person: Finds somebody by the number of their account, also where it is disabled.
        attach: As in ``Jobs``.
    """

    def __init__(
        self,
        database: Database,
        add: Adder,
        at_once: Callable[[], int] = lambda: 1,
        release: Callable[[str], None] = lambda _: None,
        hear_again: HearAgain | None = None,
        identify: Callable[[Path], str] = file_id,
        actor: Callable[[], Actor] = lambda: EVERYTHING,
        person: Callable[[int], Person | None] = lambda _: None,
        attach: Attach | None = None,
    ) -> None:
        super().__init__(add, at_once, hear_again, identify, actor, attach=attach)
        self._person = person
        self.database = database
        self.worker = uuid.uuid4().hex
        self._release = release
        self._reports: dict[str, Progress] = {}
        self._beating = threading.Thread(target=self._beat, name="queue", daemon=True)
        self._beating.start()
        with self._changed:
            self._begin_worker()

    # What anybody may do, in any process

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
        """Put a file at the end of the queue, unless its ``source`` is there already; see ``Jobs.submit``.

        The functions are not kept: what they would tell is in the database, and an upload is released by its
        name.
        """
        row = JobRow(
            id=uuid.uuid4().hex[:12],
            source=source,
            title=title,
            path=str(path),
            speakers=speakers,
            track=track,
            recording=recording,
            losing=losing,
            is_attached=is_attached,
            state=state,
            error=error,
            queued_at=time.time(),
            person_id=acting_person(self.database),
        )
        try:
            with self.database.transaction() as session:
                session.add(row)
        except IntegrityError:
            with self.database.transaction() as session:
                there = session.scalar(select(JobRow).where(JobRow.source == source))
            if there is None:
                raise
            row = there
        self._tell()
        return self._job(row)

    def _all(self) -> Sequence[Job]:
        """Everybody's jobs that are not finished, first come first."""
        query = select(JobRow).where(JobRow.left_at.is_(None)).order_by(JobRow.queued_at, JobRow.id)
        with self.database.transaction() as session:
            rows = session.scalars(query).all()
        # Accounts are looked up on a connection of their own.
        return tuple(self._job(row) for row in rows)

    def left(self) -> tuple[Job, ...]:
        """The jobs that left the queue last, done or given up, the oldest first."""
        query = select(JobRow).where(JobRow.left_at.is_not(None)).order_by(JobRow.left_at, JobRow.id)
        with self.database.transaction() as session:
            rows = session.scalars(query).all()
        return tuple(job for job in map(self._job, rows) if self._shows(job))

    def find(self, job: str) -> Job | None:
        """A job by its id, also one that left the queue not long ago."""
        with self.database.transaction() as session:
            row = session.get(JobRow, job)
        found = None if row is None else self._job(row)
        return found if found is not None and self._shows(found) else None

    def cancel(self, job: str) -> None:
        """Stop a job, whoever works on it; what was transcribed is kept. A job that only waits disappears."""
        if self.find(job) is None:
            return
        with self.database.transaction() as session:
            row = self._locked(session, job)
            if row is None:
                return
            row.cancelled = True
            waits = row.state == "waiting"
        if waits:
            self._leave(job, "stopped", JobRow.state == "waiting")
        elif job in self._cancels:
            self._cancels[job].set()

    def resume(self, job: str) -> None:
        """Queue a stopped or failed job again; it goes on at the first missing window."""
        if self.find(job) is None:
            return
        with self.database.transaction() as session:
            row = self._locked(session, job)
            if row is not None and row.state in ("stopped", "failed"):
                row.state, row.error, row.progress, row.cancelled = "waiting", None, None, False
                row.begun, row.queued_at = 0, time.time()
        self._tell()

    def dismiss(self, job: str) -> None:
        """Forget a stopped or failed job, and its upload."""
        if self.find(job) is not None:
            self._leave(job, "stopped", JobRow.state.in_(("stopped", "failed")))

    def close(self, timeout: float = 30.0) -> None:
        """Stop this process's jobs at their next window, for others to go on; see ``Jobs.close``."""
        super().close(timeout)
        self._beating.join(BEAT_SECONDS)

    # What this process does

    def _take(self) -> Job | None:
        """Wait for a job that nobody works on, and begin it; None at the end."""
        while not self._closing:
            try:
                job = self._claim()
            except MossAgentError as error:
                log.warning("the queue waits: %s", error)
                job = None
            if job is not None:
                return job
            with self._changed:
                if not self._closing:
                    self._changed.wait(BEAT_SECONDS)
        return None

    def _claim(self) -> Job | None:
        """Begin the first job that waits, or that a process has left behind, and that can be begun here."""
        now = time.time()
        place = JobRow.queued_at, JobRow.id
        query = select(*place, JobRow.path, JobRow.losing).where(self._free(now)).order_by(*place)
        after: tuple[float, str] | None = None
        while True:
            further = query if after is None else query.where(tuple_(*place) > after)
            with self.database.transaction() as session:
                rows = session.execute(further.limit(LOOKED_AT)).all()
            for row in rows:
                # Others may read what lies on a disk of theirs.
                if row.losing is not None or Path(row.path).exists():
                    job = self._begun(row.id, now)
                    if job is not None:
                        return job
            if len(rows) < LOOKED_AT:
                return None
            after = rows[-1].queued_at, rows[-1].id

    def _begun(self, job: str, now: float) -> Job | None:
        """A job that is free, once it is this process's; None where it is not to be begun here."""
        free = select(JobRow).where(JobRow.id == job, self._free(now))
        with self.database.transaction() as session:
            row = session.scalar(free.with_for_update(skip_locked=True))
            if row is None:
                return None
            if row.cancelled or row.begun > MOST_BEGUN:
                # It would end the next process too.
                error = None if row.cancelled else BROKE_OFF
                row.state, row.error, row.worker = "failed" if error else "stopped", error, None
                return None
            values = {"state": "running", "worker": self.worker, "lease_until": now + LEASE_SECONDS}
            # Only what is still free: SQLite locks no rows.
            mine = update(JobRow).where(JobRow.id == row.id, self._free(now)).returning(JobRow)
            taken = session.scalar(mine.values(begun=JobRow.begun + 1, **values))
        if taken is None:
            return None
        begun = self._job(taken)
        # Not before it is this process's for everybody to see: `_beat` would find that it is not.
        self._cancels[job] = threading.Event()
        if self._closing:
            self._cancels[job].set()
        self._wake()
        return begun

    def _free(self, now: float) -> ColumnElement[bool]:
        left_behind = and_(JobRow.state == "running", JobRow.lease_until < now)
        # What somebody sent whose account is disabled waits until it no longer is.
        held = JobRow.person_id.in_(select(PersonRow.id).where(PersonRow.is_disabled))
        is_held = and_(JobRow.person_id.is_not(None), held)
        return and_(JobRow.left_at.is_(None), or_(JobRow.state == "waiting", left_behind), ~is_held)

    def _next(self) -> Job | None:
        try:
            with self.database.transaction() as session:
                row = session.scalar(select(JobRow).where(self._free(time.time())).limit(1))
        except MossAgentError:
            return None
        return None if row is None else self._job(row)

    def _wake(self) -> None:
        """Where all threads are busy, see whether one more is worth it."""
        if len(self._cancels) >= len(self._workers):
            threading.Thread(target=self._call_help, daemon=True).start()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            self._wake()

    def _beat(self) -> None:
        """Say what this process works on, and hear what was cancelled or taken over."""
        with acting_as(EVERYTHING):
            self._go_on_beating()

    def _go_on_beating(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, BEAT_SECONDS)
                if self._closing and not self._cancels:
                    return
                running = dict(self._cancels)
            for job, cancel in running.items():
                try:
                    goes_on = self._say(job)
                except MossAgentError as error:
                    log.warning("%s", error)
                    break
                except Exception:  # without this thread, all that runs here would be taken for left behind
                    log.exception("A job's lease could not be renewed.")
                    continue
                if not goes_on:
                    cancel.set()
            if self._closing:
                time.sleep(0.05)

    def _say(self, job: str) -> bool:
        """Say that this process is alive and how far it is; whether it is to go on."""
        report = self._reports.get(job)
        values: dict[str, Any] = {"lease_until": time.time() + LEASE_SECONDS}
        if report is not None:
            values["progress"] = asdict(report)
        with self.database.transaction() as session:
            cancelled = session.scalar(
                update(JobRow).where(self._mine(job)).values(**values).returning(JobRow.cancelled)
            )
        return cancelled is False

    def _mine(self, job: str) -> ColumnElement[bool]:
        return and_(JobRow.id == job, JobRow.worker == self.worker, JobRow.state == "running")

    def _report(self, job: str, report: Progress) -> None:
        self._reports[job] = report

    def _update(self, job: str, note: bool = True, **values: object) -> Job:
        """Change a job that this process works on; one that was taken over meanwhile stays as it is."""
        if "retry" in values:
            values["can_retry"] = values.pop("retry")
        if values.get("state", "running") != "running":
            values |= {"worker": None, "begun": 0}
        with self.database.transaction() as session:
            session.execute(update(JobRow).where(self._mine(job)).values(**values))
            row = session.get(JobRow, job, populate_existing=True)
        if "state" in values:
            self._let_go(job)
        elif row is None or row.worker != self.worker:
            self._cancels[job].set()
        return Job(job, "", Path()) if row is None else self._job(row)

    def _run(self, job: Job) -> None:
        try:
            super()._run(job)
        except MossAgentError:
            # What became of it could not be written down.
            self._broken_off(job, "")
        except Exception:  # or it would be shown as running for ever
            log.exception("What became of a job could not be written down.")
            self._let_go(job.id)  # goes on once its lease has ended

    def _stopped(self, job: Job) -> None:
        """What the end of this process has stopped goes on in another one, or when it starts again."""
        if self._closing:
            self._broken_off(job, "")
        else:
            self._update(job.id, state="stopped")

    def _broken_off(self, job: Job, error: str) -> None:
        """Put a job back, once the database is there again; it is nobody's fault and nobody's wish."""
        while True:
            try:
                self._update(job.id, state="waiting", progress=None)
                return
            except MossAgentError:
                if self._closing:
                    return self._let_go(job.id)  # another process takes it over
                time.sleep(BEAT_SECONDS)

    def _finished(self, job: Job) -> None:
        self._leave(job.id, "done", self._mine(job.id))
        self._let_go(job.id)

    def _let_go(self, job: str) -> None:
        self._cancels.pop(job, None)
        self._reports.pop(job, None)

    def _leave(self, job: str, state: State, where: ColumnElement[bool]) -> None:
        """Take a job that is so out of the queue, and release its upload."""
        with self.database.transaction() as session:
            row = self._locked(session, job)
            fits = select(JobRow.id).where(JobRow.id == job, JobRow.left_at.is_(None), where)
            if row is None or session.scalar(fits) is None:
                return
            source, row.source = row.source, None
            row.state, row.can_retry, row.worker, row.left_at = state, False, None, time.time()
            session.flush()
            newest = select(JobRow.id).where(JobRow.left_at.is_not(None)).order_by(JobRow.left_at.desc())
            # Another process that does the same deletes those that it holds.
            old = list(session.scalars(newest.offset(FINISHED_KEPT).with_for_update(skip_locked=True)))
            session.execute(delete(JobRow).where(JobRow.id.in_(old)))
        if source is not None:
            self._release(source)

    def _locked(self, session: Session, job: str) -> JobRow | None:
        return session.get(JobRow, job, with_for_update=True)

    def _job(self, row: JobRow) -> Job:
        report = self._reports.get(row.id) if row.worker == self.worker else None
        if report is None and row.progress is not None and row.state == "running":
            report = Progress(**{**row.progress, "stage": StageName(row.progress["stage"])})
        release = None if row.source is None else (lambda source=row.source: self._release(source))
        return Job(
            id=row.id,
            title=row.title,
            path=Path(row.path),
            speakers=row.speakers,
            release=release,
            state=cast(State, row.state),
            progress=report,
            recording=row.recording,
            error=row.error,
            retry=row.can_retry,
            track=row.track,
            losing=row.losing,
            is_attached=row.is_attached,
            by=EVERYTHING if row.person_id is None else self._person(row.person_id) or NOBODY,
        )
