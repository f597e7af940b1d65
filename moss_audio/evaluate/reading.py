"""What a model wrote, read by the parsers of its task.

No clip length is handed to the parsers, so that times beyond a clip's end count as the errors they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moss_audio.evaluate.cases import Case, Timed
from moss_audio.tasks import TASKS, choice

NAMES = {"asr": "transcribe", "timestamps": "timestamps", "words": "words"}
"""The task of ``moss_audio.tasks`` that stands behind each task of a case; ``choice`` makes its own."""

HARMLESS = frozenset({"thinking", "special token"})
"""What surrounds an answer by rights; anything else that a parser set aside is counted as mended."""


@dataclass(frozen=True)
class Reading:
    """An answer as read: a text, timed pieces, or a letter, whichever the task has.

    ``mended`` is true where the parser set something aside that belongs to no transcript; a
    choice is clear or it is not, whatever stands around it.
    """

    text: str = ""
    pieces: tuple[Timed, ...] = ()
    letter: str | None = None
    mended: bool = False

    @property
    def readable(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.text.strip() or self.pieces or self.letter)


def task_of(case: Case) -> Any:
    """Return the task of ``moss_audio.tasks`` that asks and reads this case."""
    if case.task == "choice":
        return choice(case.question, case.options)
    return TASKS[NAMES[case.task]]


def read(case: Case, text: str) -> Reading:
    """Read one answer; any text can be read, to nothing at worst."""
    parsed = task_of(case).parse(text, None)
    value = parsed.value
    if case.task == "choice":
        return Reading(letter=None if value is None else value.letter)
    mended = bool(parsed.kinds - HARMLESS)
    if case.task == "asr":
        return Reading(text=value.text, mended=mended)
    pieces = tuple(Timed(one.start, one.end, one.text) for one in value)
    return Reading(" ".join(one.text for one in pieces), pieces, mended=mended)
