"""The casebook in the browser: found by word and by meaning, changed by one key, taken back, and as a map."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, axe

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]


def rows(page: Page) -> list[str]:
    return page.locator(".ag-row .cell-text").all_inner_texts()


def test_cases_are_found_changed_and_brought_back(page: Page, served: Served) -> None:
    casebook = served.state.context.casebook
    page.goto(f"{served.url}/casebook")
    expect(page.locator(".ag-row").first).to_be_visible()
    assert axe(page) == []
    page.get_by_label("Search the cases").fill("sectors lost")
    expect(page.locator(".ag-row .cell-text", has_text="sectors lost").first).to_be_visible()
    expect(page.locator(".ag-row .cell-text", has_text="basket")).to_have_count(0)
    page.locator('.ag-row[row-index="0"] .cell-text').click()
    expect(page.locator(".headline")).to_contain_text("anomalous")
    case_id = page.locator(".headline").inner_text().split(":")[0]
    assert axe(page) == []

    def label() -> str | None:
        return next((case.label for case in casebook.cases("shop") if case.case_id == case_id), None)

    page.keyboard.press("n")
    expect(page.locator(".headline")).to_contain_text("normal")
    assert label() == "normal"
    expect(page.locator(".history")).to_contain_text("console")
    page.keyboard.press("u")
    expect(page.locator(".headline")).to_contain_text("anomalous")
    assert label() == "anomalous"
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator(".panel-empty")).to_contain_text("removed from the casebook")
    assert label() is None
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".headline")).to_contain_text("anomalous")
    assert label() == "anomalous"


def test_cases_are_found_by_meaning(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/casebook")
    page.get_by_role("button", name="by meaning").click()
    page.get_by_label("Search the cases").fill("hard drive is broken")
    expect(page.locator('.ag-row[row-index="0"] .cell-text')).to_contain_text("disk failure")
    expect(page.locator('.ag-row[row-index="0"]')).to_contain_text("0.")


def test_the_map_opens_a_case(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/casebook")
    page.get_by_role("button", name="Map").click()
    expect(page.locator(".map canvas")).to_be_visible()
    page.wait_for_timeout(500)
    assert axe(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".map")).to_have_count(0)
