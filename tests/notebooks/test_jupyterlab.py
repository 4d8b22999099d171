"""A real JupyterLab, which a browser operates as users do."""

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
from typing import TYPE_CHECKING, Any, Final

import httpx
import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsers import browser

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser"]  # a fixture

ROOT: Final = Path(__file__).parents[2]
SCREENSHOTS: Final = ROOT / "build" / "screenshots"

SETTINGS: Final = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
"""Settings without dialogs and news, which would cover the page and use the network."""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Its address.
        token: Its access token.
        home: Folder of the notebooks.
        settings: Folder of the user's settings.
    """

    url: str
    token: str
    home: Path
    settings: Path

    def set_theme(self, theme: str) -> None:
        """Use a theme, Light or Dark, from the next page on."""
        settings = SETTINGS | {
            "apputils-extension/themes": {
                "theme": f"JupyterLab {theme}",
                "adaptive-theme": False,
            }
        }
        for name, values in settings.items():
            path = self.settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), "utf-8")

    def write(self, name: str, *cells: str) -> None:
        """Write a notebook with these code cells."""
        notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self.home / name)  # type: ignore[no-untyped-call]

    def end_kernels(self) -> None:
        """End the kernels that a page left running."""
        for kernel in json.loads(self._request("GET", "/api/kernels")):
            self._request("DELETE", f"/api/kernels/{kernel['id']}")

    def _request(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=20).content


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab in a process and folders of its own; it always ends."""
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
            wait_for_answer(lab, process, base / "log.txt")
            yield lab
        finally:
            process.terminate()  # its kernels end with it
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def wait_for_answer(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until JupyterLab answers."""
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
        lab: The JupyterLab.
        name: The file of the notebook.
    """

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self._page, self._path = page, lab.home / name
        page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset")
        self.element = page.locator(".jp-Notebook")
        self.cells = self.element.locator(".jp-CodeCell")
        expect(self.cells.first).to_be_visible(timeout=30_000)
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        expect(idle).to_be_visible(timeout=30_000)

    def start(self, number: int) -> Locator:
        """Start a cell without waiting for its end; returns its outputs."""
        cell = self.cells.nth(number)
        prompt = cell.locator(".jp-InputPrompt")
        for _ in range(3):
            cell.locator(".cm-content").press("Shift+Enter")
            try:
                expect(prompt).not_to_have_text("[ ]:", timeout=3_000)
            except AssertionError:
                continue  # JupyterLab was not ready and ignored the keys
            break
        return cell.locator(".jp-Cell-outputArea")

    def wait(self, number: int) -> None:
        """Wait until a cell has its prompt number; cells must run one after another."""
        prompt = self.cells.nth(number).locator(".jp-InputPrompt")
        expect(prompt).to_have_text(f"[{number + 1}]:", timeout=30_000)

    def run(self, number: int) -> Locator:
        """Run a cell to its end; returns its outputs, without traceback or warning."""
        outputs = self.start(number)
        self.wait(number)
        expect(outputs.locator("[data-mime-type$=error], [data-mime-type$=stderr]")).to_have_count(
            0
        )
        return outputs

    def save(self) -> Any:
        """Save the notebook; returns the saved file."""
        self._page.keyboard.press("Escape")
        self._page.keyboard.press("Control+s")
        expect(self._page.locator(".jp-mod-dirty")).to_have_count(0)
        return nbformat.read(self._path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """A page that only contacts JupyterLab; its kernels end with it."""
    page = browser.new_page(viewport={"width": 1_200, "height": 1_000})
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    page.close()
    lab.end_kernels()
    elsewhere = [url for url in urls if not url.startswith((lab.url, "data:", "blob:"))]
    assert elsewhere == []


def save_screenshot(of: Locator | Page, name: str) -> None:
    """Save a screenshot for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    of.screenshot(path=SCREENSHOTS / f"{name}.png")


MEASURE_CONTRAST: Final = """(root) => {
  if (!root.isConnected) return null;  // replaced by a newer state since it was found
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (front, back, alpha) => front.map((part, n) => part * alpha + back[n] * (1 - alpha));
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((part) => {
      const level = part / 255;
      return level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (node) => {
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
    const back = background(node);
    const front = over(rgba(getComputedStyle(node).color), back, alpha);
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    least = Math.min(least, (light + 0.05) / (dark + 0.05));
  }
  return least;
}"""
"""The least contrast of any text in an element to its background, as WCAG defines it."""


FIND_ALIGNMENTS: Final = """(root) => [...root.querySelectorAll('td, th')].map((cell) =>
  (cell.classList.contains('n') ? 'n ' : '') + getComputedStyle(cell).textAlign)"""
"""The alignment of each cell of a table; those of numbers begin with ``n``."""


def check_view(view: Locator) -> None:
    """Check contrast and width of a view, and that only numbers are aligned to the right."""
    expect(view).to_be_visible()
    assert set(view.evaluate(FIND_ALIGNMENTS)) <= {"left", "n right"}
    while (contrast := view.evaluate(MEASURE_CONTRAST)) is None:
        expect(view).to_be_visible()
    assert contrast >= 4.5
    assert view.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0


def test_the_quickstart_runs_cell_by_cell(lab: Lab, page: Page) -> None:
    """Every cell of a fresh copy runs with Shift+Enter, and every view is legible."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code_cells:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, lab.home / "quickstart.ipynb")  # type: ignore[no-untyped-call]
    page.set_viewport_size({"width": 1_200, "height": 1_600})
    opened = Notebook(page, lab, "quickstart.ipynb")
    outputs = [opened.run(number) for number in range(len(code_cells))]
    views = [view for output in outputs for view in output.locator(".cdp, .cdp-live").all()]
    for view in views:
        check_view(view)
    text = " ".join(view.inner_text() for view in views)
    for expected in (
        "Plan: 3 of 6 rows",
        "Backfill done: 100%",
        "Backfill: 3 of 6 rows not delivered",
    ):
        assert expected in text
    for number, view in enumerate(views):
        save_screenshot(view, f"quickstart_{number}")


DEFINE_LONG_SEND: Final = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.rows import opens
import cdp_backfill as cdp

def long_send(rows, **faults):
    with cdp.sandbox(latency=0.05, **faults) as box:
        destination = cdp.Destination(
            api_key=box.api_key, base_url=box.url, max_messages=200, rate_limit=40.0
        )
        return opens(rows, uid=[None, *["ada"] * (rows - 1)]).cdp.send(
            user_id="uid",
            timestamp="ts",
            event=cdp.lit("Application Opened"),
            destination=destination,
        )
"""

COLLECT_STATES: Final = """(root) => {
  window.states = [];
  new MutationObserver(() => {
    const shown = root.querySelector('.cdp-live');
    if (shown && shown.innerText !== window.states.at(-1)) window.states.push(shown.innerText);
  }).observe(root, {childList: true, subtree: true, characterData: true});
}"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_progress_changes_in_place(lab: Lab, page: Page, theme: str) -> None:
    """One output changes during the run, and the saved notebook holds its last state."""
    lab.set_theme(theme)
    name = f"progress_{theme.lower()}"
    lab.write(
        f"{name}.ipynb",
        DEFINE_LONG_SEND,
        "report = long_send(20_000, too_many=0.05)\nreport",
        "report.ok",
    )
    notebook = Notebook(page, lab, f"{name}.ipynb")
    dark = page.evaluate("document.body.dataset.jpThemeLight") == "false"
    assert dark == (theme == "Dark")
    notebook.run(0)
    notebook.element.evaluate(COLLECT_STATES)
    outputs = notebook.start(1)
    live = outputs.locator(".cdp-live")
    expect(live).to_contain_text(re.compile(r"[0-9] rows/s, [0-9]+ s left"), timeout=20_000)
    expect(live).to_contain_text("1 x missing_user: column 'uid' is empty")
    check_view(live)
    save_screenshot(notebook.element, f"{name}_running")
    notebook.wait(1)
    expect(live).to_have_count(1)
    expect(live).to_contain_text("Backfill done: 100%, 20,000 of 20,000 rows")
    check_view(live)
    check_view(outputs.locator(".cdp"))
    save_screenshot(notebook.element, f"{name}_done")
    states = page.evaluate("window.states")
    percentages = [int(match[1]) for state in states if (match := re.search(r"(\d+)%", state))]
    assert len(set(states)) >= 5
    assert len(set(percentages)) >= 4
    assert percentages == sorted(percentages)
    assert any("slowed down by 429" in state for state in states)
    assert any("in flight" in state for state in states)
    saved = notebook.save().cells[1].outputs
    assert [output.output_type for output in saved] == ["display_data", "execute_result"]
    assert saved[0].data["text/plain"].startswith("Backfill done: 100%")
    assert "Backfill done:" in saved[0].data["text/html"]


def test_the_stop_button_shows_the_report(lab: Lab, page: Page) -> None:
    """After ■ in the toolbar, the output of the cell is the report, without a traceback."""
    lab.set_theme("Light")
    lab.write("stopped.ipynb", DEFINE_LONG_SEND, "long_send(2_000_000)", "1 + 1")
    notebook = Notebook(page, lab, "stopped.ipynb")
    notebook.run(0)
    outputs = notebook.start(1)
    live = outputs.locator(".cdp-live")
    expect(live).to_contain_text("delivered", timeout=20_000)
    page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    report = outputs.locator(".jp-OutputArea-executeResult .cdp")
    expect(report).to_contain_text("The run was interrupted", timeout=20_000)
    notebook.wait(1)
    text = report.inner_text()
    assert text.index("The run was interrupted") < text.index("Rows by outcome")
    assert text.count("the run stopped before this row's turn") == 1
    expect(live).to_contain_text("Backfill interrupted:")
    expect(live).to_contain_text("unsent")
    expect(outputs.locator("[data-mime-type$=error], [data-mime-type$=stderr]")).to_have_count(0)
    check_view(live)
    check_view(report)
    save_screenshot(notebook.element, "stopped")
    expect(notebook.run(2)).to_contain_text("2")  # the kernel still works


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_a_plan_shows_first_what_needs_a_decision(lab: Lab, page: Page, theme: str) -> None:
    """Rows that would be missing and personal data are on the first screen, in both themes."""
    lab.set_theme(theme)
    personal = {
        "first_name": "Ada", "email": "ada@example.com", "ip_address": "203.0.113.7",
        "latitude": 52.52, "phone_number": "+49 30 1234567", "push_token": "a" * 64,
    }  # fmt: skip
    cells = [
        DEFINE_LONG_SEND,
        "frame = opens(200, uid=[f'u{n}' for n in range(200)])",
        f"frame = frame.assign(event=['app_open', 'purchase'] * 100, **{personal!r})",
        "frame.cdp.plan()",
    ]
    lab.write(f"personal_{theme}.ipynb", *cells)
    page.set_viewport_size({"width": 900, "height": 700})
    notebook = Notebook(page, lab, f"personal_{theme}.ipynb")
    (*_, shown) = [notebook.run(number) for number in range(len(cells))]
    view = shown.locator(".cdp")
    check_view(view)
    view.evaluate("(element) => element.scrollIntoView({block: 'start'})")
    expect(view.get_by_text("100 rows have an event value")).to_be_in_viewport()
    for column in personal:
        expect(view.get_by_text(column, exact=True).first).to_be_in_viewport()
    save_screenshot(page, f"personal_{theme.lower()}")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_plan_and_mapping_are_legible(lab: Lab, page: Page, theme: str) -> None:
    """Their views are legible in both themes and in a narrow window."""
    lab.set_theme(theme)
    cells = [
        DEFINE_LONG_SEND,
        "frame = opens(3_000, uid=[None, *['ada'] * 2_999], e='app_open', details='x' * 60)",
        "plan = frame.cdp.plan(event='e', droppable=['details'], oversize='drop_largest')",
        "plan",
        "plan.mapping",
    ]
    lab.write(f"views_{theme}.ipynb", *cells)
    page.set_viewport_size({"width": 900, "height": 1_500})
    notebook = Notebook(page, lab, f"views_{theme}.ipynb")
    outputs = [notebook.run(number) for number in range(len(cells))]
    check_view(outputs[3].locator(".cdp"))
    check_view(outputs[4].locator(".jp-OutputArea-output"))
    expect(outputs[4]).to_contain_text("Fields")
    save_screenshot(outputs[3].locator(".cdp"), f"plan_{theme.lower()}")


def test_a_plot_appears_below_its_cell(lab: Lab, page: Page) -> None:
    """JupyterLab shows the plot of a report as a picture."""
    lab.set_theme("Light")
    lab.write("plot.ipynb", DEFINE_LONG_SEND, "report = long_send(4_000)", "report.plot()")
    notebook = Notebook(page, lab, "plot.ipynb")
    for number in range(2):
        notebook.run(number)
    outputs = notebook.run(2)
    expect(outputs.locator("img, svg").first).to_be_visible()
    save_screenshot(notebook.element, "plot")
