"""The simulation of workers: the cases whose duration is known by thought."""

from __future__ import annotations

import pytest

from benchmarks.scale import Job, cost, page, simulate
from benchmarks.service_times import Times

TIMES = Times({"log line of a known template": 2e-6, "session": 1e-4}, 5e-3, 0.2, 4e-7, 2_000.0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_equal_parts_take_the_time_of_the_workers(workers: int) -> None:
    assert simulate([Job(1.0, 0.0)] * 12, workers) == pytest.approx(12 / workers)
    assert simulate([Job(1.0, 0.0)] * 12, workers, speed=0.5) == pytest.approx(24 / workers)


def test_the_process_that_writes_bounds_many_workers() -> None:
    assert simulate([Job(1.0, 0.5)] * 40, 16) == pytest.approx(40 * 0.5, rel=0.15)


def test_a_long_part_holds_up_those_after_it() -> None:
    """No more parts are ahead of the one that is written than the cluster holds."""
    parts = [Job(100.0, 0.0)] + [Job(1.0, 0.0)] * 50
    assert simulate(parts, 2) > 100 + 40 / 2


def test_no_part_takes_no_time() -> None:
    assert simulate([], 2) == 0


def test_the_page_has_each_size_and_the_comparison() -> None:
    text = page(TIMES, (10.0, 9.0, 0.8))
    assert "| 1,000,000,000 | session |" in text
    assert "simulated 10.0 s, real 9.0 s, 1.11 of it" in text
    assert cost(TIMES, 0.01) > 100 * cost(TIMES, 0.0)
