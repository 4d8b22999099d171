"""Columns of cursors whose cells change their type on the way."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.api import messages
from cdp_backfill.sources import cursors, open_source, streams
from cdp_backfill.sources.chunks import CHUNK_ROWS
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAMES = ("uid", "ts", "x")
CELLS: list[Any] = [1, 7, 2.5, 7.0, Decimal("2.50"), Decimal("1E-9"), "a", "7", True, 2**70, None]
cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    ),
    st.text(max_size=4),
)


class Cursor:
    """A cursor of some cells in the column ``x``."""

    description = tuple((name,) for name in NAMES)

    def __init__(self, values: list[Any]) -> None:
        self._rows = [(f"u{n}", "2023-05-01T10:00:00Z", value) for n, value in enumerate(values)]

    def fetchmany(self, size: int) -> list[Any]:
        """The next rows."""
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows


def sent(source: Any) -> dict[str, dict[str, Any]]:
    """The messages by user, without their user."""
    found = messages(source, 1000, OPENED)
    return {message["userId"]: message for message in found}


@given(st.lists(cells, min_size=1, max_size=8), st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cell_is_the_same_in_any_block(
    monkeypatch: pytest.MonkeyPatch, values: list[Any], size: int
) -> None:
    """Message and id of a row hang on its cells, whatever came before it in the cursor."""
    monkeypatch.setattr(cursors, "CHUNK_ROWS", size)
    monkeypatch.setattr(cursors, "_AHEAD_BYTES", 0)
    monkeypatch.setattr(streams, "CHUNK_ROWS", size)
    together = sent(Cursor(values))
    assert len(together) == len(values)
    for number, value in enumerate(values):
        alone = next(iter(sent(Cursor([value])).values()))
        among = together[f"u{number}"]
        assert json.dumps(alone.get("properties")) == json.dumps(among.get("properties"))
    frame = pd.DataFrame(
        {
            "uid": [f"u{n}" for n in range(len(values))],
            "ts": ["2023-05-01T10:00:00Z"] * len(values),
            "x": pd.Series(values, dtype=object),
        }
    )
    assert {user: each["messageId"] for user, each in sent(frame).items()} == {
        user: each["messageId"] for user, each in together.items()
    }


def test_a_run_goes_on_where_a_column_changes(box: Any, tmp_path: Path) -> None:
    """Whole numbers, then floats, decimals and text: all arrive, and failures can be saved."""
    count = CHUNK_ROWS
    values: list[Any] = [7] * count + [2.5] * count + [Decimal("2.50")] * 5 + ["a", None, True]
    box.set_faults(refuse_users=["u3", f"u{count + 1}", f"u{2 * count + 5}"])
    options: dict[str, Any] = {"destination": box.destination, "progress": False}
    report = cdp.send(Cursor(values), OPENED, journal=False, recent="send", **options)
    assert report.counts["delivered"] == len(values) - 3
    assert report.failures["x"].tolist() == ["7", "2.5", '"a"']
    report.save(tmp_path)
    saved = pd.read_parquet(tmp_path / "failures.parquet")
    assert saved["x"].tolist() == ["7", "2.5", '"a"']
    box.set_faults()
    again = saved.cdp.send(**options, journal=False)
    assert again.counts["delivered"] == 3
    stored = box.events().set_index("userId")["properties"]
    assert stored["u3"] == {"x": 7}
    assert stored[f"u{2 * count + 5}"] == {"x": "a"}


def test_a_changed_column_feeds_an_expression() -> None:
    """A cell that does not fit the type of the column fails in the expression of its row alone."""
    values: list[Any] = [7] * CHUNK_ROWS + [2.5, 9]
    source = open_source(Cursor(values))
    assert source.schema.field("x").type == "int64"
    report_rows = messages(Cursor([7, 2.5]), 2, OPENED, derive={"y": "x + 1"})
    assert [row["properties"] for row in report_rows] == [{"y": 8}, {"y": 3.5}]


def test_a_changed_column_in_an_expression_of_a_run(box: Any) -> None:
    """Such rows are counted, and the others arrive."""
    values: list[Any] = [7] * CHUNK_ROWS + [2.5, 9]
    report = cdp.send(
        Cursor(values),
        OPENED,
        derive={"y": "x + 1"},
        destination=box.destination,
        progress=False,
        journal=False,
        recent="send",
    )
    assert report.counts["delivered"] == len(values) - 1
    assert report.by_reason()["code"].tolist() == ["derive_failed"]


def test_sqlite_mixes_types_freely(box: Any) -> None:
    """A column of SQLite holds whatever was put into it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (uid, ts, x)")
        rows = [(f"u{n}", "2023-05-01T10:00:00Z", x) for n, x in enumerate([1, 2.5, "a", None])]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        report = cdp.send(
            connection.execute("SELECT * FROM t"),
            OPENED,
            destination=box.destination,
            progress=False,
            journal=False,
            recent="send",
        )
    assert report.counts["delivered"] == 4
    assert [each and each["x"] for each in box.events()["properties"]] == [1, 2.5, "a", None]
