"""Fields inside columns are proposed by path, where no column fits, with the same caution."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from tests.inference.proposing import asked
from tests.sending import counts, send

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.inference.proposal import Proposal

ROWS: Final = 40
CELLS: Final[dict[str, Any]] = {
    "user.id": [f"u{row % 9}" for row in range(ROWS)],
    "device.id": [f"0f3b{row % 9}c1a-55d1-4a1b-9c1d-0123456789ab" for row in range(ROWS)],
    "device.model": ["iPhone12,1"] * ROWS,
    "device.os.name": [("iOS", "ios")[row % 2] for row in range(ROWS)],
    "device.os.version": [("16.1", "1.10")[row % 2] for row in range(ROWS)],
    "app.version": [f"1.{row % 3}" for row in range(ROWS)],
    "event.name": [("app_open", "app_install")[row % 2] for row in range(ROWS)],
    "event.time": [f"2023-05-{1 + row % 28:02d}T10:00:00Z" for row in range(ROWS)],
    "score": list(range(ROWS)),
}


def nested(cells: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Rows whose names with dots are objects in objects."""
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        row: dict[str, Any] = {}
        for path, column in cells.items():
            *above, last = path.split(".")
            here = row
            for name in above:
                here = here.setdefault(name, {})
            here[last] = column[number]
        rows.append(row)
    return rows


def proposed(rows: list[dict[str, Any]], folder: Path, **fields: Any) -> Proposal:
    """What is proposed for the rows in a file of objects, after the same came of structs."""
    (folder / "rows.ndjson").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    of_json = cdp.plan(folder / "rows.ndjson", **fields).proposal
    for source in (folder / "rows.parquet", pd.DataFrame(rows)):
        of_structs = cdp.plan(source, **fields).proposal
        assert of_structs.mapping == of_json.mapping
        assert asked(of_structs) == asked(of_json)
    return of_json


def test_every_field_is_found_inside_columns_and_arrives(tmp_path: Path) -> None:
    """Who, what, when and the context by path; what is left of the columns goes along."""
    found = proposed(nested(CELLS), tmp_path)
    mapping = found.mapping
    assert asked(found) == set()
    assert [mapping.user_id, mapping.anonymous_id] == ["user.id", "device.id"]
    assert [mapping.event, mapping.timestamp] == ["event.name", "event.time"]
    assert mapping.context["os"] == {"name": "device.os.name", "version": "device.os.version"}
    assert mapping.context["device"]["model"] == "device.model"
    assert mapping.properties == {"version": "app.version"}
    assert {each.field: each.text for each in found.assumptions}["anonymous_id"].startswith("'dev")
    with cdp.sandbox() as box:
        report = send(tmp_path / "rows.ndjson", box, None, journal=tmp_path / "journal")
        again = send(tmp_path / "rows.ndjson", box, None, journal=tmp_path / "journal")
        assert counts(report) == {"delivered": ROWS}
        assert again.delivered_before == ROWS
        sent = box.events().iloc[0]
    assert sent["properties"] == {"version": "1.0", "score": 0}


@settings(max_examples=10)
@given(st.sets(st.sampled_from([path for path in CELLS if "." in path]), min_size=1))
def test_a_column_of_the_table_comes_first(flat: set[str]) -> None:
    """Whatever lies in columns of its own is taken from there, and the rest by path."""
    cells = {path.replace(".", "_") if path in flat else path: CELLS[path] for path in CELLS}
    flat_names = {path.replace(".", "_") for path in flat}
    whole = cdp.plan(pd.DataFrame(nested(CELLS))).mapping
    part = cdp.plan(pd.DataFrame(nested(cells))).mapping
    assert set(part.sources()) == {
        name if (name := path.replace(".", "_")) in flat_names else path for path in whole.sources()
    }


@pytest.mark.parametrize(
    ("change", "questions"),
    [
        ({"user.id": None, "customer.id": "user.id", "member.id": "score"}, {"user_id"}),
        ({"event.name": "score"}, {"event"}),
        ({"event.time": None, "event.loaded_at": "event.time"}, {"timestamp"}),
        ({"user.id": None, "device.id": None, "order.id": "score"}, {"user_id"}),
    ],
)
def test_what_is_not_certain_is_asked(
    tmp_path: Path, change: dict[str, str | None], questions: set[str]
) -> None:
    """Two candidates, cells that do not fit, names that say another thing: a question each."""
    cells = dict(CELLS)
    for path, source in change.items():
        if source is None:
            del cells[path]
        else:
            cells[path] = [f"{cell}" for cell in CELLS[source]]
    found = proposed(nested(cells), tmp_path)
    assert questions <= asked(found)
    mapping = found.mapping
    assert all(getattr(mapping, name) is None for name in questions)


def test_a_question_about_the_table_stays_while_no_path_answers_it(tmp_path: Path) -> None:
    """A device is known, its fields are found inside, and who it was is still asked."""
    cells = {name: CELLS[name] for name in CELLS if not name.startswith("user")}
    cells["device_id"] = cells.pop("device.id")
    found = proposed(nested(cells | {"user_id": ["u1"] * ROWS}), tmp_path)
    assert asked(found) == {"user_id"}
    assert found.mapping.anonymous_id == "device_id"
    assert found.mapping.context["device"]["model"] == "device.model"


def test_personal_data_beside_a_path_stays_out(tmp_path: Path) -> None:
    """The id is used, and the rest of its column is left out for the address in it."""
    cells = CELLS | {"user.email": [f"a{row}@example.com" for row in range(ROWS)]}
    found = proposed(nested(cells), tmp_path)
    assert (found.mapping.user_id, found.mapping.drop) == ("user.id", ("user",))
    (first, *_) = cdp.plan(tmp_path / "rows.ndjson").proposal.left_out
    assert first.column == "user"


def test_lists_of_keys_and_values_have_no_paths(tmp_path: Path) -> None:
    """They are expanded, as without any object beside them."""
    lists = [[{"key": "k", "value": {"string_value": "v"}}]] * ROWS
    found = proposed(nested(CELLS | {"event_params": lists}), tmp_path)
    assert found.mapping.expand == ("event_params",)
    assert found.mapping.user_id == "user.id"


def test_keywords_and_paths_go_together(tmp_path: Path) -> None:
    """What a keyword names is not proposed again; the other paths are."""
    rows = nested(CELLS)
    plain = proposed(rows, tmp_path).mapping
    given = proposed(rows, tmp_path, user_id="device.id", drop=["app.version"]).mapping
    assert given.user_id == "device.id"
    assert "app.version" not in given.sources()
    assert replace(given, user_id=plain.user_id).event == plain.event
    assert given.context["os"] == plain.context["os"]
