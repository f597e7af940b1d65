"""A worker of the cluster: calls end when nobody waits for them any more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from index.cluster.worker import Outcome, Worker


class Patient:
    """A host whose calls end when they are stopped, or at once where they are about nothing."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def load(self) -> int:
        return 1

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: threading.Event) -> bool:
        self.begun.set()
        return stop.wait(30.0 if what == "wait" else 0.0)


def test_a_call_ends_when_nobody_waits_for_it_any_more_and_others_go_on():
    host = Patient()
    worker = Worker(lambda threads: host, 1)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(worker.do, "mine", "wait", (), None)
        assert host.begun.wait(30)
        worker.stop(["mine"])
        assert call.result(20) == Outcome(True)
    assert worker.do("other", "", (), None) == Outcome(False)


def test_a_call_that_was_stopped_before_its_audio_came_ends_as_well():
    worker = Worker(lambda threads: Patient(), 1)
    worker.stop(["mine"])
    assert worker.do("mine", "wait", (), None) == Outcome(True)
    assert worker.do("other", "", (), None) == Outcome(False)
