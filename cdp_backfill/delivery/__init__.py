"""Sends requests with worker threads, retries and one rate limit; splits refused batches."""

from cdp_backfill.delivery.request_result import RequestResult
from cdp_backfill.delivery.sender import Sender
from cdp_backfill.delivery.transport import HttpTransport, Transport

__all__ = ["HttpTransport", "RequestResult", "Sender", "Transport"]
