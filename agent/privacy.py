"""Nothing phones home: switches off what libraries would send, before they are imported."""

from __future__ import annotations

import os

_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "CHROMA_ANONYMIZED_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGCHAIN_TRACING": "false",
    "OTEL_SDK_DISABLED": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # ONNX Runtime reports sessions from its Linux builds since 1.29.
    "ORT_DISABLE_TELEMETRY": "1",
}


def switch_off_telemetry() -> None:
    """Set every known switch to off, overriding the environment.

    A person who traces their other programs with LangSmith did not mean their recordings; anything a
    conversation quotes would leave the machine.
    """
    os.environ.update(_OFF)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
