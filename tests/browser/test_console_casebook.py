"""The casebook in the browser: found by word and by meaning, changed by one key, taken back, and as a map."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, axe
from tests.shop import LOG

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
    # what is behind a dialog is out of reach, and the focus returns
    assert page.locator(".q-layout").evaluate("layout => layout.inert")
    page.keyboard.press("Escape")
    expect(page.locator(".map")).to_have_count(0)
    expect(page.get_by_role("button", name="Map")).to_be_focused()


def test_cases_of_a_labelled_file_are_imported(page: Page, served: Served, tmp_path: Path) -> None:
    before = served.state.context.source("shop").counts
    path = tmp_path / "more.log"
    new = [f"- cart {word} emptied by its owner\n" for word in ("red", "green", "blue")]
    path.write_text(LOG + "".join(new) + "FAULT cart black lost with its orders\n", encoding="utf-8")
    page.goto(f"{served.url}/casebook")
    page.get_by_role("button", name="Import cases").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Choose a labelled file")).to_be_visible()
    assert axe(page) == []
    page.set_input_files("input[data-upload]", path)
    # read as the source's files are, with the same labels
    expect(dialog.get_by_label("Which column holds the labels?")).to_have_value("word 1 of each line")
    expect(dialog.locator(".preview li")).to_have_count(3)
    expect(dialog).to_contain_text("39 normal, 25 anomalous")
    button = dialog.get_by_role("button", name="Import", exact=True)
    expect(button).to_be_enabled()
    # axe takes the dialog's backdrop for the background of a filled button within it: its colours are 7:1
    assert [found for found in axe(page) if not found.endswith(">Import</span>']")] == []
    expect(button).to_have_css("background-color", "rgb(31, 96, 117)")
    expect(button).to_have_css("color", "rgb(255, 255, 255)")
    dialog.get_by_role("button", name="Import", exact=True).click()
    expect(dialog.locator(".note.good")).to_contain_text("shop: 4 new cases, 60 known already", timeout=120_000)
    counts = served.state.context.source("shop").counts
    assert counts == {"normal": before["normal"] + 3, "anomalous": before["anomalous"] + 1}
    assert (served.state.context.source("shop").reading or {})["label"] == "0"
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".run-line")).to_have_text(f"{counts['normal']} normal, {counts['anomalous']} anomalous")
    expect(page.locator('.ag-row[row-index="0"]')).to_contain_text("cart")


def test_a_file_without_a_readable_case_is_not_imported(page: Page, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    page.goto(f"{served.url}/casebook")
    page.get_by_role("button", name="Import cases").click()
    page.set_input_files("input[data-upload]", path)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("other.csv:1: its only word is the label column")
    expect(dialog.get_by_role("button", name="Import", exact=True)).to_be_disabled()
    assert axe(page) == []
    # a person may say that it has no labels
    dialog.get_by_label("Which column holds the labels?").click()
    page.get_by_role("option", name="no column: all its records are normal").click()
    expect(dialog.get_by_role("button", name="Import", exact=True)).to_be_enabled()
