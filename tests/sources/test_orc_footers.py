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
    from collections.abc import Iterable
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


def varint(number: int) -> bytes:
    """A number as Protocol Buffers write it."""
    rest, last = divmod(number, 128)
    return bytes([last | 128]) + varint(rest) if rest else bytes([last])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A message of Protocol Buffers."""
    parts = []
    for field, value in fields:
        if isinstance(value, int):
            parts.append(varint(field << 3) + varint(value))
        else:
            parts.append(varint(field << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def forged(types: Iterable[list[int]]) -> bytes:
    """An ORC file without rows, of structs with these types inside."""
    structs = (
        message((1, 12), (2, b"".join(map(varint, inside))), *[(3, b"p")] * len(inside))
        for inside in types
    )
    footer = message((1, 3), (2, 3), *((4, struct) for struct in structs), (6, 0))
    postscript = message((1, len(footer)), (2, 0), (8000, b"ORC"))
    return b"ORC" + footer + postscript + bytes([len(postscript)])


@pytest.mark.parametrize(
    ("types", "words"),
    [
        (([n + 1] for n in range(2_000)), "column 'p' is nested more than 64 levels deep"),
        (([n + 1] for n in range(10_000)), "column 'p' is nested more than 64 levels deep"),
        (([n + 1] for n in range(100_000)), "column 'p' is nested more than 64 levels deep"),
        (([n + 1, n + 1] if n < 40 else [] for n in range(41)), "its footer is damaged"),
        (iter([list(range(1, 100_002))]), "more than 100,000 fields"),
    ],
)
def test_forged_types(
    types: Iterable[list[int]], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any depth, or inside two others so that each level doubles them: nothing is read."""
    (tmp_path / "a.orc").write_bytes(forged(types))
    monkeypatch.setattr(orc, "ORCFile", None)
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / "a.orc")
