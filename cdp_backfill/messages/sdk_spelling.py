"""Spells values as the vendor's SDKs do, so that backfilled rows look like live ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.model import api_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.model.arrays import Mask

_LOCALE: Final = re.compile(r"([A-Za-z]{2,3})(?:[_-]([A-Za-z]{4}))?(?:[_-]([A-Za-z]{2}|[0-9]{3}))?")


def as_device_type(text: Any) -> tuple[Any, Mask]:
    """Types of devices, ``android`` and ``ios``; null and True where a cell means neither."""
    types = _translated(text, lambda cell: api_facts.DEVICE_TYPES.get(_letters(cell)))
    return types, pc.and_(text.is_valid(), types.is_null()).to_numpy(zero_copy_only=False)


def as_os_name(text: Any) -> Any:
    """Names of operating systems; those that the SDKs do not send stay as they are.

    >>> as_os_name(pa.array(["IOS", "iPadOS", "Windows"])).to_pylist()
    ['iOS', 'iPadOS', 'Windows']
    """
    return _translated(text, lambda cell: api_facts.OS_NAMES.get(_letters(cell), cell))


def as_locale(text: Any) -> Any:
    """Locales with hyphens; text that is no locale stays as it is.

    >>> as_locale(pa.array(["en_us", "zh-Hans_CN", "de"])).to_pylist()
    ['en-US', 'zh-Hans-CN', 'de']
    """
    return _translated(text, _locale)


def _locale(cell: str) -> str:
    match = _LOCALE.fullmatch(cell)
    if match is None:
        return cell
    language, script, region = match.groups()
    parts = (language.lower(), script and script.title(), region and region.upper())
    return "-".join(part for part in parts if part)


def _letters(cell: str) -> str:
    """The letters of a name, in lower case: ``iPhone OS`` is ``iphoneos``."""
    return "".join(filter(str.isalpha, cell)).lower()


def _translated(text: Any, translate: Callable[[str], str | None]) -> Any:
    """Translate each different text once."""
    encoded = text.dictionary_encode()
    cells = [translate(cell) for cell in encoded.dictionary.to_pylist()]
    return pa.array(cells, text.type).take(encoded.indices)
