"""The engine: many requests at once, one model, one thread.

    waiting → prepared, when its turn has come → admitted (all its pages are reserved) → prefill
            → decode, together with all others → done

Every step is either one prefill of packed prompts or one decoding step of all running sequences. A request
is admitted only when everything it can ever need fits, so memory cannot run out half way; one that could
never fit is refused with the numbers. Only the first of the line is prepared, and no more are admitted than
the next prefill takes, so that what waits holds no memory of the device.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from moss_audio.engine.block_pool import PagePool
from moss_audio.engine.encoder_cache import EncoderCache
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.engine.model_runner import Chosen, Steps, hear, read, stepping, stretches
from moss_audio.engine.options import Budget, EngineOptions
from moss_audio.engine.sequence import Preparer, Sequence, Statistics, Ticket
from moss_audio.errors import MemoryUsedUp, MossAudioError
from moss_audio.generation.loops import is_loop
from moss_audio.generation.requests import FREE, Options, Reply, Request, Stopped
from moss_audio.model.modeling import MossAudioModel


@dataclass(frozen=True)
class _Pending:
    """A step that was launched and not looked at."""

    sequences: list[Sequence]
    chosen: Chosen


class QueueFull(MossAudioError):
    """Too many requests wait; try again later."""


class Engine:
    """Answers requests with a model, continuously batched.

    Args:
        model: With its processor; on its device, in evaluation mode.
        options: Sizes.

    Raises:
        NotEnoughMemory: There is no room for a cache worth having.
    """

    def __init__(self, model: MossAudioModel, options: EngineOptions | None = None) -> None:
        self.model = model.eval()
        self.options = options or EngineOptions()
        self.processor = model.processor
        self.device = model.device
        budget = Budget.of(model, self.options)
        # The last page is not handed out: on a GPU, rows that fill a batch up write there.
        self.pool = PagePool(budget.pages - 1, self.options.page_size)
        shape = CacheShape.of(model.config.language_config, budget.pages, self.options.page_size)
        self.cache = KVCache(shape, model.dtype, model.device)
        self.hearing = EncoderCache(model, budget.encoder_bytes)
        most = min(self.pool.n_pages * self.pool.page_size, self.options.max_length)
        self._preparer = Preparer(model, self.options.page_size, most)
        self._waiting: deque[tuple[Request, Options, Ticket]] = deque()
        self._head: Sequence | None = None
        self._running: list[Sequence] = []
        self._pending: _Pending | None = None
        self._steps = self._stepping()
        self._counted: Counter[str] = Counter()
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def _stepping(self) -> Steps:
        longest = min(self.pool.n_pages, self.pool.pages_for(self.options.max_length))
        return stepping(self.model, self.cache, self.options.max_batch, longest)

    def submit(self, request: Request, options: Options = FREE) -> Ticket:
        """Queue a request; its events come from the ticket.

        Raises:
            QueueFull: Too many wait already.
        """
        ticket = Ticket()
        with self._work:
            if self._closed:
                raise MossAudioError("The engine was closed.")
            if len(self._waiting) >= self.options.max_waiting:
                raise QueueFull(f"{len(self._waiting)} requests wait already; try again later.")
            self._waiting.append((request, options, ticket))
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="moss-audio-engine", daemon=True)
                self._thread.start()
            self._work.notify()
        return ticket

    def close(self) -> None:
        """End all requests and the thread."""
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join()

    def statistics(self) -> Statistics:
        """What has been done, and what is going on."""
        counted = self._counted
        kinds: tuple[Stopped, ...] = ("end", "length", "cancelled", "loop")
        return Statistics(
            prompt_tokens=counted["prompt"],
            reused_tokens=counted["reused"],
            new_tokens=counted["new"],
            finished=counted["finished"],
            running=len(self._running),
            waiting=len(self._waiting) + (self._head is not None),
            pages_free=self.pool.available,
            pages=self.pool.n_pages,
            windows_encoded=self.hearing.encoded,
            stopped={kind: counted[kind] for kind in kinds if counted[kind]},
        )

    # The thread

    def _loop(self) -> None:
        # The current device belongs to a thread, and is the first one where nothing else was said.
        on_device: AbstractContextManager[object] = nullcontext()
        if self.device.type == "cuda":
            on_device = torch.cuda.device(self.device)
        with on_device:
            self._serve()
        everyone = [ticket for _, _, ticket in self._waiting] + [one.ticket for one in self._running]
        if self._head is not None:
            everyone.append(self._head.ticket)
        for ticket in everyone:
            ticket.put(MossAudioError("The engine was closed before the answer was finished."))

    def _serve(self) -> None:
        while True:
            with self._work:
                while not (self._waiting or self._head or self._running or self._closed):
                    self._work.wait()
                if self._closed:
                    return
            try:
                self.step()
            except BaseException as error:
                # Whatever it was concerned all sequences of the step; those that wait can still be served.
                self._pending = None
                for one in list(self._running):
                    self._fail(one, error)

    def step(self) -> None:
        """Admit what fits, then one prefill or one decoding step."""
        self._drop_cancelled()
        self._admit()
        if not self._running or any(one.in_prefill for one in self._running):
            self._look()
        if any(one.in_prefill for one in self._running):
            self._prefill()
        elif self._running:
            self._decode()

    def _drop_cancelled(self) -> None:
        for one in [one for one in self._running if one.ticket.cancelled.is_set()]:
            self._finish(one, "cancelled")
        if self._head is not None and self._head.ticket.cancelled.is_set():
            head, self._head = self._head, None
            head.ticket.put(head.writer.reply("cancelled", head.prompt_length))
        with self._work:
            given_up = [ticket for _, _, ticket in self._waiting if ticket.cancelled.is_set()]
            if given_up:
                self._waiting = deque(one for one in self._waiting if one[2] not in given_up)
        for ticket in given_up:
            passed = time.monotonic() - ticket.submitted
            ticket.put(Reply("", "", "cancelled", prompt_tokens=0, new_tokens=0, seconds=passed))

    def _admit(self) -> None:
        """Take in from the line what has room, and no more than the next pass can read."""
        unread = sum(one.prompt_length - one.computed for one in self._running if one.in_prefill)
        while len(self._running) < self.options.max_batch and unread < self.options.prefill_tokens:
            if (head := self._prepared()) is None:
                return
            if (grant := self.pool.admit(head.names, head.prompt_length, head.capacity)) is None:
                return
            self._head = None
            head.pages, head.computed = grant.pages, grant.cached_tokens
            self._counted["reused"] += grant.cached_tokens
            self._running.append(head)
            unread += head.prompt_length - head.computed

    def _prepared(self) -> Sequence | None:
        """The first of the line as a sequence; None where nobody waits."""
        while self._head is None:
            with self._work:
                if not self._waiting:
                    return None
                request, options, ticket = self._waiting.popleft()
            try:
                self._head = self._preparer.sequence(request, options, ticket)
            except Exception as error:
                ticket.put(self._told(error))
        return self._head

    def _prefill(self) -> None:
        chosen = stretches((one for one in self._running if one.in_prefill), self.options.prefill_tokens)
        failed = dict(hear(self.hearing, [one for one, _ in chosen]))
        for one, error in failed.items():
            self._fail(one, error)
        if not (chosen := [pair for pair in chosen if pair[0] not in failed]):
            return
        done = read(self.model, self.cache, chosen)
        self._counted["prompt"] += done.tokens
        for one, token in done.first:
            self.pool.remember(one.names, one.pages)
            self._write(one, token)

    def _decode(self) -> None:
        """Launch a step, and look at the tokens of the one before, while this one runs where it can."""
        follows = self._pending is not None and self._pending.sequences == self._running
        if not (follows and self._steps.looks_late):
            self._look()
        if not self._running:
            return
        before, sequences = self._pending, list(self._running)
        if before is None:
            chosen = self._steps.launch(sequences, None, {})
        else:
            # One token of each was not looked at yet, so what must come next is what that one must be.
            forced = {row: one.must for row, one in enumerate(sequences) if one.must is not None}
            chosen = self._steps.launch(sequences, before.chosen, forced)
        for one in sequences:
            one.computed += 1
        self._look()
        self._pending = _Pending(sequences, chosen)
        if not self._steps.looks_late:
            self._look()

    def _look(self) -> None:
        """Take in the tokens of the last step; a sequence that has ended meanwhile wants none."""
        pending, self._pending = self._pending, None
        if pending is not None:
            for one, token in zip(pending.sequences, pending.chosen.read(), strict=True):
                if one in self._running:
                    self._write(one, token)

    def _write(self, one: Sequence, token: int) -> None:
        """Hand a token out, and end its sequence if that was the last."""
        token = token if one.must is None else one.must
        self._counted["new"] += 1
        for event in one.write(token):
            one.ticket.put(event)
        if one.writer.ended:
            self._finish(one, "end")
        elif one.options.stop_loops and is_loop(one.written):
            self._finish(one, "loop")
        elif len(one.ids) >= one.capacity:
            self._finish(one, "length")

    def _finish(self, one: Sequence, stopped: Stopped) -> None:
        self._running.remove(one)
        self.pool.release(one.pages)
        self._counted["finished"] += 1
        self._counted[stopped] += 1
        for event in one.writer.finish():
            one.ticket.put(event)
        one.ticket.put(one.writer.reply(stopped, one.prompt_length))

    def _fail(self, one: Sequence, error: BaseException) -> None:
        self._running.remove(one)
        self.pool.release(one.pages)
        one.ticket.put(self._told(error))

    def _told(self, error: BaseException) -> BaseException:
        """The error as who asked is told it."""
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return MemoryUsedUp(f"The memory of {self.device} was used up; try again when less is going on.")
        return error
