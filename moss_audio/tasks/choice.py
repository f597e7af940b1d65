"""Multiple choice, as the benchmarks of audio understanding ask it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from moss_audio.errors import PromptError
from moss_audio.tasks.cleaning import clean, without_fences
from moss_audio.tasks.results import Choice, Dropped, Parsed, has_words, one_line

DEFAULT_LETTERS = "ABCD"
"""The letters an answer may have where the options are not known."""

_BEFORE = r"[\s*_\"'“‘`(（\[【{]{0,6}"
_AFTER = r"(?=[\s*_\"'”’`)）\]】}.,:;!。，、：；]|\Z)"
_NOT_DENIED = r"(?!.{0,3}(?:is|was|isn)\b.{0,3}(?:not|wrong|incorrect|t)\b)"
_SAID = re.compile(
    r"(?i:(?:\banswer|\boption|\bchoice)(?:\s(?:is|would be|should be|must be))?(?!\s?not\b)[\s*_]{0,4}[:：]?"
    r"|\b(?:choose|select|pick|go with)(?:\s(?:option|answer))?"
    r"|(?:答案|选项)(?:应该|应)?[是为]?[:：]?|选择?|\\boxed)"
    rf"{_BEFORE}(?:(?i:option|choice|letter)\s)?{_BEFORE}([A-Z]){_AFTER}{_NOT_DENIED}"
)
"""A choice put in words; only a capital counts as a letter, and not the article in “the answer is A dog”."""

_ENDS = re.compile(r"(?:answer|choice|option)\W{1,4}([a-z])\W{0,12}\Z", re.IGNORECASE)
_ALONE = re.compile(r"\W{0,12}([A-Za-z])\W{0,12}")
_LEADING = re.compile(
    r"[\s*_\"'“>-]{0,8}(?:[(（\[【]([A-Za-z])[)）\]】]|([A-Z])[*_]{0,2}[.．、:：)）,，])[ \t*_]{0,4}"
)
_BRACKETED = re.compile(r"[(（\[【]([A-Z])[)）\]】]")
_CAPITAL = re.compile(rf"(?<![\w'’])([A-Z])(?![\w'’]){_NOT_DENIED}")
_ARTICLE = re.compile(r"A(?= (?!or\b|and\b|is\b|because\b|since\b|as\b)[a-z])|I(?= )")


def ask_choice(question: str, options: Sequence[str]) -> str:
    """Build the prompt of a multiple-choice question.

    The frame is the one the makers of MOSS-Audio published for their evaluation; letters follow the count of
    options, which they give for four.

    Args:
        question: One question.
        options: Two to twenty-six options, without letters.

    Raises:
        PromptError: Where there is nothing to choose from, or an option is empty.
    """
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise PromptError(f"A multiple-choice question needs 2 to 26 options, not {len(options)}.")
    lettered_options = list(zip(ascii_uppercase, options, strict=False))
    if empty := [letter for letter, option in lettered_options if not option.strip()]:
        raise PromptError(f"Option {empty[0]} is empty; give every option a text.")
    lettered = "\n".join(f"{letter}. {one_line(option)}" for letter, option in lettered_options)
    return f"{choice_frame(len(options))}\nQuestion: {question.strip()}\n{lettered}"


def choice_frame(count: int = len(DEFAULT_LETTERS)) -> str:
    """What a multiple-choice prompt says before its question, for so many options."""
    letters = ascii_uppercase[:count]
    if count == 2:
        both, either = " and ".join(letters), " or ".join(letters)
    else:
        both = f"{', '.join(letters[:-1])}, and {letters[-1]}"
        either = f"{', '.join(letters[:-1])}, or {letters[-1]}"
    return (
        f"Choose the most suitable answer from options {both} for the question on the next line. "
        f"You should output only {either}. Do not provide any additional explanations or content."
    )


def parse_choice(
    text: str, duration: float | None = None, options: Sequence[str] = ()
) -> Parsed[Choice | None]:
    """Find the option that an answer chooses.

    Looked for in this order, and the first sort that finds anything decides: the answer is just a letter; it
    says “the answer is B”; a line begins with a lettered option; the answer is the text of an option or
    names just one; a letter stands in brackets; a letter stands by itself.

    Args:
        text: What the model wrote.
        duration: Not used; every parser takes it.
        options: The options as they were asked; none if not known, then A to D are possible.

    Returns:
        The choice; None where nothing is chosen or more than one, with a report that says so. Words beyond
        the choice are reported.
    """
    answer, dropped = clean(text)
    answer, found = without_fences(answer)
    dropped += found
    letters = ascii_uppercase[: len(options)] or DEFAULT_LETTERS
    chosen = _chosen(answer, letters, options)
    if len(chosen) == 1 and chosen[0] in letters:
        option = options[letters.index(chosen[0])] if options else ""
        if has_words(_beyond(answer, chosen[0], option)):
            dropped.append(Dropped(answer.strip(), "says more than the choice", "explanation"))
        return Parsed(Choice(chosen[0], option), tuple(dropped))
    if not chosen:
        dropped.append(Dropped(answer.strip(), "chooses none of the options", "no choice"))
    elif len(chosen) == 1:
        reason = f"chooses {chosen[0]}, and options go from A to {letters[-1]}"
        dropped.append(Dropped(answer.strip(), reason, "no choice"))
    else:
        reason = f"may mean {', '.join(chosen[:-1])} or {chosen[-1]}"
        dropped.append(Dropped(answer.strip(), reason, "ambiguous"))
    return Parsed(None, tuple(dropped))


def _chosen(answer: str, letters: str, options: Sequence[str]) -> list[str]:
    """Letters that an answer may mean; one if it is clear."""
    if alone := _ALONE.fullmatch(answer):
        return [alone[1].upper()]
    in_words = [found for found in _SAID.finditer(answer) if not _ARTICLE.match(answer, found.start(1))]
    if said := _distinct(found[1] for found in in_words):
        return said
    if ends := _ENDS.search(answer):
        return [ends[1].upper()]
    if leading := _leading(answer, letters, options):
        return leading
    if named := _named(answer, letters, options):
        return named
    if bracketed := _distinct(match[1] for match in _BRACKETED.finditer(answer)):
        return bracketed
    return _distinct(
        match[1] for match in _CAPITAL.finditer(answer) if not _ARTICLE.match(answer, match.start())
    )


def _distinct(found: Iterable[str]) -> list[str]:
    return sorted(set(found))


def _leading(answer: str, letters: str, options: Sequence[str]) -> list[str]:
    """Letters with which lines begin, such as ``B. dog``; with them, an option named that is another one."""
    found: set[str] = set()
    for line in answer.splitlines():
        match = _LEADING.match(line)
        if match is None:
            continue
        letter = (match[1] or match[2]).upper()
        found.add(letter)
        rest = _plain(line[match.end() :])
        found |= {
            other for other, option in zip(letters, options, strict=False) if rest and rest == _plain(option)
        }
    return sorted(found | {match[1] for match in _BRACKETED.finditer(answer)} if found else ())


def _named(answer: str, letters: str, options: Sequence[str]) -> list[str]:
    """Options whose text the answer is, or else holds; one that lies only within another does not count."""
    whole = _plain(answer)
    plain = [_plain(option) for option in options]
    if same := [letter for letter, words in zip(letters, plain, strict=False) if words and words == whole]:
        return same
    taken: list[tuple[int, int]] = []
    found: set[str] = set()
    padded = f" {whole} "
    for letter, words in sorted(zip(letters, plain, strict=False), key=lambda pair: -len(pair[1])):
        at = padded.find(f" {words} ") if words else -1
        while at >= 0:
            finish = at + len(words) + 2
            inside = any(begin <= at and finish <= end for begin, end in taken)
            if not inside and not padded[:at].endswith((" not", " not a", " not the", " no")):
                found.add(letter)
                taken.append((at, finish))
                break
            at = padded.find(f" {words} ", at + 1)
    return sorted(found)


def _plain(text: str) -> str:
    """Words in lower case, single spaces between them; ideographs stand apart like words."""
    return " ".join(re.findall(r"[぀-ヿ㐀-䶿一-鿿]|[^\W_぀-ヿ㐀-䶿一-鿿]+", text.casefold()))


def _beyond(answer: str, letter: str, option: str) -> str:
    """What an answer says besides its letter and its option's text."""
    rest = f" {_plain(answer)} "
    for part in (_plain(option), letter.casefold()):
        if part:
            rest = rest.replace(f" {part} ", " ", 1)
    return rest
