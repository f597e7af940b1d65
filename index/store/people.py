"""Accounts, groups, sign-ins, keys, shares, links, and the log of who did what.

Passwords are kept as Argon2id hashes; what lets somebody in for a while (sign-ins, keys, links) as SHA-256 of
random tokens, so that nobody who reads the database gets in by it. What is asked here is asked in the
program's name; whether whoever acts may share something is checked first (``require``).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ForeignKey, Index, UniqueConstraint, delete, func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from index.recording_errors import Busy, DiskFull, Forbidden, InvalidInput, MossAgentError
from index.store.access import (
    CHECKED,
    EVERYTHING,
    Actor,
    Link,
    Person,
    Right,
    acting_as,
    acting_person,
    actor_of,
    allowed,
    holding,
    is_limited,
    may,
    refusal,
)
from index.store.database import (
    Base,
    CommentRow,
    CorrectionRow,
    Database,
    JobRow,
    RecordingRow,
    VoiceConsentRow,
    VoiceRow,
    VoiceSampleRow,
)
from index.text import folded_name, one_line

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
"""Characters; a longer one would only cost time."""

SIGN_IN_SECONDS = 14 * 86_400.0
"""How long a sign-in lasts."""

TRIES_A_NAME, TRIES_AN_ADDRESS, TRIES_SECONDS = 8, 40, 900.0
"""Wrong passwords that are taken within so many seconds, for one name and from one address."""

SAME_SECONDS = 300.0
"""What somebody does again within so many seconds is not written down again."""

LOOK_SECONDS = 60.0
"""How often it is noted that a key was used."""

SHARED_TO = {False: "to read", True: "to edit"}
"""What the log says of a share, after the name: by whether it allows to edit."""

_NAME = re.compile(r"[^\s/:,\x00-\x1f]{1,80}")


class PersonRow(Base):
    """An account."""

    __tablename__ = "people"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    folded: Mapped[str] = mapped_column(unique=True)
    """The name as it is compared."""
    email: Mapped[str | None]
    password_hash: Mapped[str | None]
    """Argon2id; NULL for those who come another way."""
    is_admin: Mapped[bool] = mapped_column(default=False)
    is_disabled: Mapped[bool] = mapped_column(default=False)
    issuer: Mapped[str | None]
    """The provider that vouches for them, by OpenID Connect; NULL for none."""
    subject: Mapped[str | None]
    """What that provider calls them."""
    created_at: Mapped[str]
    """ISO 8601, UTC."""


class GroupRow(Base):
    """Several people under one name."""

    __tablename__ = "groups"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class GroupMemberRow(Base):
    """Somebody in a group."""

    __tablename__ = "group_members"

    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), primary_key=True)


class SignInRow(Base):
    """A browser that somebody is signed in with."""

    __tablename__ = "sign_ins"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[float]
    """Seconds since 1970."""


class KeyRow(Base):
    """An API key."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    created_at: Mapped[str]
    used_at: Mapped[float | None]
    """Seconds since 1970, to the minute; NULL where it never was."""


class ShareRow(Base):
    """A recording that somebody, or a group, may read or edit."""

    __tablename__ = "shares"
    __table_args__ = (UniqueConstraint("recording_id", "person_id", "group_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    person_id: Mapped[int | None] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    group_id: Mapped[int | None] = mapped_column(ForeignKey("groups.id", ondelete="CASCADE"), index=True)
    can_edit: Mapped[bool] = mapped_column(default=False)


class LinkRow(Base):
    """A link by which whoever has it reads one recording."""

    __tablename__ = "links"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), index=True)
    person_id: Mapped[int | None]
    """Who made it."""
    until: Mapped[float | None]
    """Seconds since 1970; NULL for no end."""
    revoked_at: Mapped[float | None]
    created_at: Mapped[str]


class LogRow(Base):
    """What somebody did. It outlives people and recordings, and then does not say which they were."""

    __tablename__ = "log"
    __table_args__ = (Index("ix_log_recording", "recording_id"), Index("ix_log_person", "person_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    """Seconds since 1970."""
    person_id: Mapped[int | None]
    who: Mapped[str]
    what: Mapped[str]
    recording_id: Mapped[str | None]
    detail: Mapped[str] = mapped_column(default="")


class AttemptRow(Base):
    """Wrong passwords for a name, or from an address, as a hash."""

    __tablename__ = "sign_in_attempts"

    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    since: Mapped[float]
    """Seconds since 1970."""


class ThreadRow(Base):
    """Whose a conversation is; a conversation of nobody with an account has no row."""

    __tablename__ = "threads"

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(index=True)


class NotSignedIn(MossAgentError):
    """A name and a password do not fit, or were tried too often.

    Args:
        message: The sentence for the user.
        seconds: When it can be tried again; 0 for at once.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Account:
    """An account as it is shown.

    Attributes:
        person: Who acts by it.
        email: As it was given, or as a provider vouches for it.
        groups: Names of the groups they are in.
        has_password: Whether they can sign in with one.
        is_disabled: Whether they cannot sign in at all.
        recordings: How many they own.
    """

    person: Person
    email: str | None
    groups: tuple[str, ...]
    has_password: bool
    is_disabled: bool
    recordings: int


@dataclass(frozen=True)
class Key:
    """An API key as it is shown; the key itself was shown once."""

    id: int
    name: str
    created_at: str
    used_at: float | None


@dataclass(frozen=True)
class Share:
    """Who may read or edit a recording."""

    id: int
    name: str
    is_group: bool
    can_edit: bool


@dataclass(frozen=True)
class SharedLink:
    """A link to a recording as it is shown; times are seconds since 1970."""

    id: int
    until: float | None
    created_at: str
    holds: bool
    """Whether it still leads anywhere; see ``access.holding``."""


@dataclass(frozen=True)
class Logged:
    """One entry of the log; ``at`` is seconds since 1970."""

    at: float
    who: str
    what: str
    recording: str | None
    detail: str


Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def _as_program(
    method: Callable[Concatenate[People, Given], Returned],
) -> Callable[Concatenate[People, Given], Returned]:
    """What a method asks is not narrowed to what whoever calls it may see."""

    @wraps(method)
    def called(self: People, *given: Given.args, **named: Given.kwargs) -> Returned:
        with acting_as(EVERYTHING):
            return method(self, *given, **named)

    return called


class People:
    """The accounts of one library.

    Args:
        database: An open database.
        hasher: What hashes passwords; by default Argon2id with the costs of RFC 9106's second recommendation.
    """

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self.database = database
        self._given = hasher
        self._decoy = ""

    # --- accounts ---------------------------------------------------------------------------------------

    @_as_program
    def count(self) -> int:
        """How many accounts there are."""
        with self.database.transaction() as session:
            return session.scalar(select(func.count()).select_from(PersonRow)) or 0

    @_as_program
    def accounts(self) -> list[Account]:
        """All accounts, by name."""
        with self.database.transaction() as session:
            owned = dict(
                session.execute(
                    select(RecordingRow.owner_id, func.count()).group_by(RecordingRow.owner_id)
                ).all()
            )
            groups: dict[int, list[str]] = {}
            joined = select(GroupMemberRow.person_id, GroupRow.name).join(
                GroupRow, GroupRow.id == GroupMemberRow.group_id
            )
            for person, name in session.execute(joined.order_by(GroupRow.name)):
                groups.setdefault(person, []).append(name)
            return [
                Account(
                    _person(row),
                    row.email,
                    tuple(groups.get(row.id, ())),
                    row.password_hash is not None,
                    row.is_disabled,
                    owned.get(row.id, 0),
                )
                for row in session.scalars(select(PersonRow).order_by(PersonRow.folded))
            ]

    @_as_program
    def find(self, name: str) -> Person:
        """Somebody by name, in any spelling of case.

        Raises:
            InvalidInput: Nobody has this name.
        """
        with self.database.transaction() as session:
            return _person(_row(session, name))

    @_as_program
    def person(self, number: int | None, even_disabled: bool = False) -> Person | None:
        """Somebody by number; None where there is nobody, or they are disabled."""
        with self.database.transaction() as session:
            row = session.get(PersonRow, number) if number is not None else None
            return None if row is None or (row.is_disabled and not even_disabled) else _person(row)

    @_as_program
    def is_disabled(self, actor: Actor) -> bool:
        """Whether somebody's account is disabled, so that what they sent waits."""
        if not isinstance(actor, Person):
            return False
        with self.database.transaction() as session:
            row = session.get(PersonRow, actor.id)
            return row is not None and row.is_disabled

    @_as_program
    def add(
        self, name: str, password: str | None = None, email: str | None = None, is_admin: bool = False
    ) -> Person:
        """Make an account; the first is an administrator's and gets all that was there before.

        Raises:
            InvalidInput: The name is taken or none, or the password is too short.
        """
        hashed = self._hashed(password) if password is not None else None
        with self.database.changing() as session:
            return _person(self._made(session, name, hashed, email, is_admin))

    def _made(
        self, session: Session, name: str, hashed: str | None, email: str | None, is_admin: bool
    ) -> PersonRow:
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise InvalidInput("A name has 1 to 80 characters, without spaces, slashes, colons or commas.")
        if session.scalar(select(PersonRow.id).where(PersonRow.folded == folded_name(name))):
            raise InvalidInput(f"There is an account “{name}” already.")
        if folded_name(name) in {folded_name(group) for group in session.scalars(select(GroupRow.name))}:
            raise InvalidInput(f"There is a group “{name}”; what is shared with it would be this account's.")
        is_first = session.scalar(select(func.count()).select_from(PersonRow)) == 0
        row = PersonRow(
            # Drawn, since what a running server still holds of a removed account must not be the next one's.
            id=1 + secrets.randbelow(2**31 - 2),
            name=name,
            folded=folded_name(name),
            email=email,
            password_hash=hashed,
            is_admin=is_admin or is_first,
            created_at=_now(),
        )
        session.add(row)
        session.flush()
        if is_first:
            theirs = {"owner_id": row.id}
            session.execute(update(RecordingRow).where(RecordingRow.owner_id.is_(None)).values(theirs))
            session.execute(update(VoiceRow).where(VoiceRow.owner_id.is_(None)).values(theirs))
            given = session.scalar(select(VoiceConsentRow.given).where(VoiceConsentRow.id == 1))
            if given is not None:
                session.merge(VoiceConsentRow(id=row.id + 1, given=given))
        return row

    @_as_program
    def remove(self, name: str) -> Person:
        """Delete an account and what only it has: sign-ins, keys, voices, its name in comments and the log.

        Its recordings and conversations lie in other stores too: see ``Workspace.remove_person``.

        Raises:
            Busy: Recordings of theirs are left, which would be nobody's.
        """
        with self.database.changing() as session:
            row = _row(session, name)
            person = _person(row)
            if row.is_admin:
                _keep_an_admin(session, row.id)
            is_last = session.scalar(select(func.count()).select_from(PersonRow)) == 1
            if not is_last and session.scalar(select(RecordingRow.id).filter_by(owner_id=row.id).limit(1)):
                raise Busy(f"Something was being added for “{person.name}” meanwhile; try again.")
            session.execute(delete(ThreadRow).where(ThreadRow.person_id == row.id))
            session.execute(delete(LinkRow).where(LinkRow.person_id == row.id))
            theirs = delete(VoiceRow).where(VoiceRow.owner_id == row.id)
            session.execute(theirs, execution_options=CHECKED)
            session.execute(delete(VoiceConsentRow).where(VoiceConsentRow.id == row.id + 1))
            ending = f", {row.name}"
            session.execute(update(CommentRow).where(CommentRow.by == row.name).values(by=""))
            session.execute(update(CorrectionRow).where(CorrectionRow.by == row.name).values(by=""))
            for comment in session.scalars(select(CommentRow).where(CommentRow.by.endswith(ending))):
                comment.by = comment.by.removesuffix(ending)
            for correction in session.scalars(select(CorrectionRow).where(CorrectionRow.by.endswith(ending))):
                correction.by = correction.by.removesuffix(ending)
            gone = f"gone-{secrets.token_hex(4)}"
            session.execute(update(LogRow).where(LogRow.person_id == row.id).values(who=gone, person_id=None))
            # With whom something was shared, others did.
            for right in SHARED_TO.values():
                told = LogRow.what == "shared", LogRow.detail == f"{row.name}, {right}"
                session.execute(update(LogRow).where(*told).values(detail=f"{gone}, {right}"))
            session.execute(delete(AttemptRow).where(AttemptRow.key == _hash(f"name {row.folded}")))
            session.delete(row)
            session.flush()
            if session.scalar(select(func.count()).select_from(PersonRow)) == 0:
                # Nobody is left to whom anything could belong.
                session.execute(update(RecordingRow).values(owner_id=None))
        self.database.rewrite()
        return person

    @_as_program
    def set_disabled(self, name: str, is_disabled: bool) -> Person:
        """Keep somebody out, wherever they are signed in, or let them in again."""
        with self.database.changing() as session:
            row = _row(session, name)
            if is_disabled and row.is_admin:
                _keep_an_admin(session, row.id)
            row.is_disabled = is_disabled
            if is_disabled:
                session.execute(delete(SignInRow).where(SignInRow.person_id == row.id))
            return _person(row)

    @_as_program
    def set_admin(self, name: str, is_admin: bool) -> Person:
        """Make somebody an administrator, or no longer one."""
        with self.database.changing() as session:
            row = _row(session, name)
            if row.is_admin and not is_admin:
                _keep_an_admin(session, row.id)
            row.is_admin = is_admin
            session.flush()
            if not is_admin:
                self._forget_what_is_unshared(session, [row.id])
            return _person(row)

    @_as_program
    def set_password(self, name: str, password: str, revoke_keys: bool = False) -> Person:
        """Give somebody another password; wherever they are signed in, they have to sign in again.

        Args:
            name: Whose it is.
            password: The new one.
            revoke_keys: Whether their API keys end too, since somebody else may have made one.

        Raises:
            InvalidInput: Nobody has this name, or the password is too short.
        """
        hashed = self._hashed(password)
        with self.database.changing() as session:
            row = _row(session, name)
            row.password_hash = hashed
            session.execute(delete(SignInRow).where(SignInRow.person_id == row.id))
            if revoke_keys:
                session.execute(delete(KeyRow).where(KeyRow.person_id == row.id))
            session.execute(delete(AttemptRow).where(AttemptRow.key == _hash(f"name {row.folded}")))
            return _person(row)

    @_as_program
    def give(self, name: str, to: str) -> int:
        """Make somebody's recordings another's; returns how many."""
        with self.database.changing() as session:
            old, new = _row(session, name), _row(session, to)
            owned = list(session.scalars(select(RecordingRow.id).where(RecordingRow.owner_id == old.id)))
            session.execute(
                update(RecordingRow).where(RecordingRow.owner_id == old.id).values(owner_id=new.id)
            )
            return len(owned)

    @_as_program
    def owned(self, person: Person) -> list[str]:
        """The ids of somebody's recordings."""
        with self.database.transaction() as session:
            return list(session.scalars(select(RecordingRow.id).where(RecordingRow.owner_id == person.id)))

    @_as_program
    def give_up_jobs(self, person: Person) -> None:
        """Forget the files that somebody sent to a queue of several processes; who works on one stops."""
        with self.database.transaction() as session:
            session.execute(delete(JobRow).where(JobRow.person_id == person.id))

    @_as_program
    def forget_old_jobs(self, before: float) -> None:
        """Forget what was stopped, failed or done of what was queued before a time, in seconds since 1970."""
        ended = JobRow.left_at.is_not(None) | JobRow.state.in_(("stopped", "failed"))
        with self.database.transaction() as session:
            session.execute(delete(JobRow).where(ended, JobRow.queued_at < before))

    @_as_program
    def check_removable(self, name: str) -> None:
        """See that somebody can be removed.

        Raises:
            InvalidInput: Nobody has this name, or nobody would be an administrator any more.
        """
        with self.database.transaction() as session:
            row = _row(session, name)
            if row.is_admin:
                _keep_an_admin(session, row.id)

    # --- the log ----------------------------------------------------------------------------------------

    @_as_program
    def note(self, actor: Actor, what: str, recording: str | None, detail: str = "") -> None:
        """Write down what somebody does; the same within a few minutes once."""
        number = actor.id if isinstance(actor, Person) else None
        match actor:
            case Person():
                who = actor.name
            case Link():
                who = f"link {actor.id}"
            case _:
                who = "command line" if actor == EVERYTHING else "nobody"
        now = time.time()
        detail = detail[:200]
        same = select(LogRow.id).filter_by(
            person_id=number, who=who, what=what, recording_id=recording, detail=detail
        )
        with self.database.transaction() as session:
            if number is not None and session.get(PersonRow, number) is None:
                return  # they were removed meanwhile, and the log says no more of them
            if session.scalar(same.where(LogRow.at > now - SAME_SECONDS).limit(1)) is None:
                entry = LogRow(at=now, person_id=number, who=who, what=what, detail=detail)
                entry.recording_id = recording
                session.add(entry)

    @_as_program
    def log(self, name: str | None = None, recording: str | None = None, most: int = 200) -> list[Logged]:
        """What was done, the newest first: by somebody, or with a recording, where these are named."""
        query = select(LogRow).order_by(LogRow.id.desc()).limit(most)
        with self.database.transaction() as session:
            if name is not None:
                query = query.where(LogRow.person_id == _row(session, name).id)
            if recording is not None:
                query = query.where(LogRow.recording_id == recording)
            rows = session.scalars(query)
            return [Logged(row.at, row.who, row.what, row.recording_id, row.detail) for row in rows]

    # --- signing in -------------------------------------------------------------------------------------

    @_as_program
    def sign_in(self, name: str, password: str, address: str = "") -> tuple[Person, str]:
        """Somebody by name and password, and the token of a new sign-in.

        Raises:
            NotSignedIn: They do not fit, or too many wrong ones were tried.
        """
        folded = folded_name(name.strip())
        keys = {_hash(f"name {folded}"): TRIES_A_NAME, _hash(f"address {address}"): TRIES_AN_ADDRESS}
        # Counted before it is looked at, so that many at a time are no way round it.
        self._count_attempt(keys)
        with self.database.transaction() as session:
            row = session.scalar(select(PersonRow).where(PersonRow.folded == folded))
            stored = row.password_hash if row and not row.is_disabled else None
            person = _person(row) if row else None
        if not self._fits(stored, password) or person is None:
            raise NotSignedIn("The name or the password is wrong.")
        with self.database.changing() as session:
            of_name, of_address = keys
            session.execute(delete(AttemptRow).where(AttemptRow.key == of_name))
            # A right one is no try of the address either, which many may share.
            less = {"count": AttemptRow.count - 1}
            session.execute(update(AttemptRow).where(AttemptRow.key == of_address).values(less))
        if stored is not None and self._hasher.check_needs_rehash(stored):
            hashed = self._hasher.hash(password)
            with self.database.changing() as session:
                session.get_one(PersonRow, person.id).password_hash = hashed
        return person, self.begin(person)

    def _count_attempt(self, keys: dict[str, int]) -> None:
        now = time.time()
        with self.database.changing() as session:
            session.execute(delete(AttemptRow).where(AttemptRow.since < now - TRIES_SECONDS))
            for key, most in keys.items():
                row = session.get(AttemptRow, key)
                if row is None:
                    session.add(AttemptRow(key=key, count=1, since=now))
                elif row.count >= most:
                    wait = row.since + TRIES_SECONDS - now
                    raise NotSignedIn(
                        f"Too many wrong passwords; try again in {max(1, round(wait / 60))} min.", wait
                    )
                else:
                    row.count += 1

    def _fits(self, stored: str | None, password: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        if len(password) > LONGEST_PASSWORD:
            return False
        if stored is None:
            # As long as for a name that there is, so that time does not tell which names there are.
            self._decoy = self._decoy or self._hasher.hash(secrets.token_hex())
        try:
            return self._hasher.verify(stored or self._decoy, password) and stored is not None
        except (Argon2Error, InvalidHashError):
            return False

    @property
    def _hasher(self) -> PasswordHasher:
        if self._given is None:
            from argon2 import PasswordHasher

            self._given = PasswordHasher()
        return self._given

    def _hashed(self, password: str) -> str:
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise InvalidInput(f"A password needs {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
        return self._hasher.hash(password)

    @_as_program
    def begin(self, person: Person) -> str:
        """The token of a new sign-in of somebody who was let in."""
        token = secrets.token_urlsafe(32)
        now = time.time()
        with self.database.changing() as session:
            session.execute(delete(SignInRow).where(SignInRow.expires_at < now))
            session.add(
                SignInRow(token_hash=_hash(token), person_id=person.id, expires_at=now + SIGN_IN_SECONDS)
            )
        return token

    @_as_program
    def signed_in(self, token: str) -> Person | None:
        """Who is signed in with a token; None for nobody."""
        with self.database.transaction() as session:
            query = (
                select(PersonRow)
                .join(SignInRow, SignInRow.person_id == PersonRow.id)
                .where(SignInRow.token_hash == _hash(token), SignInRow.expires_at > time.time())
            )
            return _enabled(session.scalar(query))

    @_as_program
    def sign_out(self, token: str) -> None:
        """End a sign-in."""
        with self.database.changing() as session:
            session.execute(delete(SignInRow).where(SignInRow.token_hash == _hash(token)))

    @_as_program
    def vouched(self, issuer: str, subject: str, name: str, email: str) -> Person:
        """Somebody whom a provider knows, with an account made at the first time.

        They are known by what the provider calls them. An account that has the same name or e-mail is another
        one: whoever can choose an e-mail elsewhere must not get into it.

        Raises:
            Forbidden: Their account is disabled, or nobody has made the first one yet.
        """
        with self.database.changing() as session:
            row = session.scalar(
                select(PersonRow).where(PersonRow.issuer == issuer, PersonRow.subject == subject)
            )
            if row is None:
                if session.scalar(select(func.count()).select_from(PersonRow)) == 0:
                    # The first account gets the whole library; that must not be whoever comes first.
                    raise Forbidden(
                        "Nobody has an account here yet; whoever runs this server makes the first with "
                        "`moss-agent people add NAME`."
                    )
                row = self._made(session, _free_name(session, name or email), None, email, False)
                row.issuer, row.subject = issuer, subject
            if row.is_disabled:
                raise Forbidden("This account is disabled.")
            row.email = email
            return _person(row)

    @_as_program
    def known_as(self, issuer: str, subject: str) -> Person | None:
        """Somebody by what a provider calls them; None where nobody is called so, or they are disabled."""
        with self.database.transaction() as session:
            own = PersonRow.issuer == issuer, PersonRow.subject == subject
            return _enabled(session.scalar(select(PersonRow).where(*own)))

    # --- keys -------------------------------------------------------------------------------------------

    @_as_program
    def add_key(self, person: Person, name: str) -> str:
        """Make an API key; it is returned now and never again.

        Raises:
            InvalidInput: The name is empty or too long.
        """
        name = one_line(name)
        if not 1 <= len(name) <= 80:
            raise InvalidInput("A key's name needs 1 to 80 characters.")
        token = f"moss_{secrets.token_urlsafe(32)}"
        with self.database.changing() as session:
            row = KeyRow(token_hash=_hash(token), person_id=person.id, name=name, created_at=_now())
            session.add(row)
        return token

    @_as_program
    def keys(self, person: Person) -> list[Key]:
        """Somebody's keys, the oldest first."""
        with self.database.transaction() as session:
            rows = session.scalars(select(KeyRow).where(KeyRow.person_id == person.id).order_by(KeyRow.id))
            return [Key(row.id, row.name, row.created_at, row.used_at) for row in rows]

    @_as_program
    def remove_key(self, person: Person, number: int) -> None:
        """Take a key back.

        Raises:
            InvalidInput: They have none of this number.
        """
        with self.database.changing() as session:
            row = session.get(KeyRow, number)
            if row is None or row.person_id != person.id:
                raise InvalidInput("There is no such key.")
            session.delete(row)

    @_as_program
    def by_key(self, token: str) -> Person | None:
        """Whose a key is; None for nobody's."""
        now = time.time()
        with self.database.transaction() as session:
            query = (
                select(PersonRow, KeyRow.id, KeyRow.used_at)
                .join(KeyRow, KeyRow.person_id == PersonRow.id)
                .where(KeyRow.token_hash == _hash(token))
            )
            found = session.execute(query).first()
            if found is None or found[0].is_disabled:
                return None
            person, number, used_at = _person(found[0]), found[1], found[2]
        if (used_at is None or now - used_at > LOOK_SECONDS) and self.database.read_only is None:
            # A full disk keeps nobody from reading.
            with suppress(DiskFull, Busy), self.database.transaction() as session:
                session.execute(update(KeyRow).where(KeyRow.id == number).values(used_at=now))
        return person

    # --- groups -----------------------------------------------------------------------------------------

    @_as_program
    def groups(self) -> dict[str, tuple[str, ...]]:
        """All groups, with the names of who is in them."""
        with self.database.transaction() as session:
            found: dict[str, list[str]] = {
                name: [] for name in session.scalars(select(GroupRow.name).order_by(GroupRow.name))
            }
            joined = (
                select(GroupRow.name, PersonRow.name)
                .join(GroupMemberRow, GroupMemberRow.group_id == GroupRow.id)
                .join(PersonRow, PersonRow.id == GroupMemberRow.person_id)
            )
            for group, person in session.execute(joined.order_by(PersonRow.folded)):
                found[group].append(person)
        return {name: tuple(members) for name, members in found.items()}

    @_as_program
    def add_group(self, name: str) -> None:
        """Make a group; one that is there stays as it is.

        Raises:
            InvalidInput: The name is none, or that of a person.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                "A group's name has 1 to 80 characters, without spaces, slashes, colons or commas."
            )
        with self.database.changing() as session:
            if session.scalar(select(PersonRow.id).where(PersonRow.folded == folded_name(name))):
                raise InvalidInput(f"“{name}” is the name of an account.")
            if not session.scalar(select(GroupRow.id).where(GroupRow.name == name)):
                session.add(GroupRow(name=name))

    @_as_program
    def remove_group(self, name: str) -> None:
        """Delete a group; what was shared with it is no longer."""
        with self.database.changing() as session:
            group = _group(session, name)
            members = list(
                session.scalars(select(GroupMemberRow.person_id).where(GroupMemberRow.group_id == group.id))
            )
            session.delete(group)
            session.flush()
            self._forget_what_is_unshared(session, members)

    @_as_program
    def set_member(self, group: str, name: str, is_in: bool = True) -> None:
        """Take somebody into a group, or out of it."""
        with self.database.changing() as session:
            key = {"group_id": _group(session, group).id, "person_id": _row(session, name).id}
            row = session.get(GroupMemberRow, key)
            if is_in and row is None:
                session.add(GroupMemberRow(**key))
            elif not is_in and row is not None:
                session.delete(row)
                session.flush()
                self._forget_what_is_unshared(session, [key["person_id"]])

    # --- sharing ----------------------------------------------------------------------------------------

    def require(self, recording: str, right: Right) -> None:
        """See that whoever acts has a right to a recording.

        Raises:
            UnknownRecording: There is none that they may see.
            Forbidden: They may see it, but not that.
        """
        if not is_limited(self.database):
            return
        with self.database.transaction() as session:
            if not may(session, self.database, recording, right):
                raise refusal(may(session, self.database, recording, "read"), recording)

    def has_right(self, recording: str, right: Right) -> bool:
        """Whether whoever acts has a right to a recording."""
        with self.database.transaction() as session:
            return may(session, self.database, recording, right)

    def having(self, right: Right) -> frozenset[str] | None:
        """The ids of the recordings that whoever acts has a right to; None for all that there are."""
        if not is_limited(self.database):
            return None
        with self.database.transaction() as session:
            return frozenset(session.connection().scalars(allowed(actor_of(self.database), right)))

    def share(self, recording: str, name: str, can_edit: bool = False) -> Share:
        """Let somebody, or a group, read a recording, or edit it.

        Raises:
            UnknownRecording, Forbidden: It is not theirs who shares it.
            InvalidInput: Nobody and no group has this name.
        """
        self.require(recording, "own")
        return self._share(recording, name.strip(), can_edit)

    @_as_program
    def _share(self, recording: str, name: str, can_edit: bool) -> Share:
        with self.database.changing() as session:
            person = session.scalar(select(PersonRow).where(PersonRow.folded == folded_name(name)))
            group = session.scalar(select(GroupRow).where(GroupRow.name == name)) if person is None else None
            if person is None and group is None:
                raise InvalidInput(f"Nobody and no group is called “{name}”.")
            whom = {"person_id": person and person.id, "group_id": group and group.id}
            row = session.scalar(select(ShareRow).filter_by(recording_id=recording, **whom))
            if row is None:
                row = ShareRow(recording_id=recording, can_edit=can_edit, **whom)
                session.add(row)
            row.can_edit = can_edit
            session.flush()
            return Share(row.id, person.name if person else name, person is None, can_edit)

    def unshare(self, recording: str, number: int) -> None:
        """Take a share back."""
        self.require(recording, "own")
        self._unshare(recording, number)

    @_as_program
    def _unshare(self, recording: str, number: int) -> None:
        with self.database.changing() as session:
            row = session.get(ShareRow, number)
            if row is None or row.recording_id != recording:
                raise InvalidInput("This is no longer shared.")
            members = [row.person_id] if row.person_id is not None else []
            if row.group_id is not None:
                query = select(GroupMemberRow.person_id).where(GroupMemberRow.group_id == row.group_id)
                members = list(session.scalars(query))
            session.delete(row)
            session.flush()
            self._forget_what_is_unshared(session, [member for member in members if member is not None])

    def _forget_what_is_unshared(self, session: Session, people: Sequence[int]) -> None:
        """Whoever may no longer hear a recording keeps no voice that was learned from it."""
        for number in people:
            person = session.get(PersonRow, number)
            if person is None:
                continue
            with acting_as(_person(person)):
                seen = set(session.scalars(select(RecordingRow.id)))
            theirs = select(VoiceRow.id).where(VoiceRow.owner_id == number)
            learned = (
                select(VoiceSampleRow.recording_id).where(VoiceSampleRow.voice_id.in_(theirs)).distinct()
            )
            gone = set(session.scalars(learned, execution_options=CHECKED)) - seen
            unheard = delete(VoiceSampleRow).where(VoiceSampleRow.voice_id.in_(theirs))
            unheard = unheard.where(VoiceSampleRow.recording_id.in_(gone))
            session.execute(unheard, execution_options=CHECKED)

    def shares(self, recording: str) -> list[Share]:
        """Whom a recording is shared with; only its owner may ask."""
        self.require(recording, "own")
        return self._shares(recording)

    @_as_program
    def _shares(self, recording: str) -> list[Share]:
        with self.database.transaction() as session:
            query = (
                select(ShareRow, PersonRow.name, GroupRow.name)
                .outerjoin(PersonRow, PersonRow.id == ShareRow.person_id)
                .outerjoin(GroupRow, GroupRow.id == ShareRow.group_id)
                .where(ShareRow.recording_id == recording)
                .order_by(ShareRow.id)
            )
            return [
                Share(row.id, person or group, row.group_id is not None, row.can_edit)
                for row, person, group in session.execute(query)
            ]

    def make_link(self, recording: str, days: float | None) -> str:
        """The token of a new link by which whoever has it reads a recording.

        Args:
            recording: Its id.
            days: How long it holds; None for without an end.
        """
        self.require(recording, "own")
        if days is not None and not 0 < days <= 3650:
            raise InvalidInput("A link holds for 1 to 3650 days.")
        token = secrets.token_urlsafe(32)
        until = None if days is None else time.time() + days * 86_400
        self._keep_link(recording, token, until, acting_person(self.database))
        return token

    @_as_program
    def _keep_link(self, recording: str, token: str, until: float | None, maker: int | None) -> None:
        with self.database.changing() as session:
            row = LinkRow(token_hash=_hash(token), person_id=maker, until=until, created_at=_now())
            row.recording_id = recording
            session.add(row)

    def links(self, recording: str) -> list[SharedLink]:
        """The links to a recording, also those that no longer hold; only its owner may ask."""
        self.require(recording, "own")
        return self._links(recording)

    @_as_program
    def _links(self, recording: str) -> list[SharedLink]:
        with self.database.transaction() as session:
            rows = session.execute(
                select(LinkRow, LinkRow.id.in_(holding()))
                .where(LinkRow.recording_id == recording)
                .order_by(LinkRow.id)
            )
            return [SharedLink(row.id, row.until, row.created_at, holds) for row, holds in rows]

    def revoke_link(self, recording: str, number: int) -> None:
        """Let a link lead nowhere from now on."""
        self.require(recording, "own")
        self._revoke_link(recording, number)

    @_as_program
    def _revoke_link(self, recording: str, number: int) -> None:
        with self.database.changing() as session:
            row = session.get(LinkRow, number)
            if row is None or row.recording_id != recording:
                raise InvalidInput("There is no such link.")
            row.revoked_at = row.revoked_at or time.time()

    @_as_program
    def by_link(self, token: str) -> Link | None:
        """Who has a link; None where it leads nowhere, or no longer."""
        with self.database.transaction() as session:
            query = select(LinkRow).where(LinkRow.token_hash == _hash(token), LinkRow.id.in_(holding()))
            row = session.scalar(query)
            return None if row is None else Link(row.id, row.recording_id)


def _person(row: PersonRow) -> Person:
    return Person(row.id, row.name, row.is_admin)


def _enabled(row: PersonRow | None) -> Person | None:
    return None if row is None or row.is_disabled else _person(row)


def _row(session: Session, name: str) -> PersonRow:
    row = session.scalar(select(PersonRow).where(PersonRow.folded == folded_name(name.strip())))
    if row is None:
        raise InvalidInput(f"There is no account “{name}”; `moss-agent people list` shows them all.")
    return row


def _group(session: Session, name: str) -> GroupRow:
    row = session.scalar(select(GroupRow).where(GroupRow.name == name))
    if row is None:
        raise InvalidInput(f"There is no group “{name}”; `moss-agent groups list` shows them all.")
    return row


def _keep_an_admin(session: Session, but: int) -> None:
    """Raises ``InvalidInput`` where others are left, and no administrator among them."""
    others = select(func.count()).select_from(PersonRow).where(PersonRow.id != but)
    if session.scalar(others) and not session.scalar(
        others.where(PersonRow.is_admin, ~PersonRow.is_disabled)
    ):
        raise InvalidInput("This is the only administrator; make another one first.")


def _free_name(session: Session, wanted: str) -> str:
    """A name for an account that nobody has, as near to what is wanted as can be."""
    base = re.sub(r"[\s/:,\x00-\x1f]+", ".", wanted.partition("@")[0]).strip(".")[:70] or "somebody"
    taken = set(session.scalars(select(PersonRow.folded).where(or_(PersonRow.folded.is_not(None)))))
    taken |= {folded_name(name) for name in session.scalars(select(GroupRow.name))}
    name, number = base, 2
    while folded_name(name) in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
