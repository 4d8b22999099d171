"""A real JupyterLab, driven by a browser as its users do."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import cdp_backfill as cdp
from tests.emulator.test_page import browser

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser"]  # a fixture

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"

# Dialogs and news would stand in the way, and go to the network.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Where it answers.
        token: What it asks for.
        home: Folder of the notebooks.
        settings: Folder of the user's settings.
    """

    url: str
    token: str
    home: Path
    settings: Path

    def set_theme(self, theme: str) -> None:
        """Light or Dark, from the next page on."""
        chosen = SETTINGS | {
            "apputils-extension/themes": {
                "theme": f"JupyterLab {theme}",
                "adaptive-theme": False,
            }
        }
        for name, values in chosen.items():
            path = self.settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), "utf-8")

    def write(self, name: str, *cells: str) -> None:
        """A notebook with these cells of code."""
        notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.home / name)  # type: ignore[no-untyped-call]

    def end_kernels(self) -> None:
        """End what a page left running."""
        for kernel in json.loads(self._ask("GET", "/api/kernels")):
            self._ask("DELETE", f"/api/kernels/{kernel['id']}")

    def _ask(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=20).content


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab in a process of its own, with folders of its own, that ends for sure."""
    base = tmp_path_factory.mktemp("lab")
    folders = {name: base / name.lower() for name in ("config", "data", "runtime", "settings")}
    home = base / "home"
    for folder in (*folders.values(), home):
        folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), home, folders["settings"])
    lab.set_theme("Light")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "IPYTHON", "PYTEST"))
    }
    environment |= {
        "HOME": str(home),
        "IPYTHONDIR": str(base / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(base / "workspaces"),
        "JUPYTER_TOKEN": lab.token,  # not on the command line, where others could read it
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={home}"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *("--ServerApp.allow_root=True", "--LabApp.extension_manager=readonly"),
        *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url="),
    ]
    with (base / "log.txt").open("w+b") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for_it(lab, process, base / "log.txt")
            yield lab
        finally:
            process.terminate()  # it takes its kernels along
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def wait_for_it(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers."""
    for _ in range(600):
        try:
            httpx.get(f"{lab.url}/api", timeout=5).raise_for_status()
        except httpx.HTTPError:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text('utf-8')[-2_000:]}")


class Notebook:
    """A notebook that is open in a page.

    Args:
        page: The page.
        lab: Where it is opened.
        name: Its file.
    """

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self._page, self._path = page, lab.home / name
        page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset")
        self.all = page.locator(".jp-Notebook")
        self.cells = self.all.locator(".jp-CodeCell")
        expect(self.cells.first).to_be_visible(timeout=30_000)
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        expect(idle).to_be_visible(timeout=30_000)

    def start(self, number: int) -> Locator:
        """Run a cell, and go on while it runs; its outputs."""
        cell = self.cells.nth(number)
        prompt = cell.locator(".jp-InputPrompt")
        for _ in range(3):
            cell.locator(".cm-content").press("Shift+Enter")
            try:
                expect(prompt).not_to_have_text("[ ]:", timeout=3_000)
            except AssertionError:
                continue  # JupyterLab was not ready, and let the keys fall
            break
        return cell.locator(".jp-Cell-outputArea")

    def wait(self, number: int) -> None:
        """Until a cell has its prompt number, as cells that are run one after another get."""
        prompt = self.cells.nth(number).locator(".jp-InputPrompt")
        expect(prompt).to_have_text(f"[{number + 1}]:", timeout=30_000)

    def run(self, number: int) -> Locator:
        """Run a cell to its end; its outputs, none of which is a traceback or a warning."""
        outputs = self.start(number)
        self.wait(number)
        expect(outputs.locator("[data-mime-type$=error], [data-mime-type$=stderr]")).to_have_count(
            0
        )
        return outputs

    def saved(self) -> Any:
        """The file, once it is written."""
        self._page.keyboard.press("Escape")
        self._page.keyboard.press("Control+s")
        expect(self._page.locator(".jp-mod-dirty")).to_have_count(0)
        return nbformat.read(self._path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:  # a fixture
    """A page that goes nowhere but to the lab; its kernels end with it."""
    page = browser.new_page(viewport={"width": 1_200, "height": 1_000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    page.close()
    lab.end_kernels()
    elsewhere = [url for url in asked if not url.startswith((lab.url, "data:", "blob:"))]
    assert elsewhere == []


def keep_picture(of: Locator | Page, name: str) -> None:
    """A screenshot, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    of.screenshot(path=SCREENSHOTS / f"{name}.png")


LEGIBLE = """(root) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (front, back, alpha) => front.map((part, n) => part * alpha + back[n] * (1 - alpha));
  const shine = (color) => {
    const [r, g, b] = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  let least = 21;
  for (const node of root.querySelectorAll('*')) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || node.tagName === 'STYLE') continue;
    let alpha = 1;
    for (let at = node; at !== root; at = at.parentElement) {
      alpha *= Number(getComputedStyle(at).opacity);
    }
    const back = ground(node);
    const [one, other] = [shine(over(rgba(getComputedStyle(node).color), back, alpha)), shine(back)]
      .sort((a, b) => b - a);
    least = Math.min(least, (one + 0.05) / (other + 0.05));
  }
  return least;
}"""


ALIGNED = """(root) => [...root.querySelectorAll('td, th')].map((cell) =>
  (cell.classList.contains('n') ? 'n ' : '') + getComputedStyle(cell).textAlign)"""


def check_view(view: Locator) -> None:
    """It can be read on its ground, nothing sticks out of it, only numbers are set to the right."""
    expect(view).to_be_visible()
    assert set(view.evaluate(ALIGNED)) <= {"left", "n right"}
    assert view.evaluate(LEGIBLE) >= 4.5
    assert view.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0


# --- what the users do ----------------------------------------------------------------------------


def test_the_quickstart_is_run_cell_by_cell(lab: Lab, page: Page) -> None:
    """A fresh copy of the notebook, Shift+Enter after Shift+Enter; all views can be read."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in codes:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, lab.home / "quickstart.ipynb")  # type: ignore[no-untyped-call]
    page.set_viewport_size({"width": 1_200, "height": 1_600})
    opened = Notebook(page, lab, "quickstart.ipynb")
    outputs = [opened.run(number) for number in range(len(codes))]
    views = [one.locator(".cdp, .cdp-live") for one in outputs]
    actual = [view for one in views for view in one.all()]
    for view in actual:
        check_view(view)
    said = " ".join(view.inner_text() for view in actual)
    for words in (
        "Plan: 3 of 6 rows",
        "Backfill done: 100%",
        "Backfill: 3 of 6 rows not delivered",
    ):
        assert words in said
    for number, view in enumerate(actual):
        keep_picture(view, f"quickstart_{number}")


LONG = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.rows import opens
import cdp_backfill as cdp

def long(rows, **faults):
    with cdp.sandbox(latency=0.05, **faults) as box:
        slowly = cdp.Destination(
            api_key=box.api_key, base_url=box.url, max_messages=200, rate_limit=40.0
        )
        return opens(rows, uid=[None, *["ada"] * (rows - 1)]).cdp.send(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=slowly,
        )
"""

COLLECT = """(root) => {
  window.states = [];
  new MutationObserver(() => {
    const shown = root.querySelector('.cdp-live');
    if (shown && shown.innerText !== window.states.at(-1)) window.states.push(shown.innerText);
  }).observe(root, {childList: true, subtree: true, characterData: true});
}"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_progress_moves_in_its_place(lab: Lab, page: Page, theme: str) -> None:
    """One output changes again and again, and the notebook is saved with the last of its states."""
    lab.set_theme(theme)
    name = f"progress_{theme.lower()}"
    lab.write(f"{name}.ipynb", LONG, "report = long(12_000, too_many=0.05)\nreport", "report.ok")
    notebook = Notebook(page, lab, f"{name}.ipynb")
    dark = page.evaluate("document.body.dataset.jpThemeLight") == "false"
    assert dark == (theme == "Dark")
    notebook.run(0)
    notebook.all.evaluate(COLLECT)
    outputs = notebook.start(1)
    live = outputs.locator(".cdp-live")
    expect(live).to_contain_text(re.compile(r"[0-9] rows/s, [0-9]+ s left"), timeout=20_000)
    expect(live).to_contain_text("1 x missing_user: column 'uid' is empty")
    check_view(live)
    keep_picture(notebook.all, f"{name}_running")
    notebook.wait(1)
    expect(live).to_have_count(1)
    expect(live).to_contain_text("Backfill done: 100%, 12,000 of 12,000 rows")
    check_view(live)
    check_view(outputs.locator(".cdp"))
    keep_picture(notebook.all, f"{name}_done")
    states = page.evaluate("window.states")
    shares = [int(actual[1]) for state in states if (actual := re.search(r"(\d+)%", state))]
    assert len(set(states)) >= 5
    assert len(set(shares)) >= 4
    assert shares == sorted(shares)
    assert any("slowed down by 429" in state for state in states)
    assert any("in flight" in state for state in states)
    kept = notebook.saved().cells[1].outputs
    assert [output.output_type for output in kept] == ["display_data", "execute_result"]
    assert kept[0].data["text/plain"].startswith("Backfill done: 100%")
    assert "Backfill done:" in kept[0].data["text/html"]


def test_the_stop_button_gives_the_report(lab: Lab, page: Page) -> None:
    """■ in the toolbar: the cell ends with the report as its output, and no traceback."""
    lab.set_theme("Light")
    lab.write("stopped.ipynb", LONG, "long(2_000_000)", "1 + 1")
    notebook = Notebook(page, lab, "stopped.ipynb")
    notebook.run(0)
    outputs = notebook.start(1)
    live = outputs.locator(".cdp-live")
    expect(live).to_contain_text("delivered", timeout=20_000)
    page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    report = outputs.locator(".jp-OutputArea-executeResult .cdp")
    expect(report).to_contain_text("The run was interrupted", timeout=20_000)
    notebook.wait(1)
    expect(report).to_contain_text("unsent")
    expect(live).to_contain_text("Backfill interrupted:")
    expect(live).to_contain_text("unsent")
    expect(outputs.locator("[data-mime-type$=error], [data-mime-type$=stderr]")).to_have_count(0)
    check_view(live)
    check_view(report)
    keep_picture(notebook.all, "stopped")
    expect(notebook.run(2)).to_contain_text("2")  # the kernel goes on


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_plan_and_mapping_can_be_read(lab: Lab, page: Page, theme: str) -> None:
    """What is looked at before anything is sent, in both themes and a narrow window."""
    lab.set_theme(theme)
    cells = [
        LONG,
        "frame = opens(3_000, uid=[None, *['ada'] * 2_999], e='app_open', details='x' * 60)",
        "plan = frame.cdp.plan(event='e', droppable=['details'], oversize='drop_largest')",
        "plan",
        "plan.mapping",
    ]
    lab.write(f"faces_{theme}.ipynb", *cells)
    page.set_viewport_size({"width": 900, "height": 1_500})
    notebook = Notebook(page, lab, f"faces_{theme}.ipynb")
    outputs = [notebook.run(number) for number in range(len(cells))]
    check_view(outputs[3].locator(".cdp"))
    check_view(outputs[4].locator(".jp-OutputArea-output"))
    expect(outputs[4]).to_contain_text("What goes where")
    keep_picture(outputs[3].locator(".cdp"), f"plan_{theme.lower()}")


@pytest.mark.skipif(not hasattr(cdp.Report, "plot"), reason="this report has no plot")
def test_the_plot_of_a_report_is_a_picture(lab: Lab, page: Page) -> None:
    """It appears below its cell."""
    lab.set_theme("Light")
    lab.write("plot.ipynb", LONG, "report = long(4_000)", "report.plot()")
    notebook = Notebook(page, lab, "plot.ipynb")
    for number in range(2):
        notebook.run(number)
    outputs = notebook.run(2)
    expect(outputs.locator("img, svg").first).to_be_visible()
    keep_picture(notebook.all, "plot")
