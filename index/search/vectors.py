"""Passage vectors in Chroma: embedded in a folder of the home, or on a server.

Chroma gets numbers only: passage id, vector, recording id, start and end. No text is stored there, and
everything in it can be rebuilt from the database (``index.search.indexing.rebuild``).
"""

from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from index.recording_errors import IndexOutOfDate
from index.records import Passage

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from index.store.library import Library

COLLECTION = "passages"
REINDEX = "run `moss-agent reindex`"

M_PERTURB = -6
"""glibc's number of the mallopt parameter that fills memory."""


class NamedEmbedder(Protocol):
    """What the collection needs to know about an ``Embedder``."""

    name: str

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...


class Vectors:
    """The Chroma collection of a library.

    Args:
        location: A folder, or the ``http(s)://host:port`` of a Chroma server. Chroma allows one process
            that writes to a folder.
        embedder: The model that makes the vectors; the collection remembers its name.
    """

    def __init__(self, location: Path | str, embedder: NamedEmbedder) -> None:
        self.location = location
        self.embedder = embedder
        self._client: ClientAPI | None = None
        self._collection: Collection | None = None
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path | None:
        """Where an embedded Chroma keeps its files; None for a server."""
        is_url = isinstance(self.location, str) and self.location.startswith(("http://", "https://"))
        return None if is_url else Path(self.location)

    def count(self) -> int:
        """Number of vectors.

        Raises:
            IndexOutOfDate: The collection cannot be opened, or was made with another embedder.
        """
        with self._lock:
            return self._run(lambda collection: collection.count())

    def check(self, library: Library) -> None:
        """Make sure that the collection holds what the database does.

        Raises:
            IndexOutOfDate: It is lost, incomplete, or was made with another embedder.
        """
        from index.search.passages import PassageStore

        held, wanted = self.count(), PassageStore(library.database).count()
        if held != wanted:
            raise IndexOutOfDate(
                f"The search index holds {held} of {wanted} passages, so searches are slower; "
                f"{REINDEX} to rebuild it."
            )

    def replace(self, recording: str, passages: Sequence[Passage], embeddings: np.ndarray) -> None:
        """Replace a recording's vectors.

        Args:
            recording: Its id.
            passages: Stored passages (their ``id`` is set).
            embeddings: float32 ``[n_passages, dimensions]``, unit length.
        """
        wanted = {str(passage.id) for passage in passages}

        def drop_stale(collection: Collection) -> None:
            stale = collection.get(where={"recording": recording}, include=[])["ids"]
            gone = [number for number in stale if number not in wanted]
            for at in range(0, len(gone), self._batch()):
                collection.delete(ids=gone[at : at + self._batch()])

        with self._lock:
            self._run(drop_stale)
            self.add(passages, embeddings)

    def add(self, passages: Sequence[Passage], embeddings: np.ndarray) -> None:
        """Add or overwrite vectors; their ids are the passages' numbers, so repeating it is harmless."""

        def write(collection: Collection) -> None:
            batch = self._batch()
            for at in range(0, len(passages), batch):
                some = passages[at : at + batch]
                collection.upsert(
                    ids=[str(passage.id) for passage in some],
                    embeddings=np.asarray(embeddings[at : at + batch], dtype=np.float32),
                    metadatas=[
                        {
                            "recording": passage.recording,
                            "start": float(passage.start),
                            "end": float(passage.end),
                        }
                        for passage in some
                    ],
                )

        with self._lock:
            self._run(write)

    def drop(self, recording: str, numbers: Sequence[int]) -> None:
        """Remove some of a recording's vectors; another recording's of the same number stay.

        Raises:
            IndexOutOfDate: The collection cannot be used.
        """

        def remove(collection: Collection) -> None:
            for at in range(0, len(numbers), self._batch()):
                ids = [str(number) for number in numbers[at : at + self._batch()]]
                collection.delete(ids=ids, where={"recording": recording})

        if numbers:
            with self._lock:
                self._run(remove)

    def query(
        self, embedding: np.ndarray, limit: int, among: Sequence[str] | None = None
    ) -> list[tuple[int, float]]:
        """The nearest passages as ``(passage id, cosine similarity)``, best first.

        Args:
            embedding: float32 ``[dimensions]``, unit length.
            limit: At most this many.
            among: Ids of the recordings to look into; None for all.

        Raises:
            IndexOutOfDate: The collection cannot be opened, or was made with another embedder.
        """
        if among is not None and not among:
            return []
        wanted: Any = [np.asarray(embedding, dtype=np.float32)]
        where: Any = None if among is None else {"recording": {"$in": list(among)}}
        with self._lock:
            found = self._run(
                lambda collection: collection.query(
                    query_embeddings=wanted, n_results=limit, include=["distances"], where=where
                )
            )
        distances = (found["distances"] or [[]])[0]
        return [
            (int(number), 1.0 - float(distance))
            for number, distance in zip(found["ids"][0], distances, strict=True)
        ]

    def delete(self, recording: str) -> None:
        """Remove a recording's vectors.

        Embedded, the files are written anew without them: Chroma only marks what is deleted, and a vector
        says much about the words it was made of. A server looks after its own files.
        """
        with self._lock:
            collection = self._existing()
            if collection is None:
                return
            try:
                if collection.get(where={"recording": recording}, include=[])["ids"]:
                    collection.delete(where={"recording": recording})
                    if self.folder is not None:
                        self._write_anew(collection)
            except Exception as error:
                raise _damaged(self.location, error) from error

    def reset(self) -> None:
        """Drop every vector, also where the collection is damaged or another embedder made it."""
        with self._lock:
            if self.folder is not None:
                self.close()
                shutil.rmtree(self.folder, ignore_errors=True)
            elif self._existing() is not None:
                self._connect().delete_collection(COLLECTION)
            self._collection = None

    def rebuild(self, batches: Iterable[tuple[Sequence[Passage], np.ndarray]]) -> int:
        """Drop everything and add these passages; returns how many there are."""
        with self._lock:
            self.reset()
            self._open()
            count = 0
            for passages, embeddings in batches:
                self.add(passages, embeddings)
                count += len(passages)
            return count

    def close(self) -> None:
        """Release the files; the next call opens them again."""
        with self._lock:
            client, self._client, self._collection = self._client, None, None
            if client is not None:
                client.close()  # type: ignore[attr-defined]  # every client has it; the interface lacks it

    def _write_anew(self, collection: Collection) -> None:
        """Copy what is left into fresh files, in the place of the old ones."""
        assert self.folder is not None
        metadata = dict(collection.metadata or {})
        pages = []
        for at in range(0, collection.count(), self._batch()):
            page = collection.get(limit=self._batch(), offset=at, include=["embeddings", "metadatas"])
            pages.append((page["ids"], np.asarray(page["embeddings"], dtype=np.float32), page["metadatas"]))
        self.close()
        shutil.rmtree(self.folder)
        with _filled_memory():
            self._collection = fresh = self._create(metadata)
            for ids, embeddings, metadatas in pages:
                fresh.upsert(ids=ids, embeddings=embeddings, metadatas=metadatas)

    def _run(self, action: Callable[[Collection], Any]) -> Any:
        """Call ``action`` with the collection; whatever Chroma raises becomes ``IndexOutOfDate``.

        Its errors come in many types, from Rust too.
        """
        collection = self._open()
        try:
            return action(collection)
        except Exception as error:
            raise _damaged(self.location, error) from error

    def _open(self) -> Collection:
        """The collection, made at first use; it must be this embedder's."""
        if self._collection is None:
            collection = self._existing()
            if collection is not None:
                made_by = (collection.metadata or {}).get("embedder")
                if made_by == self.embedder.name:
                    self._collection = collection
                    return collection
                if collection.count():
                    raise another_embedder(str(made_by), self.embedder.name)
                self._connect().delete_collection(COLLECTION)
            metadata = {"embedder": self.embedder.name, "dimensions": self.embedder.dimensions}
            self._collection = self._create(metadata)
        return self._collection

    def _create(self, metadata: dict[str, Any]) -> Collection:
        return self._connect().create_collection(
            COLLECTION,
            metadata=metadata,
            configuration={"hnsw": {"space": "cosine"}},
            embedding_function=None,
            get_or_create=True,
        )

    def _existing(self) -> Collection | None:
        """The stored collection whoever made it, or None."""
        from chromadb.errors import NotFoundError

        client = self._connect()
        try:
            return client.get_collection(COLLECTION, embedding_function=None)
        except NotFoundError:
            return None
        except Exception as error:
            raise _damaged(self.location, error) from error

    def _connect(self) -> ClientAPI:
        if self._client is None:
            try:
                self._client = _client(self.folder, str(self.location))
            except Exception as error:
                _forget_half_open(self.folder)
                raise _damaged(self.location, error) from error
        return self._client

    def _batch(self) -> int:
        return self._connect().get_max_batch_size()


@contextmanager
def _filled_memory() -> Iterator[None]:
    """Let glibc fill every block it hands out, where the C library can.

    Chroma writes the spare room of its vector file as its memory happens to be, and that may hold scraps
    of what was just deleted (mallopt(3), M_PERTURB).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda _parameter, _value: 0)
    mallopt(M_PERTURB, 0x55)
    try:
        yield
    finally:
        mallopt(M_PERTURB, 0)


def _client(folder: Path | None, url: str) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings

    quiet = Settings(anonymized_telemetry=False)
    if folder is not None:
        return chromadb.PersistentClient(path=str(folder), settings=quiet)
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 8000)
    return chromadb.HttpClient(host=parts.hostname or "localhost", port=port, ssl=secure, settings=quiet)


def another_embedder(made_by: str, wanted: str) -> IndexOutOfDate:
    """The error for an index whose vectors come from another embedder than the one that is set."""
    return IndexOutOfDate(
        f"The search index was made with the embedder “{made_by}”, but “{wanted}” is set; "
        f"{REINDEX} to rebuild it, or set MOSS_AGENT_EMBEDDER back."
    )


def _forget_half_open(folder: Path | None) -> None:
    """Let a folder be opened again after Chroma failed to open it: it keeps half-started systems by path."""
    from chromadb.api.shared_system_client import SharedSystemClient

    if folder is not None and str(folder) not in SharedSystemClient._identifier_to_refcount:
        SharedSystemClient._identifier_to_system.pop(str(folder), None)


def _damaged(location: Path | str, error: Exception) -> IndexOutOfDate:
    if str(location).startswith(("http://", "https://")):
        return IndexOutOfDate(
            f"The Chroma server at {location} cannot be used ({type(error).__name__}); start it, correct "
            f"MOSS_AGENT_VECTORS_URL, or {REINDEX} if its collection is damaged."
        )
    return IndexOutOfDate(
        f"The search index at {location} cannot be used ({type(error).__name__}); {REINDEX} to rebuild it."
    )
