"""Transcribing one window so that nothing is lost and nothing is invented.

Whatever the engine, its result is checked against the detected speech: text where nobody spoke is dropped,
loops are transcribed again and else cut, and speech without text is transcribed once more on its own. An
engine that, once astray, loses the rest of a window (``Transcriber.max_splits``) first retries a window that
it failed on with other settings, and then splits it in half; a window that it refuses as too long is split at
once, as often as that takes. What is still missing then is reported as a gap.

What counts as a loop is said in ``moss_audio.generation.loops``; a loop is cut together with its time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from index.audio.decode import SAMPLE_RATE
from index.audio.windows import MARGIN_SECONDS, AudioWindow
from index.recording_errors import HearingError, TooLong
from index.records import Segment, Span, Word
from index.transcription.coverage import find_gaps, in_speech, uncovered
from index.transcription.repeats import is_said_again
from index.transcription.sentences import join_words
from index.transcription.transcriber import Transcriber
from moss_audio.generation.loops import Loop, find_loops, word_key, words_of

FAILED_SHARE = 0.2
"""A pass that leaves more than this share of the speech without text went astray; less is a sentence or two
that it left out, or noise that the detector took for speech."""

SHORTEST_HALF_SECONDS = 4.0
"""A stretch with less speech than two of these is not split; sentences are about as long."""

LONGEST_GAP_SECONDS = 30.0
"""Neighbouring gaps up to this length in all are transcribed again as one stretch."""


@dataclass(frozen=True)
class WindowTranscript:
    """What was made out of a window.

    Attributes:
        segments: In time order.
        gaps: Speech in it that no segment accounts for.
        trouble: The engine's own sentence, where it failed on some of the window and left gaps; else None.
    """

    segments: tuple[Segment, ...]
    gaps: tuple[Span, ...]
    trouble: str | None = None


def transcribe_window(window: AudioWindow, transcriber: Transcriber) -> WindowTranscript:
    """Transcribe one window and account for all of its speech.

    Raises:
        HearingError: The engine failed on the window, so that nothing of it was heard.
        Cancelled: The window's ``stop`` was set.
    """
    retries = _Retries(window, transcriber)
    try:
        retries.run()
    except HearingError as error:
        retries.trouble = error
    if retries.trouble is not None and not retries.answered:
        raise retries.trouble
    segments = [segment for segment in retries.segments if segment.end > segment.start]
    gaps = tuple(find_gaps(window.speech, segments))
    return WindowTranscript(tuple(segments), gaps, str(retries.trouble) if retries.trouble and gaps else None)


class _Retries:
    """One window and what was made out of it so far; each pass tries to make out more.

    Attributes:
        answered: Whether the engine has transcribed any of it.
        trouble: Why some of it was not transcribed, or not again.
    """

    def __init__(self, window: AudioWindow, transcriber: Transcriber) -> None:
        self.window = window
        self.transcriber = transcriber
        self.segments: list[Segment] = []
        self.answered = False
        self.trouble: HearingError | None = None

    def run(self) -> None:
        splits = self.transcriber.max_splits
        self.segments = self._pass(self.window)
        if splits and self._failed(self.window):
            self._take_better(self._pass(self.window, careful=True))
            self._split(self.window, splits)
        gaps = find_gaps(self.window.speech, self.segments)
        for gap in self._joined(gaps) if splits else gaps:
            self.segments = _merge(self.segments, self._pass(_part(self.window, gap), careful=True))

    def _pass(self, part: AudioWindow, careful: bool = False) -> list[Segment]:
        """Transcribe a part; where the engine takes less at a time, its halves, down to a sentence or two."""
        try:
            found = _once(part, self.transcriber, careful)
        except TooLong as error:
            return self._in_halves(part, careful, error)
        self.answered = True
        return found

    def _in_halves(self, part: AudioWindow, careful: bool, refusal: TooLong) -> list[Segment]:
        parts = halves(part)
        if not parts:
            self.trouble = refusal
        found: list[Segment] = []
        try:
            for half in parts:
                found += self._pass(half, careful)
        except HearingError:
            self.segments = self._filled(self.segments, found)
            raise
        return found

    def _joined(self, gaps: Sequence[Span]) -> list[Span]:
        """Gaps with no text between them as one stretch, up to a length."""
        joined: list[Span] = []
        for gap in gaps:
            both = Span(joined[-1].start, gap.end) if joined else gap
            if joined and both.duration <= LONGEST_GAP_SECONDS and not self._text_between(joined[-1], gap):
                joined[-1] = both
            else:
                joined.append(gap)
        return joined

    def _text_between(self, before: Span, after: Span) -> bool:
        between = Span(before.end, after.start)
        return any(segment.span.overlaps(between) for segment in self.segments)

    def _failed(self, part: AudioWindow) -> bool:
        missing = sum(gap.duration for gap in uncovered(part.speech, self.segments))
        return missing > FAILED_SHARE * sum(span.duration for span in part.speech)

    def _take_better(self, again: list[Segment]) -> None:
        """Keep the better of two passes over the window, and fill what it lacks from the other."""
        base, other = sorted((self.segments, again), key=self._missing)
        self.segments = self._filled(base, other)

    def _missing(self, segments: list[Segment]) -> float:
        return sum(gap.duration for gap in uncovered(self.window.speech, segments))

    def _filled(self, base: list[Segment], other: Sequence[Segment]) -> list[Segment]:
        missing = uncovered(self.window.speech, base)
        return _merge(
            base, [segment for segment in other if any(gap.overlaps(segment.span) for gap in missing)]
        )

    def _split(self, part: AudioWindow, splits: int) -> None:
        """Transcribe the halves of a part that the engine failed on, and their halves."""
        for half in halves(part) if splits and self._failed(part) else ():
            if self._failed(half):
                self.segments = self._filled(self.segments, self._pass(half))
                self._split(half, splits - 1)


def _once(window: AudioWindow, transcriber: Transcriber, careful: bool = False) -> list[Segment]:
    """One pass, repeated with other settings if it ran into a loop, and cut if that did as well."""
    segments = transcriber.transcribe(window, careful)
    if not careful and has_loop(segments, window):
        segments = transcriber.transcribe(window, careful=True)
    segments = cut_loops(segments, window)
    return [kept for segment in segments if (kept := _only_speech(segment, window.speech)) is not None]


def _only_speech(segment: Segment, speech: Sequence[Span]) -> Segment | None:
    """The segment without words where the detector heard nothing; None when nothing is left of it."""
    if not segment.words:
        return segment if in_speech(segment.span, speech) else None
    words = tuple(word for word in segment.words if in_speech(Span(word.start, word.end), speech))
    if not words:
        return None
    if len(words) == len(segment.words):
        return segment
    return replace(segment, start=words[0].start, end=words[-1].end, text=join_words(words), words=words)


def _part(window: AudioWindow, stretch: Span) -> AudioWindow:
    """A stretch of a window, with a little around it, as a window of its own."""
    span = Span(
        max(window.start, stretch.start - MARGIN_SECONDS), min(window.end, stretch.end + MARGIN_SECONDS)
    )
    speech = tuple(
        Span(max(spoken.start, span.start), min(spoken.end, span.end))
        for spoken in window.speech
        if spoken.overlaps(span)
    )
    return cut_out(window, span, speech)


def halves(window: AudioWindow) -> tuple[AudioWindow, ...]:
    """A window cut at the longest pause of its middle half; nothing where it is short or has no pause."""
    speech = window.speech
    total = sum(span.duration for span in speech)
    if len(speech) < 2 or total < 2 * SHORTEST_HALF_SECONDS:
        return ()
    before = 0.0
    best, cut = (False, 0.0), 1
    for index in range(1, len(speech)):
        before += speech[index - 1].duration
        inner = 0.25 * total <= before <= 0.75 * total
        found = (inner, speech[index].start - speech[index - 1].end)
        if found > best:
            best, cut = found, index
    return (
        _around(window, speech[:cut], Span(window.start, speech[cut].start)),
        _around(window, speech[cut:], Span(speech[cut - 1].end, window.end)),
    )


def _around(window: AudioWindow, speech: tuple[Span, ...], within: Span) -> AudioWindow:
    """Some neighbouring spans of a window as a window; its margins reach no speech beside them."""
    start = max(within.start, speech[0].start - MARGIN_SECONDS)
    end = min(within.end, speech[-1].end + MARGIN_SECONDS)
    return cut_out(window, Span(start, end), speech)


def cut_out(window: AudioWindow, span: Span, speech: tuple[Span, ...]) -> AudioWindow:
    """A part of a window, with the speech that lies in it, as a window of its own."""
    first, last = (round((time - window.start) * SAMPLE_RATE) for time in (span.start, span.end))
    return replace(window, audio=window.audio[first:last], start=span.start, speech=speech)


def _merge(segments: list[Segment], found: list[Segment]) -> list[Segment]:
    """Add what was found in a gap, unless most of it lies on a neighbour's time (heard twice)."""
    new = []
    for segment in found:
        shared = sum(
            max(0.0, min(segment.end, other.end) - max(segment.start, other.start)) for other in segments
        )
        if shared < 0.5 * max(segment.end - segment.start, 0.01):
            new.append(segment)
    return sorted(segments + new, key=lambda segment: (segment.start, segment.end))


# --- loops ----------------------------------------------------------------------------------------------


def has_loop(segments: Sequence[Segment], window: AudioWindow | None = None) -> bool:
    """Whether the text of these segments, read on, runs into a loop.

    Args:
        segments: In order.
        window: What they were made out of; a phrase that is heard as often is none.
    """
    return bool(_loops(_places(segments), segments, window))


def cut_loops(segments: Sequence[Segment], window: AudioWindow | None = None) -> list[Segment]:
    """Remove every loop, its first saying too: what was said there is unknown, so its time becomes a gap.

    Segments without word times are dropped whole when they take part in a loop. For the arguments see
    ``has_loop``.
    """
    kept = list(segments)
    while True:
        places = _places(kept)
        loops = _loops(places, kept, window)
        if not loops:
            return kept
        spoiled: dict[int, set[int]] = {}
        for loop in loops:
            for index, place, _ in places[loop.begin : loop.end]:
                spoiled.setdefault(index, set()).add(place)
        kept = [
            part
            for index, segment in enumerate(kept)
            for part in (_without(segment, spoiled[index]) if index in spoiled else [segment])
        ]


def _places(segments: Sequence[Segment]) -> list[tuple[int, int, str]]:
    """Every word: the number of its segment, its place in there, and what it is compared by."""
    return [
        (index, place, key)
        for index, segment in enumerate(segments)
        for place, key in enumerate(_keys(segment))
    ]


def _loops(
    places: Sequence[tuple[int, int, str]], segments: Sequence[Segment], window: AudioWindow | None
) -> list[Loop]:
    loops = find_loops([key for _, _, key in places])
    if window is None or not all(segment.words for segment in segments):
        return loops
    words = [segments[index].words[place] for index, place, _ in places]
    return [
        loop
        for loop in loops
        if not is_said_again(
            window.audio, words[loop.begin : loop.end], loop.again - loop.begin, window.start
        )
    ]


def _keys(segment: Segment) -> list[str]:
    """What a segment's words are compared by."""
    if segment.words:
        return [word_key(word.text) for word in segment.words]
    return [word.key for word in words_of(segment.text)]


def _without(segment: Segment, spoiled: Collection[int]) -> list[Segment]:
    """The parts of a segment between its spoiled words (given by their places)."""
    places = groupby(range(len(segment.words)), key=lambda place: place in spoiled)
    runs: list[tuple[Word, ...]] = [
        tuple(segment.words[place] for place in run) for is_spoiled, run in places if not is_spoiled
    ]
    return [
        replace(segment, start=run[0].start, end=run[-1].end, text=join_words(run), words=run) for run in runs
    ]
