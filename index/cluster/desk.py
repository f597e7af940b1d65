"""Who works next: one queue for a whole cluster, by urgency, with a bound on what each worker has in hand.

Every process that takes recordings in hands its calls to one desk (``index/cluster/ray_session.py`` makes it
an actor of Ray). A person who waits comes before an archive, whatever process either is in. Nothing here
knows Ray: the desk starts workers and calls them through ``Machines``.

What is lost when something dies: with a worker, the calls that it had in hand, which go to another one; with
a process that asked, its calls that nobody began; with the desk, nothing, since whoever asked asks again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from index.cluster.worker import Make, Outcome
from index.recording_errors import HearingError

WAITED_FOR, ARCHIVE = 0, 1
"""How urgent a call is: somebody waits for its recording, or nobody does."""

MOST_TRIES = 3
"""Workers that may die over one call before it counts as failed: it may be what kills them."""

OPENED_SECONDS = 900.0
"""How long a recording that a person opened stays urgent."""

SILENT_SECONDS = 30.0
"""Calls of a process that has not been heard of for so long are dropped, unless somebody began them."""

NO_WORKER_SECONDS = 60.0
"""How long a call waits where the cluster has no machine that could take it."""

LOOK_SECONDS = 1.0
"""How often the desk looks which machines there are."""

YIELD_SECONDS = 1.0
"""A pool that has had nothing to do for so long gives its places to another one that finds none."""

MOST_THREADS = 4
"""Threads of one worker process on a CPU, as of one recogniser on one machine."""

HEARING_SHARE, VECTOR_SHARE, TASK_SHARE = 0.75, 0.125, 0.125
"""How the processors of a machine are divided: engines that hear, what makes vectors, tasks such as decoding.
The last two have much less to do; a machine whose processors all belonged to engines could never run them."""


@dataclass(frozen=True)
class Pool:
    """Workers that are alike.

    Attributes:
        name: What tells it from other pools.
        make: Makes what the workers work with.
        hears: Whether it is an engine that hears; else it makes vectors.
        gpu: Whether it uses a GPU: ``no``, ``if there`` (machines without one work as well), or ``only``
            (where any machine has one, those without do nothing).
    """

    name: str
    make: Make = field(compare=False, repr=False)
    hears: bool = True
    gpu: str = "no"


@dataclass(frozen=True)
class Call:
    """Something to be done by any worker of a pool.

    Attributes:
        id: Unique.
        asker: The process that asks.
        pool: Who may do it.
        what: See ``Host.do``.
        arguments: Whatever is small.
        recording: What it is about; empty where it is about none.
        urgency: ``WAITED_FOR`` or ``ARCHIVE``.
    """

    id: str
    asker: str
    pool: Pool
    what: str
    arguments: tuple[Any, ...] = ()
    recording: str = ""
    urgency: int = WAITED_FOR


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster.

    Attributes:
        id: Ray's number for it.
        cpus: Processors it gives.
        gpus: GPUs it gives.
    """

    id: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Place:
    """Room for one worker process on a machine: its threads, and what it reserves there."""

    machine: str
    threads: int
    cpus: float
    gpus: float


class WorkerDied(Exception):
    """A worker ended with the call in hand.

    Args:
        for_good: Whether nobody starts it again.
    """

    def __init__(self, for_good: bool) -> None:
        super().__init__("died for good" if for_good else "died")
        self.for_good = for_good


class Machines(Protocol):
    """What the desk needs of a cluster."""

    async def list(self) -> list[Machine]:
        """The machines that are up."""
        ...

    def start(self, pool: Pool, place: Place) -> Any:
        """Start a worker; returns a handle at once."""
        ...

    async def ready(self, worker: Any) -> Outcome:
        """How many calls a worker takes at a time, once it is up and its engine loaded.

        Raises:
            WorkerDied: It is not there any more.
        """
        ...

    async def do(self, worker: Any, call: Call, payload: Any) -> Outcome:
        """Have a worker do something.

        Raises:
            WorkerDied: It ended before it was done.
        """
        ...

    def stop(self, worker: Any, calls: Sequence[str]) -> None:
        """Tell a worker that nobody waits for these calls any more."""
        ...

    def end(self, worker: Any) -> None:
        """End a worker."""
        ...


def places(pool: Pool, machines: Sequence[Machine]) -> list[Place]:
    """Where the workers of a pool go: one for each GPU, or one for every four processors.

    A machine that has GPUs gives engines that use them no processor beside.
    """
    any_gpu = pool.gpu == "only" and any(machine.gpus >= 1 for machine in machines)
    found: list[Place] = []
    for machine in machines:
        if pool.gpu != "no" and machine.gpus >= 1:
            share = min(1.0, HEARING_SHARE * machine.cpus / int(machine.gpus))
            found += [Place(machine.id, 1, share, 1.0)] * int(machine.gpus)
            continue
        if any_gpu:
            continue
        share = HEARING_SHARE if pool.hears else VECTOR_SHARE
        left = int(machine.cpus)
        while left > 0:
            threads = min(left, MOST_THREADS)
            left -= threads
            found.append(Place(machine.id, threads, share * threads, 0.0))
    return found


@dataclass
class _Worker:
    """A worker process as the desk knows it; ``at_once`` is 0 until it is ready."""

    handle: Any
    place: Place
    at_once: int = 0
    failed: Outcome | None = None
    in_hand: set[str] = field(default_factory=set)


@dataclass
class _Waiting:
    """A call, what comes with it, and who waits for it."""

    call: Call
    payload: Any
    number: int
    done: asyncio.Future[Outcome]
    tries: int = 0
    since: float = field(default_factory=time.monotonic)


class Desk:
    """The queue, and the workers it has.

    Args:
        machines: The cluster.
        clock: Seconds that never go back.
        look: Seconds between two looks at the machines.
    """

    def __init__(
        self,
        machines: Machines,
        clock: Callable[[], float] = time.monotonic,
        look: float = LOOK_SECONDS,
    ) -> None:
        self._machines = machines
        self._clock = clock
        self._seconds = look
        self._pools: dict[str, Pool] = {}
        self._workers: dict[str, list[_Worker]] = {}
        self._waiting: dict[str, list[_Waiting]] = {}
        self._wanted: dict[str, float] = {}
        self._begun: dict[str, tuple[_Waiting, _Worker]] = {}
        self._numbers = itertools.count()
        self._heard_of: dict[str, float] = {}
        self._opened: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._progress: dict[str, float] = {}
        self._known_machines: Sequence[Machine] = ()
        self._watch: asyncio.Task[None] | None = None
        self._idle_since = clock()

    # --- what processes ask for -----------------------------------------------------------------------

    async def do(self, call: Call, payload: Any = None) -> Outcome:
        """Have a call done; returns what came of it, or that it was dropped (``Outcome.dropped``)."""
        self._here(call.asker)
        self._known(call.pool)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(call, payload, next(self._numbers), done, since=self._clock())
        self._waiting[call.pool.name].append(waiting)
        self._hand_out(call.pool.name)
        return await done

    async def room(self, pool: Pool, asker: str) -> int | Outcome:
        """How many calls all workers of a pool take at a time, once one of them is there.

        Returns:
            An outcome with the error where none can be had.
        """
        self._here(asker)
        end = self._clock() + NO_WORKER_SECONDS
        while True:
            self._known(pool)
            workers = self._workers[pool.name]
            ready = sum(worker.at_once for worker in workers)
            if ready:
                return ready
            failed = next((worker.failed for worker in workers if worker.failed is not None), None)
            if failed is not None and all(worker.failed for worker in workers):
                return failed
            # A process that lives says so itself; one that died must not be kept alive by its question.
            if (not workers and self._clock() > end) or asker not in self._heard_of:
                return Outcome(error=no_worker(pool))
            await asyncio.sleep(0.05)

    async def drop(self, calls: Sequence[str]) -> None:
        """Forget calls that nobody waits for any more; a worker that has one in hand is told."""
        wanted = set(calls)
        for queue in self._waiting.values():
            for waiting in [waiting for waiting in queue if waiting.call.id in wanted]:
                queue.remove(waiting)
                _settle(waiting, Outcome(dropped=True))
        for id in wanted & self._begun.keys():
            waiting, worker = self._begun[id]
            self._machines.stop(worker.handle, [id])
            _settle(waiting, Outcome(dropped=True))

    async def opened(self, recording: str) -> None:
        """Somebody opened a recording: what it still needs comes before every archive for a while."""
        now = self._clock()
        self._opened = {id: until for id, until in self._opened.items() if until > now}
        self._opened[recording] = now + OPENED_SECONDS

    async def present(self, asker: str) -> bool:
        """A process says that it is there."""
        self._here(asker)
        return True

    async def note(self, id: str, seconds: float) -> None:
        """Keep how far a task is."""
        self._progress[id] = seconds

    async def noted(self, id: str, forget: bool = False) -> float:
        """How far a task is, as it last noted."""
        return self._progress.pop(id, 0.0) if forget else self._progress.get(id, 0.0)

    async def status(self) -> list[dict[str, Any]]:
        """What each worker does, and how much waits for it."""
        return [
            {
                "pool": name,
                "machine": worker.place.machine,
                "threads": worker.place.threads,
                "gpus": worker.place.gpus,
                "at_once": worker.at_once,
                "in_hand": len(worker.in_hand),
                "waiting": len(self._waiting[name]),
                "problem": str(worker.failed.error) if worker.failed else "",
            }
            for name, workers in self._workers.items()
            for worker in workers
        ]

    @property
    def idle_seconds(self) -> float:
        """For how long no process has been heard of."""
        return self._clock() - max([self._idle_since, *self._heard_of.values()])

    def close(self) -> None:
        """End all workers."""
        for task in [*self._tasks, *([self._watch] if self._watch else [])]:
            task.cancel()
        for workers in self._workers.values():
            for worker in workers:
                self._machines.end(worker.handle)
        self._workers = {name: [] for name in self._workers}

    # --- workers ----------------------------------------------------------------------------------------

    def _known(self, pool: Pool) -> None:
        self._wanted[pool.name] = self._clock()
        if pool.name not in self._pools:
            self._pools[pool.name] = pool
            self._workers[pool.name] = []
            self._waiting.setdefault(pool.name, [])
            self._keep(self._look(pool))
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            for pool in list(self._pools.values()):
                # What Ray cannot say just now, it says a second later.
                with suppress(Exception):
                    await self._look(pool)
            self._make_room()
            self._forget_silent()

    def _make_room(self) -> None:
        """Where a pool that is wanted finds no place, end the workers of those that have nothing to do."""
        now = self._clock()

        def has_nothing_to_do(name: str) -> bool:
            in_hand = any(worker.in_hand for worker in self._workers[name])
            return not in_hand and not self._waiting[name] and now - self._wanted[name] >= YIELD_SECONDS

        idle = [name for name in self._pools if has_nothing_to_do(name)]
        wanted = {
            worker.place.machine
            for name in self._pools.keys() - set(idle)
            for worker in self._workers[name]
            if not worker.at_once and worker.failed is None
        }
        for name in idle if wanted & self._crowded() else ():
            for worker in self._workers[name]:
                self._machines.end(worker.handle)
            self._workers[name] = []
            del self._pools[name]

    async def _look(self, pool: Pool) -> None:
        """Start a worker in each place without one, and forget those of machines that are gone."""
        machines = await self._machines.list()
        if self._pools.get(pool.name) is not pool:
            return
        self._known_machines = machines
        up = {machine.id for machine in machines}
        workers = self._workers[pool.name]
        for worker in [worker for worker in workers if worker.place.machine not in up]:
            workers.remove(worker)
        taken = [worker.place for worker in workers]
        for place in places(pool, machines):
            if place in taken:
                taken.remove(place)
                continue
            worker = _Worker(self._machines.start(pool, place), place)
            workers.append(worker)
            self._keep(self._welcome(pool, worker))
        if not workers:
            now = self._clock()
            for waiting in list(self._waiting[pool.name]):
                if now - waiting.since > NO_WORKER_SECONDS:
                    self._waiting[pool.name].remove(waiting)
                    _settle(waiting, Outcome(error=no_worker(pool)))

    def _crowded(self) -> set[str]:
        """The machines on which all workers together want more than there is."""
        places = [worker.place for workers in self._workers.values() for worker in workers]
        return {
            machine.id
            for machine in self._known_machines
            if sum(place.cpus for place in places if place.machine == machine.id) > machine.cpus + 1e-6
            or sum(place.gpus for place in places if place.machine == machine.id) > machine.gpus + 1e-6
        }

    async def _welcome(self, pool: Pool, worker: _Worker) -> None:
        try:
            answer = await self._machines.ready(worker.handle)
        except WorkerDied:
            self._lose(pool, worker)
            return
        if answer.error is not None:
            worker.failed = answer
            self._give_up(pool)
            return
        worker.at_once = max(1, int(answer.value))
        self._hand_out(pool.name)

    def _lose(self, pool: Pool, worker: _Worker) -> None:
        """Forget a worker that is no more; the next look starts another where its machine still is."""
        if worker in self._workers[pool.name]:
            self._workers[pool.name].remove(worker)

    def _give_up(self, pool: Pool) -> None:
        """Where no worker of a pool can load its engine, fail what waits, with its own words."""
        workers = self._workers[pool.name]
        if workers and all(worker.failed is not None for worker in workers):
            for waiting in self._waiting[pool.name]:
                _settle(waiting, workers[0].failed or Outcome())
            self._waiting[pool.name].clear()

    # --- the queue --------------------------------------------------------------------------------------

    def _hand_out(self, pool: str) -> None:
        """Give every worker that has room the most urgent call, the least busy worker first."""
        queue = self._waiting[pool]
        if queue and self._workers[pool] and all(worker.failed for worker in self._workers[pool]):
            self._give_up(self._pools[pool])
        while queue:
            free = [worker for worker in self._workers[pool] if len(worker.in_hand) < worker.at_once]
            if not free:
                return
            worker = min(free, key=lambda worker: len(worker.in_hand) / worker.at_once)
            waiting = min(queue, key=self._order)
            queue.remove(waiting)
            worker.in_hand.add(waiting.call.id)
            self._begun[waiting.call.id] = waiting, worker
            self._keep(self._work(worker, waiting))

    def _order(self, waiting: _Waiting) -> tuple[int, int]:
        call = waiting.call
        is_opened = self._opened.get(call.recording, 0.0) > self._clock()
        return (WAITED_FOR if is_opened else call.urgency, waiting.number)

    async def _work(self, worker: _Worker, waiting: _Waiting) -> None:
        pool = waiting.call.pool
        died: WorkerDied | None = None
        try:
            outcome = await self._machines.do(worker.handle, waiting.call, waiting.payload)
        except WorkerDied as error:
            died = error
        except Exception as error:
            # What cannot be sent, or what a library raised on its way: this call alone has failed.
            outcome = Outcome(error=HearingError(f"{type(error).__name__}: {error}"))
        worker.in_hand.discard(waiting.call.id)
        self._begun.pop(waiting.call.id, None)
        if died is None:
            _settle(waiting, outcome)
        else:
            if died.for_good:
                self._lose(pool, worker)
            else:
                # It is being started again, and takes nothing before it is ready.
                if worker.at_once:
                    worker.at_once = 0
                    self._keep(self._welcome(pool, worker))
            waiting.tries += 1
            if waiting.done.done():
                pass
            elif waiting.tries >= MOST_TRIES:
                text = f"The worker ended {waiting.tries} times while it worked on this."
                _settle(waiting, Outcome(error=HearingError(text)))
            else:
                # It keeps its number, and so its place before all that came later.
                self._waiting[pool.name].append(waiting)
        self._hand_out(pool.name)

    # --- processes ---------------------------------------------------------------------------------------

    def _here(self, asker: str) -> None:
        self._heard_of[asker] = self._clock()

    def _forget_silent(self) -> None:
        now = self._clock()
        silent = {asker for asker, last in self._heard_of.items() if now - last > SILENT_SECONDS}
        for asker in silent:
            self._idle_since = max(self._idle_since, self._heard_of.pop(asker))
        for queue in self._waiting.values():
            for waiting in [waiting for waiting in queue if waiting.call.asker in silent]:
                queue.remove(waiting)
                _settle(waiting, Outcome(dropped=True))

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def no_worker(pool: Pool) -> HearingError:
    """The sentence for a cluster in which nothing can do the work."""
    return HearingError(
        f"The Ray cluster has no machine that can run {pool.name}; add one with `moss-agent cluster join`."
    )


def _settle(waiting: _Waiting, outcome: Outcome) -> None:
    if not waiting.done.done():
        waiting.done.set_result(outcome)
