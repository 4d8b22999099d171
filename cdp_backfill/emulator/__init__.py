"""The Pipelines API in a box: a real HTTP server that behaves as the API is documented to.

A house of its own: it takes the API's figures from :mod:`cdp_backfill.model.api_facts` and nothing
else from the package, so that it judges what is sent to it by its own lights.

Where nothing is documented, :class:`Policy` decides: whether a 400 for a batch names the bad
messages, and whether the others are kept. What is over a size limit is answered 200 and not kept,
in both modes, as documented. Without strict mode, what is not valid is answered 200 and not kept.
"""

from cdp_backfill.emulator.application import Policy
from cdp_backfill.emulator.faults import Faults
from cdp_backfill.emulator.server_thread import ApiServer

__all__ = ["ApiServer", "Faults", "Policy"]
