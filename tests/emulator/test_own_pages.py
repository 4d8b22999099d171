"""The sandbox keeps its page, its controls and its data from others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import httpx
import pandas as pd
import pytest

import cdp_backfill as cdp
from tests.rows import OPENED, opens

if TYPE_CHECKING:
    from pathlib import Path

PATHS = ["/", "/overview.json", "/faults", "/openapi.json", "/health", "/messages/1"]
FOREIGN = [
    {"Host": "attacker.example"},
    {"Host": "localhost.attacker.example"},
    {"Host": ""},
    {"Host": "[::1"},
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
]


def test_pages_of_others_get_nothing() -> None:
    """No page, data or control under another name, or for another origin; the API still answers."""
    with cdp.sandbox() as box, httpx.Client(auth=("sandbox", "")) as client:
        here = box.page.rstrip("/")
        for headers in FOREIGN:
            for path in PATHS:
                assert client.get(here + path, headers=headers).status_code == 403
            answer = client.put(f"{here}/faults", headers=headers, json={"too_many": 1.0})
            assert answer.status_code == 403
            call = {"userId": "u", "event": "E", "type": "track"}
            assert client.post(f"{here}/v1/track", headers=headers, json=call).is_success
        assert box.faults.too_many == 0
        port = here.rpartition(":")[2]
        for own in ({}, {"Origin": here}, {"Host": f"localhost:{port}"}, {"Host": f"[::1]:{port}"}):
            assert client.get(f"{here}/overview.json", headers=own).is_success
        assert len(box.events()) == len(FOREIGN)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM messages",
        "INSERT INTO messages (seq) VALUES (9)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "SELECT load_extension('x')",
        "DROP TABLE messages",
    ],
)
def test_queries_only_read(
    query: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query changes nothing and opens no file, and says so; reading goes on as before."""
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    with cdp.sandbox() as box:
        httpx.post(f"{box.url}/track", auth=("sandbox", ""), json={"userId": "u", "event": "E"})
        with pytest.raises(pd.errors.DatabaseError, match="can only be read: pass a SELECT"):
            box.sql(query)
        numbers = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
            "SELECT count(*) AS n FROM n, messages"
        )
        assert box.sql(numbers).n[0] == 3
        assert box.sql("SELECT value FROM json_each('[1, 2]')").value.sum() == 3
        assert len(box.people()) == 1
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_stored_messages_are_for_their_owner_alone(tmp_path: Path) -> None:
    """They hold ids of people; a file that exists keeps the mode that somebody gave it."""
    for path in (tmp_path / "new.db", tmp_path / "shared.db"):
        if path.name == "shared.db":
            path.touch(0o644)
            path.chmod(0o644)
        with cdp.sandbox(store=path) as box:
            opens(1).cdp.send(OPENED, destination=box.destination, progress=False)
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes.pop("new.db") == 0o600
        assert set(modes.values()) <= {0o644, 0o600}
