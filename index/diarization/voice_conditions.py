"""How a voice would sound in other conditions: in noise, in a room, over a telephone, dulled by a codec.

    speech → what each condition makes of it → a voice vector in each

An encoder's vectors tell the condition as well as the voice: a voice over the telephone is nearer to other
voices over the telephone than to itself in a quiet room. So a known voice has a vector for each condition,
two voices are compared in the same one, and what all voices there have in common (``condition_means``) is
taken away first. The condition of what was heard is the one whose mean is nearest.

The means are those of the readers that chose the thresholds (``python -m benchmarks.voices FOLDER --half
choose --means FILE``); they hold nothing of any one of them. Conditions are simulated roughly, and not as
those that the benchmark reports on are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from moss_audio.audio import SAMPLE_RATE

CONDITIONS = ("clean", "noise", "white", "brown", "reverberation", "room", "telephone", "band", "dull")
"""``clean`` is the speech as it was recorded."""

CLEAN = 0
MEANS = Path(__file__).with_name("voice_conditions.npy")

NOISE_DB, WHITE_DB = 12.0, 15.0
"""How much louder than the noise the speech is, dB."""
REVERBERATION = {"reverberation": (0.3, 0.06), "room": (0.7, 0.04)}
"""Seconds in which the echo fades by 60 dB, and how loud it is against the speech."""
BANDS = {"telephone": (250.0, 3500.0, 40.0), "band": (300.0, 3400.0, 1.0), "dull": (60.0, 4000.0, 40.0)}
"""Hz that pass (of the telephone's, ITU-T G.712's, a low bit rate's), and how steep the edges are, Hz."""
MU = 255
"""Companding of telephones (ITU-T G.711, µ-law)."""


@cache
def condition_means() -> np.ndarray:
    """What the vectors of all voices have in common in each condition, float32 ``[n_conditions, 256]``."""
    return np.asarray(np.load(MEANS), dtype=np.float32)


def condition_of(vector: np.ndarray) -> int:
    """The number of the condition that a voice vector ``[256]`` was most likely heard in."""
    means = condition_means()
    return int(np.argmax(means @ vector / np.linalg.norm(means, axis=1)))


def alike(voice: np.ndarray, other: np.ndarray, condition: int) -> float:
    """Cosine of two voices ``[256]`` of one condition, without what all voices have in common there."""
    mean = condition_means()[condition]
    left, right = voice - mean, other - mean
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / length if length else 0.0


def simulated(audio: np.ndarray, condition: int) -> np.ndarray:
    """Speech as it would sound in a condition; the same speech always sounds the same.

    Args:
        audio: float32 ``[n_samples]``, 16 kHz.
        condition: Its number in ``CONDITIONS``.
    """
    name = CONDITIONS[condition]
    loudness = float(np.sqrt(np.mean(np.square(audio)))) if len(audio) else 0.0
    if condition == CLEAN or loudness == 0.0:
        return audio
    rng = np.random.default_rng(len(audio))
    if name in REVERBERATION:
        heard = _echoed(audio, *REVERBERATION[name], rng)
    elif name in BANDS:
        heard = _banded(audio, *BANDS[name])
        heard = _companded(heard) if name == "telephone" else heard
    else:
        noise = _noise(audio, name, rng)
        decibels = WHITE_DB if name == "white" else NOISE_DB
        heard = audio + noise * (loudness / np.sqrt(np.mean(np.square(noise))) / 10 ** (decibels / 20))
    return np.clip(heard, -1, 1).astype(np.float32)


def _noise(audio: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """White noise; ``brown``, with more in the low notes; or ``noise``, with the spectrum of the speech."""
    if name == "white":
        return rng.standard_normal(len(audio))
    spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
    if name == "brown":
        return np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** 0.75, len(audio))
    width = max(1, len(audio) // 1200)
    envelope = np.convolve(np.abs(np.fft.rfft(audio)), np.ones(width) / width, "same")
    return np.fft.irfft(envelope * np.exp(1j * np.angle(spectrum)), len(audio))


def _echoed(audio: np.ndarray, seconds: float, share: float, rng: np.random.Generator) -> np.ndarray:
    length = int(seconds * SAMPLE_RATE)
    # -60 dB is a factor of e^-6.9.
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length) * share
    tail[0] = 1.0
    size = len(audio) + length
    return np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)[: len(audio)]


def _banded(audio: np.ndarray, low: float, high: float, edge: float) -> np.ndarray:
    hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    passed = 1 / (1 + np.exp(np.clip(-(hertz - low) / edge, -50, 50)))
    passed /= 1 + np.exp(np.clip((hertz - high) / (2 * edge), -50, 50))
    return np.fft.irfft(np.fft.rfft(audio) * passed, len(audio))


def _companded(audio: np.ndarray) -> np.ndarray:
    """Audio through the 8 bits of a telephone line."""
    most = float(np.abs(audio).max()) or 1.0
    steps = np.round(np.sign(audio) * np.log1p(MU * np.abs(audio) / most) / np.log1p(MU) * 127) / 127
    return np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU * most


def score(heard: Sequence[np.ndarray | None], known: np.ndarray) -> float:
    """How like one voice is to a known one, compared in the same condition, or as both were recorded.

    The better counts: who always speaks into one bad microphone is best known as recorded.

    Args:
        heard: Its vector in each condition; those of other conditions than ``clean`` may be missing.
        known: float32 ``[n, 256]``: what is known of the other in each condition, or ``clean`` alone.
    """
    first = heard[CLEAN]
    assert first is not None
    here, there = condition_of(first), condition_of(known[CLEAN])
    as_recorded = alike(first, known[CLEAN], CLEAN)
    if here == there or len(known) == 1:
        return max(as_recorded, alike(first, known[CLEAN], here))
    as_there = heard[there]
    if here == CLEAN and as_there is not None:
        return max(as_recorded, alike(as_there, known[CLEAN], there))
    return max(as_recorded, alike(first, known[here], here))


def conditions_needed(known: Sequence[np.ndarray]) -> set[int]:
    """The conditions that a clean voice must be simulated in to be compared with these known ones."""
    return {condition_of(vectors[CLEAN]) for vectors in known} - {CLEAN}
