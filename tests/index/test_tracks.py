"""Several audio tracks: what a player plays is heard, and what nobody heard is said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from index.audio.decode import decode_to_flac, read_range
from index.records import NoteKind, Segment, Span
from index.transcription.coverage import coverage
from moss_audio.audio import AudioStream
from moss_audio.errors import AudioError

CASES = Path(__file__).parent.parent / "data" / "field_cases"


def two_tracks(path: Path, first: np.ndarray, second: np.ndarray, rate: int = 16_000) -> Path:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("flac", rate=rate) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
            stream.codec_context.format = "s16"
        for stream, sound in zip(streams, (first, second), strict=True):
            for start in range(0, len(sound), 4096):
                part = (sound[start : start + 4096] * 32_000).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.pts = rate, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def talk(seconds: int, seed: int) -> np.ndarray:
    """Noise as loud as syllables are, which differ from seed to seed."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0, 0.3, seconds * 5), 3_200)
    return (loud * rng.uniform(-1, 1, len(loud))).astype(np.float32)


def test_a_track_with_sound_is_heard_where_the_default_is_silent(tmp_path: Path) -> None:
    result = decode_to_flac(CASES / "tracks_first_is_silent.mkv", tmp_path / "copy.flac")
    assert result.notes == () and result.duration == pytest.approx(15.16, abs=0.1)
    assert np.abs(read_range(tmp_path / "copy.flac")).max() > 0.1


def test_the_default_track_is_heard_as_a_player_does_and_the_other_is_named(tmp_path: Path) -> None:
    result = decode_to_flac(CASES / "tracks_default_is_second.mkv", tmp_path / "copy.flac")
    assert result.duration == pytest.approx(15.16, abs=0.1)
    (note,) = result.notes
    assert note.kind is NoteKind.TRACKS_NOT_HEARD
    assert note.numbers == {"heard": 2, "others": 1, "other": 1} and 4 < note.spans[-1].end < 5.3
    assert 0.6 < coverage([Span(0, 15)], [Segment(0, 15, "All of it.")], result.notes) < 0.9


def test_a_track_that_is_the_same_or_silent_needs_no_note(tmp_path: Path) -> None:
    sound = talk(6, 1)
    for other in (0.5 * sound, np.zeros_like(sound)):
        path = two_tracks(tmp_path / "a.mka", sound, other)
        assert decode_to_flac(path, tmp_path / "copy.flac").notes == ()


def test_another_voice_on_another_track_is_named(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "a.mka", talk(6, 1), talk(6, 2))
    (note,) = decode_to_flac(path, tmp_path / "copy.flac").notes
    assert note.numbers["heard"] == 1 and note.numbers["other"] == 2


def test_a_track_that_is_not_there_is_refused() -> None:
    with pytest.raises(AudioError, match="2 audio tracks"):
        AudioStream(CASES / "tracks_first_is_silent.mkv", 2)
