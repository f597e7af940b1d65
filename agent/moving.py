"""A home folder copied into the stores that the settings name: database, vectors, audio, conversations.

    rows → conversations → audio copies → vectors, which are made of the rows → all of it compared

What was copied stays where a run is interrupted, and the next one goes on; a note in the target's home folder
tells it that what the stores hold is of this source. The source is only read.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from langchain_core.runnables import RunnableConfig

from agent.checkpointer import Memory
from agent.workspace import Workspace
from index.recording_errors import Cancelled, HomeInUse, MossAgentError
from index.search.passages import PassageStore
from index.store.audio_files import COPY, digest_of
from index.store.copying import check_words, compare, copy_rows, count_rows, is_empty
from index.store.database import Database
from index.transcription.glossary import HOME_FILE

NOTE = "moving.json"
"""File of the target's home folder that says what is being copied, and when that was finished."""

SAME = 1e-4
"""How far the numbers of a stored vector may be from those in the database: Chroma makes them one long."""

Stage = Literal["rows", "conversations", "audio", "vectors", "comparing"]
Report = Callable[[Stage, int, int], None]
"""Called with the stage, how much of it is done and how much there is."""


@dataclass(frozen=True)
class Moved:
    """What the target holds now, and was compared with the source.

    Attributes:
        recordings, rows, conversations, audio, vectors: How many there are.
        copied: Rows that this run copied; the others were there from an earlier one.
    """

    recordings: int
    rows: int
    conversations: int
    audio: int
    vectors: int
    copied: int


def move(
    source: Path, workspace: Workspace, report: Report | None = None, cancel: threading.Event | None = None
) -> Moved:
    """Copy a home folder into the stores of a workspace, and compare the two.

    Args:
        source: A home folder; nothing in it is changed.
        workspace: Where it goes. What an earlier run has copied is left out.
        report: Told how far it is.
        cancel: Set it to stop; what was copied stays, and the next run goes on.

    Raises:
        Cancelled: ``cancel`` was set.
        HomeInUse: Another process writes to the source.
        ReadOnly: The source must be converted by this version first, or the target cannot be written.
        MossAgentError: The source is none, the target holds something else, or the two are not the same.
    """
    source = source.expanduser().absolute()
    if not (source / "library.sqlite").is_file():
        raise MossAgentError(f"There is no library in {source}; name the home folder that is to be copied.")
    if source.samefile(workspace.home):
        raise MossAgentError(
            f"{source} cannot be copied into itself; choose another folder with --home or MOSS_AGENT_HOME "
            "for what this machine keeps of the deployment."
        )
    with workspace.writing(), _held(source):
        mover = _Mover(source, workspace, report or (lambda *_: None), cancel or threading.Event())
        try:
            with workspace.library.database.backend.explaining(None):
                return mover.run()
        finally:
            mover.close()


class _Mover:
    def __init__(self, source: Path, workspace: Workspace, report: Report, cancel: threading.Event) -> None:
        self.source = source
        self.workspace = workspace
        self.library = workspace.library
        self._report = report
        self._cancel = cancel
        self._note_file = workspace.home / NOTE
        self._database = Database(source / "library.sqlite", read_only=True)
        self._memory = Memory(source / "conversations.sqlite", read_only=True)

    def run(self) -> Moved:
        """See ``move``."""
        check_words(self._database)
        note = self._begun()
        if note["state"] == "done":
            return self._again(note)
        with self._database.engine.connect() as rows:
            # One view of the source from the first row to the last comparison.
            self._database.backend.begin_reading(rows)
            copied = copy_rows(rows, self.library.database, self._stage("rows"))
            conversations = self._conversations()
            audio = self._audio(note)
            vectors = self._vectors()
            different = compare(rows, self.library.database, self._stage("comparing"))
            total = count_rows(rows)
        if different:
            raise MossAgentError(
                f"The rows of {', '.join(different)} are not the same in "
                f"{self.library.database.backend.place}: the source was changed while it was copied, or "
                "somebody uses the copy already. Begin again with empty stores."
            )
        self._glossary()
        moved = Moved(self.library.count(), total, conversations, audio, vectors, copied)
        self._write_note(note | {"state": "done", "moved": asdict(moved)})
        return moved

    def _again(self, note: dict[str, Any]) -> Moved:
        """What was copied completely is not copied again: it may be in use, and something removed from it."""
        with self._database.engine.connect() as rows:
            self._database.backend.begin_reading(rows)
            different = compare(rows, self.library.database, self._stage("comparing"))
        if different:
            raise MossAgentError(
                f"{self.source} was copied completely, and since then one of the two was changed "
                f"({', '.join(different)}); nothing was copied again."
            )
        return Moved(**{**note["moved"], "copied": 0})

    def close(self) -> None:
        """Release the source."""
        self._memory.close()
        self._database.close()

    def _begun(self) -> dict[str, Any]:
        """The note of an earlier run, or a new one.

        Raises:
            MossAgentError: The target holds something, and not of this source.
        """
        place = self.library.database.backend.place
        with suppress(OSError, ValueError):
            note = json.loads(self._note_file.read_text(encoding="utf-8"))
            if note["source"] == str(self.source) and note["database"] == place:
                return dict(note)
            raise MossAgentError(
                f"{self._note_file} says that {note['source']} is being copied into {note['database']}; "
                "finish that, or choose another home folder for the deployment."
            )
        if not is_empty(self.library.database):
            raise MossAgentError(f"{place} holds a library already; copy into an empty database.")
        if self.workspace.memory.threads():
            raise MossAgentError(f"{place} holds conversations already; copy into an empty database.")
        if self.workspace.vectors.count():
            raise MossAgentError(
                f"{self.workspace.vectors.location} holds vectors already; copy into an empty collection."
            )
        note = {"source": str(self.source), "database": place, "state": "begun", "audio": []}
        self._write_note(note)
        return note

    def _write_note(self, note: dict[str, Any]) -> None:
        partial = self._note_file.with_suffix(".partial")
        partial.write_text(json.dumps(note), encoding="utf-8")
        partial.replace(self._note_file)

    def _stage(self, stage: Stage) -> Callable[[int, int], None]:
        """Tells how far a stage is; stops it where that is wished."""

        def report(done: int, total: int) -> None:
            if self._cancel.is_set():
                raise Cancelled("Stopped; what was copied stays, and the same command goes on.")
            self._report(stage, done, total)

        return report

    def _conversations(self) -> int:
        """Copy the newest state of each conversation, and compare what the graph reads of it."""
        report = self._stage("conversations")
        ours, theirs = self._memory.checkpointer, self.workspace.memory.checkpointer
        threads = self._memory.threads()
        others = set(self.workspace.memory.threads()) - set(threads)
        if others:
            raise MossAgentError(
                f"The target has {len(others)} conversations that the source does not have; copy into an "
                "empty database."
            )
        for done, thread in enumerate(threads):
            report(done, len(threads))
            found = list(ours.list({"configurable": {"thread_id": thread}}))
            for stored in reversed(found):  # the oldest first, so that the newest is what stays
                where = stored.config["configurable"]
                config = _config(thread, where.get("checkpoint_ns", ""))
                versions = stored.checkpoint["channel_versions"]
                kept = theirs.put(config, stored.checkpoint, stored.metadata, versions)
                by_task: dict[str, list[tuple[str, Any]]] = {}
                for task, channel, value in stored.pending_writes or ():
                    by_task.setdefault(task, []).append((channel, value))
                for task, writes in by_task.items():
                    theirs.put_writes(kept, writes, task)
            config = _config(thread)
            one, other = ours.get_tuple(config), theirs.get_tuple(config)
            if (one and one.checkpoint["channel_values"]) != (other and other.checkpoint["channel_values"]):
                raise MossAgentError(
                    f"The conversation {thread} is not the same in the target; run the command again."
                )
        report(len(threads), len(threads))
        return len(threads)

    def _audio(self, note: dict[str, Any]) -> int:
        """Copy the audio of each recording, and compare its SHA-256 with that of what is kept then."""
        report = self._stage("audio")
        folder = self.source / "audio"
        copies = [folder / f"{recording.id}{COPY}" for recording in self.library.recordings()]
        copies = [copy for copy in copies if copy.exists()]
        total = sum(copy.stat().st_size for copy in copies)
        done, known = 0, set(note["audio"])
        for copy in copies:
            report(done, total)
            if copy.stem not in known:
                wanted, kept = digest_of(copy), self.library.audio.digest(copy.stem)
                if kept != wanted:
                    self.library.audio.take(copy.stem, copy)
                    if self.library.audio.digest(copy.stem) != wanted:
                        raise MossAgentError(
                            f"The audio copy {copy.name} is not the same where it was copied to; run the "
                            "command again."
                        )
                known.add(copy.stem)
                note["audio"] = sorted(known)
                self._write_note(note)
            done += copy.stat().st_size
        report(done, total)
        return len(copies)

    def _vectors(self) -> int:
        """Make the collection of the rows that were copied, and read back what it stores."""
        report = self._stage("vectors")
        vectors, store = self.workspace.vectors, PassageStore(self.library.database)
        made_by = store.embedders()
        if not made_by <= {self.workspace.embedder.name}:
            raise MossAgentError(
                f"The vectors of the source were made with {', '.join(sorted(made_by))}; set "
                "MOSS_AGENT_EMBEDDER to that."
            )
        total, done = store.count(), 0
        for passages, embeddings in store.batches():
            report(done, total)
            for attempt in ("first", "again"):
                stored = vectors.stored([passage.id for passage in passages])
                lacking = [
                    at
                    for at, passage in enumerate(passages)
                    if passage.id not in stored
                    or not np.allclose(stored[passage.id], embeddings[at], atol=SAME)
                ]
                if not lacking:
                    break
                if attempt == "again":
                    raise MossAgentError(
                        f"{vectors.location} does not store vectors as they are sent; empty it, and try "
                        "again."
                    )
                vectors.add([passages[at] for at in lacking], embeddings[lacking])
            done += len(passages)
        report(done, total)
        if (held := vectors.count()) != total:
            raise MossAgentError(
                f"{vectors.location} holds {held} vectors where {total} were copied; empty it, and run the "
                "command again."
            )
        return total

    def _glossary(self) -> None:
        kept, target = self.source / HOME_FILE, self.workspace.home / HOME_FILE
        if kept.exists() and not target.exists():
            shutil.copyfile(kept, target)


def _config(thread: str, space: str = "") -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": space}}


@contextmanager
def _held(source: Path) -> Iterator[None]:
    """Keep other processes from writing to the source meanwhile; its lock is not even opened for writing.

    Raises:
        HomeInUse: One does already.
    """
    try:
        lock = (source / ".lock").open("rb")
    except OSError:
        yield  # nobody ever wrote to it, or nobody can
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HomeInUse(f"Another moss-agent is using {source}; stop it while it is copied.") from error
        yield
