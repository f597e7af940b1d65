"""Uploaded files between the browser and the library.

Browsers write to ``home/arriving`` and nowhere else. A file that is claimed moves to a folder of its own,
``home/uploads/<name>``, and what is known about it lies in ``home/upload-jobs/<name>.json``, where no
browser can put anything. It stays until it was added or the user lets go of it: the queue goes on after the
server was stopped, in its order, and what was stopped or failed is still there to be tried again.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from index.audio.decode import file_id
from index.disk_space import noticing_full_disk
from index.recording_errors import DiskFull, MediaError, MossAgentError
from index.store.access import Person, acting, acting_as
from web.jobs import Job, Jobs, attachable

if TYPE_CHECKING:
    from agent.workspace import Workspace

MOST_BEGUN = 1
"""How often a file is begun again by itself after the program ended while it was transcribed."""

LEFT_BEHIND_SECONDS = 24 * 3600
"""After so long nobody writes to a file any more that another process has not claimed."""

BROKE_OFF = "The program ended twice while this was being transcribed; what was transcribed is kept."

_NAME = re.compile(r"[0-9a-f]{32}")
# The page puts it before a file's name: two files alike, sent one after the other, must not meet.
_SENT = re.compile(r"^[0-9a-f]{16}-(?=.)")


@dataclass(frozen=True)
class Upload:
    """A file that a browser sent.

    Attributes:
        name: 32 hex digits; names the folder and the note.
        path: The file.
        title: What the user called it.
        speakers: Number of speakers when the user gave one.
        recording: Id that the recording has or will have; None when the file cannot be read.
        track: Audio track to hear, from 1, when the user chose one.
        sent: When it was sent, seconds since 1970; the queue's order.
        state: What became of it in the queue so far: ``waiting``, ``running``, ``stopped`` or ``failed``.
        error: Why it failed, as one sentence.
        begun: How often it was begun in a row with the program ending before anything came of it.
        person: Number of the account that sent it; None where nobody had one.
        is_attached: Whether it is the media of ``recording``, an imported transcript.
    """

    name: str
    path: Path
    title: str
    speakers: int | None = None
    recording: str | None = None
    track: int | None = None
    sent: float = 0.0
    state: str = "stopped"
    error: str | None = None
    begun: int = 0
    person: int | None = None
    is_attached: bool = False


class Uploads:
    """The folders of uploads under one home.

    Args:
        home: The home folder; files that arrived there and were never claimed are deleted.
        is_shared: Whether other processes take files in over the same home; then only what is a day old is
            deleted, and a browser's files arrive in a folder of this process.
        identify: Gives the id that a file's recording has or will have.
    """

    def __init__(
        self, home: Path, is_shared: bool = False, identify: Callable[[Path], str] = file_id
    ) -> None:
        self.is_shared, self._identify = is_shared, identify
        self.arriving = home.resolve() / "arriving"
        self.folder = home.resolve() / "uploads"
        self.notes = home.resolve() / "upload-jobs"
        if is_shared:
            for left in self.arriving.glob("*"):
                if self._is_left_behind(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.arriving /= uuid.uuid4().hex
        else:
            shutil.rmtree(self.arriving, ignore_errors=True)
        for folder in (self.arriving, self.folder, self.notes):
            folder.mkdir(parents=True, exist_ok=True)

    def claim(
        self,
        path: str,
        title: str,
        speakers: int | None,
        track: int | None = None,
        transcript: str | None = None,
    ) -> Upload:
        """Take charge of an uploaded file, which the browser names by its path on this machine.

        ``transcript`` is the id of the imported transcript whose media it is, if it is.

        Raises:
            MossAgentError: The path is not that of an upload. A browser may ask for any path.
            DiskFull: There is no room to note what it is; the upload is deleted.
        """
        missing = MossAgentError("This file did not arrive; please choose it again.")
        try:
            sent = Path(path).resolve()
            if sent.parent.parent != self.arriving or not sent.is_file():
                raise missing
        except (OSError, ValueError):
            raise missing from None
        name = uuid.uuid4().hex
        file = self.folder / name / _SENT.sub("", sent.name)
        file.parent.mkdir()
        try:
            sent.rename(file)
        except OSError:
            file.parent.rmdir()
            raise missing from None
        with suppress(OSError):
            sent.parent.rmdir()
        recording = transcript
        if transcript is None:
            with suppress(MediaError):
                recording = self._identify(file)
        title = title.strip() or file.stem
        actor = acting.get()
        person = actor.id if isinstance(actor, Person) else None
        upload = Upload(
            name, file, title, speakers, recording, track, time.time(), "waiting",
            person=person, is_attached=transcript is not None,
        )  # fmt: skip
        try:
            with noticing_full_disk(self.notes):
                self._write(upload)
        except DiskFull:
            self.release(name)
            raise
        return upload

    def note_state(self, name: str, state: str, error: str | None = None) -> None:
        """Write down what became of an upload in the queue; one that is gone is no error."""
        upload = self._read(self._note(name))
        if upload is None:
            return
        begun = upload.begun + 1 if state == "running" else 0
        with suppress(OSError, DiskFull):
            self._write(replace(upload, state=state, error=error, begun=begun))

    def submit(
        self,
        jobs: Jobs,
        path: str,
        title: str,
        speakers: int | None = None,
        track: int | None = None,
        transcript: str | None = None,
    ) -> Job:
        """Take charge of an uploaded file and queue it; see ``claim``.

        Raises:
            MossAgentError, DiskFull: See ``claim``.
        """
        upload = self.claim(path, title, speakers, track, transcript)
        try:
            return self._queue(jobs, upload)
        except MossAgentError:
            self.release(upload.name)
            raise

    def attach(
        self,
        workspace: Workspace,
        jobs: Jobs,
        reference: str,
        path: str,
        speakers: int | None = None,
        track: int | None = None,
    ) -> Job:
        """Take charge of an uploaded file, and queue it to be given to an imported transcript.

        Args:
            workspace: An open workspace.
            jobs: The queue.
            reference: The imported transcript.
            path, speakers, track: As in ``submit``.

        Raises:
            MossAgentError, DiskFull: See ``claim``, and ``web.jobs.attachable``.
        """
        recording = attachable(workspace, jobs, reference)
        return self.submit(jobs, path, recording.title, speakers, track, recording.id)

    def take_up(
        self, jobs: Jobs, ready: Collection[str], person: Callable[[int], Person | None] = lambda _: None
    ) -> None:
        """Go on with the queue of an earlier run, but for what was added at its very end.

        What the user stopped stays stopped, what failed stays failed; so does a file that the program did
        not survive twice, or each start would end with it.

        Args:
            jobs: The queue.
            ready: Ids of the recordings that are ready.
            person: Finds somebody by the number of their account, also where it is disabled; what they sent
                goes when they are gone.
        """
        for upload in self.left_over():
            sender = None if upload.person is None else person(upload.person)
            is_done = upload.recording in ready and not upload.is_attached
            if is_done or (upload.person is not None and sender is None):
                self.release(upload.name)
                continue
            with acting_as(sender or acting.get()):
                self._take_up(jobs, upload)

    def _take_up(self, jobs: Jobs, upload: Upload) -> None:
        if upload.state == "failed":
            self._queue(jobs, upload, "failed", upload.error)
        elif upload.state == "stopped":
            self._queue(jobs, upload, "stopped")
        elif upload.begun > MOST_BEGUN:
            self._queue(jobs, upload, "failed", BROKE_OFF)
        else:
            self._queue(jobs, upload)

    def _queue(
        self,
        jobs: Jobs,
        upload: Upload,
        state: Literal["waiting", "stopped", "failed"] = "waiting",
        error: str | None = None,
    ) -> Job:
        return jobs.submit(
            upload.path,
            upload.title,
            upload.speakers,
            partial(self.release, upload.name),
            state,
            upload.recording,
            track=upload.track,
            noted=partial(self.note_state, upload.name),
            error=error,
            source=upload.name,
            is_attached=upload.is_attached,
        )

    def left_over(self) -> Iterator[Upload]:
        """Uploads of an earlier run that were not added, first come first; others are deleted."""
        found = [one for path in self.notes.iterdir() if (one := self._read(path)) is not None]
        found.sort(key=lambda upload: (upload.sent, upload.name))
        kept = {path.name for path in found}
        for path in self.notes.iterdir():
            if path.stem not in kept and self._is_left_behind(path):
                path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.name not in kept and self._is_left_behind(path):
                self._delete(path)
        yield from found

    def _is_left_behind(self, path: Path) -> bool:
        """Whether nobody can be writing here any more."""
        if not self.is_shared:
            return True
        try:
            return path.lstat().st_mtime < time.time() - LEFT_BEHIND_SECONDS
        except OSError:
            return False

    def release(self, name: str) -> None:
        """Delete an upload, file and note; one that is gone already is left alone."""
        if _NAME.fullmatch(name):
            self._delete(self.folder / name)
            self._note(name).unlink(missing_ok=True)

    def _write(self, upload: Upload) -> None:
        """Write an upload's note, complete or not at all."""
        values = {**asdict(upload), "file": upload.path.name}
        for name in ("name", "path"):
            del values[name]
        note = self._note(upload.name)
        partial = note.with_suffix(".partial")
        partial.write_text(json.dumps(values), encoding="utf-8")
        partial.replace(note)

    def _note(self, name: str) -> Path:
        return self.notes / f"{name}.json"

    def _read(self, note: Path) -> Upload | None:
        """What a note describes, or None when it is not one of ours or its file is not where it belongs."""
        if note.suffix != ".json" or not _NAME.fullmatch(note.stem):
            return None
        try:
            values = json.loads(note.read_text(encoding="utf-8"))
            speakers, recording, track = values["speakers"], values["recording"], values.get("track")
            file, title = self.folder / note.stem / str(values["file"]), str(values["title"])
            if not isinstance(speakers, int | None) or not isinstance(recording, str | None):
                return None
            sent, state = float(values.get("sent", 0.0)), str(values.get("state", "stopped"))
            error, begun = values.get("error"), int(values.get("begun", 0))
            person = values.get("person")
            if not isinstance(track, int | None) or not isinstance(error, str | None):
                return None
            is_attached = values.get("is_attached", False)
            if not isinstance(person, int | None) or not isinstance(is_attached, bool):
                return None
            inside = file.resolve().parent == self.folder / note.stem and file.is_file()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not inside:
            return None
        return Upload(
            note.stem, file, title, speakers, recording, track, sent, state, error, begun, person, is_attached
        )

    def _delete(self, folder: Path) -> None:
        """Delete one direct child of the folder of uploads, and never what a link points to."""
        if folder.parent != self.folder or folder.name in ("", ".", ".."):
            return
        if folder.is_symlink() or folder.is_file():
            folder.unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
