"""Fitted models that another version stored, or that are damaged, are an error with a remedy."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.core.errors import DetectorError
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.detectors.persistence import FittedDetectors
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.training.learn import learn
from agent.training.refit import refit
from tests.conftest import make_settings


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppContext]:
    """A source with fitted trees."""
    home, rng = tmp_path_factory.mktemp("fitted"), random.Random(2)
    rows = [{"amount": rng.randint(1, 90) + 500 * (i % 5 == 0), "label": int(i % 5 == 0)} for i in range(200)]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    context = AppContext(make_settings(home / "home", model="none"))
    learn(context, [home / "rows.jsonl"], "rows", ReadOptions(label="label"), brief="rows")
    yield context
    context.close()


def _arrays(**arrays: NDArray[Any]) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **{name.replace("_", "."): array for name, array in arrays.items()})
    return packed.getvalue()


def _with_other_trees(_: bytes) -> bytes:
    skops_io = pytest.importorskip("skops.io")
    return _arrays(fields=np.frombuffer(skops_io.dumps({"forest": [1, 2]}), np.uint8))


def _with_torn_trees(packed: bytes) -> bytes:
    with np.load(io.BytesIO(packed)) as stored:
        arrays = dict(stored)
    longest = max(arrays, key=lambda name: arrays[name].nbytes)
    return _arrays(**{**arrays, longest: arrays[longest][:99]})


@pytest.mark.parametrize(
    "stored",
    [
        lambda _: b"",
        lambda _: b"\x80\x04K\x01.",  # a pickle
        lambda packed: packed[: len(packed) // 2],
        lambda _: _arrays(fields=np.zeros(9, np.uint8)),
        _with_other_trees,
        _with_torn_trees,
        lambda _: _arrays(texts_vocabulary=np.array(["a", "b"])),
    ],
    ids=["empty", "pickle", "torn", "bytes", "other trees", "torn trees", "other texts"],
)
def test_models_that_cannot_be_read_name_the_remedy(fitted: AppContext, stored: Callable[[bytes], bytes]) -> None:
    packed = fitted.casebook.models("rows")
    assert packed is not None
    request = JudgeRequest(text="amount is 560", fields={"amount": 560.0}, source="rows")
    expected = build(fitted).invoke(request)
    assert expected.signals["fields"] is not None
    fitted.casebook.set("rows", models=stored(packed))
    with pytest.raises(DetectorError, match="fitted models of source 'rows' cannot be read") as raised:
        build(fitted).invoke(request)
    assert raised.value.hint == "`precedent sources rebuild rows` fits them again"
    refit(fitted, "rows")
    verdict = build(fitted).invoke(request)
    assert (verdict.label, verdict.signals) == (expected.label, pytest.approx(expected.signals))


def test_models_are_read_again_after_an_error_of_the_interpreter(
    fitted: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that read headers of arrays at once: CPython 3.11, gh-106905."""
    loads, failures = FittedDetectors.loads, [SystemError("AST constructor recursion depth mismatch")]

    def fails_once(*arguments: Any) -> FittedDetectors:
        if failures:
            raise failures.pop()
        return loads(*arguments)

    monkeypatch.setattr(FittedDetectors, "loads", fails_once)
    request = JudgeRequest(text="amount is 560", fields={"amount": 560.0}, source="rows")
    assert build(fitted).invoke(request).signals["fields"] is not None
