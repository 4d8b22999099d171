"""The options of the command line, each declared once."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from cdp_backfill.errors import MappingError
from cdp_backfill.model.mapping import Mapping, key, lit

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO_ROWS: Final = 200_000

Sources = Annotated[
    list[str], typer.Argument(help="Parquet, CSV, JSON, Arrow or ORC files, folders or globs.")
]
JournalFile = Annotated[Path, typer.Argument(help="The journal of the backfill.")]
Region = Annotated[str, typer.Option(help="Region of the account: us or eu.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="Address that replaces the region's; ends in /v1.")
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Allow an address of another machine that begins with http://: the key and all rows "
        "go there unencrypted.",
    ),
]
Recent = Annotated[
    str,
    typer.Option(
        help="What to do with rows younger than 72 hours, which can trigger messages to people: "
        "raise (send nothing), hold or send."
    ),
]
RememberedRecent = Annotated[
    str | None,
    typer.Option(
        "--recent",
        help="What to do with rows younger than 72 hours: raise, hold or send; by default as the "
        "journal remembers.",
    ),
]
Unreadable = Annotated[
    str,
    typer.Option(
        help="What to do with rows of CSV and JSON files that cannot be read, such as cut lines: "
        "raise (stop at the first of them) or skip (go on, and report each as invalid)."
    ),
]
Identify = Annotated[
    str | None,
    typer.Option(
        help="Join anonymous ids to user ids before the events are sent: a column with the user "
        "id, or else a file of anonymous ids and user ids, whose other columns become traits."
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="SQL expression over a row, such as \"country = 'DE'\"; rows for which it is not true "
        "are skipped."
    ),
]
Exclude = Annotated[
    Path | None,
    typer.Option(
        help="File of ids of people who must not go, one a line or a table; rows with one of them "
        "as user id or anonymous id are skipped."
    ),
]
RateLimit = Annotated[
    float,
    typer.Option(
        min=0.001,
        help="Requests per second; the default leaves half of the limit to live traffic.",
    ),
]
Patience = Annotated[
    float,
    typer.Option(min=0.001, help="Seconds for which a run waits for a server that is away."),
]
Save = Annotated[
    Path | None,
    typer.Option(help="Folder for the report and, as parquet, the rows that did not arrive."),
]
Outcomes = Annotated[
    Path | None,
    typer.Option(
        help="Folder to which the run adds the outcome and the message id of every row, as tables "
        "of parquet files."
    ),
]
Processes = Annotated[
    int, typer.Option(min=1, help="Number of processes that read, check and encode.")
]
ShowProgress = Annotated[bool, typer.Option(help="Show progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Samples = Annotated[
    bool | None,
    typer.Option(
        "--samples/--no-samples",
        help="Show cells of the table on standard output; by default only on a terminal.",
    ),
]
Log = Annotated[
    bool | None,
    typer.Option(
        "--log/--no-log",
        help="Write lines with time and level to standard error; by default where it is no "
        "terminal.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        help="Outcomes or codes of rows that may be missing, such as invalid,http_400, without "
        "exit code 1; repeatable."
    ),
]
Latency = Annotated[float, typer.Option(help="Seconds before each answer.")]
Failing = Annotated[float, typer.Option(help="Share of requests answered 500 or 503, 0 to 1.")]
TooMany = Annotated[float, typer.Option(help="Share of requests answered 429, 0 to 1.")]
ResetAfter = Annotated[
    float, typer.Option(help="Share of connections broken after acceptance, 0 to 1.")
]


@dataclass(frozen=True, kw_only=True)
class MappingOptions:
    """The options that make a mapping. The names of the fields are those of the options."""

    mapping: Annotated[
        Path | None,
        typer.Option(help="TOML file with a mapping; the options below replace parts of it."),
    ] = None
    user_id: Annotated[
        str | None, typer.Option(help="Column of the user id; =TEXT for a constant.")
    ] = None
    anonymous_id: Annotated[str | None, typer.Option(help="Column of the anonymous id.")] = None
    event: Annotated[
        str | None,
        typer.Option(help="Column of the event, or ='Application Installed' for all rows."),
    ] = None
    timestamp: Annotated[str | None, typer.Option(help="Column of the time of the event.")] = None
    timestamp_unit: Annotated[
        str | None, typer.Option(help="Unit of epoch numbers: s, ms, us or ns.")
    ] = None
    timezone: Annotated[
        str | None, typer.Option(help="Time zone of times that carry none; UTC by default.")
    ] = None
    date_order: Annotated[
        str | None,
        typer.Option(help="Order of dates such as 15.09.2023 and 9/15/23: DMY, MDY or YMD."),
    ] = None
    nonexistent: Annotated[
        str | None,
        typer.Option(
            help="What to do with local times that the time zone skipped: invalid (default) or "
            "shift_forward."
        ),
    ] = None
    ambiguous: Annotated[
        str | None,
        typer.Option(
            help="What to do with local times that the time zone had twice: invalid (default), "
            "earliest or latest."
        ),
    ] = None
    message_id: Annotated[
        str | None,
        typer.Option(help="Column of the message id; made from the content by default."),
    ] = None
    key: Annotated[
        list[str] | None,
        typer.Option(help="Column that message ids are made from; repeatable."),
    ] = None
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", help="NAME=COLUMN, such as version=app_version; repeatable."),
    ] = None
    context: Annotated[
        list[str] | None,
        typer.Option(help="PATH=COLUMN, such as device.model=phone; repeatable."),
    ] = None
    translate: Annotated[
        list[str] | None,
        typer.Option(
            help="VALUE=EVENT, such as open='Application Opened'; repeatable. The first one "
            "replaces all translations of a mapping file.",
        ),
    ] = None
    other_events: Annotated[
        str | None,
        typer.Option(help="What to do with other events: invalid (default), skip or send."),
    ] = None
    allow_command: Annotated[
        list[str] | None,
        typer.Option(
            help="Event that deletes or changes people, devices or objects, such as "
            "'User Deleted', and is to be sent all the same; repeatable."
        ),
    ] = None
    rest: Annotated[
        str | None,
        typer.Option(
            help="What becomes of unnamed columns: properties (default; of all but personal "
            "data), all or drop."
        ),
    ] = None
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; repeatable.")] = None
    rename: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=NAME of the property that it becomes; repeatable."),
    ] = None
    derive: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SQL, a new column from the columns of the same row, such as "
            "uid='lower(email)'; repeatable."
        ),
    ] = None
    expand: Annotated[
        list[str] | None,
        typer.Option(
            help="Column whose parts become properties under their own names; repeatable."
        ),
    ] = None
    json_column: Annotated[
        list[str] | None,
        typer.Option(help="Column of text that holds JSON, sent as its value; repeatable."),
    ] = None
    null: Annotated[
        list[str] | None,
        typer.Option(help="Text that means an empty cell in every column; repeatable."),
    ] = None
    earliest: Annotated[
        str | None,
        typer.Option(help="Day before which rows are invalid; 2008-07-10 by default."),
    ] = None
    oversize: Annotated[
        str | None,
        typer.Option(
            help="What to do with a message over 32 KB: invalid (default) or drop_largest, which "
            "drops columns of --droppable until it fits."
        ),
    ] = None
    droppable: Annotated[
        list[str] | None,
        typer.Option(help="Column that --oversize drop_largest may drop; repeatable."),
    ] = None
    integration: Annotated[
        list[str] | None,
        typer.Option(help="NAME=true, NAME=false or NAME=COLUMN, such as All=false; repeatable."),
    ] = None
    duplicates: Annotated[
        str | None,
        typer.Option(
            help="What to do with rows that have the message id of an earlier row: send (default) "
            "or skip."
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(help="Preset for a vendor's export, or the path of a copy; see 'presets'."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of :func:`cdp_backfill.plan` that the options stand for.

        Raises:
            MappingError: An option is malformed, or two of them exclude each other.
        """
        if self.mapping and self.preset:
            raise MappingError("Give either --mapping or --preset, not both.")
        values: dict[str, Any] = {
            "mapping": Mapping.load(self.mapping) if self.mapping else None,
            "preset": self.preset,
            "user_id": _field(self.user_id),
            "anonymous_id": _field(self.anonymous_id),
            "event": _field(self.event),
            "timestamp": _field(self.timestamp),
            "timestamp_unit": self.timestamp_unit,
            "date_order": self.date_order,
            "timezone": self.timezone,
            "nonexistent": self.nonexistent,
            "ambiguous": self.ambiguous,
            "message_id": _message_id(self.message_id, self.key),
            "properties": _tree("--property", self.properties),
            "context": _tree("--context", self.context),
            "events": _pairs("--translate", self.translate),
            "other_events": self.other_events,
            "allow_commands": self.allow_command or None,
            "rest": self.rest,
            "drop": self.drop or None,
            "rename": _pairs("--rename", self.rename),
            "derive": _pairs("--derive", self.derive),
            "expand": self.expand or None,
            "json": self.json_column or None,
            "nulls": self.null or None,
            "earliest": self.earliest,
            "oversize": self.oversize,
            "droppable": self.droppable or None,
            "integrations": _integrations(self.integration),
            "duplicates": self.duplicates,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def may_send_nothing(self) -> bool:
        """Whether the user has decided what becomes of other events, so that none may be left."""
        return self.other_events is not None or self.mapping is not None


def chooses(where: str | None, exclude: Path | None) -> bool:
    """Whether the user has chosen rows, so that none may be left."""
    return where is not None or exclude is not None


def with_mapping_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all mapping options, and pass them to it as ``options``.

    Typer reads the options from the signature: that of the command, in which the parameter
    ``options`` is replaced by one parameter for each field of :class:`MappingOptions`.
    """
    hints = get_type_hints(MappingOptions, include_extras=True)
    names = [field.name for field in fields(MappingOptions)]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != "options":
            parameters.append(parameter)
            continue
        parameters.extend(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(MappingOptions)
        )

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        options = MappingOptions(**{name: values.pop(name) for name in names})
        command(options=options, **values)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {item.name: item.annotation for item in parameters}
    return with_options


def _field(text: str | None) -> Any:
    """A column, or a constant where the text begins with an equals sign."""
    return lit(text[1:]) if text is not None and text.startswith("=") else text


def _message_id(column: str | None, columns: list[str] | None) -> Any:
    if column is not None and columns:
        raise MappingError("Give either --message-id or --key, not both.")
    return key(*columns) if columns else _field(column)


def _pairs(option: str, items: list[str] | None) -> dict[str, str] | None:
    if not items:
        return None
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (equals and name and value):
            raise MappingError(f"{option} takes NAME=VALUE, not {item!r}.")
        pairs[name] = value
    return pairs


def _integrations(items: list[str] | None) -> dict[str, Any] | None:
    pairs = _pairs("--integration", items)
    if pairs is None:
        return None
    flags = {"true": True, "false": False}
    return {name: flags.get(value.lower(), value) for name, value in pairs.items()}


def _tree(option: str, items: list[str] | None) -> dict[str, Any] | None:
    pairs = _pairs(option, items)
    if pairs is None:
        return None
    tree: dict[str, Any] = {}
    for path, value in pairs.items():
        *branches, leaf = path.split(".")
        branch = tree
        for name in branches:
            branch = branch.setdefault(name, {})
            if not isinstance(branch, dict):
                raise MappingError(
                    f"{option} {path!r} lies below a name that has a value of its own. Give only "
                    "one of the two."
                )
        branch[leaf] = _field(value)
    return tree
