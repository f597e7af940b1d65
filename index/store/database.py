"""The database: the one source of truth, SQLite through SQLAlchemy 2, migrated by Alembic.

Everything else (the Chroma collection, exports) can be rebuilt from these tables. Times are seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, UniqueConstraint, create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from index.recording_errors import MossAgentError

_log = logging.getLogger(__name__)


class Base(DeclarativeBase):
    """Base of all tables."""


class RecordingRow(Base):
    """One media file; ``id`` is the SHA-256 of its bytes."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    source_name: Mapped[str]
    duration: Mapped[float] = mapped_column(default=0.0)
    status: Mapped[str] = mapped_column(default="listening")
    added_at: Mapped[str]
    language: Mapped[str | None]
    coverage: Mapped[float | None]
    gaps: Mapped[list[list[float]]] = mapped_column(JSON, default=list)
    speech: Mapped[list[list[float]] | None] = mapped_column(JSON)
    """Detected speech as ``[start, end]`` pairs; NULL until detection ran."""
    engine: Mapped[str] = mapped_column(default="")
    expected_speakers: Mapped[int | None]
    error: Mapped[str | None]
    """Why the last attempt failed; None after one that did not."""
    note: Mapped[str | None]
    """What could not be done though the recording is usable, e.g. that the file is cut short."""
    seconds_taken: Mapped[float] = mapped_column(default=0.0)


class WindowRow(Base):
    """A stretch of audio that is transcribed in one go; ``done`` flips in the transaction that stores it."""

    __tablename__ = "windows"
    __table_args__ = (UniqueConstraint("recording_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    number: Mapped[int]
    start: Mapped[float]
    end: Mapped[float]
    done: Mapped[bool] = mapped_column(default=False)
    labelled: Mapped[bool] = mapped_column(default=False)
    """Whether a model was asked who speaks in it; flips in the transaction that stores what it said."""


class SoundWindowRow(Base):
    """A stretch of audio that is listened to for sounds in one go; ``done`` as in ``WindowRow``."""

    __tablename__ = "sound_windows"
    __table_args__ = (UniqueConstraint("recording_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    number: Mapped[int]
    start: Mapped[float]
    end: Mapped[float]
    done: Mapped[bool] = mapped_column(default=False)


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
    __table_args__ = (Index("ix_segments_time", "recording_id", "start", "end"),)

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
    engine: Mapped[str] = mapped_column(default="")
    voice_label_part: Mapped[int | None]
    """In which part of its window ``voice_label`` means one voice, from 0."""
    voice_label: Mapped[str | None]
    """What a model calls its speaker, for example ``S01``; NULL where it has no label."""
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)


class PassageRow(Base):
    """Neighbouring segments retrieved together; ``embedding`` is float32, unit length."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_time", "recording_id", "start"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    start: Mapped[float]
    end: Mapped[float]
    text: Mapped[str]
    segment_ids: Mapped[list[int]] = mapped_column(JSON)
    embedder: Mapped[str]
    embedding: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class ThreadRecordingRow(Base):
    """Which conversations quoted which recording, so that removing it can remove them too."""

    __tablename__ = "thread_recordings"

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )


class Database:
    """An open database, migrated to the newest schema.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////home/me/.local/share/moss-agent/library.sqlite``.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite"):
            raise MossAgentError(
                "Only SQLite databases work yet; MOSS_AGENT_DATABASE_URL must look like sqlite:////folder/file."
            )
        try:
            self.engine = create_engine(url)
            event.listen(self.engine, "connect", _prepare_sqlite)
            migrate(self.engine)
        except SQLAlchemyError as error:
            raise MossAgentError(
                f"The database {url} cannot be opened ({type(error).__name__}); check its folder and rights."
            ) from error
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._sessions.begin() as session:
            yield session

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
                "What was deleted is gone, but traces stay in the database file until the next deletion: "
                "another program is using it, or the disk is full."
            )

    def close(self) -> None:
        """Release every connection."""
        self.engine.dispose()


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
    """Bring the schema to the newest revision; a new database gets all of it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
