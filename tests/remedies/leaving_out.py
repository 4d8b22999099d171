"""What errors about ``where=`` and ``exclude=`` propose to type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cdp_backfill as cdp
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from collections.abc import Callable


def journal(desk: Any, **left_out: Any) -> Path:
    """The journal of a run that left something out."""
    path: Path = desk.folder / "left.journal"
    if not path.exists():
        desk.send(opens(2, country="DE"), OPENED, journal=path, **left_out)
    return path


def again(desk: Any, **left_out: Any) -> Callable[..., cdp.Report]:
    """Sends the rows of such a run once more with its journal."""
    path = journal(desk, **left_out)
    return lambda **more: desk.send(opens(2, country="DE"), OPENED, journal=path, **more)


def saved_plan() -> str:
    """The file of a plan that leaves out ids in memory."""
    cdp.plan(opens(2), OPENED, exclude=["u1"]).save("left.json")
    return "left.json"


def failures(desk: Any) -> Any:
    """Failures of a run that left out ids in memory."""
    return desk.send(opens(2, uid=[None, "u1"]), OPENED, exclude=["u1"]).failures.assign(uid="u2")


def with_file_of_ids() -> cdp.Plan:
    """A plan with a file in the current folder that has one id a line."""
    Path("deleted.csv").write_text("u1\n")
    return cdp.plan(opens(2), OPENED, exclude="deleted.csv")


LEFT_OUT_CASES: Final[list[tuple[tuple[str, ...], Callable[[Any], Any], Callable[[Any], Any]]]] = [
    (
        ("where=",),
        lambda _: cdp.plan(opens(2, country="DE"), OPENED, where="country"),
        lambda _: cdp.plan(opens(2, country="DE"), OPENED, where="country = 'DE'"),
    ),
    (
        ("where='true'",),
        lambda desk: again(desk, where="country = 'DE'")(),
        lambda desk: again(desk, where="country = 'DE'")(where="true"),
    ),
    (
        ("exclude=", "exclude=[]"),
        lambda desk: again(desk, exclude=["u1"])(),
        lambda desk: [again(desk, exclude=["u1"])(exclude=ids) for ids in (["u1"], [])],
    ),
    (
        ("exclude=[]",),
        lambda desk: cdp.resume(
            journal(desk, exclude=["u1"]), opens(2, country="DE"), **desk.options
        ),
        lambda desk: cdp.resume(
            journal(desk, exclude=["u1"]),
            opens(2, country="DE"),
            exclude=[],
            recent="send",
            **desk.options,
        ),
    ),
    (
        ("exclude=[]",),
        lambda desk: failures(desk).cdp.send(**desk.options),
        lambda desk: [failures(desk).cdp.send(exclude=ids, **desk.options) for ids in ([], ["u1"])],
    ),
    (
        ("exclude=['...']",),
        lambda _: cdp.plan(opens(2), OPENED, exclude="u1"),
        lambda _: cdp.plan(opens(2), OPENED, exclude=["u1"]),
    ),
    (
        ("exclude='deleted.csv'",),
        lambda _: cdp.plan(opens(2), OPENED, exclude=17),
        lambda _: with_file_of_ids(),
    ),
    (
        ("Plan.load(path, exclude=ids)",),
        lambda _: cdp.Plan.load(saved_plan(), opens(2)),
        lambda _: cdp.Plan.load(saved_plan(), opens(2), exclude=["u1"]),
    ),
]
