"""The public face of the package."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import cdp_backfill as cdp

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS = {
    "AccountingError",
    "ApiKeyError",
    "AuthenticationError",
    "BackfillError",
    "BadInputError",
    "DestinationError",
    "JournalError",
    "KeywordError",
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
    "send_partition",
    "PartitionJob",
    "PartSummary",
    "report",
    "resume",
    "configure",
    "sandbox",
    "key",
    "lit",
    "Mapping",
    "Destination",
    "Plan",
    "Report",
    "Outcome",
    "Event",
    "Progress",
    "Snapshot",
    "Sandbox",
    "Secret",
    "Assumption",
    "Choice",
    "LeftOut",
    "Column",
    "Fix",
    "Problem",
    "Question",
}


def test_names_are_exactly_the_contract() -> None:
    """What can be imported is what is promised, and nothing more."""
    assert set(cdp.__all__) == NAMES | ERRORS
    assert all(hasattr(cdp, name) for name in cdp.__all__)


def test_completion_shows_public_names_only() -> None:
    """``cdp.<Tab>`` offers what is public, and no module of the inside."""
    assert dir(cdp) == sorted(cdp.__all__)


@pytest.mark.parametrize("name", sorted(NAMES | ERRORS))
def test_public_objects_name_the_package(name: str) -> None:
    """Each says ``cdp_backfill.X``, wherever it is defined, and is no module as well."""
    public = getattr(cdp, name)
    assert public.__module__ == "cdp_backfill"
    assert not inspect.ismodule(public)
    assert f"cdp_backfill.{name}" not in sys.modules


def test_a_plan_is_copied_and_not_pickled() -> None:
    """It refers to its table: a copy is the plan itself, and pickling says what to do instead."""
    frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"]})
    plan = cdp.plan(frame, user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    assert copy.copy(plan) is plan
    assert copy.deepcopy(plan) is plan
    with pytest.raises(TypeError, match=r"plan\.save"):
        pickle.dumps(plan)


def test_values_of_users_can_be_pickled() -> None:
    """Mappings, outcomes, columns, questions and the like survive pickling."""
    frame = pd.DataFrame({"uid": ["a"], "ts": ["2023-05-01T10:00:00Z"], "v": [None]})
    plan = cdp.plan(frame, user_id="uid", timestamp="ts")
    values = (plan.mapping, plan.columns, plan.questions, plan.proposal, cdp.Outcome.FAILED)
    assert pickle.loads(pickle.dumps(values)) == values  # noqa: S301  # our own
    assert copy.deepcopy(values) == values


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_errors_can_be_pickled_and_copied(name: str) -> None:
    """The message stays; a report, which refers to its table, goes with copies only."""
    error = getattr(cdp, name)("what happened")
    if hasattr(error, "report"):
        error.report = object()
        assert copy.copy(error).report is copy.deepcopy(error).report is error.report
    pickled = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    for other in (pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == "what happened"
    assert getattr(pickled, "report", None) is None


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
    # What identify= makes, and what a plan finds in the cells.
    made = {"call", "traits", "types"}
    mapping_fields = set(inspect.signature(cdp.Mapping).parameters) - made
    assert mapping_fields <= {p.name for p in parameters}


def test_import_waits_for_the_first_use() -> None:
    """The import itself loads neither pandas nor pyarrow; ``df.cdp`` is there in either order."""
    code = (
        "import sys\n"
        "import cdp_backfill as cdp\n"
        "assert not {'pandas', 'pyarrow', 'httpx', 'duckdb'} & set(sys.modules)\n"
        "import pandas as pd\n"
        "assert 'duckdb' not in sys.modules\n"
        "assert 'plan' in dir(pd.DataFrame().cdp)\n"
        "assert cdp.Mapping.__module__ == 'cdp_backfill'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_and_completion_import_no_large_library() -> None:
    """Help pages of all commands, and shell completion, need none of the large libraries."""
    code = (
        "import contextlib, os, sys\n"
        "from cdp_backfill.cli.app import app\n"
        "def run(*arguments):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        app(list(arguments), prog_name='cdp-backfill')\n"
        "run('--help')\n"
        "for command in app.registered_commands:\n"
        "    run(command.name, '--help')\n"
        "os.environ |= {'_CDP_BACKFILL_COMPLETE': 'complete_bash', 'COMP_CWORD': '1',\n"
        "    'COMP_WORDS': 'cdp-backfill rehe'}\n"
        "run()\n"
        "assert not {'pandas', 'pyarrow', 'duckdb', 'httpx', 'numpy'} & set(sys.modules)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "Send every row as a track event." in completed.stdout
    assert completed.stdout.splitlines()[-1] == "rehearse"


def callables() -> dict[str, Callable[..., Any]]:
    """Everything public that takes keywords, by name."""
    frame = pd.DataFrame()
    verbs: list[Any] = [cdp.plan, cdp.send, cdp.resume, cdp.configure, cdp.sandbox, cdp.Plan.send]
    verbs += [frame.cdp.plan, frame.cdp.send, frame.cdp.messages, cdp.Mapping, cdp.Destination]
    return {f"{verb.__module__}.{verb.__qualname__}": verb for verb in verbs}


@pytest.mark.parametrize("name", callables())
def test_a_misspelt_keyword_is_answered_with_the_one_that_was_meant(name: str) -> None:
    """The error is of this package and a TypeError; it names the argument, in every function."""
    function = callables()[name]
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert names
    for each in names:
        wrong = each[:-2] + each[-1]
        if wrong in names:
            continue
        with pytest.raises(cdp.KeywordError, match=f"has no argument {wrong!r}") as caught:
            function(**{wrong: None})
        assert isinstance(caught.value, TypeError)
        suggested = re.search(r"Did you mean '(\w+)'", str(caught.value))
        if len(each) > 3:
            assert suggested
            assert suggested[1] in names


def test_an_argument_of_another_class_is_sent_there() -> None:
    """``send(rate_limit=...)`` says that it is an argument of the destination."""
    with pytest.raises(
        cdp.KeywordError, match=r"destination=cdp\.Destination\(rate_limit=\.\.\.\)"
    ):
        cdp.send(pd.DataFrame(), rate_limit=5.0)  # type: ignore[call-arg]


def test_import_has_no_side_effects() -> None:
    """Importing starts no thread, installs no signal handler, and leaves matplotlib alone."""
    code = (
        "import signal, sys, threading\n"
        "before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "import cdp_backfill as cdp\n"
        "cdp.send\n"
        "assert threading.active_count() == 1\n"
        "assert before == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "assert not {'matplotlib', 'keyring', 'IPython'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
