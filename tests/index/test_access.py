"""Who sees and changes what, beneath every door: rows, search, files that two people have, voices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from argon2 import PasswordHasher
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.orm import aliased

from index.recording_errors import Forbidden, InvalidInput, UnknownRecording
from index.search.indexing import index_recording
from index.search.library_search import search_library
from index.search.searching import Search
from index.search.vectors import Vectors
from index.store.access import EVERYTHING, NOBODY, Actor, Link, Person, acting_as
from index.store.database import (
    Base,
    CommentRow,
    PassageRow,
    RecordingRow,
    SegmentRow,
    SpeakerRow,
    VoiceRow,
    VoiceSampleRow,
)
from index.store.library import Library
from index.store.migrations.versions import m0015_people, m0019_links_of_people
from index.store.people import TRIES_AN_ADDRESS, LinkRow, LogRow, NotSignedIn, People
from tests.support.indexed import embedder, open_library, sentences, store

DATABASES = ("sqlite", "postgresql")
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Team:
    """Anna, who came first; Ben, who has a recording of his own; Cleo, who has nothing."""

    library: Library
    people: People
    anna: Person
    ben: Person
    cleo: Person
    annas: str
    bens: str


@pytest.fixture
def team(library: Library) -> Iterator[Team]:
    annas = store(library, sentences("The ferry leaves at ten.", "The lighthouse is painted."), "Ferry talk")
    people = People(library.database, QUICK)
    anna, ben, cleo = (people.add(name, "a long password") for name in ("anna", "Ben", "cleo"))
    with acting_as(ben):
        bens = store(library, sentences("The budget is secret.", "The ferry is sold."), "Budget talk")
    library.database.otherwise = NOBODY
    library.database.has_people = True
    yield Team(library, people, anna, ben, cleo, annas, bens)


def seen(team: Team, actor: Actor) -> set[str]:
    with acting_as(actor):
        return {recording.id for recording in team.library.recordings()}


# --- what is read ---------------------------------------------------------------------------------------


def test_the_first_account_is_an_administrators_and_gets_what_was_there(team: Team):
    assert team.anna.is_admin and not team.ben.is_admin
    assert seen(team, team.anna) == {team.annas}
    assert seen(team, team.ben) == {team.bens}
    assert seen(team, team.cleo) == seen(team, NOBODY) == set()
    assert seen(team, EVERYTHING) == {team.annas, team.bens}


def test_what_belongs_to_nobody_is_the_administrators(team: Team):
    with acting_as(EVERYTHING):
        left = store(team.library, sentences("Added by a script."), "Script")
    assert left in seen(team, team.anna) and left not in seen(team, team.ben)


def test_a_recording_of_somebody_else_looks_like_none(team: Team):
    library = team.library
    with acting_as(team.ben):
        with pytest.raises(UnknownRecording):
            library.recording(team.annas)
        for reference in (team.annas, team.annas[:8], "Ferry talk"):
            with pytest.raises(UnknownRecording):
                library.resolve(reference)
        assert not library.segments(team.annas)
        assert library.segment_count(team.annas) == 0 and library.count() == 1
        assert not library.speaking_times(team.annas)
        assert not library.segments_by_id(range(1, 5)) or {
            segment.recording for segment in library.segments_by_id(range(1, 5))
        } == {team.bens}


@pytest.mark.parametrize(
    "query",
    [
        select(SegmentRow.recording_id),
        select(func.max(SegmentRow.recording_id)),
        select(SegmentRow.recording_id).join(RecordingRow),
        select(aliased(SegmentRow).recording_id),
        select(SpeakerRow.recording_id).outerjoin(SegmentRow, SegmentRow.speaker_id == SpeakerRow.id),
        select(RecordingRow.id).where(RecordingRow.id.in_(select(SegmentRow.recording_id))),
        select(SegmentRow.recording_id).union(select(SpeakerRow.recording_id)),
        select(select(SegmentRow.recording_id).limit(1).scalar_subquery()),
        select(SegmentRow.recording_id).distinct(),
    ],
)
def test_every_form_of_a_query_is_narrowed(team: Team, query):
    with team.library.database.transaction() as session:
        with acting_as(team.ben):
            assert set(session.scalars(query)) == {team.bens}
        with acting_as(NOBODY):
            assert not set(session.scalars(query)) - {None}


def test_counts_are_narrowed_too(team: Team):
    with team.library.database.transaction() as session, acting_as(team.cleo):
        assert session.scalar(select(func.count()).where(SegmentRow.recording_id == team.annas)) == 0
        assert session.scalar(select(func.count()).select_from(SegmentRow)) == 0


@pytest.mark.parametrize("query", [text("SELECT * FROM segments"), select(SegmentRow.__table__)])
def test_what_cannot_be_narrowed_is_refused(team: Team, query):
    with team.library.database.transaction() as session, acting_as(team.ben), pytest.raises(RuntimeError):
        session.execute(query)


@pytest.mark.one_database
def test_every_table_belongs_to_recordings_or_is_known_to_belong_to_none():
    alone = {
        "people", "groups", "group_members", "sign_ins", "api_keys", "sign_in_attempts", "threads", "jobs",
        "voice_consent",
    }  # fmt: skip
    others = {"recordings", "voices", "voice_matches"}
    free = {
        mapper.class_.__tablename__
        for mapper in Base.registry.mappers
        if "recording_id" not in mapper.class_.__table__.c
    }
    assert free == alone | others, "say in index/store/access.py who may see a new table"


def test_a_thread_that_lost_whose_work_it_does_sees_nothing(team: Team):
    found: list[int] = []
    with acting_as(team.anna):
        thread = threading.Thread(target=lambda: found.append(team.library.count()))
        thread.start()
        thread.join()
    assert found == [0]


# --- what is written ------------------------------------------------------------------------------------


def changes(recording: str) -> list:
    row = {"recording_id": recording, "start": 0.0, "end": 1.0, "text": "No.", "words": [], "kind": "speech"}
    row |= {"engine": "", "version": 0}
    return [
        update(RecordingRow).where(RecordingRow.id == recording).values(title="Mine"),
        update(SegmentRow).where(SegmentRow.recording_id == recording).values(text="No."),
        update(SegmentRow).values(text="No."),
        delete(SegmentRow).where(SegmentRow.recording_id == recording),
        delete(SpeakerRow),
        delete(RecordingRow).where(RecordingRow.id == recording),
        (insert(SegmentRow), [row]),
        (update(SegmentRow), [{"id": 1, "text": "No."}]),
        SegmentRow(**row),
        CommentRow(recording_id=recording, at=0.0, text="No.", created_at=""),
    ]


def change(team: Team, what) -> None:
    with team.library.database.transaction() as session:
        if isinstance(what, tuple):
            session.execute(*what)
        elif hasattr(what, "compile"):
            session.execute(what)
        else:
            session.add(what)


@pytest.mark.parametrize("which", range(10))
def test_nobody_writes_what_is_not_theirs_to_write(team: Team, which: int):
    def words() -> list[tuple]:
        with team.library.database.transaction() as session, acting_as(EVERYTHING):
            return list(session.execute(select(SegmentRow.id, SegmentRow.text, SegmentRow.speaker_id)))

    before = words()
    with acting_as(team.ben), pytest.raises(UnknownRecording):
        change(team, changes(team.annas)[which])
    with acting_as(team.anna):
        team.people.share(team.annas, "ben")
    with acting_as(team.ben), pytest.raises(Forbidden):
        change(team, changes(team.annas)[which])
    for actor in (NOBODY, Link(1, team.annas)):
        with acting_as(actor), pytest.raises((Forbidden, UnknownRecording)):
            change(team, changes(team.annas)[which])
    assert words() == before


def test_a_reader_becomes_an_editor_who_still_cannot_delete(team: Team):
    with acting_as(team.anna):
        team.people.share(team.annas, "ben", can_edit=True)
    with acting_as(team.ben):
        team.library.rename(team.annas, "Ferry talk, corrected")
        comment = team.library.add_comment(team.annas, 0.0, "Really?")
        assert comment.by == "Ben"
        with pytest.raises(Forbidden):
            team.library.delete(team.annas)
        with pytest.raises(Forbidden):
            team.people.share(team.annas, "cleo")
    with acting_as(team.anna):
        assert team.library.recording(team.annas).title == "Ferry talk, corrected"


# --- sharing --------------------------------------------------------------------------------------------


def test_a_group_shares_with_all_who_are_in_it_and_as_long_as_they_are(team: Team):
    team.people.add_group("crew")
    team.people.set_member("crew", "BEN")
    with acting_as(team.anna):
        share = team.people.share(team.annas, "crew")
    assert team.annas in seen(team, team.ben) and team.annas not in seen(team, team.cleo)
    team.people.set_member("crew", "ben", False)
    assert team.annas not in seen(team, team.ben)
    team.people.set_member("crew", "ben")
    with acting_as(team.anna):
        team.people.unshare(team.annas, share.id)
    assert team.annas not in seen(team, team.ben)


def test_a_link_leads_to_one_recording_until_it_ends_or_is_revoked(team: Team):
    with acting_as(team.anna):
        token = team.people.make_link(team.annas, days=1)
        short = team.people.make_link(team.annas, days=1e-9)
    link = team.people.by_link(token)
    assert link is not None and seen(team, link) == {team.annas}
    assert team.people.by_link(short) is None and team.people.by_link("guess") is None
    with acting_as(team.anna):
        number = team.people.links(team.annas)[0].id
        team.people.revoke_link(team.annas, number)
    assert team.people.by_link(token) is None
    assert seen(team, link) == set(), "whoever came by it sees nothing any more either"


def test_a_link_ends_with_the_account_of_whoever_made_it(team: Team):
    with acting_as(team.ben):
        token = team.people.make_link(team.bens, None)
    link = team.people.by_link(token)
    assert link is not None and seen(team, link) == {team.bens}
    team.people.set_disabled("ben", True)
    assert team.people.by_link(token) is None and seen(team, link) == set(), "also on a page that is open"
    team.people.set_disabled("ben", False)
    assert team.people.by_link(token) is not None and seen(team, link) == {team.bens}
    team.people.give("ben", "cleo")
    assert team.people.by_link(token) is None and seen(team, link) == set(), "it is Cleo's to share now"
    with acting_as(team.cleo):
        assert not any(each.holds for each in team.people.links(team.bens))
    team.people.remove("ben")
    with acting_as(team.cleo):
        assert team.people.links(team.bens) == []


def test_a_link_to_what_is_nobodys_ends_with_the_administrator_who_made_it(team: Team):
    with acting_as(EVERYTHING), team.library.database.transaction() as session:
        session.execute(update(RecordingRow).values(owner_id=None))
    team.people.set_admin("cleo", True)
    with acting_as(Person(team.cleo.id, "cleo", True)):
        token = team.people.make_link(team.annas, None)
    assert team.people.by_link(token) is not None
    team.people.set_admin("cleo", False)
    assert team.people.by_link(token) is None
    team.people.set_admin("cleo", True)
    team.people.set_disabled("cleo", True)
    assert team.people.by_link(token) is None


def test_links_of_a_version_before_belong_to_the_owner(team: Team):
    with acting_as(team.ben):
        token = team.people.make_link(team.bens, None)
    with acting_as(EVERYTHING), team.library.database.transaction() as session:
        session.execute(update(LinkRow).values(person_id=None))
        with Operations.context(MigrationContext.configure(session.connection())):
            m0019_links_of_people.upgrade()
    assert team.people.by_link(token) is not None
    team.people.set_disabled("ben", True)
    assert team.people.by_link(token) is None


def test_only_the_owner_shares_and_asks_who_shares(team: Team):
    with acting_as(team.anna):
        share = team.people.share(team.annas, "ben", can_edit=True)
        team.people.make_link(team.annas, None)
    for actor, wrong in ((team.ben, Forbidden), (team.cleo, UnknownRecording), (NOBODY, UnknownRecording)):
        for ask in (
            lambda: team.people.shares(team.annas),
            lambda: team.people.links(team.annas),
            lambda: team.people.make_link(team.annas, None),
            lambda: team.people.revoke_link(team.annas, 1),
            lambda: team.people.unshare(team.annas, share.id),
        ):
            with acting_as(actor), pytest.raises(wrong):
                ask()
    with acting_as(team.ben), pytest.raises(InvalidInput):
        team.people.unshare(team.bens, share.id)


# --- search ---------------------------------------------------------------------------------------------


def test_search_neither_shows_nor_is_displaced_by_what_is_hidden(
    team: Team, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
):
    library = team.library
    with acting_as(EVERYTHING):
        for recording in (team.annas, team.bens):
            index_recording(library, embedder(), vectors, recording)
        # Many that fit better, which Ben cannot see.
        for number in range(4):
            found = store(library, sentences("The ferry, the ferry, the ferry."), f"Ferry {number}")
            index_recording(library, embedder(), vectors, found)
    monkeypatch.setattr("index.search.searching.CANDIDATES", 2)
    for held in (vectors, None):
        search = Search(library, embedder(), held)
        with acting_as(team.anna):
            assert search.search("the lighthouse", team.annas)
        with acting_as(team.ben):
            assert {hit.recording for hit in search.search("the ferry")} == {team.bens}
            assert not search.search("the lighthouse", team.annas), "not from what is kept in memory either"
            shown = search_library(library, search, "ferry", 24)
            assert {recording.id for recording, _ in shown.places} == {team.bens} and not shown.titled
        with acting_as(team.cleo):
            assert not search.search("the ferry")
            assert not search_library(library, search, "ferry", 24).places
    vectors.close()


# --- the same file, twice -------------------------------------------------------------------------------


def test_whoever_has_the_same_file_has_a_recording_of_their_own(team: Team):
    content = "ab" * 32
    with acting_as(team.ben):
        bens = team.library.recording_of_media(content)
    with acting_as(team.cleo):
        cleos = team.library.recording_of_media(content)
    assert len({content, bens, cleos}) == 3
    with acting_as(team.ben):
        assert team.library.recording_of_media(content) == bens, "and it is found again"
    with acting_as(team.anna):
        assert team.library.recording_of_media(team.annas) == team.annas, "it was there before accounts"


# --- voices, conversations ------------------------------------------------------------------------------


def test_voices_are_known_to_one_person_and_forgotten_with_the_share(team: Team):
    library, database = team.library, team.library.database

    def learn(recording: str) -> None:
        with database.transaction() as session:
            voice = VoiceRow(name="Maria", encoder="test")
            session.add(voice)
            session.flush()
            session.add(
                VoiceSampleRow(voice_id=voice.id, recording_id=recording, seconds=9.0, embedding=b"1234")
            )

    def known() -> list[str]:
        with database.transaction() as session:
            return [*session.scalars(select(VoiceRow.name)), *session.scalars(select(VoiceSampleRow.seconds))]

    with acting_as(team.anna):
        learn(team.annas)
        team.people.share(team.annas, "ben", can_edit=True)
        share = team.people.shares(team.annas)[0].id
        assert known() == ["Maria", 9.0]
    with acting_as(team.ben):
        assert known() == []
        learn(team.annas)
        assert known() == ["Maria", 9.0]
    with acting_as(team.anna):
        team.people.unshare(team.annas, share)
        assert known() == ["Maria", 9.0]
    with acting_as(team.ben):
        assert known() == []
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM voices")) == 1
    library.database.otherwise = EVERYTHING
    assert known() == [9.0], "the command line knows no one's voices but its own"


def test_conversations_of_two_people_are_two_and_close_with_what_they_quote(team: Team):
    library = team.library
    with acting_as(team.anna):
        team.people.share(team.annas, "ben")
        share = team.people.shares(team.annas)[0].id
    keys = []
    for person in (team.anna, team.ben):
        with acting_as(person):
            keys.append(library.thread_key("standup"))
            library.note_thread(keys[-1], [team.annas])
            assert library.is_open(keys[-1])
    assert keys[0] != keys[1]
    with acting_as(team.anna):
        team.people.unshare(team.annas, share)
        assert library.is_open(keys[0])
    with acting_as(team.ben):
        assert not library.is_open(keys[1])


# --- accounts -------------------------------------------------------------------------------------------


def test_signing_in_takes_the_password_and_not_too_many_wrong_ones(team: Team):
    people = team.people
    person, token = people.sign_in("BEN", "a long password", "10.0.0.1")
    assert person == team.ben and people.signed_in(token) == team.ben
    people.sign_out(token)
    assert people.signed_in(token) is None
    for name in ("ben", "nobody-here"):
        for _ in range(8):
            with pytest.raises(NotSignedIn):
                people.sign_in(name, "wrong wrong wrong", "10.0.0.2")
        with pytest.raises(NotSignedIn) as refused:
            people.sign_in(name, "a long password", "10.0.0.3")
        assert refused.value.seconds > 0
    assert people.sign_in("cleo", "a long password", "10.0.0.3")[0] == team.cleo


def test_a_disabled_account_and_an_old_password_open_nothing(team: Team):
    people = team.people
    token, key = people.begin(team.ben), people.add_key(team.ben, "script")
    assert people.signed_in(token) == people.by_key(key) == team.ben
    people.set_disabled("ben", True)
    assert people.signed_in(token) is people.by_key(key) is None
    with pytest.raises(NotSignedIn):
        people.sign_in("ben", "a long password")
    people.set_disabled("ben", False)
    token = people.begin(team.ben)
    people.set_password("ben", "another password")
    assert people.signed_in(token) is None and people.by_key(key) == team.ben
    people.remove_key(team.ben, people.keys(team.ben)[0].id)
    assert people.by_key(key) is None
    key = people.add_key(team.ben, "script")
    people.set_password("ben", "a third password", revoke_keys=True)
    assert people.by_key(key) is None


def test_right_passwords_are_no_tries_of_the_address_that_many_share(team: Team):
    for _ in range(TRIES_AN_ADDRESS + 2):
        team.people.sign_in("ben", "a long password", "10.0.0.1")
    for number in range(TRIES_AN_ADDRESS):
        with pytest.raises(NotSignedIn):
            team.people.sign_in(f"nobody {number}", "a wrong password", "10.0.0.1")
    with pytest.raises(NotSignedIn, match="Too many"):
        team.people.sign_in("ben", "a long password", "10.0.0.1")


def test_an_account_is_never_given_the_number_of_one_that_was_removed(team: Team):
    numbers = {team.anna.id, team.ben.id, team.cleo.id}
    for _ in range(5):
        team.people.remove("cleo")
        numbers.add(team.people.add("cleo", "a long password").id)
    assert len(numbers) == 8


def test_an_account_is_not_called_as_a_group(team: Team):
    team.people.add_group("crew")
    with pytest.raises(InvalidInput, match="group"):
        team.people.add("Crew", "a long password")


@pytest.mark.one_database
def test_what_lets_somebody_in_is_not_in_the_database(team: Team, home: Path):
    people = team.people
    secrets = [people.begin(team.ben), people.add_key(team.ben, "script"), "a long password"]
    with acting_as(team.anna):
        secrets.append(people.make_link(team.annas, None))
    team.library.database.close()
    for file in home.glob("library.sqlite*"):
        assert not any(secret.encode() in file.read_bytes() for secret in secrets)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 81, "ANNA"])
def test_a_name_must_be_one_and_free(team: Team, name: str):
    with pytest.raises(InvalidInput):
        team.people.add(name, "a long password")
    with pytest.raises(InvalidInput):
        team.people.add("dora", "short")


def test_somebody_is_always_an_administrator(team: Team):
    for attempt in (
        lambda: team.people.set_admin("anna", False),
        lambda: team.people.set_disabled("anna", True),
        lambda: team.people.remove("anna"),
    ):
        with pytest.raises(InvalidInput):
            attempt()
    team.people.set_admin("ben", True)
    team.people.set_admin("anna", False)


def test_the_log_does_not_say_what_was_deleted_or_who_was_removed(team: Team):
    database = team.library.database
    with acting_as(EVERYTHING), database.transaction() as session:
        for person in (team.anna, team.ben):
            session.add(
                LogRow(at=1.0, person_id=person.id, who=person.name, what="opened", recording_id=team.bens)
            )
    with acting_as(team.ben):
        team.library.delete(team.bens)
    team.people.remove("ben")
    with database.transaction() as session, acting_as(EVERYTHING):
        rows = session.scalars(select(LogRow).order_by(LogRow.id)).all()
    assert rows[0].who == "anna" and rows[1].who.startswith("gone-")
    assert rows[0].recording_id == rows[1].recording_id != team.bens
    assert PassageRow.__tablename__ == "passages"


@pytest.mark.one_database
def test_voices_of_before_accounts_stay_with_all_they_were_learned_from(home: Path):
    library = open_library(home)
    recording = store(library, sentences("Hello."), "Talk")
    with library.database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO voices (id, name, encoder) VALUES (7, 'Maria', 'test')")
        connection.exec_driver_sql(
            "INSERT INTO voice_samples (voice_id, recording_id, seconds, embedding) VALUES (7, ?, 9, x'00')",
            (recording,),
        )
        connection.exec_driver_sql("INSERT INTO voice_matches VALUES (1, 7, 'sure', 'Speaker 1', 0.9)")
        with Operations.context(MigrationContext.configure(connection)):
            m0015_people._make_voices_anew(connection)
    with library.database.engine.begin() as connection:
        for table, count in (("voices", 1), ("voice_samples", 1), ("voice_matches", 1)):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == count
        connection.exec_driver_sql("INSERT INTO voices (name, encoder, owner_id) VALUES ('Maria', 'test', 2)")
        connection.exec_driver_sql("DELETE FROM recordings")
        left = connection.exec_driver_sql("SELECT owner_id FROM voices").scalars().all()
    assert left == [2], "the trigger and the cascade still work"
    library.database.close()
