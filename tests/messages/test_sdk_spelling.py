"""Values are spelled as the vendor's SDKs spell them, and nothing is invented."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.messages.sdk_spelling import as_device_type, as_locale, as_os_name
from cdp_backfill.model.api_facts import DEVICE_TYPES, OS_NAMES
from tests.rows import built, codes, payloads


@pytest.mark.parametrize("name", ["iPadOS", "visionOS", "tvOS", "watchOS", "iPhone OS", "iOS"])
def test_systems_of_apple_make_no_row_invalid(name: str) -> None:
    """Apple's SDK sends ios as the type of every device of its systems."""
    messages = built({"os": [name]}, context={"device": {"type": "os"}, "os": {"name": "os"}})
    (message,) = payloads(messages)
    assert message["context"]["device"] == {"type": "ios"}
    assert message["context"]["os"]["name"] == {"iPhone OS": "iOS"}.get(name, name)


def test_other_types_of_devices_are_refused() -> None:
    """The API has two types; a third one is an error and no guess."""
    messages = built({"os": ["Windows", None, "ANDROID"]}, context={"device": {"type": "os"}})
    assert codes(messages) == {0: ["bad_device_type"]}


@given(st.sampled_from(sorted(OS_NAMES)), st.sampled_from(["", " ", "_", "-"]))
def test_known_systems_are_spelled_in_one_way(name: str, between: str) -> None:
    """Letter case and punctuation do not matter; every spelling of a name is a fixed point."""
    spelled = as_os_name(pa.array([name.upper(), between.join(name), OS_NAMES[name]])).to_pylist()
    assert spelled == [OS_NAMES[name]] * 3
    if name in DEVICE_TYPES:
        assert as_device_type(pa.array([name]))[0].to_pylist() == [DEVICE_TYPES[name]]


@given(st.text(max_size=8))
def test_unknown_systems_and_locales_stay(text: str) -> None:
    """A text that is no known name is sent as it is; spelling twice changes nothing more."""
    once = as_os_name(pa.array([text])).to_pylist()
    assert once == [text] or once[0] in OS_NAMES.values()
    for spell in (as_os_name, as_locale):
        first = spell(pa.array([text, None]))
        assert spell(first).equals(first)
        assert first.null_count == 1


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("en_US", "en-US"),
        ("EN_us", "en-US"),
        ("zh_hans_cn", "zh-Hans-CN"),
        ("es_419", "es-419"),
        ("de", "de"),
        ("en_US.UTF-8", "en_US.UTF-8"),
        ("German", "German"),
        ("en-US-POSIX", "en-US-POSIX"),
    ],
)
def test_locales_have_hyphens(cell: str, expected: str) -> None:
    """A language, a script and a region; anything else is not touched."""
    assert as_locale(pa.array([cell])).to_pylist() == [expected]
