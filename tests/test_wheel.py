"""The wheel: what it holds, and that it runs outside the checkout beside packages of the same names."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.wheel import build_wheel, install_wheel, run_apart

HOUSED = ("agent", "tools", "index", "web")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """`bin` of an environment in which other projects' `tools` and `agent` are installed as well."""
    folder = tmp_path_factory.mktemp("environment")
    programs = install_wheel(wheel, folder)
    for name in ("tools", "agent"):
        foreign = folder / "libraries" / name
        foreign.mkdir()
        (foreign / "__init__.py").write_text("WHOSE = 'of another project'\n")
    return programs


def test_it_holds_every_file_of_the_rooms_and_no_room_under_a_common_name(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"moss_agent_rooms/{path}" if path.parts[0] in HOUSED else str(path)
        for room in (*HOUSED, "moss_audio")
        for path in (file.relative_to(ROOT) for file in (ROOT / room).rglob("*"))
        if (ROOT / path).is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted | {"moss_agent.py"}
    assert {name.split("/")[0] for name in held} == {"moss_agent_rooms", "moss_audio", "moss_agent.py"}


def test_it_runs_elsewhere_beside_others_of_the_same_names(programs, tmp_path):
    version = run_apart([f"{programs}/moss-agent", "--version"], tmp_path)
    expected = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version.stdout.split() == ["moss-agent", expected], version.stderr
    listed = run_apart([f"{programs}/python", "-m", "moss_agent", "list", "--json"], tmp_path)
    assert listed.stdout.strip() == "[]", listed.stderr


def test_others_find_their_own_packages(programs, tmp_path):
    looked = "import agent, tools, moss_audio; print(agent.WHOSE == tools.WHOSE, moss_audio.__file__)"
    found = run_apart([f"{programs}/python", "-c", looked], tmp_path).stdout.split()
    assert found[0] == "True" and Path(found[1]).is_relative_to(programs.parent)
