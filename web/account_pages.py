"""Pages of accounts: signing in, one's keys and password, sharing a recording, and what a link shows.

Plain HTML that works without a script, in the page's look. Every text of a person or a recording is escaped.
Forms are sent to this server alone, and the guard refuses those that another site sends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import FastAPI, Form, HTTPException, Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from index.export.formats import MEDIA_TYPES
from index.recording_errors import Forbidden, InvalidInput, MossAgentError, UnknownRecording
from index.records import Recording, Segment, Summary
from index.store.access import Link, Person, acting_as
from index.store.people import SHARED_TO, SIGN_IN_SECONDS, NotSignedIn
from moss_audio.timestamps import clock
from web.accounts import ACTOR, COOKIE, Visitors, for_strangers, names_of, safe_next
from web.page.theme import STATIC

if TYPE_CHECKING:
    from agent.workspace import Workspace
    from web.oidc import Provider

Text = Annotated[str, Form(max_length=300)]

_STYLE = """
:root { color-scheme: light dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 var(--sans); }
main { max-width: 44rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
main.narrow { max-width: 24rem; padding-top: 12vh; }
h1 { font-size: 1.35rem; margin: 0 0 1rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.card > h2:first-child { margin-top: 0; } .card ul { margin: 0; padding-left: 1.1rem; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: var(--round);
  padding: 1.25rem; box-shadow: var(--shadow); }
label { display: block; margin: 0 0 .75rem; color: var(--ink-soft); font-size: .875rem; }
label.inline { display: inline-flex; gap: .4rem; align-items: center; margin-right: 1rem; }
input:not([type=radio]), select { display: block; width: 100%; font: inherit; color: var(--ink);
  background: var(--surface); border: 1px solid var(--line-strong); border-radius: 6px;
  padding: .5rem .6rem; }
button, a.btn { font: inherit; border: 1px solid var(--line-strong); background: var(--surface);
  color: var(--ink); border-radius: 6px; padding: .4rem .8rem; cursor: pointer; text-decoration: none; }
button.primary, a.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.wide { display: block; width: 100%; text-align: center; padding: .6rem; margin-top: .75rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
a { color: var(--accent); } .soft { color: var(--ink-soft); } .bad { color: var(--bad); }
table { width: 100%; border-collapse: collapse; } td, th { text-align: left; padding: .5rem .5rem .5rem 0;
  border-bottom: 1px solid var(--line); vertical-align: middle; } td:last-child { text-align: right; }
form.line { display: flex; gap: .6rem; align-items: end; flex-wrap: wrap; margin-top: .75rem; }
form.line label { flex: 1 1 12rem; margin: 0; }
code { font-family: ui-monospace, Menlo, monospace; overflow-wrap: anywhere; background: var(--sunken);
  padding: .15rem .35rem; border-radius: 4px; }
p.row { display: grid; grid-template-columns: 4.5rem 1fr; gap: .5rem; margin: .35rem 0; }
p.who { margin: 1.2rem 0 .2rem; font-weight: 600; } time { color: var(--ink-soft); }
audio { width: 100%; margin: 1rem 0; }
"""


def styles() -> str:
    """The page's colours, by what the system prefers, and the few rules of these pages."""
    tokens = (STATIC / "tokens.css").read_text(encoding="utf-8")
    light, _, dark = tokens.partition(":root.dark")
    return f"{light}\n@media (prefers-color-scheme: dark) {{ :root {dark} }}\n{_STYLE}"


def page_of(title: str, body: str, narrow: bool = False, status: int = 200) -> HTMLResponse:
    """A page; ``body`` is HTML, ``title`` is not."""
    kind = ' class="narrow"' if narrow else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · moss-agent</title><style>{styles()}</style></head>"
        f"<body><main{kind}>{body}</main></body></html>",
        status,
        {"Cache-Control": "no-store"},
    )


def login_page(next_: str, problem: str = "", provider: str = "", status: int = 200) -> HTMLResponse:
    """The form to sign in with.

    Args:
        next_: Where to go then.
        problem: Why it did not work.
        provider: The name of a provider that people can come from; empty for none.
        status: Of the answer.
    """
    told = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    other = (
        f'<a class="btn wide" href="/oidc/start?next={quote(next_)}">Sign in with {escape(provider)}</a>'
        if provider
        else ""
    )
    body = (
        f'<div class="card"><h1>Sign in to moss-agent</h1>{told}<form method="post" action="/login">'
        f'<input type="hidden" name="next" value="{escape(next_)}">'
        '<label>Name<input name="name" autocomplete="username" autocapitalize="none" required autofocus>'
        "</label>"
        '<label>Password<input name="password" type="password" autocomplete="current-password" required>'
        "</label>"
        f'<button class="primary wide">Sign in</button></form>{other}</div>'
    )
    return page_of("Sign in", body, narrow=True, status=status)


def let_in(response: Response, token: str, is_secure: bool) -> Response:
    """Give a browser the cookie of a sign-in; no script reads it, and no other site's form sends it."""
    response.set_cookie(
        COOKIE, token, int(SIGN_IN_SECONDS), path="/", secure=is_secure, httponly=True, samesite="lax"
    )
    return response


def add_account_routes(
    app: FastAPI, workspace: Workspace, visitors: Visitors, provider: Provider | None = None
) -> None:
    """Make these pages routes of an application that ``web.accounts.SignedIn`` stands before."""
    people = workspace.people
    named = provider.name if provider else ""

    @app.get("/login")
    def login(request: Request, next: str = "/") -> Response:
        """The form, or where somebody wanted to go who is signed in."""
        if isinstance(request.scope[ACTOR], Person):
            return RedirectResponse(safe_next(next), 303)
        return login_page(safe_next(next), provider=named)

    @app.post("/login")
    def sign_in(request: Request, name: Text, password: Text, next: Text = "/") -> Response:
        """Somebody signs in with a password."""
        goes_on = safe_next(next)
        try:
            _, token = people.sign_in(name, password, visitors.peer(request.scope).address)
        except NotSignedIn as error:
            status = 429 if error.seconds else 401
            refused = login_page(goes_on, str(error), named, status)
            if error.seconds:
                refused.headers["Retry-After"] = str(max(1, round(error.seconds)))
            return refused
        except MossAgentError as error:
            return login_page(goes_on, for_strangers(error), named, 503)
        return let_in(RedirectResponse(goes_on, 303), token, visitors.is_secure(request.scope))

    @app.post("/logout")
    def sign_out(request: Request) -> Response:
        """Somebody signs out."""
        people.sign_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    if provider is not None:
        add_provider_routes(app, workspace, visitors, provider)

    @app.get("/account")
    def account(request: Request) -> Response:
        """One's keys and password."""
        return _account_page(workspace, _person(request))

    @app.post("/account/keys")
    def add_key(request: Request, name: Text) -> Response:
        """A new key, which is shown once."""
        person = _person(request)
        try:
            key = people.add_key(person, name)
        except MossAgentError as error:
            return _account_page(workspace, person, problem=str(error), status=422)
        return _account_page(workspace, person, key=key)

    @app.post("/account/keys/{number}/remove")
    def remove_key(request: Request, number: int) -> Response:
        """A key is taken back."""
        try:
            people.remove_key(_person(request), number)
        except MossAgentError as error:
            raise HTTPException(404, str(error)) from error
        return RedirectResponse("/account", 303)

    @app.post("/account/password")
    def change_password(request: Request, old: Text, new: Text) -> Response:
        """Another password, by whoever knows the one there is."""
        person = _person(request)
        try:
            try:
                people.sign_in(person.name, old, visitors.peer(request.scope).address)
            except NotSignedIn as error:
                if error.seconds:
                    raise
                raise InvalidInput("The password you have now is not the one you typed.") from error
            people.set_password(person.name, new)
        except MossAgentError as error:
            return _account_page(workspace, person, problem=str(error), status=422)
        response = RedirectResponse("/account", 303)
        return let_in(response, people.begin(person), visitors.is_secure(request.scope))

    @app.get("/share/{recording}")
    def sharing(request: Request, recording: str) -> Response:
        """Whom a recording is shared with."""
        with _answered():
            return _share_page(workspace, recording)

    @app.post("/share/{recording}")
    def share(
        request: Request,
        recording: str,
        action: Text,
        name: Text = "",
        right: Text = "read",
        number: Annotated[int, Form()] = 0,
        days: Text = "",
    ) -> Response:
        """Share it with somebody or a group, make a link, or take one of these back."""
        with _answered():
            found = workspace.library.recording(recording)
            people.require(found.id, "own")
            try:
                link = _shared(workspace, found.id, action, name, right == "edit", number, days)
            except (UnknownRecording, Forbidden):
                raise
            except MossAgentError as error:
                return _share_page(workspace, recording, problem=str(error), status=422)
            if link:
                page = workspace.settings.page_url
                # Behind a proxy the page does not know by itself that it is reached by HTTPS.
                known = request.url.hostname in names_of(page)
                base = page.rstrip("/") if known else str(request.base_url).rstrip("/")
                return _share_page(workspace, recording, link=f"{base}/s/{link}")
            return RedirectResponse(f"/share/{recording}", 303)

    @app.get("/s/{token}")
    def by_link(token: str) -> Response:
        """What somebody sees who was given a link."""
        with acting_as(_link(workspace, token)) as link:
            found, segments = workspace.read(link.recording)
            plays, summary = False, None
            # Without these, what was said can still be read.
            with suppress(MossAgentError):
                plays = found.has_media and workspace.library.audio_path(found.id).exists()
            with suppress(MossAgentError):
                summary = workspace.summarize(found.id)
            return _linked_page(found, segments, token, plays, summary)

    @app.api_route("/s/{token}/audio", methods=["GET", "HEAD"])
    def audio_by_link(token: str) -> Response:
        """The audio copy."""
        with acting_as(_link(workspace, token)) as link:
            found = workspace.library.recording(link.recording)
            path = workspace.library.audio_path(found.id)
        if not found.has_media or not path.exists():
            raise HTTPException(404, "There is no audio.")
        return FileResponse(path, media_type="audio/flac", headers={"Cache-Control": "private, no-store"})

    @app.get("/s/{token}/export.{format}")
    def export_by_link(token: str, format: str) -> Response:
        """The transcript as a file."""
        if format not in MEDIA_TYPES:
            raise HTTPException(404, "Unknown format.")
        with acting_as(_link(workspace, token)) as link:
            data = workspace.export(link.recording, format)
        headers = {"Content-Disposition": f'attachment; filename="transcript.{format}"'}
        return Response(data, media_type=MEDIA_TYPES[format], headers=headers)


def add_provider_routes(app: FastAPI, workspace: Workspace, visitors: Visitors, provider: Provider) -> None:
    """Make signing in with a provider routes of an application."""

    @app.get("/oidc/start")
    def start(request: Request, next: str = "/") -> Response:
        """Go to the provider."""
        try:
            address, kept = provider.start(safe_next(next))
        except MossAgentError as error:
            return login_page(safe_next(next), for_strangers(error), provider.name, 503)
        response = RedirectResponse(address, 303)
        secure = visitors.is_secure(request.scope)
        response.set_cookie(
            BEGUN, kept, BEGUN_SECONDS, path="/oidc", secure=secure, httponly=True, samesite="lax"
        )
        return response

    @app.get("/oidc/back")
    def back(request: Request, state: str = "", code: str = "") -> Response:
        """Come back from the provider."""
        try:
            issuer, subject, name, email, next_ = provider.finish(request.cookies.get(BEGUN, ""), state, code)
            person = workspace.people.vouched(issuer, subject, name, email)
        except MossAgentError as error:
            status = 403 if isinstance(error, Forbidden) else 503
            response: Response = login_page("/", for_strangers(error), provider.name, status)
        else:
            token = workspace.people.begin(person)
            response = let_in(
                RedirectResponse(safe_next(next_), 303), token, visitors.is_secure(request.scope)
            )
        response.delete_cookie(BEGUN, path="/oidc")
        return response


BEGUN, BEGUN_SECONDS = "moss-agent-begun", 600
"""The cookie of somebody who is at a provider, and how long they may be there."""


def _person(request: Request) -> Person:
    actor = request.scope[ACTOR]
    if not isinstance(actor, Person):
        raise HTTPException(401, "Sign in first.")
    return actor


def _link(workspace: Workspace, token: str) -> Link:
    link = workspace.people.by_link(token)
    if link is None:
        raise HTTPException(404, "This link leads nowhere; it may have ended.")
    return link


@contextmanager
def _answered() -> Iterator[None]:
    """Answer with a status where somebody asks for what is not theirs."""
    try:
        yield
    except UnknownRecording:
        raise HTTPException(404, "There is no such recording.") from None
    except Forbidden as error:
        raise HTTPException(403, str(error)) from None


def _shared(
    workspace: Workspace, recording: str, action: str, name: str, can_edit: bool, number: int, days: str
) -> str:
    """Do what a form asks for; returns the token of a new link."""
    people = workspace.people
    if action == "add":
        share = people.share(recording, name, can_edit)
        workspace.note("shared", recording, f"{share.name}, {SHARED_TO[can_edit]}")
    elif action == "remove":
        people.unshare(recording, number)
        workspace.note("unshared", recording)
    elif action == "revoke":
        people.revoke_link(recording, number)
        workspace.note("link revoked", recording)
    elif action == "link":
        try:
            lasts = float(days) if days.strip() else None
        except ValueError:
            raise MossAgentError("Give the days as a number.") from None
        token = people.make_link(recording, lasts)
        workspace.note("link made", recording, f"{days.strip()} days" if lasts else "without an end")
        return token
    return ""


def _account_page(
    workspace: Workspace, person: Person, key: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    told = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    shown = _shown_once("Your new key", key)
    rows = "".join(
        f"<tr><td>{escape(each.name)}</td><td class='soft'>"
        f"{'last used ' + _day(each.used_at) if each.used_at else 'never used'}</td><td>"
        f'<form method="post" action="/account/keys/{each.id}/remove">'
        f'<button aria-label="Revoke {escape(each.name)}">Revoke</button></form></td></tr>'
        for each in workspace.people.keys(person)
    )
    admin = " · administrator" if person.is_admin else ""
    body = (
        f'<p><a href="/">Back to the recordings</a></p><div class="card"><h1>{escape(person.name)}'
        f'<span class="soft">{admin}</span></h1>{told}{shown}'
        '<form method="post" action="/logout"><button>Sign out</button></form>'
        "<h2>API keys</h2><p class='soft'>A program that has one sees what you see: "
        "<code>Authorization: Bearer KEY</code></p>"
        f"<table>{rows}</table>"
        '<form class="line" method="post" action="/account/keys"><label>Name of a new key'
        '<input name="name" maxlength="80" required></label><button>Make a key</button></form>'
        "<h2>Password</h2>"
        '<form class="line" method="post" action="/account/password">'
        '<label>Now<input name="old" type="password" autocomplete="current-password" required></label>'
        '<label>New, 10 characters or more<input name="new" type="password" minlength="10" '
        'autocomplete="new-password" required></label><button>Change</button></form></div>'
    )
    return page_of("Account", body, status=status)


def _share_page(
    workspace: Workspace, recording: str, link: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    found = workspace.library.recording(recording)
    people = workspace.people
    action = f"/share/{escape(found.id)}"
    shares = "".join(
        f"<tr><td>{escape(share.name)}{' (group)' if share.is_group else ''}</td>"
        f"<td class='soft'>{'may edit' if share.can_edit else 'may read'}</td><td>"
        + _button(action, "remove", share.id, "Remove", f"Stop sharing with {share.name}")
        + "</td></tr>"
        for share in people.shares(found.id)
    )
    links = "".join(
        f"<tr><td>made {_day_of(each.created_at)}</td><td class='soft'>"
        f"{'until ' + _day(each.until) if each.until else 'without an end'}</td><td>"
        + _button(action, "revoke", each.id, "Revoke", "Revoke this link")
        + "</td></tr>"
        for each in people.links(found.id)
        if each.holds
    )
    names = "".join(
        f'<option value="{escape(name)}">'
        for name in [*(each.person.name for each in people.accounts()), *people.groups()]
    )
    told = f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else ""
    shown = _shown_once("The new link", link)
    nobody = '<p class="soft">Only you.</p>'
    body = (
        f'<p><a href="/?recording={quote(found.id)}">Back to the recording</a></p>'
        f'<div class="card"><h1>Share “{escape(found.title)}”</h1>{told}{shown}<h2>People and groups</h2>'
        f"{f'<table>{shares}</table>' if shares else nobody}"
        f'<form class="line" method="post" action="{action}"><input type="hidden" name="action" value="add">'
        f'<label>Name<input name="name" list="names" autocapitalize="none" required></label>'
        f'<datalist id="names">{names}</datalist>'
        '<label>May<select name="right"><option value="read">read</option>'
        '<option value="edit">read and edit</option></select></label><button>Share</button></form>'
        "<h2>Links</h2><p class='soft'>Whoever has one reads and hears this recording without an account.</p>"
        f"<table>{links}</table>"
        f'<form class="line" method="post" action="{action}"><input type="hidden" name="action" value="link">'
        '<label>Days that it holds; empty for no end<input name="days" type="number" min="1" max="3650" '
        'value="7"></label><button>Make a link</button></form></div>'
    )
    return page_of("Share", body, status=status)


def _shown_once(what: str, secret: str) -> str:
    if not secret:
        return ""
    return f'<p role="status">{what}, which is shown only now:<br><code>{escape(secret)}</code></p>'


def _button(action: str, what: str, number: int, text: str, label: str) -> str:
    return (
        f'<form method="post" action="{action}"><input type="hidden" name="action" value="{what}">'
        f'<input type="hidden" name="number" value="{number}">'
        f'<button aria-label="{escape(label)}">{text}</button></form>'
    )


def _linked_page(
    recording: Recording, segments: list[Segment], token: str, has_audio: bool, summary: Summary | None
) -> HTMLResponse:
    base = f"/s/{quote(token)}"
    plays = f'<audio controls preload="metadata" src="{base}/audio"></audio>' if has_audio else ""
    rows, who = [], None
    for segment in segments:
        if segment.speaker and segment.speaker != who:
            rows.append(f'<p class="who">{escape(segment.speaker)}</p>')
            who = segment.speaker
        rows.append(
            f'<p class="row" id="at-{segment.id}"><time>{clock(segment.start)}</time>'
            f"<span>{escape(segment.text)}</span></p>"
        )
    files = " · ".join(f'<a href="{base}/export.{kind}">{kind}</a>' for kind in ("txt", "srt", "docx"))
    body = (
        f"<h1>{escape(recording.title)}</h1><p class='soft'>{clock(recording.duration)} · {files}</p>"
        f"{plays}{_linked_summary(summary) if summary else ''}{''.join(rows)}"
    )
    return page_of(recording.title, body)


def _linked_summary(summary: Summary) -> str:
    """What was decided, is to be done and is open, and the topics; each leads to where it was said."""

    def listed(name: str, items: Sequence[tuple[str, float, Sequence[int]]]) -> str:
        rows = "".join(
            f'<li><a href="#at-{segments[0]}">{clock(start)}</a> {escape(text)}</li>'
            for text, start, segments in items
            if segments
        )
        return f"<h2>{name}</h2><ul>{rows}</ul>" if rows else ""

    parts = [
        listed(name, [(item.text, item.start, item.segments) for item in items])
        for name, items in (
            ("Decisions", summary.decisions),
            ("Action items", summary.action_items),
            ("Open questions", summary.open_questions),
        )
    ]
    parts.append(listed("Topics", [(topic.title, topic.start, topic.segments) for topic in summary.topics]))
    found = "".join(parts)
    return f'<section class="card" aria-label="Summary">{found}</section><h2>Transcript</h2>' if found else ""


def _day(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or time.time(), UTC).strftime("%Y-%m-%d")


def _day_of(moment: str) -> str:
    return escape(moment[:10])
