"""Finds a column of time zones or UTC offsets beside times that carry none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from cdp_backfill.inference.known_values import is_zone
from cdp_backfill.messages.expressions import quote

if TYPE_CHECKING:
    from cdp_backfill.inference.samples import Sample, SampleColumn

_OFFSET: Final = re.compile(r"[+-](0\d|1[0-4])(:?[0-5]\d)?")
_UTC: Final = frozenset(["UTC", "GMT", "Etc/UTC", "Etc/GMT"])
_NAMES: Final = frozenset(["timezone", "tz", "zone", "utc", "gmt", "offset"])
_SERVER: Final = frozenset(["received", "server", "collector", "ingested", "processed"])
_QUARTER: Final = 900_000
"""Milliseconds; no two zones are less apart."""

_HOURS: Final = 14
"""The zone farthest from UTC is 14 hours ahead."""


def zones_beside(sample: Sample, time: SampleColumn, moment: str) -> tuple[str, list[str]] | None:
    """A question about times that carry no zone beside a column of zones, with its answers.

    Args:
        sample: The first rows.
        time: The column of the times.
        moment: SQL that is a time as a TIMESTAMP.

    Returns:
        The question and its answers; None if nothing shows that the times may be local ones.
    """
    times = time.times
    if times is None or not times.naive.any() or {"utc", "gmt"} & set(time.words):
        return None
    if any(_is_server_clock(column, time) for column in sample):
        return None
    for column in sample:
        if column.name == time.name:
            continue
        other = quote(column.name)
        if _is_zones(column):
            what, expression = "time zones", f"{moment} AT TIME ZONE {other}"
        elif _is_offsets(column):
            what, expression = "UTC offsets", f"({moment}::VARCHAR || {other})::TIMESTAMPTZ"
        elif (unit := _unit_of_offsets(column)) is not None:
            what = f"UTC offsets in {unit}"
            expression = f"timezone('UTC', {moment} - to_{unit}({other}::INT))"
        else:
            continue
        text = (
            f"The times in {time.name!r} carry no zone, but {column.name!r} holds {what}, so they "
            "may be local times."
        )
        local = f"timestamp='moment', derive={{'moment': {expression!r}}} if they are local"
        return text, ["timezone='UTC' if they are in UTC", local]
    return None


def _is_server_clock(column: SampleColumn, time: SampleColumn) -> bool:
    """Whether a column of times is of a server, and the times run with its clock.

    A server has one clock, whatever the zone of each device, so such times are not local.
    """
    if not _SERVER & set(column.words) or column.times is None or not column.has_no_zone:
        return False
    pairs = zip(time.moments, column.moments, strict=True)
    apart = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return bool(apart) and max(apart) < _QUARTER


def _is_zones(column: SampleColumn) -> bool:
    return bool(column.texts) and all(map(is_zone, column.texts)) and not {*column.texts} <= _UTC


def _is_offsets(column: SampleColumn) -> bool:
    texts = column.texts if column.is_text and _NAMES & set(column.words) else []
    zero = {"+00", "-00", "+0000", "-0000", "+00:00", "-00:00"}
    return bool(texts) and all(map(_OFFSET.fullmatch, texts)) and not zero >= {*texts}


def _unit_of_offsets(column: SampleColumn) -> str | None:
    """The unit of numbers that are offsets by their name, which their size gives."""
    words = set(column.words)
    if not column.is_number or "offset" not in words or not (_NAMES - {"offset"}) & words:
        return None
    numbers = np.array([float(text) for text in column.texts])
    largest = np.abs(numbers).max(initial=0)
    for unit, hour in (("hours", 1), ("minutes", 60), ("seconds", 3600)):
        if 0 < largest <= _HOURS * hour:
            return unit if (numbers == np.floor(numbers)).all() else None
    return None
