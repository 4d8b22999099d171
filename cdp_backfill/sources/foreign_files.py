"""Names files that hold no rows, or hold them in a format that must be read with another tool."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.fs

from cdp_backfill.errors import SourceError
from cdp_backfill.sources.texts.encodings import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp_backfill.sources.paths import File


@dataclass(frozen=True, slots=True)
class Foreign:
    """A file that is not read here.

    Attributes:
        what: What it is.
        line: For a table in another format: the line of Python that reads it as ``df``.
        advice: For other files: what to do.
    """

    what: str
    line: str = ""
    advice: str = ""

    def error(self, name: str) -> SourceError:
        """The error about such a file.

        Args:
            name: Its name.
        """
        advice = self.advice or "Pass a table: parquet, CSV, JSON, Arrow or ORC."
        if self.line:
            advice = (
                f"Read it with {self.line}, then df.cdp.send(...); or save it as parquet or CSV, "
                "and pass that file."
            )
        return SourceError(f"The file {name!r} is {self.what}. {advice}")


_UNPACK: Final = "Unpack it, and pass the files."
_NOT_A_TABLE: Final = ""

# Place, first bytes, what it is, and the line that reads it or what to do.
_BINARIES: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"SQLite format 3\x00", "a SQLite database", "sqlite"),
    (0, b"Obj\x01", "an Avro file", "import polars as pl; df = pl.read_avro({name!r})"),
    (0, b"FEA1", "a Feather file of the old version 1", "df = pd.read_feather({name!r})"),
    (0, b"PARE", "an encrypted parquet file", "Decrypt it, and pass the decrypted file."),
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook of the old kind (.xls), or another file of Microsoft Office",
        "df = pd.read_excel({name!r}, dtype=str)",
    ),
    (8, b"DUCK", "a DuckDB database", "duckdb"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "df = pd.read_hdf({name!r})"),
    (0, b"<stata_dta>", "a Stata file", "df = pd.read_stata({name!r})"),
    (0, b"$FL2", "an SPSS file", "df = pd.read_spss({name!r})"),
    (0, b"$FL3", "an SPSS file", "df = pd.read_spss({name!r})"),
    (84, b"SAS FILE", "a SAS file", "df = pd.read_sas({name!r})"),
    (0, b"\x93NUMPY", "an array of NumPy", "df = pd.DataFrame(np.load({name!r}))"),
    (0, b"RDX", "data of R", "Save it in R with arrow::write_parquet(), and pass that file."),
    (0, b"\x00\x01\x00\x00Standard ", "a Microsoft Access database", "Export its table as CSV."),
    (0, b"PGDMP", "a dump of PostgreSQL", "Restore it with pg_restore, and query the table."),
    (0, b"SEQ", "a sequence file of Hadoop", "Write it as parquet with Spark."),
    (0, b"RCF", "an RCFile of Hive", "Write it as parquet with Spark or Hive."),
    (0, b"bplist00", "a binary property list of Apple", _NOT_A_TABLE),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x1f\x9d", "a file of the tool compress (.Z)", _UNPACK),
    (
        0,
        b"\xff\x06\x00\x00sNaPpY",
        "compressed with snappy",
        "Unpack it, for example with snzip -d.",
    ),
    (0, b"%PDF", "a PDF document", _NOT_A_TABLE),
    (0, b"\x89PNG\r\n\x1a\n", "an image", _NOT_A_TABLE),
    (0, b"\xff\xd8\xff", "an image", _NOT_A_TABLE),
    (0, b"GIF8", "an image", _NOT_A_TABLE),
    (0, b"\x7fELF", "a program", _NOT_A_TABLE),
    (0, b"MZ\x90\x00", "a program", _NOT_A_TABLE),
)

# A pickle of protocol 2 or later: its protocol, and perhaps a frame.
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05](?:\x95|[cX(}\]])")

_TEXTS: Final = (
    (
        re.compile(r"version https://git-lfs\.github\.com/"),
        "a pointer of Git LFS, without the data",
        "Get the data with: git lfs pull",
    ),
    (
        re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE),
        "a web page",
        "If you downloaded it, you may have been logged out. Download it again.",
    ),
    (re.compile(r"<\?xml|<[A-Za-z][\w.:-]*[\s>]"), "XML", "df = pd.read_xml({name!r})"),
    (
        re.compile(r"-----BEGIN PGP MESSAGE-----|age-encryption\.org/"),
        "encrypted",
        "Decrypt it, and pass the decrypted file.",
    ),
    (
        re.compile(
            r"(?:--|/\*).*(?:dump|postgresql|mysql|mariadb|sqlite)|CREATE TABLE\b", re.IGNORECASE
        ),
        "a dump of a database, in SQL",
        "Load it into a database, and query the table.",
    ),
    (
        re.compile(r"\{\s*'(?:[^'\\]|\\.)*'\s*:"),
        "text of Python dicts, which is not JSON",
        "import ast; df = pd.DataFrame(map(ast.literal_eval, open({name!r})))",
    ),
    (re.compile(r"\{\s*[A-Za-z_]\w*\s*:\s"), "JSON without quotes around its keys", "Quote them."),
)

# What is in an archive that is one document.
_OFFICE: Final = (
    ("xl/", "an Excel workbook", "df = pd.read_excel({name!r}, dtype=str)"),
    ("word/", "a Word document", _NOT_A_TABLE),
    ("ppt/", "a PowerPoint document", _NOT_A_TABLE),
    ("Index/Document.iwa", "a document of Apple's Numbers, Pages or Keynote", "Export it as CSV."),
    ("META-INF/MANIFEST.MF", "a Java archive", _NOT_A_TABLE),
)
_CONTENTS: Final = "[Content_Types].xml"
_OPEN_DOCUMENT: Final = ("content.xml", "META-INF/manifest.xml")


def is_binary(head: bytes) -> bool:
    """Whether a file is no text, so that its first letters are no word of a header, such as ORC."""
    return len(head) > len(head.translate(None, CONTROLS))


def foreign_bytes(head: bytes, file: File) -> Foreign | None:
    """What a file is, if its first bytes show a format that is not read here.

    Args:
        head: Its first bytes, unpacked.
        file: The file.
    """
    for place, magic, what, then in _BINARIES:
        if head.startswith(magic, place) and is_binary(head):
            if then == "sqlite":
                return Foreign(what, line=_sqlite_line(file))
            if then == "duckdb":
                query = "SELECT * FROM my_table"
                return Foreign(what, line=f"df = duckdb.connect({file.name!r}).sql({query!r}).df()")
            return _foreign(what, then, file)
    if _PICKLE.match(head):
        advice = (
            "A pickle can run any code. If you trust whoever wrote it, read it with df = "
            f"pd.read_pickle({file.name!r}), then df.cdp.send(...)."
        )
        return Foreign("a pickle of Python", advice=advice)
    return None


def foreign_text(start: str, file: File) -> Foreign | None:
    """What a file is, if its first letters show a format that is not read here.

    Args:
        start: Its first letters, without white space before them.
        file: The file.
    """
    for pattern, what, then in _TEXTS:
        if pattern.match(start):
            return _foreign(what, then, file)
    return None


def office_file(names: Sequence[str], file: File) -> Foreign | None:
    """What a zip archive is, if it is one document.

    Args:
        names: The names of the files in it.
        file: The archive.
    """
    for prefix, what, then in _OFFICE:
        is_one = _CONTENTS in names or not prefix.endswith("/")
        if is_one and any(name.startswith(prefix) for name in names):
            return _foreign(what, then, file)
    if all(name in names for name in _OPEN_DOCUMENT):
        line = f"df = pd.read_excel({file.name!r}, dtype=str)"
        return Foreign("a spreadsheet or another OpenDocument file", line=line)
    return None


def _foreign(what: str, then: str, file: File) -> Foreign:
    if "df = " in then:
        return Foreign(what, line=then.format(name=file.name))
    return Foreign(what, advice=then)


def _sqlite_line(file: File) -> str:
    """The line that reads the first table of a SQLite database."""
    table = "my_table"
    if isinstance(file.system, pyarrow.fs.LocalFileSystem) and not file.layers:
        address = f"{Path(file.path).absolute().as_uri()}?immutable=1"
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
        try:
            with closing(sqlite3.connect(address, uri=True)) as database:
                table = next((name for (name,) in database.execute(query)), table)
        except sqlite3.Error:
            pass
    quoted = table.replace('"', '""')
    select = f'SELECT * FROM "{quoted}"'  # noqa: S608  # an example, which is not run
    return f"import sqlite3; df = pd.read_sql({select!r}, sqlite3.connect({file.name!r}))"
