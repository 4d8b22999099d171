"""The command line: the program cdp-backfill and its commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from cdp_backfill.cli import backfill_commands, sandbox_commands

app = typer.Typer(
    name="cdp-backfill",
    help="Send mobile-app records from files to the Customer.io Pipelines API.",
    epilog="Exit codes: 0 all rows delivered or skipped, 1 some rows not, 2 wrong usage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"cdp-backfill {version('cdp-backfill')}")
        raise typer.Exit


@app.callback()
def _program(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Send mobile-app records from parquet, CSV and JSON files to the Customer.io Pipelines API."""


app.command("demo")(sandbox_commands.demo)
app.command("plan")(backfill_commands.plan)
app.command("send")(backfill_commands.send)
app.command("resume")(backfill_commands.resume)
app.command("status")(backfill_commands.status)
app.command("rehearse")(sandbox_commands.rehearse)
app.command("presets")(sandbox_commands.presets)
app.command("sandbox")(sandbox_commands.sandbox)


def main() -> None:
    """Run the command line."""
    app()
