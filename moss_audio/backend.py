"""What answers prompts: the engine in this process, or a server somewhere; and listening with it.

A ``Listener`` is asked one question about one stretch of audio and gives one answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from moss_audio.errors import AudioError, MossAudioError, PromptError
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.tasks import ask


class Backend(Protocol):
    """Answers prompts with a MOSS-Audio model; may be used from several threads at once."""

    @property
    def name(self) -> str:
        """What people are shown, e.g. ``MOSS-Audio-8B-Thinking``."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether it thinks before it answers, unless told not to."""
        ...

    @property
    def at_once(self) -> int:
        """How many requests are worth handing over at the same time."""
        ...

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """Answer requests, each with one recording and one question or with text alone, all at once.

        Returns:
            For each its answer, or what went wrong with it; one failure costs no other answer.
        """
        ...

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """Answer one request as it is written; the last event is the ``Reply``.

        Raises:
            MossAudioError: It cannot be answered.
        """
        ...

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Continue a conversation of text, in OpenAI's form, as ``stream`` does.

        Calls of tools come as Qwen3 writes them, ``<tool_call>{"name": …, "arguments": …}</tool_call>``,
        within the text of the answer, whatever form a server gives them.

        Raises:
            MossAudioError: It cannot be continued.
        """
        ...

    def close(self) -> None:
        """End all work and give memory back."""
        ...


@runtime_checkable
class Loads(Protocol):
    """A ``Backend`` that loads the one behind it when it is first needed."""

    def loaded(self, cancel: threading.Event | None = None) -> Backend:
        """The backend behind it, once it is there; ``at_once`` is its own from then on.

        Raises:
            MossAudioError: It cannot be loaded, or ``cancel`` was set.
        """
        ...


class Listener(Protocol):
    """Something that can listen to audio and answer a question about it in words."""

    def listen(self, audio: np.ndarray, question: str, cancel: threading.Event | None = None) -> str:
        """Answer ``question`` about ``audio``.

        Args:
            audio: float32 ``[n_samples]``, mono, 16 kHz, in [-1, 1]; at most ten minutes.
            question: One question in plain words.
            cancel: Set it from another thread to stop.

        Returns:
            The answer; times in it are seconds from the start of ``audio``.

        Raises:
            MossAudioError: There is no answer.
        """
        ...


SAMPLE_RATE = 16_000

LONGEST_S = 600.0
"""Seconds that one request may carry at most; MOSS-Audio's authors advise ten minutes."""

LONGEST_QUESTION = 2000
"""Characters of a question at most."""

GREEDY = Options(max_new_tokens=1024, thinking_budget=512, stop_loops=True)
"""Greedy decoding, so that the same question about the same seconds gets the same answer."""

SAMPLED = Options(max_new_tokens=1024, temperature=1.0, thinking_budget=512, seed=0, stop_loops=True)
"""The second try: greedy decoding can loop on laughter, music and noise where sampling does not."""


class BackendListener:
    """A ``Listener`` that puts its questions to a backend.

    Args:
        backend: Its model hears audio.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """What people are shown, e.g. ``MOSS-Audio-8B-Thinking``."""
        return self.backend.name

    def listen(self, audio: np.ndarray, question: str, cancel: threading.Event | None = None) -> str:
        """See ``Listener``.

        Raises:
            AudioError: The audio is empty or longer than ten minutes.
            PromptError: The question is empty or too long.
            MossAudioError: The backend failed, was cancelled, or gave no answer in two tries.
        """
        if not 0 < len(audio) <= LONGEST_S * SAMPLE_RATE:
            raise AudioError(
                f"{len(audio) / SAMPLE_RATE:.1f} s cannot be listened to at once; choose a stretch of at "
                f"most {LONGEST_S / 60:g} minutes."
            )
        if len(question) > LONGEST_QUESTION:
            raise PromptError(
                f"The question is longer than {LONGEST_QUESTION} characters; ask a shorter one."
            )
        # A question may repeat what a recording says, and must not bring control tokens into the prompt.
        task = ask(question.replace("<|", "< |"))
        for options in (GREEDY, SAMPLED):
            reply = self._reply(Request(task.prompt, [audio]), options, cancel)
            answer = task.parse(reply.text).value.text.strip()
            if reply.stopped == "cancelled":
                raise MossAudioError("Listening was stopped.")
            if answer and reply.stopped != "loop":
                return answer
        raise MossAudioError(
            f"{self.name} gave no answer about these {len(audio) / SAMPLE_RATE:.0f} seconds; ask about a "
            "shorter stretch, or in other words."
        )

    def _reply(self, request: Request, options: Options, cancel: threading.Event | None) -> Reply:
        for event in self.backend.stream(request, options, cancel):
            if isinstance(event, Reply):
                return event
        raise MossAudioError(f"{self.name} broke off without an answer; ask again.")
