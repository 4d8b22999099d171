"""The command line."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cdp_backfill import api
from cdp_backfill.cli import demo, sample_data
from cdp_backfill.cli.rehearse import rehearse
from cdp_backfill.errors import BackfillError, BadInputError, MappingError, StoppedError
from cdp_backfill.inference import presets
from cdp_backfill.local_sandbox import sandbox
from cdp_backfill.model import api_facts
from cdp_backfill.model.destination import Destination
from cdp_backfill.model.mapping import Mapping, lit
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.model.views import Section, View
from cdp_backfill.pipeline.journal import read_journal
from cdp_backfill.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.reports import Report

app = typer.Typer(
    name="cdp-backfill",
    help="Send mobile-app records from files to the Customer.io Pipelines API.",
    epilog="Exit codes: 0 all rows delivered or skipped, 1 some not, 2 bad use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cdp-backfill {version('cdp-backfill')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Send mobile-app records from parquet, CSV and JSON files to the Customer.io Pipelines API."""


Sources = Annotated[
    list[str],
    typer.Argument(help="Parquet, CSV or JSON files, folders or globs."),
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--mapping", help="TOML file with a mapping; the options below replace parts."),
]
UserId = Annotated[str | None, typer.Option(help="Column of the user id. =TEXT for a constant.")]
AnonymousId = Annotated[str | None, typer.Option(help="Column of the anonymous id.")]
EventName = Annotated[
    str | None,
    typer.Option("--event", help="Column of the event, or ='Application Installed' for all."),
]
Timestamp = Annotated[str | None, typer.Option(help="Column of the time of the event.")]
Unit = Annotated[
    str | None, typer.Option("--timestamp-unit", help="Unit of epoch numbers: s, ms, us or ns.")
]
Zone = Annotated[
    str | None, typer.Option("--timezone", help="Zone of times without one; UTC if not given.")
]
MessageId = Annotated[
    str | None, typer.Option(help="Column of the message id; made of the content if not given.")
]
Properties = Annotated[
    list[str] | None,
    typer.Option("--property", help="NAME=COLUMN, such as version=app_version; repeatable."),
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", help="PATH=COLUMN, such as device.model=phone; repeatable."),
]
Events = Annotated[
    list[str] | None,
    typer.Option(
        "--translate",
        help="VALUE=EVENT, such as open='Application Opened'; repeatable. Any of them replaces "
        "all translations of a mapping file.",
    ),
]
OtherEvents = Annotated[
    str | None, typer.Option(help="Events that are neither: invalid (default), skip or send.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="Preset for a vendor's export, or the path of a copy; see 'presets'."),
]
Duplicates = Annotated[
    str | None,
    typer.Option(help="Rows with the message id of a row before: send (default) or skip."),
]
Rest = Annotated[
    str | None, typer.Option(help="Columns that nothing names: properties (default) or drop.")
]
Region = Annotated[str, typer.Option(help="Where the account lives: us or eu.")]
BaseUrl = Annotated[str | None, typer.Option(help="Address instead of the region's; ends in /v1.")]
Recent = Annotated[
    str, typer.Option(help="Rows younger than 72 hours can message people: raise, hold or send.")
]
Save = Annotated[
    Path | None,
    typer.Option(help="Folder for the report and, as parquet, the rows that did not arrive."),
]
Processes = Annotated[
    int, typer.Option(min=1, help="Processes that read, check and encode, for many cores.")
]
ShowProgress = Annotated[bool, typer.Option(help="Show how it is doing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command("demo")
def demo_command(
    *,
    rows: Annotated[int, typer.Option(min=1, help="Number of records.")] = sample_data.ROWS,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the records and the report; else nothing stays.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make records, send them to the sandbox, and check what arrived. Needs no account."""
    _run(lambda: 0 if demo.run(rows, keep, as_json=as_json) else 1, as_json=as_json)


@app.command("plan")
def plan_command(
    sources: Sources,
    *,
    mapping: MappingFile = None,
    user_id: UserId = None,
    anonymous_id: AnonymousId = None,
    event: EventName = None,
    timestamp: Timestamp = None,
    timestamp_unit: Unit = None,
    timezone: Zone = None,
    message_id: MessageId = None,
    properties: Properties = None,
    context: Context = None,
    translate: Events = None,
    other_events: OtherEvents = None,
    rest: Rest = None,
    duplicates: Duplicates = None,
    preset: Preset = None,
    region: Region = "us",
    base_url: BaseUrl = None,
    recent: Recent = "raise",
    save_mapping: Annotated[
        Path | None, typer.Option(help="Write the mapping to this TOML file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be sent, what not and why. Sends nothing and needs no key."""

    def work() -> int:
        chosen = _mapping(
            mapping,
            sources,
            preset,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=_tree("--property", properties),
            context=_tree("--context", context),
            events=_pairs("--translate", translate),
            other_events=other_events,
            rest=rest,
            duplicates=duplicates,
        )
        found = api.plan(
            sources,
            chosen,
            destination=Destination(region=region, base_url=base_url),  # type: ignore[arg-type]
            recent=recent,  # type: ignore[arg-type]  # checked there, with one clear error
        )
        if save_mapping:
            found.mapping.save(save_mapping)
        print(json.dumps(found.to_dict()) if as_json else found)
        if not found.proposal.complete:
            return 2
        if found.rows and not found.to_send and other_events is None and mapping is None:
            return 1  # nobody chose that nothing is sent
        return 0 if found.to_send + found.skipped == found.rows else 1

    _run(work, as_json=as_json)


@app.command("send")
def send_command(
    sources: Sources,
    *,
    mapping: MappingFile = None,
    user_id: UserId = None,
    anonymous_id: AnonymousId = None,
    event: EventName = None,
    timestamp: Timestamp = None,
    timestamp_unit: Unit = None,
    timezone: Zone = None,
    message_id: MessageId = None,
    properties: Properties = None,
    context: Context = None,
    translate: Events = None,
    other_events: OtherEvents = None,
    rest: Rest = None,
    duplicates: Duplicates = None,
    preset: Preset = None,
    region: Region = "us",
    base_url: BaseUrl = None,
    recent: Recent = "raise",
    rate_limit: Annotated[
        float, typer.Option(min=0.001, help="Requests per second.")
    ] = api_facts.REQUESTS_PER_SECOND,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Requests at a time; found by itself if not given.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="File that remembers what is delivered. Without it, one is named after source "
            "and server, except for a server on this machine."
        ),
    ] = None,
    no_journal: Annotated[bool, typer.Option("--no-journal", help="Remember nothing.")] = False,
    canary: Annotated[
        int | None, typer.Option(min=1, help="Send the first so many rows only, to look at them.")
    ] = None,
    processes: Processes = 1,
    save: Save = None,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Send every row as a track event. The API key comes from $CUSTOMERIO_CDP_API_KEY."""

    def work() -> Report:
        chosen = _mapping(
            mapping,
            sources,
            preset,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=_tree("--property", properties),
            context=_tree("--context", context),
            events=_pairs("--translate", translate),
            other_events=other_events,
            rest=rest,
            duplicates=duplicates,
        )
        return api.send(
            sources,
            chosen,
            destination=Destination(
                region=region,  # type: ignore[arg-type]  # checked there, with one clear error
                base_url=base_url,
                rate_limit=rate_limit,
                workers=workers,
            ),
            progress=progress,
            journal=False if no_journal else journal,
            canary=canary,
            processes=processes,
            recent=recent,  # type: ignore[arg-type]
        )

    chosen_so = other_events is not None or mapping is not None

    def code() -> int:
        return _sent(work, save, as_json=as_json, may_be_nothing=chosen_so)

    _run(code, as_json=as_json)


@app.command("resume")
def resume_command(
    journal: Annotated[Path, typer.Argument(help="The journal of the backfill.")],
    *,
    rate_limit: Annotated[
        float, typer.Option(min=0.001, help="Requests per second.")
    ] = api_facts.REQUESTS_PER_SECOND,
    recent: Recent = "raise",
    processes: Processes = 1,
    save: Save = None,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Go on with a backfill: send what is not known to be delivered."""

    def work() -> Report:
        destination = Destination(base_url=read_journal(journal).url, rate_limit=rate_limit)
        return api.resume(
            journal,
            destination=destination,
            progress=progress,
            processes=processes,
            recent=recent,  # type: ignore[arg-type]
        )

    _run(lambda: _sent(work, save, as_json=as_json), as_json=as_json)


@app.command("status")
def status_command(
    journal: Annotated[Path, typer.Argument(help="The journal of the backfill.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a journal knows: what is delivered, and how each run ended."""

    def work() -> int:
        about = read_journal(journal)
        if as_json:
            print(
                json.dumps(
                    {
                        "url": about.url,
                        "paths": about.paths,
                        "mapping": about.mapping.to_dict(),
                        "delivered": about.delivered,
                        "runs": [asdict(run) for run in about.runs],
                    }
                )
            )
            return 0
        runs: list[tuple[object, ...]] = [
            (run.started, run.ended or "never said", _listed(run.counts)) for run in about.runs
        ]
        reasons: list[tuple[object, ...]] = [
            (rows, name) for name, rows in (about.runs[-1].reasons if about.runs else {}).items()
        ]
        title = f"Journal {journal}: {about.delivered:,} rows are known to be delivered"
        sections = [
            Section(f"To {about.url}", (), [(path,) for path in about.paths or ["a table"]]),
            Section("Runs", ("began", "ended", "rows by outcome"), runs),
            Section("Not delivered by the last run", (), reasons),
        ]
        last = about.runs[-1] if about.runs else None
        unfinished = last is None or last.ended is None or last.counts.get(Outcome.UNSENT, 0)
        hint = [f"Go on with: cdp-backfill resume {journal}"] if unfinished else []
        print(View(title, sections, hint).text())
        return 0

    _run(work, as_json=as_json)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{rows:,} {name}" for name, rows in counts.items() if rows) or "?"


def _sent(
    work: Callable[[], Report], save: Path | None, *, as_json: bool, may_be_nothing: bool = True
) -> int:
    """Run a backfill, show and save its report, and give the exit code.

    SIGTERM ends it as Ctrl-C does; the process is the command's own.
    """
    terminated: list[int] = []

    def stop(number: int, _: object) -> None:
        terminated.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if save:  # rather now than after the run
        try:
            save.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise BadInputError(f"The report cannot be saved: {problem}.") from problem
    error: StoppedError | None = None
    try:
        report = work()
    except StoppedError as stopped:
        if stopped.report is None:
            raise
        report, error = stopped.report, stopped
    told = {"error": type(error).__name__, "message": str(error)} if error else {}
    print(json.dumps(report.to_dict() | told) if as_json else report)
    if save:
        report.save(save)
        _aside(f"The report and the rows that did not arrive are in {save}.")
    if error is not None:
        _aside(f"{type(error).__name__}: {error}")
        return 1
    if report.interrupted:
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)
    if report.canary is not None:  # what waits for the next run is no failure
        waiting = report.counts[Outcome.UNSENT] + report.counts[Outcome.DELIVERED]
        return 0 if waiting + report.counts[Outcome.SKIPPED] == report.rows else 1
    if report.rows == report.counts[Outcome.SKIPPED] > 0 and not may_be_nothing:
        return 1  # nobody chose that nothing is sent
    return 0 if report.ok else 1


@app.command("rehearse")
def rehearse_command(
    sources: Sources,
    *,
    mapping: MappingFile = None,
    user_id: UserId = None,
    anonymous_id: AnonymousId = None,
    event: EventName = None,
    timestamp: Timestamp = None,
    timestamp_unit: Unit = None,
    timezone: Zone = None,
    message_id: MessageId = None,
    properties: Properties = None,
    context: Context = None,
    translate: Events = None,
    other_events: OtherEvents = None,
    rest: Rest = None,
    duplicates: Duplicates = None,
    preset: Preset = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder for the sandbox's data and the report; else a new one here."),
    ] = None,
    latency: Annotated[float, typer.Option(help="Seconds before each answer.")] = 0.0,
    failing: Annotated[float, typer.Option(help="Share of requests answered 500 or 503.")] = 0.0,
    too_many: Annotated[float, typer.Option(help="Share of requests answered 429.")] = 0.0,
    reset_after: Annotated[
        float, typer.Option(help="Share of connections broken after it was taken.")
    ] = 0.0,
    progress: ShowProgress = True,
    as_json: AsJson = False,
) -> None:
    """Send everything to a sandbox of its own, and compare what arrived by event and day."""

    def work() -> int:
        chosen = _mapping(
            mapping,
            sources,
            preset,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=_tree("--property", properties),
            context=_tree("--context", context),
            events=_pairs("--translate", translate),
            other_events=other_events,
            rest=rest,
            duplicates=duplicates,
        )
        folder = keep or Path(f"rehearsal-{datetime.now():%Y%m%d-%H%M%S}")  # noqa: DTZ005
        if (folder / "box.db").exists():
            raise BadInputError(f"{folder} holds another rehearsal. Give another folder.")
        found = rehearse(
            sources,
            chosen,
            folder,
            progress=progress,
            latency=latency,
            failing=failing,
            too_many=too_many,
            reset_after=reset_after,
        )
        print(json.dumps(found.to_dict()) if as_json else found)
        nothing = found.report.rows and not found.plan.to_send and other_events is None
        return 0 if found.ok and not (nothing and mapping is None) else 1

    _run(work, as_json=as_json)


@app.command("presets")
def presets_command(
    name: Annotated[str | None, typer.Argument(help="Print this one, to be copied.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the presets for vendors' exports, or print one: cdp-backfill presets ga4 > mine.toml."""

    def work() -> int:
        if name:
            print(presets.load(name).text, end="")
            return 0
        found = [presets.load(each) for each in presets.names()]
        if as_json:
            print(json.dumps({preset.name: preset.title for preset in found}))
        else:
            rows: list[tuple[object, ...]] = [(preset.name, preset.title) for preset in found]
            hint = ["A plan proposes one by itself. Print one with: cdp-backfill presets NAME"]
            print(View("Presets", [Section("For the exports of", (), rows)], hint).text())
        return 0

    _run(work, as_json=as_json)


@app.command("sandbox")
def sandbox_command(
    *,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for a free one.")] = 8080,
    api_key: Annotated[str, typer.Option(help="The key that it takes.")] = "sandbox",
    store: Annotated[
        Path | None, typer.Option(help="SQLite file for what comes in; else it stays in memory.")
    ] = None,
    latency: Annotated[float, typer.Option(help="Seconds before each answer.")] = 0.0,
    jitter: Annotated[float, typer.Option(help="Seconds more, at random.")] = 0.0,
    too_many: Annotated[float, typer.Option(help="Share of requests answered 429.")] = 0.0,
    retry_after: Annotated[
        float | None, typer.Option(help="Seconds that these are told to wait.")
    ] = None,
    failing: Annotated[float, typer.Option(help="Share answered 500 or 503.")] = 0.0,
    reset_before: Annotated[float, typer.Option(help="Share broken before the body.")] = 0.0,
    reset_after: Annotated[float, typer.Option(help="Share broken after it was taken.")] = 0.0,
    stall: Annotated[float, typer.Option(help="Share that never gets an answer.")] = 0.0,
    silent: Annotated[float, typer.Option(help="Share answered 200 and dropped.")] = 0.0,
    refuse_user: Annotated[
        list[str] | None, typer.Option(help="User id that is refused; repeatable.")
    ] = None,
    rate_limit: Annotated[
        float | None, typer.Option(help="Requests per second; 429 beyond.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which requests the faults hit.")] = 0,
    name_bad: Annotated[
        bool, typer.Option(help="A 400 for a batch says which messages are bad (not documented).")
    ] = True,
    keep_rest: Annotated[
        bool,
        typer.Option(help="The good messages of a batch with bad ones are kept (not documented)."),
    ] = False,
) -> None:
    """Run the Pipelines API on this machine, to rehearse with."""

    def work() -> int:
        with sandbox(
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
        ) as box:
            print(f"The sandbox answers at {box.url}. Its API key is {api_key!r}.")
            print(f"Look at it: {box.page}")
            print(f"Send to it: cdp-backfill send ... --base-url {box.url}")
            print("Stop it with Ctrl-C.", flush=True)
            try:
                box.wait()
            except KeyboardInterrupt:
                print(f"\n{box.totals().to_string()}" if len(box.totals()) else "\nNothing came.")
        return 0

    _run(work)


def _mapping(path: Path | None, sources: list[str], preset: str | None, **given: Any) -> Mapping:
    """The mapping of a file or a preset, with what the options say in place of its own."""
    if path and preset:
        raise MappingError("Give --mapping or --preset, not both.")
    base = Mapping.load(path) if path else Mapping()
    if preset:
        base = presets.load(preset).fitted(list(open_source(sources).schema.names))
    values: dict[str, Any] = {
        name: lit(value[1:]) if isinstance(value, str) and value.startswith("=") else value
        for name, value in given.items()
        if value is not None
    }
    return replace(base, **values)


def _pairs(option: str, items: list[str] | None) -> dict[str, str] | None:
    if not items:
        return None
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (equals and name and value):
            raise MappingError(f"{option} takes NAME=VALUE, and {item!r} is not that.")
        pairs[name] = value
    return pairs


def _tree(option: str, items: list[str] | None) -> dict[str, Any] | None:
    pairs = _pairs(option, items)
    if pairs is None:
        return None
    tree: dict[str, Any] = {}
    for path, value in pairs.items():
        *branches, leaf = path.split(".")
        below = tree
        for branch in branches:
            below = below.setdefault(branch, {})
            if not isinstance(below, dict):
                raise MappingError(f"{option} {path!r} goes below a name that has a value itself.")
        below[leaf] = lit(value[1:]) if value.startswith("=") else value
    return tree


def _run(work: Callable[[], int], *, as_json: bool = False) -> NoReturn:
    """Do the work and end with its exit code; an error is one line, not a traceback."""
    try:
        code = work()
    except BackfillError as error:
        kind = type(error).__name__
        if as_json:
            print(json.dumps({"error": kind, "message": str(error)}))
        _aside(f"{kind}: {error}")
        code = 2 if isinstance(error, BadInputError) else 1
    raise typer.Exit(code)


def _aside(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run the command line."""
    app()
