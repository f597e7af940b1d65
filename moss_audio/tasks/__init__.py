"""What MOSS-Audio can be asked, and how its answers are read.

``TASKS["timestamps"].prompt`` is what to ask; ``TASKS["timestamps"].parse(text, duration)`` reads the answer
into typed values, with a report of all that was dropped. Pure Python: nothing here needs the model.
"""

from moss_audio.tasks.caption import parse_caption
from moss_audio.tasks.choice import ask_choice, parse_choice
from moss_audio.tasks.registry import TASKS, Task, ask, choice, parse_description, parse_transcript
from moss_audio.tasks.results import (
    CAPTION_FIELDS,
    Caption,
    Choice,
    Description,
    Dropped,
    Event,
    Events,
    Kind,
    Parsed,
    TimedText,
    TimedTexts,
    Transcript,
    official,
)
from moss_audio.tasks.timed_text import parse_events, parse_sentences, parse_speakers, parse_words

__all__ = [
    "CAPTION_FIELDS",
    "TASKS",
    "Caption",
    "Choice",
    "Description",
    "Dropped",
    "Event",
    "Events",
    "Kind",
    "Parsed",
    "Task",
    "TimedText",
    "TimedTexts",
    "Transcript",
    "ask",
    "ask_choice",
    "choice",
    "official",
    "parse_caption",
    "parse_choice",
    "parse_description",
    "parse_events",
    "parse_sentences",
    "parse_speakers",
    "parse_transcript",
    "parse_words",
]
