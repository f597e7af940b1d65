"""The library: recordings and their segments, read and changed through one door.

Every read goes to the database; nothing here knows audio, models or vectors.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Collection, Iterable, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from index.recording_errors import (
    AmbiguousRecording,
    InvalidInput,
    MossAgentError,
    SpeakerExists,
    UnknownRecording,
)
from index.records import Comment, Recording, Segment, Span, Status, WatchedFile, Word
from index.speaker_names import is_label
from index.store.access import (
    EVERYTHING,
    acting_as,
    acting_person,
    may,
    own_name,
    owner_of,
    readable,
    refusal,
)
from index.store.audio_files import audio_files
from index.store.database import (
    CommentRow,
    CorrectionRow,
    Database,
    JobRow,
    RecordingRow,
    SegmentRow,
    SpeakerRow,
    SyncedNoteRow,
    ThreadRecordingRow,
    WatchedFileRow,
    WindowRow,
)
from index.store.people import LogRow, PersonRow, ThreadRow
from index.text import folded_name, one_line
from moss_audio.timestamps import clock

_log = logging.getLogger(__name__)

SPEAKER_KINDS = ("speaker", "rename", "unite")
"""Kinds of corrections that say who speaks."""

LONGEST_NAME = 80
"""Characters of a speaker's name."""

MOST_PARAMETERS = 10_000
"""Values in one ``IN`` list; SQLite takes 32,766 in a statement."""

_WITH_SPEAKERS = (
    select(SegmentRow, SpeakerRow.name, WindowRow.channel)
    .outerjoin(SpeakerRow, SegmentRow.speaker_id == SpeakerRow.id)
    .outerjoin(WindowRow, SegmentRow.window_id == WindowRow.id)
)


class Library:
    """Recordings of one home folder.

    Args:
        database: An open database.
        home: Where the audio copies lie (``home/audio/<id>.flac``) unless they are kept elsewhere.
        audio: Where else they are kept: a folder, or a URL; see ``index.store.audio_files``.
        audio_cache_mb: For a URL, the size in MiB that copies in the home folder may have.

    Attributes:
        audio: The audio copies.

    Raises:
        MossAgentError: ``audio`` is neither a folder nor a URL.
    """

    def __init__(
        self, database: Database, home: Path, audio: str | None = None, audio_cache_mb: int = 10_240
    ) -> None:
        self.database = database
        self.home = home
        self.audio = audio_files(home, audio, audio_cache_mb, self._idle)

    def audio_path(self, recording: str) -> Path:
        """The 16 kHz FLAC copy that player, recogniser and listener share; it may not exist yet.

        It is on this machine: where copies are kept elsewhere, it is fetched first.

        Raises:
            MossAgentError: It cannot be fetched.
            DiskFull: There is no room for it.
        """
        return self.audio.path(recording)

    def has_audio(self, recording: str) -> bool:
        """Whether there is an audio copy, on this machine or where copies are kept."""
        return self.audio.exists(recording)

    def _idle(self, recordings: Collection[str]) -> dict[str, bool]:
        """Of some recordings those that there are, whoever may see them, and whether nobody takes them in."""
        table = RecordingRow.__table__
        wanted = sorted(recordings)
        idle: dict[str, bool] = {}
        with self.database.transaction() as session:
            connection = session.connection()
            for at in range(0, len(wanted), MOST_PARAMETERS):
                part = wanted[at : at + MOST_PARAMETERS]
                query = select(table.c.id, table.c.status).where(table.c.id.in_(part))
                idle |= {row.id: row.status != Status.LISTENING for row in connection.execute(query)}
        return idle

    def recordings(self) -> list[Recording]:
        """All recordings, newest first."""
        with self.database.transaction() as session:
            rows = session.scalars(select(RecordingRow).order_by(RecordingRow.added_at.desc())).all()
            names: dict[str, list[str]] = {}
            for row in session.scalars(select(SpeakerRow).order_by(SpeakerRow.id)):
                names.setdefault(row.recording_id, []).append(row.name)
            return [_recording(row, names.get(row.id, ())) for row in rows]

    def count(self) -> int:
        """How many recordings there are."""
        with self.database.transaction() as session:
            return session.scalar(select(func.count()).select_from(RecordingRow)) or 0

    def people(self) -> tuple[str, ...]:
        """Everybody who is named in some recording, each once, in the spelling used most."""
        with self.database.transaction() as session:
            counted = select(SpeakerRow.name, func.count()).group_by(SpeakerRow.name)
            rows = session.execute(counted.order_by(func.count().desc(), SpeakerRow.name)).all()
        names: dict[str, str] = {}
        for name, _ in rows:
            if not is_label(name):
                names.setdefault(folded_name(name), name)
        return tuple(names.values())

    def recording(self, recording: str) -> Recording:
        """One recording by its full id.

        Raises:
            UnknownRecording: There is none with this id.
        """
        with self.database.transaction() as session:
            row = session.get(RecordingRow, recording)
            if row is None:
                raise _unknown(recording)
            names = session.scalars(
                select(SpeakerRow.name).where(SpeakerRow.recording_id == recording).order_by(SpeakerRow.id)
            )
            return _recording(row, tuple(names))

    def resolve(self, reference: str) -> Recording:
        """Find a recording by full id, unique id prefix, or title (any case).

        Raises:
            UnknownRecording: Nothing answers to it.
            AmbiguousRecording: More than one does.
        """
        wanted = reference.strip()
        if not wanted:
            raise UnknownRecording("No recording was named; run `moss-agent list` to see them all.")
        with self.database.transaction() as session:
            rows = session.execute(select(RecordingRow.id, RecordingRow.title)).all()
        # Compared here, since SQLite's lower() knows ASCII only, and file names may be decomposed Unicode.
        found = [row.id for row in rows if row.id == wanted.lower()]
        found = found or [row.id for row in rows if _folded(row.title) == _folded(wanted)]
        found = found or [row.id for row in rows if row.id.startswith(wanted.lower())]
        if not found:
            raise _unknown(wanted)
        if len(found) > 1:
            ids = ", ".join(recording[:12] for recording in found)
            raise AmbiguousRecording(
                f"“{wanted}” matches {len(found)} recordings ({ids}); give more characters of the id."
            )
        return self.recording(found[0])

    def recording_of_media(self, media: str) -> str:
        """The id of the recording that a media file (SHA-256 of its bytes) is or would be.

        That is the media file's own, unless the file belongs to an imported transcript. Somebody with an
        account has recordings of their own, whoever else has the same file: what they cannot see must not
        show by it.
        """
        person = acting_person(self.database)
        query = select(RecordingRow.id).where(RecordingRow.media_id == media)
        with self.database.transaction() as session:
            if person is None:
                return session.scalars(query.where(RecordingRow.owner_id.is_(None))).first() or media
            whose = RecordingRow.owner_id == person
            own = select(RecordingRow.id).where(RecordingRow.id == media, whose)
            found = session.scalars(query.where(whose)).first() or session.scalars(own).first()
        return found or self.own_id(media)

    def own_id(self, content: str) -> str:
        """The id of a recording made from something (SHA-256 of its bytes): another one for every account."""
        person = acting_person(self.database)
        if person is None:
            return content
        return hashlib.sha256(f"person {person} {content}".encode()).hexdigest()

    def segments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Segment]:
        """Segments in time order; with a range, exactly those that overlap ``[start, end)``."""
        query = _WITH_SPEAKERS.where(SegmentRow.recording_id == recording)
        if end is not None:
            query = query.where(SegmentRow.start < end)
        if start is not None:
            query = query.where(SegmentRow.end > start)
        return self._segments(query.order_by(SegmentRow.start, SegmentRow.id))

    def segment_count(self, recording: str) -> int:
        """How many segments a recording has so far."""
        with self.database.transaction() as session:
            count = select(func.count()).where(SegmentRow.recording_id == recording)
            return session.scalar(count) or 0

    def speaking_times(self, recording: str) -> dict[str, float]:
        """How long each voice speaks, in seconds: the lengths of its segments added up."""
        query = (
            select(SpeakerRow.name, func.sum(SegmentRow.end - SegmentRow.start))
            .join(SegmentRow, SegmentRow.speaker_id == SpeakerRow.id)
            .where(SpeakerRow.recording_id == recording, SegmentRow.kind == "speech")
            .group_by(SpeakerRow.id)
        )
        with self.database.transaction() as session:
            return {name: round(seconds, 3) for name, seconds in session.execute(query)}

    def segments_by_id(self, ids: Iterable[int]) -> list[Segment]:
        """Segments by their numbers, in time order; numbers that do not exist are left out."""
        wanted = sorted(set(ids))
        found: list[Segment] = []
        for at in range(0, len(wanted), MOST_PARAMETERS):
            part = wanted[at : at + MOST_PARAMETERS]
            found += self._segments(_WITH_SPEAKERS.where(SegmentRow.id.in_(part)))
        return sorted(found, key=lambda segment: (segment.recording, segment.start, segment.id))

    def correction_count(self, recording: str, of_speakers: bool = False) -> int:
        """How many corrections of a recording hold; only those of who speaks where that is asked."""
        with self.database.transaction() as session:
            return correction_count(session, recording, of_speakers)

    def successors(self, recording: str, gone: Iterable[int]) -> dict[int, int]:
        """In which sentence those are now that are no longer there, where they were merged into one."""
        columns = CorrectionRow.before, CorrectionRow.after, CorrectionRow.undone_at
        query = select(*columns).where(CorrectionRow.recording_id == recording).order_by(CorrectionRow.id)
        into: dict[int, int] = {}
        with self.database.transaction() as session:
            for before, after, undone_at in session.execute(query):
                was, now = (after, before) if undone_at else (before, after)
                left = [state["id"] for state in now if "id" in state]
                into |= {state["id"]: left[0] for state in was if left and state["id"] not in left}
            found = {}
            for number in gone:
                current = number
                for _ in range(len(into)):
                    current = into.get(current, current)
                if current != number and session.get(SegmentRow, current) is not None:
                    found[number] = current
        return found

    def segment_embeddings(self, segments: Sequence[Segment]) -> np.ndarray | None:
        """Stored sentence embeddings, float32 ``[n_segments, dimensions]`` in the order given.

        Returns None when any of them has none yet (the recording is not indexed).
        """
        ids = [segment.id for segment in segments]
        found: dict[int, bytes] = {}
        with self.database.transaction() as session:
            for at in range(0, len(ids), MOST_PARAMETERS):
                query = select(SegmentRow.id, SegmentRow.embedding)
                stored = session.execute(query.where(SegmentRow.id.in_(ids[at : at + MOST_PARAMETERS])))
                found.update((row.id, row.embedding) for row in stored if row.embedding is not None)
        if not segments or any(number not in found for number in ids):
            return None
        rows = [np.frombuffer(found[number], dtype=np.float16) for number in ids]
        return np.stack(rows).astype(np.float32)

    def rename_speaker(self, recording: str, old: str, new: str) -> int:
        """Give a voice another name everywhere; naming it as another voice merges the two.

        Names are the same as when they are looked up (``folded_name``): “anna” is the voice called “ANNA”,
        which keeps its spelling.

        Returns:
            How many segments carry the new name afterwards.

        Raises:
            InvalidInput: There is no such speaker, or the new name is empty.
        """
        with self.database.transaction() as session:
            name, _ = rename_voice(session, recording, old, new, merge=True)
            return voice_count(session, recording, name)

    def voice_count(self, recording: str, name: str) -> int:
        """How many segments are said by the voice of exactly this name."""
        with self.database.transaction() as session:
            return voice_count(session, recording, name)

    def rename(self, recording: str, title: str) -> None:
        """Give a recording another title; what is beyond 200 characters is left out.

        Raises:
            InvalidInput: The title is empty.
        """
        title = one_line(title)
        if not title:
            raise InvalidInput("A title needs at least one character.")
        with self.database.transaction() as session:
            session.execute(
                update(RecordingRow).where(RecordingRow.id == recording).values(title=title[:200])
            )

    def comments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Comment]:
        """Comments in time order; with a range, those at a moment in ``[start, end)``."""
        query = select(CommentRow).where(CommentRow.recording_id == recording)
        if start is not None:
            query = query.where(CommentRow.at >= start)
        if end is not None:
            query = query.where(CommentRow.at < end)
        with self.database.transaction() as session:
            rows = session.scalars(query.order_by(CommentRow.at, CommentRow.id))
            return [_stored_comment(row) for row in rows]

    def add_comment(self, recording: str, at: float, text: str) -> Comment:
        """Keep a comment at second ``at``.

        Raises:
            UnknownRecording: There is no such recording.
            InvalidInput: The text is empty or too long, or the recording has no such second.
        """
        text = _comment_text(text)
        duration = self.recording(recording).duration
        if not 0 <= at <= duration:
            raise InvalidInput(f"The recording is {clock(duration)} long; choose a moment in it.")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.database.transaction() as session:
            row = CommentRow(recording_id=recording, at=round(at, 3), text=text, created_at=now)
            session.add(row)
            session.flush()
            return _stored_comment(row)

    def change_comment(self, number: int, text: str) -> str:
        """Give a comment other words; returns the id of its recording.

        Raises:
            InvalidInput: There is no such comment, or the text is empty or too long.
        """
        text = _comment_text(text)
        with self.database.transaction() as session:
            comment = _comment(session, number)
            comment.text = text
            return comment.recording_id

    def remove_comment(self, number: int) -> str:
        """Delete a comment; returns the id of its recording.

        Raises:
            InvalidInput: There is no such comment.
        """
        with self.database.transaction() as session:
            comment = _comment(session, number)
            session.delete(comment)
            return comment.recording_id

    def watched_file(self, path: Path) -> WatchedFile | None:
        """What is known of a file of a watched folder; None where it was never dealt with."""
        with self.database.transaction() as session:
            row = session.get(WatchedFileRow, _path_hash(path))
            return None if row is None else WatchedFile(row.size, row.modified, row.recording_id)

    def note_watched_file(self, path: Path, file: WatchedFile) -> None:
        """Remember that a file of a watched folder was dealt with."""
        row = WatchedFileRow(
            path_hash=_path_hash(path),
            size=file.size,
            modified=file.modified,
            recording_id=file.recording,
        )
        with self.database.transaction() as session:
            session.merge(row)

    def folders_of_notes(self, recording: str) -> list[Path]:
        """The folders in which a recording has a note (``index.export.vault``)."""
        with self.database.transaction() as session:
            query = select(SyncedNoteRow.folder).where(SyncedNoteRow.recording_id == recording)
            return [Path(folder) for folder in session.scalars(query)]

    def note_thread(self, thread: str, recordings: Iterable[str]) -> None:
        """Remember that a conversation quoted these recordings, so that removing one removes it too.

        Where the library is only read, no conversation is kept either, and there is nothing to remember.
        """
        if self.database.read_only is not None:
            return
        with self.database.transaction() as session:
            for recording in set(recordings):
                if session.get(ThreadRecordingRow, (thread, recording)) is None:
                    session.add(ThreadRecordingRow(thread_id=thread, recording_id=recording))

    def threads_of(self, recording: str) -> list[str]:
        """Conversations that quoted this recording."""
        with self.database.transaction() as session:
            query = select(ThreadRecordingRow.thread_id).where(ThreadRecordingRow.recording_id == recording)
            return list(session.scalars(query))

    def delete(self, recording: str) -> None:
        """Delete a recording's rows and audio copy, and the bytes they occupied.

        The log no longer says which it was.
        The vectors and conversations have stores of their own; ``agent.workspace`` removes those too.

        Raises:
            UnknownRecording, Forbidden: It is not theirs who acts.
            MossAgentError: Its audio copy is kept elsewhere, and that cannot be reached; nothing is deleted.
        """
        self.require_own(recording)
        # A recording must not lose its audio where this breaks off, nor its audio be left for nobody.
        self.audio.begin_removal(recording)
        with acting_as(EVERYTHING), self.database.transaction() as session:
            gone = f"gone-{secrets.token_hex(4)}"
            session.execute(
                update(LogRow).where(LogRow.recording_id == recording).values(recording_id=gone, detail="")
            )
            session.execute(delete(RecordingRow).where(RecordingRow.id == recording))
            watched = WatchedFileRow.recording_id == recording
            session.execute(update(WatchedFileRow).where(watched).values(recording_id=None))
            # Names of notes are titles; what is left of them is found by its marks.
            left = SyncedNoteRow.recording_id == recording
            session.execute(update(SyncedNoteRow).where(left).values(name="", fingerprint=""))
            session.execute(delete(JobRow).where(JobRow.recording == recording))
            self.database.backend.forget_words(session)
        self._remove_audio(recording)
        self.database.rewrite()

    def finish_removals(self) -> None:
        """Delete the audio copies of recordings that are gone, where that broke off."""
        try:
            begun = self.audio.removals()
        except MossAgentError as error:
            _log.warning("%s", error)
            return
        known = self._idle(begun) if begun else {}
        for recording, at in begun.items():
            # The same file may be on its way into the library again.
            if recording not in known and not self.audio.is_newer(recording, at):
                self._remove_audio(recording)

    def _remove_audio(self, recording: str) -> None:
        try:
            self.audio.remove(recording)
        except (MossAgentError, OSError) as error:
            _log.warning(
                "The recording is removed, but its audio copy could not be deleted; that is tried again with "
                "the next one that is removed, and at every start of the page. %s",
                error,
            )

    def readable(self) -> list[str] | None:
        """The ids of the recordings that whoever acts may read; None for all that there are."""
        with self.database.transaction() as session:
            return readable(session, self.database)

    def require_own(self, recording: str) -> None:
        """See that a recording belongs to whoever acts, if it is there.

        Raises:
            UnknownRecording: They may not see it.
            Forbidden: They may see it; it is somebody else's.
        """
        with self.database.transaction() as session:
            if not may(session, self.database, recording, "own"):
                seen = may(session, self.database, recording, "read")
                if seen or acting_person(self.database) is not None:
                    raise refusal(seen, recording)

    def thread_key(self, thread: str) -> str:
        """The name under which a conversation is kept: what two people call the same is not the same.

        A conversation that quotes what whoever acts may no longer read is not theirs to go on with; see
        ``is_open``.
        """
        return own_name(self.database, thread)

    def is_open(self, key: str) -> bool:
        """Whether whoever acts may still read all that a conversation quotes."""
        query = select(func.count()).select_from(ThreadRecordingRow)
        query = query.where(ThreadRecordingRow.thread_id == key)
        with self.database.transaction() as session:
            seen = session.scalar(query)
            with acting_as(EVERYTHING):
                return seen == session.scalar(query)

    def own_thread(self, key: str) -> None:
        """Note whose a conversation is; nothing is noted where nobody has an account."""
        person = acting_person(self.database)
        if person is not None and self.database.read_only is None:
            with self.database.transaction() as session:
                session.merge(ThreadRow(thread_id=key, person_id=person))

    def keeps_thread(self, key: str, quoted: Set[str]) -> bool:
        """Whether a conversation may be kept: whose it is, and all recordings that it quotes, are there."""
        if self.database.read_only is not None:
            return True
        person = owner_of(key)
        noted = select(func.count()).select_from(ThreadRecordingRow)
        noted = noted.where(ThreadRecordingRow.thread_id == key, ThreadRecordingRow.recording_id.in_(quoted))
        with acting_as(EVERYTHING), self.database.transaction() as session:
            if person is not None and session.get(PersonRow, person) is None:
                return False
            return session.scalar(noted) == len(quoted)

    def threads_of_person(self, person: int) -> list[str]:
        """Everything that somebody ever asked about, as names of conversations."""
        with self.database.transaction() as session:
            return list(session.scalars(select(ThreadRow.thread_id).where(ThreadRow.person_id == person)))

    def forget_thread(self, key: str) -> None:
        """Forget what is noted of a conversation."""
        with acting_as(EVERYTHING), self.database.transaction() as session:
            session.execute(delete(ThreadRecordingRow).where(ThreadRecordingRow.thread_id == key))
            session.execute(delete(ThreadRow).where(ThreadRow.thread_id == key))

    def _segments(self, query: Select[SegmentRow, str, int | None]) -> list[Segment]:
        with self.database.transaction() as session:
            return [_segment(row, name, channel) for row, name, channel in session.execute(query)]


def segments_in(session: Session, recording: str) -> list[Segment]:
    """All segments of a recording in time order, as the transaction of ``session`` sees them."""
    query = _WITH_SPEAKERS.where(SegmentRow.recording_id == recording)
    rows = session.execute(query.order_by(SegmentRow.start, SegmentRow.id))
    return [_segment(row, name, channel) for row, name, channel in rows]


def speaker_name(name: str) -> str:
    """A speaker's name as it is stored.

    Raises:
        InvalidInput: It is empty, or longer than a name is.
    """
    name = one_line(name)
    if not name or len(name) > LONGEST_NAME:
        raise InvalidInput(f"A speaker's name needs 1 to {LONGEST_NAME} characters.")
    return name


def find_voice(session: Session, recording: str, name: str) -> SpeakerRow | None:
    """The voice that goes by a name, in any spelling of case; None where there is none, or two."""
    names = {row.name: row for row in _speakers(session, recording)}
    return names.get(name.strip()) or _only_match(names, name)


def voice_count(session: Session, recording: str, name: str) -> int:
    """How many segments are said by the voice of exactly this name."""
    query = (
        select(func.count())
        .select_from(SegmentRow)
        .join(SpeakerRow, SegmentRow.speaker_id == SpeakerRow.id)
        .where(SpeakerRow.recording_id == recording, SpeakerRow.name == name)
    )
    return session.scalar(query) or 0


def correction_count(session: Session, recording: str, of_speakers: bool = False) -> int:
    """How many corrections of a recording hold, as the transaction of ``session`` sees them."""
    query = select(func.count()).where(
        CorrectionRow.recording_id == recording, CorrectionRow.undone_at.is_(None)
    )
    if of_speakers:
        query = query.where(CorrectionRow.kind.in_(SPEAKER_KINDS))
    return session.scalar(query) or 0


def rename_voice(
    session: Session, recording: str, old: str, new: str, merge: bool
) -> tuple[str, tuple[int, ...] | None]:
    """Give a voice another name; see ``Library.rename_speaker``.

    Returns:
        The name that it has now, and the numbers of the segments that came to the other voice of that name;
        None where there was no such voice.

    Raises:
        InvalidInput: There is no such speaker, or the new name is no name.
        SpeakerExists: The new name is that of another voice, and they are not to be merged.
    """
    new = speaker_name(new)
    names = {row.name: row for row in _speakers(session, recording)}
    speaker = names.get(old.strip()) or _only_match(names, old)
    if speaker is None:
        known = ", ".join(names) or "none"
        raise InvalidInput(f"There is no speaker “{old}” in this recording; it has: {known}.")
    others = {name: row for name, row in names.items() if row is not speaker}
    target = others.get(new) or next(iter(_matches(others, new)), None)
    if target is None:
        speaker.name = new
        session.flush()
        return new, None
    if not merge:
        raise SpeakerExists(
            f"There is a speaker “{target.name}” already; “{speaker.name}” was not renamed. "
            "If they are the same person, merge the two."
        )
    theirs = SegmentRow.speaker_id == speaker.id
    moved = tuple(session.scalars(select(SegmentRow.id).where(theirs).order_by(SegmentRow.id)))
    session.execute(update(SegmentRow).where(theirs).values(speaker_id=target.id))
    session.delete(speaker)
    session.flush()
    return target.name, moved


def rename_unasked(session: Session, speaker: SpeakerRow, name: str) -> None:
    """Give a voice another name that nobody typed; the corrections go on as if it always had it.

    Args:
        session: Of a transaction that nobody else's writing comes between.
        speaker: The voice.
        name: Its new name, which neither another voice of the recording nor its history has.
    """
    old, recording = speaker.name, session.get_one(RecordingRow, speaker.recording_id)
    speaker.name = name

    def renamed(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [state | {"speaker": name} if state.get("speaker") == old else state for state in states]

    for row in session.scalars(_in_force(recording.id)):
        row.before, row.after = renamed(row.before), renamed(row.after)
    recording.revision += 1
    theirs = update(SegmentRow).where(SegmentRow.speaker_id == speaker.id)
    session.execute(theirs.values(version=recording.revision))
    session.flush()


def names_in_history(session: Session, recording: str) -> set[str]:
    """The names of voices that undoing or redoing corrections of a recording may bring back."""
    states = [state for row in session.scalars(_in_force(recording)) for state in (*row.before, *row.after)]
    return {state["speaker"] for state in states if state.get("speaker")}


def _in_force(recording: str) -> Select[CorrectionRow]:
    """The corrections that hold or can be made again."""
    return select(CorrectionRow).where(CorrectionRow.recording_id == recording, ~CorrectionRow.superseded)


LONGEST_COMMENT = 4000
"""Characters of a comment."""


def _comment_text(text: str) -> str:
    """A comment's words; lines stay, other control characters go."""
    kept = "\n".join(one_line(line) for line in text.strip().splitlines())
    if not kept.strip() or len(kept) > LONGEST_COMMENT:
        raise InvalidInput(f"A comment needs 1 to {LONGEST_COMMENT} characters.")
    return kept


def _comment(session: Session, number: int) -> CommentRow:
    row = session.get(CommentRow, number)
    if row is None:
        raise InvalidInput("This comment is no longer there.")
    return row


def _stored_comment(row: CommentRow) -> Comment:
    return Comment(row.id, row.recording_id, row.at, row.text, row.created_at, row.by)


def _path_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def _speakers(session: Session, recording: str) -> list[SpeakerRow]:
    query = select(SpeakerRow).where(SpeakerRow.recording_id == recording).order_by(SpeakerRow.id)
    return list(session.scalars(query))


def _only_match(names: dict[str, SpeakerRow], wanted: str) -> SpeakerRow | None:
    same = _matches(names, wanted)
    return same[0] if len(same) == 1 else None


def _matches(names: dict[str, SpeakerRow], wanted: str) -> list[SpeakerRow]:
    return [row for name, row in names.items() if folded_name(name) == folded_name(wanted)]


def _folded(title: str) -> str:
    # Underscores became spaces when a file's name became a title.
    return folded_name(title.replace("_", " "))


def _unknown(reference: str) -> UnknownRecording:
    return UnknownRecording(f"There is no recording “{reference}”; run `moss-agent list` to see them all.")


def _recording(row: RecordingRow, speakers: Iterable[str]) -> Recording:
    return Recording(
        id=row.id,
        title=row.title,
        source_name=row.source_name,
        duration=row.duration,
        status=row.status,
        added_at=row.added_at,
        language=row.language,
        languages=tuple(row.languages),
        coverage=row.coverage,
        gaps=tuple(Span(start, end) for start, end in row.gaps),
        engine=row.engine,
        failure=row.failure,
        notes=row.notes,
        seconds_taken=row.seconds_taken,
        speakers=tuple(speakers),
        revision=row.revision,
        imported=row.imported,
        has_media=row.imported is None or row.media_id is not None,
    )


def _segment(row: SegmentRow, speaker: str | None, channel: int | None) -> Segment:
    return Segment(
        start=row.start,
        end=row.end,
        text=row.text,
        kind=row.kind,  # type: ignore[arg-type]
        speaker=speaker,
        words=tuple(Word(start, end, word, probability) for start, end, word, probability in row.words),
        engine=row.engine,
        id=row.id,
        recording=row.recording_id,
        language=row.language,
        channel=channel,
        version=row.version,
    )
