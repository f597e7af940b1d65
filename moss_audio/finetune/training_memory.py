"""How much memory training needs, computed from sizes alone: nothing here is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from moss_audio.checkpoints.memory import GB, available
from moss_audio.errors import NotEnoughMemory
from moss_audio.finetune.adapters import AUDIO_ENCODER, LANGUAGE_MODEL
from moss_audio.finetune.training_options import TrainOptions
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.modeling import MossAudioModel

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


def check(need: TrainingNeed, device: torch.device, full: bool) -> None:
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
