"""Fine-tuning: LoRA or all weights, on conversations about recordings.

    python -m moss_audio.finetune DATA.jsonl --model NAME|FOLDER --output FOLDER

The parts can be used alone: ``sequence`` makes ids and labels of a conversation, ``Collator`` a batch of
them, ``lora_config`` says what an adapter adapts, ``train`` does everything, ``merge`` writes an ordinary
checkpoint. Names are imported when they are first used; torch and PEFT take seconds to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moss_audio.finetune.adapters import load_adapter, lora_config, merge
    from moss_audio.finetune.training import TrainOptions, train
    from moss_audio.finetune.training_data import (
        Collator,
        Conversation,
        Example,
        cut,
        read_conversations,
        sequence,
    )

_HOMES = {
    "Collator": "training_data",
    "Conversation": "training_data",
    "Example": "training_data",
    "TrainOptions": "training",
    "cut": "training_data",
    "load_adapter": "adapters",
    "lora_config": "adapters",
    "merge": "adapters",
    "read_conversations": "training_data",
    "sequence": "training_data",
    "train": "training",
}

__all__ = [
    "Collator",
    "Conversation",
    "Example",
    "TrainOptions",
    "cut",
    "load_adapter",
    "lora_config",
    "merge",
    "read_conversations",
    "sequence",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
