"""Has an answer run into a loop? Greedy decoding does so on laughter, music and noise."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PERIOD = 64
"""Tokens of the longest phrase whose repetition is looked for."""

REPETITIONS = 6
"""So many times over, and at least …"""

LOOP_TOKENS = 48
"""… so many tokens in all: "no, no, no" is speech, and so is a chorus sung twice."""


def is_loop(ids: Sequence[int]) -> bool:
    """Whether the last tokens are one phrase over and over."""
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(REPETITIONS * period, LOOP_TOKENS)
        if len(ids) < length:
            return False
        # Cheap for almost all periods: the last token alone already differs.
        if ids[-1] == ids[-1 - period]:
            tail = ids[-length:]
            if all(tail[i] == tail[i - period] for i in range(period, length)):
                return True
    return False
