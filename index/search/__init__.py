"""Passages, embeddings, vectors and ranking."""
