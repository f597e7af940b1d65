"""MOSS-Audio as a transcriber: windows of one to two minutes, sentences with their times.

What comes back is text that a language model wrote. It is read by the task's parser, placed on the
recording's clock and held against the detected speech (``index/moss_times.py``); what that leaves out,
``index/listening.py`` asks for again. Several recordings may be heard at a time; their windows share the
engine's batches.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from index.audio import SAMPLE_RATE
from index.moss_asking import Asker, sampled
from index.moss_times import checked
from index.records import Segment
from index.squeezing import Piece, original_time, squeeze
from index.windows import AudioWindow
from moss_audio.answers import Options, Reply
from moss_audio.backend import Backend
from moss_audio.tasks import TASKS, Parsed, TimedTexts

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
        squeezed = [squeeze(one, KEEP_PAUSE_SECONDS) for one in windows]
        asked = [at for at, (audio, _) in enumerate(squeezed) if len(audio)]
        found: list[list[Segment]] = [[] for _ in windows]
        if not asked:
            return found
        seconds = max(sum(one.duration for one in windows[at].speech) for at in asked)
        replies = self._asker.ask(
            TASKS["timestamps"].prompt,
            [squeezed[at][0] for at in asked],
            _options(seconds, careful),
            windows[0].stop,
        )
        for at, reply in zip(asked, replies, strict=True):
            audio, pieces = squeezed[at]
            found[at] = self._segments(reply, len(audio) / SAMPLE_RATE, pieces, windows[at])
        return found

    def _segments(
        self, reply: Reply, seconds: float, pieces: Sequence[Piece], window: AudioWindow
    ) -> list[Segment]:
        """The sentences of an answer about ``seconds`` of audio, on the recording's clock."""
        parsed: Parsed[TimedTexts] = TASKS["timestamps"].parse(reply.text, seconds)
        whole = parsed.value[:-1] if _breaks_off(reply, parsed) else parsed.value
        placed = [
            Segment(
                start=round(original_time(one.start, pieces), 3),
                end=round(original_time(one.end, pieces, ends=True), 3),
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
