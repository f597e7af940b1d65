"""Which engines are chosen, and that a model on its way holds nobody up."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.cli.doctor import Check, examine
from agent.engines.engine_choice import choose
from agent.engines.loading import LoadingBackend, StillLoading
from agent.engines.released_models import CACHE_BYTES, GB, NAMES, Machine, memory_needed
from agent.extractive.extractive_chat import ExtractiveChatModel
from agent.models.moss_chat import ChatMossAudio
from agent.settings import Settings
from agent.workspace import Workspace
from index.audio.decode import decode_to_flac
from index.audio.windows import AudioWindow
from index.recording_errors import Cancelled, MossAgentError
from index.records import Span
from index.transcription.moss_transcriber import MossTranscriber
from index.transcription.whisper import WhisperTranscriber
from moss_audio.backend import Backend, BackendListener
from moss_audio.errors import CheckpointError, MossAudioError
from moss_audio.generation.requests import Options, Request
from moss_audio.served import ServedBackend
from moss_audio.tasks import TASKS
from tests.fixture import lessons
from tests.fixture.clips import CHIME, CLIPS, Part, plain, script
from tests.support.api_serving import serving
from tests.support.conversing import HARBOUR, Desk, use
from tests.support.moss_backend import RuleBackend
from tests.support.tiny_moss import chain, letters, random_checkpoint, writing_checkpoint
from tests.support.waiting import wait_until
from tools import Toolbox
from web.page.library_view import render_engines

PLENTY = 90 * GB


def machine(tmp_path: Path, gpu: str | None = None, gpu_bytes: int = PLENTY) -> Machine:
    return Machine(gpu, gpu_bytes if gpu else 0, PLENTY, PLENTY, tmp_path / "hub")


def in_cache(cache: Path, name: str) -> Path:
    """A small checkpoint in the hub's cache, as a download leaves it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    (folder / "config.json").write_text('{"model_type": "moss_audio"}')
    header = json.dumps({"t": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    return folder


# --- auto -------------------------------------------------------------------------------------------


def test_with_nothing_here_the_embedded_default_is_chosen_and_says_how_to_get_more(
    home: Path, tmp_path: Path
) -> None:
    engines = choose(Settings(home=home), machine(tmp_path, "H100"))
    assert engines.backend is None and engines.listener is None and engines.elsewhere is None
    assert isinstance(engines.transcriber, WhisperTranscriber)
    assert isinstance(engines.chat_model, ExtractiveChatModel)
    assert (engines.hears, engines.thinks_with) == ("whisper-base", "quotes chosen by rule")
    assert "moss-agent models" in engines.more and "MOSS_AGENT_MODEL" in engines.more


def test_a_gpu_with_weights_is_used_and_nothing_is_loaded_by_choosing(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "H100")
    in_cache(here.cache, NAMES[3])
    in_cache(here.cache, NAMES[0])
    engines = choose(Settings(home=home), here)
    assert isinstance(engines.backend, LoadingBackend)
    assert (engines.backend.source, engines.backend.state) == (NAMES[0], "waiting")
    assert engines.backend.thinks
    assert isinstance(engines.transcriber, MossTranscriber)
    assert isinstance(engines.listener, BackendListener)
    assert isinstance(engines.chat_model, ChatMossAudio)
    assert engines.sounds is not None and engines.speakers is not None
    assert engines.hears == engines.thinks_with == "MOSS-Audio-8B-Thinking"
    assert "fits the H100" in engines.why


def test_the_largest_that_fits_is_taken(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "RTX 4090", 16 * GB)
    for name in NAMES:
        in_cache(here.cache, name)
    engines = choose(Settings(home=home), here)
    assert isinstance(engines.backend, LoadingBackend)
    assert engines.backend.source == "OpenMOSS-Team/MOSS-Audio-4B-Thinking"


@pytest.mark.parametrize(("gpu", "says"), [(None, "without a GPU"), ("GTX 1050", "2.0 GB")])
def test_weights_without_a_gpu_that_holds_them_are_not_chosen_unasked(
    home: Path, tmp_path: Path, gpu: str | None, says: str
) -> None:
    here = machine(tmp_path, gpu, 2 * GB)
    in_cache(here.cache, NAMES[0])
    engines = choose(Settings(home=home), here)
    assert engines.backend is None
    assert says in engines.why


def test_an_unfinished_download_is_no_checkpoint(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "H100")
    (in_cache(here.cache, NAMES[0]) / "model.safetensors").unlink()
    assert choose(Settings(home=home), here).backend is None


def test_a_checkpoint_in_the_home_folder_goes_before_those_of_the_hub(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "H100")
    in_cache(here.cache, NAMES[0])
    own = random_checkpoint(home / "models", "my-moss")
    (home / "models" / "whisper").mkdir()
    engines = choose(Settings(home=home), here)
    assert isinstance(engines.backend, LoadingBackend)
    assert engines.backend.source == str(own)


def own(home: Path, name: str, numbers: int, thinking: bool | None = None, width: int = 2) -> Path:
    """A checkpoint of one's own, of so many numbers of so many bytes, which nobody loads."""
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "moss_audio"}')
    if thinking is not None:
        (folder / "generation_config.json").write_text(json.dumps({"thinking": thinking}))
    dtype = {2: "BF16", 4: "F32"}[width]
    entry = {"dtype": dtype, "shape": [numbers // 10, 10], "data_offsets": [0, width * numbers]}
    header = json.dumps({"t": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + width * numbers)
    return folder


@pytest.mark.parametrize(
    ("gpu_bytes", "chosen"),
    [(PLENTY, "c-large-Thinking"), (memory_needed(2_000_000, 2), "d-small")],
)
def test_of_ones_own_checkpoints_the_largest_that_fits_is_taken_a_thinking_one_first(
    home: Path, tmp_path: Path, gpu_bytes: int, chosen: str
) -> None:
    for name in ("a-small", "b-large-Instruct", "c-large-Thinking"):
        own(home, name, 2_000_000 if "large" in name else 1_000_000)
    own(home, "d-small", 1_000_000, thinking=True)
    (own(home, "e-unfinished", 9_000_000) / "model.safetensors").write_bytes(b"\0" * 9)
    engines = choose(Settings(home=home), machine(tmp_path, "H100", gpu_bytes))
    assert isinstance(engines.backend, LoadingBackend)
    assert engines.backend.source == str(home / "models" / chosen)


def test_a_checkpoint_stored_in_float32_is_no_larger_than_its_numbers(home: Path, tmp_path: Path) -> None:
    own(home, "small", 1_100_000, width=4)
    large = own(home, "z-large", 2_000_000)
    engines = choose(Settings(home=home), machine(tmp_path, "H100"))
    assert isinstance(engines.backend, LoadingBackend)
    assert engines.backend.source == str(large)


def test_a_recogniser_that_was_asked_for_by_name_hears(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "H100")
    in_cache(here.cache, NAMES[0])
    engines = choose(Settings(home=home, transcriber="tiny.en", sounds="off"), here)
    assert isinstance(engines.transcriber, WhisperTranscriber)
    assert engines.hears == "whisper-tiny.en (MOSS_AGENT_TRANSCRIBER)"
    assert engines.thinks_with == "MOSS-Audio-8B-Thinking"
    assert engines.sounds is None


@pytest.mark.parametrize(
    ("gpu", "choice", "asked"),
    [("H100", "auto", True), ("H100", "off", False), (None, "auto", False), (None, "on", True)],
)
def test_the_model_is_asked_who_speaks_where_it_is_fast_or_where_that_is_wished(
    home: Path, tmp_path: Path, gpu: str | None, choice: str, asked: bool
) -> None:
    own = random_checkpoint(tmp_path, "my-moss")
    wanted = Settings(home=home, model=str(own), speaker_labels=choice, sounds="off")
    engines = choose(wanted, machine(tmp_path, gpu))
    assert (engines.speakers is not None) is asked
    assert engines.sounds is None


def test_the_memory_needed_is_that_of_weights_and_ten_minutes_of_audio() -> None:
    tokens = 14 * 600 + 4096
    assert CACHE_BYTES == 147_456
    assert memory_needed(18_111_010_792, 2) == 18_111_010_792 + tokens * CACHE_BYTES + GB // 2
    assert memory_needed(18_111_010_792, 4) == 2 * (18_111_010_792 + tokens * CACHE_BYTES) + GB // 2


# --- a checkpoint by name ---------------------------------------------------------------------------


def test_a_folder_that_is_named_is_loaded_when_it_is_asked(home: Path, tmp_path: Path) -> None:
    folder = writing_checkpoint(tmp_path, chain(*letters("So it.")))
    workspace = Workspace(Settings(home=home, model=str(folder)))
    try:
        engines = workspace.engines
        assert engines.elsewhere is None and "MOSS_AGENT_MODEL" in engines.why
        assert isinstance(engines.backend, LoadingBackend)
        assert engines.backend.state == "waiting"
        answer = workspace.assistant.ask("Is it so?")
        assert (answer.text.partition("\n")[0], answer.model) == ("So it [?].", folder.name)
        assert engines.backend.state == "ready"
        assert engines.backend.context_tokens
        assert engines.progress == ""
    finally:
        workspace.close()


def test_a_name_that_leads_nowhere_is_said_and_questions_are_answered(home: Path) -> None:
    workspace = Workspace(Settings(home=home, model="nobody/nothing"))
    try:
        answer = workspace.assistant.ask("hello")
        assert answer.text.startswith("nothing could not answer this (nobody/nothing")
        assert answer.model == "extractive"
        assert workspace.engines.failed
        checks = {check.name: check for check in examine(workspace)}
        assert not checks["model"].ok and "nobody/nothing" in checks["model"].detail
    finally:
        workspace.close()


# --- a server ---------------------------------------------------------------------------------------


def settings_for(home: Path, url: str, **more: Any) -> Settings:
    return Settings(home=home, model=f"{url}/v1", **more)


def test_a_server_hears_listens_and_thinks(home: Path, tmp_path: Path) -> None:
    backend = RuleBackend(lambda _: "A bell.", lambda *_: "So it is.")
    with serving(backend, key="s3cret") as served:
        settings = settings_for(home, served.url, api_key="s3cret")
        workspace = Workspace(settings)
        try:
            engines = workspace.engines
            host = served.url.removeprefix("http://")
            assert isinstance(engines.backend, ServedBackend)
            assert isinstance(engines.transcriber, MossTranscriber)
            assert engines.elsewhere == host
            assert engines.hears == engines.thinks_with == f"RuleMoss-1B at {host}"
            assert engines.listener is not None
            assert engines.listener.listen(np.zeros(16_000, np.float32), "What is it?") == "A bell."
            assert workspace.assistant.ask("Is it so?").text.startswith("So it is [?].")
            assert "s3cret" not in repr(settings)
        finally:
            workspace.close()


def test_a_server_that_does_not_hear_thinks_and_whisper_hears(home: Path) -> None:
    backend = RuleBackend(lambda _: "Hm.", lambda *_: "So it is.")
    backend.hears = False
    with serving(backend) as served:
        workspace = Workspace(settings_for(home, served.url))
        try:
            engines = workspace.engines
            assert isinstance(workspace.transcriber, WhisperTranscriber)
            assert engines.hears == "whisper-base on this machine"
            assert engines.listener is None and engines.sounds is None
            assert workspace.assistant.ask("Is it so?").text.startswith("So it is [?].")
            assert "no audio" in engines.why
            checks = {check.name: check for check in examine(workspace)}
            assert (
                checks["model"].ok
                and "questions, with what was said, are sent there" in checks["model"].detail
            )
            assert not checks["sounds, music, tone of voice"].ok
        finally:
            workspace.close()


@pytest.mark.slow
def test_a_server_that_is_down_is_said_and_questions_are_answered(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        workspace = Workspace(settings_for(home, url))
        try:
            assert "did not say which model" in workspace.engines.why
            answer = workspace.assistant.ask("hello")
            assert answer.model == "extractive"
            assert "could not answer this" in answer.text
            checks = {check.name: check for check in examine(workspace)}
            assert not checks["model"].ok
        finally:
            workspace.close()


@pytest.mark.parametrize("url", ["http://", "https://user:pass@host/v1", "http://host:port"])
def test_an_address_that_is_none_is_one_sentence(home: Path, url: str) -> None:
    workspace = Workspace(Settings(home=home, model=url))
    with pytest.raises(MossAgentError, match=r"^MOSS_AGENT_MODEL: ") as caught:
        _ = workspace.engines
    assert "pass" not in str(caught.value)
    assert workspace.engines_problem == str(caught.value)
    assert "MOSS_AGENT_MODEL" in render_engines(workspace.engines_chosen, workspace.engines_problem)
    workspace.close()


# --- loading ----------------------------------------------------------------------------------------


class Slow:
    """Loads when it is let; tells of a download."""

    def __init__(self, outcome: Backend | Exception) -> None:
        self.outcome, self.go, self.begun, self.times = outcome, threading.Event(), threading.Event(), 0

    def __call__(self, progress: Callable[[int, int], None] | None) -> Backend:
        self.times += 1
        if progress:
            progress(4_200_000_000, 18_100_000_000)
        self.begun.set()
        assert self.go.wait(20)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def slow() -> Iterator[tuple[Slow, LoadingBackend]]:
    load = Slow(RuleBackend(lambda _: "A bell.", lambda *_: "Yes."))
    yield load, LoadingBackend("owner/MOSS-Audio-8B-Thinking", load)
    load.go.set()


def test_while_it_loads_in_the_background_people_are_told_and_work_waits(
    slow: tuple[Slow, LoadingBackend],
) -> None:
    load, backend = slow
    assert (backend.state, backend.progress) == ("waiting", "")
    backend.start()
    backend.start()
    assert load.begun.wait(20)
    assert backend.progress == "being downloaded, 4.2 of 18.1 GB"
    with pytest.raises(StillLoading, match="still being downloaded"):
        list(backend.chat([], None, Options()))
    answer = ChatMossAudio(backend=backend).invoke("hello")
    assert "MOSS-Audio-8B-Thinking could not answer" in answer.text
    assert "still being downloaded, 4.2 of 18.1 GB" in answer.text
    replies: list[Any] = []
    waiting = threading.Thread(target=lambda: replies.extend(backend.ask([Request("What?")], Options())))
    waiting.start()
    load.go.set()
    waiting.join(20)
    assert [reply.text for reply in replies] == ["A bell."]
    assert (backend.state, backend.progress, load.times) == ("ready", "", 1)
    assert ChatMossAudio(backend=backend).invoke("Is it?").text == "Yes."
    assert not backend.thinks or backend.name == "MOSS-Audio-8B-Thinking"


def test_who_asks_first_waits_for_it(slow: tuple[Slow, LoadingBackend]) -> None:
    load, backend = slow
    load.go.set()
    assert ChatMossAudio(backend=backend).invoke("Is it?").text == "Yes."


def test_waiting_can_be_stopped(slow: tuple[Slow, LoadingBackend]) -> None:
    _, backend = slow
    backend.start()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(MossAudioError, match=r"(?i)stopped"):
        backend.ask([Request("What?")], Options(), stop)
    assert time.monotonic() - began < 15


def test_who_asks_first_can_stop_waiting_too_and_the_loading_goes_on(
    slow: tuple[Slow, LoadingBackend],
) -> None:
    load, backend = slow
    stop = threading.Event()
    went: list[BaseException] = []

    def ask() -> None:
        try:
            MossTranscriber(backend).prepare(stop)
        except BaseException as error:
            went.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert load.begun.wait(20)
    stop.set()
    asking.join(20)
    assert not asking.is_alive() and isinstance(went[0], Cancelled), "it waited for the load"
    load.go.set()
    assert ChatMossAudio(backend=backend).invoke("Is it?").text == "Yes."
    assert load.times == 1


def test_as_many_windows_are_in_work_as_the_loaded_engine_wants_and_not_as_was_guessed(
    slow: tuple[Slow, LoadingBackend],
) -> None:
    load, backend = slow
    two, most, lock = threading.Barrier(2, timeout=20), [0, 0], threading.Lock()

    def answer(_: Request) -> str:
        with lock:
            most[0] += 1
            most[1] = max(most)
        two.wait()
        with lock:
            most[0] -= 1
        return "[0.10]Yes.[0.90]"

    inner = RuleBackend(answer)
    inner.at_once = 2
    load.outcome = inner
    load.go.set()
    transcriber = MossTranscriber(backend)
    assert transcriber.windows_at_once > 2, "nothing is loaded yet"
    window = AudioWindow(np.ones(16_000, np.float32), 0.0, (Span(0.0, 1.0),))
    threads = [threading.Thread(target=transcriber.transcribe, args=(window,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [0, 2] and transcriber.windows_at_once == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CheckpointError("The weights are damaged; download them again."), "The weights are damaged"),
        (RuntimeError("cublas"), "could not be loaded \\(RuntimeError: cublas\\)"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence_and_tried_again_by_work(error: Exception, says: str) -> None:
    load = Slow(error)
    load.go.set()
    backend = LoadingBackend("owner/broken", load)
    for _ in range(2):
        with pytest.raises(MossAudioError, match=says):
            backend.ask([Request("What?")], Options())
    assert load.times == 2
    with pytest.raises(MossAudioError, match=says):
        list(backend.chat([], None, Options()))
    assert load.times == 2
    assert re.search(says, backend.progress)


def test_one_that_is_closed_while_it_loads_is_closed_when_it_is_there(
    slow: tuple[Slow, LoadingBackend],
) -> None:
    load, backend = slow
    backend.start()
    assert load.begun.wait(20)
    backend.close()
    load.go.set()
    wait_until(lambda: load.outcome.closed)  # type: ignore[union-attr]


# --- what people are shown --------------------------------------------------------------------------


def test_the_foot_of_the_page_says_what_hears_what_answers_why_and_how_to_get_more(
    home: Path, tmp_path: Path
) -> None:
    shown = render_engines(choose(Settings(home=home), machine(tmp_path)))
    for part in (
        "<b>whisper-base</b>",
        "<b>quotes chosen by rule</b>",
        "no server",
        "MOSS_AGENT_MODEL",
    ):
        assert part in shown
    assert "<code>moss-agent models</code>" in shown
    assert "warn" not in shown


def test_the_foot_shows_how_far_loading_is_and_no_markup_of_others(home: Path, tmp_path: Path) -> None:
    here = machine(tmp_path, "<b>GPU</b>")
    in_cache(here.cache, NAMES[0])
    engines = choose(Settings(home=home), here)
    load = Slow(RuleBackend())
    object.__setattr__(engines, "backend", LoadingBackend(NAMES[0], load))
    engines.start()
    assert load.begun.wait(20)
    shown = render_engines(engines)
    assert '<span class="warn">being downloaded, 4.2 of 18.1 GB</span>' in shown
    assert "&lt;b&gt;GPU&lt;/b&gt;" in shown
    load.go.set()
    assert "Looking" in render_engines(None)


def test_doctor_says_which_engines_and_why(home: Path, tmp_path: Path) -> None:
    folder = writing_checkpoint(tmp_path, chain(*letters("So it.")))
    workspace = Workspace(Settings(home=home, model=str(folder)))
    try:
        checks: dict[str, Check] = {check.name: check for check in examine(workspace)}
        assert all(check.ok for check in checks.values() if check.required)
        assert checks["model"].detail.startswith(f"{folder.name} is loaded. MOSS_AGENT_MODEL")
        assert folder.name in checks["hears"].detail and folder.name in checks["thinks"].detail
        assert checks["sounds, music, tone of voice"].ok
    finally:
        workspace.close()


# --- a model that really hears ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hearing(
    moss_fixture: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """The sample meeting with its audio, and a tiny MOSS-Audio that has learned its opening."""
    home = tmp_path_factory.mktemp("hearing") / "home"
    desk = Desk(home)
    desk.add_harbour()
    desk.close()
    desk.vectors.close()
    workspace = Workspace(Settings(home=home, model=str(moss_fixture)))
    copy = workspace.library.audio_path(HARBOUR)
    copy.parent.mkdir(exist_ok=True)
    decode_to_flac(sample, copy)
    yield workspace
    workspace.close()


def listen_to(workspace: Workspace, run: tuple[int, int], question: str) -> tuple[dict[str, Any], list[Part]]:
    """What the listen tool says about some entries of the script; and those, on the recording's clock."""
    clip, entries = plain(*run), list(script()[run[0] : run[1] + 1])
    begin = entries[0].start - clip.parts[0].start
    toolbox = Toolbox(workspace.library, workspace.search, workspace.engines.listener)
    asked = {"recording": HARBOUR, "start": begin, "end": begin + clip.duration, "question": question}
    return use(toolbox, "listen", **asked).document(), entries


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_hears_answers_about_a_stretch(
    hearing: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny model knows its questions by heart, and answers with seconds, which are left as they are.
    monkeypatch.setattr("tools.listen.ASK_FOR_TIMES", "")
    people, entries = listen_to(hearing, CLIPS["ferry_talk"], lessons.QUESTION)
    assert people["answer"] == lessons.ANSWERS[len({entry.speaker for entry in entries})]
    assert people["evidence"]
    said, entries = listen_to(hearing, CLIPS["ferry_talk"], TASKS["timestamps"].prompt)
    assert all(entry.text in said["answer"] for entry in entries)
    sounds, _ = listen_to(hearing, (CHIME[0], CHIME[-1]), TASKS["events"].prompt)
    assert "chime" in sounds["answer"]


@pytest.mark.slow
def test_what_a_model_says_that_never_learned_to_chat_is_not_shown_as_checked(hearing: Workspace) -> None:
    answer = hearing.assistant.ask("what was said at minute 2?")
    if answer.model == "extractive":
        assert "could not answer" in answer.text and answer.citations
    else:
        # It cites nothing, so every claim is marked, and the mark is explained.
        assert not answer.citations
        assert "[?]" in answer.text and "could not be checked" in answer.text
