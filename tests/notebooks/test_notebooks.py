"""The notebooks, executed against the sandbox in a real kernel."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from tests.model.test_keys import FORMS, KEY, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "notebooks"

# What a reader must find in the outputs of a fresh run.
EXPECTED = {
    "01_quickstart.ipynb": [
        "Destination(url='http://127.0.0.1:",  # and no key
        "Plan: 3 of 6 rows of the DataFrame to http://127.0.0.1",
        "unknown_event",
        "Backfill: 3 of 6 rows not delivered",
        "column 'customer' is empty",
        "failures = failures[~(failures.cdp_code == 'missing_user')]",
        "Backfill done: 100%, 2 of 2 rows",
        "Backfill: 1 of 6 rows not delivered",
        "Backfill done: 100%, 6 of 6 rows",
        "1 x missing_user: column 'customer' is empty",
        "barbara",
    ],
    "02_warehouse_export.ipynb": [
        "Plan: 3,984 of 3,984 rows of the DuckDB relation",
        '"properties": {"version": "4.10"}',
        "Backfill: all 3,984 rows delivered",
        "500 delivered, 3,484 unsent",
        "500 of the delivered rows were delivered by an earlier run",
        "journal     ready.cdp-journal",
        "Application Opened            4120  2060",
    ],
    "03_reading_a_plan.ipynb": [
        "Plan for the DataFrame: 2 open questions",
        "'user_id' and 'customer_id' look equally like user_id but hold",
        "Plan: 5 of 6 rows of the DataFrame",
        "1  debug_ping",
        "properties.agent_note",
        "context={'device': {'model': 'hw'}}",
        "'timestamp': '2023-02-14T07:30:00.000Z'",
        "when = \"strptime(t, '%d.%m.%Y %H:%M')\"",
        "Backfill: all 5 rows delivered, 1 skipped on purpose",
    ],
    "04_failures_and_resume.ipynb": [
        "Backfill: 22 of 1,000 rows not delivered",
        "978  delivered",
        "the server answered 400: batch[0]: userId is",
        "failures.loc[failures.cdp_code == 'bad_time', 'at'] = pd.to_datetime(",
        "{'delivered': 989,\n  'invalid': 11,",
        "{'delivered': 300, 'failed': 100, 'unsent': 580}",
        "No row of this run is known to be delivered",
        "(300, 980, True)",
    ],
    "05_rehearsal.ipynb": [
        "Backfill done: 100%, 3,000 of 3,000 rows",
        "2023-06    492                492",
        "{'X-Strict-Mode': '1'} 400",
        "{} 200 {}",
        "'stored': 3000, 'not_stored': 2",
        "Reconciliation: the sandbox holds 3,000 messages with 3,000 different ids",
        "180 of 180",
    ],
    "06_vendor_presets.ipynb": [
        "Plan: 4 of 6 rows of the DataFrame",
        "Facts that the preset 'amplitude' relies on",
        "is not verified",
        "'properties': {'build': '310', 'version': '2.1.0'}",
        "'Application Opened': 3",
        "Backfill: all 5 rows delivered, 1 skipped on purpose",
        "{'level': 7, 'version': '2.1.0'}",
    ],
}

# The key that the sandbox of a notebook takes here: all that is sent carries it.
SHOWN = (*FORMS, base64.b64encode(KEY.encode()).decode().rstrip("="))

# What a kernel runs before the first cell: the key in use, and all that the libraries log.
STARTUP = """
import functools, logging, os, sys
import cdp_backfill as cdp
cdp.sandbox = functools.partial(cdp.sandbox, api_key=os.environ["CUSTOMERIO_CDP_API_KEY"])
for stream in (sys.__stdout__, sys.__stderr__):
    print("the kernel began", file=stream, flush=True)
logging.basicConfig(level=1, filename=os.environ["LOG_OF_THE_TEST"])
"""


@dataclass(frozen=True)
class Run:
    """A fresh run of a notebook.

    Attributes:
        name: The notebook's name.
        notebook: What it is after the run.
        left: What the kernel left besides, as text, by what it is.
    """

    name: str
    notebook: Any
    left: dict[str, str]


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each notebook, run cell by cell in a kernel whose every output is kept."""
    name = str(request.param)
    folder = tmp_path_factory.mktemp("run")
    work, ipython = folder / "work", folder / "ipython"
    work.mkdir()
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00_key.py").write_text(STARTUP, "utf-8")
    notebook = read(FOLDER / name)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    left = {kind: folder / kind for kind in ("stdout", "stderr", "log", "history")}
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        ipython_hist_file=str(left["history"]),
        resources={"metadata": {"path": work}},
    )
    environment = os.environ | {
        VARIABLE: KEY,
        "IPYTHONDIR": str(ipython),
        "LOG_OF_THE_TEST": str(left["log"]),
    }
    with left["stdout"].open("w") as stdout, left["stderr"].open("w") as stderr:
        client.execute(env=environment, stdout=stdout, stderr=stderr)
    texts = {kind: path.read_bytes().decode("utf-8", "replace") for kind, path in left.items()}
    return Run(name, notebook, texts)


def read(path: Path) -> Any:
    """A notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def outputs(notebook: Any) -> str:
    """All text of the outputs."""
    actual = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            actual.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(actual)


def test_every_notebook_is_known() -> None:
    """No notebook escapes these tests."""
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(EXPECTED)


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_a_fresh_run_shows_what_it_should(fresh: Run) -> None:
    """Cell by cell without an error, with the outputs that the text speaks of."""
    shown = outputs(fresh.notebook)
    for words in EXPECTED[fresh.name]:
        assert words in shown


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_a_run_leaves_no_key_anywhere(fresh: Run) -> None:
    """Not in the file of the notebook, nor in what its kernel wrote, logged and remembers."""
    assert "the kernel began" in fresh.left["stdout"]
    assert "the kernel began" in fresh.left["stderr"]
    assert "send_request_headers.started" in fresh.left["log"]  # the libraries did log
    assert "import cdp_backfill as cdp" in fresh.left["history"]
    written = nbformat.writes(fresh.notebook)  # type: ignore[no-untyped-call]
    for where, text in {"notebook": written, **fresh.left}.items():
        for form in SHOWN:
            assert form not in text, where


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_is_committed_is_tidy(name: str) -> None:
    """No key of the sandbox, no time of execution, no folder of the machine that ran it."""
    notebook = read(FOLDER / name)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = (FOLDER / name).read_text("utf-8")
    for shown in ("/tmp/", "/home/", "/root/", "site-packages", "api_key='"):  # noqa: S108
        assert shown not in text


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_it_is_committed_with_outputs(name: str) -> None:
    """A reader on the web sees what a run shows, HTML views included."""
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
    view = "Backfill done:</b> 100%, 3 of 3 rows"
    assert shown.count(view) == 1
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


TASK = """
import asyncio
async def task():
    return send()
await asyncio.create_task(task())
"""


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
        actual: list[tuple[str, dict[str, Any]]] = []
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != own:
                continue
            assert kind != "error", content
            if kind == "status" and content["execution_state"] == "idle":
                return actual
            actual.append((kind, content))


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
        (TASK, 1),
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
    assert "display failed (OSError). The run continues" in said


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
