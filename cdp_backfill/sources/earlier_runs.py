"""Finds in the file of failures what they carry of their run, as the frame of failures does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.errors import SourceError
from cdp_backfill.model.outcomes import LEFT_OUT_ATTRIBUTE, MAPPING_ATTRIBUTE, URL_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdp_backfill.sources.chunks import Source

_PANDAS: Final = b"PANDAS_ATTRS"
"""Where pandas keeps ``DataFrame.attrs`` in the metadata of a parquet file."""


def carried(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """What a file carries of an earlier run: its mapping, address, and what it left out.

    Args:
        metadata: Metadata of the file.

    >>> carried({b"PANDAS_ATTRS": b'{"cdp_url": "https://cdp.customer.io/v1", "mine": 1}'})
    {'cdp_url': 'https://cdp.customer.io/v1'}
    """
    try:
        attributes: Any = json.loads((metadata or {}).get(_PANDAS, b"{}"))
    except (ValueError, RecursionError):  # of another program
        return {}
    if not isinstance(attributes, dict):
        return {}
    names = (MAPPING_ATTRIBUTE, LEFT_OUT_ATTRIBUTE, URL_ATTRIBUTE)
    return {name: attributes[name] for name in names if isinstance(attributes.get(name), str)}


def take_from_files(source: Source, files: Sequence[dict[str, str]]) -> None:
    """Let a source carry what all of its files carry alike.

    Args:
        source: The source.
        files: What each of its files carries.

    Raises:
        SourceError: Their runs left out different rows.
    """
    if len({each.get(LEFT_OUT_ATTRIBUTE) for each in files}) > 1:
        raise SourceError(
            "These files are failures of runs that left out different rows with where= or "
            "exclude=. Send each file in a run of its own."
        )

    def common(name: str) -> str | None:
        found = {each.get(name) for each in files}
        return found.pop() if len(found) == 1 else None

    source.earlier_mapping = common(MAPPING_ATTRIBUTE)
    source.earlier_left_out = common(LEFT_OUT_ATTRIBUTE)
    source.earlier_url = common(URL_ATTRIBUTE)
