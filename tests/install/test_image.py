"""The image: built in fresh Debian roots, started with no network, as another user, on a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.install.chroot_image import Container, Root, build, pip_settings
from tests.support.container_files import read_service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("debootstrap"), reason="needs root and debootstrap"
    ),
]

WHO = {"PUID": "1234", "PGID": "2345"}
ASK = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"
REACH = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
WRITE = "open('/opt/moss-agent/written', 'w')"


@pytest.fixture(scope="module")
def image() -> Iterator[Root]:
    """The image; MOSS_AGENT_TEST_IMAGE names a folder where one was built by hand and is left."""
    built = os.environ.get("TEST_IMAGE")
    work = Path(built) if built else ROOT / "build" / "image"
    if not built:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    yield build(ROOT / "Dockerfile", ROOT, work, pip_settings())
    if not built:
        shutil.rmtree(work)


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def container(image, volume) -> Iterator[Container]:
    container = Container(image, read_service(ROOT / "compose.yaml", WHO), volume)
    yield container
    container.stop(5)


def test_it_becomes_healthy_and_answers_without_a_network(container):
    container.wait_until_healthy(300)
    assert container.execute("python3", "-c", REACH).returncode != 0
    page = container.execute("python3", "-c", ASK, "http://127.0.0.1:7860/")
    assert "gradio" in page.stdout, page.stderr


def test_it_runs_as_the_named_user_who_owns_the_volume_and_may_write_nothing_else(container, volume):
    status = Path(f"/proc/{container.pid}/status").read_text()
    held = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
    assert set(held["Uid"]) == {WHO["PUID"]} and set(held["Gid"]) == {WHO["PGID"]}
    assert {int(held[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff")} == {0}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (volume, *volume.rglob("*"))} == {
        (1234, 2345)
    }
    refused = container.execute("python3", "-c", WRITE)
    assert "Read-only file system" in refused.stderr


def test_the_sample_is_heard_with_what_the_image_brings(container, volume):
    end = time.monotonic() + 900
    while time.monotonic() < end:
        (recording,) = json.loads(container.execute("moss-agent", "list", "--json").stdout)
        if recording["status"] == "ready":
            break
        time.sleep(5)
    answer = container.execute("moss-agent", "ask", "what did we decide about the sound stage?")
    assert "[2:20]" in answer.stdout, answer.stderr
    assert not [*volume.rglob("model.bin")]
    assert not (volume / "huggingface").exists()


def test_it_ends_when_asked_and_keeps_the_library(image, container, volume):
    container.stop(20)
    again = Container(image, read_service(ROOT / "compose.yaml", WHO), volume)
    try:
        again.wait_until_healthy(300)
        (recording,) = json.loads(again.execute("moss-agent", "list", "--json").stdout)
        assert recording["status"] == "ready"
    finally:
        assert again.stop(20) == 0
