"""Emulates the Pipelines API: an HTTP server that behaves as the API is documented to.

It takes the API's limits and fields from :mod:`cdp_backfill.model.api_facts` and uses nothing else
of the package. So it checks requests independently of the code that makes them.

A message or request over a size limit is answered 200 and not stored, in both modes, as documented.
Without strict mode, an invalid message is answered 200 and not stored. Where the documentation is
silent, :class:`Policy` decides. What is stored although a sender should look at it, such as a value
of another type than documented, gets a warning.
"""

from cdp_backfill.emulator.faults import Faults
from cdp_backfill.emulator.policy import Policy
from cdp_backfill.emulator.server_thread import ApiServer

__all__ = ["ApiServer", "Faults", "Policy"]
