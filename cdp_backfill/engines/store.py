"""Whole files in a folder of any file system of pyarrow, as an object store has them."""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.fs as pa_fs

from cdp_backfill.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CREDENTIALS: Final = re.compile(r"[A-Za-z0-9+.-]+://[^/]*:[^/]*@")
_TRIES: Final = 20
_REPLACING: Final = ("local", "s3", "gcs", "abfs")
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True)
class Store:
    """A folder of small files, each of which is written as a whole and never appended to.

    It can be pickled: each process opens the file system for itself, with the credentials that it
    finds in its own environment.

    Args:
        location: A path, or a URI such as ``s3://bucket/folder``.
    """

    location: str

    @classmethod
    def at(cls, location: str | Path) -> Store:
        """The store at a path, which becomes absolute, or at a URI.

        Raises:
            JournalError: It names no folder, or holds credentials.
        """
        text = str(location).strip()
        if not text:
            raise JournalError(
                "A shared journal is a folder, and '' names none. Pass a path, or a URI such as "
                "'s3://bucket/folder'."
            )
        if _CREDENTIALS.match(text):
            raise JournalError(
                "The URI of a journal must hold no credentials, because it goes to all workers. "
                "Put them into the environment, such as $AWS_ACCESS_KEY_ID, and pass only the "
                "place."
            )
        if _URI.match(text):
            return cls(text.rstrip("/"))
        try:
            return cls(str(Path(text).expanduser().absolute()))
        except RuntimeError as error:  # there is no such user
            raise JournalError(f"The journal {text} has no path: {error}") from error

    @property
    def place(self) -> Path | str:
        """Where it is, for reports and errors."""
        return self.location if _URI.match(self.location) else Path(self.location)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self._opened[0], pa_fs.LocalFileSystem)

    @property
    def replaces_at_once(self) -> bool:
        """Whether a file that is written again is there at every moment."""
        return self._opened[0].type_name in _REPLACING

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path of the folder in it."""
        if not _URI.match(self.location):
            return pa_fs.LocalFileSystem(), self.location
        try:
            system, path = pa_fs.FileSystem.from_uri(self.location)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise JournalError(
                f"The journal {self.location} cannot be opened: {_first_line(error)}. Pass a path, "
                "or a URI of a file system that pyarrow knows, such as 's3://bucket/folder'."
            ) from error
        return system, path.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file system."""
        return {"location": self.location}

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}"

    def is_empty(self) -> bool:
        """Whether there is nothing at this place.

        Raises:
            JournalError: It cannot be read, or is a file.
        """
        system, path = self._opened
        with one_clear_error(self.location):
            if system.get_file_info(path).type is pa_fs.FileType.File:
                raise JournalError(
                    f"A journal of an engine is a folder, and {self.location} is a file. Pass "
                    "the path of a folder."
                )
            selector = pa_fs.FileSelector(path, allow_not_found=True)
            return all(each.path.endswith(_UNFINISHED) for each in system.get_file_info(selector))

    def names(self, folder: str = "") -> dict[str, int | None]:
        """All files in a folder and the folders in it, with the time of their last change.

        Returns:
            Names from this folder, and nanoseconds by the clock of the file system, or None.

        Raises:
            OSError: It cannot be read.
        """
        return {name: info.mtime_ns for name, info in self._files(folder)}

    def sizes(self) -> dict[str, int]:
        """All files, with their bytes.

        Raises:
            OSError: It cannot be read.
        """
        return {name: info.size for name, info in self._files("")}

    def _files(self, folder: str) -> Iterator[tuple[str, Any]]:
        system, root = self._opened
        path = f"{root}/{folder}".rstrip("/")
        selector = pa_fs.FileSelector(path, allow_not_found=True, recursive=True)
        for info in system.get_file_info(selector):
            if info.type is pa_fs.FileType.File and not info.path.endswith(_UNFINISHED):
                yield info.path[len(root) :].lstrip("/"), info

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if there is none.

        Raises:
            OSError: It cannot be read.
        """
        system, path = self._opened[0], self._path(name)
        try:
            with system.open_input_file(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError:
            if system.get_file_info(path).type is pa_fs.FileType.NotFound:
                return None  # not every file system raises the error above
            raise

    def write(self, name: str, content: bytes, *, lasts: bool = True) -> None:
        """Write a file as a whole, in place of an earlier one of this name: all of it or nothing.

        Args:
            name: Name of the file from this folder.
            content: The content.
            lasts: It must survive a power cut, for which a disk takes its time.

        Raises:
            OSError: It cannot be written.
        """
        system, path = self._opened[0], self._path(name)
        if self.is_local:
            _write_private(Path(path), content, lasts=lasts)
        elif self.replaces_at_once:  # an object appears when it is complete
            with system.open_output_stream(path) as file:
                file.write(content)
        else:
            unfinished = f"{path}.{uuid.uuid4().hex}{_UNFINISHED}"
            system.create_dir(path.rpartition("/")[0], recursive=True)
            with system.open_output_stream(unfinished) as file:
                file.write(content)
            if system.get_file_info(path).type is not pa_fs.FileType.NotFound:
                system.delete_file(path)
            system.move(unfinished, path)

    def delete(self, name: str) -> None:
        """Delete a file, if there is one.

        Raises:
            OSError: It cannot be deleted.
        """
        system, path = self._opened[0], self._path(name)
        try:
            system.delete_file(path)
        except OSError:
            if system.get_file_info(path).type is not pa_fs.FileType.NotFound:
                raise


def _write_private(path: Path, content: bytes, *, lasts: bool) -> None:
    """Write a file that only its owner can read, and put it in its place."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_UNFINISHED}")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if lasts:
                file.flush()
                os.fsync(file.fileno())
        _replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _replace(unfinished: Path, path: Path) -> None:
    for _ in range(_TRIES):
        try:
            unfinished.replace(path)
        except PermissionError:  # on Windows, while somebody reads it
            time.sleep(0.01)
        else:
            return
    unfinished.replace(path)


def as_passed(location: str | Path) -> Path | str:
    """A place as its caller wrote it: a path, which can be relative, or a URI.

    >>> as_passed("s3://bucket/folder")
    's3://bucket/folder'
    """
    text = str(location).strip()
    return text if _URI.match(text) else Path(text)


@contextmanager
def one_clear_error(location: str) -> Iterator[None]:
    """Turn what a file system raises into one error.

    Raises:
        JournalError: The folder cannot be read or written.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise JournalError(
            f"The journal {location} cannot be read or written: {_first_line(error)}. Check the "
            "place and the credentials."
        ) from error


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
