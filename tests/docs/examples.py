"""Runs the examples of the pages and the README, as a reader would."""

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
"""Marks an example of something that is not built yet; it does not run."""

ELSEWHERE: Final = "<!-- elsewhere -->"
"""Marks an example that needs what tests lack, such as an object store; it does not run."""

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
        code: Its content.
        line: Number of its first line.
        runs: Whether it runs.
    """

    kind: str
    code: str
    line: int
    runs: bool


def examples(text: str) -> Iterator[Example]:
    """The blocks of a page, including hidden ones."""
    for match in _BLOCK.finditer(text):
        hidden = match["setup"] is not None
        line = text.count("\n", 0, match.start("setup" if hidden else "body")) + 1
        code = match["setup"] if hidden else match["body"]
        yield Example("python" if hidden else match["kind"], code, line, not match["mark"])


def run_page(path: Path, url: str) -> int:
    """Run all examples of a page in order, in one namespace and in the current folder.

    Args:
        path: The page.
        url: Address of a sandbox, for commands that name a region.

    Returns:
        Number of examples that ran.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    output: str | None = None
    count = 0
    for example in examples(path.read_text(encoding="utf-8")):
        where = f"{path.name}, line {example.line}"
        if example.kind == "text" and output is not None:
            if not _CHECKER.check_output(example.code, output, _LENIENT):
                raise AssertionError(
                    f"{where}: the page shows\n{example.code}\nbut it is\n{output}"
                )
            output = None
            continue
        output = None
        if not example.runs:
            continue
        if example.kind == "python":
            output = run_python(example.code, names, f"{path.name}:{example.line}")
            count += 1
        elif example.kind == "sh":
            output = run_shell(example.code, url, where)
            count += 1
    return count


def run_python(code: str, names: dict[str, Any], where: str) -> str:
    """Run code as a notebook cell; returns its output.

    Calls functions whose names begin with ``test_`` as pytest would, with a sandbox.
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
    """Run the ``cdp-backfill`` commands of a block; the sandbox replaces a region.

    The exit code may be 1, because rows of some examples fail on purpose.
    """
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "80",
    }
    outputs = []
    for line in code.replace("\\\n", " ").splitlines():
        if not line.startswith("cdp-backfill "):
            continue
        command = re.sub(r"--region \w+", f"--base-url {shlex.quote(url)}", line)
        process = subprocess.run(  # noqa: S602  # the pages use globs and >
            command,
            shell=True,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        if process.returncode not in (0, 1) or "Traceback" in process.stderr:
            raise AssertionError(f"{where}: {command}\n{process.stdout}\n{process.stderr}")
        outputs.append(process.stdout)
    return "".join(outputs)
