"""The verbs: plan, send, resume and messages. A table goes in, a plan or a report comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdp_backfill.engines.choosing import job_on, open_table, plan_of
from cdp_backfill.errors import BadInputError, JournalError, MappingError
from cdp_backfill.inference import presets
from cdp_backfill.inference.members import check_members
from cdp_backfill.inference.new_names import with_new_names
from cdp_backfill.inference.order_questions import with_date_order
from cdp_backfill.inference.preset_proposals import propose_preset
from cdp_backfill.inference.proposal import Proposal
from cdp_backfill.inference.propose import (
    check_columns,
    check_index,
    leave_out_personal_data,
    propose,
)
from cdp_backfill.model.destination import Destination, choose_destination
from cdp_backfill.model.keyword_checks import checked_keywords
from cdp_backfill.model.mapping import (
    AmbiguousTime,
    DateOrder,
    Duplicates,
    Field,
    Key,
    Mapping,
    NonexistentTime,
    OtherEvents,
    Oversize,
    Rest,
    TimestampUnit,
    Tree,
)
from cdp_backfill.model.renaming import with_renamed, without_renamed
from cdp_backfill.pipeline.excluded_ids import read_excluded
from cdp_backfill.pipeline.fixed_mapping import Given
from cdp_backfill.pipeline.job import Job, SendOptions, require_answers, with_remembered
from cdp_backfill.pipeline.journal import read_journal
from cdp_backfill.pipeline.leaving_out import chosen_by_failures, resumed
from cdp_backfill.pipeline.preview import check_number, preview
from cdp_backfill.sources import Source, Unreadable, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cdp_backfill.messages.encoding import ContextScope
    from cdp_backfill.pipeline.plans import Plan
    from cdp_backfill.pipeline.preparation import Recent
    from cdp_backfill.results.progress import ProgressChoice
    from cdp_backfill.results.reports import Report


@checked_keywords
def plan(
    source: Any,
    mapping: Mapping | None = None,
    *,
    user_id: Field | None = None,
    anonymous_id: Field | None = None,
    event: Field | None = None,
    timestamp: Field | None = None,
    timestamp_unit: TimestampUnit | None = None,
    date_order: DateOrder | None = None,
    timezone: str | None = None,
    nonexistent: NonexistentTime | None = None,
    ambiguous: AmbiguousTime | None = None,
    message_id: Field | Key | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    allow_commands: Sequence[str] | None = None,
    rest: Rest | None = None,
    drop: Sequence[str] | None = None,
    rename: dict[str, str] | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    where: str | None = None,
    exclude: Any = None,
    identify: Any = None,
    destination: Destination | None = None,
    recent: Recent = "raise",
    context_scope: ContextScope = "message",
    unreadable: Unreadable = "raise",
    now: datetime | None = None,
) -> Plan:
    """Show what :func:`send` would do with every row of a table. Sends nothing, needs no API key.

    Where the call leaves out who, what or when, the plan proposes a column from the names and
    cells of the table, or asks. It reads the whole table once, with bounded memory. If something
    is to be proposed, it reads the first rows and the event column before that.

    Args:
        source: See :func:`send`, as for all arguments here. The table must be one that can be
            read more than once.

    Returns:
        The plan. A notebook and ``print`` show it, and :meth:`Plan.send` carries it out.

    Raises:
        BadInputError: The mapping does not fit the table, or the table cannot be read.

    >>> import pandas as pd
    >>> from cdp_backfill import lit
    >>> frame = pd.DataFrame({"uid": ["a", None], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> plan(frame, user_id="uid", timestamp="ts", event=lit("Application Opened")).counts
    {'to_send': 1, 'invalid': 1, 'held': 0, 'skipped': 0}
    """
    table, engine = open_table(source, unreadable=unreadable)
    if not table.replayable:
        raise BadInputError(
            f"{table.title} can only be read once; planning would consume it. Use send(), or pass "
            f"a table that can be read again: {table.instead}."
        )
    proposal = _proposal(
        table,
        mapping,
        preset,
        now,
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=event,
        timestamp=timestamp,
        timestamp_unit=timestamp_unit,
        date_order=date_order,
        timezone=timezone,
        nonexistent=nonexistent,
        ambiguous=ambiguous,
        message_id=message_id,
        properties=properties,
        context=context,
        integrations=integrations,
        events=events,
        other_events=other_events,
        allow_commands=allow_commands,
        rest=rest,
        drop=drop,
        rename=rename,
        derive=derive,
        expand=expand,
        json=json,
        nulls=nulls,
        earliest=earliest,
        oversize=oversize,
        droppable=droppable,
        duplicates=duplicates,
    )
    options = SendOptions(
        destination=destination,
        **_left_out(table, proposal, where, exclude),
        recent=recent,
        context_scope=context_scope,
        unreadable=unreadable,
        now=now,
    )
    job = job_on(engine, source=table, proposal=proposal, options=options, identify=identify)
    return plan_of(job)


@checked_keywords
def send(
    source: Any,
    mapping: Mapping | None = None,
    *,
    user_id: Field | None = None,
    anonymous_id: Field | None = None,
    event: Field | None = None,
    timestamp: Field | None = None,
    timestamp_unit: TimestampUnit | None = None,
    date_order: DateOrder | None = None,
    timezone: str | None = None,
    nonexistent: NonexistentTime | None = None,
    ambiguous: AmbiguousTime | None = None,
    message_id: Field | Key | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    allow_commands: Sequence[str] | None = None,
    rest: Rest | None = None,
    drop: Sequence[str] | None = None,
    rename: dict[str, str] | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    where: str | None = None,
    exclude: Any = None,
    identify: Any = None,
    destination: Destination | None = None,
    progress: ProgressChoice = True,
    journal: str | Path | bool | None = None,
    canary: int | None = None,
    recent: Recent = "raise",
    context_scope: ContextScope = "message",
    unreadable: Unreadable = "raise",
    processes: int = 1,
    now: datetime | None = None,
    outcomes: str | Path | None = None,
) -> Report:
    """Send every row of a table to the Pipelines API as a track event.

    Args:
        source: A DataFrame of pandas or polars; a LazyFrame; a DataFrame of Spark or Dask, each
            partition of which a worker sends; a table, reader or dataset of pyarrow; a relation of
            DuckDB; a table of ibis; any other object with an Arrow stream
            (``__arrow_c_stream__``); a cursor of ADBC or DB-API, or a result of BigQuery or
            Snowflake; or a path, a glob or a list of paths to files, archives or folders.
            Files can be parquet, CSV, JSON, Arrow or ORC; their content decides, not their names.
        mapping: Which column becomes which field. Fields of :class:`Mapping` passed as keywords
            replace its own. Failures of an earlier run use the mapping of that run if None is
            passed. If who, what or when is missing, a proposal fills it in, as a plan shows; if a
            question stays open, nothing is sent.
        user_id: See :class:`Mapping`, as for all arguments up to ``duplicates``.
        anonymous_id: See :class:`Mapping`.
        event: See :class:`Mapping`.
        timestamp: See :class:`Mapping`.
        timestamp_unit: See :class:`Mapping`.
        date_order: See :class:`Mapping`.
        timezone: See :class:`Mapping`.
        nonexistent: See :class:`Mapping`.
        ambiguous: See :class:`Mapping`.
        message_id: See :class:`Mapping`.
        properties: See :class:`Mapping`.
        context: See :class:`Mapping`.
        integrations: See :class:`Mapping`.
        events: See :class:`Mapping`.
        other_events: See :class:`Mapping`.
        allow_commands: See :class:`Mapping`.
        rest: See :class:`Mapping`.
        drop: See :class:`Mapping`.
        rename: See :class:`Mapping`.
        derive: See :class:`Mapping`.
        expand: See :class:`Mapping`.
        json: See :class:`Mapping`.
        nulls: See :class:`Mapping`.
        earliest: See :class:`Mapping`.
        oversize: See :class:`Mapping`.
        droppable: See :class:`Mapping`.
        duplicates: See :class:`Mapping`.
        preset: Name of a preset for a vendor's export, or the path of an edited copy. Keywords
            add to the dicts and lists of its mapping, and replace its other fields.
            ``cdp-backfill presets`` lists the names.
        where: SQL expression over a row, as in ``derive``. Rows for which it is not true are
            ``skipped`` with the code ``not_where``. It may use derived columns and fields inside
            structs, and changes no message and no message id. None sends all rows.
        exclude: Ids of people who must not go, such as deleted ones: a list, a column or a table of
            ids; or the path of a file, of one id a line or a table. Of several columns, those named
            as the columns of ``user_id`` and ``anonymous_id``, or ``user_id`` and
            ``anonymous_id``, count. Rows with one of the ids as user id or anonymous id are
            ``skipped`` with the code ``excluded``, identities included. An id is compared in the
            form in which it is sent: 12, 12.0 and ``"12"`` are equal. None leaves out nobody.
        identify: Join anonymous ids to user ids before the events are sent. A column of the table
            with the user id: each pair of it and the column of ``anonymous_id`` becomes one
            ``identify`` call. Or a table of anonymous ids and user ids, of any kind that
            ``source`` may be, whose other columns become traits of the people; its columns of
            ids have the names of the mapping's, or ``anonymous_id`` and ``user_id``. A text is the
            name of a column if there is such a column, and else a path. An anonymous id with
            several user ids is ``invalid``. None sends no such call. No event is sent before every
            call has an answer, and none if their run stops.
        destination: Where to send; None for the destination that ``configure()`` set, or else the
            US region.
        progress: True shows progress where you are: in a terminal, in Jupyter or marimo, or as
            lines of a log. False shows none, ``"tqdm"`` shows a bar of ``tqdm.auto``. Or a display
            of your own, see :class:`Progress`.
        journal: File that records delivered messages, so that the next run sends only the rest. A
            path, True for a file in the current folder that is named after table and address, or
            False for none. None means True for files and False for other tables and for
            destinations on this machine. For a table of Spark or Dask, a folder that all workers
            see: a path, or a URI such as ``s3://bucket/folder``.
        canary: Send only the first n rows and the identities of their anonymous ids, and note what
            to check. To go on, send again without
            it and with ``journal=report.journal``. A canary has a journal even if ``journal`` is
            None.
        recent: What to do with rows younger than 72 hours, which can trigger campaigns.
            ``"raise"`` sends nothing if there are any (a stream that can only be read once stops
            at the first of them), ``"hold"`` leaves them out, ``"send"`` sends them.
        context_scope: ``"message"`` writes the context into each message;
            ``"batch"`` writes the context once for each request, for rows that share it.
        unreadable: What to do with rows of CSV and JSON files that cannot be read, such as a cut
            line or a row with a field too few. ``"raise"`` stops at the first of them; ``"skip"``
            goes on, and each is a row that is ``invalid`` with the code ``unreadable``. It is among
            the failures with its file, its row number, its line (``cdp_line``) and its text
            (``cdp_text``). Files are read once more for this.
        processes: Number of processes that read, check and encode files: parquet files by row
            group, CSV and JSON files as a whole. One process sends, keeps the journal and
            reports. It pays off on machines with many cores, and does not keep the row order.
        now: The time from which the age of a row is counted; None for the current time.
        outcomes: Folder to which the run adds two tables of parquet files: ``runs`` with a line for
            the run, and ``rows`` with file, row number, outcome, code and message id of every row.
            None for none.

    Returns:
        What became of every row, and in ``report.identities`` of every identity. An interrupt
        (Ctrl-C, or the stop button of a notebook) also returns it, with the rest ``unsent``; a
        second interrupt cancels the requests in flight.

    Raises:
        BadInputError: Before anything is sent: the mapping does not fit, the table cannot be
            read, or there is no usable key.
        RecentRowsError: There are recent rows, and ``recent`` is ``"raise"``.
        StoppedError: The run ended early, for example because of a wrong key. Its ``.report``
            accounts for every row.

    >>> import pandas as pd
    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a", "b"], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> with sandbox() as box:
    ...     report = send(frame, mapping, destination=box.destination, progress=False)
    >>> report.counts["delivered"]
    2
    """
    table, engine = open_table(source, unreadable=unreadable)
    fields = _given(
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=event,
        timestamp=timestamp,
        timestamp_unit=timestamp_unit,
        date_order=date_order,
        timezone=timezone,
        nonexistent=nonexistent,
        ambiguous=ambiguous,
        message_id=message_id,
        properties=properties,
        context=context,
        integrations=integrations,
        events=events,
        other_events=other_events,
        allow_commands=allow_commands,
        rest=rest,
        drop=drop,
        rename=rename,
        derive=derive,
        expand=expand,
        json=json,
        nulls=nulls,
        earliest=earliest,
        oversize=oversize,
        droppable=droppable,
        duplicates=duplicates,
    )
    proposal = _proposal(table, mapping, preset, now, **fields)
    options = SendOptions(
        destination=destination,
        progress=progress,
        journal=journal,
        canary=canary,
        **_left_out(table, proposal, where, exclude),
        recent=recent,
        context_scope=context_scope,
        unreadable=unreadable,
        processes=processes,
        now=now,
        outcomes=outcomes,
    )
    job = job_on(
        engine,
        source=table,
        proposal=proposal,
        options=options,
        identify=identify,
        given=None
        if _is_explicit(table, mapping, preset)
        else Given(fields=_as_properties(fields), preset=preset),
    )
    return job.send()


@checked_keywords
def resume(
    journal: str | Path,
    source: Any = None,
    *,
    where: str | None = None,
    exclude: Any = None,
    identify: Any = None,
    destination: Destination | None = None,
    progress: ProgressChoice = True,
    recent: Recent | None = None,
    context_scope: ContextScope | None = None,
    unreadable: Unreadable | None = None,
    processes: int = 1,
    now: datetime | None = None,
    outcomes: str | Path | None = None,
) -> Report:
    """Send the rows of a journal that are not known to be delivered.

    The journal remembers the call that it goes on with: mapping, files, identities, ``recent``,
    ``context_scope``, ``where`` and ``exclude``. An argument here replaces what it remembers for
    this run, and the report says so.

    Args:
        journal: The journal. It holds the mapping and, for files, their paths.
        source: The table; None for the files that the journal names.
        where: See :func:`send`; None for what the journal remembers.
        exclude: See :func:`send`; None for the files that the journal remembers, as they are now.
            It holds no ids: those of a list must be passed again. ``[]`` leaves nobody out.
        identify: The identities to send first; None for the column or the files that the journal
            names, if any.
        destination: Where to send; it must have the address that the journal names. None takes
            the address from the journal, and the key as :func:`send` does.
        progress: See :func:`send`.
        recent: See :func:`send`; None for what the journal remembers. With ``"hold"``, rows go as
            soon as they are older than 72 hours.
        context_scope: See :func:`send`; None for what the journal remembers.
        unreadable: See :func:`send`; None for what the journal records.
        processes: See :func:`send`.
        now: See :func:`send`.
        outcomes: See :func:`send`. Rows that an earlier run delivered are included.

    Returns:
        What became of every row of the table. Rows that an earlier run delivered count as
        delivered.

    Raises:
        JournalError: There is no such journal, or it names no files and no table is passed; the
            same for a table of identities and for excluded ids.
        BackfillError: As :func:`send` does.

    >>> import pandas as pd
    >>> from tempfile import TemporaryDirectory
    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a", "b"], "ts": ["2023-05-01T10:00:00Z"] * 2})
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event=lit("Application Opened"))
    >>> with sandbox() as box, TemporaryDirectory() as folder:
    ...     path = f"{folder}/opens.cdp-journal"
    ...     options = {"destination": box.destination, "progress": False}
    ...     canary = send(frame, mapping, canary=1, journal=path, **options)
    ...     report = resume(path, frame, **options)
    >>> report.delivered_before, report.counts["delivered"]
    (1, 2)
    """
    contents = read_journal(journal)
    if source is None:
        if contents.paths is None:
            raise JournalError(
                f"The journal {journal} was written for an in-memory table. Pass the table: "
                "resume(journal, df)."
            )
        source = contents.paths
    if identify is None and contents.identify is not None:
        identify = contents.identify.get("column") or contents.identify.get("paths")
        if identify is None:
            raise JournalError(
                f"The journal {journal} was written with identities of an in-memory table. Pass "
                "that table as identify=, too."
            )
    if destination is None:
        destination = choose_destination(None)
        if destination.url != contents.url:
            destination = replace(destination, base_url=contents.url)
    options = SendOptions(
        destination=destination,
        progress=progress,
        journal=journal,
        unreadable=unreadable or contents.unreadable,
        processes=processes,
        now=now,
        outcomes=outcomes,
    )
    options, notes = with_remembered(
        options, contents.options, {"recent": recent, "context_scope": context_scope}
    )
    where, excluded, more = resumed(journal, contents.options, where, exclude, contents.mapping)
    options, notes = replace(options, where=where, exclude=excluded), (*notes, *more)
    job = Job(
        source=open_source(source, unreadable=options.unreadable),
        proposal=Proposal(contents.mapping, notes=notes),
        options=options,
        identify=identify,
        resumes=True,
    )
    return job.send()


@checked_keywords
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
    date_order: DateOrder | None = None,
    timezone: str | None = None,
    nonexistent: NonexistentTime | None = None,
    ambiguous: AmbiguousTime | None = None,
    message_id: Field | Key | None = None,
    properties: Tree | None = None,
    context: Tree | None = None,
    integrations: Tree | None = None,
    events: dict[Any, str] | None = None,
    other_events: OtherEvents | None = None,
    allow_commands: Sequence[str] | None = None,
    rest: Rest | None = None,
    drop: Sequence[str] | None = None,
    rename: dict[str, str] | None = None,
    derive: dict[str, str] | None = None,
    expand: Sequence[str] | None = None,
    json: Sequence[str] | None = None,
    nulls: Sequence[str] | None = None,
    earliest: str | None = None,
    oversize: Oversize | None = None,
    droppable: Sequence[str] | None = None,
    duplicates: Duplicates | None = None,
    preset: str | None = None,
    where: str | None = None,
    exclude: Any = None,
    context_scope: ContextScope = "message",
    unreadable: Unreadable = "raise",
) -> list[dict[str, Any]]:
    """Return the payloads of the first ``n`` rows, exactly as they would be sent.

    Args:
        source: See :func:`cdp_backfill.send`, as for all arguments but ``n``.
        n: Number of rows.

    Returns:
        One dict for each row: its message, or ``cdp_outcome``, ``cdp_code`` and ``cdp_reason`` of
        a row that would not be sent.

    Raises:
        BadInputError: The mapping does not fit the table, or ``n`` is no number of rows.
    """
    check_number(n)
    table, _ = open_table(source, unreadable=unreadable)
    proposal = _proposal(
        table,
        mapping,
        preset,
        None,
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=event,
        timestamp=timestamp,
        timestamp_unit=timestamp_unit,
        date_order=date_order,
        timezone=timezone,
        nonexistent=nonexistent,
        ambiguous=ambiguous,
        message_id=message_id,
        properties=properties,
        context=context,
        integrations=integrations,
        events=events,
        other_events=other_events,
        allow_commands=allow_commands,
        rest=rest,
        drop=drop,
        rename=rename,
        derive=derive,
        expand=expand,
        json=json,
        nulls=nulls,
        earliest=earliest,
        oversize=oversize,
        droppable=droppable,
        duplicates=duplicates,
    )
    require_answers(proposal)
    options = SendOptions(
        **_left_out(table, proposal, where, exclude), recent="send", context_scope=context_scope
    )
    return preview(Job(source=table, proposal=proposal, options=options).prepare(), n)


def _left_out(
    source: Source, proposal: Proposal, where: str | None, exclude: Any
) -> dict[str, Any]:
    """The options ``where`` and ``exclude`` of a call."""
    if not proposal.complete:  # nothing is counted or sent
        return {}
    where, exclude = chosen_by_failures(source, where, exclude, proposal.mapping)
    if exclude is not None:
        exclude = read_excluded(exclude, proposal.mapping)
    return {"where": where, "exclude": exclude}


def _given(**fields: Any) -> dict[str, Any]:
    """The fields of a mapping that a call passes."""
    return {name: value for name, value in fields.items() if value is not None}


def _as_properties(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call, with its renamed columns among the properties."""
    others = {name: value for name, value in fields.items() if name != "rename"}
    return with_renamed(others, fields.get("rename"))


def _is_explicit(source: Source, mapping: Mapping | None, preset: str | None) -> bool:
    """Whether a call has a whole mapping, of its own or of the failures of an earlier run."""
    return mapping is not None or (preset is None and isinstance(source.earlier_mapping, str))


def _proposal(
    source: Source,
    mapping: Mapping | None,
    preset: str | None,
    now: datetime | None,
    **fields: Any,
) -> Proposal:
    """The mapping of a call, whose fields are all in the table."""
    proposal = _completed(source, mapping, preset, now, **fields)
    check_members(source, proposal.mapping)
    return proposal


def _completed(
    source: Source,
    mapping: Mapping | None,
    preset: str | None,
    now: datetime | None,
    **fields: Any,
) -> Proposal:
    """The mapping of a call; a proposal fills in what the caller leaves out.

    Args:
        source: The table.
        mapping: The mapping of the caller, or None.
        preset: The preset of the caller, or None.
        now: The current time; None reads the clock.
        **fields: The fields of the mapping that the caller passes as keywords; None for the rest.
    """
    if mapping is not None and not isinstance(mapping, Mapping):
        raise MappingError(_no_mapping(mapping))
    fields = _given(**fields)
    others = {name: value for name, value in fields.items() if name != "rename"}
    if preset is not None:
        _as_properties(fields)
        if mapping is not None:
            raise MappingError("Pass either mapping= or preset=, not both.")
        proposal = propose_preset(source, presets.load(preset), others, "given")
        proposal = leave_out_personal_data(source, proposal)
        proposal = with_new_names(proposal, fields.get("rename"))
        return with_date_order(source, proposal, now)
    if mapping is None and isinstance(source.earlier_mapping, str):
        mapping = Mapping.from_toml(source.earlier_mapping)
    if mapping is None:
        _check_lost_mapping(source, fields)
        named = Mapping(**_as_properties(fields))
        check_index(source, named)
        check_columns(source.schema, named)
        proposal = propose(source, Mapping(**others), others, now)
        return with_new_names(proposal, fields.get("rename"))
    mapping = _changed(mapping, fields)
    check_index(source, mapping)
    return Proposal(mapping)


def _no_mapping(value: Any) -> str:
    """What to pass instead of a mapping that is none."""
    if isinstance(value, dict):
        return "A dict is no mapping. Pass its items as keywords: cdp.send(table, **mapping)."
    if isinstance(value, str | Path):
        return (
            "The second argument is the mapping, and a text is none. To send a file, call "
            "cdp.send(path). For a mapping in a file, pass cdp.Mapping.load(path)."
        )
    return (
        f"mapping must be a Mapping, such as cdp.Mapping(user_id='...'), not "
        f"{type(value).__name__}. Its fields can also be passed as keywords."
    )


def _check_lost_mapping(source: Source, fields: dict[str, Any]) -> None:
    """Refuse to guess the mapping of failures that lost it, as in Excel or a CSV file.

    Another mapping would make other messages of them, with other ids.

    Raises:
        MappingError: The columns are those of failures, and the call does not name who, what and
            when.
    """
    is_named = {"event", "timestamp"} <= fields.keys() and {
        "user_id",
        "anonymous_id",
    } & fields.keys()
    if not is_named and {"cdp_outcome", "cdp_code", "cdp_reason"} <= set(source.schema.names):
        raise MappingError(
            f"The rows of {source.name} are failures of an earlier run, and a file of Excel or CSV "
            "does not keep their mapping. Pass a mapping with "
            "mapping=cdp.Mapping.load('report/mapping.toml'), which report.save('report') writes, "
            "or mapping=plan.mapping."
        )


def _changed(mapping: Mapping, fields: dict[str, Any]) -> Mapping:
    """A mapping with fields of the caller; a column that these name is no longer left out."""
    if "rename" in fields and "properties" not in fields:
        properties = without_renamed(mapping.properties, fields["rename"])
        mapping = replace(mapping, properties=properties)
    if "drop" in fields:
        return replace(mapping, **fields)
    changed = replace(mapping, drop=(), **fields)
    if changed.rest == "all":
        return changed
    sources = changed.sources()
    return replace(changed, drop=[name for name in mapping.drop if name not in sources])
