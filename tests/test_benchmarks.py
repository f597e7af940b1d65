"""The benchmark of the engine: what it prints, also where something cannot be run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks import engine, gpu_run
from benchmarks.engine import MEASURED, Plan, answers, main, run
from moss_audio.engine import RequestHandle
from moss_audio.generation.requests import Reply

ROW = {"size", "context", *MEASURED}


def held_to_its_form(result: dict) -> list[dict]:
    """The rows of a document that has the promised form: each measured whole, or empty with a reason."""
    assert {"device", "config", "batches", "hour_x_realtime", "equal_to_plain"} <= set(result)
    assert [batch["size"] for batch in result["batches"]] == [1, 8, 64]
    for batch in result["batches"]:
        empty = batch.keys() == ROW | {"reason"} and all(batch[name] is None for name in MEASURED)
        whole = batch.keys() == ROW and all(batch[name] > 0 for name in MEASURED)
        assert whole or (empty and batch["reason"]), batch
    return result["batches"]


def printed(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_quick_run_ends_with_one_document_in_which_all_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "BEGAN", time.monotonic() + 60)  # this machine may be busy
    main(["--quick", "--device", "cpu", "--config", "tiny"])
    result = printed(capsys)
    rows = held_to_its_form(result)
    assert not [row for row in rows if "reason" in row] and "reasons" not in result
    assert (result["device"], result["config"], result["equal_to_plain"]) == ("cpu", "tiny", True)
    assert result["hour_x_realtime"] > 0


def test_what_there_is_no_time_for_is_empty_with_the_reason():
    result = run("tiny", "cpu", Plan(context=16, new=3, turns=1, megabytes=1, cache=20_000_000, deadline=0.0))
    assert all("no time left" in row["reason"] for row in held_to_its_form(result))
    assert result["hour_x_realtime"] is None and result["equal_to_plain"] is None
    assert all("no time left" in result["reasons"][name] for name in ("hour_x_realtime", "equal_to_plain"))


def test_what_does_not_fit_is_empty_with_the_reason_and_costs_no_other_row():
    plan = Plan(context=40, new=3, turns=1, megabytes=1, cache=100_000, batches=(1,), audio=4, window=4)
    result = run("tiny", "cpu", plan)
    assert result["batches"][0]["reason"] and result["batches"][0]["tokens_per_s"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_are_empty_with_the_reason(capsys: pytest.CaptureFixture[str]):
    main(["--device", "cuda", "--config", "8b"])
    result = printed(capsys)
    assert all("no GPU" in row["reason"] for row in held_to_its_form(result))
    assert (result["device"], result["config"], result["hour_x_realtime"]) == ("cuda", "8b", None)


def test_an_answer_of_another_length_is_no_measurement():
    for stopped, written in (("end", 3), ("cancelled", 0)):
        handle = RequestHandle()
        handle.put(Reply("abc", "", stopped, 16, written, 0.1))
        with pytest.raises(ValueError, match=f"{written} tokens instead of 4"):
            answers([handle], 4, Plan())
    handle = RequestHandle()
    handle.put(Reply("abcd", "", "length", 16, 4, 0.1))
    answers([handle], 4, Plan())


@pytest.mark.slow
def test_a_gpu_run_that_is_cut_short_has_a_whole_document_that_says_what_is_missing(tmp_path: Path):
    file = tmp_path / "out" / "gpu.json"
    assert gpu_run.main([str(file), "--deadline", str(time.time())]) == 1
    document = json.loads(file.read_text())
    assert not document["tests"]["passed"] and document["tests"]["summary"]
    assert {"8b", "4b"} <= {row["config"] for row in document["rows"]}
    assert all(row["reason"] and "values" not in row for row in document["rows"])
    if not torch.cuda.is_available():
        assert all("no GPU" in row["reason"] for row in document["rows"] if row["config"] != "tiny")
