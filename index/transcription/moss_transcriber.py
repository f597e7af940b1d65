"""MOSS-Audio as a transcriber: windows of one to two minutes, sentences with their times.

What comes back is text that a language model wrote. It is read by the task's parser, placed on the
recording's clock and checked against the detected speech; what that leaves out, ``retry.py`` asks for again.
Several recordings may be transcribed at a time; their windows share the engine's batches.

Such a model writes times as text, and can write any. A sentence that claims ten seconds for two words would
make a transcript look complete that is not; twenty sentences in one second have no place at all. So times are
pulled to detected speech, and a sentence gets no more speech than its words can take; one whose words cannot
have been said in its time is dropped, and its speech is transcribed again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.audio.windows import AudioWindow, KeptSpan, original_time, trim_silence
from index.records import Segment, Span, Word
from index.transcription.moss_requests import BackendClient, sampled
from index.transcription.sentences import join_words, split_sentences
from moss_audio.generation.requests import Options, Reply
from moss_audio.tasks import TASKS, Parsed, TimedTexts
from moss_audio.tasks.drafts import spoken_s

KEEP_PAUSE_SECONDS = 2.0
"""Longer pauses are shortened to this: silence and noise make such models stop, or invent."""

TOKENS = 64
TOKENS_PER_SECOND = 10.0
"""Tokens an answer may have, in all and a second of speech: talk takes three to four, sentences of one second
each with both their times about fifteen. A fixed budget would cut long windows."""

CAREFUL_TOKENS_PER_SECOND = 16.0

EDGE_SECONDS = 0.3
"""A sentence may begin and end this far outside of detected speech; more is pulled in."""

SLOWEST = 3.0
SLOWEST_SECONDS = 2.0
"""The most speech that words account for: so many times what they usually take, and so many seconds."""

FASTEST = 0.25
FASTEST_SECONDS = 0.5
"""The least time words take: this share of what they usually do (ten words a second), less so many seconds,
by which written times may be off."""

STALLED = 3
"""So many sentences in a row with the same start mean that the model lost track of time."""

SAME_TIME_SECONDS = 0.02

SNAP_SECONDS = 1.5
"""The border between two sentences of one part is moved to a pause this near."""

_DIGIT_SECONDS = 0.4
_DIGIT = re.compile(r"\d")
_PIECE = re.compile(r"\s*[^\s。？！｡]*[。？！｡]+[”’」』）\"']*|\s*[^\s。？！｡]+")
_LETTER = re.compile(r"\w")


class MossTranscriber(BackendClient):
    """A ``Transcriber`` over any MOSS-Audio backend: the engine of this process, or a server.

    Args:
        backend: Stays open.
    """

    window_speech_seconds = 120.0
    """Windows are at least half as full as they may be, so they hold one to two minutes of speech, or where
    little is said last one and a half to three minutes."""

    max_window_seconds = 180.0
    """The model's makers advise against more than ten minutes; three keep a failure small."""

    max_splits = 2
    times_words = False

    @property
    def windows_at_once(self) -> int:
        """See ``Transcriber``: as many as the backend batches."""
        return self.at_once

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``: None; the model needs no language, and asking would cost a window."""
        return None

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """See ``Transcriber``. Careful: sampled at a low temperature, with more tokens."""
        audio, kept = trim_silence(window, KEEP_PAUSE_SECONDS)
        if not len(audio):
            return []
        options = _options(sum(span.duration for span in window.speech), careful)
        reply = self.ask(TASKS["timestamps"].prompt, audio, options, window.stop)
        return self._segments(reply, len(audio) / SAMPLE_RATE, kept, window)

    def _segments(
        self, reply: Reply, seconds: float, kept: Sequence[KeptSpan], window: AudioWindow
    ) -> list[Segment]:
        """The sentences of an answer about ``seconds`` of audio, on the recording's clock."""
        parsed: Parsed[TimedTexts] = TASKS["timestamps"].parse(reply.text, seconds)
        whole = parsed.value[:-1] if _breaks_off(reply, parsed) else parsed.value
        placed = [
            Segment(
                start=round(original_time(sentence.start, kept), 3),
                end=round(original_time(sentence.end, kept, ends=True), 3),
                text=sentence.text,
                engine=self.name,
                language=window.language,
            )
            for sentence in whole
        ]
        return checked(placed, window.speech)


def _options(seconds: float, careful: bool) -> Options:
    """Options for so many seconds of speech."""
    tokens = TOKENS + round((CAREFUL_TOKENS_PER_SECOND if careful else TOKENS_PER_SECOND) * seconds)
    options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
    return sampled(options) if careful else options


def _breaks_off(reply: Reply, parsed: Parsed[TimedTexts]) -> bool:
    """Whether the answer ends in the middle of its last sentence, which is better transcribed again whole."""
    if not parsed.value:
        return False
    written, last = reply.text.rstrip(), parsed.value[-1].text
    open_ended = (part.text for part in parsed.dropped if part.kind == "no end tag")
    return any(written.endswith(text) and last in " ".join(text.split()) for text in open_ended)


# --- times that can be true ------------------------------------------------------------------------------


def checked(segments: Sequence[Segment], speech: Sequence[Span]) -> list[Segment]:
    """Sentences whose times can be true, in time order.

    Args:
        segments: Without word times, on the recording's clock, in the order of writing.
        speech: Detected speech of the window they were heard in.

    Returns:
        At most these, pulled to the speech they touch, shortened where they claim more of it than their words
        can take, and split where one holds several sentences.
    """
    pulled = [_pulled_in(segment, speech) for segment in _advancing(segments)]
    kept = [
        _shortened(segment, speech)
        for segment in pulled
        if segment.end > segment.start and _can_be_said(segment)
    ]
    found = [sentence for segment in kept for sentence in _sentences(segment, speech)]
    return sorted(found, key=lambda segment: (segment.start, segment.end))


def _advancing(segments: Sequence[Segment]) -> list[Segment]:
    """The segments without runs that all start at one time; the first of a run stays."""
    runs: list[list[Segment]] = []
    for segment in segments:
        if runs and abs(segment.start - runs[-1][0].start) <= SAME_TIME_SECONDS:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return [segment for run in runs for segment in (run if len(run) < STALLED else run[:1])]


def _can_be_said(segment: Segment) -> bool:
    return segment.end - segment.start >= FASTEST * _usual_seconds(segment.text) - FASTEST_SECONDS


def _usual_seconds(text: str) -> float:
    """About how long a text takes; numbers written in digits take longer than one word."""
    return spoken_s(text) + _DIGIT_SECONDS * len(_DIGIT.findall(text))


def _pulled_in(segment: Segment, speech: Sequence[Span]) -> Segment:
    """The segment from the first to the last speech that it touches, allowing for an edge."""
    touched = [span for span in speech if span.overlaps(segment.span)]
    if not touched:
        return segment
    start = max(segment.start, touched[0].start - EDGE_SECONDS)
    end = min(segment.end, touched[-1].end + EDGE_SECONDS)
    return replace(segment, start=round(start, 3), end=round(end, 3))


def _shortened(segment: Segment, speech: Sequence[Span]) -> Segment:
    """The segment cut where it has had all the speech that its words can take."""
    left = SLOWEST * _usual_seconds(segment.text) + SLOWEST_SECONDS
    for span in _inside(segment.span, speech):
        if span.duration > left:
            return replace(segment, end=round(span.start + left, 3))
        left -= span.duration
    return segment


def _inside(span: Span, speech: Sequence[Span]) -> list[Span]:
    """The speech in a stretch; the stretch itself where there is none."""
    touched = [spoken for spoken in speech if spoken.overlaps(span)]
    return [Span(max(spoken.start, span.start), min(spoken.end, span.end)) for spoken in touched] or [span]


def _sentences(segment: Segment, speech: Sequence[Span]) -> list[Segment]:
    """One segment for each sentence of a text; their borders are estimated, at a pause where one is near."""
    kept = [Word(at * 1e-3, (at + 1) * 1e-3, word) for at, word in enumerate(_PIECE.findall(segment.text))]
    texts = [join_words(group) for group in split_sentences(kept)]
    texts = [text for text in texts if text]
    if len(texts) < 2:
        return [segment]
    sizes = [max(1, len(_LETTER.findall(text))) for text in texts]
    inside = _inside(segment.span, speech)
    borders = [_border(sum(sizes[:count]) / sum(sizes), inside) for count in range(1, len(sizes))]
    starts = [segment.start, *(after for _, after in borders)]
    ends = [*(before for before, _ in borders), segment.end]
    found = [
        replace(segment, start=round(start, 3), end=round(end, 3), text=text)
        for start, end, text in zip(starts, ends, texts, strict=True)
    ]
    return found if all(sentence.end > sentence.start for sentence in found) else [segment]


def _border(share: float, inside: Sequence[Span]) -> tuple[float, float]:
    """Where one sentence ends and the next begins, given the share of the speech that lies before."""
    wanted = share * sum(span.duration for span in inside)
    before = 0.0
    time = inside[-1].end
    for span in inside:
        if before + span.duration >= wanted:
            time = span.start + wanted - before
            break
        before += span.duration
    pauses = [
        (min(abs(time - span.end), abs(time - following.start)), span.end, following.start)
        for span, following in pairwise(inside)
    ]
    distance, end, start = min(pauses, default=(SNAP_SECONDS + 1, time, time))
    return (end, start) if distance <= SNAP_SECONDS else (time, time)
