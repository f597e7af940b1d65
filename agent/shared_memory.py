"""Conversations in the PostgreSQL database of the library, where several processes may go on with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from agent.checkpointer import plain_types_only, with_results
from index.store.backends import Postgresql

CONNECTIONS = 10
"""Conversations of one process that are read or written at a time."""

PATIENCE_SECONDS = 5.0
"""How long one of them may take to be had."""

_SETTING_UP = 7_340_202
"""Number of the server's lock for making its tables."""


class SharedCheckpoints(PostgresSaver):
    """Keeps one checkpoint a conversation, as ``agent.checkpointer.NewestCheckpoint`` does.

    Args:
        pool: Connections.
        backend: The database, for what is told when it is away.
    """

    def __init__(self, pool: ConnectionPool[psycopg.Connection[DictRow]], backend: Postgresql) -> None:
        super().__init__(pool, serde=plain_types_only())
        # The saver lets one thread through at a time, for savers with one connection; here each has its own.
        self.lock = cast(Any, nullcontext())
        self._backend = backend

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and delete those before it, with all that only they refer to."""
        stored = super().put(config, checkpoint, metadata, new_versions)
        where = {
            name: stored["configurable"][name] for name in ("thread_id", "checkpoint_ns", "checkpoint_id")
        }
        versions = checkpoint["channel_versions"]
        kept = {"channels": list(versions), "versions": [str(version) for version in versions.values()]}
        with self._cursor(pipeline=True) as cursor:
            for table in ("checkpoints", "checkpoint_writes"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = %(thread_id)s "
                    "AND checkpoint_ns = %(checkpoint_ns)s AND checkpoint_id < %(checkpoint_id)s",
                    where,
                )
            cursor.execute(
                "DELETE FROM checkpoint_blobs WHERE thread_id = %(thread_id)s "
                "AND checkpoint_ns = %(checkpoint_ns)s AND (channel, version) NOT IN "
                "(SELECT * FROM unnest(%(channels)s::text[], %(versions)s::text[]))",
                where | kept,
            )
        return stored

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest checkpoint, its tool messages with typed results."""
        return with_results(super().get_tuple(config))

    @contextmanager
    def _cursor(self, *, pipeline: bool = False) -> Iterator[psycopg.Cursor[DictRow]]:
        """See ``PostgresSaver``.

        Raises:
            DatabaseAway: The server does not answer.
        """
        try:
            with super()._cursor(pipeline=pipeline) as cursor:
                yield cursor
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise self._backend.away(error) from error


class SharedMemory:
    """The conversations of a PostgreSQL database; see ``agent.checkpointer.Memory``.

    Args:
        backend: The database.

    Raises:
        DatabaseAway: The server does not answer.
    """

    def __init__(self, backend: Postgresql) -> None:
        # What a pool cannot reach, it tries again by itself; whoever asks meanwhile is told.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        self._pool = ConnectionPool(
            backend.address,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
            min_size=0,
            max_size=CONNECTIONS,
            timeout=PATIENCE_SECONDS,
            reconnect_timeout=PATIENCE_SECONDS,
            check=ConnectionPool.check_connection,
            open=True,
        )
        self.checkpointer = SharedCheckpoints(
            cast("ConnectionPool[psycopg.Connection[DictRow]]", self._pool), backend
        )
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        """Make the tables, one process at a time, and without waiting in a statement for one's turn.

        The tables' indexes are made in a way that waits for every statement that runs.
        """
        with self.checkpointer._cursor() as cursor:
            while not _one(cursor, f"SELECT pg_try_advisory_lock({_SETTING_UP})"):
                time.sleep(0.05)
            try:
                self.checkpointer.setup()
            finally:
                cursor.execute(f"SELECT pg_advisory_unlock({_SETTING_UP})")

    def forget(self, thread: str) -> None:
        """Delete a conversation."""
        self.checkpointer.delete_thread(thread)

    def threads(self) -> list[str]:
        """Ids of all conversations."""
        with self.checkpointer._cursor() as cursor:
            rows = cursor.execute("SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id").fetchall()
        return [str(row["thread_id"]) for row in rows]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def _one(cursor: psycopg.Cursor[DictRow], statement: str) -> Any:
    row = cursor.execute(statement.encode()).fetchone()
    return None if row is None else next(iter(row.values()))
