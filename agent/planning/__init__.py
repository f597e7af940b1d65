"""What a question asks for, read by rules for closed kinds of questions, and the tools that answer it."""
