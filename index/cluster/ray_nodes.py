"""Starting, joining and stopping Ray on this machine, with defaults that keep it to itself.

Ray's own start would report usage, and listen where anybody who reaches the machine can run code
(CVE-2023-48022). Here it listens on 127.0.0.1 unless told otherwise, asks for Ray's token, has no dashboard
and reports nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from index.cluster.ray_session import TOKEN_FILE, has_token, import_ray, make_token
from index.recording_errors import ClusterAway, InvalidInput

PORT = 6379
LOCAL = "127.0.0.1"
START_SECONDS = 180.0


def start_head(
    host: str = LOCAL,
    port: int = PORT,
    cpus: int | None = None,
    gpus: int | None = None,
    foreground: bool = False,
) -> str:
    """Start a cluster whose first machine is this one.

    Args:
        host: This machine's address; others can join where it is one that they reach.
        port: Where they join.
        cpus: Processors it gives; 0 for a head that does no work itself; by default all.
        gpus: GPUs it gives; by default all.
        foreground: Stay, and end with the cluster; never returns.

    Returns:
        The address to join, ``host:port``.

    Raises:
        ClusterAway: Ray is not installed, or did not start.
        InvalidInput: ``host`` is no address.
    """
    arguments = [
        "--head",
        f"--node-ip-address={_number(host)}",
        f"--port={port}",
        "--include-dashboard=false",
        "--no-monitor",
    ]
    _start([*arguments, "--disable-usage-stats", *_given(cpus, gpus)], True, foreground)
    return f"{host}:{port}"


def join(
    address: str,
    host: str | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    foreground: bool = False,
) -> None:
    """Let this machine work for a cluster.

    Args:
        address: What ``start_head`` returned.
        host: This machine's address as others of the cluster reach it; by default Ray finds it.
        cpus, gpus, foreground: As in ``start_head``.

    Raises:
        ClusterAway: As in ``start_head``; or there is no token.
        InvalidInput: The address is none, or ``host``.
    """
    name, _, port = address.rpartition(":")
    if not name or not port.isdigit():
        raise InvalidInput(f"“{address[:100]}” is no address of a cluster; it looks like 10.0.0.5:{PORT}.")
    if host is None and name in (LOCAL, "localhost"):
        host = LOCAL
    own = [] if host is None else [f"--node-ip-address={_number(host)}"]
    _start([f"--address={address}", *own, "--disable-usage-stats", *_given(cpus, gpus)], False, foreground)


def _number(host: str) -> str:
    """An IP address, which Ray wants instead of a name.

    Raises:
        InvalidInput: The name has none.
    """
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise InvalidInput(f"“{host[:100]}” is no address of this machine ({error.strerror}).") from error


def stop() -> None:
    """End all that Ray runs here for this user.

    Raises:
        ClusterAway: Ray is not installed, or something could not be ended.
    """
    import_ray()
    _run(["stop"], os.environ.copy())


def _start(arguments: list[str], may_make_token: bool, foreground: bool) -> None:
    import_ray()
    variables = os.environ.copy()
    variables.setdefault("RAY_AUTH_MODE", "token")
    # On a busy machine the server of a Ray Client takes longer to start than Ray waits for it.
    variables.setdefault("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "120")
    if variables["RAY_AUTH_MODE"] == "token" and not has_token():
        if not may_make_token:
            raise ClusterAway(
                f"There is no token to join with; copy ~/{TOKEN_FILE} of the machine that started the "
                "cluster to the same place here, or set RAY_AUTH_TOKEN."
            )
        make_token()
    # Workers run this program's code, wherever it was started from.
    code = str(Path(__file__).resolve().parents[2])
    known = variables.get("PYTHONPATH", "").split(os.pathsep)
    variables["PYTHONPATH"] = os.pathsep.join([code, *(path for path in known if path and path != code)])
    if foreground:
        _become([*arguments, "--block"], variables)
    _run(["start", *arguments], variables)


def _given(cpus: int | None, gpus: int | None) -> list[str]:
    given = {"--num-cpus": cpus, "--num-gpus": gpus}
    return [f"{option}={count}" for option, count in given.items() if count is not None]


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def _run(arguments: list[str], variables: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            _command(arguments),
            env=variables,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterAway(f"Ray did not {arguments[0]} within {START_SECONDS:.0f} s.") from error
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ClusterAway(f"Ray did not {arguments[0]}: {said[-1][:300] if said else 'it did not say why'}")


def _become(arguments: list[str], variables: dict[str, str]) -> NoReturn:
    command = _command(["start", *arguments])
    os.execve(command[0], command, variables)
