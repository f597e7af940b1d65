"""What a sentence does in so many words: decides, leaves open, promises, asks for, accepts; and by when.

A closed grammar of the plainest forms. It says nothing about a subject and has no list of verbs; what it does
not know is left to the learned scores (``index/summary/sentence_scores.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from index.vocabulary import MONTHS, ORDINALS, WEEKDAYS, number_words, one_of


@dataclass(frozen=True)
class Act:
    """Something that a sentence does: it has its cue, and nothing that takes the cue back.

    Attributes:
        cue: How it is said.
        unless: Acts that a sentence with the cue does instead.
        taken_back: What must not stand before or in the cue; what follows is its object (“we agreed not to”).
    """

    cue: re.Pattern[str]
    unless: tuple[Act, ...] = ()
    taken_back: re.Pattern[str] | None = None

    def __call__(self, text: str) -> bool:
        """Whether a text does it."""
        found = self.cue.search(text)
        if found is None or any(act(text) for act in self.unless):
            return False
        return self.taken_back is None or self.taken_back.search(text[: found.end()]) is None


def _said(cue: str, *unless: Act, taken_back: re.Pattern[str] | None = None) -> Act:
    return Act(re.compile(cue, re.IGNORECASE | re.VERBOSE), unless, taken_back)


_ADVERBS = r"(?:(?:just|all|now|finally|also|already|then|both|therefore|hereby|definitely|probably)\s+)*"
_FILLERS = (
    r"^(?:(?:okay|ok|alright|all\s+right|right|good|great|fine|perfect|excellent|so|then|well|and)[,.!]?\s+)"
)
_WE_WILL = r"we(?:['’]ll|\s+will|['’]re\s+going\s+to|\s+are\s+going\s+to)"
_UNSETTLED = r"(?:open|unclear|unknown|undecided|unresolved|unsettled)"
_SETTLE = r"(?:decide|decided|figure|find\s+out|clarify|work\s+out|agree|agreed|settle|see|seen)\b"
_NO_VERB = (
    r"(?:(?!(?:apply|fly|multiply|rely|reply|supply)\b)\w+ly|about|after|all|and|around|as|at|because|before|besides|but|by|despite|during|except|for|from|if|in|"
    r"inside|into|is|like|near|of|off|on|or|outside|over|since|so|than|through|to|under|until|was|what|with|without)"
)
"""Words at the beginning of a sentence that are no imperative, though “the” or “it” follows them."""
_DO_NOT = r"(?:do\s+not|don['’]t)"
_TAKEN_BACK = re.compile(
    r"""\b(?:not|never|nobody|if|unless|whether|until|before|when|had|would|could|should|might|almost|he|she|they)\b
    |n['’]t\b""",
    re.IGNORECASE | re.VERBOSE,
)

asks = _said(r"\?\s*$")
supposes = _said(r"^(?:(?:and|but|so)\s+)?(?:unless|suppose|imagine|when|once)\b | \b(?:if|when\s+i)\b")
past = _said(
    r"""\b(?:last\s+(?:year|month|week|time|\w+day)|(?:years?|months?|weeks?)\s+ago|back\s+(?:then|in)|previously|
    yesterday|used\s+to|in\s+(?:19|20)\d\d|in\s+(?:two\s+thousand|nineteen|twenty)\s+\w+)\b"""
)
leaves_open = _said(
    rf"""\bleav(?:e|ing)\s+(?:\w+\s+){{0,6}}?open\b | \bopen\s+(?:question|issue|point)\b
    | \bun(?:decided|resolved)\b | \bup\s+in\s+the\s+air\b | \blet['’]s\s+(?:park|table|postpone)\b
    | \b(?:stays|remains?|still|yet|it(?:['’]s|\s+is))\s+(?:an?\s+)?{_UNSETTLED}\b
    | \b(?:still|yet|remains?)\s+(?:need|have|has)?\s*to\s+(?:be\s+)?{_SETTLE}
    | \b(?:we|someone|somebody)(?:['’]ll)?\s+(?:needs?|ha(?:ve|s))\s+to\s+{_SETTLE} | \bto\s+be\s+decided\b
    | \b(?:i|we)\s+(?:still\s+{_DO_NOT}|{_DO_NOT}\s+yet|{_DO_NOT}(?=.*\byet\b))\s*know\b
    | \bwe\s+{_DO_NOT}\s+(?:really\s+)?know\s+(?:how|what|who|when|where|why|which|whether|if)\b
    | (?:\bnot|n['’]t)\s+(?:yet\s+|really\s+)*(?:decide|decided|settled|resolved|agreed|clear)\b(?!\s+to\b)
    | \b(?:decide|settle)\s+(?:\w+\s+){{0,4}}?(?:later|tomorrow|next\s+\w+|on\s+\w+day|another\s+time)\b
    | \b(?:let['’]s|we(?:['’]ll)?)\s+(?:\w+\s+){{0,2}}?(?:come|get|circle)\s+back\s+to\s+(?:this|that|it)\b
    | \blet['’]s\s+(?:take|discuss)\s+(?:that|this|it)\s+(?:offline|later|next)"""
)
settles = _said(
    rf"""\b(?:
      (?:it|that|this|they)(?:['’]s|['’]re|\s+is|\s+are)\s+{_ADVERBS}(?:decided|settled|agreed|approved|carried)
    | (?:motion|amendment|proposal|budget|plan)(?:\s+is|['’]s)?\s+{_ADVERBS}
      (?:carried|passed|approved|accepted|agreed)
    )\b""",
    *(asks, leaves_open, past),
    taken_back=_TAKEN_BACK,
)
decides = _said(
    rf"""{settles.cue.pattern} | \b(?:
      we(?:['’]ve|\s+have)?\s+{_ADVERBS}(?:decided|agreed|settled|chosen|voted|approved)\b
    | we\s+{_ADVERBS}(?:decide|agree|approve)\s+(?:to|that|on)\b
    | (?:the|our|final|my)\s+(?:decision|agreement|conclusion|consensus)\s+(?:is|was)\b
    | let['’]s\s+(?:go|run)\s+(?:with|for|ahead\s+with)\b | (?:we|i)\s+{_ADVERBS}(?:go|are\s+going)\s+with\b
    | we(?:['’]re|\s+are)\s+{_ADVERBS}(?:going|going\s+to\s+go)\s+(?:with|for)\b
    | we(?:['’]ll|\s+will)\s+{_ADVERBS}(?:go|stick)\s+(?:with|for|ahead)\b | it\s+is\s+then\b
    )""",
    *(asks, leaves_open, past),
    taken_back=_TAKEN_BACK,
)
concludes = _said(
    rf"""{_FILLERS}+(?:
      we\s+(?!\w+ed\b|have|had|need|are|were|got?|get|see|know|can|did)\w+\s+(?:the|an?|our|it|that)\b
    | (?:{_WE_WILL}\s+|let['’]s\s+{_ADVERBS})(?!see|look|move\s+on|talk|start|be|have|get)\w+)
    | \b[\w’' -]{{2,30}}\s+it\s+is[.!]?$ | ^let['’]s\s+.*\bthen[.!]?$""",
    *(
        asks,
        leaves_open,
        past,
        _said(r"\b(?:what(?:ever)?|that|how(?:ever)?|where|there|here|as|of[ ]course)\b.*it[ ]is"),
        Act(_TAKEN_BACK),
    ),
)
proposes = _said(
    r"""\blet['’]s\s+(?!see|look|move|talk|start|begin|go\s+(?:on|to)|wait|discuss|come|take\s+(?:a|it|that)|turn
    |think|get)\w+ | \bi\s+(?:propose|suggest|move\s+that)\b""",
    *(asks, leaves_open, supposes),
)
refuses = _said(r"^(?:no\b(?![ ](?:problem|worries|objection))|sorry|i[ ](?:can|won|don)(?:['’]t|not))")
agrees = _said(
    r"""^(?:agreed|yes|yeah|yep|ok|okay|sure|sounds\s+good|good|great|perfect|fine|deal|that\s+works|works\s+for\s+me|
    absolutely|i\s+agree|exactly|alright|definitely|no\s+objections?|of\s+course|will\s+do|certainly|gladly|got\s+it|
    noted|no\s+problem|happy\s+to|right|cool|i(?:['’]ll|\s+will|\s+can)|we(?:['’]ll|\s+will))\b""",
    *(refuses, supposes),
)
has_no_answer = _said(
    r"""^(?:(?:well|hm+|um+|honestly|sorry)[,.]?\s+)*(?:
      (?:i|we)\s+(?:really\s+)?(?:do\s+not|don['’]t)\s+know\b(?!\s+(?:that|the|him|her))
    | (?:i\s+have\s+)?no\s+idea | (?:i['’]m\s+)?not\s+sure(?:\s+yet)?[.,] | nobody\s+knows
    | (?:we|i)(?:['’]d|\s+would)\s+have\s+to\s+(?:check|ask|see)
    | that['’]s\s+(?:still\s+)?(?:open|unclear))"""
)
vows = _said(
    r"\bi\s+(?:(?:do|hereby)\s+)?(?:promise|commit|volunteer)\s+(?:\w+\s+)?to\s+\w+", *(asks, supposes)
)
promises = _said(
    rf"""\bi(?:['’]ll|\s+will|\s+shall|(?:['’]m|\s+am)\s+(?:going\s+to|gonna)|\s+can|\s+could
      |['’]d\s+be\s+happy\s+to)\s+
      {_ADVERBS}(?!be\b|have\b|see\b|say\b|come\b|give\s+you|tell\s+you\b|never\b|not\b|always\b)\w+
    | {vows.cue.pattern}
    | (?:^|\b(?:i|and)\s+)would\s+like\s+to\b | \bi(?:['’]d\s+like|\s+want|\s+need|\s+have|\s+plan)\s+to\b""",
    *(asks, supposes),
)
requests = _said(
    r"""\b(?:can|could|would|will)\s+you\s+
      (?!go\b|be\b|come|ever|imagine|believe|say|like|remember|tell\s+(?:me|us)|hear|see|explain)\w+
    | \bplease\s+\w+ | \b(?:i(?:['’]d|\s+would)\s+like|i\s+need|i\s+want)\s+you\s+to\b
    | \byou\s+(?:take|handle|do|write|own)\s+(?:the|that|this|it)\b""",
    supposes,
)
names_duty = _said(
    rf"""\b(?:we|someone|somebody|you|one\s+of\s+us)\s+(?:really\s+|still\s+|also\s+)*
      (?:needs?\s+to|ha(?:ve|s)\s+to|must|should)\b
    | \blet['’]s\s+\w+ | \b{_WE_WILL}\b | \b(?:goes\s+out|is\s+due|are\s+due)\b
    | ^(?:(?:and|then|also)\s+)?(?!{_NO_VERB}\b)[a-z]+\s+
      (?:in\s+|up\s+|out\s+)?(?:the|your|our|it|them|me|us)\b""",
    *(asks, supposes, _said(r"^(?:now\s+|so\s+)?today\b")),
)
sums_up = _said(
    r"""\b(?:let\s+me|let['’]s|i['’]?ll|i\s+will|to)\s+(?:just\s+|quickly\s+)?
      (?:sum\s+(?:\w+\s+)?up|summari[sz]e|recap)\b | \bin\s+summary\b"""
)

_DAY, _MONTH = f"(?:{one_of(WEEKDAYS)})", f"(?:{one_of(MONTHS)})"
_ORDINAL = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)|{one_of([*ORDINALS])}|thirtieth|"
    rf"(?:twenty|thirty)[- ](?:{one_of([word for word, value in ORDINALS.items() if value < 10])}))"
)
_HOUR = rf"(?:{one_of(number_words(1, 12))})"
_FEW = rf"(?:an?|{one_of(number_words(1, 12))}|\d+)"
_CLOCK = (
    r"(?:noon|midnight|\d{1,2}(?::\d{2})?(?:\s?[ap]\.?m\.?)?(?:\s?o['’]?clock)?"
    rf"|{_HOUR}(?:\s(?:o['’]?clock|[ap]\.?m\.?))?|(?:half|a\squarter)\s(?:past|to)\s{_HOUR})"
)
_PERIOD = r"(?:day|week|month|quarter|year|weekend|morning|afternoon|evening|night|business\s+day|sprint)"
_PART = r"(?:\s+(?:morning|afternoon|evening|night|noon))?"
_AT = rf"(?:\s+at\s+{_CLOCK})?"
_DUE = re.compile(
    rf"""\b(?:
      (?:by|until|before|no\s+later\s+than|not\s+later\s+than)\s+(?:
          (?:the\s+)?end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH}|{_DAY})
        | (?:next\s+|this\s+)?{_DAY}{_PART}{_AT}
        | the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | {_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
        | (?:tomorrow|tonight|today|noon|midnight){_PART} | (?:next|this)\s+{_PERIOD} | {_MONTH}
        | {_CLOCK}(?=[.,;!?]|$|\s+o['’]?clock) | the\s+(?:next|following)\s+\w+ | (?:christmas|easter|lunch)
      )
    | (?:on\s+|next\s+|this\s+|the\s+following\s+)+{_DAY}{_PART}{_AT}
    | {_DAY}\s+(?:morning|afternoon|evening|night){_AT}
    | on\s+the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})? | on\s+{_MONTH}\s+(?:the\s+)?(?:{_ORDINAL}|\d{{1,2}})
    | (?:later\s+)?(?:this|tomorrow)\s+(?:morning|afternoon|evening)
    | for\s+(?:next\s+(?:time|week|month|{_DAY})|tomorrow|{_DAY})
    | (?:over|at|during)\s+the\s+weekend | first\s+thing\s+tomorrow | end\s+of\s+(?:the\s+)?(?:day|week|month)
    | (?:this|next)\s+(?:week|month|quarter|weekend)
    | (?:later\s+)?today | tonight | tomorrow | right\s+away | immediately | as\s+soon\s+as\s+possible
    | (?:with)?in\s+(?:the\s+next\s+)?{_FEW}\s+(?:hours?|days?|weeks?|months?)
    | (?:at|by)\s+the\s+end\s+of\s+(?:the\s+|this\s+|next\s+)?(?:{_PERIOD}|{_MONTH})
    | after\s+(?:the|this)\s+(?:call|meeting)
    )(?=\W|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_DUE_OF_TASK = re.compile(
    rf"""\b(?:
      (?:on\s+)?{_DAY}{_PART}{_AT} | at\s+{_CLOCK} | {_DAY}
    | (?:right\s+)?after\s+(?:this|that|the\s+\w+|\w+day)
    | (?:by|before|until|till)\s+(?:(?:the|i|we|you|they|he|she)\s+)?\w+(?:\s+(?:\w+s|off|home|of\s+\w+))?
    | when\s+(?:i['’]m|we['’]re|you['’]re|i|we|you)\s+\w+(?:\s+\w+)? | first\s+thing(?:\s+\w+)?
    | (?:the\s+)?end\s+of\s+(?:next|this)\s+\w+ | the\s+{_ORDINAL}(?:\s+of\s+{_MONTH})?
    | as\s+soon\s+as\s+\w+(?:\s+\w+){{0,3}} | in\s+a\s+(?:minute|moment|second) | straight\s+away
    )(?=\W|$)""",
    re.IGNORECASE | re.VERBOSE,
)
"""What may say when, once a sentence is known to be about a task."""
_BY_WHOM = re.compile(r"^[Bb]y\s+[A-Z]|\b(?:I|[Ww]e|[Yy]ou|[Tt]hey|[Hh]e|[Ss]he|[Mm]e|[Uu]s|[Tt]hen)$")
"""“By Milo” is who made something, “until I” is cut off."""
_DEADLINE = re.compile(r"^(?:by|before|until|no)\b", re.IGNORECASE)


def first_clause(text: str) -> str:
    """A text without what it adds about a thing it names: “I'll send one” of “I'll send one, it is old”."""
    return re.split(r"(?i),\s+(?=(?:it|they|he|she|which)\b)", text)[0]


def due_words(text: str, is_task: bool = False) -> str | None:
    """The due date in a text, as it was said, a deadline before a mere moment; None where there is none.

    Args:
        text: A sentence.
        is_task: Whether it is known to be about a task; then what may say when in other sentences counts.
    """
    # "I'll send you one, it should arrive on Thursday" says nothing of when it is sent.
    found = [match[0] for match in _DUE.finditer(first_clause(text))]
    if is_task and not found:
        found = [
            match[0] for match in _DUE_OF_TASK.finditer(first_clause(text)) if not _BY_WHOM.search(match[0])
        ]
    return next((words for words in found if _DEADLINE.match(words)), found[0] if found else None)


def firmer(earlier: str | None, later: str | None) -> str | None:
    """Which of two due dates holds: the later said, unless only the earlier is a deadline."""
    if earlier and later and _DEADLINE.match(earlier) and not _DEADLINE.match(later):
        return earlier
    return later or earlier
