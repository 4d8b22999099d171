"""Objects that look like the DataFrames of Spark."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

import cdp_backfill as cdp
from cdp_backfill.api import messages
from cdp_backfill.sources import open_source
from tests.rows import OPENED

ZONED = pa.timestamp("us", "Asia/Tokyo")
TABLE = pa.table(
    {
        "uid": ["a", "b"],
        "ts": pa.array(
            [datetime(2023, 5, 1, 10, tzinfo=UTC)] * 2, pa.timestamp("us", "Asia/Tokyo")
        ),
        "n": [1, 2],
    }
)


class Spark:
    """A frame of Spark 4: types by name, a stream without time zones, and a way to collect it."""

    def __init__(self, table: Any, kinds: dict[str, str], *, fails: bool = False) -> None:
        self._table, self._fails = table, fails
        self.dtypes = list(kinds.items())
        self.collected = 0

    def toArrow(self) -> Any:  # noqa: N802  # as Spark names it
        """All rows."""
        self.collected += 1
        if self._fails:
            raise ValueError("grace-hopper")
        return self._table

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        """The rows, as long as no column needs the zone of the session."""
        assert not any("timestamp" in kind and "ntz" not in kind for _, kind in self.dtypes)
        return self._table.__arrow_c_stream__(requested)


KINDS = {"uid": "string", "ts": "timestamp", "n": "bigint"}


def test_times_with_the_zone_of_the_session() -> None:
    """A frame with times is collected, once, and gives the messages of the table."""
    frame = Spark(TABLE, KINDS)
    assert messages(frame, 2, OPENED) == messages(TABLE, 2, OPENED)
    assert cdp.plan(frame, OPENED).rows == 2
    source = open_source(Spark(TABLE, KINDS))
    assert [chunk.batch.num_rows for chunk in source.chunks(["n"])] == [2]
    assert [chunk.batch.num_rows for chunk in source.chunks(["n"])] == [2]


@pytest.mark.parametrize("kind", ["array<timestamp>", "struct<a:timestamp_ltz>"])
def test_times_inside_other_types(kind: str) -> None:
    """They need the zone as well."""
    frame = Spark(TABLE.select(["uid", "n"]), {"uid": "string", "n": kind})
    open_source(frame)
    assert frame.collected == 1


def test_other_frames_are_streamed() -> None:
    """Without times with a zone, nothing is collected."""
    frame = Spark(TABLE.select(["uid", "n"]), {"uid": "string", "n": "timestamp_ntz"})
    source = open_source(frame)
    assert source.schema.names == ["uid", "n"]
    assert frame.collected == 0


def test_a_frame_that_cannot_be_collected() -> None:
    """The error names the columns to cast, and shows no cell."""
    with pytest.raises(cdp.SourceError, match=r"Cast 'ts' to text.*df\.write\.parquet") as caught:
        open_source(Spark(TABLE, KINDS, fails=True))
    assert "grace-hopper" not in str(caught.value)
    assert caught.value.__cause__ is None
