"""The model from the command line: ``python -m moss_audio FILE``. Answers on stdout, all else on stderr.

Exit code 0: done. 1: it failed, with one line on stderr that says what and what to do. 2: wrong usage.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from moss_audio import tasks
from moss_audio.errors import MossAudioError, PromptError
from moss_audio.generation.requests import THOUGHT_TOKENS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from moss_audio.generation.generate import Options, Reply

DEFAULT_MODEL = "OpenMOSS-Team/MOSS-Audio-4B-Instruct"

TOKENS_PER_SECOND = 40
"""Room for an answer about each second of audio: three words, each with two time stamps."""

TaskName = StrEnum("TaskName", {name: name for name in tasks.TASKS})  # type: ignore[misc]


class Dtype(StrEnum):
    """Number format of the weights in memory."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_notes = Console(stderr=True, highlight=False, markup=False)


@dataclass(frozen=True)
class _Clip:
    """The audio, and where in the file it begins (seconds)."""

    file: Path
    audio: np.ndarray
    start: float
    seconds: float


@app.command()
def _answer(
    file: Annotated[Path, typer.Argument(help="An audio or video file.")],
    model: Annotated[
        str, typer.Option(help="Name on the Hugging Face hub, or a checkpoint's folder.")
    ] = DEFAULT_MODEL,
    task: Annotated[TaskName | None, typer.Option(help="What to do; by default transcribe.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Your own question about the audio.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A possible answer, for --task choice; two or more.")
    ] = None,
    start: Annotated[float, typer.Option(min=0.0, help="Second of the file to begin at.")] = 0.0,
    end: Annotated[float | None, typer.Option(min=0.0, help="Second of the file to end at.")] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Longest output, thought included; by default 1024, more for long audio and thinking.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="0 always picks the likeliest word; by default 0 for structured tasks, 1 for prose."
        ),
    ] = None,
    thinking: Annotated[
        bool | None, typer.Option("--thinking/--no-thinking", help="Let a Thinking model think, and show it.")
    ] = None,
    thinking_budget: Annotated[
        int | None, typer.Option(min=0, help="Most tokens to think with before the answer.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document with the parsed answer.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by default the fastest.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Number format of the weights.")] = Dtype.bfloat16,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Ask MOSS-Audio about a recording of up to ten minutes."""
    _Run.debug = debug
    if end is not None and end <= start:
        raise typer.BadParameter(f"--end {end:g} must come after --start {start:g}.")
    chosen = _task(task, prompt, option or [])
    _Run.quiet = as_json
    clip = _load(file, start, end)
    where = _device(device)
    from moss_audio.checkpoints.files import thinks
    from moss_audio.generation.generate import Options

    room = max(1024, round(clip.seconds * TOKENS_PER_SECOND)) + (thinking_budget or 0)
    warmth = temperature if temperature is not None else 0.0 if chosen.greedy else 1.0
    try:
        options = Options(
            max_new_tokens or room, warmth, thinking=thinking, thinking_budget=thinking_budget, seed=seed
        )
    except PromptError as error:
        raise typer.BadParameter(str(error)) from error
    folder = _folder(model, where, dtype)
    if max_new_tokens is None and thinking is not False and thinking_budget is None and thinks(folder, model):
        options = replace(options, max_new_tokens=room + THOUGHT_TOKENS)
    loaded = _model(model, folder, where, dtype, clip.seconds, options)
    reply = _stream(loaded, chosen.prompt, clip, options)
    if as_json:
        _write_json(_document(model, chosen, clip, reply))


class _Run:
    """What the error handling at the top has to know."""

    debug = False
    quiet = False


def _task(name: TaskName | None, prompt: str | None, options: list[str]) -> tasks.Task:
    """The task that was meant; wrong combinations are wrong usage."""
    try:
        if name == "choice" or (name is None and options):
            return tasks.choice(prompt or "", options)
        if options:
            raise typer.BadParameter("--option belongs to --task choice.")
        if name is None and prompt is None:
            return tasks.TASKS["transcribe"]
        if name is None or name == "ask":
            return tasks.ask(prompt or "")
    except PromptError as error:
        raise typer.BadParameter(str(error)) from error
    if prompt is not None:
        raise typer.BadParameter(f"--task {name} has a prompt of its own; leave out --task or --prompt.")
    return tasks.TASKS[name]


def _load(file: Path, start: float, end: float | None) -> _Clip:
    from moss_audio.audio import MODEL_SECONDS, SAMPLE_RATE, load_audio

    audio = load_audio(file, start, end)
    seconds = len(audio) / SAMPLE_RATE
    if seconds > MODEL_SECONDS:
        note(
            f"{file.name}: {seconds / 60:.1f} minutes are more than the 10 minutes the model is meant for; "
            f"expect gaps, or choose a part, for example --start {start:g} --end {start + MODEL_SECONDS:g}."
        )
    return _Clip(file, audio, start, seconds)


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        backends = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((backend for backend, there in backends.items() if there), "cpu"))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise typer.BadParameter(f"There is no device {name!r} here.") from error
    return device


def _folder(name: str, device: torch.device, dtype: Dtype) -> Path:
    """The checkpoint's folder; nothing is downloaded that would not fit by its published size."""
    import torch

    from moss_audio.checkpoints.hub import resolve
    from moss_audio.checkpoints.memory import Place

    Place(device, getattr(torch, dtype)).check_released(name)
    return _resolve(name, resolve)


def _model(
    name: str, folder: Path, device: torch.device, dtype: Dtype, seconds: float, options: Options
) -> Any:
    """The model, after it is known by its files to fit together with the prompt and the answer."""
    import torch
    from transformers.utils import logging

    from moss_audio.checkpoints.memory import Place
    from moss_audio.model.modeling import MossAudioModel

    kind = getattr(torch, dtype)
    Place(device, kind).check(name, folder, seconds, options.max_new_tokens)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    placed = {} if device.type == "cpu" else {"device_map": {"": str(device)}}
    with _notes.status(f"Loading {name}") if _notes.is_terminal else nullcontext():
        return MossAudioModel.from_pretrained(folder, dtype=kind, **placed).eval()


def _resolve(name: str, resolve: Any) -> Path:
    """The checkpoint's folder, with a bar while it is being downloaded."""
    bars: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(_download_bar(name, total))
        bars[0].update(bars[0].task_ids[0], completed=done)

    try:
        return resolve(name, show)
    finally:
        for bar in bars:
            bar.stop()


def _download_bar(name: str, total: int) -> Any:
    from rich import progress

    columns = (progress.DownloadColumn(), progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    bar = progress.Progress(progress.TextColumn("{task.description}"), *columns, console=_notes)
    bar.add_task(f"Downloading {name}", total=total)
    bar.start()
    return bar


def _stream(model: Any, prompt: str, clip: _Clip, options: Options) -> Reply:
    """Show the answer as it comes, the thought dimmed on stderr; both are kept back where JSON is wanted."""
    from moss_audio.generation.generate import TextDelta, ThinkingDelta, stream

    reply: Reply | None = None
    thought = False
    for event in stream(model, prompt, [clip.audio], options):
        if isinstance(event, ThinkingDelta):
            if options.thinking is not False and not _Run.quiet:
                _notes.print(Text(_plain(event.text), style="dim"), end="", soft_wrap=True)
                thought = True
        elif isinstance(event, TextDelta):
            if thought:
                _notes.print("\n")
                thought = False
            if not _Run.quiet:
                sys.stdout.write(_plain(event.text))
                sys.stdout.flush()
        else:
            reply = event
    assert reply is not None
    if thought:
        _notes.print()
    if reply.text and not _Run.quiet:
        sys.stdout.write("\n")
    if reply.stopped == "length":
        note(f"The answer was cut off after {reply.new_tokens} tokens; --max-new-tokens gives it more.")
    return reply


def _document(model: str, task: tasks.Task, clip: _Clip, reply: Reply) -> dict[str, Any]:
    """Everything about an answer; times in it count from ``start``, which is a second of the file."""
    return {
        "file": str(clip.file),
        "model": model,
        "task": task.name,
        "prompt": task.prompt,
        "start": clip.start,
        "duration": round(clip.seconds, 3),
        "thinking": reply.thinking,
        "text": reply.text,
        **task.parse(reply.text, clip.seconds).to_json(),
        "stopped": reply.stopped,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "seconds": round(reply.seconds, 3),
    }


def note(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(_plain(" ".join(line.split())) + "\n")


def _plain(text: str) -> str:
    """Without control characters: what a model writes must not steer the terminal."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def _write_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def main() -> None:
    """Entry point: every error becomes one line on stderr and an exit code."""
    try:
        app(prog_name="python -m moss_audio")
    except MossAudioError as error:
        _fail(error, str(error))
    except BrokenPipeError as error:
        _fail(error, "The output was closed.")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        first = " ".join(str(error).split())[:300]
        _fail(error, f"It failed unexpectedly ({type(error).__name__}: {first}); --debug shows where.")


def _fail(error: BaseException, sentence: str) -> None:
    if _Run.debug:
        raise error
    note(f"moss_audio: {sentence}")
    raise SystemExit(1) from None
