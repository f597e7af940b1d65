"""One form for what is the same word or the same number: of a transcript, of a question, in SQLite's index.

``fold`` makes the text that the full-text index holds, and the words that sentences are ranked by; whatever
is looked up is folded by the same function. ``ＫÖNIGSTRASSE`` and ``Königstraße`` are one word, and so are
``11,500``, ``11 500``, ``１１５００`` and ``eleven thousand five hundred``.

Numbers are read from words in English only, digits in every script.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction

from index.vocabulary import MONTHS, NUMBERS, ORDINALS, STOP_WORDS, TENS, one_of

FOLD_VERSION = 3
"""Raised whenever ``fold`` answers differently; an index that was made with another version is made anew."""

# --- letters ------------------------------------------------------------------------------------------

_STEADY_MARKS = frozenset("йўї")
"""Letters of their own, though Unicode writes them as a letter and a mark: музей is not музеи."""

# Marks over and under letters of alphabets, and the vowel points of Hebrew, Arabic and Syriac, which are
# mostly left out in writing. Marks of other scripts (Devanagari's vowels, kana's voicing) make the word.
_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f"
    "\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u1ab0-\u1aff\u1dc0-\u1dff"
    "\u20d0-\u20ff\ufe20-\ufe2f]"
)
# What is not seen: soft hyphens, joiners, marks of direction, variation selectors; Arabic's stretching line.
_INVISIBLE = re.compile(
    "[\u00ad\u0640\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]"
)
_PLAIN_LETTERS = str.maketrans(
    {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h"}
    # Arabic's own thousands and decimal signs, and the sign between the numbers of a fraction.
    | {"\u066c": ",", "\u066b": ".", "\u2044": " "}
    # Persian and Urdu keyboards write other letters for the same; Arabic ones leave out dots at a word's end.
    | {"\u06a9": "\u0643", "\u06cc": "\u064a", "\u0649": "\u064a", "\u0629": "\u0647"}
)
_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215f\u2189]")


def fold_letters(text: str) -> str:
    """The text without case, marks and width, its digits as ``0`` to ``9``; what stands between words stays.

    Unicode's compatibility decomposition and full case folding (Unicode Standard, 3.11 and 5.18): ``ß``
    becomes ``ss``, ``ﬁ`` becomes ``fi``. Folding twice changes nothing more.
    """
    if text.isascii():
        return text.lower()
    spaced = _INVISIBLE.sub("", _FRACTION.sub(r" \g<0>", text))
    # Twice: the case folding of some letters has marks again.
    plain = _without_marks(_without_marks(spaced).casefold()).translate(_PLAIN_LETTERS)
    return "".join(map(_digit, plain))


def _without_marks(text: str) -> str:
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize(
        "NFC",
        "".join(
            letter
            if letter.isascii() or letter.casefold() in _STEADY_MARKS
            else _MARKS.sub("", unicodedata.normalize("NFD", letter))
            for letter in composed
        ),
    )


def _digit(character: str) -> str:
    if character.isascii() or not character.isdecimal():
        return character
    return str(unicodedata.decimal(character))


# --- words --------------------------------------------------------------------------------------------


def _mark_ranges() -> str:
    """Marks that belong to words, as ranges of a character class; ``re`` has no class for them."""
    marks = [code for code in range(0x20000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    ranges: list[list[int]] = []
    for code in marks:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_WORD = re.compile(rf"\d+(?:[.,:]\d+)+|(?:[^\W_]|[{_mark_ranges()}])+")


def split_words(folded: str) -> list[str]:
    """The words of a folded text in order; numbers with points, commas or colons are one word each."""
    return _WORD.findall(folded)


def fold(text: str) -> str:
    """The words of a text with one space between them, letters and numbers in one form; see the module."""
    return " ".join(split_words(_numbers_as_digits(fold_letters(text))))


# --- numbers ------------------------------------------------------------------------------------------

# Groups of three digits with one and the same separator, or as in India ``1,00,000``; then decimals with
# another separator. Nothing of a longer number, a time or a date.
_GROUPED = re.compile(
    r"(?<![\d.,:'’_])(?!0)(?:"
    r"(?P<comma>\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.(?P<after_comma>\d+))?"
    r"|(?P<point>\d{1,3}(?:\.\d{3})+)(?:,(?P<after_point>\d+))?"
    r"|(?P<other>\d{1,3}(?:(?P<mark>['’_])\d{3})(?:(?P=mark)\d{3})*|(?<!\d )\d{1,3}(?: \d{3})+(?! \d))"
    r"(?:[.,](?P<after_other>\d+))?"
    r")(?![.,:'’_]?\d)"
)
_OF_THE_CLOCK = re.compile(r"\b(?:at|by|until|till|before|after|since)[ \t\n]+$")
"""What stands before an hour: “at 10 500 people left” is not about 10,500 people."""
_LAST_HOUR = 24
_DECIMAL_COMMA = re.compile(r"(?<![\d.,:])(\d+),(\d+)(?![.,:]?\d)")
_ROUND = re.compile(r"(?<![\d.,:])(\d{4,})(?:\.|(\.\d*[1-9]))0+(?![.,:]?\d)")
_THOUSANDS = re.compile(r"(?<![\w.,:])(\d{1,3}(?:\.\d{1,3})?)k\b")
_ORDINAL_DIGITS = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")

_HUNDRED = 100
_SCALES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_CARDINALS = {**NUMBERS, **TENS, "hundred": _HUNDRED, **_SCALES}
_ORDINAL_WORDS = {
    **ORDINALS,
    **{word.removesuffix("y") + "ieth": value for word, value in TENS.items()},
    **{f"{word}th": value for word, value in (("hundred", _HUNDRED), *_SCALES.items())},
}
_VALUES = {**_CARDINALS, **_ORDINAL_WORDS}
_DIGITS = {word: str(value) for word, value in NUMBERS.items() if value < 10} | {"oh": "0"}

_ANY_NUMBER_WORD = re.compile(rf"\b(?:{one_of(list(_VALUES))})\b")
_LARGE = one_of([*("hundred", "thousand", "million", "billion"), *(f"{word}th" for word in _SCALES)])
# Number words with spaces or hyphens between them; a comma goes on only behind a thousand or a million.
_RUN = re.compile(
    rf"(?<![\w.,:])(?:an? (?={_LARGE}\b)|\d+(?:\.\d+)?[ -](?={_LARGE}\b))?(?:{one_of(list(_VALUES))})\b"
    rf"(?:(?:(?:[ \t\n-]+|(?<=thousand), |(?<=million), |(?<=billion), )(?:and[ \t\n-]+)?"
    rf"(?:{one_of(list(_VALUES))})|[ -]point(?:[ -](?:{one_of(list(_DIGITS))}))+)\b)*"
)

_HALF_A = re.compile(rf"\bhalf an? (?={_LARGE}\b)")
_AND_A_HALF = re.compile(
    rf"\b(?P<before>an?|\d+|{one_of(list(_CARDINALS))})"
    rf"(?: (?P<scale>{one_of(list(_SCALES))}) and a half(?! {_LARGE}\b)| and a half (?P<behind>{_LARGE}))\b"
)
_CENTURIES = [word for word, value in _CARDINALS.items() if 13 <= value <= 20]
_YEAR_OH = re.compile(rf"\b({one_of(_CENTURIES)}) oh ({one_of(list(_DIGITS))})\b")

_COUNTED_BY_NUMBER = re.compile(
    r"\b(?:act|article|band|book|building|bus|chapter|class|clause|day|door|episode|exercise|figure|flat|"
    r"floor|gate|group|house|item|lane|lesson|level|line|lot|meeting|module|number|option|page|paragraph|part|"
    r"phase|plan|platform|point|priority|question|quarter|room|round|scene|season|section|slide|stage|step|"
    r"table|team|terminal|track|unit|version|volume|week|zone)[ \t\n]+$"
)
_UNIT = re.compile(
    r"[ \t\n-]+(?:percent|per cent|hours?|minutes?|days?|weeks?|months?|years?|euros?|dollars?|pounds?|"
    r"cents?|kilo\w*|met(?:re|er)s?|miles?|lit(?:re|er)s?|tons?|tonnes?)\b"
)
_SECOND_OF_TIME = re.compile(r"(?:\d|\b(?:per|each|every|half|split|few|single|one))[ \t\n-]+$")
_A = re.compile(r"\ba[ \t\n]+$")
_NEXT_WORD = re.compile(r"[ \t\n]+([a-z]+)")


def _numbers_as_digits(text: str) -> str:
    """Numbers of a text with folded letters as plain digits: separators and words, ordinals as cardinals.

    “One” stays where it may be a pronoun, and “second” where it is a time. Times and dates stay.
    """
    if any(map(str.isdigit, text)):
        text = _GROUPED.sub(_ungrouped, text)
        text = _ROUND.sub(lambda match: match[1] + (match[2] or ""), _DECIMAL_COMMA.sub(r"\1.\2", text))
        text = _ORDINAL_DIGITS.sub(r"\1", text)
        text = _THOUSANDS.sub(lambda match: _plain(Decimal(match[1]) * 1000), text)
    if " oh " in text:
        text = _YEAR_OH.sub(lambda match: f"{_VALUES[match[1]]}0{_DIGITS[match[2]]}", text)
    if "half" in text:
        text = _AND_A_HALF.sub(_with_half, _HALF_A.sub("0.5 ", text))
    return _RUN.sub(_run_as_digits, text) if _ANY_NUMBER_WORD.search(text) else text


def _ungrouped(match: re.Match[str]) -> str:
    kind = next(kind for kind in ("comma", "point", "other") if match[kind])
    if kind == "other" and _is_hour_and_number(match):
        return match[0]
    digits, decimals = re.sub(r"\D", "", match[kind]), match[f"after_{kind}"] or ""
    return f"{digits}.{decimals.rstrip('0')}" if decimals.strip("0") else digits


def _with_half(match: re.Match[str]) -> str:
    """“One and a half million” and “a million and a half” as “one point five million”."""
    before = "one" if match["before"] in ("a", "an") else match["before"]
    return f"{before}{'.5' if before.isdigit() else ' point five'} {match['scale'] or match['behind']}"


def _plain(value: Decimal) -> str:
    return format(value.normalize() if value % 1 else value.to_integral_value(), "f")


def _is_hour_and_number(match: re.Match[str]) -> bool:
    """Whether two groups of digits are a time of day and a number that follows it."""
    hour, *others = match["other"].split(" ")
    return (
        len(others) == 1
        and int(hour) <= _LAST_HOUR
        and _OF_THE_CLOCK.search(match.string[: match.start()]) is not None
        and _UNIT.match(match.string[match.end() :]) is None
    )


def _run_as_digits(match: re.Match[str]) -> str:
    parts = re.findall(r"\d+(?:\.\d+)?|[a-z]+", match[0])
    before, behind = match.string[: match.start()], match.string[match.end() :]
    if parts == ["one"] and not (_COUNTED_BY_NUMBER.search(before) or _UNIT.match(behind)):
        return match[0]
    if parts == ["second"] and _is_time(before, behind):
        return match[0]
    if len(parts) > 1 and parts[-1] == "second" and parts[-2] not in TENS and parts[-2] != "and":
        # “one second”, “ten second delay”; but “twenty second” is read as 22nd.
        return _run_as_digits_of(parts[:-1]) + " second"
    return _run_as_digits_of(parts)


def _is_time(before: str, behind: str) -> bool:
    if _SECOND_OF_TIME.search(before):
        return True
    following = _NEXT_WORD.match(behind)
    # “wait a second and …” is a time, “a second boat” is none; “of” follows the second of May.
    return bool(_A.search(before)) and (following is None or following[1] in STOP_WORDS - set(MONTHS))


def _run_as_digits_of(parts: list[str]) -> str:
    found: list[str] = []
    at = 0
    while at < len(parts):
        if parts[at] in ("and", "point", "oh"):
            found.append(parts[at])
            at += 1
            continue
        value, at = _read_number(parts, at)
        found.append(_plain(value))
    return " ".join(found)


def _read_number(parts: list[str], at: int) -> tuple[Decimal, int]:
    """The longest number that begins at a part, and where the next part begins.

    A number is groups below a thousand, each with a smaller scale than the one before it. “Nineteen
    ninety-nine” and “twenty twenty-six” are years.
    """
    total, group, scale = Decimal(0), None, Decimal("inf")
    last = ""
    first = at
    if parts[at] in ("a", "an"):
        group, last, at = Decimal(1), "unit", at + 1
    elif parts[at][0].isdigit():
        group, last, at = Decimal(parts[at]), "digits", at + 1
    while at < len(parts):
        joined = parts[at] == "and" and last in ("hundred", "scale") and at + 1 < len(parts)
        part = parts[at + 1] if joined else parts[at]
        if part == "point" and last != "point" and group is not None:
            behind = at + 1
            while behind < len(parts) and parts[behind] in _DIGITS:
                behind += 1
            decimals = "".join(_DIGITS[digit] for digit in parts[at + 1 : behind])
            # A large number may follow the decimals; another one may not.
            group, last, at = group + Decimal(f"0.{decimals or 0}"), "point", behind
            continue
        kind, value = _kind(part), Decimal(_VALUES.get(part, 0))
        if kind == "unit":
            fits = group is None or last == "hundred" or (last == "tens" and value > 0)
        elif kind in ("teen", "tens"):
            fits = group is None or last == "hundred"
            if (
                not fits
                and group is not None
                and last in ("teen", "tens")
                and 16 <= group <= 20
                and not total
            ):
                group, last, fits = group * _HUNDRED, "hundred", True
        elif kind == "hundred":
            fits = not joined and (group is None or (last in ("unit", "teen", "tens", "digits", "point")))
        elif kind == "scale":
            fits = not joined and value < scale and not (group is None and total)
        else:
            fits = False
        if not fits:
            break
        if kind == "hundred":
            group = (1 if group is None else group) * value
        elif kind == "scale":
            total, group, scale = total + (1 if group is None else group) * value, None, value
        else:
            group = (group or 0) + value
        last, at = kind, at + 1 + joined
        if part in _ORDINAL_WORDS:
            break
    assert at > first, parts
    return total + (group or 0), at


def _kind(word: str) -> str:
    value = _VALUES.get(word)
    if value is None:
        return ""
    if value >= 1000:
        return "scale"
    if value == _HUNDRED:
        return "hundred"
    return "unit" if value < 10 else "teen" if value < 20 else "tens"


# --- one number, read by itself -----------------------------------------------------------------------

_ONE_WORD = f"(?:{one_of([word for word in _VALUES if word not in ('second', 'hundred', *_SCALES)])})"
_BELOW_HUNDRED = rf"(?:(?:{one_of([*TENS])})[ -])?(?:{_ONE_WORD}|second(?=[ -](?:min|hour)))"
NUMBER = (
    r"(?:\d{1,4}[ ]?)?(?:[½¼¾⅓⅔]|(?<!\d)[1-3]/[2-4](?![\d/]))|\d{1,3}(?:,\d{3})+(?!:?\d|[.,]\d)"
    r"|\d{1,4}(?:st|nd|rd|th)\b|\d{1,6}(?:[.,]\d{1,3})?(?!:?\d|[.,]\d)"
    rf"|\b(?:(?:a|{_ONE_WORD})[ ]hundred(?:(?:[ ]and)?[ ]{_BELOW_HUNDRED})?"
    rf"|{_BELOW_HUNDRED}(?:[ ]point(?:[ ]{_ONE_WORD})+)?)\b"
)
"""One number in lower-case text: ``2``, ``2,5``, ``1,200``, ``2½``, ``2 1/2``, ``twenty-five``, ``two point
five``, ``3rd``, ``third``. “Second” is a number only before minutes and hours."""


def number_value(written: str) -> tuple[float, bool]:
    """The value of what ``NUMBER`` matches, and whether it says which one of several (“third”).

    A comma stands before thousands if three digits follow, else for the point.
    """
    parts = re.findall("[a-z]+", written)
    if parts and not written[0].isdecimal():
        return float(_read_number(parts, 0)[0]), parts[-1] in _ORDINAL_WORDS
    digits = re.sub(r",(?=\d{3}(?!\d))|[a-z]+", "", written).replace(",", ".")
    spaced = re.sub("[½¼¾⅓⅔]", lambda sign: f" {unicodedata.numeric(sign[0])}", digits)
    return float(sum(map(Fraction, spaced.split()))), bool(parts)
