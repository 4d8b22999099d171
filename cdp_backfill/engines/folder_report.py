"""Reports what a shared journal says of its last run, even if the driver of that run is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from cdp_backfill.engines.attempt_files import SUMMARY, AttemptFiles, attempts_in, digests_in, load
from cdp_backfill.engines.folder_journal import read_about, runs_in
from cdp_backfill.engines.store import Store, as_passed, one_clear_error
from cdp_backfill.errors import BadInputError, JournalError
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.model.outcomes import OUTCOMES, Outcome
from cdp_backfill.model.plurals import count
from cdp_backfill.pipeline.known_digests import KnownDigests
from cdp_backfill.results.part_reports import PartsRun, report_of_parts
from cdp_backfill.results.part_summary import PartSummary
from cdp_backfill.results.run_stats import RunStats

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cdp_backfill.pipeline.known_digests import Entry
    from cdp_backfill.results.reports import Report

AT_ONCE: Final = 2**24
"""Digests that are in memory at a time, 200 MB and as much again while they are sorted."""


def report_of_folder(location: str | Path) -> Report:
    """Report the last run of a shared journal; see :func:`cdp_backfill.report`.

    Raises:
        JournalError: There is no journal, no run in it, or it cannot be read.
    """
    store = Store.at(location)
    about = read_about(store)
    if about is None:
        raise JournalError(f"There is no journal {store.location}. Check the path.")
    with one_clear_error(store.location):
        runs = runs_in(store)
        if not runs:
            raise JournalError(
                f"No run with the journal {store.location} has begun. Call send() again with it."
            )
        name = max(runs)
        record = runs[name]
        parts = _parts_of(store, name)
        summaries = [_summary(store, each) for each in parts.values()]
        unfinished = [each for each in parts.values() if not any(a.has_ended for a in each)]
        has_ended = "ended" in record
        twice = 0 if has_ended else _maybe_twice(store)
    run = PartsRun(
        schema=pa.schema([]),
        url=about["url"],
        mapping=Mapping.from_toml(about["mapping"]),
        slots=int(record.get("slots", 1)),
        frame_name="the rows that the engine returned, or send the table again with this journal",
        journal=as_passed(location),
        has_journal=True,
    )
    # Rows of parts that never began may be among them, so no part counts those.
    more = twice - sum(each.stats.maybe_twice for each in summaries)
    if more > 0:
        rest = PartSummary(
            part="rest", attempt="0", counts=_no_rows(), stats=RunStats(maybe_twice=more)
        )
        summaries.append(rest)
    return report_of_parts(summaries, run, notes=_notes(len(unfinished), has_ended=has_ended))


def parts_without(store: Store, run: str, known: Iterable[str]) -> list[PartSummary]:
    """What a run recorded of parts whose summaries did not come back.

    Args:
        store: The folder.
        run: Name of the run.
        known: Names of the parts whose summaries came back.

    Raises:
        OSError: The folder cannot be read.
        JournalError: It is damaged.
    """
    came = set(known)
    parts = _parts_of(store, run).values()
    return [_summary(store, each) for each in parts if each[0].part_name not in came]


def _parts_of(store: Store, run: str) -> dict[str, list[AttemptFiles]]:
    """The attempts of each part."""
    parts: dict[str, list[AttemptFiles]] = {}
    for attempt in attempts_in(store, run):
        parts.setdefault(attempt.part, []).append(attempt)
    return parts


def _notes(unfinished: int, *, has_ended: bool) -> list[str]:
    notes = []
    if not has_ended:
        notes.append(
            "The driver of this run did not end it, or still runs. Only the rows that its parts "
            "recorded are counted. To go on, send the table again with the same journal."
        )
    if unfinished:
        notes.append(
            f"{count(unfinished, 'part')} did not end. Only their rows that were delivered or may "
            "have arrived are counted."
        )
    return notes


def _summary(store: Store, attempts: list[AttemptFiles]) -> PartSummary:
    """What the last attempt of a part said at its end, or else what all of them recorded."""
    for attempt in reversed(attempts):
        content = store.read(f"{attempt.folder}/{SUMMARY}") if attempt.has_ended else None
        if content is not None:
            try:
                return PartSummary.from_bytes(content)
            except (BadInputError, pa.ArrowException):
                raise JournalError(
                    f"The journal {store.location} is damaged: {attempt.folder}/{SUMMARY} cannot "
                    "be read. Restore the folder."
                ) from None
    first = attempts[0]
    entries = load(store, lambda each: each.part == first.part, run=first.run)
    known = KnownDigests(entries)
    counts = _no_rows()
    counts[str(Outcome.DELIVERED)] = sum(len(d) for delivered, _, d in entries if delivered)
    doubted = [digests for delivered, _, digests in entries if not delivered and len(digests)]
    if doubted:
        distinct = np.unique(np.concatenate(doubted), axis=0)
        counts[str(Outcome.UNKNOWN)] = int(np.count_nonzero(~known.is_delivered(distinct)))
    stats = RunStats(maybe_twice=known.maybe_twice)
    return PartSummary(part=first.part_name, attempt="0", counts=counts, stats=stats)


def _maybe_twice(store: Store) -> int:
    """Messages that may have arrived twice in all runs; a share of the digests at a time."""
    shares = min(256, -(-digests_in(store) // AT_ONCE) or 1)
    twice = 0
    for share in range(shares):

        def of_share(entry: Entry, share: int = share) -> Entry:
            delivered, doubts, found = entry
            return delivered, doubts, found[found[:, -1] % shares == share]

        twice += KnownDigests(load(store, lambda _: True, of_share)).maybe_twice
    return twice


def _no_rows() -> dict[str, int]:
    return dict.fromkeys(map(str, OUTCOMES), 0)
