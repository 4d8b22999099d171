"""Plans and sends random tables, and holds both against each other."""

from __future__ import annotations

import json
import logging
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import cdp_backfill as cdp
from tests.fuzz.columns import MARKER
from tests.servers import ReceivedRequest, Reply, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Figures:
    """What was tried.

    Attributes:
        tables: Tables that were planned.
        rows: Their rows.
        cells: Their cells.
        delivered: Tables of which a row was delivered.
        refused: Tables that were refused with an error of this project.
        types: Columns of each type.
        errors: Errors by class.
    """

    tables: int = 0
    rows: int = 0
    cells: int = 0
    delivered: int = 0
    refused: int = 0
    types: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


FIGURES: Final[dict[str, Figures]] = {}
"""Figures by test."""


class Logs(logging.Handler):
    """Keeps all records of the package as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(self.format(record))


@contextmanager
def desk() -> Iterator[Server]:
    """A server that takes everything, and the logs of the package."""
    logger, logs = logging.getLogger("cdp_backfill"), Logs()
    level = logger.level
    logger.addHandler(logs)
    logger.setLevel(logging.DEBUG)

    def answer(_: int, __: ReceivedRequest) -> Reply:
        return Reply()

    try:
        with serving(answer) as server:
            yield server
        assert MARKER not in "".join(logs.lines), "a log shows a cell"
    finally:
        logger.removeHandler(logs)
        logger.setLevel(level)


def messages_of(server: Server) -> list[dict[str, Any]]:
    """The messages that arrived, with decimals for broken numbers; they are forgotten then."""
    found = []
    for request in server.requests:
        found += json.loads(request.body, parse_float=Decimal, object_pairs_hook=unique)["batch"]
    server.requests.clear()
    return found


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no name occurs twice."""
    assert len(dict(pairs)) == len(pairs), "an object has the same name twice"
    return dict(pairs)


def planned_and_sent(
    server: Server, open_table: Any, figures: Figures, *, named: bool = False, **options: Any
) -> list[dict[str, Any]] | None:
    """Plan and send a table; the messages, or None if it was refused with a proper error.

    Args:
        server: Where to send.
        open_table: Returns the table; called for each reading.
        figures: What was tried.
        named: Whether cells may stand in the header, as names of columns.
        **options: Arguments of the mapping.
    """
    figures.tables += 1
    server.requests.clear()
    how: dict[str, Any] = {"destination": server.destination(), **options}
    try:
        plan = cdp.plan(open_table(), **how)
        report = cdp.send(open_table(), **how, progress=False, journal=False, recent="send")
    except cdp.AccountingError:
        raise
    except cdp.BackfillError as error:
        shown = "".join(traceback.format_exception(error))
        names = named and "The table has" in shown
        assert MARKER not in shown or names, f"an error shows a cell: {shown}"
        figures.refused += 1
        figures.errors[type(error).__name__] += 1
        return None
    figures.rows += plan.rows
    found = messages_of(server)
    counts = {name: rows for name, rows in report.counts.items() if rows}
    assert report.counts["delivered"] == plan.counts["to_send"] == len(found), (counts, plan.counts)
    assert report.counts["invalid"] == plan.counts["invalid"], (counts, plan.counts)
    assert report.counts["skipped"] == plan.counts["skipped"]
    assert sum(report.counts.values()) == plan.rows
    reasons = f"{report.by_reason().drop(columns='fix')}{report!r}{report}"
    assert MARKER not in reasons, "a report shows a cell"
    if report.counts["invalid"]:
        _ = report.failures
    figures.delivered += bool(found)
    return found
