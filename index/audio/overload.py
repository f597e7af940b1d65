"""Samples beyond full scale, which files of floating-point numbers may hold: turned down, not cut off.

The copy of a recording has whole numbers, in which they would be clipped. A few are: encoders overshoot, and
a single wild sample must not silence all others.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

MOST_CLIPPED = 1e-4
"""Share of samples that may be clipped: nobody hears it."""

STEPS = 4
"""Steps of level that are told apart in each doubling: 1.5 dB each, up to which overshooting is usual."""


class Overload:
    """How many samples of a signal are beyond full scale, and by how much."""

    def __init__(self) -> None:
        self._samples = 0
        self._beyond: Counter[int] = Counter()
        """Numbers of samples beyond full scale, by the steps that they are beyond it."""

    def hear(self, block: np.ndarray) -> None:
        """Take in the next samples, float32 of any shape."""
        self._samples += int(np.count_nonzero(block))
        if not block.size or max(block.max(), -block.min()) <= 1.0:
            return
        levels = np.abs(block[np.abs(block) > 1.0]).astype(np.float64)
        steps, counts = np.unique(np.ceil(STEPS * np.log2(levels)).astype(int), return_counts=True)
        self._beyond.update(dict(zip(steps.tolist(), counts.tolist(), strict=True)))

    @property
    def gain(self) -> float:
        """By what samples are to be multiplied so that hardly any is beyond full scale; 1 for most files."""
        clipped = 0
        for step in sorted(self._beyond, reverse=True):
            clipped += self._beyond[step]
            if clipped > MOST_CLIPPED * self._samples:
                return float(2.0 ** (-step / STEPS)) if step > 1 else 1.0
        return 1.0
