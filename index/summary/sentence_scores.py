"""How far each sentence commits somebody, leaves something open, is a key sentence, lies where people decide.

A linear model over short phrases (n-grams of up to three words) in the sentence and in its neighbours, its
length, its place, and how much its speaker talks. The weights were learned by logistic regression from
meetings with written summaries and the sentences that prove them (``benchmarks/train_summaries.py``). A
phrase counts only if it is about as common in meetings of different kinds, so that it says what is done and
not what is talked about. No embedding is needed, so the scores do not change with the embedder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from index.records import Segment
from index.weights import check_sha256

WEIGHTS = Path(__file__).with_name("sentence_scores.npz")
WEIGHTS_SHA256 = "7b42d39db98bf886d3fac543e5769b12bfa95f9c7fc192441265fa43170e8368"

KINDS = ("deciding", "action", "question", "key", "settled", "asked")
"""What a sentence is scored as, in the order of the columns of the weights: that something is decided within
three sentences of it, that it commits somebody, leaves something open, is a key sentence; that something is
decided near it, in people's questions too; that it answers a question that people have."""

REACH = 3
"""Neighbours on each side whose phrases count too."""

LEAST_PHRASES = 3
"""A shorter text is not weighted up any further."""

_TOKEN = re.compile(r"[a-z]+|'[a-z]+|\?")
# A run-on sentence ends where its speaker takes on, or asks for, something more.
_SENTENCE_END = re.compile(
    r"(?<=[.?!])(?<!\b(?:Mr|Ms|Dr|St)\.)(?<!\bMrs\.)(?<!\bProf\.)\s+(?=\S)|,\s+(?=(?:and\s+|so\s+)?(?:I['’]ll|I\s+will|(?:can|could)\s+you|please)\b)"
)
_LEAST_BEFORE_COMMA = 4
"""Words that must stand before such a place, so that "Yes, I'll do it" stays whole."""


@dataclass(frozen=True)
class Sentence:
    """A verbatim sentence of one segment; ``start`` and ``end`` in seconds."""

    text: str
    start: float
    end: float
    segment: Segment
    index: int
    """Position of the segment among all segments."""

    @property
    def speaker(self) -> str | None:
        """Who said it."""
        return self.segment.speaker


def sentences(segments: Sequence[Segment]) -> list[Sentence]:
    """All sentences in order; their times within a segment come from their share of its letters."""
    found: list[Sentence] = []
    for index, segment in enumerate(segments):
        borders = [0]
        for match in _SENTENCE_END.finditer(segment.text):
            before = segment.text[borders[-1] : match.start()]
            if match[0][0] != "," or len(before.split()) >= _LEAST_BEFORE_COMMA:
                borders.append(match.end())
        scale = (segment.end - segment.start) / max(1, len(segment.text))
        for first, last in pairwise([*borders, len(segment.text)]):
            if text := segment.text[first:last].strip().rstrip(","):
                start, end = segment.start + first * scale, segment.start + last * scale
                found.append(Sentence(text, start, min(end, segment.end), segment, index))
    return found


def phrases(text: str) -> set[str]:
    """The n-grams of a sentence: one to three words each, lower case, "?" being a word."""
    tokens = _TOKEN.findall(text.lower().replace("’", "'"))
    return {
        " ".join(tokens[first:last])
        for first in range(len(tokens))
        for last in range(first + 1, min(first + 3, len(tokens)) + 1)
    }


def circumstances(texts: Sequence[str], speakers: Sequence[str | None]) -> np.ndarray:
    """Place in the recording, length, and the speaker's share of all words: float32 ``[n_sentences, 8]``."""
    lengths = np.array([len(text.split()) for text in texts], dtype=np.float32)
    talked: Counter[str | None] = Counter()
    for speaker, length in zip(speakers, lengths, strict=True):
        talked[speaker] += int(length)
    most = max(talked.values(), default=0)
    share = np.array([talked[speaker] for speaker in speakers], dtype=np.float32)
    place = np.arange(len(texts), dtype=np.float32) / max(1, len(texts))
    columns = [place, place**2, place > 0.9, place < 0.1, np.log1p(lengths), lengths < 4]
    columns += [share / max(1.0, float(lengths.sum())), share == most]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class PhraseWeights:
    """What each phrase counts in a sentence and beside it, what circumstances count, for each kind."""

    vocabulary: dict[str, int]
    own: np.ndarray
    near: np.ndarray
    rest: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The weights in the arrays that ``benchmarks/train_summaries.py`` makes."""
        words = bytes(arrays["vocabulary"]).decode().split("\n")
        parts = [arrays[name].astype(np.float32) for name in ("own", "near", "rest", "bias")]
        return cls({word: at for at, word in enumerate(words)}, *parts)


@cache
def _weights() -> PhraseWeights:
    check_sha256(WEIGHTS, WEIGHTS_SHA256)
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return PhraseWeights.of(stored)


def scores(
    texts: Sequence[str], speakers: Sequence[str | None], weights: PhraseWeights | None = None
) -> np.ndarray:
    """Log-odds that each sentence is of each kind: float32 ``[n_sentences, len(KINDS)]``.

    Args:
        texts: The sentences in order.
        speakers: Who says each.
        weights: By default the shipped ones.

    Raises:
        WeightsError: The weights are missing or not the shipped ones.
    """
    weights = weights or _weights()
    count = len(texts)
    own = np.zeros((count, len(KINDS)), dtype=np.float32)
    near = np.zeros((count + 2 * REACH, len(KINDS)), dtype=np.float32)
    known = np.zeros(count + 2 * REACH, dtype=np.float32)
    for at, text in enumerate(texts):
        rows = [weights.vocabulary[part] for part in phrases(text) if part in weights.vocabulary]
        own[at] = weights.own[rows].sum(axis=0)
        near[at + REACH] = weights.near[rows].sum(axis=0)
        known[at + REACH] = len(rows)
    offsets = [offset for offset in range(2 * REACH + 1) if offset != REACH]
    around = np.sum([near[offset : offset + count] for offset in offsets], axis=0)
    sizes = np.sum([known[offset : offset + count] for offset in offsets], axis=0)
    out = own * scale(known[REACH : REACH + count])[:, None] + around * scale(sizes)[:, None]
    rest = circumstances(texts, speakers) @ weights.rest
    return np.asarray(out + rest + weights.bias, dtype=np.float32)


def scale(sizes: np.ndarray) -> np.ndarray:
    """What the phrases of a text are weighted with, so that long sentences do not win by their length."""
    return 1 / np.sqrt(np.maximum(sizes, LEAST_PHRASES))
