"""What is on the page: three columns of parts. Their looks and gestures are in ``static``.

The templates of a summary, and the bar above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

import gradio as gr

from index.records import TEMPLATE_LABELS, Recording
from web.page.theme import icon

TEMPLATES = tuple((label, name) for name, label in TEMPLATE_LABELS.items())


def render_actions(recording: Recording | None, template: str, instruction: str = "") -> str:
    """Copy and download; empty while there is no summary."""
    if recording is None:
        return ""
    asked = {"template": template, **({"instruction": instruction} if instruction else {})}
    address = escape(f"summary/{recording.id}.md?{urlencode(asked)}")
    return (
        f'<button type="button" class="btn" data-copy="{address}">Copy</button>'
        f'<a class="btn" href="{address}" download>Download .md</a>'
    )


BAR = f"""
<header class="topbar"><h1>moss<span>agent</span></h1>
<nav aria-label="Views">
<button type="button" data-view="library">{icon("library")}Library</button>
<button type="button" data-view="recording">{icon("wave")}Recording</button>
<button type="button" data-view="chat">{icon("chat")}Ask</button></nav>
<button type="button" class="quiet" data-theme-toggle aria-label="Light or dark"
 title="Light or dark">{icon("theme")}</button></header>"""

ACCOUNT = f"""
<a class="quiet" href="account" aria-label="Your account" title="Your account">{icon("person")}</a>"""

ADD = f"""
<div class="add"><div class="add-line"><h2>Library</h2>
<button type="button" class="primary" data-choose>{icon("upload")}Add file</button>
<button type="button" class="btn square" data-record aria-label="Record with the microphone"
 title="Record with the microphone">{icon("mic")}</button>
<input type="file" multiple hidden aria-label="Media files or transcripts"
 accept="audio/*,video/*,.mkv,.opus,.flac,.m4a,.srt,.vtt,.json,.txt"></div>
<label class="field">Number of speakers<input type="number" min="1" max="50" step="1"
 placeholder="automatic" data-speakers inputmode="numeric"></label>
<label class="field" title="Where a file has several">Audio track<input type="number" min="1" max="999"
 step="1" placeholder="automatic" data-track inputmode="numeric"></label>
<div class="upload" data-upload hidden aria-live="polite"></div></div>"""

EDIT_TOOLS = f"""
<template><button type="button" class="quiet" data-edit-row title="Edit (E)"
 aria-label="Edit">{icon("edit")}</button><button type="button" class="quiet" data-speaker-row
 title="Change who says this" aria-label="Speaker">{icon("person")}</button></template>
<span class="edit-tools" role="group" aria-label="Corrections">
<button type="button" class="btn" data-undo disabled title="Undo (Ctrl+Z)">Undo</button>
<button type="button" class="btn" data-redo disabled title="Redo (Ctrl+Shift+Z)">Redo</button>
<button type="button" class="btn" data-history>History</button></span>
<p class="edit-status" role="status"></p>"""

FILTER = f"""
<label class="filter">{icon("search")}<input type="search" data-filter placeholder="Find in transcript"
 aria-label="Find in transcript"></label><select data-only-voice aria-label="Speaker">
<option value="">Everyone</option></select><output></output>"""

FINDER = f"""
<label class="filter">{icon("search")}<input type="search" data-library-search maxlength="500"
 placeholder="Search all recordings" aria-label="Search all recordings"></label>"""

INSTRUCT = """
<form class="instruct"><input type="text" data-instruction maxlength="1000" enterkeyhint="go"
 placeholder="Instruction, such as: for the board, five lines" aria-label="Instruction for the summary">
<button type="submit" class="btn">Write again</button>
<button type="button" class="btn" data-unwrite hidden>Stop</button></form>"""

ASKING = """
<div class="ask-head"><h2>Ask</h2>
<button type="button" class="btn" data-new-chat>New conversation</button></div>"""


@dataclass(frozen=True)
class Parts:
    """The components that events read and write."""

    opened: gr.State
    seen: gr.State
    engines_seen: gr.State
    kept: gr.BrowserState
    add: gr.HTML
    glossary: gr.HTML
    shelf: gr.HTML
    engines: gr.HTML
    head: gr.HTML
    player: gr.HTML
    transcript: gr.HTML
    talk: gr.HTML
    edits: gr.HTML
    revision: gr.HTML
    finder: gr.HTML
    found: gr.HTML
    tabs: gr.Tabs
    summary_tab: gr.Tab
    template: gr.Radio
    instruct: gr.HTML
    wanted: gr.State
    actions: gr.HTML
    summary: gr.Markdown
    asking: gr.HTML
    chat: gr.Chatbot
    chips: gr.HTML
    question: gr.Textbox
    scope: gr.Radio


def lay_out(template: str, accounts: bool = False) -> Parts:
    """Create the parts; called inside the page's ``with`` block.

    Args:
        template: The summary chosen first.
        accounts: Whether people sign in, so that there is a way to their account.
    """
    opened = gr.State(None)
    seen, engines_seen = gr.State(""), gr.State("")
    # Not a secret: the browser keeps ids only, and must find them again after the server was restarted.
    kept = gr.BrowserState({"recording": None, "thread": None}, storage_key="moss-agent", secret="ids only")
    bar = BAR.replace("</nav>", f"</nav>{ACCOUNT}") if accounts else BAR
    _part(bar, "top", "moss.page(element, trigger)")
    with gr.Row(elem_id="columns", equal_height=False):
        with gr.Column(elem_id="library", min_width=0):
            add = _part(ADD, "add", "moss.adding(element, trigger, ['added', 'complain'])")
            glossary = _part("", "glossary", "moss.glossary(element, trigger, ['spell'])")
            finder = _part(FINDER, "finder", "moss.librarySearch(element, trigger, ['search'])")
            found = _part("", "found", "moss.found(element, watch)")
            shelf = _part(
                "",
                "shelf",
                "moss.shelf(element, trigger, "
                "['open', 'remove', 'cancel', 'resume', 'dismiss', 'again', 'changed'])",
            )
            engines = _part("", "engines", "")
        with gr.Column(elem_id="recording", min_width=0):
            named = (
                "moss.head(element, trigger, ['rename', 'voice', 'again']); "
                "moss.knownVoices(element, trigger)"
            )
            head = _part("", "head", named)
            player = _part(
                "",
                "player-bar",
                "moss.player(element, trigger, watch, ['comment', 'recomment', 'uncomment'])",
            )
            with gr.Tabs(elem_id="tabs", selected="transcript") as tabs:
                with gr.Tab("Transcript", id="transcript"):
                    _part(FILTER, "filter", "moss.filter(element)")
                    edits = _part(EDIT_TOOLS, "edits", "moss.edits(element, trigger, ['corrected'])")
                    revision = _part("", "revision", "moss.revised(element, watch)")
                    transcript = _part("", "transcript", "moss.transcript(element, watch)")
                with gr.Tab("Talk time", id="talk"):
                    talk = _part("", "talk", "moss.talk(element)")
                with gr.Tab("Summary", id="summary") as summary_tab:
                    with gr.Row(elem_id="summary-bar"):
                        chosen = _choice(TEMPLATES, template, "Template", "template")
                        actions = _part("", "summary-actions", "moss.copying(element)")
                    instruct = _part(
                        INSTRUCT, "instruct", "moss.instruct(element, trigger, ['instruct', 'unwrite'])"
                    )
                    summary = gr.Markdown("", elem_id="summary", sanitize_html=True, latex_delimiters=[])
        with gr.Column(elem_id="chat", min_width=0):
            asking = _part(ASKING, "asking", "moss.asking(element, trigger, ['fresh'])")
            chat = _chatbot()
            chips = _part("", "chips", "moss.chips(element, trigger, ['suggest'])")
            with gr.Group(elem_id="ask-box"):
                question = _question()
                scope = _choice(
                    (("This recording", "one"), ("All recordings", "all")), "one", "Where to look", "scope"
                )
    return Parts(
        opened, seen, engines_seen, kept, add, glossary, shelf, engines, head, player,
        transcript, talk, edits, revision, finder, found, tabs, summary_tab, chosen, instruct, gr.State({}),
        actions, summary, asking, chat, chips, question, scope,
    )  # fmt: skip


def _part(html: str, elem_id: str, wire: str) -> gr.HTML:
    """A part of the page drawn by us; ``wire`` connects it to ``static/*.js`` and names its events."""
    return gr.HTML(
        html, elem_id=elem_id, js_on_load=wire, apply_default_css=False, container=False, padding=False
    )


def _choice(options: tuple[tuple[str, str], ...], value: str, label: str, elem_id: str) -> gr.Radio:
    """A few choices side by side."""
    return gr.Radio(
        list(options),
        value=value,
        label=label,
        show_label=False,
        container=False,
        elem_id=elem_id,
        elem_classes="segmented",
    )


def _chatbot() -> gr.Chatbot:
    return gr.Chatbot(
        elem_id="answers",
        show_label=False,
        container=False,
        height="100%",
        layout="panel",
        buttons=[],
        feedback_options=None,
        latex_delimiters=[],
        sanitize_html=True,
        allow_tags=False,
        allow_file_downloads=False,
        autoscroll=False,
        placeholder="",
    )


def _question() -> gr.Textbox:
    return gr.Textbox(
        placeholder="Ask a question",
        label="Question",
        show_label=False,
        container=False,
        lines=1,
        max_lines=6,
        max_length=2000,
        submit_btn=True,
        elem_id="question",
    )
