"""AAS: how far predicted times are from the true ones.

    AAS = (1/N) Σ |t̂ᵢ − tᵢ|     over N timestamp slots, in milliseconds; lower is better

Every sentence or word has two slots, its start and its end (the MOSS-Audio report, arXiv 2606.01802,
defines the mean; it does not say what happens where the texts differ). Ours, for that: both sides are read
as one row of units, aligned by the fewest edits. A start slot of the reference is matched when the first
unit of its sentence or word is aligned with an equal unit that begins a predicted sentence or word; an end
slot likewise by the last unit. N counts matched slots, and the share of slots matched is reported beside
the mean, which says nothing about words that were missed: read the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moss_audio.evaluate.cases import Timed
from moss_audio.evaluate.normalise import Normaliser
from moss_audio.evaluate.recognition import matches


@dataclass(frozen=True)
class SlotErrors:
    """Absolute errors of the matched slots in milliseconds, and how many slots the reference has."""

    milliseconds: tuple[float, ...]
    slots: int


@dataclass(frozen=True)
class _Row:
    """Timed pieces as one row of units: which units begin or end a piece, and when (seconds)."""

    units: list[str]
    starts: dict[int, float]
    ends: dict[int, float]


def _row(pieces: Sequence[Timed], language: str | None, normaliser: Normaliser) -> _Row:
    row = _Row([], {}, {})
    for piece in pieces:
        units = normaliser.units(piece.text, language)
        if units:  # "um" and "…" leave nothing to align by, and have no slots on either side
            row.starts[len(row.units)] = piece.start
            row.units.extend(units)
            row.ends[len(row.units) - 1] = piece.end
    return row


def slot_errors(
    reference: Sequence[Timed], predicted: Sequence[Timed], language: str | None, normaliser: Normaliser
) -> SlotErrors:
    """Compare the times (seconds) of two timed texts slot by slot."""
    true, heard = _row(reference, language, normaliser), _row(predicted, language, normaliser)
    found = [
        abs(heard_times[there] - true_times[here]) * 1000
        for here, there in matches(true.units, heard.units)
        for true_times, heard_times in ((true.starts, heard.starts), (true.ends, heard.ends))
        if here in true_times and there in heard_times
    ]
    return SlotErrors(tuple(found), len(true.starts) + len(true.ends))
