"""Bare streams of frames: where each frame belongs, whatever is missing between them.

Files of mp3, raw AAC (ADTS, LOAS), AC-3, E-AC-3 and AMR have no timestamps: a frame begins with a header that
says how long it is, and the next one follows. FFmpeg passes over what is no frame, often without a word, and
what comes behind it comes too early. Here the frames are counted by their headers. What lies between them
counts by the length of the frames near it; where the file says how many frames it should have, by that.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av.packet import Packet

MOST_DECLARED_DIFFERENCE = 1
"""Frames by which encoders differ in what they count."""

NEAR = 50
"""Frames whose mean length says how many were lost near them."""

CHAIN, AMR_CHAIN = 2, 5
"""Frames that have to follow one behind damage, so that it is taken for one. AMR has headers of one byte."""

_TAGS = (b"ID3", b"APETAGEX", b"TAG", b"LYRICSBE")

_FIRST = {"ac3": b"\x0b\x77", "eac3": b"\x0b\x77", "loas": b"\x56", "amr": b""}
"""What frames begin with; mostly a byte of ones."""

BARE = frozenset(("mp3", "aac", "loas", "ac3", "eac3", "amr"))
"""FFmpeg's names of the formats that are bare streams."""

_HEADER_BYTES, _MPEG_BYTES = 7, 4

Header = tuple[int, float]
"""Bytes of a frame and seconds of its sound; 0 bytes where none begins."""

_NONE: Header = (0, 0.0)

_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_KILOBITS = {
    # By MPEG-1 or not, and layer: ISO/IEC 11172-3, section 2.4.2.3, and 13818-3, section 2.4.2.3.
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

_ADTS_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350
)  # fmt: skip

_AC3_RATES = (48_000, 44_100, 32_000)
_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)

_AMR_BYTES = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
}
"""RFC 4867, section 5.3: by what the file begins with, the bytes of each type of frame."""


@lru_cache(maxsize=1024)
def _mpeg_header(head: bytes) -> Header:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return _NONE
    version, layer, kilobits, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kilobits in (0, 15) or rate == 3:
        return _NONE
    is_first = version == 3
    hertz = _MP3_RATES[rate] >> (0 if is_first else 1 if version == 2 else 2)
    bits = 1000 * _MP3_KILOBITS[is_first, layer][kilobits]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4, 384 / hertz
    samples = 1152 if is_first or layer == 2 else 576
    return samples // 8 * bits // hertz + padding, samples / hertz


def _adts_header(head: bytes) -> Header:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return _NONE
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return (size, 1024 * (1 + (head[6] & 3)) / _ADTS_RATES[head[2] >> 2 & 15]) if size > 7 else _NONE


def _ac3_header(head: bytes) -> Header:
    """ATSC A/52, section 5.3.1 and annex E, section 2.3.1."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return _NONE
    rate, kind = head[4] >> 6, head[5] >> 3
    if kind <= 10:
        code = head[4] & 63
        if rate == 3 or code > 37:
            return _NONE
        words = 1536 * 1000 * _AC3_KILOBITS[code >> 1] // 16 // _AC3_RATES[rate]
        if rate == 1:
            words += code & 1
        return 2 * words, 1536 / (_AC3_RATES[rate] >> max(0, kind - 8))
    if kind > 16:
        return _NONE
    size = 2 * ((head[2] & 7) << 8 | head[3]) + 2
    if rate == 3:
        half = head[4] >> 4 & 3
        seconds = 1536 / (_AC3_RATES[half] // 2) if half < 3 else 0.0
    else:
        seconds = 256 * (1, 2, 3, 6)[head[4] >> 4 & 3] / _AC3_RATES[rate]
    # A dependent frame adds channels to the one before.
    return size, (0.0 if head[2] >> 6 == 1 else seconds)


def _amr_header(sizes: tuple[int, ...]) -> Callable[[bytes], Header]:
    def header(head: bytes) -> Header:
        # A frame that is not good, though it has sound, is one of zeros.
        if not head or head[0] & 0x83 or (not head[0] & 4 and head[0] < 64) or not sizes:
            return _NONE
        return sizes[head[0] >> 3 & 15], 0.02

    return header


def _loas_header(seconds: float) -> Callable[[bytes], Header]:
    """ISO/IEC 14496-3, section 1.7.2; how long a frame sounds is said in its payload, at some of them."""

    def header(head: bytes) -> Header:
        if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
            return _NONE
        return 3 + ((head[1] & 31) << 8 | head[2]), seconds

    return header


class Frame(NamedTuple):
    """A frame that another one follows.

    Attributes:
        start: Its first byte.
        end: The byte behind it.
        seconds: How long it sounds.
    """

    start: int
    end: int
    seconds: float


@dataclass(frozen=True)
class Break:
    """Where frames do not follow each other.

    Attributes:
        end: Byte where the next frame begins, or the stream ends.
        frames: How many frames are probably lost, by the bytes that are none.
        seconds: How long each of them sounded.
    """

    end: int
    frames: float
    seconds: float


class Place(NamedTuple):
    """Where a packet belongs.

    Attributes:
        junk: Bytes at its beginning that are no part of its frame.
        is_whole: Whether it ends with a frame that is whole; a packet behind damage that does not is noise.
        end: Where its sound ends, seconds from the beginning of the stream.
        lost: Seconds that are lost behind the packet before it.
    """

    junk: int
    is_whole: bool
    end: float
    lost: float


class FrameStream:
    """The frames of a bare stream, on a clock of their own.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
        end: Byte behind its end.
        kind: FFmpeg's name of the format.
        seconds: How long a frame sounds, where its header does not say.
    """

    def __init__(self, path: Path, start: int, end: int, kind: str, seconds: float) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._end = end
        self._kind = kind
        data = self._data
        self._header: Callable[[bytes], Header] = _mpeg_header
        self._width = _MPEG_BYTES if kind == "mp3" else _HEADER_BYTES
        if kind == "aac":
            self._header = _adts_header
        elif kind in ("ac3", "eac3"):
            self._header = _ac3_header
        elif kind == "loas":
            self._header = _loas_header(seconds)
        elif kind == "amr":
            signature = next(
                (known for known in _AMR_BYTES if data[start : start + len(known)] == known), b""
            )
            self._header, start = _amr_header(_AMR_BYTES.get(signature, ())), start + len(signature)
        elif data[start : start + 3] == b"ID3":
            start += id3_bytes(data[start : start + 10])
        self._start = min(start, end)
        self._behind = self._start
        """Where the packet ended that was found last."""
        self._scale, self._more = self._corrected() if kind == "mp3" else (1.0, 0.0)
        self._found = self._frames()
        self._next = next(self._found, None)
        self._last: Frame | None = None
        self._time = 0.0
        self._is_damaged = False

    @property
    def is_known(self) -> bool:
        """Whether there are frames at all."""
        return self._next is not None and self._next[0].seconds > 0.0

    def place(self, packet: Packet) -> Place:
        """Where a packet belongs; packets come in order.

        Args:
            packet: What FFmpeg takes for a frame, with what it passed over in front of it or without.
        """
        following = self._next
        if following is not None and not self._is_damaged and following[1] == 0.0:
            start, end, _ = following[0]
            if start == self._behind and end - start == packet.size:
                # As all are in a whole file, which is to cost little.
                self._behind = end
                self._go_to(end)
                return Place(0, True, self._time, 0.0)
        found = self._data.find(bytes(packet)[:64], self._behind, self._end)
        first = found if found >= 0 else self._behind
        self._behind = first + packet.size
        lost = self._go_to(self._behind)
        is_whole = found < 0 or not self._is_damaged
        junk = 0
        if found >= 0 and self._last is not None and self._last.end == self._behind:
            is_whole, junk = True, max(0, self._last.start - first)
        return Place(junk, is_whole, self._time, lost)

    def finish(self) -> Place:
        """What lies behind the last packet."""
        return Place(0, True, self._time, self._go_to(self._end))

    def _go_to(self, position: int) -> float:
        """Count the frames that end up to a byte; the seconds that are lost among them."""
        all_lost = 0.0
        while self._next is not None and self._next[0].end <= position:
            self._last, lost = self._next
            self._time += self._last.seconds + lost
            all_lost += lost
            self._is_damaged |= lost > 0.0
            self._next = next(self._found, None)
        self._is_damaged |= self._next is not None and self._next[1] > 0.0
        return all_lost

    def _frames(self) -> Iterator[tuple[Frame, float]]:
        """Each frame, and the seconds that are lost in front of it; one of no length where it is the end."""
        lost = 0.0
        for part in self._parts():
            if isinstance(part, Break):
                lost += (self._scale * part.frames + self._more) * part.seconds
                if part.end >= self._end:
                    yield Frame(part.end, part.end, 0.0), lost
            else:
                yield part, lost
                lost = 0.0

    def _parts(self) -> Iterator[Frame | Break]:
        """All frames that another one follows, and what is between them."""
        data, header, width, end = self._data, self._header, self._width, self._end
        near: deque[int] = deque(maxlen=NEAR)
        position, usual = self._start, 0.0
        size, seconds = header(data[position : position + width])
        while position < end:
            behind = position + size
            following = header(data[behind : behind + width]) if size else _NONE
            if size and behind <= end and (following[0] or behind == end or self._is_tag(behind)):
                yield Frame(position, behind, seconds)
                near.append(size)
                position, usual = behind, seconds or usual
                size, seconds = following
                continue
            found = self._synchronised(position + 1)
            # What ends within a frame was cut off there.
            if near and not self._is_tag(position) and (found < end or not size):
                frames = (found - position) * len(near) / sum(near)
                is_constant = max(near) - min(near) <= 1
                yield Break(
                    found, max(1.0, float(ceil(frames - 0.1) if is_constant else round(frames))), usual
                )
            position = found
            size, seconds = header(data[position : position + width])

    def _is_tag(self, position: int) -> bool:
        return self._data[position : position + 8].startswith(_TAGS)

    def _synchronised(self, position: int) -> int:
        """Where the next frame begins that others follow; the end where there is none."""
        data, header, width, end = self._data, self._header, self._width, self._end
        first, chain = _FIRST.get(self._kind, b"\xff"), AMR_CHAIN if self._kind == "amr" else CHAIN
        while 0 <= (position := data.find(first, position, end)) < end:
            at = position
            for _ in range(chain + 1):
                size = header(data[at : at + width])[0]
                at += size
                if not size or at >= end or self._is_tag(at):
                    break
            if size and at <= end and at > position:
                return position
            position += 1
        return end

    def _corrected(self) -> tuple[float, float]:
        """By what the lost frames of each break are multiplied, and what is added to them, so that the file
        has as many frames as it says; a file that has as many bytes as it says is not looked through."""
        frames, size = mp3_counts(self._data[self._start : self._start + _HEADER_BYTES + 64])
        there = self._end - self._start
        if not frames or not size or there in (size, size + 128):
            return 1.0, 0.0
        counted, behind, breaks = -1, 0, list[Break]()
        for part in self._parts():
            if isinstance(part, Frame):
                counted, behind = counted + 1, part.end
            else:
                breaks.append(part)
        lost, by_bytes = frames - counted, sum(one.frames for one in breaks)
        if not breaks or abs(lost - by_bytes) <= MOST_DECLARED_DIFFERENCE:
            return 1.0, 0.0
        if lost < by_bytes:
            # Bytes were put in.
            return max(0, lost) / by_bytes, 0.0
        # Where the end is cut off as well, nobody knows how much of it was there.
        is_whole = behind == self._end or self._is_tag(behind)
        return 1.0, (lost - by_bytes) / len(breaks) if is_whole else 0.0


def id3_bytes(tag: bytes) -> int:
    """Bytes of a tag, its header of 10 among them. ID3v2.4, section 6.2: sizes have seven bits a byte."""
    return 10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(tag[6:])))


def mp3_counts(frame: bytes) -> tuple[int, int]:
    """How many frames and bytes an mp3 file has, as its first frame says; 0 where it does not."""
    for name in (b"Xing", b"Info"):
        if (place := frame.find(name)) >= 0:
            flags, first, second = (
                int.from_bytes(frame[place + at : place + at + 4], "big") for at in (4, 8, 12)
            )
            return first if flags & 1 else 0, second if flags & 3 == 3 else 0
    return 0, 0
