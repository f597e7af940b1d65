"""Times of words after a text was corrected: kept, interpolated, in order, inside the sentence."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from index.corrections.word_times import cut, pieces, retime
from index.records import Word

VOCABULARY = ("the", "ferry", "timetable", "is", "late", "Anna", "says", "no.", "forty", "two", "être", "ß")
texts = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=14)
unspaced = st.text(alphabet="会议时间表はの、。", min_size=1, max_size=10).filter(lambda text: pieces(text))


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Word], float, float]:
    """Words whose times run forward, and a sentence around them."""
    spoken = draw(texts)
    steps = draw(
        st.lists(st.floats(0, 2, allow_nan=False), min_size=2 * len(spoken) + 2, max_size=2 * len(spoken) + 2)
    )
    times = [draw(st.floats(0, 1000))]
    for step in steps:
        times.append(times[-1] + step)
    words = [Word(times[2 * at + 1], times[2 * at + 2], f" {word}", 0.5) for at, word in enumerate(spoken)]
    return words, times[0], times[-1]


def assert_in_order(words: tuple[Word, ...], start: float, end: float) -> None:
    edges = [start, *(edge for word in words for edge in (word.start, word.end)), end]
    assert all(before <= after for before, after in pairwise(edges))


@given(sentences(), texts)
def test_times_run_forward_inside_the_sentence_and_the_words_are_the_text(spoken, new) -> None:
    words, start, end = spoken
    text = " ".join(new)
    timed = retime(words, text, start, end)
    assert_in_order(timed, start, end)
    assert "".join(word.text for word in timed).strip() == text


@given(sentences(), st.data())
def test_what_stands_before_and_behind_a_changed_word_keeps_its_times(spoken, data) -> None:
    spoken_words, start, end = spoken
    # Of two words that are the same, nobody could say which is gone.
    words = [replace(word, text=f"{word.text}{number}") for number, word in enumerate(spoken_words)]
    at = data.draw(st.integers(0, len(words) - 1))
    put = data.draw(st.lists(st.sampled_from(("Zebulon", "Quux", "Xylophone")), max_size=3))
    kept = [word.text.strip() for word in words]
    new = [*kept[:at], *put, *kept[at + 1 :]]
    if not new:
        return
    timed = retime(words, " ".join(new), start, end)
    for index, word in enumerate(kept[:at]):
        assert (timed[index].start, timed[index].end) == (words[index].start, words[index].end), word
    behind = len(kept) - at - 1
    for before, after in zip(words[len(words) - behind :], timed[len(timed) - behind :], strict=True):
        assert (before.start, before.end) == (after.start, after.end)


@given(sentences())
def test_case_and_punctuation_cost_no_time_and_no_certainty(spoken) -> None:
    words, start, end = spoken
    text = " ".join(f"{word.text.strip().upper()}," for word in words)
    timed = retime(words, text, start, end)
    assert [(word.start, word.end, word.probability) for word in timed] == [
        (word.start, word.end, word.probability) for word in words
    ]


def test_as_many_words_as_were_misheard_take_their_places() -> None:
    words = [Word(0, 1, " the"), Word(1, 2, " fairy"), Word(4, 5, " lace"), Word(5, 6, " leaves")]
    timed = retime(words, "the ferry lot leaves", 0, 6)
    assert [(word.text, word.start, word.end) for word in timed[1:3]] == [(" ferry", 1, 2), (" lot", 4, 5)]


def test_a_word_that_was_missing_takes_the_pause_it_stands_in() -> None:
    words = [Word(0, 1, " we"), Word(3, 4, " go")]
    timed = retime(words, "we should go", 0, 4)
    assert (timed[1].start, timed[1].end) == (1, 3)


def test_words_without_times_stay_without() -> None:
    assert retime([], "Anything at all.", 0, 4) == ()


@given(unspaced, unspaced)
def test_scripts_without_spaces_are_timed_by_the_character(old: str, new: str) -> None:
    timed = retime([Word(0, 6, old)], new, 0, 6)
    assert_in_order(timed, 0, 6)
    assert "".join(word.text for word in timed) == "".join(new.split())


@given(sentences(), st.data())
def test_a_sentence_is_cut_inside_itself_with_every_word_in_one_part(spoken, data) -> None:
    words, start, end = spoken
    if len(words) < 2 or end - start < 0.01:
        return
    at = data.draw(st.integers(1, len(words) - 1))
    kept = [word.text.strip() for word in words]
    left, right = " ".join(kept[:at]), " ".join(kept[at:])
    before, after, first_ends, second_starts = cut(words, left, right, start, end)
    assert start <= first_ends <= second_starts <= end
    assert_in_order(before, start, first_ends)
    assert_in_order(after, second_starts, end)
    assert ("".join(word.text for word in before).strip(), "".join(word.text for word in after).strip()) == (
        left,
        right,
    )
