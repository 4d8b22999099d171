"""Computes derived columns: SQL expressions over the columns of the same row.

No cell can stop a run. Where an expression fails at a cell, the new cell is empty and the row has a
problem, whatever chunk the row stands in:

1. All expressions are computed at once. DuckDB may compute a part that occurs twice only once, but
   changes nothing else about them.
2. If that fails, each expression is tried row by row, exactly as it is written.
3. If even that fails, because DuckDB cannot attribute the error to a row, the rows are halved until
   each bad row stands alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.expression_limits import (
    MAX_LAYERS,
    MAX_MEMORY,
    check_type,
    check_uses,
)
from cdp_backfill.messages.expressions import WHERE, checked_columns, first_line, quote
from cdp_backfill.messages.text import as_utf8, decode, json_as_text
from cdp_backfill.messages.times import out_of_range
from cdp_backfill.model.arrow_types import is_json, is_text
from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.model.mapping_checks import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cdp_backfill.model.arrays import Mask


_TABLE: Final = "row_source"
_NO_COLUMN: Final = pa.field("no column", pa.bool_())
_NOTHING: Final = '"NULL"'
"""DuckDB's type of a column that has no cell."""

_LARGEST: Final = 2**63 - 1
_SETTINGS: Final = (
    "temp_directory = ''",  # or cells would be written to the current folder
    # An expression can read its arguments and nothing else: no file, no network, no extension.
    "enable_external_access = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "enable_progress_bar = false",
    "threads = 1",
    "TimeZone = 'UTC'",
)


def _connect(*, exact: bool) -> Any:
    """A connection that computes expressions as they are written.

    An optimiser may turn ``k + 1 > 5`` into ``k > 4``, which does not overflow. A row would then
    differ from the same row in a chunk in which each expression is tried.

    Args:
        exact: Compute a part that occurs twice also twice, since it may be in a branch that is not
            taken. Otherwise it is computed once, for every row, before all else.
    """
    with interruptible():
        connection = duckdb.connect()
        for setting in (*_SETTINGS, f"memory_limit = '{MAX_MEMORY // 2**20}MiB'"):
            connection.execute(f"SET {setting}")
        optimizers = connection.execute("SELECT * FROM duckdb_optimizers()").fetchall()
        names = [row[0] for row in optimizers]
        if not exact:
            names.remove("common_subexpressions")
        connection.execute(f"SET disabled_optimizers = '{','.join(names)}'")
        connection.execute("SET lock_configuration = true")
        return connection


class Deriver:
    """Computes derived columns of record batches.

    An expression sees one row. Functions over other rows, the clock and random numbers are refused:
    with them, the same record would get another id in another run.

    Args:
        derive: Names of new columns to expressions, in the order in which they may use each other.
        schema: Schema of the batches.
        only: The new columns that are needed, with those they use; None for all.
        where: The new column that is no column, but the expression of ``where=``; or None.

    Raises:
        MappingError: An expression is not SQL, names an unknown column, does not fit the types,
            uses more than its own row, or fails in every row.
    """

    def __init__(
        self,
        derive: dict[str, str],
        schema: Any,
        only: Collection[str] | None = None,
        where: str | None = None,
    ) -> None:
        self._where = where
        self._connections: dict[bool, Any] = {False: _connect(exact=False)}
        _check_names(derive, schema)
        needed = list(derive)
        uses: dict[str, set[str]] = {}
        known = [*schema.names]
        times: dict[str, int] = {}
        for name, expression in derive.items():
            title = self._title(name)
            counted = checked_columns(self._connections[False], title, expression)
            uses[name] = set(counted)
            _check_known(title, uses[name], known)
            known.append(name)
            times[name.casefold()] = sum(
                n * times.get(column.casefold(), 1) for column, n in counted.items()
            )
            check_uses(title, times[name.casefold()])
        if only is not None:
            requested = set(only)
            for name in reversed(needed):
                requested |= uses[name] if name in requested else set()
            needed = [name for name in needed if name in requested]
        self._expressions = {name: derive[name] for name in needed}
        self._uses = {name: {column.casefold() for column in uses[name]} for name in needed}
        used = set().union(*self._uses.values())
        self.reads: tuple[str, ...] = tuple(
            name for name in schema.names if name.casefold() in used and name not in derive
        )
        """Columns of the source that the expressions use."""
        if len({name.casefold() for name in self.reads}) < len(self.reads):
            title = WHERE if where else "derive="
            raise MappingError(
                f"{title} reads columns whose names differ only in letter case, which SQL "
                f"ignores: {', '.join(self.reads)}. Rename one of them."
            )
        self.inner: frozenset[str] = frozenset(name for name in needed if name.casefold() in used)
        """New columns that other expressions use."""
        self._layers = self._dependency_layers()
        empty = [_readable(pa.nulls(0, schema.field(name).type)) for name in self.reads]
        # Without any column, DuckDB would not know the number of rows.
        self._source = pa.schema(
            [pa.field(n, array.type) for n, (array, _) in zip(self.reads, empty, strict=True)]
            or [_NO_COLUMN]
        )
        self._sql_types: dict[str, str] = {}
        self.fields: list[Any] = self._result_fields()
        """Arrow fields of the new columns."""
        self._trouble = False

    def _title(self, name: str) -> str:
        """An expression in errors."""
        return WHERE if name == self._where else f"derive[{name!r}]"

    def _dependency_layers(self) -> list[list[str]]:
        """The new columns, each after those that it uses."""
        levels: dict[str, int] = {}
        for name, used in self._uses.items():
            levels[name] = 1 + max(
                (level for other, level in levels.items() if other.casefold() in used), default=-1
            )
        count = max(levels.values(), default=-1) + 1
        if count > MAX_LAYERS:
            raise MappingError(
                f"derive= has {count:,} columns of which each uses the one before. The limit is "
                f"{MAX_LAYERS}."
            )
        return [[name for name in levels if levels[name] == number] for number in range(count)]

    def _result_fields(self) -> list[Any]:
        if not self._expressions:
            return []
        connection = self._connections[False]
        try:
            with interruptible():
                connection.register(_TABLE, self._source.empty_table())
                relation = connection.sql(self._query(self._expressions))
                for name, kind in zip(relation.columns, map(str, relation.types), strict=True):
                    if _NOTHING in kind and kind != _NOTHING:
                        # DuckDB's Arrow arrays of lists of nothing are invalid.
                        text, plain = self._expressions[name], kind.replace(_NOTHING, "INTEGER")
                        self._expressions[name] = f"CAST(({text}\n) AS {plain})"
                relation = connection.sql(self._query(self._expressions))
                self._sql_types = dict(zip(relation.columns, map(str, relation.types), strict=True))
                for name, kind in self._sql_types.items():
                    check_type(self._title(name), kind)
                schema = relation.to_arrow_table().schema
        except (duckdb.Error, pa.ArrowException) as error:
            self._raise_misfit()
            raise MappingError(  # pragma: no cover  # the line above raises
                "The expressions in derive= do not fit the table."
            ) from error
        # DuckDB returns JSON as text; the type must not get lost.
        return [
            pa.field(
                item.name,
                pa.json_(pa.string()) if self._sql_types[item.name] == "JSON" else item.type,
            )
            for item in schema
        ]

    def _raise_misfit(self) -> None:
        """Raise an error that names the expression that does not fit the table."""
        for name in [name for layer in self._layers for name in layer]:
            title = self._title(name)
            only = {n: text for n, text in self._expressions.items() if n in self.inputs([name])}
            try:
                with interruptible():
                    self._connections[False].sql(self._query(only)).to_arrow_table()
            except (duckdb.Error, pa.ArrowException) as error:  # such as a list of lists of ...
                raise MappingError(
                    f"{title} does not fit the table: {first_line(error, title)}."
                    f"{_hint(error, [*self._source.names, *only])}"
                ) from error

    def inputs(self, names: Iterable[str]) -> frozenset[str]:
        """The new columns of these names, and all new columns that they use."""
        result: set[str] = set()
        waiting = [name for name in names if name in self._expressions]
        while waiting:
            result.add(each := waiting.pop())
            waiting += [n for n in self._expressions if n.casefold() in self._uses[each]]
        return frozenset(result)

    def apply(self, batch: Any) -> tuple[list[Any], dict[str, Mask]]:
        """Compute the new columns.

        Args:
            batch: Record batch that has the columns named in ``reads``.

        Returns:
            The arrays of ``fields``, empty where an expression fails; and for each new column that
            fails in some row, a mask of these rows.
        """
        if not self._expressions:
            return [], {}
        source, unreadable = self._readable_source(batch)
        arrays, failed = self._compute_or_try(source)
        for number, item in enumerate(self.fields):
            bad = failed.get(item.name)
            for column in self._uses[item.name] & unreadable.keys():
                bad = unreadable[column] if bad is None else bad | unreadable[column]
            if bad is not None and bad.any():
                failed[item.name] = bad
                arrays[number] = _emptied(arrays[number], bad)
        return arrays, {name: failed[name] for name in self._expressions if name in failed}

    def _readable_source(self, batch: Any) -> tuple[Any, dict[str, Mask]]:
        """The columns that expressions read, and where cells had to be emptied to be read."""
        arrays, unreadable = [], {}
        for name in self.reads:
            array, bad = _readable(batch.column(name))
            kind = self._source.field(name).type
            if not array.type.equals(kind):  # a cursor whose cells changed their type
                array, lost = _converted(array, kind)
                bad = bad | lost
            arrays.append(array)
            if bad.any():
                unreadable[name.casefold()] = bad
        arrays = arrays or [pa.nulls(batch.num_rows, pa.bool_())]
        return pa.RecordBatch.from_arrays(arrays, schema=self._source), unreadable

    def _compute_or_try(self, source: Any) -> tuple[list[Any], dict[str, Mask]]:
        if not self._trouble:  # while cells fail, the first attempt would be in vain
            try:
                return self._compute(source), {}
            except duckdb.OutOfMemoryException:
                return self._compute_parts(source)
            except _FAILURES:  # its text may hold a cell
                pass
        arrays, failed = self._try_rows(source)
        self._trouble = bool(failed)
        return arrays, failed

    def _compute(self, source: Any, expressions: dict[str, str] | None = None) -> list[Any]:
        """All new columns, computed at once."""
        table = self._answer(source, self._query(expressions or self._expressions), exact=False)
        return [_typed(table.column(item.name), item.type) for item in self.fields]

    def _compute_parts(self, source: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The new columns of rows that together need too much memory.

        Trying each expression is for the halves that do not: it holds far more than the limit.
        """
        if source.num_rows == 1:
            return self._compute_alone(source)
        return self._halved(source, self._compute_or_try)

    def _compute_alone(self, source: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The new columns of one row that needs too much memory."""
        nothing = {name: f"CAST(NULL AS {kind})" for name, kind in self._sql_types.items()}
        good, failed = dict(nothing), {}
        arrays = [pa.nulls(1, item.type) for item in self.fields]
        for name in [name for layer in self._layers for name in layer]:
            try:
                arrays = self._compute(source, good | {name: self._expressions[name]})
                good[name] = self._expressions[name]
            except _FAILURES:
                failed[name] = np.ones(1, dtype=bool)
        return arrays, failed

    def _try_rows(self, source: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The new columns, where each expression fails alone; then halves of the rows."""
        try:
            return self._attempt(source, self._expressions)
        except _FAILURES:
            pass
        if source.num_rows == 1:
            return self._try_expressions(source)
        return self._halved(source, self._try_rows)

    def _halved(
        self, source: Any, action: Callable[[Any], tuple[list[Any], dict[str, Mask]]]
    ) -> tuple[list[Any], dict[str, Mask]]:
        """What an action makes of each half of the rows, joined."""
        rows = source.num_rows
        halves = [
            action(_own(source.slice(start, count)))
            for start, count in ((0, rows // 2), (rows // 2, rows - rows // 2))
        ]
        pairs = zip(*(arrays for arrays, _ in halves), strict=True)
        failed = {}
        for name in {name for _, masks in halves for name in masks}:
            sizes = (rows // 2, rows - rows // 2)
            parts = zip(halves, sizes, strict=True)
            failed[name] = np.concatenate(
                [half[1].get(name, np.zeros(size, dtype=bool)) for half, size in parts]
            )
        return [pa.concat_arrays(pair) for pair in pairs], failed

    def _try_expressions(self, source: Any) -> tuple[list[Any], dict[str, Mask]]:
        """The new columns of one row, where each expression is tried in a query of its own."""
        nothing = {name: f"CAST(NULL AS {kind})" for name, kind in self._sql_types.items()}
        good, failed = dict(nothing), {}
        for name in [name for layer in self._layers for name in layer]:
            attempt = nothing | good | {name: self._expressions[name]}
            try:
                _, masks = self._attempt(source, attempt)
            except _FAILURES:
                masks = {name: np.ones(1, dtype=bool)}
            if name in masks:
                failed[name] = masks[name]
            else:
                good[name] = self._expressions[name]
        if len(failed) == len(good):  # the cells of the row cannot even be read
            return [pa.nulls(1, item.type) for item in self.fields], failed
        arrays, _ = self._attempt(source, good)
        return arrays, failed

    def _attempt(
        self, source: Any, expressions: dict[str, str]
    ) -> tuple[list[Any], dict[str, Mask]]:
        """The new columns, each with the rows in which it fails."""
        flags = self._flag_names()
        table = self._answer(source, self._query(expressions, flags), exact=True)
        arrays = [_typed(table.column(item.name), item.type) for item in self.fields]
        failed = {}
        for name in self._expressions:
            flag = table.column(flags[name]).combine_chunks()
            mask = flag.is_null().to_numpy(zero_copy_only=False)
            if mask.any():
                failed[name] = np.asarray(mask)
        return arrays, failed

    def _flag_names(self) -> dict[str, str]:
        """For each new column, a name that no column has."""
        taken = {name.casefold() for name in (*self._source.names, *self._expressions)}
        prefix = "tried"
        while any(name.startswith(prefix) for name in taken):
            prefix += "_"
        return {name: f"{prefix}{number}" for number, name in enumerate(self._expressions)}

    def _query(self, expressions: dict[str, str], flags: dict[str, str] | None = None) -> str:
        """The query of all expressions; with flags, of one that is null where one fails."""
        query = _TABLE
        for layer in self._layers:
            names = [name for name in layer if name in expressions]
            # The line break ends a comment at the end of an expression.
            if flags is None:
                listed = [f"({expressions[name]}\n) AS {quote(name)}" for name in names]
            else:
                tried = [
                    f"TRY(struct_pack(v := ({expressions[name]}\n))) AS {flags[name]}"
                    for name in names
                ]
                query = f"(SELECT {', '.join(['*', *tried])} FROM {query})"  # noqa: S608
                listed = [f"{flags[name]}.v AS {quote(name)}" for name in names]
            query = f"(SELECT {', '.join(['*', *listed])} FROM {query})"  # noqa: S608
        names = [name for name in self._expressions if name in expressions]
        chosen = [*map(quote, names), *((flags or {})[name] for name in names if flags)]
        return f"SELECT {', '.join(chosen)} FROM {query}"  # noqa: S608  # the user's own expressions

    def _answer(self, source: Any, query: str, *, exact: bool) -> Any:
        if exact not in self._connections:
            self._connections[exact] = _connect(exact=exact)
        connection = self._connections[exact]
        try:
            with interruptible():
                connection.register(_TABLE, source)
                return connection.sql(query).to_arrow_table()
        except (duckdb.FatalException, duckdb.InternalException):
            del self._connections[exact]  # DuckDB refuses to use it again
            raise


_FAILURES: Final = (
    duckdb.Error,
    pa.ArrowException,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
    ValueError,
)
"""What DuckDB and the conversion of its results raise at a cell."""


def _readable(array: Any) -> tuple[Any, Mask]:
    """A column as DuckDB reads it; and where a cell is emptied, because it cannot be read.

    Dictionaries are decoded, or cells of other rows would be computed, too.
    """
    array = json_as_text(decode(array))
    kind, types = array.type, pa.types
    if is_text(kind):
        return as_utf8(array)
    if types.is_float16(kind):
        array = array.cast(pa.float32())
    if types.is_date64(kind):
        array = array.cast(pa.date32(), safe=False)
    bad = np.zeros(len(array), dtype=bool)
    if types.is_duration(kind):
        limit = _LARGEST // {"s": 10**6, "ms": 10**3}.get(kind.unit, 1)
        size = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        bad = (size > limit) | (size < -limit)
    elif types.is_temporal(kind) and not types.is_interval(kind):
        bad = out_of_range(array)
    return _emptied(array, bad) if bad.any() else array, bad


def _converted(array: Any, kind: Any) -> tuple[Any, Mask]:
    """The array in a type; and where a cell does not fit it and is emptied."""
    none = np.zeros(len(array), dtype=bool)
    try:
        return array.cast(kind), none
    except pa.ArrowException:
        pass
    cells = [array.slice(number, 1) for number in range(len(array))]
    for number, cell in enumerate(cells):
        try:
            cells[number] = cell.cast(kind)
        except pa.ArrowException:
            cells[number], none[number] = pa.nulls(1, kind), True
    return pa.concat_arrays(cells), none


def _emptied(array: Any, where: Mask) -> Any:
    """The array, null where the mask is true."""
    return array.take(pa.array(np.arange(len(array)), mask=where))


def _own(batch: Any) -> Any:
    """A slice as a batch without the other rows, whose cells could make it fail as well."""
    return batch.take(pa.array(np.arange(batch.num_rows)))


def _typed(column: Any, kind: Any) -> Any:
    """A column of DuckDB's answer in the type of its field."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if is_json(kind):
        return pa.ExtensionArray.from_storage(kind, array.cast(kind.storage_type))
    return array.cast(kind)


def _check_names(derive: dict[str, str], schema: Any) -> None:
    folded = {name.casefold(): name for name in schema.names}
    for name in derive:
        if name.casefold() in folded:
            raise MappingError(
                f"derive[{name!r}]: the table already has a column {folded[name.casefold()]!r}, "
                "and SQL ignores letter case. Use another name for the new column."
            )
        folded[name.casefold()] = name


def _check_known(title: str, used: set[str], known: list[str]) -> None:
    folded = {column.casefold() for column in known}
    for column in sorted(used):
        if column.casefold() not in folded:
            raise MappingError(
                f"{title} names {column!r}, which is not a column of the table."
                f"{did_you_mean(column, known)}"
            )


def _hint(error: Exception, known: list[str]) -> str:
    if not isinstance(error, duckdb.BinderException) or '"' not in str(error):
        return ""
    return did_you_mean(str(error).split('"')[1], known)
