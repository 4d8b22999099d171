"""The emulator as a sandbox to send to, with a display for notebooks and terminals."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import asdict

from cdp_backfill.emulator import ApiServer, Faults, Policy
from cdp_backfill.errors import DestinationError
from cdp_backfill.model.destination import Destination
from cdp_backfill.model.keyword_checks import checked_keywords
from cdp_backfill.model.views import Link, Section, View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cdp_backfill.emulator.policy import Lost

_MAX_EVENTS: Final = 12  # events that are listed by name


class Sandbox(ApiServer):
    """A sandbox, which :func:`cdp_backfill.sandbox` makes.

    It runs in a ``with`` block, or from :meth:`start` to :meth:`stop`, which suits notebooks.

    >>> from cdp_backfill import sandbox
    >>> box = sandbox().start()
    >>> len(box.events())
    0
    >>> box.stop()
    """

    def start(self) -> Self:
        """Start to answer. If it runs already, nothing happens.

        Returns:
            The sandbox itself, so that ``box = sandbox().start()`` works.

        Raises:
            DestinationError: The address or port cannot be used, ``store`` is no SQLite database,
                or the sandbox has been stopped.
        """
        if self.stopped:
            raise DestinationError("The sandbox has stopped. Make a new one with sandbox(...).")
        try:
            return super().start()
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise DestinationError(f"The sandbox cannot listen on {where}: {error}.") from error
        except sqlite3.Error as error:
            raise DestinationError(
                f"store={str(self.store_path)!r} cannot be used as an SQLite database: {error}. "
                "Give another path; a file that does not exist is created."
            ) from error

    @property
    def destination(self) -> Destination:
        """The sandbox as a destination for ``send`` and ``plan``."""
        # Its key is no secret, on whichever address it listens.
        return Destination(
            api_key=self.api_key,
            base_url=self.url,
            insecure=True,
            key_from=partial(str, self.api_key),
        )

    def __str__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _view(self) -> View:
        if not (self.running or self.stopped):
            return View("Sandbox: not started", [], ["Start it with `with` or start()."])
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
        if warnings := self._store.warned():
            lines.append(("messages with warnings", f"{warnings:,}; see box.warnings()"))
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


@checked_keywords
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
    oversize: Lost = "request",
    numeric_ids: bool = False,
    without_person: bool = False,
) -> Sandbox:
    """The Pipelines API on this machine, for as long as a ``with`` block lasts.

    ``sandbox().start()`` starts it without a block, and ``stop()`` stops it.

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
        name_bad: A 400 for a batch names the invalid messages. What the API does is not documented,
            for this parameter and all that follow; each default is the harder case for a sender,
            but for this one.
        keep_rest: Store the valid messages of a batch with invalid ones.
        oversize: What is lost, with the answer 200, when a message of a batch is larger than
            32,000 bytes: the whole ``"request"`` or only the ``"message"``.
        numeric_ids: Store messages whose ids are integers, as text. If False, they are invalid,
            because the description of the API says that ids are strings.
        without_person: Store messages with neither a user id nor an anonymous id. If False, they
            are invalid; a group never needs a person.

    Returns:
        The sandbox. Once it runs, ``destination`` and ``url`` say where to send. ``events()``,
        ``people()``, ``requests()``, ``rejected()``, ``duplicates()``, ``totals()``,
        ``warnings()`` and ``sql("...")`` return DataFrames. ``set_faults(...)`` changes the faults,
        ``latency`` to ``seed``, while it runs. A web page at the root of the address, ``page``,
        shows the stored messages.

    Raises:
        DestinationError: A fault or ``oversize`` has a wrong value. On start: the address, the port
            or ``store`` cannot be used.

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
        policy = Policy(
            name_bad=name_bad,
            keep_rest=keep_rest,
            oversize=oversize,
            numeric_ids=numeric_ids,
            without_person=without_person,
        )
    except ValueError as error:
        raise DestinationError(str(error)) from error
    return Sandbox(host=host, port=port, api_key=api_key, store=store, faults=faults, policy=policy)
