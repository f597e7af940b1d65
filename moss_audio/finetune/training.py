"""One training run, from a data file to an adapter or a checkpoint.

``TrainOptions`` says what it is asked to do and what a run that is resumed must not change, ``training_need``
how much memory it takes, computed from sizes alone. ``train`` is transformers' ``Trainer`` with our order of
examples, our loss and our files, what a person sees of it on stderr, and what happens when they stop it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import torch
from peft import PeftModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from torch.nn import functional as F
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.trainer_callback import PrinterCallback

from moss_audio.checkpoints.files import read_config, weight_files
from moss_audio.checkpoints.hub import resolve
from moss_audio.checkpoints.memory import GB, available
from moss_audio.errors import DataError, MossAudioError, NotEnoughMemory
from moss_audio.finetune.adapters import AUDIO_ENCODER, LANGUAGE_MODEL, add_adapter, lora_config, save_adapter
from moss_audio.finetune.training_data import (
    IGNORED,
    Collator,
    Examples,
    Order,
    Reading,
    prepare,
    read_conversations,
    total_time,
)
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import MossAudioProcessor

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


ADAM_BYTES = 2 * 4
"""Two averages of each trained weight, float32."""


@dataclass(frozen=True)
class TrainingNeed:
    """Bytes of one run on one device, without activations.

    Attributes:
        weights: The whole model's, in the precision they are kept in.
        trained: Adapters if there are any, gradients, and AdamW's averages.
        weights_in_all, weights_trained: How many numbers these are.
    """

    weights: int
    trained: int
    weights_in_all: int
    weights_trained: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.trained


def weight_dtype(options: TrainOptions, device: torch.device) -> torch.dtype:
    """Precision in which the base's weights are kept while training."""
    if options.precision != "auto":
        return torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    # In bfloat16 a step smaller than 1/256 of a weight is lost: weights that are trained stay float32.
    return torch.bfloat16 if device.type == "cuda" and not options.full else torch.float32


def training_need(config: MossAudioConfig, options: TrainOptions, dtype: torch.dtype) -> TrainingNeed:
    """What training a model of these sizes takes.

    Args:
        config: Sizes of the model.
        options: What is trained.
        dtype: The base's weights, see ``weight_dtype``.
    """
    with torch.device("meta"):
        model = MossAudioModel(config)
    numbers = model.num_parameters()
    if options.full:
        # The gradient has the weight's precision, and so have AdamW's averages.
        return TrainingNeed(numbers * dtype.itemsize, numbers * 3 * dtype.itemsize, numbers, numbers)
    added = adapter_numbers(model, options.lora_rank, options.lora_on_encoder)
    return TrainingNeed(numbers * dtype.itemsize, added * (4 + 4 + ADAM_BYTES), numbers, added)


def adapter_numbers(model: MossAudioModel, rank: int, on_encoder: bool) -> int:
    """Weights of an adapter: ``rank * (inputs + outputs)`` for each adapted layer."""
    patterns = [LANGUAGE_MODEL, AUDIO_ENCODER] if on_encoder else [LANGUAGE_MODEL]
    return sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(re.fullmatch(pattern, name) for pattern in patterns)
    )


def check_memory(need: TrainingNeed, device: torch.device, full: bool) -> None:
    """Refuse what cannot fit even without activations.

    Raises:
        NotEnoughMemory: Says how much is needed and what is there.
    """
    there = available(device)
    if need.total <= there:
        return
    less = "train an adapter instead of --full" if full else "choose a smaller model or a larger device"
    raise NotEnoughMemory(
        f"This training needs at least {need.total / GB:.1f} GB of memory ({need.weights / GB:.1f} GB of "
        f"weights, {need.trained / GB:.1f} GB for what is trained, not counting activations), and "
        f"{there / GB:.1f} GB are free; {less}."
    )


class Reporter(TrainerCallback):
    """A bar with the loss where stderr is a terminal, else a line for every step."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the bar."""
        if not self.console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, loss {task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console)
        self.bar.add_task("Training", total=state.max_steps, completed=state.global_step, loss="…")
        self.bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show a step's loss, or the evaluation's."""
        logs = logs or {}
        if "loss" in logs:
            if self.bar is not None:
                self.bar.update(self.bar.task_ids[0], loss=f"{logs['loss']:.4f}")
            else:
                self.say(
                    f"step {state.global_step} of {state.max_steps}: loss {logs['loss']:.4f}, gradient norm "
                    f"{logs.get('grad_norm', float('nan')):.3g}, learning rate {logs['learning_rate']:.2e}"
                )
        if "eval_loss" in logs:
            self.say(f"step {state.global_step}: loss on the evaluation data {logs['eval_loss']:.4f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, however the run ended."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def say(self, text: str) -> None:
        """One line on stderr."""
        self.console.print(text, markup=False)


class Finite(TrainerCallback):
    """Ends a run whose loss or gradient is no longer finite; nothing after it could be used."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at a step's loss and gradient.

        Raises:
            MossAudioError: One of them is not finite.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise MossAudioError(
                    f"At step {state.global_step} the {'loss' if name == 'loss' else 'gradient'} is no "
                    "longer a finite number; start again with a smaller --lr or with some --warmup."
                )


class Stop(TrainerCallback):
    """Ctrl-C, or a scheduler's SIGTERM, ends the run after the step at hand, with a checkpoint.

    A second one ends it at once. Use as a context manager around training.
    """

    def __init__(self) -> None:
        self.asked = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not the main thread: whoever owns it decides
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a process that decodes audio; it ends with this one
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Writing through rich could wait for a lock that the interrupted code holds.
        sys.stderr.write(
            "\nStopping after this step with a checkpoint; press Ctrl+C again to stop at once.\n"
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the trainer to save and stop."""
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        return control


def learned_columns(labels: torch.Tensor) -> torch.Tensor:
    """Positions int64 ``[n]`` whose next token is learned in some row of ``labels`` ``[B, L]``."""
    return (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0]


def answer_loss(
    outputs: CausalLMOutputWithPast,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross entropy of the learned tokens, in float32.

    Args:
        outputs: Logits ``[B, n, vocab]`` at ``learned_columns(labels)``.
        labels: int64 ``[B, L]``.
        num_items_in_batch: Learned tokens of all batches of one optimiser step, by which the sum is divided,
            so that accumulated batches weigh as one large batch does. None: those of this batch.
    """
    targets = labels[:, learned_columns(labels) + 1].flatten()
    logits = outputs.logits.float().flatten(0, 1)
    total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / ((targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class AnswerTrainer(Trainer):
    """Learns answers.

    Logits are computed only where an answer is: over a whole sequence of 8192 tokens and 151,936 ids they
    alone would take 5 GB in float32, and as much again for their gradient.

    Args:
        order: In which examples are learned.
        **options: ``Trainer``'s.
    """

    def __init__(self, order: Order, **options: Any) -> None:
        super().__init__(compute_loss_func=answer_loss, **options)
        self.order = order

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return self.order

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Loss of one batch."""
        keep = learned_columns(inputs["labels"])
        return super().compute_loss(model, {**inputs, "logits_to_keep": keep}, *args, **kwargs)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss a learned token over the evaluation data; every token weighs the same, in whatever batch."""
        model = self.model.eval()
        total = torch.zeros((), dtype=torch.float64)
        count = 0
        for batch in self.get_eval_dataloader(eval_dataset):
            inputs = self._prepare_inputs(batch)
            items = int((inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.no_grad(), self.compute_loss_context_manager():
                total += float(self.compute_loss(model, inputs)) * items
            count += items
        metrics = {f"{metric_key_prefix}_loss": float(total) / count}
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """An adapter alone, or a checkpoint like the released ones; nothing that is a pickle."""
        folder = Path(output_dir or self.args.output_dir)
        if isinstance(self.model, PeftModel):
            save_adapter(self.model, folder)
        else:
            self.model.save_pretrained(folder, state_dict=state_dict)


class Stopped(MossAudioError):
    """The run was stopped before its end; the message says how to resume it."""


def train(options: TrainOptions) -> Path:
    """Fine-tune.

    Args:
        options: What, from what, and how.

    Returns:
        ``options.output``: a folder with an adapter or, if all weights were trained, an ordinary checkpoint.

    Raises:
        DataError: The data cannot be used; names file and line.
        CheckpointError: The base model cannot be loaded.
        NotEnoughMemory: Weights and optimiser do not fit.
        Stopped: It was interrupted.
        MossAudioError: The output folder belongs to another run.
    """
    base = resolve(options.model)
    config = read_config(base)
    device = _device()
    dtype = weight_dtype(options, device)
    reading = _reading(options, base)
    reporter = Reporter()
    examples = _examples(options.data, options, reading, reporter)
    held_out = _examples(options.eval_data, options, reading, reporter) if options.eval_data else None
    check_memory(training_need(config, options, dtype), device, options.full)
    resume = begin(options, base)
    set_seed(options.seed)  # before adapters get their first weights
    model = _model(options, base, dtype, reading)
    step = options.batch * options.accumulate
    trainer = AnswerTrainer(
        order=Order(examples.lengths, step, options.seed, options.group_by_length),
        model=model,
        args=_arguments(options, device),
        data_collator=Collator(reading.processor),
        train_dataset=examples,
        eval_dataset=held_out,
        callbacks=[reporter, Finite()],
    )
    trainer.remove_callback(PrinterCallback)
    _run(trainer, options, resume, reporter)
    return _finish(trainer, options, base, reading)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _reading(options: TrainOptions, base: Path) -> Reading:
    processor = MossAudioProcessor.from_pretrained(base)
    if options.time_markers is not None:
        # It is saved beside the result, so that inference does as training did.
        processor.time_markers = options.time_markers
    return Reading(processor, processor.time_markers, options.max_length)


def _examples(path: Path, options: TrainOptions, reading: Reading, reporter: Reporter) -> Examples:
    conversations = read_conversations(path, options.prompt_default)
    examples, left = prepare(conversations, reading, options.skip_too_long)
    audio = total_time(examples.measures)
    reporter.say(f"{path}: {len(examples)} examples, {audio} of audio, {sum(examples.lengths):,} tokens.")
    if left:
        reporter.say(f"Left out {len(left)} examples that are too long; the first: {left[0]}")
    return examples


def _model(options: TrainOptions, base: Path, dtype: torch.dtype, reading: Reading) -> Any:
    model = MossAudioModel.from_pretrained(base, dtype=dtype)
    model.processor = reading.processor
    model.audio_encoder.use_dropout = options.encoder_dropout
    if options.full:
        return model
    config = lora_config(options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_on_encoder)
    folder = Path(options.model).expanduser()
    return add_adapter(model, config, str(folder.resolve()) if folder.is_dir() else options.model)


def _arguments(options: TrainOptions, device: torch.device) -> TrainingArguments:
    saving = "steps" if options.save_steps else "epoch"
    arguments = TrainingArguments(
        output_dir=str(options.output),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        activation_checkpointing=options.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        bf16=device.type == "cuda" and options.precision != "float32",
        use_cpu=device.type == "cpu",
        save_strategy=saving,
        save_steps=options.save_steps or 500,
        save_total_limit=options.keep,
        eval_strategy=saving if options.eval_data else "no",
        eval_steps=options.save_steps or None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_num_workers=options.workers,
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
    )
    # Several GPUs in one process would tear the clips of a batch from their prompts; torchrun does not.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _run(trainer: AnswerTrainer, options: TrainOptions, resume: Path | None, reporter: Reporter) -> None:
    try:
        with Stop() as stop:
            trainer.add_callback(stop)
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except KeyboardInterrupt as error:
        raise Stopped(_how_to_resume(options)) from error
    except torch.OutOfMemoryError as error:
        raise MossAudioError(
            f"The device ran out of memory at step {trainer.state.global_step + 1}; use "
            "--gradient-checkpointing, a smaller --batch with more --accumulate, or a smaller --max-length."
        ) from error
    finally:
        reporter.close()
    if trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(_how_to_resume(options))


def _how_to_resume(options: TrainOptions) -> str:
    last = last_checkpoint(options.output)
    if last is None:
        return "Stopped before the first checkpoint; nothing was kept."
    return f"Stopped; the last checkpoint is {last}. Run the same command with --resume to continue."


def _finish(trainer: AnswerTrainer, options: TrainOptions, base: Path, reading: Reading) -> Path:
    model = trainer.model
    if options.full:
        # As precise as the base was: masters in float32 would double the checkpoint.
        model.to(stored_dtype(base))
        model.config.dtype = stored_dtype(base)
    trainer.save_model(str(options.output))
    trainer.save_state()
    reading.processor.save_pretrained(options.output)
    return options.output


def stored_dtype(folder: Path) -> torch.dtype:
    """Precision a checkpoint's weights are stored in."""
    with safe_open(weight_files(folder)[0], framework="pt") as file:
        return file.get_tensor(min(file.keys(), key=lambda name: file.get_slice(name).get_shape())).dtype


def describe(options: TrainOptions) -> str:
    """Where the result is and how it is used, in one line."""
    if options.full:
        return f"The model is in {options.output}. Use it: python -m moss_audio FILE --model {options.output}"
    merged = replace(options, output=Path(f"{options.output}-merged")).output
    return (
        f"The adapter is in {options.output}. Make a model of it: "
        f"python -m moss_audio.finetune merge {options.output} {merged}"
    )
