"""The commands demo, rehearse, presets and sandbox, which need no account.

What a command runs is imported when it runs: help pages and shell completion need the options only.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cdp_backfill.cli.options import (
    DEMO_ROWS,
    Allow,
    AsJson,
    Exclude,
    Failing,
    Identify,
    Latency,
    Log,
    MappingOptions,
    ResetAfter,
    Samples,
    ShowProgress,
    Sources,
    TooMany,
    Unreadable,
    Where,
    chooses,
    with_mapping_options,
)
from cdp_backfill.cli.output import ExitCode, Output, exit_with
from cdp_backfill.errors import BadInputError
from cdp_backfill.model.views import Section, View
from cdp_backfill.printable import printable


def demo(
    *,
    rows: Annotated[int, typer.Option(min=1, help="Number of records.")] = DEMO_ROWS,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the records and the report; by default nothing is kept."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send made-up records to the sandbox. Compares what arrived, and needs no account."""

    def action() -> int:
        from cdp_backfill.cli.demo import run

        return 0 if run(rows, keep, as_json=as_json) else 1

    exit_with(action, Output(as_json=as_json))


@with_mapping_options
def rehearse(
    sources: Sources,
    *,
    options: MappingOptions,
    where: Where = None,
    exclude: Exclude = None,
    identify: Identify = None,
    unreadable: Unreadable = "raise",
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the sandbox's data and the report; by default a new one."),
    ] = None,
    latency: Latency = 0.0,
    failing: Failing = 0.0,
    too_many: TooMany = 0.0,
    reset_after: ResetAfter = 0.0,
    allow: Allow = None,
    progress: ShowProgress = True,
    samples: Samples = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Send every row to a sandbox of its own. Compares what arrived by event and day."""
    output = Output(as_json=as_json, samples=samples, log=log, allow=allow or ())

    def action() -> int:
        from cdp_backfill.cli import rehearse as rehearsals

        arguments = options.arguments()
        folder = keep or Path(f"rehearsal-{datetime.now():%Y%m%d-%H%M%S}")  # noqa: DTZ005
        if (folder / rehearsals.STORE).exists():
            raise BadInputError(f"{folder} already holds a rehearsal. Give --keep another folder.")
        rehearsal = rehearsals.rehearse(
            sources,
            arguments,
            folder,
            where=where,
            exclude=exclude,
            identify=identify,
            unreadable=unreadable,  # type: ignore[arg-type]  # checked there
            progress=output.progress(shown=progress),
            latency=latency,
            failing=failing,
            too_many=too_many,
            reset_after=reset_after,
        )
        if as_json:
            print(json.dumps(rehearsal.to_dict(quote_server=output.shows_cells)))
        else:
            output.print_report(rehearsal.report)
            print()
            output.print_view(rehearsal.view())
        sent_nothing = rehearsal.report.rows and not rehearsal.plan.to_send
        if sent_nothing and not (options.may_send_nothing or chooses(where, exclude)):
            return ExitCode.MISSING
        return ExitCode.AS_WANTED if rehearsal.ok_but(output.allow) else ExitCode.MISSING

    exit_with(action, output)


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset, to be copied.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the presets for vendors' exports, or print one.

    For example, ``cdp-backfill presets ga4 > mine.toml`` makes a copy to edit.
    """

    def action() -> int:
        from cdp_backfill.inference import presets as known_presets

        if name:
            print(printable(known_presets.load(name).text), end="")
            return 0
        loaded = [known_presets.load(each) for each in known_presets.names()]
        if as_json:
            print(json.dumps({preset.name: preset.title for preset in loaded}))
        else:
            rows: list[tuple[object, ...]] = [(preset.name, preset.title) for preset in loaded]
            notes = ["A plan proposes one by itself. Print one with: cdp-backfill presets NAME"]
            print(View("Presets", [Section("For the exports of", (), rows)], notes).text())
        return 0

    exit_with(action, Output(as_json=as_json))


def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for a free one.")] = 8080,
    api_key: Annotated[str, typer.Option(help="The API key that it accepts.")] = "sandbox",
    store: Annotated[
        Path | None,
        typer.Option(help="SQLite file for what it accepts; by default it keeps it in memory."),
    ] = None,
    latency: Latency = 0.0,
    jitter: Annotated[float, typer.Option(help="Most seconds to add at random.")] = 0.0,
    too_many: TooMany = 0.0,
    retry_after: Annotated[
        float | None, typer.Option(help="Seconds in the Retry-After header of a 429.")
    ] = None,
    failing: Failing = 0.0,
    reset_before: Annotated[
        float, typer.Option(help="Share of connections broken before the body is read, 0 to 1.")
    ] = 0.0,
    reset_after: ResetAfter = 0.0,
    stall: Annotated[float, typer.Option(help="Share of requests never answered, 0 to 1.")] = 0.0,
    silent: Annotated[
        float, typer.Option(help="Share of requests answered 200 and dropped, 0 to 1.")
    ] = 0.0,
    refuse_user: Annotated[
        list[str] | None, typer.Option(help="User id to refuse with 400; repeatable.")
    ] = None,
    rate_limit: Annotated[
        float | None, typer.Option(help="Requests per second; 429 beyond.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which requests the faults hit.")] = 0,
    name_bad: Annotated[
        bool, typer.Option(help="A 400 for a batch names the bad messages (not documented).")
    ] = True,
    keep_rest: Annotated[
        bool,
        typer.Option(help="Keep the good messages of a batch with bad ones (not documented)."),
    ] = False,
    oversize: Annotated[
        str,
        typer.Option(
            help="What is lost if a message of a batch is too large: request or message "
            "(not documented)."
        ),
    ] = "request",
    numeric_ids: Annotated[
        bool, typer.Option(help="Accept ids that are numbers (not documented).")
    ] = False,
    without_person: Annotated[
        bool, typer.Option(help="Accept messages of nobody (not documented).")
    ] = False,
) -> None:
    """Run the Pipelines API on this machine, to rehearse with."""

    def action() -> int:
        from cdp_backfill import local_sandbox

        checked: Any = oversize  # the sandbox checks it
        with local_sandbox.sandbox(
            host=host,
            port=port,
            api_key=api_key,
            store=store,
            latency=latency,
            jitter=jitter,
            too_many=too_many,
            retry_after=retry_after,
            failing=failing,
            reset_before=reset_before,
            reset_after=reset_after,
            stall=stall,
            silent=silent,
            refuse_users=refuse_user or (),
            rate_limit=rate_limit,
            seed=seed,
            name_bad=name_bad,
            keep_rest=keep_rest,
            oversize=checked,
            numeric_ids=numeric_ids,
            without_person=without_person,
        ) as server:
            print(f"The sandbox answers at {server.url}. Its API key is {api_key!r}.")
            print(f"Look at it: {server.page}")
            print(f"Send to it: cdp-backfill send ... --base-url {server.url}")
            print("Stop it with Ctrl-C.", flush=True)
            try:
                server.wait()
            except KeyboardInterrupt:
                totals = server.totals()
                print(printable(f"\n{totals.to_string()}") if len(totals) else "\nNothing arrived.")
        return 0

    exit_with(action)
