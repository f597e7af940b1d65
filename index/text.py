"""Words of questions and transcripts: tokens, stop words, light stemming, words that sound alike.

Recognisers write what they hear, so "ferry" may stand in a transcript as "fairy" and "Harbour" as
"Harbor"; words are therefore also compared by their consonants.

Text as one clean line, for formats in which a line break or a control character would mean something.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_FORBIDDEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters, lone surrogates and Unicode's noncharacters: XML and UTF-8 have no place for them."""


def one_line(text: str) -> str:
    """White space, line breaks included, collapses to single spaces; control characters go."""
    return " ".join(_FORBIDDEN.sub("", text).split())


MOST_TERMS = 32
"""Words of a question that are looked up; the rest of a longer text is left out."""

SOUND_ALIKE = 0.7
"""How much a word that only sounds like the wanted one counts."""

_STOP_WORDS = """
a about above after again all also am an and any anybody anyone anything are as ask asked at away be
because been before being below between both but by can cannot could did do does doing done down during
each ever every everybody everyone everything few for from further get gets getting give go goes going
gone got had has have having he her here hers herself him himself his how however i if in into is it its
itself just let like ll many may me mean meant mention mentioned might more most much must my myself need
no nor not now of off oh ok okay on once one only or other our ours out over own please re recording said
same say saying says shall she should so some somebody someone something speak speaker speaks still such
talk talked talking tell than that the their theirs them then there these they thing things think this
those though through to told too under until up us ve very want was we well went were what whatever when
where whether which while who whom whose why will with within without would yes yet you your yours
yourself don didn doesn isn wasn weren aren won wouldn couldn shouldn hasn haven hadn ain t s d m
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that say nothing about the subject, verbs of speaking among them."""

# Scripts written without spaces between words; FTS5's tokenizer takes a whole run as one word.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
# Spellings of one sound, longest first; "0" is th and "1" is ch.
_SOUNDS = (
    *(("ch", "1"), ("th", "0"), ("ph", "f"), ("ck", "k"), ("qu", "k"), ("gh", "g")),
    *(("ce", "se"), ("ci", "si"), ("cy", "sy"), ("c", "k"), ("z", "s"), ("x", "ks")),
)
_WORD = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text in order, lower case, without accents; ``4,200`` and ``10:30`` are one word."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(one for one in folded if not unicodedata.combining(one))
    # Put back together what NFKD takes apart in scripts that are not Latin (Hangul syllables, kana marks).
    return _WORD.findall(unicodedata.normalize("NFC", plain))


def content_words(text: str) -> list[str]:
    """The words that carry the subject, each once; all words when there are only stop words."""
    every = list(dict.fromkeys(words(text)))
    kept = [one for one in every if one not in STOP_WORDS]
    return (kept or every)[:MOST_TERMS]


def fts_query(text: str) -> str | None:
    """An FTS5 expression that finds any content word of a user's text; None when it has no word.

    Every word is quoted, so nothing in the text can act as an operator
    (https://www.sqlite.org/fts5.html, section 3.1).
    """
    found = [part for word in content_words(_UNSPACED.sub(" ", text)) for part in re.findall(r"\w+", word)]
    return " OR ".join(f'"{one}"' for one in dict.fromkeys(found)) or None


def unspaced_pairs(text: str) -> list[str]:
    """Neighbouring character pairs of scripts without spaces (single characters where a run has but one)."""
    pairs: dict[str, None] = {}
    for run in _UNSPACED.findall(unicodedata.normalize("NFC", text)):
        for at in range(max(1, len(run) - 1)):
            pairs[run[at : at + 2]] = None
    return list(pairs)[:MOST_TERMS]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Cut the commonest English endings, so that call, calls, called and calling compare equal."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    for ending, instead in (("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return _undouble(word[: -len(ending)] + instead)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _undouble(word: str) -> str:
    """``stopp`` → ``stop``, and a final ``e`` is dropped as in ``stem``."""
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeioulsz":
        return word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


@lru_cache(maxsize=50_000)
def consonants(word: str) -> str:
    """The first sound and the consonants after it, spelling variants folded: ferry and fairy are ``fr``."""
    text = word
    for spelled, sound in _SOUNDS:
        text = text.replace(spelled, sound)
    rest = [one for one in text[1:] if one not in "aeiouyhw"]
    folded = [text[0]] if text else []
    for one in rest:
        if one != folded[-1]:
            folded.append(one)
    return "".join(folded)


@lru_cache(maxsize=200_000)
def similarity(wanted: str, heard: str) -> float:
    """How far a heard word is the wanted one: 1 same stem, ``SOUND_ALIKE`` sounds alike, else 0."""
    if wanted == heard or stem(wanted) == stem(heard):
        return 1.0
    one, other = stem(wanted), stem(heard)
    if min(len(one), len(other)) < 4 or not (one.isalpha() and other.isalpha()):
        return 0.0
    same_sound = consonants(one) == consonants(other) or consonants(wanted) == consonants(heard)
    if same_sound and edits(one, other) <= 2:
        return SOUND_ALIKE
    return 0.0


@lru_cache(maxsize=50_000)
def edits(one: str, other: str) -> int:
    """Letters to insert, delete or replace to turn one word into the other (Levenshtein distance)."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], at
        for to, against in enumerate(other, 1):
            diagonal, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, diagonal + (letter != against))
    return row[-1]
