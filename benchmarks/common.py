"""What the benchmarks share: no telemetry, the machine in words, percentiles, and tables."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

SAMPLE = Path(__file__).parent.parent / "web" / "sample" / "harbour_meeting.mp3"


def switch_off_telemetry() -> None:
    """The part of ``agent.privacy`` that concerns torch and transformers, for machines without the rest.

    Call it before they are imported.
    """
    os.environ.update(QUIET)


def machine() -> str:
    """The processor, its cores and the date, for the results page."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {datetime.date.today()}"


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    return {
        "p50_ms": round(1000 * float(np.percentile(seconds, 50)), 1),
        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 1),
    }


def processor_seconds() -> float:
    """Processor time of this program and of the servers it started, in seconds, to a hundredth (Linux)."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # proc(5): after the name in parentheses come the state, the parent, and as 12th to 15th the
                # ticks of the process and of its children that have ended.
                values = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(values[1])
                ticks[int(folder.name)] = sum(map(int, values[11:15]))
    mine = {os.getpid()}
    while new := {process for process, parent in parents.items() if parent in mine} - mine:
        mine |= new
    return sum(ticks.get(process, 0) for process in mine) / os.sysconf("SC_CLK_TCK")


def show(title: str, rows: Sequence[dict[str, object]], result: dict[str, object]) -> None:
    """Print a Markdown table and, last, one JSON line."""
    print(f"\n{title} ({machine()})\n")
    print(markdown(rows))
    print()
    print(json.dumps(result))


def markdown(rows: Sequence[dict[str, object]]) -> str:
    """A Markdown table of rows that all have the first one's keys."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)
