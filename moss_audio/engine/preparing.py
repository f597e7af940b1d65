"""A request becomes a sequence: its ids, what stands at each position, and how it will be written."""

from __future__ import annotations

import torch

from moss_audio.answer_writer import AnswerWriter
from moss_audio.answers import Options, Request
from moss_audio.engine.hearing import Clips
from moss_audio.engine.pages import Key, page_names
from moss_audio.engine.sampling import Sampling
from moss_audio.engine.sequence import Sequence, Ticket
from moss_audio.errors import NotEnoughMemory
from moss_audio.generation import complete_prompt, stop_ids, thinking_budget, thinks
from moss_audio.model import MossAudioModel
from moss_audio.thinking import prompt_opens_thought


class Preparer:
    """Prepares requests for one engine; nothing is encoded here.

    Args:
        model: With its processor.
        page_size: Of the KV cache.
        most_tokens: Positions that one sequence may take.
    """

    def __init__(self, model: MossAudioModel, page_size: int, most_tokens: int) -> None:
        self.model = model
        self.processor = model.processor
        self.page_size = page_size
        self.most_tokens = most_tokens
        self.stops = frozenset(stop_ids(model))
        self.thinks = thinks(model)

    def sequence(self, request: Request, options: Options, ticket: Ticket) -> Sequence:
        """The sequence of a request.

        Raises:
            PromptError, AudioError: The request cannot be used.
            NotEnoughMemory: It could never fit.
        """
        prompt = complete_prompt(request, options.thinking is False and self.thinks)
        inputs = self.processor(prompt, list(request.audios) or None, device=self.model.device)
        ids = inputs["input_ids"][0].tolist()
        options = options.within(self.most_tokens - len(ids))
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
            names=page_names(_keys(ids, audio, clips), self.page_size),
            options=options,
            sampling=self._sampling(options),
            writer=AnswerWriter(self.processor, self.stops, opened, ticket.submitted),
            thought=None if budget is None else budget.follow(opened),
            ticket=ticket,
        )

    def _check(self, prompt_tokens: int, options: Options) -> None:
        capacity = prompt_tokens + options.max_new_tokens
        if capacity > self.most_tokens:
            raise NotEnoughMemory(
                f"This request can take {capacity:,} tokens ({prompt_tokens:,} of them the prompt), and the "
                f"engine holds {self.most_tokens:,}; choose shorter audio, or a smaller max_new_tokens."
            )

    def _sampling(self, options: Options) -> Sampling:
        generator = None
        if options.seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(options.seed)
        return Sampling(options.temperature, options.top_p, options.top_k, generator)


def _keys(ids: list[int], audio: list[int], clips: Clips | None) -> list[Key]:
    """What stands at each position: a token, or where audio does, the clips and which of their tokens."""
    keys: list[Key] = list(ids)
    if clips is not None:
        for number, position in enumerate(audio):
            keys[position] = clips.name + number.to_bytes(4, "big")
    return keys
