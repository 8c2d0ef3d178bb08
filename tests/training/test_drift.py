"""Drift is found where records have moved, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.core.errors import UnknownSource
from agent.core.records import Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.drift import measure_drift
from agent.training.feedback import correct
from agent.training.learn import as_case
from agent.training.refit import refit
from agent.training.stability_index import number_psi, psi
from tests.conftest import make_settings
from tests.retrieval.making import lines, payment


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(make_settings(tmp_path / "home", model="none"))
    yield made
    made.close()


def learned(context: AppContext, name: str, cases: Sequence[object]) -> None:
    context.casebook.add(name, cases, "file test")  # type: ignore[arg-type]
    context.casebook.sync(name)
    refit(context, name)


def judged(context: AppContext, source: str, records: Sequence[Record]) -> list[Verdict]:
    answers = judge_many(context, build(context), records, source, "none")
    return [one for one in answers if isinstance(one, Verdict)]


def texts(template: str, count: int) -> list[Record]:
    return [Record(text=template.format(i), line=i + 1) for i in range(count)]


def cases_of_templates() -> list[object]:
    """Each template of `lines` five times: hardly anything new is expected."""
    return [as_case(Record(text=f"{i} {one.record.text}"), one.label) for one in lines() for i in range(5)]  # type: ignore[arg-type]


def test_templates_never_seen_are_told_with_what_to_do(context: AppContext) -> None:
    learned(context, "log", cases_of_templates())
    judged(context, "log", texts("{} health check answered in time", 40))
    judged(context, "log", texts("robot {} has lost its gripper", 20))
    found = measure_drift(context, "log")
    assert (found.records, found.novel_share, found.novel_expected) == (60, pytest.approx(1 / 3), 0.0)
    (finding,) = [text for text in found.findings if "templates" in text]
    assert finding.startswith(
        "33 % of what the last 60 records say has templates that the casebook has never seen (0 %"
    )
    assert finding.endswith("else label some")
    context.casebook.add("log", [as_case(Record(text="robot 7 has lost its gripper"), "normal")], "file test")
    assert measure_drift(context, "log").novel_share == 0.0, "labelling one of them is what it takes"


def test_records_like_the_cases_are_no_finding(context: AppContext) -> None:
    learned(context, "log", cases_of_templates())
    judged(context, "log", texts("{} health check answered in time", 60))
    found = measure_drift(context, "log")
    assert (found.novel_share, found.unsure_share, found.anomalous_share, found.findings) == (0.0, 0.0, 0.0, [])


def test_fewer_than_fifty_records_are_no_alarm(context: AppContext) -> None:
    learned(context, "log", cases_of_templates())
    assert measure_drift(context, "log").records == 0
    judged(context, "log", texts("robot {} has lost its gripper", 49))
    found = measure_drift(context, "log")
    assert (found.records, found.novel_share, found.findings) == (49, 1.0, [])
    judged(context, "log", texts("robot {} has lost its gripper", 50))
    assert measure_drift(context, "log").records == 50, "judged again, a record counts once"
    assert measure_drift(context, "log").findings


def payments(amounts: Sequence[float], country: str = "de") -> list[Record]:
    return [payment(round(float(amount), 2), country) for amount in amounts]


def test_a_field_that_moved_is_named_and_one_that_did_not_is_not(context: AppContext) -> None:
    rng = np.random.default_rng(0)
    learned(context, "pay", [as_case(one, "normal") for one in payments(rng.normal(100, 20, 300))])
    judged(context, "pay", payments(rng.normal(100, 20, 200)))
    still = measure_drift(context, "pay")
    assert (still.novel_share, still.novel_expected) == (None, None)
    assert set(still.field_psi) == {"amount", "country"}
    assert max(still.field_psi.values()) < 0.25
    assert not [one for one in still.findings if "fields" in one]
    judged(context, "pay", payments(rng.normal(140, 20, 200)))
    moved = measure_drift(context, "pay")
    assert next(iter(moved.field_psi)) == "amount"
    (finding,) = [text for text in moved.findings if "fields" in text]
    assert "amount (" in finding
    assert "country" not in finding
    assert finding.endswith("rebuild the source")


def test_a_category_that_no_case_has(context: AppContext) -> None:
    rng = np.random.default_rng(1)
    learned(context, "pay", [as_case(one, "normal") for one in payments(rng.normal(100, 20, 60))])
    judged(context, "pay", payments(rng.normal(100, 20, 120)) + payments(rng.normal(100, 20, 30), "xx"))
    assert measure_drift(context, "pay").field_psi["country"] > 0.25


def test_ties_are_no_drift() -> None:
    """A field that is nearly always 0: the index over its knots must not take the ties for a move."""
    rng = np.random.default_rng(2)
    old, new = (np.where(rng.random(2000) < 0.7, 0.0, rng.exponential(1.0, 2000)) for _ in range(2))
    assert number_psi(np.quantile(old, np.linspace(0, 1, 33)), new) < 0.03
    rare = np.r_[np.zeros(32), 1.0]
    for knots, value in ((np.zeros(33), 0.0), (np.ones(33), 1.0), (rare, 0.0)):
        assert number_psi(knots, np.full(500, value)) < 0.01
        assert number_psi(knots, np.full(500, 1.0 - value)) > 1


def test_the_index_is_that_of_the_textbook() -> None:
    shares = [(0.4, 0.25), (0.3, 0.25), (0.2, 0.25), (0.1, 0.25)]
    expected = sum((p - q) * np.log(p / q) for p, q in shares)
    assert psi([40_000, 30_000, 20_000, 10_000], [25_000] * 4) == pytest.approx(expected, abs=1e-3)


def test_contradicted_verdicts_are_counted(context: AppContext) -> None:
    learned(context, "log", cases_of_templates())
    verdicts = judged(context, "log", texts("{} health check answered in time", 60))
    assert {one.label for one in verdicts} == {"normal"}
    for verdict in verdicts[:2]:
        correct(context, verdict.id, "normal")
    assert (measure_drift(context, "log").corrected, measure_drift(context, "log").contradicted_share) == (2, 0.0)
    for verdict in verdicts[2:8]:
        correct(context, verdict.id, "anomalous")
    found = measure_drift(context, "log")
    assert (found.corrected, found.contradicted_share) == (8, 0.75)
    assert not [text for text in found.findings if "contradicted" in text], "6 of 60 may be chance at a risk of 5 %"
    for verdict in verdicts[8:14]:
        correct(context, verdict.id, "anomalous")
    (finding,) = [text for text in measure_drift(context, "log").findings if "contradicted" in text]
    assert finding.startswith(
        "people contradicted 20 % of the decided verdicts on the last 60 records, and no more than 5 %"
    )


def test_an_unknown_source(context: AppContext) -> None:
    with pytest.raises(UnknownSource):
        measure_drift(context, "nope")
