"""The page of watched streams: what is judged while it is open appears, and is acknowledged and muted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.core.records import Verdict
from retrieval.store.watch import LiveGroup, commit, live_counts, live_groups
from tests.browser.conftest import Served, axe
from tests.shop import ANOMALOUS, NORMAL

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


@contextmanager
def watching(served: Served, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`precedent watch` of a file as a process of its own, on the store of the server."""
    settings = served.state.settings
    environment = {"PRECEDENT_HOME": str(settings.home), "PRECEDENT_MODEL": "none", "PRECEDENT_OFFLINE": "1"}
    code = "import sys; from agent.cli.app import command; sys.argv = ['precedent', *sys.argv[1:]]; command()"
    watch = subprocess.Popen(
        [sys.executable, "-c", code, "watch", str(log), "--source", "shop"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield watch
    finally:
        watch.send_signal(signal.SIGINT)
        _, problem = watch.communicate(timeout=60)
    assert watch.returncode == 0, problem


def records(served: Served) -> int:
    """How many were judged by a watch."""
    return sum(count for *_, count in live_counts(served.state.context.casebook.engine, "shop"))


def append(log: Path, *lines: str) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def test_a_file_that_is_written_to_is_seen_live(page: Page, served: Served, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *[NORMAL] * 20)
    group, judged_before = page.locator(".live-group", has_text="spindle"), records(served)
    with watching(served, log):
        page.goto(f"{served.url}/live?source=shop")
        expect(page.locator("[role=status]", has_text="records ·")).to_be_visible(timeout=90_000)
        before = time.monotonic()
        append(log, f"{ANOMALOUS}, spindle 1", NORMAL)
        expect(group).to_contain_text("1 ×", timeout=30_000)
        seen_after = time.monotonic() - before
        append(log, *(f"{ANOMALOUS}, spindle {number}" for number in range(2, 6)))
        expect(group).to_contain_text("5 ×", timeout=30_000)
        # rotated while the page is open
        log.rename(tmp_path / "app.log.1")
        append(log, f"{ANOMALOUS}, spindle 6", NORMAL)
        expect(group).to_contain_text("6 ×", timeout=30_000)
        assert axe(page) == []
        # and looked at, and corrected, while it goes on
        group.locator(".live-open").click()
        expect(page.locator(".headline")).to_contain_text("Anomalous")
        expect(page.locator("pre.record")).to_contain_text("spindle")
        append(log, f"{ANOMALOUS}, spindle 7")
        expect(group).to_contain_text("7 ×", timeout=30_000)
        expect(page.locator(".headline")).to_be_visible()
        page.get_by_role("button", name="It is normal").click()
        expect(page.locator(".panel .labelled")).to_contain_text("Labelled normal by you")
        case = served.state.context.casebook.cases("shop")[-1]
        assert ("spindle" in case.text, case.label) == (True, "normal")
    # each line of the file and of the one that was rotated, once
    assert records(served) - judged_before == 20 + 2 + 4 + 2 + 1
    assert seen_after < 20
