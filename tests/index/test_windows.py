"""Windows lose no speech, and coverage proves it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from index.audio.windows import MAX_SPEECH_SECONDS, MAX_WINDOW_SECONDS, cut_windows
from index.records import Segment, Span, Word
from index.transcription.coverage import COLLAR_SECONDS, MIN_GAP_SECONDS, coverage, find_gaps


@st.composite
def speech(draw) -> list[Span]:
    spans, time = [], draw(st.floats(0, 5))
    for _ in range(draw(st.integers(0, 60))):
        length = draw(st.floats(0.15, 25))
        spans.append(Span(time, time + length))
        time += length + draw(st.sampled_from([0.0, 0.05, 0.3, 1.0, 7.0, 400.0]))
    return spans


@given(speech())
def test_every_span_of_speech_lies_inside_exactly_one_window(spans: list[Span]):
    duration = (spans[-1].end if spans else 0) + 1
    windows = cut_windows(spans, duration)
    for span in spans:
        inside = [window for window in windows if window.start <= span.start and span.end <= window.end]
        assert len(inside) == 1


@given(speech())
def test_windows_are_disjoint_in_order_inside_the_recording_and_bounded(spans: list[Span]):
    duration = (spans[-1].end if spans else 0) + 1
    windows = cut_windows(spans, duration)
    assert all(0 <= window.start < window.end <= duration for window in windows)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(windows))
    for window in windows:
        inside = [other for other in spans if window.start <= other.start and other.end <= window.end]
        assert sum(other.duration for other in inside) <= MAX_SPEECH_SECONDS + 1e-6
        assert window.duration <= MAX_WINDOW_SECONDS + 1


def test_a_window_is_cut_at_a_long_pause():
    spans = [Span(0, 10), Span(10.4, 20), Span(20.4, 35), Span(37, 50), Span(50.3, 59), Span(59.4, 80)]
    first = cut_windows(spans, 90)[0]
    assert (first.start, first.end) == (0, 35.3)


def test_the_second_half_is_counted_in_seconds_of_speech_and_not_in_spans():
    """Many short turns, then long ones: the middle span is at a quarter of the speech."""
    spans, time = [], 0.0
    for length in [0.5] * 40 + [4.0] * 30:
        spans.append(Span(time, time + length))
        time += length + (0.9 if length < 1 else 0.4)
    windows = cut_windows(spans, time, 120.0, 180.0)
    assert min(window.duration for window in windows) > 60


@given(speech())
def test_no_window_is_needlessly_short(spans: list[Span]):
    """One that is less than half full has a neighbour only where joining would be too much, or would leave
    that one short in its place."""

    def full(inside: list[Span]) -> float:
        spoken = sum(span.duration for span in inside)
        return max(spoken / MAX_SPEECH_SECONDS, (inside[-1].end - inside[0].start) / MAX_WINDOW_SECONDS)

    windows = cut_windows(spans, (spans[-1].end if spans else 0) + 1)
    held = [[span for span in spans if a.start <= span.start and span.end <= a.end] for a in windows]
    for before, after in pairwise(held):
        assert full(before + after) > 1 - 1e-9, "both fit into one"
        if full(before) < 0.5 - 1e-9:
            assert full([*before, after[0]]) > 1 - 1e-9 or full(after[1:] or after[:1]) < 0.5
        if full(after) < 0.5 - 1e-9:
            assert full([before[-1], *after]) > 1 - 1e-9 or full(before[:-1] or before[-1:]) < 0.5


def heard(*times: tuple[float, float]) -> list[Segment]:
    return [Segment(a, b, "word", words=(Word(a, b, "word"),)) for a, b in times]


def test_speech_without_text_is_a_gap_and_lowers_coverage():
    spans = [Span(0, 10), Span(20, 30)]
    segments = heard((0, 10), (20, 24))
    assert find_gaps(spans, segments) == [Span(24 + COLLAR_SECONDS, 30)]
    assert coverage(spans, segments) == 1 - 5.5 / 20


def test_a_lost_word_too_short_for_a_gap_still_lowers_coverage():
    spans, segments = [Span(0, 10), Span(12, 12.9)], heard((0, 10))
    assert find_gaps(spans, segments) == []
    assert coverage(spans, segments) < 0.95


def test_words_and_not_the_stretch_between_them_account_for_speech():
    segment = Segment(0, 30, "one two", words=(Word(0, 1, "one"), Word(29, 30, "two")))
    assert find_gaps([Span(0, 30)], [segment]) == [Span(1 + COLLAR_SECONDS, 29 - COLLAR_SECONDS)]


def test_a_recording_without_speech_has_no_share_of_it():
    assert coverage([], []) is None


@given(speech(), st.lists(st.tuples(st.floats(0, 500), st.floats(0.1, 30)), max_size=30))
def test_gaps_are_speech_that_no_word_touches(spans: list[Span], words: list[tuple[float, float]]):
    segments = heard(*((start, start + length) for start, length in words))
    gaps = find_gaps(spans, segments)
    share = coverage(spans, segments)
    assert (share is None) if not spans else (0 <= share <= 1)
    for gap in gaps:
        assert gap.duration >= MIN_GAP_SECONDS
        assert any(span.start - 1e-9 <= gap.start and gap.end <= span.end + 1e-9 for span in spans)
        assert not any(segment.span.overlaps(gap) for segment in segments)
