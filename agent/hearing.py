"""Answers of a listener: what it said, told apart from what was transcribed, with the seconds it heard."""

from __future__ import annotations

from agent.comparing import quoted, tidy
from agent.intents import Intent
from agent.planning import MOST_LISTENED, moment_of
from agent.situation import Result, Situation
from agent.wording import between, failed, line, listed, lower_first, paragraphs, said
from index.clock import clock


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
