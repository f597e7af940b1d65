"""Text as one clean line, for formats in which a line break or a control character would mean something."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters, lone surrogates and Unicode's noncharacters: XML and UTF-8 have no place for them."""


def one_line(text: str) -> str:
    """White space, line breaks included, collapses to single spaces; control characters go."""
    return " ".join(_FORBIDDEN.sub("", text).split())
