"""The message fields of the rows of one batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import decode
from cdp_backfill.model.arrow_types import is_json
from cdp_backfill.model.distinct import hashes

if TYPE_CHECKING:
    from cdp_backfill.messages.problems import Problems
    from cdp_backfill.model.arrays import Mask, Rows
    from cdp_backfill.model.outcomes import Problem


@dataclass(frozen=True, kw_only=True)
class MessageBatch:
    """Message fields of the rows of a batch that are not left out.

    Attributes:
        rows: Position in the batch of each row here; rows that are not here are in ``skipped``.
        fields: Arrays by field name, in the order of
            :data:`cdp_backfill.model.api_facts.MESSAGE_FIELDS`, or of
            :data:`cdp_backfill.model.api_facts.IDENTIFY_FIELDS`.
        event_names: Arrow array of the event of each row; None for a call that has no event.
        message_id: Ids from a column or a key, or None.
        millis: Time of each row; milliseconds since 1970 UTC. All 0 for a call that has no time.
        naive: Number of times that carry no zone.
        problems: Problems and fixes of the rows here.
        skipped: The rows of the batch that are not here, by reason.
        event_keys: Keys of the mapping's ``events`` that occur.
        unknown_events: Rows by value of the event column that is no event.
    """

    rows: Rows
    fields: dict[str, Any]
    event_names: Any | None
    message_id: Any | None
    millis: Rows
    naive: int = 0
    problems: Problems
    skipped: dict[Problem, Rows] = dataclasses.field(default_factory=dict)
    event_keys: frozenset[str] = frozenset()
    unknown_events: dict[str, int] = dataclasses.field(default_factory=dict)
    _columns: dict[str, Any]

    def raw(self, column: str) -> Any:
        """A column as it was read or derived, one cell for each row of the batch."""
        return self._columns[column]

    def plain(self, column: str) -> Any:
        """The same column without dictionaries, views and extension types."""
        array = decode(self._columns[column])
        return array.storage if is_json(array.type) else array

    def without_cells(self) -> MessageBatch:
        """The same without cells and fields; the event names stay."""
        names = None if self.event_names is None else self.event_names.dictionary_encode()
        return dataclasses.replace(self, fields={}, event_names=names, message_id=None, _columns={})

    def people(self, mask: Mask) -> Any:
        """Hashes of the user ids, or else anonymous ids, of the rows at which ``mask`` is true."""
        names = [name for name in ("userId", "anonymousId") if name in self.fields]
        ids = pc.coalesce(*(self.fields[name] for name in names)).filter(pa.array(mask))
        return hashes(pc.unique(ids))
