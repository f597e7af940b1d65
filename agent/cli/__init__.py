"""The command line: `moss-agent`."""


def main() -> None:
    """Entry point of the command; loads it when it is called."""
    from index.importing import without_collections

    with without_collections():
        from agent.cli.commands import main as run

    run()
