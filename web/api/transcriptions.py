"""``POST /v1/audio/transcriptions``."""

from __future__ import annotations

import asyncio
import math
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from index.export.formats import export
from index.language_names import LANGUAGE_NAMES, language_name
from index.notes import describe, told_coverage
from index.pipeline.transcribe_file import Transcript, transcribe_file
from index.records import Note, NoteKind, Recording, Segment, Status
from index.text import one_line
from index.transcription.transcriber import SharedTranscriber
from moss_audio.timestamps import clock
from web.api.chat import EventStream, events
from web.api.chat_request import safe_suffix
from web.api.error_responses import ApiError, bad_request, too_much, unusable
from web.api.limiter import Feed, collected, first_item
from web.api.service import Service

FORMATS = ("json", "verbose_json", "srt", "vtt", "text")
GRANULARITIES = ("segment", "word")
_MEDIA_TYPES = {"srt": "text/plain", "vtt": "text/vtt", "text": "text/plain"}

Heard = Sequence[Segment] | Transcript


@dataclass(frozen=True)
class _Asked:
    """What a transcription request asks for."""

    file: UploadFile
    transcriber: SharedTranscriber
    language: str | None
    format: str
    granularities: tuple[str, ...]
    stream: bool
    unused: tuple[str, ...]
    """Fields that were given and make no difference here."""


async def transcriptions(request: Request) -> Response:
    """Write down what is said in a file."""
    service: Service = request.app.state.service
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "Send the file as multipart/form-data.", "unsupported_media_type")
    slot = service.transcriptions.enter()
    try:
        form = await request.form(max_files=1, max_fields=50)
        asked = await asyncio.to_thread(_read, form, service)
        feed: Feed[Heard] = Feed(partial(_hear, service, asked), service.transcriptions, slot)
    except BaseException:
        slot.leave()
        raise
    if asked.stream:
        first = await first_item(feed, request)
        return EventStream(feed, events(feed, first, _Deltas().of))
    transcript = (await collected(feed, request))[-1]
    assert isinstance(transcript, Transcript)
    return await asyncio.to_thread(_response, transcript, asked)


def _hear(service: Service, asked: _Asked, cancel: threading.Event) -> Iterator[Heard]:
    with TemporaryDirectory(prefix="moss-agent-") as folder:
        # The sender's name for the file decides nothing but its suffix.
        source = Path(folder) / f"upload.{safe_suffix(Path(asked.file.filename or '').suffix[1:])}"
        with source.open("wb") as target:
            shutil.copyfileobj(asked.file.file, target, 2**20)
        asked.file.file.close()
        # What a file says of its own length may be wrong; what was read of it counts.
        check = partial(_check_length, service.limits.upload_seconds)
        for heard in transcribe_file(source, asked.transcriber, asked.language, cancel, check):
            if isinstance(heard, Transcript):
                service.metrics.audio.inc(heard.duration)
            yield heard


def _check_length(longest: float, seconds: float) -> None:
    if seconds > longest:
        raise too_much(
            f"The recording is longer than {clock(longest)}, the most in one request; send it in parts.",
            "file",
        )


# --- the request --------------------------------------------------------------------------------------


def _read(form: FormData, service: Service) -> _Asked:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise bad_request("The file is missing; send it in the field file.", "file")
    if file.size == 0:
        raise unusable("The file is empty (0 bytes).", "file")
    model = _text(form, "model")
    if not model:
        raise bad_request("The field model is missing; /v1/models lists the models.", "model")
    format = _text(form, "response_format") or "json"
    if format not in FORMATS:
        raise bad_request(f"response_format must be one of {', '.join(FORMATS)}.", "response_format")
    stream = _text(form, "stream").lower() in ("true", "1")
    if stream and format not in ("json", "text"):
        raise bad_request("A stream supports only the response_format json or text.", "response_format")
    if _texts(form, "include"):
        raise bad_request("Log probabilities are not available.", "include", "unsupported_parameter")
    transcriber = service.transcriber_for(model)
    granularities = _granularities(_texts(form, "timestamp_granularities"), format)
    if "word" in granularities and not transcriber.times_words:
        raise bad_request(
            f"{transcriber.name} gives times of segments, not of words; use the granularity segment.",
            "timestamp_granularities",
            "unsupported_parameter",
        )
    return _Asked(
        file=file,
        transcriber=transcriber,
        language=_language(_text(form, "language")),
        format=format,
        granularities=granularities,
        stream=stream,
        unused=_unused(form),
    )


def _granularities(given: Sequence[str], format: str) -> tuple[str, ...]:
    if given and format != "verbose_json":
        raise bad_request(
            "timestamp_granularities requires response_format verbose_json.", "timestamp_granularities"
        )
    if any(value not in GRANULARITIES for value in given):
        raise bad_request("timestamp_granularities must be segment or word.", "timestamp_granularities")
    return tuple(given) or ("segment",)


def _language(given: str) -> str | None:
    if not given:
        return None
    code = given.strip().lower()
    if code not in LANGUAGE_NAMES:
        raise unusable(f"“{given[:40]}” is not a language code; use ISO 639-1, such as en or zh.", "language")
    return code


def _language_name(code: str | None) -> str | None:
    """OpenAI's form has the English name in small letters."""
    return None if code is None else language_name(code).lower()


def _unused(form: FormData) -> tuple[str, ...]:
    temperature = _text(form, "temperature")
    try:
        wrong = bool(temperature) and not 0.0 <= float(temperature) <= 1.0
    except ValueError:
        wrong = True
    if wrong:
        raise unusable("temperature must be a number from 0 to 1.", "temperature")
    given = {"prompt": bool(_text(form, "prompt")), "temperature": temperature not in ("", "0", "0.0")}
    return tuple(name for name, there in given.items() if there)


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _texts(form: FormData, name: str) -> list[str]:
    """All values of a list, whose field is written with brackets or without."""
    return [value for key in (name, f"{name}[]") for value in form.getlist(key) if isinstance(value, str)]


# --- the response -------------------------------------------------------------------------------------


def _response(transcript: Transcript, asked: _Asked) -> Response:
    share = _share(transcript)
    headers = {} if share is None else {"X-Speech-Coverage": f"{share:.4f}"}
    if notes := " ".join(_worded(note) for note in transcript.notes):
        headers["X-Speech-Notes"] = one_line(notes).encode("ascii", "replace").decode()
    if asked.format == "json":
        document = {"text": _whole(transcript.segments), "usage": _usage(transcript)}
        return JSONResponse(document | _account(transcript, asked), headers=headers)
    if asked.format == "verbose_json":
        return JSONResponse(_verbose(transcript, asked) | _account(transcript, asked), headers=headers)
    if asked.format == "text":
        data = (_whole(transcript.segments) + "\n").encode("utf-8", "replace")
    else:
        # Subtitles of silence are none, as every client of this form expects.
        told = tuple(note for note in transcript.notes if note.kind is not NoteKind.NO_SPEECH)
        nowhere = Recording("", "", "", transcript.duration, Status.READY, "", notes=told)
        data = export(nowhere, transcript.segments, asked.format)
    return Response(data, media_type=_MEDIA_TYPES[asked.format] + "; charset=utf-8", headers=headers)


def _verbose(transcript: Transcript, asked: _Asked) -> dict[str, Any]:
    document: dict[str, Any] = {
        "task": "transcribe",
        "language": _language_name(transcript.language),
        "duration": round(transcript.duration, 3),
        "text": _whole(transcript.segments),
        "usage": _usage(transcript),
    }
    if "segment" in asked.granularities:
        document["segments"] = [_segment(index, one) for index, one in enumerate(transcript.segments)]
    if "word" in asked.granularities:
        document["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end}
            for one in transcript.segments
            for word in one.words
        ]
    return document


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    """A segment with OpenAI's fields; null where this engine has no such number."""
    sure = [word.probability for word in segment.words]
    data = segment.text.encode("utf-8", "replace")
    return {
        "id": index,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": None,
        "avg_logprob": round(sum(math.log(max(p, 1e-6)) for p in sure) / len(sure), 4) if sure else None,
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 4),
        "no_speech_prob": None,
    }


def _account(transcript: Transcript, asked: _Asked) -> dict[str, Any]:
    """What OpenAI's form has no field for: how much was heard, and what made no difference."""
    heard = _heard(transcript)
    notes = heard["notes"] + [f"{name} is ignored here." for name in asked.unused]
    return heard | ({"note": " ".join(notes)} if notes else {})


def _heard(transcript: Transcript) -> dict[str, Any]:
    """How much was heard, where something is missing, and what could not be done."""
    return {
        "coverage": _share(transcript),
        "gaps": [[gap.start, gap.end] for gap in transcript.gaps],
        "notes": [_worded(note) for note in transcript.notes],
        "note_spans": [[[span.start, span.end] for span in note.spans] for note in transcript.notes],
    }


def _share(transcript: Transcript) -> float | None:
    """The coverage with four decimals, cut: 1 must mean all of it."""
    share = told_coverage(transcript.coverage, transcript.notes)
    return None if share is None else math.floor(share * 10_000) / 10_000


def _worded(note: Note) -> str:
    """A note for whoever sent the file: there is nothing stored that could be added again."""
    if note.kind is NoteKind.WINDOWS_FAILED:
        failed, total = note.numbers["failed"], note.numbers["total"]
        return f"The engine failed on {failed} of {total} sections; see gaps."
    return describe(note)


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _whole(segments: Sequence[Segment]) -> str:
    return " ".join(segment.text.strip() for segment in segments if segment.text.strip())


class _Deltas:
    """The documents of a transcript that is streamed window by window."""

    def __init__(self) -> None:
        self._said = False

    def of(self, part: Heard) -> Iterator[dict[str, Any]]:
        """The documents that tell of one window, or of the end."""
        if isinstance(part, Transcript):
            done = {"type": "transcript.text.done", "text": _whole(part.segments)}
            yield done | _heard(part)
        elif text := _whole(part):
            yield {"type": "transcript.text.delta", "delta": (" " if self._said else "") + text}
            self._said = True
