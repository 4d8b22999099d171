"""The files of digests of a shared journal, and what they add up to. Pure.

A file holds what was recorded since the one before it, 12 bytes for each digest:

- ``begun``: messages that may leave once this file is there. A crash leaves them in doubt.
- ``again``: an attempt got no answer, and another may leave once this file is there.
- ``delivered``: the server accepted them, and there was no doubt but their own attempt.
- ``delivered_again``: the server accepted them, and may have accepted an earlier attempt.
- ``withdrawn``: the server certainly took none of them.

An attempt that ends well replaces its files by one, which has no ``begun`` and holds what is in
doubt for good as ``sent`` and ``sent_again``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cdp_backfill.model.distinct import DIGEST_BYTES
from cdp_backfill.pipeline.known_digests import NO_DIGESTS, joined, summed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cdp_backfill.model.arrays import Digests
    from cdp_backfill.pipeline.known_digests import Entry

Kind = Literal["begun", "again", "delivered", "delivered_again", "withdrawn", "sent", "sent_again"]
"""What is recorded of messages."""

Records = dict[Kind, "Digests"]
"""Digests by what is recorded of them."""

KINDS: Final[tuple[Kind, ...]] = (
    "begun",
    "again",
    "delivered",
    "delivered_again",
    "withdrawn",
    "sent",
    "sent_again",
)

_OPEN: Final[dict[Kind, int]] = {"begun": 1, "again": 1, "delivered": -1, "withdrawn": -1}
"""What each record of a message on its way adds to the attempts without an answer."""

_ENDED: Final[dict[Kind, int]] = {"sent": 1, "sent_again": 2}
"""Attempts without an answer of a message that ended in doubt."""

_MARK: Final = b"cdp-backfill digests 1\n"
_COUNT: Final = 8  # bytes
_HEAD: Final = len(_MARK) + _COUNT * len(KINDS)


class NotDigestsError(ValueError):
    """Bytes that are no file of digests, or only the begin of one."""


def to_bytes(records: Mapping[Kind, Digests]) -> bytes:
    """The content of a file."""
    parts = [records.get(kind, NO_DIGESTS)[:, :DIGEST_BYTES] for kind in KINDS]
    counts = b"".join(len(part).to_bytes(_COUNT, "big") for part in parts)
    return b"".join([_MARK, counts, *(part.tobytes() for part in parts)])


def from_bytes(content: bytes) -> Records:
    """Read what :func:`to_bytes` wrote.

    Raises:
        NotDigestsError: It is something else.
    """
    if not content.startswith(_MARK) or len(content) < _HEAD:
        raise NotDigestsError
    starts = range(len(_MARK), _HEAD, _COUNT)
    counts = [int.from_bytes(content[start : start + _COUNT], "big") for start in starts]
    if len(content) != _HEAD + DIGEST_BYTES * sum(counts):
        raise NotDigestsError
    digests = np.frombuffer(content, np.uint8, offset=_HEAD).reshape(-1, DIGEST_BYTES)
    ends = np.cumsum([0, *counts])
    return {
        kind: digests[ends[number] : ends[number + 1]]
        for number, kind in enumerate(KINDS)
        if counts[number]
    }


def together(files: Iterable[Records]) -> Records:
    """The records of several files as those of one."""
    parts: dict[Kind, list[Digests]] = {}
    for records in files:
        for kind, digests in records.items():
            parts.setdefault(kind, []).append(digests)
    return {kind: np.concatenate(each) for kind, each in parts.items()}


def entries(records: Records) -> list[Entry]:
    """What the records of one attempt say: which messages were delivered, and what is in doubt."""
    found: list[Entry] = [
        (True, 0, records[k]) for k in ("delivered", "delivered_again") if k in records
    ]
    # What ended in doubt stays so, even if an equal row was delivered.
    found += [(False, n, records[k]) for k, n in _ENDED.items() if k in records]
    if "begun" not in records and "again" not in records:
        return found
    parts = [(records[kind], number) for kind, number in _OPEN.items() if kind in records]
    numbers = [np.full(len(digests), number) for digests, number in parts]
    keys, doubts = summed(np.concatenate([each for each, _ in parts]), np.concatenate(numbers))
    digests = joined(keys)
    return [*found, (False, 1, digests[doubts == 1]), (False, 2, digests[doubts > 1])]
