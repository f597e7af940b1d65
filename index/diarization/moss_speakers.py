"""Who speaks according to MOSS-Audio: the label it gives each turn, and the sentence each label belongs to.

A model hears a window and writes what is said with a label for each turn. Alignment finds, by time and by
words, which of the labels belongs to which sentence of the transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from index.audio.windows import AudioWindow, original_time, trim_silence
from index.recording_errors import TooLong
from index.records import Segment
from index.transcription.moss_requests import BackendClient
from index.transcription.moss_transcriber import KEEP_PAUSE_SECONDS
from index.transcription.retry import halves
from moss_audio.audio import SAMPLE_RATE
from moss_audio.generation.loops import words_of
from moss_audio.generation.requests import Options
from moss_audio.tasks import TASKS, Parsed, TimedText, TimedTexts

TOKENS = 64
TOKENS_PER_SECOND = 12.0
"""Tokens an answer may have, in all and a second of speech: as for a transcript, and three for each label."""

LEAST_SHARE = 0.5
"""Share of a sentence, in time and in words together (so at most 2), that its label must have."""

CLEARLY_MORE = 2.0
"""Times as much as that must be of what any other label has."""

Turns = Sequence[Sequence[TimedText]]
"""What a model heard in a window, with a speaker's label for each turn, for each part heard on its own."""


class MossSpeakers(BackendClient):
    """Labels turns with any MOSS-Audio backend.

    Args:
        backend: Stays open.
    """

    def label(self, window: AudioWindow) -> list[list[TimedText]]:
        """Who says what in a window, on the recording's clock.

        Returns:
            Turns with labels, in order, for each part of the window that was heard on its own: labels mean
            something within one of these lists only. It is one list, unless the window is longer than the
            engine takes at a time.

        Raises:
            HearingError: The engine failed, also when asked again.
            Cancelled: The window's ``stop`` was set.
        """
        try:
            return [self._once(window)]
        except TooLong:
            parts = halves(window)
            if not parts:
                raise
            return [turns for part in parts for turns in self.label(part)]

    def _once(self, window: AudioWindow) -> list[TimedText]:
        audio, kept = trim_silence(window, KEEP_PAUSE_SECONDS)
        if not len(audio):
            return []
        tokens = TOKENS + round(TOKENS_PER_SECOND * sum(span.duration for span in window.speech))
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        reply = self.ask(TASKS["speakers"].prompt, audio, options, window.stop)
        parsed: Parsed[TimedTexts] = TASKS["speakers"].parse(reply.text, len(audio) / SAMPLE_RATE)
        return [
            TimedText(
                original_time(turn.start, kept),
                original_time(turn.end, kept, ends=True),
                turn.text,
                turn.speaker,
            )
            for turn in parsed.value
            if turn.speaker is not None
        ]


@dataclass(frozen=True)
class VoiceLabel:
    """What a model calls a speaker. The same name is the same voice only in the same part of a window.

    Attributes:
        window: The window's number in the database.
        part: Which part of the window, from 0: one that was too long for the engine was heard in parts.
        name: The model's own word, for example ``S01``.
    """

    window: int
    part: int
    name: str

    @property
    def scope(self) -> tuple[int, int]:
        """Where the name means one voice."""
        return self.window, self.part


def align_labels(sentences: Sequence[Segment], turns: Turns, window: int) -> list[VoiceLabel | None]:
    """Find the label of each sentence, by the time and by the words that it shares with turns.

    Args:
        sentences: The window's, in order of time.
        turns: On the same clock.
        window: The window's number.

    Returns:
        One label a sentence; None where no label has most of it.
    """
    labelled = [
        (VoiceLabel(window, part, turn.speaker), turn)
        for part, heard in enumerate(turns)
        for turn in heard
        if turn.speaker is not None
    ]
    labels: list[VoiceLabel | None] = []
    for sentence, shared in zip(sentences, _shared_words(sentences, labelled), strict=True):
        length = max(sentence.end - sentence.start, 0.01)
        for label, turn in labelled:
            overlap = min(turn.end, sentence.end) - max(turn.start, sentence.start)
            if overlap > 0:
                shared[label] = shared.get(label, 0.0) + overlap / length
        labels.append(_clearest(shared))
    return labels


def _shared_words(
    sentences: Sequence[Segment], labelled: Sequence[tuple[VoiceLabel, TimedText]]
) -> list[dict[VoiceLabel, float]]:
    """For each sentence the share of its words that turns of each label have in the same order."""
    words = [words_of(sentence.text) for sentence in sentences]
    written = [(word.key, number) for number, said in enumerate(words) for word in said]
    heard = [(word.key, label) for label, turn in labelled for word in words_of(turn.text)]
    shares: list[dict[VoiceLabel, float]] = [{} for _ in sentences]
    matcher = SequenceMatcher(None, [key for key, _ in written], [key for key, _ in heard], autojunk=False)
    for mine, theirs, size in matcher.get_matching_blocks():
        for step in range(size):
            number, label = written[mine + step][1], heard[theirs + step][1]
            shares[number][label] = shares[number].get(label, 0.0) + 1 / len(words[number])
    return shares


def _clearest(shared: dict[VoiceLabel, float]) -> VoiceLabel | None:
    ranked = sorted(shared, key=lambda label: -shared[label])
    if not ranked or shared[ranked[0]] < LEAST_SHARE:
        return None
    if len(ranked) > 1 and shared[ranked[0]] < CLEARLY_MORE * shared[ranked[1]]:
        return None
    return ranked[0]
