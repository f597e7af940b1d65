"""Whisper's own ear for languages, asked about every few seconds at next to no cost.

Whisper tells the language from the encoder's output, and the encoder's output of a pass is there anyway when
the pass is transcribed. Cut into stretches of five seconds it says where another language is spoken, in one
step of the decoder: about a twentieth of the encoder's time, measured with Whisper base on a CPU. Where it
says so, the window is looked at more closely: each sentence with only a few seconds of speech around it, so
that a long talk in one language does not colour the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from index.audio.windows import AudioWindow, KeptSpan, original_time
from index.records import Span
from index.transcription.languages import STRETCH_SECONDS, LanguageSpan, follow
from moss_audio.audio import SAMPLE_RATE

FRAMES_PER_SECOND = 50
"""Vectors of the encoder's output a second: two mel frames of 10 ms each."""

SHORTEST_SECONDS = 1.0
"""A shorter stretch between two pauses is judged together with its neighbour."""

LONGEST_SECONDS = 7.5
"""Speech without a pause is cut at a quiet moment into stretches no longer than this."""

CONTEXT_SECONDS = 2.0
"""Speech on both sides of what is looked at closely: more of it colours, less makes the answer less sure."""

PAUSE_SECONDS = 0.4
"""Belongs to a stretch on both sides: Whisper's encoder gathers what it knows of a sentence in the pauses
around it, and without them it is as good as deaf to the language."""

BLOCK_SECONDS = 10.0
"""Speech that is looked at closely in one pass of the encoder, at least."""

QUIET_SECONDS = 0.05
"""Length over which loudness is measured when a quiet moment is sought."""

Odds = dict[str, float]
Listener = Callable[[Sequence[tuple[Odds, float]]], None]


class LanguageWhisper(WhisperModel):
    """A Whisper that can be watched at work: what its encoder hears is handed to a listener."""

    _watching = threading.local()

    def encode(self, features: np.ndarray) -> ctranslate2.StorageView:
        """As in ``WhisperModel``; a listener of this thread is told the output and may raise."""
        output = super().encode(features)
        listener: Listener | None = getattr(self._watching, "listener", None)
        if listener is not None:
            # The features of a short pass are padded with zeros, which no sound gives.
            frames = int(np.flatnonzero(features.any(axis=0)).max(initial=-1)) + 1
            listener(self._in_stretches(output, frames / (2 * FRAMES_PER_SECOND)))
        return output

    @contextmanager
    def watched(self, listener: Listener | None) -> Iterator[None]:
        """Tell ``listener`` of each pass of this thread, before it is decoded: odds and seconds of each
        stretch of it, in order."""
        self._watching.listener = listener
        try:
            yield
        finally:
            self._watching.listener = None

    def language_odds(self, output: np.ndarray, start: float, end: float) -> Odds:
        """The probability of each language (ISO 639-1) between two times of the encoder's output.

        Args:
            output: ``[1, n_frames, width]``, 50 frames a second.
            start, end: Seconds from its beginning.
        """
        first = max(0, round(start * FRAMES_PER_SECOND))
        part = output[:, first : max(first + 1, round(end * FRAMES_PER_SECOND))]
        return self._odds(part)[0]

    def languages(
        self, audio: np.ndarray, kept: Sequence[KeptSpan], window: AudioWindow, expected: str
    ) -> list[LanguageSpan]:
        """Which language is spoken where in a window, looked at closely.

        Args:
            audio: The window without its long pauses, float32 ``[n_samples]``, 16 kHz.
            kept: What it consists of.
            window: Where it comes from.
            expected: The language that was spoken before.

        Returns:
            In order, changing at pauses; together they make up the window.
        """
        stretches = _stretches(audio, kept, window.speech)
        heard = list(zip(self._odds_of(audio, stretches), (part.duration for part in stretches), strict=True))
        spoken = follow(heard, expected)
        found: list[LanguageSpan] = []
        start = window.start
        for index, language in enumerate(spoken):
            if index + 1 < len(spoken) and spoken[index + 1] == language:
                continue
            end = window.end
            if index + 1 < len(spoken):
                before, after = stretches[index].end, stretches[index + 1].start
                end = (original_time(before, kept, ends=True) + original_time(after, kept)) / 2
            found.append(LanguageSpan(Span(start, end), language))
            start = end
        return found or [LanguageSpan(Span(window.start, window.end), expected)]

    def _in_stretches(self, output: ctranslate2.StorageView, seconds: float) -> list[tuple[Odds, float]]:
        """The odds of each stretch of a pass, all at once; the last one reaches back where it is short."""
        frames = _on_cpu(output)[0]
        end = min(len(frames), round(seconds * FRAMES_PER_SECOND))
        size = max(1, min(end, round(STRETCH_SECONDS * FRAMES_PER_SECOND)))
        starts = [*range(0, end - size, size), max(0, end - size)]
        odds = self._odds(np.stack([frames[start : start + size] for start in starts]))
        return [(each, size / FRAMES_PER_SECOND) for each in odds]

    def _odds(self, parts: np.ndarray) -> list[Odds]:
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(parts))
        return [
            {token[2:-2]: float(odds) for token, odds in ranked}
            for ranked in self.model.detect_language(view)
        ]

    def _odds_of(self, audio: np.ndarray, stretches: Sequence[Span]) -> Iterator[Odds]:
        first = 0
        while first < len(stretches):
            last = first
            while last + 1 < len(stretches) and stretches[last].end - stretches[first].start < BLOCK_SECONDS:
                last += 1
            start = max(0.0, stretches[first].start - CONTEXT_SECONDS)
            end = min(len(audio) / SAMPLE_RATE, stretches[last].end + CONTEXT_SECONDS)
            output = self._encoded(audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])
            for stretch in stretches[first : last + 1]:
                edges = (stretch.start - PAUSE_SECONDS - start, stretch.end + PAUSE_SECONDS - start)
                yield self.language_odds(output, *edges)
            first = last + 1

    def _encoded(self, audio: np.ndarray) -> np.ndarray:
        """The encoder's output of up to 30 s of audio without padding, float ``[1, n_frames, width]``."""
        features = self.feature_extractor(audio)
        frames = min(len(audio) // (SAMPLE_RATE // (2 * FRAMES_PER_SECOND)), features.shape[-1])
        return _on_cpu(super().encode(np.ascontiguousarray(features[:, : frames - frames % 2])))


def _on_cpu(output: ctranslate2.StorageView) -> np.ndarray:
    return np.array(output if output.device == "cpu" else output.to_device(ctranslate2.Device.cpu))


def _stretches(audio: np.ndarray, kept: Sequence[KeptSpan], speech: Sequence[Span]) -> list[Span]:
    """Stretches of speech of about ``STRETCH_SECONDS`` in trimmed audio, cut at pauses or quiet moments."""
    pieces: list[Span] = []
    for spoken in speech:
        span = Span(_trimmed(spoken.start, kept), _trimmed(spoken.end, kept))
        count = max(1, round(span.duration / STRETCH_SECONDS)) if span.duration > LONGEST_SECONDS else 1
        cuts = [_quiet(audio, span.start + span.duration * index / count) for index in range(1, count)]
        pieces += [Span(*pair) for pair in zip([span.start, *cuts], [*cuts, span.end], strict=True)]
    joined: list[Span] = []
    for piece in pieces:
        short = joined and min(piece.duration, joined[-1].duration) < SHORTEST_SECONDS
        if short and piece.end - joined[-1].start <= LONGEST_SECONDS:
            joined[-1] = Span(joined[-1].start, piece.end)
        elif piece.duration > 0:
            joined.append(piece)
    return joined


def _quiet(audio: np.ndarray, time: float) -> float:
    """The quietest moment within a second of ``time``, seconds."""
    size = round(QUIET_SECONDS * SAMPLE_RATE)
    first = max(0, round((time - 1.0) * SAMPLE_RATE))
    blocks = audio[first : round((time + 1.0) * SAMPLE_RATE)]
    count = len(blocks) // size
    if not count:
        return time
    loudness = np.square(blocks[: count * size]).reshape(count, size).mean(axis=1)
    return (first + (int(loudness.argmin()) + 0.5) * size) / SAMPLE_RATE


def _trimmed(time: float, kept: Sequence[KeptSpan]) -> float:
    """A time of the recording in the trimmed audio."""
    span = next((span for span in kept if time <= span.original.end), kept[-1])
    return span.start + min(max(0.0, time - span.original.start), span.original.duration)
