"""Entries of a journal are written through to the disk, and not all of them one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cdp_backfill.pipeline.journal import Journal
from cdp_backfill.pipeline.run_journal import State
from tests.rows import OPENED

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_entries_are_written_through_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first entry, and then one each tenth of a second, with all that were made before it."""
    now = 0.0
    monkeypatch.setattr("cdp_backfill.pipeline.journal.time.monotonic", lambda: now)
    journal = Journal(tmp_path / "j", mapping=OPENED, url="https://x/v1")
    journal.begin()
    modes: list[tuple[float, str]] = []
    mode = "NORMAL"

    def note(statement: str) -> None:
        nonlocal mode
        if statement.startswith("PRAGMA synchronous"):
            mode = statement.rpartition(" ")[2]
        elif statement.startswith(("INSERT", "UPDATE", "DELETE")):
            modes.append((now, mode))

    journal._database.set_trace_callback(note)
    request = 0
    for now in (0.0, 0.05, 0.11, 0.12, 0.3):  # noqa: B007  # read by the clock
        request = journal.add([np.zeros((1, 16), np.uint8)], State.SENT)
    journal.change(request, State.DELIVERED)
    now = 0.5
    journal.change(request, None)
    journal._database.set_trace_callback(None)
    journal.release()
    expected = {0.0: "FULL", 0.05: "NORMAL", 0.11: "FULL", 0.12: "NORMAL"}
    assert dict(modes[:4]) == expected
    assert modes[4:] == [(0.3, "FULL"), (0.3, "NORMAL"), (0.5, "FULL")]
