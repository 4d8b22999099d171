"""The commands plan, send, resume and status.

What a command runs is imported when it runs: help pages and shell completion need the options only.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  # Typer reads it from the signature
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cdp_backfill.cli.options import (
    Allow,
    AsJson,
    BaseUrl,
    Exclude,
    Identify,
    Insecure,
    JournalFile,
    Log,
    MappingOptions,
    Outcomes,
    Patience,
    Processes,
    RateLimit,
    Recent,
    Region,
    RememberedRecent,
    Samples,
    Save,
    ShowProgress,
    Sources,
    Unreadable,
    Where,
    chooses,
    with_mapping_options,
)
from cdp_backfill.cli.output import Output, exit_with, plan_exit_code, show_report
from cdp_backfill.model.destination import RATE_LIMIT, Destination
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.model.plurals import count
from cdp_backfill.model.views import Section, View

if TYPE_CHECKING:
    from cdp_backfill.pipeline.journal import JournalContents
    from cdp_backfill.results.reports import Report

_RUN_COLUMNS: Final = ("started", "ended", "rows by outcome")


@with_mapping_options
def plan(
    sources: Sources,
    *,
    options: MappingOptions,
    where: Where = None,
    exclude: Exclude = None,
    identify: Identify = None,
    region: Region = "us",
    base_url: BaseUrl = None,
    recent: Recent = "raise",
    unreadable: Unreadable = "raise",
    save_mapping: Annotated[
        Path | None, typer.Option(help="Write the mapping to this TOML file.")
    ] = None,
    allow: Allow = None,
    samples: Samples = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Show what send would do with every row, and why. Sends nothing and needs no key.

    The exit code is the one that send would have if the server accepted every request.
    """
    output = Output(as_json=as_json, samples=samples, log=log, allow=allow or ())

    def action() -> int:
        from cdp_backfill import api

        plan = api.plan(
            sources,
            **options.arguments(),
            where=where,
            exclude=exclude,
            identify=identify,
            # Nothing is sent.
            destination=Destination(region=region, base_url=base_url, insecure=True),  # type: ignore[arg-type]
            recent=recent,  # type: ignore[arg-type]  # checked there, with one clear error
            unreadable=unreadable,  # type: ignore[arg-type]
        )
        if save_mapping:
            plan.mapping.save(save_mapping)
        output.print_plan(plan)
        may_send_nothing = options.may_send_nothing or chooses(where, exclude)
        return plan_exit_code(plan, output, recent=recent, may_send_nothing=may_send_nothing)

    exit_with(action, output)


@with_mapping_options
def send(
    sources: Sources,
    *,
    options: MappingOptions,
    where: Where = None,
    exclude: Exclude = None,
    identify: Identify = None,
    region: Region = "us",
    base_url: BaseUrl = None,
    insecure: Insecure = False,
    recent: Recent = "raise",
    unreadable: Unreadable = "raise",
    rate_limit: RateLimit = RATE_LIMIT,
    patience: Patience = Destination.patience,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Most requests in flight; by default, the run adapts the number."),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="File that records delivered rows. By default a file in the current folder, named "
            "after source and server; none for a server on this machine."
        ),
    ] = None,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="Keep no journal.")] = False,
    canary: Annotated[
        int | None, typer.Option(min=1, help="Send only the first n rows, to check them.")
    ] = None,
    processes: Processes = 1,
    save: Save = None,
    outcomes: Outcomes = None,
    allow: Allow = None,
    progress: ShowProgress = True,
    samples: Samples = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Send every row as a track event. The API key comes from $CUSTOMERIO_CDP_API_KEY."""
    output = Output(as_json=as_json, samples=samples, log=log, allow=allow or ())

    def action() -> Report:
        from cdp_backfill import api

        return api.send(
            sources,
            **options.arguments(),
            where=where,
            exclude=exclude,
            identify=identify,
            destination=Destination(
                region=region,  # type: ignore[arg-type]  # checked there, with one clear error
                base_url=base_url,
                insecure=insecure,
                rate_limit=rate_limit,
                patience=patience,
                workers=workers,
            ),
            progress=output.progress(shown=progress),
            journal=False if no_journal else journal,
            canary=canary,
            processes=processes,
            recent=recent,  # type: ignore[arg-type]
            outcomes=outcomes,
            unreadable=unreadable,  # type: ignore[arg-type]
        )

    may_send_nothing = options.may_send_nothing or chooses(where, exclude)
    exit_with(lambda: show_report(action, save, output, may_send_nothing=may_send_nothing), output)


def resume(
    journal: JournalFile,
    *,
    insecure: Insecure = False,
    rate_limit: RateLimit = RATE_LIMIT,
    patience: Patience = Destination.patience,
    where: Annotated[
        str | None,
        typer.Option(help="SQL expression over a row; by default as the journal remembers."),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="File of ids of people who must not go; by default the one that the journal "
            "remembers, as it is now."
        ),
    ] = None,
    recent: RememberedRecent = None,
    unreadable: Annotated[
        str | None,
        typer.Option(help="raise or skip, as for send; by default what the journal records."),
    ] = None,
    processes: Processes = 1,
    save: Save = None,
    outcomes: Outcomes = None,
    allow: Allow = None,
    progress: ShowProgress = True,
    samples: Samples = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Send the rows of a journal that are not known to be delivered."""
    output = Output(as_json=as_json, samples=samples, log=log, allow=allow or ())

    def action() -> Report:
        from cdp_backfill import api
        from cdp_backfill.pipeline.journal import read_journal

        destination = Destination(
            base_url=read_journal(journal).url,
            insecure=insecure,
            rate_limit=rate_limit,
            patience=patience,
        )
        return api.resume(
            journal,
            destination=destination,
            progress=output.progress(shown=progress),
            processes=processes,
            where=where,
            exclude=exclude,
            recent=recent,  # type: ignore[arg-type]
            outcomes=outcomes,
            unreadable=unreadable,  # type: ignore[arg-type]
        )

    exit_with(lambda: show_report(action, save, output), output)


def status(journal: JournalFile, *, as_json: AsJson = False) -> None:
    """Show what a journal records. That is the number of delivered rows and the end of each run."""

    def action() -> int:
        from cdp_backfill.pipeline.journal import identities_path, read_journal

        contents = read_journal(journal)
        first = None
        if contents.identify is not None and identities_path(journal).is_file():
            first = read_journal(identities_path(journal))
        if as_json:
            print(
                json.dumps(
                    {
                        "url": contents.url,
                        "paths": contents.paths,
                        "identify": contents.identify,
                        "mapping": contents.mapping.to_dict(),
                        "where": contents.options.get("where"),
                        "exclude": _excluded(contents),
                        "delivered": contents.delivered,
                        "runs": [asdict(run) for run in contents.runs],
                        "identities_delivered": None if first is None else first.delivered,
                    }
                )
            )
        else:
            print(_view(journal, contents, first).text())
        return 0

    exit_with(action, Output(as_json=as_json))


def _view(journal: Path, contents: JournalContents, first: JournalContents | None) -> View:
    runs = _runs(contents)
    last = contents.runs[-1] if contents.runs else None
    reasons: list[tuple[object, ...]] = [
        (rows, name) for name, rows in (last.reasons if last else {}).items()
    ]
    is_unfinished = last is None or last.ended is None or last.counts.get(Outcome.UNSENT, 0)
    return View(
        f"Journal {journal}: {contents.delivered:,} rows are known to be delivered",
        [
            Section(f"To {contents.url}", (), [(path,) for path in contents.paths or ["a table"]]),
            Section("Left out on request", (), _left_out(contents)),
            Section("Identities, sent first", _RUN_COLUMNS, _runs(first) if first else []),
            Section("Runs", _RUN_COLUMNS, runs),
            Section("Not delivered by the last run", (), reasons),
        ],
        [f"Go on with: cdp-backfill resume {journal}"] if is_unfinished else [],
    )


def _left_out(contents: JournalContents) -> list[tuple[object, ...]]:
    """What the calls with a journal leave out, as they were typed."""
    where, excluded = contents.options.get("where"), _excluded(contents)
    lines: list[tuple[object, ...]] = []
    if where is not None:
        lines.append(("rows for which this is not true", where))
    if excluded is not None:
        paths = f", from {', '.join(excluded['paths'])}" if excluded["paths"] else ""
        lines.append(("rows of these people", count(excluded["ids"], "id") + paths))
    if contents.mapping.drop:
        lines.append(("columns", ", ".join(contents.mapping.drop)))
    return lines


def _excluded(contents: JournalContents) -> dict[str, Any] | None:
    """The paths and the number of the ids that a journal leaves out."""
    saved = contents.options.get("exclude")
    return None if saved is None else {"paths": saved["paths"], "ids": saved["ids"]}


def _runs(contents: JournalContents) -> list[tuple[object, ...]]:
    return [
        (run.started, run.ended or "crashed or still running", _list_counts(run.counts))
        for run in contents.runs
    ]


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if rows) or "?"
