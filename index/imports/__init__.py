"""Transcripts that were made elsewhere: files that are read, and how they come into the library."""
