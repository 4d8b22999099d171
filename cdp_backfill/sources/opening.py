"""Opens files as one source, whatever their format and their names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import SourceError
from cdp_backfill.model.plurals import count, with_article
from cdp_backfill.sources.files import ColumnarSource
from cdp_backfill.sources.formats import recognise
from cdp_backfill.sources.lake_tables import refuse_lake_tables
from cdp_backfill.sources.partitions import PartitionedSource, partition_of
from cdp_backfill.sources.paths import absolute_paths, files_of
from cdp_backfill.sources.texts import TextSource
from cdp_backfill.sources.zips import is_member, members_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cdp_backfill.sources.chunks import Source
    from cdp_backfill.sources.formats import Recognised
    from cdp_backfill.sources.paths import File

_READERS: Final = 16
"""Files that are recognised at a time; each costs a round trip to an object store."""

_NAMED: Final = 3


def open_files(paths: Sequence[str | Path], *, skip: bool = False) -> Source:
    """Open files of one format.

    Args:
        paths: Paths, folders and globs.
        skip: Whether a row of text that cannot be read is a row of its own, and no error.

    Raises:
        SourceError: There are none, they are no tables, or they have several formats.
    """
    files = files_of(paths)
    refuse_lake_tables(files)
    found = list(_with_members(_recognised(files)))
    tables = _tables(found)
    source = _source(tables, _notes(found), skip=skip)
    cells = {each.file.name: partition_of(each.file) for each in tables}
    if any(cells.values()):
        source = PartitionedSource(source, cells)
    source.paths = absolute_paths(paths)
    return source


def _recognised(files: Sequence[File]) -> list[Recognised]:
    if len(files) == 1:
        return [recognise(files[0])]
    with ThreadPoolExecutor(min(_READERS, len(files))) as pool:
        return list(pool.map(recognise, files))


def _with_members(found: Sequence[Recognised]) -> Iterator[Recognised]:
    """The same files, with the files in archives in place of these."""
    for each in found:
        if each.format != "zip":
            yield each
            continue
        members = members_of(each.file)
        refuse_lake_tables(members)
        if not members:
            raise SourceError(f"There is no file in the archive {each.file.name!r}.")
        for member in _recognised(members):
            if member.format == "zip":
                raise SourceError(
                    f"The archive {each.file.name!r} holds another archive, {member.file.path!r}. "
                    "Unpack it, and pass the files."
                )
            yield member


def _tables(found: Sequence[Recognised]) -> list[Recognised]:
    """The files that are tables of one format; empty files are of any."""
    for each in found:
        if each.foreign is not None and not each.file.listed:
            raise each.foreign.error(each.file.name)
    firsts: dict[Any, Recognised] = {}
    for each in found:
        if each.format not in (None, "empty"):
            firsts.setdefault(each.format, each)
    if len(firsts) > 1:
        kinds = [
            f"{each.file.name!r} is {with_article(str(kind))} file" for kind, each in firsts.items()
        ]
        first = next(iter(firsts.values()))
        way = (
            "Unpack the archive, and send them in separate runs."
            if is_member(first.file)
            else "Send them in separate runs, for example with a glob such as 'folder/*.csv' for "
            "each."
        )
        raise SourceError(f"{kinds[0]} and {kinds[1]}. {way}")
    tables = [each for each in found if each.format is not None]
    if not tables:
        foreign = next(each for each in found if each.foreign is not None)
        assert foreign.foreign is not None  # noqa: S101
        raise foreign.foreign.error(foreign.file.name)
    return tables


def _source(tables: Sequence[Recognised], notes: Sequence[str], *, skip: bool) -> Source:
    files = [each.file for each in tables]
    kind = next((each.format for each in tables if each.format != "empty"), None)
    if kind is None:  # all are empty
        kind = "JSON" if files[0].ending in ("json", "ndjson", "jsonl", "ldjson") else "CSV"
    if kind in ("CSV", "JSON"):
        return TextSource(files, kind, notes, skip=skip)
    filled = [each.file for each in tables if each.format == kind or not each.file.listed]
    if len(filled) < len(files):
        empty = count(len(files) - len(filled), "empty file")
        notes = [*notes, f"{empty} {'is' if empty.startswith('1 ') else 'are'} left out."]
    return ColumnarSource(filled, kind, notes)


def _notes(found: Sequence[Recognised]) -> list[str]:
    """What people should know about files that were left out."""
    left = [each for each in found if each.foreign is not None]
    unread = [each for each in left if each.foreign and each.foreign.line]
    others = [each for each in left if each not in unread]
    notes = [
        f"The file {each.file.name!r} is {each.foreign.what}. It is left out: its rows are not "
        f"sent. To send them: {each.foreign.line}, then df.cdp.send(...)."
        for each in unread[:_NAMED]
        if each.foreign
    ]
    if len(unread) > _NAMED:
        notes.append(f"{count(len(unread) - _NAMED, 'other file')} of this kind are left out, too.")
    if others:
        named = ", ".join(
            f"{each.file.name!r} ({each.foreign.what})" for each in others[:_NAMED] if each.foreign
        )
        more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
        are = "file is no table and is" if len(others) == 1 else "files are no tables and are"
        notes.append(f"{len(others):,} {are} left out: {named}{more}.")
    return notes
