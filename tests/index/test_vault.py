"""A folder of notes follows the library, and never costs a person a word that they wrote."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from index.export.vault import Action, Synced, Vault, safe_name
from index.export.vault_note import Content, parse_note, write_note
from index.recording_errors import MossAgentError
from index.records import ActionItem, Item, Recording, Segment, Summary
from index.store.library import Library
from tests.support.indexed import sentences, store

BASE = "https://notes.example:8443/moss"


def summary(recording: Recording) -> Summary:
    return Summary(
        template="meeting",
        overview="Two sentences.",
        topics=(),
        decisions=(Item("We take the ferry.", 65.0, 70.0, (1,)),),
        action_items=(ActionItem("I will book it.", 70.0, 75.0, (2,), owner="Anna", due="Friday"),),
        open_questions=(),
        key_quotes=(),
    )


def talk(library: Library, title: str, *texts: str, speaker: str = "Anna") -> str:
    return store(library, sentences(*(texts or ("We take the ferry.",)), speaker=speaker), title)


def sync(library: Library, folder: Path, base: str = BASE) -> dict[str, Synced]:
    return {note.recording: note for note in Vault(library, folder, base, summary).sync()}


def actions(library: Library, folder: Path) -> list[Action]:
    return [note.action for note in sync(library, folder).values()]


def front(path: Path) -> dict:
    return yaml.safe_load(path.read_text().split("---\n")[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def test_a_note_has_typed_properties_a_summary_a_transcript_and_links_to_moments(library, folder):
    talk_id = talk(library, "Ferry", "We take the <b>ferry</b>.", "# No heading")
    note = sync(library, folder)[talk_id]
    assert note.action is Action.CREATED and note.path == folder / "Ferry.md"
    properties = front(note.path)
    assert properties["moss_agent"] == talk_id and properties["title"] == "Ferry"
    assert properties["date"] == datetime.date(2026, 1, 1) and properties["speakers"] == ["Anna"]
    assert properties["decisions"] == [
        {"text": "We take the ferry.", "at": "1:05", "link": f"{BASE}/?recording={talk_id}&t=65"}
    ]
    assert [(one["owner"], one["due"], one["at"]) for one in properties["action_items"]] == [
        ("Anna", "Friday", "1:10")
    ]
    html = MarkdownIt().render(note.path.read_text().split("---\n", 2)[2])
    assert f'href="{BASE}/?recording={talk_id}&amp;t=0"' in html
    assert "<h1>Ferry</h1>" in html and "&lt;b&gt;ferry" in html and "<h1>No heading" not in html


def test_a_second_run_writes_nothing_and_a_changed_recording_is_followed(library, folder):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert actions(library, folder) == [Action.UNCHANGED]
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    library.rename_speaker(talk_id, "Anna", "Wilma")
    assert actions(library, folder) == [Action.UPDATED]
    assert front(path)["speakers"] == ["Wilma"] and "**Wilma**" in path.read_text()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_a_person_wrote_outside_of_the_marks_stays(library, folder, line_end):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    head, rules, body = path.read_text().partition("title:")
    begin = body.index("<!-- moss-agent:begin")
    mine = body[:begin] + "# Mine\n\n[[Other note]] <!-- my comment -->\n" + body[begin:]
    mine = f"{head}# my tags\ntags:\n  - ferry\n  - 2026\n{rules}{mine}\n## Below\n\n- [ ] call\n"
    path.write_bytes(mine.replace("\n", line_end).encode())
    library.rename_speaker(talk_id, "Anna", "Wilma")
    note = sync(library, folder)[talk_id]
    assert note.action is Action.UPDATED and not note.told and note.aside is None
    written = path.read_bytes().decode()
    assert written.count(line_end) == written.count("\n")
    for kept in ("# Mine", "[[Other note]] <!-- my comment -->", "## Below", "- [ ] call", "# my tags"):
        assert kept in written
    assert front_of(written)["tags"] == ["ferry", 2026] and front_of(written)["speakers"] == ["Wilma"]


def front_of(written: str) -> dict:
    return yaml.safe_load(written.replace("\r\n", "\n").split("---\n")[1])


def test_a_change_between_the_marks_is_told_and_kept_aside_before_it_is_overwritten(library, folder):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    path.write_text(path.read_text().replace("We take the ferry.", "We take the GREEN ferry."))
    changed = path.read_bytes()
    note = sync(library, folder)[talk_id]
    assert note.action is Action.UNCHANGED and note.told and path.read_bytes() == changed
    library.rename_speaker(talk_id, "Anna", "Wilma")
    note = sync(library, folder)[talk_id]
    assert note.action is Action.UPDATED and note.told and note.aside is not None
    assert "GREEN" in note.aside.read_text() and "GREEN" not in path.read_text()
    # The file beside it is the person's: it is no note of ours, and no later run touches it.
    aside = note.aside.read_bytes()
    assert [one.told for one in sync(library, folder).values()] == [""]
    assert note.aside.read_bytes() == aside and parse_note(aside.decode()) is None


def test_a_property_of_ours_that_was_changed_is_kept_aside_and_formatting_is_no_change(library, folder):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    values = front(path)
    # Other programs write the same properties in another way, and strip spaces at ends of lines.
    again = yaml.safe_dump(values, default_flow_style=False, sort_keys=True, width=40)
    path.write_text(f"---\n{again}---\n" + path.read_text().split("---\n", 2)[2].replace("\n\n", "\n  \n", 1))
    library.rename_speaker(talk_id, "Anna", "Wilma")
    assert sync(library, folder)[talk_id].aside is None
    path.write_text(path.read_text().replace("title: Ferry", "title: My ferry"))
    library.rename_speaker(talk_id, "Wilma", "Anna")
    aside = sync(library, folder)[talk_id].aside
    assert aside is not None and "My ferry" in aside.read_text() and front(path)["title"] == "Ferry"


def test_front_matter_that_is_no_yaml_is_left_to_the_person(library, folder):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    path.write_text(path.read_text().replace("title: Ferry", 'title: "Ferry\nmine: [1'))
    library.rename_speaker(talk_id, "Anna", "Wilma")
    note = sync(library, folder)[talk_id]
    assert "YAML" in note.told and "mine: [1" in path.read_text() and "**Wilma**" in path.read_text()


@pytest.mark.parametrize("damage", ["end", "begin", "both"])
def test_a_note_with_damaged_marks_is_left_as_it_is_and_told(library, folder, damage):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    text = path.read_text()
    if damage != "begin":
        text = text.replace("<!-- moss-agent:end -->", "")
    if damage != "end":
        text = text.replace("moss-agent:begin", "moss-agent: begin")
    path.write_text(text + "my words\n")
    library.rename_speaker(talk_id, "Anna", "Wilma")
    note = sync(library, folder)[talk_id]
    assert note.action is Action.LEFT and path.name in note.told
    assert path.read_text() == text + "my words\n" and len(list(folder.iterdir())) == 1


def test_a_new_title_renames_the_note_unless_the_person_has_moved_it(library, folder):
    first, second = talk(library, "Ferry"), talk(library, "Bus")
    notes = sync(library, folder)
    (folder / "2026").mkdir()
    moved = notes[second].path.rename(folder / "2026" / "My bus.md")
    library.rename(first, "Ferry: the decision")
    library.rename(second, "Coach")
    notes = sync(library, folder)
    assert notes[first].action is Action.RENAMED and notes[first].path.name == "Ferry- the decision.md"
    assert notes[second].path == moved and front(moved)["title"] == "Coach"
    library.rename(second, "Train")
    assert sync(library, folder)[second].path == moved
    assert sorted(path.name for path in folder.rglob("*.md")) == ["Ferry- the decision.md", "My bus.md"]


def test_two_recordings_of_one_title_and_a_file_of_the_person_have_three_names(library, folder):
    folder.mkdir()
    (folder / "ferry.MD").write_text("mine")
    first = talk(library, "Ferry")
    second = store(library, sentences("Another."), "FERRY")
    paths = {note.path.name.casefold() for note in sync(library, folder).values()}
    assert len(paths | {"ferry.md"}) == 3 and (folder / "ferry.MD").read_text() == "mine"
    assert {front(path)["moss_agent"] for path in folder.glob("*.md")} == {first, second}


def test_a_removed_recording_takes_its_note_but_never_a_persons_words(library, folder):
    first, second, third = talk(library, "Ferry"), talk(library, "Bus"), talk(library, "Train")
    notes = sync(library, folder)
    notes[second].path.write_text(notes[second].path.read_text() + "\nmy words\n")
    changed = notes[third].path
    changed.write_text(changed.read_text().replace("We take", "We TAKE"))
    for recording in (first, second, third):
        library.delete(recording)
    gone = sync(library, folder)
    assert {note.action for note in gone.values()} == {Action.REMOVED}
    assert not notes[first].path.exists()
    kept = notes[second].path.read_text()
    assert "my words" in kept and "We take the ferry" not in kept and "moss-agent:" not in kept
    aside = gone[third].aside
    assert not changed.exists() and aside is not None and "We TAKE" in aside.read_text()
    assert sync(library, folder) == {} and library.folders_of_notes(first) == []


def test_notes_of_another_library_in_the_same_folder_are_not_touched(library, folder, tmp_path):
    from tests.support.indexed import open_library

    other = open_library(tmp_path / "other")
    talk(other, "Theirs")
    sync(other, folder)
    other.database.close()
    theirs = (folder / "Theirs.md").read_bytes()
    talk(library, "Ours")
    assert actions(library, folder) == [Action.CREATED]
    assert (folder / "Theirs.md").read_bytes() == theirs


def test_a_note_that_was_deleted_comes_again_and_a_forgotten_one_is_found(library, folder):
    talk_id = talk(library, "Ferry")
    path = sync(library, folder)[talk_id].path
    path.unlink()
    assert actions(library, folder) == [Action.CREATED]
    with library.database.transaction() as session:
        session.connection().exec_driver_sql("DELETE FROM synced_notes")
    assert actions(library, folder) == [Action.UPDATED] and len(list(folder.iterdir())) == 1


def test_what_is_no_folder_and_what_is_no_address_are_refused(library, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MossAgentError):
        sync(library, tmp_path / "file")
    for base in ("javascript:alert(1)", "http://a b", "http://x)](y", "notes.example", "file:///etc"):
        with pytest.raises(MossAgentError):
            sync(library, tmp_path / "vault", base)


def test_words_that_look_like_marks_do_no_harm(library, folder):
    mark = "<!-- moss-agent:end --> <!-- moss-agent:begin " + "0" * 64 + " text=0 properties=0 -->"
    talk_id = talk(library, f"Ferry {mark}", f"We say {mark}", speaker=mark)
    sync(library, folder)
    library.rename_speaker(talk_id, mark, "Anna")
    assert actions(library, folder) == [Action.UPDATED] and actions(library, folder) == [Action.UNCHANGED]


@given(st.text(max_size=300))
def test_any_title_gives_a_name_that_every_system_takes(title):
    name = safe_name(title)
    assert name and len(f"{name}.md".encode()) <= 143 and name == name.strip()
    assert not set(name) & set('\\/:*?"<>|#^[]\n\t\0') and name not in (".", "..") and name[0] not in ".-"
    assert name.split(".")[0].casefold() not in ("con", "nul", "com1", "aux")


_LINES = st.lists(st.sampled_from(["", "text", "# x", "---", "- a", "  b: c", "key: value", "<!-- c -->"]))
_FRONT = st.lists(st.sampled_from(["tags: [a]", "# c", "mine:", "  - x", ""]))


@settings(max_examples=60)
@given(
    above=_LINES,
    below=_LINES,
    front_lines=st.lists(st.sampled_from(["tags: [a]", "# c", "mine:", "  - x", ""])),
)
def test_a_persons_lines_around_the_marks_survive_any_number_of_writings(above, below, front_lines):
    content = Content("1" * 64, {"moss_agent": "1" * 64, "title": "T: 1"}, "# T\n\nSaid.")
    first = write_note(content)
    head, _, rest = first.partition("---\n")[2].partition("---\n")
    added, under = "\n".join([*above, ""]), "\n".join(["", *below])
    mine = "---\n" + head + "".join(f"{line}\n" for line in front_lines) + "---\n" + added + rest + under
    text = mine
    for number in range(3):
        note = parse_note(text)
        assert note is not None and not note.is_text_changed
        properties = {"moss_agent": "1" * 64, "title": f"T {number}"}
        text = write_note(Content("1" * 64, properties, f"New {number}"), note)
    begin = text.index("<!-- moss-agent:begin")
    assert text[:begin].endswith(added) and text.endswith("<!-- moss-agent:end -->\n" + under)
    for line in front_lines:
        assert line in text


def test_a_recording_without_speech_has_a_note_too(library, folder):
    silent = store(library, [Segment(1.0, 2.0, "rain", kind="sound")], "Rain")
    vault = Vault(library, folder, BASE, lambda recording: None)
    (note,) = vault.sync()
    assert note.recording == silent and "(rain)" in note.path.read_text()
