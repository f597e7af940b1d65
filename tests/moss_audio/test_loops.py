"""Repetition loops in token ids, in a stream of text and in finished text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.generation.loops import LOOP_TOKENS, LoopWatch, cut_loops, find_loops, is_loop


def looping(text: str, size: int) -> bool:
    watch = LoopWatch()
    for at in range(0, len(text), size):
        watch.feed(text[at : at + size])
    return watch.looping


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("text", ["thank you. " * 40, "ha ha, " * 60, "哈" * 60, "ha" * 200, "mhm\n" * 60])
def test_text_that_goes_in_circles_is_seen_however_it_is_cut(text: str, size: int):
    assert looping("So we begin. " + text, size)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "no, no, no, I said no. " * 2,
        " ".join(f"{number}. item" for number in range(200)),
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
        "we will rock you " * 4,
    ],
)
def test_emphasis_lists_and_choruses_are_no_loop(text: str, size: int):
    assert not looping(text, size)


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 20))
def test_a_phrase_at_the_end_is_a_loop_from_six_times_on(phrase: list[int], times: int):
    ids = [9, *(phrase * times)]
    if phrase and times >= 6 and len(phrase) * (times - 1) >= LOOP_TOKENS:
        assert is_loop(ids)
    if len(ids) < LOOP_TOKENS:
        assert not is_loop(ids)


def test_a_loop_names_its_first_saying_and_its_repeats():
    text = "so we begin oh my god oh my god oh my god oh my god and end"
    (loop,) = find_loops(text.split())
    assert (loop.begin, loop.again, loop.end) == (3, 6, 15)
    assert cut_loops([text])[0] == ["so we begin oh my god and end"]
