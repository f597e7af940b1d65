"""What is found, cited and listed in real meetings, beside plain BM25 on the same stretches.

The file has one meeting a line: sentences with their speakers, people's questions, the stretches that answer
them, the sentences that prove the answers, and which sentences of a written summary report decisions. Each
meeting becomes a recording of a new library, 0.35 s a word, one segment a sentence, and is searched, asked
and summarised through the program's own doors. The data are not part of the program.

    python -m benchmarks.meetings FILE.jsonl.gz [--out ANSWERS.jsonl] [--meetings N] [--queries N]
                                  [--model URL]

``--out`` gets one line a query, ``{"meeting", "query", "found": [[first, last], …], "cited": [sentence, …],
"answer", "ms"}``, and one line a meeting, ``{"meeting", "decisions": [[sentence, …], …]}``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from agent.citations.markers import Marker, split_markers
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import show
from index.imports.transcript_files import ImportedTranscript
from index.records import Item, Segment
from index.search.embeddings import Embedder
from index.search.passages import PassageStore
from index.store.library import Library

SECONDS_A_WORD = 0.35
FOUND = 5
"""Stretches that count as found."""
NEAR_EVIDENCE = 2
NEAR_DECISION = 3
"""Sentences that a citation, and a listed decision, may be away from what was marked by people."""

K1, B = 1.2, 0.75
"""Parameters of BM25 (Robertson and Zaragoza, 2009), as SQLite's FTS5 has them."""


@dataclass(frozen=True)
class Query:
    """A question that somebody asked about a meeting; sentences are numbers in the file."""

    text: str
    gold: tuple[tuple[int, int], ...]
    """Stretches that answer it, both ends included."""
    evidence: tuple[int, ...] = ()
    answer: str = ""
    """What people answered."""

    def in_gold(self, sentence: int) -> bool:
        """Whether a sentence lies in a stretch that answers."""
        return any(first <= sentence <= last for first, last in self.gold)


@dataclass(frozen=True)
class Meeting:
    """One line of the file."""

    id: str
    domain: str
    sentences: tuple[tuple[str, str], ...]
    """Speaker and text."""
    queries: tuple[Query, ...]
    decided: tuple[tuple[int, ...], ...]
    """For each decision that a written summary reports, its evidence."""


@dataclass(frozen=True)
class Answered:
    """What the program found and cited for one query; sentences are numbers in the file."""

    query: Query
    found: list[tuple[int, int]]
    cited: list[int]
    answer: str
    ms: float
    by_bm25: list[tuple[int, int]]


def read_meetings(file: Path, most: int | None = None) -> list[Meeting]:
    """The meetings of a gzipped file, the first ``most`` of them."""
    found: list[Meeting] = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            if most is not None and len(found) >= most:
                break
            data = json.loads(line)
            found.append(
                Meeting(
                    data["id"],
                    data["domain"],
                    tuple((speaker, text) for speaker, text in data["sentences"]),
                    tuple(
                        Query(
                            query["query"],
                            tuple((first, last) for first, last in query["gold"]),
                            tuple(query["evidence"]),
                            query.get("answer", ""),
                        )
                        for query in data["queries"]
                    ),
                    tuple(tuple(said["evidence"]) for said in data["summary"] if said["decision"]),
                )
            )
    return found


def drawn(meetings: Sequence[Meeting], most: int) -> list[Meeting]:
    """So many queries, drawn at random, with the meetings they are about; the same ones at every call.

    Meetings come in the order in which they were drawn, so that the first answers of a run that is stopped
    are a sample as well.
    """
    every = [(at, query) for at, meeting in enumerate(meetings) for query in meeting.queries]
    chosen: dict[int, list[Query]] = {}
    for at, query in random.Random(0).sample(every, min(most, len(every))):
        chosen.setdefault(at, []).append(query)
    return [replace(meetings[at], queries=tuple(queries)) for at, queries in chosen.items()]


def take_in(workspace: Workspace, meeting: Meeting) -> dict[int, int]:
    """Store and index a meeting as the recording ``recording_id(meeting)``.

    Returns:
        The sentence of each segment, by the segment's number.
    """
    ends = np.cumsum([SECONDS_A_WORD * len(text.split()) for _, text in meeting.sentences])
    transcript = ImportedTranscript(
        id=recording_id(meeting),
        title=meeting.id,
        source_name=meeting.id,
        format="json",
        segments=tuple(
            Segment(float(start), float(end), text, speaker=speaker)
            for (speaker, text), start, end in zip(meeting.sentences, [0.0, *ends[:-1]], ends, strict=True)
        ),
        duration=float(ends[-1]),
        language="en",
    )
    workspace.import_transcript(transcript)
    stored = workspace.library.segments(transcript.id)
    return {segment.id: sentence for sentence, segment in enumerate(stored)}


def recording_id(meeting: Meeting) -> str:
    """The id of a meeting's recording."""
    return hashlib.sha256(meeting.id.encode()).hexdigest()


def answer(workspace: Workspace, meeting: Meeting, numbers: dict[int, int]) -> Iterator[Answered]:
    """Search for and ask every query of a meeting that was taken in."""
    recording = recording_id(meeting)
    passages, _ = PassageStore(workspace.library.database).of_recording(recording)
    stretches = [_stretch(passage.segment_ids, numbers) for passage in passages]
    rank = Bm25([" ".join(text for _, text in meeting.sentences[a : b + 1]) for a, b in stretches])
    for query in meeting.queries:
        hits = workspace.search.search(query.text, recording, FOUND)
        found = [_stretch([segment.id for segment in hit.segments], numbers) for hit in hits]
        began = time.perf_counter()
        given = workspace.assistant.ask(query.text, recording)
        taken = 1000 * (time.perf_counter() - began)
        best = rank.best(query.text, FOUND)
        yield Answered(
            query,
            found,
            cited_sentences(given.marked_text, numbers),
            given.text,
            taken,
            [stretches[at] for at in best],
        )


def cited_sentences(marked_text: str, numbers: dict[int, int]) -> list[int]:
    """The sentences that an answer cites, in its order, each once; those of a run are all cited."""
    cited: dict[int, None] = {}
    for part in split_markers(marked_text):
        if isinstance(part, Marker):
            for segment in range(part.first, part.last + 1):
                if segment in numbers:
                    cited[numbers[segment]] = None
    return list(cited)


def _stretch(segments: Sequence[int], numbers: dict[int, int]) -> tuple[int, int]:
    sentences = [numbers[segment] for segment in segments]
    return min(sentences), max(sentences)


class Bm25:
    """Plain BM25 over some texts: words in lower case, no stems, no stop words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(_words(text)) for text in texts]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(1, len(texts))
        self._having = Counter(word for counts in self._counts for word in counts)

    def best(self, question: str, most: int) -> list[int]:
        """The numbers of the texts that fit best, best first."""
        scores = [self._score(_words(question), at) for at in range(len(self._counts))]
        return sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:most]

    def _score(self, question: Iterable[str], at: int) -> float:
        total = 0.0
        for word in question:
            count, having = self._counts[at][word], self._having[word]
            weight = math.log(1 + (len(self._counts) - having + 0.5) / (having + 0.5))
            length = 1 - B + B * self._lengths[at] / max(1.0, self._mean)
            total += weight * count * (K1 + 1) / (count + K1 * length)
        return total


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def figures(answers: Sequence[Answered]) -> dict[str, float]:
    """The figures of search and answers, each a mean over queries; shares in [0, 1].

    ``answered``: queries with a cited sentence in gold. ``precision``, ``near evidence``: share of cited
    sentences in gold, and within two sentences of evidence, over the answers that cite. ``recall``: share of
    evidence within two sentences of a cited one. ``refused``: queries whose answer cites nothing.
    """
    citing = [asked for asked in answers if asked.cited]
    precision = [_mean(map(asked.query.in_gold, asked.cited)) for asked in citing]
    near = [_near_share(asked.cited, asked.query.evidence, NEAR_EVIDENCE) for asked in citing]
    proven = [asked for asked in answers if asked.query.evidence]
    recall = [_near_share(asked.query.evidence, asked.cited, NEAR_EVIDENCE) for asked in proven]
    return {
        "at 1": _mean(_touches(asked.found[:1], asked.query) for asked in answers),
        "at 5": _mean(_touches(asked.found, asked.query) for asked in answers),
        "BM25 at 1": _mean(_touches(asked.by_bm25[:1], asked.query) for asked in answers),
        "BM25 at 5": _mean(_touches(asked.by_bm25, asked.query) for asked in answers),
        "answered": _mean(any(map(asked.query.in_gold, asked.cited)) for asked in answers),
        "precision": _mean(precision),
        "near evidence": _mean(near),
        "recall": _mean(recall),
        "refused": _mean(not asked.cited for asked in answers),
        "cited sentences": statistics.mean(len(asked.cited) for asked in answers),
        "median ms": statistics.median(asked.ms for asked in answers),
    }


def decision_figures(listed: Sequence[tuple[Meeting, list[list[int]]]]) -> dict[str, float]:
    """Recall and precision of listed decisions over all meetings: each as sentences, by their numbers."""
    recalled, right = [], []
    for meeting, decisions in listed:
        every = [sentence for decision in decisions for sentence in decision]
        for evidence in meeting.decided:
            recalled.append(_near_share(evidence, every, NEAR_DECISION) > 0)
        marked = [sentence for evidence in meeting.decided for sentence in evidence]
        right += [_near_share(decision, marked, NEAR_DECISION) > 0 for decision in decisions]
    return {"decisions recalled": _mean(recalled), "decisions right": _mean(right)}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return float(sum(known)) / len(known) if known else 0.0


def _touches(stretches: Sequence[tuple[int, int]], query: Query) -> bool:
    return any(
        first <= gold_last and gold_first <= last
        for first, last in stretches
        for gold_first, gold_last in query.gold
    )


def _settled(library: Library, item: Item, recording: str) -> list[int]:
    """The segments of the exchange that a decision was found in, or of the decision."""
    if item.exchange is None:
        return list(item.segments)
    return [found.id for found in library.segments(recording, item.exchange.start, item.exchange.end)]


def _near_share(sentences: Sequence[int], others: Sequence[int], within: int) -> float:
    """Share of the sentences that have another one so near."""
    return _mean(any(abs(sentence - other) <= within for other in others) for sentence in sentences)


def refusals(
    workspace: Workspace, meetings: Sequence[Meeting], numbers: dict[str, dict[int, int]]
) -> dict[str, float]:
    """Share of queries that are refused when another meeting is asked: of the same kind, and of another."""
    refused: dict[str, list[bool]] = {"same": [], "other": []}
    for at, meeting in enumerate(meetings):
        following = [*meetings[at + 1 :], *meetings[:at]]
        others = {
            "same": next((other for other in following if other.domain == meeting.domain), None),
            "other": next((other for other in following if other.domain != meeting.domain), None),
        }
        for query in meeting.queries:
            for kind, other in others.items():
                if other is not None:
                    given = workspace.assistant.ask(query.text, recording_id(other))
                    refused[kind].append(not cited_sentences(given.marked_text, numbers[other.id]))
    return {f"foreign refused, {kind} domain": _mean(found) for kind, found in refused.items() if found}


class RememberingEmbedder:
    """An embedder that looks texts up in a folder first, so that a second run need not embed them again.

    Questions are embedded anew unless ``questions`` is set, so that the time of an answer stays true.
    """

    def __init__(self, embedder: Embedder, folder: Path, questions: bool = False) -> None:
        self._questions = questions
        self._embedder = embedder
        self.name = embedder.name
        self.dimensions = embedder.dimensions
        self._file = folder / f"{hashlib.sha256(embedder.name.encode()).hexdigest()[:16]}.npz"
        self._known: dict[str, np.ndarray] = {}
        self._fresh = False
        if self._file.exists():
            stored = np.load(self._file)
            self._known = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """As ``Embedder.encode_passages``."""
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        # Texts of one length together, which pads less.
        ordered = sorted(missing.items(), key=lambda item: len(item[1]))
        vectors = self._embedder.encode_passages([text for _, text in ordered])
        self._known.update(zip((key for key, _ in ordered), vectors.astype(np.float16), strict=True))
        self._fresh = self._fresh or bool(missing)
        found = [self._known[key] for key in keys]
        return np.stack(found).astype(np.float32) if found else vectors

    def encode_query(self, text: str) -> np.ndarray:
        """As ``Embedder.encode_query``."""
        if not self._questions:
            return self._embedder.encode_query(text)
        key = "?" + _key(text)
        if key not in self._known:
            self._known[key] = self._embedder.encode_query(text).astype(np.float16)
            self._fresh = True
        return self._known[key].astype(np.float32)

    def save(self) -> None:
        """Write what is new to the folder."""
        if self._fresh:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(self._file, texts=list(self._known), vectors=np.stack(list(self._known.values())))
            self._fresh = False


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def run(
    meetings: Sequence[Meeting], settings: Settings, out: Path | None, cache: Path | None, foreign: bool
) -> dict[str, Any]:
    """Take the meetings in, ask all queries, write each answer to ``out`` when it is there; the figures."""
    workspace = open_workspace(settings)
    if cache is not None:
        workspace.__dict__["embedder"] = RememberingEmbedder(workspace.embedder, cache)
    if out is not None:
        out.write_text("", "utf-8")
    answers: list[Answered] = []
    listed: list[tuple[Meeting, list[list[int]]]] = []
    numbers: dict[str, dict[int, int]] = {}
    words: list[int] = []
    for at, meeting in enumerate(meetings):
        numbers[meeting.id] = take_in(workspace, meeting)
        for asked in answer(workspace, meeting, numbers[meeting.id]):
            answers.append(asked)
            _append(
                out,
                {
                    "meeting": meeting.id,
                    "query": asked.query.text,
                    "found": asked.found,
                    "cited": asked.cited,
                    "answer": asked.answer,
                    "ms": round(asked.ms, 1),
                },
            )
            words += [
                sum(len(text.split()) for _, text in meeting.sentences[first : last + 1])
                for first, last in asked.found
            ]
        summary = workspace.summarize(recording_id(meeting))
        decisions = [
            [
                numbers[meeting.id][segment]
                for segment in _settled(workspace.library, item, recording_id(meeting))
            ]
            for item in summary.decisions
        ]
        listed.append((meeting, decisions))
        _append(out, {"meeting": meeting.id, "decisions": decisions})
        print(f"\r{at + 1} of {len(meetings)} meetings, {len(answers)} queries", end="", file=sys.stderr)
    print(file=sys.stderr)
    result: dict[str, Any] = {"queries": len(answers), **figures(answers), **decision_figures(listed)}
    result["words a stretch"] = statistics.median(words) if words else 0
    if foreign:
        result |= refusals(workspace, meetings, numbers)
    if cache is not None:
        workspace.embedder.save()  # type: ignore[attr-defined]
    workspace.close()
    return {name: round(value, 3) for name, value in result.items()}


def _append(out: Path | None, line: dict[str, Any]) -> None:
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help="meetings, one JSON object a line, gzipped")
    parser.add_argument("--out", type=Path, help="where the answers go, one JSON object a line")
    parser.add_argument("--meetings", type=int, help="only the first so many")
    parser.add_argument("--queries", type=int, help="only so many, drawn at random")
    parser.add_argument("--model", default="auto", help="the URL of a server with a language model")
    parser.add_argument("--foreign", action="store_true", help="also ask each query of two other meetings")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings for the next run")
    options = parser.parse_args(arguments)
    meetings = read_meetings(options.file, options.meetings)
    if options.queries is not None:
        meetings = drawn(meetings, options.queries)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), model=options.model)
        result = run(meetings, settings, options.out, options.cache, options.foreign)
    rows = [{"figure": name, "value": value} for name, value in result.items()]
    show(f"Meetings of {options.file.name}", rows, result)


if __name__ == "__main__":
    main()
