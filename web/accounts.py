"""Who asks: behind the page's guard and before everything else, where the server has accounts.

A request is somebody's by the cookie of a sign-in, by an API key (``Authorization: Bearer``, for the API), or
by a header that a trusted proxy sets. What it may see is decided beneath (``index.store.access``). Nobody
else gets in, but for signing in, for links to a recording, and for what says nothing about recordings.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.recording_errors import DatabaseAway, DiskFull, IndexOutOfDate, MossAgentError, ReadOnly
from index.store.access import NOBODY, Actor, Person, acting_as
from web.api.error_responses import ApiError
from web.guard import is_loopback

if TYPE_CHECKING:
    from agent.workspace import Workspace

COOKIE = "moss-agent-sign-in"
ACTOR = "moss_agent.actor"
"""Where a request's scope says who asks, for what works on it later, in another task."""

API = "/api/v1"
_OPEN = re.compile(rf"/(?:login|oidc/\w+|s/.+|health|favicon\.ico)|{API}/(?:docs|openapi\.json)")
"""What needs nobody: it says nothing about recordings, or looks for itself who may see one."""

_SESSION = re.compile(r"/gradio_api/(?:heartbeat/(?P<name>\w+)|(?P<queued>queue/data)|(?P<sent>.+))")
_EVENTS = re.compile(r"(?:queue/join|run|api|call|cancel|reset)\b")
"""Requests of Gradio's that are for a session."""
LONGEST_EVENT = 4 * 2**20
"""Bytes of an event of the page; the longest one holds an instruction or a list of words."""

SESSIONS_KEPT = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """Where a request comes from.

    Attributes:
        address: The browser's, as far as it is known.
        is_secure: Whether it came by HTTPS.
        is_trusted: Whether a trusted proxy hands it on.
    """

    address: str
    is_secure: bool
    is_trusted: bool


class Visitors:
    """Who asks, by what a request brings.

    Args:
        workspace: Has the accounts and the settings.

    Raises:
        MossAgentError: The settings name proxies that are no addresses, or a header and no proxy.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        settings = workspace.settings
        self._header = settings.trusted_header
        self._proxies = networks(settings.trusted_proxies)
        if self._header and not self._proxies:
            raise MossAgentError(
                "MOSS_AGENT_TRUSTED_HEADER needs MOSS_AGENT_TRUSTED_PROXIES: from whom it is believed."
            )

    def peer(self, scope: Scope) -> Peer:
        """Where a request comes from; what a proxy says of it counts from trusted ones only."""
        address = (scope.get("client") or ("", 0))[0]
        is_secure = scope.get("scheme") == "https"
        if not _is_in(address, self._proxies):
            return Peer(address, is_secure, False)
        headers = Headers(scope=scope)
        # The last one that no trusted proxy is: whoever sends the request can write those before it.
        for hop in reversed(
            [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        ):
            address = hop
            if not _is_in(hop, self._proxies):
                break
        proto = headers.get("x-forwarded-proto", "")
        return Peer(address, proto == "https" if proto else is_secure, True)

    def is_secure(self, scope: Scope) -> bool:
        """Whether a cookie may be kept to HTTPS."""
        return self.peer(scope).is_secure or self.workspace.settings.page_url.startswith("https://")

    def who(self, scope: Scope) -> Person | None:
        """Who asks; None for nobody who is known."""
        people = self.workspace.people
        headers = Headers(scope=scope)
        if self._header and self.peer(scope).is_trusted:
            values = headers.getlist(self._header)
            # Twice can only mean that one was sent by whoever asks.
            if len(values) == 1 and (name := values[0].strip()):
                return self._named(name)
        if scope["path"].startswith(f"{API}/") and (token := bearer(headers)):
            return people.by_key(token)
        token = Request(scope).cookies.get(COOKIE, "")
        return people.signed_in(token) if token else None

    def _named(self, name: str) -> Person | None:
        issuer = f"header {self._header}".lower()
        person = self.workspace.people.known_as(issuer, name)
        if person is not None:
            return person
        try:
            return self.workspace.people.vouched(issuer, name, name, name if "@" in name else "")
        except MossAgentError:
            return None


def bearer(headers: Headers) -> str:
    """The key of a request; empty where it has none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


class SignedIn:
    """ASGI middleware that lets in who is somebody, and works in their name from there on.

    Args:
        app: What is behind it.
        visitors: Says who asks.
    """

    def __init__(self, app: ASGIApp, visitors: Visitors) -> None:
        self.app, self.visitors = app, visitors
        self._sessions: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI hands it in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            person = await run_in_threadpool(self.visitors.who, scope)
        except MossAgentError as error:  # the database is away, or busy
            await _not_now(scope, error)(scope, receive, send)
            return
        actor: Actor = person or NOBODY
        scope[ACTOR] = actor
        with acting_as(actor):
            if person is None:
                if not _OPEN.fullmatch(scope["path"]):
                    await refused(scope)(scope, receive, send)
                    return
            elif found := _SESSION.fullmatch(scope["path"]):
                receive_, session = await _session(found, scope, receive)
                if session is None:
                    await PlainTextResponse("It cannot be read for which session this is.", 400)(
                        scope, receive, send
                    )
                    return
                if session and not self._belongs(session, person):
                    await PlainTextResponse("Not found.", 404)(scope, receive, send)
                    return
                await self.app(scope, receive_, send)
                return
            await self.app(scope, receive, send)

    def _belongs(self, session: str, person: Person) -> bool:
        """Whether a session of the page is somebody's; a new one is theirs who come first."""
        with self._lock:
            owner = self._sessions.setdefault(session, person.id)
            self._sessions.move_to_end(session)
            while len(self._sessions) > SESSIONS_KEPT:
                self._sessions.popitem(last=False)
        return owner == person.id


async def _session(found: re.Match[str], scope: Scope, receive: Receive) -> tuple[Receive, str | None]:
    """The session of the page that a request of Gradio's is for, and the request as it was.

    Empty where it is for none; None where it cannot be told, or where Gradio might read another one.
    """
    if found["name"]:
        return receive, found["name"]
    if found["queued"]:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        named = query.get("session_hash", [])
        return receive, named[0] if len(named) == 1 else None
    if scope["method"] != "POST" or found["sent"] == "upload":
        return receive, ""
    body, messages = b"", []
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body") or len(body) > LONGEST_EVENT:
            break

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    if len(body) > LONGEST_EVENT:
        return again, None
    session: str | None
    try:
        document: Any = json.loads(body)
        session = str(document.get("session_hash") or "")
    except (ValueError, AttributeError):
        session = None if _EVENTS.match(found["sent"]) else ""
    return again, session


def for_strangers(error: MossAgentError) -> str:
    """An error as it is told to somebody who is not known: not where this server keeps what it has."""
    if not isinstance(error, DatabaseAway | DiskFull | IndexOutOfDate | ReadOnly):
        return str(error)
    log.warning("%s", error)
    return "This server cannot do that now; try again in a minute."


def _not_now(scope: Scope, error: MossAgentError) -> Response:
    """The answer while it cannot be looked up who asks."""
    told = for_strangers(error)
    if scope["path"].startswith(f"{API}/"):
        return ApiError(503, told, "unavailable").response()
    return PlainTextResponse(told, 503)


def refused(scope: Scope) -> Response:
    """The answer to somebody who is nobody: the page to sign in, or that they must."""
    path = scope["path"]
    if path.startswith(f"{API}/"):
        return ApiError(
            401, "Sign in, or send an API key as Authorization: Bearer ….", "not_signed_in",
            headers={"WWW-Authenticate": "Bearer"},
        ).response()  # fmt: skip
    if scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", ""):
        query = scope.get("query_string", b"").decode("latin-1")
        return RedirectResponse(f"/login?next={quote(path + ('?' + query if query else ''))}", 303)
    return PlainTextResponse("Sign in first.", 401)


def safe_next(address: str) -> str:
    """Where to go after signing in: an address of this server, whatever a link says."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    own = address.startswith("/") and not parts.netloc and not parts.scheme and "\\" not in address
    clean = own and not address.startswith("//") and address.isprintable()
    return address if clean else "/"


def names_of(page_url: str) -> list[str]:
    """The name by which the page is reached through a proxy."""
    host = urlsplit(page_url).hostname
    return [host] if host and not is_loopback(host) else []


def networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Addresses and networks, separated by commas.

    Raises:
        MossAgentError: One of them is none.
    """
    found = []
    for part in text.split(","):
        if part.strip():
            try:
                found.append(ipaddress.ip_network(part.strip()))
            except ValueError as error:
                raise MossAgentError(
                    f"MOSS_AGENT_TRUSTED_PROXIES: “{part.strip()}” is no address or network."
                ) from error
    return found


def _is_in(address: str, proxies: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    if not proxies:
        return False
    try:
        given = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(given, "ipv4_mapped", None)
    return any((mapped or given) in network for network in proxies)
