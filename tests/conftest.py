"""What all tests share: a clean environment, the sandbox, and waits that take no time."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import cdp_backfill as cdp
from cdp_backfill.delivery import rate_control, retry, sender, transport
from cdp_backfill.model import api_facts, destination
from tests.clocks import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp_backfill.local_sandbox import Sandbox

hypothesis.settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=60, print_blob=True
)
hypothesis.settings.load_profile("default")

pytest_plugins = ["pytester"]

# Machines of Java that live for a minute: the second compiler would take more than it gives.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

_shared_tls = functools.cache(transport.tls_context)

_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no proxy and no configured destination from outside or from another test."""
    for name in (api_facts.API_KEY_VARIABLE, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(destination, "_configured", None)
    monkeypatch.setattr(destination, "_key_from_keyring", lambda _: None)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in thousandths, and a higher minimum rate: the same waits, only shorter."""
    monkeypatch.setattr(retry, "BASE_SECONDS", 0.001)
    monkeypatch.setattr(rate_control, "_MIN_RATE", 500.0)


@pytest.fixture(autouse=True)
def shared_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs share the certificates of authorities, which take 50 ms to read."""
    monkeypatch.setattr(sender, "tls_context", _shared_tls)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Senders use this clock: they wait as long as they want, in no time."""
    fake = FakeClock()
    monkeypatch.setattr(sender, "SYSTEM_CLOCK", fake)
    return fake


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A running sandbox."""
    with cdp.sandbox() as running:
        yield running


@pytest.fixture
def data() -> Path:
    """Real inputs made by other people, which the project does not contain."""
    if not _DATA.is_dir():
        pytest.skip("the folder with other people's files, ../shared/data, is not on this machine")
    return _DATA
