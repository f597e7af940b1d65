"""What the reader tells of sentences, and what a summary lists because of it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.talks import Talk, talks_of, together
from benchmarks.train_reader import Learner
from index.reading import reader as reading
from index.reading.reader import ACTS, Reader, halves_over, shared_reader, tiles
from index.recording_errors import WeightsError
from index.records import Segment, Summary
from index.summary import summarize
from tests.support.indexed import embedder


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    """Talks that nothing was learned from."""
    return list(islice(talks_of("val"), 3))


def summary_of(talk: Talk) -> Summary:
    segments = [
        Segment(4.0 * at, 4.0 * at + 3.5, text, speaker=speaker, id=at)
        for at, (speaker, text) in enumerate(talk.sentences)
    ]
    return summarize(segments, embedder().encode_passages(talk.texts))


def found(items, noted: list[list[int]]) -> int:
    """How many of what was noted is listed."""
    return sum(any(set(item.segments) & set(sentences) for item in items) for sentences in noted)


def test_what_people_settle_promise_and_leave_open_without_calling_it_so_is_listed(talks: list[Talk]):
    summaries = [summary_of(talk) for talk in talks]
    for kind, listed, least in (
        ("decisions", "decisions", 0.4),
        ("actions", "action_items", 0.8),
        ("open", "open_questions", 0.4),
    ):
        pairs = list(zip(summaries, talks, strict=True))
        hits = sum(found(getattr(summary, listed), talk.noted[kind]) for summary, talk in pairs)
        noted = sum(len(talk.noted[kind]) for talk in talks)
        assert hits >= least * noted, kind
        # It is no use to list everything.
        assert sum(len(getattr(summary, listed)) for summary in summaries) <= 2 * noted, kind


def test_of_talks_that_make_one_long_recording_they_are_listed_as_well(talks: list[Talk]):
    talk = together(talks)
    summary = summary_of(talk)
    for kind, items, least in (
        ("decisions", summary.decisions, 0.3),
        ("actions", summary.action_items, 0.7),
        ("open", summary.open_questions, 0.3),
    ):
        assert found(items, talk.noted[kind]) >= least * len(talk.noted[kind]), kind
        assert len(items) <= 2 * len(talk.noted[kind]), kind


def test_who_takes_a_task_on_and_by_when_is_read_where_it_is_said(talks: list[Talk]):
    right = named = dated = due = 0
    for talk in talks:
        items = summary_of(talk).action_items
        for sentences, (owner, when) in zip(talk.noted["actions"], talk.owners, strict=True):
            hits = [item for item in items if set(item.segments) & set(sentences)]
            named += bool(hits)
            right += any(item.owner == owner for item in hits)
            due += bool(hits and when)
            dated += bool(when) and any(item.due for item in hits)
    assert right >= 0.7 * named and dated >= 0.7 * due


def test_a_promise_stands_out_from_what_is_told_around_it(talks: list[Talk]):
    talk = [
        *talks[0].sentences[:30],
        ("Ben", "Leave that with me, I'll ring him tomorrow."),
        ("Ann", "Thanks."),
    ]
    speakers, texts = zip(*talk, strict=True)
    told = shared_reader().acts(texts, speakers)
    assert told.shape == (len(talk), len(ACTS))
    assert told[30].argmax() == ACTS.index("action") and told[30, ACTS.index("action")] > 0
    assert np.median(told) < -2


def test_a_talk_without_sentences_is_told_nothing():
    assert shared_reader().acts([], []).shape == (0, len(ACTS))


def test_another_language_than_the_reader_learned_is_left_to_what_is_said_in_so_many_words(monkeypatch):
    asked = []
    monkeypatch.setattr(Reader, "acts", lambda self, texts, *_, **__: asked.append(texts))
    line = "Wir haben uns das gestern noch einmal angesehen, und es ist nicht so einfach."
    talk = Talk("Rat", [("Anna", line)] * 60, {}, [], [])
    assert summary_of(talk).decisions == ()
    assert not asked


@given(st.lists(st.integers(2, 60), min_size=1, max_size=80), st.integers(20, 150))
def test_every_sentence_lies_in_a_stretch_and_in_the_middle_of_another(lengths: list[int], most: int):
    stretches = tiles(lengths, most)
    assert [at for first, last in stretches for at in range(first, last)] == list(range(len(lengths)))
    assert all(sum(lengths[first:last]) < most or last - first == 1 for first, last in stretches)
    shifted = halves_over(stretches, lengths, most)[len(stretches) :]
    assert all(any(first <= last < end for first, end in shifted) for _, last in stretches[:-1])


def test_what_is_shipped_of_a_change_of_low_rank_tells_what_was_taught(talks: list[Talk]):
    learner = Learner()
    torch.manual_seed(1)
    with torch.no_grad():
        for value in learner.own:
            rows, columns = torch.randn(len(value)), torch.randn(value[0].numel())
            value += 0.01 * torch.outer(rows, columns).view_as(value)
    kept = {
        name: torch.from_numpy(value.astype(np.float32)) for name, value in learner.changes(rank=2).items()
    }
    other = Reader(is_taught=False)
    head = kept.pop("head.weight"), kept.pop("head.bias")
    reading.learn(other.network, kept)
    ids, mask, places = other.rows([other.talk_tokens(talks[0].texts[:8], talks[0].speakers[:8])])
    with torch.no_grad():
        taught, learned = (
            network.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[0, places[0]]
            for network in (learner.network, other.network)
        )
        untaught = Reader(is_taught=False).network(input_ids=ids, attention_mask=mask).last_hidden_state
    told = torch.nn.functional.linear(learned, *head)
    torch.testing.assert_close(told, learner.head(taught), atol=0.02, rtol=0.02)
    assert (untaught[0, places[0]] - taught).abs().max() > 0.1


def test_weights_that_are_not_the_shipped_ones_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "reader.npz"
    np.savez(other, **{"head.weight": np.zeros((3, 384)), "head.bias": np.zeros(3)})
    monkeypatch.setattr(reading, "WEIGHTS", other)
    with pytest.raises(WeightsError):
        Reader()


def test_without_its_weights_what_is_said_in_so_many_words_is_still_listed(monkeypatch, caplog):
    def missing() -> Reader:
        raise WeightsError("The reader's weights are missing.")

    monkeypatch.setattr(reading, "_reader", missing)
    filler = [("Ann", "We had rain all week, and the path was muddy again.")] * 50
    talk = Talk("Path", [*filler, ("Ben", "So we've decided to pave it with gravel."), *filler], {}, [], [])
    assert [item.text for item in summary_of(talk).decisions] == ["So we've decided to pave it with gravel."]
    assert "weights are missing" in caplog.text
