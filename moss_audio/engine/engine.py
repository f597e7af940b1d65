"""The engine: many requests at once, one model, one thread.

    waiting → admitted (all its pages are reserved) → prefill → decode, together with all others → done

Every step is either one prefill of packed prompts or one decoding step of all running sequences. A request
is admitted only when everything it can ever need fits, so memory cannot run out half way; one that could
never fit is refused with the numbers.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from moss_audio.answer_writer import AnswerWriter
from moss_audio.answers import FREE, Options, Reply, Request, Stopped
from moss_audio.engine.cache import CacheShape, KVCache, bytes_per_token
from moss_audio.engine.decoding import Chosen, Eager, Graphs, Steps
from moss_audio.engine.hearing import EncoderCache
from moss_audio.engine.kernel import reads_pages
from moss_audio.engine.pages import PagePool
from moss_audio.engine.passes import Stack, pack, run
from moss_audio.engine.sampling import Sampling, choose
from moss_audio.engine.sequence import Sequence, Statistics, Ticket
from moss_audio.errors import MossAudioError, NotEnoughMemory
from moss_audio.generation import complete_prompt, stop_ids, thinking_budget, thinks
from moss_audio.memory import available
from moss_audio.model import AudioFeatures, MossAudioModel
from moss_audio.repetition import is_loop
from moss_audio.thinking import prompt_opens_thought

GB = 1_000_000_000


@dataclass(frozen=True)
class EngineOptions:
    """Sizes of an engine.

    Attributes:
        max_batch: Sequences that run at the same time.
        page_size: Tokens of a page of the KV cache; torch's paged attention wants 256 on a GPU.
        cache_bytes: Of the KV cache; None takes ``cache_share`` of the memory that is free.
        cache_share: See there.
        max_tokens: Positions of the KV cache at most, however much memory there is.
        max_length: Positions of one sequence at most; by default what the released models know.
        prefill_tokens: Prompt tokens in one pass; longer prompts take several.
        encoder_bytes: For windows heard before.
        max_waiting: Requests that may wait; more are refused.
    """

    max_batch: int = 64
    page_size: int = 256
    cache_bytes: int | None = None
    cache_share: float = 0.6
    max_tokens: int = 1_000_000
    max_length: int = 40_960
    prefill_tokens: int = 8192
    encoder_bytes: int = GB
    max_waiting: int = 4096


Audible = tuple[Sequence, torch.Tensor, torch.Tensor]
"""A sequence, the log-mel of its clips and their frame counts."""


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
        config = model.config.language_config
        pages = self._page_count(bytes_per_token(config, model.dtype))
        # The last page is not handed out: on a GPU, rows that fill a batch up write there.
        self.pool = PagePool(pages - 1, self.options.page_size)
        shape = CacheShape.of(config, pages, self.options.page_size)
        self.cache = KVCache(shape, model.dtype, model.device)
        self.hearing = EncoderCache(model, self.options.encoder_bytes)
        self._stops = frozenset(stop_ids(model))
        self._thinks = thinks(model)
        self._waiting: deque[tuple[Request, Options, Ticket]] = deque()
        self._admissible: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._pending: _Pending | None = None
        self._steps = self._stepping()
        self._writers: dict[int, AnswerWriter] = {}
        self._counted: Counter[str] = Counter()
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def _stepping(self) -> Steps:
        if not reads_pages(self.device, self.model.dtype, self.options.page_size):
            return Eager(self.model, self.cache)
        longest = min(self.pool.n_pages, self.pool.pages_for(self.options.max_length))
        return Graphs(self.model, self.cache, self.options.max_batch, longest)

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
            waiting=len(self._waiting) + len(self._admissible),
            pages_free=self.pool.available,
            pages=self.pool.n_pages,
            windows_encoded=self.hearing.encoded,
            stopped={kind: counted[kind] for kind in kinds if counted[kind]},
        )

    # The thread

    def _loop(self) -> None:
        while True:
            with self._work:
                while not (self._waiting or self._admissible or self._running or self._closed):
                    self._work.wait()
                if self._closed:
                    break
            try:
                self.step()
            except BaseException as error:
                # Whatever it was concerned all sequences of the step; those that wait can still be served.
                self._pending = None
                self._fail(self._running, error)
        everyone = [ticket for _, _, ticket in self._waiting]
        everyone += [one.ticket for one in (*self._admissible, *self._running)]
        for ticket in everyone:
            ticket.put(MossAudioError("The engine was closed before the answer was finished."))

    def step(self) -> None:
        """Admit what fits, then one prefill or one decoding step."""
        self._drop_cancelled()
        self._admit()
        if not self._running or any(one.in_prefill for one in self._running):
            self._look()
        if pending := [one for one in self._running if one.in_prefill]:
            self._prefill(pending)
        elif self._running:
            self._decode()

    def _drop_cancelled(self) -> None:
        for one in [one for one in self._running if one.ticket.cancelled.is_set()]:
            self._finish(one, "cancelled")
        for one in [one for one in self._admissible if one.ticket.cancelled.is_set()]:
            self._admissible.remove(one)
            one.ticket.put(self._writers.pop(id(one)).reply("cancelled", one.prompt_length))
        with self._work:
            given_up = [ticket for _, _, ticket in self._waiting if ticket.cancelled.is_set()]
            if given_up:
                self._waiting = deque(one for one in self._waiting if one[2] not in given_up)
        for ticket in given_up:
            ticket.put(Reply("", "", "cancelled", prompt_tokens=0, new_tokens=0, seconds=0.0))

    def _admit(self) -> None:
        while len(self._running) < self.options.max_batch:
            while not self._admissible:
                if not self._prepare():
                    return
            sequence = self._admissible[0]
            grant = self.pool.admit(sequence.keys, sequence.capacity)
            if grant is None:
                return
            self._admissible.popleft()
            sequence.pages, sequence.computed = grant.pages, grant.cached_tokens
            self._counted["reused"] += grant.cached_tokens
            self._running.append(sequence)

    def _prepare(self) -> bool:
        """Turn waiting requests into sequences, their audio encoded in one batch; False if none wait."""
        room = self.options.max_batch - len(self._running)
        with self._work:
            taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        prepared = []
        for request, options, ticket in taken:
            try:
                prepared.append(self._sequence(request, options, ticket))
            except Exception as error:
                ticket.put(error)
        unheard = self._hear_each([(one, *audio) for one, audio in prepared if audio is not None])
        self._admissible.extend(one for one, _ in prepared if one not in unheard)
        return bool(taken)

    def _sequence(
        self, request: Request, options: Options, ticket: Ticket
    ) -> tuple[Sequence, tuple[torch.Tensor, torch.Tensor] | None]:
        """A request as ids, and its features if it has audio."""
        prompt = complete_prompt(request, options.thinking is False and self._thinks)
        inputs = self.processor(prompt, list(request.audios) or None, device=self.device)
        ids = inputs["input_ids"][0].tolist()
        there = min(self.pool.n_pages * self.pool.page_size, self.options.max_length)
        options = options.within(there - len(ids))
        opened = prompt_opens_thought(prompt)
        generator = None
        if options.seed is not None:
            generator = torch.Generator(self.device).manual_seed(options.seed)
        sequence = Sequence(
            ids=ids,
            prompt_length=len(ids),
            audio=inputs["audio_input_mask"][0].nonzero().flatten().tolist(),
            features=None,
            keys=list(ids),
            options=options,
            sampling=Sampling(options.temperature, options.top_p, options.top_k, generator),
            stops=self._stops,
            forced=self._forced(options, opened),
            ticket=ticket,
        )
        if sequence.capacity > there:
            raise NotEnoughMemory(
                f"This request can take {sequence.capacity:,} tokens ({len(ids):,} of them the prompt), and "
                f"the engine holds {there:,}; choose shorter audio, or a smaller max_new_tokens."
            )
        self._writers[id(sequence)] = AnswerWriter(self.processor, self._stops, opened)
        audio = (inputs["audio_data"], inputs["audio_data_seqlens"]) if request.audios else None
        return sequence, audio

    def _forced(self, options: Options, opened: bool) -> Callable[[list[int]], int | None] | None:
        """What must come next after these new ids, for a thought that uses up its budget."""
        budget = thinking_budget(self.processor.tokenizer, options, 0, [opened])
        return None if budget is None else lambda written: budget.forced(written, opened)

    def _hear_each(self, audible: list[Audible]) -> list[Sequence]:
        """Encode audio: together, or where that fails one by one, so that a failure is only its own."""
        try:
            self._hear(audible)
        except Exception:
            unheard = []
            for one in audible:
                try:
                    self._hear([one])
                except Exception as error:
                    unheard.append(one[0])
                    self._drop(one[0], error)
            return unheard
        return []

    def _hear(self, audible: list[Audible]) -> None:
        """Encode the audio of some sequences, all windows in one batch."""
        if not audible:
            return
        width = max(mel.shape[-1] for _, mel, _ in audible)
        mel = torch.cat([torch.nn.functional.pad(one, (0, width - one.shape[-1])) for _, one, _ in audible])
        clips, names = self.hearing.features(mel, torch.cat([frames for _, _, frames in audible]))
        first = 0
        for sequence, own, _ in audible:
            chosen = slice(first, first + own.shape[0])
            first += own.shape[0]
            sequence.features = _joined(clips[chosen])
            # What is heard at a position: the clips, and which of their tokens it is.
            name = b"".join(names[chosen])
            for number, position in enumerate(sequence.audio):
                sequence.keys[position] = name + number.to_bytes(4, "big")

    def _prefill(self, pending: Iterable[Sequence]) -> None:
        chosen, room = [], self.options.prefill_tokens
        for one in pending:
            new = min(one.prompt_length - one.computed, room)
            if new <= 0:
                break
            chosen.append((one, new))
            room -= new
        packed = pack([(s.computed, new, s.pages) for s, new in chosen], self.pool.page_size, self.device)
        ids = [token for s, new in chosen for token in s.ids[s.computed : s.computed + new]]
        hidden, stack = self._embed(ids, chosen)
        logits = run(self.model, hidden, packed, self.cache, stack)
        ready = []
        for row, (one, new) in enumerate(chosen):
            self._counted["prompt"] += new
            one.computed += new
            if not one.in_prefill:
                one.features = None
                self.pool.remember(one.keys, one.pages)
                ready.append((row, one))
        if ready:
            settings = [one.sampling for _, one in ready]
            tokens = choose(logits[[row for row, _ in ready]], settings).tolist()
            for (_, one), token in zip(ready, tokens, strict=True):
                self._write(one, token)

    def _embed(self, ids: list[int], chosen: list[tuple[Sequence, int]]) -> tuple[torch.Tensor, Stack | None]:
        """Embeddings of packed prompts with their audio in place, and their DeepStack rows."""
        with torch.inference_mode():
            hidden = self.model.get_input_embeddings()(torch.tensor(ids, device=self.device))
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
            index = torch.tensor(places, device=self.device)
            embeds, *stacks = (torch.cat(list(column)) for column in zip(*parts, strict=True))
            return hidden.index_copy(0, index, embeds.to(hidden)), Stack(index, tuple(stacks))

    def _decode(self) -> None:
        """Launch a step, and look at the tokens of the one before, while this one runs where it can."""
        follows = self._pending is not None and self._pending.sequences == self._running
        if not (follows and self._can_look_late()):
            self._look()
        if not self._running:
            return
        before, sequences = self._pending, list(self._running)
        chosen = self._steps.launch(sequences, before.chosen if before is not None else None)
        for one in sequences:
            one.computed += 1
        self._look()
        self._pending = _Pending(sequences, chosen)
        if not self._can_look_late():
            self._look()

    def _can_look_late(self) -> bool:
        return self._steps.looks_late and all(one.forced is None for one in self._running)

    def _look(self) -> None:
        """Take in the tokens of the last step; a sequence that has ended meanwhile wants none."""
        pending, self._pending = self._pending, None
        if pending is not None:
            for one, token in zip(pending.sequences, pending.chosen.read(), strict=True):
                if one in self._running:
                    self._write(one, token)

    def _write(self, one: Sequence, token: int) -> None:
        """Hand a token out, and end its sequence if that was the last."""
        if one.forced is not None and (must := one.forced(one.written)) is not None:
            token = must
        one.ids.append(token)
        self._counted["new"] += 1
        for event in self._writers[id(one)].add(token):
            one.ticket.put(event)
        if token in one.stops:
            self._finish(one, "end")
        elif one.options.stop_loops and is_loop(one.written):
            self._finish(one, "loop")
        elif len(one.ids) >= one.capacity:
            self._finish(one, "length")

    def _finish(self, one: Sequence, stopped: Stopped) -> None:
        self._running.remove(one)
        self.pool.release(one.pages)
        writer = self._writers.pop(id(one))
        self._counted["finished"] += 1
        self._counted[stopped] += 1
        for event in writer.finish():
            one.ticket.put(event)
        one.ticket.put(writer.reply(stopped, one.prompt_length))

    def _fail(self, sequences: list[Sequence], error: BaseException) -> None:
        for one in list(sequences):
            self._running.remove(one)
            self.pool.release(one.pages)
            self._drop(one, error)

    def _drop(self, one: Sequence, error: BaseException) -> None:
        """Forget a sequence that holds no pages; who asked is told why."""
        if isinstance(error, torch.cuda.OutOfMemoryError):
            error = NotEnoughMemory(f"The memory of {self.device} was used up; ask for less at once.")
        self._writers.pop(id(one), None)
        one.ticket.put(error)

    def _page_count(self, token_bytes: int) -> int:
        options = self.options
        there = available(self.device)
        size = options.cache_bytes if options.cache_bytes is not None else int(options.cache_share * there)
        tokens = min(size // token_bytes, options.max_tokens)
        if tokens < 2 * options.page_size:
            raise NotEnoughMemory(
                f"The KV cache needs {2 * token_bytes * options.page_size / GB:.3f} GB for its first pages "
                f"and gets {size / GB:.3f} GB of the {there / GB:.2f} GB free; choose a smaller model, or "
                "free memory."
            )
        return tokens // options.page_size


def _joined(clips: list[AudioFeatures]) -> AudioFeatures:
    """Features of several clips as those of one."""
    return AudioFeatures(
        embeds=torch.cat([one.embeds for one in clips]),
        deepstack=tuple(torch.cat(rows) for rows in zip(*(one.deepstack for one in clips), strict=True)),
    )
