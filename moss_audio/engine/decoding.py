"""One decoding step of all running sequences: launched here, looked at by the engine later.

``Eager`` runs the layers one by one. ``Graphs`` (``graphs.py``) replays CUDA graphs, so that the host may
look at a step's tokens while the next one runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import Protocol

import torch

from moss_audio.engine.cache import KVCache
from moss_audio.engine.kernel import reads_pages
from moss_audio.engine.passes import pack, run
from moss_audio.engine.sampling import choose
from moss_audio.engine.sequence import Sequence
from moss_audio.model import MossAudioModel

log = logging.getLogger(__name__)


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
            self._copied.record(torch.cuda.current_stream(tokens.device))

    def read(self) -> list[int]:
        """The tokens, once they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()


class Steps(Protocol):
    """Launches decoding steps."""

    looks_late: bool
    """Whether the host may look at a step's tokens after the next one was launched."""

    def launch(self, sequences: Items[Sequence], before: Chosen | None, forced: Mapping[int, int]) -> Chosen:
        """The next token of each sequence.

        Args:
            sequences: All in decoding.
            before: What the step before chose for exactly these, if the host has not seen it yet.
            forced: For some of the rows, the token that stands there whatever ``before`` says.
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

    def launch(self, sequences: Items[Sequence], before: Chosen | None, forced: Mapping[int, int]) -> Chosen:
        """See ``Steps``."""
        device = self.model.device
        spans = [(one.computed, 1, one.pages) for one in sequences]
        packed = pack(spans, self.cache.shape.page_size, device)
        if before is None:
            tokens = torch.tensor([one.ids[-1] for one in sequences], device=device)
        else:
            tokens = put(before.tokens.clone(), forced)
        with torch.inference_mode():
            hidden = self.model.get_input_embeddings()(tokens)
        logits = run(self.model, hidden, packed, self.cache)
        return Chosen(choose(logits, [one.sampling for one in sequences]))


def put(tokens: torch.Tensor, forced: Mapping[int, int]) -> torch.Tensor:
    """``tokens`` with some rows replaced, in place; without waiting for the device."""
    for row, token in forced.items():
        tokens[row].fill_(token)
    return tokens


def stepping(model: MossAudioModel, cache: KVCache, max_batch: int, max_pages: int) -> Steps:
    """The fastest way of stepping that works here.

    Args:
        model: Whose decoder.
        cache: Of all sequences; its last page is nobody's.
        max_batch: Sequences at most.
        max_pages: Pages of a sequence at most.
    """
    if not reads_pages(model.device, model.dtype, cache.shape.page_size):
        return Eager(model, cache)
    from moss_audio.engine.graphs import Graphs

    try:
        return Graphs(model, cache, max_batch, max_pages)
    except RuntimeError as error:
        log.warning("CUDA graphs cannot be used, decoding is slower without them: %s", error)
        return Eager(model, cache)
