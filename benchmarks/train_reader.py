"""Teach the reader (``index/reading/reader.py``) which sentences settle, promise, or leave something open.

It learns from talks that were written for it, with what a careful secretary would note
(``benchmarks/talks.py``).

    python -m benchmarks.train_reader [--epochs 6] [--rank 32]

The layers of the packaged MiniLM are taught whole; what changed is written as factors of low rank. It takes
about a quarter of an hour on two cores that have bfloat16.
"""

from __future__ import annotations

import argparse
import hashlib
import random

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from benchmarks.talks import Talk, talks_of
from index.reading.reader import ACTS, STRETCH_TOKENS, WEIGHTS, Reader, tiles

LEARNING_RATE, HEAD_LEARNING_RATE = 1e-4, 1e-3
"""Twice as much makes all outputs the same."""
WARM_UP = 1 / 15
"""Share of all steps in which the learning rate rises; then it falls to nothing."""
AT_ONCE = 8
"""Stretches in a batch."""
BEGINS_WITHIN = 8
"""A talk is divided anew in each epoch, from one of its first sentences on."""
DROPPED = 0.1
"""Share of what the head sees that is left out while it learns."""

Example = tuple[list[list[int]], np.ndarray]
"""The tokens of a stretch's sentences, and what is right: float32 ``[n_sentences, 3]``."""


class Learner:
    """The network while it is taught."""

    def __init__(self) -> None:
        self.reader = Reader(is_taught=False)
        self.network = self.reader.network
        self.head = torch.nn.Linear(self.network.config.hidden_size, len(ACTS))
        self.network.embeddings.requires_grad_(False)
        self.own = list(self.network.encoder.parameters())
        self.before = {name: value.detach().clone() for name, value in self.network.named_parameters()}

    def example(self, talk: Talk) -> Example:
        """A whole talk, with what is right."""
        return self.reader.talk_tokens(talk.texts, talk.speakers), talk.acts

    def loss(self, stretches: list[Example]) -> torch.Tensor:
        """How wrong it is."""
        ids, mask, places = self.reader.rows([tokens for tokens, _ in stretches])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        told = [
            self.head(dropout(row[marks], DROPPED)) for row, marks in zip(states.float(), places, strict=True)
        ]
        right = torch.from_numpy(np.concatenate([acts for _, acts in stretches]))
        return binary_cross_entropy_with_logits(torch.cat(told), right)

    def changes(self, rank: int) -> dict[str, np.ndarray]:
        """What it learned, as ``index.reading.reader.learn`` takes it."""
        found = {f"head.{name}": value.detach().numpy() for name, value in self.head.named_parameters()}
        for name, value in self.network.named_parameters():
            change = value.detach() - self.before[name]
            if not change.any():
                continue
            if change.dim() == 2:
                left, sizes, right = torch.linalg.svd(change, full_matrices=False)
                root = sizes[:rank].sqrt()
                found[f"{name}.left"] = (left[:, :rank] * root).numpy().astype(np.float16)
                found[f"{name}.right"] = (root[:, None] * right[:rank]).numpy().astype(np.float16)
            else:
                found[name] = change.numpy().astype(np.float16)
        return found


def batches(talks: list[Example]) -> list[list[Example]]:
    """One epoch: all talks in stretches, in any order."""
    every: list[Example] = []
    for tokens, acts in talks:
        begin = random.randrange(BEGINS_WITHIN)
        parts = tiles([len(sentence) for sentence in tokens[begin:]], STRETCH_TOKENS)
        places = [(first + begin, last + begin) for first, last in parts]
        for first, last in [(0, begin), *places] if begin else places:
            every.append((tokens[first:last], acts[first:last]))
    random.shuffle(every)
    return [every[at : at + AT_ONCE] for at in range(0, len(every), AT_ONCE)]


def main() -> None:
    """Teach it, and write what it learned."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rank", type=int, default=32)
    chosen = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    learner = Learner()
    talks = [learner.example(talk) for talk in talks_of("train")]
    rates = [(learner.own, LEARNING_RATE), (list(learner.head.parameters()), HEAD_LEARNING_RATE)]
    optimizer = torch.optim.AdamW(
        [{"params": values, "lr": rate} for values, rate in rates], weight_decay=0.01
    )
    learner.network.train()
    for epoch in range(chosen.epochs):
        every = batches(talks)
        total = 0.0
        for at, batch in enumerate(every):
            done = (epoch + at / len(every)) / chosen.epochs
            for group, (_, rate) in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, done / WARM_UP) * (1.0 - done)
            loss = learner.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.own, 1.0)
            optimizer.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / len(every):.4f}", flush=True)
    np.savez(WEIGHTS, allow_pickle=False, **learner.changes(chosen.rank))
    print(f"{WEIGHTS.name}: SHA-256 {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
