"""Answers made of what tools returned: quotes with markers, and the few words that hold them together.

Nothing here states anything about a recording that is not quoted, computed or read from its record. What a
listener said is told apart from what was transcribed, with the seconds it heard.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from agent.citations.quotes import fold, quoted, tidy
from agent.planning.intents import WHICH, Intent
from agent.planning.plan import MOST_LISTENED, moment_of, place_of, seen_by, within
from agent.planning.rules import content_words, named_topic
from agent.planning.situation import Result, Situation
from agent.planning.time_expressions import TimeRange
from index.language_names import name_languages
from index.records import ActionItem, Item, Topic
from index.summary.speech_acts import requests
from index.text import search_terms, similarity
from index.vocabulary import STOP_WORDS
from moss_audio.timestamps import clock
from tools.listen import NEEDS_MOSS_AUDIO
from tools.result import (
    Evidence,
    Heard,
    Outline,
    RecordingEntry,
    RecordingList,
    SearchResult,
    SummaryResult,
    Transcript,
    span_text,
)
from tools.search_recordings import PASSAGES

NAMES = {
    "key_quotes": "key quote",
    "decisions": "decision",
    "action_items": "action item",
    "open_questions": "open question",
}
"""What one item of each section of a summary is called, in the order in which they are shown."""

FEW = 4
"""With fewer quotes of the voice that is asked for, everything that others said about the topic is shown."""

BESIDE_S = 30.0
"""What others said this close to one of its quotes is shown with them, seconds."""

MOST_TITLES = 20
"""Titles listed when asking back."""

NEAR_S = 20.0
"""Seconds after a sentence about a topic at which an item has 1/e of its weight."""

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
    "Without a language model I understand questions in English only; any other is searched for by its words "
    "and its meaning. Ask in English, or set MOSS_AGENT_MODEL to a language model (docs/engines.md)."
)


def compose(intent: Intent, situation: Situation) -> str:
    """The answer's text, with markers."""
    errors = situation.errors
    # What needs a listener where there is none is answered with the setting, whatever else failed.
    unheard = intent.kind == "listen" and not situation.can_listen
    if errors and len(errors) == len(situation.results) and not unheard:
        return errors[0]
    return _COMPOSERS[intent.kind](_Answer(intent, situation))


class _Answer:
    """What an answer is made of; each method without arguments but one of its paragraphs, or all of them."""

    def __init__(self, intent: Intent, situation: Situation) -> None:
        self.intent, self.situation = intent, situation
        self.found, self.transcript = situation.found(SearchResult), situation.found(Transcript)
        self.summaries = situation.all(SummaryResult)

    # --- about the library -------------------------------------------------------------------------

    def listing(self) -> str:
        """The recordings that there are, or those to choose from when asking back."""
        listed = self.situation.found(RecordingList)
        if listed is None or not listed.content.recordings:
            return EMPTY
        rows, total = listed.content.recordings, listed.content.total
        head = f"There {'is' if total == 1 else 'are'} {_count(total, 'recording')}:"
        if self.intent.kind == "which":
            rows, head = rows[:MOST_TITLES], WHICH
        more = [f"- … and {total - len(rows)} more"] if total > len(rows) else []
        return _listed(head, [*map(_recording_row, rows), *more])

    def several(self) -> str:
        """What answers each part, in the order asked."""
        parts = self.intent.parts
        return _paragraphs(compose(part, seen_by(part, self.situation)[0]) for part in parts)

    def facts(self) -> str:
        """One fact from the recording's record."""
        listed = self.situation.found(RecordingList)
        entries = listed.content.recordings if listed else ()
        entry = next((entry for entry in entries if entry.id == self.intent.recording), None)
        if entry is None:
            return "This recording is not in the library any more."
        title = quoted(entry.title)
        match self.intent.fact:
            case "speakers" if entry.speakers:
                voices = f"{_count(len(entry.speakers), 'voice')} can be told apart in {title}"
                return f"{voices} (estimated from the sound): {', '.join(map(_plain_name, entry.speakers))}."
            case "speaking" if entry.speaking:
                return self.speaking(entry.speaking, title)
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
                return _coverage(entry, title)
        return f"{title} is {clock(entry.duration)} long."

    def speaking(self, seconds: Mapping[str, float], title: str) -> str:
        """How long each voice speaks, the longest first; one voice alone where it is asked for."""
        total = sum(seconds.values()) or 1.0
        rows = {
            name: f"{_plain_name(name)}: {clock(seconds[name])} ({seconds[name] / total:.0%})"
            for name in sorted(seconds, key=lambda name: -seconds[name])
        }
        if self.intent.speaker in rows:
            own = rows[self.intent.speaker]
            return f"Speaking time in {title}, with the share of all speech: {own}."
        head = f"Speaking time in {title}, most first (voices are told apart by their sound):"
        return _paragraphs([self.unnamed("."), _listed(head, [f"- {row}" for row in rows.values()])])

    def unnamed(self, rest: str) -> str:
        """That nobody has the name in the question, if so."""
        name = self.intent.unnamed
        return f"No speaker here is named {_plain_name(name)}{rest}" if name else ""

    # --- what was said -----------------------------------------------------------------------------

    def about_quote(self) -> str:
        """Who said what the last answer led with, or when."""
        item = next((turn.cited[0] for turn in reversed(self.situation.past) if turn.cited), None)
        if item is None:
            return "There is no quote yet that this could be about."
        if self.intent.kind == "time_of":
            return f"That was {span_text(item.start, item.end)}: {_quote([item])}"
        if not item.speaker:
            return f"Who said {_quote([item])} is not known: its voice was not identified."
        return _said([item])

    def searched(self) -> str:
        """What a search found; of a topic that is summarised, what was decided and promised there as well."""
        found, read = self.found, self.transcript
        if read and found and not within(found, self.intent):
            # The best quotes lie elsewhere; in the stretch itself, those with words of the question count.
            words = content_words(self.intent.query)
            if there := [item for item in read.evidence if _shared(words, content_words(item.text))]:
                head = f"{span_text(*read.content.range).capitalize()}, about it:"
                return _listed(head, [_line([item]) for item in there])
        parts = [self.quotes()]
        for result in self.summaries if found else ():
            for name in ("decisions", "action_items", "open_questions"):
                items = self.about_topic(getattr(result.content.summary, name), self.intent.about, result)
                items = [item for item in items if found and _in_stretch(item, found.content)]
                if rows := _item_rows(items, result):
                    parts.append(_listed(_heading_of(name), rows))
        unknown = self.intent.foreign and found is not None and not found.evidence
        return _paragraphs([*parts, ENGLISH if unknown else ""])

    def read(self) -> str:
        """What was said at a time; a clock time beyond the end that somebody spoke of is quoted instead."""
        if self.found is not None and within(self.found, self.intent):
            return self.quotes()
        if self.transcript is not None:
            return self.stretch(self.transcript)
        before_start = self.intent.direction == "before"
        return "That is the beginning of the recording." if before_start else self.failed()

    def stretch(self, read: Result[Transcript]) -> str:
        """What was said in a stretch, with the range named; by topic where it is too long to quote."""
        title, duration = quoted(read.content.recording.title), read.content.recording.duration
        (start, end), note, span = read.content.range, read.content.note, self.intent.span
        speaker = _plain_name(self.intent.speaker) if self.intent.speaker else ""
        if start >= duration:
            if self.intent.direction == "after":
                return f"Nothing comes after that: {title} ends at {clock(duration)}."
            moment = span is not None and span.kind == "moment" and span.end - 1 < end
            named = clock((start + end) / 2 if moment else start)
            return f"{title} is {clock(duration)} long, so there is nothing at {named}."
        if not read.evidence:
            nobody = f"{speaker} said nothing" if speaker else "Nothing was said"
            return _paragraphs([f"{nobody} {span_text(start, end)} in {title}.", note])
        rows = [_line([item]) for item in read.evidence]
        outline = self.situation.found(Outline) if self.intent.kind == "read" else None
        if outline and (topics := _topic_rows(outline, TimeRange(start, end))):
            heading = _listed(f"{span_text(start, end).capitalize()} in {title}, by topic:", topics)
            return _paragraphs([heading, _listed("It begins like this:", rows), note])
        who = f", {speaker} said:" if speaker else ":"
        heading = _heading(span, start, end, read.evidence)
        return _paragraphs([_listed(f"{heading} in {title}{who}", rows), note])

    def quotes(self) -> str:
        """What a search found: one leading quote with support, or all places, or that there is nothing."""
        if self.found is None:
            return self.failed()
        intent = self.intent
        items = [item for item in within(self.found, intent) if item.id not in intent.exclude]
        if not items and self.transcript is not None:
            nothing = f"I found nothing there about {self.topic()}."
            return _paragraphs([nothing, self.stretch(self.transcript)])
        items, others = self.with_context(items)
        beside = _listed("What others said there:", self.rows(_runs(others))) if others else ""
        if not items:
            return _paragraphs(
                ["That is all I found about it." if intent.exclude else self.nothing(), beside]
            )
        if intent.wants == "mentioned":
            text = self.moments(items)
        elif intent.wants == "all" or intent.exclude:
            text = _listed("This was said about it:", self.rows(_runs(items)))
        elif not self.situation.all(SearchResult)[0].evidence:
            # Nothing answers the question; what it says that it is about was looked for then.
            head = f"I found nothing that answers this. About {self.topic()}, this was said:"
            text = _listed(head, self.rows(_runs(items)))
        else:
            text = _paragraphs([self.found.content.caveat, self.lead_and_support(items)])
        unnamed = self.unnamed(", so this is from everyone.")
        return _paragraphs([text, beside, unnamed, " ".join(self.found.content.notes)])

    def with_context(self, items: Sequence[Evidence]) -> tuple[list[Evidence], list[Evidence]]:
        """What the voice that is asked for said, best first; and what others said about the same, beside it.

        Where the voice said little, all that others said about it is shown.
        """
        searches, speaker = self.situation.all(SearchResult), self.intent.speaker
        whole = next((found for found in searches if not found.arguments.get("speaker")), None)
        if speaker is None or whole is None:
            return list(items), []
        known = {item.id for item in items}
        more = [item for item in whole.evidence if item.speaker == speaker and item.id not in known]
        own = [*items, *more]

        def beside(other: Evidence) -> bool:
            return any(max(other.start - item.end, item.start - other.end) <= BESIDE_S for item in own)

        others = [item for item in whole.evidence if item.speaker != speaker]
        return own, [item for item in others if len(own) < FEW or beside(item)]

    def lead_and_support(self, items: Sequence[Evidence]) -> str:
        """One quote that leads, with the question it answers, and the others in order."""
        lead = _leading(items)
        question = next((item for item in items if item.id == lead.reply_to), None)
        every = _runs([item for item in items if item is not question])
        first = next(run for run in every if lead in run)
        text = _said(first, self.title_of(lead))
        if question:
            text = f"Asked {_quote([question])}, {re.sub('^Somebody ', 'somebody ', text)}"
        rows = self.rows([run for run in every if run is not first])
        return _paragraphs([text, _listed("Also:", rows) if rows else ""])

    def rows(self, every: Iterable[Sequence[Evidence]]) -> list[str]:
        """One row a run, with the recording's title where several were searched."""
        return [_line(run, self.title_of(run[0])) for run in every]

    def title_of(self, item: Evidence) -> str | None:
        """The recording's title where several were searched; None where it goes without saying."""
        found = self.found
        if found is None or found.arguments.get("recording") or self.situation.recordings == 1:
            return None
        return found.content.titles.get(item.recording)

    def moments(self, items: Sequence[Evidence]) -> str:
        """Where something comes up: the quotes that say most of its words, else the most relevant ones."""
        words = content_words(self.intent.query, self.situation.focus)
        counts = [_shared(words, content_words(item.text)) for item in items]
        there = [item for item, count in zip(items, counts, strict=True) if count == max(counts)]
        return _listed("It comes up here:", self.rows([item] for item in sorted(there, key=_place)))

    def nothing(self) -> str:
        """That nothing was found, and why."""
        focus, speaker = self.situation.focus, self.intent.speaker
        where = f" in {quoted(focus.title)}" if focus else " in any recording"
        who = f" by {_plain_name(speaker)}" if speaker else ""
        if self.intent.about or named_topic(self.intent.query):
            said_nothing = f"I found nothing that was said{who} about {self.topic()}{where}."
        else:
            # “How tall is the lighthouse?” is not about “tall lighthouse”.
            said_nothing = f"I found nothing{f' said{who}' if who else ''} that answers this{where}."
        return _paragraphs([said_nothing, " ".join(self.found.content.notes) if self.found else ""])

    def topic(self) -> str:
        """What was looked for, in the question's own words."""
        text = _plain_name(self.intent.about or self.intent.query)
        if topic := named_topic(text):
            return topic
        words = content_words(text, self.situation.focus, self.intent.speaker)
        kept = [word for word in re.findall(r"[\w'-]+", text) if word.casefold() in words]
        return " ".join(kept[:8]) or "that"

    def around(self) -> str:
        """What was said before or after something that was searched for."""
        if self.found is None or place_of(self.intent, self.found) is None:
            return self.nothing()
        best = self.found.evidence[0]
        lead = f"The nearest to that: {_said([best], self.title_of(best))}"
        rest = self.stretch(self.transcript) if self.transcript else "The recording begins there."
        return f"{lead}\n\n{rest}"

    def failed(self) -> str:
        """Why there is nothing to answer with: the last tool's error."""
        return self.situation.errors[-1] if self.situation.errors else "I could not look that up."

    # --- summaries and their parts -----------------------------------------------------------------

    def summary(self) -> str:
        """A whole summary, or the part of it that overlaps a stretch."""
        if not self.summaries:
            return self.failed()
        result, span = self.summaries[-1], self.intent.span
        summary, recording = result.content.summary, result.content.recording
        part = f", {span_text(span.start, min(span.end, recording.duration))}" if span else ""
        head = f"Summary of {quoted(recording.title)} ({clock(recording.duration)}){part}:"
        sections = ["" if span else _plain_name(summary.overview)]
        for name in NAMES:
            if rows := _item_rows(_inside(getattr(summary, name), span), result):
                sections.append(_listed(_heading_of(name), rows))
        topics = _inside(summary.topics, span)
        if topics:
            rows = [_topic_row(topic.title, topic.start, topic.end, topic.segments) for topic in topics]
            sections.append(_listed("Topics:", rows))
        nothing = "" if any(sections) else "Nothing stood out there."
        return _paragraphs([head, *sections, nothing, result.content.note])

    def outline(self) -> str:
        """The topics of a recording with their times."""
        result = self.situation.found(Outline)
        if result is None:
            return self.failed()
        title, rows = quoted(result.content.recording.title), _topic_rows(result, None)
        none = f"No separate topics were found in {title}."
        return _paragraphs([_listed(f"Topics of {title}:", rows) if rows else none, result.content.note])

    def items(self) -> str:
        """The items asked for, and what else was said about their topic; or what comes nearest."""
        intent, found = self.intent, self.found
        one, person = NAMES[intent.items or "decisions"], _plain_name(intent.person)
        topic = f" about {_plain_name(intent.about)}" if intent.about not in ("", intent.person) else ""
        when = f", {span_text(intent.span.start, intent.span.end)}" if intent.span else ""
        due = f" {_plain_name(intent.due)}" if intent.due else ""
        asked = (f" for {person}" if intent.person else "") + topic + due
        notes = dict.fromkeys(result.content.note for result in self.summaries if result.content.note)
        sure, unsure, shown, parts = list[str](), list[str](), list[Item](), list[tuple[str, Topic]]()
        undue = list[str]()
        for result in self.summaries:
            title, may_be = quoted(result.content.recording.title), self.unsure(result)
            doubtful = [item for _, theirs in may_be for item in theirs]
            own = [item for item in self.wanted(result, intent.person, intent.about) if item not in doubtful]
            undue += _item_rows([item for item in own if not _is_due(item, intent.due)], result)
            own = [item for item in own if _is_due(item, intent.due)]
            if rows := _item_rows(own, result):
                several = self.situation.focus is None and self.situation.recordings > 1
                head = f"The {one}" if len(rows) == 1 else _count(len(rows), one)
                sure.append(_listed(f"{head}{asked}{f' in {title}' if several else ''}{when}:", rows))
            for speaker, theirs in may_be:
                if rows := _item_rows(theirs, result):
                    head = f"{_plain_name(speaker)} in {title} may be {person}, which nobody has confirmed:"
                    unsure.append(_listed(head, rows))
            shown += [*own, *doubtful]
            recording, topics = result.content.recording.id, result.content.summary.topics
            parts += [(recording, part) for part in topics if _begin_in(part, [*own, *doubtful])]
        evidence = found.evidence if found else ()
        others = _listed("With another date, or none:", undue) if undue else ""
        if not sure and not unsure:
            said = others or self.nearest()
            if evidence and not said:
                said = _Answer(replace(intent, span=None), self.situation).quotes()
            return _paragraphs([f"I found no {one}{asked}{when.lstrip(',')}.", said or " ".join(notes)])
        if not sure:
            sure = [f"I found no {one}{asked}{when.lstrip(',')} that is surely theirs."]
        # Where else the topic is named, as in an agenda, nothing of it is decided.
        numbers = {number for item in shown for number in item.segments}
        near = [
            item
            for item in evidence
            if any(item.recording == recording and _begin_in(part, [item]) for recording, part in parts)
        ]
        also = [item for item in near if topic and item.id not in numbers][:MOST_ALSO]
        beside = _listed("What was said about it:", self.rows(_runs(also))) if also else ""
        return _paragraphs([*sure, *unsure, others, beside, " ".join(notes)])

    def nearest(self) -> str:
        """The last item before the stretch that is asked about, else the first one behind it."""
        intent, span = self.intent, self.intent.span
        everywhere = _Answer(replace(intent, span=None), self.situation)
        found = [
            (item, result)
            for result in self.summaries
            for item in everywhere.wanted(result, intent.person, intent.about)
        ]
        if span is None or not found:
            return ""
        before = [(item, result) for item, result in found if item.start < span.start]
        item, result = before[-1] if before else found[0]
        head = "The last one before that:" if before else "The first one after that:"
        return _listed(head, _item_rows([item], result))

    def unsure(self, result: Result[SummaryResult]) -> list[tuple[str, list[Item]]]:
        """The items of each speaker who may be the person that is asked for, which nobody has confirmed."""
        person, about = self.intent.person, self.intent.about
        about = "" if about == person else about
        return [
            (speaker, [item for item in theirs if not _concerns(item, person, result)])
            for speaker, voice in result.content.may_be.items()
            if person and fold(voice) == fold(person)
            for theirs in [self.wanted(result, speaker, about)]
        ]

    def wanted(self, result: Result[SummaryResult], person: str, about: str) -> Sequence[Item]:
        """The items of one summary in the stretch, of the person and about the topic that are asked for."""
        items: Sequence[Item] = getattr(result.content.summary, self.intent.items or "decisions")
        items = _inside(items, self.intent.span)
        own = [item for item in items if person and _concerns(item, person, result)]
        if own or (person and about != person):
            return self.about_topic(own, "" if about == person else about, result)
        return self.about_topic(items, about, result)

    def about_topic(self, items: Sequence[Item], topic: str, result: Result[SummaryResult]) -> Sequence[Item]:
        """The items near what was found about a topic, or in the part of the recording named after it."""
        wanted, parts = content_words(topic), result.content.summary.topics
        if not topic:
            return items
        named = _named_after(wanted, parts)
        if inside := [item for item in items if any(_begin_in(part, [item]) for part in named)]:
            return inside
        evidence = self.found.evidence if self.found else ()
        here = [item for item in evidence if item.recording == result.content.recording.id]
        best = max((item.relevance for item in evidence), default=0.0)

        def part_of(start: float) -> int:
            return sum(part.start <= start for part in parts)

        def weight(item: Item) -> float:
            # What is decided about a topic is decided after it was named.
            same = [
                other
                for other in here
                if part_of(other.start) == part_of(item.start) and other.start < item.end
            ]
            near = [math.exp(-max(item.start - other.end, 0.0) / NEAR_S) * other.relevance for other in same]
            return max(near, default=0.0) / best if best else 0.0

        return [item for item in items if weight(item) >= NEAR_ENOUGH]

    # --- what a listener heard ---------------------------------------------------------------------

    def listen(self) -> str:
        """What a listener heard where the question means; without one, what is written down there."""
        if not self.situation.can_listen:
            return _paragraphs([self.written_down(), NEEDS_MOSS_AUDIO])
        heard = [result for result in self.situation.all(Heard) if result.content.answer]
        if not heard:
            return _paragraphs([self.written_down(), self.failed()])
        first, title = heard[0].content, quoted(heard[0].content.recording.title)
        if len(heard) == 1:
            where = f"Heard {span_text(*first.range)} in {title}{_heard_marker(heard[0])}."
            moment = _said([self.found.evidence[0]]) if self.found and moment_of(self.situation) else ""
            return _paragraphs([moment, _words(first), where, first.warning])
        ranges = [(result, result.content.range) for result in heard]
        rows = [
            f"- {span_text(*range_).capitalize()}: {_words(result.content)}{_heard_marker(result)}"
            for result, range_ in ranges
        ]
        end, span = max(end for _, (_, end) in ranges), self.intent.span
        unheard = (
            f"At most {MOST_LISTENED} stretches are listened to for one question; name a time to hear what "
            f"comes after {clock(end)}."
        )
        cut = span is not None and span.end - end >= 1
        errors = self.situation.errors[:1]
        return _paragraphs([_listed(f"Heard in {title}:", rows), *errors, unheard if cut else ""])

    def written_down(self) -> str:
        """What is written down where somebody would listen: sounds and music first, else what was said."""
        if self.transcript is not None:
            return self.stretch(self.transcript)
        evidence = self.found.evidence if self.found else ()
        sounds = [_line([item]) for item in evidence if item.kind != "speech"]
        return "\n".join(sounds) or (self.quotes() if evidence else "")


# --- recordings and stretches ----------------------------------------------------------------------


_STATES = {"listening": "still being transcribed", "failed": "transcription failed", "cancelled": "cancelled"}


def _recording_row(entry: RecordingEntry) -> str:
    speakers = [_count(len(entry.speakers), "speaker")] if entry.speakers else []
    state = [] if entry.status == "ready" else [_STATES.get(entry.status, entry.status)]
    return f"- {quoted(entry.title)} ({', '.join([clock(entry.duration), *speakers, *state])})"


def _coverage(entry: RecordingEntry, title: str) -> str:
    if not entry.has_media:
        return (
            f"{title} is an imported transcript without its media, so how much of the speech it has "
            "is not known."
        )
    missing = " ".join(entry.notes)
    if entry.coverage is None:
        return missing or f"No speech in {title} has been found and transcribed yet."
    # Cut, not rounded: 100 % must mean all of it.
    share = int(entry.coverage * 1000) / 10
    return f"{share:.1f}% of the detected speech in {title} is transcribed. {missing}".rstrip()


def _heading(span: TimeRange | None, start: float, end: float, items: Sequence[Evidence]) -> str:
    """``From 2:00 to 3:00``; a moment is named with the whole sentences around it."""
    if span is None or span.kind != "moment":
        return span_text(start, end).capitalize()
    # Rain that goes on for an hour does not make the moment an hour long.
    spoken = [item for item in items if item.kind == "speech"]
    start = min([start, *(item.start for item in spoken)])
    end = max([end, *(item.end for item in spoken)])
    if span.start <= 0:
        # Cut off at the start of the recording, the stretch no longer has the moment in its middle.
        return span_text(start, end).capitalize()
    return f"Around {clock((span.start + span.end) / 2)} ({span_text(start, end)})"


def _topic_rows(outline: Result[Outline], span: TimeRange | None) -> list[str]:
    """One row a topic that overlaps the stretch."""
    topics = _inside(outline.content.topics, span)
    return [_topic_row(topic.title, topic.start, topic.end, topic.evidence) for topic in topics]


def _topic_row(title: str, start: float, end: float, numbers: Sequence[int]) -> str:
    """``- 0:12 to 1:11: ferry, crew, operator [#4-#21]``."""
    return f"- {clock(start)} to {clock(end)}: {_plain_name(title)} {_run_marker(numbers)}".rstrip()


# --- quotes ----------------------------------------------------------------------------------------


def _leading(items: Sequence[Evidence]) -> Evidence:
    """The quote to begin with: the reply to a question that is most relevant, else the first statement."""
    best = items[0]
    replies = [item for item in items if item.reply_to == best.id] if _asks(best) else []
    return next((item for item in (*replies, *items) if not _asks(item)), best)


def _asks(item: Evidence) -> bool:
    return item.text.rstrip().endswith(("?", "？"))


def _runs(items: Sequence[Evidence]) -> list[list[Evidence]]:
    """The items in the order they were said; what one voice said without a break stands together."""
    found: list[list[Evidence]] = []
    for item in sorted(items, key=_place):
        before = found[-1][-1] if found else None
        goes_on = before and item.after == before.id and item.speaker == before.speaker
        if before and goes_on and item.kind == before.kind == "speech":
            found[-1].append(item)
        else:
            found.append([item])
    return found


def _place(item: Evidence) -> tuple[str, float]:
    return item.recording, item.start


def _quote(run: Sequence[Evidence]) -> str:
    """``“…” [#12-#14]``: what one voice said without a break."""
    return f"{quoted(' '.join(item.text for item in run))} {_run_marker([item.id for item in run])}"


def _said(run: Sequence[Evidence], title: str | None = None) -> str:
    """``Speaker 2 said: “…” [#12]``; with a title, also where."""
    speech = run[0].kind == "speech"
    who = f"{_plain_name(run[0].speaker or 'Somebody')} said" if speech else "Heard"
    return f"{who}{f' in {quoted(title)}' if title else ''}: {_quote(run)}"


def _line(run: Sequence[Evidence], title: str | None = None) -> str:
    """One quote as a list item: ``- Speaker 2: “…” [#12]``."""
    who = _plain_name(run[0].speaker) if run[0].speaker else ""
    who = who if run[0].kind == "speech" else run[0].kind.capitalize()
    head = " ".join(part for part in (who, f"in {quoted(title)}" if title else "") if part)
    return f"- {head}: {_quote(run)}" if head else f"- {_quote(run)}"


def _run_marker(numbers: Sequence[int]) -> str:
    """The marker of a run of segments, from the first number to the last; nothing for none."""
    if not numbers:
        return ""
    return f"[#{numbers[0]}]" if len(numbers) == 1 else f"[#{numbers[0]}-#{numbers[-1]}]"


def _words(heard: Heard) -> str:
    """The listener's answer; its quotation marks are not those of a transcript, so they are single ones."""
    return quoted(tidy(heard.answer))[1:-1]


def _heard_marker(result: Result[Heard]) -> str:
    """A citation of all that was transcribed there, which plays what was heard."""
    numbers = [item.id for item in sorted(result.evidence, key=lambda item: item.start)]
    return f" {_run_marker(numbers)}" if numbers else ""


# --- items of a summary ----------------------------------------------------------------------------


def _named_after(wanted: set[str], parts: Sequence[Topic]) -> list[Topic]:
    """The parts named after a topic, best first: one has all words of the other, “the stage budget” those of
    “Stage”. A part counts only for words that no better one has.
    """
    found = list[tuple[set[str], Topic]]()
    for part in parts:
        title = content_words(part.title)
        words = {word for word in wanted if _shared([word], title)}
        if words == wanted or _shared(title, wanted) == len(title):
            found.append((words, part))
    named, unnamed = list[Topic](), set(wanted)
    for words, part in sorted(found, key=lambda pair: -len(pair[0])):
        named += [part] if words & unnamed else []
        unnamed -= words
    return named


def _in_stretch(item: Item, found: SearchResult) -> bool:
    """Whether an item lies in one of the stretches that fit best."""
    best = found.passages[:PASSAGES]
    return any(passage.start < item.end and item.start < passage.end for passage in best)


def _item_rows(items: Sequence[Item], result: Result[SummaryResult]) -> list[str]:
    """One row an item that rests on segments: ``- Ben, by Friday: “…” [#20]``."""
    known = {item.id: item for item in result.evidence}
    rows = []
    for item in items:
        numbers = [number for number in item.segments if number in known]
        speakers = {known[number].speaker or "" for number in numbers}
        own = [item.owner, item.due] if isinstance(item, ActionItem) else []
        named = [name for name in own if name] or (speakers if len(speakers) == 1 else ())
        who = ", ".join(_plain_name(name) for name in named if name)
        # A request and its answer with something in between: no quote may span what was not quoted.
        runs = _neighbours(numbers)
        texts = [item.text] if len(runs) == 1 else [" ".join(known[at].text for at in run) for run in runs]
        said = [f"{quoted(text)} {_run_marker(run)}" for text, run in zip(texts, runs, strict=True)]
        talk = item.exchange
        where = [f"(from the exchange {span_text(talk.start, talk.end)})"] if talk else []
        if numbers:
            rows.append(f"- {f'{who}: ' if who else ''}{' '.join([*said, *where])}")
    return rows


def _is_due(item: Item, due: str) -> bool:
    """Whether an item is to be done when a question says: “by the 30th” is “until the thirtieth”."""
    wanted, own = (
        {term for term in search_terms(words) if term not in STOP_WORDS}
        for words in (due, (item.due if isinstance(item, ActionItem) else None) or "")
    )
    return wanted <= own


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in runs of neighbours."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _concerns(item: Item, person: str, result: Result[SummaryResult]) -> bool:
    """Whether an item is somebody's: they own it, are named in it, or (“I'll …”) say it."""
    name, known = fold(person).split(), {item.id: item for item in result.evidence}
    if not name:
        return False
    owner = fold((item.owner if isinstance(item, ActionItem) else None) or "").split()
    speakers = [fold(known[number].speaker or "").split() for number in item.segments if number in known]
    said = re.findall(r"\w+", fold(item.text))
    if owner and owner != ["i"]:
        # A voice that is shown by its name says what it does, or answers who asks it by that name; what it
        # asks of somebody else is not its own.
        answers = any(voice != speakers[-1] for voice in speakers)
        answers |= _shared(owner, said) < len(owner) and not requests(item.text)
        return _shared(name, owner) == len(name) or (answers and speakers[-1:] == [name])
    return name in speakers or _shared(name, said) == len(name)


# --- words and lines -------------------------------------------------------------------------------


class _Timed(Protocol):
    """Something that lies in ``[start, end)``, seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def _inside(items: Sequence[T], span: TimeRange | None) -> list[T]:
    """The items that overlap a stretch; all of them without one."""
    return [item for item in items if span is None or (item.start < span.end and item.end > span.start)]


def _begin_in(part: _Timed, items: Iterable[_Timed]) -> bool:
    """Whether one of the items begins in a stretch."""
    return any(part.start <= item.start < part.end for item in items)


def _shared(wanted: Iterable[str], heard: Iterable[str]) -> int:
    """How many of the wanted words were heard; other endings and sound-alikes (“Calum”) count."""
    heard = list(heard)
    return sum(any(similarity(word, other) > 0 for other in heard) for word in wanted)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _plain_name(name: str) -> str:
    """A speaker's name as it may stand in an answer: it cannot quote, cite or break the line."""
    return " ".join(str(name).translate(_UNMARKED).split()) or "Somebody"


_UNMARKED = str.maketrans(dict.fromkeys('“”„"«»「」[]#', " "))


def _heading_of(section: str) -> str:
    return f"{NAMES[section].capitalize()}s:"


def _listed(title: str, rows: Sequence[str]) -> str:
    """A heading and its rows."""
    return f"{title}\n\n" + "\n".join(rows)


def _paragraphs(parts: Iterable[str]) -> str:
    """The parts that are there, with a blank line between them."""
    return "\n\n".join(part for part in parts if part)


_COMPOSERS: Mapping[str, Callable[[_Answer], str]] = {
    "empty": lambda _: EMPTY,
    "help": lambda _: HELP,
    "thanks": lambda _: "You are welcome. Ask me anything else about your recordings.",
    "list": _Answer.listing,
    "which": _Answer.listing,
    "facts": _Answer.facts,
    "read": _Answer.read,
    "around": _Answer.around,
    "search": _Answer.searched,
    "items": _Answer.items,
    "summary": _Answer.summary,
    "outline": _Answer.outline,
    "listen": _Answer.listen,
    "several": _Answer.several,
    "speaker_of": _Answer.about_quote,
    "time_of": _Answer.about_quote,
}
"""What answers which kind of question."""
