"""Decoding steps as CUDA graphs, one for each batch size of a ladder.

Token ids, positions and page tables stay on the GPU, each replay writes the next ids where the following one
reads them, and the host looks at a step's tokens while the next step is running already.

One pass of packed tokens through the decoder, over the paged cache.

A pass over prompts: which of them, their audio heard, their embeddings, and their first tokens.

One decoding step of all running sequences: launched here, looked at by the engine later.

``Eager`` runs the layers one by one. ``Graphs`` (``graphs.py``) replays CUDA graphs, so that the host may
look at a step's tokens while the next one runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch

from moss_audio.engine.attention import Attend, Packed, Table, ends_of, looking_back, paged, reads_pages
from moss_audio.engine.encoder_cache import Clips, EncoderCache
from moss_audio.engine.kv_cache import KVCache
from moss_audio.engine.sampling import choose
from moss_audio.engine.sequence import Sequence
from moss_audio.model.decoder import DecoderLayer, rotary
from moss_audio.model.modeling import MossAudioModel


@dataclass(frozen=True)
class Stack:
    """DeepStack rows of a packed pass: added after decoder layer 0, 1, … at the given tokens."""

    index: torch.Tensor
    rows: tuple[torch.Tensor, ...]


@torch.inference_mode()
def run(
    model: MossAudioModel, hidden: torch.Tensor, packed: Packed, cache: KVCache, stack: Stack | None = None
) -> torch.Tensor:
    """Logits of the last token of each sequence.

    Args:
        model: Its decoder and head.
        hidden: Embeddings of all new tokens, ``[T, hidden]``.
        packed: Which token belongs where.
        cache: Read and written.
        stack: DeepStack rows, in a prefill with audio.

    Returns:
        ``[N, vocab]``.
    """
    attention = looking_back(packed, cache)
    hidden = through_layers(model, hidden, packed.positions, packed.slots, cache, attention, stack)
    ends = torch.tensor(packed.queries).cumsum(0).to(hidden.device) - 1
    return model.lm_head(model.language_model.norm(hidden[ends]))


def through_layers(
    model: MossAudioModel,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    cache: KVCache,
    attention: Attend,
    stack: Stack | None = None,
) -> torch.Tensor:
    """Packed tokens ``[T, hidden]`` through all decoder layers; the same arithmetic as ``Decoder.forward``.

    Args:
        model: Its decoder.
        hidden: Embeddings.
        positions: int64 ``[T]``.
        slots: int64 ``[T]``, where keys and values go.
        cache: Written here, read by ``attention``.
        attention: How queries look back.
        stack: DeepStack rows.
    """
    decoder = model.language_model
    rotation = rotary(positions[None], decoder.config, hidden.dtype)
    hidden = hidden[None]
    for number, layer in enumerate(cast("list[DecoderLayer]", decoder.layers)):
        q, k, v = layer.self_attn.project(layer.input_layernorm(hidden), rotation)
        cache.write(number, k[0].transpose(0, 1), v[0].transpose(0, 1), slots)
        attended = attention(q[0].transpose(0, 1), number, layer.self_attn.scaling)
        hidden = hidden + layer.self_attn.o_proj(attended.flatten(1)[None])
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        if stack is not None and number < len(stack.rows):
            hidden = hidden.index_add(1, stack.index, stack.rows[number].to(hidden)[None])
    return hidden[0]


def pack(spans: list[tuple[int, int, tuple[int, ...]]], page_size: int, device: torch.device) -> Packed:
    """Lay sequences end to end.

    Args:
        spans: For each the tokens in the cache, the new tokens, and its pages.
        page_size: Tokens a page.
        device: Where the decoder is.
    """
    positions: list[int] = []
    slots: list[int] = []
    used: list[tuple[int, ...]] = []
    for cached, new, pages in spans:
        places = range(cached, cached + new)
        positions += places
        slots += [pages[place // page_size] * page_size + place % page_size for place in places]
        used.append(pages[: -(-(cached + new) // page_size)])
    return Packed(
        positions=torch.tensor(positions, device=device),
        slots=torch.tensor(slots, device=device),
        queries=tuple(new for _, new, _ in spans),
        lengths=tuple(cached + new for cached, new, _ in spans),
        pages=tuple(used),
    )


Stretch = tuple[Sequence, int]
"""A sequence, and how many tokens of its prompt a pass takes."""


@dataclass(frozen=True)
class Read:
    """What a pass came to.

    Attributes:
        tokens: Prompt tokens read.
        first: The first new token of each sequence whose prompt is finished with this pass.
    """

    tokens: int
    first: list[tuple[Sequence, int]]


def stretches(pending: Iterable[Sequence], room: int) -> list[Stretch]:
    """What the next pass takes, in order: ``room`` tokens of prompts at most."""
    chosen = []
    for one in pending:
        new = min(one.prompt_length - one.computed, room)
        if new <= 0:
            break
        chosen.append((one, new))
        room -= new
    return chosen


def hear(hearing: EncoderCache, sequences: Iterable[Sequence]) -> list[tuple[Sequence, Exception]]:
    """Encode the audio of sequences: together, or where that fails one by one.

    Audio that stands in shared pages already is not heard.

    Returns:
        Those whose audio could not be encoded, and why.
    """
    unheard: list[tuple[Sequence, Exception]] = []
    audible: list[tuple[Sequence, Clips]] = []
    for one in sequences:
        if one.clips is not None and one.audio and one.audio[-1] >= one.computed:
            audible.append((one, one.clips))
        one.clips = None
    try:
        _hear(hearing, audible)
    except Exception:
        for pair in audible:
            try:
                _hear(hearing, [pair])
            except Exception as error:
                unheard.append((pair[0], error))
    return unheard


def _hear(hearing: EncoderCache, audible: list[tuple[Sequence, Clips]]) -> None:
    for (one, _), found in zip(audible, hearing.hear([clips for _, clips in audible]), strict=True):
        one.features = found


def read(model: MossAudioModel, cache: KVCache, chosen: list[Stretch]) -> Read:
    """Prompts into the cache, and the first token of those that are finished."""
    spans = [(one.computed, new, one.pages) for one, new in chosen]
    packed = pack(spans, cache.shape.page_size, model.device)
    hidden, stack = _embed(model, chosen)
    logits = run(model, hidden, packed, cache, stack)
    ready = []
    for row, (one, new) in enumerate(chosen):
        one.computed += new
        if not one.in_prefill:
            one.features = None
            ready.append((row, one))
    total = sum(new for _, new in chosen)
    if not ready:
        return Read(total, [])
    tokens = choose(logits[[row for row, _ in ready]], [one.sampling for _, one in ready]).tolist()
    return Read(total, [(one, token) for (_, one), token in zip(ready, tokens, strict=True)])


@torch.inference_mode()
def _embed(model: MossAudioModel, chosen: list[Stretch]) -> tuple[torch.Tensor, Stack | None]:
    """Embeddings of packed prompts with their audio in place, and their DeepStack rows."""
    ids = [token for one, new in chosen for token in one.ids[one.computed : one.computed + new]]
    hidden = model.get_input_embeddings()(torch.tensor(ids, device=model.device))
    places: list[int] = []
    parts: list[tuple[torch.Tensor, ...]] = []
    start = 0
    for one, new in chosen:
        if one.features is not None:
            end = one.computed + new
            rows = [n for n, position in enumerate(one.audio) if one.computed <= position < end]
            places += [start + one.audio[n] - one.computed for n in rows]
            span = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
            parts.append(tuple(t[span] for t in (one.features.embeds, *one.features.deepstack)))
        start += new
    if not places:
        return hidden, None
    index = torch.tensor(places, device=model.device)
    embeds, *stacks = (torch.cat(list(column)) for column in zip(*parts, strict=True))
    return hidden.index_copy(0, index, embeds.to(hidden)), Stack(index, tuple(stacks))


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

    try:
        return Graphs(model, cache, max_batch, max_pages)
    except RuntimeError as error:
        log.warning("CUDA graphs cannot be used, decoding is slower without them: %s", error)
        return Eager(model, cache)


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
