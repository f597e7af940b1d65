"""A folder that is watched: media and transcripts that appear in it are taken in once they stop growing.

The folder is looked through again and again instead of being told of changes: such messages do not come from
network folders, and a file has to be looked at twice anyway to see that nobody is still writing it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.adding import unexpected
from agent.workspace import Workspace
from index.imports.transcript_files import TRANSCRIPT_SUFFIXES, without_language
from index.pipeline.urgency import archiving
from index.progress import Report
from index.recording_errors import (
    Cancelled,
    DiskFull,
    HomeInUse,
    IndexOutOfDate,
    MediaError,
    MossAgentError,
    ReadOnly,
    TranscriptError,
    WeightsError,
)
from index.records import Recording, WatchedFile
from moss_audio.errors import MossAudioError

_MEDIA = (
    "3gp aac ac3 aif aiff amr ape avi caf dv flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mts "
    "mxf nut oga ogg ogv opus wav weba webm wma wmv wv"
)
MEDIA_SUFFIXES = frozenset(f".{name}" for name in _MEDIA.split())
"""Endings of the media files that are taken in by themselves; `add` takes any."""

WATCHED_TRANSCRIPTS = tuple(
    suffix for suffix in (".json", ".vtt", ".srt", ".txt") if suffix in TRANSCRIPT_SUFFIXES
)
"""Transcripts, the one that says most first. Markdown files are notes more often."""

SETTLE_SECONDS = 5.0
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Taken:
    """What became of a file.

    Attributes:
        path: The file.
        recording: What it became; None where it became nothing.
        problem: Why, as a sentence; empty where it became a recording.
        told: What else happened, a sentence each.
    """

    path: Path
    recording: Recording | None = None
    problem: str = ""
    told: tuple[str, ...] = ()


@dataclass
class _Seen:
    """How a file looked, and since when it has looked so (seconds of a clock that never goes back)."""

    size: int
    modified: int
    since: float


@dataclass
class Watch:
    """A watched folder.

    Args:
        workspace: Where files go.
        folder: The folder; those below it are watched as well, but for hidden ones.
        reporting: Gives a file's name the function that is told how far it is.
        stop: Set it to end; what was transcribed of a file is kept.
        told: Called with a sentence when the watch has to wait.
        settle: Seconds for which a file must stay the same.
        look: Seconds between two looks.
        speakers, language: See ``Workspace.add``.
    """

    workspace: Workspace
    folder: Path
    reporting: Callable[[str], Report]
    stop: threading.Event = field(default_factory=threading.Event)
    told: Callable[[str], None] = lambda sentence: None
    settle: float = SETTLE_SECONDS
    look: float = LOOK_SECONDS
    speakers: int | None = None
    language: str | None = None
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _failed: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Files that failed for a reason that may pass; they are tried again when they change, or at a start."""
    _waits: str = ""

    def __post_init__(self) -> None:
        self.folder = self.folder.expanduser().absolute()
        if not self.folder.is_dir():
            raise MossAgentError(f"There is no folder {self.folder} to watch.")
        if self.workspace.read_only is not None:
            raise self.workspace.read_only

    def run(self, once: bool = False) -> Iterator[Taken]:
        """Take in what is there and what appears, until ``stop`` is set.

        Args:
            once: End when all that is there was dealt with.

        Yields:
            Each file, when it is done with.

        Raises:
            MossAgentError: Nothing can be taken in: the folder is gone, weights are missing, the search index
                must be rebuilt, the home folder is only read.
        """
        while not self.stop.is_set():
            growing, settled = self._look()
            waits, did = False, False
            for path in settled:
                if self.stop.is_set():
                    return
                taken = self._take(path, settled, growing)
                if taken is None:
                    waits = True
                    break
                did = did or bool(taken)
                yield from taken
            if once and not growing and not waits and not settled:
                return
            # What was taken in may have left something that can be taken in now.
            if waits or not did:
                self.stop.wait(self.look)

    # --- looking --------------------------------------------------------------------------------------

    def _look(self) -> tuple[set[Path], list[Path]]:
        """The files that are new or changed: those that are being written, and those that are whole."""
        if not self.folder.is_dir():
            raise MossAgentError(f"The folder {self.folder} is gone; nothing more can be taken in.")
        now = time.monotonic()
        growing: set[Path] = set()
        settled: list[Path] = []
        there: set[Path] = set()
        for path in self._files():
            try:
                status = path.stat()
            except OSError:
                continue
            there.add(path)
            looks = status.st_size, status.st_mtime_ns
            if self._failed.get(path) == looks or self._is_done(path, *looks):
                continue
            seen = self._seen.get(path)
            if seen is None or (seen.size, seen.modified) != looks:
                self._seen[path] = seen = _Seen(*looks, now)
            # An empty file is one that somebody is about to write.
            if status.st_size and now - seen.since >= self.settle:
                settled.append(path)
            elif status.st_size:
                growing.add(path)
        self._seen = {path: seen for path, seen in self._seen.items() if path in there}
        return growing, settled

    def _files(self) -> Iterator[Path]:
        """Media and transcripts in the folder, in order of their names."""
        home = self.workspace.home
        for folder, folders, names in os.walk(self.folder):
            inside = Path(folder)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and (inside / name) != home
            )
            for name in sorted(names):
                path = inside / name
                if not name.startswith((".", "~")) and _is_wanted(path) and path.is_file():
                    yield path

    def _is_done(self, path: Path, size: int, modified: int) -> bool:
        known = self.workspace.library.watched_file(path)
        return known is not None and (known.size, known.modified) == (size, modified)

    # --- taking in ------------------------------------------------------------------------------------

    def _take(self, path: Path, settled: list[Path], growing: set[Path]) -> list[Taken] | None:
        """Take in a file, and what belongs to it; None where that has to wait for another program.

        A transcript and the media file of the same name are one recording.
        """
        if not path.is_file() or self._is_done(path, *self._looks(path)):
            return []
        transcripts, media = _companions(path)
        if any(other in growing for other in (*transcripts, *media)):
            return []
        if path.suffix.lower() in MEDIA_SUFFIXES:
            known = self._recording_of(transcripts)
            if known is not None:
                return self._attempt(path, lambda report, told: self._attach(known, path, report))
            waiting = self._waiting(transcripts, settled)
            if waiting and media[0] == path:
                return self._take(waiting[0], settled, growing)
            return self._attempt(path, lambda report, told: self._add(path, report, told))
        if taken_before := next((other for other in transcripts if self._recording_of([other])), None):
            sentence = f"{path.name} was left out, because {taken_before.name} is the same transcript."
            self._remember(path, None)
            return [Taken(path, problem=sentence)]
        waiting = self._waiting(transcripts, settled)
        if waiting and path != waiting[0]:
            return self._take(waiting[0], settled, growing)
        beside = media[0] if media else None
        taken = self._attempt(path, lambda report, told: self._import(path, beside, report, told))
        if taken and taken[0].recording is not None and beside is not None:
            self._remember(beside, taken[0].recording.id)
        return taken

    def _waiting(self, transcripts: list[Path], settled: list[Path]) -> list[Path]:
        return [
            path for path in transcripts if path in settled and not self._is_done(path, *self._looks(path))
        ]

    def _attempt(
        self, path: Path, work: Callable[[Report, Callable[[str], None]], Recording]
    ) -> list[Taken] | None:
        told: list[str] = []
        try:
            recording = work(self.reporting(path.name), told.append)
        except (HomeInUse, DiskFull) as error:
            self._wait(error)
            return None
        except Cancelled:
            return []
        except (WeightsError, IndexOutOfDate, ReadOnly):
            raise
        except (MediaError, TranscriptError) as error:
            self._remember(path, None)
            return [Taken(path, problem=str(error), told=tuple(told))]
        except (MossAgentError, MossAudioError) as error:
            self._failed[path] = self._looks(path)
            return [Taken(path, problem=str(error), told=tuple(told))]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._failed[path] = self._looks(path)
            return [Taken(path, problem=str(unexpected(path, error)), told=tuple(told))]
        try:
            self._remember(path, recording.id)
        except DiskFull as error:
            self._wait(error)
            return None
        self._waits = ""
        return [Taken(path, recording, told=tuple(told))]

    def _wait(self, error: MossAgentError) -> None:
        """Say once that something has to change before files can be taken in."""
        if str(error) != self._waits:
            self._waits = str(error)
            self.told(f"{error} Waiting until that has changed.")

    def _add(self, path: Path, report: Report, told: Callable[[str], None]) -> Recording:
        with archiving():
            return self.workspace.add(path, None, self.speakers, report, self.stop, self.language, told)

    def _import(
        self, path: Path, media: Path | None, report: Report, told: Callable[[str], None]
    ) -> Recording:
        return self.workspace.import_transcript(
            path, media, None, self.language, self.speakers, progress=report, cancel=self.stop, told=told
        )

    def _attach(self, recording: str, media: Path, report: Report) -> Recording:
        return self.workspace.attach_media(recording, media, self.speakers, report, self.stop)

    def _recording_of(self, transcripts: list[Path]) -> str | None:
        """An imported transcript that waits for its media."""
        for path in transcripts:
            known = self.workspace.library.watched_file(path)
            if known is not None and known.recording is not None:
                recordings = {one.id: one for one in self.workspace.library.recordings()}
                found = recordings.get(known.recording)
                if found is not None and found.imported is not None:
                    return found.id
        return None

    def _remember(self, path: Path, recording: str | None) -> None:
        size, modified = self._looks(path)
        self.workspace.library.note_watched_file(path, WatchedFile(size, modified, recording))

    def _looks(self, path: Path) -> tuple[int, int]:
        """Size and time as they were when the file was found whole."""
        seen = self._seen.get(path)
        if seen is not None:
            return seen.size, seen.modified
        try:
            status = path.stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns


def _is_wanted(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in MEDIA_SUFFIXES or suffix in WATCHED_TRANSCRIPTS


def _companions(path: Path) -> tuple[list[Path], list[Path]]:
    """Transcripts, the best first, and media files of the same name in the same folder."""
    stem = _stem(path)
    try:
        beside = sorted(path.parent.iterdir())
    except OSError:
        # The folder was taken away meanwhile.
        return [], []
    same = [
        other
        for other in beside
        if _is_wanted(other)
        and _stem(other) == stem
        and not other.name.startswith((".", "~"))
        and other.is_file()
    ]
    transcripts = [other for other in same if other.suffix.lower() in WATCHED_TRANSCRIPTS]
    transcripts.sort(key=lambda other: WATCHED_TRANSCRIPTS.index(other.suffix.lower()))
    return transcripts, [other for other in same if other.suffix.lower() in MEDIA_SUFFIXES]


def _stem(path: Path) -> str:
    """A file's name without its ending, and of a transcript without its language: ``talk.en.srt``."""
    if path.suffix.lower() in WATCHED_TRANSCRIPTS:
        return without_language(path.stem)
    return path.stem
