"""Sounds and music: heard window by window, joined, and stored beside speech."""
