"""MOSS-Audio as the reasoning core: graph, tools, database and check of citations are those of any model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from agent.answer import Answer, StepFinished, StepStarted, TextDelta, ThoughtDelta
from agent.assistant import Assistant
from agent.citations.check import LEGEND, MARK, UNVERIFIED
from agent.graph import MOST_ROUNDS
from agent.models.moss_chat import CONTEXT_TOKENS, ChatMossAudio
from agent.models.moss_messages import ContextTooLong, cut_rows, estimate_tokens, openai_messages
from agent.planning.intents import QuestionContext
from agent.planning.situation import Focus
from agent.prompts import LONGEST_STRETCH, system_message
from index.recording_errors import Cancelled, MossAgentError
from moss_audio.backend import BackendListener
from moss_audio.errors import MossAudioError, NotEnoughMemory
from moss_audio.generation.requests import Options
from moss_audio.generation.requests import TextDelta as MossDelta
from tests.support.conversing import HARBOUR, Desk, heard
from tests.support.moss_backend import Messages, RuleBackend, Said
from tools import Toolbox, build_tools
from tools.result import Evidence, RecordingInfo, Transcript, restore, text_of

READ = (
    '<tool_call>\n{"name": "read_transcript", "arguments": {"recording": "aaaaaaaaaaaa", '
    '"start": 220, "end": 230}}\n</tool_call>'
)
SEARCH = '<tool_call>\n{"name": "search_recordings", "arguments": {"query": "rowing club"}}\n</tool_call>'
LISTEN = (
    '<tool_call>\n{"name": "listen", "arguments": {"recording": "aaaaaaaaaaaa", "start": 0, "end": 10, '
    '"question": "Is there a dog?"}}\n</tool_call>'
)
ROWING = "who calls the rowing club?"


def turn_of(messages: Messages) -> list[Any]:
    """The messages from the last question on."""
    last = max(at for at, message in enumerate(messages) if message["role"] == "user")
    return list(messages[last:])


def steps(*said: Said | Callable[[str], Said]) -> Callable[[Messages, list[str]], Said]:
    """A model that says one thing after the other; a function is given what the tools returned last."""
    left = list(said)

    def think(messages: Messages, tools: list[str]) -> Said:
        now = left.pop(0) if len(left) > 1 else left[0]
        results = "\n".join(str(message["content"]) for message in messages if message["role"] == "tool")
        return now(results) if callable(now) else now

    return think


def assistant(desk: Desk, *said: Said | Callable[[str], Said], **more: Any) -> tuple[Assistant, RuleBackend]:
    backend = RuleBackend(think=steps(*said), **more)
    return desk.with_model(ChatMossAudio(backend=backend)), backend


def marker(results: str, words: str) -> str:
    """The marker of the evidence line that holds some words."""
    (line,) = {line for line in results.splitlines() if words in line and line.startswith("[")}
    return line.split(" ")[0]


def cite_rowing(results: str) -> str:
    return f"“I'll call the rowing club this afternoon” {marker(results, 'rowing club this afternoon')}"


def ask(assistant: Assistant, question: str = ROWING, **more: Any) -> tuple[list[Any], Answer]:
    *events, answer = assistant.stream(question, **more)
    assert isinstance(answer, Answer)
    return events, answer


# --- thinking, calling, citing ----------------------------------------------------------------------


def test_it_thinks_calls_tools_side_by_side_and_cites_what_they_returned(desk: Desk) -> None:
    chat, _ = assistant(desk, f"<think>Two ways.</think>Let me look.\n{SEARCH}\n{READ}", cite_rowing)
    events, answer = ask(chat)
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    gathered, *own = [step.tool for step in answer.steps]
    assert (gathered, own) == ("search_recordings", ["search_recordings", "read_transcript"])
    assert answer.model == "RuleMoss-1B"
    kinds = [type(event) for event in events]
    assert kinds[:2] == [StepStarted, StepFinished]
    kinds = kinds[2:]
    assert kinds.index(ThoughtDelta) < kinds.index(StepStarted) < kinds.index(StepFinished)
    assert "".join(event.text for event in events if isinstance(event, ThoughtDelta)) == "Two ways."
    last = max(at for at, event in enumerate(events) if isinstance(event, StepFinished))
    assert "".join(event.text for event in events[last:] if isinstance(event, TextDelta)) == answer.text
    assert not any("tool_call" in event.text for event in events if isinstance(event, TextDelta))


def test_a_thought_is_never_in_the_answer_nor_in_the_next_turn(desk: Desk) -> None:
    secret = "The butler did it."
    chat, backend = assistant(desk, f"<think>{secret}</think>{SEARCH}", cite_rowing)
    _, answer = ask(chat, thread="t")
    assert secret not in answer.text + answer.marked_text
    in_turn = backend.chats[1][0]
    thoughts = [message.get("reasoning_content") for message in in_turn if message["role"] == "assistant"]
    assert thoughts == [None, secret]
    chat.ask("and when?", thread="t")
    assert not any(secret in str(message) for message in backend.chats[-1][0][:2])
    final = [
        message
        for message in backend.chats[-1][0]
        if message["role"] == "assistant" and not message.get("tool_calls")
    ]
    assert [message["content"] for message in final] == [answer.marked_text]


def test_the_model_reads_numbered_evidence_and_short_ids(desk: Desk) -> None:
    chat, backend = assistant(desk, READ, "I cannot say.")
    ask(chat)
    system, question, _, _, call, result = backend.chats[1][0]
    assert HARBOUR[:12] in system["content"]
    assert HARBOUR not in system["content"]
    assert question == {"role": "user", "content": ROWING}
    assert json.loads(call["tool_calls"][0]["function"]["arguments"])["start"] == 220
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    segments = desk.library.segments(HARBOUR, 220, 230)
    lines = [line for line in result["content"].splitlines() if line.startswith("[")]
    assert all(0 < int(line[1 : line.index("]")]) < 60 for line in lines)
    assert all(segment.text in line for segment, line in zip(segments, lines, strict=True))
    assert HARBOUR not in result["content"]


def test_what_it_claims_without_evidence_does_not_come_through(desk: Desk) -> None:
    chat, _ = assistant(
        desk,
        SEARCH,
        lambda results: f"{cite_rowing(results)}\n- They bought a yacht [#987654].\n- “I resign” [#1]\n",
    )
    _, answer = ask(chat)
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    invented, _ = assistant(desk, "The fee is “nine million” [#4].")
    assert ask(invented)[1].text.startswith(UNVERIFIED)


LIST = '<tool_call>{"name": "list_recordings", "arguments": {}}</tool_call>'
PENGUINS = SEARCH.replace("rowing club", "penguins")
FAILS = READ.replace("aaaaaaaaaaaa", "zzzz")
SINK = "They decided to sink the ferry."
SUNK = f"They decided to sink the ferry {MARK}.\n\n{LEGEND}"


@pytest.mark.parametrize(
    ("question", "said", "shown"),
    [
        ("who is speaking?", [SINK], SUNK),
        ("which recordings are there?", [LIST, SINK], SUNK),
        (ROWING, [SEARCH, lambda results: f"{cite_rowing(results)}. {SINK}"],
         f"“I'll call the rowing club this afternoon” [3:43]. {SUNK}"),
        (ROWING, [SEARCH, cite_rowing], "“I'll call the rowing club this afternoon” [3:43]"),
        ("hello", ["Hello! What would you like to know?"], "Hello! What would you like to know?"),
        ("what is there?", [LIST, "One recording, “Harbour Lights planning call” (5:06)."],
         "One recording, “Harbour Lights planning call” (5:06)."),
        ("how long is it?", ["It is 5 minutes and 6 seconds long."], "It is 5 minutes and 6 seconds long."),
        ("who is speaking?", ["Speaker 1, Speaker 2 and Speaker 3."], "Speaker 1, Speaker 2 and Speaker 3."),
    ],
)  # fmt: skip
def test_what_it_claims_without_citing_is_marked_and_nothing_else(
    desk: Desk, question: str, said: list[Any], shown: str
) -> None:
    chat, _ = assistant(desk, *said)
    events, answer = ask(chat, question)
    assert answer.text == shown
    last = max((at for at, event in enumerate(events) if isinstance(event, StepFinished)), default=0)
    assert "".join(event.text for event in events[last:] if isinstance(event, TextDelta)) == answer.text


@pytest.mark.parametrize("said", [[SINK], [SEARCH, SINK], [PENGUINS, SINK], [FAILS, SINK]])
def test_where_nothing_of_an_answer_could_be_checked_what_was_said_follows(
    desk: Desk, said: list[Any]
) -> None:
    answer = ask(assistant(desk, *said)[0], ROWING)[1]
    assert answer.text.startswith(f"They decided to sink the ferry {MARK}.\n\n")
    assert answer.text.endswith(f"\n\n{LEGEND}") and answer.text.count(MARK) == 2
    assert "call the rowing club this afternoon" in " ".join(item.quote for item in answer.citations)


def test_what_an_earlier_turn_told_may_be_told_again(desk: Desk) -> None:
    chat, _ = assistant(desk, LIST, "One.", "It is ready, and it is English.")
    ask(chat, "which recordings are there?", thread="t")
    events, answer = ask(chat, "and its status?", thread="t")
    assert answer.text == "It is ready, and it is English."
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text


def test_options_suit_a_model_that_thinks_and_one_that_does_not(desk: Desk) -> None:
    chat, backend = assistant(desk, "I cannot say.")
    ask(chat)
    options = backend.chats[0][2]
    assert options.stop_loops and options.temperature > 0 and options.thinking_budget is not None
    assert options.thinking_budget < options.max_new_tokens <= CONTEXT_TOKENS // 3
    backend.thinks = False
    ask(chat)
    assert backend.chats[-1][2] == Options(max_new_tokens=2048, stop_loops=True)


# --- calls that go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damaged",
    [
        READ.replace("}}", "}"),
        READ.replace("230}}", "230,},}"),
        READ.replace('"', "'"),
        READ.replace("</tool_call>", ""),
        READ.replace("<tool_call>\n", "```json\n").replace("</tool_call>", "```"),
        f"<think>I should look. {READ}</think>",
    ],
)
def test_broken_calls_are_repaired_and_never_shown(desk: Desk, damaged: str) -> None:
    chat, backend = assistant(desk, damaged, cite_rowing)
    events, answer = ask(chat)
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    assert [dict(step.arguments) for step in answer.steps[1:]] == [
        {"recording": "aaaaaaaaaaaa", "start": 220, "end": 230}
    ]
    assert len(backend.chats) == 2
    shown = "".join(event.text for event in events if isinstance(event, (TextDelta, ThoughtDelta)))
    assert "{" not in shown and "tool_call" not in shown


def test_a_call_that_cannot_be_read_is_asked_for_once_more(desk: Desk) -> None:
    chat, backend = assistant(desk, "<tool_call>search for the club</tool_call>", SEARCH, cite_rowing)
    events, answer = ask(chat)
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    assert "could not be read" in backend.chats[1][0][-1]["content"]
    assert len(backend.chats) == 3
    assert not any("search for the club" in event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "damaged",
    [
        '{"name": "search_recordings", "arguments": {"query": "fer',
        '```json\n{"name": "search_recordings", "arguments": {"query": "fer',
        'I will search. {"name": "search_recordings", "arguments": {"query": "fer',
        '{"name": "browse_web", "arguments": {}}',
        "I will search. <tool_call",
        "<TOOL_CALL>search</TOOL_CALL>",
    ],
)
def test_what_begins_like_a_call_is_asked_for_once_more_and_never_shown(desk: Desk, damaged: str) -> None:
    chat, backend = assistant(desk, damaged, SEARCH, cite_rowing)
    events, answer = ask(chat)
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    assert "could not be read" in backend.chats[1][0][-1]["content"]
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert not set("{<`") & set(shown)


def test_a_call_in_the_last_round_is_not_shown_though_nothing_may_be_called(desk: Desk) -> None:
    count = iter(range(1000))

    def bare(_: str) -> str:
        return (
            f'I look. {{"name": "search_recordings", "arguments": {{"query": "rowing club {next(count)}"}}}}'
        )

    _, answer = ask(assistant(desk, bare)[0])
    assert answer.text == "I look."


def test_a_call_that_cannot_be_read_twice_is_given_up(desk: Desk) -> None:
    chat, backend = assistant(desk, "<tool_call>search</tool_call>")
    _, answer = ask(chat)
    assert len(backend.chats) == 2
    assert_taken_over(answer, "it called tools in a way that cannot be followed")


def test_an_unknown_tool_is_told_to_the_model_once(desk: Desk) -> None:
    unknown = '<tool_call>{"name": "browse_web", "arguments": {}}</tool_call>'
    chat, backend = assistant(desk, unknown, SEARCH, cite_rowing)
    assert ask(chat)[1].text == "“I'll call the rowing club this afternoon” [3:43]"
    told = backend.chats[1][0][-1]
    assert told["role"] == "tool" and "no tool “browse_web”" in told["content"]
    again, backend = assistant(desk, unknown)
    answer = ask(again)[1]
    assert len(backend.chats) == 3
    assert_taken_over(answer, "it called tools in a way that cannot be followed")


def test_a_call_that_was_made_is_not_made_again(desk: Desk) -> None:
    chat, backend = assistant(desk, SEARCH, SEARCH, cite_rowing)
    _, answer = ask(chat)
    assert [step.tool for step in answer.steps] == ["search_recordings", "search_recordings"]
    assert answer.text == "“I'll call the rowing club this afternoon” [3:43]"
    assert "called this already" in backend.chats[2][0][-1]["content"]
    stubborn, _ = assistant(desk, SEARCH)
    assert_taken_over(ask(stubborn)[1], "it kept asking for what it had been given")


def test_a_model_that_only_calls_tools_has_to_answer_in_the_end(desk: Desk) -> None:
    count = iter(range(1000))

    def another(_: str) -> str:
        return SEARCH.replace("rowing club", f"rowing club {next(count)}")

    chat, backend = assistant(desk, another)
    _, answer = ask(chat)
    assert len([step for step in answer.steps if step.tool == "search_recordings"]) == 1 + MOST_ROUNDS
    assert backend.chats[-1][1] == []
    assert_taken_over(answer, "it called tools in a way that cannot be followed")
    assert "rowing club" in answer.citations[0].quote


# --- when it fails ----------------------------------------------------------------------------------


def assert_taken_over(answer: Answer, reason: str) -> None:
    """The extractive answer, and one sentence before it."""
    first, _, rest = answer.text.partition("\n\n")
    assert first == f"RuleMoss-1B could not answer this ({reason}), so these are quotes chosen by rule."
    assert "I'll call the rowing club this afternoon" in rest
    assert answer.model == "extractive"
    assert answer.citations


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            MossAudioError("The server at gpu:8000 is down; start it."),
            "The server at gpu:8000 is down; start it",
        ),
        ("", "its answer was empty"),
        ("<think>Hm.</think>", "its answer was empty"),
        (("<think>Hm", "length"), "it used up its tokens"),
        (("no no no no", "loop"), "it ran into a loop"),
        (MossAudioError("He said “yes” [#3]\nand (more)."), "He said yes 3 and more"),
        (
            RuntimeError("CUDA error: an illegal access\nSet CUDA_LAUNCH_BLOCKING"),
            "RuntimeError: CUDA error: an illegal access",
        ),
        (KeyError(), "KeyError"),
    ],
)
def test_the_extractive_model_takes_over_and_says_so(desk: Desk, said: Said, reason: str) -> None:
    chat, backend = assistant(desk, said)
    events, answer = ask(chat)
    assert_taken_over(answer, reason)
    assert len(backend.chats) == 1
    last = max(at for at, event in enumerate(events) if isinstance(event, StepFinished))
    assert "".join(event.text for event in events[last:] if isinstance(event, TextDelta)) == answer.text


def test_words_before_a_failure_are_left_out(desk: Desk) -> None:
    class Breaks(RuleBackend):
        def chat(self, *given: Any) -> Iterator[Any]:
            yield MossDelta("They decided to sink the fer")
            raise RuntimeError("CUDA error")

    events, answer = ask(desk.with_model(ChatMossAudio(backend=Breaks())), "hello")
    note, *_ = answer.text.split("\n\n")
    assert (
        note
        == "RuleMoss-1B could not answer this (RuntimeError: CUDA error), so these are quotes chosen by rule."
    )
    assert MARK not in answer.text
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text


def test_a_backend_that_cannot_say_what_it_is_is_replaced_too(desk: Desk) -> None:
    class Dead(RuleBackend):
        @property
        def thinks(self) -> bool:  # type: ignore[override]
            raise ConnectionError("gone")

    assert_taken_over(ask(desk.with_model(ChatMossAudio(backend=Dead())))[1], "ConnectionError: gone")


def test_a_failure_of_a_library_while_stopping_is_a_stop(desk: Desk) -> None:
    stop = threading.Event()

    def think(*_: Any) -> Said:
        stop.set()
        return RuntimeError("torn down")

    chat = desk.with_model(ChatMossAudio(backend=RuleBackend(think=think)))
    with pytest.raises(Cancelled):
        list(chat.stream(ROWING, cancel=stop))


# --- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "notice"),
    [
        ({"answer_tokens": 100},
         "The answer was cut short at 100 tokens; MOSS_AGENT_ANSWER_TOKENS allows it more."),
        ({"context": 6000},
         "The answer was cut short at 2,000 tokens, a third of the 6,000 that the model holds; it needs a "
         "larger context for more."),
    ],
)  # fmt: skip
def test_an_answer_that_was_cut_short_says_so_and_by_what(
    desk: Desk, given: dict[str, int], notice: str
) -> None:
    backend = RuleBackend(think=steps(("You can ask me about the fer", "length")))
    events, answer = ask(desk.with_model(ChatMossAudio(backend=backend, **given)))
    assert answer.text.startswith(f"You can ask me about the fer {MARK}\n\n{notice}\n\n")
    assert answer.text.endswith(f"\n\n{LEGEND}")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text
    whole, _ = assistant(desk, "What would you like to ask?")
    assert ask(whole)[1].text == "What would you like to ask?"


@pytest.mark.parametrize("stop", [["END"], ["xyz", "D of"], ["E"]])
def test_stop_sequences_end_the_answer(stop: list[str]) -> None:
    backend = RuleBackend(think=steps("<think>END.</think>It is the END of it. " + "And more. " * 500))
    model = ChatMossAudio(backend=backend)
    whole = model.invoke("Is it?", stop=stop)
    assert whole.text == "It is the END of it."[: "It is the END of it.".index(stop[-1])]
    assert whole.content_blocks[0] == {"type": "reasoning", "reasoning": "END."}
    assert backend.written < 100
    assert "".join(chunk.text for chunk in model.stream("Is it?", stop=stop)) == whole.text
    assert (
        ChatMossAudio(backend=RuleBackend(think=steps("No EN"))).invoke("?", stop=["END", ""]).text == "No EN"
    )


def test_it_is_asked_again_for_the_next_question(desk: Desk) -> None:
    chat, _ = assistant(desk, "", SEARCH, cite_rowing)
    assert ask(chat, thread="t")[1].model == "extractive"
    assert ask(chat, thread="t")[1].model == "RuleMoss-1B"


def test_what_the_failing_model_looked_up_is_not_what_is_quoted(desk: Desk) -> None:
    astray = READ.replace("220", "0").replace("230", "5")
    chat, _ = assistant(desk, astray, "")
    _, answer = ask(chat, "what was said at minute 2?")
    assert "From 2:00 to 3:00" in answer.text
    assert [step.tool for step in answer.steps] == ["read_transcript", "read_transcript"]
    assert answer.steps[0].arguments["start"] == 120


def test_a_failure_in_the_middle_leaves_only_what_was_said_by_rule(desk: Desk) -> None:
    chat, _ = assistant(desk, ("They said that they said that they said that", "loop"))
    _, answer = ask(chat)
    assert_taken_over(answer, "it ran into a loop")


def test_a_question_without_tools_is_answered_too_when_it_fails(desk: Desk) -> None:
    chat, _ = assistant(desk, "")
    _, answer = ask(chat, "hello")
    assert answer.text.startswith("RuleMoss-1B could not answer this (its answer was empty), so")
    assert "Ask me about your recordings" in answer.text


def test_a_context_that_is_too_small_is_said(desk: Desk) -> None:
    backend = RuleBackend()
    chat = desk.with_model(ChatMossAudio(backend=backend, context=600))
    _, answer = ask(chat)
    assert "context" in answer.text.partition("\n")[0]
    assert backend.chats == []
    assert answer.model == "extractive"


def test_a_backend_that_cannot_hold_so_much_is_asked_with_half(desk: Desk) -> None:
    sizes: list[int] = []

    def think(messages: Messages, _: list[str]) -> Said:
        sizes.append(sum(estimate_tokens(str(message["content"])) for message in messages))
        if len(turn_of(messages)) == 3:
            return READ.replace("220", "0").replace("230", "306")
        if len(sizes) == 2:
            return NotEnoughMemory("This request can take 9,000 tokens, and the cache holds 4,000.")
        return "I cannot say."

    chat = desk.with_model(ChatMossAudio(backend=RuleBackend(think=think), context=5000))
    assert ask(chat)[1].text.startswith("I cannot say.")
    assert sizes[2] < sizes[1]


# --- stopping ---------------------------------------------------------------------------------------


def test_stop_ends_what_the_model_writes(desk: Desk) -> None:
    stop = threading.Event()

    def think(*_: Any) -> Said:
        threading.Timer(0.3, stop.set).start()
        return "I will go on and on. " * 2000

    backend = RuleBackend(think=think, pace=0.01)
    chat = desk.with_model(ChatMossAudio(backend=backend))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(chat.stream(ROWING, cancel=stop))
    assert time.monotonic() - began < 20
    assert 0 < backend.written < 5000


def test_closing_the_stream_ends_what_the_model_writes(desk: Desk) -> None:
    chat, backend = assistant(desk, f"<think>{'Well. ' * 4000}</think>", pace=0.01)
    events = chat.stream(ROWING)
    assert any(isinstance(event, ThoughtDelta) for event in events)
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 20
    assert backend.written < 5000


def test_stop_ends_a_tool_that_listens(desk: Desk) -> None:
    path = desk.library.audio_path(HARBOUR)
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, [0.0] * 16_000 * 12, 16_000)
    listening = threading.Event()

    def hear(_: Any) -> str:
        listening.set()
        return "woof " * 5000

    backend = RuleBackend(hear, steps(LISTEN), pace=0.01)
    tools = build_tools(Toolbox(desk.library, desk.search, BackendListener(backend)))
    chat = Assistant(desk.library, tools, ChatMossAudio(backend=backend), desk.memory.checkpointer)
    stop = threading.Event()
    threading.Thread(target=lambda: listening.wait(20) and stop.set(), daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(chat.stream("is there a dog?", cancel=stop))
    assert listening.is_set()
    assert time.monotonic() - began < 20
    assert backend.written < 5000


def test_a_stopped_turn_leaves_the_conversation_usable(desk: Desk) -> None:
    chat, _ = assistant(desk, SEARCH, cite_rowing)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        list(chat.stream(ROWING, thread="t", cancel=stop))
    other, _ = assistant(desk, SEARCH, cite_rowing)
    assert ask(other, thread="t")[1].text == "“I'll call the rowing club this afternoon” [3:43]"


# --- structured output ------------------------------------------------------------------------------


class Verdict(BaseModel):
    """What was found out."""

    guilty: bool
    years: int
    why: str = ""


GUILTY = '{"guilty": true, "years": 3, "why": "He said “no”."}'
VERDICT = Verdict(guilty=True, years=3, why="He said “no”.")


@pytest.mark.parametrize(
    "said",
    [
        f'<tool_call>{{"name": "Verdict", "arguments": {GUILTY}}}</tool_call>',
        GUILTY,
        f'<think>{{"guilty": false}}</think>Here it is:\n```json\n{GUILTY[:-1]},}}\n```',
        "{'guilty': True, 'years': '3', 'why': 'He said “no”.'",
    ],
)
def test_answers_in_a_schema(said: str) -> None:
    model = ChatMossAudio(backend=RuleBackend(think=steps(said))).with_structured_output(Verdict)
    assert model.invoke("Is he guilty?") == VERDICT


def test_answers_in_a_json_schema_are_dictionaries() -> None:
    schema = {
        "title": "Count",
        "description": "Heads.",
        "type": "object",
        "properties": {"n": {"type": "integer"}},
    }
    model = ChatMossAudio(backend=RuleBackend(think=steps("{'n': 4}"))).with_structured_output(schema)
    assert model.invoke("How many?") == {"n": 4}


def test_callbacks_are_told_the_schema_that_is_asked_for() -> None:
    class Watching(BaseCallbackHandler):
        told: ClassVar[list[dict[str, Any]]] = []

        def on_chat_model_start(self, *_: object, options: dict[str, Any], **__: object) -> None:
            self.told.append(options)

    model = ChatMossAudio(backend=RuleBackend(think=steps(GUILTY, GUILTY))).with_structured_output(Verdict)
    model.invoke("Is he guilty?", config={"callbacks": [Watching()]})
    assert list(model.stream("Is he guilty?", config={"callbacks": [Watching()]}))[-1] == VERDICT
    schemas = [options["ls_structured_output_format"]["schema"] for options in Watching.told]
    assert [set(schema["properties"]) for schema in schemas] == [set(Verdict.model_fields)] * 2


def test_another_form_is_asked_for_once_and_then_an_error() -> None:
    backend = RuleBackend(think=steps("I think so.", '{"guilty": true}', '{"guilty": true, "years": 1}'))
    model = ChatMossAudio(backend=backend).with_structured_output(Verdict)
    with pytest.raises(MossAgentError, match="did not call Verdict"):
        model.invoke("Is he guilty?")
    assert "Verdict" in backend.chats[0][0][-1]["content"]
    assert len(backend.chats) == 2


def test_without_taking_over_a_failure_is_an_error_in_one_sentence() -> None:
    model = ChatMossAudio(backend=RuleBackend(think=steps("")), takes_over=False)
    with pytest.raises(MossAgentError, match="RuleMoss-1B could not answer: its answer was empty"):
        model.invoke("Hello?")


def test_it_is_a_chat_model_like_any_other() -> None:
    model = ChatMossAudio(backend=RuleBackend(think=steps("<think>Hm.</think>Yes, it is.")))
    whole = model.invoke("Is it?")
    assert whole.text == "Yes, it is."
    assert whole.content_blocks[0] == {"type": "reasoning", "reasoning": "Hm."}
    assert whole.usage_metadata is not None
    chunks = list(model.stream("Is it?"))
    assert "".join(chunk.text for chunk in chunks) == "Yes, it is."
    assert len(chunks) > 2


# --- fitting the context ----------------------------------------------------------------------------


def result(count: int, words: int = 8) -> str:
    evidence = tuple(
        Evidence(
            id=number,
            recording=HARBOUR,
            start=3.0 * number,
            end=3.0 * number + 2,
            speaker="Speaker 1",
            text="word " * words + str(number),
        )
        for number in range(1, count + 1)
    )
    about = RecordingInfo(id=HARBOUR, title="T", duration=900.0)
    return text_of(Transcript(recording=about, range=(0.0, 900.0), evidence=evidence, total=count))


def turn(question: str, *results: str, answer: str | None = "Fine.") -> list[BaseMessage]:
    calls = [
        {"name": "read_transcript", "args": {"start": at}, "id": f"c{at}", "type": "tool_call"}
        for at in range(len(results))
    ]
    messages: list[BaseMessage] = [HumanMessage(question)]
    if results:
        messages.append(AIMessage("", tool_calls=calls, additional_kwargs={"reasoning_content": "Hm. " * 20}))
        messages += [ToolMessage(text, tool_call_id=f"c{at}") for at, text in enumerate(results)]
    return [*messages, AIMessage(answer)] if answer else messages


def total(messages: list[dict[str, Any]]) -> int:
    return sum(estimate_tokens(str(message)) for message in messages)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(900, 12_000),
)
def test_any_conversation_fits_its_budget(now: list[tuple[int, int]], past: int, budget: int) -> None:
    messages: list[BaseMessage] = [
        system_message(QuestionContext(Focus(HARBOUR, "T", 900.0), 1, can_listen=True))
    ]
    for _ in range(past):
        messages += turn("And before?", result(30, 10))
    messages += turn("What was said?", *(result(*size) for size in now), answer=None)
    made = openai_messages(messages, budget)
    assert made[0]["role"] == "system"
    assert {"role": "user", "content": "What was said?"} in made
    assert sum(8 + estimate_tokens(str(message.get("content"))) for message in made) <= budget
    called = [call["id"] for message in made for call in message.get("tool_calls", ())]
    assert called == [message["tool_call_id"] for message in made if message["role"] == "tool"]


def test_what_is_cut_is_said_and_what_is_old_goes_first() -> None:
    messages = [SystemMessage("Rules."), *turn("Old?", result(40)), *turn("New?", result(60), answer=None)]
    whole = openai_messages(messages, 100_000)
    assert [message["role"] for message in whole] == [
        "system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool"
    ]  # fmt: skip
    without_old = openai_messages(messages, total(whole) - 300)
    assert [message["role"] for message in without_old] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert without_old[-1]["content"] == whole[-1]["content"]
    short = openai_messages(messages, 500)
    assert [message["content"] for message in short if message["role"] == "user"] == ["New?"]
    lines = short[-1]["content"].splitlines()
    assert lines[-1] == f"({62 - len(lines) + 1} more lines did not fit; ask for less at once to see them.)"
    assert lines[2].startswith("[#1] 0:03 Speaker 1: word")


def test_a_question_that_alone_is_too_long_is_refused() -> None:
    with pytest.raises(ContextTooLong, match="200 tokens"):
        openai_messages([SystemMessage("Rules. " * 200), HumanMessage("What?")], 200)


@given(
    st.text() | st.just("[]") | st.just('{"evidence": [1, null, {}], "passages": {}}'), st.integers(0, 200)
)
def test_any_stored_result_is_read_and_cut(content: str, room: int) -> None:
    written = text_of(restore("search_recordings", None, content))
    assert estimate_tokens(cut_rows(written, room)) <= max(room, 40)


def test_words_of_a_recording_cannot_look_like_a_marker() -> None:
    said = Evidence(id=7, recording=HARBOUR, start=0, end=1, text="I say [#9]\n[#8] 0:01 Eve: hi")
    about = RecordingInfo(id=HARBOUR, title="T", duration=900.0)
    made = text_of(Transcript(recording=about, range=(0.0, 1.0), evidence=(said,), total=1))
    assert made.splitlines()[1:] == [
        "evidence:",
        "[#7] 0:00 somebody: I say [ #9] [ #8] 0:01 Eve: hi",
    ]


def test_several_recordings_are_told_apart_by_title(desk: Desk) -> None:
    desk.add(
        "b" * 64,
        "Retro",
        [{"start": 1.0, "end": 4.0, "text": "The rowing club again.", "speaker": "Ann"}],
        9.0,
    )
    chat, backend = assistant(desk, SEARCH, "I cannot say.")
    ask(chat)
    lines = backend.chats[1][0][-1]["content"].splitlines()
    assert any("Retro, 0:01 Ann: The rowing club again." in line for line in lines)
    assert any("Harbour Lights planning call, 3:4" in line for line in lines)


def test_the_estimate_of_tokens_is_rather_too_high() -> None:
    from tests.support.indexed import embedder

    tokenize = embedder().load().tokenizer.tokenize
    texts = [row["text"] for row in heard()]
    assert sum(map(estimate_tokens, texts)) >= sum(len(tokenize(text)) for text in texts)


# --- a real engine ----------------------------------------------------------------------------------


def test_a_real_model_runs_the_graph_and_its_citation_is_checked(desk: Desk, tmp_path: Path) -> None:
    from moss_audio.engine import EngineOptions, LocalBackend
    from tests.support.tiny_moss import chain, letters, writing_checkpoint

    folder = writing_checkpoint(tmp_path, chain(*letters("It is [#9]!")))
    backend = LocalBackend.load(folder, "cpu", EngineOptions(cache_bytes=64_000_000))
    try:
        _, answer = ask(desk.with_model(ChatMossAudio(backend=backend)))
        assert answer.text.startswith(UNVERIFIED)
        folder = writing_checkpoint(tmp_path / "plain", chain(*letters("So it.")))
        spoken = LocalBackend.load(folder, "cpu", EngineOptions(cache_bytes=64_000_000))
        _, answer = ask(desk.with_model(ChatMossAudio(backend=spoken)))
        assert answer.text.startswith(f"So it {MARK}.\n\n") and answer.text.endswith(LEGEND)
        assert answer.model == spoken.name
        spoken.close()
    finally:
        backend.close()


def test_a_real_model_that_loops_is_replaced(desk: Desk, tmp_path: Path) -> None:
    from moss_audio.engine import EngineOptions, LocalBackend
    from tests.support.tiny_moss import NEWLINE, letters, writing_checkpoint

    h, a = letters("ha")
    folder = writing_checkpoint(tmp_path, {NEWLINE: h, h: a, a: h})
    backend = LocalBackend.load(folder, "cpu", EngineOptions(cache_bytes=64_000_000))
    try:
        _, answer = ask(desk.with_model(ChatMossAudio(backend=backend)))
        assert "could not answer this (it ran into a loop), so these are quotes" in answer.text
        assert answer.model == "extractive"
    finally:
        backend.close()


def test_where_nothing_of_its_answer_holds_what_was_said_stands_in_its_place(desk: Desk) -> None:
    chat, _ = assistant(desk, "Xerxes sank a yacht [99].")
    events, answer = ask(chat)
    assert answer.text.startswith(UNVERIFIED)
    assert "I'll call the rowing club this afternoon" in answer.text
    assert answer.citations and "Xerxes" not in answer.text
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text


# --- evidence before the first word -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "tool", "words"),
    [
        (ROWING, "search_recordings", "I'll call the rowing club this afternoon"),
        ("what was said at minute 2?", "read_transcript", "So the decision is to go with North Key audio"),
        ("write the meeting summary", "summarize", "decisions:"),
        ("which topics are there?", "outline", "Sound stage"),
        ("which recordings do you have?", "list_recordings", "Harbour Lights planning call"),
    ],
)
def test_it_is_handed_the_evidence_with_the_question(
    desk: Desk, question: str, tool: str, words: str
) -> None:
    chat, backend = assistant(desk, "I cannot say.")
    _, answer = ask(chat, question)
    assert len(backend.chats) == 1
    *_, call, result = backend.chats[0][0]
    assert [made["function"]["name"] for made in call["tool_calls"]] == [tool]
    assert words in result["content"]
    assert answer.model == "RuleMoss-1B"


def test_what_was_found_is_handed_over_with_the_sentences_around_it(desk: Desk) -> None:
    chat, backend = assistant(desk, "I cannot say.")
    ask(chat, ROWING)
    content = backend.chats[0][0][-1]["content"]
    found = desk.toolbox.search.search(ROWING, HARBOUR, 1)[0].segments[:LONGEST_STRETCH]
    assert len(found) > 3 and all(segment.text in content for segment in found)
    times = [line.split(" ")[1] for line in content.splitlines() if line.startswith("[")][: len(found)]
    assert times == sorted(times)
    numbers = [line.split("]")[0] for line in content.splitlines() if line.startswith("[")]
    assert numbers == [f"[{number}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    "question", ["what did they say about penguins?", "what was said at minute 90?", "did they praise Bach?"]
)
def test_where_nothing_was_found_no_model_is_asked(desk: Desk, question: str) -> None:
    chat, backend = assistant(desk, "They praised penguins and Bach.")
    _, answer = ask(chat, question)
    assert backend.chats == []
    assert answer.model == "extractive"
    assert not answer.citations and "praised" not in answer.text
    assert answer.text == desk.assistant.ask(question).text


def test_what_earlier_turns_brought_can_still_be_asked_about(desk: Desk) -> None:
    chat, backend = assistant(desk, cite_rowing, "Gern: Der Ruderverein wird angerufen.")
    ask(chat, ROWING, thread="t")
    ask(chat, "Xylophon quer Zebra?", thread="t")
    assert len(backend.chats) == 2


QUESTIONS = [
    "what was said at minute 2?",
    "what did we decide about the sound stage?",
    "who calls the rowing club?",
    "and after that?",
    "write the meeting summary",
    "what are the action items?",
    "which topics are there?",
    "which recordings do you have?",
    "what happens in the first half?",
    "how much does the extra crew cost?",
]


def test_a_model_that_answers_from_what_it_is_given_is_called_once_a_question(desk: Desk) -> None:
    """It looks up what it lacks, as models do; before evidence was gathered, that took two calls and more."""

    def think(messages: Messages, tools: list[str]) -> Said:
        now = [message for message in turn_of(messages) if message["role"] == "tool"]
        lines = [line for message in now for line in message["content"].splitlines()]
        if not now:
            return SEARCH
        cited = (f"“{line.split(': ', 1)[1]}” {line.split()[0]}" for line in lines if ": " in line)
        return next(cited, "None.")

    backend = RuleBackend(think=think)
    chat = desk.with_model(ChatMossAudio(backend=backend))
    for question in QUESTIONS:
        chat.ask(question, thread="t")
    assert len(backend.chats) <= 1.1 * len(QUESTIONS)


def test_prompt_and_tools_are_short(desk: Desk) -> None:
    chat, backend = assistant(desk, "Hello!")
    ask(chat, "hello")
    prompt = backend.chats[0][0][0]["content"]
    tools = [convert_to_openai_tool(tool) for tool in build_tools(desk.toolbox)]
    assert len(backend.chats[0][1]) == len(tools)
    # With what Qwen's template puts around tools, its tokenizer counts 618 (`make test-mind` asks it).
    assert estimate_tokens(prompt) + estimate_tokens(json.dumps(tools)) < 720
