"""Make recordings searchable: passages, sentence embeddings, vectors.

Per recording: one transaction in the database, then Chroma. A crash between the two leaves Chroma behind,
which search notices and works around; indexing again repairs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from index.records import Passage
from index.search.embeddings import Embedder
from index.search.passages import PassageStore, cut_passages
from index.search.vectors import Vectors
from index.store.library import Library


def index_recording(library: Library, embedder: Embedder, vectors: Vectors, recording_id: str) -> int:
    """Cut, embed and store one recording; doing it again changes nothing.

    Returns:
        Number of its passages.

    Raises:
        IndexOutOfDate: The vector collection was made with another embedder.
    """
    store = PassageStore(library.database)
    _store(library, store, embedder, recording_id)
    passages, _ = store.of_recording(recording_id)
    stored = store.vectors(recording_id)
    by_id = {passage.id: passage for passage in passages}
    vectors.replace(recording_id, [by_id[number] for number in stored.ids], stored.embeddings)
    return len(passages)


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
        _store(library, store, embedder, recording)
    count = vectors.rebuild(store.batches())
    report(1.0)
    return count


def _store(library: Library, store: PassageStore, embedder: Embedder, recording: str) -> None:
    """Bring a recording's passages and embeddings in the database up to date, in one transaction."""
    segments = library.segments(recording)
    passages = cut_passages(segments)
    stored, embedders = store.of_recording(recording)
    same_model = embedders <= {embedder.name}
    missing = store.unembedded_segments(recording)
    if same_model and not missing and passages == [_unnumbered(passage) for passage in stored]:
        return
    to_embed = [segment for segment in segments if segment.id in missing or not same_model]
    sentences = embedder.encode_passages([segment.text for segment in to_embed])
    store.replace(
        recording,
        passages,
        embedder.encode_passages([passage.text for passage in passages]),
        embedder.name,
        {segment.id: row for segment, row in zip(to_embed, sentences, strict=True)},
    )


def _unnumbered(passage: Passage) -> Passage:
    return replace(passage, id=0)
