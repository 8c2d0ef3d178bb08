"""Fields to vectors: unit length, 1 for equal rows, quantiles that never fall, nothing that makes it stumble."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.encoding.field_encoder import EventCount, FieldEncoder, features

ROWS: list[dict[str, Any]] = [
    {"amount": float(i), "country": ("de", "fr", "it")[i % 3], "new": i % 2 == 0, "note": f"text {i}"}
    for i in range(60)
]
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = numbers | st.sampled_from(["a", "b", "", "other"]) | st.booleans() | st.none()
columns = dict.fromkeys(["x", "y", "count of link down"], values)
rows = st.lists(st.fixed_dictionaries({}, optional={**columns, EventCount("link down"): numbers}), max_size=30)


@given(rows)
@example([{"x": 1.7e308}, {"x": -1.7e308}])
@example([{"x": 5e-324}, {"x": 0.0}, {"x": -5e-324}])
def test_any_rows_have_unit_vectors_and_agree_with_themselves(rows: list[dict[str, Any]]) -> None:
    space = FieldEncoder.fit(rows)
    for row in rows:
        vector = space.vector(row)
        assert vector.shape == (space.dimensions,)
        assert vector.dtype == np.float32
        norm = float(np.linalg.norm(vector))
        assert norm == pytest.approx(1.0, abs=1e-5) or norm == 0.0
        assert norm or not any(name in row and row[name] is not None for name in space.categories)
        assert float(vector @ space.vector(dict(row))) == pytest.approx(norm, abs=1e-5)


@given(st.lists(numbers, min_size=1, max_size=80), st.lists(numbers, min_size=2, max_size=20))
def test_quantiles_never_fall(seen: list[float], values: list[float]) -> None:
    space = FieldEncoder.fit([{"x": value} for value in seen])
    quantiles = [space.quantile("x", value) for value in sorted(values)]
    assert all(0.0 <= quantile <= 1.0 for quantile in quantiles)
    assert all(low <= high + 1e-12 for low, high in pairwise(quantiles))


def test_quantiles_say_where_a_value_lies() -> None:
    space = FieldEncoder.fit([{"x": float(i)} for i in range(101)])
    assert space.quantile("x", 50.0) == pytest.approx(0.5, abs=0.01)
    assert space.quantile("x", 25.0) == pytest.approx(0.25, abs=0.01)
    assert (space.quantile("x", -5.0), space.quantile("x", 1e9)) == (0.0, 1.0)


def test_a_tie_stands_in_the_middle_of_its_range() -> None:
    space = FieldEncoder.fit([{"x": 0.0}] * 50 + [{"x": float(i)} for i in range(1, 51)])
    assert space.quantile("x", 0.0) == pytest.approx(0.25, abs=0.02)
    assert space.quantile("x", 1e-9) > space.quantile("x", 0.0)


def test_a_column_with_one_value_distinguishes_above_and_below() -> None:
    space = FieldEncoder.fit([{"x": 7.0}] * 10)
    assert [space.quantile("x", value) for value in (6.0, 7.0, 8.0)] == [0.0, 0.5, 1.0]


def test_opposite_ends_have_nothing_in_common_and_neighbours_much() -> None:
    space = FieldEncoder.fit([{"x": float(i)} for i in range(100)])
    low, near_low, high = (space.vector({"x": value}) for value in (0.0, 5.0, 99.0))
    assert float(low @ high) == pytest.approx(0.0, abs=1e-6)
    assert float(low @ near_low) > 0.99


def test_similarity_is_the_mean_agreement_over_the_fields() -> None:
    space = FieldEncoder.fit([{"x": float(i), "kind": "ab"[i % 2]} for i in range(40)])
    same_number = space.vector({"x": 3.0, "kind": "a"}) @ space.vector({"x": 3.0, "kind": "b"})
    assert float(same_number) == pytest.approx(0.5, abs=1e-6)


def test_categories_are_equal_or_not_and_unseen_ones_share_a_place() -> None:
    space = FieldEncoder.fit(ROWS)
    assert set(space.categories) == {"country", "new"}, "free text is no category"
    de, fr, pl, us = (space.vector({"country": country}) for country in ("de", "fr", "pl", "us"))
    assert (float(de @ de), float(de @ fr), float(de @ pl)) == (1.0, 0.0, 0.0)
    assert float(pl @ us) == 1.0


def test_a_missing_value_agrees_with_nothing() -> None:
    space = FieldEncoder.fit(ROWS)
    whole, half = space.vector(ROWS[4]), space.vector({"amount": 4.0})
    assert float(whole @ half) == pytest.approx(1 / math.sqrt(3), abs=1e-5)
    assert float(np.linalg.norm(space.vector({}))) == 0.0
    assert float(np.linalg.norm(space.vector({"amount": "a text where a number was", "unknown": 1.0}))) == 0.0


def test_an_event_that_did_not_occur_was_counted_zero_times() -> None:
    counts = [{EventCount("link down"): float(i)} for i in range(1, 9)] + [{"events": 1.0}] * 8
    space = FieldEncoder.fit(counts)
    assert space.quantile(EventCount("link down"), 0.0) == pytest.approx(0.25, abs=0.05)
    assert float(space.vector({}) @ space.vector({EventCount("link down"): 0.0})) == pytest.approx(1.0)


def test_sessions_are_compared_by_how_often_each_masked_event_occurs() -> None:
    first = features({}, ("received block blk_1 from 10.0.0.1", "received block blk_22 from 10.0.0.2", "done"))
    second = features({}, ("done", "received block blk_9 from 10.9.9.9", "received block blk_8 from 10.8.8.8"))
    assert first == second
    assert first == {
        "events": 3.0,
        "kinds of event": 2.0,
        EventCount("received block blk_<n> from <ip>"): 2.0,
        EventCount("done"): 1.0,
    }
    assert features({"x": 1.0}) == {"x": 1.0}


def test_a_column_named_like_an_event_count_is_a_column() -> None:
    table = [{"count of x": float(i) if i % 2 else None} for i in range(40)]
    space = FieldEncoder.fit(table)
    # a missing value agrees with nothing; it is not 0
    assert float(np.linalg.norm(space.vector({}))) == 0.0
    session = features({"count of x": 7.0}, ("x", "x"))
    assert (session["count of x"], session[EventCount("x")]) == (7.0, 2.0)
    both = FieldEncoder.fit([session] * 8)
    assert list(both.numbers) == ["count of x", EventCount("x"), "events", "kinds of event"]
    assert FieldEncoder.from_json(json.loads(json.dumps(both.to_json()))) == both


def test_encoders_stored_before_event_counts_had_a_type_are_read() -> None:
    session = FieldEncoder.fit([features({}, ("up", "down"))] * 8)
    table = FieldEncoder.fit([{"count of x": float(i)} for i in range(8)])
    for space in (session, table):
        old = {**space.to_json(), "numbers": {str(name): list(knots) for name, knots in space.numbers.items()}}
        assert FieldEncoder.from_json(json.loads(json.dumps(old))) == space


def test_the_most_filled_columns_are_kept() -> None:
    wide = [{f"c{i:03}": float(i + j) for i in range(400) if i < 200 or j % 2} for j in range(10)]
    space = FieldEncoder.fit(wide)
    assert len(space.numbers) == 256
    assert all(f"c{i:03}" in space.numbers for i in range(200))


@given(rows)
def test_it_comes_back_from_json_the_same(rows: list[dict[str, Any]]) -> None:
    space = FieldEncoder.fit(rows)
    again = FieldEncoder.from_json(json.loads(json.dumps(space.to_json(), allow_nan=False)))
    assert again == space
    for row in rows:
        assert np.array_equal(again.vector(row), space.vector(row))
