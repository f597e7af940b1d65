"""Several servers of one model: the load is spread, one that fails is left out and comes back, nothing is
answered twice."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from agent.engines import model_pool
from agent.engines.engine_choice import addresses, choose
from agent.engines.model_pool import ModelPool
from agent.settings import Settings
from index.recording_errors import MossAgentError
from moss_audio.errors import MossAudioError, ServerError
from moss_audio.generation.requests import Options, Reply, Request, TextDelta
from moss_audio.served import ServedBackend
from tests.servers import free_port

OPTIONS = Options(max_new_tokens=64)
SOUND = np.zeros(16_000, dtype=np.float32)


class Talker:
    """A small server of a model, which counts, and can fail, hold its answers back, go away and come back.

    Attributes:
        chats: Chat requests that came.
        fails: Status with which it refuses them; 0 answers.
        breaks_off: Whether it goes away in the middle of an answer.
        gate: Nothing is answered before it is set.
    """

    def __init__(self, model: str = "moss", context: int = 8192) -> None:
        self.model, self.context = model, context
        self.chats = self.now = self.most = 0
        self.fails = 0
        self.breaks_off = False
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        talker = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                entry = {"id": talker.model, "owned_by": "vllm", "max_model_len": talker.context}
                self._send(200, "application/json", json.dumps({"data": [entry]}).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with talker._lock:
                    talker.chats += 1
                    talker.now += 1
                    talker.most = max(talker.most, talker.now)
                talker.came.release()
                talker.gate.wait(20)
                try:
                    if talker.fails:
                        self._send(talker.fails, "application/json", b'{"error": {"message": "no"}}')
                    else:
                        self._answer()
                finally:
                    with talker._lock:
                        talker.now -= 1

            def _answer(self) -> None:
                words = [{"content": "Hello "}, {"content": "there."}]
                parts = [{"choices": [{"index": 0, "delta": delta}]} for delta in words]
                parts.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                if talker.breaks_off:
                    parts = parts[:1]
                body = b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)
                if talker.breaks_off:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Content-Length", "100000")
                    self.end_headers()
                    self.wfile.write(body)
                else:
                    self._send(200, "text/event-stream", body + b"data: [DONE]\n\n")

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(model_pool, "time", clock)
    return clock


@pytest.fixture
def talkers() -> Iterator[Callable[..., list[Talker]]]:
    started: list[Talker] = []

    def start(count: int, **given: Any) -> list[Talker]:
        started.extend(Talker(**given) for _ in range(count))
        return started[-count:]

    yield start
    for talker in started:
        talker.stop()


@pytest.fixture
def pool_of() -> Iterator[Callable[..., ModelPool]]:
    opened: list[ModelPool] = []

    def make(*talkers: Talker) -> ModelPool:
        pool = ModelPool(
            [talker.url for talker in talkers],
            lambda url, model: ServedBackend(url, model, retries=0, timeout=20),
        )
        opened.append(pool)
        return pool

    yield make
    for pool in opened:
        pool.close()


def answer(pool: ModelPool) -> Reply | MossAudioError:
    (reply,) = pool.ask([Request("Hello.")], OPTIONS)
    return reply


def test_the_server_with_the_fewest_requests_gets_the_next(talkers, pool_of):
    one, two, three = talkers(3)
    pool = pool_of(one, two, three)
    for talker in (one, two, three):
        talker.gate.clear()
    asking = threading.Thread(target=pool.ask, args=([Request("Hello.")] * 9, OPTIONS))
    asking.start()
    for talker in (one, two, three):
        for _ in range(3):
            assert talker.came.acquire(timeout=10)
    assert [talker.now for talker in (one, two, three)] == [3, 3, 3]
    two.gate.set()
    for _ in range(100):
        if pool.members[1].running == 0:
            break
        threading.Event().wait(0.02)
    assert isinstance(answer(pool), Reply) and two.chats == 4
    one.gate.set()
    three.gate.set()
    asking.join(10)
    assert [member.running for member in pool.members] == [0, 0, 0]


def test_requests_of_one_person_go_round(talkers, pool_of):
    one, two = talkers(2)
    pool = pool_of(one, two)
    for _ in range(6):
        assert isinstance(answer(pool), Reply)
    assert (one.chats, two.chats) == (3, 3)


@pytest.mark.parametrize("trouble", ["gone", 500, 503, 429, 401])
def test_what_one_refuses_another_answers_and_the_one_is_left_out_for_longer_each_time(
    talkers, pool_of, clock, trouble
):
    one, two = talkers(2)
    pool = pool_of(one, two)
    pool.check()
    if trouble == "gone":
        one.stop()
    else:
        one.fails = trouble
    for _ in range(4):
        assert isinstance(answer(pool), Reply)
    assert two.chats == 4 and pool.members[0].problem and one.chats == (0 if trouble == "gone" else 1)
    pauses = []
    for _ in range(8):
        before = clock.now
        clock.now = pool.members[0].out_until
        pauses.append(round(clock.now - before))
        assert isinstance(answer(pool), Reply) and pool.members[0].out_until > clock.now
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    one.fails = 0
    if trouble == "gone":
        one.start()
    clock.now = pool.members[0].out_until
    before = one.chats
    for _ in range(4):
        assert isinstance(answer(pool), Reply)
    assert one.chats == before + 2 and not pool.problems()


def test_one_that_comes_back_is_tried_with_a_single_request(talkers, pool_of, clock):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.fails = 500
    answer(pool)
    clock.now = pool.members[0].out_until
    one.fails, before = 0, one.chats
    one.gate.clear()
    asking = threading.Thread(target=pool.ask, args=([Request("Hello.")] * 6, OPTIONS))
    asking.start()
    while one.chats == before:
        threading.Event().wait(0.01)
    for _ in range(5):
        assert two.came.acquire(timeout=10)
    assert one.chats == before + 1
    one.gate.set()
    asking.join(10)


def test_an_answer_that_was_begun_to_be_shown_is_not_asked_for_again(talkers, pool_of):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.breaks_off = two.breaks_off = True
    shown = []
    with pytest.raises(ServerError) as raised:
        for event in pool.chat([{"role": "user", "content": "Hello."}], None, OPTIONS):
            shown.append(event)
    assert raised.value.trouble == "broken"
    assert [event.text for event in shown if isinstance(event, TextDelta)] == ["Hello"]
    assert one.chats + two.chats == 1


def test_a_stream_that_was_not_begun_goes_to_another(talkers, pool_of):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.fails = 500
    events = list(pool.stream(Request("Hello."), OPTIONS))
    assert isinstance(events[-1], Reply) and events[-1].text == "Hello there."
    assert (one.chats, two.chats) == (1, 1)


def test_what_is_wrong_with_a_request_is_not_tried_elsewhere(talkers, pool_of):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.fails = two.fails = 400
    error = answer(pool)
    assert isinstance(error, ServerError) and error.trouble == "refused"
    assert one.chats + two.chats == 1 and not pool.problems()


def test_all_that_are_away_are_tried_some_times_and_named(talkers, pool_of, clock):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.stop()
    two.stop()
    error = answer(pool)
    assert isinstance(error, ServerError) and error.trouble == "unreachable"
    assert pool.members[0].host in str(error) and pool.members[1].host in str(error)
    assert pool.reached is False
    with pytest.raises(ServerError):
        pool.check()
    two.start()
    assert isinstance(answer(pool), Reply) and pool.reached is True


def test_someone_who_stops_waits_for_no_further_try(talkers, pool_of, clock):
    one, two = talkers(2)
    pool = pool_of(one, two)
    one.fails = two.fails = 503
    stop = threading.Event()
    stop.set()
    began = clock.now
    (reply,) = pool.ask([Request("Hello.")], OPTIONS, stop)
    assert clock.now == began
    assert not isinstance(reply, Reply) or reply.stopped == "cancelled"


def test_sound_goes_to_those_that_hear(talkers, pool_of, monkeypatch):
    one, two = talkers(2)
    pool = pool_of(one, two)
    pool.members[0].backend._deaf = True
    for _ in range(3):
        (reply,) = pool.ask([Request("What is it?", [SOUND])], OPTIONS)
        assert isinstance(reply, Reply)
    assert (one.chats, two.chats) == (0, 3) and pool.hears
    pool.members[1].backend._deaf = True
    assert not pool.hears


def test_checking_tells_the_least_context_and_leaves_out_what_serves_another_model(talkers, pool_of):
    (one,), (two,), (other,) = talkers(1), talkers(1, context=4096), talkers(1, model="another")
    pool = pool_of(one, two, other)
    served = pool.check()
    assert (served.model, served.context) == ("moss", 4096)
    (problem,) = pool.problems()
    assert "another" in problem and pool.members[2].host in problem
    for _ in range(4):
        assert isinstance(answer(pool), Reply)
    assert other.chats == 0


def test_one_that_accepts_and_says_nothing_holds_nobody_up(talkers, pool_of, monkeypatch):
    monkeypatch.setattr(model_pool, "CONTACT_SECONDS", 0.2)
    (one,) = talkers(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        pool = ModelPool([url, one.url], lambda url, model: ServedBackend(url, model, retries=0, timeout=20))
        assert pool.check().model == "moss"
        assert [member.failures for member in pool.members] == [1, 0]
        assert isinstance(answer(pool), Reply)
        pool.close()


def test_settings_name_several_servers(talkers, tmp_path):
    one, two = talkers(2)
    assert addresses(f"{one.url}, {two.url} {one.url}") == [one.url, two.url]
    assert addresses("auto") == addresses("/models/my, own") == []
    two.stop()
    engines = choose(Settings(home=tmp_path, model=f"{one.url},{two.url}"))
    assert isinstance(engines.backend, ModelPool)
    for talker in (one, two):
        assert talker.url.split("/")[2] in (engines.elsewhere or "")
    assert two.url.split("/")[2] in engines.why
    reply = engines.chat_model.invoke("Hello.")
    assert reply.text == "Hello there."
    engines.close()
    with pytest.raises(MossAgentError, match="moss-8b"):
        choose(Settings(home=tmp_path, model=f"{one.url}, moss-8b"))
