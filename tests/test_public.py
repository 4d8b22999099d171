"""The public view of the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pandas as pd
import pytest

import cdp_backfill as cdp

ERRORS = {
    "AccountingError",
    "AuthenticationError",
    "BackfillError",
    "BadInputError",
    "DestinationError",
    "JournalError",
    "MappingError",
    "MissingExtraError",
    "RecentRowsError",
    "SourceError",
    "StoppedError",
    "UndeliveredError",
    "UnexpectedAnswerError",
    "UnreachableError",
}
NAMES = {
    "plan",
    "send",
    "resume",
    "configure",
    "sandbox",
    "lit",
    "Mapping",
    "Destination",
    "Plan",
    "Report",
    "Outcome",
    "Event",
}


def test_names_are_exactly_the_contract() -> None:
    """What can be imported is what is promised, and nothing more."""
    assert set(cdp.__all__) == NAMES | ERRORS
    assert all(hasattr(cdp, name) for name in cdp.__all__)


def test_errors_have_one_root() -> None:
    """One except clause catches everything that is raised on purpose."""
    assert all(issubclass(getattr(cdp, name), cdp.BackfillError) for name in ERRORS)


@pytest.mark.parametrize("name", sorted(NAMES | ERRORS))
def test_every_public_name_is_documented(name: str) -> None:
    """Each public name says what it is."""
    assert inspect.getdoc(getattr(cdp, name))


def test_importing_registers_the_accessor() -> None:
    """``df.cdp`` is there after the import."""
    assert {"plan", "send", "messages"} <= set(dir(pd.DataFrame().cdp))


@pytest.mark.parametrize(
    "verb", [cdp.plan, cdp.send, pd.DataFrame().cdp.plan, pd.DataFrame().cdp.send]
)
def test_no_option_is_hidden(verb: object) -> None:
    """Every option is a keyword with its default in the signature."""
    parameters = inspect.signature(verb).parameters.values()  # type: ignore[arg-type]
    assert not [p for p in parameters if p.kind is p.VAR_KEYWORD]
    mapping_fields = set(inspect.signature(cdp.Mapping).parameters)
    assert mapping_fields <= {p.name for p in parameters}


def test_import_has_no_side_effects() -> None:
    """Importing starts no thread, installs no signal handler, and leaves matplotlib alone."""
    code = (
        "import signal, sys, threading\n"
        "before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "import cdp_backfill\n"
        "assert threading.active_count() == 1\n"
        "assert before == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "assert not {'matplotlib', 'keyring', 'IPython'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
