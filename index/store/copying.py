"""A library's rows from one database into another, whatever kind either is, and a comparison of the two.

Tables are copied one after the other, referenced ones first, each in the order of its keys and a batch a
transaction. What was copied before is left out, so that a copy that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Integer, Table, func, insert, select
from sqlalchemy.engine import Connection

from index.folding import FOLD_VERSION
from index.recording_errors import MossAgentError
from index.store.database import Base, Database

ROWS_AT_ONCE = 500

TOPS = ("recordings", "voices", "watched_files", "synced_notes")
"""Tables of which one has rows wherever somebody has used a library."""

Report = Callable[[int, int], None]
"""Called with how much is done and how much there is; may raise to stop."""


@dataclass(frozen=True)
class Digest:
    """What tells one set of rows from another, whatever order they come in.

    Attributes:
        count: Number of rows.
        sum: SHA-256 of each row, added up modulo 2^256.
    """

    count: int
    sum: int


def tables() -> list[Table]:
    """All tables of a library, referenced ones first."""
    return list(Base.metadata.sorted_tables)


def is_empty(database: Database) -> bool:
    """Whether nobody has used a library yet."""
    with database.engine.connect() as connection:
        found = [Base.metadata.tables[name] for name in TOPS if name in Base.metadata.tables]
        return not any(connection.execute(select(table).limit(1)).first() for table in found)


def count_rows(connection: Connection) -> int:
    """Rows of all tables."""
    counts = (connection.scalar(select(func.count()).select_from(table)) for table in tables())
    return sum(count or 0 for count in counts)


def copy_rows(source: Connection, target: Database, report: Report) -> int:
    """Copy what the target does not have yet; returns how many rows that were.

    Args:
        source: In a transaction, so that what is copied belongs together.
        target: With the same schema.
        report: Told of rows.

    Raises:
        MossAgentError: The target holds recordings that the source does not.
    """
    _refuse_others(source, target)
    total, done, copied = count_rows(source), 0, 0
    for table in tables():
        done += _count(target, table)
        report(min(done, total), total)
        for rows in _batches(source, target, table):
            with target.transaction() as session:
                session.connection().execute(insert(table), rows)
            done, copied = done + len(rows), copied + len(rows)
            report(min(done, total), total)
    with target.engine.begin() as connection:
        for table in tables():
            if _numbered(table):
                used = source_number(source, table)
                target.backend.begin_numbers_after(connection, table.name, used)
    return copied


def source_number(source: Connection, table: Table) -> int:
    """The largest number that a table ever gave; a removed sentence's must not come again."""
    largest = source.scalar(select(func.max(table.c.id))) or 0
    if source.dialect.name != "sqlite" or not table.dialect_options["sqlite"].get("autoincrement"):
        return int(largest)
    query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    return max(int(largest), int(source.exec_driver_sql(query, (table.name,)).scalar() or 0))


def compare(source: Connection, target: Database, report: Report) -> list[str]:
    """The names of tables whose rows are not the same in both; reads all of both."""
    total, done = 2 * count_rows(source), 0
    different = []

    def after(rows: int) -> Callable[[int], None]:
        return lambda more: report(min(rows + more, total), total)

    with target.engine.connect() as other:
        for table in tables():
            digests = []
            for connection in (source, other):
                digests.append(digest(connection, table, after(done)))
                done += digests[-1].count
            if digests[0] != digests[1]:
                different.append(table.name)
    report(total, total)
    return different


def digest(connection: Connection, table: Table, report: Callable[[int], None]) -> Digest:
    """The digest of a table's rows as the program reads them, so that it does not depend on the database.

    ``report`` is called with the rows that were read, now and then; it may raise to stop.
    """
    count = total = 0
    for row in connection.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE)):
        data = json.dumps([_plain(value) for value in row], ensure_ascii=False, separators=(",", ":"))
        total += int.from_bytes(hashlib.sha256(data.encode("utf-8", "surrogatepass")).digest(), "big")
        count += 1
        if count % ROWS_AT_ONCE == 0:
            report(count)
    return Digest(count, total % 2**256)


def check_words(source: Database) -> None:
    """Refuse a library whose words were folded by another version; they are copied as they are.

    Raises:
        ReadOnly: It must be converted first.
    """
    with source.engine.connect() as connection:
        if source.backend.fold_version(connection) != FOLD_VERSION:
            raise source.backend.must_be_migrated()


def _refuse_others(source: Connection, target: Database) -> None:
    table = Base.metadata.tables["recordings"]
    known = set(source.scalars(select(table.c.id)))
    with target.engine.connect() as connection:
        others = [found for found in connection.scalars(select(table.c.id)) if found not in known]
    if others:
        raise MossAgentError(
            f"{target.backend.place} holds {len(others)} recordings that the source does not have; copy into "
            "an empty one."
        )


def _batches(source: Connection, target: Database, table: Table) -> Iterator[list[dict[str, Any]]]:
    """The rows that the target does not have, in the order of their keys."""
    keys = list(table.primary_key.columns)
    query = select(table).order_by(*keys).execution_options(yield_per=ROWS_AT_ONCE)
    there: set[tuple[Any, ...]] = set()
    with target.engine.connect() as connection:
        if _numbered(table):
            last = connection.scalar(select(func.max(table.c.id)))
            query = query if last is None else query.where(table.c.id > last)
        else:
            there = {tuple(row) for row in connection.execute(select(*keys))}
    at = [list(table.columns).index(key) for key in keys]
    for part in source.execute(query).partitions():
        rows = [row for row in part if tuple(row[index] for index in at) not in there]
        if rows:
            yield [dict(row._mapping) for row in rows]


def _numbered(table: Table) -> bool:
    keys = list(table.primary_key.columns)
    return len(keys) == 1 and keys[0].name == "id" and isinstance(keys[0].type, Integer)


def _count(database: Database, table: Table) -> int:
    with database.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def _plain(value: Any) -> Any:
    """A value that JSON writes the same way wherever it came from; PostgreSQL keeps no zero characters."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, bytes | memoryview):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return [[key, _plain(value[key])] for key in sorted(value)]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value)
    return str(value)
