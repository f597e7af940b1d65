"""The closed kinds of questions, and the law: a rule holds only if it accounts for every word.

A rule is a phrase, in English, and the few words that may stand beside it. Whatever else a question has must
be filler (function words, nouns for the recording itself) or a slot: its time, its recording, the people it
names. Some rules take a topic, which begins at a word such as “about”. What no rule accounts for is a search.

What a slot takes is overwritten, letter by letter, with the capital that stands for it, in a text that is
otherwise lower case: “what did Anna say at minute 2” becomes ``what did NNNN say TTTTTTTTTTT``. Places in
both texts are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from rapidfuzz.distance import OSA

from agent.citations.quotes import fold
from agent.planning.situation import Focus
from agent.planning.time_expressions import TimeRange, TopicRange, find_time
from index.folding import fold_letters
from index.records import TEMPLATES
from index.speaker_names import NO_NAMES, find_voices
from index.summary.speech_acts import due_words
from index.text import written_in
from index.vocabulary import FOREIGN_FUNCTION_WORDS, STOP_WORDS, number_words, one_of, word_set

# --- slots -----------------------------------------------------------------------------------------


TIME, TOPIC, TITLE, NAME, OWNER, DUE = "TBRNPD"
"""A stretch of time; what lies before or after a topic; the recording's title; who speaks (“did Anna say”);
whom something is for (“tasks for Anna”); when something is to be done (“by Friday”)."""

_SPEAKING = (
    r"say\w*|said|th(?:ink|inks|ought)|mention\w*|talk\w*|sp(?:eak|eaks|oke)|ask\w*|answer\w*|propos\w*|"
    r"suggest\w*|t(?:ell|ells|old)|want\w*|explain\w*|report\w*|repl\w+|object\w*|argu\w*|believ\w*|"
    r"fe(?:el|els|lt)|recommend\w*|promis\w*|describ\w*|agree\w*|sounds?"
)
_BEFORE_SPEAKER = re.compile(
    r"\b(?:did|does|do|has|have|had|is|was|were|are|will|would|can|could|should|must|according to|what|that|"
    r"and|or|than|(?:words|quotes?|comments?) (?:by|from|of)) (?:the )?$",
    re.IGNORECASE,
)
_AFTER_SPEAKER = re.compile(
    rf" (?:also |really )?(?:{_SPEAKING})\b|'s? (?:own )?(?:words?|quotes?|opinions?|views?|ideas?|answers?|"
    r"comments?|points?|concerns?|suggestions?|positions?|thoughts?|attitudes?|conclusions?|arguments?)\b",
    re.IGNORECASE,
)
_BEFORE_OWNER, _AFTER_OWNER = re.compile(r"\b(?:for|of|by) (?:the )?$", re.IGNORECASE), re.compile("'s? ")
_SUBJECT = re.compile(r"\b(?:did|does|has|is|was|will|should) (?:the )?$", re.IGNORECASE)
_CAPITALISED = re.compile(r"\b[A-Z][\w-]+(?: (?:\d+|[A-Z][\w-]*))*")
NOBODY = NO_NAMES | word_set("people team group meeting please")
"""Words in the place of a name that name nobody."""


@dataclass(frozen=True)
class Question:
    """A question and what its parts are.

    Attributes:
        text: On one line, with straight apostrophes.
        masked: The same in lower case, its parts as runs of capitals, other marks as spaces.
        time: The stretch, or the topic before or after which something was said.
        speaker: The voice whose words are asked for.
        person: Somebody who is named, whether there is such a voice or not.
        due: When something is to be done.
    """

    text: str
    masked: str
    time: TimeRange | TopicRange | None = None
    speaker: str | None = None
    person: str = ""
    due: str = ""

    @property
    def span(self) -> TimeRange | None:
        """The stretch of time."""
        return self.time if isinstance(self.time, TimeRange) else None

    def without(self, *letters: str) -> str:
        """The text without the parts that have these letters."""
        pairs = zip(self.text, self.masked, strict=True)
        return " ".join("".join(" " if mask in letters else letter for letter, mask in pairs).split())


_CONTRACTED = re.compile(
    r"\b(?:(who|what|where|when|how|that|there)(s)|(ca|do|does|did|is|are|was|were|has|have|had|would|could|should)"
    r"n(t)|(they|you)(re|ve|ll)|(we|i)(ve)|(i)(m))\b",
    re.IGNORECASE,
)


def with_apostrophes(text: str) -> str:
    """An English text with the apostrophes that people leave out: “whats”, “cant”, “theyre”.

    In other languages some of these are words: “im Meeting”, “ce dont on parle”.
    """
    if written_in(text) not in ("en", ""):
        return text

    def apart(found: re.Match[str]) -> str:
        word, ending = (group for group in found.groups() if group)
        return f"{word}n'{ending}" if ending.lower() == "t" else f"{word}'{ending}"

    return _CONTRACTED.sub(apart, text)


def read_question(text: str, target: Focus | None, voices: tuple[str, ...]) -> Question:
    """A question with its parts found.

    Args:
        text: On one line, with straight apostrophes.
        target: The recording that is meant, if known: its title and length.
        voices: Who may be named.
    """
    lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    masked = re.sub(r"(?<!\d)[.,:]|[.,:](?!\d)|[^\w'.,:-]", " ", lower)
    if target:
        for found in re.finditer(rf"(?<!\w){re.escape(target.title)}(?!\w)", text, re.IGNORECASE):
            masked = _mask(masked, *found.span(), TITLE)
    time = find_time(text, target.duration if target else None)
    for span in time.taken if time else ():
        masked = _mask(masked, *span, TIME if isinstance(time, TimeRange) else TOPIC)
    due = due_words(text) or ""
    place = text.find(due) if due and not accounted(due.lower(), "") else -1
    if place >= 0 and masked[place : place + len(due)] == due.lower():
        masked = _mask(masked, place, place + len(due), DUE)
    else:
        due = ""
    people: list[str] = []
    speakers: set[str] = set()
    for start, end, name, letter in _people(text, voices):
        if set(masked[start:end]) & {TIME, TOPIC, TITLE, NAME, OWNER}:
            continue
        masked = _mask(masked, start, end, letter)
        people.append(name or text[start:end])
        speakers |= {name} if name and letter == NAME else set()
    speaker = min(speakers) if len(speakers) == 1 else None
    return Question(text, masked, time, speaker, people[0] if people else "", due)


def _mask(masked: str, start: int, end: int, letter: str) -> str:
    return masked[:start] + letter * (end - start) + masked[end:]


def _people(text: str, voices: tuple[str, ...]) -> Iterator[tuple[int, int, str, str]]:
    """Who speaks or is to do something in a question: place, voice and letter; no voice for a stranger."""
    known, last = False, -2
    for start, end, voice in find_voices(text, voices):
        after, before = text[end:], text[:start]
        speaks = _AFTER_SPEAKER.match(after) or (
            _BEFORE_SPEAKER.search(before) and not _AFTER_OWNER.match(after)
        )
        named = text[start].isupper() or end - start == len(voice)
        owns = named and (_BEFORE_OWNER.search(before) or _AFTER_OWNER.match(after))
        # “The user interface designer”: what follows a name at once belongs to it.
        if (speaks or owns) and start != last + 1:
            known, last = True, end
            yield start, end, voice, NAME if speaks else OWNER
    for start, end in () if known else _strangers(text):
        if says(text, start, end) or _SUBJECT.search(text[:start]):
            yield start, end, "", NAME
            return
        if text.startswith("'s ", end) or (
            _BEFORE_OWNER.search(text[:start]) and accounted(text[end:].lower(), "")
        ):
            yield start, end, "", OWNER
            return


def says(text: str, start: int, end: int) -> bool:
    """Whether what is named there says or thinks something; what “does North Key cost” is about does not."""
    according = re.search(r"\baccording to (?:the )?$", text[:start], re.IGNORECASE)
    return bool(according or _AFTER_SPEAKER.match(text, end))


def _strangers(text: str) -> Iterator[tuple[int, int]]:
    """Where names may stand, by their capitals."""
    for found in _CAPITALISED.finditer(text):
        start, words = found.start(), found[0].split()
        # A question begins with a capital too.
        while len(words) > 1 and words[0] != "Speaker" and (start == 0 or words[0].lower() in STOP_WORDS):
            start += len(words.pop(0)) + 1
        if words[0].casefold() not in NOBODY:
            yield start, found.end()


# --- rules -----------------------------------------------------------------------------------------


NOUNS = word_set(
    """meeting call recording conversation discussion lecture interview standup stand-up audio file talk
    session podcast episode video tape clip chat hearing seminar webinar class presentation transcript
    debate"""
)
"""Nouns for the recording itself."""
FILLER = NOUNS | word_set(
    """a an the this that these those it its i you we they he she us them me my your our their his her
    everyone everybody anyone anybody someone somebody people team group all is are was were be been being
    am do does did done has have had having can could will would what which whats s re ve ll d m in of on
    at for from to by with during within through throughout out up there here any some so and or then now
    just also only exactly really actually please pls plz thanks thx everything anything something whole
    entire full complete overall total both short shortly brief briefly quick quickly nutshell else other
    today yesterday different many"""
)
"""Words that say nothing about the subject of a question."""
_SAYING = (
    r"say\w*|said|tell|talk\w*|speak\w*|spoken?|discuss\w*|mention\w*|happen\w*|go(?:es|ing)?|went|on|comes?|gets?|"
    r"came|hear|heard|listen|jump|skip|give|who|about|after|again|very"
)
SAYING = rf"{_SAYING}|quotes?|words?|plays?|read|show"
"""What may stand beside a time: somebody said something, something happened."""
COMMON = (STOP_WORDS | FILLER) | word_set(
    """discuss discussed discussing happen happened happens come comes came hear heard play plays read show
    spoke spoken quote quotes word words minute minutes second seconds"""
)
"""Words of a question that do not say what it is about."""


def _phrases(lines: str) -> re.Pattern[str]:
    """A pattern of whole words, an alternative a line; ``{who}`` is its only group, a person."""
    nouns = one_of(sorted(NOUNS))
    parts = {
        "{it}": rf"(?:it|this|that|{TITLE}+|(?:the|this|that|our) (?:{nouns}))",
        "{recordings}": rf"(?:recordings|files|(?:{nouns})s)",
        "{who}": r"(?:the )?([\w.]{1,20})",
        "{each}": r"(?:(?:each|every) (?:person|speaker|one)|everyone|everybody|the speakers|they|people)",
        "{howlong}": r"how (?:long|much|many (?:minutes|seconds))(?: time)?",
        "{what}": "what (?:does|do|is|are|was|did|has|have)",
        "{whois}": r"who(?: else)?(?:'s| is| was| were| are)(?: else)?(?: all)?",
        "{speak}": r"(?:speak|speaks|spoke|speaking|talk|talks|talked|talking)",
        "{noise}": f"(?:{_NOISE})",
        "{mood}": f"(?:{_MOOD})",
        "{about}": f"(?:{_ABOUT})",
        "{frame}": r"(?:(?:of|about|on) )?(?:the |their )?"
        r"(?:discussion|debate|talk|conversation|part|topic)s? (?:about|of|on)",
    }
    joined = "|".join(line.strip() for line in lines.strip().splitlines())
    for name, pattern in parts.items():
        joined = joined.replace(name, pattern)
    return re.compile(rf"(?<![\w'-])(?:{joined})(?![\w'-])")


_ABOUT = (
    "about|regarding|concerning|related to|with regard to|with respect to|as to|when it comes to|"
    "on the (?:topic|subject|question|matter|issue) of"
)
_NOISE = (
    r"music|songs?|dogs?|cats?|birds?|bark\w*|nois\w+|loud|sounds?|laugh\w*|applau\w*|clap\w*|sirens?|rain\w*|"
    r"bells?|chim\w+|thunder|footsteps|sing\w*|cry\w*|cough\w*|knock\w*|ring\w*|whistl\w*|whisper\w*|shout\w*|"
    r"pianos?|guitars?|drum\w*|violins?|instruments?|melody"
)
_MOOD = (
    "angry|happy|sad|nervous|upset|excited|sarcastic|tired|annoyed|stressed|calm|emotional|bored|enthusiastic|"
    "convinced|friendly|worried|confident|irritated|relaxed|ironic"
)
_NARROWED = _phrases(
    """{frame}
    (?:{about}|concerns?|whether|that|against|between|around|over|at|from|during|on|for|of|in|to)"""
    "(?: (?:{about}|for|of|on|in|to)(?= ))*"
)
_OBJECT = re.compile(r"(?<=\bsummari[sz]e )|(?<=\brecap )|(?<=\bsum up )")
_MOMENT = _phrases(
    r"""{about}(?= )
    (?:when|while|where|as|after) (?:[\w.']+ ){0,4}?(?:say\w*|said|talk\w*|mention\w*|ask\w*|answer\w*)"""
    r"(?: (?:about|that|of|for|him|her|them))*(?= )"
)
"""What comes before the words that are said at a moment."""


@dataclass(frozen=True)
class Rule:
    """A closed kind of question.

    Attributes:
        kind: What is wanted, a kind of ``Intent``.
        detail: Which fact, or which part of a summary.
        phrase: What must stand in the question.
        beside: What may stand beside it, a pattern of single words.
        parts: The parts that the question may have, by their letters.
        topic: Where a topic begins, if it may have one.
    """

    kind: str
    detail: str
    phrase: re.Pattern[str]
    beside: str = ""
    parts: str = TITLE
    topic: re.Pattern[str] | None = None


RULES = (
    Rule("help", "", _phrases(
        """help|hi|hello|hey|hallo|good (?:morning|afternoon|evening)
        (?:who|what) are you|what (?:questions )?(?:can|could|should|may) (?:you|i) (?:do|ask|say|tell)
        how (?:do|does|can) (?:i|this|it|you) (?:use|work|ask)"""), "ask"),
    Rule("thanks", "", _phrases("thanks?|thank you|thx|^ *(?:great|perfect|cool|ok|okay)(?= *$)"),
        "lot|much|very|helps|helpful|good|nice|great|perfect"),
    Rule("list", "", _phrases(
        """recordings|files|audios|library|what do (?:you|we|i) have(?= *$)
        (?:list|show|which|what|how many) (?:other )?{recordings}"""),
        "list|show|know|ask|about|how|add|library"),
    Rule("facts", "speaking", _phrases(
        """(?:{speak}|said|says)(?: the)? (?:most|least|longest|longer|more|less)|dominated
        most talkative|quietest|main speaker|most (?:of the )?(?:talking|speaking)
        (?:most|least|longest|speaking|talk|talking|speech|air) ?(?:times?|shares?)
        (?:share|percentage|part) of (?:the )?(?:time|speech|talk)
        {howlong} (?:did|does|do|has|have|is|was) (?:{each}|{who}) (?:been )?(?:{speak}|say)"""),
        "who|each|per|person|speakers?|rank|how|long|much|share|longest|than|talk\\w*|speak\\w*|said|time",
        TITLE + NAME + OWNER),
    Rule("facts", "duration", _phrases(
        "how long|duration|length|running time|run time|how many (?:minutes|hours|seconds)"),
        "lasts?|lasted|takes?|took|go|goes|runs?|long|minutes|hours"),
    Rule("facts", "speakers", _phrases(
        """how many (?:different )?(?:speakers|voices|people|persons|participants|attendees)
        {whois} (?:{speak}|there|present|participating|attending|involved|(?:in|on|at) {it})
        {whois} (?:voices|the speaker)
        who (?:speaks|talks|attended|takes part|took part|participate[ds]|joined)
        speakers|participants|attendees"""),
        "who|how|speak\\w*|spoke|talk\\w*|list|names?|took|part|number"),
    Rule("facts", "language", _phrases("languages?"), "speaks?|spoken|speaking|spoke|talk|used"),
    Rule("facts", "coverage", _phrases(
        "transcribed|coverage|gaps|missing parts|complete"),
        "how|much|missing|not|share|speech|percentage|percent"),
    Rule("items", "open_questions", _phrases(
        """(?:open|unresolved|unanswered|outstanding|pending) (?:questions?|issues?|points?|items?|topics?)
        (?:left|still|remains?|remained|stays?|stayed) (?:open|unresolved|undecided|unclear|unanswered)
        undecided|unresolved|(?:not|never|wasn't|weren't)(?: yet)? (?:decided|resolved|settled|answered)
        (?:still|left) (?:have to|has to|need to|needs to|to)(?: be)? (?:decided?|answer|clarify|resolved?)
        questions? (?:are |were |is |was )?(?:still )?(?:open|left|unanswered|remain|remained)"""),
        "list|give|show|left|still|questions?|things?|points?|issues?|remains?|yet|open|unanswered|unclear",
        TIME + TITLE, _NARROWED),
    Rule("items", "action_items", _phrases(
        r"""action (?:items?|points?)|actions|to-?dos?(?: lists?)?|to do list|tasks?|next steps?|follow-?ups?
        assignments?|homework|commitments|promises|deadlines|due dates|who does what
        what (?:still )?(?:(?:needs|has|is left) to|must|should) be (?:done|finished|ready)|due
        who(?:'s| is)? (?:(?:has to|needs to|must|should|will|going to|supposed to|to) do|did|doing) what
        who is responsible for what|what is {who} responsible for|who(?:'s| is) (?:responsible|in charge)
        what (?:must|should|will|shall) {who} (?:have to )?do
        {what} {who} (?:(?:have|needs?|supposed|going|asked|promised|agreed?|got) )?to (?:do|finish|\w+(?= D))
        what (?:did|has|does) {who} (?:promise\w*|commit to|volunteer for|take on|sign up for)
        (?:what )?{who} (?:promised|agreed to do|committed to|took on)
        what {who} said (?:he|she|they)(?:'d|'ll| would| will) do"""),
        "who|whose|next|until|lists?|give|show|made|assign|assigned|when|agreed|given|left|got|came|come",
        TIME + TITLE + NAME + OWNER + DUE, _NARROWED),
    Rule("items", "decisions", _phrases(
        """decide[sd]?|deciding|decisions?|conclusions?|conclude[sd]?|agreed?(?: (?:on|upon|about))?
        agreements?|resolved|resolutions?|settled?|outcomes?"""),
        "make|made|making|taken?|took|reach(?:ed)?|passed|drawn|far|come|came|get|got|give|list|show|final|main|key",
        TIME + TITLE + NAME + OWNER, _NARROWED),
    Rule("items", "key_quotes", _phrases(
        "(?:key|main|most important|best) (?:quotes?|sentences?|statements?|moments?|lines)|highlights"),
        "list|show|give", TIME + TITLE),
    Rule("summary", "", _phrases(
        """minutes(?: of {it})?|notes|bottom line|what did (?:i|we) miss
        (?:write|draft|prepare|make|create)(?: (?:up|the|a))* protocol
        in (?:short|brief|a nutshell)|brief me"""), "write|draft|prepare|make|give|get", TIME + TITLE),
    Rule("summary", "", _phrases(
        r"""summar(?:y|ies|i[sz]e[sd]?|i[sz]ing|i[sz]ation)|sum (?:{it} )?up|tl ?;? ?dr|recap\w*|synopsis
        essence|gist|takeaways?|overview
        (?:key|main|(?:most )?important) (?:points?|takeaways?|facts?|messages?|things?)
        ^ *(?:everything|all)(?= *$)|need to know"""),
        "write|draft|prepare|provide|make|give|get|key|main|points?|important|executive|who|said|"
        r"few|couple|single|concise|detailed|(?:\w+-)?(?:bullets?|sentences?|lines?|pages?|paragraphs?|words?)|\d+|"
        + one_of([*number_words(1, 12), *TEMPLATES]),
        TIME + TITLE, _phrases("{frame}|{about}|on|of")),
    Rule("summary", "", _phrases("summari[sz]e|recap|sum up"), "", TITLE, _OBJECT),
    Rule("outline", "", _phrases(
        """topics?|themes|subjects|outline|agenda|chapters?|table of contents|structured?
        what(?:'s| is| was| are| were)? (?:{it}|they|we|everything|all this|you|people) (?:all )?about
        (?:discuss(?:ed|ing)?|talk(?:s|ed|ing)?|said|spoken?|cover(?:s|ed)?)(?: about)?
        happen(?:s|ed)?|going on|went on"""),
        r"about|discuss\w*|comes?|came|cover(?:ed)?|talk\w*|list|give|show|main|mainly|points?|brought|raised|how"),
    Rule("listen", "", _phrases(
        rf"""how (?:do|does|did|is|are) (?:\w+ )?\w+ sound(?:ing)?|tone(?: of (?:his |her |their )?voice)?
        moods?|emotions?|accents?|{{noise}}|listen(?: again)?(?: to)?|male or female|man or (?:a )?woman
        (?:sounds?|is|are|was|were|seems?|feels?|{NAME}+(?: seem)?|he|she|they|it|everyone) (?:\w+ )?{{mood}}
        what (?:can|could|do|did) (?:you|i|we|one) hear|what (?:is|was|can be) (?:heard|audible)
        (?:can|could|do|did) (?:you|i|we|one) hear(?: (?:a|an|any|some))+ \w+(?: \w+ing)?"""),
        r"hear(?:d|ing)?|listen|audible|play\w*|kind|sort|type|how|like|voices?|background|again|very|bit|little|"
        rf"rather|quite|speaker|seem|who|go(?:ing)?|{_NOISE}|{_MOOD}", TIME + TITLE + NAME, _MOMENT),
)  # fmt: skip
"""In the order in which they are tried."""

_LEAD = re.compile(
    r"^ *(?:(?:please|kindly|okay|ok|so|and|now|well|hey|hi|hello|thanks|then|also|just|know|see|have|"
    r"(?:can|could|would|will) (?:you|we)|i'd like|i would like|i want|i need|we need|do you know|let me|"
    r"i (?:missed|wasn't (?:at|in)|couldn't (?:join|attend)|was late (?:for|to)) (?:it|(?:the|this) \w+)|"
    r"let's|remind me|tell me|show me|give me|get me|make me|transcribe|to (?:know|see|have|hear|get)|"
    r"(?:what|how) about)(?= ) *)+"
)
"""What a question may begin with, and is not counted."""
_OFTEN_MISSPELT = sorted(word_set(
    """summary summarise summarize decide decided decision decisions recording recordings language speakers
    duration question questions unresolved undecided transcribed outline overview takeaways discussed agreed
    agreement agenda action actions items topics meeting"""
))  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How a rule accounts for a question; the topic and the person as they were typed."""

    rule: Rule
    topic: str = ""
    person: str = ""


def read_kind(question: Question) -> Reading | None:
    """The first rule that accounts for every word of a question; None for a search."""
    for rule in RULES:
        for masked in readings(question):
            if match := _phrase_in(masked, rule):
                return Reading(rule, "", _person(match, question))
            for split in rule.topic.finditer(masked) if rule.topic else ():
                typed = zip(question.text[split.end() :], masked[split.end() :], strict=True)
                rest = "".join(letter for letter, mask in typed if mask != TIME)
                topic = re.sub(r"[ ,]+please$", "", rest.strip(" ?.!,;:"))
                # At a moment, a mere “no” may be said.
                says = topic if rule.kind == "listen" else content_words(topic)
                if masked[split.end() :].lstrip().startswith(OWNER) and OWNER in rule.parts:
                    continue  # “tasks for Anna about the fee”
                if says and (match := _phrase_in(masked[: split.start()], rule)):
                    return Reading(rule, topic, _person(match, question))
    return None


def readings(question: Question) -> tuple[str, str]:
    """The masked question with its beginning and without it."""
    lead = _LEAD.match(question.masked)
    start = lead.end() if lead else 0
    return question.masked, " " * start + question.masked[start:]


def _phrase_in(text: str, rule: Rule) -> re.Match[str] | None:
    """The phrase of a rule in a text in which every other word may stand beside it."""
    for match in rule.phrase.finditer(text):
        if accounted(f"{text[: match.start()]} {text[match.end() :]}", rule.parts, rule.beside):
            return match
    return None


def accounted(text: str, parts: str, beside: str = "") -> bool:
    """Whether a text is filler, parts of these letters, and words of a pattern only."""
    words = re.findall(r"\w+(?:-\w+)*", text)
    return all(word in FILLER or not word.strip(parts) or re.fullmatch(beside, word) for word in words)


def asks_what_was_said(text: str, parts: str) -> bool:
    """Whether a masked text asks what was said, whatever its parts with these letters are, and of no topic.

    “About the quotes” and “about the show” name one, though “quotes” and “show” may ask for what was said.
    """
    asked, about, topic = text.partition(" about ")
    return accounted(asked + about, parts, SAYING) and accounted(topic, parts, _SAYING)


def _person(match: re.Match[str], question: Question) -> str:
    """Whom a phrase is about: who stands at its place, else who is named anywhere."""
    place = match.lastindex or 0
    typed = question.text[slice(*match.span(place))] if place else ""
    return question.person or ("" if typed.casefold() in NOBODY else typed)


def content_words(text: str, focus: Focus | None = None, speaker: str | None = None) -> set[str]:
    """Words of a text that say what it is about: none of the title or of a speaker's name."""
    for name in filter(None, (speaker, focus.title if focus else None)):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text, flags=re.IGNORECASE)
    return {word for word in re.findall(r"\w+", fold(text)) if word not in COMMON and not word.isdigit()}


def named_topic(text: str) -> str:
    """What a question says that it is about, in its own words; empty where it does not say."""
    match = re.search(r"\b(?:about|regarding|mention(?:s|ed|ing)?|said on) (.+)$", text, re.IGNORECASE)
    topic = match[1].strip(" ?.!")[:120] if match else ""
    return topic if content_words(topic) else ""


def corrected(text: str) -> str:
    """The text with words that miss one of the rules' longer words by a letter, or by their order.

    A letter that is doubled or not is no miss.
    """

    def single(word: str) -> str:
        return re.sub(r"(.)\1", r"\1", word)

    def nearest(found: re.Match[str]) -> str:
        typed = found[0].casefold()
        known = [word for word in _OFTEN_MISSPELT if word[0] == typed[0] and word != typed]
        near = (word for word in known if OSA.distance(single(word), single(typed)) <= 1)
        mixed = (word for word in known if sorted(word) == sorted(typed))
        return typed if typed in _OFTEN_MISSPELT else next(chain(near, mixed), found[0])

    return re.sub(r"[^\W\d_]{5,}", nearest, text)


# --- other languages ----------------------------------------------------------------------------------

_FOREIGN = {
    "decisions": word_set(
        """beschlossen entschieden beschlusse entscheidungen decide decidee decisions decidio decidido
        decidimos decisiones deciso decisioni decidiu decisoes besloten besluiten"""
    ),
    "action_items": word_set("aufgaben taches tareas compiti tarefas taken actiepunten"),
    "open_questions": word_set(
        "offene fragen questions ouvertes preguntas abiertas domande aperte open vragen"
    ),
    "summary": word_set(
        """zusammenfassung zusammen zusammenfassen resume resumer resumen resumir resumelo riassunto riassumi
        riassumere resumo samenvatting samenvatten"""
    ),
    "outline": word_set("themen sujets themes temas argomenti onderwerpen"),
}
"""Words of the commonest kinds in other languages, without accents."""


def foreign_kind(text: str) -> str:
    """The kind, or the part of a summary, that a question in another language asks for; empty for none."""
    words = set(re.findall(r"\w+", fold_letters(text)))
    for filler in FOREIGN_FUNCTION_WORDS.values():
        rest = words - filler
        kind = next((kind for kind, known in _FOREIGN.items() if rest <= known), "")
        if kind and rest and rest < words:
            return kind
    return ""
