"""Who may see and change what: the one place that decides it, beneath every door.

``acting`` says in whose name the program works. Every statement of the library goes through ``guard``: what
is read is narrowed to the recordings that the actor may read and to what belongs to them, and what is written
is refused unless they may change it. A recording that somebody may not read looks as if it did not exist.

    EVERYTHING   no accounts, the command line, the program's own work: nothing is narrowed
    Person       what they own or was shared with them; administrators also what belongs to nobody
    Link         one recording, to read, while the link holds
    NOBODY       nothing

Nobody acts by default where a server has accounts (``Database.otherwise``): work that loses its actor on the
way into another thread finds nothing, instead of everything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import ColumnElement, Select, column, event, false, literal, or_, select, table
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session, sessionmaker, with_loader_criteria
from sqlalchemy.orm.attributes import get_history

from index.recording_errors import Forbidden, MossAgentError, UnknownRecording


@dataclass(frozen=True)
class Person:
    """Somebody with an account.

    Attributes:
        id: Number of the account.
        name: What they sign in with.
        is_admin: Whether recordings that belong to nobody are theirs, too.
    """

    id: int
    name: str
    is_admin: bool = False


@dataclass(frozen=True)
class Link:
    """Somebody who was given a link to one recording.

    Attributes:
        id: Number of the link.
        recording: What it leads to.
    """

    id: int
    recording: str


@dataclass(frozen=True)
class Program:
    """The program itself, or nobody."""

    may_everything: bool


EVERYTHING, NOBODY = Program(True), Program(False)
Actor = Person | Link | Program
Acting = TypeVar("Acting", bound="Actor | None")
Right = Literal["read", "edit", "own"]

acting: ContextVar[Actor | None] = ContextVar("acting", default=None)
"""In whose name the current thread or task works; None is what the database says (``Database.otherwise``)."""

CHECKED = {"access": "checked"}
"""Execution options of a statement that narrows what it reads or writes itself (``narrowed``)."""


class Guarded(Protocol):
    """What is guarded: a database."""

    otherwise: Actor
    """Who acts where nobody is named."""
    has_people: bool
    """Whether anybody has an account, so that voices are not all the same person's."""


@contextmanager
def acting_as(actor: Acting) -> Iterator[Acting]:
    """Work in somebody's name until the end of the block."""
    token = acting.set(actor)
    try:
        yield actor
    finally:
        acting.reset(token)


def actor_of(database: Guarded) -> Actor:
    """In whose name a database is asked now."""
    return acting.get() or database.otherwise


def is_limited(database: Guarded) -> bool:
    """Whether whoever acts may see less than everything."""
    return actor_of(database) != EVERYTHING


# Tables, as far as they decide; the rows of ``index.store`` describe them whole.
_recordings = table("recordings", column("id"), column("owner_id"))
_people = table("people", column("id"), column("is_admin"), column("is_disabled"))
_shares = table("shares", column("recording_id"), column("person_id"), column("group_id"), column("can_edit"))
_members = table("group_members", column("group_id"), column("person_id"))
_links = table(
    "links", column("id"), column("recording_id"), column("person_id"), column("until"), column("revoked_at")
)


def holding() -> Select[Any]:
    """The numbers of the links that lead somewhere, as a query.

    A link ends at its time, when it is revoked, and as long as whoever made it may not share the recording:
    their account is disabled or gone, or the recording is another's by now.
    """
    links, owned, makers = _links.alias("open_links"), _recordings.alias("linked"), _people.alias("makers")
    may_share = or_(owned.c.owner_id == makers.c.id, owned.c.owner_id.is_(None) & makers.c.is_admin.is_(True))
    # Joined by conditions: what narrows the library's own statements adds tables to queries with joins.
    return select(links.c.id).where(
        owned.c.id == links.c.recording_id,
        makers.c.id == links.c.person_id,
        links.c.revoked_at.is_(None),
        or_(links.c.until.is_(None), links.c.until > time.time()),
        makers.c.is_disabled.is_(False),
        may_share,
    )


def allowed(actor: Actor, right: Right = "read") -> Select[Any]:
    """The ids of the recordings that somebody has a right to, as a query."""
    owned = _recordings.alias("owned")
    if isinstance(actor, Program):
        return select(owned.c.id) if actor.may_everything else select(owned.c.id).where(false())
    if isinstance(actor, Link):
        links = _links.alias("their_link")
        found = select(links.c.recording_id).where(links.c.id == actor.id, links.c.id.in_(holding()))
        return found if right == "read" else found.where(false())
    own = owned.c.owner_id == actor.id
    mine = select(owned.c.id).where(or_(own, owned.c.owner_id.is_(None)) if actor.is_admin else own)
    if right == "own":
        return mine
    shares, members = _shares.alias("given"), _members.alias("in_groups")
    groups = select(members.c.group_id).where(members.c.person_id == actor.id)
    given = select(shares.c.recording_id).where(
        or_(shares.c.person_id == actor.id, shares.c.group_id.in_(groups))
    )
    if right == "edit":
        given = given.where(shares.c.can_edit.is_(True))
    return select(mine.union(given).subquery("allowed").c[0])


def readable(session: Session, database: Guarded) -> list[str] | None:
    """The ids of the recordings that whoever acts may read; None for all that there are."""
    actor = actor_of(database)
    return None if actor == EVERYTHING else list(session.connection().scalars(allowed(actor)))


def narrowed(database: Guarded) -> Select[Any] | None:
    """The same as a query, for statements that are not narrowed by themselves."""
    actor = actor_of(database)
    return None if actor == EVERYTHING else allowed(actor)


def may(session: Session, database: Guarded, recording: str, right: Right) -> bool:
    """Whether whoever acts has a right to a recording that exists."""
    actor = actor_of(database)
    ids = select(literal(1)).where(literal(recording).in_(allowed(actor, right)))
    return session.connection().scalar(ids) is not None


def own_name(database: Guarded, name: str) -> str:
    """A name that people choose, such as that of a conversation, as one that is nobody else's."""
    match actor_of(database):
        case Person(id=number):
            return f"person-{number}:{name}"
        case Link(id=number):
            return f"link-{number}:{name}"
        case Program(may_everything=False):
            return f"nobody:{name}"
    return name


def owner_of(name: str) -> int | None:
    """The number of the person whose name of ``own_name`` this is; None where it is no person's."""
    found = re.match(r"person-(\d+):", name)
    return int(found[1]) if found else None


def acting_person(database: Guarded) -> int | None:
    """The number of the person who acts; None where that is no person."""
    actor = actor_of(database)
    return actor.id if isinstance(actor, Person) else None


def guard(sessions: sessionmaker[Session], base: type[DeclarativeBase], database: Guarded) -> None:
    """Let all statements of sessions pass this module.

    Args:
        sessions: What makes them.
        base: The base of the mapped classes.
        database: Says who acts where nobody is named.
    """
    guarding = _Guard(base, database)
    event.listen(sessions, "do_orm_execute", guarding.execute)
    event.listen(sessions, "before_flush", guarding.flush)


class _Guard:
    def __init__(self, base: type[DeclarativeBase], database: Guarded) -> None:
        self._base, self._database = base, database

    # --- statements -------------------------------------------------------------------------------------

    def execute(self, state: ORMExecuteState) -> None:
        """Narrow what is read, and refuse what may not be written."""
        if state.execution_options.get("access") == "checked":
            return
        actor = actor_of(self._database)
        if actor == EVERYTHING:
            if self._database.has_people and state.is_orm_statement and not state.is_insert:
                self._keep_voices_apart(state)
            return
        if state.is_column_load or state.is_relationship_load:
            return  # of a row that was read
        if not state.is_orm_statement:
            raise RuntimeError("This statement cannot be narrowed to what somebody may see.")
        if state.is_insert or state.is_update or state.is_delete:
            self._check_statement(state, actor)
        # Rows are updated by their numbers in no statement that could be narrowed; they were checked.
        if not (state.is_insert or (state.is_update and state.is_executemany)):
            state.statement = state.statement.options(
                *(
                    with_loader_criteria(found, criterion, include_aliases=True)
                    for found, criterion in self._criteria(actor)
                )
            )

    def _criteria(self, actor: Actor) -> Iterator[tuple[type[Any], ColumnElement[bool]]]:
        """Of each mapped class what is seen of it; classes that belong to no recording are left alone."""
        ids = allowed(actor)
        for mapper in self._base.registry.mappers:
            found: Any = mapper.class_
            match found.__tablename__:
                case "recordings":
                    yield found, found.id.in_(ids)
                case "voices":
                    yield found, _owned(found, actor)
                case "voice_matches":
                    yield found, found.voice_id.in_(_voices_of(actor))
                case "voice_samples":
                    yield found, found.voice_id.in_(_voices_of(actor)) & found.recording_id.in_(ids)
                case "watched_files":
                    pass  # of files on this machine; what they became is looked up among recordings
                case _ if "recording_id" in found.__table__.c:
                    yield found, found.recording_id.in_(ids)

    def _keep_voices_apart(self, state: ORMExecuteState) -> None:
        """Whoever acts as no person knows the voices that belong to nobody."""
        for mapper in self._base.registry.mappers:
            if mapper.class_.__tablename__ == "voices":
                found: Any = mapper.class_
                owned = with_loader_criteria(found, found.owner_id.is_(None), include_aliases=True)
                state.statement = state.statement.options(owned)

    def _check_statement(self, state: ORMExecuteState, actor: Actor) -> None:
        mapper = state.bind_mapper
        assert mapper is not None
        found: Any = mapper.class_
        key = _key(found)
        if key is None:
            return
        session, statement = state.session, state.statement
        given = state.parameters
        rows = list(given) if isinstance(given, list | tuple) else [given] if given else []
        if state.is_insert:
            ids = {str(row[key.name]) for row in rows if key.name in row}
            if not ids:
                raise RuntimeError("This statement does not say whose rows it adds.")
        elif state.is_executemany:
            numbers = [row[mapper.primary_key[0].name] for row in rows]
            ids = set()
            for at in range(0, len(numbers), 5_000):
                wanted = mapper.primary_key[0].in_(numbers[at : at + 5_000])
                ids |= set(session.connection().scalars(select(key).where(wanted).distinct()))
        else:
            query = select(key).select_from(found.__table__).distinct()
            where = getattr(statement, "whereclause", None)
            ids = set(session.connection().scalars(query if where is None else query.where(where)))
        right: Right = "own" if key.table.name == "recordings" and state.is_delete else "edit"
        self._check(session, actor, {found for found in ids if found is not None}, right)

    # --- rows -------------------------------------------------------------------------------------------

    def flush(self, session: Session, *_: object) -> None:
        """Refuse rows that may not be written; what somebody adds is theirs."""
        actor = actor_of(self._database)
        if actor == EVERYTHING:
            return
        changed: dict[Right, set[str]] = {"read": set(), "edit": set(), "own": set()}
        made: set[str] = session.info.setdefault("made", set())
        speakers: set[int] = set()
        for row in (*session.new, *session.dirty, *session.deleted):
            name, is_new = row.__tablename__, row in session.new
            if not is_new and row not in session.deleted and not session.is_modified(row):
                continue
            if not isinstance(actor, Person):
                raise Forbidden("Sign in to change something.")
            if name == "recordings":
                if is_new:
                    self._still_there(session, actor)
                    row.owner_id = actor.id
                    made.add(row.id)
                elif row in session.deleted or get_history(row, "owner_id").has_changes():
                    changed["own"].add(row.id)
                else:
                    changed["edit"].add(row.id)
            elif name == "voices":
                row.owner_id = actor.id if is_new else row.owner_id
                if row.owner_id != actor.id:
                    raise Forbidden("This voice is known to somebody else.")
            elif name == "voice_matches":
                speakers.add(row.speaker_id)
            elif "recording_id" in row.__table__.c:
                before = get_history(row, "recording_id").deleted
                right: Right = "read" if name == "thread_recordings" else "edit"
                changed[right] |= {str(id) for id in (row.recording_id, *before) if id is not None}
                if name in ("corrections", "comments") and is_new:
                    row.by = f"{row.by}, {actor.name}" if row.by else actor.name
        if speakers:
            who = table("speakers", column("id"), column("recording_id"))
            found = select(who.c.recording_id).where(who.c.id.in_(speakers))
            changed["edit"] |= set(session.connection().scalars(found))
        for wanted, ids in changed.items():
            self._check(session, actor, ids - made, wanted)

    @staticmethod
    def _still_there(session: Session, person: Person) -> None:
        """Raises ``Forbidden`` where an account was removed while something was being added for it.

        Nobody would ever see what it added. The account is kept from being removed until this is stored.
        """
        own = select(_people.c.id).where(_people.c.id == person.id)
        if session.connection().scalar(own.with_for_update()) is None:
            raise Forbidden("This account was removed.")

    def _check(self, session: Session, actor: Actor, recordings: set[str], right: Right) -> None:
        """Raises ``Forbidden``, or ``UnknownRecording`` where they may not even be seen."""
        made: set[str] = session.info.get("made", set())
        for recording in sorted(recordings - made):
            if not may(session, self._database, recording, right):
                raise refusal(may(session, self._database, recording, "read"), recording)


def refusal(is_seen: bool, recording: str) -> MossAgentError:
    """The error for a recording that may not be changed."""
    if is_seen:
        return Forbidden("You may read this recording, but not change it.")
    return UnknownRecording(f"There is no recording “{recording}”; run `moss-agent list` to see them all.")


def _key(found: Any) -> ColumnElement[Any] | Any | None:
    """The column that says to which recording rows of a class belong; None where they belong to none."""
    columns = found.__table__.c
    return columns.id if found.__tablename__ == "recordings" else columns.get("recording_id")


def _owned(voices: Any, actor: Actor) -> ColumnElement[bool]:
    return voices.owner_id == actor.id if isinstance(actor, Person) else false()


def _voices_of(actor: Actor) -> Select[Any]:
    voices = table("voices", column("id"), column("owner_id")).alias("own_voices")
    return select(voices.c.id).where(_owned(voices.c, actor))
