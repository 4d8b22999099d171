"""Refuses the files of Delta, Iceberg and Hudi tables.

In the folder of such a table, there are also files whose rows were deleted or replaced. Only its
log lists the files that are the table, so the files alone would send rows that no longer exist.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp_backfill.sources.paths import File

# Folders of a table that lie between its own folder and its files.
_INNER: Final = re.compile(r"[^/=]+=[^/]*|data|[01]{4}")

_METADATA: Final = re.compile(r"(?:v|0*)(\d+)(?:-[^/]*)?\.(?:gz\.)?metadata\.json$")


def refuse_lake_tables(files: Iterable[File]) -> None:
    """Check that no file belongs to a Delta, Iceberg or Hudi table.

    Raises:
        SourceError: One does; the text names a reader of the table.
    """
    checked: set[tuple[str, str]] = set()
    for file in files:
        prefix = file.name.removesuffix(file.path)
        for folder in _folders(file):
            key = (prefix, folder)
            if key not in checked:
                checked.add(key)
                _check(file.system, folder, prefix + folder)


def _folders(file: File) -> list[str]:
    """The folders that can be that of the table: up to the first that has a name of its own."""
    path = PurePosixPath(file.path)
    if isinstance(file.system, pa.fs.LocalFileSystem):
        path = PurePosixPath(Path(file.path).absolute().as_posix())
    folders = []
    for parent in path.parents:
        folders.append(str(parent))
        if not _INNER.fullmatch(parent.name):
            break
    return folders


def _check(system: Any, folder: str, name: str) -> None:
    paths = [f"{folder}/{inner}" for inner in ("_delta_log", ".hoodie", "metadata")]
    try:
        infos = system.get_file_info(paths)
    except (pa.ArrowException, OSError):  # such as a bucket whose root cannot be listed
        return
    delta, hudi, metadata = (info.type == pa.fs.FileType.Directory for info in infos)
    kind = "Delta" if delta else "Hudi" if hudi else "Iceberg"
    newest = _newest_metadata(system, paths[2]) if metadata else None
    if isinstance(system, pa.fs.PyFileSystem) and (delta or hudi or newest):
        raise SourceError(f"{_what(name, kind)} Unpack the archive, and pass the folder.")
    if delta:
        place = name if "://" in name else Path(name).absolute().as_uri()
        raise _refusal(name, "Delta", f'table = duckdb.sql("FROM delta_scan({place!r})")')
    if hudi:
        raise SourceError(
            f"{_what(name, 'Hudi')} Read the table itself and write its rows to a new folder, for "
            f'example with Spark: spark.read.format("hudi").load({name!r}).write.parquet("new"). '
            "Then pass the new folder."
        )
    if newest is not None:
        place = newest if "://" not in name else name[: len(name) - len(folder)] + newest
        scan = f"iceberg_scan({place!r}, allow_moved_paths = true)"
        raise _refusal(name, "Iceberg", f'table = duckdb.sql("FROM {scan}")')


def _newest_metadata(system: Any, folder: str) -> str | None:
    infos = system.get_file_info(pa.fs.FileSelector(folder))
    found = [
        (int(match[1]), info.path)
        for info in infos
        if info.is_file and (match := _METADATA.match(PurePosixPath(info.path).name))
    ]
    return max(found)[1] if found else None


def _what(name: str, kind: str) -> str:
    return (
        f"The folder {name!r} is a table of {kind}. Its files also hold rows that were deleted or "
        "replaced."
    )


def _refusal(name: str, kind: str, line: str) -> SourceError:
    return SourceError(
        f"{_what(name, kind)} Read the table itself: {line}, then cdp.send(table, ...)."
    )
