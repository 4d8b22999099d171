"""Recognises what a file is from its first bytes, whatever its name is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from cdp_backfill.sources import zips
from cdp_backfill.sources.foreign_files import (
    Foreign,
    foreign_bytes,
    foreign_text,
    is_binary,
    office_file,
)
from cdp_backfill.sources.texts.encodings import find_encoding
from cdp_backfill.sources.texts.layout import find_layout
from cdp_backfill.sources.unpacking import HEAD_BYTES, peel

if TYPE_CHECKING:
    from cdp_backfill.sources.paths import File

Format = Literal["parquet", "Arrow", "ORC", "CSV", "JSON", "zip", "empty"]

_MAGIC: Final[tuple[tuple[bytes, Format], ...]] = (
    (b"PAR1", "parquet"),
    (b"ARROW1\x00\x00", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),  # a stream
    (b"ORC", "ORC"),
)

_JSON_START: Final = re.compile(
    r"""\{\s*(?:"(?:[^"\\]|\\.)*+"\s*:|\})   # an object
    |\[\s*(?:[{\[\]]|"(?:[^"\\]|\\.)*+"\s*[,\]]|-?\d[\d.eE+-]*\s*,)  # an array""",
    re.DOTALL | re.VERBOSE,
)

_JSON_ENDINGS: Final = frozenset({"json", "ndjson", "jsonl", "ldjson", "ips", "har"})
_CSV_ENDINGS: Final = frozenset({"csv", "tsv", "tab", "psv", "ssv", "txt"})

_DOCUMENTS: Final = frozenset({
    "cfg", "conf", "css", "htm", "html", "ini", "ipynb", "js", "lock", "md", "py", "r", "rst", "sh",
    "sql", "svg", "tex", "toml", "ts", "xml", "yaml", "yml",
})  # fmt: skip
"""Endings of texts that are no tables, even if they have commas."""


_DESCRIPTIONS: Final = re.compile(
    r"(?:.*[-_. ])?(?:manifest|schema|metadata|dataset_info|datapackage|package|config)",
    re.IGNORECASE,
)
"""Names that tools give to a list of the files in a folder, or to what describes them."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file is.

    Attributes:
        file: The file, with its compressions and its encoding.
        format: Its format; None if it is no table that can be read.
        foreign: If it is none: what it is.
    """

    file: File
    format: Format | None
    foreign: Foreign | None = None


def recognise(file: File) -> Recognised:
    """What a file is.

    Raises:
        SourceError: There is no such file, or it cannot be unpacked.
    """
    file, head = peel(file)
    for magic, format_ in _MAGIC:
        if head.startswith(magic) and is_binary(head):
            return Recognised(file, format_)
    if head.startswith(zips.MARKS):
        return _recognise_zip(file)
    foreign = foreign_bytes(head, file)
    if foreign is not None:
        return Recognised(file, None, foreign)
    encoding = find_encoding(head)
    if encoding is None:
        return Recognised(file, None, Foreign("of a binary format that is not known here"))
    file = replace(file, encoding=encoding.name, mark=encoding.mark)
    return _recognise_text(file, encoding.decode(head), complete=len(head) < HEAD_BYTES)


def _recognise_zip(file: File) -> Recognised:
    office = office_file(zips.member_names(file), file)
    if office is None and file.layers:
        advice = "Unpack it, and pass the files."
        return Recognised(
            file, None, Foreign("a zip archive that was compressed again", "", advice)
        )
    return Recognised(file, None if office else "zip", office)


def _recognise_text(file: File, text: str, *, complete: bool) -> Recognised:
    start = text.lstrip("\ufeff \t\r\n\x0b\x0c")
    if not start and complete:
        return Recognised(file, "empty")
    if file.listed and file.ending in _DOCUMENTS:
        return Recognised(file, None, Foreign("a text that is no table"))
    if file.listed and _is_description(file, start):
        return Recognised(file, None, Foreign("a description of files, and no table"))
    if _JSON_START.match(start):
        return Recognised(file, "JSON")
    foreign = foreign_text(start, file)
    if foreign is not None:
        return Recognised(file, None, foreign)
    layout = find_layout(text, complete=complete)
    if file.ending in _JSON_ENDINGS and not layout.is_table:
        return Recognised(file, "JSON")
    is_named = file.ending in _CSV_ENDINGS and (not file.listed or file.ending != "txt")
    may_be_table = layout.may_be_table and not file.listed and file.ending not in _DOCUMENTS
    is_table = layout.is_table and not (file.listed and layout.is_spaced)
    if is_named or is_table or may_be_table:
        return Recognised(file, "CSV")
    return Recognised(file, None, Foreign("a text that is no table"))


def _is_description(file: File, start: str) -> bool:
    """Whether a text is a JSON document about the files beside it, such as ``manifest.json``."""
    name = PurePosixPath(file.name).name
    if not (_DESCRIPTIONS.fullmatch(name.partition(".")[0]) or name.endswith(".manifest")):
        return False
    first, *others = start.splitlines()
    if "manifest" in name.casefold():
        return first.startswith(("{", "["))
    # Rows are several objects; a document is one, on one line or on many.
    return first.startswith("{") and not any(line.startswith("{") for line in others)
