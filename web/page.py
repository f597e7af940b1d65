"""The page: its layout, and what happens on it, over one workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from web.handlers import Handlers
from web.jobs import Jobs
from web.layout import lay_out
from web.uploads import Uploads
from web.wiring import wire

if TYPE_CHECKING:
    from agent.workspace import Workspace


def create_page(workspace: Workspace, jobs: Jobs, uploads: Uploads) -> gr.Blocks:
    """Build the page.

    Args:
        workspace: An open workspace.
        jobs: The queue of files, which outlives every browser.
        uploads: Where browsers' files arrive.
    """
    with gr.Blocks(title="moss-agent", analytics_enabled=False, fill_width=True, fill_height=True) as page:
        wire(page, lay_out(workspace.settings.summary_template), Handlers(workspace, jobs, uploads))
    page.queue(default_concurrency_limit=4, api_open=False)
    return page
