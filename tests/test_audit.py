"""Our dependencies against known advisories: what is affected fails, what is accepted has its reason."""

from __future__ import annotations

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tests.conftest import ROOT

_spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
assert _spec is not None and _spec.loader is not None
audit: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)


@pytest.fixture
def known() -> dict[str, Any]:
    return json.loads(audit.ADVISORIES.read_text(encoding="utf-8"))


def run(tmp_path: Path, constraints: str, known: dict[str, Any], capsys) -> tuple[int, str]:
    (tmp_path / "constraints.txt").write_text(constraints)
    (tmp_path / "advisories.json").write_text(json.dumps(known))
    given = ["--constraints", tmp_path / "constraints.txt", "--advisories", tmp_path / "advisories.json"]
    code = audit.main([str(part) for part in given])
    out, err = capsys.readouterr()
    return code, out + err


def test_nothing_that_we_pin_is_affected_but_what_is_accepted(capsys):
    assert audit.main([]) == 0
    out, _ = capsys.readouterr()
    for number in ("CVE-2026-45829", "CVE-2026-45833"):
        assert number in out and "Rust" in out


def test_an_affected_version_fails_and_says_what_to_update_to(tmp_path, known, capsys):
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pins = ["starlette==1.0.0" if pin.startswith("starlette==") else pin for pin in pins]
    code, told = run(tmp_path, "\n".join(pins), known, capsys)
    assert code == 1
    assert "CVE-2026-48710" in told and "update to 1.0.1" in told


def test_an_advisory_that_is_not_accepted_fails_also_without_a_better_version(tmp_path, known, capsys):
    del known["accepted"]["CVE-2026-45829"]
    code, told = run(tmp_path, "chromadb==1.5.9\n", known, capsys)
    assert code == 1 and "GHSA-f4j7-r4q5-qw2c" in told


def test_what_is_accepted_for_nothing_is_to_be_removed(tmp_path, known, capsys):
    code, told = run(tmp_path, "chromadb==1.6.0\n", known, capsys)
    assert code == 1 and "CVE-2026-45829" in told and "remove" in told
    code, _ = run(tmp_path, "numpy==2.4.6\n", known, capsys)
    assert code == 0


@pytest.mark.parametrize(
    "version,affected",
    [
        ("0.3.80", True),
        ("0.3.81", False),
        ("0.9", False),
        ("1.0.0", True),
        ("1.2.4.post1", True),
        ("1.2.5", False),
    ],
)
def test_an_advisory_may_have_several_ranges(version, affected):
    ranges = [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.3.81"}]},
        {"type": "ECOSYSTEM", "events": [{"introduced": "1.0.0"}, {"fixed": "1.2.5"}]},
    ]
    joined = [{"type": "ECOSYSTEM", "events": [event for each in ranges for event in each["events"]]}]
    assert audit.is_affected(version, {"ranges": ranges}) == affected
    assert audit.is_affected(version, {"ranges": joined}) == affected


def test_the_last_affected_version_is_affected_and_the_next_is_not():
    one = {"ranges": [{"events": [{"introduced": "1.0.0"}, {"last_affected": "1.5.9"}]}]}
    assert [audit.is_affected(version, one) for version in ("0.9", "1.0.0", "1.5.9", "1.5.10")] == [
        False, True, True, False,
    ]  # fmt: skip
    assert audit.is_affected("2.0", {"versions": ["2.0"]})
    assert audit.is_affected("1.0a1", {"ranges": [{"events": [{"introduced": "0"}]}]})


def test_the_list_is_well_formed(known):
    names = audit.pinned((ROOT / "constraints.txt").read_text()).keys() | {"authlib", "ray"}
    numbers = [advisory["id"] for advisory in known["advisories"]]
    assert len(numbers) == len(set(numbers))
    for advisory in known["advisories"]:
        for affected in advisory["affected"]:
            assert audit.canonicalize_name(affected["package"]["name"]) in names
            for event in (event for entry in affected["ranges"] for event in entry["events"]):
                ((kind, value),) = event.items()
                assert kind in ("introduced", "fixed", "last_affected") and Version(value)
    every = {
        number
        for advisory in known["advisories"]
        for number in (advisory["id"], *advisory.get("aliases", ()))
    }
    assert known["accepted"].keys() <= every and all(known["accepted"].values())


def test_the_list_is_renewed_from_osv_and_keeps_what_was_accepted(known):
    vulns = {
        "one": [
            {"id": "PYSEC-1", "aliases": ["CVE-1"], "details": "long", "affected": []},
            {"id": "CVE-1", "affected": []},
        ],
        "two": [
            {
                "id": "GHSA-2",
                "summary": "Bad",
                "affected": [
                    {
                        "package": {"ecosystem": "PyPI", "name": "two"},
                        "ranges": [
                            {"type": "GIT", "events": [{"introduced": "abc"}]},
                            {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]},
                        ],
                        "versions": ["1"],
                    },
                    {"package": {"ecosystem": "npm", "name": "two"}},
                ],
            }
        ],
    }

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = vulns[asked["package"]["name"]]
            page = (
                {"vulns": found[:1], "next_page_token": "more"}
                if "page_token" not in asked
                else {"vulns": found[1:]}
            )
            body = json.dumps(page).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        renewed = audit.renewed(
            known, ["two", "one"], f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        )
    finally:
        server.shutdown()
        server.server_close()
    assert renewed["accepted"] == known["accepted"]
    assert [advisory["id"] for advisory in renewed["advisories"]] == ["CVE-1", "GHSA-2"]
    (affected,) = renewed["advisories"][1]["affected"]
    assert affected["ranges"] == [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]}]
    assert list(audit.findings({"two": "1.9"}, renewed["advisories"])) and not list(
        audit.findings({"two": "2"}, renewed["advisories"])
    )
