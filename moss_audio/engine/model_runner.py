"""What the model computes for the engine: prefill of packed prompts, and decoding steps.

A decoding step runs layer by layer (eager) or, on a GPU, as a CUDA graph; then ``Engine`` reads its tokens
after it has launched the next step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, cast

import torch

from moss_audio.engine.attention import (
    Attention,
    BlockTable,
    PackedBatch,
    cached_attention,
    kernel_reads,
    kernel_runs_on,
    key_offsets,
    pack,
    paged_attention,
)
from moss_audio.engine.encoder_cache import Clips, EncoderCache
from moss_audio.engine.kv_cache import KVCache
from moss_audio.engine.sampling import sample
from moss_audio.engine.scheduler import Chunk
from moss_audio.engine.sequence import Sequence
from moss_audio.model.decoder import DecoderLayer, rotary
from moss_audio.model.modeling import MossAudioModel

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""Batch sizes for which CUDA graphs are captured; a batch runs in the next larger one."""


@dataclass(frozen=True)
class DeepStackRows:
    """DeepStack features of a packed prefill: added after decoder layers 0, 1, … at some tokens.

    Attributes:
        index: int64 ``[audio tokens]``, which packed tokens.
        rows: For each layer ``[audio tokens, hidden]``.
    """

    index: torch.Tensor
    rows: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class PrefillOutput:
    """What a prefill came to.

    Attributes:
        tokens: Prompt tokens computed.
        first: The first new token of each sequence whose prompt is finished with this pass.
        failed: The sequences whose audio could not be encoded, and why.
    """

    tokens: int
    first: list[tuple[Sequence, int]]
    failed: list[tuple[Sequence, Exception]]


class DecodeOutput:
    """The next token of each sequence, on its way to the host.

    On a GPU the copy is queued right behind the step, so that reading it waits for this step alone and not
    for what was launched since.

    Args:
        sequences: Whose tokens.
        tokens: int64 ``[N]`` on the device.
    """

    def __init__(self, sequences: list[Sequence], tokens: torch.Tensor) -> None:
        self.sequences = sequences
        self.tokens = tokens
        self._host = tokens
        self._copied: torch.cuda.Event | None = None
        if tokens.is_cuda:
            self._host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._host.copy_(tokens, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(tokens.device))

    def read(self) -> list[int]:
        """The tokens; waits until they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()


class ModelRunner:
    """Runs the model over the paged cache.

    Args:
        model: On its device.
        cache: KV cache of all sequences; its last block is never allocated.
        encoder_cache: Encodes audio.
        max_batch: Sequences at most.
        max_blocks: Blocks of a sequence at most.
        cuda_graphs: Whether decoding steps may be captured as CUDA graphs.
    """

    def __init__(
        self,
        model: MossAudioModel,
        cache: KVCache,
        encoder_cache: EncoderCache,
        max_batch: int,
        max_blocks: int,
        cuda_graphs: bool = True,
    ) -> None:
        self.model = model
        self.cache = cache
        self.encoder_cache = encoder_cache
        self.graphs = self.capture_graphs(max_batch, max_blocks) if cuda_graphs else None

    @property
    def overlaps_host(self) -> bool:
        """Whether a step may be launched before the tokens of the one before it were read."""
        return self.graphs is not None

    def capture_graphs(self, max_batch: int, max_blocks: int) -> CUDAGraphs | None:
        """CUDA graphs of decoding steps; None where they cannot be used."""
        stored = self.cache.keys[0]
        if not kernel_runs_on(stored.device, stored.dtype, self.cache.shape.block_size):
            return None
        try:
            return CUDAGraphs(self.model, self.cache, max_batch, max_blocks)
        except RuntimeError as error:
            log.warning("CUDA graphs cannot be used, decoding is slower without them: %s", error)
            return None

    def prefill(self, chunks: Items[Chunk]) -> PrefillOutput:
        """Compute prompts into the cache, and the first token of those that are finished with it."""
        failed = self._encode_audio([chunk.sequence for chunk in chunks])
        lost = {sequence for sequence, _ in failed}
        chunks = [chunk for chunk in chunks if chunk.sequence not in lost]
        if not chunks:
            return PrefillOutput(0, [], failed)
        spans = [(chunk.sequence.computed, chunk.new, chunk.sequence.blocks) for chunk in chunks]
        packed = pack(spans, self.cache.shape.block_size, self.model.device)
        hidden, deepstack = self._embed(chunks)
        logits = forward(self.model, hidden, packed, self.cache, deepstack)
        rows, finished = [], []
        for row, chunk in enumerate(chunks):
            chunk.sequence.computed += chunk.new
            if not chunk.sequence.in_prefill:
                chunk.sequence.features = None
                rows.append(row)
                finished.append(chunk.sequence)
        tokens = sum(chunk.new for chunk in chunks)
        if not finished:
            return PrefillOutput(tokens, [], failed)
        first = sample(logits[rows], [sequence.sampling for sequence in finished]).tolist()
        return PrefillOutput(tokens, list(zip(finished, first, strict=True)), failed)

    def decode(self, sequences: list[Sequence], unread: DecodeOutput | None) -> DecodeOutput:
        """Launch the step that computes the next token of each sequence.

        Args:
            sequences: Those whose prompts are in the cache.
            unread: The output of the step before for exactly these sequences, where the host has not read it.
        """
        forced: dict[int, int] = {}
        if unread is not None:
            # A token of each was not read yet, so what must come next is what that one must be.
            for row, sequence in enumerate(sequences):
                if (token := sequence.forced) is not None:
                    forced[row] = token
        if self.graphs is not None and kernel_reads([sequence.blocks for sequence in sequences]):
            tokens = self.graphs.launch(sequences, unread is not None, forced)
        else:
            tokens = self._launch_eager(sequences, unread, forced)
        for sequence in sequences:
            sequence.computed += 1
        return DecodeOutput(sequences, tokens)

    def _launch_eager(
        self, sequences: list[Sequence], unread: DecodeOutput | None, forced: Mapping[int, int]
    ) -> torch.Tensor:
        device = self.model.device
        spans = [(sequence.computed, 1, sequence.blocks) for sequence in sequences]
        packed = pack(spans, self.cache.shape.block_size, device)
        if unread is None:
            tokens = torch.tensor([sequence.ids[-1] for sequence in sequences], device=device)
        else:
            tokens = replace_rows(unread.tokens.clone(), forced)
        with torch.inference_mode():
            hidden = self.model.get_input_embeddings()(tokens)
        logits = forward(self.model, hidden, packed, self.cache)
        return sample(logits, [sequence.sampling for sequence in sequences])

    def _encode_audio(self, sequences: Iterable[Sequence]) -> list[tuple[Sequence, Exception]]:
        """Encode the audio of sequences: together, or where that fails one by one.

        Audio that stands in shared blocks already is not encoded.

        Returns:
            The sequences whose audio could not be encoded, and why.
        """
        failed: list[tuple[Sequence, Exception]] = []
        wanted: list[tuple[Sequence, Clips]] = []
        for sequence in sequences:
            if sequence.clips is not None and sequence.audio and sequence.audio[-1] >= sequence.computed:
                wanted.append((sequence, sequence.clips))
            sequence.clips = None
        try:
            self._encode(wanted)
        except Exception:
            for pair in wanted:
                try:
                    self._encode([pair])
                except Exception as error:
                    failed.append((pair[0], error))
        return failed

    def _encode(self, wanted: list[tuple[Sequence, Clips]]) -> None:
        features = self.encoder_cache.encode([clips for _, clips in wanted])
        for (sequence, _), found in zip(wanted, features, strict=True):
            sequence.features = found

    @torch.inference_mode()
    def _embed(self, chunks: Items[Chunk]) -> tuple[torch.Tensor, DeepStackRows | None]:
        """Embeddings ``[T, hidden]`` of packed prompts with audio in place, and their DeepStack rows."""
        ids = [
            token
            for chunk in chunks
            for token in chunk.sequence.ids[chunk.sequence.computed : chunk.sequence.computed + chunk.new]
        ]
        hidden = self.model.get_input_embeddings()(torch.tensor(ids, device=self.model.device))
        places: list[int] = []
        parts: list[tuple[torch.Tensor, ...]] = []
        start = 0
        for chunk in chunks:
            sequence = chunk.sequence
            if sequence.features is not None:
                begin, end = sequence.computed, sequence.computed + chunk.new
                rows = [n for n, position in enumerate(sequence.audio) if begin <= position < end]
                places += [start + sequence.audio[n] - begin for n in rows]
                span = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
                features = (sequence.features.embeds, *sequence.features.deepstack)
                parts.append(tuple(feature[span] for feature in features))
            start += chunk.new
        if not places:
            return hidden, None
        index = torch.tensor(places, device=self.model.device)
        embeds, *deepstack = (torch.cat(list(column)) for column in zip(*parts, strict=True))
        return hidden.index_copy(0, index, embeds.to(hidden)), DeepStackRows(index, tuple(deepstack))


@torch.inference_mode()
def forward(
    model: MossAudioModel,
    hidden: torch.Tensor,
    packed: PackedBatch,
    cache: KVCache,
    deepstack: DeepStackRows | None = None,
) -> torch.Tensor:
    """Logits of the last token of each sequence.

    Args:
        model: Its decoder and head are used.
        hidden: Embeddings of all new tokens, ``[T, hidden]``.
        packed: Which token belongs where.
        cache: Read and written.
        deepstack: In a prefill with audio.

    Returns:
        ``[N, vocab]``.
    """
    attention = cached_attention(packed, cache)
    hidden = through_layers(model, hidden, packed.positions, packed.slots, cache, attention, deepstack)
    last = torch.tensor(packed.queries).cumsum(0).to(hidden.device) - 1
    return model.lm_head(model.language_model.norm(hidden[last]))


def through_layers(
    model: MossAudioModel,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    cache: KVCache,
    attention: Attention,
    deepstack: DeepStackRows | None = None,
) -> torch.Tensor:
    """Packed tokens ``[T, hidden]`` through all decoder layers; the same arithmetic as ``Decoder.forward``.

    Args:
        model: Its decoder is used.
        hidden: Embeddings.
        positions: int64 ``[T]``, of each token in its sequence.
        slots: int64 ``[T]``, where keys and values go.
        cache: Written here, read by ``attention``.
        attention: Of this pass.
        deepstack: In a prefill with audio.

    Returns:
        ``[T, hidden]``, before the last norm.
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
        if deepstack is not None and number < len(deepstack.rows):
            hidden = hidden.index_add(1, deepstack.index, deepstack.rows[number].to(hidden)[None])
    return hidden[0]


def replace_rows(tokens: torch.Tensor, forced: Mapping[int, int]) -> torch.Tensor:
    """``tokens`` with some rows replaced, in place; without waiting for the device."""
    for row, token in forced.items():
        tokens[row].fill_(token)
    return tokens


class CUDAGraphs:
    """Decoding steps as CUDA graphs, one for each batch size of a ladder.

    Token ids, positions and block tables stay on the GPU, and each replay writes the next ids where the
    following one reads them. All graphs are captured here, before anything is served, the largest first, so
    that the smaller ones find room in its memory.

    Args:
        model: On a GPU, in half precision.
        cache: Its last block is this class's own: rows that pad a batch write there.
        max_batch: Sequences at most.
        max_blocks: Blocks of a sequence at most.

    Raises:
        RuntimeError: They cannot be captured here.
    """

    def __init__(self, model: MossAudioModel, cache: KVCache, max_batch: int, max_blocks: int) -> None:
        self.model = model
        self.cache = cache
        self.sizes = [size for size in BATCH_SIZES if size < max_batch] + [max_batch]
        device = model.device
        self._ids = torch.zeros(max_batch, dtype=torch.int64, device=device)
        self._positions = torch.zeros(max_batch, dtype=torch.int64, device=device)
        self._padding = cache.shape.n_blocks - 1
        self._table = torch.full((max_batch, max_blocks), self._padding, dtype=torch.int32, device=device)
        self._memory: Any = None
        self._logits: dict[int, torch.Tensor] = {}
        self._replays: dict[int, Callable[[], torch.Tensor]] = {}
        for size in reversed(self.sizes):
            self._replays[size] = self.capture(size)

    def launch(self, sequences: Items[Sequence], goes_on: bool, forced: Mapping[int, int]) -> torch.Tensor:
        """The next token of each sequence, int64 ``[N]`` on the GPU.

        Args:
            sequences: All in decoding.
            goes_on: Whether the step before was of exactly these sequences and was launched here.
            forced: For some rows, the token that takes the place of what the step before chose.
        """
        count = len(sequences)
        size = next(size for size in self.sizes if size >= count)
        if goes_on:
            # A batch that goes on finds its own state on the GPU.
            replace_rows(self._ids, forced)
        else:
            self._place(sequences, size)
        logits = self._replays[size]()
        if any(sequence.sampling.temperature > 0.0 for sequence in sequences):
            self._ids[:count] = sample(logits[:count], [sequence.sampling for sequence in sequences])
        return self._ids[:count].clone()

    def capture(self, size: int) -> Callable[[], torch.Tensor]:
        """Record one step of a batch size; returns what replays it and gives its logits ``[size, vocab]``."""
        device = self._ids.device
        stream = torch.cuda.Stream(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            stream.wait_stream(torch.cuda.current_stream(device))
            # Run before on the same stream, as capture demands.
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self.compute(size)
            # Other threads may allocate memory of the GPU meanwhile, which is no reason to give up.
            with torch.cuda.graph(graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"):
                logits = self.compute(size)
            torch.cuda.current_stream(device).wait_stream(stream)
        self._memory = graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        return replay

    @torch.inference_mode()
    def compute(self, size: int) -> torch.Tensor:
        """One step on the buffers, ids and positions moved on in place; logits ``[size, vocab]``."""
        block_size = self.cache.shape.block_size
        positions, blocks = self._positions[:size], self._table[:size]
        block = blocks.gather(1, (positions // block_size)[:, None])[:, 0].long()
        used = (positions + 1).to(torch.int32)
        table = BlockTable(
            query_offsets=torch.arange(size + 1, dtype=torch.int32, device=blocks.device),
            key_offsets=key_offsets(used, blocks, block_size),
            used=used,
            blocks=blocks,
            most_queries=1,
        )

        def attention(query: torch.Tensor, layer: int, scale: float) -> torch.Tensor:
            return paged_attention(query, self.cache, layer, table, scale)

        hidden = self.model.get_input_embeddings()(self._ids[:size])
        slots = block * block_size + positions % block_size
        hidden = through_layers(self.model, hidden, positions, slots, self.cache, attention)
        logits = self.model.lm_head(self.model.language_model.norm(hidden))
        self._ids[:size] = logits.argmax(dim=-1)
        # A padding row stays at the start of its one block; a sequence that ended with the last position of
        # its table stays inside it for the step that was launched too many.
        following = (positions + 1).clamp(max=blocks.shape[1] * block_size - 1)
        self._positions[:size] = following.masked_fill(blocks[:, 0] == self._padding, 0)
        return logits

    def _place(self, sequences: Items[Sequence], size: int) -> None:
        """Write a batch's state to the GPU, padding rows behind it."""
        width = self._table.shape[1]
        empty = size - len(sequences)
        table = [
            (*sequence.blocks, *(self._padding,) * (width - len(sequence.blocks))) for sequence in sequences
        ]
        table += [(self._padding,) * width] * empty
        ids = [sequence.ids[-1] for sequence in sequences] + [0] * empty
        positions = [sequence.computed for sequence in sequences] + [0] * empty
        device = self._ids.device
        self._table[:size] = _sent(table, torch.int32, device)
        self._ids[:size] = _sent(ids, torch.int64, device)
        self._positions[:size] = _sent(positions, torch.int64, device)


def _sent(values: object, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Values on their way to a device; on a GPU nobody waits for them."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
