"""Threads that serve what waits."""

from __future__ import annotations

import pytest

from agent.pipeline.worker_pool import WorkerPool


def test_what_waits_is_served_before_the_pool_ends() -> None:
    served: list[int] = []
    pool = WorkerPool("test", served.extend, batch_size=3)
    pool.put(range(10))
    pool.close()
    assert served == list(range(10))


def test_a_closed_pool_takes_nothing() -> None:
    pool = WorkerPool("test", lambda items: None, batch_size=1)
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.put([1])
    assert len(pool) == 0
