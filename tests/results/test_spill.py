"""Rows that failed go to a temporary file, of which no end of the process leaves anything."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.results.spill import TableStore

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_SPILLS = """
import sys, tempfile
import pyarrow as pa
tempfile.tempdir = sys.argv[1]
from cdp_backfill.results.spill import TableStore
store = TableStore(0)
for position in range(3):
    store.append(position, pa.table({"n": [position]}))
assert [table.column("n").to_pylist() for table in store.tables()] == [[0], [1], [2]]
assert len(store._on_disk) == 3
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    """The file of failed rows is gone once the process is, even if nothing could clean up."""
    with subprocess.Popen(
        [sys.executable, "-c", _SPILLS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
    assert not list(tmp_path.iterdir())


@given(st.permutations(range(8)), st.integers(0, 200), st.booleans())
def test_tables_come_back_in_order(positions: list[int], limit: int, nested: bool) -> None:
    """Whatever is in memory and what in the file, and in whatever order it was stored."""
    store = TableStore(limit)
    for position in positions:
        cells: list[Any] = [position, None]
        columns: dict[str, Any] = {"n": cells, "kind": pa.array(["a", "b"]).dictionary_encode()}
        if nested and position % 2:
            columns["more"] = [{"x": [position]}, None]
        store.append(position, pa.table(columns))
    assert store._on_disk
    tables = list(store.tables())
    assert [table.column("n")[0].as_py() for table in tables] == list(range(8))
    assert all(table.column("kind").to_pylist() == ["a", "b"] for table in tables)


def test_a_full_disk_keeps_the_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is lost where the file cannot take it, and later ones go to the file again."""
    store = TableStore(0)
    store.append(0, pa.table({"n": [0]}))
    writer = pa.ipc.new_file

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pa.ipc, "new_file", full)
    store.append(1, pa.table({"n": [1]}))
    assert len(store._on_disk) == 1
    monkeypatch.setattr(pa.ipc, "new_file", writer)
    store.append(2, pa.table({"n": [2]}))
    assert len(store._on_disk) == 3
    assert [table.column("n")[0].as_py() for table in store.tables()] == [0, 1, 2]
