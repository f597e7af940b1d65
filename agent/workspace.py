"""The one place where the program is put together: settings in, a working assistant out.

Engines are built at first use, so that listing recordings does not load a speech model.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from agent.settings import Settings
from index.disk_space import noticing_full_disk
from index.progress import Progress, Report
from index.recording_errors import DiskFull, IndexOutOfDate, MossAgentError, WeightsError
from index.records import Recording, Span, Summary
from index.store.database import Database, is_writable, not_writable
from index.store.library import Library

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agent.assistant import Assistant
    from agent.checkpointer import Memory
    from agent.engines.engine_choice import Engines
    from index.diarization.known_voices import KnownVoice, KnownVoices, Likeness
    from index.pipeline.ingest import Ingest
    from index.search.embeddings import Embedder
    from index.search.searching import Search
    from index.search.vectors import Vectors
    from index.transcription.transcriber import Transcriber
    from tools import Toolbox


MANY_WINDOWS = 8
"""Windows side by side from which an engine counts as one that batches."""

FILES_AT_ONCE = 4


@dataclass(frozen=True)
class SpeakerFacts:
    """A speaker of a recording.

    Attributes:
        name: As it is shown.
        seconds: Speaking time.
        snippet: Where the voice is clearest, 3 to 6 s; None where it says nothing.
        likeness: Who it was named as, or may be, by its voice.
    """

    name: str
    seconds: float
    snippet: Span | None
    likeness: Likeness | None


class Workspace:
    """Everything the command line and the page work with, over one home folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home.expanduser().absolute()
        try:
            # Recordings are private: on a shared machine nobody else may look. A folder that was there
            # before keeps the rights its owner gave it.
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MossAgentError(
                f"The home folder {self.home} cannot be used ({error.strerror}); "
                "choose another with --home or MOSS_AGENT_HOME."
            ) from error
        is_read_only = not is_writable(self.home)
        database = Database(settings.database_url or self.home / "library.sqlite", is_read_only)
        self.library = Library(database, self.home)
        self.read_only = not_writable(self.home) if is_read_only else database.read_only
        """Why the home folder is only read, as the error of what would write; None where it is written."""
        self.engines_problem = ""
        """Why no engines could be chosen; empty if they were, or were not needed yet."""
        self._locked = threading.RLock()
        self._lock_depth = 0

    @cached_property
    def embedder(self) -> Embedder:
        """The sentence embedder of the settings."""
        from index.search.embeddings import Embedder

        return Embedder(self.settings.embedder)

    @cached_property
    def vectors(self) -> Vectors:
        """The Chroma collection."""
        from index.search.vectors import Vectors

        return Vectors(self.settings.vectors_url or self.home / "vectors", self.embedder)

    @cached_property
    def engines(self) -> Engines:
        """What hears and what thinks; see ``agent.engines``."""
        from agent.engines.engine_choice import choose

        try:
            return choose(self.settings)
        except MossAgentError as error:
            self.engines_problem = str(error)
            raise

    @property
    def engines_chosen(self) -> Engines | None:
        """The engines, once something has asked for them; choosing them may ask a server."""
        return self.__dict__.get("engines")

    @cached_property
    def transcriber(self) -> Transcriber:
        """What writes recordings down."""
        return self.engines.transcriber

    @cached_property
    def search(self) -> Search:
        """Keyword and vector search over the library."""
        from index.search.searching import Search

        # An embedded Chroma writes even to be read.
        can_open = self.read_only is None or self.vectors.folder is None
        return Search(self.library, self.embedder, self.vectors if can_open else None)

    @cached_property
    def ingest(self) -> Ingest:
        """The pipeline that takes recordings in."""
        from index.pipeline.ingest import Ingest

        return Ingest(
            self.library,
            self.transcriber,
            self.embedder,
            self.vectors,
            self.settings.language,
            self.engines.sounds,
            self.engines.speakers,
            self.voices,
        )

    @cached_property
    def voices(self) -> KnownVoices:
        """People who are known by voice."""
        from index.diarization.known_voices import KnownVoices

        return KnownVoices(self.library, self.settings.voices)

    @cached_property
    def memory(self) -> Memory:
        """Conversations, kept in a database of their own."""
        from agent.checkpointer import Memory

        return Memory(self.home / "conversations.sqlite", read_only=self.read_only is not None)

    @cached_property
    def chat_model(self) -> BaseChatModel:
        """What thinks."""
        return self.engines.chat_model

    @cached_property
    def toolbox(self) -> Toolbox:
        """What the tools work with."""
        from tools import Toolbox

        return Toolbox(self.library, self.search, self.engines.listener, self.voices)

    @cached_property
    def assistant(self) -> Assistant:
        """The agent with its tools and chat model."""
        from agent.assistant import Assistant
        from tools import build_tools

        return Assistant(self.library, build_tools(self.toolbox), self.chat_model, self.memory.checkpointer)

    @property
    def files_at_once(self) -> int:
        """How many files are worth taking in at a time: several where the engine batches many windows.

        One file's windows rarely fill such an engine; reading and indexing another goes on beside it.
        """
        return FILES_AT_ONCE if self.transcriber.windows_at_once >= MANY_WINDOWS else 1

    def add(
        self,
        path: Path,
        title: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        language: str | None = None,
        told: Callable[[str], None] | None = None,
        track: int | None = None,
    ) -> Recording:
        """Take a file in; see ``index.pipeline.ingest.Ingest.add``."""
        with self.writing():
            return self.ingest.add(path, title, speakers, progress, cancel, language, told, track)

    @property
    def glossary(self) -> tuple[str, ...]:
        """Words that must be spelled right, as they are kept in the home folder.

        Raises:
            MossAgentError: The file is not as ``set_glossary`` writes it.
        """
        from index.transcription.glossary import HOME_FILE, read_glossary

        kept = self.home / HOME_FILE
        return read_glossary(kept) if kept.exists() else ()

    def set_glossary(self, text: str) -> tuple[str, ...]:
        """Keep words that must be spelled right, for all that is transcribed from now on; returns them.

        Args:
            text: One word or phrase a line; those of ``MOSS_AGENT_GLOSSARY`` come before them.

        Raises:
            MossAgentError: It is no glossary.
        """
        from agent.engines.engine_choice import glossary_of
        from index.transcription.glossary import HOME_FILE, write_glossary
        from index.transcription.whisper import WhisperTranscriber

        with self.writing():
            entries = write_glossary(self.home / HOME_FILE, text)
        if self.engines_chosen is not None and isinstance(self.transcriber, WhisperTranscriber):
            self.transcriber.glossary = glossary_of(self.settings)
        return entries

    def remove(self, reference: str) -> Recording:
        """Delete a recording from every store: database, audio copy, vectors, conversations that quoted it.

        Returns:
            What was removed.

        Raises:
            UnknownRecording, AmbiguousRecording: See ``Library.resolve``.
        """
        recording = self.library.resolve(reference)
        if isinstance(self.read_only, DiskFull):
            self._make_room(recording.id)
        with self.writing():
            for thread in self.library.threads_of(recording.id):
                self.memory.forget(thread)
            try:
                self.vectors.delete(recording.id)
            except IndexOutOfDate:
                # A collection that cannot be read may still hold its vectors; `reindex` makes it anew.
                self.vectors.reset()
            self.library.delete(recording.id)
            self._remove_uploads(recording.id)
        return recording

    def _make_room(self, recording: str) -> None:
        """Delete the audio copy of a recording that is to be removed, and open the stores again.

        On a full disk nothing can be deleted from a database: that is written down first.
        """
        self.library.audio_path(recording).unlink(missing_ok=True)
        self.library.database.close()
        if "memory" in self.__dict__:
            self.memory.close()
        for opened in ("memory", "search", "ingest", "toolbox", "assistant", "voices"):
            self.__dict__.pop(opened, None)
        database = Database(self.settings.database_url or self.home / "library.sqlite")
        self.library = Library(database, self.home)
        self.read_only = database.read_only

    def _remove_uploads(self, recording: str) -> None:
        """Delete what the page still keeps of an upload that was not finished (``web/uploads.py``)."""
        for note in (self.home / "upload-jobs").glob("*.json"):
            with suppress(OSError, ValueError):
                if json.loads(note.read_text(encoding="utf-8")).get("recording") == recording:
                    shutil.rmtree(self.home / "uploads" / note.stem, ignore_errors=True)
                    note.unlink(missing_ok=True)

    def rename_speaker(self, reference: str, old: str, new: str) -> int:
        """Give a speaker another name, or merge two; returns the number of segments under the new name.

        Where voices may be remembered, the speaker's is learned under that name.
        """
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home):
            recording = self.library.resolve(reference).id
            count = self.library.rename_speaker(recording, old, new)
            # Without the encoder's weights the name is there all the same.
            with suppress(WeightsError):
                self.voices.named(recording, old, new)
            return count

    def relabel_speakers(
        self, reference: str, speakers: int | None, report: Report | None = None
    ) -> Recording:
        """Diarize a ready recording again, with the number of speakers given or estimated."""
        recording = self.library.resolve(reference)
        with self.writing():
            self.ingest.relabel_speakers(recording.id, speakers, report)
        return self.library.recording(recording.id)

    # --- known voices (index/diarization/known_voices.py) -----------------------------------------------

    def known_voices(self) -> list[KnownVoice]:
        """Everybody who is known by voice, by name."""
        return self.voices.voices()

    def allow_voices(self, given: bool) -> None:
        """Keep whether voices may be remembered, which ``ask`` asks once; see ``KnownVoices.set_consent``."""
        with self._changing():
            self.voices.set_consent(given)

    def forget_voice(self, name: str) -> str:
        """Delete what is known of one voice; returns its name."""
        with self._changing():
            return self.voices.forget(name)

    def forget_voices(self) -> int:
        """Delete what is known of every voice; returns how many there were."""
        with self._changing():
            return self.voices.forget_all()

    def find_voices(self, reference: str) -> list[Likeness]:
        """Look for known voices in a recording that is there already; see ``KnownVoices.recognise``."""
        recording = self.library.resolve(reference)
        with self._changing():
            return self.voices.recognise(recording.id)

    def confirm_voice(self, reference: str, speaker: str) -> str:
        """Say that a speaker is who it may be; returns the name."""
        with self._changing():
            return self.voices.confirm(self.library.resolve(reference).id, speaker)

    def reject_voice(self, reference: str, speaker: str) -> str:
        """Say that a speaker is not who it may be, or was named as; returns who it is not."""
        with self._changing():
            return self.voices.reject(self.library.resolve(reference).id, speaker)

    def speakers(self, reference: str) -> list[SpeakerFacts]:
        """The speakers of a recording: how long each speaks, where to hear each, and who each may be."""
        from index.diarization.known_voices import clearest

        recording = self.library.resolve(reference)
        segments = self.library.segments(recording.id)
        times = self.library.speaking_times(recording.id)
        likenesses = {likeness.speaker: likeness for likeness in self.voices.likenesses(recording.id)}
        return [
            SpeakerFacts(name, times.get(name, 0.0), clearest(segments, name), likenesses.get(name))
            for name in recording.speakers
        ]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """For changes of the database alone, which the page's lock does not keep others from."""
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home):
            yield

    def summarize(self, reference: str, template: str | None = None) -> Summary:
        """The summary of a recording.

        Raises:
            MossAgentError: It is not ready yet, or there is no such template.
        """
        from tools.summarize_recording import summarize_recording

        recording = self.library.resolve(reference)
        return summarize_recording(
            self.library, self.embedder, recording, template or self.settings.summary_template
        )

    def export(
        self, reference: str, format: str, start: float | None = None, end: float | None = None
    ) -> bytes:
        """A transcript, or the part of it that overlaps ``[start, end)``, as a file's bytes."""
        from index.export.formats import export

        recording = self.library.resolve(reference)
        return export(recording, self.library.segments(recording.id, start, end), format)

    def reindex(self, progress: Callable[[float], None] | None = None) -> int:
        """Rebuild the vector collection from the database; returns the number of passages."""
        from index.search.indexing import rebuild

        with self.writing():
            return rebuild(self.library, self.embedder, self.vectors, progress)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the home folder for writing; Chroma allows one writing process and is damaged by two.

        The page holds it for as long as it runs. Threads of one process share it.

        Raises:
            MossAgentError: Another process holds it.
            DiskFull: What was to be written has no room.
            ReadOnly: The home folder is only read.
        """
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home), self._lock():
            yield

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._locked:
            if self._lock_depth == 0:
                try:
                    self._lock_file = (self.home / ".lock").open("w")
                except PermissionError as error:
                    raise not_writable(self.home) from error
                try:
                    fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    self._lock_file.close()
                    raise MossAgentError(
                        f"Another moss-agent is using {self.home}; do this on its page, or stop it first."
                    ) from error
                self._lock_file.write(str(os.getpid()))
                self._lock_file.flush()
            self._lock_depth += 1
        try:
            yield
        finally:
            with self._locked:
                self._lock_depth -= 1
                if self._lock_depth == 0:
                    self._lock_file.close()

    def close(self) -> None:
        """Release databases; the workspace cannot be used afterwards."""
        if self.engines_chosen is not None:
            self.engines_chosen.close()
        if "memory" in self.__dict__:
            self.memory.close()
        if "vectors" in self.__dict__:
            self.vectors.close()
        self.library.database.close()


def open_workspace(settings: Settings) -> Workspace:
    """Open (and at first use create) the home folder of the settings."""
    return Workspace(settings)
