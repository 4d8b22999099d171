"""Keeps the journal in step with the sender: what may have been taken is in it until known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp_backfill.model.outcomes import Outcome
from cdp_backfill.pipeline.run_journal import State

if TYPE_CHECKING:
    from cdp_backfill.delivery import RequestResult
    from cdp_backfill.messages.packing import Request
    from cdp_backfill.pipeline.run_journal import RunJournal


class RequestLog:
    """Records each request in the journal before it leaves, and what is known of it later.

    Not thread-safe: the sender calls it under its lock. Each method raises one of
    :data:`~cdp_backfill.pipeline.run_journal.WRITE_ERRORS` if the journal cannot be written.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: RunJournal) -> None:
        self._journal = journal
        self._entries: dict[Request, tuple[int, State]] = {}

    def sending(self, request: Request, unanswered: int) -> None:
        """Record a request that is about to leave.

        Args:
            request: The request.
            unanswered: Earlier attempts that the server may have accepted.
        """
        if request not in self._entries:
            digests = [p.encoded.digests[p.start : p.stop] for p in request.pieces]
            self._entries[request] = self._journal.add(digests, State.SENT), State.SENT
        elif unanswered:
            self._change(request, State.SENT_AGAIN)

    def split(self, request: Request, unanswered: int) -> None:
        """Record that parts take the place of a request that was refused."""
        if unanswered > 1:
            self._change(request, State.SENT_AGAIN)
        number, _ = self._entries.pop(request, (0, None))
        if number:
            self._journal.split(number, in_doubt=unanswered > 0)

    def settled(self, result: RequestResult) -> None:
        """Record the result of a request."""
        unanswered = result.doubts - result.inherited
        if result.outcome is Outcome.DELIVERED:
            state = State.DELIVERED_AGAIN if unanswered else State.DELIVERED
            self._change(result.request, state)
            self._entries.pop(result.request, None)
        else:
            self._end(result.request, unanswered)

    def _end(self, request: Request, unanswered: int) -> None:
        if not unanswered:
            self._change(request, None)
        elif unanswered > 1:
            self._change(request, State.SENT_AGAIN)
        self._entries.pop(request, None)

    def _change(self, request: Request, state: State | None) -> None:
        number, before = self._entries.get(request, (0, None))
        if number and state is not before:
            self._journal.change(number, state)
            if state is not None:
                self._entries[request] = number, state
