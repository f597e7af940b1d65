"""Programs in processes of their own that begin with the large libraries imported already.

A server of the page imports for seven seconds of processor time before it does anything. Here one process
imports them once for all that run tests, and every program is a fork of it: a process with memory, signals
and an exit status of its own, as one that was started by hand.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[2]
FOLDER = "MOSS_TESTS_PRELOADED"
"""Variable that names the folder of a process that has the libraries already."""
SERVE = "import sys; from tests.support.preloaded import serve; serve(sys.argv[1])"
STAY, RUN = b"s", b"r"
"""What a connection is for: the server stays for as long as somebody holds one of the former."""


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
        settings = {**os.environ, **(environment or {})}
        given = json.dumps([code, list(arguments), settings, os.getcwd(), sys.path])
        reads, writes = os.pipe()
        errors = os.dup(2) if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        place = connected()
        socket.send_fds(place, [RUN], [writes, errors])
        os.close(writes)
        os.close(errors)
        place.sendall(given.encode())
        place.shutdown(socket.SHUT_WR)
        self.stdout: TextIO = os.fdopen(reads)
        self._place = place
        self._status: int | None = None
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """The exit status, negative where a signal ended it; None while it runs."""
        return self._ended(0.0)

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._ended(None)

    def wait(self, seconds: float) -> None:
        """Wait for the end, and kill what has not ended by then."""
        ended = self._ended(seconds) is not None
        if not ended:
            self.kill()
        self.stdout.close()
        assert ended, "the program did not end"

    def _ended(self, seconds: float | None) -> int | None:
        if self._status is None:
            # ``select`` takes no number beyond 1,023, which a process with many pages open reaches.
            told = select.poll()
            told.register(self._place, select.POLLIN)
            if told.poll(None if seconds is None else 1000 * seconds):
                self._status = int(self._line())
                self._place.close()
        return self._status

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            more = self._place.recv(1)
            assert more, "the process that has the libraries is gone"
            line += more
        return line.decode()


# --- the process that has the libraries ---------------------------------------------------------------------

_stays: list[socket.socket] = []
_started: list[subprocess.Popen[bytes]] = []


def socket_path() -> Path:
    """Where it listens, the same for all workers of a run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
    folder = os.environ.get(FOLDER) or f"{tempfile.gettempdir()}/moss-agent-tests-{run}"
    return Path(folder) / "socket"


def connected() -> socket.socket:
    """A connection to it; it is started where there is none."""
    path = socket_path()
    folder = path.parent
    while not _stays:
        folder.mkdir(mode=0o700, exist_ok=True)
        # The last of those that stayed may just be leaving, and the server with it.
        with suppress(FileNotFoundError, ConnectionError), (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _start(path)
            stays = _connection(path)
            stays.sendall(STAY)
            _stays.append(stays)
    return _connection(path)


def _start(path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(path)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    _started.append(server)
    assert server.stdout is not None
    ready = server.stdout.readline() == b"listening\n"
    server.stdout.close()
    assert ready or not path.parent.exists(), "the libraries could not be imported"


def _connection(path: Path) -> socket.socket:
    place = socket.socket(socket.AF_UNIX)
    place.connect(str(path))
    return place


def serve(path: str) -> None:
    """Import the libraries, and run programs until nobody is there any more."""
    import tests.support.preloaded_libraries  # noqa: F401

    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl+C ends who runs the tests, and with them this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    staying: set[socket.socket] = set()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        os.write(1, b"listening\n")
        os.dup2(0, 1)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    place, _ = listener.accept()
                    what, files, _, _ = socket.recv_fds(place, 1, 3)
                    if what == STAY:
                        staying.add(place)
                        selector.register(place, selectors.EVENT_READ)
                    elif what == RUN:
                        pid = os.fork()
                        if pid == 0:
                            signal.set_wakeup_fd(-1)
                            selector.close()
                            for other in (listener, *staying, *running.values()):
                                other.close()
                            os.close(woken)
                            os.close(wakes)
                            os._exit(_run(place, *files))
                        for file in files:
                            os.close(file)
                        running[pid] = place
                        _tell(place, pid)
                elif key.fileobj is not woken:
                    gone = key.fileobj
                    assert isinstance(gone, socket.socket)
                    selector.unregister(gone)
                    staying.remove(gone)
                    gone.close()
                    if not staying:
                        shutil.rmtree(Path(path).parent, ignore_errors=True)
                        return
                elif os.read(woken, 65_536):
                    _reap(running)


def _reap(running: dict[int, socket.socket]) -> None:
    """Say of programs that have ended how they did."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as place:
            _tell(place, os.waitstatus_to_exitcode(status))


def _tell(place: socket.socket, number: int) -> None:
    # Perhaps nobody waits for it any more.
    with suppress(BrokenPipeError):
        place.sendall(f"{number}\n".encode())


def _run(place: socket.socket, output: int, errors: int, read: int | None = None) -> int:
    """Run what came over a connection; returns the exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = b"".join(iter(lambda: place.recv(65_536), b""))
    place.close()
    code, arguments, environment, folder, path = json.loads(given)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for file, number in ((output, 1), (errors, 2), (read, 0)):
        if file is not None:
            os.dup2(file, number)
            os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.path[:] = path or sys.path
    sys.argv = ["moss-agent", *arguments]
    return exit_status(lambda: exec(code, {"__name__": "__main__"}))


def exit_status(run: Callable[[], object]) -> int:
    """What a program ends with, once its threads have ended and its output is written."""
    status = 1
    try:
        run()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return status
