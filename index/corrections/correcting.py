"""What people correct of a transcript, and how it is taken back.

A correction is one transaction: the sentences, what is searched, and an entry of the history that holds what
was there before. The entry lists the sentences before and after, of each only the fields that changed, so
that undoing looks no further than what the correction touched. What the store reads afterwards is the
corrected text; what the recogniser heard is in the history alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from index.corrections.word_times import cut, joined, retime
from index.recording_errors import ChangedMeanwhile, InvalidInput, UnknownRecording
from index.records import Segment, Word
from index.search.embeddings import Embedder
from index.search.indexing import Refreshed, check_index, refresh, refresh_vectors
from index.search.vectors import Vectors
from index.store.backends import Backend
from index.store.database import CorrectionRow, RecordingRow, SegmentRow, SpeakerRow
from index.store.library import Library, find_voice, rename_voice, segments_in, speaker_name
from index.text import UNSPACED, one_line
from moss_audio.timestamps import clock

LONGEST_SENTENCE = 2_000
"""Characters of one sentence; half a minute of fast talk has about 600."""

MOST_AT_ONCE = 10_000
"""Sentences that are given a speaker, or merged, at a time."""

State = dict[str, Any]
"""A sentence's number (``id``) and some of its fields."""


class CorrectionKind(StrEnum):
    """What a correction does."""

    TEXT = "text"
    SPEAKER = "speaker"
    SPLIT = "split"
    MERGE = "merge"
    RENAME = "rename"
    """A voice got another name; its ``before`` and ``after`` hold ``{"speaker"}`` and no sentence."""
    UNITE = "unite"
    """Two voices became one; as ``SPEAKER``, for all sentences of one of them."""


@dataclass(frozen=True)
class Correction:
    """One entry of a recording's history.

    Attributes:
        id: Its number.
        at: When, ISO 8601, UTC.
        by: Through which door, and who where that is known.
        kind: What it did.
        start: Where its first sentence begins, seconds; None for a new name.
        before: The sentences before it, of each ``id`` and the fields that changed: ``text``, ``speaker``,
            ``start``, ``end``, ``words`` (``[start, end, text, probability]`` each).
        after: The same sentences after it.
        undone_at: When it was taken back; None while it holds.
    """

    id: int
    at: str
    by: str
    kind: CorrectionKind
    start: float | None
    before: tuple[State, ...]
    after: tuple[State, ...]
    undone_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry for a program; of sentences only what people see."""
        shown = ("id", "start", "end", "speaker", "text")
        return {
            "id": self.id,
            "at": self.at,
            "by": self.by,
            "kind": self.kind.value,
            "start": self.start,
            "before": [{key: state[key] for key in shown if key in state} for state in self.before],
            "after": [{key: state[key] for key in shown if key in state} for state in self.after],
            "undone_at": self.undone_at,
        }


@dataclass(frozen=True)
class Changed:
    """What is different in a recording.

    Attributes:
        revision: The recording's revision now.
        segments: The sentences that are new or changed, as they are now, in time order.
        gone: Numbers of the sentences that are no longer there.
        corrected: Numbers of all sentences that are not as they were heard.
        correction: The entry of the history; None where nothing had to be changed, or several did it.
        can_undo: Whether there is a correction that could be undone.
        can_redo: Whether one was undone that could be made again.
    """

    revision: int
    segments: tuple[Segment, ...] = ()
    gone: tuple[int, ...] = ()
    corrected: tuple[int, ...] = ()
    correction: Correction | None = None
    can_undo: bool = False
    can_redo: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "revision": self.revision,
            "segments": [
                {
                    "id": segment.id,
                    "start": segment.start,
                    "end": segment.end,
                    "kind": segment.kind,
                    "speaker": segment.speaker,
                    "text": segment.text,
                    "version": segment.version,
                }
                for segment in self.segments
            ],
            "gone": list(self.gone),
            "corrected": list(self.corrected),
            "correction": None if self.correction is None else self.correction.to_json(),
            "can_undo": self.can_undo,
            "can_redo": self.can_redo,
        }


Versions = Mapping[int, int]
"""The ``version`` that each sentence had when its correction began, by its number."""


class Corrections:
    """Corrects the recordings of a library.

    ``by`` says through which door a correction came, and who made it where that is known. ``versions`` are
    those of the sentences when the correction began; a sentence that was changed since is not overwritten.
    All methods raise ``ChangedMeanwhile`` for such a one, and ``MossAgentError`` for a sentence that is not
    there, in one sentence each; then nothing is changed.

    Args:
        library: The recordings.
        embedder: Embeds what changed.
        vectors: Where its vectors are stored.
    """

    def __init__(self, library: Library, embedder: Embedder, vectors: Vectors) -> None:
        self.library = library
        self.embedder = embedder
        self.vectors = vectors

    def edit(
        self, recording: str, segment: int, text: str, versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Give a sentence another text; words that are kept keep their times.

        Raises:
            MossAgentError: The text is empty or too long.
        """
        wanted = _sentence(text)
        with self._changing(recording) as change:
            (found,) = change.spoken([segment], versions)
            if found.text != wanted:
                words = retime(found.words, wanted, found.start, found.end)
                change.make(
                    CorrectionKind.TEXT,
                    [_state(found, "text", "words")],
                    [{"id": segment, "text": wanted, "words": _stored(words)}],
                    by,
                )
        return change.result

    def assign(
        self,
        recording: str,
        segments: Sequence[int],
        speaker: str,
        versions: Versions | None = None,
        by: str = "",
    ) -> Changed:
        """Give sentences a speaker: one that there is, in any spelling of case, or a new one.

        Raises:
            MossAgentError: The name is empty or too long.
        """
        wanted = speaker_name(speaker)
        with self._changing(recording) as change:
            found = change.spoken(segments, versions)
            voice = find_voice(change.session, recording, wanted)
            name = wanted if voice is None else voice.name
            moved = [item for item in found if item.speaker != name]
            if moved:
                after = [{"id": item.id, "speaker": name} for item in moved]
                change.make(CorrectionKind.SPEAKER, [_state(item, "speaker") for item in moved], after, by)
        return change.result

    def split(
        self, recording: str, segment: int, at: int, versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Cut a sentence in two before character ``at`` of its text; the first part keeps its number.

        Raises:
            MossAgentError: One of the parts would be empty.
        """
        with self._changing(recording) as change:
            (found,) = change.spoken([segment], versions)
            left, right = found.text[: max(0, at)].strip(), found.text[max(0, at) :].strip()
            if not left or not right:
                raise InvalidInput("A sentence can be split between two of its words only.")
            before, after, end, start = cut(found.words, left, right, found.start, found.end)
            whole = change.row(segment)
            second = {
                **whole,
                "id": change.new_number(),
                "start": start,
                "text": right,
                "words": _stored(after),
            }
            first = {"id": segment, "end": end, "text": left, "words": _stored(before)}
            change.make(CorrectionKind.SPLIT, [_state(found, "end", "text", "words")], [first, second], by)
        return change.result

    def merge(
        self, recording: str, segments: Sequence[int], versions: Versions | None = None, by: str = ""
    ) -> Changed:
        """Make one sentence of several in a row; it keeps the number and the speaker of the first.

        Raises:
            MossAgentError: They do not follow each other, or are too long together.
        """
        with self._changing(recording) as change:
            found = change.spoken(segments, versions)
            if len(found) < 2:
                raise InvalidInput("Merging needs two sentences or more.")
            channel = [
                item for item in change.all if item.kind == "speech" and item.channel == found[0].channel
            ]
            first = next(at for at, item in enumerate(channel) if item.id == found[0].id)
            if channel[first : first + len(found)] != found:
                raise InvalidInput("Only sentences that follow each other can be merged.")
            text, words, end = found[0].text, found[0].words, found[0].end
            for item in found[1:]:
                words = joined(
                    words, text, (found[0].start, end), item.words, item.text, (item.start, item.end)
                )
                text = _joined_text(text, item.text)
                end = max(end, item.end)
            if len(text) > LONGEST_SENTENCE:
                raise InvalidInput(_too_long(len(text)))
            before = [_state(found[0], "end", "text", "words"), *(change.row(item.id) for item in found[1:])]
            after = [{"id": found[0].id, "end": end, "text": text, "words": _stored(words)}]
            change.make(CorrectionKind.MERGE, before, after, by)
        return change.result

    def rename(
        self, recording: str, old: str, new: str, merge: bool = False, by: str = ""
    ) -> tuple[str, Changed]:
        """Give a voice another name everywhere; returns the name that it has then.

        Raises:
            SpeakerExists: It is the name of another voice, and ``merge`` is not set.
            MossAgentError: There is no such voice, or the name is no name.
        """
        # No passage holds a speaker's name, so nothing is to be indexed.
        with self._changing(recording, searched=False) as change:
            voice = find_voice(change.session, recording, old)
            before = voice.name if voice is not None else old
            name, moved = rename_voice(change.session, recording, old, new, merge)
            if moved is not None:
                was, now = ([{"id": number, "speaker": item} for number in moved] for item in (before, name))
                change.record(CorrectionKind.UNITE, was, now, by)
            elif name != before:
                change.record(CorrectionKind.RENAME, [{"speaker": before}], [{"speaker": name}], by)
        return name, change.result

    def undo(self, recording: str) -> Changed:
        """Take the newest correction back that still holds.

        Raises:
            MossAgentError: There is none.
        """
        with self._changing(recording) as change:
            newest = _of(recording).where(CorrectionRow.undone_at.is_(None)).order_by(CorrectionRow.id.desc())
            row = change.session.scalars(newest.limit(1)).first()
            if row is None:
                raise InvalidInput("There is nothing to undo in this recording.")
            row.undone_at = _now()
            change.turn(row, row.after, row.before)
        return change.result

    def redo(self, recording: str) -> Changed:
        """Make the correction again that was undone last.

        Raises:
            MossAgentError: There is none, or something else was corrected since.
        """
        with self._changing(recording) as change:
            row = _undone_last(change.session, recording)
            if row is None:
                raise InvalidInput("There is nothing to redo in this recording.")
            row.undone_at = None
            change.turn(row, row.before, row.after)
        return change.result

    def history(self, recording: str, segment: int | None = None) -> list[Correction]:
        """What was corrected, newest first, also what was undone; of one sentence where it is named."""
        with self.library.database.transaction() as session:
            rows = session.scalars(_of(recording).order_by(CorrectionRow.id.desc())).all()
            starts = {item.id: item.start for item in segments_in(session, recording)}
        found = [_correction(row, starts) for row in rows]
        if segment is None:
            return found
        return [
            item for item in found if any(state.get("id") == segment for state in (*item.before, *item.after))
        ]

    def changes(self, recording: str, since: int = 0) -> Changed:
        """What changed after a revision of the recording."""
        with self.library.database.transaction() as session:
            return _changed(session, recording, since)

    @contextmanager
    def _changing(self, recording: str, searched: bool = True) -> Iterator[_Change]:
        """One correction; what it changed is indexed in the same transaction where it is ``searched``."""
        if searched:
            # Before the database is held: the model may have to be loaded, and the index be another's.
            self.embedder.load()
            check_index(self.vectors)
        refreshed = Refreshed()
        with self.library.database.changing() as session:
            change = _Change(session, recording, self.library.database.backend)
            yield change
            session.flush()
            if searched and change.made is not None:
                refreshed = refresh(session, self.embedder, recording)
            change.conclude()
        if searched:
            refresh_vectors(self.library, self.vectors, recording, refreshed)


class _Change:
    """A correction while it is made.

    Attributes:
        session: Of its transaction.
        all: Every segment of the recording before it, in time order.
        made: Its entry of the history; None while nothing changed.
        result: What it changed, once it is concluded.
    """

    def __init__(self, session: Session, recording: str, backend: Backend) -> None:
        found = session.get(RecordingRow, recording)
        if found is None:
            raise UnknownRecording(f"There is no recording “{recording}”.")
        self.session = session
        self._backend = backend
        self.recording = found
        self.all = segments_in(session, recording)
        self.made: CorrectionRow | None = None
        self.result = Changed(found.revision)
        self._by_id = {item.id: item for item in self.all}

    def spoken(self, numbers: Iterable[int], versions: Versions | None) -> list[Segment]:
        """These sentences, each once, in time order; see ``Corrections`` for what is raised."""
        wanted = set(numbers)
        if not wanted or len(wanted) > MOST_AT_ONCE:
            raise InvalidInput(f"Between 1 and {MOST_AT_ONCE} sentences can be corrected at a time.")
        for number in sorted(wanted - self._by_id.keys()):
            if number in _mentioned(self.session, self.recording.id):
                raise ChangedMeanwhile(
                    "This sentence was merged into another one meanwhile, so nothing was changed."
                )
            raise InvalidInput(f"There is no sentence #{number} in this recording.")
        found = [item for item in self.all if item.id in wanted]
        for item in found:
            if item.kind != "speech":
                raise InvalidInput("Only sentences can be corrected, not sounds.")
            if versions is not None and versions.get(item.id, item.version) != item.version:
                raise ChangedMeanwhile(
                    f"The sentence at {clock(item.start)} was changed meanwhile; it is now “{item.text}”, "
                    "and nothing else was changed."
                )
        return found

    def row(self, number: int) -> State:
        """All fields of a sentence, so that it can be put back once it is gone."""
        row = self.session.get_one(SegmentRow, number)
        fields = {name: getattr(row, name) for name in _WHOLE}
        return {"id": number, "speaker": self._by_id[number].speaker, **fields}

    def new_number(self) -> int:
        """The number of a sentence that is yet to come; no other ever had it."""
        return self._backend.new_number(self.session, SegmentRow.__tablename__)

    def make(self, kind: CorrectionKind, before: list[State], after: list[State], by: str) -> None:
        """Correct sentences, and write it into the history."""
        self._apply(before, after)
        self.record(kind, before, after, by)

    def record(self, kind: CorrectionKind, before: list[State], after: list[State], by: str) -> None:
        """Write into the history what was corrected."""
        own = CorrectionRow.recording_id == self.recording.id
        self.session.execute(
            update(CorrectionRow).where(own, CorrectionRow.undone_at.is_not(None)).values(superseded=True)
        )
        self.made = CorrectionRow(
            recording_id=self.recording.id,
            at=_now(),
            by=one_line(by)[:80],
            kind=kind.value,
            before=before,
            after=after,
        )
        self.session.add(self.made)
        self._bump(kind, after)

    def turn(self, row: CorrectionRow, source: list[State], target: list[State]) -> None:
        """Undo or redo an entry of the history: from one state to the other."""
        kind = CorrectionKind(row.kind)
        if kind is CorrectionKind.RENAME:
            old, new = source[0]["speaker"], target[0]["speaker"]
            rename_voice(self.session, self.recording.id, old, new, merge=False)
        else:
            self._apply(source, target)
        self.made = row
        self._bump(kind, target)

    def conclude(self) -> None:
        """Put together what changed."""
        since = self.recording.revision - (self.made is not None)
        result = _changed(self.session, self.recording.id, since)
        if self.made is not None:
            starts = {item.id: item.start for item in self.all}
            result = replace(result, correction=_correction(self.made, starts))
        self.result = result

    def _apply(self, source: list[State], target: list[State]) -> None:
        """Bring sentences from one state to another; what is not in the source state stays as it is.

        Raises:
            ChangedMeanwhile: A sentence is not in the source state.
        """
        was, wanted = {item["id"]: item for item in source}, {item["id"]: item for item in target}
        left: set[int] = set()
        for number, state in was.items():
            row = self.session.get(SegmentRow, number)
            if row is None or any(self._field(row, name) != value for name, value in state.items()):
                raise ChangedMeanwhile(
                    "This cannot be undone, because the sentence was changed in another way since."
                )
            if number not in wanted:
                left |= {row.speaker_id} if row.speaker_id is not None else set()
                self.session.delete(row)
        for number, state in wanted.items():
            row = self.session.get(SegmentRow, number) if number in was else None
            if row is None:
                row = SegmentRow(recording_id=self.recording.id)
                self.session.add(row)
            if state.get("text", row.text) != row.text:
                row.embedding = None
            for name, value in state.items():
                if name != "speaker":
                    setattr(row, name, value)
            if "speaker" in state and self._field(row, "speaker") != state["speaker"]:
                left |= {row.speaker_id} if row.speaker_id is not None else set()
                row.speaker_id = None if state["speaker"] is None else self._voice(state["speaker"])
            self.session.flush()
        for speaker in left:
            said = select(SegmentRow.id).where(SegmentRow.speaker_id == speaker).limit(1)
            if self.session.scalars(said).first() is None:
                self.session.execute(delete(SpeakerRow).where(SpeakerRow.id == speaker))

    def _field(self, row: SegmentRow, name: str) -> Any:
        if name != "speaker":
            return getattr(row, name)
        speaker = None if row.speaker_id is None else self.session.get(SpeakerRow, row.speaker_id)
        return None if speaker is None else speaker.name

    def _voice(self, name: str) -> int:
        """The number of the voice of exactly this name, which is made where there is none."""
        own = select(SpeakerRow).where(SpeakerRow.recording_id == self.recording.id, SpeakerRow.name == name)
        voice = self.session.scalars(own).first()
        if voice is None:
            voice = SpeakerRow(recording_id=self.recording.id, name=name)
            self.session.add(voice)
            self.session.flush()
        return voice.id

    def _bump(self, kind: CorrectionKind, states: list[State]) -> None:
        """Count the revision, and mark what it changed."""
        self.recording.revision += 1
        self.session.flush()
        values = {"version": self.recording.revision}
        if kind is CorrectionKind.RENAME:
            voice = select(SpeakerRow.id).where(
                SpeakerRow.recording_id == self.recording.id, SpeakerRow.name == states[0]["speaker"]
            )
            rows = update(SegmentRow).where(SegmentRow.speaker_id.in_(voice))
            self.session.execute(rows.values(**values))
            return
        numbers = [{"id": state["id"], **values} for state in states]
        if numbers:
            self.session.execute(update(SegmentRow), numbers)


Fit = Callable[[Segment], Segment]
"""Gives a sentence other times; equal sentences get equal times."""


def refit(session: Session, recording: str, fit: Fit) -> None:
    """Give all sentences of a recording other times, in its history too, so that it can still be undone.

    Args:
        session: Of a transaction that nobody else's writing comes between.
        recording: Its id.
        fit: What gives each sentence its times and those of its words.
    """
    found = session.get_one(RecordingRow, recording)
    now = {item.id: item for item in segments_in(session, recording)}
    rows = session.scalars(_of(recording).order_by(CorrectionRow.id)).all()
    # Each entry is told apart from what was there when it was made: back in time, and on to what was undone.
    there = dict(now)
    for row in reversed([row for row in rows if row.undone_at is None]):
        row.after, row.before = _refitted(there, row.after, row.before, fit)
    there = dict(now)
    for row in [row for row in rows if row.undone_at is not None and not row.superseded]:
        row.before, row.after = _refitted(there, row.before, row.after, fit)
    for row in [row for row in rows if row.superseded]:
        row.before, row.after = _refitted(dict(now), row.before, row.after, fit)
    moved = [(old, new) for old in now.values() if (new := fit(old)) != old]
    if moved:
        found.revision += 1
        values = [
            {
                "id": new.id,
                "start": new.start,
                "end": new.end,
                "words": _stored(new.words),
                "version": found.revision,
            }
            for _, new in moved
        ]
        session.execute(update(SegmentRow), values)


def _refitted(
    there: dict[int, Segment], source: list[State], target: list[State], fit: Fit
) -> tuple[list[State], list[State]]:
    """Both states of an entry with other times; ``there`` goes from the first to the second."""
    done = []
    for states in (source, target):
        wholes = [_whole(there, state) for state in states]
        done.append([_with_times(state, whole, fit) for state, whole in zip(states, wholes, strict=True)])
        there |= {whole.id: whole for whole in wholes if whole is not None}
    return done[0], done[1]


def _whole(there: Mapping[int, Segment], state: State) -> Segment | None:
    """The sentence that a state is about, as it was then; None where it is about none."""
    if "id" not in state:
        return None
    known = there.get(
        state["id"], Segment(state.get("start", 0.0), state.get("end", 0.0), "", id=state["id"])
    )
    words = tuple(Word(*word) for word in state["words"]) if "words" in state else known.words
    fields = {name: state[name] for name in ("start", "end", "text") if name in state}
    return replace(known, **fields, words=words)


def _with_times(state: State, whole: Segment | None, fit: Fit) -> State:
    if whole is None:
        return state
    fitted = fit(whole)
    times = {"start": fitted.start, "end": fitted.end, "words": _stored(fitted.words)}
    return state | {name: value for name, value in times.items() if name in state}


_WHOLE = (
    "start", "end", "text", "words", "kind", "language", "engine", "window_id", "voice_label_part",
    "voice_label",
)  # fmt: skip
"""The columns of a sentence beside its number and its speaker."""


def turn_of(segments: Sequence[Segment], number: int) -> list[int]:
    """The numbers of the sentences around one that its speaker says in a row, as the page groups them.

    Args:
        segments: All segments of a recording, in time order.
        number: That of the sentence; alone it is a turn where there is none of this number.
    """
    for _, turn in groupby(segments, key=lambda item: (item.kind == "speech", item.speaker)):
        numbers = [item.id for item in turn]
        if number in numbers:
            return numbers
    return [number]


def sentence_at(segments: Sequence[Segment], seconds: float) -> Segment:
    """The sentence that is meant by a time: the one that is shown with it, or else the one that is said then.

    Raises:
        MossAgentError: Nothing is said then, or several sentences begin in that second.
    """
    spoken = [item for item in segments if item.kind == "speech"]
    found = [item for item in spoken if int(item.start) == seconds]
    if len(found) > 1:
        numbers = ", ".join(f"#{item.id} “{_short(item.text)}”" for item in found)
        raise InvalidInput(f"Several sentences begin at {clock(seconds)}; name one by its number: {numbers}.")
    found = found or [item for item in spoken if item.start <= seconds < item.end][-1:]
    if not found:
        raise InvalidInput(f"Nothing is said at {clock(seconds)}.")
    return found[0]


def sentence_numbered(segments: Sequence[Segment], number: int) -> Segment:
    """A sentence by its number.

    Raises:
        MossAgentError: There is none.
    """
    for item in segments:
        if item.id == number:
            return item
    raise InvalidInput(f"There is no sentence #{number} in this recording.")


def next_spoken(segments: Sequence[Segment], sentence: Segment) -> Segment:
    """The sentence that follows one on the same channel.

    Raises:
        MossAgentError: It is the last one.
    """
    after = [item for item in segments if item.kind == "speech" and item.channel == sentence.channel]
    at = [item.id for item in after].index(sentence.id) + 1 if sentence in after else len(after)
    if at == len(after):
        raise InvalidInput("No sentence follows this one.")
    return after[at]


def position_before(sentence: Segment, words: str) -> int:
    """The character of a sentence before which it is to be split, by the words that stand there.

    Raises:
        MossAgentError: They do not stand in it, or more than once.
    """
    wanted = one_line(words)
    count = sentence.text.count(wanted) if wanted else 0
    if count != 1:
        how = "not" if count == 0 else f"{count} times"
        raise InvalidInput(f"“{_short(wanted)}” stands {how} in “{_short(sentence.text)}”.")
    return sentence.text.index(wanted)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59].rstrip() + "…"


def _sentence(text: str) -> str:
    """A sentence's text as it is stored.

    Raises:
        MossAgentError: It is empty or too long.
    """
    text = one_line(text)
    if not any(letter.isalnum() for letter in text):
        raise InvalidInput("A sentence needs at least one word.")
    if len(text) > LONGEST_SENTENCE:
        raise InvalidInput(_too_long(len(text)))
    return text


def _too_long(count: int) -> str:
    return f"A sentence has at most {LONGEST_SENTENCE} characters; this would have {count}. Split it first."


def _joined_text(left: str, right: str) -> str:
    unspaced = UNSPACED.fullmatch(left[-1:] or " ") and UNSPACED.match(right)
    return left + right if unspaced else f"{left} {right}"


def _state(segment: Segment, *fields: str) -> State:
    values: State = {"id": segment.id}
    for name in fields:
        values[name] = _stored(segment.words) if name == "words" else getattr(segment, name)
    return values


def _stored(words: Iterable[Word]) -> list[list[Any]]:
    return [[word.start, word.end, word.text, word.probability] for word in words]


def _of(recording: str) -> Select[CorrectionRow]:
    return select(CorrectionRow).where(CorrectionRow.recording_id == recording)


def _undone_last(session: Session, recording: str) -> CorrectionRow | None:
    """What ``redo`` would make again: the oldest of what was undone since the last correction."""
    undone = CorrectionRow.undone_at.is_not(None), ~CorrectionRow.superseded
    return session.scalars(_of(recording).where(*undone).order_by(CorrectionRow.id).limit(1)).first()


def _mentioned(session: Session, recording: str) -> set[int]:
    """The numbers of all sentences that the history is about."""
    rows = session.execute(
        select(CorrectionRow.before, CorrectionRow.after).where(CorrectionRow.recording_id == recording)
    )
    return {state["id"] for row in rows for states in row for state in states if "id" in state}


def _changed(session: Session, recording: str, since: int) -> Changed:
    revision = session.scalar(select(RecordingRow.revision).where(RecordingRow.id == recording))
    segments = segments_in(session, recording)
    there = {item.id for item in segments}
    rows = session.scalars(_of(recording)).all()
    held = [row for row in rows if row.undone_at is None]
    single = [row for row in held if row.kind not in (CorrectionKind.RENAME, CorrectionKind.UNITE)]
    return Changed(
        revision=revision or 0,
        segments=tuple(item for item in segments if item.version > since),
        gone=tuple(sorted(_mentioned(session, recording) - there)),
        corrected=tuple(sorted({state["id"] for row in single for state in row.after} & there)),
        can_undo=bool(held),
        can_redo=_undone_last(session, recording) is not None,
    )


def _correction(row: CorrectionRow, starts: Mapping[int, float]) -> Correction:
    states = [*row.before, *row.after]
    times = [state["start"] for state in states if "start" in state]
    times += [starts[state["id"]] for state in states if state.get("id") in starts]
    return Correction(
        id=row.id,
        at=row.at,
        by=row.by,
        kind=CorrectionKind(row.kind),
        start=min(times, default=None),
        before=tuple(row.before),
        after=tuple(row.after),
        undone_at=row.undone_at,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
