"""AVI files: where each piece of a track belongs, by the index at the end of the file.

FFmpeg counts the pieces that it finds, so that all behind a damaged stretch comes too early. The index names
every piece that was written, with its place and size (OpenDML AVI File Format Extensions, section 3).
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moss_audio.frame_streams import Place

if TYPE_CHECKING:
    from av.packet import Packet

_HEADERS = 1 << 20
"""Bytes in which the headers of an AVI file end."""

_ALIKE = 8
"""Pieces in a row by which the index and what is left of a file are matched."""


class Chunk(NamedTuple):
    """A piece of a track.

    Attributes:
        name: Number of the track and what the piece holds, such as ``b"01wb"``.
        start: Byte where its content began when the file was whole.
        size: Bytes of its content.
    """

    name: bytes
    start: int
    size: int


class AviChunks:
    """The pieces of an audio track, on the clock of the index.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
        end: Byte behind its end.
        number: Of the track among all of the file, from 0.
    """

    def __init__(self, path: Path, start: int, end: int, number: int) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._start = start
        self._missing = 0
        """Bytes by which what follows comes earlier in the file than the index says; all that are missing."""
        self._chunks = self._indexed(start, end)
        self._name = b"%02dwb" % number
        self._own = [place for place, chunk in enumerate(self._chunks) if chunk.name == self._name]
        self._starts = [self._chunks[place].start for place in self._own]
        self._times = self._clock(number)
        """Where each piece of the track begins, and the last one ends, seconds."""
        self._shift = 0
        self._time = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is an index, and the track in it."""
        return len(self._times) > 1

    def place(self, packet: Packet) -> Place | None:
        """Where a packet belongs; None where the index does not say. Packets come in order."""
        position = packet.pos
        if position is None or position < 0:
            return None
        position += self._start
        number = self._number(position)
        if number is None:
            return None
        began, ended = self._times[number], self._times[number + 1]
        size = self._chunks[self._own[number]].size
        offset = position + self._shift - self._starts[number]
        begins = began + (ended - began) * offset / size
        ends = began + (ended - began) * min(1.0, (offset + packet.size) / size)
        lost = begins - self._time
        self._time = max(self._time, ends)
        return Place(0, True, ends, lost if lost > 0.001 else 0.0)

    def finish(self) -> Place:
        """What lies behind the last packet."""
        return Place(0, True, self._times[-1], max(0.0, self._times[-1] - self._time))

    def _number(self, position: int) -> int | None:
        """The piece that a byte of the file belongs to."""
        for shift in dict.fromkeys((self._shift, 0, self._missing)):
            if (number := self._holding(position, shift)) is not None:
                self._shift = shift
                return number
        behind = bisect_right(self._times, self._time) - 1
        found = self._there(position)
        first = self._own[min(max(0, behind), len(self._own) - 1)]
        for place in range(first, len(self._chunks)) if found else ():
            alike = self._chunks[place : place + len(found)]
            if [chunk[::2] for chunk in alike] == [chunk[::2] for chunk in found]:
                self._shift = self._chunks[place].start - found[0].start
                return self._holding(position, self._shift)
        return None

    def _holding(self, position: int, shift: int) -> int | None:
        """The piece that holds a byte, if it has moved by so much; None where it is not there."""
        number = bisect_right(self._starts, position + shift) - 1
        if number < 0:
            return None
        chunk = self._chunks[self._own[number]]
        if position + shift >= chunk.start + chunk.size or not self._is_at(chunk, chunk.start - shift):
            return None
        return number

    def _is_at(self, chunk: Chunk, position: int) -> bool:
        header = self._data[max(0, position - 8) : max(0, position)]
        return header == chunk.name + struct.pack("<I", chunk.size)

    def _there(self, position: int) -> list[Chunk]:
        """The pieces that follow each other from one on whose content begins at a byte."""
        found: list[Chunk] = []
        while len(found) < _ALIKE:
            header = self._data[max(0, position - 8) : max(0, position)]
            if len(header) < 8 or not header[:2].isdigit():
                break
            found.append(Chunk(header[:4], position, int.from_bytes(header[4:], "little")))
            position += 8 + found[-1].size + found[-1].size % 2
        return found

    def _indexed(self, start: int, end: int) -> list[Chunk]:
        data = self._data
        movie, index = data.find(b"movi", start, min(end, start + _HEADERS)), data.rfind(b"idx1", start, end)
        if movie < 0 or index < movie or data[movie - 8 : movie - 4] != b"LIST":
            # Damaged headers.
            return []
        self._missing = movie + int.from_bytes(data[movie - 4 : movie], "little") - index
        size = min(int.from_bytes(data[index + 4 : index + 8], "little"), end - index - 8) // 16 * 16
        entries = list(struct.iter_unpack("<4sIII", data[index + 8 : index + 8 + size]))
        for base in (movie, start):
            chunks = [Chunk(name, base + offset + 8, size) for name, _, offset, size in entries]
            if chunks and self._is_at(chunks[0], chunks[0].start):
                return chunks
        return []

    def _clock(self, number: int) -> list[float]:
        data, header = self._data, self._start
        for _ in range(number + 1):
            header = data.find(b"strh", header + 1, self._start + _HEADERS)
            if header < 0:
                return []
        scale, rate, _, _, _, _, sample = struct.unpack("<7I", data[header + 28 : header + 56])
        layout = data.find(b"strf", header, self._start + _HEADERS)
        align = int.from_bytes(data[layout + 20 : layout + 22], "little") if layout >= 0 else 0
        if not scale or not rate:
            return []
        times, units = [0.0], 0
        for place in self._own:
            size = self._chunks[place].size
            units += size // sample if sample else -(-size // align) if align > 1 else 1
            times.append(units * scale / rate)
        return times
