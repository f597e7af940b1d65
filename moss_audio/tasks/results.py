"""What tasks return: typed values, and a report of all that was left out or changed on the way.

The forms in which models write times and speaker labels are here too, since reading and writing share them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, Literal, TypeVar

_DIGIT = "[0-9０-９]"
TIME = (
    rf"(?:{_DIGIT}{{1,3}}[:：]{_DIGIT}{{1,2}}[:：]{_DIGIT}{{1,2}}(?:[.,．]{_DIGIT}{{1,6}})?"
    rf"|{_DIGIT}{{1,3}}[:：]{_DIGIT}{{1,2}}(?:[.,．]{_DIGIT}{{1,6}})?"
    rf"|{_DIGIT}{{1,7}}(?:[.．]{_DIGIT}{{1,6}})?)"
)
"""A time without its brackets: ``2.01``, ``1:05.2``, ``00:01:05,200``. Bounded: matching stays linear.
``parse_clock`` reads it."""

UNIT = r"(?:[ ]?(?:seconds?|secs?|s|秒)(?![^\W\d_]))?"
"""An optional unit after a time."""

DASH = r"(?:-{1,2}>|[-–—−~～〜→]|to\b|至|到)"
"""What stands between the two times of a range."""

OPEN = r"[\[［【〔]"
CLOSE = r"[\]］】〕]"
SPEAKER = rf"(?:s|spk|speaker|说话人)[ _]?(?P<number>{_DIGIT}{{1,3}})"
"""A speaker label without its brackets; its number is the group ``number``."""


def stamp(time: float) -> str:
    """Seconds with two decimals, the precision the model is trained on."""
    return f"{time:.2f}"


def speaker(number: str) -> str:
    """The label of a speaker's number: ``S01``."""
    return f"S{int(number):02d}"


def one_line(text: str) -> str:
    """Collapse white space, line breaks too, to single spaces."""
    return " ".join(text.split())


def has_words(text: str) -> bool:
    """Whether a text holds any letter or digit of any script."""
    return any(map(str.isalnum, text))


TRUNCATED_STAMP = re.compile(rf"{OPEN}[ ]?[sS]?[0-9０-９:：.．]{{0,12}}\s*\Z")
"""A stamp or label that the end of the output cut in two."""


Kind = Literal[
    "loop",
    "beyond the clip",
    "out of order",
    "no start tag",
    "no end tag",
    "no times",
    "no speaker",
    "several words",
    "empty",
    "cut off",
    "not JSON",
    "unknown field",
    "fence",
    "thinking",
    "special token",
    "invented turn",
    "stamp",
    "explanation",
    "ambiguous",
    "no choice",
]
"""The sort of a finding; programs branch on it, people read the reason."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Dropped:
    """One piece of model output that is not in the value as it was written.

    Attributes:
        text: The piece as the model wrote it.
        reason: For people: why it was left out, or what was done with it instead.
        kind: For programs.
    """

    text: str
    reason: str
    kind: Kind

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """As one line."""
        shown = " ".join(self.text.split())
        shown = shown if len(shown) <= 80 else shown[:79] + "…"
        return f"{self.kind}: {self.reason}: {shown}" if shown else f"{self.kind}: {self.reason}"


@dataclass(frozen=True)
class Parsed(Generic[T_co]):
    """A value read from model output, and what did not make it into the value."""

    value: T_co
    dropped: tuple[Dropped, ...] = ()

    @property
    def kinds(self) -> frozenset[Kind]:
        """The sorts of findings; empty when the output was taken whole, as it stood."""
        return frozenset(finding.kind for finding in self.dropped)

    def to_json(self) -> dict[str, Any]:
        """``{"value": …, "dropped": […]}``."""
        value: Any = self.value
        return {
            "value": None if value is None else value.to_json(),
            "dropped": [finding.to_json() for finding in self.dropped],
        }

    def to_text(self) -> str:
        """The value for people; empty when there is none."""
        value: Any = self.value
        return "" if value is None else value.to_text()


@dataclass(frozen=True)
class Transcript:
    """What was said, without times."""

    text: str

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return {"text": self.text}

    def to_text(self) -> str:
        """The words."""
        return self.text


@dataclass(frozen=True)
class Description:
    """An answer in prose."""

    text: str

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return {"text": self.text}

    def to_text(self) -> str:
        """The prose."""
        return self.text


@dataclass(frozen=True)
class TimedText:
    """Words with their place on the clip's clock: a sentence, a word, or a turn of a speaker.

    Attributes:
        start: Seconds from the start of the clip.
        end: Seconds, at or after ``start``.
        text: What was said.
        speaker: A label such as ``S01``, which means the same voice within this clip only; None if unknown.
    """

    start: float
    end: float
    text: str
    speaker: str | None = None

    def to_json(self) -> dict[str, float | str]:
        """As a JSON object; without ``speaker`` where none is known."""
        found: dict[str, float | str] = {"start": self.start, "end": self.end, "text": self.text}
        return found if self.speaker is None else {**found, "speaker": self.speaker}

    def to_text(self) -> str:
        """As a line, such as ``0.00 - 2.01  S01: hello there``."""
        label = f"{self.speaker}: " if self.speaker else ""
        return f"{stamp(self.start)} - {stamp(self.end)}  {label}{self.text}"


class TimedTexts(tuple[TimedText, ...]):
    """Timed texts in order of their starts."""

    __slots__ = ()

    def to_json(self) -> list[dict[str, float | str]]:
        """As a JSON list."""
        return [item.to_json() for item in self]

    def to_text(self) -> str:
        """One line for each."""
        return "\n".join(item.to_text() for item in self)


@dataclass(frozen=True)
class Event:
    """Something heard, from ``start`` to ``end`` seconds of the clip."""

    start: float
    end: float
    text: str

    def to_json(self) -> dict[str, float | str]:
        """As a JSON object."""
        return {"start": self.start, "end": self.end, "text": self.text}

    def to_text(self) -> str:
        """As the line the task asks for, such as ``0.00 - 1.20: dog barks``."""
        return f"{stamp(self.start)} - {stamp(self.end)}: {self.text}"


class Events(tuple[Event, ...]):
    """Events in order of their starts; they may overlap."""

    __slots__ = ()

    def to_json(self) -> list[dict[str, float | str]]:
        """As a JSON list."""
        return [item.to_json() for item in self]

    def to_text(self) -> str:
        """One line for each."""
        return "\n".join(item.to_text() for item in self)


@dataclass(frozen=True)
class Caption:
    """A voice described in the thirteen fields of the speech caption; None where the model said nothing."""

    gender: str | None = None
    age: str | None = None
    accent: str | None = None
    pitch: str | None = None
    volume: str | None = None
    speed: str | None = None
    texture: str | None = None
    clarity: str | None = None
    fluency: str | None = None
    emotion: str | None = None
    tone: str | None = None
    personality: str | None = None
    summary: str | None = None

    def to_json(self) -> dict[str, str]:
        """The fields that are there."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_text(self) -> str:
        """One line for each field that is there."""
        return "\n".join(f"{name}: {value}" for name, value in self.to_json().items())


CAPTION_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Caption))
"""Names of the fields of a caption, in order."""


@dataclass(frozen=True)
class Choice:
    """The option a model chose.

    Attributes:
        letter: ``A``, ``B``, …
        option: Its text; empty when the options are not known to the parser.
    """

    letter: str
    option: str = ""

    def to_json(self) -> dict[str, str]:
        """As a JSON object."""
        return {"letter": self.letter, "option": self.option}

    def to_text(self) -> str:
        """Such as ``B. dog``."""
        return f"{self.letter}. {self.option}" if self.option else self.letter


def official(parts: Sequence[TimedText]) -> str:
    """Write timed texts in the form the model is asked for and trained on.

    ``[0.00]hello there[2.01][2.01]the weather is nice[4.32]``; with a speaker, ``[0.00][S01]hello[2.01]``.
    Times are rounded to hundredths of a second.
    """
    return "".join(
        f"[{stamp(part.start)}]{f'[{part.speaker}]' if part.speaker else ''}{part.text}[{stamp(part.end)}]"
        for part in parts
    )
