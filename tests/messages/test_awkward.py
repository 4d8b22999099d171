"""Awkward cells: what becomes of each, and the page about them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.messages.awkward import GROUPS, PAGE, Case, outcome, page

CASES = [(path, case) for path, cases in GROUPS.values() for case in cases]


@pytest.mark.parametrize(
    ("path", "case"), CASES, ids=lambda value: ascii(getattr(value, "cell", value))[:30]
)
def test_what_becomes_of_a_cell(path: str, case: Case) -> None:
    """The value in the message or the reason, and what is counted as mended."""
    actual, fixes = outcome(path, case)
    assert actual == case.becomes
    assert _type(actual) is _type(case.becomes)
    assert fixes == tuple(sorted(case.fixes))


def _type(value: Any) -> type:
    return type(value)


def test_the_page_is_made_of_these() -> None:
    """The page says what the tests show; ``python -m tests.messages.awkward`` renews it."""
    assert len(CASES) >= 60
    assert PAGE.read_text(encoding="utf-8") == page()
