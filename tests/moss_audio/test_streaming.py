"""Stop sequences end a text at the same place, however the stream cuts it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from moss_audio.generation.streaming import StopSequences, begun


@given(
    text=st.text("abc", max_size=40),
    sequences=st.lists(st.text("abc", max_size=4), max_size=3),
    sizes=st.lists(st.integers(1, 5), max_size=20),
)
@example(text="abcd", sequences=["abcd", "bc"], sizes=[])
@example(text="abcd", sequences=["abcd", "bc"], sizes=[3])
def test_a_text_ends_before_the_sequence_that_is_complete_first(
    text: str, sequences: list[str], sizes: list[int]
):
    stop, at, shown = StopSequences(sequences), 0, ""
    for size in sizes:
        shown += stop.feed(text[at : at + size])
        at += size
    shown += stop.feed(text[at:]) + stop.finish()
    found = [(at + len(stop), at) for stop in sequences if stop and (at := text.find(stop)) >= 0]
    assert shown == stop.text == (text[: min(found)[1]] if found else text)
    assert stop.met == bool(found)


def test_without_sequences_everything_goes_through_at_once():
    stop = StopSequences(None)
    assert stop.feed("any text") == "any text"
    assert not stop.met


def test_what_may_be_the_beginning_of_a_sequence_is_counted():
    assert begun("so <tool", ["<tool_call>", "</tool_call>"]) == 5
    assert begun("abab", ["abc", "baby"]) == 3
    assert begun("done", ["done"]) == 0
