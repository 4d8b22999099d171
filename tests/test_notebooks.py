"""The notebooks, executed against the sandbox in a real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "notebooks"

# What a reader must find in the outputs of a fresh run.
EXPECTED = {
    "01_quickstart.ipynb": [
        "Plan: 3 of 6 rows of the DataFrame to http://127.0.0.1",
        "unknown_event",
        "Backfill: 3 of 6 rows not delivered",
        "column 'customer' is empty",
        "Backfill: all 2 rows delivered",
        "Backfill done: 100%, 6 of 6 rows",
        "1 x missing_user: column 'customer' is empty",
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


@pytest.mark.filterwarnings("default")  # of the kernel's own making
@pytest.mark.parametrize(
    "command",
    [
        ("nbconvert", "--to", "html", "--execute", "--stdout"),
        ("nbconvert", "--to", "notebook", "--execute", "--stdout"),
        ("execute", "--inplace"),
    ],
)
def test_it_is_executed_without_a_browser(command: tuple[str, ...], tmp_path: Path) -> None:
    """What jobs run it with keeps the last state of the progress, once."""
    cells = ["import cdp_backfill as cdp", *SHORT]
    notebook = tmp_path / "short.ipynb"
    written = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    )
    nbformat.write(written, notebook)  # type: ignore[no-untyped-call]
    run = subprocess.run(
        [sys.executable, "-m", "jupyter", *command, notebook.name],
        cwd=tmp_path,
        env=os.environ | {"JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        check=True,
    )
    shown = run.stdout.decode() if "--stdout" in command else notebook.read_text("utf-8")
    face = "Backfill done:</b> 100%, 3 of 3 rows"
    assert shown.count(face) == 1
    assert shown.count("Backfill done: 100%") == (0 if "html" in command else 1)
    assert "preparing the first request" not in shown


SHORT = [
    """
import pandas as pd
frame = pd.DataFrame({"uid": ["a", "b", "c"], "ts": "2023-05-01T10:00:00Z"})

def send():
    with cdp.sandbox(latency=0.3) as box:
        return frame.cdp.send(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=box.destination,
        )
""",
    "report = send()",
]


QUICK = """
import contextlib
until_the_end = contextlib.ExitStack()
quick = until_the_end.enter_context(cdp.sandbox())

def send_quickly():
    return frame.cdp.send(
        user_id="uid",
        timestamp="ts",
        event=cdp.lit("Application Opened"),
        destination=quick.destination,
    )
"""


CLOSED = """
import io
closed = io.StringIO()
closed.close()
with contextlib.redirect_stderr(closed):
    send()
"""


class Kernel:
    """A kernel, and what it sends when code is run."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str) -> list[tuple[str, dict[str, Any]]]:
        """Kind and content of each message, up to the end; none is an error."""
        own = self._client.execute(code)
        found: list[tuple[str, dict[str, Any]]] = []
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != own:
                continue
            assert kind != "error", content
            if kind == "status" and content["execution_state"] == "idle":
                return found
            found.append((kind, content))


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel without any front end, in which a short send is defined."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        kernel = Kernel(client)
        kernel.run(f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r})")
        kernel.run("import cdp_backfill as cdp")
        kernel.run(SHORT[0])
        kernel.run(QUICK)
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def last_states(messages: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The text that a front end shows of each display in the end."""
    states: dict[str, str] = {}
    for kind, content in messages:
        if kind in ("display_data", "update_display_data"):
            name = content["transient"]["display_id"]
            assert (kind == "display_data") == (name not in states)
            assert set(content["data"]) == {"text/plain", "text/html"}
            states[name] = content["data"]["text/plain"]
    return list(states.values())


@pytest.mark.filterwarnings("default")  # of the kernel's own making
@pytest.mark.parametrize(
    ("code", "sends"),
    [
        ("send()", 1),
        ("send(); send()", 2),
        ("for _ in range(50): send_quickly()", 50),
        ("import threading\nt = threading.Thread(target=send)\nt.start()\nt.join()", 1),
        ("import asyncio\nawait asyncio.create_task(asyncio.to_thread(send))", 1),
        ("async def task():\n    return send()\nawait asyncio.create_task(task())", 1),
        ("import io\nwith contextlib.redirect_stdout(io.StringIO()): send()", 1),
        (CLOSED, 1),
    ],
)
def test_each_send_has_one_output(kernel: Kernel, code: str, sends: int) -> None:
    """Whoever runs it and however: one output each, which ends well; nothing else is written."""
    messages = kernel.run(code)
    states = last_states(messages)
    assert len(states) == sends
    for state in states:
        assert state.startswith("Backfill done: 100%, 3 of 3 rows")
    assert not [content for kind, content in messages if kind == "stream"]
    assert len(messages) < 20 * sends + 10


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_what_is_captured_holds_the_end_alone(kernel: Kernel) -> None:
    """%%capture keeps every display: there is one, however long the run."""
    assert last_states(kernel.run("%%capture kept\nreport = send()")) == []
    shown = kernel.run("print(len(kept.outputs), kept.outputs[0].data['text/plain'])")
    assert "1 Backfill done: 100%" in "".join(
        content["text"] for kind, content in shown if kind == "stream"
    )


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_a_display_that_breaks_in_the_middle_leaves_the_run_alone(kernel: Kernel) -> None:
    """A kernel that cannot display any more: a warning, and the report."""
    messages = kernel.run(
        "from unittest import mock\n"
        "from IPython.display import DisplayHandle\n"
        "with mock.patch.object(DisplayHandle, 'update', side_effect=OSError):\n"
        "    print(send().ok)"
    )
    said = "".join(content["text"] for kind, content in messages if kind == "stream")
    assert "True" in said
    assert "display failed (OSError); the run goes on" in said


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
