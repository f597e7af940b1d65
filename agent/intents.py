"""What a question asks for, decided by rule: phrases, time expressions, and what was said before."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from agent import phrases
from agent.comparing import fold
from agent.situation import Focus, Situation, Turn
from agent.time_expressions import TimeRange, find_time
from agent.topic_expressions import TopicRange

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
    """A stretch of the recording, seconds; ``kind`` as in ``agent.time_expressions``."""

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
    """Whose action items are asked for."""
    speaker: str | None = None
    """Whose words are asked for."""
    unnamed: str = ""
    """Somebody the question names who is none of the recording's voices."""
    wants: str = ""
    """A key of ``phrases.WANTS``, or ``all``, or nothing in particular."""
    template: str = "meeting"
    fact: str = ""
    """A key of ``phrases.FACTS``."""
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
    if phrases.GREETING.search(text) or phrases.HELP.search(text):
        return Intent("help")
    if phrases.THANKS.search(text):
        return Intent("thanks")
    return Intent("list") if phrases.LIST.search(text) else None


# --- follow-ups -----------------------------------------------------------------------------------


def _follow_up(text: str, situation: Situation) -> Intent | None:
    turns = [turn for turn in situation.past if turn.cited or turn.last("read_transcript")]
    if not turns:
        return None
    last = turns[-1]
    if phrases.AFTER_THAT.search(text):
        return _neighbouring(last, "after")
    if phrases.BEFORE_THAT.search(text):
        return _neighbouring(last, "before")
    if phrases.MORE.search(text):
        return _more(last, situation)
    if last.cited and phrases.WHO_THAT.search(text):
        return Intent("speaker_of")
    if last.cited and phrases.WHEN_THAT.search(text):
        return Intent("time_of")
    return None


def _neighbouring(last: Turn, direction: Direction) -> Intent:
    """The stretch right after or before what the last answer read or cited."""
    read = last.last("read_transcript")
    if read is not None:
        recording = read.content["recording"]["id"]
        start, end = (float(one) for one in read.content["range"])
        length = max(end - start, SHORTEST_FOLLOW_UP_S)
        shown = read.evidence
        # Whole sentences were shown; going on must neither repeat nor skip one.
        whole = len(shown) >= int(read.content.get("total", 0))
        end = max([end if whole else 0.0, *(float(one["end"]) for one in shown)])
        start = min([start, *(float(one["start"]) for one in shown)])
    else:
        # An answer leads with its best quote; “after that” is after the moment it speaks of.
        lead = last.cited[0]
        recording, length = lead["recording"], FOLLOW_UP_S
        start, end = float(lead["start"]), float(lead["end"])
    span = Span(end, end + length) if direction == "after" else Span(max(0.0, start - length), start)
    return Intent("read", recording=recording, span=span, direction=direction)


def _more(last: Turn, situation: Situation) -> Intent:
    """More of the same: quotes that were not shown yet, or the next stretch."""
    found = last.last("search_recordings")
    if found is None:
        return _neighbouring(last, "after")
    shown = frozenset(one["id"] for turn in situation.past for one in turn.cited)
    recording = found.arguments.get("recording")
    return Intent("search", query=str(found.content.get("query", "")), recording=recording, exclude=shown)


# --- listening again, and times ---------------------------------------------------------------------


def _listen(text: str, situation: Situation) -> Intent | None:
    if not phrases.HEARING.search(text):
        return None
    if phrases.SPOKEN_OF.search(text) and not phrases.HOW_SOUNDS.search(text):
        return None
    target = _target(situation)
    if target is None:
        return Intent("which")
    time = find_time(text, target.duration)
    if isinstance(time, TimeRange):
        span = Span(time.start, min(time.end, max(target.duration, time.start + 1)), time.kind)
        return Intent("listen", query=situation.question, recording=target.id, span=span)
    moment = phrases.named(phrases.AT_MOMENT.search(text))
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
    if words and phrases.ASKS_FOR_A_TIME.search(text):
        return None
    if target is None:
        return Intent("which")
    span = Span(time.start, time.end, time.kind)
    if phrases.SUMMARY.search(rest) and not words - phrases.SUMMARY_WORDS:
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
    for fact, pattern in phrases.FACTS.items():
        if pattern.search(plain):
            target = _target(situation)
            return Intent("facts", fact=fact, recording=target.id) if target else Intent("list")
    return None


def _items(text: str, situation: Situation) -> Intent | None:
    found: Items
    person = ""
    if phrases.OPEN.search(text):
        found = "open_questions"
    elif match := phrases.ACTIONS.search(text):
        found = "action_items"
        person = phrases.named(match)
        if person.casefold() in phrases.GROUPS:
            person = ""
        person = person or phrases.named(phrases.OWNER.search(text))
    elif phrases.DECISIONS.search(text):
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
    match = phrases.ABOUT.search(_without(text, focus.title if focus else ""))
    topic = match["topic"].strip(" ?.!") if match else ""
    return topic if content_words(topic, focus) - phrases.WHOLE_THING else ""


def _whole(text: str, situation: Situation) -> Intent | None:
    summary = phrases.SUMMARY.search(text)
    if summary is None and (not phrases.OUTLINE.search(text) or phrases.ONE_TOPIC.search(text)):
        return None
    target = _target(situation)
    if target is None:
        return Intent("which")
    if summary is None:
        return Intent("outline", recording=target.id)
    topic = _topic(text, situation.focus) if phrases.SAID_ABOUT.search(text) else ""
    if topic:
        return Intent("search", query=topic, recording=target.id, wants="all")
    return Intent("summary", recording=target.id, template=_template(text))


def _template(text: str) -> str:
    match = phrases.TEMPLATE.search(text)
    return match[1].casefold().replace("-", "") if match else "meeting"


# --- everything else is searched --------------------------------------------------------------------


def _search(text: str, situation: Situation) -> Intent:
    about = phrases.named(phrases.WHAT_ABOUT.search(text)) if situation.past else ""
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
    if match := phrases.WHO_SAID.search(query):
        query = match["words"]
    if not wants and not content_words(query, focus) and not any(one.isdigit() for one in query):
        target = _target(situation)
        return Intent("outline", recording=target.id) if target else Intent("help")
    return Intent("search", query=query, recording=recording, speaker=speaker, unnamed=unnamed, wants=wants)


def _wants(text: str) -> str:
    return next((name for name, pattern in phrases.WANTS.items() if pattern.search(text)), "")


def _speaker(text: str, focus: Focus | None) -> tuple[str | None, str]:
    """The voice whose words are asked for, and a name that is asked for but is none of the voices."""
    if focus is None:
        return None, ""
    for name in sorted(focus.speakers, key=len, reverse=True):
        if phrases.says(name).search(text):
            return name, ""
    name = phrases.named(phrases.SPEAKER_SAID.search(text))
    return None, "" if name.split(" ")[0].casefold() in phrases.GROUPS else name


# --- shared ---------------------------------------------------------------------------------------


def content_words(text: str, focus: Focus | None = None, speaker: str | None = None) -> set[str]:
    """Words of a question that say what it is about: no function words, title or speaker's name."""
    rest = _without(_without(text, speaker or ""), focus.title if focus else "")
    return {
        word for word in re.findall(r"\w+", fold(rest)) if word not in phrases.COMMON and not word.isdigit()
    }


def _target(situation: Situation) -> Focus | None:
    """The recording a question about one recording means: in focus, or the one talked about last."""
    if situation.focus:
        return situation.focus
    for turn in reversed(situation.past):
        read = [
            one.content["recording"] for one in turn.results if isinstance(one.content.get("recording"), dict)
        ]
        quoted_from = [one["recording"] for one in turn.cited[:1]]
        # Several were looked at: the one the answer led with is meant; quotes from a search name none.
        named = next(
            (one for one in read if one["id"] in quoted_from), None if quoted_from else (read or [None])[0]
        )
        if named is not None:
            return Focus(str(named["id"]), str(named["title"]), float(named["duration"]))
        if quoted_from:
            return None
    return None


def _without(text: str, phrase: str, instead: str = " ") -> str:
    """Text with a phrase cut out or replaced, any case."""
    if not phrase:
        return text
    pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
    return " ".join(re.sub(pattern, lambda _: instead, text, flags=re.IGNORECASE).split())
