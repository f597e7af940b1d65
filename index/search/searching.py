"""Hybrid search: BM25 and vector search joined by reciprocal rank fusion, and the sentences worth quoting."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from index.recording_errors import IndexOutOfDate
from index.records import Hit, Passage, Segment
from index.search.embeddings import Embedder
from index.search.passages import PassageStore
from index.search.ranking import RELEVANT, as_heard, relevance
from index.search.vectors import REINDEX, Vectors, another_embedder
from index.store.library import Library

__all__ = ["RELEVANT", "Search"]

RRF_K = 60
"""Rank constant of reciprocal rank fusion, as in the paper."""

CANDIDATES = 50
"""Passages taken from each ranking before fusion."""

LONGEST_HIT_SECONDS = 120.0
"""Neighbouring passages are merged into one hit up to this length."""

MIN_COSINE = 0.12
"""Cosine below which a passage is not about the question; every question has a nearest vector."""

QUERIES_CACHED = 64
"""Embedded questions kept, since searching and quoting embed the same question."""

_log = logging.getLogger(__name__)


class Search:
    """Search over a library.

    Args:
        library: The recordings.
        embedder: What questions are embedded with.
        vectors: The collection of passage vectors; None compares with every vector of the database, which is
            slower, and needs nothing that is written.
    """

    def __init__(self, library: Library, embedder: Embedder, vectors: Vectors | None) -> None:
        self.library = library
        self.embedder = embedder
        self.vectors = vectors
        self._store = PassageStore(library.database)
        self._queries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._warned = False

    def search(self, query: str, recording: str | None = None, k: int = 8) -> list[Hit]:
        """The stretches that best match a question, best first; no two share a sentence.

        Args:
            query: Any text.
            recording: Full id, to search in one recording only.
            k: At most this many hits.

        Raises:
            IndexOutOfDate: The index was made with another embedder.
        """
        if not query.strip() or k < 1:
            return []
        keyword = self._store.keyword_matches(query, recording, CANDIDATES)
        scores = reciprocal_rank_fusion([keyword, self._vector_matches(query, recording)])
        passages = self._store.by_id(list(scores))
        # A passage may have left the database while Chroma still has its vector.
        ranked = sorted(passages.values(), key=lambda passage: (-scores[passage.id], passage.id))
        return self._hits(merge_neighbours(ranked, k), scores)

    def best_segments(self, query: str, hits: Sequence[Hit], limit: int) -> list[tuple[Segment, float]]:
        """The sentences inside the hits that best answer a question, best first, with their relevance.

        Relevance is in [0, 1]; from ``RELEVANT`` on a sentence is about the question. When the first one
        is below it, nothing relevant was said.
        """
        unique = {segment.id: segment for hit in hits for segment in hit.segments}
        segments = sorted(unique.values(), key=lambda segment: (segment.recording, segment.start, segment.id))
        if not segments or limit < 1:
            return []
        embeddings = self.library.segment_embeddings(segments)
        if embeddings is None:
            embeddings = self.embedder.encode_passages([segment.text for segment in segments])
        wordings = dict.fromkeys((query, as_heard(query, segments)))
        queries = np.stack([self._embed(wording) for wording in wordings])
        scores = relevance(query, queries, segments, embeddings)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [(segments[at], float(scores[at])) for at in order]

    def _embed(self, text: str) -> np.ndarray:
        # Several threads ask; another may drop the entry between a look and a read.
        vector = self._queries.get(text)
        if vector is None:
            vector = self._queries[text] = self.embedder.encode_query(text)
            while len(self._queries) > QUERIES_CACHED:
                self._queries.popitem(last=False)
        return vector

    def _vector_matches(self, query: str, recording: str | None) -> list[int]:
        """Passage numbers by cosine: exact over one recording, through Chroma's HNSW over the library.

        A metadata filter in Chroma is a scan (45 ms at 100,000 rows); a recording's rows are few.
        """
        embedding = self._embed(query)
        if recording is not None or self.vectors is None or not self._is_complete(self.vectors):
            found = self._exact_matches(embedding, recording)
        else:
            found = self.vectors.query(embedding, CANDIDATES)
        return [number for number, cosine in found if cosine >= MIN_COSINE]

    def _is_complete(self, vectors: Vectors) -> bool:
        """Whether Chroma has at least what the database has; else its answers would silently lack some.

        It lags while a recording is being indexed, and is behind for good after it was lost.
        """
        wanted = self._store.count()
        try:
            held = vectors.count()
        except IndexOutOfDate as error:
            if self._made_with_another_embedder():
                raise
            held, reason = 0, str(error)
        else:
            reason = f"The search index holds {held} of {wanted} passages; {REINDEX} to rebuild it."
        if held < wanted and not self._warned:
            self._warned = True
            _log.warning("Searching the database instead, more slowly. %s", reason)
        return held >= wanted

    def _made_with_another_embedder(self) -> bool:
        return not self._store.embedders() <= {self.embedder.name}

    def _exact_matches(self, embedding: np.ndarray, recording: str | None) -> list[tuple[int, float]]:
        stored = self._store.vectors(recording)
        if not stored.embedders <= {self.embedder.name}:
            made_by = ", ".join(sorted(stored.embedders - {self.embedder.name}))
            raise another_embedder(made_by, self.embedder.name)
        if not stored.ids:
            return []
        cosines = stored.embeddings @ embedding
        order = np.argsort(-cosines, kind="stable")[:CANDIDATES]
        return [(stored.ids[at], float(cosines[at])) for at in order]

    def _hits(self, groups: Sequence[Sequence[Passage]], scores: dict[int, float]) -> list[Hit]:
        numbers = [number for group in groups for passage in group for number in passage.segment_ids]
        segments = {segment.id: segment for segment in self.library.segments_by_id(numbers)}
        hits = []
        for group in groups:
            inside = (number for passage in group for number in passage.segment_ids)
            hits.append(
                Hit(
                    recording=group[0].recording,
                    start=min(passage.start for passage in group),
                    end=max(passage.end for passage in group),
                    text=" ".join(passage.text for passage in group),
                    score=max(scores[passage.id] for passage in group),
                    segments=tuple(segments[number] for number in inside if number in segments),
                )
            )
        return hits


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    """Join rankings: each item scores the sum of 1 / (``RRF_K`` + rank) over the rankings that have it.

    Cormack, Clarke and Büttcher, SIGIR 2009.

    Args:
        rankings: Item numbers, best first.

    Returns:
        Scores of everything that is in any of the rankings, higher is better.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (RRF_K + rank)
    return scores


def merge_neighbours(ranked: Sequence[Passage], most: int) -> list[list[Passage]]:
    """Put neighbouring passages together, best group first, each group in time order.

    A recording's passages are numbered one after another, so neighbours differ by one. A passage joins the
    best group it touches while that stays within ``LONGEST_HIT_SECONDS``; reading stops when a further group
    would be one too many.
    """
    groups: list[list[Passage]] = []
    for passage in ranked:
        home = next((group for group in groups if _joins(group, passage)), None)
        if home is not None:
            home.append(passage)
            home.sort(key=lambda member: member.id)
        elif len(groups) < most:
            groups.append([passage])
        else:
            break
    return groups


def _joins(group: Sequence[Passage], passage: Passage) -> bool:
    touches = passage.recording == group[0].recording and (
        passage.id == group[0].id - 1 or passage.id == group[-1].id + 1
    )
    start, end = min(passage.start, group[0].start), max(passage.end, *(member.end for member in group))
    return touches and end - start <= LONGEST_HIT_SECONDS
