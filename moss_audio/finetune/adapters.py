"""LoRA adapters (https://arxiv.org/abs/2106.09685): what is adapted; saving, loading and merging them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer

from moss_audio.errors import CheckpointError
from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import MossAudioProcessor

LANGUAGE_MODEL = (
    r"language_model\.layers\.\d+\.(self_attn|mlp)\."
    r"(q_proj|k_proj|v_proj|o_proj|up_proj|gate_proj|down_proj)"
)
"""Seven linear layers in each decoder layer, matched against a module's whole name."""

AUDIO_ENCODER = r"audio_encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj)"
"""Three linear layers in each encoder layer."""

CONFIG_FILE = "adapter_config.json"


def lora_config(
    rank: int = 64, alpha: float = 2, dropout: float = 0.0, on_encoder: bool = False
) -> LoraConfig:
    """What is adapted, with the published script's defaults. Adapter and DeepStack projections stay frozen.

    Args:
        rank: Inner width of an adapted layer's addition.
        alpha: The addition is scaled by ``alpha / rank``.
        dropout: Share of the addition's input that is dropped while training.
        on_encoder: Whether the encoder's queries, keys and values are adapted as well.
    """
    targets = f"({LANGUAGE_MODEL}|{AUDIO_ENCODER})" if on_encoder else LANGUAGE_MODEL
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )


def add_adapter(model: MossAudioModel, config: LoraConfig, name: str) -> PeftModel:
    """The model with a fresh adapter, which alone is trained.

    Args:
        model: Changed in place.
        config: See ``lora_config``.
        name: The base checkpoint as the adapter shall remember it.
    """
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = name
    return adapted


def save_adapter(adapted: PeftModel, folder: str | Path) -> None:
    """Write an adapter alone: its weights and its configuration."""
    card = Path(folder) / "README.md"
    kept = card.exists()
    # To find out about embeddings, PEFT would ask the hub for the base; no embedding is adapted here.
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    if not kept:
        card.unlink(missing_ok=True)  # a form to be filled in, and nobody would


def base_of(adapter: str | Path) -> str:
    """The base checkpoint an adapter was trained on: a name on the hub or a folder.

    Raises:
        CheckpointError: The folder holds no adapter.
    """
    file = Path(adapter) / CONFIG_FILE
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{adapter} holds no adapter ({CONFIG_FILE}).") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error!r}") from error
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{file} does not name the model it belongs to; name it.")
    return name


def load_adapter(
    adapter: str | Path,
    model: str | Path | MossAudioModel | None = None,
    dtype: torch.dtype | str = torch.bfloat16,
    **options: Any,
) -> PeftModel:
    """Base and adapter for use; ``generate`` and ``processor`` work as on the base.

    Args:
        adapter: Folder of an adapter.
        model: The base, loaded or to be loaded; by default the one the adapter names. A loaded one is changed
            in place.
        dtype: Precision of the base's weights; "auto" is the checkpoint's own.
        **options: For ``MossAudio.from_pretrained`` (``device_map``, …).

    Raises:
        CheckpointError: There is no such adapter, or no such base, or they do not fit.
    """
    named = base_of(adapter)
    base: Any = model
    if not isinstance(model, MossAudioModel):
        base = MossAudioModel.from_pretrained(model or named, dtype=dtype, **options)
    try:
        adapted = PeftModel.from_pretrained(base, str(adapter))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"The adapter in {adapter} does not fit {named}: {error}") from error
    if (Path(adapter) / "processor_config.json").is_file():
        # It says whether time markers were trained on.
        base.processor = MossAudioProcessor.from_pretrained(adapter)
    return adapted.eval()


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
