"""A server that is away, refuses, fails, hangs or breaks off."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from moss_audio.errors import ServerError
from moss_audio.generation.requests import Options, Reply, Request, TextDelta
from moss_audio.served import ServedBackend, connection
from moss_audio.served.answers import AnswerReader
from tests.support.served_server import Act, document, replaying, said, stream

OPTIONS = Options(max_new_tokens=64)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses before further tries that are short; what a server asks for counts all the same."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("moss_audio.served.served_backend.BACKOFF_SECONDS", 0.01)


SOUND = np.zeros(16_000, dtype=np.float32)


def failure(*acts: Act, audio: bool = False, models: str | Act = "vllm_models.json", **more) -> ServerError:
    with replaying(*acts, models=models) as server:
        backend = ServedBackend(server.url, **{"retries": 0, **more})
        (error,) = backend.ask([Request("Hello.", [SOUND] if audio else [])], OPTIONS)
        backend.close()
    assert isinstance(error, ServerError), error
    assert "127.0.0.1" in str(error), "it does not say where"
    assert "\n" not in str(error)
    return error


def no_server() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_a_server_that_is_not_there_is_named():
    backend = ServedBackend(no_server(), retries=1)
    with pytest.raises(ServerError, match=r"no server at 127\.0\.0\.1:\d+ .*start it") as raised:
        backend.check()
    assert raised.value.trouble == "unreachable"
    (error,) = backend.ask([Request("Hello.")], OPTIONS)
    assert isinstance(error, ServerError) and error.trouble == "unreachable"
    with pytest.raises(ServerError):
        list(backend.stream(Request("Hello."), OPTIONS))
    backend.close()


@pytest.mark.parametrize(
    "url", ["gpu-box:8000", "ftp://gpu-box", "http://", "http://me:secret@gpu-box/v1", ""]
)
def test_an_address_that_is_none_is_refused_at_once(url: str):
    with pytest.raises(ServerError) as raised:
        ServedBackend(url)
    assert raised.value.trouble == "address" and "secret" not in str(raised.value)


def test_addresses_are_taken_as_people_write_them():
    for url in ["http://gpu-box:8000", "http://gpu-box:8000/", "http://gpu-box:8000/v1/chat/completions"]:
        assert ServedBackend(url).address.base == "http://gpu-box:8000/v1"
    assert ServedBackend("https://h.example/api/openai/").address.base == "https://h.example/api/openai"
    assert ServedBackend("http://[::1]:8000/v1").address.base == "http://[::1]:8000/v1"


def test_check_says_which_model_is_served():
    with replaying(models="vllm_models.json") as server:
        backend = ServedBackend(server.url)
        assert backend.name.startswith("127.0.0.1:")
        served = backend.check()
        assert (served.model, served.software) == ("OpenMOSS-Team/MOSS-Audio-8B-Thinking", "vllm")
        assert (served.context, served.others) == (40960, ())
        assert backend.name == "MOSS-Audio-8B-Thinking"
        backend.close()
    with replaying(models="vllm_models_folder.json") as server:
        backend = ServedBackend(server.url, model="MOSS-Audio-4B-Instruct")
        assert backend.check().model == "/models/MOSS-Audio-4B-Instruct/"
        assert backend.name == "MOSS-Audio-4B-Instruct"
        backend.close()


def listing(*names: str) -> Act:
    data = [{"id": name, "owned_by": "someone"} for name in names]
    return Act([json.dumps({"object": "list", "data": data}).encode()], kind="application/json")


def test_the_only_moss_audio_of_several_models_is_meant():
    with replaying(models="vllm_models_several.json") as server:
        backend = ServedBackend(server.url)
        served = backend.check()
        assert (served.name, served.others) == ("MOSS-Audio-8B-Thinking", ("minutes-lora",))
        backend.close()


@pytest.mark.parametrize("wanted", [None, "MOSS-Audio-4B-Instruct"])
def test_a_model_that_is_not_clear_or_not_there_is_told_with_those_that_are(wanted: str | None):
    with replaying(models=listing("qwen", "llama")) as server:
        backend = ServedBackend(server.url, model=wanted)
        with pytest.raises(ServerError, match=r"qwen, llama") as raised:
            backend.check()
        assert raised.value.trouble == "unknown-model"
        backend.close()


def test_a_server_without_a_list_of_models_is_used_with_the_name_given():
    with replaying(stream("vllm_transcript.sse"), models=Act([b"{}"], 404, "application/json")) as server:
        backend = ServedBackend(server.url, model="minutes")
        (reply,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(reply, Reply) and server.chats[0].body["model"] == "minutes"
        backend.close()
        nameless = ServedBackend(server.url)
        with pytest.raises(ServerError, match="/v1") as raised:
            nameless.check()
        assert raised.value.trouble == "address"
        nameless.close()


def test_a_key_that_is_missing_or_wrong_is_told_without_showing_it():
    refused = document("vllm_error_key.json", 401)
    assert "asks for an API key" in str(failure(models=refused))
    error = failure(models=refused, api_key="sk-very-secret")
    assert "not accepted" in str(error) and "secret" not in str(error)
    assert error.trouble == "unauthorised"


@pytest.mark.parametrize(
    ("name", "status", "audio", "trouble", "advice"),
    [
        ("vllm_error_audio_too_long.json", 400, True, "too-long", "--max-num-batched-tokens 8192"),
        ("vllm_error_no_tools.json", 400, False, "refused", "--tool-call-parser hermes"),
        ("vllm_error_no_audio.json", 400, True, "deaf", "MOSS-Audio"),
        ("vllm_error_text_model.json", 400, True, "deaf", "MOSS-Audio"),
        ("vllm_error_context.json", 400, False, "too-long", "--max-model-len"),
        ("sglang_error_context.json", 400, False, "too-long", "--context-length"),
        ("vllm_error_model.json", 404, False, "unknown-model", "does not exist"),
    ],
)
def test_known_refusals_say_what_to_do(name: str, status: int, audio: bool, trouble: str, advice: str):
    error = failure(document(name, status), audio=audio)
    assert error.trouble == trouble and advice in str(error)


def test_a_refusal_for_length_is_told_by_its_code_whatever_its_words():
    words = {"message": "Choose shorter audio.", "code": "context_length_exceeded"}
    refused = Act([json.dumps({"error": words}).encode()], 400, "application/json")
    assert failure(refused, audio=True).trouble == "too-long"


@pytest.mark.parametrize(
    ("name", "left"), [("vllm_error_context.json", 784), ("sglang_error_context.json", 16371)]
)
def test_an_answer_without_a_length_takes_the_room_that_a_refusal_names(name: str, left: int):
    with replaying(document(name, 400), stream("vllm_transcript.sse")) as server:
        backend = ServedBackend(server.url)
        (reply,) = backend.ask([Request("Hello.")], Options(max_new_tokens=20_000, fit=True))
        assert isinstance(reply, Reply)
        assert [chat.body["max_completion_tokens"] for chat in server.chats] == [20_000, left]
        backend.close()
    with replaying(document(name, 400)) as server:
        backend = ServedBackend(server.url)
        (error,) = backend.ask([Request("Hello.")], Options(max_new_tokens=20_000, fit=True))
        assert isinstance(error, ServerError) and error.trouble == "too-long"
        assert len(server.chats) == 2, "asked once more, and no more than that"
        (error,) = backend.ask([Request("Hello.")], Options(max_new_tokens=20_000))
        assert isinstance(error, ServerError) and len(server.chats) == 3
        backend.close()


def test_a_model_that_refuses_audio_does_not_hear_and_still_talks():
    with replaying(document("vllm_error_text_model.json", 400), stream("vllm_transcript.sse")) as server:
        backend = ServedBackend(server.url)
        assert backend.hears
        (error,) = backend.ask([Request("Transcribe.", [SOUND])], OPTIONS)
        assert isinstance(error, ServerError) and not backend.hears
        (reply,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(reply, Reply)
        backend.close()


def counting(audio_tokens: int) -> Act:
    usage = {"prompt_tokens": 20 + audio_tokens, "completion_tokens": 1}
    whole = {"choices": [{"message": {"content": "Yes"}, "finish_reason": "length"}], "usage": usage}
    return Act([json.dumps(whole).encode()], kind="application/json")


@pytest.mark.parametrize(("tokens", "hears"), [(53, True), (3, False)])
def test_a_server_that_drops_audio_without_a_word_is_found_out(tokens: int, hears: bool):
    with replaying() as server:
        server.choose = lambda body: counting(tokens if "audio_url" in json.dumps(body) else 0)
        backend = ServedBackend(server.url)
        backend.check(listen=True)
        assert backend.hears is hears
        backend.close()


def test_refusals_are_not_tried_again():
    for status in (400, 403, 404, 413, 422):
        with replaying(Act([b'{"error": "no"}'], status, "application/json")) as server:
            backend = ServedBackend(server.url, retries=3)
            (error,) = backend.ask([Request("Hello.")], OPTIONS)
            assert isinstance(error, ServerError)
            assert len(server.chats) == 1, status
            backend.close()


def test_what_may_pass_is_tried_again_after_as_long_as_the_server_asks():
    busy = Act([b'{"error": "busy"}'], 429, "application/json", headers={"retry-after": "0.3"})
    down = Act([b"<html>down</html>"], 503, "text/html")
    with replaying(busy, down, stream("vllm_transcript.sse")) as server:
        backend = ServedBackend(server.url)
        began = time.monotonic()
        (reply,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(reply, Reply)
        assert time.monotonic() - began > 0.3
        assert len(server.chats) == 3
        backend.close()


def test_what_does_not_pass_is_reported_after_the_last_try():
    with replaying(Act([b'{"error": "CUDA error"}'], 500, "application/json")) as server:
        backend = ServedBackend(server.url, retries=1)
        (error,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(error, ServerError) and "CUDA error" in str(error) and error.trouble == "failed"
        assert len(server.chats) == 2
        backend.close()
    assert failure(Act([b""], 429)).trouble == "busy"


def cut(name: str, keep: float, **more) -> Act:
    body = said(name)
    return Act([body[: int(len(body) * keep)]], **more)


@pytest.mark.parametrize(
    "broken", [cut("vllm_transcript.sse", 0.5, cut=True), cut("vllm_transcript.sse", 0.5)]
)
def test_an_answer_that_breaks_off_is_asked_for_again(broken: Act):
    with replaying(broken, stream("vllm_transcript.sse")) as server:
        backend = ServedBackend(server.url)
        (reply,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(reply, Reply)
        assert reply.text == "[0.00]Good morning.[1.20][1.20]Shall we begin?[2.60]"
        assert len(server.chats) == 2
        backend.close()


def test_an_answer_that_was_shown_in_part_is_not_begun_anew():
    with replaying(cut("vllm_transcript.sse", 0.5, cut=True), stream("vllm_transcript.sse")) as server:
        backend = ServedBackend(server.url)
        shown = []
        with pytest.raises(ServerError, match="in the middle of an answer") as raised:
            for event in backend.stream(Request("Hello."), OPTIONS):
                shown.append(event)
        assert "".join(delta.text for delta in shown if isinstance(delta, TextDelta)).startswith("[0.00]Good")
        assert raised.value.trouble == "broken" and len(server.chats) == 1
        backend.close()


def test_a_break_after_the_end_costs_nothing():
    body = said("vllm_transcript.sse").split(b'data: {"id":"chatcmpl-8f41c2a09d6b4e1f","object"')
    with replaying(
        Act([b'data: {"id":"chatcmpl-8f41c2a09d6b4e1f","object"'.join(body[:-1])], cut=True)
    ) as server:
        backend = ServedBackend(server.url)
        (reply,) = backend.ask([Request("Hello.")], OPTIONS)
        assert isinstance(reply, Reply) and reply.text.endswith("[2.60]")
        assert reply.new_tokens == 11, "pieces stand in for the count that was lost"
        assert len(server.chats) == 1
        backend.close()


def test_errors_within_an_answer_are_errors():
    assert "EngineCore encountered an issue" in str(failure(stream("vllm_error_in_stream.sse")))
    assert "out of KV cache" in str(failure(stream("sglang_error_in_stream.sse")))
    nested = failure(stream("sglang_error_nested.sse"))
    assert "out of KV cache" in str(nested) and nested.trouble == "failed"
    assert failure(stream("sglang_abort.sse")).trouble == "broken"


@pytest.mark.parametrize(
    "body", [b"data: {oops\n\n", b"data: \xff\xfe\n\n", b"", b"data: 3\n\ndata: [DONE]\n\n"]
)
def test_an_answer_that_is_none_is_told(body: bytes):
    assert failure(Act([body])).trouble == "broken"
    assert failure(Act([body], kind="application/json")).trouble == "broken"


def test_a_server_that_falls_silent_is_given_up():
    began = time.monotonic()
    error = failure(cut("vllm_transcript.sse", 0.5, hang=True), timeout=0.2)
    assert error.trouble == "slow" and "too long" in str(error)
    assert time.monotonic() - began < 20


def test_a_slow_answer_is_waited_for_and_shown_as_it_comes():
    with replaying(stream("vllm_transcript.sse", 400, pause=0.02)) as server:
        backend = ServedBackend(server.url, timeout=1.0)
        times = []
        for _ in backend.stream(Request("Hello."), OPTIONS):
            times.append(time.monotonic())
        backend.close()
    assert times[-1] - times[0] > 0.1


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "MOST_BYTES", 100_000)
    error = failure(Act([b"x" * 10_000] * 20, hang=True))
    assert "more than 100,000 bytes" in str(error)


def test_a_compressed_answer_is_refused():
    import gzip

    bomb = gzip.compress(b"data: " + b" " * 2_000_000)
    assert "compressed" in str(failure(Act([bomb], headers={"content-encoding": "gzip"})))


def test_secrets_and_recordings_are_never_repeated():
    key = "sk-very-secret-1234567890"
    recording = f"data:audio/wav;base64,{'UklGRiQA' * 50} and {'QUJD' * 60}"
    echo = f"bad request: Bearer {key} with {recording}\n\x1b[31mend"
    error = failure(
        Act([json.dumps({"error": {"message": echo}}).encode()], 400, "application/json"), api_key=key
    )
    assert key not in str(error) and "UklGR" not in str(error) and "QUJDQUJD" not in str(error)
    assert "\x1b" not in str(error) and "end" in str(error)
    assert len(str(failure(Act([b"y z " * 5000], 400)))) < 500


def test_questions_run_side_by_side_but_never_more_than_allowed_and_come_back_in_order():
    with replaying() as server:
        server.choose = lambda body: Act(
            [
                json.dumps(
                    {
                        "choices": [
                            {"message": {"content": body["messages"][0]["content"]}, "finish_reason": "stop"}
                        ]
                    }
                ).encode()
            ],
            kind="application/json",
            pause=0.2,
        )
        backend = ServedBackend(server.url, at_once=3)
        replies = backend.ask([Request(f"Number {n}") for n in range(9)], OPTIONS)
        backend.close()
        assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
            f"Number {n}" for n in range(9)
        ]
        assert server.most == 3
        assert len(server.asked) == 10, "the list of models was asked for once"


def when(true: Callable[[], bool], then: Callable[[], object]) -> None:
    """Do something as soon as something holds."""

    def watch() -> None:
        while not true():
            time.sleep(0.005)
        then()

    threading.Thread(target=watch, daemon=True).start()


def test_cancel_ends_the_requests_at_the_server_and_keeps_what_was_written(monkeypatch: pytest.MonkeyPatch):
    readers: set[int] = set()

    class Watched(AnswerReader):
        def take(self, document):
            deltas = super().take(document)
            readers.update([id(self)] if deltas else [])
            return deltas

    monkeypatch.setattr("moss_audio.served.served_backend.AnswerReader", Watched)
    with replaying(cut("vllm_transcript.sse", 0.5, hang=True)) as server:
        backend = ServedBackend(server.url, at_once=2)
        cancel = threading.Event()
        when(lambda: len(readers) == 2, cancel.set)
        replies = backend.ask([Request("Hello.")] * 4, OPTIONS, cancel)
        assert [answer.stopped for answer in replies if isinstance(answer, Reply)] == ["cancelled"] * 4
        assert [bool(reply.text) for reply in replies if isinstance(reply, Reply)] == [
            True,
            True,
            False,
            False,
        ]
        assert server.left.wait(5) and len(server.chats) == 2
        backend.close()


def test_cancel_works_while_waiting_for_the_next_try():
    busy = Act([b"{}"], 429, "application/json", headers={"retry-after": "60"})
    with replaying(busy) as server:
        backend = ServedBackend(server.url)
        cancel = threading.Event()
        when(lambda: bool(server.chats), cancel.set)
        began = time.monotonic()
        *_, last = backend.stream(Request("Hello."), OPTIONS, cancel)
        assert isinstance(last, Reply) and last.stopped == "cancelled"
        assert time.monotonic() - began < 30
        backend.close()


def test_leaving_a_stream_ends_the_request():
    with replaying(cut("vllm_transcript.sse", 0.5, hang=True)) as server:
        backend = ServedBackend(server.url)
        events = backend.stream(Request("Hello."), OPTIONS)
        next(events)
        events.close()  # type: ignore[attr-defined]
        assert server.left.wait(5)
        backend.close()


def test_close_ends_everything_and_later_questions_are_refused():
    with replaying(cut("vllm_transcript.sse", 0.5, hang=True)) as server:
        backend = ServedBackend(server.url)
        results: list = []

        def ask() -> None:
            try:
                results.extend(backend.ask([Request("Hello.")], OPTIONS))
            except ServerError as error:
                results.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.chats:
            time.sleep(0.02)
        time.sleep(0.2)
        backend.close()
        thread.join(5)
        assert not thread.is_alive() and isinstance(results[0], ServerError)
        assert results[0].trouble == "closed"
        with pytest.raises(ServerError, match="closed"):
            backend.ask([Request("Hello.")], OPTIONS)
        backend.close()


def test_several_threads_may_ask_at_once():
    with replaying(stream("vllm_transcript.sse", 200, pause=0.01)) as server:
        backend = ServedBackend(server.url)
        texts: list[str] = []

        def ask() -> None:
            *_, last = backend.stream(Request("Hello."), OPTIONS)
            assert isinstance(last, Reply)
            texts.append(last.text)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread_ in threads:
            thread_.start()
        for thread in threads:
            thread.join()
        backend.close()
    assert texts == ["[0.00]Good morning.[1.20][1.20]Shall we begin?[2.60]"] * 6
