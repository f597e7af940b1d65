"""Decisions, action items and open questions among the sentences of a recording.

What is said in so many words (``index/summary/speech_acts.py``) is listed, and what a reader of the talk
takes for one (``index/reading/reader.py``). In a long recording the reader must be surer, and decisions are
taken from it only where it finds many close together: people settle one thing after the other there.
Elsewhere, where it is mostly wrong, the exchanges in which something is decided as far as can be learned
(``index/summary/deciding.py``) are listed. Of too many the best scored are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from index.reading.reader import ACTS
from index.records import ActionItem, Item, Span
from index.speaker_names import called, plausible_name
from index.summary import speech_acts as acts
from index.summary.deciding import scores as stretch_scores
from index.summary.sentence_scores import KINDS, Sentence
from index.text import stem, words
from index.vocabulary import STOP_WORDS

REPLY_SECONDS = 12.0
"""A request or proposal is answered within this time."""

REPLY_SENTENCES = 4
"""… and within so many sentences."""

READ_FROM = {"decision": 0.0, "action": -0.5, "open": 0.0}
"""Log-odds from which the reader takes a sentence for one, …"""

SURER = 1.0
"""… and what is added to that in a long recording (``LONG``), in which there is more that can be wrong, …"""

READ_WITH = -2.0
"""… and from which a neighbour of such a sentence is quoted with it, …"""

MOST_READ = 3
"""… up to so many sentences in all."""

SAME_EXCHANGE = 8
"""Sentences before and behind something that is said in so many words in which nothing else is read. Chosen
with the sample in view: half of it lists a step on the way to a decision there. On the talks of ``val``, half
of it lists 0.02 more of the decisions, as precisely."""

CLOSE_TOGETHER, WITHIN = 6, 300
"""So many decisions that say something by themselves, within so many sentences, count in a long recording.
No meeting of ``val`` has so many, and of 108 that are read there 6 lie where people wrote a decision down;
nearly all of what is read in joined talks does (benchmarks/README.md)."""

FEWEST = 4
"""So many decisions and open questions that are said in so many words are listed of a short recording, …"""

SENTENCES_EACH = 150
"""… and of a long one at most one in so many sentences."""

LONG = 300
"""Sentences from which a recording is a long one: the reader must be surer, and exchanges are listed in which
something is decided though nobody says so. In 158 long meetings, 18 of 107 sentences such as “we decided” lie
where people wrote a decision down, so they count there only as “that's carried” does."""

DECIDING_LEAST = -2.5
"""Log-odds from which such an exchange is listed: where cross-validation on the meetings that it was learned
from (``benchmarks/train_summaries.py``) finds 0.47 of what people wrote down."""

SENTENCES_A_DECISION = 100
"""Such exchanges are at most one in so many sentences, which few recordings reach."""

EXCHANGE = 20
"""Sentences on each side of the best place that belong to such an exchange: what proves a written decision
lies scattered over 35 to 57 sentences in the meetings that it was learned from. No two exchanges overlap."""

SAID_NEAR = 6
"""So far from the best place lies the sentence that is quoted, the one that most says a decision, …"""

LEAST_QUOTED = 6
"""… of so many words at least."""

SAID_PLAINLY = 2.0
"""What "we have decided" adds to the log-odds."""

ACTION_LEAST = -3.0
"""Log-odds from which a promise without a date is taken for an action item."""

RECAP_SECONDS = 30.0
"""So long after "let me sum up" what is said repeats something, …"""

RECALLED = 0.2
"""… if it shares this part of its content words with earlier items."""

QUOTED_WORDS = 25
"""Words of an exchange that are quoted, since fragments of talk say nothing alone."""

LEAST_CONTENT = 3
"""Content words from which a decision says what was decided."""

REPEATED = 0.6
"""Share of an item's content words that an earlier item has, from which it repeats it."""

_TELLS = "(?:is|was|has|does|says|tells|thinks|means|knows|believes|asks|wants|likes|seems|needs|hopes|feels)"
_ASSIGNED = re.compile(
    rf"\b(?P<name>[A-Z][\w'’-]+)\s+(?:will|is\s+going\s+to|has\s+to|needs\s+to|should|can|(?!{_TELLS}\b)(?P<verb>[a-z]+s))\s+\w+"
)
"""What somebody is to do, who is named; what “Graham says that” tells of is no task."""
_POINTS_BACK = re.compile(r"\b(?:it|that|this|them|him|her|those|these|they)\b", re.IGNORECASE)

T = TypeVar("T", bound=Item)


def joined(said: Sequence[Sentence]) -> Item:
    """Neighbouring sentences as one item."""
    segments = tuple(dict.fromkeys(sentence.segment.id for sentence in said))
    text = " ".join(sentence.text for sentence in said)
    return Item(text, said[0].start, max(sentence.end for sentence in said), segments, said[-1].speaker)


def spans(read: np.ndarray, kind: str) -> list[tuple[int, int]]:
    """The stretches ``[first, last)`` that the reader takes for something, in order.

    Args:
        read: Log-odds of each sentence, float32 ``[n_sentences, 3]``, in the order of ``ACTS``.
        kind: ``decision``, ``action`` or ``open``.
    """
    odds = read[:, ACTS.index(kind)]
    least = READ_FROM[kind] + SURER * (len(odds) >= LONG)
    taken: set[int] = set()
    found: list[tuple[int, int]] = []
    for at in np.argsort(-odds, kind="stable").tolist():
        if odds[at] < least:
            break
        if at in taken:
            continue
        first, last = at, at + 1
        while last - first < MOST_READ:
            beside = [
                other
                for other in (first - 1, last)
                if 0 <= other < len(odds) and other not in taken and odds[other] >= READ_WITH
            ]
            if not beside:
                break
            other = max(beside, key=lambda number: float(odds[number]))
            first, last = min(first, other), max(last, other + 1)
        taken.update(range(first, last))
        found.append((first, last))
    return sorted(found)


def decisions(
    said: Sequence[Sentence], scores: np.ndarray, vectors: np.ndarray, read: np.ndarray | None = None
) -> list[Item]:
    """What was decided, in order.

    Args:
        said: Sentences in order.
        scores: float32 ``[n_sentences, len(KINDS)]``.
        vectors: Embeddings of the sentences' segments, float32 ``[n_sentences, dimensions]``.
        read: What a reader says of the sentences, as ``spans`` takes it.
    """
    deciding = scores[:, KINDS.index("deciding")]
    settled = [] if read is None else _telling(said, _settled(said, read))
    if len(said) >= LONG:
        texts, speakers = [sentence.text for sentence in said], [sentence.speaker for sentence in said]
        chosen = [
            at
            for at in places(stretch_scores(texts, speakers, scores, vectors))
            if all(last <= at - EXCHANGE or first > at + EXCHANGE for first, last in settled)
        ]
        exchanges = [_exchange(said, at, deciding) for at in chosen]
        apart = {
            at: float(deciding[at])
            for at, text in enumerate(texts)
            if acts.settles(text) and all(abs(at - other) > EXCHANGE for other in chosen)
        }
        plain = [_decided(said, at) for at in _best(apart, len(said) // SENTENCES_EACH)]
        return sorted([*exchanges, *_beside(settled, said, plain)], key=lambda item: item.start)
    found: dict[int, float] = {}
    for at, sentence in enumerate(said):
        reply = _reply(said, at)
        agreed = reply is not None and acts.agrees(said[reply].text)
        text = sentence.text
        # "Let's meet on Friday" is something to do, not something decided.
        proposed = (agreed and acts.proposes(text)) or acts.concludes(text)
        proposed = proposed and not acts.due_words(text)
        if acts.decides(text) or proposed:
            found[at] = float(deciding[at]) + SAID_PLAINLY * acts.decides(text)
    plain = [_decided(said, at) for at in _best(found, FEWEST)]
    return _beside(settled, said, plain)


def _settled(said: Sequence[Sentence], read: np.ndarray) -> list[tuple[int, int]]:
    """The stretches in which the reader takes something for settled rather than left open."""
    settled, left_open = read[:, ACTS.index("decision")], read[:, ACTS.index("open")]
    found = [
        (first, last)
        for first, last in spans(read, "decision")
        if settled[first:last].max() > left_open[first:last].max()
        and not any(acts.leaves_open(sentence.text) for sentence in said[first:last])
    ]
    return _close_together(said, found) if len(said) >= LONG else found


def _close_together(said: Sequence[Sentence], places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the stretches that lie where many say something by themselves, close together."""
    telling = [first for first, last in places if _is_telling(said[first:last])]
    ends = zip(telling, telling[CLOSE_TOGETHER - 1 :], strict=False)
    parts = [(begin, end) for begin, end in ends if end - begin <= WITHIN]
    return [place for place in places if any(begin <= place[0] <= end for begin, end in parts)]


def _beside(places: Sequence[tuple[int, int]], said: Sequence[Sentence], plain: Sequence[Item]) -> list[Item]:
    """What is said in so many words, and what was read elsewhere, not in the same exchange, in order."""
    known = {number for item in plain for number in item.segments}
    near = {
        other
        for at, sentence in enumerate(said)
        if sentence.segment.id in known
        for other in range(at - SAME_EXCHANGE, at + SAME_EXCHANGE + 1)
    }
    read = [joined(said[first:last]) for first, last in places if near.isdisjoint(range(first, last))]
    return sorted([*plain, *read], key=lambda item: item.start)


def _telling(said: Sequence[Sentence], places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches with what was said before them where they say nothing alone (“So that's carried.”); not
    those that say nothing then either (“Yeah. So. Okay.”), nor one that would reach into the one before."""
    found: list[tuple[int, int]] = []
    for first, last in places:
        begin = _begin(said, first, last)
        if _is_telling(said[begin:last]) and (not found or found[-1][1] <= begin):
            found.append((begin, last))
    return found


def _begin(said: Sequence[Sentence], first: int, last: int) -> int:
    """Where a stretch must begin to say something, a few sentences before it at most."""
    begin = first
    while begin > max(0, first - REPLY_SENTENCES) and _near(said[begin - 1], said[begin]):
        if _is_telling(said[begin:last]):
            break
        begin -= 1
    return begin


def _is_telling(said: Sequence[Sentence]) -> bool:
    return len(_content(" ".join(sentence.text for sentence in said))) >= LEAST_CONTENT


def _decided(said: Sequence[Sentence], at: int) -> Item:
    """A decision, with what was said before it where it says nothing alone."""
    return joined(said[_begin(said, at, at + 1) : at + 1])


def places(values: np.ndarray, least: float = DECIDING_LEAST) -> list[int]:
    """The best places of exchanges in which something is decided, in order.

    Args:
        values: Log-odds of each sentence, ``[n_sentences]``.
        least: Those from which a place counts.
    """
    chosen: list[int] = []
    for at in np.argsort(-values, kind="stable").tolist():
        if len(chosen) >= len(values) // SENTENCES_A_DECISION or values[at] < least:
            break
        if all(abs(at - other) > 2 * EXCHANGE for other in chosen):
            chosen.append(at)
    return sorted(chosen)


def around(at: int, count: int) -> tuple[int, int]:
    """The first sentence of the exchange around a place, and the one behind it, of so many in all."""
    return max(0, at - EXCHANGE), min(count, at + EXCHANGE + 1)


def open_questions(
    said: Sequence[Sentence], scores: np.ndarray, read: np.ndarray | None = None
) -> list[Item]:
    """What was left open, in order: what people say is undecided, and questions that nobody could answer."""
    found: dict[int, Item] = {}
    last = None
    for at, sentence in enumerate(said):
        reply = _reply(said, at) if acts.asks(sentence.text) and len(sentence.text.split()) >= 4 else None
        if not (acts.leaves_open(sentence.text) or (reply and acts.has_no_answer(said[reply].text))):
            continue
        if last is not None and at - last[1] <= REPLY_SENTENCES and _near(said[last[1]], sentence):
            found[last[0]] = joined(said[last[0] : at + 1])
            last = (last[0], at)
        else:
            found[at], last = joined([sentence]), (at, at)
    open_ness = {at: float(scores[at, KINDS.index("question")]) for at in found}
    plain = [found[at] for at in _best(open_ness, max(FEWEST, len(said) // SENTENCES_EACH))]
    return plain if read is None else _beside(_telling(said, spans(read, "open")), said, plain)


def action_items(
    said: Sequence[Sentence], scores: np.ndarray, names: Mapping[str, str], read: np.ndarray | None = None
) -> list[ActionItem]:
    """Who is to do what, in order, with owner and due words as they were said.

    Args:
        said: Sentences in order.
        scores: float32 ``[n_sentences, len(KINDS)]``.
        names: Names inferred for labels; an owner is shown by name where one is known.
        read: What a reader says of the sentences, as ``spans`` takes it.
    """
    found: list[ActionItem] = []
    taken: set[int] = set()
    for at in range(len(said)):
        if at in taken:
            continue
        item, used = _action(said, at, names, float(scores[at, KINDS.index("action")]))
        if item:
            found.append(item)
            taken |= used
    for first, last in [] if read is None else spans(read, "action"):
        if taken.isdisjoint(range(first, last)):
            found.append(_task(said, first, last, names))
    return sorted(found, key=lambda item: item.start)


def _task(said: Sequence[Sentence], first: int, last: int, names: Mapping[str, str]) -> ActionItem:
    """A stretch in which somebody takes a task on; who, and by when, is read where it is said."""
    item = joined(said[first:last])
    due = None
    for sentence in said[first:last]:
        due = acts.firmer(due, acts.due_words(sentence.text, is_task=True))
    promised = [at for at in range(first, last) if acts.promises(said[at].text)]
    named = next((name for at in range(first, last) if (name := _assigned(said[at].text))), None)
    if promised:
        owner = said[promised[-1]].speaker
    elif acts.asks(said[first].text) or not named:
        # Who answers takes on what they are asked to do.
        owner = said[last - 1].speaker
    else:
        owner = named
    shown = names.get(owner, owner) if owner else None
    return ActionItem(item.text, item.start, item.end, item.segments, item.speaker, shown, due)


def _action(
    said: Sequence[Sentence], at: int, names: Mapping[str, str], score: float
) -> tuple[ActionItem | None, set[int]]:
    """The action item that begins with a sentence, and the sentences that it takes up."""
    text = said[at].text
    requested, promised, due = acts.requests(text), acts.promises(text), acts.due_words(text)
    assigned = _assigned(text) if due and not acts.asks(text) else None
    duty = acts.names_duty(text) and not promised
    if acts.leaves_open(text) or not (requested or promised or assigned or duty):
        return None, set()
    owner = (
        said[at].speaker if promised and not requested else assigned or (called(text) if requested else None)
    )
    parts = [at]
    offered = False
    reply = _answer(said, at) if requested or not promised else None
    if reply is not None:
        answer = said[reply].text
        if requested and acts.refuses(answer):
            return None, set()
        offered, later = acts.promises(answer), acts.due_words(answer)
        if offered or (requested and acts.agrees(answer)):
            owner = owner or said[reply].speaker
            due = acts.firmer(due, later)
            parts += [reply] if offered or later else []
    # "I promise to …" says what it does; how the rest of the sentence reads is no matter.
    likely = promised and (score >= ACTION_LEAST or acts.vows(text))
    if not due and len(_content(" ".join(said[part].text for part in parts))) < 2:
        return None, set()
    if not (due or likely or offered or (requested and owner)):
        return None, set()
    used = set(parts)
    before = said[at - 1] if at else None
    points_back = _POINTS_BACK.search(acts.first_clause(text))
    if before and promised and len(parts) == 1 and points_back and _near(before, said[at]):
        parts = [at - 1, at]
    item = joined([said[part] for part in parts])
    due = due or acts.due_words(said[parts[-1]].text, is_task=True)
    shown = names.get(owner, owner) if owner else None
    return ActionItem(item.text, item.start, item.end, item.segments, item.speaker, shown, due), used


def _answer(said: Sequence[Sentence], at: int) -> int | None:
    """Where what a sentence asks for is answered: nothing else is asked in between; "Will do." is passed over
    if its speaker then says what."""
    reply = _reply(said, at)
    if reply is None or any(
        acts.requests(other.text) or acts.names_duty(other.text) for other in said[at + 1 : reply]
    ):
        return None
    goes_on = reply + 1 < len(said) and said[reply + 1].speaker == said[reply].speaker
    only_yes = acts.agrees(said[reply].text) and not acts.promises(said[reply].text)
    return reply + 1 if goes_on and only_yes and acts.promises(said[reply + 1].text) else reply


def _assigned(text: str) -> str | None:
    """Who is said to do something: "Helena will apply", "Petra talks to the town"."""
    return next(
        (
            match["name"]
            for match in _ASSIGNED.finditer(text)
            if plausible_name(match["name"]) and match["verb"] not in STOP_WORDS
        ),
        None,
    )


def _reply(said: Sequence[Sentence], at: int) -> int | None:
    """The next sentence of another voice, if it comes soon enough to be an answer."""
    for other in range(at + 1, min(at + 1 + REPLY_SENTENCES, len(said))):
        if said[other].start - said[at].end > REPLY_SECONDS:
            return None
        if said[other].speaker != said[at].speaker:
            return other
    return None


def _near(before: Sentence, after: Sentence) -> bool:
    return after.start - before.end <= REPLY_SECONDS


def _exchange(said: Sequence[Sentence], at: int, deciding: np.ndarray) -> Item:
    """The exchange around a place; quoted is what says most plainly that something is decided."""
    first, last = around(at, len(said))
    near = range(max(first, at - SAID_NEAR), min(last, at + SAID_NEAR + 1))
    full = [number for number in near if len(said[number].text.split()) >= LEAST_QUOTED] or [at]

    def says(number: int) -> float:
        text = said[number].text
        return float(deciding[number]) + SAID_PLAINLY * (acts.decides(text) or acts.concludes(text))

    quoted = joined(_stretch(said, max(full, key=says), QUOTED_WORDS))
    whole = said[first:last]
    exchange = Span(whole[0].start, max(sentence.end for sentence in whole))
    return replace(quoted, exchange=exchange)


def _stretch(said: Sequence[Sentence], at: int, enough: int) -> Sequence[Sentence]:
    """The sentences around one, until they have so many words."""
    first, last = at, at + 1
    while sum(len(sentence.text.split()) for sentence in said[first:last]) < enough:
        if first == 0 and last == len(said):
            break
        first, last = max(0, first - 1), min(len(said), last + 1)
    return said[first:last]


def _best(scored: Mapping[int, float], most: int) -> list[int]:
    """The positions of the best scores, in order."""
    return sorted(sorted(scored, key=lambda at: -scored[at])[:most])


def without_repeats(said: Sequence[Sentence], *kinds: Sequence[T]) -> list[list[T]]:
    """Items of several kinds without those that only repeat what earlier ones, of any kind, have said.

    While somebody sums up, a few words in common are enough.
    """
    recaps = [sentence.end for sentence in said if acts.sums_up(sentence.text)]
    order = sorted(
        ((item.start, kind, item) for kind, items in enumerate(kinds) for item in items), key=lambda x: x[:2]
    )
    kept: list[list[T]] = [[] for _ in kinds]
    earlier: list[tuple[Item, set[str]]] = []
    for start, kind, item in order:
        recap = any(0 <= start - end <= RECAP_SECONDS or item.start <= end <= item.end for end in recaps)
        known = [content for other, content in earlier if not set(other.segments) & set(item.segments)]
        mine = _content(item.text)
        again = max((len(mine & content) for content in known), default=0) >= REPEATED * len(mine)
        recalled = recap and len(mine & set().union(*known)) >= RECALLED * len(mine)
        if len(mine) >= 2 and (again or recalled):
            continue
        kept[kind].append(item)
        earlier.append((item, mine))
    return kept


def _content(text: str) -> set[str]:
    return {stem(word) for word in words(text) if word not in STOP_WORDS}
