"""The chat playground in a real browser: a record is pasted, a verdict streams back, and a record stays text.

With ``PRECEDENT_SCREENSHOT=path`` the conversation is kept as a picture (docs/playground.png is one).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from agent.core.settings import Settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.browser.conftest import serving
from tests.conftest import POSTGRES, give_language_weight, make_settings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.network,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore:astream_log is deprecated"),  # what LangServe's playground reads
]
PATIENCE = 60
RECORD = (
    '2026-11-22 17:39:04.585 UTC [20493] shop_owner@shop ERROR:  could not open file "base/16393/16503": '
    "No such file or directory"
)
UNSEEN = '2026-11-22 17:39:02.989 UTC [20463] shop_worker@shop ERROR:  could not connect to server "carrier"'
MARKUP = "<img src=x onerror=alert(1)> <script>alert(2)</script> **bold** {{ 7*7 }}"


@pytest.fixture(scope="module")
def learned(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The demo's source, with a language model that counts as tried."""
    chosen = make_settings(tmp_path_factory.mktemp("playground") / "home")
    context = AppContext(chosen)
    brief = (POSTGRES / "brief.txt").read_text(encoding="utf-8")
    intake = ReadOptions(format="log", label="0", normal=("-",))
    learn(context, [POSTGRES / "learn.log"], "postgres", intake, brief=brief, budget=0)
    give_language_weight(context, "postgres")
    context.close()
    return chosen


@pytest.fixture(scope="module")
def url(learned: Settings) -> Iterator[str]:
    """The app on a real socket."""
    with serving(learned) as served:
        yield served.url


@pytest.fixture(params=["/chain/playground/"])
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A playground, opened; whatever it asks of another host, or throws, or pops up, fails the test."""
    wrong: list[str] = []
    made = browser.new_page(viewport={"width": 1000, "height": 1160})
    made.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    made.on("pageerror", lambda error: wrong.append(f"an error: {error}"))
    made.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    made.goto(url + request.param)
    yield made
    made.close()
    assert not wrong


class Conversation:
    """What a person does and sees: the newest message stands first in the page, each in a box that can be edited."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.newest = page.locator(".group textarea").first
        self.idle = page.locator("button.bg-button-green-disabled")

    def say(self, said: str) -> tuple[str, int]:
        """The answer once it is whole, and in how many pieces it was seen to come."""
        box = self.page.get_by_placeholder("Send a message...")
        box.fill(said)
        box.press("Enter")
        seen = set[str]()
        deadline = time.monotonic() + PATIENCE
        while not (self.idle.count() and seen):
            assert time.monotonic() < deadline, f"no whole answer: {seen}"
            if now := self.newest.input_value():
                seen.add(now)
        expect(self.newest).to_be_visible()
        answer = self.newest.input_value()
        # the box's text is transparent: what one reads is its twin
        expect(self.page.locator(".group div[aria-hidden]").first).to_have_text(answer, use_inner_text=True)
        return answer, len(seen | {answer})


def test_a_record_is_judged_and_explained(page: Page) -> None:
    talk = Conversation(page)
    verdict, _ = talk.say(RECORD)
    assert re.match(r"verdict v[0-9a-f]{32} \(source postgres\): Anomalous, [<>]?\d+ %\. Most like c\d+ ", verdict)
    precedents, _ = talk.say("show me the precedents")
    assert all(
        re.match(r"- c\d+ (normal|anomalous), similarity [01]\.\d\d: ", line) for line in precedents.splitlines()
    )
    why, _ = talk.say("why?")
    assert why.startswith(verdict.splitlines()[0])
    assert "\n- nearest anomalous case: c" in why
    _, pieces = talk.say(f"{RECORD}\n{UNSEEN}")
    assert pieces > 1, "it came in one piece"


def test_a_correction_changes_the_next_verdict(page: Page) -> None:
    talk = Conversation(page)
    before, _ = talk.say(UNSEEN)
    talk.say("that was normal")
    noted, _ = talk.say("yes")
    assert noted.startswith("Noted: the record of v")
    if wanted := os.environ.get("PRECEDENT_SCREENSHOT"):
        page.screenshot(path=Path(wanted))
    after, _ = talk.say(UNSEEN)
    assert "): Normal, " not in before
    assert "): Normal, " in after


def test_markup_in_a_record_stays_text(page: Page) -> None:
    talk = Conversation(page)
    talk.say(MARKUP)
    assert page.locator(".group textarea").nth(1).input_value() == MARKUP
    talk.say("that was normal")
    talk.say("yes")
    talk.say(MARKUP)
    precedents, _ = talk.say("show me the precedents")
    assert MARKUP.replace("*", "·") in precedents
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("page", ["/verdict/playground/"], indirect=True)
def test_the_form_of_a_verdict_is_filled_in(page: Page) -> None:
    page.locator('[id="#/properties/text-input"]').fill(RECORD)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("anomalous").first).to_be_visible(timeout=1000 * PATIENCE)
