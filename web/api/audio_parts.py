"""Recordings inside a request: base64 or a data URL, to what the model hears. Nothing is ever fetched."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from moss_audio.audio import load_audio
from moss_audio.errors import AudioError
from moss_audio.model.mel import SAMPLE_RATE
from moss_audio.timestamps import clock
from web.api.error_responses import ApiError, bad_request, too_much, unusable

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]*/?[\w.+-]*)(?:;[\w.+=\"-]*)*?;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class AudioPart:
    """A recording as it was sent: base64 text, and what the sender calls its format."""

    data: str = field(repr=False)
    format: str


def audio_part(part: Mapping[str, Any], where: str) -> AudioPart:
    """The recording of a part of type ``input_audio`` or ``audio_url``.

    Raises:
        ApiError: 400 for an address, since nothing is fetched; 422 for what is no recording.
    """
    if part["type"] == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, Mapping) or not isinstance(audio.get("data"), str):
            raise unusable("input_audio must contain data (the recording as base64) and format.", where)
        return AudioPart(audio["data"], safe_suffix(str(audio.get("format") or "")))
    given = part.get("audio_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str):
        raise unusable("audio_url must contain a url.", where)
    head = _DATA_URL.match(url[:200])
    if head is None:
        raise bad_request(
            "Only base64 data URLs are accepted (data:audio/wav;base64,…): this server fetches no addresses "
            "and opens no local files.",
            where,
            "url_not_allowed",
        )
    return AudioPart(url[head.end() :], safe_suffix(head["kind"].rpartition("/")[2]))


def decode_part(part: AudioPart, seconds: float) -> np.ndarray:
    """What the model hears: float32 ``[n_samples]``, mono, 16 kHz.

    Args:
        part: As it was sent.
        seconds: Longest recording that is taken.

    Raises:
        ApiError: 413, it is longer; 415, it cannot be decoded; 422, it is no base64.
    """
    try:
        data = base64.b64decode("".join(part.data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise unusable("The recording is not valid base64.", "messages") from error
    with TemporaryDirectory(prefix="moss-agent-") as folder:
        path = Path(folder) / f"audio.{part.format}"
        path.write_bytes(data)
        try:
            # A second more than is taken shows whether there is more; the rest is never decoded.
            audio = load_audio(path, 0.0, seconds + 1.0)
        except AudioError as error:
            raise ApiError(
                415, f"The recording cannot be used: {error}", "unusable_audio", "messages"
            ) from error
    if len(audio) > (seconds + 0.1) * SAMPLE_RATE:
        raise too_much(
            f"The recording is longer than {clock(seconds)}, the limit of a chat request; "
            "send a part of it, or use /v1/audio/transcriptions.",
            "messages",
        )
    return audio


def safe_suffix(name: str) -> str:
    """A format's name as the suffix of a file: letters and digits, else ``bin``."""
    name = name.lower().removeprefix("x-")
    return name if re.fullmatch(r"[a-z0-9]{1,8}", name) else "bin"
