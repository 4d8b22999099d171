"""Computes derived columns: SQL expressions over the columns of the same row."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.text import json_as_text
from cdp_backfill.model.arrow_types import is_json, json_as_text_type
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cdp_backfill.model.arrays import Mask


_TABLE: Final = "row_source"
_NO_COLUMN: Final = pa.field("no column", pa.bool_())


@functools.cache
def _functions() -> dict[str, list[tuple[str, str, str]]]:
    """DuckDB's functions by name: kind, stability, and the definition of macros."""
    functions: dict[str, list[tuple[str, str, str]]] = {}
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name, function_type, coalesce(stability, 'CONSISTENT'), "
            "coalesce(macro_definition, '') FROM duckdb_functions()"
        ).fetchall()
    for name, *details in rows:
        functions.setdefault(name, []).append(tuple(details))
    return functions


def columns_of(expression: str) -> set[str]:
    """The columns that a SQL expression names.

    Raises:
        MappingError: It is not a SQL expression.
    """
    with duckdb.connect() as connection:
        return _referenced_columns(_parse(connection, "expression", expression))


def _parse(connection: Any, name: str, expression: str) -> dict[str, Any]:
    query = f"SELECT ({expression}\n) AS x"  # parsed, not run
    answer = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, Any] = json.loads(answer[0][0])
    if tree["error"]:
        raise MappingError(f"derive[{name!r}] is not a SQL expression: {tree['error_message']}.")
    return tree


def _referenced_columns(tree: dict[str, Any]) -> set[str]:
    nodes = list(_nodes(tree))
    columns = {node["column_names"][0] for node in nodes if node.get("class") == "COLUMN_REF"}
    # An arrow before a text is JSON's; before anything else it is that of a lambda.
    arrows = (node for node in nodes if node.get("class") == "LAMBDA")
    lambda_arguments = {
        node["lhs"]["column_names"][0]
        for node in arrows
        if node["lhs"]["class"] == "COLUMN_REF" and node["expr"]["class"] != "CONSTANT"
    }
    return columns - lambda_arguments


class Deriver:
    """Computes derived columns of record batches.

    An expression sees one row. Functions over other rows, the clock and random numbers are refused:
    with them, the same record would get another id in another run.

    Args:
        derive: Names of new columns to expressions, in the order in which they may use each other.
        schema: Schema of the batches.
        only: The new columns that are needed, with those they use; None for all.

    Raises:
        MappingError: An expression is not SQL, names an unknown column, does not fit the types, or
            uses more than its own row.
    """

    def __init__(
        self, derive: dict[str, str], schema: Any, only: Collection[str] | None = None
    ) -> None:
        self._connection = duckdb.connect()
        # An expression can read its arguments and nothing else: no file and no network.
        for setting in (
            "enable_external_access = false",
            "threads = 1",
            "TimeZone = 'UTC'",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")
        _check_names(derive, schema)
        needed = list(derive)
        uses: dict[str, set[str]] = {}
        known = [*schema.names]
        for name, expression in derive.items():
            uses[name] = self._columns(name, expression)
            _check_known(name, uses[name], known)
            known.append(name)
        if only is not None:
            requested = set(only)
            for name in reversed(needed):
                requested |= uses[name] if name in requested else set()
            needed = [name for name in needed if name in requested]
        self._expressions = {name: derive[name] for name in needed}
        used = {column.casefold() for name in needed for column in uses[name]}
        self.reads: tuple[str, ...] = tuple(
            name for name in schema.names if name.casefold() in used and name not in derive
        )
        if len({name.casefold() for name in self.reads}) < len(self.reads):
            raise MappingError(
                "derive= reads columns whose names differ only in letter case, which SQL ignores: "
                f"{', '.join(self.reads)}. Rename one of them."
            )
        """Columns of the source that the expressions use."""
        self.inner: frozenset[str] = frozenset(name for name in needed if name.casefold() in used)
        """New columns that other expressions use."""
        # Without any column, DuckDB would not know the number of rows.
        source_fields = [
            pa.field(name, json_as_text_type(schema.field(name).type)) for name in self.reads
        ]
        self._source = pa.schema(source_fields or [_NO_COLUMN])
        self.fields: list[Any] = self._result_fields()
        """Arrow fields of the new columns."""

    def _columns(self, name: str, expression: str) -> set[str]:
        """The columns that an expression names, which may use its own row only."""
        tree = _parse(self._connection, name, expression)
        nodes = list(_nodes(tree))
        select_list = _select_list(tree)
        if len(select_list) != 1 or any(node.get("class") == "STAR" for node in nodes):
            raise MappingError(f"derive[{name!r}] must be one SQL expression.")
        if any(node.get("class") in ("SUBQUERY", "WINDOW") for node in nodes):
            raise MappingError(
                f"derive[{name!r}] must use its own row only, without a subquery or window."
            )
        if any(node.get("class") == "POSITIONAL_REFERENCE" for node in nodes):
            raise MappingError(f"derive[{name!r}] must use columns by name, not by number.")
        self._check_functions(name, nodes, set())
        return _referenced_columns(tree)

    def _check_functions(self, name: str, nodes: list[dict[str, Any]], seen: set[str]) -> None:
        """Refuse functions over other rows, clock and random numbers, and macros with them."""
        for node in nodes:
            function = node.get("function_name")
            if node.get("class") != "FUNCTION" or not function:
                continue
            is_age_until_now = function == "age" and len(node.get("arguments", ())) == 1
            if is_age_until_now or function in _CLOCKS:
                raise _not_repeatable(name, function)
            if function in seen:
                continue
            seen.add(function)
            for kind, stability, definition in _functions().get(function, ()):
                if kind not in ("scalar", "macro"):
                    raise MappingError(
                        f"derive[{name!r}] must use its own row only; {function}() reads more."
                    )
                if stability != "CONSISTENT":
                    raise _not_repeatable(name, function)
                if definition:
                    inner = list(_nodes(_parse(self._connection, name, definition)))
                    if any(each.get("class") in ("SUBQUERY", "WINDOW") for each in inner):
                        raise MappingError(
                            f"derive[{name!r}] must use its own row only; {function}() reads more."
                        )
                    words = {word for each in inner for word in each.get("column_names", ())}
                    if any(word.startswith(("current_", "local")) for word in words):
                        raise _not_repeatable(name, function)
                    self._check_functions(name, inner, seen)

    def _result_fields(self) -> list[Any]:
        if not self._expressions:
            return []
        self._connection.register(_TABLE, self._source.empty_table())
        try:
            kinds = [str(kind) for kind in self._connection.sql(_query(self._expressions)).types]
        except duckdb.Error:
            self._raise_misfit()
            raise  # pragma: no cover  # the line above raises
        schema = self._connection.sql(_query(self._expressions)).to_arrow_table().schema
        # DuckDB returns JSON as text; the type must not get lost.
        return [
            pa.field(item.name, pa.json_(pa.string()) if kind == "JSON" else item.type)
            for item, kind in zip(schema, kinds, strict=True)
        ]

    def _raise_misfit(self) -> None:
        """Raise an error that names the expression that does not fit the table."""
        checked: dict[str, str] = {}
        for name, expression in self._expressions.items():
            checked[name] = expression
            try:
                _ = self._connection.sql(_query(checked)).types
            except duckdb.Error as error:
                first = str(error).split("\n")[0].split(": ", 1)[-1].rstrip(".!")
                raise MappingError(
                    f"derive[{name!r}] does not fit the table: {first}."
                    f"{_hint(error, [*self._source.names, *checked])}"
                ) from error

    def apply(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """Compute the new columns.

        Args:
            batch: Record batch that has the columns named in ``reads``.

        Returns:
            The arrays of ``fields``; and for each new column, a mask of the rows in which it fails.
        """
        if not self._expressions:
            return [], {}
        arrays = [json_as_text(batch.column(name)) for name in self.reads]
        arrays = arrays or [pa.nulls(batch.num_rows, pa.bool_())]
        source = pa.RecordBatch.from_arrays(
            [_cast(*pair) for pair in zip(arrays, self._source.types, strict=True)],
            self._source.names,
        )
        try:
            return self._compute(source, self._expressions), {}
        except duckdb.Error:  # its text holds a cell
            return self._apply_where_possible(source)

    def _apply_where_possible(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """Compute the rows in which no expression fails; the others stay empty."""
        failed = self._failed_rows(batch)
        bad = np.zeros(batch.num_rows, dtype=bool)
        for mask in failed.values():
            bad |= mask
        if bad.all():
            return [pa.nulls(len(bad), item.type) for item in self.fields], failed
        arrays = self._compute(batch.filter(pa.array(~bad)), self._expressions)
        places = pa.array(np.where(bad, 0, np.cumsum(~bad) - 1), mask=bad)
        return [array.take(places) for array in arrays], failed

    def _failed_rows(self, batch: Any) -> dict[str, Mask]:
        """The rows in which each expression fails; later expressions are empty there."""
        failed = {}
        for item in self.fields:
            name, text = item.name, self._expressions[item.name]
            # Each expression in a query of its own, or DuckDB may compute parts of it earlier.
            attempt = f"TRY(CASE WHEN ({text}\n) IS NULL THEN 1 ELSE 2 END)"
            outcome = self._answer(batch, {name: attempt}).column(0).combine_chunks()
            mask = outcome.is_null().to_numpy(zero_copy_only=False)
            if mask.any():
                failed[name] = mask
            value = self._answer(batch, {name: f"TRY({text}\n)"}).column(0).combine_chunks()
            batch = batch.append_column(name, value)
        return failed

    def _answer(self, batch: Any, expressions: dict[str, str]) -> Any:
        self._connection.register(_TABLE, batch)
        return self._connection.sql(_query(expressions)).to_arrow_table()

    def _compute(self, batch: Any, expressions: dict[str, str]) -> list[Any]:
        table = self._answer(batch, expressions)
        arrays = []
        for item in self.fields:
            column = table.column(item.name).combine_chunks()
            if is_json(item.type):
                text = column.cast(item.type.storage_type)
                arrays.append(pa.ExtensionArray.from_storage(item.type, text))
            else:
                arrays.append(column.cast(item.type))
        return arrays


_CLOCKS: Final = ("get_current_time", "get_current_timestamp", "current_localtimestamp")


def _not_repeatable(name: str, function: str) -> MappingError:
    return MappingError(
        f"derive[{name!r}] uses {function}(), whose result differs from run to run. The same "
        "record would get another message id each time. Remove it."
    )


def _cast(array: Any, kind: Any) -> Any:
    """The array in a type, if its cells fit; files of one table can have types of their own."""
    if array.type.equals(kind):
        return array
    try:
        return array.cast(kind)
    except pa.ArrowException:
        return array


def _select_list(tree: dict[str, Any]) -> list[Any]:
    """The select list of a single plain SELECT; empty for any other statement."""
    statements = tree["statements"]
    if len(statements) != 1 or statements[0]["node"]["type"] != "SELECT_NODE":
        return []
    select_list: list[Any] = statements[0]["node"]["select_list"]
    return select_list


def _query(expressions: dict[str, str]) -> str:
    # The line break ends a comment at the end of an expression.
    listed = ", ".join(f"({text}\n) AS {quote(name)}" for name, text in expressions.items())
    return f"SELECT {listed} FROM {_TABLE}"  # noqa: S608  # the user's own expressions


def quote(name: str) -> str:
    """The name of a column, quote for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)


def _check_names(derive: dict[str, str], schema: Any) -> None:
    folded = {name.casefold(): name for name in schema.names}
    for name in derive:
        if name.casefold() in folded:
            raise MappingError(
                f"derive[{name!r}]: the table already has a column {folded[name.casefold()]!r}, "
                "and SQL ignores letter case. Use another name for the new column."
            )
        folded[name.casefold()] = name


def _check_known(name: str, used: set[str], known: list[str]) -> None:
    folded = {column.casefold() for column in known}
    for column in sorted(used):
        if column.casefold() not in folded:
            raise MappingError(
                f"derive[{name!r}] names {column!r}, which is not a column of the table."
                f"{did_you_mean(column, known)}"
            )


def _hint(error: duckdb.Error, known: list[str]) -> str:
    if not isinstance(error, duckdb.BinderException) or '"' not in str(error):
        return ""
    return did_you_mean(str(error).split('"')[1], known)
