"""Whether a voice of a recording is one that is known: measured thresholds over voice embeddings.

    a speaker's speech → its chunks' vectors → their mean → likeness with each known voice, in one condition

A voice is *surely* known only if it is close enough, clearly closer to this voice than to any other known
one, and was heard long enough; else it may be known, which a person is to confirm. The thresholds were chosen
on one half of the readers of ``benchmarks/voices.py`` and are reported on the other half
(benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from index.diarization.voice_conditions import CLEAN, CONDITIONS, score, simulated
from index.diarization.voice_embeddings import embed_speech
from index.records import Segment, Span

MOST_SECONDS = 60.0
"""Speech of a voice that is embedded at most, its longest sentences first, seconds."""
SIMULATED_SECONDS = 30.0
"""Of these, what is simulated in other conditions, seconds."""

SURE, MAYBE = 0.70, 0.40
"""Likeness (``voice_conditions.alike``) from which a voice is surely, or may be, a known one."""
SURE_MARGIN, MAYBE_MARGIN = 0.24, 0.02
"""How much closer than the second nearest known voice it must be for that."""
SURE_SECONDS, MAYBE_SECONDS = 5.0, 3.0
"""Speech that must have been heard of it for that, seconds."""
PROFILE_SECONDS = 4.0
"""Speech without which a voice is not learned, seconds."""

Speaker = TypeVar("Speaker", bound=object)


@dataclass(frozen=True)
class SpokenVoice:
    """How somebody sounds.

    Attributes:
        vector: float32 ``[256]``, unit length.
        seconds: Speech behind it.
        under: The same simulated in other conditions, by their numbers.
    """

    vector: np.ndarray
    seconds: float
    under: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def in_each(self) -> list[np.ndarray | None]:
        """The vector in each condition; None where it was not simulated."""
        return [self.vector, *(self.under.get(number) for number in range(1, len(CONDITIONS)))]


@dataclass(frozen=True)
class VoiceMatch:
    """A speaker who is, or may be, somebody known.

    Attributes:
        voice: Number of the known voice.
        score: How like it is (``closeness``).
        sure: Whether it is surely the same.
    """

    voice: int
    score: float
    sure: bool


def spoken_voice(
    audio: Path, sentences: Sequence[Segment], speech: Sequence[Span], conditions: Collection[int] = ()
) -> SpokenVoice | None:
    """How the speaker of some sentences sounds; None where nothing of them can be heard.

    Args:
        audio: 16 kHz FLAC of the recording.
        sentences: Of one speaker; only the longest ones, up to ``MOST_SECONDS``, are read.
        speech: Detected speech of the recording.
        conditions: Numbers of ``voice_conditions.CONDITIONS`` in which it is simulated as well.

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    chunks = embed_speech(audio, _longest(sentences, MOST_SECONDS), speech)
    found = mean_voice(chunks.vectors, chunks.seconds)
    if found is None:
        return None
    some = _longest(sentences, SIMULATED_SECONDS)
    under: dict[int, np.ndarray] = {}
    for condition in sorted(set(conditions) - {CLEAN}):
        chunks = embed_speech(audio, some, speech, partial(simulated, condition=condition))
        voice = mean_voice(chunks.vectors, chunks.seconds)
        if voice is not None:
            under[condition] = voice.vector
    return replace(found, under=under)


def _longest(sentences: Sequence[Segment], seconds: float) -> list[Segment]:
    """The longest sentences, about so many seconds of them, in order of time."""
    chosen: list[Segment] = []
    for sentence in sorted(sentences, key=lambda sentence: sentence.start - sentence.end):
        if sentence.kind == "speech" and seconds > 0:
            chosen.append(sentence)
            seconds -= sentence.end - sentence.start
    return sorted(chosen, key=lambda sentence: sentence.start)


def mean_voice(vectors: np.ndarray, seconds: np.ndarray) -> SpokenVoice | None:
    """The mean of voice vectors, weighted by the speech behind each.

    Args:
        vectors: float32 ``[n, 256]``.
        seconds: float64 ``[n]``.

    Returns:
        None where there is no speech at all.
    """
    mean = np.asarray(seconds, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64)
    length = float(np.linalg.norm(mean)) if len(vectors) else 0.0
    if length == 0:
        return None
    return SpokenVoice((mean / length).astype(np.float32), float(np.sum(seconds)))


def match_voices(
    heard: Mapping[Speaker, SpokenVoice],
    known: Mapping[int, Sequence[np.ndarray]],
    rejected: Collection[tuple[Speaker, int]] = (),
) -> dict[Speaker, VoiceMatch]:
    """Which speakers of one recording are known, each known voice surely at most one of them.

    Args:
        heard: The speakers that have no name yet.
        known: Samples of the known voices by their numbers, each float32 ``[n_conditions, 256]``, or
            ``[1, 256]`` where it is known as it was recorded alone.
        rejected: Speakers and voices of which somebody said that they are not the same.
    """
    found: dict[Speaker, VoiceMatch] = {}
    for speaker, voice in heard.items():
        scores = {number: closeness(voice, samples) for number, samples in known.items()}
        ranked = sorted(scores, key=lambda number: -scores[number])
        # A voice that it is not does not stand beside the right one either.
        ranked = [number for number in ranked if (speaker, number) not in rejected]
        if not ranked:
            continue
        best = ranked[0]
        margin = scores[best] - scores[ranked[1]] if len(ranked) > 1 else np.inf
        kind = grade(scores[best], margin, voice.seconds)
        if kind is not None:
            found[speaker] = VoiceMatch(best, scores[best], kind)
    surest: dict[int, float] = {}
    for match in found.values():
        surest[match.voice] = max(match.score, surest.get(match.voice, 0.0))
    named = {match.voice for match in found.values() if match.sure}
    return {
        speaker: VoiceMatch(match.voice, match.score, match.sure and match.score == surest[match.voice])
        for speaker, match in found.items()
        # Who speaks beside somebody who surely is that voice is somebody else, unless both are as near.
        if match.sure or match.score >= SURE or match.voice not in named
    }


def closeness(voice: SpokenVoice, samples: Sequence[np.ndarray]) -> float:
    """How like a known voice one is: the mean of its two best samples, so that no odd one decides."""
    scores = sorted((score(voice.in_each, sample) for sample in samples), reverse=True)
    return float(np.mean(scores[:2]))


def grade(score: float, margin: float, seconds: float) -> bool | None:
    """Whether a voice is surely known (True), may be (False), or is a stranger (None).

    Args:
        score: Likeness with the nearest known voice.
        margin: How much less the second nearest has.
        seconds: Speech that was heard.
    """
    if score >= SURE and margin >= SURE_MARGIN and seconds >= SURE_SECONDS:
        return True
    if score >= MAYBE and margin >= MAYBE_MARGIN and seconds >= MAYBE_SECONDS:
        return False
    return None
