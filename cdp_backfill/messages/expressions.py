"""Checks SQL expressions: each may use its own row only, and nothing outside of it."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import duckdb

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.expression_limits import (
    check_function,
    check_lambdas,
    check_length,
    check_type,
)
from cdp_backfill.model.interrupts import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE: Final = "where="
"""How errors name the expression that chooses rows."""

_TEXT: Final = re.compile(r"'[^']*'")

_CLOCKS: Final = ("current_", "get_current_")
"""Beginnings of functions that read the clock, whatever stability DuckDB claims."""

_ENVIRONMENT: Final = frozenset({"version"})
_ALTERNATIVES: Final = frozenset({"SUBQUERY", "LAMBDA", "CASE", "CONJUNCTION", "STAR"})
"""Classes of nodes whose parts are not evaluated in every row, or not by themselves."""

_MAYBE: Final = frozenset({"OPERATOR_COALESCE", "OPERATOR_TRY"})
_EVALUATED: Final = frozenset({"FUNCTION", "CAST", "OPERATOR", "COMPARISON", "BETWEEN"})


def quote(name: str) -> str:
    """The name of a column, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def columns_of(expression: str) -> set[str]:
    """The columns that a SQL expression names.

    Raises:
        MappingError: It is not a SQL expression.
    """
    with interruptible(), duckdb.connect() as connection:
        return set(_referenced_columns(_parse(connection, "expression", expression)))


def checked_columns(connection: Any, title: str, expression: str) -> Counter[str]:
    """The columns that an expression names, and how often. It may use its own row only.

    Args:
        connection: A connection to DuckDB without access to files.
        title: The expression in errors, such as ``derive['x']``.
        expression: SQL expression.

    Raises:
        MappingError: It is not one expression, reads more than its own row, or can never succeed.
    """
    tree = _parse(connection, title, expression)
    nodes = list(_nodes(tree))
    select_list = _select_list(tree)
    if len(select_list) != 1 or any(node.get("class") == "STAR" for node in nodes):
        raise MappingError(f"{title} must be one SQL expression.")
    if any(node.get("class") in ("SUBQUERY", "WINDOW") for node in nodes):
        raise MappingError(f"{title} must use its own row only, without a subquery or window.")
    if any(node.get("class") in ("POSITIONAL_REFERENCE", "PARAMETER", "DEFAULT") for node in nodes):
        raise MappingError(f"{title} must use columns by name, not by number.")
    for node in nodes:
        check_type(title, str(node.get("type_name", "")))
    check_lambdas(title, select_list)
    _check_functions(connection, title, nodes, set())
    _check_constants(connection, title, tree, select_list[0])
    return _referenced_columns(tree)


@functools.cache
def _functions() -> dict[str, list[tuple[str, str, str]]]:
    """DuckDB's functions by name: kind, stability, and the definition of macros."""
    functions: dict[str, list[tuple[str, str, str]]] = {}
    with interruptible(), duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name, function_type, coalesce(stability, 'CONSISTENT'), "
            "coalesce(macro_definition, '') FROM duckdb_functions()"
        ).fetchall()
    for name, *details in rows:
        functions.setdefault(name.casefold(), []).append(tuple(details))
    return functions


def _parse(connection: Any, title: str, expression: str) -> dict[str, Any]:
    check_length(title, expression)
    query = f"SELECT ({expression}\n) AS x"  # parsed, not run
    try:
        with interruptible():
            answer = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
        tree: dict[str, Any] = json.loads(answer[0][0])
    except (duckdb.Error, RecursionError, UnicodeError) as error:
        raise MappingError(
            f"{title} cannot be read as a SQL expression; it may be nested too deeply. "
            "Split it into several new columns."
        ) from error
    if tree["error"]:
        message = str(tree["error_message"]).split("\n")[0].rstrip(".")
        raise MappingError(f"{title} is not a SQL expression: {message}.")
    return tree


def _referenced_columns(tree: dict[str, Any]) -> Counter[str]:
    """The columns that an expression uses, and how often."""
    nodes = list(_nodes(tree))
    columns = Counter(
        node["column_names"][0] for node in nodes if node.get("class") == "COLUMN_REF"
    )
    # An arrow before a text is JSON's; before anything else it is that of a lambda.
    arrows = (node for node in nodes if node.get("class") == "LAMBDA")
    lambda_arguments = {
        node["lhs"]["column_names"][0]
        for node in arrows
        if node["lhs"]["class"] == "COLUMN_REF" and node["expr"]["class"] != "CONSTANT"
    }
    return Counter({name: n for name, n in columns.items() if name not in lambda_arguments})


def _select_list(tree: dict[str, Any]) -> list[Any]:
    """The select list of a single plain SELECT; empty for any other statement."""
    statements = tree["statements"]
    if len(statements) != 1 or statements[0]["node"]["type"] != "SELECT_NODE":
        return []
    select_list: list[Any] = statements[0]["node"]["select_list"]
    # An expression that closes the bracket could begin a FROM or another clause.
    return select_list if _clauses(tree) == _no_clauses() else []


def _clauses(tree: dict[str, Any]) -> dict[str, Any]:
    """The clauses of a SELECT beside its list."""
    node = dict(tree["statements"][0]["node"])
    del node["select_list"]
    node["from_table"] = node["from_table"]["type"]
    return node


@functools.cache
def _no_clauses() -> dict[str, Any]:
    with interruptible(), duckdb.connect() as connection:
        return _clauses(_parse(connection, "x", "1"))


def _check_functions(
    connection: Any, title: str, nodes: list[dict[str, Any]], seen: set[str]
) -> None:
    """Refuse functions over other rows, clock and random numbers, and macros with them."""
    for node in nodes:
        function = str(node.get("function_name") or "").casefold()
        if node.get("class") != "FUNCTION" or not function:
            continue
        is_age_until_now = function == "age" and len(node.get("arguments", ())) == 1
        if is_age_until_now or function.startswith(_CLOCKS) or function in _ENVIRONMENT:
            raise _not_repeatable(title, function)
        check_function(title, node)
        if function in seen:
            continue
        seen.add(function)
        for kind, stability, definition in _functions().get(function, ()):
            if kind not in ("scalar", "macro"):
                raise MappingError(f"{title} must use its own row only; {function}() reads more.")
            if stability != "CONSISTENT":
                raise _not_repeatable(title, function)
            if definition:
                inner = list(_nodes(_parse(connection, title, definition)))
                if any(each.get("class") in ("SUBQUERY", "WINDOW") for each in inner):
                    raise MappingError(
                        f"{title} must use its own row only; {function}() reads more."
                    )
                words = {word for each in inner for word in each.get("column_names", ())}
                if any(word.startswith(("current_", "local")) for word in words):
                    raise _not_repeatable(title, function)
                _check_functions(connection, title, inner, seen)


def _not_repeatable(title: str, function: str) -> MappingError:
    effect = "The same record would get another message id each time."
    if title == WHERE:
        effect = "A run could send other rows than its plan shows."
    return MappingError(
        f"{title} uses {function}(), whose result differs from run to run. {effect} Remove it."
    )


def _check_constants(connection: Any, title: str, tree: dict[str, Any], top: Any) -> None:
    """Refuse an expression with a constant part that fails: it would fail in every row."""
    parts = list(_constants(top))
    if not parts:
        return
    node = tree["statements"][0]["node"] | {"select_list": parts}
    whole = tree | {"statements": [tree["statements"][0] | {"node": node}]}
    try:
        query = "SELECT json_deserialize_sql(?::JSON)"
        with interruptible():
            text = connection.execute(query, [json.dumps(whole)]).fetchall()[0][0]
            connection.execute(text).fetchall()
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
        return  # binding the whole expression reports it
    except duckdb.Error as error:
        raise MappingError(f"{title} fails in every row: {first_line(error, title)}.") from error


def first_line(error: Exception, title: str = "") -> str:
    """What an error of an expression says, without its kind and without a picture of the query.

    Args:
        error: The error.
        title: The expression in errors. Texts in ``where=`` can be ids of people, and are hidden.
    """
    line = str(error).split("\n")[0].split(": ", 1)[-1].rstrip(".!")
    return _TEXT.sub("'...'", line) if title == WHERE else line


def _constants(node: Any) -> Iterator[dict[str, Any]]:
    """The largest parts of an expression that name no column and are evaluated in every row."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        if not isinstance(node, dict):
            continue
        kind = node.get("class")
        if kind in _ALTERNATIVES or node.get("type") in _MAYBE or node.get("try_cast"):
            continue
        if kind in _EVALUATED and not any(
            each.get("class") in ("COLUMN_REF", "LAMBDA", "LAMBDA_REF") for each in _nodes(node)
        ):
            yield node
        else:
            waiting += node.values()


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects inside a tree. Without recursion, since an expression can be nested deeply."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += reversed(node.values())
        elif isinstance(node, list):
            waiting += reversed(node)
