"""Where a key comes from, where it is kept, and that it shows nowhere."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rich.console
import rich.traceback

import cdp_backfill as cdp
from cdp_backfill.delivery.transport import HttpTransport, NoAnswerError, tls_context
from cdp_backfill.model import destination as destinations
from cdp_backfill.model.secret import Secret
from tests.kernels import KEYRING_FILE, Kernel
from tests.keys import KEY, KEY_FORMS, VARIABLE
from tests.rows import opens
from tests.servers import Reply, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN = """
%xmode Verbose
import sys, logging, warnings, pickle, copy, dataclasses, traceback, faulthandler
sys.path.insert(0, {root!r})
warnings.simplefilter("always")
logging.basicConfig(level=1, stream=sys.stdout, force=True)
faulthandler.enable(sys.__stderr__)
import cdp_backfill as cdp
from tests.rows import opens
how = dict(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"), progress=False)
"""

LOOK = [
    "opens(3).cdp.send(**how)",  # 401
    "sys.last_value.report",
    "%xmode Context",
    "opens(3).cdp.send(**how)",
    "%xmode Verbose",
    "here = dataclasses.replace(cdp.configure({again}), patience=0.05)",
    "there = dataclasses.replace(here, base_url='http://127.0.0.1:9/v1')",
    "opens(3).cdp.send(**how, destination=there.with_key())",  # nobody listens
    "import os; os.environ['HTTP_PROXY'] = os.environ['HTTPS_PROXY'] = 'odd://x'",
    "there = there.with_key()",
    "elsewhere = dataclasses.replace(there, base_url='http://a.invalid/v1', insecure=True)",
    "opens(3).cdp.send(**how, destination=elsewhere)",
    "del os.environ['HTTP_PROXY'], os.environ['HTTPS_PROXY']",
    "cdp.configure(there.with_key().api_key, region='mars')",
    "cdp.configure(there.with_key().api_key, base_url='http://a/v2', insecure=True)",
    "import h11; h11.Connection.send = lambda self, event: [] / 0",
    "opens(3).cdp.send(**how, destination=here.with_key())",  # a broken library
    "error = traceback.TracebackException.from_exception(sys.last_value, capture_locals=True)",
    "''.join(error.format())",
    "there",
    "there.api_key, vars(there), dataclasses.asdict(there), copy.deepcopy(there), str(there)",
    "pickle.dumps(there), copy.copy(there)",
    "%whos",
    "%history -g -o",
    "print(In, Out, _, __, _ih, _oh)",
    "{name: value for name, value in globals().items() if name not in ('os', 'sys')}",
    "1 / 0",
]


@pytest.fixture
def refusing() -> Iterator[str]:
    """Address of a server that takes no key."""
    with serving(lambda *_: Reply(401, b'{"meta": {"errors": ["no such key"]}}')) as server:
        yield server.url


@pytest.mark.filterwarnings("default")  # of the kernel's own making
@pytest.mark.parametrize("origin", ["environment", "prompt", "keyring"])
def test_a_notebook_never_holds_the_key(origin: str, tmp_path: Path, refusing: str) -> None:
    """Not after failures of all kinds, shown in every way: outputs, history, file, tracebacks."""
    if origin == "keyring":
        stored = json.dumps(
            {f"cdp-backfill {refusing}": KEY, "cdp-backfill http://127.0.0.1:9/v1": KEY}
        )
        (tmp_path / KEYRING_FILE).write_text(stored)
    environment = {VARIABLE: KEY} if origin == "environment" else {}
    kernel = Kernel(tmp_path, KEY if origin == "prompt" else None, **environment)
    try:
        kernel.run(BEGIN.format(root=str(Path(__file__).parents[2])))
        configured = kernel.run(f"cdp.configure(base_url={refusing!r})")
        assert f"Destination(url='{refusing}')" in configured
        assert len(kernel.prompts) == (origin == "prompt")
        for code in LOOK:
            again = "cdp.model.destination._configured.api_key, " if origin == "prompt" else ""
            shown = kernel.run(code.replace("{again}", f"{again}base_url={refusing!r}"))
            if code == LOOK[0]:
                (*_, output) = json.loads(shown)  # after what libraries log
                sentence, where = output["traceback"]  # no frames, not even with %xmode Verbose
                assert sentence.startswith("AuthenticationError: The server at ")
                assert "Backfill: 3 of 3 rows not delivered." in sentence
                assert "sys.last_value.report" in where
    finally:
        everything = kernel.close()
    assert kernel.errors == [
        "AuthenticationError",
        "AuthenticationError",
        "UnreachableError",
        *["StoppedError", "DestinationError", "DestinationError"],
        "UnreachableError",
        "ZeroDivisionError",
    ]
    for form in KEY_FORMS:
        assert form not in everything
    assert "<key>" in everything
    assert "send_request_headers.started" in everything  # the libraries did log
    assert "capture_locals" in everything


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_a_notebook_asks_at_once_and_keeps_the_key_on_request(
    tmp_path: Path, refusing: str
) -> None:
    """``configure()`` asks there and then, names the address, and stores the key under it."""
    kernel = Kernel(tmp_path, KEY)
    try:
        kernel.run("import cdp_backfill as cdp")
        kernel.run("cdp.configure(region='eu', save_key=True)")
        assert kernel.prompts == [
            "Customer.io Pipelines API key for https://cdp-eu.customer.io/v1: "
        ]
        kernel.run("cdp.configure(region='eu')")
        assert len(kernel.prompts) == 1  # the keyring has it now
        kernel.run("cdp.configure(region='us')")
        assert len(kernel.prompts) == 2  # but that is another account
        kernel.run("import os; os.environ['KEYRING_BROKEN'] = '1'")
        kernel.run("%xmode Verbose")
        kernel.run(f"cdp.configure(base_url={refusing!r}, save_key=True)")
    finally:
        everything = kernel.close()
    assert kernel.errors == ["DestinationError"]
    assert "could not be saved to the system keyring" in everything
    stored = json.loads((tmp_path / KEYRING_FILE).read_text())
    assert stored == {"cdp-backfill https://cdp-eu.customer.io/v1": KEY}
    for form in KEY_FORMS:
        assert form not in everything


@pytest.mark.filterwarnings("default")  # of the kernel's own making
def test_a_notebook_that_nobody_sits_at_does_not_wait(tmp_path: Path) -> None:
    """Run by a machine, it goes on without a key, and stops at the first need of one."""
    kernel = Kernel(tmp_path)
    try:
        kernel.run("import pandas as pd, cdp_backfill as cdp")
        assert "Destination(region='eu'" in kernel.run("cdp.configure(region='eu')")
        shown = kernel.run(
            "pd.DataFrame({'u': ['a'], 't': ['2023-01-01']}).cdp.send(user_id='u', timestamp='t',"
            " event=cdp.lit('Application Opened'), progress=False)"
        )
    finally:
        kernel.close()
    assert kernel.errors == ["ApiKeyError"]
    (output,) = json.loads(shown)
    assert output["traceback"] == [f"ApiKeyError: {output['evalue']}"]  # the sentence, no frames
    assert "There is no API key" in shown


def test_a_script_is_not_asked_by_configure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where lines are typed one by one it asks at once; a script asks when it sends."""
    monkeypatch.setattr(destinations, "_prompt_for_key", lambda _: Secret("typed"))
    assert cdp.configure().api_key is None
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert cdp.configure().api_key == "typed"
    monkeypatch.setenv(VARIABLE, "from-env")
    assert cdp.configure().api_key is None  # it stays in the environment
    with pytest.raises(cdp.DestinationError, match="The API key is empty"):
        cdp.configure("")


def test_keys_of_two_addresses_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is configured or stored for one region is not shown to another server."""
    stored = {"https://cdp-eu.customer.io/v1": "eu-key"}
    monkeypatch.setattr(destinations, "_key_from_keyring", stored.get)
    cdp.configure("us-key")
    assert destinations.resolve(None).api_key == "us-key"
    assert destinations.resolve(cdp.Destination(region="eu")).api_key == "eu-key"
    assert destinations.resolve(cdp.Destination(rate_limit=5.0)).api_key == "us-key"
    elsewhere = cdp.Destination(base_url="https://elsewhere.invalid/v1")
    with pytest.raises(cdp.DestinationError, match="There is no API key"):
        destinations.resolve(elsewhere)


def test_a_destination_shows_no_key_in_any_form() -> None:
    """Fields, dicts, copies, pickles, formats: the key is there to be used, and not to be seen."""
    one = cdp.Destination(api_key=KEY, region="eu")
    forms = [one, vars(one), asdict(one), copy.copy(one), copy.deepcopy(one), one.api_key]
    forms += [f"{one.api_key}", f"{one.api_key!r:>9}", "%s" % one.api_key]  # noqa: UP031
    for form in forms:
        assert "hunter2" not in f"{form} {form!r}"
        assert "hunter2" not in "".join(rich.console.Console().render_str(repr(form)).plain)
    assert copy.deepcopy(one) is one
    assert one.api_key is not None
    assert one.api_key.reveal() == KEY
    assert replace(one, strict=False).api_key == one.api_key
    assert one == cdp.Destination(api_key=KEY, region="eu")
    assert one != cdp.Destination(api_key="k", region="eu")
    assert hash(one) == hash(cdp.Destination(api_key=KEY, region="eu"))
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(asdict(one))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(one.api_key)
    stored = pickle.dumps(one)
    assert b"hunter2" not in stored
    assert pickle.loads(stored) == cdp.Destination(region="eu")  # noqa: S301  # made here


def verbose(error: BaseException) -> str:
    """All that a traceback can show, local variables included, causes and contexts too."""
    actual, chain = "", [error]
    while chain:
        item = chain.pop()
        chain += [other for other in (item.__cause__, item.__context__) if other is not None]
        output = traceback.TracebackException.from_exception(item, capture_locals=True)
        actual += "".join(output.format())
        console = rich.console.Console(file=io.StringIO(), width=200)
        shown = rich.traceback.Traceback.from_exception(
            type(item), item, item.__traceback__, show_locals=True, locals_max_string=100_000
        )
        console.print(shown)
        actual += console.file.getvalue()  # type: ignore[attr-defined]
    return actual


def _broken(*_: object, **__: object) -> None:
    raise KeyError("x")


def secret_destination(address: str) -> cdp.Destination:
    """A destination whose key is in no variable of the caller."""
    return cdp.Destination(api_key=KEY, base_url=address, insecure=True,
                           patience=0.05)  # fmt: skip


@pytest.mark.parametrize("broken", ["build_request", "send", "close"])
def test_whatever_breaks_in_the_library_shows_no_key(
    broken: str, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    """Not even to who looks at the variables of every frame of every cause."""
    import httpcore  # noqa: PLC0415
    import httpx  # noqa: PLC0415

    if broken == "send":
        monkeypatch.setattr(httpcore._sync.http11.HTTP11Connection, "_send_event", _broken)
    else:
        monkeypatch.setattr(httpx.Client, broken, _broken)
    errors: list[BaseException] = []
    monkeypatch.setattr("threading.excepthook", lambda info: errors.append(info.exc_value))
    mapping = cdp.Mapping(user_id="uid", timestamp="ts", event=cdp.lit("Application Opened"))
    with pytest.raises((cdp.BackfillError, KeyError)) as got:
        cdp.send(opens(3), mapping, destination=secret_destination(refusing), progress=False)
    for error in (got.value, *errors):
        shown = verbose(error)
        for form in KEY_FORMS:
            assert form not in shown


def test_a_client_that_cannot_be_made_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library can fail with the way to the key in its hands."""
    monkeypatch.setattr("httpcore.ConnectionPool", _broken)
    with pytest.raises(KeyError) as got:
        HttpTransport(secret_destination("http://a.invalid/v1"), tls_context())
    shown = verbose(got.value)
    assert "httpcore.ConnectionPool(" in shown
    for form in KEY_FORMS:
        assert form not in shown


def test_a_lost_answer_is_told_without_its_cause(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the transport raises has no error of the library behind it."""
    transport = HttpTransport(secret_destination("http://127.0.0.1:9/v1"), tls_context())
    with pytest.raises(Exception, match="ConnectError") as got:
        transport.post(b"")
    assert got.value.__cause__ is None
    assert got.value.__context__ is None
    transport.close()
    broken = HttpTransport(secret_destination(refusing), tls_context())
    monkeypatch.setattr("httpcore.ConnectionPool.handle_request", _broken)
    with pytest.raises(NoAnswerError, match="KeyError") as got:
        broken.post(b"")
    assert got.value.__context__ is None
    broken.close()


@pytest.mark.parametrize("bad", ["hunter2 key", "hunter2:key", "hunter2é"])
def test_a_key_that_cannot_be_one_is_not_shown_either(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a good one with a line break behind it."""
    monkeypatch.setenv(VARIABLE, bad)

    def given() -> None:
        cdp.Destination(api_key=os.environ[VARIABLE])

    def misspelt() -> None:
        cdp.Destination(api_key=os.environ[VARIABLE], regon="eu")  # type: ignore[call-arg]

    def misspelt_too() -> None:
        cdp.configure(os.environ[VARIABLE], regon="eu")  # type: ignore[call-arg]

    def configured() -> None:
        cdp.configure(os.environ[VARIABLE], save_key=True)

    def actual() -> None:
        cdp.Destination().with_key()

    for attempt in (given, misspelt, misspelt_too, configured, actual):
        with pytest.raises(cdp.BadInputError) as got:
            attempt()
        # The frames of this test know it.
        assert got.value.__traceback__ is not None
        got.value.__traceback__ = got.value.__traceback__.tb_next
        assert "hunter2" not in verbose(got.value)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("http://localhost:80/v1", True),
        ("http://127.3.2.1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("HTTP://a.invalid/v1", False),
        ("http://localhost.a.invalid/v1", False),
        ("http://127.0.0.1.a.invalid/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://0.0.0.0/v1", False),
    ],
)
def test_a_key_leaves_in_clear_only_on_request(address: str, is_local: bool) -> None:
    """Without TLS, an address of another machine is refused where the destination is made."""
    assert cdp.Destination(base_url=address, insecure=True).is_local == is_local
    if is_local:
        assert cdp.Destination(base_url=address).is_local
        return
    with pytest.raises(cdp.DestinationError, match=r"unencrypted\. Use https://.*insecure=True"):
        cdp.Destination(base_url=address)
    with pytest.raises(cdp.DestinationError, match="unencrypted"):
        cdp.configure("key", base_url=address)
