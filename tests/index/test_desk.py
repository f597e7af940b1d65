"""Who works next: by urgency, with a bound on what a worker has in hand, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from index.cluster.desk import (
    ARCHIVE,
    SILENT_SECONDS,
    WAITED_FOR,
    Call,
    Desk,
    Machine,
    Pool,
    WorkerDied,
    places,
)
from index.cluster.worker import Outcome
from index.recording_errors import HearingError, WeightsError


def never(threads: int) -> Any:
    raise AssertionError("nothing is made here")


POOL = Pool("ears", never)


@dataclass(eq=False)
class Body:
    """A worker that the test moves: ``finish`` ends a call."""

    machine: str
    begun: list[str] = field(default_factory=list)
    ends: dict[str, asyncio.Future[Outcome]] = field(default_factory=dict)
    ended: bool = False
    told: list[str] = field(default_factory=list)


class Cluster:
    """``Machines`` of a test."""

    def __init__(self, *machines: Machine, at_once: int = 1) -> None:
        self.machines = list(machines)
        self.at_once = at_once
        self.bodies: list[Body] = []
        self.trouble: Exception | None = None

    async def list(self) -> list[Machine]:
        return list(self.machines)

    def start(self, pool: Pool, place: Any) -> Body:
        self.bodies.append(Body(place.machine))
        return self.bodies[-1]

    async def ready(self, worker: Body) -> Outcome:
        return Outcome(error=self.trouble) if self.trouble else Outcome(self.at_once)

    async def do(self, worker: Body, call: Call, payload: Any) -> Outcome:
        worker.begun.append(call.id)
        worker.ends[call.id] = asyncio.get_running_loop().create_future()
        return await worker.ends[call.id]

    def stop(self, worker: Body, calls: Sequence[str]) -> None:
        worker.told += calls

    def end(self, worker: Body) -> None:
        worker.ended = True

    def begun(self) -> list[str]:
        return [id for body in self.bodies for id in body.begun]


def call(id: str, urgency: int = WAITED_FOR, recording: str = "", asker: str = "page") -> Call:
    return Call(id, asker, POOL, "note", (), recording, urgency)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    # In a thread of its own: where browser tests ran before, this one has a loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, asyncio.wait_for(test(), 20)).result()  # type: ignore[arg-type]


def one_machine(at_once: int = 1) -> Cluster:
    return Cluster(Machine("a", 1.0, 0.0), at_once=at_once)


def test_a_person_overtakes_an_archive_of_fifty_and_a_recording_that_is_opened_does_too():
    async def test() -> None:
        cluster = one_machine()
        desk = Desk(cluster)
        calls = [call(f"old{n}", ARCHIVE, f"tape{n}") for n in range(50)]
        tasks = [asyncio.create_task(desk.do(each)) for each in calls]
        await settle()
        tasks.append(asyncio.create_task(desk.do(call("mine", WAITED_FOR, "talk"))))
        await settle()
        await desk.opened("tape40")
        (body,) = cluster.bodies
        for _ in range(51):
            body.ends[body.begun[-1]].set_result(Outcome(0))
            await settle()
        await asyncio.gather(*tasks)
        assert body.begun[:3] == ["old0", "old40", "mine"]
        assert body.begun[3:] == [f"old{n}" for n in range(50) if n not in (0, 40)]
        desk.close()
        assert body.ended

    run(test)


def test_no_worker_has_more_in_hand_than_it_takes_and_calls_are_spread():
    async def test() -> None:
        cluster = Cluster(Machine("a", 1.0, 0.0), Machine("b", 1.0, 0.0), at_once=3)
        desk = Desk(cluster)
        tasks = [asyncio.create_task(desk.do(call(str(n)))) for n in range(10)]
        await settle()
        assert [len(body.begun) for body in cluster.bodies] == [3, 3]
        assert await desk.room(POOL, "page") == 6
        cluster.bodies[0].ends[cluster.bodies[0].begun[0]].set_result(Outcome(7))
        await settle()
        assert [len(body.begun) for body in cluster.bodies] == [4, 3]
        assert [task.result().value for task in tasks if task.done()] == [7]
        for task in tasks:
            task.cancel()
        desk.close()

    run(test)


def test_what_a_dead_worker_had_in_hand_goes_to_another_and_keeps_its_place():
    async def test() -> None:
        cluster = Cluster(Machine("a", 1.0, 0.0), Machine("b", 1.0, 0.0))
        desk = Desk(cluster)
        tasks = [asyncio.create_task(desk.do(call(str(n)))) for n in range(4)]
        await settle()
        a, b = cluster.bodies
        assert (a.begun, b.begun) == (["0"], ["1"])
        cluster.machines.pop(0)
        a.ends["0"].set_exception(WorkerDied(for_good=True))
        await settle()
        for id in ("1", "0", "2", "3"):
            assert b.begun[-1] == id
            b.ends[id].set_result(Outcome(id))
            await settle()
        assert [task.result().value for task in tasks] == ["0", "1", "2", "3"]
        desk.close()

    run(test)


def test_a_call_over_which_workers_die_fails_in_the_end_and_costs_no_other():
    async def test() -> None:
        cluster = one_machine(at_once=2)
        desk = Desk(cluster)
        poison, other = (asyncio.create_task(desk.do(call(id))) for id in ("poison", "other"))
        await settle()
        (body,) = cluster.bodies
        body.ends["other"].set_result(Outcome(1))
        for _ in range(3):
            body.ends["poison"].set_exception(WorkerDied(for_good=False))
            await settle()
        assert isinstance(poison.result().error, HearingError)
        assert other.result().value == 1
        assert len(body.begun) == 4
        desk.close()

    run(test)


def test_dropped_calls_are_not_begun_and_a_worker_is_told_of_the_one_it_has():
    async def test() -> None:
        cluster = one_machine()
        desk = Desk(cluster)
        tasks = [asyncio.create_task(desk.do(call(id))) for id in ("begun", "waits")]
        await settle()
        await desk.drop(["begun", "waits"])
        assert all(
            task.result().dropped for task in [await_done for await_done in tasks if await_done.done()]
        )
        await settle()
        assert all(task.done() for task in tasks)
        (body,) = cluster.bodies
        assert (body.begun, body.told) == (["begun"], ["begun"])
        # Its place is free only once the worker has ended it.
        last = asyncio.create_task(desk.do(call("last")))
        await settle()
        assert body.begun == ["begun"]
        body.ends["begun"].set_result(Outcome(0))
        await settle()
        assert body.begun == ["begun", "last"]
        last.cancel()
        desk.close()

    run(test)


def test_calls_of_a_process_that_fell_silent_are_dropped_and_those_of_others_stay():
    async def test() -> None:
        now = [0.0]
        cluster = one_machine()
        desk = Desk(cluster, clock=lambda: now[0], look=0.01)
        busy = asyncio.create_task(desk.do(call("busy", asker="page")))
        await settle()
        gone = asyncio.create_task(desk.do(call("gone", asker="killed")))
        mine = asyncio.create_task(desk.do(call("mine", asker="page")))
        await settle()
        now[0] = SILENT_SECONDS + 1
        await desk.present("page")
        await asyncio.wait_for(gone, 5)
        assert gone.result().dropped
        assert not mine.done() and not busy.done()
        mine.cancel()
        busy.cancel()
        desk.close()

    run(test)


def test_an_engine_that_cannot_be_loaded_anywhere_is_said_in_its_own_words():
    async def test() -> None:
        cluster = one_machine()
        cluster.trouble = WeightsError("The weights are not there.")
        desk = Desk(cluster)
        outcome = await desk.do(call("any"))
        assert isinstance(outcome.error, WeightsError)
        assert isinstance((await desk.room(POOL, "page")).error, WeightsError)  # type: ignore[union-attr]
        assert isinstance((await desk.do(call("later"))).error, WeightsError)
        desk.close()

    run(test)


def test_a_machine_that_joins_is_put_to_work():
    async def test() -> None:
        cluster = one_machine()
        desk = Desk(cluster, look=0.01)
        tasks = [asyncio.create_task(desk.do(call(str(n)))) for n in range(2)]
        await settle()
        assert len(cluster.begun()) == 1
        cluster.machines.append(Machine("b", 1.0, 0.0))
        while len(cluster.begun()) < 2:
            await asyncio.sleep(0.02)
        assert [body.machine for body in cluster.bodies] == ["a", "b"]
        for task in tasks:
            task.cancel()
        desk.close()

    run(test)


GPU = ("gpu", 1, 1.0, 1)


def test_a_pool_that_is_idle_gives_its_places_to_one_that_finds_none():
    async def test() -> None:
        now = [0.0]
        cluster = one_machine()
        desk = Desk(cluster, clock=lambda: now[0], look=0.01)
        assert await desk.room(POOL, "page") == 1
        (first,) = cluster.bodies
        ready = asyncio.Event()

        async def wait(worker: Body) -> Outcome:
            if worker is not first:
                await ready.wait()
            return Outcome(1)

        cluster.ready = wait  # type: ignore[method-assign]
        other = asyncio.create_task(desk.room(Pool("others", never), "page"))
        await asyncio.sleep(0.1)
        assert not first.ended
        now[0] = 2.0
        while not first.ended:
            await asyncio.sleep(0.01)
        ready.set()
        assert await other == 1
        assert await desk.room(POOL, "page") == 1
        desk.close()

    run(test)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (
            Pool("words", never),
            [("cpu", 4, 3.0, 0), ("cpu", 2, 1.5, 0), ("gpu", 4, 3.0, 0), ("gpu", 4, 3.0, 0)],
        ),
        (
            Pool("words", never, gpu="if there"),
            [("cpu", 4, 3.0, 0), ("cpu", 2, 1.5, 0), *[("gpu", 1, 1.0, 1)] * 2],
        ),
        (Pool("moss", never, gpu="only"), [("gpu", 1, 1.0, 1)] * 2),
        (
            Pool("vectors", never, hears=False),
            [("cpu", 4, 0.5, 0), ("cpu", 2, 0.25, 0), *[("gpu", 4, 0.5, 0)] * 2],
        ),
    ],
    ids=["cpu", "if there", "only", "vectors"],
)
def test_workers_go_where_there_is_room_for_them(pool, expected):
    machines = [Machine("cpu", 6.0, 0.0), Machine("gpu", 8.0, 2.0)]
    found = [(place.machine, place.threads, place.cpus, place.gpus) for place in places(pool, machines)]
    assert found == expected


def test_without_any_gpu_an_engine_that_wants_one_uses_processors():
    assert [place.machine for place in places(Pool("moss", never, gpu="only"), [Machine("a", 2.0, 0.0)])] == [
        "a"
    ]
