"""Sends identities, and the events after their answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cdp_backfill.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.pipeline.runner import Run
    from cdp_backfill.results.reports import Report


def send_in_turn(begin_identities: Callable[[], Run], begin_events: Callable[[], Run]) -> Report:
    """Run both, the events once every identity has an answer: the API keeps no order.

    Args:
        begin_identities: Makes the run of the identities.
        begin_events: Makes the run of the events. It is called in any case, so that each event has
            an outcome and its journal is released.

    Returns:
        The report of the events, with that of the identities.

    Raises:
        StoppedError: One of them stopped early. If the identities did, no event was sent.
    """
    first, interrupted = begin_identities(), False
    try:
        identities = first.report()
    except KeyboardInterrupt:
        if first.result is None:
            begin_events().report_unsent(interrupted=True)
            raise
        identities, interrupted = first.result, True
    except BaseException as error:
        report = begin_events().report_unsent(interrupted=False)
        if isinstance(error, StoppedError):
            error.report = replace(report, identities=error.report)
        raise
    interrupted = interrupted or identities.interrupted
    try:
        events = begin_events()
    except KeyboardInterrupt:
        events, interrupted = begin_events(), True
    if interrupted:
        return replace(events.report_unsent(interrupted=True), identities=identities)
    try:
        return replace(events.report(), identities=identities)
    except StoppedError as error:
        error.report = replace(error.report, identities=identities)
        raise
