"""Many people who chat while files are taken in: one process on SQLite, and several over servers, in one run.

    python -m benchmarks.chatting [--people N] [--files N] [--seconds N] [--processes N]

Every person asks about recordings that are there already, one question after the other with a second to read
between them, while files are uploaded and transcribed. What counts is the time to the first piece of an
answer, without a language model, and that nothing fails. The servers (PostgreSQL, Chroma's in Rust) are
started on this machine and stopped again; requests go to the web processes in turn.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import soundfile

from agent.settings import Settings
from agent.workspace import open_workspace
from benchmarks.ask import PER_RECORDING, fill
from benchmarks.common import SAMPLE, percentiles, show
from benchmarks.servers import free_port, servers
from tests.support.preloaded import Program

RECORDINGS = 20
"""Made-up meetings of 1,000 sentences that questions are about."""

PAGE = "from agent.cli import main; main()"
"""A web process; it begins as a copy of one that has imported its libraries, which spares the machine."""

READING_SECONDS = 1.0

FIRST_SECONDS = 60
"""How much of the sample the files are; each begins elsewhere, so that no two are the same."""


@dataclass
class Told:
    """What came of it.

    Attributes:
        first: Seconds to the first piece of each answer.
        whole: Seconds to the end of each answer.
        errors: What failed, in words.
        files: Seconds until each file was ready.
    """

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    files: list[float] = field(default_factory=list)


@contextmanager
def web(home: Path, settings: dict[str, str]) -> Iterator[str]:
    """A web process over a home folder; its address."""
    arguments = ["--home", str(home), "web", "--port", str(free_port()), "--json"]
    variables = {"MOSS_AGENT_VOICES": "off", "HF_HUB_OFFLINE": "1"} | settings
    log = home / f"web-{os.urandom(3).hex()}.log"
    process = Program(PAGE, arguments, variables, log)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(log.read_text())
        page = urlsplit(json.loads(line)["url"])
        yield f"{page.scheme}://{page.netloc}"
    finally:
        process.terminate()
        process.wait(60)


def chat(addresses: Sequence[str], ids: Sequence[str], people: int, files: int, seconds: float) -> Told:
    """Let people chat at web processes while files are uploaded to them."""
    told, done, lock = Told(), threading.Event(), threading.Lock()

    def person(number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=addresses[number % len(addresses)], timeout=60) as client:
            while not done.is_set():
                try:
                    first, whole = _ask(client, rng, rng.choice(ids), f"person-{number}")
                    with lock:
                        told.first.append(first)
                        told.whole.append(whole)
                except Exception as error:  # whatever it is, it is counted
                    with lock:
                        told.errors.append(f"{type(error).__name__}: {error}")
                done.wait(READING_SECONDS * rng.uniform(0.5, 1.5))

    def upload(number: int) -> None:
        began = time.perf_counter()
        try:
            with httpx.Client(base_url=addresses[number % len(addresses)], timeout=60) as client:
                _take_in(client, number)
            with lock:
                told.files.append(time.perf_counter() - began)
        except Exception as error:
            with lock:
                told.errors.append(f"file {number}: {type(error).__name__}: {error}")

    chatting = [threading.Thread(target=person, args=(number,)) for number in range(people)]
    uploading = [threading.Thread(target=upload, args=(number,)) for number in range(files)]
    began = time.perf_counter()
    for thread in (*chatting, *uploading):
        thread.start()
    for thread in uploading:
        thread.join()
    done.wait(max(0.0, seconds - (time.perf_counter() - began)))
    done.set()
    for thread in chatting:
        thread.join()
    return told


def _ask(client: httpx.Client, rng: random.Random, recording: str, thread: str) -> tuple[float, float]:
    minute = rng.randrange(60)
    question = rng.choice(
        [
            f"what was said at minute {minute}?",
            "what did the council say about the ferry?",
            "who paid for the stage?",
        ]
    )
    body = {"question": question, "recording": recording, "thread": f"{thread}-{rng.getrandbits(40)}"}
    began, first = time.perf_counter(), None
    with client.stream("POST", "/api/v1/ask", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("event: error"):
                raise RuntimeError(question)
            if first is None and line.startswith(("event: token", "event: done")):
                first = time.perf_counter() - began
    if first is None:
        raise RuntimeError(f"no answer to {question}")
    return first, time.perf_counter() - began


def _take_in(client: httpx.Client, number: int) -> None:
    audio, rate = soundfile.read(SAMPLE, dtype="float32")
    begins = number * FIRST_SECONDS * rate // 2
    file = io.BytesIO()
    soundfile.write(file, audio[begins : begins + FIRST_SECONDS * rate], rate, format="WAV")
    sent = client.post("/api/v1/recordings", files={"file": (f"file {number}.wav", file.getvalue())})
    sent.raise_for_status()
    job = sent.json()["id"]
    while (state := client.get(f"/api/v1/jobs/{job}").raise_for_status().json())["state"] in (
        "waiting",
        "running",
    ):
        time.sleep(0.5)
    if state["state"] != "done":
        raise RuntimeError(str(state))


def measure(settings: dict[str, Any], home: Path, processes: int, options: argparse.Namespace) -> Told:
    """Fill a home folder, start web processes over it, and let people chat."""
    workspace = open_workspace(Settings(home=home, **settings))
    ids = fill(workspace, RECORDINGS * PER_RECORDING)
    (home / ".sample-added").touch()
    workspace.close()
    variables = {f"MOSS_AGENT_{name.upper()}": value for name, value in settings.items()}
    with ExitStack() as running:
        addresses = [running.enter_context(web(home, variables)) for _ in range(processes)]
        for address in addresses:  # engines are loaded at the first question
            chat([address], ids, 1, 0, 0.1)
        return chat(addresses, ids, options.people, options.files, options.seconds)


def main() -> None:
    """Measure both and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / name for name in ("one", "several")]
        results = {"1 on SQLite": measure({}, homes[0], 1, options)}
        with servers() as (database, vectors):
            over = {"database": database, "vectors": vectors}
            name = f"{options.processes} on PostgreSQL and Chroma"
            results[name] = measure(over, homes[1], options.processes, options)
    rows = [
        {
            "web processes": name,
            "answers": len(told.first),
            "errors": len(told.errors),
            "first piece, p50, ms": percentiles(told.first)["p50_ms"],
            "first piece, p95, ms": percentiles(told.first)["p95_ms"],
            "whole answer, p95, ms": percentiles(told.whole)["p95_ms"],
            "files ready after, s": ", ".join(f"{seconds:.0f}" for seconds in sorted(told.files)),
        }
        for name, told in results.items()
    ]
    errors = {name: told.errors[:5] for name, told in results.items()}
    title = f"{options.people} people chatting while {options.files} files are taken in"
    show(title, rows, {str(row["web processes"]): row for row in rows} | {"errors": errors})


if __name__ == "__main__":
    main()
