"""Transcription over real HTTP with OpenAI's client as it is, by the packaged recogniser and by a rule."""

from __future__ import annotations

import errno
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx2
import numpy as np
import openai
import pysubs2
import pytest
import soundfile

from index.audio.windows import AudioWindow
from index.recording_errors import HearingError
from index.records import Segment, Span, Word
from index.transcription.moss_transcriber import MossTranscriber
from index.transcription.whisper import WhisperTranscriber
from tests.support.api_serving import Served, hears, serving, wav
from tests.support.media import cut, tracks
from tests.support.moss_backend import RuleBackend
from tests.support.waiting import wait_until
from web.api.limiter import Limits
from web.api.transcriptions import FORMATS

ROUTE = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def clip(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's first seconds as ogg."""
    path = tmp_path_factory.mktemp("clip") / "call.ogg"
    audio, rate = cut(sample, 0.0, 12.0)
    soundfile.write(path, audio, rate)
    return path


@pytest.fixture(scope="module")
def half(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's first half minute, as flac."""
    path = tmp_path_factory.mktemp("half") / "half.flac"
    audio, rate = cut(sample, 0.0, 30.0)
    soundfile.write(path, audio, rate)
    return path


class Rule:
    """A ``Transcriber`` that says where it was asked; holds every window until it is let go."""

    name = "rule"
    windows_at_once = 2
    window_speech_seconds = 10.0
    max_window_seconds = 60.0
    max_splits = 0
    times_words = True

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.fails = range(0)
        self.heard: list[float] = []
        self.languages: list[str | None] = []
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def detect_language(self, audio: np.ndarray) -> tuple[str, float] | None:
        return "de", 0.9

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.go.wait(60)
        with self.lock:
            self.inside -= 1
            self.heard.append(window.start)
            self.languages.append(window.language)
        if int(window.start) in self.fails:
            raise HearingError("The engine at http://10.0.0.1 is gone.")
        return [
            Segment(span.start, span.end, f"Words at {span.start:.0f}.", engine="rule", words=said(span))
            for span in window.speech
        ]


@pytest.fixture(scope="module")
def ruled() -> Iterator[Served]:
    with serving(None, Rule()) as running:
        yield running


def said(span: Span) -> tuple[Word, ...]:
    middle = (span.start + span.end) / 2
    last = Word(middle, span.end, f" {span.start:.0f}.", 0.5)
    return Word(span.start, middle, " Words", 0.9), Word(middle, middle, " at", 0.9), last


def write(served: Served, file, **more):
    return served.client().audio.transcriptions.create(model="whisper-1", file=file, **more)


def test_json_is_text_with_what_it_accounts_for(ruled: Served, clip: Path):
    heard = write(ruled, clip)
    assert heard.text.startswith("Words at ")
    assert heard.usage.seconds == 12 and heard.coverage == 1.0 and heard.gaps == []
    assert ruled.client().audio.transcriptions.create(model="rule", file=clip).text == heard.text


def test_the_recogniser_gives_segments_and_words_in_time_order(models: Path, clip: Path):
    both = {"response_format": "verbose_json", "timestamp_granularities": ["segment", "word"]}
    with serving(None, WhisperTranscriber("tiny.en", models, threads=1)) as served:
        client = served.client()
        heard = client.audio.transcriptions.create(
            model="whisper-tiny.en", file=clip, prompt="Ferry", temperature=0.2, **both
        )
    assert "weekly planning call" in heard.text and heard.coverage > 0.97
    assert heard.duration == pytest.approx(12.0, abs=0.01)
    assert " ".join(segment.text for segment in heard.segments) == heard.text
    assert [segment.id for segment in heard.segments] == list(range(len(heard.segments)))
    for before, after in pairwise(heard.segments):
        assert 0 <= before.start < before.end <= after.start < after.end <= 12.0
    assert "".join(word.word for word in heard.words) == heard.text.replace(" ", "")
    # “planning” is said at 3.9 s.
    (word,) = [word for word in heard.words if word.word == "planning"]
    assert 3.0 < word.start < word.end < 5.0
    assert all(-1.0 < segment.avg_logprob <= 0.0 for segment in heard.segments)
    assert "prompt is ignored here." in heard.note and "temperature" in heard.note


def test_times_of_words_are_refused_where_only_sentences_are_timed(clip: Path):
    backend = RuleBackend(hear=lambda _: "[0.10]Good morning.[1.00]")
    with serving(backend, MossTranscriber(backend)) as served:
        for wanted in (["word"], ["segment", "word"]):
            with pytest.raises(openai.BadRequestError, match="segments, not of words") as error:
                write(served, clip, response_format="verbose_json", timestamp_granularities=wanted)
            assert error.value.code == "unsupported_parameter"
            assert error.value.param == "timestamp_granularities"
        assert backend.heard == []
        heard = write(served, clip, response_format="verbose_json", timestamp_granularities=["segment"])
        assert heard.segments and heard.words is None


def test_granularities_choose_what_is_there(ruled: Served, clip: Path):
    plain = write(ruled, clip, response_format="verbose_json")
    assert plain.segments and plain.words is None
    words = write(ruled, clip, response_format="verbose_json", timestamp_granularities=["word"])
    assert words.words and words.segments is None


def test_subtitles_and_text(ruled: Served, clip: Path):
    verbose = write(ruled, clip, response_format="verbose_json")
    for format in ("srt", "vtt"):
        lines = pysubs2.SSAFile.from_string(write(ruled, clip, response_format=format), format_=format)
        assert [line.text for line in lines] == [segment.text for segment in verbose.segments]
        assert lines[0].start == pytest.approx(verbose.segments[0].start * 1000, abs=1)
    assert write(ruled, clip, response_format="text") == verbose.text + "\n"
    raw = ruled.post(
        ROUTE, files={"file": clip.read_bytes()}, data={"model": "whisper-1", "response_format": "vtt"}
    )
    assert raw.headers["content-type"].startswith("text/vtt")
    assert float(raw.headers["x-speech-coverage"]) > 0.97


def test_audio_tracks_that_nobody_heard_are_told_in_every_form(ruled: Served, sample: Path, tmp_path: Path):
    sounds = (cut(sample, start, start + 8)[0] for start in (0, 60))
    dubbed = tracks(tmp_path / "dubbed.mka", *sounds, languages=("eng", "deu"))
    for format in ("json", "verbose_json"):
        heard = write(ruled, dubbed, response_format=format)
        assert "track 2" in heard.note and "track 2" in heard.notes[0] and heard.coverage < 0.6
    for format in FORMATS:
        fields = {"model": "whisper-1", "response_format": format}
        raw = ruled.post(ROUTE, files={"file": ("dubbed.mka", dubbed.read_bytes())}, data=fields)
        assert "track 2" in raw.headers["x-speech-notes"]
        # A text is what was said and nothing else.
        assert ("track 2" in raw.text) == (format != "text")


def test_a_stream_tells_window_by_window(half: Path):
    with serving(None, Rule()) as served:
        events = list(write(served, half, stream=True))
        whole = write(served, half).text
    deltas, done = events[:-1], events[-1]
    assert len(deltas) > 3 and {delta.type for delta in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done" and done.text == whole
    assert "".join(delta.delta for delta in deltas) == whole


def test_a_video_and_its_silence_are_taken_as_they_are(tmp_path: Path):
    with serving(None, Rule()) as served:
        quiet = io.BytesIO()
        soundfile.write(quiet, np.zeros(48_000, np.float32), 16_000, format="FLAC")
        heard = write(served, ("quiet.flac", quiet.getvalue()))
        assert heard.text == "" and heard.note == "No speech was found in this recording."
        assert write(served, ("quiet.flac", quiet.getvalue()), response_format="srt").strip() == ""


def test_the_language_is_detected_or_as_given(sample: Path):
    audio, rate = cut(sample, 0.0, 8.0)
    data = io.BytesIO()
    soundfile.write(data, audio, rate, format="WAV")
    rule = Rule()
    with serving(None, rule) as served:
        assert write(served, ("a.wav", data.getvalue()), response_format="verbose_json").language == "german"
        given = write(served, ("a.wav", data.getvalue()), response_format="verbose_json", language="fr")
        assert given.language == "french"
    assert rule.languages == ["de", "fr"]


def test_several_requests_share_the_recogniser_within_its_bounds(half: Path):
    rule = Rule()
    with serving(None, rule, Limits(transcriptions=3)) as served, ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: write(served, half).text, range(3)))
    assert len(set(texts)) == 1 and texts[0]
    assert rule.most <= rule.windows_at_once


def test_a_client_that_leaves_ends_the_work(half: Path):
    rule = Rule()
    rule.go.clear()
    with serving(None, rule) as served:
        files, data = {"file": half.read_bytes()}, {"model": "whisper-1"}
        request = httpx2.Request("POST", served.url + ROUTE, files=files, data=data)
        with socket.create_connection((request.url.host, request.url.port)) as line:
            headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            line.sendall(f"POST {ROUTE} HTTP/1.1\r\n{headers}\r\n".encode() + request.read())
            wait_until(lambda: rule.inside > 0)
        # Until the server has learnt of it, a window that ends is followed by the next one.
        wait_until(lambda: served.requests() == 0)
        rule.go.set()
        wait_until(lambda: served.service.transcriptions.inside == 0)
        assert len(rule.heard) <= 2


def test_a_full_queue_says_when_to_come_back(sample: Path):
    rule = Rule()
    rule.go.clear()
    with serving(None, rule, Limits(transcriptions=1, waiting=1)) as served, ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(write, served, ("a.mp3", sample.read_bytes()[:60_000])) for _ in range(2)]
        wait_until(lambda: served.service.transcriptions.inside == 2)
        with pytest.raises(openai.RateLimitError):
            write(served, ("a.mp3", sample.read_bytes()))
        rule.go.set()
        assert all(future.result().text for future in inside)


def test_uploads_share_the_disk_up_to_a_bound(half: Path):
    rule = Rule()
    rule.go.clear()
    size = half.stat().st_size
    limits = Limits(disk_bytes=2 * size + 100_000)
    with serving(None, rule, limits) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(write, served, half)
        wait_until(lambda: rule.inside > 0)
        assert served.service.disk.taken > 2 * size
        with pytest.raises(openai.RateLimitError) as error:
            write(served, half)
        assert error.value.code == "queue_full" and "retry-after" in error.value.response.headers
        rule.go.set()
        assert first.result().text and write(served, ("a.wav", wav(1.0))).text == ""
        wait_until(lambda: served.service.disk.taken == 0)


def test_a_full_disk_is_said_and_passes(half: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/moss-agent-x/upload.flac")

    with serving(None, Rule()) as served:
        monkeypatch.setattr("web.api.transcriptions.shutil.copyfileobj", full)
        with pytest.raises(openai.InternalServerError, match="disk is full") as error:
            write(served, half)
        assert error.value.status_code == 503 and "/tmp" not in error.value.message
        assert error.value.response.headers["retry-after"]


def test_what_the_engine_fails_on_is_a_gap_or_an_error_never_silence(half: Path):
    rule = Rule()
    with serving(None, rule) as served:
        rule.fails = range(5, 15)
        part = write(served, half)
        assert part.text and part.coverage < 0.99 and part.gaps and "see gaps" in part.note
        rule.fails = range(1000)
        with pytest.raises(openai.InternalServerError) as error:
            write(served, half)
        assert error.value.status_code == 503 and "10.0.0.1" not in error.value.message


def test_files_that_cannot_be_used_are_refused_with_the_reason(tmp_path: Path):
    with serving(None, Rule(), Limits(upload_seconds=5.0)) as served:
        cases = [
            (415, b"this is no media"),
            (415, b"#EXTM3U\nfile:///etc/passwd\n"),
            (422, b""),
            (413, wav(6.0)),
        ]
        for status, data in cases:
            with pytest.raises(openai.APIStatusError) as error:
                write(served, ("../../etc/passwd.m3u8", data))
            assert error.value.status_code == status
            assert error.value.body["message"].endswith(".") and "/tmp" not in error.value.message
        assert write(served, ("a.wav", wav(4.0))).text == ""


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (404, {"model": "gpt-4o-transcribe"}),
        (400, {"model": ""}),
        (400, {"response_format": "diarized_json"}),
        (400, {"timestamp_granularities[]": "word"}),
        (400, {"response_format": "verbose_json", "timestamp_granularities[]": "syllable"}),
        (400, {"include[]": "logprobs"}),
        (400, {"stream": "true", "response_format": "srt"}),
        (422, {"language": "klingon"}),
        (422, {"temperature": "hot"}),
        (422, {"temperature": "7"}),
    ],
)
def test_what_cannot_be_done_is_refused_not_passed_over(status: int, fields: dict):
    rule = Rule()
    with serving(None, rule) as served:
        found = served.post(ROUTE, files={"file": ("a.wav", wav())}, data={"model": "whisper-1"} | fields)
        assert found.status_code == status and found.json()["error"]["message"].endswith(".")
        assert rule.heard == [] and served.service.transcriptions.inside == 0


def test_a_form_that_is_none_is_refused(sample: Path):
    with serving(None, Rule()) as served:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        for content in (b"", b"--x\r\nnonsense", b"--x--\r\n"):
            assert served.post(ROUTE, content=content, headers=kind).status_code == 400
        assert served.post(ROUTE, data={"model": "whisper-1", "file": "text"}, files={}).status_code in (
            400,
            415,
        )
        files = [("file", ("a.wav", wav())), ("file", ("b.wav", wav()))]
        assert served.post(ROUTE, files=files, data={"model": "whisper-1"}).status_code == 400
        assert served.service.transcriptions.inside == 0


def test_nothing_of_a_recording_stays_on_the_disk(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving(None, Rule()) as served:
        write(served, clip)
        with pytest.raises(openai.APIStatusError):
            write(served, ("a.wav", b"no media"))
        wait_until(lambda: list(tmp_path.iterdir()) == [])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_really_hears_answers_by_chat_and_by_transcription(moss_fixture: Path):
    from moss_audio.engine import EngineOptions, LocalBackend
    from moss_audio.tasks import TASKS

    lines = (moss_fixture / "clips" / "clips.jsonl").read_text().splitlines()
    clips = [json.loads(line) for line in lines]
    task = TASKS["timestamps"]
    backend = LocalBackend.load(moss_fixture, device="cpu", options=EngineOptions(cache_bytes=200_000_000))
    with serving(backend, MossTranscriber(backend)) as served, ThreadPoolExecutor(4) as pool:
        client = served.client()
        assert [model.id for model in client.models.list()] == [backend.name]

        def chat(record: dict) -> str:
            message = hears((moss_fixture / "clips" / record["file"]).read_bytes(), task.prompt)
            answer = client.chat.completions.create(model=backend.name, messages=[message], temperature=0)
            found = task.parse(answer.choices[0].message.content, record["segments"][-1]["end"] + 1)
            return " ".join(segment.text for segment in found.value)

        def transcribe(record: dict) -> str:
            file = moss_fixture / "clips" / record["file"]
            return client.audio.transcriptions.create(model=backend.name, file=file).text

        true = [" ".join(segment["text"] for segment in record["segments"]) for record in clips]
        assert list(pool.map(chat, clips)) == true
        assert list(pool.map(transcribe, clips)) == true
