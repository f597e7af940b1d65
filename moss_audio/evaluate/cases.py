"""The cases of an evaluation, and what a model answered: JSON files with one object a line.

    {"id": "1089-0001", "audio": "wav/1089-0001.flac", "task": "asr", "language": "en",
     "reference": "he hoped there would be stew for dinner", "dataset": "LibriSpeech test-clean"}

``task`` says how a case is asked and scored: ``asr`` (a text), ``timestamps`` (sentences with times),
``words`` (words with times) or ``choice`` (a question with options). See docs/evaluation.md.

A prediction needs only ``{"id": …, "text": …}``, so that the answers of any program can be scored. Our own
runs add what they know (``model``, ``stopped``, ``thinking``, ``new_tokens``, ``seconds``). Of these scoring
reads only ``stopped``, and resuming reads ``model`` and ``settings``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moss_audio.errors import DataError, MossAudioError

TASKS = ("asr", "timestamps", "words", "choice")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FIELDS = ("id", "audio", "task", "language", "reference", "question", "options", "category", "dataset")


@dataclass(frozen=True)
class Timed:
    """A sentence or a word with its ``start`` and ``end`` in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Case:
    """One recording, what is asked about it, and the right answer.

    ``reference`` is a text (``asr``), timed sentences or words (``timestamps``, ``words``) or the letter
    of the right option (``choice``). ``audio`` holds one path; a ``choice`` may have several.
    """

    id: str
    audio: tuple[Path, ...]
    task: str
    reference: str | tuple[Timed, ...]
    dataset: str
    language: str | None = None
    question: str = ""
    options: tuple[str, ...] = ()
    category: str | None = None
    line: int = 0


def read_lines(path: Path, what: str, whole: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for every line of a JSONL file that is not blank.

    With ``whole``, what follows the last line break is passed over.

    Raises:
        DataError: The file cannot be read, or a line is not a JSON object; ``what`` names the file's role.
    """
    try:
        data = path.read_bytes()
        text = (data[: data.rfind(b"\n") + 1] if whole else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"The {what} file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The {what} file {path} cannot be read as UTF-8 text: {error}.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({error}). Write one object a line.") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: expected a JSON object, not {type(value).__name__}.")
        yield number, value


def read_cases(path: Path) -> list[Case]:
    """Read and check every case of a JSONL file; paths of audio are relative to that file.

    Whether the audio is there is not looked at: predictions can be scored without it.

    Raises:
        DataError: A line cannot be used, an id occurs twice, or there is no case; names file and line.
    """
    cases: list[Case] = []
    lines: dict[str, int] = {}
    for number, value in read_lines(path, "cases"):
        case = _Line(path, number, value).case()
        if case.id in lines:
            raise DataError(
                f'{path}, line {number}: the id "{case.id}" is already used in line {lines[case.id]}. '
                "Give every case its own id."
            )
        lines[case.id] = number
        cases.append(case)
    if not cases:
        raise DataError(f"The cases file {path} has no case in it.")
    return cases


@dataclass(frozen=True)
class _Line:
    """A line being checked: knows where it stands, so that every complaint can say so."""

    path: Path
    number: int
    value: dict[str, Any]

    def refuse(self, complaint: str) -> DataError:
        return DataError(f"{self.path}, line {self.number}: {complaint}")

    def text(self, name: str, default: str | None = None) -> str:
        """Return a field that must be text and not empty; ``default`` stands in where it is absent."""
        value = self.value.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(f'"{name}" must be text that is not empty, not {value!r}.')
        return value

    def case(self) -> Case:
        unknown = sorted(set(self.value) - set(FIELDS))
        if unknown:
            raise self.refuse(f'unknown field "{unknown[0]}"; the fields are {", ".join(FIELDS)}.')
        task = self.text("task")
        if task not in TASKS:
            raise self.refuse(f'unknown task "{task}"; the tasks are {", ".join(TASKS)}.')
        options = self.options() if task == "choice" else ()
        return Case(
            id=self.text("id"),
            audio=self.audio(task),
            task=task,
            reference=self.reference(task, options),
            dataset=self.text("dataset", self.path.stem),
            language=self.language(task),
            question=self.text("question") if task == "choice" else "",
            options=options,
            category=self.text("category") if self.value.get("category") is not None else None,
            line=self.number,
        )

    def audio(self, task: str) -> tuple[Path, ...]:
        value = self.value.get("audio")
        given = value if isinstance(value, list) else [value]
        names = [name for name in given if isinstance(name, str) and name]
        if not names or len(names) < len(given):
            raise self.refuse('"audio" must be a path, or a list of paths for a choice.')
        if len(names) > 1 and task != "choice":
            raise self.refuse(f'a case of task "{task}" has one audio file, not {len(names)}.')
        return tuple(self.path.parent / name for name in names)

    def language(self, task: str) -> str | None:
        """Return the language's code without its region: ``zh-CN`` becomes ``zh``."""
        if task == "choice" and self.value.get("language") is None:
            return None
        code = self.text("language").replace("_", "-").split("-")[0].strip().lower()
        if not (2 <= len(code) <= 3 and code.isascii() and code.isalpha()):
            raise self.refuse(
                f'"language" must be a code like "en" or "zh", not {self.value.get("language")!r}; '
                "it decides between words and characters."
            )
        return code

    def options(self) -> tuple[str, ...]:
        value = self.value.get("options")
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.refuse('"options" must be a list of texts that are not empty.')
        if not 2 <= len(value) <= len(LETTERS):
            raise self.refuse(f'"options" must be 2 to {len(LETTERS)} texts, not {len(value)}.')
        return tuple(value)

    def reference(self, task: str, options: tuple[str, ...]) -> str | tuple[Timed, ...]:
        if task == "asr":
            return self.text("reference")
        if task == "choice":
            return self.letter(self.text("reference"), options)
        value = self.value.get("reference")
        if not isinstance(value, list) or not value:
            raise self.refuse('"reference" must be a list of {"start", "end", "text"}.')
        return tuple(self.timed(item, place) for place, item in enumerate(value, start=1))

    def timed(self, value: Any, place: int) -> Timed:
        if not isinstance(value, dict) or set(value) != {"start", "end", "text"}:
            raise self.refuse(f'item {place} of "reference" must have "start", "end" and "text".')
        start, end, text = value["start"], value["end"], value["text"]
        numbers = all(
            isinstance(time, (int, float)) and not isinstance(time, bool) and math.isfinite(time)
            for time in (start, end)
        )
        if not numbers or not 0 <= start <= end:
            raise self.refuse(
                f'item {place} of "reference": times are seconds with 0 <= start <= end, '
                f"not {start!r} to {end!r}."
            )
        if not isinstance(text, str) or not text.strip():
            raise self.refuse(f'item {place} of "reference" must have a text.')
        return Timed(float(start), float(end), text)

    def letter(self, value: str, options: tuple[str, ...]) -> str:
        """Return the right option's letter; the option's own text is understood too."""
        stripped = value.strip()
        found = {LETTERS[place] for place, option in enumerate(options) if option.strip() == stripped}
        if stripped.upper() in LETTERS[: len(options)] and len(stripped) == 1:
            found.add(stripped.upper())
        if len(found) != 1:
            trouble = "could be several options" if found else "is no option and no option's letter"
            raise self.refuse(
                f'"reference" {value!r} {trouble}; write one letter of A to {LETTERS[len(options) - 1]}.'
            )
        return found.pop()


@dataclass(frozen=True)
class Prediction:
    """One answer. ``stopped`` is "end", "length" (cut off at the token limit) or None where unknown."""

    id: str
    text: str
    stopped: str | None = None
    thinking: str | None = None
    new_tokens: int | None = None
    seconds: float | None = None
    model: str | None = None
    settings: str | None = None


def read_predictions(path: Path, whole_lines: bool = False) -> dict[str, Prediction]:
    """Read answers by the id of their case, in the file's order; unknown fields are passed over.

    Args:
        path: The JSONL file.
        whole_lines: Pass over what follows the last line break: the beginning of a line that a kill cut off.

    Raises:
        DataError: A line cannot be used or an id occurs twice; names file and line.
    """
    found: dict[str, Prediction] = {}
    for number, value in read_lines(path, "predictions", whole_lines):
        name, text = value.get("id"), value.get("text")
        if not isinstance(name, str) or not isinstance(text, str):
            raise DataError(f'{path}, line {number}: "id" and "text" must both be there and be text.')
        if name in found:
            raise DataError(f'{path}, line {number}: a second prediction for "{name}". Keep one of them.')
        known = {key: value[key] for key in Prediction.__dataclass_fields__ if key in value}
        found[name] = Prediction(**known)
    return found


class PredictionLog:
    """A predictions file being written: each line reaches the system as soon as its answer is known.

    Opened anew, it refuses a file that has something in it. Opened with ``resume``, it keeps every whole
    line (a kill can leave half of the last one, which is cut off) and says in ``done`` whose they are.
    """

    def __init__(self, path: Path, model: str, settings: str, resume: bool = False):
        self.path, self.model, self.settings = path, model, settings
        self.done: set[str] = set()
        if path.exists() and path.stat().st_size:
            if not resume:
                raise DataError(
                    f"The predictions file {path} has answers in it already. "
                    "Add --resume to continue it, or name another file with --predictions."
                )
            self.done = self._answered()
            self._keep_whole_lines()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise MossAudioError(f"The predictions file {path} cannot be written: {error}.") from error

    def _keep_whole_lines(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def _answered(self) -> set[str]:
        found = read_predictions(self.path, whole_lines=True)
        for prediction in found.values():
            if (prediction.model, prediction.settings) != (self.model, self.settings):
                raise DataError(
                    f"The predictions file {self.path} was written by {prediction.model or 'another program'}"
                    f" ({prediction.settings or 'settings unknown'}), not by {self.model} ({self.settings}). "
                    "Name another file with --predictions."
                )
        return set(found)

    def write(self, prediction: Prediction) -> None:
        """Append one answer as a whole line."""
        record: dict[str, Any] = {
            **asdict(prediction),
            "model": self.model,
            "settings": self.settings,
        }
        kept = {key: value for key, value in record.items() if value is not None}
        self._file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        self._file.flush()
        self.done.add(prediction.id)

    def close(self) -> None:
        """Close the file; nothing more can be written."""
        self._file.close()

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
