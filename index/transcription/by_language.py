"""Transcribing a window each part in its own language."""

from __future__ import annotations

from dataclasses import dataclass, replace

from index.audio.windows import AudioWindow
from index.records import Segment, Span
from index.transcription.languages import LanguageSpan, OtherLanguage
from index.transcription.retry import WindowTranscript, cut_out, transcribe_window
from index.transcription.transcriber import Transcriber


@dataclass(frozen=True)
class SpokenWindow(WindowTranscript):
    """What was made out of a window, and the languages spoken in it.

    Attributes:
        spoken: Which language is spoken where, in order; empty where that is not known.
    """

    spoken: tuple[LanguageSpan, ...] = ()


def transcribe_by_language(window: AudioWindow, transcriber: Transcriber) -> SpokenWindow:
    """Transcribe one window, cut where the language changes, and account for all of its speech.

    Args:
        window: Where its language is a guess, the engine may find others.
        transcriber: The engine.

    Raises:
        HearingError, Cancelled: See ``transcribe_window``.
    """
    try:
        heard = transcribe_window(window, transcriber)
    except OtherLanguage as other:
        return _joined(window, transcriber, other.spoken)
    languages = {segment.language for segment in heard.segments} - {None}
    language = languages.pop() if len(languages) == 1 else window.language
    spoken = (LanguageSpan(Span(window.start, window.end), language),) if language else ()
    return SpokenWindow(heard.segments, heard.gaps, heard.trouble, spoken)


def _joined(window: AudioWindow, transcriber: Transcriber, spoken: tuple[LanguageSpan, ...]) -> SpokenWindow:
    segments: list[Segment] = []
    gaps: list[Span] = []
    trouble: str | None = None
    for part in spoken:
        speech = tuple(
            Span(max(span.start, part.span.start), min(span.end, part.span.end))
            for span in window.speech
            if span.overlaps(part.span)
        )
        alone = replace(cut_out(window, part.span, speech), language=part.language, language_is_guess=False)
        heard = transcribe_window(alone, transcriber)
        segments += heard.segments
        gaps += heard.gaps
        trouble = trouble or heard.trouble
    return SpokenWindow(tuple(segments), tuple(gaps), trouble, spoken)
