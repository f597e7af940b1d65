"""What stands around a time expression: it tells a place in the recording from other talk of time.

“The end of the meeting” is a place, “the end of the month” is not; “at 2:15” is one, “at 2:15 pm” is not.
"""

from __future__ import annotations

from agent.time_words import FUNCTION_WORDS, Tokens, closes, word_set

_DETERMINERS = word_set("the this that our my your his her their its a an whole entire")
_RECORDINGS = word_set(
    """recording meeting talk lecture interview call podcast audio conversation video file episode session
    show tape clip track transcript presentation webinar standup seminar hearing film speech lesson class
    it"""
)
_DAYS = word_set(
    """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays
    saturdays sundays tomorrow today yesterday tonight"""
)
_CLOCK_TAILS = word_set("am pm o'clock oclock sharp gmt utc noon midnight aspect ratio odds")
_PARTS_OF_DAY = word_set("morning afternoon evening night")
_RATES = word_set("per each every apiece ago late later early away long past to before after old of -")
_LENGTH_VERBS = word_set(
    """take takes took taking last lasts lasted lasting need needs needed spend spends spent wait waited cost
    costs reduce reduced cut shorten shortened extend extended increase increased change changed rise rises
    rose fall falls fell drop dropped grew went"""
)
_NOT_AFTER_IN = _DETERMINERS | word_set("which that whom whose between total")


def names_recording(tokens: Tokens, index: int) -> bool:
    """Whether a noun phrase for a recording starts at ``index``: “the harbour meeting”, “it”."""
    for place in range(index, index + 5):
        token = tokens[place]
        if token.text in _RECORDINGS:
            return True
        if token.kind != "word" or (token.text in FUNCTION_WORDS and token.text not in _DETERMINERS):
            return False
    return False


def ends_section(tokens: Tokens, index: int) -> bool:
    """Whether “the end”, “the first half” may stop before ``index``: “of the meeting” yes, “of May” no."""
    if tokens.word(index) == "of":
        return names_recording(tokens, index + 1)
    return closes(tokens, index)


def is_time_of_day(tokens: Tokens, first: int, behind: int) -> bool:
    """Whether ``pm``, a day or “in the evening” around an expression says that it is a time of day."""
    after = [tokens.word(behind + step) for step in range(4)]
    before = {tokens.word(first - 1), tokens.word(first - 2)}
    return (
        after[0] in _CLOCK_TAILS
        or after[0] in _DAYS
        or (after[0] in ("a", "p") and after[1:3] == [".", "m"])
        or (after[0] == "on" and not _DAYS.isdisjoint(after))
        or (after[0] in ("in", "at") and not _PARTS_OF_DAY.isdisjoint(after))
        or not _DAYS.isdisjoint(before)
    )


def is_rate(tokens: Tokens, behind: int) -> bool:
    """Whether a length that stops before ``behind`` measures something: “10 minutes per kilometre”."""
    return tokens.word(behind) in _RATES


def is_measured(tokens: Tokens, first: int) -> bool:
    """Whether a verb just before says that something lasts or changes: “takes between 1 and 3 minutes”."""
    return any(tokens.word(first - step) in _LENGTH_VERBS for step in (1, 2, 3))


def skip_in(tokens: Tokens, index: int) -> int:
    """Over the ``in`` of “3 minutes in” and “into the meeting”; not over “3 minutes in the rain”."""
    word, following = tokens.word(index), tokens.word(index + 1)
    if word not in ("in", "into"):
        return index
    if names_recording(tokens, index + 1):
        return index + 1
    alone = closes(tokens, index + 1) and not tokens[index + 1].capital and following not in _NOT_AFTER_IN
    if word == "in" and alone:
        return index + 1
    return index
