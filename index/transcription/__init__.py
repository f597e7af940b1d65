"""From windows of audio to timed sentences: transcribers, retries, coverage."""
