"""The connection to a Ray cluster: desk and workers as actors, calls to them, and what if it is gone.

Ray does what it is good at: processes on many machines with their resources, restarts, retries, moving audio.
Which call is next, ``index/cluster/desk.py`` decides. The actors belong to no process that takes recordings
in, but to the cluster: several processes share them, and they end ten minutes after the last of these.

A cluster is trusted: whoever may talk to it may run any code on its machines, and sees all audio. `moss-agent
cluster` therefore listens on 127.0.0.1 and asks for Ray's token unless it is told otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from index.cluster.desk import (
    ARCHIVE,
    SILENT_SECONDS,
    WAITED_FOR,
    Call,
    Desk,
    Machine,
    Place,
    Pool,
    WorkerDied,
)
from index.cluster.worker import Outcome, Worker
from index.pipeline.urgency import current_work
from index.recording_errors import Cancelled, ClusterAway, HearingError

NAMESPACE = "moss-agent"
DESK = "desk-1"
"""The desk's name; the number changes with what processes and desk say to each other, so that two versions of
this program on one cluster do not meet."""

TURN_SECONDS = 0.1
"""How often who waits for a result looks whether it is still wanted."""

PRESENT_SECONDS = 3.0
"""How often a process says that it is there."""

GONE_SECONDS = 20.0
"""A cluster that has not answered for so long is gone. Ray ends a process 60 s after it lost its cluster, so
the connection is given up before."""

CONNECT_SECONDS = 60.0
REACH_SECONDS = 5.0
START_SECONDS = 120.0

TOKEN_FILE = ".ray/auth_token"
"""Where Ray looks for its token, in the user's own folder."""

AGAIN_SECONDS = 5.0
"""After a failure to connect, nobody tries again for so long."""

IDLE_SECONDS = 600.0
"""The desk ends itself and all workers when no process has been there for so long."""

RESTARTS = 3
"""How often Ray starts a worker process again that crashed, before the desk replaces it."""

TASK_RUNS = 4
"""How often a task is begun whose process is ended each time."""

CALLS_AT_ONCE = 512
"""Threads a worker may have; how many calls it gets at a time, the desk decides."""

LOST = (
    "The Ray cluster cannot be reached any more; what was finished is kept: add the file again to go on, "
    "without MOSS_AGENT_RAY to do so on this machine."
)

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def connect(address: str) -> RaySession:
    """Connect to a cluster, or start one on this machine.

    Args:
        address: ``local``, ``auto``, ``host:6379`` or ``ray://host:10001``.

    Raises:
        ClusterAway: It cannot be reached, or Ray is not installed.
    """
    name, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("local", "auto") and not (name and port.isdigit()):
        raise ClusterAway(
            f"MOSS_AGENT_RAY is no address: “{address[:100]}”; use local, auto, host:6379 or ray://host:10001."
        )
    if name:
        try:
            # Ray itself would try for half a minute, and say on stderr that it does.
            socket.create_connection((name.strip("[]"), int(port)), REACH_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _away(address, error) from error
    if address == "local" and "RAY_AUTH_MODE" not in os.environ and not has_token():
        make_token()
    import_ray()
    return _attempt(address).wait(START_SECONDS if address == "local" else CONNECT_SECONDS)


class _Attempt:
    """A connection that is being made, in a thread of its own, for as long as somebody waits for it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_over = False
        self._session: RaySession | None = None
        self._error: Exception | None = None
        self._is_wanted = True
        self._changed = threading.Condition()
        # Ray would else decide how this program ends on a signal, and may wait for long.
        threading.Thread(target=self._make, name="ray-presence", daemon=True).start()

    def _make(self) -> None:
        try:
            session = RaySession(self.address)
        except Exception as error:
            with self._changed:
                self._error, self.is_over = error, True
                self._changed.notify_all()
            return
        with self._changed:
            self._session, self.is_over = session if self._is_wanted else None, True
            self._changed.notify_all()
        if self._session is None:
            # Whoever asked has gone on without it, and nobody would ever close it.
            session.close()
            return
        # What Ray starts here ends with the thread that started it, so that thread stays.
        session.stay_present()

    def wait(self, seconds: float) -> RaySession:
        """The connection, once there is one.

        Raises:
            ClusterAway: It failed, or took longer.
        """
        with self._changed:
            self._is_wanted = True
            self._changed.wait_for(lambda: self.is_over, seconds)
            if self._session is not None:
                return self._session
            self._is_wanted = False
            raise _away(self.address, self._error) from self._error


_attempts: dict[str, _Attempt] = {}
_attempts_lock = threading.Lock()


def _attempt(address: str) -> _Attempt:
    """A new attempt to connect, or the one that somebody has given up waiting for and that is still made."""
    with _attempts_lock:
        attempt = _attempts.get(address)
        if attempt is None or attempt.is_over:
            attempt = _attempts[address] = _Attempt(address)
        return attempt


def _away(address: str, error: Exception | None) -> ClusterAway:
    """The sentence for a cluster that cannot be had."""
    why = "" if error is None else f" ({_first_line(error)})"
    what = "could be started here" if address == "local" else f"answers at {address}"
    token = "" if has_token() or address == "local" else f", copy ~/{TOKEN_FILE} of its first machine here"
    return ClusterAway(
        f"No Ray cluster {what}{why}; start one with `moss-agent cluster start`{token}, or unset "
        "MOSS_AGENT_RAY to work on this machine alone."
    )


def has_token() -> bool:
    """Whether Ray will find a token here."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / TOKEN_FILE).is_file()


def make_token() -> None:
    """Make a token that only this user can read; Ray's own way would let others of the machine read it."""
    file = Path.home() / TOKEN_FILE
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    opened = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(opened, "w") as token:
            token.write(secrets.token_hex(32))
        # Whole at once: another process may be reading it, or making one too, and the first one's holds.
        with suppress(FileExistsError):
            os.link(made, file)
    finally:
        made.unlink()


class ClusterLink:
    """A cluster that is connected to when it is first needed, and again when it is back after it was gone.

    Args:
        address: See ``connect``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._session: RaySession | None = None
        self._lock = threading.Lock()
        self._failed: tuple[float, str] = (-AGAIN_SECONDS, "")

    def session(self) -> RaySession:
        """The connection.

        Raises:
            ClusterAway: There is none to be had.
        """
        with self._lock:
            if self._session is None or self._session.lost:
                when, why = self._failed
                if time.monotonic() - when < AGAIN_SECONDS:
                    # Many windows ask at a time; each would wait for a cluster that is not there.
                    raise ClusterAway(why)
                try:
                    self._session = connect(self.address)
                except ClusterAway as error:
                    self._failed = time.monotonic(), str(error)
                    raise
            return self._session

    def opened(self, recording: str) -> None:
        """Say that somebody opened a recording, which another process may work on; never waits."""

        def tell() -> None:
            with suppress(ClusterAway):
                self.session().opened(recording)

        threading.Thread(target=tell, name="telling-ray", daemon=True).start()

    def close(self) -> None:
        """Leave the cluster."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = None


def import_ray() -> Any:
    """Ray, with its reports switched off.

    Raises:
        ClusterAway: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Not even a line about the setting above.
    os.environ.setdefault("RAY_USAGE_STATS_PROMPT_ENABLED", "0")
    # A call after the connection was given up is an error, and starts no cluster.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Workers without a GPU of their own do not see any.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if has_token():
        # Ray would find out by itself, and say so on stderr.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise ClusterAway(
            "Ray is not installed; install it with `pip install 'moss-agent[scale]'`."
        ) from error
    # The program's own way to end on a signal stays, which Ray warns of.
    logging.getLogger("ray._private.worker").addFilter(_is_no_signal)
    # When a machine dies, Ray prints the end of its log on stdout, where a command's JSON belongs.
    ray._private.worker.print_to_stdstream = _note
    return ray


def _note(data: dict[str, Any], ignore_prefix: bool) -> None:
    log.debug("%s: %s", data.get("pid"), data.get("lines"))


def _is_no_signal(record: logging.LogRecord) -> bool:
    return "SIGTERM" not in str(record.msg)


class RaySession:
    """One process's connection; it lasts as long as the process, or until the cluster is gone.

    Args:
        address: See ``connect``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.asker = uuid.uuid4().hex
        self.lost = False
        self._ray = ray = import_ray()
        if not ray.is_initialized():
            where = {"address": address} if address != "local" else {"include_dashboard": False}
            ray.init(
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                **where,
            )
            self._is_mine = True
        else:
            self._is_mine = False
        try:
            self._desk = desk_actor(ray)
            ray.get(self._desk.present.remote(self.asker), timeout=CONNECT_SECONDS)
        except BaseException:
            if self._is_mine:
                # The next one would take it for somebody else's, and leave it open.
                with suppress(Exception):
                    ray.shutdown()
            raise
        self._closed = threading.Event()

    # --- calls ----------------------------------------------------------------------------------------

    def call(
        self,
        pool: Pool,
        what: str,
        arguments: tuple[Any, ...] = (),
        payload: Any = None,
        stop: threading.Event | None = None,
    ) -> Any:
        """Have a worker of a pool do something, and wait for it.

        Args:
            pool: Who may do it.
            what: See ``index.cluster.worker.Host.do``.
            arguments: Whatever is small.
            payload: Audio; it goes to the worker's machine directly, and nowhere else.
            stop: Set when the result is no longer wanted.

        Raises:
            MossAgentError, MossAudioError, OtherLanguage: As the worker's engine raises them.
            HearingError: No worker can do it, or several ended over it.
            Cancelled: ``stop`` was set.
            ClusterAway: The cluster is gone.
        """
        work = current_work()
        sent = None if payload is None else [self._asked(lambda: self._ray.put(payload))]
        while True:
            call = Call(
                uuid.uuid4().hex, self.asker, pool, what, arguments, work.recording,
                ARCHIVE if work.is_archive else WAITED_FOR,
            )  # fmt: skip
            outcome = self._wait(lambda: self._desk.do.remote(call, sent), stop, call.id)  # noqa: B023
            if outcome.dropped:
                # This process was taken to be gone, for example since it slept.
                continue
            if outcome.error is not None:
                raise outcome.error
            return outcome.value

    def room(self, pool: Pool, stop: threading.Event | None = None) -> int:
        """How many calls the workers of a pool take at a time, once there is one.

        Raises:
            MossAgentError, MossAudioError: No worker can load its engine.
            HearingError: There is no machine for one.
            Cancelled, ClusterAway: As in ``call``.
        """
        found = self._wait(lambda: self._desk.room.remote(pool, self.asker), stop)
        if isinstance(found, Outcome):
            assert found.error is not None
            raise found.error
        return int(found)

    def run(
        self,
        task: Callable[..., Any],
        arguments: tuple[Any, ...],
        share: float,
        stop: Callable[[], bool],
        progress: Callable[[float], None] | None = None,
    ) -> Any:
        """Run a task anywhere, and again where its machine dies.

        Args:
            task: A function of a module; it is given a function that notes progress before its arguments.
            arguments: What it is called with; large values as ``put`` gives them.
            share: Processors it takes.
            stop: Asked often; the task ends when it says so.
            progress: Called with what the task notes.

        Raises:
            MossAgentError: As the task raises it.
            Cancelled: ``stop`` said so.
            WorkerDied: Its process was ended as often as it was begun.
            ClusterAway: The cluster is gone.
        """
        ray, id = self._ray, uuid.uuid4().hex
        remote = ray.remote(run_task).options(
            num_cpus=share, max_retries=TASK_RUNS - 1, scheduling_strategy="SPREAD", name=task.__name__
        )
        ref = self._asked(lambda: remote.remote(self._desk, id, task, *arguments))
        told = 0.0
        try:
            while not self._asked(lambda: ray.wait([ref], timeout=TURN_SECONDS)[0]):
                self._check()
                if stop():
                    with suppress(Exception):
                        ray.cancel(ref)
                    raise Cancelled("Stopped; nobody waits for this any more.")
                if progress is not None:
                    noted = self._asked(lambda: ray.get(self._desk.noted.remote(id), timeout=GONE_SECONDS))
                    if noted > told:
                        told = noted
                        progress(noted)
            outcome: Outcome = self._asked(lambda: self._result(ref))
        finally:
            with suppress(Exception):
                self._desk.noted.remote(id, True)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _result(self, ref: Any) -> Any:
        """What a task returned; the cluster may be well where each of its processes was ended."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            self._ray.get(self._desk.present.remote(self.asker), timeout=GONE_SECONDS)
            raise WorkerDied(for_good=True) from error

    def put(self, value: Any) -> Any:
        """A large value, kept in the object store until nothing refers to it."""
        return self._asked(lambda: self._ray.put(value))

    def opened(self, recording: str) -> None:
        """Tell the desk that somebody opened a recording; never waits."""
        with suppress(Exception):
            if not self.lost:
                self._desk.opened.remote(recording)

    def status(self) -> list[dict[str, Any]]:
        """See ``Desk.status``."""
        found: list[dict[str, Any]] = self._wait(lambda: self._desk.status.remote(), None)
        return found

    def machines(self) -> list[Machine]:
        """The machines that are up."""
        return self._asked(lambda: machines_of(self._ray))

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._closed.set()
        if self._is_mine and not self.lost:
            with suppress(Exception):
                self._ray.shutdown()
        self.lost = True

    # --- waiting ----------------------------------------------------------------------------------------

    def _wait(self, begin: Callable[[], Any], stop: threading.Event | None, call: str | None = None) -> Any:
        self._check()
        ref = self._asked(begin)
        while True:
            self._check()
            if self._asked(lambda: self._ray.wait([ref], timeout=TURN_SECONDS)[0]):
                return self._asked(lambda: self._ray.get(ref))
            if stop is not None and stop.is_set():
                if call is not None:
                    with suppress(Exception):
                        self._desk.drop.remote([call])
                raise Cancelled("Stopped; nobody waits for this any more.")

    def _check(self) -> None:
        if self.lost:
            raise ClusterAway(LOST)

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """What Ray answers; most of what it raises by itself means that the cluster cannot be used."""
        self._check()
        try:
            return ask()
        except WorkerDied:
            raise
        except SystemExit as error:
            # How Ray leaves where its node took this process for gone; anybody else ends with a code.
            if error.code:
                raise
            raise ClusterAway(LOST) from error
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        log.debug("Ray: %s", error, exc_info=error)
        if isinstance(error, (self._ray.exceptions.RayTaskError, TypeError, ValueError, AttributeError)):
            # The cluster is there, and something else is wrong.
            raise HearingError(f"{type(error).__name__}: {_first_line(error)}") from error
        raise ClusterAway(f"{LOST[:-1]} ({_first_line(error)}).") from error

    def stay_present(self) -> None:
        """Tell the desk again and again that this process is there; leave a cluster that is gone."""
        ray, heard = self._ray, time.monotonic()
        while not self._closed.wait(PRESENT_SECONDS):
            if self.lost or not ray.is_initialized():
                self.lost = True
                return
            try:
                ray.get(self._desk.present.remote(self.asker), timeout=GONE_SECONDS - PRESENT_SECONDS)
                heard = time.monotonic()
            except (Exception, SystemExit) as error:
                log.debug("Ray is silent: %s", error)
            if time.monotonic() - heard >= GONE_SECONDS and not self._closed.is_set():
                self.lost = True
                with suppress(Exception):
                    ray.shutdown()
                return


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines() if error is not None else []
    return " ".join(lines[0].split())[:200].rstrip(".:") if lines else type(error).__name__


# --- actors ---------------------------------------------------------------------------------------------


def desk_actor(ray: Any) -> Any:
    """The cluster's one desk; it is started where there is none.

    It sits on the head, without which there is no cluster, and takes no processor.
    """
    actor = ray.remote(DeskActor)
    return actor.options(
        name=DESK,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=100_000,
    ).remote()


class DeskActor:
    """The desk as an actor; ends itself when it has been alone for long."""

    def __init__(self) -> None:
        self._desk = Desk(RayMachines())
        self._end: asyncio.Task[None] | None = None

    async def present(self, asker: str) -> bool:
        """See ``Desk``."""
        if self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._end_when_alone())
        return await self._desk.present(asker)

    async def do(self, call: Call, sent: Sequence[Any] | None) -> Outcome:
        """See ``Desk``; what is sent is a reference in a list, so that it is not brought here."""
        return await self._desk.do(call, None if sent is None else sent[0])

    async def room(self, pool: Pool, asker: str) -> int | Outcome:
        """See ``Desk``."""
        return await self._desk.room(pool, asker)

    async def drop(self, calls: Sequence[str]) -> None:
        """See ``Desk``."""
        await self._desk.drop(calls)

    async def opened(self, recording: str) -> None:
        """See ``Desk``."""
        await self._desk.opened(recording)

    async def note(self, id: str, seconds: float) -> None:
        """See ``Desk``."""
        await self._desk.note(id, seconds)

    async def noted(self, id: str, forget: bool = False) -> float:
        """See ``Desk``."""
        return await self._desk.noted(id, forget)

    async def status(self) -> list[dict[str, Any]]:
        """See ``Desk``."""
        return await self._desk.status()

    async def _end_when_alone(self) -> None:
        import ray

        while self._desk.idle_seconds < IDLE_SECONDS:
            await asyncio.sleep(SILENT_SECONDS)
        self._desk.close()
        # One that is restarted would only be alone again.
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def machines_of(ray: Any) -> list[Machine]:
    """The machines of a cluster that are up."""
    return [
        Machine(node["NodeID"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


class RayMachines:
    """``Machines`` over Ray; used in the desk's process."""

    def __init__(self) -> None:
        import ray

        self._ray: Any = ray

    async def list(self) -> list[Machine]:
        """See ``Machines``."""
        return await asyncio.get_running_loop().run_in_executor(None, machines_of, self._ray)

    def start(self, pool: Pool, place: Place) -> Any:
        """See ``Machines``: on that machine, and started again by Ray when it crashes."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        decorate = self._ray.remote(concurrency_groups={"calls": CALLS_AT_ONCE, "control": 1})
        actor = decorate(WorkerActor)
        return actor.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            max_restarts=RESTARTS,
            max_task_retries=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.machine, soft=False),
        ).remote(pool.make, place.threads)

    async def ready(self, worker: Any) -> Outcome:
        """See ``Machines``."""
        return await self._answer(worker.ready.options(concurrency_group="calls").remote())

    async def do(self, worker: Any, call: Call, payload: Any) -> Outcome:
        """See ``Machines``."""
        asked = worker.do.options(concurrency_group="calls")
        return await self._answer(asked.remote(call.id, call.what, call.arguments, payload))

    def stop(self, worker: Any, calls: Sequence[str]) -> None:
        """See ``Machines``."""
        worker.stop.options(concurrency_group="control").remote(list(calls))

    def end(self, worker: Any) -> None:
        """See ``Machines``."""
        with suppress(Exception):
            self._ray.kill(worker)

    async def _answer(self, ref: Any) -> Outcome:
        try:
            outcome: Outcome = await ref
            return outcome
        except self._ray.exceptions.ActorUnavailableError as error:
            raise WorkerDied(for_good=False) from error
        except self._ray.exceptions.RayActorError as error:
            raise WorkerDied(for_good=True) from error
        except self._ray.exceptions.ObjectLostError as error:
            # The audio was on a machine that is gone: whoever put it there is gone as well.
            raise WorkerDied(for_good=False) from error


class WorkerActor(Worker):
    """A worker as an actor."""


def run_task(desk: Any, id: str, task: Callable[..., Any], *arguments: Any) -> Outcome:
    """A task on a worker's machine; its errors come back as a worker's do."""
    from index.cluster.worker import failed

    # Ray stops a task as Ctrl+C would, which what a script starts in the background ignores from the outset.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def note(seconds: float) -> None:
        desk.note.remote(id, seconds)

    try:
        return Outcome(task(note, *arguments))
    except Exception as error:
        return failed(error)
