"""MOSS-Audio as a transcriber: windows of one to two minutes, sentences with their times.

What comes back is text that a language model wrote. It is read by the task's parser, placed on the
recording's clock and held against the detected speech; what that leaves out, ``retry.py`` asks for again.
Several recordings may be heard at a time; their windows share the engine's batches.

The times a language model wrote, held against what can be: the clock, the speech, the pace of talk.

A speech recogniser that is a language model writes times as text, and can write any. A sentence that claims
ten seconds for two words would make a transcript look complete that is not; twenty sentences in one second
have no place at all. So times are put on the recording's clock, pulled to detected speech, and a sentence
gets no more speech than its words can take; one whose words cannot have been said in its time is dropped,
and its speech is heard again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from index.audio.decode import SAMPLE_RATE
from index.audio.silence_trimming import KeptSpan, original_time, trim_silence
from index.audio.windows import AudioWindow
from index.records import Segment, Span, Word
from index.transcription.moss_requests import Asker, sampled
from index.transcription.sentences import join_words, split_sentences
from moss_audio.backend import Backend
from moss_audio.generation.requests import Options, Reply
from moss_audio.tasks import TASKS, Parsed, TimedTexts
from moss_audio.tasks.drafts import spoken_s

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
"""So many sentences with the same start are a clock that stands still."""

SAME_TIME_SECONDS = 0.02

SNAP_SECONDS = 1.5
"""The border between two sentences of one part is moved to a pause this near."""

_DIGIT_SECONDS = 0.4
_DIGIT = re.compile(r"\d")
_PIECE = re.compile(r"\s*[^\s。？！｡]*[。？！｡]+[”’」』）\"']*|\s*[^\s。？！｡]+")
_LETTER = re.compile(r"\w")


def checked(segments: Sequence[Segment], speech: Sequence[Span]) -> list[Segment]:
    """Sentences whose times can be true, in time order.

    Args:
        segments: Without word times, on the recording's clock, in the order of writing.
        speech: Detected speech of the window they were heard in.

    Returns:
        At most these, pulled to the speech they touch, shortened where they claim more of it than their words
        can take, and split where one holds several sentences.
    """
    kept = [_pulled_in(one, speech) for one in _advancing(segments)]
    kept = [_shortened(one, speech) for one in kept if one.end > one.start and _can_be_said(one)]
    found = [part for one in kept for part in _sentences(one, speech)]
    return sorted(found, key=lambda one: (one.start, one.end))


def _advancing(segments: Sequence[Segment]) -> list[Segment]:
    """Without runs of sentences that all start at one time; the first of a run stays."""
    runs: list[list[Segment]] = []
    for one in segments:
        if runs and abs(one.start - runs[-1][0].start) <= SAME_TIME_SECONDS:
            runs[-1].append(one)
        else:
            runs.append([one])
    return [one for run in runs for one in (run if len(run) < STALLED else run[:1])]


def _can_be_said(segment: Segment) -> bool:
    return segment.end - segment.start >= FASTEST * _usual_seconds(segment.text) - FASTEST_SECONDS


def _usual_seconds(text: str) -> float:
    """About how long a text takes; numbers written in digits take longer than one word."""
    return spoken_s(text) + _DIGIT_SECONDS * len(_DIGIT.findall(text))


def _pulled_in(segment: Segment, speech: Sequence[Span]) -> Segment:
    """The segment from the first to the last speech that it touches, allowing for an edge."""
    touched = [one for one in speech if one.overlaps(segment.span)]
    if not touched:
        return segment
    start = max(segment.start, touched[0].start - EDGE_SECONDS)
    end = min(segment.end, touched[-1].end + EDGE_SECONDS)
    return replace(segment, start=round(start, 3), end=round(end, 3))


def _shortened(segment: Segment, speech: Sequence[Span]) -> Segment:
    """The segment cut where it has had all the speech that its words can take."""
    left = SLOWEST * _usual_seconds(segment.text) + SLOWEST_SECONDS
    for one in _inside(segment.span, speech):
        if one.duration > left:
            return replace(segment, end=round(one.start + left, 3))
        left -= one.duration
    return segment


def _inside(span: Span, speech: Sequence[Span]) -> list[Span]:
    """The speech in a stretch; the stretch itself where there is none."""
    cut = [Span(max(one.start, span.start), min(one.end, span.end)) for one in speech if one.overlaps(span)]
    return cut or [span]


# --- several sentences in one part ----------------------------------------------------------------------


def _sentences(segment: Segment, speech: Sequence[Span]) -> list[Segment]:
    """One segment for each sentence of a text; their borders are estimated, at a pause where one is near."""
    pieces = [Word(at * 1e-3, (at + 1) * 1e-3, one) for at, one in enumerate(_PIECE.findall(segment.text))]
    texts = [join_words(group) for group in split_sentences(pieces)]
    texts = [one for one in texts if one]
    if len(texts) < 2:
        return [segment]
    sizes = [max(1, len(_LETTER.findall(one))) for one in texts]
    inside = _inside(segment.span, speech)
    borders = [_border(sum(sizes[:count]) / sum(sizes), inside) for count in range(1, len(sizes))]
    starts = [segment.start, *(after for _, after in borders)]
    ends = [*(before for before, _ in borders), segment.end]
    found = [
        replace(segment, start=round(start, 3), end=round(end, 3), text=text)
        for start, end, text in zip(starts, ends, texts, strict=True)
    ]
    return found if all(one.end > one.start for one in found) else [segment]


def _border(share: float, inside: Sequence[Span]) -> tuple[float, float]:
    """Where one sentence ends and the next begins, given the share of the speech that lies before."""
    wanted = share * sum(one.duration for one in inside)
    before = 0.0
    time = inside[-1].end
    for one in inside:
        if before + one.duration >= wanted:
            time = one.start + wanted - before
            break
        before += one.duration
    pauses = [
        (min(abs(time - one.end), abs(time - following.start)), one.end, following.start)
        for one, following in pairwise(inside)
    ]
    distance, end, start = min(pauses, default=(SNAP_SECONDS + 1, time, time))
    return (end, start) if distance <= SNAP_SECONDS else (time, time)


KEEP_PAUSE_SECONDS = 2.0
"""Longer pauses are shortened to this: silence and noise make such models stop, or invent."""

TOKENS = 64
TOKENS_PER_SECOND = 10.0
"""Tokens an answer may have, in all and a second of speech: talk takes three to four, sentences of one second
each with both their times about fifteen. A fixed budget would cut long windows."""

CAREFUL_TOKENS_PER_SECOND = 16.0


class MossTranscriber:
    """A ``Transcriber`` over any MOSS-Audio backend: the engine of this process, or a server.

    Args:
        backend: What answers; stays open.
    """

    window_speech_seconds = 120.0
    """Windows are at least half as full as they may be, so they hold one to two minutes of speech, or where
    little is said last one and a half to three minutes."""

    max_window_seconds = 180.0
    """The model's makers advise against more than ten minutes; three keep a failure small."""

    halvings = 2

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name
        self._asker = Asker(backend)

    @property
    def windows_at_once(self) -> int:
        """See ``Transcriber``: as many as the backend batches."""
        return self._asker.at_once

    def prepare(self, stop: threading.Event | None = None) -> None:
        """See ``Transcriber``."""
        self._asker.prepare(stop)

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``: None; the model needs no language told, and asking would cost a window."""
        return None

    def transcribe(self, windows: Sequence[AudioWindow], careful: bool = False) -> list[list[Segment]]:
        """See ``Transcriber``. Careful: sampled at a low temperature, with more tokens."""
        trimmed = [trim_silence(window, KEEP_PAUSE_SECONDS) for window in windows]
        asked = [at for at, (audio, _) in enumerate(trimmed) if len(audio)]
        found: list[list[Segment]] = [[] for _ in windows]
        if not asked:
            return found
        seconds = max(sum(one.duration for one in windows[at].speech) for at in asked)
        replies = self._asker.ask(
            TASKS["timestamps"].prompt,
            [trimmed[at][0] for at in asked],
            _options(seconds, careful),
            windows[0].stop,
        )
        for at, reply in zip(asked, replies, strict=True):
            audio, kept = trimmed[at]
            found[at] = self._segments(reply, len(audio) / SAMPLE_RATE, kept, windows[at])
        return found

    def _segments(
        self, reply: Reply, seconds: float, kept: Sequence[KeptSpan], window: AudioWindow
    ) -> list[Segment]:
        """The sentences of an answer about ``seconds`` of audio, on the recording's clock."""
        parsed: Parsed[TimedTexts] = TASKS["timestamps"].parse(reply.text, seconds)
        whole = parsed.value[:-1] if _breaks_off(reply, parsed) else parsed.value
        placed = [
            Segment(
                start=round(original_time(one.start, kept), 3),
                end=round(original_time(one.end, kept, ends=True), 3),
                text=one.text,
                engine=self.name,
            )
            for one in whole
        ]
        return checked(placed, window.speech)


def _options(seconds: float, careful: bool) -> Options:
    """How to hear so many seconds of speech."""
    tokens = TOKENS + round((CAREFUL_TOKENS_PER_SECOND if careful else TOKENS_PER_SECOND) * seconds)
    options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
    return sampled(options) if careful else options


def _breaks_off(reply: Reply, parsed: Parsed[TimedTexts]) -> bool:
    """Whether the answer ends in the middle of its last sentence, which is better heard again whole."""
    if not parsed.value:
        return False
    written, last = reply.text.rstrip(), parsed.value[-1].text
    open_ended = (one.text for one in parsed.dropped if one.kind == "no end tag")
    return any(written.endswith(one) and last in " ".join(one.split()) for one in open_ended)
