"""Decodes one audio track, on the clock of a media player; runs in the decoder's process.

FFmpeg (through PyAV, whose wheel bundles it) reads every container people have. Second ``t`` of what comes
out is second ``t`` of the file in a media player: time zero is the container's start, a stream that starts
late is preceded by silence, and holes are filled with silence. PyAV is imported when a file is opened, not
before: whoever only needs the names here needs no decoder.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from moss_audio.avi_chunks import AviChunks
from moss_audio.channels import ChannelMixer
from moss_audio.errors import AudioError
from moss_audio.frame_streams import BARE, FrameStream, Place
from moss_audio.media_structure import (
    counts_frames,
    joined_parts,
    ogg_bounds,
    promised_bytes,
    repairs,
)

if TYPE_CHECKING:
    from av import AudioResampler
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.packet import Packet

SAMPLE_RATE = 16_000
"""Hz; what the model takes, and Whisper, Silero and Resemblyzer too."""

CLOCK_TOLERANCE = 0.04
"""Seconds a frame's timestamp may differ from the samples before it without being a hole. Containers
round timestamps (Matroska to 1 ms, some muxers to a frame of about 26 ms)."""

MAX_HOLE_SECONDS = 600.0
"""A longer hole is a wild timestamp, and so are holes that are ten times as long as all the sound."""

_MOST_FAILURES = 100
"""Failures to read a packet, one after the other, behind which nothing more is expected."""

_DEFAULT = 1
"""FFmpeg's flag of a stream that is played by default (AV_DISPOSITION_DEFAULT)."""

_SHORT_PAUSE = 0.25
"""Seconds without a packet that are no damage where none was found: live recorders leave out as much."""

_OPUS_PAUSE = 0.45
"""The same for Opus, which sends a packet each 400 ms while nobody speaks (RFC 7587, section 3.1.3)."""

_WITHOUT_PAUSES = frozenset(("flac", "tta", "wv"))
"""Formats whose frames are numbered by their samples, so that whatever is missing was there."""

_MOST_MISSING = 100 * 3600.0
"""Seconds that may be missing at the end; a header that promises more is damaged itself."""

_LATE_PAGES = 20
"""Pages of an Ogg file up to which a file whose sound begins late has lost its beginning; a recording of a
running broadcast begins with a page of a higher number."""

_LATE_SECONDS = 20.0
"""The same for the time at which the sound begins."""

_MOST_HOLES = 200
"""Holes that a report lists; the nearest become one where there are more."""

_LOUDEST = 1e10
"""Samples beyond this are no sound; whole numbers of 32 bits that were written as they are go up to 2e9."""

_SILENCE_BLOCK = 10 * SAMPLE_RATE
"""Samples of silence given out at a time, so that a long hole needs no memory."""

# Playlists and scripts (hls, concat, dash, …) can name other files and addresses, so only plain
# containers are opened, whatever a file calls itself.
_FORMATS = (
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,"
    "amr,amrnb,amrwb,ac3,eac3,dts,dtshd,truehd,mlp,wv,ape,tta,tak,shn,voc,mpc,mpc8,rm,loas,gsm,sln,opus,mxf,gxf,"
    "dv,nut,g722,g726,sbc,oma,dsf,iff,nistsphere,ircam,sox,ac4,wtv"
)

_CHECKED = frozenset(("wavpack", "tta", "flac", "ac3", "eac3"))
"""Codecs whose frames have a checksum, which FFmpeg looks at only when told to: damage would be noise."""

_TIMELESS = frozenset(
    (
        "mp3",
        "aac",
        "amr",
        "amrnb",
        "amrwb",
        "ac3",
        "eac3",
        "dts",
        "truehd",
        "mlp",
        "loas",
        "gsm",
        "sln",
        "g722",
        "g726",
        "sbc",
        "wav",
    )
)
"""Formats whose timestamps FFmpeg counts or estimates from bytes, so that a jump in them is no hole."""


@dataclass(frozen=True)
class DecodeReport:
    """What became of a media file.

    Attributes:
        decoded_seconds: Length of the audio given out, silence in place of holes included.
        declared_seconds: Length the file claims; None where it does not say.
        damaged_packets: Packets that could not be decoded and were left out.
        cut_short: Whether the audio ends well before the end that the file declares for it.
        holes: Stretches ``(start, end)`` in seconds, in order, that are missing, given out as silence.
        parts_left_out: Of files joined to one, how many could not be read.
    """

    decoded_seconds: float
    declared_seconds: float | None
    damaged_packets: int
    cut_short: bool
    holes: tuple[tuple[float, float], ...] = ()
    parts_left_out: int = 0


class TrackDecoder:
    """One audio track of a media file, decoded once from beginning to end.

    Damage ends nothing: what cannot be decoded becomes silence of its length where that is known, and
    ``report`` says where. Files that were joined to one are read one after the other.

    Args:
        path: The file; it is there, and not empty.
        track: Number of the audio track, from 0; by default the one that the file flags as its default, as
            players do, or else the first.
        mixed: Whether the channels are mixed to one; otherwise ``blocks`` gives all of them.

    Raises:
        AudioError: Not media, or without such a track.
    """

    def __init__(self, path: Path, track: int | None = None, mixed: bool = True) -> None:
        self.path = path
        self._asked = track
        self._mixed = mixed
        try:
            self._parts = joined_parts(self.path)
            self._promised = promised_bytes(self.path, self._parts[-1][0])
        except OSError as error:
            raise AudioError(f"{self.path.name} cannot be read; check its permissions.") from error
        self._clock = 0.0
        """Seconds of the file read so far: where the next frame belongs."""
        self._written = 0
        """Samples given out so far, at 16 kHz."""
        self._damaged = 0
        self._is_behind_damage = False
        """Whether packets in front of the next frame were left out."""
        self._lost = 0.0
        """Estimated seconds of damage in front of the next frame, where timestamps do not tell."""
        self._filled = 0.0
        """Seconds of silence put in place of holes."""
        self._missing_at_end = 0.0
        self._holes: list[tuple[float, float]] = []
        self._parts_left_out = 0
        self._resampler = _Resampler(self._mixed)
        self._enter(self._parts[0])
        declared = self._part_seconds
        if declared is not None:
            # The first of several joined files stands for the others.
            declared *= self._parts[-1][1] / self._parts[0][1]
        self.declared_seconds: float | None = declared

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def report(self) -> DecodeReport:
        """What was read so far; final when ``blocks`` has ended."""
        decoded = self._written / SAMPLE_RATE
        cut_short = self._missing_at_end > 0.0
        declared = decoded + self._missing_at_end if cut_short else self.declared_seconds
        return DecodeReport(
            decoded, declared, self._damaged, cut_short, _few(self._holes), self._parts_left_out
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode the stream. It can be read once.

        Yields:
            float32 ``[n_samples]`` blocks, mono, 16 kHz, finite, in playing order without holes. Where
            channels are not mixed, ``[n_channels, n_samples]``; how many there are may change midway, and the
            silence in place of a hole is one channel.

        Raises:
            AudioError: Nothing in the stream can be decoded.
        """
        yield from self._part_blocks(self._parts[0])
        for part in self._parts[1:]:
            self._container.close()
            try:
                self._enter(part)
            except AudioError:
                self._parts_left_out += 1
                continue
            yield from self._part_blocks(part)
        if self._written == 0:
            raise AudioError(
                f"{self.path.name} holds no audio that can be decoded; it may be damaged or empty."
            )

    def _enter(self, part: tuple[int, int]) -> None:
        """Open one of the joined files, usually the only one."""
        repaired = repairs(self.path, *part)
        whole = len(self._parts) == 1 and not repaired
        self._container = _open(self.path, None if whole else _FilePart(self.path, *part, repaired))
        if not self._container.streams.audio:
            self.close()
            raise AudioError(f"{self.path.name} has no audio track; choose a file with sound.")
        audio = self._container.streams.audio
        self.tracks = len(audio)
        self.languages = tuple(stream.metadata.get("language") for stream in audio)
        """What the file says is spoken on each track, as it spells it; None where it does not say."""
        flagged = (number for number, stream in enumerate(audio) if stream.disposition & _DEFAULT)
        self.track = next(flagged, 0) if self._asked is None else self._asked
        if not 0 <= self.track < self.tracks:
            self.close()
            raise AudioError(f"{self.path.name} has {self.tracks} audio tracks; choose one of them.")
        self._stream = audio[self.track]
        if self._stream.codec_context is None:
            self.close()
            raise AudioError(
                f"{self.path.name} holds sound of a kind that cannot be decoded; convert it to mp3 or wav."
            )
        if self._stream.codec_context.name in _CHECKED:
            self._stream.codec_context.options = {"err_detect": "crccheck+explode"}
        # PyAV counts a container's times in microseconds (AV_TIME_BASE).
        duration = self._container.duration
        self._part_seconds: float | None = duration / 1_000_000 if duration and duration > 0 else None
        self._own_seconds = self._stream_seconds()
        self._part_start = self._clock
        # Players count from the earliest stream's start.
        self._origin = (self._container.start_time or 0) / 1_000_000 - self._clock
        bounds = ogg_bounds(self.path, *part) if self._container.format.name == "ogg" else None
        late = self._origin + self._clock
        # A file that has lost its beginning is given silence in place of it.
        self._lacks_beginning = (
            bounds is not None and bounds[0] <= _LATE_PAGES and 0.1 < late <= _LATE_SECONDS
        )
        if self._lacks_beginning:
            self._origin, late = -self._clock, 0.0
        self._ogg_end: float | None = None
        """Where the last page of an Ogg file ends, seconds on the container's own clock."""
        if bounds is not None and self._stream.time_base is not None:
            self._ogg_end = float(bounds[1] * self._stream.time_base)
            if self._part_seconds is not None and self._ogg_end > late:
                # FFmpeg counts from 0 even where a recording of a running broadcast begins late.
                self._part_seconds = min(self._part_seconds, self._ogg_end - late)
        self._has_times = not _TIMELESS & set(self._container.format.name.split(","))
        self._good_bytes = 0
        self._bare = self._frame_stream(part)
        """The frames of a bare stream, or the index of an AVI file, which say where packets belong."""
        self._is_lead_known = False
        self._lead: float | None = None
        """Seconds of sound by the frames of a bare stream in front of the first that is given out."""
        self._last_time = 0.0
        """Where the last packet of any stream begins, seconds on the container's own clock."""

    def _frame_stream(self, part: tuple[int, int]) -> FrameStream | AviChunks | None:
        name, codec = self._container.format.name, self._stream.codec_context
        if name == "avi":
            chunks = AviChunks(self.path, *part, self._stream.index)
            return chunks if chunks.is_known else None
        if name not in BARE:
            return None
        # What has no header that says it (LOAS) is AAC, in frames of 1,024 samples.
        seconds = (codec.frame_size or 1024) / (codec.sample_rate or SAMPLE_RATE)
        frames = FrameStream(self.path, *part, name, seconds)
        return frames if frames.is_known else None

    def _part_blocks(self, part: tuple[int, int]) -> Iterator[np.ndarray]:
        import av

        self._is_behind_damage, self._lost = self._lacks_beginning, 0.0
        frames = self._frames()
        while (frame := next(frames, None)) is not None:
            damaged, lost = self._is_behind_damage, self._lost
            self._is_behind_damage, self._lost = False, 0.0
            if lost and self._clock > self._part_start and self._may_last(lost):
                yield from self._silence_until(self._clock + lost, damaged=True)
            hole = self._hole_before(frame)
            if hole > 1.0 and not (self._may_last(hole) and damaged):
                # A single wild timestamp is contradicted by the one that follows.
                following = next(frames, None)
                if not self._may_last(hole) or not self._is_continued(frame, following):
                    self._origin += hole
                    hole = 0.0
                frames = chain(() if following is None else (following,), frames)
            if hole:
                yield from self._silence_until(self._clock + hole, damaged)
            try:
                yield from self._count(self._resampler.push(frame))
                self._clock += frame.samples / frame.sample_rate
            except (av.error.FFmpegError, ValueError):
                # A damaged header can claim a format that does not exist; silence keeps the clock.
                self._damaged += 1
                self._resampler = _Resampler(self._mixed)
                end = self._clock + frame.samples / frame.sample_rate
                yield from self._silence_until(end, damaged=True)
        yield from self._count(self._resampler.flush())
        yield from self._end(part)

    def _frames(self) -> Iterator[AudioFrame]:
        """Decoded frames; damaged packets are counted and left out."""
        import av

        for packet in self._packets():
            place = self._bare.place(packet) if self._bare is not None and packet.size else None
            if place is not None:
                self._is_behind_damage |= place.lost > 0.0
                if not place.is_whole:
                    continue
                if place.junk:
                    packet = self._without_junk(packet, place.junk)
            try:
                decoded = cast("list[AudioFrame]", packet.decode())
            except av.error.EOFError:
                continue
            except (av.error.FFmpegError, OSError, ValueError):
                self._damaged += 1
                self._is_behind_damage = True
                if not self._has_times and place is None:
                    self._lost += self._lost_seconds(packet)
                continue
            self._good_bytes += packet.size
            if place is not None and decoded:
                self._put_in_place(decoded, place)
            yield from decoded

    def _without_junk(self, packet: Packet, junk: int) -> Packet:
        """A packet without what FFmpeg passed over to find its frame, which decoders take for the frame."""
        from av import Packet

        frame = Packet(bytes(packet)[junk:])
        frame.stream = self._stream
        frame.time_base, frame.pts, frame.dts = packet.time_base, packet.pts, packet.dts
        return frame

    def _put_in_place(self, decoded: list[AudioFrame], place: Place) -> None:
        """Find out what is lost in front of the frames of a packet of a bare stream."""
        sound = sum(frame.samples / frame.sample_rate for frame in decoded)
        clock = self._clock - self._part_start
        if self._lead is None or not (self._is_behind_damage or self._is_lead_known):
            # Sound that begins late is given its silence only when its first frame is given out.
            self._lead = place.end - sound - clock
        self._is_lead_known |= self._is_behind_damage
        lost = place.end - sound - self._lead - clock
        if self._is_behind_damage and lost > sound / 2:
            self._lost = min(lost, MAX_HOLE_SECONDS)
        elif place.lost:
            # Something took the place of what is lost.
            self._holes.append((max(self._part_start, self._clock - place.lost), self._clock))

    def _lost_seconds(self, packet: Packet) -> float:
        """How long an undecodable packet probably was: what FFmpeg skips to find a frame is part of it."""
        shortest = 0.0
        if packet.duration is not None and packet.time_base is not None:
            shortest = max(0.0, float(packet.duration * packet.time_base))
        sound = self._clock - self._part_start
        if not self._good_bytes or any(tag in bytes(packet)[:4096] for tag in (b"ID3", b"APETAGEX")):
            return shortest
        return min(max(shortest, packet.size * sound / self._good_bytes), MAX_HOLE_SECONDS)

    def _packets(self) -> Iterator[Packet]:
        """Packets of the audio stream, those behind a damaged stretch included."""
        import av

        # How far pictures go matters only where the sound's own length is not known.
        beside = len(self._container.streams) > 1 and self._own_seconds is None
        failures = 0
        while failures < _MOST_FAILURES:
            # A generator ends with its error; the container reads on where it is.
            packets = self._container.demux() if beside else self._container.demux(self._stream)
            try:
                for packet in packets:
                    failures = 0
                    if beside and packet.pts is not None and packet.time_base is not None:
                        self._last_time = max(self._last_time, float(packet.pts * packet.time_base))
                    if packet.stream_index == self._stream.index:
                        yield packet
                return
            except (av.error.EOFError, IndexError):
                # PyAV has no stream for those that damage makes FFmpeg find midway, and misses them here.
                return
            except (av.error.FFmpegError, OSError, ValueError):
                self._damaged += failures == 0
                self._is_behind_damage = True
                failures += 1

    def _hole_before(self, frame: AudioFrame) -> float:
        """Seconds that are missing in front of a frame, by its own timestamp; 0 where none are."""
        # `frame.time` is `pts * time_base` without fractions, which cost a tenth of decoding an mp3.
        time = frame.time
        if time is None or not isfinite(time) or not self._has_times:
            return 0.0
        time -= self._origin
        hole = time - self._clock
        if abs(hole) <= CLOCK_TOLERANCE:
            return 0.0
        beyond = self._part_seconds is not None and time > self._part_start + self._part_seconds + 1.0
        if hole < 0 or beyond:
            # Timestamps that jump back or beyond the file's end are a muxer's fault, not a hole.
            self._origin += hole
            return 0.0
        return hole

    def _may_last(self, hole: float) -> bool:
        """Whether a hole may be so long, by itself and beside all the sound."""
        sound = self._clock - self._filled
        return hole <= MAX_HOLE_SECONDS and self._filled + hole <= MAX_HOLE_SECONDS + 10 * sound

    def _is_continued(self, frame: AudioFrame, following: AudioFrame | None) -> bool:
        """Whether the timestamps of two frames agree that the second comes next, or soon after."""
        if following is None or frame.time is None or following.time is None:
            return False
        apart = following.time - frame.time - frame.samples / frame.sample_rate
        return -CLOCK_TOLERANCE <= apart <= MAX_HOLE_SECONDS

    def _silence_until(self, time: float, damaged: bool) -> Iterator[np.ndarray]:
        """Silence up to a time; a hole, unless the stream only begins late or leaves silence out."""
        hole = time - self._clock
        pauses = _OPUS_PAUSE if self._stream.codec_context.name in ("opus", "libopus") else _SHORT_PAUSE
        damaged = damaged or self._container.format.name in _WITHOUT_PAUSES
        if damaged or (hole > pauses and self._clock > self._part_start):
            self._holes.append((self._clock, time))
        self._filled += hole
        yield from self._count(self._resampler.flush())
        missing = round(time * SAMPLE_RATE) - self._written
        while missing > 0:
            silence = np.zeros(min(missing, _SILENCE_BLOCK), dtype=np.float32)
            missing -= len(silence)
            yield from self._count([silence if self._mixed else silence[np.newaxis]])
        self._clock = time

    def _count(self, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if samples := block.shape[-1]:
                yield self._finite(block)
                self._written += samples

    def _finite(self, block: np.ndarray) -> np.ndarray:
        """The block with 0 in place of samples that are no number, or none that sound has."""
        # A sum of squares shows one of them, and costs a fraction of looking at each.
        if float(np.vdot(block, block)) <= _LOUDEST**2:
            return block
        finite = np.abs(block) <= _LOUDEST
        if np.count_nonzero(finite) < block.size / 2:
            start = self._written / SAMPLE_RATE
            self._holes.append((start, start + block.shape[-1] / SAMPLE_RATE))
        return np.where(finite, block, np.float32(0.0))

    def _end(self, part: tuple[int, int]) -> Iterator[np.ndarray]:
        """What is missing at the end of a part: as silence where it is short, else as what was cut off."""
        if (
            self._bare is not None
            and (lost := self._bare.finish().lost) > CLOCK_TOLERANCE
            and self._may_last(lost)
        ):
            yield from self._silence_until(self._clock + lost, damaged=True)
        decoded = self._clock - self._part_start
        missing = self._missing(part, decoded)
        own = self._own_seconds
        if missing > 0.0:
            self._missing_at_end += missing
        elif own is not None and self._is_behind_damage and 0.05 < own - decoded <= 2.0:
            yield from self._silence_until(self._part_start + own, damaged=True)

    def _missing(self, part: tuple[int, int], decoded: float) -> float:
        """Seconds that are missing behind what was decoded, beyond what containers round away."""
        name = self._container.format.name
        if isinstance(self._bare, AviChunks):
            # The index stands at the end, and a file that has it is not cut off.
            return 0.0
        if name == "avi" and part is self._parts[-1] and self._stream.frames and self._stream.time_base:
            # Its header counts the blocks of the track; how many bytes they would take is not said.
            missing = float(self._stream.frames * self._stream.time_base) - decoded
            return missing if 0.5 < missing <= _MOST_MISSING else 0.0
        # FFmpeg estimates the length of a cut ASF file from its bytes; that of Matroska it reads.
        independent = "matroska" in name
        if part is self._parts[-1] and self._promised and not (independent and self._part_seconds):
            there = part[1] - part[0]
            missing = decoded * (self._promised - there) / there
            if 0.5 < missing <= _MOST_MISSING:
                return missing
        if self._ogg_end is not None:
            missing = self._ogg_end - self._origin - self._clock
            return missing if 0.5 < missing <= _MOST_MISSING else 0.0
        declared = self._part_seconds
        if not self._has_times and not self._counts_frames(part):
            declared = None
        least = 0.5 if name == "mp3" else max(2.0, 0.02 * (declared or 0.0))
        if declared is None or declared - decoded <= least:
            return 0.0
        if self._own_seconds is not None:
            return declared - decoded if self._own_seconds - decoded > min(least, 2.0) else 0.0
        # A video may outlast its sound: then its pictures go on to the end.
        last = self._last_time - (self._container.start_time or 0) / 1_000_000
        return declared - decoded if declared - last > max(2.0, 0.02 * declared) else 0.0

    def _counts_frames(self, part: tuple[int, int]) -> bool:
        """Whether the length that FFmpeg names is the file's own, and not estimated from the first bytes."""
        name = self._container.format.name
        return name == "wav" or (name == "mp3" and counts_frames(self.path, part[0]))

    def _stream_seconds(self) -> float | None:
        """Length that the file declares for the audio stream: a video may outlast its sound."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            seconds = float(self._stream.duration * self._stream.time_base)
            # Where a Matroska file does not say it, FFmpeg takes the length of the whole file.
            if "matroska" not in self._container.format.name or seconds != self._part_seconds:
                return seconds
        return self._part_seconds if len(self._container.streams) == 1 else None


class _Resampler:
    """FFmpeg's resampler to float32 at 16 kHz, made anew when the stream changes its format midway.

    Args:
        mixed: Whether channels are mixed to one.
    """

    def __init__(self, mixed: bool) -> None:
        self._mixed = mixed
        self._inner: AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._mixer = ChannelMixer(1, SAMPLE_RATE)

    def push(self, frame: AudioFrame) -> list[np.ndarray]:
        """float32 blocks that the frame completes; see ``TrackDecoder.blocks``."""
        incoming = (frame.format.name, frame.layout.name, frame.sample_rate)
        # Timestamps were dealt with already; left in, the resampler would act on them again.
        frame.pts = None
        if incoming == self._format:
            return self._resample(frame)
        flushed = self.flush()
        self._format = incoming
        self._set_up(frame)
        return flushed + self._resample(frame)

    def flush(self) -> list[np.ndarray]:
        """What the resampler still holds; it starts anew with the next frame."""
        if self._inner is None:
            return []
        rest = self._resample(None)
        self._inner = self._format = None
        return rest

    def _set_up(self, frame: AudioFrame) -> None:
        from av import AudioResampler

        channels = frame.layout.nb_channels
        self._mixer = ChannelMixer(channels, SAMPLE_RATE)
        # Several channels interleaved ("flt"): PyAV crashes on planar frames of more than six. One channel
        # planar ("fltp"), as most decoders give it: PyAV then hands on what is at 16 kHz already.
        sample_format = "fltp" if channels == 1 else "flt"
        self._inner = AudioResampler(format=sample_format, layout=frame.layout, rate=SAMPLE_RATE)

    def _resample(self, frame: AudioFrame | None) -> list[np.ndarray]:
        assert self._inner is not None
        blocks = (resampled.to_ndarray() for resampled in self._inner.resample(frame))
        return [self._mixer.mix(block) if self._mixed else self._mixer.rows(block) for block in blocks]


class _FilePart(RawIOBase):
    """Bytes ``[start, end)`` of a file, as a file of its own for FFmpeg, with some in place of others."""

    def __init__(self, path: Path, start: int, end: int, repaired: dict[int, bytes]) -> None:
        self._file = path.open("rb")
        self._start, self._end = start, end
        self._repaired = repaired
        self._places = sorted(repaired)
        self._longest = max(map(len, repaired.values()), default=0)
        self.name = str(path)
        """FFmpeg looks at its suffix."""
        self.seek(0)

    def readable(self) -> bool:
        """See ``RawIOBase``."""
        return True

    def seekable(self) -> bool:
        """See ``RawIOBase``."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, all that are left by default."""
        first = self._file.tell()
        left = max(0, self._end - first)
        read = self._file.read(left if size < 0 else min(size, left))
        begin = bisect_right(self._places, first - self._longest)
        for position in self._places[begin : bisect_left(self._places, first + len(read))]:
            instead = self._repaired[position]
            skipped, place = max(0, first - position), max(0, position - first)
            if place < len(read) and skipped < len(instead):
                instead = instead[skipped : skipped + len(read) - place]
                read = read[:place] + instead + read[place + len(instead) :]
        return read

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a byte of the part, counted as ``whence`` says."""
        base = {SEEK_SET: self._start, SEEK_CUR: self._file.tell(), SEEK_END: self._end}[whence]
        return self._file.seek(max(self._start, base + offset)) - self._start

    def tell(self) -> int:
        """Bytes from the part's beginning."""
        return self._file.tell() - self._start

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _few(holes: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Holes in order; those that touch, and beyond ``_MOST_HOLES`` those nearest to each other, as one."""
    apart = sorted(later[0] - before[1] for before, later in pairwise(holes))
    nearest = max(0.001, apart[-_MOST_HOLES] if len(apart) >= _MOST_HOLES else 0.0)
    few: list[tuple[float, float]] = []
    for start, end in holes:
        if few and start - few[-1][1] <= nearest:
            few[-1] = (few[-1][0], end)
        else:
            few.append((start, end))
    return tuple(few)


def _open(path: Path, part: _FilePart | None) -> InputContainer:
    import av

    av.logging.set_level(av.logging.PANIC)
    # Without "file:" a colon in the name would make it an address of another protocol.
    source = part if part is not None else f"file:{path.absolute()}"
    try:
        return av.open(source, mode="r", options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
    except PermissionError as error:
        raise AudioError(f"{path.name} cannot be read; check its permissions.") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError(
            f"{path.name} is not a media file that can be read, or it is cut short; "
            "try to play it, or convert it to mp3 or wav."
        ) from error
