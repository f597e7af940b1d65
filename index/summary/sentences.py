"""Key sentences: near the middle of what was said, and unlike each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from index.records import Segment
from index.summary.titles import announces

DIVERSITY = 0.4
"""How much likeness to chosen sentences counts against one (1 − λ of MMR; Carbonell and Goldstein, 1998)."""

MIN_WORDS = 6
"""Shorter sentences ("Exactly.", "Good idea.") say nothing by themselves."""


def key_sentences(segments: Sequence[Segment], embeddings: np.ndarray, count: int) -> list[int]:
    """Positions of up to ``count`` key sentences, in the order they were said.

    Args:
        segments: Sentences.
        embeddings: float32 ``[n_segments, dimensions]``, unit length.
    """
    able = [
        at for at, one in enumerate(segments) if len(one.text.split()) >= MIN_WORDS and one.kind == "speech"
    ]
    telling = [at for at in able if _states(segments[at].text)]
    able = telling if len(telling) >= min(count, len(able)) else able
    if not able:
        return []
    vectors = embeddings[able]
    centroid = embeddings.mean(axis=0)
    centroid /= max(float(np.linalg.norm(centroid)), 1e-9)
    central = vectors @ centroid
    likeness = np.zeros(len(able))
    chosen: list[int] = []
    while len(chosen) < min(count, len(able)):
        score = (1 - DIVERSITY) * central - DIVERSITY * likeness
        score[chosen] = -np.inf
        best = int(np.argmax(score))
        chosen.append(best)
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return sorted(able[one] for one in chosen)


def _states(text: str) -> bool:
    """Whether a sentence says something, instead of asking or announcing it."""
    return not text.rstrip().endswith("?") and announces(text) is None
