"""Checkpoints by name: found here, downloaded, resumed, or refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from moss_audio import MossAudio
from moss_audio.checkpoints.hub import RELEASED_BYTES, partial_path, resolve
from moss_audio.errors import CheckpointError
from moss_audio.model.processor import MossAudioProcessor
from tests.support.hub_server import COMMIT, Hub, serving

NAME = "someone/tiny-model"
SIZE = 30_000_000
CHUNK = constants.DOWNLOAD_CHUNK_SIZE
"""Bytes that huggingface_hub writes at a time; a smaller remainder is lost with its connection."""


def shard(path: Path, seed: int, size: int = SIZE) -> None:
    header = json.dumps({f"t{seed}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    body = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text('{"model_type": "moss_audio"}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("Not needed.")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for number, name in enumerate(names):
        shard(folder / name, number)
    weight_map = {f"t{number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets this process take an address for the hub's."""

    def set_to(url: str) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )

    return set_to


SCRIPT = """
import json, sys
from moss_audio.errors import MossAudioError
from moss_audio.checkpoints.hub import resolve
told = []
try:
    folder = resolve(sys.argv[1], lambda done, total: (told.append(done), print(done, total, flush=True)))
    print(json.dumps({"folder": str(folder), "first": told[:1], "last": told[-1:]}))
except MossAudioError as error:
    print(json.dumps({"error": str(error)}))
"""


def environment(hub: str, home: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    return kept | {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | more


def start(hub: str, home: Path, name: str = NAME, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name],
        env=environment(hub, home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background ignores Ctrl+C, and its children would do so after it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def outcome(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=60)
    assert out.strip(), err
    return json.loads(out.strip().splitlines()[-1])


def large_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


def same(folder: Path, model: Path) -> bool:
    wanted = [file.name for file in model.iterdir() if file.name != "README.md"]
    return all((folder / item).read_bytes() == (model / item).read_bytes() for item in wanted)


def test_a_download_is_whole_counted_and_afterwards_found_without_the_hub(
    model: Path, tmp_path: Path, point: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    with serving({NAME: model}) as hub:
        point(hub.url)
        folder = resolve(NAME, lambda *both: told.append(both), cache_dir=tmp_path)
        assert same(folder, model) and folder.name == COMMIT
        assert not (folder / "README.md").exists()
        assert told[-1] == (large_bytes(model), large_bytes(model))
        asked = len(hub.requests)
        assert resolve(NAME, cache_dir=tmp_path) == folder
        assert len(hub.requests) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve(NAME, cache_dir=tmp_path) == folder


def test_a_connection_that_breaks_off_is_taken_up_again_at_the_byte(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    told: list[int] = []
    with serving({NAME: model}) as hub:
        point(hub.url)
        hub.break_after = SIZE - 1_000_000
        assert same(resolve(NAME, lambda done, _: told.append(done), cache_dir=tmp_path), model)
        assert [asked for asked in hub.ranges if asked] == [f"bytes={2 * CHUNK}-"]
        assert told == sorted(told) and told[-1] == large_bytes(model)


def test_a_server_that_knows_no_ranges_is_read_from_the_start(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    told: list[int] = []
    with serving({NAME: model}) as hub:
        point(hub.url)
        hub.break_after, hub.knows_ranges = SIZE - 1_000_000, False
        assert same(resolve(NAME, lambda done, _: told.append(done), cache_dir=tmp_path), model)
        assert told[-1] == large_bytes(model)


def killed_midway(hub: Hub, home: Path) -> None:
    """Begin a download in a process of its own and kill that after a good part of the first file."""
    hub.stall_after = SIZE - 1_000_000
    process = start(hub.url, home)
    wait_for_part(home, 2 * CHUNK)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    hub.stall_after = None


def wait_for_part(home: Path, size: int) -> None:
    """Until an unfinished file has so many bytes."""
    end = time.monotonic() + 120
    while not any(part.stat().st_size >= size for part in home.rglob("*.part")):
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["amid a file", "before its first byte"])
def test_an_interrupted_download_ends_at_once_though_the_connection_stalls(
    model: Path, tmp_path: Path, where: str
) -> None:
    with serving({NAME: model}) as hub:
        hub.stall_after = SIZE - 1_000_000 if where == "amid a file" else 0
        process = start(hub.url, tmp_path)
        if where == "amid a file":
            wait_for_part(tmp_path, 2 * CHUNK)
        else:
            end = time.monotonic() + 120
            while not hub.ranges:
                assert time.monotonic() < end, "nothing was asked for"
                time.sleep(0.02)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        # The server says nothing for 30 s, and the client alone would wait 10 s in each of six attempts.
        assert time.monotonic() - interrupted < 25
        assert process.returncode == -signal.SIGINT


def test_a_download_that_was_killed_goes_on_where_it_stopped(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    told: list[int] = []
    with serving({NAME: model}) as hub:
        point(hub.url)
        killed_midway(hub, tmp_path)
        folder = resolve(NAME, lambda done, _: told.append(done), cache_dir=tmp_path / "hub")
        assert same(folder, model)
        assert told[0] == 2 * CHUNK
        assert hub.ranges[1] == f"bytes={told[0]}-"


def test_bytes_that_are_not_the_published_ones_are_thrown_away(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        first = sorted(model.glob("*.safetensors"))[0]
        blobs = tmp_path / "models--someone--tiny-model" / "blobs"
        blobs.mkdir(parents=True)
        partial = partial_path(blobs, hashlib.sha256(first.read_bytes()).hexdigest())
        partial.write_bytes(bytes(100_000))
        with pytest.raises(CheckpointError, match="damaged"):
            resolve(NAME, cache_dir=tmp_path)
        assert not partial.exists()
        assert same(resolve(NAME, cache_dir=tmp_path), model)


def test_a_hub_that_goes_away_midway_leaves_what_came(
    model: Path, tmp_path: Path, point: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        hub.break_after, hub.closed_after_break = SIZE - 1_000_000, True
        with pytest.raises(CheckpointError, match=r"stopped after 0\.02 of 0\.06 GB .* run it again"):
            resolve(NAME, cache_dir=tmp_path)
        [partial] = tmp_path.rglob("*.part")
        assert partial.stat().st_size == 2 * CHUNK
    assert not caplog.records  # one sentence, and no warning for each attempt


def test_a_name_the_hub_does_not_know_is_said_at_once(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        with pytest.raises(CheckpointError, match=r"someone/else .*check the name"):
            resolve("someone/else", cache_dir=tmp_path)
        with pytest.raises(CheckpointError, match="no revision v9"):
            resolve(NAME, cache_dir=tmp_path, revision="v9")


def test_without_a_connection_the_error_names_size_and_way_out_within_seconds(tmp_path: Path) -> None:
    with serving({}) as hub:
        closed = hub.url
    began = time.monotonic()
    said = outcome(start(closed, tmp_path, "OpenMOSS-Team/MOSS-Audio-8B-Thinking"))["error"]
    assert time.monotonic() - began < 20.0  # most of it is Python starting
    assert "18.11 GB" in said and "could not be reached" in said and "give its folder" in said


def test_a_hub_that_never_answers_counts_as_offline(
    tmp_path: Path, point: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moss_audio.checkpoints.hub.CONTACT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(CheckpointError, match="could not be reached"):
            resolve(NAME, cache_dir=tmp_path)


def test_offline_mode_is_named_as_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        resolve(NAME, cache_dir=tmp_path)


@pytest.mark.parametrize("load", [resolve, MossAudio.from_pretrained, MossAudioProcessor.from_pretrained])
def test_local_files_only_never_asks_the_hub(
    model: Path, tmp_path: Path, point: Callable[[str], None], load: Callable[..., object]
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        with pytest.raises(CheckpointError, match=r"not on this machine, and local_files_only"):
            load(NAME, cache_dir=tmp_path, local_files_only=True)
        assert not hub.requests


def test_local_files_only_finds_what_is_there(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        folder = resolve(NAME, cache_dir=tmp_path)
        asked = len(hub.requests)
        assert resolve(NAME, cache_dir=tmp_path, local_files_only=True) == folder
        assert len(hub.requests) == asked


def test_a_disk_that_is_too_small_is_known_before_the_download(
    model: Path, tmp_path: Path, point: Callable[[str], None]
) -> None:
    with serving({NAME: model}) as hub:
        point(hub.url)
        hub.claimed_size = 1 << 60
        with pytest.raises(CheckpointError, match="GB more on the disk"):
            resolve(NAME, cache_dir=tmp_path)
        assert not hub.ranges


def test_a_folder_is_taken_as_it_is_once_it_is_complete(model: Path, tmp_path: Path) -> None:
    assert resolve(model) == model
    with pytest.raises(CheckpointError, match=r"config\.json"):
        resolve(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no weights"):
        resolve(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="no folder"):
        resolve(tmp_path / "nowhere")


def test_the_released_sizes_are_those_of_their_tensors(parity_bytes: dict[str, int]) -> None:
    for name, size in RELEASED_BYTES.items():
        weights = parity_bytes[name.split("-")[3]]
        assert 0 < size - weights < 10_000_000


@pytest.fixture
def parity_bytes() -> dict[str, int]:
    data = Path(__file__).parents[1] / "data" / "parity"
    totals = {}
    for size in ("4B", "8B"):
        shapes = json.loads((data / f"state_dict_{size}.json").read_text())
        totals[size] = 2 * sum(int(np.prod(shape)) for shape in shapes.values())
    return totals
