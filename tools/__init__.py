"""What the agent may do: one tool a file, each thin, each returning a typed result and its text."""

from __future__ import annotations

from langchain_core.tools import BaseTool

from tools.list_recordings import list_recordings_tool
from tools.listen import listen_tool
from tools.outline import outline_tool
from tools.read_transcript import read_transcript_tool
from tools.search_recordings import search_recordings_tool
from tools.summarize_recording import summarize_tool
from tools.toolbox import Toolbox

__all__ = ["Toolbox", "build_tools"]


def build_tools(toolbox: Toolbox) -> list[BaseTool]:
    """Every tool that can be served: ``listen`` is among them only where something can listen."""
    makers = [
        read_transcript_tool,
        search_recordings_tool,
        list_recordings_tool,
        outline_tool,
        summarize_tool,
        *([listen_tool] if toolbox.listener is not None else []),
    ]
    return [make(toolbox) for make in makers]
