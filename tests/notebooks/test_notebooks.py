"""The notebooks, executed against the sandbox in a real kernel."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nbclient
import nbformat
import pytest

from tests.kernels import Kernel, Message, streams
from tests.keys import KEY, KEY_FORMS, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

# Kernels use libraries that warn.
pytestmark = pytest.mark.filterwarnings("default")

FOLDER: Final = Path(__file__).parents[2] / "notebooks"

EXPECTED: Final = {
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
        "c-52",
    ],
    "02_warehouse_export.ipynb": [
        "Plan: 3,984 of 3,984 rows of the DuckDB relation",
        '"properties": {"version": "4.10"}',
        "Backfill: all 3,984 rows delivered",
        "500 delivered, 3,484 unsent",
        "500 of the delivered rows were delivered by an earlier run",
        "ready.cdp-journal",
        "Application Opened            4120  2060",
    ],
    "03_reading_a_plan.ipynb": [
        "Plan for the DataFrame: 2 open questions",
        "'user_id' and 'customer_id' look equally like the id of a person",
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
        "failures.loc[failures.cdp_code == 'bad_time', 'happened_at'] = pd.to_datetime(",
        "{'delivered': 989,\n  'invalid': 11,",
        "{'delivered': 300, 'unknown': ",
        "No row of this run is known to be delivered",
        "(300, 980, True)",
    ],
    "05_rehearsal.ipynb": [
        "Backfill done: 100%, 3,000 of 3,000 rows",
        "2023-06    492                492",
        "{'X-Strict-Mode': '1'} 400",
        "{} 200 {}",
        "'stored': 3000, 'not_stored': 2",
        "the sandbox holds 3,000 messages with 3,000 different ids",
        "180 of 180",
    ],
    "06_vendor_presets.ipynb": [
        "Plan: 4 of 6 rows of the DataFrame",
        "the preset 'amplitude' relies on",
        "is not verified",
        "'properties': {'build': '310', 'version': '2.1.0'}",
        "'Application Opened': 3",
        "Backfill: all 5 rows delivered, 1 skipped on purpose",
        "{'level': 7, 'version': '2.1.0'}",
    ],
    "07_spark.ipynb": [
        "|-- ts: timestamp (nullable = true)",
        "Plan: 5,996 of 6,000 rows of the Spark DataFrame",
        "Backfill: 4 of 6,000 rows not delivered",
        "0  missing_user      4",
        "column 'uid' is empty",
        "(5996, 0)",
        "Backfill: all 6,000 rows delivered",
        "6000  6000",
    ],
    "08_dask.ipynb": [
        "Plan: 5,996 of 6,000 rows of the Dask DataFrame",
        "Backfill: 4 of 6,000 rows not delivered",
        "column 'uid' is empty",
        "(5996, 0)",
        "11992  5996",
        "Backfill: all 6,000 rows delivered",
    ],
}
"""Texts that the outputs of each notebook must contain."""

SANDBOX_KEY_FORMS: Final = (*KEY_FORMS, base64.b64encode(KEY.encode()).decode().rstrip("="))
"""Forms of the key that the sandbox of a notebook accepts here; every request carries it."""

KERNEL_STARTUP: Final = """
import functools, logging, os, sys
import cdp_backfill as cdp
cdp.sandbox = functools.partial(cdp.sandbox, api_key=os.environ["CUSTOMERIO_CDP_API_KEY"])
for stream in (sys.__stdout__, sys.__stderr__):
    print("the kernel started", file=stream, flush=True)
logging.basicConfig(level=1, filename=os.environ["TEST_LOG"])
"""
"""Code that a kernel runs before the first cell: it sets the key and logs all messages."""


@dataclass(frozen=True)
class NotebookRun:
    """A fresh run of a notebook.

    Attributes:
        name: The notebook's file name.
        notebook: The notebook after the run.
        traces: What the kernel wrote elsewhere: its output streams, log and history.
    """

    name: str
    notebook: Any
    traces: dict[str, str]


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def fresh_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NotebookRun:
    """Each notebook, run cell by cell in a kernel whose every output is kept."""
    name = str(request.param)
    if "spark" in name and shutil.which("java") is None:
        pytest.skip("there is no Java on this machine")
    for engine in ("pyspark", "dask"):
        if engine.removeprefix("py") in name:
            pytest.importorskip(engine, reason=f"{engine} is not installed")
    folder = tmp_path_factory.mktemp("run")
    work, ipython = folder / "work", folder / "ipython"
    work.mkdir()
    startup = ipython / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00_key.py").write_text(KERNEL_STARTUP, "utf-8")
    notebook = read(FOLDER / name)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    traces = {kind: folder / kind for kind in ("stdout", "stderr", "log", "history")}
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        ipython_hist_file=str(traces["history"]),
        resources={"metadata": {"path": work}},
    )
    environment = os.environ | {
        VARIABLE: KEY,
        "IPYTHONDIR": str(ipython),
        "TEST_LOG": str(traces["log"]),
    }
    with traces["stdout"].open("w") as stdout, traces["stderr"].open("w") as stderr:
        client.execute(env=environment, stdout=stdout, stderr=stderr)
    texts = {kind: path.read_bytes().decode("utf-8", "replace") for kind, path in traces.items()}
    return NotebookRun(name, notebook, texts)


def read(path: Path) -> Any:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def output_text(notebook: Any) -> str:
    """All text of the outputs, none of which is an error."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


def test_every_notebook_is_tested() -> None:
    """Every notebook has expected texts here."""
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(EXPECTED)


def test_a_fresh_run_shows_the_expected_texts(fresh_run: NotebookRun) -> None:
    """Every cell runs without an error, and the outputs are those that the text explains."""
    text = output_text(fresh_run.notebook)
    for expected in EXPECTED[fresh_run.name]:
        assert expected in text


def test_a_run_leaves_no_key_anywhere(fresh_run: NotebookRun) -> None:
    """Neither the notebook nor the streams, the log and the history of its kernel hold the key."""
    traces = fresh_run.traces
    assert "the kernel started" in traces["stdout"]
    assert "the kernel started" in traces["stderr"]
    assert "send_request_headers.started" in traces["log"]  # the libraries did log
    assert "import cdp_backfill as cdp" in traces["history"]
    file = nbformat.writes(fresh_run.notebook)  # type: ignore[no-untyped-call]
    for place, text in {"notebook": file, **traces}.items():
        for form in SANDBOX_KEY_FORMS:
            assert form not in text, place


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_committed_notebook_has_nothing_of_its_machine(name: str) -> None:
    """It holds no key, no time of execution and no folder, and its cells are numbered in order."""
    notebook = read(FOLDER / name)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = (FOLDER / name).read_text("utf-8")
    for private in ("/tmp/", "/home/", "/root/", "site-packages", "api_key='"):  # noqa: S108
        assert private not in text


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_committed_notebook_has_its_outputs(name: str) -> None:
    """A reader on the web sees what a run shows, including HTML views."""
    notebook = read(FOLDER / name)
    text = output_text(notebook)
    for expected in EXPECTED[name]:
        assert expected in text
    kinds = {
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    }
    assert "text/html" in kinds
    assert "widget" not in str(kinds)


DEFINE_SEND: Final = """
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
"""

DEFINE_SEND_QUICKLY: Final = """
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

SEND_IN_TASK: Final = """
import asyncio
async def task():
    return send()
await asyncio.create_task(task())
"""


SEND_WITH_CLOSED_STDERR: Final = """
import io
closed = io.StringIO()
closed.close()
with contextlib.redirect_stderr(closed):
    send()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("nbconvert", "--to", "html", "--execute", "--stdout"),
        ("nbconvert", "--to", "notebook", "--execute", "--stdout"),
        ("execute", "--inplace"),
    ],
)
def test_a_notebook_runs_without_a_browser(command: tuple[str, ...], tmp_path: Path) -> None:
    """The programs that jobs run notebooks with keep the last state of the progress, once."""
    cells = ["import cdp_backfill as cdp", DEFINE_SEND, "report = send()"]
    path = tmp_path / "short.ipynb"
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    )
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    process = subprocess.run(
        [sys.executable, "-m", "jupyter", *command, path.name],
        cwd=tmp_path,
        env=os.environ | {"JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        check=True,
    )
    text = process.stdout.decode() if "--stdout" in command else path.read_text("utf-8")
    assert text.count("Backfill done:</b> 100%, 3 of 3 rows") == 1
    assert text.count("Backfill done: 100%") == (0 if "html" in command else 1)
    assert "preparing the first request" not in text


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel without a front end, in which ``send`` and ``send_quickly`` are defined."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    try:
        kernel.run(f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r})")
        kernel.run("import cdp_backfill as cdp")
        kernel.run(DEFINE_SEND)
        kernel.run(DEFINE_SEND_QUICKLY)
        assert kernel.errors == []
        yield kernel
    finally:
        kernel.close()


def final_displays(messages: list[Message]) -> list[str]:
    """The text that a front end shows of each display at the end."""
    displays: dict[str, str] = {}
    for kind, content in messages:
        if kind in ("display_data", "update_display_data"):
            name = content["transient"]["display_id"]
            assert (kind == "display_data") == (name not in displays)
            assert set(content["data"]) == {"text/plain", "text/html"}
            displays[name] = content["data"]["text/plain"]
    return list(displays.values())


@pytest.mark.parametrize(
    ("code", "sends"),
    [
        ("send()", 1),
        ("send(); send()", 2),
        ("for _ in range(50): send_quickly()", 50),
        ("import threading\nt = threading.Thread(target=send)\nt.start()\nt.join()", 1),
        ("import asyncio\nawait asyncio.create_task(asyncio.to_thread(send))", 1),
        (SEND_IN_TASK, 1),
        ("import io\nwith contextlib.redirect_stdout(io.StringIO()): send()", 1),
        (SEND_WITH_CLOSED_STDERR, 1),
    ],
)
def test_each_send_has_one_output(kernel: Kernel, code: str, sends: int) -> None:
    """Each send has one display, which ends with the result, and prints nothing else."""
    messages = kernel.messages(code)
    assert "error" not in {kind for kind, _ in messages}
    displays = final_displays(messages)
    assert len(displays) == sends
    for text in displays:
        assert text.startswith("Backfill done: 100%, 3 of 3 rows")
    assert streams(messages) == ""
    assert len(messages) < 20 * sends + 10


def test_capture_holds_only_the_final_display(kernel: Kernel) -> None:
    """%%capture keeps every display; there is one, however long the run."""
    assert final_displays(kernel.messages("%%capture captured\nreport = send()")) == []
    messages = kernel.messages(
        "print(len(captured.outputs), captured.outputs[0].data['text/plain'])"
    )
    assert "1 Backfill done: 100%" in streams(messages)


def test_a_display_that_fails_does_not_stop_the_run(kernel: Kernel) -> None:
    """If the kernel cannot display any more, there is a warning, and the run returns its report."""
    messages = kernel.messages(
        "from unittest import mock\n"
        "from IPython.display import DisplayHandle\n"
        "with mock.patch.object(DisplayHandle, 'update', side_effect=OSError):\n"
        "    print(send().ok)"
    )
    text = streams(messages)
    assert "True" in text
    assert "display failed (OSError). The run continues" in text


LONG_SEND: Final = """
import sys
sys.path.insert(0, {root!r})
from tests.rows import opens
from tests.servers import Reply, serving
import cdp_backfill as cdp

def answer(number, seen):
    if number == 3 and seen.raw:
        print("in flight", flush=True)
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


def test_the_stop_button_returns_the_report(tmp_path: Path) -> None:
    """If the user interrupts the kernel, the report is the value of the cell."""
    kernel = Kernel(tmp_path)
    try:
        code = LONG_SEND.format(root=str(FOLDER.parent))
        messages = kernel.messages(code, interrupt_at="in flight")
    finally:
        kernel.close()
    assert kernel.errors == []
    (result,) = [content["data"] for kind, content in messages if kind == "execute_result"]
    assert "The run was interrupted" in result["text/plain"]
    assert "unsent" in result["text/html"]
