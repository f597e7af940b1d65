"""The rules: what a question asks for, which tools answer it, and answers composed of what they return."""
