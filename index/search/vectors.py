"""Passage vectors in Chroma: embedded in a folder of the home, or on a server.

Chroma gets numbers only: passage id, vector, recording id, start and end. No text is stored there, and
everything in it can be rebuilt from the database (``index.search.indexing.rebuild``). Without a server that
should be there, the program goes on: ``VectorsAway`` says so, and the database is searched instead.
"""

from __future__ import annotations

import ctypes
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

import numpy as np

from index.importing import without_collections
from index.recording_errors import IndexOutOfDate, MossAgentError, VectorsAway
from index.records import Passage

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from index.store.library import Library

COLLECTION = "passages"
REINDEX = "run `moss-agent reindex`"

M_PERTURB = -6
"""glibc's number of the mallopt parameter that fills memory."""

CONNECT_SECONDS = 5.0
"""A server that is there answers within this."""

ANSWER_SECONDS = 60.0
"""How long a server may take to answer: a batch that is stored takes longest."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds for which a server that was away is not asked again; twice as long each time."""


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
            that writes to a folder; a server takes any number.
        embedder: The model that makes the vectors; the collection remembers its name.
        token: What the server, or the proxy before it, asks for; sent as ``Authorization: Bearer``.

    Attributes:
        missed: Recordings whose vectors could not be sent to the server; they are with the next that is.
        mended: When it was last compared with the database, in seconds of the monotonic clock.

    Raises:
        MossAgentError: It is neither a folder nor the address of a server.
    """

    def __init__(self, location: Path | str, embedder: NamedEmbedder, token: str | None = None) -> None:
        self.location = location if isinstance(location, Path) else location_of(location)
        self.embedder = embedder
        self.missed: set[str] = set()
        self.mended = float("-inf")
        self._token = token
        self._client: ClientAPI | None = None
        self._collection: Collection | None = None
        self._lock = threading.RLock()
        self._away: VectorsAway | None = None
        self._pause = 0.0
        self._ask_again = 0.0

    @property
    def folder(self) -> Path | None:
        """Where an embedded Chroma keeps its files; None for a server."""
        return self.location if isinstance(self.location, Path) else None

    @property
    def url(self) -> str:
        """The server's address; empty where Chroma is embedded."""
        return "" if isinstance(self.location, Path) else self.location

    def count(self) -> int:
        """Number of vectors.

        Raises:
            IndexOutOfDate: The collection cannot be opened, or was made with another embedder.
            VectorsAway: The server cannot be used, or could not a moment ago.
        """
        self._refuse_while_away()
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

    def stored(self, numbers: Sequence[int]) -> dict[int, np.ndarray]:
        """The vectors of these passages that are there, float32 ``[dimensions]`` each, by passage number.

        Raises:
            IndexOutOfDate: The collection cannot be used.
        """
        found: dict[int, np.ndarray] = {}

        def read(collection: Collection) -> None:
            for at in range(0, len(numbers), self._batch()):
                ids = [str(number) for number in numbers[at : at + self._batch()]]
                page = collection.get(ids=ids, include=["embeddings"])
                rows = np.asarray(page["embeddings"], dtype=np.float32)
                found.update(zip(map(int, page["ids"]), rows, strict=True))

        if numbers:
            with self._lock:
                self._run(read)
        return found

    def owners(self) -> dict[int, str]:
        """Which recording each vector is of, by passage number.

        Raises:
            IndexOutOfDate: The collection cannot be used.
        """
        found: dict[int, str] = {}

        def read(collection: Collection) -> None:
            batch, last = self._batch(), collection.count()
            for at in range(0, last, batch):
                page = collection.get(limit=batch, offset=at, include=["metadatas"])
                facts = page["metadatas"] or []
                found.update(
                    (int(number), str(fact["recording"]))
                    for number, fact in zip(page["ids"], facts, strict=True)
                )

        with self._lock:
            self._run(read)
        return found

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
            VectorsAway: The server cannot be used, or could not a moment ago.
        """
        if among is not None and not among:
            return []
        self._refuse_while_away()
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

        Raises:
            IndexOutOfDate: The collection cannot be used.
            VectorsAway: The server cannot be used.
        """
        with self._lock:
            collection = self._existing()
            if collection is None:
                return
            try:
                if collection.get(where={"recording": recording}, limit=1, include=[])["ids"]:
                    collection.delete(where={"recording": recording})
                    if self.folder is not None:
                        self._write_anew(collection)
            except Exception as error:
                raise self._trouble(error) from error
            self.missed.discard(recording)

    def reset(self) -> None:
        """Drop every vector, also where the collection is damaged or another embedder made it."""
        with self._lock:
            if self.folder is not None:
                self.close()
                shutil.rmtree(self.folder, ignore_errors=True)
            elif self._existing() is not None:
                self._drop_collection()
            self._collection = None
            self.missed.clear()

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
        from chromadb.errors import NotFoundError

        collection = self._open()
        try:
            found = action(collection)
        except NotFoundError as error:
            if not self.url:
                raise self._trouble(error) from error
            # Another process made the server's collection anew, under another number.
            self._collection = None
            collection = self._open()
            try:
                found = action(collection)
            except Exception as again:
                raise self._trouble(again) from again
        except Exception as error:
            raise self._trouble(error) from error
        self._away, self._pause = None, 0.0
        return found

    def _refuse_while_away(self) -> None:
        """Whoever searches does not wait for a server that was away a moment ago."""
        if self._away is not None and time.monotonic() < self._ask_again:
            raise VectorsAway(str(self._away))

    def _trouble(self, error: Exception) -> IndexOutOfDate:
        """The error for people; a server that is away is asked again after a while."""
        if isinstance(error, IndexOutOfDate):
            trouble = error
        else:
            trouble = _server_trouble(self.url, error) if self.url else _damaged(self.location, error)
        if isinstance(trouble, VectorsAway):
            self._away = trouble
            self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
            self._ask_again = time.monotonic() + self._pause
            self._collection = None
        return trouble

    def _open(self) -> Collection:
        """The collection, made at first use; it must be this embedder's."""
        if self._collection is None:
            collection = self._existing()
            if collection is not None:
                made_by = (collection.metadata or {}).get("embedder")
                if made_by == self.embedder.name:
                    self._collection = collection
                    return collection
                if self._size(collection):
                    raise another_embedder(str(made_by), self.embedder.name)
                self._drop_collection()
            metadata = {"embedder": self.embedder.name, "dimensions": self.embedder.dimensions}
            self._collection = self._create(metadata)
        return self._collection

    def _create(self, metadata: dict[str, Any]) -> Collection:
        client = self._connect()
        try:
            return client.create_collection(
                COLLECTION,
                metadata=metadata,
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
                get_or_create=True,
            )
        except Exception as error:
            raise self._trouble(error) from error

    def _size(self, collection: Collection) -> int:
        try:
            return collection.count()
        except Exception as error:
            raise self._trouble(error) from error

    def _drop_collection(self) -> None:
        from chromadb.errors import NotFoundError

        client = self._connect()
        try:
            client.delete_collection(COLLECTION)
        except NotFoundError:
            pass  # another process was first
        except Exception as error:
            raise self._trouble(error) from error

    def _existing(self) -> Collection | None:
        """The stored collection whoever made it, or None."""
        from chromadb.errors import NotFoundError

        client = self._connect()
        try:
            return client.get_collection(COLLECTION, embedding_function=None)
        except NotFoundError:
            return None
        except Exception as error:
            raise self._trouble(error) from error

    def _connect(self) -> ClientAPI:
        if self._client is None:
            try:
                self._client = _server(self.url, self._token) if self.url else _embedded(self.folder)
            except Exception as error:
                _forget_half_open(self.folder)
                raise self._trouble(error) from error
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


def _embedded(folder: Path | None) -> ClientAPI:
    with without_collections():
        import chromadb
        from chromadb.config import Settings

    return chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))


def _server(url: str, token: str | None) -> ClientAPI:
    """A client of a server that answers; Chroma's own waits without end for one that does not."""
    with without_collections():
        import chromadb
        import httpx
        from chromadb.config import Settings

    look_at_server(url, token)
    settings = Settings(anonymized_telemetry=False)
    if token:
        settings.chroma_client_auth_provider = "chromadb.auth.token_authn.TokenAuthClientProvider"
        settings.chroma_client_auth_credentials = token
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 8000)
    client = chromadb.HttpClient(host=_base(url), port=port, ssl=parts.scheme == "https", settings=settings)
    session = getattr(getattr(client, "_server", None), "_session", None)
    if isinstance(session, httpx.Client):
        session.timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    return client


@dataclass(frozen=True)
class ServerFacts:
    """What a Chroma server says of itself.

    Attributes:
        version: Its version.
        kind: ``rust`` for the one that ``chroma run`` starts, ``python`` for the one in Python; empty where
            nothing tells.
    """

    version: str
    kind: Literal["rust", "python", ""]


def look_at_server(url: str, token: str | None = None, ask_kind: bool = False) -> ServerFacts:
    """Ask a Chroma server whether it is one.

    Args:
        url: Its address.
        token: What it asks for.
        ask_kind: Whether to find out, too, which of Chroma's two servers it is.

    Raises:
        VectorsAway: It does not answer, does not accept the token, or is something else.
    """
    import httpx2

    base = _base(url)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx2.Timeout(CONNECT_SECONDS)
    try:
        with httpx2.Client(timeout=timeout, headers=headers, follow_redirects=False) as http:
            answer = http.get(f"{base}/api/v2/version")
            if answer.status_code in (401, 403):
                given = "does not accept MOSS_AGENT_VECTORS_TOKEN" if token else "asks for a token"
                raise VectorsAway(
                    f"The Chroma server at {url} {given} ({answer.status_code}); set the right "
                    "MOSS_AGENT_VECTORS_TOKEN."
                )
            if answer.status_code >= 500:
                raise VectorsAway(
                    f"The Chroma server at {url} cannot be used now ({answer.status_code}); look at its log."
                )
            version = _json_of(answer)
            if answer.status_code != 200 or not isinstance(version, str):
                raise VectorsAway(f"What answers at {url} is no Chroma server; correct MOSS_AGENT_VECTORS.")
            kind = _kind(answer.headers, http.get(f"{base}/openapi.json")) if ask_kind else ""
            return ServerFacts(version[:40], kind)
    except httpx2.HTTPError as error:
        raise _server_trouble(url, error) from error


def _base(url: str) -> str:
    """Where a server's paths begin; it listens on 8000 unless the address says otherwise."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 8000)
    name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{parts.scheme}://{name}:{port}{parts.path.rstrip('/').removesuffix('/api/v2')}"


def _kind(headers: Mapping[str, str], description: Any) -> Literal["rust", "python", ""]:
    """Which server this is: both answer alike, but describe their interface under different names.

    ``chroma-frontend`` is the Rust server's (rust/frontend), which also numbers what it answers; ``Chroma``
    or ``FastAPI`` stands in the description that Python's server makes, and uvicorn serves it.
    """
    document = _json_of(description)
    title = (document.get("info") or {}).get("title") if isinstance(document, dict) else None
    if title == "chroma-frontend" or "chroma-trace-id" in description.headers:
        return "rust"
    if title in ("Chroma", "FastAPI") or "uvicorn" in headers.get("server", ""):
        return "python"
    return "rust" if "chroma-trace-id" in headers else ""


def _json_of(answer: Any) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def location_of(location: str) -> Path | str:
    """The folder or the server's address that the settings name.

    Raises:
        MossAgentError: It is neither.
    """
    if location.startswith(("http://", "https://")):
        try:
            parts = urlsplit(location)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.username or parts.password or parts.query or parts.fragment:
            raise MossAgentError(
                "MOSS_AGENT_VECTORS must be like http://host:port, with nothing but host, port and path; a "
                "token goes into MOSS_AGENT_VECTORS_TOKEN."
            )
        return location.rstrip("/")
    if "://" in location or not Path(location).expanduser().is_absolute():
        raise MossAgentError(
            "MOSS_AGENT_VECTORS must be the address of a Chroma server, like http://host:port, or a folder "
            "with its whole path."
        )
    return Path(location).expanduser()


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


def _server_trouble(url: str, error: Exception) -> IndexOutOfDate:
    """The error for a server: away, unless what it says is about the collection."""
    from chromadb import errors

    of_the_server = (
        errors.ChromaAuthError,
        errors.AuthorizationError,
        errors.RateLimitError,
        errors.QuotaError,
        errors.InternalError,
    )
    if isinstance(error, errors.ChromaError) and not isinstance(error, of_the_server):
        return IndexOutOfDate(
            f"The collection on the Chroma server at {url} cannot be used ({type(error).__name__}); "
            f"{REINDEX} to rebuild it."
        )
    return VectorsAway(
        f"The Chroma server at {url} cannot be used ({type(error).__name__}); start it, or correct "
        "MOSS_AGENT_VECTORS."
    )


def _damaged(location: Path | str, error: Exception) -> IndexOutOfDate:
    return IndexOutOfDate(
        f"The search index at {location} cannot be used ({type(error).__name__}); {REINDEX} to rebuild it."
    )
