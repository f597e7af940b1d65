"""The one place where the program is put together: settings in, a working assistant out.

Engines are built at first use, so that listing recordings does not load a speech model.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.settings import Settings
from index.audio.decode import file_id
from index.disk_space import noticing_full_disk
from index.progress import Progress, Report
from index.recording_errors import (
    Busy,
    Cancelled,
    DiskFull,
    Forbidden,
    HomeInUse,
    IndexOutOfDate,
    InvalidInput,
    MossAgentError,
    UnknownRecording,
    VectorsAway,
    WeightsError,
    would_lose,
)
from index.records import Comment, Hit, Recording, Segment, Span, Status, Summary, Topic
from index.store.access import (
    EVERYTHING,
    NOBODY,
    Actor,
    Link,
    Person,
    acting_as,
    acting_person,
    actor_of,
    owner_of,
)
from index.store.backends import Postgresql, is_writable, not_writable
from index.store.database import Database
from index.store.library import Library
from index.store.people import People
from moss_audio.timestamps import clock

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agent.answer import Event
    from agent.assistant import Assistant
    from agent.checkpointer import Conversations
    from agent.engines.engine_choice import Engines
    from agent.instructed_summary import InstructedSummary
    from agent.webhooks import Webhooks
    from index.cluster.ray_session import ClusterLink
    from index.corrections.correcting import Changed, Correction, Corrections, Versions
    from index.diarization.known_voices import KnownVoice, KnownVoices, Likeness
    from index.export.vault import Synced
    from index.imports.transcript_files import ImportedTranscript
    from index.pipeline.ingest import Ingest
    from index.search.embeddings import Embedder
    from index.search.library_search import LibraryHits
    from index.search.searching import Search
    from index.search.vectors import Vectors
    from index.timeline import TalkTime, Timeline
    from index.transcription.transcriber import Transcriber
    from tools import Toolbox
    from tools.result import Heard, Outline


MANY_WINDOWS = 8
"""Windows side by side from which an engine counts as one that batches."""

FILES_AT_ONCE = 4

FILES_ON_CLUSTER = 8
"""Files that are taken in at a time where a cluster does the work: while one is decoded or indexed, others
keep the workers busy."""

SUMMARIES_KEPT = 16
"""Summaries by instruction that are kept in memory."""

PLACES = 24
"""Places that a search over the whole library shows."""


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
        database = Database(settings.database or self.home / "library.sqlite", is_read_only)
        self.library = self._library(database)
        self.people = People(database)
        """Accounts, and what is shared with whom."""
        database.has_people = self.people.count() > 0
        self.read_only = not_writable(self.home) if is_read_only else database.read_only
        """Why the home folder is only read, as the error of what would write; None where it is written."""
        self.engines_problem = ""
        """Why no engines could be chosen; empty if they were, or were not needed yet."""
        self._written: dict[tuple[str, str], InstructedSummary] = {}
        self._written_lock = threading.Lock()
        self.beside_others = False
        """Whether this process searches for long while others may write; see ``search``."""
        self.when_removed: list[Callable[[str], None]] = []
        """Called with the id of each recording that is removed, by whatever holds words of it in memory."""
        self._locked = threading.RLock()
        self._lock_depth = 0

    def _library(self, database: Database) -> Library:
        return Library(database, self.home, self.settings.audio, self.settings.audio_cache_mb)

    # --- people (index/store/people.py, index/store/access.py) --------------------------------------------

    @property
    def has_accounts(self) -> bool:
        """Whether people sign in even where this machine alone gets in."""
        others = self.settings.oidc_url or self.settings.trusted_header
        return self.settings.accounts == "on" or bool(others) or self.library.database.has_people

    def require_people(self) -> None:
        """Let nobody see anything who does not act as somebody; what a server does that has accounts."""
        self.library.database.otherwise = NOBODY
        self.library.database.has_people = True

    def act_as(self, name: str) -> Person:
        """Do everything in somebody's name from now on.

        Raises:
            InvalidInput: Nobody has this name.
        """
        person = self.people.find(name)
        self.library.database.otherwise = person
        return person

    @property
    def actor(self) -> Actor:
        """In whose name the current thread works."""
        return actor_of(self.library.database)

    def note(self, what: str, recording: str | None, detail: str = "") -> None:
        """Write into the log what is done, where anybody has an account."""
        if self.library.database.has_people and self.read_only is None:
            # A full disk keeps nobody from reading; what changes something fails before it is noted.
            with suppress(DiskFull, Busy):
                self.people.note(self.actor, what, recording, detail)

    def identify(self, path: Path) -> str:
        """The id that a file's recording has or will have.

        Raises:
            MediaError: The file cannot be read.
        """
        content = file_id(path)
        if acting_person(self.library.database) is None:
            return content
        return self.library.recording_of_media(content)

    def _signed_in(self) -> None:
        if isinstance(self.actor, Link) or self.actor == NOBODY:
            raise Forbidden("Sign in to do this.")

    def remove_person(self, name: str, give_to: str | None = None) -> int:
        """Delete an account with everything that is only theirs; returns how many recordings that were.

        It is disabled first, so that nothing new is added meanwhile, and stays so where this breaks off.

        Args:
            name: Whose.
            give_to: Who gets their recordings; by default these are deleted.

        Raises:
            InvalidInput: Nobody has this name, nobody would be an administrator any more, or the recordings
                would go to whoever is removed.
            Busy: A file of theirs is still being worked on.
        """
        person = self.people.find(name)
        self.people.check_removable(name)
        if give_to is not None and self.people.find(give_to) == person:
            raise InvalidInput(f"“{person.name}” is to be removed; give the recordings to somebody else.")
        with acting_as(EVERYTHING):
            owned = self.people.owned(person)
            if owned and give_to is None:
                with self.writing():
                    pass  # or nothing is begun
            self.people.set_disabled(name, True)
            self.people.give_up_jobs(person)
            if give_to is not None:
                count = self.people.give(name, give_to)
            else:
                owned = self.people.owned(person)
                count = len(owned)
                for recording in owned:
                    with suppress(UnknownRecording):  # removed by somebody meanwhile
                        self.remove(recording, drop_corrections=True)
            for thread in self.library.threads_of_person(person.id):
                self.memory.forget(thread)
                self.library.forget_thread(thread)
            self._remove_uploads("person", person.id)
        self.people.remove(name)
        self.forget_nobodys_conversations()
        self.library.database.has_people = self.people.count() > 0
        return count

    def forget_nobodys_conversations(self) -> None:
        """Delete the conversations of accounts that are gone: what was stored while these were removed."""
        for thread in self.memory.threads():
            person = owner_of(thread)
            if person is not None and self.people.person(person, even_disabled=True) is None:
                self.memory.forget(thread)
                self.library.forget_thread(thread)

    def sweep(self, days: int | None = None) -> list[Recording]:
        """Delete the recordings that are older than they may be; returns them.

        Args:
            days: How old they may be; by default ``MOSS_AGENT_KEEP_DAYS``, and without that nothing is done.

        Raises:
            HomeInUse: Another process holds the home folder.
            MossAgentError: Some could not be deleted; the others were.
        """
        deleted: list[Recording] = []
        failed: list[MossAgentError] = []
        with acting_as(EVERYTHING):
            for recording in self.too_old(days):
                try:
                    self.remove(recording.id, drop_corrections=True)
                except HomeInUse:
                    raise
                except (UnknownRecording, Busy):
                    continue  # another process sweeps, too; or it is being worked on, and goes tomorrow
                except MossAgentError as error:
                    failed.append(error)
                else:
                    deleted.append(recording)
            self._forget_old_uploads(days)
            if self.read_only is None:
                self.forget_nobodys_conversations()
        if failed:
            raise MossAgentError(
                f"{len(deleted)} old recordings were deleted, and {len(failed)} could not be: {failed[0]}"
            ) from failed[0]
        return deleted

    def _forget_old_uploads(self, days: int | None) -> None:
        """Delete files that were sent, and stopped or failed, as long ago as recordings are deleted."""
        days = days or self.settings.keep_days
        if days is None or self.read_only is not None:
            return
        before = (datetime.now(UTC) - timedelta(days)).timestamp()
        self.people.forget_old_jobs(before)
        for note in (self.home / "upload-jobs").glob("*.json"):
            with suppress(OSError, ValueError, TypeError, AttributeError):
                known = json.loads(note.read_text(encoding="utf-8"))
                if known.get("state") in ("stopped", "failed") and float(known.get("sent", before)) < before:
                    self._remove_upload(note)

    def kept_until(self, recording: Recording) -> date | None:
        """The day (UTC) from which on ``sweep`` deletes a recording; None where it is kept for ever."""
        days = self.settings.keep_days
        return None if days is None else (datetime.fromisoformat(recording.added_at) + timedelta(days)).date()

    def too_old(self, days: int | None = None) -> list[Recording]:
        """The recordings that ``sweep`` would delete, unless one is being worked on then."""
        days = days or self.settings.keep_days
        if days is None:
            return []
        now = datetime.now(UTC)
        with acting_as(EVERYTHING):
            return [
                recording
                for recording in self.library.recordings()
                if (now - datetime.fromisoformat(recording.added_at)).days >= days
            ]

    @cached_property
    def embedder(self) -> Embedder:
        """The sentence embedder of the settings."""
        if self.cluster is not None:
            from agent.engines.worker_engines import cluster_embedder

            return cluster_embedder(self.settings, self.cluster)
        from index.search.embeddings import Embedder

        return Embedder(self.settings.embedder)

    @cached_property
    def cluster(self) -> ClusterLink | None:
        """The Ray cluster that does the work; None where it is done in this process."""
        if not self.settings.ray:
            return None
        from index.cluster.ray_session import ClusterLink

        return ClusterLink(self.settings.ray)

    def opened(self, reference: str) -> None:
        """Somebody looks at a recording: on a cluster, what it still needs comes before an archive."""
        if self.cluster is None:
            return
        recording = self.library.resolve(reference)
        if recording.status == Status.LISTENING:
            self.cluster.opened(recording.id)

    @cached_property
    def vectors(self) -> Vectors:
        """The Chroma collection."""
        from index.search.vectors import Vectors

        token = self.settings.vectors_token
        return Vectors(
            self.settings.vectors or self.home / "vectors",
            self.embedder,
            token.get_secret_value() if token else None,
        )

    @cached_property
    def engines(self) -> Engines:
        """What hears and what thinks; see ``agent.engines``."""
        from agent.engines.engine_choice import choose

        try:
            return choose(self.settings, cluster=self.cluster)
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

        # An embedded Chroma writes even to be read, and does not see what another process adds or deletes.
        is_shared = self.read_only is not None or self.beside_others
        can_open = not is_shared or self.vectors.folder is None
        return Search(self.library, self.embedder, self.vectors if can_open else None)

    @cached_property
    def ingest(self) -> Ingest:
        """The pipeline that takes recordings in."""
        from index.pipeline.ingest import Ingest

        elsewhere: dict[str, Any] = {}
        if self.cluster is not None:
            from agent.engines.worker_engines import cluster_work

            elsewhere = cluster_work(self.settings, self.cluster)
        return Ingest(
            self.library,
            self.transcriber,
            self.embedder,
            self.vectors,
            self.settings.language,
            self.engines.sounds,
            self.engines.speakers,
            self.voices,
            **elsewhere,
        )

    @cached_property
    def voices(self) -> KnownVoices:
        """People who are known by voice."""
        from index.diarization.known_voices import KnownVoices

        return KnownVoices(self.library, self.settings.voices)

    @cached_property
    def memory(self) -> Conversations:
        """Conversations, kept in a database of their own, or in the library's where that is a server's.

        Where that is only read, what is said is forgotten at the end.
        """
        from agent.checkpointer import Memory

        backend = self.library.database.backend
        if isinstance(backend, Postgresql) and self.read_only is None:
            from agent.shared_memory import SharedMemory

            return SharedMemory(backend)
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
        if self.cluster is not None:
            return FILES_ON_CLUSTER
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
        again: bool = False,
        drop_corrections: bool = False,
    ) -> Recording:
        """Take a file in, and tell the webhook what came of it.

        Media is transcribed (``index.pipeline.ingest.Ingest.add``); what is a transcript by its name is
        imported, so that every door takes both.
        """
        from index.imports.transcript_files import TRANSCRIPT_SUFFIXES

        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            return self.import_transcript(
                path, None, title, language, speakers, progress=progress, cancel=cancel, told=told
            )
        with self.writing(), self._telling(path, title) as added:
            added.append(
                self.ingest.add(
                    path, title, speakers, progress, cancel, language, told, track, again, drop_corrections
                )
            )
            # Its speakers may have been identified again.
            self.voices.prune(added[0].id)
        return added[0]

    def hear_again(
        self,
        reference: str,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        losing: int = 0,
    ) -> Recording:
        """Transcribe a recording anew from its audio copy; see ``Ingest.hear_again``."""
        recording = self._editable(reference)
        with self.writing(), self._telling(None, recording.title, recording.id) as heard:
            self.note("changed", recording.id, "heard again")
            heard.append(self.ingest.hear_again(recording.id, progress, cancel, losing))
            self.voices.prune(recording.id)
        return heard[0]

    def corrections_lost(self, reference: str) -> int:
        """How many corrections hearing a recording again, or removing it, would lose."""
        return self.library.correction_count(self.library.resolve(reference).id)

    @contextmanager
    def _telling(
        self, file: Path | None, title: str | None, recording: str | None = None
    ) -> Iterator[list[Recording]]:
        """Tell the webhook of the recording that is put into the list, if it is ready now and was not before;
        or of the file that could not be taken in."""
        webhooks = self.webhooks
        before = {recording.id: recording for recording in self.library.recordings()}
        added: list[Recording] = []
        try:
            yield added
        except Cancelled:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, MossAgentError) else "Unexpected error."
            name = title or (file.stem if file else "A transcript")
            webhooks.failed(self._failed_id(recording or (self._id_of(file) if file else None)), name, reason)
            raise
        for found in added:
            old = before.get(found.id)
            if old is None or old.status is not Status.READY or old.seconds_taken != found.seconds_taken:
                webhooks.ready(found)

    def _failed_id(self, recording: str | None) -> str | None:
        """Its id, but None where it is ready all the same: the file has failed, not the recording."""
        now = {found.id: found.status for found in self.library.recordings()}
        return None if recording and now.get(recording) is Status.READY else recording

    def _id_of(self, path: Path) -> str | None:
        """The id that a file's recording has, or would have; None where the file cannot be read."""
        try:
            return self.library.recording_of_media(file_id(path))
        except MossAgentError:
            return None

    @cached_property
    def webhooks(self) -> Webhooks:
        """What is told when a recording is ready or failed.

        Raises:
            MossAgentError: The settings name no address that can be used, or no secret.
        """
        from agent.webhooks import Webhooks

        return Webhooks(self.settings, self.library.database)

    def import_transcript(
        self,
        source: Path | ImportedTranscript,
        media: Path | None = None,
        title: str | None = None,
        language: str | None = None,
        speakers: int | None = None,
        encoding: str | None = None,
        offset: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        told: Callable[[str], None] | None = None,
        track: int | None = None,
    ) -> Recording:
        """Take in a transcript that was made elsewhere, with or without its media file.

        Args:
            source: The file, or what was read from one.
            encoding: See ``index.imports.transcript_files.read_transcript``.
            offset: See there.

        The others, and what is returned and raised: see ``index.pipeline.ingest.Ingest.import_transcript``.

        Raises:
            TranscriptError: The file is no transcript that can be read; nothing is stored.
        """
        from index.imports.transcript_files import read_transcript

        file = source if isinstance(source, Path) else None
        with self.writing(), self._telling(file, title) as imported:
            if isinstance(source, Path):
                source = read_transcript(source, encoding, offset)
            imported.append(
                self.ingest.import_transcript(
                    source, media, title, language, speakers, progress, cancel, told, track
                )
            )
        return imported[0]

    def attach_media(
        self,
        reference: str,
        media: Path,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        track: int | None = None,
    ) -> Recording:
        """Give an imported transcript its media file; see ``index.pipeline.ingest.Ingest.attach_media``."""
        recording = self._editable(reference)
        with self.writing(), self._telling(media, recording.title, recording.id) as attached:
            self.note("changed", recording.id, "media attached")
            attached.append(self.ingest.attach_media(recording.id, media, speakers, progress, cancel, track))
        return attached[0]

    def sync_notes(self, folder: Path, base: str | None = None) -> Iterator[Synced]:
        """Keep one Markdown note for each recording in a folder; see ``index.export.vault.Vault``.

        Args:
            folder: Where the notes are; it is made.
            base: The page's address, for links to moments; by default ``MOSS_AGENT_PAGE_URL``.

        Yields:
            Each note with what was done.

        Raises:
            MossAgentError: The folder cannot be used, the address is none, or the home folder is only read.
        """
        from index.export.vault import Vault

        if self.read_only is not None:
            raise self.read_only

        def summarise(recording: Recording) -> Summary | None:
            try:
                return self.summarize(recording.id)
            except MossAgentError:
                return None  # nothing was said in it

        vault = Vault(self.library, folder, base or self.settings.page_url, summarise)
        with noticing_full_disk(folder):
            yield from vault.sync()

    def follow_notes(
        self, folder: Path, stop: threading.Event, base: str | None = None, seconds: float = 2.0
    ) -> Iterator[Synced]:
        """Sync notes again and again, whenever the library has changed.

        Args:
            folder: As in ``sync_notes``.
            stop: Set it to end.
            base: As in ``sync_notes``.
            seconds: How often to look.

        Yields:
            Each note with which something was done, and each sentence about one once.

        Raises:
            MossAgentError: As ``sync_notes``.
        """
        told: set[tuple[str, str]] = set()
        with self.library.database.watching() as changes:
            last = None
            while not stop.is_set():
                version = changes()
                if version != last:
                    last = version
                    for note in self.sync_notes(folder, base):
                        is_new = bool(note.told) and (note.recording, note.told) not in told
                        told.add((note.recording, note.told))
                        if is_new or note.action not in ("unchanged", "left"):
                            yield note
                stop.wait(seconds)

    @property
    def glossary(self) -> tuple[str, ...]:
        """Words that must be spelled right, as they are kept in the home folder.

        With accounts only administrators see them.

        Raises:
            MossAgentError: The file is not as ``set_glossary`` writes it.
        """
        from index.transcription.glossary import HOME_FILE, read_glossary

        kept = self.home / HOME_FILE
        if not self._administers:
            return ()
        return read_glossary(kept) if kept.exists() else ()

    @property
    def _administers(self) -> bool:
        return self.actor == EVERYTHING or (isinstance(self.actor, Person) and self.actor.is_admin)

    def set_glossary(self, text: str) -> tuple[str, ...]:
        """Keep words that must be spelled right, for all that is transcribed from now on; returns them.

        Args:
            text: One word or phrase a line; those of ``MOSS_AGENT_GLOSSARY`` come before them.

        Raises:
            MossAgentError: It is no glossary.
            Forbidden: With accounts: only administrators may, since it is the same for everybody.
        """
        if not self._administers:
            raise Forbidden("Only administrators change the words to spell right.")
        from agent.engines.engine_choice import glossary_of
        from index.transcription.glossary import HOME_FILE, write_glossary
        from index.transcription.transcriber import Spells

        with self.writing():
            entries = write_glossary(self.home / HOME_FILE, text)
        if self.engines_chosen is not None and isinstance(self.transcriber, Spells):
            self.transcriber.glossary = glossary_of(self.settings)
        return entries

    def remove(self, reference: str, drop_corrections: bool = False) -> Recording:
        """Delete a recording from every store: database, audio copy, vectors, conversations that quoted it.

        Args:
            reference: Which one.
            drop_corrections: Whether it may go although somebody corrected its transcript, which adding the
                file again would not bring back.

        Returns:
            What was removed.

        Raises:
            UnknownRecording, AmbiguousRecording: See ``Library.resolve``.
            WouldLoseCorrections: It has corrections, and they may not be dropped.
            Busy: It is being worked on.
            VectorsAway: The Chroma server cannot be used; nothing is removed, since its vectors would stay.
        """
        recording = self.library.resolve(reference)
        self.library.require_own(recording.id)
        count = 0 if drop_corrections else self.library.correction_count(recording.id)
        if count:
            raise would_lose(f"“{recording.title}” has", count, "remove it")
        if isinstance(self.read_only, DiskFull):
            self._make_room(recording.id)
        with self.writing(), self.library.database.holding(recording.id, wait=False):
            try:
                self.vectors.delete(recording.id)
            except VectorsAway as error:
                raise VectorsAway(f"“{recording.title}” was not removed. {error}") from error
            except IndexOutOfDate:
                # A collection that cannot be read may still hold its vectors; `reindex` makes it anew.
                self.vectors.reset()
            threads = self.library.threads_of(recording.id)
            for thread in threads:
                self.memory.forget(thread)
                self.library.forget_thread(thread)
            self.note("deleted", recording.id)
            self._remove_notes(recording.id)
            self.library.finish_removals()
            threads += self.library.threads_of(recording.id)
            self.library.delete(recording.id)
            # A turn that was being answered may have been stored since; see ``Assistant``.
            for thread in threads:
                self.memory.forget(thread)
            if self.vectors.url:
                # Another process may have sent them again while the database still had them.
                with suppress(IndexOutOfDate):
                    self.vectors.delete(recording.id)
            with self._written_lock:
                for key in [key for key in self._written if key[0] == recording.id]:
                    del self._written[key]
            self._remove_uploads("recording", recording.id)
            for told in self.when_removed:
                told(recording.id)
        return recording

    def _make_room(self, recording: str) -> None:
        """Delete the audio copy of a recording that is to be removed, and open the stores again.

        On a full disk nothing can be deleted from a database: that is written down first.
        """
        self.library.audio.drop_local(recording)
        self.library.database.close()
        if "memory" in self.__dict__:
            self.memory.close()
        for opened in ("memory", "search", "ingest", "corrections", "toolbox", "assistant", "voices"):
            self.__dict__.pop(opened, None)
        before = self.library.database
        database = Database(self.settings.database or self.home / "library.sqlite")
        database.otherwise, database.has_people = before.otherwise, before.has_people
        self.library = self._library(database)
        self.people = People(database)
        self.read_only = database.read_only
        if "webhooks" in self.__dict__:
            self.webhooks.database = database

    def _remove_notes(self, recording: str) -> None:
        """Take away its notes; what cannot be reached now goes at the next ``sync``."""
        from index.export.vault import Vault

        for folder in self.library.folders_of_notes(recording):
            if folder.is_dir():
                Vault(self.library, folder, self.settings.page_url, lambda _: None).remove(recording)

    def _remove_uploads(self, field: str, value: object) -> None:
        """Delete what the page still keeps of uploads that were not finished (``web/uploads.py``)."""
        for note in (self.home / "upload-jobs").glob("*.json"):
            with suppress(OSError, ValueError):
                if json.loads(note.read_text(encoding="utf-8")).get(field) == value:
                    self._remove_upload(note)

    def _remove_upload(self, note: Path) -> None:
        shutil.rmtree(self.home / "uploads" / note.stem, ignore_errors=True)
        note.unlink(missing_ok=True)

    @cached_property
    def corrections(self) -> Corrections:
        """What corrects transcripts; the methods below name a recording as a person does."""
        from index.corrections.correcting import Corrections

        return Corrections(self.library, self.embedder, self.vectors)

    def correct_sentence(
        self, reference: str, segment: int, text: str, versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Give a sentence another text; see ``index.corrections.correcting.Corrections.edit``."""
        return self._correct(
            reference, lambda found: self.corrections.edit(found, segment, text, versions, by)
        )

    def give_speaker(
        self,
        reference: str,
        segments: Sequence[int],
        speaker: str,
        versions: Versions | None = None,
        by: str = "",
    ) -> Changed:
        """Give sentences a speaker, one that there is or a new one; see ``Corrections.assign``."""
        return self._correct(
            reference, lambda found: self.corrections.assign(found, segments, speaker, versions, by)
        )

    def split_sentence(
        self, reference: str, segment: int, at: int, versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Cut a sentence in two before character ``at``; see ``Corrections.split``."""
        return self._correct(
            reference, lambda found: self.corrections.split(found, segment, at, versions, by)
        )

    def merge_sentences(
        self, reference: str, segments: Sequence[int], versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Make one sentence of several in a row; see ``Corrections.merge``."""
        return self._correct(reference, lambda found: self.corrections.merge(found, segments, versions, by))

    def undo_correction(self, reference: str, redo: bool = False) -> Changed:
        """Take the newest correction back, or with ``redo`` make the one again that was undone last."""
        recording = self.library.resolve(reference).id
        turn = self.corrections.redo if redo else self.corrections.undo

        def correct(found: str) -> Changed:
            changed = turn(found)
            if changed.correction is not None:
                # Without the encoder's weights the correction is undone all the same.
                with suppress(WeightsError):
                    self._follow_names(found, changed.correction, redo)
            return changed

        return self._correct(recording, correct)

    def _follow_names(self, recording: str, correction: Correction, redo: bool) -> None:
        """Let known voices follow a name that was given, or taken back."""
        if correction.kind not in ("rename", "unite") or not correction.before:
            return
        before, after = correction.before[0]["speaker"], correction.after[0]["speaker"]
        if redo:
            self.voices.named(recording, before, after)
        elif correction.kind == "rename":
            self.voices.renamed_back(recording, after, before)
        else:
            given = {
                item.after[0]["speaker"]
                for item in self.corrections.history(recording)
                if item.kind == "rename" and item.undone_at is None
            }
            self.voices.parted(recording, after, before, before in given)

    def correction_history(self, reference: str, segment: int | None = None) -> list[Correction]:
        """What was corrected, newest first, with what was there before; of one sentence where it is named."""
        return self.corrections.history(self.library.resolve(reference).id, segment)

    def changes_since(self, reference: str, revision: int) -> Changed:
        """What corrections changed in a recording after one of its revisions."""
        return self.corrections.changes(self.library.resolve(reference).id, revision)

    def _editable(self, reference: str) -> Recording:
        """A recording that is to be changed.

        Raises:
            UnknownRecording, AmbiguousRecording: See ``Library.resolve``.
            Forbidden: Whoever acts may only read it; said before anything is worked on.
        """
        recording = self.library.resolve(reference)
        self.people.require(recording.id, "edit")
        return recording

    def _correct(self, reference: str, correct: Callable[[str], Changed]) -> Changed:
        recording = self._editable(reference).id
        with self.writing():
            changed = correct(recording)
            self.note("changed", recording, changed.correction.kind if changed.correction else "")
            # A voice is known no longer than somebody here has its name.
            self.voices.prune(recording)
            if changed.correction is not None and changed.correction.kind in ("speaker", "merge"):
                states = (*changed.correction.before, *changed.correction.after)
                now = {segment.speaker for segment in changed.segments}
                speakers = now | {state.get("speaker") for state in states}
                self.voices.said_otherwise(recording, {name for name in speakers if name})
        return changed

    def rename_speaker(self, reference: str, old: str, new: str, merge: bool = False, by: str = "") -> int:
        """Give a speaker another name; returns the number of segments under the new name.

        Where voices may be remembered, the speaker's is learned under that name.

        Raises:
            SpeakerExists: It is the name of another speaker, and ``merge`` does not say that they are one.
            MossAgentError: There is no such speaker, or the name is no name.
        """
        if self.read_only is not None:
            raise self.read_only
        recording = self._editable(reference).id
        with noticing_full_disk(self.home):
            name, _ = self.corrections.rename(recording, old, new, merge, by)
            self.note("changed", recording, "speaker renamed")
            # Without the encoder's weights the name is there all the same.
            with suppress(WeightsError):
                self.voices.named(recording, old, name)
            return self.library.voice_count(recording, name)

    def relabel_speakers(
        self,
        reference: str,
        speakers: int | None,
        report: Report | None = None,
        drop_corrections: bool = False,
    ) -> Recording:
        """Diarize a ready recording again, with the number of speakers given or estimated.

        Raises:
            WouldLoseCorrections: Somebody corrected who speaks, and that may not be dropped.
        """
        recording = self._editable(reference)
        with self.writing():
            self.note("changed", recording.id, "speakers told apart again")
            self.ingest.relabel_speakers(recording.id, speakers, report, drop_corrections)
            self.voices.prune(recording.id)
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
        recording = self._editable(reference)
        with self._changing():
            return self.voices.recognise(recording.id)

    def confirm_voice(self, reference: str, speaker: str, by: str = "") -> str:
        """Say that a speaker is who it may be, and whoever has that name already; returns the name."""
        recording = self._editable(reference).id
        likeness = self.voices.likeness(recording, speaker)
        if not likeness.sure:
            self.rename_speaker(recording, likeness.speaker, likeness.voice, merge=True, by=by)
        with self._changing():
            self.voices.confirmed(recording, likeness.voice)
        return likeness.voice

    def reject_voice(self, reference: str, speaker: str) -> str:
        """Say that a speaker is not who it may be, or was named as; returns who it is not."""
        with self._changing():
            return self.voices.reject(self._editable(reference).id, speaker)

    def speaker_facts(self, reference: str) -> list[SpeakerFacts]:
        """The speakers of a recording: how long each speaks, where to hear each, and who each may be."""
        from index.diarization.known_voices import clearest

        recording = self.library.resolve(reference)
        segments = self.library.segments(recording.id)
        times = self.speakers(recording.id)
        likenesses = {likeness.speaker: likeness for likeness in self.voices.likenesses(recording.id)}
        return [
            # Renamed between two looks, it has no time under its old name.
            SpeakerFacts(name, times.get(name, 0.0), clearest(segments, name), likenesses.get(name))
            for name in recording.speakers
        ]

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

    def summarize_as(
        self,
        reference: str,
        instruction: str,
        template: str | None = None,
        cancel: threading.Event | None = None,
    ) -> InstructedSummary:
        """The summary of a recording as somebody wants it; see ``agent.instructed_summary``.

        What was written is kept, so that the page's copy and download are what it shows.

        Raises:
            Cancelled: ``cancel`` was set.
            MossAgentError: See ``summarize``; the instruction is too long, or the chat model failed.
        """
        from agent.instructed_summary import summarize_as

        self._signed_in()
        recording = self.library.resolve(reference)
        self.note("asked", recording.id)
        summary = self.summarize(recording.id, template)
        key = (recording.id, " ".join(instruction.split()))
        kept = self._written.get(key)
        if kept is not None and kept.summary is summary:
            return kept
        written = summarize_as(self.toolbox, self.chat_model, recording, summary, instruction, cancel)
        # Of a recording that was removed meanwhile, nothing is kept.
        self.library.recording(recording.id)
        with self._written_lock:
            self._written[key] = written
            while len(self._written) > SUMMARIES_KEPT:
                del self._written[next(iter(self._written))]
        return written

    def export(
        self, reference: str, format: str, start: float | None = None, end: float | None = None
    ) -> bytes:
        """A transcript, or the part of it that overlaps ``[start, end)``, as a file's bytes."""
        from index.export.formats import export

        recording, segments = self.read(reference, start, end)
        comments = self.library.comments(recording.id, start, end)
        self.note("exported", recording.id, format)
        return export(recording, segments, format, comments)

    # What further doors reach: the command line, the API and MCP (docs/doors.md)

    def recordings(self) -> list[Recording]:
        """All recordings, newest first."""
        return self.library.recordings()

    def recording(self, reference: str) -> Recording:
        """One recording by id, unique prefix of it, or title.

        Raises:
            UnknownRecording, AmbiguousRecording: See ``Library.resolve``.
        """
        return self.library.resolve(reference)

    def rename(self, reference: str, title: str) -> Recording:
        """Give a recording another title; returns it.

        Raises:
            InvalidInput: The title is empty.
        """
        recording = self.library.resolve(reference)
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home):
            self.library.rename(recording.id, title)
            self.note("changed", recording.id, "title")
        return self.library.recording(recording.id)

    def speakers(self, reference: str) -> dict[str, float]:
        """The speakers of a recording, and how long each speaks, in seconds."""
        recording = self.library.resolve(reference)
        return dict.fromkeys(recording.speakers, 0.0) | self.library.speaking_times(recording.id)

    def read(
        self, reference: str, start: float | None = None, end: float | None = None
    ) -> tuple[Recording, list[Segment]]:
        """The transcript, or the segments of it that overlap ``[start, end)`` seconds, in time order.

        Raises:
            InvalidInput: The range is empty, or lies after the recording's end.
        """
        recording = self.library.resolve(reference)
        if (start or 0.0) < 0 or (end is not None and end <= (start or 0.0)):
            raise InvalidInput("The end of the stretch must lie after its start, and neither before 0:00.")
        if start and start >= recording.duration:
            raise InvalidInput(
                f"“{recording.title}” is {clock(recording.duration)} long; nothing lies at {clock(start)}."
            )
        self.note("opened", recording.id)
        return recording, self.library.segments(recording.id, start, end)

    def find(self, query: str, reference: str | None = None, k: int = 8) -> list[Hit]:
        """The stretches that best match words or a question, best first, in one recording or in all.

        Raises:
            InvalidInput: There is nothing to look for.
        """
        if not query.strip():
            raise InvalidInput("There is nothing to search for; name some words, or ask a question.")
        recording = self.library.resolve(reference).id if reference else None
        return self.search.search(query, recording, k)

    def ask(
        self,
        question: str,
        reference: str | None = None,
        thread: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer a question step by step; see ``Assistant.stream``.

        Raises:
            Forbidden: Nobody is signed in.
        """
        self._signed_in()
        recording = self.library.resolve(reference).id if reference else None
        self.note("asked", recording)
        return self.assistant.stream(question, recording, thread, cancel)

    def outline(self, reference: str) -> Outline:
        """The topics of a recording in order; see ``tools.outline``."""
        from tools.outline import outline

        return outline(self.toolbox, reference)

    def listen(
        self,
        reference: str,
        start: float,
        end: float,
        question: str,
        cancel: threading.Event | None = None,
    ) -> Heard:
        """Ask MOSS-Audio about ``[start, end)`` seconds; see ``tools.listen``."""
        self._signed_in()
        from tools.listen import listen

        self.note("asked", self.library.resolve(reference).id)
        return listen(self.toolbox, reference, start, end, question, cancel)

    def search_library(self, query: str, places: int = PLACES) -> LibraryHits:
        """The places in all recordings that best match a text, by recording, and recordings by their title.

        Raises:
            IndexOutOfDate: The index was made with another embedder.
        """
        from index.search.library_search import search_library

        return search_library(self.library, self.search, query, places)

    def timeline(self, reference: str) -> Timeline:
        """Who speaks when, and what else is heard, for a lane over the whole recording."""
        from index.timeline import timeline

        recording = self.library.resolve(reference)
        segments, comments = self.library.segments(recording.id), self.library.comments(recording.id)
        return timeline(recording, segments, comments)

    def comments(self, reference: str) -> list[Comment]:
        """What was noted at moments of a recording, in time order."""
        return self.library.comments(self.library.resolve(reference).id)

    def add_comment(self, reference: str, at: float, text: str) -> Comment:
        """Note something at second ``at`` of a recording; see ``Library.add_comment``."""
        with self._changing():
            recording = self._editable(reference).id
            self.note("changed", recording, "comment")
            return self.library.add_comment(recording, at, text)

    def change_comment(self, number: int, text: str) -> None:
        """Give a comment other words; see ``Library.change_comment``."""
        with self._changing():
            self.note("changed", self.library.change_comment(number, text), "comment changed")

    def remove_comment(self, number: int) -> None:
        """Delete a comment; see ``Library.remove_comment``."""
        with self._changing():
            self.note("changed", self.library.remove_comment(number), "comment removed")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the database alone, which several processes may.

        Raises:
            DiskFull: There is no room.
            ReadOnly: The home folder is only read.
        """
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home):
            yield

    def talk_time(self, reference: str) -> TalkTime:
        """How a recording's time is divided between voices and silence."""
        from index.timeline import talk_time

        recording = self.library.resolve(reference)
        return talk_time(recording, self.library.segments(recording.id))

    def topics(self, reference: str) -> tuple[Topic, ...]:
        """What a recording is about and when; empty where nothing is said in it, or not all is heard yet."""
        recording = self.library.resolve(reference)
        if recording.status != Status.READY:
            return ()
        try:
            return self.summarize(recording.id, "meeting").topics
        except MossAgentError:
            return ()

    def peaks(self, reference: str, start: float, end: float, points: int) -> bytes:
        """How loud ``[start, end)`` seconds are: a byte for each of ``points`` equal parts.

        Raises:
            MossAgentError: The audio copy is not there yet, or not readable, or the range is empty.
        """
        import soundfile

        from index.audio.peaks import drawn, peaks_of

        recording = self.library.resolve(reference)
        try:
            return drawn(peaks_of(self.library.audio_path(recording.id)), start, end, points).tobytes()
        except (OSError, soundfile.LibsndfileError) as error:
            raise MossAgentError("The audio copy of this recording cannot be read.") from error
        except ValueError as error:
            raise MossAgentError(str(error)) from error

    def reindex(self, progress: Callable[[float], None] | None = None) -> int:
        """Rebuild the vector collection from the database; returns the number of passages."""
        from index.search.indexing import rebuild

        # Whoever asks for it: what others have is in the same index.
        with self.writing(), acting_as(EVERYTHING):
            return rebuild(self.library, self.embedder, self.vectors, progress)

    @property
    def is_shared(self) -> bool:
        """Whether several processes may write: database and vectors are both servers."""
        return self.library.database.backend.is_shared and self.vectors.folder is None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the home folder for writing; Chroma allows one writing process and is damaged by two.

        The page holds it for as long as it runs. Threads of one process share it. Where ``is_shared``, nobody
        has to hold it.

        Raises:
            HomeInUse: Another process holds it.
            DiskFull: What was to be written has no room.
            ReadOnly: The home folder is only read.
        """
        if self.read_only is not None:
            raise self.read_only
        with noticing_full_disk(self.home), nullcontext() if self.is_shared else self._lock():
            yield

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._locked:
            if self._lock_depth == 0:
                try:
                    self._lock_file = (self.home / ".lock").open("a+")
                except PermissionError as error:
                    raise not_writable(self.home) from error
                try:
                    fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    self._lock_file.seek(0)
                    page = self._lock_file.read().partition("\n")[2].strip()
                    self._lock_file.close()
                    where = f"on its page, {page}," if page else "on its page,"
                    raise HomeInUse(
                        f"Another moss-agent is using {self.home}; do this {where} or stop it first.", page
                    ) from error
                self._sign_lock()
            self._lock_depth += 1
        try:
            yield
        finally:
            with self._locked:
                self._lock_depth -= 1
                if self._lock_depth == 0:
                    self._lock_file.close()

    def opened_at(self, page: str) -> None:
        """Tell processes that want to write to the home folder where the page is; this one is writing."""
        if not self.is_shared:
            with self.writing():
                self._sign_lock(page)

    def _sign_lock(self, page: str = "") -> None:
        self._lock_file.truncate(0)
        self._lock_file.write(f"{os.getpid()}\n{page}\n")
        self._lock_file.flush()

    def close(self) -> None:
        """Release databases; the workspace cannot be used afterwards."""
        if self.engines_chosen is not None:
            self.engines_chosen.close()
        if "webhooks" in self.__dict__:
            self.webhooks.close()
        if "memory" in self.__dict__:
            self.memory.close()
        if "vectors" in self.__dict__:
            self.vectors.close()
        if (cluster := self.__dict__.get("cluster")) is not None:
            cluster.close()
        self.library.database.close()


def open_workspace(settings: Settings) -> Workspace:
    """Open (and at first use create) the home folder of the settings.

    Raises:
        MossAgentError: The locale is not UTF-8 and the home's name not ASCII: Chroma and the recogniser take
            paths as UTF-8, and would find, or make, another folder.
    """
    encoding = sys.getfilesystemencoding()
    if encoding.replace("-", "").lower() != "utf8" and not str(settings.home.absolute()).isascii():
        raise MossAgentError(
            f"The home folder {settings.home} has letters that cannot be used in this locale ({encoding}); "
            "set PYTHONUTF8=1, or choose a UTF-8 locale."
        )
    return Workspace(settings)
