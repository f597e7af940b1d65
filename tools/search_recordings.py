"""Find where something was said, in one recording or in all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from index.recording_errors import InvalidInput
from index.records import Hit, Recording, Segment
from index.speaker_names import is_label
from index.text import asks_something, folded_name, search_terms, search_words, similarity, stem, written_in
from moss_audio.timestamps import clock
from tools.read_transcript import known_speaker
from tools.result import Evidence, Passage, SearchResult, notes, unfinished
from tools.toolbox import Toolbox, make_tool

PASSAGES = 5
"""Stretches that count as found."""
REPLY_WITHIN_S = 5.0
"""A reply starts at most this long after the question ends, seconds."""
REPLY_SHARE = 0.95
"""A reply is nearly as relevant as the question it answers; the words that match stand in the question."""
MOST_GONE_ON, MOST_IN_REPLY, WORDS_OF_REPLY = 2, 3, 4
"""Sentences with which who asked may go on before the reply; of the reply, and its words at which it ends."""
MOST_VERBATIM = 12
VERBATIM = 1.0
"""Relevance of a segment that contains the query word for word."""
MOST_POINTED_AT, MOST_PLACES = 2, 3
"""Words of a question that nothing answers whose places are told, and how often each is said at most: what is
said more often is what all of the talk is about."""

_MEASURED = re.compile(
    r"\b(?:cost|price|budget|time|day|date|hour|minute|week|month|year|amount|number)s?\b", re.IGNORECASE
)
"""What a question asks for by name, and an answer tells as a number."""


class SearchRecordings(BaseModel):
    """Arguments of ``search_recordings``."""

    query: str = Field(max_length=1000)
    recording: str | None = None
    speaker: str | None = None


def search_recordings(
    toolbox: Toolbox, query: str, recording: str | None = None, speaker: str | None = None
) -> SearchResult:
    """The sentences that answer as evidence, best first, and the stretches that were found, best first.

    What follows a matching question as its reply carries ``reply_to``, the question's id. Where nothing that
    was said answers, there is no evidence at all.

    Raises:
        MossAgentError: The query is empty, or no such recording or speaker.
    """
    from index.search.searching import choose

    if not query.strip():
        raise InvalidInput("The query is empty; say what to look for.")
    named = toolbox.library.resolve(recording) if recording else None
    voices, among = _voices(toolbox, named, speaker)
    found = toolbox.search.find(query, named.id if named else None, PASSAGES, among=among)
    hits = (*found.hits, *found.others)
    said = [
        segment for hit in hits for segment in hit.segments if voices is None or segment.speaker in voices
    ]
    items = _with_replies(_verbatim(query, said, choose(query, found, voices)), hits, voices)
    recordings = {
        recording: toolbox.library.recording(recording) for recording in {item.recording for item in items}
    }
    searched = [named] if named else recordings.values()
    pointers = _where_said(query, said) if named and not items else []
    return SearchResult(
        query=query,
        evidence=tuple(items),
        passages=_passages(hits, items, recordings),
        unsaid=_unsaid(query, hits) if named and items else (),
        notes=notes(*pointers, *map(unfinished, searched), *_maybe(toolbox, named, voices, query)),
    )


def _where_said(query: str, said: Sequence[Segment]) -> list[str]:
    """Where the question's rarest words are said in the recording, a sentence each.

    What was said is no answer to the question, as far as can be told, but people know better what they meant.
    """
    from index.search.ranking import subject_words

    places: dict[str, list[Segment]] = {}
    for segment in sorted(said, key=lambda segment: segment.start):
        for term in set(search_terms(segment.text)):
            places.setdefault(term, []).append(segment)
    found: list[tuple[str, list[Segment]]] = []
    for word in subject_words(query):
        there = places.get(stem(word), [])
        if 0 < len(there) <= MOST_PLACES:
            # As it was said: somebody who asks about signs is told where the word sign stands.
            forms = (other for other in search_words(there[0].text) if stem(other) == stem(word))
            # In writing without spaces, a word is a part of a longer run.
            found.append((next(forms, word), there))
    found.sort(key=lambda item: len(item[1]))
    told = []
    for word, there in found[:MOST_POINTED_AT]:
        *some, last = (clock(segment.start) for segment in there)
        # In quotation marks the word would be taken for a quote that nothing is cited for.
        told.append(f"The word {word} is said at {' and '.join(filter(None, (', '.join(some), last)))}.")
    return told


def _unsaid(query: str, hits: Sequence[Hit]) -> tuple[str, ...]:
    """The words of a question's subject that nobody says, if they are half of it or more.

    What is quoted then may be about something else (``benchmarks/README.md``). Names of voices do not count,
    nor what somebody did or what is measured, which mostly goes by other words. A question in another
    language shares no words.
    """
    from index.search.ranking import learned, subject_words

    if written_in(query) not in ("en", ""):
        return ()
    said = [segment for hit in hits for segment in hit.segments]
    names = {word for segment in said for word in search_words(segment.speaker or "")}
    usual = learned()["frame"]
    subject = [
        word
        for word in subject_words(_MEASURED.sub(" ", query))
        if not word[0].isdigit() and not word.endswith("ed") and word not in names and stem(word) not in usual
    ]
    heard = {word for segment in said for word in search_words(segment.text)}
    terms = {term for segment in said for term in search_terms(segment.text)}
    unsaid = [
        word
        for word in subject
        if terms.isdisjoint(search_terms(word)) and not any(similarity(word, other) for other in heard)
    ]
    return tuple(unsaid[:MOST_POINTED_AT]) if 2 * len(unsaid) >= max(1, len(subject)) else ()


def _voices(
    toolbox: Toolbox, named: Recording | None, speaker: str | None
) -> tuple[frozenset[str] | None, list[str] | None]:
    """The spellings of a speaker's name, and the recordings of the whole library in which they speak.

    Raises:
        MossAgentError: Nobody has this name.
    """
    if speaker is None:
        return None, None
    if named is not None:
        return frozenset({known_speaker(named, speaker)}), None
    if is_label(speaker):
        raise InvalidInput(f"“{speaker}” is somebody else in each recording; name the recording as well.")
    recordings = toolbox.library.recordings()
    own = {
        recording.id: {name for name in recording.speakers if folded_name(name) == folded_name(speaker)}
        for recording in recordings
    }
    voices = frozenset().union(*own.values())
    if not voices:
        raise InvalidInput(f"There is no speaker “{speaker}” in any recording.")
    return voices, [recording.id for recording in recordings if own[recording.id]]


def _maybe(toolbox: Toolbox, named: Recording | None, voices: frozenset[str] | None, query: str) -> list[str]:
    """Who else may be the speaker that is asked for, or somebody whom the query names, a sentence each."""
    wanted, words = {folded_name(name) for name in voices or ()}, _words(query)
    return [
        f"{speaker} in “{toolbox.library.recording(recording).title}” may be {voice}, "
        "which nobody has confirmed."
        for recording, unsure in toolbox.may_be(named.id if named else None).items()
        for speaker, voice in unsure.items()
        if folded_name(voice) in wanted or _words(voice) in words
    ]


def _verbatim(
    query: str, said: Sequence[Segment], ranked: Sequence[tuple[Segment, float]]
) -> list[tuple[Segment, float]]:
    """The ranked segments, led by those that contain the query word for word (two words at least)."""
    wanted = _words(query)
    if " " not in wanted.strip():
        return list(ranked)
    own = {segment.id: relevance for segment, relevance in ranked}
    exact = {segment.id: segment for segment in said if wanted in _words(segment.text)}
    first = sorted(exact.values(), key=lambda segment: -own.get(segment.id, 0.0))[:MOST_VERBATIM]
    rest = [(segment, relevance) for segment, relevance in ranked if segment.id not in exact]
    return [(segment, VERBATIM) for segment in first] + rest


def _words(text: str) -> str:
    return f" {' '.join(search_words(text))} "


def _with_replies(
    ranked: Sequence[tuple[Segment, float]], hits: Sequence[Hit], voices: frozenset[str] | None
) -> list[Evidence]:
    """Evidence of the ranked segments, each matching question followed by the reply it got."""
    every = sorted(
        (segment for hit in hits for segment in hit.segments),
        key=lambda segment: (segment.recording, segment.start, segment.id),
    )
    after = {later.id: early.id for early, later in pairwise(every) if early.recording == later.recording}
    spoken = [segment for segment in every if segment.kind == "speech"]
    places = {segment.id: at for at, segment in enumerate(spoken)}
    items: dict[int, Evidence] = {}

    def add(segment: Segment, relevance: float, reply_to: int | None = None) -> None:
        item = Evidence.of(segment, round(relevance, 3), reply_to)
        items[segment.id] = item.model_copy(update={"after": after.get(segment.id)})

    for segment, relevance in ranked:
        asked = _question_of(spoken, places[segment.id]) if segment.id in places else None
        is_heard = asked is not None and (voices is None or asked.speaker in voices)
        if asked is not None and is_heard and len(search_terms(segment.text)) <= WORDS_OF_REPLY:
            # A few words say little without what they reply to.
            known = items.get(asked.id)
            add(asked, max(relevance * REPLY_SHARE, known.relevance if known else 0.0))
            add(segment, relevance, asked.id)
        if segment.id not in items:
            add(segment, relevance)
        for reply in _reply(spoken, places[segment.id]) if segment.id in places else ():
            if voices is None or reply.speaker in voices:
                known = items.get(reply.id)
                # What is relevant by itself keeps its own relevance.
                add(reply, max(relevance * REPLY_SHARE, known.relevance if known else 0.0), segment.id)
    best = max(items.values(), key=lambda item: item.relevance, default=None)
    if best is not None and best.id in places and not best.reply_to and not asks_something(best.text):
        # What answers is seldom said in one sentence, but for a reply, which has its question.
        before, *rest = spoken[places[best.id] : places[best.id] + 2]
        for segment in rest:
            if segment.id not in items and _goes_on(before, segment):
                add(segment, best.relevance * REPLY_SHARE)
    return sorted(items.values(), key=lambda item: -item.relevance)


def _reply(spoken: Sequence[Segment], at: int) -> list[Segment]:
    """What another voice (or an unknown one) says at once to the question at a place of a talk.

    Who asks may go on before the other begins, and a reply may begin with a word or two (“Well.”).
    """
    question = spoken[at]
    if not asks_something(question.text):
        return []
    begins = at + 1
    while begins < min(len(spoken), at + 1 + MOST_GONE_ON) and _goes_on(spoken[begins - 1], spoken[begins]):
        begins += 1
    reply: list[Segment] = []
    for before, segment in pairwise(spoken[begins - 1 : begins + MOST_IN_REPLY]):
        is_same = segment.recording == before.recording and (not reply or segment.speaker == before.speaker)
        if not is_same or segment.start - before.end > REPLY_WITHIN_S:
            break
        if not reply and question.speaker is not None and segment.speaker == question.speaker:
            break
        reply.append(segment)
        if sum(len(search_terms(said.text)) for said in reply) >= WORDS_OF_REPLY:
            break
    return reply


def _question_of(spoken: Sequence[Segment], at: int) -> Segment | None:
    """The question of another voice to which the segment at a place of a talk replies at once."""
    asked = spoken[at - 1] if at else None
    if asked is None or not asks_something(asked.text) or asks_something(spoken[at].text):
        return None
    return asked if spoken[at].id in {reply.id for reply in _reply(spoken, at - 1)} else None


def _goes_on(before: Segment, segment: Segment) -> bool:
    """Whether a voice that is known says the second segment right after the first."""
    is_own = segment.speaker is not None and segment.speaker == before.speaker
    return is_own and segment.recording == before.recording and segment.start - before.end <= REPLY_WITHIN_S


def _passages(
    hits: Sequence[Hit], items: Sequence[Evidence], recordings: Mapping[str, Recording]
) -> tuple[Passage, ...]:
    """The stretches that were found, and others that hold evidence, with the ids they hold."""
    ids = {item.id for item in items}

    def held(hit: Hit) -> tuple[int, ...]:
        return tuple(segment.id for segment in hit.segments if segment.id in ids)

    return tuple(
        Passage(
            recording=hit.recording,
            title=recordings[hit.recording].title,
            start=round(hit.start, 3),
            end=round(hit.end, 3),
            score=round(hit.score, 5),
            evidence=held(hit),
        )
        for number, hit in enumerate(hits)
        if hit.recording in recordings and (number < PASSAGES or held(hit))
    )


def search_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(query: str, recording: str | None = None, speaker: str | None = None) -> SearchResult:
        return search_recordings(toolbox, query, recording, speaker)

    return make_tool(
        "search_recordings",
        "Find what was said about something.",
        SearchRecordings,
        run,
    )
