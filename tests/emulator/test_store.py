"""The store counts what the page shows, and continues files, those of earlier versions too."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.emulator.store import FIELDS, MESSAGE_COLUMNS, ReceivedRequest, Store
from tests.emulator.test_sandbox import EXAMPLE, post

if TYPE_CHECKING:
    from pathlib import Path

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC).isoformat()

rows = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "identify", "x"]),
        "event": st.sampled_from([None, "x", "identify", "y\u0000", "Zoë"]),
        "userId": st.sampled_from([None, "", "a", "b", "a\u0000"]),
        "anonymousId": st.sampled_from([None, "", "a", "c"]),
        "timestamp": st.sampled_from(
            [None, "0001-01-01T00:00:00.000Z", "2024-02-01T00:00:00.000Z"]
        ),
        "warnings": st.sampled_from([None, '["one"]', '["one","two"]']),
    }
)


def add(store: Store, messages: list[dict[str, Any]]) -> None:
    """Store messages as one request."""
    request = ReceivedRequest(NOW, "/batch", True, 200, 0, len(messages), None)
    store.add(request, [tuple(map(each.get, MESSAGE_COLUMNS)) for each in messages], [])


def figures(store: Store) -> tuple[Any, ...]:
    """What the store has counted."""
    return (
        store.records("SELECT * FROM months ORDER BY event, month"),
        store.records("SELECT * FROM warnings ORDER BY warning"),
        store.people_by_event(),
    )


@hypothesis.given(requests=st.lists(st.lists(rows, max_size=5), max_size=5), ask=st.booleans())
def test_what_is_counted_is_what_is_stored(
    requests: list[list[dict[str, Any]]], *, ask: bool
) -> None:
    """Messages by event and month, people by event, and warnings, however often one asks."""
    store = Store()
    for messages in requests:
        add(store, messages)
        if ask:
            figures(store)
    stored = [each for messages in requests for each in messages]
    names = [each["type"] if each["event"] is None else each["event"] for each in stored]
    months, warnings, people = figures(store)
    assert {(each["event"], each["month"]): each["messages"] for each in months} == Counter(
        (name, (each["timestamp"] or "")[:7]) for name, each in zip(names, stored, strict=True)
    )
    who = [each["userId"] or each["anonymousId"] for each in stored]
    assert people == Counter(name for name, person in set(zip(names, who, strict=True)) if person)
    texts = [text for each in stored for text in ("one", "two") if text in (each["warnings"] or "")]
    assert {each["warning"]: each["messages"] for each in warnings} == Counter(texts)
    for each in warnings:
        last = max(
            n for n, row in enumerate(stored, 1) if each["warning"] in (row["warnings"] or "")
        )
        assert each["latest"] == last
    store.close()


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    """Its messages are counted, and new ones can be added."""
    path = tmp_path / "box.db"
    with sqlite3.connect(path) as old:
        columns = ", ".join(f"{name} TEXT" for name in FIELDS)
        old.executescript(
            "CREATE TABLE requests (request INTEGER PRIMARY KEY, receivedAt TEXT, path TEXT, "  # noqa: S608
            "strict INTEGER, status INTEGER, bytes INTEGER, messages INTEGER, stored INTEGER, "
            f"reason TEXT); CREATE TABLE messages (seq INTEGER PRIMARY KEY, request INTEGER, "
            f"receivedAt TEXT, {columns}); CREATE VIEW people AS SELECT userId FROM messages;"
        )
        old.executemany(
            "INSERT INTO messages (request, receivedAt, type, userId, event, timestamp) "
            "VALUES (1, ?, 'track', ?, 'x', '2024-02-01T00:00:00.000Z')",
            [(NOW, user) for user in ("a", "b", "a")],
        )
    old.close()
    for expected in (4, 5):  # it is counted only once
        with cdp.sandbox(store=path) as box:
            assert post(box, "/track", EXAMPLE | {"event": "x"}).status_code == 200
            assert len(box.events()) == expected
            assert box.events()["warnings"].tolist() == [[]] * expected
            assert box.people()["id"].tolist()[0] in ("a", "user_12345")
            assert box._store.people_by_event() == {"x": 3}
            months = {"2024-01": expected - 3, "2024-02": 3}
            found = box.sql("SELECT month, messages FROM months").to_dict("records")
            assert {each["month"]: each["messages"] for each in found} == months


@pytest.mark.parametrize("content", [b"no database" * 100, None])
def test_a_store_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    """The error names the file and says what to do, and the port is free again."""
    path = tmp_path / "file" if content else tmp_path
    if content:
        path.write_bytes(content)
    box = cdp.sandbox(store=path)
    with pytest.raises(cdp.DestinationError, match="cannot be used as an SQLite database"):
        box.start()
    assert not box.running
