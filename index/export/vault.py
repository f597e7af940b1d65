"""A folder of Markdown notes, such as an Obsidian vault, that follows the library: one note a recording.

The folder is a person's. Nothing in it is changed but our own part of our own notes (``vault_note``), and a
change that somebody made there goes into a file beside the note before it is overwritten. The database knows
which notes are this library's, so that those of another one are never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from sqlalchemy import delete, select

from index.export.vault_note import (
    NOTE_VERSION,
    Content,
    Note,
    UnreadableNote,
    make_content,
    parse_note,
    set_aside,
    without_ours,
    write_note,
)
from index.recording_errors import MossAgentError
from index.records import Recording, Segment, Status, Summary
from index.store.database import SyncedNoteRow
from index.store.library import Library

LARGEST_NOTE = 20 * 1024 * 1024
"""Bytes; a larger Markdown file is no note of ours."""

LONGEST_NAME = 120
"""Bytes of a file's name in UTF-8, without its ending: sync programs and old file systems stop at 143."""

Summarise = Callable[[Recording], Summary | None]
"""Gives the summary of a recording; None where nothing was said."""


class Action(StrEnum):
    """What was done with a note; the values are what programs read."""

    CREATED = "created"
    UPDATED = "updated"
    RENAMED = "renamed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    LEFT = "left"
    """Nothing, for the reason that the sentence gives."""


@dataclass(frozen=True)
class Synced:
    """One note after a run.

    Attributes:
        recording: The recording's id.
        path: The note's file.
        action: What was done.
        told: What a person should know, a sentence or none.
        aside: The file that a person's change of our part was kept in.
    """

    recording: str
    path: Path
    action: Action
    told: str = ""
    aside: Path | None = None


@dataclass(frozen=True)
class _Kept:
    """What the database knows of a note."""

    name: str
    is_moved: bool
    fingerprint: str


class Vault:
    """A folder of notes.

    Args:
        library: The library that it follows.
        folder: Where the notes are; it is made.
        base: The page's address, for links to moments.
        summarise: Gives a recording's summary.

    Raises:
        MossAgentError: The folder cannot be used, or the address is none.
    """

    def __init__(self, library: Library, folder: Path, base: str, summarise: Summarise) -> None:
        if not re.fullmatch(r"https?://[^\s<>()\"'\\\[\]`]+", base):
            raise MossAgentError(
                f"“{base}” is not an address that links can lead to; it must begin with http:// or https://."
            )
        self.library = library
        self.folder = folder.expanduser().absolute()
        self._key = str(self.folder).encode("utf-8", "replace").decode()
        self.base = base
        self.summarise = summarise
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MossAgentError(f"{folder} cannot be used as a folder ({error.strerror}).") from error
        self._scanned: dict[str, list[Path]] | None = None

    def sync(self) -> Iterator[Synced]:
        """Bring the notes up to date, one after another.

        Yields:
            Each note with what was done; a note that cannot be written is told and does not stop the others.
        """
        self._scanned = None
        known = self._known()
        recordings = {recording.id: recording for recording in self.library.recordings()}
        for recording in reversed(recordings.values()):
            if recording.status == Status.READY:
                kept = known.get(recording.id)
                yield self._guarded(recording.id, kept, partial(self._keep, recording, kept))
        for gone, kept in known.items():
            if gone not in recordings:
                yield self._guarded(gone, kept, partial(self._take_away, gone, kept))

    def remove(self, recording: str) -> None:
        """Take away the note of a recording that is about to be removed, as the next ``sync`` would."""
        kept = self._known().get(recording)
        if kept is not None:
            self._guarded(recording, kept, partial(self._take_away, recording, kept))

    def _guarded(self, recording: str, kept: _Kept | None, work: Callable[[], Synced]) -> Synced:
        try:
            return work()
        except UnreadableNote as error:
            path = self._path_of(recording, kept) or self.folder
            return Synced(recording, path, Action.LEFT, f"{path.name} was left as it is: {error}.")
        except OSError as error:
            path = Path(error.filename) if error.filename else self.folder
            told = f"{path.name} cannot be read or written ({error.strerror}); it was left as it is."
            return Synced(recording, path, Action.LEFT, told)

    # --- one recording --------------------------------------------------------------------------------

    def _keep(self, recording: Recording, kept: _Kept | None) -> Synced:
        """Write, rewrite or rename the note of a recording."""
        segments = self.library.segments(recording.id)
        fingerprint = self._fingerprint(recording, segments)
        path = self._path_of(recording.id, kept)
        if path is None:
            return self._create(recording, segments, fingerprint)
        written = _Written.read(path)
        note = parse_note(written.text)
        if note is None:
            raise UnreadableNote("its marks are gone; delete the note to have it written anew")
        if kept is None:  # a note that the database has forgotten
            is_moved = path.stem != safe_name(recording.title)
        else:
            is_moved = kept.is_moved or kept.name != self._name_of(path)
        target = path if is_moved else self._place(recording, path)
        is_same = kept is not None and kept.fingerprint == fingerprint and target == path
        is_touched = note.is_text_changed or note.is_front_changed
        if is_same and not is_touched:
            if is_moved != (kept is not None and kept.is_moved) or (
                kept and kept.name != self._name_of(path)
            ):
                self._remember(recording.id, path, is_moved, fingerprint)
            return Synced(recording.id, path, Action.UNCHANGED)
        if is_same:
            told = (
                f"{path.name} was changed where moss-agent writes; that change will be kept in a file beside "
                "it when the recording changes."
            )
            return Synced(recording.id, path, Action.UNCHANGED, told)
        content = self._content(recording, segments)
        aside = self._set_aside(note, path) if is_touched else None
        written.replace(path, write_note(content, note))
        if target != path:
            path.rename(target)
        self._remember(recording.id, target, is_moved, fingerprint)
        told = ""
        if note.values() is None:
            told = f"The properties of {target.name} are not valid YAML, so they were left as they are."
        if aside is not None:
            told = _kept_aside(target, aside)
        action = Action.RENAMED if target != path else Action.UPDATED
        return Synced(recording.id, target, action, told, aside)

    def _create(self, recording: Recording, segments: list[Segment], fingerprint: str) -> Synced:
        path = self._place(recording, None)
        _Written("\n", "").create(path, write_note(self._content(recording, segments)))
        self._remember(recording.id, path, False, fingerprint)
        return Synced(recording.id, path, Action.CREATED)

    def _take_away(self, recording: str, kept: _Kept | None) -> Synced:
        """Delete the note of a recording that is gone, or only our part where a person wrote in it."""
        path = self._path_of(recording, kept)
        if path is None:
            self._forget(recording)
            return Synced(recording, self.folder / (kept.name if kept else ""), Action.REMOVED)
        written = _Written.read(path)
        note = parse_note(written.text)
        if note is None:
            self._forget(recording)
            told = f"{path.name} was left as it is: its marks are gone, and so is the recording."
            return Synced(recording, path, Action.LEFT, told)
        aside = self._set_aside(note, path) if note.is_text_changed or note.is_front_changed else None
        if note.has_own_words:
            written.replace(path, without_ours(note, "*The recording was removed from the library.*"))
            told = f"The recording of {path.name} was removed; what you wrote in the note is still there."
        else:
            path.unlink()
            told = ""
        if aside is not None:
            told = (
                f"{path.name} had been changed where moss-agent writes; that change is kept in {aside.name}."
            )
        self._forget(recording)
        return Synced(recording, path, Action.REMOVED, told, aside)

    def _content(self, recording: Recording, segments: list[Segment]) -> Content:
        return make_content(recording, segments, self.summarise(recording), self.base)

    def _fingerprint(self, recording: Recording, segments: list[Segment]) -> str:
        """A hash of all that a note is made from."""
        facts = {key: value for key, value in asdict(recording).items() if key != "seconds_taken"}
        said = [(one.start, one.end, one.kind, one.speaker, one.text) for one in segments]
        made_from = json.dumps([NOTE_VERSION, self.base, facts, said], default=str, sort_keys=True)
        return hashlib.sha256(made_from.encode("utf-8", "replace")).hexdigest()

    def _set_aside(self, note: Note, path: Path) -> Path:
        """Keep what a person wrote in our part in a file beside the note."""
        now = datetime.now().strftime("%Y-%m-%d %H.%M.%S")
        wanted = _cut(path.stem, LONGEST_NAME - 40) + f" (your changes {now})"
        aside = self._free(path.parent, wanted, None)
        _Written("\n", "").create(aside, set_aside(note))
        return aside

    # --- where notes are ------------------------------------------------------------------------------

    def _path_of(self, recording: str, kept: _Kept | None) -> Path | None:
        """The file of a note: where it was, or else wherever a person moved it; None where there is none."""
        if kept is not None:
            path = self.folder / kept.name
            if _holds(path, recording):
                return path
        found = self._scan().get(recording, [])
        if found:
            return min(found, key=lambda path: (len(path.parts), str(path)))
        # A note without its marks is still the person's.
        return path if kept is not None and path.is_file() else None

    def _scan(self) -> dict[str, list[Path]]:
        """The notes in the folder and below it by the recording in their marks; looked up once a run."""
        if self._scanned is None:
            self._scanned = {}
            for folder, folders, names in os.walk(self.folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(folder, name)
                    is_note = name.endswith(".md") and not name.startswith(".") and not path.is_symlink()
                    if is_note and (recording := _recording_of(path)):
                        self._scanned.setdefault(recording, []).append(path)
        return self._scanned

    def _place(self, recording: Recording, now: Path | None) -> Path:
        """Where a note with a recording's title goes: in the folder that it is in."""
        parent = self.folder if now is None else now.parent
        return self._free(parent, safe_name(recording.title), now, f" ({recording.id[:8]})")

    def _free(self, parent: Path, stem: str, now: Path | None, suffix: str = "") -> Path:
        """A file name that nobody has, in any spelling of case: the one wanted, or with something behind it.

        Args:
            parent: The folder.
            stem: The name wanted, without ``.md``.
            now: The name that it has, if there is one.
            suffix: What is put behind the name where it is taken.
        """
        taken = {_same(entry.name) for entry in parent.iterdir() if now is None or entry.name != now.name}
        numbered = (f"{stem}{suffix} {number}" for number in range(2, 10_000))
        for name in (stem, *((f"{stem}{suffix}",) if suffix else ()), *numbered):
            if _same(f"{name}.md") not in taken:
                return parent / f"{name}.md"
        raise MossAgentError(f"There are too many notes named “{stem}” in {parent}.")

    def _name_of(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix().encode("utf-8", "replace").decode()

    # --- what the database knows ----------------------------------------------------------------------

    def _known(self) -> Mapping[str, _Kept]:
        query = select(SyncedNoteRow).where(SyncedNoteRow.folder == self._key)
        with self.library.database.transaction() as session:
            rows = session.scalars(query).all()
            return {row.recording_id: _Kept(row.name, row.is_moved, row.fingerprint) for row in rows}

    def _remember(self, recording: str, path: Path, is_moved: bool, fingerprint: str) -> None:
        row = SyncedNoteRow(
            folder=self._key,
            recording_id=recording,
            name=self._name_of(path),
            is_moved=is_moved,
            fingerprint=fingerprint,
        )
        with self.library.database.transaction() as session:
            session.merge(row)

    def _forget(self, recording: str) -> None:
        own = SyncedNoteRow.folder == self._key, SyncedNoteRow.recording_id == recording
        with self.library.database.transaction() as session:
            session.execute(delete(SyncedNoteRow).where(*own))


def _kept_aside(note: Path, aside: Path) -> str:
    return f"{note.name} had been changed where moss-agent writes; that change is kept in “{aside.name}”."


# --- files --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Written:
    """A text file: its line ends and mark as they are kept, and the text."""

    line_end: str
    text: str
    mark: str = ""

    @classmethod
    def read(cls, path: Path) -> _Written:
        """Read a note.

        Raises:
            UnreadableNote: It is not UTF-8.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableNote("it is not UTF-8 text") from error
        plain = text.replace("\r\n", "")
        line_end = "\r\n" if "\r\n" in text and "\n" not in plain else "\n"
        return cls(line_end, text, "\ufeff" if text.startswith("\ufeff") else "")

    def replace(self, path: Path, text: str) -> None:
        """Put a new text in the file's place, all of it or nothing.

        Raises:
            UnreadableNote: Somebody wrote in it meanwhile.
        """
        if path.read_bytes().decode("utf-8", "replace") != self.text:
            raise UnreadableNote("somebody wrote in it just now; it is brought up to date the next time")
        self._write(path, text, os.replace)

    def create(self, path: Path, text: str) -> None:
        """Write a new file, all of it or nothing; one that is there is never overwritten."""
        self._write(path, text, _link)

    def _write(self, path: Path, text: str, put: Callable[[str, Path], None]) -> None:
        data = (self.mark + text.replace("\n", self.line_end)).encode("utf-8", "replace")
        number, name = tempfile.mkstemp(dir=path.parent, prefix=".moss-agent-", suffix=".tmp")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp lets the owner alone read; a note is as any other file, or stays as it was.
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
            os.chmod(name, mode)
            put(name, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


def _link(name: str, path: Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without links, such as FAT
        if path.exists():
            raise FileExistsError(17, "a file of that name is there already", str(path)) from None
        os.replace(name, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _recording_of(path: Path) -> str | None:
    """The recording in the marks of a file; None where there are none that can be read."""
    with suppress(OSError, UnicodeDecodeError, UnreadableNote):
        if path.stat().st_size <= LARGEST_NOTE:
            data = path.read_bytes()
            if b"<!-- moss-agent:begin " in data:
                note = parse_note(data.decode("utf-8"))
                return note.recording if note else None
    return None


def _holds(path: Path, recording: str) -> bool:
    """Whether a file is there and has a recording's marks, be they damaged."""
    with suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return f"<!-- moss-agent:begin {recording} ".encode() in path.read_bytes()
    return False


_UNSAFE = re.compile(r"[\\/:*?\"<>|#^\[\]\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)


def safe_name(title: str) -> str:
    """A recording's title as a file name that every system takes, and to which Obsidian can link."""
    name = unicodedata.normalize("NFC", title)
    name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    name = " ".join(_UNSAFE.sub("-", name).split()).strip(" .-")
    name = _cut(name, LONGEST_NAME).strip(" .-") or "Untitled recording"
    return f"{name}-" if _RESERVED.match(name) else name


def _cut(name: str, most: int) -> str:
    """The beginning of a name that has at most so many bytes in UTF-8."""
    return name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore").rstrip()


def _same(name: str) -> str:
    """A name as file systems compare them that do not tell cases apart."""
    return unicodedata.normalize("NFC", name).casefold()
