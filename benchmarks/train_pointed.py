"""Learn which questions a sentence answers, and which a stretch of talk (``index/search/pointed.json``).

From the questions about short talks (``benchmarks/talks.py``), of which most are answered by a sentence, and
those that people wrote about long meetings (``benchmarks/meetings.py``), which are about stretches. Logistic
regression over phrases that are common in meetings of several kinds, or in questions about many talks.

    python -m benchmarks.train_pointed TRAIN.jsonl.gz VAL.jsonl.gz

Prints how many questions of each kind are told: of the second file and of the talks of ``val``, and of each
kind of meeting by what was learned without it. Needs scikit-learn, which comes with sentence-transformers.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.talks import talks_of
from index.search.pointed import WEIGHTS, length, phrases

STRENGTH = 0.1
"""scikit-learn's C; chosen on the second file and ``val`` among 0.01, 0.03, 0.1 and 1."""
OF_KINDS, OF_QUESTIONS, OF_TALKS = 2, 6, 12
"""A phrase counts that is in questions about meetings of so many kinds and in so many, or about so many
talks."""

Question = tuple[str, str, bool]
"""Which kind of meeting or which talk it is about, its text, whether it is pointed."""


def broad(path: Path) -> Iterator[Question]:
    """The questions about the meetings of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            meeting = json.loads(line)
            yield from ((meeting["domain"], query["query"], False) for query in meeting["queries"])


def pointed(part: str) -> Iterator[Question]:
    """The questions about the talks of a part."""
    for talk in talks_of(part):
        yield from ((talk.title, question, True) for question, _ in talk.questions)


def common(questions: Sequence[Question]) -> list[str]:
    """The phrases that count."""
    about: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for subject, text, is_pointed in questions:
        for phrase in phrases(text):
            about[phrase, is_pointed].append(subject)
    found = set()
    for (phrase, is_pointed), subjects in about.items():
        many = len(set(subjects))
        if many >= OF_TALKS if is_pointed else many >= OF_KINDS and len(subjects) >= OF_QUESTIONS:
            found.add(phrase)
    return sorted(found)


def learn(questions: Sequence[Question]) -> dict[str, float]:
    """What each phrase counts, as ``index.search.pointed.WEIGHTS`` has it."""
    at = {phrase: number for number, phrase in enumerate(common(questions))}
    data = np.zeros((len(questions), len(at) + 1), dtype=np.float32)
    for row, (_, text, _) in enumerate(questions):
        data[row, [at[phrase] for phrase in phrases(text) if phrase in at]] = 1.0
        data[row, -1] = length(text)
    wanted = [is_pointed for _, _, is_pointed in questions]
    model = LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced").fit(data, wanted)
    weights = dict(zip([*at, " "], model.coef_[0], strict=True)) | {"": model.intercept_[0]}
    return {phrase: round(float(weight), 3) for phrase, weight in weights.items() if abs(weight) >= 5e-4}


def told(weights: dict[str, float], questions: Sequence[Question]) -> str:
    """The share of questions whose kind is told rightly."""
    right = []
    for _, text, is_pointed in questions:
        known = sum(weights.get(phrase, 0.0) for phrase in phrases(text))
        right.append((weights[""] + weights[" "] * length(text) + known > 0) == is_pointed)
    return f"{np.mean(right):.3f} of {len(right)}"


def main() -> None:
    """Learn, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="the meetings to learn from")
    parser.add_argument("val", type=Path, help="other meetings, to see whether it holds")
    chosen = parser.parse_args()
    meetings, talks = list(broad(chosen.train)), list(pointed("train"))
    others = list(broad(chosen.val))
    weights = learn([*meetings, *talks])
    print(f"broad: {told(weights, others)}; pointed: {told(weights, list(pointed('val')))}")
    for kind in sorted({subject for subject, _, _ in meetings}):
        rest = learn([*(question for question in meetings if question[0] != kind), *talks])
        unseen = [question for question in [*meetings, *others] if question[0] == kind]
        print(f"broad, {kind}, learned without it: {told(rest, unseen)}")
    WEIGHTS.write_text(json.dumps(dict(sorted(weights.items())), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
