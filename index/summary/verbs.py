"""Verbs of work and verbs of talk: "I'll send the list" is a promise, "I'll be honest" is none.

The lists name common English verbs, not subjects of any one recording. A verb in neither list counts as
work where a date was said with it.
"""

from __future__ import annotations

_WORK = """
add address adjust analyse analyze announce apply approve arrange ask assemble assign attach back\\s+up
backup book
bring build buy call cancel change chase check circulate clean clear collect compare compile complete
confirm contact coordinate copy correct create debug decorate deliver deploy design disable distribute
document double-check download draft edit e-?mail enable estimate evaluate experiment export file fill
finali[sz]e find finish fix follow\\s+up format forward gather get\\s+(?:in\\s+touch|back\\s+to|hold|quotes?)
hand\\s+(?:in|out|over) handle hire implement import improve inform inspect install integrate invite
investigate invoice let\\s+(?:\\w+\\s+){1,3}know look\\s+(?:into|after|up|for) mail maintain make measure
meet merge message migrate monitor move negotiate notify open order organi[sz]e outline overhaul own pack
paint pay phone pick\\s+up ping plan post prepare present print process produce propose prototype provide
publish push put reach\\s+out read\\s+(?:the|chapter|page|section) rebuild recruit redesign refactor refund
register release remind remove rename renew rent repair replace reply report request reschedule resend
reserve resolve restart restore return review revise rewrite ring run schedule scan search sell send set\\s+up
set ship shortlist sign solve sort source speak\\s+to\\s+(?:the|our|my|your|him|her|them) submit summari[sz]e
survey switch
take\\s+(?:care|over|that|it|this|on|the|notes|photos|pictures|minutes) talk\\s+to test tidy track train
transfer translate try turn\\s+(?:on|off) type\\s+up update upgrade upload validate verify visit work\\s+on
work\\s+out write
"""
_TALK = """
add\\s+that admit agree always answer appreciate assume be become begin believe bet call\\s+(?:it|that|this)
(?:a|an|the) come come\\s+back\\s+to continue cover describe die discuss elaborate end enjoy ever explain
focus forget get\\s+(?:to|into|there|going|started|it) give give\\s+you go guess happen hate have hear help hold
hope imagine introduce just\\s+say keep know like listen live look love make\\s+(?:it|this)
(?:short|quick|brief) make\\s+a\\s+(?:guess|point) make\\s+sense mean mention miss need never not pass
pause play probably\\s+never put\\s+(?:it|that|yourself) quote read\\s+you regret remember repeat
run\\s+(?:through|over|us|me|you|away) save say see set\\s+the\\s+(?:scene|stage) share\\s+(?:my\\s+screen|
a\\s+story|your) show sing sit skip sleep speak speak\\s+(?:about|up) spend stand start stay stick stop sum
summari[sz]e suppose survive take\\s+(?:a|your|you|it\\s+easy) talk talk\\s+(?:about|us|me|you|through) teach tell
tell\\s+(?:you|us|me) thank think touch travel try\\s+(?:not|to\\s+(?:be|explain)) turn\\s+to understand
wait walk want watch wear win wish wonder yield
"""


def _alternatives(table: str) -> str:
    """Longest first, so that "talk to" is tried before "talk"."""
    joined = table.replace("(?:a|an|the)", "\0").split()
    found = sorted({one.replace("\0", "(?:a|an|the)") for one in joined}, key=lambda one: (-len(one), one))
    return "|".join(found)
