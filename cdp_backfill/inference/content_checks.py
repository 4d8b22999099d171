"""Checks whether the cells of a column fit the field that its name suggests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdp_backfill.messages.text import as_boolean, as_identifier, as_text, clean_text, decode
from cdp_backfill.messages.times import read_times
from cdp_backfill.model import api_facts
from cdp_backfill.model.arrow_types import can_be_text, is_bytes, is_number, is_text, is_time_like

if TYPE_CHECKING:
    from collections.abc import Callable

_MIN_SHARE: Final = 0.9
"""Share of the filled cells that must fit, 0.0 to 1.0."""

_HALF: Final = 0.5

_UNIQUE: Final = 0.999
"""Share of message ids that must be distinct: the API may count equal ones as one event. [?]"""

_EARLIEST: Final = int(
    datetime.fromisoformat(api_facts.APP_STORES).replace(tzinfo=UTC).timestamp() * 1000
)


def check_content(field: str, column: Any, now: datetime) -> tuple[float, str]:
    """How well cells fit a field: a factor from 0.0 to 1.0, and the reason in words.

    Args:
        field: Field of a mapping, such as ``user_id`` or ``context.ip``.
        column: Arrow array of some cells.
        now: The current time; events lie before it.
    """
    array = decode(column)
    filled = _filled_cells(array, ids=_CHECKS.get(field) is _identifiers)
    if not len(filled):
        # An empty column is evidence neither for nor against a field.
        return (0.55, "it is empty in the first rows") if "." in field else (0.0, "it is empty")
    check = _CHECKS.get(field)
    if field == "timestamp":
        return _times(filled, now)
    share, description = check(filled) if check else _plain_text(filled)
    if share < _MIN_SHARE:
        return 0.0, f"its cells are not {description}"
    # A number can be the id of a row, which another table has as well.
    doubtful = share < 1.0 or (field == "message_id" and is_number(array.type))
    return (0.8 if doubtful else 1.0), f"its cells are {description}"


def moments(column: Any) -> list[int | None]:
    """Milliseconds since 1970 UTC of some cells; None where a cell is not a time."""
    array = decode(column)
    if is_text(array.type):
        array = clean_text(array, _ignore)
    if not is_time_like(array.type):
        return [None] * len(array)
    times = read_times(array, unit=None, timezone=None, earliest=_EARLIEST)
    bad = times.missing | times.bad | times.unclear
    return [None if b else int(m) for m, b in zip(times.millis, bad, strict=True)]


def _ignore(code: str, where: Any) -> None:
    del code, where


def _filled_cells(array: Any, *, ids: bool) -> Any:
    if ids and (is_text(array.type) or is_bytes(array.type)):
        return array.filter(as_identifier(array, _ignore)[0].is_valid())
    if is_text(array.type):
        array = clean_text(array, _ignore)
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    return array.drop_null()


def _share(mask: Any) -> float:
    if isinstance(mask, np.ndarray):
        return float(mask.mean())
    return float(pc.mean(mask.cast(pa.int8())).as_py() or 0.0)


def _times(array: Any, now: datetime) -> tuple[float, str]:
    if not is_time_like(array.type):
        return 0.0, "its cells are not times"
    latest = int((now + timedelta(hours=api_facts.FUTURE_HOURS)).timestamp() * 1000)
    times = read_times(array, unit=None, timezone=None, earliest=_EARLIEST, latest=latest)
    good = ~(times.missing | times.bad | times.unclear)
    good &= (times.millis >= _EARLIEST) & (times.millis <= latest)
    share = _share(good)
    if not share:
        return 0.0, "its cells are not times"
    units = [unit for unit, mask in times.units.items() if mask.any()]
    if units:
        names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
        description = f"its cells are {' and '.join(names[unit] for unit in units)} since 1970"
    else:
        zone = ", without a zone" if times.naive.any() else ""
        description = f"its cells are times{zone}"
    # A few bad cells do not rule the column out; each such row is reported later.
    return (1.0 if share >= _MIN_SHARE else 0.8), description


def _identifiers(array: Any) -> tuple[float, str]:
    if not can_be_text(array.type) or pa.types.is_null(array.type):
        return 0.0, "ids"
    ids, bad = as_identifier(array, _ignore)
    if bad.any():
        return 0.0, "ids"
    if is_text(array.type) and _share(pc.match_substring_regex(ids, r"^\s*[\[{]")) > 0:
        return 0.0, "ids"
    return 1.0, "ids"


def _unique(array: Any) -> tuple[float, str]:
    share, _ = _identifiers(array)
    distinct = len(pc.unique(array)) / len(array)
    return (share if distinct >= _UNIQUE else 0.0), "different in every row"


def _pattern(pattern: str, what: str) -> Callable[[Any], tuple[float, str]]:
    def check(array: Any) -> tuple[float, str]:
        if not can_be_text(array.type):
            return 0.0, what
        text, _ = as_text(array, floats="version")
        return _share(pc.match_substring_regex(text.drop_null(), pattern)), what

    return check


def _not_numbers(array: Any) -> tuple[float, str]:
    """Text that is not a number, such as names of models and places."""
    if not (is_text(array.type) or is_bytes(array.type)):
        return 0.0, "text"
    text, _ = as_text(array)
    return 1.0 - _share(pc.match_substring_regex(text, r"^[+-]?\d+(\.\d+)?$")), "text"


_SYSTEMS: Final = [
    "ios",
    "android",
    "ipados",
    "iphone",
    "iphoneos",
    "ipad",
    "watchos",
    "tvos",
    "visionos",
    "macos",
    "osx",
    "macosx",
    "windows",
    "linux",
    "web",
    "fireos",
    "harmonyos",
    "kaios",
    "tizen",
    "webos",
    "roku",
    "chromeos",
]


def _systems(array: Any) -> tuple[float, str]:
    """Names of operating systems; other text may be an unknown one."""
    share, what = _not_numbers(array)
    if share < _MIN_SHARE:
        return share, what
    text, _ = as_text(array)
    plain = pc.replace_substring_regex(pc.utf8_lower(text), r"[^a-z]", "")
    known = _share(pc.is_in(plain, value_set=pa.array(_SYSTEMS).cast(plain.type)))
    return (1.0, "operating systems") if known >= _HALF else (_MIN_SHARE, "text")


def _bundles(array: Any) -> tuple[float, str]:
    return _pattern(r"^[A-Za-z][\w-]*(\.[\w-]+)+$", "package names")(array)


def _plain_text(array: Any) -> tuple[float, str]:
    if not (is_text(array.type) or is_bytes(array.type)):
        return 0.0, "text"
    return 1.0, "text"


def _events(array: Any) -> tuple[float, str]:
    if not (is_text(array.type) or is_bytes(array.type)):
        return 0.0, "names"
    return 1.0, "names"


def _booleans(array: Any) -> tuple[float, str]:
    if not (can_be_text(array.type) or pa.types.is_boolean(array.type)):
        return 0.0, "true or false"
    _, bad = as_boolean(array)
    return _share(~bad), "true or false"


def _zones(array: Any) -> tuple[float, str]:
    if not is_text(array.type):
        return 0.0, "time zone names"
    known = pa.array(sorted(available_timezones() | {"UTC", "GMT"})).cast(array.type)
    return _share(pc.is_in(array, value_set=known)), "time zone names"


_VERSION: Final = r"^[vV]?\d+([._-][0-9A-Za-z+_-]+)*( ?\(.*\))?$"
_OS_VERSION: Final = r"\d"
_BUILD: Final = r"^[0-9A-Za-z._+-]+$"
_LOCALE: Final = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9#_-]{2,12})?$"
_IP: Final = r"^(\d{1,3}(\.\d{1,3}){3}|[0-9A-Fa-f:]{2,39})$"

_CHECKS: Final[dict[str, Callable[[Any], tuple[float, str]]]] = {
    "user_id": _identifiers,
    "anonymous_id": _identifiers,
    "event": _events,
    "message_id": _unique,
    "properties.version": _pattern(_VERSION, "versions"),
    "properties.previous_version": _pattern(_VERSION, "versions"),
    "properties.build": _pattern(_BUILD, "builds"),
    "properties.previous_build": _pattern(_BUILD, "builds"),
    "properties.from_background": _booleans,
    "context.device.id": _identifiers,
    "context.device.advertisingId": _identifiers,
    "context.os.name": _systems,
    "context.app.namespace": _bundles,
    "context.os.version": _pattern(_OS_VERSION, "versions"),
    "context.device.manufacturer": _not_numbers,
    "context.locale": _pattern(_LOCALE, "locales"),
    "context.timezone": _zones,
    "context.ip": _pattern(_IP, "IP addresses"),
    "context.location.city": _not_numbers,
    "context.location.country": _not_numbers,
}
