"""Writes the outcome of every row to parquet files, run by run, to be read beside the table.

The folder holds two tables, each a folder of parquet files: ``runs`` with a line for each run, and
``rows`` with a line for each row of each run. A file gets its name once it is complete, so that a
reader, and whoever comes after a crash, sees complete files only.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cdp_backfill.errors import BadInputError
from cdp_backfill.model.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP_ROWS: Final = 65_536
"""Rows that are kept in memory before they are written."""

FILE_ROWS: Final = 1_048_576
"""Rows of a file, about; then it gets its name and the next one begins."""

ROWS_SCHEMA: Final = pa.schema(
    [
        ("run", pa.string()),
        ("origin_run", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("outcome", pa.string()),
        ("code", pa.string()),
        ("message_id", pa.string()),
        ("delivered_before", pa.bool_()),
    ]
)
"""The columns of ``rows``."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a drive has one letter

_TIME: Final = pa.timestamp("us", tz="UTC")

RUNS_SCHEMA: Final = pa.schema(
    [
        ("run", pa.string()),
        ("call", pa.string()),
        ("url", pa.string()),
        ("journal", pa.string()),
        ("started", _TIME),
        ("ended", _TIME),
        ("state", pa.string()),
        *((str(outcome), pa.int64()) for outcome in OUTCOMES),
    ]
)
"""The columns of ``runs``."""


def outcome_folder(folder: str | Path) -> Path:
    """The folder for the outcomes, which is created if it does not exist.

    Raises:
        BadInputError: It is no folder of this machine, or cannot be written.
    """
    if _SCHEME.match(str(folder)):
        raise BadInputError(
            f"outcomes= takes a folder on this machine, not {str(folder)!r}. Write the files here "
            "and copy the folder when the run has ended."
        )
    path = Path(folder).expanduser()
    try:
        for name in ("runs", "rows"):
            (path / name).mkdir(parents=True, exist_ok=True)
            probe = path / name / f".{os.getpid()}.probe"
            _create(probe)
            probe.unlink()
    except OSError as error:
        raise BadInputError(
            f"The folder {path} for the outcomes cannot be written: {error.strerror or error}. "
            "Pass outcomes= another folder."
        ) from error
    return path


class OutcomeFiles:
    """The files of one run. Not thread-safe: the outcome tracker holds its lock.

    Args:
        folder: What :func:`outcome_folder` returned.
        run: Name of the run.
        about: Further columns of the line in ``runs``: ``call``, ``url`` and ``journal``.
    """

    def __init__(self, folder: Path, run: str, about: Mapping[str, str | None]) -> None:
        self.folder = folder
        """The folder."""
        self.run = run
        """Name of the run."""
        self.error: OSError | None = None
        """What kept a part from being written; then nothing further is."""
        self._started = datetime.now(UTC)
        self._about = about
        self._name = f"{self._started:%Y%m%dT%H%M%SZ}-{run}"
        self._tables: list[Any] = []
        self._rows = 0
        self._file: _Part | None = None
        self._number = 0
        self._guarded(lambda: self._write_run(None, None, None))

    @property
    def paths(self) -> list[Path]:
        """The complete files with rows of this run, in the order of writing."""
        return sorted((self.folder / "rows").glob(f"{self._name}-*.parquet"))

    def append(self, table: Any) -> None:
        """Add rows.

        Args:
            table: An Arrow table with the columns of ``rows`` but the run.
        """
        if self.error is not None or not table.num_rows:
            return
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows >= GROUP_ROWS:
            self._guarded(self._write_rows)

    def close(self, state: str, counts: Mapping[str, int]) -> None:
        """Write what is left, and how the run ended.

        Args:
            state: How it ended: ``done``, ``stopped`` or ``interrupted``.
            counts: Rows by outcome.
        """
        if not self._number:  # a table without rows is a table, too
            self._tables.append(ROWS_SCHEMA.empty_table().drop_columns("run"))
        self._guarded(self._write_rows)
        self._guarded(self._end_file)
        self._guarded(lambda: self._write_run(datetime.now(UTC), state, counts))

    def _guarded(self, write: Any) -> None:
        if self.error is not None:
            return
        try:
            write()
        except OSError as error:
            self.error = error
            self._tables = []
            if self._file is not None:
                self._file.discard()
                self._file = None

    def _write_rows(self) -> None:
        if not self._tables:
            return
        whole = pa.concat_tables(self._tables)
        whole = whole.append_column("run", pa.repeat(self.run, whole.num_rows))
        self._tables, self._rows = [], 0
        if self._file is None:
            path = self.folder / "rows" / f"{self._name}-{self._number:06d}.parquet"
            self._file = _Part(path, ROWS_SCHEMA)
            self._number += 1
        self._file.write(whole.select(ROWS_SCHEMA.names).cast(ROWS_SCHEMA))
        if self._file.rows >= FILE_ROWS:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.complete()
            self._file = None

    def _write_run(
        self, ended: datetime | None, state: str | None, counts: Mapping[str, int] | None
    ) -> None:
        line: dict[str, Any] = {"run": self.run, **self._about, "started": self._started}
        line |= {"ended": ended, "state": state} | dict(counts or {})
        part = _Part(self.folder / "runs" / f"{self._name}.parquet", RUNS_SCHEMA)
        part.write(pa.Table.from_pylist([line], RUNS_SCHEMA))
        part.complete()


class _Part:
    """A file that gets its name once it is complete."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.part")
        _create(self._temporary)
        self._writer = pq.ParquetWriter(self._temporary, schema, compression="zstd")
        self.rows = 0
        """Rows so far."""

    def write(self, table: Any) -> None:
        """Write rows."""
        self._writer.write_table(table)
        self.rows += table.num_rows

    def complete(self) -> None:
        """Close the file and give it its name; a file of this name is replaced."""
        self._writer.close()
        with self._temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the name must not survive a power cut that the rows do not
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()


def _create(path: Path) -> None:
    """Create an empty file that only its owner can read, where there are such modes."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))


def read_outcomes(files: list[OutcomeFiles]) -> Any:
    """The rows of some runs as a DataFrame, each row once with its last outcome.

    Args:
        files: The files of the runs, the earliest first.

    Raises:
        BadInputError: A file is missing, or could not be written.
    """
    tables = []
    for each in files:
        if each.error is not None:
            raise BadInputError(
                f"The outcomes in {each.folder} are incomplete: {each.error.strerror or each.error}"
                ". Make room and resume the run with its journal: it writes every row again."
            )
        try:
            tables += [pq.read_table(path, partitioning=None) for path in each.paths]
        except OSError as error:
            raise BadInputError(f"The outcomes in {each.folder} cannot be read: {error}") from error
    frame = pa.concat_tables([*tables, ROWS_SCHEMA.empty_table()]).to_pandas()
    frame = frame.drop_duplicates(["origin_run", "source", "row"], keep="last")
    return frame.sort_values(["origin_run", "source", "row"], ignore_index=True)
