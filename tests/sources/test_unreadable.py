"""Rows of files that cannot be read are skipped on request, and each is counted with its line."""

from __future__ import annotations

import gzip
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import api
from cdp_backfill.errors import BackfillError, BadInputError
from cdp_backfill.sources import open_source, unpacking

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

TIME = "2023-05-01T10:00:00Z"
MAPPING: dict[str, Any] = {
    "user_id": "uid",
    "timestamp": "ts",
    "event": cdp.lit("Application Opened"),
}

_WORDS = st.text("abcdefgh é", max_size=9).map(lambda word: f"w{word}")


def _csv_line(number: int, word: str) -> bytes:
    return f"u{number},{TIME},{word}".encode()


# Each makes of the number of a row and a word: the lines of a row, and whether it can be read.
CSV_ROWS: dict[str, Any] = {
    "good": lambda n, word: (_csv_line(n, word), True),
    "quoted": lambda n, word: (_csv_line(n, f'"{word}, ""{word}"""'), True),
    "long text": lambda n, word: (_csv_line(n, f'"{word}\n{word}\n\n{word}"'), True),
    "inch": lambda n, word: (_csv_line(n, f'{word} 5" wide'), True),
    "empty line": lambda _n, _word: (b"", None),
    "short": lambda n, word: (f"u{n},{word}".encode(), False),
    "one cell": lambda _n, word: (f"total {word}".encode(), False),
    "long": lambda n, word: (_csv_line(n, f"{word},{word}"), False),
    "short quoted": lambda n, word: (f'u{n},"{word}, {word}"'.encode(), False),
    "text behind a quote": lambda n, word: (_csv_line(n, f'"{word}"{word}'), False),
    "short, on two lines": lambda n, word: (f'u{n},"{word}\n{word}"'.encode(), False),
    "no UTF-8": lambda n, word: (_csv_line(n, word) + b" \xff\xfe\x81", False),
    "open": lambda n, _word: (_csv_line(n, '"never closed'), False),
}
JSON_ROWS: dict[str, Any] = {
    "good": lambda n, word: (_object(n, word), True),
    "half a letter": lambda n, _word: (_object(n, "\ud83d"), True),
    "empty line": lambda _n, _word: (b"  ", None),
    "cut": lambda n, word: (_object(n, word)[:-3], False),
    "no JSON": lambda _n, word: (f"[{word}".encode(), False),
    "a number": lambda n, _word: (str(n).encode(), False),
    "a list": lambda n, _word: (f"[{n}]".encode(), False),
    "two values": lambda n, word: (_object(n, word) + b" 5", False),
    "no UTF-8": lambda n, word: (_object(n, word).replace(b"w", b"\xff\xfe\x81"), False),
}


def _object(number: int, word: str) -> bytes:
    return json.dumps({"uid": f"u{number}", "ts": TIME, "note": word}).encode()


def _rows(kinds: dict[str, Any], best: str) -> Any:
    """Lists of rows of all kinds; the first one can be read, so that the file has a format."""
    names = sorted(kind for kind in kinds if kind != "open")
    return st.lists(st.tuples(st.sampled_from(names), _WORDS), max_size=14).map(
        lambda rows: [(best, "first"), *rows]
    )


def _read(path: Path) -> list[tuple[int, int | None, str | None]]:
    """Row number, line, and user id of each row of a file."""
    source = open_source(str(path), unreadable="skip").settled(["uid"])
    names = source.schema.names
    result = []
    for chunk in source.chunks(names):
        for number, row in enumerate(chunk.batch.to_pylist(), chunk.origin_start):
            assert (row.get("cdp_unreadable") is None) == (row["uid"] is not None)
            result.append((number, row.get("cdp_line"), row["uid"]))
    assert source.rows == len(result)
    return result


def _check(kinds: dict[str, Any], rows: Any, header: list[bytes], path: Path, end: bytes) -> None:
    """Write a file line by line, counting which lines are broken, and compare."""
    lines = list(header)
    expected: list[tuple[int, int | None, str | None]] = []
    for number, (kind, word) in enumerate(rows):
        text, good = kinds[kind](number, word)
        line = sum(each.count(b"\n") + 1 for each in lines) + 1
        lines.append(text)
        if good is not None:
            row = len(expected)
            expected.append((row, None, f"u{number}") if good else (row, line, None))
    text = b"\n".join(lines) + end
    path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)
    assert _read(path) == expected
    if all(line is None for _, line, _ in expected):
        return
    with pytest.raises(BackfillError, match="unreadable='skip'"):
        open_source(str(path)).settled([])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("broken")


@given(_rows(CSV_ROWS, "good"), st.booleans(), st.sampled_from([b"", b"\n"]))
def test_any_broken_csv(folder: Path, rows: Any, is_open: bool, end: bytes) -> None:
    """Exactly the broken rows of a CSV file have a line, whatever stands around them."""
    rows = [*rows, ("open", "")] if is_open else rows
    _check(CSV_ROWS, rows, [b"uid,ts,note"], folder / "a.csv", end)


@given(_rows(JSON_ROWS, "good"), st.sampled_from([b"", b"\n"]), st.sampled_from(["", ".gz"]))
def test_any_broken_json(folder: Path, rows: Any, end: bytes, packed: str) -> None:
    """Exactly the broken lines of a JSON file have a line, also in a packed file."""
    _check(JSON_ROWS, rows, [], folder / f"a.ndjson{packed}", end)


@given(st.lists(st.sampled_from(["good", "value", "broken", "list"])), st.booleans())
def test_any_broken_array(folder: Path, kinds: list[str], is_cut: bool) -> None:
    """Values of an array that are no objects, objects that are no JSON, and a cut end are rows."""
    values = {"good": '{"uid": "u%d"}', "value": "%d", "broken": '{"uid" %d}', "list": "[%d]"}
    items = [values[kind] % number for number, kind in enumerate(["good", *kinds])]
    path = folder / "array.json"
    path.write_text("[" + ",\n".join(items) + (',\n{"uid": "cut' if is_cut else "]"))
    expected = [
        (number, None if kind == "good" else number + 1, f"u{number}" if kind == "good" else None)
        for number, kind in enumerate(["good", *kinds])
    ]
    number = len(items)
    assert _read(path) == [*expected, *([(number, number + 1, None)] if is_cut else [])]


def test_blocks_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the blocks of a file end changes no row: not within quotes, letters or line ends."""
    kinds = [kind for kind in CSV_ROWS if kind != "open"] * 3
    lines = [CSV_ROWS[kind](number, "wé")[0] for number, kind in enumerate(["good", *kinds])]
    path = folder / "blocks.csv"
    for mark in (b"\n", b"\r\n", b"\r"):
        path.write_bytes(mark.join([b"uid,ts,note", *lines]))
        results = []
        for size in (2**20, 211, 97):
            monkeypatch.setattr(unpacking, "BLOCK_BYTES", size)
            results.append(_read(path))
        assert results[0] == results[1] == results[2]
        assert sum(line is not None for _, line, _ in results[0]) == 21


def test_a_quote_that_is_never_closed(folder: Path) -> None:
    """A quote that no other one closes costs its own line, and no row behind it."""
    lines = [_csv_line(number, "w") for number in range(9)]
    lines[3] = _csv_line(3, '"open')
    path = folder / "open.csv"
    path.write_bytes(b"\n".join([b"uid,ts,note", *lines]))
    assert [line for _, line, _ in _read(path)] == [None] * 3 + [5] + [None] * 5


def test_send_and_repair(box: Sandbox, tmp_path: Path) -> None:
    """Plan, report, failures, resume and a repair know the rows that cannot be read."""
    rows = [_csv_line(number, "w") for number in range(6)]
    rows[2] = rows[2][:4]
    name = "exports/2023/a.csv"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"\n".join([b"uid,ts,note", *rows]))
        archive.writestr("exports/2023/b.csv", b"\n".join([b"uid,ts,note", rows[0], rows[5]]))
    path, journal = str(tmp_path / "a.zip"), tmp_path / "a.cdp-journal"
    options: dict[str, Any] = {"destination": box.destination}
    with pytest.raises(BadInputError, match=r"has 2 fields, .* unreadable='skip'"):
        cdp.plan(path, **MAPPING, **options)
    plan = cdp.plan(path, **MAPPING, **options, unreadable="skip")
    assert plan.counts == {"to_send": 7, "invalid": 1, "held": 0, "skipped": 0}
    assert "; 1 row cannot be read" in str(plan).replace("\n", " ")
    assert "left out: 'cdp_" not in str(plan)
    assert [(each.code, rows) for each, rows in plan.problems.items()] == [("unreadable", 1)]
    first = plan.send(progress=False, journal=journal, processes=2)
    assert (first.counts["delivered"], first.counts["invalid"]) == (7, 1)
    failure = first.failures.iloc[0]
    assert (failure.cdp_line, failure.cdp_text, failure.cdp_row) == (4, "u2,2", 2)
    assert failure.cdp_source.endswith(name)
    again = cdp.resume(journal, progress=False, **options)  # the journal knows what to do
    assert (again.delivered_before, again.counts["invalid"]) == (7, 1)
    unrepaired = again.failures.cdp.send(progress=False, **options)
    assert unrepaired.counts["invalid"] == 1
    assert unrepaired.failures.cdp_code.tolist() == ["unreadable"]
    repaired = again.failures.assign(uid="u2", ts=TIME, cdp_unreadable=None)
    assert repaired.cdp.send(progress=False, **options).ok
    stored = box.events()
    assert sorted(stored.userId) == ["u0", "u0", "u1", "u2", "u3", "u4", "u5", "u5"]
    assert not stored.properties.astype(str).str.contains("cdp_").any()


def test_a_readable_file_is_read_as_always(box: Sandbox, tmp_path: Path) -> None:
    """Without rows that cannot be read, skipping them changes no message and adds no column."""
    path = tmp_path / "a.json"
    path.write_text('{"uid": "u1",\n "ts": "' + TIME + '"}\n{"uid": "u2", "ts": "' + TIME + '"}')
    always = api.messages(str(path), 9, **MAPPING)
    assert always == api.messages(str(path), 9, **MAPPING, unreadable="skip")
    report = cdp.send(
        str(path), **MAPPING, destination=box.destination, progress=False, unreadable="skip"
    )
    assert report.ok
    with pytest.raises(BadInputError, match="unreadable must be 'raise' or 'skip'"):
        cdp.plan(str(path), **MAPPING, unreadable="drop")  # type: ignore[arg-type]


def test_all_but_one_row(box: Sandbox, tmp_path: Path) -> None:
    """A file of which hardly any row can be read is sent; the plan begins with that."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"\n".join([_object(0, "w"), *[b'{"uid": "cut'] * 3_000]))
    plan = cdp.plan(str(path), **MAPPING, destination=box.destination, unreadable="skip")
    assert plan.alerts[0].startswith("3,000 rows of 3,001 (100.0%) cannot be read")
    assert plan.send(progress=False).counts["delivered"] == 1
