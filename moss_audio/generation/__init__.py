"""From prompts to answers: requests, generation, thoughts, streams, tool calls."""
