"""Recognises a table of sums, such as installs per day, which holds no events of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_backfill.inference.column_names import rank
from cdp_backfill.inference.draft import listed

if TYPE_CHECKING:
    from cdp_backfill.inference.draft import Draft
    from cdp_backfill.inference.samples import SampleColumn

_COUNTED: Final = frozenset(
    [
        *(
            "installs",
            "installations",
            "reinstalls",
            "uninstalls",
            "downloads",
            "redownloads",
            "updates",
        ),
        *(
            "sessions",
            "opens",
            "launches",
            "crashes",
            "users",
            "visitors",
            "devices",
            "impressions",
        ),
        *(
            "clicks",
            "signups",
            "registrations",
            "purchases",
            "orders",
            "events",
            "views",
            "dau",
            "mau",
        ),
        *("wau", "units", "conversions", "deletions", "errors", "anrs", "activations", "visits"),
        *("customers", "subscribers", "players", "members", "count", "total"),
    ]
)
"""Words with which the names of sums end."""

_PERIODS: Final = frozenset(["date", "day", "week", "month", "period", "hour"])
_MAX_SHOWN: Final = 3


def daily_sums(draft: Draft) -> str | None:
    """What to say about a table of sums; None if it is none.

    Args:
        draft: The draft, in which no column is chosen for a person.
    """
    sums = [column.name for column in draft.sample if _is_sum(column)]
    period = next((column.name for column in draft.sample if _is_period(column)), None)
    if not sums or period is None or any(map(_has_moments, draft.sample)):
        return None
    shown = listed(sums[:_MAX_SHOWN])
    return (
        f"Numbers such as {shown} for each {period!r}: these are sums, with no person in them, and "
        "they cannot be sent as events. Export the single events, one row for each. If they are "
        "single events all the same, pass user_id='...' or anonymous_id='...'."
    )


def _is_sum(column: SampleColumn) -> bool:
    if not column.texts or column.words[-1] not in _COUNTED:
        return False
    return all(text.isdigit() for text in column.texts)


def _has_moments(column: SampleColumn) -> bool:
    """Whether a column holds times with a time of day, as single events do."""
    if rank(column.name, "timestamp") is None or column.day_only or column.times is None:
        return False
    times = column.times
    return not (times.missing | times.bad | times.unclear).all()


def _is_period(column: SampleColumn) -> bool:
    return bool(_PERIODS & set(column.words)) and bool(len(column.filled))
