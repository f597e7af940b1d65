"""Recordings: heard once, kept as time-stamped segments, found again by time, word and meaning."""
