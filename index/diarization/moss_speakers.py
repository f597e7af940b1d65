"""Who speaks according to MOSS-Audio: what is said in a window, with a speaker's label for each turn."""

from __future__ import annotations

from index.audio.windows import AudioWindow, original_time, trim_silence
from index.recording_errors import TooLong
from index.transcription.moss_requests import BackendClient
from index.transcription.moss_transcriber import KEEP_PAUSE_SECONDS
from index.transcription.retry import halves
from moss_audio.audio import SAMPLE_RATE
from moss_audio.generation.requests import Options
from moss_audio.tasks import TASKS, Parsed, TimedText, TimedTexts

TOKENS = 64
TOKENS_PER_SECOND = 12.0
"""Tokens an answer may have, in all and a second of speech: as for a transcript, and three for each label."""


class MossSpeakers(BackendClient):
    """Labels turns with any MOSS-Audio backend.

    Args:
        backend: Stays open.
    """

    def label(self, window: AudioWindow) -> list[list[TimedText]]:
        """Who says what in a window, on the recording's clock.

        Returns:
            Turns with labels, in order, for each part of the window that was heard on its own: labels mean
            something within one of these lists only. It is one list, unless the window is longer than the
            engine takes at a time.

        Raises:
            HearingError: The engine failed, also when asked again.
            Cancelled: The window's ``stop`` was set.
        """
        try:
            return [self._once(window)]
        except TooLong:
            parts = halves(window)
            if not parts:
                raise
            return [turns for part in parts for turns in self.label(part)]

    def _once(self, window: AudioWindow) -> list[TimedText]:
        audio, kept = trim_silence(window, KEEP_PAUSE_SECONDS)
        if not len(audio):
            return []
        tokens = TOKENS + round(TOKENS_PER_SECOND * sum(span.duration for span in window.speech))
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        reply = self.ask(TASKS["speakers"].prompt, audio, options, window.stop)
        parsed: Parsed[TimedTexts] = TASKS["speakers"].parse(reply.text, len(audio) / SAMPLE_RATE)
        return [
            TimedText(
                original_time(turn.start, kept),
                original_time(turn.end, kept, ends=True),
                turn.text,
                turn.speaker,
            )
            for turn in parsed.value
            if turn.speaker is not None
        ]
