"""Word and character error rates.

The rate of a set of cases is all its errors over all its reference units (not the mean of the cases'
rates), so that long cases count for what they are. It passes 100 % where much is inserted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from moss_audio.evaluate.normalise import CHARACTER_LANGUAGES


@dataclass(frozen=True)
class Errors:
    """Counts of one comparison, in units (words or characters); ``reference`` is the reference's length."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def total(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions


def rate_name(language: str | None) -> str:
    """Return "CER" for languages that are compared by characters, otherwise "WER"."""
    return "CER" if language in CHARACTER_LANGUAGES else "WER"


def count_errors(reference: Sequence[str], predicted: Sequence[str]) -> Errors:
    """Count the fewest edits from ``predicted`` to ``reference``; units hold no white space."""
    found = jiwer.process_words(" ".join(reference), " ".join(predicted))
    return Errors(found.substitutions, found.deletions, found.insertions, len(reference))


def matches(reference: Sequence[str], predicted: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places (in the reference, in the prediction) of units that are aligned and equal."""
    if not reference or not predicted:
        return []
    found = jiwer.process_words(" ".join(reference), " ".join(predicted))
    return [
        (chunk.ref_start_idx + step, chunk.hyp_start_idx + step)
        for chunk in found.alignments[0]
        if chunk.type == "equal"
        for step in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
