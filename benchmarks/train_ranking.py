"""Learn ``index/search/ranking.json`` from meetings with questions.

    python -m benchmarks.train_ranking TRAIN.jsonl.gz VAL.jsonl.gz [--cache FOLDER] [--out FOLDER] [--across]

Weights are learned on the first file; where the gate stands is chosen on the second. What is measured is the
program's own (``index.search.ranking``); all that is learned are numbers, and the stems of words that
questions have whatever they are about. Beside ``ranking.json`` a map of embeddings, ``ranking.npy``, is made.

``--across`` learns ``ranking_across``, for questions in another language than the talk: from the same English
questions, embedded by the multilingual encoder, with a gate that knows nothing of shared words.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from benchmarks.meetings import (
    NEAR_EVIDENCE,
    SECONDS_A_WORD,
    Meeting,
    Query,
    RememberingEmbedder,
    read_meetings,
)
from index.records import Segment
from index.search import multilingual, ranking
from index.search.embeddings import Embedder
from index.search.passages import cut_passages
from index.search.ranking import FRAME_KEPT, Measured, Talk
from index.text import search_terms
from index.vocabulary import STOP_WORDS

FRAME_SHARE = 0.25
"""Share of the meetings whose questions have a word, from which on it counts nothing."""

MAP_RANK = 32

ORDINARY = 64
"""Clusters of stretches that stand for ordinary talk."""

BEST_SAID, LOOKED_AT = 3, 8
"""Sentences that count as what was answered, and stretches among whose sentences they are to be found."""

OWN_REFUSED, OWN_REFUSED_LONG = 3, 6
"""Percent of the second file's own questions that the gate refuses, and the one that long talks also have."""

BESIDE_BACKGROUND = ("background", "whole talk", "deviation")
"""What only the gate of long talks measures: a short talk has too few stretches."""

ACROSS_OWN_REFUSED = 6
"""The same of the gate for other languages: a question is less alike to its answer there."""

ACROSS_GATE = (
    *("meaning", "subject", "meaning of five", "subject of five", "best sentence", "best sentence, subject"),
    *("best five, subject", "stands out"),
)
"""What a gate can measure where question and answer share no words."""

FOREIGN_REFUSED = 97
"""Percent of questions of other meetings that it refuses of short pieces, where more is alike by chance."""

FAR_KEPT = 0.3

SHORTEST, LONGEST = 8, ranking.SHORT
"""Sentences of the pieces that stand for short recordings."""

RIDGE = 1e-3
"""Weight of the squared weights in what is minimised, for measurements of deviation 1."""


class AcrossEmbedder:
    """The multilingual encoder as an embedder."""

    name = multilingual.NAME
    dimensions = multilingual.DIMENSIONS

    def __init__(self) -> None:
        self._encoder = multilingual.MultilingualEncoder()

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """As ``Embedder.encode_passages``."""
        return self._encoder.encode(texts)

    def encode_query(self, text: str) -> np.ndarray:
        """As ``Embedder.encode_query``."""
        return self._encoder.encode([text])[0]


def talk_of(meeting: Meeting, embedder: RememberingEmbedder) -> Talk:
    """A meeting as it is ranked; the numbers of its segments are those of its sentences."""
    ends = np.cumsum([SECONDS_A_WORD * len(text.split()) for _, text in meeting.sentences])
    segments = [
        Segment(float(start), float(end), text, speaker=speaker, id=number, recording=meeting.id)
        for number, ((speaker, text), start, end) in enumerate(
            zip(meeting.sentences, [0.0, *ends[:-1]], ends, strict=True)
        )
    ]
    passages = cut_passages(segments)
    bounds = [(passage.segment_ids[0], passage.segment_ids[-1] + 1) for passage in passages]
    ordered = [segments[number] for passage in passages for number in passage.segment_ids]
    return Talk(
        ordered,
        embedder.encode_passages([segment.text for segment in ordered]),
        passages,
        embedder.encode_passages([passage.text for passage in passages]),
        bounds,
    )


def measure(
    query: str,
    talk: Talk,
    embedder: RememberingEmbedder,
    tuning: np.ndarray,
    ordinary: np.ndarray,
) -> Measured:
    """What the program measures of a talk for a query."""
    vectors = np.stack([embedder.encode_query(wording) for wording in ranking.wordings(query, talk)])
    return Measured(ranking.as_question(query, talk, vectors, tuning, ordinary), talk)


def learn_background(talks: Sequence[Talk]) -> np.ndarray:
    """What ordinary talk is like: centres of clusters of stretches, float16 ``[ORDINARY, dimensions]``."""
    from sklearn.cluster import KMeans

    stretches = np.concatenate([talk.passage_embeddings for talk in talks])
    centres = KMeans(ORDINARY, n_init=1, random_state=0).fit(stretches).cluster_centers_
    return (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float16)


def usual_background(
    meetings: Sequence[Meeting],
    backgrounds: Sequence[np.ndarray],
    embedder: RememberingEmbedder,
    tuning: np.ndarray,
) -> list[float]:
    """How like ordinary talk of other domains the meetings' questions are in the mean, ``[4]``."""
    ranking.learned()["usual background"] = [-1.0] * 4
    likeness = []
    for meeting, ordinary in zip(meetings, backgrounds, strict=True):
        for query in meeting.queries:
            wordings = (query.text, " ".join(ranking.subject_words(query.text)))
            vectors = np.stack([embedder.encode_query(wording) for wording in wordings])
            both = np.concatenate([vectors, ranking.tuned(vectors, tuning)])
            likeness.append(ranking.like_background(both, ordinary))
    return [round(float(value), 3) for value in np.mean(likeness, axis=0)]


def frame_words(meetings: Sequence[Meeting]) -> dict[str, float]:
    """Weights of words that questions have whatever they are about: asked in meetings of every domain."""
    asking: Counter[str] = Counter()
    domains: defaultdict[str, set[str]] = defaultdict(set)
    for meeting in meetings:
        for term in {term for query in meeting.queries for term in search_terms(query.text)}:
            asking[term] += 1
            domains[term].add(meeting.domain)
    everywhere = len({meeting.domain for meeting in meetings})
    found = {}
    for term, count in sorted(asking.items()):
        share = count / len(meetings)
        if len(domains[term]) == everywhere and share >= 0.02 and term not in STOP_WORDS:
            found[term] = round(max(FRAME_KEPT, 1 - share / FRAME_SHARE), 3)
    return found


def in_gold(query: Query, count: int) -> np.ndarray:
    """Which of so many sentences lie in a stretch that answers, bool ``[count]``."""
    marked = np.zeros(count, dtype=bool)
    for first, last in query.gold:
        marked[first : last + 1] = True
    return marked


def near_evidence(query: Query, count: int) -> np.ndarray:
    """Which of so many sentences are so near to evidence that citing them counts, bool ``[count]``."""
    marked = np.zeros(count, dtype=bool)
    for sentence in query.evidence:
        marked[max(0, sentence - NEAR_EVIDENCE) : sentence + NEAR_EVIDENCE + 1] = True
    return marked


def rows(features: dict[str, np.ndarray]) -> np.ndarray:
    """Measurements as a matrix ``[n, n_measurements]``."""
    return np.stack(list(features.values()), axis=1)


class Scale:
    """Brings measurements to deviation 1 for the fit, and weights back."""

    def __init__(self, names: Iterable[str], data: np.ndarray) -> None:
        self.names = list(names)
        self.mean, self.deviation = data.mean(axis=0), np.maximum(data.std(axis=0), 1e-6)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """The scaled measurements."""
        return (data - self.mean) / self.deviation

    def weights(self, fitted: np.ndarray) -> dict[str, float]:
        """Weights for the measurements as they are; the last of ``fitted`` is the constant."""
        plain = fitted[:-1] / self.deviation
        constant = float(fitted[-1] - plain @ self.mean)
        named = {name: round(float(weight), 5) for name, weight in zip(self.names, plain, strict=True)}
        return {**named, "constant": round(constant, 5)}


def fit_logistic(data: np.ndarray, wanted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Logistic regression; ``wanted`` in [0, 1], ``counts`` weighs the rows. The constant comes last."""
    counts = counts / counts.sum()

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        values = data @ weights[:-1] + weights[-1]
        told = 1 / (1 + np.exp(-values))
        total = float(counts @ (np.logaddexp(0, values) - wanted * values))
        slope = counts * (told - wanted)
        gradient = np.append(data.T @ slope + 2 * RIDGE * weights[:-1], slope.sum())
        return total + RIDGE * float(weights[:-1] @ weights[:-1]), gradient

    return minimize(loss, np.zeros(data.shape[1] + 1), jac=True, method="L-BFGS-B").x


def fit_lists(lists: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Weights under which, in each list, rows that are wanted come first (softmax over each list).

    Args:
        lists: Scaled measurements ``[n, n_measurements]``, and how much each row is wanted, 1 in all.
    """

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = RIDGE * float(weights @ weights), 2 * RIDGE * weights
        for data, wanted in lists:
            values = data @ weights
            values -= values.max()
            share = np.exp(values)
            share /= share.sum()
            hit = float(share[wanted > 0].sum())
            # Half for all that is wanted, half for any of it.
            total += (0.5 * float(-wanted @ np.log(share + 1e-12)) - 0.5 * np.log(hit + 1e-12)) / len(lists)
            any_of = np.where(wanted > 0, share / max(hit, 1e-12), 0.0)
            gradient = gradient + data.T @ (share - 0.5 * wanted - 0.5 * any_of) / len(lists)
        return total, gradient

    fitted = minimize(loss, np.zeros(lists[0][0].shape[1]), jac=True, method="L-BFGS-B").x
    return np.append(fitted, 0.0)


# --- the map of embeddings ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """Something that people wrote about a meeting, where it was said, and how much it counts."""

    meeting: int
    text: str
    where: tuple[tuple[int, int], ...]
    weight: float
    asked: bool


def read_told(file: Path) -> list[Told]:
    """Topics, questions, answers and sentences of summaries with the stretches or sentences they rest on."""
    found: list[Told] = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            meeting = json.loads(line)
            for topic in meeting["topics"]:
                found.append(Told(number, topic["topic"], _spans(topic["gold"]), 1.0, True))
            for query in meeting["queries"]:
                found.append(Told(number, query["query"], _spans(query["gold"]), 1.0, True))
                found.append(Told(number, query["answer"], _single(query["evidence"]), 0.5, False))
            for said in meeting["summary"]:
                found.append(Told(number, said["sentence"], _single(said["evidence"]), 0.5, False))
    return [told for told in found if told.where]


def _spans(spans: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in spans)


def _single(sentences: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple((sentence, sentence) for sentence in sentences)


def learn_map(
    told: Sequence[Told], vectors: np.ndarray, talks: Sequence[Talk], chosen: set[int]
) -> np.ndarray:
    """The map under which what was told of the chosen meetings comes nearest to where it was said.

    The identity plus a product of two thin matrices, the mean of a few that were learned in other orders:
    all that was told four times over, and topics and questions alone six times over.
    """
    import torch

    passages = {number: torch.tensor(talks[number].passage_embeddings) for number in chosen}
    examples = []
    for at, item in enumerate(told):
        if item.meeting not in chosen:
            continue
        wanted = [
            float(any(first <= end and begin < last for begin, end in item.where))
            for first, last in talks[item.meeting].bounds
        ]
        if any(wanted):
            examples.append((at, item, torch.tensor(wanted)))
    every = torch.tensor(vectors)

    def learn(seed: int, asked_only: bool, rounds: int) -> np.ndarray:
        torch.manual_seed(seed)
        left = torch.nn.Parameter(torch.randn(every.shape[1], MAP_RANK) * 0.02)
        right = torch.nn.Parameter(torch.zeros(MAP_RANK, every.shape[1]))
        sharpness = torch.nn.Parameter(torch.tensor(2.5))
        optimizer = torch.optim.AdamW([left, right, sharpness], lr=5e-4, weight_decay=0.3)
        some = [example for example in examples if example[1].asked or not asked_only]
        for round_ in range(rounds):
            random.Random(100 * seed + round_).shuffle(some)
            for at in range(0, len(some), 32):
                batch = some[at : at + 32]
                asked = every[[number for number, _, _ in batch]]
                asked = torch.nn.functional.normalize(asked + asked @ left @ right, dim=-1)
                loss = torch.zeros(())
                for vector, (_, item, wanted) in zip(asked * sharpness.exp(), batch, strict=True):
                    share = torch.log_softmax(passages[item.meeting] @ vector, 0)
                    any_of = torch.logsumexp(share[wanted > 0], 0)
                    loss = loss - item.weight * (any_of + share @ wanted / wanted.sum()) / 64
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return (left @ right).detach().numpy()

    made = [
        learn(seed, asked_only, 6 if asked_only else 4) for seed in (0, 1) for asked_only in (False, True)
    ]
    return (np.eye(every.shape[1]) + np.mean(made, axis=0)).astype(np.float32)


def report(stands: dict[str, float], chances: dict[str, np.ndarray]) -> None:
    """Say how many questions of each kind are refused where a gate stands."""
    for kind, found in chances.items():
        limit = stands.get("short" if kind.startswith("short") else "long")
        if limit is not None:
            print(f"{kind}: {np.mean(found < limit):.3f} refused at {limit:.3f}", file=sys.stderr)


# --- all of it ----------------------------------------------------------------------------------------


def learn_quotes(
    asked: Sequence[tuple[Query, Talk, Measured]],
    passages: dict[str, float],
    sentence_rows: Sequence[np.ndarray],
    embedder: RememberingEmbedder,
) -> dict[str, float]:
    """Weights under which those sentences come first that say what people answered.

    Wanted are the ``BEST_SAID`` sentences near evidence that are nearest to the written answer, among
    all of the ``LOOKED_AT`` best stretches.
    """
    answers = embedder.encode_passages([query.answer for query, _, _ in asked])
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    for (query, talk, measured), data, answer in zip(asked, sentence_rows, answers, strict=True):
        scores = ranking.weigh(measured.passage_features(), passages)
        near = near_evidence(query, len(talk.segments))
        best = np.argsort(-scores)[:LOOKED_AT]
        among = np.flatnonzero(near | np.isin(measured.passage_of, best))
        alike = np.where(near[among], talk.embeddings[among] @ answer, -1.0)
        wanted = np.zeros(len(among))
        wanted[np.argsort(-alike)[:BEST_SAID]] = 1 / BEST_SAID
        if query.answer and len(among) > BEST_SAID and near.sum() >= BEST_SAID:
            lists.append((data[among], wanted))
    names = asked[0][2].sentence_features(np.zeros(len(asked[0][1].bounds)))
    scale = Scale(names, np.concatenate([data for data, _ in lists]))
    return scale.weights(fit_lists([(scale.apply(data), wanted) for data, wanted in lists]))


def learn_gate(
    measured: Sequence[tuple[dict[str, float], bool]],
) -> dict[str, float]:
    """Weights of the gate from measurements of talks, each with whether the talk answers."""
    data = np.array([list(features.values()) for features, _ in measured])
    wanted = np.array([answers for _, answers in measured], dtype=float)
    # Both sides count the same.
    counts = np.where(wanted > 0, 1 / wanted.sum(), 1 / (1 - wanted).sum())
    scale = Scale(measured[0][0], data)
    return scale.weights(fit_logistic(scale.apply(data), wanted, counts))


def gate_examples(
    meetings: Sequence[Meeting],
    talks: Sequence[Talk],
    embedder: RememberingEmbedder,
    tunings: Sequence[np.ndarray],
    backgrounds: Sequence[np.ndarray],
    kinds: Sequence[str],
) -> Iterator[tuple[str, dict[str, float]]]:
    """Measurements of talks for their own questions and for those of other meetings.

    Args:
        meetings: Whose questions are asked.
        talks: Theirs, in the same order.
        embedder: What the questions are embedded with.
        tunings: The map of each talk.
        backgrounds: What ordinary talk is like, for the questions of each meeting.
        kinds: Which of ``own``, ``same`` (another meeting of the domain is asked) and ``other`` (of another
            domain); ``short own`` and ``short other`` ask only a piece of the meeting, one with an answer in
            it where there is one.

    Yields:
        The kind, and what was measured.
    """
    rng = random.Random(1)
    for at, meeting in enumerate(meetings):
        others = [number for number in range(len(meetings)) if number != at]
        alike = [number for number in others if meetings[number].domain == meeting.domain]
        unlike = [number for number in others if meetings[number].domain != meeting.domain]
        for query in meeting.queries:
            asked = {"own": at, "same": rng.choice(alike or others), "other": rng.choice(unlike or others)}
            for kind in kinds:
                number = asked[kind.removeprefix("short ")]
                talk = talks[number]
                if kind.startswith("short "):
                    first, last = rng.choice(query.gold) if number == at else (0, len(talk.segments) - 1)
                    talk = piece_of(talk, rng.randint(first, min(last, len(talk.segments) - 1)), rng)
                measured = measure(query.text, talk, embedder, tunings[number], backgrounds[at])
                yield kind, measured.gate_features()


def piece_of(talk: Talk, around: int, rng: random.Random) -> Talk:
    """Some neighbouring passages of a talk, one with the sentence ``around`` among them.

    In a short recording the best stretch is the best of a few, so nothing in it fits as well by chance.
    """
    # Twice as long and half as long are equally frequent.
    length = round(SHORTEST * (LONGEST / SHORTEST) ** rng.random())
    begin = around - rng.randint(0, length)
    inside = [at for at, (first, last) in enumerate(talk.bounds) if last > begin and first < begin + length]
    start, end = talk.bounds[inside[0]][0], talk.bounds[inside[-1]][1]
    passages = slice(inside[0], inside[-1] + 1)
    return Talk(
        talk.segments[start:end],
        talk.embeddings[start:end],
        talk.passages[passages],
        talk.passage_embeddings[passages],
        [(first - start, last - start) for first, last in talk.bounds[passages]],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, choose, write and say how well it does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="meetings to learn from")
    parser.add_argument("val", type=Path, help="meetings to choose on")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps embeddings")
    parser.add_argument(
        "--out", type=Path, default=Path(ranking.__file__).parent, help="folder of what is learned"
    )
    parser.add_argument("--across", action="store_true", help="learn for questions in other languages")
    options = parser.parse_args(arguments)
    made_by = AcrossEmbedder() if options.across else Embedder()
    embedder = RememberingEmbedder(made_by, options.cache, questions=True)
    meetings, chosen_on = read_meetings(options.train), read_meetings(options.val)
    frame = frame_words(meetings)
    ranking.learned()["frame"] = frame
    talks = [talk_of(meeting, embedder) for meeting in meetings]
    val_talks = [talk_of(meeting, embedder) for meeting in chosen_on]
    told = read_told(options.train)
    vectors = embedder.encode_passages([item.text for item in told])
    embedder.save()
    # What weighs a measurement must not have been taught with the questions it is measured on.
    halves = [set(range(start, len(meetings), 2)) for start in (0, 1)]
    by_half = [learn_map(told, vectors, talks, half) for half in halves]
    tunings = [by_half[1 - number % 2] for number in range(len(meetings))]
    tuning = learn_map(told, vectors, talks, set(range(len(meetings))))
    print("maps learned", file=sys.stderr)
    ordinary = learn_background(talks).astype(np.float32)
    # People will ask about what no meeting of these speaks of.
    domains = [meeting.domain for meeting in meetings]
    others = {
        domain: learn_background([talk for talk, own in zip(talks, domains, strict=True) if own != domain])
        for domain in set(domains)
    }
    backgrounds = [others[domain].astype(np.float32) for domain in domains]
    usual = usual_background(meetings, backgrounds, embedder, tuning)
    ranking.learned()["usual background"] = usual

    asked = [
        (query, talk, measure(query.text, talk, embedder, by_talk, ordinary))
        for meeting, talk, by_talk in zip(meetings, talks, tunings, strict=True)
        for query in meeting.queries
    ]
    passage_rows = [rows(measured.passage_features()) for _, _, measured in asked]
    scale = Scale(asked[0][2].passage_features(), np.concatenate(passage_rows))
    lists = []
    for (query, talk, _), data in zip(asked, passage_rows, strict=True):
        gold = in_gold(query, len(talk.segments))
        wanted = np.array([gold[first:last].mean() for first, last in talk.bounds])
        if wanted.any():
            lists.append((scale.apply(data), wanted / wanted.sum()))
    passages = scale.weights(fit_lists(lists))

    print("passages learned", file=sys.stderr)
    sentence_rows, sentence_wanted, counts = [], [], []
    for query, talk, measured in asked:
        scores = ranking.weigh(measured.passage_features(), passages)
        sentence_rows.append(rows(measured.sentence_features(scores)).astype(np.float32))
        count = len(talk.segments)
        sentence_wanted.append(in_gold(query, count) & near_evidence(query, count))
        counts.append(np.full(count, 1 / count))
    wanted = np.concatenate(sentence_wanted).astype(float)
    # Most sentences are far from any answer: some of them stand for all.
    kept = (np.random.default_rng(0).random(len(wanted)) < FAR_KEPT) | (wanted > 0)
    weights = np.concatenate(counts) * np.where(wanted > 0, 1.0, 1.0 / FAR_KEPT)
    data = np.concatenate(sentence_rows)[kept].astype(np.float64)
    scale = Scale(asked[0][2].sentence_features(np.zeros(len(asked[0][1].bounds))), data)
    sentences = scale.weights(fit_logistic(scale.apply(data), wanted[kept], weights[kept]))
    print("sentences learned", file=sys.stderr)

    quotes = learn_quotes(asked, passages, sentence_rows, embedder)

    # Meetings of one domain answer each other's questions too often to be examples of talks that do not.
    examples = list(gate_examples(meetings, talks, embedder, tunings, backgrounds, ("own", "other")))
    embedder.save()
    names = set(examples[0][1])
    plain = {name for name in names if not name.endswith(BESIDE_BACKGROUND)}
    plain = set(ACROSS_GATE) if options.across else plain
    shipped, every = [tuning] * len(chosen_on), [ordinary] * len(chosen_on)
    kinds = ("own", "other", "short own", "short other", "same")
    tried = list(gate_examples(chosen_on, val_talks, embedder, shipped, every, kinds))
    embedder.save()

    def learn(kept: set[str]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """A gate, and what it gives the second file's questions by kind."""
        only = [({name: x for name, x in f.items() if name in kept}, kind == "own") for kind, f in examples]
        gate, chances = learn_gate(only), defaultdict(list)
        for kind, features in tried:
            value = ranking.weigh_some({name: np.array([x]) for name, x in features.items()}, gate)
            chances[kind].append(float(ranking.logistic(value)[0]))
        return gate, {kind: np.array(found) for kind, found in chances.items()}

    gate, chances = learn(plain)
    own = ACROSS_OWN_REFUSED if options.across else OWN_REFUSED
    stands = {
        "long": float(np.percentile(chances["own"], own)),
        "short": float(np.percentile(chances["short other"], FOREIGN_REFUSED)),
    }
    report({"long": stands["long"], "short": stands["short"]}, chances)
    of_long: dict[str, dict[str, float]] = {}
    if not options.across:
        of_long["gate of long talks"], chances = learn(names)
        stands["gate of long talks"] = float(np.percentile(chances["own"], OWN_REFUSED_LONG))
        report({"long": stands["gate of long talks"]}, chances)

    learned = {
        "frame": frame,
        "passages": passages,
        "sentences": sentences,
        "quotes": quotes,
        "gate": gate,
        **of_long,
        "usual background": usual,
        "answers from": {length: round(value, 3) for length, value in stands.items()},
    }
    name = ranking.ACROSS if options.across else ranking.SAME
    np.save(options.out / f"{name}.npy", tuning.astype(np.float16))
    if not options.across:
        np.save(options.out / ranking.BACKGROUND, ordinary.astype(np.float16))
    text = json.dumps(learned, indent=1, ensure_ascii=False) + "\n"
    (options.out / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
