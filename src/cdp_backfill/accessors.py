"""The ``df.cdp`` namespace on pandas DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cdp_backfill import backfill

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cdp_backfill.destination import Destination
    from cdp_backfill.encoding import ContextScope
    from cdp_backfill.mapping import Field, Mapping, OtherEvents, Rest, TimestampUnit, Tree
    from cdp_backfill.plan import Plan
    from cdp_backfill.progress import Progress
    from cdp_backfill.report import Report
    from cdp_backfill.road import Recent


@pd.api.extensions.register_dataframe_accessor("cdp")
class FrameAccessor:
    """What ``df.cdp`` offers: the verbs of the package with the frame as their table.

    Args:
        frame: The frame.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def plan(
        self,
        mapping: Mapping | None = None,
        *,
        user_id: Field | None = None,
        anonymous_id: Field | None = None,
        event: Field | None = None,
        timestamp: Field | None = None,
        timestamp_unit: TimestampUnit | None = None,
        timezone: str | None = None,
        message_id: Field | None = None,
        properties: Tree | None = None,
        context: Tree | None = None,
        integrations: Tree | None = None,
        events: dict[Any, str] | None = None,
        other_events: OtherEvents | None = None,
        rest: Rest | None = None,
        destination: Destination | None = None,
        recent: Recent = "raise",
        context_scope: ContextScope = "message",
        now: datetime | None = None,
    ) -> Plan:
        """Say what ``send`` would do; see :func:`cdp_backfill.plan`."""
        return backfill.plan(
            self._frame,
            mapping,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=properties,
            context=context,
            integrations=integrations,
            events=events,
            other_events=other_events,
            rest=rest,
            destination=destination,
            recent=recent,
            context_scope=context_scope,
            now=now,
        )

    def send(
        self,
        mapping: Mapping | None = None,
        *,
        user_id: Field | None = None,
        anonymous_id: Field | None = None,
        event: Field | None = None,
        timestamp: Field | None = None,
        timestamp_unit: TimestampUnit | None = None,
        timezone: str | None = None,
        message_id: Field | None = None,
        properties: Tree | None = None,
        context: Tree | None = None,
        integrations: Tree | None = None,
        events: dict[Any, str] | None = None,
        other_events: OtherEvents | None = None,
        rest: Rest | None = None,
        destination: Destination | None = None,
        progress: bool | Progress = True,
        journal: str | Path | bool | None = None,
        canary: int | None = None,
        recent: Recent = "raise",
        context_scope: ContextScope = "message",
        now: datetime | None = None,
    ) -> Report:
        """Send every row as a track event; see :func:`cdp_backfill.send`."""
        return backfill.send(
            self._frame,
            mapping,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=properties,
            context=context,
            integrations=integrations,
            events=events,
            other_events=other_events,
            rest=rest,
            destination=destination,
            progress=progress,
            journal=journal,
            canary=canary,
            recent=recent,
            context_scope=context_scope,
            now=now,
        )

    def messages(
        self,
        n: int = 3,
        mapping: Mapping | None = None,
        *,
        user_id: Field | None = None,
        anonymous_id: Field | None = None,
        event: Field | None = None,
        timestamp: Field | None = None,
        timestamp_unit: TimestampUnit | None = None,
        timezone: str | None = None,
        message_id: Field | None = None,
        properties: Tree | None = None,
        context: Tree | None = None,
        integrations: Tree | None = None,
        events: dict[Any, str] | None = None,
        other_events: OtherEvents | None = None,
        rest: Rest | None = None,
        context_scope: ContextScope = "message",
    ) -> list[dict[str, Any]]:
        """The payloads of the first ``n`` rows, exactly as they would be sent.

        Args:
            n: Number of rows.
            mapping: See :func:`cdp_backfill.send`, as for all up to ``context_scope``.

        Returns:
            One dict a row: the message, or ``cdp_outcome``, ``cdp_code`` and ``cdp_reason`` of a
            row that would not be sent.

        Raises:
            BadInputError: The mapping does not fit the frame.
        """
        return backfill.messages(
            self._frame,
            n,
            mapping,
            user_id=user_id,
            anonymous_id=anonymous_id,
            event=event,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            timezone=timezone,
            message_id=message_id,
            properties=properties,
            context=context,
            integrations=integrations,
            events=events,
            other_events=other_events,
            rest=rest,
            context_scope=context_scope,
        )
