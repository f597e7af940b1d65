"""What a language model transcribes is whole or says where it is not, whatever the model does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.audio.decode import SAMPLE_RATE
from index.audio.windows import AudioWindow
from index.pipeline.ingest import Ingest
from index.recording_errors import Cancelled, HearingError
from index.records import NoteKind, Recording, Segment, Span
from index.search.vectors import Vectors
from index.store.library import Library
from index.transcription.coverage import COLLAR_SECONDS
from index.transcription.moss_transcriber import MossTranscriber
from index.transcription.whisper import WhisperTranscriber
from moss_audio.errors import CheckpointError, NotEnoughMemory, ServerError
from moss_audio.generation.requests import Reply
from moss_audio.tasks import TASKS, TimedText, official
from tests.support.indexed import embedder, kinds
from tests.support.scripted_backend import Asked, Broken, Rule, ScriptedBackend, ended, excerpt, shifted

BEGINS, ENDS = 27.0, 76.0
"""The stretch of the sample that most tests hear: 47 s of talk in three voices."""

Listen = Callable[..., tuple[Recording, ScriptedBackend]]


@pytest.fixture
def listen(library: Library, vectors: Vectors, sample: Path, tmp_path: Path) -> Listen:
    """Add a stretch of the sample, transcribed by a backend that follows a rule."""

    def add(
        rule: Rule | None = None, begins: float = BEGINS, ends: float = ENDS, name: str = "talk.wav", **more
    ) -> tuple[Recording, ScriptedBackend]:
        backend = ScriptedBackend(library.home, begins, rule)
        ingest = Ingest(library, MossTranscriber(backend), embedder(), vectors)
        path = excerpt(sample, tmp_path / name, begins, ends)
        return ingest.add(path, **more), backend

    return add


def texts(library: Library, recording: Recording) -> list[str]:
    return [segment.text for segment in library.segments(recording.id)]


def true_texts(script: list[dict], begins: float = BEGINS, ends: float = ENDS) -> list[str]:
    return [entry["text"] for entry in script if begins <= entry["start"] and entry["end"] <= ends]


# --- when all goes well -----------------------------------------------------------------------------------


def test_words_stand_in_their_places_with_speakers_and_coverage(listen, library, script):
    recording, _ = listen()
    assert recording.status == "ready" and recording.problems == ()
    assert recording.coverage > 0.99 and recording.gaps == ()
    said = {entry["text"]: entry for entry in script}
    found = library.segments(recording.id)
    assert [segment.text for segment in found] == true_texts(script)
    for segment in found:
        assert segment.start == pytest.approx(said[segment.text]["start"] - BEGINS, abs=0.1)
        assert segment.end == pytest.approx(said[segment.text]["end"] - BEGINS, abs=0.1)
        assert segment.engine == recording.engine == "moss-scripted" and segment.speaker is not None
    voices = {segment.text: segment.speaker for segment in found}
    assert voices["How much is one extra crew?"] == voices["No objection from me."]
    assert voices["How much is one extra crew?"] != voices["Four thousand two hundred for the weekend."]


def test_a_window_is_asked_about_once_greedily_and_with_room_for_all_its_words(listen):
    _, backend = listen()
    (asked,) = backend.asked
    assert asked.task == "timestamps" and not asked.careful
    assert asked.options.thinking is False and asked.options.stop_loops
    # Sentences with both their times, in the tokens of the released vocabulary: a digit is a token.
    assert asked.options.max_new_tokens > len(asked.true) / 2


def test_windows_are_one_to_three_minutes_cut_where_nobody_speaks(listen, library, script):
    recording, backend = listen(begins=0.0, ends=306.0)
    assert min(request.start for request in backend.asked) < 1
    for request in backend.asked:
        assert request.end - request.start <= MossTranscriber.max_window_seconds + 1
        assert not [line for line in script if line["start"] + 0.2 < request.start < line["end"] - 0.2]
    assert len(backend.asked) == 3 and recording.coverage > 0.99
    assert texts(library, recording) == true_texts(script, 0.0, 306.0)


def test_as_many_windows_as_the_backend_wants_are_asked_about_at_a_time(listen):
    begun: list[float] = []

    def rule(asked: Asked) -> None:
        """The first is answered when another has come, which may take a busy machine long."""
        begun.append(asked.start)
        end = time.monotonic() + 30
        while len(begun) < 2 and time.monotonic() < end:
            time.sleep(0.01)

    _, backend = listen(rule, begins=0.0, ends=306.0)
    assert backend.most_at_a_time == backend.at_once == 2


def test_windows_are_stored_as_they_are_finished_however_long_the_first_takes(listen, library):
    stored: list[float] = []

    def rule(asked: Asked) -> None:
        end = time.monotonic() + 30
        while asked.start < 1 and not stored and time.monotonic() < end:
            (recording,) = library.recordings()
            stored.extend(segment.start for segment in library.segments(recording.id))
            time.sleep(0.02)

    shown: list[float] = []
    recording, _ = listen(
        rule,
        0.0,
        306.0,
        progress=lambda progress: shown.append(progress.done) if progress.stage == "transcribing" else None,
    )
    assert stored and min(stored) > 50, "nothing was stored before the first window was heard"
    assert shown == sorted(shown) and shown[-1] == pytest.approx(recording.duration, abs=10)
    assert recording.coverage > 0.99


def test_a_long_pause_is_not_played_to_the_model_and_times_are_right_behind_it(listen, library, script):
    # Nine seconds of silence lie before "I did." at 86.52 s.
    recording, backend = listen(begins=60.0, ends=100.0)
    (asked,) = backend.asked
    assert asked.seconds < asked.end - asked.start - 6
    spoken = next(segment for segment in library.segments(recording.id) if segment.text == "I did.")
    assert spoken.start == pytest.approx(86.52 - 60, abs=0.1)


def test_whisper_keeps_the_windows_it_was_measured_with(tmp_path):
    whisper = WhisperTranscriber("base", tmp_path)
    assert (whisper.window_speech_seconds, whisper.max_window_seconds, whisper.max_splits) == (60, 300, 0)


# --- what models do, and what becomes of it ----------------------------------------------------------------


def first_half(asked: Asked) -> str:
    return official([part for part in asked.parts if part.end < asked.seconds / 2])


def test_a_model_that_stops_half_way_is_asked_again_with_temperature(listen, library, script):
    recording, backend = listen(lambda asked: None if asked.careful else first_half(asked))
    assert texts(library, recording) == true_texts(script) and recording.gaps == ()
    first, second = backend.asked
    assert not first.careful and second.careful and second.options.seed is not None
    assert (first.start, first.end) == (second.start, second.end)


def test_a_model_that_stops_half_way_each_time_hears_the_halves(listen, library, script):
    def stops_after(asked: Asked) -> str | None:
        return first_half(asked) if asked.seconds > 30 else None

    recording, backend = listen(stops_after)
    assert texts(library, recording) == true_texts(script) and recording.gaps == ()
    whole, again, *halves = backend.asked
    assert again.careful and (whole.start, whole.end) == (again.start, again.end)
    # What was heard at once is not asked about again. The second half is still too long, so it is halved too.
    assert not any(half.careful for half in halves) and len(halves) == 3
    assert all(half.start > whole.start + 10 and half.seconds < 0.75 * whole.seconds for half in halves)


def test_what_nothing_helps_against_is_a_gap_and_nothing_is_claimed_for_it(listen, library, script):
    def hears_nothing_after_20_s(asked: Asked) -> str:
        return official([part for part in asked.parts if asked.start + part.end < 20])

    recording, backend = listen(hears_nothing_after_20_s)
    assert recording.status == "ready" and recording.coverage < 0.5
    assert min(gap.start for gap in recording.gaps) > 16
    assert sum(gap.duration for gap in recording.gaps) > 18
    assert max(segment.end for segment in library.segments(recording.id)) < 20
    # A window is not asked about for ever.
    assert sum(request.seconds for request in backend.asked) < 6 * backend.asked[0].seconds


def test_a_sentence_left_out_is_heard_on_its_own(listen, library, script):
    left_out = "Then we've decided: we pay for the extra ferry crew."

    def forgets(asked: Asked) -> str | None:
        if asked.seconds < 15:
            return None
        return official([part for part in asked.parts if part.text != left_out])

    recording, backend = listen(forgets)
    assert texts(library, recording) == true_texts(script)
    _, alone = backend.asked
    assert alone.careful and alone.seconds < 6 and alone.start > 60 - BEGINS


def test_a_loop_does_not_account_for_the_speech_under_it(listen, library, script):
    def loops(asked: Asked) -> Reply | None:
        if asked.careful:
            return None
        kept = official(asked.parts[:3])
        return ended(f"{kept}[{asked.parts[2].end:.2f}]{'and so on ' * 60}[{asked.seconds:.2f}]", "loop")

    recording, _ = listen(loops)
    assert texts(library, recording) == true_texts(script) and recording.gaps == ()


def test_a_loop_that_comes_each_time_is_a_gap(listen, library):
    def loops(asked: Asked) -> Reply:
        return ended("[0.10]" + "we go " * 80, "loop")

    recording, _ = listen(loops)
    assert recording.coverage < 0.4 and recording.gaps
    assert not [segment for segment in library.segments(recording.id) if segment.end - segment.start > 6]


@pytest.mark.parametrize(
    "stamps",
    [
        lambda at, part: (5.0, 5.0),
        lambda at, part: (0.0, part.end),
        lambda at, part: (3.0 + at / 100, 3.01 + at / 100),
        lambda at, part: (10.0, 10.5),
    ],
    ids=["all at one second", "all from the start on", "a hundredth each", "all in half a second"],
)
def test_times_that_do_not_advance_are_not_believed(listen, library, script, stamps):
    def stalled(asked: Asked) -> str | None:
        if asked.careful:
            return None
        times = [stamps(at, part) for at, part in enumerate(asked.parts)]
        return official([TimedText(a, b, part.text) for (a, b), part in zip(times, asked.parts, strict=True)])

    recording, backend = listen(stalled)
    assert [request.careful for request in backend.asked] == [False, True]
    found = texts(library, recording)
    assert found == true_texts(script) and recording.gaps == ()


def test_sentences_that_no_time_is_left_for_are_never_stored(listen, library):
    """The clock stands still in the middle, each time: four sentences in half a second, four at once."""

    def stands_still(asked: Asked) -> str:
        told = []
        for at, part in enumerate(asked.parts):
            if 4 <= at < 8:
                part = TimedText(
                    asked.parts[3].end + 0.1 * at, asked.parts[3].end + 0.1 * at + 0.1, part.text
                )
            elif 9 <= at < 13:
                part = TimedText(asked.parts[8].start, part.end, part.text)
            told.append(part)
        return official(told)

    recording, _ = listen(stands_still)
    found = library.segments(recording.id)
    starts = [segment.start for segment in found]
    assert all(starts.count(start) < 3 for start in starts)
    assert all(len(segment.text.split()) <= 10 * (segment.end - segment.start) + 5 for segment in found)


def test_times_beyond_the_window_are_heard_again_and_never_stored(listen, library, script):
    def late(asked: Asked) -> str | None:
        return None if asked.careful else official(shifted(asked.parts, asked.seconds * 0.6))

    recording, _ = listen(late)
    assert all(segment.end <= recording.duration for segment in library.segments(recording.id))
    assert recording.gaps == () and recording.coverage > 0.99


def test_a_last_sentence_stretched_to_the_end_does_not_hide_what_is_missing(listen, library, script):
    def pretends(asked: Asked) -> str | None:
        if asked.careful:
            return None
        first, second, *_ = asked.parts
        return official([first, TimedText(second.start, asked.seconds, second.text)])

    recording, backend = listen(pretends)
    assert len(backend.asked) == 2, "it must have noticed"
    assert texts(library, recording) == true_texts(script)


def test_an_answer_cut_in_the_middle_of_a_sentence_is_completed(listen, library, script):
    def cut_off(asked: Asked) -> Reply | None:
        if asked.again or asked.careful or asked.seconds < 30:
            return None
        return ended(asked.true[: asked.true.index("by Friday")], "length")

    recording, _ = listen(cut_off)
    found = texts(library, recording)
    assert "Ben, please confirm with the operator by Friday." in found
    assert "Ben, please confirm with the operator" not in found
    assert found == true_texts(script)


def test_text_where_nobody_speaks_is_not_taken(listen, library):
    """Nine seconds of silence lie between “… the quotes.” and “I did.”; two of them are played."""

    def invents(asked: Asked) -> str:
        at = next(number for number, part in enumerate(asked.parts) if part.text == "I did.")
        before, after = asked.parts[at - 1], asked.parts[at]
        middle = (before.end + after.start) / 2
        invented = TimedText(middle - 0.2, middle + 0.2, "Thanks for watching!")
        return official([*asked.parts[:at], invented, *asked.parts[at:]])

    recording, _ = listen(invents, begins=60.0, ends=100.0)
    found = texts(library, recording)
    assert "I did." in found and "Thanks for watching!" not in found


def test_thought_fences_and_explanations_are_no_speech(listen, library, script):
    def wrapped(asked: Asked) -> str:
        return f"<think>\nThree voices.\n</think>\n\nHere is the transcript:\n```\n{asked.true}\n```\nDone."

    recording, _ = listen(wrapped)
    assert texts(library, recording) == true_texts(script)


def test_several_sentences_in_one_part_become_segments_of_their_own(listen, library, script):
    def lumps(asked: Asked) -> str:
        pairs = zip(asked.parts[::2], asked.parts[1::2], strict=False)
        return official([TimedText(a.start, b.end, f"{a.text} {b.text}") for a, b in pairs])

    recording, _ = listen(lumps, begins=27.4, ends=69.0)
    said = {entry["text"]: entry["start"] - 27.4 for entry in script}
    found = library.segments(recording.id)
    assert "How much is one extra crew?" in [segment.text for segment in found]
    for segment in found:
        assert segment.text in said and segment.start == pytest.approx(said[segment.text], abs=1.0)


# --- when the engine fails ---------------------------------------------------------------------------------


def fails_at(second: float, times: int = 99) -> Rule:
    def rule(asked: Asked) -> Exception | None:
        return (
            Broken("The server broke down.")
            if asked.start <= second < asked.end and asked.again < times
            else None
        )

    return rule


def test_a_failure_that_passes_is_not_noticed(listen, library, script):
    recording, backend = listen(fails_at(10.0, times=1))
    assert recording.problems == () and recording.gaps == ()
    assert texts(library, recording) == true_texts(script) and len(backend.asked) == 2


def test_what_would_fail_again_is_not_asked_again(listen, library):
    def once(asked: Asked) -> Exception | None:
        return CheckpointError("The weights are damaged.") if not asked.again else None

    with pytest.raises(HearingError, match="weights are damaged"):
        listen(once)
    assert library.recordings()[0].status == "failed"


REFUSALS = [
    NotEnoughMemory("This request can take 9,000 tokens, and the engine holds 4,000."),
    ServerError("The request was too large for the server at box (413).", "too-long"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["engine", "server"])
def test_what_is_longer_than_the_engine_takes_is_heard_in_halves(listen, library, script, refusal):
    """A server that takes 375 tokens of audio takes thirty seconds; this one, as a window of 47 s, ten."""
    recording, backend = listen(lambda asked: refusal if asked.seconds > 10 else None)
    assert recording.status == "ready" and recording.problems == () and recording.gaps == ()
    assert texts(library, recording) == true_texts(script)
    assert len([request for request in backend.asked if request.seconds > 10]) < 8
    assert not any(request.again or request.careful for request in backend.asked)


def test_what_is_too_long_however_short_is_a_recording_that_failed(listen, library):
    with pytest.raises(HearingError, match="holds 4,000"):
        listen(lambda _: REFUSALS[0])
    assert library.recordings()[0].status == "failed"


def test_what_is_heard_of_a_refused_window_is_kept_when_the_engine_breaks_down(listen, library, script):
    def rule(asked: Asked) -> Exception | None:
        if asked.seconds > 30:
            return REFUSALS[0]
        return Broken("The server broke down.") if asked.start > 5 else None

    recording, _ = listen(rule)
    assert recording.status == "ready" and kinds(recording) == [NoteKind.NOT_HEARD_AGAIN]
    assert recording.notes[0].detail == "The server broke down."
    found = texts(library, recording)
    assert found and found == true_texts(script)[: len(found)] and recording.gaps


def test_a_window_that_fails_twice_is_a_gap_with_a_note_and_is_heard_when_added_again(
    listen, library, script
):
    recording, backend = listen(fails_at(100.0), begins=0.0, ends=306.0)
    assert recording.status == "ready"
    (note,) = recording.notes
    assert note.kind == NoteKind.WINDOWS_FAILED and note.numbers == {"failed": 1, "total": 3}
    assert note.detail == "The server broke down." and note.spans[0].overlaps(recording.gaps[0])
    assert recording.gaps and all(gap.start > 80 and gap.end < 182 for gap in recording.gaps)
    assert recording.coverage < 0.8
    kept = library.segments(recording.id)
    library.rename_speaker(recording.id, "Speaker 1", "Anna")

    recording, backend = listen(begins=0.0, ends=306.0)
    assert recording.problems == () and recording.gaps == () and recording.coverage > 0.99
    assert len(backend.asked) == 1 and backend.asked[0].start > 80
    found = library.segments(recording.id)
    assert [segment.text for segment in found] == true_texts(script, 0.0, 306.0)
    assert {segment.id for segment in kept} <= {segment.id for segment in found}
    assert "Anna" in recording.speakers, "names that the user gave stay"
    names = {entry["text"]: entry["speaker"] for entry in script}
    said_by = {(segment.speaker, names[segment.text]) for segment in found}
    assert said_by == {("Anna", "Anna"), ("Speaker 2", "Ben"), ("Speaker 3", "Callum")}


@pytest.mark.parametrize("error", [Broken("The server broke down."), RuntimeError("CUDA error")])
def test_a_recording_of_which_nothing_could_be_heard_has_failed_and_can_be_added_again(
    listen, library, script, error
):
    with pytest.raises(HearingError, match=str(error).rstrip(".")):
        listen(lambda _: error)
    (recording,) = library.recordings()
    assert recording.status == "failed" and str(error) in recording.failure.detail
    recording, _ = listen()
    assert recording.status == "ready" and recording.problems == ()
    assert texts(library, recording) == true_texts(script)


def test_an_engine_that_is_gone_is_not_asked_for_every_window(library, sample, tmp_path):
    backend = ScriptedBackend(
        library.home,
        rule=lambda asked: Broken("Connection refused.") if asked.start > 50 else None,
        at_once=1,
    )
    transcriber = MossTranscriber(backend)
    transcriber.window_speech_seconds = 12.0
    ingest = Ingest(library, transcriber, embedder(), Vectors(library.home / "vectors", embedder()))
    with pytest.raises(HearingError, match=r"stopped answering at .*Connection refused.*add the file"):
        ingest.add(sample)
    (recording,) = library.recordings()
    assert recording.status == "failed" and len(library.segments(recording.id)) > 8
    assert recording.failure.kind == NoteKind.ENGINE_STOPPED and recording.failure.spans[0].start > 50
    assert recording.failure.detail == "Connection refused."
    assert len([request for request in backend.asked if request.start > 50]) <= 14


def test_what_was_heard_is_kept_when_hearing_the_rest_again_fails(listen, library):
    def rule(asked: Asked) -> str | Exception:
        return first_half(asked) if not asked.careful else Broken("Out of memory.")

    recording, _ = listen(rule)
    assert recording.status == "ready" and "Out of memory" in recording.notes[0].detail
    assert texts(library, recording) and recording.gaps


def test_cancel_does_not_wait_for_the_answer(listen, library):
    cancel = threading.Event()

    def rule(asked: Asked) -> Reply:
        cancel.set()
        time.sleep(0.2)
        return ended(first_half(asked), "cancelled")

    with pytest.raises(Cancelled):
        listen(rule, cancel=cancel)
    (recording,) = library.recordings()
    assert recording.status == "cancelled" and library.segments(recording.id) == []


# --- several recordings ------------------------------------------------------------------------------------


def test_recordings_added_at_a_time_share_the_engine_and_each_gets_its_own_words(library, sample, tmp_path):
    backend = ScriptedBackend(library.home, 0.0, at_once=3)
    places = {"a.wav": 27.0, "b.wav": 100.0, "c.wav": 204.0}
    files = {name: excerpt(sample, tmp_path / name, at, at + 20) for name, at in places.items()}
    begun = threading.Barrier(3, timeout=60)

    def together(asked: Asked) -> str:
        begun.wait()  # comes back only when all three are asked about at a time
        return official(
            [TimedText(2 * at, 2 * at + 2, sentence.text) for at, sentence in enumerate(backend.said[:10])]
        )

    backend.rule = together
    ingest = Ingest(library, MossTranscriber(backend), embedder(), Vectors(library.home / "v", embedder()))
    results: dict[str, Recording | BaseException] = {}

    def add(name: str) -> None:
        try:
            results[name] = ingest.add(files[name])
        except BaseException as error:
            results[name] = error

    threads = [threading.Thread(target=add, args=(name,)) for name in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(isinstance(result, Recording) and result.status == "ready" for result in results.values()), (
        results
    )
    assert backend.most_at_a_time == 3 == len(backend.asked)


def test_the_same_file_added_twice_at_a_time_is_heard_once(library, sample, tmp_path):
    backend = ScriptedBackend(library.home, BEGINS)
    ingest = Ingest(library, MossTranscriber(backend), embedder(), Vectors(library.home / "v", embedder()))
    path = excerpt(sample, tmp_path / "a.wav", BEGINS, BEGINS + 20)
    done: list[Recording] = []
    threads = [threading.Thread(target=lambda: done.append(ingest.add(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(backend.asked) == 1 and len(done) == 2 and done[0] == done[1]


# --- any text at all ---------------------------------------------------------------------------------------


class Says(ScriptedBackend):
    """Says one thing, whatever it hears."""

    def __init__(self, text: str) -> None:
        super().__init__(Path())
        self.text = text

    def ask(self, requests, options, cancel=None):
        return [ended(self.text) for _ in requests]


_times = st.floats(-5, 70).map(lambda time: f"[{time:.2f}]") | st.sampled_from(
    ["[1:02]", "[9999999]", "[5.00]"]
)
_words = st.sampled_from(
    ["hello", "we go. And then we", "no no no no no no no no no no", "好的。我们走吧。", " ", "\n"]
)
_answers = st.lists(_times | _words, max_size=24).map("".join) | st.text(max_size=80)


@given(_answers, st.lists(st.tuples(st.floats(0.2, 6), st.floats(0.0, 8)), min_size=1, max_size=8))
def test_whatever_is_written_segments_lie_in_the_window_in_order_and_claim_no_more_than_words_can_take(
    answer, rhythm
):
    speech, clock = [], 100.0
    for length, pause in rhythm:
        speech.append(Span(clock, clock + length))
        clock += length + pause
    window = AudioWindow(np.zeros(round((clock - 100) * SAMPLE_RATE), np.float32), 100.0, tuple(speech))
    found = MossTranscriber(Says(answer)).transcribe(window)
    assert [(segment.start, segment.end) for segment in found] == sorted(
        (segment.start, segment.end) for segment in found
    )
    for segment in found:
        assert 100.0 <= segment.start < segment.end <= window.end + 0.001 and segment.text.strip()
        assert segment.words == (), "no word has a time that was not heard"
        assert spoken_in(segment, speech) <= 2.5 + 1.3 * max(len(segment.text), 1)


def spoken_in(segment: Segment, speech: list[Span]) -> float:
    return sum(max(0.0, min(span.end, segment.end) - max(span.start, segment.start)) for span in speech)


def test_speech_within_the_collar_of_a_sentence_counts_as_heard(listen, library):
    def short(asked: Asked) -> str:
        return official([TimedText(part.start + 0.3, part.end - 0.2, part.text) for part in asked.parts])

    recording, backend = listen(short)
    assert COLLAR_SECONDS > 0.3 and len(backend.asked) == 1
    assert recording.coverage > 0.98 and recording.gaps == ()


def test_the_prompt_is_the_one_the_model_was_evaluated_with(listen):
    _, backend = listen(begins=27, ends=33)
    assert backend.asked[0].task == "timestamps" and "[xx.xx]text[yy.yy]" in TASKS["timestamps"].prompt
