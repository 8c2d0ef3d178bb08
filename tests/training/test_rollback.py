"""Going back to the fit before: its verdicts come back, and the way forward again stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from agent.core.errors import UsageError
from agent.core.records import Record
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.feedback import refit_due
from agent.training.learn import as_case
from agent.training.refit import earlier_fit, is_outdated, refit, refit_while_due, rollback
from retrieval.store.fits import Fits
from tests.conftest import Run
from tests.served import copy_of, learned
from tests.shop import ANOMALOUS, NEW, NORMAL

__all__ = ["copy_of", "learned"]

TEXTS = [
    NORMAL,
    ANOMALOUS,
    NEW,
    "job q ended with code 1",
    "database connection lost after 3 attempts",
    "GET /basket/1 500 in 9 ms",
]


@pytest.fixture
def shop(copy_of: Callable[..., Settings]) -> Iterator[AppContext]:
    context = AppContext(copy_of(model="none"))
    yield context
    context.close()


def probabilities(context: AppContext) -> list[float]:
    chain = build(context)
    return [chain.invoke(JudgeRequest.about(Record(text=text), "shop")).probability for text in TEXTS]


def add_cases(context: AppContext, count: int = 12) -> None:
    """Anomalies that read as the normal cases do."""
    texts = [f"GET /basket/{'x' * (i + 1)} {500 + i} in {i} ms" for i in range(count)]
    context.casebook.add("shop", [as_case(Record(text=text), "anomalous") for text in texts], "file test")
    context.casebook.sync("shop")


def test_the_verdicts_before_a_refit_come_back_and_go_again(shop: AppContext) -> None:
    add_cases(shop)
    before = probabilities(shop)
    refit(shop, "shop")
    after = probabilities(shop)
    assert after != pytest.approx(before, abs=1e-3)
    row = rollback(shop, "shop")
    assert probabilities(shop) == pytest.approx(before, abs=1e-9)
    assert sum(row.counts.values()) == 72, "the cases stay"
    # a person chose this fit: only further changes of the cases call for another one
    assert not is_outdated(row)
    assert not refit_due(row)
    assert refit_due(replace(row, version=row.version + 5))
    rollback(shop, "shop")
    assert probabilities(shop) == pytest.approx(after, abs=1e-9)


def test_numbers_that_masking_keeps_go_back_too(shop: AppContext) -> None:
    def kept() -> object:
        representation = shop.source("shop").representation
        return representation and representation.kept

    jobs = [(f"job {word} ended with code {code}", code) for word in "abcdefghijklmnop" for code in (0, 1)]
    cases = [as_case(Record(text=text), "anomalous" if code else "normal") for text, code in jobs]
    shop.casebook.add("shop", cases, "file test")
    shop.casebook.sync("shop")
    kept_before, before = kept(), probabilities(shop)
    refit(shop, "shop")
    assert kept() != kept_before
    rollback(shop, "shop")
    assert kept() == kept_before
    assert probabilities(shop) == pytest.approx(before, abs=1e-9)


def test_the_same_fit_again_leaves_the_way_back(shop: AppContext) -> None:
    add_cases(shop)
    refit(shop, "shop")
    kept = earlier_fit(shop, "shop")
    refit(shop, "shop")
    assert earlier_fit(shop, "shop") == kept


def test_a_refit_after_a_rollback_can_be_rolled_back(shop: AppContext) -> None:
    add_cases(shop)
    refit(shop, "shop")
    rollback(shop, "shop")
    add_cases(shop, 20)
    with_cases = probabilities(shop)
    assert refit_while_due(shop, "shop")
    rollback(shop, "shop")
    assert probabilities(shop) == pytest.approx(with_cases, abs=1e-9)


def test_without_an_earlier_fit_it_says_so(shop: AppContext) -> None:
    assert earlier_fit(shop, "shop") is None
    with pytest.raises(UsageError, match="no earlier fit"):
        rollback(shop, "shop")


def test_a_fit_to_other_vectors_is_refused(shop: AppContext) -> None:
    add_cases(shop)
    refit(shop, "shop")
    fits = Fits(shop.casebook.engine)
    earlier = fits.earlier("shop")
    assert earlier is not None
    fits.keep_earlier("shop", replace(earlier, embedder="another"))
    assert earlier_fit(shop, "shop") is None
    with pytest.raises(UsageError, match="computed anew"):
        rollback(shop, "shop")


def test_it_goes_with_its_source(shop: AppContext) -> None:
    add_cases(shop)
    refit(shop, "shop")
    shop.casebook.remove("shop")
    assert Fits(shop.casebook.engine).earlier("shop") is None


def test_the_command_goes_back(shop: AppContext, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add_cases(shop)
    refit(shop, "shop")
    shop.close()
    monkeypatch.setenv("PRECEDENT_HOME", str(shop.settings.home))
    done = run("sources", "rollback", "shop")
    assert (done.code, "judged with the fit of casebook version" in done.out) == (0, True)
    refused = run("sources", "rollback", "nowhere")
    assert (refused.code, "unknown source" in refused.err) == (2, True)
