"""A secret text that never shows."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn


class Secret:
    """Text that shows as ``<key>`` everywhere: in a repr, a traceback, a log.

    It is not a ``str``, because code that prints or cuts text would show a ``str``.

    Args:
        text: The text, or another secret of the same.

    >>> Secret("not shown")
    <key>
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret) -> None:
        self._text: str = text.reveal() if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text. Do not keep it in a variable: a traceback could show it."""
        return self._text

    def __repr__(self) -> str:
        return "<key>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Secret | str):
            return hmac.compare_digest(self._text.encode(), Secret(other).reveal().encode())
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key cannot be pickled. Pass it again where you need it.")
