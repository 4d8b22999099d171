"""Lists of ids: one id a line, without a header, or a table."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping
from cdp_backfill.pipeline.excluded_ids import read_excluded
from cdp_backfill.sources import id_lists
from cdp_backfill.sources.id_lists import id_lines
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

lines = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and not set(text) & set(',;\t|{["\x01')),
    min_size=1,
)


@given(lines, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_each_line_is_an_id(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], end: str, encoding: str
) -> None:
    """None is taken for a header, whatever it looks like."""
    path = tmp_path_factory.mktemp("ids") / "ids.txt"
    path.write_bytes(end.join([*ids, ""]).encode(encoding))
    parts = id_lines(path)
    if parts is not None:  # hardly any letter is ASCII: another encoding is as likely
        assert [line for part in parts for line in part if line] == ids


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("user_id\nada\n12\n", {"ada", "12"}),
        ("kunde\nada\n12\n", {"kunde", "ada", "12"}),
        ("001\n12\n13.0\n", {"001", "12", "13"}),
        ("ada@example.com\nbob@example.com\n", {"ada@example.com", "bob@example.com"}),
        (' ada \n\n"bob"\nNULL\n', {"ada", "bob", '"bob"'}),
        ('user_id\n"a,b"\nbob\n', {"a,b", "bob"}),
        ("uid,reason\nada,x\nbob,y\n", {"ada", "bob"}),
        ("x;user_id;anonymous_id\n1;ada;d1\n2;;d2\n", {"ada", "d1", "d2"}),
        ('{"user_id": "ada"}\n{"user_id": 12}\n', {"ada", "12"}),
        ("", set()),
    ],
)
def test_a_file_of_ids(tmp_path: Path, content: str, ids: set[str]) -> None:
    """With a header or without, of one column or several, packed or not."""
    plain, packed = tmp_path / "ids.csv", tmp_path / "ids.csv.gz"
    plain.write_text(content)
    packed.write_bytes(gzip.compress(content.encode()))
    expected = read_excluded(sorted(ids), OPENED).digest
    assert read_excluded(plain, OPENED).digest == expected
    if content.startswith(("uid", "x;", "{", 'user_id\n"a')):
        assert read_excluded(str(packed), OPENED).digest == expected
    pd.DataFrame({"user_id": sorted(ids)}).astype(str).to_parquet(tmp_path / "ids.parquet")
    assert read_excluded([tmp_path / "ids.parquet"], Mapping()).digest == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\n" + b"x" * 20_000, "Line 2 of the file 'ids.txt' has 10,000 characters or more"),
        (b"a" * 70_000 + b"\n", "Line 1 of the file"),
        (b"ada\n" * 20_000 + b"\xff\xfe\n", "is not text in UTF-8"),
        (b"reason,day\nx,1\ny,2\n", "none of them is named 'uid' or 'user_id'"),
    ],
)
def test_a_file_that_holds_no_ids(tmp_path: Path, content: bytes, words: str) -> None:
    """One clear error that has no line of it."""
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(cdp.BadInputError, match=words):
        read_excluded(path, OPENED)


def test_long_lists_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that millions of ids need no more memory than their digests."""
    monkeypatch.setattr(id_lists, "_LINES", 10)
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"u{number}\n" for number in range(95)))
    parts: Any = id_lines(path)
    assert [len(part) for part in parts] == [10] * 9 + [5]
    assert read_excluded(path, OPENED).ids == 95
