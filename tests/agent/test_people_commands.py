"""People at the command line: accounts, groups, keys, the log, and what goes with whom."""

from __future__ import annotations

import io
import json
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from agent.answer import Answer
from agent.cli import commands as cli
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import (
    Busy,
    Forbidden,
    HomeInUse,
    InvalidInput,
    MossAgentError,
    UnknownRecording,
    VectorsAway,
)
from index.records import Status
from index.store.access import EVERYTHING, acting_as
from index.store.database import RecordingRow, VoiceRow, VoiceSampleRow
from tests.support.indexed import embedder, sentences, store

Run = Callable[..., Any]


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; returns the JSON document, or for another exit code the line on stderr."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("index.store.people.People._hasher", quick)

    def run(*arguments: str, typed: str = "", code: int = 0, name: str = "") -> Any:
        acts = ["--as", name] if name else []
        monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), *acts, *arguments, "--json"])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return json.loads(printed.out) if code == 0 else printed.err

    return run


def filled(home: Path) -> str:
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, sentences("Hello there."), "Talk")
    workspace.close()
    return recording


def test_an_account_is_made_listed_changed_and_removed(run: Run, home: Path):
    filled(home)
    assert run("people", "add", "anna", "--stdin", typed="a long password\n") == {
        "name": "anna",
        "admin": True,
    }
    assert run("people", "add", "ben", "--no-password", "--email", "ben@example.org")["admin"] is False
    assert "password" in run("people", "add", "cleo", "--stdin", typed="short\n", code=1)
    assert run("people", "add", "Anna", "--no-password", code=1)
    listed = {each["name"]: each for each in run("people", "list")}
    assert listed["anna"]["recordings"] == 1 and listed["anna"]["password"]
    assert listed["ben"]["email"] == "ben@example.org" and not listed["ben"]["password"]
    run("people", "password", "ben", "--stdin", typed="another password\n")
    run("people", "disable", "ben")
    assert {each["name"]: each["disabled"] for each in run("people", "list")} == {"anna": False, "ben": True}
    run("people", "disable", "ben", "--enable")
    run("people", "admin", "ben")
    assert run("people", "remove", "anna", "--give-to", "ben") == {"name": "anna", "recordings": 1}
    assert run("people", "remove", "nobody", code=1)
    assert run("people", "remove", "ben") == {"name": "ben", "recordings": 1}
    assert run("people", "list") == [] and run("list") == []


def test_a_password_is_never_taken_from_the_command_line(run: Run):
    assert "--stdin" in run("people", "add", "anna", code=1)


def test_as_somebody_one_sees_what_they_see(run: Run, home: Path):
    recording = filled(home)
    for name in ("anna", "ben"):
        run("people", "add", name, "--no-password")
    assert [each["id"] for each in run("list", name="anna")] == [recording]
    assert run("list", name="ben") == [] and len(run("list")) == 1
    assert "no account" in run("list", name="nobody", code=1)
    assert run("rename", "Talk", "Mine", name="ben", code=1)
    assert run("rename", "Talk", "Hers", name="anna")["title"] == "Hers"


def test_groups_gain_and_lose_people(run: Run):
    for name in ("anna", "ben"):
        run("people", "add", name, "--no-password")
    assert run("groups", "add", "crew", "anna", "BEN") == {"crew": ["anna", "ben"]}
    assert run("groups", "leave", "crew", "anna") == {"crew": ["ben"]}
    assert run("people", "list")[1]["groups"] == ["crew"]
    assert run("groups", "add", "anna", code=1), "a group is not called as a person is"
    assert run("groups", "list") == {"crew": ["ben"]}
    run("groups", "remove", "crew")
    assert run("groups", "list") == {}


def test_a_key_is_shown_once_and_taken_back(run: Run, home: Path):
    run("people", "add", "anna", "--no-password")
    key = run("people", "key", "anna", "--label", "backup")["key"]
    (listed,) = run("people", "key", "anna", "--list")
    assert listed["name"] == "backup" and key not in str(listed)
    workspace = open_workspace(Settings(home=home))
    person = workspace.people.by_key(key)
    workspace.close()
    assert person is not None and person.name == "anna"
    run("people", "key", "anna", "--remove", str(listed["id"]))
    assert run("people", "key", "anna", "--list") == []


def test_the_log_says_who_did_what_and_not_what_was_said(run: Run, home: Path):
    recording = filled(home)
    for name in ("anna", "ben"):
        run("people", "add", name, "--no-password")
    run("transcript", "Talk", name="anna")
    run("transcript", "Talk", name="anna")
    run("rename", "Talk", "Other", name="anna")
    run("correct", "Other", "0:01", "Secret words.", name="anna")
    comment = str(run("comment", "Other", "0:01", "Secret note.", name="anna")["id"])
    run("comments", "Other", "--remove", comment, name="anna")
    entries = [(each["who"], each["what"]) for each in run("people", "log")]
    assert entries == [
        *4 * [("anna", "changed")], ("anna", "exported"), ("anna", "opened"),
    ]  # fmt: skip
    assert run("people", "log", "--person", "ben") == []
    assert {each["recording"] for each in run("people", "log", "--recording", "Other")} == {recording}
    run("remove", "Other", "--drop-corrections", name="anna")
    log = run("people", "log")
    assert log[0]["what"] == "deleted" and recording not in str(log) and "Secret" not in str(log)


def test_old_recordings_are_listed_and_then_deleted(run: Run, home: Path):
    kept = filled(home)
    workspace = open_workspace(Settings(home=home))
    store(workspace.library, sentences("Old."), "Old talk")
    now = datetime.now(UTC)
    with workspace.library.database.transaction() as session:
        for row in session.query(RecordingRow):
            age = timedelta(days=10 if row.id == kept else 100)
            row.added_at = (now - age).isoformat(timespec="seconds")
    workspace.close()
    old = f"{'b' * 32}"
    for state in ("failed", "waiting"):
        note = home / "upload-jobs" / f"{old}.json"
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"state": state, "sent": (now - timedelta(days=91)).timestamp()}))
        (home / "uploads" / old).mkdir(parents=True)
        old = f"{'c' * 32}"
    assert run("people", "sweep", code=1)
    assert [each["deleted"] for each in run("people", "sweep", "--days", "90")] == [False]
    assert len(run("list")) == 2
    assert [each["title"] for each in run("people", "sweep", "--days", "90", "--yes")] == ["Old talk"]
    assert [each["id"] for each in run("list")] == [kept]
    assert [folder.name for folder in (home / "uploads").iterdir()] == [old], "what failed goes as well"
    workspace = open_workspace(Settings(home=home, keep_days=5))
    assert [recording.id for recording in workspace.sweep()] == [kept]
    workspace.close()


def test_an_old_recording_that_cannot_be_deleted_keeps_no_other(home: Path, monkeypatch: pytest.MonkeyPatch):
    workspace = open_workspace(Settings(home=home, keep_days=90))
    ids = [store(workspace.library, sentences("Old."), title) for title in "ABCD"]
    delete = workspace.vectors.delete
    with workspace.library.database.transaction() as session:
        for row in session.query(RecordingRow):
            row.added_at = f"2020-01-0{1 + ids.index(row.id)}T00:00:00+00:00"
            row.status = Status.LISTENING if row.id == ids[2] else Status.READY  # a process ended over it

    def away(recording: str) -> None:
        if recording == ids[1]:
            raise VectorsAway("The server is away.")
        delete(recording)

    monkeypatch.setattr(workspace.vectors, "delete", away)
    found = workspace.too_old
    workspace.library.delete(ids[0])
    # Another process, which sweeps too, was faster.
    gone = replace(found()[0], id=ids[0])
    monkeypatch.setattr(workspace, "too_old", lambda days=None: [gone, *found(days)])
    busy = workspace.library.database.holding(ids[3])
    with pytest.raises(MossAgentError, match="1 could not be"), busy:
        workspace.sweep()
    assert {recording.id for recording in workspace.recordings()} == {ids[1], ids[3]}
    workspace.close()


# --- what is left of somebody -----------------------------------------------------------------------------


def test_removing_somebody_leaves_nothing_of_them_in_any_file(home: Path):
    """Words, titles, names, voices, conversations, uploads and keys: no byte of them, in any store."""
    mark = uuid.uuid4().hex[:12]
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    people = workspace.people
    people._given = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    anna, ben = (
        people.add("anna", "a long password"),
        people.add(f"ben-{mark}", "a long password", f"{mark}@b.c"),
    )
    with acting_as(anna):
        annas = store(workspace.library, sentences("Anna stays here."), "Anna's")
    with acting_as(ben):
        recording = store(workspace.library, sentences(f"The secret is word{mark}."), f"Title {mark}")
        fill(workspace, recording, mark)
        key = people.add_key(ben, f"key {mark}")
        token = people.begin(ben)
        answer = list(workspace.ask(f"What about word{mark}?", recording, f"thread-{mark}"))[-1]
        assert answer is not None
        workspace.note("opened", recording, mark)
        comment = workspace.library.add_comment(recording, 0.0, f"note {mark}")
        assert comment.by == ben.name
    with acting_as(anna):
        people.share(annas, ben.name, can_edit=True)
        workspace.note("shared", annas, f"{ben.name}, to edit")
    with acting_as(ben):
        workspace.library.add_comment(annas, 0.0, "From Ben.")
        workspace.correct_sentence(annas, workspace.library.segments(annas)[0].id, "Anna stays.", by="page")
        workspace.correct_sentence(annas, workspace.library.segments(annas)[0].id, "Anna is here.")
    upload = home / "upload-jobs" / f"{'a' * 32}.json"
    upload.parent.mkdir()
    upload.write_text(json.dumps({"person": ben.id, "title": mark}))
    assert workspace.remove_person(ben.name) == 1
    with acting_as(anna):
        assert [each.by for each in workspace.comments(annas)] == [""]
        assert [each.by for each in workspace.correction_history(annas)] == ["", "page"]
    with pytest.raises(UnknownRecording), acting_as(EVERYTHING):
        workspace.library.recording(recording)
    assert people.by_key(key) is people.signed_in(token) is None
    workspace.close()
    for file in home.rglob("*"):
        if file.is_file():
            assert mark.encode() not in file.read_bytes(), file


def test_nothing_is_added_for_somebody_who_is_being_removed(home: Path):
    workspace = open_workspace(Settings(home=home))
    workspace.people.add("anna")
    ben = workspace.people.add("ben")
    with acting_as(ben):
        store(workspace.library, sentences("Hello."), "Talk")
    with pytest.raises(Busy):
        workspace.people.remove("ben")
    held = open_workspace(Settings(home=home))
    with held.writing(), pytest.raises(HomeInUse):
        workspace.remove_person("ben")
    held.close()
    assert not workspace.people.is_disabled(ben), "nothing was begun"
    assert workspace.remove_person("ben") == 1
    with pytest.raises(Forbidden), acting_as(ben):
        store(workspace.library, sentences("Too late."), "Late talk")
    with acting_as(EVERYTHING):
        assert workspace.recordings() == []
    workspace.close()


@pytest.mark.parametrize("when", ["before the account is deleted", "after it was deleted"])
def test_a_question_that_is_being_answered_leaves_nothing_of_somebody_who_is_removed(
    home: Path, when: str, monkeypatch: pytest.MonkeyPatch
):
    answering, removing = (open_workspace(Settings(home=home)) for _ in range(2))
    answering.__dict__["embedder"] = embedder()
    answering.people.add("anna")
    ben = answering.people.add("ben")
    with acting_as(ben):
        recording = store(answering.library, sentences("The ferry is late."), "Talk")
        turn = answering.ask("What is late?", recording, "talk")
        told = [next(turn)]

    def finish() -> None:
        with acting_as(ben), suppress(MossAgentError):
            told.extend(turn)
            answering.note("exported", None)

    if when.startswith("before"):
        remove = removing.people.remove
        monkeypatch.setattr(removing.people, "remove", lambda name: (finish(), remove(name)))
    removing.remove_person("ben", give_to="anna")
    finish()
    assert isinstance(told[-1], Answer), "it was answered to its end"
    for each in (answering, removing):
        assert each.memory.threads() == [] and each.library.threads_of_person(ben.id) == []
    assert all(entry.who != "ben" for entry in removing.people.log())
    assert not any(b"What is late" in file.read_bytes() for file in home.rglob("*") if file.is_file())
    answering.close()
    removing.close()


@pytest.mark.parametrize("when", ["before its rows are deleted", "after they were deleted"])
def test_a_question_that_is_being_answered_keeps_nothing_of_a_recording_that_is_removed(
    home: Path, when: str, monkeypatch: pytest.MonkeyPatch
):
    answering, removing = (open_workspace(Settings(home=home)) for _ in range(2))
    answering.__dict__["embedder"] = embedder()
    recording = store(answering.library, sentences("The ferry is late."), "Talk")
    turn = answering.ask("What is late?", recording, "talk")
    told = [next(turn)]

    def finish() -> None:
        with suppress(MossAgentError):
            told.extend(turn)

    if when.startswith("before"):
        forget = removing.library.finish_removals
        monkeypatch.setattr(removing.library, "finish_removals", lambda: (forget(), finish()))
    removing.remove(recording)
    finish()
    assert len(told) > 1
    assert answering.memory.threads() == removing.memory.threads() == []
    assert not any(b"ferry is late" in file.read_bytes() for file in home.rglob("*") if file.is_file())
    answering.close()
    removing.close()


def test_conversations_that_nobody_has_any_more_go_with_the_daily_sweep(home: Path):
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    anna = workspace.people.add("anna")
    with acting_as(anna):
        store(workspace.library, sentences("The ferry is late."), "Talk")
        list(workspace.ask("What is late?", thread="hers"))
        (hers,) = workspace.memory.threads()
    with workspace.memory.checkpointer.cursor() as cursor:
        # As a process leaves it that is killed between storing a turn and looking whose it is.
        for table in ("checkpoints", "writes"):
            columns = "'person-5:his', checkpoint_ns, checkpoint_id"
            if table == "checkpoints":
                columns += ", parent_checkpoint_id, type, checkpoint, metadata"
                cursor.execute(f"INSERT INTO {table} SELECT {columns} FROM {table}")
    assert len(workspace.memory.threads()) == 2
    workspace.sweep()
    assert workspace.memory.threads() == [hers]
    workspace.close()


def test_nobody_is_removed_whose_recordings_would_go_to_themselves(home: Path):
    workspace = open_workspace(Settings(home=home))
    workspace.people.add("anna")
    ben = workspace.people.add("ben")
    with acting_as(ben):
        recording = store(workspace.library, sentences("Hello."), "Talk")
    with pytest.raises(InvalidInput):
        workspace.remove_person("ben", give_to="BEN")
    assert not workspace.people.is_disabled(ben) and workspace.people.owned(ben) == [recording]
    workspace.close()


def test_a_group_with_a_stranger_is_not_made(run: Run):
    run("people", "add", "anna", "--no-password")
    assert "nobody-else" in run("groups", "add", "crew", "anna", "nobody-else", code=1)
    assert run("groups", "list") == {}


def fill(workspace: Workspace, recording: str, mark: str) -> None:
    """Give a recording what it has elsewhere: an index, audio, and a voice that is known by it."""
    from index.search.indexing import index_recording

    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    audio = workspace.library.audio_path(recording)
    audio.parent.mkdir(parents=True, exist_ok=True)
    audio.write_bytes(mark.encode())
    with workspace.library.database.transaction() as session:
        voice = VoiceRow(name=f"Voice {mark}", encoder="test")
        session.add(voice)
        session.flush()
        vector = mark.encode()
        sample = VoiceSampleRow(voice_id=voice.id, recording_id=recording, seconds=9.0, embedding=vector)
        session.add(sample)
