"""Reads all pages that a web server links to."""

from __future__ import annotations

import html
import re
import urllib.error
import urllib.request
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

_LINK: Final = re.compile(r"""(?:href|src)=["']([^"']+)["']""")
_BORING: Final = (".css", ".js", ".png", ".ico", ".svg", ".map")
_SECONDS: Final = 30.0


def crawl(*roots: str, most: int = 90) -> dict[str, bytes]:
    """Every page that can be reached from some pages, without leaving their hosts.

    Args:
        *roots: Where to begin.
        most: Most pages to read.

    Returns:
        What each page has, by its address.
    """
    hosts = {urlsplit(each).netloc for each in roots}
    waiting, found = list(roots), dict[str, bytes]()
    while waiting and len(found) < most:
        address = waiting.pop(0)
        parts = urlsplit(address)
        if address in found or parts.netloc not in hosts or parts.path.endswith(_BORING):
            continue
        if (
            "kill" in parts.path or "ort=" in parts.query
        ):  # nothing is to end; the order is the same
            continue
        found[address] = page = read(address)
        links = _LINK.findall(page.decode("utf-8", "replace"))
        waiting += [urldefrag(urljoin(address, html.unescape(each))).url for each in links]
    return found


def read(address: str) -> bytes:
    """What a page has, whatever its status."""
    try:
        with urllib.request.urlopen(address.replace(" ", "%20"), timeout=_SECONDS) as answer:  # noqa: S310  # of loopback
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        content = error.read()
    return content
