"""What the container's files say, as far as it can be held without building anything."""

from __future__ import annotations

import difflib
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from agent.settings import Settings
from tests.conftest import ROOT
from tests.support.container_files import assignments, expanded, read_dockerfile, read_service, sent

PROGRAM = ROOT / "docker" / "moss-agent"


def steps(name: str) -> list[str]:
    return [
        f"{step.instruction} {step.text}" for stage in read_dockerfile(ROOT / name) for step in stage.steps
    ]


def test_the_cuda_image_differs_only_in_what_a_gpu_needs():
    lines = [line for line in difflib.ndiff(steps("Dockerfile"), steps("Dockerfile.cuda")) if line[0] in "+-"]
    (installed,) = [line for line in lines if line.startswith("+ RUN")]
    assert "nvidia-cublas-cu12==" in installed
    before, after = (
        assignments(next(line for line in lines if line.startswith(f"{sign} ENV"))[6:]) for sign in "-+"
    )
    assert before.items() < after.items()
    assert after.keys() - before.keys() == {
        "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    }  # fmt: skip
    assert len(lines) == 3


def test_the_page_is_published_to_this_machine_only_and_everything_is_kept_in_one_volume():
    service = read_service(ROOT / "compose.yaml", {})
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]
    assert service["volumes"] == ["library:/data"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    image = read_dockerfile(ROOT / "Dockerfile")[-1]
    environment = next(assignments(step.text) for step in image.steps if step.instruction == "ENV")
    assert environment["MOSS_AGENT_HOME"].startswith("/data/") and environment["HF_HOME"].startswith("/data/")
    checks = [step.text for step in image.steps if step.instruction == "HEALTHCHECK"]
    assert len(checks) == 1 and all(word in checks[0] for word in service["healthcheck"]["test"][1:])


def test_the_first_process_can_hand_the_signal_to_stop_to_another_users_program():
    service = read_service(ROOT / "compose.yaml", {})
    assert not service["init"] or "KILL" in service["cap_add"]


def test_variables_of_a_compose_file_are_replaced():
    service = read_service(ROOT / "compose.yaml", {"PUID": "1234", "PORT": "80"})
    assert service["environment"]["PUID"] == 1234 and service["environment"]["PGID"] == 1000
    assert service["ports"] == ["127.0.0.1:80:7860"]
    assert expanded("$A ${A} ${B:-x}", {"A": "1"}) == "1 1 x"


def test_the_image_gets_the_program_and_no_tests_notes_or_caches():
    files = {str(path) for path in sent(ROOT)}
    assert {
        "Makefile",
        "setup.py",
        "constraints.txt",
        "docker/moss-agent",
        "web/sample/harbour_meeting.mp3",
    } <= files
    assert not [name for name in files if name.split("/")[0] in ("tests", "docs", "build", "dist", ".git")]
    assert not [name for name in files if name.endswith(".pyc")]


def test_the_images_python_is_one_the_program_runs_on():
    # Debian 12 has Python 3.11.
    assert {stage.base for stage in read_dockerfile(ROOT / "Dockerfile")} == {"debian:bookworm-slim"}
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11,<3.12"
    )


@pytest.fixture
def entrance(tmp_path: Path) -> Path:
    """The entry point, with commands that say what they were called with instead of doing it."""
    for name in ("setpriv", "chown", "stat"):
        command = tmp_path / name
        command.write_text('#!/bin/sh\necho "$(basename "$0") $*" >&2\necho 0:0\n')
        command.chmod(0o755)
    return tmp_path


def enter(stubs: Path, root: bool, **variables: str) -> subprocess.CompletedProcess[str]:
    identity = stubs / "id"
    identity.write_text(f"#!/bin/sh\necho {0 if root else 1000}\n")
    identity.chmod(0o755)
    environment = {"PATH": f"{stubs}:/usr/bin:/bin", **variables}
    return subprocess.run(
        ["sh", PROGRAM, "list"], env=environment, capture_output=True, text=True, check=False
    )


def test_it_becomes_the_user_that_is_named(entrance):
    assert os.access(PROGRAM, os.X_OK) and PROGRAM.stat().st_mode & stat.S_IXOTH
    told = enter(entrance, root=True, PUID="1234", PGID="2345").stderr
    assert "chown -R 1234:2345 /data" in told
    (privileges,) = [line for line in told.splitlines() if line.startswith("setpriv")]
    assert "--reuid 1234 --regid 2345 --clear-groups" in privileges and privileges.endswith("moss-agent list")


def test_who_started_it_as_another_user_stays_that_user(entrance):
    told = enter(entrance, root=False).stderr
    assert "setpriv" not in told and "chown" not in told


@pytest.mark.parametrize("value", ["me", "-1", "10 00", "$(id)"])
def test_what_is_no_number_is_refused_in_one_sentence(entrance, value):
    refused = enter(entrance, root=True, PUID=value)
    assert refused.returncode == 2 and "PUID" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_the_health_check_fails_where_nothing_answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docker")
    import healthy

    monkeypatch.setattr(healthy, "ADDRESSES", ("http://127.0.0.1:9/health",))
    assert healthy.main() == 1
    sys.modules.pop("healthy")


def test_a_teams_parts_have_versions_and_only_the_proxy_is_published():
    parts = yaml.safe_load((ROOT / "compose.team.yaml").read_text())["services"]
    pages = {name: part for name, part in parts.items() if "build" in part}
    assert set(pages) == {"page-1", "page-2"}
    for name, part in parts.items():
        assert part["image"] == "moss-agent-team" or re.search(r":\d[\w.-]*$", part["image"]), name
        assert ("ports" in part) == (name == "nginx")
    settings = {f"MOSS_AGENT_{name.upper()}" for name in Settings.model_fields}
    for page in pages.values():
        assert {name for name in page["environment"] if name.startswith("MOSS_")} <= settings
        assert page["read_only"] and page["cap_drop"] == ["ALL"]
    proxy = (ROOT / "docker" / "nginx.conf").read_text()
    assert all(f"server {name}:7860" in proxy for name in pages)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(parts["page-1"]["build"]["args"]["EXTRAS"].split()) <= set(extras)


def test_a_teams_chroma_is_reached_through_the_proxy_that_asks_for_a_token_alone():
    team = yaml.safe_load((ROOT / "compose.team.yaml").read_text())
    services, networks = team["services"], team["networks"]
    chroma, proxy, page = services["chroma"], services["vectors"], services["page-1"]
    # The server in Rust; nothing else shares its network, and nothing of it is published.
    assert chroma["entrypoint"][0].endswith("/bin/chroma") and chroma["command"][0] == "run"
    assert not any("ports" in service for service in (chroma, proxy))
    shared = [name for name, service in services.items() if "vectors" in service["networks"]]
    assert shared == ["vectors", "chroma"]
    assert networks["vectors"]["internal"] and chroma["networks"] == ["vectors"]
    assert page["environment"]["MOSS_AGENT_VECTORS"] == "http://vectors:8000"
    token = "${VECTORS_TOKEN"
    assert page["environment"]["MOSS_AGENT_VECTORS_TOKEN"].startswith(f"{token}:?")
    assert proxy["environment"]["VECTORS_TOKEN"].startswith(f"{token}:?")
    (mounted,) = proxy["volumes"]
    template = (ROOT / mounted.split(":")[0]).read_text()
    assert f'"Bearer {token}}}" 1;' in template and "return 401" in template
