"""New columns from SQL expressions over the columns of the same row."""

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
    """What DuckDB says of its functions: kind, stability, and the definition of macros."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name, function_type, coalesce(stability, 'CONSISTENT'), "
            "coalesce(macro_definition, '') FROM duckdb_functions()"
        ).fetchall()
    for name, *what in rows:
        found.setdefault(name, []).append(tuple(what))
    return found


def columns_of(expression: str) -> set[str]:
    """The columns that a SQL expression names.

    Raises:
        MappingError: It is no SQL expression.
    """
    with duckdb.connect() as connection:
        return _referenced(_parsed(connection, "expression", expression))


def _parsed(connection: Any, name: str, expression: str) -> dict[str, Any]:
    query = f"SELECT ({expression}\n) AS x"  # parsed, not run
    answer = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree: dict[str, Any] = json.loads(answer[0][0])
    if tree["error"]:
        raise MappingError(f"derive[{name!r}] is no SQL expression: {tree['error_message']}.")
    return tree


def _referenced(tree: dict[str, Any]) -> set[str]:
    nodes = list(_nodes(tree))
    found = {node["column_names"][0] for node in nodes if node.get("class") == "COLUMN_REF"}
    # An arrow before a text is JSON's, and before anything else that of a function of one name.
    arrows = (node for node in nodes if node.get("class") == "LAMBDA")
    bound = {
        node["lhs"]["column_names"][0]
        for node in arrows
        if node["lhs"]["class"] == "COLUMN_REF" and node["expr"]["class"] != "CONSTANT"
    }
    return found - bound


class Deriver:
    """Computes derived columns of record batches.

    The expressions see one row at a time: what looks at other rows, at the clock or at chance
    would give the same record another id in another run, and is refused.

    Args:
        derive: Names of new columns to expressions, in the order in which they may use each other.
        schema: Schema of the batches.
        only: The new columns that are needed, or None for all; those they use come along.

    Raises:
        MappingError: An expression is no SQL, names an unknown column, does not fit the types, or
            is not about its row alone.
    """

    def __init__(
        self, derive: dict[str, str], schema: Any, only: Collection[str] | None = None
    ) -> None:
        self._connection = duckdb.connect()
        # Data comes in as arguments and goes out as results; an expression can touch nothing else.
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
            wanted = set(only)
            for name in reversed(needed):
                wanted |= uses[name] if name in wanted else set()
            needed = [name for name in needed if name in wanted]
        self._expressions = {name: derive[name] for name in needed}
        used = {column.casefold() for name in needed for column in uses[name]}
        self.reads: tuple[str, ...] = tuple(
            name for name in schema.names if name.casefold() in used and name not in derive
        )
        if len({name.casefold() for name in self.reads}) < len(self.reads):
            raise MappingError(
                "derive reads a column whose name occurs twice but for letter case, of "
                f"{', '.join(self.reads)}. SQL knows none: rename one of them."
            )
        """Columns of the source that the expressions use."""
        # Of constants alone, DuckDB would not know for how many rows.
        given = [pa.field(name, json_as_text_type(schema.field(name).type)) for name in self.reads]
        self._source = pa.schema(given or [_NO_COLUMN])
        self.fields: list[Any] = self._bound()
        """Arrow fields of the new columns."""

    def _columns(self, name: str, expression: str) -> set[str]:
        """The columns that an expression names; other rows, clock and chance are refused."""
        tree = _parsed(self._connection, name, expression)
        nodes = list(_nodes(tree))
        selected = _selected(tree)
        if len(selected) != 1 or any(node.get("class") == "STAR" for node in nodes):
            raise MappingError(f"derive[{name!r}] must be one SQL expression.")
        if any(node.get("class") in ("SUBQUERY", "WINDOW") for node in nodes):
            raise MappingError(f"derive[{name!r}] must be about its own row: no query, no window.")
        if any(node.get("class") == "POSITIONAL_REFERENCE" for node in nodes):
            raise MappingError(f"derive[{name!r}] must name its columns, not number them.")
        self._check_functions(name, nodes, set())
        return _referenced(tree)

    def _check_functions(self, name: str, nodes: list[dict[str, Any]], seen: set[str]) -> None:
        """Refuse functions over other rows, the clock and chance, and macros that use some."""
        for node in nodes:
            function = node.get("function_name")
            if node.get("class") != "FUNCTION" or not function:
                continue
            alone = function == "age" and len(node.get("arguments", ())) == 1
            if alone or function in _CLOCKS:
                raise _changing(name, function)
            if function in seen:
                continue
            seen.add(function)
            for kind, stability, definition in _functions().get(function, ()):
                if kind not in ("scalar", "macro"):
                    raise MappingError(
                        f"derive[{name!r}] must be about its own row, and {function}() is not."
                    )
                if stability != "CONSISTENT":
                    raise _changing(name, function)
                if definition:
                    inner = list(_nodes(_parsed(self._connection, name, definition)))
                    if any(one.get("class") in ("SUBQUERY", "WINDOW") for one in inner):
                        raise MappingError(
                            f"derive[{name!r}] must be about its own row, and {function}() is not."
                        )
                    words = {word for one in inner for word in one.get("column_names", ())}
                    if any(word.startswith(("current_", "local")) for word in words):
                        raise _changing(name, function)
                    self._check_functions(name, inner, seen)

    def _bound(self) -> list[Any]:
        if not self._expressions:
            return []
        self._connection.register(_TABLE, self._source.empty_table())
        try:
            kinds = [str(kind) for kind in self._connection.sql(_query(self._expressions)).types]
        except duckdb.Error:
            self._blame()
            raise  # pragma: no cover  # one of them is to blame
        schema = self._connection.sql(_query(self._expressions)).to_arrow_table().schema
        # DuckDB hands JSON over as text; what it is must not get lost.
        return [
            pa.field(item.name, pa.json_(pa.string()) if kind == "JSON" else item.type)
            for item, kind in zip(schema, kinds, strict=True)
        ]

    def _blame(self) -> None:
        """Say which expression does not fit the table."""
        made: dict[str, str] = {}
        for name, expression in self._expressions.items():
            made[name] = expression
            try:
                _ = self._connection.sql(_query(made)).types
            except duckdb.Error as error:
                first = str(error).split("\n")[0].split(": ", 1)[-1].rstrip(".!")
                raise MappingError(
                    f"derive[{name!r}] does not fit the table: {first}."
                    f"{_hint(error, [*self._source.names, *made])}"
                ) from error

    def apply(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """Compute the new columns.

        Args:
            batch: Record batch that has the columns named in ``reads``.

        Returns:
            The arrays of ``fields``; and for each new column that fails in some rows, these.
        """
        if not self._expressions:
            return [], {}
        arrays = [json_as_text(batch.column(name)) for name in self.reads]
        arrays = arrays or [pa.nulls(batch.num_rows, pa.bool_())]
        given = pa.RecordBatch.from_arrays(arrays, schema=self._source)
        try:
            return self._computed(given, self._expressions), {}
        except duckdb.Error:  # its text holds the value that failed
            return self._one_by_one(given)

    def _one_by_one(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The same, over the rows in which no expression fails; the others are left empty."""
        failed = self._failing(batch)
        bad = np.zeros(batch.num_rows, dtype=bool)
        for mask in failed.values():
            bad |= mask
        if bad.all():
            return [pa.nulls(len(bad), item.type) for item in self.fields], failed
        arrays = self._computed(batch.filter(pa.array(~bad)), self._expressions)
        places = pa.array(np.where(bad, 0, np.cumsum(~bad) - 1), mask=bad)
        return [array.take(places) for array in arrays], failed

    def _failing(self, batch: Any) -> dict[str, Mask]:
        """Rows at which each expression fails; where an earlier one did, later ones are empty."""
        failed = {}
        for item in self.fields:
            name, text = item.name, self._expressions[item.name]
            # Of an expression alone: elsewhere in a query, DuckDB may compute parts of it before.
            tried = f"TRY(CASE WHEN ({text}\n) IS NULL THEN 1 ELSE 2 END)"
            verdict = self._answer(batch, {name: tried}).column(0).combine_chunks()
            mask = verdict.is_null().to_numpy(zero_copy_only=False)
            if mask.any():
                failed[name] = mask
            value = self._answer(batch, {name: f"TRY({text}\n)"}).column(0).combine_chunks()
            batch = batch.append_column(name, value)
        return failed

    def _answer(self, batch: Any, expressions: dict[str, str]) -> Any:
        self._connection.register(_TABLE, batch)
        return self._connection.sql(_query(expressions)).to_arrow_table()

    def _computed(self, batch: Any, expressions: dict[str, str]) -> list[Any]:
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


def _changing(name: str, function: str) -> MappingError:
    return MappingError(
        f"derive[{name!r}] uses {function}(), which gives something else each time: the same "
        "record would get another message id."
    )


def _selected(tree: dict[str, Any]) -> list[Any]:
    """What a single plain SELECT selects; nothing of anything else."""
    statements = tree["statements"]
    if len(statements) != 1 or statements[0]["node"]["type"] != "SELECT_NODE":
        return []
    found: list[Any] = statements[0]["node"]["select_list"]
    return found


def _query(expressions: dict[str, str]) -> str:
    # The line break ends a comment that an expression may end in.
    listed = ", ".join(f"({text}\n) AS {quoted(name)}" for name, text in expressions.items())
    return f"SELECT {listed} FROM {_TABLE}"  # noqa: S608  # the user's own expressions


def quoted(name: str) -> str:
    """The name of a column, as SQL has it."""
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
                f"derive[{name!r}]: the table has a column {folded[name.casefold()]!r} already "
                "(SQL knows no letter case). Give the new column another name."
            )
        folded[name.casefold()] = name


def _check_known(name: str, used: set[str], known: list[str]) -> None:
    folded = {column.casefold() for column in known}
    for column in sorted(used):
        if column.casefold() not in folded:
            raise MappingError(
                f"derive[{name!r}] names {column!r}, which is no column of the table."
                f"{did_you_mean(column, known)}"
            )


def _hint(error: duckdb.Error, known: list[str]) -> str:
    if not isinstance(error, duckdb.BinderException) or '"' not in str(error):
        return ""
    return did_you_mean(str(error).split('"')[1], known)
