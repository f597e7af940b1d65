"""A report as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moss_audio.evaluate.cases import Case, Prediction
from moss_audio.evaluate.scoring import LEVEL, RESAMPLES, SEED, CaseScore, Normaliser, Row, score_cases, table

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
