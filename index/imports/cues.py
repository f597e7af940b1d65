"""Timed lines as a transcript file has them, and what becomes of them: sentences with words and speakers.

Every reader gives cues in the order of its file. Here their times are checked and completed, the names in
front of them are told from what was said, and they are cut into sentences as what is heard is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite

from index.corrections.word_times import spread
from index.recording_errors import TranscriptError
from index.records import Kind, Note, NoteKind, Segment, Span, StageName, Word
from index.text import UNSPACED, one_line
from index.transcription.sentences import MAX_PAUSE_SECONDS, join_words, split_sentences
from moss_audio.timestamps import clock

LATEST_SECONDS = 1_000 * 3600.0
"""A later time is a mistake, or no time at all."""

CHARACTERS_A_SECOND = 15.0
"""How fast people talk where only the beginning of what they say is known: 160 English words a minute."""

SLOWEST_CHARACTERS_A_SECOND = 8.0
"""A line lasts no longer than at this pace, even where the next one is far away."""

SHORTEST_SECONDS = 0.3

RESTART_LINES = 3
"""From so many lines in a row that belong to a time long past, the clock was set back."""

LONGEST_LABEL, LABEL_WORDS = 40, 5
"""Characters and words of a name before a colon."""

LABELLED_SHARE = 0.3
"""Share of lines with a name and a colon from which these are names of speakers."""

EVERY_LINE_SHARE = 0.95
"""Share from which every line names its speaker; below, a name holds until the next one, but not where names
stand in brackets, as programs write them that name only whom they know."""


@dataclass(frozen=True)
class Cue:
    """What a file says at a time, seconds; ``end`` is None where the file does not say.

    ``words`` are empty where the file has no times of words. Their texts carry their own spaces, and joined
    they are ``text``.
    """

    start: float
    end: float | None
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    kind: Kind = "speech"
    language: str | None = None


# --- names before what was said -----------------------------------------------------------------------

_LABEL = re.compile(
    rf"(?:>>+\s*|[-–—]\s+)?(?P<open>\[)?(?P<name>[^\[\]:!?\n]{{1,{LONGEST_LABEL}}})(?(open)\])\s*[:：](?!//)\s*(?P<text>.*)",
    re.DOTALL,
)
_MADE_UP_NAME = re.compile(r"(?:speaker|spk|sprecher|s)[ _-]?\w{1,3}", re.IGNORECASE)


def _label(line: str) -> tuple[str, str] | None:
    """A name and what is said, where a line may begin with a name and a colon."""
    found = _LABEL.fullmatch(line)
    if found is None:
        return None
    name, text = found["name"].strip(), found["text"]
    begins_as_name = name[:1].isupper() or (name[:1].isalpha() and not name[:1].islower())
    if not (begins_as_name or found["open"] or _MADE_UP_NAME.fullmatch(name)):
        return None
    if len(name.split()) > LABEL_WORDS or not any(letter.isalnum() for letter in name):
        return None
    return name, text


def split_labels(lines: Sequence[str], leading: Sequence[bool] | None = None) -> list[tuple[str | None, str]]:
    """Tell names of speakers from what they say, for all lines of a file at once.

    ``Anna: Good morning`` may be a speaker's line and ``Remember: no dogs`` is none, so what counts is
    whether many lines begin so, and a name that stands there once does not count where only some do.

    Args:
        lines: What was said, in order.
        leading: Which of them are the first at their time, where that is not all.

    Returns:
        Speaker and text of each line; no speaker where none is named so far, and none of sounds.
    """
    first = leading or [True] * len(lines)
    found = [_label(line) for line in lines]
    names = Counter(label[0] for label in found if label is not None)
    named = sum(label is not None and lead for label, lead in zip(found, first, strict=True))
    spoken = sum(lead and not _BRACKETED.fullmatch(line) for line, lead in zip(lines, first, strict=True))
    bracketed = sum(
        label is not None and line.startswith("[") for label, line in zip(found, lines, strict=True)
    )
    every = named >= EVERY_LINE_SHARE * spoken or bracketed > named / 2
    if not named or named < LABELLED_SHARE * spoken:
        return [(None, line) for line in lines]
    known: list[tuple[str | None, str]] = []
    speaker: str | None = None
    for line, lead, label in zip(lines, first, found, strict=True):
        if label is not None and ((every and lead) or names[label[0]] > 1):
            speaker = label[0]
            known.append((speaker, label[1]))
        else:
            nobody = every or _BRACKETED.fullmatch(line)
            known.append((None if nobody else speaker, line))
    return known


_BRACKETED = re.compile(r"\((?P<round>[^()]+)\)|\[(?P<square>[^\[\]]+)\]|(?P<notes>[♪♫#*].*)", re.DOTALL)
_MUSIC = re.compile(r"[♪♫]|\bmusic\b|\bmusik\b|\bmusique\b", re.IGNORECASE)


def as_heard(cue: Cue) -> Cue:
    """A cue as speech, or as a sound where all of it stands in brackets, as captions write ``(rain)``."""
    text = one_line(cue.text)
    found = _BRACKETED.fullmatch(text)
    if found is None or (found["notes"] and not _MUSIC.search(text)):
        return replace(cue, text=text)
    inside = (found["round"] or found["square"] or text).strip(" ♪♫")
    if not inside:
        inside = "music"
    kind: Kind = "music" if _MUSIC.search(text) else "sound"
    return replace(cue, text=inside, kind=kind, words=())


# --- times --------------------------------------------------------------------------------------------


def in_order(cues: Sequence[Cue], name: str) -> tuple[list[Cue], tuple[Note, ...]]:
    """Cues in order of time, each with an end, and what had to be mended.

    Args:
        cues: In the order of the file.
        name: The file's name.

    Raises:
        TranscriptError: A time is impossible, or the clock begins again, as in two transcripts in one file.
    """
    for cue in cues:
        times = [cue.start, *(() if cue.end is None else (cue.end,))]
        times += [time for word in cue.words for time in (word.start, word.end)]
        if not all(isfinite(time) and time < LATEST_SECONDS for time in times):
            raise TranscriptError(
                f"{name} has a time that cannot be right, at “{_brief(cue.text)}”; nothing was imported."
            )
    cues = [_from_zero(cue) for cue in cues]
    backwards = _backwards(cues, name)
    ordered = sorted(cues, key=lambda cue: cue.start)
    reversed_ends = sum(cue.end is not None and cue.end < cue.start for cue in ordered)
    ordered = _with_ends(ordered)
    overlapping = _overlapping(ordered)
    numbers = {"backwards": len(backwards), "ends": reversed_ends, "overlapping": len(overlapping)}
    numbers = {kind: count for kind, count in numbers.items() if count}
    if not numbers:
        return ordered, ()
    spans = sorted({*backwards, *overlapping}, key=lambda span: span.start)
    return ordered, (Note(NoteKind.TIMES_MENDED, StageName.READING, tuple(spans[:100]), numbers),)


def _from_zero(cue: Cue) -> Cue:
    if cue.start >= 0.0:
        return cue
    end = None if cue.end is None else max(0.0, cue.end)
    words = tuple(replace(word, start=max(0.0, word.start), end=max(0.0, word.end)) for word in cue.words)
    return replace(cue, start=0.0, end=end, words=words)


def _backwards(cues: Sequence[Cue], name: str) -> list[Span]:
    """Where the file goes back in time.

    Raises:
        TranscriptError: It begins again.
    """
    found: list[Span] = []
    latest = 0.0
    for at, cue in enumerate(cues):
        if cue.start < latest and cue.start < cues[at - 1].start:
            following = cues[at : at + RESTART_LINES]
            begins_again = (
                len(following) == RESTART_LINES
                and at >= RESTART_LINES
                and all(other.start < latest / 2 for other in following)
                and all(a.start <= b.start for a, b in pairwise(following))
                and cue.start <= cues[RESTART_LINES - 1].start
            )
            if begins_again:
                raise TranscriptError(
                    f"The times of {name} go back from {clock(latest)} to {clock(cue.start)} at "
                    f"“{_brief(cue.text)}”, as if there were two transcripts in it; divide it there and "
                    "import each. Nothing was imported."
                )
            found.append(
                Span(cue.start, cue.end if cue.end is not None and cue.end > cue.start else cue.start)
            )
        latest = max(latest, cue.start)
    return found


def _with_ends(ordered: Sequence[Cue]) -> list[Cue]:
    """Give every cue an end: the file's, or else the next beginning, unless that is far away.

    Several lines at one time, as where a file has full seconds or a time every five minutes, share what lies
    before the next time by their lengths.
    """
    complete: list[Cue] = []
    at = 0
    while at < len(ordered):
        start = ordered[at].start
        group = [ordered[at]]
        while at + len(group) < len(ordered) and ordered[at + len(group)].start == start:
            group.append(ordered[at + len(group)])
        at += len(group)
        if all(cue.end is not None and cue.end > cue.start for cue in group):
            complete += group
            continue
        sizes = [max(1, len(cue.text)) for cue in group]
        if at < len(ordered):
            seconds = min(ordered[at].start - start, sum(sizes) / SLOWEST_CHARACTERS_A_SECOND + 1.0)
        else:
            seconds = sum(sizes) / CHARACTERS_A_SECOND
        seconds = max(seconds, SHORTEST_SECONDS * len(group))
        began = start
        for cue, size in zip(group, sizes, strict=True):
            if cue.end is not None and cue.end > cue.start:
                complete.append(cue)
                continue
            ends = began + seconds * size / sum(sizes)
            # A word's own time is better than a guess.
            last = max((word.end for word in cue.words), default=0.0)
            complete.append(replace(cue, start=began, end=max(ends if not cue.words else last, began)))
            began = ends
    return sorted(complete, key=lambda cue: cue.start)


def _overlapping(ordered: Sequence[Cue]) -> list[Span]:
    """Where one voice, as far as the file tells voices apart, says two things at once."""
    found = []
    until: dict[str | None, float] = {}
    for cue in ordered:
        end = cue.end or cue.start
        if cue.kind == "speech":
            if cue.start < until.get(cue.speaker, 0.0) - 0.01:
                found.append(Span(cue.start, min(end, until[cue.speaker])))
            until[cue.speaker] = max(until.get(cue.speaker, 0.0), end)
    return found


def _brief(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= 40 else f"{text[:39]}…"


# --- words --------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(?:[^\s。？！｡]+[。？！｡]*|[。？！｡]+)[\"'”’»)\]」』]*")


def interpolated(text: str, start: float, end: float, speech: Sequence[Span] = ()) -> tuple[Word, ...]:
    """The words of a text at an even pace from ``start`` to ``end``, seconds; each with probability 0.

    Args:
        text: One line.
        start: When it begins.
        end: When it ends.
        speech: Where somebody speaks; pauses between are left out, if the text has any speech at all.
    """
    tokens = _TOKEN.findall(text)
    inside = [
        Span(max(start, span.start), min(end, span.end))
        for span in speech
        if span.start < end and span.end > start
    ] or [Span(start, end)]
    spoken = sum(span.duration for span in inside)
    words = []
    for token, word in zip(tokens, spread([token.strip() for token in tokens], 0.0, spoken), strict=True):
        first, last = _along(inside, word.start, later=True), _along(inside, word.end, later=False)
        words.append(Word(round(first, 3), round(max(first, last), 3), token, 0.0))
    return tuple(words)


def _along(spans: Sequence[Span], spoken: float, later: bool) -> float:
    """The time when so many seconds of spans have passed; on a border, the beginning of the later one."""
    for span in spans[:-1]:
        if spoken < span.duration or (spoken == span.duration and not later):
            return span.start + spoken
        spoken -= span.duration
    return min(spans[-1].start + spoken, spans[-1].end)


HeardWord = tuple[str, float | None, float | None, float]
"""A word's text, start and end in seconds (None where unknown), and probability."""


def fitted_words(text: str, words: Sequence[HeardWord]) -> tuple[Word, ...]:
    """Words with the spaces that the text has between them; none where they are not the words of the text.

    Args:
        text: One line.
        words: Text, start, end (seconds, None where unknown) and probability of each.
    """
    spaced: list[HeardWord] = []
    at = 0
    for written, start, end, probability in words:
        bare = one_line(written)
        if not bare:
            continue
        place = text.find(bare, at)
        between = text[at:place]
        if place < 0 or any(letter.isalnum() for letter in between):
            return ()
        if spaced:
            # Punctuation that the words lack belongs to the one that it touches.
            touching = re.match(r"\S*", between)[0]  # type: ignore[index]
            spaced[-1] = (spaced[-1][0] + touching, *spaced[-1][1:])
            at += len(touching)
        spaced.append((text[at : place + len(bare)], start, end, probability))
        at = place + len(bare)
    if not spaced or any(letter.isalnum() for letter in text[at:]):
        return ()
    spaced[-1] = (spaced[-1][0] + text[at:], *spaced[-1][1:])
    return _timed(spaced)


def _timed(words: Sequence[HeardWord]) -> tuple[Word, ...]:
    """Words without times get those between their neighbours; none where no word has a time."""
    known = [(at, start, end) for at, (_, start, end, _) in enumerate(words) if start is not None]
    if not known:
        return ()
    found: list[Word] = []
    for at, (text, start, end, probability) in enumerate(words):
        if start is not None:
            found.append(Word(start, start if end is None else max(start, end), text, probability))
            continue
        before = found[-1].end if found else known[0][1]
        following = next((time for place, time, _ in known if place > at), None)
        behind = next((place for place, _, _ in known if place > at), len(words))
        until = max(before, following if following is not None else before + 0.3 * (behind - at))
        share = (until - before) / (behind - at)
        found.append(Word(round(before, 3), round(before + share, 3), text, 0.0))
    return tuple(found)


# --- sentences ----------------------------------------------------------------------------------------


def sentences(cues: Sequence[Cue], engine: str) -> list[Segment]:
    """Cues as segments: one sentence each, though it began in another cue; sounds as they are.

    Args:
        cues: In order of time, with ends.
        engine: What the segments say heard them.
    """
    segments: list[Segment] = []
    for run in _runs(cues):
        if run[0].kind != "speech":
            cue = run[0]
            segments.append(
                Segment(cue.start, cue.end or cue.start, cue.text, cue.kind, cue.speaker, engine=engine)
            )
            continue
        words: list[Word] = []
        for cue in run:
            own = cue.words or interpolated(cue.text, cue.start, cue.end or cue.start)
            unspaced = words and _is_unspaced(words[-1].text[-1:]) and _is_unspaced(cue.text[:1])
            if words and own and not own[0].text[:1].isspace() and not unspaced:
                own = (replace(own[0], text=f" {own[0].text}"), *own[1:])
            words += own
        for part in split_sentences(words):
            start, end = min(word.start for word in part), max(word.end for word in part)
            timed = (replace(part[0], text=part[0].text.lstrip()), *part[1:])
            language = run[0].language
            segments.append(
                Segment(
                    start, end, join_words(part), "speech", run[0].speaker, timed, engine, language=language
                )
            )
    return sorted((segment for segment in segments if segment.text), key=lambda segment: segment.start)


def _runs(cues: Sequence[Cue]) -> Iterator[list[Cue]]:
    """Neighbouring cues of one speaker without a pause between them; every sound by itself."""
    run: list[Cue] = []
    for cue in cues:
        if not cue.text:
            continue
        if run and not _goes_on(run[-1], cue):
            yield run
            run = []
        run.append(cue)
    if run:
        yield run


def _goes_on(before: Cue, after: Cue) -> bool:
    pause = after.start - (before.end or before.start)
    return (
        before.kind == after.kind == "speech"
        and (before.speaker, before.language) == (after.speaker, after.language)
        and -0.01 <= pause < MAX_PAUSE_SECONDS
    )


def joined_lines(text: str) -> str:
    """Lines as one, with a space between them except where a script has none, such as Chinese."""
    line, *rest = [one_line(part) for part in text.split("\n") if one_line(part)] or [""]
    for part in rest:
        line += part if _is_unspaced(line[-1:]) and _is_unspaced(part[:1]) else f" {part}"
    return line


def _is_unspaced(character: str) -> bool:
    """Whether it is a letter of a script without spaces between words, which Korean has."""
    return UNSPACED.search(character) is not None and not "\uac00" <= character <= "\ud7af"
