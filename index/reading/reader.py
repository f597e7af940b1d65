"""A small transformer that sees neighbouring sentences at once, and tells what each of them does.

It is the packaged MiniLM (6 layers, 384 dimensions), whose layers were taught to read talk: ``reader.npz``
holds what was learned as changes of low rank to its weights (as LoRA has them; Hu et al., 2021), beside
biases, norms and a linear head; ``benchmarks/train_reader.py`` makes it. A mark stands before every sentence,
and what the network makes of the mark tells of the sentence (as in BertSumExt; Liu and Lapata, 2019).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.importing import without_collections
from index.search.embeddings import packaged_folder
from index.torch_threads import torch_threads
from index.weights import check_sha256

if TYPE_CHECKING:
    import torch
    from transformers import BertModel, PreTrainedTokenizerBase

WEIGHTS = Path(__file__).with_name("reader.npz")
WEIGHTS_SHA256 = "b6d751c94e6ec14d5dc449dbe0125be11ffe38e23c2af634927b96543da838ed"

ACTS = ("decision", "action", "open")
"""What is told of each sentence: that it settles something, takes a task on, leaves a question open."""

TURN, SAME = "*", "-"
"""What stands before a sentence of another voice than the one before it, and of the same."""

SENTENCE_TOKENS = 40
"""Tokens of a sentence that are read."""

STRETCH_TOKENS = 144
"""Tokens of talk that are read at once."""

AT_ONCE = 8
"""Stretches in one pass."""


class Reader:
    """The network with its weights; safe to use from several threads.

    Args:
        is_taught: Whether it has learned to read talk; else it is the packaged network.

    Attributes:
        network: The transformer.

    Raises:
        WeightsError: Weights are missing, or not the ones that were measured.
    """

    def __init__(self, is_taught: bool = True) -> None:
        import torch

        if is_taught:
            check_sha256(WEIGHTS, WEIGHTS_SHA256)
        with without_collections():
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        torch_threads()
        folder = packaged_folder()
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.network: BertModel = AutoModel.from_pretrained(folder).eval()
        self._marks = {mark: self._ids(mark) for mark in (TURN, SAME)}
        self._lock = threading.Lock()
        self._has_bfloat16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        if is_taught:
            with np.load(WEIGHTS, allow_pickle=False) as stored:
                weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
            self._head = weights.pop("head.weight"), weights.pop("head.bias")
            learn(self.network, weights)

    def acts(
        self, sentences: Sequence[str], speakers: Sequence[str | None], twice: bool = True
    ) -> np.ndarray:
        """Log-odds that each sentence settles something, takes on a task, leaves something open.

        Args:
            sentences: A whole talk, in order.
            speakers: Who says each.
            twice: Whether every sentence is read in two divisions of the talk, and told by where more stands
                around it; it takes twice as long.

        Returns:
            float32 ``[n_sentences, 3]``, in the order of ``ACTS``.
        """
        tokens = self.talk_tokens(sentences, speakers)
        lengths = [len(sentence) for sentence in tokens]
        found = np.zeros((len(tokens), 3), dtype=np.float32)
        inside = np.full(len(tokens), -1)
        stretches = tiles(lengths, STRETCH_TOKENS)
        if twice:
            stretches = halves_over(stretches, lengths, STRETCH_TOKENS)
        for (first, last), read in zip(stretches, self._read(tokens, stretches), strict=True):
            for at in range(first, last):
                # Nothing is missing before the first sentence of a talk, nor behind its last.
                before = at - first if first else len(tokens)
                behind = last - 1 - at if last < len(tokens) else len(tokens)
                if min(before, behind) > inside[at]:
                    inside[at] = min(before, behind)
                    found[at] = read[at - first]
        return found

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def talk_tokens(self, sentences: Sequence[str], speakers: Sequence[str | None]) -> list[list[int]]:
        """What is read of each sentence, with the mark before it."""
        texts = self._tokenizer(list(sentences), add_special_tokens=False)["input_ids"] if sentences else []
        tokens = []
        for at, ids in enumerate(texts):
            goes_on = at > 0 and speakers[at] == speakers[at - 1]
            mark = self._marks[SAME if goes_on else TURN]
            tokens.append([self._tokenizer.sep_token_id, *mark, *ids[:SENTENCE_TOKENS]])
        return tokens

    def rows(
        self, stretches: Sequence[Sequence[Sequence[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
        """Stretches as the network takes them.

        Args:
            stretches: The tokens of the sentences of each.

        Returns:
            Tokens and which of them count, int64 ``[n_stretches, n_tokens]``, and where the marks of the
            sentences stand in each row.
        """
        import torch

        rows, places = [], []
        for stretch in stretches:
            row, marks = [self._tokenizer.cls_token_id], []
            for sentence in stretch:
                marks.append(len(row))
                row += sentence
            rows.append(row)
            places.append(marks)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return ids, mask, places

    def _read(
        self, tokens: Sequence[Sequence[int]], stretches: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        """What is told of the sentences of each stretch: float32 ``[n_sentences, 3]`` each."""
        import torch

        found = []
        for begin in range(0, len(stretches), AT_ONCE):
            ids, mask, places = self.rows(
                [tokens[first:last] for first, last in stretches[begin : begin + AT_ONCE]]
            )
            # Where the processor has instructions for it, bfloat16 is more than twice as fast, and moves
            # log-odds by less than 0.1.
            halved = torch.autocast("cpu", torch.bfloat16, enabled=self._has_bfloat16)
            with self._lock, torch.no_grad(), halved:
                states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            for row, marks in zip(states.float(), places, strict=True):
                found.append(torch.nn.functional.linear(row[marks], *self._head).numpy())
        return found


def learn(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Change a network's weights by what was learned.

    Args:
        network: Its parameters change.
        weights: By the names of parameters: what is added to it; or, with ``.left`` ``[rows, rank]`` and
            ``.right`` ``[rank, columns]`` behind the name, the two factors of that.
    """
    parameters = dict(network.named_parameters())
    for name, value in weights.items():
        own, _, part = name.rpartition(".")
        if part == "left":
            parameters[own].data += value @ weights[f"{own}.right"]
        elif part != "right":
            parameters[name].data += value


_loading = threading.Lock()


def shared_reader() -> Reader:
    """The reader of this process, loaded once.

    Raises:
        WeightsError: As ``Reader``.
    """
    with _loading:
        return _reader()


@cache
def _reader() -> Reader:
    return Reader()


def tiles(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """A talk in stretches of so many tokens at most, one behind the other: each ``[first, last)``.

    Args:
        lengths: Tokens of each sentence; one that is too long makes a stretch of its own.
        most: Tokens of a stretch.
    """
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(lengths):
        last, total = first + 1, lengths[first]
        while last < len(lengths) and total + lengths[last] < most:
            total += lengths[last]
            last += 1
        found.append((first, last))
        first = last
    return found


def halves_over(
    stretches: Sequence[tuple[int, int]], lengths: Sequence[int], most: int
) -> list[tuple[int, int]]:
    """The stretches, and of each the one that begins in its middle."""
    shifted = []
    for first, last in stretches:
        middle = (first + last) // 2
        length = tiles(lengths[middle:], most)[0][1]
        shifted.append((middle, middle + length))
    return [*stretches, *shifted]
