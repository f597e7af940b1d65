"""Words become sentences; loops and invented text are caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.records import Segment, Word
from index.transcription.retry import cut_loops, has_loop
from index.transcription.sentences import MAX_SENTENCE_SECONDS, join_words, split_sentences


def words(text: str, pace: float = 0.3, pauses: dict[int, float] | None = None) -> list[Word]:
    time, out = 0.0, []
    for index, word in enumerate(text.split()):
        time += (pauses or {}).get(index, 0.0)
        out.append(Word(round(time, 3), round(time + pace, 3), " " + word))
        time += pace
    return out


def sentences(text: str, **options) -> list[str]:
    return [join_words(word) for word in split_sentences(words(text, **options))]


@pytest.mark.parametrize(
    "text,expected",
    [
        ("Good morning. How are you? Fine!", ["Good morning.", "How are you?", "Fine!"]),
        ("Ask Dr. Smith about it. Then go.", ["Ask Dr. Smith about it.", "Then go."]),
        ("So did I. And you?", ["So did I.", "And you?"]),
        ("The boat leaves at 10.30 tonight.", ["The boat leaves at 10.30 tonight."]),
        ("Well... maybe not.", ["Well... maybe not."]),
        ("你好。 再见。", ["你好。", "再见。"]),
    ],
)
def test_sentences_end_where_people_end_them(text: str, expected: list[str]):
    assert sentences(text) == expected


def test_a_long_pause_ends_a_sentence_without_punctuation():
    assert sentences("and then we stop now go on", pauses={4: 2.0}) == ["and then we stop", "now go on"]


def test_a_short_pause_before_a_capital_ends_a_sentence_but_not_before_i_or_without_pause():
    assert sentences("it took hours You know that", pauses={3: 0.5}) == ["it took hours", "You know that"]
    assert sentences("it took hours I know that", pauses={3: 0.5}) == ["it took hours I know that"]
    assert sentences("go with North Quay") == ["go with North Quay"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["so", "Yes.", "Dr.", "what?", "I", "and,", "Then", "…"]),
            st.floats(0, 3),
            st.floats(0.05, 1),
        ),
        max_size=80,
    )
)
def test_no_word_is_lost_and_no_sentence_runs_on(parts):
    time, given_words = 0.0, []
    for text, pause, length in parts:
        given_words.append(Word(time + pause, time + pause + length, " " + text))
        time += pause + length
    split = split_sentences(given_words)
    assert [word for sentence in split for word in sentence] == given_words
    assert all(
        sentence[-1].end - sentence[0].start <= MAX_SENTENCE_SECONDS
        for sentence in split
        if len(sentence) > 1
    )


def test_people_who_repeat_themselves_are_no_loop():
    for said in ("no no no I said no", "thank you thank you very much", "yeah yeah yeah yeah that is right"):
        assert not has_loop([segment(said)])


@pytest.mark.parametrize(
    "phrase,times", [("you", 8), ("thank you", 4), ("and so we go on to the next one", 4)]
)
def test_a_phrase_said_again_and_again_is_a_loop(phrase: str, times: int):
    kept = cut_loops([segment("so we begin " + (phrase + " ") * times + "and end")])
    assert [part.text for part in kept] == ["so we begin", "and end"]


def segment(text: str) -> Segment:
    spoken = tuple(words(text))
    return Segment(0, spoken[-1].end, text, words=spoken)


def test_a_loop_is_cut_and_what_stands_around_it_stays():
    looped = segment("We begin here " + "oh my god " * 6 + "and we end.")
    assert has_loop([looped])
    kept = cut_loops([looped])
    assert [segment.text for segment in kept] == ["We begin here", "and we end."]
    assert kept[0].end <= 0.91 and kept[1].start >= looped.end - 0.91


@given(st.lists(st.sampled_from(["a", "b", "c d", "e."]), min_size=1, max_size=60))
def test_after_cutting_there_is_no_loop_left(parts: list[str]):
    assert not has_loop(cut_loops([segment(" ".join(parts))]))
