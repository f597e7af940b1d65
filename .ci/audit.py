"""Compare the versions of our dependencies with known advisories; exit code 1 where one is affected.

    .venv/bin/python .ci/audit.py             constraints.txt, offline, against .ci/advisories.json
    .venv/bin/python .ci/audit.py --installed also what is installed beside this Python
    .venv/bin/python .ci/audit.py --renew     ask OSV (https://osv.dev) about our packages, write it anew

The list holds advisories in OSV's form (https://ossf.github.io/osv-schema/), cut to what is compared here.
What affects a pinned version but not this program is accepted by its id, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).parent
ADVISORIES = HERE / "advisories.json"
CONSTRAINTS = HERE.parent / "constraints.txt"
OSV = "https://api.osv.dev/v1/query"


def pinned(constraints: str) -> dict[str, str]:
    """Names and versions of a file of constraints; lines without ``==`` are left out."""
    versions = {}
    for line in constraints.splitlines():
        text = line.partition("#")[0].strip()
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        exact = [part.version for part in requirement.specifier if part.operator == "=="]
        if exact:
            versions[canonicalize_name(requirement.name)] = exact[0]
    return versions


def is_affected(version: str, affected: dict[str, Any]) -> bool:
    """Whether a version is in one of an advisory's ranges of versions, or listed by it."""
    if version in affected.get("versions", ()):
        return True
    wanted = Version(version)
    return any(_in_range(wanted, entry["events"]) for entry in affected.get("ranges", ()))


def _in_range(wanted: Version, events: list[dict[str, str]]) -> bool:
    """OSV's rule: affected from the last ``introduced`` on, up to ``fixed`` or through ``last_affected``."""
    inside = False
    steps = [(_start(value), kind) for event in events for kind, value in event.items()]
    # Of two at one version, what ends a range comes before what begins the next.
    for at, kind in sorted(steps, key=lambda step: (step[0], step[1] == "introduced")):
        if kind == "introduced" and wanted >= at:
            inside = True
        elif (kind == "fixed" and wanted >= at) or (kind == "last_affected" and wanted > at):
            inside = False
    return inside


def _start(value: str) -> Version:
    return Version("0.dev0" if value == "0" else value)


def findings(
    versions: dict[str, str], advisories: Iterable[dict[str, Any]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each version that an advisory affects, with the advisory."""
    for advisory in advisories:
        if "withdrawn" in advisory:
            continue
        for affected in advisory["affected"]:
            name = canonicalize_name(affected["package"]["name"])
            try:
                if name in versions and is_affected(versions[name], affected):
                    yield name, versions[name], advisory
                    break
            except InvalidVersion:
                yield name, versions[name], advisory  # what cannot be compared must be looked at
                break


def audit(versions: dict[str, str], known: dict[str, Any], whole: bool = True) -> tuple[list[str], list[str]]:
    """What must be done, and what is accepted, a sentence each.

    Args:
        versions: By name.
        known: The list.
        whole: Whether these are all versions, so that what is accepted must affect one of them.
    """
    wrong, accepted = [], []
    reasons = dict(known["accepted"])
    met = set()
    for name, version, advisory in findings(versions, known["advisories"]):
        ids = [advisory["id"], *advisory.get("aliases", ())]
        told = f"{name} {version}: {' '.join(ids)}, {advisory.get('summary', '').rstrip('.')}."
        reason = next((reasons[number] for number in ids if number in reasons), None)
        met.update(ids)
        if reason:
            accepted.append(f"{told} Accepted: {reason}")
            continue
        fixes = sorted(set(_fixes(name, advisory)), key=Version)
        do = (
            f"update to {fixes[-1]} or later"
            if fixes
            else "there is no version without it; see whether it is used"
        )
        wrong.append(f"{told} What to do: {do}.")
    for number in reasons if whole else ():
        package = next(
            (
                canonicalize_name(affected["package"]["name"])
                for advisory in known["advisories"]
                if number in (advisory["id"], *advisory.get("aliases", ()))
                for affected in advisory["affected"]
            ),
            None,
        )
        if package is None or (package in versions and number not in met):
            wrong.append(f"{number} is accepted but affects nothing any more; remove it from `accepted`.")
    return wrong, accepted


def _fixes(name: str, advisory: dict[str, Any]) -> Iterator[str]:
    for affected in advisory["affected"]:
        if canonicalize_name(affected["package"]["name"]) == name:
            for entry in affected.get("ranges", ()):
                yield from (event["fixed"] for event in entry["events"] if "fixed" in event)


def renewed(known: dict[str, Any], names: Iterable[str], url: str = OSV) -> dict[str, Any]:
    """The list with what OSV knows of these packages today; what is accepted stays."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(names):
        page = ""
        while True:
            asked = {"package": {"name": name, "ecosystem": "PyPI"}, **({"page_token": page} if page else {})}
            request = urllib.request.Request(
                url, json.dumps(asked).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                document = json.load(answer)
            for advisory in document.get("vulns", ()):
                found[advisory["id"]] = _cut(advisory)
            page = document.get("next_page_token", "")
            if not page:
                break
    # The same advisory comes under several ids; one of the accepted ids, or the first, stands for all.
    kept: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for number in sorted(found, key=lambda number: (number not in known["accepted"], number)):
        ids = {number, *found[number].get("aliases", ())}
        if not ids & seen:
            kept[number] = found[number]
        seen |= ids
    day = datetime.now(UTC).date().isoformat()
    return known | {"renewed": day, "advisories": [kept[number] for number in sorted(kept)]}


def _cut(advisory: dict[str, Any]) -> dict[str, Any]:
    affected = [
        {
            "package": {"ecosystem": "PyPI", "name": entry["package"]["name"]},
            "ranges": [
                {"type": "ECOSYSTEM", "events": part["events"]}
                for part in entry.get("ranges", ())
                if part.get("type") == "ECOSYSTEM"
            ],
            **({} if entry.get("ranges") else {"versions": entry.get("versions", [])}),
        }
        for entry in advisory.get("affected", ())
        if entry.get("package", {}).get("ecosystem") == "PyPI"
    ]
    kept = {key: advisory[key] for key in ("id", "aliases", "summary", "withdrawn") if key in advisory}
    return kept | {"affected": affected}


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Compare dependencies with known advisories.")
    parser.add_argument("--advisories", type=Path, default=ADVISORIES)
    parser.add_argument("--constraints", type=Path, default=CONSTRAINTS)
    parser.add_argument("--installed", action="store_true", help="also what is installed")
    parser.add_argument("--renew", action="store_true", help="ask OSV and write the list anew")
    given = parser.parse_args(arguments)
    known = json.loads(given.advisories.read_text(encoding="utf-8"))
    versions = pinned(given.constraints.read_text(encoding="utf-8"))
    if given.renew:
        known = renewed(known, versions)
        given.advisories.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong, accepted = audit(versions, known)
    if given.installed:
        there = {canonicalize_name(each.name): each.version for each in metadata.distributions() if each.name}
        others = {name: version for name, version in there.items() if versions.get(name) != version}
        more, also_accepted = audit(others, known, whole=False)
        wrong, accepted = wrong + more, accepted + also_accepted
    for line in accepted:
        print(line)
    for line in wrong:
        print(line, file=sys.stderr)
    count, day = len(known["advisories"]), known["renewed"]
    print(f"{len(versions)} versions compared with {count} advisories of {day}: {len(wrong)} to act on.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
