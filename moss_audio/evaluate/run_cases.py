"""Ask a model every case, and write each answer down as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from moss_audio.errors import AudioError, DataError
from moss_audio.evaluate.cases import Case, Prediction, PredictionLog
from moss_audio.evaluate.scoring import task_of
from moss_audio.generation.requests import THOUGHT_TOKENS

BASE_TOKENS = 1024
"""The official limit of an answer, and here what every answer may have at least."""

TOKENS_PER_SECOND = {"asr": 10, "timestamps": 30, "words": 60, "choice": 0}
"""More tokens for longer audio, so that no transcript is cut off: fast speech is about five words a second,
and the two times of a word take ten tokens. Chosen generously; an answer ends where the model ends it."""


@dataclass(frozen=True)
class RunOptions:
    """How the cases are asked; decoding is greedy always, so that a run can be repeated.

    ``max_new_tokens`` None means as many as the task allows for audio of that length; ``thinking`` None
    means as the model does by itself.
    """

    model: str
    batch: int = 1
    resume: bool = False
    max_new_tokens: int | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None

    @property
    def settings(self) -> str:
        """What shapes the answers, in words; a predictions file is resumed only if it is equal."""
        limit = "as the task needs" if self.max_new_tokens is None else str(self.max_new_tokens)
        parts = ["greedy", "bfloat16", f"tokens at most: {limit}"]
        if self.thinking is False:
            parts.append("no thinking")
        if self.thinking_budget is not None:
            parts.append(f"thinking budget {self.thinking_budget}")
        return ", ".join(parts)


def run(cases: Sequence[Case], path: Path, options: RunOptions) -> None:
    """Write the answers of ``options.model`` to ``path``, one line a case, in batches of one task.

    Raises:
        DataError: A recording is not there, or the predictions file is not this run's.
        AudioError, CheckpointError, NotEnoughMemory: As loading and listening raise them.
    """
    _check_audio(cases)
    with PredictionLog(path, options.model, options.settings, options.resume) as log:
        left = [case for case in cases if case.id not in log.done]
        if not left:
            return
        model = _load(options.model)
        with _progress() as progress:
            bar = progress.add_task("cases", total=len(cases), completed=len(cases) - len(left))
            for batch in batches(left, options.batch):
                for prediction in _ask(model, batch, options):
                    log.write(prediction)
                progress.advance(bar, len(batch))


def batches(cases: Sequence[Case], size: int) -> Iterator[list[Case]]:
    """Cut cases into batches of at most ``size``, each of one task, in the file's order within a task."""
    tasks: dict[str, list[Case]] = {}
    for case in cases:
        tasks.setdefault(case.task, []).append(case)
    for members in tasks.values():
        for first in range(0, len(members), size):
            yield members[first : first + size]


def _check_audio(cases: Sequence[Case]) -> None:
    for case in cases:
        for path in case.audio:
            if not path.is_file():
                raise DataError(f'Case "{case.id}" (line {case.line}): there is no audio file {path}.')


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def token_limit(case: Case, seconds: float, thought: int) -> int:
    """Return how many tokens an answer may have: for the thought, and for what ``seconds`` of audio fill."""
    return thought + BASE_TOKENS + int(seconds * TOKENS_PER_SECOND[case.task])


def _load(name: str) -> Any:
    """Load a checkpoint in bfloat16, onto the GPU where there is one."""
    import torch

    from moss_audio.checkpoints.hub import resolve
    from moss_audio.checkpoints.memory import check, need_of
    from moss_audio.model.modeling import MossAudioModel

    folder = resolve(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check(name, need_of(folder, torch.bfloat16), device)
    placed = {"device_map": {"": str(device)}} if device.type == "cuda" else {}
    return MossAudioModel.from_pretrained(folder, dtype=torch.bfloat16, **placed).eval()


def _ask(model: Any, batch: Sequence[Case], options: RunOptions) -> Iterator[Prediction]:
    """Answer one batch of cases of one task."""
    from moss_audio.audio import load_audio
    from moss_audio.generation.generate import Options, Request, replies, thinks
    from moss_audio.model.mel import SAMPLE_RATE

    thought = 0
    if options.thinking is not False and thinks(model):
        thought = THOUGHT_TOKENS if options.thinking_budget is None else options.thinking_budget
    requests, limits = [], []
    for case in batch:
        try:
            audios = [load_audio(path) for path in case.audio]
        except AudioError as error:
            raise AudioError(f'Case "{case.id}" (line {case.line}): {error}') from error
        requests.append(Request(model.processor.escape(task_of(case).prompt), audios))
        seconds = sum(len(audio) for audio in audios) / SAMPLE_RATE
        limits.append(token_limit(case, seconds, thought))
    how = Options(
        max_new_tokens=options.max_new_tokens or max(limits),
        thinking=options.thinking,
        thinking_budget=options.thinking_budget if thought else None,
    )
    for case, reply in zip(batch, replies(model, requests, how), strict=True):
        yield Prediction(
            case.id,
            reply.text,
            stopped=reply.stopped,
            thinking=reply.thinking or None,
            new_tokens=reply.new_tokens,
            seconds=round(reply.seconds, 3),
        )
