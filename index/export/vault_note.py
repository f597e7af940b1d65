"""One recording as a Markdown note that a person may write in: the text, and how a new one takes its place.

    ---                                          front matter: our properties, and any that a person adds
    moss_agent: 3f2a…
    decisions: […]
    tags: [ferry]
    ---
    what the person writes
    <!-- moss-agent:begin 3f2a… text=… properties=… -->
    title, summary, transcript
    <!-- moss-agent:end -->
    what the person writes

What lies between the marks and the properties that are ours are rewritten; all else stays as it is. The first
mark holds hashes of both as they were written, so that a person's change in them can be told.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from index.export.formats import markdown_turns
from index.export.markdown import escape_markdown, to_markdown
from index.language_names import name_languages
from index.notes import describe
from index.records import Item, Recording, Segment, Summary
from moss_audio.timestamps import clock

NOTE_VERSION = 1
"""Raised when notes are written in another way, so that all are written again."""

PROPERTIES = (
    "moss_agent", "title", "date", "length", "language", "speakers", "decisions", "action_items",
    "open_questions",
)  # fmt: skip
"""The properties of front matter that are ours, in order; a person may add any others."""

_BEGIN = re.compile(
    r"<!-- moss-agent:begin (?P<id>[0-9a-f]{64}) text=(?P<text>[0-9a-f]{16}) "
    r"properties=(?P<properties>[0-9a-f]{16})[^\n]*-->"
)
_END = "<!-- moss-agent:end -->"
_HINT = "What stands between these marks is rewritten by moss-agent sync; write above or below."
_KEY = re.compile(r"(?P<key>[A-Za-z_][\w .-]*|\"[^\"\n]+\"|'[^'\n]+'):(?:\s|$)")


@dataclass(frozen=True)
class Content:
    """What a note says of a recording.

    Attributes:
        recording: The recording's id.
        properties: For the front matter, by name: text, numbers, dates, lists and objects of them.
        text: Markdown, for between the marks.
    """

    recording: str
    properties: Mapping[str, Any]
    text: str


def moment_link(base: str, recording: str, start: float) -> str:
    """The address of a moment on the page, whose own address is ``base``."""
    return f"{base.rstrip('/')}/?recording={recording}&t={int(start)}"


def make_content(
    recording: Recording, segments: Sequence[Segment], summary: Summary | None, base: str
) -> Content:
    """What the note of a recording says.

    Args:
        recording: The recording.
        segments: All of it, in time order.
        summary: None where nothing was said.
        base: The page's address, for links to moments.
    """

    def at(start: float, _end: float = 0.0) -> str:
        return f"[{clock(start)}]({moment_link(base, recording.id, start)})"

    def listed(items: Sequence[Item], *also: str) -> list[dict[str, Any]]:
        return [
            {
                "text": item.text,
                **{name: getattr(item, name) for name in also},
                "at": clock(item.start),
                "link": moment_link(base, recording.id, item.start),
            }
            for item in items
        ]

    languages = recording.languages or ((recording.language,) if recording.language else ())
    properties: dict[str, Any] = {
        "moss_agent": recording.id,
        "title": recording.title,
        "date": datetime.date.fromisoformat(recording.added_at[:10]),
        "length": clock(recording.duration),
        "language": languages[0] if len(languages) == 1 else list(languages) or None,
        "speakers": list(recording.speakers),
        "decisions": listed(summary.decisions) if summary else [],
        "action_items": listed(summary.action_items, "owner", "due") if summary else [],
        "open_questions": listed(summary.open_questions) if summary else [],
    }
    facts = [recording.added_at[:10], clock(recording.duration)]
    facts += [name_languages(languages)] if languages else []
    facts += [", ".join(recording.speakers)] if recording.speakers else []
    if summary is None:
        parts = [f"# {escape_markdown(recording.title)}"]
    else:
        parts = [to_markdown(summary, recording.title, at).rstrip("\n")]
    head, _, rest = parts[0].partition("\n")
    about = [escape_markdown(" · ".join(facts)), *(escape_markdown(describe(n)) for n in recording.problems)]
    if recording.has_media:
        about.append(f"[Open the recording]({moment_link(base, recording.id, 0)})")
    parts = [head, *about, *([rest.strip("\n")] if rest.strip() else []), "## Transcript"]
    parts += markdown_turns(segments, lambda turn: at(turn[0].start))
    return Content(recording.id, properties, "\n\n".join(parts))


# --- a note's text ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    """A note as it stands in a file, its line ends as ``\\n``.

    Attributes:
        front: Lines of the front matter without its rules; None where there is none.
        before: What the person wrote above the marks.
        text: What stands between the marks.
        after: What the person wrote below them.
        recording: The id in the first mark.
        text_hash: The hash of ``text`` that the first mark holds.
        properties_hash: That of our properties.
    """

    front: tuple[str, ...] | None
    before: str
    text: str
    after: str
    recording: str
    text_hash: str
    properties_hash: str

    @property
    def is_text_changed(self) -> bool:
        """Whether somebody else wrote between the marks."""
        return _text_hash(self.text) != self.text_hash

    @property
    def is_front_changed(self) -> bool:
        """Whether somebody else changed a property of ours; one that is no YAML is left to the person."""
        values = self.values()
        return values is not None and _properties_hash(values) != self.properties_hash

    def values(self) -> dict[str, Any] | None:
        """The front matter; None where it is no YAML, or something else than properties."""
        try:
            values = yaml.safe_load("\n".join(self.front or ()))
        except (yaml.YAMLError, ValueError, RecursionError):
            return None
        if values is None:
            return {}
        return values if isinstance(values, dict) else None

    @property
    def has_own_words(self) -> bool:
        """Whether a person wrote anything outside of what is ours."""
        values = self.values()
        foreign = values is None or any(key not in PROPERTIES for key in values)
        return bool(self.before.strip() or self.after.strip() or foreign)


class UnreadableNote(Exception):
    """A note whose marks are not as they were written; the text is a sentence about it."""


def parse_note(written: str) -> Note | None:
    """Read a note; None where it has no mark of ours.

    Raises:
        UnreadableNote: One mark is there and the other is not, or there are several.
    """
    # A title in the front matter may look like a mark; between the marks all that is said is escaped.
    front, body = _split_front(written.removeprefix("\ufeff").replace("\r\n", "\n"))
    begins = list(_BEGIN.finditer(body))
    if not begins:
        return None
    if len(begins) > 1 or body.count(_END) != 1 or body.index(_END) < begins[0].end():
        raise UnreadableNote(
            "its marks are damaged: there must be one that begins and one that ends what is rewritten"
        )
    begin, end = begins[0], body.index(_END)
    return Note(
        front,
        body[: begin.start()],
        body[begin.end() : end].strip("\n"),
        body[end + len(_END) :],
        begin["id"],
        begin["text"],
        begin["properties"],
    )


def _split_front(text: str) -> tuple[tuple[str, ...] | None, str]:
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None, text
    for at, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ("---", "..."):
            return tuple(lines[1:at]), "\n".join(lines[at + 1 :])
    return None, text


def write_note(content: Content, note: Note | None = None) -> str:
    """The text of a note with new content; what a person wrote in the old one stays as it is.

    Args:
        content: What it says now.
        note: The old one, if there is one.
    """
    front: Sequence[str] = (note.front if note else None) or ()
    before, after = (note.before, note.after) if note else ("", "\n")
    # What is no YAML is the person's to mend.
    if note is None or note.values() is not None:
        front = _merged(front, content.properties)
    rules = ["---", *front, "---", ""]
    if note is not None and note.front is None:
        rules.append("")
    marks = f"text={_text_hash(content.text)} properties={_properties_hash(content.properties)}"
    begin = f"<!-- moss-agent:begin {content.recording} {marks} {_HINT} -->"
    return "\n".join(rules) + f"{before}{begin}\n\n{content.text}\n\n{_END}{after}"


def without_ours(note: Note, farewell: str) -> str:
    """The text of a note whose recording is gone: the person's words, and a sentence where ours were."""
    blocks = [block for key, block in _blocks(note.front or ()) if key not in PROPERTIES]
    kept = [line for block in blocks for line in block]
    rules = "\n".join(["---", *kept, "---", ""]) if any(line.strip() for line in kept) else ""
    return f"{rules}{note.before}{farewell}{note.after}"


def set_aside(note: Note) -> str:
    """What a person wrote where we write, as the text of a file of its own."""
    front = "\n".join(["---", *note.front, "---", ""]) if note.front else ""
    shown = front.replace("moss_agent:", "was_moss_agent:", 1)
    return f"{shown}\n{note.text}\n"


def _merged(front: Sequence[str], properties: Mapping[str, Any]) -> list[str]:
    """Lines of front matter with our properties anew, each where it was; those that are missing come last."""
    written = {key: _yaml({key: properties[key]}) for key in PROPERTIES if key in properties}
    lines: list[str] = []
    for key, block in _blocks(front):
        if key in PROPERTIES:
            lines += written.pop(key, [])
        else:
            lines += block
    while lines and not lines[-1].strip():
        lines.pop()
    return lines + [line for block in written.values() for line in block]


def _blocks(front: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Lines of front matter by property: a property's line, and those that belong to it."""
    blocks: list[tuple[str | None, list[str]]] = []
    for line in front:
        found = _KEY.match(line)
        if found:
            blocks.append((found["key"].strip("\"'"), [line]))
        elif blocks and (not line.strip() or line[:1] in " \t-]}") and not line.startswith("#"):
            blocks[-1][1].append(line)
        else:
            blocks.append((None, [line]))
    return blocks


def _yaml(values: Mapping[str, Any]) -> list[str]:
    written = yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False, width=10_000)
    return written.rstrip("\n").split("\n")


def _text_hash(text: str) -> str:
    # Editors strip spaces at the ends of lines, which say nothing.
    plain = "\n".join(line.rstrip() for line in text.strip().split("\n"))
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16]


def _properties_hash(values: Mapping[str, Any]) -> str:
    """The hash of what our properties say, however it is written: programs rewrite front matter."""
    ours = {key: values[key] for key in PROPERTIES if values.get(key) not in (None, [], "")}
    read = yaml.safe_load("\n".join(_yaml(ours))) if ours else {}
    try:
        plain = json.dumps(read, sort_keys=True, default=str)
    except TypeError:  # keys of several types, which a person wrote
        plain = repr(read)
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16]
