"""Which rows are missing, and which may be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.model.outcomes import PROBLEMS, RUN_CODES
from cdp_backfill.results.missing import missing_rows, parse_allowed
from cdp_backfill.results.reasons import FailureReason
from tests.remedies.lines import codes_of_runs
from tests.rows import opens
from tests.sending import send

if TYPE_CHECKING:
    from cdp_backfill.local_sandbox import Sandbox

CODES = st.sampled_from([*PROBLEMS, *RUN_CODES, "http_400"])
MISSING = [str(each) for each in cdp.Outcome if not each.wanted]


@given(
    st.dictionaries(st.tuples(st.sampled_from(list(cdp.Outcome)), CODES), st.integers(1, 50)),
    st.sets(st.sampled_from(MISSING) | CODES),
    st.booleans(),
)
def test_a_row_is_missing_unless_wanted_or_allowed(
    rows: dict[tuple[cdp.Outcome, str], int], allowed: set[str], is_canary: bool
) -> None:
    """Each row counts once, by its outcome, its code and what the caller allows."""
    counts = {str(each): 0 for each in cdp.Outcome}
    expected = dict(counts)
    for (outcome, code), number in rows.items():
        counts[outcome] += number
        waits = is_canary and outcome == "unsent"
        wanted = outcome.wanted and (outcome, code) != ("skipped", "unmapped_event")
        if not (wanted or waits or {str(outcome), code} & allowed):
            expected[outcome] += number
    reasons = [FailureReason(str(o), code, "", n) for (o, code), n in rows.items()]
    found = missing_rows(
        counts, reasons, allowed=parse_allowed(",".join(allowed)), is_canary=is_canary
    )
    assert found == {name: number for name, number in expected.items() if number}


def test_every_code_of_a_run_can_be_allowed() -> None:
    """The list of codes is that of the code; a wrong one is answered with the list."""
    assert codes_of_runs() - PROBLEMS.keys() - {"skipped"} == set(RUN_CODES) - {"connection"}
    assert parse_allowed(["invalid, http_503", "canary"]) == {"invalid", "http_503", "canary"}
    with pytest.raises(cdp.BadInputError, match=r"'invald' to allow. Did you mean 'invalid'\?"):
        parse_allowed("invald")
    with pytest.raises(cdp.BadInputError, match=r"Outcomes: invalid, .*Codes: .*missing_user"):
        parse_allowed("delivered")


def test_a_report_is_as_wanted_or_raises(box: Sandbox) -> None:
    """What is allowed does not raise; what is held on request is wanted; a canary's rest waits."""
    report = send(opens(4, uid=["a", None, "b", "c"]), box)
    assert report.missing() == {"invalid": 1}
    assert report.missing(allow="missing_user") == {}
    report.raise_for_failures(allow=["invalid"])
    with pytest.raises(cdp.UndeliveredError, match="1 of 4 rows not delivered"):
        report.raise_for_failures(allow="refused")
    now = datetime(2023, 5, 2, tzinfo=UTC)
    held = send(opens(2), box, recent="hold", now=now)
    assert held.ok
    assert held.summary == "Backfill: nothing to send now, 2 held on request."
    canary = send(opens(4), box, canary=1, journal=False)
    assert canary.counts["unsent"] == 3
    assert canary.ok
