"""The whole loop in the browser: data in, verdicts, why, correction, judged again; a new source from labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from agent.api.bodies import UPLOAD_BYTES
from tests.browser.conftest import Served, axe, opened
from tests.shop import ANOMALOUS, LOG, NEW, NORMAL

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]

HOSTILE = (
    "<img src=x onerror=alert(1)> <script>alert(2)</script> **bold** [a](javascript:alert(3)) {{ 7*7 }} ${7*7} `b`"
)
LINES = [NORMAL, ANOMALOUS, HOSTILE, NEW]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "shop <b>today.log"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def judge(page: Page, url: str, log: Path) -> None:
    page.goto(url)
    page.set_input_files("input[data-upload]", log)
    expect(page.locator(".preview li")).to_have_count(3)
    page.get_by_role("button", name="Judge", exact=True).click()
    expect(page.locator(".ag-row")).to_have_count(len(LINES), timeout=60_000)


def row(page: Page, place: int) -> None:
    page.locator(f'.ag-row[row-index="{place}"] .cell-text').click()


def test_the_whole_loop(page: Page, served: Served, log: Path) -> None:
    judge(page, served.url, log)
    assert axe(page) == []
    row(page, 1)
    expect(page.locator(".headline")).to_contain_text("Anomalous")
    expect(page.locator(".panel")).to_contain_text("shop <b>today.log:2")
    expect(page.locator(".precedent").first).to_contain_text("disk failure")
    expect(page.locator(".precedent mark").first).to_be_visible()
    expect(page.locator(".signals .bar-for").first).to_be_visible()
    assert axe(page) == []
    # by the keyboard alone: next record, and a key for the label
    page.keyboard.press("ArrowDown")
    expect(page.locator("pre.record")).to_have_text(HOSTILE)
    page.keyboard.press("ArrowDown")
    expect(page.locator("pre.record")).to_have_text(NEW)
    page.keyboard.press("n")
    expect(page.locator(".panel .labelled")).to_contain_text("Labelled normal by you")
    expect(page.locator('.ag-row[row-index="3"]')).to_contain_text("→ normal")
    case = served.state.context.casebook.cases("shop")[-1]
    assert (case.text, case.label) == (NEW, "normal")
    # taken back, and given again
    page.keyboard.press("u")
    expect(page.locator('.ag-row[row-index="3"]')).not_to_contain_text("→")
    assert served.state.context.casebook.cases("shop")[-1].text != NEW
    page.keyboard.press("n")
    expect(page.locator('.ag-row[row-index="3"]')).to_contain_text("→ normal")
    # judged again, it follows
    page.get_by_role("button", name="Judge again").click()
    expect(page.locator('.ag-row[row-index="3"] .cell-normal')).to_have_text("normal", timeout=60_000)


def test_a_record_stays_text(page: Page, served: Served, log: Path) -> None:
    judge(page, served.url, log)
    row(page, 2)
    expect(page.locator("pre.record")).to_have_text(HOSTILE)
    page.get_by_role("button", name="It is anomalous").click()
    expect(page.locator(".panel .labelled")).to_contain_text("Labelled anomalous by you")
    page.get_by_role("button", name="Judge again").click()
    expect(page.locator('.ag-row[row-index="2"] .cell-anomalous')).to_be_visible(timeout=60_000)
    row(page, 2)
    expect(page.locator(".precedent").first).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.locator(".panel b, .run-line b, .panel a").count() == 0


def test_a_whole_record_is_seen(page: Page, browser: Browser, served: Served, tmp_path: Path) -> None:
    long = f"{HOSTILE} {' '.join(f'word{i}' for i in range(30))} the end"
    path = tmp_path / "long.log"
    path.write_text(f"{NORMAL}\n{long}\n{NORMAL}\n{NEW}\n", encoding="utf-8")
    judge(page, served.url, path)
    cell = page.locator('.ag-row[row-index="1"] .cell-text')
    one_line = cell.bounding_box()
    page.wait_for_timeout(500)
    page.locator('.ag-row[row-index="0"] .cell-text').hover()
    cell.hover()
    expect(page.locator(".ag-tooltip:not(.ag-tooltip-hiding)")).to_have_text(long)
    assert page.locator("img[src=x]").count() == 0
    page.mouse.move(0, 0)
    # several lines of each, and one again
    page.get_by_role("button", name="Whole records").click()
    expect(page.locator('.ag-row[row-index="1"]')).to_have_css("height", "110px")
    expect(cell).to_have_css("white-space", "pre-wrap")
    assert axe(page) == []
    page.get_by_role("button", name="Whole records").click()
    expect(page.locator('.ag-row[row-index="1"]')).to_have_css("height", "30px")
    # the panel takes room from the table only when it shows something
    cell.click()
    expect(page.locator(".panel")).to_be_visible()
    page.wait_for_timeout(200)
    narrow = cell.bounding_box()
    assert one_line is not None
    assert narrow is not None
    assert narrow["width"] < one_line["width"]
    address = page.url
    with opened(browser, viewport={"width": 390, "height": 780}) as phone:
        phone.goto(address)
        cell = phone.locator('.ag-row[row-index="1"] .cell-text')
        expect(cell).to_have_css("white-space", "pre-wrap")
        expect(phone.locator(".cell-why")).to_have_count(0)
        box = cell.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
        assert axe(phone) == []


def test_filter_search_and_exports(page: Page, served: Served, log: Path) -> None:
    judge(page, served.url, log)
    page.get_by_role("button", name="anomalous").first.click()
    expect(page.locator('.ag-row[row-index="0"]')).to_contain_text("disk failure")
    page.get_by_role("button", name="anomalous").first.click()
    page.get_by_label("Search the records").fill("basket/4711")
    expect(page.locator(".ag-row:visible")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "disk failure" in download.value.path().read_text(encoding="utf-8")


def test_a_new_source_from_a_labelled_file(page: Page, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "second.log"
    path.write_text(LOG, encoding="utf-8")
    page.goto(served.url)
    page.set_input_files("input[data-upload]", path)
    page.get_by_label("Source", exact=True).click()
    page.get_by_role("option", name="A new source …").click()
    page.get_by_label("Which column holds the labels?").click()
    page.get_by_role("option", name="word 1 of each line").click()
    expect(page.locator(".source-form")).to_contain_text("36 normal, 24 anomalous")
    assert axe(page) == []
    page.get_by_role("button", name="Learn").click()
    expect(page.locator(".note.good")).to_contain_text("second: 60 new cases", timeout=120_000)
    page.get_by_role("button", name="Judge this file").click()
    expect(page.locator(".ag-row").first).to_be_visible(timeout=60_000)
    assert served.state.context.source("second").counts == {"normal": 36, "anomalous": 24}


def test_pasted_records_on_a_phone(browser: Browser, served: Served) -> None:
    with opened(browser, viewport={"width": 390, "height": 780}, color_scheme="dark") as page:
        page.goto(served.url)
        assert axe(page) == []
        page.get_by_label("Records").fill(ANOMALOUS)
        page.get_by_role("button", name="Go on").click()
        # of several sources none is chosen beforehand
        page.get_by_role("combobox", name="Source").click()
        page.get_by_role("option", name="shop", exact=True).click()
        page.get_by_role("button", name="Judge", exact=True).click()
        expect(page.locator(".ag-row")).to_have_count(1, timeout=60_000)
        row(page, 0)
        expect(page.locator(".headline")).to_contain_text("Anomalous")
        assert axe(page) == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390


def test_the_first_paint_takes_less_than_a_second_and_a_half(browser: Browser, served: Served) -> None:
    with opened(browser) as warm:
        warm.goto(served.url)
        expect(warm.get_by_label("Records")).to_be_visible()
    last = []
    # the least of three: other work on the machine is not the page's
    for _ in range(3):
        with opened(browser) as page:
            page.goto(served.url)
            expect(page.get_by_label("Records")).to_be_visible()
            last.append(max(page.evaluate("performance.getEntriesByType('paint').map(paint => paint.startTime)")))
    # on a machine that has nothing else to do; the load is what others leave of it
    assert min(last) < 1_500 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_a_file_over_the_limit_says_so_and_one_at_it_is_taken(page: Page, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "large.log"
    line = f"{NORMAL}\n".encode()
    with path.open("wb") as file:
        file.write(line)
        file.truncate(UPLOAD_BYTES + 1)
    page.goto(served.url)
    page.set_input_files("input[data-upload]", path)
    expect(page.locator("[data-upload-status]")).to_contain_text("large.log is larger than 100 MB")
    expect(page.locator("[data-upload-status]")).to_contain_text("precedent judge FILE")
    path.write_bytes(line * (UPLOAD_BYTES // len(line)))
    page.set_input_files("input[data-upload]", path)
    expect(page.get_by_text("The file is large")).to_be_hidden()
    expect(page.locator(".upload-head")).to_contain_text("104.9 MB", timeout=60_000)
