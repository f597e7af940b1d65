"""What the agent may do: one tool a file, each thin, each answering in JSON with time ranges."""

from __future__ import annotations

from langchain_core.tools import BaseTool

from tools.list_recordings import list_recordings_tool
from tools.listen import listen_tool
from tools.outline import outline_tool
from tools.read_transcript import read_transcript_tool
from tools.result import Toolbox
from tools.search_recordings import search_recordings_tool
from tools.summarize_recording import summarize_tool

__all__ = ["Toolbox", "build_tools"]


def build_tools(toolbox: Toolbox) -> list[BaseTool]:
    """Every tool of the agent, over one toolbox."""
    makers = (
        read_transcript_tool,
        search_recordings_tool,
        list_recordings_tool,
        outline_tool,
        summarize_tool,
        listen_tool,
    )
    return [make(toolbox) for make in makers]
