"""Text of a recording inside Markdown: shown as it was said, never interpreted.

The rules cover CommonMark, GitHub's extensions (tables, strikethrough, autolinks) and renderers that
also turn bare host names into links. Only characters that can start something are escaped, so that the
Markdown stays readable as plain text.
"""

from __future__ import annotations

import re

from index.plain_text import one_line

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
