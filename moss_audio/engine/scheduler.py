"""Who waits, who is admitted, and what the next pass computes.

    waiting → tokenized, when its turn has come → admitted (all its blocks are reserved) → prefill
            → decode, together with all others → finished

A request is admitted only when everything it can ever need fits, so memory cannot run out half way and no
sequence is ever preempted; a request that could never fit is refused with the numbers. Only the head of the
line is tokenized, and no more are admitted than the next prefill takes, so that what waits holds no memory of
the device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from moss_audio.engine.kv_cache import BlockPool
from moss_audio.engine.sequence import InputProcessor, RequestHandle, Sequence
from moss_audio.errors import MemoryUsedUp, QueueFull
from moss_audio.generation.requests import Options, Reply, Request


@dataclass(frozen=True)
class Chunk:
    """The next ``new`` tokens of a sequence's prompt, which one prefill takes."""

    sequence: Sequence
    new: int


@dataclass(frozen=True)
class Batch:
    """What the next pass computes: chunks of prompts, or one token of each sequence, or nothing."""

    prefill: list[Chunk] = field(default_factory=list)
    decode: list[Sequence] = field(default_factory=list)


class Scheduler:
    """The line of an engine and its running sequences. All but ``add`` is for the engine's thread alone.

    Args:
        pool: The blocks of the engine's KV cache.
        inputs: Makes sequences of requests.
        max_batch: Sequences that run at the same time.
        prefill_tokens: Prompt tokens in one pass.
        max_waiting: Requests that may wait.
    """

    def __init__(
        self, pool: BlockPool, inputs: InputProcessor, max_batch: int, prefill_tokens: int, max_waiting: int
    ) -> None:
        self.pool = pool
        self.inputs = inputs
        self.max_batch = max_batch
        self.prefill_tokens = prefill_tokens
        self.max_waiting = max_waiting
        self.running: list[Sequence] = []
        self.reused_tokens = 0
        """Prompt tokens so far that were in the cache already when their sequence was admitted."""
        self._head: Sequence | None = None
        self._line: deque[tuple[Request, Options, RequestHandle]] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Requests that are not admitted yet."""
        return len(self._line) + (self._head is not None)

    @property
    def has_work(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self.waiting or self.running)

    def add(self, request: Request, options: Options, handle: RequestHandle) -> None:
        """Put a request at the end of the line; from any thread.

        Raises:
            QueueFull: Too many wait already.
        """
        with self._lock:
            if len(self._line) >= self.max_waiting:
                raise QueueFull(f"{len(self._line)} requests are already waiting; try again later.")
            self._line.append((request, options, handle))

    def cancelled(self) -> list[Sequence]:
        """The running sequences whose callers have cancelled them; those in the line are ended here."""
        if self._head is not None and self._head.handle.cancelled.is_set():
            head, self._head = self._head, None
            head.handle.put(head.writer.reply("cancelled", head.prompt_length))
        with self._lock:
            given_up = [handle for _, _, handle in self._line if handle.cancelled.is_set()]
            if given_up:
                self._line = deque(entry for entry in self._line if entry[2] not in given_up)
        for handle in given_up:
            passed = time.monotonic() - handle.submitted
            handle.put(Reply("", "", "cancelled", prompt_tokens=0, new_tokens=0, seconds=passed))
        return [sequence for sequence in self.running if sequence.handle.cancelled.is_set()]

    def admit(self) -> None:
        """Admit from the line what has room, and no more than the next pass can read."""
        unread = sum(sequence.uncomputed for sequence in self.running)
        while len(self.running) < self.max_batch and unread < self.prefill_tokens:
            if (head := self._next()) is None:
                return
            allocation = self.pool.allocate(head.block_hashes, head.prompt_length, head.capacity)
            if allocation is None:
                return
            self._head = None
            head.blocks, head.computed = allocation.blocks, allocation.cached_tokens
            self.reused_tokens += allocation.cached_tokens
            self.running.append(head)
            unread += head.uncomputed

    def batch(self) -> Batch:
        """What comes next: prompts that are not read to their end, else a token of every running sequence."""
        chunks = []
        room = self.prefill_tokens
        for sequence in self.running:
            if sequence.in_prefill and room > 0:
                chunks.append(Chunk(sequence, min(sequence.uncomputed, room)))
                room -= chunks[-1].new
        return Batch(prefill=chunks) if chunks else Batch(decode=list(self.running))

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, finished or failed; its blocks are free for others."""
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)

    def handles(self) -> Iterator[RequestHandle]:
        """The handles of everything that waits or runs."""
        for _, _, handle in self._line:
            yield handle
        for sequence in self.running:
            yield sequence.handle
        if self._head is not None:
            yield self._head.handle

    def _next(self) -> Sequence | None:
        """The head of the line as a sequence; None where nobody waits."""
        while self._head is None:
            with self._lock:
                if not self._line:
                    return None
                request, options, handle = self._line.popleft()
            try:
                self._head = self.inputs.sequence(request, options, handle)
            except Exception as error:
                handle.put(error_for_caller(error, self.inputs.model.device))
        return self._head


def error_for_caller(error: BaseException, device: torch.device) -> BaseException:
    """Map an internal error to the caller's: a device without memory left is no fault of the request."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return MemoryUsedUp(f"{device} ran out of memory; try again when less is running.")
    return error
