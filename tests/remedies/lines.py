"""Finds the code in the sentences of the package: arguments, calls and attributes to type."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import cdp_backfill
from cdp_backfill.delivery import answers, sender
from cdp_backfill.pipeline import runner

PACKAGE: Final = Path(cdp_backfill.__file__).parent

_CALL: Final = r"\((?:[^()]|\([^()]*\))*\)"
CODE: Final = re.compile(
    rf"(?<![\w.'\"])(?:[A-Za-z_][\w.]*{_CALL}(?:\.\w+{_CALL})*"
    rf"|\.[A-Za-z_][\w.]*{_CALL}"
    r"|df\.columns = \[.*\]"
    rf"|[a-z_]+=(?:'[^']*'|\[[^\]]*\]|\{{[^}}]*\}}|[\w.]+(?:{_CALL})?)?)"
)
"""Code in a sentence, such as ``timestamp='...'`` and ``df.reset_index()``."""

HOLE: Final = "…"
"""Stands for what a sentence fills in."""


def code_in(sentence: str) -> list[str]:
    """The pieces of code in a sentence."""
    return [found.rstrip(".") for found in CODE.findall(sentence)]


def text_of(node: ast.AST) -> str:
    """The text of a string in the source, with holes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values
        )
    return ""


def error_sentences() -> dict[str, str]:
    """The sentences in calls of errors, with the module of each."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and _name(node.func).endswith("Error")):
                continue
            inside = {id(part) for each in ast.walk(node) if isinstance(each, ast.JoinedStr)
                      for part in each.values}  # fmt: skip
            for part in ast.walk(node):
                if id(part) not in inside and (text := text_of(part)):
                    found[text] = path.relative_to(PACKAGE).as_posix()
    return found


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def codes_of_runs() -> set[str]:
    """The codes that workers and runs set; those of HTTP are made from the status."""
    codes = set()
    for module in (answers, sender, runner):
        source = Path(str(module.__file__)).read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if _name(node.func) == "RequestResult":
                values += node.args[2:3]
            codes |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
    return codes
