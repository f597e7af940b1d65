"""The engines of the pipeline, working elsewhere: each has the interface of the one that works here.

Audio goes to the worker as arrays, a window at a time and straight to its machine; weights come from what is
installed there. What comes back is stored by the process that asked, as if it had been heard here.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from index.audio.decode import Decoded, decode_to_flac
from index.audio.windows import AudioWindow
from index.cluster.desk import TASK_SHARE, Pool, WorkerDied
from index.cluster.ray_session import TASK_RUNS, ClusterLink
from index.diarization.voice_embeddings import VoiceEncoder
from index.disk_space import noticing_full_disk
from index.recording_errors import MossAgentError
from index.records import Segment
from index.search.embeddings import BATCH, Embedder
from index.transcription.transcriber import Transcriber
from moss_audio.backend import Backend
from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Event, Options, Reply, Request

MOST_AT_ONCE = 64
"""Windows of one recording that are on their way at a time; each holds its audio (a minute is 4 MB)."""

AHEAD = 2
"""Times as many windows as the workers take at a time are on their way, so that none waits for the next, and
machines that join find something to do."""

GUESS = 8
"""Windows at a time before any worker was asked."""

TEXTS_AT_ONCE = 8 * BATCH
"""Texts that one call embeds."""

MOST_FILE_BYTES = 1 << 29
"""A larger file is decoded where it lies: sending it takes longer than reading it."""

PIECE_BYTES = 1 << 25
"""Files travel in pieces of 32 MB."""


class ClusterTranscriber:
    """A ``Transcriber`` whose windows are heard by the workers of a cluster.

    Args:
        link: The cluster.
        pool: Workers whose host is a ``TranscriberHost``.
        like: The engine as it would work here; it is asked what it wants, and not loaded.
    """

    def __init__(self, link: ClusterLink, pool: Pool, like: Transcriber) -> None:
        self._link = link
        self._pool = pool
        self.name = like.name
        self.times_words = like.times_words
        self.window_speech_seconds = like.window_speech_seconds
        self.max_window_seconds = like.max_window_seconds
        self.max_splits = like.max_splits
        self.windows_at_once = GUESS
        self.glossary: tuple[str, ...] = tuple(getattr(like, "glossary", ()))

    def prepare(self, stop: threading.Event | None = None) -> None:
        """See ``Transcriber``: waits for the first worker, and counts them."""
        room = self._link.session().room(self._pool, stop)
        self.windows_at_once = max(1, min(AHEAD * room, MOST_AT_ONCE))

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        """See ``Transcriber``."""
        found: tuple[str, float] | None = self._link.session().call(self._pool, "language", payload=audio)
        return found

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        """See ``Transcriber``."""
        # The samples travel as an array, which is not copied into a message.
        described = replace(window, audio=np.zeros(0, np.float32), stop=None)
        heard: list[Segment] = self._link.session().call(
            self._pool, "transcribe", (careful, self.glossary), (described, window.audio), window.stop
        )
        return heard


class ClusterBackend:
    """A MOSS-Audio ``Backend`` on the workers of a cluster; each answer comes whole.

    Args:
        link: The cluster.
        pool: Workers whose host is a ``BackendHost``.
        name: What people are shown.
        thinks: Whether it thinks before it answers.
    """

    def __init__(self, link: ClusterLink, pool: Pool, name: str, thinks: bool) -> None:
        self._link = link
        self._pool = pool
        self.name = name
        self.thinks = thinks
        self._at_once: int | None = None

    @property
    def at_once(self) -> int:
        """See ``Backend``."""
        return self._at_once or GUESS

    def loaded(self, cancel: threading.Event | None = None) -> Backend:
        """See ``Loads``: waits for the first worker, and counts them.

        Raises:
            MossAudioError: No worker can load it, or ``cancel`` was set.
        """
        try:
            self._at_once = self._link.session().room(self._pool, cancel) * AHEAD
        except MossAgentError as error:
            raise MossAudioError(str(error)) from error
        return self

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        answers: list[Reply | MossAudioError] = self._asked("ask", (list(requests), options), cancel)
        return answers

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        yield from self._asked("stream", (request, options), cancel)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        yield from self._asked("chat", (list(messages), tools, options), cancel)

    def _asked(self, what: str, payload: Any, cancel: threading.Event | None) -> Any:
        try:
            return self._link.session().call(self._pool, what, payload=payload, stop=cancel)
        except MossAgentError as error:
            raise MossAudioError(str(error)) from error

    def close(self) -> None:
        """See ``Backend``; the workers go on without this process."""


class ClusterVoices(VoiceEncoder):
    """A ``VoiceEncoder`` whose network runs on the workers, several batches at a time.

    Args:
        link: The cluster.
        pool: Workers whose host is a ``VectorHost``.
    """

    at_once = 4

    def __init__(self, link: ClusterLink, pool: Pool) -> None:
        super().__init__()
        self._link = link
        self._pool = pool

    def embed(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """See ``VoiceEncoder``."""
        if not len(windows):
            return super().embed(windows)
        found: np.ndarray = self._link.session().call(self._pool, "voices", payload=np.stack(windows))
        return found


class ClusterEmbedder(Embedder):
    """An ``Embedder`` that has passages embedded by the workers; a question is embedded here.

    Args:
        name: See ``Embedder``.
        link: The cluster.
        pool: Workers whose host is a ``VectorHost``.
    """

    def __init__(self, name: str, link: ClusterLink, pool: Pool) -> None:
        super().__init__(name)
        self._link = link
        self._pool = pool

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """See ``Embedder``."""
        if len(texts) < BATCH:
            # A correction, or a short note: quicker here than there and back.
            return super().encode_passages(texts)
        session = self._link.session()
        parts = [list(texts[at : at + TEXTS_AT_ONCE]) for at in range(0, len(texts), TEXTS_AT_ONCE)]

        def embed(part: list[str]) -> np.ndarray:
            found: np.ndarray = session.call(self._pool, "passages", payload=part)
            return found

        with ThreadPoolExecutor(min(len(parts), MOST_AT_ONCE), "embedding") as pool:
            begun = [pool.submit(copy_context().run, embed, part) for part in parts]
            return np.concatenate([future.result() for future in begun])


# --- decoding -----------------------------------------------------------------------------------------------


class ClusterDecoder:
    """``decode_to_flac`` on any machine of a cluster.

    Args:
        link: The cluster.
    """

    def __init__(self, link: ClusterLink) -> None:
        self._link = link

    def __call__(
        self,
        source: Path,
        target: Path,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        track: int | None = None,
    ) -> Decoded:
        """See ``decode_to_flac``; a file that is very large is decoded here.

        Raises:
            MossAgentError: The decoder was ended, wherever it was begun.
        """
        if source.stat().st_size > MOST_FILE_BYTES:
            return decode_to_flac(source, target, progress, cancelled, track)
        session = self._link.session()
        with source.open("rb") as file:
            pieces = [
                session.put(np.frombuffer(piece, np.uint8))
                for piece in iter(lambda: file.read(PIECE_BYTES), b"")
            ]
        try:
            decoded, copy = session.run(
                decode_there, (source.name, track, pieces), TASK_SHARE, cancelled, progress
            )
        except WorkerDied as error:
            raise MossAgentError(
                f"The decoder was ended {TASK_RUNS} times on the cluster while it read {source.name}, "
                "perhaps because the machines ran out of memory; try again, or without MOSS_AGENT_RAY."
            ) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        try:
            with noticing_full_disk(target.parent):
                partial.write_bytes(copy)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return decoded


def decode_there(
    note: Callable[[float], None], name: str, track: int | None, pieces: Sequence[Any]
) -> tuple[Decoded, np.ndarray]:
    """Decode a file that came in pieces; the task of ``ClusterDecoder``.

    Args:
        note: Called with the seconds that are done, not more than twice a second of them.
        name: The file's name; only its ending means anything here.
        track: See ``decode_to_flac``.
        pieces: References to its bytes.

    Returns:
        What became of it, and the bytes of the FLAC copy, uint8 ``[n_bytes]``.
    """
    import ray

    told = -math.inf

    def progress(seconds: float) -> None:
        nonlocal told
        if seconds - told >= NOTE_SECONDS:
            told = seconds
            note(seconds)

    folder = Path(tempfile.mkdtemp(prefix="moss-agent-"))
    try:
        # A person's own name may be no name on this machine; errors carry it all the same.
        source = folder / Path(name).name
        with source.open("wb") as file:
            for piece in pieces:
                file.write(ray.get(piece).data)
        target = folder / "heard.flac"
        decoded = decode_to_flac(source, target, progress, track=track)
        return decoded, np.fromfile(target, np.uint8)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


NOTE_SECONDS = 30.0
"""Seconds of audio between two notes of how far a decoding is."""
