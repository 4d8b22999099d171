"""What cells must be for a path of the context or a documented property."""

from __future__ import annotations

import ipaddress
import string
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp_backfill.inference import known_values
from tests.inference.proposing import cycled, field_of, paths, proposed, table

few = settings(max_examples=30, deadline=None)

numbers = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 10**18).map(str),
    st.floats(1e6, 1e30).map(lambda number: f"{number:.4E}"),
    st.decimals(0, 10**6, places=2).map(str),
)
hashes = st.one_of(
    st.binary(min_size=8, max_size=32).map(bytes.hex),
    st.uuids().map(str),
    st.uuids().map(lambda each: each.hex.upper()),
)
words = st.text(string.ascii_letters, min_size=4, max_size=12)

OF_PLACES_AND_THINGS = (
    "city",
    "geo_city",
    "device_model",
    "device_manufacturer",
    "country",
    "carrier",
)


@few
@given(
    st.sampled_from(OF_PLACES_AND_THINGS), st.lists(numbers, min_size=1, max_size=8, unique_by=str)
)
def test_numbers_are_no_places_and_no_things(name: str, cells: list[Any]) -> None:
    """A city, a model, a manufacturer, a country, a carrier: no number and no E notation."""
    assert field_of(name, cycled(*map(str, cells))) == set()
    if all(isinstance(cell, int) for cell in cells):
        assert field_of(name, cycled(*cells)) == set()


@few
@given(st.sampled_from(OF_PLACES_AND_THINGS), st.lists(hashes, min_size=1, max_size=8, unique=True))
def test_hashes_are_no_places_and_no_things(name: str, cells: list[str]) -> None:
    """The same for hashes and random ids."""
    assert field_of(name, cycled(*cells)) == set()


@few
@given(
    st.sampled_from(("platform", "os", "country", "locale", "language", "carrier", "timezone")),
    st.lists(words, min_size=2, max_size=8, unique=True),
)
def test_words_of_no_list(name: str, cells: list[str]) -> None:
    """Invented words are no systems, countries, languages, carriers or zones."""
    known = (
        known_values.is_system, known_values.is_country, known_values.is_locale,
        known_values.is_carrier, known_values.is_zone, known_values.is_unknown,
    )  # fmt: skip
    strange = [cell for cell in cells if not any(check(cell) for check in known)]
    if strange:
        assert field_of(name, cycled(*cells)) == set()


@few
@given(st.lists(st.ip_addresses().map(str), min_size=1, max_size=9, unique=True))
def test_addresses_are_recognised_by_their_cells(cells: list[str]) -> None:
    """IP addresses under any name but that of a version stay out; they fill no field."""
    real = [cell for cell in cells if not cell.startswith("0.")]
    if real:
        found = proposed(table(origin=cycled(*real)))
        assert found.mapping.drop == ("origin",)
        assert "ip" not in found.mapping.context


@few
@given(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=9, unique=True))
def test_numbers_are_no_addresses(cells: list[int]) -> None:
    """A number has neither dots nor colons, even where it could be read as an address."""
    found = proposed(table(origin=cycled(*map(str, cells))))
    assert found.mapping.drop == ()
    assert all(ipaddress.ip_address(cell) for cell in cells)


@pytest.mark.parametrize(
    "systems", [["iOS", "Android"], ["ANDROID"], ["iPadOS", "ios 17.2", "unknown"]]
)
def test_systems(systems: list[str]) -> None:
    """Operating systems with or without a version; what is not known does not matter."""
    assert "context.os.name" in field_of("platform", cycled(*systems))


@pytest.mark.parametrize(
    "cells",
    [
        ["TikTok", "Meta"], ["iOS", "TikTok"], ["web", "ios"], ["App Store", "Google Play"],
        ["facebook", "instagram", "android"], ["mobile", "desktop"], ["prod", "dev"], ["unknown"],
        ["1", "2"], ["swift", "java"], ["en", "de"],
    ],
)  # fmt: skip
def test_no_systems(cells: list[str]) -> None:
    """A media source, a store, the web, a language: one cell of another kind is enough."""
    for name in ("platform", "os", "os_name", "device_type"):
        assert not field_of(name, cycled(*cells)) & {"context.os.name", "context.device.type"}


def test_nearly_all_of_many() -> None:
    """Of many different cells a few may be others, of few none."""
    countries = ["DE", "FR", "IT", "ES", "PT", "NL", "BE", "AT", "CH", "PL", "SE", "NO", "FI"]
    assert field_of("country", cycled(*countries, "Atlantis", rows=60)) == {
        "context.location.country"
    }
    assert field_of("country", cycled(*countries[:5], "Atlantis", rows=60)) == set()


def test_types_of_devices_follow_systems() -> None:
    """All values of the table must mean Android or a system of Apple's."""
    assert field_of("os", cycled("iOS", "Android", "iPadOS")) == {
        "context.os.name",
        "context.device.type",
    }
    assert field_of("os", cycled("iOS", "Windows")) == {"context.os.name"}


@pytest.mark.parametrize(
    ("name", "cells", "fits"),
    [
        ("country", ["DE", "US"], True),
        ("country", ["DEU", "USA"], True),
        ("country", ["Germany", "Côte d'Ivoire", "Türkiye"], True),
        ("country", ["EMEA", "APAC"], False),
        ("country", ["1", "49"], False),
        ("store_country", ["DE", "US"], False),
        ("locale", ["en_US", "de-DE"], True),
        ("locale", ["zh-Hans-CN", "sr_Latn_RS"], True),
        ("locale", ["English", "German"], False),
        ("language", ["py", "ts", "js"], False),
        ("timezone", ["Europe/Berlin", "UTC"], True),
        ("timezone", ["+02:00", "CEST"], False),
        ("timezone", ["60", "120"], False),
        ("carrier", ["T-Mobile", "Vodafone DE", "AT&T"], True),
        ("carrier", ["DHL", "UPS", "FedEx"], False),
        ("carrier", ["Delta", "United"], False),
        ("device_model", ["iPhone14,2", "Pixel 8", "ELE-L29"], True),
        ("model", ["iPhone14,2", "SM-A536B"], True),
        ("model", ["Model 3", "Model Y"], False),
        ("model", ["gpt-4", "claude"], False),
        ("vehicle_model", ["iPhone14,2"], False),
        ("phone", ["+491701234567", "+491701234568"], False),
        ("device_model", ["phone", "tablet"], False),
        ("manufacturer", ["Apple", "samsung"], True),
        ("manufacturer", ["Bosch", "Siemens AG", "Miele"], False),
        ("brand", ["Nike", "Adidas"], False),
        ("make", ["Volvo", "BMW"], False),
        ("app_version", ["1.10", "2.0"], True),
        ("app_version", ["1.5E+10"], False),
        ("version", ["3.1.0", "3.2.0"], True),
        ("app_version", ["latest", "stable"], False),
        ("build_number", ["4077", "4078"], True),
        ("build", ["debug", "release"], False),
        ("build", ["TP1A.220624.014"], False),
        ("os_version", ["17.2", "Android 14"], True),
        ("os_version", ["20230501", "20230601"], False),
        ("bundle_id", ["com.example.app"], True),
        ("app_id", ["com.example.app"], True),
        ("app_id", ["123456789"], False),
        ("package", ["small", "large"], False),
        ("user_agent", ["Mozilla/5.0 (iPhone)", "okhttp/4.9"], True),
        ("user_agent", ["Smith", "Jones"], False),
        ("deep_link", ["app://home"], True),
        ("deep_link", ["home"], False),
        ("screen_width", ["390", "1080"], True),
        ("screen_width", ["wide"], False),
        ("wifi", [True, False], True),
        ("wifi", ["HomeNet", "Cafe"], False),
        ("device_name", ["iPhone", "iPad"], True),
        ("device_name", ["Living room", "Kitchen"], False),
        ("app_name", ["Shop"], True),
        ("app_name", [f"App {number}" for number in range(30)], False),
    ],
)  # fmt: skip
def test_cells_decide(name: str, cells: list[Any], fits: bool) -> None:  # a table
    """A name is not enough: the cells must be what it says."""
    assert bool(field_of(name, cycled(*cells))) is fits


@pytest.mark.parametrize("name", ["city", "device_model", "carrier", "platform", "locale"])
def test_empty_columns_are_no_evidence(name: str) -> None:
    """Without a cell, nothing is proposed and nothing is invented."""
    assert field_of(name, cycled(None)) == set()
    assert field_of(name, cycled("", "NULL", "unknown")) == set()


def test_versions_are_in_both_places() -> None:
    """Destinations read the context, and the events are documented with the properties."""
    found = proposed(table(app_version=cycled("1.10", "2.0"), app_build=cycled("110", "200")))
    assert (
        paths(found.mapping).items()
        >= {
            "properties.version": "app_version",
            "context.app.version": "app_version",
            "properties.build": "app_build",
            "context.app.build": "app_build",
        }.items()
    )


def test_one_of_two_places_given() -> None:
    """What the caller names for one place fills the other as well, if it is a version."""
    cells = {"release_no": cycled("1.1", "1.2"), "app_version": cycled("1.1", "1.2")}
    found = proposed(table(**cells), properties={"version": "app_version"}).mapping
    assert found.context["app"] == {"version": "app_version"}
    found = proposed(table(**cells), properties={"version": "release_no"}).mapping
    assert "app" not in found.context or found.context["app"] != {"version": "release_no"}


def test_a_property_of_that_name_stays() -> None:
    """A column that becomes the property version itself is not pushed aside."""
    found = proposed(table(app_version=cycled("1.1", "1.2"), version=cycled("draft", "final")))
    assert found.mapping.properties == {}
    assert found.mapping.context["app"] == {"version": "app_version"}


def test_columns_that_differ_stay_properties() -> None:
    """Of two columns with equal names and other cells, neither is taken, and nothing is asked."""
    found = proposed(
        table(app_version=cycled("1.1", "1.2"), application_version=cycled("8.1", "8.2"))
    )
    assert found.questions == ()
    assert "app" not in found.mapping.context
    same = cycled("1.1", "1.2")
    again = proposed(table(app_version=same, application_version=same))
    assert again.mapping.context["app"] == {"version": "app_version"}


def test_random_ids_are_of_devices() -> None:
    """The id of a device is anonymous, and it is the id in the context."""
    ids = [str(uuid.UUID(int=number)) for number in range(1, 41)]
    assert field_of("device_id", ids) == {"anonymous_id", "context.device.id"}
    assert field_of("install_id", ids) == {"anonymous_id"}
    both = proposed(table(device_id=ids, install_id=ids[::-1]))
    assert both.mapping.anonymous_id == "install_id"
    assert both.mapping.context["device"]["id"] == "device_id"
