"""What a training run is asked to do, and what a run that is resumed must not change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from moss_audio.errors import DataError, MossAudioError

LORA_LR = 2e-4
FULL_LR = 5e-5
"""Learning rates the published guide recommends."""

RECORD = "finetune.json"
"""The file in the output folder that says what the run was started with."""

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class TrainOptions:
    """One training run.

    Attributes:
        data: Conversations, JSONL.
        model: Base checkpoint, a folder or a name on the hub.
        output: Folder for checkpoints and the result.
        full: Train all weights instead of an adapter.
        lora_rank, lora_alpha, lora_dropout, lora_on_encoder: See ``lora_config``.
        epochs: Passes over the data.
        max_steps: Optimiser steps at most; 0 for as many as the epochs have.
        batch: Examples heard at a time.
        accumulate: Batches of one optimiser step.
        lr: Learning rate at its highest; None is 2e-4 for LoRA, 5e-5 for all weights. It falls linearly to 0.
        warmup: Steps in which it rises, or below 1 their share of all steps.
        weight_decay: AdamW's.
        clip: Norm to which gradients are clipped; 0 for not at all.
        max_length: Tokens of a sequence; a longer one is refused.
        skip_too_long: Leave longer ones out instead.
        time_markers: Write seconds between the audio tokens; None as at inference.
        prompt_default: Prompt of conversations that have none.
        group_by_length: Learn examples of like length together.
        gradient_checkpointing: Compute activations twice instead of keeping them; same gradients.
        encoder_dropout: Let the encoder drop activations out, as the published script does.
        precision: "auto" is bfloat16 arithmetic on a GPU and float32 on a CPU; with all weights trained on a
            GPU the weights themselves stay float32. "bfloat16" keeps them in bfloat16 as well.
        eval_data: Conversations whose loss is measured at every save.
        save_steps: Optimiser steps from one checkpoint to the next; 0 for the end of every epoch.
        keep: Checkpoints kept, the newest.
        resume: Continue from the output folder's last checkpoint.
        workers: Processes that decode audio ahead.
        seed: For order, adapters and dropout.
    """

    data: Path
    model: str
    output: Path
    full: bool = False
    lora_rank: int = 64
    lora_alpha: float = 2
    lora_dropout: float = 0.0
    lora_on_encoder: bool = False
    epochs: float = 1
    max_steps: int = 0
    batch: int = 1
    accumulate: int = 1
    lr: float | None = None
    warmup: float = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    max_length: int = 8192
    skip_too_long: bool = False
    time_markers: bool | None = None
    prompt_default: str = ""
    group_by_length: bool = True
    gradient_checkpointing: bool = False
    encoder_dropout: bool = False
    precision: Precision = "auto"
    eval_data: Path | None = None
    save_steps: int = 0
    keep: int = 2
    resume: bool = False
    workers: int = 0
    seed: int = 0

    @property
    def learning_rate(self) -> float:
        """As asked for, or the published guide's."""
        return self.lr if self.lr is not None else FULL_LR if self.full else LORA_LR


# What may differ when a run is resumed; everything else would make it another run.
_FREE = ("output", "resume", "keep", "workers", "save_steps", "eval_data", "data", "model")


def begin(options: TrainOptions, base: Path) -> Path | None:
    """Claim the output folder.

    Args:
        options: The run's.
        base: Folder of the base checkpoint.

    Returns:
        The checkpoint to resume from, if the run is resumed.

    Raises:
        MossAudioError: There is nothing to resume, it was another run, or one would be overwritten.
    """
    last = last_checkpoint(options.output)
    if not options.resume:
        if last is not None:
            raise MossAudioError(
                f"{options.output} already holds {last.name} of a run; give --resume to continue it, or "
                "another --output."
            )
        options.output.mkdir(parents=True, exist_ok=True)
        record = json.dumps(_record(options, base), indent=2)
        (options.output / RECORD).write_text(record + "\n", encoding="utf-8")
        return None
    if last is None:
        raise MossAudioError(
            f"{options.output} holds no checkpoint to resume from; start the run without --resume."
        )
    _check_same(options, base)
    return last


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run; one whose writing was cut short does not count."""
    found = []
    for file in folder.glob("checkpoint-*/trainer_state.json"):
        number = file.parent.name.removeprefix("checkpoint-")
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if number.isdigit():
            found.append((int(number), file.parent))
    return max(found)[1] if found else None


def _record(options: TrainOptions, base: Path) -> dict[str, Any]:
    chosen = {name: value for name, value in asdict(options).items() if name not in _FREE}
    chosen["lr"] = options.learning_rate
    try:
        digest = hashlib.sha256(options.data.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{options.data} cannot be read: {error.strerror or error}.") from error
    config = hashlib.sha256((base / "config.json").read_bytes()).hexdigest()
    return {**chosen, "data_sha256": digest, "model_config_sha256": config}


def _check_same(options: TrainOptions, base: Path) -> None:
    try:
        before = json.loads((options.output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    now = _record(options, base)
    differing = [
        f"{name} was {before[name]!r}" for name in now if name in before and before[name] != now[name]
    ]
    if differing:
        raise MossAudioError(
            f"The run in {options.output} was started with other options ({'; '.join(differing)}); resume it "
            "with the same options and data, or start another one with another --output."
        )
