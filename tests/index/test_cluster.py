"""Windows heard on a real Ray cluster of several nodes: the same transcript, whatever dies meanwhile."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import soundfile
from sqlalchemy import func, select
from threadpoolctl import threadpool_limits

from agent.engines.worker_engines import moss_host
from agent.settings import Settings
from agent.workspace import open_workspace
from index.cluster import cluster_engines, ray_session
from index.cluster.cluster_engines import ClusterBackend, ClusterDecoder, ClusterTranscriber
from index.cluster.desk import Pool
from index.cluster.ray_session import DESK, NAMESPACE, ClusterLink, import_ray
from index.pipeline.ingest import Ingest
from index.pipeline.urgency import archiving, working_on
from index.recording_errors import Cancelled, ClusterAway, HearingError, MossAgentError
from index.records import Recording, Status
from index.search.vectors import Vectors
from index.sounds import MossSounds
from index.store.database import SegmentRow, WindowRow
from index.store.library import Library
from moss_audio.engine import LocalBackend
from moss_audio.generation.requests import Options, Request
from moss_audio.tasks import TASKS
from tests.fixture.checking import read_clips
from tests.support.cluster_engine import Scripted, deadly_task, endless_task, log_of, scripted_host
from tests.support.indexed import embedder
from tests.support.media import cut
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

STORE = 80 << 20
"""Bytes of a node's object store: about the least that Ray takes."""

SECONDS = 40.0


class Nodes:
    """A cluster on this machine: a head that does no work, and nodes with one processor each."""

    def __init__(self) -> None:
        import_ray()
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
        )
        self.nodes = [self.add(wait=False), self.add(wait=False)]
        self.cluster.wait_for_nodes(60)
        self.link = ClusterLink(self.cluster.address)

    def add(self, wait: bool = True) -> Any:
        return self.cluster.add_node(wait, num_cpus=1, object_store_memory=STORE)

    def kill(self) -> None:
        """End the last node at once; ``mend`` puts another in its place."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def mend(self) -> None:
        while len(self.nodes) < 2:
            self.nodes.append(self.add())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    before = dict(os.environ)
    # Read when Ray is first imported. Workers give way to everything else otherwise, here to the other tests.
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
    }
    started = Nodes()
    yield started
    started.link.close()
    started.cluster.shutdown()
    os.environ.clear()
    os.environ |= before


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers of all tests write down what they do."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture
def folder(workers: Path) -> Iterator[Path]:
    """The same, empty."""
    yield workers
    for file in workers.iterdir():
        file.unlink()


@pytest.fixture
def pool(nodes: Nodes, folder: Path) -> Pool:
    """Two workers, one on each node."""
    nodes.mend()
    made = Pool("scripted", partial(scripted_host, str(folder), 1))
    session = nodes.link.session()
    wait_until(lambda: session.room(made) == 2)
    return made


@pytest.fixture
def clip(sample: Path, tmp_path: Path) -> Path:
    samples, rate = cut(sample, 0.0, SECONDS)
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    return tmp_path / "talk.wav"


def ingest(library: Library, transcriber: Any) -> Ingest:
    return Ingest(library, transcriber, embedder(), Vectors(library.home / "vectors", embedder()))


def away(nodes: Nodes, pool: Pool, folder: Path) -> ClusterTranscriber:
    return ClusterTranscriber(nodes.link, pool, Scripted(folder))


def transcript(library: Library, recording: Recording) -> list[tuple[Any, ...]]:
    return [
        (segment.start, segment.end, segment.text, segment.speaker, segment.language)
        for segment in library.segments(recording.id)
    ]


def whole(library: Library, recording: str) -> list[tuple[float, int]]:
    """Each window's start, and how many segments it has; every window is done."""
    segments = func.count(SegmentRow.id)
    query = (
        select(WindowRow.start, segments)
        .outerjoin(SegmentRow, SegmentRow.window_id == WindowRow.id)
        .where(WindowRow.recording_id == recording)
        .group_by(WindowRow.id)
        .order_by(WindowRow.start)
    )
    with library.database.transaction() as session:
        missing = select(WindowRow.id).where(WindowRow.recording_id == recording, ~WindowRow.done)
        assert session.scalars(missing).first() is None
        return [(start, count) for start, count in session.execute(query)]


def nowhere(why: str, address: str) -> None:
    raise ClusterAway(why)


class Adding:
    """A file that is taken in by a thread."""

    def __init__(self, work: Ingest, clip: Path) -> None:
        self.cancel = threading.Event()
        self.pool = ThreadPoolExecutor(1)
        self.result = self.pool.submit(work.add, clip, cancel=self.cancel)

    def recording(self) -> Recording:
        return self.result.result(120)


@pytest.fixture
def here(clip: Path, tmp_path: Path) -> tuple[list[tuple[Any, ...]], list[tuple[float, int]]]:
    """The transcript, and the windows, without any cluster."""
    from tests.support.indexed import open_library

    (tmp_path / "here").mkdir()
    library = open_library(tmp_path / "home-here")
    recording = ingest(library, Scripted(tmp_path / "here")).add(clip)
    found = transcript(library, recording), whole(library, recording.id)
    library.database.close()
    return found


def waiting(session: Any, pool: Pool) -> int:
    return max(line["waiting"] for line in session.status() if line["pool"] == pool.name)


def begun(folder: Path) -> list[tuple[str, int]]:
    return [(about, pid) for what, about, pid, _ in log_of(folder) if what == "begin"]


# Starting a worker costs seconds of processor time, so what ends workers comes late, the node that is killed
# last of all; real models work on the one that is left.


def test_no_worker_has_more_in_work_than_it_takes(nodes, folder):
    session = nodes.link.session()
    three = Pool("three", partial(scripted_host, str(folder), 3))
    with ThreadPoolExecutor(40) as threads:
        done = [threads.submit(session.call, three, "note", (float(number),)) for number in range(40)]
        for each in done:
            each.result(60)
    in_work: dict[int, int] = {}
    for what, _, pid, _ in log_of(folder):
        in_work[pid] = in_work.get(pid, 0) + (1 if what == "begin" else -1)
        assert 0 <= in_work[pid] <= 3


def test_the_transcript_is_the_same_and_both_nodes_worked(nodes, pool, folder, clip, library, here):
    recording = ingest(library, away(nodes, pool, folder)).add(clip)
    assert (transcript(library, recording), whole(library, recording.id)) == here
    assert len({pid for _, pid in begun(folder)}) == 2
    assert len(begun(folder)) == len(here[1]) > 4


def test_cancel_ends_what_is_in_work_and_adding_again_goes_on_without_the_cluster(
    nodes, pool, folder, clip, library, here
):
    work = ingest(library, away(nodes, pool, folder))
    (folder / "hold").touch()
    adding = Adding(work, clip)
    wait_until(lambda: len(begun(folder)) == 2)
    adding.cancel.set()
    with pytest.raises(Cancelled):
        adding.recording()
    # A place that becomes free may be given to a window that is about to be dropped as well.
    wait_until(lambda: sum(what == "stopped" for what, *_ in log_of(folder)) == len(begun(folder)))
    wait_until(lambda: waiting(nodes.link.session(), pool) == 0)
    recording = ingest(library, Scripted(clip.parent / "here")).add(clip)
    assert (transcript(library, recording), whole(library, recording.id)) == here


def test_a_task_says_how_far_it_is_and_ends_when_it_is_stopped(nodes, pool, folder):
    told: list[float] = []
    with pytest.raises(Cancelled):
        nodes.link.session().run(endless_task, (folder,), 0.1, lambda: bool(told), told.append)
    assert told == [5.0]
    wait_until(lambda: [what for what, *_ in log_of(folder)] == ["begin", "end"])


def test_a_file_whose_decoder_is_ended_again_and_again_fails_alone(nodes, pool, folder, clip, library, here):
    scripted = ClusterTranscriber(nodes.link, pool, Scripted(folder))
    work = Ingest(
        library, scripted, embedder(), Vectors(library.home / "vectors", embedder()),
        decode=ClusterDecoder(nodes.link),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_engines, "decode_there", deadly_task)
        with pytest.raises(MossAgentError, match=clip.name) as failed:
            work.add(clip)
    assert not isinstance(failed.value, ClusterAway) and not nodes.link.session().lost
    recording = work.add(clip)
    assert (transcript(library, recording), whole(library, recording.id)) == here


def test_a_person_overtakes_an_archive_of_fifty(nodes, pool, folder):
    session = nodes.link.session()
    (folder / "hold").touch()

    def archive(number: int) -> Any:
        with archiving(), working_on(f"tape{number}"):
            return session.call(pool, "note", (float(number),))

    with ThreadPoolExecutor(52) as threads:
        tapes = [threads.submit(archive, number) for number in range(50)]
        wait_until(lambda: waiting(session, pool) == 48)
        mine = threads.submit(session.call, pool, "note", (1000.0,))
        wait_until(lambda: waiting(session, pool) == 49)
        wait_until(lambda: len(begun(folder)) == 2)
        # Which tapes are first is up to the threads that ask.
        in_work = {about for about, _ in begun(folder)}
        chosen = next(number for number in reversed(range(50)) if f"{number:.2f}" not in in_work)
        session.opened(f"tape{chosen}")
        # The desk answers in the order in which it is asked, so it knows by then.
        wait_until(lambda: waiting(session, pool) == 49)
        (folder / "hold").unlink()
        mine.result(60)
        for tape in tapes:
            tape.result(60)
    order = [about for about, _ in begun(folder)]
    # They are given out first, after all the others had come; when each worker notes that it begins is up to
    # the machine.
    assert order.index(f"{chosen:.2f}") < 20 and order.index("1000.00") < 20
    assert len(order) == len(set(order)) == 51


def test_a_node_that_takes_this_process_for_gone_is_told_from_the_end_of_the_program(nodes, pool, folder):
    session = nodes.link.session()

    def leave(*_: Any, **__: Any) -> None:
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session._ray, "wait", leave)
        with pytest.raises(ClusterAway):
            session.call(pool, "note", (1.0,))


def test_an_engine_that_fails_says_so_in_its_own_words(nodes, pool, folder, clip, library):
    (folder / "refuse").touch()
    with pytest.raises(HearingError, match="refuse"):
        ingest(library, away(nodes, pool, folder)).add(clip)


def test_a_cluster_that_is_gone_is_one_sentence_and_the_recording_goes_on_without_it(
    nodes, pool, folder, clip, library, here, monkeypatch
):
    (folder / "hold").touch()
    link = ClusterLink(nodes.cluster.address)
    adding = Adding(ingest(library, ClusterTranscriber(link, pool, Scripted(folder))), clip)
    wait_until(lambda: len(begun(folder)) == 2)
    session = link.session()
    monkeypatch.setattr(ray_session, "connect", partial(nowhere, "No Ray cluster answers."))
    session.lost = True
    with pytest.raises(ClusterAway):
        adding.recording()
    (folder / "hold").unlink()
    (recording,) = library.recordings()
    assert recording.status == Status.FAILED
    recording = ingest(library, Scripted(clip.parent / "here")).add(clip)
    assert (transcript(library, recording), whole(library, recording.id)) == here


def test_a_worker_process_that_dies_costs_its_running_window(nodes, pool, folder, clip, library, here):
    (folder / "die-1").touch()
    recording = ingest(library, away(nodes, pool, folder)).add(clip)
    assert (transcript(library, recording), whole(library, recording.id)) == here
    assert not (folder / "die-1").exists()
    assert len(begun(folder)) == len(here[1]) + 1


def test_the_desk_may_die_and_is_asked_again(nodes, pool, folder, clip, library, here):
    import ray

    (folder / "hold").touch()
    adding = Adding(ingest(library, away(nodes, pool, folder)), clip)
    wait_until(lambda: len(begun(folder)) == 2)
    ray.kill(ray.get_actor(DESK, NAMESPACE), no_restart=False)
    (folder / "hold").unlink()
    recording = adding.recording()
    assert (transcript(library, recording), whole(library, recording.id)) == here


def test_a_node_that_dies_in_the_middle_costs_its_running_windows(
    nodes, pool, folder, clip, library, here, capsys
):
    (folder / "hold").touch()
    adding = Adding(ingest(library, away(nodes, pool, folder)), clip)
    wait_until(lambda: len(begun(folder)) == 2)
    nodes.kill()
    (folder / "hold").unlink()
    recording = adding.recording()
    assert recording.status == Status.READY
    assert (transcript(library, recording), whole(library, recording.id)) == here
    assert len(begun(folder)) <= len(here[1]) + 1
    assert "raylet" not in capsys.readouterr().out


def test_all_stages_with_real_models_give_the_same_recording(
    nodes, clip, home, models, tmp_path, monkeypatch
):
    found = []
    for name, address in (("with", nodes.cluster.address), ("without", None)):
        where = home / name
        where.mkdir(parents=True)
        (where / "models").symlink_to(models)
        workspace = open_workspace(Settings(home=where, transcriber="tiny.en", ray=address))
        # A worker's sums are added up by one thread; another order moves a word's time by 20 ms.
        with threadpool_limits(1):
            recording = workspace.add(clip)
        assert workspace.find("harbour")[0].recording == recording.id
        found.append((transcript(workspace.library, recording), recording.coverage, recording.gaps))
        workspace.close()
    assert found[0] == found[1]
    assert len({speaker for _, _, _, speaker, _ in found[0][0]}) > 1


def test_a_moss_audio_on_a_worker_hears_what_it_hears_here(nodes, moss_fixture):
    clip = next(iter(read_clips(moss_fixture).values())).wave
    here = LocalBackend.load(moss_fixture, device="cpu")
    pool = Pool("moss", partial(moss_host, str(moss_fixture)), gpu="only")
    there = ClusterBackend(nodes.link, pool, here.name, here.thinks)
    heard = [MossSounds(backend).listen(clip) for backend in (there, here)]
    request = Request(TASKS["timestamps"].prompt, (clip,))
    said = [backend.ask([request], Options(max_new_tokens=64))[0] for backend in (there, here)]
    here.close()
    assert heard[0] == heard[1]
    assert said[0].text == said[1].text != ""
