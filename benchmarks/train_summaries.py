"""Learns which sentences a summary lists: ``python -m benchmarks.train_summaries FILE.jsonl.gz``.

The file holds meetings, one a line: ``sentences`` (``[speaker, text]``) and ``summary`` (written sentences
with the numbers of the spoken ones that prove them). Nothing of it is shipped but the weights of phrases that
stand in many meetings.

* deciding: within three sentences of the evidence for a written sentence that reports a decision;
* action: evidence for "X will …", "X was instructed to …";
* question: evidence for "it is unclear …", "could not decide whether …";
* key: evidence for any written sentence.

The meetings are of a few kinds, each about one subject. So that the weights hold for other subjects, only
phrases are kept that are about as frequent in every kind. Logistic regression, so the same file gives the
same weights.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from index.summary.sentence_scores import KINDS, REACH, WEIGHTS, circumstances, phrases, scale

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
        elif kind == "deciding":
            model.fit(spoken, evidence_of(summarised, REACH, lambda sentence: sentence["decision"]))
        else:
            model.fit(spoken, evidence_of(summarised, 0, lambda _: True))
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


def main() -> None:
    """Learn from a file and write the weights, or another file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("meetings", type=Path, help="the meetings to learn from")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    options = parser.parse_args()
    np.savez_compressed(options.out, **train(read(options.meetings)))
    digest = hashlib.sha256(options.out.read_bytes()).hexdigest()
    print(f"{options.out} ({options.out.stat().st_size // 1024} kB); WEIGHTS_SHA256 = {digest!r}")


if __name__ == "__main__":
    main()
