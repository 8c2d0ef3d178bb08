"""The first minute with a log that has no labels: its events, one key each, a source, verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, axe

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]

_ORDINARY = ("{t} web GET /basket/{n} 200 in {m} ms", "{t} web user {n} logged in", "{t} mail queued for customer {n}")
_FAULT = "{t} disk I/O error on <b>sd{m}</b>: sector {n} is lost"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "unheard.log"
    lines = [
        (_FAULT if i in (333, 334, 351) else _ORDINARY[i % 3]).format(
            t=f"2026-11-22 17:{i // 60:02d}:{i % 60:02d}", n=1000 + i, m=i % 7
        )
        for i in range(600)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_events_are_labelled_by_one_key_and_make_a_source(page: Page, served: Served, log: Path) -> None:
    page.goto(f"{served.url}/unlabelled")
    assert axe(page) == []
    page.set_input_files("input[data-upload]", log)
    expect(page.locator(".event").first).to_contain_text("disk I/O error on <b>sd", timeout=60_000)
    expect(page.get_by_text("Nothing is labelled yet")).to_be_visible()
    assert page.locator(".event b").count() == 0
    assert axe(page) == []
    page.keyboard.press("a")
    expect(page.locator(".event").first).to_have_class("event anomalous")
    events = page.locator(".event").count()
    for _ in range(events - 1):
        page.keyboard.press("n")
    expect(page.locator(".sticky")).to_contain_text(f"{events - 1} normal, 1 anomalous")
    # the last one is taken back and given again
    page.keyboard.press("u")
    expect(page.locator(".sticky")).to_contain_text(f"{events - 2} normal, 1 anomalous")
    page.keyboard.press("n")
    page.get_by_role("button", name="Make a source of the labels").click()
    expect(page.locator(".ag-row").first).to_be_visible(timeout=120_000)
    counts = served.state.context.source("unheard").counts
    assert counts["anomalous"] == 1
    assert counts["normal"] >= events - 1
    assert {case.text.partition(" disk")[0][-8:] for case in served.state.context.casebook.cases("unheard")} != set()


def test_a_file_that_is_all_normal_makes_a_source(page: Page, served: Served, log: Path) -> None:
    page.goto(f"{served.url}/unlabelled")
    page.set_input_files("input[data-upload]", log)
    page.get_by_label("Name of the source").fill("quiet")
    page.get_by_role("button", name="The whole file is normal").click()
    expect(page.locator(".ag-row").first).to_be_visible(timeout=120_000)
    assert served.state.context.source("quiet").counts["anomalous"] == 0
