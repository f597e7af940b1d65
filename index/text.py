"""Words of questions and transcripts: tokens, content words, stems, words that sound alike; clean lines.

Recognisers write what they hear, so "ferry" may stand in a transcript as "fairy" and "Harbour" as
"Harbor"; words are therefore also compared by their sound.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import jellyfish
import snowballstemmer
from rapidfuzz.distance import Levenshtein

from index.folding import fold, fold_letters, split_words
from index.vocabulary import FOREIGN_FUNCTION_WORDS, STOP_WORDS

MOST_TERMS = 32
"""Words of a question that are looked up; the rest of a longer text is left out."""

SOUND_ALIKE = 0.7
"""How much a word that only sounds like the wanted one counts."""

MOST_EDITS = 2
"""Letters in which words that sound alike may differ."""

SHORTEST_ALIKE = 4
"""Letters of the stem from which words are compared by sound; shorter ones sound alike too often."""

_FORBIDDEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters, lone surrogates and Unicode's noncharacters: XML and UTF-8 have no place for them."""

UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
"""Scripts written without spaces between words; FTS5's tokenizer takes a whole run as one word."""

# Porter's algorithm (1980), which FTS5's `porter` tokenizer uses too, so that sentences are ranked by the
# stems they were found by. (FTS5 has two endings more, from Porter's later revision: 21 of 9,556 words of
# meetings differ, all in -logy and -bly.) The stemmer keeps the word it works on, so one thread at a time.
_PORTER = snowballstemmer.stemmer("porter")
_PORTER_LOCK = threading.Lock()


def asks_something(text: str) -> bool:
    """Whether a sentence is a question."""
    return text.rstrip(" \"'”’)").endswith(("?", "？"))


def one_line(text: str) -> str:
    """The text on one line: white space collapses to single spaces, control characters go."""
    return " ".join(_FORBIDDEN.sub("", text).split())


def folded_name(name: str) -> str:
    """A name as names are compared: in the letters that words are searched by, in any spacing."""
    return " ".join(fold_letters(name).split())


def words(text: str) -> list[str]:
    """The words of a text in order, lower case, without accents; ``4,200`` and ``10:30`` are one word."""
    return split_words(fold_letters(text))


@lru_cache(maxsize=50_000)
def search_words(text: str) -> tuple[str, ...]:
    """The words of a text in order, as they are searched: with one form for each number (see ``fold``)."""
    return tuple(split_words(fold(text)))


@lru_cache(maxsize=50_000)
def search_terms(text: str) -> tuple[str, ...]:
    """What sentences are compared by: the stems of their words; bigrams where words have no spaces."""
    found: list[str] = []
    for word in search_words(text):
        runs = UNSPACED.findall(word)
        if not runs:
            found.append(stem(word))
        for run in runs:
            found += [run[at : at + 2] for at in range(max(1, len(run) - 1))]
    return tuple(found)


def written_in(text: str) -> str:
    """The language of a text as far as its commonest words or its letters tell.

    Returns:
        A code of ISO 639-1; the name of the script, in lower case, where several languages share letters
        that are not Latin; empty where nothing tells.
    """
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return "ja"
    script = max(scripts, key=lambda name: scripts[name], default="")
    if script != "LATIN":
        return _ONE_LANGUAGE.get(script, script.lower())
    found = words(text)
    known = {code: sum(word in filler for word in found) for code, filler in FOREIGN_FUNCTION_WORDS.items()}
    # Where two languages have as many, English comes first.
    counts = {"en": sum(word in STOP_WORDS for word in found), **known}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] else ""


_ONE_LANGUAGE = {"CJK": "zh", "HANGUL": "ko", "GREEK": "el", "HEBREW": "he", "THAI": "th"}


def content_words(text: str) -> list[str]:
    """The searched words that carry the subject, each once; all of them when there are only stop words."""
    return _with_content(search_words(text))


def searched_phrases(text: str) -> list[str]:
    """The content words of a user's text as they are looked for in the keyword index, each once.

    Of ``10:30`` each part is looked for, and both together, with one space between them. No phrase has
    anything but letters, digits and spaces.
    """
    phrases: dict[str, None] = {}
    for word in _with_content(split_words(UNSPACED.sub(" ", fold(text)))):
        parts = re.split(r"[.,:]", word)
        phrases.update(dict.fromkeys(parts))
        if len(parts) > 1:
            phrases[" ".join(parts)] = None
    return list(phrases)


def _with_content(every: Sequence[str]) -> list[str]:
    unique = list(dict.fromkeys(every))
    return ([word for word in unique if word not in STOP_WORDS] or unique)[:MOST_TERMS]


def character_bigrams(text: str) -> list[str]:
    """Character bigrams of folded scripts without spaces; single characters where a run has but one."""
    bigrams: dict[str, None] = {}
    for run in UNSPACED.findall(fold(text)):
        for at in range(max(1, len(run) - 1)):
            bigrams[run[at : at + 2]] = None
    return list(bigrams)[:MOST_TERMS]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Porter's stem of a lower-case English word: call, calls, called and calling compare equal."""
    if len(word) < 3:
        return word
    with _PORTER_LOCK:
        return _PORTER.stemWord(word)


@lru_cache(maxsize=200_000)
def similarity(wanted: str, heard: str) -> float:
    """How far a heard word is the wanted one: 1 same stem, ``SOUND_ALIKE`` sounds alike, else 0.

    Words sound alike when Metaphone (Philips, 1990) writes them or their stems the same and at most
    ``MOST_EDITS`` letters differ.
    """
    wanted_stem, heard_stem = stem(wanted), stem(heard)
    if wanted_stem == heard_stem:
        return 1.0
    if not sounds(wanted) & sounds(heard):
        return 0.0
    near = Levenshtein.distance(wanted_stem, heard_stem, score_cutoff=MOST_EDITS) <= MOST_EDITS
    return SOUND_ALIKE if near else 0.0


def begins_alike(wanted: str, heard: str) -> bool:
    """Whether the first vowels of two words are alike, as in “ferry” and “fairy”, not in “leave” and “loaf”.

    Recognisers that write another word for a name mostly keep that vowel.
    """
    return _first_vowel(wanted) == _first_vowel(heard)


def _first_vowel(word: str) -> str:
    found = _VOWELS.search(word)
    vowels = found[0] if found else ""
    return vowels if vowels == "a" else "front" if _FRONT.search(vowels) else "back"


_VOWELS, _FRONT = re.compile("[aeiouy]+"), re.compile("[eiy]")
"""Letters of a vowel, and those of vowels that are spoken in the front of the mouth."""


def sounds(word: str) -> frozenset[str]:
    """How a word and its stem sound, if its stem is long enough to be compared by that."""
    short = stem(word)
    # Metaphone knows Latin letters only; to it all words of another script are the same.
    if not (short.isascii() and short.isalpha()) or len(short) < SHORTEST_ALIKE:
        return frozenset()
    return frozenset((_sound(word), _sound(short)))


@lru_cache(maxsize=50_000)
def _sound(word: str) -> str:
    return jellyfish.metaphone(word)
