"""The packaged models, held in memory once a process: each library of a test would load them anew.

Their files are checked once as well, as long as nobody touches them. What a test makes of a model's folder,
or of where packages lie, is looked at as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from index.search import embeddings
from index.transcription import whisper
from index.transcription.whisper import WhisperTranscriber

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from index.transcription.whisper_languages import LanguageWhisper


def load_once(patch: pytest.MonkeyPatch) -> None:
    """Have the embedder of sentences and Whisper share what was loaded before in this process."""
    from index import weights

    check, load, load_whisper = weights.check_sha256, embeddings._load, WhisperTranscriber.load
    lock = threading.Lock()
    known: set[tuple[Any, ...]] = set()
    embedders: dict[Path, SentenceTransformer] = {}
    whispers: dict[tuple[Any, ...], LanguageWhisper] = {}

    def checked(path: Path, digest: str) -> None:
        if _state(path, digest) not in known:
            check(path, digest)
            known.add(_state(path, digest))

    def embedder(source: str) -> SentenceTransformer:
        if source != embeddings.PACKAGED:
            return load(source)
        with lock:
            folder = embeddings.packaged_folder()
            if folder not in embedders:
                model = embedders[folder] = load(source)
                # Each embedder keeps threads apart in a model of its own.
                apart = threading.Lock()
                for name in ("encode_document", "encode_query"):
                    setattr(model, name, _one_at_a_time(getattr(model, name), apart))
            return embedders[folder]

    def hearing(self: WhisperTranscriber) -> LanguageWhisper:
        if self._loaded is None and self.model in weights.PACKAGED_WHISPER:
            folder = whisper.whisper_folder(self.model, self.cache, self.ready)
            with lock:
                state = (_state(folder / "model.bin", self.model), self._cores, self.windows_at_once)
                if state not in whispers:
                    whispers[state] = load_whisper(self)
                self._loaded = whispers[state]
        return load_whisper(self)

    patch.setattr(weights, "check_sha256", checked)
    patch.setattr(embeddings, "check_sha256", checked)
    patch.setattr(embeddings, "_load", embedder)
    patch.setattr(WhisperTranscriber, "load", hearing)


def _state(path: Path, about: str) -> tuple[Any, ...]:
    """What changes with every change of a file."""
    try:
        found = path.stat()
    except OSError:
        return (path, about)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, about)


def _one_at_a_time(work: Callable[..., Any], apart: threading.Lock) -> Callable[..., Any]:
    def alone(*given: Any, **named: Any) -> Any:
        with apart:
            return work(*given, **named)

    return alone
