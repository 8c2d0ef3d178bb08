"""Which verdicts are worth a label: the unsure, the frequent, no two alike, none that is a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.errors import UnknownSource
from agent.core.records import SIGNALS, Provenance, Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.active_learning import select_for_review
from agent.training.feedback import correct
from agent.training.learn import as_case
from agent.training.refit import refit
from tests.conftest import make_settings
from tests.retrieval.making import lines, payment, table

KNOWN = "health check answered in time"
FREQUENT = "warehouse robot {} does not close its gripper"
NEAR = "the warehouse robot {} does not close its gripper now"
OTHER = "a barrel of apples rolled down hill {}"


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[AppContext]:
    """A source whose judge has seen a frequent new template, one nearly the same, another one, and a known one."""
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    context.casebook.add("log", lines(), "file test")
    context.casebook.sync("log")
    refit(context, "log")
    _judge(context, "log", [FREQUENT.format(i) for i in range(9)] + [NEAR.format(1), OTHER.format(2), KNOWN])
    yield context
    context.close()


def _judge(context: AppContext, source: str, texts: list[str]) -> list[Verdict]:
    records = [Record(text=text, file="x.log", line=line) for line, text in enumerate(texts, 1)]
    return [verdict for verdict in judge_many(context, build(context), records, source) if isinstance(verdict, Verdict)]


def test_one_of_each_template_and_how_many_are_alike(judged: AppContext) -> None:
    listed = select_for_review(judged, "log", 10)
    assert [candidate.alike for candidate in listed if "robot" in candidate.record.text] == [9, 1]
    assert len(listed) == 3
    assert len(select_for_review(judged, "log", 2)) == 2
    assert all(judged.history.get(candidate.id) for candidate in listed)


def test_what_is_a_case_is_not_listed(judged: AppContext) -> None:
    assert KNOWN not in [candidate.record.text for candidate in select_for_review(judged, "log", 10)]
    first = select_for_review(judged, "log", 1)[0]
    correct(judged, first.id, "anomalous")
    assert all(candidate.alike == 1 for candidate in select_for_review(judged, "log", 10)), (
        "its whole template is known now"
    )


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """The texts of the review of verdicts with these probabilities: ``[(text, probability), …]``."""
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    context.casebook.create("log")

    def reviewed(*verdicts: tuple[str, float]) -> list[str]:
        for line, (text, probability) in enumerate(verdicts, 1):
            verdict = Verdict(
                id=f"v{line}",
                source="log",
                label="unsure",
                probability=probability,
                unsure_band=(0.3, 0.7),
                explanation="",
                signals=dict.fromkeys(SIGNALS),
                record=Record(text=text, line=line),
                provenance=Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=0),
                elapsed_ms=1.0,
            )
            context.history.put([verdict.model_dump(mode="json")])
        return [candidate.record.text for candidate in select_for_review(context, "log", 10)]

    yield reviewed
    context.close()


def test_the_unsure_come_before_the_sure(reviewed: Callable[..., list[str]]) -> None:
    assert reviewed(("a fire", 0.98), ("two pears", 0.5), ("the sea", 0.3)) == ["two pears", "the sea", "a fire"]


def test_the_frequent_come_before_the_rare(reviewed: Callable[..., list[str]]) -> None:
    listed = reviewed(("two pears", 0.5), *((f"line {i} is on fire", 0.4) for i in range(4)))
    assert listed == ["line 3 is on fire", "two pears"]


def test_near_duplicates_come_last(reviewed: Callable[..., list[str]]) -> None:
    listed = reviewed((FREQUENT, 0.5), (NEAR, 0.49), (OTHER, 0.35))
    assert listed == [FREQUENT, OTHER, NEAR]


def test_a_record_judged_again_counts_once(judged: AppContext) -> None:
    judged.casebook.add("log", [as_case(Record(text="one more case"), "normal")], "file test")
    _judge(judged, "log", [FREQUENT.format(i) for i in range(9)])
    assert max(candidate.alike for candidate in select_for_review(judged, "log", 10)) == 9


def test_rows_of_a_table(tmp_path: Path) -> None:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    context.casebook.add("pay", table(), "file test")
    context.casebook.sync("pay")
    refit(context, "pay")
    records = [payment(float(amount), "de") for amount in (13, 700, 701, 900, 5000)]
    assert len(list(judge_many(context, build(context), records, "pay"))) == 5
    listed = [candidate.record.fields["amount"] for candidate in select_for_review(context, "pay", 10)]
    assert set(listed) <= {700.0, 701.0, 900.0, 5000.0}, "13 is a case"
    assert len(listed) >= 2
    context.close()


def test_an_unknown_source_and_an_empty_history(judged: AppContext) -> None:
    with pytest.raises(UnknownSource, match="log"):
        select_for_review(judged, "nope", 3)
    judged.casebook.create("new")
    assert select_for_review(judged, "new", 3) == []
