"""Beyond one machine, on one: Ray with several local nodes.

    python -m benchmarks.scale windows [--turns 3]     windows a second with one worker and with two, in turns
    python -m benchmarks.scale kills [--kills 100]     what is lost when workers, nodes and programs die
    python -m benchmarks.scale pages [--kills 30]      what is lost when web processes die, over servers
    python -m benchmarks.scale vectors [--count N]     vectors a second that Chroma's server takes

The real recogniser (tiny.en), the real command line, real processes; everything lies in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

import httpx2 as httpx
import numpy as np
import soundfile
from sqlalchemy import inspect, select, text

from agent.engines.worker_engines import whisper_host
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import SAMPLE, processor_seconds, show
from benchmarks.servers import chroma, free_port, servers
from index.audio.decode import decode_to_flac
from index.audio.windows import AudioWindow
from index.cluster.desk import Pool
from index.cluster.ray_session import ClusterLink, import_ray
from index.records import Passage, Span
from index.search.vectors import Vectors
from index.store.database import PassageRow, RecordingRow, SegmentRow, SoundWindowRow, WindowRow
from tests.support.preloaded import Program

STORE = 80 << 20
"""Bytes of a node's object store: about the least that Ray takes."""

RATE = 16_000

MODEL = "tiny.en"

FILES, SECONDS = 3, 200.0
"""How many files are added at a time while things are killed, and how long each is."""


class Nodes:
    """A cluster on this machine: a head that does no work, and nodes with one processor each."""

    def __init__(self) -> None:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        import_ray()
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self.address: str = self.cluster.address

    def have(self, count: int) -> None:
        """Add nodes, or end some at once, until there are so many."""
        while len(self.nodes) > count:
            self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        while len(self.nodes) < count:
            self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE))

    def workers(self) -> list[int]:
        """The processes of workers that hear or make vectors."""
        raylets = {process.process.pid for node in self.nodes for process in node.all_processes["raylet"]}
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                title = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if title.startswith(b"ray::WorkerActor") and parent in raylets:
                    found.append(int(folder.name))
        return found


@contextlib.contextmanager
def cluster() -> Iterator[Nodes]:
    """A cluster that is there for the block."""
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


# --- windows ------------------------------------------------------------------------------------------------


class Waits:
    """An engine that takes as long for a window as a GPU elsewhere would, and no processor here."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def load(self) -> int:
        """One window at a time."""
        return 1

    def do(self, what: str, arguments: tuple[Any, ...], payload: Any, stop: Any) -> Any:
        """Wait, having received the audio."""
        time.sleep(self.seconds)
        return len(payload[1])


def waiting_host(seconds: float, threads: int) -> Waits:
    """Makes one on a worker."""
    return Waits(seconds)


def windows(turns: int) -> None:
    """Windows a second with one worker and with two."""
    with cluster() as nodes, tempfile.TemporaryDirectory() as folder:
        os.environ["MOSS_AGENT_HOME"] = folder
        decode_to_flac(SAMPLE, Path(folder) / "sample.flac")
        samples, _ = soundfile.read(Path(folder) / "sample.flac", dtype="float32")
        cuts = [
            (
                AudioWindow(np.zeros(0, np.float32), at, (Span(at, at + 15.0),), "en"),
                samples[first : first + 15 * RATE],
            )
            for at, first in ((15.0 * number, 15 * RATE * number) for number in range(20))
        ]
        kinds = {
            f"{MODEL} on one processor": (partial(whisper_host, MODEL), "transcribe", (False, ())),
            "waits 0.25 s": (partial(waiting_host, 0.25), "note", ()),
            "does nothing": (partial(waiting_host, 0.0), "note", ()),
        }
        link = ClusterLink(nodes.address)
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(turns):
            for count in (1, 2):
                nodes.have(count)
                session = link.session()
                for name, (make, what, arguments) in kinds.items():
                    pool = Pool(name, make)
                    while session.room(pool) != count:
                        time.sleep(0.2)
                    started = time.perf_counter()
                    with ThreadPoolExecutor(len(cuts)) as threads:
                        done = [threads.submit(session.call, pool, what, arguments, cut) for cut in cuts]
                        for each in done:
                            each.result()
                    rates.setdefault((name, count), []).append(len(cuts) / (time.perf_counter() - started))
        link.close()
    rows = []
    for name in kinds:
        pairs = list(zip(rates[name, 1], rates[name, 2], strict=True))
        rows.append(
            {
                "engine": name,
                "1 worker, windows/s": ", ".join(f"{one:.2f}" for one, _ in pairs),
                "2 workers, windows/s": ", ".join(f"{two:.2f}" for _, two in pairs),
                "ratio (median)": f"{np.median([two / one for one, two in pairs]):.2f}",
            }
        )
    show(
        "Windows of 15 s over Ray",
        rows,
        {"windows": {f"{name}, {n}": rate for (name, n), rate in rates.items()}},
    )


# --- kills --------------------------------------------------------------------------------------------------


class Library:
    """The home folder that files are added to, and what was ever seen to be stored in it.

    Args:
        home: The folder.
        stores: Settings of stores elsewhere.
    """

    def __init__(self, home: Path, **stores: str) -> None:
        self.home = home
        self.stores = stores
        self.seen: dict[tuple[str, int], list[str]] = {}
        self.lost: list[str] = []

    def opened(self) -> Workspace:
        """The workspace, without any cluster."""
        return open_workspace(Settings(home=self.home, transcriber=MODEL, **self.stores))

    def look(self) -> None:
        """Note what is stored, and what was stored before and is not."""
        workspace = self.opened()
        try:
            stored = self._stored(workspace)
        finally:
            workspace.close()
        for window, texts in self.seen.items():
            if stored.get(window) != texts:
                self.lost.append(f"window {window[1]} of {window[0][:8]}")
        self.seen = stored

    @staticmethod
    def _stored(workspace: Workspace) -> dict[tuple[str, int], list[str]]:
        query = (
            select(WindowRow.recording_id, WindowRow.number, SegmentRow.text)
            .outerjoin(SegmentRow, SegmentRow.window_id == WindowRow.id)
            .where(WindowRow.done)
            .order_by(WindowRow.id, SegmentRow.id)
        )
        stored: dict[tuple[str, int], list[str]] = {}
        with workspace.library.database.transaction() as session:
            for recording, number, said in session.execute(query):
                stored.setdefault((recording, number), []).append(said or "")
        return stored

    def faults(self) -> dict[str, int]:
        """What must not be, and how often it is: windows twice or not done, and orphans in any store."""
        workspace = self.opened()
        found = Counter[str]()
        try:
            database = workspace.library.database
            with database.transaction() as session:
                known = set(session.scalars(select(RecordingRow.id)))
                for table in (WindowRow, SoundWindowRow):
                    found["not done"] += len(session.scalars(select(table.id).where(~table.done)).all())
                rows = session.execute(
                    select(WindowRow.recording_id, WindowRow.start, WindowRow.end).order_by(
                        WindowRow.recording_id, WindowRow.start
                    )
                ).all()
                pairs = pairwise(rows)
                found["windows twice"] += sum(
                    one[0] == two[0] and two[1] < one[2] - 1e-6 for one, two in pairs
                )
                said = Counter(
                    session.execute(
                        select(SegmentRow.recording_id, SegmentRow.start, SegmentRow.end, SegmentRow.text)
                    )
                )
                found["sentences twice"] += sum(count - 1 for count in said.values())
                passages = {str(number) for number in session.scalars(select(PassageRow.id))}
            with database.engine.connect() as connection:
                for table_name in inspect(database.engine).get_table_names():
                    columns = {column["name"] for column in inspect(database.engine).get_columns(table_name)}
                    if "recording_id" in columns:
                        ids = connection.execute(
                            text(f'SELECT recording_id FROM "{table_name}" WHERE recording_id IS NOT NULL')
                        )
                        found["rows without a recording"] += sum(id not in known for (id,) in ids)
            vectors = {str(number) for number in workspace.vectors.owners()}
            found["vectors without a passage"] += len(vectors - passages)
            found["passages without a vector"] += len(passages - vectors)
            for file in (self.home / "audio").iterdir():
                found["files without a recording"] += file.name.split(".")[0] not in known
                found["unfinished files"] += file.suffix in (".partial", ".reserve", ".again", ".sides")
        finally:
            workspace.close()
        return dict(found)


def kills(count: int, seed: int) -> None:
    """Kill workers, nodes and the program that adds files, at random moments."""
    chance = random.Random(seed)
    with cluster() as nodes, tempfile.TemporaryDirectory() as folder:
        # Workers and program put weights together here.
        os.environ["MOSS_AGENT_HOME"] = folder
        nodes.have(2)
        home = Path(folder) / "home"
        home.mkdir()
        library = Library(home)
        samples, rate = soundfile.read(SAMPLE, dtype="float32")
        done: Counter[str] = Counter()
        runs = ends = 0
        started = time.perf_counter()
        while sum(done.values()) < count:
            runs += 1
            files = []
            for number in range(FILES):
                at = chance.uniform(0.0, len(samples) / rate - SECONDS)
                files.append(Path(folder) / f"talk {runs}-{number}.wav")
                soundfile.write(files[-1], samples[int(at * rate) : int((at + SECONDS) * rate)], rate)
            adding = add(home, files, nodes.address)
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    adding.wait(chance.uniform(0.3, 12.0))
                if adding.poll() is not None:
                    if adding.returncode == 0:
                        break
                    ends += 1
                    said = adding.stderr.read() if adding.stderr else b""
                    print(said.decode(errors="replace")[-300:], file=sys.stderr)
                    adding = add(home, files, nodes.address)
                    continue
                if sum(done.values()) >= count:
                    continue
                kind = chance.choices(("worker", "node", "program"), (3, 1, 1))[0]
                alive = nodes.workers()
                if kind == "worker" and alive:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(chance.choice(alive), signal.SIGKILL)
                elif kind == "node":
                    nodes.have(1)
                    nodes.have(2)
                elif kind == "program":
                    adding.kill()
                    adding.wait()
                    library.look()
                    adding = add(home, files, nodes.address)
                else:
                    continue
                done[kind] += 1
                print(f"{sum(done.values())} kills", file=sys.stderr)
            library.look()
        seconds = time.perf_counter() - started
        faults = library.faults()
        row: dict[str, object] = {f"{kind}s killed": done[kind] for kind in ("worker", "node", "program")}
        row |= {
            "recordings": FILES * runs,
            "windows": len(library.seen),
            "runs that failed by themselves": ends,
        }
        row |= {"windows lost": len(library.lost), **faults, "minutes": round(seconds / 60, 1)}
        shutil.rmtree(home)
    table = [{"what": name, "how many": value} for name, value in row.items()]
    show(f"Killed at random, seed {seed}", table, {"kills": row})


def add(home: Path, files: list[Path], address: str) -> subprocess.Popen[bytes]:
    """The command that adds files, as a process of its own."""
    variables = {
        **os.environ,
        "MOSS_AGENT_RAY": address,
        "MOSS_AGENT_HOME": str(home),
        "MOSS_AGENT_TRANSCRIBER": MODEL,
    }
    command = [sys.executable, "-m", "agent.cli", "add", *map(str, files)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


# --- pages --------------------------------------------------------------------------------------------------

PAGE = "import torch; torch.set_num_threads(1); from agent.cli import main; main()"
"""A web process; it begins as a copy of one that has imported its libraries, which spares the machine."""

PAGES = 2
TALKS = 3
"""Web processes, and files that wait or are taken in at a time."""

TALK_SECONDS = 75.0

KILLS_A_LOOK = 5
"""After so many kills it is looked what is still stored."""


class Page:
    """A web process that is started again where it was killed; asked through its API.

    Args:
        home: The home folder, which all share.
        variables: The settings, as variables of the environment.
    """

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self._home, self._variables = home, variables
        self.start()

    def start(self) -> None:
        """Start it; the first call waits until it answers."""
        where = ["--port", str(free_port()), "--json"]
        self.address = f"http://127.0.0.1:{where[1]}"
        log = self._home / f"page-{secrets.token_hex(3)}.log"
        self.process = Program(PAGE, ["--home", str(self._home), "web", *where], self._variables, log)

    def call(self, method: str, path: str, **given: Any) -> Any:
        """What it answers; None where it is not up, or died over it."""
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.request(method, f"{self.address}/api/v1{path}", timeout=60, **given)
            if answer.status_code >= 500:
                print(f"{path}: {answer.status_code} {answer.text[:200]}", file=sys.stderr)
                return None
            return answer.raise_for_status().json()
        return None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def end(self) -> None:
        """End it as a service manager would."""
        self.process.terminate()
        self.process.wait(60)


def pages(count: int, seed: int) -> None:
    """Kill web processes over the same stores, at random moments, while files are uploaded to them."""
    chance = random.Random(seed)
    with servers() as (database, vectors), tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        (home / ".sample-added").touch()
        stores = {"database": database, "vectors": vectors}
        library = Library(home, **stores)
        library.opened().close()
        variables = {f"MOSS_AGENT_{name.upper()}": value for name, value in stores.items()}
        variables |= {"MOSS_AGENT_TRANSCRIBER": MODEL, "MOSS_AGENT_VOICES": "off", "HF_HUB_OFFLINE": "1"}
        samples, rate = soundfile.read(SAMPLE, dtype="float32")
        started = time.perf_counter()
        running = [Page(home, variables) for _ in range(PAGES)]
        done: Counter[str] = Counter()
        sent: dict[str, bytes] = {}
        unanswered: list[str] = []
        looked = 0
        try:
            while True:
                # Those that are done are still told about.
                jobs = [job for job in ask(running, "GET", "/jobs") if job["state"] != "done"]
                for job in jobs:
                    if job["state"] == "failed":
                        # Its process ended twice; somebody tries it again.
                        print(f"failed: {job['error']}", file=sys.stderr)
                        done["tried again by hand"] += 1
                        ask(running, "POST", f"/jobs/{job['id']}/retry")
                if done["kills"] >= count and not jobs and not unanswered:
                    break
                if not unanswered and done["kills"] < count and len(jobs) < TALKS:
                    at = chance.uniform(0.0, len(samples) / rate - TALK_SECONDS)
                    file = io.BytesIO()
                    cut = samples[int(at * rate) : int((at + TALK_SECONDS) * rate)]
                    soundfile.write(file, cut, rate, format="WAV")
                    sent[f"talk {len(sent)}.wav"] = file.getvalue()
                    unanswered.append(f"talk {len(sent) - 1}.wav")
                for name in list(unanswered):
                    # Whoever got no answer sends it again, perhaps to a page that is being killed.
                    page = chance.choice(running)
                    killing = done["kills"] < count and chance.random() < 0.3
                    timer = threading.Timer(chance.uniform(0.0, 0.5), page.process.kill)
                    if killing:
                        timer.start()
                    if page.call("POST", "/recordings", files={"file": (name, sent[name])}) is not None:
                        unanswered.remove(name)
                    else:
                        done["uploads without an answer"] += 1
                    if killing:
                        timer.join()
                if done["kills"] < count and chance.random() < 0.5:
                    time.sleep(chance.uniform(0.0, 6.0))
                    chance.choice(running).kill()
                for page in running:
                    if page.process.poll() is not None:
                        done["kills"] += 1
                        print(f"{done['kills']} kills, {len(sent)} files", file=sys.stderr)
                        page.start()
                if done["kills"] >= looked + KILLS_A_LOOK:
                    looked = done["kills"]
                    library.look()
                time.sleep(0.5)
        finally:
            for page in running:
                page.end()
        library.look()
        faults = library.faults()
        left = [*(home / "uploads").iterdir(), *(home / "upload-jobs").iterdir()]
        workspace = library.opened()
        ready = sum(recording.status == "ready" for recording in workspace.recordings())
        workspace.close()
        row: dict[str, object] = {
            "web processes killed": done["kills"],
            "files sent": len(sent),
            "recordings that are ready": ready,
            "windows": len(library.seen),
            "windows lost": len(library.lost),
            **faults,
            "uploads left behind": len(left),
            "uploads without an answer, sent again": done["uploads without an answer"],
            "files whose process ended twice, tried again by hand": done["tried again by hand"],
            "minutes": round((time.perf_counter() - started) / 60, 1),
        }
    table = [{"what": name, "how many": value} for name, value in row.items()]
    show(f"Web processes killed at random, seed {seed}", table, {"pages": row})


def ask(running: Sequence[Page], method: str, path: str) -> Any:
    """What any of the pages answers, once one is up."""
    while True:
        for page in running:
            if page.process.poll() is None and (answer := page.call(method, path)) is not None:
                return answer
        time.sleep(0.5)


# --- vectors ------------------------------------------------------------------------------------------------

AN_HOUR = 75
"""Passages of an hour of talk, which are sent together."""

DIMENSIONS = 384
"""Of the packaged embedder."""


class Unembedded:
    """Names the model of a collection whose vectors are made up."""

    name = "made up"
    dimensions = DIMENSIONS


def vectors(count: int) -> None:
    """Send random unit vectors to Chroma's server as indexing does, a recording of an hour at a time."""
    chance = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, chroma(Path(folder) / "chroma") as address:
        collection = Vectors(address, Unembedded())
        held, taken, busy = 0, 0.0, processor_seconds()
        for first in range(0, count, AN_HOUR):
            made = chance.standard_normal((min(AN_HOUR, count - first), DIMENSIONS)).astype(np.float32)
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            passages = [
                Passage(f"{first:064x}", 48.0 * at, 48.0 * at + 48.0, "", (), first + at)
                for at in range(len(made))
            ]
            started = time.perf_counter()
            collection.replace(passages[0].recording, passages, made)
            taken += time.perf_counter() - started
            new = first + len(made) - held
            if new >= count // 5 or first + len(made) == count:
                held, worked = first + len(made), processor_seconds() - busy
                rows.append(
                    {
                        "vectors held then": held,
                        "a second": round(new / taken),
                        "a second of processor time": round(new / worked),
                    }
                )
                taken, busy = 0.0, processor_seconds()
        assert collection.count() == count
        collection.close()
    show("Vectors sent to Chroma's server", rows, {"vectors": rows})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Beyond one machine, measured on one.")
    commands = parser.add_subparsers(dest="command", required=True)
    rates = commands.add_parser("windows")
    rates.add_argument("--turns", type=int, default=3)
    killing = commands.add_parser("kills")
    killing.add_argument("--kills", type=int, default=100)
    killing.add_argument("--seed", type=int, default=1)
    killing = commands.add_parser("pages")
    killing.add_argument("--kills", type=int, default=30)
    killing.add_argument("--seed", type=int, default=1)
    sending = commands.add_parser("vectors")
    sending.add_argument("--count", type=int, default=50_000)
    given = parser.parse_args()
    if given.command == "vectors":
        vectors(given.count)
    elif given.command == "windows":
        windows(given.turns)
    elif given.command == "pages":
        pages(given.kills, given.seed)
    else:
        kills(given.kills, given.seed)


if __name__ == "__main__":
    main()
