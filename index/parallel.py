"""Work done side by side and handed over in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, stop: threading.Event
) -> Iterator[tuple[Task, Result]]:
    """Do every task in ``workers`` threads; each result comes out in the order of the tasks.

    Only one task more than there are workers is taken up ahead of the one that is waited for, so that
    little is lost when the program dies. After ``stop`` is set no task is begun; those that were begun come
    out still. When the caller leaves, or a task raises, the rest is dropped.

    Args:
        work: Called in a thread of its own for each task; may raise.
        tasks: In order.
        workers: Threads, at least 1.
        stop: Set it from any thread.
    """
    waiting = iter(tasks)
    begun: deque[tuple[Task, Future[Result]]] = deque()

    def unless_stopped(task: Task) -> Result:
        if stop.is_set():
            raise CancelledError
        return work(task)

    with ThreadPoolExecutor(workers, thread_name_prefix="window") as pool:
        try:
            while True:
                while len(begun) <= workers and (task := next(waiting, None)) is not None:
                    begun.append((task, pool.submit(unless_stopped, task)))
                if not begun:
                    return
                task, future = begun.popleft()
                try:
                    result = future.result()
                except CancelledError:
                    continue
                yield task, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
