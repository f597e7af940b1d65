"""The page: its layout, and what happens on it, over one workspace.

Which event of the page calls which handler, and what it draws anew.

Questions and summaries are queued in lanes of their own, short events are never held up, and
transcription is not here at all: it runs in ``jobs``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import gradio as gr

from index.store.access import NOBODY, Actor, acting_as
from web.accounts import ACTOR
from web.page.handlers import Handlers
from web.page.layout import Parts, lay_out

ASK_LANES = 8
"""Questions answered at the same time."""


def wire(page: gr.Blocks, parts: Parts, handlers: Handlers) -> None:
    """Connect all events; called inside the page's ``with`` block."""
    _library(page, parts, handlers)
    _summary(parts, handlers)
    _conversation(parts, handlers)


def _library(page: gr.Blocks, parts: Parts, handlers: Handlers) -> None:
    quick = _quick()
    # These may show a notice, which Gradio does for queued events only; and Gradio drops an event while
    # the same one is under way, unless told otherwise.
    every = _queued(trigger_mode="multiple", concurrency_limit=None)
    middle = [parts.head, parts.player, parts.transcript, parts.talk, parts.chips]
    whole = [*middle, parts.shelf, parts.revision, parts.tabs, parts.summary, parts.actions]
    whole += [parts.opened, parts.seen, parts.kept]
    opened, kept, shelf = parts.opened, parts.kept, parts.shelf
    # Which moment the address asks for is known in the browser alone.
    arriving = "(kept) => [{ ...kept, link: moss.arriving() }]"
    page.load(handlers.load, [kept], [*whole, parts.chat], js=arriving, **quick)
    # What changed while one is drawn anew is drawn behind it.
    latest = {**quick, "trigger_mode": "always_last"}
    shelf.changed(
        handlers.changed,
        [opened, parts.seen, kept],
        [shelf, parts.revision, *middle, opened, parts.seen],
        **latest,
    )
    page.load(handlers.glossary, None, [parts.glossary], **every)
    parts.glossary.spell(handlers.spell, None, [parts.glossary], **every)
    foot = [parts.engines, parts.engines_seen]
    page.load(handlers.engines, [parts.engines_seen], foot, **quick)
    shelf.changed(handlers.engines, [parts.engines_seen], foot, **latest)
    shelf.open(handlers.open, [kept], whole, **_queued(trigger_mode="always_last", concurrency_limit=None))
    shelf.remove(handlers.remove, [opened, kept], [*whole, parts.chat], **every)
    shelf.cancel(handlers.cancel, [opened], [shelf], **every)
    shelf.resume(handlers.resume, [opened], [shelf], **every)
    shelf.dismiss(handlers.dismiss, [opened], [shelf], **every)
    shelf.again(handlers.again, [opened], [shelf], **every)
    parts.head.again(handlers.again, [opened], [shelf], **every)
    parts.finder.search(
        handlers.search, None, [parts.found], **_queued(trigger_mode="always_last", concurrency_limit=4)
    )
    parts.add.added(handlers.added, [opened], [shelf], **every)
    parts.add.complain(handlers.complain, None, None, **every)
    for name in ("comment", "recomment", "uncomment"):
        getattr(parts.player, name)(getattr(handlers, name), [opened], [parts.transcript], **every)
    spoken = [shelf, parts.head, parts.transcript, parts.talk]
    parts.head.rename(handlers.rename, [opened], spoken, **every)
    parts.head.voice(handlers.voice, [opened], spoken, **every)


def _summary(parts: Parts, handlers: Handlers) -> None:
    lane = {"concurrency_id": "summary", "concurrency_limit": 2}
    inputs, outputs = [parts.opened, parts.template, parts.wanted], [parts.summary, parts.actions]
    event = _queued(fn=handlers.summarise, inputs=inputs, outputs=outputs, **lane)
    parts.edits.corrected(
        handlers.corrected,
        [parts.opened, parts.template, parts.wanted, parts.kept],
        [parts.chat, parts.talk, parts.summary, parts.actions],
        **_queued(trigger_mode="always_last", concurrency_id="summary"),
    )
    parts.summary_tab.select(**event)
    parts.template.change(**event)
    # One summary at a time; what is asked for meanwhile comes next.
    lane["trigger_mode"] = "always_last"
    parts.instruct.instruct(handlers.instruct, inputs, [*outputs, parts.wanted], **_queued(**lane))
    parts.instruct.unwrite(handlers.unwrite, [parts.opened], None, **_quick())


def _conversation(parts: Parts, handlers: Handlers) -> None:
    event = _queued(
        inputs=[parts.question, parts.scope, parts.opened, parts.kept],
        outputs=[parts.chat, parts.question, parts.chips, parts.kept],
        concurrency_id="ask",
        concurrency_limit=ASK_LANES,
        # A question sent while another is being answered comes next.
        trigger_mode="always_last",
    )
    parts.question.submit(handlers.ask, **event)
    parts.chips.suggest(handlers.suggest, **event)
    parts.question.stop(handlers.stopped, [parts.kept], [parts.chat, parts.question], **_quick())
    parts.asking.fresh(
        handlers.fresh,
        [parts.opened, parts.kept],
        [parts.chat, parts.chips, parts.question, parts.kept],
        **_quick(),
    )


def _quick(**more: Any) -> dict[str, Any]:
    return {"show_progress": "hidden", "queue": False, "api_visibility": "private", **more}


def _queued(**more: Any) -> dict[str, Any]:
    return {"show_progress": "hidden", "api_visibility": "private", **more}


class InTheirName:
    """The page's events, each worked on in the name of whoever's browser sent it.

    Gradio works on events in tasks of its own, and on each step of one in another thread.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def __getattr__(self, name: str) -> Any:
        """An event, which takes the request as its last argument."""
        handler = getattr(self._handlers, name)

        def step_by_step(*given: Any) -> Iterator[Any]:
            *values, request = given
            steps = handler(*values)
            try:
                while True:
                    with acting_as(_actor(request)):
                        try:
                            drawn = next(steps)
                        except StopIteration:
                            return
                    yield drawn
            finally:
                with acting_as(_actor(request)):
                    steps.close()

        def at_once(*given: Any) -> Any:
            *values, request = given
            with acting_as(_actor(request)):
                return handler(*values)

        event: Any = step_by_step if inspect.isgeneratorfunction(handler) else at_once
        signature, hints = inspect.signature(handler), typing.get_type_hints(handler)
        last = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
        event.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])
        event.__annotations__ = {**hints, "request": gr.Request}
        event.__name__ = name
        return event


def _actor(request: gr.Request) -> Actor:
    scope = request.request.scope if request is not None and request.request is not None else {}
    actor: Actor = scope.get(ACTOR, NOBODY)
    return actor


def create_page(handlers: Handlers, accounts: bool = False) -> gr.Blocks:
    """Build the page.

    Args:
        handlers: What happens on its events.
        accounts: Whether people sign in.
    """
    named: Any = InTheirName(handlers) if accounts else handlers
    with gr.Blocks(title="moss-agent", analytics_enabled=False, fill_width=True, fill_height=True) as page:
        wire(page, lay_out(handlers.workspace.settings.summary_template, accounts), named)
    page.queue(default_concurrency_limit=4, api_open=False)
    return page
