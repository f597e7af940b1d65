"""From a file to a searchable recording, in stages that each survive a ``kill -9``.

    decode → detect speech → cut windows → transcribe each window → identify speakers → coverage → index
           → listen for sounds, where an engine can → index

The audio copy, the detected speech, the list of windows and every finished window are stored as they
come, each in one transaction. Adding the same file again resumes at the first thing that is missing; several
files may be added at a time, from a thread each.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from index.audio.decode import Decoded, declared_duration, decode_to_flac, file_id
from index.audio.peaks import SUFFIX, peaks_of
from index.audio.vad import detect_speech
from index.corrections.correcting import refit
from index.diarization.diarize_stage import DiarizeStage, diarize, diarize_again
from index.disk_space import noticing_full_disk, reserve
from index.imports.fit_clock import Clock, fit_to_media
from index.imports.transcript_files import ENGINE, ImportedTranscript
from index.language_names import language_name, name_languages
from index.pipeline.stage import IngestContext
from index.pipeline.transcribe_file import NO_SPEECH, find_windows
from index.pipeline.transcribe_stage import TranscribeStage, segment_row
from index.pipeline.urgency import working_on
from index.progress import Progress
from index.recording_errors import (
    Cancelled,
    EngineStopped,
    InvalidInput,
    MediaError,
    MossAgentError,
    TranscriptError,
    WeightsError,
    WouldLoseCorrections,
    not_imported,
    would_lose,
)
from index.records import Note, NoteKind, Recording, Span, StageName, Status
from index.search.indexing import check_index, index_recording
from index.sounds import MossSounds, SoundStage, is_complete, join_sounds
from index.speaker_names import is_label
from index.store.access import acting_person
from index.store.database import (
    CommentRow,
    CorrectionRow,
    PassageRow,
    RecordingRow,
    SegmentRow,
    SoundWindowRow,
    SpeakerRow,
    WindowRow,
)
from index.store.library import LONGEST_NAME, Library, correction_count, segments_in
from index.text import folded_name, one_line
from index.transcription.coverage import coverage, find_gaps
from index.transcription.languages import languages_spoken
from index.transcription.transcriber import Transcriber

if TYPE_CHECKING:
    from index.diarization.known_voices import KnownVoices
    from index.diarization.moss_speakers import MossSpeakers
    from index.diarization.voice_embeddings import VoiceEncoder
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
        encoder: What compares voices; by default the one of this process.
        decode: Makes audio copies, as ``decode_to_flac`` does.
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
        encoder: VoiceEncoder | None = None,
        decode: Callable[..., Decoded] = decode_to_flac,
    ) -> None:
        self.library = library
        self.transcriber = transcriber
        self.embedder = embedder
        self.vectors = vectors
        self.language = language
        self.sounds = sounds
        self.speakers = speakers
        self.voices = voices
        self.encoder = encoder
        self.decode = decode

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
        again: bool = False,
        drop_corrections: bool = False,
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
            again: Whether a recording that is there already is heard anew, all of it; it keeps its title.
            drop_corrections: Whether what somebody corrected of it may be lost by that.

        Returns:
            The recording; when it was ready already and nothing of it is left to be heard, only its title and
            speakers change.

        Raises:
            MediaError: The file cannot be turned into audio, or has no such track; nothing is stored.
            MossAgentError: Another track of it was heard, and there is no ``told``; nothing changes.
            WouldLoseCorrections: It is to be heard anew, and has corrections that may not be lost.
            Cancelled: ``cancel`` was set; adding the file again resumes from there.
            WeightsError: The recogniser's weights are missing or wrong.
            HearingError: The recogniser failed on all of it; what was heard before is kept.
            IndexOutOfDate: The search index was made with another embedder; nothing is stored.
            DiskFull: The disk is full; what was transcribed is kept.
        """
        if speakers is not None and not 1 <= speakers <= MAX_SPEAKERS:
            raise InvalidInput(f"The number of speakers must be between 1 and {MAX_SPEAKERS}.")
        report = progress or (lambda _: None)
        report(Progress(StageName.READING, 0.0, 0.0))
        identity = self.library.recording_of_media(file_id(path))
        context = self._context(identity, report, cancel or threading.Event())
        # The same file twice at a time: the second comes when the first is done, and finds it ready.
        with self._working_on(context):
            before = self._known(context)
            again = again and before is not None
            if again:
                # Before anything is prepared for it; ``_forget`` looks once more.
                with self.library.database.transaction() as session:
                    _check_corrections(session, context.id, None if drop_corrections else 0)
            elif before is not None and told is None and (kept := self._kept_track(context, track)):
                raise MossAgentError(kept)
            recording = self._run(
                context, path, title, speakers, language or self.language, track, again, drop_corrections
            )
            if before is None:
                return recording
            if told is not None:
                self._retitle(context, before, title, told)
            if again:
                return context.recording
            if told is not None:
                _tell_languages(context, before, language, told)
                self._tell_track(context, track, told)
            self._recount_speakers(context, speakers, told or (lambda _: None))
            return context.recording

    def hear_again(
        self,
        recording: str,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        losing: int = 0,
    ) -> Recording:
        """Transcribe a recording anew from its audio copy; one that broke off goes on where it stopped.

        Its title and comments stay; the names of its speakers go with them.

        Args:
            recording: Its id.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop; what was transcribed is kept.
            losing: How many corrections may be lost by that; where there are more by now, nothing is done.

        Raises:
            InvalidInput: It has no audio copy.
            WouldLoseCorrections: More corrections than that would be lost.
            Cancelled, WeightsError, HearingError, IndexOutOfDate, DiskFull: As in ``add``.
        """
        context = self._context(recording, progress or (lambda _: None), cancel or threading.Event())
        with self._working_on(context):
            if not context.recording.has_media or not context.audio.exists():
                raise InvalidInput(f"“{context.recording.title}” has no audio that could be heard again.")
            anew = context.recording.status == Status.READY
            if anew:
                with self.library.database.transaction() as session:
                    _check_corrections(session, recording, losing)
            self.vectors.count()
            with reserve(context.audio.with_suffix(".reserve")) as give_back:
                if anew:
                    # What is there is given up for an engine that hears.
                    self.transcriber.prepare(context.cancel)
                    self._forget(context, losing)
                self._begin(context, context.audio, None, None, None)
                self._finish(context, self.language, give_back)
            return context.recording

    def import_transcript(
        self,
        transcript: ImportedTranscript,
        media: Path | None = None,
        title: str | None = None,
        language: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        told: Callable[[str], None] | None = None,
        track: int | None = None,
    ) -> Recording:
        """Take in a transcript that was made elsewhere, with or without the media file.

        Args:
            transcript: What was read from a file.
            media: The media file that it is the transcript of; it can also be given later.
            title: Shown name; by default the transcript's.
            language: ISO 639-1 code of what is spoken, where the transcript does not say.
            speakers: As in ``add``; only where the transcript names nobody.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop.
            told: Called with what happened to a transcript that was there already.
            track: As in ``add``.

        Returns:
            The recording. One that was there already keeps its transcript, with all corrections.

        Raises:
            TranscriptError: It goes on where the media has ended, or the media file belongs to another
                recording; nothing is stored.
            MediaError: The media file cannot be turned into audio; nothing is stored.
            Cancelled: ``cancel`` was set; the transcript is kept.
        """
        transcript = replace(transcript, id=self.library.own_id(transcript.id))
        context = self._context(transcript.id, progress or (lambda _: None), cancel or threading.Event())
        with self._working_on(context):
            before = self._known(context)
            media_id = None if media is None else self._unclaimed(media, context.id)
            if before is None:
                # As in ``_run``: an index of another embedder is found out before anything is stored.
                check_index(self.vectors)
                self._store_transcript(transcript, title, language)
            elif told is not None:
                self._retitle(context, before, title, told)
            try:
                if media is not None and media_id is not None:
                    self._attach(context, media, media_id, speakers, track)
                elif context.recording.status != Status.READY:
                    self._index(context)
                    context.count_time()
                    context.set(status=Status.READY)
            except (MediaError, TranscriptError):
                if before is None:
                    self.library.delete(context.id)
                raise
            except (Cancelled, KeyboardInterrupt):
                self._leave_unfinished(context, Status.CANCELLED)
                raise
            except Exception as error:
                # Somebody may have corrected and noted something by now: it stays, and can be tried again.
                self._leave_unfinished(context, Status.FAILED, _failure(error))
                raise
            return context.recording

    @contextmanager
    def _working_on(self, context: IngestContext) -> Iterator[None]:
        """Keep everybody else from working on a recording, in this process and in others."""
        with (
            self.library.database.holding(context.id, context.cancel),
            working_on(context.id),
            noticing_full_disk(self.library.home),
        ):
            yield

    def _leave_unfinished(self, context: IngestContext, status: Status, failure: Note | None = None) -> None:
        """Say of a recording that is not whole that nobody works on it any more."""
        if context.recording.status == Status.LISTENING:
            context.set(status=status, failure=failure)

    def attach_media(
        self,
        recording: str,
        media: Path,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        track: int | None = None,
    ) -> Recording:
        """Give an imported transcript its media: it can be played, and its speech is compared with the text.

        The transcript stays as it is; it is moved as a whole where its clock began at another time.

        Args:
            recording: The id of an imported transcript.
            media: The media file.
            speakers: As in ``add``; only where the transcript names nobody.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop.
            track: As in ``add``.

        Raises:
            TranscriptError, MediaError, MossAgentError, Cancelled: As in ``import_transcript``.
        """
        context = self._context(recording, progress or (lambda _: None), cancel or threading.Event())
        with self._working_on(context):
            if context.recording.imported is None:
                raise not_imported(context.recording.title)
            media_id = self._unclaimed(media, context.id)
            if media_id is not None:
                self._attach(context, media, media_id, speakers, track)
            return context.recording

    def _unclaimed(self, media: Path, recording: str) -> str | None:
        """The SHA-256 of a media file that may be given to an imported transcript; None where it has it.

        Raises:
            MediaError: The file cannot be read.
            TranscriptError: It belongs to another recording, or the transcript has another one.
        """
        media_id = file_id(media)
        owner = self.library.recording_of_media(media_id)
        with self.library.database.transaction() as session:
            row, other = session.get(RecordingRow, recording), session.get(RecordingRow, owner)
            if row is not None and row.media_id == media_id:
                return None
            if recording == owner:
                raise TranscriptError(
                    f"{media.name} is the transcript itself; name its media file. Nothing was changed."
                )
            if other is not None:
                raise TranscriptError(
                    f"{media.name} is in the library already, as “{other.title}”; to use it with another "
                    f"transcript, remove that first (`moss-agent remove {owner[:12]}`). Nothing was changed."
                )
            if row is not None and row.media_id is not None:
                raise TranscriptError(
                    f"“{row.title}” has its media already, and {media.name} is another file. "
                    "Nothing was changed."
                )
        return media_id

    def _store_transcript(
        self, transcript: ImportedTranscript, title: str | None, language: str | None
    ) -> None:
        """Store a transcript in one transaction; it is ready once it is indexed."""
        language = language or transcript.language or self.language
        spoken = languages_spoken(transcript.segments)
        with self.library.database.transaction() as session:
            session.add(
                RecordingRow(
                    id=transcript.id,
                    title=_title(title or transcript.title),
                    source_name=transcript.source_name,
                    duration=transcript.duration,
                    status=Status.LISTENING,
                    added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    language=language or next(iter(spoken), None),
                    languages=list(spoken) or ([language] if language else []),
                    gaps=[],
                    notes=transcript.notes,
                    engine=ENGINE,
                    imported=transcript.format,
                )
            )
            voices: dict[str, SpeakerRow] = {}
            for segment in transcript.segments:
                row = segment_row(transcript.id, segment)
                if segment.speaker:
                    name = one_line(segment.speaker)[:LONGEST_NAME].strip()
                    # “ANNA” and “Anna” are one voice, as everywhere.
                    key = folded_name(name) or name
                    if key not in voices:
                        voices[key] = SpeakerRow(recording_id=transcript.id, name=name)
                        session.add(voices[key])
                        session.flush()
                    row.speaker_id = voices[key].id
                session.add(row)

    def _attach(
        self, context: IngestContext, media: Path, media_id: str, speakers: int | None, track: int | None
    ) -> None:
        """Decode the media of an imported transcript, fit the two, and finish as for any other recording."""
        if speakers is not None and not 1 <= speakers <= MAX_SPEAKERS:
            raise InvalidInput(f"The number of speakers must be between 1 and {MAX_SPEAKERS}.")
        check_index(self.vectors)
        total = declared_duration(media) or 0.0
        with reserve(context.audio.with_suffix(".reserve")) as give_back:
            try:
                decoded = self.decode(
                    media,
                    context.audio,
                    progress=lambda done: context.report(Progress(StageName.READING, done, max(total, done))),
                    cancelled=context.cancel.is_set,
                    track=track,
                )
                found = detect_speech(
                    context.audio,
                    progress=lambda done: context.report(
                        Progress(StageName.FINDING_SPEECH, done, decoded.duration)
                    ),
                    cancelled=context.cancel.is_set,
                )
                # What is written says nothing of sides and tracks.
                speech = [Span(span.start, span.end) for span in found]
                self._lay_under(context, decoded, speech, media, media_id, speakers)
            except BaseException:
                context.audio.unlink(missing_ok=True)
                raise
            self._finish(context, None, give_back)

    def _lay_under(
        self,
        context: IngestContext,
        decoded: Decoded,
        speech: list[Span],
        media: Path,
        media_id: str,
        speakers: int | None,
    ) -> None:
        """Bring everything that has a time onto the clock of the media, and note what the media is."""
        with self.library.database.changing() as session:
            row = session.get_one(RecordingRow, context.id)
            fit, found = fit_to_media(segments_in(session, context.id), speech, decoded.duration, media.name)
            refit(session, context.id, fit)
            for comment in session.scalars(select(CommentRow).where(CommentRow.recording_id == context.id)):
                comment.at = min(max(0.0, found.at(comment.at)), decoded.duration)
            notes = [*decoded.notes]
            if found != Clock():
                numbers = {"tenths": round(10 * found.lag), "millionths": round(1e6 * (found.rate - 1))}
                notes.append(Note(NoteKind.CLOCK_MOVED, StageName.READING, numbers=numbers))
            row.media_id, row.duration, row.tracks = media_id, decoded.duration, list(decoded.tracks)
            row.speech = [[span.start, span.end] for span in speech]
            row.notes = (*row.notes, *notes)
            row.status, row.failure = Status.LISTENING, None
            row.expected_speakers = speakers or row.expected_speakers

    def relabel_speakers(
        self,
        recording: str,
        speakers: int | None,
        progress: Callable[[Progress], None] | None = None,
        drop_corrections: bool = False,
    ) -> None:
        """Identify the speakers of a recording anew, with their number given or estimated.

        Ctrl+C ends it, and leaves the names as they were; what a model was asked until then is kept.

        Args:
            recording: Its id; it is ready.
            speakers: How many; None estimates it.
            progress: Called often where a model is asked window by window, from this thread.
            drop_corrections: Whether what somebody corrected of who speaks may be lost.

        Raises:
            WouldLoseCorrections: Somebody corrected it, and it may not be lost.
        """
        count = 0 if drop_corrections else self.library.correction_count(recording, of_speakers=True)
        if count:
            raise would_lose("Its speakers have", count, "identify them again")
        context = self._context(recording, progress or (lambda _: None), threading.Event())
        if not context.recording.has_media:
            raise InvalidInput(
                f"“{context.recording.title}” is an imported transcript without its media, so there are no "
                "voices to tell apart; `moss-agent attach` gives it the media file."
            )
        with self._working_on(context):
            self._relabel(context, speakers, drop_corrections)

    def _relabel(self, context: IngestContext, speakers: int | None, drop_corrections: bool) -> None:
        diarize_again(
            context, self._stored_speech(context), self.speakers, speakers, drop_corrections, self.encoder
        )
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
            f"use `moss-agent add FILE --again --track {track}`, or remove the recording and add the file."
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
        corrected = self.library.correction_count(context.id, of_speakers=True)
        if all(is_label(name) or name in known_again for name in names) and not corrected:
            try:
                self._relabel(context, speakers, drop_corrections=False)
            except WouldLoseCorrections:
                corrected = 1  # meanwhile
            else:
                now = len(context.recording.speakers)
                told(f"Its speakers were identified again: there were {len(names)}, now there are {now}.")
                return
        also = " --drop-corrections" if corrected else ""
        told(
            f"It keeps its {len(names)} speakers, since you named or corrected some; to identify "
            f"{speakers} and lose that, run "
            f"`moss-agent relabel-speakers {context.id[:12]} --speakers {speakers}{also}`."
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
        again: bool,
        drop_corrections: bool,
    ) -> Recording:
        if not again and self._is_whole(context):
            return context.recording
        # An index made with another embedder is found out now, not after an hour of transcription.
        check_index(self.vectors)
        with reserve(context.audio.with_suffix(".reserve")) as give_back:
            if again:
                # What is there is given up for an engine that hears and a file that can be read.
                self.transcriber.prepare(context.cancel)
                decoded: Decoded | None = self._decode_again(context, path, track, drop_corrections)
            else:
                decoded = self._decode_first(context, path, track)
            self._begin(context, path, title, speakers, decoded)
            self._finish(context, language, give_back)
        return context.recording

    def _finish(self, context: IngestContext, language: str | None, give_back: Callable[[], None]) -> None:
        """Run the stages, and write down how it ended; ``give_back`` makes room for that on a full disk."""
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

    def _forget(self, context: IngestContext, losing: int | None, copy: Path | None = None) -> None:
        """Forget all that was heard of a recording, but not the recording; ``copy`` becomes its audio copy.

        Raises:
            WouldLoseCorrections: Somebody corrected it meanwhile, and that may not be dropped.
        """
        tables = (PassageRow, SegmentRow, SpeakerRow, WindowRow, SoundWindowRow, CorrectionRow)
        with self.library.database.changing() as session:
            _check_corrections(session, context.id, losing)
            for table in tables:
                session.execute(delete(table).where(table.recording_id == context.id))
            row = session.get_one(RecordingRow, context.id)
            row.speech = row.language = row.coverage = row.expected_speakers = None
            # What was wrong with the file is so still where it is not read again.
            read = tuple(note for note in row.notes if note.stage is StageName.READING and copy is None)
            row.languages, row.gaps, row.notes = [], [], read
            row.seconds_taken = 0.0
            # What was imported is heard now.
            row.imported = None
            row.revision += 1
            session.flush()
            if copy is not None:
                copy.replace(context.audio)

    def _decode_again(
        self, context: IngestContext, path: Path, track: int | None, drop_corrections: bool
    ) -> Decoded:
        """Make the audio copy anew, and forget what was heard; until then the former copy stays."""
        copy = context.audio.with_suffix(".again")
        try:
            decoded = self._decode(context, path, track, copy)
            self._forget(context, None if drop_corrections else 0, copy)
        finally:
            copy.unlink(missing_ok=True)
        # Another track is as long and looks otherwise.
        context.audio.with_suffix(SUFFIX).unlink(missing_ok=True)
        peaks_of(context.audio)
        return decoded

    def _decode_first(self, context: IngestContext, path: Path, track: int | None) -> Decoded | None:
        """Make the audio copy; None where there is one.

        A copy without a row is made again: what was wrong with the file would else be forgotten.
        """
        with self.library.database.transaction() as session:
            is_known = session.get(RecordingRow, context.id) is not None
        if context.audio.exists() and is_known:
            return None
        decoded = self._decode(context, path, track, context.audio)
        # Kept for the page, which would wait for those of ten hours when it first draws them.
        peaks_of(context.audio)
        return decoded

    def _decode(self, context: IngestContext, path: Path, track: int | None, copy: Path) -> Decoded:
        total = declared_duration(path) or 0.0
        return self.decode(
            path,
            copy,
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
                    # An id that is not the file's own is found by the file all the same.
                    media_id=file_id(path) if acting_person(self.library.database) is not None else None,
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
        self.library.audio.put(context.id)
        speech = self._speech(context)
        is_imported = context.recording.imported is not None
        if not is_imported:
            TranscribeStage(context, self.transcriber, language, speech).run()
        context.check_cancel()
        # A transcript that names people knows better than their voices who speaks.
        if not (is_imported and context.recording.speakers):
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
        """Detected speech; the first time it is detected, and the windows are cut.

        What is imported was not transcribed here and needs none.
        """
        if context.recording.imported is not None:
            return self._stored_speech(context)
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
        diarize(context, speech, model, self.encoder)
        self._recognise(context)

    def _index(self, context: IngestContext) -> None:
        duration = context.recording.duration
        context.report(Progress(StageName.INDEXING, duration, duration))
        index_recording(self.library, self.embedder, self.vectors, context.id)


def _check_corrections(session: Session, recording: str, losing: int | None) -> None:
    """See that nothing somebody corrected is lost without a word.

    Args:
        session: Of a transaction.
        recording: Its id.
        losing: How many corrections may be lost; None for any.

    Raises:
        WouldLoseCorrections: More would be.
    """
    count = correction_count(session, recording)
    if losing is not None and count > losing:
        title = session.get_one(RecordingRow, recording).title
        raise would_lose(f"“{title}” has", count, "hear it again")


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
        f"{stays} in {name_languages(before.languages)}; to have all of it transcribed in {wanted}, add it "
        "with --again."
    )


def _failure(error: Exception) -> Note:
    """Why a run failed, as data."""
    if isinstance(error, EngineStopped):
        return error.note
    kind = NoteKind.FAILED if isinstance(error, MossAgentError) else NoteKind.UNEXPECTED
    return Note(kind, detail=str(error))


def _title(text: str) -> str:
    # What the locale cannot read of a file name arrives as lone surrogates, which SQLite refuses: in a POSIX
    # locale that is every letter beyond ASCII, though the name is UTF-8.
    text = re.sub("[\udc80-\udcff]+", _bytes_as_utf8, text).encode("utf-8", "replace").decode()
    return one_line(text.replace("_", " "))[:200] or "Untitled recording"


def _bytes_as_utf8(escaped: re.Match[str]) -> str:
    return escaped[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "?")
