"""What the page writes: nothing that was said, typed or returned is ever interpreted."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agent.answer import Answer, Citation
from index.notes import percent
from index.records import Note, NoteKind, Recording, Segment, Span
from tools.result import Evidence, ToolResult
from web.page import chat_view
from web.page.library_view import render_library, time_left
from web.page.transcript_view import render_head, render_player, render_transcript

MARKDOWN = MarkdownIt("gfm-like", {"breaks": True, "linkify": False})
RENDERED = {"p", "a", "ul", "ol", "li", "br", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"}
anything = st.text(max_size=80) | st.text(alphabet="<>[]()!*_`#&|~\\ \n-+.1:/@$\"'ax", max_size=60)


def tags(markup: str) -> list[str]:
    return re.findall(r"<([a-zA-Z][a-zA-Z0-9]*)", markup)


def recording(title: str = "A call", speakers: tuple[str, ...] = (), **more: object) -> Recording:
    return Recording(
        "ab" * 32, title, "a.mp3", 60.0, "ready", "2026-01-01T00:00:00+00:00", speakers=speakers, **more
    )  # type: ignore[arg-type]


@given(anything)
def test_what_was_typed_becomes_no_element_but_lists_and_paragraphs(text: str) -> None:
    rendered = MARKDOWN.render(chat_view.plain(text))
    assert set(tags(rendered)) <= RENDERED - {"a"}


@given(anything, anything)
def test_an_answers_only_links_are_its_citations(before: str, after: str) -> None:
    before, after = (text.replace("[#", "").replace("“", "").replace('"', "") for text in (before, after))
    for opening in "„«「":
        before = before.replace(opening, "")
    answer = Answer(
        "", (Citation("ab" * 32, 125.5, 130.0, "q"),), (), "m", 0.1, "t", f"{before} [#7] {after}"
    )
    rendered = MARKDOWN.render(chat_view.answer_text(answer))
    assert set(tags(rendered)) <= RENDERED
    links = re.findall(r'<a href="([^"]*)"', rendered)
    assert links == [f"#play/125.500/130.000/{'ab' * 32}"]


@given(anything, anything)
def test_a_transcript_shows_its_text_and_nothing_else(text: str, speaker: str) -> None:
    known = recording(
        text or "x",
        (speaker,) if speaker else (),
        coverage=0.5,
        gaps=(Span(20, 21),),
        notes=(Note(NoteKind.OTHER, detail=text),),
    )
    segment = Segment(1.0, 2.0, text, speaker=speaker or None, id=1)
    shown = render_transcript(known, [segment])
    divs = ["rows", "turn", "who", "line", "gap"] if speaker else ["rows", "turn", "line", "gap"]
    assert sorted(tags(shown)) == sorted(["div"] * len(divs) + ["time", "span"] * 2)
    assert html.escape(text) in shown
    for markup in (render_head(known), render_player(known, True), render_library([known], [], None)):
        assert not {"script", "img", "style", "iframe", "b"} & set(tags(markup))
        assert "${" not in markup.replace(html.escape(text), "").replace(html.escape(speaker), "")


def test_shares_and_times_read_as_people_say_them() -> None:
    assert [percent(share) for share in (1.0, 0.9999, 0.984, 0.0)] == ["100 %", "99 %", "98 %", "0 %"]
    assert [time_left(seconds) for seconds in (0.2, 40, 119, 3900)] == ["1 s", "40 s", "2 min", "1 h 5 min"]


def test_steps_say_what_was_done_and_show_the_first_sentences() -> None:
    evidence = tuple(
        Evidence(id=n, recording="ab" * 32, start=n, end=n + 1, speaker="*Eve*", text="**so**")
        for n in range(12)
    )
    shown = chat_view.step_content(ToolResult(evidence=evidence, notes=("a *note*",)))
    assert shown.count("#play/") == chat_view.SHOWN_EVIDENCE
    assert "and 4 more" in shown
    assert "<em>" not in MARKDOWN.render(shown) and "<strong>" not in MARKDOWN.render(shown)
    assert chat_view.describe("read_transcript", {"start": 120, "end": 180}, {}) == "Read 2:00–3:00"
    assert chat_view.describe("unheard_of", {}, {}) == "unheard_of"
