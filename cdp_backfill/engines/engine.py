"""What an adapter for an engine offers to the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from cdp_backfill.model.destination import Destination
    from cdp_backfill.sources import Source

    OnTasks = Callable[[int, int], None]
    """Takes the number of tasks that have ended, and of all tasks."""

    PartWork = Callable[[Iterator[Any], str, str], Generator[Any, None, bytes]]
    """Takes record batches, name of the part and number of the attempt; yields failures as Arrow
    tables, and returns a summary. It can be pickled."""


INTERRUPT: Final = KeyboardInterrupt.__name__
"""The kind of error of parts that an interrupt cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedParts:
    """What the parts of a table gave.

    Attributes:
        summaries: What the work of each part returned; at most one for each part that has rows.
        lost: The kinds of the errors for which the engine gave up parts, if it did.
        uncounted: Whether the engine may have run parts, or attempts, without a summary.
        frame: The failures as a frame of the engine; None if they were not asked for.
        load: Gives the failures as Arrow tables, again and again.
    """

    summaries: list[bytes]
    lost: list[str] = field(default_factory=list)
    uncounted: bool = False
    frame: Any = None
    load: Callable[[], Iterable[Any]] | None = None


class Engine(Protocol):
    """Runs work on each part of one table. An adapter knows nothing about sending."""

    @property
    def name(self) -> str:
        """The engine, as in "Spark"."""
        ...

    @property
    def failures_name(self) -> str:
        """The attribute of a report that has all failures, however many there are."""
        ...

    @property
    def source(self) -> Source:
        """The table, to be read on the driver; its schema costs no reading."""
        ...

    @property
    def slots(self) -> int | None:
        """Parts that run at a time, at most; None if that is not known."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether all workers see the temporary files of the driver."""
        ...

    def check(self, destination: Destination) -> None:
        """Refuse what would show a key, or let it be lost.

        Raises:
            BadInputError: The engine is set up in such a way.
        """
        ...

    def map_parts(
        self,
        work: PartWork,
        columns: list[str],
        *,
        with_failures: bool = False,
        on_tasks: OnTasks | None = None,
    ) -> MappedParts:
        """Run work on each part, once if nothing fails, and wait for the end.

        Args:
            work: The work.
            columns: Names of the columns that it reads.
            with_failures: Whether it yields failures; they must not be computed a second time.
            on_tasks: Told as tasks end, if the engine says so.
        """
        ...
