"""What the emulator does where the API is not documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Lost = Literal["request", "message"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the emulator does where the API is not documented [?].

    Each default but that of ``name_bad`` is the harder case for a sender.

    Attributes:
        name_bad: A 400 for a batch names each invalid message and the reason. If False, it only
            says that some messages are invalid.
        keep_rest: Store the valid messages of a batch with invalid ones. If False, store none.
        oversize: What is lost, with the answer 200, when a message of a batch is too large: the
            whole ``"request"`` or only the ``"message"``.
        numeric_ids: Store messages whose ids are integers, as text. If False, they are invalid,
            because the description of the API says that ids are strings.
        without_person: Store messages with neither a user id nor an anonymous id. If False, they
            are invalid. A group never needs a person.

    Raises:
        ValueError: ``oversize`` is neither of the two.

    >>> Policy(oversize="message").oversize
    'message'
    """

    name_bad: bool = True
    keep_rest: bool = False
    oversize: Lost = "request"
    numeric_ids: bool = False
    without_person: bool = False

    def __post_init__(self) -> None:
        if self.oversize not in _LOST:
            raise ValueError(f"oversize must be {' or '.join(map(repr, _LOST))}.")


_LOST: Final = get_args(Lost)
