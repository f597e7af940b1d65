"""A model asked from the command line: a tiny one, of random weights or of weights that write one letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file

from moss_audio.evaluate.__main__ import main
from moss_audio.evaluate.cases import read_cases, read_predictions
from moss_audio.evaluate.run_cases import RunOptions, batches, token_limit
from tests.support.moss_tokenizer import PARITY
from tests.support.tiny_moss import chain, letters, random_checkpoint, writing_checkpoint

ASKED = {
    "task": "choice",
    "question": "What is heard?",
    "options": ["a bell", "a voice"],
    "reference": "B",
    "dataset": "Quiz",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def cases(tmp_path) -> Path:
    """Five cases of all tasks about a real clip of speech."""
    tensors = load_file(str(PARITY / "v1_core" / "io.safetensors"))
    wave = next(value for name, value in sorted(tensors.items()) if name.endswith(".wave"))
    soundfile.write(tmp_path / "speech.wav", wave[:32_000].numpy(), 16_000)
    timed = [{"start": 0.2, "end": 1.4, "text": "hello there"}]
    said = {"audio": "speech.wav", "language": "en", "dataset": "Speech"}
    records = [
        {"id": "a", "task": "asr", "reference": "B", **said},
        {"id": "t", "task": "timestamps", "reference": timed, **said},
        {"id": "w", "task": "words", "reference": timed, **said},
        {"id": "q", "audio": ["speech.wav", "speech.wav"], **ASKED},
        {"id": "b", "task": "asr", "reference": "hello again", **said},
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def evaluate(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_model_that_always_writes_one_letter_gets_the_score_of_that_letter(tmp_path, cases, capsys):
    """The weights write “B” and stop: one choice right, one text right, one text wrong, no times."""
    model = writing_checkpoint(tmp_path, chain(*letters("B")))
    assert evaluate(cases, "--model", model, "--batch", 2) == 0
    out = capsys.readouterr().out
    assert "| Quiz | all | choice | accuracy | 100.00 % |" in out
    assert "| Speech | all | asr | WER | 66.67 % |" in out  # 2 of 3 words
    assert "0.0 % of 2" in out
    answers = read_predictions(tmp_path / "cases.predictions.jsonl")
    assert {answer_.text for answer_ in answers.values()} == {"B"}
    assert {answer.stopped for answer in answers.values()} == {"end"}


def test_a_run_gives_an_answer_for_each_case_and_a_report(tmp_path, cases, checkpoint, capsys):
    answers, report = tmp_path / "answers.jsonl", tmp_path / "report.json"
    limit = ("--max-new-tokens", 5, "--batch", 2)
    assert evaluate(cases, "--model", checkpoint, "--predictions", answers, "--output", report, *limit) == 0
    found = read_predictions(answers)
    assert set(found) == {"a", "b", "t", "w", "q"}
    assert all(
        prediction.model == str(checkpoint) and prediction.new_tokens is not None
        for prediction in found.values()
    )
    value = json.loads(report.read_text())
    assert value["models"] == [str(checkpoint)]
    assert value["settings"] == ["greedy, bfloat16, tokens at most: 5"]
    assert {(row["task"], row["metric"], row["cases"], row["missing"]) for row in value["rows"]} == {
        ("asr", "WER", 2, 0),
        ("timestamps", "AAS", 1, 0),
        ("timestamps", "WER", 1, 0),
        ("words", "AAS", 1, 0),
        ("words", "WER", 1, 0),
        ("choice", "accuracy", 1, 0),
    }
    # Scoring the file that was written gives the report that the run gave.
    printed = capsys.readouterr().out
    assert evaluate(cases, "--predictions", answers) == 0
    assert capsys.readouterr().out == printed


def test_a_run_goes_on_where_it_was_killed(tmp_path, cases, checkpoint, capsys):
    answers = tmp_path / "answers.jsonl"
    given = [cases, "--model", checkpoint, "--predictions", answers, "--max-new-tokens", 3]
    assert evaluate(*given) == 0
    whole = answers.read_text().splitlines(keepends=True)
    kept = "".join(whole[:2])
    answers.write_text(kept + whole[2][:20])
    assert evaluate(*given) == 1
    assert "--resume" in capsys.readouterr().err
    assert evaluate(*given, "--resume") == 0
    after = answers.read_text()
    assert after.startswith(kept)
    texts = {name: prediction.text for name, prediction in read_predictions(answers).items()}
    assert texts == {record["id"]: record["text"] for record in map(json.loads, whole)}
    assert evaluate(*given, "--resume") == 0
    assert answers.read_text() == after
    assert evaluate(*given, "--resume", "--no-thinking") == 1
    assert "Name another file" in capsys.readouterr().err


def test_audio_that_is_missing_stops_the_run_before_the_model_is_loaded(tmp_path, cases, capsys):
    (tmp_path / "speech.wav").unlink()
    assert evaluate(cases, "--model", tmp_path / "nowhere") == 1
    assert 'Case "a" (line 1): there is no audio file' in capsys.readouterr().err
    assert not (tmp_path / "cases.predictions.jsonl").exists()


def test_a_recording_that_cannot_be_heard_is_named(tmp_path, cases, checkpoint, capsys):
    (tmp_path / "speech.wav").write_bytes(b"not a recording")
    assert evaluate(cases, "--model", checkpoint) == 1
    error = capsys.readouterr().err
    assert 'Case "a" (line 1)' in error and "speech.wav" in error and "Traceback" not in error


def test_batches_hold_one_task_each_and_every_case_once(cases):
    found = [[case.id for case in batch] for batch in batches(read_cases(cases), 2)]
    assert found == [["a", "b"], ["t"], ["w"], ["q"]]


def test_longer_audio_and_thought_allow_longer_answers(cases):
    said, timed, *_ = read_cases(cases)
    assert token_limit(said, 30.0, thought=0) == 1024 + 300
    assert token_limit(timed, 30.0, thought=200) == 1024 + 900 + 200


def test_settings_that_shape_answers_are_told_apart():
    told = {
        RunOptions("m", **given).settings
        for given in ({}, {"max_new_tokens": 5}, {"thinking": False}, {"thinking_budget": 50})
    }
    assert len(told) == 4
    assert RunOptions("m", batch=8, resume=True).settings == RunOptions("m").settings
