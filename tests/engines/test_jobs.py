"""The driver's side of every engine, on one that runs the parts in this process."""

from __future__ import annotations

import io
import pickle
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.engines.engine import MappedParts
from cdp_backfill.engines.jobs import EngineJob
from cdp_backfill.engines.work import packed
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.model.distinct import DistinctCounter, hashes
from cdp_backfill.pipeline.job import SendOptions
from cdp_backfill.results.progress import LogDisplay, TerminalDisplay, TqdmDisplay
from cdp_backfill.results.progress.notebook import text_view
from cdp_backfill.results.progress.pace import Pace
from cdp_backfill.sources import open_source
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from pathlib import Path

    from cdp_backfill.local_sandbox import Sandbox

NOW = datetime(2023, 5, 4, 10, 2, tzinfo=UTC)
BY_PACKING = (
    "requests",
    "body_bytes",
    "fill",
    "wire_bytes",
    "seconds_at_rate_limit",
    "expected_seconds",
)


class InTurn:
    """An engine that runs one part after the other, each as a worker would."""

    name = "InTurn"
    failures_name = "report.failures"
    shares_files = True

    def __init__(self, parts: list[Any], slots: int | None = None) -> None:
        self.parts, self.slots = parts, slots
        self.source = open_source(pa.concat_tables(parts))
        self.runs: list[Any] = []

    def check(self, destination: cdp.Destination) -> None:
        """There is nothing to check."""

    def map_parts(
        self, work: Any, columns: list[str], *, with_failures: bool = False, on_tasks: Any = None
    ) -> MappedParts:
        """Run each part."""
        self.runs.append(work)
        failures, summaries = [], []
        for number, part in enumerate(self.parts):
            copy = pickle.loads(pickle.dumps(work))  # noqa: S301
            working = copy(iter(part.select(columns).to_batches()), f"{number:06}", "0")
            while True:
                try:
                    failures.append(next(working))
                except StopIteration as end:
                    summaries.append(end.value)
                    break
            if on_tasks is not None:
                on_tasks(number + 1, len(self.parts))
        return MappedParts(
            summaries=summaries[::-1], load=lambda: failures if with_failures else []
        )


def job_on(engine: InTurn, mapping: cdp.Mapping = OPENED, **options: Any) -> EngineJob:
    """A job on an engine."""
    chosen: dict[str, Any] = {"now": NOW, "progress": False} | options
    return EngineJob(
        engine=engine,
        source=engine.source,
        proposal=Proposal(mapping),
        options=SendOptions(**chosen),
    )


def cut(table: Any, places: list[int]) -> list[Any]:
    """A table in parts that end at these places."""
    ends = [*sorted(places), len(table)]
    return [table.slice(a, b - a) for a, b in zip([0, *ends], ends, strict=False)]


def of_many_kinds() -> Any:
    """Rows with every kind of result: sent, invalid, skipped, recent, of unknown events, fixed."""
    frame = opens(240, n=range(240), word=" x ")
    frame.loc[::7, "uid"] = None
    frame.loc[::11, "uid"] = "grace@example.com"
    frame["name"] = ["Application Opened", "Application Installed", "other"] * 80
    frame["text"] = frame.ts.dt.strftime("%Y-%m-%d %H:%M:%S")
    frame.loc[5, "text"] = "never"
    return pa.Table.from_pandas(frame, preserve_index=False)


@settings(max_examples=8)
@given(places=st.lists(st.integers(0, 240), max_size=5), recent=st.sampled_from(["raise", "hold"]))
def test_a_plan_of_parts_is_that_of_the_table(places: list[int], recent: Any) -> None:
    """Wherever it is cut, even into empty parts: every field but those of the requests."""
    table = of_many_kinds()
    mapping = cdp.Mapping(
        user_id="uid", event="name", timestamp="text", other_events="skip", timezone="UTC"
    )
    options: dict[str, Any] = {"now": NOW, "recent": recent, "where": "n <> 3", "exclude": ["u8"]}
    expected = cdp.plan(table, mapping, **options).to_dict()
    options["exclude"] = cdp.PartitionJob(mapping=mapping, exclude=["u8"]).exclude
    plan = job_on(InTurn(cut(table, places)), mapping, **options).plan().to_dict()
    assert expected["recent"] > 0
    assert {name: plan[name] for name in plan if name not in BY_PACKING} == {
        name: expected[name] for name in expected if name not in BY_PACKING
    }


@given(
    texts=st.lists(st.text("abc", max_size=3), max_size=60),
    at=st.integers(0, 60),
    limit=st.sampled_from([4, 1_000]),
)
def test_counters_of_parts_are_those_of_the_whole(texts: list[str], at: int, limit: int) -> None:
    """Two counters merged count what one counts, exactly or as an estimate."""
    whole, one, other = (DistinctCounter(limit) for _ in range(3))
    for counter, part in ((whole, texts), (one, texts[:at]), (other, texts[at:])):
        counter.add(hashes(pa.array(part, pa.string())))
    one.merge(other)
    assert (one.different, one.repeated, one.exact) == (
        whole.different,
        whole.repeated,
        whole.exact,
    )


def test_the_guard_sees_all_parts(box: Sandbox) -> None:
    """A recent row in the last part refuses all; the number of parts divides the rate limit."""
    table = pa.Table.from_pandas(opens(240, n=range(240)), preserve_index=False)
    engine = InTurn(cut(table, [100, 200]))
    with pytest.raises(cdp.RecentRowsError, match="120 rows of 120 people"):
        job_on(engine, destination=box.destination).send()
    assert not len(box.requests())
    early = datetime(2024, 1, 1, tzinfo=UTC)
    report = job_on(engine, destination=box.destination, now=early).send()
    assert report.counts["delivered"] == 240
    assert [type(work).__name__ for work in engine.runs] == ["GuardPart", "GuardPart", "SendPart"]
    assert engine.runs[-1].job.slots == 3
    known = InTurn(cut(table, [50]), slots=7)
    held = job_on(known, destination=box.destination, recent="hold")
    assert held.send().counts["held"] == 120
    assert [work.job.slots for work in known.runs] == [7]


def test_the_file_of_a_plan(box: Sandbox, tmp_path: Path) -> None:
    """A page for people can be saved; not a file that would be sent from this machine."""
    plan = job_on(InTurn([of_many_kinds()]), destination=box.destination).plan()
    plan.save(tmp_path / "plan.html")
    assert (tmp_path / "plan.html").exists()
    with pytest.raises(cdp.BadInputError, match="cannot be loaded again"):
        plan.save(tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()


def test_a_worker_of_another_version(box: Sandbox) -> None:
    """What it packs is not taken for counts."""

    class Foreign(InTurn):
        def map_parts(self, *_: Any, **__: Any) -> MappedParts:
            """Something else."""
            return MappedParts(summaries=[packed("something else")])  # type: ignore[arg-type]

    with pytest.raises(cdp.BadInputError, match="another version"):
        job_on(Foreign([of_many_kinds()]), destination=box.destination).plan()


def test_places_of_keys(tmp_path: Path) -> None:
    """A file or a function gives the key; errors name the place, and never the key."""
    path = tmp_path / "key"
    path.write_text(" key-from-a-file\n")
    assert cdp.Destination(key_from=path).with_key().api_key == "key-from-a-file"
    assert cdp.Destination(key_from=lambda: "a-key").with_key().api_key == "a-key"
    assert cdp.Destination(api_key="first", key_from=path).with_key().api_key == "first"

    def failing() -> str:
        raise RuntimeError("not-to-be-shown")

    for place, words in (
        (tmp_path / "none", "cannot be read"),
        (failing, "RuntimeError"),
        (lambda: None, "NoneType"),
        (lambda: "", "empty"),
    ):
        with pytest.raises(cdp.ApiKeyError, match=words) as refused:
            cdp.Destination(key_from=place).with_key()  # type: ignore[arg-type]
        assert "not-to-be-shown" not in str(refused.value)
        assert refused.value.__context__ is None
    with pytest.raises(cdp.DestinationError, match="key_from must be"):
        cdp.Destination(key_from=3)  # type: ignore[arg-type]


def test_a_rerun_leaves_out_what_the_last_run_did(box: Sandbox, tmp_path: Path) -> None:
    """A missing where= or exclude= is refused; another one is noted, and the last run counts."""
    engine, place = InTurn(cut(of_many_kinds(), [100])), tmp_path / "journal"
    mapping = cdp.Mapping(user_id="uid", event=cdp.lit("Application Opened"), timestamp="ts")

    def send(where: str | None, exclude: list[str] | None) -> cdp.Report:
        job = cdp.PartitionJob(mapping=mapping, exclude=exclude)
        options: dict[str, Any] = {"where": where, "exclude": job.exclude, "recent": "send"}
        return job_on(engine, mapping, destination=box.destination, journal=place, **options).send()

    assert "differ" not in " ".join(send("n < 100", ["u8", "u9"]).notes)
    sent = len(box.events())
    for where, exclude, text in (
        (None, ["u8", "u9"], "chose rows with where=, and this call does not. Pass where= again"),
        ("n < 100", None, "left out 2 ids with exclude=, and this call leaves out none"),
    ):
        with pytest.raises(cdp.JournalError, match=text):
            send(where, exclude)
        job = cdp.PartitionJob(
            mapping=mapping, destination=box.destination, where=where, exclude=exclude
        )
        with pytest.raises(cdp.JournalError, match=text):
            job.journal(place)
    assert send("n < 100", ["u9", "u8"]).requests == 0
    assert len(box.events()) == sent
    notes = " ".join(send("true", []).notes)
    assert "where= differs" in notes
    assert "there were 2 ids, now 0" in notes
    assert send("true", []).requests == 0
    assert len(box.events()) > sent
    with pytest.raises(cdp.JournalError, match=r"chose rows with where="):
        send(None, [])


def test_progress_of_tasks(box: Sandbox) -> None:
    """Each part that ends is shown, then the rows; every display has words for it."""
    shown: list[Any] = []

    class Display:
        def update(self, snapshot: cdp.Snapshot) -> None:
            shown.append(snapshot)

        def close(self) -> None:
            shown.append("closed")

    table = pa.Table.from_pandas(opens(240, n=range(240)), preserve_index=False)
    engine = InTurn(cut(table, [100, 200]))
    job_on(engine, destination=box.destination, recent="send", progress=Display()).send()
    *tasks, last, closed = shown
    assert [(each.tasks, each.share) for each in tasks] == [
        ((1, 3), 1 / 3),
        ((2, 3), 2 / 3),
        ((3, 3), 1.0),
    ]
    assert (last.tasks, last.rows, last.counts["delivered"]) == (None, 240, 240)
    assert last.state.ended
    assert closed == "closed"
    for make, words in (
        (LogDisplay, "Backfill: 2 of 3 tasks (66%), after "),
        (partial(TerminalDisplay, columns=80), "2 of 3 tasks"),
        (lambda file: TqdmDisplay(options={"file": file}), "2.00/3.00"),
    ):
        file = io.StringIO()
        display = make(file)
        display.update(tasks[1])
        display.close()
        assert words in file.getvalue()
    pace = Pace()
    pace.add(tasks[1])
    assert "66%, 2 of 3 tasks" in text_view(pace)
