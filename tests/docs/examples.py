"""The examples of the pages and the README, run as a reader would run them."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

import cdp_backfill as cdp

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER: Final = "<!-- later -->"
"""Before an example of what is not built yet: it is not run."""

ELSEWHERE: Final = "<!-- elsewhere -->"
"""Before an example that needs what a test has not, such as an object store: it is not run."""

_BLOCK: Final = re.compile(
    r"(?:(?P<mark><!-- (?:later|elsewhere) -->)\n)?"
    r"(?:^```(?P<kind>\w+)\n(?P<body>.*?)^```$|^<!-- setup\n(?P<setup>.*?)^-->$)",
    re.DOTALL | re.MULTILINE,
)
_CHECKER: Final = doctest.OutputChecker()
_LENIENT: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Example:
    """A block of a page.

    Attributes:
        kind: ``python``, ``sh``, ``text`` or another language.
        code: What is in it.
        line: Where it begins.
        runs: Whether it is to be run.
    """

    kind: str
    code: str
    line: int
    runs: bool


def examples(text: str) -> Iterator[Example]:
    """The blocks of a page, hidden ones included."""
    for found in _BLOCK.finditer(text):
        hidden = found["setup"] is not None
        line = text.count("\n", 0, found.start("setup" if hidden else "body")) + 1
        code = found["setup"] if hidden else found["body"]
        yield Example("python" if hidden else found["kind"], code, line, not found["mark"])


def run_page(path: Path, url: str) -> int:
    """Run all examples of a page in order, in one namespace, in the current folder.

    Args:
        path: The page.
        url: Address of a sandbox, for commands that name a region.

    Returns:
        How many were run.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    shown: str | None = None
    ran = 0
    for example in examples(path.read_text(encoding="utf-8")):
        where = f"{path.name}, line {example.line}"
        if example.kind == "text" and shown is not None:
            if not _CHECKER.check_output(example.code, shown, _LENIENT):
                raise AssertionError(f"{where}: the page says\n{example.code}\nand it is\n{shown}")
            shown = None
            continue
        shown = None
        if not example.runs:
            continue
        if example.kind == "python":
            shown = run_python(example.code, names, f"{path.name}:{example.line}")
            ran += 1
        elif example.kind == "sh":
            shown = run_shell(example.code, url, where)
            ran += 1
    return ran


def run_python(code: str, names: dict[str, Any], where: str) -> str:
    """Run code as a cell of a notebook; gives what it shows.

    Functions whose names begin with ``test_`` are called as pytest would, with a sandbox.
    """
    tree = ast.parse(code, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    output = io.StringIO()
    before = set(names)
    wide = pd.option_context("display.width", 100, "display.max_columns", None)
    with contextlib.redirect_stdout(output), wide:
        exec(compile(tree, where, "exec"), names)  # noqa: S102  # our own pages
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307
            if value is not None:
                print(repr(value))  # noqa: T201  # as Python itself shows it
        for name in sorted(set(names) - before):
            if name.startswith("test_"):
                with cdp.sandbox() as box:
                    names[name](cdp_sandbox=box)
    return output.getvalue()


def run_shell(code: str, url: str, where: str) -> str:
    """Run the commands ``cdp-backfill`` of a block; a region is replaced by the sandbox.

    An exit code of 1 is that of a backfill in which rows failed, as they do on purpose here.
    """
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "80",
    }
    shown = []
    for line in code.replace("\\\n", " ").splitlines():
        if not line.startswith("cdp-backfill "):
            continue
        command = re.sub(r"--region \w+", f"--base-url {shlex.quote(url)}", line)
        ran = subprocess.run(  # noqa: S602  # globs and > are what the pages show
            command,
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        if ran.returncode not in (0, 1) or "Traceback" in ran.stderr:
            raise AssertionError(f"{where}: {command}\n{ran.stdout}\n{ran.stderr}")
        shown.append(ran.stdout)
    return "".join(shown)
