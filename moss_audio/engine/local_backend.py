"""The engine as a ``Backend``: a checkpoint loaded into this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from moss_audio.checkpoints import memory
from moss_audio.checkpoints.hub import Progress, resolve
from moss_audio.engine.engine import Engine, EngineOptions
from moss_audio.engine.sequence import RequestHandle
from moss_audio.errors import MossAudioError
from moss_audio.generation.generate import thinks
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.model.modeling import MossAudioModel

log = logging.getLogger(__name__)

CPU_AT_ONCE = 8
"""Requests at once on a CPU: more bring little, and what is in work is lost when the program is killed."""

POLL_SECONDS = 0.05
"""Seconds between two looks at the caller's ``cancel``."""


class LocalBackend:
    """Answers with an engine.

    Args:
        engine: Its model has a processor.
        name: What people are shown.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.thinks = thinks(engine.model)
        most = engine.options.max_batch
        self.at_once = min(most, CPU_AT_ONCE) if engine.device.type == "cpu" else most

    @property
    def context_tokens(self) -> int:
        """Tokens that one request, prompt and answer together, may take."""
        return self.engine.max_length

    def count_tokens(self, text: str) -> int:
        """How many tokens the model's tokenizer cuts a text into."""
        return len(self.engine.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        device: str | None = None,
        options: EngineOptions | None = None,
        progress: Progress | None = None,
    ) -> LocalBackend:
        """Load a checkpoint: bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slow.

        Args:
            name_or_folder: A folder, or a name on the Hugging Face hub.
            device: By default a GPU if there is one.
            options: Sizes of the engine.
            progress: Told of a download.

        Raises:
            CheckpointError: The weights are missing, unreachable or not this model's.
            NotEnoughMemory: They do not fit.
        """
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = torch.float32 if where.type == "cpu" else torch.bfloat16
        folder = resolve(name_or_folder, progress)
        memory.check(str(name_or_folder), memory.need_of(folder, dtype), where)
        model = MossAudioModel.from_pretrained(folder, dtype=dtype, device_map=str(where))
        return cls(Engine(model, options), Path(str(name_or_folder)).name)

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        handles: list[RequestHandle | MossAudioError] = []
        for request in requests:
            try:
                handles.append(self.engine.submit(request, options))
            except MossAudioError as error:
                handles.append(error)
        submitted = [handle for handle in handles if isinstance(handle, RequestHandle)]
        try:
            with _Cancelling(cancel, submitted):
                return [
                    handle if isinstance(handle, MossAudioError) else _result(handle) for handle in handles
                ]
        finally:
            # A caller that stops waiting here, interrupted, wants none of the others either.
            for handle in submitted:
                handle.cancel()

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        handle = self.engine.submit(request, options)
        try:
            with _Cancelling(cancel, [handle]):
                yield from handle
        finally:
            handle.cancel()

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        thinking = False if options.thinking is False or not self.thinks else None
        prompt = self.engine.processor.chat(messages, tools, thinking)
        yield from self.stream(Request(prompt), options, cancel)

    def close(self) -> None:
        """See ``Backend``."""
        self.engine.close()


def _result(handle: RequestHandle) -> Reply | MossAudioError:
    try:
        return handle.result()
    except MossAudioError as error:
        return error
    except Exception as error:
        log.error("a request failed unexpectedly", exc_info=error)
        failed = MossAudioError(f"The engine failed on this request ({type(error).__name__}: {error}).")
        failed.__cause__ = error
        return failed


class _Cancelling:
    """A context in which setting ``cancel`` cancels the requests."""

    def __init__(self, cancel: threading.Event | None, handles: Sequence[RequestHandle]) -> None:
        self.cancel = cancel
        self.handles = handles
        self.left = threading.Event()

    def __enter__(self) -> None:
        if self.cancel is not None:
            threading.Thread(target=self._watch, args=(self.cancel.is_set,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.left.set()

    def _watch(self, wished: Callable[[], bool]) -> None:
        while not self.left.wait(POLL_SECONDS):
            if wished():
                for handle in self.handles:
                    handle.cancel()
                return
