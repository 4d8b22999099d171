"""Hooks on imports of other packages: the package is the same as without them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from cdp_backfill.model.import_hooks import when_imported

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

TEXT = "from importlib.resources import files\nDATA = files(__name__).joinpath('data.txt')\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a file of data, which nobody has imported."""
    folder = tmp_path / "hooked_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(TEXT, "utf-8")
    (folder / "data.txt").write_text("data", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return folder.name


def test_hooks_run_in_either_order_and_leave_no_trace(package: str) -> None:
    """Each hook gets the whole module once; loader, spec and resources are the package's own."""
    modules: list[ModuleType] = []
    when_imported(package, modules.append)
    when_imported(package, lambda module: modules.append(module.DATA))
    found = importlib.util.find_spec(package)
    assert found is not None
    assert not modules  # looking for a package does not import it
    assert found.loader is not None
    assert found.loader.get_source(package) == TEXT  # type: ignore[attr-defined]  # as runpy asks
    module = importlib.import_module(package)
    assert len(modules) == 2
    assert module in modules
    assert module.DATA.read_text("utf-8") == "data"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    when_imported(package, modules.append)
    assert len(modules) == 3


def test_a_missing_or_broken_package_fails_as_without_a_hook(package: str, tmp_path: Path) -> None:
    """The error is that of the import; a hook does not run, and runs once the import works."""
    modules: list[ModuleType] = []
    when_imported("hooked_but_missing", modules.append)
    with pytest.raises(ModuleNotFoundError, match="hooked_but_missing"):
        importlib.import_module("hooked_but_missing")
    when_imported(package, modules.append)
    source = tmp_path / package / "__init__.py"
    source.write_text("raise RuntimeError('broken')", "utf-8")
    with pytest.raises(RuntimeError, match="broken"):
        importlib.import_module(package)
    assert not modules
    source.write_text(TEXT, "utf-8")
    importlib.import_module(package)
    assert len(modules) == 1
