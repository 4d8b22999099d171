"""Members of JSON objects by path, and what is left of the objects without them.

Values keep the text that they have in JSON, so that 1.10 stays 1.10 and no digit is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from cdp_backfill.model.arrow_types import is_bytes, is_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_JSON: Final = pa.json_(pa.string())
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Object:
    """A JSON object whose members are read when they are needed."""

    __slots__ = ("_inner", "_members", "_without")

    def __init__(self, members: dict[str, msgspec.Raw]) -> None:
        self._members = members
        self._inner: dict[str, _Object | None] = {}
        self._without: set[str] = set()

    @property
    def names(self) -> Collection[str]:
        return self._members.keys()

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._members[name])

    def inner(self, name: str) -> _Object | None:
        """The object that a member is, or None."""
        if name not in self._inner:
            self._inner[name] = _object(self._members[name])
        return self._inner[name]

    def find(self, path: str) -> tuple[_Object, str] | None:
        """The object that has the member of a path, and its name there; the longest names first."""
        if path in self._members:
            return self, path
        end = path.rfind(".")
        while end >= 0:
            if path[:end] in self._members:
                inner = self.inner(path[:end])
                found = inner and inner.find(path[end + 1 :])
                if found:
                    return found
            end = path.rfind(".", 0, end)
        return None

    def take_out(self, name: str) -> None:
        """Leave a member out of what is left."""
        self._without.add(name)

    def left(self, whole: bytes) -> bytes | None:
        """The JSON of what is left; None where nothing is.

        Args:
            whole: The JSON of the object.
        """
        changed, kept = bool(self._without), {}
        for name, value in self._members.items():
            if name in self._without:
                continue
            inner = self._inner.get(name)
            raw = bytes(value)
            left = raw if inner is None else inner.left(raw)
            changed |= left is not raw
            if left is not None:
                kept[name] = msgspec.Raw(left)
        if not changed:
            return whole
        return msgspec.json.encode(kept) if kept else None


def _object(cell: bytes | msgspec.Raw) -> _Object | None:
    try:
        return _Object(_decode(cell))
    except _UNREADABLE:
        return None


def split_members(
    array: Any, paths: Sequence[str], taken: Collection[str] = ()
) -> tuple[list[Any], Any]:
    """The members of some paths, and the cells without others.

    Args:
        array: JSON, or text or bytes that hold it, or nulls. What is no object has no members.
        paths: Names of members, with dots between the levels. Names may hold dots themselves; of
            several readings, the one with the longest first name counts.
        taken: Paths of the members that are left out of the cells.

    Returns:
        For each path an array of JSON, null where there is no such member; and the cells.

    >>> array = pa.array(['{"id": 7, "os": {"name": "iOS", "version": 1.10}}'])
    >>> (names, versions), left = split_members(array, ["os.name", "os.version"], ["os.name"])
    >>> versions.storage.to_pylist(), left.to_pylist()
    (['1.10'], ['{"id":7,"os":{"version":1.10}}'])
    """
    values: list[list[bytes | None]] = [[] for _ in paths]
    rest: list[bytes | None] = []
    for cell in _cells(array):
        item = None if cell is None else _object(cell)
        for path, column in zip(paths, values, strict=True):
            place = item and item.find(path)
            value = place[0][place[1]] if place else None
            column.append(None if value == b"null" else value)
        if item is None:
            rest.append(cell)
            continue
        # All are found before any is taken out.
        for owner, name in [place for path in taken if (place := item.find(path))]:
            owner.take_out(name)
        rest.append(item.left(cell or b""))
    members = [pa.ExtensionArray.from_storage(_JSON, _text(column)) for column in values]
    return members, _typed(rest, array.type) if taken else array


def member_names(array: Any, path: str = "") -> Iterator[str]:
    """The names of the members of each object; or of the objects at a path in them.

    >>> list(member_names(pa.array(['{"os": {"name": "iOS"}}', '{"os": 7}']), "os"))
    ['name']
    """
    for cell in _cells(array):
        item = None if cell is None else _object(cell)
        if item is not None and path:
            found = item.find(path)
            item = found[0].inner(found[1]) if found else None
        if item is not None:
            yield from item.names


def _cells(array: Any) -> list[bytes | None]:
    storage = array.storage if is_json(array.type) else array
    cells: list[bytes | None] = storage.cast(pa.large_binary()).to_pylist()
    return cells


def _text(cells: list[bytes | None]) -> Any:
    """Bytes as text; a later check reports each row in which they are none."""
    binary = pa.array(cells, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())


def _typed(cells: list[bytes | None], kind: Any) -> Any:
    if pa.types.is_null(kind):
        return pa.nulls(len(cells))
    if is_json(kind):
        return pa.ExtensionArray.from_storage(kind, _text(cells).cast(kind.storage_type))
    return pa.array(cells, pa.binary()).cast(kind) if is_bytes(kind) else _text(cells).cast(kind)
