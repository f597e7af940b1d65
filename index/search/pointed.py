"""How pointed a question is: whether a sentence answers it, or a stretch of talk.

"When is the deadline?" is answered by a sentence, "summarise the discussion about the design" by a stretch,
and "what did Anna say about the price?" may be by either. A linear model over the phrases of a question,
learned from questions of both kinds (``benchmarks/train_pointed.py``). A phrase counts only if it is common
whatever a recording is about, so that it says what is asked for and not about what.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from index.text import written_in

WEIGHTS = Path(__file__).with_name("pointed.json")
"""What each phrase counts; ``""`` is the constant, and ``" "`` what the logarithm of the length counts."""

LONGEST = 3
"""Words of a phrase at most."""

_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\?")


def phrases(question: str) -> set[str]:
    """The phrases of a question, lower case; "^" stands before its first word, "?" is a word."""
    spelt = question.lower().replace("’", "'").replace("summaris", "summariz")
    tokens = ["^", *_TOKEN.findall(spelt)]
    return {
        " ".join(tokens[first : first + count])
        for count in range(1, LONGEST + 1)
        for first in range(len(tokens) - count + 1)
    }


def length(question: str) -> float:
    """The logarithm of the number of words, and one more."""
    return math.log1p(len(question.split()))


@cache
def _weights() -> dict[str, float]:
    return json.loads(WEIGHTS.read_text("utf-8"))


def log_odds(question: str, weights: Mapping[str, float]) -> float:
    """Log-odds that a sentence answers a question, by what phrases count."""
    known = sum(weights.get(phrase, 0.0) for phrase in phrases(question))
    return weights[""] + weights[" "] * length(question) + known


def pointedness(question: str) -> float:
    """The probability that a sentence answers a question rather than a stretch of talk; 0 for a question that
    is known to be in another language than English, which nothing was learned from."""
    if written_in(question) not in ("en", ""):
        return 0.0
    return 1.0 / (1.0 + math.exp(-log_odds(question, _weights())))
