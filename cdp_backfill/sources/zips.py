"""Zip archives as file systems, whose files are unpacked while they are read."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.paths import File, check_count, is_hidden
from cdp_backfill.sources.unpacking import READ_ERRORS, random_access

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKS: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""What an archive begins with; the second is that of an empty one."""

_BUFFER_BYTES: Final = 2**18

_ENCRYPTED: Final = 0x1

_ERRORS: Final = (*READ_ERRORS, ValueError)

_METHODS: Final = frozenset(
    {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
)


def member_names(file: File) -> list[str]:
    """The names of all files in an archive.

    Raises:
        SourceError: The archive is damaged; or it is packed itself, and too large to hold.
    """
    try:
        with zipfile.ZipFile(_python_file(random_access(file))) as archive:
            return archive.namelist()
    except _ERRORS as error:
        raise _damaged(file.name, error) from error


def _damaged(name: str, error: BaseException) -> SourceError:
    return SourceError(f"The archive {name!r} is damaged or cut off: {error}.")


def members_of(file: File) -> list[File]:
    """The files in an archive that may hold rows, each named after the archive and itself.

    Raises:
        SourceError: The archive is damaged or encrypted, or has two files of one name.
    """
    archive = _Archive(file.system, file.path)
    system = pa.fs.PyFileSystem(archive)
    members: list[File] = []
    seen: set[str] = set()
    infos = archive.infos(file.name)
    check_count(len(infos), f"The archive {file.name!r} holds")
    for info in infos:
        path = PurePosixPath(info.filename)
        if not path.parts or is_hidden(path):
            continue
        if info.flag_bits & _ENCRYPTED:
            raise SourceError(
                f"The archive {file.name!r} is encrypted. Unpack it with its password, and pass "
                "the files."
            )
        if info.compress_type not in _METHODS:
            raise SourceError(
                f"The archive {file.name!r} is compressed by a method (number "
                f"{info.compress_type}) that Python cannot undo. Unpack it with the tool that made "
                "it, and pass the files."
            )
        if info.filename in seen:
            raise SourceError(
                f"The archive {file.name!r} has two files named {info.filename!r}. Unpack it, and "
                "pass the files."
            )
        seen.add(info.filename)
        members.append(File(f"{file.name}/{info.filename}", system, info.filename, listed=True))
    return sorted(members, key=lambda member: member.path)


def is_member(file: File) -> bool:
    """Whether a file lies in an archive."""
    system = file.system
    return isinstance(system, pa.fs.PyFileSystem) and isinstance(system.handler, _Archive)


class _Raw(io.RawIOBase):
    """An Arrow file as a file of Python, with Python's error for a place that is not in it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._stream.readinto(buffer))

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self._stream.seek(offset, whence))
        except pa.ArrowInvalid as error:
            raise OSError(str(error)) from None


def _python_file(stream: Any) -> Any:
    return io.BufferedReader(_Raw(stream), _BUFFER_BYTES)


class _Archive(pa.fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """The files in a zip archive, for reading only.

    Args:
        system: Arrow file system of the archive.
        path: Path of the archive there.
    """

    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path
        self._opened: tuple[Any, zipfile.ZipFile] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Archive) and self._place == other._place

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._path)

    def __getstate__(self) -> dict[str, Any]:
        return {"_system": self._system, "_path": self._path, "_opened": None}

    @property
    def _place(self) -> tuple[str, str]:
        return self._system.type_name, self._path

    def _info(self) -> Any:
        return self._system.get_file_info(self._path)

    def _open(self) -> zipfile.ZipFile:
        """The open archive; its table of contents is only read again if the file has changed."""
        info = self._info()
        stamp = (info.size, info.mtime_ns)
        if self._opened is None or self._opened[0] != stamp:
            stream = _python_file(self._system.open_input_file(self._path))
            self._opened = stamp, zipfile.ZipFile(stream)
        return self._opened[1]

    def infos(self, name: str) -> list[zipfile.ZipInfo]:
        """The table of contents, without folders.

        Args:
            name: Name of the archive in messages.

        Raises:
            SourceError: The archive is damaged.
        """
        try:
            return [info for info in self._open().infolist() if not info.is_dir()]
        except _ERRORS as error:
            raise _damaged(name, error) from error

    def get_type_name(self) -> str:
        """Kind of the file system."""
        return "zip"

    def normalize_path(self, path: str) -> str:
        """The path, as it is."""
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        """Size of each file, and the modification time of the archive."""
        if not self._info().is_file:
            return [pa.fs.FileInfo(path, pa.fs.FileType.NotFound) for path in paths]
        return [self._file_info(path) for path in paths]

    def _file_info(self, path: str) -> Any:
        archive = self._open()
        try:
            size = archive.getinfo(path).file_size
        except KeyError:
            is_folder = any(name.startswith(f"{path}/") for name in archive.namelist())
            kinds = pa.fs.FileType
            return pa.fs.FileInfo(path, kinds.Directory if is_folder else kinds.NotFound)
        mtime = self._info().mtime_ns
        times = {} if mtime is None else {"mtime_ns": mtime}
        return pa.fs.FileInfo(path, pa.fs.FileType.File, size=size, **times)

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        """The files below a folder."""
        below = f"{selector.base_dir}/"
        names = (info.filename for info in self.infos(self._path))
        return [self._file_info(name) for name in names if name.startswith(below)]

    def open_input_stream(self, path: str) -> Any:
        """Open a file; it is unpacked while it is read."""
        try:
            return pa.PythonFile(self._open().open(path), mode="r")
        except KeyError:
            raise FileNotFoundError(path) from None

    def open_input_file(self, path: str) -> Any:
        """Not offered: going back in a packed file would unpack it again from its beginning."""
        raise NotImplementedError(path)

    def _read_only(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _read_only
    delete_file = move = copy_file = open_output_stream = open_append_stream = _read_only
