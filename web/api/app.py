"""The API as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from web.api.chat import chat_completions
from web.api.door import CHAT, HEALTH, TRANSCRIPTIONS, Door
from web.api.errors import RETRY_SECONDS, ApiError
from web.api.metrics import CONTENT_TYPE
from web.api.service import Service
from web.api.transcriptions import transcriptions


def create_api(
    service: Service, key: str | None = None, host: str = "127.0.0.1", names: Sequence[str] = ()
) -> Starlette:
    """The whole application; it closes the service when it ends.

    Args:
        service: Engines, queues and limits.
        key: The API key that clients must send; None lets everybody in.
        host: The address that will be listened on.
        names: Further names that a server without a key answers to.
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
        ],
        exception_handlers={HTTPException: _failed},  # type: ignore[dict-item]
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(Door, service=service, key=key, host=host, names=names)
    return app


async def _models(request: Request) -> Response:
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [_described(service, one) for one in service.models]})


async def _model(request: Request) -> Response:
    service: Service = request.app.state.service
    name = request.path_params["model"]
    if name not in service.known:
        raise ApiError(
            404,
            f"There is no model “{name[:100]}” here; /v1/models lists what there is.",
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
        405: "This address takes another method.",
    }
    message = sentences.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, "not_found" if error.status_code == 404 else None).response()
