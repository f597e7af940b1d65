"""What the bytes of a media file say about its whole: how long it should be, and where joined files begin.

FFmpeg reads a file from its beginning and stops where the first recording in it ends; nor does it say that a
header promises more bytes than there are. Only lengths and signatures are read here; no sound is decoded.
"""

from __future__ import annotations

import heapq
import mmap
import struct
from collections.abc import Iterator
from io import SEEK_END
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from moss_audio.frame_streams import id3_bytes

MOST_PARTS = 10_000
"""Joined files that are told apart; a radio stream of a week has fewer."""

MOST_REPAIRS = 40_000
"""Places of a file that are repaired, ten hours in fragments of a second; what lies behind them is lost."""

_PLACEHOLDER = 0x7FFF0000
"""32-bit sizes from here on stand for "unknown": programs that write to a pipe put such a number there."""

_OGG = b"OggS\x00"

_BEGINNING = 1 << 20
"""Bytes in which an Ogg file's headers end, or an mp3 file's tag; covers of albums are part of them."""

_OGG_CONTINUED, _OGG_FIRST = 1, 2

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_EBML = b"\x1a\x45\xdf\xa3"
_SIGNATURES = (
    _ASF,
    _W64,
    b"caff\x00\x01\x00\x00desc",
    b"TTA1\x01\x00",
    b"FLV\x01\x04\x00",
    b"FLV\x01\x05\x00",
)

_WAVPACK_LIMIT = 1 << 20
"""Bytes that a WavPack block may have at most for FFmpeg."""

_SEGMENT = b"\x18\x53\x80\x67"


def joined_parts(path: Path) -> list[tuple[int, int]]:
    """Where each of the files begins and ends that were joined to one.

    Args:
        path: A file that is not empty.

    Returns:
        ``(first, behind the last)`` byte of each, in order; a single pair for a file that is one.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = [0]
        for start in _later_starts(data):
            starts.append(start)
            if len(starts) == MOST_PARTS:
                break
        return list(zip(starts, [*starts[1:], len(data)], strict=True))


def repairs(path: Path, start: int, end: int) -> dict[int, bytes]:
    """Bytes to put in place of others so that FFmpeg reads on behind broken links of a file.

    An MP4 file in fragments (ISO/IEC 14496-12, section 8.8), as cameras and browsers record it, and a WavPack
    file are chains: each link says how long it is, and FFmpeg ends where one is broken, though all behind it
    is there. With the link in front of the damage made longer, or an empty one put in its place, every other
    byte stays where it was.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
        end: Byte behind its end.

    Returns:
        By position; empty for a file that is not broken, or is neither.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[start + 4 : start + 8] == b"ftyp":
            found = _mp4_repairs(data, start, end)
        elif data[start : start + 4] == b"wvpk":
            found = _wavpack_repairs(data, start, end)
        else:
            return {}
        return dict(islice(found, MOST_REPAIRS))


def promised_bytes(path: Path, start: int = 0) -> int | None:
    """Bytes that a file's own header says it has; None where it does not say, or not reliably.

    Known are WAV (RF64 too), AVI, AIFF, W64, AU, CAF, SoX, Matroska, WebM and ASF.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
    """
    with path.open("rb") as file:
        head = _read_at(file, start, 4096)
        if head[:4] == b"caff":
            return _caf_bytes(file, start)
    promised = None
    if head[:4] in (b"RIFF", b"FORM") and len(head) >= 12:
        size = struct.unpack(">I" if head[:4] == b"FORM" else "<I", head[4:8])[0]
        promised = 8 + size if 0 < size < _PLACEHOLDER else None
    elif head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        promised = 8 + struct.unpack("<Q", head[20:28])[0]
    elif head[:16] == _W64:
        promised = struct.unpack("<Q", head[16:24])[0]
    elif head[:4] == b".snd" and len(head) >= 12:
        offset, size = struct.unpack(">II", head[4:12])
        promised = offset + size if 0 < size < _PLACEHOLDER else None
    elif head[:4] in (b".SoX", b"XoS.") and len(head) >= 16:
        # A magic number, the header's length behind it, and the number of samples of 32 bits.
        header, samples = struct.unpack("<IQ" if head[:4] == b".SoX" else ">IQ", head[4:16])
        promised = 4 + header + 4 * samples if samples else None
    elif head[:16] == _ASF and (found := head.find(_ASF_FILE)) >= 0 and len(head) >= found + 48:
        promised = struct.unpack("<Q", head[found + 40 : found + 48])[0] or None
    elif head[:4] == _EBML and (found := head.find(_SEGMENT)) >= 0:
        size, width = _ebml_size(head, found + 4)
        promised = found + 4 + width + size if size is not None else None
    return promised


def ogg_bounds(path: Path, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """Where the pages of an Ogg file begin and end by their headers, of damaged pages too.

    RFC 3533, section 6. FFmpeg takes the first page that is whole for the beginning, the last for the end.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
        end: Byte behind its end.

    Returns:
        Number of the first page that ends with sound, counted from the first of the headers, and position of
        the last page in samples; None where there are several streams, or no pages with sound.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data) if end is None else end
        serial = data[start + 14 : start + 18]
        first, position = None, start
        beginning = min(end, start + _BEGINNING)
        while first is None and (position := data.find(_OGG, position, beginning)) >= 0:
            page = data[position : position + 27]
            if len(page) == 27 and position > start and page[5] & _OGG_FIRST:
                return None
            if len(page) == 27 and page[14:18] == serial and _ogg_samples(page) > 0:
                first = int.from_bytes(page[18:22], "little")
            position += 1
        position = end
        while first is not None and (position := data.rfind(_OGG, start, position)) >= 0:
            page = data[position : position + 27]
            if len(page) == 27 and page[14:18] == serial and _ogg_samples(page) > 0:
                return first, _ogg_samples(page)
    return None


def _ogg_samples(page: bytes) -> int:
    """Samples up to the last packet that ends on a page; -1 where none does."""
    return int.from_bytes(page[6:14], "little", signed=True)


def counts_frames(path: Path, start: int = 0) -> bool:
    """Whether an mp3 file says how many frames it has; without that its length is estimated from its bytes.

    Args:
        path: The file.
        start: Byte where it begins, if it was joined to others.
    """
    with path.open("rb") as file:
        tag = _read_at(file, start, 10)
        first = start
        if tag[:3] == b"ID3" and len(tag) == 10:
            first += id3_bytes(tag)
        head = _read_at(file, first, 4096)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def _later_starts(data: mmap.mmap) -> Iterator[int]:
    """Where a second recording, a third and so on begins."""
    if data[:4] == b"OggS":
        yield from _ogg_links(data)
    elif data[:4] in (b"RIFF", b"FORM"):
        yield from _chunks_alike(data)
    elif data[4:8] == b"ftyp":
        yield from _mp4_files(data)
    elif data[:4] == b"wvpk":
        yield from _wavpack_files(data)
    elif data[:3] == b"ID3" or (data[0] == 0xFF and data[1:2] and data[1] & 0xE6 == 0xE2):
        yield from _mp3_files(data)
    elif data[:4] == b"fLaC":
        yield from _found(data, b"fLaC\x00\x00\x00\x22")
    elif data[:5] == b"#!AMR":
        yield from _found(data, data[: 9 if data[5:6] == b"-" else 6])
    elif (
        signature := next((known for known in _SIGNATURES if data[: len(known)] == known), None)
    ) is not None:
        yield from _found(data, signature)
    elif data[:4] == _EBML:
        for start in _found(data, _EBML):
            if any(kind in data[start : start + 64] for kind in (b"matroska", b"webm")):
                yield start


def _found(data: mmap.mmap, signature: bytes) -> Iterator[int]:
    position = 1
    while (position := data.find(signature, position)) >= 0:
        yield position
        position += len(signature)


def _ogg_links(data: mmap.mmap) -> Iterator[int]:
    """The first page of each later link of a chain: one that begins a stream, behind one that does not.

    RFC 3533, section 6: the pages that begin a link's streams come before all others of the link.
    """
    position, beginning = 0, True
    while 0 <= position <= len(data) - 27:
        if data[position : position + 5] != b"OggS\x00":
            position = data.find(b"OggS\x00", position + 1)
            continue
        first = bool(data[position + 5] & _OGG_FIRST) and not data[position + 5] & _OGG_CONTINUED
        if first and not beginning:
            yield position
        beginning = first
        segments = data[position + 26]
        position += 27 + segments + sum(data[position + 27 : position + 27 + segments])


def _chunks_alike(data: mmap.mmap) -> Iterator[int]:
    """RIFF or FORM files behind each other; the ``AVIX`` chunks of a long AVI file are part of it."""
    order: Literal["big", "little"] = "big" if data[:4] == b"FORM" else "little"
    position = 0
    while True:
        size = int.from_bytes(data[position + 4 : position + 8], order)
        position += 8 + size + size % 2
        if size == 0 or data[position : position + 4] != data[:4]:
            return
        if data[position + 8 : position + 12] == data[8:12]:
            yield position


def _mp3_files(data: mmap.mmap) -> Iterator[int]:
    """The frames of mp3 files that hold no sound but how much there is, or the ID3v2 tags before them.

    Such a frame has "Xing" or "Info" behind its header of 4 bytes and its side information (ISO/IEC 11172-3,
    section 2.4.1.7: 32 bytes, 17 for mono; MPEG-2: 17 and 9), and the number of frames among its flags.
    """
    for mark in heapq.merge(*(_found(data, name + b"\0\0\0") for name in (b"Xing", b"Info"))):
        gaps = (gap for gap in (36, 21, 13) if _mp3_gap(data, mark - gap) == gap)
        first = mark - next(gaps, mark)
        if not first or not data[mark + 7] & 1:
            continue
        tag = data.rfind(b"ID3", max(0, first - _BEGINNING), first)
        if tag < 0 or tag + id3_bytes(data[tag : tag + 10]) != first:
            tag = first
        if tag:
            yield tag


def _mp3_gap(data: mmap.mmap, position: int) -> int:
    """Bytes from the beginning of a frame of an mp3 file to its "Xing", if there is one; 0 where none is."""
    head = data[max(0, position) : position + 4]
    if position < 0 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    is_mono = head[3] >> 6 == 3
    return (21 if is_mono else 36) if head[1] >> 3 & 3 == 3 else (13 if is_mono else 21)


def _wavpack_files(data: mmap.mmap) -> Iterator[int]:
    """Blocks that begin with sample 0 again."""
    position, before = 0, 0
    while (position := data.find(b"wvpk", position)) >= 0 and position + 32 <= len(data):
        size, version, _, _, _, index = struct.unpack("<IHBBII", data[position + 4 : position + 20])
        if not 0x400 <= version <= 0x410:
            position += 4
            continue
        if index == 0 and before > 0:
            yield position
        before = index
        position += max(32, 8 + size)


def _caf_bytes(file: BinaryIO, start: int) -> int | None:
    """Where the last chunk ends; the size of the one with the sound may be left open as -1."""
    position = start + 8
    end = file.seek(0, SEEK_END)
    while position < end and len(header := _read_at(file, position, 12)) == 12:
        size = struct.unpack(">q", header[4:])[0]
        if size < 0:
            return None
        position += 12 + size
    return position - start


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _mp4_files(data: mmap.mmap) -> Iterator[int]:
    """Every later ``ftyp`` box among the outermost."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        if position and kind == b"ftyp":
            yield position
        if size == 1 and position + 16 <= len(data):
            size = struct.unpack(">Q", data[position + 8 : position + 16])[0]
        if size < 8:
            return
        position += size


def _mp4_repairs(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The sizes of boxes that reach up to the next fragment, in place of what damage left; and the places of
    fragments that say where in the file they were, and are elsewhere now."""
    position, media = start, None
    says_own_place: bool | None = None
    while position < end:
        head = data[position : position + 16]
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size >= 8 and kind.isalnum() and kind.isascii() and position + size <= end:
            media = position if kind == b"mdat" and head[:4] != b"\0\0\0\1" else None
            if kind == b"moof":
                places = list(_fragment_places(data, position, position + size))
                if says_own_place is None:
                    says_own_place = all(place == position - start for _, place in places)
                for field, place in places if says_own_place else ():
                    if place != position - start:
                        yield field, struct.pack(">Q", position - start)
            position += size
            continue
        # Where bytes are missing, the box in front reaches into fragments that are whole.
        # A fragment whose own header is broken or cut off is not the next one.
        following = _next_fragment(data, position + 5 if media is None else media + 8, end)
        if following is None:
            if kind == b"moof" and end - position < 1 << 32:
                # FFmpeg opens no file that ends within such a header.
                yield position, struct.pack(">I4s", end - position, b"free")
            return
        first = position if media is None else media
        if 8 <= following - first < 1 << 32:
            yield first, struct.pack(">I4s", following - first, b"free" if media is None else b"mdat")
        position, media = following, None


def _fragment_places(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """From where in the file the tracks of a fragment count the places of their sound: the byte that says so,
    and what it says."""
    for position, behind in _boxes(data, start + 8, end, b"traf"):
        for header, _ in _boxes(data, position + 8, behind, b"tfhd"):
            # A field that is there only where a flag says so (ISO/IEC 14496-12, section 8.8.7).
            if data[header + 11] & 1:
                yield header + 16, int.from_bytes(data[header + 16 : header + 24], "big")


def _boxes(data: mmap.mmap, start: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Where the boxes of a kind begin and end that lie one after another in a range of bytes."""
    position = start
    while position + 24 <= end:
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8 or position + size > end:
            return
        if data[position + 4 : position + 8] == wanted:
            yield position, position + size
        position += size


def _next_fragment(data: mmap.mmap, position: int, end: int) -> int | None:
    """Where the next fragment of an MP4 file begins: a box that says so, its header first in it."""
    while (position := data.find(b"moof", position, end)) >= 0:
        if data[position + 8 : position + 12] == b"mfhd" and position - 4 < end:
            return position - 4
        position += 4
    return None


def _wavpack_repairs(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Headers of blocks without samples, which fill what lies between blocks that are whole."""
    position = start
    while size := _wavpack_block(data, position):
        behind = position + size
        if behind >= end or _wavpack_block(data, behind):
            position = behind
            continue
        following = position + 32
        while (following := data.find(b"wvpk", following, end)) >= 0 and not _wavpack_block(data, following):
            following += 4
        if following < 0:
            return
        # Where bytes are missing, a block reaches into the next one, and is none itself.
        first = behind if behind + 32 <= following else position
        for filled in range(first, following, _WAVPACK_LIMIT):
            header = bytearray(data[start : start + 32])
            length = min(_WAVPACK_LIMIT, following - filled)
            if length < 32:
                break
            header[4:8], header[20:24] = struct.pack("<I", length - 8), bytes(4)
            yield filled, bytes(header)
        position = following


def _wavpack_block(data: mmap.mmap, position: int) -> int:
    """Bytes of the WavPack block that begins there; 0 where none does."""
    head = data[position : position + 32]
    if len(head) < 32 or head[:4] != b"wvpk":
        return 0
    size, version = struct.unpack("<IH", head[4:10])
    return 8 + size if 0x400 <= version <= 0x410 and 24 <= size <= _WAVPACK_LIMIT else 0


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """An element's size (RFC 8794, section 4), None where it is unknown, and the bytes it is written in."""
    first = head[position] if position < len(head) else 0
    width = 9 - first.bit_length() if first else 8
    written = int.from_bytes(head[position : position + width], "big")
    size = written & ((1 << 7 * width) - 1)
    return (None if size == (1 << 7 * width) - 1 or not first else size), width
