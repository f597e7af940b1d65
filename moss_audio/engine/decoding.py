"""One decoding step of all running sequences: launched here, looked at by the engine later.

``Eager`` runs the layers one by one. ``Graphs`` replays CUDA graphs, one for each batch size of a ladder:
token ids, positions and page tables stay on the GPU, each replay writes the next ids where the following
one reads them, and the host looks at a step's tokens while the next step is running already.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol

import torch

from moss_audio.engine.cache import KVCache
from moss_audio.engine.kernel import Table, ends_of, paged
from moss_audio.engine.passes import pack, run, through_layers
from moss_audio.engine.sampling import choose
from moss_audio.engine.sequence import Sequence
from moss_audio.model import MossAudioModel

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""For which graphs are captured; a batch runs in the next larger one."""


class Chosen:
    """What a step chose, on its way to the host.

    On a GPU the copy is queued right behind the step, so that reading it waits for this step alone and not
    for what was launched since.

    Args:
        tokens: int64 ``[N]`` on the device.
    """

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens
        self._host = tokens
        self._copied: torch.cuda.Event | None = None
        if tokens.is_cuda:
            self._host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._host.copy_(tokens, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> list[int]:
        """The tokens, once they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()


class Steps(Protocol):
    """Launches decoding steps."""

    looks_late: bool
    """Whether the host may look at a step's tokens after the next one was launched."""

    def launch(self, sequences: Items[Sequence], before: Chosen | None) -> Chosen:
        """The next token of each sequence.

        Args:
            sequences: All in decoding.
            before: What the step before chose for exactly these, if the host has not seen it yet.
        """
        ...


class Eager:
    """Layer by layer.

    Args:
        model: Whose decoder.
        cache: Of all sequences.
    """

    looks_late = False

    def __init__(self, model: MossAudioModel, cache: KVCache) -> None:
        self.model = model
        self.cache = cache

    def launch(self, sequences: Items[Sequence], before: Chosen | None) -> Chosen:
        """See ``Steps``."""
        device = self.model.device
        spans = [(one.computed, 1, one.pages) for one in sequences]
        packed = pack(spans, self.cache.shape.page_size, device)
        last = torch.tensor([one.ids[-1] for one in sequences], device=device)
        tokens = last if before is None else before.tokens
        with torch.inference_mode():
            hidden = self.model.get_input_embeddings()(tokens)
        logits = run(self.model, hidden, packed, self.cache)
        return Chosen(choose(logits, [one.sampling for one in sequences]))


class Graphs:
    """CUDA graphs; not run so far on a machine of this project's own.

    Args:
        model: On a GPU, in half precision.
        cache: Its last page is this class's own: rows that fill a batch up write there.
        max_batch: Sequences at most.
        max_pages: Pages of a sequence at most.
    """

    looks_late = True

    def __init__(self, model: MossAudioModel, cache: KVCache, max_batch: int, max_pages: int) -> None:
        self.model = model
        self.cache = cache
        self.sizes = [size for size in BATCH_SIZES if size < max_batch] + [max_batch]
        device = model.device
        self._ids = torch.zeros(max_batch, dtype=torch.int64, device=device)
        self._positions = torch.zeros(max_batch, dtype=torch.int64, device=device)
        self._spare = cache.shape.n_pages - 1
        self._table = torch.full((max_batch, max_pages), self._spare, dtype=torch.int32, device=device)
        self._logits: dict[int, torch.Tensor] = {}
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._in_place: list[int] = []

    def launch(self, sequences: Items[Sequence], before: Chosen | None) -> Chosen:
        """See ``Steps``."""
        size = next(one for one in self.sizes if one >= len(sequences))
        if size not in self._graphs:
            self._capture(size)
        names = [id(one) for one in sequences]
        if before is None or names != self._in_place:
            self._place(sequences, size)
            self._in_place = names
        self._graphs[size].replay()
        if any(one.sampling.temperature > 0.0 for one in sequences):
            chosen = choose(self._logits[size][: len(sequences)], [one.sampling for one in sequences])
            self._ids[: len(sequences)] = chosen
        return Chosen(self._ids[: len(sequences)].clone())

    def _place(self, sequences: Items[Sequence], size: int) -> None:
        """Write a new batch's state to the GPU; a batch that goes on finds its own there."""
        width = self._table.shape[1]
        empty = size - len(sequences)
        table = [(*one.pages, *(self._spare,) * (width - len(one.pages))) for one in sequences]
        table += [(self._spare,) * width] * empty
        self._table[:size] = _sent(table, torch.int32, self._table.device)
        self._ids[:size] = _sent(
            [one.ids[-1] for one in sequences] + [0] * empty, torch.int64, self._ids.device
        )
        places = [one.computed for one in sequences] + [0] * empty
        self._positions[:size] = _sent(places, torch.int64, self._ids.device)

    def _capture(self, size: int) -> None:
        """Record one step of a batch size; run before on a side stream, as capture demands."""
        saved = [one.clone() for one in (self._ids, self._positions, self._table)]
        self._table.fill_(self._spare)
        self._positions.zero_()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(2):
                self._step(size)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._logits[size] = self._step(size)
        self._graphs[size] = graph
        for buffer, content in zip((self._ids, self._positions, self._table), saved, strict=True):
            buffer.copy_(content)

    def _step(self, size: int) -> torch.Tensor:
        """One step on the buffers, ids and positions moved on in place; logits ``[size, vocab]``."""
        page = self.cache.shape.page_size
        positions, table = self._positions[:size], self._table[:size]
        pages = table.gather(1, (positions // page)[:, None])[:, 0].long()
        ends = torch.arange(size + 1, dtype=torch.int32, device=table.device)
        used = (positions + 1).to(torch.int32)
        there = Table(ends, ends_of(used), used, table, most_queries=1)

        def attention(query: torch.Tensor, layer: int, scale: float) -> torch.Tensor:
            return paged(query, self.cache, layer, there, scale)

        hidden = self.model.get_input_embeddings()(self._ids[:size])
        slots = pages * page + positions % page
        hidden = through_layers(self.model, hidden, positions, slots, self.cache, attention)
        logits = self.model.lm_head(self.model.language_model.norm(hidden))
        self._ids[:size] = logits.argmax(dim=-1)
        # Rows that fill the batch up stay inside their one page.
        self._positions[:size] = (positions + 1).clamp(max=table.shape[1] * page - 1)
        return logits


def _sent(values: object, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).pin_memory().to(device, non_blocking=True)
