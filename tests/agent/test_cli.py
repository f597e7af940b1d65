"""The command line: every command, its JSON, its exit codes, and no traceback."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import soundfile

from agent.cli import commands as cli
from agent.cli.demo import QUESTIONS
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.search.indexing import index_recording
from tests.support.indexed import heard, store
from tests.support.media import cut
from tests.support.tiny_moss import chain, letters, writing_checkpoint

TITLE = "Harbour Lights planning call"
FIELD_CASES = Path(__file__).parent.parent / "data" / "field_cases"


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A home with the sample as it was heard."""
    home = tmp_path_factory.mktemp("cli") / "home"
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, heard(), TITLE)
    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.close()
    return home


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def go(home: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return go


def document(run, home: Path, *arguments: str):
    code, out, err = run(home, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_list_names_what_there_is(run, filled):
    (listed,) = document(run, filled, "list")
    assert set(listed) == {
        "id", "title", "duration", "status", "coverage", "added_at", "imported", "has_media", "notes",
        "note_spans",
    }  # fmt: skip
    assert listed["title"] == TITLE and listed["imported"] is None and listed["has_media"] is True
    code, out, _ = run(filled, "list")
    assert code == 0 and listed["id"][:12] in out


def test_the_version_is_the_packages(run, home):
    import tomllib

    from tests.conftest import ROOT

    code, out, _ = run(home, "--version")
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert code == 0 and out.split() == ["moss-agent", stated]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_the_program(run, home, shell):
    told = document(run, home, "completion", shell)
    assert told["shell"] == shell
    assert f"{cli.COMPLETE}=complete_{shell}" in told["script"]


def test_a_shell_completes_commands_options_and_recordings(run, filled, monkeypatch):
    def completed(*words: str) -> list[str]:
        line = ["moss-agent", "--home", str(filled), *words]
        monkeypatch.setenv("COMP_WORDS", " ".join(line))
        monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
        monkeypatch.setenv(cli.COMPLETE, "complete_bash")
        _, out, _ = run(filled)
        return out.split()

    (listed,) = document(run, filled, "list")
    assert completed("tran") == ["transcript"]
    assert completed("transcript", "--fo") == ["--format"]
    assert completed("completion", "z") == ["zsh"]
    assert completed("transcript", listed["id"][:3]) == [listed["id"][:12]]
    for command in ("ask", "search"):
        assert completed(command, "ferry", "--recording", listed["id"][:3]) == [listed["id"][:12]]


def test_completion_in_an_empty_home_offers_nothing_and_makes_nothing(run, home, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", f"moss-agent --home {home} transcript a")
    monkeypatch.setenv("COMP_CWORD", "4")
    monkeypatch.setenv(cli.COMPLETE, "complete_bash")
    _, out, err = run(home)
    assert (out + err).strip() == "" and not home.exists()


def test_the_demo_asks_in_a_home_of_its_own_and_leaves_ones_library_alone(run, filled, tmp_path, monkeypatch):
    (listed,) = document(run, filled, "list")
    monkeypatch.setenv("MOSS_AGENT_DATABASE_URL", f"sqlite:///{tmp_path}/mine.sqlite")
    monkeypatch.setattr("agent.cli.demo.file_id", lambda sample: listed["id"])
    copied = tmp_path / "demo"
    shutil.copytree(filled, copied)
    told = document(run, tmp_path / "none", "demo", "--home", str(copied))
    assert told["home"] == str(copied) and not (tmp_path / "mine.sqlite").exists()
    assert [answer["question"] for answer in told["answers"]] == list(QUESTIONS)
    assert all(answer["citations"] for answer in told["answers"])
    assert not (tmp_path / "none").exists()


def test_the_demo_does_not_go_into_a_library_of_somebody(run, home, tmp_path):
    tone = tmp_path / "tone.wav"
    soundfile.write(tone, [0.0] * 16000, 16000)
    assert run(home, "add", str(tone))[0] == 0
    code, out, err = run(home, "demo", "--no-page")
    assert code == 1 and not out and str(home) in err


def test_an_empty_library_says_how_to_fill_it(run, home):
    code, out, _ = run(home, "list")
    assert code == 0 and "moss-agent add FILE" in out
    assert document(run, home, "list") == []


def test_a_recording_is_found_by_prefix_and_by_title(run, filled):
    by_title = document(run, filled, "transcript", TITLE)
    prefix = document(run, filled, "list")[0]["id"][:7]
    assert document(run, filled, "transcript", prefix) == by_title
    assert {"start", "end", "speaker", "kind", "text"} <= set(by_title["segments"][0])


def test_a_range_of_the_transcript_is_the_segments_that_overlap_it(run, filled):
    segments = document(run, filled, "transcript", TITLE, "--from", "2:00", "--to", "3:00")["segments"]
    expected = [segment.text for segment in heard() if segment.start < 180 and segment.end > 120]
    assert [segment["text"] for segment in segments] == expected


@pytest.mark.parametrize("kind", ["txt", "srt", "vtt", "md", "json", "docx"])
def test_every_format_is_written_to_a_file(run, filled, tmp_path, kind):
    target = tmp_path / f"out.{kind}"
    code, _, err = run(filled, "transcript", TITLE, "--format", kind, "-o", target)
    assert code == 0, err
    assert target.stat().st_size > 1000


def test_search_gives_ranges_with_scores(run, filled):
    hits = document(run, filled, "search", "wind and fireworks", "-k", "3")
    assert hits and set(hits[0]) == {"recording", "start", "end", "text", "score"}
    assert "fireworks" in hits[0]["text"]


def test_ask_answers_in_the_designed_form(run, filled):
    answer = document(run, filled, "ask", "what did we decide about the sound stage?")
    assert {"answer", "citations", "steps", "model", "seconds"} <= set(answer)
    assert answer["model"] == "extractive" and answer["steps"]
    assert any("decision is to go with North Key" in citation["quote"] for citation in answer["citations"])
    assert set(answer["citations"][0]) >= {"recording", "start", "end", "quote"}


def test_a_conversation_goes_on_under_its_name(run, filled):
    run(filled, "ask", "what was said at minute 2?", "--thread", "t")
    code, out, _ = run(filled, "ask", "and after that?", "--thread", "t")
    assert code == 0 and "3:0" in out


def test_topics_and_speaking_times_are_listed(run, filled):
    topics = document(run, filled, "outline", TITLE)["topics"]
    assert topics and all(topic["start"] < topic["end"] for topic in topics)
    spoken = document(run, filled, "speakers", TITLE)
    expected = {segment.speaker for segment in heard()}
    assert {speaker["name"] for speaker in spoken} == expected
    said = sum(segment.end - segment.start for segment in heard())
    assert sum(speaker["seconds"] for speaker in spoken) == pytest.approx(said, abs=0.1)
    for command in ("outline", "speakers"):
        code, out, _ = run(filled, command, TITLE)
        assert code == 0 and ":" in out


def test_a_recording_gets_another_title(run, home):
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, heard(), TITLE)
    workspace.close()
    assert document(run, home, "rename", TITLE, "  The   pier ") == {"id": recording, "title": "The pier"}
    assert document(run, home, "list")[0]["title"] == "The pier"
    code, _, err = run(home, "rename", "The pier", " ")
    assert code == 1 and err.count("\n") == 1
    assert document(run, home, "list")[0]["title"] == "The pier"


@pytest.mark.parametrize("given", [("--from", "90:00"), ("--from", "3:00", "--to", "2:00")])
def test_a_range_that_cannot_be_is_one_sentence(run, filled, given):
    code, out, err = run(filled, "transcript", TITLE, *given)
    assert (code, out) == (1, "") and err.count("\n") == 1


def test_listen_answers_on_the_recordings_clock(run, filled, sample, tmp_path, monkeypatch):
    workspace = open_workspace(Settings(home=filled))
    copy = workspace.library.audio_path(workspace.library.resolve(TITLE).id)
    copy.parent.mkdir(exist_ok=True)
    soundfile.write(copy, *cut(sample, 0.0, 80.0), format="FLAC")
    workspace.close()
    model = writing_checkpoint(tmp_path, chain(*letters("at 0:15.")))
    monkeypatch.setenv("MOSS_AGENT_MODEL", str(model))
    asked = ("listen", TITLE, "1:00", "1:20", "Is there a dog at 1:05?")
    heard = document(run, filled, *asked)
    assert set(heard) == {"recording", "range", "answer", "evidence", "note"}
    assert (heard["range"], heard["answer"]) == ([60.0, 80.0], "at 1:15.")
    assert heard["recording"] == document(run, filled, "list")[0]["id"]
    code, out, _ = run(filled, *asked)
    assert code == 0 and out == "at 1:15.\n\nHeard from 1:00 to 1:20.\n"
    monkeypatch.delenv("MOSS_AGENT_MODEL")


def test_listen_without_an_ear_says_what_is_needed(run, filled):
    code, out, err = run(filled, "listen", TITLE, "0", "10", "Is there a dog?")
    assert (code, out) == (1, "") and err.startswith("moss-agent: Sounds, music and tone of voice need")
    code, _, err = run(filled, "listen", TITLE, "soon", "10", "Is there a dog?")
    assert code == 2 and "is not a time" in err


def test_summarize_has_the_designed_keys_and_templates(run, filled):
    summary = document(run, filled, "summarize", TITLE)
    wanted = {"template", "overview", "topics", "decisions", "action_items", "open_questions"}
    assert wanted <= set(summary) and len(summary["decisions"]) == 2
    code, out, _ = run(filled, "summarize", TITLE, "--template", "call")
    assert code == 0 and "## Next steps" in out


def test_rename_speaker_shows_everywhere(run, filled):
    assert document(run, filled, "rename-speaker", TITLE, "Speaker 3", "Callum")["segments"] > 5
    assert "Callum: " in run(filled, "transcript", TITLE)[1]
    owners = {item["owner"] for item in document(run, filled, "summarize", TITLE)["action_items"]}
    assert "Callum" in owners and "Speaker 3" not in owners
    assert "Callum" in run(filled, "ask", "who calls the rowing club?")[1]


def test_reindex_rebuilds_a_lost_index(run, filled):
    import shutil

    shutil.rmtree(filled / "vectors")
    assert document(run, filled, "reindex")["passages"] > 3
    assert document(run, filled, "search", "fireworks")


def test_doctor_says_what_hears_and_what_thinks(run, filled):
    checks = {check["name"]: check for check in document(run, filled, "doctor")}
    assert all(check["ok"] for check in checks.values() if check["required"])
    assert "whisper-base" in checks["hears"]["detail"] and "extractive" in checks["thinks"]["detail"]
    missing = checks["sounds, music, tone of voice"]
    assert not missing["ok"] and "MOSS-Audio" in missing["detail"]


def test_doctor_counts_on_no_server_that_is_not_there(run, filled, monkeypatch):
    monkeypatch.setenv("MOSS_AGENT_MODEL", "http://127.0.0.1:9")
    code, out, _ = run(filled, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 1
    for name in ("model", "hears", "sounds, music, tone of voice"):
        assert not checks[name]["ok"], checks[name]
    # Questions are still answered, but not by the server.
    assert checks["thinks"]["ok"] and "127.0.0.1" not in checks["thinks"]["detail"]


def test_add_then_remove_leaves_no_trace_of_what_was_said(run, tmp_path, sample, models, monkeypatch):
    monkeypatch.setenv("MOSS_AGENT_TRANSCRIBER", "tiny.en")
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    audio, rate = cut(sample, 227.5, 262)
    soundfile.write(tmp_path / "weather plan.wav", audio, rate)
    (added,) = document(run, home, "add", tmp_path / "weather plan.wav")
    facts = ["id", "title", "duration", "language", "languages", "status", "coverage", "gaps", "segments"]
    more = ["speakers", "seconds_taken", "imported", "has_media", "notes", "note_spans"]
    assert list(added) == [*facts, *more]
    assert (added["language"], added["languages"]) == ("en", ["en"])
    assert added["status"] == "ready" and added["segments"] > 3 and added["coverage"] > 0.95
    code, out, _ = run(home, "ask", "what did they say about the insurance?", "--thread", "t")
    assert code == 0 and "insurance" in out

    assert document(run, home, "remove", added["id"][:10])["title"] == "weather plan"
    assert document(run, home, "list") == []
    left = [file for file in home.rglob("*") if file.is_file() and "models" not in file.parts]
    for file in left:
        content = file.read_bytes().lower()
        for trace in (b"insurance", b"fireworks", b"weather plan", added["id"].encode()):
            assert trace not in content, f"{trace!r} is left in {file.name}"


@pytest.mark.parametrize(
    "arguments,expected",
    [
        (["transcript", "nope"], "There is no recording “nope”"),
        (["ask", "what?", "--recording", "nope"], "There is no recording “nope”"),
        (["transcript", TITLE, "--format", "docx"], "-o FILE"),
        (["transcript", TITLE, "-o", "/no/such/folder/x.txt"], "cannot be written"),
        (["rename-speaker", TITLE, "Nobody", "X"], "There is no speaker “Nobody”"),
        (["remove", "nope"], "There is no recording"),
        (["search", " "], "nothing to search for"),
        (["add", "/no/such/file.mp3"], "There is no file /no/such/file.mp3"),
    ],
)
def test_what_fails_ends_with_1_and_one_line(run, filled, arguments, expected):
    code, out, err = run(filled, *arguments)
    assert code == 1 and out == ""
    assert expected in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["add"],
        ["nonsense"],
        ["ask"],
        ["search", "x", "-k", "0"],
        ["list", "--x"],
        ["summarize", TITLE, "--template", "poem"],
        ["transcript", TITLE, "--format", "pdf"],
        ["transcript", TITLE, "--from", "noon"],
    ],
)
def test_wrong_usage_ends_with_2(run, filled, arguments):
    code, out, err = run(filled, *arguments)
    assert code == 2 and out == "" and "Traceback" not in err


def test_what_is_wrong_with_an_option_is_said_in_plain_words(run, filled):
    for arguments, told in (
        (["search", "x", "-k", "0"], "it must be at least 1."),
        (["people", "log", "-n", "many"], "it must be a whole number."),
        (["summarize", TITLE, "--template", "poem"], "'poem' is not one of 'meeting'"),
    ):
        _, _, err = run(filled, *arguments)
        assert told in err and "Input should" not in err and "Value error" not in err


def test_a_setting_that_is_empty_is_as_good_as_none(run, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("THREADS", "GLOSSARY", "KEEP_DAYS", "HOME"):
        monkeypatch.setenv(f"MOSS_AGENT_{name}", "")
    code, out, _ = run(filled, "list")
    assert code == 0 and TITLE.split()[0] in out
    assert Settings().home.is_absolute(), "not the folder that somebody happens to be in"
    assert Settings().glossary is None


def test_a_folder_with_nothing_new_is_told(run, filled, tmp_path):
    (tmp_path / "inbox").mkdir()
    code, out, _ = run(filled, "watch", tmp_path / "inbox", "--once")
    assert code == 0 and "nothing new" in out


def test_one_broken_file_among_several_does_not_stop_the_others(run, tmp_path, sample, models, monkeypatch):
    monkeypatch.setenv("MOSS_AGENT_TRANSCRIBER", "tiny.en")
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    (tmp_path / "broken.mp3").write_text("no sound in here")
    audio, rate = cut(sample, 2, 6)
    soundfile.write(tmp_path / "good.wav", audio, rate)
    code, out, err = run(home, "add", tmp_path / "broken.mp3", tmp_path / "good.wav", "--json")
    assert code == 1
    assert [recording["title"] for recording in json.loads(out)] == ["good"]
    assert err.count("\n") == 1 and "broken.mp3" in err


def test_an_audio_track_is_chosen_and_kept(run, tmp_path, models, monkeypatch):
    monkeypatch.setenv("MOSS_AGENT_TRANSCRIBER", "tiny.en")
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    file = FIELD_CASES / "tracks_default_is_second.mkv"
    code, out, err = run(home, "add", file, "--track", "3")
    assert code == 1 and out == "" and err.count("\n") == 1 and "1" in err and "2 (default)" in err
    assert document(run, home, "list") == []
    (added,) = document(run, home, "add", file, "--track", "1")
    assert added["duration"] == pytest.approx(5.1, abs=0.2) and len(added["notes"]) == 1
    for track, told in (("1", False), ("2", True)):
        code, out, err = run(home, "add", file, "--track", track, "--json")
        assert code == 0 and json.loads(out)[0]["id"] == added["id"]
        assert ("track 2" in err and "--again" in err) is told
    document(run, home, "remove", added["id"])
    (added,) = document(run, home, "add", file)
    assert added["speakers"] == 2 and added["notes"] == []


def test_control_characters_in_a_transcript_do_not_reach_the_terminal(run, home):
    workspace: Workspace = open_workspace(Settings(home=home))
    from tests.support.indexed import sentences

    recording = store(workspace.library, sentences("red \x1b[31malert\x07 now", "and more"), "esc\x1b[2Jape")
    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.close()
    for command in (["ask", "what was said at 0:01?"], ["list"], ["search", "alert"]):
        _, out, err = run(home, *command)
        assert "\x1b" not in out + err and "\x07" not in out + err


def test_a_file_keeps_its_format_when_json_is_printed(run, filled, tmp_path):
    printed = document(run, filled, "transcript", TITLE, "--format", "srt", "-o", tmp_path / "x.srt")
    assert printed["bytes"] == (tmp_path / "x.srt").stat().st_size
    assert " --> " in (tmp_path / "x.srt").read_text()


@pytest.mark.parametrize(
    "name,value", [("THREADS", "abc"), ("SUMMARY_TEMPLATE", "poem"), ("DATABASE", "mysql://x/y")]
)
def test_a_wrong_setting_is_one_sentence_that_names_it(run, home, monkeypatch, name, value):
    monkeypatch.setenv(f"MOSS_AGENT_{name}", value)
    code, _, err = run(home, "list")
    assert code == 1 and f"MOSS_AGENT_{name}" in err
    assert err.count("\n") == 1 and "pydantic" not in err


def test_a_home_that_was_there_keeps_its_rights_and_a_new_one_is_private(run, tmp_path):
    (tmp_path / "old").mkdir(mode=0o755)
    run(tmp_path / "old", "list")
    run(tmp_path / "new", "list")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_remove_deletes_what_the_page_kept_of_an_unfinished_upload(run, tmp_path):
    home = tmp_path / "home"
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, heard(), TITLE)
    workspace.close()
    for job, of in (("one", recording), ("two", "another")):
        (home / "uploads" / job).mkdir(parents=True)
        (home / "uploads" / job / "talk.mp3").write_bytes(b"sound")
        (home / "upload-jobs").mkdir(exist_ok=True)
        (home / "upload-jobs" / f"{job}.json").write_text(json.dumps({"recording": of}))
    document(run, home, "remove", recording[:9])
    assert {file.name for file in (home / "uploads").iterdir()} == {"two"}
    assert {file.name for file in (home / "upload-jobs").iterdir()} == {"two.json"}


def test_relabel_speakers_takes_the_number_that_is_given(run, tmp_path, sample, models, monkeypatch):
    monkeypatch.setenv("MOSS_AGENT_TRANSCRIBER", "tiny.en")
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    audio, rate = cut(sample, 27, 64)
    soundfile.write(tmp_path / "crew.wav", audio, rate)
    (added,) = document(run, home, "add", tmp_path / "crew.wav", "--speakers", "2")
    assert added["speakers"] == 2
    assert len(document(run, home, "relabel-speakers", "crew", "--speakers", "3")["speakers"]) == 3


def test_an_unusable_home_is_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = run(tmp_path / "file" / "home", "list")
    assert code == 1 and "--home" in err and err.count("\n") == 1


SRT = """1
00:00:01,000 --> 00:00:04,000
Anna: We take the ferry.

2
00:00:05,000 --> 00:00:07,000
Ben: Yes.
"""


def test_transcripts_come_in_and_notes_go_out(run, home, tmp_path):
    talk, bad = tmp_path / "talk.srt", tmp_path / "bad.srt"
    talk.write_text(SRT)
    bad.write_bytes("1\n00:00:01,000 --> 00:00:04,000\nGrüße\n".encode("cp1252"))
    code, out, err = run(home, "import", talk, bad, "--json")
    (imported,) = json.loads(out)
    assert code == 1 and len(err.splitlines()) == 1 and "--encoding" in err
    assert (imported["imported"], imported["has_media"], imported["speakers"]) == ("srt", False, 2)
    code, out, _ = run(home, "import", bad, "--encoding", "cp1252", "--language", "de")
    assert code == 0 and "attach" in out
    code, _, err = run(home, "import", talk, bad, "--media", "talk.mp3")
    assert code == 1 and "one transcript at a time" in err
    for refused in (["add", bad], ["attach", "talk", talk], ["listen", "talk", "0", "5", "What?"]):
        code, _, err = run(home, *refused)
        assert code == 1 and len(err.splitlines()) == 1
    code, out, _ = run(home, "list")
    assert "no media" in out
    folder = tmp_path / "notes"
    assert [note["action"] for note in document(run, home, "sync", folder)] == ["created"] * 2
    assert "[0:01](http://127.0.0.1:7860/?recording=" in (folder / "talk.md").read_text()
    run(home, "rename-speaker", "talk", "Anna", "Wilma")
    code, out, _ = run(home, "sync", folder, "--base", "http://moss.example")
    assert code == 0 and "2 updated" in out and "http://moss.example/?rec" in (folder / "talk.md").read_text()
    assert run(home, "sync", folder, "--base", "nowhere")[0] == 1
    removed = document(run, home, "remove", "talk", "--drop-corrections")
    assert [path.name for path in folder.iterdir()] == ["bad.md"]
    for file in home.rglob("*"):
        if file.is_file() and "models" not in file.parts:
            content = file.read_bytes()
            assert removed["removed"].encode() not in content and b"talk" not in content, file.name


def test_a_folder_is_taken_in_once_and_a_bad_file_is_told(run, home, tmp_path):
    (tmp_path / "talk.srt").write_text(SRT)
    (tmp_path / "bad.wav").write_text("no sound")
    code, out, _ = run(home, "watch", tmp_path, "--once", "--settle", "0", "--json")
    assert code == 1
    assert {Path(file["file"]).name: bool(file["recording"]) for file in json.loads(out)} == {
        "talk.srt": True,
        "bad.wav": False,
    }
    assert document(run, home, "watch", tmp_path, "--once", "--settle", "0") == []
    assert run(home, "watch", tmp_path / "missing")[0] == 1
