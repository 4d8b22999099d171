"""The index of a DataFrame: it is no column, and it survives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from pathlib import Path

INDEXES: list[Any] = [
    pd.MultiIndex.from_product([["p", "q"], [1, 2]], names=["k", "n"]),
    pd.MultiIndex.from_product([["p", "q"], [1.5, 2]], names=[None, "n"]),
    pd.MultiIndex.from_arrays([pd.date_range("2020", periods=4, tz="UTC"), list("abab")]),
    pd.MultiIndex.from_arrays([pd.Categorical(list("abab")), [1, 1, 2, 2]], names=["uid", "x"]),
    pd.MultiIndex.from_arrays([list("aaaa"), [1, 1, 1, 1], [None, "a", None, "b"]]),
    pd.Index(list("abcd"), name="k"),
    pd.date_range("2020", periods=4, name="k"),
]


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_an_index_survives_saving(index: Any, box: Any, tmp_path: Path) -> None:
    """Saved failures have the levels, names and types of the index, and can be sent again."""
    frame = opens(4, uid=["a", None, "c", None]).set_index(index)
    options: dict[str, Any] = {"destination": box.destination, "progress": False, "journal": False}
    report = frame.cdp.send(OPENED, recent="send", **options)
    report.save(tmp_path)
    saved = pd.read_parquet(tmp_path / "failures.parquet")
    assert saved.index.names == report.failures.index.names
    assert saved.index.tolist() == report.failures.index.tolist()
    again = saved.assign(uid=["b", "d"]).cdp.send(recent="send", **options)
    assert again.counts["delivered"] == 2


def test_levels_of_several_types_become_text(box: Any, tmp_path: Path) -> None:
    """A level that mixes types has one in parquet; empty labels stay empty."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", None), ("b", 2.5), ("b", "x")])
    frame = opens(4, uid=[None] * 4).set_index(index)
    report = frame.cdp.send(
        OPENED, destination=box.destination, progress=False, journal=False, recent="send"
    )
    report.save(tmp_path)
    saved = pd.read_parquet(tmp_path / "failures.parquet").index
    assert saved.get_level_values(0).tolist() == ["a", "a", "b", "b"]
    assert saved.get_level_values(1).tolist()[2:] == ["2.5", "x"]
    assert saved.get_level_values(1).isna().tolist() == [False, True, False, False]


def test_an_id_in_the_index_is_noticed() -> None:
    """The question names the index and what makes columns of it; then it is answered."""
    frame = opens(4, event=["app_open"] * 4).rename(columns={"uid": "customer_id"})
    plan = frame.set_index("customer_id").cdp.plan()
    (question,) = [each for each in plan.questions if each.field == "user_id"]
    assert "The index holds 'customer_id': df.reset_index()" in str(question)
    solved = frame.set_index("customer_id").reset_index().cdp.plan()
    assert solved.mapping.user_id == "customer_id"


def test_a_time_in_the_index_is_noticed() -> None:
    """A time is offered where the time is asked for, and an id where the person is."""
    frame = opens(4, event=["app_open"] * 4)
    plan = frame.set_index(["ts", "uid"]).cdp.plan(user_id="event")
    texts = {each.field: str(each) for each in plan.questions}
    assert "The index holds 'ts'" in texts["timestamp"]
    assert "'uid'" not in texts["timestamp"]


def test_an_argument_that_names_the_index() -> None:
    """The error says where the name is, and what to type."""
    frame = opens(4).set_index("uid")
    with pytest.raises(cdp.MappingError, match=r"'uid' is in the index.*df\.reset_index\(\)"):
        frame.cdp.plan(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    with pytest.raises(cdp.MappingError, match=r"df\.reset_index\(\)"):
        frame.cdp.plan(OPENED)
