"""Several audio tracks: what a player plays is heard, and what nobody heard is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from index.audio.decode import decode_to_flac, read_range
from index.audio.vad import detect_speech
from index.notes import describe
from index.recording_errors import MediaError
from index.records import NoteKind, Segment, Span
from index.transcription.coverage import coverage
from moss_audio.audio import AudioStream
from moss_audio.errors import AudioError
from tests.support.media import cut, tracks

CASES = Path(__file__).parent.parent / "data" / "field_cases"


def talk(seconds: int, seed: int) -> np.ndarray:
    """Noise as loud as syllables are, which differ from seed to seed."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0, 0.3, seconds * 5), 3_200)
    return (loud * rng.uniform(-1, 1, len(loud))).astype(np.float32)


def test_a_track_with_sound_is_heard_where_the_default_is_silent(tmp_path: Path) -> None:
    result = decode_to_flac(CASES / "tracks_first_is_silent.mkv", tmp_path / "copy.flac")
    assert result.notes == () and result.duration == pytest.approx(15.16, abs=0.1)
    assert np.abs(read_range(tmp_path / "copy.flac")).max() > 0.1


def test_the_default_track_is_heard_as_a_player_does_and_other_speech_as_well(tmp_path: Path) -> None:
    result = decode_to_flac(CASES / "tracks_default_is_second.mkv", tmp_path / "copy.flac")
    assert result.duration == pytest.approx(15.16, abs=0.1)
    assert result.notes == () and result.tracks == (2, 1)
    speech = detect_speech(tmp_path / "copy.flac")
    assert max(span.end for span in speech if span.channel == 0) > 14
    assert 4 < max(span.end for span in speech if span.channel == 1) < 5.3


def test_the_track_that_is_asked_for_is_heard_alone(tmp_path: Path) -> None:
    source = CASES / "tracks_default_is_second.mkv"
    result = decode_to_flac(source, tmp_path / "copy.flac", track=1)
    assert result.tracks == (1,) and result.duration == pytest.approx(5.1, abs=0.1)
    (note,) = result.notes
    assert note.kind is NoteKind.TRACKS_NOT_HEARD and note.numbers["chosen"] == 1
    assert "2" in describe(note)
    for track in (0, 3):
        with pytest.raises(MediaError, match=r"1.*2"):
            decode_to_flac(source, tmp_path / "copy.flac", track=track)


def test_a_track_that_is_the_same_or_silent_needs_no_note(tmp_path: Path) -> None:
    sound = talk(6, 1)
    for other in (0.5 * sound, np.zeros_like(sound)):
        path = tracks(tmp_path / "a.mka", sound, other)
        result = decode_to_flac(path, tmp_path / "copy.flac")
        assert result.notes == () and result.tracks == (1,)


def test_a_track_without_speech_of_its_own_is_not_heard_as_a_side(tmp_path: Path, sample: Path) -> None:
    speech, _ = cut(sample, 20, 32)
    path = tracks(tmp_path / "a.mka", talk(12, 1), speech)
    result = decode_to_flac(path, tmp_path / "copy.flac")
    assert result.notes == () and result.tracks == (1, 2)
    path = tracks(tmp_path / "b.mka", speech, talk(12, 1))
    result = decode_to_flac(path, tmp_path / "copy.flac")
    assert result.notes == () and result.tracks == (1,)
    assert np.allclose(read_range(tmp_path / "copy.flac"), speech, atol=1e-3)


def test_a_microphone_beside_the_sound_of_the_desktop_is_heard_as_well(tmp_path: Path, sample: Path) -> None:
    desktop, _ = cut(sample, 0, 16)
    microphone, _ = cut(sample, 100, 112)
    path = tracks(tmp_path / "a.mka", desktop, microphone)
    result = decode_to_flac(path, tmp_path / "copy.flac")
    assert result.notes == () and result.tracks == (1, 2) and result.duration == 16
    assert np.allclose(read_range(tmp_path / "copy.flac", 0, 16, 0), desktop, atol=1e-3)
    assert np.allclose(read_range(tmp_path / "copy.flac", 0, 12, 1), microphone, atol=1e-3)
    assert not read_range(tmp_path / "copy.flac", 13, 16, 1).any()


def test_the_sides_of_a_call_beside_another_track_are_heard_each_on_its_own(
    tmp_path: Path, sample: Path
) -> None:
    near, far, microphone = (cut(sample, start, start + 16)[0] for start in (0, 60, 120))
    other, music = cut(sample, 200, 216)[0], talk(16, 1)
    for number, (first, second, sides) in enumerate(
        [
            (np.stack((near, far)), microphone, (near, far, microphone)),
            (microphone, np.stack((near, far)), (microphone, near, far)),
            (np.stack((near, far)), np.stack((microphone, other)), (near, far, microphone, other)),
            (np.stack((near, np.zeros_like(near))), microphone, (near, microphone)),
            (np.stack((0.5 * near, 0.5 * near + 0.1 * music)), microphone, (near, microphone)),
        ]
    ):
        copy = tmp_path / f"{number}.flac"
        result = decode_to_flac(tracks(tmp_path / f"{number}.mka", first, second), copy)
        assert result.notes == () and result.tracks == (1, 2)
        assert soundfile.info(copy).channels == len(sides)
        for channel, side in enumerate(sides):
            heard = read_range(copy, 0, 16, channel)
            assert np.corrcoef(heard, side)[0, 1] > 0.9


def test_a_track_that_has_all_of_another_is_heard_in_its_place(tmp_path: Path, sample: Path) -> None:
    desktop, _ = cut(sample, 0, 16)
    microphone, _ = cut(sample, 100, 116)
    both = 0.5 * desktop + 0.5 * microphone
    for number, order in enumerate([(both, desktop, microphone), (microphone, both, desktop)]):
        result = decode_to_flac(tracks(tmp_path / "a.mka", *order), tmp_path / "copy.flac")
        assert result.notes == () and result.tracks == (number + 1,)


def test_a_dub_in_another_language_is_named(tmp_path: Path, sample: Path) -> None:
    first, second, third = (cut(sample, start, start + 12)[0] for start in (0, 60, 120))
    path = tracks(tmp_path / "a.mka", first, second, third, languages=("eng", "deu", "fra"))
    result = decode_to_flac(path, tmp_path / "copy.flac")
    (note,) = result.notes
    assert result.tracks == (1,) and note.kind is NoteKind.TRACKS_NOT_HEARD
    assert note.numbers == {"heard": 1, "others": 2, "other": 2, "other_2": 3}
    assert "2 and 3" in describe(note)
    share = coverage([Span(0, 12)], [Segment(0, 12, "All of it.")], result.notes)
    assert share is not None and 0.4 < share < 0.6


def test_a_track_that_is_not_there_is_refused() -> None:
    with pytest.raises(AudioError, match="2 audio tracks"):
        AudioStream(CASES / "tracks_first_is_silent.mkv", 2)
