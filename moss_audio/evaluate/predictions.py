"""What a model answered: one JSON object a line, ``{"id": …, "text": …}``.

The format is small on purpose, so that the answers of any program can be scored. A run of ours adds what
it knows (``model``, ``stopped``, ``thinking``, ``new_tokens``, ``seconds``); of these, scoring looks at
``stopped`` alone, and going on after an interruption at ``model`` and ``settings``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moss_audio.errors import DataError, MossAudioError
from moss_audio.evaluate.cases import read_lines


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
                    "Add --resume to go on with it, or name another file with --predictions."
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
        for one in found.values():
            if (one.model, one.settings) != (self.model, self.settings):
                raise DataError(
                    f"The predictions file {self.path} was written by {one.model or 'another program'} "
                    f"({one.settings or 'settings unknown'}), not by {self.model} ({self.settings}). "
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
