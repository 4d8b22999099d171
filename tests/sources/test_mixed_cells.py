"""Columns of several types: each cell keeps its own type, whatever its neighbours are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.api import messages
from cdp_backfill.sources.mixed_cells import has_json, is_empty
from tests.rows import OPENED, opens

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_infinity=False)
    | st.decimals(-(10**20), 10**20, places=6, allow_nan=True, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
    | st.sampled_from([np.int32(7), np.float32(0.5), np.float64(7.0), np.True_, pd.NA, pd.NaT])
)


def column(cells: list[Any]) -> pd.DataFrame:
    """A frame with these cells in a column of objects."""
    return opens(len(cells), x=pd.Series(cells, dtype=object))


def sent(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What each row becomes."""
    return messages(frame, len(frame), OPENED)


@given(st.lists(scalars, min_size=1, max_size=6), st.data())
def test_a_cell_is_the_same_in_any_company(cells: list[Any], data: Any) -> None:
    """The message and the id of a row are those of the row alone, and of any other order."""
    order = data.draw(st.permutations(range(len(cells))))
    frame = column(cells)
    whole = sent(frame)
    shuffled = sent(frame.iloc[order])
    assert [whole[row] for row in order] == shuffled
    for row in range(len(cells)):
        assert sent(frame.iloc[[row]]) == [whole[row]]


@given(st.lists(scalars, min_size=2, max_size=6))
def test_types_stay(cells: list[Any]) -> None:
    """Text is sent as text, a number as that number, a boolean as a boolean."""
    for cell, message in zip(cells, sent(column(cells)), strict=True):
        value = message.get("properties", {}).get("x")
        if is_empty(cell):
            assert value is None
        elif isinstance(cell, str):
            assert value == cell
        elif isinstance(cell, bool | np.bool_):
            assert value is bool(cell)
        else:
            assert value == pytest.approx(float(cell))
            assert type(value) is not bool
            if isinstance(cell, int | Decimal) and cell == int(cell):
                assert value == int(cell)


def test_infinity_is_one_row() -> None:
    """An infinite number makes its row invalid and no other, at any depth."""
    cells = [Decimal("Infinity"), Decimal(1), float("-inf"), "a", {"deep": [float("inf")]}]
    assert [message.get("cdp_code") for message in sent(column(cells))] == [
        "not_finite", None, "not_finite", None, "not_finite",
    ]  # fmt: skip


def test_ids_of_several_types() -> None:
    """A whole number is an id; a fraction, a flag and a number without its last digits are none."""
    cells = [7, 7.0, "7", "1.5", 1.5, True, 76561198012345671.0, 2**70, np.float32(123456789)]
    frame = pd.DataFrame({"uid": pd.Series(cells, dtype=object), "ts": "2023-05-01T10:00:00Z"})
    assert [message.get("userId") for message in sent(frame)] == [
        "7", "7", "7", "1.5", None, None, None, str(2**70), None,
    ]  # fmt: skip


def test_objects_of_different_shapes() -> None:
    """Dicts and lists whose members differ in type are sent as what they are."""
    cells = [{"a": 1}, {"a": "x"}, {"a": {"b": Decimal("1.10")}}, [1, "x"], [1, 2.5]]
    values = [message["properties"]["x"] for message in sent(column(cells))]
    assert values == [{"a": 1}, {"a": "x"}, {"a": {"b": 1.1}}, '[1,"x"]', [1.0, 2.5]]


@pytest.mark.parametrize("cell", [object(), {1: 2}, {"a": {1}}, [b"x"], 1 + 2j])
def test_types_without_json(cell: Any) -> None:
    """They are recognised at any depth, so that they can be refused."""
    assert not has_json(cell)
