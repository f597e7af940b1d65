"""People known by voice: learned when named, known again, asked about where unsure, and forgotten whole."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from agent.cli import commands as cli
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import decode_to_flac
from index.diarization import known_voices
from index.diarization.voice_conditions import CLEAN, CONDITIONS, condition_means, condition_of
from index.diarization.voice_matching import SpokenVoice, match_voices, spoken_voice
from index.recording_errors import MossAgentError
from index.records import Recording, Segment, Span
from index.search.indexing import index_recording
from index.store.database import RecordingRow
from tests.support.indexed import embedder, may_be_anna, store

FIRST, SECOND = "First call", "Second call"


@pytest.fixture(scope="module")
def audio(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("voices") / "copy.flac"
    decode_to_flac(sample, copy)
    return copy


@pytest.fixture(scope="module")
def sounds() -> Callable[..., SpokenVoice | None]:
    """The real embedding of a voice, made once for all tests."""
    made: dict[tuple[str, ...], SpokenVoice | None] = {}

    def sound(
        audio: Path, sentences: list[Segment], speech: list[Span], conditions: Collection[int] = ()
    ) -> SpokenVoice | None:
        key = tuple(sentence.text for sentence in sentences)
        if key not in made:
            made[key] = spoken_voice(audio, sentences, speech)
        # Other conditions would take a minute; the sample is clean.
        return made[key]

    return sound


@pytest.fixture
def two(home: Path, audio: Path, script: list[dict], sounds, monkeypatch) -> Iterator[Workspace]:
    """Two recordings of the same three people, each a half of the sample; nobody is named in either."""
    monkeypatch.setattr(known_voices, "spoken_voice", sounds)
    workspace = open_workspace(Settings(home=home, voices="on"))
    workspace.__dict__["embedder"] = embedder()
    names = {name: f"Speaker {number}" for number, name in enumerate(("Anna", "Ben", "Callum"), 1)}
    said = [Segment(row["start"], row["end"], row["text"], speaker=names[row["speaker"]]) for row in script]
    for title, start, end in ((FIRST, 0.0, 150.0), (SECOND, 150.0, 400.0)):
        own = [segment for segment in said if start <= segment.start < end]
        recording = store(workspace.library, own, title)
        workspace.library.audio_path(recording).parent.mkdir(parents=True, exist_ok=True)
        workspace.library.audio_path(recording).write_bytes(audio.read_bytes())
        speech = [[segment.start, segment.end] for segment in own]
        with workspace.library.database.transaction() as session:
            row = update(RecordingRow).where(RecordingRow.id == recording).values(speech=speech)
            session.execute(row)
    yield workspace
    workspace.close()


def names(workspace: Workspace, title: str) -> list[str]:
    return sorted({segment.speaker or "" for segment in segments(workspace, title)})


def segments(workspace: Workspace, title: str) -> list[Segment]:
    return workspace.library.segments(workspace.library.resolve(title).id)


def unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is close enough to be sure."""

    def match(*args, **more):
        return {key: replace(found, sure=False) for key, found in match_voices(*args, **more).items()}

    monkeypatch.setattr(known_voices, "match_voices", match)


def test_a_voice_that_was_named_carries_its_name_in_another_recording(two: Workspace) -> None:
    for number, name in enumerate(("Anna", "Ben"), 1):
        two.rename_speaker(FIRST, f"Speaker {number}", name)
    assert [voice.name for voice in two.known_voices()] == ["Anna", "Ben"]
    found = {likeness.speaker: likeness for likeness in two.find_voices(SECOND)}
    assert found["Anna"].sure and found["Ben"].sure and set(found) == {"Anna", "Ben"}
    assert names(two, SECOND) == ["Anna", "Ben", "Speaker 3"]


def test_a_voice_that_may_be_known_keeps_its_label_until_it_is_confirmed(two, monkeypatch) -> None:
    unsure(monkeypatch)
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.find_voices(SECOND)
    (asked,) = [facts for facts in two.speaker_facts(SECOND) if facts.likeness]
    assert (asked.name, asked.likeness.voice, asked.likeness.sure) == ("Speaker 1", "Anna", False)
    for format in ("txt", "srt", "vtt", "md", "json"):
        assert b"Speaker 1" in two.export(SECOND, format) and b"Anna" not in two.export(SECOND, format)
    before = two.known_voices()[0].seconds
    assert two.confirm_voice(SECOND, "Speaker 1") == "Anna"
    assert "Anna" in names(two, SECOND) and "Speaker 1" not in names(two, SECOND)
    (anna,) = two.known_voices()
    assert len(anna.recordings) == 2 and anna.seconds > before


def test_who_was_rejected_is_not_asked_about_again(two, monkeypatch) -> None:
    unsure(monkeypatch)
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.find_voices(SECOND)
    assert two.reject_voice(SECOND, "Speaker 1") == "Anna"
    assert two.find_voices(SECOND) == []
    with pytest.raises(MossAgentError):
        two.confirm_voice(SECOND, "Speaker 1")


def test_a_name_the_program_gave_wrongly_is_taken_back(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.find_voices(SECOND)
    two.reject_voice(SECOND, "Anna")
    assert names(two, SECOND) == ["Speaker 1", "Speaker 2", "Speaker 3"]
    assert all(likeness.voice != "Anna" or not likeness.sure for likeness in two.find_voices(SECOND))


def test_corrections_are_undone_past_a_name_that_the_program_gave_and_took_back(two: Workspace) -> None:
    before = segments(two, SECOND)
    first = next(item for item in before if item.speaker == "Speaker 1")
    two.give_speaker(SECOND, [first.id], "Speaker 2")
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    revision = two.recording(SECOND).revision
    two.find_voices(SECOND)
    seen = two.changes_since(SECOND, revision)
    assert {item.speaker for item in seen.segments} == {"Anna"}, "an open page hears of it"
    other = next(item for item in before if item.speaker == "Speaker 3")
    two.give_speaker(SECOND, [other.id], "Anna")
    revision = two.recording(SECOND).revision
    two.reject_voice(SECOND, "Anna")
    assert {item.speaker for item in two.changes_since(SECOND, revision).segments} == {"Speaker 1"}
    two.undo_correction(SECOND)
    two.undo_correction(SECOND)
    assert [(item.id, item.speaker) for item in segments(two, SECOND)] == [
        (item.id, item.speaker) for item in before
    ]
    two.undo_correction(SECOND, redo=True)
    two.undo_correction(SECOND, redo=True)
    given = {item.id: item.speaker for item in segments(two, SECOND)}
    assert (given[first.id], given[other.id]) == ("Speaker 2", "Speaker 1")


def test_a_name_that_undoing_would_bring_back_is_not_given_to_another_voice(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    before = two.rename_speaker(SECOND, "Speaker 3", "Anna") and segments(two, SECOND)
    theirs = [item.id for item in before if item.speaker == "Anna"]
    two.give_speaker(SECOND, theirs, "Speaker 2")
    two.find_voices(SECOND)
    two.undo_correction(SECOND)
    assert [item.id for item in segments(two, SECOND) if item.speaker == "Anna"] == theirs


def test_a_corrected_name_is_the_voice_s_too(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Ana")
    two.rename_speaker(FIRST, "Ana", "Anna")
    assert [voice.name for voice in two.known_voices()] == ["Anna"]
    two.undo_correction(FIRST)
    two.undo_correction(FIRST)
    assert names(two, FIRST) == ["Speaker 1", "Speaker 2", "Speaker 3"]
    assert two.known_voices() == [], "naming was undone"


def of(workspace: Workspace, title: str, speaker: str) -> list[int]:
    return [item.id for item in segments(workspace, title) if item.speaker == speaker]


def learned(workspace: Workspace) -> dict[str, float]:
    return {voice.name: voice.seconds for voice in workspace.known_voices()}


def test_a_profile_follows_its_name_back_and_forth(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Ana")
    two.rename_speaker(FIRST, "Ana", "Anna")
    known = learned(two)
    two.undo_correction(FIRST)
    assert learned(two) == {"Ana": known["Anna"]}
    two.undo_correction(FIRST, redo=True)
    assert learned(two) == known


def test_a_name_the_program_gave_is_not_confirmed_by_undoing_another(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    known, found = two.known_voices(), two.find_voices(SECOND)
    two.rename_speaker(SECOND, "Anna", "Zoe")
    two.undo_correction(SECOND)
    assert two.known_voices() == known and two.voices.likenesses(two.recording(SECOND).id) == found


def test_speakers_who_were_united_by_mistake_are_known_each_by_their_own_voice(two: Workspace) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.rename_speaker(FIRST, "Speaker 2", "Ben")
    before, own = learned(two), samples(two.home)
    two.rename_speaker(FIRST, "Ben", "Anna", merge=True)
    both = samples(two.home)
    assert set(learned(two)) == {"Anna"}
    two.undo_correction(FIRST)
    assert learned(two) == before and sorted(samples(two.home)) == sorted(own)
    two.undo_correction(FIRST, redo=True)
    assert samples(two.home) == both
    two.voices.setting = "off"
    two.undo_correction(FIRST)
    assert two.known_voices() == [], "what was learned from both is neither's, and nothing may be learned"


@pytest.mark.parametrize("way", ["give", "merge", "relabel", "again"])
def test_a_voice_whose_name_is_gone_is_known_no_longer(two: Workspace, monkeypatch, way: str) -> None:
    first, second = next(
        (one, other)
        for one, other in itertools.pairwise(segments(two, FIRST))
        if one.speaker != other.speaker == "Speaker 1"
    )
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    assert set(learned(two)) == {"Anna"}
    theirs = of(two, FIRST, "Anna")
    if way == "give":
        two.give_speaker(FIRST, theirs, "Speaker 2")
    elif way == "merge":
        two.give_speaker(FIRST, [number for number in theirs if number != second.id], "Speaker 2")
        assert set(learned(two)) == {"Anna"}
        two.merge_sentences(FIRST, [first.id, second.id])
    else:
        recording = two.recording(FIRST)

        def anew(*_) -> Recording:
            two.library.rename_speaker(recording.id, "Anna", "Speaker 9")
            return recording

        monkeypatch.setattr(two.ingest, "add" if way == "again" else "relabel_speakers", anew)
        if way == "again":
            two.add(two.library.audio_path(recording.id), again=True, drop_corrections=True)
        else:
            two.relabel_speakers(FIRST, 3, drop_corrections=True)
    assert two.known_voices() == []


def test_a_voice_is_learned_again_from_what_is_still_its(two: Workspace, monkeypatch) -> None:
    def sound(_, sentences: list[Segment], *__) -> SpokenVoice:
        vector = np.random.default_rng([sentence.id for sentence in sentences]).random(256)
        seconds = sum(sentence.end - sentence.start for sentence in sentences)
        return SpokenVoice((vector / np.linalg.norm(vector)).astype(np.float32), seconds)

    monkeypatch.setattr(known_voices, "spoken_voice", sound)
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    before, known = samples(two.home), learned(two)["Anna"]
    theirs = of(two, FIRST, "Anna")
    two.give_speaker(FIRST, theirs[:2], "Speaker 2")
    two.find_voices(SECOND)
    assert samples(two.home) != before and learned(two)["Anna"] < known
    two.undo_correction(FIRST)
    two.find_voices(SECOND)
    assert samples(two.home) == before
    two.give_speaker(FIRST, theirs[1:], "Speaker 2")
    two.find_voices(SECOND)
    assert two.known_voices() == [], "one sentence is too little"


def test_a_sentence_that_is_split_while_speakers_are_identified_again_has_its_speaker(
    two: Workspace, monkeypatch
) -> None:
    whole = max(segments(two, FIRST), key=lambda sentence: len(sentence.text))

    def assign(_, sentences: list[Segment], *__) -> list[str]:
        two.split_sentence(FIRST, whole.id, whole.text.index(" ", len(whole.text) // 2))
        return [f"Voice of {sentence.id}" for sentence in sentences]

    monkeypatch.setattr("index.diarization.diarize_stage.assign_speakers", assign)
    two.relabel_speakers(FIRST, 3)
    parts = [item for item in segments(two, FIRST) if whole.start <= item.start < whole.end]
    assert len(parts) == 2 and {part.speaker for part in parts} == {f"Voice of {whole.id}"}


@pytest.mark.parametrize("setting", ["off", "ask"])
def test_nothing_is_remembered_unasked(two: Workspace, setting: str) -> None:
    two.voices.setting = setting
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    assert two.known_voices() == [] and two.find_voices(SECOND) == []


def test_switched_off_nobody_is_named_and_what_was_unsure_is_not_shown(two, monkeypatch) -> None:
    unsure(monkeypatch)
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.find_voices(SECOND)
    two.voices.setting = "ask"
    two.allow_voices(False)
    assert two.find_voices(SECOND) == [] and not any(facts.likeness for facts in two.speaker_facts(SECOND))
    assert two.known_voices(), "still there until it is forgotten"
    two.forget_voices()
    assert two.known_voices() == []


def bytes_of(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.glob("library.sqlite*"))


def samples(home: Path) -> list[bytes]:
    with sqlite3.connect(home / "library.sqlite") as database:
        return [row[0] for row in database.execute("SELECT embedding FROM voice_samples")]


@pytest.mark.parametrize("way", ["profile", "all", "recording"])
def test_what_is_removed_leaves_nothing_of_a_voice(two: Workspace, way: str) -> None:
    two.rename_speaker(FIRST, "Speaker 1", "Anna")
    two.find_voices(SECOND)
    (sample,) = samples(two.home)
    assert sample[:64] in bytes_of(two.home)
    if way == "profile":
        two.forget_voice("anna")
    elif way == "all":
        two.forget_voices()
    else:
        two.remove(FIRST, drop_corrections=True)
    assert two.known_voices() == [] and samples(two.home) == []
    assert sample[:64] not in bytes_of(two.home)
    assert "Anna" in names(two, SECOND), "the transcript is the user's"


def test_only_a_near_voice_with_enough_speech_and_no_rival_is_sure() -> None:
    rng = np.random.default_rng(1)
    first, second, third = np.linalg.qr(rng.standard_normal((256, 3)))[0].T
    # What a voice has of its own, beside what all clean ones have in common.
    common = condition_means()[CLEAN]
    anna, twin, stranger = (common + 0.4 * own for own in (first, 0.9 * first + 0.43 * second, third))

    def sure(known: dict[int, np.ndarray], seconds: float = 30.0) -> dict[str, bool]:
        samples = {number: [vector[None]] for number, vector in known.items()}
        found = match_voices({"s": SpokenVoice(anna, seconds)}, samples)
        return {str(match.voice): match.sure for match in found.values()}

    assert sure({1: anna, 2: stranger}) == {"1": True}
    assert sure({1: anna, 2: twin}) == {"1": False}
    assert sure({1: anna}, seconds=4.0) == {"1": False}
    assert sure({1: stranger}) == {} and sure({1: anna}, seconds=1.0) == {}


def test_a_clean_voice_is_known_again_over_the_telephone(audio: Path, script: list[dict]) -> None:
    said = [row for row in script if row["start"] < 150]
    telephone = CONDITIONS.index("telephone")
    known, heard = {}, {}
    for number, name in enumerate(("Anna", "Ben"), 1):
        own = [Segment(row["start"], row["end"], "…") for row in said if row["speaker"] == name]
        early, late = own[: len(own) // 2], own[len(own) // 2 :]
        speech = [sentence.span for sentence in own]
        voice = spoken_voice(audio, early, speech, [telephone])
        rows = [voice.vector if row is None else row for row in voice.in_each]
        known[number] = [np.stack(rows)]
        over = spoken_voice(audio, late, speech, [telephone]).under[telephone]
        heard[name] = SpokenVoice(over, 20.0)
    found = match_voices(heard, known)
    assert {name: match.voice for name, match in found.items()} == {"Anna": 1, "Ben": 2}
    assert {condition_of(voice.vector) for voice in heard.values()} == {telephone}
    as_recorded = {number: [sample[:1] for sample in samples] for number, samples in known.items()}
    for name, match in match_voices(heard, as_recorded).items():
        assert match.score < found[name].score


def test_a_snippet_is_a_few_clear_seconds_of_one_voice(two: Workspace) -> None:
    for facts in two.speaker_facts(FIRST):
        inside = [
            segment
            for segment in segments(two, FIRST)
            if segment.start < facts.snippet.end and segment.end > facts.snippet.start
        ]
        assert {segment.speaker for segment in inside} == {facts.name}
        assert 1.0 < facts.snippet.duration <= 6.0


@pytest.fixture
def run(two: Workspace, monkeypatch, capsys) -> Callable[..., object]:
    """A command with ``--json``; its document."""

    def go(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(two.home), *arguments, "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        return json.loads(out)

    return go


def test_the_command_line_does_all_of_it(run, monkeypatch) -> None:
    monkeypatch.setenv("MOSS_AGENT_VOICES", "ask")
    assert run("voices") == {"remembered": None, "voices": []}
    run("rename-speaker", FIRST, "Speaker 2", "Ben")
    assert run("voices")["voices"] == [], "nobody was asked"
    run("rename-speaker", FIRST, "Speaker 1", "Anna", "--remember")
    assert [voice["name"] for voice in run("voices")["voices"]] == ["Anna"]
    assert [found["voice"] for found in run("voices", "find", SECOND)] == ["Anna"]
    listed = {row["name"]: row for row in run("speakers", SECOND)}
    assert listed["Anna"]["likeness"]["sure"] and listed["Anna"]["seconds"] > 10
    assert run("voices", "reject", SECOND, "Anna")["same"] is False
    assert run("voices", "off")["known"] == 1
    assert run("voices", "forget", "--all") == {"forgotten": ["Anna"]}


TALK = (
    ("Anna", "Let us talk about the ferry timetable for the summer season."),
    ("Ben", "The ferry should leave the North Quay every hour in July."),
    ("Anna", "I think the ferry is too small for so many visitors in summer."),
    ("Ben", "I will ask the ferry company for a larger boat by Friday."),
    ("Anna", "Good, and I will send the new timetable to the council by Monday."),
)
OTHER = (
    ("Speaker 1", "The budget for the exhibition is smaller than last year."),
    ("Anna", "I will write to the sponsors about the exhibition by Wednesday."),
    ("Speaker 1", "I will pay the printer for the posters by Thursday."),
    ("Anna", "Visitors come to the exhibition by ferry, so tell the harbour office about it."),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two talks in which Anna speaks, and one in which she does not."""
    workspace = open_workspace(Settings(home=tmp_path_factory.mktemp("people") / "home", voices="on"))
    workspace.__dict__["embedder"] = embedder()
    alone = tuple(("Ben", text.replace("ferry", "bus")) for _, text in TALK)
    for title, talk in (("Ferry", TALK), ("Exhibition", OTHER), ("Bus", alone)):
        said = [Segment(5.0 * at, 5.0 * at + 4, text, speaker=who) for at, (who, text) in enumerate(talk)]
        recording = store(workspace.library, said, title)
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    yield workspace
    workspace.close()


def test_what_somebody_promised_is_found_in_every_recording(library: Workspace) -> None:
    answer = library.assistant.ask("What did Anna promise?")
    quotes = " ".join(cited.quote for cited in answer.citations)
    assert "timetable to the council" in quotes and "write to the sponsors" in quotes
    assert "larger boat" not in quotes and "printer" not in quotes


def test_what_somebody_asks_of_another_is_not_what_they_promised(library: Workspace) -> None:
    talk = (
        ("Rosa", "Now the stage."),
        ("Rosa", "Can you sign the contract with the stage builders before the end of the month?"),
        ("Callum", "Yes."),
    )
    said = [Segment(5.0 * at, 5.0 * at + 4, text, speaker=who) for at, (who, text) in enumerate(talk)]
    recording = store(library.library, said, "Stage")
    index_recording(library.library, library.embedder, library.vectors, recording)
    assert "contract" in library.assistant.ask("What did Callum promise?", recording).text
    asked = library.assistant.ask("What did Rosa promise?", recording)
    assert "contract" not in asked.text and not asked.citations
    library.remove(recording)


def test_a_question_about_what_somebody_said_has_that_person_s_sentences_alone(library: Workspace) -> None:
    from tools.search_recordings import search_recordings

    found = search_recordings(library.toolbox, "What did Anna say about the ferry?", speaker="anna")
    assert {item.speaker for item in found.evidence} == {"Anna"}
    assert len({item.recording for item in found.evidence}) == 2
    with pytest.raises(MossAgentError):
        search_recordings(library.toolbox, "ferry", speaker="Zoe")
    answer = library.assistant.ask("What did Anna say about the ferry?")
    assert answer.citations and answer.steps[-1].arguments["speaker"] == "Anna"


@pytest.fixture(scope="module")
def unconfirmed(library: Workspace) -> Workspace:
    """The same, with somebody who may be Anna in one of the talks."""
    may_be_anna(library, "Exhibition", "Speaker 1")
    return library


def test_an_answer_says_who_else_may_be_meant(unconfirmed: Workspace) -> None:
    answer = unconfirmed.assistant.ask("What did Anna say about the ferry?")
    assert "may be Anna" in answer.text and "Exhibition" in answer.text
    assert "The budget" not in answer.text


@pytest.mark.parametrize("recording", [None, "Exhibition"])
def test_what_somebody_promised_who_may_be_meant_stands_apart(unconfirmed: Workspace, recording) -> None:
    answer = unconfirmed.assistant.ask("What did Anna promise?", recording)
    certain, told, unsure = answer.text.partition("may be Anna")
    assert told and "write to the sponsors" in certain and "printer" not in certain
    assert "printer" in unsure and "sponsors" not in unsure
    assert ("council" in certain) == (recording is None)


def test_nothing_is_promised_for_certain_by_who_only_may_be_meant(unconfirmed: Workspace) -> None:
    answer = unconfirmed.assistant.ask("What did Ben promise?")
    assert "may be" not in answer.text and "larger boat" in answer.text
