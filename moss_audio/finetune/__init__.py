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
    from moss_audio.finetune.adapters import load_adapter, lora_config
    from moss_audio.finetune.collate import Collator
    from moss_audio.finetune.conversations import Conversation, read_conversations
    from moss_audio.finetune.merging import merge
    from moss_audio.finetune.options import TrainOptions
    from moss_audio.finetune.sequences import Example, cut, sequence
    from moss_audio.finetune.training import train

_HOMES = {
    "Collator": "collate",
    "Conversation": "conversations",
    "Example": "sequences",
    "TrainOptions": "options",
    "cut": "sequences",
    "load_adapter": "adapters",
    "lora_config": "adapters",
    "merge": "merging",
    "read_conversations": "conversations",
    "sequence": "sequences",
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
