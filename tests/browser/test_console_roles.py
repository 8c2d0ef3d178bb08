"""The console with named keys: who is signed in is shown, and what the role may not do is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.core.settings import Settings
from agent.training.cases import show_case
from agent.training.held_corrections import list_held
from tests.api.keys import keys, settings
from tests.browser.conftest import Served, axe, serving
from tests.browser.test_console_unlabelled import log

__all__ = ["keys", "log", "settings"]

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]


@pytest.fixture(scope="module")
def locked(settings: Settings, keys: dict[str, str]) -> Iterator[Served]:
    with serving(settings) as made:
        yield made


def sign_in(page: Page, served: Served, key: str, path: str = "/") -> None:
    page.goto(f"{served.url}{path}")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_a_change_of_a_case_waits_by_a_role_that_may_and_the_other_is_refused(
    page: Page, locked: Served, keys: dict[str, str]
) -> None:
    context = locked.state.context
    for role, refusal in (("judge", "this needs the role correct"), ("correct", None)):
        sign_in(page, locked, keys[role], "/casebook")
        expect(page.get_by_text(f"{role}: {role}")).to_be_visible()
        page.get_by_label("Search the cases").fill("sectors lost")
        expect(page.locator(".ag-row .cell-text", has_text="basket")).to_have_count(0)
        page.locator('.ag-row[row-index="0"] .cell-text').click()
        expect(page.locator(".headline")).to_contain_text("anomalous")
        case_id = page.locator(".headline").inner_text().split(":")[0]
        assert axe(page) == []
        normal, remove = page.locator(".correct button").first, page.get_by_role("button", name="Remove")
        expect(remove).to_be_disabled()
        expect(remove).to_have_attribute(
            "title", f"this needs the role admin; the API key '{role}' has the role {role}"
        )
        if refusal:
            expect(normal).to_be_disabled()
        else:
            expect(normal).to_be_enabled()
        page.keyboard.press("n")
        if refusal:
            expect(page.locator(".q-notification", has_text=refusal)).to_be_visible()
            assert show_case(context, case_id).label == "anomalous"
        else:
            # several cases of others are anomalous
            expect(page.locator(".q-notification", has_text="for a second person")).to_be_visible()
            assert show_case(context, case_id).label == "anomalous"
            assert [held.held_by for held in list_held(context, "shop", 9).held] == ["console, API key correct"]
        page.get_by_role("link", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()


def test_what_learns_an_unlabelled_file_is_of_the_role_admin(
    page: Page, locked: Served, keys: dict[str, str], log: Path
) -> None:
    for role, may in (("correct", False), ("admin", True)):
        sign_in(page, locked, keys[role], "/unlabelled")
        page.set_input_files("input[data-upload]", log)
        expect(page.locator(".event").first).to_be_visible(timeout=60_000)
        make = page.get_by_role("button", name="Make a source of the labels")
        whole = page.get_by_role("button", name="The whole file is normal")
        expect(make).to_be_disabled()
        page.keyboard.press("a")
        expect(page.locator(".sticky")).to_contain_text("1 anomalous")
        for button in (make, whole):
            expect(button).to_be_enabled(enabled=may)
            refusal = f"this needs the role admin; the API key '{role}' has the role {role}"
            assert button.get_attribute("title") == (None if may else refusal)
        page.get_by_role("link", name="Sign out").click()


def test_the_chat_and_the_source_page_hold_to_the_role(page: Page, locked: Served, keys: dict[str, str]) -> None:
    sign_in(page, locked, keys["read"], "/source?source=shop")
    expect(page.get_by_text("this needs the role correct")).to_be_visible()
    for name in ("Fit again", "Save"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    page.get_by_role("button", name="Chat with the agent").click()
    page.locator(".chat-box textarea").fill("help")
    page.keyboard.press("Enter")
    expect(page.locator(".chat-message").last).to_contain_text("this needs the role judge")
