"""Confidence intervals by resampling cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95


def interval(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of sum(numerators) / sum(denominators).

    Cases, not units, are drawn with replacement (Efron's percentile interval, 95 %, 1000 draws, fixed seed:
    the same scores give the same interval). None with fewer than two cases or nothing to divide by.
    """
    over, under = np.asarray(numerators, float), np.asarray(denominators, float)
    if len(over) < 2 or not under.any():
        return None
    generator = np.random.default_rng(SEED)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(over), size=len(over))
        total = under[drawn].sum()
        if total:
            ratios.append(over[drawn].sum() / total)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
