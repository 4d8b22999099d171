"""Paths, folders and globs, here or in an object store, as files."""

from __future__ import annotations

import glob as globbing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

File = tuple[str, Any, str]
"""Name, Arrow file system, and path there."""


def files_of(paths: Sequence[str | Path]) -> list[File]:
    """The files that paths, folders and globs stand for.

    Args:
        paths: Local, or with a scheme that Arrow knows such as ``s3://`` and ``gs://``. Of a
            folder, all files below whose names do not begin with ``_`` or a dot.

    Raises:
        SourceError: There are none, or one is there twice.
    """
    found = [item for path in paths for item in _expand(str(path))]
    _check_twice([name for name, _, _ in found])
    return found


def _check_twice(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        place = name if "://" in name else str(Path(name).resolve())
        if place in seen:
            raise SourceError(f"The file {name!r} is given twice; its rows would be sent twice.")
        seen.add(place)


def _expand(path: str) -> list[tuple[str, Any, str]]:
    """The files that a path, a folder or a glob stands for: name, file system, path there."""
    if "://" in path:
        try:
            system, inner = pa.fs.FileSystem.from_uri(path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{path!r} cannot be opened: {error}.") from error
        prefix = path[: len(path) - len(inner)]
    else:
        system, inner, prefix = pa.fs.LocalFileSystem(), str(Path(path).expanduser()), ""
    is_glob = any(letter in inner for letter in "*?[")
    if is_glob and system.get_file_info(inner).type == pa.fs.FileType.NotFound:
        names = _glob(system, inner)
        if not names:
            raise SourceError(f"No file matches {path!r}.")
    else:
        names = [inner]
        if system.get_file_info(inner).type == pa.fs.FileType.Directory:
            names = _below(system, inner)
            if not names:
                raise SourceError(f"There is no parquet file in the folder {path!r}.")
    return [(prefix + name, system, name) for name in names]


def _glob(system: Any, pattern: str) -> list[str]:
    if isinstance(system, pa.fs.LocalFileSystem):
        names = globbing.glob(pattern, recursive=True)  # noqa: PTH207  # absolute patterns too
        return sorted(
            file
            for name in names
            for file in (_below(system, name) if Path(name).is_dir() else [name])
        )
    fixed = pattern[: min(pattern.index(letter) for letter in "*?[" if letter in pattern)]
    selector = pa.fs.FileSelector(fixed.rsplit("/", 1)[0], recursive=True)
    found = (info.path for info in system.get_file_info(selector) if info.is_file)
    return sorted(name for name in found if fnmatchcase(name, pattern))


def _below(system: Any, folder: str) -> list[str]:
    selector = pa.fs.FileSelector(folder, recursive=True)
    root = Path(folder)
    return sorted(
        info.path
        for info in system.get_file_info(selector)
        # What Spark and others keep for themselves, such as _SUCCESS and .part.crc.
        if info.is_file
        and not any(part[0] in "_." for part in Path(info.path).relative_to(root).parts)
    )
