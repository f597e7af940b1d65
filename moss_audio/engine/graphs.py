"""Decoding steps as CUDA graphs, one for each batch size of a ladder.

Token ids, positions and page tables stay on the GPU, each replay writes the next ids where the following one
reads them, and the host looks at a step's tokens while the next step is running already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from typing import Any

import torch

from moss_audio.engine.cache import KVCache
from moss_audio.engine.decoding import Chosen, put
from moss_audio.engine.kernel import Table, ends_of, paged
from moss_audio.engine.passes import through_layers
from moss_audio.engine.sampling import choose
from moss_audio.engine.sequence import Sequence
from moss_audio.model import MossAudioModel

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""For which graphs are captured; a batch runs in the next larger one."""


class Graphs:
    """CUDA graphs; not run so far on a machine of this project's own.

    All are captured here, before anything is served, the largest first, so that the smaller ones find
    room in its memory.

    Args:
        model: On a GPU, in half precision.
        cache: Its last page is this class's own: rows that fill a batch up write there.
        max_batch: Sequences at most.
        max_pages: Pages of a sequence at most.

    Raises:
        RuntimeError: They cannot be captured here.
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
        self._pool: Any = None
        self._logits: dict[int, torch.Tensor] = {}
        self._replays: dict[int, Callable[[], None]] = {}
        for size in reversed(self.sizes):
            self._replays[size] = self._capture(size)

    def launch(self, sequences: Items[Sequence], before: Chosen | None, forced: Mapping[int, int]) -> Chosen:
        """See ``Steps``."""
        count = len(sequences)
        size = next(one for one in self.sizes if one >= count)
        if before is None:
            self._place(sequences, size)
        else:
            # A batch that goes on finds its own state on the GPU.
            put(self._ids, forced)
        self._replays[size]()
        if any(one.sampling.temperature > 0.0 for one in sequences):
            self._ids[:count] = choose(self._logits[size][:count], [one.sampling for one in sequences])
        return Chosen(self._ids[:count].clone())

    def _place(self, sequences: Items[Sequence], size: int) -> None:
        """Write a batch's state to the GPU, rows that fill it up behind."""
        width = self._table.shape[1]
        empty = size - len(sequences)
        table = [(*one.pages, *(self._spare,) * (width - len(one.pages))) for one in sequences]
        table += [(self._spare,) * width] * empty
        device = self._ids.device
        self._table[:size] = _sent(table, torch.int32, device)
        self._ids[:size] = _sent([one.ids[-1] for one in sequences] + [0] * empty, torch.int64, device)
        self._positions[:size] = _sent([one.computed for one in sequences] + [0] * empty, torch.int64, device)

    def _capture(self, size: int) -> Callable[[], None]:
        """Record one step of a batch size; run before on the same stream, as capture demands."""
        device = self._ids.device
        stream = torch.cuda.Stream(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.inference_mode():
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._step(size)
            # Other threads may take memory of the GPU meanwhile, which is no reason to give up.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                self._logits[size] = self._step(size)
            torch.cuda.current_stream(device).wait_stream(stream)
        self._pool = graph.pool()
        return graph.replay

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
        # A row that fills the batch up stays at the start of its one page; a sequence that ended with the
        # last position of its table stays inside it for the step that was launched too many.
        following = (positions + 1).clamp(max=table.shape[1] * page - 1)
        self._positions[:size] = following.masked_fill(table[:, 0] == self._spare, 0)
        return logits


def _sent(values: object, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Values on their way to a device; on a GPU nobody waits for them."""
    there = torch.tensor(values, dtype=dtype)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there
