"""One search over the whole library: the places that match, by recording, and recordings by their title."""

from __future__ import annotations

from dataclasses import dataclass

from index.records import Hit, Recording, Segment
from index.search.searching import Found, Search, choose
from index.store.library import Library
from index.text import folded_name

RECORDINGS = 12
"""Recordings that are looked into at most."""

NEAREST = 5
"""Places that are shown where nothing has the words and nothing is likely to be meant."""


@dataclass(frozen=True)
class LibraryHits:
    """What was found.

    Attributes:
        places: Recordings, the best first, each with the sentences in it that match, in order of time.
        titled: Recordings whose title has the words that were searched.
        is_sure: Whether what was found is likely to be what was looked for.
    """

    places: tuple[tuple[Recording, tuple[Segment, ...]], ...] = ()
    titled: tuple[Recording, ...] = ()
    is_sure: bool = False


def search_library(library: Library, search: Search, query: str, places: int) -> LibraryHits:
    """Search everything: sentences that have all the words, and those that answer to them.

    Args:
        library: The recordings.
        search: The search over them.
        query: Any text.
        places: At most this many places.

    Raises:
        IndexOutOfDate: The index was made with another embedder.
    """
    wanted = folded_name(query)
    if not wanted:
        return LibraryHits()
    known = {recording.id: recording for recording in library.recordings()}
    titled = tuple(recording for recording in known.values() if wanted in folded_name(recording.title))
    exact = search.with_words(query, places)
    found = search.find(query, None, places, RECORDINGS)
    meant = [sentence for sentence, _ in choose(query, found)]
    if not exact and not meant:
        meant = [_best(hit, found) for hit in found.hits[:NEAREST] if hit.segments]
    chosen = {sentence.id: sentence for sentence in [*exact, *meant] if sentence.recording in known}
    by_recording: dict[str, list[Segment]] = {}
    for sentence in [*chosen.values()][:places]:
        by_recording.setdefault(sentence.recording, []).append(sentence)
    listed = tuple(
        (known[name], tuple(sorted(sentences, key=lambda sentence: sentence.start)))
        for name, sentences in by_recording.items()
    )
    return LibraryHits(listed, titled, bool(exact) or found.is_answer)


def _best(hit: Hit, found: Found) -> Segment:
    """The sentence of a stretch that fits best."""
    return max(hit.segments, key=lambda segment: found.chances.get(segment.id, 0.0))
