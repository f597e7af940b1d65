"""``python -m moss_audio.evaluate``: ask a model every case, or score answers that are there already."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moss_audio.errors import DataError, MossAudioError
from moss_audio.evaluate.cases import read_cases, read_predictions
from moss_audio.evaluate.run_cases import RunOptions, run
from moss_audio.evaluate.scoring import Normaliser, as_json, as_markdown, make_report, read_spellings

INTERRUPTED = 130


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command = argparse.ArgumentParser(
        prog="python -m moss_audio.evaluate",
        description="Error rates, timestamp errors and accuracy over cases; see docs/evaluation.md.",
    )
    add = command.add_argument
    add("cases", type=Path, metavar="CASES.jsonl", help="one case a line")
    add("--model", metavar="NAME|FOLDER", help="a model to ask; without it, --predictions are scored")
    add("--predictions", type=Path, metavar="FILE", help='answers, {"id", "text"} a line')
    add("--output", type=Path, action="append", default=[], metavar="REPORT.json|.md", help="also a file")
    add("--limit", type=_positive, metavar="N", help="only the first N cases")
    add("--batch", type=_positive, default=1, metavar="N", help="cases asked at once (1)")
    add("--resume", action="store_true", help="continue a predictions file")
    add("--max-new-tokens", type=_positive, metavar="N", help="the longest answer")
    add("--thinking-budget", type=_positive, metavar="N", help="tokens of thought before the answer")
    add("--no-thinking", action="store_true", help="no thought before the answer")
    add("--spellings", type=Path, metavar="FILE", help="a Whisper checkpoint's normalizer.json")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 for an error, reported in one sentence, 130 for Ctrl-C."""
    command = parser()
    given = command.parse_args(arguments)
    if given.model is None and given.predictions is None:
        command.error("name a model with --model, or answers to score with --predictions")
    if any(path.suffix not in (".json", ".md") for path in given.output):
        command.error("--output must end in .json or .md")
    try:
        _evaluate(given)
    except MossAudioError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The answers so far are kept; continue with --resume.\n")
        return INTERRUPTED
    return 0


def _evaluate(given: argparse.Namespace) -> None:
    everything = read_cases(given.cases)
    cases = everything[: given.limit]
    normaliser = Normaliser(read_spellings(given.spellings) if given.spellings else None)
    path = given.predictions or given.cases.with_suffix(".predictions.jsonl")
    if given.model is not None:
        run(cases, path, _options(given))
    known = frozenset(case.id for case in everything)
    report = make_report(cases, read_predictions(path), normaliser, (str(given.cases), str(path)), known)
    for target in given.output:
        _write(target, as_json(report) if target.suffix == ".json" else as_markdown(report))
    sys.stdout.write(as_markdown(report))


def _options(given: argparse.Namespace) -> RunOptions:
    return RunOptions(
        model=given.model,
        batch=given.batch,
        resume=given.resume,
        max_new_tokens=given.max_new_tokens,
        thinking=False if given.no_thinking else None,
        thinking_budget=given.thinking_budget,
    )


def _write(target: Path, text: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report {target} cannot be written: {error}.") from error


if __name__ == "__main__":
    sys.exit(main())
