"""From a file to a searchable recording, in stages that each survive a ``kill -9``.

    decode → detect speech → cut windows → hear each window → tell speakers apart → cover → index
           → listen for sounds, where an engine can → index

The audio copy, the detected speech, the list of windows and every finished window are stored as they
come, each in one transaction. Adding the same file again goes on at the first thing that is missing; several
files may be added at a time, from a thread each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from sqlalchemy import select

from index.audio.decode import declared_duration, decode_to_flac, file_id
from index.audio.vad import detect_speech
from index.audio.windows import cut_windows
from index.pipeline.stage import Intake
from index.pipeline.transcribe_stage import Transcription
from index.progress import Progress, Report, Stage
from index.recording_errors import Cancelled, MossAgentError
from index.records import Recording, Span
from index.store.database import RecordingRow, WindowRow
from index.store.library import Library
from index.transcription.coverage import coverage, find_gaps
from index.transcription.transcriber import Transcriber

if TYPE_CHECKING:
    from index.diarization.moss_speakers import MossSpeakers
    from index.search.embeddings import Embedder
    from index.search.vectors import Vectors
    from index.sounds.moss_sounds import MossSounds

__all__ = ["Ingest", "Progress", "Stage"]


class Ingest:
    """Takes recordings in.

    Args:
        library: Where segments go.
        transcriber: What hears windows.
        embedder: What passages are embedded with.
        vectors: Where their vectors go.
        language: Spoken language (ISO 639-1) when the user set one; else it is detected.
        sounds: What listens for sounds and music after the transcript; None leaves that out.
        speakers: What is asked who speaks, beside the voices; None leaves it to them.
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
    ) -> None:
        self.library = library
        self.transcriber = transcriber
        self.embedder = embedder
        self.vectors = vectors
        self.language = language
        self.sounds = sounds
        self.speakers = speakers
        self._busy: dict[str, threading.Lock] = {}

    def add(
        self,
        path: Path,
        title: str | None = None,
        speakers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Recording:
        """Take a file in, or go on with it where an earlier attempt stopped.

        Args:
            path: Any media file.
            title: Shown name; by default the file's name. Kept when the recording exists.
            speakers: Number of speakers when known; by default it is estimated.
            progress: Called often, from this thread.
            cancel: Set it from another thread to stop; what was transcribed is kept.

        Returns:
            The recording; unchanged when it was ready already and nothing of it is left to be heard.

        Raises:
            MediaError: The file cannot be turned into audio; nothing is stored.
            Cancelled: ``cancel`` was set; adding the file again goes on from there.
            WeightsError: The recogniser's weights are missing or wrong.
            HearingError: The recogniser failed on all of it; what was heard before is kept.
            IndexOutOfDate: The search index was made with another embedder; nothing is stored.
        """
        if speakers is not None and not 1 <= speakers <= 50:
            raise MossAgentError("The number of speakers must be between 1 and 50.")
        report = progress or (lambda _: None)
        report(Progress("reading", 0.0, 0.0))
        work = _Work(self, path, report, cancel or threading.Event())
        # The same file twice at a time: the second comes when the first is done, and finds it ready.
        with self._busy.setdefault(work.intake.id, threading.Lock()):
            return work.run(title, speakers)

    def relabel_speakers(
        self, recording: str, speakers: int | None, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """Tell the speakers of a recording apart anew, with their number given or estimated.

        Ctrl+C ends it, and leaves the names as they were; what a model was asked until then is kept.

        Args:
            recording: Its id; it is ready.
            speakers: How many; None estimates it.
            progress: Called often where a model is asked window by window, from this thread.
        """
        from index.diarization.diarize_stage import diarize_again

        cancel = threading.Event()
        audio = self.library.audio_path(recording)
        intake = Intake(self.library, recording, audio, progress or (lambda _: None), cancel)
        speech = [Span(*pair) for pair in self._speech(recording)]
        diarize_again(intake, speech, self.speakers, speakers)

    def _speech(self, recording: str) -> list[list[float]]:
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, recording)
            return list(row.speech or []) if row else []


class _Work:
    """One run of the stages for one file."""

    def __init__(self, ingest: Ingest, path: Path, report: Report, cancel: threading.Event) -> None:
        self.ingest = ingest
        self.library = ingest.library
        self.path = path
        name = file_id(path)
        self.intake = Intake(ingest.library, name, ingest.library.audio_path(name), report, cancel)

    def run(self, title: str | None, speakers: int | None) -> Recording:
        if self._is_whole():
            return self.intake.recording
        # An index made with another embedder is found out now, not after an hour of listening.
        self.ingest.vectors.count()
        note = self._decode()
        self._begin(title, speakers, note)
        try:
            self._stages()
        except (Cancelled, KeyboardInterrupt):
            self.intake.set(status="cancelled")
            raise
        except Exception as error:
            shown = str(error) if isinstance(error, MossAgentError) else f"It failed: {error}"
            self.intake.set(status="failed", error=shown)
            raise
        return self.intake.recording

    def _is_known(self) -> bool:
        with self.library.database.transaction() as session:
            return session.get(RecordingRow, self.intake.id) is not None

    def _is_whole(self) -> bool:
        """Whether the recording is ready and there is nothing that could still be heard of it."""
        missing = select(WindowRow.id).where(WindowRow.recording_id == self.intake.id, ~WindowRow.done)
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, self.intake.id)
            if row is None or row.status != "ready" or not self.intake.audio.exists():
                return False
            if session.scalars(missing).first() is not None:
                return False
        return not self._sounds_are_missing()

    def _sounds_are_missing(self) -> bool:
        if self.ingest.sounds is None:
            return False
        from index.sounds.sound_stage import is_complete

        return not is_complete(self.library, self.intake.id)

    def _decode(self) -> str | None:
        """Make the audio copy; the sentence about what could not be read, if any.

        A copy without a row is made again: what was wrong with the file would else be forgotten.
        """
        if self.intake.audio.exists() and self._is_known():
            return None
        total = declared_duration(self.path) or 0.0
        decoded = decode_to_flac(
            self.path,
            self.intake.audio,
            progress=lambda done: self.intake.report(Progress("reading", done, max(total, done))),
            cancelled=self.intake.cancel.is_set,
        )
        return decoded.note

    def _begin(self, title: str | None, speakers: int | None, note: str | None) -> None:
        duration = soundfile.info(self.intake.audio).duration
        with self.library.database.transaction() as session:
            row = session.get(RecordingRow, self.intake.id)
            if row is None:
                row = RecordingRow(
                    id=self.intake.id,
                    title=_title(title or self.path.stem),
                    source_name=self.path.name.encode("utf-8", "replace").decode(),
                    added_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds_taken=0.0,
                    gaps=[],
                    engine=self.ingest.transcriber.name,
                )
                session.add(row)
            row.duration = duration
            row.status = "listening"
            row.error = None
            row.note = note or row.note
            row.expected_speakers = speakers or row.expected_speakers

    def _stages(self) -> None:
        intake = self.intake
        speech = self._speech()
        Transcription(intake, self.ingest.transcriber, self.ingest.language).run(speech)
        intake.check_cancel()
        self._label(speech)
        intake.check_cancel()
        spoken = [one for one in self.library.segments(intake.id) if one.kind == "speech"]
        gaps = find_gaps(speech, spoken)
        intake.set(coverage=coverage(speech, spoken), gaps=[[one.start, one.end] for one in gaps])
        if self._sounds_are_missing():
            # What was said can be asked about while sounds are listened for.
            self._index()
            self._listen_for_sounds()
        else:
            self._join_sounds()
        self._index()
        if not speech:
            intake.note("No speech was found in this recording.")
        intake.count_time()
        intake.set(status="ready")
        intake.report(Progress("ready", intake.recording.duration, intake.recording.duration))

    def _speech(self) -> list[Span]:
        """Detected speech; the first time it is looked for, and the windows are cut."""
        recording, transcriber = self.intake.id, self.ingest.transcriber
        with self.library.database.transaction() as session:
            if session.scalars(select(WindowRow.id).where(WindowRow.recording_id == recording)).first():
                return [Span(*pair) for pair in self.ingest._speech(recording)]
        duration = self.intake.recording.duration
        self.intake.report(Progress("finding speech", 0.0, duration))
        found = detect_speech(
            self.intake.audio,
            progress=lambda done: self.intake.report(Progress("finding speech", done, duration)),
            cancelled=self.intake.cancel.is_set,
        )
        windows = cut_windows(
            found, duration, transcriber.window_speech_seconds, transcriber.max_window_seconds
        )
        with self.library.database.transaction() as session:
            row = session.get_one(RecordingRow, recording)
            row.speech = [[one.start, one.end] for one in found]
            for number, one in enumerate(windows):
                session.add(
                    WindowRow(recording_id=recording, number=number, start=one.start, end=one.end, done=False)
                )
        return found

    def _label(self, speech: list[Span]) -> None:
        """Tell apart who says what has no speaker yet: names that the user gave stay."""
        from index.diarization.diarize_stage import SpeakerPass, diarize

        model = self.ingest.speakers
        if model is not None and SpeakerPass(self.intake, model).missing():
            # What was said can be asked about while a model is asked who said it.
            self._index()
        diarize(self.intake, speech, model)

    def _listen_for_sounds(self) -> None:
        from index.sounds.sound_stage import SoundPass

        assert self.ingest.sounds is not None
        SoundPass(self.intake, self.ingest.sounds).run()

    def _join_sounds(self) -> None:
        from index.sounds.sound_stage import join_sounds

        join_sounds(self.intake)

    def _index(self) -> None:
        from index.search.indexing import index_recording

        duration = self.intake.recording.duration
        self.intake.report(Progress("indexing", duration, duration))
        index_recording(self.library, self.ingest.embedder, self.ingest.vectors, self.intake.id)


def _title(text: str) -> str:
    # A file name that is no valid UTF-8 arrives with lone surrogates, which SQLite refuses.
    text = text.encode("utf-8", "replace").decode()
    return " ".join(text.replace("_", " ").split())[:200] or "Untitled recording"
