"""``where=``: which rows an expression chooses, and which expressions are refused."""

from __future__ import annotations

from typing import Any, Final

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.api import messages as preview
from cdp_backfill.messages.row_filter import RowFilter
from tests.rows import OPENED, opens

SCHEMA: Final = pa.schema(
    [
        ("n", pa.int64()),
        ("city", pa.string()),
        ("device", pa.struct([("id", pa.string()), ("os", pa.string())])),
    ]
)
PARTS: Final = (
    *("n > 2", "n % 2 = 0", "n IS NULL", "n BETWEEN -1 AND 3", "n IN (1, 2)"),
    *("city = 'Zürich'", "city LIKE '%i%'", "lower(city) <> 'a''b'", "city IS DISTINCT FROM 'x'"),
    *("device.id = 'd1'", "device.os IS NOT NULL", "TRY(city::INT) > 1", "twice > 3", "NULL"),
)
conditions = st.recursive(
    st.sampled_from(PARTS),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
        )
        | inner.map(lambda part: f"NOT ({part})")
    ),
    max_leaves=5,
)
devices = st.none() | st.fixed_dictionaries(
    {"id": st.sampled_from(["d1", "d2", None]), "os": st.sampled_from(["iOS", None])}
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.none() | st.integers(-3, 5),
            "city": st.sampled_from(["Zürich", "a'b", "x", "3", "", None]),
            "device": devices,
        }
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=25)
@given(conditions, rows)
def test_the_rows_are_those_of_duckdb(condition: str, cells: list[dict[str, Any]]) -> None:
    """Derived columns and paths included; a null is not true, and no row fails."""
    table = pa.Table.from_pylist(cells, SCHEMA)
    where = RowFilter(f"CAST(({condition}) AS BOOLEAN)", {"twice": "n * 2"}, SCHEMA)
    numbered = table.append_column("number", pa.array(range(len(cells))))
    with duckdb.connect() as connection:
        connection.register("numbered", numbered)
        query = f"SELECT number FROM (SELECT *, n * 2 AS twice FROM numbered) WHERE {condition}"  # noqa: S608
        expected = {number for (number,) in connection.execute(query).fetchall()}
    (batch,) = table.combine_chunks().to_batches()
    true, failed = where.apply(batch)
    assert {number for number, chosen in enumerate(true) if chosen} == expected
    assert not failed.any()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("n", "must be true or false in each row, but it is of type int64"),
        ("NULL", "must be true or false"),
        ("'true'", "must be true or false"),
        ("", "is empty or no text"),
        (17, "is empty or no text"),
        ("n >", "is not a SQL expression"),
        ("m > 1", "names 'm', which is not a column of the table"),
        ("device.idd = 'x'", "does not fit the table"),
        ("n IN (SELECT 1)", "without a subquery or window"),
        ("row_number() OVER () = 1", "without a subquery or window"),
        ("sum(n) > 1", "must use its own row only"),
        ("n > 1, 2", "must be true or false"),
        ("n > 1) FROM x WHERE (true", "is not a SQL expression"),
        ("n > 1) AS y, (true", "must be one SQL expression"),
        ("now() > TIMESTAMP '2020-01-01'", "differs from run to run. A run could send other rows"),
        ("random() > 0.5", "differs from run to run"),
        ("city IN (SELECT * FROM read_text('/etc/hosts'))", "must be one SQL expression"),
        ("CAST('secret-id' AS INT) = n", "fails in every row: Could not convert string '...'"),
        ("variant_normalize(city) = 'x'", "ends the process or runs for hours"),
    ],
)
def test_a_bad_expression_is_one_clear_error(where: Any, words: str) -> None:
    """Before anything is read or sent, and without a text of the expression that can be an id."""
    frame = opens(2, n=[1, 2], city="x", device=[{"id": "a", "os": "b"}] * 2)
    with pytest.raises(cdp.MappingError) as caught:
        cdp.plan(frame, OPENED, where=where)
    assert str(caught.value).startswith("where= ")
    assert words in str(caught.value)
    assert "secret-id" not in str(caught.value)


def test_a_row_in_which_it_fails_is_no_row_that_is_left_out() -> None:
    """Nobody can tell whether it is chosen: it is invalid, also where a derived column fails."""
    frame = opens(3, n=["1", "x", "3"])
    for options in ({"where": "n::INT < 3"}, {"where": "m < 3", "derive": {"m": "n::INT"}}):
        shown = preview(frame, 3, OPENED, **options)
        codes = [each.get("cdp_code") for each in shown]
        assert codes in ([None, "where_failed", "not_where"], [None, "derive_failed", "not_where"])
        assert "where= fails" in shown[1]["cdp_reason"]


def test_to_choose_rows_changes_no_message() -> None:
    """A column that it reads stays a property, and a dropped one can be read; ids stay."""
    frame = opens(3, n=[1, 2, 3], city="x", where="y")
    mapping = cdp.Mapping.from_dict(OPENED.to_dict() | {"drop": ["city"]})
    plain = preview(frame, 3, mapping)
    chosen = preview(frame, 3, mapping, where="n > 1 AND city = 'x' AND \"where\" = 'y' -- yes")
    assert chosen[1:] == plain[1:]
    assert chosen[0]["cdp_code"] == "not_where"
    assert plain[0]["properties"] == {"n": 1, "where": "y"}


def test_it_sees_the_cells_of_a_csv_in_their_own_types(tmp_path: Any) -> None:
    """As the plan lists them: a number is one, and an id with zeros is text."""
    frame = pd.DataFrame({"uid": ["007", "8"], "ts": "2023-05-01T10:00:00Z", "n": [9, 10]})
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    shown = preview(path, 2, OPENED, where="n > 9 OR uid = '007'")
    assert [each["properties"]["n"] for each in shown] == [9, 10]
