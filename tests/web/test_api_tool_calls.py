"""Calls of tools in a stream: nothing guessed, nothing lost, wherever it is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moss_audio.generation.tool_calls import CLOSE_TAG, OPEN_TAG, Call, CallReader, read_call
from web.api.chat import call_document

GOOD = '<tool_call>\n{"name": "search", "arguments": {"query": "ferry"}}\n</tool_call>'
CALL = Call("search", {"query": "ferry"})


def split(text: str, cuts: list[int] = ()) -> list[str | Call]:
    """What comes out, neighbouring texts joined."""
    reader = CallReader(repair=False)
    edges = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    out: list[str | Call] = []
    for piece in [chunk for text in pieces for chunk in reader.feed(text)] + reader.finish():
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


def test_calls_are_taken_out_of_the_text_with_the_white_space_around_them():
    assert split(f"I look. \n{GOOD}\n{GOOD}\n") == ["I look.", CALL, CALL]
    assert split("no call, just text \n") == ["no call, just text \n"]


@pytest.mark.parametrize(
    "inside",
    [
        '{"name": "search", "arguments": {"query": ',
        '{"name": "search", "arguments": [1]}',
        '{"name": "", "arguments": {}}',
        '{"arguments": {}}',
        "[1, 2]",
        '{"name": "a", "arguments": {"x": NaN}}',
        '{"name": "a", "arguments": ' + '{"x":' * 100_000,
        "",
    ],
)
def test_what_is_no_call_stays_text_tags_and_all(inside: str):
    block = OPEN_TAG + inside + CLOSE_TAG
    assert split(f"a {block} b") == [f"a {block} b"]
    assert split(f"{block}\n{GOOD}") == [block, CALL]


def test_arguments_may_be_text_of_json_and_may_be_missing():
    assert read_call('{"name": "a", "arguments": "{\\"x\\": 1}"}') == Call("a", {"x": 1})
    assert read_call('{"name": "a"}') == Call("a", {})


def test_halves_of_surrogate_pairs_do_not_reach_the_response():
    call = read_call('{"name": "a", "arguments": {"x": "\\ud800"}}')
    assert call is not None
    assert call_document(call)["function"]["arguments"].encode("utf-8") == b'{"x": "?"}'


def test_a_whole_call_without_its_closing_tag_counts_and_half_a_call_does_not():
    assert split(GOOD.removesuffix(CLOSE_TAG)) == [CALL]
    assert split(GOOD.removesuffix(CLOSE_TAG) + GOOD) == [CALL, CALL]
    assert split(GOOD[:40]) == [GOOD[:40]]


BITS = [GOOD, OPEN_TAG, CLOSE_TAG, "<tool", "{}", " ", "\n", "word", "<", '{"name": "a"}']
PIECES = st.lists(st.sampled_from(BITS), max_size=8)


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(pieces=[OPEN_TAG, '{"name": "a"}', GOOD], cuts=[15, 27, 30])
def test_the_cuts_of_the_stream_change_nothing(pieces: list[str], cuts: list[int]):
    text = "".join(pieces)
    assert split(text, cuts) == split(text)


@given(pieces=PIECES)
def test_no_word_is_lost(pieces: list[str]):
    text = "".join(pieces)
    out = split(text)
    shown = "".join(chunk for chunk in out if isinstance(chunk, str))
    assert shown.count("word") == text.count("word")
    for piece in out:
        if isinstance(piece, Call):
            assert isinstance(json.loads(call_document(piece)["function"]["arguments"]), dict)
