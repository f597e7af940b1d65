"""`moss-agent demo`: the sample meeting in a home of its own, and questions that show what can be asked."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.cli import output
from agent.workspace import Workspace
from index.audio.decode import file_id
from index.recording_errors import MossAgentError

QUESTIONS = (
    "what was said at minute 2?",
    "what did we decide about the sound stage?",
    "who calls the rowing club?",
    "write the meeting summary",
)

FREE_BYTES = 500_000_000
"""What a demo needs: joined weights (145 MB), the audio copy, vectors and what SQLite writes beside them."""


@contextmanager
def demo_home(chosen: Path | None) -> Iterator[Path]:
    """A home for the demo: the one that was chosen, which stays, or one that is deleted at the end.

    Raises:
        MossAgentError: There is no room for it.
    """
    if chosen is not None:
        yield chosen
        return
    place = Path(tempfile.gettempdir())
    if shutil.disk_usage(place).free < FREE_BYTES:
        raise MossAgentError(
            f"{place} has less than {FREE_BYTES // 10**6} MB left; choose another place with --home."
        )
    folder = Path(tempfile.mkdtemp(prefix="moss-agent-demo-"))
    # The usual end of a container or a service must not leave it behind.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield folder
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder, ignore_errors=True)


def converse(workspace: Workspace, sample: Path, title: str, json: bool) -> dict[str, Any]:
    """Add the sample, unless it is there, and ask about it; prints it all unless it is wanted as JSON.

    Returns:
        ``{"home", "recording", "answers": [{"question", "answer", …}]}``.

    Raises:
        MossAgentError: The home holds recordings of somebody.
    """
    wanted = file_id(sample)
    recordings = workspace.library.recordings()
    if any(recording.id != wanted for recording in recordings):
        raise MossAgentError(
            f"{workspace.home} holds recordings already; choose an empty folder with `demo --home`."
        )
    if not any(recording.status == "ready" for recording in recordings):
        if not json:
            output.say("Adding the sample meeting, five minutes long …")
        with output.ingest_progress(quiet=json) as reporting:
            recording = workspace.add(sample, title, progress=reporting(title))
        if not json:
            output.show_added(recording, workspace.library.segment_count(recording.id))
    answers = []
    for question in QUESTIONS:
        if not json:
            output.say(f"\n> {question}\n")
        with output.stoppable() as cancel:
            answer = workspace.assistant.ask(question, wanted, None, cancel)
        answers.append({"question": question, **answer.to_json()})
        if not json:
            output.show_answer(answer, workspace.library)
        if cancel.is_set():
            raise KeyboardInterrupt
    return {"home": str(workspace.home), "recording": wanted, "answers": answers}
