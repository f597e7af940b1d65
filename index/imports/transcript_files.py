"""A transcript file that another program wrote, as the sentences of a recording: the one way in."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from index.imports.cues import Cue, as_heard, in_order, sentences
from index.imports.json_files import read_json
from index.imports.subtitle_files import has_cues, is_webvtt, read_subtitles
from index.imports.timed_text_files import read_timed_text
from index.recording_errors import OtherEncoding, TranscriptError
from index.records import Note, NoteKind, Segment, StageName
from moss_audio.timestamps import clock

MOST_BYTES = 256 * 1024 * 1024
"""A day of talk with every word timed, in the longest of the formats, has a third of this."""

ENGINE = "imported"
"""What imported segments say heard them."""

TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".json", ".txt", ".md")
"""Endings of the files that can be read; what is in a file decides how."""

_LANGUAGE_SUFFIX = re.compile(r"\.[a-z]{2,3}(?:-[A-Za-z]{2,4})?$")


@dataclass(frozen=True)
class ImportedTranscript:
    """A transcript before it is in the library.

    Attributes:
        id: SHA-256 of the file, 64 hex digits.
        title: What the file says, or else its name.
        source_name: The file's name.
        format: ``srt``, ``vtt``, ``json`` or ``txt``.
        segments: In order of time.
        duration: Seconds; where the file does not say, until the last word.
        language: ISO 639-1 code; None where unknown.
        notes: What had to be mended.
    """

    id: str
    title: str
    source_name: str
    format: str
    segments: tuple[Segment, ...]
    duration: float
    language: str | None = None
    notes: tuple[Note, ...] = ()


def read_transcript(
    path: Path, encoding: str | None = None, offset: float | None = None
) -> ImportedTranscript:
    """Read a file: SubRip, WebVTT, JSON of Whisper's descendants or of this program, text with times.

    Args:
        path: The file; what is in it decides which of these it is.
        encoding: Of its letters, such as ``cp1252``; by default Unicode in any of its forms.
        offset: What its clock shows when the recording begins, seconds; by default 0, or the first time where
            its form is one in which the time of day is written.

    Raises:
        TranscriptError: It is empty, something else, in another encoding, or its times cannot be right.
    """
    name = path.name.encode("utf-8", "replace").decode()
    data = _bytes(path, name)
    text = _decoded(data, name, encoding)
    if not text.strip():
        raise TranscriptError(f"{name} is empty; nothing was imported.")
    found = _read(text, name, path.suffix.lower())
    segments, notes = found.segments, found.notes
    shift = offset if offset is not None else found.offset
    if shift:
        segments = _moved(segments, shift, name)
    last = max(max(segment.end, segment.start) for segment in segments)
    duration = found.duration - shift if found.duration is not None else last
    return ImportedTranscript(
        id=hashlib.sha256(data).hexdigest(),
        title=found.title or without_language(path.stem),
        source_name=name,
        format=found.format,
        segments=segments,
        duration=max(duration, last),
        language=found.language,
        notes=notes,
    )


def without_language(stem: str) -> str:
    """A transcript's name without the language that players expect behind it: ``talk`` of ``talk.en``."""
    return _LANGUAGE_SUFFIX.sub("", stem) or stem


@dataclass(frozen=True)
class _Found:
    format: str
    segments: tuple[Segment, ...]
    notes: tuple[Note, ...] = ()
    title: str | None = None
    language: str | None = None
    duration: float | None = None
    offset: float = 0.0


def _read(text: str, name: str, suffix: str) -> _Found:
    if suffix == ".json" or (text.lstrip()[:1] in ("{", "[") and _is_json(text)):
        return _of_json(text, name)
    if is_webvtt(text) or has_cues(text):
        format = "vtt" if is_webvtt(text) else "srt"
        if cues := read_subtitles(text):
            return _of_cues(format, cues, name)
        if format == "vtt":
            raise TranscriptError(f"No cue of {name} says anything; nothing was imported.")
    timed = read_timed_text(text, is_markdown=suffix in (".md", ".markdown"))
    if not timed.cues:
        raise TranscriptError(
            f"{name} is not a transcript that can be read: no line of it begins with a time, such as "
            "“[00:01:02] Anna: …”."
        )
    found = _of_cues("txt", timed.cues, name)
    if timed.left_out:
        found = _noting(found, NoteKind.LINES_LEFT_OUT, lines=len(timed.left_out))
    if timed.is_time_of_day:
        found = replace(found, offset=min(cue.start for cue in timed.cues))
    return found


def _noting(found: _Found, kind: NoteKind, **numbers: int) -> _Found:
    """A transcript with one note more."""
    return replace(found, notes=(*found.notes, Note(kind, StageName.READING, numbers=numbers)))


def _is_json(text: str) -> bool:
    """Whether a text that begins with a bracket is JSON, and no line such as ``[0:05] Anna: …``."""
    return re.match(r"\s*(?:\{\s*[\"}]|\[\s*[{\]])", text) is not None


def _of_json(text: str, name: str) -> _Found:
    document = read_json(text, name)
    if document.segments:
        given = [
            Cue(segment.start, segment.end, segment.text, words=segment.words)
            for segment in document.segments
        ]
        in_order(given, name)  # for what cannot be right
        own = tuple(replace(segment, engine=ENGINE) for segment in document.segments)
        ordered = sorted(own, key=lambda segment: segment.start)
        found = _Found("json", tuple(ordered), (), document.title, document.language, document.duration)
        return _without_times(found, document.left_out)
    if not document.cues and document.left_out:
        raise TranscriptError(f"No segment of {name} has a time that is a number; nothing was imported.")
    if not document.cues:
        raise TranscriptError(f"No segment of {name} says anything; nothing was imported.")
    found = _without_times(_of_cues("json", document.cues, name), document.left_out)
    return replace(found, title=document.title, language=document.language, duration=document.duration)


def _without_times(found: _Found, segments: int) -> _Found:
    """A transcript with a note that so many segments of the file are not in it."""
    return _noting(found, NoteKind.SEGMENTS_LEFT_OUT, segments=segments) if segments else found


def _of_cues(format: str, cues: Sequence[Cue], name: str) -> _Found:
    heard = [cue for cue in map(as_heard, cues) if cue.text]
    ordered, notes = in_order(heard, name)
    segments = tuple(sentences(ordered, ENGINE))
    if not segments:
        raise TranscriptError(f"{name} has times, but no words; nothing was imported.")
    return _Found(format, segments, notes)


def _moved(segments: Sequence[Segment], offset: float, name: str) -> tuple[Segment, ...]:
    """Segments on a clock that shows 0 where theirs shows ``offset``.

    Raises:
        TranscriptError: One of them would begin before 0.
    """
    first = min(segment.start for segment in segments)
    if first - offset < -1.0:
        raise TranscriptError(
            f"The times of {name} begin at {clock(first)}, which is before the {clock(offset)} given as the "
            "recording's beginning."
        )
    return tuple(move(segment, -offset) for segment in segments)


def move(segment: Segment, seconds: float) -> Segment:
    """A segment that much later, with its words; none begins before 0."""
    return replace(
        segment,
        start=round(max(0.0, segment.start + seconds), 3),
        end=round(max(0.0, segment.end + seconds), 3),
        words=tuple(
            replace(
                word,
                start=round(max(0.0, word.start + seconds), 3),
                end=round(max(0.0, word.end + seconds), 3),
            )
            for word in segment.words
        ),
    )


# --- bytes --------------------------------------------------------------------------------------------

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _bytes(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise TranscriptError(f"There is no file {path}.")
        if not path.is_file():
            raise TranscriptError(f"{name} is not a file.")
        if path.stat().st_size > MOST_BYTES:
            raise TranscriptError(f"{name} is larger than {MOST_BYTES // 2**20} MiB, which no transcript is.")
        return path.read_bytes()
    except OSError as error:
        raise TranscriptError(f"{name} cannot be read ({error.strerror}).") from error


def _decoded(data: bytes, name: str, encoding: str | None) -> str:
    """The text of a file.

    Raises:
        TranscriptError: It is no text, or in another encoding.
    """
    if encoding is not None:
        try:
            text = data.decode(encoding)
        except LookupError:
            raise TranscriptError(f"There is no encoding “{encoding}”; try cp1252, for example.") from None
        except ValueError as error:
            raise TranscriptError(f"{name} is not text in {encoding}; nothing was imported.") from error
        return text.removeprefix("\ufeff")
    for mark, codec in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec)
            except ValueError as error:
                raise TranscriptError(f"{name} is damaged: it is not the Unicode it says it is.") from error
    start = data[:4096]
    if b"\0" in start:
        if (guess := _utf16(start)) is not None:
            with suppress(ValueError):
                return data.decode(guess)
        raise _no_text(name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if _is_binary(start):
            raise _no_text(name) from error
        raise OtherEncoding(
            f"{name} is not Unicode text; save it as UTF-8, or name its encoding (cp1252 for files from "
            "older Windows programs). Nothing was imported."
        ) from error


def _no_text(name: str) -> TranscriptError:
    return TranscriptError(
        f"{name} is not a transcript (srt, vtt, json, or text with times); a media file is added, not "
        "imported."
    )


def _utf16(data: bytes) -> str | None:
    """UTF-16 without a mark: in text that is mostly ASCII every other byte is 0."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if max(even, odd) < 0.3 * len(data) / 2:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _is_binary(data: bytes) -> bool:
    """Whether there are control characters that no text has."""
    return any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in data)
