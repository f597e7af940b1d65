"""Chat models: MOSS-Audio over a backend, and the extractive one that needs no weights."""
