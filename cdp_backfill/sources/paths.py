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


def absolute_paths(paths: Sequence[str | Path]) -> list[str]:
    """The same paths and globs, each from the root of the file system; addresses stay."""
    return [
        str(path) if "://" in str(path) else str(Path(path).expanduser().absolute())
        for path in paths
    ]


def files_of(paths: Sequence[str | Path]) -> list[File]:
    """The files behind paths, folders and globs.

    Args:
        paths: Local paths, or addresses with a scheme that Arrow supports, such as ``s3://`` and
            ``gs://``. A folder stands for all files below it whose names do not begin with ``_``
            or a dot.

    Raises:
        SourceError: There are no files, or one is there twice.
    """
    files = [file for path in paths for file in _expand(str(path))]
    _check_twice([name for name, _, _ in files])
    return files


def _check_twice(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        place = name if "://" in name else str(Path(name).resolve())
        if place in seen:
            raise SourceError(
                f"The file {name!r} is passed twice, so its rows would be sent twice. Pass it once."
            )
        seen.add(place)


def _expand(path: str) -> list[File]:
    """The files behind a path, a folder or a glob."""
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
    files = (info.path for info in system.get_file_info(selector) if info.is_file)
    return sorted(name for name in files if fnmatchcase(name, pattern))


def _below(system: Any, folder: str) -> list[str]:
    selector = pa.fs.FileSelector(folder, recursive=True)
    root = Path(folder)
    return sorted(
        info.path
        for info in system.get_file_info(selector)
        # Not the files that Spark and others write for themselves, such as _SUCCESS and .part.crc.
        if info.is_file
        and not any(part[0] in "_." for part in Path(info.path).relative_to(root).parts)
    )
