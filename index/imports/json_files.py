"""Transcripts in JSON: this program's export, and what Whisper's descendants write.

Whisper, whisperX, faster-whisper and its command lines, whisper.cpp, transformers' pipeline and OpenAI's API
(verbose and diarized) have segments with times, each under names of its own; words with times are optional in
all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from index.imports.cues import Cue, HeardWord, fitted_words
from index.language_names import LANGUAGE_NAMES
from index.recording_errors import TranscriptError
from index.records import Segment, Word
from index.text import one_line


@dataclass(frozen=True)
class JsonTranscript:
    """What a file says.

    Attributes:
        cues: In its order, where another program wrote it.
        segments: In its order, where this program did: they are sentences already.
        title: None where it has none.
        language: ISO 639-1 code; None where unknown.
        duration: Seconds; None where it does not say.
        left_out: How many segments say something, but not when.
    """

    cues: tuple[Cue, ...] = ()
    segments: tuple[Segment, ...] = ()
    title: str | None = None
    language: str | None = None
    duration: float | None = None
    left_out: int = 0


def read_json(text: str, name: str) -> JsonTranscript:
    """Read a file.

    Args:
        text: What it contains.
        name: Its name.

    Raises:
        TranscriptError: It is no JSON, or none of these kinds.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise TranscriptError(f"{name} is damaged: it is not valid JSON{line}.") from error
    if isinstance(document, list):
        document = {"segments": document}
    if isinstance(document, dict):
        segments = _objects(document.get("segments"))
        if any("kind" in segment for segment in segments):
            return _own(document, segments)
        segments = segments or [_from_cpp(entry) for entry in _objects(document.get("transcription"))]
        chunks = [_from_pipeline(entry) for entry in _objects(document.get("chunks"))]
        if chunks and all(len(_text(chunk["text"]).split()) < 2 for chunk in chunks):
            segments = segments or [{"text": document.get("text"), "words": chunks}]
        if segments := segments or chunks:
            return _whisper(document, segments)
        if _objects(document.get("words")):
            return _whisper(document, [{"text": document.get("text"), "words": document["words"]}])
    raise TranscriptError(
        f"{name} is not a transcript that can be read: it has no segments with times, as whisper, whisperX, "
        "faster-whisper, transformers and moss-agent write them."
    )


# --- this program's export ----------------------------------------------------------------------------


def _own(document: dict[str, Any], entries: Sequence[dict[str, Any]]) -> JsonTranscript:
    segments, left_out = [], 0
    for entry in entries:
        start, end, text = _seconds(entry.get("start")), _seconds(entry.get("end")), _text(entry.get("text"))
        kind = entry.get("kind")
        if start is None or not text or kind not in ("speech", "sound", "music"):
            left_out += bool(text)
            continue
        segments.append(
            Segment(
                start=start,
                end=max(start, start if end is None else end),
                text=text,
                kind=kind,
                speaker=_text(entry.get("speaker")) or None,
                words=tuple(_own_words(entry.get("words"))),
                language=_language(entry.get("language")),
            )
        )
    return JsonTranscript(
        segments=tuple(segments),
        title=_text(document.get("title")) or None,
        language=_language(document.get("language")),
        duration=_number(document.get("duration")),
        left_out=left_out,
    )


def _own_words(entries: object) -> Iterator[Word]:
    for entry in _objects(entries):
        start, end = _seconds(entry.get("start")), _seconds(entry.get("end"))
        text = entry.get("text")
        if start is None or end is None or not isinstance(text, str) or not one_line(text):
            continue
        space = " " if text[:1].isspace() else ""
        yield Word(start, max(start, end), space + one_line(text), _probability(entry.get("probability")))


# --- others -------------------------------------------------------------------------------------------


def _whisper(document: dict[str, Any], entries: Sequence[dict[str, Any]]) -> JsonTranscript:
    loose = [_heard(word) for word in _objects(document.get("words"))]
    found = [tuple(_cues(entry, loose)) for entry in entries]
    left_out = sum(
        not cues and bool(_text(entry.get("text"))) for cues, entry in zip(found, entries, strict=True)
    )
    result = document.get("result")
    language = document.get("language") or (result.get("language") if isinstance(result, dict) else None)
    return JsonTranscript(
        cues=tuple(cue for cues in found for cue in cues),
        language=_language(language),
        duration=_number(document.get("duration")),
        left_out=left_out,
    )


def _cues(entry: dict[str, Any], loose: Sequence[HeardWord]) -> Iterator[Cue]:
    """A segment as cues: one for each voice, where its words have voices of their own.

    Args:
        entry: The segment.
        loose: Words of the whole file, where they stand beside the segments.
    """
    listed = _objects(entry.get("words"))
    words = [_heard(word) for word in listed]
    start, end = _number(entry.get("start")), _number(entry.get("end"))
    times = [time for _, first, last, _ in words for time in (first, last) if time is not None]
    if start is None and times:
        start, end = min(times), max(times)
    if start is None:
        return
    if not words and loose and end is not None:
        words = [
            word
            for word in loose
            if word[1] is not None and start <= (word[1] + (word[2] or word[1])) / 2 < end
        ]
    speaker = _text(entry.get("speaker")) or None
    text = _text(entry.get("text")) or one_line(" ".join(word[0] for word in words))
    if not text:
        return
    fitted = fitted_words(text, words)
    whole = Cue(start, end, text, speaker, fitted, language=_language(entry.get("language")))
    voices = [_text(word.get("speaker")) or speaker for word in listed if one_line(_heard(word)[0])]
    if len(set(voices)) < 2 or len(voices) != len(fitted):
        yield whole
        return
    first = 0
    for at in range(1, len(fitted) + 1):
        if at == len(fitted) or voices[at] != voices[first]:
            own = fitted[first:at]
            said = one_line("".join(word.text for word in own))
            own = (replace(own[0], text=own[0].text.lstrip()), *own[1:])
            yield replace(
                whole, start=own[0].start, end=own[-1].end, text=said, speaker=voices[first], words=own
            )
            first = at


def _heard(word: dict[str, Any]) -> HeardWord:
    text = word.get("word", word.get("text"))
    sure = word.get("probability", word.get("score", 1.0))
    return (
        text if isinstance(text, str) else "",
        _number(word.get("start")),
        _number(word.get("end")),
        _probability(sure),
    )


def _from_cpp(entry: dict[str, Any]) -> dict[str, Any]:
    """A segment of whisper.cpp, whose offsets are milliseconds, under the names that the others use.

    Its tokens are parts of words, so their times are not taken for those of words.
    """
    offsets = entry.get("offsets")
    offsets = offsets if isinstance(offsets, dict) else {}
    start, end = (_number(offsets.get(side)) for side in ("from", "to"))
    return {
        "start": None if start is None else start / 1000,
        "end": None if end is None else end / 1000,
        "text": entry.get("text"),
        "speaker": entry.get("speaker"),
    }


def _from_pipeline(entry: dict[str, Any]) -> dict[str, Any]:
    """A chunk of transformers' pipeline, whose times are a pair, under the names that the others use."""
    times = entry.get("timestamp")
    start, end = times if isinstance(times, list) and len(times) == 2 else (None, None)
    return {**entry, "start": start, "end": end, "text": entry.get("text")}


# --- values, none of which can be trusted -------------------------------------------------------------


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return one_line(value) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    """A finite number, which some write as a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if isfinite(number) else None


def _seconds(value: object) -> float | None:
    """A finite number, and 0 for one before the beginning; None for anything else."""
    number = _number(value)
    return None if number is None else max(0.0, number)


def _probability(value: object) -> float:
    number = _number(value)
    return 1.0 if number is None else min(1.0, max(0.0, number))


def _language(value: object) -> str | None:
    """An ISO 639-1 code from a code, or from a language's English name as OpenAI's API has it."""
    if not isinstance(value, str):
        return None
    written = value.strip().lower()
    if written in LANGUAGE_NAMES:
        return written
    return next((code for code, name in LANGUAGE_NAMES.items() if name.lower() == written), None)
