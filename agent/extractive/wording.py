"""Words and lines that every composed answer uses: who said what, names of recordings, lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.citations.quotes import quoted
from agent.extractive.situation import Situation
from moss_audio.timestamps import clock
from tools.result import Evidence


def said(item: Evidence, title: str | None = None, marker: str = "") -> str:
    """``Speaker 2 said: “…” [#12]``; with a title, also where. ``marker`` is that of a run of several."""
    where = f" in {quoted(title)}" if title else ""
    quote = f"{quoted(item.text)} {marker or run_marker([item.id])}"
    if item.kind != "speech":
        return f"Heard{where}: {quote}"
    return f"{plain_name(item.speaker or 'Somebody')} said{where}: {quote}"


def line(item: Evidence, title: str | None = None, marker: str = "") -> str:
    """One quote as a list item: ``- Speaker 2: “…” [#12]``; ``marker`` is that of a run of several."""
    who = plain_name(item.speaker) if item.speaker else ""
    if item.kind != "speech":
        who = item.kind.capitalize()
    where = f"in {quoted(title)}" if title else ""
    head = " ".join(part for part in (who, where) if part)
    quote = f"{quoted(item.text)} {marker or run_marker([item.id])}"
    return f"- {head}: {quote}" if head else f"- {quote}"


def run_marker(numbers: Sequence[int]) -> str:
    """The marker of a run of segments, from the first number to the last; nothing for none."""
    if not numbers:
        return ""
    return f"[#{numbers[0]}]" if len(numbers) == 1 else f"[#{numbers[0]}-#{numbers[-1]}]"


def plain_name(name: str) -> str:
    """A speaker's name as it may stand in an answer: it cannot quote, cite or break the line."""
    return " ".join(str(name).translate(_UNMARKED).split()) or "Somebody"


_UNMARKED = str.maketrans(dict.fromkeys('“”„"«»「」[]#', " "))


def listed(title: str, rows: Sequence[str]) -> str:
    """A heading and its rows."""
    return f"{title}\n\n" + "\n".join(rows)


def between(start: float, end: float) -> str:
    """``From 2:00 to 3:00``."""
    return f"From {clock(start)} to {clock(end)}"


def paragraphs(parts: Iterable[str]) -> str:
    """The parts that are there, with a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def lower_first(text: str) -> str:
    """A phrase's first letter in lower case, to stand inside a sentence."""
    return text[:1].lower() + text[1:]


def failed(situation: Situation) -> str:
    """Why there is nothing to answer with: the last tool's error."""
    return situation.errors[-1] if situation.errors else "I could not look that up."
