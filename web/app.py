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
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from agent.privacy import switch_off_telemetry
from index.export.formats import MEDIA_TYPES
from index.invalid_values import sentence_of
from index.recording_errors import Forbidden, InvalidInput, MossAgentError, UnknownRecording
from index.store.access import EVERYTHING, NOBODY, acting_as
from web.accounts import ACTOR, for_strangers
from web.api.auth import AuthMiddleware
from web.api.library_api import LIBRARY, create_library_api
from web.api.limiter import MIB, Limits
from web.api.service import Service
from web.guard import Guard
from web.jobs import Jobs
from web.uploads import Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace

MOST_POINTS = 8_000
"""Points of a waveform in one answer; no screen is wider."""

FRESH = {"Cache-Control": "private, no-cache"}


def create_app(workspace: Workspace, jobs: Jobs, host: str = "127.0.0.1", accounts: bool = False) -> FastAPI:
    """The whole application: own routes, Gradio's page, and the guard around both.

    Args:
        workspace: An open workspace.
        jobs: The queue of files.
        host: The address that will be listened on; see ``web.guard`` for the names it answers to.
        accounts: Whether people sign in (``web.accounts``).

    Raises:
        MossAgentError: The settings of signing in do not fit together.
    """
    switch_off_telemetry()
    uploads = Uploads(workspace.home, workspace.is_shared, workspace.identify)
    with acting_as(EVERYTHING):
        ready = {recording.id for recording in workspace.recordings() if recording.status == "ready"}
        uploads.take_up(jobs, ready, partial(workspace.people.person, even_disabled=True))
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.arriving)
    mimetypes.add_type("application/javascript", ".js")

    import gradio

    from web.edits import add_edit_routes
    from web.page.handlers import Handlers
    from web.page.page import create_page
    from web.page.theme import head, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(MossAgentError, _said)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(StarletteHTTPException, _refused)
    add_routes(app, workspace)
    add_edit_routes(app, workspace)
    handlers = Handlers(workspace, jobs, uploads, accounts)

    @app.get("/changes")
    def changes(recording: str = "") -> Response:
        """What the page asks for every second: see ``Handlers.state``."""
        return PlainTextResponse(handlers.state(recording or None), headers=FRESH)

    names: list[str] = []
    if accounts:
        from web.account_pages import add_account_routes
        from web.accounts import SignedIn, Visitors, names_of
        from web.oidc import Provider

        workspace.require_people()
        visitors, names = Visitors(workspace), names_of(workspace.settings.page_url)
        provider = Provider(workspace.settings) if workspace.settings.oidc_url else None
        add_account_routes(app, workspace, visitors, provider)
    # The API lies behind the page's guard, so that it needs no key here either.
    service = Service(None, None, Limits(library_bytes=workspace.settings.max_upload_mb * MIB))
    api = create_library_api(workspace, jobs, uploads, service)
    app.mount(LIBRARY, AuthMiddleware(api, service, None, host, names))
    app.state.service = service
    gradio.mount_gradio_app(
        app,
        create_page(handlers, accounts),
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
    if accounts:
        app.add_middleware(SignedIn, visitors=visitors)
    app.add_middleware(Guard, host=host, names=names, accounts=accounts)
    return app


def add_routes(app: FastAPI, workspace: Workspace) -> None:
    """Make the page's own routes those of an application: audio, exports and summaries of a recording."""
    log = logging.getLogger(__name__)

    @app.api_route("/audio/{recording}", methods=["GET", "HEAD"])
    def audio(recording: str) -> Response:
        """The audio copy; ranges are answered, so that a player can seek."""
        identity = _known(workspace, recording)
        if not workspace.library.recording(recording).has_media:
            raise HTTPException(404, "This transcript was imported without its media; nothing can be played.")
        try:
            path = workspace.library.audio_path(identity)
        except MossAgentError as error:
            raise HTTPException(503, str(error)) from error
        if not path.exists():
            raise HTTPException(404, "The audio copy is not ready yet.")
        return FileResponse(path, media_type="audio/flac", headers=FRESH)

    @app.get("/peaks/{recording}")
    def peaks(
        recording: str,
        start: Annotated[float, Query(ge=0, allow_inf_nan=False)],
        end: Annotated[float, Query(gt=0, allow_inf_nan=False)],
        points: Annotated[int, Query(ge=1, le=MOST_POINTS)],
    ) -> Response:
        """How loud a stretch is, a byte a point."""
        try:
            data = workspace.peaks(_known(workspace, recording), start, end, points)
        except MossAgentError as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="application/octet-stream", headers=FRESH)

    @app.get("/timeline/{recording}")
    def timeline(recording: str) -> Response:
        """Who speaks when, and what else is heard."""
        return JSONResponse(workspace.timeline(_known(workspace, recording)).to_json(), headers=FRESH)

    @app.get("/topics/{recording}")
    def topics(recording: str) -> Response:
        """What it is about, and when."""
        found = workspace.topics(_known(workspace, recording))
        shown = [{"title": topic.title, "start": topic.start, "end": topic.end} for topic in found]
        return JSONResponse(shown, headers=FRESH)

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
    def summary(recording: str, template: str = "meeting", instruction: str = "") -> Response:
        """The summary as a Markdown file."""
        from index.export.markdown import to_markdown
        from web.page.chat_view import instructed_text

        found = workspace.library.recording(_known(workspace, recording))
        try:
            if instruction.strip():
                written = workspace.summarize_as(found.id, instruction, template)
                text = instructed_text(written, found, plays=False)
            else:
                text = to_markdown(workspace.summarize(found.id, template), found.title)
        except Forbidden as error:
            raise HTTPException(403, str(error)) from error
        except MossAgentError as error:
            log.info("no summary: %s", error)
            raise HTTPException(409, str(error)) from error
        return _download(text.encode(), f"{found.title} – {template}.md", "md")


async def _said(request: Request, error: Exception) -> Response:
    """What the page's own routes answer where something cannot be done: one sentence."""
    match error:
        case UnknownRecording():
            return PlainTextResponse("There is no such recording.", 404)
        case Forbidden():
            return PlainTextResponse(str(error), 403)
        case InvalidInput():
            return PlainTextResponse(str(error), 422)
    # The database is away or busy, a disk is full, an audio copy cannot be fetched.
    assert isinstance(error, MossAgentError)
    is_stranger = request.scope.get(ACTOR) == NOBODY
    return PlainTextResponse(for_strangers(error) if is_stranger else str(error), 503)


async def _refused(request: Request, error: Exception) -> Response:
    """A refusal as one sentence; as a page for whoever opened an address in a browser, such as a link."""
    from web.account_pages import page_of

    assert isinstance(error, StarletteHTTPException)
    told = str(error.detail)
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        body = f'<div class="card"><p>{escape(told)}</p></div>'
        return page_of("Not here", body, narrow=True, status=error.status_code)
    return PlainTextResponse(told, error.status_code, error.headers)


async def _not_valid(_: Request, error: Exception) -> Response:
    """What is wrong with a form or a query, as one sentence; what was sent, a password, is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return PlainTextResponse(sentence_of({**first, "loc": first["loc"][1:]}, "What was sent"), 422)


def _known(workspace: Workspace, recording: str) -> str:
    try:
        return workspace.library.recording(recording).id
    except UnknownRecording:
        raise HTTPException(404, "There is no such recording.") from None


def _download(data: bytes, name: str, format: str) -> Response:
    safe = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "-", name).strip(" .")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(safe)}"}
    return Response(data, media_type=MEDIA_TYPES[format], headers=headers)
