"""Every error that this package raises on purpose.

::

    BackfillError
    ├── BadInputError            before anything is sent
    │   ├── MappingError         the mapping does not fit the table or the API
    │   ├── SourceError          the table cannot be read
    │   ├── DestinationError     region, address or API key
    │   ├── JournalError         the journal cannot be used, or is another backfill's
    │   └── MissingExtraError    an optional dependency is not installed
    ├── StoppedError             while sending; ``.report`` accounts for every row
    │   ├── AuthenticationError  the server turned the key down
    │   ├── UnreachableError     no answer from the server
    │   ├── UnexpectedAnswerError  what answered is not the Pipelines API
    │   └── RecentRowsError      rows young enough to message people
    ├── UndeliveredError         from ``report.raise_for_failures()``; has ``.report``
    └── AccountingError          the counts do not add up: a bug of this package
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class BackfillError(Exception):
    """Root of all errors of this package."""


class BadInputError(BackfillError):
    """Something given is wrong; nothing has been sent."""


class MappingError(BadInputError):
    """The mapping is wrong in itself, or does not fit the table or the API."""


class SourceError(BadInputError):
    """The table cannot be read as it was given."""


class DestinationError(BadInputError):
    """The region, the address or the API key is wrong."""


class JournalError(BadInputError):
    """The journal cannot be opened, is in use, or belongs to another backfill."""


class MissingExtraError(BadInputError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f'Install it with: pip install "cdp-backfill[{extra}]"'
        )


class _ReportedError(BackfillError):
    """An error after the start: the report says what became of every row.

    Attributes:
        report: The :class:`~cdp_backfill.Report` of the run up to here.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class StoppedError(_ReportedError):
    """The run ended before its time. Rows that did not get their turn are ``unsent``."""


class AuthenticationError(StoppedError):
    """The server turned the API key down (401 or 403)."""


class UnreachableError(StoppedError):
    """The server could not be reached, and never had been in this run."""


class UnexpectedAnswerError(StoppedError):
    """The address answers, but not as the Pipelines API does."""


class RecentRowsError(StoppedError):
    """Rows are young enough to trigger campaigns, and nobody said that they may."""


class UndeliveredError(_ReportedError):
    """Some rows were not delivered."""


class AccountingError(BackfillError):
    """The outcomes do not add up to the number of rows. Please report it."""
