"""Send years of mobile-app records to the Customer.io Pipelines API, and account for every row.

Importing this package registers ``df.cdp`` on pandas DataFrames and, where polars is installed, on
its eager and lazy frames.
"""

from cdp_backfill.accessors import FrameAccessor as _FrameAccessor  # noqa: F401  # registers df.cdp
from cdp_backfill.api import plan, resume, send
from cdp_backfill.errors import (
    AccountingError,
    AuthenticationError,
    BackfillError,
    BadInputError,
    DestinationError,
    JournalError,
    MappingError,
    MissingExtraError,
    RecentRowsError,
    SourceError,
    StoppedError,
    UndeliveredError,
    UnexpectedAnswerError,
    UnreachableError,
)
from cdp_backfill.local_sandbox import sandbox
from cdp_backfill.model.api_facts import Event
from cdp_backfill.model.destination import Destination, configure
from cdp_backfill.model.mapping import Mapping, lit
from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.plans import Plan
from cdp_backfill.results.reports import Report

__all__ = [
    "AccountingError",
    "AuthenticationError",
    "BackfillError",
    "BadInputError",
    "Destination",
    "DestinationError",
    "Event",
    "JournalError",
    "Mapping",
    "MappingError",
    "MissingExtraError",
    "Outcome",
    "Plan",
    "RecentRowsError",
    "Report",
    "SourceError",
    "StoppedError",
    "UndeliveredError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "configure",
    "lit",
    "plan",
    "resume",
    "sandbox",
    "send",
]
