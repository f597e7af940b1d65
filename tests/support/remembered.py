"""What the packaged models made of an input, kept for a run and shared by the processes that run its tests.

The sample meeting is taken in some hundred times, and its voices, its sentences and its pauses are the same
each time. A model is only kept from doing again what it did already, on the very same input.
"""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def make_file(file: Path) -> None:
    """Make the file; for one process alone, since others cannot wait for what changes its journal."""
    with closing(sqlite3.connect(file)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")


class Remembered:
    """Values by what they were computed from, in memory and in a file.

    Args:
        file: Where other processes of the run find them; see ``make_file``.
    """

    def __init__(self, file: Path) -> None:
        # A file that is busy for long costs a second computation, and nothing else.
        self._known: dict[bytes, Any] = {}
        self._lock = threading.Lock()
        self._file = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA synchronous=OFF")

    def all_of(
        self, kind: str, inputs: Sequence[Any], compute: Callable[[list[Any]], Sequence[Any]]
    ) -> list[Any]:
        """A value for each input; what is not known yet is computed, all of it at once.

        Args:
            kind: What computes, down to the weights.
            inputs: Texts or arrays.
            compute: From inputs to their values, in order.
        """
        keys = [_key(kind, item) for item in inputs]
        missing = {key: item for key, item in zip(keys, inputs, strict=True) if not self._has(key)}
        if missing:
            for key, value in zip(missing, compute(list(missing.values())), strict=True):
                self._keep(key, value)
        return [self._known[key] for key in keys]

    def close(self) -> None:
        """Leave the file to the others."""
        self._file.close()

    def _has(self, key: bytes) -> bool:
        if key not in self._known:
            row = None
            with self._lock, suppress(sqlite3.OperationalError):
                row = self._file.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
            if row is None:
                return False
            self._known[key] = pickle.loads(row[0])
        return True

    def _keep(self, key: bytes, value: Any) -> None:
        self._known[key] = value
        with self._lock, suppress(sqlite3.OperationalError):
            self._file.execute("INSERT OR IGNORE INTO kept VALUES (?, ?)", (key, pickle.dumps(value)))


def _key(kind: str, item: Any) -> bytes:
    data = (
        item.encode("utf-8", "surrogatepass")
        if isinstance(item, str)
        else np.ascontiguousarray(item).tobytes()
    )
    return hashlib.sha256(kind.encode() + b"\0" + data).digest()


def remember(patch: pytest.MonkeyPatch, kept: Remembered) -> None:
    """Have the embedder of sentences, the encoder of voices and the detector of speech look there first."""
    from index.audio import vad
    from index.diarization.voice_embeddings import VoiceEncoder
    from index.search.embeddings import Embedder

    encode_passages, encode_query = Embedder.encode_passages, Embedder.encode_query
    embed, mel, detect = VoiceEncoder.embed, VoiceEncoder.mel, vad._detect_block

    def passages(self: Embedder, texts: Sequence[str]) -> np.ndarray:
        found = kept.all_of(f"{self.name} passages", texts, lambda new: encode_passages(self, new))
        return np.stack(found) if found else encode_passages(self, [])

    def query(self: Embedder, text: str) -> np.ndarray:
        (found,) = kept.all_of(f"{self.name} query", [text], lambda new: [encode_query(self, new[0])])
        return np.array(found)

    def voices(self: VoiceEncoder, windows: Sequence[np.ndarray]) -> np.ndarray:
        found = kept.all_of("voices", windows, lambda new: embed(self, new))
        return np.stack(found) if found else embed(self, [])

    def spectrum(self: VoiceEncoder, audio: np.ndarray) -> np.ndarray:
        (found,) = kept.all_of("mel", [audio], lambda new: [mel(self, new[0])])
        return np.array(found)

    def speech(block: np.ndarray) -> list[Any]:
        (found,) = kept.all_of("speech", [block], lambda new: [detect(block)])
        return list(found)

    patch.setattr(Embedder, "encode_passages", passages)
    patch.setattr(Embedder, "encode_query", query)
    patch.setattr(VoiceEncoder, "embed", voices)
    patch.setattr(VoiceEncoder, "mel", spectrum)
    patch.setattr(vad, "_detect_block", speech)
