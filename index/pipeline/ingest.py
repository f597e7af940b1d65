"""From a file to a searchable recording, in stages that each survive a ``kill -9``.

    decode → detect speech → cut windows → transcribe each window → identify speakers → coverage → index
           → listen for sounds, where an engine can → index

The audio copy, the detected speech, the list of windows and every finished window are stored as they
come, each in one transaction. Adding the same file again resumes at the first thing that is missing; several
files may be added at a time, from a thread each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from sqlalchemy import select

from index.audio.decode import Decoded, declared_duration, decode_to_flac, file_id
from index.diarization.diarize_stage import DiarizeStage, diarize, diarize_again
from index.disk_space import noticing_full_disk, reserve
from index.language_names import language_name, name_languages
from index.pipeline.stage import IngestContext
from index.pipeline.transcribe_file import NO_SPEECH, find_windows
from index.pipeline.transcribe_stage import TranscribeStage
from index.progress import Progress
from index.recording_errors import Cancelled, EngineStopped, MossAgentError, WeightsError
from index.records import Note, NoteKind, Recording, Span, StageName, Status
from index.search.indexing import index_recording
from index.sounds import MossSounds, SoundStage, is_complete, join_sounds
from index.speaker_names import is_label
from index.store.database import RecordingRow, SpeakerRow, WindowRow
from index.store.library import Library
from index.transcription.coverage import coverage, find_gaps
from index.transcription.languages import languages_spoken
from index.transcription.transcriber import Transcriber

if TYPE_CHECKING:
    from index.diarization.known_voices import KnownVoices
    from index.diarization.moss_speakers import MossSpeakers
    from index.search.embeddings import Embedder
    from index.search.vectors import Vectors

__all__ = ["Ingest", "Progress"]

MAX_SPEAKERS = 50


@dataclass(frozen=True)
class _Before:
    """What a recording was before it was added again."""

    status: Status
    title: str
    languages: tuple[str, ...]


class Ingest:
    """Takes recordings in.

    Args:
        library: Where segments are stored.
        transcriber: The engine that transcribes windows.
        embedder: Embeds passages.
        vectors: Where their vectors are stored.
        language: The one language that is spoken (ISO 639-1) when the user set one; else it is found for each
            stretch of speech.
        sounds: The engine that listens for sounds and music after the transcript; None leaves that out.
        speakers: The model that is asked who speaks; None leaves it to the voices.
        voices: Whom speakers are compared with; None knows nobody again.
    """

    def __init__(
        self,
        library: Library,
        transcriber: Transcriber,
        embedder: Embedder,
        vectors: Vectors,
        language: str | None = None,
        sounds: MossSounds | None = None,
        speakers: MossSpeakers | None = None,
        voices: KnownVoices | None = None,
    ) -> None:
        self.library = library
        self.transcriber = transcriber
        self.embedder = embedder
        self.vectors = vectors
        self.language = language
        self.sounds = sounds
        self.speakers = speakers
        self.voices = voices
        self._busy: dict[str, threading.Lock] = {}

    def add(
        self,
        path: Path,
        title: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        language: str | None = None,
        told: Callable[[str], None] | None = None,
        track: int | None = None,
    ) -> Recording:
        """Take a file in, or resume where an earlier attempt stopped.

        Args:
            path: Any media file.
            title: Shown name; by default the file's name, or what it is called where it is there already.
            speakers: Number of speakers when known; by default it is estimated. Speakers of a recording that
                is there already are identified again when there are not so many, unless they were named.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop; what was transcribed is kept.
            language: The one language that is spoken (ISO 639-1); by default that of the constructor, or the
                one that was given when an earlier attempt began.
            told: Called with what happened to a recording that was there already, as sentences for the user.
                Without it such a recording keeps its title: the page sends a file's name with every file.
            track: The audio track of the file to hear, from 1; by default ``index.audio.tracks`` decides. A
                recording that is there already keeps the one that was heard.

        Returns:
            The recording; when it was ready already and nothing of it is left to be heard, only its title and
            speakers change.

        Raises:
            MediaError: The file cannot be turned into audio, or has no such track; nothing is stored.
            MossAgentError: Another track of it was heard, and there is no ``told``; nothing changes.
            Cancelled: ``cancel`` was set; adding the file again resumes from there.
            WeightsError: The recogniser's weights are missing or wrong.
            HearingError: The recogniser failed on all of it; what was heard before is kept.
            IndexOutOfDate: The search index was made with another embedder; nothing is stored.
            DiskFull: The disk is full; what was transcribed is kept.
        """
        if speakers is not None and not 1 <= speakers <= MAX_SPEAKERS:
            raise MossAgentError(f"The number of speakers must be between 1 and {MAX_SPEAKERS}.")
        report = progress or (lambda _: None)
        report(Progress(StageName.READING, 0.0, 0.0))
        context = self._context(file_id(path), report, cancel or threading.Event())
        # The same file twice at a time: the second comes when the first is done, and finds it ready.
        with self._busy.setdefault(context.id, threading.Lock()), noticing_full_disk(self.library.home):
            before = self._known(context)
            if before is not None and told is None and (kept := self._kept_track(context, track)):
                raise MossAgentError(kept)
            recording = self._run(context, path, title, speakers, language or self.language, track)
            if before is None:
                return recording
            if told is not None:
                self._retitle(context, before, title, told)
                _tell_languages(context, before, language, told)
                self._tell_track(context, track, told)
            self._recount_speakers(context, speakers, told or (lambda _: None))
            return context.recording

    def relabel_speakers(
        self, recording: str, speakers: int | None, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """Identify the speakers of a recording anew, with their number given or estimated.

        Ctrl+C ends it, and leaves the names as they were; what a model was asked until then is kept.

        Args:
            recording: Its id; it is ready.
            speakers: How many; None estimates it.
            progress: Called often where a model is asked window by window, from this thread.
        """
        context = self._context(recording, progress or (lambda _: None), threading.Event())
        self._relabel(context, speakers)

    def _relabel(self, context: IngestContext, speakers: int | None) -> None:
        diarize_again(context, self._stored_speech(context), self.speakers, speakers)
        self._recognise(context)
        context.set(expected_speakers=speakers)

    def _recognise(self, context: IngestContext) -> None:
        """Look for known voices; without the encoder's weights there are no speakers to look at either."""
        if self.voices is not None:
            with suppress(WeightsError):
                self.voices.recognise(context.id, context.cancel.is_set)

    def _known(self, context: IngestContext) -> _Before | None:
        """What a recording is before it is added again; None where it is new."""
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, context.id)
            if row is None:
                return None
            status, title = row.status, row.title
        return _Before(status, title, languages_spoken(self.library.segments(context.id)))

    def _retitle(
        self, context: IngestContext, before: _Before, title: str | None, told: Callable[[str], None]
    ) -> None:
        """Give a recording that was there already the title that is wanted now."""
        if before.status == Status.READY:
            told("It was in the library already.")
        if title is not None and (wanted := _title(title)) != before.title:
            self.library.rename(context.id, wanted)
            told(f"Its title was “{before.title}”; it is “{wanted}” now.")

    def _tell_track(self, context: IngestContext, track: int | None, told: Callable[[str], None]) -> None:
        """Say that a recording that was there already keeps the audio track that was heard."""
        if kept := self._kept_track(context, track):
            told(kept)

    def _kept_track(self, context: IngestContext, track: int | None) -> str:
        """What to say where another audio track is wanted than was heard; empty where that is the one."""
        with self.library.database.transaction() as session:
            heard = sorted(session.get_one(RecordingRow, context.id).tracks)
        if track is None or heard == [track]:
            return ""
        if len(heard) > 1:
            tracks = f"audio tracks {', '.join(map(str, heard[:-1]))} and {heard[-1]}"
        else:
            tracks = f"audio track {heard[0]}" if heard else "the audio track that was chosen then"
        return (
            f"It was transcribed from {tracks} and keeps that; to have track {track} transcribed instead, "
            f"remove the recording (`moss-agent remove {context.id[:12]}`), then add the file again."
        )

    def _recount_speakers(
        self, context: IngestContext, speakers: int | None, told: Callable[[str], None]
    ) -> None:
        """Give a recording that was there already so many speakers, unless the user's names would go."""
        names = context.recording.speakers
        with self.library.database.transaction() as session:
            expected = session.get_one(RecordingRow, context.id).expected_speakers
        # Fewer voices than expected may be all that can be told apart.
        if speakers is None or speakers in (len(names), expected):
            return
        likenesses = self.voices.likenesses(context.id) if self.voices is not None else []
        known_again = {likeness.speaker for likeness in likenesses if likeness.sure}
        if all(is_label(name) or name in known_again for name in names):
            self._relabel(context, speakers)
            now = len(context.recording.speakers)
            told(f"Its speakers were identified again: there were {len(names)}, now there are {now}.")
        else:
            told(
                f"It keeps its {len(names)} speakers, since you named some; to identify {speakers} and lose "
                f"the names, run `moss-agent relabel-speakers {context.id[:12]} --speakers {speakers}`."
            )

    def _context(
        self, recording: str, report: Callable[[Progress], None], cancel: threading.Event
    ) -> IngestContext:
        return IngestContext(self.library, recording, self.library.audio_path(recording), report, cancel)

    def _run(
        self,
        context: IngestContext,
        path: Path,
        title: str | None,
        speakers: int | None,
        language: str | None,
        track: int | None,
    ) -> Recording:
        if self._is_whole(context):
            return context.recording
        # An index made with another embedder is found out now, not after an hour of transcription.
        self.vectors.count()
        with reserve(context.audio.with_suffix(".reserve")) as give_back:
            decoded = self._decode(context, path, track)
            self._begin(context, path, title, speakers, decoded)
            try:
                with noticing_full_disk(self.library.home):
                    self._stages(context, language)
            except (Cancelled, KeyboardInterrupt):
                give_back()
                context.set(status=Status.CANCELLED)
                raise
            except Exception as error:
                give_back()
                context.set(status=Status.FAILED, failure=_failure(error))
                raise
        return context.recording

    def _is_whole(self, context: IngestContext) -> bool:
        """Whether the recording is ready and there is nothing that could still be heard of it."""
        missing = select(WindowRow.id).where(WindowRow.recording_id == context.id, ~WindowRow.done)
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, context.id)
            if row is None or row.status != Status.READY or not context.audio.exists():
                return False
            if session.scalars(missing).first() is not None:
                return False
        return not self._sounds_are_missing(context)

    def _sounds_are_missing(self, context: IngestContext) -> bool:
        return self.sounds is not None and not is_complete(self.library, context.id)

    def _decode(self, context: IngestContext, path: Path, track: int | None) -> Decoded | None:
        """Make the audio copy; None where there is one.

        A copy without a row is made again: what was wrong with the file would else be forgotten.
        """
        with self.library.database.transaction() as session:
            is_known = session.get(RecordingRow, context.id) is not None
        if context.audio.exists() and is_known:
            return None
        total = declared_duration(path) or 0.0
        return decode_to_flac(
            path,
            context.audio,
            progress=lambda done: context.report(Progress(StageName.READING, done, max(total, done))),
            cancelled=context.cancel.is_set,
            track=track,
        )

    def _begin(
        self,
        context: IngestContext,
        path: Path,
        title: str | None,
        speakers: int | None,
        decoded: Decoded | None,
    ) -> None:
        duration = soundfile.info(context.audio).duration
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, context.id)
            if row is None:
                row = RecordingRow(
                    id=context.id,
                    title=_title(title or path.stem),
                    source_name=path.name.encode("utf-8", "replace").decode(),
                    added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds_taken=0.0,
                    gaps=[],
                    notes=(),
                    engine=self.transcriber.name,
                )
                session.add(row)
            row.duration = duration
            row.status = Status.LISTENING
            row.failure = None
            if decoded is not None:
                others = (note for note in row.notes if note.stage is not StageName.READING)
                row.notes = (*decoded.notes, *others)
                row.tracks = list(decoded.tracks)
            # ``_recount_speakers`` looks after a recording that has speakers already.
            if not session.scalar(select(SpeakerRow.id).where(SpeakerRow.recording_id == context.id)):
                row.expected_speakers = speakers or row.expected_speakers

    def _stages(self, context: IngestContext, language: str | None) -> None:
        speech = self._speech(context)
        TranscribeStage(context, self.transcriber, language, speech).run()
        context.check_cancel()
        self._identify_speakers(context, speech)
        context.check_cancel()
        spoken = [segment for segment in self.library.segments(context.id) if segment.kind == "speech"]
        notes = context.recording.notes
        gaps = find_gaps(speech, spoken, notes)
        context.set(coverage=coverage(speech, spoken, notes), gaps=[[gap.start, gap.end] for gap in gaps])
        if self.sounds is not None and self._sounds_are_missing(context):
            # What was said can be asked about while sounds are listened for.
            self._index(context)
            SoundStage(context, self.sounds, speech).run()
        else:
            join_sounds(context)
        self._index(context)
        if not speech:
            context.add_note(NO_SPEECH)
        context.count_time()
        context.set(status=Status.READY)
        duration = context.recording.duration
        context.report(Progress(StageName.READY, duration, duration))

    def _stored_speech(self, context: IngestContext) -> list[Span]:
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, context.id)
            return [Span(*pair) for pair in (row.speech or [])] if row else []

    def _speech(self, context: IngestContext) -> list[Span]:
        """Detected speech; the first time it is detected, and the windows are cut."""
        with self.library.database.transaction() as session:
            windows_there = session.scalars(
                select(WindowRow.id).where(WindowRow.recording_id == context.id)
            ).first()
        if windows_there is not None:
            return self._stored_speech(context)
        duration = context.recording.duration

        def report(done: float) -> None:
            context.report(Progress(StageName.FINDING_SPEECH, done, duration))

        report(0.0)
        speech, windows = find_windows(context.audio, duration, self.transcriber, context.cancel, report)
        with self.library.database.transaction() as session:
            row = session.get_one(RecordingRow, context.id)
            row.speech = [
                [span.start, span.end, *(() if span.channel is None else (span.channel,))] for span in speech
            ]
            for number, window in enumerate(windows):
                session.add(
                    WindowRow(
                        recording_id=context.id, number=number, start=window.start, end=window.end,
                        channel=window.channel,
                    )
                )  # fmt: skip
        return speech

    def _identify_speakers(self, context: IngestContext, speech: list[Span]) -> None:
        """Name the sentences that have no speaker yet: names that the user gave stay."""
        model = self.speakers
        if model is not None and DiarizeStage(context, model, speech).missing():
            # What was said can be asked about while a model is asked who said it.
            self._index(context)
        diarize(context, speech, model)
        self._recognise(context)

    def _index(self, context: IngestContext) -> None:
        duration = context.recording.duration
        context.report(Progress(StageName.INDEXING, duration, duration))
        index_recording(self.library, self.embedder, self.vectors, context.id)


def _tell_languages(
    context: IngestContext, before: _Before, language: str | None, told: Callable[[str], None]
) -> None:
    """Say that what was transcribed before in another language than the one wanted now stays as it is."""
    others = [code for code in before.languages if code != language]
    if language is None or not others:
        return
    wanted = language_name(language)
    stays = "It stays" if before.status == Status.READY else "What was transcribed before stays"
    told(
        f"{stays} in {name_languages(before.languages)}; to have all of it transcribed in {wanted}, run "
        f"`moss-agent remove {context.id[:12]}` and add it again."
    )


def _failure(error: Exception) -> Note:
    """Why a run failed, as data."""
    if isinstance(error, EngineStopped):
        return error.note
    kind = NoteKind.FAILED if isinstance(error, MossAgentError) else NoteKind.UNEXPECTED
    return Note(kind, detail=str(error))


def _title(text: str) -> str:
    # A file name that is no valid UTF-8 arrives with lone surrogates, which SQLite refuses.
    text = text.encode("utf-8", "replace").decode()
    return " ".join(text.replace("_", " ").split())[:200] or "Untitled recording"
