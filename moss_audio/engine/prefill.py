"""A pass over prompts: which of them, their audio heard, their embeddings, and their first tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from moss_audio.engine.cache import KVCache
from moss_audio.engine.hearing import Clips, EncoderCache
from moss_audio.engine.passes import Stack, pack, run
from moss_audio.engine.sampling import choose
from moss_audio.engine.sequence import Sequence
from moss_audio.model import MossAudioModel

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
