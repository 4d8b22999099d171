"""Collects the pairs of an anonymous id and a user id in a table, with bounded memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from cdp_backfill.errors import SourceError
from cdp_backfill.messages import build
from cdp_backfill.model.distinct import DigestSet, key_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cdp_backfill.messages import Binding, MessageBatch
    from cdp_backfill.model.arrays import Rows
    from cdp_backfill.sources import Source

_MEMORY: Final = "128MB"
"""Memory that the pairs may take; the rest goes to temporary files."""

_COMPACT_ROWS: Final = 2_000_000
"""Rows that are added before repeated pairs are dropped."""

_READ_ROWS: Final = 16_384

_IDS: Final = ("anonymousId", "userId")


class PairTable:
    """The distinct pairs of an anonymous id and a user id, in the order in which they first occur.

    They are kept by DuckDB, which moves them to temporary files beyond a limit. The files are
    deleted with the table.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="cdp-backfill-")
        self._database = duckdb.connect()
        weakref.finalize(self, _discard, self._database, folder)
        quoted = folder.replace("'", "''")
        for setting in (f"memory_limit = '{_MEMORY}'", f"temp_directory = '{quoted}'"):
            self._database.execute(f"SET {setting}")
        self._database.execute("SET threads = 1")
        # As bytes: they are compared as they are.
        self._database.execute("CREATE TABLE pairs (anonymous BLOB, person BLOB, place BIGINT)")
        self._rows = self._added = 0

    def add(self, anonymous: Any, person: Any, places: Rows) -> None:
        """Add pairs.

        Args:
            anonymous: Arrow array of text, without nulls.
            person: The user id of each.
            places: Number of the row of each in the whole table.
        """
        columns = {
            "anonymous": anonymous.cast(pa.binary()),
            "person": person.cast(pa.binary()),
            "place": places,
        }
        # Most pairs repeat within a chunk.
        groups = pa.table(columns).group_by(["anonymous", "person"])
        distinct = groups.aggregate([("place", "min")])
        self._database.register("new_pairs", distinct)
        self._database.execute("INSERT INTO pairs SELECT * FROM new_pairs")
        self._database.unregister("new_pairs")
        self._added += distinct.num_rows
        if self._added >= max(_COMPACT_ROWS, self._rows):
            self._compact()

    def _compact(self) -> None:
        """Drop repeated pairs."""
        self._database.execute(
            "CREATE OR REPLACE TABLE pairs AS SELECT anonymous, person, min(place) AS place "
            "FROM pairs GROUP BY ALL ORDER BY place"
        )
        ((self._rows,),) = self._database.execute("SELECT count(*) FROM pairs").fetchall()
        self._added = 0

    def _reader(self, query: str) -> Any:
        return self._database.cursor().sql(query).to_arrow_reader(_READ_ROWS)

    def finish(self) -> None:
        """Bring the pairs into their final order."""
        self._compact()

    def __len__(self) -> int:
        return self._rows

    def ambiguous(self) -> DigestSet:
        """The anonymous ids that have more than one user id, after :meth:`finish`."""
        found = DigestSet()
        query = "SELECT anonymous FROM pairs GROUP BY anonymous HAVING count(*) > 1"
        with self._reader(query) as reader:
            for batch in reader:
                found.before(key_digests(batch.column(0)))
        return found

    def reader(self, names: dict[str, str]) -> Callable[[list[str]], Any]:
        """A function that opens a reader of some columns, after :meth:`finish`.

        Args:
            names: Name of each column by what it holds, ``anonymous`` or ``person``.
        """

        def open_reader(columns: list[str]) -> Any:
            chosen = [kind for name in columns for kind in names if names[kind] == name]
            query = f"SELECT {', '.join(chosen)} FROM pairs"  # noqa: S608  # fixed names
            reader = self._reader(query)
            schema = pa.schema([(name, pa.string()) for name in columns])

            def batches() -> Generator[Any]:
                with reader:
                    for batch in reader:
                        arrays = [array.cast(pa.string()) for array in batch.columns]
                        yield pa.RecordBatch.from_arrays(arrays, schema=schema)

            return pa.RecordBatchReader.from_batches(schema, batches())

        return open_reader


def _discard(database: Any, folder: str) -> None:
    database.close()
    shutil.rmtree(folder, ignore_errors=True)


def collect(
    source: Source, binding: Binding, note: Callable[[MessageBatch], None] = lambda _: None
) -> PairTable:
    """The distinct pairs of all rows that have both ids.

    Args:
        source: The table.
        binding: A mapping of identify calls, bound to the table.
        note: Called with what was read of each chunk.

    Raises:
        SourceError: The table cannot be read, or there is no room for the pairs.
    """
    try:
        pairs = PairTable()
        with closing(source.chunks(binding.guard_columns)) as chunks:
            for chunk in chunks:
                batch = build(binding, chunk.batch, who_what_when=True)
                note(batch)
                good = ~batch.problems.mask()
                if good.any():
                    mask = pa.array(good)
                    anonymous, person = (batch.fields[name].filter(mask) for name in _IDS)
                    pairs.add(anonymous, person, chunk.start + np.flatnonzero(good))
        pairs.finish()
    except (duckdb.Error, OSError) as error:
        raise SourceError(
            f"The identities of {source.name} could not be collected ({type(error).__name__}). "
            f"Make room on the disk that has the folder {tempfile.gettempdir()}."
        ) from None  # the cause can show a cell
    return pairs


def anonymous_ids(source: Source, binding: Binding, rows: int) -> DigestSet:
    """The anonymous ids of the first rows of a table of events.

    Args:
        source: The table.
        binding: Its mapping, bound to it.
        rows: Number of rows.
    """
    found = DigestSet()
    with closing(source.chunks(binding.guard_columns)) as chunks:
        for chunk in chunks:
            batch = build(binding, chunk.batch.slice(0, rows - chunk.start), who_what_when=True)
            if "anonymousId" in batch.fields:
                found.before(key_digests(batch.fields["anonymousId"].drop_null()))
            if chunk.start + chunk.batch.num_rows >= rows:
                break
    return found
