"""The packaged recogniser: Whisper through faster-whisper (CTranslate2, int8 on the CPU).

Measured choices (docs/engines.md): beam 1 costs 0.7 points of WER and gains half the time; text is not
carried from window to window, since that feeds loops; each window is heard in sequential mode, since the
batched pipeline loses whole sentences.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.audio.vad import PADDING_SECONDS
from index.audio.windows import MAX_SPEECH_SECONDS, MAX_WINDOW_SECONDS, AudioWindow, KeptSpan, trim_silence
from index.importing import without_collections
from index.language_names import language_name
from index.recording_errors import HearingError
from index.records import Segment, Span, Word
from index.transcription.languages import LanguageSpan, OtherLanguage, sounds_different
from index.transcription.repeats import repeats_in_sound
from index.transcription.sentences import join_words, split_sentences
from index.weights import whisper_folder

if TYPE_CHECKING:
    from index.transcription.whisper_languages import LanguageWhisper

_log = logging.getLogger(__name__)

KEEP_PAUSE_SECONDS = 1.0
"""Pauses are shortened to this before recognition; Whisper invents text on silence."""

ENGLISH = "en"

MAX_WINDOWS_AT_ONCE = 4
"""Windows heard side by side on the CPU, at most; each holds buffers of its own."""

GLOSSARY_SPEECH_SECONDS = 8.0
"""Detected speech from which a window is heard with the glossary; what is shorter is more often none."""

SPARSE_WORDS_A_SECOND = 1.0
"""A window with fewer words for its speech is heard again without the glossary: of 10 s of noise taken for
speech Whisper made “and the ferry” with it, and nothing without. People say two to three words a second."""

REPETITIVE = 2.4
"""How many times shorter text gets when it is packed, from which Whisper is taken to have run into a loop, as
OpenAI's own program does."""

MEL_FRAMES_PER_SECOND = 100
"""Of log-mel, which Whisper counts its passes in."""

MAX_WORD_SECONDS = 1.2
"""Whisper stretches the word beside a pause across it; words are cut to this length."""


class WhisperTranscriber:
    """A ``Transcriber`` over faster-whisper; weights are checked and loaded at first use.

    On the CPU several windows are heard side by side with the threads shared out between them: greedy
    decoding of one window keeps a second core busy less than half of the time (benchmarks/README.md).

    Args:
        model: ``base``, ``tiny.en``, another faster-whisper name, or a folder.
        cache: Folder for joined or downloaded weights.
        threads: CPU threads, 0 for all cores.
        glossary: Words and phrases that Whisper is to spell like this, the most important first; what does
            not fit into its prompt is left out.
        ready: Folder of weights that were put together beforehand; see ``index.weights.whisper_folder``.
    """

    window_speech_seconds = MAX_SPEECH_SECONDS
    max_window_seconds = MAX_WINDOW_SECONDS
    max_splits = 0
    times_words = True

    def __init__(
        self,
        model: str,
        cache: Path,
        threads: int = 0,
        glossary: Sequence[str] = (),
        ready: Path | None = None,
    ) -> None:
        self.model = model
        self.cache = cache
        self.ready = ready
        self.threads = threads
        self._glossary = tuple(glossary)
        self._hotwords_text: str | None = None
        self.name = f"whisper-{Path(model).name}"
        self._loaded: LanguageWhisper | None = None
        self._lock = threading.Lock()

    @property
    def glossary(self) -> tuple[str, ...]:
        """Words and phrases that are to be spelled like this; a new list is used from the next window on."""
        return self._glossary

    @glossary.setter
    def glossary(self, entries: Sequence[str]) -> None:
        self._glossary = tuple(entries)
        self._hotwords_text = None

    def spelling(self, entries: Sequence[str]) -> WhisperTranscriber:
        """The same engine, with the same weights in memory, that spells other words right."""
        if tuple(entries) == self._glossary:
            return self
        self.load()
        other = copy(self)
        other.glossary = entries
        return other

    @cached_property
    def windows_at_once(self) -> int:
        """See ``Transcriber``: as many as there are cores on the CPU, up to a limit; one on a GPU."""
        return 1 if _has_gpu() else min(self._cores, MAX_WINDOWS_AT_ONCE)

    @property
    def _cores(self) -> int:
        return self.threads or os.cpu_count() or 1

    def load(self) -> LanguageWhisper:
        """The loaded model.

        Raises:
            WeightsError: The weights are missing or not the published ones.
        """
        with self._lock:
            if self._loaded is None:
                with without_collections():
                    from index.transcription.whisper_languages import LanguageWhisper

                folder = whisper_folder(self.model, self.cache, self.ready)
                self._loaded = LanguageWhisper(
                    str(folder), device="auto", compute_type="default" if _has_gpu() else "int8",
                    cpu_threads=max(1, self._cores // self.windows_at_once), num_workers=self.windows_at_once,
                    local_files_only=True,
                )  # fmt: skip
            return self._loaded

    def prepare(self, stop: threading.Event | None = None) -> None:
        """See ``Transcriber``; a few seconds, which are not worth stopping."""
        self.load()

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``; a model for English alone says English."""
        model = self.load()
        if not model.model.is_multilingual:
            return ENGLISH, 1.0
        return model.likeliest_language(audio[: 30 * SAMPLE_RATE])

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """See ``Transcriber``. Careful: beam 5, sampled when unsure, and no phrase said over and over."""
        audio, kept = trim_silence(window, KEEP_PAUSE_SECONDS)
        if not len(audio):
            return []
        model = self.load()
        language = window.language
        if not model.model.is_multilingual:
            if language not in (None, ENGLISH):
                raise HearingError(
                    f"{self.name} understands English only, not {language_name(language)}; choose a "
                    "multilingual model, for example MOSS_AGENT_TRANSCRIBER=base."
                )
            language = ENGLISH
        options: dict[str, Any] = {"beam_size": 1, "temperature": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]}
        if careful:
            options = {
                "beam_size": 5,
                "temperature": [0.0, 0.4, 0.8],
                "repetition_penalty": 1.1,
                "no_repeat_ngram_size": 4,
            }
        options["language"] = language
        listener = None
        if model.model.is_multilingual and language is not None and window.language_is_guess and not careful:
            listener = _Listener(language, lambda: model.languages(audio, kept, window, language))
        hotwords = self._hotwords(model, window, careful)
        with model.watched(listener):
            heard = self._hear(model, audio, careful, hotwords=hotwords, **options)
        if hotwords and len(heard) < SPARSE_WORDS_A_SECOND * _spoken(window):
            heard = self._hear(model, audio, careful, **options)
        words = [fit_to_speech(_place(word, kept), window.speech) for word in heard]
        return [
            Segment(
                start=sentence[0].start,
                end=sentence[-1].end,
                text=join_words(sentence),
                words=tuple(sentence),
                engine=self.name,
                language=language,
            )
            for sentence in split_sentences(_in_order(words))
            if join_words(sentence)
        ]

    def _hear(self, model: LanguageWhisper, audio: np.ndarray, careful: bool, **options: Any) -> list[Word]:
        """The words that the model hears, on the clock of ``audio``.

        Text that repeats itself is refused, and sampled anew, only where the sound does not repeat: of an
        announcement that was played three times, nothing was left.
        """
        passes = self._passes(model, audio, REPETITIVE if careful else None, **options)
        heard: list[Word] = []
        for one in passes:
            if one.is_repetitive and not careful and not repeats_in_sound(audio, one.words):
                with model.watched(None):
                    clip = [one.span.start, one.span.end]
                    again = self._passes(model, audio, REPETITIVE, clip_timestamps=clip, **options)
                heard += [word for other in again for word in other.words]
            else:
                heard += one.words
        return heard

    @staticmethod
    def _passes(
        model: LanguageWhisper, audio: np.ndarray, most_repetitive: float | None, **options: Any
    ) -> list[_Pass]:
        """What the model makes out of the audio, up to 30 s at a time."""
        segments, _ = model.transcribe(
            audio,
            condition_on_previous_text=False,
            word_timestamps=True,
            vad_filter=False,
            compression_ratio_threshold=most_repetitive,
            **options,
        )
        passes: list[_Pass] = []
        end = len(audio) / SAMPLE_RATE
        for seek, found in groupby(segments, lambda segment: segment.seek):
            parts = list(found)
            start = seek / MEL_FRAMES_PER_SECOND
            if passes:
                passes[-1] = replace(passes[-1], span=Span(passes[-1].span.start, start))
            words = [
                Word(word.start, word.end, word.word, word.probability)
                for part in parts
                for word in part.words or ()
            ]
            passes.append(_Pass(Span(start, end), words, parts[0].compression_ratio > REPETITIVE))
        return passes

    def _hotwords(self, model: LanguageWhisper, window: AudioWindow, careful: bool) -> str | None:
        """The glossary as faster-whisper's ``hotwords``, which stand in the prompt as text said before.

        A stretch that is heard again was hard to hear, which is where words of a prompt come back as speech.
        """
        if careful or not self.glossary or _spoken(window) < GLOSSARY_SPEECH_SECONDS:
            return None
        return self._prompt(model)

    def _prompt(self, model: LanguageWhisper) -> str:
        """As many words of the glossary as fit; faster-whisper would cut the last one in two."""
        told = self._hotwords_text
        if told is None:
            text, entries = "", self.glossary
            for number, entry in enumerate(entries):
                longer = f"{text}, {entry}" if text else entry
                tokens = model.hf_tokenizer.encode(f" {longer}", add_special_tokens=False).ids
                if len(tokens) >= model.max_length // 2:
                    _log.warning(
                        "The glossary has %d words and phrases, of which Whisper can be told the first %d.",
                        len(entries),
                        number,
                    )
                    break
                text = longer
            told = self._hotwords_text = text
        return told


@dataclass(frozen=True)
class _Pass:
    """What was made out of up to 30 s.

    Attributes:
        span: From its beginning to that of the next, seconds.
        words: On the same clock.
        is_repetitive: Whether the text is that of a recogniser in a loop, or of something said again.
    """

    span: Span
    words: list[Word]
    is_repetitive: bool


def _spoken(window: AudioWindow) -> float:
    """Seconds of detected speech in a window."""
    return sum(span.duration for span in window.speech)


class _Listener:
    """Compares the language of each pass with what is expected, and ends the work where it is another.

    Args:
        expected: ISO 639-1 code.
        look_closely: Says which language is spoken where in the whole window.
    """

    def __init__(self, expected: str, look_closely: Callable[[], list[LanguageSpan]]) -> None:
        self.expected = expected
        self.look_closely = look_closely
        self.is_settled = False

    def __call__(self, heard: Sequence[tuple[Mapping[str, float], float]]) -> None:
        """Take a pass that is about to be decoded.

        Raises:
            OtherLanguage: Not all of the window is spoken in the expected language.
        """
        if self.is_settled or not sounds_different(heard, self.expected):
            return
        self.is_settled = True
        spoken = self.look_closely()
        if any(part.language != self.expected for part in spoken):
            raise OtherLanguage(spoken)


def _place(word: Word, kept: Sequence[KeptSpan]) -> Word:
    """A word's time on the recording's clock, inside the kept span that holds its middle."""
    middle = (word.start + word.end) / 2
    span = next((span for span in kept if middle < span.end), kept[-1])
    shift = span.original.start - span.start
    start = min(max(word.start + shift, span.original.start), span.original.end)
    end = min(max(word.end + shift, start), span.original.end)
    if end - start > MAX_WORD_SECONDS:
        # The first word of a span was stretched back over the pause before it; any other, forward.
        if start <= span.original.start + 0.01 or word.text.strip()[:1].isupper():
            start = end - MAX_WORD_SECONDS
        else:
            end = start + MAX_WORD_SECONDS
    return Word(round(start, 3), round(end, 3), word.text, round(word.probability, 3))


def fit_to_speech(word: Word, speech: Sequence[Span]) -> Word:
    """A word without the pause that Whisper stretched it over.

    A word that reaches over a pause between two spans of detected speech belongs to the side on which more
    of it lies. The spans are padded, so the pause begins and ends that much inside them.
    """
    for before, after in pairwise(speech):
        silence = Span(before.end - PADDING_SECONDS, after.start + PADDING_SECONDS)
        if after.start - before.end < 0.05 or not silence.overlaps(Span(word.start, word.end)):
            continue
        left, right = silence.start - word.start, word.end - silence.end
        if right > 0 and right >= left:
            word = replace(word, start=round(max(word.start, silence.end), 3))
        elif left > 0:
            word = replace(word, end=round(min(word.end, silence.start), 3))
    return word


def _in_order(words: Sequence[Word]) -> list[Word]:
    """Words whose times never run backwards: each starts no earlier than the one before it ended."""
    out: list[Word] = []
    for word in words:
        floor = out[-1].end if out else 0.0
        start = max(word.start, floor)
        out.append(Word(start, max(word.end, start), word.text, word.probability))
    return out


def _has_gpu() -> bool:
    import ctranslate2

    return ctranslate2.get_cuda_device_count() > 0
