"""The command line: `moss-agent`."""
