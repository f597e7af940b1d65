"""``python -m agent.cli``."""

from agent.cli.commands import main

main()
