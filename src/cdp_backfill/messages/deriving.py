"""New columns from SQL expressions over the columns of the same row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from cdp_backfill.errors import MappingError
from cdp_backfill.mapping_checks import did_you_mean
from cdp_backfill.messages.text import json_type

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

_TABLE: Final = "row_source"
_NO_COLUMN: Final = pa.field("no column", pa.bool_())


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
        """Columns of the source that the expressions use."""
        # Of constants alone, DuckDB would not know for how many rows.
        self._source = pa.schema([schema.field(name) for name in self.reads] or [_NO_COLUMN])
        self.fields: list[Any] = self._bound()
        """Arrow fields of the new columns."""

    def _columns(self, name: str, expression: str) -> set[str]:
        """The columns that an expression names; other rows, clock and chance are refused."""
        tree = _parsed(self._connection, name, expression)
        nodes = list(_nodes(tree))
        selected = (
            tree["statements"][0]["node"]["select_list"] if len(tree["statements"]) == 1 else ()
        )
        if len(selected) != 1 or any(node.get("class") == "STAR" for node in nodes):
            raise MappingError(f"derive[{name!r}] must be one SQL expression.")
        if any(node.get("class") in ("SUBQUERY", "WINDOW") for node in nodes):
            raise MappingError(f"derive[{name!r}] must be about its own row: no query, no window.")
        names = {node["function_name"] for node in nodes if node.get("class") == "FUNCTION"}
        for function in sorted(names):
            kinds = self._connection.execute(
                "SELECT DISTINCT function_type, coalesce(stability, 'CONSISTENT')"
                " FROM duckdb_functions() WHERE function_name = ?",
                [function],
            ).fetchall()
            if any(kind in ("aggregate", "window", "table") for kind, _ in kinds):
                raise MappingError(
                    f"derive[{name!r}] must be about its own row, and {function}() is not."
                )
            if any(stability != "CONSISTENT" for _, stability in kinds):
                raise MappingError(
                    f"derive[{name!r}] uses {function}(), which gives something else each time: "
                    "the same record would get another message id."
                )
        return _referenced(tree)

    def _bound(self) -> list[Any]:
        if not self._expressions:
            return []
        self._connection.register(_TABLE, self._source.empty_table())
        made: dict[str, str] = {}
        kinds: list[str] = []
        for name, expression in self._expressions.items():
            made[name] = expression
            try:
                kinds = [str(kind) for kind in self._connection.sql(_query(made)).types]
            except duckdb.Error as error:
                first = str(error).split("\n")[0].split(": ", 1)[-1].rstrip(".!")
                raise MappingError(
                    f"derive[{name!r}] does not fit the table: {first}."
                    f"{_hint(error, [*self._source.names, *made])}"
                ) from error
        schema = self._connection.sql(_query(made)).to_arrow_table().schema
        # DuckDB hands JSON over as text; what it is must not get lost.
        return [
            pa.field(item.name, pa.json_(pa.string()) if kind == "JSON" else item.type)
            for item, kind in zip(schema, kinds, strict=True)
        ]

    def apply(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """Compute the new columns.

        Args:
            batch: Record batch that has the columns named in ``reads``.

        Returns:
            The arrays of ``fields``; and for each new column that fails in some rows, these.
        """
        if not self._expressions:
            return [], {}
        arrays = [batch.column(name) for name in self.reads]
        arrays = arrays or [pa.nulls(batch.num_rows, pa.bool_())]
        given = pa.RecordBatch.from_arrays(arrays, schema=self._source)
        try:
            return self._computed(given, self._expressions), {}
        except duckdb.Error:  # its text holds the value that failed
            return self._one_by_one(given)

    def _one_by_one(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The same, each expression over the rows in which it does not fail."""
        arrays, failed = [], {}
        for item in self.fields:
            name = item.name
            alone = {name: self._expressions[name]}
            mask = np.zeros(batch.num_rows, dtype=bool)
            mask[list(self._failing(batch, alone, 0, batch.num_rows))] = True
            places = np.cumsum(~mask) - 1
            if mask.all():
                array = pa.nulls(len(mask), item.type)
            else:
                (good,) = self._computed(batch.filter(pa.array(~mask)), alone)
                array = good.take(pa.array(np.where(mask, 0, places), mask=mask))
            if mask.any():
                failed[name] = mask
            arrays.append(array)
            # A later expression may use it; SQL takes it for the text that it is.
            plain = array.storage if json_type(item.type) else array
            batch = batch.append_column(name, plain)
        return arrays, failed

    def _failing(
        self, batch: Any, expressions: dict[str, str], start: int, stop: int
    ) -> Iterator[int]:
        """Rows at which an expression fails, found by halving."""
        try:
            if start < stop:
                self._computed(batch.slice(start, stop - start), expressions)
        except duckdb.Error:
            if stop - start == 1:
                yield start
                return
            middle = (start + stop) // 2
            yield from self._failing(batch, expressions, start, middle)
            yield from self._failing(batch, expressions, middle, stop)

    def _computed(self, batch: Any, expressions: dict[str, str]) -> list[Any]:
        self._connection.register(_TABLE, batch)
        table = self._connection.sql(_query(expressions)).to_arrow_table()
        arrays = []
        for item in self.fields:
            if item.name not in expressions:
                continue
            column = table.column(item.name).combine_chunks()
            is_json = json_type(item.type)
            plain = column.cast(item.type.storage_type if is_json else item.type)
            arrays.append(pa.ExtensionArray.from_storage(item.type, plain) if is_json else plain)
        return arrays


def _query(expressions: dict[str, str]) -> str:
    # The line break ends a comment that an expression may end in.
    listed = ", ".join(f"({text}\n) AS {_quoted(name)}" for name, text in expressions.items())
    return f"SELECT {listed} FROM {_TABLE}"  # noqa: S608  # the user's own expressions


def _quoted(name: str) -> str:
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
