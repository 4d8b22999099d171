"""The emulator as a sandbox to send to, with a display for notebooks and terminals."""

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


_MAX_EVENTS: Final = 12  # events that are listed by name


class Sandbox(ApiServer):
    """A running sandbox."""

    @property
    def destination(self) -> Destination:
        """The sandbox as a destination for ``send`` and ``plan``."""
        return Destination(api_key=self.api_key, base_url=self.url)

    def __str__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _view(self) -> View:
        lines: list[tuple[object, ...]] = [("address", self.url)]
        if self.stopped:
            stored = f"; its data is in {self.store_path}" if self.store_path else ""
            return View(f"Sandbox: stopped{stored}", [Section("Where it ran", (), lines)])
        events = self.totals()
        accepted = int(events["messages"].sum())
        rejected, repeated = len(self.rejected()), len(self.duplicates())
        lines += [
            ("page", Link(self.page)),
            ("requests", f"{len(self.requests()):,}"),
            ("people", f"{len(self.people()):,}"),
        ]
        if rejected:
            lines.append(("messages rejected", f"{rejected:,}; see box.rejected()"))
        if repeated:
            lines.append(("repeated message ids", f"{repeated:,}; see box.duplicates()"))
        faults = {name: value for name, value in asdict(self.faults).items() if value}
        if faults:
            lines.append(("injected faults", ", ".join(f"{n}={v!r}" for n, v in faults.items())))
        largest = events.sort_values("messages", ascending=False, kind="stable")[:_MAX_EVENTS]
        rows: list[tuple[object, ...]] = [
            (int(row.messages), int(row.people), str(name)) for name, row in largest.iterrows()
        ]
        if len(events) > _MAX_EVENTS:
            rest = int(events["messages"].sum() - largest["messages"].sum())
            rows.append((rest, "", f"({len(events) - _MAX_EVENTS:,} more events)"))
        return View(
            f"Sandbox: {accepted:,} messages accepted",
            [
                Section("The Pipelines API on this machine", (), lines),
                Section("Accepted, by event", ("messages", "people", "event"), rows),
            ],
            ["box.events() has one row for each message."] if accepted else [],
        )

    def set_faults(self, **faults: Any) -> None:
        """Replace the injected faults. Faults that are not named are switched off.

        Args:
            **faults: The parameters of :func:`cdp_backfill.sandbox` from ``latency`` to ``seed``.

        Raises:
            DestinationError: A fault does not exist, or its value is out of range.
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
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        api_key: The key that it accepts.
        store: Database file that keeps the data after the sandbox stops; None keeps it in memory.
        latency: Seconds before each answer.
        jitter: Up to so many seconds more, at random.
        too_many: Share of requests that is answered 429. All shares are from 0.0 to 1.0.
        retry_after: Seconds in the ``Retry-After`` header of a 429; None for no header.
        failing: Share of requests that is answered 500 or 503.
        reset_before: Share of requests whose connection breaks before the body is read.
        reset_after: Share of requests whose connection breaks after the messages were stored.
        stall: Share of requests that is never answered.
        silent: Share of requests that is answered 200 but not stored.
        refuse_users: User ids whose messages are answered 400.
        rate_limit: Requests per second; further requests in a second are answered 429.
        seed: Seed that decides which requests the faults hit.
        name_bad: A 400 for a batch names the invalid messages. The API's behaviour is not
            documented.
        keep_rest: Store the valid messages of a batch with invalid ones. The API's behaviour is
            not documented.

    Yields:
        The sandbox. ``destination`` and ``url`` say where to send. ``events()``, ``people()``,
        ``requests()``, ``rejected()``, ``duplicates()``, ``totals()`` and ``sql("...")`` return
        DataFrames. ``set_faults(...)`` changes the faults, ``latency`` to ``seed``, while it runs.
        A web page at the root of the address shows the stored messages.

    Raises:
        DestinationError: The address or port cannot be used, or a fault is out of range.

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
        raise DestinationError(f"The sandbox cannot listen on {host}:{port}: {error}.") from error
    box.start()
    try:
        yield box
    finally:
        box.stop()
