"""Time stamps and speaker labels as models write them, and as they should."""

from __future__ import annotations

import re

_DIGIT = "[0-9０-９]"
TIME = (
    rf"(?:{_DIGIT}{{1,3}}[:：]{_DIGIT}{{1,2}}[:：]{_DIGIT}{{1,2}}(?:[.,．]{_DIGIT}{{1,6}})?"
    rf"|{_DIGIT}{{1,3}}[:：]{_DIGIT}{{1,2}}(?:[.,．]{_DIGIT}{{1,6}})?"
    rf"|{_DIGIT}{{1,7}}(?:[.．]{_DIGIT}{{1,6}})?)"
)
"""A time without its brackets: ``2.01``, ``1:05.2``, ``00:01:05,200``. Bounded: matching stays linear."""

UNIT = r"(?:[ ]?(?:seconds?|secs?|s|秒)(?![^\W\d_]))?"
"""An optional unit after a time."""

DASH = r"(?:-{1,2}>|[-–—−~～〜→]|to\b|至|到)"
"""What stands between the two times of a range."""

OPEN = r"[\[［【〔]"
CLOSE = r"[\]］】〕]"
SPEAKER = rf"(?:s|spk|speaker|说话人)[ _]?(?P<number>{_DIGIT}{{1,3}})"
"""A speaker label without its brackets; its number is the group ``number``."""

_NARROW = str.maketrans("０１２３４５６７８９：．，", "0123456789:.,")


def seconds(written: str) -> float:
    """Read a time that ``TIME`` matched.

    Args:
        written: Such as ``2.01``, ``1:05.2`` or ``00:01:05,200``; full-width digits are fine.

    Returns:
        Seconds, never negative.
    """
    total = 0.0
    for part in written.translate(_NARROW).replace(",", ".").split(":"):
        total = total * 60 + float(part)
    return round(total, 6)


def stamp(time: float) -> str:
    """Seconds with two decimals, the precision the model is trained on."""
    return f"{time:.2f}"


def speaker(number: str) -> str:
    """The label of a speaker's number: ``S01``."""
    return f"S{int(number.translate(_NARROW)):02d}"


def one_line(text: str) -> str:
    """Collapse white space, line breaks too, to single spaces."""
    return " ".join(text.split())


def has_words(text: str) -> bool:
    """Whether a text holds any letter or digit of any script."""
    return any(map(str.isalnum, text))


TRUNCATED_STAMP = re.compile(rf"{OPEN}[ ]?[sS]?[0-9０-９:：.．]{{0,12}}\s*\Z")
"""A stamp or label that the end of the output cut in two."""
