"""What is no table or no mapping is refused in a sentence, and what the sentence says works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import polars as pl
import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens
from tests.sending import counts, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.local_sandbox import Sandbox

FRAME: Final = opens(2)
RECORDS: Final = FRAME.to_dict("records")
NAMES: Final = list(FRAME.columns)

# What is passed, and what the error says to pass.
NO_TABLES: Final[dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]] = {
    "pandas.DataFrame(rows).": (lambda: RECORDS, pd.DataFrame),
    "pandas.DataFrame(list(rows)).": (lambda: iter(RECORDS), lambda t: pd.DataFrame(list(t))),
    "pandas.DataFrame(table).": (lambda: FRAME.to_dict("list"), pd.DataFrame),
    "pandas.DataFrame(array, columns=[...]).": (
        FRAME.to_numpy,
        lambda table: pd.DataFrame(table, columns=NAMES),
    ),
    "pandas.DataFrame(rows, columns=[...]).": (
        lambda: FRAME.to_numpy().tolist(),
        lambda table: pd.DataFrame(table, columns=NAMES),
    ),
    "Pass its path.": (Path("rows.csv").open, lambda table: table.name),
    "Write them to a file and pass its path.": (
        lambda: Path("rows.csv").read_bytes(),
        lambda table: str(Path("more.csv").write_bytes(table) and "more.csv"),
    ),
    "Pass the DataFrame itself.": (lambda: FRAME.groupby("uid"), lambda table: table.obj),
    "after df.reset_index().": (
        lambda: FRAME.set_index("uid").index,
        lambda _: FRAME.set_index("uid").reset_index(),
    ),
    "None is no table.": (lambda: None, lambda _: FRAME),
}


@pytest.mark.parametrize("words", NO_TABLES)
def test_what_is_no_table(
    words: str, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is a sentence, and what it says to pass is sent."""
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("rows.csv", index=False)
    make, mend = NO_TABLES[words]
    table = make()
    with pytest.raises(cdp.SourceError) as caught:
        cdp.send(table, OPENED)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 100
    assert counts(send(mend(table), box)) == {"delivered": 2}
    if hasattr(table, "close"):
        table.close()


@pytest.mark.parametrize("series", [FRAME["uid"], pl.Series("uid", ["a"]), np.array(["a"])])
def test_a_series_is_no_table(series: Any) -> None:
    """One column is refused, although Arrow could read it; frames of one column go through."""
    for verb in (cdp.plan, cdp.send):
        with pytest.raises(cdp.SourceError, match=r"is one column, not a table|An array"):
            verb(series)
    assert cdp.plan(FRAME["uid"].to_frame()).questions


def test_what_is_no_mapping(box: Sandbox, tmp_path: Path) -> None:
    """A dict, a path of a mapping, and a path of a table given to a frame: each has its way."""
    fields: Any = {name: getattr(OPENED, name) for name in ("user_id", "event", "timestamp")}
    with pytest.raises(cdp.MappingError, match=r"as keywords: cdp\.send\(table, \*\*mapping\)"):
        cdp.send(FRAME, fields)
    assert counts(send(FRAME, box, None, **fields)) == {"delivered": 2}
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    OPENED.save(tmp_path / "m.toml")
    for path in (tmp_path / "rows.csv", str(tmp_path / "m.toml")):
        with pytest.raises(
            cdp.MappingError, match=r"call cdp\.send\(path\).*Mapping\.load\(path\)"
        ):
            FRAME.cdp.send(path)
    loaded = cdp.Mapping.load(tmp_path / "m.toml")
    assert counts(send(tmp_path / "rows.csv", box, loaded)) == {"delivered": 2}


def test_failures_that_lost_their_mapping(box: Sandbox, tmp_path: Path) -> None:
    """A colleague repairs them in a spreadsheet; the mapping comes from the saved report."""
    frame = opens(4, uid=["a", None, "b", None], number=["007", "008", "1.50", "x"])
    report = send(frame, box, OPENED)
    report.save(tmp_path / "report")
    report.failures.to_csv(tmp_path / "failures.csv", index=False)
    repaired = pd.read_csv(tmp_path / "failures.csv", dtype=str).assign(uid=["c", "d"])
    repaired.to_csv(tmp_path / "repaired.csv", index=False)
    mapping = cdp.Mapping.load(tmp_path / "report" / "mapping.toml")
    for table in (tmp_path / "repaired.csv", repaired):
        with pytest.raises(cdp.MappingError, match=r"cdp\.Mapping\.load\('report/mapping\.toml'\)"):
            cdp.send(table, destination=box.destination)
    again = send(tmp_path / "repaired.csv", box, mapping)
    assert counts(again) == {"delivered": 2}
    assert counts(report + again) == {"delivered": 4}
    assert not any("cdp_" in str(each) for each in box.events()["properties"])
    assert [each["number"] for each in box.events()["properties"]][-2:] == ["008", "x"]
    named: Any = {"user_id": "uid", "timestamp": "ts", "event": cdp.lit("Application Opened")}
    assert counts(send(repaired, box, None, **named)) == {"delivered": 2}
