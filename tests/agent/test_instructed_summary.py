"""A summary by instruction: written by a language model and checked, or honestly not followed."""

from __future__ import annotations

import threading

import pytest
from langchain_core.messages import AIMessage

from agent import instructed_summary
from agent.extractive.extractive_chat import ExtractiveChatModel
from agent.instructed_summary import InstructedSummary, summarize_as
from index.recording_errors import Cancelled, MossAgentError
from index.records import TEMPLATES
from index.summary_templates import SUMMARY_TEMPLATES
from tests.support.conversing import HARBOUR, Desk, ScriptedModel
from tools.summarize_recording import summarize_recording


def written(
    desk: Desk,
    model: object,
    instruction: str,
    template: str = "meeting",
    cancel: threading.Event | None = None,
) -> InstructedSummary:
    recording = desk.library.recording(HARBOUR)
    summary = summarize_recording(desk.library, desk.embedder, recording, template)
    return summarize_as(desk.toolbox, model, recording, summary, instruction, cancel)  # type: ignore[arg-type]


def test_a_language_model_follows_it_and_every_claim_is_checked(desk: Desk) -> None:
    lines = [one.text for one in desk.library.segments(HARBOUR)]
    at = 1 + next(number for number, text in enumerate(lines) if "rowing club this afternoon" in text)
    model = ScriptedModel(
        script=[
            AIMessage(
                f"# For the board\n- Calum calls the rowing club this afternoon [{at}].\n"
                f"- “We will buy a yacht” [{at}].\n- He also flies to Mars [99999].\n"
            )
        ]
    )
    found = written(desk, model, "for the board,\n in one line", "lecture")
    assert found.instruction == "for the board, in one line"
    assert "rowing club this afternoon" in found.text
    assert "yacht" not in found.text and "Mars" not in found.text
    assert 223 in {round(cited.start) for cited in found.citations}
    assert found.note == "" and found.model == "scripted"
    system, asked = model.heard[0]
    assert SUMMARY_TEMPLATES["lecture"].guidance in system.text
    assert asked.text.endswith("for the board, in one line")
    assert "[1] " in asked.text and lines[0] in asked.text and lines[-1] in asked.text
    document = found.to_json()
    assert document["followed"] is True and document["template"] == "lecture"


def test_what_cannot_be_verified_is_not_shown(desk: Desk) -> None:
    found = written(desk, ScriptedModel(script=[AIMessage("They bought a yacht.")]), "short")
    assert found.text == "" and found.citations == ()
    assert "verified" in found.note
    assert found.summary.decisions, "the usual summary is there"


def test_without_a_language_model_it_says_so_and_quotes_what_fits(desk: Desk) -> None:
    found = written(desk, ExtractiveChatModel(), "only what concerns the rowing club")
    assert "MOSS_AGENT_MODEL" in found.note and not found.to_json()["followed"]
    assert any("rowing club" in one.text for one in found.fitting)
    starts = [one.start for one in found.fitting]
    assert starts == sorted(starts)


def test_of_a_long_recording_what_matters_is_read_and_that_is_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructed_summary, "MOST_READ", 1500)
    model = ScriptedModel(script=[AIMessage("Speaker 3 calls the rowing club this afternoon.")])
    read = instructed_summary._read(desk.library.segments(HARBOUR), [])
    assert sum(len(one.text) for one in read) <= 1500
    found = written(desk, model, "the rowing club")
    assert "rowing club" in model.heard[0][1].text
    assert len(model.heard[0][1].text) < 3000
    assert found.text and "rowing club" in found.citations[0].quote
    assert f"of {len(desk.library.segments(HARBOUR))}" in found.note


@pytest.mark.parametrize("instruction", ["", "  \n ", "x" * 1001])
def test_what_is_no_instruction_is_refused(desk: Desk, instruction: str) -> None:
    with pytest.raises(MossAgentError):
        written(desk, ExtractiveChatModel(), instruction)


def test_it_can_be_stopped_and_a_model_that_fails_is_one_sentence(desk: Desk) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        written(desk, ScriptedModel(script=[AIMessage("x")]), "short", cancel=stop)
    with pytest.raises(MossAgentError, match="scripted failed"):
        written(desk, ScriptedModel(script=[]), "short")


def test_every_template_is_described() -> None:
    assert tuple(SUMMARY_TEMPLATES) == TEMPLATES
    assert all(one.guidance and one.sections for one in SUMMARY_TEMPLATES.values())
