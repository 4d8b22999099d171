"""Refuses SQL expressions that can end the process, or that want memory or time without a bound."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from cdp_backfill.errors import MappingError

MAX_LENGTH: Final = 65_536
"""Characters of an expression."""

MAX_MEMORY: Final = 512 * 2**20
"""Bytes that DuckDB may use for what expressions make of some rows. Where it needs more, it gets
fewer rows; the expression of a row that needs more alone fails, as at any other bad cell."""

MAX_LAYERS: Final = 100
"""Derived columns of which each uses the one before."""

MAX_LAMBDAS: Final = 8
"""Lambdas one inside the other: each level doubles the time that DuckDB takes to understand it."""

MAX_SIZE: Final = 10_000
"""Characters or items that a function is asked to fill up to."""

_UNSAFE: Final = (
    *("__internal", "variant_", "json_contains", "json_pretty", "finalize", "combine"),
    *("json_serialize_", "json_deserialize_", "__"),
)
"""Beginnings of functions that can end the process on some cells, or take hours.

DuckDB's tests of deep JSON cells did not cover them: they recurse once for each level, or write a
line for each. Internal functions trust their arguments."""

_DISTANCES: Final = ("levenshtein", "editdist3", "damerau_levenshtein", "jaro_")
"""Beginnings of functions whose time, or memory, grows with the square of a cell."""

MAX_USES: Final = 10_000
"""Uses of columns by an expression, through all derived columns that it uses: a column that uses
another one twice can be twice as large."""

UNSAFE_TYPES: Final = ("VARIANT", "AGGREGATE_STATE")
"""Types on which DuckDB ends the process at some cells."""

_COMPARISONS: Final = frozenset(
    {"=", "==", "!=", "<>", "<", ">", "<=", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"}
)
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)

_SIZES: Final = {
    "lpad": 1,
    "rpad": 1,
    "list_resize": 1,
    "array_resize": 1,
    "bitstring": 1,
    "bar": 3,
}
"""The place of the argument that says how large the result is."""

MAX_REPLACEMENT: Final = 1_000
"""Characters that a function puts in for each place that it finds."""

_REPLACING: Final = frozenset({"replace", "regexp_replace"})

_LONG_FORMAT: Final = re.compile(r"\d{5}|\*|\{[^}]*\{")
"""A format with a width of five digits, or with one from a cell."""

_SCHEMAS: Final = frozenset(
    {"from_json", "from_json_strict", "json_transform", "json_transform_strict"}
)


def check_length(title: str, expression: str) -> None:
    """Refuse an expression that takes long to parse.

    Raises:
        MappingError: It is too long.
    """
    if len(expression) > MAX_LENGTH:
        raise MappingError(
            f"{title} has {len(expression):,} characters. The limit is {MAX_LENGTH:,}."
        )


def check_type(title: str, kind: str) -> None:
    """Refuse a type on which some cells end the process.

    Args:
        title: The expression in errors, such as ``derive['x']``.
        kind: The type, as SQL writes it.

    Raises:
        MappingError: It is such a type, or has one inside.
    """
    for unsafe in UNSAFE_TYPES:
        if unsafe in kind.upper():
            raise MappingError(
                f"{title} uses the type {unsafe}, on which some cells end the process. "
                "Use JSON or a STRUCT."
            )


def check_function(title: str, node: dict[str, Any]) -> None:
    """Refuse a call of a function that can end the process, or that has no bound.

    Args:
        title: The expression in errors, such as ``derive['x']``.
        node: The call.

    Raises:
        MappingError: It is such a call.
    """
    function = str(node["function_name"]).casefold()
    if _NAME.fullmatch(function) is None and (
        not node["is_operator"] or function.upper() in _COMPARISONS
    ):
        # DuckDB does not check the types of their arguments.
        raise MappingError(
            f"{title} calls the operator {function} as a function. Write it between its "
            "operands, such as a = b."
        )
    if function.startswith(_UNSAFE):
        raise MappingError(
            f"{title} uses {function}(). On some cells, it ends the process or runs "
            "for hours. Use json_extract() or another function."
        )
    if function.startswith(_DISTANCES):
        raise MappingError(
            f"{title} uses {function}(). At long cells, it takes minutes and gigabytes. "
            "Compare the texts before you send the table."
        )
    arguments = [argument["expression"] for argument in node["arguments"]]
    if function in _SIZES and not all(map(_is_bounded, arguments[_SIZES[function] :][:1])):
        raise MappingError(
            f"{title} uses {function}(). Write its size as a number of up to "
            f"{MAX_SIZE:,}, or as the least of such a number and others."
        )
    if function in _REPLACING:
        text = _text(arguments[2:3])
        if text is None or len(text) > MAX_REPLACEMENT:
            # With a cell for each letter of a cell, the result would grow with their square.
            raise MappingError(
                f"{title} uses {function}(). Write what it puts in as a text of up to "
                f"{MAX_REPLACEMENT:,} characters."
            )
    if function in ("format", "printf"):
        form = _text(arguments[:1])
        if form is None or _LONG_FORMAT.search(form):
            raise MappingError(
                f"{title} uses {function}(). Write its format as a text, with widths "
                f"below {MAX_SIZE:,}."
            )
    if function in _SCHEMAS:
        schema = _text(arguments[1:2])
        if schema is None:
            raise MappingError(f"{title}: the types in {function}() must be a text.")
        check_type(title, _unescaped(schema))


def check_uses(title: str, uses: int) -> None:
    """Refuse a column that uses others so often that a short cell becomes gigabytes.

    Args:
        title: What uses them, for errors.
        uses: How often, through all derived columns that it uses.

    Raises:
        MappingError: It does.
    """
    if uses > MAX_USES:
        raise MappingError(
            f"{title} uses columns {uses:,} times, through all derived columns that it "
            f"uses. The limit is {MAX_USES:,}."
        )


def check_lambdas(title: str, tree: Any) -> None:
    """Refuse lambdas that are nested deeply.

    Raises:
        MappingError: They are.
    """
    waiting = [(tree, 0)]  # without recursion, as an expression can be nested deeply
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict):
            depth += node.get("class") == "LAMBDA"
            if depth > MAX_LAMBDAS:
                raise MappingError(
                    f"{title} has more than {MAX_LAMBDAS} lambdas one inside the other."
                )
            waiting += [(each, depth) for each in node.values()]
        elif isinstance(node, list):
            waiting += [(each, depth) for each in node]


def _is_bounded(node: dict[str, Any]) -> bool:
    """Whether a size is a number within the limit, or the least of such a number and others."""
    while node["class"] == "CAST":
        node = node["child"]
    if node["class"] == "CONSTANT":
        try:
            return float(node["literal"]["text"]) <= MAX_SIZE
        except (KeyError, TypeError, ValueError):  # another literal
            return False
    if node["class"] != "FUNCTION":
        return False
    arguments = [argument["expression"] for argument in node["arguments"]]
    return node["function_name"].casefold() == "least" and any(map(_is_bounded, arguments))


def _text(nodes: list[dict[str, Any]]) -> str | None:
    """The text of a constant; None for anything else."""
    literal = nodes[0].get("literal") if nodes else None
    is_text = isinstance(literal, dict) and literal.get("kind") == "STRING"
    return str(literal["text"]) if literal and is_text else None


def _unescaped(text: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):  # which DuckDB refuses with a reason
        return text
