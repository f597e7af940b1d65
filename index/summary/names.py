"""Whose name belongs to which label: what people call each other tells who "Speaker 2" is."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from index.records import Segment
from index.terms import similarity

ANSWER_SECONDS = 12.0
"""A person who is called by name answers within this time."""

ENOUGH_EVIDENCE = 2
"""Times a name must have fitted a label, with no other name fitting as often, to be believed."""

_NOT_NAMES = frozenset(
    [
        "a",
        "about",
        "absolutely",
        "actually",
        "agreed",
        "all",
        "alright",
        "also",
        "although",
        "always",
        "and",
        "another",
        "any",
        "anybody",
        "anyone",
        "anything",
        "are",
        "as",
        "at",
        "away",
        "because",
        "before",
        "believe",
        "bye",
        "but",
        "by",
        "can",
        "certainly",
        "clearly",
        "come",
        "congratulations",
        "could",
        "did",
        "do",
        "does",
        "done",
        "don",
        "each",
        "either",
        "else",
        "even",
        "every",
        "everybody",
        "everyone",
        "everything",
        "exactly",
        "excellent",
        "fine",
        "finally",
        "first",
        "for",
        "from",
        "go",
        "going",
        "good",
        "goodbye",
        "great",
        "guys",
        "had",
        "has",
        "have",
        "he",
        "hello",
        "her",
        "here",
        "hey",
        "hi",
        "his",
        "how",
        "however",
        "i",
        "if",
        "in",
        "indeed",
        "is",
        "it",
        "its",
        "just",
        "last",
        "later",
        "let",
        "like",
        "listen",
        "look",
        "many",
        "may",
        "maybe",
        "me",
        "might",
        "mine",
        "more",
        "most",
        "must",
        "my",
        "never",
        "next",
        "nice",
        "no",
        "nobody",
        "nope",
        "nothing",
        "now",
        "obviously",
        "of",
        "oh",
        "okay",
        "ok",
        "on",
        "once",
        "one",
        "only",
        "or",
        "other",
        "our",
        "perfect",
        "perhaps",
        "please",
        "put",
        "quite",
        "really",
        "right",
        "say",
        "second",
        "see",
        "seriously",
        "she",
        "should",
        "since",
        "so",
        "some",
        "somebody",
        "someone",
        "something",
        "sometimes",
        "sorry",
        "stop",
        "such",
        "sure",
        "take",
        "thank",
        "thanks",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "therefore",
        "these",
        "they",
        "think",
        "third",
        "this",
        "those",
        "though",
        "thus",
        "to",
        "today",
        "together",
        "tomorrow",
        "tonight",
        "true",
        "try",
        "two",
        "unfortunately",
        "until",
        "us",
        "very",
        "wait",
        "was",
        "we",
        "welcome",
        "well",
        "were",
        "what",
        "whatever",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whose",
        "why",
        "will",
        "with",
        "without",
        "wonderful",
        "would",
        "wow",
        "yeah",
        "yep",
        "yes",
        "yesterday",
        "yet",
        "you",
        "your",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ]
)

_NAME = r"(?P<name>[A-Z][a-z’'-]+)"
_ASKS = r"(?:please|can|could|would|will|do|did|have|are|how|what|where|when|why|who|you|i heard|any)\b"
_VOCATIVE = (
    re.compile(rf"^(?:(?:okay|ok|so|and|well|thanks|right|then|alright)[,]?\s+)?{_NAME},?\s+(?i:{_ASKS})"),
    re.compile(rf"(?:^|[.?!,]\s+|\b(?:thanks|thank you|please|you)\s+){_NAME}\s*[?.!]*$"),
)


def plausible_name(word: str) -> bool:
    """Whether a capitalised word may be a person's name, as far as a word list can tell."""
    return len(word) > 1 and word[0].isupper() and word.casefold() not in _NOT_NAMES


def called(text: str) -> str | None:
    """The name somebody is addressed by in a clause ("Ben, please …", "where are we, Ben?"), if any."""
    for pattern in _VOCATIVE:
        match = pattern.search(text)
        if match and plausible_name(match["name"]):
            return match["name"]
    return None


def infer_names(segments: Sequence[Segment]) -> dict[str, str]:
    """Names for labels, from who answers when somebody is called.

    Returns:
        ``{label: name}`` where at least ``ENOUGH_EVIDENCE`` answers agree; labels that do not look
        estimated ("Speaker 2") keep what the user called them and are left out.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for before, after in pairwise(segments):
        if after.speaker is None or after.speaker == before.speaker or not is_label(after.speaker):
            continue
        name = called(before.text)
        if name and after.start - before.end <= ANSWER_SECONDS:
            known = next((one for one in votes[after.speaker] if same_name(one, name)), name)
            votes[after.speaker][known] += 1
    out: dict[str, str] = {}
    for label, names in votes.items():
        (name, count), *rest = names.most_common(2)
        taken = any(same_name(name, one) for one in out.values())
        if count >= ENOUGH_EVIDENCE and not (rest and rest[0][1] == count) and not taken:
            out[label] = name
    return out


def is_label(speaker: str) -> bool:
    """Whether a speaker still has the label that the program gave."""
    return re.fullmatch(r"Speaker \d+", speaker) is not None


def same_name(one: str, other: str) -> bool:
    """Whether two spellings are one name: recognisers write "Calum" and "Callum"."""
    return one.casefold() == other.casefold() or similarity(one.casefold(), other.casefold()) > 0
