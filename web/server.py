"""Opening the page: a server on one address, the sample at the first start, a clean end."""

from __future__ import annotations

import json as json_module
import logging
import signal
import socket
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.privacy import switch_off_telemetry
from index.audio.decode import file_id
from index.recording_errors import MossAgentError
from index.store.access import EVERYTHING, acting_as
from web.guard import is_loopback

if TYPE_CHECKING:
    from agent.workspace import Workspace
    from web.jobs import Jobs

SAMPLE = Path(__file__).parent / "sample" / "harbour_meeting.mp3"
SAMPLE_TITLE = "Harbour Lights planning call"
SAMPLE_MARKER = ".sample-added"
CANCELLED = "cancelled"
log = logging.getLogger(__name__)


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 7860,
    json: bool = False,
    beside: AbstractContextManager[object] | None = None,
) -> None:
    """Serve the page until interrupted; prints the address once it answers.

    Args:
        workspace: An open workspace; it is held for writing all the while, and closed at the end.
        host: Address to listen on. Others than 127.0.0.1 let other machines in, so people must sign in there.
        port: Port to listen on; 0 takes a free one.
        json: Print the address as one JSON document.
        beside: What works on the workspace meanwhile; left before the workspace is closed.

    Raises:
        MossAgentError: The address is taken, another process uses the home folder, or other machines would
            get in without an account.
    """
    switch_off_telemetry()
    accounts = needs_accounts(workspace, host)
    with workspace.writing(), listen(host, port, "The page") as listener:
        import uvicorn

        workspace.webhooks.start()
        from web.app import create_app
        from web.shared_jobs import open_jobs

        jobs = open_jobs(workspace)
        address = address_of(host, listener.getsockname()[1])

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                workspace.opened_at(address)
                _announce(address, json)
                with acting_as(EVERYTHING):
                    add_sample_once(workspace, jobs)
                threading.Thread(target=_warm_up, args=(workspace,), daemon=True).start()

        app = create_app(workspace, jobs, host, accounts)
        # What proxies say of others is read where it is known which of them are to be believed.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False)
        ended = threading.Event()
        sweep_daily(workspace, ended)
        try:
            # Uvicorn ends by raising the signal again; this way both signals pass through ``finally``.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with beside or nullcontext():
                Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            ended.set()
            app.state.service.close()
            jobs.close(timeout=10)
            workspace.close()


def needs_accounts(workspace: Workspace, host: str) -> bool:
    """Whether people have to sign in to what listens on an address.

    Raises:
        MossAgentError: They have to, and there is no account and no other way in.
    """
    required = not is_loopback(host) and workspace.settings.accounts != "optional"
    if not workspace.has_accounts and not required:
        return False
    # Also where a provider vouches for people: the first account gets the whole library.
    if not workspace.people.count():
        where = f"On {host} other machines can reach the page" if required else "MOSS_AGENT_ACCOUNTS is on"
        raise MossAgentError(f"{where}, so it needs accounts; make one with `moss-agent people add NAME`.")
    return True


SWEEP_SECONDS = 86_400.0


def sweep_daily(workspace: Workspace, ended: threading.Event) -> None:
    """Delete what is left of removed recordings, and what is older than ``MOSS_AGENT_KEEP_DAYS``.

    Now and every day until ``ended`` is set.
    """
    if workspace.read_only is not None:
        return

    def sweep() -> None:
        while not ended.is_set():
            try:
                workspace.library.finish_removals()
                for recording in workspace.sweep():
                    log.warning("deleted after %d days: %s", workspace.settings.keep_days, recording.id[:12])
            except Exception as error:
                # A full disk, for one; tomorrow is another day.
                log.warning("old recordings could not be deleted: %s", error)
            ended.wait(SWEEP_SECONDS)

    threading.Thread(target=sweep, name="sweeping", daemon=True).start()


def add_sample_once(workspace: Workspace, jobs: Jobs) -> None:
    """Queue the shipped meeting at the very first start, and go on with it if that was interrupted.

    A library that has something, and one that the sample was removed from, are left alone.
    """
    marker = workspace.home / SAMPLE_MARKER
    if not SAMPLE.exists():
        return
    recordings = workspace.library.recordings()
    first = not marker.exists() and not recordings
    sample = file_id(SAMPLE)
    begun = any(recording.id == sample and recording.status != "ready" for recording in recordings)
    if first or begun:
        # Who cancelled it finds it stopped, and may go on with it.
        given_up = marker.exists() and marker.read_text(encoding="utf-8") == CANCELLED
        state: Literal["waiting", "stopped"] = "stopped" if given_up else "waiting"
        cancelled = partial(marker.write_text, CANCELLED)
        jobs.submit(SAMPLE, SAMPLE_TITLE, state=state, recording=sample, cancelled=cancelled, source="sample")
    marker.touch()


def listen(host: str, port: int, what: str) -> socket.socket:
    """A socket bound to an address.

    Raises:
        MossAgentError: It is taken; ``what`` is named as what wanted it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise MossAgentError(
            f"{what} cannot listen on {host} port {port} ({error.strerror}); choose another with --port."
        ) from error
    return listener


def address_of(host: str, port: int) -> str:
    """The URL under which this machine reaches what listens there."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _announce(address: str, json: bool) -> None:
    line = json_module.dumps({"url": address}) if json else f"The page is open on {address} (Ctrl+C to stop)"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _warm_up(workspace: Workspace) -> None:
    """Load what the first question needs, so that it is answered as fast as the second.

    A large model is loaded in the background; until it is there, questions are answered without it.
    """
    try:
        workspace.engines.start()
        workspace.embedder.load()
        _ = workspace.assistant
    except Exception as error:
        # Whoever asks gets the sentence; here there is nobody to tell.
        log.info("warming up failed: %s", error)
