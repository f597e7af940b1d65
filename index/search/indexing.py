"""Make recordings searchable: passages, sentence embeddings, vectors.

Per recording: one transaction in the database, then Chroma. A crash between the two leaves Chroma behind,
which search notices and works around; indexing again repairs it. Where a Chroma server is away, the database
alone is brought up to date, and the server with the next recording that it takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from index.recording_errors import VectorsAway
from index.records import Passage, Segment
from index.search.embeddings import Embedder
from index.search.passages import BATCH, PassageStore, cut_passages, store_passages
from index.search.vectors import REINDEX, Vectors
from index.store.database import PassageRow, SegmentRow
from index.store.library import Library, segments_in

_log = logging.getLogger(__name__)

MEND_SECONDS = 600.0
"""How often a process compares a shared collection with the database at most, where their sizes differ."""

Known = dict[str, np.ndarray]
"""Embeddings that were made already, by text."""


@dataclass(frozen=True)
class Refreshed:
    """What indexing a recording changed: numbers of passages."""

    changed: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)


def index_recording(library: Library, embedder: Embedder, vectors: Vectors, recording_id: str) -> int:
    """Cut, embed and store one recording; doing it again changes nothing.

    Returns:
        Number of its passages.

    Raises:
        IndexOutOfDate: The vector collection was made with another embedder.
    """
    store = PassageStore(library.database)
    _store(library, embedder, recording_id)
    with _unless_away(library, vectors, recording_id):
        _replace_vectors(store, vectors, recording_id)
    return len(store.of_recording(recording_id)[0])


def check_index(vectors: Vectors) -> None:
    """Find out before a recording is changed whether it can be indexed; a server may be away meanwhile.

    Raises:
        IndexOutOfDate: The collection was made with another embedder, or cannot be used.
    """
    with suppress(VectorsAway):
        vectors.count()


def _replace_vectors(store: PassageStore, vectors: Vectors, recording: str) -> None:
    vectors.replace(recording, *store.for_index(recording))


def mend(library: Library, vectors: Vectors) -> int:
    """Bring a collection up to date that other processes write to as well; returns how many vectors changed.

    It may be behind where a process ended before it sent what a server that was away had missed, or before it
    removed what the database has no more.

    Raises:
        IndexOutOfDate: The collection cannot be used.
    """
    store = PassageStore(library.database)
    # Read first: what is in it then was in the database before, unless it is gone from there.
    held = vectors.owners()
    wanted = store.owners()
    gone: dict[str, list[int]] = {}
    for number, recording in held.items():
        if wanted.get(number) != recording:
            gone.setdefault(recording, []).append(number)
    for recording, numbers in gone.items():
        vectors.drop(recording, numbers)
    lacking = sorted(number for number, recording in wanted.items() if held.get(number) != recording)
    for at in range(0, len(lacking), BATCH):
        vectors.add(*store.for_index(ids=lacking[at : at + BATCH]))
    return len(lacking) + sum(map(len, gone.values()))


@contextmanager
def _unless_away(library: Library, vectors: Vectors, recording: str) -> Iterator[None]:
    """Send a recording's vectors, with those that were missed before; or remember that they are missing."""
    try:
        yield
        store = PassageStore(library.database)
        for missed in sorted(vectors.missed - {recording}):
            _replace_vectors(store, vectors, missed)
            vectors.missed.discard(missed)
        vectors.missed.discard(recording)
        if vectors.url and time.monotonic() - vectors.mended > MEND_SECONDS:
            vectors.mended = time.monotonic()
            if vectors.count() != store.size():
                mend(library, vectors)
    except VectorsAway as error:
        if not vectors.missed:
            _log.warning(
                "Searches use the database alone until the index is complete again; if this program ends "
                "before, %s. %s",
                REINDEX,
                error,
            )
        vectors.missed.add(recording)


def rebuild(
    library: Library,
    embedder: Embedder,
    vectors: Vectors,
    progress: Callable[[float], None] | None = None,
) -> int:
    """Make the vector collection anew from the database, embedding again where the embedder changed.

    Args:
        library: The recordings.
        embedder: What is to be searched with from now on.
        vectors: The collection, in any state.
        progress: Called with the share done, in [0, 1].

    Returns:
        Number of passages.
    """
    report = progress or (lambda _: None)
    store = PassageStore(library.database)
    recordings = store.indexed_recordings()
    # Emptied first: if this is interrupted, an old collection must not answer for new passages.
    vectors.reset()
    for done, recording in enumerate(recordings):
        report(done / (len(recordings) + 1))
        _store(library, embedder, recording)
    count = vectors.rebuild(store.batches())
    report(1.0)
    return count


def refresh(session: Session, embedder: Embedder, recording: str, known: Known | None = None) -> Refreshed:
    """Bring a recording's passages and embeddings up to date with its segments, in the caller's transaction.

    Only texts that nobody embedded yet are embedded.

    Args:
        session: Of the transaction that changed the segments.
        embedder: The model.
        recording: Its id.
        known: Embeddings made before the transaction began; it takes up those that are made here.
    """
    known = {} if known is None else known
    segments, passages = _planned(session, recording)
    _embed(session, embedder, recording, segments, passages, known)
    rows = [
        {"id": segment.id, "embedding": known[segment.text].astype(np.float16).tobytes()}
        for segment in _unembedded(session, embedder, recording, segments)
    ]
    if rows:
        session.execute(update(SegmentRow), rows)
    return Refreshed(*store_passages(session, recording, passages, known, embedder.name))


def refresh_vectors(library: Library, vectors: Vectors, recording: str, refreshed: Refreshed) -> None:
    """Take into the collection what ``refresh`` changed, once its transaction is through.

    Raises:
        IndexOutOfDate: The collection cannot be used.
    """
    store = PassageStore(library.database)
    passages = store.by_id(refreshed.changed)
    stored = store.vectors(recording)
    rows = {
        number: row for number, row in zip(stored.ids, stored.embeddings, strict=True) if number in passages
    }
    with _unless_away(library, vectors, recording):
        vectors.drop(recording, refreshed.gone)
        if rows:
            vectors.add([passages[number] for number in rows], np.stack(list(rows.values())))


def _store(library: Library, embedder: Embedder, recording: str) -> None:
    """Bring a recording's passages and embeddings in the database up to date.

    What takes long is embedded before the transaction; what changed meanwhile, in it.
    """
    known: Known = {}
    with library.database.transaction() as session:
        segments, passages = _planned(session, recording)
        texts = _missing(session, embedder, recording, segments, passages)
    _encode(embedder, texts, known)
    with library.database.changing() as session:
        refresh(session, embedder, recording, known)


def _planned(session: Session, recording: str) -> tuple[list[Segment], list[Passage]]:
    segments = segments_in(session, recording)
    return segments, cut_passages(segments)


def _embed(
    session: Session,
    embedder: Embedder,
    recording: str,
    segments: list[Segment],
    passages: list[Passage],
    known: Known,
) -> None:
    """Embed what of a recording is neither stored nor known."""
    missing = _missing(session, embedder, recording, segments, passages)
    _encode(embedder, [text for text in missing if text not in known], known)


def _encode(embedder: Embedder, texts: Iterable[str], known: Known) -> None:
    wanted = list(dict.fromkeys(texts))
    known.update(zip(wanted, embedder.encode_passages(wanted), strict=True))


def _missing(
    session: Session, embedder: Embedder, recording: str, segments: list[Segment], passages: list[Passage]
) -> list[str]:
    """The texts of a recording that are to be embedded."""
    stored = select(PassageRow.text).where(
        PassageRow.recording_id == recording, PassageRow.embedder == embedder.name
    )
    there = set(session.scalars(stored))
    sentences = [segment.text for segment in _unembedded(session, embedder, recording, segments)]
    return [*sentences, *(passage.text for passage in passages if passage.text not in there)]


def _unembedded(
    session: Session, embedder: Embedder, recording: str, segments: list[Segment]
) -> list[Segment]:
    """The segments without an embedding; all of them where another model made those that there are."""
    others = select(PassageRow.id).where(
        PassageRow.recording_id == recording, PassageRow.embedder != embedder.name
    )
    if session.scalars(others.limit(1)).first() is not None:
        return segments
    query = select(SegmentRow.id).where(SegmentRow.recording_id == recording, SegmentRow.embedding.is_(None))
    missing = set(session.scalars(query))
    return [segment for segment in segments if segment.id in missing]
