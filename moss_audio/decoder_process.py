"""FFmpeg in a process of its own: a file that crashes it, or keeps it busy, costs that file alone.

The program starts it when the first file is opened, and uses it again for the next. Both ends of the pipes
are here. Messages are a header and JSON or samples, nothing that could
run code: what a process says that a file took over is not trusted. It has limits on memory, processor time
and what it gives out; it writes no file, opens no address, and ends with the program, however that ends.

A process that met damage is not used for another file, since FFmpeg may have hurt its memory unseen.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import math
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from moss_audio.errors import AudioError
from moss_audio.track_decoder import SAMPLE_RATE, DecodeReport, TrackDecoder

MEMORY_BYTES = 1 << 30
"""Memory for all that a file makes FFmpeg allocate (RLIMIT_DATA). A film of ten hours takes 200 MB."""

MOST_SECONDS = 100 * 3600.0
"""Audio that a file may give: more than four days. A few megabytes can claim years of silence."""

CPU_SECONDS = 20.0
"""Processor time beyond what a file's sound and size allow (RLIMIT_CPU)."""

CPU_PER_SECOND = 1.0
"""Processor time for a second of audio. The slowest format (Monkey's Audio at its hardest) takes a tenth."""

BYTES_PER_CPU_SECOND = 20_000_000
"""Bytes of a file for which another second of processor time is allowed: pictures are only skipped."""

QUIET_SECONDS = 25.0
"""Without a message, and without a byte read from the disk, for so long, the process has hung."""

START_SECONDS = 120.0
"""A start takes 0.2 s; a machine that swaps may take very long."""

MOST_FILES = 100
"""Files after which a process is replaced, so that leaks in FFmpeg do not add up."""

MOST_IDLE = 2
"""Processes that wait for the next file: 45 MB each."""

_BLOCK = SAMPLE_RATE
"""Samples that are sent at a time: a second."""

_MOST_BYTES = 1 << 26
"""No message is larger: two seconds of 512 channels, the most that FFmpeg has."""

_MOST_PIECES = 512
"""Pieces of memory that are written at a time; Linux takes 1,024."""

_MOST_OPEN_FILES = 64

_MOST_LETTERS = 2000
"""A sentence about a file, whose name may be long."""

_PIPE_BYTES = 1 << 18
"""How far decoding runs ahead of who reads: four blocks of one channel."""

_WAIT_SECONDS = 0.2
"""How often a caller who waits is asked whether it still wants to."""

_CLOSE_SECONDS = 1.0
"""Time that a process has to stop in the middle of a file, before it is ended."""

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The environment it is given, with Python's own variables and the locale: keys and tokens stay here."""

_PROGRAM = "from moss_audio.decoder_process import serve; serve()"

_HEADER = struct.Struct("<cHI")
"""Kind, number of channels (of blocks of samples that are not mixed, else 0), bytes that follow."""

_HELLO, _OPENED, _SAMPLES, _END, _FAULT, _CLOSED = b"H", b"I", b"B", b"E", b"F", b"C"
_OPEN, _READ, _CLOSE = b"O", b"R", b"X"

Waiting = Callable[[], None]
"""Called several times a second while the decoder is waited for; what it raises ends the wait."""


class DecoderDied(AudioError):
    """The process ended, or had to be ended, while it read a file."""


class DecoderEnded(DecoderDied):
    """Something outside ended it; another one may read the same file."""


@dataclass(frozen=True)
class Opened:
    """What a file turned out to hold.

    Attributes:
        track: Number of the audio track that is decoded, from 0.
        tracks: How many audio tracks there are.
        declared_seconds: Length the file claims; None where it does not say.
        languages: What the file says is spoken on each track, as it spells it; None where it does not say.
    """

    track: int
    tracks: int
    declared_seconds: float | None
    languages: tuple[str | None, ...]


class DecoderProcess:
    """The program's end: one process, which decodes one file at a time.

    Raises:
        AudioError: It cannot be started.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._files = 0
        self._path = Path()
        self._is_spent = False
        root = str(Path(__file__).resolve().parents[1])
        variables = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT_VARIABLES or name.startswith(("PYTHON", "LC_"))
        }
        found = [root, *(os.path.abspath(p) for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p)]
        variables["PYTHONPATH"] = os.pathsep.join(found)
        # One channel's energy needs no threads, and their memory counts.
        variables["OPENBLAS_NUM_THREADS"] = variables["OMP_NUM_THREADS"] = "1"
        # "-P": a module in the folder that the user happens to be in is not ours.
        command = [sys.executable, "-P", "-c", _PROGRAM]
        try:
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=variables,
            )
        except OSError as error:
            raise AudioError(f"The decoder cannot be started ({error.strerror}).") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._replies, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.versions = self._greeting()

    def _greeting(self) -> str:
        """What the process says of its libraries when it has loaded them."""
        try:
            kind, _, payload = self._receive(None, START_SECONDS)
            told = _from_json(payload)
        except (AudioError, ValueError, TypeError) as error:
            raise AudioError(
                "The decoder cannot be started: Python or PyAV may be damaged; install them again."
            ) from error
        if kind != _HELLO:
            self.kill()
            raise AudioError(str(told.get("text")))
        return str(told.get("versions"))

    @property
    def pid(self) -> int:
        """The number that the system has given it."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it lives, and may be given another file."""
        return not self._is_spent and self._files < MOST_FILES and self._process.poll() is None

    def open(self, path: Path, track: int | None, mixed: bool, waiting: Waiting | None) -> Opened:
        """Have it open a file; see ``AudioStream``.

        Raises:
            AudioError: It is not media, has no such track, or cannot be opened within the limits.
            DecoderEnded: The process was ended from outside, perhaps before.
        """
        self._path = path
        self._files += 1
        request = {"path": os.fsencode(path.absolute()).hex(), "track": track, "mixed": mixed}
        try:
            self._send(_OPEN, json.dumps(request).encode())
        except BrokenPipeError as error:
            raise self._obituary() from error
        _, _, payload = self._answer(_OPENED, waiting)
        with self._distrust():
            opened = _as_opened(_from_json(payload))
        return opened

    def read(self, waiting: Waiting | None) -> Iterator[np.ndarray | DecodeReport]:
        """Have it decode the file that is open.

        Yields:
            Blocks as ``TrackDecoder`` gives them, at least a second long except the last; then the report.

        Raises:
            AudioError: Nothing can be decoded, or not within the limits.
        """
        self._send(_READ)
        most = MOST_SECONDS * SAMPLE_RATE
        samples = 0
        while True:
            kind, channels, payload = self._answer(_SAMPLES + _END, waiting)
            if kind == _END:
                with self._distrust():
                    report = _report(_from_json(payload))
                yield report
                return
            block = np.frombuffer(payload, np.float32)
            if channels:
                block = block.reshape(channels, -1)
            samples += block.shape[-1]
            # It stops by itself, unless a file took it over.
            if samples > most + _BLOCK:
                self.kill()
                raise AudioError(_too_much(self._path))
            yield block

    def close(self) -> None:
        """Have it close the file, wherever it is in it; it is ended if it does not stop at once."""
        if os.getpid() != self._owner or self._process.poll() is not None:
            return
        try:
            self._send(_CLOSE)
            deadline = time.monotonic() + _CLOSE_SECONDS
            while True:
                kind, _, payload = self._receive(None, deadline - time.monotonic())
                if kind == _CLOSED:
                    with self._distrust():
                        self._is_spent = bool(_from_json(payload).get("met_damage"))
                    return
        except (AudioError, OSError):
            self.kill()

    def kill(self) -> None:
        """End the process now."""
        if os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            # The numbers may be given to other files now.
            self._requests = self._replies = -1

    def _answer(self, kinds: bytes, waiting: Waiting | None) -> tuple[bytes, int, memoryview]:
        """The next message, which is of one of these kinds or says what is wrong with the file."""
        kind, channels, payload = self._receive(waiting, QUIET_SECONDS)
        with self._distrust():
            if kind == _FAULT:
                text = str(_from_json(payload)["text"])[:_MOST_LETTERS]
            elif kind not in kinds:
                raise ValueError(kind)
        if kind == _FAULT:
            raise AudioError(text)
        return kind, channels, payload

    @contextlib.contextmanager
    def _distrust(self) -> Iterator[None]:
        """End the process if what it says makes no sense: a file has taken it over."""
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self.kill()
            raise DecoderDied(_crashed(self._path)) from error

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        _write(self._requests, kind, 0, payload)

    def _receive(self, waiting: Waiting | None, seconds: float) -> tuple[bytes, int, memoryview]:
        """The next message; a wait that is broken off in the middle ends the process."""
        try:
            kind, channels, size = _HEADER.unpack(self._bytes(_HEADER.size, waiting, seconds))
            is_uneven = kind == _SAMPLES and size % (4 * max(1, channels)) > 0
            if size > _MOST_BYTES or is_uneven:
                raise DecoderDied(_crashed(self._path))
            return kind, channels, self._bytes(size, waiting, seconds)
        except BaseException:
            self.kill()
            raise

    def _bytes(self, size: int, waiting: Waiting | None, seconds: float) -> memoryview:
        data = np.empty(size, np.uint8)
        view = data.data
        while view:
            self._wait(waiting, seconds)
            if not (count := os.readv(self._replies, [view])):
                raise self._obituary()
            view = view[count:]
        return data.data

    def _wait(self, waiting: Waiting | None, seconds: float) -> None:
        """Wait for more from the process."""
        pause = 1000 * min(_WAIT_SECONDS, max(0.0, seconds))
        if self._poll.poll(pause):
            return
        read, due = None, time.monotonic() + seconds / 2
        while True:
            if waiting is not None:
                waiting()
            if time.monotonic() >= due:
                before, read = read, self._bytes_read()
                if read == before or seconds < QUIET_SECONDS:
                    raise DecoderDied(_hung(self._path))
                due = time.monotonic() + seconds / 2
            if self._poll.poll(pause):
                return

    def _bytes_read(self) -> int:
        """Bytes the process has read from files so far; 0 where the system does not say."""
        with contextlib.suppress(OSError):
            counts = dict(line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
            # What is mapped is no part of "rchar".
            return int(counts["rchar"]) + int(counts["read_bytes"])
        return 0

    def _obituary(self) -> AudioError:
        """Why the process has ended."""
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        if code == -signal.SIGXCPU:
            return DecoderDied(_hung(self._path))
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return DecoderEnded(
                f"The decoder was ended from outside while it read {self._path.name}, perhaps because the "
                "machine ran out of memory; close other programs and try again."
            )
        return DecoderDied(_crashed(self._path))


# A stream that nobody closed may be collected, and given back, at any time: in here, too.
_lock = threading.RLock()
_idle: list[DecoderProcess] = []


def take_process() -> DecoderProcess:
    """A process that is free; give it back with ``give_back``.

    Raises:
        AudioError: None can be started.
    """
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.is_usable:
                return process
            process.kill()
    return DecoderProcess()


def give_back(process: DecoderProcess) -> None:
    """Close the file that a process reads, and keep the process for the next."""
    process.close()
    with _lock:
        if process.is_usable and len(_idle) < MOST_IDLE:
            _idle.append(process)
            return
    process.kill()


def _end_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().kill()


def _forget_all() -> None:
    """In a forked process, whose parent owns them."""
    global _lock
    _lock = threading.RLock()
    _idle.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)


def decoder_versions() -> str:
    """Which libraries decode, for ``doctor``.

    Raises:
        AudioError: The decoder cannot be started.
    """
    process = take_process()
    give_back(process)
    return process.versions


def _crashed(path: Path) -> str:
    return (
        f"The decoder crashed on {path.name}: the file is damaged, or made to do so; "
        "convert it to mp3 or wav with another program."
    )


def _hung(path: Path) -> str:
    return (
        f"The decoder found no end in {path.name} and was stopped: the file is damaged; "
        "convert it to mp3 or wav with another program."
    )


def _too_much(path: Path) -> str:
    return f"{path.name} claims more than {MOST_SECONDS / 3600:.0f} hours of sound; cut it into parts."


def _from_json(payload: memoryview) -> dict[str, Any]:
    told = json.loads(bytes(payload))
    if not isinstance(told, dict):
        raise TypeError(type(told))
    return told


def _finite(number: object) -> float:
    if not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
        raise ValueError(number)
    return float(number)


def _as_opened(told: dict[str, Any]) -> Opened:
    declared = told["declared_seconds"]
    return Opened(
        int(told["track"]),
        int(told["tracks"]),
        None if declared is None else _finite(declared),
        tuple(None if name is None else str(name)[:_MOST_LETTERS] for name in told["languages"]),
    )


def _report(told: dict[str, Any]) -> DecodeReport:
    declared = told["declared_seconds"]
    return DecodeReport(
        _finite(told["decoded_seconds"]),
        None if declared is None else _finite(declared),
        int(told["damaged_packets"]),
        bool(told["cut_short"]),
        tuple((_finite(start), _finite(end)) for start, end in told["holes"]),
        int(told["parts_left_out"]),
    )


def _write(pipe: int, kind: bytes, channels: int, *payload: bytes | memoryview) -> None:
    header = _HEADER.pack(kind, channels, sum(len(piece) for piece in payload))
    data = [memoryview(header), *(memoryview(piece) for piece in payload)]
    while data:
        count = os.writev(pipe, data[:_MOST_PIECES])
        while data and count >= len(data[0]):
            count -= len(data.pop(0))
        if data:
            data[0] = data[0][count:]


class _Child:
    """The process's own end: opens, decodes and closes as it is told."""

    def __init__(self) -> None:
        # What libraries print must not get between the messages.
        requests, self._replies = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        self._requests: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._met_damage = False
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()

    def _listen(self, pipe: int) -> None:
        """Take requests while a file is decoded; their end is the end of the program."""
        with os.fdopen(pipe, "rb") as requests:
            while len(header := requests.read(_HEADER.size)) == _HEADER.size:
                kind, _, size = _HEADER.unpack(header)
                if kind == _CLOSE:
                    self._stop.set()
                self._requests.put((kind, requests.read(size)))
        os._exit(0)

    def run(self) -> NoReturn:
        """Serve one file after the other."""
        try:
            import av
        except ImportError:
            self._tell(
                _FAULT, {"text": "Media files are read by PyAV, which is not installed: pip install av"}
            )
            sys.exit(1)
        av.logging.set_level(av.logging.PANIC)
        _limit()
        codec = ".".join(str(part) for part in av.library_versions["libavcodec"])
        self._tell(_HELLO, {"versions": f"PyAV {av.__version__} with FFmpeg's libavcodec {codec}"})
        while True:
            kind, payload = self._requests.get()
            if kind == _OPEN:
                self._serve(json.loads(payload))
            while kind != _CLOSE:
                kind, payload = self._requests.get()
            self._stop.clear()
            self._tell(_CLOSED, {"met_damage": self._met_damage})

    def _serve(self, request: dict[str, Any]) -> None:
        path = Path(os.fsdecode(bytes.fromhex(request["path"])))
        self._met_damage = True
        try:
            self._begin_clock(path)
            decoder = TrackDecoder(path, request["track"], request["mixed"])
            try:
                opened = Opened(decoder.track, decoder.tracks, decoder.declared_seconds, decoder.languages)
                self._tell(_OPENED, asdict(opened))
                following = self._requests.get()
                if following[0] == _READ:
                    self._read(decoder)
                else:
                    self._requests.put(following)
                self._met_damage = decoder.report.damaged_packets > 0
            finally:
                decoder.close()
        except AudioError as error:
            self._fail(str(error))
        except MemoryError:
            self._fail(
                f"{path.name} needs more than {MEMORY_BYTES >> 30} GB of memory to decode: it is damaged. "
                "Convert it to mp3 or wav with another program."
            )
        except Exception as error:
            # PyAV and FFmpeg fail on damaged files in more ways than they document.
            self._fail(
                f"{path.name} cannot be decoded ({type(error).__name__}); "
                "convert it to mp3 or wav with another program."
            )

    def _read(self, decoder: TrackDecoder) -> None:
        samples = 0
        for blocks in _gathered(decoder.blocks()):
            channels = 0 if blocks[0].ndim == 1 else len(blocks[0])
            _write(self._replies, _SAMPLES, channels, *_as_bytes(blocks))
            samples += sum(block.shape[-1] for block in blocks)
            if self._stop.is_set():
                return
            if samples > MOST_SECONDS * SAMPLE_RATE:
                raise AudioError(_too_much(decoder.path))
            self._allow_time(samples / SAMPLE_RATE)
        self._tell(_END, asdict(decoder.report))

    def _begin_clock(self, path: Path) -> None:
        size = path.stat().st_size
        self._time_until_sound = time.process_time() + CPU_SECONDS + size / BYTES_PER_CPU_SECOND
        self._allow_time(0.0)

    def _allow_time(self, seconds: float) -> None:
        """Move the limit of processor time, where the kernel ends the process, to what audio allows."""
        until = math.ceil(self._time_until_sound + CPU_PER_SECOND * seconds)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (_at_most(until, hard), hard))

    def _fail(self, text: str) -> None:
        self._tell(_FAULT, {"text": text})

    def _tell(self, kind: bytes, told: dict[str, Any]) -> None:
        _write(self._replies, kind, 0, json.dumps(told).encode())


def _gathered(blocks: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Blocks that are sent as one: of one to two seconds where the number of channels does not change."""
    kept: list[np.ndarray] = []
    samples = 0
    for block in blocks:
        for start in range(0, block.shape[-1], _BLOCK):
            piece = block[..., start : start + _BLOCK]
            if kept and kept[0].shape[:-1] != piece.shape[:-1]:
                yield kept
                kept, samples = [], 0
            kept.append(piece)
            samples += piece.shape[-1]
            if samples >= _BLOCK:
                yield kept
                kept, samples = [], 0
    if kept:
        yield kept


def _as_bytes(blocks: list[np.ndarray]) -> list[memoryview]:
    """The memory of blocks behind each other; that of several channels is copied to one block."""
    if blocks[0].ndim > 1:
        blocks = [np.concatenate(blocks, axis=-1)]
    return [np.ascontiguousarray(block).data.cast("B") for block in blocks]


def _limit() -> None:
    """Give up what decoding does not need."""
    for kind, most in (
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MOST_OPEN_FILES),
    ):
        _, hard = resource.getrlimit(kind)
        limit = _at_most(most, hard)
        resource.setrlimit(kind, (limit, limit))


def _at_most(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def serve() -> NoReturn:
    """Decode what the program at the other end of standard input and output asks for."""
    # Ctrl+C reaches every process of a terminal; the program itself decides what it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Child().run()
