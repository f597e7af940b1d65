"""Sounds and music as segments: the windows to listen to, and what becomes of the events that a model lists.

A model that lists the sounds of a minute also lists what is no news: that somebody speaks (the transcript
has that), and that there is silence; and it may list one sound twice. So descriptions are sorted by what they
say: music, mere talk, nothing at all, or the same as another one. The rules are small on purpose; each is a
list of words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from index.records import Segment, Span
from index.text import content_words, stem, words
from index.vocabulary import STOP_WORDS
from moss_audio.tasks import Event

_MUSIC = re.compile(
    r"\b(?:music\w*|melod\w+|songs?|sing(?:s|ing|ers?)?|sung|tunes?|choirs?|orchestra\w*|jingles?|lullab\w+|"
    r"chant(?:s|ing)?|instrumentals?|pian\w+|guitar\w*|violin\w*|cellos?|flutes?|trumpets?|saxophones?|"
    r"drum(?:s|ming|beats?)?|organ|harps?|accordions?)\b|音乐|乐曲|旋律|歌|唱|乐器|钢琴|吉他|小提琴|鼓",
    re.IGNORECASE,
)
_ANIMAL = re.compile(
    r"\b(?:birds?|birdsong|songbirds?|blackbirds?|nightingales?|crickets?|cicadas?|frogs?|whales?|insects?)\b"
    r"|鸟|虫|蛙",
    re.IGNORECASE,
)
_QUIET = re.compile(
    r"(?:there (?:is|are) |the (?:audio|recording|clip) (?:is|contains|has) |i (?:can )?hear )?"
    r"(?:(?:a|the|brief|short|long|complete|total|near|period of|moment of) )*"
    r"(?:silence(?: (?:in|at|for|of|between|throughout)\b.*)?|quiet|silent|none|nothing"
    r"|no (?:(?:audible|distinct|significant|other|clear|notable) )*"
    r"(?:sounds?|events?|noises?|audio|music|speech)\b.*)\W*"
    r"|静音|安静|无声",
    re.IGNORECASE,
)
_TALK_WORDS = """
speech speak speaks speaking spoke talk talks talking talked conversation conversations dialogue converse
converses conversing narration narrates narrating discuss discusses discussing discussion says saying said
asks asking answers answering replies replying explains explaining utters uttering
"""
_TALK = frozenset(_TALK_WORDS.split())
_WHO_AND_HOW_WORDS = """
man men woman women male female person people speaker speakers child boy girl adult narrator host voice
voices someone somebody another other first second third young old older elderly middle aged one two three
four several multiple single different same group
english mandarin chinese spanish french german language accent tone pace again continues continuing starts
begins ongoing foreground meeting
"""
_WHO_AND_HOW = frozenset(_WHO_AND_HOW_WORDS.split())
_SUBJECT = re.compile(r"\b(?:about|that|regarding|concerning)\b.*", re.IGNORECASE)
_TALK_ZH = re.compile(r"[^，,。、]{0,12}(?:说话|讲话|谈话|对话|交谈|发言)[^，,。、]{0,4}")


def is_music(text: str) -> bool:
    """Whether a description is of music: it names music, song, singing or an instrument, and no animal."""
    return _MUSIC.search(text) is not None and _ANIMAL.search(text) is None


def is_quiet(text: str) -> bool:
    """Whether a description says that nothing can be heard."""
    return _QUIET.fullmatch(text) is not None


def is_talk(text: str) -> bool:
    """Whether a description says that somebody speaks and nothing else, such as laughter or a dog.

    What they speak about does not count, nor who it is, nor how (adverbs).
    """
    if _TALK_ZH.fullmatch(text):
        return True
    named = words(_SUBJECT.sub("", text))
    rest = [word for word in named if word not in _TALK]
    return len(rest) < len(named) and all(
        word in _WHO_AND_HOW or word in STOP_WORDS or word.endswith("ly") for word in rest
    )


def alike(one: str, other: str) -> bool:
    """Whether two descriptions share at least half of their words, or one says all that the other does."""
    mine, its = ({stem(word) for word in content_words(text)} for text in (one, other))
    shared = len(mine & its)
    return shared > 0 and (2 * shared >= len(mine | its) or shared == min(len(mine), len(its)))


WINDOW_SECONDS = 60.0
"""About how much audio is listened to in one go: longer answers run into repetitions."""

SEAM_SECONDS = 1.0
"""This much is heard on either side of a window too, so that no sound is cut in two; a sound belongs to the
window that its middle lies in."""

MOMENT_SECONDS = 0.5
"""A sound given as a moment gets this length, so that it can be played."""

LONGEST_TEXT = 200


@dataclass(frozen=True)
class SoundWindow:
    """A stretch of a recording, seconds on its clock.

    Attributes:
        own: The sounds whose middle lies there belong to this window.
        heard: What is listened to: a little more on either side.
    """

    own: Span
    heard: Span


def cut_sound_windows(duration: float) -> list[Span]:
    """Cut the whole recording into windows of equal length, about a minute each, silence included."""
    count = max(1, round(duration / WINDOW_SECONDS))
    edges = [duration * number / count for number in range(count + 1)]
    return [Span(edges[at], edges[at + 1]) for at in range(count)]


def sound_window(own: Span, duration: float) -> SoundWindow:
    """A stretch with what is heard around it."""
    return SoundWindow(own, Span(max(0.0, own.start - SEAM_SECONDS), min(duration, own.end + SEAM_SECONDS)))


def sounds_of(
    events: Iterable[Event], window: SoundWindow, speech: Sequence[Span], engine: str
) -> list[Segment]:
    """The sounds and the music of a window as segments, in time order.

    Args:
        events: On the clock of the audio that was heard.
        window: Where that was.
        speech: Detected speech of the recording.
        engine: The name of the engine that listed them.
    """
    found = []
    for event in events:
        span = Span(window.heard.start + event.start, window.heard.start + event.end)
        text = _plain(event.text)
        last = window.own.end >= window.heard.end
        middle = (span.start + span.end) / 2
        if not (window.own.start <= middle < window.own.end or (last and middle == window.own.end)):
            continue
        if not text or is_quiet(text) or (is_talk(text) and _is_spoken(span, speech)):
            continue
        span = _playable(span, window.heard)
        kind = "music" if is_music(text) else "sound"
        found.append(Segment(span.start, span.end, text, kind=kind, engine=engine))  # type: ignore[arg-type]
    return merged(found, ())


def merged(segments: Sequence[Segment], seams: Sequence[float]) -> list[Segment]:
    """Join sounds that are one sound listed twice: alike, and overlapping or meeting at a seam.

    Args:
        segments: Sounds and music, in any order.
        seams: Where windows meet, seconds; a sound that ends there and one that begins there may be one.

    Returns:
        In time order; a joined sound keeps the first one's ``id`` and the text of the longest.
    """
    kept: list[Segment] = []
    near: list[int] = []
    for sound in sorted(segments, key=lambda segment: (segment.start, segment.end, segment.id)):
        near = [at for at in near if sound.start <= kept[at].end + 2 * SEAM_SECONDS]
        twin = next((at for at in near if _same_sound(kept[at], sound, seams)), None)
        if twin is None:
            near.append(len(kept))
            kept.append(sound)
        else:
            other = kept[twin]
            text = other.text if other.end - other.start >= sound.end - sound.start else sound.text
            kept[twin] = replace(other, end=max(other.end, sound.end), text=text)
    return kept


def _same_sound(before: Segment, after: Segment, seams: Sequence[float]) -> bool:
    if before.kind != after.kind:
        return False
    if after.start > before.end:
        meets = (
            abs(before.end - at) <= SEAM_SECONDS and abs(after.start - at) <= SEAM_SECONDS for at in seams
        )
        if not any(meets):
            return False
    return alike(before.text, after.text)


def _plain(text: str) -> str:
    """One line without the brackets and full stops that models put around a description."""
    return " ".join(text.split()).strip(' .;,-–—*_"“”()[]')[:LONGEST_TEXT].strip()


def _is_spoken(span: Span, speech: Sequence[Span]) -> bool:
    """Whether speech was detected in at least half of a stretch."""
    inside = sum(
        max(0.0, min(spoken.end, span.end) - max(spoken.start, span.start))
        for spoken in speech
        if spoken.overlaps(span)
    )
    return inside >= 0.5 * span.duration


def _playable(span: Span, within: Span) -> Span:
    """The span, widened where it is hardly more than a moment."""
    start, end = span.start, span.end
    if span.duration < MOMENT_SECONDS:
        middle = (start + end) / 2
        start = max(within.start, min(middle - MOMENT_SECONDS / 2, within.end - MOMENT_SECONDS))
        end = min(within.end, start + MOMENT_SECONDS)
    return Span(round(start, 3), round(end, 3))
