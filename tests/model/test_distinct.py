"""Counting different keys, and remembering those that came before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.model.distinct import DigestSet, DistinctCounter, hashes, key_digests

keys = st.lists(st.lists(st.integers(0, 40).map(str), max_size=12), max_size=8)


@given(keys)
def test_a_sketch_is_exact_for_few_keys(chunks: list[list[str]]) -> None:
    """Different keys and repeats are those that Python counts, however they are cut."""
    counter = DistinctCounter()
    for chunk in chunks:
        counter.add(hashes(pa.array(chunk, pa.string())))
    counted = Counter(key for chunk in chunks for key in chunk)
    assert counter.exact
    assert counter.different == len(counted)
    assert counter.repeated == sum(counted.values()) - len(counted)


def test_a_counter_of_many_keys_is_an_estimate_in_bounded_memory() -> None:
    """With 4,000 keys kept, 200,000 different and 50,000 repeats are right to some percent."""
    counter = DistinctCounter(limit=4_000)
    whole = hashes(pa.array(range(200_000)).cast(pa.string()))
    for part in (*np.array_split(whole, 10), whole[:50_000]):
        counter.add(part)
    assert not counter.exact
    assert abs(counter.different - 200_000) < 10_000
    assert abs(counter.repeated - 50_000) < 5_000
    assert len(counter._kept) <= 4_000
    assert counter.describe("key", "keys").startswith("about ")


@given(keys)
def test_seen_tells_what_came_before(chunks: list[list[str]]) -> None:
    """Within a call and across calls, as a set of Python does."""
    seen, known = DigestSet(), set[str]()
    for chunk in chunks:
        actual = seen.before(key_digests(pa.array(chunk, pa.string())))
        expected = []
        for key in chunk:
            expected.append(key in known)
            known.add(key)
        assert actual.tolist() == expected


def test_seen_moves_each_key_but_a_few_times() -> None:
    """A thousand calls leave a handful of sorted runs."""
    seen = DigestSet()
    for number in range(1_000):
        assert not seen.before(key_digests(pa.array([f"{number}a", f"{number}b"]))).any()
    assert len(seen._runs) <= 11
    assert sum(len(run[0]) for run in seen._runs) == 2_000
