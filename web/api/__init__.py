"""The HTTP API: what OpenAI's clients speak, answered by the engines of the settings (docs/api.md)."""
