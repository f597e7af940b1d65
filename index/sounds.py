"""Sounds and music: heard window by window, over the whole recording, joined, and stored beside speech.

Listening comes after the transcript and never costs it: what fails is noted and left for another time.

A model that lists the sounds of a minute also lists what is no news: that somebody speaks (the transcript
has that), and that there is silence; and it may list one sound twice. So descriptions are sorted by what they
say: music, mere talk, nothing at all, or the same as another one. The rules are small on purpose; each is a
list of words.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from index.audio.decode import SAMPLE_RATE, read_range
from index.pipeline.stage import IngestContext, Stage
from index.pipeline.transcribe_stage import segment_row
from index.recording_errors import HearingError, TooLong
from index.records import NoteKind, Segment, Span, StageName
from index.store.database import SegmentRow, SoundWindowRow
from index.store.library import Library
from index.text import content_words, stem, words
from index.transcription.moss_requests import BackendClient, sampled
from index.vocabulary import STOP_WORDS
from moss_audio.generation.requests import Options, Reply
from moss_audio.tasks import TASKS, Event, Events, Parsed

WINDOW_SECONDS = 60.0
"""About how much audio is listened to in one go: longer answers run into repetitions."""

SEAM_SECONDS = 1.0
"""This much is heard on either side of a window too, so that no sound is cut in two; a sound belongs to the
window that its middle lies in."""

MOMENT_SECONDS = 0.5
"""A sound given as a moment gets this length, so that it can be played."""

LONGEST_TEXT = 200

TOKENS = 128
TOKENS_PER_SECOND = 6.0
"""Tokens a list of sounds may have, in all and a second of audio: a line takes about twenty."""

SILENCE = 1e-4
"""Peak of audio in which nothing can be heard (-80 dB): it is not asked about, since models invent there."""

MAX_SPLITS = 1
"""How many times a stretch is split in half when the model gives no list of its sounds."""

SHORTEST_HALF_SECONDS = 4.0
"""A shorter half is not listened to on its own."""


# --- what a description says ----------------------------------------------------------------------------

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


# --- windows and their sounds ---------------------------------------------------------------------------


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


# --- asking the model -----------------------------------------------------------------------------------


class MossSounds(BackendClient):
    """Lists sounds with any MOSS-Audio backend.

    Args:
        backend: Stays open.
    """

    def listen(self, audio: np.ndarray, stop: threading.Event | None = None) -> Events:
        """What can be heard in float32 ``[n_samples]`` (mono, 16 kHz); times are seconds from its start.

        An answer that repeats itself, breaks off, or is words without any time is no list of sounds: the
        request is retried with sampling, and then for each half. What is too long for the engine is split at
        once.

        Raises:
            HearingError: The engine failed, also when asked again, or gave no list.
            Cancelled: ``stop`` was set.
        """
        return Events(self._events(audio, stop, MAX_SPLITS))

    def _events(self, audio: np.ndarray, stop: threading.Event | None, splits: int) -> list[Event]:
        if not len(audio) or float(np.abs(audio).max()) < SILENCE:
            return []
        seconds = len(audio) / SAMPLE_RATE
        tokens = TOKENS + round(TOKENS_PER_SECOND * seconds)
        options = Options(max_new_tokens=tokens, thinking=False, stop_loops=True)
        try:
            for way in (options, sampled(options)):
                reply = self.ask(TASKS["events"].prompt, audio, way, stop)
                parsed: Parsed[Events] = TASKS["events"].parse(reply.text, seconds)
                if _is_list(reply, parsed):
                    return list(parsed.value)
            problem = HearingError(
                f"The answer about these {seconds:.0f} s of audio is not a list of sounds."
            )
        except TooLong as refusal:
            problem, splits = refusal, splits + 1
        if not splits or seconds < 2 * SHORTEST_HALF_SECONDS:
            raise problem
        return self._in_halves(audio, stop, splits - 1)

    def _in_halves(self, audio: np.ndarray, stop: threading.Event | None, splits: int) -> list[Event]:
        """The sounds of both halves; each hears a little of the other too, and keeps its own."""
        middle, seam = len(audio) // 2, round(SEAM_SECONDS * SAMPLE_RATE)
        cut, begins = middle / SAMPLE_RATE, (middle - seam) / SAMPLE_RATE
        found = self._events(audio[: middle + seam], stop, splits)
        later = self._events(audio[middle - seam :], stop, splits)
        moved = [replace(event, start=event.start + begins, end=event.end + begins) for event in later]
        return [event for event in found if event.start + event.end < 2 * cut] + [
            event for event in moved if event.start + event.end >= 2 * cut
        ]


def _is_list(reply: Reply, parsed: Parsed[Events]) -> bool:
    """Whether an answer lists sounds, or says that there are none, and came to its end."""
    if reply.stopped in ("loop", "length"):
        return False
    says_more = any(part.kind not in ("fence", "thinking", "special token") for part in parsed.dropped)
    return bool(parsed.value) or not says_more or is_quiet(" ".join(reply.text.split()))


# --- the stage ------------------------------------------------------------------------------------------


def is_complete(library: Library, recording: str) -> bool:
    """Whether all of a recording was listened to for sounds."""
    of_recording = SoundWindowRow.recording_id == recording
    with library.database.transaction() as session:
        total = session.scalar(select(func.count()).where(of_recording))
        missing = session.scalar(select(func.count()).where(of_recording, ~SoundWindowRow.done))
    return bool(total) and not missing


class SoundStage(Stage[SoundWindowRow, list[Segment]]):
    """The stage for one recording.

    Args:
        context: The run it is part of.
        sounds: The engine.
        speech: Detected speech.
    """

    name = StageName.LISTENING_FOR_SOUNDS
    failure = NoteKind.SOUNDS_FAILED

    def __init__(self, context: IngestContext, sounds: MossSounds, speech: Sequence[Span]) -> None:
        super().__init__(context)
        self.sounds = sounds
        self.speech = speech
        self.duration = context.recording.duration

    @property
    def at_once(self) -> int:
        """See ``Stage``."""
        return self.sounds.at_once

    def missing(self) -> Sequence[SoundWindowRow]:
        """See ``Stage``; the windows are cut the first time."""
        recording = self.context.id
        of_recording = SoundWindowRow.recording_id == recording
        with self.context.database.transaction() as session:
            if not session.scalar(select(func.count()).where(of_recording)):
                for number, span in enumerate(cut_sound_windows(self.duration)):
                    session.add(
                        SoundWindowRow(recording_id=recording, number=number, start=span.start, end=span.end)
                    )
                session.flush()
            query = select(SoundWindowRow).where(of_recording, ~SoundWindowRow.done)
            return session.scalars(query.order_by(SoundWindowRow.number)).all()

    def prepare(self, missing: Sequence[SoundWindowRow]) -> None:
        """See ``Stage``."""
        self.sounds.prepare(self.context.cancel)

    def process(self, window: SoundWindowRow) -> list[Segment]:
        """See ``Stage``: the sounds of a window, which is heard with a little on either side."""
        widened = sound_window(Span(window.start, window.end), self.duration)
        audio = read_range(self.context.audio, widened.heard.start, widened.heard.end)
        events = self.sounds.listen(audio, self.context.cancel)
        return sounds_of(events, widened, self.speech, self.sounds.name)

    def store(self, session: Session, window: SoundWindowRow, result: list[Segment]) -> None:
        """See ``Stage``; a window that is done already stays as it is."""
        is_open = (SoundWindowRow.id == window.id, ~SoundWindowRow.done)
        mine = update(SoundWindowRow).where(*is_open).values(done=True).returning(SoundWindowRow.id)
        if session.execute(mine).first() is not None:
            for segment in result:
                session.add(segment_row(self.context.id, segment))

    def finish(self) -> None:
        """See ``Stage``."""
        join_sounds(self.context)


def join_sounds(context: IngestContext) -> None:
    """Join the sounds that go on from one window to the next; doing it again changes nothing.

    Sounds are joined after every run that stored some, and again when the file is added: a run that was
    killed after its last window has not done it.
    """
    with context.database.transaction() as session:
        query = select(SoundWindowRow.start).where(SoundWindowRow.recording_id == context.id)
        seams = [start for start in session.scalars(query) if start > 0]
    found = [segment for segment in context.library.segments(context.id) if segment.kind != "speech"]
    kept = {segment.id: segment for segment in merged(found, seams)}
    with context.database.transaction() as session:
        for segment in found:
            joined = kept.get(segment.id)
            if joined is None:
                session.execute(delete(SegmentRow).where(SegmentRow.id == segment.id))
            elif joined != segment:
                changed = {"end": joined.end, "text": joined.text, "embedding": None}
                session.execute(update(SegmentRow).where(SegmentRow.id == segment.id).values(**changed))
