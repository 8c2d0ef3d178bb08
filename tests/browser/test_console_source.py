"""The page of a source in the browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, axe
from tests.shop import LOG

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]


def test_the_brief_is_edited(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/source")
    brief = page.get_by_label("What is normal, what is anomalous")
    brief.fill("A shop <b>log</b>. Failures are anomalous.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved", exact=True)).to_be_visible()
    row = served.state.context.source("shop")
    assert (row.brief, row.brief_by) == ("A shop <b>log</b>. Failures are anomalous.", "person")


def test_it_is_fitted_again(page: Page, served: Served) -> None:
    context = served.state.context
    page.goto(f"{served.url}/source")
    expect(page.locator(".card").first).to_contain_text("36 normal, 24 anomalous")
    before = context.source("shop").revision
    page.get_by_role("button", name="Fit again").click()
    expect(page.get_by_text("Fitted again", exact=True)).to_be_visible(timeout=60_000)
    assert context.source("shop").revision > before


def test_its_curves_are_those_of_a_labelled_file(page: Page, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "later.log"
    path.write_text(LOG.replace("order", "order no."), encoding="utf-8")
    page.goto(f"{served.url}/source")
    page.set_input_files("input[data-upload]", path)
    figures = page.locator(".card", has_text="How good are the probabilities?")
    expect(figures).to_contain_text("60 records (later.log)", timeout=60_000)
    expect(page.locator(".chart canvas")).to_have_count(2)
    assert axe(page) == []
    page.get_by_role("button", name="Corrected verdicts").click()
    expect(figures).to_contain_text("too few for a curve")


def test_the_review_queue_asks_for_what_is_uncertain(page: Page, served: Served) -> None:
    text = "<i>warehouse</i> robot 12 does not close its gripper"
    assert page.request.post(f"{served.url}/v1/verdicts", data={"text": text, "source": "shop"}).ok
    page.goto(f"{served.url}/source")
    row = page.locator(".queue-row", has_text="<i>warehouse</i> robot")
    row.get_by_role("button", name="normal", exact=True).click()
    expect(row).to_have_count(0)
    case = served.state.context.casebook.cases("shop")[-1]
    assert (case.text, case.label) == (text, "normal")
