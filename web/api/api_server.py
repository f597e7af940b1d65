"""Opening the API: engines loaded, a socket that only this machine reaches unless told, a clean end.

The API as an ASGI application.
"""

from __future__ import annotations

import asyncio
import json as json_module
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from agent.privacy import switch_off_telemetry
from index.recording_errors import MossAgentError
from index.store.access import EVERYTHING, Person, acting_as
from web.api.auth import CHAT, HEALTH, TRANSCRIPTIONS, AuthMiddleware
from web.api.chat import chat_completions
from web.api.error_responses import RETRY_SECONDS, ApiError
from web.api.library_api import LIBRARY, create_library_api
from web.api.service import CONTENT_TYPE, Service
from web.api.transcriptions import transcriptions
from web.guard import is_loopback
from web.server import address_of, listen, needs_accounts, sweep_daily
from web.shared_jobs import open_jobs
from web.uploads import Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace
    from web.api.service import Service


def create_api(
    service: Service,
    key: str | None = None,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    library: ASGIApp | None = None,
    who: Callable[[str], Person | None] | None = None,
) -> Starlette:
    """The whole application; it closes the service when it ends.

    Args:
        service: Engines, queues and limits.
        key: The API key that clients must send; None lets everybody in.
        host: The address that will be listened on.
        names: Further names that a server without a key answers to.
        library: The API for the library, where it is offered (``web.api.library_api``).
        who: Finds somebody by their key, where people have accounts.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = Starlette(
        routes=[
            Route(CHAT, chat_completions, methods=["POST"]),
            Route(TRANSCRIPTIONS, transcriptions, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/v1/models/{model:path}", _model, methods=["GET"]),
            Route(HEALTH, _health, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
            *([Mount(LIBRARY, library)] if library is not None else []),
        ],
        exception_handlers={HTTPException: _failed},  # type: ignore[dict-item]
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(AuthMiddleware, service=service, key=key, host=host, names=names, who=who)
    return app


async def _models(request: Request) -> Response:
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [_described(service, name) for name in service.models]})


async def _model(request: Request) -> Response:
    service: Service = request.app.state.service
    name = request.path_params["model"]
    if name not in service.known:
        raise ApiError(
            404,
            f"There is no model “{name[:100]}” here; /v1/models lists the models.",
            "model_not_found",
            "model",
        )
    return JSONResponse(_described(service, name))


async def _health(request: Request) -> Response:
    service: Service = request.app.state.service
    status = service.health.status()
    usable = status in ("ready", "waiting")
    headers = None if usable else {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"status": status}, 200 if usable else 503, headers)


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _described(service: Service, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": service.since, "owned_by": "moss-agent"}


async def _failed(request: Request, error: HTTPException) -> Response:
    sentences = {
        404: f"There is nothing at {request.url.path[:200]}.",
        405: "This address does not accept that method.",
    }
    message = sentences.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, "not_found" if error.status_code == 404 else None).response()


GRACE_SECONDS = 5
"""How long requests may go on once the server is told to end."""


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 8000,
    key: str | None = None,
    no_auth: bool = False,
    json: bool = False,
    names: Sequence[str] = (),
    library: bool = False,
) -> None:
    """Serve the API until interrupted; prints the address once it answers.

    Args:
        workspace: Its settings choose the engines; its library is not touched unless ``library`` is set.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        key: What clients must send as ``Authorization: Bearer``.
        no_auth: Let other machines in without a key.
        json: Print the address and the models as one JSON document.
        names: Further names that a server without a key answers to.
        library: Offer the library as well; the home folder is held for writing all the while.

    Raises:
        HomeInUse: The library is to be offered, and another process uses the home folder.
        MossAgentError: The library is to be offered to other machines, and nobody has an account.
        MossAgentError: The address is taken, other machines would get in without a key, or the model
            cannot be loaded.
    """
    switch_off_telemetry()
    if key is not None and not key.strip():
        raise MossAgentError("The API key is empty; pass one with --api-key, or leave the option out.")
    if key is None and not no_auth and not is_loopback(host):
        raise MossAgentError(
            f"On {host} other machines can reach this server; set an API key with --api-key, or pass "
            "--no-auth if anyone may use it."
        )
    accounts = library and needs_accounts(workspace, host)
    with ExitStack() as held:
        if library:
            held.enter_context(workspace.writing())
        listener = held.enter_context(listen(host, port, "The server"))
        import uvicorn

        service = open_service(workspace)
        held.callback(service.close)
        if accounts:
            workspace.require_people()
        offered = _offer_library(workspace, service, held) if library else None
        address = address_of(host, listener.getsockname()[1])

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                _announce(address, service, json)

        config = uvicorn.Config(
            create_api(service, key, host, names, offered, workspace.people.by_key if accounts else None),
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            # Uvicorn ends by raising the signal again; this way both signals pass through ``finally``.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass


def _offer_library(workspace: Workspace, service: Service, held: ExitStack) -> ASGIApp:
    """The API for the library, with a queue of its own that ends with ``held``."""
    workspace.webhooks.start()
    jobs = open_jobs(workspace)
    held.callback(jobs.close, 10)
    uploads = Uploads(workspace.home, workspace.is_shared, workspace.identify)
    with acting_as(EVERYTHING):
        ready = {found.id for found in workspace.recordings() if found.status == "ready"}
        uploads.take_up(jobs, ready, partial(workspace.people.person, even_disabled=True))
    ended = threading.Event()
    sweep_daily(workspace, ended)
    held.callback(ended.set)
    return create_library_api(workspace, jobs, uploads, service, workspace.settings.page_url)


def open_service(workspace: Workspace) -> Service:
    """The engines of the settings, loaded.

    Raises:
        MossAgentError: The model cannot be loaded.
    """
    from agent.engines.loading import LoadingBackend
    from moss_audio.errors import MossAudioError
    from web.api.limiter import MIB, Limits
    from web.api.service import Service

    engines = workspace.engines
    backend = engines.backend
    if isinstance(backend, LoadingBackend):
        try:
            backend = backend.loaded()
        except MossAudioError as error:
            raise MossAgentError(f"MOSS_AGENT_MODEL: {error}") from error
    most = workspace.settings.max_upload_mb * MIB
    limits = replace(Limits(), upload_bytes=min(Limits.upload_bytes, most), library_bytes=most)
    return Service(backend, engines.transcriber, limits)


def _announce(address: str, service: Service, json: bool) -> None:
    chats = service.backend.name if service.backend else None
    hears = service.models[-1] if service.transcriber else None
    if json:
        line = json_module.dumps({"url": f"{address}/v1", "model": chats, "transcriber": hears})
    else:
        answers = f"{chats} answers" if chats else "no chat model (MOSS_AGENT_MODEL sets one)"
        line = f"Listening on {address}/v1: {answers}, {hears} transcribes (Ctrl+C to stop)"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
