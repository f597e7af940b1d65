"""What descriptions of sounds say: music, mere talk, nothing at all, or the same as another one.

A model that lists the sounds of a minute also lists what is no news: that somebody speaks (the transcript
has that), and that there is silence. The rules are small on purpose; each is a list of words.
"""

from __future__ import annotations

import re

from index.terms import STOP_WORDS, content_words, stem, words

_MUSIC = re.compile(
    r"\b(?:music\w*|melod\w+|songs?|sing(?:s|ing|ers?)?|sung|tunes?|choirs?|orchestra\w*|jingles?|lullab\w+|"
    r"chant(?:s|ing)?|instrumentals?|pian\w+|guitar\w*|violin\w*|cellos?|flutes?|trumpets?|saxophones?|"
    r"drum(?:s|ming|beats?)?|organ|harps?|accordions?)\b|音乐|乐曲|旋律|歌|唱|乐器|钢琴|吉他|小提琴|鼓",
    re.IGNORECASE,
)
_ANIMAL = re.compile(
    r"\b(?:birds?|birdsong|songbirds?|blackbirds?|nightingales?|crickets?|cicadas?|frogs?|whales?|insects?)\b"
    r"|鸟|虫|蛙",
    re.IGNORECASE,
)
_QUIET = re.compile(
    r"(?:there (?:is|are) |the (?:audio|recording|clip) (?:is|contains|has) |i (?:can )?hear )?"
    r"(?:(?:a|the|brief|short|long|complete|total|near|period of|moment of) )*"
    r"(?:silence(?: (?:in|at|for|of|between|throughout)\b.*)?|quiet|silent|none|nothing"
    r"|no (?:(?:audible|distinct|significant|other|clear|notable) )*"
    r"(?:sounds?|events?|noises?|audio|music|speech)\b.*)\W*"
    r"|静音|安静|无声",
    re.IGNORECASE,
)
_TALK_WORDS = """
speech speak speaks speaking spoke talk talks talking talked conversation conversations dialogue converse
converses conversing narration narrates narrating discuss discusses discussing discussion says saying said
asks asking answers answering replies replying explains explaining utters uttering
"""
_TALK = frozenset(_TALK_WORDS.split())
_WHO_AND_HOW_WORDS = """
man men woman women male female person people speaker speakers child boy girl adult narrator host voice
voices someone somebody another other first second third young old older elderly middle aged one two three
four several multiple single different same group
english mandarin chinese spanish french german language accent tone pace again continues continuing starts
begins ongoing foreground meeting
"""
_WHO_AND_HOW = frozenset(_WHO_AND_HOW_WORDS.split())
_SUBJECT = re.compile(r"\b(?:about|that|regarding|concerning)\b.*", re.IGNORECASE)
_TALK_ZH = re.compile(r"[^，,。、]{0,12}(?:说话|讲话|谈话|对话|交谈|发言)[^，,。、]{0,4}")


def is_music(text: str) -> bool:
    """Whether a description is of music: it names music, song, singing or an instrument, and no animal."""
    return _MUSIC.search(text) is not None and _ANIMAL.search(text) is None


def is_quiet(text: str) -> bool:
    """Whether a description says that nothing can be heard."""
    return _QUIET.fullmatch(text) is not None


def is_talk(text: str) -> bool:
    """Whether a description says that somebody speaks and nothing else; laughter or a dog beside it is else.

    What they speak about does not count, nor who it is, nor how (adverbs).
    """
    if _TALK_ZH.fullmatch(text):
        return True
    named = words(_SUBJECT.sub("", text))
    rest = [one for one in named if one not in _TALK]
    return len(rest) < len(named) and all(
        one in _WHO_AND_HOW or one in STOP_WORDS or one.endswith("ly") for one in rest
    )


def alike(one: str, other: str) -> bool:
    """Whether two descriptions share at least half of their words, or one says all that the other does."""
    mine, its = ({stem(word) for word in content_words(text)} for text in (one, other))
    shared = len(mine & its)
    return shared > 0 and (2 * shared >= len(mine | its) or shared == min(len(mine), len(its)))
