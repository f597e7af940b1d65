"""What happens on the page's events: thin calls into the workspace, and HTML back.

Each user's open recording lives in the browser session; jobs and recordings live in the server.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import ChatMessage

from agent.answer import Answer, StepFinished, StepStarted, TextDelta, ThoughtDelta
from agent.instructed_summary import LONGEST_INSTRUCTION
from index.export.markdown import to_markdown
from index.moments import Moment, find_moment
from index.recording_errors import Cancelled, DatabaseAway, MossAgentError, UnknownRecording
from index.records import Recording
from web.edits import BY
from web.jobs import Jobs, hear_again, remove_recording
from web.page import chat_view
from web.page.chat_view import Conversations
from web.page.layout import render_actions
from web.page.library_view import (
    render_engines,
    render_found,
    render_glossary,
    render_library,
    render_problem,
)
from web.page.transcript_view import (
    render_head,
    render_player,
    render_revision,
    render_talk,
    render_transcript,
)
from web.page.voices_view import render_voices
from web.uploads import Uploads

if TYPE_CHECKING:
    from agent.workspace import Workspace

log = logging.getLogger(__name__)

Kept = dict[str, str | None]
"""What the browser remembers: the open ``recording`` and the ``thread`` of the conversation."""


class Handlers:
    """The page's events over one workspace."""

    def __init__(self, workspace: Workspace, jobs: Jobs, uploads: Uploads, accounts: bool = False) -> None:
        self._accounts = accounts
        self.workspace = workspace
        self.library = workspace.library
        self.jobs = jobs
        self.uploads = uploads
        self.conversations = Conversations(self.library.thread_key, self.library.readable)
        self._writing: dict[str, threading.Event] = {}
        workspace.when_removed.append(self.conversations.forget_recording)

    # Opening and following recordings

    def load(self, kept: Kept) -> tuple[Any, ...]:
        """A page was opened or reloaded: by a link to a moment, or what was open, else the newest recording.

        Args:
            kept: What the browser remembers, and as ``link`` what the page's address asks for
                (``static/moment.js``); nothing of it is trusted.
        """
        link: Any = kept.get("link")
        recordings = self.workspace.recordings()
        known = {recording.id for recording in recordings}
        wanted = kept.get("recording")
        if wanted not in known:
            wanted = recordings[0].id if recordings else None
        moment = None
        if isinstance(link, dict) and link.get("recording"):
            moment = find_moment(self.library, str(link["recording"]), str(link.get("t") or ""))
            # "": nothing is open, and the newest is not opened instead (see ``changed``).
            wanted = moment.recording or ""
        messages = self.conversations.messages(kept.get("thread"))
        if (
            messages
            and self.workspace.is_shared
            and kept.get("thread") not in self.workspace.memory.threads()
        ):
            messages = []  # forgotten by another process, with a recording that it quoted
        thread = kept.get("thread") if messages else None
        kept = {"recording": wanted or None, "thread": thread}
        return (*self._open(wanted, kept, bool(messages), moment), messages)

    def open(self, kept: Kept, event: gr.EventData) -> tuple[Any, ...]:
        """A recording was chosen, in the library or by a citation."""
        wanted = str(event.id)
        if self._recording(wanted) is None:
            gr.Warning("This recording is no longer there.")
        talking = bool(self.conversations.messages(kept.get("thread")))
        return self._open(wanted, {**kept, "recording": wanted}, talking)

    def state(self, opened: str | None) -> str:
        """What a browser asks for every second: another one whenever something is to be drawn anew.

        An event of Gradio's costs both sides several times as much (benchmarks/README.md), so there is one
        only then.

        Args:
            opened: The recording that the browser shows; None where it shows none.

        Returns:
            32 hexadecimal digits, which say nothing of what there is.
        """
        try:
            recording = self._recording(opened)
            shown = [
                self._shelf(recording.id if recording else None),
                render_revision(recording),
                self._mark(recording),
                render_engines(self.workspace.engines_chosen, self.workspace.engines_problem),
            ]
        except DatabaseAway as error:
            shown = [str(error)]
        return hashlib.sha256("\n".join(shown).encode("utf-8", "replace")).hexdigest()[:32]

    def changed(self, opened: str | None, seen: str, kept: Kept) -> list[Any]:
        """The library, and the open recording when something about it changed; see ``state``.

        While the database is away, that is said where the library is, and everything else stays as it is.
        """
        try:
            return self._changed(opened, seen, kept)
        except DatabaseAway as error:
            return [render_problem(str(error)), *[gr.skip()] * 8]

    def _changed(self, opened: str | None, seen: str, kept: Kept) -> list[Any]:
        recording = self._recording(opened)
        if recording is None and opened is None:
            recordings = self.workspace.recordings()
            recording = recordings[0] if recordings else None
        mark = self._mark(recording)
        identity = recording.id if recording else None
        shelf, revision = self._shelf(identity), render_revision(recording)
        if seen == mark:
            return [shelf, revision, *[gr.skip()] * 7]
        talking = bool(self.conversations.messages(kept.get("thread")))
        return [shelf, revision, *self._middle(recording), self._chips(recording, talking), identity, mark]

    def engines(self, seen: str) -> list[Any]:
        """Which engines hear and answer; drawn anew only when that changed, since its reasons fold."""
        shown = render_engines(self.workspace.engines_chosen, self.workspace.engines_problem)
        return [gr.skip(), gr.skip()] if shown == seen else [shown, shown]

    def _open(
        self, wanted: str | None, kept: Kept, talking: bool, moment: Moment | None = None
    ) -> tuple[Any, ...]:
        recording = self._recording(wanted)
        if recording is not None:
            self.workspace.note("opened", recording.id)
            self.workspace.opened(recording.id)
        identity = recording.id if recording else ("" if wanted == "" else None)
        head, player, transcript, talk = self._middle(recording, moment)
        chips = self._chips(recording, talking)
        tabs = gr.Tabs(selected="transcript")
        shelf = self._shelf(identity)
        return (
            head, player, transcript, talk, chips, shelf, render_revision(recording), tabs, "", "",
            identity, self._mark(recording), kept,
        )  # fmt: skip

    def _middle(self, recording: Recording | None, moment: Moment | None = None) -> tuple[str, str, str, str]:
        problem = moment.problem if moment else ""
        if recording is None:
            return render_head(None, problem=problem), "", "", ""
        heard = self.library.has_audio(recording.id)
        segments, edits = self.library.segments(recording.id), self._edits(recording)
        until = self.workspace.kept_until(recording)
        return (
            render_head(recording, bool(segments), problem, self._shares(recording), edits, until)
            + render_voices(
                recording, self.workspace.speaker_facts(recording.id), self.workspace.voices.consent, edits
            ),
            render_player(recording, heard, moment.at if moment else None, edits),
            render_transcript(recording, segments, self.library.comments(recording.id), edits),
            render_talk(self.workspace.talk_time(recording.id), recording),
        )

    def _edits(self, recording: Recording) -> bool:
        """Whether whoever looks may change a recording."""
        edited = self.workspace.people.having("edit")
        return edited is None or recording.id in edited

    def _shares(self, recording: Recording) -> bool:
        """Whether whoever looks may share a recording."""
        return self._accounts and self.workspace.people.has_right(recording.id, "own")

    def _chips(self, recording: Recording | None, talking: bool) -> str:
        if talking:
            return ""
        buttons = "".join(
            f'<button type="button" class="chip" data-suggest>{escape(text)}</button>'
            for text in chat_view.suggestions(recording)
        )
        return (
            '<p class="hint">Answers quote what was said and cite moments you can play.</p>'
            f'<div class="chips" role="group" aria-label="Suggested questions">{buttons}</div>'
        )

    def _shelf(self, selected: str | None) -> str:
        engines = self.workspace.engines_chosen
        elsewhere = engines.elsewhere if engines else None
        people = self.workspace.people
        return render_library(
            self.workspace.recordings(), self.jobs.list(), selected, elsewhere,
            people.having("edit"), people.having("own"),
        )  # fmt: skip

    def _recording(self, wanted: str | None) -> Recording | None:
        if not wanted:
            return None
        try:
            return self.library.recording(wanted)
        except UnknownRecording:
            return None

    def _mark(self, recording: Recording | None) -> str:
        """Changes whenever the middle column must be drawn anew."""
        if recording is None:
            return "nothing"
        parts = [recording.id, recording.title, recording.status, str(recording.coverage)]
        parts += [*recording.speakers, str(self.workspace.voices.consent)]
        parts += [
            f"{one.speaker} {one.voice} {one.sure}" for one in self.workspace.voices.likenesses(recording.id)
        ]
        parts += [f"{one.id} {one.text}" for one in self.library.comments(recording.id)]
        parts += [str(recording.has_media), str(self._edits(recording))]
        if recording.status != "ready":
            parts.append(str(self.library.segment_count(recording.id)))
        return "\n".join(parts)

    # Search

    def search(self, event: gr.EventData) -> str:
        """Something was typed into the search over the whole library; nothing shows the library again."""
        text = str(event.text).strip()[:500]
        if not text:
            return ""
        try:
            found = self.workspace.search_library(text)
        except MossAgentError as error:
            return render_found(text, None, str(error))
        return render_found(text, found)

    # Files

    def added(self, opened: str | None, event: gr.EventData) -> str:
        """A file was uploaded or recorded; it joins the queue."""
        with _told():
            speakers = int(event.speakers) if event.speakers else None
            if speakers is not None and not 1 <= speakers <= 50:
                raise MossAgentError("The number of speakers must be between 1 and 50.")
            chosen = getattr(event, "track", None)  # an open page of an older version sends none
            track = int(chosen) if chosen else None
            if track is not None and track < 1:
                raise MossAgentError("Audio tracks are counted from 1.")
            job = self.uploads.submit(self.jobs, str(event.file), str(event.title), speakers, track)
            known = self._recording(job.recording)
            if known is not None and known.status == "ready":
                title = escape(known.title)
                gr.Info(f"“{title}” is in the library already. To transcribe it anew, open it: Hear again.")
        return self._shelf(opened)

    def glossary(self) -> str:
        """The field for words that must be spelled right, with those that are kept."""
        entries: tuple[str, ...] = ()
        with _told():
            entries = self.workspace.glossary
        return render_glossary(entries)

    def spell(self, event: gr.EventData) -> Any:
        """Words that must be spelled right were typed; they are used for the next files."""
        with _told():
            entries = self.workspace.set_glossary(str(event.text))
            gr.Info("Saved." if entries else "The list is empty.")
            return render_glossary(entries)
        return gr.skip()

    def complain(self, event: gr.EventData) -> None:
        """Something went wrong in the browser; show it the way the server's errors are shown."""
        gr.Warning(escape(str(event.text)[:300]))

    def cancel(self, opened: str | None, event: gr.EventData) -> str:
        """Stop a job, or take it out of the queue."""
        self.jobs.cancel(str(event.id))
        return self._shelf(opened)

    def resume(self, opened: str | None, event: gr.EventData) -> str:
        """Resume a stopped job."""
        self.jobs.resume(str(event.id))
        return self._shelf(opened)

    def again(self, opened: str | None, event: gr.EventData) -> str:
        """A recording is to be heard again, after the browser asked; or to go on where that broke off.

        Of corrections only so many may be lost as were told of.
        """
        with _told():
            hear_again(self.workspace, self.jobs, str(event.id), max(0, int(event.losing or 0)))
        return self._shelf(opened)

    def dismiss(self, opened: str | None, event: gr.EventData) -> str:
        """Forget a failed or stopped job."""
        self.jobs.dismiss(str(event.id))
        return self._shelf(opened)

    def remove(self, opened: str | None, kept: Kept, event: gr.EventData) -> tuple[Any, ...]:
        """Delete a recording, after the browser asked whether it is meant."""
        wanted = str(event.id)
        with _told():
            # The dialog said that corrections go too.
            remove_recording(self.workspace, self.jobs, wanted, drop_corrections=True)
        if opened == wanted and self._recording(wanted) is None:
            return self.load({**kept, "recording": None})
        return self.load({**kept, "recording": opened})

    def rename(self, opened: str | None, event: gr.EventData) -> tuple[Any, ...]:
        """Give a speaker another name; two are merged where the browser asked whether that is meant."""
        with _told():
            merge, remember = bool(getattr(event, "merge", False)), getattr(event, "remember", None)
            if remember is not None:
                self.workspace.allow_voices(bool(remember))
            self.workspace.rename_speaker(opened or "", str(event.old), str(event.new), merge, BY)
        return self._spoken(opened)

    def voice(self, opened: str | None, event: gr.EventData) -> tuple[Any, ...]:
        """Somebody said whether a speaker is who it may be."""
        with _told():
            if event.same:
                self.workspace.confirm_voice(opened or "", str(event.speaker), BY)
            else:
                self.workspace.reject_voice(opened or "", str(event.speaker))
        return self._spoken(opened)

    def _spoken(self, opened: str | None) -> tuple[Any, ...]:
        head, _, transcript, talk = self._middle(self._recording(opened))
        return self._shelf(opened), head, transcript, talk

    # Comments

    def comment(self, opened: str | None, event: gr.EventData) -> Any:
        """Something was noted at a moment."""
        with _told():
            self.workspace.add_comment(opened or "", float(event.at), str(event.text))
        return self._transcript(opened)

    def recomment(self, opened: str | None, event: gr.EventData) -> Any:
        """A comment was given other words."""
        with _told():
            self.workspace.change_comment(int(event.id), str(event.text))
        return self._transcript(opened)

    def uncomment(self, opened: str | None, event: gr.EventData) -> Any:
        """A comment was deleted."""
        with _told():
            self.workspace.remove_comment(int(event.id))
        return self._transcript(opened)

    def _transcript(self, opened: str | None) -> Any:
        recording = self._recording(opened)
        if recording is None:
            return gr.skip()
        segments, comments = self.library.segments(recording.id), self.library.comments(recording.id)
        return render_transcript(recording, segments, comments, self._edits(recording))

    def corrected(
        self,
        opened: str | None,
        template: str,
        wanted: dict[str, str] | None,
        kept: Kept,
        event: gr.EventData,
    ) -> tuple[Any, ...]:
        """The open recording was corrected: what quotes it follows, the summary only where it is seen.

        What a language model wrote by an instruction stays until it is asked for again: it takes long.
        """
        thread = kept.get("thread")
        follows = self.conversations.correct(thread, self.library)
        chat = self.conversations.messages(thread) if follows else gr.skip()
        recording = self._recording(opened)
        if recording is None:
            return (chat, *[gr.skip()] * 3)
        talk = render_talk(self.workspace.talk_time(recording.id), recording)
        if not event.summary or (wanted or {}).get(recording.id):
            return chat, talk, gr.skip(), gr.skip()
        return chat, talk, *self._summary_of(recording, template)

    # Summary

    def _summary_of(self, recording: Recording, template: str) -> tuple[str, str]:
        summary = self.workspace.summarize(recording.id, template)
        times = chat_view.times_of(recording.id)
        return to_markdown(summary, recording.title, times), render_actions(recording, template)

    def summarise(
        self, opened: str | None, template: str, wanted: dict[str, str] | None
    ) -> Iterator[tuple[Any, ...]]:
        """The summary of the open recording as Markdown, by the instruction that was given for it, if any."""
        recording = self._recording(opened)
        if recording is None:
            yield "Open a recording to see its summary.", ""
            return
        instruction = (wanted or {}).get(recording.id, "")
        try:
            if not instruction:
                yield self._summary_of(recording, template)
                return
            yield "Writing the summary…", ""
            stop = self._writing[self.library.thread_key(recording.id)] = threading.Event()
            written = self.workspace.summarize_as(recording.id, instruction, template, stop)
            text = chat_view.instructed_text(written, recording, plays=True)
            yield text, render_actions(recording, template, instruction)
        except MossAgentError as error:
            yield chat_view.plain(str(error)), render_actions(None, template)

    def instruct(
        self, opened: str | None, template: str, wanted: dict[str, str] | None, event: gr.EventData
    ) -> Iterator[tuple[Any, ...]]:
        """The summary is to be written again by an instruction; an empty one gives the usual summary."""
        wanted = {opened: str(event.text).strip()[:LONGEST_INSTRUCTION]} if opened else {}
        for drawn in self.summarise(opened, template, wanted):
            yield *drawn, wanted

    def unwrite(self, opened: str | None) -> None:
        """The user wants no more of the summary that is being written."""
        if stop := self._writing.get(self.library.thread_key(opened or "")):
            stop.set()

    # Conversation

    def suggest(
        self, _: str, scope: str, opened: str | None, kept: Kept, event: gr.EventData
    ) -> Iterator[tuple[Any, ...]]:
        """A suggested question was chosen."""
        yield from self.ask(str(event.text), scope, opened, kept)

    def ask(self, question: str, scope: str, opened: str | None, kept: Kept) -> Iterator[tuple[Any, ...]]:
        """Answer a question step by step: tools as they are used, then the text as it comes."""
        # ``kept`` goes out with every step: Gradio's "no change" would be merged into a dictionary.
        question = question.strip()[:2000]
        if not question:
            return
        thread = kept.get("thread") or uuid.uuid4().hex
        messages = [*self.conversations.messages(thread), chat_view.question_message(question)]
        kept = {**kept, "thread": thread}
        quoted: set[str] = set()
        busy = gr.Textbox(value="", submit_btn=False, stop_btn=True)
        self.conversations.keep(thread, messages, quoted)
        stop = self.conversations.begin(thread)
        try:
            yield messages, busy, "", kept
            where = opened if scope == "one" and self._recording(opened) else None
            for _ in self._answer(question, where, thread, messages, quoted, stop):
                self.conversations.keep(thread, messages, quoted)
                # Not by Gradio's ``cancels``: after those its page sends no further question.
                if self.conversations.is_stopped(thread):
                    break
                yield messages, gr.skip(), gr.skip(), kept
        except Cancelled:
            pass
        except MossAgentError as error:
            messages.append(ChatMessage(role="assistant", content=chat_view.plain(str(error))))
        except Exception as error:
            log.exception("a question failed")
            text = f"Unexpected error ({type(error).__name__}); the terminal shows details."
            messages.append(ChatMessage(role="assistant", content=chat_view.plain(text)))
        finally:
            # Also when the browser went away, which closes this generator: what is there stays.
            chat_view.end(messages)
            self.conversations.keep(thread, messages, quoted)
        if not self.conversations.is_left(thread):
            yield messages, gr.Textbox(submit_btn=True, stop_btn=False), gr.skip(), kept

    def _answer(
        self,
        question: str,
        where: str | None,
        thread: str,
        messages: list[ChatMessage],
        quoted: set[str],
        stop: threading.Event,
    ) -> Iterator[None]:
        """Stream one answer into ``messages``; yields after every change."""
        titles = {other.id: other.title for other in self.workspace.recordings() if other.id != where}
        steps: dict[str, tuple[ChatMessage, float]] = {}
        text, writing = "", None
        thinking: chat_view.Thought | None = None
        for event in self.workspace.ask(question, where, thread, stop):
            if isinstance(event, ThoughtDelta):
                thinking = thinking or chat_view.Thought(messages)
                thinking.add(event.text)
                yield
                continue
            if thinking is not None:
                thinking.end()
                thinking = None
            if isinstance(event, StepStarted):
                text, writing = "", None
                steps[event.id] = (chat_view.step_message(event, titles), time.monotonic())
                messages.append(steps[event.id][0])
            elif isinstance(event, StepFinished):
                message, began = steps[event.id]
                chat_view.finish_step(message, event, time.monotonic() - began)
                quoted |= chat_view.recordings_of(event.result)
                self.conversations.quote(thread, event.result.evidence)
            elif isinstance(event, TextDelta):
                text += event.text
                writing = writing or _appended(messages)
                writing.content = chat_view.plain(text)
            elif isinstance(event, Answer):
                writing = writing or _appended(messages)
                writing.content = chat_view.answer_text(event)
            yield

    def stopped(self, kept: Kept) -> tuple[Any, ...]:
        """The user stopped an answer; what is there stays."""
        self.conversations.stop(kept.get("thread"))
        messages = self.conversations.messages(kept.get("thread"))
        chat_view.end(messages)
        return messages, gr.Textbox(submit_btn=True, stop_btn=False)

    def fresh(self, opened: str | None, kept: Kept) -> tuple[Any, ...]:
        """Begin a new conversation."""
        self.conversations.leave(kept.get("thread"))
        chips = self._chips(self._recording(opened), False)
        return [], chips, gr.Textbox(value="", submit_btn=True, stop_btn=False), {**kept, "thread": None}


def _appended(messages: list[ChatMessage]) -> ChatMessage:
    message = ChatMessage(role="assistant", content="")
    messages.append(message)
    return message


@contextmanager
def _told() -> Iterator[None]:
    """Show a user's error as a notice instead of failing. Gradio renders notices as HTML."""
    try:
        yield
    except MossAgentError as error:
        gr.Warning(escape(str(error)))
