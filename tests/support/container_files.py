"""Reads Dockerfile, .dockerignore and compose.yaml as far as this project uses them; the rest is an error.

An unknown instruction or key fails instead of being passed over: what is tried here is what the files say.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INSTRUCTIONS = {
    "FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip
SERVICE_KEYS = {
    "image", "build", "environment", "ports", "volumes", "healthcheck", "init", "read_only", "tmpfs",
    "cap_drop", "cap_add", "security_opt", "restart", "stop_grace_period", "extra_hosts",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One instruction: ``RUN`` and what follows it, line continuations joined."""

    instruction: str
    text: str

    def listed(self) -> list[str]:
        """The arguments of an instruction in its JSON form."""
        return json.loads(self.text)


@dataclass
class Stage:
    """What stands between one ``FROM`` and the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)


def read_dockerfile(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order.

    Raises:
        ValueError: It holds an instruction that is not known here.
    """
    stages: list[Stage] = []
    lines = [
        line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    for logical in "\n".join(lines).replace("\\\n", "\0").split("\n"):
        instruction, _, rest = re.sub(r"\0\s*", " ", logical).strip().partition(" ")
        if instruction not in INSTRUCTIONS:
            raise ValueError(f"{path.name}: {instruction} is not known here")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip()))
        else:
            stages[-1].steps.append(Step(instruction, rest.strip()))
    return stages


def expanded(text: str, values: Mapping[str, str]) -> str:
    """A text with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced; unset names are empty."""
    return re.sub(
        r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))",
        lambda match: values.get(match[1] or match[3]) or match[2] or "",
        text,
    )


def assignments(text: str) -> dict[str, str]:
    """``A=1 B="two words"`` of ENV, or ``NAME`` of ARG (empty)."""
    return {name: value for name, _, value in (word.partition("=") for word in shlex.split(text))}


def sent(context: Path) -> Iterator[Path]:
    """Files of a build context that .dockerignore leaves, as paths relative to it."""
    rules = [
        (line.startswith("!"), line.lstrip("!").strip("/"))
        for line in (context / ".dockerignore").read_text().split("\n")
        if line and not line.startswith("#")
    ]

    def is_left_out(path: Path) -> bool:
        left_out = False
        for keeps, pattern in rules:
            if any(_matches(part, pattern) for part in (path, *path.parents[:-1])):
                left_out = not keeps
        return left_out

    tops = {pattern.split("/")[0] for keeps, pattern in rules if keeps}
    for top in sorted(path for path in context.iterdir() if path.name in tops):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and not is_left_out(path.relative_to(context)):
                yield path.relative_to(context)


def _matches(path: Path, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.name, pattern[3:])
    parts, wanted = path.parts, pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def read_service(path: Path, values: Mapping[str, str]) -> dict[str, Any]:
    """The one service of a compose file, with variables replaced.

    Raises:
        ValueError: It has a key that is not known here.
    """
    import yaml

    (service,) = yaml.safe_load(expanded(path.read_text(), values))["services"].values()
    if unknown := service.keys() - SERVICE_KEYS:
        raise ValueError(f"{path.name}: {', '.join(sorted(unknown))} is not known here")
    return service
