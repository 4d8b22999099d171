"""What ``import cdp_backfill`` offers, imported at the first use of any of it."""

from cdp_backfill.api import plan, resume, send
from cdp_backfill.engines.partition import send_partition
from cdp_backfill.engines.partition_job import PartitionJob
from cdp_backfill.engines.reports import report
from cdp_backfill.errors import (
    AccountingError,
    ApiKeyError,
    AuthenticationError,
    BackfillError,
    BadInputError,
    DestinationError,
    JournalError,
    KeywordError,
    MappingError,
    MissingExtraError,
    RecentRowsError,
    SourceError,
    StoppedError,
    UndeliveredError,
    UnexpectedAnswerError,
    UnreachableError,
)
from cdp_backfill.inference.proposal import Assumption, Choice, LeftOut, Question
from cdp_backfill.local_sandbox import Sandbox, sandbox
from cdp_backfill.model.api_facts import Event
from cdp_backfill.model.destination import Destination, configure
from cdp_backfill.model.mapping import Mapping, key, lit
from cdp_backfill.model.outcomes import Fix, Outcome, Problem
from cdp_backfill.model.secret import Secret
from cdp_backfill.pipeline.plan_parts import Column
from cdp_backfill.pipeline.plans import Plan
from cdp_backfill.results.part_summary import PartSummary
from cdp_backfill.results.progress import Progress, Snapshot
from cdp_backfill.results.reports import Report

__all__ = [
    "AccountingError",
    "ApiKeyError",
    "Assumption",
    "AuthenticationError",
    "BackfillError",
    "BadInputError",
    "Choice",
    "Column",
    "Destination",
    "DestinationError",
    "Event",
    "Fix",
    "JournalError",
    "KeywordError",
    "LeftOut",
    "Mapping",
    "MappingError",
    "MissingExtraError",
    "Outcome",
    "PartSummary",
    "PartitionJob",
    "Plan",
    "Problem",
    "Progress",
    "Question",
    "RecentRowsError",
    "Report",
    "Sandbox",
    "Secret",
    "Snapshot",
    "SourceError",
    "StoppedError",
    "UndeliveredError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "configure",
    "key",
    "lit",
    "plan",
    "report",
    "resume",
    "sandbox",
    "send",
    "send_partition",
]

# The public place of each of them, whichever module defines it.
for _name in __all__:
    globals()[_name].__module__ = "cdp_backfill"
