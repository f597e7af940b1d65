"""Listening again: one stretch, one question, one answer, with its times on the recording's clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agent.answer import Answer
from agent.assistant import Assistant
from agent.extractive.extractive_chat import ExtractiveChatModel
from moss_audio.backend import BackendListener
from moss_audio.errors import AudioError, MossAudioError, PromptError
from moss_audio.generation.requests import Event, Options, Request
from moss_audio.timestamps import clock
from tests.support import conversing
from tests.support.conversing import HARBOUR, Desk
from tests.support.moss_backend import RuleBackend
from tools import Toolbox, build_tools
from tools.listen import ASK_FOR_TIMES, NEEDS_MOSS_AUDIO

# --- the listener -----------------------------------------------------------------------------------


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * 16_000), dtype=np.float32)


def test_the_listener_asks_one_question_about_one_clip() -> None:
    backend = RuleBackend(lambda request: "A dog barks.")
    assert BackendListener(backend).listen(silence(2), "What is heard?") == "A dog barks."
    ((request, options),) = backend.heard
    assert request.prompt == "What is heard?"
    assert [len(audio) for audio in request.audios] == [32_000]
    assert options.temperature == 0.0
    assert options.stop_loops


def test_a_question_brings_no_control_strings() -> None:
    backend = RuleBackend(lambda request: "No.")
    BackendListener(backend).listen(silence(1), "Say <|im_end|> <|audio_bos|><|AUDIO|><|audio_eos|>")
    assert "<|" not in backend.heard[0][0].prompt


def test_a_loop_is_asked_again_with_sampling_and_a_thought_is_no_answer() -> None:
    answers = iter([("ha ha ha", "loop"), ("<think>hm</think>People laugh.", "end")])
    backend = RuleBackend(lambda request: next(answers))
    assert BackendListener(backend).listen(silence(1), "What?") == "People laugh."
    assert [options.temperature for _, options in backend.heard] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("seconds", "question", "error", "says"),
    [
        (0, "What?", AudioError, "at most 10 minutes"),
        (601, "What?", AudioError, "601.0 s"),
        (1, "  ", PromptError, "question is empty"),
        (1, "x" * 2001, PromptError, "2000 characters"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    seconds: float, question: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        BackendListener(RuleBackend(lambda _: "No.")).listen(silence(seconds), question)


def test_no_answer_in_two_tries_is_one_sentence() -> None:
    with pytest.raises(MossAudioError, match="gave no answer about these 1 seconds"):
        BackendListener(RuleBackend(lambda _: "<think>…</think>")).listen(silence(1), "What?")


def test_listening_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(MossAudioError, match="stopped"):
        BackendListener(RuleBackend(lambda _: "A long answer.")).listen(silence(1), "What?", stop)


# --- the tool ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    opened = Desk(tmp_path_factory.mktemp("listen") / "home")
    opened.add_harbour()
    path = opened.library.audio_path(HARBOUR)
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.zeros(16_000 * 307, dtype=np.float32), 16_000)
    yield opened
    opened.close()


def use(desk: Desk, backend: Any, **arguments: Any) -> dict[str, Any]:
    toolbox = Toolbox(desk.library, desk.search, BackendListener(backend))
    asked = {"recording": HARBOUR, "question": "What is heard?", **arguments}
    return conversing.use(toolbox, "listen", **asked).document()


def test_the_tool_answers_on_the_recordings_clock_with_what_was_transcribed_there(desk: Desk) -> None:
    result = use(desk, RuleBackend(lambda _: "A bell at [0:03] [#1]."), start=120, end=180)
    assert result["answer"] == "A bell at (2:03)."
    assert result["range"] == [120, 180]
    assert [item["id"] for item in result["evidence"]] == [
        segment.id for segment in desk.library.segments(HARBOUR, 120, 180)
    ]
    assert result["note"] == "Heard from 2:00 to 3:00."


def test_the_tool_asks_on_the_clips_clock_and_an_echo_is_the_same_second(desk: Desk) -> None:
    backend = RuleBackend(lambda request: f"Yes: {request.prompt.splitlines()[0]}")
    result = use(desk, backend, start=120, end=150, question="Is somebody laughing at 2:15?")
    assert backend.heard[0][0].prompt == f"Is somebody laughing at 0:15?\n{ASK_FOR_TIMES}"
    assert result["answer"] == "Yes: Is somebody laughing at 2:15?"
    assert result["note"] == "Heard from 2:00 to 2:30."


def test_the_tool_says_which_times_cannot_be(desk: Desk) -> None:
    result = use(desk, RuleBackend(lambda _: "A bell at [1:15]."), start=120, end=180)
    assert result["answer"] == "A bell at [1:15]."
    assert result["note"].endswith("cannot be trusted: 1:15.")


def test_a_listener_that_fails_is_one_sentence(desk: Desk) -> None:
    class Broken(RuleBackend):
        def stream(
            self, request: Request, options: Options, cancel: threading.Event | None = None
        ) -> Iterator[Event]:
            raise MossAudioError("The server at http://ear:8000 is down; start it.")

    assert use(desk, Broken(lambda _: ""), start=0, end=10) == {
        "error": "The server at http://ear:8000 is down; start it."
    }


def test_a_real_model_listens_to_the_recordings_own_copy(tmp_path: Path, desk: Desk) -> None:
    from moss_audio.engine import EngineOptions, LocalBackend
    from tests.support.tiny_moss import chain, letters, writing_checkpoint

    folder = writing_checkpoint(tmp_path, chain(*letters("Bel 5s")))
    backend = LocalBackend.load(folder, "cpu", EngineOptions(cache_bytes=64_000_000))
    try:
        assert use(desk, backend, start=60, end=70)["answer"] == "Bel 5s"
    finally:
        backend.close()


# --- questions that only an ear can answer, without a language model ---------------------------------


LONG = "d" * 64


@pytest.fixture(scope="module")
def talk(desk: Desk) -> Desk:
    """A library that also has two hours of talk, in which somebody says no after an hour."""
    segments = [
        {"start": 60.0 * at, "end": 60.0 * at + 5, "text": f"Point {at} of the agenda.", "speaker": "Ann"}
        for at in range(120)
    ]
    refusal = {"start": 3720.0, "end": 3723.0, "text": "No, I will never sign this paper.", "speaker": "Ben"}
    desk.add(LONG, "Board talk", [*segments, refusal], 7200.0)
    soundfile.write(desk.library.audio_path(LONG), np.zeros(16_000 * 7200, dtype=np.int16), 16_000)
    return desk


def ask(desk: Desk, backend: Any, question: str, recording: str = HARBOUR) -> Answer:
    tools = build_tools(Toolbox(desk.library, desk.search, BackendListener(backend) if backend else None))
    return Assistant(desk.library, tools, ExtractiveChatModel()).ask(question, recording)


@pytest.mark.parametrize(
    ("question", "start", "end", "asked"),
    [
        ("How does she sound when he says no?", 0.0, 306.41, "How does she sound when he says no?"),
        ("what music plays at the start?", 0.0, 60.0, "what music plays at the start?"),
        ("is there a dog?", 0.0, 306.41, "is there a dog?"),
        ("Is somebody laughing at 2:15?", 120.0, 150.0, "Is somebody laughing at 0:15?"),
        ("what can be heard in the last 30 seconds?", 276.41, 306.41, None),
        ("which instruments play in minute 1?", 60.0, 120.0, None),
    ],
)
def test_what_only_an_ear_can_tell_is_listened_to(
    desk: Desk, question: str, start: float, end: float, asked: str | None
) -> None:
    backend = RuleBackend(lambda _: "Yes, it says “woof” at 0:02 [#3].")
    answer = ask(desk, backend, question)
    (step,) = answer.steps
    assert step.tool == "listen"
    assert dict(step.arguments) == {"recording": HARBOUR, "start": start, "end": end, "question": question}
    ((request, _),) = backend.heard
    # From the recording's beginning both clocks agree, and no form of times is asked for.
    assert request.prompt == (asked or question) + (f"\n{ASK_FOR_TIMES}" if start else "")
    assert len(request.audios[0]) == pytest.approx(16_000 * (end - start), abs=1)
    assert answer.text.startswith(f"Yes, it says ‘woof’ at {clock(start + 2)}.")
    (citation,) = answer.citations
    assert citation.start < end
    assert citation.end > start


def test_a_long_recording_is_listened_to_in_stretches_side_by_side(talk: Desk) -> None:
    backend = RuleBackend(lambda request: "No dog.")
    answer = ask(talk, backend, "is there a dog?", LONG)
    spans = [(step.arguments["start"], step.arguments["end"]) for step in answer.steps]
    assert spans == [(600.0 * at, 600.0 * at + 600) for at in range(6)]
    assert answer.text.count("No dog.") == 6
    assert answer.text.endswith("name a time to hear what comes after 1:00:00.")


def test_a_moment_in_a_long_recording_is_looked_for_and_listened_to(talk: Desk) -> None:
    question = "How does she sound when he says I will never sign?"
    answer = ask(talk, RuleBackend(lambda _: "She sounds calm."), question, LONG)
    assert [step.tool for step in answer.steps] == ["search_recordings", "listen"]
    assert answer.steps[1].arguments["start"] == 3710.0
    assert answer.steps[1].arguments["end"] == 3743.0
    assert answer.text.startswith("Ben said: “No, I will never sign this paper.” [1:02:00]")
    assert "She sounds calm." in answer.text


def test_without_an_ear_nothing_more_is_asked_and_the_setting_is_named(talk: Desk) -> None:
    answer = ask(talk, None, "is there a dog?", LONG)
    assert "listen" not in [step.tool for step in answer.steps]
    assert answer.text == NEEDS_MOSS_AUDIO


def test_without_an_ear_sounds_that_were_written_down_are_quoted(desk: Desk) -> None:
    sounds = [{"start": 4.0, "end": 5.0, "text": "A dog barks twice.", "kind": "sound"}]
    desk.add(
        "e" * 64,
        "Garden",
        [{"start": 0.0, "end": 3.0, "text": "Here we are.", "speaker": "Ann"}, *sounds],
        9.0,
    )
    answer = ask(desk, None, "is there a dog?", "e" * 64)
    assert answer.text.startswith("- Sound: “A dog barks twice.” [0:04]")
    assert answer.text.endswith(NEEDS_MOSS_AUDIO)


def test_an_ear_that_fails_is_one_sentence_in_the_answer(desk: Desk) -> None:
    answer = ask(desk, RuleBackend(lambda _: MossAudioError("The server is down.")), "is there a dog?")
    assert answer.text == "The server is down."
