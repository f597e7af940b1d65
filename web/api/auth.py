"""Authentication, body limits, and one form for every refusal, in front of the API."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.store.access import NOBODY, Actor, Person, acting_as
from web.api.error_responses import ApiError, as_api_error, too_much
from web.api.limiter import MIB, ByteBudget
from web.api.service import Service
from web.guard import Names, from_elsewhere

log = logging.getLogger(__name__)

CHAT, TRANSCRIPTIONS, HEALTH = "/v1/chat/completions", "/v1/audio/transcriptions", "/health"
ADD, IMPORT = "/api/v1/recordings", "/api/v1/imports"
MEDIA = re.compile(r"/api/v1/recordings/[^/]+/media")
OPEN = (HEALTH, "/api/v1/docs", "/api/v1/openapi.json")
"""What needs no key: it says nothing about recordings, and a browser sends none."""
ROUTES = (CHAT, TRANSCRIPTIONS, "/v1/models", HEALTH, "/metrics", "/api/v1")

SMALL_BODY = 64 * 1024
"""Bytes accepted as the body of a request that needs none."""

DRAIN_SECONDS = 2.0
"""How long the rest of a refused body is read, so that its sender gets to the refusal."""


class AuthMiddleware:
    """ASGI middleware that checks the key or the origin, and the size, of every request.

    Without a key the API answers anyone who can reach it, but no page of another site: a browser says where a
    request comes from, and a host name that a site has pointed at this machine is refused. With a key, all
    routes but health and the API's description need it.

    Args:
        app: The application behind it.
        service: Provides limits, budgets and metrics.
        key: The key that clients send as ``Authorization: Bearer``; None accepts requests without one.
        host: The address the server listens on.
        names: Further host names that a server without a key accepts; None where nobody can name any.
        who: Finds somebody by their key, where people have accounts; then nobody gets in without one.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        key: str | None,
        host: str,
        names: Sequence[str] | None = None,
        who: Callable[[str], Person | None] | None = None,
    ) -> None:
        self.app, self.service, self._who = app, service, who
        self._key = _digest(key.encode()) if key is not None else None
        self._names = Names(host, names or ())
        self._hint = "" if names is None else "; --allow-host accepts other names"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI hands it in."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        status = 0
        body = _Body(receive, scope["path"], self.service)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            self._check(scope, body)
            if self._who is None:
                await self.app(scope, body.receive, sending)
            else:
                with acting_as(await self._actor(scope)):
                    await self.app(scope, body.receive, sending)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            refusal = as_api_error(error)
            if status == 0:
                await body.drain()
                await refusal.response()(scope, receive, sending)
        finally:
            body.forget()
            route = _route(scope["path"])
            self.service.metrics.requests.labels(route, str(status)).inc()
            self.service.metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _actor(self, scope: Scope) -> Actor:
        """Who asks; with the server's own key nobody, who sees no recording but may use the models.

        Raises:
            ApiError: 401, nobody is known by this key.
        """
        assert self._who is not None
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = await run_in_threadpool(self._who, token.strip()) if scheme.lower() == "bearer" else None
        if found is not None or scope["path"] in OPEN:
            return found or NOBODY
        if self._key is None or scope["path"].startswith(ROUTES[-1]):
            raise _wrong_key()
        self._check_key(headers)
        return NOBODY

    def _check(self, scope: Scope, body: _Body) -> None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN:
            if self._who is not None:
                pass  # by people's own keys, see ``_actor``
            elif self._key is not None:
                self._check_key(headers)
            else:
                self._check_origin(headers)
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > body.most:
            raise body.too_large()

    def _check_key(self, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        assert self._key is not None
        # Digests have one length, so that comparing them tells nothing of the key's.
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            _digest(given.strip().encode("latin-1")), self._key
        ):
            raise _wrong_key()

    def _check_origin(self, headers: Headers) -> None:
        if not self._names.answers_to(headers.get("host", "")):
            how = "as http://127.0.0.1" if self._names.loopback else "by its address or its machine's name"
            raise ApiError(403, f"Call this server {how}{self._hint}.", "wrong_host")
        if from_elsewhere(headers):
            raise ApiError(403, "Pages of other sites may not use this server.", "wrong_origin")


class _Body:
    """A request's body, up to a size, as long as it makes progress, and as long as there is room for it."""

    def __init__(self, receive: Receive, path: str, service: Service) -> None:
        limits = service.limits
        self._receive = receive
        self._service = service
        # An upload is counted twice: a copy of it is decoded.
        if MEDIA.fullmatch(path):
            path = ADD
        budgets: dict[str, tuple[ByteBudget, int]] = {
            CHAT: (service.memory, 1),
            TRANSCRIPTIONS: (service.disk, 2),
            ADD: (service.disk, 1),
            IMPORT: (service.disk, 1),
        }
        self._budget: ByteBudget | None
        self._budget, self._times = budgets.get(path, (None, 0))
        most = {
            CHAT: limits.chat_bytes,
            TRANSCRIPTIONS: limits.upload_bytes,
            ADD: limits.library_bytes + SMALL_BODY,
            IMPORT: limits.transcript_bytes,
        }
        self.most = most.get(path, SMALL_BODY)
        self._taken = self._counted = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ApiError: 413, the body is too large; 408, nothing came for too long; 429, others' bodies use up
                the memory or the disk.
        """
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._service.limits.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "The body of the request did not arrive; send it again.", "timeout") from None
        self._note(message)
        if self._taken > self.most:
            raise self.too_large()
        if self._budget is not None:
            size = self._times * len(message.get("body", b""))
            self._counted += size
            self._budget.take(size)
        return message

    def forget(self) -> None:
        """The request has been answered."""
        if self._budget is not None:
            self._budget.release(self._counted)
            self._counted = 0

    async def drain(self) -> None:
        """Read on for a moment, keeping nothing."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._whole:
                    self._note(await self._receive())
        except TimeoutError:
            pass

    def too_large(self) -> ApiError:
        """The refusal of a body over the limit."""
        most = f"{self.most / MIB:.4g} MiB" if self.most >= MIB else f"{self.most // 1024} KiB"
        return too_much(f"The body of the request is larger than the {most} accepted here.")

    def _note(self, message: Message) -> None:
        self._taken += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)


def _wrong_key() -> ApiError:
    return ApiError(
        401,
        "The API key is missing or wrong; send it as Authorization: Bearer ….",
        "invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _route(path: str) -> str:
    return next((route for route in ROUTES if path == route or path.startswith(f"{route}/")), "other")
