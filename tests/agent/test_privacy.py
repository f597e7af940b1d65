"""Nothing phones home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.privacy import switch_off_telemetry


@pytest.mark.parametrize("name", ["LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"])
def test_tracing_that_the_environment_switched_on_is_off(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "key")
    switch_off_telemetry()
    from langsmith import utils

    utils.get_env_var.cache_clear()
    assert not utils.tracing_is_enabled()


def test_onnx_runtime_keeps_no_record_to_send(tmp_path: Path):
    # Its telemetry, on by default, writes a device id and an event store into the cache folder.
    program = (
        "from agent.privacy import switch_off_telemetry; switch_off_telemetry()\n"
        "import numpy as np\n"
        "from faster_whisper.vad import get_vad_model\n"
        "get_vad_model()(np.zeros(5120, dtype='float32'))\n"
    )
    # It is also quiet under continuous integration, which would make this test pass for the wrong reason.
    switches = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK"}
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_gradio_and_chroma_are_told_to_stay_quiet():
    switch_off_telemetry()
    import gradio.analytics
    from huggingface_hub import constants

    assert not gradio.analytics.analytics_enabled()
    assert constants.HF_HUB_DISABLE_TELEMETRY
