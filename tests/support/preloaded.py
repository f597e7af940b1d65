"""Programs in processes of their own that begin with the large libraries imported already.

A server of the page imports for seven seconds of processor time before it does anything. Here one process
imports them once (Python's fork server), and every program is a fork of it: a process with memory, signals
and an exit status of its own, as one that was started by hand.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

LIBRARIES = ["tests.support.preloaded_libraries"]


class Program:
    """A running program; its standard output is read from ``stdout``, its errors go to a file.

    Args:
        code: Python.
        arguments: Its ``sys.argv``, without the name.
        environment: What is set on top of this process's environment. Libraries that read a variable when
            they are imported have read it already.
        log: File for standard error; by default it goes where this process's goes.
    """

    def __init__(
        self,
        code: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        reads, writes = context.Pipe(duplex=False)
        settings = {**os.environ, **(environment or {})}
        self._process = context.Process(target=_run, args=(code, list(arguments), settings, log, writes))
        self._process.start()
        writes.close()
        self.stdout: TextIO = os.fdopen(os.dup(reads.fileno()))
        reads.close()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid or 0

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float) -> None:
        """Wait for the end, and kill what has not ended by then."""
        self._process.join(seconds)
        ended = self._process.exitcode is not None
        if not ended:
            self._process.kill()
        self.stdout.close()
        assert ended, "the program did not end"


def _run(code: str, arguments: list[str], environment: dict[str, str], log: Path, writes: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(writes.fileno(), 1)
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = ["moss-agent", *arguments]
    exec(code, {"__name__": "__main__"})
