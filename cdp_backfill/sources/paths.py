"""Paths, folders and globs, here or in an object store, as files."""

from __future__ import annotations

import glob as globbing
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILES: Final = 100_000
"""Most files of a run; each is opened twice, and something of each is held."""

_OWN: Final = ".cdp-journal"
"""In the names of this package's own files, which lie beside tables."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, and how to read its bytes.

    Attributes:
        name: The name in messages, and the origin of its rows.
        system: Arrow file system.
        path: Path in that file system.
        listed: Whether a folder, a glob or an archive led to it, so that it can be left out.
        layers: Compressions to undo, from outside to inside.
        encoding: Encoding of its text.
        mark: Bytes of the mark before the text.
    """

    name: str
    system: Any
    path: str
    listed: bool = False
    layers: tuple[str, ...] = ()
    encoding: str = "utf-8"
    mark: int = 0

    @property
    def ending(self) -> str:
        """The last part of the name, in lower case and without the dot; "" if there is none.

        >>> File("opens.CSV.gz", None, "").ending, File("part-00000", None, "").ending
        ('csv', '')
        """
        suffixes = [suffix.lower()[1:] for suffix in PurePosixPath(self.name).suffixes]
        while suffixes and suffixes[-1] in _COMPRESSIONS:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""


_COMPRESSIONS: Final = frozenset({"gz", "gzip", "bz2", "xz", "zst", "zstd", "lz4", "zip"})


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
    check_count(len(files), "The paths stand for")
    _check_twice([file.name for file in files])
    return files


def check_count(files: int, what: str) -> None:
    """Refuse more files than one run can read.

    Args:
        files: Number of files.
        what: Where they come from, as the beginning of a sentence.

    Raises:
        SourceError: There are more.
    """
    if files > MAX_FILES:
        raise SourceError(
            f"{what} {files:,} files; one run reads up to {MAX_FILES:,}. Send them in several "
            "runs, or join them first. With duckdb: COPY (FROM 'folder/*.json') TO 'all.parquet'."
        )


def is_hidden(inner: PurePosixPath) -> bool:
    """Whether a file is not part of the table in its folder.

    Such are the files that Spark and others write for themselves, such as _SUCCESS and .part.crc,
    and the journals of this package.

    Args:
        inner: Its path below the folder.
    """
    return any(part[0] in "_." for part in inner.parts) or _OWN in inner.name


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
    if "://" not in path and _is_special(inner):
        raise SourceError(
            f"{path!r} is a device, a pipe or a socket, and no file: it can only be read once, or "
            "has no end. Save its content as a file, and pass that."
        )
    is_glob = any(letter in inner for letter in "*?[")
    listed = True
    if is_glob and system.get_file_info(inner).type == pa.fs.FileType.NotFound:
        names = _glob(system, inner)
        if not names:
            raise SourceError(f"No file matches {path!r}.")
    elif system.get_file_info(inner).type == pa.fs.FileType.Directory:
        names = _below(system, inner)
        if not names:
            raise SourceError(f"There is no file in the folder {path!r}.")
    else:
        names, listed = [inner], False
    return [File(prefix + name, system, name, listed=listed) for name in names]


def _is_special(path: str) -> bool:
    """Whether there is something that is neither a file nor a folder."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _glob(system: Any, pattern: str) -> list[str]:
    if isinstance(system, pa.fs.LocalFileSystem):
        names = globbing.glob(pattern, recursive=True)  # noqa: PTH207  # absolute patterns too
        return sorted(
            file
            for name in names
            for file in (_below(system, name) if Path(name).is_dir() else [name])
            if _OWN not in file and not _is_special(file)
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
        if info.is_file
        and not is_hidden(PurePosixPath(Path(info.path).relative_to(root).as_posix()))
    )
