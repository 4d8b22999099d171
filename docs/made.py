"""The parts of the pages that are made from the code: ``python -m docs.made`` renews them.

A page holds such a part between ``<!-- made: NAME -->`` and ``<!-- end -->``. A test holds the
pages against the code, so that they cannot go stale.
"""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import typer
from typer.core import TyperOption

import cdp_backfill as cdp
from cdp_backfill import errors
from cdp_backfill.cli import app
from cdp_backfill.emulator import request_body
from cdp_backfill.inference import column_names, presets
from cdp_backfill.messages import expression_limits, json_cells
from cdp_backfill.model import api_facts, arrow_types, outcomes, toml_text
from cdp_backfill.pipeline import plan_statistics
from cdp_backfill.results import histogram, reasons
from cdp_backfill.sources import (
    batch_sizes,
    chunks,
    columnar,
    depths,
    orc_footers,
    paths,
    unpacking,
)
from cdp_backfill.sources.texts import json_objects
from cdp_backfill.sources.texts import rows as text_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

HERE: Final = Path(__file__).parent

PART: Final = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

SOURCES: Final = {
    "S": "the vendor's page on mobile-app events",
    "D": "the vendor's other documentation",
    "K": "the vendor's open SDKs",
    "N": "the vendor's description of the API of 2026-09-17",
    "T": "the vendor's Track API",
    "?": "documented nowhere: a decision of this project",
}

_ELSEWHERE: Final = (
    *("EVENTS", "PROPERTIES", "CONTEXT", "REGIONS", "Kind", "Tree"),
    *("COMMANDS", "DEVICE_EVENTS", "ANY_NAME", "DEVICE_TYPES", "OS_NAMES", "SHORT_PATHS"),
)
"""Facts that have a table of their own, or none."""

_KINDS: Final[dict[type, str]] = {str: "TEXT", Path: "PATH", int: "NUMBER", float: "NUMBER"}


def pages() -> list[Path]:
    """The pages of the site, notebooks aside."""
    return sorted(path for path in HERE.rglob("*.md") if "notebooks" not in path.parts)


def renewed(text: str) -> str:
    """The text of a page with the parts that are made as they are now."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(header)
    lines = [names, ["---"] * len(names), *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _markdown(" ".join(text.split())).replace("|", "\\|")


def _markdown(text: str) -> str:
    """Docstrings mark code with two backticks and names with a role; Markdown with one."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def _code(value: object) -> str:
    return f"`{value}`"


def _documented(module: ModuleType, class_name: str | None = None) -> dict[str, str]:
    """The names that a module, or a class in it, assigns, with the docstring below each."""
    body = ast.parse(inspect.getsource(module)).body
    if class_name is not None:
        classes = (node for node in body if isinstance(node, ast.ClassDef))
        body = next(node for node in classes if node.name == class_name).body
    documented = {}
    for node, after in pairwise(body):
        target: Any = getattr(node, "target", None) or (getattr(node, "targets", None) or [None])[0]
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr):
            documented[target.id] = str(ast.literal_eval(after.value))
    return documented


def _outcomes() -> str:
    meanings = _documented(outcomes, "Outcome")
    return _table(
        ("outcome", "what it means", "nothing left to do"),
        (
            (_code(item), meanings[item.name], "yes" if item.settled else "no")
            for item in outcomes.OUTCOMES
        ),
    )


def _problems() -> str:
    return _table(
        ("`cdp_code`", "what to do"),
        ((_code(code), remedy) for code, remedy in outcomes.PROBLEMS.items()),
    )


def _fixes() -> str:
    return _table(
        ("code", "what was done"),
        ((_code(code), words) for code, words in outcomes.FIXES.items()),
    )


def _errors() -> str:
    raised = [
        item
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, cdp.BackfillError) and name[0] != "_"
    ]

    def parent(item: type[BaseException]) -> str:
        bases = [base for base in item.__mro__[1:] if base.__name__[0] != "_"]
        return bases[0].__name__

    return _table(
        ("error", "is a", "raised when"),
        (
            (_code(item.__name__), _code(parent(item)), inspect.getdoc(item) or "")
            for item in raised
        ),
    )


def _limits() -> str:
    rows = []
    for name, text in _documented(api_facts).items():
        value = getattr(api_facts, name)
        if name in _ELSEWHERE:
            continue
        said = re.findall(r"\[([SDKNT?])\]", text)
        words = re.sub(r"\s*\[[SDKNT?]\]", "", text)
        rows.append((_code(name), _shown(value), words, _from(said)))
    return _table(("name in `api_facts.py`", "value", "what it is", "from"), rows)


def _input_limits() -> str:
    rows = [
        (what, f"{getattr(module, name):,} {unit}", then)
        for module, name, what, unit, then in INPUT_LIMITS
    ]
    return _table(("what", "limit", "beyond it"), rows)


def _from(said: list[str]) -> str:
    if len(said) > 1 and said[-1] == "?":
        return "; ".join([*(SOURCES[letter] for letter in said[:-1]), "the reading is ours"])
    return "; ".join(SOURCES[letter] for letter in said)


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,.0f}"
    if isinstance(value, tuple):
        return ", ".join(map(_code, value))
    return _code(value)


def _reserved() -> str:
    return "\n".join(f"- `{name}`" for name in api_facts.COMMANDS)


def _spellings() -> str:
    means: dict[str, list[str]] = {}
    for path, spellings in (
        ("context.device.type", api_facts.DEVICE_TYPES),
        ("context.os.name", api_facts.OS_NAMES),
    ):
        for letters, value in spellings.items():
            means.setdefault(f"| `{path}` | `{value}` | ", []).append(_code(letters))
    rows = [f"{start}{', '.join(letters)} |" for start, letters in means.items()]
    return "\n".join(["| name | sent as | for the letters |", "| --- | --- | --- |", *rows])


def _regions() -> str:
    return _table(
        ("region", "address"),
        ((_code(name), _code(url)) for name, url in api_facts.REGIONS.items()),
    )


def _events() -> str:
    return _table(
        ("event", "documented properties"),
        (
            (event, ", ".join(f"`{name}` ({kind})" for name, kind in tree.items()) or "none")
            for event, tree in api_facts.EVENTS.items()
        ),
    )


def _context() -> str:
    rows = []
    for name, kind in api_facts.CONTEXT.items():
        if isinstance(kind, dict):
            rows += [(f"`{name}.{inner}`", str(below)) for inner, below in kind.items()]
        else:
            rows.append((_code(name), kind))
    return _table(("name", "kind of value"), rows)


def _presets() -> str:
    parts = []
    for preset in map(presets.load, presets.names()):
        facts = "\n".join(f"- {fact}" for fact in preset.facts)
        parts.append(f"## {preset.name}\n\n{preset.title}.\n\n{facts}")
    return "\n\n".join(parts)


def _commands() -> str:
    group: Any = typer.main.get_command(app.app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    taken = [each for each in command.params if not isinstance(each, TyperOption)]
    options = [each for each in command.params if isinstance(each, TyperOption)]
    words = [_argument(each) for each in taken]
    usage = " ".join(["cdp-backfill", name, *words, *(["[OPTIONS]"] if options else [])])
    parts = [f"### {name}", f"```text\n{usage}\n```", " ".join(command.help.split())]
    if taken:
        rows = [(_code(word), str(each.help)) for word, each in zip(words, taken, strict=True)]
        parts.append(_table(("argument", "what it is"), rows))
    if options:
        described = ((_option(each), str(each.help), _default(each)) for each in options)
        parts.append(_table(("option", "what it does", "default"), described))
    return "\n\n".join(parts)


def _argument(argument: Any) -> str:
    word = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _option(option: Any) -> str:
    names = ", ".join(map(_code, [*option.opts, *option.secondary_opts]))
    if option.is_flag:
        return names
    kind = option.type_descriptor.annotation
    kind = next(iter(get_args(kind)), kind)  # of a list, that of its items
    return f"{names} {_KINDS[kind]}"


def _default(option: Any) -> str:
    if option.is_flag:
        return "on" if option.default else "off"
    return "" if option.default is None else _code(option.default)


INPUT_LIMITS: Final[tuple[tuple[ModuleType, str, str, str, str], ...]] = (
    (chunks, "MAX_COLUMNS", "columns of a table, or keys of all objects", "columns", "an error"),
    (depths, "MAX_FIELDS", "fields of all columns, those inside objects included", "fields",
     "an error"),
    (column_names, "MAX_NAME", "name of a column whose words a proposal reads", "characters",
     "its beginning and its end are read"),
    (paths, "MAX_FILES", "files of a run, or of an archive", "files", "an error"),
    (arrow_types, "MAX_DEPTH", "nesting of a type, or of a cell of a DataFrame", "levels",
     "an error"),
    (arrow_types, "MAX_DEPTH", "nesting of JSON in a cell", "levels",
     "the cell stays text (`not_json`)"),
    (json_cells, "MAX_JSON_CELL", "JSON in a cell", "characters", "the cell stays text"),
    (json_cells, "MAX_CELLS", "names in JSON, times rows of a chunk", "cells",
     "fewer rows are read at a time"),
    (json_objects, "MAX_OBJECT_BYTES", "object or line of a JSON file", "bytes", "an error"),
    (columnar, "MAX_ROW_BYTES", "row of a parquet file, on average of a row group", "bytes",
     "an error"),
    (batch_sizes, "MAX_BATCH_BYTES", "compressed record batch of an Arrow file, unpacked", "bytes",
     "an error"),
    (text_rows, "MAX_ROW_BYTES", "row of a CSV file, such as one whose quote is never closed",
     "bytes",
     "an error with the number of the line"),
    (unpacking, "BLOCK_BYTES", "header of a CSV file", "bytes", "an error"),
    (unpacking, "MAX_LAYERS", "compressions of a file, one inside the other", "layers", "an error"),
    (unpacking, "RANDOM_BYTES",
     "parquet, Arrow or ORC file that is packed as a whole or in an archive, unpacked", "bytes",
     "an error with the command that unpacks it"),
    (plan_statistics, "MAX_EVENT_NAMES", "event names that a plan counts each for itself", "names",
     "further ones are counted together"),
    (reasons, "MAX_REASONS", "reasons that a report counts each for itself", "reasons",
     "further ones are counted by code; the failures have each in full"),
    (histogram, "MAX_EVENTS", "events in the plot of a report", "events",
     "further ones are shown together"),
    (toml_text, "MAX_CHARACTERS", "mapping or preset in TOML", "characters", "an error"),
    (toml_text, "MAX_LEVELS", "nesting of a mapping or a preset in TOML", "levels", "an error"),
    (expression_limits, "MAX_LENGTH", "expression of `derive`", "characters", "an error"),
    (expression_limits, "MAX_REPLACEMENT", "text that `replace` and `regexp_replace` put in",
     "characters", "an error"),
    (expression_limits, "MAX_LAYERS", "columns of `derive` of which each uses the one before",
     "columns", "an error"),
    (expression_limits, "MAX_USES",
     "uses of columns by an expression, through all derived columns that it uses", "uses",
     "an error that names the column"),
    (expression_limits, "MAX_LAMBDAS", "lambdas of an expression, one inside the other", "levels",
     "an error"),
    (expression_limits, "MAX_SIZE",
     "size that an expression fills up to, as in `lpad(id, 10, '0')`", "characters or items",
     "an error"),
    (expression_limits, "MAX_MEMORY",
     "what the expressions of `derive` make of some rows, and of one row alone", "bytes",
     "fewer rows are computed at a time; a row alone is invalid (`derive_failed`)"),
    (orc_footers, "MAX_FOOTER_BYTES", "footer of an ORC file, unpacked", "bytes", "an error"),
    (request_body, "MAX_BODY_BYTES", "body of a request to the sandbox, unpacked", "bytes",
     "the answer is 413"),
)  # fmt: skip
"""Limits of what is read: module, constant, what it limits, its unit, and what happens beyond."""

PARTS: Final[dict[str, Callable[[], str]]] = {
    "outcomes": _outcomes,
    "problems": _problems,
    "fixes": _fixes,
    "errors": _errors,
    "limits": _limits,
    "input-limits": _input_limits,
    "regions": _regions,
    "reserved": _reserved,
    "spellings": _spellings,
    "events": _events,
    "context": _context,
    "presets": _presets,
    "commands": _commands,
}
"""What can be made, by the name that pages use."""


def main() -> None:
    """Renew the parts of all pages."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"Renewed {path.relative_to(HERE.parent)}.")


if __name__ == "__main__":
    main()
