"""Conversations, kept in a SQLite database of their own, or where ``agent.shared_memory`` keeps them."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from index.store.backends import read_only_uri
from tools.result import restore, text_of


class NewestCheckpoint(SqliteSaver):
    """Keeps one checkpoint a conversation, the newest, and gives tool messages their typed results back.

    A conversation is read back only as it stands, and every checkpoint holds all of it; keeping them all
    would grow with the square of its length and leave quotes of removed turns behind.
    """

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and delete those before it."""
        stored = super().put(config, checkpoint, metadata, new_versions)
        where = (
            str(stored["configurable"]["thread_id"]),
            stored["configurable"]["checkpoint_ns"],
            stored["configurable"]["checkpoint_id"],
        )
        with self.cursor() as cursor:
            for table in ("checkpoints", "writes"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id < ?",
                    where,
                )
        return stored

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest checkpoint, its tool messages with typed results."""
        return with_results(super().get_tuple(config))

    def delete_thread(self, thread_id: str) -> None:
        """Delete a conversation and overwrite the bytes it occupied."""
        super().delete_thread(thread_id)
        with self.cursor(transaction=False) as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def with_results(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """A checkpoint as it was read, once its tool messages have their typed results."""
    if found is not None:
        for message in found.checkpoint["channel_values"].get("messages", ()):
            if isinstance(message, ToolMessage):
                _restore_result(message)
    return found


def plain_types_only() -> JsonPlusSerializer:
    """What writes and reads checkpoints: LangChain's messages and plain types only.

    Nothing else is ever imported on reading.
    """
    return JsonPlusSerializer(allowed_msgpack_modules=None)


def _restore_result(message: ToolMessage) -> None:
    """Make a typed artifact of the stored one, which is plain data.

    Messages of versions before artifacts have none and hold the result as JSON in their content.
    """
    stored, text = message.artifact, str(message.text)
    if stored is None and message.status == "error":
        return
    message.artifact = restore(str(message.name), stored, text)
    if stored is None:
        message.content = text_of(message.artifact)


class Conversations(Protocol):
    """Where conversations are kept."""

    @property
    def checkpointer(self) -> BaseCheckpointSaver[str]:
        """What the graph keeps its state in."""
        ...

    def forget(self, thread: str) -> None:
        """Delete a conversation."""

    def threads(self) -> list[str]:
        """Ids of all conversations."""
        ...

    def close(self) -> None:
        """Release what is held."""


class Memory:
    """The conversations of one home folder.

    Args:
        path: The SQLite file; made if it is not there.
        read_only: Whether the file is only read: what is said is then forgotten at the end.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        # The saver guards the connection with a lock of its own, so threads may share it.
        place = ":memory:" if read_only else path
        self._connection = sqlite3.connect(place, check_same_thread=False, timeout=30)
        if read_only and path.exists():
            # A conversation that cannot be read cannot be continued; what is asked is answered all the same.
            with suppress(sqlite3.Error), closing(sqlite3.connect(read_only_uri(path), uri=True)) as stored:
                stored.backup(self._connection)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "busy_timeout=30000"):
            self._connection.execute(f"PRAGMA {pragma}")
        self.checkpointer = NewestCheckpoint(self._connection, serde=plain_types_only())
        self.checkpointer.setup()

    def forget(self, thread: str) -> None:
        """Delete a conversation and overwrite the bytes it occupied."""
        self.checkpointer.delete_thread(thread)

    def threads(self) -> list[str]:
        """Ids of all conversations."""
        with self.checkpointer.cursor(transaction=False) as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(
                "SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id"
            ).fetchall()
        return [str(row[0]) for row in rows]

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
