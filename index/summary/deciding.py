"""Where a long recording decides something, although people seldom say "we have decided".

Each sentence is scored by the stretch around it: what people say there (the phrases that
``index/summary/sentence_scores.py`` knows, what is said in so many words, how short the turns are), what it
is about (embeddings), and how all of this is in the rest of the recording, so that one in which nothing is
decided has no place that scores well. A linear model over these measurements, learned from meetings with
written summaries (``benchmarks/train_summaries.py``). Embeddings of another model than the packaged one
are left out of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from index.summary import speech_acts as acts
from index.summary.sentence_scores import KINDS
from index.weights import check_sha256

WEIGHTS = Path(__file__).with_name("deciding.npz")
WEIGHTS_SHA256 = "66b4723c7d76696b94baeb168c86dca8fff623e62064de35a5d4ae559e1a77aa"

PHRASES = ("deciding", "key", "settled", "asked")
"""Kinds of sentences whose scores by phrases count, and which embeddings are compared with."""

LARGEST = 4.0
"""No measurement counts as further from its mean than so many deviations: a recording of ten hours is no more
unlike a meeting than one of two."""

SHORT_WORDS = 4
"""A sentence of fewer words is a short reply."""

_NARROW = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
_WIDE = np.ones(11) / 11
_MODAL = re.compile(r"\b(?:will|should|could|can|would|gonna|going to)\b|['’]ll\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|hundred|percent|euros?)\b", re.IGNORECASE
)
_ACTS: Mapping[str, Callable[[str], bool]] = {
    "decides": acts.decides,
    "concludes": acts.concludes,
    "proposes": acts.proposes,
    "leaves open": acts.leaves_open,
    "agrees": acts.agrees,
    "asks": acts.asks,
}


def near_mean(values: np.ndarray, before: int, behind: int) -> np.ndarray:
    """The mean of the values from so many before each to so many behind it; 0 where there are none."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values))
    first, last = np.maximum(0, at - before), np.minimum(len(values), at + behind + 1)
    return (sums[last] - sums[first]) / np.maximum(1, last - first)


def _near_best(values: np.ndarray, distance: int) -> np.ndarray:
    padded = np.pad(values, distance, mode="edge")
    return np.max([padded[at : at + len(values)] for at in range(2 * distance + 1)], axis=0)


def _smooth(columns: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    padded = np.pad(columns, ((len(kernel) // 2,) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1)


def by_meaning(vectors: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """How near each stretch is to the stretches of each kind, by its embeddings.

    Args:
        vectors: float32 ``[n_sentences, dimensions]``.
        weights: ``[dimensions, 2 · len(PHRASES)]``: for short stretches, then for longer ones.
        bias: ``[2 · len(PHRASES)]``.
    """
    narrow, wide = np.split(vectors @ weights + bias, 2, axis=1)
    columns = [*_smooth(narrow, _NARROW).T, *_smooth(wide, _WIDE).T]
    names = [f"{size} {kind}" for size in ("meaning", "wide meaning") for kind in PHRASES]
    return dict(zip(names, columns, strict=True))


def smoothed(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of a short and of a longer stretch around each sentence, as ``by_meaning`` sees them."""
    return _smooth(vectors, _NARROW), _smooth(vectors, _WIDE)


def measure(
    texts: Sequence[str],
    speakers: Sequence[str | None],
    phrases: np.ndarray,
    meaning: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """What is measured of the stretch around each sentence, float64 ``[n_sentences]`` each.

    Args:
        texts: The sentences in order, at least one.
        speakers: Who says each.
        phrases: Scores by phrases, ``[n_sentences, len(KINDS)]``.
        meaning: As ``by_meaning`` makes it.
    """
    count = len(texts)
    found: dict[str, np.ndarray] = {}
    told = {kind: phrases[:, KINDS.index(kind)].astype(np.float64) for kind in PHRASES}
    for name, values in told.items():
        found[name] = values
        for distance in (2, 8, 25):
            found[f"{name}, within {distance}"] = near_mean(values, distance, distance)
        found[f"{name}, best"] = _near_best(values, 5)
        found[f"{name}, then"] = near_mean(values, 0, 8)
    for name, values in meaning.items():
        for distance in (2, 8, 25):
            found[f"{name}, within {distance}"] = near_mean(values, distance, distance)
    for name in ("deciding", "key", "settled", "meaning deciding", "meaning key"):
        values = told[name] if name in told else meaning[name]
        near = near_mean(values, 3, 3)
        found[f"{name}, rank"] = np.argsort(np.argsort(-near, kind="stable")) / count
        found[f"{name}, of the best"] = np.full(count, np.sort(near)[-max(1, count // 50) :].mean())
        found[f"{name}, of all"] = np.full(count, values.mean())
    for name, does in _ACTS.items():
        values = np.array([does(text) for text in texts], dtype=np.float64)
        found[f"{name}, within 3"] = near_mean(values, 3, 3)
        found[f"{name}, within 10"] = near_mean(values, 10, 10)
        if name in ("agrees", "asks"):
            found[f"{name}, then"] = near_mean(values, -1, 5)
    for name, pattern in (("modal", _MODAL), ("number", _NUMBER)):
        values = np.array([len(pattern.findall(text)) for text in texts], dtype=np.float64)
        found[f"{name}, within 3"] = near_mean(values, 3, 3)
        found[f"{name}, within 10"] = near_mean(values, 10, 10)
    lengths = np.array([len(text.split()) for text in texts], dtype=np.float64)
    return found | _turns(lengths, speakers)


def _turns(lengths: np.ndarray, speakers: Sequence[str | None]) -> dict[str, np.ndarray]:
    """How people take turns around each sentence."""
    count = len(lengths)
    short = (lengths < SHORT_WORDS).astype(np.float64)
    turns = np.array([at > 0 and speakers[at] != speakers[at - 1] for at in range(count)], dtype=np.float64)
    talked: Counter[str | None] = Counter()
    for speaker, length in zip(speakers, lengths, strict=True):
        talked[speaker] += int(length)
    most = max(talked.values())
    total = max(1, sum(talked.values()))
    leads = np.array([talked[speaker] == most for speaker in speakers], dtype=np.float64)
    return {
        "short, then": near_mean(short, -1, 6),
        "short, within 10": near_mean(short, 10, 10),
        "length": lengths,
        "length, within 3": near_mean(lengths, 3, 3),
        "length, within 10": near_mean(lengths, 10, 10),
        "turns, within 5": near_mean(turns, 5, 5),
        "turns, within 15": near_mean(turns, 15, 15),
        "share": np.array([talked[speaker] / total for speaker in speakers]),
        "leads, within 5": near_mean(leads, 5, 5),
        "speakers": np.full(count, float(len(talked))),
        "share of the busiest": np.full(count, most / total),
    }


@cache
def _weights() -> dict[str, np.ndarray]:
    check_sha256(WEIGHTS, WEIGHTS_SHA256)
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


def standardised(measured: Mapping[str, np.ndarray], mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Measurements in deviations from their means, ``[n_sentences, n_measurements]``."""
    return np.clip((np.stack(list(measured.values()), axis=1) - mean) / deviation, -LARGEST, LARGEST)


def scores(
    texts: Sequence[str], speakers: Sequence[str | None], phrases: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """Log-odds that something is decided within three sentences of each: float ``[n_sentences]``.

    Args:
        texts, speakers, phrases: As in ``measure``.
        vectors: Embeddings, float32 ``[n_sentences, dimensions]``.

    Raises:
        WeightsError: The weights are missing or not the shipped ones.
    """
    weights = _weights()
    is_known = vectors.shape[1] == len(weights["meaning"])
    known = vectors if is_known else np.zeros((len(texts), len(weights["meaning"])), dtype=np.float32)
    meaning = by_meaning(known, weights["meaning"], weights["meaning_bias"])
    measured = measure(texts, speakers, phrases, meaning)
    values = standardised(measured, weights["mean"], weights["deviation"])
    if not is_known:
        by_vectors = ("meaning", "wide meaning")
        values[:, [name.startswith(by_vectors) for name in measured]] = 0.0
    return np.asarray(values @ weights["weights"] + weights["bias"], dtype=np.float64)
