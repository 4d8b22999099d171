"""Says in the words of the command line what the package says in those of Python."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from dataclasses import fields
from typing import Any, Final, get_type_hints

from cdp_backfill.cli.options import MappingOptions
from cdp_backfill.model.mapping import Mapping

_PHRASES: Final = {
    "print(plan.mapping) shows it as Python to edit and pass back; "
    "plan.mapping.save('mapping.toml') keeps it": "--save-mapping mapping.toml writes it to a file "
    "to edit, and --mapping mapping.toml passes it back",
    "report.failures has the rows, each with its reason. report.by_reason() shows what to do about "
    "each reason": "--save FOLDER writes these rows to failures.parquet, each with its reason",
    "report.identities.failures has them": "--save FOLDER writes them to "
    "identities/failures.parquet",
    ", or in Python call cdp_backfill.configure() or pass destination=Destination(api_key=...)": "",
    ", then send the failures with destination=Destination(api_key=...)": ", then run the same "
    "command again",
    "Nothing to repair: report.retry() sends them again; their message ids stay": "Nothing to "
    "repair: run the same command again, with the same journal; their message ids stay",
    "Nothing to repair: report.retry() sends": "Nothing to repair: run the same command again, "
    "with the same journal; it sends",
    "send again without canary, and with the same journal": "send again without --canary, and with "
    "the same journal",
    "send again without canary and with": "send again without --canary and with",
    "Call send() again with this journal": "Run cdp-backfill send again with this journal",
    "Go on with cdp.resume(journal)": "Go on with cdp-backfill resume JOURNAL",
    "or send the failures in three days": "or run the same command in three days",
    "repair that in the failures": "repair these rows",
    "Pass a path in a writable folder, or journal=False for no journal": "Pass --journal with a "
    "path in a writable folder, or --no-journal",
    "Pass a path, or journal=False for no journal": "Pass a path, or --no-journal",
    "exclude=[] leaves nobody out": "--exclude with an empty file leaves nobody out",
    "To name ids, pass a list: exclude=['...']": "To name ids, write them to a file, one a line",
    "Pass the table: resume(journal, df)": "Only Python can resume it: cdp.resume(journal, df)",
    "Name the destination, as in .cdp.send(destination=...)": "Name the destination, with --region "
    "or --base-url",
    "Check region and base_url": "Check --region and --base-url",
    "A longer patience= of the destination lets": "A longer --patience lets",
    "or a constant such as lit('...')": "or a constant such as '=...'",
    ", or pass a constant with lit()": ", or pass a constant, as in --event '=Application Opened'",
    "and pass user_id=, event= and timestamp= with these names": "and pass --user-id, --event and "
    "--timestamp with these names",
    "name further columns in key()": "name further columns with --key",
    "Shorten or drop the column, or name it": "Shorten or drop the column (--drop), or name it",
    "Pass a mapping with mapping=cdp.Mapping.load('report/mapping.toml'), which "
    "report.save('report') writes, or mapping=plan.mapping": "Pass --mapping report/mapping.toml, "
    "which --save report writes",
}
"""Sentences that say something else on the command line."""

_CONSTANT: Final = re.compile(r"For a constant, pass (?:cdp\.)?lit\(([^()]*)\)")
_RESUME: Final = re.compile(r"call (?:cdp\.)?resume\(([^()]*)\)")

_OTHERS: Final = {
    "region": "--region",
    "base_url": "--base-url",
    "insecure": "--insecure",
    "rate_limit": "--rate-limit",
    "patience": "--patience",
    "workers": "--workers",
    "journal": "--journal",
    "canary": "--canary",
    "processes": "--processes",
    "recent": "--recent",
    "identify": "--identify",
    "where": "--where",
    "exclude": "--exclude",
    "allow": "--allow",
    "outcomes": "--outcomes",
    "unreadable": "--unreadable",
    "progress": "--progress",
    "api_key": "$CUSTOMERIO_CDP_API_KEY",
}
"""Options for arguments of functions that are no fields of a mapping."""

_ALIASES: Final = {
    "events": "translate",
    "allow_commands": "allow_command",
    "json": "json_column",
    "nulls": "null",
    "integrations": "integration",
}
"""Fields of a mapping whose options have other names."""

_ARGUMENTS: Final = r"\((?:'[^']*'|\"[^\"]*\"|[^()'\"])*\)"
_CALL: Final = r"\((?:[^()]|\([^()]*\))*\)"
_VALUE: Final = (
    rf"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{{[^}}]*\}}|(?:cdp\.)?(?:lit|key){_ARGUMENTS}"
    rf"|[\w/.]*\w(?:{_CALL})?|"
)


@functools.cache
def options() -> dict[str, str]:
    """The option for each argument of Python that has one."""
    hints = get_type_hints(MappingOptions, include_extras=True)
    named = {}
    for item in fields(MappingOptions):
        option = hints[item.name].__metadata__[0]
        # In an annotation, the first name stands where a default would.
        declared = [each for each in (option.default, *(option.param_decls or ())) if each]
        default = f"--{item.name.replace('_', '-')}"
        named[item.name] = next((str(e) for e in declared if str(e).startswith("--")), default)
    aliased = {name: named[option] for name, option in _ALIASES.items() if option in named}
    return _OTHERS | named | aliased


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    names = {*options(), *(item.name for item in fields(Mapping))}
    ordered = sorted(names, key=len, reverse=True)
    assigned = re.compile(rf"(?<![\w.'\"/\\-])({'|'.join(ordered)})=({_VALUE})")
    # Names of one word are words of English, too.
    long = "|".join(name for name in ordered if "_" in name)
    word = rf"(?:{long})(?![\w'\"=(/]|\.\w)|(?:{'|'.join(ordered)})(?= must be )"
    bare = re.compile(rf"(?<![\w.'\"$/-])({word})")
    return assigned, bare


def in_options(sentence: str) -> str:
    """A sentence with options instead of arguments, quoted for a shell.

    >>> in_options("Pass user_id='...', or timezone='Europe/Berlin'.")
    'Pass --user-id ..., or --timezone Europe/Berlin.'
    >>> in_options("event=lit('Application Installed')")
    "--event '=Application Installed'"
    """
    for python, words in _PHRASES.items():
        sentence = sentence.replace(python, words)
    sentence = _CONSTANT.sub(
        lambda found: f"For a constant, write {_quoted('=' + _literal(found[1]))}", sentence
    )
    sentence = _RESUME.sub(
        lambda found: f"type: cdp-backfill resume {_quoted(_literal(found[1]))}", sentence
    )
    assigned, bare = _patterns()
    sentence = assigned.sub(lambda found: _option(found[1], found[2]), sentence)
    return bare.sub(lambda found: options().get(found[1], found[1]), sentence)


def _option(name: str, value: str) -> str:
    option = options().get(name)
    if option is None:
        return (
            f"{name} = {value} in the file of --mapping"
            if value
            else f"{name} in the file of --mapping"
        )
    if value.removeprefix("cdp.").startswith("key("):
        option, value = (
            options()["key"],
            value[value.index("(") :].replace("(", "[").replace(")", "]"),
        )
    items = _items(value)
    if items is None:
        return f"no {option}"
    return " ".join(f"{option} {_quoted(item)}".rstrip() for item in items)


def _items(value: str) -> list[str] | None:
    """The values of an option, which is repeated for each; None for an empty list."""
    inner = re.fullmatch(r"(?:cdp\.)?lit\((.*)\)", value)
    if inner:
        return [f"={_literal(inner[1])}"]
    try:
        parsed: Any = ast.literal_eval(value) if value else ""
    except (ValueError, SyntaxError):
        return [value]
    if parsed is True:
        return [""]  # a flag
    if parsed is ... or parsed in ([...], {...}):
        return ["..."]
    if isinstance(parsed, list | tuple):
        return [str(item) for item in parsed] or None
    if isinstance(parsed, dict):
        return [f"{name}={item}" for name, item in parsed.items()]
    return [str(parsed)]


def _literal(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _quoted(text: str) -> str:
    """A value for a shell; dots stand for what is left to the reader."""
    if not text or re.fullmatch(r"=?[\w.,:/@%+=-]*", text):
        return text
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\!') else shlex.quote(text)
