"""Extractive summaries: topics, decisions, action items, open questions, key quotes; nothing invented."""
