"""Plain text with times as cues: one form for each file, the one that most of its lines have.

    [00:01:02] Anna: …        00:01 - …        [00:00.000 --> 00:04.000] …      time first
    Anna (00:01:02): …        Anna: [0:05] …                                    name and time first
    Anna  0:03                Anna | 00:03     [Anna] 14:03:22                  a heading, the text below it

A time first may also be a heading with or without a name, and the name may stand on the line below it. What
looks like a time in another form than the file's is part of what was said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.imports.cues import LABEL_WORDS, LONGEST_LABEL, Cue, split_labels
from index.text import one_line
from moss_audio.timestamps import parse_clock

_T = (
    r"(?:\d{1,3}:\d{2}:\d{2}[:;]\d{2}|(?:\d{1,3}:)?\d{1,3}:\d{2}(?:[.,]\d{1,3})?)(?![\d:])"
    r"(?:\s?[AaPp][Mm]\b)?"
)
_TO = r"\s*(?:--+>|->|→|[-–—]|to|bis)\s*"
_AT = rf"(?P<start>{_T})(?:{_TO}(?P<end>{_T}))?"
_NAME = rf"(?P<name>[^\d\W_][^\[\]():|]{{0,{LONGEST_LABEL - 1}}}?|\[[^\[\]]{{1,{LONGEST_LABEL}}}\])"
_BETWEEN = r"(?:\s*[|,–—-]\s*|\s*:\s*|\s+|(?=[\[(]))"
_FORMS = {
    # Those with brackets first: a bare time is the likeliest to be part of what was said.
    "bracketed": rf"[\[(]\s?{_AT}\s?[\])](?:\s?[-–—:|])?\s?(?P<rest>.*)",
    "named": rf"{_NAME}\s?(?::\s?)?[\[(]\s?{_AT}\s?[\])]\s?(?:[:\-–—]\s?)?(?P<rest>\S.*)",
    "heading": rf"{_NAME}{_BETWEEN}[\[(]?\s?{_AT}\s?[\])]?\s?:?(?P<rest>)",
    "bare": rf"{_AT}(?:\s?[-–—|:]\s?|\s|$)(?P<rest>.*)",
}
_PATTERNS = {name: re.compile(form) for name, form in _FORMS.items()}
_HEADINGS_SHARE = 0.6
"""Share of headings with a name, or of texts that begin with a line that is one, from which all have."""
_SENTENCE_END = re.compile(r"[.!?…,;。？！]$")


@dataclass
class _Block:
    """A line with a time, and the lines below it."""

    start: float
    end: float | None
    name: str
    rest: str
    below: list[str]


@dataclass(frozen=True)
class TimedText:
    """What a file says.

    Attributes:
        cues: In its order.
        left_out: Lines before the first time, such as a title.
        is_time_of_day: Whether its form is one in which programs write the time of day.
    """

    cues: tuple[Cue, ...]
    left_out: tuple[str, ...]
    is_time_of_day: bool


def read_timed_text(text: str, is_markdown: bool = False) -> TimedText:
    """Read a text; it has no cues where no line has a time in a form that is known.

    Args:
        text: Any text.
        is_markdown: Whether emphasis and escapes are Markdown's, as in this program's own export.
    """
    # White space on one line is one space, so that no form takes long to fail.
    lines = [one_line(_without_marks(line) if is_markdown else line) for line in text.splitlines()]
    form = _form(lines)
    if form is None:
        return TimedText((), tuple(line for line in lines if line.strip()), False)
    before, blocks = _blocks(lines, _PATTERNS[form])
    _name_blocks(blocks)
    return TimedText(tuple(_cues(blocks)), tuple(before), form == "heading" and _is_time_of_day(lines))


def _without_marks(line: str) -> str:
    """A line of Markdown without headings, emphasis and escapes."""
    if line.startswith("#"):
        return ""
    line = re.sub(r"(?<!\\)(?:\*\*|__)", "", line)
    return re.sub(r"\\([^\w\s])", r"\1", line).replace("\u2060", "")


def _form(lines: Sequence[str]) -> str | None:
    """The form of most lines that have a time; the first of those that are as frequent."""
    counts = {name: sum(bool(form.fullmatch(line)) for line in lines) for name, form in _PATTERNS.items()}
    if counts["named"] and counts["heading"]:
        # A heading with text behind it on some lines only.
        counts["named"] = 0 if counts["heading"] >= counts["named"] else counts["named"]
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def _blocks(lines: Sequence[str], form: re.Pattern[str]) -> tuple[list[str], list[_Block]]:
    before: list[str] = []
    blocks: list[_Block] = []
    matches = [form.fullmatch(line) for line in lines]
    names = Counter(found.groupdict().get("name") for found in matches if found)
    for line, found in zip(lines, matches, strict=True):
        if found is not None and _may_name(found.groupdict().get("name"), names):
            groups = found.groupdict()
            end = _seconds(groups["end"]) if groups["end"] else None
            name = (groups.get("name") or "").strip().strip("[]").strip()
            blocks.append(_Block(_seconds(groups["start"]), end, name, groups["rest"].strip(), []))
        elif blocks:
            blocks[-1].below.append(line.strip())
        elif line.strip():
            before.append(line.strip())
    return before, blocks


def _may_name(name: str | None, names: Counter[str | None]) -> bool:
    """Whether what stands before a time is a name; “We meet at” before 10:30 is none."""
    if not name or names[name] > 1:
        return True
    first, *_, last = [*name.split(), name.split()[-1]]
    return not first[:1].islower() and not last[:1].islower() and len(name.split()) <= LABEL_WORDS


def _seconds(written: str) -> float:
    """A time; of a film's frames, and of noon, it is the seconds that count."""
    half = re.search(r"([AaPp])[Mm]$", written)
    fields = re.sub(r"\s?[AaPp][Mm]$", "", written)
    if re.fullmatch(r"\d+:\d+:\d+[:;]\d+", fields):
        fields = fields[:-3]
    seconds = parse_clock(fields)
    if half:
        seconds = seconds % (12 * 3600) + (12 * 3600 if half[1] in "Pp" else 0)
    return seconds


def _name_blocks(blocks: Sequence[_Block]) -> None:
    """Find names that stand alone: behind a time where the text is below, or on the first line below it."""
    if any(block.name for block in blocks):
        return
    behind = [block for block in blocks if block.rest]
    if behind and _are_names([block.rest.rstrip(":") for block in behind]):
        with_text = sum(any(block.below) for block in behind)
        if with_text >= _HEADINGS_SHARE * len(behind) and len(behind) >= _HEADINGS_SHARE * len(blocks):
            for block in behind:
                block.name, block.rest = block.rest.rstrip(":").strip(), ""
        return
    if behind:
        return
    bodies = [[line for line in block.below if line] for block in blocks]
    long = [body for body in bodies if len(body) > 1]
    if long and len(long) >= _HEADINGS_SHARE * len(blocks) and _are_names([body[0] for body in long]):
        for block, body in zip(blocks, bodies, strict=True):
            if len(body) > 1:
                block.name, block.below = body[0].rstrip(":").strip(), body[1:]


def _are_names(texts: Sequence[str]) -> bool:
    """Whether lines are names: short, no sentences, and most of them not for the only time."""
    if not texts or any(_label_like(text) is False for text in texts):
        return False
    counts = Counter(texts)
    again = sum(count for count in counts.values() if count > 1)
    return again >= _HEADINGS_SHARE * len(texts) or (len(texts) <= 2 and len(counts) == len(texts))


def _label_like(text: str) -> bool:
    bare = text.rstrip(":").strip()
    return (
        0 < len(bare) <= LONGEST_LABEL
        and len(bare.split()) <= LABEL_WORDS
        and not _SENTENCE_END.search(bare)
        and ":" not in bare
        and not bare[:1].islower()
    )


def _cues(blocks: Sequence[_Block]) -> list[Cue]:
    """Blocks as cues; several lines with names below one time are a cue each."""
    if any(block.name for block in blocks):
        said = [one_line(" ".join([block.rest, *block.below])) for block in blocks]
        return [
            Cue(block.start, block.end, text, block.name or None)
            for block, text in zip(blocks, said, strict=True)
            if text
        ]
    lines = [[line for line in (block.rest, *block.below) if line] for block in blocks]
    leading = [at == 0 for body in lines for at in range(len(body))]
    labelled = iter(split_labels([one_line(line) for body in lines for line in body], leading))
    cues: list[Cue] = []
    for block, body in zip(blocks, lines, strict=True):
        own: list[Cue] = []
        for line, (name, text) in zip(body, labelled, strict=False):
            if own and text == one_line(line):
                own[-1] = replace(own[-1], text=f"{own[-1].text} {text}".strip())
            else:
                own.append(Cue(block.start, block.end, text, name))
        cues += own
    return [cue for cue in cues if cue.text]


def _is_time_of_day(lines: Sequence[str]) -> bool:
    """Whether names stand in brackets before a time of three fields, as Zoom saves captions of a meeting."""
    found = [re.fullmatch(r"\[[^\[\]]+\] \d{1,2}:\d{2}:\d{2}", line) for line in lines]
    return any(found)
