"""The speech caption: a voice described in thirteen fields of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moss_audio.tasks.cleaning import clean, without_fences, without_loops
from moss_audio.tasks.json_objects import Found, Object, Value, as_text, read_object
from moss_audio.tasks.results import CAPTION_FIELDS, Caption, Dropped, Parsed, has_words

_OTHER_NAMES = {
    "sex": "gender",
    "age_group": "age",
    "age_range": "age",
    "loudness": "volume",
    "rate": "speed",
    "speech_rate": "speed",
    "speaking_rate": "speed",
    "timbre": "texture",
    "mood": "emotion",
    "性别": "gender",
    "年龄": "age",
    "口音": "accent",
    "音高": "pitch",
    "音调": "pitch",
    "音量": "volume",
    "语速": "speed",
    "音色": "texture",
    "质感": "texture",
    "清晰度": "clarity",
    "流畅度": "fluency",
    "情绪": "emotion",
    "情感": "emotion",
    "语气": "tone",
    "性格": "personality",
    "总结": "summary",
    "摘要": "summary",
}
_LINE = re.compile(r"[ \t>*•\-\"'“”]{0,8}(\w[\w /]{0,30}?)[ \t*\"'“”]{0,6}[:：](.*)")


def parse_caption(text: str, duration: float | None = None) -> Parsed[Caption]:
    """Read a speech caption.

    Args:
        text: What the model wrote.
        duration: Not used; every parser takes it.

    Returns:
        The fields that are there in full. Reported: broken JSON, a field cut off, unknown fields, and text
        around the object. Lines such as ``Gender: male`` are read where there is no JSON.
    """
    answer, dropped = clean(text)
    answer, found = without_fences(answer)
    dropped += found
    read = read_object(answer)
    fields: dict[str, str] = {}
    said: list[Dropped] = []
    if read is not None:
        _take(read.value, fields, said)
        if fields:
            dropped += [*_around(answer, read), *_state(answer, read), *said]
    if not fields:
        dropped += _from_lines(answer, fields)
    for name, value in list(fields.items()):
        fields[name], found = without_loops(value)
        dropped += found
    return Parsed(Caption(**fields), tuple(dropped))


def _known(name: str) -> str | None:
    plain = re.sub(r"[\s_-]+", "_", name.strip().casefold())
    plain = _OTHER_NAMES.get(plain, plain)
    return plain if plain in CAPTION_FIELDS else None


def _take(value: Value, fields: dict[str, str], dropped: list[Dropped]) -> None:
    """Take known fields out of an object, also where it wraps them in another."""
    for name, item in _pairs(value):
        words = as_text(item).strip()
        field = _known(name)
        if (
            field is None
            and isinstance(item, (Object, list))
            and any(_known(inner) for inner, _ in _pairs(item))
        ):
            dropped.append(Dropped(name, "wraps the fields of the caption", "unknown field"))
            _take(item, fields, dropped)
        elif field is None:
            dropped.append(Dropped(f"{name}: {words}", "no field of a speech caption", "unknown field"))
        elif field in fields and words and words != fields[field]:
            dropped.append(Dropped(f"{name}: {words}", "the field is there already", "ambiguous"))
        elif words:
            fields[field] = words


def _pairs(value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Object):
        yield from value.fields
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (Object, list)):
                yield from _pairs(item)
            elif item:
                yield "", item


def _around(text: str, read: Found) -> Iterator[Dropped]:
    for outside in (text[: read.begin], text[read.finish :]):
        if has_words(outside):
            yield Dropped(outside.strip(), "stands outside the JSON", "explanation")


def _state(text: str, read: Found) -> Iterator[Dropped]:
    if not read.whole:
        yield Dropped(read.cut.strip(), "the JSON ends before it is complete", "cut off")
    elif not read.strict:
        written = text[read.begin : read.finish]
        yield Dropped(written, "broken JSON, read field by field", "not JSON")
    if has_words(read.junk):
        yield Dropped(read.junk, "belongs to no field", "not JSON")


def _from_lines(text: str, fields: dict[str, str]) -> list[Dropped]:
    """Read ``Gender: male``, one field a line."""
    rest: list[str] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        name = _known(match[1]) if match else None
        value = match[2].strip(" \t*,，\"'“”") if match else ""
        if name and name not in fields and has_words(value):
            fields[name] = value
        elif has_words(line):
            rest.append(line.strip())
    written = "\n".join(rest)
    if fields:
        said = [Dropped("", "no JSON, but lines that name the fields", "not JSON")]
        return said + ([Dropped(written, "names no field", "explanation")] if rest else [])
    return [Dropped(written, "no JSON with any field of a speech caption", "not JSON")] if rest else []
