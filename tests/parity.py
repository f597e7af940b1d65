"""Compare this implementation, number by number, with recorded results of the official one.

    python tests/parity.py CASE_DIR…

A case is a folder in the format of ``tests/data/parity``. With a ``model.safetensors`` it is about the
model: everything is computed from the waves and prompt texts up, and from the stored inputs each later
stage once more alone, so that a fault is located. Without, it is about the processor. Every tensor and
every number that the case stores is compared; a name that is not known here is an error. Exits with 0 only
if all hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

# As a script this file is started with its own folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.parity_model import check_model
from tests.parity_processor import check_processor
from tests.parity_report import Report


def check(folder: Path, report: Report) -> None:
    """Run one case."""
    has_model = (folder / "model.safetensors").exists() or (folder / "model.safetensors.index.json").exists()
    (check_model if has_model else check_processor)(folder, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASE_DIR")
    parser.add_argument("--quiet", action="store_true", help="print only what does not hold")
    options = parser.parse_args(arguments)
    report = Report(options.quiet)
    for folder in options.cases:
        print(f"== {folder.name}")
        try:
            check(folder, report)
        except Exception as error:
            report.error(folder.name, f"it stopped: {type(error).__name__}: {error}")
    failed = f"{len(report.failed)} do not hold" if report.failed else "all hold"
    print(f"{report.compared} values compared, {failed}")
    return 1 if report.failed or not report.compared else 0


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
