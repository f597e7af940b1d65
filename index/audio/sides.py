"""Sides: channels or tracks that each carry speech of their own, as the two ends of a call do.

Mixed, talk at the same time is lost; so each is heard by itself. Two signals are sides of one conversation
where neither their loudness nor their waveforms go together. A voice that two microphones hear is loud in
both at the same moments, however far apart they are; a call's other end is at most a faint copy.

Measured is the whole file, while it is decoded: how loud each signal is every 16 ms, and how alike two of
them are twice a second. Pre-emphasis (differences of neighbouring samples) takes out hum and rumble.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from index.records import Span
from moss_audio.audio import SAMPLE_RATE

FRAME = 256
"""Samples whose loudness is measured together: 16 ms."""

BLOCK = 8192
"""Samples of which the first half is compared: about twice a second."""

LAG = 640
"""Samples by which one signal may come later than the other and still be alike: 40 ms, as between microphones
13 m apart, or from encoder to encoder."""

LATEST_ECHO = 37
"""Frames by which a call's other end may come back: 0.6 s."""

TOGETHER = 0.5
"""Correlation of loudness from which two signals are one sound. Two ends of calls measured up to 0.25, pairs
of microphones 0.4 to 1.0."""

COHERENT = 0.15
"""Correlation of waveforms, best lag of each block, from which sound is shared. Signals that have nothing in
common measured up to 0.11, pairs of microphones 0.5 to 1.0."""

SPREAD = 36.0
"""Decibels between the moments when one of two signals is louder and those when the other is, from which what
they share is only a faint copy: each then keeps 18 dB apart from the other's voice."""

STEADY = 4.0
"""Decibels by which a signal changes in loudness, up to which it is only hum or hiss."""

SILENT = -85.0
"""Decibels of full scale, after pre-emphasis, up to which there is nothing to be heard: the last of 16 bits
alone measured -87, speech that is 50 dB too quiet -80."""

CONTAINED = 0.3
"""Coherence with another signal from which a signal is part of that one, unless it is much fainter there."""

CONTAINED_SHARE = 0.75
"""Share of a signal's energy that has to be found in the other. Where one is a mix of both this measured 0.80
and more in nine of ten, and 0.31 or less where a microphone hears the other from loudspeakers."""

EXPLAINED = 0.8
"""Share of the variance of a signal's energy that the energies of others explain (R squared) where it is a
mix of them. Independent speech measured up to 0.3."""

TWIN = 0.9
"""Coherence of two signals from which they are the same, but for a little noise."""

OWN_OVER_MIX = 8.0
"""Times the energy of a mix (9 dB) from which a signal has a sound of its own."""

CONTAINED_LEVEL = 0.025
"""Energy, beside what is usual of each, from which it is not much fainter: -16 dB."""

LATEST_COPY = 1875
"""Frames by which a copy may come late: 30 s, as of a stream that was recorded beside its source."""

COPIED = 0.9
"""Correlation of loudness, at whatever delay, from which a signal may be a copy of another. A copy through a
codec at 24 kbit/s measured 0.97."""

SOONEST_COPY = 2
"""Frames from which a copy comes so late that mixing the two would be an echo: 32 ms."""

OWN_OVER_COPY = 2.0
"""Times the loudness of a copy (6 dB) from which a signal has a sound of its own."""

OWN_COPY_SECONDS = 0.6
"""Sound of its own from which a signal is no copy or mix; it is measured twice a second."""

OWN_OVER_FLOOR = 2.5
"""Times the loudness of a signal's pauses (8 dB) from which a quiet sound in them is no hiss."""

QUIET_OWN = 0.01
"""Loudness, beside what is usual of a signal, from which such a sound is looked at: -40 dB."""

QUIET_OWN_SECONDS = 1.0
"""Quiet sound of its own, between what a signal copies, from which it is no copy: somebody far from the
microphone. Only quarters of a second that are full of it count, so that clicks and knocks do not."""

COPY_DIFFERENCE = 4
"""Decibels by which a copy has to be louder than what it is a copy of, to be heard in its place."""


class Comparison:
    """What several signals are like, gathered while they are decoded: 10 MB of a signal in ten hours.

    Args:
        count: Number of signals, at least 2.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._last: np.ndarray | None = None
        self._waiting = np.zeros((count, 0), np.float32)
        self._samples = 0
        self._levels: list[np.ndarray] = []
        self._plain: list[np.ndarray] = []
        """Root mean square of each quarter of a second, without pre-emphasis and offset."""
        self._energies: list[np.ndarray] = []
        self._coherence: dict[tuple[int, int], list[np.ndarray]] = {
            pair: [] for pair in combinations(range(count), 2)
        }

    def add(self, rows: np.ndarray) -> None:
        """Take in the next samples, float32 ``[n_signals, n_samples]``, 16 kHz."""
        self._samples += rows.shape[1]
        waiting = np.concatenate([self._waiting, rows], axis=1)
        whole = waiting.shape[1] // BLOCK * BLOCK
        if whole:
            self._take(waiting[:, :whole])
        self._waiting = waiting[:, whole:]

    def finish(self) -> None:
        """Take in what is left of the last block."""
        if rest := self._waiting.shape[1]:
            self._take(np.pad(self._waiting, ((0, 0), (0, BLOCK - rest)), mode="edge"))
        self._waiting = self._waiting[:, :0]

    def _take(self, rows: np.ndarray) -> None:
        sharp = np.diff(rows, axis=1, prepend=rows[:, :1] if self._last is None else self._last)
        self._last = rows[:, -1:]
        self._levels.append(frame_levels(sharp))
        self._plain.append(rows.reshape(self.count, -1, 16 * FRAME).std(axis=2))
        halves = sharp.reshape(self.count, -1, BLOCK)[:, :, : BLOCK // 2]
        # Twice as long, so that the end of one is not compared with the beginning of the other.
        spectra = np.fft.rfft(halves * np.hanning(BLOCK // 2).astype(np.float32), BLOCK)
        energies = np.square(np.abs(spectra)).sum(axis=2) / (BLOCK // 2)
        self._energies.append(energies.astype(np.float32))
        for (first, second), found in self._coherence.items():
            together = np.fft.irfft(spectra[first] * np.conj(spectra[second]))
            near = np.abs(np.concatenate([together[:, : LAG + 1], together[:, -LAG:]], axis=1)).max(axis=1)
            scale = np.sqrt(energies[first]) * np.sqrt(energies[second])
            found.append((near / np.maximum(scale, 1e-12)).astype(np.float32))

    @property
    def levels(self) -> np.ndarray:
        """Loudness, float32 ``[n_signals, n_frames]``."""
        if len(self._levels) != 1:
            self._levels = [np.concatenate([np.zeros((self.count, 0), np.float32), *self._levels], axis=1)]
        return self._levels[0]

    @property
    def _block_energies(self) -> np.ndarray:
        """Energy of each block, float32 ``[n_signals, n_blocks]``."""
        if len(self._energies) > 1:
            self._energies = [np.concatenate(self._energies, axis=1)]
        return self._energies[0]

    def _coherent(self, first: int, second: int) -> np.ndarray:
        """How alike two signals are in each block, float32 ``[n_blocks]``."""
        found = self._coherence[min(first, second), max(first, second)]
        if len(found) > 1:
            found[:] = [np.concatenate(found)]
        return found[0]

    def idle(self) -> set[int]:
        """Signals without anything to be heard: silent, or only hum or hiss."""
        if not self._plain:
            return set(range(self.count))
        idle = np.ones(self.count, bool)
        # Hum covers speech without pre-emphasis, and hiss with it.
        for levels in (_quarters(self.levels), np.concatenate(self._plain, axis=1)):
            # A side may be heard for a few seconds in an hour.
            low, high, highest = np.percentile(_decibels(levels), (5, 99.5, 99.9), axis=1)
            idle &= (highest < SILENT) | (high - low < STEADY)
        return set(np.flatnonzero(idle).tolist())

    def are_apart(self, first: int, second: int) -> bool:
        """Whether two signals are sides of one conversation, as far as loudness and waveforms tell."""
        late = self._late(first, second)
        if late is not None and (_has_quiet_own(*late) or _has_quiet_own(*reversed(late))):
            # Mixed, somebody who is far quieter than the copy would be lost under it.
            return True
        levels = self.levels[[first, second]]
        loud = levels > 0.05 * np.percentile(levels, 95, axis=1, keepdims=True)
        # What is silent in both says nothing, and would count as alike.
        some = np.repeat(loud.any(axis=0).reshape(-1, BLOCK // FRAME).any(axis=1), BLOCK // FRAME)
        if not some.any() or _correlation(*levels[:, some]) >= TOGETHER:
            return False
        if self._shared(first, second) < COHERENT:
            return True
        difference = np.subtract(*_decibels(levels[:, loud.any(axis=0)]))
        return bool(np.subtract(*np.percentile(difference, (99, 1))) >= SPREAD)

    def contains(self, whole: int, part: int, share: float = CONTAINED_SHARE) -> bool:
        """Whether nearly all that is heard in one signal is heard in another as well; it is in itself."""
        if whole == part:
            return True
        return self._found((whole,), part) >= share or self.copies(whole, part)

    def _found(self, wholes: Sequence[int], part: int) -> float:
        """The share of what is heard in one signal that is heard in some of others as well."""
        energies = self._block_energies[[part, *wholes]]
        energies = energies / np.maximum(np.percentile(energies, 95, axis=1, keepdims=True), 1e-12)
        weights = np.minimum(energies[0], 1.0) * (energies[0] > 0.01)
        if not weights.any():
            return 0.0
        same = np.zeros(len(weights), bool)
        for whole, energy in zip(wholes, energies[1:], strict=True):
            same |= (self._coherent(whole, part) >= CONTAINED) & (energy >= CONTAINED_LEVEL * energies[0])
        return float(np.average(same, weights=weights))

    def copies(self, original: int, other: int) -> bool:
        """Whether a signal is another one over again, sooner or later, and nothing else."""
        late = self._late(original, other)
        return late is not None and not _has_own(*late)

    def _late(self, original: int, other: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The loudness of two signals, set to go together, where the one is mostly the other sooner or later;
        that of the original is as loud as its copy. None for any other two."""
        levels = self.levels[[original, other], : self._samples // FRAME]
        correlation, lag = _best_lag(*levels)
        if correlation < COPIED or abs(lag) < SOONEST_COPY:
            return None
        first, second = levels[:, max(0, -lag) :][0], levels[:, max(0, lag) :][1]
        frames = min(len(first), len(second))
        first, second = first[:frames], second[:frames]
        loud = first > LOUD_SIDE * np.percentile(first, 95)
        gain = np.median(second[loud] / first[loud]) if loud.any() else np.float32(0.0)
        return gain * first, second

    def sides(self, signals: Sequence[int]) -> list[tuple[int, ...]]:
        """Signals in groups: those of one group belong together, as two microphones before one speaker do.

        What is a copy of another one, or a mix of others that are sides, is in none of them.
        """
        parts: list[int] = []
        loudness = _decibels(np.percentile(self.levels, 95, axis=1))
        for signal in signals:
            copies = (one for one in parts if self.copies(one, signal) and self.copies(signal, one))
            known = next(copies, None)
            if known is None:
                parts.append(signal)
            elif loudness[signal] > loudness[known] + COPY_DIFFERENCE:
                parts[parts.index(known)] = signal
        apart = {pair for pair in combinations(parts, 2) if self.are_apart(*pair)}
        for signal in tuple(parts):
            # The same mix may be there twice, as the two channels of a stereo one.
            others = [part for part in parts if part != signal and self._shared(part, signal) < TWIN]
            if self._is_mix(signal, others, apart):
                parts.remove(signal)
        near = {
            part: {one for one in parts if one != part and (min(one, part), max(one, part)) not in apart}
            for part in parts
        }
        # What goes together with two sides joins the one that it has more of, and does not join the two.
        between = [
            part for part in parts if any(pair in apart for pair in combinations(sorted(near[part]), 2))
        ]
        groups: list[tuple[int, ...]] = []
        for part in (*(one for one in parts if one not in between), *between):
            joined = [group for group in groups if near[part].intersection(group)]
            if part in between and joined:
                alike = {group: max(self._shared(part, one) for one in group) for group in joined}
                joined = [max(joined, key=lambda group: alike[group])]
            groups = [group for group in groups if group not in joined]
            groups.append((*(one for group in joined for one in group), part))
        return sorted(tuple(sorted(group)) for group in groups)

    def _is_mix(self, signal: int, others: Sequence[int], apart: set[tuple[int, int]]) -> bool:
        """Whether a signal is what several sides say and nothing else.

        It may be a mix of them, or what comes through to a microphone that nobody uses. Then its energy is a
        sum of shares of theirs.
        """
        if len(others) < 2:
            return False
        from sklearn.linear_model import LinearRegression

        energy, parts = (
            self._block_energies[signal].astype(float),
            self._block_energies[others].T.astype(float),
        )
        model = LinearRegression(positive=True).fit(parts, energy)
        if model.score(parts, energy) < EXPLAINED:
            return False
        shares = model.coef_ * parts.mean(axis=0)
        used = [other for other, share in zip(others, shares, strict=True) if share > 0.05 * energy.mean()]
        if not any(pair in apart for pair in combinations(sorted(used), 2)):
            return False
        own = energy > OWN_OVER_MIX * model.predict(parts)
        own &= energy > 0.1 * np.percentile(energy, 95)
        return bool(own.sum() * BLOCK / SAMPLE_RATE < OWN_COPY_SECONDS)

    def _shared(self, first: int, second: int) -> float:
        """Mean coherence, by how loud the blocks are."""
        energies = self._block_energies[[first, second]]
        high = np.percentile(energies, 95, axis=1, keepdims=True)
        weights = np.minimum(energies / np.maximum(high, 1e-12), 1.0).sum(axis=0)
        weights[weights < 0.1] = 0.0
        return float(np.average(self._coherent(first, second), weights=weights)) if weights.any() else 0.0


HUM_FRAME, HUM_BANDS = 2048, 256
"""Samples of a spectrum in which hum is sought, 128 ms, and its bands of 31 Hz."""

HUM = 0.97
"""How alike the spectra of a signal are, 1 for the same, from which it is one noise and nothing else, even
where it comes and goes. Mains hum that swells, a telephone's buzz and clicks measured 0.99 and more, white
noise and drums up to 0.95, chords 0.88, speech 0.65."""


class Hum:
    """Whether a signal is one noise and nothing else, gathered block by block."""

    def __init__(self) -> None:
        self._spectra = np.zeros(HUM_BANDS)
        self._loudness = 0.0

    def add(self, samples: np.ndarray) -> None:
        """Take in more samples, float32 ``[n_samples]``, 16 kHz; what fills no spectrum is left out."""
        frames = samples[: len(samples) // HUM_FRAME * HUM_FRAME].reshape(-1, HUM_FRAME)
        power = np.square(np.abs(np.fft.rfft(frames * np.hanning(HUM_FRAME), axis=1)))[:, 1:]
        bands = np.sqrt(power.reshape(len(frames), HUM_BANDS, -1).sum(axis=2))
        self._spectra += bands.sum(axis=0)
        self._loudness += float(np.linalg.norm(bands, axis=1).sum())

    @property
    def is_hum(self) -> bool:
        """Whether it was, so far; silence is."""
        return float(np.linalg.norm(self._spectra)) >= HUM * self._loudness


def _has_own(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a signal has a sound of its own, by its loudness and that of what it copies."""
    near = np.maximum.reduce([np.roll(first, step) for step in (-1, 0, 1)])
    own = (second > OWN_OVER_COPY * near) & (second > 0.1 * np.percentile(second, 95))
    return bool(own.sum() * FRAME / SAMPLE_RATE >= OWN_COPY_SECONDS) or _has_quiet_own(first, second)


def _has_quiet_own(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether there is a quiet sound in a signal's pauses that is not in those of what it copies."""
    if not len(second):
        return False
    # Rooms ring on.
    before = np.maximum(_loudest_before(first, 1 + LATEST_ECHO), np.roll(first, -1))
    low, high = np.percentile(second, (10, 95))
    own = (second > OWN_OVER_COPY * before) & (second > max(OWN_OVER_FLOOR * low, QUIET_OWN * high))
    quarters = _quarters(own[None].astype(np.float32))
    return bool((quarters >= 0.5).sum() * 16 * FRAME / SAMPLE_RATE >= QUIET_OWN_SECONDS)


def frame_levels(sharp: np.ndarray) -> np.ndarray:
    """Root mean square of each frame of signals, float32 ``[n_signals, n_samples]``; whole frames only."""
    whole = sharp.shape[1] // FRAME * FRAME
    return np.sqrt(np.square(sharp[:, :whole].reshape(len(sharp), -1, FRAME)).mean(axis=2))


COPY_PERCENTILE = 20
"""While one side speaks, the other listens for at least this part of the time, in percent."""

LOUD_SIDE = 0.3
"""Share of a side's full loudness from which what comes through to another side is measured."""

THROUGH = 2.2
"""Times the usual loudness of a copy (7 dB) up to which it is taken to be one."""

CERTAINLY_OWN = 0.3
"""Loudness of a side, beside its own full loudness, that is its own speech whatever the other side says,
unless a copy is certain."""

STEADY_COPY = 1.6
"""Times that half of what comes through exceeds its quietest fifth, up to which it is certain to be a copy:
copies measured 1.1 to 1.2, speech at the same time 2 and more."""

FINE_COPY = 0.25
"""Correlation of the fine course of loudness from which a side has a late copy of another one. At any delay
up to 30 s independent speech measured up to 0.09, copies 0.4 (a tenth as loud as what is said) to 0.97."""

FINE_FRAMES = 15
"""Frames over which the coarse course of loudness, taken out for that, is the mean: a quarter of a second."""

NEAR_FRAMES = 2
"""Frames around the delay of a late copy in which its sound may lie."""

FINE_SECONDS = 20.0
"""Shorter recordings are alike by chance."""

OWN_SECONDS = 0.15
"""Least of a side's own sound in a stretch of speech."""

WITHIN_SECONDS = 1.0
"""A shorter stretch between its own sound is its own as well: soft syllables while the other side is loud."""

EDGE_SECONDS = 0.3
"""Added on both sides of it: syllables begin and end softly."""


def own_speech(levels: np.ndarray, speech: Sequence[Sequence[Span]]) -> list[list[Span]]:
    """The speech of each side without what is only a copy of another side's, as an echo or crosstalk.

    Args:
        levels: Loudness of each side, float32 ``[n_sides, n_frames]``, after pre-emphasis (``frame_levels``).
        speech: What a detector found on each side.

    Returns:
        Spans in order and disjoint, for each side.
    """
    quarters = _quarters(levels)
    full = np.percentile(quarters, 99.9, axis=1) if quarters.shape[1] else np.zeros(len(levels))
    found = []
    for side, spans in enumerate(speech):
        own = np.ones(levels.shape[1], bool)
        for other in range(len(levels)):
            if other == side or full[other] <= 0 or full[side] <= 0:
                continue
            copied, is_certain = _copied(levels[side], levels[other], LOUD_SIDE * full[other])
            through = THROUGH * copied
            if not is_certain:
                through = min(through, CERTAINLY_OWN * full[side] / full[other])
            own &= levels[side] > through * _loudest_before(levels[other], 1 + LATEST_ECHO)
            if lag := _late_copy(levels[other], levels[side]):
                late = _later(levels[other], lag - NEAR_FRAMES)
                copied, _ = _copied(levels[side], late, LOUD_SIDE * full[other], 2 * NEAR_FRAMES)
                own &= levels[side] > THROUGH * copied * _loudest_before(late, 1 + 2 * NEAR_FRAMES)
        found.append([part for span in spans for part in _own_parts(span, own)])
    return found


def _copied(
    levels: np.ndarray, other: np.ndarray, loud: float, latest: int = LATEST_ECHO
) -> tuple[float, bool]:
    """How loud a copy of another side is, beside that side, at the delay that fits best; 0 for none.

    While the other side speaks, this one is mostly silent, and what is heard then is the copy. Where it is
    always about as loud, it is certain to be one.
    """
    frames = np.flatnonzero(other > loud)
    frames = frames[:: 1 + len(frames) // 50_000]
    best, half = 0.0, np.inf
    for lag in range(latest + 1):
        there = frames[frames + lag < len(levels)]
        if len(there):
            low, middle = np.percentile(levels[there + lag] / other[there], (COPY_PERCENTILE, 50))
            best, half = max((best, half), (float(low), float(middle)))
    return best, half <= STEADY_COPY * best


def _late_copy(original: np.ndarray, levels: np.ndarray) -> int:
    """By how many frames a side repeats another one later than an echo would; 0 where it does not."""
    if len(levels) * FRAME < FINE_SECONDS * SAMPLE_RATE:
        return 0
    correlation, lag = _best_lag(_fine(original), _fine(levels))
    return lag if correlation >= FINE_COPY and lag > LATEST_ECHO else 0


def _fine(levels: np.ndarray) -> np.ndarray:
    """The course of loudness from syllable to syllable: whose turn it is says nothing."""
    from scipy.ndimage import uniform_filter1d

    course = np.sqrt(levels)
    return course - uniform_filter1d(course, FINE_FRAMES)


def _later(levels: np.ndarray, frames: int) -> np.ndarray:
    return np.pad(levels, (frames, 0))[: len(levels)] if frames else levels


def _own_parts(span: Span, own: np.ndarray) -> list[Span]:
    rate = SAMPLE_RATE / FRAME
    first, last = int(span.start * rate), min(len(own), int(np.ceil(span.end * rate)))
    edge = round(EDGE_SECONDS * rate)
    marked = np.flatnonzero(own[first:last])
    parts: list[Span] = []
    if not len(marked):
        return parts
    for run in np.split(marked, np.flatnonzero(np.diff(marked) > round(WITHIN_SECONDS * rate)) + 1):
        if len(run) < OWN_SECONDS * rate:
            continue
        start, end = (first + int(run[0]) - edge) / rate, (first + int(run[-1]) + 1 + edge) / rate
        parts.append(Span(max(span.start, start), min(span.end, end)))
    return parts


def _loudest_before(levels: np.ndarray, frames: int) -> np.ndarray:
    """The loudest of some frames up to each: those from which a copy could come."""
    padded = np.pad(levels, (frames - 1, 0))
    loudest = padded
    width = 1
    while width < frames:
        step = min(width, frames - width)
        loudest = np.maximum(loudest[step:], loudest[: len(loudest) - step])
        width += step
    return loudest


def _quarters(levels: np.ndarray) -> np.ndarray:
    """Mean loudness of each quarter of a second."""
    whole = levels.shape[1] // 16 * 16
    return levels[:, :whole].reshape(len(levels), -1, 16).mean(axis=2)


def _decibels(levels: np.ndarray) -> np.ndarray:
    return 20.0 * np.log10(np.maximum(levels, 1e-5))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The highest correlation of two loudness curves, at any lag up to the latest echo."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    if scale < 1e-12:
        return 0.0
    frames = len(first)
    lags = range(-min(LATEST_ECHO, frames - 1), min(LATEST_ECHO, frames - 1) + 1)
    return (
        max(
            float(
                np.dot(first[max(0, lag) : frames + min(0, lag)], second[max(0, -lag) : frames - max(0, lag)])
            )
            for lag in lags
        )
        / scale
    )


def _best_lag(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """The best correlation of two courses of loudness, and by how many frames the second comes later."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    if scale < 1e-12:
        return 0.0, 0
    most = min(LATEST_COPY, len(first) - 1)
    size = 1 << (len(first) + most).bit_length()
    together = np.fft.irfft(np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size)), size)
    near = np.concatenate([together[size - most :], together[: most + 1]]) if most else together[:1]
    best = int(near.argmax())
    return float(near[best]) / scale, best - most
