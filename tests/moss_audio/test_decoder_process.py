"""The decoder's own process: what it does with files that crash, hang or flood it, and when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_audio import decoder_process
from moss_audio.audio import SAMPLE_RATE, AudioStream, load_audio
from moss_audio.decoder_process import decoder_versions, give_back, take_process
from moss_audio.errors import AudioError
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]

CHILD = """
import ctypes, time
import numpy as np
from moss_audio import decoder_process, track_decoder
class Strange(track_decoder.TrackDecoder):
    def blocks(self):
        yield np.zeros(16_000, np.float32)
        if "good" in self.path.name:
            return
        {}
decoder_process.TrackDecoder = Strange
decoder_process.CPU_SECONDS = 1.0
decoder_process.serve()
"""
"""A decoder that does something in the middle of a file."""


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Each test starts processes of its own."""
    decoder_process._end_all()
    yield
    decoder_process._end_all()


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Ten minutes: more than fits between two processes."""
    path = tmp_path / "bad talk.wav"
    soundfile.write(path, np.random.default_rng(0).normal(scale=0.1, size=600 * SAMPLE_RATE), SAMPLE_RATE)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.wav"
    soundfile.write(path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    return path


def pid_of(stream: AudioStream) -> int:
    return stream._process.pid


def lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("ctypes.string_at(0)", "crashed"),
        ("import os; os.abort()", "crashed"),
        ("while True: pass", "no end"),
        ("kept = [np.zeros(1 << 22) for _ in range(1000)]", "memory"),
        ("raise ZeroDivisionError", "cannot be decoded"),
        ("import os; os.write(4, b'B' * 1000)", "crashed"),
    ],
    ids=["segfault", "abort", "busy", "memory", "unforeseen", "talks nonsense"],
)
def test_what_goes_wrong_on_a_file_is_one_sentence_and_the_next_file_is_read(
    does: str, words: str, talk: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "_PROGRAM", CHILD.format(does))
    with pytest.raises(AudioError, match=words) as caught:
        load_audio(talk)
    assert "bad talk.wav" in str(caught.value) and "\n" not in str(caught.value)
    assert len(load_audio(good)) == SAMPLE_RATE


def test_a_process_that_sleeps_for_good_is_ended(
    talk: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_process, "_PROGRAM", CHILD.format("time.sleep(600)"))
    monkeypatch.setattr(decoder_process, "QUIET_SECONDS", 1.0)
    with AudioStream(talk) as stream:
        pid = pid_of(stream)
        with pytest.raises(AudioError, match="no end"):
            list(stream.blocks())
        wait_until(lambda: not lives(pid))
    assert len(load_audio(good)) == SAMPLE_RATE


def test_sound_without_end_is_refused(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "while True: yield np.zeros(16_000_000, np.float32)"
    monkeypatch.setattr(decoder_process, "_PROGRAM", CHILD.format(endless))
    monkeypatch.setattr(decoder_process, "MOST_SECONDS", 5_000.0)
    with AudioStream(talk) as stream:
        read = 0
        with pytest.raises(AudioError, match="hours"):
            for block in stream.blocks():
                read += len(block)
        assert read <= 6_000 * SAMPLE_RATE


def test_a_process_that_was_ended_from_outside_costs_one_file(talk: Path, good: Path) -> None:
    with AudioStream(talk) as stream:
        blocks = stream.blocks()
        next(blocks)
        os.kill(pid_of(stream), signal.SIGKILL)
        with pytest.raises(AudioError, match="ended from outside"):
            list(blocks)
    assert len(load_audio(good)) == 3 * SAMPLE_RATE


def test_a_process_that_ended_while_it_was_idle_costs_nothing(good: Path) -> None:
    with AudioStream(good) as stream:
        pid = pid_of(stream)
    os.kill(pid, signal.SIGKILL)
    assert len(load_audio(good)) == 3 * SAMPLE_RATE


def test_one_process_serves_file_after_file_also_when_they_are_left_in_the_middle(
    talk: Path, good: Path
) -> None:
    pids = set()
    for path in (talk, good, talk):
        with AudioStream(path) as stream:
            pids.add(pid_of(stream))
            assert len(next(stream.blocks())) >= SAMPLE_RATE
        assert len(load_audio(path, 1.0, 2.0)) == SAMPLE_RATE
    with AudioStream(talk) as stream:
        pids.add(pid_of(stream))
    del stream
    never_closed = AudioStream(talk)
    pids.add(pid_of(never_closed))
    del never_closed
    with AudioStream(talk) as stream:
        pids.add(pid_of(stream))
    assert len(pids) == 1


def test_a_stream_that_was_closed_or_read_gives_nothing_and_takes_nothing_from_the_next(
    talk: Path, good: Path
) -> None:
    with AudioStream(talk) as stream:
        blocks = stream.blocks()
        next(blocks)
    with AudioStream(good) as other:
        assert pid_of(other) == pid_of(stream)
        assert list(blocks) == [] == list(stream.blocks())
        assert sum(len(block) for block in other.blocks()) == 3 * SAMPLE_RATE
        assert list(other.blocks()) == []
    stream.close()
    assert len(load_audio(good)) == 3 * SAMPLE_RATE


def test_a_process_that_met_damage_is_not_used_again(tmp_path: Path, good: Path) -> None:
    (tmp_path / "text.mp3").write_text("no sound")
    with AudioStream(good) as stream:
        before = pid_of(stream)
    with pytest.raises(AudioError):
        load_audio(tmp_path / "text.mp3")
    with AudioStream(good) as stream:
        assert pid_of(stream) != before
    wait_until(lambda: not lives(before))


def test_when_the_caller_stops_decoding_stops(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    monkeypatch.setattr(decoder_process, "_PROGRAM", CHILD.format("time.sleep(600)"))
    started = time.monotonic()
    with AudioStream(talk, waiting=stop) as stream:
        pid = pid_of(stream)
        with pytest.raises(Stopped):
            list(stream.blocks())
    wait_until(lambda: not lives(pid))
    assert time.monotonic() - started < 20


def test_it_decodes_no_further_ahead_than_the_pipe_holds(talk: Path) -> None:
    with AudioStream(talk) as stream:
        blocks = stream.blocks()
        next(blocks)
        time.sleep(0.5)
        before = processor_seconds(pid_of(stream))
        time.sleep(0.5)
        assert processor_seconds(pid_of(stream)) == before


def test_streams_in_threads_have_a_process_each_and_outlive_the_thread(talk: Path, good: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        lengths = list(pool.map(lambda path: len(load_audio(path)), [talk, good] * 3))
    assert lengths == [600 * SAMPLE_RATE, 3 * SAMPLE_RATE] * 3
    streams: list[AudioStream] = []
    thread = threading.Thread(target=lambda: streams.append(AudioStream(talk)))
    thread.start()
    thread.join()
    with streams[0] as stream, AudioStream(good) as other:
        assert pid_of(stream) != pid_of(other)
        assert sum(len(block) for block in stream.blocks()) == 600 * SAMPLE_RATE
        assert sum(len(block) for block in other.blocks()) == 3 * SAMPLE_RATE


@pytest.mark.parametrize("reads", [False, True], ids=["idle", "in the middle of a file"])
@pytest.mark.parametrize("how", ["kill", "exit"])
def test_it_ends_with_the_program(how: str, reads: bool, talk: Path) -> None:
    program = (
        "import sys, time\n"
        "from moss_audio.audio import AudioStream\n"
        "stream = AudioStream(sys.argv[1])\n"
        "print(stream._process.pid, flush=True)\n"
        f"{'next(stream.blocks())' if reads else 'stream.close()'}\n"
        f"{'time.sleep(600)' if how == 'kill' else ''}\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(talk)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if how == "kill":
        parent.kill()
    assert parent.wait(60) == (-signal.SIGKILL if how == "kill" else 0)
    wait_until(lambda: not lives(pid))
    parent.stdout.close()


def test_a_forked_process_leaves_its_parents_decoder_alone(talk: Path) -> None:
    with AudioStream(talk) as stream:
        blocks = stream.blocks()
        first = next(blocks)
        program_pid = os.fork()
        if program_pid == 0:
            stream.close()
            os._exit(0 if len(load_audio(talk)) == 600 * SAMPLE_RATE else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(program_pid, 0)[1]) == 0
        assert len(first) + sum(len(block) for block in blocks) == 600 * SAMPLE_RATE


def test_it_has_limits_and_none_of_the_programs_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "PyAV" in decoder_versions()
    process = take_process()
    folder = Path(f"/proc/{process.pid}")
    assert b"secret" not in (folder / "environ").read_bytes()
    limits = (folder / "limits").read_text()
    give_back(process)
    for name, value in (
        ("Max data size", decoder_process.MEMORY_BYTES),
        ("Max file size", 0),
        ("Max core file size", 0),
    ):
        (line,) = [line for line in limits.splitlines() if line.startswith(name)]
        assert line[len(name) :].split()[:2] == [str(value)] * 2


def test_all_channels_of_a_track_come_side_by_side(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 3)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    with AudioStream(tmp_path / "a.wav", mixed=False) as stream:
        blocks = list(stream.blocks())
        assert stream.report.decoded_seconds == 4.0
    assert np.array_equal(np.concatenate(blocks, axis=1), sound.T)


def test_where_pyav_is_missing_that_is_said(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        decoder_process, "_PROGRAM", f"import sys; sys.modules['av'] = None\n{decoder_process._PROGRAM}"
    )
    with pytest.raises(AudioError, match="PyAV"):
        load_audio(good)
