"""Words and turns of phrase by which a sentence is known to claim nothing about what was said."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ABOUT_OTHERS = _words("he she they him her them himself herself themselves his their hers theirs we us our")
"""Who is neither of the two that talk."""

FUNCTION = ABOUT_OTHERS | _words(
    """a an the of in on at to for from by with and or as is are was were be been being has have had having
    there this that these those it its it's there's that's which who whom both each also too so then than
    all only between during before after about around here what how when where while until since per into
    onto over out up do does did will would should i.e e.g etc via one ones other another first second
    third last next following"""
)
"""Words that say nothing by themselves."""

ADDRESS = _words(
    """i i'm i'll i've i'd me my you you're you'd your let let's please hello hi hey thanks thank sorry
    welcome sure okay ok here looking searching ask"""
)
"""Words by which a sentence is known to be one of the conversation itself."""

TALK = ADDRESS | _words(
    """course asking asked question questions answer answers can could may might like want know help search
    searched look looked read reading listen listening listened found find summarise summarize summary quote
    quotes quoting cite citing recording recordings transcript transcripts minute minutes time times any
    anything something everything more else again why try tell say saying said show listing list lists still
    wait moment just need below above place places section sections part parts result results good morning
    afternoon evening day happy glad now if passage passages word words cannot can't not don't couldn't no
    conversation conversations name named exact exactly relevant right library today further detail details
    go through check checked come back unfortunately"""
)
"""Words of a conversation about recordings."""

RECORD = _words(
    """recording recordings file files library speaker speakers voice voices people person participant
    participants minute minutes min second seconds sec hour hours long length lasts lasted duration title
    titles titled called named name names language spoken english german french spanish italian dutch
    portuguese chinese japanese status ready done complete coverage covered covers percent transcribed
    transcript transcripts added total time approximately exactly roughly nearly almost just speaking speaks
    speak talking talks talk heard gap gaps together altogether respectively beginning start starts begins
    end ends ending"""
)
"""Words for what a recording is, beside what is said in it."""

TOLD = (FUNCTION - ABOUT_OTHERS) | RECORD | {"they"}
"""Words that may stand around names and numbers of the record."""

SAYING = FUNCTION | _words(
    """says say said asks asked adds added replies replied answers answered explains explained notes noted
    suggests suggested states stated repeats repeated later again words someone somebody speaker"""
)
"""Words around a quote."""

PLAIN_ANSWER = FUNCTION | _words(
    "yes no not indeed correct right exactly didn't doesn't don't isn't wasn't aren't weren't"
)
"""Words of an answer that rests on the sentence beside it."""

LOOKED = re.compile(
    r"\s*(?:here(?:'s| is| are)|below (?:is|are)|this is (?:what|where|how)|these are|let me|"
    r"i(?:'ll| will| can| could| looked| searched| listened| read)|you (?:can|asked)|if you|ask)\b",
    re.I,
)
"""Beginnings of sentences on what was asked for; they may repeat the question's words."""

_NOT = r"(?:not|never|\w+n['’]t)"
_SAID = (
    r"(?:said|mentioned|discussed|talked about|spoken of|brought up|stated|addressed|heard|found|detected|"
    r"recorded|transcribed)"
)
_FIND = r"(?:find|see|hear|tell|say|verify|confirm|determine|answer|know|locate|identify|be sure)"
_SAY = (
    r"(?:say|said|mention\w*|discuss\w*|talk(?:ed)? about|speak of|spoken of|stated?|brought up|come up|"
    r"came up|specify|specified|clear from|heard)"
)
_TOPIC = r"(?:mention|evidence|information|record|reference|answer|word|discussion|talk|relevant|about|said)"
_DENIALS = (
    # I could not find, we found nothing
    rf"\b(?:i|we)\b[^.]{{0,30}}?\b(?:{_NOT}|cannot)\s+(?:\w+\s+){{0,2}}?{_FIND}\b",
    r"\b(?:i|we)\s+(?:have\s+)?(?:found|find|see|have|heard)\s+(?:no|nothing|none)\b",
    r"\b(?:found|contains?)\s+(?:no|nothing)\s+(?:mention|evidence|information|record|reference|about|on)\b",
    rf"\b(?:{_NOT}|no)\s+(?:\w+\s+)?(?:enough|sufficient)\s+(?:information|evidence|context)\b",
    rf"\b(?:nobody|no one|none of them)\s+(?:\w+ly\s+|ever\s+)?{_SAY}\b",
    # nothing was said, no penguins are mentioned
    r"\b(?:nothing|none|no one|nobody|no)\b[^.]{0,50}?\b(?:is|are|was|were|been|gets|got)\s+"
    rf"(?:\w+ly\s+|ever\s+)?{_SAID}\b",
    # that was not said, they never discussed it
    rf"\b{_NOT}\s+(?:\w+ly\s+|ever\s+|been\s+){{0,2}}{_SAY}\b",
    r"\b(?:recordings?|transcripts?|evidence)\s+(?:do|does|did)\s*(?:not|n['’]t)\s+(?:contain|cover|include)\b",
    r"\b(?:there\s+(?:is|was|are|were)|there's|has|have|contains?)\s+(?:no|nothing|not any)\s+(?:\w+\s+)?"
    rf"{_TOPIC}\b",
    r"\b(?:says?|said|mentions?|mentioned)\s+(?:nothing|no word)\b",
    r"^\W*(?:nothing|none)(?: relevant)?\W*$",
    r"(?:没有?|未|不)[^，。；,;]{0,12}(?:提到|提及|说|讨论|找到|出现|涉及)",
)
DENIES = re.compile("|".join(_DENIALS), re.I)
"""That something was not said, or not found."""

CLAUSE = re.compile(
    r"[;；]|[:：](?!\d)|，但|,?\s*\b(?:but|however|although|instead|because|while|whereas|therefore|then|yet|except|only|though)\b"
    r"|,\s*(?:and|he|she|they|it|the|which|who|so)\b"
    r"|\band\b(?=(?!.*\b(?:no|not|nothing|never|\w+n['’]t)\b).*\b(?:is|are|was|were|has|had|have|will|would|did|"
    r"does|\w{2,}ed)\b)",
    re.I,
)
"""Where a sentence may go on to say more than its denial."""
