"""`moss-agent` and ``python -m moss_agent``: finds the rooms and starts the command line.

The rooms `agent`, `tools`, `index` and `web` have names that other packages have too. A wheel holds them in
a folder of their own, which no other program sees; this program alone puts it before everything else on its
path (docs/decisions/0012-wheel.md). In a checkout they lie beside this file and are found as usual.
"""

import sys
from pathlib import Path

ROOMS = Path(__file__).resolve().with_name("moss_agent_rooms")


def main() -> None:
    """Entry point of the command."""
    if ROOMS.is_dir():
        sys.path.insert(0, str(ROOMS))
    from agent.cli import main as run

    run()


if __name__ == "__main__":
    main()
