"""From rows to the fields of track messages: whole columns at a time, without I/O or clock."""

from cdp_backfill.messages.binding import Binding, bind, text_columns
from cdp_backfill.messages.building import MessageBatch, build, newest
from cdp_backfill.messages.json_cells import TooWideError, unlimited
from cdp_backfill.messages.problems import Problems

__all__ = [
    "Binding",
    "MessageBatch",
    "Problems",
    "TooWideError",
    "bind",
    "build",
    "newest",
    "text_columns",
    "unlimited",
]
