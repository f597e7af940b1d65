"""What a question asks for, decided by rule: English phrases, time expressions, and what was said before.

Each pattern is a list of alternatives, matched anywhere and in any case unless anchored. Apostrophes in
questions are straight and white space is single by the time they are matched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from agent.citations.quotes import fold
from agent.extractive.situation import Focus, Situation, Turn, results_of
from agent.extractive.time_expressions import TimeRange, TopicRange, find_time
from index.templates import TEMPLATES
from index.vocabulary import STOP_WORDS, one_of, word_set
from tools.result import AboutRecording, SearchResult, Transcript


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
TEMPLATE = _any(rf"\b({one_of(TEMPLATES).replace('standup', 'stand-?up')})\b")

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


GROUPS = word_set(
    "we they you i everyone everybody people somebody someone anyone anybody one us team all it he she who "
    "what why when how the did that this there"
)
"""Words in the place of a name that name nobody."""
WHOLE_THING = word_set(
    "meeting call recording conversation discussion lecture interview standup audio file talk session today "
    "team there everyone all end open please podcast"
)
"""What “of the …” may be about when it is about the whole recording."""
SUMMARY_WORDS = word_set(
    "summary summaries summarise summarize summarising summarizing tl dr tldr recap write draft prepare key "
    "main points takeaways gist overview short brief nutshell notes important protocol"
)
_SUBJECT_IN_A_QUESTION = word_set(
    """after ain aren away below both cannot couldn didn doesn don done down ever every few further gets
    getting got hadn hasn haven having hers herself himself however isn itself like m may mean meant
    might most must myself need nor oh ok okay once only other ours over own same shall should shouldn
    still such theirs think though through too under until up very want wasn well weren whatever
    whether within without won wouldn yes yet yours yourself"""
)
"""Stop words of talk that a short question may turn on: “what must I do?”, “what do they want?”."""
COMMON = (STOP_WORDS - _SUBJECT_IN_A_QUESTION) | word_set(
    """around audio back call came clip come comes discuss discussed discussion else end exactly excerpt
    happen happened happening happens hear heard last listen long look meeting minute minutes moment
    next part people person play point portion quote quotes read reading second seconds section see
    segment show speakers speaking spoke spoken start stretch text time times transcribe transcript
    transcription what's whats word words"""
)
"""Words of a question that do not say what it is about."""


Kind = Literal[
    "empty", "help", "thanks", "list", "facts", "which", "read", "around", "search", "items", "summary",
    "outline", "listen", "speaker_of", "time_of",
]  # fmt: skip
Items = Literal["decisions", "action_items", "open_questions"]
Direction = Literal["before", "after"]

WHICH = "Which recording do you mean?"
"""How the answer begins that asks back; the next question may then just name one."""

FOLLOW_UP_S = 60.0
"""Length of the stretch that “and after that?” reads after an answer that read none, seconds."""
SHORTEST_FOLLOW_UP_S = 30.0
"""Least length of the stretch that “and after that?” reads, seconds."""


@dataclass(frozen=True)
class Span:
    """A stretch of the recording, seconds; ``kind`` as in ``agent.extractive.time_expressions``."""

    start: float
    end: float
    kind: str = "range"


@dataclass(frozen=True)
class Intent:
    """What is to be done for a question."""

    kind: Kind
    query: str = ""
    """What to search for, or to listen for."""
    recording: str | None = None
    """Id of the recording it is about; None for the whole library."""
    span: Span | None = None
    """The stretch it asks about."""
    direction: Direction | None = None
    items: Items | None = None
    about: str = ""
    """The topic that decisions, actions or open questions are narrowed to; the words said at the moment that
    is to be listened to."""
    person: str = ""
    """The person for whom action items are asked for."""
    speaker: str | None = None
    """The speaker whose words are asked for."""
    unnamed: str = ""
    """Somebody the question names who is none of the recording's voices."""
    wants: str = ""
    """A key of ``WANTS``, or ``all``, or nothing in particular."""
    template: str = "meeting"
    fact: str = ""
    """A key of ``FACTS``."""
    exclude: frozenset[int] = frozenset()
    """Segments that were quoted before and are not wanted again."""


def understand(situation: Situation) -> Intent:
    """The intent of the situation's question."""
    if situation.recordings == 0 and situation.focus is None:
        return Intent("empty")
    text = " ".join(situation.question.replace("’", "'").split())
    if _only_names_recording(text, situation):
        # “Which recording do you mean?” – “Retro”, or “and Retro?”: the question before, of this recording.
        if situation.past:
            return understand(
                replace(situation, question=situation.past[-1].question, past=situation.past[:-1])
            )
        return understand(replace(situation, question="summary"))
    for rule in (_small_talk, _follow_up, _listen, _timed, _facts, _items, _whole):
        intent = rule(text, situation)
        if intent is not None:
            return intent
    return _search(text, situation)


def _only_names_recording(text: str, situation: Situation) -> bool:
    """Whether a question is the title of the recording in focus and nothing else."""
    if situation.focus is None:
        return False
    title, words = fold(situation.focus.title).split(), fold(text).split()
    rest = [word for word in words if word not in ("and", "what", "how", "about", "the", "in", "for", "of")]
    bare = [word for word in title if word not in ("and", "what", "how", "about", "the", "in", "for", "of")]
    return bool(rest) and rest == bare


def _small_talk(text: str, _: Situation) -> Intent | None:
    if GREETING.search(text) or HELP.search(text):
        return Intent("help")
    if THANKS.search(text):
        return Intent("thanks")
    return Intent("list") if LIST.search(text) else None


# --- follow-ups -----------------------------------------------------------------------------------


def _follow_up(text: str, situation: Situation) -> Intent | None:
    turns = [turn for turn in situation.past if turn.cited or turn.last(Transcript)]
    if not turns:
        return None
    last = turns[-1]
    if AFTER_THAT.search(text):
        return _neighbouring(last, "after")
    if BEFORE_THAT.search(text):
        return _neighbouring(last, "before")
    if MORE.search(text):
        return _more(last, situation)
    if last.cited and WHO_THAT.search(text):
        return Intent("speaker_of")
    if last.cited and WHEN_THAT.search(text):
        return Intent("time_of")
    return None


def _neighbouring(last: Turn, direction: Direction) -> Intent:
    """The stretch right after or before what the last answer read or cited."""
    read = last.last(Transcript)
    if read is not None:
        recording = read.content.recording.id
        start, end = read.content.range
        length = max(end - start, SHORTEST_FOLLOW_UP_S)
        shown = read.evidence
        # Whole sentences were shown; going on must neither repeat nor skip one.
        whole = len(shown) >= read.content.total
        end = max([end if whole else 0.0, *(item.end for item in shown)])
        start = min([start, *(item.start for item in shown)])
    else:
        # An answer leads with its best quote; “after that” is after the moment it speaks of.
        lead = last.cited[0]
        recording, length = lead.recording, FOLLOW_UP_S
        start, end = lead.start, lead.end
    span = Span(end, end + length) if direction == "after" else Span(max(0.0, start - length), start)
    return Intent("read", recording=recording, span=span, direction=direction)


def _more(last: Turn, situation: Situation) -> Intent:
    """More of the same: quotes that were not shown yet, or the next stretch."""
    found = last.last(SearchResult)
    if found is None:
        return _neighbouring(last, "after")
    shown = frozenset(item.id for turn in situation.past for item in turn.cited)
    recording = found.arguments.get("recording")
    return Intent("search", query=found.content.query, recording=recording, exclude=shown)


# --- listening again, and times ---------------------------------------------------------------------


def _listen(text: str, situation: Situation) -> Intent | None:
    if not HEARING.search(text):
        return None
    if SPOKEN_OF.search(text) and not HOW_SOUNDS.search(text):
        return None
    target = _target(situation)
    if target is None:
        return Intent("which")
    time = find_time(text, target.duration)
    if isinstance(time, TimeRange):
        span = Span(time.start, min(time.end, max(target.duration, time.start + 1)), time.kind)
        return Intent("listen", query=situation.question, recording=target.id, span=span)
    moment = named(AT_MOMENT.search(text))
    whole = Span(0.0, target.duration, "whole")
    return Intent("listen", query=situation.question, recording=target.id, span=whole, about=moment)


def _timed(text: str, situation: Situation) -> Intent | None:
    """Questions that name a time, alone or with something to look for there."""
    target = _target(situation)
    time = find_time(text, target.duration if target else None)
    if time is None:
        return None
    if isinstance(time, TopicRange):
        recording = situation.focus.id if situation.focus else None
        return Intent("around", query=time.topic, recording=recording, direction=time.direction)
    rest = _without(text, time.phrase)
    speaker, _ = _speaker(rest, target)
    words = content_words(rest, target, speaker)
    if words and ASKS_FOR_A_TIME.search(text):
        return None
    if target is None:
        return Intent("which")
    span = Span(time.start, time.end, time.kind)
    if SUMMARY.search(rest) and not words - SUMMARY_WORDS:
        return Intent("summary", recording=target.id, span=span, template=_template(rest))
    items = _items(rest, situation)
    if items is not None:
        return replace(items, kind="items", recording=target.id, span=span)
    if words:
        wants = _wants(rest)
        return Intent("search", query=rest, recording=target.id, span=span, speaker=speaker, wants=wants)
    return Intent("read", recording=target.id, span=span, speaker=speaker)


# --- facts, decisions, summaries --------------------------------------------------------------------


def _facts(text: str, situation: Situation) -> Intent | None:
    # “How long is Harbour Lights?” asks what “how long is it?” asks.
    plain = _without(text, situation.focus.title, "it") if situation.focus else text
    for fact, pattern in FACTS.items():
        if pattern.search(plain):
            target = _target(situation)
            return Intent("facts", fact=fact, recording=target.id) if target else Intent("list")
    return None


def _items(text: str, situation: Situation) -> Intent | None:
    found: Items
    person = ""
    if OPEN.search(text):
        found = "open_questions"
    elif match := ACTIONS.search(text):
        found = "action_items"
        person = named(match)
        if person.casefold() in GROUPS:
            person = ""
        person = person or named(OWNER.search(text))
    elif DECISIONS.search(text):
        found = "decisions"
    else:
        return None
    about = "" if person else _topic(text, situation.focus)
    # A topic is looked for in the whole library; without one, one recording must be meant.
    target = situation.focus if about or person else _target(situation)
    if target is None and not about and not person:
        return Intent("which", items=found)
    recording = target.id if target else None
    return Intent("items", query=text, recording=recording, items=found, about=about, person=person)


def _topic(text: str, focus: Focus | None) -> str:
    """The topic a question narrows itself to (“… about the sound stage”), or nothing."""
    match = ABOUT.search(_without(text, focus.title if focus else ""))
    topic = match["topic"].strip(" ?.!") if match else ""
    return topic if content_words(topic, focus) - WHOLE_THING else ""


def _whole(text: str, situation: Situation) -> Intent | None:
    summary = SUMMARY.search(text)
    if summary is None and (not OUTLINE.search(text) or ONE_TOPIC.search(text)):
        return None
    target = _target(situation)
    if target is None:
        return Intent("which")
    if summary is None:
        return Intent("outline", recording=target.id)
    topic = _topic(text, situation.focus) if SAID_ABOUT.search(text) else ""
    if topic:
        return Intent("search", query=topic, recording=target.id, wants="all")
    return Intent("summary", recording=target.id, template=_template(text))


def _template(text: str) -> str:
    match = TEMPLATE.search(text)
    return match[1].casefold().replace("-", "") if match else "meeting"


# --- everything else is searched --------------------------------------------------------------------


def _search(text: str, situation: Situation) -> Intent:
    about = named(WHAT_ABOUT.search(text)) if situation.past else ""
    query = about or text
    focus = situation.focus
    recording = focus.id if focus else None
    speaker, unnamed = _speaker(query, focus)
    if focus and speaker and not content_words(query, focus, speaker):
        return Intent("read", recording=recording, span=Span(0.0, focus.duration), speaker=speaker)
    if unnamed and content_words(query, focus, unnamed):
        # Nobody goes by this name here: looking for it would find where the name is called, not the topic.
        query = _without(query, unnamed, "they")
    wants = _wants(query)
    if match := WHO_SAID.search(query):
        query = match["words"]
    if not wants and not content_words(query, focus) and not any(map(str.isdigit, query)):
        target = _target(situation)
        return Intent("outline", recording=target.id) if target else Intent("help")
    return Intent("search", query=query, recording=recording, speaker=speaker, unnamed=unnamed, wants=wants)


def _wants(text: str) -> str:
    return next((name for name, pattern in WANTS.items() if pattern.search(text)), "")


def _speaker(text: str, focus: Focus | None) -> tuple[str | None, str]:
    """The voice whose words are asked for, and a name that is asked for but is none of the voices."""
    if focus is None:
        return None, ""
    for name in sorted(focus.speakers, key=len, reverse=True):
        if says(name).search(text):
            return name, ""
    name = named(SPEAKER_SAID.search(text))
    return None, "" if name.split(" ")[0].casefold() in GROUPS else name


# --- shared ---------------------------------------------------------------------------------------


def content_words(text: str, focus: Focus | None = None, speaker: str | None = None) -> set[str]:
    """Words of a question that say what it is about: no function words, title or speaker's name."""
    rest = _without(_without(text, speaker or ""), focus.title if focus else "")
    return {word for word in re.findall(r"\w+", fold(rest)) if word not in COMMON and not word.isdigit()}


def _target(situation: Situation) -> Focus | None:
    """The recording a question about one recording means: in focus, or the one talked about last."""
    if situation.focus:
        return situation.focus
    for turn in reversed(situation.past):
        read = [result.content.recording for result in results_of(turn.results, AboutRecording)]
        quoted_from = [item.recording for item in turn.cited[:1]]
        # Several were looked at: the one the answer led with is meant; quotes from a search name none.
        meant = [info for info in read if info.id in quoted_from] if quoted_from else read
        if meant:
            return Focus(meant[0].id, meant[0].title, meant[0].duration)
        if quoted_from:
            return None
    return None


def _without(text: str, phrase: str, instead: str = " ") -> str:
    """Text with a phrase cut out or replaced, any case."""
    if not phrase:
        return text
    pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
    return " ".join(re.sub(pattern, lambda _: instead, text, flags=re.IGNORECASE).split())
