"""What an earlier turn of a conversation quoted follows when it is corrected."""

from __future__ import annotations

import re

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from index.corrections.correcting import Corrections
from index.records import Segment
from tests.support.conversing import Desk
from tools.result import result_of

THREAD = "corrected"
NEW = "We all meet at the zeppelin hangar instead."


def remembered(desk: Desk) -> list:
    """The messages of the conversation, as they are kept."""
    config = {"configurable": {"thread_id": THREAD}}
    kept = desk.memory.checkpointer.get_tuple(config)
    assert kept is not None
    return kept.checkpoint["channel_values"]["messages"]


@pytest.fixture
def quoted(desk: Desk) -> Segment:
    """A sentence that the first answer of the conversation cites."""
    answer = desk.assistant.ask("What was said in the first 30 seconds?", thread=THREAD)
    numbers = [int(number) for number in re.findall(r"\[#(\d+)", answer.marked_text)]
    return next(segment for segment in desk.library.segments_by_id(numbers) if len(segment.text) > 30)


def test_evidence_and_quotes_of_earlier_turns_are_the_corrected_ones(desk: Desk, quoted: Segment) -> None:
    assert any(quoted.text in str(message.text) for message in remembered(desk))
    Corrections(desk.library, desk.embedder, desk.vectors).edit(quoted.recording, quoted.id, NEW)
    desk.assistant.ask("Which recordings are there?", thread=THREAD)
    messages = remembered(desk)
    assert not any(quoted.text in str(message.text) for message in messages)
    first = next(message for message in messages if isinstance(message, ToolMessage))
    assert NEW in {item.text for item in result_of(first).evidence}
    assert NEW in str(first.text)


def test_a_new_answer_about_the_same_seconds_quotes_the_correction(desk: Desk, quoted: Segment) -> None:
    Corrections(desk.library, desk.embedder, desk.vectors).edit(quoted.recording, quoted.id, NEW)
    answer = desk.assistant.ask("What was said in the first 30 seconds?", thread=THREAD)
    assert NEW in answer.text or any(NEW in citation.quote for citation in answer.citations)
    assert quoted.text not in answer.text


def test_a_citation_of_a_merged_sentence_leads_to_what_it_became(desk: Desk, quoted: Segment) -> None:
    segments = desk.library.segments(quoted.recording)
    at = [segment.id for segment in segments].index(quoted.id)
    pair = segments[at - 1 : at + 1] if at else segments[:2]
    corrections = Corrections(desk.library, desk.embedder, desk.vectors)
    corrections.merge(quoted.recording, [segment.id for segment in pair])
    gone = pair[1].id
    assert desk.library.successors(quoted.recording, [gone]) == {gone: pair[0].id}
    desk.assistant.ask("Which recordings are there?", thread=THREAD)
    messages = remembered(desk)
    said = " ".join(
        str(message.text) for message in messages if isinstance(message, (AIMessage, ToolMessage))
    )
    assert not re.search(rf"#{gone}\b", said) and re.search(rf"#{pair[0].id}\b", said)
    merged = desk.library.segments_by_id([pair[0].id])[0]
    first = next(message for message in messages if isinstance(message, ToolMessage))
    evidence = {item.id: item for item in result_of(first).evidence}
    assert evidence[merged.id].text == merged.text and gone not in evidence
