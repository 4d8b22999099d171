"""Tries random tables and files for some minutes of processor time: ``python -m tests.fuzz 10``.

Each kind of fault is shown once. At the end, it says what was tried.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.fuzz import test_bytes, test_tables
from tests.fuzz.columns import KINDS
from tests.fuzz.runs import FIGURES, Figures, desk

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = 50
"""Tables in a turn."""


def turns(server: Any) -> list[Callable[[int], None]]:
    """What is tried, each with a number that decides about chance."""
    tests: list[tuple[Any, dict[str, Any]]] = [
        (test_tables.test_each_message_is_its_row, {}),
        (test_tables.test_any_table_with_any_mapping, {}),
        *((test_bytes.test_changed_bytes, {"name": name}) for name in test_bytes.FILES),
    ]

    def turn(test: Any, given: dict[str, Any]) -> Callable[[int], None]:
        inner = test.hypothesis.inner_test
        strategies = test_tables.STRATEGIES.get(inner.__name__, {"data": st.data()})
        chosen = settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=[*HealthCheck],
            phases=[Phase.generate],
        )

        def run(seed: int) -> None:
            @hypothesis.seed(seed)
            @chosen
            @hypothesis.given(**strategies)
            def once(**values: Any) -> None:
                inner(server=server, **given, **values)

            once()

        return run

    return [turn(test, given) for test, given in tests]


def main(minutes: float, seed: int = 0) -> int:
    """Try for some minutes; the result is the number of different faults."""
    faults: dict[str, str] = {}
    started = time.process_time()
    with desk() as server:
        chosen = turns(server)
        while time.process_time() - started < minutes * 60:
            for turn in chosen:
                seed += 1
                try:
                    turn(seed)
                except Exception as error:  # noqa: BLE001  # each is a fault
                    lines = traceback.format_exception(error)
                    ours = [line for line in lines if "cdp_backfill" in line or "fuzz/" in line]
                    where = f"{type(error).__name__} {ours[-1].splitlines()[0]}"
                    if where not in faults:
                        faults[where] = "".join(lines)
                        notes = "\n".join(getattr(error, "__notes__", ()))
                        say(f"FAULT with seed {seed}: {faults[where]}\n{notes}")
    show()
    say(f"{len(faults)} kinds of faults")
    return len(faults)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show() -> None:
    """Print the figures."""
    types: Figures = Figures()
    for name, figures in FIGURES.items():
        say(
            f"{name}: {figures.tables:,} tables, {figures.rows:,} rows, {figures.cells:,} cells; "
            f"rows delivered of {figures.delivered:,} tables; {figures.refused:,} refused "
            f"{dict(figures.errors)}"
        )
        types.types += figures.types
    for name in sorted({kind.name for kind in KINDS} | types.types.keys()):
        say(f"{types.types[name]:>8,}  {name}")


if __name__ == "__main__":
    hypothesis.settings.load_profile("default")
    sys.exit(main(float(sys.argv[1]), *map(int, sys.argv[2:3])))
