"""Sends requests: worker threads, retries, one rate for all, refused batches split."""

from cdp_backfill.delivery.results import Result
from cdp_backfill.delivery.sender import Sender
from cdp_backfill.delivery.transport import HttpTransport, Transport

__all__ = ["HttpTransport", "Result", "Sender", "Transport"]
