"""Cases and predictions into scores; pure: no model, no audio.

A case without a prediction counts as an empty answer: every word missed, no slot matched, the choice wrong.
Nothing is left out to flatter a mean; how many were missing, unreadable or cut off stands in every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from moss_audio.evaluate.bootstrap import interval
from moss_audio.evaluate.cases import Case
from moss_audio.evaluate.normalise import Normaliser
from moss_audio.evaluate.predictions import Prediction
from moss_audio.evaluate.reading import Reading, read
from moss_audio.evaluate.recognition import count_errors, rate_name
from moss_audio.evaluate.timing import slot_errors

UNITS = {"WER": "%", "CER": "%", "AAS": "ms", "accuracy": "%"}


@dataclass(frozen=True)
class CaseScore:
    """What one case adds to a mean: ``numerator`` / ``denominator`` is its own score.

    WER and CER: errors / reference units. AAS: milliseconds / matched slots, of ``slots``. Accuracy:
    1 or 0 / 1. ``state`` is "answered", "missing" (no prediction) or "unreadable" (nothing to score in it);
    ``mended`` is true where the parser set something aside, ``cut`` where the token limit stopped the answer.
    """

    case: Case
    metric: str = ""
    numerator: float = 0.0
    denominator: float = 0.0
    slots: int = 0
    state: str = "answered"
    mended: bool = False
    cut: bool = False
    answer: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the report: one metric over the cases of a dataset, or of one category of it.

    ``value``, ``low`` and ``high`` are in ``unit``: percent or milliseconds; None where nothing could be
    measured. ``count`` is what was divided by (words, characters, matched slots, questions); ``slots`` is
    the number of timestamp slots in the references, for AAS alone.
    """

    dataset: str
    category: str | None
    task: str
    metric: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    cases: int
    count: int
    slots: int
    missing: int
    unreadable: int
    mended: int
    cut: int

    @property
    def matched(self) -> float | None:
        """The share of the reference's slots that AAS was measured on, 0 to 1."""
        return self.count / self.slots if self.slots else None


def score_case(case: Case, prediction: Prediction | None, normaliser: Normaliser) -> list[CaseScore]:
    """Score one case: one score, or two (times and text) for a timed transcript."""
    answer = read(case, prediction.text) if prediction else Reading()
    state = "missing" if prediction is None else "answered" if answer.readable else "unreadable"
    common = CaseScore(
        case,
        state=state,
        mended=answer.mended,
        cut=prediction is not None and prediction.stopped == "length",
    )
    if case.task == "choice":
        letter, right = answer.letter or "", float(answer.letter == case.reference)
        return [replace(common, metric="accuracy", numerator=right, denominator=1, answer=letter)]
    texts = _text_score(case, answer.text, normaliser, common)
    if isinstance(case.reference, str):
        return [texts]
    found = slot_errors(case.reference, answer.pieces, case.language, normaliser)
    total, matched = sum(found.milliseconds), len(found.milliseconds)
    times = replace(common, metric="AAS", numerator=total, denominator=matched, slots=found.slots)
    return [times, texts]


def _text_score(case: Case, heard: str, normaliser: Normaliser, common: CaseScore) -> CaseScore:
    reference = case.reference
    true = reference if isinstance(reference, str) else " ".join(one.text for one in reference)
    errors = count_errors(normaliser.units(true, case.language), normaliser.units(heard, case.language))
    return replace(
        common,
        metric=rate_name(case.language),
        numerator=errors.total,
        denominator=errors.reference,
        answer=heard,
    )


def score_cases(
    cases: Sequence[Case], predictions: Mapping[str, Prediction], normaliser: Normaliser
) -> list[CaseScore]:
    """Score every case against the prediction with its id."""
    return [score for case in cases for score in score_case(case, predictions.get(case.id), normaliser)]


def table(scores: Sequence[CaseScore]) -> list[Row]:
    """Gather scores into rows: for each dataset and metric one over all, then one for each category."""
    groups: dict[tuple[str, str, str], list[CaseScore]] = {}
    for one in scores:
        groups.setdefault((one.case.dataset, one.case.task, one.metric), []).append(one)
    rows = []
    for (dataset, task, metric), members in groups.items():
        rows.append(_row(dataset, None, task, metric, members))
        categories = sorted({one.case.category for one in members if one.case.category is not None})
        for category in categories:
            inside = [one for one in members if one.case.category == category]
            rows.append(_row(dataset, category, task, metric, inside))
    return rows


def _row(dataset: str, category: str | None, task: str, metric: str, scores: Sequence[CaseScore]) -> Row:
    over, under = [one.numerator for one in scores], [one.denominator for one in scores]
    scale = 100.0 if UNITS[metric] == "%" else 1.0
    between = interval(over, under)
    return Row(
        dataset=dataset,
        category=category,
        task=task,
        metric=metric,
        unit=UNITS[metric],
        value=scale * sum(over) / sum(under) if sum(under) else None,
        low=scale * between[0] if between else None,
        high=scale * between[1] if between else None,
        cases=len(scores),
        count=int(sum(under)),
        slots=sum(one.slots for one in scores),
        missing=sum(one.state == "missing" for one in scores),
        unreadable=sum(one.state == "unreadable" for one in scores),
        mended=sum(one.mended for one in scores),
        cut=sum(one.cut for one in scores),
    )
