"""How much the server takes."""

from __future__ import annotations

from dataclasses import dataclass

from moss_audio.audio import MODEL_SECONDS

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Of one server.

    Attributes:
        waiting: Requests of a kind that may wait for their turn; more are refused.
        transcriptions: Transcriptions that run side by side; their windows share the recogniser.
        chat_bytes: Body of a chat request. Ten minutes of 16-bit stereo at 48 kHz are 147 MiB as base64.
        held_bytes: Bodies of all chat requests at a time, which are held in memory.
        upload_bytes: Body of a transcription request.
        disk_bytes: Uploads of all transcription requests at a time, each counted twice, since a copy of it is
            decoded. Beside them lies what was decoded: at most 115 MB an hour of audio, for as many
            recordings as are transcribed side by side.
        text_chars: Text of a chat request, tools and their results included.
        chat_seconds: Audio of a chat request; the model's makers recommend ten minutes at most.
        upload_seconds: Audio of a transcription request.
        new_tokens: Tokens of an answer where the request names no number.
        idle_seconds: How long a body may make no progress.
    """

    waiting: int = 32
    transcriptions: int = 2
    chat_bytes: int = 160 * MIB
    held_bytes: int = 1024 * MIB
    upload_bytes: int = 1024 * MIB
    disk_bytes: int = 8 * 1024 * MIB
    text_chars: int = 1_000_000
    chat_seconds: float = MODEL_SECONDS
    upload_seconds: float = 6 * 3600.0
    new_tokens: int = 2048
    idle_seconds: float = 60.0
