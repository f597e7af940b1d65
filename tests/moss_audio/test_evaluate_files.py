"""Cases and predictions as files: what is read, and what is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moss_audio.errors import DataError
from moss_audio.evaluate.cases import Prediction, PredictionLog, Timed, read_cases, read_predictions

SAID = {"id": "a", "audio": "a.wav", "task": "asr", "language": "en", "reference": "hello"}
ASKED = {
    "id": "q",
    "audio": "q.wav",
    "task": "choice",
    "question": "Which animal?",
    "options": ["dog", "cat"],
    "reference": "B",
}
TIMED = {**SAID, "task": "timestamps", "reference": [{"start": 0, "end": 1.5, "text": "hello"}]}


def write(path: Path, *records: Any) -> Path:
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )
    return path


def test_cases_are_read_with_audio_beside_their_file(tmp_path):
    path = write(
        tmp_path / "some.jsonl", SAID, ASKED, {**TIMED, "id": "t", "category": "clean", "dataset": "L"}
    )
    said, asked, timed = read_cases(path)
    assert said.audio == (tmp_path / "a.wav",)
    assert (said.dataset, said.category, said.line) == ("some", None, 1)
    assert (asked.reference, asked.options, asked.language) == ("B", ("dog", "cat"), None)
    assert timed.reference == (Timed(0.0, 1.5, "hello"),)
    assert (timed.dataset, timed.category) == ("L", "clean")


def test_the_right_option_may_be_written_out_and_a_question_may_have_several_recordings(tmp_path):
    path = write(tmp_path / "c.jsonl", {**ASKED, "reference": "dog", "audio": ["1.wav", "2.wav"]})
    (case,) = read_cases(path)
    assert case.reference == "A"
    assert case.audio == (tmp_path / "1.wav", tmp_path / "2.wav")


def test_regions_of_a_language_are_left_aside(tmp_path):
    (case,) = read_cases(write(tmp_path / "c.jsonl", {**SAID, "language": "zh-CN"}))
    assert case.language == "zh"


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ([], "JSON object"),
        ({**SAID, "id": ""}, '"id" must be text'),
        ({**SAID, "task": "sing"}, 'unknown task "sing"'),
        ({**SAID, "langage": "en"}, 'unknown field "langage"'),
        ({**SAID, "language": "English!"}, '"language" must be a code'),
        ({key: SAID[key] for key in ("id", "audio", "task", "reference")}, '"language" must be text'),
        ({**SAID, "reference": ["hello"]}, '"reference" must be text'),
        ({**SAID, "audio": 3}, '"audio" must be a path'),
        ({**SAID, "audio": ["1.wav", "2.wav"]}, "one audio file"),
        ({**TIMED, "reference": "hello"}, '"reference" must be a list'),
        ({**TIMED, "reference": [{"start": 2, "end": 1, "text": "x"}]}, "0 <= start <= end"),
        ({**TIMED, "reference": [{"start": True, "end": 1, "text": "x"}]}, "0 <= start <= end"),
        ({**TIMED, "reference": [{"start": 0, "text": "x"}]}, 'must have "start"'),
        ({**TIMED, "reference": [{"start": 0, "end": 1, "text": " "}]}, "must have a text"),
        ({**ASKED, "options": ["dog"]}, "2 to 26 texts"),
        ({**ASKED, "options": "dog, cat"}, '"options" must be a list'),
        ({**ASKED, "reference": "C"}, "no option"),
        ({**ASKED, "options": ["B", "A"], "reference": "A"}, "several options"),
        ({**ASKED, "options": ["dog", "dog"], "reference": "dog"}, "several options"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_number(tmp_path, record, complaint):
    path = write(tmp_path / "c.jsonl", {**SAID, "id": "first"}, record)
    with pytest.raises(DataError) as refused:
        read_cases(path)
    assert "c.jsonl, line 2: " in str(refused.value)
    assert complaint in str(refused.value)


def test_a_line_that_is_not_json_an_id_twice_and_an_empty_file_are_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(SAID) + "\n\n{half\n")
    with pytest.raises(DataError, match="line 3: not JSON"):
        read_cases(path)
    with pytest.raises(DataError, match=r'line 2: the id "a" .* line 1'):
        read_cases(write(path, SAID, SAID))
    with pytest.raises(DataError, match="no case"):
        read_cases(write(path))
    with pytest.raises(DataError, match="does not exist"):
        read_cases(tmp_path / "nowhere.jsonl")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_cases(path)


def test_predictions_of_any_program_are_read(tmp_path):
    path = write(tmp_path / "p.jsonl", {"id": "a", "text": "hi", "latency": 3}, {"id": "b", "text": ""})
    assert read_predictions(path) == {"a": Prediction("a", "hi"), "b": Prediction("b", "")}


@pytest.mark.parametrize("record", [{"id": "a"}, {"id": 1, "text": "x"}, {"id": "a", "text": None}])
def test_a_prediction_without_id_or_text_is_refused(tmp_path, record):
    with pytest.raises(DataError, match=r"p\.jsonl, line 1"):
        read_predictions(write(tmp_path / "p.jsonl", record))


def test_two_predictions_for_one_case_are_refused(tmp_path):
    path = write(tmp_path / "p.jsonl", {"id": "a", "text": "x"}, {"id": "a", "text": "y"})
    with pytest.raises(DataError, match="line 2: a second prediction"):
        read_predictions(path)


def test_each_answer_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "deep" / "p.jsonl"
    with PredictionLog(path, "tiny", "greedy") as log:
        log.write(Prediction("a", "你好", stopped="end", new_tokens=3))
        assert read_predictions(path)["a"].text == "你好"
        log.write(Prediction("b", "line\nbreak"))
    assert list(read_predictions(path)) == ["a", "b"]
    assert read_predictions(path)["a"].model == "tiny"


@pytest.mark.parametrize("kept", [1, 25, 26, 27])
def test_a_log_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path, kept):
    path = tmp_path / "p.jsonl"
    with PredictionLog(path, "tiny", "greedy") as log:
        log.write(Prediction("a", "one"))
        first = path.stat().st_size
        log.write(Prediction("b", "天气天气"))
    whole = path.read_bytes()
    path.write_bytes(whole[: first + kept])  # with 26 and 27 bytes the cut is inside a character
    with PredictionLog(path, "tiny", "greedy", resume=True) as log:
        assert log.done == {"a"}
        log.write(Prediction("b", "天气天气"))
    assert path.read_bytes() == whole


def test_answers_are_never_written_over_or_mixed(tmp_path):
    path = tmp_path / "p.jsonl"
    with PredictionLog(path, "tiny", "greedy") as log:
        log.write(Prediction("a", "one"))
    with pytest.raises(DataError, match="--resume"):
        PredictionLog(path, "tiny", "greedy")
    with pytest.raises(DataError, match="written by tiny"):
        PredictionLog(path, "other", "greedy", resume=True)
    with pytest.raises(DataError, match="written by tiny"):
        PredictionLog(path, "tiny", "temperature 1", resume=True)
    path.write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}')
    foreign = path.read_bytes()
    with pytest.raises(DataError, match="another program"):
        PredictionLog(path, "tiny", "greedy", resume=True)
    assert path.read_bytes() == foreign
