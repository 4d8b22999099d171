r"""Reads Apple's crash reports (.ips): a line with metadata, and below it the report.

>>> text = b'{"bug_type": "309", "os_version": "iPhone OS 17.2 (21C62)"}\n{\n"procName": "Shop"\n}'
>>> is_report(text), sorted(report(text))
(True, ['bug_type', 'os_version', 'procName'])
"""

from __future__ import annotations

from typing import Final

import msgspec

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_report(text: bytes) -> bool:
    """Whether a text begins like a crash report; a table of such metadata is none."""
    head, _, rest = text.lstrip().partition(b"\n")
    return _is_head(head) and not _is_head(rest.lstrip().partition(b"\n")[0])


def _is_head(line: bytes) -> bool:
    return line[:1] == b"{" and b'"bug_type"' in line and b'"os_version"' in line


def report(text: bytes) -> dict[str, msgspec.Raw]:
    """The metadata and the report as one object.

    Before iOS 15, a report is no JSON; then it is the metadata alone.

    Raises:
        msgspec.DecodeError: The metadata or the report is broken JSON.
    """
    head, _, body = text.lstrip().partition(b"\n")
    metadata = _object(head)
    return (_object(body) if body.lstrip()[:1] == b"{" else {}) | metadata
