"""One report of all parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdp_backfill.engines.folder_report import report_of_folder
from cdp_backfill.engines.part_source import PartSource
from cdp_backfill.errors import BadInputError
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.pipeline.leaving_out import described_text, left_out_notes
from cdp_backfill.pipeline.run_notes import run_notes
from cdp_backfill.results.part_reports import PartFailures, PartsRun, report_of_parts
from cdp_backfill.results.part_summary import PartSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdp_backfill.engines.partition_job import PartitionJob
    from cdp_backfill.results.reports import Report


def report(
    parts: Iterable[PartSummary | bytes] | str | Path,
    job: PartitionJob | None = None,
    *,
    failures: Any = None,
    seconds: float | None = None,
    uncounted: bool = False,
) -> Report:
    """Make one report of parts that workers sent with :func:`send_partition`.

    With the folder of a shared journal instead, report its last run. That needs no other argument,
    and works even if the driver died: rows that a dead worker had sent without an answer are
    ``unknown``, and rows that nobody recorded are not counted.

    Counts and figures add up. If a part comes more than once, its last summary counts, and all of
    its rows may have arrived twice.

    Args:
        parts: The summaries, or what their ``to_bytes()`` gave. Or the folder of a shared journal,
            a path or a URI.
        job: The job of the parts; None with a folder.
        failures: What the parts yielded, as one Arrow table; None if it is elsewhere.
        seconds: Seconds from begin to end; None for those of the slowest part.
        uncounted: True if the engine may have run parts of which nobody has a summary, for example
            because it runs slow parts a second time. Every row may have arrived twice then.

    Returns:
        The report. It raises no error for parts that stopped: see their ``error``.

    Raises:
        BadInputError: A summary is none, or the folder is no shared journal.

    >>> import pyarrow as pa
    >>> from cdp_backfill import Mapping, PartitionJob, lit, sandbox, send_partition
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> table = pa.table({"uid": ["ada", None], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> with sandbox() as box:
    ...     job = PartitionJob(mapping=mapping, destination=box.destination)
    ...     summaries, failures = [], []
    ...     for number, batch in enumerate(table.to_batches(max_chunksize=1)):
    ...         sending = send_partition([batch], job, part=str(number))
    ...         try:
    ...             while True:
    ...                 failures.append(next(sending))
    ...         except StopIteration as end:
    ...             summaries.append(end.value.to_bytes())
    >>> both = report(summaries, job, failures=pa.concat_tables(failures))
    >>> both.summary
    'Backfill: 1 of 2 rows not delivered.'
    """
    if isinstance(parts, str | Path):
        return report_of_folder(parts)
    if job is None:
        raise BadInputError("Pass the job of these parts too: cdp.report(summaries, job).")
    decoded = [as_summary(each) for each in parts]
    table = pa.table({}) if failures is None else failures
    run = PartsRun(
        schema=table.schema,
        url=job.destination.url,
        mapping=job.mapping,
        slots=job.slots,
        seconds=seconds,
        uncounted=uncounted,
        load=None if failures is None else lambda: [table],
        left_out=described_text(job.where, job.exclude),
    )
    return report_of_parts(decoded, run, notes=notes_of(decoded, job, Proposal(job.mapping)))


def as_summary(part: PartSummary | bytes) -> PartSummary:
    """A summary, read if it is bytes.

    Raises:
        BadInputError: It is neither.
    """
    if isinstance(part, PartSummary):
        return part
    if not isinstance(part, bytes | bytearray | memoryview):
        raise BadInputError(
            f"A part must be a PartSummary or its to_bytes(), not {type(part).__name__}."
        )
    return PartSummary.from_bytes(bytes(part))


def notes_of(
    parts: Sequence[PartSummary], job: PartitionJob, proposal: Proposal
) -> tuple[str, ...]:
    """The notes of a run over all parts."""
    skipped = PartFailures(parts, pa.schema([]), None).skipped()
    rows = sum(part.rows for part in parts)
    notes = run_notes(
        _nothing(),
        proposal,
        unread=0,
        naive=sum(part.naive for part in parts),
        event_keys={key for part in parts for key in part.event_keys},
        duplicates=0,
        left_out=left_out_notes(skipped, rows, job.where, job.exclude),
    )
    return (*notes, *rate_notes(job))


def rate_notes(job: PartitionJob) -> list[str]:
    """How the rate limit is divided among the parts."""
    rate = job.destination.rate_limit
    if rate is None or job.slots == 1:
        return []
    note = (
        f"{job.slots:,} parts ran at a time, each at up to {rate / job.slots:,.3g} of the "
        f"{rate:,g} requests/s of the rate limit. A part that is alone does not use the others' "
        "share: even parts are fastest."
    )
    return [note]


def _nothing() -> PartSource:
    """A table that was read to its end."""
    source = PartSource("the table", [pa.table({})])
    source.rows = 0
    return source
