"""A MOSS-Audio that knows the sample meeting by heart, and fails where it is told to.

It implements ``Backend`` by rule: it finds the place of the audio it is given in the recording's own copy,
sample for sample, and answers with what the script says of that place, in the form the model is trained on.
A rule of the test may answer instead: with text, with how the answer ended, or with an error.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.tasks import TASKS, TimedText, official
from tests.support.media import cut

SCRIPT = Path(__file__).parents[1] / "data" / "harbour_meeting.json"
RATE = 16_000


class Broken(MossAudioError):
    """What a server's trouble looks like."""


@dataclass(frozen=True)
class Asked:
    """One request, understood.

    Attributes:
        task: ``timestamps``, ``speakers`` or ``events``.
        start: Where its audio begins on the recording's clock, seconds.
        end: Where it ends there.
        seconds: Length of the clip; less than ``end - start`` where pauses were cut out.
        parts: What is said (or heard) in it, times on the clip's clock; with labels where they are asked for.
        options: As they came.
        again: How often the same audio was asked about before, for this task.
    """

    task: str
    start: float
    end: float
    seconds: float
    parts: list[TimedText]
    options: Options
    again: int

    @property
    def careful(self) -> bool:
        """Whether it is sampled."""
        return self.options.temperature > 0

    @property
    def true(self) -> str:
        """The right answer."""
        if self.task == "events":
            return "\n".join(f"{part.start:.2f} - {part.end:.2f}: {part.text}" for part in self.parts)
        return official(self.parts)


Rule = Callable[[Asked], "str | Reply | Exception | None"]


class ScriptedBackend:
    """See the module.

    Args:
        home: Home folder; the recordings' copies in it are what clips are looked for in.
        begins: Second of the sample at which the recording begins.
        rule: Answers instead of the script, where it does not return None.
        at_once: See ``Backend``.
        sounds: Sounds beside those of the script, on the recording's clock.
    """

    name = "moss-scripted"
    thinks = False

    def __init__(
        self,
        home: Path,
        begins: float = 0.0,
        rule: Rule | None = None,
        at_once: int = 2,
        sounds: Sequence[TimedText] = (),
    ) -> None:
        self.home = home
        self.rule = rule or (lambda _: None)
        self.at_once = at_once
        self.asked: list[Asked] = []
        self.most_at_a_time = 0
        self._working = 0
        self._lock = threading.Lock()
        self._copies: dict[Path, np.ndarray] = {}
        script = json.loads(SCRIPT.read_text())["segments"]
        shifted = [(entry, entry["start"] - begins, entry["end"] - begins) for entry in script]
        self.said = [
            TimedText(a, b, entry["text"]) for entry, a, b in shifted if entry.get("kind") != "sound"
        ]
        self.turns = [
            replace(said, speaker=entry["speaker"])
            for said, (entry, _, _) in zip(
                self.said, (it for it in shifted if "speaker" in it[0]), strict=True
            )
        ]
        self.heard = [
            TimedText(a, b, entry["text"]) for entry, a, b in shifted if entry.get("kind") == "sound"
        ]
        self.heard += sounds

    def of(self, task: str) -> list[Asked]:
        """What was asked of one task, in order."""
        return [request for request in self.asked if request.task == task]

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        with self._lock:
            self._working += len(requests)
            self.most_at_a_time = max(self.most_at_a_time, self._working)
        try:
            return [self._answer(request, options) for request in requests]
        finally:
            with self._lock:
                self._working -= len(requests)

    def _answer(self, request: Request, options: Options) -> Reply | MossAudioError:
        asked = self._understand(request, options)
        answer = self.rule(asked)
        if answer is None:
            time.sleep(0.05)  # long enough for others to come
            answer = asked.true
        if isinstance(answer, MossAudioError):
            return answer
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else ended(answer)

    def _understand(self, request: Request, options: Options) -> Asked:
        assert isinstance(request.prompt, str) and len(request.audios) == 1
        task = next(name for name, task in TASKS.items() if task.prompt == request.prompt)
        clip = np.asarray(request.audios[0])
        pieces = self._locate(clip)
        told = {"events": self.heard, "speakers": self.turns}.get(task, self.said)
        least = 0.0 if task == "events" else 0.5
        parts = [placed for item in told if (placed := _in_clip(item, pieces, least)) is not None]
        first, last = pieces[0], pieces[-1]
        start, end = first[1] / RATE, (last[1] + last[2]) / RATE
        with self._lock:
            same = [
                request
                for request in self.asked
                if (request.task, request.start, request.end) == (task, start, end)
            ]
            parts = _labelled(sorted(parts, key=_start))
            asked = Asked(task, start, end, len(clip) / RATE, parts, options, len(same))
            self.asked.append(asked)
        return asked

    def _locate(self, clip: np.ndarray) -> list[tuple[int, int, int]]:
        """Pieces of the clip: where each begins in it, where in the recording, and its length, in samples."""
        for path in sorted((self.home / "audio").glob("*.flac")):
            if path not in self._copies:
                self._copies[path] = soundfile.read(path, dtype="float32")[0]
            if pieces := _pieces(clip, self._copies[path]):
                return pieces
        raise AssertionError("this audio is of no recording here")

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        (answer,) = self.ask([request], options, cancel)
        if isinstance(answer, MossAudioError):
            raise answer
        yield answer

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``; this one does not converse."""
        raise Broken("This model does not converse.")
        yield

    def close(self) -> None:
        """See ``Backend``."""


def ended(text: str, stopped: Any = "end") -> Reply:
    """A finished answer."""
    return Reply(text, "", stopped, 100, len(text) // 4, 0.1)


def excerpt(sample: Path, path: Path, start: float, end: float) -> Path:
    """A stretch of the sample as a file of its own."""
    audio, rate = cut(sample, start, end)
    soundfile.write(path, audio, rate)
    return path


def shifted(parts: Sequence[TimedText], by: float) -> list[TimedText]:
    """The same words at other times."""
    return [replace(part, start=part.start + by, end=part.end + by) for part in parts]


def _labelled(parts: Sequence[TimedText]) -> list[TimedText]:
    """Speakers' names as a model gives them: numbered by first appearance in the clip."""
    names = list(dict.fromkeys(part.speaker for part in parts if part.speaker))
    return [
        replace(part, speaker=f"S{names.index(part.speaker) + 1:02}") if part.speaker else part
        for part in parts
    ]


def _start(part: TimedText) -> float:
    return part.start


def _pieces(clip: np.ndarray, copy: np.ndarray) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    at, after = 0, 0
    while at < len(clip):
        where = _find(clip[at : at + 400], copy, after)
        if where is None:
            return found if found and not np.any(clip[at:]) else []
        length = min(len(clip) - at, len(copy) - where)
        differs = np.flatnonzero(clip[at : at + length] != copy[where : where + length])
        length = int(differs[0]) if differs.size else length
        found.append((at, where, length))
        at, after = at + length, where + length
    return found


def _find(block: np.ndarray, samples: np.ndarray, after: int) -> int | None:
    """Where a block begins among other samples, from a place on; bytes are found fast, also in silence."""
    wanted, among, size = block.tobytes(), samples.tobytes(), samples.itemsize
    at = among.find(wanted, after * size)
    while at % size and at >= 0:
        at = among.find(wanted, at + 1)
    return at // size if at >= 0 else None


def _in_clip(part: TimedText, pieces: Sequence[tuple[int, int, int]], least: float) -> TimedText | None:
    """A part on the clip's clock, if more than this share of it lies inside one piece."""
    for at, where, length in pieces:
        start, end = max(part.start, where / RATE), min(part.end, (where + length) / RATE)
        if end - start > least * (part.end - part.start):
            shift = (at - where) / RATE
            return replace(part, start=start + shift, end=end + shift)
    return None
