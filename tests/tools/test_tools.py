"""The tools: exact evidence, one-sentence errors, and nothing relevant meaning no evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.recording_errors import MossAgentError
from moss_audio.timestamps import clock
from tests.support import conversing
from tests.support.conversing import DURATION, HARBOUR, TITLE, Desk, call, heard, said
from tools import Toolbox, build_tools
from tools.listen import NEEDS_MOSS_AUDIO, listen
from tools.read_transcript import known_speaker
from tools.result import MOST_EVIDENCE, RESULTS, restore


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("tools"))
    made.add_harbour()
    made.add(
        "b" * 64, "Long talk", [said(2.0 * at, 2.0 * at + 1.5, f"Sentence {at}.") for at in range(200)], 400.0
    )
    made.add(
        "c" * 64, "Torn call", [said(0.0, 3.0, "We begin.")], 30.0, gaps=[[10.0, 14.0]], status="listening"
    )
    made.add("d" * 64, "Silence", [], 60.0)
    yield made
    made.close()


class Loudness:
    """A listener that tells how many samples it heard and how loud they were."""

    def listen(self, audio: np.ndarray, question: str, cancel: Any = None) -> str:
        return f"{len(audio)} samples, peak {np.abs(audio).max():.0%}: {question}"


def hearing(desk: Desk) -> Toolbox:
    """The desk's stores with something that can listen."""
    return Toolbox(desk.library, desk.search, Loudness())


def use(desk: Desk, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's result as JSON."""
    return conversing.use(hearing(desk), tool, **arguments).document()


def overlapping(start: float, end: float) -> list[str]:
    return [row["text"] for row in heard() if row["start"] < end and row["end"] > start]


def test_read_transcript_returns_exactly_the_overlapping_segments(desk: Desk) -> None:
    result = use(desk, "read_transcript", recording=HARBOUR, start=120, end=180)
    assert [item["text"] for item in result["evidence"]] == overlapping(120, 180)
    assert result["range"] == [120, 180]
    assert result["recording"] == {"id": HARBOUR, "title": TITLE, "duration": DURATION}
    first = result["evidence"][0]
    assert set(first) == {"id", "recording", "start", "end", "speaker", "kind", "text"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 400), st.floats(0.01, 120))
def test_any_stretch_is_read_exactly(desk: Desk, start: float, length: float) -> None:
    result = use(desk, "read_transcript", recording=HARBOUR, start=start, end=start + length)
    expected = overlapping(start, min(start + length, DURATION)) if start < DURATION else []
    assert [item["text"] for item in result["evidence"]] == expected[:MOST_EVIDENCE]
    assert result["total"] == len(expected)


def test_times_may_be_written_as_clock_times(desk: Desk) -> None:
    as_text = use(
        desk, "read_transcript", recording="harbour lights PLANNING call", start="2:00", end="0:03:00"
    )
    assert as_text == use(desk, "read_transcript", recording="aaaa", start=120, end=180)


def test_a_stretch_beyond_the_end_says_how_long_the_recording_is(desk: Desk) -> None:
    result = use(desk, "read_transcript", recording=HARBOUR, start=720, end=780)
    assert result["evidence"] == []
    assert "5:06 long" in result["note"]


def test_a_long_stretch_is_cut_and_says_how_much_is_left(desk: Desk) -> None:
    result = use(desk, "read_transcript", recording="Long talk", start=0, end=400)
    assert len(result["evidence"]) == MOST_EVIDENCE
    assert result["total"] == 200
    assert "140 more segments follow 1:59" in result["note"]


def test_gaps_and_unfinished_transcripts_are_said(desk: Desk) -> None:
    note = use(desk, "read_transcript", recording="Torn call", start=0, end=20)["note"]
    assert "from 0:10 to 0:14 could be heard but not transcribed" in note
    assert "still being transcribed" in note


def test_only_one_voice_can_be_read(desk: Desk) -> None:
    result = use(desk, "read_transcript", recording=HARBOUR, start=60, end=120, speaker="speaker 3")
    assert {item["speaker"] for item in result["evidence"]} == {"Speaker 3"}
    unknown = use(desk, "read_transcript", recording=HARBOUR, start=60, end=120, speaker="Zoe")
    assert "Speaker 1, Speaker 2, Speaker 3" in unknown["error"]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("read_transcript", {"recording": "nothing", "start": 0, "end": 1}, "no recording"),
        ("read_transcript", {"recording": HARBOUR, "start": 5, "end": 5}, "after its start"),
        ("read_transcript", {"recording": HARBOUR, "start": -1, "end": 5}, "start"),
        ("read_transcript", {"recording": HARBOUR, "start": "soon", "end": 5}, "start"),
        ("read_transcript", {"recording": HARBOUR, "start": float("nan"), "end": 5}, "start"),
        ("read_transcript", {"recording": HARBOUR, "start": "a:b", "end": 5}, "start"),
        ("read_transcript", {"recording": HARBOUR}, "start"),
        ("search_recordings", {"query": "  "}, "empty"),
        ("search_recordings", {"query": "x", "recording": "nothing"}, "no recording"),
        ("search_recordings", {"query": "x", "speaker": "Speaker 1"}, "recording"),
        ("outline", {"recording": "Silence"}, "no speech"),
        ("summarize", {"recording": "Silence"}, "no speech"),
        ("summarize", {"recording": HARBOUR, "template": "poem"}, "template"),
        ("listen", {"recording": HARBOUR, "start": 400, "end": 500, "question": "?"}, "5:06 long"),
    ],
)
def test_errors_are_one_sentence(desk: Desk, tool: str, arguments: dict[str, Any], says: str) -> None:
    result = use(desk, tool, **arguments)
    assert list(result) == ["error"]
    assert says in result["error"]
    assert "\n" not in result["error"]


def test_search_returns_relevant_evidence_best_first(desk: Desk) -> None:
    result = use(desk, "search_recordings", query="who will call the rowing club?", recording=HARBOUR)
    assert "call the rowing club" in result["evidence"][0]["text"]
    relevances = [item["relevance"] for item in result["evidence"]]
    assert relevances == sorted(relevances, reverse=True)
    ids = {item["id"] for item in result["evidence"]}
    assert {item for passage in result["passages"] for item in passage["evidence"]} == ids


def test_a_question_brings_the_reply_it_got(desk: Desk) -> None:
    result = use(desk, "search_recordings", query="how much does the extra crew cost?", recording=HARBOUR)
    by_id = {item["id"]: item for item in result["evidence"]}
    reply = next(item for item in result["evidence"] if item["text"] == "4,200 for the weekend.")
    assert by_id[reply["reply_to"]]["text"] == "How much is one extra crew?"


@pytest.mark.parametrize(
    "query", ["penguins", "what did they say about penguins?", "who won the football match?"]
)
def test_nothing_relevant_is_no_evidence(desk: Desk, query: str) -> None:
    result = use(desk, "search_recordings", query=query)
    assert result["evidence"] == result["passages"] == []
    assert "Nothing relevant" in result["note"]


def test_where_nothing_answers_it_is_told_where_the_question_s_rare_words_are_said(desk: Desk) -> None:
    result = use(desk, "search_recordings", query="what colour is the barge painted?", recording=HARBOUR)
    places = [clock(row["start"]) for row in heard() if "barge" in row["text"]]
    assert result["evidence"] == [] and len(places) == 2
    assert re.findall(r"\d+:\d\d", result["note"]) == places
    # Of what all of the talk is about, no place helps.
    result = use(desk, "search_recordings", query="which volunteers won the penguin race?", recording=HARBOUR)
    assert result["evidence"] == [] and "volunteers" not in result["note"]


def test_a_word_within_writing_without_spaces_has_its_place_told_as_well(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    lines = (
        "我们明天坐渡轮去岛上",
        "The budget is ten thousand.",
        "Who signs the contract?",
        "Ben will sign it.",
    )
    rows = [said(3.0 * at, 3.0 * at + 2.5, text) for at, text in enumerate(lines)]
    desk.add("e" * 64, "Island", rows, 12.0)
    query = "which football player bought the 渡轮?"
    result = use(desk, "search_recordings", query=query, recording="e" * 64)
    desk.close()
    assert result["evidence"] == [] and re.findall(r"\d+:\d\d", result["note"]) == ["0:00"]


def test_words_said_exactly_so_are_found_however_common_they_are(desk: Desk) -> None:
    result = use(desk, "search_recordings", query="Good idea!", recording=HARBOUR)
    assert result["evidence"][0]["text"].startswith("Good idea, I'll call")
    assert result["evidence"][0]["relevance"] == 1.0


def test_search_can_be_kept_to_one_voice(desk: Desk) -> None:
    result = use(desk, "search_recordings", query="the app", recording=HARBOUR, speaker="Speaker 2")
    assert {item["speaker"] for item in result["evidence"]} == {"Speaker 2"}


@pytest.mark.parametrize("name", ["speaker 2", "Julie", "morgan", "E"])
def test_a_speaker_is_known_by_a_part_of_the_name_that_is_theirs_alone(desk: Desk, name: str) -> None:
    known = {"speaker 2": "Speaker 2", "E": "Grad E"}.get(name, "Julie Morgan")
    voices = ("Speaker 1", "Speaker 2", "Julie Morgan", "Grad A", "Grad E")
    recording = replace(desk.library.recording(HARBOUR), speakers=voices)
    assert known_speaker(recording, name) == known
    with pytest.raises(MossAgentError):
        known_speaker(recording, "Grad")


def test_list_recordings_tells_what_there_is(desk: Desk) -> None:
    result = use(desk, "list_recordings")
    assert result["total"] == 4
    call = next(entry for entry in result["recordings"] if entry["id"] == HARBOUR)
    assert (call["title"], call["duration"], call["language"]) == (TITLE, DURATION, "en")
    assert call["speakers"] == ["Speaker 1", "Speaker 2", "Speaker 3"]


def test_of_one_recording_is_told_how_long_each_speaker_speaks(desk: Desk) -> None:
    (entry,) = use(desk, "list_recordings", recording=TITLE)["recordings"]
    spoken = dict.fromkeys(entry["speakers"], 0.0)
    for segment in desk.library.segments(HARBOUR):
        spoken[str(segment.speaker)] += segment.end - segment.start
    assert entry["speaking"] == pytest.approx(spoken, abs=0.01)


def test_outline_covers_the_recording_in_order_with_evidence(desk: Desk) -> None:
    result = use(desk, "outline", recording=HARBOUR)
    starts = [topic["start"] for topic in result["topics"]]
    assert len(starts) >= 4
    assert starts == sorted(starts)
    ids = {item["id"] for item in result["evidence"]}
    assert all(topic["evidence"] and set(topic["evidence"]) <= ids for topic in result["topics"])


def test_summarize_gives_the_designs_json_and_the_segments_it_rests_on(desk: Desk) -> None:
    result = use(desk, "summarize", recording=HARBOUR, template="meeting")
    summary = result["summary"]
    assert {"template", "overview", "topics", "decisions", "action_items", "open_questions"} <= set(summary)
    known = {item["id"]: item["text"] for item in result["evidence"]}
    for item in [*summary["decisions"], *summary["action_items"], *summary["open_questions"]]:
        words = " ".join(known[segment] for segment in item["segments"])
        assert item["text"] in words


def test_a_renamed_speaker_is_renamed_in_the_next_summary(desk: Desk) -> None:
    before = use(desk, "summarize", recording=HARBOUR)
    assert use(desk, "summarize", recording=HARBOUR) == before
    desk.library.rename_speaker(HARBOUR, "Speaker 3", "Callum")
    try:
        after = use(desk, "summarize", recording=HARBOUR)
        assert "Callum" in {item["speaker"] for item in after["evidence"]}
    finally:
        desk.library.rename_speaker(HARBOUR, "Callum", "Speaker 3")


def test_what_nothing_here_can_serve_is_not_offered(desk: Desk) -> None:
    names = {tool.name for tool in build_tools(desk.toolbox)}
    assert names == RESULTS.keys() - {"listen"}
    assert {tool.name for tool in build_tools(hearing(desk))} == RESULTS.keys()


def test_listening_without_a_listener_names_the_setting_in_one_sentence(desk: Desk) -> None:
    with pytest.raises(MossAgentError) as error:
        listen(desk.toolbox, HARBOUR, 0, 60, "Is there music?")
    assert str(error.value) == NEEDS_MOSS_AUDIO
    assert "MOSS_AGENT_MODEL" in NEEDS_MOSS_AUDIO
    assert NEEDS_MOSS_AUDIO.count(". ") == 0


def test_listen_hands_exactly_that_stretch_to_the_listener(desk: Desk) -> None:
    path = desk.library.audio_path(HARBOUR)
    path.parent.mkdir(exist_ok=True)
    samples = np.zeros(16000 * 20, dtype=np.float32)
    samples[16000 * 10 : 16000 * 12] = 0.5
    soundfile.write(path, samples, 16000)
    ask = {"recording": HARBOUR, "start": 10, "end": 12, "question": "how loud?"}
    assert use(desk, "listen", **ask)["answer"].startswith("32000 samples, peak 50%: how loud?")
    missing = use(desk, "listen", **{**ask, "recording": "Long talk"})
    assert "add the file again" in missing["error"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read_transcript", {"recording": HARBOUR, "start": 60, "end": 120}),
        ("read_transcript", {"recording": "Torn call", "start": 0, "end": 20}),
        ("search_recordings", {"query": "who will call the rowing club?"}),
        ("search_recordings", {"query": "penguins"}),
        ("list_recordings", {}),
        ("outline", {"recording": HARBOUR}),
        ("summarize", {"recording": HARBOUR}),
        ("read_transcript", {"recording": "nothing", "start": 0, "end": 1}),
    ],
)
def test_a_message_carries_text_for_the_model_and_a_result_that_can_be_stored(
    desk: Desk, tool: str, arguments: dict[str, Any]
) -> None:
    (chosen,) = (known for known in build_tools(desk.toolbox) if known.name == tool)
    message = chosen.invoke(call(tool, **arguments))
    result = conversing.use(desk.toolbox, tool, **arguments)
    for item in result.evidence:
        # Of a topic its ends are named; what else can be cited stands there in full.
        ends = tool in ("outline", "summarize") and re.search(rf"#{item.id}\b[-\]]", message.text)
        assert ends or (f"[#{item.id}] " in message.text and item.text in message.text)
    assert HARBOUR not in message.text
    stored = message.model_dump()["artifact"]
    assert restore(tool, stored, message.text) == result
