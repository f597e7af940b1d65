"""Several examples as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from moss_audio.finetune.sequences import IGNORED, Example
from moss_audio.processor import MossAudioProcessor


class Collator:
    """Fills shorter examples on the right, where the causal mask keeps them from everything before.

    Args:
        processor: Knows the padding id.
        pad_to: Length at least; the published script pads everything to its maximum.
    """

    def __init__(self, processor: MossAudioProcessor, pad_to: int = 0) -> None:
        self.padding = processor.tokens.endoftext
        self.pad_to = pad_to

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Input of the model.

        Returns:
            ``input_ids``, ``labels``, ``attention_mask`` (int64) and ``audio_input_mask`` (bool), each
            ``[B, L]``; ``audio_data`` bfloat16 ``[B, 128, most_frames]`` and ``audio_data_seqlens`` int64
            ``[B]``.
        """
        shape = len(examples), max(self.pad_to, *(len(one) for one in examples))
        frames = [one.audio_data_seqlens for one in examples]
        first = examples[0].audio_data
        batch = {
            "input_ids": torch.full(shape, self.padding, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED, dtype=torch.int64),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "audio_input_mask": torch.zeros(shape, dtype=torch.bool),
            "audio_data": first.new_zeros(len(examples), first.shape[0], max(frames)),
            "audio_data_seqlens": torch.tensor(frames),
        }
        for row, one in enumerate(examples):
            for name in ("input_ids", "labels", "attention_mask", "audio_input_mask"):
                batch[name][row, : len(one)] = getattr(one, name)
            batch["audio_data"][row, :, : frames[row]] = one.audio_data
        return batch
