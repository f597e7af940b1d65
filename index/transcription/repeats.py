"""Whether words that a recogniser wrote several times were said several times.

A recogniser that goes astray writes a phrase over and over, so repeated text is distrusted. But jingles,
announcements, and stretches that somebody plays again do repeat, and so does their sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from index.records import Word
from moss_audio.audio import SAMPLE_RATE
from moss_audio.generation.loops import word_key

FRAME = 256
"""Samples of a spectrum: 16 ms."""

BANDS = 16
"""Bands that are compared, each 500 Hz wide."""

LATEST_FRAMES = 20
"""Frames by which word times are wrong at most: 0.3 s."""

SAME_SOUND = 0.6
"""Correlation of two spectrograms, each without its mean, from which they are one sound again. Of 260 pairs
of other stretches in the sample and four files of other voices, one reached it (median 0.19); of stretches
played again half as loud in noise at 15 dB, all but one did (median 0.75), in noise at 5 dB one in six."""

LEAST_WORDS, LEAST_SECONDS = 3, 1.0
"""A shorter phrase is not judged: any two short sounds are alike at some delay."""

LONGEST_PHRASE = 64
"""Words of a phrase that is looked for."""


def repeats_in_sound(audio: np.ndarray, words: Sequence[Word], start: float = 0.0) -> bool:
    """Whether most of some words are one phrase several times, and it is heard as often.

    Args:
        audio: float32 ``[n_samples]``, 16 kHz.
        words: What was made out of it, in order.
        start: Where the audio begins on the words' clock, seconds.
    """
    keys = [word_key(word.text) for word in words]
    first, period, length = 0, 0, 0
    for step in range(LEAST_WORDS, min(LONGEST_PHRASE, len(keys) // 2) + 1):
        run = 0
        for index in range(len(keys) - step):
            run = run + 1 if keys[index] == keys[index + step] else 0
            if run > length:
                first, period, length = index - run + 1, step, run
    if period == 0 or length < period or 2 * (length + period) < len(keys):
        return False
    return is_said_again(audio, words[first : first + length + period], period, start)


def is_said_again(audio: np.ndarray, words: Sequence[Word], period: int, start: float = 0.0) -> bool:
    """Whether a phrase that was written several times in a row is heard as often.

    Args:
        audio: float32 ``[n_samples]``, 16 kHz.
        words: The repeats of the phrase; the last may be broken off.
        period: Words of the phrase.
        start: Where the audio begins on the words' clock, seconds.
    """
    sayings = [words[at : at + period] for at in range(0, len(words), period)]
    if period < LEAST_WORDS:
        return False
    alike = []
    for said, again in pairwise(sayings):
        begin = said[0].start - start
        seconds = said[min(len(said), len(again)) - 1].end - said[0].start
        if seconds >= LEAST_SECONDS:
            alike.append(_likeness(audio, begin, again[0].start - start, seconds))
    return bool(alike) and float(np.median(alike)) >= SAME_SOUND


def _likeness(audio: np.ndarray, first: float, second: float, seconds: float) -> float:
    """The highest correlation of two stretches of sound, the second up to ``LATEST_FRAMES`` off."""
    here = _spectrogram(audio, first, seconds)
    there = _spectrogram(audio, second - LATEST_FRAMES * FRAME / SAMPLE_RATE, seconds, 2 * LATEST_FRAMES)
    if not len(here):
        return 0.0
    here = here - here.mean(axis=0)
    best = 0.0
    for lag in range(len(there) - len(here) + 1):
        other = there[lag : lag + len(here)] - there[lag : lag + len(here)].mean(axis=0)
        scale = float(np.sqrt(np.square(here).sum() * np.square(other).sum()))
        if scale > 0:
            best = max(best, float((here * other).sum()) / scale)
    return best


def _spectrogram(audio: np.ndarray, start: float, seconds: float, more: int = 0) -> np.ndarray:
    """Decibels of each band, float ``[n_frames, BANDS]``, and ``more`` frames; behind the end, silence."""
    first = round(start * SAMPLE_RATE)
    count = (int(seconds * SAMPLE_RATE) // FRAME + more) * FRAME
    samples = np.zeros(count, np.float32)
    held = audio[max(0, first) : max(0, first + count)]
    samples[max(0, -first) :][: len(held)] = held
    power = np.square(np.abs(np.fft.rfft(samples.reshape(-1, FRAME) * np.hanning(FRAME), axis=1)))
    bands = power[:, 1:].reshape(len(power), BANDS, -1).sum(axis=2)
    return np.asarray(10.0 * np.log10(bands + 1e-6 * max(float(bands.max(initial=0.0)), 1e-12)))
