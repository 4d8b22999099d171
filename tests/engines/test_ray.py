"""The recipe for Ray, as its page has it, on workers of Ray."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "other-engines.md"


@pytest.fixture
def cluster() -> Iterator[None]:
    """Two workers, which import this package."""
    settings = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env=settings, logging_level="ERROR")
    yield
    ray.shutdown()


def recipe(box: Sandbox, table: Path, journal: Path) -> dict[str, Any]:
    """Run the function of the page, and its recipe for Ray with another table and address."""
    text = PAGE.read_text("utf-8")
    function, *_, ray_data = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for place, instead in (
        ("s3://lake/opens/", str(table)),
        ("shared/ray-opens", str(journal)),
        ('cdp.Destination(region="eu")', "box.destination"),
    ):
        assert place in ray_data
        ray_data = ray_data.replace(place, instead)
    names: dict[str, Any] = {"mapping": OPENED, "box": box}
    exec(function + ray_data, names)  # noqa: S102  # the page
    return names


@pytest.mark.usefixtures("cluster")
def test_the_recipe_of_the_page(box: Sandbox, tmp_path: Path) -> None:
    """The messages of the same rows in pandas; and nothing more in a second run."""
    frame = opens(4_000, n=range(4_000))
    frame.loc[::10, "uid"] = None
    for part in range(4):
        rows = frame.iloc[part * 1_000 : (part + 1) * 1_000]
        table = pa.Table.from_pandas(rows, preserve_index=False)
        (tmp_path / "rows").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "rows" / f"{part}.parquet")
    report = recipe(box, tmp_path / "rows", tmp_path / "journal")["report"]
    with cdp.sandbox() as other:
        frame.cdp.send(OPENED, destination=other.destination, progress=False)
        columns = ["messageId", "userId", "event", "timestamp", "properties"]
        theirs, ours = (
            each.events().sort_values("messageId", ignore_index=True)[columns]
            for each in (other, box)
        )
    assert ours.equals(theirs)
    assert (report.counts["delivered"], report.counts["invalid"]) == (3_600, 400)
    assert sorted(report.failures["n"]) == list(range(0, 4_000, 10))
    assert recipe(box, tmp_path / "rows", tmp_path / "journal")["report"].requests == 0
