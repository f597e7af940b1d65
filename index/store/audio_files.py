"""The audio copies of recordings: files in a folder, or kept elsewhere and fetched when they are needed.

Readers always get a local path. Where the copies are kept elsewhere (any file system that fsspec knows), the
folder is a cache: a copy is sent once it is made, fetched when something wants to read it, and dropped from
the folder when others were used more recently. What is written, there or here, is written under another name
first and renamed once it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from index.disk_space import noticing_full_disk
from index.recording_errors import MossAgentError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

COPY, PEAKS, ORIGIN = ".flac", ".peaks", ".origin"
"""Suffixes of a copy, of its peaks (``index.audio.peaks``), and of what is known of where it was sent."""

UNFINISHED = (".again", ".partial", ".sides", ".reserve", ".peaks-partial")
"""Suffixes of what is not whole yet."""

ARRIVING = ".arriving-"
"""What the suffix of a file begins with that one process writes; a name that no other has follows, since
processes of several machines may share the folder."""

REMOVING = "removing"
"""Folder with a note for each recording whose copy is to go; it says when that was decided. It is written
before the library forgets the recording, and goes after the copy, so that no copy is left for nobody."""

SETTING = "MOSS_AGENT_AUDIO"
LOOK_AGAIN = 30.0
"""Seconds for which a cached copy counts as the one that is kept elsewhere."""

SWEEP_AGAIN = 60.0
"""Seconds after which cached copies of recordings that are gone are looked for again."""

IN_USE = 3600.0
"""Seconds for which a copy that was asked for is not dropped: somebody may be about to read it."""

_ID = re.compile(r"[0-9A-Za-z_-]+")
_log = logging.getLogger(__name__)


class AudioFiles:
    """The audio copies in a folder.

    Args:
        folder: Where they lie, ``<recording>.flac`` each.
    """

    url = ""
    """Where the copies are kept, without passwords; empty where that is the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def local(self, recording: str) -> Path:
        """Where a copy lies, or would lie, on this machine; nothing is fetched."""
        return self.folder / f"{recording}{COPY}"

    def path(self, recording: str) -> Path:
        """A copy on this machine; the file may not exist yet.

        Raises:
            MossAgentError: It is kept elsewhere and cannot be fetched.
            DiskFull: There is no room for it.
        """
        return self.local(recording)

    def exists(self, recording: str) -> bool:
        """Whether there is a copy, here or elsewhere."""
        return self.local(recording).exists()

    def put(self, recording: str) -> None:
        """Keep the copy that was made in the folder; again does nothing.

        Raises:
            MossAgentError: It cannot be sent to where copies are kept; it stays in the folder.
        """

    def take(self, recording: str, copy: Path) -> None:
        """Keep a copy, and the peaks beside it, that lie in another folder, which stays as it is.

        Raises:
            MossAgentError: They cannot be sent to where copies are kept.
            DiskFull: There is no room for them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # After the copy: peaks that are older than it would be made again.
        for suffix in (COPY, PEAKS):
            source, target = copy.with_suffix(suffix), self.local(recording).with_suffix(suffix)
            if source.exists():
                arriving = target.with_suffix(f"{ARRIVING}{uuid.uuid4().hex}")
                try:
                    with noticing_full_disk(self.folder):
                        shutil.copyfile(source, arriving)
                    arriving.replace(target)
                finally:
                    arriving.unlink(missing_ok=True)

    def digest(self, recording: str) -> str | None:
        """SHA-256 of the copy as it is kept, in hexadecimal; None where there is none.

        Raises:
            MossAgentError: It is kept elsewhere and cannot be read.
        """
        return digest_of(self.local(recording))

    def begin_removal(self, recording: str) -> None:
        """Note that a copy is to go, which ``remove`` then deletes.

        Raises:
            MossAgentError: It is kept elsewhere, and that cannot be reached.
        """
        note = self.folder / REMOVING / recording
        # Nothing more can be written on a full disk, and the copy must go all the same.
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(time.time()), encoding="utf-8")

    def remove(self, recording: str) -> None:
        """Delete a copy, here and elsewhere, and the note that it is to go.

        Raises:
            MossAgentError: It is kept elsewhere, and that cannot be reached.
        """
        self.drop_local(recording)
        (self.folder / REMOVING / recording).unlink(missing_ok=True)
        with suppress(OSError):
            (self.folder / REMOVING).rmdir()

    def removals(self) -> dict[str, float]:
        """The recordings whose copies are to go, and when that was noted, in seconds since 1970.

        Raises:
            MossAgentError: They are kept elsewhere, and that cannot be reached.
        """
        found = {}
        for note in (self.folder / REMOVING).glob("*"):
            with suppress(OSError, ValueError):
                found[note.name] = float(note.read_text(encoding="utf-8"))
        return found

    def is_newer(self, recording: str, at: float) -> bool:
        """Whether something on this machine belongs to a recording and was written since a time."""
        for file in self.folder.glob(f"{recording}.*"):
            with suppress(OSError):
                if file.stat().st_mtime > at:
                    return True
        return False

    def drop_local(self, recording: str) -> None:
        """Delete what is on this machine of a recording."""
        for suffix in (COPY, PEAKS, ORIGIN, *UNFINISHED):
            self.local(recording).with_suffix(suffix).unlink(missing_ok=True)
        if _ID.fullmatch(recording):
            for arriving in self.folder.glob(f"{recording}{ARRIVING}*"):
                arriving.unlink(missing_ok=True)

    def check(self) -> str:
        """What the copies are kept in, in a few words, once it was seen to work.

        Raises:
            MossAgentError: It does not.
        """
        return str(self.folder)


@dataclass(frozen=True)
class _Origin:
    """What is known of a cached copy.

    Attributes:
        local: Its size in bytes and its time of change in nanoseconds, as it was sent or fetched.
        kept: What the other place says of the one that it keeps.
    """

    local: tuple[int, int]
    kept: str


class KeptElsewhere(AudioFiles):
    """Audio copies that are kept on another file system.

    Args:
        folder: The cache.
        url: Where the copies are kept, as fsspec reads it; from the settings, never from a recording.
        most_bytes: Size that the cache may have.
        still_there: Of some recordings those that the library has, and whether they are idle: nobody takes
            them in now.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        most_bytes: int,
        still_there: Callable[[Collection[str]], dict[str, bool]],
    ) -> None:
        super().__init__(folder)
        self.url = _without_password(url)
        self._given = url
        self._most_bytes = most_bytes
        self._still_there = still_there
        self._opened: tuple[AbstractFileSystem, str] | None = None
        self._lock = threading.Lock()
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._seen: dict[str, float] = {}
        self._swept = -SWEEP_AGAIN

    def path(self, recording: str) -> Path:
        """See ``AudioFiles``; it is fetched where the cache has none, or another was made since."""
        self._sweep()
        copy = self.local(recording)
        with self._locks[recording]:
            origin = self._origin(recording)
            if copy.exists():
                if origin is None or time.monotonic() - self._seen.get(recording, -LOOK_AGAIN) < LOOK_AGAIN:
                    # One that was never sent is the newest there is.
                    self._used(recording)
                    return copy
                try:
                    kept = self._kept(recording)
                except MossAgentError as error:
                    _log.warning("The cached copy is used. %s", error)
                    return copy
                if kept == origin.kept:
                    self._seen[recording] = time.monotonic()
                    self._used(recording)
                    return copy
                self.drop_local(recording)  # removed or made anew elsewhere
            self._fetch(recording)
        return copy

    def exists(self, recording: str) -> bool:
        """See ``AudioFiles``; False where the other place cannot be reached and the cache has none."""
        if self.local(recording).exists():
            return True
        try:
            return self._kept(recording) is not None
        except MossAgentError as error:
            _log.warning("%s", error)
            return False

    def put(self, recording: str) -> None:
        """See ``AudioFiles``."""
        copy = self.local(recording)
        with self._locks[recording]:
            if not copy.exists():
                return
            origin = self._origin(recording)
            if origin is not None and self._kept(recording) == origin.kept:
                return
            with self._reaching() as (files, place):
                files.makedirs(place, exist_ok=True)
                self._remove_unfinished(files, place, recording)
                peaks = copy.with_suffix(PEAKS)
                if peaks.exists():
                    _send(files, peaks, self._name(place, recording, PEAKS))
                before = _stamp(copy)
                _send(files, copy, self._name(place, recording, COPY))
            kept = self._kept(recording)
            if kept is not None and _stamp(copy) == before:
                self._note(recording, _Origin(before, kept))
                self._seen[recording] = time.monotonic()
        self._make_room(recording)

    def take(self, recording: str, copy: Path) -> None:
        """See ``AudioFiles``; it is sent from where it lies, past the cache."""
        with self._locks[recording], self._reaching() as (files, place):
            files.makedirs(place, exist_ok=True)
            self._remove_unfinished(files, place, recording)
            for suffix in (PEAKS, COPY):
                if copy.with_suffix(suffix).exists():
                    _send(files, copy.with_suffix(suffix), self._name(place, recording, suffix))

    def digest(self, recording: str) -> str | None:
        """See ``AudioFiles``; it is read from where it is kept, not from the cache."""
        if self._kept(recording) is None:
            return None
        with self._reaching() as (files, place), files.open(self._name(place, recording, COPY), "rb") as file:
            return _sha256(file)

    def begin_removal(self, recording: str) -> None:
        """See ``AudioFiles``."""
        with self._reaching() as (files, place):
            files.makedirs(f"{place}/{REMOVING}", exist_ok=True)
            files.pipe_file(self._name(f"{place}/{REMOVING}", recording, ""), str(time.time()).encode())

    def remove(self, recording: str) -> None:
        """See ``AudioFiles``."""
        with self._locks[recording], self._reaching() as (files, place):
            self._remove_unfinished(files, place, recording)
            for suffix in (COPY, PEAKS):
                with suppress(FileNotFoundError):
                    files.rm_file(self._name(place, recording, suffix))
            self._seen.pop(recording, None)
            self.drop_local(recording)
            with suppress(FileNotFoundError):
                files.rm_file(self._name(f"{place}/{REMOVING}", recording, ""))
            # One that is empty; object stores have none.
            with suppress(Exception):
                files.rmdir(f"{place}/{REMOVING}")

    def removals(self) -> dict[str, float]:
        """See ``AudioFiles``."""
        found = {}
        with self._reaching() as (files, place):
            files.invalidate_cache()
            with suppress(FileNotFoundError):
                for note in files.ls(f"{place}/{REMOVING}", detail=False):
                    name = str(note).rstrip("/").rpartition("/")[2]
                    with suppress(FileNotFoundError, ValueError):
                        found[name] = float(files.cat_file(self._name(f"{place}/{REMOVING}", name, "")))
        return found

    def check(self) -> str:
        """See ``AudioFiles``; a small file is written, read and removed."""
        with self._reaching() as (files, place):
            files.makedirs(place, exist_ok=True)
            name = f"{place}/check-{uuid.uuid4().hex}"
            files.pipe_file(name, b"moss-agent")
            try:
                found = files.cat_file(name)
            finally:
                files.rm_file(name)
            if found != b"moss-agent":
                raise OSError("what was written is not what was read")
        return f"{self.url}, cached in {self.folder}"

    def _fetch(self, recording: str) -> None:
        copy = self.local(recording)
        kept = self._kept(recording)
        if kept is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        arriving = copy.with_suffix(f"{ARRIVING}{uuid.uuid4().hex}")
        try:
            with self._reaching() as (files, place), noticing_full_disk(self.folder):
                name = self._name(place, recording, COPY)
                files.get_file(name, str(arriving))
                if arriving.stat().st_size != files.info(name)["size"]:
                    raise OSError("it came only in part")
                if self._kept(recording) != kept:
                    raise OSError("it was changed while it came")
                arriving.replace(copy)
                # At once: a copy without a note is taken for one that was never sent, and is never dropped.
                self._note(recording, _Origin(_stamp(copy), kept))
                # After the copy: peaks that are older than it would be made again. Each file system raises
                # errors of its own, and peaks that do not come are made from the copy.
                with suppress(Exception):
                    files.get_file(self._name(place, recording, PEAKS), str(arriving))
                    arriving.replace(copy.with_suffix(PEAKS))
        finally:
            arriving.unlink(missing_ok=True)
        self._seen[recording] = time.monotonic()
        self._make_room(recording)

    def _kept(self, recording: str) -> str | None:
        """What tells the copy that is kept from every other one; None where none is kept."""
        with self._reaching() as (files, place):
            files.invalidate_cache()
            try:
                info = files.info(self._name(place, recording, COPY))
            except FileNotFoundError:
                return None
        names = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")
        marks = [str(info[name]) for name in names if info.get(name) is not None]
        return " ".join([str(info["size"]), *marks[:1]])

    def _origin(self, recording: str) -> _Origin | None:
        """What was noted of a cached copy; None where the file is another one than was sent or fetched."""
        copy = self.local(recording)
        try:
            data = json.loads(copy.with_suffix(ORIGIN).read_text(encoding="utf-8"))
            origin = _Origin((int(data["local"][0]), int(data["local"][1])), str(data["kept"]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None
        return origin if copy.exists() and origin.local == _stamp(copy) else None

    def _note(self, recording: str, origin: _Origin) -> None:
        note = self.local(recording).with_suffix(ORIGIN)
        partial = note.with_suffix(f"{ARRIVING}{uuid.uuid4().hex}")
        with noticing_full_disk(self.folder):
            partial.write_text(json.dumps({"local": origin.local, "kept": origin.kept}), encoding="utf-8")
            partial.replace(note)

    def _used(self, recording: str) -> None:
        with suppress(OSError):
            os.utime(self.local(recording).with_suffix(ORIGIN))

    def _make_room(self, recording: str) -> None:
        """Drop the copies that were not used for longest, but none that somebody may be reading."""
        cached = []
        total = 0
        for copy in self.folder.glob(f"*{COPY}"):
            with suppress(OSError):
                size = copy.stat().st_size
                total += size
                if copy.stem != recording and self._origin(copy.stem) is not None:
                    cached.append((copy.with_suffix(ORIGIN).stat().st_mtime, size, copy.stem))
        if total <= self._most_bytes:
            return
        idle = self._still_there([name for _, _, name in cached])
        for used, size, name in sorted(cached):
            if total <= self._most_bytes or time.time() - used < IN_USE:
                return
            if idle.get(name, True):
                self.drop_local(name)
                total -= size

    def _sweep(self) -> None:
        """Drop the cached copies of recordings that were removed, be it on another machine."""
        with self._lock:
            if time.monotonic() - self._swept < SWEEP_AGAIN:
                return
            self._swept = time.monotonic()
        for arriving in self.folder.glob(f"*{ARRIVING}*"):
            with suppress(OSError):
                if time.time() - arriving.stat().st_mtime > IN_USE:
                    arriving.unlink()  # of a process that was killed
        sent = [note.stem for note in self.folder.glob(f"*{ORIGIN}")]
        known = self._still_there(sent) if sent else {}
        for name in sent:
            if name not in known:
                self.drop_local(name)

    def _open(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        with self._lock:
            if self._opened is None:
                try:
                    files, place = url_to_fs(self._given)
                except ImportError as error:
                    raise MossAgentError(
                        f"{SETTING}={self.url} needs a package that is not installed ({error}); install it "
                        "beside moss-agent."
                    ) from error
                except ValueError as error:
                    raise MossAgentError(
                        f"{SETTING}={self.url} is of no kind that fsspec knows; write it like s3://bucket/folder."
                    ) from error
                self._opened = files, str(place).rstrip("/")
            return self._opened

    @contextmanager
    def _reaching(self) -> Iterator[tuple[AbstractFileSystem, str]]:
        """The file system and the folder on it; whatever it raises becomes one sentence."""
        try:
            yield self._open()
        except MossAgentError:
            raise
        except Exception as error:
            # File systems raise whatever their libraries do.
            raise MossAgentError(
                f"The audio copies at {self.url} cannot be reached ({type(error).__name__}); "
                f"correct {SETTING}, or try again once it works."
            ) from error

    @staticmethod
    def _name(place: str, recording: str, suffix: str) -> str:
        if not _ID.fullmatch(recording):
            raise MossAgentError("This is not the id of a recording.")
        return f"{place}/{recording}{suffix}"

    def _remove_unfinished(self, files: AbstractFileSystem, place: str, recording: str) -> None:
        """Remove what earlier attempts to send left behind; only one process takes a recording in."""
        files.invalidate_cache()
        for suffix in (COPY, PEAKS):
            for name in files.glob(f"{self._name(place, recording, suffix)}.sending-*"):
                with suppress(FileNotFoundError):
                    files.rm_file(name)


def _send(files: AbstractFileSystem, source: Path, name: str) -> None:
    """Send a file, complete or not at all."""
    sending = f"{name}.sending-{uuid.uuid4().hex}"
    try:
        files.put_file(str(source), sending)
        files.invalidate_cache()
        if files.info(sending)["size"] != source.stat().st_size:
            raise OSError("it arrived only in part")
        files.mv(sending, name)
    except BaseException:
        with suppress(Exception):
            files.rm_file(sending)
        raise


def digest_of(copy: Path) -> str | None:
    """SHA-256 of a file in hexadecimal; None where there is none."""
    try:
        with copy.open("rb") as file:
            return _sha256(file)
    except FileNotFoundError:
        return None


def _sha256(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while block := file.read(2**20):
        found.update(block)
    return found.hexdigest()


def _stamp(copy: Path) -> tuple[int, int]:
    stat = copy.stat()
    return stat.st_size, stat.st_mtime_ns


def _without_password(url: str) -> str:
    """A URL as people may see it."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)


def audio_files(
    home: Path,
    setting: str | None,
    cache_mb: int,
    still_there: Callable[[Collection[str]], dict[str, bool]],
) -> AudioFiles:
    """Where the settings want the audio copies.

    Args:
        home: The home folder, which has a folder for them.
        setting: Another folder, a URL, or None.
        cache_mb: Size of the cache in MiB where they are kept elsewhere.
        still_there: See ``KeptElsewhere``.

    Raises:
        MossAgentError: The setting is neither a whole path nor a URL.
    """
    folder = home / "audio"
    if setting is None:
        return AudioFiles(folder)
    if "://" in setting:
        return KeptElsewhere(folder, setting, cache_mb * 2**20, still_there)
    if not Path(setting).expanduser().is_absolute():
        raise MossAgentError(
            f"{SETTING} must be a folder with its whole path, or a URL like s3://bucket/folder."
        )
    return AudioFiles(Path(setting).expanduser())
