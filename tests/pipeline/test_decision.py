"""A text that is like no case is never normal, also where a few templates are all far from each other.

Nor is it anomalous: that it is new does not tell a fault from a line of another system.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from tests.conftest import make_settings

NORMAL = ("user u{} logged in from 10.0.0.{}", "backup of volume {} done in {} s", "invoice {} was mailed to {}")
ANOMALOUS = ("FATAL: block {} of disk {} could not be written", "ERROR: checksum failure in page {} of table {}")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """A log of five templates."""
    home = tmp_path_factory.mktemp("few")
    lines = [f"- {text.format(i, i)}" for i in range(20) for text in NORMAL]
    lines += [f"BAD {text.format(i, i)}" for i in range(10) for text in ANOMALOUS]
    (home / "learn.log").write_text("\n".join(lines), encoding="utf-8")
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "learn.log"], "few", ReadOptions(format="log", label="0", normal=("-",)), brief="A server.")
    yield context
    context.close()


@pytest.mark.parametrize("text", ["the server room is under water", "segfault", "1, 2", "Killed process 1234"])
def test_a_text_unlike_a_few_templates_is_never_normal(context: AppContext, text: str) -> None:
    assert build(context).invoke({"text": text, "source": "few"}).label != "normal"


def test_a_known_template_of_a_few_is_normal(context: AppContext) -> None:
    assert build(context).invoke({"text": "user u77 logged in from 10.0.0.99", "source": "few"}).label == "normal"


PLACES = ("basket", "invoice", "parcel", "refund", "coupon", "review", "wish list", "gift card")
SHOP_NORMAL = (
    "GET /{place}/{n} 200 in {n} ms",
    "the {place} of customer {n} was saved",
    "{place} {n} was mailed to the customer",
)
SHOP_ANOMALOUS = (
    "ERROR the {place} of customer {n} was lost: timeout of the database",
    "FATAL {place} {n} was paid twice",
)
OTHER_SYSTEMS = (
    "Failed password for invalid user guest from 203.0.113.9 port 38926 ssh2",
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.7",
    "[error] mod_jk child workerEnv in error state 6",
    "kernel: Out of memory: Killed process 1234 (java) total-vm:18842908kB, anon-rss:8123456kB",
    "session.NIOServerCnxn: caught end of stream exception EndOfStreamException: Unable to read additional data",
    "BLOCK* NameSystem.addStoredBlock: blockMap updated: 10.250.11.100:50010 is added to blk_3888 size 67108864",
    "CBS Loaded Servicing Stack v6.1.7601.23505 with Core: winsxs cbscore.dll",
    "MCE: machine check error on CPU 3 bank 5, memory scrubbing corrected DIMM A2",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """A log of forty templates, and one of the 24 normal ones alone."""
    home = tmp_path_factory.mktemp("many")
    normal = [text.format(place=place, n=n) for n in range(3) for place in PLACES for text in SHOP_NORMAL]
    anomalous = [text.format(place=place, n=n) for n in range(3) for place in PLACES for text in SHOP_ANOMALOUS]
    lines = [f"- {text}" for text in normal] + [f"BAD {text}" for text in anomalous]
    (home / "both.log").write_text("\n".join(lines), encoding="utf-8")
    (home / "normal.log").write_text("\n".join(f"- {text}" for text in normal), encoding="utf-8")
    context = AppContext(make_settings(home / "home", model="none"))
    for name in ("both", "normal"):
        learn(
            context, [home / f"{name}.log"], name, ReadOptions(format="log", label="0", normal=("-",)), brief="A shop."
        )
    yield context
    context.close()


@pytest.mark.parametrize("text", OTHER_SYSTEMS)
def test_a_line_of_another_system_is_neither_normal_nor_anomalous(shop: AppContext, text: str) -> None:
    verdict = build(shop).invoke({"text": text, "source": "both", "explain": "facts"})
    assert verdict.label == "unsure"
    assert verdict.probability < 0.75
    assert "no case is like it, of either label" in verdict.explanation


def test_a_long_line_of_another_system_is_no_anomaly_by_one_of_its_clauses(shop: AppContext) -> None:
    text = ". ".join(OTHER_SYSTEMS)
    assert build(shop).invoke({"text": text, "source": "both"}).label == "unsure"


def test_what_is_new_but_of_this_system_is_still_anomalous(shop: AppContext) -> None:
    for text in ("FATAL voucher 7 was paid twice", "ERROR the voucher of customer 9 was lost: timeout of the database"):
        assert build(shop).invoke({"text": text, "source": "both"}).label == "anomalous"


def test_where_all_cases_are_normal_what_is_new_may_be_anomalous(shop: AppContext) -> None:
    verdict = build(shop).invoke({"text": OTHER_SYSTEMS[0], "source": "normal", "explain": "facts"})
    assert "no case is like it, of either label" not in verdict.explanation


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """Sessions of both labels, and a source of the normal ones alone."""
    home = tmp_path_factory.mktemp("sessions")
    rng = random.Random(5)
    normal = [["open", *["read"] * rng.randint(1, 6), "close"] for _ in range(60)]
    anomalous = [["open", *["read"] * rng.randint(1, 6), "abort"] for _ in range(20)]
    context = AppContext(make_settings(home / "home", model="none"))
    for name, known in (("both", [(normal, 0), (anomalous, 1)]), ("normal", [(normal, 0)])):
        rows = [json.dumps({"events": events, "label": label}) for group, label in known for events in group]
        (home / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        learn(context, [home / f"{name}.jsonl"], name, ReadOptions(label="label"), brief="Files.")
    yield context
    context.close()


def test_a_session_of_another_system_is_neither_normal_nor_anomalous(sessions: AppContext) -> None:
    """None of its events is in a case: that is not an anomaly of this system, nor is it known to be none."""
    chain = build(sessions)
    for events in (["E5", "E22", "E5", "E11"], ["boot"], ["login", "logout"] * 9):
        verdict = chain.invoke({"events": events, "source": "both", "explain": "facts"})
        assert verdict.label == "unsure", events
        assert "no case is like it, of either label" in verdict.explanation
    assert chain.invoke({"events": ["open", "read", "abort"], "source": "both"}).label == "anomalous"
    new = chain.invoke({"events": ["open", "read", "explode", "abort"], "source": "both"})
    assert new.label == "anomalous", "with events of this system a new one may be an anomaly"


def test_a_session_of_another_system_is_unsure_where_new_events_are_not_seldom(tmp_path: Path) -> None:
    """Each session has an event of its own, so that a new one is no surprise; but none that is known is one."""
    rows = [
        {"events": ["open", f"step {chr(97 + i)}", "abort" if i % 4 else "close"], "label": i % 4} for i in range(24)
    ]
    (tmp_path / "learn.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    learn(context, [tmp_path / "learn.jsonl"], "open", ReadOptions(label="label"), brief="Files.")
    verdict = build(context).invoke({"events": ["E5", "E22", "E5"], "source": "open", "explain": "facts"})
    context.close()
    assert verdict.label == "unsure"
    assert "no case is like it, of either label" in verdict.explanation


def test_where_all_sessions_are_normal_new_events_may_be_anomalous(sessions: AppContext) -> None:
    verdict = build(sessions).invoke({"events": ["E5", "E22"], "source": "normal", "explain": "facts"})
    assert "no case is like it, of either label" not in verdict.explanation


@pytest.mark.parametrize("text", ["N/A", "[MASK]", "<*> <*>", "-", "...", "null"])
@pytest.mark.parametrize("source", ["both", "normal"])
def test_a_text_without_content_is_neither_normal_nor_anomalous(shop: AppContext, source: str, text: str) -> None:
    verdict = build(shop).invoke({"text": text, "source": source, "explain": "facts"})
    assert verdict.label == "unsure"
    assert "it holds no word or number" in verdict.explanation
