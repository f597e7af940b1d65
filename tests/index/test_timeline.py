"""A recording over time: loudness that is drawn, who speaks when and how much, and links to a moment."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from index.audio.peaks import PEAKS_PER_SECOND, drawn, peaks_of
from index.moments import find_moment, moment_query
from index.recording_errors import AmbiguousRecording, UnknownRecording
from index.records import Recording, Segment, Span, Status
from index.timeline import MOST_SPANS, talk_time, timeline


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Three seconds: silence, half loudness, full loudness on the second of two channels."""
    sound = np.zeros((3 * 16_000, 2), dtype=np.int16)
    sound[16_000:32_000, 0] = 8192
    sound[32_000:, 1] = -32768
    path = tmp_path / "copy.flac"
    soundfile.write(path, sound, 16_000)
    return path


def test_peaks_are_the_loudest_of_all_channels_and_are_kept_beside_the_copy(copy: Path) -> None:
    peaks = peaks_of(copy)
    assert len(peaks) == 3 * PEAKS_PER_SECOND
    assert peaks[5] == 0
    assert peaks[30] == pytest.approx(127.5, abs=1)
    assert peaks[50] == 255
    kept = copy.with_suffix(".peaks")
    assert kept.read_bytes() == peaks.tobytes()
    kept.write_bytes(b"\x07" * len(peaks))
    assert (peaks_of(copy) == 7).all(), "what is kept is not computed again"
    kept.write_bytes(b"\x07")
    assert (peaks_of(copy) == peaks).all(), "what does not fit the copy is"


def test_peaks_follow_a_copy_that_was_made_anew(copy: Path) -> None:
    loud = peaks_of(copy)
    later = copy.with_name("later.flac")
    soundfile.write(later, np.zeros((3 * 16_000, 2), dtype=np.int16), 16_000)
    stamp = copy.with_suffix(".peaks").stat().st_mtime_ns + 1_000_000
    os.utime(later, ns=(stamp, stamp))
    later.replace(copy)
    assert loud.max() == 255 and peaks_of(copy).max() == 0


def test_a_stretch_is_drawn_with_as_many_points_as_wanted(copy: Path) -> None:
    peaks = peaks_of(copy)
    assert list(drawn(peaks, 0, 3, 3)) == [0, peaks[30], 255]
    assert list(drawn(peaks, 2, 6, 4)) == [255, 0, 0, 0]
    assert len(drawn(peaks, 1.01, 1.02, 500)) == 500
    assert set(drawn(peaks, 1.01, 1.02, 500)) == {peaks[30]}
    with pytest.raises(ValueError):
        drawn(peaks, 2, 2, 10)


def test_ten_hours_are_drawn_at_once() -> None:
    peaks = np.random.default_rng(0).integers(0, 255, 36_000 * PEAKS_PER_SECOND).astype(np.uint8)
    began = time.monotonic()
    for _ in range(10):
        assert len(drawn(peaks, 0, 36_000, 700)) == 700
    assert (time.monotonic() - began) / 10 < 0.2


def recording(duration: float, *speakers: str) -> Recording:
    return Recording(
        "a" * 64, "Talk", "talk.wav", duration, Status.READY, "2026-01-01T00:00:00+00:00", speakers=speakers
    )


def said(
    start: float, end: float, speaker: str | None, text: str = "one two three", **more: object
) -> Segment:
    return replace(Segment(start, end, text, speaker=speaker), **more)  # type: ignore[arg-type]


def test_lanes_follow_the_speakers_and_hold_sounds_and_gaps_apart() -> None:
    whole = replace(recording(100, "Anna", "Ben"), gaps=(Span(90, 95),))
    found = timeline(
        whole,
        [
            said(0, 4, "Ben"),
            said(4.01, 6, "Ben"),
            said(5, 9, "Anna"),
            said(20, 21, None),
            said(30, 35, None, "Applause", kind="sound"),
        ],
    )
    assert [(lane.name, lane.number) for lane in found.lanes] == [("Anna", 0), ("Ben", 1), (None, None)]
    assert found.lanes[1].spans == ((0, 6),), "what lies side by side is one stretch"
    assert [(sound.start, sound.text) for sound in found.sounds] == [(30, "Applause")]
    assert found.gaps == ((90, 95),)


def test_a_very_long_recording_has_no_more_stretches_than_a_screen_shows() -> None:
    segments = [said(2 * at, 2 * at + 1, "Anna") for at in range(18_000)]
    assert len(timeline(recording(36_000, "Anna"), segments).lanes[0].spans) <= MOST_SPANS


def test_talk_time_counts_turns_words_and_silence() -> None:
    found = talk_time(
        recording(100, "Anna", "Ben", "Nobody"),
        [
            said(0, 10, "Anna", "one two"),
            said(10, 20, "Anna", "don't count this"),
            said(20, 30, "Ben", "three"),
            said(30, 40, "Anna", "four"),
            said(35, 45, "Ben", "over"),
            said(50, 60, None, "Music", kind="music"),
        ],
    )
    anna, ben = found.voices
    assert (anna.name, anna.seconds, anna.turns, anna.words) == ("Anna", 30, 2, 6)
    assert (ben.name, ben.seconds, ben.turns, ben.words) == ("Ben", 20, 2, 2)
    assert anna.share + ben.share == pytest.approx(1)
    assert anna.words_per_minute == pytest.approx(12)
    assert (found.speech, found.silence, found.overlap) == (45, 55, 5)


def test_talk_time_of_nothing_said_and_of_languages_without_spaces() -> None:
    empty = talk_time(recording(10), [])
    assert (empty.speech, empty.silence, empty.voices) == (0, 10, ())
    chinese = talk_time(recording(10, "李"), [said(0, 5, "李", "我们明天见", language="zh")])
    assert chinese.voices[0].words is None
    assert chinese.voices[0].words_per_minute is None


def library(*found: Recording) -> SimpleNamespace:
    def resolve(reference: str) -> Recording:
        if len(found) > 1:
            raise AmbiguousRecording("two")
        if not found or reference not in found[0].id:
            raise UnknownRecording("none")
        return found[0]

    return SimpleNamespace(resolve=resolve)


def test_a_link_leads_to_its_moment_and_back() -> None:
    whole = recording(300)
    assert moment_query("abc", 125.5) == "recording=abc&t=125.5"
    moment = find_moment(library(whole), "aaa", "125.5")
    assert (moment.recording, moment.at, moment.problem) == (whole.id, 125.5, "")
    assert find_moment(library(whole), "aaa", "2:05").at == 125
    assert find_moment(library(whole), "aaa").at is None


@pytest.mark.parametrize("time", ["soon", "nan", "inf", "-3", "1e400", "301"])
def test_a_time_that_is_none_opens_the_recording_and_says_so(time: str) -> None:
    moment = find_moment(library(recording(300)), "aaa", time)
    assert moment.recording is not None
    assert moment.at is None
    assert moment.problem.count(".") == 1


def test_a_link_to_what_is_not_there_or_not_clear_says_so() -> None:
    assert "not here" in find_moment(library(recording(9)), "zzz", "5").problem
    assert find_moment(library(recording(9), recording(9)), "a").recording is None
