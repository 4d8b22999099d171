"""An interrupt in a call of DuckDB is an interrupt, and no error of a cell or of an expression."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

import cdp_backfill
from cdp_backfill.messages import expressions
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.model.interrupts import interruptible
from cdp_backfill.sources.fingerprint import ContentFingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = pa.RecordBatch.from_pydict({"k": [1, 2], "x": ["Query interrupted", "b"]})


def interrupted_while_read(*_: Any) -> None:
    """A query that reads a table while an interrupt comes, as DuckDB reports it."""

    class Interrupted:
        def __arrow_c_stream__(self, *_: Any) -> None:
            raise KeyboardInterrupt

    connection = duckdb.connect()
    connection.register("t", Interrupted())
    connection.sql("FROM t").fetchall()


def raising(error: Exception) -> Callable[..., Any]:
    """A call that raises an error."""

    def call(*_: Any) -> Any:
        raise error

    return call


INTERRUPTS = [
    interrupted_while_read,
    raising(RuntimeError("Query interrupted")),
    raising(duckdb.InterruptException("INTERRUPT Error: Interrupted!")),
]


class Connection:
    """A connection to DuckDB in whose calls an interrupt comes."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.register = self.sql = self.execute = call


@pytest.mark.parametrize("call", INTERRUPTS)
def test_an_interrupt_in_any_call(call: Callable[..., Any]) -> None:
    """It comes through where expressions are read, bound and computed, and rows are summed."""
    deriver = Deriver({"v": "k * 3"}, BATCH.schema)
    deriver._connections[True] = deriver._connections[False] = Connection(call)
    fingerprint = ContentFingerprint(BATCH.schema)
    fingerprint._connection = Connection(call)  # type: ignore[assignment]
    for action in (
        lambda: deriver.apply(BATCH),
        deriver._result_fields,
        deriver._raise_misfit,
        lambda: expressions._parse(Connection(call), "x", "1"),
        lambda: fingerprint.add(BATCH),
        lambda: fingerprint._is_hashable(BATCH.schema.field("k")),
    ):
        with pytest.raises(KeyboardInterrupt):
            action()


def test_cells_that_speak_of_interrupts() -> None:
    """A cell that makes an expression fail is no interrupt, whatever it says."""
    deriver = Deriver({"v": "x::INT"}, BATCH.schema)
    _, failed = deriver.apply(BATCH)
    assert failed["v"].tolist() == [True, True]
    said = "Invalid Input Error: Cannot parse 'registered as 't' failed: KeyboardInterrupt"
    with pytest.raises(duckdb.InvalidInputException), interruptible():
        raise duckdb.InvalidInputException(said)


def test_every_call_of_duckdb_is_interruptible() -> None:
    """What handles errors of DuckDB has the calls in a ``with interruptible()``."""
    package = Path(cdp_backfill.__file__).parent
    found = 0
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Try):
                continue
            handled = " ".join(ast.unparse(each.type) for each in node.handlers if each.type)
            if "duckdb." in handled:
                found += 1
                body = "\n".join(map(ast.unparse, node.body))
                calls = any(name in body for name in ("execute(", ".sql(", "register("))
                assert "interruptible()" in body or not calls, f"{path}:{node.lineno}"
    assert found
