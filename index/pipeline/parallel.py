"""Work done side by side, its results handed over in order or as they are finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task], Result]


def in_order(
    work: Work[Task, Result], tasks: Sequence[Task], workers: int, stop: threading.Event
) -> Iterator[tuple[Task, Result]]:
    """Do every task in one of ``workers`` threads; results come out in the order of the tasks.

    No more than ``workers`` tasks are begun ahead of the one that is waited for. After ``stop`` is set no
    task is begun; the results of those that were begun still come out. When the caller leaves, or a task
    raises, the rest is dropped.

    Args:
        work: Called in a thread of its own for each task; may raise.
        tasks: In order.
        workers: Threads, at least 1.
        stop: Set it from any thread.
    """
    return _handed_over(work, tasks, workers, stop, next_done=lambda begun: next(iter(begun)))


def as_finished(
    work: Work[Task, Result], tasks: Sequence[Task], workers: int, stop: threading.Event
) -> Iterator[tuple[Task, Result]]:
    """Like ``in_order``, but each result comes out as soon as it is there, however long others take.

    So no more is lost when the program dies than what the workers have in hand, and one result more.
    """
    return _handed_over(work, tasks, workers, stop, next_done=_first_done)


def _first_done(begun: Mapping[Future[Result], Task]) -> Future[Result]:
    done, _ = wait(begun, return_when=FIRST_COMPLETED)
    return next(future for future in begun if future in done)


def _handed_over(
    work: Work[Task, Result],
    tasks: Sequence[Task],
    workers: int,
    stop: threading.Event,
    next_done: Callable[[Mapping[Future[Result], Task]], Future[Result]],
) -> Iterator[tuple[Task, Result]]:
    waiting = iter(tasks)
    begun: dict[Future[Result], Task] = {}

    def unless_stopped(task: Task) -> Result:
        if stop.is_set():
            raise CancelledError
        return work(task)

    with ThreadPoolExecutor(workers, thread_name_prefix="window") as pool:
        try:
            while True:
                while len(begun) <= workers and (task := next(waiting, None)) is not None:
                    begun[pool.submit(unless_stopped, task)] = task
                if not begun:
                    return
                future = next_done(begun)
                task = begun.pop(future)
                try:
                    result = future.result()
                except CancelledError:
                    continue
                yield task, result
        except KeyboardInterrupt:
            # The workers look at this, so that nobody waits for them to finish.
            stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
