"""Corrections from the page: small JSON routes behind its guard, each one method of the workspace.

The page asks for them itself, not through Gradio: what is edited stays where it is while the rest of the page
goes on. Every answer holds the transcript's HTML as it is now; ``static/edit.js`` exchanges what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from index.recording_errors import MossAgentError, UnknownRecording
from web.page.transcript_view import render_transcript

if TYPE_CHECKING:
    from agent.workspace import Workspace
    from index.corrections.correcting import Changed

BY = "page"
"""Who made a correction, in the history."""


class Edit(BaseModel):
    """What is to be corrected."""

    action: Literal["text", "speaker", "split", "merge", "undo", "redo"]
    segments: list[int] = Field(default=[], max_length=10_000)
    """Numbers of the sentences."""
    versions: dict[int, int] = Field(default={}, max_length=10_000)
    """The version of each sentence that the page shows."""
    text: str = Field(default="", max_length=100_000)
    speaker: str = Field(default="", max_length=1_000)
    at: int = 0
    """The character before which a sentence is split."""


def add_edit_routes(app: FastAPI, workspace: Workspace) -> None:
    """Add the routes that correct and that tell what was corrected."""

    @app.get("/edits/{recording}")
    def changes(recording: str, since: int = 0) -> JSONResponse:
        """What changed since a revision, and the transcript."""
        return _answer(workspace, recording, lambda: workspace.changes_since(recording, since), since)

    @app.get("/edits/{recording}/history")
    def history(recording: str, segment: int | None = None) -> list[dict[str, Any]]:
        """What was corrected, newest first."""
        try:
            known = workspace.library.recording(recording).id
            return [item.to_json() for item in workspace.correction_history(known, segment)]
        except UnknownRecording as error:
            raise HTTPException(404, str(error)) from error

    @app.post("/edits/{recording}")
    def edit(recording: str, edit: Edit) -> JSONResponse:
        """Correct something."""
        return _answer(workspace, recording, lambda: _do(workspace, recording, edit))


def _do(workspace: Workspace, recording: str, edit: Edit) -> Changed:
    numbers, versions = edit.segments, edit.versions
    if edit.action in ("undo", "redo"):
        return workspace.undo_correction(recording, redo=edit.action == "redo")
    if edit.action == "speaker":
        return workspace.give_speaker(recording, numbers, edit.speaker, versions, BY)
    if edit.action == "merge":
        return workspace.merge_sentences(recording, numbers, versions, BY)
    if len(numbers) != 1:
        raise MossAgentError("One sentence can be corrected at a time.")
    if edit.action == "split":
        return workspace.split_sentence(recording, numbers[0], edit.at, versions, BY)
    return workspace.correct_sentence(recording, numbers[0], edit.text, versions, BY)


def _answer(
    workspace: Workspace, recording: str, correct: Callable[[], Changed], seen: int = -1
) -> JSONResponse:
    """What changed, with the transcript as it is now unless that was seen; if refused, why, in a sentence."""
    refused = ""
    try:
        # The page names a recording by its whole id.
        workspace.library.recording(recording)
        changed = correct()
    except UnknownRecording as error:
        raise HTTPException(404, str(error)) from error
    except MossAgentError as error:
        # No status of its own: a browser would complain of it in its console.
        refused = str(error)
        changed = workspace.changes_since(recording, workspace.library.recording(recording).revision)
    found = workspace.library.recording(recording)
    html = ""
    if changed.revision != seen:
        segments, comments = workspace.library.segments(found.id), workspace.library.comments(found.id)
        html = render_transcript(found, segments, comments)
    return JSONResponse({**changed.to_json(), "error": refused, "html": html})
