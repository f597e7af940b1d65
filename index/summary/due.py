"""When something is due, in the words that were said."""

from __future__ import annotations

import re

_DAY = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_MONTH = r"(?:january|february|march|april|may|june|july|august|september|october|november|december)"
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|"
    r"thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth|"
    r"(?:twenty|thirty)[- ](?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth))"
)
_HOUR = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_CLOCK = (
    r"(?:noon|midnight|\d{1,2}(?::\d{2})?(?:\s?[ap]\.?m\.?)?(?:\s?o['’]?clock)?"
    rf"|{_HOUR}\s(?:o['’]?clock|[ap]\.?m\.?)|(?:half|a\squarter)\s(?:past|to)\s{_HOUR})"
)
_PERIOD = r"(?:day|week|month|quarter|year|weekend|morning|afternoon|evening|night|business day|sprint)"
_PART = r"(?:\s+(?:morning|afternoon|evening|night|noon))?"

_DUE = re.compile(
    rf"""\b(?:
      (?:by|until|before|no\s+later\s+than|not\s+later\s+than)\s+(?:
          (?:the\s+)?end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH}|{_DAY})
        | (?:next\s+|this\s+)?{_DAY}{_PART}(?:\s+at\s+{_CLOCK})?
        | the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | {_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
        | (?:tomorrow|tonight|today|noon|midnight){_PART} | (?:next|this)\s+{_PERIOD} | {_MONTH}
        | {_CLOCK}(?=\s|[.,;!?]|$) | the\s+(?:next|following)\s+\w+ | (?:christmas|easter|lunch)
      )
    | (?:on\s+|next\s+|this\s+|the\s+following\s+)+{_DAY}{_PART}(?:\s+at\s+{_CLOCK})?
    | {_DAY}(?:\s+(?:morning|afternoon|evening|night))(?:\s+at\s+{_CLOCK})?
    | on\s+the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | on\s+{_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
    | (?:later\s+)?(?:this|tomorrow)\s+(?:morning|afternoon|evening)
    | for\s+(?:next\s+(?:time|week|month|{_DAY})|tomorrow|{_DAY})
    | (?:over|at|during)\s+the\s+weekend | first\s+thing\s+tomorrow | end\s+of\s+(?:the\s+)?(?:day|week|month)
    | (?:this|next)\s+(?:week|month|quarter|weekend)
    | (?:later\s+)?today | tonight | tomorrow | right\s+away | immediately | as\s+soon\s+as\s+possible
    | within\s+(?:the\s+next\s+)?(?:an?|one|two|three|four|five|\d+)\s+(?:hours?|days?|weeks?|months?)
    | in\s+(?:an?|one|two|three|four|five|\d+)\s+(?:hours?|days?|weeks?|months?)
    | (?:at|by)\s+the\s+end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH})
    | after\s+(?:the|this)\s+(?:call|meeting)
    )(?=\W|$)""",
    re.IGNORECASE | re.VERBOSE,
)


def due_words(text: str) -> str | None:
    """The first due date in a text, as it was said; None where there is none."""
    match = _DUE.search(text)
    return match[0] if match else None


def is_due_only(text: str) -> bool:
    """Whether a text is nothing but a due date, as before the comma of "By Friday, I'll send it"."""
    match = _DUE.search(text)
    rest = text[: match.start()] + text[match.end() :] if match else text
    return match is not None and not re.sub(
        r"[\s,.]|\b(?:and|so|okay|ok|then)\b", "", rest, flags=re.IGNORECASE
    )
