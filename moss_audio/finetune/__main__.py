"""``python -m moss_audio.finetune``: train, merge, check. Progress on stderr, the result on stdout.

Exit code 0: done. 1: it failed, with one line on stderr. 2: wrong usage. 130: stopped, to be resumed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from moss_audio.errors import MossAudioError

app = typer.Typer(
    name="python -m moss_audio.finetune",
    help="Fine-tune MOSS-Audio. `DATA.jsonl …` without a command means `train DATA.jsonl …`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = ("train", "merge", "check")

Data = Annotated[Path, typer.Argument(metavar="DATA.jsonl", help="Conversations, one a line.")]
Model = Annotated[str, typer.Option(metavar="NAME|FOLDER", help="The model: on the hub, or a folder.")]
MaxLength = Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Longest sequence; longer is refused.")]
Markers = Annotated[
    bool | None,
    typer.Option(
        "--time-markers/--no-time-markers",
        help="Write the seconds between the audio tokens; by default as at inference.",
        show_default=False,
    ),
]
Prompt = Annotated[str, typer.Option(metavar="TEXT", help="Prompt of conversations without one.")]


@app.command()
def train(
    data: Data,
    model: Model,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where checkpoints and the result go.")],
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of an adapter.")] = False,
    lora_rank: Annotated[int, typer.Option(min=1)] = 64,
    lora_alpha: Annotated[float, typer.Option(help="Additions are scaled by alpha / rank.")] = 2,
    lora_dropout: Annotated[float, typer.Option(min=0, max=0.99)] = 0.0,
    lora_on_encoder: Annotated[
        bool, typer.Option("--lora-on-encoder", help="Adapt the encoder's q, k and v too.")
    ] = False,
    epochs: Annotated[float, typer.Option(min=0.001, help="Passes over the data.")] = 1.0,
    max_steps: Annotated[
        int, typer.Option(min=0, help="Optimiser steps at most; 0: as many as the epochs have.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Examples at a time.")] = 1,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches of one optimiser step.")] = 1,
    lr: Annotated[float | None, typer.Option(help="By default 2e-4, with --full 5e-5.")] = None,
    warmup: Annotated[float, typer.Option(min=0, help="Steps, or below 1 their share.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.0,
    clip: Annotated[float, typer.Option(min=0, help="Norm to clip gradients to; 0: not at all.")] = 1.0,
    max_length: MaxLength = 8192,
    skip_too_long: Annotated[bool, typer.Option("--skip-too-long", help="Leave longer ones out.")] = False,
    time_markers: Markers = None,
    prompt_default: Prompt = "",
    group_by_length: Annotated[bool, typer.Option(help="Learn examples of like length together.")] = True,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time, same gradients.")
    ] = False,
    encoder_dropout: Annotated[
        bool, typer.Option("--encoder-dropout", help="Dropout in the encoder, as published.")
    ] = False,
    precision: Annotated[str, typer.Option(help="auto, bfloat16 or float32.")] = "auto",
    eval_data: Annotated[
        Path | None, typer.Option("--eval", metavar="DATA.jsonl", help="Its loss is measured at every save.")
    ] = None,
    save_steps: Annotated[int, typer.Option(min=0, help="Steps between checkpoints; 0: every epoch.")] = 0,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints kept.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode audio ahead.")] = 0,
    seed: int = 0,
) -> None:
    """Fine-tune on DATA.jsonl: an adapter (LoRA), or all weights."""
    chosen = dict(locals())
    if precision not in ("auto", "bfloat16", "float32"):
        raise typer.BadParameter("give auto, bfloat16 or float32", param_hint="--precision")
    from moss_audio.finetune.training import TrainOptions, describe
    from moss_audio.finetune.training import train as run

    options = TrainOptions(**chosen)
    run(options)
    typer.echo(describe(options))


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of an adapter.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="New folder for the model.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER", help="The base, if it is not where it was."),
    ] = None,
) -> None:
    """Make an ordinary checkpoint of an adapter and its base."""
    from moss_audio.finetune.adapters import merge as run

    folder = run(adapter, output, model)
    typer.echo(f"The model is in {folder}. Use it: python -m moss_audio FILE --model {folder}")


@app.command()
def check(
    data: Data,
    model: Model,
    max_length: MaxLength = 8192,
    time_markers: Markers = None,
    prompt_default: Prompt = "",
    decode: Annotated[bool, typer.Option("--decode", help="Decode every recording, to find damage.")] = False,
) -> None:
    """Say what is in DATA.jsonl: examples, hours, tokens, and every line that cannot be used."""
    from moss_audio.finetune.training_data import check as run

    report = run(data, model, (max_length, time_markers, prompt_default), decode)
    typer.echo(report.text)
    if report.problems:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] not in (*COMMANDS, "--help"):
        given = ["train", *given]
    # The hub's counters have no business in somebody's training.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app(given)
    except MossAudioError as error:
        # By name: importing the class would load torch before the options are read.
        stopped = type(error).__name__ == "Stopped"
        typer.echo(str(error) if stopped else f"Error: {error}", err=True)
        return 130 if stopped else 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
