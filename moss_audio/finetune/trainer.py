"""transformers' ``Trainer``, with our order of examples, our loss and our files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional as F
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.modeling_outputs import CausalLMOutputWithPast

from moss_audio.finetune.adapters import save_adapter
from moss_audio.finetune.dataset import Order
from moss_audio.finetune.sequences import IGNORED


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
        **options: Of ``Trainer``.
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
