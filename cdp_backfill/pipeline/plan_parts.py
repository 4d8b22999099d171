"""The parts that a plan is shown in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cdp_backfill.model import api_facts
from cdp_backfill.model.views import SAMPLE, Section

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_NAME_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or a constant, in a plan.

    Attributes:
        name: The column, or None for a constant.
        kind: Its type in words.
        filled: Share of the rows in which it is not empty, 0.0 to 1.0.
        sample: One of its cells, cut where it is long.
        fields: Paths in the message that it fills; empty where it is left out.
        verdict: Problems and fixes in this column, or its purpose.
    """

    name: str | None
    kind: str
    filled: float
    sample: str
    fields: tuple[str, ...]
    verdict: str


def people_lines(people: int, rows: dict[str, int], *, exact: bool) -> list[tuple[object, ...]]:
    """What the rows do to the people that they are about.

    Args:
        people: Number of people.
        rows: Rows by the names of :data:`cdp_backfill.pipeline.plan_statistics.IDENTITY`.
        exact: False where ``people`` is an estimate.
    """
    words = "people. At worst, none of them has a profile yet, and each becomes a new one"
    lines: list[tuple[object, ...]] = [(people, words if exact else f"(estimated) {words}")]
    days, id_bytes = api_facts.ANONYMOUS_DAYS, api_facts.PERSON_ID_BYTES
    longest = "bytes, the longest that is documented"
    meanings = {
        "anonymous": (
            f"rows have an anonymous id only; {rows['anonymous_old']:,} of them are older than "
            f"{days} days and join nobody, even if the person is identified later"
        ),
        "email_ids": "rows have a user id with an @, which is read as an e-mail address",
        "internal_ids": "rows have a user id cio_..., which is read as an internal id",
        "long_ids": f"rows have an id of more than {id_bytes} {longest}",
        "long_names": (
            f"rows have an event name of more than {api_facts.EVENT_NAME_BYTES} {longest}"
        ),
    }
    return lines + [(rows[name], text) for name, text in meanings.items() if rows[name]]


def by_rows(counts: dict[str, int], limit: int | None = None) -> list[tuple[object, ...]]:
    """Names with their rows, most rows first.

    Args:
        counts: Rows by name.
        limit: Names to list; the others count as one. None lists all.
    """
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    lines: list[tuple[object, ...]] = [(rows, _cut(name)) for name, rows in ordered[:limit]]
    if limit is not None and len(ordered) > limit:
        rest = sum(rows for _, rows in ordered[limit:])
        lines.append((rest, f"({len(ordered) - limit} more)"))
    return lines


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else name[: _MAX_NAME_LENGTH - 1] + "…"


def columns_section(columns: Sequence[Column]) -> Section:
    """The columns and what each becomes; without samples if the plan was saved without cells."""
    with_samples = any(column.sample for column in columns)
    header = ("column", "type", "filled", *([SAMPLE] if with_samples else []), "becomes")
    rows: list[tuple[object, ...]] = []
    for column in columns:
        fields = ", ".join(column.fields) or "-"
        becomes = f"{fields} ({column.verdict})" if column.verdict else fields
        cell = [column.sample or "-"] if with_samples else []
        rows.append((column.name or "-", column.kind, f"{column.filled:.0%}", *cell, becomes))
    return Section("Columns", header, rows)


def moment_text(moment: datetime | None) -> str:
    """A time in UTC as text."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "?"


def as_moment(millis: int) -> datetime:
    """Milliseconds since 1970 UTC as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
