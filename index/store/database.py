"""The database: the one source of truth, SQLite through SQLAlchemy 2, migrated by Alembic.

Everything else (the Chroma collection, exports) can be rebuilt from these tables. Times are seconds.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, Connection, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import QueuePool

from index.disk_space import disk_full, is_disk_full, noticing_full_disk
from index.folding import FOLD_VERSION, fold
from index.recording_errors import MossAgentError, ReadOnly
from index.records import Note, NoteKind, Span, StageName, Status
from index.store.access import EVERYTHING, Actor, guard

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
    """float32, unit length."""


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


class Database:
    """An open database, migrated to the newest schema; where it cannot be written, it is only read.

    Args:
        location: The database file, or a SQLAlchemy URL, e.g. ``sqlite:////folder/library.sqlite``. A file's
            name is taken as it is: ``%20``, ``?`` and ``#`` mean nothing in it.
        read_only: Whether it is only read, even where it can be written.

    Attributes:
        folder: Where the database file lies.
        read_only: Why it is only read, as the error of what would write to it; None where it is written, too.
        otherwise: In whose name it is asked where nobody is named (``index.store.access``).
        has_people: Whether anybody has an account.

    Raises:
        MossAgentError: It cannot be opened.
        DiskFull: There is none, and no room for one.
        ReadOnly: It cannot be written, and there is none, or it must be migrated.
    """

    def __init__(self, location: Path | str, read_only: bool = False) -> None:
        url = _url(location)
        if url is None or url.get_backend_name() != "sqlite":
            raise MossAgentError(
                "Only SQLite databases are supported so far; "
                "MOSS_AGENT_DATABASE_URL must look like sqlite:////folder/file."
            )
        path = Path(url.database or ".").absolute()
        self.folder = path.parent
        self.read_only: MossAgentError | None = None
        try:
            if read_only or not is_writable(path):
                self.read_only = not_writable(self.folder)
                self.engine = _open_read_only(path)
            else:
                self.engine = self._open(url, path)
        except SQLAlchemyError as error:
            raise MossAgentError(
                f"The database {path} cannot be opened ({type(error).__name__}); "
                "check its folder and permissions."
            ) from error
        self.otherwise: Actor = EVERYTHING
        self.has_people = False
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        guard(self._sessions, Base, self)

    def _open(self, url: URL, path: Path) -> Engine:
        """Open it for writing; on a full disk it is opened for reading, which needs no room."""
        engine = create_engine(url)
        event.listen(engine, "connect", _prepare_sqlite)
        try:
            migrate(engine)
        except SQLAlchemyError as error:
            engine.dispose()
            if not is_disk_full(error, self.folder):
                raise
            self.read_only = disk_full(self.folder)
            if not path.exists() or path.stat().st_size == 0:
                raise self.read_only from error
            return _open_read_only(path)
        return engine

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """A transaction that nobody else's writing comes between, from its first read on.

        Raises:
            DiskFull, ReadOnly: As in ``transaction``.
        """
        if self.read_only is not None:
            raise self.read_only
        with self.transaction() as session:
            # Python's driver would begin at the first row that is written, after what was read for it.
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DiskFull: There is no room for what was to be written.
            ReadOnly: Something was to be written, and the database is only read.
        """
        try:
            with noticing_full_disk(self.folder), self._sessions.begin() as session:
                yield session
        except OperationalError as error:
            if self.read_only is not None and "readonly database" in str(error):
                raise self.read_only from error
            raise

    def rewrite(self) -> None:
        """Write the file anew, so that no byte of deleted rows is left in it or in its log.

        ``secure_delete`` alone is not enough: when SQLite balances its trees, copies of keys stay behind in
        the unused part of pages.
        """
        if self.engine.dialect.name != "sqlite":
            return
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                connection.execute(text("VACUUM"))
                busy = bool(connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar())
            except OperationalError as error:  # another process reads or writes, or the disk is full
                busy = True
                _log.debug("VACUUM failed: %s", error)
        if busy:
            _log.warning(
                "The data was deleted, but traces of it remain in the database file until the next deletion, "
                "because another program is using the file or the disk is full."
            )

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _url(location: Path | str) -> URL | None:
    """The SQLAlchemy URL of a database; None where a text is no URL."""
    if isinstance(location, Path):
        # Built, not written: in a URL's text a path's “%20”, “?” and “#” would mean something else. SQLite
        # itself reads names that begin with “file:” as URIs, which an absolute path never does.
        return URL.create("sqlite", database=str(location.absolute()))
    try:
        return make_url(location)
    except ArgumentError:
        return None


def is_writable(path: Path) -> bool:
    """Whether files can be made and changed in a folder; or a file be changed, and made where there is none.

    A file system that is mounted for reading is not writable, whoever asks.
    """
    by_effective_user = os.access in os.supports_effective_ids
    folder = path if path.is_dir() else path.parent
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK, effective_ids=by_effective_user):
        return False
    return not path.exists() or os.access(path, os.W_OK, effective_ids=by_effective_user)


def not_writable(folder: Path) -> ReadOnly:
    """The error for a folder that cannot be written."""
    return ReadOnly(
        f"{folder} cannot be written, so nothing in it can be changed; correct its permissions, or choose "
        "another folder with --home or MOSS_AGENT_HOME."
    )


def read_only_uri(path: Path) -> str:
    """SQLite's URI (https://www.sqlite.org/uri.html) of a database that is read and never written.

    Without a log beside it, the file is all there is, and SQLite is told that nobody changes it: it would
    make a log of its own even to read. With one, another process may be writing.
    """
    log, shared = (path.with_name(f"{path.name}-{suffix}") for suffix in ("wal", "shm"))
    # A full disk leaves an empty log and a part of the index into it, which takes 32 KiB.
    has_log = (log.exists() and log.stat().st_size > 0) or (
        shared.exists() and shared.stat().st_size >= 32 * 1024
    )
    return f"file:{quote(os.fsencode(path))}?mode=ro{'' if has_log else '&immutable=1'}"


def _open_read_only(path: Path) -> Engine:
    """Open a database without making or changing any file.

    Raises:
        ReadOnly: There is none, or it must be migrated.
        SQLAlchemyError: It cannot be opened.
    """
    if not path.is_file():
        raise ReadOnly(
            f"There is no library in {path.parent}, and none can be made, because it cannot be written; "
            "choose another folder with --home or MOSS_AGENT_HOME."
        )

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(read_only_uri(path), uri=True, timeout=30, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    with engine.connect() as connection:
        is_newest = _is_newest(connection)
    if not is_newest:
        engine.dispose()
        raise ReadOnly(
            f"The library in {path.parent} was made by another version and must be converted, but it "
            "cannot be written; correct its permissions, then run `moss-agent list` once."
        )
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Enforce foreign keys, let readers go on while one writes, and overwrite what is deleted."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision and the searched words to the newest fold, all or nothing.

    A new database gets all of it. Where there is nothing to do, Alembic, which takes a tenth of a second to
    import, is not asked.
    """
    with engine.connect() as connection:
        if _is_newest(connection) and _fold_version(connection) == FOLD_VERSION:
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        # Python's driver begins a transaction before rows are changed, but not before tables are.
        connection.exec_driver_sql("BEGIN")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _fold_anew(connection)


def _fold_anew(connection: Connection) -> None:
    """Fold every passage again where another version of the fold did it; triggers follow in the index.

    SQLite's ``user_version`` holds the version that did it, 0 in a database that was just migrated.
    """
    if _fold_version(connection) == FOLD_VERSION:
        return
    last = 0
    while rows := connection.execute(_PASSAGES_BEHIND, {"last": last, "most": PASSAGES_AT_ONCE}).all():
        folded = [{"id": row.id, "folded": fold(row.text)} for row in rows]
        connection.execute(text("UPDATE passages SET folded = :folded WHERE id = :id"), folded)
        last = rows[-1].id
    connection.exec_driver_sql(f"PRAGMA user_version = {FOLD_VERSION}")


PASSAGES_AT_ONCE = 1_000
_PASSAGES_BEHIND = text("SELECT id, text FROM passages WHERE id > :last ORDER BY id LIMIT :most")


def _fold_version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def newest_revision() -> str:
    """The revision that the newest file of migrations makes, e.g. ``0007``."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("m[0-9]*.py"))


def _is_newest(connection: Connection) -> bool:
    """Whether a database has the newest schema."""
    tables = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
    if tables.first() is None:
        return False
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == newest_revision()
