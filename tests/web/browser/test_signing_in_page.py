"""Signing in, sharing and a link in a real Chromium, without a script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from agent.settings import Settings
from agent.workspace import open_workspace
from tests.support.indexed import sentences, store
from tests.support.stages import on_stage
from web.account_pages import add_account_routes
from web.accounts import SignedIn, Visitors
from web.guard import Guard

pytestmark = pytest.mark.browser


def test_somebody_signs_in_shares_and_signs_out(browser: Browser, home: Path):
    workspace = open_workspace(Settings(home=home))
    people = workspace.people
    people._given = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    recording = store(workspace.library, sentences("The <b>ferry</b> leaves."), "Ferry <i>talk</i>")
    for name in ("anna", "ben"):
        people.add(name, "a long password")
    workspace.require_people()
    app = FastAPI()
    visitors = Visitors(workspace)
    add_account_routes(app, workspace, visitors)
    app.add_middleware(SignedIn, visitors=visitors)
    app.add_middleware(Guard, host="127.0.0.1", accounts=True)
    with on_stage(app) as stage:
        phone = {"width": 390, "height": 800}
        plain = browser.new_context(java_script_enabled=False, viewport=phone)
        page = plain.new_page()
        page.goto(f"{stage.address}/share/{recording}")
        assert "/login?next=" in page.url
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill("not her password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill("a long password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Share “Ferry <i>talk</i>”")
        page.get_by_label("Name").fill("ben")
        page.get_by_role("button", name="Share", exact=True).click()
        expect(page.get_by_role("button", name="Stop sharing with ben")).to_be_visible()
        page.get_by_role("button", name="Make a link").click()
        link = page.get_by_role("status").inner_text().split()[-1]
        assert re.search(r"/s/[\w-]{40,}$", link)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= phone["width"], "nothing is cut off on a phone"
        scripted = browser.new_context(storage_state=plain.storage_state())
        looked = scripted.new_page()
        for path in (link, f"{stage.address}/account", f"{stage.address}/share/{recording}"):
            looked.goto(path)
            for scheme in ("light", "dark"):
                looked.emulate_media(color_scheme=scheme)
                assert not Axe().run(looked).response["violations"], (path, scheme)
        stranger = browser.new_context(java_script_enabled=False)
        reading = stranger.new_page()
        reading.goto(link)
        expect(reading.get_by_text("The <b>ferry</b> leaves.")).to_be_visible()
        page.goto(f"{stage.address}/account")
        page.get_by_role("button", name="Sign out").click()
        assert page.url == f"{stage.address}/login"
        for context in (plain, scripted, stranger):
            context.close()
    workspace.close()
