"""Which language is spoken when, and transcribing each part of a window in its own.

A change of language is followed, a foreign word or an unclear moment is not. A recogniser says of short
stretches of speech how likely each language is. Taken one by one such answers jump about; so the likeliest
course of the languages is sought in which each change has to be paid for (the Viterbi algorithm over a hidden
Markov model whose states are the languages).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from index.audio.windows import AudioWindow
from index.records import Segment, Span
from index.transcription.retry import WindowTranscript, cut_out, transcribe_window
from index.transcription.transcriber import Transcriber

STRETCH_SECONDS = 5.0
"""Speech that is judged at a time."""

LEAST_PROBABILITY = 0.02
"""A language is never taken to be less likely than this, so that one stretch cannot decide by itself."""

LEAST_IN_NOISE = 0.2
"""The same in noise, where a recogniser is as certain as anywhere, of any language: white noise at 5 dB over
English was Japanese for single sentences. Then several in a row are needed."""

WHOLE_SECONDS = 3.0
"""Speech from which a stretch counts in full."""

CHANGE_COST = 1.5
"""What a change costs, in nats. One clear stretch brings ln 0.95/0.02 = 3.86, so a clear sentence of two and
a half seconds between two in another language is followed, and one of a second and a half up to the end of a
window; a foreign word is not."""

START_COST = 0.5
"""What it costs to begin with another language than the expected one: windows begin at long pauses, and what
is expected of the first was found out from all of it."""

CLEAR_PROBABILITY = 0.5
"""How likely a language has to be on average over a stretch to be followed: music and noise make a recogniser
waver between languages that nobody speaks."""


DOUBTFUL_PROBABILITY = 0.25
"""Below this, a window's language is looked at closely."""

SETTLED_PROBABILITY = 0.75
"""From here on, a stretch is taken to be in the expected language throughout."""


@dataclass(frozen=True)
class LanguageSpan:
    """A stretch of a recording, and the language that is spoken in it (ISO 639-1; None: unknown)."""

    span: Span
    language: str | None


class OtherLanguage(Exception):
    """A window whose language was a guess is spoken in another one, or in several.

    Args:
        spoken: What is spoken where; the spans are in order and make up the window.
    """

    def __init__(self, spoken: Sequence[LanguageSpan]) -> None:
        super().__init__(", ".join(str(part.language) for part in spoken))
        self.spoken = tuple(spoken)

    def __reduce__(self) -> tuple[type[OtherLanguage], tuple[tuple[LanguageSpan, ...]]]:
        return type(self), (self.spoken,)


def follow(
    heard: Sequence[tuple[Mapping[str, float], float]], expected: str, is_noisy: bool = False
) -> list[str]:
    """The language of each stretch.

    Args:
        heard: For each stretch, in order, the probability of each language and its seconds of speech.
        expected: ISO 639-1 code of what was spoken before; leaving it costs a change.
        is_noisy: Whether there is noise below the speech.

    Returns:
        One code a stretch. A language that is followed but not clear gives way to what was spoken before it.
    """
    spoken = _likeliest(heard, expected, LEAST_IN_NOISE if is_noisy else LEAST_PROBABILITY)
    first = 0
    for last in range(len(spoken)):
        if last + 1 < len(spoken) and spoken[last + 1] == spoken[last]:
            continue
        language = spoken[last]
        seconds = sum(seconds for _, seconds in heard[first : last + 1])
        sure = sum(odds.get(language, 0.0) * seconds for odds, seconds in heard[first : last + 1])
        if language != expected and sure < CLEAR_PROBABILITY * seconds:
            spoken[first : last + 1] = [expected] * (last + 1 - first)
        expected = spoken[last]
        first = last + 1
    return spoken


def sounds_different(heard: Sequence[tuple[Mapping[str, float], float]], expected: str) -> bool:
    """Whether a closer look is worth it, since some of it may be in another language than expected.

    Args:
        heard: As in ``follow``, but each stretch heard together with all of its pass.
        expected: ISO 639-1 code.
    """
    sure = [odds.get(expected, 0.0) for odds, _ in heard]
    for index, (odds, _) in enumerate(heard):
        if sure[index] >= DOUBTFUL_PROBABILITY:
            continue
        around = sure[max(0, index - 1) : index] + sure[index + 1 : index + 2]
        # One stretch between two clear ones is followed only where it is clear; at an edge it may go on.
        is_clear = max(odds.values(), default=0.0) >= SETTLED_PROBABILITY
        if is_clear or len(around) < 2 or min(around) < SETTLED_PROBABILITY:
            return True
    return False


def _likeliest(heard: Sequence[tuple[Mapping[str, float], float]], expected: str, least: float) -> list[str]:
    clear = (max(odds, key=lambda code: odds[code]) for odds, _ in heard if odds)
    languages = list(dict.fromkeys((expected, *clear)))
    cost = {language: 0.0 if language == expected else START_COST for language in languages}
    before: list[dict[str, str]] = []
    for odds, seconds in heard:
        if before:
            cheapest = min(languages, key=lambda language: cost[language])
            stay = {language: cost[language] <= cost[cheapest] + CHANGE_COST for language in languages}
            before.append({language: language if stay[language] else cheapest for language in languages})
            cost = {
                language: cost[language] if stay[language] else cost[cheapest] + CHANGE_COST
                for language in languages
            }
        else:
            before.append({})
        weight = min(1.0, seconds / WHOLE_SECONDS)
        for language in languages:
            cost[language] -= weight * math.log(max(odds.get(language, 0.0), least))
    if not heard:
        return []
    course = [min(languages, key=lambda language: cost[language])]
    for step in reversed(before[1:]):
        course.append(step[course[-1]])
    return course[::-1]


def languages_spoken(segments: Iterable[Segment]) -> tuple[str, ...]:
    """The languages of segments, the one that is spoken longest first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        if segment.language is not None and segment.kind == "speech":
            seconds[segment.language] = seconds.get(segment.language, 0.0) + segment.span.duration
    return tuple(sorted(seconds, key=lambda language: -seconds[language]))


class LanguageGuess:
    """What language a window is expected in, from what was heard so far.

    Args:
        given: The language that the user set; it is certain then. None: it is found out.
    """

    def __init__(self, given: str | None = None) -> None:
        self.given = given
        self._heard: dict[int | None, dict[float, str]] = {}

    def heard(self, time: float, language: str | None, channel: int | None = None) -> None:
        """The language that is spoken at the end of the window that begins at ``time``, seconds."""
        if language is not None:
            self._heard = {**self._heard, channel: {**self._heard.get(channel, {}), time: language}}

    def at(self, time: float, channel: int | None = None) -> str | None:
        """The language to expect of a window that begins at ``time``: that of the window heard before it.

        Sides of a conversation, each on a channel of its own, may speak different languages.
        """
        if self.given is not None:
            return self.given
        heard = self._heard.get(channel, {})
        earlier = [start for start in heard if start < time]
        return heard[max(earlier)] if earlier else heard[min(heard)] if heard else None


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
