"""The page with a language model behind it: thoughts fold away, Stop reaches the model, the foot is told."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio import ChatMessage

from agent.settings import Settings
from agent.workspace import Workspace
from tests.support.api_serving import serving
from tests.support.conversing import HARBOUR, prepare_home
from tests.support.moss_backend import RuleBackend
from tests.support.preloaded import Program
from tests.support.waiting import wait_until
from web.jobs import Jobs
from web.page.handlers import Handlers
from web.uploads import Uploads

SEARCH = '<tool_call>{"name": "search_recordings", "arguments": {"query": "rowing club"}}</tool_call>'


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_home(tmp_path_factory.mktemp("prepared") / "home")


@pytest.fixture
def backend() -> RuleBackend:
    def think(messages: Any, tools: list[str]) -> str:
        results = [str(message["content"]) for message in messages if message["role"] == "tool"]
        if len(results) < 2:
            return f"<think>Where <b>was</b> it?</think>{SEARCH}"
        line = next(line for line in results[-1].splitlines() if "rowing club this afternoon" in line)
        return f"<think>There.</think>“I'll call the rowing club this afternoon” {line.split(' ')[0]}"

    return RuleBackend(think=think)


@pytest.fixture
def handlers(prepared: Path, tmp_path: Path, backend: RuleBackend) -> Iterator[Handlers]:
    home = tmp_path / "home"
    shutil.copytree(prepared, home)
    with serving(backend) as served:
        workspace = Workspace(Settings(home=home, model=f"{served.url}/v1"))
        yield Handlers(workspace, Jobs(workspace.add), Uploads(home))
        workspace.close()


def titles(messages: list[ChatMessage]) -> list[tuple[str, str]]:
    return [
        (
            str((message.metadata or {}).get("title", message.role)),
            str((message.metadata or {}).get("status", "")),
        )
        for message in messages
    ]


def test_thoughts_are_steps_that_fold_away_and_no_part_of_the_answer(handlers: Handlers) -> None:
    *_, (messages, _, _, _) = handlers.ask("who calls the club?", "one", HARBOUR, {"thread": "t"})
    shown = titles(messages)
    assert shown[0] == ("user", "")
    assert shown[1][0].startswith("Search for “who calls the club?”")
    assert shown[2] == ("Thought", "done")
    assert shown[3][0].startswith("Search for “rowing club”")
    assert shown[4:] == [("Thought", "done"), ("assistant", "")]
    assert "<b>" not in messages[2].content.replace("\\<", "")
    assert "There." not in messages[-1].content
    assert "#play/" in messages[-1].content


def test_stop_reaches_a_model_that_is_thinking(handlers: Handlers, backend: RuleBackend) -> None:
    _ = handlers.workspace.assistant
    endless = " ".join(f"thought {number}" for number in range(4000))
    backend._think = lambda *_: f"<think>{endless}</think>No."
    backend.pace = 0.01
    answer = handlers.ask("who calls the club?", "one", HARBOUR, {"thread": "t"})
    stopped = None
    for messages, *_ in answer:
        if stopped is None and titles(messages)[-1][0] == "Thinking":
            handlers.stopped({"thread": "t"})
            stopped = time.monotonic()
    assert stopped is not None, "no thought was shown"
    assert time.monotonic() - stopped < 15
    end = time.monotonic() + 10
    written = -1
    while written != backend.written and time.monotonic() < end:
        written = backend.written
        time.sleep(0.3)
    assert 0 < written < 20_000
    assert titles(messages)[-2][0] in ("Thinking", "Thought")
    assert titles(messages)[-2][1] == "done"
    assert messages[-1].content == "Stopped."


def test_ctrl_c_ends_an_answer_on_the_command_line(prepared: Path, tmp_path: Path) -> None:
    endless = " ".join(f"thought {number}" for number in range(40_000))
    backend = RuleBackend(think=lambda *_: f"<think>{endless}</think>No.", pace=0.01)
    backend.hears = False
    home = tmp_path / "home"
    shutil.copytree(prepared, home)
    with serving(backend) as served:
        command = Program(
            "from agent.cli import main; main()",
            ["ask", "who calls the club?"],
            {"MOSS_AGENT_HOME": str(home), "MOSS_AGENT_MODEL": f"{served.url}/v1"},
            tmp_path / "log",
        )
        wait_until(lambda: any(tools for _, tools, _ in backend.chats))
        os.kill(command.pid, signal.SIGINT)
        out = command.stdout.read()
        command.wait(20)
    assert (command.poll(), out) == (1, "")
    assert (tmp_path / "log").read_text().strip() == "moss-agent: The answer was stopped."


def test_the_foot_names_the_server_once_it_is_known(handlers: Handlers) -> None:
    looking, seen = handlers.engines("")
    assert "Looking for engines" in looking
    engines = handlers.workspace.engines
    shown, seen = handlers.engines(seen)
    assert f"<b>RuleMoss-1B at {engines.elsewhere}</b>" in shown
    assert f"Questions and recordings are sent to {engines.elsewhere}." in shown
    unchanged, _ = handlers.engines(seen)
    assert unchanged != shown
    assert "Everything stays" not in handlers._shelf(None)
