"""What a question wants: a kind that a rule accounts for, a follow-up to the last answer, or a search.

``QuestionContext`` is how the graph hands it to a chat model, beside the system message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from langchain_core.messages import BaseMessage, SystemMessage

from agent.citations.quotes import fold
from agent.planning.rules import (
    NAME,
    TIME,
    TITLE,
    TOPIC,
    Question,
    accounted,
    asks_what_was_said,
    corrected,
    foreign_kind,
    read_kind,
    read_question,
    readings,
    says,
    with_apostrophes,
)
from agent.planning.situation import Focus, Situation, Turn, turns_of
from agent.planning.time_expressions import AT_SECONDS, TimeRange, TopicRange
from index.records import TEMPLATES
from index.text import written_in
from index.vocabulary import MONTHS, WEEKDAYS, one_of
from moss_audio.timestamps import parse_clock
from tools.result import AboutRecording, SearchResult, Transcript
from tools.search_recordings import REPLY_WITHIN_S

Kind = Literal[
    "empty", "help", "thanks", "list", "facts", "which", "read", "around", "search", "items", "summary",
    "outline", "listen", "speaker_of", "time_of", "several",
]  # fmt: skip
Items = Literal["decisions", "action_items", "open_questions", "key_quotes"]
Direction = Literal["before", "after"]

WHICH = "Which recording do you mean?"
"""How the answer begins that asks back; the next question may then just name one."""
FOLLOW_UP_S = 60.0
"""Length of the stretch that “and after that?” reads after an answer that read none, seconds."""
SHORTEST_FOLLOW_UP_S = 30.0
"""Least length of the stretch that “and after that?” reads, seconds."""


@dataclass(frozen=True)
class Intent:
    """What is to be done for a question."""

    kind: Kind
    query: str = ""  # what to search for, or to listen for
    recording: str | None = None  # its id; None for the whole library
    span: TimeRange | None = None  # the stretch that is asked about
    clock: str = ""  # a clock time in the question as it was typed; somebody may have said it
    direction: Direction | None = None  # what comes before or after something
    items: Items | None = None  # the part of a summary
    about: str = ""  # the topic it is narrowed to, or the words said at the moment to be listened to
    person: str = ""  # whose action items or decisions
    due: str = ""  # when action items are to be done, as it was typed
    speaker: str | None = None  # the voice whose words are asked for
    unnamed: str = ""  # somebody named who is none of the recording's voices
    wants: Literal["", "mentioned", "all"] = ""  # where something comes up, or all that was said about it
    template: str = "meeting"  # the kind of conversation that is summarised
    fact: str = ""  # ``duration``, ``speakers``, ``speaking``, ``language`` or ``coverage``
    exclude: frozenset[int] = frozenset()  # segments that were quoted before and are not wanted again
    foreign: bool = False  # the question is in a language that no rule knows
    parts: tuple[Intent, ...] = ()  # what is asked for one after the other


_START = r"^ *(?:(?:and|so|then|ok|okay|now|please) +)*"
_SAID = (
    r"what(?:'s| (?:was|is|did|does|were))?(?: (?:they|he|she|we|people|i))?(?: (?:said|say|talk\w*|"
    r"discuss\w*|happen(?:s|ed)|came|comes|follow(?:s|ed)))? *"
    r"(?:right|just|directly|immediately|straight|shortly)? *"
)
_THAT = r"(?: (?:that|this|it|then))?(?: please)? *$"
_FOLLOW_UPS = {
    "after": rf"(?:(?:{_SAID})?(?:after|afterwards|next)|then|(?:go|carry|read) on|continue){_THAT}",
    "before": rf"(?:{_SAID})?before{_THAT}",
    "more": r"(?:(?:what|anything|something|who|where) else(?: (?:was|is|did|do|does)(?: (?:they|he|she|we))?"
    r"(?: (?:there|said?|discussed|mentioned))?)?|(?:(?:tell|show|give) me )?(?:any |some )?more"
    r"(?: about (?:it|that|this))?|(?:is|was) there (?:anything )?more|is that all)(?: please)? *$",
    "who": r"(?:who|which speaker|whose voice) (?:said|says|was|is|asked|thinks|thought) (?:that|this|it) *$",
    "when": r"(?:when|where|at what time) (?:was|is|did|does)(?: (?:they|he|she|we))?(?: (?:say|mention))? "
    r"(?:that|this|it)(?: said| mentioned)? *$",
}
_MENTIONED = re.compile(
    r"(?:when|where|how often|how many times)\b.*"
    r"\b(?:mention\w*|come up|came up|talk\w*|discuss\w*|said|say)\b"
)
"""How a question begins, with its question word, that asks for all places where something comes up."""
_ASKS = re.compile(
    r"\b(?:who|whose|whom|what|which|why|how|(?:when|where)(?:'s|(?= (?:is|was|are|were|do|does|did|has|"
    r"have|had|will|would|can|could|shall|should|must|else)\b)))(?!\w)"
)
"""A question word; “when” and “where” mostly join clauses, and ask only before such a verb."""
_WHO_SAID = re.compile(
    r"^(?:and )?who (?:said|says|used the words?)(?: that)? ((?!(?:some|any)thing\b|about\b).+?)[ ?.!]*$",
    re.IGNORECASE,
)
_WHAT_IS = re.compile(
    rf"(?:who|what)(?:'s| is| was| are| were) (?:(?:the )?{NAME}+|an? (?!\w+ about\b)\w+)(?P<rest>.*)"
)
_FRONTED = re.compile(
    r"^((?:about|regarding|concerning|on|for) [^,]+), +((?:what|which|who|did|was|were) .+?)[ ?]*$",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(?<![\d:.])\d{1,2}:[0-5]\d(?![:\d])")
_AMOUNT = re.compile(r"(?:when|how (?:long|often|much|many)|since when|until when)\b")
_TEMPLATE = re.compile(rf"\b(?:{one_of(TEMPLATES).replace('standup', 'stand-?up')})\b")
_JOINS = re.compile(r"((?:[,;?!.]+(?=\s|$)|\s+(?:and|und|et|y|e|en|&|\+|plus|as well as)(?=\s))+)")
_MOST_JOINS = 8
"""Places at which a question is divided; one with more is searched for."""


def understand(situation: Situation) -> Intent:
    """The intent of the situation's question."""
    if situation.recordings == 0 and situation.focus is None:
        return Intent("empty")
    text = with_apostrophes(" ".join(situation.question.replace("’", "'").split()))
    if _only_names_recording(text, situation.focus):
        # “Which recording do you mean?” – “Retro”, or “and Retro?”: the question before, of this recording.
        before = situation.past[-1].question if situation.past else "summary"
        return understand(replace(situation, question=before, past=situation.past[:-1]))
    target = _target(situation)
    voices = _voices(situation, target)
    question = read_question(text, target, voices)

    def closed(part: str) -> Intent | None:
        fronted = _FRONTED.sub(r"\2 \1", corrected(part))
        readings = (read_question(typed, target, voices) for typed in (part, fronted))
        return next((found for typed in readings if (found := _by_rule(typed, situation))), None)

    return (
        _follow_up(question, situation)
        or _several(text, closed)
        or closed(text)
        or _each_asked(text, situation)
        or _timed(question, situation)
        or _search(question, situation)
    )


def _voices(situation: Situation, target: Focus | None) -> tuple[str, ...]:
    """Who may be named in a question: the speakers of the recording in focus, else anybody in the library."""
    own = target.speakers if target else ()
    return own if situation.focus else tuple(dict.fromkeys((*own, *situation.people)))


def _only_names_recording(text: str, focus: Focus | None) -> bool:
    small = ("and", "what", "how", "about", "the", "in", "for", "of")
    both = (text, focus.title if focus else "")
    rest, title = ([word for word in fold(words).split() if word not in small] for words in both)
    return bool(rest) and rest == title


# --- follow-ups -----------------------------------------------------------------------------------


def _follow_up(question: Question, situation: Situation) -> Intent | None:
    turns = [turn for turn in situation.past if turn.cited or turn.found(Transcript)]
    asked = (name for name, phrase in _FOLLOW_UPS.items() if re.match(_START + phrase, question.masked))
    match next(asked, "") if turns else "":
        case "after" | "before" as direction:
            return _neighbouring(turns[-1], direction)
        case "more" if found := turns[-1].found(SearchResult):
            shown = frozenset(item.id for turn in situation.past for item in turn.cited)
            return Intent("search", found.content.query, found.arguments.get("recording"), exclude=shown)
        case "more":
            return _neighbouring(turns[-1], "after")
        case "who" if turns[-1].cited:
            return Intent("speaker_of")
        case "when" if turns[-1].cited:
            return Intent("time_of")
    return None


def _neighbouring(last: Turn, direction: Direction) -> Intent:
    """The stretch right after or before what the last answer read or cited."""
    read = last.found(Transcript)
    if read is not None:
        recording = read.content.recording.id
        start, end = read.content.range
        length = max(end - start, SHORTEST_FOLLOW_UP_S)
        # Whole sentences were shown; going on must neither repeat nor skip one.
        whole = len(read.evidence) >= read.content.total
        end = max([end if whole else 0.0, *(item.end for item in read.evidence)])
        start = min([start, *(item.start for item in read.evidence)])
    else:
        # An answer leads with its best quote; “after that” is after the moment it speaks of, and after what
        # was replied there.
        lead = last.cited[0]
        recording, length, start, end = lead.recording, FOLLOW_UP_S, lead.start, lead.end
        for item in last.cited[1:]:
            if item.recording != recording or not 0 <= item.start - end <= REPLY_WITHIN_S:
                break
            end = item.end
    span = (
        TimeRange(end, end + length) if direction == "after" else TimeRange(max(0.0, start - length), start)
    )
    return Intent("read", recording=recording, span=span, direction=direction)


# --- several parts --------------------------------------------------------------------------------


def _several(text: str, closed: Callable[[str], Intent | None]) -> Intent | None:
    """“PART and PART”, each of a closed kind of its own, in the order asked; None where a part is of none."""
    pieces = _JOINS.split(text)
    found = _parts(pieces, closed) if len(pieces) <= 2 * _MOST_JOINS else None
    if not found or len({(part.kind, part.items, part.fact) for part in found}) < max(2, len(found)):
        return None
    last = found[-1]
    if last.kind == "items" and not _ASKS.search("".join(pieces[1:]).lower()):
        # “Decisions and tasks about the tank”: both are about it.
        found = [
            replace(part, about=last.about, person=last.person, speaker=last.speaker, span=last.span)
            if part.kind == "items"
            else part
            for part in found
        ]
    return _together(found)


def _parts(pieces: Sequence[str], closed: Callable[[str], Intent | None]) -> list[Intent] | None:
    """What parts ask for, which are given with what joins them; the first is as short as it can be."""
    if accounted("".join(pieces).lower(), ""):
        return []
    for count in range(1, len(pieces) + 1, 2):
        first = closed("".join(pieces[:count]))
        rest = _parts(pieces[count + 1 :], closed) if first else None
        if first and rest is not None:
            return [first, *rest]
    return None


def _each_asked(text: str, situation: Situation) -> Intent | None:
    """“When is it? And who will come?”: sentences that each ask something."""
    sentences = re.findall(r"[^?]+\?", f"{text.rstrip('?')}?")
    if not 1 < len(sentences) <= _MOST_JOINS or not all(map(_ASKS.search, map(str.lower, sentences))):
        return None
    return _together([understand(replace(situation, question=sentence)) for sentence in sentences])


def _together(found: Sequence[Intent]) -> Intent:
    """Several intents as one; greetings are left out, and asking back comes before everything."""
    parts = [part for part in found if part.kind not in ("help", "thanks")] or [found[0]]
    asking_back = next((part for part in parts if part.kind == "which"), None)
    return asking_back or (Intent("several", parts=tuple(parts)) if len(parts) > 1 else parts[0])


# --- closed kinds ---------------------------------------------------------------------------------


def _by_rule(question: Question, situation: Situation) -> Intent | None:
    """What is wanted, if a rule accounts for the question."""
    reading = read_kind(question)
    if reading is None:
        return _summarised(foreign_kind(question.text), question, situation)
    rule, topic = reading.rule, reading.topic
    match rule.kind:
        case "help" | "thanks" | "list":
            return Intent(cast(Kind, rule.kind))
        case "facts":
            unnamed = "" if question.speaker else reading.person
            facts = Intent("facts", fact=rule.detail, speaker=question.speaker, unnamed=unnamed)
            placed = _placed(facts, situation)
            return placed if placed.recording or rule.detail == "speaking" else Intent("list")
        case "summary" if topic:
            # “Summarise what was decided” asks what “what was decided” asks.
            inner = understand(replace(situation, question=topic))
            asks = inner.kind == "several" or re.match(r"(?:what|how|why|who)\b", topic)
            inner = inner if asks else _search(question, situation)
            return replace(inner, wants="all", about=topic) if inner.kind == "search" else inner
        case "listen":
            target = _target(situation)
            span = question.span or (TimeRange(0.0, target.duration, "whole") if target else None)
            return _placed(Intent("listen", situation.question, span=span, about=topic), situation)
    return _summarised(rule.detail or rule.kind, question, situation, topic, reading.person)


def _summarised(
    kind: str, question: Question, situation: Situation, topic: str = "", person: str = ""
) -> Intent | None:
    """A summary or a part of it: of a stretch, about a topic, of a person."""
    if kind in ("summary", "outline"):
        found = _TEMPLATE.search(question.masked)
        template = found[0].replace("-", "") if found else "meeting"
        return _placed(Intent(cast(Kind, kind), span=question.span, template=template), situation)
    if not kind:
        return None
    whose = re.search(rf"\b(?:for|of|by) {re.escape(topic)}\W*$", question.text)
    if kind == "action_items" and whose and topic.isalpha() and topic.lower() not in (*WEEKDAYS, *MONTHS):
        person = person or topic
    asked = Intent("items", question.text, span=question.span, items=cast(Items, kind), due=question.due)
    items = replace(asked, about=topic, person=person, speaker=question.speaker)
    # A topic is looked for in the whole library; without one, one recording must be meant.
    anywhere = situation.focus is None and bool(topic or person) and items.span is None
    return items if anywhere else _placed(items, situation)


def _placed(intent: Intent, situation: Situation) -> Intent:
    """The intent for the recording that is meant; where none is, asking back."""
    target = _target(situation)
    return replace(intent, recording=target.id) if target else Intent("which", items=intent.items)


# --- times, and everything else --------------------------------------------------------------------


def _timed(question: Question, situation: Situation) -> Intent | None:
    """Questions that name a time, alone or with something to look for there."""
    time, target = question.time, _target(situation)
    clock = found if (found := _CLOCK.search(question.text)) and not isinstance(time, TopicRange) else None
    beyond = target is not None and clock is not None and parse_clock(clock[0]) >= target.duration
    words = (text.replace(clock[0] if clock else TIME, TIME) for text in readings(question))
    alone = any(asks_what_was_said(rest, TIME + TOPIC + TITLE + NAME) for rest in words)
    if isinstance(time, TopicRange):
        recording = situation.focus.id if situation.focus else None
        around = Intent("around", time.topic, recording, direction=time.direction, speaker=question.speaker)
        # “What will happen after the demo?” is about the demo, not the recording; so is what somebody did.
        done = re.search(r"\b(?:will|would|can|could)\b|\bdid [\w ]+ do\b", question.masked)
        return around if alone and not done else None
    span = question.span
    if clock and beyond and alone:
        # It may be a time of day that somebody spoke of.
        at, query = parse_clock(clock[0]), f"{clock[0]} {clock[0].replace(':', '.')}"
        asked = Intent(
            "read", query, span=TimeRange(at - AT_SECONDS, at + AT_SECONDS, "moment"), clock=clock[0]
        )
    elif span and alone:
        asked = Intent("read", span=span, speaker=question.speaker)
    elif span is None or beyond or _AMOUNT.match(question.masked) or (clock and target is None):
        return None
    else:
        query = question.text if clock else question.without(TIME)
        asked = Intent("search", query, span=span, wants=_wants(question), speaker=question.speaker)
        asked = replace(asked, clock=clock[0] if clock else "")
    return _placed(asked, situation)


def _search(question: Question, situation: Situation) -> Intent:
    focus, speaker = situation.focus, question.speaker
    recording = focus.id if focus else None
    query, wants = question.text, _wants(question)
    if _asks_what_it_is(question):
        return Intent("search", query, recording, wants=wants)
    alone = asks_what_was_said(question.masked, TITLE + NAME)
    if alone and speaker and focus and NAME in question.masked:
        return Intent("read", recording=recording, span=TimeRange(0.0, focus.duration), speaker=speaker)
    if alone and speaker and NAME in question.masked:
        # “What did Anna say?”, to the whole library: what matters most of it, in each recording.
        return Intent("items", query, items="key_quotes", person=speaker, speaker=speaker)
    if alone and not wants:
        target = _target(situation)
        return Intent("outline", recording=target.id) if target else Intent("help")
    name = re.search(rf"{NAME}+", question.masked)
    stranger = name and says(question.text, *name.span()) and focus and question.person not in focus.speakers
    unnamed = question.person if stranger else ""
    if match := _WHO_SAID.search(query):
        query = match[1]
    elif name and unnamed:
        # Nobody goes by this name here: looking for it would find where the name is called, not the topic.
        before, after = re.sub(r"\bthe $", "", query[: name.start()]), query[name.end() :]
        owned = re.match("'s?", after)
        query = f"{before}{'their' if owned else 'they'}{after[owned.end() if owned else 0 :]}"
    foreign = written_in(question.text) not in ("en", "")
    return Intent("search", query, recording, speaker=speaker, unnamed=unnamed, wants=wants, foreign=foreign)


def _asks_what_it_is(question: Question) -> bool:
    """“Who is Anna?”, “what's a hearing?”: neither is about all that was said, by her or in it."""
    asked = _WHAT_IS.match(readings(question)[1].strip())
    return asked is not None and accounted(asked["rest"], TITLE)


def _wants(question: Question) -> Literal["", "mentioned"]:
    """Whether all places are asked for; in “why … when discussing the price?” the question word is “why”."""
    text = readings(question)[1].strip()
    asks = _ASKS.search(text)
    return "mentioned" if _MENTIONED.match(text[asks.start() :] if asks else text) else ""


def _target(situation: Situation) -> Focus | None:
    """The recording a question about one recording means: in focus, or the one talked about last."""
    if situation.focus:
        return situation.focus
    for turn in reversed(situation.past):
        read = [result.content.recording for result in turn.all(AboutRecording)]
        if not turn.cited and not read:
            continue
        # Several were looked at: the one the answer led with is meant; quotes from a search name none.
        meant = [info for info in read if not turn.cited or info.id == turn.cited[0].recording]
        return Focus(meant[0].id, meant[0].title, meant[0].duration) if meant else None
    return None


CONTEXT = "question_context"
"""Where the context lies in the system message's ``additional_kwargs``; no server is sent it."""


@dataclass(frozen=True)
class QuestionContext:
    """What is known of a question beside the conversation.

    Attributes:
        focus: The recording it is about, if known.
        recordings: How many recordings the library has.
        can_listen: Whether there is a tool that listens to audio again.
        intent: What it asks for, by rule; None to have it understood from the conversation.
        people: Who is named in some recording of the library.
    """

    focus: Focus | None = None
    recordings: int = 0
    can_listen: bool = False
    intent: Intent | None = None
    people: tuple[str, ...] = ()

    def situation(self, messages: Sequence[BaseMessage]) -> Situation:
        """The conversation as the planning rules look at it: earlier turns, and this one so far."""
        *past, now = list(turns_of(messages)) or [Turn("")]
        known = (self.focus, self.recordings, now.results, tuple(past), self.can_listen, self.people)
        return Situation(now.question, *known)


def context_of(messages: Sequence[BaseMessage]) -> QuestionContext:
    """The context that the system message carries; an empty one where none does."""
    system = (message for message in messages if isinstance(message, SystemMessage))
    found = (message.additional_kwargs.get(CONTEXT) for message in system)
    return next((context for context in found if isinstance(context, QuestionContext)), QuestionContext())
