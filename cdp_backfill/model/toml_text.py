"""Reads TOML that may come from somebody else: in bounded time, with one kind of error."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHARACTERS: Final = 16_777_216
"""Characters of a mapping or a preset as TOML; 20,000 columns take some 1,400,000."""

MAX_LEVELS: Final = 64
"""Levels of a mapping: names inside names."""

# Long texts and comments, in which nothing is a name; then dotted names, other texts and names.
# Nothing is tried twice, so that the time grows with the length of the text alone.
_TOKEN: Final = re.compile(
    r"""
    (?:"{3}(?:[^"\\]++|\\.|"(?!""))*+"{3,5} | '{3}(?:[^']++|'(?!''))*+'{3,5} | \#[^\n]*+)
    | (?P<dotted>(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)++)
    | [\w-]++ | "(?:[^"\\\n]|\\.)*+" | '[^'\n]*+'
    """,
    re.VERBOSE | re.DOTALL,
)


def read_toml(path: str | Path, what: str) -> str:
    """The text of a file.

    Args:
        path: The file.
        what: What it is, for errors, such as ``"mapping"``.

    Raises:
        MappingError: It cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise MappingError(f"The {what} {str(path)!r} cannot be read: {error}.") from error


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """The values in a TOML text.

    Args:
        text: The text.
        what: What it is, for errors, such as ``"mapping"``.

    Raises:
        MappingError: It is not TOML, or too long, or nested too deeply.

    >>> parse_toml("user_id = 'uid'", "mapping")
    {'user_id': 'uid'}
    """
    if len(text) > MAX_CHARACTERS:
        raise MappingError(
            f"The {what} has more than {MAX_CHARACTERS:,} characters. Check that it is the right "
            "file."
        )
    # The parser needs time that grows with the square of the parts of a dotted name.
    if any(each.count(".") > MAX_LEVELS for each in _dotted_names(text)):
        raise _too_deep(what)
    try:
        values = tomllib.loads(text)
    except RecursionError:
        values = None
    except ValueError as error:  # also a number of too many digits
        raise MappingError(f"The {what} is not valid TOML: {error}.") from error
    if values is None or _levels(values) > MAX_LEVELS:
        raise _too_deep(what)
    return values


def _dotted_names(text: str) -> Iterator[str]:
    return (match["dotted"] or "" for match in _TOKEN.finditer(text))


def _levels(values: Any) -> int:
    """The levels of nested dicts and lists. Without recursion, and no further than the limit."""
    level = [values]
    for depth in range(MAX_LEVELS + 1):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return depth
    return MAX_LEVELS + 1


def _too_deep(what: str) -> MappingError:
    return MappingError(
        f"The {what} is nested too deeply: more than {MAX_LEVELS} levels. Check that it is the "
        "right file."
    )
