"""Transcripts and summaries as files."""
