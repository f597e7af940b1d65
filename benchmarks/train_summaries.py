"""Learns what a summary lists.

    python -m benchmarks.train_summaries TRAIN.jsonl.gz VAL.jsonl.gz --cache FOLDER [--out FOLDER]

The files hold meetings, one a line: ``sentences`` (``[speaker, text]``), ``summary`` (written sentences with
the numbers of the spoken ones that prove them) and ``queries`` (people's questions, likewise). Everything is
learned from the first file; what it is worth is printed for both. Nothing of them is shipped but weights: of
phrases that stand in many meetings, of dimensions of embeddings, and of measurements.

By phrases (``sentence_scores.npz``):

* deciding: within three sentences of the evidence for a written sentence that reports a decision;
* action: evidence for "X will …", "X was instructed to …";
* question: evidence for "it is unclear …", "could not decide whether …";
* key: evidence for any written sentence;
* settled: as deciding, and within three sentences of the evidence of a question about a decision;
* asked: evidence of any question.

The meetings are of a few kinds, each about one subject. So that the weights hold for other subjects, only
phrases are kept that are about as frequent in every kind. Logistic regression, so the same file gives the
same weights.

Where something is decided (``deciding.npz``): ridge regression from the embeddings of stretches to some of
these kinds, then logistic regression from all that ``index.summary.deciding`` measures. What it learns from
was scored by weights that had not seen the meeting.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from benchmarks.meetings import NEAR_DECISION, RememberingEmbedder
from index.search.embeddings import Embedder
from index.summary import deciding, findings, sentence_scores
from index.summary.sentence_scores import KINDS, REACH, PhraseWeights, circumstances, phrases, scale

LEAST_SENTENCES = 20
"""A phrase is kept if it stands in so many sentences, …"""

LEAST_SHARE = 0.2
"""… in this share of the meetings of each kind, …"""

MOST_UNLIKE = 1.2
"""… and in shares whose logarithms differ by no more than this."""

STRENGTH = 3.0
"""Phrases are weighted with this beside the circumstances, so that both are regularised alike."""

REGULARISATION = 0.005
"""Inverse strength, chosen by cross-validation over groups of meetings on the file itself."""

WRITTEN_WEIGHT = 5.0
"""How much a written sentence counts beside a spoken one."""

_WHO = (
    r"(?:(?:the |a )?(?:[\w-]+ ){0,2}(?:designers?|expert|manager|marketing|group|team|members?)"
    r"|(?:speaker )?\w{2}\d{3}|(?:grad|phd|professor|postdoc|undergrad) \w|he|she|they)"
)
_ACTION = re.compile(
    rf"^{_WHO}(?: and {_WHO})* (?:will|is to|are to|has to|have to|needs? to|plans? to|offered to|"
    r"volunteered to|(?:was|were) (?:asked|instructed|told|assigned))\b"
    r"|\b(?:instructed|asked|assigned) the \w+",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"\b(?:unclear|unresolved|not clear|undecided|uncertain|unsure|not sure|open (?:question|issue)|"
    r"yet to be|still to be|not yet|could not decide|whether or not|not known|need to (?:decide|find out))\b"
    r"|\?$",
    re.IGNORECASE,
)

_ASKED_FOR_DECISION = re.compile(r"\b(?:decid|decision|agree\b|agreed|conclu)", re.IGNORECASE)

FOLDS = 5
"""Parts of the first file, by meetings; each is scored by weights learned from the others."""

RIDGE = 1.0
"""Weight of the squared weights of embeddings."""

DECIDING_RIDGE = 0.06
"""The same of the measurements of stretches, for deviations of 1 and the mean loss; chosen, as ``EVERY`` was
taken for its speed, by cross-validation on the first file among 0.001 to 0.3."""

EVERY = 3
"""One in so many sentences is learned from: its neighbours are hardly different."""

Meeting = dict[str, Any]

WRITTEN: dict[str, Callable[[Meeting], bool]] = {
    "action": lambda written: _ACTION.search(written["sentence"]) is not None,
    "question": lambda written: _QUESTION.search(written["sentence"]) is not None,
}
"""What a written sentence must be for its evidence to be of a kind. The written sentence itself is learned
from as well, since people promise something in the words in which it is written down."""

CIRCUMSTANCES = 8
"""Columns of ``circumstances``."""


def read(path: Path) -> list[Meeting]:
    """The meetings of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def evidence(meeting: Meeting, reach: int, wanted: Callable[[Meeting], bool]) -> np.ndarray:
    """Which sentences lie within ``reach`` of evidence for a wanted written one: bool ``[n_sentences]``."""
    labels = np.zeros(len(meeting["sentences"]), dtype=bool)
    for written in meeting["summary"]:
        for at in written["evidence"] if wanted(written) else ():
            labels[max(0, at - reach) : at + reach + 1] = True
    return labels


def vocabulary(meetings: list[Meeting]) -> list[str]:
    """The phrases that are frequent enough, and about as frequent in every kind of meeting."""
    sentences: Counter[str] = Counter()
    within: dict[str, Counter[str]] = {}
    for meeting in meetings:
        said = [phrases(text) for _, text in meeting["sentences"]]
        sentences.update(part for parts in said for part in parts)
        within.setdefault(meeting["domain"], Counter()).update(set().union(*said))
    sizes = Counter(meeting["domain"] for meeting in meetings)
    kept = []
    for part, count in sentences.items():
        shares = [within[domain][part] / size for domain, size in sizes.items()]
        unlike = np.log(max(shares) + 0.02) - np.log(min(shares) + 0.02)
        if count >= LEAST_SENTENCES and min(shares) >= LEAST_SHARE and unlike <= MOST_UNLIKE:
            kept.append(part)
    return sorted(kept)


def own_phrases(texts: list[str], at: dict[str, int]) -> sparse.csr_matrix:
    """Which phrases stand in each text: ``[n_texts, n_phrases]`` of 0 and 1."""
    rows = [sorted(at[part] for part in phrases(text) if part in at) for text in texts]
    indices = np.array([number for row in rows for number in row], dtype=np.int32)
    borders = np.cumsum([0, *map(len, rows)])
    return sparse.csr_matrix((np.ones(len(indices)), indices, borders), (len(rows), len(at)))


def scaled(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """The counts, weighted as ``sentence_scores`` weights them."""
    return sparse.diags(STRENGTH * scale(np.asarray(counts.sum(axis=1)).ravel())) @ counts


def matrix(meetings: list[Meeting], at: dict[str, int]) -> sparse.csr_matrix:
    """Circumstances, own phrases and neighbours' phrases: ``[n_sentences, 8 + 2 · n_phrases]``."""
    blocks = []
    for meeting in meetings:
        texts = [text for _, text in meeting["sentences"]]
        own = own_phrases(texts, at)
        offsets = [offset for offset in range(-REACH, REACH + 1) if offset and abs(offset) < len(texts)]
        around = sparse.diags([1.0] * len(offsets), offsets, shape=(len(texts), len(texts))) @ own
        rest = circumstances(texts, [speaker for speaker, _ in meeting["sentences"]])
        blocks.append(sparse.hstack([rest, scaled(own), scaled(around)]))
    return sparse.vstack(blocks).tocsr()


def evidence_of(meetings: list[Meeting], reach: int, wanted: Callable[[Meeting], bool]) -> np.ndarray:
    """``evidence`` of all meetings, one after the other."""
    return np.concatenate([evidence(meeting, reach, wanted) for meeting in meetings])


def marked(meeting: Meeting, kind: str) -> np.ndarray:
    """Which sentences are of a kind of ``deciding.PHRASES``: bool ``[n_sentences]``."""
    if kind == "key":
        return evidence(meeting, 0, lambda _: True)
    found = np.zeros(len(meeting["sentences"]), dtype=bool)
    if kind != "asked":
        found |= evidence(meeting, REACH, lambda written: written["decision"])
    for query in meeting["queries"] if kind != "deciding" else ():
        text = query["query"]
        is_about = _ASKED_FOR_DECISION.search(text) and "disagree" not in text.lower()
        reach = 0 if kind == "asked" else REACH
        for at in query["evidence"] if kind == "asked" or is_about else ():
            found[max(0, at - reach) : at + reach + 1] = True
    return found


def train(meetings: list[Meeting]) -> dict[str, np.ndarray]:
    """The arrays that ``index.summary.sentence_scores`` reads."""
    summarised = [meeting for meeting in meetings if meeting["summary"]]
    words = vocabulary(summarised)
    at = {word: number for number, word in enumerate(words)}
    spoken = matrix(summarised, at)
    written = [sentence for meeting in summarised for sentence in meeting["summary"]]
    texts = scaled(own_phrases([sentence["sentence"] for sentence in written], at))
    usual = sparse.csr_matrix(np.tile(spoken[:, :CIRCUMSTANCES].mean(axis=0), (len(written), 1)))
    alone = spoken[:, : CIRCUMSTANCES + len(words)]
    both = sparse.vstack([alone, sparse.hstack([usual, texts])]).tocsr()
    weights = np.concatenate([np.ones(spoken.shape[0]), np.full(len(written), WRITTEN_WEIGHT)])
    columns, biases = [], []
    for kind in KINDS:
        model = LogisticRegression(C=REGULARISATION, max_iter=300)
        if kind in WRITTEN:
            wanted = WRITTEN[kind]
            heard = evidence_of(summarised, 0, wanted)
            model.fit(both, np.concatenate([heard, [wanted(sentence) for sentence in written]]), weights)
        else:
            model.fit(spoken, np.concatenate([marked(meeting, kind) for meeting in summarised]))
        columns.append(np.pad(model.coef_[0], (0, spoken.shape[1] - model.coef_.shape[1])))
        biases.append(model.intercept_[0])
    learned = np.stack(columns, axis=1)
    own, near = np.split(STRENGTH * learned[CIRCUMSTANCES:], 2)
    return {
        "vocabulary": np.frombuffer("\n".join(words).encode(), dtype=np.uint8),
        "own": own.astype(np.float16),
        "near": near.astype(np.float16),
        "rest": learned[:CIRCUMSTANCES].astype(np.float32),
        "bias": np.array(biases, dtype=np.float32),
    }


# --- where something is decided -----------------------------------------------------------------------


def train_meaning(
    meetings: Sequence[Meeting], vectors: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of ``deciding.by_meaning``."""
    learned = [at for at, meeting in enumerate(meetings) if meeting["summary"]]
    pairs = [deciding.smoothed(vectors[at]) for at in learned]
    wanted = np.concatenate(
        [np.stack([marked(meetings[at], kind) for kind in deciding.PHRASES], axis=1) for at in learned]
    ).astype(np.float32)
    usual = wanted.mean(axis=0)
    columns, biases = [], []
    for size in (0, 1):
        data = np.concatenate([pair[size] for pair in pairs]).astype(np.float32)
        mean = data.mean(axis=0)
        data -= mean
        square = (data.T @ data).astype(np.float64) + RIDGE * np.eye(data.shape[1])
        fitted = np.linalg.solve(square, data.T @ (wanted - usual))
        columns.append(fitted)
        biases.append(usual - mean @ fitted)
    return np.concatenate(columns, axis=1).astype(np.float32), np.concatenate(biases).astype(np.float32)


@dataclass(frozen=True)
class Scorer:
    """What measures stretches: weights of phrases and of embeddings."""

    phrases: PhraseWeights
    meaning: np.ndarray
    bias: np.ndarray

    @classmethod
    def learned(cls, meetings: Sequence[Meeting], vectors: Sequence[np.ndarray]) -> Self:
        """A scorer learned from some meetings."""
        return cls(PhraseWeights.of(train(list(meetings))), *train_meaning(meetings, vectors))

    def measure(self, meeting: Meeting, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """What ``deciding.measure`` says of a meeting."""
        speakers, texts = zip(*meeting["sentences"], strict=True)
        told = sentence_scores.scores(texts, speakers, self.phrases)
        return deciding.measure(texts, speakers, told, deciding.by_meaning(vectors, self.meaning, self.bias))


def folds_of(meetings: Sequence[Meeting]) -> np.ndarray:
    """The fold of each meeting, each with about as many meetings of every kind."""
    rng = np.random.default_rng(0)
    folds = np.zeros(len(meetings), dtype=int)
    for domain in sorted({meeting["domain"] for meeting in meetings}):
        inside = [at for at, meeting in enumerate(meetings) if meeting["domain"] == domain]
        rng.shuffle(inside)
        folds[inside] = np.arange(len(inside)) % FOLDS
    return folds


@dataclass(frozen=True)
class Stretches:
    """The linear model over standardised measurements."""

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    bias: float

    @classmethod
    def learned(cls, measured: Sequence[dict[str, np.ndarray]], meetings: Sequence[Meeting]) -> Self:
        """Learned from measurements and what people marked."""
        every = np.concatenate([np.stack(list(one.values()), axis=1) for one in measured])
        mean, deviation = every.mean(axis=0), np.maximum(every.std(axis=0), 1e-6)
        data = [deciding.standardised(one, mean, deviation)[::EVERY] for one in measured]
        wanted = np.concatenate([marked(meeting, "deciding")[::EVERY] for meeting in meetings])
        strength = 1 / (2 * DECIDING_RIDGE * len(wanted))
        model = LogisticRegression(C=strength, max_iter=300).fit(np.concatenate(data), wanted)
        return cls(mean, deviation, model.coef_[0], float(model.intercept_[0]))

    def score(self, measured: dict[str, np.ndarray]) -> np.ndarray:
        """Log-odds of each sentence."""
        return deciding.standardised(measured, self.mean, self.deviation) @ self.weights + self.bias


def listed_figures(
    meetings: Sequence[Meeting], scored: Sequence[np.ndarray], least: float
) -> tuple[float, float, int]:
    """Recall and precision of the exchanges that are listed from a score on, and their number."""
    recalled: list[bool] = []
    right: list[bool] = []
    for meeting, values in zip(meetings, scored, strict=True):
        exchanges = [findings.around(at, len(values)) for at in findings.places(values, least)]
        written = [sentence["evidence"] for sentence in meeting["summary"] if sentence["decision"]]

        def near(exchange: tuple[int, int], proof: list[int]) -> bool:
            first, last = exchange
            return any(first - NEAR_DECISION <= at < last + NEAR_DECISION for at in proof)

        recalled += [any(near(exchange, proof) for exchange in exchanges) for proof in written]
        right += [any(near(exchange, proof) for proof in written) for exchange in exchanges]
    return float(np.mean(recalled)), float(np.mean(right)) if right else 0.0, len(right)


def train_deciding(meetings: list[Meeting], vectors: list[np.ndarray]) -> tuple[Stretches, list[np.ndarray]]:
    """The model over stretches, and each meeting's scores by one that had not seen it."""
    folds = folds_of(meetings)
    measured: list[dict[str, np.ndarray]] = [{} for _ in meetings]
    for fold in range(FOLDS):
        rest = np.flatnonzero(folds != fold)
        other = Scorer.learned([meetings[at] for at in rest], [vectors[at] for at in rest])
        for at in np.flatnonzero(folds == fold):
            measured[at] = other.measure(meetings[at], vectors[at])
        print(f"fold {fold + 1} of {FOLDS} measured", file=sys.stderr)
    unseen: list[np.ndarray] = [np.zeros(0)] * len(meetings)
    for fold in range(FOLDS):
        rest = np.flatnonzero(folds != fold)
        model = Stretches.learned([measured[at] for at in rest], [meetings[at] for at in rest])
        for at in np.flatnonzero(folds == fold):
            unseen[at] = model.score(measured[at])
    return Stretches.learned(measured, meetings), unseen


def save(path: Path, arrays: dict[str, Any]) -> None:
    """Write weights and print their hash."""
    np.savez_compressed(path, **arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name} ({path.stat().st_size // 1024} kB); WEIGHTS_SHA256 = {digest!r}")


def main() -> None:
    """Learn from a file, write the weights into a folder, and say what they are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="the meetings to learn from")
    parser.add_argument("val", type=Path, help="other meetings, to see whether it holds")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps embeddings")
    parser.add_argument("--out", type=Path, default=deciding.WEIGHTS.parent, help="where the weights go")
    options = parser.parse_args()
    embedder = RememberingEmbedder(Embedder(), options.cache)
    parts = []
    for path in (options.train, options.val):
        meetings = read(path)
        parts.append(
            (meetings, [embedder.encode_passages([text for _, text in m["sentences"]]) for m in meetings])
        )
    embedder.save()
    (meetings, vectors), (others, other_vectors) = parts
    phrases_learned = train(meetings)
    scorer = Scorer(PhraseWeights.of(phrases_learned), *train_meaning(meetings, vectors))
    model, unseen = train_deciding(meetings, vectors)
    scored = [
        model.score(scorer.measure(meeting, own)) for meeting, own in zip(others, other_vectors, strict=True)
    ]
    for least in np.arange(-3.4, -1.0, 0.1):
        shown = [listed_figures(*part, least) for part in ((meetings, unseen), (others, scored))]
        print(f"from {least:.1f}:", *(f"{r:.3f} / {p:.3f} ({count})" for r, p, count in shown))
    save(options.out / sentence_scores.WEIGHTS.name, phrases_learned)
    arrays = {"mean": model.mean, "deviation": model.deviation, "weights": model.weights}
    arrays |= {"meaning": scorer.meaning, "meaning_bias": scorer.bias, "bias": np.array(model.bias)}
    kept = {
        name: values.astype(np.float16 if name == "meaning" else np.float32)
        for name, values in arrays.items()
    }
    save(options.out / deciding.WEIGHTS.name, kept)


if __name__ == "__main__":
    main()
