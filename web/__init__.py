"""The Gradio page: library, player with transcript, chat, summary."""
