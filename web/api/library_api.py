"""The API for the library, ``/api/v1``: what other programs do with recordings (docs/api.md).

Each route is one call of the workspace; what may call it is decided in front of it (``web.api.auth``).
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response

from agent.answer import Answer, Event, StepFinished, StepStarted, TextDelta, ThoughtDelta, answer_of
from agent.instructed_summary import LONGEST_INSTRUCTION
from index.export.formats import MEDIA_TYPES
from index.invalid_values import field_of, sentence_of
from index.language_names import LANGUAGE_NAMES
from index.recording_errors import (
    AmbiguousRecording,
    Busy,
    Cancelled,
    ChangedMeanwhile,
    DiskFull,
    Forbidden,
    HomeInUse,
    InvalidInput,
    MediaError,
    MossAgentError,
    ReadOnly,
    SpeakerExists,
    TranscriptError,
    UnknownRecording,
    WouldLoseCorrections,
)
from index.records import Comment, Template
from index.store.library import LONGEST_COMMENT
from tools.toolbox import Seconds
from web.api.api_reference import reference_page
from web.api.chat import EventStream
from web.api.error_responses import RETRY_SECONDS, ApiError, as_api_error, bad_request
from web.api.limiter import BEAT_SECONDS, Ended, Feed, collected, first_item
from web.api.service import Service
from web.documents import (
    AnswerDocument,
    ChangedDocument,
    CitationDocument,
    CommentDocument,
    ConfirmedDocument,
    CorrectionDocument,
    Document,
    HeardDocument,
    HitsDocument,
    JobDocument,
    LikenessDocument,
    Links,
    OutlineDocument,
    RecordingDocument,
    RecordingsDocument,
    RenamedSpeakerDocument,
    SpeakerDocument,
    SummaryDocument,
    TalkTimeDocument,
    TranscriptDocument,
    VoicesDocument,
)
from web.jobs import Job, Jobs, hear_again, remove_recording
from web.uploads import Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace

LIBRARY = "/api/v1"
"""Where the API is mounted."""

BY = "API"
"""Who made a correction, in the history."""
Format = Literal["txt", "srt", "vtt", "md", "json", "docx"]
Result = TypeVar("Result")
Start = Annotated[Seconds | None, Query(alias="from", description="Start: seconds, or m:ss.")]
End = Annotated[Seconds | None, Query(alias="to", description="End, not included: seconds, or m:ss.")]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Asked(BaseModel):
    """What a request's body is made of; fields that do not exist are refused."""

    model_config = ConfigDict(extra="forbid")


class Title(Asked):
    """A recording's new title."""

    title: Name


class SpeakerName(Asked):
    """A speaker's new name."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    merge: bool = Field(default=False, description="Whether the name may be that of another speaker.")


class Correct(Asked):
    """What is to be corrected of a sentence: its text, or who says it."""

    text: Annotated[str, Field(max_length=10_000)] | None = None
    speaker: Annotated[str, Field(min_length=1, max_length=80)] | None = Field(
        default=None, description="A speaker there is, or a new one."
    )
    version: int | None = Field(default=None, description="As it was read; refused if it changed meanwhile.")


class Split(Asked):
    """Where a sentence is to be split."""

    at: int = Field(ge=0, description="The character before which it is split.")
    version: int | None = None


class Merge(Asked):
    """Sentences in a row that are to become one."""

    segments: list[int] = Field(min_length=2, max_length=10_000)
    versions: dict[int, int] = Field(default={}, description="Of each as it was read.")


class Instruction(Asked):
    """How a summary is wanted."""

    instruction: Annotated[str, Field(min_length=1, max_length=LONGEST_INSTRUCTION)] = Field(
        description="In plain words, such as: for the board, five lines."
    )
    template: Template | None = None


class Noted(Asked):
    """A comment, and the moment it is about."""

    at: Seconds
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_COMMENT)]


class NotedAgain(Asked):
    """Other words for a comment."""

    text: Annotated[str, Field(min_length=1, max_length=LONGEST_COMMENT)]


class Remember(Asked):
    """Whether voices may be remembered, which is biometric data."""

    remembered: bool


class Question(Asked):
    """A question about one recording or the whole library."""

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    recording: Name | None = Field(default=None, description="Id or title; by default the one it names.")
    thread: Name | None = Field(default=None, description="The conversation to go on with.")
    stream: bool = Field(default=True, description="False answers with one JSON document.")


class ListenQuestion(Asked):
    """A question about what can be heard in a stretch of at most ten minutes."""

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    start: Seconds
    end: Seconds


class ProblemDetail(Document):
    """What went wrong."""

    message: str = Field(description="One sentence.")
    type: str
    param: str | None = Field(description="The field that is meant.")
    code: str | None = Field(description="A word for programs.")


class Problem(Document):
    """Every refusal and failure."""

    error: ProblemDetail


class RemovedDocument(Document):
    """A recording that was deleted."""

    id: str
    title: str


_FILES: dict[str, Any] = {
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_EVENTS = """\
The answer as server-sent events, or with `stream: false` as one JSON document. `step`: a tool is used (its
name and arguments); text that came before it was said on the way and is no part of the answer. `token`: the
next piece of text. `citation`: what a claim rests on, with a link. `done`: the whole answer; it replaces the
pieces. `error`: one sentence, and the end. Closing the connection ends the work."""


def create_library_api(
    workspace: Workspace, jobs: Jobs, uploads: Uploads, service: Service, page: str | None = None
) -> FastAPI:
    """The application that is mounted at ``LIBRARY``.

    Args:
        workspace: An open workspace, held for writing.
        jobs: The queue of files.
        uploads: Where files arrive.
        service: Its queues and limits.
        page: Where the page is, for links; by default the server that is asked.
    """
    app = FastAPI(
        title="moss-agent library",
        version=version("moss-agent"),
        description="Recordings, transcripts, search, questions and summaries. Times are seconds.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        exception_handlers={
            ApiError: _refused,
            MossAgentError: _refused,
            RequestValidationError: _refused,
            HTTPException: _refused,
        },
        responses={"4XX": {"model": Problem}, "5XX": {"model": Problem}},
        generate_unique_id_function=lambda route: route.name,
    )
    _Routes(workspace, jobs, uploads, service, page).add_to(app)
    return app


class _Routes:
    """The routes over one workspace."""

    def __init__(
        self, workspace: Workspace, jobs: Jobs, uploads: Uploads, service: Service, page: str | None
    ) -> None:
        self.workspace, self.jobs, self.uploads = workspace, jobs, uploads
        self.service, self._page = service, page

    def add_to(self, app: FastAPI) -> None:
        """Make them routes of an application."""
        one = "/recordings/{recording}"
        app.get("/recordings", tags=["recordings"])(self.list_recordings)
        app.post("/recordings", status_code=202, tags=["recordings"])(self.add_recording)
        app.post("/imports", status_code=201, tags=["recordings"])(self.import_transcript)
        app.get(one, tags=["recordings"])(self.get_recording)
        app.patch(one, tags=["recordings"])(self.rename_recording)
        app.delete(one, tags=["recordings"])(self.delete_recording)
        app.post(f"{one}/again", status_code=202, tags=["recordings"])(self.hear_again)
        app.get(f"{one}/transcript", tags=["recordings"])(self.get_transcript)
        app.get(f"{one}/export", tags=["recordings"], response_class=Response, responses={200: _FILES})(
            self.export_transcript
        )
        app.get(f"{one}/summary", tags=["recordings"])(self.get_summary)
        app.post(f"{one}/summary", tags=["recordings"])(self.write_summary)
        app.get(f"{one}/outline", tags=["recordings"])(self.get_outline)
        app.get(f"{one}/talk-time", tags=["recordings"])(self.get_talk_time)
        app.post(f"{one}/media", status_code=202, tags=["recordings"])(self.attach_media)
        app.get(f"{one}/comments", tags=["comments"])(self.list_comments)
        app.post(f"{one}/comments", status_code=201, tags=["comments"])(self.add_comment)
        app.patch(f"{one}/comments/{{comment}}", tags=["comments"])(self.change_comment)
        app.delete(f"{one}/comments/{{comment}}", tags=["comments"])(self.remove_comment)
        app.post(f"{one}/listen", tags=["questions"])(self.listen_again)
        app.get(f"{one}/speakers", tags=["speakers"])(self.list_speakers)
        app.patch(f"{one}/speakers/{{speaker}}", tags=["speakers"])(self.rename_speaker)
        app.post(f"{one}/speakers/{{speaker}}/confirm", tags=["speakers"])(self.confirm_voice)
        app.post(f"{one}/speakers/{{speaker}}/reject", tags=["speakers"])(self.reject_voice)
        app.post(f"{one}/voices", tags=["speakers"])(self.find_voices)
        app.get("/voices", tags=["speakers"])(self.list_voices)
        app.put("/voices", tags=["speakers"])(self.allow_voices)
        app.delete("/voices", tags=["speakers"])(self.forget_voices)
        app.delete("/voices/{voice}", tags=["speakers"])(self.forget_voice)
        app.patch(f"{one}/segments/{{segment}}", tags=["corrections"])(self.correct_segment)
        app.post(f"{one}/segments/{{segment}}/split", tags=["corrections"])(self.split_segment)
        app.post(f"{one}/segments/merge", tags=["corrections"])(self.merge_segments)
        app.get(f"{one}/corrections", tags=["corrections"])(self.list_corrections)
        app.post(f"{one}/undo", tags=["corrections"])(self.undo_correction)
        app.post(f"{one}/redo", tags=["corrections"])(self.redo_correction)
        app.get("/search", tags=["questions"])(self.search)
        app.post(
            "/ask", tags=["questions"], description=_EVENTS, response_model=AnswerDocument,
            responses={200: {"content": {"text/event-stream": {}}}},
        )(self.ask)  # fmt: skip
        app.get("/jobs", tags=["jobs"])(self.list_jobs)
        app.get("/jobs/{job}", tags=["jobs"])(self.get_job)
        app.post("/jobs/{job}/cancel", tags=["jobs"])(self.cancel_job)
        app.post("/jobs/{job}/retry", tags=["jobs"])(self.retry_job)

        def docs() -> HTMLResponse:
            page = reference_page(app.openapi(), LIBRARY)
            return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

        app.get("/docs", include_in_schema=False)(docs)

    # Recordings

    def list_recordings(self, request: Request) -> RecordingsDocument:
        """List the recordings, newest first."""
        links, found = self._links(request), self.workspace.recordings()
        return RecordingsDocument(
            recordings=[RecordingDocument.of(recording, links) for recording in found], total=len(found)
        )

    def add_recording(
        self,
        file: Annotated[UploadFile, File(description="Any media file: audio or video.")],
        title: Annotated[str, Form(max_length=200, description="By default the file's name.")] = "",
        speakers: Annotated[int | None, Form(ge=1, le=50, description="How many, if known.")] = None,
        track: Annotated[int | None, Form(ge=1, le=999, description="The one audio track to hear.")] = None,
    ) -> JobDocument:
        """Send a file to be transcribed; the job that is returned says how far it is."""
        with self._arrived(file) as arrived:
            return JobDocument.of(self.uploads.submit(self.jobs, str(arrived), title, speakers, track))

    async def import_transcript(
        self,
        request: Request,
        file: Annotated[UploadFile, File(description="srt, vtt, JSON of Whisper's kin, or text with times.")],
        title: Annotated[str, Form(max_length=200, description="By default the file's name.")] = "",
        language: Annotated[
            str, Form(max_length=3, description="What is spoken, as ISO 639-1, where no file says so.")
        ] = "",
        encoding: Annotated[str, Form(max_length=40, description="Where it is not Unicode.")] = "",
        offset: Annotated[
            Seconds | None, Form(description="What the transcript's clock shows at the beginning.")
        ] = None,
    ) -> RecordingDocument:
        """Import a transcript that was made elsewhere; it is asked and cited as a recording is."""
        links = self._links(request)
        code = language.lower() or None
        if code is not None and code not in LANGUAGE_NAMES:
            raise ApiError(
                422, "language must be an ISO 639-1 code, such as en.", "invalid_value", "language"
            )

        def work(cancel: threading.Event) -> RecordingDocument:
            with self._arrived(file) as arrived:
                recording = self.workspace.import_transcript(
                    arrived, None, title or None, code, None, encoding or None, offset, cancel=cancel
                )
            return RecordingDocument.of(recording, links)

        return await self._worked(request, work)

    @contextmanager
    def _arrived(self, file: UploadFile) -> Iterator[Path]:
        """A file that was sent, under its own name in a folder of its own; gone afterwards if still there.

        Raises:
            ApiError: It is empty.
        """
        folder = self.uploads.arriving / uuid.uuid4().hex
        folder.mkdir()
        try:
            target = folder / safe_name(file.filename or "")
            with target.open("wb") as copy:
                shutil.copyfileobj(file.file, copy, 2**20)
            if target.stat().st_size == 0:
                raise ApiError(422, "The file is empty (0 bytes).", "invalid_value", "file")
            yield target
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def get_recording(self, recording: str, request: Request) -> RecordingDocument:
        """Get one recording, by id, unique beginning of it, or title."""
        return RecordingDocument.of(self.workspace.recording(recording), self._links(request))

    def rename_recording(self, recording: str, body: Title, request: Request) -> RecordingDocument:
        """Give a recording another title."""
        return RecordingDocument.of(self.workspace.rename(recording, body.title), self._links(request))

    def delete_recording(
        self,
        recording: str,
        drop_corrections: Annotated[
            bool, Query(description="Whether it may go although somebody corrected it.")
        ] = False,
    ) -> RemovedDocument:
        """Delete a recording from every store, with the conversations that quoted it."""
        removed = remove_recording(self.workspace, self.jobs, recording, drop_corrections)
        return RemovedDocument(id=removed.id, title=removed.title)

    def hear_again(
        self,
        recording: str,
        drop_corrections: Annotated[
            bool, Query(description="Whether what somebody corrected may be lost by that.")
        ] = False,
    ) -> JobDocument:
        """Transcribe a recording anew from its audio copy; the job that is returned says how far it is."""
        losing = self.workspace.corrections_lost(recording) if drop_corrections else 0
        return JobDocument.of(hear_again(self.workspace, self.jobs, recording, losing))

    def get_transcript(
        self, recording: str, request: Request, start: Start = None, end: End = None
    ) -> TranscriptDocument:
        """Get the transcript, or the part of it in a range of time."""
        found, segments = self.workspace.read(recording, start, end)
        return TranscriptDocument.of(found, segments, start, end, self._links(request))

    def export_transcript(
        self,
        recording: str,
        format: Annotated[Format, Query(description="Format of the file.")] = "txt",
        start: Start = None,
        end: End = None,
    ) -> Response:
        """Get the transcript, or a part of it, as a file."""
        data = self.workspace.export(recording, format, start, end)
        name = f"{self.workspace.recording(recording).id[:12]}.{format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type=MEDIA_TYPES[format], headers=headers)

    async def get_summary(
        self, recording: str, request: Request, template: Template | None = None
    ) -> SummaryDocument:
        """Get the summary: topics, decisions, action items, open questions, each with its time."""
        links = self._links(request)

        def work(_: threading.Event) -> SummaryDocument:
            found = self.workspace.recording(recording)
            return SummaryDocument.of(found, self.workspace.summarize(found.id, template), links)

        return await self._worked(request, work)

    async def write_summary(self, recording: str, body: Instruction, request: Request) -> SummaryDocument:
        """Have a summary written by an instruction; where no model can, what fits its words is found."""
        links = self._links(request)

        def work(cancel: threading.Event) -> SummaryDocument:
            found = self.workspace.recording(recording)
            written = self.workspace.summarize_as(found.id, body.instruction, body.template, cancel)
            return SummaryDocument.of(found, written.summary, links, written)

        return await self._worked(request, work)

    def get_talk_time(self, recording: str) -> TalkTimeDocument:
        """Get how the time is divided between voices and silence."""
        return TalkTimeDocument.of(self.workspace.talk_time(recording))

    def attach_media(
        self,
        recording: str,
        file: Annotated[UploadFile, File(description="The media file that it is the transcript of.")],
        speakers: Annotated[int | None, Form(ge=1, le=50, description="How many, if known.")] = None,
        track: Annotated[int | None, Form(ge=1, le=999, description="The one audio track to hear.")] = None,
    ) -> JobDocument:
        """Give an imported transcript its media file; the job that is returned says how far the two are
        compared."""
        with self._arrived(file) as arrived:
            job = self.uploads.attach(self.workspace, self.jobs, recording, str(arrived), speakers, track)
        return JobDocument.of(job)

    async def get_outline(self, recording: str, request: Request) -> OutlineDocument:
        """Get the topics with their times."""
        links = self._links(request)
        return await self._worked(
            request, lambda _: OutlineDocument.of(self.workspace.outline(recording), links)
        )

    # Comments

    def list_comments(self, recording: str, request: Request) -> list[CommentDocument]:
        """List what was noted at moments, in order of time."""
        links = self._links(request)
        return [CommentDocument.of(comment, links) for comment in self.workspace.comments(recording)]

    def add_comment(self, recording: str, body: Noted, request: Request) -> CommentDocument:
        """Note something at a moment."""
        comment = self.workspace.add_comment(recording, body.at, body.text)
        return CommentDocument.of(comment, self._links(request))

    def change_comment(
        self, recording: str, comment: int, body: NotedAgain, request: Request
    ) -> CommentDocument:
        """Give a comment other words."""
        self._comment(recording, comment)
        self.workspace.change_comment(comment, body.text)
        return CommentDocument.of(self._comment(recording, comment), self._links(request))

    def remove_comment(self, recording: str, comment: int, request: Request) -> CommentDocument:
        """Delete a comment; returns what was deleted."""
        found = self._comment(recording, comment)
        self.workspace.remove_comment(comment)
        return CommentDocument.of(found, self._links(request))

    def _comment(self, recording: str, number: int) -> Comment:
        for comment in self.workspace.comments(recording):
            if comment.id == number:
                return comment
        raise ApiError(404, "There is no such comment in this recording.", "unknown_comment", "comment")

    # Speakers

    def list_speakers(self, recording: str, request: Request) -> list[SpeakerDocument]:
        """List the speakers: how long each speaks, where to hear each, and who each may be."""
        links, found = self._links(request), self.workspace.recording(recording)
        return [SpeakerDocument.of(each, found.id, links) for each in self.workspace.speaker_facts(found.id)]

    def confirm_voice(self, recording: str, speaker: str) -> ConfirmedDocument:
        """Say that a speaker is who it may be; it carries the name from now on."""
        voice = self.workspace.confirm_voice(recording, speaker, BY)
        return ConfirmedDocument(speaker=speaker, voice=voice, same=True)

    def reject_voice(self, recording: str, speaker: str) -> ConfirmedDocument:
        """Say that a speaker is not who it may be, or was named as."""
        voice = self.workspace.reject_voice(recording, speaker)
        return ConfirmedDocument(speaker=speaker, voice=voice, same=False)

    async def find_voices(self, recording: str, request: Request) -> list[LikenessDocument]:
        """Look for known voices in a recording that was added before they were known."""
        return await self._worked(
            request, lambda _: [LikenessDocument.of(each) for each in self.workspace.find_voices(recording)]
        )

    def list_voices(self) -> VoicesDocument:
        """List the people who are known by voice, and whether voices may be remembered."""
        return VoicesDocument.of(self.workspace.known_voices(), self.workspace.voices.consent)

    def allow_voices(self, body: Remember) -> VoicesDocument:
        """Say whether voices may be remembered and compared; what is known stays until it is forgotten."""
        self.workspace.allow_voices(body.remembered)
        return self.list_voices()

    def forget_voices(self) -> VoicesDocument:
        """Delete what is known of every voice."""
        self.workspace.forget_voices()
        return self.list_voices()

    def forget_voice(self, voice: str) -> VoicesDocument:
        """Delete what is known of one voice; names in transcripts stay."""
        self.workspace.forget_voice(voice)
        return self.list_voices()

    def rename_speaker(self, recording: str, speaker: str, body: SpeakerName) -> RenamedSpeakerDocument:
        """Give a speaker another name, or with `merge` make two speakers one."""
        from tools.read_transcript import known_speaker

        count = self.workspace.rename_speaker(recording, speaker, body.name, body.merge, BY)
        name = known_speaker(self.workspace.recording(recording), body.name)
        return RenamedSpeakerDocument(name=name, segments=count)

    # Corrections

    def correct_segment(self, recording: str, segment: int, body: Correct) -> ChangedDocument:
        """Give a sentence another text, or another speaker."""
        if (body.text is None) == (body.speaker is None):
            raise InvalidInput("Give either the new text or the new speaker.")
        versions = None if body.version is None else {segment: body.version}
        if body.text is not None:
            changed = self.workspace.correct_sentence(recording, segment, body.text, versions, BY)
        else:
            changed = self.workspace.give_speaker(recording, [segment], body.speaker or "", versions, BY)
        return ChangedDocument.of(changed)

    def split_segment(self, recording: str, segment: int, body: Split) -> ChangedDocument:
        """Split a sentence in two."""
        versions = None if body.version is None else {segment: body.version}
        changed = self.workspace.split_sentence(recording, segment, body.at, versions, BY)
        return ChangedDocument.of(changed)

    def merge_segments(self, recording: str, body: Merge) -> ChangedDocument:
        """Make one sentence of several in a row."""
        changed = self.workspace.merge_sentences(recording, body.segments, body.versions or None, BY)
        return ChangedDocument.of(changed)

    def list_corrections(
        self,
        recording: str,
        segment: Annotated[int | None, Query(description="Of this sentence alone.")] = None,
    ) -> list[CorrectionDocument]:
        """List what was corrected, newest first, with what was there before."""
        found = self.workspace.correction_history(recording, segment)
        return [CorrectionDocument.of(correction) for correction in found]

    def undo_correction(self, recording: str) -> ChangedDocument:
        """Take the newest correction back."""
        return ChangedDocument.of(self.workspace.undo_correction(recording))

    def redo_correction(self, recording: str) -> ChangedDocument:
        """Make the correction again that was undone last."""
        return ChangedDocument.of(self.workspace.undo_correction(recording, redo=True))

    # Questions

    async def search(
        self,
        request: Request,
        query: Annotated[str, Query(alias="q", min_length=1, max_length=1000)],
        recording: Annotated[Name | None, Query(description="Search this one only.")] = None,
        k: Annotated[int, Query(ge=1, le=100, description="Number of results.")] = 8,
    ) -> HitsDocument:
        """Find what was said about something, in one recording or in all."""
        links = self._links(request)
        return await self._worked(
            request,
            lambda _: HitsDocument.of(self.workspace.find(query, recording, k), self._titles(), links),
        )

    async def ask(self, body: Question, request: Request) -> Response:
        """Ask about the recordings; the answer cites the seconds it rests on."""
        links, limiter = self._links(request), self.service.asks

        def work(cancel: threading.Event) -> Any:
            return self.workspace.ask(body.question, body.recording, body.thread, cancel)

        feed: Feed[Event] = Feed(work, limiter, limiter.enter())
        if not body.stream:
            answer = answer_of(await collected(feed, request))
            titles = await asyncio.to_thread(self._titles)
            return Response(
                AnswerDocument.of(answer, titles, links).model_dump_json(), media_type="application/json"
            )
        first = await first_item(feed, request)
        return EventStream(feed, self._events(feed, first, links))

    async def listen_again(self, recording: str, body: ListenQuestion, request: Request) -> HeardDocument:
        """Let MOSS-Audio listen to a stretch again and answer a question about it."""
        links = self._links(request)

        def work(cancel: threading.Event) -> HeardDocument:
            heard = self.workspace.listen(recording, body.start, body.end, body.question, cancel)
            return HeardDocument.of(heard, links)

        return await self._worked(request, work)

    async def _events(self, feed: Feed[Event], first: Event | None, links: Links) -> AsyncIterator[str]:
        """The stream of an answer."""
        item = first
        while True:
            if item is None:
                # Comments keep proxies from closing a stream that waits for its turn.
                yield ": waiting\n\n"
            elif isinstance(item, Answer):
                titles = await asyncio.to_thread(self._titles)
                for citation in item.citations:
                    yield event("citation", CitationDocument.of(citation, titles, links).model_dump())
                yield event("done", AnswerDocument.of(item, titles, links).model_dump())
            elif told := _told(item):
                yield event(*told)
            try:
                item = await feed.next(BEAT_SECONDS)
            except TimeoutError:
                item = None
            except Ended:
                return
            except Exception as error:
                yield event("error", _as_api_error(error).document()["error"])
                return

    # Jobs

    def list_jobs(self) -> list[JobDocument]:
        """List the files that wait or are being transcribed, and the last ones that were finished."""
        return [JobDocument.of(job) for job in (*self.jobs.list(), *reversed(self.jobs.left()))]

    def get_job(self, job: str) -> JobDocument:
        """Get one job."""
        return JobDocument.of(self._job(job))

    def cancel_job(self, job: str) -> JobDocument:
        """Stop a job; what was transcribed is kept. A job that only waits is given up."""
        found = self._job(job)
        if found.state not in ("waiting", "running"):
            raise ApiError(409, f"The job is {found.state}; there is nothing to cancel.", "not_running")
        self.jobs.cancel(job)
        return JobDocument.of(self._job(job))

    def retry_job(self, job: str) -> JobDocument:
        """Try a failed or stopped job again; it goes on at the first missing window."""
        found = self._job(job)
        if not JobDocument.of(found).can_retry:
            raise ApiError(
                409,
                f"The job is {found.state} and cannot be tried again; send the file again.",
                "not_retried",
            )
        self.jobs.resume(job)
        return JobDocument.of(self._job(job))

    def _job(self, job: str) -> Job:
        found = self.jobs.find(job)
        if found is None:
            raise ApiError(404, f"There is no such job; {LIBRARY}/jobs lists them.", "unknown_job", "job")
        return found

    # What the routes share

    async def _worked(self, request: Request, work: Callable[[threading.Event], Result]) -> Result:
        """The result of work that takes a thread, in its turn; it is told when nobody waits any more."""
        limiter = self.service.lookups
        feed: Feed[Result] = Feed(lambda cancel: iter([work(cancel)]), limiter, limiter.enter())
        return (await collected(feed, request))[0]

    def _links(self, request: Request) -> Links:
        """Links to the page: at the address that was asked, unless it is elsewhere."""
        return Links(self._page or f"{request.url.scheme}://{request.url.netloc}")

    def _titles(self) -> dict[str, str]:
        return {recording.id: recording.title for recording in self.workspace.recordings()}


def safe_name(given: str) -> str:
    """A sender's name for a file as the name of one here; it decides nothing but the title and the suffix."""
    name = re.sub(r"[\x00-\x1f\x7f]", "", given.replace("\\", "/").rpartition("/")[2]).strip(". ")
    stem, suffix = Path(name).stem, Path(name).suffix
    while len(name.encode()) > 150:
        stem = stem[:-1]
        name = f"{stem}{suffix[:20]}"
    return name or "recording"


def event(name: str, document: dict[str, Any]) -> str:
    """One event with a name."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n"


def _told(item: Event) -> tuple[str, dict[str, Any]] | None:
    """The event that tells of a step towards an answer; None where there is nothing to tell."""
    match item:
        case StepStarted():
            return "step", {"id": item.id, "tool": item.tool, "arguments": dict(item.arguments)}
        case StepFinished():
            return "step_done", {"id": item.id, "tool": item.tool}
        case ThoughtDelta():
            return "thought", {"text": item.text}
        case TextDelta():
            return "token", {"text": item.text}
    return None


async def _refused(_: Request, error: Exception) -> Response:
    return _as_api_error(error).response()


def _as_api_error(error: BaseException) -> ApiError:
    """What to answer to an error: a status and one sentence.

    Unlike the API for OpenAI's clients, this one belongs to the owner of the library, who is told what the
    page and the command line tell.
    """
    match error:
        case RequestValidationError():
            return _not_valid(error)
        case HTTPException(__cause__=ClientDisconnect()):
            return bad_request("The body of the request broke off.")
        case HTTPException(__cause__=RecursionError()) | RecursionError():
            return bad_request("The body of the request is nested too deeply.", code="invalid_json")
        case HTTPException(__cause__=Exception() as cause):
            # The body was being read: it is too large, came too slowly, or found no room.
            return _as_api_error(cause)
        case HTTPException(status_code=404):
            return ApiError(404, f"There is nothing at this address; {LIBRARY}/docs lists them.", "not_found")
        case HTTPException(status_code=405):
            return ApiError(405, "This address does not accept that method.")
        case HTTPException():
            return ApiError(error.status_code, str(error.detail))
        case UnknownRecording():
            return ApiError(
                404, f"There is no such recording; {LIBRARY}/recordings lists them.", "unknown_recording",
                "recording",
            )  # fmt: skip
        case Forbidden():
            return ApiError(403, str(error), "forbidden")
        case AmbiguousRecording():
            return ApiError(409, str(error), "ambiguous_recording", "recording")
        case ChangedMeanwhile():
            return ApiError(409, str(error), "changed_meanwhile")
        case SpeakerExists():
            return ApiError(409, str(error), "speaker_exists")
        case WouldLoseCorrections():
            return ApiError(
                409, "It has corrections, which would be lost; send drop_corrections=true if they may be.",
                "has_corrections",
            )  # fmt: skip
        case InvalidInput():
            return ApiError(422, str(error), "invalid_value")
        case HomeInUse():
            return ApiError(409, str(error), "home_in_use")
        case Busy():
            return ApiError(409, str(error), "busy")
        case Cancelled():
            return ApiError(409, str(error), "cancelled")
        case ReadOnly():
            return ApiError(409, str(error), "read_only")
        case TranscriptError():
            return ApiError(422, str(error), "unusable_transcript", "file")
        case MediaError():
            return ApiError(415, str(error), "unusable_audio")
        case DiskFull() | MossAgentError():
            retry = {"Retry-After": str(RETRY_SECONDS)}
            return ApiError(503, str(error), "unavailable", headers=retry)
    return as_api_error(error)


def _not_valid(error: RequestValidationError) -> ApiError:
    """The first thing in a request that is not as it must be."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return bad_request("The body of the request is not JSON.", code="invalid_json")
    # What comes first says where it was: in the address, the query, the body or a form.
    found = {**first, "loc": first["loc"][1:]}
    name = field_of(found["loc"])
    if name == "file":
        code = "missing" if first["type"] == "missing" else "invalid_value"
        return ApiError(422, "Send the file as the field file of a form (multipart/form-data).", code, name)
    if not name and first["type"] in ("model_attributes_type", "dict_type"):
        return bad_request("Send the body as a JSON object, with Content-Type: application/json.")
    code = "missing" if first["type"] == "missing" else "invalid_value"
    return ApiError(422, sentence_of(found, "The body"), code, name or None)
