"""The assistant: a LangGraph agent that answers about recordings, its chat models, and the command line."""
