"""Awkward cells and what becomes of each: tested, and written into the documentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from cdp_backfill import Mapping, lit
from cdp_backfill.messages import bind, build
from cdp_backfill.model.outcomes import FIXES, PROBLEMS
from cdp_backfill.sources import open_source
from tests.rows import payloads

PAGE: Final = Path(__file__).parents[2] / "docs" / "awkward-values.md"

LATEST: Final = int(datetime(2026, 6, 2, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Invalid:
    """The row is invalid for this reason."""

    code: str


EMPTY: Final = None
"""The cell counts as empty."""


@dataclass(frozen=True)
class Case:
    """A cell of some field, and what becomes of it.

    Attributes:
        cell: The cell.
        becomes: The value in the message, :data:`EMPTY`, or why the row is invalid.
        fixes: Codes of what the plan counts as mended.
        options: Fields of the mapping beside the one that is tried.
        kind: Arrow type of the column, or None for what pandas makes of it.
        beside: Other cells of the same column.
    """

    cell: Any
    becomes: Any
    fixes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    kind: Any = None
    beside: tuple[Any, ...] = ()


BERLIN: Final = {"timezone": "Europe/Berlin"}

IDS: Final = [
    Case("u1", "u1"),
    Case("  u1\t", "u1", ("trimmed",)),
    Case("", EMPTY),
    Case("   ", EMPTY),
    Case(12345, "12345"),
    Case(12345.0, "12345", ("whole_float",)),
    Case("12345.0", "12345", ("whole_float",)),
    Case(1.5, Invalid("bad_user")),
    Case(float(2**53), Invalid("bad_user")),
    Case("9007199254740993.0", Invalid("bad_user")),
    Case("1.23457E+15", Invalid("bad_user")),
    Case(2**64 - 1, "18446744073709551615", kind=pa.uint64()),
    Case(Decimal(123456789012345678901), "123456789012345678901"),
    Case("007", "007"),
    Case(UUID(int=7), "00000000-0000-0000-0000-000000000007", kind=pa.uuid()),
    Case("00000000-0000-0000-0000-000000000000", EMPTY, ("zero_id",)),
    Case("NULL", EMPTY, ("null_word",)),
    Case("None", EMPTY, ("null_word",)),
    Case("nan", EMPTY, ("null_word",)),
    Case("(not set)", EMPTY, ("null_word",)),
    Case("\\N", EMPTY, ("null_word",)),
    Case(float("nan"), EMPTY),
    Case(b"u1", "u1", ("bytes_text",), kind=pa.binary()),
    Case(b"\xff", Invalid("bad_user"), kind=pa.binary()),
    Case("ada@example.com", "ada@example.com"),
    Case("nan0", "nan0"),
]

TIMES: Final = [
    Case("2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000Z"),
    Case("2024-01-15T10:30:00+0530", "2024-01-15T05:00:00.000Z"),
    Case("2024-01-15 10:30:00.123456", "2024-01-15T10:30:00.123Z"),
    Case("2024-01-15 10:30:00", "2024-01-15T09:30:00.000Z", options=BERLIN),
    Case("2024-01-15 10:30:00 UTC", "2024-01-15T10:30:00.000Z", options=BERLIN),
    Case("2024-10-27 02:30:00", Invalid("ambiguous_time"), options=BERLIN),
    Case(
        "2024-10-27 02:30:00",
        "2024-10-27T00:30:00.000Z",
        ("shown_twice",),
        BERLIN | {"ambiguous": "earliest"},
    ),
    Case(
        "2024-10-27 02:30:00",
        "2024-10-27T01:30:00.000Z",
        ("shown_twice",),
        BERLIN | {"ambiguous": "latest"},
    ),
    Case("2024-03-31 02:30:00", Invalid("nonexistent_time"), options=BERLIN),
    Case(
        "2024-03-31 02:30:00",
        "2024-03-31T01:00:00.000Z",
        ("shifted_forward",),
        BERLIN | {"nonexistent": "shift_forward"},
    ),
    Case("15.09.2023 02:20:24", Invalid("unclear_time")),
    Case("15.09.2023 02:20:24", "2023-09-15T02:20:24.000Z", options={"date_order": "DMY"}),
    Case("15.09.2023 02:20:24", Invalid("bad_time"), options={"date_order": "MDY"}),
    Case("9/15/23, 2:20 PM", "2023-09-15T14:20:00.000Z", options={"date_order": "MDY"}),
    Case("Fri, 15 Sep 2023 02:20:24 +0200", "2023-09-15T00:20:24.000Z"),
    Case("15-SEP-23 02.20.24.000000 PM", "2023-09-15T14:20:24.000Z"),
    Case("15. September 2023", "2023-09-15T00:00:00.000Z", ("midnight",)),
    Case("2023/09/15 02:20", "2023-09-15T02:20:00.000Z"),
    Case("20230915T022024Z", "2023-09-15T02:20:24.000Z"),
    Case(20230915022024, "2023-09-15T02:20:24.000Z", ("day_number",)),
    Case("2024-01-15", "2024-01-15T00:00:00.000Z", ("midnight",)),
    Case(date(2024, 1, 15), "2024-01-15T00:00:00.000Z", ("midnight",)),
    Case(pd.Timestamp("2024-01-15T10:30", tz="Asia/Tokyo"), "2024-01-15T01:30:00.000Z"),
    Case(1705314600, "2024-01-15T10:30:00.000Z", ("epoch_s",)),
    Case(1705314600.25, "2024-01-15T10:30:00.250Z", ("epoch_s",)),
    Case(1705314600123, "2024-01-15T10:30:00.123Z", ("epoch_ms",)),
    Case(1705314600123456, "2024-01-15T10:30:00.123Z", ("epoch_us",)),
    Case(1705314600123456789, "2024-01-15T10:30:00.123Z", ("epoch_ns",)),
    Case("1705314600123", "2024-01-15T10:30:00.123Z", ("epoch_ms",)),
    Case(
        "1705314600",
        "2024-01-15T10:30:00.000Z",
        ("epoch_s",),
        beside=("2024-01-15T10:30:00Z",),
    ),
    Case(1705314600, Invalid("too_early"), options={"timestamp_unit": "ms"}),
    Case(17053146001, Invalid("unclear_time")),
    Case(20240115, "2024-01-15T00:00:00.000Z", ("day_number", "midnight")),
    Case(0, Invalid("unclear_time")),
    Case("1970-01-17T18:46:58Z", Invalid("too_early")),
    Case("1970-01-17T18:46:58Z", "1970-01-17T18:46:58.000Z", options={"earliest": "1970-01-01"}),
    Case("2091-01-01T00:00:00Z", Invalid("in_future")),
    Case("1/21/2021 23:30", Invalid("unclear_time")),
    Case("###########", Invalid("bad_time")),
    Case("2024-02-30", Invalid("bad_time")),
    Case("NULL", Invalid("missing_time"), ("null_word",)),
    Case(None, Invalid("missing_time"), kind=pa.string()),
]

BOOLEANS: Final = [
    Case(True, True),
    Case("TRUE", True, ("boolean_word",)),
    Case(" yes ", True, ("trimmed", "boolean_word")),
    Case("f", False, ("boolean_word",)),
    Case("off", False, ("boolean_word",)),
    Case(1, True, ("boolean_word",)),
    Case(0.0, False, ("boolean_word",)),
    Case("", EMPTY),
    Case("null", EMPTY, ("null_word",)),
    Case("maybe", Invalid("bad_boolean")),
    Case(2, Invalid("bad_boolean")),
]

VERSIONS: Final = [
    Case("2.1.0", "2.1.0"),
    Case("1.10", "1.10"),
    Case(1.1, "1.1", ("version_float",)),
    Case(2.0, "2.0", ("version_float",)),
    Case(421, "421"),
    Case(" 3.0 ", "3.0", ("trimmed",)),
    Case("nan", EMPTY, ("null_word",)),
    Case(float("inf"), Invalid("not_finite")),
]

NUMBERS: Final = [
    Case(7, 7),
    Case(7.0, 7),
    Case(7.0, 7, ("integer_float",), beside=(None,)),
    Case(7.5, 7.5),
    Case(float("nan"), EMPTY),
    Case(float("inf"), Invalid("not_finite")),
    Case(2**63, 2**63, kind=pa.uint64()),
    Case(Decimal("9.99"), 9.99),
    Case(Decimal("9.00"), 9),
    Case(np.float32(0.5), 0.5, kind=pa.float32()),
    Case(timedelta(seconds=1, milliseconds=500), 1.5),
    Case("7", "7"),
]

TEXTS: Final = [
    Case("  kept as it is ", "  kept as it is "),
    Case("", ""),
    Case("NULL", "NULL"),
    Case("NULL", EMPTY, ("null_word",), {"nulls": ["NULL"]}),
    Case("\ud83d", Invalid("bad_text")),
    Case("a\u0000b\n\u2028", "a\u0000b\n\u2028"),
    Case('{"a": 1}', '{"a": 1}'),
    Case('{"a": [1, 2.5], "b": null}', {"a": [1, 2.5]}, ("json_text",), {"json": ["cell"]}),
    Case("{oops", "{oops", ("not_json",), {"json": ["cell"]}),
    Case('[1, "a"]', '[1,"a"]', ("json_text", "mixed_list"), {"json": ["cell"]}),
    Case({"x": {"y": None, "z": 1}}, {"x": {"z": 1}}),
    Case([1, None, 3], [1, None, 3], kind=pa.list_(pa.int64())),
    Case({}, EMPTY, kind=pa.struct([("a", pa.int64())])),
    Case("red", "red", kind=pa.dictionary(pa.int8(), pa.string())),
    Case("view", "view", kind=pa.string_view()),
    Case(b"text", "text", ("bytes_text",), kind=pa.binary()),
    Case(datetime(2024, 1, 15, 10, 30, tzinfo=UTC), "2024-01-15T10:30:00Z"),
]

_VALUE: Final = pa.struct(
    [("string_value", pa.string()), ("int_value", pa.int64()), ("double_value", pa.float64())]
)
_PAIRS: Final = pa.list_(pa.struct([("key", pa.string()), ("value", _VALUE)]))

PARTS: Final = [
    Case(
        [
            {"key": "plan", "value": {"string_value": "pro"}},
            {"key": "seats", "value": {"int_value": 3}},
            {"key": "score", "value": {"double_value": 0.5}},
        ],
        {"plan": "pro", "seats": 3, "score": 0.5},
        ("expanded",),
        kind=_PAIRS,
    ),
    Case('{"plan": "pro", "seats": 3}', {"plan": "pro", "seats": 3}, ("expanded", "json_text")),
    Case({"plan": "pro"}, {"plan": "pro"}, ("expanded",)),
    Case([("plan", "pro")], {"plan": "pro"}, ("expanded",), kind=pa.map_(pa.string(), pa.string())),
    Case("oops", {"cell": "oops"}, ("expanded", "not_json")),
]

GROUPS: Final = {
    "Ids": ("userId", IDS),
    "Times": ("timestamp", TIMES),
    "Booleans, such as `from_background`": ("properties.from_background", BOOLEANS),
    "Versions and builds": ("properties.version", VERSIONS),
    "Numbers as properties": ("properties.cell", NUMBERS),
    "Text, lists and objects as properties": ("properties.cell", TEXTS),
    "Columns named in `expand`": ("properties", PARTS),
}


def outcome(path: str, case: Case) -> tuple[Any, tuple[str, ...]]:
    """What becomes of the cell of a case, and what was mended in its column."""
    rows = 1 + len(case.beside)
    base: dict[str, Any] = {"uid": ["u0"] * rows, "ts": ["2023-05-01T10:00:00Z"] * rows}
    cells = [case.cell, *case.beside]
    array = pa.array(cells, case.kind) if case.kind is not None else None
    dtype = object if isinstance(case.cell, str) else None  # which alone holds half a character
    frame = pd.DataFrame(base | {"cell": pd.Series(cells, dtype=dtype) if array is None else "x"})
    source: Any = frame
    if array is not None:
        source = pa.table({**{n: pa.array(c) for n, c in base.items()}, "cell": array})
    mapping: dict[str, Any] = {
        "user_id": "uid",
        "anonymous_id": None,
        "timestamp": "ts",
        "event": lit("Application Opened"),
        "rest": "drop",
    }
    if path == "userId":
        mapping |= {"user_id": "cell", "anonymous_id": "uid"}
    elif path == "timestamp":
        mapping["timestamp"] = "cell"
    elif path == "properties":
        mapping["expand"] = ["cell"]
    else:
        mapping["properties"] = {path.removeprefix("properties."): "cell"}
    table = open_source(source)
    (chunk,) = table.chunks(table.schema.names)
    built = build(bind(Mapping(**mapping | case.options), table.schema), chunk.batch, latest=LATEST)
    fixes = tuple(sorted(fix.code for fix in built.problems.fixes if fix.column == "cell"))
    for actual, problems in built.problems.groups():
        if 0 in actual:
            return Invalid(problems[0].code), fixes
    message: Any = payloads(built)[0]
    for name in path.split("."):
        message = message.get(name) if message is not None else None
    return message, fixes


def page() -> str:
    """The page of the documentation that these cases make."""
    lines = [
        "# Awkward values, and what becomes of each",
        "",
        "Made from the tests; each line is one of them. Whatever is mended is counted in the plan",
        "and in the report, and a row is `invalid` where nothing certain can be done.",
    ]
    total = sum(len(cases) for _, cases in GROUPS.values())
    lines.append(f"There are {total} of them, and the whole is checked against the code.")
    for title, (path, cases) in GROUPS.items():
        lines += ["", f"## {title}", "", "| cell | in the message | counted as |", "|---|---|---|"]
        for case in cases:
            becomes = _shown(case.becomes)
            if isinstance(case.becomes, Invalid):
                becomes = f"invalid: `{case.becomes.code}`"
            elif case.becomes is EMPTY:
                becomes = "empty"
            shown = ", ".join(f"`{code}`" for code in case.fixes)
            options = "".join(f", `{name}={value!r}`" for name, value in case.options.items())
            beside = f", beside {', '.join(map(_shown, case.beside))}" if case.beside else ""
            kind = f" ({_kind(case.kind)})" if case.kind is not None else ""
            lines.append(f"| {_shown(case.cell)}{kind}{options}{beside} | {becomes} | {shown} |")
        del path
    lines += ["", "## What the codes say", "", "| counted as mended | |", "|---|---|"]
    lines += [f"| `{code}` | {text} |" for code, text in FIXES.items()]
    lines += ["", "| invalid because | what to do |", "|---|---|"]
    lines += [f"| `{code}` | {text} |" for code, text in PROBLEMS.items()]
    return "\n".join(lines) + "\n"


def _kind(kind: Any) -> str:
    return "key/value pairs" if kind == _PAIRS else str(kind)


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) else repr(value)
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
