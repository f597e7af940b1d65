"""What a summary of each kind of conversation consists of, as data: another kind is another entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Section = Literal["key_quotes", "decisions", "action_items", "open_questions", "topics"]


@dataclass(frozen=True)
class SummaryTemplate:
    """How a kind of conversation is summarised.

    Attributes:
        sections: In the order in which people read them: what mattered, what follows, what it was about.
        headings: What a section is called where it has another name.
        expected: Sections that are shown even when empty, and then say so.
        topics: What the topics are: what is talked about, questions with their replies, or what each voice
            tells.
        has_decisions: Whether decisions are looked for.
        has_audience: Whether what the audience asks counts among the questions.
        counted: What the overview calls topics.
        guidance: What a language model is told to write, in one sentence.
    """

    sections: tuple[Section, ...]
    headings: Mapping[Section, str] = field(default_factory=dict)
    expected: tuple[Section, ...] = ()
    topics: Literal["topics", "exchanges", "updates"] = "topics"
    has_decisions: bool = True
    has_audience: bool = False
    counted: str = "topic"
    guidance: str = ""


SUMMARY_TEMPLATES: dict[str, SummaryTemplate] = {
    "meeting": SummaryTemplate(
        ("key_quotes", "decisions", "action_items", "open_questions", "topics"),
        expected=("decisions", "action_items", "open_questions"),
        guidance="Minutes of a meeting: what was decided, who does what by when, what is still open.",
    ),
    "lecture": SummaryTemplate(
        ("key_quotes", "topics", "open_questions", "action_items", "decisions"),
        headings={"key_quotes": "Key points", "open_questions": "Questions"},
        has_decisions=False,
        has_audience=True,
        guidance="Notes of a lecture: its main points in order, its examples, what the audience asked.",
    ),
    "interview": SummaryTemplate(
        ("key_quotes", "topics", "decisions", "action_items", "open_questions"),
        headings={"topics": "Questions and answers"},
        topics="exchanges",
        has_decisions=False,
        counted="question",
        guidance="An interview: what was asked, and what was answered to it.",
    ),
    "standup": SummaryTemplate(
        ("topics", "decisions", "action_items", "open_questions"),
        headings={"topics": "Updates"},
        topics="updates",
        counted="update",
        guidance="A stand-up: what each person did, does next, and is held up by.",
    ),
    "call": SummaryTemplate(
        ("key_quotes", "action_items", "decisions", "open_questions", "topics"),
        headings={"action_items": "Next steps"},
        expected=("action_items", "decisions"),
        guidance="A call: what the caller wants, what was agreed, what happens next.",
    ),
}
"""By their names, ``index.records.TEMPLATES``."""
