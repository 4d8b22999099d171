"""Turns rows into JSON requests, whole columns at a time, without I/O, clock or threads."""

from cdp_backfill.messages.batches import MessageBatch
from cdp_backfill.messages.binding import Binding, bind, is_data, text_columns
from cdp_backfill.messages.building import any_recent, build
from cdp_backfill.messages.choosing import choose_rows
from cdp_backfill.messages.json_cells import MAX_CELLS, TooWideError
from cdp_backfill.messages.problems import Problems
from cdp_backfill.messages.recency import day_is_old

__all__ = [
    "MAX_CELLS",
    "Binding",
    "MessageBatch",
    "Problems",
    "TooWideError",
    "any_recent",
    "bind",
    "build",
    "choose_rows",
    "day_is_old",
    "is_data",
    "text_columns",
]
