"""What a package of the project holds for those who have no clone of the repository."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.testing import CliRunner

from cdp_backfill.cli.app import app
from cdp_backfill.model import environment
from tests.rows import opens
from tests.sending import send

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

ROOT: Final = Path(__file__).parents[1]
_PIN: Final = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


def _pins(name: str) -> dict[str, set[str]]:
    """The versions of a lock file by project; some projects have one for each version of Python."""
    pins: dict[str, set[str]] = {}
    for project, version in _PIN.findall((ROOT / name).read_text("utf-8")):
        pins.setdefault(canonicalize_name(project), set()).add(version)
    return pins


def _declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def test_links_of_the_package_page() -> None:
    """The README of a package has no link that needs the repository, and no picture of it."""
    metadata: Any = ProjectMetadata(str(ROOT), PluginManager())
    text = metadata.core.readme
    assert text.startswith("# cdp-backfill")
    assert "[" not in re.sub(r"\[[^\]]+\]\(https?://[^)]+\)|```.*?```", "", text, flags=re.DOTALL)
    assert "<" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def test_lock_files() -> None:
    """Users get the versions that the tests run with, and nothing that only tests need."""
    users, everything = _pins("requirements.lock"), _pins("requirements-dev.lock")
    assert {name: everything.get(name) for name in users} == users
    assert {canonicalize_name(each.name) for each in _declared()} <= users.keys()
    assert not {"pytest", "ruff", "jupyterlab", "matplotlib", "keyring"} & users.keys()
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-lowest.txt"):
        assert "index-url" not in (ROOT / name).read_text("utf-8")


def test_lowest_versions() -> None:
    """The lowest versions that are tested are the lowest that the package allows."""
    lowest = _pins("requirements-lowest.txt")
    for each in _declared():
        floors = [spec.version for spec in each.specifier if spec.operator == ">="]
        (tested,) = lowest[canonicalize_name(each.name)]
        assert [Version(floor) for floor in floors] in ([], [Version(tested)]), each.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program completes its commands and options in common shells."""
    for name, value in {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}.items():
        monkeypatch.setenv(name, value)
    shown = CliRunner().invoke(app, ["--show-completion", shell], prog_name="cdp-backfill")
    assert shown.exit_code == 0
    assert "_CDP_BACKFILL_COMPLETE" in shown.output


def test_the_package_runs_without_being_installed(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its folder, as ``make demo`` runs it: nothing needs what an installation records."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("cdp_backfill.model.environment.version", missing)
    environment.package_version.cache_clear()
    assert send(opens(2), box).ok
    assert environment.package_version() == "unknown"
    environment.package_version.cache_clear()
