"""What programs are told of the library: the typed documents of the API and of MCP.

Times are seconds on the recording's clock. ``link`` opens the page at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from agent.answer import Answer, Citation
from index.notes import describe, told_coverage
from index.records import ActionItem, Comment, Hit, Item, Kind, Recording, Segment, Summary, Topic
from tools.result import Heard, Outline, OutlineTopic
from web.jobs import Job

if TYPE_CHECKING:
    from agent.instructed_summary import InstructedSummary
    from agent.workspace import SpeakerFacts
    from index.corrections.correcting import Changed, Correction
    from index.diarization.known_voices import KnownVoice, Likeness
    from index.timeline import TalkTime, VoiceTime


class Links:
    """Links to moments on the page.

    Args:
        page: The page's address, without a slash at its end.
    """

    def __init__(self, page: str) -> None:
        self._page = page.rstrip("/")

    def to(self, recording: str, start: float | None = None) -> str:
        """The address that opens a recording, at ``start`` seconds if given."""
        at = "" if start is None else f"&t={round(start, 1):g}"
        return f"{self._page}/?recording={quote(recording)}{at}"


class Document(BaseModel):
    """Plain, immutable data."""

    model_config = ConfigDict(frozen=True)


class MomentDocument(Document):
    """A stretch of a recording."""

    recording: str = Field(description="Id of the recording.")
    title: str = Field(description="Title of the recording.")
    start: float = Field(description="Where it starts, seconds.")
    end: float = Field(description="Where it ends, seconds.")
    link: str = Field(description="Address of the page at this moment.")


class RecordingDocument(Document):
    """One recording of the library."""

    id: str = Field(description="SHA-256 of the file; any unique beginning of it names the recording too.")
    title: str
    duration: float = Field(description="Length in seconds.")
    language: str | None = Field(description="What is spoken most, as an ISO 639-1 code.")
    languages: list[str]
    status: str = Field(description="listening, ready, failed or cancelled.")
    coverage: float | None = Field(
        description="Share of the detected speech that is transcribed; "
        "null where it is not known, or is all of it and notes say what else is missing."
    )
    gaps: list[tuple[float, float]] = Field(description="Speech that is not transcribed, in seconds.")
    speakers: list[str]
    added_at: str
    notes: list[str] = Field(description="What could not be done, a sentence each.")
    link: str = Field(description="Address of the page with this recording open.")

    @classmethod
    def of(cls, recording: Recording, links: Links) -> Self:
        """A stored recording."""
        return cls(
            id=recording.id,
            title=recording.title,
            duration=round(recording.duration, 3),
            language=recording.language,
            languages=list(recording.languages),
            status=recording.status.value,
            coverage=told_coverage(recording.coverage, recording.problems),
            gaps=[(gap.start, gap.end) for gap in recording.gaps],
            speakers=list(recording.speakers),
            added_at=recording.added_at,
            notes=[describe(note) for note in recording.problems],
            link=links.to(recording.id),
        )


class RecordingsDocument(Document):
    """Recordings of the library, newest first."""

    recordings: list[RecordingDocument]
    total: int = Field(description="How many there are in all.")


class SegmentDocument(Document):
    """One sentence, or one sound."""

    id: int
    start: float
    end: float
    speaker: str | None
    kind: Kind
    text: str
    language: str | None
    version: int = Field(description="Changes whenever somebody corrects it; send it with a correction.")

    @classmethod
    def of(cls, segment: Segment) -> Self:
        """A stored segment."""
        return cls(
            id=segment.id,
            start=round(segment.start, 3),
            end=round(segment.end, 3),
            speaker=segment.speaker,
            kind=segment.kind,
            text=segment.text,
            language=segment.language,
            version=segment.version,
        )


class TranscriptDocument(MomentDocument):
    """A transcript, or the part of it that overlaps ``[start, end)``."""

    segments: list[SegmentDocument]
    more_from: float | None = Field(
        default=None, description="Where the next part starts, seconds; null when nothing was left out."
    )
    notes: list[str] = Field(default=[], description="What could not be done, a sentence each.")

    @classmethod
    def of(
        cls,
        recording: Recording,
        segments: Sequence[Segment],
        start: float | None,
        end: float | None,
        links: Links,
        most: int | None = None,
    ) -> Self:
        """What ``Workspace.read`` returned for a range; at most so many segments."""
        shown = segments if most is None else segments[:most]
        cut = len(shown) < len(segments)
        return cls(
            recording=recording.id,
            title=recording.title,
            start=start or 0.0,
            end=min(recording.duration, recording.duration if end is None else end),
            link=links.to(recording.id, start or 0.0),
            segments=[SegmentDocument.of(segment) for segment in shown],
            more_from=round(segments[len(shown)].start, 3) if cut else None,
            notes=[describe(note) for note in recording.problems],
        )


class HitDocument(MomentDocument):
    """A stretch that a search found."""

    text: str
    score: float = Field(description="How likely it is what was looked for; comparable within one search.")


class HitsDocument(Document):
    """What a search found, best first."""

    hits: list[HitDocument]

    @classmethod
    def of(cls, hits: Sequence[Hit], titles: Mapping[str, str], links: Links) -> Self:
        """What ``Workspace.find`` returned, with the titles of recordings by id."""
        return cls(
            hits=[
                HitDocument(
                    recording=hit.recording,
                    title=titles.get(hit.recording, ""),
                    start=round(hit.start, 3),
                    end=round(hit.end, 3),
                    link=links.to(hit.recording, hit.start),
                    text=hit.text,
                    score=round(hit.score, 6),
                )
                for hit in hits
            ]
        )


class CitationDocument(MomentDocument):
    """What a claim rests on: words that were said."""

    quote: str

    @classmethod
    def of(cls, citation: Citation, titles: Mapping[str, str], links: Links) -> Self:
        """A checked citation."""
        return cls(
            recording=citation.recording,
            title=titles.get(citation.recording, ""),
            start=round(citation.start, 3),
            end=round(citation.end, 3),
            link=links.to(citation.recording, citation.start),
            quote=citation.quote,
        )


class AnswerDocument(Document):
    """An answer; its labels, such as [2:05], stand in the order of the citations."""

    answer: str
    citations: list[CitationDocument]
    model: str = Field(description="What wrote the answer.")
    seconds: float = Field(description="From the question to the answer.")
    thread: str = Field(description="Name of the conversation; send it with the next question to go on.")

    @classmethod
    def of(cls, answer: Answer, titles: Mapping[str, str], links: Links) -> Self:
        """A finished answer."""
        return cls(
            answer=answer.text,
            citations=[CitationDocument.of(citation, titles, links) for citation in answer.citations],
            model=answer.model,
            seconds=round(answer.seconds, 3),
            thread=answer.thread,
        )


class TopicDocument(Document):
    """What one part of a recording is about."""

    title: str
    start: float
    end: float
    points: list[str]
    link: str

    @classmethod
    def of(cls, topic: Topic | OutlineTopic, recording: str, links: Links) -> Self:
        """A topic of the recording with this id."""
        return cls(
            title=topic.title,
            start=topic.start,
            end=topic.end,
            points=list(topic.points),
            link=links.to(recording, topic.start),
        )


class ItemDocument(Document):
    """Something that was said and is worth listing."""

    text: str
    start: float
    end: float
    speaker: str | None
    link: str
    exchange: tuple[float, float] | None = Field(
        default=None,
        description="The longer talk that it was found in, where nobody said it in so many words.",
    )


class ActionDocument(ItemDocument):
    """What somebody is to do; owner and due are the words that were said."""

    owner: str | None
    due: str | None


class WrittenDocument(Document):
    """What came of an instruction for a summary."""

    instruction: str
    note: str = Field(description="What could not be done, as one sentence; empty where all was.")
    text: str = Field(description="What a language model wrote, checked; empty where none answers here.")
    citations: list[CitationDocument]
    fitting: list[SegmentDocument] = Field(description="What was said that fits, where no model wrote.")
    model: str = Field(description="What wrote.")

    @classmethod
    def of(cls, written: InstructedSummary, recording: Recording, links: Links) -> Self:
        """What ``Workspace.summarize_as`` returned."""
        titles = {recording.id: recording.title}
        return cls(
            instruction=written.instruction,
            note=written.note,
            text=written.text,
            citations=[CitationDocument.of(citation, titles, links) for citation in written.citations],
            fitting=[SegmentDocument.of(segment) for segment in written.fitting],
            model=written.model,
        )


class SummaryDocument(Document):
    """The summary of a recording."""

    recording: str
    title: str
    template: str
    overview: str
    topics: list[TopicDocument]
    decisions: list[ItemDocument]
    action_items: list[ActionDocument]
    open_questions: list[ItemDocument]
    key_quotes: list[ItemDocument]
    written: WrittenDocument | None = Field(
        default=None, description="By the instruction, where one is given."
    )

    @classmethod
    def of(
        cls, recording: Recording, summary: Summary, links: Links, written: InstructedSummary | None = None
    ) -> Self:
        """What ``Workspace.summarize`` returned, and ``summarize_as``."""

        def item(found: Item) -> ItemDocument:
            link = links.to(recording.id, found.start)
            return ItemDocument(
                text=found.text,
                start=found.start,
                end=found.end,
                speaker=found.speaker,
                link=link,
                exchange=(found.exchange.start, found.exchange.end) if found.exchange else None,
            )

        def action(found: ActionItem) -> ActionDocument:
            return ActionDocument(**item(found).model_dump(), owner=found.owner, due=found.due)

        return cls(
            recording=recording.id,
            title=recording.title,
            template=summary.template,
            overview=summary.overview,
            topics=[TopicDocument.of(topic, recording.id, links) for topic in summary.topics],
            decisions=[item(found) for found in summary.decisions],
            action_items=[action(found) for found in summary.action_items],
            open_questions=[item(found) for found in summary.open_questions],
            key_quotes=[item(found) for found in summary.key_quotes],
            written=None if written is None else WrittenDocument.of(written, recording, links),
        )


class OutlineDocument(Document):
    """The topics of a recording, in order."""

    recording: str
    title: str
    topics: list[TopicDocument]
    note: str = Field(description="What must be known about it; empty if nothing.")

    @classmethod
    def of(cls, outline: Outline, links: Links) -> Self:
        """What ``Workspace.outline`` returned."""
        recording = outline.recording
        return cls(
            recording=recording.id,
            title=recording.title,
            topics=[TopicDocument.of(topic, recording.id, links) for topic in outline.topics],
            note=outline.note,
        )


class HeardDocument(MomentDocument):
    """What MOSS-Audio answered about a stretch; times in the answer are the recording's."""

    answer: str
    note: str

    @classmethod
    def of(cls, heard: Heard, links: Links) -> Self:
        """What ``Workspace.listen`` returned."""
        return cls(
            recording=heard.recording.id,
            title=heard.recording.title,
            start=heard.range[0],
            end=heard.range[1],
            link=links.to(heard.recording.id, heard.range[0]),
            answer=heard.answer,
            note=heard.note,
        )


class CorrectionDocument(Document):
    """One entry of a recording's history: what was there before, and after."""

    id: int
    at: str
    by: str = Field(description="Through which door.")
    kind: str = Field(description="text, speaker, split, merge, rename or unite.")
    start: float | None = Field(description="Where its first sentence begins, seconds.")
    before: list[dict[str, Any]] = Field(description="Of each sentence its id and what changed.")
    after: list[dict[str, Any]]
    undone_at: str | None

    @classmethod
    def of(cls, correction: Correction) -> Self:
        """A stored correction."""
        return cls(**correction.to_json())


class ChangedDocument(Document):
    """What a correction changed."""

    revision: int
    segments: list[SegmentDocument] = Field(description="The sentences that changed, as they are now.")
    gone: list[int] = Field(description="Ids of sentences that are no longer there.")
    correction: CorrectionDocument | None = Field(description="Null where nothing had to be changed.")
    can_undo: bool
    can_redo: bool

    @classmethod
    def of(cls, changed: Changed) -> Self:
        """What the workspace returned for a correction."""
        return cls(
            revision=changed.revision,
            segments=[SegmentDocument.of(segment) for segment in changed.segments],
            gone=list(changed.gone),
            correction=CorrectionDocument.of(changed.correction) if changed.correction else None,
            can_undo=changed.can_undo,
            can_redo=changed.can_redo,
        )


class LikenessDocument(Document):
    """Who a speaker may be, or was named as, by the voice."""

    speaker: str
    voice: str = Field(description="Whose voice it is like.")
    sure: bool = Field(description="Whether it carries that name; else somebody must confirm it first.")

    @classmethod
    def of(cls, likeness: Likeness) -> Self:
        """A likeness as it is stored."""
        return cls(speaker=likeness.speaker, voice=likeness.voice, sure=likeness.sure)


class SpeakerDocument(Document):
    """A speaker of a recording."""

    name: str
    seconds: float = Field(description="How long they speak in all.")
    snippet: tuple[float, float] | None = Field(description="Where the voice is clearest, in seconds.")
    snippet_link: str | None = Field(description="Address of the page at that moment.")
    likeness: LikenessDocument | None = Field(
        description="Who they may be, or were named as, by their voice."
    )

    @classmethod
    def of(cls, speaker: SpeakerFacts, recording: str, links: Links) -> Self:
        """What ``Workspace.speaker_facts`` returned of one."""
        heard = speaker.snippet
        return cls(
            name=speaker.name,
            seconds=round(speaker.seconds, 3),
            snippet=None if heard is None else (round(heard.start, 3), round(heard.end, 3)),
            snippet_link=None if heard is None else links.to(recording, heard.start),
            likeness=None if speaker.likeness is None else LikenessDocument.of(speaker.likeness),
        )


class SpeakersDocument(Document):
    """The speakers of a recording."""

    recording: str
    title: str
    speakers: list[SpeakerDocument]


class ConfirmedDocument(Document):
    """What was said about whose voice a speaker's is."""

    speaker: str = Field(description="What the speaker was called before.")
    voice: str
    same: bool


class KnownVoiceDocument(Document):
    """Somebody known by voice."""

    name: str
    recordings: list[str] = Field(description="Ids of those that the voice was learned from.")
    seconds: float = Field(description="Speech behind it.")


class VoicesDocument(Document):
    """Who is known by voice; nothing of how they sound."""

    remembered: bool | None = Field(description="Whether voices may be remembered; null: nobody was asked.")
    voices: list[KnownVoiceDocument]

    @classmethod
    def of(cls, voices: Sequence[KnownVoice], remembered: bool | None) -> Self:
        """What ``Workspace.known_voices`` returned."""
        return cls(
            remembered=remembered,
            voices=[
                KnownVoiceDocument(name=voice.name, recordings=list(voice.recordings), seconds=voice.seconds)
                for voice in voices
            ],
        )


class CommentDocument(Document):
    """What somebody noted at a moment."""

    id: int
    at: float = Field(description="The moment, seconds.")
    text: str
    created_at: str
    by: str = Field(description="Name of whoever wrote it; empty where nobody had an account.")
    link: str

    @classmethod
    def of(cls, comment: Comment, links: Links) -> Self:
        """A stored comment."""
        return cls(
            id=comment.id,
            at=comment.at,
            text=comment.text,
            created_at=comment.created_at,
            by=comment.by,
            link=links.to(comment.recording, comment.at),
        )


class VoiceTimeDocument(Document):
    """How much one voice speaks."""

    name: str | None
    seconds: float
    share: float = Field(description="Of all voices' seconds, from 0 to 1.")
    turns: int
    words: int | None
    words_per_minute: float | None

    @classmethod
    def of(cls, voice: VoiceTime) -> Self:
        """One voice of a talk time."""
        return cls.model_validate(vars(voice))


class TalkTimeDocument(Document):
    """How a recording's time is divided between voices and silence, in seconds."""

    duration: float
    speech: float
    silence: float
    overlap: float
    voices: list[VoiceTimeDocument] = Field(description="Whoever speaks most comes first.")

    @classmethod
    def of(cls, talk: TalkTime) -> Self:
        """What ``Workspace.talk_time`` returned."""
        return cls(
            duration=talk.duration,
            speech=talk.speech,
            silence=talk.silence,
            overlap=talk.overlap,
            voices=[VoiceTimeDocument.of(voice) for voice in talk.voices],
        )


class RenamedSpeakerDocument(Document):
    """A speaker under the new name."""

    name: str
    segments: int = Field(description="How many segments carry the name now.")


class JobDocument(Document):
    """A file on its way into the library."""

    id: str
    state: Literal["waiting", "running", "failed", "stopped", "done"]
    title: str
    recording: str | None = Field(description="Id of the recording, once the file was read.")
    stage: str | None = Field(description="What is being done, while it runs.")
    fraction: float = Field(description="Share of the stage that is done, from 0 to 1.")
    seconds_left: float | None = Field(description="Expected until the stage is complete.")
    error: str | None = Field(description="Why it failed, in one sentence.")
    can_retry: bool

    @classmethod
    def of(cls, job: Job) -> Self:
        """A job as it is now."""
        at = job.progress if job.state == "running" else None
        return cls(
            id=job.id,
            state=job.state,
            title=job.title,
            recording=job.recording,
            stage=at.stage.value if at else None,
            fraction=1.0 if job.state == "done" else round(at.fraction, 4) if at else 0.0,
            seconds_left=None if at is None or at.seconds_left is None else round(at.seconds_left, 1),
            error=job.error,
            can_retry=job.state in ("failed", "stopped") and job.retry,
        )
