"""What differs between the two databases that can hold a library: SQLite, and PostgreSQL on a server.

Nothing outside this file and the migrations asks which of them it is.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Select, create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from index.disk_space import disk_full, is_disk_full, noticing_full_disk
from index.recording_errors import Busy, Cancelled, DatabaseAway, DiskFull, MossAgentError, ReadOnly
from index.store.access import CHECKED

PATIENCE_SECONDS = 30
"""How long what is to be written waits for somebody else's writing."""


class Backend(ABC):
    """A kind of database, and where it is.

    Attributes:
        place: Where it is, as it is told to the user; never with a password.
        position: The SQL function ``(text, part)`` that says where in a text a part is, from 1; 0: nowhere.
        is_shared: Whether several processes may take recordings in.
    """

    place: str
    position: str
    is_shared: bool

    @abstractmethod
    def is_writable(self) -> bool:
        """Whether it can be written, as far as that can be told without opening it."""

    @abstractmethod
    def not_writable(self) -> ReadOnly:
        """The error for a database that cannot be written."""

    @abstractmethod
    def must_be_migrated(self) -> ReadOnly:
        """The error for a database of an older version that is only read."""

    @abstractmethod
    def open(self, read_only: bool) -> Engine:
        """Its connections; where it is only read, no file is made or changed.

        Raises:
            ReadOnly: There is none, and it is only read.
        """

    @abstractmethod
    def full_but_readable(self, error: Exception) -> MossAgentError | None:
        """Why it can still be read, after it could not be opened for writing; None where it cannot.

        Raises:
            DiskFull: There is no room for a new one.
        """

    @abstractmethod
    def explaining(self, read_only: MossAgentError | None) -> AbstractContextManager[None]:
        """Turn what the database raises into errors for the user, where there is something to say.

        Args:
            read_only: Why the database is only read.
        """

    @abstractmethod
    def begin_alone(self, connection: Connection) -> None:
        """Begin a transaction that nobody else's writing comes between."""

    @abstractmethod
    def begin_reading(self, connection: Connection) -> None:
        """Begin a transaction that sees the rows as they are now, whatever is written meanwhile."""

    @abstractmethod
    def holding(
        self, engine: Engine, name: str, cancel: threading.Event | None = None, wait: bool = True
    ) -> AbstractContextManager[None]:
        """Keep everybody else from holding the same name; a process that ends lets go of it.

        Raises:
            Busy: Somebody else holds it, and it is not waited for.
            Cancelled: ``cancel`` was set while it was waited for.
        """

    @abstractmethod
    def revision(self, connection: Connection) -> str | None:
        """The newest migration that was made; None in an empty database."""

    @abstractmethod
    def fold_version(self, connection: Connection) -> int:
        """The version of ``index.folding`` that its words were folded by; 0 where none was."""

    @abstractmethod
    def set_fold_version(self, connection: Connection, version: int) -> None:
        """Keep by which version its words were folded."""

    @abstractmethod
    def changes(self, connection: Connection) -> object:
        """Something that is another one when other connections have written since."""

    @abstractmethod
    def new_number(self, session: Session, table: str) -> int:
        """The ``id`` of a row that is yet to come, which no other row of the table ever had."""

    @abstractmethod
    def begin_numbers_after(self, connection: Connection, table: str, used: int) -> None:
        """Let new rows of a table have an ``id`` larger than ``used``, which other rows had."""

    @abstractmethod
    def forget_words(self, session: Session) -> None:
        """Drop words of deleted passages from the keyword index, in the transaction that deletes them."""

    @abstractmethod
    def rewrite(self, engine: Engine) -> str:
        """Leave no byte of deleted rows; returns why it could not be done, empty if it was."""

    @abstractmethod
    def passages(self, session: Session) -> int:
        """Number of passages of the library, whoever may see them; it is asked at every search."""

    @abstractmethod
    def best_passages(
        self,
        session: Session,
        phrases: Sequence[str],
        recording: str | None,
        most: int,
        among: Select[Any] | None = None,
    ) -> list[int]:
        """Numbers of the passages that have any of the phrases, by BM25, best first.

        A phrase counts where its words stand in a row, each in any form of it (Porter's stems). k1 is 1.2 and
        b 0.75; how rare a phrase is, is counted over the whole library (https://www.sqlite.org/fts5.html,
        section 5.1.1).

        Args:
            session: Of a transaction.
            phrases: Folded words with one space between them.
            recording: Only passages of this one.
            most: At most this many.
            among: Ids of the only recordings whose passages count, as a query; None for all.
        """


class Sqlite(Backend):
    """A file on this machine."""

    position = "instr"
    is_shared = False

    def __init__(self, url: URL) -> None:
        self.url = url
        self.path = Path(url.database or ".").absolute()
        self.place = str(self.path)
        self._folder = self.path.parent
        self._held: dict[str, threading.Lock] = {}

    def is_writable(self) -> bool:
        """Whether the file, or its folder, can be written."""
        return is_writable(self.path)

    def not_writable(self) -> ReadOnly:
        """The error for its folder."""
        return not_writable(self._folder)

    def must_be_migrated(self) -> ReadOnly:
        """The error for a file of an older version."""
        return ReadOnly(
            f"The library in {self._folder} was made by another version and must be converted, but it "
            "cannot be written; correct its permissions, then run `moss-agent list` once."
        )

    def open(self, read_only: bool) -> Engine:
        """See ``Backend.open``."""
        if not read_only:
            engine = create_engine(self.url)
            event.listen(engine, "connect", _prepare_sqlite)
            return engine
        if not self.path.is_file():
            raise ReadOnly(
                f"There is no library in {self._folder}, and none can be made, because it cannot be written; "
                "choose another folder with --home or MOSS_AGENT_HOME."
            )

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(
                read_only_uri(self.path), uri=True, timeout=PATIENCE_SECONDS, check_same_thread=False
            )

        return create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    def full_but_readable(self, error: Exception) -> MossAgentError | None:
        """A full disk needs no room to be read."""
        if not is_disk_full(error, self._folder):
            return None
        full = disk_full(self._folder)
        if not self.path.exists() or self.path.stat().st_size == 0:
            raise full from error
        return full

    @contextmanager
    def explaining(self, read_only: MossAgentError | None) -> Iterator[None]:
        """A full disk, and a database that is only read."""
        try:
            with noticing_full_disk(self._folder):
                yield
        except OperationalError as error:
            if read_only is not None and "readonly database" in str(error):
                raise read_only from error
            raise

    def begin_alone(self, connection: Connection) -> None:
        """Python's driver would begin at the first row that is written, after what was read for it.

        Where tables are changed, it would not begin at all.
        """
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_reading(self, connection: Connection) -> None:
        """Its first read decides what it sees; it may be open for reading only."""
        connection.exec_driver_sql("BEGIN")

    @contextmanager
    def holding(
        self, engine: Engine, name: str, cancel: threading.Event | None = None, wait: bool = True
    ) -> Iterator[None]:
        """The home folder's lock keeps other processes away already; threads of this one are left."""
        held = self._held.setdefault(name, threading.Lock())
        while not held.acquire(timeout=0.5 if wait else 0.0):
            if not wait:
                raise Busy("This recording is being worked on; try again when that is done.")
            if cancel is not None and cancel.is_set():
                raise Cancelled("Stopped before it began; somebody else works on it.")
        try:
            yield
        finally:
            held.release()

    def revision(self, connection: Connection) -> str | None:
        """See ``Backend.revision``."""
        tables = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        return None if tables.first() is None else _revision(connection)

    def fold_version(self, connection: Connection) -> int:
        """SQLite's ``user_version``, which is 0 in a new file."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def set_fold_version(self, connection: Connection, version: int) -> None:
        """See ``fold_version``."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    def changes(self, connection: Connection) -> object:
        """What other connections have written, be they in this program or another one."""
        return connection.exec_driver_sql("PRAGMA data_version").scalar()

    def new_number(self, session: Session, table: str) -> int:
        """One more than the largest that there ever was; the table says AUTOINCREMENT."""
        newest = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        used = session.scalar(newest, {"table": table}, execution_options=CHECKED)
        return 1 + int(used or 0)

    def begin_numbers_after(self, connection: Connection, table: str, used: int) -> None:
        """The largest ``id`` counts by itself, but for tables that say AUTOINCREMENT."""
        value = {"table": table, "used": used}
        made = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = :table"), value)
        if "AUTOINCREMENT" in str(made).upper():
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :table AND seq < :used"), value)
            there = text("SELECT 1 FROM sqlite_sequence WHERE name = :table")
            if connection.execute(there, value).first() is None:
                connection.execute(text("INSERT INTO sqlite_sequence VALUES (:table, :used)"), value)

    def forget_words(self, session: Session) -> None:
        """FTS5's own secure-delete needs SQLite 3.42; merging everything drops deleted words too."""
        merge = text("INSERT INTO passages_fts(passages_fts) VALUES('optimize')")
        session.execute(merge, execution_options=CHECKED)

    def rewrite(self, engine: Engine) -> str:
        """Write the file anew.

        ``secure_delete`` alone is not enough: when SQLite balances its trees, copies of keys stay behind in
        the unused part of pages.
        """
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                connection.execute(text("VACUUM"))
                busy = bool(connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar())
                return "another program is using the file" if busy else ""
            except OperationalError as error:  # another process reads or writes, or the disk is full
                return str(error.orig)

    def passages(self, session: Session) -> int:
        """Counted: the smallest index of the table is read, without the rows."""
        return int(session.scalar(text("SELECT count(*) FROM passages"), execution_options=CHECKED) or 0)

    def best_passages(
        self,
        session: Session,
        phrases: Sequence[str],
        recording: str | None,
        most: int,
        among: Select[Any] | None = None,
    ) -> list[int]:
        """FTS5's own BM25."""
        # Alone, FTS5 keeps only the best rows while it ranks; a join would fetch every match's passage first.
        sql = "SELECT rowid FROM passages_fts WHERE passages_fts MATCH :words {} ORDER BY rank LIMIT :most"
        # A recording's passages are numbered without a gap, in the one transaction that stores them, so a
        # range of numbers is exact; `rowid IN (…)` would rank the whole library's matches first.
        inside = (
            "AND rowid BETWEEN (SELECT min(id) FROM passages WHERE recording_id = :recording)"
            " AND (SELECT max(id) FROM passages WHERE recording_id = :recording)"
            if recording
            else ""
        )
        if among is not None:
            # Before the best are chosen: what somebody may not see must not take the place of what they may.
            inside += (
                f" AND rowid IN (SELECT id FROM passages WHERE recording_id IN ({_written(session, among)}))"
            )
        # Quoted, nothing in a phrase can act as an operator (section 3.1 of the same page).
        words = " OR ".join(f'"{phrase}"' for phrase in phrases)
        values = {"words": words, "recording": recording, "most": most}
        return list(session.scalars(text(sql.format(inside)), values, execution_options=CHECKED))


class Postgresql(Backend):
    """A database on a PostgreSQL server, which several processes on several machines may use."""

    position = "strpos"
    is_shared = True

    def __init__(self, url: URL) -> None:
        self.url = url.set(drivername="postgresql+psycopg")
        host = url.host or url.query.get("host") or "this machine"
        self.place = f"{host if isinstance(host, str) else host[0]}:{url.port or 5432}/{url.database or ''}"

    @property
    def address(self) -> str:
        """Its address as PostgreSQL's own library takes it, with the password."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def is_writable(self) -> bool:
        """Only the server knows."""
        return True

    def not_writable(self) -> ReadOnly:
        """The error for a server, or a user of it, that only reads."""
        return ReadOnly(
            f"The database {self.place} can be read, but not written; use its primary server and a user that "
            "owns its tables."
        )

    def must_be_migrated(self) -> ReadOnly:
        """The error for a database of an older version."""
        return ReadOnly(
            f"The library in {self.place} was made by another version and must be converted, but it is only "
            "read here; run `moss-agent list` once where it can be written."
        )

    def open(self, read_only: bool) -> Engine:
        """See ``Backend.open``."""
        options = {
            # The passages that have a common word are ranked in memory.
            "work_mem": "32MB",
            # What waits longer for somebody else's writing, or forgets that it writes, is stopped.
            "lock_timeout": f"{PATIENCE_SECONDS}s",
            "idle_in_transaction_session_timeout": "600s",
            # A machine that is gone is noticed, and what it held is let go of.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "default_transaction_read_only": "on" if read_only else "off",
        }
        engine = create_engine(
            self.url,
            # A connection that the server has closed is replaced before anybody meets it.
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=30,
            connect_args={
                "connect_timeout": 10,
                "application_name": "moss-agent",
                "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            },
        )
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "begin", _begun)
        event.listen(engine, "before_cursor_execute", _share_writing)
        with engine.connect() as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                engine.dispose()
                raise MossAgentError(
                    f"The database {self.place} is encoded in {encoding}; make it with ENCODING 'UTF8'."
                )
        return engine

    def full_but_readable(self, error: Exception) -> MossAgentError | None:
        """A server that only reads, a standby for one."""
        problem = self._problem(error)
        return problem if isinstance(problem, ReadOnly | DiskFull) else None

    @contextmanager
    def explaining(self, read_only: MossAgentError | None) -> Iterator[None]:
        """A server that is away, full, or only reads."""
        try:
            yield
        except (DBAPIError, NoConnection) as error:
            problem = self._problem(error)
            if problem is None:
                raise
            raise (read_only if read_only and isinstance(problem, ReadOnly) else problem) from error

    def _problem(self, error: Exception) -> MossAgentError | None:
        """What an error means to the user (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
        if isinstance(error, NoConnection):
            return Busy("Too much is being done with the database at once; try again.")
        if not isinstance(error, DBAPIError):
            return None
        code = getattr(error.orig, "sqlstate", None) or ""
        if code == "53100":
            return DiskFull(
                f"The disk of the database {self.place} is full; free some space on its server and try "
                "again. What was finished is kept."
            )
        if code in ("25006", "42501"):
            return self.not_writable()
        if code in ("55P03", "40001", "40P01"):
            return Busy("Somebody else is changing the same; try again.")
        is_gone = code[:2] in ("08", "28", "3D", "53", "57") or (
            isinstance(error, OperationalError) and not code
        )
        if is_gone or error.connection_invalidated:
            return self.away(error.orig)
        return None

    def away(self, error: BaseException | None) -> DatabaseAway:
        """The error for a server that cannot be used now."""
        said = str(error).strip().splitlines()
        reason = said[0].rpartition("failed: ")[2].rpartition("FATAL:")[2].strip() if said else ""
        return DatabaseAway(
            f"The database {self.place} cannot be used{f' ({reason})' if reason else ''}; start its server, "
            "or correct MOSS_AGENT_DATABASE."
        )

    def begin_alone(self, connection: Connection) -> None:
        """Whoever writes shares a lock, from the first row that is written on; here nobody shares it."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITING})")
        connection.info[_SHARES] = True

    def begin_reading(self, connection: Connection) -> None:
        """Nobody else writes before it ends."""
        self.begin_alone(connection)

    @contextmanager
    def holding(
        self, engine: Engine, name: str, cancel: threading.Event | None = None, wait: bool = True
    ) -> Iterator[None]:
        """A lock of the server, which it lets go of when the connection ends."""
        key = {"name": name}
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            take = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
            while not connection.scalar(take, key):
                if not wait:
                    raise Busy("Another process is working on this recording; try again when it is done.")
                if cancel is not None and cancel.is_set():
                    raise Cancelled("Stopped before it began; another process works on it.")
                (cancel or threading.Event()).wait(0.5)
            try:
                yield
            finally:
                # Where the connection is gone, so is the lock.
                with suppress(DBAPIError):
                    connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), key)

    def revision(self, connection: Connection) -> str | None:
        """See ``Backend.revision``."""
        there = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        return None if there is None else _revision(connection)

    def fold_version(self, connection: Connection) -> int:
        """Kept as the comment of the table of words."""
        said = connection.exec_driver_sql("SELECT obj_description('passage_words'::regclass)").scalar()
        return int(said or 0)

    def set_fold_version(self, connection: Connection, version: int) -> None:
        """See ``fold_version``."""
        connection.exec_driver_sql(f"COMMENT ON TABLE passage_words IS '{version}'")

    def changes(self, connection: Connection) -> object:
        """Transactions that write are numbered in the order in which they begin to."""
        newest = text("SELECT pg_current_snapshot()::text")
        with suppress(DBAPIError), connection.begin():
            return connection.scalar(newest)
        return object()

    def new_number(self, session: Session, table: str) -> int:
        """The next of the table's sequence, which is nobody else's any more."""
        following = text("SELECT nextval(pg_get_serial_sequence(:table, 'id'))")
        return int(session.scalar(following, {"table": table}, execution_options=CHECKED))

    def begin_numbers_after(self, connection: Connection, table: str, used: int) -> None:
        """Rows that came with their ``id`` have taken none from the table's sequence."""
        if used > 0:
            following = text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :used)")
            connection.execute(following, {"table": table, "used": used})

    def forget_words(self, session: Session) -> None:
        """Triggers have done it."""

    def rewrite(self, engine: Engine) -> str:
        """The server reuses the room of deleted rows; its log and its copies are its administrator's."""
        return ""

    def passages(self, session: Session) -> int:
        """Added up: the triggers that index words keep the number of each recording's."""
        total = text("SELECT coalesce(sum(passages), 0) FROM passage_totals")
        return int(session.scalar(total, execution_options=CHECKED) or 0)

    def best_passages(
        self,
        session: Session,
        phrases: Sequence[str],
        recording: str | None,
        most: int,
        among: Select[Any] | None = None,
    ) -> list[int]:
        """BM25 over ``passage_words``, which holds what FTS5's index does but for the places of words.

        Phrases of several words are rare (``10:30``): they are counted in the passages that have all of
        their words.
        """
        values: dict[str, Any] = {
            "words": [phrase for phrase in phrases if " " not in phrase],
            "recording": recording,
            "most": most,
        }
        counts, hits = "", _WORD_HITS
        for number, (phrase, weight) in enumerate(Counter(p for p in phrases if " " in p).items()):
            first, *rest = phrase.split()
            values |= {
                f"parts{number}": sorted({first, *rest}),
                f"weight{number}": weight,
                # Between words stand two spaces, so that one ends where the next begins.
                f"pattern{number}": f" {first}(?={''.join(f'  {word}' for word in rest)} )",
            }
            counts += _PHRASE.replace("#", str(number))
            hits += _PHRASE_HITS.replace("#", str(number))
        wanted = ["recording_id = :recording"] if recording else []
        wanted += [f"recording_id IN ({_written(session, among)})"] if among is not None else []
        inside = f"JOIN passages ON passages.id = passage_id AND {' AND '.join(wanted)}" if wanted else ""
        sql = _RANKED.format(counts=counts, hits=hits, inside=inside)
        return list(session.scalars(text(sql), values, execution_options=CHECKED))


def _written(session: Session, among: Select[Any]) -> str:
    """A query of ``index.store.access`` as text; the values in it are numbers of ours."""
    return str(among.compile(session.connection().engine, compile_kwargs={"literal_binds": True}))


_RANKED = """
    WITH library AS (
        SELECT CAST(sum(passages) AS float8) AS passages, CAST(sum(words) AS float8) / sum(passages) AS mean
        FROM passage_totals
    ),
    asked AS MATERIALIZED (
        SELECT word, weight,
            (SELECT count(*) FROM passage_words WHERE passage_words.word = stems.word) AS found
        FROM (
            SELECT library_stem(written) AS word, count(*) AS weight
            FROM unnest(CAST(:words AS text[])) AS words(written) GROUP BY 1
        ) AS stems
    ){counts},
    hits AS ({hits})
    SELECT passage_id
    FROM hits CROSS JOIN library {inside}
    GROUP BY passage_id
    ORDER BY sum(
        weight * greatest(ln((passages - found + 0.5) / (found + 0.5)), 1e-6)
        * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * hits.words / mean))
    ) DESC, passage_id
    LIMIT :most
"""
_WORD_HITS = """
    SELECT passage_id, CAST(weight AS float8) AS weight, CAST(found AS float8) AS found,
        CAST(times AS float8) AS times, CAST(words AS float8) AS words
    FROM asked JOIN passage_words USING (word)
"""
_PHRASE = """,
    phrase# AS MATERIALIZED (
        SELECT passage_id, times, words
        FROM (
            SELECT passage_id, max(words) AS words
            FROM passage_words WHERE word = ANY(CAST(:parts# AS text[]))
            GROUP BY passage_id HAVING count(*) = cardinality(CAST(:parts# AS text[]))
        ) AS has_all
        JOIN passages ON passages.id = passage_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS times FROM regexp_matches(
                '  ' || regexp_replace(folded, '[ .,:]+', '  ', 'g') || '  ', :pattern#, 'g'
            )
        ) AS counted
        WHERE times > 0
    )
"""
_PHRASE_HITS = """
    UNION ALL SELECT passage_id, :weight#, (SELECT count(*) FROM phrase#), times, words FROM phrase#
"""

_WRITING = 7_340_201
"""Number of the server's lock for writing; any would do that nobody else takes in this database."""

_SHARES = "shares the lock for writing"


def _begun(connection: Connection) -> None:
    connection.info.pop(_SHARES, None)


def _share_writing(
    connection: Connection, cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
) -> None:
    """Before a transaction's first row is written or locked, wait until nobody writes alone.

    Always in this order: who held a row while they wait for ``begin_alone`` would keep it from ending.
    """
    if _SHARES in connection.info:
        return
    locks_rows = "FOR UPDATE" in statement[-40:].upper()
    if locks_rows or statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
        cursor.execute(f"SELECT pg_advisory_xact_lock_shared({_WRITING})")
        connection.info[_SHARES] = True


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """PostgreSQL keeps no zero character in a text, which SQLite does."""
    from psycopg.types.string import StrDumperUnknown

    class WithoutZero(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "") if "\0" in obj else obj)

    connection.adapters.register_dumper(str, WithoutZero)


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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Enforce foreign keys, let readers go on while one writes, and overwrite what is deleted."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={PATIENCE_SECONDS * 1000}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _revision(connection: Connection) -> str | None:
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
