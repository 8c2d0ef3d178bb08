"""A bounded cache, shared by threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from retrieval.lru_cache import LRUCache


def test_the_least_recently_used_value_is_evicted() -> None:
    cache: LRUCache[int] = LRUCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_threads_may_share_it() -> None:
    cache: LRUCache[int] = LRUCache(8)

    def work(number: int) -> None:
        cache.put(number % 20, number % 20)
        assert cache.get(number % 7) in (None, number % 7)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(5_000)))
