"""What answers prompts: the engine in this process, or a server somewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Event, Options, Reply, Request


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
