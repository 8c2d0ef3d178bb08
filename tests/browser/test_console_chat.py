"""The chat beside every page: in three languages, over page loads and restarts, and messages that come at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from agent.core.settings import Settings
from tests.browser.conftest import Served, axe, opened, serving
from tests.shop import ANOMALOUS

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]

PATIENCE = 30_000
# of a browser in that language: the drawer's button and box, questions, and what their answers hold
TALKS = {
    "en-US": (
        ("Chat with the agent", "Message"),
        [("which sources do you have?", "shop"), (ANOMALOUS, "Anomalous"), ("why?", "nearest anomalous case")],
    ),
    "ko-KR": (
        ("에이전트와 대화", "메시지"),
        [("어떤 소스가 있나요?", "shop"), (ANOMALOUS, "이상"), ("왜 그렇게 판정했나요?", "이상")],
    ),
    "zh-CN": (
        ("与助手对话", "消息"),
        [("你有哪些数据源？", "shop"), (ANOMALOUS, "异常"), ("为什么这样判断？", "异常")],
    ),
}


def messages(page: Page) -> Locator:
    return page.locator(".chat-message")


def say(page: Page, text: str, box: str = "Message") -> Locator:
    """The answer, once it is whole."""
    field = page.get_by_label(box, exact=True)
    field.fill(text)
    field.press("Enter")
    expect(messages(page).filter(has_text=text).last).to_be_visible()
    answer = messages(page).last
    expect(answer).not_to_have_attribute("aria-busy", "true", timeout=PATIENCE)
    return answer


def open_chat(page: Page, served: Served, path: str = "/", button: str = "Chat with the agent") -> None:
    page.goto(served.url + path)
    page.get_by_role("button", name=button).click()
    expect(page.locator(".chat-box")).to_be_visible()


def test_it_goes_on_after_a_restart_of_the_server(browser: Browser, copy_of: Callable[..., Settings]) -> None:
    # first in this module: the server of the other tests serves the console until their end
    chosen = copy_of(model="none")
    with opened(browser) as page:
        with serving(chosen) as served:
            open_chat(page, served)
            say(page, ANOMALOUS)
            page.goto("about:blank")
        with serving(chosen) as served:
            open_chat(page, served)
            expect(messages(page)).to_have_count(2)
            expect(say(page, "why?")).to_contain_text("nearest anomalous case")


@pytest.mark.parametrize("locale", TALKS)
def test_it_is_in_the_language_of_the_browser(browser: Browser, served: Served, locale: str) -> None:
    (button, box), talk = TALKS[locale]
    with opened(browser, locale=locale) as page:
        open_chat(page, served, button=button)
        for question, answer in talk:
            expect(say(page, question, box)).to_contain_text(answer)
        assert axe(page) == []


def test_it_judges_beside_every_page(page: Page, served: Served) -> None:
    for place, path in enumerate(("/", "/unlabelled", "/live", "/casebook", "/source")):
        open_chat(page, served, path)
        expect(messages(page)).to_have_count(2 * place)
        expect(say(page, ANOMALOUS)).to_contain_text("nomalous")
        assert axe(page) == []


def test_it_goes_on_after_a_reload_and_ends_with_a_new_conversation(page: Page, served: Served) -> None:
    open_chat(page, served)
    said = say(page, ANOMALOUS).inner_text()
    page.reload()
    page.get_by_role("button", name="Chat with the agent").click()
    expect(messages(page)).to_have_text([ANOMALOUS, said], use_inner_text=True)
    expect(say(page, "why?")).to_contain_text("nearest anomalous case")
    page.get_by_role("button", name="New conversation").click()
    expect(messages(page)).to_have_count(0)
    expect(say(page, "why?")).to_contain_text("no verdict yet")


def test_another_browser_has_another_conversation(browser: Browser, page: Page, served: Served) -> None:
    open_chat(page, served)
    say(page, ANOMALOUS)
    with opened(browser) as other:
        open_chat(other, served)
        expect(messages(other)).to_have_count(0)
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"] == "precedent_chat")
    assert cookie["httpOnly"]
    assert cookie["expires"] == -1


def test_messages_that_come_at_once_are_all_answered(page: Page, served: Served) -> None:
    open_chat(page, served)
    field = page.get_by_label("Message", exact=True)
    texts = [f"{ANOMALOUS} number {word}" for word in ("one", "two", "three")]
    for text in texts:
        field.fill(text)
        field.press("Enter")
        expect(field).to_have_value("")
    expect(messages(page)).to_have_count(6)
    for place, text in enumerate(texts):
        expect(messages(page).nth(2 * place)).to_have_text(text)
        expect(messages(page).nth(2 * place + 1)).to_contain_text("Anomalous", timeout=PATIENCE)
    # line breaks are written with shift
    field.fill("which sources")
    field.press("Shift+Enter")
    field.press_sequentially("do you have?")
    expect(messages(page)).to_have_count(6)
    page.get_by_role("button", name="Send").click()
    expect(messages(page).last).to_contain_text("shop", timeout=PATIENCE)
