"""Verbs of work and verbs of talk: "I'll send the list" is a promise, "I'll be honest" is none.

The lists hold common English verbs, nothing about any one subject. A verb in neither list counts as work
where a date is said with it.
"""

from __future__ import annotations

import re
from typing import Literal

Verb = Literal["work", "talk", "other"]

_WORK = """
add, adjust, analyse, analyze, announce, apply, approve, arrange, ask, assemble, assign, attach, back up,
book, bring, build, buy, call, cancel, change, chase, check, circulate, clean, clear, collect, compare,
compile, complete, confirm, contact, coordinate, copy, correct, create, debug, deliver, deploy, design,
disable, distribute, do, document, double-check, download, draft, edit, email, e-mail, enable, estimate,
evaluate, export, file, fill, finalise, finalize, find, finish, fix, follow up, format, forward, gather, get
in touch, get back to, get hold of, hand in, hand out, hand over, handle, hire, implement, import, improve,
inform, inspect, install, integrate, investigate, invite, invoice, look after, look for, look into, look up,
mail, maintain, make, make sure, measure, meet, merge, message, migrate, monitor, move, negotiate, notify,
open, order, organise, organize, outline, overhaul, pack, paint, pay, phone, pick up, ping, plan, post,
prepare, present, print, process, produce, propose, prototype, provide, publish, push, put, reach out,
rebuild, recruit, redesign, refactor, refund, register, release, remind, remove, rename, renew, rent,
repair, replace, reply, report, request, reschedule, resend, reserve, resolve, restart, restore, review,
revise, rewrite, ring, run, scan, schedule, search, sell, send, set, set up, share, ship, shortlist, sign,
solve, sort, source, speak to, speak with, submit, summarise, summarize, switch, take care, take it, take
on, take over, take that, take the, take notes, talk to, talk with, test, tidy, track, train, transfer,
translate, try, turn off, turn on, type up, update, upgrade, upload, validate, verify, visit, work on, work
out, write
"""
_TALK = """
add that, admit, agree, always, answer, appreciate, assume, be, become, begin, believe, bet, call it a, call
it the, call that a, call this a, come, continue, cover, describe, die, discuss, do me, do not, do you,
elaborate, end, enjoy, ever, explain, focus, forget, get, give, go, guess, happen, hate, have, hear, help,
hold, hope, imagine, introduce, keep, know, like, listen, live, look, love, make a guess, make a point, make
it quick, make it short, make it brief, make this quick, make this short, make this brief, make sense, mean,
mention, miss, need, never, not, pass, pause, play, put it, put it this, put it that, put that, put
yourself, quote, read it to, read you, regret, remember, repeat, run through, run over, run us, run me, run
away, run out, save, say, see, set the scene, set the stage, share a story, share my screen, share your
thoughts, share with you, show, sing, sit, skip, sleep, speak, speak about, spend, stand, start, stay,
stick, stop, sum, suppose, survive, take, take a, take your, talk, talk about, talk to you, talk to you
about, teach, tell, thank, think, touch, travel, try not, try to be, try to explain, turn, understand, wait,
walk, want, watch, wear, win, wish, wonder, yield
"""
_TO_LISTENERS = frozenset(
    {"announce", "compare", "look", "outline", "present", "review", "show", "summarise"}
)
"""Of these "today I will …" says what the talk itself is about."""


def _table(text: str) -> frozenset[str]:
    return frozenset(" ".join(one.split()) for one in text.split(","))


WORK = _table(_WORK)
TALK = _table(_TALK)


def kind_of(text: str) -> Verb:
    """What kind of verb a text begins with; the longest entry of either table decides."""
    tokens = re.findall(r"[^\W\d_][\w’'-]*", text.casefold())[:6]
    if tokens[:1] == ["let"]:
        return "work" if "know" in tokens[1:4] else "talk"
    if tokens[:1] == ["tell"] and tokens[1:2] not in (["you"], ["us"], ["me"]):
        return "work"
    for count in (4, 3, 2, 1):
        phrase = " ".join(tokens[:count])
        if phrase in TALK:
            return "talk"
        if phrase in WORK:
            return "work"
    return "other"


def about_the_talk(text: str) -> bool:
    """Whether a verb of work, said with "today", may only announce what is talked about."""
    return text.casefold().split(None, 1)[0].strip(".,!?") in _TO_LISTENERS if text.strip() else False


def base_of_gerund(word: str) -> str:
    """The work verb a gerund was made of ("asking" → "ask"); the word itself where none is known."""
    folded = word.casefold()
    if not folded.endswith("ing"):
        return folded
    stem = folded[:-3]
    doubled = stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else stem
    return next((one for one in (stem, stem + "e", doubled) if one in WORK), folded)
