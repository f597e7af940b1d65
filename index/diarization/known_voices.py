"""Known voices: people whose voices are learned where the user names them, and known again later.

    a speaker is named → a sample of the voice        (only if the user agreed; biometric data)
    a later recording  → surely the same: it carries the name
                       → may be the same: "Anna?" until somebody confirms or rejects it

A voice has one sample a recording: the mean voice embedding of what it says there, at first as it was
recorded and, once it is compared, in other conditions too (``index.diarization.voice_conditions``). Removing
a recording removes its samples, and with the last one the voice. Samples are never exported. Speakers who are
nobody known leave nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from index.diarization.voice_conditions import CONDITIONS, conditions_needed
from index.diarization.voice_embeddings import DIMENSIONS, WEIGHTS_SHA256
from index.diarization.voice_matching import PROFILE_SECONDS, VoiceMatch, match_voices, spoken_voice
from index.recording_errors import InvalidInput, WeightsError
from index.records import Segment, Span
from index.speaker_names import is_label
from index.store.access import acting_person
from index.store.database import (
    RecordingRow,
    SpeakerRow,
    VoiceConsentRow,
    VoiceMatchRow,
    VoiceRow,
    VoiceSampleRow,
)
from index.store.library import Library, names_in_history, rename_unasked
from index.text import folded_name

ENCODER = f"resemblyzer:{WEIGHTS_SHA256[:12]}"
"""What makes the samples."""

WHOLE_BYTES = 4 * DIMENSIONS * len(CONDITIONS)
"""A sample of every condition; what is learned when somebody is named is as it was recorded alone."""

SURE, MAYBE, REJECTED = "sure", "maybe", "rejected"


@dataclass(frozen=True)
class KnownVoice:
    """Somebody known by voice.

    Attributes:
        name: As the user gave it.
        recordings: Ids of those that the voice was learned from.
        seconds: Speech behind it.
    """

    name: str
    recordings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Likeness:
    """A speaker who was named by the program, or may be somebody known.

    Attributes:
        speaker: The name shown in the recording.
        voice: Whose voice it is like.
        sure: Whether the speaker carries that name already.
        score: How like the two voices are.
    """

    speaker: str
    voice: str
    sure: bool
    score: float


class KnownVoices:
    """The known voices of one library.

    Args:
        library: The recordings.
        setting: ``on``, ``off``, or ``ask``: what the user answered, and nothing until then.
    """

    def __init__(self, library: Library, setting: str = "ask") -> None:
        self.library = library
        self.database = library.database
        self.setting = setting

    # --- consent ----------------------------------------------------------------------------------------

    @property
    def consent(self) -> bool | None:
        """Whether voices may be remembered; None where the user is to be asked."""
        if self.setting != "ask":
            return self.setting == "on"
        with self.database.transaction() as session:
            own = VoiceConsentRow.id == self._asked
            return session.scalar(select(VoiceConsentRow.given).where(own))

    def set_consent(self, given: bool) -> None:
        """Keep what the user answered; what is known already stays until it is forgotten.

        Raises:
            InvalidInput: The setting says otherwise.
        """
        if self.setting != "ask" and given != (self.setting == "on"):
            raise InvalidInput(
                f"MOSS_AGENT_VOICES={self.setting} decides this; unset it, or set it to “ask”, first."
            )
        with self.database.transaction() as session:
            session.merge(VoiceConsentRow(id=self._asked, given=given))

    @property
    def _asked(self) -> int:
        """The row of whoever acts: everybody is asked for themselves."""
        return 1 + (acting_person(self.database) or 0)

    # --- what is known ----------------------------------------------------------------------------------

    def voices(self) -> list[KnownVoice]:
        """Everybody known, by name."""
        with self.database.transaction() as session:
            query = select(VoiceRow.name, VoiceSampleRow.recording_id, VoiceSampleRow.seconds).join(
                VoiceSampleRow, VoiceSampleRow.voice_id == VoiceRow.id
            )
            rows = session.execute(query.order_by(VoiceRow.name, VoiceSampleRow.recording_id)).all()
        names = sorted({row.name for row in rows}, key=folded_name)
        return [
            KnownVoice(
                name,
                tuple(row.recording_id for row in rows if row.name == name),
                round(sum(row.seconds for row in rows if row.name == name), 1),
            )
            for name in names
        ]

    def forget(self, name: str) -> str:
        """Delete what is known of one voice; names in transcripts stay. Returns its name.

        Raises:
            InvalidInput: Nobody known has this name.
        """
        with self.database.transaction() as session:
            voice = _voice(session, name)
            if voice is None:
                known = ", ".join(session.scalars(select(VoiceRow.name).order_by(VoiceRow.name))) or "nobody"
                raise InvalidInput(f"No voice is known as “{name}”; known by voice: {known}.")
            found = voice.name
            session.delete(voice)
        self.database.rewrite()
        return found

    def forget_all(self) -> int:
        """Delete what is known of every voice; returns how many there were."""
        with self.database.transaction() as session:
            count = session.scalar(select(func.count()).select_from(VoiceRow)) or 0
            session.execute(delete(VoiceRow))
        self.database.rewrite()
        return count

    # --- learning ---------------------------------------------------------------------------------------

    def named(self, recording: str, old: str, new: str) -> bool:
        """Learn the voice of a speaker that the user named; returns whether it was.

        Too little speech teaches nothing. Where the program had named the speaker otherwise, that is taken
        as rejected; where the old name was learned from this recording alone, the voice is renamed with it.

        Args:
            recording: Its id.
            old: What the speaker was called before.
            new: What it is called now.

        Raises:
            WeightsError: The encoder's weights are missing or not the published ones.
        """
        with self.database.transaction() as session:
            speaker = _speaker(session, recording, new)
            if speaker is None:
                return False
            _leave(session, recording, old, speaker)
        if is_label(new) or not self.consent:
            return False
        return self.learn(recording, speaker.name)

    def learn(self, recording: str, speaker: str) -> bool:
        """Keep how a named speaker sounds in a recording, in place of what was kept of it there.

        Returns whether there was enough to learn from.
        """
        if not self._sample(recording, speaker):
            return False
        with self.database.transaction() as session:
            voice, row = _voice(session, speaker), _speaker(session, recording, speaker)
            if voice is not None and row is not None:
                answered = (VoiceMatchRow.state == SURE) | (VoiceMatchRow.voice_id == voice.id)
                session.execute(delete(VoiceMatchRow).where(VoiceMatchRow.speaker_id == row.id, answered))
        return True

    def _sample(self, recording: str, speaker: str, conditions: Collection[int] = ()) -> bool:
        """Store how a speaker sounds in a recording, and would in conditions; returns whether it suffices."""
        sentences, speech = self._heard(recording, speaker)
        audio = self.library.audio_path(recording)
        sample = spoken_voice(audio, sentences, speech, conditions) if audio.exists() else None
        if sample is None or sample.seconds < PROFILE_SECONDS:
            return False
        rows = [sample.vector if row is None else row for row in sample.in_each]
        vectors = np.stack(rows if sample.under else rows[:1])
        with self.database.transaction() as session:
            voice = _voice(session, speaker)
            if voice is None:
                voice = VoiceRow(name=speaker, encoder=ENCODER)
                session.add(voice)
                session.flush()
            session.merge(
                VoiceSampleRow(
                    voice_id=voice.id,
                    recording_id=recording,
                    seconds=sample.seconds,
                    embedding=vectors.astype("<f4").tobytes(),
                    stale=False,
                )
            )
        return True

    def _drop(self, voice: int, recording: str) -> None:
        """Forget what was learned of a voice in one recording."""
        own = VoiceSampleRow.voice_id == voice, VoiceSampleRow.recording_id == recording
        with self.database.transaction() as session:
            session.execute(delete(VoiceSampleRow).where(*own))

    def renamed_back(self, recording: str, old: str, new: str) -> None:
        """The naming of a speaker was undone: what is known of the voice goes back with the name.

        Args:
            recording: Its id.
            old: The name that was undone.
            new: What the speaker is called again.

        Raises:
            WeightsError: As in ``named``.
        """
        with self.database.changing() as session:
            speaker, voice = _speaker(session, recording, new), _voice(session, new)
            match = None
            if speaker is not None and voice is not None:
                match = session.get(VoiceMatchRow, (speaker.id, voice.id))
            if match is not None and match.state == REJECTED:
                # The program had given that name, which nobody confirmed: nothing is learned from it.
                match.state = SURE
                return
        self.named(recording, old, new)

    def parted(self, recording: str, kept: str, back: str, was_named: bool) -> None:
        """Two speakers who were united are two again: each is learned from their own speech.

        Args:
            recording: Its id.
            kept: Whose name both had.
            back: Who has an own name again.
            was_named: Whether the user had given ``back`` that name.
        """
        for name in (kept, back):
            with self.database.transaction() as session:
                voice = _voice(session, name)
                sample = None if voice is None else session.get(VoiceSampleRow, (voice.id, recording))
            wanted = sample is not None or (name == back and was_named and not is_label(name))
            learned = False
            if wanted and self.consent:
                # Without the encoder's weights nothing is learned.
                with suppress(WeightsError):
                    learned = self.learn(recording, name)
            if sample is not None and not learned:
                # What was learned from both is neither's voice.
                self._drop(sample.voice_id, recording)

    def said_otherwise(self, recording: str, speakers: Collection[str]) -> None:
        """Sentences went to or from these speakers: what was learned of them here is learned again.

        That takes a second or two, so it is done when the voices are compared next.
        """
        names = {folded_name(name) for name in speakers}
        with self.database.transaction() as session:
            query = (
                select(VoiceSampleRow, VoiceRow.name)
                .join(VoiceRow)
                .where(VoiceSampleRow.recording_id == recording)
            )
            for sample, name in session.execute(query).all():
                sample.stale = sample.stale or folded_name(name) in names

    def relearn(self) -> None:
        """Learn whole what was learned quickly, or is no longer what its speaker says.

        What is too little by now is forgotten.

        Raises:
            WeightsError: The encoder's weights are missing or not the published ones.
        """
        with self.database.transaction() as session:
            open_ = VoiceSampleRow.stale | (func.length(VoiceSampleRow.embedding) < WHOLE_BYTES)
            found = session.execute(select(VoiceSampleRow, VoiceRow.name).join(VoiceRow).where(open_)).all()
            todo = [(row.voice_id, row.recording_id, row.stale, name) for row, name in found]
        for voice, recording, stale, name in todo:
            with self.database.transaction() as session:
                speaker = _speaker(session, recording, name)
            learned = speaker is not None and self._sample(recording, speaker.name, range(len(CONDITIONS)))
            if stale and not learned:
                self._drop(voice, recording)

    def prune(self, recording: str) -> None:
        """Forget what was learned here under names that nobody here has any more."""
        if self.database.read_only is not None:
            return
        with self.database.transaction() as session:
            query = select(SpeakerRow.name).where(SpeakerRow.recording_id == recording)
            there = {folded_name(name) for name in session.scalars(query)}
            learned = (
                select(VoiceSampleRow, VoiceRow.name)
                .join(VoiceRow)
                .where(VoiceSampleRow.recording_id == recording)
            )
            for sample, name in session.execute(learned).all():
                if folded_name(name) not in there:
                    session.delete(sample)

    # --- knowing again ----------------------------------------------------------------------------------

    def recognise(self, recording: str, cancelled: Callable[[], bool] = lambda: False) -> list[Likeness]:
        """Look for known voices among the speakers of a recording that have no name; see ``likenesses``.

        Those surely known carry the name afterwards, unless somebody else there has it. Nothing is stored of
        the others, and nothing at all is done where voices may not be remembered.

        Raises:
            WeightsError: The encoder's weights are missing or not the published ones.
        """
        if self.consent:
            self.relearn()
        known = self._vectors() if self.consent else {}
        audio = self.library.audio_path(recording)
        if not known or not audio.exists():
            return []
        with self.database.transaction() as session:
            rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording)).all()
            query = select(VoiceMatchRow.speaker_id, VoiceMatchRow.voice_id).where(
                VoiceMatchRow.speaker_id.in_([row.id for row in rows]), VoiceMatchRow.state == REJECTED
            )
            rejected = {(speaker, voice) for speaker, voice in session.execute(query)}
        needed = conditions_needed([sample for samples in known.values() for sample in samples])
        heard = {}
        for row in rows:
            if is_label(row.name) and not cancelled():
                sentences, speech = self._heard(recording, row.name)
                voice = spoken_voice(audio, sentences, speech, needed)
                if voice is not None:
                    heard[row.id] = voice
        matches = match_voices(heard, known, rejected)
        with self.database.changing() as session:
            for speaker, match in matches.items():
                _keep_match(session, recording, speaker, match)
        return self.likenesses(recording)

    def likenesses(self, recording: str) -> list[Likeness]:
        """Which speakers of a recording the program named, and which may be somebody known."""
        return self.all_likenesses(recording).get(recording, [])

    def all_likenesses(self, recording: str | None = None) -> dict[str, list[Likeness]]:
        """``likenesses`` of every recording that has any, by its id; none where voices are switched off."""
        if not self.consent:
            return {}
        query = (
            select(SpeakerRow.recording_id, SpeakerRow.name, VoiceRow.name, VoiceMatchRow)
            .join(VoiceMatchRow, VoiceMatchRow.speaker_id == SpeakerRow.id)
            .join(VoiceRow, VoiceRow.id == VoiceMatchRow.voice_id)
            .where(VoiceMatchRow.state.in_((SURE, MAYBE)))
            .order_by(SpeakerRow.id)
        )
        if recording is not None:
            query = query.where(SpeakerRow.recording_id == recording)
        found: dict[str, list[Likeness]] = {}
        with self.database.transaction() as session:
            for where, speaker, voice, match in session.execute(query):
                likeness = Likeness(speaker, voice, match.state == SURE, round(match.score, 3))
                found.setdefault(where, []).append(likeness)
        return found

    def confirmed(self, recording: str, name: str) -> None:
        """Somebody said that a speaker is who it may be, and it carries the name: that adds to the voice."""
        if self.consent and not self.learn(recording, name):
            # Too little to learn from; it is no open question any more.
            with self.database.transaction() as session:
                speaker = _speaker(session, recording, name)
                if speaker is not None:
                    session.execute(delete(VoiceMatchRow).where(VoiceMatchRow.speaker_id == speaker.id))

    def reject(self, recording: str, speaker: str) -> str:
        """Say that a speaker is not who it may be, or was named as; it is not asked again.

        A speaker whom the program named is called as before. Returns who it is not.

        Raises:
            InvalidInput: There is no such speaker, or it is like nobody known.
        """
        likeness = self.likeness(recording, speaker)
        with self.database.changing() as session:
            row, voice = _speaker(session, recording, likeness.speaker), _voice(session, likeness.voice)
            assert row is not None and voice is not None
            match = session.get_one(VoiceMatchRow, (row.id, voice.id))
            if match.state == SURE:
                rename_unasked(session, row, _free_label(session, row, match.label))
            match.state = REJECTED
        return likeness.voice

    def likeness(self, recording: str, speaker: str) -> Likeness:
        """Who a speaker was named as, or may be.

        Raises:
            InvalidInput: There is no such speaker, or it is like nobody known.
        """
        found = self.likenesses(recording)
        for likeness in found:
            if folded_name(speaker) == folded_name(likeness.speaker):
                return likeness
        like = ", ".join(f"{one.speaker} ({one.voice})" for one in found) or "none"
        raise InvalidInput(f"“{speaker}” is like no known voice in this recording; speakers who are: {like}.")

    def _heard(self, recording: str, speaker: str) -> tuple[list[Segment], list[Span]]:
        """What a speaker says, and the detected speech of the recording."""
        sentences = [
            segment
            for segment in self.library.segments(recording)
            if segment.kind == "speech" and segment.speaker == speaker
        ]
        with self.database.transaction() as session:
            stored = session.scalar(select(RecordingRow.speech).where(RecordingRow.id == recording))
        return sentences, [Span(*pair) for pair in stored or ()]

    def _vectors(self) -> Mapping[int, Sequence[np.ndarray]]:
        """The samples that each known voice is compared by, float32 ``[n, 256]`` each."""
        found: dict[int, list[np.ndarray]] = {}
        with self.database.transaction() as session:
            query = select(VoiceSampleRow).join(VoiceRow).where(VoiceRow.encoder == ENCODER)
            for row in session.scalars(query):
                sample = np.frombuffer(row.embedding, dtype="<f4").reshape(-1, DIMENSIONS)
                found.setdefault(row.voice_id, []).append(sample)
        return found


def _voice(session: Session, name: str) -> VoiceRow | None:
    rows = session.scalars(select(VoiceRow)).all()
    return next((row for row in rows if folded_name(row.name) == folded_name(name)), None)


def _speaker(session: Session, recording: str, name: str) -> SpeakerRow | None:
    rows = session.scalars(select(SpeakerRow).where(SpeakerRow.recording_id == recording)).all()
    same = [row for row in rows if folded_name(row.name) == folded_name(name)]
    return next((row for row in same if row.name == name), same[0] if same else None)


def _leave(session: Session, recording: str, old: str, speaker: SpeakerRow) -> None:
    """Take a speaker, who has another name now, away from the voices that it was or may have been."""
    if not is_label(speaker.name):
        unanswered = (
            select(VoiceMatchRow, VoiceRow.name)
            .join(VoiceRow)
            .where(VoiceMatchRow.speaker_id == speaker.id, VoiceMatchRow.state == MAYBE)
        )
        for row, name in session.execute(unanswered):
            if folded_name(name) != folded_name(speaker.name):
                row.state = REJECTED
    before = _voice(session, old)
    if before is None or folded_name(before.name) == folded_name(speaker.name):
        return
    match = session.get(VoiceMatchRow, (speaker.id, before.id))
    if match is not None:
        match.state = REJECTED
    sample = session.get(VoiceSampleRow, (before.id, recording))
    if sample is None:
        return
    count = session.scalar(select(func.count()).where(VoiceSampleRow.voice_id == before.id))
    if count == 1 and not is_label(speaker.name) and _voice(session, speaker.name) is None:
        before.name = speaker.name
    else:
        session.delete(sample)


def _keep_match(session: Session, recording: str, speaker: int, match: VoiceMatch) -> None:
    """Give a speaker the name of a voice that it surely is, or note that it may be."""
    row, voice = session.get(SpeakerRow, speaker), session.get(VoiceRow, match.voice)
    if row is None or voice is None or not is_label(row.name):
        return  # somebody united, forgot or named them while the voices were compared
    label = row.name
    # A name that undoing would bring back is somebody else's, too.
    taken = {folded_name(name) for name in _names(session, recording) | names_in_history(session, recording)}
    sure = match.sure and folded_name(voice.name) not in taken
    session.execute(
        delete(VoiceMatchRow).where(VoiceMatchRow.speaker_id == speaker, VoiceMatchRow.state == MAYBE)
    )
    state = SURE if sure else MAYBE
    session.merge(
        VoiceMatchRow(speaker_id=speaker, voice_id=voice.id, state=state, label=label, score=match.score)
    )
    if sure:
        rename_unasked(session, row, voice.name)


def _free_label(session: Session, speaker: SpeakerRow, label: str) -> str:
    """The label that a speaker had, or the next one that is free."""
    recording = speaker.recording_id
    names = _names(session, recording) | names_in_history(session, recording)
    number = 1
    while label in names:
        label, number = f"Speaker {number}", number + 1
    return label


def _names(session: Session, recording: str) -> set[str]:
    return set(session.scalars(select(SpeakerRow.name).where(SpeakerRow.recording_id == recording)))


def clearest(segments: Sequence[Segment], speaker: str) -> Span | None:
    """Where a speaker is best heard alone: 3 to 6 s of one voice, as clear as there are; None for no speech.

    Clear is what the recogniser is sure of, and what nobody else speaks into.

    Args:
        segments: The recording's, in order of time.
        speaker: Whose.
    """
    spoken = [segment for segment in segments if segment.kind == "speech" and segment.end > segment.start]
    best: tuple[float, Span] | None = None
    own = [at for at, segment in enumerate(spoken) if segment.speaker == speaker]
    for at in own[:MOST_TRIED]:
        first = spoken[at]
        run = [first]
        for following in spoken[at + 1 :]:
            if following.speaker != speaker or following.end - first.start > LONGEST_SNIPPET_S:
                break
            run.append(following)
        end = min(run[-1].end, first.start + LONGEST_SNIPPET_S)
        span = Span(first.start, end, first.channel)
        words = [word.probability for segment in run for word in segment.words if word.start < end]
        clear = float(np.mean(words)) if words else 0.5
        around = spoken[max(0, at - NEIGHBOURS) : at + len(run) + NEIGHBOURS]
        alone = not any(other.speaker != speaker and other.span.overlaps(span) for other in around)
        score = min(1.0, span.duration / SHORTEST_SNIPPET_S) * clear * (1.0 if alone else 0.5)
        if best is None or score > best[0]:
            best = score, span
    return best[1] if best else None


SHORTEST_SNIPPET_S, LONGEST_SNIPPET_S = 3.0, 6.0
"""A voice is known by a few seconds; more is no clearer."""

MOST_TRIED = 200
"""Sentences of a speaker that are looked at."""

NEIGHBOURS = 4
"""Sentences before and after a snippet that are looked at for others who speak into it."""
