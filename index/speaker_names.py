"""Names of speakers: found in what people call each other, and as they are typed.

What people call each other tells who "Speaker 2" is. People type names in any case, by a part that is one
speaker's alone, or by their sound.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from index.records import Segment
from index.text import similarity
from index.vocabulary import MONTHS, STOP_WORDS, WEEKDAYS, word_set

ANSWER_SECONDS = 12.0
"""A person who is called by name answers within this time."""

ENOUGH_EVIDENCE = 2
"""Times a name must have fitted a label, with no other name fitting as often, to be believed."""

_ORDINARY = STOP_WORDS | frozenset((*WEEKDAYS, *MONTHS))
NO_NAMES = _ORDINARY | {"speaker"}
"""Words that name nobody by themselves."""

_CAPITALISED = _ORDINARY | word_set(
    """absolutely actually agreed alright although always another answer awesome back basically believe
    boys brilliant bye certainly cheers clearly come congratulations cool darling dear definitely dude
    either else enough even exactly excellent fantastic finally fine first folks gentlemen girls good
    goodbye great guys hello hence here's hey hi honestly honey indeed instead it's item ladies last
    later legal let's listen long look lot lots lovely madam man mate maybe meanwhile mine near never
    next nice nobody nope nothing number obviously old part people perfect perhaps personally point
    probably put question quite really right second see seriously side since sir sometimes sorry stop
    super sure take team thank thanks that's there's therefore third thus till today today's together
    tomorrow tonight topic true try two unfortunately upon via wait welcome wherever whoever wonderful
    wow yeah yep yesterday"""
)
"""Words that stand capitalised where a name could."""

_NAME = r"(?P<name>[A-Z][a-z’'-]+)"
_ASKS = r"(?:please|can|could|would|will|do|did|have|are|how|what|where|when|why|who|you|i heard|any)\b"
# Without a comma only what cannot follow the subject of a statement: "People who apply …" calls nobody.
_ASKS_PLAINLY = (
    r"(?:please|(?:can|could|would|will|do|did|have|are)\s+you|you|i heard|(?:where|how|what|when)\s+"
    r"(?:is|are|was|were|do|did|can|could|will|about))\b"
)
_OPENING = r"^(?:(?:okay|ok|so|and|well|right|then|alright|hey|now|but)[,]?\s+)?"
_VOCATIVE = (
    re.compile(rf"(?i:{_OPENING}){_NAME}(?:,\s+(?i:{_ASKS})|\s+(?i:{_ASKS_PLAINLY}))"),
    re.compile(rf"(?:^|[.?!,]\s+|\b(?:thanks|thank you|please|you)\s+){_NAME}\s*[?.!]*$"),
)
_THANKS = re.compile(
    rf"\b(?i:thanks|thank you)(?:\s+(?:a lot|so much|very much|again))?,?\s+{_NAME}\s*(?:[.!,]|$)"
)
_I_AM = re.compile(
    rf"\b(?:(?i:my name is|my name's|i'm|i am|this is|it's))\s+{_NAME}(?:\s+(?:here|speaking))?\s*(?:[.,!]|$)"
)


def plausible_name(word: str) -> bool:
    """Whether a capitalised word may be a person's name, as far as a word list can tell."""
    return len(word) > 1 and word[0].isupper() and word.casefold() not in _CAPITALISED


def called(text: str) -> str | None:
    """The name somebody is addressed by in a clause ("Ben, please …", "where are we, Ben?"), if any."""
    for pattern in _VOCATIVE:
        match = pattern.search(text)
        if match and plausible_name(match["name"]):
            return match["name"]
    return None


def infer_names(segments: Sequence[Segment]) -> dict[str, str]:
    """Names for labels, from who answers when somebody is called, is thanked, or says the own name.

    Returns:
        ``{label: name}`` where at least ``ENOUGH_EVIDENCE`` pieces of evidence agree; labels that do not look
        estimated ("Speaker 2") keep what the user called them and are left out.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    common = _common_words(segments)
    for speaker, name in _evidence(segments):
        if speaker is None or not is_label(speaker) or name.casefold() in common:
            continue
        known = next((heard for heard in votes[speaker] if same_name(heard, name)), name)
        votes[speaker][known] += 1
    out: dict[str, str] = {}
    for label, names in votes.items():
        (name, count), *rest = names.most_common(2)
        taken = any(same_name(name, given) for given in out.values())
        if count >= ENOUGH_EVIDENCE and not (rest and rest[0][1] == count) and not taken:
            out[label] = name
    return out


def _evidence(segments: Sequence[Segment]) -> Iterator[tuple[str | None, str]]:
    """Pairs of a speaker and a name that may be that speaker's."""
    for before, after in pairwise(segments):
        if before.speaker == after.speaker or after.start - before.end > ANSWER_SECONDS:
            continue
        thanked = _THANKS.search(after.text)
        if thanked and plausible_name(thanked["name"]):
            yield before.speaker, thanked["name"]
        if not _THANKS.search(before.text) and (name := _last_called(before.text)):
            yield after.speaker, name
    for segment in segments:
        said = _I_AM.search(segment.text)
        if said and plausible_name(said["name"]):
            yield segment.speaker, said["name"]


def _last_called(text: str) -> str | None:
    """The name called last in a sentence, at its beginning or after a comma."""
    parts = [match.start() for match in re.finditer(r"(?<=[.?!,]\s)(?=[A-Z])", text)]
    for start in reversed([0, *parts]):
        if name := called(text[start:]):
            return name
    return None


def _common_words(segments: Sequence[Segment]) -> frozenset[str]:
    """Words that stand in lower case more often than not: capitals at the start of a sentence name nobody."""
    lower: Counter[str] = Counter()
    upper: Counter[str] = Counter()
    for segment in segments:
        for word in re.findall(r"[^\W\d_][\w’'-]+", segment.text):
            (lower if word[0].islower() else upper)[word.casefold()] += 1
    return frozenset(word for word, count in lower.items() if count > upper[word])


def is_label(speaker: str) -> bool:
    """Whether a speaker still has the label that the program gave."""
    return re.fullmatch(r"Speaker \d+", speaker) is not None


def same_name(first: str, second: str) -> bool:
    """Whether two spellings are one name: recognisers write "Calum" and "Callum"."""
    first, second = first.casefold(), second.casefold()
    return first == second or similarity(first, second) > 0


def find_voices(text: str, voices: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Where a text may name a voice: first character, the one behind the last, and the voice's name.

    “E” names Grad E, and “the professor” Professor C, where no other voice has that part; “Kallum” is Callum.
    Names that are written out come first, longer ones before shorter ones.
    """
    ranked = sorted(voices, key=len, reverse=True)
    for voice in ranked:
        for found in re.finditer(rf"(?<!\w){re.escape(voice)}(?!\w)", text, re.IGNORECASE):
            yield *found.span(), voice
    parts = Counter(part.casefold() for voice in voices for part in set(voice.split()))
    for voice in ranked:
        for part in voice.split():
            if parts[part.casefold()] == 1 and part.casefold() not in NO_NAMES:
                for found in re.finditer(r"[^\W\d_]+(?:-[^\W\d_]+)*", text):
                    if _names_part(found[0], part, alone=" " not in voice):
                        yield *found.span(), voice


def _names_part(word: str, part: str, alone: bool) -> bool:
    if len(part) == 1:
        # An “I” could be anybody; other initials are written large.
        return word == part != "I" and part.isalpha() and not alone
    if word.casefold() == part.casefold():
        return True
    return word[0].isupper() and similarity(word.casefold(), part.casefold()) > 0
