"""Scores and their report: error rates, timestamp errors and accuracy from cases and predictions.

No model and no audio is needed. A report is written as Markdown for people and as JSON for programs.

*Units.* Texts are compared by words, or by characters in languages that do not space words. Both sides go
through the normaliser that the Whisper paper scores with, as transformers ships it: for English with
contractions and spelled-out numbers resolved, for every other language lower case without punctuation or
bracketed asides. Its table of British and American spellings comes with Whisper checkpoints only
(``normalizer.json``); without it "colour" and "color" differ, and the report says so.

*WER and CER.* All errors of a set of cases over all its reference units, not the mean of the cases' rates, so
that long cases count for what they are. It passes 100 % where much is inserted.

*AAS.* How far predicted times are from the true ones, in milliseconds; lower is better:

    AAS = (1/N) Σ |t̂ᵢ − tᵢ|     over N timestamp slots

Every sentence or word has two slots, its start and its end (the MOSS-Audio report, arXiv 2606.01802,
defines the mean; it does not say what happens where the texts differ). Ours, for that: both sides are read
as one row of units, aligned by the fewest edits. A start slot of the reference is matched when the first
unit of its sentence or word is aligned with an equal unit that begins a predicted sentence or word; an end
slot likewise by the last unit. N counts matched slots, and the share of slots matched is reported beside
the mean, which says nothing about words that were missed: read the two together. Parsers are given no clip
length, so that times beyond a clip's end count as the errors they are.

A case without a prediction counts as an empty answer: every word missed, no slot matched, the choice wrong.
How many were missing, unreadable or cut off stands in every row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from moss_audio.errors import DataError
from moss_audio.evaluate.cases import Case, Prediction, Timed
from moss_audio.tasks import TASKS, choice

CHARACTER_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Languages written without spaces between words, scored by characters (CER), as the Whisper paper does."""


def read_spellings(path: Path) -> dict[str, str]:
    """Read a table of spellings, ``{"colour": "color", …}``, such as a Whisper checkpoint's normalizer.json.

    Raises:
        DataError: The file is missing or not a JSON object of texts.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"The table of spellings {path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"The table of spellings {path} cannot be read as JSON: {error}.") from error
    if not isinstance(table, dict) or not all(isinstance(spelling, str) for spelling in table.values()):
        raise DataError(f'The table of spellings {path} must be an object like {{"colour": "color"}}.')
    return table


class Normaliser:
    """Turns texts into comparable units.

    Args:
        spellings: British to American words for English; empty where no table is at hand.
    """

    def __init__(self, spellings: Mapping[str, str] | None = None):
        self.spellings = dict(spellings or {})
        self._english = EnglishTextNormalizer(self.spellings)
        self._basic = BasicTextNormalizer()
        # References are seen twice (their text, their times) and words repeat; the normaliser is slow.
        self._units = lru_cache(maxsize=100_000)(self._split)

    def units(self, text: str, language: str | None) -> tuple[str, ...]:
        """Split ``text`` into normalised words, or characters for ``CHARACTER_LANGUAGES``."""
        return self._units(text, language)

    def _split(self, text: str, language: str | None) -> tuple[str, ...]:
        if language in CHARACTER_LANGUAGES:
            return tuple("".join(self._basic(text).split()))
        if language != "en":
            return tuple(self._basic(text).split())
        try:
            return tuple(self._english(text).split())
        except ValueError:
            # Looping models emit runs of thousands of digits, more than Python turns into a number.
            return tuple(self._basic(text).split())


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


def _slot_row(pieces: Sequence[Timed], language: str | None, normaliser: Normaliser) -> _Row:
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
    true, heard = _slot_row(reference, language, normaliser), _slot_row(predicted, language, normaliser)
    found = [
        abs(heard_times[there] - true_times[here]) * 1000
        for here, there in matches(true.units, heard.units)
        for true_times, heard_times in ((true.starts, heard.starts), (true.ends, heard.ends))
        if here in true_times and there in heard_times
    ]
    return SlotErrors(tuple(found), len(true.starts) + len(true.ends))


NAMES = {"asr": "transcribe", "timestamps": "timestamps", "words": "words"}
"""The task of ``moss_audio.tasks`` that stands behind each task of a case; ``choice`` makes its own."""

HARMLESS = frozenset({"thinking", "special token"})
"""What surrounds an answer by rights; anything else that a parser set aside is counted as mended."""


@dataclass(frozen=True)
class Reading:
    """An answer as read: a text, timed pieces, or a letter, whichever the task has.

    ``mended`` is true where the parser set something aside that belongs to no transcript; a
    choice is clear or it is not, whatever stands around it.
    """

    text: str = ""
    pieces: tuple[Timed, ...] = ()
    letter: str | None = None
    mended: bool = False

    @property
    def readable(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.text.strip() or self.pieces or self.letter)


def task_of(case: Case) -> Any:
    """Return the task of ``moss_audio.tasks`` that asks and reads this case."""
    if case.task == "choice":
        return choice(case.question, case.options)
    return TASKS[NAMES[case.task]]


def read(case: Case, text: str) -> Reading:
    """Read one answer; any text can be read, to nothing at worst."""
    parsed = task_of(case).parse(text, None)
    value = parsed.value
    if case.task == "choice":
        return Reading(letter=None if value is None else value.letter)
    mended = bool(parsed.kinds - HARMLESS)
    if case.task == "asr":
        return Reading(text=value.text, mended=mended)
    pieces = tuple(Timed(part.start, part.end, part.text) for part in value)
    return Reading(" ".join(piece.text for piece in pieces), pieces, mended=mended)


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
    true = reference if isinstance(reference, str) else " ".join(timed.text for timed in reference)
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
    for score in scores:
        groups.setdefault((score.case.dataset, score.case.task, score.metric), []).append(score)
    rows = []
    for (dataset, task, metric), members in groups.items():
        rows.append(_row(dataset, None, task, metric, members))
        categories = sorted({score.case.category for score in members if score.case.category is not None})
        for category in categories:
            inside = [score for score in members if score.case.category == category]
            rows.append(_row(dataset, category, task, metric, inside))
    return rows


def _row(dataset: str, category: str | None, task: str, metric: str, scores: Sequence[CaseScore]) -> Row:
    over, under = [score.numerator for score in scores], [score.denominator for score in scores]
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
        slots=sum(score.slots for score in scores),
        missing=sum(score.state == "missing" for score in scores),
        unreadable=sum(score.state == "unreadable" for score in scores),
        mended=sum(score.mended for score in scores),
        cut=sum(score.cut for score in scores),
    )


SHOWN = 10
"""Ids of missing predictions written out in Markdown; JSON has them all."""


COUNTED = {"WER": "word", "CER": "character", "AAS": "slot", "accuracy": "question"}
"""What each metric is a mean over."""


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found. ``models`` are the names that the predictions give themselves."""

    cases_file: str
    predictions_file: str
    models: tuple[str, ...]
    settings: tuple[str, ...]
    spellings: int
    rows: tuple[Row, ...]
    scores: tuple[CaseScore, ...]
    missing: tuple[str, ...]
    strangers: tuple[str, ...]


def make_report(
    cases: Sequence[Case],
    predictions: Mapping[str, Prediction],
    normaliser: Normaliser,
    files: tuple[str, str] = ("", ""),
    known: frozenset[str] = frozenset(),
) -> Report:
    """Score ``cases`` and gather the report.

    Args:
        cases: The cases to score.
        predictions: Answers by the id of their case.
        normaliser: Makes texts comparable.
        files: Names of the cases file and the predictions file, for the report's head.
        known: Ids of cases that exist but are not scored now (a limit), so no strangers.
    """
    scores = score_cases(cases, predictions, normaliser)
    ids = {case.id for case in cases}
    used = [predictions[name] for name in predictions if name in ids]
    return Report(
        cases_file=files[0],
        predictions_file=files[1],
        models=tuple(sorted({prediction.model for prediction in used if prediction.model})),
        settings=tuple(sorted({prediction.settings for prediction in used if prediction.settings})),
        spellings=len(normaliser.spellings),
        rows=tuple(table(scores)),
        scores=tuple(scores),
        missing=tuple(case.id for case in cases if case.id not in predictions),
        strangers=tuple(name for name in predictions if name not in ids | known),
    )


def as_json(report: Report) -> str:
    """Return the report as JSON: head, rows, and the score of every case."""
    rows = [{**asdict(row), "matched": row.matched} for row in report.rows]
    value = {
        "cases_file": report.cases_file,
        "predictions_file": report.predictions_file,
        "models": report.models,
        "settings": report.settings,
        "normaliser": {"name": "whisper", "spellings": report.spellings},
        "interval": {"method": "percentile bootstrap", "level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
        "rows": rows,
        "missing": report.missing,
        "strangers": report.strangers,
        "scores": [_case_json(score) for score in report.scores],
    }
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _case_json(score: CaseScore) -> dict[str, Any]:
    return {
        "id": score.case.id,
        "metric": score.metric,
        "numerator": score.numerator,
        "denominator": score.denominator,
        "slots": score.slots,
        "state": score.state,
        "mended": score.mended,
        "cut": score.cut,
        "answer": score.answer,
    }


def as_markdown(report: Report) -> str:
    """Return the report as Markdown: a table, then what to know about it."""
    lines = [
        "# Evaluation",
        "",
        f"Model: {', '.join(report.models) or 'not named in the predictions'}. "
        f"Settings: {'; '.join(report.settings) or 'not named in the predictions'}.",
        f"Cases: `{report.cases_file}`. Predictions: `{report.predictions_file}`.",
        "",
        "| dataset | category | task | metric | value | 95 % interval | cases | over | slots matched "
        "| missing | unreadable | mended | cut off |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_line(row) for row in report.rows),
        "",
        *(f"- {note}" for note in _notes(report)),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = [
        _cell(row.dataset),
        _cell(row.category or "all"),
        row.task,
        row.metric,
        _number(row.value, row.unit),
        "–" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}",
        str(row.cases),
        _many(row.count, COUNTED[row.metric]),
        "" if row.matched is None else f"{100 * row.matched:.1f} % of {row.slots}",
        str(row.missing),
        str(row.unreadable),
        str(row.mended),
        str(row.cut),
    ]
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.2f} {unit}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _notes(report: Report) -> list[str]:
    notes = []
    if any(row.metric in ("WER", "CER") for row in report.rows):
        table_note = (
            f"a table of {report.spellings} spellings"
            if report.spellings
            else "no table of British and American spellings: they count as different words"
        )
        notes.append(f"Texts go through Whisper's normaliser, with {table_note}.")
    if any(row.metric == "AAS" for row in report.rows):
        notes.append(
            "AAS is the mean absolute error over the timestamp slots whose word was found in the answer; "
            "read it together with the share matched."
        )
    if report.missing:
        names = ", ".join(f"`{_cell(name)}`" for name in report.missing[:SHOWN])
        more = f" and {len(report.missing) - SHOWN} more" if len(report.missing) > SHOWN else ""
        notes.append(
            f"No prediction, counted as an empty answer: {_many(len(report.missing), 'case')}, {names}{more}."
        )
    if report.strangers:
        notes.append(
            f"Passed over, because there is no such case: {_many(len(report.strangers), 'prediction')}."
        )
    notes.append(
        f"Intervals: percentile bootstrap over cases, {RESAMPLES} resamples, seed {SEED}; "
        "none for a single case."
    )
    return notes
