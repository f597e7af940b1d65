"""Whether an imported transcript fits its media: the clock against the length, and against detected speech.

Where a transcript's clock began earlier or later than the media, its lines and the detected speech have the
same pattern of talk and pauses, moved. The lag at which both agree best is that of the peak of their
cross-correlation; it counts only where they agree well there, and not without it.

A clock that ran faster or slower shows in parts of the recording: the lag grows along it. A lag that leaps
at one moment means that one of the two has a pause or a cut that the other lacks; that fits nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from index.imports.cues import interpolated
from index.imports.transcript_files import move
from index.recording_errors import TranscriptError
from index.records import Segment, Span
from moss_audio.timestamps import clock

BINS_A_SECOND = 20
SHORTEST_SECONDS = 20.0
"""Shorter recordings have too few pauses to compare."""

MOST_LAG_SECONDS = 900.0

LEAST_AGREEMENT = 0.3
CHANCE = 2.2
"""A lower correlation is no sign; nor is one below ``CHANCE`` / √n with n stretches of speech: patterns of so
many that have nothing to do with each other reach about 1.4 / √n at their best lag."""

MUCH_BETTER = 2.0
"""How many times the correlation without a lag it must be for the transcript to be moved."""

NEAR_SECONDS = 0.5
"""Times of subtitles are off by as much; what agrees within it fits as it is."""

RATES = (1.001, 1 / 1.001, 25 / 24, 24 / 25, 25 / 23.976, 23.976 / 25)
"""How much faster clocks run that count frames of video at another rate than the media's."""

BETTER_RATE = 1.3
"""How many times better a transcript must agree at another rate for it to be that of its clock."""

PART_SECONDS, PART_LAG_SECONDS, MOST_PARTS = 60.0, 40.0, 60
"""Parts in which the lag is looked for, each a third after the one before it; how far it may be from that of
the whole, seconds; and by how many a long recording is divided, so that it stays quick."""
PART_AGREEMENT, PART_CHANCE = 0.5, 2.0
"""Correlation from which the lag of a part is clear; nor is one below ``PART_CHANCE`` / √n, as above. The
latter also holds for the two sides of a leap, which is looked for as far."""
LEAST_PARTS, MOSTLY = 5, 0.8
"""Clear parts that are needed, and the share of them that must agree."""
MOST_DRIFT = 0.005
"""A clock that runs faster or slower than this, as a share, is not a recorder's."""
LEAP_SECONDS, COARSE_BINS = 2.0, 10
"""The least leap of the lag that is looked for, and how finely: bins a second."""

BEYOND_SECONDS, BEYOND_SHARE = 2.0, 0.01
"""How far the last line may go beyond the media's end: players and recorders round."""


@dataclass(frozen=True)
class Clock:
    """How a time of the transcript is brought onto the media's clock: ``rate * time + lag`` seconds."""

    lag: float = 0.0
    rate: float = 1.0

    def at(self, seconds: float) -> float:
        """A time of the transcript on the media's clock; it may lie before 0."""
        return self.rate * seconds + self.lag


def find_clock(
    segments: Sequence[Segment], speech: Sequence[Span], duration: float
) -> tuple[Clock, tuple[float, float] | None]:
    """The media's clock for a transcript, and where both come apart.

    Args:
        segments: The transcript, on its own clock.
        speech: Detected speech, on the media's.
        duration: The media's length, seconds.

    Returns:
        The clock, unchanged where the transcript fits and where nothing can be said; where the lag leaps,
        also the second of the media at which it does and by how much, seconds.
    """
    spoken = [Span(segment.start, segment.end) for segment in segments if segment.kind == "speech"]
    if duration < SHORTEST_SECONDS or not spoken or not speech:
        return Clock(), None
    heard = _activity(speech, max([duration, *(span.end for span in spoken)]))
    lag, agreement, _ = _lag(spoken, heard)
    rate = 1.0
    # The transcript's own rate counts unless another one is clearly better.
    for other in RATES:
        there, better, is_clear = _lag(_at_rate(spoken, other), heard)
        if is_clear and better > BETTER_RATE * agreement:
            lag, agreement, rate = there, better, other
    clock = _with_drift(Clock(lag, rate), spoken, heard, duration)
    moved = [Span(max(0.0, clock.at(span.start)), max(0.0, clock.at(span.end))) for span in spoken]
    return clock, _leap(moved, heard)


def _with_drift(found: Clock, spoken: Sequence[Span], heard: np.ndarray, duration: float) -> Clock:
    """A clock with the pace at which the lag that remains in parts of the recording grows along it."""
    parts = _lags_of_parts(_at_rate(spoken, found.rate), heard, found.lag, duration)
    if len(parts) < LEAST_PARTS:
        return found
    at, lags = np.array(parts).T
    slope, start = _line(at, lags)
    along = float(np.mean(np.abs(start + slope * at - lags) <= NEAR_SECONDS))
    if along < MOSTLY or abs(slope) > MOST_DRIFT:
        return found
    # The parts' lags are those that remain once the lag and the rate were applied.
    drifts = abs(slope) * duration > NEAR_SECONDS
    if not drifts and abs(float(np.median(lags))) <= NEAR_SECONDS:
        return found
    slope = slope if drifts else 0.0
    start = start if drifts else float(np.median(lags))
    # media = rate * time + lag + start + slope * media
    scale = 1 / (1 - slope)
    return Clock((found.lag + start) * scale, found.rate * scale)


def _at_rate(spans: Sequence[Span], rate: float) -> list[Span]:
    return [Span(span.start * rate, span.end * rate) for span in spans]


def _lag(spoken: Sequence[Span], heard: np.ndarray) -> tuple[float, float, bool]:
    """How much later (seconds) a transcript must be to fit, 0 where it does or nothing can be said.

    Also how well it fits then, and whether that is clear.
    """
    written = _activity(spoken, (len(heard) - 1) / BINS_A_SECOND)
    length = len(written) / BINS_A_SECOND
    heard = np.pad(heard, (0, max(0, len(written) - len(heard))))
    if min(written.std(), heard.std()) < 0.05:
        return 0.0, 0.0, False
    agreement = _correlation(written, heard)
    most = int(min(MOST_LAG_SECONDS, length / 2) * BINS_A_SECOND)
    # Lags -most … most, 0 in the middle.
    agreement = np.concatenate([agreement[-most:], agreement[: most + 1]])
    best = int(np.argmax(agreement))
    near = round(NEAR_SECONDS * BINS_A_SECOND)
    now = float(agreement[most - near : most + near + 1].max())
    clear = max(LEAST_AGREEMENT, CHANCE / min(_stretches(written), _stretches(heard)) ** 0.5)
    if agreement[best] < max(clear, MUCH_BETTER * now):
        return 0.0, now, now >= clear
    return (best - most) / BINS_A_SECOND, float(agreement[best]), True


def _correlation(written: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Pearson's correlation of two patterns of one length at every lag; negative ones at the end."""
    size = 1 << int(2 * len(written) - 1).bit_length()
    spectrum = np.fft.rfft(heard - heard.mean(), size) * np.conj(np.fft.rfft(written - written.mean(), size))
    return np.fft.irfft(spectrum, size) / (len(written) * written.std() * heard.std())


def _lags_of_parts(
    spoken: Sequence[Span], heard: np.ndarray, lag: float, duration: float
) -> list[tuple[float, float]]:
    """Where parts of the recording lie (their middle, seconds), and what lag remains; clear ones alone."""
    around = max(PART_LAG_SECONDS, MOST_DRIFT * duration)
    written = _activity([Span(span.start + lag, span.end + lag) for span in spoken], duration + around)
    found = []
    length = max(PART_SECONDS, duration / MOST_PARTS)
    for begin in np.arange(0.0, duration - length + 1e-9, length / 3):
        start, end = round(begin * BINS_A_SECOND), round((begin + length) * BINS_A_SECOND)
        beside = round(around * BINS_A_SECOND)
        part = heard[start:end]
        wide = np.pad(written, (beside, beside))[start : end + 2 * beside]
        if len(part) < end - start or part.std() < 0.05:
            continue
        # Means and deviations of every window at once, from running sums.
        total = np.concatenate([[0.0], np.cumsum(wide)])
        mean = (total[len(part) :] - total[: -len(part)]) / len(part)
        deviation = np.sqrt(np.maximum(mean * (1 - mean), 1e-4))
        size = 1 << int(len(wide) + len(part)).bit_length()
        spectrum = np.fft.rfft(wide, size) * np.conj(np.fft.rfft(part - part.mean(), size))
        agreement = np.fft.irfft(spectrum, size)[: len(mean)] / (len(part) * deviation * part.std())
        best = int(np.argmax(agreement))
        clear = max(
            PART_AGREEMENT,
            PART_CHANCE / min(_stretches(part), _stretches(wide[best : best + len(part)])) ** 0.5,
        )
        if agreement[best] >= clear:
            found.append(((start + end) / 2 / BINS_A_SECOND, (beside - best) / BINS_A_SECOND))
    return found


def _line(at: np.ndarray, lags: np.ndarray) -> tuple[float, float]:
    """Slope and start of the line through most points (Theil 1950, Sen 1968: medians, so few mislead)."""
    first, second = np.triu_indices(len(at), 1)
    slope = float(np.median((lags[second] - lags[first]) / (at[second] - at[first])))
    return slope, float(np.median(lags - slope * at))


def _leap(spoken: Sequence[Span], heard: np.ndarray) -> tuple[float, float] | None:
    """Where the lag leaps and by how much, seconds; None where it does not.

    Of all moments and leaps, those are taken at which both patterns agree best if all before the moment, or
    all after it, is moved by the leap. It is one where each side then agrees clearly, and much better than if
    it were moved as the other side is.
    """
    seconds = max([len(heard) / BINS_A_SECOND, *(span.end for span in spoken)])
    bins = int(seconds * COARSE_BINS) + 1
    written, heard = _coarse(_activity(spoken, seconds), bins), _coarse(heard, bins)
    if min(written.std(), heard.std()) < 0.05:
        return None
    spread = written - written.mean()
    # So that nothing is gained by moving a side away from the other pattern.
    around = np.pad(heard - heard.mean(), round(PART_LAG_SECONDS * COARSE_BINS))
    middle = (len(around) - len(heard)) // 2
    as_it_is = np.cumsum(spread * around[middle : middle + len(spread)])
    best, gained = (0, 0, True), 0.0
    for lag in range(-middle, middle + 1):
        if abs(lag) < LEAP_SECONDS * COARSE_BINS:
            continue
        gain = np.cumsum(spread * around[middle + lag : middle + lag + len(spread)]) - as_it_is
        before, after = int(np.argmax(gain)), int(np.argmin(gain))
        for at, more, is_before in ((before, gain[before], True), (after, gain[-1] - gain[after], False)):
            if more > gained:
                best, gained = (at + 1, lag, is_before), float(more)
    at, lag, is_before = best
    lags = (lag, 0) if is_before else (0, lag)
    first = _is_clear(written[:at], around[: at + 2 * middle], middle, *lags)
    if not first or not _is_clear(written[at:], around[at:], middle, *lags[::-1]):
        return None
    # On the media's clock, as it is on this side of the leap.
    return (at + lags[0]) / COARSE_BINS, (lags[1] - lags[0]) / COARSE_BINS


def _coarse(active: np.ndarray, bins: int) -> np.ndarray:
    """A pattern with ``COARSE_BINS`` bins a second, each the mean of those in it, so many in all."""
    width = BINS_A_SECOND // COARSE_BINS
    padded = np.pad(active, (0, max(0, bins * width - len(active))))
    return padded[: bins * width].reshape(bins, width).mean(axis=1)


def _is_clear(written: np.ndarray, around: np.ndarray, middle: int, lag: int, other: int) -> bool:
    """Whether a side agrees clearly at one lag, and much better than near another one.

    ``around`` is the other pattern with ``middle`` bins more on both sides.
    """
    if len(written) < SHORTEST_SECONDS * COARSE_BINS:
        return False

    def agreement(at: int) -> float:
        there = around[middle + at : middle + at + len(written)]
        spreads = len(written) * written.std() * there.std()
        return float(np.dot(written - written.mean(), there - there.mean()) / spreads) if spreads else 0.0

    beside = around[middle : middle + len(written)]
    stretches = min(_stretches(written > 0.5), _stretches(beside > beside.mean()))
    clear, best = max(LEAST_AGREEMENT, PART_CHANCE / stretches**0.5), agreement(lag)
    near = round(NEAR_SECONDS * COARSE_BINS)
    rest = max(agreement(at) for at in range(max(-middle, other - near), min(middle, other + near) + 1))
    return best >= max(clear, MUCH_BETTER * rest)


def _activity(spans: Sequence[Span], length: float) -> np.ndarray:
    """Whether somebody speaks, float64 ``[n_bins]``."""
    active = np.zeros(int(length * BINS_A_SECOND) + 1)
    for span in spans:
        first, last = round(span.start * BINS_A_SECOND), round(span.end * BINS_A_SECOND)
        active[max(0, first) : max(0, first + 1, last)] = 1.0
    return active


def _stretches(active: np.ndarray) -> int:
    """How many times somebody begins to speak."""
    return max(1, int(np.count_nonzero(np.diff(active, prepend=0.0) > 0)))


def fit_to_media(
    segments: Sequence[Segment], speech: Sequence[Span], duration: float, media: str
) -> tuple[Callable[[Segment], Segment], Clock]:
    """How a transcript comes onto its media's clock, with interpolated words where somebody speaks.

    Args:
        segments: The transcript, on its own clock.
        speech: Detected speech.
        duration: The media's length, seconds.
        media: The media file's name.

    Returns:
        What brings one of its segments there, and the clock that it does it by.

    Raises:
        TranscriptError: The transcript begins before the media, goes on after it, or fits a part of it alone.
    """
    found, leap = find_clock(segments, speech, duration)
    if leap is not None:
        at, seconds = leap
        way = "later" if seconds > 0 else "earlier"
        raise TranscriptError(
            f"The transcript fits {media} until about {clock(at)}; after that the same words come "
            f"{abs(seconds):.0f} s {way} in the file, so one of the two was paused or cut there. "
            "Nothing was changed."
        )
    spoken = [segment for segment in segments if segment.kind == "speech"] or list(segments)
    room = max(BEYOND_SECONDS, BEYOND_SHARE * duration)
    first = min((found.at(segment.start) for segment in spoken), default=0.0)
    if any(found.at(segment.end) < -BEYOND_SECONDS for segment in spoken):
        raise TranscriptError(
            f"The transcript begins {clock(-first)} before {media} does: the beginning of the file was cut "
            "off. Nothing was changed."
        )
    moved = [_moved(segment, found) for segment in segments]
    last = max((segment.end for segment in moved), default=0.0)
    first_beyond = max((segment.start for segment in moved), default=0.0)
    if last > duration + room or first_beyond > duration:
        raise TranscriptError(
            f"The transcript goes on until {clock(last)}, but {media} ends at {clock(duration)}: it is "
            "another recording, or its clock began at another time. Nothing was changed."
        )

    def fit(segment: Segment) -> Segment:
        return _within(_respread(_moved(segment, found), speech), duration)

    return fit, found


def _moved(segment: Segment, found: Clock) -> Segment:
    """A segment on the media's clock; none begins before 0."""
    if found == Clock():
        return segment
    if found.rate == 1.0:
        return move(segment, found.lag)

    def at(seconds: float) -> float:
        return round(max(0.0, found.at(seconds)), 3)

    words = tuple(replace(word, start=at(word.start), end=at(word.end)) for word in segment.words)
    return replace(segment, start=at(segment.start), end=at(segment.end), words=words)


def _respread(segment: Segment, speech: Sequence[Span]) -> Segment:
    """A segment with its words laid on the speech in it, where their times were interpolated anyway."""
    if not segment.words or any(word.probability > 0.0 for word in segment.words):
        return segment
    return replace(segment, words=interpolated(segment.text, segment.start, segment.end, speech))


def _within(segment: Segment, duration: float) -> Segment:
    if segment.end <= duration:
        return segment
    words = tuple(
        replace(word, start=min(word.start, duration), end=min(word.end, duration)) for word in segment.words
    )
    return replace(segment, end=max(segment.start, duration), words=words)
