"""Extractive summaries: topics, decisions, action items, open questions, key quotes; nothing invented."""

from index.summary.summarize import summarize
from index.summary.topics import topics

__all__ = ["summarize", "topics"]
