"""One training run, from a data file to an adapter or a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from moss_audio.checkpoint import read_config, weight_files
from moss_audio.errors import MossAudioError
from moss_audio.finetune import memory
from moss_audio.finetune.adapters import add_adapter, lora_config
from moss_audio.finetune.collate import Collator
from moss_audio.finetune.conversations import read_conversations
from moss_audio.finetune.dataset import Examples, Order, Reading, prepare, total_time
from moss_audio.finetune.options import TrainOptions, begin, last_checkpoint
from moss_audio.finetune.progress import Finite, Reporter, Stop
from moss_audio.finetune.trainer import AnswerTrainer
from moss_audio.hub import resolve
from moss_audio.model import MossAudioModel
from moss_audio.processor import MossAudioProcessor


class Stopped(MossAudioError):
    """The run was stopped before its end; the message says how to go on."""


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
    dtype = memory.weight_dtype(options, device)
    reading = _reading(options, base)
    reporter = Reporter()
    examples = _examples(options.data, options, reading, reporter)
    held_out = _examples(options.eval_data, options, reading, reporter) if options.eval_data else None
    memory.check(memory.training_need(config, options, dtype), device, options.full)
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
        reporter.say(f"Left out {len(left)} that are too long; the first: {left[0]}")
    return examples


def _model(options: TrainOptions, base: Path, dtype: torch.dtype, reading: Reading) -> Any:
    model = MossAudioModel.from_pretrained(base, dtype=dtype)
    model.__dict__["_processor"] = reading.processor
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
        raise Stopped(_how_to_go_on(options)) from error
    except torch.OutOfMemoryError as error:
        raise MossAudioError(
            f"The device's memory did not suffice at step {trainer.state.global_step + 1}; use "
            "--gradient-checkpointing, a smaller --batch with more --accumulate, or a smaller --max-length."
        ) from error
    finally:
        reporter.close()
    if trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(_how_to_go_on(options))


def _how_to_go_on(options: TrainOptions) -> str:
    last = last_checkpoint(options.output)
    if last is None:
        return "Stopped before the first checkpoint; nothing is kept."
    return f"Stopped; the last checkpoint is {last}. Give the same command with --resume to go on."


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
