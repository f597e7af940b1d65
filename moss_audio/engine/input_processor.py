"""From a request to a sequence: tokenized, its audio cut into windows, its blocks hashed."""

from __future__ import annotations

import torch

from moss_audio.engine.encoder_cache import Clips
from moss_audio.engine.kv_cache import Key, block_hashes
from moss_audio.engine.sampling import Sampling
from moss_audio.engine.sequence import RequestHandle, Sequence
from moss_audio.errors import NotEnoughMemory
from moss_audio.generation.generate import complete_prompt, stop_ids, thinking_budget, thinks
from moss_audio.generation.requests import Options, Request
from moss_audio.generation.streaming import AnswerWriter
from moss_audio.generation.thinking import prompt_opens_thought
from moss_audio.model.modeling import MossAudioModel


class InputProcessor:
    """Makes sequences for one engine; nothing is encoded here.

    Args:
        model: With its processor.
        block_size: Tokens in a block of the KV cache.
        max_tokens: Tokens that one sequence, prompt and answer together, may take.
    """

    def __init__(self, model: MossAudioModel, block_size: int, max_tokens: int) -> None:
        self.model = model
        self.processor = model.processor
        self.block_size = block_size
        self.max_tokens = max_tokens
        self.stops = frozenset(stop_ids(model))
        self.thinks = thinks(model)

    def sequence(self, request: Request, options: Options, handle: RequestHandle) -> Sequence:
        """The sequence of a request.

        Raises:
            PromptError, AudioError: The request cannot be used.
            NotEnoughMemory: It could never fit.
        """
        prompt = complete_prompt(request, options.thinking is False and self.thinks)
        inputs = self.processor(prompt, list(request.audios) or None, device=self.model.device)
        ids = inputs["input_ids"][0].tolist()
        options = options.within(self.max_tokens - len(ids))
        self._check(len(ids), options)
        audio = inputs["audio_input_mask"][0].nonzero().flatten().tolist()
        clips = None
        if request.audios:
            window = self.model.config.audio_config.window_frames
            clips = Clips.cut(inputs["audio_data"], inputs["audio_data_seqlens"], window)
        opened = prompt_opens_thought(prompt)
        budget = thinking_budget(self.processor.tokenizer, options, 0, [opened])
        return Sequence(
            ids=ids,
            prompt_length=len(ids),
            audio=audio,
            clips=clips,
            block_hashes=block_hashes(_keys(ids, audio, clips), self.block_size),
            options=options,
            sampling=self._sampling(options),
            writer=AnswerWriter(self.processor, self.stops, opened, handle.submitted),
            thought=None if budget is None else budget.follow(opened),
            handle=handle,
        )

    def _check(self, prompt_tokens: int, options: Options) -> None:
        capacity = prompt_tokens + options.max_new_tokens
        if capacity > self.max_tokens:
            raise NotEnoughMemory(
                f"This request can take {capacity:,} tokens ({prompt_tokens:,} of them the prompt), and the "
                f"engine holds {self.max_tokens:,}; choose shorter audio, or a smaller max_new_tokens."
            )

    def _sampling(self, options: Options) -> Sampling:
        generator = None
        if options.seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(options.seed)
        return Sampling(options.temperature, options.top_p, options.top_k, generator)


def _keys(ids: list[int], audio: list[int], clips: Clips | None) -> list[Key]:
    """What stands at each position: a token, or for audio the clips' name and the number of their token."""
    keys: list[Key] = list(ids)
    if clips is not None:
        for number, position in enumerate(audio):
            keys[position] = clips.name + number.to_bytes(4, "big")
    return keys
