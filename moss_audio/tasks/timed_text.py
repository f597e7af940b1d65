"""Answers with times: sentences, words and turns of speakers (``[0.00]hello there[2.01]``), and sound events.

Sound events stand one a line, ``0.0 - 1.2: dog barks``, or are written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from moss_audio.generation.loops import cut_loops, find_loops, words_of
from moss_audio.tasks.cleaning import clean, without_fences
from moss_audio.tasks.drafts import (
    Clock,
    Draft,
    Step,
    in_order,
    known_duration,
    read_drafts,
    read_lines,
    sorted_by_start,
)
from moss_audio.tasks.json_objects import Object, Value, as_text, read_object
from moss_audio.tasks.results import (
    CLOSE,
    OPEN,
    TIME,
    UNIT,
    Dropped,
    Event,
    Events,
    Parsed,
    TimedText,
    TimedTexts,
    has_words,
    one_line,
)
from moss_audio.timestamps import parse_clock

_Pass = Callable[[list[Draft]], Step]
"""One step of what is done to drafts; each reports what it changed."""


def parse_sentences(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with the times of its sentences.

    Args:
        text: What the model wrote.
        duration: Length of the clip in seconds; None if unknown, then no time counts as beyond it.

    Returns:
        Sentences with ``0 <= start <= end <= duration``, starts never falling, no empty text. Reported: all
        text without times, times that were missing and are estimates, times beyond the clip or out of order,
        loops, and everything that surrounds the answer.
    """
    return _parse(text, duration)


def parse_words(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with the times of its words; like ``parse_sentences``, with one word in each part.

    Where the model put several words between two stamps, their time is shared out by length, and reported.
    """
    return _parse(text, duration, _one_word_each)


def parse_speakers(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with times and speaker labels; like ``parse_sentences``, with ``speaker`` set.

    Labels such as ``[S1]``, ``[Speaker 1]`` or ``Speaker 1:`` become ``S01``. A part without one is reported.
    """
    parsed = _parse(text, duration, labels=True)
    unknown = [
        Dropped(part.text, f"nobody is named for the words at {part.start:.2f} s", "no speaker")
        for part in parsed.value
        if part.speaker is None
    ]
    return replace(parsed, dropped=(*parsed.dropped, *unknown))


def _parse(text: str, duration: float | None, *extra: _Pass, labels: bool = False) -> Parsed[TimedTexts]:
    clock = Clock(known_duration(duration))
    drafts, dropped = _read(
        text,
        lambda answer: read_drafts(answer, labels),
        _without_word_loops,
        clock.complete,
        clock.within,
        in_order,
        *extra,
    )
    return Parsed(TimedTexts(_settled(drafts)), tuple(dropped))


def _read(text: str, read: Callable[[str], Step], *passes: _Pass) -> Step:
    """Drafts of what a model wrote, less what surrounds the answer, after every pass."""
    answer, dropped = clean(text)
    answer, found = without_fences(answer)
    dropped += found
    drafts, found = read(answer)
    dropped += found
    for step in passes:
        drafts, found = step(drafts)
        dropped += found
    return drafts, dropped


def _settled(drafts: list[Draft]) -> Iterator[TimedText]:
    for draft in drafts:
        assert draft.start is not None and draft.end is not None
        yield TimedText(draft.start, draft.end, draft.text, draft.speaker)


def _without_word_loops(drafts: list[Draft]) -> Step:
    """Cut loops of words that run through one part or through many, and parts that stand there twice."""
    seen: set[tuple[float | None, float | None, str]] = set()
    once: list[Draft] = []
    dropped: list[Dropped] = []
    for draft in drafts:
        same = (draft.start, draft.end, draft.text)
        if same in seen and draft.end is not None:
            dropped.append(Dropped(draft.raw, "stands there already, with the same times", "loop"))
        else:
            once.append(draft)
        seen.add(same)
    texts, cut = cut_loops([draft.text for draft in once])
    # A part that is gone entirely is reported with its times.
    for owner, words in cut:
        raw = words if has_words(texts[owner]) else once[owner].raw
        dropped.append(Dropped(raw, "says again what was just said", "loop"))
    kept = [
        replace(draft, text=text) for draft, text in zip(once, texts, strict=True) if text and has_words(text)
    ]
    return kept, dropped


@dataclass(frozen=True)
class _Share:
    """How much of a part's time its words before this one took, and what it takes itself."""

    word: str
    before: int
    size: int


def _one_word_each(drafts: list[Draft]) -> Step:
    words: list[Draft] = []
    dropped: list[Dropped] = []
    for draft in drafts:
        shares = _shares(draft.text)
        if len(shares) < 2:
            words.append(replace(draft, text=shares[0].word))
            continue
        reason = f"{len(shares)} words between two stamps; their times within are shared out by length"
        dropped.append(Dropped(draft.raw, reason, "several words"))
        assert draft.start is not None and draft.end is not None
        length = draft.end - draft.start
        total = shares[-1].before + shares[-1].size
        for share in shares:
            begin = draft.start + length * share.before / total
            finish = min(draft.end, draft.start + length * (share.before + share.size) / total)
            words.append(replace(draft, start=min(begin, finish), end=finish, text=share.word))
    # Shares of overlapping parts interleave.
    return sorted(words, key=lambda word: word.start or 0.0), dropped


def _shares(text: str) -> list[_Share]:
    """Words of a text and their sizes; punctuation that stands alone goes with the word before it."""
    joined: list[str] = []
    for piece in text.split():
        if joined and not (has_words(piece) and has_words(joined[-1])):
            joined[-1] += piece
        else:
            joined.append(piece)
    shares: list[_Share] = []
    before = 0
    for word in joined:
        size = max(1, len(words_of(word)) if not word.isascii() else len(word))
        shares.append(_Share(word, before, size))
        before += size
    return shares


EVENT_REPEATS = 8
"""So many events in a row with the same words, length and distance are a loop: no dog keeps such time."""

_LONGEST_CYCLE = 8
_ONLY_TIME = re.compile(rf"\s{{0,3}}({TIME}){UNIT}\s{{0,3}}", re.IGNORECASE)
_OFFICIAL = re.compile(
    rf"{OPEN}\s{{0,3}}{TIME}{UNIT}\s{{0,3}}{CLOSE}([^\n\[［【〔]*){OPEN}\s{{0,3}}[0-9０-９]"
)
_JSON = re.compile(r"[\[{]\s{0,40}[{\"']")
_START = {"start", "begin", "from", "onset", "start_sec", "start_time", "start_s"}
_END = {"end", "finish", "to", "offset", "end_sec", "end_time", "end_s"}
_TEXT = ("event", "description", "caption", "label", "text", "sound", "content", "name")


def parse_events(text: str, duration: float | None = None) -> Parsed[Events]:
    """Read a timeline of sound events.

    Args:
        text: What the model wrote.
        duration: Length of the clip in seconds; None if unknown, then no time counts as beyond it.

    Returns:
        Events with ``0 <= start <= end <= duration``, sorted by start, no empty text. Reported: lines without
        times, times that were missing, swapped, beyond the clip or out of order, and loops.
    """
    clock = Clock(known_duration(duration), speech=False)
    drafts, dropped = _read(
        text, _read_events, _without_event_loops, clock.complete, clock.within, sorted_by_start
    )
    events = [Event(draft.start or 0.0, draft.end or 0.0, draft.text) for draft in drafts]
    return Parsed(Events(events), tuple(dropped))


def _read_events(text: str) -> Step:
    if _JSON.search(text):
        drafts, dropped = _from_json(text)
        if drafts:
            return drafts, dropped
    if any(has_words(match[1]) for match in _OFFICIAL.finditer(text)):
        return read_drafts(text)
    return read_lines(text)


def _from_json(text: str) -> Step:
    """Read ``[{"start": 0.0, "end": 3.1, "event": "dog"}, …]``."""
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    reached = 0
    while (read := read_object(text, reached)) is not None:
        if has_words(outside := text[reached : read.begin]):
            dropped.append(Dropped(outside.strip(), "stands outside the JSON", "explanation"))
        raw = text[read.begin : read.finish]
        found = [_from_object(item, raw) for item in _objects(read.value)]
        if not any(draft for draft, _ in found):
            dropped.append(Dropped(raw, "JSON without the times of an event", "no times"))
        for draft, rest in found:
            drafts += [draft] if draft else []
            dropped += rest
        if not read.whole:
            dropped.append(Dropped(read.cut.strip(), "the JSON ends before it is complete", "cut off"))
        if has_words(read.junk):
            dropped.append(Dropped(read.junk, "belongs to no field", "not JSON"))
        reached = read.finish
    if has_words(text[reached:]):
        dropped.append(Dropped(text[reached:].strip(), "stands outside the JSON", "explanation"))
    return drafts, dropped


def _objects(value: Value) -> Iterator[Object]:
    """An object, or those inside it."""
    if isinstance(value, Object):
        inner: list[Value] = [held for _, held in value.fields if isinstance(held, (Object, list))]
        yield value
        for held in inner:
            yield from _objects(held)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _from_object(value: Object, raw: str) -> tuple[Draft | None, list[Dropped]]:
    start = end = None
    texts: dict[str, str] = {}
    others: list[str] = []
    for name, item in value.fields:
        plain = name.strip().casefold()
        time = _ONLY_TIME.fullmatch(item) if isinstance(item, str) else None
        if plain in _START and start is None and time:
            start = parse_clock(time[1])
        elif plain in _END and end is None and time:
            end = parse_clock(time[1])
        elif plain in _TEXT and plain not in texts and has_words(as_text(item)):
            texts[plain] = one_line(as_text(item))
        elif not isinstance(item, (Object, list)):
            others.append(f"{name}: {as_text(item)}")
    if start is None or not texts:
        kept = [f"{name}: {words}" for name, words in texts.items()]
        lost = "; ".join([*kept, *others])
        return None, [Dropped(lost, "an object without start and event", "no times")] if lost else []
    # The most telling name wins; what other names say goes with it.
    words = "; ".join(texts[name] for name in _TEXT if name in texts)
    rest = [Dropped(other, "no field of an event", "unknown field") for other in others]
    return Draft(start, end, words, raw=raw), rest


def _without_event_loops(drafts: Sequence[Draft]) -> Step:
    """Cut loops of words within an event, and of events that come again at a machine's pace."""
    kept: list[Draft] = []
    dropped: list[Dropped] = []
    seen: set[tuple[float | None, float | None, str]] = set()
    for draft in drafts:
        texts, cut = cut_loops([draft.text])
        dropped += [Dropped(words, "says again what was just said", "loop") for _, words in cut]
        draft = replace(draft, text=texts[0])
        if (same := (draft.start, draft.end, draft.text)) in seen:
            dropped.append(Dropped(draft.raw, "stands there already, with the same times", "loop"))
        else:
            kept.append(draft)
        seen.add(same)
    bad: set[int] = set()
    for loop in find_loops(_paces(kept), _LONGEST_CYCLE, EVENT_REPEATS):
        bad |= set(range(loop.again, loop.end))
    reason = f"the same events over and over, at one pace, {EVENT_REPEATS} times or more"
    dropped += [Dropped(kept[index].raw, reason, "loop") for index in sorted(bad)]
    return [kept[index] for index in range(len(kept)) if index not in bad], dropped


def _paces(drafts: Sequence[Draft]) -> list[tuple[str, float, float]]:
    """By what events are compared: words, length, and distance from the one before, in seconds."""
    found = []
    before = 0.0
    for draft in drafts:
        start = draft.start or 0.0
        length = (start if draft.end is None else draft.end) - start
        found.append((draft.text.casefold(), round(length, 2), round(start - before, 2)))
        before = start
    return found
