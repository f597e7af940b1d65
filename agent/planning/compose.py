"""Answers made of what tools returned: quotes with markers, and the few words that hold them together.

Nothing here states anything about a recording that is not quoted, computed or read from its record.

Answers of a listener: what it said, told apart from what was transcribed, with the seconds it heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.citations.quotes import quoted, tidy
from agent.planning.intents import WHICH, Intent
from agent.planning.plan import MOST_LISTENED, moment_of
from agent.planning.quoting import compose_around, compose_narrowed_items, compose_read, compose_search
from agent.planning.reporting import compose_outline, compose_summary
from agent.planning.situation import Result, Situation
from agent.planning.wording import between, failed, line, listed, lower_first, paragraphs, plain_name, said
from moss_audio.timestamps import clock


def compose_listen(intent: Intent, situation: Situation) -> str:
    """What a listener heard where the question means; without one, what it takes to have one."""
    results = [one for one in situation.results if one.tool == "listen" and one.error is None]
    heard = [one for one in results if one.content.get("answer")]
    if not heard:
        return paragraphs([_written_down(situation), results[0].note if results else failed(situation)])
    if len(heard) == 1:
        return paragraphs([_moment(situation), _words(heard[0]), _seconds(heard[0]), _beyond(heard[0])])
    rows = [f"- {between(*one.content['range'])}: {_words(one)}{_marker(one)}" for one in heard]
    errors = [one.error for one in situation.results if one.tool == "listen" and one.error]
    return paragraphs([listed(f"Heard in {_title(heard[0])}:", rows), *errors[:1], _unheard(intent, heard)])


def _words(result: Result) -> str:
    """The listener's answer; its quotation marks are not those of a transcript, so they are single ones."""
    return quoted(tidy(str(result.content["answer"])))[1:-1]


def _seconds(result: Result) -> str:
    return f"Heard {lower_first(between(*result.content['range']))} in {_title(result)}{_marker(result)}."


def _marker(result: Result) -> str:
    """A citation of all that was transcribed there, which plays what was heard."""
    ids = [one["id"] for one in sorted(result.evidence, key=lambda one: one["start"])]
    if not ids:
        return ""
    return f" [#{ids[0]}]" if len(ids) == 1 else f" [#{ids[0]}-#{ids[-1]}]"


def _title(result: Result) -> str:
    return quoted(str(result.content["recording"]["title"]))


def _moment(situation: Situation) -> str:
    """The sentence around which was listened, where one was searched for."""
    found = situation.found("search_recordings")
    if found is None or moment_of(situation) is None:
        return ""
    return said(found.evidence[0])


def _beyond(result: Result) -> str:
    """What the tool remarked about times that cannot be."""
    _, beyond, rest = result.note.partition("It named times")
    return beyond + rest


def _unheard(intent: Intent, heard: list[Result]) -> str:
    end = max(float(one.content["range"][1]) for one in heard)
    if intent.span is None or intent.span.end - end < 1:
        return ""
    return (
        f"At most {MOST_LISTENED} stretches are listened to for one question; name a time to hear what comes "
        f"after {clock(end)}."
    )


def _written_down(situation: Situation) -> str:
    """Sounds and music that were found among what is written down."""
    found = situation.found("search_recordings")
    sounds = [one for one in found.evidence if one.get("kind", "speech") != "speech"] if found else []
    return "\n".join(line(one) for one in sounds)


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
    errors = [one.error for one in situation.results if one.error]
    if errors and len(errors) == len(situation.results):
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
    return listed(head, [_recording_row(one) for one in rows]) + more


def _recording_row(one: Mapping[str, Any]) -> str:
    facts = [clock(one["duration"])]
    if one["speakers"]:
        facts.append(_count(len(one["speakers"]), "speaker"))
    if one["status"] != "ready":
        facts.append(_STATES.get(one["status"], str(one["status"])))
    return f"- {quoted(one['title'])} ({', '.join(facts)})"


_STATES = {"listening": "still being transcribed", "failed": "transcription failed", "cancelled": "cancelled"}


def _which(_: Intent, situation: Situation) -> str:
    rows = _recordings(situation)
    shown = [f"- {quoted(one['title'])} ({clock(one['duration'])})" for one in rows[:MOST_TITLES]]
    more = _total(situation) - len(shown)
    return listed(WHICH, [*shown, f"- … and {more} more"] if more > 0 else shown)


def _facts(intent: Intent, situation: Situation) -> str:
    one = next((row for row in _recordings(situation) if row["id"] == intent.recording), None)
    if one is None:
        return "This recording is not in the library any more."
    title, names = quoted(one["title"]), [plain_name(name) for name in one["speakers"]]
    if intent.fact == "speakers":
        if not names:
            return f"The voices of {title} have not been told apart."
        voices = _count(len(names), "voice")
        return f"{voices} can be told apart in {title} (estimated from the sound): {', '.join(names)}."
    if intent.fact == "language":
        spoken = one["language"]
        return (
            f"The language of {title} is {_LANGUAGES.get(spoken, spoken)}."
            if spoken
            else f"The language of {title} is not known."
        )
    if intent.fact == "coverage":
        if one["coverage"] is None:
            return f"How much of the speech in {title} is transcribed has not been computed yet."
        return f"{one['coverage']:.1%} of the detected speech in {title} is transcribed."
    return f"{title} is {clock(one['duration'])} long."


_LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def _recordings(situation: Situation) -> list[Mapping[str, Any]]:
    found = situation.found("list_recordings")
    return list(found.content.get("recordings") or ()) if found else []


def _total(situation: Situation) -> int:
    found = situation.found("list_recordings")
    return int(found.content.get("total", 0)) if found else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- about the last answer ---------------------------------------------------------------------


def _speaker_of(_: Intent, situation: Situation) -> str:
    item = _last_cited(situation)
    if item is None:
        return "There is no quote yet that this could be about."
    if not item.get("speaker"):
        return f"The voice of {quoted(item['text'])} [#{item['id']}] has not been told apart from others."
    return said(item)


def _time_of(_: Intent, situation: Situation) -> str:
    item = _last_cited(situation)
    if item is None:
        return "There is no quote yet that this could be about."
    return (
        f"That was {lower_first(between(item['start'], item['end']))}: {quoted(item['text'])} [#{item['id']}]"
    )


def _last_cited(situation: Situation) -> Mapping[str, Any] | None:
    for turn in reversed(situation.past):
        if turn.cited:
            return turn.cited[0]
    return None


def _whole_summary(intent: Intent, situation: Situation) -> str:
    result = situation.found("summarize")
    return compose_summary(result, intent.span) if result else failed(situation)


def _whole_outline(_: Intent, situation: Situation) -> str:
    result = situation.found("outline")
    return compose_outline(result) if result else failed(situation)


_COMPOSERS: Mapping[str, Callable[[Intent, Situation], str]] = {
    "empty": lambda _i, _s: EMPTY,
    "help": lambda _i, _s: HELP,
    "thanks": lambda _i, _s: "You are welcome. Ask me anything else about your recordings.",
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
