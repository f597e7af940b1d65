"""Workers of pytest-xdist that begin with the large libraries imported.

Each worker of the whole suite would import them anew, for ten seconds of processor time and more. Here each
is a fork of the process from which programs of tests are forked as well (see ``preloaded.py``).

Run as a script it stands in for Python: with a socket before Python's own arguments, it has its code run
by a fork that gets its standard files, and ends as that does.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys

WORKER = """\
import atexit, sys, torch
torch.set_num_threads(torch.get_num_threads())
sys.stdin = open(0, closefd=False)
code, sys.argv[:] = sys.argv[1], ["-c"]
try:
    exec(code)
finally:
    atexit._run_exitfuncs()
"""
"""torch makes its pool of threads anew after a fork, which two threads at a time must not ask for."""


def python_command(path: str) -> str:
    """What is run in Python's place to fork from the process that listens on a socket."""
    return shlex.join([sys.executable, "-IS", __file__, path])


def main(path: str, *arguments: str) -> None:
    """Run the code that ends the arguments, as ``python -u -c code`` would."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork gets it as well
    given = json.dumps([WORKER, [arguments[-1]], dict(os.environ), os.getcwd(), []])
    with socket.socket(socket.AF_UNIX) as place:
        place.connect(path)
        socket.send_fds(place, [b"r"], [1, 2, 0])
        place.sendall(given.encode())
        place.shutdown(socket.SHUT_WR)
        for number in range(3):
            os.close(number)
        answers = place.makefile()
        process = int(answers.readline())
        signal.signal(signal.SIGTERM, lambda number, _: os.kill(process, number))
        os._exit(abs(int(answers.readline() or 1)))


if __name__ == "__main__":
    main(*sys.argv[1:])
