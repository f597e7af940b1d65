"""Listening again: one stretch, one question, one answer, with its times on the recording's clock."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from agent.answer import Answer
from agent.assistant import Assistant
from agent.extractive import ExtractiveChatModel
from index.clock import clock
from moss_audio.answers import Event, Options, Request
from moss_audio.errors import AudioError, MossAudioError, PromptError
from moss_audio.listening import BackendListener
from tests.conversing import HARBOUR, Desk
from tests.moss_backend import RuleBackend
from tools import Toolbox, build_tools
from tools.heard_times import ROUNDING_S, on_the_recordings_clock
from tools.listen import LONGEST_S, NEEDS_MOSS_AUDIO

WAYS = [
    "A dog barks at {} s.", "[{}] a dog", "at {} seconds, a dog", "around {} seconds",
    "after {} secs there is", "at the {}-second mark", "It is heard {} seconds into the recording.",
    "- {}s: a bell", "（{}秒）",
]  # fmt: skip
"""Ways to write a moment in seconds."""
RANGES = [
    "[{}-{}]", "from {} to {} seconds", "{}-{} seconds", "between {} and {} s", "{}s–{}s", "({} - {} s)",
    "from {} s until {} s", "{} - {}: a dog barks",
]  # fmt: skip
"""Ways to write a range in seconds."""
NO_TIMES = [
    "for 3 seconds", "It lasts 3-5 seconds.", "3.5 seconds later", "a pause of 3 seconds", "every 2 seconds",
    "music of the 80s", "see [3]", "3 dogs and 4 cats", "in 2024", "a ratio of 3 to 5", "120 bpm",
    "4.50 euros", "the first 3 seconds", "at 10:30 am", "1,200 people", "about 3 percent",
    "for about 3 to 5 seconds",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@given(start=st.floats(0, 20_000), time=st.floats(0, LONGEST_S - 1), behind=st.floats(0, LONGEST_S))
def test_a_moment_is_moved_to_the_recordings_clock(
    way: str, start: float, time: float, behind: float
) -> None:
    written = f"{time:.2f}"
    end = start + float(written) + behind
    heard = on_the_recordings_clock(way.format(written), start, end)
    assert heard.times == [pytest.approx(start + float(written))]
    assert clock(heard.times[0]) in heard.text
    assert written not in heard.text
    assert heard.beyond == []


@pytest.mark.parametrize("way", RANGES)
@given(start=st.floats(0, 20_000), times=st.tuples(st.floats(0, 290), st.floats(0, 290)))
def test_a_range_is_moved_as_one(way: str, start: float, times: tuple[float, float]) -> None:
    first, last = (f"{one:.2f}" for one in sorted(times))
    heard = on_the_recordings_clock(way.format(first, last), start, start + 300)
    assert heard.times == [pytest.approx(start + float(first)), pytest.approx(start + float(last))]
    assert [clock(one) for one in heard.times] == re.findall(r"\d+:[\d:]+\d", heard.text)


@given(start=st.integers(0, 20_000), time=st.integers(0, 599))
def test_clock_times_count_from_the_clip(start: int, time: int) -> None:
    heard = on_the_recordings_clock(f"Applause at {time // 60}:{time % 60:02d}.", start, start + 600)
    assert heard.text == f"Applause at {clock(start + time)}."


@pytest.mark.parametrize("text", NO_TIMES)
def test_lengths_and_other_numbers_stay_as_they_are(text: str) -> None:
    heard = on_the_recordings_clock(text, 120.0, 420.0)
    assert (heard.text, heard.times, heard.beyond) == (text, [], [])


@pytest.mark.parametrize("way", WAYS)
@given(length=st.floats(1, 300), over=st.floats(ROUNDING_S + 0.02, 300))
def test_a_time_beyond_the_clip_stays_and_is_told(way: str, length: float, over: float) -> None:
    text = way.format(f"{length + over:.2f}")
    heard = on_the_recordings_clock(text, 50.0, 50.0 + length)
    assert (heard.text, heard.times) == (text, [])
    assert len(heard.beyond) == 1


@given(
    st.lists(st.sampled_from([*WAYS, *NO_TIMES, "3:", "[", "]", "0:0", "12", "s", "#12", "–"]) | st.text()),
    st.floats(0, 10_000),
    st.floats(0, 600),
)
def test_any_answer_names_only_times_within_the_clip(parts: list[str], start: float, length: float) -> None:
    heard = on_the_recordings_clock(" ".join(parts).replace("{}", "7.25"), start, start + length)
    assert all(start <= one <= start + length + 1e-6 for one in heard.times)


def test_times_of_many_forms_in_one_answer_are_all_moved() -> None:
    heard = "[0.00]Hello[2.01]. A dog at 3.5 s, bells at 4.0, 5.0 and 6.0 seconds, "
    answer = heard + "music from 0:10 to 1:05 for 55 s."
    assert on_the_recordings_clock(answer, 3600.0, 3700.0).text == (
        "(1:00:00)Hello(1:00:02). A dog at 1:00:03, bells at 1:00:04, 1:00:05 and 1:00:06, "
        "music from 1:00:10 to 1:01:05 for 55 s."
    )


def test_a_listener_cannot_cite() -> None:
    assert on_the_recordings_clock("A dog [#12] barks [#3-#9].", 0, 10).text == "A dog barks."


# --- the listener -----------------------------------------------------------------------------------


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * 16_000), dtype=np.float32)


def test_the_listener_asks_one_question_about_one_clip() -> None:
    backend = RuleBackend(lambda request: "A dog barks.")
    assert BackendListener(backend).listen(silence(2), "What is heard?") == "A dog barks."
    ((request, options),) = backend.heard
    assert request.prompt == "What is heard?"
    assert [len(one) for one in request.audios] == [32_000]
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
    tools = build_tools(Toolbox(desk.library, desk.search, BackendListener(backend)))
    listen = next(one for one in tools if one.name == "listen")
    return json.loads(listen.invoke({"recording": HARBOUR, "question": "What is heard?", **arguments}))


def test_the_tool_answers_on_the_recordings_clock_with_what_was_transcribed_there(desk: Desk) -> None:
    result = use(desk, RuleBackend(lambda _: "A bell at 3.5 s [#1]."), start=120, end=180)
    assert result["answer"] == "A bell at 2:03."
    assert result["range"] == [120, 180]
    assert [one["id"] for one in result["evidence"]] == [
        one.id for one in desk.library.segments(HARBOUR, 120, 180)
    ]
    assert result["note"] == "Heard from 2:00 to 3:00."


def test_the_tool_says_which_times_cannot_be(desk: Desk) -> None:
    result = use(desk, RuleBackend(lambda _: "A bell at 75 seconds."), start=120, end=180)
    assert result["answer"] == "A bell at 75 seconds."
    assert result["note"].endswith("cannot be trusted: 75 seconds.")


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
    from tests.tiny_moss import chain, letters, writing_checkpoint

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
    ("question", "start", "end"),
    [
        ("How does she sound when he says no?", 0.0, 306.41),
        ("what music plays at the start?", 0.0, 60.0),
        ("is there a dog?", 0.0, 306.41),
        ("Is somebody laughing at 2:15?", 120.0, 150.0),
        ("what can be heard in the last 30 seconds?", 276.41, 306.41),
        ("which instruments play in minute 1?", 60.0, 120.0),
    ],
)
def test_what_only_an_ear_can_tell_is_listened_to(
    desk: Desk, question: str, start: float, end: float
) -> None:
    backend = RuleBackend(lambda _: "Yes, it says “woof” at 2.0 s [#3].")
    answer = ask(desk, backend, question)
    (step,) = answer.steps
    assert step.tool == "listen"
    assert dict(step.arguments) == {"recording": HARBOUR, "start": start, "end": end, "question": question}
    ((request, _),) = backend.heard
    assert request.prompt == question
    assert len(request.audios[0]) == pytest.approx(16_000 * (end - start), abs=1)
    assert answer.text.startswith(f"Yes, it says ‘woof’ at {clock(start + 2)}.")
    (citation,) = answer.citations
    assert citation.start < end
    assert citation.end > start


def test_a_long_recording_is_listened_to_in_stretches_side_by_side(talk: Desk) -> None:
    backend = RuleBackend(lambda request: "No dog.")
    answer = ask(talk, backend, "is there a dog?", LONG)
    spans = [(one.arguments["start"], one.arguments["end"]) for one in answer.steps]
    assert spans == [(600.0 * at, 600.0 * at + 600) for at in range(6)]
    assert answer.text.count("No dog.") == 6
    assert answer.text.endswith("name a time to hear what comes after 1:00:00.")


def test_a_moment_in_a_long_recording_is_looked_for_and_listened_to(talk: Desk) -> None:
    question = "How does she sound when he says I will never sign?"
    answer = ask(talk, RuleBackend(lambda _: "She sounds calm."), question, LONG)
    assert [one.tool for one in answer.steps] == ["search_recordings", "listen"]
    assert answer.steps[1].arguments["start"] == 3710.0
    assert answer.steps[1].arguments["end"] == 3743.0
    assert answer.text.startswith("Ben said: “No, I will never sign this paper.” [1:02:00]")
    assert "She sounds calm." in answer.text


def test_without_an_ear_nothing_more_is_asked_and_the_setting_is_named(talk: Desk) -> None:
    answer = ask(talk, None, "is there a dog?", LONG)
    assert [one.tool for one in answer.steps].count("listen") == 1
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
