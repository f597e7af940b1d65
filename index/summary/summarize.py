"""The summary of a recording, extracted, never invented: every line is a stretch of what was said."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from index.reading.reader import ACTS, shared_reader
from index.recording_errors import WeightsError
from index.records import TEMPLATES, ActionItem, Item, Segment, Summary, Topic
from index.search.wording import lists_subjects
from index.speaker_names import infer_names, is_label
from index.summary import speech_acts as acts
from index.summary.findings import LONG, action_items, decisions, open_questions, without_repeats
from index.summary.sentence_scores import KINDS, Sentence, scores, sentences
from index.summary.topics import key_sentences, topic_of, topics
from index.summary_templates import SUMMARY_TEMPLATES
from index.text import search_terms, written_in
from moss_audio.timestamps import clock

_log = logging.getLogger(__name__)

AGENDA_WITHIN = 0.1
"""What lists several subjects in this first part of a recording announces them; nobody promises it."""

KEY_QUOTES = 3
"""Key sentences of a recording: people read two or three."""

MOST_LISTED, SENTENCES_LISTED = 25, 20
"""Items of one kind that are listed at most, or one in so many sentences where that is more; still more is no
summary."""

READ_FROM_SENTENCES = 40
"""Sentences of a talk from which the reader is asked; it learned from talks of 110 to 170."""

QUESTION_WORDS = 5
"""Shorter questions ("How so?") only keep the talk going."""

ASKER_SHARE = 1 / 3
"""Who asks less than this share of what the busiest asker asks is answering, not interviewing."""

MOST_UPDATES = 5
"""Lines that are listed for a voice of a stand-up."""


def summarize(segments: Sequence[Segment], embeddings: np.ndarray, template: str = "meeting") -> Summary:
    """Summarise a recording.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]``, unit length, of the same segments.
        template: One of ``TEMPLATES``. For an interview the topics are the questions with the reply's key
            sentences; for a stand-up they are the speakers with their updates; for a lecture
            ``open_questions`` also holds what the audience asked, and there are no decisions.

    Raises:
        ValueError: There is no such template.
    """
    kind = SUMMARY_TEMPLATES.get(template)
    if kind is None:
        raise ValueError(f"There is no template “{template}”; there are: {', '.join(TEMPLATES)}.")
    speech = [at for at, segment in enumerate(segments) if segment.kind == "speech" and segment.text.strip()]
    spoken = [segments[at] for at in speech]
    vectors = embeddings[speech] if speech else np.zeros((0, 1), dtype=np.float32)
    said = sentences(spoken)
    texts, speakers = [sentence.text for sentence in said], [sentence.speaker for sentence in said]
    scored = scores(texts, speakers) if said else np.zeros((0, len(KINDS)), dtype=np.float32)
    keyness = np.full(len(spoken), -np.inf)
    np.maximum.at(keyness, [sentence.index for sentence in said], scored[:, KINDS.index("key")])
    names = infer_names(spoken)
    read = _read(texts, speakers)
    sentence_vectors = vectors[[sentence.index for sentence in said]]
    decided = decisions(said, scored, sentence_vectors, read) if kind.has_decisions else []
    promised, left_open = action_items(said, scored, names, read), open_questions(said, scored, read)
    listing = _listing(spoken)
    agenda = {number for at, number in listing.items() if at < AGENDA_WITHIN * len(spoken)}
    promised = [item for item in promised if not agenda.issuperset(item.segments)]
    decided, new, questions = without_repeats(said, decided, promised, left_open)
    actions = [item for item in new if isinstance(item, ActionItem)]
    questions += _audience(spoken) if kind.has_audience else []
    questions.sort(key=lambda item: item.start)
    listed = {number for item in [*decided, *actions, *questions] for number in item.segments}
    free = [at for at, segment in enumerate(spoken) if segment.id not in listed and at not in listing]
    chosen = key_sentences([spoken[at] for at in free], vectors[free], keyness[free], KEY_QUOTES)
    parts: list[Topic] = []
    if kind.topics == "exchanges":
        parts = _exchanges(spoken, vectors, keyness)
    elif kind.topics == "updates":
        parts = _updates(spoken, vectors, keyness, names)
    most = max(MOST_LISTED, len(said) // SENTENCES_LISTED)
    sure = _sureness(said, read)
    summary = Summary(
        template=template,
        overview="",
        topics=tuple(parts[:most] or topics(spoken, vectors, keyness)),
        decisions=tuple(_surest(decided, sure["decision"], most)),
        action_items=tuple(_best_tasks(actions, most)),
        open_questions=tuple(_surest(questions, sure["open"], most)),
        key_quotes=tuple(Item.whole(spoken[free[at]]) for at in chosen),
    )
    totals = {"decision": len(decided), "action item": len(actions), "open question": len(questions)}
    return replace(summary, overview=_overview(summary, spoken, totals))


def _read(texts: Sequence[str], speakers: Sequence[str | None]) -> np.ndarray | None:
    """What the reader says of a talk; None of a few lines or another language, which are not what it learned
    from, and where its weights are missing."""
    if len(texts) < READ_FROM_SENTENCES or written_in(" ".join(texts)) != "en":
        return None
    try:
        return shared_reader().acts(texts, speakers, twice=len(texts) < LONG)
    except WeightsError as error:
        _log.warning("Only what is said in so many words is listed in summaries: %s", error)
        return None


def _listing(segments: Sequence[Segment]) -> dict[int, int]:
    """The positions of segments that only name what is talked about elsewhere, with the segments' ids."""
    places: dict[str, list[int]] = {}
    for at, segment in enumerate(segments):
        for term in search_terms(segment.text):
            places.setdefault(term, []).append(at)
    count = len(segments)
    return {
        at: segment.id
        for at, segment in enumerate(segments)
        if lists_subjects(segment.text, at, places, count)
    }


def _sureness(said: Sequence[Sentence], read: np.ndarray | None) -> dict[str, dict[int, float]]:
    """How sure the reader is of each segment, by kind; of what is said in so many words, quite."""
    found: dict[str, dict[int, float]] = {kind: {} for kind in ACTS}
    for column, kind in enumerate(ACTS):
        for at, sentence in enumerate(said):
            is_plain = acts.decides(sentence.text) or acts.leaves_open(sentence.text)
            odds = np.inf if is_plain or read is None else float(read[at, column])
            found[kind][sentence.segment.id] = max(odds, found[kind].get(sentence.segment.id, -np.inf))
    return found


def _surest(items: Sequence[Item], sure: Mapping[int, float], most: int) -> list[Item]:
    """So many items, the surest, in the order they were said."""
    order = sorted(items, key=lambda item: -max(sure.get(number, 0.0) for number in item.segments))
    return sorted(order[:most], key=lambda item: item.start)


def _best_tasks(items: Sequence[ActionItem], most: int) -> list[ActionItem]:
    """So many items, those with most of owner, due words and an answer, in the order they were said."""
    order = sorted(items, key=lambda item: -(bool(item.due) + bool(item.owner) + len(item.segments) / 10))
    return sorted(order[:most], key=lambda item: item.start)


def _audience(segments: Sequence[Segment]) -> list[Item]:
    """Every question of some length, but those of who talks most (a lecturer's are mostly for effect)."""
    talked: Counter[str | None] = Counter()
    for segment in segments:
        talked[segment.speaker] += len(segment.text.split())
    lecturer = max(talked, key=lambda speaker: talked[speaker], default=None)
    others = [segment for segment in segments if segment.speaker not in (None, lecturer)]
    return [Item.whole(segment) for segment in others if _asks(segment)]


def _asks(segment: Segment) -> bool:
    return acts.asks(segment.text) and len(segment.text.split()) >= QUESTION_WORDS


def _exchanges(segments: Sequence[Segment], embeddings: np.ndarray, keyness: np.ndarray) -> list[Topic]:
    """An interviewer's questions with what the others said until the next one."""
    counts = Counter(segment.speaker for segment in segments if segment.speaker and _asks(segment))
    most = max(counts.values(), default=0)
    asked: list[int] = []
    for at, segment in enumerate(segments):
        if not _asks(segment) or counts[segment.speaker or ""] <= most * ASKER_SHARE:
            continue
        if asked and all(other.speaker == segment.speaker for other in segments[asked[-1] : at]):
            asked[-1] = at
        else:
            asked.append(at)
    found = []
    for at, until in pairwise([*asked, len(segments)]):
        question = segments[at]
        reply = [other for other in range(at + 1, until) if segments[other].speaker != question.speaker]
        if reply:
            said = [segments[other] for other in reply]
            topic = topic_of(question.text, said, embeddings[reply], keyness[reply], 1)
            # What is said at once answers, however short it is; the key sentence says most of what followed.
            points = tuple(dict.fromkeys((said[0].text, *topic.points)))
            numbers = (question.id, *topic.segments)
            asker, start = question.speaker, question.start
            found.append(replace(topic, start=start, points=points, segments=numbers, speaker=asker))
    return found


def _updates(
    segments: Sequence[Segment], embeddings: np.ndarray, keyness: np.ndarray, names: Mapping[str, str]
) -> list[Topic]:
    """One topic for each voice, in the order in which they first speak, with its key sentences."""
    found: list[Topic] = []
    for speaker in dict.fromkeys(segment.speaker for segment in segments if segment.speaker):
        own = [at for at, segment in enumerate(segments) if segment.speaker == speaker]
        said = [segments[at] for at in own]
        topic = topic_of(names.get(speaker, speaker), said, embeddings[own], keyness[own], MOST_UPDATES)
        found += [topic] if topic.points else []
    return found


def _overview(found: Summary, segments: Sequence[Segment], totals: Mapping[str, int]) -> str:
    """Counted, not written: how long, how many voices, what was found."""
    if not segments:
        return "No speech was found in this recording."
    names = {segment.speaker for segment in segments if segment.speaker}
    kind = SUMMARY_TEMPLATES[found.template]
    listed = (found.decisions, found.action_items, found.open_questions)
    counts = [
        _count(len(items), total, "question" if kind.has_audience and "question" in noun else noun)
        for items, (noun, total) in zip(listed, totals.items(), strict=True)
        # That there are none cannot be said where none were looked for.
        if noun != "decision" or kind.has_decisions
    ]
    counts.append(_count(len(found.topics), len(found.topics), kind.counted))
    # Who was named, by a person or in an imported transcript, is no estimate.
    guessed = " (estimated)" if any(is_label(name) for name in names) else ""
    by = f" by {_count(len(names), len(names), 'speaker')}{guessed}" if names else ""
    length = clock(max(segment.end for segment in segments))
    return f"{length} of talk{by}: {', '.join(counts[:-1])} and {counts[-1]}."


def _count(listed: int, found: int, noun: str) -> str:
    if listed < found:
        return f"{listed} of {found} {noun}s"
    return f"{found or 'no'} {noun}{'' if found == 1 else 's'}"
