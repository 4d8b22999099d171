"""The Pipelines API in a box: a real HTTP server that behaves as the API is documented to.

A house of its own: it takes the API's figures from :mod:`cdp_backfill.spec` and nothing else from
the package, so that it judges what is sent to it by its own lights.

Where nothing is documented, it decides as follows. A batch with a bad message is refused as a
whole (400) and nothing of it is kept; without strict mode it is answered 200 and nothing of it is
kept either. What is over a size limit is answered 200 and not kept, in both modes.
"""

from cdp_backfill.sandbox.box import Box
from cdp_backfill.sandbox.faults import Faults

__all__ = ["Box", "Faults"]
