"""Learn which sentence answers a pointed question best (``index/search/ranking_leads.json``).

From questions about talks, of which most are answered by one sentence (``benchmarks/talks.py``): weights of
what ``Measured.lead_features`` measures, by the softmax over the sentences of a talk. Prints how often one
that answers is the first, and among the first three and six, on ``val``, and on ``test`` if asked: by the
ranking for broad questions, by what was learned, and by both as answers are ranked; with ``--together``, in
so many talks that are one recording.

    python -m benchmarks.train_leads [--test] [--together 6]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.meetings import SECONDS_A_WORD
from benchmarks.talks import talks_of, together
from index.records import Segment
from index.search import ranking
from index.search.embeddings import Embedder
from index.search.passages import cut_passages
from index.search.ranking import LEADS, Measured, as_question, learned, rank, weigh, wordings

STEPS, LEARNING_RATE, DECAY = 200, 0.02, 1.0
"""Of AdamW, over all questions at a time."""
NEVER = -1e9


@dataclass(frozen=True)
class Asked:
    """A question: what is measured, ``[n_sentences, n_features]``, what answers, how it is ranked, and how it
    would be if it were a broad one."""

    features: np.ndarray
    answers: Sequence[int]
    leads: np.ndarray
    broad: np.ndarray


def asked(part: str, embedder: Embedder, several: int = 1) -> tuple[list[Asked], list[str]]:
    """The questions of a part that their talk answers, and the names of what is measured."""
    found: list[Asked] = []
    names: list[str] = []
    talks = [talk for talk in talks_of(part) if talk.questions]
    for first in range(0, len(talks), several):
        talk = together(talks[first : first + several])
        ends = np.cumsum([SECONDS_A_WORD * len(text.split()) for text in talk.texts]).tolist()
        rows = zip(talk.sentences, [0.0, *ends[:-1]], ends, strict=True)
        segments = [
            Segment(start, end, text, speaker=speaker, id=at, recording="talk")
            for at, ((speaker, text), start, end) in enumerate(rows)
        ]
        passages = cut_passages(segments)
        ranked = ranking.Talk(
            segments,
            embedder.encode_passages(talk.texts),
            passages,
            embedder.encode_passages([passage.text for passage in passages]),
            [(passage.segment_ids[0], passage.segment_ids[-1] + 1) for passage in passages],
        )
        for question, answers in talk.questions:
            if not answers:
                continue
            embeddings = np.stack([embedder.encode_query(text) for text in wordings(question, ranked)])
            measured = Measured(as_question(question, ranked, embeddings), ranked)
            scores = weigh(measured.passage_features(), learned()["passages"])
            features = measured.lead_features(measured.sentence_features(scores))
            names = list(features)
            leads = rank(measured.question, ranked).leads
            broad = rank(replace(measured.question, pointed=0.0), ranked).leads
            found.append(Asked(np.stack(list(features.values()), axis=1), answers, leads, broad))
    return found, names


def learn(questions: Sequence[Asked]) -> np.ndarray:
    """The weight of each feature."""
    every = np.concatenate([question.features for question in questions])
    mean, spread = every.mean(axis=0), np.maximum(every.std(axis=0), 1e-3)
    longest = max(len(question.features) for question in questions)
    data = torch.zeros(len(questions), longest, every.shape[1])
    open_, right = torch.full((2, len(questions), longest), NEVER)
    for at, question in enumerate(questions):
        count = len(question.features)
        data[at, :count] = torch.from_numpy((question.features - mean) / spread)
        open_[at, :count] = 0.0
        right[at, list(question.answers)] = 0.0
    weights = torch.zeros(every.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=LEARNING_RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        scores = data @ weights + open_
        loss = (scores.logsumexp(1) - (scores + right).logsumexp(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights.detach().numpy() / spread


def show_ranks(name: str, questions: Sequence[Asked], scores: Callable[[Asked], np.ndarray]) -> None:
    """Print how often an answer is first, and among the first three and six."""
    places = []
    for question in questions:
        order = np.argsort(-scores(question), kind="stable").tolist()
        places.append(min(order.index(answer) for answer in question.answers))
    shares = [f"{np.mean([place < most for place in places]):.3f}" for most in (1, 3, 6)]
    print(
        f"{name}: {len(questions)} questions, first {', among three and six '.join(shares[:2])}, {shares[2]}"
    )


def main() -> None:
    """Learn, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--test", action="store_true", help="measure on test as well")
    parser.add_argument("--together", type=int, default=1, help="so many talks make one recording")
    chosen = parser.parse_args()
    parts = ("val", "test") if chosen.test else ("val",)
    embedder = Embedder()
    questions, names = asked("train", embedder)
    weights = learn(questions)
    for part in parts:
        others, _ = asked(part, embedder, chosen.together)
        show_ranks(f"{part}, as broad questions are", others, lambda question: question.broad)
        show_ranks(f"{part}, learned", others, lambda question: question.features @ weights)
        show_ranks(f"{part}, as answers are", others, lambda question: question.leads)
    learned_weights = dict(zip(names, np.round(weights, 4).tolist(), strict=True))
    target = Path(ranking.__file__).with_name(f"{LEADS}.json")
    target.write_text(json.dumps({"constant": 0.0, **learned_weights}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
