"""Answers that read a stretch of the transcript: its quotes in order, with the range named."""

from __future__ import annotations

from collections.abc import Sequence

from agent.comparing import quoted
from agent.intents import Intent, Span
from agent.reporting import topic_rows
from agent.situation import Result, Situation
from agent.wording import Evidence, between, failed, line, listed, lower_first, paragraphs, plain_name
from index.clock import clock


def compose_read(intent: Intent, situation: Situation) -> str:
    """What was said at the time that was asked for."""
    read = situation.found("read_transcript")
    if read is None:
        before_start = intent.direction == "before"
        return "That is the beginning of the recording." if before_start else failed(situation)
    return stretch(read, intent, situation.found("outline"))


def stretch(read: Result, intent: Intent, outline: Result | None = None) -> str:
    """What was said in a stretch, with the range named."""
    title, duration = quoted(read.content["recording"]["title"]), read.content["recording"]["duration"]
    start, end = read.content["range"]
    if start >= duration:
        if intent.direction == "after":
            return f"Nothing comes after that: {title} ends at {clock(duration)}."
        return f"{title} is {clock(duration)} long, so there is nothing at {clock(start)}."
    items = read.evidence
    if not items:
        nobody = f"{plain_name(intent.speaker)} said nothing" if intent.speaker else "Nothing was said"
        return paragraphs([f"{nobody} {lower_first(between(start, end))} in {title}.", read.note])
    topics = topic_rows(outline, Span(start, end)) if outline else []
    if topics:
        heading = listed(f"{between(start, end)} in {title}, by topic:", topics)
        return paragraphs([heading, listed("It begins like this:", [line(one) for one in items]), read.note])
    heading = _heading(intent, start, end, items) + f" in {title}"
    who = f", {plain_name(intent.speaker)} said:" if intent.speaker else ":"
    return paragraphs([listed(heading + who, [line(one) for one in items]), read.note])


def _heading(intent: Intent, start: float, end: float, items: Sequence[Evidence]) -> str:
    """``From 2:00 to 3:00``; a moment is named with the whole sentences around it."""
    span = intent.span
    if span is None or span.kind != "moment":
        return between(start, end)
    # Rain that goes on for an hour does not make the moment an hour long.
    spoken = [one for one in items if one.get("kind", "speech") == "speech"]
    start = min([start, *(float(one["start"]) for one in spoken)])
    end = max([end, *(float(one["end"]) for one in spoken)])
    if span.start <= 0:
        # Cut off at the start of the recording, the stretch no longer has the moment in its middle.
        return between(start, end)
    return f"Around {clock((span.start + span.end) / 2)} ({lower_first(between(start, end))})"
