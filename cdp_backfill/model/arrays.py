"""Names for the kinds of numpy arrays that the package uses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
"""True for each row or message that is selected."""

Rows = npt.NDArray[np.int64]
"""Numbers of rows, from 0."""

Ints = npt.NDArray[np.int64]
"""Whole numbers."""

Millis = npt.NDArray[np.int64]
"""Milliseconds since 1970-01-01 UTC."""

Offsets = npt.NDArray[np.int64]
"""Positions in a buffer."""

Bytes = npt.NDArray[np.uint8]
"""Bytes of a buffer."""

Digests = npt.NDArray[np.uint8]
"""Digests, one in each row of a two-dimensional array."""

Hashes = npt.NDArray[np.uint64]
"""64-bit hashes."""
