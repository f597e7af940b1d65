"""The speech caption: JSON as it should be, and as models write it."""

from __future__ import annotations

import json

import pytest

from moss_audio.tasks import CAPTION_FIELDS, Caption, parse_caption
from tests.support.parsed_answers import findings

FULL = {name: f"a {name}, and “more”: it's {index}" for index, name in enumerate(CAPTION_FIELDS)}


def test_the_thirteen_fields_of_the_caption():
    known = "gender, age, accent, pitch, volume, speed, texture, clarity, fluency, emotion, tone, personality"
    assert ", ".join(CAPTION_FIELDS) == f"{known}, summary"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_proper_json_is_read_whole(indent: int | None, ascii_only: bool):
    written = json.dumps(
        FULL | {"summary": 'says "hi"\n你好 😀 \\ /'}, indent=indent, ensure_ascii=ascii_only
    )
    parsed = parse_caption(written)
    assert parsed.value.to_json() == FULL | {"summary": 'says "hi"\n你好 😀 \\ /'}
    assert parsed.dropped == ()


@pytest.mark.parametrize(
    "written",
    [
        "{'gender': 'male', 'age': '30s', 'summary': 'it's a calm, low voice'}",
        '{"gender": "male", "age": "30s", "summary": "it\'s a calm, low voice",}',
        '{gender: male, age: 30s, summary: "it\'s a calm, low voice"}',
        "{“gender”：“male”，“age”：“30s”，“summary”：“it's a calm, low voice”}",
        '{"gender": "male" "age": "30s"\n"summary": "it\'s a calm, low voice"}',
        '{"gender": "male, "age": "30s", "summary": "it\'s a calm, low voice"}',
    ],
)
def test_broken_json_is_read_field_by_field_and_reported(written: str):
    parsed = parse_caption(written)
    assert parsed.value == Caption(gender="male", age="30s", summary="it's a calm, low voice")
    assert parsed.kinds == {"not JSON"}


def test_quotes_inside_a_value_do_not_end_it():
    parsed = parse_caption('{"gender": "male", "summary": "he says "well, yes" and laughs"}')
    assert parsed.value.summary == 'he says "well, yes" and laughs'


def test_half_a_json_gives_its_complete_fields_and_reports_the_one_cut_off():
    parsed = parse_caption('{"gender": "male", "age": "30s", "summary": "a calm and lo')
    assert parsed.value == Caption(gender="male", age="30s")
    assert findings(parsed) == [("cut off", '"summary": "a calm and lo')]


@pytest.mark.parametrize("at", range(len('{"gender": "male", "age": 30}')))
def test_a_cut_at_any_place_never_makes_a_field_up(at: int):
    found = parse_caption('{"gender": "male", "age": 30}'[:at]).value
    assert found.gender in (None, "male") and found.age in (None, "30")


def test_what_surrounds_the_json_is_set_apart():
    parsed = parse_caption(
        '<think>a man?</think>Sure!\n```json\n{"gender": "male"}\n```\nAnything else?<|im_end|>'
    )
    assert parsed.value == Caption(gender="male")
    assert parsed.kinds == {"thinking", "explanation", "fence", "special token"}


def test_unknown_fields_are_reported_with_their_values():
    parsed = parse_caption('{"gender": "male", "shoe size": "44"}')
    assert findings(parsed) == [("unknown field", "shoe size: 44")]


def test_other_names_of_fields_and_chinese_ones_are_known():
    parsed = parse_caption(
        '{"Gender": "女", "语速": "快", "speaking rate": "fast", "情绪": "平静", "总结": "好"}'
    )
    assert parsed.value == Caption(gender="女", speed="快", emotion="平静", summary="好")
    assert parsed.kinds == {"ambiguous"}


def test_empty_and_missing_values_are_no_fields():
    parsed = parse_caption('{"gender": null, "age": "", "tone": [], "pitch": "low"}')
    assert parsed.value == Caption(pitch="low") and parsed.dropped == ()


def test_lists_numbers_and_wrapped_fields_are_read():
    parsed = parse_caption('{"speech": {"gender": "male", "age": 30, "emotion": ["calm", "tired"]}}')
    assert parsed.value == Caption(gender="male", age="30", emotion="calm, tired")
    assert parsed.kinds == {"unknown field"}


def test_fields_on_lines_are_read_where_there_is_no_json():
    parsed = parse_caption("The voice:\n- **Gender**: male\n- Age: about 30")
    assert parsed.value == Caption(gender="male", age="about 30")
    assert parsed.kinds == {"not JSON", "explanation"}


def test_prose_is_reported_as_no_json():
    parsed = parse_caption("A calm man speaks.")
    assert parsed.value == Caption()
    assert findings(parsed) == [("not JSON", "A calm man speaks.")]


def test_a_loop_in_a_field_is_cut():
    parsed = parse_caption(json.dumps({"summary": "a calm " + "and very soft " * 30 + "voice"}))
    assert parsed.value.summary == "a calm and very soft voice" and parsed.kinds == {"loop"}


def test_a_caption_is_shown_field_by_field():
    assert Caption(gender="male", tone="dry").to_text() == "gender: male\ntone: dry"
