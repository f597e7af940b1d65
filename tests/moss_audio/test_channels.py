"""Two channels are looked at before they are mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_audio.audio import SAMPLE_RATE, AudioStream, load_audio
from tests.support.media import cut

CASES = Path(__file__).parent.parent / "data" / "field_cases"


def level(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def loaded(path: Path, channels: np.ndarray, rate: int = SAMPLE_RATE) -> np.ndarray:
    soundfile.write(path, channels, rate, subtype="FLOAT")
    return load_audio(path)


@pytest.mark.parametrize("name", ["phase_inverted.mp3", "phase_half_inverted.flac"])
def test_channels_that_cancel_are_heard_all_the_same(name: str) -> None:
    audio = load_audio(CASES / name)
    left, rate = soundfile.read(CASES / name, dtype="float32")
    assert len(audio) / SAMPLE_RATE == pytest.approx(len(left) / rate, abs=0.1)
    seconds = range(int(len(audio) / SAMPLE_RATE) - 1)
    for second in seconds:
        heard = level(audio[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE])
        there = level(left[second * rate : (second + 1) * rate, 0])
        assert heard == pytest.approx(there, rel=0.35), second


def test_channels_that_cancel_only_for_a_while_lose_nothing(tmp_path: Path, sample: Path) -> None:
    speech, rate = cut(sample, 20, 32)
    other = speech.copy()
    other[4 * rate : 8 * rate] *= -0.8
    audio = loaded(tmp_path / "a.wav", np.stack([speech, other], axis=1), rate)
    for second in range(12):
        heard = level(audio[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE])
        assert heard > 0.7 * level(speech[second * rate : (second + 1) * rate])


def test_a_humming_channel_is_left_out(tmp_path: Path, sample: Path) -> None:
    speech, rate = cut(sample, 20, 30)
    times = np.arange(len(speech)) / rate
    hum = (0.3 * np.sin(2 * np.pi * 50 * times) + 0.05 * np.sin(2 * np.pi * 100 * times)).astype(np.float32)
    for pair in ([speech, hum], [hum, speech]):
        audio = loaded(tmp_path / "a.wav", np.stack(pair, axis=1), rate)[2 * SAMPLE_RATE :]
        spectrum = np.abs(np.fft.rfft(audio))
        below = spectrum[: round(120 * len(audio) / SAMPLE_RATE)]
        assert np.square(below).sum() < 0.3 * np.square(spectrum).sum()


def test_a_dead_channel_does_not_halve_the_other(tmp_path: Path, sample: Path) -> None:
    speech, rate = cut(sample, 20, 26)
    mono = loaded(tmp_path / "a.wav", speech[:, None], rate)
    for pair in ([speech, np.zeros_like(speech)], [np.zeros_like(speech), speech]):
        assert np.allclose(loaded(tmp_path / "b.wav", np.stack(pair, axis=1), rate), mono, atol=1e-6)


def test_mono_twice_is_that_mono(tmp_path: Path, sample: Path) -> None:
    speech, rate = cut(sample, 20, 26)
    mono = loaded(tmp_path / "a.wav", speech[:, None], rate)
    assert np.allclose(loaded(tmp_path / "b.wav", np.stack([speech, speech], axis=1), rate), mono, atol=1e-6)


@pytest.mark.parametrize(("near", "delay"), [(0.3, 0), (0.5, 8), (0.9, 4)])
def test_a_speaker_near_one_side_of_a_stereo_microphone_is_mixed_as_ever(
    near: float, delay: int, tmp_path: Path, sample: Path
) -> None:
    speech, rate = cut(sample, 20, 30)
    noise = np.random.default_rng(0).normal(scale=0.002, size=(len(speech), 2)).astype(np.float32)
    pair = np.stack([speech, near * np.roll(speech, delay)], axis=1) + noise
    if rate != SAMPLE_RATE:
        pytest.fail("the sample has 16 kHz")
    assert np.allclose(loaded(tmp_path / "a.wav", pair), pair.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_more_than_two_channels_count_alike(channels: int, tmp_path: Path) -> None:
    sound = np.random.default_rng(1).normal(scale=0.1, size=(SAMPLE_RATE, channels)).astype(np.float32)
    sound[:, 1] = 0.5 * sound[:, 0]
    assert np.allclose(loaded(tmp_path / "a.wav", sound), sound.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "parts", [(1, -1, 1, -1), (1, -0.5, -0.5), (1, -1, 0, 0, 0.3, -0.3), (0, 0, 1, -1, 0, 0, 0, 0)]
)
@pytest.mark.parametrize("beside", [0.0, 0.005])
def test_of_many_channels_none_takes_another_away(
    parts: tuple[float, ...], beside: float, tmp_path: Path, sample: Path
) -> None:
    speech, rate = cut(sample, 20, 26)
    own = np.random.default_rng(2).normal(scale=beside, size=(len(speech), len(parts)))
    rows = np.outer(speech, parts) + own
    audio = loaded(tmp_path / "a.wav", rows.astype(np.float32), rate)
    at = len(speech) // 2
    likeness = np.corrcoef(audio[at:], speech[at:])[0, 1]
    assert likeness > 0.9 and level(audio[at:]) > 0.1 * level(speech[at:])


def test_channels_that_are_not_mixed_come_side_by_side(tmp_path: Path) -> None:
    sound = np.random.default_rng(2).normal(scale=0.1, size=(SAMPLE_RATE, 3)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    with AudioStream(tmp_path / "a.wav", mixed=False) as stream:
        rows = np.concatenate(list(stream.blocks()), axis=1)
    assert np.allclose(rows, sound.T, atol=1e-6) and stream.report.decoded_seconds == 1.0
