"""What the benchmarks share: the machine in words, percentiles, and a table with its JSON line."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SAMPLE = Path(__file__).parent.parent / "web" / "sample" / "harbour_meeting.mp3"


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


def show(title: str, rows: Sequence[dict[str, object]], result: dict[str, object]) -> None:
    """Print a Markdown table and, last, one JSON line."""
    print(f"\n{title} ({machine()})\n")
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[one]) for one in columns) + " |")
    print()
    print(json.dumps(result))
