"""Answers made of what tools returned: quotes with markers, and the few words that hold them together.

Nothing here states anything about a recording that is not quoted, computed or read from its record. What a
listener said is told apart from what was transcribed, with the seconds it heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.citations.quotes import quoted, tidy
from agent.extractive.intents import WHICH, Intent
from agent.extractive.plan import MOST_LISTENED, moment_of
from agent.extractive.quoting import compose_around, compose_narrowed_items, compose_read, compose_search
from agent.extractive.reporting import compose_outline, compose_summary
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
from moss_audio.timestamps import clock
from tools.listen import NEEDS_MOSS_AUDIO
from tools.result import Evidence, Heard, Outline, RecordingEntry, RecordingList, SearchResult, SummaryResult

MOST_TITLES = 20
"""Titles listed when asking back."""

HELP = """\
Ask me about your recordings, for example:

- What was said at minute 2?
- What happens in the first half? And after that?
- What did we decide about the budget?
- Who will call the supplier, and when?
- Write the meeting summary.
- What are the action items?
- Which topics are there?
- Which recordings do you have?

Answers are quotes; the time beside a quote plays it."""

EMPTY = "There are no recordings yet: add one on the page or with `moss-agent add FILE`, then ask again."


def compose(intent: Intent, situation: Situation) -> str:
    """The answer's text, with markers."""
    errors = situation.errors
    # What needs a listener where there is none is answered with the setting, whatever else failed.
    unheard = intent.kind == "listen" and not situation.can_listen
    if errors and len(errors) == len(situation.results) and not unheard:
        return errors[0]
    return _COMPOSERS[intent.kind](intent, situation)


# --- about the library ----------------------------------------------------------------------------


def _listing(_: Intent, situation: Situation) -> str:
    rows = _recordings(situation)
    if not rows:
        return EMPTY
    total = _total(situation)
    head = "There is 1 recording:" if total == 1 else f"There are {total} recordings:"
    more = f"\n- … and {total - len(rows)} more" if total > len(rows) else ""
    return listed(head, [_recording_row(entry) for entry in rows]) + more


def _recording_row(entry: RecordingEntry) -> str:
    facts = [clock(entry.duration)]
    if entry.speakers:
        facts.append(_count(len(entry.speakers), "speaker"))
    if entry.status != "ready":
        facts.append(_STATES.get(entry.status, entry.status))
    return f"- {quoted(entry.title)} ({', '.join(facts)})"


_STATES = {"listening": "still being transcribed", "failed": "transcription failed", "cancelled": "cancelled"}


def _which(_: Intent, situation: Situation) -> str:
    rows = _recordings(situation)
    shown = [f"- {quoted(entry.title)} ({clock(entry.duration)})" for entry in rows[:MOST_TITLES]]
    more = _total(situation) - len(shown)
    return listed(WHICH, [*shown, f"- … and {more} more"] if more > 0 else shown)


def _facts(intent: Intent, situation: Situation) -> str:
    entry = next((row for row in _recordings(situation) if row.id == intent.recording), None)
    if entry is None:
        return "This recording is not in the library any more."
    title, names = quoted(entry.title), [plain_name(name) for name in entry.speakers]
    if intent.fact == "speakers":
        if not names:
            return f"The speakers in {title} have not been identified."
        voices = _count(len(names), "voice")
        return f"{voices} can be told apart in {title} (estimated from the sound): {', '.join(names)}."
    if intent.fact == "language":
        spoken = entry.languages or ((entry.language,) if entry.language else ())
        if not spoken:
            return f"The language of {title} is not known."
        if len(spoken) > 1:
            return f"The languages of {title} are {name_languages(spoken)}."
        return f"The language of {title} is {name_languages(spoken)}."
    if intent.fact == "coverage":
        if entry.coverage is None:
            return f"No speech in {title} has been found and transcribed yet."
        # Cut, not rounded: 100 % must mean all of it.
        share = int(entry.coverage * 1000) / 10
        return f"{share:.1f}% of the detected speech in {title} is transcribed."
    return f"{title} is {clock(entry.duration)} long."


def _recordings(situation: Situation) -> tuple[RecordingEntry, ...]:
    found = situation.found(RecordingList)
    return found.content.recordings if found else ()


def _total(situation: Situation) -> int:
    found = situation.found(RecordingList)
    return found.content.total if found else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- about the last answer ---------------------------------------------------------------------


def _speaker_of(_: Intent, situation: Situation) -> str:
    item = _last_cited(situation)
    if item is None:
        return "There is no quote yet that this could be about."
    if not item.speaker:
        return f"Who said {quoted(item.text)} [#{item.id}] is not known: its voice was not identified."
    return said(item)


def _time_of(_: Intent, situation: Situation) -> str:
    item = _last_cited(situation)
    if item is None:
        return "There is no quote yet that this could be about."
    return f"That was {lower_first(between(item.start, item.end))}: {quoted(item.text)} [#{item.id}]"


def _last_cited(situation: Situation) -> Evidence | None:
    for turn in reversed(situation.past):
        if turn.cited:
            return turn.cited[0]
    return None


def _whole_summary(intent: Intent, situation: Situation) -> str:
    result = situation.found(SummaryResult)
    return compose_summary(result, intent.span) if result else failed(situation)


def _whole_outline(_: Intent, situation: Situation) -> str:
    result = situation.found(Outline)
    return compose_outline(result) if result else failed(situation)


# --- what a listener heard ------------------------------------------------------------------------


def compose_listen(intent: Intent, situation: Situation) -> str:
    """What a listener heard where the question means; without one, what it takes to have one."""
    if not situation.can_listen:
        return paragraphs([_written_down(situation), NEEDS_MOSS_AUDIO])
    heard = [result for result in situation.all(Heard) if result.content.answer]
    if not heard:
        return paragraphs([_written_down(situation), failed(situation)])
    if len(heard) == 1:
        (only,) = heard
        return paragraphs([_moment(situation), _words(only), _where_heard(only), only.content.warning])
    rows = [
        f"- {between(*result.content.range)}: {_words(result)}{_heard_marker(result)}" for result in heard
    ]
    return paragraphs(
        [listed(f"Heard in {_title(heard[0])}:", rows), *situation.errors[:1], _unheard(intent, heard)]
    )


def _words(result: Result[Heard]) -> str:
    """The listener's answer; its quotation marks are not those of a transcript, so they are single ones."""
    return quoted(tidy(result.content.answer))[1:-1]


def _where_heard(result: Result[Heard]) -> str:
    where = lower_first(between(*result.content.range))
    return f"Heard {where} in {_title(result)}{_heard_marker(result)}."


def _heard_marker(result: Result[Heard]) -> str:
    """A citation of all that was transcribed there, which plays what was heard."""
    numbers = [item.id for item in sorted(result.evidence, key=lambda item: item.start)]
    return f" {run_marker(numbers)}" if numbers else ""


def _title(result: Result[Heard]) -> str:
    return quoted(result.content.recording.title)


def _moment(situation: Situation) -> str:
    """The sentence around which was listened, where one was searched for."""
    found = situation.found(SearchResult)
    if found is None or moment_of(situation) is None:
        return ""
    return said(found.evidence[0])


def _unheard(intent: Intent, heard: list[Result[Heard]]) -> str:
    end = max(result.content.range[1] for result in heard)
    if intent.span is None or intent.span.end - end < 1:
        return ""
    return (
        f"At most {MOST_LISTENED} stretches are listened to for one question; name a time to hear what comes "
        f"after {clock(end)}."
    )


def _written_down(situation: Situation) -> str:
    """Sounds and music that were found among what is written down."""
    found = situation.found(SearchResult)
    sounds = [item for item in found.evidence if item.kind != "speech"] if found else []
    return "\n".join(line(item) for item in sounds)


_COMPOSERS: Mapping[str, Callable[[Intent, Situation], str]] = {
    "empty": lambda intent, situation: EMPTY,
    "help": lambda intent, situation: HELP,
    "thanks": lambda intent, situation: "You are welcome. Ask me anything else about your recordings.",
    "list": _listing,
    "which": _which,
    "facts": _facts,
    "read": compose_read,
    "around": compose_around,
    "search": compose_search,
    "items": compose_narrowed_items,
    "summary": _whole_summary,
    "outline": _whole_outline,
    "listen": compose_listen,
    "speaker_of": _speaker_of,
    "time_of": _time_of,
}
