"""`moss-agent models`: what the released checkpoints need, and getting one."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.cli import main
from agent.engines.released_models import NAMES, full_name
from index.recording_errors import MossAgentError
from moss_audio.checkpoints.hub import RELEASED_BYTES
from tests.support.hub_server import Hub, serving
from tests.support.waiting import wait_until

SMALL = "OpenMOSS-Team/MOSS-Audio-4B-Instruct"
SIZE = 36_000_000
_IGNORING = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the right form and of a size that downloads in a moment."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text('{"model_type": "moss_audio"}')
    header = json.dumps({"t": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    body = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8).tobytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + body)
    return folder


def command(tmp_path: Path, hub: str, *arguments: str, background: bool = False) -> subprocess.Popen[str]:
    """Start `moss-agent models`; ``background``: as a job of a script, which starts with SIGINT ignored."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MOSS_AGENT_"))}
    more = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "MOSS_AGENT_HOME": str(tmp_path / "home")}
    code = f"{_IGNORING if background else ''}from agent.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "models", *arguments],
        env=kept | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background ignores Ctrl+C, and its children would do so after it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run(tmp_path: Path, hub: str, *arguments: str) -> tuple[int, str, str]:
    process = command(tmp_path, hub, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def listed(tmp_path: Path) -> dict[str, dict[str, Any]]:
    code, out, err = run(tmp_path, "http://127.0.0.1:9", "--json")
    assert code == 0, err
    return {released["name"]: released for released in json.loads(out)}


def test_the_four_checkpoints_are_listed_with_what_they_need(tmp_path: Path) -> None:
    models = listed(tmp_path)
    assert list(models) == list(NAMES)
    for name, released in models.items():
        assert released["download_bytes"] == RELEASED_BYTES[name]
        assert released["memory_bytes"]["gpu"] > released["download_bytes"]
        assert released["memory_bytes"]["cpu"] > 2 * released["download_bytes"]
        assert (released["present"], released["folder"], released["downloaded_bytes"]) == (False, None, 0)
        assert set(released["fits"]) == {"gpu", "cpu", "disk"}
    code, out, _ = run(tmp_path, "http://127.0.0.1:9")
    assert code == 0
    for words in ("MOSS-Audio-8B-Thinking", "18.1 GB", "Free on this machine:", "MOSS_AGENT_MODEL"):
        assert words in out


@pytest.mark.slow
def interrupted(tmp_path: Path, hub: Hub, background: bool) -> tuple[str, str]:
    """Begin to download, and press Ctrl+C when a part has come; what was printed."""
    hub.stall_after = SIZE // 3
    process = command(tmp_path, hub.url, "download", "4b-instruct", background=background)
    wait_for(tmp_path, SIZE // 4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    return out, err


def test_a_download_is_interrupted_goes_on_and_is_then_present(tmp_path: Path, model: Path) -> None:
    with serving({SMALL: model}) as hub:
        out, err = interrupted(tmp_path, hub, background=False)
        assert out == ""
        assert "Stopped" in err and SMALL in err and "run it again" in err
        part = listed(tmp_path)[SMALL]
        assert not part["present"]
        assert 0 < part["downloaded_bytes"] < SIZE
        hub.stall_after = None
        code, out, err = run(tmp_path, hub.url, "download", "4b-instruct", "--json")
        assert code == 0, err
        assert err == ""
        assert json.loads(out)["name"] == SMALL
        assert hub.ranges[-1] is not None
        folder = Path(json.loads(out)["folder"])
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    now = listed(tmp_path)[SMALL]
    assert (now["present"], now["folder"]) == (True, str(folder))


def test_a_download_that_a_script_began_is_interrupted_as_well(tmp_path: Path, model: Path) -> None:
    with serving({SMALL: model}) as hub:
        out, err = interrupted(tmp_path, hub, background=True)
    assert out == "" and "Stopped" in err and "run it again" in err


def wait_for(tmp_path: Path, size: int) -> None:
    wait_until(lambda: sum(file.stat().st_size for file in tmp_path.rglob("blobs/*")) >= size)


def test_without_a_connection_it_ends_with_1_and_one_line(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "http://127.0.0.1:9", "download", SMALL, "--json")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "could not be reached" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["download"], 1, "moss-agent models download NAME"),
        (["download", "whisper"], 1, "no checkpoint"),
        (["download", "thinking"], 1, "more than one checkpoint"),
        (["delete", SMALL], 2, "download"),
    ],
)
def test_wrong_usage_is_told(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(tmp_path / "home"), "models", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "full"), [("8b-thinking", NAMES[0]), (SMALL, SMALL), ("MOSS-Audio-8B-Instruct", NAMES[1])]
)
def test_a_short_name_is_enough(name: str, full: str) -> None:
    assert full_name(name) == full


@pytest.mark.parametrize("name", ["", "8b", "x"])
def test_a_name_of_none_or_several_is_refused(name: str) -> None:
    with pytest.raises(MossAgentError, match="MOSS-Audio-8B-Thinking"):
        full_name(name)


def test_a_hub_that_serves_nothing_is_one_line(tmp_path: Path) -> None:
    hub: Hub
    with serving({}) as hub:
        code, _, err = run(tmp_path, hub.url, "download", SMALL)
    assert code == 1
    assert "nor a public model of that name" in err
