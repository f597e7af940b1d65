"""Several files are taken in at a time where the engine is good for it, one at a time where it is not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from agent.adding import add_files
from agent.settings import Settings
from agent.workspace import FILES_AT_ONCE, Workspace, open_workspace
from index.audio.decode import SAMPLE_RATE
from index.diarization import diarize_stage
from index.recording_errors import Cancelled, MediaError, MossAgentError, WouldLoseCorrections
from index.records import Recording
from index.transcription.moss_transcriber import MossTranscriber
from tests.support.scripted_backend import ScriptedBackend, ended, excerpt
from tests.support.waiting import wait_until
from web.jobs import Jobs


@pytest.fixture
def workspace(home: Path):
    opened = open_workspace(Settings(home=home))
    # What a setting would choose, had it a checkpoint that knows the sample.
    opened.__dict__["transcriber"] = MossTranscriber(ScriptedBackend(home, 0.0, at_once=16))
    yield opened
    opened.close()


def backend_of(workspace: Workspace) -> ScriptedBackend:
    transcriber = workspace.transcriber
    assert isinstance(transcriber, MossTranscriber) and isinstance(transcriber.backend, ScriptedBackend)
    return transcriber.backend


def test_files_overlap_with_an_engine_that_batches_and_come_out_in_order(workspace, sample, tmp_path):
    files = [excerpt(sample, tmp_path / f"{at}.wav", at, at + 12) for at in (0, 100, 204)]
    (tmp_path / "broken.mp3").write_text("no sound")
    met = threading.Barrier(3, timeout=60)

    def together(asked):
        if not asked.again and not asked.careful:
            met.wait()
        return f"[0.00]Something that lasts as long as it should in a file of its own[{asked.seconds:.2f}]"

    backend_of(workspace).rule = together
    begun: list[str] = []

    def reporting(name: str):
        begun.append(name)
        return lambda _: None

    wanted = [files[0], tmp_path / "broken.mp3", *files[1:]]
    results = list(add_files(workspace, wanted, reporting))
    assert [path for path, _ in results] == wanted and sorted(begun) == sorted(file.name for file in wanted)
    assert isinstance(results[1][1], MediaError)
    assert all(
        isinstance(result, Recording) and result.status == "ready"
        for _, result in results
        if result is not results[1][1]
    )


def test_whisper_takes_one_file_at_a_time(home):
    opened = open_workspace(Settings(home=home, transcriber="tiny.en"))
    assert opened.files_at_once == 1
    opened.close()


def test_an_engine_that_batches_takes_some(workspace):
    assert workspace.files_at_once == FILES_AT_ONCE > 1


def test_leaving_early_stops_the_rest(workspace, sample, tmp_path):
    files = [excerpt(sample, tmp_path / f"{at}.wav", at, at + length) for at, length in ((0, 10), (100, 30))]
    backend, listening = backend_of(workspace), threading.Event()
    answer = backend.ask

    def ask(requests, options, cancel=None):
        if len(requests[0].audios[0]) < 14 * SAMPLE_RATE:
            return answer(requests, options, cancel)
        listening.set()  # the second file: nothing but a wish to stop ends this
        assert cancel.wait(60), "it was not stopped"
        return [ended("", "cancelled")]

    backend.ask = ask
    results = add_files(workspace, files, lambda _: lambda _: None)
    next(results)
    assert listening.wait(60)
    results.close()
    status = {recording.source_name: recording.status for recording in workspace.library.recordings()}
    assert status == {"0.wav": "ready", "100.wav": "cancelled"}


class Adder:
    """Takes files in as long as its gate is closed, and counts how many at a time."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, path, title=None, speakers=None, progress=None, cancel=None):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            while not self.gate.wait(0.02):
                if cancel.is_set():
                    raise Cancelled("Stopped.")
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_page_takes_in_as_many_files_at_a_time_as_the_engine_is_good_for(tmp_path, at_once):
    adder = Adder()
    jobs = Jobs(adder, lambda: at_once)
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(bytes([number]))
        jobs.submit(path, path.stem)
        time.sleep(0.05)
    wait_until(lambda: adder.now == at_once)
    time.sleep(0.2)
    assert adder.now == at_once and sum(job.state == "waiting" for job in jobs.list()) == 4 - at_once
    adder.gate.set()
    wait_until(lambda: not jobs.list())
    assert adder.most == at_once
    jobs.close(timeout=10)


def test_closing_stops_every_job(tmp_path):
    adder = Adder()
    jobs = Jobs(adder, lambda: 3)
    for number in range(3):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(bytes([number]))
        jobs.submit(path, path.stem)
    wait_until(lambda: adder.now == 3)
    jobs.close(timeout=10)
    assert adder.now == 0 and all(job.state == "stopped" for job in jobs.list())


def test_one_error_of_one_file_is_raised_as_it_is(workspace, tmp_path):
    (tmp_path / "broken.mp3").write_text("no sound")
    ((_, result),) = add_files(workspace, [tmp_path / "broken.mp3"], lambda _: lambda _: None)
    assert isinstance(result, MossAgentError)


def test_adding_again_changes_what_is_asked_for_and_says_so(workspace, sample, tmp_path):
    file = excerpt(sample, tmp_path / "talk.wav", 27, 64)

    def add(**asked) -> tuple[Recording, str]:
        said: list[str] = []
        wanted = (asked.get("title"), asked.get("speakers"))
        ((_, result),) = add_files(
            workspace,
            [file],
            lambda _: lambda _: None,
            *wanted,
            told=lambda _, sentence: said.append(sentence),
        )
        assert isinstance(result, Recording) and result.status == "ready"
        return result, " ".join(said)

    first, said = add(speakers=2)
    assert (first.title, len(first.speakers), said) == ("talk", 2, "")
    asked = len(backend_of(workspace).asked)
    again, said = add()
    assert again == first and "already" in said
    renamed, said = add(title="Crew")
    assert renamed.title == "Crew" and "“talk”" in said and "“Crew”" in said
    kept, said = add()
    assert kept.title == "Crew", "a file's name is no wish for a title"
    counted, said = add(speakers=3)
    assert len(counted.speakers) == 3 and "3" in said
    workspace.rename_speaker("Crew", "Speaker 1", "Anna")
    named, said = add(speakers=2)
    assert "Anna" in named.speakers and len(named.speakers) == 3
    assert "relabel-speakers" in said and "--speakers 2" in said
    assert len(backend_of(workspace).asked) == asked, "it was transcribed again"


def test_a_file_is_heard_anew_only_where_no_correction_is_lost_unsaid(workspace, sample, tmp_path):
    file = excerpt(sample, tmp_path / "talk.wav", 27, 64)
    first = workspace.add(file, "Crew")
    heard = workspace.library.segments(first.id)
    workspace.correct_sentence("Crew", heard[0].id, "The zeppelin was never mentioned.")
    workspace.give_speaker("Crew", [heard[1].id], "Zora")
    asked = len(backend_of(workspace).asked)
    for again in (workspace.add(file), workspace.add(file, speakers=3)):
        segments = workspace.library.segments(again.id)
        assert segments[0].text == "The zeppelin was never mentioned." and segments[1].speaker == "Zora"
    with pytest.raises(WouldLoseCorrections, match="2 corrections"):
        workspace.add(file, again=True)
    with pytest.raises(WouldLoseCorrections, match="1 correction"):
        workspace.relabel_speakers("Crew", 2)
    assert len(backend_of(workspace).asked) == asked
    # A track that is not there costs nothing either.
    with pytest.raises(MediaError):
        workspace.add(file, track=7, again=True, drop_corrections=True)
    assert workspace.library.segments(first.id)[1].speaker == "Zora"
    anew = workspace.add(file, again=True, drop_corrections=True)
    assert (anew.id, anew.title, anew.status) == (first.id, "Crew", "ready")
    assert [one.text for one in workspace.library.segments(first.id)] == [one.text for one in heard]
    assert workspace.correction_history("Crew") == []
    assert len(backend_of(workspace).asked) > asked
    hits = workspace.search.search("zeppelin", first.id)
    assert not any("zeppelin" in hit.text for hit in hits)


def test_a_recording_is_heard_again_from_its_audio_copy_and_loses_only_what_was_told_of(
    workspace, sample, tmp_path
):
    file = excerpt(sample, tmp_path / "talk.wav", 27, 64)
    first = workspace.add(file, "Crew")
    file.unlink()
    heard = workspace.library.segments(first.id)
    workspace.correct_sentence("Crew", heard[0].id, "The zeppelin was never mentioned.")
    workspace.add_comment("Crew", 3.0, "Stays.")
    for losing in (0, 1):
        workspace.correct_sentence("Crew", heard[1].id, f"Nor was the balloon {losing}.")
        with pytest.raises(WouldLoseCorrections):
            workspace.hear_again("Crew", losing=losing)
    assert workspace.library.segments(first.id)[0].text == "The zeppelin was never mentioned."
    anew = workspace.hear_again("Crew", losing=workspace.corrections_lost("Crew"))
    assert (anew.id, anew.title, anew.status) == (first.id, "Crew", "ready")
    assert [one.text for one in workspace.library.segments(first.id)] == [one.text for one in heard]
    assert [comment.text for comment in workspace.comments("Crew")] == ["Stays."]


def test_what_is_corrected_while_it_is_to_be_heard_anew_is_not_lost(workspace, sample, tmp_path, monkeypatch):
    file = excerpt(sample, tmp_path / "talk.wav", 27, 64)
    first = workspace.add(file, "Crew")
    heard = workspace.library.segments(first.id)
    copy = workspace.library.audio_path(first.id)
    made = copy.stat().st_ino
    prepare = workspace.transcriber.prepare

    def slowly(*args):
        workspace.correct_sentence("Crew", heard[0].id, "The zeppelin was never mentioned.")
        return prepare(*args)

    monkeypatch.setattr(workspace.transcriber, "prepare", slowly)
    with pytest.raises(WouldLoseCorrections):
        workspace.add(file, again=True)
    kept = workspace.library.segments(first.id)
    assert kept[0].text == "The zeppelin was never mentioned." and len(kept) == len(heard)
    assert workspace.recording("Crew").status == "ready" and copy.stat().st_ino == made
    assert not list(copy.parent.glob("*.again"))


@pytest.mark.parametrize("door", ["relabel", "add"])
def test_a_speaker_who_is_given_while_speakers_are_identified_again_stays(
    workspace, sample, tmp_path, monkeypatch, door
):
    file = excerpt(sample, tmp_path / "talk.wav", 27, 64)
    first = workspace.add(file, "Crew", speakers=2)
    sentence = workspace.library.segments(first.id)[0].id
    assign = diarize_stage.assign_speakers

    def slowly(*args):
        workspace.give_speaker("Crew", [sentence], "Zora")
        return assign(*args)

    monkeypatch.setattr(diarize_stage, "assign_speakers", slowly)
    if door == "relabel":
        with pytest.raises(WouldLoseCorrections):
            workspace.relabel_speakers("Crew", 3)
    else:
        said: list[str] = []
        workspace.add(file, speakers=3, told=said.append)
        assert "--drop-corrections" in said[-1]
    assert workspace.library.segments_by_id([sentence])[0].speaker == "Zora"
    assert all(item.speaker for item in workspace.library.segments(first.id))
    workspace.undo_correction("Crew")


def test_the_page_keeps_the_title_of_a_file_that_is_sent_again(workspace, sample, tmp_path):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 10)
    workspace.add(file, "Crew")
    assert workspace.add(file, "talk").title == "Crew"
