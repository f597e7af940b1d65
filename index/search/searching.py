"""Search: recordings are found by word and by vector, and what lies in each is ranked as one talk."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from index.recording_errors import IndexOutOfDate, VectorsAway, WeightsError
from index.records import Hit, Segment
from index.search.embeddings import Embedder
from index.search.multilingual import MultilingualEncoder
from index.search.passages import PassageStore
from index.search.ranking import (
    ACROSS,
    SHORT,
    Ranked,
    Talk,
    as_question,
    is_across,
    learned_map,
    rank,
    subject_words,
    wordings,
)
from index.search.vectors import REINDEX, Vectors, another_embedder
from index.store.access import EVERYTHING, acting_as
from index.store.library import Library
from index.text import content_words, search_terms, written_in

CANDIDATES = 50
"""Passages taken from each ranking of the whole library."""

PASSAGES_WITH_WORDS = 500
"""Passages in which sentences that have the words of a search are looked for."""

MOST_COMPARED = 50_000
"""Passages that are compared one by one, about six hundred hours, where a Chroma server lacks some."""

ON_THEIR_WAY = 2_000
"""Passages, about twenty-six hours, that a Chroma server may lack while other processes index recordings."""

RECORDINGS = 4
"""Recordings of the library that are looked into for one question."""

RECORDINGS_AMONG = 12
"""Recordings that are looked into where it is known which ones count."""

RRF_K = 60
"""Rank constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

QUERIES_CACHED = 64
"""Embedded questions kept."""

ACROSS_PASSAGES = 1_000
"""Passages of recordings in other languages, the newest first, among which candidates are looked for: about
twelve hours of talk, which take some eight seconds at the first such question."""

ACROSS_CACHED = 200
"""Recordings whose passages are kept for that."""

SEGMENTS_CACHED = 40_000
"""Segments of the talks that are kept, about 3 KB each; the talk asked last is kept however long it is."""

RANKINGS_CACHED = 8
"""Rankings that are kept of each of these talks: one answer may ask the same more than once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        hits: The stretches that fit best, best first; no two share a sentence.
        others: All other stretches of the recordings that were looked into, best first.
        chances: Probability that a sentence belongs to an answer, by the number of its segment.
        fit: How well a sentence says the answer, in (0, 1], where 1 is the best of its recording.
        leads: The same, with what its wording tells.
        answers: Probability that what was searched answers the question at all.
        is_answer: Whether that is enough.
    """

    hits: tuple[Hit, ...] = ()
    others: tuple[Hit, ...] = ()
    chances: Mapping[int, float] = field(default_factory=dict)
    fit: Mapping[int, float] = field(default_factory=dict)
    leads: Mapping[int, float] = field(default_factory=dict)
    answers: float = 0.0
    is_answer: bool = False


@dataclass
class _Kept:
    """A talk in memory, the state of the database that it was read from, and rankings by their query.

    ``across`` is the same talk, embedded for questions in other languages once there was one.
    """

    state: tuple[object, ...]
    talk: Talk
    rankings: OrderedDict[str, Ranked] = field(default_factory=OrderedDict)
    across: Talk | None = None


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
        self._talks: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._warned = False
        self._multilingual: MultilingualEncoder | None = None
        self._multilingual_lock = threading.Lock()
        self._is_monolingual = False
        self._across: dict[str, tuple[tuple[object, ...], list[int], np.ndarray]] = {}

    def search(self, query: str, recording: str | None = None, k: int = 8) -> list[Hit]:
        """The stretches that best match a question, best first; no two share a sentence.

        Args:
            query: Any text.
            recording: Full id, to search in one recording only.
            k: At most this many hits.

        Raises:
            IndexOutOfDate: The index was made with another embedder.
        """
        return list(self.find(query, recording, k).hits)

    def find(
        self,
        query: str,
        recording: str | None = None,
        k: int = 8,
        most: int = RECORDINGS,
        among: Sequence[str] | None = None,
    ) -> Found:
        """The stretches that best match a question, with their sentences scored; see ``search``.

        Args:
            query, recording, k: As in ``search``.
            most: Recordings of the library that are looked into at most.
            among: Ids of the only recordings of the library to look into; None for all.

        Raises:
            IndexOutOfDate: The index was made with another embedder.
        """
        if not query.strip() or k < 1:
            return Found()
        if recording is not None:
            recordings = [recording]
        elif among is None:
            recordings = self._candidates(query)[:most]
        else:
            fitting = [found for found in self._candidates(query) if found in among]
            recordings = list(dict.fromkeys([*fitting, *among]))[:RECORDINGS_AMONG]
        ranked = []
        for found in recordings:
            kept = self._talk(found)
            if kept is not None:
                ranked.append((kept.talk, self._rank(query, kept)))
        return _joined(ranked, k)

    def with_words(self, query: str, most: int) -> list[Segment]:
        """The sentences of the library that have every content word of a text, in any form of it.

        Args:
            query: Any text.
            most: At most this many, those of the passages that fit best first.
        """
        wanted = {term for word in content_words(query) for term in search_terms(word)}
        if not wanted:
            return []
        numbers = self._store.keyword_matches(query, None, PASSAGES_WITH_WORDS)
        passages = self._store.by_id(numbers)
        order = [segment for at in numbers if at in passages for segment in passages[at].segment_ids]
        sentences = {segment.id: segment for segment in self.library.segments_by_id(order)}
        ordered = [sentences[at] for at in dict.fromkeys(order) if at in sentences]
        return [sentence for sentence in ordered if wanted <= set(search_terms(sentence.text))][:most]

    def _rank(self, query: str, kept: _Kept) -> Ranked:
        with self._lock:
            known = kept.rankings.get(query)
        if known is not None:
            return known
        talk = kept.talk
        encoder = self._encoder_across() if is_across(query, talk) else None
        if encoder is not None:
            ranked = self._rank_across(query, kept, encoder)
        else:
            embeddings = np.stack([self._embed(wording) for wording in wordings(query, talk)])
            ranked = rank(as_question(query, talk, embeddings), talk)
        with self._lock:
            kept.rankings[query] = ranked
            while len(kept.rankings) > RANKINGS_CACHED:
                kept.rankings.popitem(last=False)
        return ranked

    def _rank_across(self, query: str, kept: _Kept, encoder: MultilingualEncoder) -> Ranked:
        talk = kept.across
        if talk is None:
            # Not stored: it takes about two seconds for each hour of talk, and few recordings are asked so.
            sentences = encoder.encode([segment.text for segment in kept.talk.segments])
            passages = encoder.encode([passage.text for passage in kept.talk.passages])
            talk = kept.across = replace(kept.talk, embeddings=sentences, passage_embeddings=passages)
        embeddings = encoder.encode(wordings(query, talk))
        return rank(as_question(query, talk, embeddings, learned_map(ACROSS)), talk, ACROSS)

    def _encoder_across(self) -> MultilingualEncoder | None:
        """What embeds questions and talks of different languages; None where its weights are missing."""
        with self._multilingual_lock:
            if self._multilingual is None and not self._is_monolingual:
                try:
                    self._multilingual = MultilingualEncoder()
                except WeightsError as error:
                    self._is_monolingual = True
                    _log.warning("Questions find nothing in recordings in another language: %s", error)
            return self._multilingual

    def _talk(self, recording: str) -> _Kept | None:
        """A recording as it is ranked, kept until it changes; None where nothing of it is indexed."""
        # Read before the talk: if it changes in between, the next look sees that it did. It is also what
        # keeps a talk in memory from whoever may not read it.
        state = self._store.state(recording)
        if not state:
            return None
        with self._lock:
            kept = self._talks.get(recording)
            if kept is not None and kept.state == state:
                self._talks.move_to_end(recording)
                return kept
        talk = self._load(recording)
        kept = None if talk is None else _Kept(state, talk)
        with self._lock:
            self._talks.pop(recording, None)
            if kept is not None:
                self._talks[recording] = kept
            total = sum(len(other.talk.segments) for other in self._talks.values())
            while len(self._talks) > 1 and total > SEGMENTS_CACHED:
                _, oldest = self._talks.popitem(last=False)
                total -= len(oldest.talk.segments)
        return kept

    def _load(self, recording: str) -> Talk | None:
        talk, embedders = self._store.talk(recording)
        if talk is None:
            return None
        if not embedders <= {self.embedder.name}:
            raise another_embedder(", ".join(sorted(embedders - {self.embedder.name})), self.embedder.name)
        if len(talk.embeddings) < len(talk.segments):
            sentences = self.embedder.encode_passages([segment.text for segment in talk.segments])
            return Talk(talk.segments, sentences, talk.passages, talk.passage_embeddings, talk.bounds)
        return talk

    def _embed(self, text: str) -> np.ndarray:
        # Several threads ask; another may drop the entry between a look and a read.
        vector = self._queries.get(text)
        if vector is None:
            vector = self._queries[text] = self.embedder.encode_query(text)
            while len(self._queries) > QUERIES_CACHED:
                self._queries.popitem(last=False)
        return vector

    def _candidates(self, query: str) -> list[str]:
        """The recordings with the passages that fit best by word and by vector, best first."""
        rankings = [
            self._store.keyword_matches(query, None, CANDIDATES),
            self._nearest(query),
            self._nearest_across(query),
        ]
        scores = reciprocal_rank_fusion(rankings)
        passages = self._store.by_id(list(scores))
        # A passage may have left the database while Chroma still has its vector.
        ordered = sorted(passages.values(), key=lambda passage: (-scores[passage.id], passage.id))
        return list(dict.fromkeys(passage.recording for passage in ordered))

    def _nearest(self, query: str) -> list[int]:
        """Passage numbers by cosine, through Chroma's HNSW, or exactly where that lacks some.

        None where a server lacks some of a library that is too large for that: words alone count then.
        """
        embedding = self._embed(query)
        lacking = None if self.vectors is None else self._lacking(self.vectors)
        if self.vectors is not None and lacking is not None:
            # What somebody may not see must not take the place of what they may.
            among = self.library.readable()
            with suppress(VectorsAway):  # since it was asked how much it holds
                found = self.vectors.query(embedding, CANDIDATES, among)
                return self._with_newest(embedding, found, 2 * lacking)
        if self.vectors is not None and self.vectors.url and self._store.count() > MOST_COMPARED:
            return []
        stored = self._store.vectors()
        if not stored.embedders <= {self.embedder.name}:
            made_by = ", ".join(sorted(stored.embedders - {self.embedder.name}))
            raise another_embedder(made_by, self.embedder.name)
        if not stored.ids:
            return []
        order = np.argsort(-(stored.embeddings @ embedding), kind="stable")[:CANDIDATES]
        return [stored.ids[at] for at in order]

    def _nearest_across(self, query: str) -> list[int]:
        """Passage numbers by cosine, of recordings that are known to be in another language."""
        asked = written_in(query)
        recordings = self._store.in_other_languages(asked) if asked else []
        encoder = self._encoder_across() if recordings else None
        if encoder is None:
            return []
        question = encoder.encode([query])[0]
        numbers: list[int] = []
        cosines: list[np.ndarray] = []
        for recording in recordings:
            found, vectors = self._passages_across(recording, encoder)
            if numbers and len(numbers) + len(found) > ACROSS_PASSAGES:
                break
            numbers += found
            cosines.append(vectors @ question)
        order = np.argsort(-np.concatenate(cosines), kind="stable")[:CANDIDATES]
        return [numbers[at] for at in order]

    def _passages_across(self, recording: str, encoder: MultilingualEncoder) -> tuple[list[int], np.ndarray]:
        state = self._store.state(recording)
        kept = self._across.get(recording)
        if kept is None or kept[0] != state:
            if len(self._across) >= ACROSS_CACHED:
                self._across.clear()
            passages, _ = self._store.of_recording(recording)
            vectors = encoder.encode([passage.text for passage in passages])
            kept = self._across[recording] = state, [passage.id for passage in passages], vectors
        return kept[1], kept[2]

    def _with_newest(self, embedding: np.ndarray, found: list[tuple[int, float]], most: int) -> list[int]:
        """What Chroma found, with the newest passages compared here: they are those that it lacks."""
        scores = dict(found)
        if most:
            newest = self._store.newest_vectors(most)
            if newest.ids and newest.embeddings.shape[1] == len(embedding):
                scores |= dict(zip(newest.ids, (newest.embeddings @ embedding).tolist(), strict=True))
        return sorted(scores, key=lambda number: -scores[number])[:CANDIDATES]

    def _lacking(self, vectors: Vectors) -> int | None:
        """How many passages Chroma does not have yet; None where its answers would lack too much.

        It lags while a recording is being indexed, and is behind for good after it was lost.
        """
        wanted = self._store.size()
        try:
            held = vectors.count()
        except IndexOutOfDate as error:
            with acting_as(EVERYTHING):
                embedders = self._store.embedders()
            if not embedders <= {self.embedder.name}:
                raise
            held, reason = 0, str(error)
        else:
            reason = f"The search index holds {held} of {wanted} passages; {REINDEX} to rebuild it."
        lacking = max(0, wanted - held)
        if lacking <= (min(ON_THEIR_WAY, wanted // 10) if vectors.url else 0):
            self._warned = False
            return lacking
        if not self._warned:
            self._warned = True
            if vectors.url and wanted > MOST_COMPARED:
                _log.warning("Searching by words alone. %s", reason)
            else:
                _log.warning("Searching the database instead, more slowly. %s", reason)
        return None


def _joined(ranked: Sequence[tuple[Talk, Ranked]], k: int) -> Found:
    """The stretches of several talks in one list, by how likely each talk answers, and all sentences."""
    chosen: list[Hit] = []
    others: list[Hit] = []
    chances: dict[int, float] = {}
    fit: dict[int, float] = {}
    leads: dict[int, float] = {}
    for talk, scores in ranked:
        best = scores.passages.max()
        order = spread(scores.passages, k)
        for number, at in enumerate(order):
            first, last = talk.bounds[at]
            passage = talk.passages[at]
            score = scores.answers * float(np.exp(scores.passages[at] - best))
            inside = tuple(talk.segments[first:last])
            hit = Hit(passage.recording, passage.start, passage.end, passage.text, score, inside)
            (chosen if number < k else others).append(hit)
        numbers = [segment.id for segment in talk.segments]
        chances.update(zip(numbers, (scores.answers * scores.sentences).tolist(), strict=True))
        for found, values in ((fit, scores.quotes), (leads, scores.leads)):
            found.update(zip(numbers, np.exp(values - values.max()).tolist(), strict=True))
    answers = max((scores.answers for _, scores in ranked), default=0.0)
    chosen.sort(key=lambda hit: -hit.score)
    others = sorted([*chosen[k:], *others], key=lambda hit: -hit.score)
    is_answer = any(scores.is_answer if len(ranked) == 1 else scores.is_answer_among for _, scores in ranked)
    return Found(tuple(chosen[:k]), tuple(others), chances, fit, leads, answers, is_answer)


def spread(scores: np.ndarray, most: int) -> list[int]:
    """The numbers of a talk's passages, best first, but the first ``most`` are no neighbours if that can be.

    An answer is mostly longer than a passage, so what lies beside a hit says little that the hit does not.
    """
    order = [int(at) for at in np.argsort(-scores, kind="stable")]
    taken: list[int] = []
    for at in order:
        if len(taken) < most and not {at - 1, at + 1} & set(taken):
            taken.append(at)
    return taken + [at for at in order if at not in taken]


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]]) -> dict[int, float]:
    """Join rankings: each item scores the sum of 1 / (``RRF_K`` + rank) over the rankings that have it.

    Args:
        rankings: Item numbers, best first.

    Returns:
        Scores of everything that is in any of the rankings, higher is better.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (RRF_K + place)
    return scores


LEAST_QUOTED, MOST_QUOTED = 2, 14
"""Sentences quoted for the best of what was found, at least and at most, if they are likely enough."""

SENTENCES_EACH = 20
"""From a short recording at most one sentence in so many is quoted, and one more."""

FIT_COUNTS = 0.5
"""How much it counts beside a sentence's probability that it says the answer."""

STRETCH_COUNTS = 0.15
"""How much it counts beside both that the stretch around it fits."""

NEAR_QUOTED, NEAR_COUNTS = 2, 0.8
"""A sentence up to so many away from one that is quoted counts this share: what it says is mostly known."""

QUOTED_FROM = 0.1
"""A sentence is quoted from this share of the best one's score on."""

STRETCH_FROM = 0.1
"""A stretch adds its best sentence from this share of the best stretch's score on."""

SHORTEST_QUOTE = 4
"""Words of a sentence from which it is quoted though it has no word of the question."""


def choose(query: str, found: Found, speakers: Collection[str] | None = None) -> list[tuple[Segment, float]]:
    """The sentences that answer a question, best first, with their relevance in [0, 1].

    The most probable ones, not too close together, and the best of each stretch that nearly fits as well, so
    that an answer which was given elsewhere is not missed; none at all where nothing that was said is likely
    to be an answer.

    Args:
        query: What was asked.
        found: What the search found.
        speakers: Only what a voice of one of these names said.
    """
    if not found.is_answer:
        return []
    asked = {term for word in subject_words(query) for term in search_terms(word)}

    def quotable(segment: Segment) -> bool:
        terms = search_terms(segment.text)
        is_heard = speakers is None or segment.speaker in speakers
        return is_heard and (len(terms) >= SHORTEST_QUOTE or not asked.isdisjoint(terms))

    stretches = [
        (hit.score, [segment for segment in hit.segments if quotable(segment)])
        for hit in (*found.hits, *found.others)
    ]
    # Of a long recording so much is quoted that an agenda among it does no harm; of a short one, little.
    fit = found.leads if len(found.fit) <= SHORT else found.fit
    best_stretch = max((hit.score for hit in found.hits), default=1.0)
    score = {
        segment.id: found.chances[segment.id]
        * fit[segment.id] ** FIT_COUNTS
        * (hit.score / best_stretch) ** STRETCH_COUNTS
        for hit in (*found.hits, *found.others)
        for segment in hit.segments
    }
    every = [segment for _, inside in stretches for segment in inside]
    if not every:
        return []
    # Where one sentence fits far better than all others, few are an answer; where many do, it is long.
    likely = min(round(sum(found.fit[segment.id] for segment in every)), 1 + len(every) // SENTENCES_EACH)
    count = min(MOST_QUOTED, max(LEAST_QUOTED, likely))
    chosen = {segment.id: segment for segment in _apart(every, score, _beside(found), count)}
    for stands, inside in stretches[: min(len(found.hits), count // 2)]:
        if inside and stands >= STRETCH_FROM * stretches[0][0]:
            first = max(inside, key=lambda segment: score[segment.id])
            chosen.setdefault(first.id, first)
    best = max(found.leads[number] for number in chosen)
    relevance = [(segment, found.answers * found.leads[number] / best) for number, segment in chosen.items()]
    return sorted(relevance, key=lambda item: -item[1])


def _beside(found: Found) -> dict[int, list[int]]:
    """The numbers of the segments that lie up to ``NEAR_QUOTED`` away from each."""
    recordings: dict[str, list[Hit]] = {}
    for hit in (*found.hits, *found.others):
        recordings.setdefault(hit.recording, []).append(hit)
    beside: dict[int, list[int]] = {}
    for hits in recordings.values():
        hits.sort(key=lambda hit: hit.start)
        order = list(dict.fromkeys(segment.id for hit in hits for segment in hit.segments))
        for at, number in enumerate(order):
            beside[number] = order[max(0, at - NEAR_QUOTED) : at + NEAR_QUOTED + 1]
    return beside


def _apart(
    every: Sequence[Segment], score: Mapping[int, float], beside: Mapping[int, Sequence[int]], most: int
) -> list[Segment]:
    """The best sentences, one after the other, where each makes those beside it count less, once."""
    left = {segment.id: score[segment.id] for segment in every}
    segments = {segment.id: segment for segment in every}
    least = QUOTED_FROM * max(left.values())
    chosen: list[Segment] = []
    lessened: set[int] = set()
    while left and len(chosen) < most:
        number = max(left, key=left.__getitem__)
        if left.pop(number) < least:
            break
        chosen.append(segments[number])
        near = left.keys() & set(beside[number]) - lessened
        lessened |= near
        left.update({other: NEAR_COUNTS * score[other] for other in near})
    return chosen
