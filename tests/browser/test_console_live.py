"""The page of watched streams: what is judged while it is open appears, and is acknowledged and muted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from agent.core.records import Verdict
from retrieval.store.watch import LiveGroup, commit, live_groups
from tests.browser.conftest import Served, axe
from tests.shop import ANOMALOUS

pytestmark = [pytest.mark.browser, pytest.mark.network, pytest.mark.enable_socket]


def judged(page: Page, served: Served, text: str) -> Verdict:
    answer = page.request.post(f"{served.url}/v1/verdicts", data={"text": text, "source": "shop"})
    return Verdict.model_validate(answer.json())


def write(served: Served, verdict: Verdict, template: str, count: int) -> None:
    """As `precedent watch` does."""
    now = datetime.now(UTC)
    group = LiveGroup(
        source="shop",
        template=template,
        label=verdict.label,
        verdict_id=verdict.id,
        probability=verdict.probability,
        text=verdict.record.text,
        why="like earlier failures",
        count=count,
        first_at=now,
        last_at=now,
        first_seen="shop.log:1",
        last_seen="shop.log:9",
    )
    counts = {"normal": 100, verdict.label: count}
    commit(served.state.context.casebook.engine, "a", "shop", {}, counts, [group], now)


def test_what_is_judged_appears_and_is_handled(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/live")
    expect(page.get_by_text("No stream was watched in this time")).to_be_visible()
    assert axe(page) == []
    write(served, judged(page, served, f"{ANOMALOUS} <b>now</b>"), "one", 3)
    group = page.locator(".live-group")
    expect(group).to_contain_text("<b>now</b>", timeout=10_000)
    expect(group).to_contain_text("3 ×")
    expect(page.get_by_text("103 records")).to_be_visible()
    write(served, judged(page, served, f"{ANOMALOUS} <b>now</b>"), "one", 2)
    expect(group).to_contain_text("5 ×", timeout=10_000)
    assert axe(page) == []
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("button", name="acknowledged")).to_be_disabled()
    group.locator(".live-open").click()
    expect(page.locator(".headline")).to_contain_text("Anomalous")
    page.get_by_role("button", name="Mute").click()
    expect(group).to_have_count(0)
    assert live_groups(served.state.context.casebook.engine, "shop")[0].is_muted
    page.get_by_text("show muted").click()
    expect(group).to_have_count(1)
