"""The web application around the page: audio and exports.

Nothing of the home folder is opened to Gradio's file route; audio and exports have routes of their own
that accept the id of a recording and nothing else.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import FastAPI, HTTPException
from starlette.responses import FileResponse, Response

from agent.privacy import switch_off_telemetry
from index.recording_errors import MossAgentError, UnknownRecording
from web.guard import Guard
from web.jobs import Jobs
from web.uploads import Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace

MEDIA_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


def create_app(workspace: Workspace, jobs: Jobs, host: str = "127.0.0.1") -> FastAPI:
    """The whole application: own routes, Gradio's page, and the guard around both.

    Args:
        workspace: An open workspace.
        jobs: The queue of files.
        host: The address that will be listened on; see ``web.guard`` for the names it answers to.
    """
    switch_off_telemetry()
    uploads = Uploads(workspace.home)
    _take_up(workspace, jobs, uploads)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.arriving)
    mimetypes.add_type("application/javascript", ".js")

    import gradio

    from web.page.page import create_page
    from web.page.theme import head, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(app, workspace)
    gradio.mount_gradio_app(
        app,
        create_page(workspace, jobs, uploads),
        "/",
        theme=theme(),
        head=head(),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        favicon_path=str(Path(__file__).parent / "page" / "static" / "icon.svg"),
        max_file_size=workspace.settings.max_upload_mb * 2**20,
    )
    app.add_middleware(Guard, host=host)
    return app


def _take_up(workspace: Workspace, jobs: Jobs, uploads: Uploads) -> None:
    """Show the uploads of an earlier run as stopped, but for those that were added at its very end."""
    ready = {recording.id for recording in workspace.library.recordings() if recording.status == "ready"}
    for one in uploads.left_over():
        release = partial(uploads.release, one.name)
        if one.recording in ready:
            release()
        else:
            jobs.submit(one.path, one.title, one.speakers, release, "stopped", one.recording, track=one.track)


def _add_routes(app: FastAPI, workspace: Workspace) -> None:
    log = logging.getLogger(__name__)

    @app.api_route("/audio/{recording}", methods=["GET", "HEAD"])
    def audio(recording: str) -> Response:
        """The audio copy; ranges are answered, so that a player can seek."""
        path = workspace.library.audio_path(_known(workspace, recording))
        if not path.exists():
            raise HTTPException(404, "The audio copy is not ready yet.")
        return FileResponse(path, media_type="audio/flac", headers={"Cache-Control": "private, no-cache"})

    @app.get("/health")
    def health() -> dict[str, int]:
        """That the page answers and its library can be read; a container asks this (docker/healthy.py)."""
        return {"recordings": len(workspace.library.recordings())}

    @app.get("/export/{recording}.{format}")
    def export(recording: str, format: str) -> Response:
        """The transcript as a file."""
        if format not in MEDIA_TYPES:
            raise HTTPException(404, f"Unknown format {format}.")
        found = workspace.library.recording(_known(workspace, recording))
        return _download(workspace.export(found.id, format), f"{found.title}.{format}", format)

    @app.get("/summary/{recording}.md")
    def summary(recording: str, template: str = "meeting") -> Response:
        """The summary as a Markdown file."""
        from index.export.markdown import to_markdown

        found = workspace.library.recording(_known(workspace, recording))
        try:
            text = to_markdown(workspace.summarize(found.id, template), found.title)
        except MossAgentError as error:
            log.info("no summary: %s", error)
            raise HTTPException(409, str(error)) from error
        return _download(text.encode(), f"{found.title} – {template}.md", "md")


def _known(workspace: Workspace, recording: str) -> str:
    try:
        return workspace.library.recording(recording).id
    except UnknownRecording:
        raise HTTPException(404, "There is no such recording.") from None


def _download(data: bytes, name: str, format: str) -> Response:
    safe = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "-", name).strip(" .")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(safe)}"}
    return Response(data, media_type=MEDIA_TYPES[format], headers=headers)
