"""The command line: the program cdp-backfill and its commands."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from cdp_backfill.cli import backfill_commands, sandbox_commands
from cdp_backfill.errors import BackfillError
from cdp_backfill.model.environment import package_version
from cdp_backfill.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_CODES: Final = (
    "Exit codes: 0 all is as wanted, 1 rows are missing, 2 wrong usage, 3 the run stopped, "
    "4 the API key is missing or wrong; 130 and 143 after Ctrl-C and SIGTERM."
)


@contextlib.contextmanager
def _safe_words() -> Iterator[None]:
    """Escape what steers a terminal in errors about options, which quote them as they are.

    A shell may have put the names of files of somebody else in place of ``*``.
    """
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if isinstance(message, str) and not isinstance(error, BackfillError):
            vars(error)["message"] = printable(message)
        raise


class _Commands(TyperGroup):
    """The commands, whose errors about options are safe to show."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _safe_words():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _safe_words():
            return super().invoke(ctx)


app = typer.Typer(
    name="cdp-backfill",
    cls=_Commands,
    help="Send mobile-app records from files to the Customer.io Pipelines API.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"cdp-backfill {package_version()}")
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
app.command("plan", epilog=EXIT_CODES)(backfill_commands.plan)
app.command("send", epilog=EXIT_CODES)(backfill_commands.send)
app.command("resume", epilog=EXIT_CODES)(backfill_commands.resume)
app.command("status")(backfill_commands.status)
app.command("rehearse", epilog=EXIT_CODES)(sandbox_commands.rehearse)
app.command("presets")(sandbox_commands.presets)
app.command("sandbox")(sandbox_commands.sandbox)


def main() -> None:
    """Run the command line."""
    app()
