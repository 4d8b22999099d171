"""Files in which some bytes were changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from tests.fuzz.columns import MARKER
from tests.fuzz.runs import FIGURES, Figures, desk, planned_and_sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

MAPPING = cdp.Mapping(
    user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"), other_events="skip"
)
ROWS: list[dict[str, Any]] = [
    {
        "uid": f"{MARKER}{n}",
        "ts": f"2023-05-0{n + 1}T10:00:00Z",
        "n": n,
        "x": n / 4,
        "text": f'{MARKER}, "é" {n}',
        "none": None,
    }
    for n in range(6)
]
NESTED = [row | {"list": [1, MARKER], "object": {"a": {"b": MARKER}}} for row in ROWS]


def _csv(separator: str) -> bytes:
    names = list(ROWS[0])
    lines = [separator.join(names)]
    for row in ROWS:
        cells = ["" if cell is None else str(cell).replace('"', '""') for cell in row.values()]
        lines.append(separator.join(f'"{cell}"' if '"' in cell else cell for cell in cells))
    return ("\n".join(lines) + "\n").encode()


def _parquet(**options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=3, **options)
    return bytes(sink.getvalue().to_pybytes())


FILES: dict[str, bytes] = {
    "comma.csv": _csv(","),
    "tab.tsv": _csv("\t"),
    "lines.ndjson": "\n".join(map(json.dumps, NESTED)).encode(),
    "array.json": json.dumps(NESTED).encode(),
    "plain.parquet": _parquet(compression="none", use_dictionary=False),
    "packed.parquet": _parquet(),
}

odd_bytes = st.integers(0, 255) | st.sampled_from([*b'",\n\r\0\\{}[]:;\xff\xef\xbb\xbf'])


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes replaced, put in, cut out or repeated."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["replace", "insert", "delete", "cut", "repeat", "swap"]))
        size = draw(st.integers(1, 8))
        if how == "replace":
            data[place] = draw(odd_bytes)
        elif how == "insert":
            data[place:place] = bytes(draw(st.lists(odd_bytes, min_size=1, max_size=4)))
        elif how == "delete":
            del data[place : place + size]
        elif how == "cut":
            del data[place:]
        elif how == "repeat":
            data[place:place] = data[place : place + size * 8]
        else:
            other = draw(st.integers(0, len(data) - 1))
            data[place], data[other] = data[other], data[place]
    return bytes(data)


@pytest.fixture(scope="module", name="server")
def running_server() -> Iterator[Server]:
    """A server for all files."""
    with desk() as running:
        yield running


@pytest.mark.parametrize("name", FILES)
@settings(suppress_health_check=[*HealthCheck], max_examples=25)
@given(data=st.data())
def test_changed_bytes(server: Server, name: str, data: Any) -> None:
    """Plan and run agree about every row, or both refuse the file with a proper error."""
    figures = FIGURES.setdefault(f"changed bytes of {name}", Figures())
    path = Path(tempfile.mkdtemp()) / name
    content = data.draw(changed(FILES[name]))
    path.write_bytes(content)
    # Without its header, a table of text may take a row for one, and errors name columns.
    named = path.suffix in (".csv", ".tsv")
    planned_and_sent(server, lambda: path, figures, named=named, mapping=MAPPING)
