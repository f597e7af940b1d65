"""Whatever pydantic finds wrong is said in plain words, with the name of the field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from index.invalid_values import LONGEST_FIELD, sentence_of
from tools.toolbox import LATEST, Seconds

OF_PYDANTIC = re.compile(r"[Ii]nput|valid (integer|string|boolean|number)|parse|String|Value error")


class Inner(BaseModel):
    depth: Annotated[int, Field(gt=2, lt=9)]


class Everything(BaseModel):
    """A field of each kind that requests, tools and settings have."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=1000)] = 1
    share: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    half: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0
    word: Annotated[str, Field(min_length=1, max_length=5)] = "a"
    code: Annotated[str, Field(min_length=2)] = "aa"
    switch: bool = True
    kind: Literal["txt", "srt", "docx"] = "txt"
    many: Annotated[list[int], Field(min_length=2, max_length=3)] = [1, 2]
    by: dict[int, int] = {}
    inner: Inner | None = None
    at: Seconds = 0.0


@pytest.mark.parametrize(
    "field, value, told",
    [
        ("count", "x", "count .* whole number"),
        ("count", 1.5, "count .* whole number"),
        ("count", None, "count .* whole number"),
        ("count", "9" * 5000, "count .* whole number"),
        ("count", 0, "count .* at least 1"),
        ("count", 1001, "count .* at most 1,000"),
        ("share", "x", "share .* number"),
        ("share", [], "share .* number"),
        ("share", float("inf"), "share .* finite"),
        ("word", 5, "word .* text"),
        ("word", "\ud800", "word .* Unicode"),
        ("word", "", "word .* empty"),
        ("word", "too long", "word .* at most 5 characters"),
        ("code", "a", "code .* at least 2 characters"),
        ("switch", "perhaps", "switch .* true or false"),
        ("switch", [], "switch .* true or false"),
        ("kind", "exe", "kind .* txt, srt or docx"),
        ("many", 5, "many .* list"),
        ("many", [1], "many .* at least 2 entries"),
        ("many", [1, 2, 3, 4], "many .* at most 3 entries"),
        ("many", [1, "x"], r"many\.1 .* whole number"),
        ("by", "x", "by .* object"),
        ("by", {"x": 1}, r"by\.x .* whole number"),
        ("inner", 5, "inner .* object"),
        ("inner", {}, r"inner\.depth .* missing"),
        ("inner", {"depth": 2}, r"inner\.depth .* more than 2"),
        ("inner", {"depth": 9}, r"inner\.depth .* less than 9"),
        ("at", "noon", "at .* time.* m:ss"),
        ("at", "1:", "at .* time.* m:ss"),
        ("at", -1, "at .* at least 0"),
        ("half", 0.4, "half .* at least 0.5"),
        ("half", 2.5, "half .* at most 2"),
        ("at", float("inf"), "at .* finite"),
        ("nothing", 5, "nothing .* not a field"),
    ],
)
def test_each_kind_of_fault_is_one_plain_sentence_that_names_the_field(field: str, value: Any, told: str):
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({field: value})
    sentence = sentence_of(caught.value.errors(include_url=False)[0])
    assert re.fullmatch(rf"{told}\b.*\.", sentence)
    assert not OF_PYDANTIC.search(sentence)


def test_a_time_beyond_every_recording_is_cut_to_what_a_sentence_can_hold():
    assert Everything.model_validate({"at": 1e300}).at == LATEST
    assert Everything.model_validate({"at": "999999999:00:00"}).at == LATEST


def test_a_senders_name_for_a_field_is_repeated_in_part_and_on_one_line():
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({"a\nb\x00" + "x" * 10_000: 1})
    sentence = sentence_of(caught.value.errors(include_url=False)[0])
    assert "\n" not in sentence and "\x00" not in sentence and len(sentence) < LONGEST_FIELD + 60
