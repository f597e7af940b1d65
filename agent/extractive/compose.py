"""Answers made of what tools returned: quotes with markers, and the few words that hold them together.

Nothing here states anything about a recording that is not quoted, computed or read from its record. What a
listener said is told apart from what was transcribed, with the seconds it heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.citations.quotes import quoted, tidy
from agent.extractive.intents import WHICH, Intent
from agent.extractive.plan import MOST_LISTENED, moment_of, within
from agent.extractive.quoting import compose_around, compose_read, compose_search, run_rows, runs, stretch
from agent.extractive.reporting import (
    HEADINGS,
    NAMES,
    compose_outline,
    compose_summary,
    concerns,
    inside,
    item_rows,
    items_of,
    shared,
)
from agent.extractive.rules import content_words
from agent.extractive.situation import Result, Situation
from agent.extractive.wording import (
    between,
    failed,
    line,
    listed,
    lower_first,
    paragraphs,
    plain_name,
    run_marker,
    said,
)
from index.language_names import name_languages
from index.records import Item
from moss_audio.timestamps import clock
from tools.listen import NEEDS_MOSS_AUDIO
from tools.result import (
    Heard,
    Outline,
    RecordingEntry,
    RecordingList,
    SearchResult,
    SummaryResult,
    Transcript,
)
from tools.search_recordings import PASSAGES

MOST_TITLES = 20
"""Titles listed when asking back."""
NEAR_S = 20.0
"""Seconds after a sentence about a topic at which an item has 1/e of its weight; before it, a quarter."""
MOST_ALSO = 8
"""Quotes beside the items about a topic, so that the reader can judge whether they are about it."""
NEAR_ENOUGH = 0.4
"""Weight from which an item is about a topic."""

HELP = """\
Ask me about your recordings, for example:

- What was said at minute 2?
- What happens in the first half? And after that?
- What did we decide about the budget?
- Who will call the supplier, and when?
- Who spoke the most?
- Write the meeting summary.
- Summarise the discussion about the budget.
- What are the action items?
- Which topics are there?
- Which recordings do you have?

Answers are quotes; the time beside a quote plays it."""

EMPTY = "There are no recordings yet: add one on the page or with `moss-agent add FILE`, then ask again."
ENGLISH = (
    "Without a language model I understand questions in English only and search for the words of any other: "
    "ask in English, or set MOSS_AGENT_MODEL to a language model (docs/engines.md)."
)


def compose(intent: Intent, situation: Situation) -> str:
    """The answer's text, with markers."""
    errors = situation.errors
    # What needs a listener where there is none is answered with the setting, whatever else failed.
    unheard = intent.kind == "listen" and not situation.can_listen
    if errors and len(errors) == len(situation.results) and not unheard:
        return errors[0]
    return _COMPOSERS[intent.kind](intent, situation)


# --- about the library ----------------------------------------------------------------------------


def _listing(intent: Intent, situation: Situation) -> str:
    """The recordings that there are, or those to choose from when asking back."""
    rows, total = _recordings(situation)
    if not rows:
        return EMPTY
    shown, head = rows, "There is 1 recording:" if total == 1 else f"There are {total} recordings:"
    if intent.kind == "which":
        shown, head = rows[:MOST_TITLES], WHICH
    more = [f"- … and {total - len(shown)} more"] if total > len(shown) else []
    return listed(head, [*map(_recording_row, shown), *more])


def _recording_row(entry: RecordingEntry) -> str:
    speakers = [_count(len(entry.speakers), "speaker")] if entry.speakers else []
    state = [] if entry.status == "ready" else [_STATES.get(entry.status, entry.status)]
    return f"- {quoted(entry.title)} ({', '.join([clock(entry.duration), *speakers, *state])})"


_STATES = {"listening": "still being transcribed", "failed": "transcription failed", "cancelled": "cancelled"}


def _recordings(situation: Situation) -> tuple[tuple[RecordingEntry, ...], int]:
    found = situation.found(RecordingList)
    return (found.content.recordings, found.content.total) if found else ((), 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _facts(intent: Intent, situation: Situation) -> str:
    entry = next((row for row in _recordings(situation)[0] if row.id == intent.recording), None)
    if entry is None:
        return "This recording is not in the library any more."
    title = quoted(entry.title)
    match intent.fact:
        case "speakers" if entry.speakers:
            voices, names = _count(len(entry.speakers), "voice"), ", ".join(map(plain_name, entry.speakers))
            return f"{voices} can be told apart in {title} (estimated from the sound): {names}."
        case "speaking" if entry.speaking:
            return _speaking(entry.speaking, title, intent)
        case "speakers" | "speaking":
            return f"The speakers in {title} have not been identified."
        case "language":
            spoken = entry.languages or ((entry.language,) if entry.language else ())
            if not spoken:
                return f"The language of {title} is not known."
            several = len(spoken) > 1
            named = f"The languages of {title} are" if several else f"The language of {title} is"
            return f"{named} {name_languages(spoken)}."
        case "coverage":
            if entry.coverage is None:
                return f"No speech in {title} has been found and transcribed yet."
            # Cut, not rounded: 100 % must mean all of it.
            return f"{int(entry.coverage * 1000) / 10:.1f}% of the detected speech in {title} is transcribed."
    return f"{title} is {clock(entry.duration)} long."


def _speaking(seconds: Mapping[str, float], title: str, intent: Intent) -> str:
    """How long each voice speaks, the longest first; one voice alone where it is asked for."""
    total = sum(seconds.values()) or 1.0
    ranked = sorted(seconds, key=lambda name: -seconds[name])
    rows = {
        name: f"{plain_name(name)}: {clock(seconds[name])} ({seconds[name] / total:.0%})" for name in ranked
    }
    if intent.speaker in rows:
        return f"Speaking time in {title}, with the share of all speech: {rows[intent.speaker]}."
    unnamed = f"No speaker here is named {plain_name(intent.unnamed)}." if intent.unnamed else ""
    head = f"Speaking time in {title}, most first (voices are told apart by their sound):"
    return paragraphs([unnamed, listed(head, [f"- {row}" for row in rows.values()])])


# --- what was said --------------------------------------------------------------------------------


def _about_quote(intent: Intent, situation: Situation) -> str:
    """Who said what the last answer led with, or when."""
    item = next((turn.cited[0] for turn in reversed(situation.past) if turn.cited), None)
    if item is None:
        return "There is no quote yet that this could be about."
    if intent.kind == "time_of":
        return f"That was {lower_first(between(item.start, item.end))}: {quoted(item.text)} [#{item.id}]"
    if not item.speaker:
        return f"Who said {quoted(item.text)} [#{item.id}] is not known: its voice was not identified."
    return said(item)


def _searched(intent: Intent, situation: Situation) -> str:
    """What a search found; of a topic that is summarised, what was decided and promised there as well."""
    found = situation.found(SearchResult)
    unknown = intent.foreign and found is not None and not found.evidence
    read = situation.found(Transcript)
    if read and found and not within(found, intent):
        # The best quotes lie elsewhere; in the stretch itself, those with words of the question count.
        words = content_words(intent.query)
        there = [item for item in read.evidence if shared(words, content_words(item.text))]
        if there:
            return listed(f"{between(*read.content.range)}, about it:", list(map(line, there)))
    parts = []
    for result in situation.all(SummaryResult):
        for name in ("decisions", "action_items", "open_questions"):
            items = about_topic(items_of(result.content.summary, name), intent.about, result, situation)
            items = [item for item in items if found and _in_stretch(item, found.content)]
            if rows := item_rows(items, result):
                parts.append(listed(HEADINGS[name], rows))
    return paragraphs([compose_search(intent, situation), *parts, ENGLISH if unknown else ""])


def _read(intent: Intent, situation: Situation) -> str:
    """What was said at a time; a clock time beyond the end that somebody spoke of is quoted instead."""
    found = situation.found(SearchResult)
    spoken = found is not None and bool(within(found, intent))
    return compose_search(intent, situation) if spoken else compose_read(intent, situation)


def _summary(intent: Intent, situation: Situation) -> str:
    result = situation.found(SummaryResult)
    return compose_summary(result, intent.span) if result else failed(situation)


def _outline(_: Intent, situation: Situation) -> str:
    result = situation.found(Outline)
    return compose_outline(result) if result else failed(situation)


# --- decisions, action items, open questions --------------------------------------------------------


def compose_items(intent: Intent, situation: Situation) -> str:
    """The items asked for, and what else was said about their topic; or what comes nearest."""
    one, many = NAMES[intent.items or "decisions"]
    for_whom = f" for {plain_name(intent.person)}" if intent.person else ""
    topic = f" about {plain_name(intent.about)}" if intent.about not in ("", intent.person) else ""
    when = f", {lower_first(between(intent.span.start, intent.span.end))}" if intent.span else ""
    sections, shown = [], set[int]()
    for result in situation.all(SummaryResult):
        items = _wanted(intent, result, situation)
        if rows := item_rows(items, result):
            several = situation.focus is None and situation.recordings > 1
            where = f" in {quoted(result.content.recording.title)}" if several else ""
            head = f"The {one}" if len(rows) == 1 else f"{len(rows)} {many}"
            sections.append(listed(f"{head}{for_whom}{topic}{where}{when}:", rows))
            shown |= {number for item in items for number in item.segments}
    found = situation.found(SearchResult)
    evidence = found.evidence if found else ()
    if sections:
        also = [item for item in evidence if item.id not in shown][:MOST_ALSO]
        rows = run_rows(runs(also), found, situation) if topic and found else []
        return paragraphs([*sections, listed("What was said about it:", rows) if rows else ""])
    none = f"I found no {one}{for_whom}{topic}{when}."
    return paragraphs([none, compose_search(replace(intent, span=None), situation) if evidence else ""])


def _wanted(intent: Intent, result: Result[SummaryResult], situation: Situation) -> Sequence[Item]:
    """The items of one summary in the stretch, of the person and about the topic that are asked for."""
    items: Sequence[Item] = inside(items_of(result.content.summary, intent.items or "decisions"), intent.span)
    if intent.person:
        known = {item.id: item for item in result.evidence}
        own = [item for item in items if concerns(item, intent.person, known)]
        if own or intent.about != intent.person:
            return about_topic(own, intent.about, result, situation) if intent.about != intent.person else own
    return about_topic(items, intent.about, result, situation)


def about_topic(
    items: Sequence[Item], topic: str, result: Result[SummaryResult], situation: Situation
) -> Sequence[Item]:
    """The items near what was found about a topic, or in the part of the recording that is named after it."""
    found, wanted = situation.found(SearchResult), content_words(topic)
    if not topic:
        return items
    parts = result.content.summary.topics
    titles = [(part, content_words(part.title)) for part in parts]
    named = [part for part, title in titles if wanted and shared(wanted, title) == len(wanted)]
    inside_named = [item for item in items if any(part.start <= item.start < part.end for part in named)]
    if inside_named:
        return inside_named
    here = [item for item in found.evidence if item.recording == result.content.recording.id] if found else []
    best = max((item.relevance for item in found.evidence), default=0.0) if found else 0.0

    def part_of(start: float) -> int:
        return sum(part.start <= start for part in parts)

    def weight(item: Item) -> float:
        same = [other for other in here if part_of(other.start) == part_of(item.start)]
        gaps = [max(item.start - other.end, 4 * (other.start - item.end), 0.0) for other in same]
        near = [math.exp(-gap / NEAR_S) * other.relevance for gap, other in zip(gaps, same, strict=True)]
        return max(near, default=0.0) / best if best else 0.0

    return [item for item in items if weight(item) >= NEAR_ENOUGH]


def _in_stretch(item: Item, found: SearchResult) -> bool:
    """Whether an item lies in one of the stretches that fit best."""
    best = found.passages[:PASSAGES]
    return any(passage.start < item.end and item.start < passage.end for passage in best)


# --- what a listener heard ------------------------------------------------------------------------


def compose_listen(intent: Intent, situation: Situation) -> str:
    """What a listener heard where the question means; without one, what is written down and what it takes."""
    if not situation.can_listen:
        return paragraphs([_written_down(intent, situation), NEEDS_MOSS_AUDIO])
    heard = [result for result in situation.all(Heard) if result.content.answer]
    if not heard:
        return paragraphs([_written_down(intent, situation), failed(situation)])
    title = quoted(heard[0].content.recording.title)
    if len(heard) == 1:
        only = heard[0].content
        where = f"Heard {lower_first(between(*only.range))} in {title}{_heard_marker(heard[0])}."
        return paragraphs([_moment(situation), _words(heard[0]), where, only.warning])
    rows = [
        f"- {between(*result.content.range)}: {_words(result)}{_heard_marker(result)}" for result in heard
    ]
    return paragraphs([listed(f"Heard in {title}:", rows), *situation.errors[:1], _unheard(intent, heard)])


def _words(result: Result[Heard]) -> str:
    """The listener's answer; its quotation marks are not those of a transcript, so they are single ones."""
    return quoted(tidy(result.content.answer))[1:-1]


def _heard_marker(result: Result[Heard]) -> str:
    """A citation of all that was transcribed there, which plays what was heard."""
    numbers = [item.id for item in sorted(result.evidence, key=lambda item: item.start)]
    return f" {run_marker(numbers)}" if numbers else ""


def _moment(situation: Situation) -> str:
    """The sentence around which was listened, where one was searched for."""
    found = situation.found(SearchResult)
    return said(found.evidence[0]) if found and moment_of(situation) else ""


def _unheard(intent: Intent, heard: list[Result[Heard]]) -> str:
    end = max(result.content.range[1] for result in heard)
    if intent.span is None or intent.span.end - end < 1:
        return ""
    return (
        f"At most {MOST_LISTENED} stretches are listened to for one question; name a time to hear what comes "
        f"after {clock(end)}."
    )


def _written_down(intent: Intent, situation: Situation) -> str:
    """What is written down where somebody would listen: sounds and music first, else what was said."""
    read, found = situation.found(Transcript), situation.found(SearchResult)
    if read is not None:
        return stretch(read, intent)
    sounds = [item for item in found.evidence if item.kind != "speech"] if found else []
    if sounds:
        return "\n".join(map(line, sounds))
    return compose_search(intent, situation) if found and found.evidence else ""


_COMPOSERS: Mapping[str, Callable[[Intent, Situation], str]] = {
    "empty": lambda intent, situation: EMPTY,
    "help": lambda intent, situation: HELP,
    "thanks": lambda intent, situation: "You are welcome. Ask me anything else about your recordings.",
    "list": _listing,
    "which": _listing,
    "facts": _facts,
    "read": _read,
    "around": compose_around,
    "search": _searched,
    "items": compose_items,
    "summary": _summary,
    "outline": _outline,
    "listen": compose_listen,
    "speaker_of": _about_quote,
    "time_of": _about_quote,
}
