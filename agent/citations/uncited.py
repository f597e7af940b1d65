"""Sentences of a language model that say something about a recording and cite nothing: found, and marked.

What else a model writes is left alone: questions, headings, what leads to a list, denials, words to the user
about the conversation itself, and facts that a tool told and no segment can be cited for. All of it goes by
closed lists of words, so that a sentence which is not understood is marked rather than believed.

``Facts`` holds what tools told that no segment can be cited for: titles, lengths, speakers, remarks. Lists of
words and turns of phrase follow it, then how a line is cut into sentences, then the marking itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.citations.markers import TOKEN, bullet
from agent.citations.quotes import fold
from index.vocabulary import CORE_WORDS, NUMBERS, word_set

NAME = "\x03"
"""What stands for a name of the record in text whose names were blotted out."""

_STATEMENTS = ("note", "error", "answer", "overview")
"""Fields whose value is said about a recording, in words."""
_SPOKEN = ("evidence", "points", "text", "query", "segments")
"""Fields that hold what was said, which is to be cited, or only repeat what was asked for."""
_OF_CITED = ("title", "start", "end")
"""What is learnt of something that has segments to cite."""
_TOKEN = re.compile(r"\d+(?::\d\d)+|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|\x03")
_NUMBERS = {word: str(number) for word, number in {**NUMBERS, "twenty": 20}.items()}


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, small; numbers up to twenty in digits."""
    return [_NUMBERS.get(word, word) for word in _TOKEN.findall(text.casefold().replace("’", "'"))]


class Facts:
    """What tools have told so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """Titles and speakers, folded."""
        self.numbers: set[str] = set()
        """Lengths, dates and counts, in each way they are likely to be written."""
        self.words: set[str] = set()
        """Other values, e.g. a status."""
        self.statements: list[frozenset[str]] = []
        """Remarks, errors and a listener's answers, as sets of words."""

    def learn(self, result: Mapping[str, Any]) -> None:
        """Add what a tool returned."""
        for key, value in result.items():
            self._take(str(key), value)

    def without_names(self, text: str) -> str:
        """The text with each name in it blotted out, quotation marks and case apart."""
        plain = text.casefold()
        for name in sorted(self.names, key=len, reverse=True):
            pattern = r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", name)))
            plain = re.sub(rf"(?<!\w){pattern}(?!\w)", NAME, plain)
        return plain

    def echoes(self, words: set[str]) -> bool:
        """Whether all of some words stand in one statement."""
        return bool(words) and any(words <= statement for statement in self.statements)

    def _take(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            if key in _STATEMENTS:
                self.statements.append(frozenset(words_of(value)))
            elif key == "title" or key in ("speakers", "speaker"):
                self._name(value)
            elif key not in _SPOKEN and key not in ("id", "recording"):
                self._learn_words(value)
        elif isinstance(value, bool) or value is None:
            return
        elif isinstance(value, (int, float)):
            self.numbers |= _written(value)
        elif isinstance(value, Mapping):
            cited = "segments" in value or "evidence" in value
            for field, inner in value.items():
                if not cited or field in _OF_CITED:
                    self._take(str(field), inner)
        elif isinstance(value, list):
            self._list(key, value)

    def _list(self, key: str, values: list[Any]) -> None:
        if key not in _SPOKEN:
            self.numbers.add(str(len(values)))
            for value in values:
                self._take(key, value)
            return
        for value in values:
            if isinstance(value, Mapping) and isinstance(value.get("speaker"), str):
                self._name(value["speaker"])

    def _name(self, name: str) -> None:
        if any(map(str.isalnum, name)):
            self.names.add(fold(name))

    def _learn_words(self, text: str) -> None:
        for word in words_of(text):
            (self.numbers if word[0].isdigit() else self.words).add(word.lstrip("0") or "0")
            if word[0].isdigit():
                self.numbers.add(word)


def _written(value: float) -> set[str]:
    """A number, and where it may be seconds also as a clock has it and as minutes, as people write them."""
    if not 0 <= value < 1e9:
        return {str(value)}
    whole = round(value)
    ways = {str(value), str(whole), str(int(value)), f"{value:.1f}", f"{value:.2f}", str(round(100 * value))}
    for seconds in {whole, int(value)}:
        minutes, rest = divmod(seconds, 60)
        hours, left = divmod(minutes, 60)
        ways |= {f"{minutes}:{rest:02d}", f"{hours}:{left:02d}:{rest:02d}"}
        ways |= {str(minutes), str(round(seconds / 60)), str(rest), f"{seconds / 60:.1f}"}
        ways |= (
            {str(hours), str(left), str(round(seconds / 3600)), f"{seconds / 3600:.1f}"} if hours else set()
        )
    return ways


ABOUT_OTHERS = word_set("he she they him her them himself herself themselves his their hers theirs we us our")
"""Who is neither of the two that talk."""

FUNCTION = (
    CORE_WORDS
    | ABOUT_OTHERS
    | word_set(
        """all also another around being between both e.g each etc first following having here i.e it's last
        next one ones onto other out over per second since that's there's these third those too up via"""
    )
)
"""Words that say nothing by themselves."""

ADDRESS = word_set(
    """i i'm i'll i've i'd me my you you're you'd your let let's please hello hi hey thanks thank sorry
    welcome sure okay ok here looking searching ask"""
)
"""Words by which a sentence is known to be one of the conversation itself."""

TALK = ADDRESS | word_set(
    """course asking asked question questions answer answers can could may might like want know help search
    searched look looked read reading listen listening listened found find summarise summarize summary quote
    quotes quoting cite citing recording recordings transcript transcripts minute minutes time times any
    anything something everything more else again why try tell say saying said show listing list lists still
    wait moment just need below above place places section sections part parts result results good morning
    afternoon evening day happy glad now if passage passages word words cannot can't not don't couldn't no
    conversation conversations name named exact exactly relevant right library today further detail details
    go through check checked come back unfortunately"""
)
"""Words of a conversation about recordings."""

RECORD = word_set(
    """recording recordings file files library speaker speakers voice voices people person participant
    participants minute minutes min second seconds sec hour hours long length lasts lasted duration title
    titles titled called named name names language spoken english german french spanish italian dutch
    portuguese chinese japanese status ready done complete coverage covered covers percent transcribed
    transcript transcripts added total time approximately exactly roughly nearly almost just speaking speaks
    speak talking talks talk heard gap gaps together altogether respectively beginning start starts begins
    end ends ending"""
)
"""Words for what a recording is, beside what is said in it."""

TOLD = (FUNCTION - ABOUT_OTHERS) | RECORD | {"they"}
"""Words that may stand around names and numbers of the record."""

SAYING = FUNCTION | word_set(
    """says say said asks asked adds added replies replied answers answered explains explained notes noted
    suggests suggested states stated repeats repeated later again words someone somebody speaker"""
)
"""Words around a quote."""

PLAIN_ANSWER = FUNCTION | word_set(
    "yes no not indeed correct right exactly didn't doesn't don't isn't wasn't aren't weren't"
)
"""Words of an answer that rests on the sentence beside it."""

LOOKED = re.compile(
    r"\s*(?:here(?:'s| is| are)|below (?:is|are)|this is (?:what|where|how)|these are|let me|"
    r"i(?:'ll| will| can| could| looked| searched| listened| read)|you (?:can|asked)|if you|ask)\b",
    re.I,
)
"""Beginnings of sentences on what was asked for; they may repeat the question's words."""

_NOT = r"(?:not|never|\w+n['’]t)"
_SAID = (
    r"(?:said|mentioned|discussed|talked about|spoken of|brought up|stated|addressed|heard|found|detected|"
    r"recorded|transcribed)"
)
_FIND = r"(?:find|see|hear|tell|say|verify|confirm|determine|answer|know|locate|identify|be sure)"
_SAY = (
    r"(?:say|said|mention\w*|discuss\w*|talk(?:ed)? about|speak of|spoken of|stated?|brought up|come up|"
    r"came up|specify|specified|clear from|heard)"
)
_TOPIC = r"(?:mention|evidence|information|record|reference|answer|word|discussion|talk|relevant|about|said)"
_DENIALS = (
    # I could not find, we found nothing
    rf"\b(?:i|we)\b[^.]{{0,30}}?\b(?:{_NOT}|cannot)\s+(?:\w+\s+){{0,2}}?{_FIND}\b",
    r"\b(?:i|we)\s+(?:have\s+)?(?:found|find|see|have|heard)\s+(?:no|nothing|none)\b",
    r"\b(?:found|contains?)\s+(?:no|nothing)\s+(?:mention|evidence|information|record|reference|about|on)\b",
    rf"\b(?:{_NOT}|no)\s+(?:\w+\s+)?(?:enough|sufficient)\s+(?:information|evidence|context)\b",
    rf"\b(?:nobody|no one|none of them)\s+(?:\w+ly\s+|ever\s+)?{_SAY}\b",
    # nothing was said, no penguins are mentioned
    r"\b(?:nothing|none|no one|nobody|no)\b[^.]{0,50}?\b(?:is|are|was|were|been|gets|got)\s+"
    rf"(?:\w+ly\s+|ever\s+)?{_SAID}\b",
    # that was not said, they never discussed it
    rf"\b{_NOT}\s+(?:\w+ly\s+|ever\s+|been\s+){{0,2}}{_SAY}\b",
    r"\b(?:recordings?|transcripts?|evidence)\s+(?:do|does|did)\s*(?:not|n['’]t)\s+(?:contain|cover|include)\b",
    r"\b(?:there\s+(?:is|was|are|were)|there's|has|have|contains?)\s+(?:no|nothing|not any)\s+(?:\w+\s+)?"
    rf"{_TOPIC}\b",
    r"\b(?:says?|said|mentions?|mentioned)\s+(?:nothing|no word)\b",
    r"^\W*(?:nothing|none)(?: relevant)?\W*$",
    r"(?:没有?|未|不)[^，。；,;]{0,12}(?:提到|提及|说|讨论|找到|出现|涉及)",
)
DENIES = re.compile("|".join(_DENIALS), re.I)
"""That something was not said, or not found."""

CLAUSE = re.compile(
    r"[;；]|[:：](?!\d)|，但|,?\s*\b(?:but|however|although|instead|because|while|whereas|therefore|then|yet|except|only|though)\b"
    r"|,\s*(?:and|he|she|they|it|the|which|who|so)\b"
    r"|\band\b(?=(?!.*\b(?:no|not|nothing|never|\w+n['’]t)\b).*\b(?:is|are|was|were|has|had|have|will|would|did|"
    r"does|\w{2,}ed)\b)",
    re.I,
)
"""Where a sentence may go on to say more than its denial."""


QUOTE, MARKER = "\x01", "\x02"
"""What stands in a mask for each character of a quote, and of a marker."""

# Not pysbd: it joins bracketed sentences and raises on odd characters (docs/dependencies.md), and here two
# sentences taken for one hide a claim behind its neighbour's citation.
_END = re.compile(
    rf"(?:(?<![.!?…])[.!?…]++[)\]*_~{QUOTE}'’”\"]*+(?:\s{{0,3}}{MARKER}++[.,;:!?]*+)*+(?:\s++|$)"
    rf"|[。！？]++[」』”’)]*+(?:\s{{0,3}}{MARKER}++[。，；]*+)*+\s*+)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|vs|cf|approx|ca|etc|e\.g|i\.e|z\.B|a\.m|p\.m|U\.S)\.$",
    re.I,
)
_AFTER_MARKER = re.compile(
    rf"(?<={MARKER})(?:\s*[,–—-]?\s+(?=(?:and|but|while|whereas|although|though|then|yet)\b)|\s*;\s+"
    r"|\s+(?=[A-Z]))"
)
_WORD = re.compile(r"[^\W_]+")
_FEWEST_WORDS = 3
"""Words that make a clause of what follows a marker without a full stop."""


def mask(line: str) -> str:
    """The line, of the same length, with quotes and markers blotted out.

    A full stop that ends a quote stays, as it may end the sentence too.
    """
    pieces: list[str] = []
    at = 0
    for match in TOKEN.finditer(line):
        pieces.append(_clean(line[at : match.start()]))
        length = match.end() - match.start()
        if match.group("marker"):
            pieces.append(MARKER * length)
        else:
            stop = match.group()[-2:-1]
            ends = length > 2 and stop in ".!?…。！？"
            pieces.append(QUOTE * (length - 2) + stop + QUOTE if ends else QUOTE * length)
        at = match.end()
    return "".join([*pieces, _clean(line[at:])])


def sentences(masked: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a masked line, markers with the sentence they follow; all of it is in one."""
    spans: list[tuple[int, int]] = []
    at = 0
    for match in _END.finditer(masked):
        following = masked[match.end() : match.end() + 1]
        stop = match.start() + 1
        single = masked[match.start() : stop] == "." and MARKER not in match.group()
        if following.islower() or (single and following and _ABBREVIATION.search(masked[at:stop])):
            continue
        spans += _clauses(masked, at, match.end())
        at = match.end()
    return [*spans, *_clauses(masked, at, len(masked))] if at < len(masked) else spans


def _clauses(masked: str, begin: int, end: int) -> list[tuple[int, int]]:
    """A sentence, cut behind markers where another statement goes on without a full stop."""
    spans: list[tuple[int, int]] = []
    at = begin
    for match in _AFTER_MARKER.finditer(masked, begin, end):
        before, after = masked[at : match.start()], masked[match.end() : end]
        if _WORD.search(before) and len(_WORD.findall(after)) >= _FEWEST_WORDS:
            spans.append((at, match.end()))
            at = match.end()
    return [*spans, (at, end)]


def _clean(text: str) -> str:
    return text.replace(QUOTE, " ").replace(MARKER, " ")


MARK = "[?]"
"""Stands where a citation would."""

LEGEND = f"{MARK} Nothing is cited for this, so it could not be checked against the recordings."
"""Stands once, below an answer with marks."""

_TAIL = " \t.,;:!?…。！？，；|*_"
_HEADING = re.compile(r"\*\*[^*]{1,100}\*\*:?|__[^_]{1,100}__:?")
_LONGEST_HEADING = 8
_LONGEST_LEAD = 12
"""Words of a heading, and of a line that ends with a colon."""


def unmarked(line: str) -> str:
    """A line without marks and without their legend: a model may have learnt them from its answers."""
    before = ""
    while line != before:
        first, *rest = line.split(MARK)
        before, line = (
            line,
            "".join([first.rstrip(" \t"), *(piece.rstrip(" \t") for piece in rest[:-1]), *rest[-1:]]),
        )
    return "" if line.strip() == LEGEND.removeprefix(MARK).strip() else line


def mark_uncited(line: str, facts: Facts, question: str = "") -> str:
    """The line with ``MARK`` in each sentence that claims something and cites nothing.

    Args:
        line: One line, checked: all markers are citations, all quotes stand in what the line cites.
        facts: What tools told.
        question: The user's question.
    """
    prefix = len(bullet(line))
    reader = _Reader(facts, set(words_of(question)))
    masked = mask(line)
    body = masked[prefix:]
    if _is_heading(line[prefix:], "#" in line[:prefix]) or not any(map(str.isalnum, line[prefix:])):
        return line
    pieces = [line[:prefix]]
    for begin, end in sentences(body):
        text = line[prefix + begin : prefix + end]
        quotes = QUOTE in body[begin:end]
        rests = MARKER in (body if quotes else body[end:])
        claimed = MARKER not in body[begin:end] and reader.claims(text, body[begin:end], rests)
        pieces.append(_with_mark(text) if claimed else text)
    return "".join(pieces)


def _is_heading(text: str, marked: bool) -> bool:
    short = len(words_of(text)) <= _LONGEST_HEADING
    bold = _HEADING.fullmatch(text.strip()) is not None
    return short and (marked or bold) and not text.rstrip(" *_:").endswith((".", "!"))


def _with_mark(text: str) -> str:
    at = len(text.rstrip(_TAIL))
    # Emphasis that ends here belongs to what it encloses.
    while at < len(text) and text[at] in "*_":
        at += 1
    return f"{text[:at]} {MARK}{text[at:]}"


class _Reader:
    """Tells claims from other sentences."""

    def __init__(self, facts: Facts, question: set[str]) -> None:
        self._facts = facts
        self._question = question

    def claims(self, text: str, masked: str, may_rest: bool) -> bool:
        """Whether a sentence without a marker claims something about a recording.

        Args:
            text: The sentence.
            masked: Its mask.
            may_rest: Whether its line has a citation to rest on: for a quote anywhere, else behind.
        """
        plain = masked.replace(QUOTE, " ")
        all_words = words_of(text)
        if not all_words or self._asks_or_leads(text, all_words) or self._denies(plain):
            return False
        words = words_of(self._facts.without_names(text))
        rests = may_rest and self._rests_on_a_neighbour(masked, plain)
        return not (rests or self._talks(text, words) or self._told(words))

    def _asks_or_leads(self, text: str, words: list[str]) -> bool:
        end = text.rstrip(" \t*_)”\"'")
        return end.endswith(("?", "？")) or (end.endswith((":", "：")) and len(words) <= _LONGEST_LEAD)

    def _denies(self, plain: str) -> bool:
        if not DENIES.search(plain):
            return False
        # “I looked, but nothing was said” denies, “he drank, but nothing was said” does not alone.
        return all(
            DENIES.search(clause) or set(words_of(clause)) <= (FUNCTION | TALK) - ABOUT_OTHERS
            for clause in CLAUSE.split(plain)
        )

    def _rests_on_a_neighbour(self, masked: str, plain: str) -> bool:
        """“Yes.” before what is cited, or a quote that stands in what its neighbour cites."""
        words = set(words_of(self._facts.without_names(plain))) - {NAME}
        return words <= (SAYING if QUOTE in masked else PLAIN_ANSWER)

    def _talks(self, text: str, words: list[str]) -> bool:
        """Words to the user: about the conversation, or about what follows."""
        said = set(words) - {NAME}
        if said & ABOUT_OTHERS or not said & ADDRESS:
            return False
        known: set[str] | frozenset[str] = FUNCTION | TALK
        if LOOKED.match(text) and "that" not in said:
            known = known | self._question | {word for word in said if word[0].isdigit()}
        return said <= known

    def _told(self, words: list[str]) -> bool:
        """What a tool told: fields of the record alone, or the words of one remark."""
        said = set(words)
        facts = self._facts
        rest = {word for word in said - {NAME} if word not in facts.numbers and word not in facts.words}
        named = NAME in said or bool(said & facts.numbers) or bool(said & facts.words)
        if named and rest <= TOLD:
            return True
        return facts.echoes({word for word in said - {NAME} if word not in FUNCTION})
