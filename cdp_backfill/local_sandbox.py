"""The box as a destination to rehearse with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import asdict

from cdp_backfill.emulator import ApiServer, Faults, Policy
from cdp_backfill.errors import DestinationError
from cdp_backfill.model.destination import Destination
from cdp_backfill.model.views import Link, Section, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


_MOST: Final = 12
"""Events that are shown by name."""


class Sandbox(ApiServer):
    """A running box that knows how to be sent to."""

    @property
    def destination(self) -> Destination:
        """Give it to ``send`` or ``plan``."""
        return Destination(api_key=self.api_key, base_url=self.url)

    def __str__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _view(self) -> View:
        lines: list[tuple[object, ...]] = [("address", self.url)]
        if self.stopped:
            kept = f"; what it took is in {self.store_path}" if self.store_path else ""
            return View(f"Sandbox: stopped{kept}", [Section("Where it was", (), lines)])
        events = self.totals()
        taken = int(events["messages"].sum())
        rejected, repeated = len(self.rejected()), len(self.duplicates())
        lines += [
            ("page", Link(self.page)),
            ("requests", f"{len(self.requests()):,}"),
            ("people", f"{len(self.people()):,}"),
        ]
        if rejected:
            lines.append(("messages rejected", f"{rejected:,}; box.rejected() says why"))
        if repeated:
            lines.append(("message ids that came twice", f"{repeated:,}; box.duplicates()"))
        wrong = {name: value for name, value in asdict(self.faults).items() if value}
        if wrong:
            lines.append(
                ("does wrong on purpose", ", ".join(f"{n}={v!r}" for n, v in wrong.items()))
            )
        shown = events.sort_values("messages", ascending=False, kind="stable")[:_MOST]
        rows: list[tuple[object, ...]] = [
            (int(row.messages), int(row.people), str(name)) for name, row in shown.iterrows()
        ]
        if len(events) > _MOST:
            rest = int(events["messages"].sum() - shown["messages"].sum())
            rows.append((rest, "", f"({len(events) - _MOST:,} more events)"))
        return View(
            f"Sandbox: {taken:,} messages taken",
            [
                Section("The Pipelines API on this machine", (), lines),
                Section("Taken, by event", ("messages", "people", "event"), rows),
            ],
            ["box.events() has them all, one row a message."] if taken else [],
        )

    def set_faults(self, **faults: Any) -> None:
        """Set what it does wrong from now on; what is not named is done right.

        Args:
            **faults: See :func:`cdp_backfill.sandbox`, from ``latency`` on.

        Raises:
            DestinationError: There is no such fault, or it is out of its range.
        """
        try:
            self.faults = Faults(**faults)
        except (TypeError, ValueError) as error:
            raise DestinationError(str(error)) from error


@contextmanager
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str = "sandbox",
    store: str | Path | None = None,
    latency: float = 0.0,
    jitter: float = 0.0,
    too_many: float = 0.0,
    retry_after: float | None = None,
    failing: float = 0.0,
    reset_before: float = 0.0,
    reset_after: float = 0.0,
    stall: float = 0.0,
    silent: float = 0.0,
    refuse_users: Iterable[str] = (),
    rate_limit: float | None = None,
    seed: int = 0,
    name_bad: bool = True,
    keep_rest: bool = False,
) -> Iterator[Sandbox]:
    """Run the Pipelines API on this machine for as long as the ``with`` block lasts.

    Args:
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        api_key: The key that it takes.
        store: A database file for what it takes in, kept afterwards; None keeps it in memory.
        latency: Seconds before each answer.
        jitter: Seconds more, at random from nothing to this.
        too_many: Share of requests (0.0 to 1.0, as all shares) that is answered 429.
        retry_after: Seconds that such an answer asks for in ``Retry-After``; None for no header.
        failing: Share that is answered 500 or 503.
        reset_before: Share whose connection breaks before the body is read.
        reset_after: Share whose connection breaks after what is in it was accepted.
        stall: Share that never gets an answer.
        silent: Share that is answered 200 and dropped.
        refuse_users: User ids that are refused with 400.
        rate_limit: Requests per second; what exceeds it in a second is answered 429.
        seed: Decides which requests the faults hit.
        name_bad: A 400 for a batch says which messages are bad; not documented.
        keep_rest: The good messages of a batch with bad ones are kept; not documented.

    Yields:
        The box: ``destination``, ``url``, ``events()``, ``people()``, ``requests()``,
        ``rejected()``, ``duplicates()``, ``totals()`` and ``sql("...")`` as DataFrames, and
        ``set_faults(...)``, which takes the names from ``latency`` to ``seed`` while it runs.
        A page at the root of the address shows it.

    Raises:
        DestinationError: The address or port cannot be used, or a fault is out of its range.

    >>> import pandas as pd
    >>> from cdp_backfill import lit, sandbox
    >>> frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"], "v": ["1.0"]})
    >>> with sandbox() as box:
    ...     report = frame.cdp.send(
    ...         user_id="uid",
    ...         timestamp="ts",
    ...         event=lit("Application Installed"),
    ...         properties={"version": "v"},
    ...         destination=box.destination,
    ...         progress=False,
    ...     )
    ...     box.events()["event"].tolist()
    ['Application Installed']
    """
    try:
        faults = Faults(
            latency=latency,
            jitter=jitter,
            too_many=too_many,
            retry_after=retry_after,
            failing=failing,
            reset_before=reset_before,
            reset_after=reset_after,
            stall=stall,
            silent=silent,
            refuse_users=frozenset(refuse_users),
            rate_limit=rate_limit,
            seed=seed,
        )
        box = Sandbox(
            host=host,
            port=port,
            api_key=api_key,
            store=store,
            faults=faults,
            policy=Policy(name_bad, keep_rest),
        )
    except ValueError as error:
        raise DestinationError(str(error)) from error
    except OSError as error:
        raise DestinationError(f"The sandbox cannot listen at {host}:{port}: {error}.") from error
    box.start()
    try:
        yield box
    finally:
        box.stop()
