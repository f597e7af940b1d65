"""Learn which questions a sentence answers, and which a stretch of talk (``index/search/pointed.json``).

From the questions about talks (``benchmarks/talks.py``), of which most are answered by a sentence; those
that people wrote about long meetings (``benchmarks/meetings.py``), which are about stretches; and questions
of both kinds that were written to be alike in everything else (``question_kinds.json``), those of each part
by other authors who had not seen the program. Logistic regression over phrases that are common in meetings of
every kind or in questions about many talks, or that several of those have which were written alike.

    python -m benchmarks.train_pointed TRAIN.jsonl.gz VAL.jsonl.gz

Prints how many questions of each kind are told rightly: of the second file, of the talks of ``val``, of
``question_kinds.json``'s ``val``, and of each kind of meeting by what was learned without it. Needs
scikit-learn, which comes with sentence-transformers.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.talks import talks_of
from index.search.pointed import WEIGHTS, length, log_odds, phrases

KINDS = Path(__file__).with_name("question_kinds.json")
STRENGTH = 1.0
"""scikit-learn's C; chosen on what is told below of unseen questions, among 0.1, 0.3 and 1."""
ALIKE_COUNTS = 2.0
"""How much more a question counts that was written to be like those of the other kind; chosen so too."""
OF_KINDS, OF_QUESTIONS, OF_TALKS, OF_ALIKE = 3, 6, 20, 3
"""A phrase counts that is in questions about so many kinds of meetings and in so many, or about so many
talks, or in so many of the questions that were written alike."""
ALIKE = "written alike"
"""What these are about, for all that is known."""

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


def alike(part: str) -> Iterator[Question]:
    """The questions of both kinds that were written to be alike."""
    for kind, questions in json.loads(KINDS.read_text("utf-8"))[part].items():
        yield from ((ALIKE, question, kind == "pointed") for question in questions)


def common(questions: Sequence[Question]) -> list[str]:
    """The phrases that count."""
    about: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for subject, text, is_pointed in questions:
        for phrase in phrases(text):
            about[phrase, is_pointed].append(subject)
    written_alike: Counter[str] = Counter()
    found = set()
    for (phrase, is_pointed), subjects in about.items():
        written_alike[phrase] += subjects.count(ALIKE)
        many = len(set(subjects) - {ALIKE})
        if many >= OF_TALKS if is_pointed else many >= OF_KINDS and len(subjects) >= OF_QUESTIONS:
            found.add(phrase)
    return sorted(found | {phrase for phrase, count in written_alike.items() if count >= OF_ALIKE})


def learn(questions: Sequence[Question]) -> dict[str, float]:
    """What each phrase counts, as ``index.search.pointed.WEIGHTS`` has it."""
    at = {phrase: number for number, phrase in enumerate(common(questions))}
    data = np.zeros((len(questions), len(at) + 1), dtype=np.float32)
    for row, (_, text, _) in enumerate(questions):
        data[row, [at[phrase] for phrase in phrases(text) if phrase in at]] = 1.0
        data[row, -1] = length(text)
    wanted = [is_pointed for _, _, is_pointed in questions]
    counts = [ALIKE_COUNTS if subject == ALIKE else 1.0 for subject, _, _ in questions]
    model = LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced").fit(data, wanted, counts)
    weights = dict(zip([*at, " "], model.coef_[0], strict=True)) | {"": model.intercept_[0]}
    return {phrase: round(float(weight), 3) for phrase, weight in weights.items() if abs(weight) >= 5e-4}


def told(weights: dict[str, float], questions: Sequence[Question]) -> str:
    """The share of questions whose kind is told rightly."""
    right = [(log_odds(text, weights) > 0) == is_pointed for _, text, is_pointed in questions]
    return f"{np.mean(right):.3f} of {len(right)}"


def main() -> None:
    """Learn, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", type=Path, help="the meetings to learn from")
    parser.add_argument("val", type=Path, help="other meetings, to see whether it holds")
    chosen = parser.parse_args()
    meetings, talks = list(broad(chosen.train)), [*pointed("train"), *alike("train")]
    others = list(broad(chosen.val))
    weights = learn([*meetings, *talks])
    print(f"broad: {told(weights, others)}; pointed: {told(weights, list(pointed('val')))}")
    for is_pointed, kind in ((False, "broad"), (True, "pointed")):
        unseen = [question for question in alike("val") if question[2] == is_pointed]
        print(f"written alike, {kind}: {told(weights, unseen)}")
    for kind in sorted({subject for subject, _, _ in meetings}):
        rest = learn([*(question for question in meetings if question[0] != kind), *talks])
        unseen = [question for question in [*meetings, *others] if question[0] == kind]
        print(f"broad, {kind}, learned without it: {told(rest, unseen)}")
    WEIGHTS.write_text(json.dumps(dict(sorted(weights.items())), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
