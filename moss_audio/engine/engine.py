"""The engine: many requests at once, one model, one thread.

Every step is either one prefill of packed prompts or one decoding step of all running sequences (continuous
batching). On a GPU a decoding step is launched before the tokens of the one before it are read, so that host
and device work at the same time.

``EngineOptions`` says how large an engine is, and ``Budget`` how much memory its caches get.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from moss_audio.checkpoints.memory import GB, available
from moss_audio.engine.encoder_cache import WINDOWS_AT_ONCE, EncoderCache
from moss_audio.engine.kv_cache import BlockPool, CacheShape, KVCache, bytes_per_token
from moss_audio.engine.model_runner import DecodeOutput, ModelRunner, PrefillOutput
from moss_audio.engine.scheduler import Batch, Scheduler, error_for_caller
from moss_audio.engine.sequence import InputProcessor, RequestHandle, Sequence
from moss_audio.errors import MossAudioError, NotEnoughMemory
from moss_audio.generation.loops import is_loop
from moss_audio.generation.requests import FREE, Options, Request, Stopped
from moss_audio.model.mel import N_MELS
from moss_audio.model.modeling import MossAudioModel


@dataclass(frozen=True)
class EngineOptions:
    """Sizes of an engine.

    Attributes:
        max_batch: Sequences that run at the same time.
        block_size: Tokens in a block of the KV cache; torch's paged attention wants 256 on a GPU.
        cache_bytes: Bytes of the KV cache; None takes ``cache_share`` of the free memory, or less where
            remembered windows and the work itself need the rest.
        cache_share: See ``cache_bytes``.
        max_tokens: Tokens of the KV cache at most, however much memory there is.
        max_length: Tokens of one sequence at most; by default what the released models were trained for.
        prefill_tokens: Prompt tokens in one pass; longer prompts take several.
        encoder_bytes: Bytes for encoder output that is remembered; at most a tenth of the free memory.
        max_waiting: Requests that may wait; more are refused.
        cuda_graphs: Decode with CUDA graphs where they can be used; False runs the layers one by one.
    """

    max_batch: int = 64
    block_size: int = 256
    cache_bytes: int | None = None
    cache_share: float = 0.6
    max_tokens: int = 1_000_000
    max_length: int = 40_960
    prefill_tokens: int = 8192
    encoder_bytes: int = GB
    max_waiting: int = 4096
    cuda_graphs: bool = True


@dataclass(frozen=True)
class Budget:
    """How the free memory is divided.

    Attributes:
        blocks: Blocks of the KV cache.
        encoder_bytes: Bytes for encoder output that is remembered.
    """

    blocks: int
    encoder_bytes: int

    @classmethod
    def of(cls, model: MossAudioModel, options: EngineOptions) -> Budget:
        """The budget for a model that is loaded already.

        Raises:
            NotEnoughMemory: There is no room for a cache worth having.
        """
        free = available(model.device)
        windows = min(options.encoder_bytes, free // 10)
        size = options.cache_bytes
        if size is None:
            size = max(0, min(int(options.cache_share * free), free - windows - workspace(model, options)))
        token = bytes_per_token(model.config.language_config, model.dtype)
        tokens = min(size // token, options.max_tokens)
        if tokens < 2 * options.block_size:
            raise NotEnoughMemory(
                f"The KV cache needs {2 * token * options.block_size / GB:.3f} GB for its first blocks "
                f"and gets {size / GB:.3f} GB of the {free / GB:.2f} GB free; choose a smaller model, or "
                "free memory."
            )
        return cls(tokens // options.block_size, windows)


def workspace(model: MossAudioModel, options: EngineOptions) -> int:
    """Bytes that the largest passes take beside the cache, from their shapes: calculated, not measured."""
    language, audio = model.config.language_config, model.config.audio_config
    hidden, taps = language.hidden_size, len(model.deepstack_audio_merger_list)
    # The first convolution's output, before and after its activation, is the most an encoder pass holds.
    frames = audio.window_frames or 0
    encoder = 2 * WINDOWS_AT_ONCE * audio.downsample_hidden_size * (N_MELS // 2) * (frames // 2)
    # Both halves of the MLP and their product, a handful of rows of the model's width, and audio features.
    decoder = options.prefill_tokens * (3 * language.intermediate_size + 8 * hidden)
    features = 2 * options.prefill_tokens * (1 + taps) * hidden
    logits = 4 * options.max_batch * language.vocab_size
    return (max(encoder, decoder) + features + logits) * model.dtype.itemsize


@dataclass(frozen=True)
class Statistics:
    """What an engine has done since it was started, and what is going on.

    Attributes:
        prompt_tokens: Prompt tokens computed.
        reused_tokens: Prompt tokens that were in the cache already.
        new_tokens: Tokens written.
        finished: Requests that were answered.
        running: Sequences that are read or written at present.
        waiting: Requests that are not admitted yet.
        blocks_free: Blocks of the KV cache that no sequence uses.
        blocks: Blocks of the KV cache.
        windows_encoded: Windows that the audio encoder has worked on.
        stopped: How many answers ended in which way.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    finished: int = 0
    running: int = 0
    waiting: int = 0
    blocks_free: int = 0
    blocks: int = 0
    windows_encoded: int = 0
    stopped: dict[Stopped, int] = field(default_factory=dict)


class Engine:
    """Answers requests with a model, continuously batched.

    Args:
        model: With its processor; on its device, in evaluation mode.
        options: Sizes.
        runner: Class of what computes the passes.

    Raises:
        NotEnoughMemory: There is no room for a cache worth having.
    """

    def __init__(
        self,
        model: MossAudioModel,
        options: EngineOptions | None = None,
        runner: type[ModelRunner] = ModelRunner,
    ) -> None:
        self.model = model.eval()
        self.options = options or EngineOptions()
        self.processor = model.processor
        self.device = model.device
        budget = Budget.of(model, self.options)
        # The last block is not handed out: on a GPU, the rows that pad a batch write there.
        self.pool = BlockPool(budget.blocks - 1, self.options.block_size)
        self.max_length = min(self.pool.tokens, self.options.max_length)
        """Tokens that one request, prompt and answer together, may take."""
        shape = CacheShape.of(model.config.language_config, budget.blocks, self.options.block_size)
        self.cache = KVCache(shape, model.dtype, model.device)
        self.encoder_cache = EncoderCache(model, budget.encoder_bytes)
        inputs = InputProcessor(model, self.options.block_size, self.max_length)
        self.scheduler = Scheduler(
            self.pool,
            inputs,
            self.options.max_batch,
            self.options.prefill_tokens,
            self.options.max_waiting,
        )
        max_blocks = self.pool.blocks_for(self.max_length)
        self.runner = runner(
            model,
            self.cache,
            self.encoder_cache,
            self.options.max_batch,
            max_blocks,
            self.options.cuda_graphs,
        )
        self._in_flight: DecodeOutput | None = None
        """A decoding step that was launched and whose tokens were not read yet."""
        self._counted: Counter[str] = Counter()
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, request: Request, options: Options = FREE) -> RequestHandle:
        """Queue a request; its answer comes from the handle.

        Raises:
            QueueFull: Too many wait already.
            MossAudioError: The engine was closed.
        """
        handle = self.enqueue(request, options)
        with self._work:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="moss-audio-engine", daemon=True)
                self._thread.start()
        return handle

    def enqueue(self, request: Request, options: Options = FREE) -> RequestHandle:
        """Queue a request without starting the engine's thread, for whoever calls ``step`` instead.

        Raises:
            QueueFull: Too many wait already.
            MossAudioError: The engine was closed.
        """
        handle = RequestHandle()
        with self._work:
            if self._closed:
                raise MossAudioError("The engine was closed.")
            self.scheduler.add(request, options, handle)
            self._work.notify()
        return handle

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
            reused_tokens=self.scheduler.reused_tokens,
            new_tokens=counted["new"],
            finished=counted["finished"],
            running=len(self.scheduler.running),
            waiting=self.scheduler.waiting,
            blocks_free=self.pool.available,
            blocks=self.pool.n_blocks,
            windows_encoded=self.encoder_cache.encoded,
            stopped={kind: counted[kind] for kind in kinds if counted[kind]},
        )

    # --- the thread ----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        # The current device belongs to a thread, and is the first one where nothing else was said.
        on_device: AbstractContextManager[object] = nullcontext()
        if self.device.type == "cuda":
            on_device = torch.cuda.device(self.device)
        with on_device:
            self._serve()
        for handle in self.scheduler.handles():
            handle.put(MossAudioError("The engine was closed before the answer was finished."))

    def _serve(self) -> None:
        while True:
            with self._work:
                while not (self.scheduler.has_work or self._closed):
                    self._work.wait()
                if self._closed:
                    return
            try:
                self.step()
            except BaseException as error:
                # Whatever it was concerned all sequences of the step; those that wait can still be served.
                self._in_flight = None
                for sequence in list(self.scheduler.running):
                    self._fail(sequence, error)

    # --- one step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One prefill of packed prompts, or one decoding step of all running sequences."""
        batch = self._schedule()
        output = self._run(batch)
        self._finish(output)

    def _schedule(self) -> Batch:
        """Drop what was cancelled, admit what fits, and decide what is computed next."""
        for sequence in self.scheduler.cancelled():
            self._end(sequence, "cancelled")
        self.scheduler.admit()
        batch = self.scheduler.batch()
        if self._in_flight is None or (
            self.runner.overlaps_host and batch.decode == self._in_flight.sequences
        ):
            return batch
        # The step in flight is not simply continued, so it must be known which sequences it has ended.
        self._read_in_flight()
        return self.scheduler.batch()

    def _run(self, batch: Batch) -> PrefillOutput | DecodeOutput | None:
        """Compute a batch, or launch it where the device works while the host goes on."""
        if batch.prefill:
            return self.runner.prefill(batch.prefill)
        if batch.decode:
            return self.runner.decode(batch.decode, self._in_flight)
        return None

    def _finish(self, output: PrefillOutput | DecodeOutput | None) -> None:
        """Hand out the tokens that are known by now, and end the sequences that are finished with them."""
        if isinstance(output, PrefillOutput):
            for sequence, error in output.failed:
                self._fail(sequence, error)
            self._counted["prompt"] += output.tokens
            for sequence, token in output.first:
                self.pool.remember(sequence.block_hashes, sequence.blocks)
                self._write(sequence, token)
        elif output is not None:
            self._read_in_flight()
            self._in_flight = output
            if not self.runner.overlaps_host:
                self._read_in_flight()

    def _read_in_flight(self) -> None:
        """Take in the tokens of the step in flight; a sequence that has ended meanwhile wants none."""
        output, self._in_flight = self._in_flight, None
        if output is not None:
            for sequence, token in zip(output.sequences, output.read(), strict=True):
                if sequence in self.scheduler.running:
                    self._write(sequence, token)

    def _write(self, sequence: Sequence, token: int) -> None:
        """Hand a token out, and end its sequence if that was the last."""
        token = token if sequence.forced is None else sequence.forced
        self._counted["new"] += 1
        for event in sequence.write(token):
            sequence.handle.put(event)
        if sequence.writer.ended:
            self._end(sequence, "end")
        elif sequence.options.stop_loops and is_loop(sequence.written):
            self._end(sequence, "loop")
        elif len(sequence.ids) >= sequence.capacity:
            self._end(sequence, "length")

    def _end(self, sequence: Sequence, stopped: Stopped) -> None:
        self.scheduler.remove(sequence)
        self._counted["finished"] += 1
        self._counted[stopped] += 1
        sequence.finish(stopped)

    def _fail(self, sequence: Sequence, error: BaseException) -> None:
        self.scheduler.remove(sequence)
        sequence.handle.put(error_for_caller(error, self.device))
