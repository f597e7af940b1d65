"""Opening the API: engines loaded, a socket that only this machine reaches unless told, a clean end."""

from __future__ import annotations

import json as json_module
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.privacy import switch_off_telemetry
from index.errors import MossAgentError
from web.guard import is_loopback
from web.server import address_of, listen

if TYPE_CHECKING:
    from agent.workspace import Workspace
    from web.api.service import Service

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
) -> None:
    """Serve the API until interrupted; prints the address once it answers.

    Args:
        workspace: Its settings choose the engines; its library is not touched.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        key: What clients must send as ``Authorization: Bearer``.
        no_auth: Let other machines in without a key.
        json: Print the address and the models as one JSON document.
        names: Further names that a server without a key answers to.

    Raises:
        MossAgentError: The address is taken, other machines would get in without a key, or the model
            cannot be loaded.
    """
    switch_off_telemetry()
    if key is not None and not key.strip():
        raise MossAgentError("The API key is empty; give one with --api-key, or leave it out.")
    if key is None and not no_auth and not is_loopback(host):
        raise MossAgentError(
            f"On {host} other machines reach this server; set an API key with --api-key, or say --no-auth if "
            "everyone may use it."
        )
    with listen(host, port, "The server") as listener:
        import uvicorn

        from web.api.app import create_api

        service = open_service(workspace)
        address = address_of(host, listener.getsockname()[1])

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                _announce(address, service, json)

        config = uvicorn.Config(
            create_api(service, key, host, names),
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            # Uvicorn ends by raising the signal again; this way both signals pass through ``finally``.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            service.close()


def open_service(workspace: Workspace) -> Service:
    """The engines of the settings, loaded.

    Raises:
        MossAgentError: The model cannot be loaded.
    """
    from agent.loading import LoadingBackend
    from moss_audio.errors import MossAudioError
    from web.api.limits import MIB, Limits
    from web.api.service import Service

    engines = workspace.engines
    backend = engines.backend
    if isinstance(backend, LoadingBackend):
        try:
            backend = backend.loaded()
        except MossAudioError as error:
            raise MossAgentError(f"MOSS_AGENT_MODEL: {error}") from error
    limits = replace(Limits(), upload_bytes=min(Limits.upload_bytes, workspace.settings.max_upload_mb * MIB))
    return Service(backend, engines.transcriber, limits)


def _announce(address: str, service: Service, json: bool) -> None:
    chats = service.backend.name if service.backend else None
    hears = service.models[-1] if service.transcriber else None
    if json:
        line = json_module.dumps({"url": f"{address}/v1", "model": chats, "transcriber": hears})
    else:
        answers = f"{chats} answers" if chats else "no model answers (MOSS_AGENT_MODEL chooses one)"
        line = f"Listening on {address}/v1: {answers}, {hears} transcribes (Ctrl+C ends it)"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
