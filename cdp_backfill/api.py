"""The verbs: a table in, a plan or a report out."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pandas as pd
import xxhash

from cdp_backfill.errors import (
    BadInputError,
    DestinationError,
    JournalError,
    MappingError,
    SourceError,
)
from cdp_backfill.inference import presets
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.inference.propose import propose, translated, versions
from cdp_backfill.messages import text_columns
from cdp_backfill.model.destination import Destination, chosen, resolve
from cdp_backfill.model.mapping import (
    Duplicates,
    Field,
    Mapping,
    OtherEvents,
    Oversize,
    Rest,
    TimestampUnit,
    Tree,
)
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.journal import Journal, read_about
from cdp_backfill.pipeline.planner import plan_of, undecided
from cdp_backfill.pipeline.plans import Plan, refuse_open
from cdp_backfill.pipeline.prepared_source import DUPLICATE, SKIPPED, PreparedSource, in_words
from cdp_backfill.pipeline.runner import Run
from cdp_backfill.results.progress import Progress, make_progress
from cdp_backfill.results.reports import MAPPING_ATTRIBUTE, URL_ATTRIBUTE, Report
from cdp_backfill.sources import Source, open_source
from cdp_backfill.sources.fingerprint import current_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.pipeline.planner import SendFunction
    from cdp_backfill.pipeline.preparation import Recent

_MAPPING_FIELDS: Final = frozenset(item.name for item in fields(Mapping))


def plan(
    source: Any,
    mapping: Mapping | None = None,
    *,
    user_id: Field | None = None,
    anonymous_id: Field | None = None,
    event: Field | None = None,
    timestamp: Field | None = None,
    timestamp_unit: TimestampUnit | None = None,
    timezone: str | None = None,
    message_id: Field | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    rest: Rest | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    destination: Destination | None = None,
    recent: Recent = "raise",
    context_scope: ContextScope = "message",
    now: datetime | None = None,
) -> Plan:
    """Say what :func:`send` would do with every row of a table, without sending anything.

    What is not given of who, what and when is proposed by looking at the table; where that cannot
    be decided, the plan asks. Reads the whole table once, with bounded memory (and before that
    its first rows and the column of the event, if something is to be proposed). Needs no API key.

    Args:
        source: See :func:`send`, as for all arguments here. It must be a table that can be read
            more than once.

    Returns:
        The plan. It shows itself in a notebook and in ``print``, and :meth:`Plan.send` carries it
        out.

    Raises:
        BadInputError: The mapping does not fit the table, or the table cannot be read.

    >>> from cdp_backfill import lit
    >>> frame = pd.DataFrame({"uid": ["a", None], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> plan(frame, user_id="uid", timestamp="ts", event=lit("Application Opened")).counts
    {'to_send': 1, 'invalid': 1, 'held': 0, 'skipped': 0}
    """
    table = open_source(source)
    if not table.replayable:
        raise BadInputError(
            f"{table.title} can be read only once, and a plan would spend it. Send it, or give "
            f"what can be read again: {table.instead}."
        )
    proposal = _proposal(source, table, mapping, locals())
    given = chosen(destination)

    def send_function(fingerprint: tuple[Any, ...]) -> SendFunction:
        def send_it(
            progress: bool | Progress,
            journal: str | Path | bool | None,
            canary: int | None,
            elsewhere: Destination | None,
            processes: int,
        ) -> Report:
            where = elsewhere or destination
            options = _Options(
                where, progress, journal, canary, recent, context_scope, processes, now
            )
            return _sent(source, open_source(source), proposal, options, fingerprint=fingerprint)

        return send_it

    if not proposal.complete:
        return undecided(table, proposal, given, send_function(()))
    return plan_of(
        _prepared_source(table, proposal, recent, context_scope, now), given, send_function
    )


def send(
    source: Any,
    mapping: Mapping | None = None,
    *,
    user_id: Field | None = None,
    anonymous_id: Field | None = None,
    event: Field | None = None,
    timestamp: Field | None = None,
    timestamp_unit: TimestampUnit | None = None,
    timezone: str | None = None,
    message_id: Field | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    rest: Rest | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    destination: Destination | None = None,
    progress: bool | Progress = True,
    journal: str | Path | bool | None = None,
    canary: int | None = None,
    recent: Recent = "raise",
    context_scope: ContextScope = "message",
    processes: int = 1,
    now: datetime | None = None,
) -> Report:
    """Send every row of a table to the Pipelines API as a track event.

    Args:
        source: A DataFrame of pandas or polars; a LazyFrame; a table, reader or dataset of
            pyarrow; a relation of DuckDB; a table of ibis; anything else that offers an Arrow
            stream (``__arrow_c_stream__``); a cursor of ADBC or DB-API, or a result of BigQuery
            or Snowflake; or a path, a glob or a list of paths to parquet, CSV or JSON files.
        mapping: What goes where. The fields of :class:`Mapping` given as keywords replace its
            own; None for all of them, on a frame of failures, uses the mapping that it had. What
            is missing of who, what and when is proposed by looking at the table, as a plan shows;
            if that cannot be decided, nothing is sent.
        user_id: See :class:`Mapping`, as for all up to ``duplicates``.
        anonymous_id: See :class:`Mapping`.
        event: See :class:`Mapping`.
        timestamp: See :class:`Mapping`.
        timestamp_unit: See :class:`Mapping`.
        timezone: See :class:`Mapping`.
        message_id: See :class:`Mapping`.
        properties: See :class:`Mapping`.
        context: See :class:`Mapping`.
        integrations: See :class:`Mapping`.
        events: See :class:`Mapping`.
        other_events: See :class:`Mapping`.
        rest: See :class:`Mapping`.
        derive: See :class:`Mapping`.
        expand: See :class:`Mapping`.
        json: See :class:`Mapping`.
        nulls: See :class:`Mapping`.
        earliest: See :class:`Mapping`.
        oversize: See :class:`Mapping`.
        droppable: See :class:`Mapping`.
        duplicates: See :class:`Mapping`.
        preset: Name of a preset for a vendor's export, or the path of a copy of one; its mapping
            is the base for what is given as keywords. ``cdp-backfill presets`` lists them.
        destination: Where to; None for what ``configure()`` set, or else the US region.
        progress: Show how it is doing: True, False, or a display of one's own.
        journal: File that remembers what is delivered: the next run with it sends only the rest.
            A path, or True for a name made of source and address in the current folder, or
            False for none. None is True for files, unless they go to this machine (a
            rehearsal), and False for all other tables.
        canary: Send the first so many rows only, and say what to look for. Sending again without
            it, and with ``journal=report.journal``, goes on from there; a canary has a journal
            even where ``journal`` is None.
        recent: What becomes of rows younger than 72 hours, which can trigger campaigns:
            ``"raise"`` sends nothing if there are any (in a stream that can be read only once,
            nothing from the first of them on), ``"hold"`` leaves them out, ``"send"`` sends them.
        context_scope: ``"message"`` writes context and integrations into each message;
            ``"batch"`` writes them once a request, for rows that share them.
        processes: How many processes read, check and encode, for files: parquet files by row
            groups, CSV and JSON files whole. One process sends what they make, keeps the journal
            and reports. It is for machines of many cores, and gains little on two; rows go in no
            certain order.
        now: The time that "recent" is counted from; None for the current time.

    Returns:
        What became of every row. An interrupt (Ctrl-C, or the stop button of a notebook) also
        returns it, with the rest ``unsent``; a second one waits no longer for what is under way.

    Raises:
        BadInputError: Before anything is sent: the mapping does not fit, the table cannot be
            read, or there is no usable key.
        RecentRowsError: There are recent rows, and ``recent`` is ``"raise"``.
        StoppedError: The run ended early, such as for a wrong key; ``.report`` has the rest.

    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a", "b"], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> with sandbox() as box:
    ...     report = send(frame, mapping, destination=box.destination, progress=False)
    >>> report.counts["delivered"]
    2
    """
    table = open_source(source)
    proposal = _proposal(source, table, mapping, locals())
    refuse_open(proposal)
    options = _Options(
        destination, progress, journal, canary, recent, context_scope, processes, now
    )
    return _sent(source, table, proposal, options)


@dataclass(frozen=True, slots=True)
class _Options:
    """How to send; see :func:`send`."""

    destination: Destination | None
    progress: bool | Progress
    journal: str | Path | bool | None
    canary: int | None
    recent: Recent
    context_scope: ContextScope
    processes: int
    now: datetime | None


def _sent(
    source: Any,
    table: Source,
    proposal: Proposal,
    options: _Options,
    *,
    fingerprint: tuple[Any, ...] | None = None,
) -> Report:
    """Send a table; with the fingerprint of a plan, only if it is still the same."""
    recent, canary, wanted = options.recent, options.canary, proposal.mapping
    prepared_source = _prepared_source(table, proposal, recent, options.context_scope, options.now)
    if canary is not None and (not isinstance(canary, int) or canary < 1):
        raise BadInputError("canary must be a number of rows, from 1 on.")
    _check_processes(options, source, wanted)
    _check_address(source, options.destination)
    target = resolve(options.destination)
    path = _journal_path(options.journal, source, table, target, canary=canary is not None)
    if fingerprint is not None and current_fingerprint(prepared_source.source) != fingerprint:
        raise SourceError(
            f"{table.title} is not what it was when the plan was made. Nothing was sent: make the "
            "plan again."
            + ("" if table.ordered else " A query that differs each time needs a table first.")
        )
    if recent == "raise" and table.replayable:
        prepared_source.refuse_recent()

    def again(frame: pd.DataFrame) -> Report:
        once_more = replace(options, journal=path or False, canary=None, processes=1)
        return _sent(frame, open_source(frame), proposal, once_more)

    types = prepared_source.source.found_types
    read = {name: types[name] for name in prepared_source.binding.columns if name in types}
    opened = path and Journal(
        path, mapping=wanted, url=target.url, paths=_paths(source), types=read
    )
    shown = make_progress(options.progress)
    return Run(
        prepared_source,
        target,
        shown,
        journal=opened or None,
        canary=canary,
        processes=options.processes,
        send_again=again,
    ).report()


def _prepared_source(
    table: Source,
    proposal: Proposal,
    recent: Recent,
    context_scope: ContextScope,
    now: datetime | None,
) -> PreparedSource:
    text = text_columns(proposal.mapping, table.schema) | versions(table.schema.names)
    settled = table.settled(text)
    return PreparedSource(settled, proposal, recent=recent, context_scope=context_scope, now=now)


def resume(
    journal: str | Path,
    source: Any = None,
    *,
    destination: Destination | None = None,
    progress: bool | Progress = True,
    recent: Recent = "raise",
    context_scope: ContextScope = "message",
    processes: int = 1,
    now: datetime | None = None,
) -> Report:
    """Go on with a backfill from its journal: send what is not known to be delivered.

    Args:
        journal: The journal. The mapping is in it, and for files their paths.
        source: The table; None for the files that the journal knows.
        destination: Where to; it must lead to the address of the journal. None takes the key as
            :func:`send` does, and the address from the journal.
        progress: See :func:`send`.
        recent: See :func:`send`.
        context_scope: See :func:`send`.
        processes: See :func:`send`.
        now: See :func:`send`.

    Returns:
        What became of every row of the table; those delivered before count as delivered.

    Raises:
        JournalError: There is no such journal, or it knows no files and no table is given.
        BackfillError: As :func:`send` does.

    >>> from tempfile import TemporaryDirectory
    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a", "b"], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> with sandbox() as box, TemporaryDirectory() as folder:
    ...     path = Path(folder) / "opens.cdp-journal"
    ...     options = {"destination": box.destination, "progress": False}
    ...     canary = send(frame, mapping, canary=1, journal=path, **options)
    ...     report = resume(path, frame, **options)
    >>> report.delivered_before, report.counts["delivered"]
    (1, 2)
    """
    about = read_about(journal)
    if source is None:
        if about.paths is None:
            raise JournalError(
                f"The journal {journal} is of a table that was no file: give the table too."
            )
        source = about.paths
    if destination is None:
        base = chosen(None)
        destination = base if base.url == about.url else replace(base, base_url=about.url)
    options = _Options(destination, progress, journal, None, recent, context_scope, processes, now)
    return _sent(source, open_source(source), Proposal(about.mapping), options)


def _check_processes(options: _Options, source: Any, mapping: Mapping) -> None:
    processes = options.processes
    if not isinstance(processes, int) or processes < 1:
        raise BadInputError("processes must be a whole number from 1 on.")
    if processes > 1 and _paths(source) is None:
        raise BadInputError(
            "processes= is for files, which each process can read for itself. Leave it out, or "
            "write the table to a parquet file first."
        )
    if processes > 1 and (options.canary is not None or mapping.duplicates == "skip"):
        raise BadInputError(
            "With processes=, the rows are not sent in their order, which canary= and "
            "duplicates='skip' need. Leave one of them out."
        )


def _check_address(source: Any, destination: Destination | None) -> None:
    """Refuse to send rows of a rehearsal to an account because nobody said where to."""
    before = source.attrs.get(URL_ATTRIBUTE) if isinstance(source, pd.DataFrame) else None
    now = chosen(destination).url
    if destination is None and before not in (None, now):
        raise DestinationError(
            f"These rows were sent to {before} before, and would go to {now} now. Give the "
            "destination, as in .cdp.send(destination=...), or configure() it."
        )


def _paths(source: Any) -> list[str] | None:
    """Absolute paths of a source of files, or None."""
    if isinstance(source, str | Path):
        source = [source]
    if not isinstance(source, list | tuple):
        return None
    return [
        str(path) if "://" in str(path) else str(Path(path).expanduser().absolute())
        for path in source
    ]


def _journal_path(
    journal: str | Path | bool | None,
    source: Any,
    table: Source,
    target: Destination,
    *,
    canary: bool,
) -> Path | None:
    """Where the journal is, or None for none."""
    if isinstance(journal, str | Path):
        return Path(journal)
    if journal is None:
        journal = canary or (_paths(source) is not None and not target.is_local)
    if not journal:
        return None
    paths = _paths(source)
    words = "table" if paths is None else Path(table.name).stem
    # Files of one name in two folders are two backfills.
    place = "" if paths is None else "-" + xxhash.xxh3_64_hexdigest("\n".join(paths).encode())[:6]
    words = f"{words}{place}-{urlsplit(target.url).netloc}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-")
    return Path(f"{name}.cdp-journal")


def messages(
    source: Any,
    n: int = 3,
    mapping: Mapping | None = None,
    *,
    user_id: Field | None = None,
    anonymous_id: Field | None = None,
    event: Field | None = None,
    timestamp: Field | None = None,
    timestamp_unit: TimestampUnit | None = None,
    timezone: str | None = None,
    message_id: Field | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    rest: Rest | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    context_scope: ContextScope = "message",
) -> list[dict[str, Any]]:
    """The payloads of the first ``n`` rows, exactly as they would be sent.

    Args:
        source: See :func:`cdp_backfill.send`, as for all arguments but ``n``.
        n: Number of rows.

    Returns:
        One dict a row, with the message, or with ``cdp_outcome``, ``cdp_code`` and ``cdp_reason``
        of a row that would not be sent.

    Raises:
        BadInputError: The mapping does not fit the table.
    """
    table = open_source(source)
    proposal = _proposal(source, table, mapping, locals())
    refuse_open(proposal)
    prepared_source = _prepared_source(table, proposal, "send", context_scope, None)
    result: list[dict[str, Any]] = []
    for _, prepared in prepared_source.prepared(prepared_source.binding.columns, rows=n):
        rows: dict[int, dict[str, Any]] = {}
        for row in prepared.skipped:
            rows[row] = _told(Outcome.SKIPPED, "skipped", SKIPPED)
        for row in prepared.duplicates:
            rows[row] = _told(Outcome.SKIPPED, "duplicate", DUPLICATE)
        for bad, problems in prepared.messages.problems.groups():
            told = _told(Outcome.INVALID, problems[0].code, in_words(problems))
            rows.update(dict.fromkeys(prepared.messages.rows[bad], told))
        for encoded, numbers in prepared.encoded:
            top = loads(b"{" + encoded.head.rstrip(b",") + b"}")
            for number, row in enumerate(numbers):
                rows[row] = top | loads(encoded.message(number))
        result.extend(rows[row] for row in sorted(rows))
    return result


def _told(outcome: Outcome, code: str, reason: str) -> dict[str, Any]:
    return {"cdp_outcome": str(outcome), "cdp_code": code, "cdp_reason": reason}


def _proposal(
    source: Any, table: Source, mapping: Mapping | None, arguments: dict[str, Any]
) -> Proposal:
    """The mapping of a call: what is given, and for what is missing what the table suggests."""
    if mapping is not None and not isinstance(mapping, Mapping):
        raise MappingError(
            f"A mapping must be a Mapping, such as cdp.Mapping(user_id='...'), or be given as "
            f"keywords; this is a {type(mapping).__name__}."
        )
    given = {
        name: value
        for name, value in arguments.items()
        if name in _MAPPING_FIELDS and value is not None
    }
    preset = arguments["preset"]
    if preset is not None:
        if mapping is not None:
            raise MappingError("Give a mapping or a preset, not both.")
        return presets.load(preset).proposal(list(table.schema.names), given, "given")
    if mapping is None and isinstance(source, pd.DataFrame):
        text = source.attrs.get(MAPPING_ATTRIBUTE)  # of failures; what is given replaces parts
        mapping = Mapping.from_toml(text) if isinstance(text, str) else None
    wanted = replace(mapping or Mapping(), **given)
    if not table.replayable or (wanted.complete and mapping is not None):
        return Proposal(wanted)
    if wanted.complete:
        return translated(table, wanted, given)
    return propose(table, wanted, given, arguments.get("now"))
