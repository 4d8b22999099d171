"""The footers of ORC files are read before their types are followed down."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import orc

from cdp_backfill.errors import SourceError
from cdp_backfill.model.arrow_types import MAX_DEPTH
from cdp_backfill.sources import open_source, orc_footers

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSIONS = ["uncompressed", "zlib", "snappy", "zstd", "lz4"]


def written(levels: int, compression: str, rows: int = 1) -> Any:
    """An ORC file with a list of lists, beside a plain column."""
    array = pa.array([1] * rows)
    for _ in range(levels):
        offsets = pa.array(list(range(rows + 1)), pa.int32())
        array = pa.ListArray.from_arrays(offsets, array)
    out = pa.BufferOutputStream()
    orc.write_table(pa.table({"q": [1] * rows, "p": array}), out, compression=compression)
    return out.getvalue()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_footers_of_every_compression(compression: str, tmp_path: Path) -> None:
    """The deepest type that is allowed is read, and a deeper one is an error with its column."""
    fits = tmp_path / "fits.orc"
    fits.write_bytes(written(MAX_DEPTH - 2, compression, rows=3))
    assert open_source(fits).rows == 3
    for levels in (MAX_DEPTH - 1, 600):
        (tmp_path / "deep.orc").write_bytes(written(levels, compression))
        with pytest.raises(SourceError, match="column 'p' is nested more than 64 levels deep"):
            open_source(tmp_path / "deep.orc")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_large_footers_are_refused(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A footer that unpacks to more than its limit is not unpacked further."""
    (tmp_path / "a.orc").write_bytes(written(40, compression))
    monkeypatch.setattr(orc_footers, "MAX_FOOTER_BYTES", 100)
    with pytest.raises(SourceError, match="its footer has more than 100 bytes"):
        open_source(tmp_path / "a.orc")


@given(st.integers(min_value=1), st.integers(0, 255), st.sampled_from(COMPRESSIONS))
def test_damaged_footers_are_errors(place: int, byte: int, compression: str) -> None:
    """Any byte of the footer may be wrong: the check ends with Arrow's error, or with none."""
    data = bytearray(written(9, compression))
    data[-1 - place % 400] = byte
    with suppress(pa.ArrowInvalid):
        orc_footers.check_footer(pa.BufferReader(bytes(data)))
