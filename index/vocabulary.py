"""English words that several parts of the program look for: numbers, days, months, stop words.

Each list is kept once; who needs another one derives it here or where it is used, so that the difference
shows. Everything is in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def word_set(text: str) -> frozenset[str]:
    """The words of a text, split at white space."""
    return frozenset(text.split())


def one_of(words: Sequence[str]) -> str:
    """The words as alternatives of a regular expression, without a group around them."""
    return "|".join(words)


# --- numbers ------------------------------------------------------------------------------------------

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)

NUMBERS: Mapping[str, int] = {word: value for value, word in enumerate(_UNITS.split())}
"""``zero`` to ``nineteen``."""

TENS: Mapping[str, int] = {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
"""``twenty`` to ``ninety``."""

LARGE_NUMBERS = ("hundred", "thousand", "million", "billion")

ORDINALS: Mapping[str, int] = {word: value for value, word in enumerate(_ORDINALS.split(), start=1)}
"""``first`` to ``twentieth``."""


def number_words(first: int, last: int) -> list[str]:
    """The words from ``first`` up to and with ``last``, both below twenty."""
    return [word for word, value in NUMBERS.items() if first <= value <= last]


# --- days and months ----------------------------------------------------------------------------------

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)

CLEAR_MONTHS = tuple(month for month in MONTHS if month != "may")
"""Months that are nothing else: “may” is mostly a verb."""

# --- stop words ---------------------------------------------------------------------------------------

CORE_WORDS = word_set(
    """a about after an and are as at be been before by did do does during for from had has have he her his
    how in into is it its of on only or our she should so than that the their them then there they this to
    until us was we were what when where which while who whom will with would"""
)
"""Function words that every list of words without a subject shares."""

STOP_WORDS = CORE_WORDS | word_set(
    """above again ain all also am any anybody anyone anything aren ask asked away because being below between
    both but can cannot could couldn d didn doesn doing don done down each ever every everybody everyone
    everything few further get gets getting give go goes going gone got hadn hasn haven having here hers
    herself him himself however i if isn itself just let like ll m many may me mean meant mention mentioned
    might more most much must my myself need no nor not now off oh ok okay once one other ours out over own
    please re recording s said same say saying says shall shouldn some somebody someone something speak
    speaker speaks still such t talk talked talking tell theirs these thing things think those though through
    told too under up ve very want wasn well went weren whatever whether whose why within without won wouldn
    yes yet you your yours yourself"""
)
"""Words that say nothing about the subject of a sentence or a question, verbs of speaking among them."""

FOREIGN_FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    "de": word_set(
        """was wurde wurden haben hat wir sie ist sind welche welcher welches gibt es gab die der das den dem
        des ein eine einen einer im in von vom zu bitte fasse fass mir meeting besprechung alles und fur
        als auf er ich wer wie wo wann warum nicht mit an noch gesagt getroffen"""
    ),
    "fr": word_set(
        """qu que quoi est ce qui a ete ont ils on nous avons quelles quels quelle quel sont les le la l des
        du de un une et dans en reunion tout fais moi donne pour par prises pris il elle pourquoi comment
        combien ou quand avec dit"""
    ),
    "es": word_set(
        """que se cual cuales son hay han ha hemos el la las los lo de del un una en y reunion esta este haz
        dame por favor fue fueron para quien como cuando donde porque no con al dijo"""
    ),
    "it": word_set(
        """che cosa e stato sono stati abbiamo hanno ha il la i gli le di del della un una in riunione quali
        fammi per chi come quando dove perche non con si detto"""
    ),
    "pt": word_set(
        """o que foi foram se quais sao as os a de da do um uma na no em reuniao esta para por favor quem
        como quando onde nao com dito"""
    ),
    "nl": word_set(
        """wat is er zijn we welke de het een van in vergadering te voor wie hoe waar waarom niet met op
        gezegd"""
    ),
}
"""Function words of some other languages, which questions about a recording are made of; without accents."""
