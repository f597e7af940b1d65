"""Transcripts that were made elsewhere are asked, searched and summarised as what is heard here is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.settings import Settings
from agent.workspace import open_workspace
from index.export.formats import export
from index.recording_errors import InvalidInput, MediaError, MossAgentError, TranscriptError, WeightsError
from index.records import NoteKind, Recording, Segment, Status
from tests.index.test_voice_label_migration import revise
from tests.servers import postgres
from tests.support.indexed import kinds, open_library, store
from tests.support.scripted_backend import excerpt

START, END = 115.0, 185.0
"""The part of the sample that is played: seventy seconds with a decision and a task in it."""


@pytest.fixture(params=["sqlite", "postgresql"])
def workspace(home: Path, request: pytest.FixtureRequest):
    url = postgres().new_database() if request.param == "postgresql" else None
    opened = open_workspace(Settings(home=home, database=url))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def media(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return excerpt(sample, tmp_path_factory.mktemp("media") / "talk.wav", START, END)


@pytest.fixture
def talk(script: list[dict]) -> list[Segment]:
    """What is said in that part, as it was written, on its clock."""
    return [
        Segment(one["start"] - START, one["end"] - START, one["text"], speaker=one["speaker"])
        for one in script
        if one["start"] >= START and one["end"] <= END
    ]


def written(folder: Path, segments: list[Segment], name: str, later: float = 0.0, named: bool = True) -> Path:
    """A transcript file, on a clock that began so much earlier."""
    moved = [
        Segment(one.start + later, one.end + later, one.text, speaker=one.speaker if named else None)
        for one in segments
    ]
    recording = Recording("0" * 64, "Talk", "talk.wav", moved[-1].end, Status.READY, "2026-01-01")
    path = folder / name
    path.write_bytes(export(recording, moved, path.suffix[1:]))
    return path


def test_a_transcript_without_media_is_asked_searched_summarised_and_exported(workspace, talk, tmp_path):
    recording = workspace.import_transcript(written(tmp_path, talk, "talk.vtt"))
    with pytest.raises(InvalidInput, match="without its media"):
        workspace.listen("talk", 0.0, 4.0, "Who speaks?")
    assert (recording.status, recording.imported, recording.has_media) == ("ready", "vtt", False)
    assert set(recording.speakers) == {one.speaker for one in talk}
    assert recording.duration == pytest.approx(talk[-1].end, abs=0.5) and not recording.problems
    answer = workspace.assistant.ask("what did we decide about North Quay?", recording.id)
    assert "North Quay" in answer.text and answer.citations
    decision = next(one for one in talk if "decision is" in one.text)
    assert any(abs(cited.start - decision.start) < 1 for cited in answer.citations)
    assert workspace.search.search("North Quay audio", recording.id)
    assert any("North Quay" in item.text for item in workspace.summarize(recording.id).decisions)
    assert b"North Quay" in workspace.export(recording.id, "srt")
    with pytest.raises(MossAgentError, match="attach"):
        workspace.relabel_speakers(recording.id, 2)


def test_an_import_that_breaks_off_keeps_what_was_read_and_goes_on_when_tried_again(
    workspace, talk, tmp_path, monkeypatch
):
    file = written(tmp_path, talk, "talk.vtt")
    with monkeypatch.context() as broken, pytest.raises(WeightsError):

        def fail(texts):
            raise WeightsError("The weights are gone.")

        broken.setattr(workspace.embedder, "encode_passages", fail)
        workspace.import_transcript(file)
    (left,) = workspace.library.recordings()
    assert left.status == "failed" and left.problems
    assert any("decision is" in segment.text for segment in workspace.library.segments(left.id))
    workspace.add_comment(left.id, 1.0, "Ask them.")
    assert workspace.import_transcript(file).status == "ready"
    assert workspace.search.search("North Quay audio", left.id) and workspace.comments(left.id)


def test_media_given_later_is_laid_under_the_transcript_which_stays(workspace, talk, media, tmp_path):
    path = written(tmp_path, talk, "talk.srt")
    workspace.import_transcript(path)
    speaker = talk[0].speaker
    workspace.rename_speaker("talk", speaker, "Wilma")
    before = workspace.library.segments(workspace.library.resolve("talk").id)
    told: list[str] = []
    recording = workspace.import_transcript(path, media, told=told.append)
    assert recording.has_media and recording.status == "ready" and told
    assert workspace.library.audio_path(recording.id).exists()
    assert recording.duration == pytest.approx(END - START, abs=0.1)
    after = workspace.library.segments(recording.id)
    assert [(one.id, one.text, one.speaker, one.start) for one in after] == [
        (one.id, one.text, one.speaker, one.start) for one in before
    ]
    assert "Wilma" in recording.speakers and recording.coverage is not None and recording.coverage > 0.9
    # The media file is that recording now: it is not heard again, and cannot be another's.
    assert workspace.add(media).id == recording.id
    assert workspace.attach_media("talk", media).id == recording.id
    other = written(tmp_path, talk[:3], "other.srt")
    with pytest.raises(MossAgentError, match="talk"):
        workspace.import_transcript(other, media)
    with pytest.raises(MossAgentError, match="itself"):
        workspace.import_transcript(other, other)
    assert [one.title for one in workspace.library.recordings()] == ["talk"]


def test_a_clock_that_began_earlier_is_found_from_the_speech_and_said(workspace, talk, media, tmp_path):
    recording = workspace.import_transcript(written(tmp_path, talk, "late.srt", later=12.0), media)
    assert kinds(recording) == [NoteKind.CLOCK_MOVED]
    starts = [one.start for one in workspace.library.segments(recording.id)]
    assert min(starts) == pytest.approx(talk[0].start, abs=0.6)


def test_what_people_did_to_a_transcript_moves_with_its_clock(workspace, talk, media, tmp_path):
    later = 12.0
    recording = workspace.import_transcript(written(tmp_path, talk, "late.srt", later=later)).id
    original = workspace.library.segments(recording)
    first, second, third, fourth = (one.id for one in original[:4])
    workspace.correct_sentence(recording, first, "The zeppelin lands at noon today.")
    workspace.split_sentence(recording, second, original[1].text.index(" "))
    workspace.merge_sentences(recording, [third, fourth])
    workspace.give_speaker(recording, [first], "Wilma")
    workspace.undo_correction(recording)
    noted = workspace.library.add_comment(recording, original[2].start, "Listen again.")
    early = workspace.library.add_comment(recording, 1.0, "Before anybody speaks.")
    before, summary = workspace.recording(recording), workspace.summarize(recording)
    workspace.attach_media(recording, media)
    attached = workspace.library.segments(recording)
    changed = workspace.changes_since(recording, before.revision)
    assert changed.revision > before.revision and len(changed.segments) == len(attached)
    assert workspace.summarize(recording) is not summary
    comments = {one.id: one.at for one in workspace.library.comments(recording)}
    assert comments[noted.id] == pytest.approx(original[2].start - later, abs=0.6) and comments[early.id] == 0
    for redo in (False, True, False):
        for _ in range(3):
            workspace.undo_correction(recording, redo)
        now = workspace.library.segments(recording)
        if redo:
            assert [(one.id, one.words) for one in now] == [(one.id, one.words) for one in attached]
        else:
            assert [(one.id, one.text) for one in now] == [(one.id, one.text) for one in original]
            for one, old in zip(now, original, strict=True):
                assert one.start == pytest.approx(old.start - later, abs=0.6)
    for _ in range(4):
        workspace.undo_correction(recording, redo=True)
    assert workspace.library.segments(recording)[0].speaker == "Wilma"


def test_a_transcript_without_names_gets_speakers_from_the_voices(workspace, talk, media, tmp_path):
    recording = workspace.import_transcript(written(tmp_path, talk, "a.vtt", named=False), media, speakers=2)
    assert len(recording.speakers) == 2
    segments = workspace.library.segments(recording.id)
    assert all(one.speaker for one in segments)


def test_media_that_ends_before_the_transcript_changes_nothing(workspace, talk, media, tmp_path):
    long = written(tmp_path, [*talk, Segment(300, 305, "This comes much later.")], "long.vtt")
    with pytest.raises(TranscriptError, match="5:05"):
        workspace.import_transcript(long, media)
    assert workspace.library.recordings() == []
    recording = workspace.import_transcript(long)
    with pytest.raises(TranscriptError):
        workspace.attach_media("long", media)
    assert workspace.library.recording(recording.id) == recording
    assert not workspace.library.audio_path(recording.id).exists()


def test_media_that_is_none_changes_nothing(workspace, talk, tmp_path):
    path = written(tmp_path, talk, "talk.vtt")
    (tmp_path / "broken.mp3").write_text("no sound")
    with pytest.raises(MediaError):
        workspace.import_transcript(path, tmp_path / "broken.mp3")
    assert workspace.library.recordings() == []


def test_every_door_that_takes_media_takes_transcripts(workspace, talk, tmp_path):
    recording = workspace.add(written(tmp_path, talk, "talk.srt"), "A talk")
    assert (recording.imported, recording.title) == ("srt", "A talk")
    (tmp_path / "notes.txt").write_text("No time in it.")
    with pytest.raises(TranscriptError):
        workspace.add(tmp_path / "notes.txt")


def test_the_same_file_twice_is_one_recording_and_can_be_removed(workspace, talk, tmp_path):
    path = written(tmp_path, talk, "talk.json")
    first = workspace.import_transcript(path)
    told: list[str] = []
    assert workspace.import_transcript(path, title="New name", told=told.append).title == "New name"
    assert told and len(workspace.library.recordings()) == 1
    as_posix_reads_it = os.fsencode("Grüße 会議").decode("ascii", "surrogateescape")
    renamed = workspace.import_transcript(path, title=as_posix_reads_it, told=told.append)
    assert renamed.title == "Grüße 会議"
    workspace.remove(first.id)
    assert workspace.library.recordings() == []


def test_a_library_of_the_version_before_opens_with_everything_in_it(home, talk, tmp_path):
    library = open_library(home)
    heard = store(library, talk, "Heard before")
    before = library.recording(heard)
    revise(library.database.engine, "downgrade", "0008")
    library.database.close()
    workspace = open_workspace(Settings(home=home))
    assert workspace.library.recording(heard) == before
    assert (before.imported, before.has_media) == (None, True)
    imported = workspace.import_transcript(written(tmp_path, talk, "talk.vtt"))
    assert {one.id for one in workspace.library.recordings()} == {heard, imported.id}
    workspace.close()
