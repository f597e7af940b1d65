"""The installed wheel used as a newcomer would: doctor, demo, and the page it opens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.support.wheel import build_wheel, install_wheel, run_apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"), with_voices=True)
    return install_wheel(wheel, tmp_path_factory.mktemp("environment"))


def test_doctor_finds_everything_the_voices_too(programs, tmp_path):
    told = run_apart([f"{programs}/moss-agent", "doctor", "--json"], tmp_path)
    checks = {check["name"]: check for check in json.loads(told.stdout)}
    assert told.returncode == 0, told.stdout
    assert checks["speakers"]["ok"] and checks["search"]["ok"] and checks["hears"]["ok"]


def test_the_demo_answers_opens_the_page_and_leaves_nothing(programs, tmp_path):
    demo = subprocess.Popen(
        [f"{programs}/moss-agent", "demo"], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    try:
        told = ""
        while not (address := re.search(r"http://127\.0\.0\.1:\d+", told)):
            line = demo.stdout.readline()
            assert line, told
            told += line
        assert "[2:20]" in told and "1500" in told
        assert [*tmp_path.glob("moss-agent-demo-*")]
        with urllib.request.urlopen(address[0]) as page:
            assert b"gradio" in page.read()
        with urllib.request.urlopen(f"{address[0]}/health") as health:
            assert json.load(health) == {"recordings": 1}
        os.kill(demo.pid, signal.SIGTERM)
        assert demo.wait(30) == 0
    finally:
        demo.kill()
    assert not [*tmp_path.glob("moss-agent-demo-*")]
