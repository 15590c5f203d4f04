from __future__ import annotations

from mobius_infra.demo.cache import Cache


def test_an_entry_is_a_miss_after_its_time() -> None:
    now = 10.0
    cache: Cache[int] = Cache(2, 5.0, lambda: now)
    cache.put("a", 1)
    now = 15.0
    assert cache.get("a") == 1
    now = 15.1
    assert cache.get("a") is None
    assert len(cache) == 0


def test_the_entry_unused_for_longest_leaves() -> None:
    cache: Cache[int] = Cache(2, 5.0, lambda: 0.0)
    for key in ("a", "b"):
        cache.put(key, 1)
    cache.get("a")
    cache.put("c", 1)
    assert [cache.get(key) for key in ("a", "b", "c")] == [1, None, 1]
