"""Two pages over one PostgreSQL database, one Chroma server and one home folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.index.test_ingest import excerpt
from tests.servers import chroma, chroma_server, free_port, postgres  # noqa: F401
from tests.support.preloaded import Program
from tests.support.waiting import wait_until

PAGE = """
import os, sys, time
import web.shared_jobs
from index.recording_errors import Cancelled
from index.records import Segment, Word
from index.transcription.whisper import WhisperTranscriber

folder = sys.argv[2]

def transcribe(self, window, careful=False):
    # The first windows are heard at once, the others when the test says so.
    while window.start > 30 and not os.path.exists(folder + "/go"):
        if window.stop is not None and window.stop.is_set():
            raise Cancelled("stopped")
        time.sleep(0.02)
    with open(folder + "/heard", "a") as heard:
        heard.write(f"{os.getpid()} {window.start}\\n")
    found = []
    for span in window.speech:
        count = max(1, round(2.5 * span.duration))
        step = span.duration / count
        times = [span.start + at * step for at in range(count)]
        said = [Word(at, at + step, f" word{round(at * 10)}", 0.9) for at in times]
        text = "".join(word.text for word in said).strip().capitalize() + "."
        found.append(Segment(span.start, span.end, text, words=tuple(said)))
    return found

WhisperTranscriber.transcribe = transcribe
WhisperTranscriber.prepare = WhisperTranscriber.load = lambda self, *_: None
WhisperTranscriber.detect_language = lambda self, audio: ("en", 0.99)
WhisperTranscriber.windows_at_once = 1
web.shared_jobs.BEAT_SECONDS, web.shared_jobs.LEASE_SECONDS = 0.1, 6.0
from agent.cli import main
main()
"""


class Page:
    """A running page, asked through its API."""

    def __init__(self, home: Path, settings: dict[str, str], log: Path) -> None:
        self.program = Program(
            PAGE, ["--home", str(home), "web", "--port", str(free_port()), "--json"], settings, log
        )
        line = self.program.stdout.readline()
        assert line, log.read_text()
        self._client = httpx2.Client(
            base_url=json.loads(line)["url"] + "/api/v1", trust_env=False, timeout=60
        )

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **values: Any) -> Any:
        answer = self._client.post(path, **values)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def job(self) -> dict[str, Any]:
        return self.get("/jobs")[0]


@pytest.fixture
def pages(home: Path, chroma: str, tmp_path: Path) -> Iterator[list[Page]]:  # noqa: F811
    home.mkdir()
    (home / ".sample-added").touch()
    settings = {
        "HF_HUB_OFFLINE": "1",
        "MOSS_AGENT_DATABASE": postgres().new_database(),
        "MOSS_AGENT_VECTORS": chroma,
        "MOSS_AGENT_VOICES": "off",
    }
    opened = [Page(home, settings, tmp_path / f"log{number}") for number in range(2)]
    yield opened
    for page in opened:
        page.program.terminate()
    for page in opened:
        page.program.wait(30)


@pytest.mark.slow
def test_what_one_page_takes_in_another_shows_cancels_and_goes_on_with(
    pages: list[Page], home: Path, sample: Path, tmp_path: Path
) -> None:
    def heard() -> list[list[str]]:
        file = home / "heard"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def is_heard() -> bool:
        return all((job := page.job())["state"] == "running" and job["fraction"] > 0 for page in pages)

    talk = excerpt(sample, tmp_path / "talk.wav", 0, 190)
    sent = pages[0].post("/recordings", files={"file": ("talk.wav", talk.read_bytes())})
    wait_until(is_heard)
    pages[1].post(f"/jobs/{sent['id']}/cancel")
    wait_until(lambda: all(page.job()["state"] == "stopped" for page in pages))
    before = len(heard())
    # Two windows are in work at a time.
    cancelled = {start for _, start in heard()[-2:]}

    pages[1].post(f"/jobs/{sent['id']}/retry")
    wait_until(lambda: all(page.job()["state"] == "running" for page in pages))
    (home / "go").touch()
    wait_until(lambda: len(heard()) > before)
    busy = next(page for page in pages if str(page.program.pid) == heard()[-1][0])
    busy.program.kill()
    killed = {start for _, start in heard()[-2:]}
    pages.remove(busy)
    (left,) = pages
    wait_until(lambda: left.job()["state"] == "done", 180)

    (recording,) = left.get("/recordings")["recordings"]
    assert recording["status"] == "ready" and recording["coverage"] > 0.9
    windows = Counter(start for _, start in heard())
    # Only what was being heard when it was cancelled, and when the process was killed, is heard again.
    assert len(windows) > 2 and max(windows.values()) <= 2 + bool(cancelled & killed)
    assert {start for start, count in windows.items() if count > 1} <= cancelled | killed
    segments = left.get(f"/recordings/{recording['id']}/transcript")["segments"]
    starts = [segment["start"] for segment in segments]
    assert len(starts) == len(set(starts)) > 3
    word = segments[2]["text"].split()[-1].strip(".")
    (hit, *_) = left.get(f"/search?q={word}")["hits"]
    assert word in hit["text"]
    assert list((home / "uploads").iterdir()) == []
