"""A home folder is copied into other stores: all of it, in as many goes as it takes, and the source stays."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import update

from agent.cli import commands
from agent.moving import NOTE, Moved, move
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import Cancelled, HomeInUse, MossAgentError
from index.records import Passage
from index.search.indexing import index_recording, rebuild
from index.store.database import (
    CommentRow,
    CorrectionRow,
    SegmentRow,
    VoiceRow,
    VoiceSampleRow,
    WatchedFileRow,
)
from tests.servers import postgres
from tests.support.indexed import Numbers, sentences, store


def opened(home: Path, **given) -> Workspace:
    workspace = open_workspace(Settings(home=home, **given))
    workspace.__dict__["embedder"] = Numbers()
    return workspace


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """The test's own copy of ``made``."""
    return shutil.copytree(made, tmp_path / "source")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three recordings, their audio, two conversations, and a row in most tables."""
    home = tmp_path_factory.mktemp("made") / "home"
    workspace = opened(home)
    library = workspace.library
    ids = [
        store(library, sentences("The boat leaves at ten.", "Überfahrt\0 für “alle”."), "Boat"),
        store(library, sentences("We light the fireworks.", speaker="Anna"), "Fireworks"),
        store(library, [], "Silence"),
    ]
    rebuild_rows(workspace)
    with library.database.transaction() as session:
        # The largest sentence was removed: its number must not come again.
        last = SegmentRow(recording_id=ids[2], start=0, end=1, text="gone", words=[])
        session.add(last)
        session.flush()
        session.delete(last)
        session.add(CommentRow(recording_id=ids[0], at=1.0, text="here", created_at="2026-01-01"))
        session.add(
            CorrectionRow(
                recording_id=ids[0],
                at="2026",
                by="test",
                kind="edit",
                before=[{"id": 1, "text": "a"}],
                after=[],
            )
        )
        voice = VoiceRow(name="Anna", encoder="test")
        session.add(voice)
        session.flush()
        vector = np.ones(4, np.float32).tobytes()
        session.add(VoiceSampleRow(voice_id=voice.id, recording_id=ids[1], seconds=20.5, embedding=vector))
        session.add(WatchedFileRow(path_hash="f" * 64, size=2**40, modified=1, recording_id=ids[1]))
    (home / "audio").mkdir()
    for number, recording in enumerate(ids[:2]):
        noise = np.random.default_rng(number).normal(scale=0.1, size=3200)
        soundfile.write(home / "audio" / f"{recording}.flac", noise, 16_000)
        (home / "audio" / f"{recording}.peaks").write_bytes(b"\1\2\3\4")
    converse(workspace, "talk", "Who pays?", "Anna pays.")
    converse(workspace, "other", "When?", "At ten.")
    (home / "glossary.txt").write_text("North Quay\n")
    workspace.close()
    return home


def rebuild_rows(workspace: Workspace) -> None:
    """Passages of everything, and their vectors in the home folder."""
    for recording in workspace.library.recordings():
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording.id)
    rebuild(workspace.library, workspace.embedder, workspace.vectors)


def converse(workspace: Workspace, thread: str, question: str, answer: str) -> None:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"messages": [HumanMessage(question, id="1"), AIMessage(answer, id="2")]}
    checkpoint["channel_versions"] = {"messages": "1"}
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    workspace.memory.checkpointer.put(config, checkpoint, {"source": "loop", "step": 1}, {"messages": "1"})


def said(workspace: Workspace, thread: str) -> list[str]:
    found = workspace.memory.checkpointer.get_tuple(
        {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    )
    assert found is not None
    return [message.text for message in found.checkpoint["channel_values"]["messages"]]


def everything(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path, chroma: str) -> Callable[[], Workspace]:
    """Opens the deployment: another database, a Chroma server, audio on another file system."""
    database = (
        f"sqlite:///{tmp_path}/deployed.sqlite" if request.param == "sqlite" else postgres().new_database()
    )
    return lambda: opened(
        tmp_path / "deployed", database=database, vectors=chroma, audio=f"file://{tmp_path}/kept"
    )


def test_everything_is_there_and_the_source_is_as_it_was(source: Path, target, tmp_path: Path) -> None:
    before = everything(source)
    workspace = target()
    told: list[tuple[str, int, int]] = []
    moved = move(source, workspace, lambda *step: told.append(step))
    assert moved.recordings == 3 and moved.audio == 2 and moved.conversations == 2
    assert moved.vectors == 2 and moved.copied == moved.rows > 12
    assert everything(source) == before
    for stage in ("rows", "conversations", "audio", "vectors", "comparing"):
        steps = [(done, total) for name, done, total in told if name == stage]
        assert steps == sorted(steps) and steps[-1][0] == steps[-1][1], stage

    # It works there as it did here.
    assert {recording.title for recording in workspace.recordings()} == {"Boat", "Fireworks", "Silence"}
    boat = workspace.library.resolve("Boat")
    assert [segment.text.replace("\0", "") for segment in workspace.library.segments(boat.id)] == [
        "The boat leaves at ten.", "Überfahrt für “alle”.",
    ]  # fmt: skip
    assert said(workspace, "talk") == ["Who pays?", "Anna pays."]
    assert workspace.search._store.keyword_matches("boats", None, 5)
    assert workspace.vectors.count() == 2
    kept = {file.name for file in (tmp_path / "kept").iterdir()}
    assert len(kept) == 4 and not any(workspace.home.glob("audio/*.flac"))
    assert workspace.library.audio_path(boat.id).read_bytes() == (
        source / "audio" / f"{boat.id}.flac"
    ).read_bytes()  # fmt: skip
    assert (workspace.home / "glossary.txt").read_text() == "North Quay\n"
    old = opened(source)
    with old.library.database.transaction() as session:
        largest = old.library.database.backend.new_number(session, "segments") - 1
    old.close()
    with workspace.library.database.transaction() as session:
        new = SegmentRow(recording_id=boat.id, start=0, end=1, text="new", words=[])
        session.add(new)
        session.flush()
        assert new.id > largest
        session.rollback()
    workspace.close()


@pytest.mark.parametrize(
    ("target", "stops"), [("sqlite", 1), ("sqlite", 8), ("postgresql", 4)], indirect=["target"]
)
def test_a_copy_that_is_stopped_goes_on(source: Path, target, monkeypatch, stops: int) -> None:
    monkeypatch.setattr("index.store.copying.ROWS_AT_ONCE", 1)
    cancel, steps = threading.Event(), []

    def stop(stage: str, done: int, total: int) -> None:
        # The first tables may be empty.
        steps.extend([stage] if done else [])
        if len(steps) >= 4 * stops:
            cancel.set()

    workspace = target()
    with pytest.raises(Cancelled):
        move(source, workspace, stop, cancel)
    workspace.close()
    workspace = target()
    moved = move(source, workspace)
    assert (moved.recordings, moved.audio, moved.conversations, moved.vectors) == (3, 2, 2, 2)
    assert moved.copied < moved.rows
    again = move(source, workspace)
    assert again == Moved(**{**moved.__dict__, "copied": 0})
    workspace.close()


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_a_target_that_holds_something_else_is_refused(source: Path, target, tmp_path: Path) -> None:
    workspace = target()
    mine = store(workspace.library, sentences("This is mine."), "Mine")
    with pytest.raises(MossAgentError, match="empty"):
        move(source, workspace)
    assert [recording.id for recording in workspace.recordings()] == [mine]
    assert not (workspace.home / NOTE).exists()
    workspace.library.delete(mine)
    converse(workspace, "mine", "Who?", "I.")
    with pytest.raises(MossAgentError, match="conversations"):
        move(source, workspace)
    workspace.memory.forget("mine")
    workspace.vectors.add([Passage("x", 0, 1, "", (), 7)], Numbers().encode_passages(["x"]))
    with pytest.raises(MossAgentError, match="vectors"):
        move(source, workspace)
    workspace.vectors.reset()
    assert move(source, workspace).recordings == 3
    workspace.close()


def test_what_was_changed_meanwhile_is_found_out(source: Path, target) -> None:
    workspace = target()
    move(source, workspace)
    with workspace.library.database.transaction() as session:
        session.execute(update(SegmentRow).values(text="Something else."))
    with pytest.raises(MossAgentError, match="segments"):
        move(source, workspace)
    # Also in the middle of it.
    note = json.loads((workspace.home / NOTE).read_text())
    (workspace.home / NOTE).write_text(json.dumps(note | {"state": "begun"}))
    with pytest.raises(MossAgentError, match="segments"):
        move(source, workspace)
    store(workspace.library, sentences("This is mine."), "Mine")
    with pytest.raises(MossAgentError, match="1 recordings"):
        move(source, workspace)
    workspace.close()


def test_what_cannot_be_is_one_sentence(source: Path, tmp_path: Path) -> None:
    workspace = opened(tmp_path / "deployed")
    with pytest.raises(MossAgentError, match="no library"):
        move(tmp_path, workspace)
    with pytest.raises(MossAgentError, match="itself"):
        move(tmp_path / "deployed", workspace)
    old = opened(source)
    with old.writing(), pytest.raises(HomeInUse):
        move(source, workspace)
    old.close()
    other = opened(tmp_path / "third")
    store(other.library, sentences("Three."), "Three")
    other.close()
    move(source, workspace)
    with pytest.raises(MossAgentError, match=NOTE):
        move(tmp_path / "third", workspace)
    workspace.close()


def test_another_embedder_is_said_before_vectors_are_mixed(source: Path, tmp_path: Path) -> None:
    workspace = opened(tmp_path / "deployed")
    workspace.embedder.name = "other"  # type: ignore[misc]
    with pytest.raises(MossAgentError, match="MOSS_AGENT_EMBEDDER"):
        move(source, workspace)
    workspace.close()


def test_a_copy_that_arrives_damaged_is_found_out(source: Path, tmp_path: Path, monkeypatch) -> None:
    workspace = opened(tmp_path / "deployed")
    monkeypatch.setattr("shutil.copyfile", lambda source, target: Path(target).write_bytes(b"damaged"))
    with pytest.raises(MossAgentError, match="flac"):
        move(source, workspace)
    monkeypatch.undo()
    assert move(source, workspace).audio == 2
    workspace.close()


def test_the_command_says_what_is_there_now(source: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "sys.argv", ["moss-agent", "--home", f"{tmp_path}/new", "move", str(source), "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        commands.main()
    out, err = capsys.readouterr()
    assert ended.value.code in (0, None), err
    told = json.loads(out)
    assert told["recordings"] == 3 and told["same"] is True
    assert (tmp_path / "new" / "library.sqlite").exists()
