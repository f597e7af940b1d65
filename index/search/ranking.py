"""How well the stretches and sentences of a talk answer a question: what is measured, and how it is weighed.

Everything is measured within one talk: how much of the question's words a stretch has (BM25, Robertson and
Zaragoza, 2009), how near its meaning is (cosine of embeddings), how near both are in the stretches beside it,
since an answer is mostly longer than one, and whether somebody speaks whom the question names. How much each
of these counts was learned from questions that people asked about real meetings (``ranking.json``, made by
``benchmarks.train_ranking``), and so was when nothing in a talk is an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from index.records import Passage, Segment
from index.search.pointed import pointedness
from index.search.wording import (
    ASKED,
    AT_AN_END,
    CARRIES,
    ECHOES,
    LISTS,
    TOLD_NAMES,
    asked_for,
    asks_beyond,
    content_terms,
    echo,
    lists_subjects,
    told,
)
from index.text import (
    SOUND_ALIKE,
    asks_something,
    begins_alike,
    content_words,
    search_terms,
    search_words,
    similarity,
    sounds,
    stem,
    written_in,
)
from index.vocabulary import STOP_WORDS

K1, B = 1.2, 0.75
"""Parameters of BM25, as SQLite's FTS5 has them."""

FRAME_KEPT = 0.05
"""Weight of a word that every question may have, whatever it is about; not zero, for it may stand alone."""


EXACT, FEW_WORDS = 3.0, 2
"""What it counts for a quote to have the number, or the one or two content words, that was looked up."""

LOOKED_AT = 60
"""The best quotes of a talk whose wording is looked at."""

STRETCHES_BY_WORDING = 0.6
"""How much of what its wording counts for a sentence counts for its stretch, in a short talk; in a long one
it does not help."""

SAID_EXACTLY = 0.9
"""The least probability that a talk answers in which the number or the words stand that were looked up."""


SAME, ACROSS = "ranking", "ranking_across"
"""What was learned for questions in the language of a talk, and for those in another one."""

LEADS = "ranking_leads"
"""What was learned for pointed questions (``index/search/pointed.py``), by ``benchmarks.train_leads``."""

WORDING_COUNTS = 0.5
"""How much a sentence gains or loses beside that by its wording (``_by_wording``)."""

FLATTER = 4.0
"""What the scores of sentences are divided by for pointed questions, so that several are quoted."""

LEADS_FROM = 40
"""Sentences of a talk, three minutes, from which pointed questions are ranked on their own."""

LEAST_SHARE = 0.1
"""A question that is less of a pointed one than this is ranked as a broad one alone."""

HEARD_FOR_LANGUAGE = 100
"""Sentences of a talk, from all over it, that tell which language most of it is in."""

SHORT = 240
"""Sentences up to which a talk counts as short."""

BACKGROUND = "ranking_background.npy"
"""Where the embeddings of ordinary talk lie, beside this file."""

BACKGROUND_BEST = 3
"""So many of those that are most like a question say how like ordinary talk it is."""


@dataclass(frozen=True)
class Talk:
    """One recording as it is ranked; what questions need of it again and again is worked out once.

    Attributes:
        segments: In time order.
        embeddings: Theirs, float32 ``[n_segments, dimensions]``, unit length.
        passages: In time order.
        passage_embeddings: Theirs, float32 ``[n_passages, dimensions]``, unit length.
        bounds: ``[first, last)`` of each passage in ``segments``.
    """

    segments: Sequence[Segment]
    embeddings: np.ndarray
    passages: Sequence[Passage]
    passage_embeddings: np.ndarray
    bounds: Sequence[tuple[int, int]]

    @cached_property
    def language(self) -> str:
        """The language that most of it is in, as ``written_in`` names it."""
        some = self.segments[:: 1 + len(self.segments) // HEARD_FOR_LANGUAGE]
        return written_in(" ".join(segment.text for segment in some))

    @cached_property
    def terms(self) -> list[Sequence[str]]:
        """The searched terms of each segment; of music, that it is music."""
        return [
            (*search_terms(segment.text), "music") if segment.kind == "music" else search_terms(segment.text)
            for segment in self.segments
        ]

    @cached_property
    def known(self) -> frozenset[str]:
        """All its terms."""
        return frozenset(self.places)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """In which segments each term is said; twice in one where it is said twice."""
        found: dict[str, list[int]] = {}
        for at, terms in enumerate(self.terms):
            for term in terms:
                found.setdefault(term, []).append(at)
        return found

    @cached_property
    def lengths(self) -> np.ndarray:
        """Terms of each segment, float ``[n_segments]``."""
        return np.array([len(terms) for terms in self.terms], dtype=float)

    @cached_property
    def asks(self) -> np.ndarray:
        """1 for each segment that is a question, else 0, float ``[n_segments]``."""
        return np.array([asks_something(segment.text) for segment in self.segments], dtype=float)

    @cached_property
    def tells(self) -> np.ndarray:
        """What each segment tells by its words, float ``[n_segments, len(TOLD_NAMES)]``."""
        rows = zip(self.segments, self.asks, strict=True)
        return np.array([told(segment.text, bool(asks)) for segment, asks in rows])

    @cached_property
    def content(self) -> list[frozenset[str]]:
        """The terms of the content words of each segment."""
        return [content_terms(segment.text) for segment in self.segments]

    @cached_property
    def agenda(self) -> np.ndarray:
        """1 for each segment at an end of the talk that lists its subjects, else 0: ``[n_segments]``."""
        count = len(self.segments)
        # An agenda begins a talk and a sum-up ends it; between them, a list may well be the answer.
        ends = [at for at in range(count) if min(at, count - 1 - at) < AT_AN_END * count]
        found = np.zeros(count)
        found[ends] = [lists_subjects(self.segments[at].text, at, self.places, count) for at in ends]
        return found

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first segment of each passage, int ``[n_passages]``."""
        return np.array([first for first, _ in self.bounds], dtype=int)

    @cached_property
    def lasts(self) -> np.ndarray:
        """The segment behind each passage, int ``[n_passages]``."""
        return np.array([last for _, last in self.bounds], dtype=int)

    @cached_property
    def by_sound(self) -> dict[str, list[str]]:
        """Its words by how they sound."""
        words = {word for segment in self.segments for word in search_words(segment.text)} - STOP_WORDS
        found: dict[str, list[str]] = {}
        for word in sorted(words):
            for sound in sounds(word):
                found.setdefault(sound, []).append(word)
        return found

    @cached_property
    def speakers(self) -> list[str]:
        """The names of its voices."""
        return list(dict.fromkeys(segment.speaker for segment in self.segments if segment.speaker))

    @cached_property
    def voices(self) -> np.ndarray:
        """Who speaks each segment, as a number in ``speakers``, and their count where nobody is known."""
        numbers = {name: number for number, name in enumerate(self.speakers)}
        return np.array([numbers.get(segment.speaker or "", len(numbers)) for segment in self.segments])


@dataclass(frozen=True)
class Question:
    """A question as it is compared with one talk.

    Attributes:
        weights: How much each of its terms counts.
        alike: For terms that only sound like a word of the talk: that word's term.
        embeddings: Of the question, of its subject alone, and of both as ``tuned`` moves them, float32
            ``[4, dimensions]``, unit length.
        named: How far each voice is named in it, in [0, 1].
        background: How like ordinary talk each of its embeddings is, in [-1, 1].
        is_bare: Whether it has only one or two content words to look up.
        asks: The kinds of ``ASKED`` that it asks for.
        asks_for: What a sentence has that tells the amount or the time which is asked for.
        pointed: The probability that a sentence answers it rather than a stretch.
    """

    weights: Mapping[str, float]
    alike: Mapping[str, str]
    embeddings: np.ndarray
    named: Mapping[str, float]
    background: Sequence[float]
    is_bare: bool = False
    asks: frozenset[str] = frozenset()
    asks_for: re.Pattern[str] | None = None
    pointed: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """Scores of one talk.

    Attributes:
        passages: float ``[n_passages]``; only their order and differences mean something.
        sentences: Probability that a sentence belongs to an answer, float ``[n_segments]``.
        quotes: How well a sentence says the answer, float ``[n_segments]``; as ``passages``.
        leads: The same, with what its wording tells (``index.search.wording``).
        answers: Probability that the talk answers at all.
        is_answer: Whether it does: of a short talk less is asked, where the best is the best of a few; of a
            long one, that the question would not fit any other meeting as well.
        is_answer_among: Whether it is enough where several talks are asked: of those, a short one more often
            fits by chance.
    """

    passages: np.ndarray
    sentences: np.ndarray
    quotes: np.ndarray
    leads: np.ndarray
    answers: float
    is_answer: bool
    is_answer_among: bool


@cache
def learned(name: str = SAME) -> dict[str, Any]:
    """What was learned: weights by the names of what is measured."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text("utf-8"))


@cache
def learned_map(name: str = SAME) -> np.ndarray:
    """The map of questions' embeddings that was learned, float32 ``[dimensions, dimensions]``."""
    return np.load(Path(__file__).with_name(f"{name}.npy")).astype(np.float32)


@cache
def background() -> np.ndarray:
    """What talk is like that has nothing to do with a question: float32 ``[n, dimensions]``, unit length.

    The centres of clusters of stretches of many meetings. A question that is like all of them fits every
    recording, so being like one proves little (in speaker verification: normalising scores by a cohort).
    """
    return np.load(Path(__file__).with_name(BACKGROUND)).astype(np.float32)


def is_across(question: str, talk: Talk) -> bool:
    """Whether a question is in another language than a talk, as far as both can be told."""
    asked = written_in(question)
    return bool(asked and talk.language) and asked != talk.language


def subject_words(question: str) -> list[str]:
    """The words that say what a question is about: no words that any question may have."""
    frame = learned()["frame"]
    words = content_words(question)
    return [word for word in words if frame.get(stem(word), 1.0) > FRAME_KEPT] or words


def wordings(question: str, talk: Talk) -> tuple[str, str]:
    """The question and its subject alone, both with misheard words as they were heard."""
    heard = as_heard(question, talk)
    plain = _without_names(heard, named(heard, talk.speakers))
    return heard, " ".join(subject_words(plain)) or heard


def as_question(
    question: str,
    talk: Talk,
    embeddings: np.ndarray,
    tuning: np.ndarray | None = None,
    ordinary: np.ndarray | None = None,
) -> Question:
    """A question as it is compared with a talk.

    Args:
        question: Its text.
        talk: The talk.
        embeddings: Those of ``wordings``, ``[2, dimensions]``, unit length.
        tuning: The map of ``tuned``; by default the shipped one.
        ordinary: What ``background`` returns; by default the shipped embeddings.
    """
    names = named(question, talk.speakers)
    frame = learned()["frame"]
    words = content_words(_without_names(question, names)) or content_words(question)
    weights: dict[str, float] = {}
    alike: dict[str, str] = {}
    for word in words:
        for term in search_terms(word):
            weights[term] = max(FRAME_KEPT, frame.get(term, 1.0))
            if term not in talk.known and (other := _sounding(word, talk)):
                alike[term] = stem(other)
    both = np.concatenate([embeddings, tuned(embeddings, tuning)])
    likeness = like_background(both, background() if ordinary is None else ordinary)
    is_bare = len(search_words(question)) <= FEW_WORDS
    # “What about the mailbox?” looks it up too; “when does the courier fly?” asks for more than its words.
    is_bare = is_bare or (len(content_words(question)) <= FEW_WORDS and not asks_beyond(question))
    asks = frozenset(kind for kind, pattern in ASKED.items() if pattern.search(question))
    wanted = asked_for(question)
    return Question(weights, alike, both, names, likeness, is_bare, asks, wanted, pointedness(question))


def like_background(embeddings: np.ndarray, ordinary: np.ndarray) -> list[float]:
    """How like ordinary talk each of a question's embeddings is: its mean cosine with the most alike.

    At least what is usual, since being like nothing ordinary does not make a recording the answer. That
    stands, too, where another embedder than the packaged one makes vectors of another width.
    """
    usual = learned()["usual background"]
    if embeddings.shape[1] != ordinary.shape[1]:
        return list(usual)
    best = np.sort(ordinary @ embeddings.T, axis=0)[::-1][:BACKGROUND_BEST]
    return [max(float(value), least) for value, least in zip(best.mean(axis=0), usual, strict=True)]


def tuned(embeddings: np.ndarray, tuning: np.ndarray | None = None) -> np.ndarray:
    """Embeddings of questions moved to where their answers lie, by a learned map; unit length.

    Those of another embedder than the packaged one stay, if they have another width.
    """
    tuning = learned_map() if tuning is None else tuning
    if embeddings.shape[1] != len(tuning):
        return embeddings
    moved = embeddings @ tuning
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)


def as_heard(question: str, talk: Talk) -> str:
    """The question with words that the talk has not replaced by words of it that sound alike.

    Where the recogniser wrote "fairy" for every ferry, asking for the fairy finds them.
    """
    for word in content_words(question):
        other = None if talk.known.issuperset(search_terms(word)) else _sounding(word, talk)
        if other and begins_alike(word, other):
            question = re.sub(rf"\b{re.escape(word)}\b", other, question, flags=re.IGNORECASE)
    return question


def _sounding(word: str, talk: Talk) -> str | None:
    """A word of the talk that sounds like another one."""
    heard = {other for sound in sounds(word) for other in talk.by_sound.get(sound, ())}
    return min((other for other in heard if similarity(word, other) == SOUND_ALIKE), default=None)


def named(question: str, speakers: Sequence[str]) -> dict[str, float]:
    """How far a question names each voice, in [0, 1]: parts of a name count by how few voices have them.

    A part of one letter counts only as a capital inside the question.
    """
    asked = re.findall(r"\w+", question)
    words = {word.casefold() for word in asked if len(word) > 1}
    letters = {word for word in asked[1:] if len(word) == 1 and (word.isupper() or word.isdigit())}
    parts = {name: re.findall(r"\w+", name) for name in speakers}
    having: dict[str, int] = {}
    for name in speakers:
        for part in {part.casefold() for part in parts[name]}:
            having[part] = having.get(part, 0) + 1
    found = {}
    for name in speakers:
        weights = [_rarity(len(speakers), having[part.casefold()]) for part in parts[name]]
        hits = [part in letters if len(part) == 1 else part.casefold() in words for part in parts[name]]
        total = sum(weights)
        share = sum(weight for weight, hit in zip(weights, hits, strict=True) if hit)
        found[name] = share / total if total else 0.0
    return found


def _without_names(question: str, names: Mapping[str, float]) -> str:
    """The question without the names of voices that it names whole."""
    for name, share in names.items():
        if share > 0.99:
            question = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", question, flags=re.IGNORECASE)
    return question


def _rarity(total: int, having: float) -> float:
    """Inverse document frequency as BM25 has it, never negative."""
    return math.log(1.0 + (total - having + 0.5) / (having + 0.5))


# --- what is measured ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """Which of the question's terms a talk has.

    ``counts`` and ``passage_counts``: float ``[n_segments, n_terms]`` and ``[n_passages, n_terms]``;
    ``rarity``: ``[n_terms]``, with the terms' weights.
    """

    counts: np.ndarray
    passage_counts: np.ndarray
    rarity: np.ndarray

    def coverage(self, counts: np.ndarray) -> np.ndarray:
        """Share of the question that each row has, by rarity, in [0, 1]."""
        total = self.rarity.sum()
        return np.minimum(counts, 1.0) @ self.rarity / total if total else np.zeros(len(counts))


def _shared(question: Question, talk: Talk) -> _Shared:
    terms = list(question.weights)
    at = {term: number for number, term in enumerate(terms)}
    strength = np.ones(len(terms))
    for term, other in question.alike.items():
        at.setdefault(other, at[term])
        strength[at[term]] = SOUND_ALIKE
    counts = np.zeros((len(talk.segments), len(terms)))
    for term, column in at.items():
        said = np.bincount(talk.places.get(term, []), minlength=len(counts))
        counts[:, column] += strength[column] * said
    sums = np.concatenate([np.zeros((1, len(terms))), counts.cumsum(axis=0)])
    passage_counts = sums[talk.lasts] - sums[talk.firsts]
    having = (passage_counts > 0).sum(axis=0)
    rarity = np.array(
        [question.weights[term] * _rarity(len(talk.bounds), n) for term, n in zip(terms, having, strict=True)]
    )
    return _Shared(counts, passage_counts, rarity)


def _bm25(shared: _Shared, lengths: np.ndarray) -> np.ndarray:
    """BM25 of each passage."""
    counts = shared.passage_counts
    norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean()))[:, None]
    return (counts * (K1 + 1) / (counts + norm)) @ shared.rarity


def _own_words(shared: _Shared, names: np.ndarray, talk: Talk, lengths: np.ndarray) -> np.ndarray:
    """BM25 of what named voices say in each passage."""
    sums = np.concatenate(
        [np.zeros((1, len(shared.rarity))), (shared.counts * names[:, None]).cumsum(axis=0)]
    )
    counts = sums[talk.lasts] - sums[talk.firsts]
    return _bm25(_Shared(shared.counts, counts, shared.rarity), lengths)


def _beside(values: np.ndarray, distance: int) -> np.ndarray:
    """The mean of the values so far before and behind; at the ends, of the one there is."""
    padded = np.pad(values, distance, mode="edge")
    return (padded[: len(values)] + padded[2 * distance :]) / 2


def _around(values: np.ndarray, distance: int) -> np.ndarray:
    """The mean of all values within a distance, weighted less the further they are."""
    kernel = np.array([distance + 1 - abs(at) for at in range(-distance, distance + 1)], dtype=float)
    padded = np.pad(values, distance, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _moved(values: np.ndarray, places: int) -> np.ndarray:
    """The values so many places before, or, where negative, behind; 0 beyond the ends."""
    moved = np.zeros_like(values)
    if places > 0:
        moved[places:] = values[:-places]
    else:
        moved[:places] = values[-places:]
    return moved


def _relative(values: np.ndarray) -> np.ndarray:
    """Values by how far they stand out among all: mean 0, deviation 1."""
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def _to_best(values: np.ndarray) -> np.ndarray:
    """Values as a share of the largest one."""
    best = float(values.max(initial=0.0))
    return values / best if best > 0 else np.zeros_like(values)


class Measured:
    """What is measured of a talk for a question; each ``*_features`` is a dict of equally long rows."""

    def __init__(self, question: Question, talk: Talk) -> None:
        self.question, self.talk = question, talk
        self._shared = _shared(question, talk)
        self._asked = question.weights.keys() | set(question.alike.values())
        self._lengths, firsts, lasts = talk.lengths, talk.firsts, talk.lasts
        sums = np.concatenate([[0.0], self._lengths.cumsum()])
        self._passage_lengths = sums[lasts] - sums[firsts]
        self._bm25 = _bm25(self._shared, self._passage_lengths)
        self._cosines = talk.passage_embeddings @ question.embeddings.T
        self._sentence_cosines = talk.embeddings @ question.embeddings.T
        shares = np.array([*(question.named.get(name, 0.0) for name in talk.speakers), 0.0])
        self._names = shares[talk.voices]
        self._named = float(self._names.max(initial=0.0))
        self._own = _own_words(self._shared, self._names, talk, self._passage_lengths)
        spoken = np.concatenate([[0.0], (self._names * self._lengths).cumsum()])
        self._passage_names = (spoken[lasts] - spoken[firsts]) / np.maximum(1.0, self._passage_lengths)
        self._coverage = self._shared.coverage(self._shared.passage_counts)
        # Which passage a segment lies in.
        self.passage_of = np.repeat(np.arange(len(talk.bounds)), lasts - firsts)

    def passage_features(self) -> dict[str, np.ndarray]:
        """What the ranking weighs for each passage, as arrays ``[n_passages]``."""
        words = _to_best(self._bm25)
        whole, subject, tuned_whole, tuned_subject = self._cosines.T
        best = _best_mean(self._sentence_cosines, self.talk, self.passage_of)
        place = (np.arange(len(words)) + 0.5) / len(words)
        found = {
            "words": words,
            "coverage": self._coverage,
            "meaning": _relative(whole),
            "subject": _relative(subject),
            "tuned": _relative(tuned_whole),
            "tuned subject": _relative(tuned_subject),
            "best sentences": _relative(best[:, 0]),
            "best sentences, subject": _relative(best[:, 1]),
            "best sentences, tuned": _relative(best[:, 2]),
            "named": self._passage_names,
            "words of the named": _to_best(self._own),
            "opening": np.exp(-place * 20),
            "closing": np.exp((place - 1) * 20),
            "late": place,
        }
        for name in ("words", "coverage", "meaning", "subject", "tuned", "named", "words of the named"):
            found[f"{name}, beside"] = _beside(found[name], 1)
            found[f"{name}, near"] = _beside(found[name], 2)
        found["tuned, far"] = _beside(found["tuned"], 3)
        found["words, far"] = _beside(found["words"], 3)
        return found

    def sentence_features(self, passages: np.ndarray) -> dict[str, np.ndarray]:
        """What the ranking weighs for each sentence, as arrays ``[n_segments]``.

        Args:
            passages: The scores of the passages, float ``[n_passages]``.
        """
        whole, subject, tuned_whole, _ = self._sentence_cosines.T
        coverage = self._shared.coverage(self._shared.counts)
        relative = passages - passages.max(initial=-np.inf)
        rank = np.empty(len(passages))
        rank[np.argsort(-passages, kind="stable")] = np.arange(len(passages))
        inside = self.passage_of
        asks, firsts, lasts = self.talk.asks, self.talk.firsts, self.talk.lasts
        middle = (np.arange(len(whole)) - firsts[inside] + 0.5) / (lasts - firsts)[inside]
        padded = _beside_scores(relative, inside, middle)
        return {
            "meaning": whole,
            "subject": subject,
            "meaning, around": _around(whole, 2),
            "meaning, wide": _around(whole, 6),
            "subject, wide": _around(subject, 6),
            "tuned": tuned_whole,
            "tuned, around": _around(tuned_whole, 2),
            "tuned, wide": _around(tuned_whole, 6),
            "meaning, to best": whole - whole.max(initial=0.0),
            "coverage": coverage,
            "coverage, around": _around(coverage, 2),
            "coverage, wide": _around(coverage, 6),
            "passage": relative[inside],
            "passage, beside": padded,
            "passage is best": (rank[inside] == 0).astype(float) if len(passages) else whole * 0,
            "passage is second": (rank[inside] == 1).astype(float) if len(passages) else whole * 0,
            "passage is among five": (rank[inside] < 5).astype(float) if len(passages) else whole * 0,
            "length": np.log1p(self._lengths),
            "short": (self._lengths < 4).astype(float),
            "asks": asks,
            "after a question": np.concatenate([[0.0], asks[:-1]]),
            "named": self._names,
            "not named": (self._named > 0.3) * (1.0 - self._names),
            "named, near": _around(self._names, 4),
        }

    def lead_features(self, sentences: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What tells which sentence says the answer best, as arrays ``[n_segments]``.

        Args:
            sentences: What ``sentence_features`` returns.
        """
        found = dict(sentences)
        found |= {f"{name}, beside others": _relative(values) for name, values in sentences.items()}
        for name, places in (("meaning", (1, 2, -1)), ("coverage", (1, 2, -1)), ("subject", (1, -1))):
            for place in places:
                found[f"{name}, {place} before"] = _moved(sentences[name], place)
        asked = sentences["after a question"]
        voices = self.talk.voices
        same = np.concatenate([[0.0], (voices[1:] == voices[:-1]).astype(float)])
        replies = asked * (1.0 - same)
        found |= {"reply": replies, "goes on": same}
        for name in ("meaning", "coverage"):
            before = _moved(sentences[name], 1)
            found[f"{name} of the question before"] = asked * before
            found[f"{name} of the question it replies to"] = replies * before
            found[f"{name} of what it goes on from"] = same * before
        found["echo"] = np.array([echo(terms, self._asked) for terms in self.talk.content])
        found["agenda"] = self.talk.agenda
        for name, values in zip(TOLD_NAMES, self.talk.tells.T, strict=True):
            found[f"tells {name}"] = values
            for kind in ASKED:
                found[f"tells {name}, asked {kind}"] = values * (kind in self.question.asks)
        return found

    def exactness(self) -> np.ndarray:
        """How far each sentence has exactly what was looked up: a number, or all of one or two bare words."""
        numbers = np.array([term[:1].isdigit() for term in self.question.weights], dtype=bool)
        counts = np.minimum(self._shared.counts, 1.0)
        found = counts[:, numbers].min(axis=1) if numbers.any() else np.zeros(len(counts))
        if self.question.is_bare:
            found = np.maximum(found, self._shared.coverage(self._shared.counts))
        return found

    def gate_features(self) -> dict[str, float]:
        """What tells whether the recording answers the question at all."""
        shared = self._shared
        sentences = shared.coverage(shared.counts)
        top = np.sort(self._cosines, axis=0)[::-1][:5]
        any_said = shared.coverage(shared.counts.max(axis=0, initial=0.0)[None, :])[0]
        best = np.sort(self._sentence_cosines, axis=0)[::-1][:5]
        return self._beside_background() | {
            "coverage": float(self._coverage.max(initial=0.0)),
            "coverage of a sentence": float(sentences.max(initial=0.0)),
            "coverage of two": float(_around(sentences, 2).max(initial=0.0)),
            "said anywhere": float(any_said),
            "meaning": float(top[0, 0]),
            "subject": float(top[0, 1]),
            "meaning of five": float(top[:, 0].mean()),
            "subject of five": float(top[:, 1].mean()),
            "tuned": float(top[0, 2]),
            "tuned of five": float(top[:, 2].mean()),
            "best sentence": float(best[0, 0]),
            "best sentence, subject": float(best[0, 1]),
            "best five, subject": float(best[:, 1].mean()),
            "stands out": float(top[0, 0] - np.median(self._cosines[:, 0])),
            "terms": math.log1p(len(self.question.weights)),
            "named": self._named,
            "agree": float(self._coverage.max(initial=0.0) * top[0, 1]),
        }

    def _beside_background(self) -> dict[str, float]:
        """How like the question is to ordinary talk, and to this talk as a whole."""
        names = ("meaning", "subject", "tuned", "tuned subject")
        mean, deviation = self._cosines.mean(axis=0), self._cosines.std(axis=0)
        found = {}
        for at, name in enumerate(names):
            found[f"{name}, background"] = self.question.background[at]
            found[f"{name}, whole talk"] = float(mean[at])
            found[f"{name}, deviation"] = float(deviation[at])
        return found


def _best_mean(cosines: np.ndarray, talk: Talk, passage_of: np.ndarray) -> np.ndarray:
    """The mean of the three best sentences of each passage, by column, ``[n_passages, n_columns]``."""
    lengths = talk.lasts - talk.firsts
    total = np.zeros((len(lengths), cosines.shape[1]), dtype=cosines.dtype)
    for column, values in enumerate(cosines.T):
        # Best first within each passage, which stays where it is.
        ordered = values[np.lexsort((-values, passage_of))]
        for place in range(3):
            has = lengths > place
            total[has, column] += ordered[talk.firsts[has] + place]
    return total / np.minimum(lengths, 3)[:, None].astype(cosines.dtype)


def _beside_scores(relative: np.ndarray, inside: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The score of the passage that a sentence lies next to: before it in its first half, else behind it."""
    other = np.clip(inside + np.where(middle < 0.5, -1, 1), 0, max(0, len(relative) - 1))
    return relative[other]


# --- how it is weighed --------------------------------------------------------------------------------


def rank(question: Question, talk: Talk, name: str = SAME) -> Ranked:
    """Score a talk's passages and sentences for a question; the talk has at least one passage.

    Args:
        question: As ``as_question`` makes it.
        talk: The talk, embedded by the same model.
        name: What was learned for such questions.
    """
    measured = Measured(question, talk)
    weights = learned(name)
    passages = weigh(measured.passage_features(), weights["passages"])
    sentences = measured.sentence_features(passages)
    features = {name: np.array([value]) for name, value in measured.gate_features().items()}
    answers = float(logistic(weigh_some(features, weights["gate"]))[0])
    exact = measured.exactness()
    is_exact = exact.max(initial=0.0) >= 1.0
    if is_exact:
        answers = max(answers, SAID_EXACTLY)
    is_long = len(talk.segments) > SHORT
    is_answer_among = answers >= weights["answers from"]["long"]
    if is_long and not is_exact and "gate of long talks" in weights:
        # One gate stops questions of what no meeting is about, the other those that would fit any meeting.
        chance = float(logistic(weigh_some(features, weights["gate of long talks"]))[0])
        is_answer_among = is_answer_among and chance >= weights["answers from"]["gate of long talks"]
    quotes = weigh(sentences, weights["quotes"]) + EXACT * exact
    chances = logistic(weigh(sentences, weights["sentences"]))
    leads = _by_wording(quotes, sentences["coverage"], question, talk)
    if not is_long:
        # A stretch fits by its sentence with most of the question's words: that may be an agenda's.
        says = sentences["coverage"] + 1e-3 * quotes
        best = [first + int(np.argmax(says[first:last])) for first, last in talk.bounds]
        passages = passages + STRETCHES_BY_WORDING * (leads - quotes)[best]
    # From even odds on, a question counts as a pointed one.
    share = min(1.0, 2.0 * question.pointed)
    if len(talk.segments) >= LEADS_FROM and name == SAME and share >= LEAST_SHARE:
        found = weigh(measured.lead_features(sentences), learned(LEADS)) + EXACT * exact
        answering = (found + WORDING_COUNTS * (leads - quotes)) / FLATTER
        quotes, leads = (share * answering + (1.0 - share) * values for values in (quotes, leads))
        mixed = share * chances.max() * np.exp(leads - leads.max()) + (1.0 - share) * chances
        # The best is as likely as before, so that talks can be compared.
        chances = mixed * (chances.max() / mixed.max())
    return Ranked(
        passages,
        chances,
        quotes,
        leads,
        answers,
        is_answer_among if is_long else answers >= weights["answers from"]["short"],
        is_answer_among,
    )


def _by_wording(quotes: np.ndarray, coverage: np.ndarray, question: Question, talk: Talk) -> np.ndarray:
    """How well sentences say the answer, less or more by their wording; of the best ones.

    Args:
        quotes: How well each says it otherwise.
        coverage: Share of the question that each has, in [0, 1]: another amount is no answer.
        question: What is asked.
        talk: Whose sentences they are.
    """
    found = quotes.copy()
    asked = question.weights.keys() | set(question.alike.values())

    def tells(at: int) -> bool:
        told = question.asks_for is not None and question.asks_for.search(talk.segments[at].text)
        return bool(told) and not talk.asks[at]

    for at in np.argsort(-quotes)[:LOOKED_AT].tolist():
        text = talk.segments[at].text
        # “There is a test. We do it on Monday.”
        goes_on = at + 1 < len(found) and talk.voices[at] == talk.voices[at + 1] and tells(at + 1)
        found[at] += CARRIES * (0.3 + coverage[at]) * (1.0 if tells(at) else 0.5 * goes_on)
        found[at] -= ECHOES * echo(talk.content[at], asked)
        # An agenda begins a talk and a sum-up ends it; between them, a list may well be the answer.
        if min(at, len(found) - 1 - at) < AT_AN_END * len(found):
            found[at] -= LISTS * lists_subjects(text, at, talk.places, len(found))
    return found


def weigh(features: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted sum of measurements, with the constant."""
    total = weights["constant"] + np.zeros(len(next(iter(features.values()))))
    for name, values in features.items():
        total += weights[name] * values
    return total


def weigh_some(features: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """As ``weigh``, of those measurements that have a weight."""
    return weigh({name: values for name, values in features.items() if name in weights}, weights)


def logistic(values: np.ndarray) -> np.ndarray:
    """Probabilities of log odds."""
    return 1.0 / (1.0 + np.exp(-values))
