"""Cues are short, stand long enough, never overlap, and lose no word."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.export.subtitles import (
    CHARACTERS_A_SECOND,
    LINE_WIDTH,
    LONGEST_MS,
    LONGEST_SOUND_MS,
    SHORTEST_MS,
    Cue,
    make_cues,
)
from index.records import Segment, Word
from index.text import one_line
from tests.support.indexed import heard

VOCABULARY = [
    *("a", "the", "ferry", "we", "and", "of", "I", "microphones,", "tonight.", "Why?", "because", "NorthKey"),
    *("Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen", "https://example.org/" + "x" * 60),
    *("渡轮时刻表。", "最后一班船十点半离开，", "नमस्ते", "4,200", "-->", "한국어", "e\u0301" * 50, "สวัสดีครับ"),
]
SPEAKERS = [None, "Ana", "Ben", "The chair of the harbour committee, Ms. Example-Surname, who is long-winded"]


@st.composite
def timed(draw: st.DrawFn, start: float) -> Segment:
    """A sentence whose words are timed, at anything from a slow to an impossible pace."""
    words, clock = [], start
    for text in draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=40)):
        clock += draw(st.sampled_from([0.0, 0.0, 0.0, 0.2, 0.9, 8.0]))
        end = clock + draw(st.floats(0.0, 1.2))
        words.append(Word(clock, end, f" {text}", 0.9))
        clock = end
    text = "".join(word.text for word in words).strip()
    return Segment(start, clock, text, "speech", draw(st.sampled_from(SPEAKERS)), tuple(words))


@st.composite
def transcripts(draw: st.DrawFn) -> list[Segment]:
    """Sentences and sounds, one after another, at once, or far apart; some without the times of words."""
    segments: list[Segment] = []
    clock = 0.0
    for _ in range(draw(st.integers(0, 8))):
        segment = draw(timed(clock))
        if draw(st.booleans()):
            text = draw(st.just(segment.text) | st.text(max_size=200))
            kind = draw(st.sampled_from(["speech", "speech", "sound", "music"]))
            segment = Segment(segment.start, segment.end, text, kind, segment.speaker)
        segments.append(segment)
        clock = draw(st.sampled_from([segment.end, segment.start, segment.end + 0.1, segment.end + 30.0]))
    return segments


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def letters(text: str) -> str:
    return "".join(text.split())


def said(cue: Cue) -> str:
    """The words of a cue without the name before them."""
    return " ".join(cue.lines)


@given(transcripts(), st.booleans())
@settings(deadline=None)
def test_cues_are_two_lines_at_most_and_none_is_too_wide_too_short_or_too_long(
    segments: list[Segment], named: bool
):
    for cue in make_cues(segments, named):
        assert 1 <= len(cue.lines) <= 2
        assert all(line.strip() == line and line and width(line) <= LINE_WIDTH for line in cue.lines)
        assert SHORTEST_MS <= cue.end - cue.start <= LONGEST_MS


@given(transcripts(), st.booleans())
@settings(deadline=None)
def test_no_cue_overlaps_the_next_one(segments: list[Segment], named: bool):
    cues = make_cues(segments, named)
    assert all(before.end <= after.start for before, after in pairwise(cues))


@given(transcripts())
@settings(deadline=None)
def test_every_word_is_there_in_order_with_its_speaker(segments: list[Segment]):
    cues = make_cues(segments, named=False)
    spoken = [segment for segment in segments if one_line(segment.text)]
    for speaker in {one_line(segment.speaker or "") for segment in spoken}:
        own = [segment for segment in spoken if one_line(segment.speaker or "") == speaker]
        if any(before.end > after.start for before, after in pairwise(own)):
            # One voice twice at once: the words of the two are in between each other.
            continue
        shown = [
            one_line(segment.text) if segment.kind == "speech" else f"({one_line(segment.text)})"
            for segment in own
        ]
        assert letters(" ".join(said(cue) for cue in cues if cue.speaker == speaker)) == letters(
            " ".join(shown)
        )
    assert sorted(letters("".join(map(said, cues)))) == sorted(
        letters("".join(s.text if s.kind == "speech" else f"({s.text})" for s in map(_clean, spoken)))
    )


def _clean(segment: Segment) -> Segment:
    return Segment(segment.start, segment.end, one_line(segment.text), segment.kind)


@given(transcripts(), st.booleans())
@settings(deadline=None)
def test_a_cue_can_be_read_unless_the_next_one_follows_at_once(segments: list[Segment], named: bool):
    cues = make_cues(segments, named)
    for cue, following in zip(cues, [*cues[1:], None], strict=False):
        seconds = (cue.end - cue.start) / 1000
        fast = sum(map(width, cue.lines)) / seconds > CHARACTERS_A_SECOND + 0.1
        assert not fast or cue.end - cue.start == LONGEST_MS or (following and following.start == cue.end)


@given(transcripts())
@settings(deadline=None)
def test_names_stand_before_the_words_of_every_cue(segments: list[Segment]):
    for cue in make_cues(segments, named=True):
        first = " ".join(cue.lines)
        assert not cue.speaker or first.startswith((f"{cue.speaker}:", cue.speaker[: LINE_WIDTH - 8]))


def test_the_sample_meeting_is_cut_at_sentences_and_clauses():
    cues = make_cues(heard(), named=False)
    assert [" / ".join(cue.lines) for cue in cues[:4]] == [
        "Good morning everyone.",
        "This is the weekly planning call / for the Harbor Lights Festival.",
        "We have three things to cover.",
        "The fairy timetable, the budget / for the sound stage and the volunteer app.",
    ]
    rates = [sum(map(len, cue.lines)) / (cue.end - cue.start) * 1000 for cue in cues]
    assert max(rates) <= CHARACTERS_A_SECOND + 0.1


def test_a_long_sentence_is_cut_by_the_times_of_its_words():
    text = (
        "We looked at the first offer for a long time, "
        "and because it was late, the second one was never read."
    )
    words = tuple(Word(at * 0.4, at * 0.4 + 0.4, f" {word}", 0.9) for at, word in enumerate(text.split()))
    cues = make_cues([Segment(0.0, words[-1].end, text, words=words)], named=False)
    assert [said(cue) for cue in cues] == [
        "We looked at the first offer for a long time,",
        "and because it was late, the second one was never read.",
    ]
    assert [cue.start for cue in cues] == [0, 4000]


def test_what_is_said_in_passing_stands_long_enough_and_moves_what_follows():
    segments = [Segment(1.0, 1.2, "No.", speaker="Ana"), Segment(1.3, 4.0, "Let us see.", speaker="Ben")]
    assert [(cue.start, cue.end) for cue in make_cues(segments, named=False)] == [(1000, 1700), (1700, 4000)]


def test_two_who_speak_at_once_are_both_given_time():
    talk = "This is what one side of the call has to say here."
    segments = [
        Segment(0.0, 4.0, talk, speaker="Ana"),
        Segment(0.5, 4.5, talk, speaker="Ben"),
    ]
    cues = make_cues(segments, named=False)
    assert [cue.speaker for cue in cues] == ["Ana", "Ben"]
    assert all(cue.end - cue.start >= 1900 for cue in cues)


@pytest.mark.parametrize("kind", ["sound", "music"])
def test_a_sound_does_not_stand_for_as_long_as_it_lasts(kind: str):
    [cue] = make_cues([Segment(5.0, 3600.0, "rain", kind)], named=False)  # type: ignore[arg-type]
    assert (cue.start, cue.end, cue.lines) == (5000, 5000 + LONGEST_SOUND_MS, ("(rain)",))
