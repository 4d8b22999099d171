"""The documentation builds without warnings, matches the code, and its examples run."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urldefrag

import nbformat
import pytest

import cdp_backfill as cdp
from cdp_backfill.delivery import answers, sender
from cdp_backfill.model import api_facts
from cdp_backfill.pipeline import runner
from docs import made, picture
from tests.docs.examples import ELSEWHERE, LATER, examples, run_page

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *made.pages()]
NOTEBOOKS: Final = sorted((ROOT / "notebooks").glob("*.ipynb"))
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_FENCED: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as in ``make docs``; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-E"]
    doctrees = ["-d", str(folder / "doctrees")]
    built = subprocess.run(
        [*command, *doctrees, str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


class _Page(HTMLParser):
    """The ids and links of a page, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the ids and links of a tag."""
        values = {name: value for name, value in attrs if value}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("next", "prev", "index", "search"):
            self.loads.append(values.get("href", ""))
        self.loads += [values[name] for name in ("src", "srcset") if name in values]


def test_site_works_without_network(site: Path) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(made.pages())
    for path in pages:
        for address in _Page(path.read_text(encoding="utf-8")).loads:
            assert not re.match(r"(https?:)?//", address), (path.name, address)
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), path.name


def test_links_of_site(site: Path) -> None:
    """Links between pages name files and anchors that exist."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", address):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            assert target.is_file(), (path.name, link)
            if anchor and target in pages:
                assert unquote(anchor) in pages[target].ids, (path.name, link)
            checked += 1
    assert checked > 1_000


def test_reference_has_every_public_name(site: Path) -> None:
    """The reference has each public name of the package and each field of a mapping."""
    page = _Page((site / "reference" / "python.html").read_text(encoding="utf-8"))
    missing = {name for name in cdp.__all__ if f"cdp_backfill.{name}" not in page.ids}
    missing -= {name for name in cdp.__all__ if f"cdp_backfill.errors.{name}" in page.ids}
    assert missing == set()
    table = (ROOT / "docs" / "reference" / "mapping.md").read_text(encoding="utf-8")
    assert [item.name for item in fields(cdp.Mapping) if f"`{item.name}" not in table] == []


@each_page
def test_generated_blocks_are_current(page: Path) -> None:
    """The blocks that are made from the code match it; ``python -m docs.made`` renews them."""
    text = page.read_text(encoding="utf-8")
    assert text == made.renewed(text)


def test_every_generated_block_is_used() -> None:
    """Each block that can be made from the code is on a page."""
    used = {name for page in PAGES for _, name, _ in made.PART.findall(page.read_text("utf-8"))}
    assert used == set(made.PARTS)


def test_error_codes_are_explained() -> None:
    """The page of error codes has every code that workers and runs set."""
    codes = set()
    for module in (answers, sender, runner):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.Call):
                continue
            values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "RequestResult":
                values += node.args[2:3]
            codes |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    assert {"cancelled", "permissive", "stopped", "no_answer", "recent"} <= codes
    text = (ROOT / "docs" / "reference" / "error-codes.md").read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in text} == set()


@each_page
def test_links_to_files(page: Path) -> None:
    """Relative links of a page name files of the repository."""
    text = page.read_text(encoding="utf-8")
    for target in _targets(_FENCED.sub("", text)):
        assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_notebooks(notebook: Path) -> None:
    """Relative links in the text of notebooks name files of the repository."""
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    for cell in cells:
        if cell.cell_type == "markdown":
            for target in _targets(cell.source):
                assert (notebook.parent / target).exists(), (notebook.name, target)


def _targets(text: str) -> list[str]:
    """The relative paths in the links of a text."""
    links = (urldefrag(one or other)[0] for one, other in _LINK.findall(text))
    return [unquote(link) for link in links if link and not re.match(r"[a-z]+:", link)]


@each_page
def test_examples_run_with_the_shown_output(
    page: Path, box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The examples of a page run in order; a sandbox stands for each region and its key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(api_facts.API_KEY_VARIABLE, box.api_key)
    for region in api_facts.REGIONS:
        monkeypatch.setitem(api_facts.REGIONS, region, box.url)
    count = run_page(page, box.url)
    runnable = [each for each in examples(page.read_text(encoding="utf-8")) if each.runs]
    assert count == sum(each.kind in ("python", "sh") for each in runnable)


def test_few_examples_do_not_run() -> None:
    """Few examples are marked as not to be run."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert text.count(ELSEWHERE) <= 2
    assert text.count(LATER) <= 8


def test_picture_of_readme_is_current() -> None:
    """The files of the picture match a run of the demo."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, drawn in picture.pictures().items():
        assert f"docs/images/{name}" in text
        assert (picture.FOLDER / name).read_text(encoding="utf-8") == drawn
    for number in ("200,000", "199,203", "797"):  # the README names these figures
        assert number in text
        assert number in drawn


def test_page_of_rooms_is_current() -> None:
    """The table has each folder and module of the package; a folder has its docstring there."""
    text = (ROOT / "docs" / "inside.md").read_text("utf-8")
    rooms = dict(
        re.findall(r"^\| `(\w+)` \| (.+) \|$", text.split("## Message ids")[0], re.MULTILINE)
    )
    package = ROOT / "cdp_backfill"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert set(rooms) == folders | modules
    for folder in folders:
        sentence = ast.get_docstring(
            ast.parse((package / folder / "__init__.py").read_text("utf-8"))
        )
        assert sentence is not None
        first = sentence.splitlines()[0].rstrip(".")
        assert rooms[folder] == first[0].lower() + first[1:]
