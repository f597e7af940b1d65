"""Whether a transcript's clock is brought onto its media's, or said to fit nowhere."""

from __future__ import annotations

import re

import numpy as np
import pytest

from index.imports.fit_clock import Clock, fit_to_media
from index.recording_errors import TranscriptError
from index.records import Segment, Span

LONG, SHORT = 1500.0, 400.0


def talk(seconds: float, seed: int) -> list[Segment]:
    """Sentences of a talk: 1 to 9 s each, pauses of all lengths."""
    rng, at, said = np.random.default_rng(seed), 3.0, []
    while at < seconds - 12:
        length = float(rng.lognormal(0.9, 0.6))
        said.append(Segment(round(at, 3), round(at + min(9.0, length), 3), f"Sentence {len(said)}."))
        at += min(9.0, length) + float(rng.lognormal(-0.7, 1.1))
    return said


def heard(said: list[Segment], seed: int) -> list[Span]:
    """Speech as it is detected: a little off, some missed, some split."""
    rng, found = np.random.default_rng(seed + 100), []
    for sentence in said:
        start, end = sentence.start + rng.normal(0, 0.08), sentence.end + rng.normal(0, 0.12)
        if rng.random() < 0.03:
            continue
        if end - start > 4:
            middle = start + float(rng.uniform(1, end - start - 1))
            found.append(Span(max(0.0, start), middle))
            start = middle + 0.4
        found.append(Span(max(0.0, start), end))
    return found


def on(said: list[Segment], clock: Clock) -> list[Segment]:
    """The transcript as somebody's clock shows it."""
    return [Segment(round(clock.at(one.start), 3), round(clock.at(one.end), 3), one.text) for one in said]


def off(said: list[Segment], clock: Clock, seed: int, seconds: float) -> float:
    """How far the starts are off, 95 of 100, once the transcript was fitted; seconds."""
    fit, _ = fit_to_media(on(said, clock), heard(said, seed), seconds, "talk.mp3")
    starts = [abs(fit(moved).start - one.start) for moved, one in zip(on(said, clock), said, strict=True)]
    return float(np.percentile(starts, 95))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "clock",
    [
        Clock(),
        Clock(45.0),
        Clock(0.0, 1.001),
        Clock(20.0, 0.999),
        Clock(0.0, 1.003),
        Clock(0.0, 24 / 25),
        Clock(0.0, 25 / 23.976),
    ],
)
def test_a_clock_that_began_at_another_time_or_ran_at_another_pace_is_found(clock: Clock, seed: int) -> None:
    assert off(talk(LONG, seed), clock, seed, LONG) < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_what_fits_is_left_alone(seed: int) -> None:
    for seconds in (SHORT, LONG):
        said = talk(seconds, seed)
        assert fit_to_media(said, heard(said, seed), seconds, "talk.mp3")[1] == Clock()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("seconds", "pause"), [(LONG, 2.5), (LONG, 5.0), (LONG, 30.0), (SHORT, 3.0), (LONG, -4.0), (SHORT, -10.0)]
)
def test_a_pause_that_only_one_of_both_has_is_refused_with_its_place(
    seed: int, seconds: float, pause: float
) -> None:
    said = talk(seconds, seed)
    at = 0.55 * seconds
    # What is said while only the transcript goes on is not in the media.
    speech = [
        span if span.start < at else Span(span.start + pause, span.end + pause)
        for span in heard(said, seed)
        if span.end < at or span.start >= at + max(0.0, -pause)
    ]
    with pytest.raises(TranscriptError) as refused:
        fit_to_media(said, speech, seconds + pause, "talk.mp3")
    told = re.search(r"about ([\d:]+);.* (\d+) s (later|earlier)", str(refused.value))
    assert told is not None
    minute, second = told[1].split(":")
    assert 60 * int(minute) + int(second) == pytest.approx(at, abs=20)
    assert int(told[2]) * (1 if told[3] == "later" else -1) == pytest.approx(pause, abs=0.6)


@pytest.mark.parametrize("seed", range(3))
def test_media_whose_beginning_is_cut_off_is_refused(seed: int) -> None:
    said = talk(LONG, seed)
    speech = [Span(span.start - 40, span.end - 40) for span in heard(said, seed) if span.start > 40]
    with pytest.raises(TranscriptError, match="beginning"):
        fit_to_media(said, speech, LONG - 40, "talk.mp3")


@pytest.mark.parametrize("seed", range(5))
def test_a_transcript_of_something_else_is_not_moved(seed: int) -> None:
    for seconds in (SHORT, LONG):
        said, other = talk(seconds, seed), talk(seconds - 5, seed + 50)
        assert fit_to_media(other, heard(said, seed), seconds, "talk.mp3")[1] == Clock()
