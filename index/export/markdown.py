"""A summary as Markdown, and text of a recording inside Markdown: shown as it was said, never interpreted.

The escaping covers CommonMark, GitHub's extensions (tables, strikethrough, autolinks) and renderers that also
turn bare host names into links. Only characters that can start something are escaped, so that the Markdown
stays readable as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from index.records import ActionItem, Item, Summary, Topic
from index.summary_templates import SUMMARY_TEMPLATES
from index.text import one_line
from moss_audio.timestamps import clock

WORD_JOINER = "\u2060"
"""Invisible; put after the ``@`` of an address, because GitHub links addresses even when ``@`` is escaped."""

_ADDRESS = re.compile(r"(?<=[\w.+-])@(?=\w)")
_SPECIAL = re.compile(
    r"""
      [\\`*_\[\]<>~|$\#@]           # emphasis, code, links, HTML, strikethrough, tables, formulas, headings
    | &(?=[#A-Za-z])                # character references
    | :(?=/) | /(?=/) | (?<=/)/     # https://…, //host
    | (?<=www)\.                    # www.…
    | (?<!\d)\.(?=\w) | (?<=\d)\.(?=[^\W\d])   # bare host names, but not 3.5
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BLOCK_START = re.compile(r"(\d{1,9}(?=[.)](?:\s|$))|(?=[-+=:]))(.)")


def escape_markdown(text: str) -> str:
    """Make text safe anywhere in a line of Markdown, as one line.

    White space collapses to single spaces (a line break could start a block), control characters go.
    Rendered, the result reads exactly as the text, but for an invisible word joiner in e-mail addresses.
    """
    line = one_line(text)
    line = _ADDRESS.sub("@" + WORD_JOINER, line)
    line = _SPECIAL.sub(lambda found: "\\" + found[0], line)
    # A list item, a rule, an underlined heading or a table's delimiter row only at the start of a line.
    opening = _BLOCK_START.match(line)
    return f"{opening[1]}\\{line[opening.start(2) :]}" if opening else line


def to_markdown(summary: Summary, title: str, time: Callable[[float, float], str] | None = None) -> str:
    """Render a summary.

    Args:
        summary: What ``summarize`` found.
        title: The recording's title.
        time: How a time span is shown, from start and end in seconds; by default ``\\[2:05\\]``, which
            reads as ``[2:05]`` and is no link.
    """
    shown = time or (lambda start, _end: f"\\[{clock(start)}\\]")
    lines = [f"# {escape_markdown(title)}", "", escape_markdown(summary.overview)]
    template = SUMMARY_TEMPLATES[summary.template]
    for section in template.sections:
        body = _section(summary, section, shown)
        if not body and section not in template.expected:
            continue
        heading = template.headings.get(section, section.replace("_", " ").capitalize())
        lines += ["", f"## {heading}", "", *(body or ["None found."])]
    return "\n".join(lines) + "\n"


def _section(summary: Summary, section: str, time: Callable[[float, float], str]) -> list[str]:
    found: Sequence[Topic | Item] = getattr(summary, section)
    lines: list[str] = []
    for entry in found:
        when = time(entry.start, entry.end)
        if isinstance(entry, Topic):
            voice = f"{escape_markdown(entry.speaker)}: " if entry.speaker else ""
            lines += [f"- {when} {voice}**{escape_markdown(entry.title)}**"]
            lines += [f"    - {escape_markdown(point)}" for point in entry.points]
        elif isinstance(entry, ActionItem):
            owner = f"**{escape_markdown(entry.owner)}**: " if entry.owner else ""
            due = f" *(due: {escape_markdown(entry.due)})*" if entry.due else ""
            lines.append(f"- {when} {owner}{escape_markdown(entry.text)}{due}")
        else:
            voice = f"{escape_markdown(entry.speaker)}: " if section == "key_quotes" and entry.speaker else ""
            talk = entry.exchange
            where = f" (from the exchange between {clock(talk.start)} and {clock(talk.end)})" if talk else ""
            lines.append(f"- {when} {voice}“{escape_markdown(entry.text)}”{where}")
    return lines
