"""One training run, from a data file to an adapter or a checkpoint.

transformers' ``Trainer`` with our order of examples, our loss and our files; what a person sees of it on
stderr, and what happens when they stop it.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

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
from moss_audio.errors import MossAudioError
from moss_audio.finetune.adapters import add_adapter, lora_config, save_adapter
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
from moss_audio.finetune.training_memory import check, training_need, weight_dtype
from moss_audio.finetune.training_options import TrainOptions, begin, last_checkpoint
from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import MossAudioProcessor


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
    check(training_need(config, options, dtype), device, options.full)
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
