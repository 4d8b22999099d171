"""A journal in a folder that many workers share: on a disk, or in an object store.

It holds what the journal in a file holds (:mod:`cdp_backfill.pipeline.journal`): the mapping and
the address (no key), counts, and 12 bytes for each row; no payload and no cell. Nothing is ever
appended to a file, because object stores cannot do that::

    about.json                              the backfill
    runs/<run>/run.json, claim.json         a run, and its driver's sign of life
    runs/<run>/ended.json, stop             it has ended; its parts shall stop
    runs/<run>/parts/<part>/<attempt>/      an attempt of a part:
        claim.json                          its sign of life
        000001.digests, ... or all.digests  what it sent
        summary.bin                         its end

A message counts as delivered whichever attempt delivered it. So a later run can have other parts,
another order or another engine, and skips what was delivered.

A message is in a file before it leaves, and what was delivered follows within two seconds. So a
crash leaves in doubt what was read but not yet recorded as delivered: up to a few chunks of rows.
These rows are sent again, and counted in ``maybe_twice``.

Each worker process knows what earlier runs did: a few million messages in memory, and more in an
index on the disk of its machine (:mod:`cdp_backfill.engines.digest_index`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from cdp_backfill.engines.attempt_files import RUNS
from cdp_backfill.engines.attempt_journal import KNOWN_BEFORE, SharedRun
from cdp_backfill.engines.claims import Claim, new_holder
from cdp_backfill.engines.digest_index import remove_index
from cdp_backfill.engines.store import Store, as_passed, one_clear_error
from cdp_backfill.errors import JournalError
from cdp_backfill.messages.ids import ID_RECIPE
from cdp_backfill.model.mapping import Mapping
from cdp_backfill.pipeline.same_backfill import check_recipe, check_same_backfill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType


FORMAT: Final = "cdp-backfill shared journal 1"

_ABOUT: Final = "about.json"


def read_about(store: Store) -> dict[str, Any] | None:
    """What a shared journal holds about its backfill, or None if there is nothing at this place.

    Raises:
        JournalError: There is something else, or it cannot be read. It was not changed.
    """
    with one_clear_error(store.location):
        content = None if store.is_empty() else store.read(_ABOUT)
        if content is None and store.is_empty():
            return None
    try:
        about: dict[str, Any] = json.loads(content or b"")
        is_ours = about["format"] == FORMAT
        Mapping.from_toml(about["mapping"])
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise JournalError(
            f"{store.location} is not a shared journal of this version, and not empty. It was not "
            "changed. Pass the path of another folder."
        )
    return about


class FolderJournal:
    """The journal as the driver has it. Nothing in it changes before :meth:`begin`.

    Args:
        location: A path, or a URI such as ``s3://bucket/folder``.
        mapping: The mapping of the backfill.
        url: The address that it sends to.
        columns: The columns of the table.
        options: What else decides which rows go, and how their messages are written.
        keeps_table: See :class:`~cdp_backfill.pipeline.journal.Journal`.

    Raises:
        JournalError: It cannot be read, is something else, or belongs to another backfill.

    >>> import tempfile
    >>> mapping = Mapping(user_id="uid", timestamp="ts", event="name")
    >>> folder = f"{tempfile.mkdtemp()}/opens"
    >>> with FolderJournal(folder, mapping=mapping, url="https://cdp.customer.io/v1") as journal:
    ...     with journal.shared.attempt("0") as attempt:
    ...         attempt.delivered_before
    0
    """

    def __init__(
        self,
        location: str | Path,
        *,
        mapping: Mapping,
        url: str,
        columns: Sequence[str] = (),
        options: dict[str, Any] | None = None,
        keeps_table: bool = False,
    ) -> None:
        self.store = Store.at(location)
        self._passed = as_passed(location)
        self._about: dict[str, Any] = {
            "format": FORMAT,
            "recipe": ID_RECIPE,
            "mapping": mapping.to_toml(),
            "url": url,
            "columns": json.dumps(sorted(columns)),
            "options": json.dumps(options or {}, default=str),
        }
        self._before = read_about(self.store)
        self._mapping, self._url, self._keeps_table = mapping, url, keeps_table
        self._check()
        self.run = new_holder()
        self._claim: Claim | None = None
        self._shared: SharedRun | None = None

    def _check(self) -> None:
        """Refuse the journal of another backfill."""
        if self._before is not None:
            place = self.store.location
            check_recipe(place, self._before)
            check_same_backfill(
                place, self._before, self._mapping, self._url, keeps_table=self._keeps_table
            )

    @property
    def path(self) -> Path | str:
        """Where it is, a path or a URI, as it was passed."""
        return self._passed

    @property
    def last_options(self) -> dict[str, Any]:
        """The options of the last run with this journal; nothing if there was none.

        Raises:
            JournalError: It cannot be read, or is damaged.
        """
        if self._before is None:
            return {}
        with one_clear_error(self.store.location):
            runs = list(runs_in(self.store).values())
        options: dict[str, Any] = json.loads(self._before["options"])
        return runs[-1].get("options", options) if runs else options

    @property
    def shared(self) -> SharedRun:
        """What the workers need, once the run has begun."""
        if self._shared is None:
            raise JournalError("The run with this journal has not begun.")
        return self._shared

    def begin(self, about: dict[str, Any] | None = None) -> None:
        """Record that a run begins.

        Args:
            about: What to record about the run, for :func:`read_run`.

        Raises:
            JournalError: Another run with this journal is alive, or it cannot be written.
        """
        with one_clear_error(self.store.location):
            if self._before is None:
                self._write(_ABOUT, self._about)
                self._before = read_about(self.store)
            claim = Claim(self.store, f"{RUNS}/{self.run}", RUNS)
            other = claim.try_to_take()
            if other is not None:
                raise JournalError(
                    f"The journal {self.store.location} is in use by another run, which gave a "
                    f"sign of life {other.age:.0f} seconds ago. Wait for that run to end. If it "
                    "crashed, try again in half a minute."
                )
            self._claim = claim
            try:
                self._before = read_about(self.store)  # another run may have begun it just now
                self._check()
                self._write_columns()
                options = json.loads(self._about["options"])
                record = {"started": _now(), "options": options, **(about or {})}
                self._write(f"{RUNS}/{self.run}/run.json", record)
            except BaseException:
                claim.release()
                raise
        self._shared = SharedRun(self.store, self.run)

    def _write_columns(self) -> None:
        """Add new columns to those of earlier runs: to leave such a column out changes nothing."""
        before = self._before or self._about
        columns = {*json.loads(before["columns"]), *json.loads(self._about["columns"])}
        text = json.dumps(sorted(columns))
        if text != before["columns"]:
            now = {**before, "columns": text, "mapping": self._about["mapping"]}
            self._write(_ABOUT, now)

    def stop(self) -> None:
        """Ask the parts of this run to stop.

        Raises:
            OSError: The folder cannot be written.
        """
        self.store.write(f"{RUNS}/{self.run}/stop", b"stop\n")

    def end(self, counts: dict[str, int] | None = None) -> None:
        """Record that the run has ended, and let other runs use the journal.

        Args:
            counts: Rows by outcome.

        Raises:
            JournalError: The folder cannot be written.
        """
        try:
            if self._claim is not None and counts is not None:
                with one_clear_error(self.store.location):
                    record = {"ended": _now(), "counts": counts}
                    self._write(f"{RUNS}/{self.run}/ended.json", record)
        finally:
            self.release()

    def release(self) -> None:
        """Let other runs use the journal, without a record of how this one ended."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()
            remove_index(self.store, self.run)
        KNOWN_BEFORE.forget()

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.store.write(name, json.dumps(content, indent=2).encode())

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def runs_in(store: Store) -> dict[str, dict[str, Any]]:
    """What was recorded about each run, in their order.

    Raises:
        OSError: The folder cannot be read.
        JournalError: It is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(store.names(RUNS)):
        folder, _, file = name.rpartition("/")
        if file not in ("run.json", "ended.json") or folder.count("/") != 1:
            continue
        try:
            record = json.loads(store.read(name) or b"{}")
        except ValueError:
            raise JournalError(
                f"The journal {store.location} is damaged: {name} cannot be read. Restore the "
                "folder, or pass another journal."
            ) from None
        run = folder.partition("/")[2]
        found[run] = {**found.get(run, {}), **record}
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
