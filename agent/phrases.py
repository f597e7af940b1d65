"""The English phrases that questions about recordings are made of.

Each pattern is a list of alternatives, matched anywhere and in any case unless anchored. Apostrophes in
questions are straight and white space is single by the time they are matched.
"""

from __future__ import annotations

import re


def _any(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


_END = r"[ ?.!]*$"
_OF_IT = r"(?:in|on|of|during|from) (?:the |this |that )?\w+"

THING = (
    r"(?:it|this|that|(?:the|this|that) (?:\w+ ){0,2}?(?:recording|meeting|call|file|audio|lecture|interview|"
    r"podcast|conversation|talk|tape|session|discussion))"
)
"""A noun phrase for the recording itself."""

# --- small talk and the library ---------------------------------------------------------------------

GREETING = _any(rf"^(?:hi|hello|hey|hallo|good (?:morning|afternoon|evening))(?: there| all)?{_END}")
THANKS = _any(
    rf"^(?:thanks?|thank you|thx|great|perfect|cool|ok(?:ay)?)(?: (?:you|a lot|so much|very much))*{_END}"
)
HELP = _any(
    rf"^help{_END}",
    r"^what (?:can|could|should|may) (?:you|i) (?:do|ask|say)\b",
    r"^how (?:do|does|can) (?:i|this|it|you) (?:use|work|ask)\b",
    r"^(?:who|what) are you\b",
)
LIST = _any(
    r"\b(?:list|show|which|what|how many)\b(?: me)?(?: all| of)*(?: (?:the|my|your))? "
    r"(?:recordings?|files?|audios?)\b(?!.*\b(?:said|say|about|mention\w*|decid\w*)\b)",
    rf"^what do (?:you|we|i) have{_END}",
    r"\bwhat(?:'s| is)(?: there)? in (?:the|my|your) library\b",
    rf"^(?:list|recordings|library){_END}",
)

# --- follow-ups -------------------------------------------------------------------------------------

_LEAD = r"^(?:(?:and|so|then|ok(?:ay)?|now|please)[ ,]+)*"
_SAID = (
    r"(?:what|what's|what (?:was|is|did|does|were) (?:(?:they|he|she|we|people|i) )?"
    r"(?:said|say|talk\w*|discuss\w*)?|what (?:happen(?:s|ed)|came|comes|follow(?:s|ed)))"
)
_JUST = r"(?:(?:right|just|directly|immediately|straight|shortly) )?"
_THAT = r"(?: (?:that|this|it|then))?"
AFTER_THAT = _any(
    rf"{_LEAD}(?:{_SAID} *)?{_JUST}(?:after|afterwards|next){_THAT}{_END}",
    rf"{_LEAD}(?:then|go on|continue|keep going|carry on|next)(?: reading)?(?: please)?{_END}",
)
BEFORE_THAT = _any(rf"{_LEAD}(?:{_SAID} *)?{_JUST}before{_THAT}{_END}")
MORE = _any(
    rf"{_LEAD}(?:what|anything|something|who|where) else(?: (?:was|did|is) .{{0,40}})?{_END}",
    rf"{_LEAD}(?:(?:tell|show|give) me more|(?:any )?more|(?:is|was) there more|is that all){_END}",
)
WHO_THAT = _any(rf"{_LEAD}(?:who|which speaker|whose voice)\b.{{0,12}}\b(?:that|this|it){_END}")
WHEN_THAT = _any(rf"{_LEAD}(?:when|where|at what time)\b.{{0,20}}\b(?:that|this|it)(?: said)?{_END}")
WHAT_ABOUT = _any(
    rf"{_LEAD}(?:what|how) about (?P<a>.+?){_END}",
    rf"^(?:and|also) (?:the |for |about |on )?(?P<b>.+?){_END}",
)

# --- what only an ear can tell ----------------------------------------------------------------------

_NOISES = (
    r"(?:music|songs?|dogs?|cats?|birds?|bark\w*|noises?|sounds?|laugh\w*|applause|clapping|sirens?|rain|"
    r"bells?|chimes?|thunder|footsteps|singing|crying|coughing|knocking|ringing|whistling|pianos?|guitars?|"
    r"drums|violins?|instruments?|background \w+)"
)
_MOODS = (
    r"(?:angry|happy|sad|nervous|upset|excited|sarcastic|tired|annoyed|stressed|calm|emotional|bored|"
    r"enthusiastic|convinced)"
)
HOW_SOUNDS = _any(r"\bhow (?:do|does|did) (?:[\w.]+ ){1,3}sound\b")
HEARING = _any(
    HOW_SOUNDS.pattern,
    r"\btone of voice\b",
    r"\bwhat (?:kind of |sort of |type of )?(?:music|song|instruments?|sounds?|noises?|melody)\b",
    rf"\b(?:is|are|was|were) there (?:any |a |an |some )*(?:\w+ )?{_NOISES}\b",
    rf"\b(?:do|can|could|did) (?:you|i|we|one) hear (?:a |an |any |some |the )*(?:\w+ )?{_NOISES}\b",
    r"\bbackground (?:noise|music|sounds?)\b",
    r"\b(?:dog|someone|anyone|somebody|anybody) (?:bark|laugh|cry|shout|whisper|sing|clap)(?:s|ing)?\b",
    rf"\b(?:sounds?|is|are|was|were|feels?|seems?) (?:\w+ ){{0,3}}{_MOODS}\b",
    r"\b(?:emotions?|mood|accent)\b",
    r"\blisten (?:again|to)\b",
    r"\bmale or female\b|\bman or (?:a )?woman\b",
    r"\bwhat (?:can|could|do|did|is|was|else can) (?:be |you |i |we |one )?hear(?:d)?\b",
    r"\b(?:is|was) (?:it|she|he|(?:some|any)(?:one|body)) (?:\w+ )?(?:raining|crying|laughing|singing|"
    r"shouting|whispering|clapping|coughing|whistling)\b",
    r"\b(?:what|which) instruments?\b|\bhow (?:loud|noisy)\b",
)
AT_MOMENT = _any(
    r"\b(?:when|while|where|as|after) (?:[\w.']+ ){0,4}?(?:say(?:s|ing)?|said|talk(?:s|ed|ing)?|"
    r"mention(?:s|ed)?|ask(?:s|ed)?|answer(?:s|ed)?|promis(?:es|ed)|explain(?:s|ed)?)"
    r"(?: (?:about|that|of|for|him|her|them))* "
    r"(?P<words>.+?)[ ?.!]*$"
)
"""The moment in the words that are said in it."""
SPOKEN_OF = _any(r"\b(?:said|say|says|mention\w*|decid\w*|decision|talk\w*|discuss\w*|about the)\b")

# --- times and facts --------------------------------------------------------------------------------

ASKS_FOR_A_TIME = _any(r"^(?:when|how long|how often|how much|how many|since when|until when)\b")
FACTS = {
    "duration": _any(
        rf"\bhow long (?:is|was|does|did|are)\b(?: {THING}(?: (?:last|take|go|run|all|long))?)?{_END}",
        rf"^(?:what(?:'s| is) the )?(?:duration|length)(?: of {THING})?{_END}",
    ),
    "speakers": _any(
        r"\bhow many (?:different )?(?:speakers|voices)\b",
        rf"\bhow many (?:people|persons) (?:are |were |is |was )?(?:speak\w*|talk\w*|(?:in|on) {THING}|there|"
        rf"took part|take part|attend\w*)(?: {_OF_IT})?{_END}",
        rf"\bwho (?:is|was|were|are) (?:speak\w*|talk\w*|there|present|the speakers?|(?:in|on) {THING})"
        rf"(?: {_OF_IT})?{_END}",
        rf"\b(?:list|name) (?:of )?(?:the )?speakers\b|^speakers{_END}",
        rf"^who (?:speaks|talks|attended|took part)(?: {_OF_IT})?{_END}",
    ),
    "language": _any(r"\b(?:what|which) language\b|\blanguage of\b"),
    "coverage": _any(
        r"\b(?:is|was) (?:everything|all of it|the whole \w+) transcribed\b",
        rf"^(?:what is the )?coverage{_END}",
    ),
}

# --- decisions, actions, open questions -------------------------------------------------------------

DECISIONS = _any(r"\b(?:decid\w*|decisions?|conclusions?|agreed? (?:on|about|to)|agreements?|resolved)\b")
OPEN = _any(
    r"\b(?:open|unresolved|unanswered|outstanding|pending) (?:questions?|issues?|points?|items?|matters?)\b",
    r"\b(?:left|still|remain\w*|stay\w*) (?:open|unresolved|undecided|unclear)\b",
    r"\bundecided\b|\bnot (?:yet )?decided\b",
    r"\bquestions? (?:are |were |is |was )?(?:still )?(?:open|left)\b",
)
_PERSON = r"[\w.]{1,20}(?: [\w.]{1,20})?"
ACTIONS = _any(
    r"\baction (?:items?|points?)\b|\bactions\b|\bto-?do(?:s| list)?\b|\btasks?\b|\bnext steps?\b",
    r"\bfollow-?ups\b|\bassignments?\b",
    r"\bwho (?:has|needs|is|was|must|should|will) (?:to |supposed |going |do |responsible |for )*what\b",
    rf"\bwhat (?:does|do|must|should|will|is|are|shall|did) (?P<a>{_PERSON}?) (?:(?:have|need|needs|got|"
    r"supposed|promised?|agreed?|going) to |to )?do\b(?! (?:about|with|when|if|you)\b)",
    rf"\bwhat (?:has|have) (?P<b>{_PERSON}?) (?:got )?to do\b",
    rf"\b(?:what did|has|did) (?P<c>{_PERSON}?) promise\w*\b",
)
OWNER = re.compile(r"\b(?:for|of|by) (?P<a>[A-Z]\w+(?: \d+)?)\b|\b(?P<b>[A-Z]\w+)'s (?:tasks|to-?do|action)")
ABOUT = _any(
    r"\b(?:about|regarding|concerning|on|for|of|with(?: regard to)?|"
    r"on the (?:topic|subject|question|matter) of) (?P<topic>.+)$"
)
SAID_ABOUT = _any(r"\b(?:about|regarding|concerning)\b")

# --- the whole recording ----------------------------------------------------------------------------

SUMMARY = _any(
    r"\bsummar(?:y|ies|i[sz]e\w*|i[sz]ing)\b|\btl ?;? ?dr\b|\brecap\b",
    r"\b(?:meeting )?minutes of (?:the|this|our) \w+|\bmeeting minutes\b|^(?:the )?minutes[ ?.!]*$",
    r"\b(?:write|draft|prepare|make|give|show|take)(?: me)?(?: up)?(?: the)? minutes\b",
    r"\b(?:key|main|most important) (?:points?|takeaways?|quotes?|facts?)\b|\btakeaways?\b|\bgist\b",
    r"\bin (?:short|brief|a nutshell)\b|\bbrief me\b|\boverview\b|\bprotocol\b|\bnotes of\b",
)
OUTLINE = _any(
    r"\b(?:topics?|outline|agenda|chapters?|table of contents|structure)\b",
    rf"\bwhat(?:'s| is| was| are| were)? (?:{THING}|they|we|everything|all this|you) (?:all )?about\b",
    r"\bwhat (?:was|were|is|did|do|does|have)(?: (?:they|we|people|you|it|the \w+))? (?:been )?"
    rf"(?:discuss\w*|talk\w*(?: about)?|cover\w*)(?: {_OF_IT})?{_END}",
    rf"\bwhat (?:happen(?:s|ed)|goes on|went on)(?: {_OF_IT})?{_END}",
)
ONE_TOPIC = _any(r"\b(?:topic|subject|matter) of\b|\b(?:the|that|this) \w+ topic\b")
TEMPLATE = _any(r"\b(lecture|interview|stand-?up|call|meeting)\b")

# --- what a search is after -------------------------------------------------------------------------

WANTS = {
    "mentioned": _any(
        r"\b(?:when|where|how often|how many times)\b.*"
        r"\b(?:mention\w*|come up|came up|talk\w*|discuss\w*|said|say)\b"
    ),
    "who": _any(r"\b(?:who|whose|whom|which speaker)\b"),
    "when": _any(r"\b(?:when|what (?:day|date|time)|which (?:day|date)|how (?:soon|late))\b"),
    "how much": _any(
        r"\bhow (?:much|many|long|far|old|big|often)\b",
        r"\bwhat (?:does|did|do|will|would) .*\bcost\b|\bprice\b",
    ),
    "why": _any(r"\b(?:why|what for|for what reason)\b"),
}
WHO_SAID = _any(
    r"^(?:and )?who (?:said|says|used the words?)(?: that)? "
    r"(?P<words>(?!(?:some|any)thing\b|about\b).+?)[ ?.!]*$"
)
_NAME = r"[A-Z]\w*(?: (?:\d+|[A-Z]\w*))?"
_VERBS = (
    r"(?:say\w*|said|think\w*|mention\w*|talk\w*|ask\w*|answer\w*|propose\w*|suggest\w*|tell|told|want\w*|"
    r"explain\w*|report\w*|reply|object\w*)"
)
SPEAKER_SAID = re.compile(
    rf"\b(?:did|does|do|has|is|was) (?P<a>{_NAME}) (?:\w+ )?{_VERBS}\b|"
    rf"\b(?P<b>{_NAME}) (?:said|says|thinks|mentioned|asked|suggested|proposed)\b|"
    rf"\baccording to (?P<c>{_NAME})|\b(?:quotes?|words) (?:by|of|from) (?P<d>{_NAME})"
)


def says(name: str) -> re.Pattern[str]:
    """A question for the words of one voice."""
    name = re.escape(name)
    return _any(
        rf"\b(?:did|does|do|has|is|was|will|according to|by|from) {name}(?!\w)",
        rf"(?<!\w){name} (?:said?|says?|talk\w*|speak\w*|mention\w*|ask\w*)\b",
        rf"(?<!\w){name}'s (?:words?|quotes?|opinion|view|answers?|comments?)\b",
    )


def named(match: re.Match[str] | None) -> str:
    """The first named group that took part in a match, or nothing."""
    return next((group.strip() for group in match.groupdict().values() if group), "") if match else ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GROUPS = _words(
    "we they you i everyone everybody people somebody someone anyone anybody one us team all it he she who "
    "what why when how the did that this there"
)
"""Words in the place of a name that name nobody."""
WHOLE_THING = _words(
    "meeting call recording conversation discussion lecture interview standup audio file talk session today "
    "team there everyone all end open please podcast"
)
"""What “of the …” may be about when it is about the whole recording."""
SUMMARY_WORDS = _words(
    "summary summaries summarise summarize summarising summarizing tl dr tldr recap write draft prepare key "
    "main points takeaways gist overview short brief nutshell notes important protocol"
)
COMMON = _words(
    """a about above again all also am an and any anybody anyone anything are around as ask asked at audio
    back be because been before being between but by call came can clip come comes could d did discuss
    discussed discussion do does doing during each else end everybody everyone everything exactly
    excerpt for from get give go goes going gone had happen happened happening happens has have he hear
    heard her here him his how i if in into is it its just last let listen ll long look many me meeting
    mention mentioned minute minutes moment more much my next no not now of off on one or our out part
    people person play please point portion quote quotes re read reading recording s said say saying
    says second seconds section see segment she show so some somebody someone something speak speaker
    speakers speaking speaks spoke spoken start stretch t talk talked talking tell text than that the
    their them then there these they thing things this those time times to told transcribe transcript
    transcription us ve was we went were what what's whats when where which while who whom whose why
    will with word words would you your"""
)
"""Words of a question that do not say what it is about."""
