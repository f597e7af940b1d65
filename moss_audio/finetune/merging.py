"""An adapter and its base, made into an ordinary checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from moss_audio.errors import CheckpointError
from moss_audio.finetune.adapters import load_adapter
from moss_audio.model import MossAudioModel


def merge(adapter: str | Path, output: str | Path, model: str | Path | None = None) -> Path:
    """Write a checkpoint that computes what base and adapter compute together.

    The weights keep the base's precision. The sum is made in float32 and rounded once; with a bfloat16 base
    this rounding is the one difference from adapter and base apart.

    Args:
        adapter: Folder of an adapter.
        output: Folder to write, new or empty.
        model: The base, if not the one the adapter names.

    Returns:
        ``output``.

    Raises:
        CheckpointError: There is no such adapter, or base, or they do not fit, or the folder is in use.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CheckpointError(f"{output} is not empty; name a new folder for the merged model.")
    adapted = load_adapter(adapter, model, dtype="auto")
    merged = merge_in_place(adapted)
    merged.save_pretrained(output)
    return output


@torch.no_grad()
def merge_in_place(adapted: PeftModel) -> MossAudioModel:
    """The base with the adapter's additions in its weights; ``adapted`` cannot be used afterwards."""
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            for name in module.active_adapters:
                if name in module.lora_A:
                    added = module.get_delta_weight(name)
                    weight.copy_(weight.float() + added.float())
    return adapted.unload()
