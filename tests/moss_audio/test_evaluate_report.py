"""From cases and predictions to a report: every figure below is worked out by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.evaluate.__main__ import main
from moss_audio.evaluate.cases import Prediction, read_cases, read_predictions
from moss_audio.evaluate.scoring import Normaliser, as_json, as_markdown, make_report, score_case
from tests.conftest import ROOT

DATA = ROOT / "tests" / "data" / "evaluate"
CASES = DATA / "cases.jsonl"
PREDICTIONS = DATA / "predictions.jsonl"

# (dataset, category, task, metric): (value, divided by, missing, unreadable)
BY_HAND: dict[tuple[str, str | None, str, str], tuple[float, int, int, int]] = {
    # r1 "he will not pay $21": 0 errors over 5 words; r2: 3 over 6; r3 is missing: 2 over 2.
    ("Read speech", None, "asr", "WER"): (100 * 5 / 13, 13, 1, 0),
    ("Read speech", "clean", "asr", "WER"): (0.0, 5, 0, 0),
    ("Read speech", "other", "asr", "WER"): (100 * 5 / 8, 8, 1, 0),
    # 汽 for 气, one of six characters.
    ("普通话", None, "asr", "CER"): (100 / 6, 6, 0, 0),
    # t1: 100, 50, 50 and 300 ms; t2 has no times in it, so 4 of 6 slots: 500 / 4.
    ("Timed", None, "timestamps", "AAS"): (125.0, 4, 0, 1),
    # t1 has all 6 words right, t2 misses both of its 2.
    ("Timed", None, "timestamps", "WER"): (25.0, 8, 0, 1),
    # The seam of the two words is 20 ms late, as an end and as a start: 40 / 4.
    ("Timed", None, "words", "AAS"): (10.0, 4, 0, 0),
    ("Timed", None, "words", "CER"): (0.0, 4, 0, 0),
    # q1, q4 and q5 of five; q2 names the wrong letter, q3 none.
    ("Quiz", None, "choice", "accuracy"): (60.0, 5, 0, 1),
    ("Quiz", "music", "choice", "accuracy"): (50.0, 2, 0, 1),
    ("Quiz", "sound", "choice", "accuracy"): (50.0, 2, 0, 0),
    ("Quiz", "speech", "choice", "accuracy"): (100.0, 1, 0, 0),
}


PARTS = [
    "[0.00]",
    "[2.5",
    "]",
    "good",
    " night",
    "今天",
    "<think>",
    "</think>",
    "(A)",
    "B",
    "```",
    "1e9",
    "\n",
]
NORMALISER = Normaliser()


def evaluate(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_every_row_of_the_report_is_what_it_is_by_hand():
    report = make_report(read_cases(CASES), read_predictions(PREDICTIONS), Normaliser())
    found = {(row.dataset, row.category, row.task, row.metric): row for row in report.rows}
    assert set(found) == set(BY_HAND)
    for key, (value, count, missing, unreadable) in BY_HAND.items():
        row = found[key]
        assert row.value == pytest.approx(value), key
        assert (row.count, row.missing, row.unreadable) == (count, missing, unreadable), key
    times = found["Timed", None, "timestamps", "AAS"]
    assert (times.slots, times.unit) == (6, "ms")
    assert times.matched == pytest.approx(4 / 6)


def test_missing_and_strange_predictions_are_named():
    report = make_report(read_cases(CASES), read_predictions(PREDICTIONS), Normaliser())
    assert (report.missing, report.strangers) == (("r3",), ("x9",))
    text = as_markdown(report)
    assert "No prediction, counted as an empty answer: 1 case, `r3`." in text
    assert "no table of British and American spellings" in text


def test_with_no_prediction_at_all_everything_is_wrong_and_nothing_fails():
    report = make_report(read_cases(CASES), {}, Normaliser())
    worst = {"WER": 100.0, "CER": 100.0, "accuracy": 0.0, "AAS": None}
    assert {row.metric: row.value for row in report.rows} == worst
    assert all(row.missing == row.cases for row in report.rows)
    assert "| – |" in as_markdown(report)


def test_an_answer_cut_off_at_the_token_limit_is_counted():
    report = make_report(read_cases(CASES), read_predictions(PREDICTIONS), Normaliser())
    assert {row.category: row.cut for row in report.rows if row.dataset == "Read speech"} == {
        None: 1,
        "clean": 0,
        "other": 1,
    }


def test_what_a_parser_had_to_set_aside_is_counted_and_thought_is_not():
    (case,) = [case for case in read_cases(CASES) if case.id == "r3"]
    fenced = Prediction("r3", "```\ngood night\n```")
    thought = Prediction("r3", "<think>listening</think>good night")
    for prediction, mended in ((fenced, True), (thought, False)):
        (score,) = score_case(case, prediction, Normaliser())
        assert (score.numerator, score.mended) == (0, mended)


@given(st.text(max_size=80) | st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_any_answer_can_be_scored(text: str):
    for case in read_cases(CASES):
        for score in score_case(case, Prediction(case.id, text), NORMALISER):
            assert math.isfinite(score.numerator) and score.numerator >= 0
            assert score.denominator >= 0
            assert score.metric != "AAS" or score.denominator <= score.slots
            assert score.state in ("answered", "unreadable")


def test_times_beyond_the_clip_count_as_errors():
    (case,) = [case for case in read_cases(CASES) if case.id == "t2"]
    times, _ = score_case(case, Prediction("t2", "[0.50]good night[901.50]"), Normaliser())
    assert (times.numerator, times.denominator) == (pytest.approx(900_000), 2)


def test_the_json_report_has_every_row_and_every_case():
    report = make_report(read_cases(CASES), read_predictions(PREDICTIONS), Normaliser(), ("c", "p"))
    value: dict[str, Any] = json.loads(as_json(report))
    assert len(value["rows"]) == len(BY_HAND)
    assert value["normaliser"] == {"name": "whisper", "spellings": 0}
    scores = {(score["id"], score["metric"]): score for score in value["scores"]}
    assert scores["r2", "WER"]["numerator"] == 3
    assert scores["q4", "accuracy"]["answer"] == "C"
    assert scores["t2", "AAS"] == {**scores["t2", "AAS"], "slots": 2, "denominator": 0, "state": "unreadable"}


def test_answers_of_another_program_are_scored_from_the_command_line(tmp_path):
    """As a person runs it: no audio, both reports, and nothing that runs a model is loaded."""
    program = (
        "import sys; from moss_audio.evaluate.__main__ import main; code = main(sys.argv[1:]); "
        "assert 'moss_audio.generation.generate' not in sys.modules; sys.exit(code)"
    )
    outputs = [tmp_path / "out" / "report.json", tmp_path / "out" / "report.md"]
    arguments = [CASES, "--predictions", PREDICTIONS, "--output", outputs[0], "--output", outputs[1]]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == outputs[1].read_text()
    assert "| Quiz | all | choice | accuracy | 60.00 % |" in done.stdout
    assert "| 4 slots | 66.7 % of 6 |" in done.stdout
    assert len(json.loads(outputs[0].read_text())["rows"]) == len(BY_HAND)


def test_a_limit_scores_the_first_cases_alone(tmp_path, capsys):
    assert evaluate(CASES, "--predictions", PREDICTIONS, "--limit", 2) == 0
    out = capsys.readouterr().out
    assert "| Read speech | all | asr | WER | 27.27 % |" in out  # 3 of 11 words
    assert "Quiz" not in out
    assert "there is no such case: 1 prediction." in out


def test_a_table_of_spellings_is_used_and_named(tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text(
        '{"id": "a", "audio": "a.wav", "task": "asr", "language": "en", "reference": "the colour red"}\n'
    )
    (tmp_path / "p.jsonl").write_text('{"id": "a", "text": "the color red"}\n')
    (tmp_path / "normalizer.json").write_text('{"colour": "color"}')
    given = [tmp_path / "c.jsonl", "--predictions", tmp_path / "p.jsonl"]
    assert evaluate(*given) == 0
    assert "33.33 %" in capsys.readouterr().out
    assert evaluate(*given, "--spellings", tmp_path / "normalizer.json") == 0
    out = capsys.readouterr().out
    assert "0.00 %" in out and "a table of 1 spellings" in out


def test_a_bad_line_ends_the_command_with_one_sentence(tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text('{"id": "a"}\n')
    assert evaluate(tmp_path / "c.jsonl", "--predictions", PREDICTIONS) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "c.jsonl, line 1" in captured.err and "Traceback" not in captured.err


@pytest.mark.parametrize(
    "arguments", [[], ["--predictions", "p", "--output", "report.txt"], ["--batch", "0"]]
)
def test_a_command_that_makes_no_sense_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        evaluate(CASES, *arguments)
    assert refused.value.code == 2


def test_names_with_bars_do_not_break_the_table(tmp_path):
    path = tmp_path / "c.jsonl"
    case = {"id": "a", "audio": "a.wav", "task": "asr", "language": "en", "reference": "x"}
    path.write_text(json.dumps({**case, "dataset": "a|b\nc"}))
    text = as_markdown(make_report(read_cases(path), {}, Normaliser()))
    assert "| a\\|b c | all |" in text
