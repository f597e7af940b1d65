"""The database: the one source of truth, SQLite or PostgreSQL through SQLAlchemy 2, migrated by Alembic.

Everything else (the Chroma collection, exports) can be rebuilt from these tables. Times are seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import URL, Connection, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from index.folding import FOLD_VERSION, fold
from index.recording_errors import MossAgentError
from index.records import Note, NoteKind, Span, StageName, Status
from index.store.access import EVERYTHING, Actor, guard
from index.store.backends import Backend, Postgresql, Sqlite

_log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(DeclarativeBase):
    """Base of all tables."""


class StatusColumn(TypeDecorator[Status]):
    """A ``Status``, stored as its value."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is stored; a word that is no status is refused."""
        return None if value is None else Status(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> Status | None:
        """What is read."""
        return None if value is None else Status(value)


class NoteColumn(TypeDecorator[Note]):
    """A ``Note`` as a JSON object, without what is empty in it; no note is NULL."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Note | None, dialect: Dialect) -> dict[str, Any] | None:
        """What is stored."""
        return None if value is None else _note_as_json(value)

    def process_result_value(self, value: dict[str, Any] | None, dialect: Dialect) -> Note | None:
        """What is read."""
        return None if value is None else _note_from_json(value)


class NotesColumn(TypeDecorator[tuple[Note, ...]]):
    """Notes as a JSON list; each as in ``NoteColumn``."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Note, ...] | None, dialect: Dialect) -> list[dict[str, Any]]:
        """What is stored."""
        return [_note_as_json(note) for note in value or ()]

    def process_result_value(self, value: list[dict[str, Any]] | None, dialect: Dialect) -> tuple[Note, ...]:
        """What is read."""
        return tuple(_note_from_json(data) for data in value or ())


def _note_as_json(note: Note) -> dict[str, Any]:
    data = {
        "kind": note.kind.value,
        "stage": note.stage.value if note.stage else None,
        "spans": [[span.start, span.end] for span in note.spans],
        "numbers": dict(note.numbers),
        "detail": note.detail.encode("utf-8", "replace").decode(),
    }
    return {name: value for name, value in data.items() if value}


def _note_from_json(data: dict[str, Any]) -> Note:
    return Note(
        kind=NoteKind(data["kind"]),
        stage=StageName(data["stage"]) if "stage" in data else None,
        spans=tuple(Span(start, end) for start, end in data.get("spans", ())),
        numbers=data.get("numbers", {}),
        detail=data.get("detail", ""),
    )


class RecordingRow(Base):
    """One media file; ``id`` is the SHA-256 of its bytes, or made from that and its owner's number."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    source_name: Mapped[str]
    duration: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[Status] = mapped_column(StatusColumn, default=Status.LISTENING)
    added_at: Mapped[str]
    language: Mapped[str | None]
    languages: Mapped[list[str]] = mapped_column(JSON, default=list)
    """All that are spoken, the longest first; empty where unknown."""
    coverage: Mapped[float | None]
    gaps: Mapped[list[list[float]]] = mapped_column(JSON, default=list)
    speech: Mapped[list[list[Any]] | None] = mapped_column(JSON)
    """Detected speech as ``[start, end]`` or ``[start, end, channel]`` each; NULL until detection ran."""
    engine: Mapped[str] = mapped_column(default="")
    expected_speakers: Mapped[int | None]
    failure: Mapped[Note | None] = mapped_column(NoteColumn)
    """Why the last attempt failed; None after one that did not."""
    notes: Mapped[tuple[Note, ...]] = mapped_column(NotesColumn, default=())
    """What could not be done though the recording is usable, e.g. that the file is cut short."""
    seconds_taken: Mapped[float] = mapped_column(default=0.0)
    tracks: Mapped[list[int]] = mapped_column(JSON, default=list)
    """Audio tracks of the file that are in the copy, from 1; empty where an older version made it."""
    revision: Mapped[int] = mapped_column(default=0)
    """How often its transcript was corrected; an undone correction counts twice."""
    imported: Mapped[str | None]
    """Format of the file that the transcript was imported from; NULL where it was heard."""
    media_id: Mapped[str | None] = mapped_column(index=True)
    """SHA-256 of the media file that belongs to an imported transcript, or to a recording of somebody with an
    account; NULL where there is none, and where ``id`` is that of the media file itself."""
    owner_id: Mapped[int | None] = mapped_column(index=True)
    """Whose it is; NULL where nobody had an account when it was added."""


class WindowColumns:
    """A stretch of audio that an engine takes in one go; ``done`` flips in the transaction that stores it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    number: Mapped[int]
    start: Mapped[float]
    end: Mapped[float]
    done: Mapped[bool] = mapped_column(default=False)


class WindowRow(WindowColumns, Base):
    """A window that is transcribed."""

    __tablename__ = "windows"
    __table_args__ = (UniqueConstraint("recording_id", "number"),)

    channel: Mapped[int | None]
    """The channel of the copy that is heard; NULL for the mix of all, or the only one."""
    language: Mapped[str | None]
    """What is spoken in it; NULL where unknown. Where the language changes, the window was cut in two. One
    that is not done has a language only where the user set one."""
    labelled: Mapped[bool] = mapped_column(default=False)
    """Whether a model was asked who speaks in it; flips in the transaction that stores what it said."""


class SoundWindowRow(WindowColumns, Base):
    """A window that is listened to for sounds."""

    __tablename__ = "sound_windows"
    __table_args__ = (UniqueConstraint("recording_id", "number"),)


class SpeakerRow(Base):
    """One voice of one recording, under the name the user sees."""

    __tablename__ = "speakers"
    __table_args__ = (UniqueConstraint("recording_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    name: Mapped[str]


class SegmentRow(Base):
    """One sentence or one sound; ``embedding`` is float16, unit length, NULL until indexed."""

    __tablename__ = "segments"
    # A conversation may cite a sentence that is gone, so numbers never come again.
    __table_args__ = (
        Index("ix_segments_time", "recording_id", "start", "end"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    window_id: Mapped[int | None] = mapped_column(ForeignKey("windows.id", ondelete="CASCADE"), index=True)
    speaker_id: Mapped[int | None] = mapped_column(ForeignKey("speakers.id", ondelete="SET NULL"), index=True)
    start: Mapped[float]
    end: Mapped[float]
    kind: Mapped[str] = mapped_column(default="speech")
    text: Mapped[str]
    words: Mapped[list[list[Any]]] = mapped_column(JSON, default=list)
    """``[start, end, text, probability]`` a word."""
    language: Mapped[str | None]
    """ISO 639-1 code; NULL where unknown, and of sounds."""
    engine: Mapped[str] = mapped_column(default="")
    voice_label_part: Mapped[int | None]
    """In which part of its window ``voice_label`` means one voice, from 0."""
    voice_label: Mapped[str | None]
    """What a model calls its speaker, for example ``S01``; NULL where it has no label."""
    version: Mapped[int] = mapped_column(default=0)
    """The recording's ``revision`` that changed it last; 0 where nobody did."""
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)


class CorrectionRow(Base):
    """One thing that a person corrected; see ``index.corrections.correcting``."""

    __tablename__ = "corrections"
    __table_args__ = (Index("ix_corrections_recording", "recording_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    at: Mapped[str]
    """ISO 8601, UTC."""
    by: Mapped[str]
    """Through which door, and who where that is known."""
    kind: Mapped[str]
    before: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """The sentences as they were, of each its number and what changed; all of one that is gone now."""
    after: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    undone_at: Mapped[str | None]
    """When it was taken back; NULL while it holds."""
    superseded: Mapped[bool] = mapped_column(default=False)
    """Whether something else was corrected after it was taken back, so that it cannot be made again."""


class PassageRow(Base):
    """Neighbouring segments retrieved together; ``embedding`` is float32, unit length."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_time", "recording_id", "start"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    start: Mapped[float]
    end: Mapped[float]
    text: Mapped[str]
    folded: Mapped[str] = mapped_column(deferred=True)
    """The words of ``text`` in the form in which they are searched (``index.folding``)."""
    segment_ids: Mapped[list[int]] = mapped_column(JSON)
    embedder: Mapped[str]
    embedding: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class CommentRow(Base):
    """What somebody noted at a moment of a recording."""

    __tablename__ = "comments"
    __table_args__ = (Index("ix_comments_time", "recording_id", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    at: Mapped[float]
    text: Mapped[str]
    created_at: Mapped[str]
    """ISO 8601, UTC."""
    by: Mapped[str] = mapped_column(default="")
    """Name of whoever wrote it; empty where nobody had an account."""


class ThreadRecordingRow(Base):
    """Which conversations quoted which recording, so that removing it can remove them too."""

    __tablename__ = "thread_recordings"

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )


class VoiceRow(Base):
    """Somebody who is known by voice, under the name the user gave."""

    __tablename__ = "voices"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    encoder: Mapped[str]
    """What made its samples; those of another encoder cannot be compared."""
    owner_id: Mapped[int | None]
    """Who knows it; NULL where nobody had an account."""


class VoiceSampleRow(Base):
    """How a known voice sounds in one recording; a trigger deletes a voice that has none left."""

    __tablename__ = "voice_samples"

    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id", ondelete="CASCADE"), primary_key=True)
    recording_id: Mapped[str] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    seconds: Mapped[float]
    """Speech behind it."""
    embedding: Mapped[bytes] = mapped_column(LargeBinary)
    """float32, unit length: ``[256]`` as it was recorded, or ``[n_conditions, 256]``."""
    stale: Mapped[bool] = mapped_column(default=False)
    """Whether somebody changed since what the speaker says there; it is learned again before it is used."""


class VoiceMatchRow(Base):
    """A speaker of a recording who is, may be, or is not somebody known."""

    __tablename__ = "voice_matches"

    speaker_id: Mapped[int] = mapped_column(ForeignKey("speakers.id", ondelete="CASCADE"), primary_key=True)
    voice_id: Mapped[int] = mapped_column(ForeignKey("voices.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[str]
    """``sure``: it was named by the program; ``maybe``: nobody has said yet; ``rejected``: it is not."""
    label: Mapped[str]
    """What the speaker was called before."""
    score: Mapped[float]


class VoiceConsentRow(Base):
    """Whether somebody lets voices be remembered; no row until they were asked.

    ``id`` is 1 where nobody has an account, and else the number of the account and one.
    """

    __tablename__ = "voice_consent"

    id: Mapped[int] = mapped_column(primary_key=True)
    given: Mapped[bool]


class WatchedFileRow(Base):
    """A file of a watched folder that was dealt with; it is not taken in again unless it changes.

    It outlives the recording, which is not to come back when it was removed, so it must not tell of it.
    """

    __tablename__ = "watched_files"

    path_hash: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the path."""
    size: Mapped[int] = mapped_column(BigInteger)
    modified: Mapped[int] = mapped_column(BigInteger)
    """Nanoseconds since 1970."""
    recording_id: Mapped[str | None] = mapped_column(index=True)
    """NULL where it became no recording, and where that was removed."""


class SyncedNoteRow(Base):
    """A note that this library keeps in a folder; it outlives the recording, so that the note can go too."""

    __tablename__ = "synced_notes"

    folder: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    """Where the note is, from the folder on; empty where that must be looked up by its marks."""
    is_moved: Mapped[bool] = mapped_column(default=False)
    """Whether a person moved or renamed it; then it keeps its name when the recording gets another title."""
    fingerprint: Mapped[str]
    """What the note was made from; while that and the file stay the same, nothing needs to be done."""


class WebhookDeliveryRow(Base):
    """Something a webhook is to be told; gone once it was told, or given up."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str | None] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), index=True
    )
    """NULL where the file never became a recording."""
    body: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    """When it is tried next, seconds since 1970; also set while it is being tried, so that no other process
    tries it meanwhile."""
    problem: Mapped[str] = mapped_column(default="")
    """Why the last attempt failed, in one sentence."""


class JobRow(Base):
    """A file on its way into the library, in a queue that several processes work on (``web.shared_jobs``)."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str | None] = mapped_column(unique=True)
    """What must not be queued twice, an upload for one; NULL once it has left the queue."""
    title: Mapped[str]
    path: Mapped[str]
    speakers: Mapped[int | None]
    track: Mapped[int | None]
    recording: Mapped[str | None] = mapped_column(index=True)
    """Id that the recording has or will have."""
    losing: Mapped[int | None]
    """How many corrections may be lost by hearing it again; NULL where a file is taken in."""
    is_attached: Mapped[bool] = mapped_column(default=False)
    """Whether the file is the media of ``recording``, an imported transcript."""
    state: Mapped[str]
    error: Mapped[str | None]
    can_retry: Mapped[bool] = mapped_column(default=True)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The latest report while it runs."""
    queued_at: Mapped[float]
    """Seconds since 1970; the queue's order."""
    cancelled: Mapped[bool] = mapped_column(default=False)
    """Whether somebody wants it stopped."""
    worker: Mapped[str | None]
    """The process that works on it."""
    lease_until: Mapped[float | None]
    """When another process may take it, unless that one says meanwhile that it is alive."""
    begun: Mapped[int] = mapped_column(default=0)
    """How often it was begun in a row with the process ending before anything came of it."""
    left_at: Mapped[float | None] = mapped_column(index=True)
    """When it left the queue, done or given up; NULL while it is in it."""
    person_id: Mapped[int | None]
    """Who sent it; NULL for nobody with an account."""


class Database:
    """An open database, migrated to the newest schema; where it cannot be written, it is only read.

    Args:
        location: The database file, or a SQLAlchemy URL: ``sqlite:////folder/library.sqlite`` or
            ``postgresql+psycopg://user:password@host/database``. A file's name is taken as it is: ``%20``,
            ``?`` and ``#`` mean nothing in it.
        read_only: Whether it is only read, even where it can be written.

    Attributes:
        backend: What kind of database it is.
        read_only: Why it is only read, as the error of what would write to it; None where it is written, too.
        otherwise: In whose name it is asked where nobody is named (``index.store.access``).
        has_people: Whether anybody has an account.

    Raises:
        MossAgentError: It cannot be opened.
        DatabaseAway: Its server does not answer.
        DiskFull: There is none, and no room for one.
        ReadOnly: It cannot be written, and there is none, or it must be migrated.
    """

    def __init__(self, location: Path | str, read_only: bool = False) -> None:
        self.backend = _backend(location)
        self.read_only: MossAgentError | None = None
        try:
            with self.backend.explaining(None):
                if read_only or not self.backend.is_writable():
                    self.read_only = self.backend.not_writable()
                    self.engine = self._open_read_only()
                else:
                    self.engine = self._open()
        except SQLAlchemyError as error:
            raise MossAgentError(
                f"The database {self.backend.place} cannot be opened ({type(error).__name__}); "
                "check its folder and permissions."
            ) from error
        self.otherwise: Actor = EVERYTHING
        self.has_people = False
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        guard(self._sessions, Base, self)

    def _open(self) -> Engine:
        """Open it for writing; where that fails, for reading if that needs less."""
        engine = self.backend.open(read_only=False)
        try:
            migrate(engine, self.backend)
        except SQLAlchemyError as error:
            engine.dispose()
            self.read_only = self.backend.full_but_readable(error)
            if self.read_only is None:
                raise
            return self._open_read_only()
        return engine

    def _open_read_only(self) -> Engine:
        """Open it without making or changing anything.

        Raises:
            ReadOnly: There is none, or it must be migrated.
            SQLAlchemyError: It cannot be opened.
        """
        engine = self.backend.open(read_only=True)
        with engine.connect() as connection:
            is_newest = self.backend.revision(connection) == newest_revision()
        if not is_newest:
            engine.dispose()
            raise self.backend.must_be_migrated()
        return engine

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """A transaction that nobody else's writing comes between, from its first read on.

        Raises:
            DatabaseAway, DiskFull, ReadOnly: As in ``transaction``.
            Busy: Somebody else has been writing for long.
        """
        if self.read_only is not None:
            raise self.read_only
        with self.transaction() as session:
            self.backend.begin_alone(session.connection())
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseAway: Its server does not answer.
            DiskFull: There is no room for what was to be written.
            ReadOnly: Something was to be written, and the database is only read.
        """
        with self.backend.explaining(self.read_only), self._sessions.begin() as session:
            yield session

    @contextmanager
    def holding(self, name: str, cancel: threading.Event | None = None, wait: bool = True) -> Iterator[None]:
        """Keep all others, threads and processes, from holding the same name, for as long as it takes.

        Raises:
            Busy: Somebody else holds it, and it is not waited for.
            Cancelled: ``cancel`` was set while it was waited for.
            DatabaseAway: The server does not answer.
        """
        with ExitStack() as held:
            with self.backend.explaining(self.read_only):
                held.enter_context(self.backend.holding(self.engine, name, cancel, wait))
            yield

    @contextmanager
    def watching(self) -> Iterator[Callable[[], object]]:
        """A function that answers something else once anybody has written, here or in another process."""
        with self.engine.connect() as connection:
            yield lambda: self.backend.changes(connection)

    def rewrite(self) -> None:
        """Leave no byte of deleted rows in the database's files, as far as they are this program's."""
        reason = self.backend.rewrite(self.engine)
        if reason:
            _log.debug("not rewritten: %s", reason)
            _log.warning(
                "The data was deleted, but traces of it remain in the database file until the next deletion, "
                "because another program is using the file or the disk is full."
            )

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _backend(location: Path | str) -> Backend:
    """What kind of database a file or a URL is.

    Raises:
        MossAgentError: It is none that can be used.
    """
    if isinstance(location, Path):
        # Built, not written: in a URL's text a path's “%20”, “?” and “#” would mean something else. SQLite
        # itself reads names that begin with “file:” as URIs, which an absolute path never does.
        return Sqlite(URL.create("sqlite", database=str(location.absolute())))
    with suppress(ArgumentError):
        url = make_url(location)
        if url.drivername in ("postgresql+psycopg", "postgresql", "postgres"):
            return Postgresql(url)
        if url.get_backend_name() == "sqlite":
            return Sqlite(url)
    raise MossAgentError(
        "MOSS_AGENT_DATABASE must look like postgresql+psycopg://user:password@host/database, or like "
        "sqlite:////folder/file."
    )


def migrate(engine: Engine, backend: Backend) -> None:
    """Bring the schema to the newest revision and the searched words to the newest fold, all or nothing.

    A new database gets all of it. Where there is nothing to do, Alembic, which takes a tenth of a second to
    import, is not asked.
    """
    with engine.connect() as connection:
        if _is_newest(connection, backend):
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        # Who comes second waits, and finds everything done.
        backend.begin_alone(connection)
        if _is_newest(connection, backend):
            return  # another process was faster
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _fold_anew(connection, backend)


def _fold_anew(connection: Connection, backend: Backend) -> None:
    """Fold every passage again where another version of the fold did it; triggers follow in the index."""
    if backend.fold_version(connection) == FOLD_VERSION:
        return
    last = 0
    while rows := connection.execute(_PASSAGES_BEHIND, {"last": last, "most": PASSAGES_AT_ONCE}).all():
        folded = [{"id": row.id, "folded": fold(row.text)} for row in rows]
        connection.execute(text("UPDATE passages SET folded = :folded WHERE id = :id"), folded)
        last = rows[-1].id
    backend.set_fold_version(connection, FOLD_VERSION)


PASSAGES_AT_ONCE = 1_000
_PASSAGES_BEHIND = text("SELECT id, text FROM passages WHERE id > :last ORDER BY id LIMIT :most")


def newest_revision() -> str:
    """The revision that the newest file of migrations makes, e.g. ``0007``."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("m[0-9]*.py"))


def _is_newest(connection: Connection, backend: Backend) -> bool:
    """Whether a database has the newest schema, and its words the newest fold."""
    is_newest = backend.revision(connection) == newest_revision()
    return is_newest and backend.fold_version(connection) == FOLD_VERSION
