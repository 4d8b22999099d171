"""The pairs of a table are exactly those that a plain reading finds."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.messages import bind
from cdp_backfill.model.distinct import key_digests
from cdp_backfill.pipeline import identity_pairs
from cdp_backfill.pipeline.identities import open_identities
from cdp_backfill.pipeline.identity_pairs import find_ambiguous
from cdp_backfill.sources import Chunk, open_source
from tests.rows import texts

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdp_backfill.sources import Source

EVENTS = cdp.Mapping(anonymous_id="did", timestamp="ts", event=cdp.lit("Application Opened"))

# What a cell holds, and the id that it is.
MEANINGS: dict[str | None, str | None] = {
    "a": "a",
    " a ": "a",
    "A": "A",
    "7": "7",
    "7.0": "7",
    "07": "07",
    "é\x00b": "é\x00b",
    "a\tb": "a\tb",
    "NULL": None,
    "": None,
    "00000000-0000": None,
    "1.5E+17": None,
    None: None,
}
cells = st.sampled_from(list(MEANINGS))


def in_chunks(table: Any, size: int) -> Source:
    """The table as a source whose chunks have so many rows."""
    source = open_source(table)
    whole = source.chunks

    def chunks(columns: Any, *, start: int = 0) -> Generator[Chunk]:
        for chunk in whole(columns, start=start):
            for first in range(0, chunk.batch.num_rows, size):
                yield Chunk(chunk.batch.slice(first, size), chunk.start + first)

    source.chunks = chunks  # type: ignore[method-assign]
    return source


def read_plainly(rows: list[tuple[Any, Any]]) -> list[tuple[str, str]]:
    """The distinct pairs in the order in which they first occur."""
    found: dict[tuple[str, str], None] = {}
    for device, user in rows:
        pair = MEANINGS.get(device, device), MEANINGS.get(user, user)
        if pair[0] is not None and pair[1] is not None:
            found[pair[0], pair[1]] = None
    return list(found)


def pairs_of(rows: list[tuple[Any, Any]], size: int) -> Any:
    """The table of identities of a column, and the ambiguous ids in it."""
    devices, users = zip(*rows, strict=True) if rows else ((), ())
    table = pa.table(
        {"did": pa.array(devices, pa.string()), "uid": pa.array(users, pa.string())}
    ).append_column("ts", pa.nulls(len(rows), pa.string()))
    source, mapping = open_identities("uid", in_chunks(table, size), EVENTS)
    assert (mapping.anonymous_id, mapping.user_id) == ("did", "uid")
    return source, table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cells, cells), max_size=40),
    st.integers(1, 50),
    st.sampled_from([0, 3, 99]),
    st.sampled_from([1, 5, 99]),
)
def test_pairs_are_those_of_a_plain_reading(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[Any, Any]], size: int, known: int, part: int
) -> None:
    """Whatever the chunks, the filter and the parts; each once, in the order of the rows."""
    monkeypatch.setattr(identity_pairs, "_FILTER_KEYS", known)
    monkeypatch.setattr(identity_pairs, "_PART_KEYS", part)
    monkeypatch.setattr(identity_pairs, "_BLOCK_ROWS", max(1, part // 2))
    source, table = pairs_of(rows, size)
    expected = read_plainly(rows)
    for _ in range(2):  # it can be read again
        batches = [chunk.batch for chunk in source.chunks(["did", "uid"])]
        found = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
        assert found == expected
    assert source.rows == len(expected)
    users: dict[str, set[str]] = {}
    for device, user in expected:
        users.setdefault(device, set()).add(user)
    several = [len(users[device]) > 1 for device in users]
    digests = key_digests(pa.array(list(users), pa.string()))
    assert source.ambiguous_ids.has(digests).tolist() == several
    mapping = cdp.Mapping(call="identify", anonymous_id="did", user_id="uid")
    found_in_table = find_ambiguous(in_chunks(table, size), bind(mapping, table.schema))
    assert found_in_table.has(digests).tolist() == several


@given(st.lists(st.tuples(texts, texts), max_size=20))
def test_pairs_of_any_text_are_kept_apart(rows: list[tuple[str, str]]) -> None:
    """Bytes decide: no two ids are mixed up for their letter case, accents or ends."""
    source, _ = pairs_of([(f"d{device}.", f"u{user}.") for device, user in rows], 7)
    found = [pair for chunk in source.chunks(["did", "uid"]) for pair in chunk.batch.to_pylist()]
    expected = dict.fromkeys((f"d{device}.", f"u{user}.") for device, user in rows)
    assert [(pair["did"], pair["uid"]) for pair in found] == list(expected)


def test_many_pairs_move_to_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """More pairs than memory may hold are all there, each once, in order."""
    for name, value in (("_SPILL_BYTES", 1e6), ("_FILTER_KEYS", 30_000), ("_PART_KEYS", 7_000)):
        monkeypatch.setattr(identity_pairs, name, value)
    names = [f"{'x' * 30}{number % 60_000}" for number in range(100_000)]
    table = pa.table({"did": names, "uid": names, "ts": names})
    source, _ = open_identities("uid", open_source(table), EVENTS)
    assert source.rows == 60_000
    read = [cell for chunk in source.chunks(["uid"]) for cell in chunk.batch.column(0).to_pylist()]
    assert read == names[:60_000]


def test_a_full_disk_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which room is missing."""

    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(cdp.SourceError, match=r"could not be collected.*No space left.*They need"):
        pairs_of([("secret", "secret")], 50)
