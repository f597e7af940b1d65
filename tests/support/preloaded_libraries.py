"""What programs of tests find imported; see ``preloaded.py``. Nothing here may start a thread."""

# ruff: noqa: E402, F401

import gc

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

import chromadb
import faster_whisper
import gradio
import sentence_transformers
import uvicorn

import agent.assistant
import agent.cli.commands
import agent.engines.engine_choice
import index.pipeline.ingest
import web.app
import web.page.page

# Programs share this memory as long as they leave it alone: their garbage collector does not look through it.
gc.collect()
gc.freeze()
