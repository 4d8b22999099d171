"""The notebooks, executed against the sandbox in a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

FOLDER = Path(__file__).parents[1] / "notebooks"

# What a reader must find in the outputs of a fresh run.
EXPECTED = {
    "01_quickstart.ipynb": [
        "Plan: 3 of 6 rows of the DataFrame to http://127.0.0.1",
        "unknown_event",
        "Backfill: 3 of 6 rows not delivered",
        "column 'customer' is empty",
        "Backfill: all 2 rows delivered",
        "100%",
        "barbara",
    ]
}


def read(path: Path) -> Any:
    """A notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def outputs(notebook: Any) -> str:
    """All text of the outputs."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            found.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(found)


def test_every_notebook_is_known() -> None:
    """No notebook escapes these tests."""
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(EXPECTED)


@pytest.mark.filterwarnings("default")  # of the kernel's own making
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_fresh_run_shows_what_it_should(name: str, tmp_path: Path) -> None:
    """Cell by cell without an error, with the outputs that the text speaks of."""
    notebook = read(FOLDER / name)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    shown = outputs(notebook)
    for words in EXPECTED[name]:
        assert words in shown


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_it_is_committed_with_outputs(name: str) -> None:
    """A reader on the web sees what a run shows, HTML faces included."""
    notebook = read(FOLDER / name)
    shown = outputs(notebook)
    for words in EXPECTED[name]:
        assert words in shown
    kinds = {
        kind
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        for kind in o.get("data", {})
    }
    assert "text/html" in kinds
    assert "widget" not in str(kinds)


INTERRUPTED = """
import sys
sys.path.insert(0, {root!r})
from tests.rows import opens
from tests.servers import Reply, serving
import cdp_backfill as cdp

def answer(number, seen):
    if number == 3 and seen.raw:
        print("under way", flush=True)
    return Reply()

with serving(answer) as server:
    report = opens(200_000).cdp.send(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        destination=server.destination(rate_limit=30.0, max_messages=500),
    )
report
"""


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_the_stop_button_returns_the_report() -> None:
    """An interrupt of a real kernel: the cell ends with the report as its value."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute(INTERRUPTED.format(root=str(FOLDER.parent)))
        kinds, result = [], None
        while True:
            message = client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            kinds.append(kind)
            if kind == "stream" and "under way" in content["text"]:
                manager.interrupt_kernel()
            if kind == "execute_result":
                result = content["data"]
            if kind == "status" and content["execution_state"] == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "error" not in kinds
    assert result is not None
    assert "The run was interrupted" in result["text/plain"]
    assert "unsent" in result["text/html"]
