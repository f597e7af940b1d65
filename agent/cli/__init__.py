"""The command line: `moss-agent`."""


def main() -> None:
    """Entry point of the command; loads it when it is called."""
    from agent.cli.commands import main as run

    run()
