"""Types and cells that some functions of Arrow, pandas and DuckDB lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from cdp_backfill.api import messages
from cdp_backfill.sources.fingerprint import ContentFingerprint
from tests.rows import OPENED, opens
from tests.sending import send

if TYPE_CHECKING:
    from pathlib import Path

FAR: Any = [
    pa.array([0, 2**63 - 1]).view(pa.timestamp("s")),
    pa.array([0, 2**63 - 1]).view(pa.timestamp("ms", "UTC")),
    pa.array([0, 2**63 - 1]).view(pa.duration("s")),
    pa.array([0, 2**62]).view(pa.date64()),
    pa.array([[0], [2**63 - 1]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("s"))),
]


@pytest.mark.parametrize("array", FAR, ids=lambda array: str(array.type))
def test_times_in_no_calendar_have_a_fingerprint(array: Any) -> None:
    """A plan can tell such a table from a changed one."""
    values = []
    for rows in (array, array.take(pa.array([0, 0]))):
        batch = pa.RecordBatch.from_arrays([rows], ["t"])
        content = ContentFingerprint(batch.schema)
        content.add(batch)
        values.append(content.value)
    assert values[0] != values[1]
    table = pa.table({"uid": ["a", "b"], "ts": ["2023-05-01"] * 2, "t": array})
    assert sum(cdp.plan(table, OPENED).counts.values()) == 2


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.list_(pa.string_view())])
def test_failures_with_views_in_a_frame(box: Any, kind: Any) -> None:
    """Pandas cannot take rows of such columns; the failures are complete all the same."""
    cells = [["a"], ["b"]] if pa.types.is_list(kind) else ["a", "b"]
    column: Any = pd.array(pa.array(cells, kind), dtype=pd.ArrowDtype(kind))
    report = send(opens(2, uid=[None, "u"], x=column), box)
    assert len(report.failures) == 1
    assert next(iter(report.failures["x"])) in ("a", b"a", ["a"])


def test_json_whose_text_is_a_view() -> None:
    """Polars keeps all text as views, inside of JSON as well; the JSON can be a time and an id."""
    cells = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['"2023-05-01"', "7"]))
    table = pa.table({"uid": cells.take(pa.array([1, 1])), "ts": cells.take(pa.array([0, 0]))})
    expected = messages(table, 2, OPENED)
    assert messages(pl.from_arrow(table).lazy(), 2, OPENED) == expected  # type: ignore[union-attr]


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    """A negative number of rows and names that are not UTF-8 are errors of the file."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"uid": ["a"], "n": [1], "naem": [2]}), path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"naem", b"na\xd0m"))
    with pytest.raises(cdp.SourceError, match="cannot be read as a parquet file"):
        cdp.plan(path, OPENED)
