"""`moss-agent` as a command that begins with the large libraries imported, for scripts of many commands.

A program that was forked with them listens; the command hands it its arguments, folder, environment and open
files, and it forks once more to run them. What the command does, prints and returns is as if it had started
by itself; only the seconds in which each one imports the same libraries are gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.support.preloaded import Program, exit_status

SERVE = "from tests.support.forked_command import serve; serve({path!r})"

COMMAND = """\
#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as place:
    place.connect({path!r})
    given = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(place, [b"."], [0, 1, 2])
    place.sendall(given)
    place.shutdown(socket.SHUT_WR)
    answers = place.makefile()
    process = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(process, number))
    sys.exit(int(answers.readline() or 1))
"""


def install(folder: Path, log: Path) -> Program:
    """Put `moss-agent` into a folder; what serves it is to be stopped in the end."""
    path = str(folder / "socket")
    command = folder / "moss-agent"
    command.write_text(COMMAND.format(python=sys.executable, path=path))
    command.chmod(0o755)
    program = Program(SERVE.format(path=path), log=log)
    assert program.stdout.readline() == "listening\n"
    return program


def serve(path: str) -> None:
    """Run one command after another, side by side, until killed."""
    # Both are slow to import, and only some programs of tests need them.
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            place, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os._exit(_run(place))
            place.close()


def _run(place: socket.socket) -> int:
    """Run what one command handed over; its exit status goes back as well."""
    import torch

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # torch makes its pool anew after a fork, and not for two threads at a time ("Invalid thread pool!"):
    # so here, before there is a second one.
    torch.set_num_threads(1)
    _, files, _, _ = socket.recv_fds(place, 1, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    given = b"".join(iter(lambda: place.recv(65_536), b""))
    arguments, folder, environment = json.loads(given)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sys.argv = ["moss-agent", *arguments]
    sys.path.insert(0, str(ROOT))
    place.sendall(f"{os.getpid()}\n".encode())

    def run() -> None:
        from agent.cli import main

        main()

    status = exit_status(run)
    place.sendall(f"{status}\n".encode())
    return status
