"""Finds the parts of a date and a time in the shape of a text.

A shape has a ``0`` for each digit, the letter of its role for each byte of a word (see
:data:`cdp_backfill.messages.date_words.ROLES`), and all other bytes as they are. So
``15-Sep-2023 2:20 PM`` has the shape ``00-MMM-0000 0:00 PP``. All texts of one shape have their
parts in the same places.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp_backfill.model.mapping import DateOrder

ORDERS: Final[tuple[DateOrder, ...]] = ("DMY", "MDY", "YMD")

Place = tuple[int, int]
"""Where a part begins and ends."""

LONGEST: Final = 64
"""Bytes of a text; no longer one is a date."""

SHORTEST: Final = 6

_BETWEEN: Final = r"(?:[-/]|\.? ?|,? ?|,? ?f+ )"
_DAY: Final = r"(?P<d>00?)(?:\.|f+)?"
_YEAR_WORD: Final = r"(?: ?f+\.)?"
_DATES: Final = (
    # Numbers whose order the text does not show: 15.09.2023, 15. 9. 23, 9/15/23
    r"(?P<one>00?)(?P<sep>[./-]|\. )(?P<two>00?)(?P=sep)(?P<three>0000|00)" + _YEAR_WORD,
    # The year first: 2023/9/15, 2023. 09. 15.
    r"(?P<y>0000)(?P<sep>[./-]|\. )(?P<m>00?)(?P=sep)(?P<d>00?)\.?",
    r"(?P<y>0000)y+ ?(?P<m>00?)m+ ?(?P<d>00?)d+",  # 2023年9月15日
    # The month as a word: Fri, 15 Sep 2023; 15. September 2023; 15-SEP-23
    rf"(?:[WM]+[.,]* ?(?:f+ )?)?{_DAY}{_BETWEEN}(?P<M>M+)\.?{_BETWEEN}(?P<y>0000|00){_YEAR_WORD}",
    rf"(?:W+[.,]* )?(?P<M>M+)\.?[- ] ?{_DAY},? (?P<y>0000)",  # Sep 15, 2023
    r"(?P<y>0000)(?P<sep>[-/.])(?P<M>M+)\.?(?P=sep)(?P<d>00?)",  # 2023-Sep-15
)
_SECONDS: Final = r"(?:(?P=colon)(?P<s>00)(?:[.,](?P<f>0{1,18})|:(?P<f2>000))?)?"
_CLOCK: Final = (
    r"(?:(?P<P>P+) ?)?"
    rf"(?:(?P<h>00?)(?P<colon>[:.])(?P<n>00){_SECONDS}"
    r"|(?P<h2>00?) ?h+ ?(?P<n2>00) ?(?:n+ ?(?:(?P<s2>00) ?s+)?)?)"
    r"(?: ?(?P<P2>P+)\.?)?(?: ?f+\.?)?"
)
_ZONE: Final = r"(?: ?(?P<Z>Z+))?(?: ?(?P<sign>[+-])(?P<zh>00?)(?::?(?P<zn>00))?(?: (?P<N>Z+))?)?"
_GAP: Final = r"(?:,? {1,2}|[,:]|T+|,? (?:f+\.? )?| - )"
_COMPACT: Final = (
    r"(?P<y>0000)(?P<m>00)(?P<d>00)"
    rf"(?P<time>[T ]?T*(?P<h>00)(?P<n>00)(?:(?P<s>00)(?:[.,]?(?P<f>0{{1,9}}))?)?{_ZONE})?"
)
_TIMED_COMPACT: Final = rf"(?P<y>0000)(?P<m>00)(?P<d>00)(?P<time>(?: |T+){_CLOCK}{_ZONE})"
# Days and weeks of a year, as ISO 8601 counts them: 2023-258T02:20:24Z, 2023-W37-5T02:20:24Z
_COUNTED: Final = (
    rf"(?P<y>0000)-(?:(?P<yday>000)|w(?P<week>00)-(?P<wday>0))(?P<time>(?: |T+){_CLOCK}{_ZONE})"
)
# As C, Java and Ruby write it: Fri Sep 15 02:20:24 UTC 2023
_ASCTIME: Final = rf"W+ (?P<M>M+)  ?(?P<d>00?) (?P<time>{_CLOCK}{_ZONE}) (?P<y>0000)"

_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        *(rf"{date}(?P<time>{_GAP}{_CLOCK}{_ZONE})?" for date in _DATES),
        _COMPACT,
        _TIMED_COMPACT,
        _COUNTED,
        _ASCTIME,
    )
)
_PLAUSIBLE: Final = re.compile(rf"(?=.*0.*0.*0)[0a .,:/+-]{{{SHORTEST},{LONGEST}}}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a date and a time are.

    Attributes:
        places: The place of each part: ``y m d h n s f`` for numbers from year to fraction, ``M``,
            ``P`` and ``Z`` for words, ``zh`` and ``zn`` for hours and minutes of an offset, and
            ``N`` for its name; ``one``, ``two`` and ``three`` for the numbers of a date whose order
            is not shown; ``yday`` for a day of the year, ``week`` and ``wday`` for a week and its
            day.
        sign: 1 or -1 for an offset that is ahead of UTC or behind it; 0 without an offset.
        day_only: Whether there is no time of day.
        compact: Whether it has digits only, so that it may be a number as well.
    """

    places: dict[str, Place]
    sign: int
    day_only: bool
    compact: bool


def is_plausible(shape: str) -> bool:
    """Whether a text may be a date; its shape has an ``a`` for each byte of a word.

    >>> is_plausible("00-aaa-0000 0:00 aa"), is_plausible("aaaa aaaa")
    (True, False)
    """
    return _PLAUSIBLE.fullmatch(shape) is not None


@functools.lru_cache(maxsize=4096)
def layout_of(shape: str) -> Layout | None:
    """The layout of a shape; None if it is that of no date.

    >>> layout_of("00-MMM-0000 0:00 PP").places["M"]
    (3, 6)
    """
    found = next((match for each in _PATTERNS if (match := each.fullmatch(shape))), None)
    if found is None:
        return None
    parts = {name: found.span(name) for name, text in found.groupdict().items() if text}
    places = {n.rstrip("2"): parts[n] for n in parts if n not in ("sep", "colon", "sign", "time")}
    sign = {"+": 1, "-": -1}.get(found.groupdict().get("sign") or "", 0)
    return Layout(places, sign, "time" not in parts, not shape.strip("0"))
