"""The commands about people: accounts, groups, keys, the log, and what is too old.

Whoever runs them is whoever can read the home folder, and so may do everything.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from agent.cli import output
from agent.workspace import Workspace
from index.recording_errors import InvalidInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an account.")]
Group = Annotated[str, typer.Argument(metavar="GROUP", help="Name of a group.")]
PasswordFile = Annotated[
    bool,
    typer.Option("--stdin", help="Read the password from standard input, one line; else it is asked for."),
]


def add_people_commands(app: typer.Typer, workspace: Callable[[], Workspace]) -> None:
    """Give the command line `people` and `groups`.

    Args:
        app: The command line.
        workspace: Opens what the commands work on.
    """
    people = typer.Typer(
        help="Accounts: who may sign in, with which keys, and what they did.", no_args_is_help=True
    )
    groups = typer.Typer(help="Groups of people to share recordings with.", no_args_is_help=True)
    app.add_typer(people, name="people")
    app.add_typer(groups, name="groups")
    _add_accounts(people, workspace)
    _add_keys_and_log(people, workspace)
    _add_groups(groups, workspace)


def _add_accounts(people: typer.Typer, workspace: Callable[[], Workspace]) -> None:
    @people.command()
    def add(
        name: Name,
        email: Annotated[str | None, typer.Option(help="E-mail address.")] = None,
        admin: Annotated[bool, typer.Option("--admin", help="Make it an administrator's.")] = False,
        no_password: Annotated[
            bool, typer.Option("--no-password", help="Without a password: it has keys only.")
        ] = False,
        stdin: PasswordFile = False,
        json: Json = False,
    ) -> None:
        """Make an account; the first is an administrator's and gets all recordings that are there."""
        opened = workspace()
        is_first = opened.people.count() == 0
        password = None if no_password else _password(stdin)
        person = opened.people.add(name, password, email, admin)
        if json:
            output.write_json({"name": person.name, "admin": person.is_admin})
            return
        output.say(f"Made the account “{person.name}”{', an administrator' if person.is_admin else ''}.")
        if is_first:
            output.say("From now on people sign in; restart `moss-agent web` if it runs.")

    @people.command("list")
    def list_(json: Json = False) -> None:
        """List the accounts."""
        accounts = workspace().people.accounts()
        if json:
            output.write_json(
                [
                    {
                        "name": each.person.name,
                        "email": each.email,
                        "admin": each.person.is_admin,
                        "disabled": each.is_disabled,
                        "password": each.has_password,
                        "groups": list(each.groups),
                        "recordings": each.recordings,
                    }
                    for each in accounts
                ]
            )
            return
        for each in accounts:
            facts = [f"{each.recordings} recordings"]
            facts += ["administrator"] if each.person.is_admin else []
            facts += ["disabled"] if each.is_disabled else []
            facts += [f"in {', '.join(each.groups)}"] if each.groups else []
            output.say(f"{each.person.name}  {'; '.join(facts)}")
        if not accounts:
            output.say("Nobody has an account; `moss-agent people add NAME` makes one.")

    @people.command()
    def remove(
        name: Name,
        give_to: Annotated[
            str | None, typer.Option(metavar="NAME", help="Who gets the recordings; else they are deleted.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        json: Json = False,
    ) -> None:
        """Delete an account, with its recordings, conversations, voices and keys."""
        opened = workspace()
        person = opened.people.find(name)
        count = len(opened.people.owned(person))
        what = f"{count} recordings go to {give_to}" if give_to else f"{count} recordings are deleted"
        if not yes and not json:
            typer.confirm(f"Delete the account “{person.name}”? {what}.", abort=True, err=True)
        done = opened.remove_person(name, give_to)
        if json:
            output.write_json({"name": person.name, "recordings": done})
        else:
            output.say(f"Deleted the account “{person.name}”; {what}.")

    @people.command()
    def disable(
        name: Name,
        enable: Annotated[bool, typer.Option("--enable", help="Let them in again.")] = False,
        json: Json = False,
    ) -> None:
        """Keep somebody out at once, wherever they are signed in; nothing is deleted."""
        person = workspace().people.set_disabled(name, not enable)
        _told(json, {"name": person.name, "disabled": not enable}, "enabled" if enable else "disabled")

    @people.command()
    def admin(
        name: Name,
        revoke: Annotated[bool, typer.Option("--revoke", help="Make them one no longer.")] = False,
        json: Json = False,
    ) -> None:
        """Make somebody an administrator, who also sees what belongs to nobody."""
        person = workspace().people.set_admin(name, not revoke)
        _told(json, {"name": person.name, "admin": person.is_admin}, "changed")

    @people.command()
    def password(name: Name, stdin: PasswordFile = False, json: Json = False) -> None:
        """Give somebody another password; they have to sign in again, and their API keys end."""
        opened = workspace()
        person = opened.people.find(name)
        opened.people.set_password(name, _password(stdin), revoke_keys=True)
        _told(json, {"name": person.name}, "has another password")


def _add_keys_and_log(people: typer.Typer, workspace: Callable[[], Workspace]) -> None:
    @people.command()
    def key(
        name: Name,
        label: Annotated[str, typer.Option(help="What the key is for.")] = "command line",
        remove: Annotated[
            int | None, typer.Option(metavar="N", help="Take back the key of this number.")
        ] = None,
        keys: Annotated[bool, typer.Option("--list", help="List their keys.")] = False,
        json: Json = False,
    ) -> None:
        """Make an API key for somebody; it is shown once."""
        opened = workspace()
        person = opened.people.find(name)
        if remove is not None:
            opened.people.remove_key(person, remove)
            _told(json, {"removed": remove}, "has one key less")
        elif keys:
            found = opened.people.keys(person)
            if json:
                output.write_json(
                    [{"id": each.id, "name": each.name, "created_at": each.created_at} for each in found]
                )
            for each in [] if json else found:
                used = f"last used {_moment(each.used_at)}" if each.used_at else "never used"
                output.say(f"{each.id}  {each.name}  {used}")
        else:
            made = opened.people.add_key(person, label)
            if json:
                output.write_json({"name": person.name, "key": made})
            else:
                output.say(made)

    @people.command()
    def log(
        person: Annotated[str | None, typer.Option(help="Only what this account did.")] = None,
        recording: Annotated[str | None, typer.Option(help="Only what was done with this recording.")] = None,
        most: Annotated[int, typer.Option("-n", min=1, max=100_000, help="At most this many.")] = 50,
        json: Json = False,
    ) -> None:
        """Show who opened, changed, shared, exported and deleted what, the newest first."""
        opened = workspace()
        wanted = opened.recording(recording).id if recording else None
        titles = {found.id: found.title for found in opened.recordings()}
        found = opened.people.log(person, wanted, most)
        if json:
            output.write_json(
                [
                    {
                        "at": datetime.fromtimestamp(each.at, UTC).isoformat(timespec="seconds"),
                        "who": each.who,
                        "what": each.what,
                        "recording": each.recording,
                        "detail": each.detail,
                    }
                    for each in found
                ]
            )
            return
        for each in found:
            about = titles.get(each.recording or "", each.recording or "")
            detail = f" ({each.detail})" if each.detail else ""
            output.say(f"{_moment(each.at)}  {each.who}  {each.what}  {about}{detail}".rstrip())

    @people.command()
    def sweep(
        days: Annotated[
            int | None, typer.Option(min=1, help="Age from which on; by default MOSS_AGENT_KEEP_DAYS.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Delete them; else they are only listed.")] = False,
        json: Json = False,
    ) -> None:
        """Delete the recordings that are older than they are to be kept; servers do it once a day."""
        opened = workspace()
        if (days or opened.settings.keep_days) is None:
            raise InvalidInput("Say how old recordings may get, with --days or MOSS_AGENT_KEEP_DAYS.")
        found = opened.sweep(days) if yes else opened.too_old(days)
        if json:
            output.write_json([{"id": each.id, "title": each.title, "deleted": yes} for each in found])
            return
        for each in found:
            output.say(f"{'deleted' if yes else 'would be deleted'}  {each.added_at[:10]}  {each.title}")
        if not found:
            output.say("No recording is that old.")


def _add_groups(groups: typer.Typer, workspace: Callable[[], Workspace]) -> None:
    @groups.command("list")
    def list_(json: Json = False) -> None:
        """List the groups, and who is in them."""
        found = workspace().people.groups()
        if json:
            output.write_json({name: list(members) for name, members in found.items()})
            return
        for name, members in found.items():
            output.say(f"{name}  {', '.join(members) or 'nobody'}")

    @groups.command()
    def add(
        group: Group,
        names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Who joins it.")] = None,
        json: Json = False,
    ) -> None:
        """Make a group, and take people into it."""
        people = workspace().people
        for name in names or ():
            people.find(name)  # or no group is made
        people.add_group(group)
        for name in names or ():
            people.set_member(group, name)
        _members(json, people.groups(), group)

    @groups.command()
    def leave(
        group: Group,
        names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Who leaves it.")],
        json: Json = False,
    ) -> None:
        """Take people out of a group; what was shared with it is hidden from them at once."""
        people = workspace().people
        for name in names:
            people.set_member(group, name, False)
        _members(json, people.groups(), group)

    @groups.command()
    def remove(group: Group, json: Json = False) -> None:
        """Delete a group; what was shared with it is no longer."""
        workspace().people.remove_group(group)
        if json:
            output.write_json({"removed": group})
        else:
            output.say(f"Deleted the group “{group}”.")


def _members(json: bool, groups: dict[str, tuple[str, ...]], group: str) -> None:
    if json:
        output.write_json({group: list(groups[group])})
    else:
        output.say(f"{group}: {', '.join(groups[group]) or 'nobody'}")


def _password(from_stdin: bool) -> str:
    """A password, never from the command line itself, which others can read.

    Raises:
        InvalidInput: The two that were typed differ, or there is nobody to ask.
    """
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidInput(
            "There is nobody to ask for a password; send it with --stdin, or use --no-password."
        )
    first = getpass.getpass("Password, 10 characters or more: ")
    if first != getpass.getpass("The same again: "):
        raise InvalidInput("The two passwords differ; nothing was changed.")
    return first


def _told(json: bool, document: dict[str, Any], done: str) -> None:
    if json:
        output.write_json(document)
    else:
        output.say(f"{document.get('name', 'It')} {done}.")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
