"""The page of the package links to the repository that it was built from, and to nothing else."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import hatch_build

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(hatch_build.__file__).parent
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hatch_build.VARIABLE, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that a build reads, in a repository of their own without a remote."""
    folder = tmp_path / "project"
    (folder / "cdp_backfill").mkdir(parents=True)
    (folder / "cdp_backfill" / "__init__.py").touch()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in ("objects", "refs"):
        (folder / ".git" / name).mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    return folder


def _set_remote(folder: Path, address: str) -> None:
    text = f'[remote "origin"]\n\turl = {address}\n'
    (folder / ".git" / "config").write_text(text, encoding="utf-8")


def _wheel_metadata(folder: Path, out: Path) -> tuple[Message, dict[str, str]]:
    """The metadata in a wheel that is built from a folder, and its links."""
    wheel = next(WheelBuilder(str(folder)).build(directory=str(out), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    links = (str(value).split(", ", 1) for value in metadata.get_all("Project-URL", []))
    return metadata, dict(links)


def _relative_links(metadata: Message) -> list[str]:
    text = str(metadata.get_payload())
    return re.findall(r"\]\((?!https://|http://|mailto:|#)([^)]*)\)", text)


def test_a_wheel_with_a_remote(project: Path, tmp_path: Path) -> None:
    """Its page links to the repository, without the password, and so does that of its archive."""
    _set_remote(project, "https://me:secret@git.example.com/me/it.git")
    metadata, links = _wheel_metadata(project, tmp_path)
    files = "https://git.example.com/me/it/blob/main"
    assert links == {
        "Repository": "https://git.example.com/me/it",
        "Documentation": f"{files}/docs/index.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": "https://git.example.com/me/it/issues",
    }
    assert _relative_links(metadata) == []
    assert "secret" not in metadata.as_string()
    linked = re.findall(re.escape(files) + r"/([^)#\s]*)", metadata.as_string())
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []

    archive = next(SdistBuilder(str(project)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    again, same = _wheel_metadata(folder, tmp_path / "again")
    assert (same, again.get_payload()) == (links, metadata.get_payload())


def test_a_wheel_without_a_remote(project: Path, tmp_path: Path) -> None:
    """Its page has no links to files that it does not have."""
    metadata, links = _wheel_metadata(project, tmp_path)
    assert (links, _relative_links(metadata)) == ({}, [])
    assert "blob/main" not in metadata.as_string()


def test_a_folder_inside_another_repository(project: Path) -> None:
    """The remote of somebody else's repository is not taken."""
    _set_remote(project, "https://git.example.com/me/it.git")
    assert hatch_build.repository_of(str(project / "cdp_backfill")) is None


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://github.com/me/it.git", "https://github.com/me/it"),
        ("https://github.com/me/it/\n", "https://github.com/me/it"),
        (
            "https://user:p%40ss@git.example.com:8443/me/it.git",
            "https://git.example.com:8443/me/it",
        ),
        ("git@github.com:me/it.git", "https://github.com/me/it"),
        ("ssh://git@git.example.com:2222/me/group/it.git", "https://git.example.com/me/group/it"),
        *((other, None) for other in ("", "/srv/git/it.git", "C:\\git\\it", "file:///srv/it")),
        *((other, None) for other in ("../it", "http://git.example.com/me/it", "work:me/it")),
        *((other, None) for other in ("https://git.example.com", "https://a.b/x y", "git@h:x/y")),
    ],
)
def test_addresses(remote: str, page: str | None) -> None:
    """Only an https or ssh address of a host becomes a page, and never with a name or password."""
    assert hatch_build.web_address(remote) == page


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """It replaces the remote; an empty one means no links, and another text is an error."""
    _set_remote(project, "https://git.example.com/me/it.git")
    monkeypatch.setenv(hatch_build.VARIABLE, "https://gitlab.com/you/it")
    assert hatch_build.repository_of(str(project)) == "https://gitlab.com/you/it"
    urls = hatch_build.package_urls("https://gitlab.com/you/it")
    assert urls["Issues"] == "https://gitlab.com/you/it/-/issues"
    assert urls["Changelog"] == "https://gitlab.com/you/it/-/blob/main/CHANGELOG.md"
    monkeypatch.setenv(hatch_build.VARIABLE, "")
    assert hatch_build.repository_of(str(project)) is None
    monkeypatch.setenv(hatch_build.VARIABLE, "some words")
    with pytest.raises(ValueError, match="must be an https or ssh address"):
        hatch_build.repository_of(str(project))
