"""Laying the turns that a model heard on the sentences of a transcript: who says which."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from index.records import Segment
from moss_audio.tasks import TimedText
from moss_audio.tasks.loops import words_of

LEAST_SHARE = 0.5
"""Share of a sentence, in time and in words together (so at most 2), that its label must have."""

CLEARLY_MORE = 2.0
"""Times as much as that must be of what any other label has."""


def labels_of(sentences: Sequence[Segment], parts: Sequence[Sequence[TimedText]]) -> list[str | None]:
    """Which label each sentence has, by the time and by the words that it shares with turns.

    Args:
        sentences: In time order.
        parts: Turns with labels, on the same clock, for each stretch within which labels mean something.

    Returns:
        One label a sentence, which says its part too; None where no label has most of it.
    """
    turns = [(f"{part}.{one.speaker}", one) for part, found in enumerate(parts) for one in found]
    words = _shared_words(sentences, turns)
    labels: list[str | None] = []
    for sentence, shared in zip(sentences, words, strict=True):
        length = max(sentence.end - sentence.start, 0.01)
        for label, turn in turns:
            overlap = min(turn.end, sentence.end) - max(turn.start, sentence.start)
            if overlap > 0:
                shared[label] = shared.get(label, 0.0) + overlap / length
        labels.append(_clearest(shared))
    return labels


def _shared_words(
    sentences: Sequence[Segment], turns: Sequence[tuple[str, TimedText]]
) -> list[dict[str, float]]:
    """For each sentence the share of its words that turns of each label have in the same order."""
    written = [(word.key, at) for at, one in enumerate(sentences) for word in words_of(one.text)]
    heard = [(word.key, label) for label, turn in turns for word in words_of(turn.text)]
    counts: list[dict[str, float]] = [{} for _ in sentences]
    totals = [len(words_of(one.text)) for one in sentences]
    matcher = SequenceMatcher(None, [key for key, _ in written], [key for key, _ in heard], autojunk=False)
    for mine, theirs, size in matcher.get_matching_blocks():
        for step in range(size):
            at, label = written[mine + step][1], heard[theirs + step][1]
            counts[at][label] = counts[at].get(label, 0.0) + 1 / totals[at]
    return counts


def _clearest(shared: dict[str, float]) -> str | None:
    ranked = sorted(shared, key=lambda label: -shared[label])
    if not ranked or shared[ranked[0]] < LEAST_SHARE:
        return None
    if len(ranked) > 1 and shared[ranked[0]] < CLEARLY_MORE * shared[ranked[1]]:
        return None
    return ranked[0]
