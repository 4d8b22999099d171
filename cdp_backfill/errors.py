"""Every error that this package raises on purpose.

::

    BackfillError
    ├── BadInputError            raised before anything is sent
    │   ├── KeywordError         there is no such argument
    │   ├── MappingError         the mapping does not fit the table or the API
    │   ├── SourceError          the table cannot be read
    │   ├── DestinationError     the region, address or API key is wrong
    │   │   └── ApiKeyError      there is no API key, or it is malformed
    │   ├── JournalError         the journal cannot be used, or belongs to another backfill
    │   └── MissingExtraError    an optional dependency is not installed
    ├── StoppedError             raised while sending; ``.report`` accounts for every row
    │   ├── AuthenticationError  the server rejected the key
    │   ├── UnreachableError     the server did not answer
    │   ├── UnexpectedAnswerError  the server is not the Pipelines API
    │   └── RecentRowsError      rows are recent enough to message people
    ├── UndeliveredError         raised by ``report.raise_for_failures()``; has ``.report``
    └── AccountingError          the counts do not add up: a bug of this package

All of them can be pickled and copied. A pickled error has no report: a report refers to its table
and cannot be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cdp_backfill.printable import printable

if TYPE_CHECKING:
    from typing import Any


class BackfillError(Exception):
    """Root of all errors of this package."""

    def __str__(self) -> str:
        """The sentence, in which no name of a column or file can steer a terminal."""
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the sentence.

        The frames are those of this package, and the sentence says what to change.
        """
        return [f"{type(self).__name__}: {self}"]


class BadInputError(BackfillError):
    """An argument or option is wrong; nothing has been sent."""


class KeywordError(BadInputError, TypeError):
    """A function has no such argument."""


class MappingError(BadInputError):
    """The mapping is wrong in itself, or does not fit the table or the API."""


class SourceError(BadInputError):
    """The table cannot be read."""


class DestinationError(BadInputError):
    """The region, the address or the API key is wrong."""


class ApiKeyError(DestinationError):
    """There is no API key, or it is malformed."""


class JournalError(BadInputError):
    """The journal cannot be opened, is in use, or belongs to another backfill."""


class MissingExtraError(BadInputError):
    """An optional dependency is needed and not installed."""

    @classmethod
    def of(cls, package: str, *, extra: str, purpose: str) -> Self:
        """The error for a package.

        Args:
            package: The missing package.
            extra: The extra of this package that installs it.
            purpose: What needs it.
        """
        return cls(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f'Install it with: pip install "cdp-backfill[{extra}]"'
        )


class _ReportedError(BackfillError):
    """An error that is raised after the start.

    Attributes:
        report: The :class:`~cdp_backfill.Report` of the run so far, which accounts for every row;
            None if the error was pickled.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class StoppedError(_ReportedError):
    """The run ended early. Rows that were not sent yet are ``unsent``."""

    _has_every_row = True

    @property
    def message(self) -> str:
        """Why the run ended, without its report."""
        return super().__str__()

    def __str__(self) -> str:
        summary = getattr(self.report, "summary", "")
        if not summary:
            return self.message
        rows = "every row" if self._has_every_row else "the others"
        return f"{self.message} {summary} The .report of this error has {rows}."

    def leave_out_rows(self) -> None:
        """Say that the report does not have every row: the account of some is lost."""
        self._has_every_row = False

    def _render_traceback_(self) -> list[str]:
        lines = super()._render_traceback_()
        if self.report is not None:
            lines.append("sys.last_value.report is the report of the run.")
        return lines


class AuthenticationError(StoppedError):
    """The server rejected the API key (401 or 403)."""


class UnreachableError(StoppedError):
    """The server did not answer, and never had in this run."""


class UnexpectedAnswerError(StoppedError):
    """The server answers, but not as the Pipelines API does."""


class RecentRowsError(StoppedError):
    """Rows are recent enough to trigger campaigns, and the call did not allow them."""


class UndeliveredError(_ReportedError):
    """Some rows were not delivered."""


class AccountingError(_ReportedError):
    """The outcomes do not add up to the number of rows. Please report this bug.

    Its ``report`` is what the run has, for whoever looks for the bug.
    """
