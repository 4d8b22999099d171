"""Emulates the Pipelines API: an HTTP server that behaves as the API is documented to.

It takes the API's limits and fields from :mod:`cdp_backfill.model.api_facts` and uses nothing else
of the package. So it checks requests independently of the code that makes them.

A message or request over a size limit is answered 200 and not stored, in both modes, as documented.
Without strict mode, an invalid message is answered 200 and not stored. Where the documentation is
silent, :class:`Policy` decides: whether a 400 for a batch names the invalid messages, and whether
the valid ones are stored.
"""

from cdp_backfill.emulator.application import Policy
from cdp_backfill.emulator.faults import Faults
from cdp_backfill.emulator.server_thread import ApiServer

__all__ = ["ApiServer", "Faults", "Policy"]
