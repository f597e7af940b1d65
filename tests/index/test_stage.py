"""Work side by side: in order or as finished, few ahead, stopped cleanly, errors not lost."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from index.pipeline.stage import IngestContext, as_finished, in_order
from index.pipeline.transcribe_stage import TranscribeStage
from index.records import Segment, Span
from index.sounds import MossSounds, SoundStage
from index.store.database import SoundWindowRow, WindowRow
from index.transcription.languages import LanguageSpan, SpokenWindow
from tests.support.cluster_engine import Scripted
from tests.support.indexed import store
from tests.support.scripted_backend import ScriptedBackend


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_results_come_in_the_order_of_the_tasks_however_long_each_takes(delays, workers):
    def work(task: tuple[int, int]) -> int:
        time.sleep(task[1] / 1000)
        return task[0] * 10

    tasks = list(enumerate(delays))
    out = list(in_order(work, tasks, workers, threading.Event()))
    assert out == [(task, task[0] * 10) for task in tasks]


def test_two_tasks_run_at_the_same_time():
    both = threading.Barrier(2, timeout=10)
    out = list(in_order(lambda _: both.wait() >= 0, [1, 2], 2, threading.Event()))
    assert [result for _, result in out] == [True, True]


def test_no_more_than_one_task_is_taken_up_ahead_of_the_workers():
    begun: list[int] = []
    results = in_order(lambda task: begun.append(task) or task, range(20), 2, threading.Event())
    next(results)
    time.sleep(0.1)
    assert max(begun) <= 2
    results.close()


def test_what_is_finished_comes_out_while_the_first_task_still_runs():
    go = threading.Event()
    out = []
    for task, result in as_finished(
        lambda task: task if task else go.wait(20), range(8), 2, threading.Event()
    ):
        out.append(task)
        if len(out) == 7:
            assert 0 not in out
            go.set()
        assert result
    assert sorted(out) == list(range(8)) and out[-1] == 0


def test_no_more_is_in_work_or_waits_to_be_taken_than_the_workers_and_one():
    begun: list[int] = []
    results = as_finished(lambda task: begun.append(task) or task, range(20), 2, threading.Event())
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 3
    results.close()


@pytest.mark.parametrize("handed_over", [in_order, as_finished])
def test_after_a_stop_nothing_new_begins_and_what_was_begun_comes_out(handed_over):
    stop, begun, go = threading.Event(), [], threading.Event()

    def work(task: int) -> int:
        begun.append(task)
        if task == 1:
            stop.set()
            go.set()
        go.wait(10)
        return task

    out = [task for task, _ in handed_over(work, range(10), 2, stop)]
    assert sorted(out) == sorted(begun)
    assert 2 <= len(out) <= 3


def test_an_error_in_a_task_reaches_the_caller_after_the_results_before_it():
    def work(task: int) -> int:
        if task == 2:
            raise ValueError("task two")
        return task

    out = []
    with pytest.raises(ValueError, match="task two"):
        for task, _ in in_order(work, range(6), 2, threading.Event()):
            out.append(task)
    assert out == [0, 1]


def test_a_windows_result_counts_once_whoever_brings_it_again(library):
    recording = store(library, [], "Talk")
    with library.database.transaction() as session:
        session.add(WindowRow(recording_id=recording, number=0, start=0.0, end=20.0))
        session.add(SoundWindowRow(recording_id=recording, number=0, start=0.0, end=20.0))
    context = IngestContext(
        library, recording, library.audio_path(recording), lambda _: None, threading.Event()
    )
    # Two processes that each take the other for dead have read the same open windows.
    both = [TranscribeStage(context, Scripted(library.home), "en", ()) for _ in range(2)]
    listening = [SoundStage(context, MossSounds(ScriptedBackend(library.home)), ()) for _ in range(2)]
    windows = [stage.missing()[0] for stage in both]
    listened = [stage.missing()[0] for stage in listening]
    spoken = (LanguageSpan(Span(0.0, 9.0), "en"), LanguageSpan(Span(9.0, 20.0), "de"))
    heard = (Segment(1.0, 2.0, "Good morning."), Segment(10.0, 11.0, "Guten Morgen."))
    for stage, window in zip(both, windows, strict=True):
        with library.database.transaction() as session:
            stage.store(session, window, SpokenWindow(heard, (), None, spoken))
    for sounds, part in zip(listening, listened, strict=True):
        with library.database.transaction() as session:
            sounds.store(session, part, [Segment(3.0, 4.0, "a bell", kind="sound")])
    assert [segment.text for segment in library.segments(recording)] == [
        "Good morning.",
        "a bell",
        "Guten Morgen.",
    ]
    with library.database.transaction() as session:
        rows = session.scalars(select(WindowRow).where(WindowRow.recording_id == recording)).all()
        assert sorted((row.start, row.end, row.done) for row in rows) == [(0.0, 9.0, True), (9.0, 20.0, True)]
