"""Whisper's own ear for languages, asked about every few seconds at next to no cost.

Whisper tells the language from the encoder's output, and the encoder's output of a pass is there anyway when
the pass is transcribed. Cut into stretches of five seconds it says where another language is spoken, in one
step of the decoder: about a twentieth of the encoder's time, measured with Whisper base on a CPU. Where it
says so, the window is looked at more closely: each sentence with only a few seconds of speech around it, so
that a long talk in one language does not colour the next. Where that leaves a doubt, the sentence is written
down in each language in question, and what the decoder is surer of counts as well: a voice or a room that
the language detector never met sounds like many languages, but is understood in one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from index.audio.windows import AudioWindow, KeptSpan, original_time
from index.records import Span
from index.transcription.languages import LEAST_IN_NOISE, STRETCH_SECONDS, LanguageSpan, follow
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

UNSPOKEN = frozenset({"la", "sa"})
"""Latin and Sanskrit: what Whisper takes unusual voices for, and nobody speaks unless a user says so."""

UNCLEAR = 0.5
"""A stretch in which no language is likelier than this is heard again without what is spoken around it."""

POSSIBLE = 0.25
"""How likely a language has to be in some stretch to be compared with the others."""

MOST_COMPARED = 3
"""Languages that a stretch is written down in, at most."""

CERTAIN = 0.98
"""A stretch whose language is as certain as this is not written down to compare."""

FAINT = 0.05
"""What the detector finds less likely than this may still be spoken."""

SURENESS = 8.0
"""What a nat of the decoder's surety, a token, is worth in nats of the detector's. On synthetic voices
(espeak-ng; six languages) the surety alone named the language of 84 of 100 single sentences, of two."""

UNDERSTOOD = -1.0
"""Surety from which a stretch is understood in a language. Below it in all of them, what is written down is
made up, and so is the difference: synthetic voices made Thai of a German sentence, and Hungarian of a French
one. Of 74 recordings, mostly such voices, 200 s came out in a wrong language with this, and 250 s without."""

SILENCE_SECONDS = 4.0
"""Silence behind a stretch that is written down: as good as Whisper's own 30 s, in a fifth of the time."""

MOST_TOKENS = 80
"""Tokens written down of one stretch; people say about four a second."""

NOISY_DECIBELS = 15.0
"""Between the loud and the quiet moments of speech, up to which there is noise below it: white noise measured
8 at 5 dB below the speech, 13 at 10 dB and 18 at 15 dB; recordings without noise, 30 and more."""

QUIET_SHARE = 0.003
"""Energy beside that of loud speech up to which a moment is quiet: -25 dB."""

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

    def likeliest_language(self, audio: np.ndarray) -> tuple[str, float]:
        """The likeliest spoken language (ISO 639-1) of up to 30 s of audio, and its probability."""
        _, _, heard = self.detect_language(audio)
        odds = _without(UNSPOKEN, dict(heard))
        language = max(odds, key=lambda code: odds[code])
        return language, odds[language]

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
        unspoken = UNSPOKEN - {expected}
        odds = [_without(unspoken, each) for each in self._odds_of(audio, stretches)]
        for index, stretch in enumerate(stretches):
            if max(odds[index].values()) < UNCLEAR:
                odds[index] = _without(unspoken, self._whole_odds(self._alone(audio, stretch)))
        possible = _possible(odds, stretches, expected)
        if len(possible) > 1:
            odds = [
                self._compared(each, audio, stretch, possible)
                for each, stretch in zip(odds, stretches, strict=True)
            ]
        heard = list(zip(odds, (part.duration for part in stretches), strict=True))
        spoken = follow(heard, expected, _is_noisy(audio))
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

    def _compared(self, odds: Odds, audio: np.ndarray, stretch: Span, languages: Sequence[str]) -> Odds:
        """The odds of a few languages in a stretch: by ear, with what is spoken around it and without, and by
        what can be made out in each. Where that is nothing, it says little, and the ear alone counts."""
        among = {language: max(odds.get(language, 0.0), FAINT) for language in languages}
        if max(odds.get(language, 0.0) for language in languages) >= CERTAIN:
            return _in_all(among)
        alone = self._alone(audio, stretch)
        sure = self._sureness(alone, languages)
        if max(sure.values()) < UNDERSTOOD:
            return _in_all(
                {language: max(share, LEAST_IN_NOISE) for language, share in _in_all(among).items()}
            )
        by_itself = self._whole_odds(alone)
        for language, share in among.items():
            both = math.sqrt(share * max(by_itself.get(language, 0.0), FAINT))
            among[language] = both * math.exp(SURENESS * sure[language])
        return _in_all(among)

    def _alone(self, audio: np.ndarray, stretch: Span) -> np.ndarray:
        """The encoder's output of a stretch with nothing but silence behind it."""
        margin = QUIET_SECONDS
        first, last = max(0.0, stretch.start - margin), stretch.end + margin
        samples = audio[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
        return self._encoded(np.pad(samples, (0, round(SILENCE_SECONDS * SAMPLE_RATE))))

    def _sureness(self, output: np.ndarray, languages: Sequence[str]) -> dict[str, float]:
        """How sure the decoder is of what it writes down in each language: log-probability, mean over its
        tokens."""
        prompts = []
        for language in languages:
            tokenizer = Tokenizer(self.hf_tokenizer, True, task="transcribe", language=language)
            prompts.append([*tokenizer.sot_sequence, tokenizer.no_timestamps])
        written = self.model.generate(
            ctranslate2.StorageView.from_array(np.repeat(output, len(languages), axis=0)),
            prompts,
            beam_size=1,
            max_length=len(prompts[0]) + MOST_TOKENS,
            return_scores=True,
        )
        return {language: each.scores[0] for language, each in zip(languages, written, strict=True)}

    def _in_stretches(self, output: ctranslate2.StorageView, seconds: float) -> list[tuple[Odds, float]]:
        """The odds of each stretch of a pass; the last one reaches back where it is short.

        Its first and last seconds stand for themselves as well: another language may just begin or end there.
        """
        frames = _on_cpu(output)[0]
        end = min(len(frames), round(seconds * FRAMES_PER_SECOND))
        size = max(1, min(end, round(STRETCH_SECONDS * FRAMES_PER_SECOND)))
        starts = [*range(0, end - size, size), max(0, end - size)]
        odds = self._odds(np.stack([frames[start : start + size] for start in starts]))
        heard = [(each, size / FRAMES_PER_SECOND) for each in odds]
        half = size // 2
        if len(heard) > 1:
            first, last = self._odds(np.stack([frames[:half], frames[end - half : end]]))
            heard = [(first, half / FRAMES_PER_SECOND), *heard, (last, half / FRAMES_PER_SECOND)]
        return heard

    def _whole_odds(self, output: np.ndarray) -> Odds:
        return self.language_odds(output, 0.0, output.shape[1] / FRAMES_PER_SECOND)

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


def _without(unspoken: Collection[str], odds: Odds) -> Odds:
    """The odds of the other languages."""
    left = {language: share for language, share in odds.items() if language not in unspoken}
    whole = sum(left.values())
    return {language: share / whole for language, share in left.items()} if whole > 0 else odds


def _in_all(shares: Odds) -> Odds:
    """The same odds, which are 1 in all."""
    whole = sum(shares.values())
    return {language: share / whole for language, share in shares.items()}


def _is_noisy(audio: np.ndarray) -> bool:
    """Whether the quiet moments of speech are not much quieter than the loud ones."""
    length = round(QUIET_SECONDS * SAMPLE_RATE)
    frames = audio[: len(audio) // length * length].reshape(-1, length)
    if not len(frames):
        return False
    energy = np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12
    quiet, loud = np.percentile(energy, (10, 90))
    return bool(10 * math.log10(loud / quiet) <= NOISY_DECIBELS)


def _possible(odds: Sequence[Odds], stretches: Sequence[Span], expected: str) -> list[str]:
    """The expected language, and others that some stretch may be in, by how much of them there is."""
    found: dict[str, float] = {}
    for each, stretch in zip(odds, stretches, strict=True):
        for language, share in each.items():
            if share >= POSSIBLE:
                found[language] = found.get(language, 0.0) + share * stretch.duration
    others = sorted(set(found) - {expected}, key=lambda language: -found[language])
    return [expected, *others[: MOST_COMPARED - 1]]


def _on_cpu(output: ctranslate2.StorageView) -> np.ndarray:
    return np.array(output if output.device == "cpu" else output.to_device(ctranslate2.Device.cpu))


def _stretches(audio: np.ndarray, kept: Sequence[KeptSpan], speech: Sequence[Span]) -> list[Span]:
    """Stretches of speech of about ``STRETCH_SECONDS`` in trimmed audio, cut at pauses or quiet moments."""
    pieces: list[Span] = []
    for spoken in speech:
        span = Span(_trimmed(spoken.start, kept), _trimmed(spoken.end, kept))
        if span.duration > 0:
            pieces += _at_pauses(audio, span)
    while len(pieces) > 1:
        short = min(range(len(pieces)), key=lambda index: pieces[index].duration)
        if pieces[short].duration >= SHORTEST_SECONDS:
            break
        near = [index for index in (short - 1, short) if 0 <= index < len(pieces) - 1]
        first = min(near, key=lambda index: pieces[index + 1].start - pieces[index].end)
        pieces[first : first + 2] = [Span(pieces[first].start, pieces[first + 1].end)]
    return pieces


def _at_pauses(audio: np.ndarray, span: Span) -> list[Span]:
    """Speech cut at its longest pauses, or else at quiet moments, until no part is long."""
    if span.duration <= LONGEST_SECONDS:
        return [span]
    pause = _longest_pause(audio, span.start + SHORTEST_SECONDS, span.end - SHORTEST_SECONDS)
    cut = _quiet(audio, (span.start + span.end) / 2) if pause is None else (pause.start + pause.end) / 2
    return _at_pauses(audio, Span(span.start, cut)) + _at_pauses(audio, Span(cut, span.end))


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


def _longest_pause(audio: np.ndarray, start: float, end: float) -> Span | None:
    """The longest pause between two times, seconds, that reaches to neither; None where there is none."""
    size = round(QUIET_SECONDS * SAMPLE_RATE)
    blocks = audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    count = len(blocks) // size
    if not count:
        return None
    loudness = np.square(blocks[: count * size]).reshape(count, size).mean(axis=1)
    quiet = np.flatnonzero(loudness < QUIET_SHARE * np.percentile(loudness, 90))
    runs = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
    # A single quiet moment is found in any word.
    inner = [run for run in runs if len(run) > 1 and run[0] > 0 and run[-1] < count - 1]
    if not inner:
        return None
    longest = max(inner, key=len)
    return Span(start + int(longest[0]) * QUIET_SECONDS, start + (int(longest[-1]) + 1) * QUIET_SECONDS)


def _trimmed(time: float, kept: Sequence[KeptSpan]) -> float:
    """A time of the recording in the trimmed audio."""
    span = next((span for span in kept if time <= span.original.end), kept[-1])
    return span.start + min(max(0.0, time - span.original.start), span.original.duration)
