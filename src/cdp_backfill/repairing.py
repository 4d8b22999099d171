"""What to do about rows that did not arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.outcomes import PROBLEMS

if TYPE_CHECKING:
    from cdp_backfill.reasons import Reason


def remedy(found: Reason) -> str:
    """What to do about a reason, in words."""
    return PROBLEMS.get(found.code, "")
