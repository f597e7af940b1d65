"""Everything that one look at a GPU is to tell, within nine minutes: tests first, then the most telling rows.

The tests are ``tests/moss_audio/test_engine_gpu.py``. The rows are those of ``benchmarks.engine`` and
``benchmarks.model`` for 8B and 4B with random bfloat16 weights, the most important ones first, each with a
limit of time. The document is written anew after every row, so that a run which is cut short keeps what it
has; a row that was not measured says why. Each configuration runs in a process of its own, so that a failing
kernel costs no other's rows.

Without a GPU the tests run as far as they can, and the rows are measured with the small configuration on the
CPU.

    python -m benchmarks.gpu_run FILE.json
"""

from __future__ import annotations

import time

BEGAN = time.time()

import argparse
import gc
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.common import markdown, switch_off_telemetry

switch_off_telemetry()

ROOT = Path(__file__).parent.parent
TESTS = "tests/moss_audio/test_engine_gpu.py"

SECONDS = 520.0
"""The whole run."""

TEST_SECONDS = 170.0
"""The tests, at most."""

SHARES = {"8b": 0.62, "4b": 1.0, "tiny": 1.0}
"""By when, as a part of the time that the tests leave, a configuration must have ended."""

COLUMNS = {
    "x_realtime": "× realtime",
    "ttft_ms": "until all have a first token, ms",
    "tpot_ms": "per output token, ms",
    "tokens_per_s": "tokens/s",
    "plain_tokens_per_s": "`generate` or plain Qwen3, tokens/s",
    "ratio": "ratio",
    "share_of_limit": "share of the memory-bandwidth limit",
    "memory_gb": "memory, GB",
}

Values = dict[str, object]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: What is measured.
        seconds: It is given up after so many.
        measure: Measures it with what ``_Bench`` holds.
    """

    name: str
    seconds: float
    measure: Callable[[_Bench, float], Values]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests and the rows; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--config", help="for the processes of this program: measure this one's rows")
    parser.add_argument("--deadline", type=float, default=BEGAN + SECONDS, help="when to end, in Unix time")
    options = parser.parse_args(arguments)
    if options.config:
        _measure_all(options.file, options.config, options.deadline)
        return 0
    return _run_all(options.file.resolve(), options.deadline)


# --- the run -----------------------------------------------------------------------------------------------


def _run_all(file: Path, deadline: float) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    document = _empty()
    _write(file, document)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        document["tests"] = _run_tests(min(deadline, time.time() + TEST_SECONDS))
        _write(file, document)
        _run_rows(file, document["configurations"], deadline)
    except KeyboardInterrupt:
        print("The run was interrupted; this is what it has.", flush=True)
    document = json.loads(file.read_text())
    for row in document["rows"]:
        row.setdefault("reason", None if row.get("values") else "The run ended before it was measured.")
    document["seconds"] = round(time.time() - BEGAN, 1)
    _write(file, document)
    _print(document)
    first = [row for row in document["rows"] if row["config"] == document["configurations"][0]][:2]
    return 0 if document["tests"]["passed"] and all(row.get("values") for row in first) else 1


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _empty() -> dict[str, Any]:
    """The document before anything is measured: every row, and why those stay empty that cannot be run."""
    # Importing torch takes seconds, but only a process that has ended leaves no memory of the GPU in use.
    code = (
        "import json, torch, transformers; gpu = torch.cuda.is_available(); print(json.dumps({"
        "'torch': torch.__version__, 'transformers': transformers.__version__, "
        "'gpu': torch.cuda.get_device_name() if gpu else None}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        print(found.stderr)
    machine = json.loads(found.stdout.splitlines()[-1]) if not found.returncode else {"gpu": None}
    rows: list[dict[str, Any]] = []
    configurations = ["8b", "4b"] if machine["gpu"] else ["tiny"]
    for config in configurations:
        rows += [{"config": config, "row": row.name} for row in _rows(config)]
    if not machine["gpu"]:
        reason = "There is no GPU on this machine."
        for config in ("8b", "4b"):
            rows += [{"config": config, "row": row.name, "reason": reason} for row in _rows(config)]
    return {
        "began": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(BEGAN)),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **machine,
        "configurations": configurations,
        "tests": {"passed": False, "summary": "The tests were not finished."},
        "rows": rows,
    }


def _run_tests(deadline: float) -> dict[str, Any]:
    """Run the GPU tests without this project's pytest settings, which want plugins."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", TESTS, "-q", "--tb=short", "--noconftest", "-c", os.devnull,
            "--rootdir", str(ROOT), "-p", "no:cacheprovider", "--junitxml", str(report),
            "-o", "markers=gpu: needs a CUDA device", "--durations=5",
        ]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            status: int | None = process.wait(max(1.0, deadline - time.time()))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        if status is None or not report.exists():
            return {"passed": False, "summary": f"The tests did not end within {TEST_SECONDS:.0f} s."}
        suite = ET.parse(report).getroot().find("testsuite")
        assert suite is not None
        counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
        failed = [
            f"{case.get('name')}: {problem.get('message', '')}"[:500]
            for case in suite.iter("testcase")
            for problem in case
            if problem.tag in ("failure", "error")
        ]
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        return {
            "passed": status == 0,
            "summary": words,
            "failed": failed,
            "seconds": float(suite.get("time", "0")),
        }


def _run_rows(file: Path, configurations: Sequence[str], deadline: float) -> None:
    began = time.time()
    for config in configurations:
        until = began + SHARES[config] * (deadline - began)
        command = [
            sys.executable, "-m", "benchmarks.gpu_run", str(file),
            "--config", config, "--deadline", str(until),
        ]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            # It ends by itself; a kernel that hangs does not.
            process.wait(max(1.0, until + 5.0 - time.time()))
        except subprocess.TimeoutExpired:
            print(f"{config} did not end in time.", flush=True)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _write(file: Path, document: dict[str, Any]) -> None:
    """Replace the document in one step: it is whole whenever the run is cut off."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    fresh.replace(file)


def _print(document: dict[str, Any]) -> None:
    title = document["gpu"] or f"CPU, {document['cores']} cores"
    print(f"\n{title}, torch {document.get('torch')}, {document['began']} UTC, {document['seconds']:.0f} s")
    print(f"Tests: {'passed' if document['tests']['passed'] else 'FAILED'} ({document['tests']['summary']})")
    for failure in document["tests"].get("failed", []):
        print(f"  {failure}")
    table = []
    for row in document["rows"]:
        values = row.get("values") or {}
        line: Values = {"model": row["config"], "what": row["row"]}
        line |= {title: "" if values.get(key) is None else values[key] for key, title in COLUMNS.items()}
        notes = [f"{key}: {value}" for key, value in values.items() if key not in COLUMNS]
        table.append(line | {"remarks": row.get("reason") or "; ".join(notes)})
    print("\n" + markdown(table), flush=True)


# --- the rows ----------------------------------------------------------------------------------------------


def _rows(config: str) -> list[Row]:
    """The rows of a configuration, the most important ones first."""
    small = config == "tiny"
    prompt = 16 if small else 500
    batches = (1, 8) if small else (1, 64)
    hour = "8 s of audio in windows of 4 s" if small else "an hour of audio in windows of a minute"
    rows = [Row(f"engine, batch {size}, prompts of {prompt} tokens", 60, _batch(size)) for size in batches]
    rows.append(Row(hour, 60, _hour))
    rows.append(Row("a mixed batch beside `generate`", 30, _equal))
    if not small:
        rows.append(Row("engine, batch 8, prompts of 500 tokens", 45, _batch(8)))
    rows.append(Row("the model alone: hearing 60 s", 20, _hearing(60)))
    if not small:
        rows.append(Row("the model alone: hearing 600 s", 30, _hearing(600)))
        rows.append(Row("the model alone: first token of 600 s of audio", 30, _first_token))
    rows.append(Row("the model alone: writing, batch 1", 60, _writing))
    return rows


class _Bench:
    """A configuration's model, and an engine over it while rows want one."""

    def __init__(self, config: str) -> None:
        import torch

        from benchmarks.engine import Plan, bandwidth
        from benchmarks.random_models import build, with_processor

        self.device = "cpu" if config == "tiny" else "cuda"
        on_gpu = self.device == "cuda"
        self.plan = Plan.of(quick=not on_gpu, on_gpu=on_gpu)
        self.turns = 3 if on_gpu else 1
        self.speed = bandwidth(self.device, 4000 if on_gpu else 50)
        if on_gpu:
            torch.cuda.empty_cache()
        self.model = with_processor(build(config, self.device))
        self._engine: Any = None

    def engine(self) -> Any:
        """The engine, its kernels and graphs warm."""
        if self._engine is None:
            from benchmarks.engine import by_engine, prompts
            from moss_audio.engine import Engine, EngineOptions

            cache = 20_000_000_000 if self.device == "cuda" else 50_000_000
            self._engine = Engine(self.model, EngineOptions(cache_bytes=cache, encoder_bytes=0))
            by_engine(self._engine, prompts(1, self.plan.context, random.Random(9)), 2, self.plan)
        return self._engine

    def without_engine(self) -> None:
        """Give the engine's memory back."""
        import torch

        if self._engine is not None:
            self._engine.close()
            self._engine = None
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()


def _batch(size: int) -> Callable[[_Bench, float], Values]:
    def measure(bench: _Bench, seconds: float) -> Values:
        from benchmarks.engine import measure as measured

        engine = bench.engine()
        plan = replace(bench.plan, deadline=time.monotonic() + seconds)
        found = measured(bench.model, engine, size, plan, bench.speed)
        plain = found["generate_tokens_per_s"]
        assert isinstance(plain, float) and isinstance(found["tokens_per_s"], float)
        return {
            "ttft_ms": found["ttft_ms"],
            "tpot_ms": found["tpot_ms"],
            "tokens_per_s": found["tokens_per_s"],
            "plain_tokens_per_s": plain,
            "ratio": round(found["tokens_per_s"] / plain, 2),
            "share_of_limit": found["share_of_limit"],
            "CUDA graphs": engine.runner.overlaps_host,
            "bandwidth, GB/s": round(bench.speed / 1e9),
        }

    return measure


def _hour(bench: _Bench, seconds: float) -> Values:
    from benchmarks.engine import transcribe

    engine = bench.engine()
    plan = replace(bench.plan, deadline=time.monotonic() + seconds)
    return {"x_realtime": transcribe(engine, plan), "seconds of audio": plan.audio}


def _equal(bench: _Bench, seconds: float) -> Values:
    from benchmarks.engine import equal

    engine = bench.engine()
    plan = replace(bench.plan, deadline=time.monotonic() + seconds)
    return {"same text (near ties may differ in bfloat16)": equal(bench.model, engine, plan)}


def _hearing(audio_seconds: int) -> Callable[[_Bench, float], Values]:
    def measure(bench: _Bench, seconds: float) -> Values:
        from benchmarks.model import hear

        bench.without_engine()
        return {"x_realtime": round(hear(bench.model, audio_seconds, bench.turns, bench.device), 1)}

    return measure


def _first_token(bench: _Bench, seconds: float) -> Values:
    from benchmarks.model import first_token

    bench.without_engine()
    taken, memory = first_token(bench.model, 600, bench.device)
    return {"ttft_ms": round(1000 * taken, 1), "memory_gb": round(memory, 1)}


def _writing(bench: _Bench, seconds: float) -> Values:
    from benchmarks.model import write

    bench.without_engine()
    ours, plain, same = write(bench.model, bench.turns, bench.device)
    return {
        "tokens_per_s": round(ours, 1),
        "plain_tokens_per_s": round(plain, 1),
        "ratio": round(ours / plain, 2),
        "same ids": same,
    }


def _measure_all(file: Path, config: str, deadline: float) -> None:
    """Measure a configuration's rows into the document, one after the other."""
    document = json.loads(file.read_text())
    places = {row["row"]: row for row in document["rows"] if row["config"] == config}
    began = time.time()
    try:
        bench = _Bench(config)
    except Exception as error:
        for place in places.values():
            place["reason"] = _said(error)
        _write(file, document)
        return
    print(f"{config}: the model was ready after {time.time() - began:.1f} s.", flush=True)
    for row in _rows(config):
        place, began = places[row.name], time.time()
        if (left := deadline - began) < 1.0:
            place["reason"] = "There was no time left for it."
        else:
            try:
                place["values"] = row.measure(bench, min(row.seconds, left))
            except Exception as error:
                place["reason"] = _said(error)
        place["seconds"] = round(time.time() - began, 1)
        _write(file, document)
        print(f"{config}: {row.name}: {place.get('values') or place['reason']}", flush=True)
    bench.without_engine()


def _said(error: Exception) -> str:
    from benchmarks.engine import said

    return said(error)


if __name__ == "__main__":
    sys.exit(main())
