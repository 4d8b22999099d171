"""New names of properties: everywhere, for every kind of column, with one clear error each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill import Mapping, MappingError
from cdp_backfill.api import messages
from tests.inference.test_preset_shapes import EXPORTS
from tests.rows import OPENED
from tests.sending import counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS = st.sampled_from(["a", "b", "c.d", ""])


@given(st.dictionaries(COLUMNS, st.text(min_size=1).filter(lambda name: "\0" not in name)))
def test_a_new_name_is_a_property(rename: dict[str, str]) -> None:
    """The mapping is that of the whole dict, in TOML, too; two columns cannot have one name."""
    if len(set(rename.values())) < len(rename):
        with pytest.raises(MappingError, match="the same name"):
            Mapping(rename=rename)
        return
    mapping = Mapping(user_id="uid", rename=rename)
    assert mapping == Mapping(user_id="uid", properties={new: old for old, new in rename.items()})
    assert Mapping.from_toml(mapping.to_toml()) == mapping
    assert Mapping.from_dict({"user_id": "uid", "rename": rename}) == mapping


ROW: Final[dict[str, Any]] = {
    "uid": "u1",
    "ts": "2023-05-01T10:00:00Z",
    "colour": "red",
    "swap": 1,
    "paws": 2,
    "bag": {"size": 3, "left": 4},
    "parts": {"k": 5, "m": 6},
    "note": "hey",
}
RENAME: Final = {
    "colour": "color",
    "swap": "paws",
    "paws": "swap",
    "bag.size": "size",
    "parts.k": "kay",
    "loud": "shout",
}
KEYWORDS: Final[dict[str, Any]] = {
    "user_id": "uid",
    "timestamp": "ts",
    "event": cdp.lit("Application Opened"),
    "derive": {"loud": "upper(note)"},
    "expand": ["parts"],
}


def ndjson(folder: Path) -> Path:
    """The row in a file of objects."""
    (folder / "rows.ndjson").write_text(json.dumps(ROW), encoding="utf-8")
    return folder / "rows.ndjson"


def parquet(folder: Path) -> Path:
    """The row with structs in a file."""
    pq.write_table(pa.Table.from_pylist([ROW]), folder / "rows.parquet")
    return folder / "rows.parquet"


def frame(folder: Path) -> pd.DataFrame:
    """The row in a DataFrame with dicts."""
    del folder
    return pd.DataFrame([ROW])


@pytest.mark.parametrize("make", [ndjson, parquet, frame])
def test_columns_of_every_kind_get_new_names(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    """Plain ones, two that change places, derived ones, fields of structs and of JSON."""
    source, journal = make(tmp_path), tmp_path / "journal"
    with cdp.sandbox() as box:
        options: dict[str, Any] = {"destination": box.destination, "progress": False}
        report = cdp.send(source, **KEYWORDS, rename=RENAME, journal=journal, **options)
        again = cdp.send(source, **KEYWORDS, rename=RENAME, journal=journal, **options)
        (sent,) = box.events()["properties"]
        other = {"colour": "hue"}
        with pytest.raises(cdp.JournalError, match="properties differs"):
            cdp.send(source, **KEYWORDS, rename=other, journal=journal, **options)
    assert (counts(report), again.delivered_before) == ({"delivered": 1}, 1)
    assert sent == {
        "color": "red",
        "paws": 1,
        "swap": 2,
        "size": 3,
        "bag": {"left": 4},
        "kay": 5,
        "m": 6,
        "shout": "HEY",
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rename": {"color": "x"}}, "There is no column 'color'. Did you mean 'colour'"),
        ({"rename": {"colour": "x", "swap": "x"}}, "'colour' and 'swap' the same name 'x'"),
        ({"rename": {"colour": "swap"}}, "'swap' would become the property 'swap'"),
        ({"rename": {"colour": "x"}, "drop": ["colour"]}, "and drop= leaves it out"),
        ({"rename": {"colour": "x"}, "user_id": "colour"}, "which fills user_id"),
        ({"rename": {"colour": "x"}, "context": {"locale": "colour"}}, "which fills context"),
        ({"rename": {"colour": "x"}, "expand": ["colour"]}, "which fills expand"),
        ({"rename": {"colour": "x"}, "properties": {"y": "colour"}}, "properties= names, too"),
        ({"rename": {"colour": "x"}, "properties": {"x": "swap"}}, "fills it from another"),
        ({"rename": {"colour": 1}}, "must be a dict of columns to new names, both as text"),
        ({"rename": ["colour"]}, "rename must be a dict of columns to new names, not list"),
    ],
)
def test_each_wrong_name_is_one_clear_error(fields: dict[str, Any], said: str) -> None:
    """As keywords, in a mapping, and in the file of a mapping."""
    table = pd.DataFrame([{name: ROW[name] for name in ("uid", "ts", "colour", "swap")}])
    base: dict[str, Any] = {name: KEYWORDS[name] for name in ("user_id", "timestamp", "event")}
    calls: list[Callable[[], Any]] = [
        lambda: cdp.plan(table, **base | fields),
        lambda: cdp.plan(table, Mapping(**base | fields)),
        lambda: cdp.plan(table, Mapping(**base), **fields),
    ]
    for call in calls:
        with pytest.raises(MappingError) as caught:
            call()
        assert said in str(caught.value)


def test_keywords_rename_what_a_mapping_or_a_preset_names() -> None:
    """Its own property of the column gets the new name; its other properties stay."""
    table = pd.DataFrame([ROW]).drop(columns=["bag", "parts", "note"])
    mapping = Mapping(
        **{name: KEYWORDS[name] for name in ("user_id", "timestamp", "event")},
        properties={"shade": "colour", "number": "swap"},
        drop=["paws"],
    )
    (message,) = messages(table, 1, mapping, rename={"colour": "color", "paws": "feet"})
    assert message["properties"] == {"number": 1, "color": "red", "feet": 2}
    export = next(each for each in EXPORTS if each.slug == "amplitude")
    rows = pd.DataFrame(export.rows()).assign(extra=1)
    plan = cdp.plan(rows, preset="amplitude", rename={"extra": "more"})
    plain = cdp.plan(rows, preset="amplitude")
    assert plan.mapping.properties == plain.mapping.properties | {"more": "extra"}
    assert cdp.plan(rows, rename={"extra": "more"}).mapping.properties["more"] == "extra"


def test_what_is_proposed_beside_a_new_name_stays() -> None:
    """The context keeps a version whose property is renamed; an id has no property to rename."""
    rows = pd.DataFrame(
        {
            "user_id": [f"u{row % 9}" for row in range(40)],
            "event": ["app_open"] * 40,
            "event_time": [ROW["ts"]] * 40,
            "app_version": ["1.10", "1.2"] * 20,
            "params": ['{"k": 1}'] * 40,
        }
    )
    plain = cdp.plan(rows).mapping
    renamed = cdp.plan(rows, rename={"app_version": "appVersion", "params": "details"}).mapping
    assert plain.properties == {"version": "app_version"}
    assert renamed.properties == {"appVersion": "app_version", "details": "params"}
    assert (plain.expand, renamed.expand) == (("params",), ())
    assert renamed.context == plain.context
    assert (renamed.user_id, renamed.event, renamed.events) == ("user_id", "event", plain.events)
    with pytest.raises(MappingError, match="'user_id', which fills user_id"):
        cdp.plan(rows, rename={"user_id": "person"})


def test_a_renamed_column_of_personal_data_is_sent() -> None:
    """Who names a column means it."""
    rows = pd.DataFrame({"uid": ["u1"], "ts": [ROW["ts"]], "email": ["a@example.com"]})
    fields: dict[str, Any] = {"user_id": "uid", "timestamp": "ts", "event": OPENED.event}
    assert cdp.plan(rows, **fields).mapping.drop == ("email",)
    (message,) = messages(rows, 1, **fields, rename={"email": "contact"})
    assert message["properties"] == {"contact": "a@example.com"}
