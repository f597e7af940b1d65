"""What stands before the page: which names it answers to, whose requests, and which routes exist.

What keeps other web sites out of a page on this machine is checked here; ``web.accounts`` says who asks.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response

from web.api.error_responses import ApiError

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

# The browser itself refuses what is not from here, whatever a recording's text may try. Gradio builds
# functions from strings, hence 'unsafe-eval'; text of recordings never reaches a script.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

# What the page asks for, and the API, and nothing else: Gradio also has routes that serve uploads, fetch
# from other hosts, describe every function, and show what others did.
_OPEN = re.compile(
    r"/(?:(?:audio|export|summary|edits|peaks|timeline|topics|assets|static)/.+"
    r"|api/v1/.+|theme\.css|favicon\.ico|config|health|changes"
    r"|gradio_api/(?:heartbeat/\w+|queue/(?:join|data)|run/predict|upload|cancel|reset|app_id))?"
)
_ACCOUNTS = re.compile(r"/(?:login|logout|account(?:/.+)?|(?:share|s|oidc)/.+)")
"""What there is besides where people sign in."""


class Names:
    """The names that a server answers to.

    Args:
        host: The address that is listened on. A loopback address answers to names of the loopback only,
            others also to any IP address and to the names of this machine: a site elsewhere can point a
            name of its own at this machine, but not an IP address.
        more: Further names.
    """

    def __init__(self, host: str, more: Iterable[str] = ()) -> None:
        self.loopback = is_loopback(host)
        machine = socket.gethostname().lower()
        self.names = (
            {"localhost"} if self.loopback else {"localhost", host.lower(), machine, f"{machine}.local"}
        )
        self.names |= {name.strip().lower() for name in more}

    def answers_to(self, host: str) -> bool:
        """Whether a request's ``Host`` is one of them."""
        name = re.sub(r":\d*$", "", host).lower()
        if name in self.names:
            return True
        name = name.removeprefix("[").removesuffix("]")
        return _is_loopback(name) if self.loopback else _is_address(name)


class Guard:
    """Refuses foreign names, foreign pages and closed routes; adds the headers that keep the page at home.

    Args:
        app: What is guarded.
        host: The address that is listened on; see ``Names``.
        names: Further names that it answers to.
        accounts: Whether people sign in.
    """

    def __init__(self, app: Asgi, host: str, names: Iterable[str] = (), accounts: bool = False) -> None:
        self.app = app
        self.names = Names(host, names)
        self.accounts = accounts

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """One request, as ASGI hands it in."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_headers()]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        if not self.names.answers_to(headers.get("host", "")):
            return _refused(path, 403, "wrong_host", "Open this page under its own address, 127.0.0.1.")
        if scope["method"] not in ("GET", "HEAD") and from_elsewhere(headers):
            return _refused(path, 403, "wrong_origin", "Pages of other sites may not do this.")
        is_open = _OPEN.fullmatch(path)
        if not is_open and not (self.accounts and _ACCOUNTS.fullmatch(path)):
            return _refused(path, 404, "not_found", "Not found.")
        return None


def _refused(path: str, status: int, code: str, sentence: str) -> Response:
    """A refusal: for programs the document that the API has for every error, for people the sentence."""
    if path == "/api/v1" or path.startswith("/api/v1/"):
        return ApiError(status, sentence, code).response()
    return PlainTextResponse(sentence, status_code=status)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address that is listened on."""
    return host == "localhost" or _is_loopback(host)


def from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site sent this; what is no browser sends neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("cross-site", "same-site"):
        return True
    if site == "same-origin" and origin == "null":
        # A form of ours: without a referrer, browsers hide the origin of what forms send.
        return False
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _headers() -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
