"""What is heard of a file: one mix, or several signals each on its own, channels or audio tracks.

A player plays the track that is flagged as the default. It may be silent, or one of several: a microphone
recorded beside the sound of the desktop, or a film in two languages. And the two channels of a track may be
the two ends of a call. ``index.audio.sides`` tells these apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, zip_longest
from pathlib import Path

import numpy as np

from index.audio.sides import BLOCK, FRAME, SILENT, Comparison
from index.recording_errors import Cancelled
from index.records import Span
from moss_audio.audio import SAMPLE_RATE, AudioStream, DecodeReport
from moss_audio.channels import ChannelMixer
from moss_audio.errors import AudioError

MOST_SIDES = 7
"""Sides that are heard each on its own: FLAC has eight channels, and with more than ``MOST_PLAIN`` of them
players take one for a subwoofer's, which some leave out."""

MOST_PLAIN, SUBWOOFER = 5, 3
"""From how many sides on the channel of this number (from 0) is left silent."""

WHOLE_SHARE = 0.9
"""Share of the default track that has to be found in another one which is heard in its place."""

MOST_COMPARED = 8
"""Tracks that are compared; more are not heard."""

PAUSE_SECONDS = 2.0
"""Shorter pauses do not end a stretch of sound."""

AT_ONCE = 16 * BLOCK
"""Samples of each signal that are read at a time: 8 s."""


@dataclass(frozen=True)
class Signal:
    """What becomes one channel of the copy.

    Attributes:
        track: Number of the audio track, from 0.
        channels: The channels of it that make up the signal; empty where all of them do.
    """

    track: int
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Heard:
    """What is heard of a file.

    Attributes:
        signals: What is heard, each signal on its own; the track that a player plays comes first.
        others: Numbers of the tracks that have another sound and are not heard.
        spans: Where those have any, seconds.
    """

    signals: tuple[Signal, ...]
    others: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()

    @property
    def tracks(self) -> tuple[int, ...]:
        """Numbers of the audio tracks that are heard, from 0."""
        return tuple(dict.fromkeys(signal.track for signal in self.signals))

    @property
    def places(self) -> tuple[int, ...]:
        """The channel of the copy that each signal is on."""
        count = len(self.signals)
        return tuple(place + (count > MOST_PLAIN and place >= SUBWOOFER) for place in range(count))

    def placed(self, signals: np.ndarray) -> np.ndarray:
        """The channels of the copy, float32 ``[n_channels, n_samples]``, with each signal in its place."""
        places = list(self.places)
        if places == list(range(len(signals))):
            return signals
        rows = np.zeros((places[-1] + 1, signals.shape[1]), np.float32)
        rows[places] = signals
        return rows


@dataclass
class Signals:
    """The signals of a file that are heard, read once from beginning to end.

    Args:
        path: The media file.
        heard: What of it is heard.
        cancelled: Asked while a block is waited for.

    Attributes:
        reports: What became of each track; final when ``blocks`` has ended.
    """

    path: Path
    heard: Heard
    cancelled: Callable[[], bool] = lambda: False
    reports: list[DecodeReport] = field(default_factory=list)

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 ``[n_channels, n_samples]`` blocks of a copy, 16 kHz, in playing order.

        Raises:
            AudioError: Nothing can be decoded.
            Cancelled: ``cancelled()`` became true.
        """
        heard = self.heard
        groups = [
            [signal.channels for signal in heard.signals if signal.track == track] for track in heard.tracks
        ]
        with ExitStack() as stack:
            streams = [
                stack.enter_context(
                    AudioStream(self.path, track, not any(channels), partial(check, self.cancelled))
                )
                for track, channels in zip(heard.tracks, groups, strict=True)
            ]
            signals = [_signals(stream.blocks(), own) for stream, own in zip(streams, groups, strict=True)]
            counts = [len(own) for own in groups]
            for block in signals[0] if len(signals) == 1 else side_by_side(signals, counts):
                yield heard.placed(block)
            self.reports = [stream.report for stream in streams]


def _signals(blocks: Iterator[np.ndarray], groups: Sequence[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """The signals of a track, float32 ``[n_signals, n_samples]`` blocks.

    Args:
        blocks: The track, mixed where no group names channels, else all of its channels.
        groups: The channels of each signal.
    """
    mixers = [ChannelMixer(len(group), SAMPLE_RATE) for group in groups]
    for block in blocks:
        if not any(groups):
            yield block[np.newaxis]
        elif len(block) <= max(max(group) for group in groups):
            # What has too few channels for a while is the first one's.
            signals = np.zeros((len(groups), block.shape[1]), np.float32)
            signals[0] = block.mean(axis=0, dtype=np.float32)
            yield signals
        else:
            yield np.stack(
                [mixer.mix_rows(block[list(group)]) for mixer, group in zip(mixers, groups, strict=True)]
            )


def choose_heard(path: Path, track: int | None, cancelled: Callable[[], bool]) -> Heard:
    """Decide what is heard of a file.

    Of several tracks, that is the default one, or the loudest where it is silent, and those that have speech
    of their own as well. A track that has all of the default one and more is heard in its place. What is in
    another language, as the file says, or goes together with the default one is not heard but told.

    Args:
        path: The media file.
        track: The one track that the user wants to be heard, from 0; None decides.
        cancelled: Asked often.

    Raises:
        AudioError: Not media, without sound, or without such a track.
        Cancelled: ``cancelled()`` became true.
    """
    with AudioStream(path, waiting=partial(check, cancelled)) as stream:
        first, count, languages = stream.track, stream.tracks, stream.languages
    if track is not None:
        if not 0 <= track < count:
            raise AudioError(_no_such_track(path, track, first, languages))
        rest = tuple(number for number in range(count) if number != track)
        return replace(_one_track(path, track, cancelled), others=rest)
    if count == 1:
        return _one_track(path, first, cancelled)
    # The default track comes first; damage can invent any number.
    order = [first, *(number for number in range(count) if number != first)]
    tracks, others, spans = _chosen_of(order[:MOST_COMPARED], languages, path, cancelled)
    # Each of them may be a call.
    signals = tuple(signal for one in tracks for signal in _one_track(path, one, cancelled).signals)
    if len(signals) > MOST_SIDES and len(tracks) > 1:
        signals = tuple(map(Signal, tracks))
    return Heard(signals, (*others, *order[MOST_COMPARED:]), spans)


def _chosen_of(
    order: Sequence[int], languages: Sequence[str | None], path: Path, cancelled: Callable[[], bool]
) -> tuple[list[int], list[int], tuple[Span, ...]]:
    """Which of some tracks are heard, which have another sound, and where; the default comes first."""
    compared = _compare_tracks(path, order, cancelled)
    idle = compared.idle()
    audible = [place for place in range(len(order)) if place not in idle]
    first = 0
    if first in idle and audible:
        first = max(audible, key=lambda place: float(np.square(compared.levels[place]).sum()))
    wholes = (
        n for n in audible if compared.contains(n, first, WHOLE_SHARE) and not compared.contains(first, n)
    )
    first = next(wholes, first)
    heard, others = [first], list[int]()
    for place in audible:
        if any(compared.contains(known, place) for known in heard):
            continue
        apart = all(compared.are_apart(known, place) for known in heard)
        is_dub = _is_dub(languages[order[first]], languages[order[place]])
        (heard if apart and not is_dub and len(heard) < MOST_SIDES else others).append(place)
    spans = _stretches(compared.levels[others])
    return [order[place] for place in heard], sorted(order[place] for place in others), spans


def _no_such_track(path: Path, track: int, default: int, languages: Sequence[str | None]) -> str:
    """A sentence that lists the tracks, from 1 as people count."""
    if len(languages) == 1:
        return f"{path.name} has no audio track {track + 1}; there is only one."
    known = []
    for number, language in enumerate(languages):
        facts = [*([language] if language else []), *(["default"] if number == default else [])]
        known.append(f"{number + 1} ({', '.join(facts)})" if facts else f"{number + 1}")
    listed = f"{', '.join(known[:-1])} and {known[-1]}"
    return f"{path.name} has no audio track {track + 1}; choose one of its audio tracks {listed}."


def _is_dub(language: str | None, other: str | None) -> bool:
    """Whether the file says that two tracks are in different languages."""
    return None not in (language, other) and "und" not in (language, other) and language != other


def _one_track(path: Path, track: int, cancelled: Callable[[], bool]) -> Heard:
    """What is heard of one track, by what its channels are like."""
    compared: Comparison | None = None
    with AudioStream(path, track, False, partial(check, cancelled)) as stream:
        for block in stream.blocks():
            check(cancelled)
            if compared is None:
                # Silence in place of what is missing at the beginning is one channel.
                if len(block) == 1 and (stream.report.decoded_seconds < 1.0 or not np.any(block)):
                    continue
                compared = Comparison(len(block))
            if compared.count == 1:
                break
            compared.add(
                block if len(block) == compared.count else np.repeat(block[:1], compared.count, axis=0)
            )
    if compared is None or compared.count == 1:
        return Heard((Signal(track),))
    compared.finish()
    idle = compared.idle()
    live = [channel for channel in range(compared.count) if channel not in idle]
    groups = _few(compared.sides(live), compared)
    if not groups or (not idle and groups == (tuple(live),)):
        return Heard((Signal(track),))
    return Heard(tuple(Signal(track, group) for group in groups))


def _few(groups: list[tuple[int, ...]], compared: Comparison) -> tuple[tuple[int, ...], ...]:
    """As many groups as a copy has room for: those that are loud at the same time least become one."""
    loudness = [compared.levels[list(group)].max(axis=0) for group in groups]
    while len(groups) > MOST_SIDES:
        pairs = combinations(range(len(groups)), 2)
        first, second = min(pairs, key=lambda pair: float(np.dot(loudness[pair[0]], loudness[pair[1]])))
        groups[first] = tuple(sorted(groups[first] + groups.pop(second)))
        loudness[first] = np.maximum(loudness[first], loudness.pop(second))
    return tuple(groups)


def _compare_tracks(path: Path, tracks: Sequence[int], cancelled: Callable[[], bool]) -> Comparison:
    compared = Comparison(len(tracks))
    for block in side_by_side([_readable(path, track, cancelled) for track in tracks]):
        check(cancelled)
        compared.add(block)
    compared.finish()
    return compared


def _readable(path: Path, track: int, cancelled: Callable[[], bool]) -> Iterator[np.ndarray]:
    """The blocks of a track; nothing where it cannot be decoded."""
    try:
        with AudioStream(path, track, waiting=partial(check, cancelled)) as stream:
            yield from stream.blocks()
    except AudioError:
        return


def side_by_side(
    tracks: Sequence[Iterator[np.ndarray]], counts: Sequence[int] | None = None
) -> Iterator[np.ndarray]:
    """Blocks of several tracks as one block each time, ``[n_signals, n_samples]``.

    Those that end earlier are silent from there.

    Args:
        tracks: Blocks of each, float32 ``[n_samples]`` or ``[n_signals, n_samples]``.
        counts: How many signals each has; by default one.
    """
    ends = np.cumsum(counts or [1] * len(tracks)).tolist()
    for blocks in zip_longest(*[_equal(track) for track in tracks]):
        length = max(block.shape[-1] for block in blocks if block is not None)
        rows = np.zeros((ends[-1], length), np.float32)
        for first, end, block in zip([0, *ends], ends, blocks, strict=False):
            if block is not None:
                rows[first:end, : block.shape[-1]] = block
        yield rows


def _equal(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in blocks of ``AT_ONCE``; the last may be shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += block.shape[-1]
        while count >= AT_ONCE:
            joined = np.concatenate(waiting, axis=-1)
            yield joined[..., :AT_ONCE]
            waiting, count = [joined[..., AT_ONCE:]], count - AT_ONCE
    if count:
        yield np.concatenate(waiting, axis=-1)


def check(cancelled: Callable[[], bool]) -> None:
    """Stop here if nobody wants the file any more.

    Raises:
        Cancelled: ``cancelled()`` is true.
    """
    if cancelled():
        raise Cancelled("Stopped while reading the file; nothing was kept.")


def _stretches(levels: np.ndarray) -> tuple[Span, ...]:
    """Where any of several signals has sound, with short pauses as part of it."""
    seconds = FRAME / SAMPLE_RATE
    stretches: list[Span] = []
    for frame in np.flatnonzero((levels > 10 ** (SILENT / 20)).any(axis=0)).tolist():
        start = frame * seconds
        if stretches and start - stretches[-1].end <= PAUSE_SECONDS:
            stretches[-1] = Span(stretches[-1].start, start + seconds)
        else:
            stretches.append(Span(start, start + seconds))
    return tuple(stretches)
