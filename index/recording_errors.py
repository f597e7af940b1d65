"""What can go wrong with recordings, as one small tree.

    MossAgentError            one sentence for the user: what happened, and what to do
    ├── MediaError            the file cannot be used: no audio, not media, truncated, empty
    ├── TranscriptError       the file is no transcript that can be imported, or does not fit its media
    │   └── OtherEncoding     its letters are not Unicode; with their encoding it can be read
    ├── InvalidInput          what was asked for cannot be: a range that ends before it starts, an empty title
    ├── Busy                  something else is being done with it; later it can be done
    │   └── HomeInUse         another process holds the home folder for writing
    ├── UnknownRecording      no recording has this id, prefix or title
    ├── AmbiguousRecording    more than one recording has this prefix or title
    ├── Forbidden             somebody may see it, but not do this with it
    ├── ChangedMeanwhile      a sentence is no longer as it was when its correction began
    ├── SpeakerExists         a speaker of this name is there already; the two would become one
    ├── WouldLoseCorrections  it would overwrite what a person corrected
    ├── WeightsError          model weights are missing or are not the published ones
    ├── HearingError          the engine failed on a stretch of audio
    │   ├── TooLong           it takes less at a time; a shorter stretch may do
    │   └── EngineStopped     it failed on so many windows in a row that it must be gone
    ├── ClusterAway           the cluster that does the work cannot be reached
    ├── IndexOutOfDate        the vector collection is lost or was made with another embedder
    │   └── VectorsAway       the server that holds it cannot be used now
    ├── DiskFull              the disk that the home folder is on has no room left
    ├── DatabaseAway          the server of the database does not answer; later it may
    ├── ReadOnly              the home folder can be read, but not written
    └── Cancelled             the user stopped it; what was finished is kept

Every message is one sentence a person can act on; errors of libraries are mapped to these at the
border with ``raise … from``.
"""

from __future__ import annotations

from index.records import Note


class MossAgentError(Exception):
    """Base of every error whose text may be shown to a user as it is."""


class MediaError(MossAgentError):
    """The file cannot be turned into audio."""


class TranscriptError(MossAgentError):
    """A file is no transcript that can be imported, or does not fit its media; nothing was changed."""


class OtherEncoding(TranscriptError):
    """The letters of a transcript are not Unicode; whoever names their encoding can import it."""


class InvalidInput(MossAgentError):
    """What was asked for cannot be done with this recording, or with any: another value may do."""


class Busy(MossAgentError):
    """Something else is being done with it; when that is over, this can be done."""


class HomeInUse(Busy):
    """Another process holds the home folder for writing.

    Args:
        message: The sentence for the user.
        page: The address of the page that it serves; empty where it serves none.
    """

    def __init__(self, message: str, page: str = "") -> None:
        super().__init__(message)
        self.page = page


class UnknownRecording(MossAgentError):
    """No recording answers to this id, prefix or title."""


class AmbiguousRecording(MossAgentError):
    """Several recordings answer to this prefix or title."""


class Forbidden(MossAgentError):
    """Whoever acts may not do this, though they know that it is there; see ``index.store.access``."""


class ChangedMeanwhile(MossAgentError):
    """A sentence is no longer as it was when its correction began; nothing was changed."""


class SpeakerExists(MossAgentError):
    """A speaker of this name is there already, and nobody said that the two are one; nothing was changed."""


class WouldLoseCorrections(MossAgentError):
    """What a person corrected would be overwritten, and nobody said that it may be; nothing was changed."""


def would_lose(has: str, count: int, do: str) -> WouldLoseCorrections:
    """The error for what would lose corrections.

    Args:
        has: What has them, with the verb: “It has”.
        count: How many.
        do: What was to be done, as in “to remove it”.
    """
    corrections = "1 correction" if count == 1 else f"{count} corrections"
    return WouldLoseCorrections(
        f"{has} {corrections}, which would be lost; to {do} all the same, use --drop-corrections."
    )


def not_imported(title: str) -> InvalidInput:
    """The error for giving media to a recording, ``title``, that was transcribed from its own."""
    return InvalidInput(
        f"“{title}” was transcribed from its own media file; only an imported transcript can be given one."
    )


class WeightsError(MossAgentError):
    """Model weights are missing, or are not the published ones."""


class HearingError(MossAgentError):
    """The engine that hears failed on a stretch of audio; the text says why."""


class TooLong(HearingError):
    """The engine takes less audio at a time than this; it may hear the halves."""


class EngineStopped(HearingError):
    """The engine answered at first, and then failed on several windows in a row.

    Args:
        message: The sentence for the user.
        note: The same as data, of the kind ``ENGINE_STOPPED``.
    """

    def __init__(self, message: str, note: Note) -> None:
        super().__init__(message)
        self.note = note


class ClusterAway(MossAgentError):
    """The cluster that does the work cannot be reached; what was finished is kept."""


class IndexOutOfDate(MossAgentError):
    """The vector collection must be rebuilt before it can be searched."""


class VectorsAway(IndexOutOfDate):
    """The server of the vector collection cannot be used now; the database is searched without it."""


class DiskFull(MossAgentError):
    """The disk has no room left; what was finished is kept, and the same can be tried again."""


class DatabaseAway(MossAgentError):
    """The server of the database does not answer; when it is back, everything can go on."""


class ReadOnly(MossAgentError):
    """The home folder can be read, but not written."""


class Cancelled(MossAgentError):
    """The user stopped the work; finished windows are kept."""
