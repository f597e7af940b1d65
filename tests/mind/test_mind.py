"""The agent with a real language model: what may not go wrong, whatever it writes.

It is small (1.5 billion parameters) and made for code; what it answers is not judged here, but that its calls
are valid, its turns end, and nothing is shown as checked that the recording does not hold.
"""

from __future__ import annotations

import json
import re

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent.answer import Answer, StepFinished
from agent.assistant import Assistant
from agent.citations.quotes import contains, fold
from agent.engines.engine_choice import choose
from agent.models.moss_chat import ChatMossAudio
from agent.planning.intents import QuestionContext
from agent.planning.situation import Focus
from agent.prompts import system_prompt
from agent.settings import Settings
from moss_audio.generation.requests import Options, Reply
from moss_audio.served import ServedBackend
from tests.support.conversing import DURATION, HARBOUR, TITLE, Desk
from tools import build_tools
from tools.result import Failure

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def assistant(desk: Desk, address: str) -> Assistant:
    """What MOSS_AGENT_MODEL=http://… gives: the model answers, and nothing can listen."""
    settings = Settings(home=desk.home, model=address, answer_tokens=120)
    engines = choose(settings)
    assert engines.listener is None
    assert isinstance(engines.chat_model, ChatMossAudio)
    assert engines.chat_model.context == 4096
    return desk.with_model(engines.chat_model)


def assert_sound(desk: Desk, answer: Answer) -> None:
    """Each citation is a place in the recording, and each quote of a line stands in what the line cites."""
    for citation in answer.citations:
        segments = desk.library.segments(citation.recording, citation.start, citation.end)
        assert fold(citation.quote) in fold(" ".join(segment.text for segment in segments))
    cited = iter(answer.citations)
    for line in answer.text.splitlines():
        labels = re.findall(r"\[\d+:\d\d\]", line)
        said = fold(" ".join(next(cited).quote for _ in labels))
        for quote in re.findall(r"“([^“”]+)”", line):
            assert contains(said, quote) or fold(quote) in (fold(TITLE), fold(answer.text))


@pytest.mark.parametrize(
    "question",
    [
        "who calls the rowing club?",
        "what was said at minute 2?",
        "Wer ruft den Ruderverein (rowing club) an?",
    ],
)
def test_a_turn_ends_in_an_answer_whose_citations_hold(
    desk: Desk, assistant: Assistant, question: str
) -> None:
    *events, answer = assistant.stream(question)
    assert isinstance(answer, Answer)
    print(f"\n{question} ({answer.seconds:.0f} s, {answer.model})\n{answer.text}")
    assert answer.text.strip() and answer.citations
    assert_sound(desk, answer)
    names = {tool.name for tool in build_tools(desk.toolbox)}
    assert {step.tool for step in answer.steps} <= names and "listen" not in names
    finished = [event.result for event in events if isinstance(event, StepFinished)]
    assert len(finished) == len(answer.steps)
    assert not any(isinstance(result, Failure) for result in finished[:1])


@pytest.mark.parametrize("question", ["what did they say about penguins?", "what was said at minute 90?"])
def test_what_was_never_said_is_refused_without_the_model(assistant: Assistant, question: str) -> None:
    answer = assistant.ask(question)
    assert not answer.citations
    assert answer.model == "extractive"


def test_prompt_and_tools_take_under_700_tokens(desk: Desk, address: str) -> None:
    """As the model's own tokenizer counts them, with what its template puts around them."""
    focus = Focus(HARBOUR, TITLE, DURATION, ("Speaker 1", "Speaker 2", "Speaker 3"))
    messages = [{"role": "system", "content": system_prompt(QuestionContext(focus, 1))}]
    tools = [convert_to_openai_tool(tool) for tool in build_tools(desk.toolbox)]
    backend = ServedBackend(address)
    *_, reply = backend.chat([*messages, {"role": "user", "content": "?"}], tools, Options(max_new_tokens=1))
    assert isinstance(reply, Reply)
    print(f"\n{reply.prompt_tokens} tokens for {len(json.dumps(tools))} characters of schemas and the prompt")
    assert 0 < reply.prompt_tokens < 700
    backend.close()
