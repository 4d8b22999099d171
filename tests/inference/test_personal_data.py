"""Which columns stay out because they hold personal data."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from cdp_backfill.inference.personal_data import judge, named_personal
from tests.inference.proposing import asked, column, cycled, proposed, table

if TYPE_CHECKING:
    from pathlib import Path

few = settings(max_examples=40, deadline=None)

NAMES = [
    "email",
    "e_mail",
    "EmailAddress",
    "contact_email",
    "billing_email",
    "email_hash",
    "email_sha256",
    "phone_number",
    "mobile_number",
    "msisdn",
    "telephone",
    "home_phone_number",
    "first_name",
    "lastName",
    "SURNAME",
    "full_name",
    "user_name",
    "customer_name",
    "username",
    "nickname",
    "recipient_name",
    "driver_name",
    "address",
    "street",
    "home_address",
    "billing_address",
    "postal_code",
    "zip",
    "zipcode",
    "postcode",
    "birthday",
    "birth_date",
    "date_of_birth",
    "dob",
    "iban",
    "bank_account",
    "account_number",
    "card_number",
    "credit_card_number",
    "tax_id",
    "vat_number",
    "ssn",
    "passport_number",
    "national_id",
    "latitude",
    "longitude",
    "home_lat",
    "lat",
    "lon",
    "lng",
    "gps_coordinates",
    "geo_point",
    "geohash",
    "ip",
    "ip_address",
    "client_ip",
    "IpAddr",
    "remote_ip",
    "x_forwarded_for",
    "idfa",
    "gaid",
    "aaid",
    "advertising_id",
    "gps_adid",
    "google_aid",
    "ifa",
    "oaid",
    "push_token",
    "device_token",
    "fcmToken",
    "apns_token",
    "registration_token",
    "receipt",
    "receipt_data",
    "app_receipt",
    "purchase_token",
    "imei",
    "mac_address",
    "password",
    "api_key",
    "access_token",
    "refresh_token",
    "session_token",
    "jwt",
    "Vorname",
    "Nachname",
    "correo",
    "telefon",
]
OTHERS = [
    "email_opened",
    "email_type",
    "email_domain",
    "email_count",
    "phone_model",
    "phone_os",
    "address_count",
    "ip_version",
    "name",
    "event_name",
    "app_name",
    "file_name",
    "screen_name",
    "campaign_name",
    "device_model",
    "city",
    "country",
    "locale",
    "timezone",
    "token_balance",
    "gold_tokens",
    "receipt_count",
    "is_receipt_valid",
    "long_session",
    "lateral",
    "platform",
    "latency",
    "long_text",
    "mobile_app_version",
    "birthday_offer_id",
    "street_view",
    "password_length",
    "card_type",
    "pan_gesture",
    "cookie_banner",
    "crash_message",
    "exception_message",
    "stack_trace",
    "error_text",
    "tap_coordinates",
    "user_agent",
    "age",
    "gender",
    "plan",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_personal_data(name: str) -> None:
    """Whatever the cells are, unless they are true or false."""
    cells = [f"x{row % 7}y" for row in range(40)]
    assert judge(column(name, cells)) is not None
    assert judge(column(name, cycled(True, False))) is None
    assert judge(column(name, cycled("true", "false"))) is None


@pytest.mark.parametrize("name", OTHERS)
def test_names_of_other_data(name: str) -> None:
    """Words of personal data in other names."""
    assert judge(column(name, cycled("alpha", "beta", "gamma"))) is None


@given(st.text(min_size=1, max_size=12))
def test_any_name_can_be_judged(name: str) -> None:
    """No name stops the judgement, and no name but ours is personal by chance."""
    named_personal(name)
    named_personal(f"{name}_{name}")


def luhn(digits: str) -> str:
    """The digits with the one that makes them the number of a card."""
    for last in "0123456789":
        whole = digits + last
        doubled = [int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(whole))]
        if sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0:
            return whole
    raise AssertionError


def iban(digits: str) -> str:
    """A bank account of these digits."""
    return f"DE{98 - int(digits + '131400') % 97:02}{digits}"


PERSONAL_CELLS = {
    "e-mail addresses": st.emails(domains=st.sampled_from(["example.com", "mail.example.org"])),
    "phone numbers": st.integers(10**9, 10**13).map(lambda number: f"+{number}"),
    "bank accounts": st.integers(10**17, 10**18 - 1).map(str).map(iban),
    "numbers of cards": st.integers(4 * 10**14, 5 * 10**14).map(str).map(luhn),
    "positions": st.tuples(st.floats(-80, 80), st.floats(-170, 170)).map(
        lambda pair: f"{pair[0]:.5f},{pair[1]:.5f}"
    ),
    "IP addresses": st.ip_addresses(network="203.0.113.0/24").map(str),
    "tokens or receipts": st.text("abcdef0123456789", min_size=30, max_size=40).map(
        lambda text: f"eyJhbGciOi{text}.eyJzdWIi{text}.{text}"
    ),
}


@few
@given(st.sampled_from(sorted(PERSONAL_CELLS)), st.data())
def test_cells_of_personal_data(what: str, data: st.DataObject) -> None:
    """Under a name that says nothing, the cells do."""
    cells = data.draw(st.lists(PERSONAL_CELLS[what], min_size=6, max_size=20, unique=True))
    assert judge(column("x7", cells)) == f"its cells are {what}"
    found = proposed(table(40, x7=cycled(*cells)))
    assert found.mapping.drop == ("x7",)
    assert found.left_out[0].column == "x7"


@few
@given(
    st.lists(
        st.one_of(
            st.integers(),
            st.text("abcdefghij _-", min_size=1, max_size=20),
            st.uuids().map(str),
            st.from_regex(r"\d{1,2}\.\d{1,2}\.\d{1,3}", fullmatch=True),
        ).map(str),
        min_size=2,
        max_size=20,
        unique=True,
    )
)
def test_other_cells(cells: list[str]) -> None:
    """Numbers, words, random ids and versions of three parts are not personal."""
    assert judge(column("x7", cells)) is None


def test_versions_are_no_addresses() -> None:
    """A version of four parts reads as an address; its name says that it is a version."""
    cells = ["7.3.0.118", "7.2.4.97"]
    assert all(map(ipaddress.ip_address, cells))
    for name in ("app_version", "build", "firmware_version", "sdk_release"):
        assert judge(column(name, cells)) is None


def test_names_of_persons_in_cells() -> None:
    """Given and family names under a name that says nothing."""
    people = ["Maria Jansen", "Peter Novak", "Ada Lovelace", "José Alves"]
    assert judge(column("who", people)) == "its cells are names of persons"
    assert judge(column("what", ["Application Opened", "Screen Viewed", "Order Placed"])) is None


def test_names_that_owners_gave() -> None:
    """The name of a device is often that of its owner."""
    for cells in (["Maria's iPhone"], ["iPhone von Peter"], ["iPhone de Marie"]):
        assert judge(column("device_name", cells)) == "its cells hold names of owners"
    assert judge(column("device_name", ["iPhone", "oriole"])) is None


def test_addresses_of_memory() -> None:
    """The address in a crash is none of a person."""
    assert judge(column("fault_address", ["0x7ffe04", "0xdeadbeef"])) is None


@pytest.mark.parametrize(
    "make",
    [
        json.dumps,
        lambda parts: parts,
        lambda parts: json.dumps({"a": [{"b": parts}]}),
        lambda parts: [
            {"key": name, "value": {"string_value": value}} for name, value in parts.items()
        ],
    ],
)  # fmt: skip
def test_parts_of_columns(make: Any) -> None:
    """Objects, JSON and key/value lists are judged by their parts."""
    clean = {"plan": "pro", "level": "7"}
    for parts in ({"email": "x"}, {"contact": "a@example.com"}, {"home_lat": "1.5"}):
        found = judge(column("details", [make(clean), make(clean | parts)]))
        assert found is not None
        assert found.startswith(f"its part {next(iter(parts))!r}")
    assert judge(column("details", [make(clean), make(clean)])) is None


def test_objects_with_personal_parts_are_not_expanded() -> None:
    """Parts of such a column would become properties of their own."""
    good, bad = '{"plan": "pro"}', '{"email": "a@example.com"}'
    assert proposed(table(event_properties=[good] * 40)).mapping.expand == ("event_properties",)
    found = proposed(table(event_properties=[good, bad] * 20)).mapping
    assert found.expand == ()
    assert found.drop == ("event_properties",)


PERSONAL = {
    "email": [f"p{row}@example.com" for row in range(40)],
    "push_token": [f"{row:064x}" for row in range(40)],
    "ip": cycled("203.0.113.7", "2001:db8::1"),
    "note": cycled("hello", "world"),
}


def sent(**options: Any) -> dict[str, Any]:
    """The properties of the first message."""
    (message,) = pd.DataFrame(table(**PERSONAL)).cdp.messages(1, **options)
    return dict(message.get("properties", {}))


def test_what_leaves() -> None:
    """Without a word all but personal data, with rest='all' all, and what is named in any case."""
    assert set(sent()) == {"note"}
    assert set(sent(rest="properties")) == {"note"}
    assert set(sent(rest="all")) == set(PERSONAL)
    assert set(sent(rest="drop")) == set()
    assert set(sent(properties={"mail": "email"})) == {"mail", "note"}
    assert set(sent(drop=["note"])) == set()
    assert set(sent(user_id="email")) == {"note", "user_id"}


def test_a_mapping_is_used_exactly() -> None:
    """A Mapping object says all; what a proposal recorded in it stays out."""
    frame = pd.DataFrame(table(**PERSONAL))
    plan = frame.cdp.plan()
    assert plan.mapping.drop == ("email", "push_token", "ip")
    again = frame.cdp.plan(plan.mapping)
    assert again.samples == plan.samples
    exact = cdp.Mapping(
        user_id="user_id", event="event", timestamp="event_time", other_events="skip"
    )
    (message,) = frame.cdp.messages(1, exact)
    assert message["outcome" if "outcome" in message else "cdp_outcome"] == "skipped"
    exact = cdp.Mapping(
        user_id="user_id", event=cdp.lit("Application Opened"), timestamp="event_time"
    )
    (message,) = frame.cdp.messages(1, exact)
    assert set(message["properties"]) == {*PERSONAL, "event"}


def test_keywords_beside_a_mapping() -> None:
    """They change what is dropped, and what they name is no longer left out."""
    frame = pd.DataFrame(table(**PERSONAL))
    mapping = frame.cdp.plan().mapping
    assert frame.cdp.plan(mapping, rest="all").mapping.drop == ()
    assert frame.cdp.plan(mapping, drop=["note"]).mapping.drop == ("note",)
    named = frame.cdp.plan(mapping, properties={"mail": "email"}).mapping
    assert named.drop == ("push_token", "ip")


def test_streams_are_judged_by_name() -> None:
    """A table that can be read only once is not looked at, but its names are."""
    frame = pd.DataFrame(table(**PERSONAL))
    reader = pa.Table.from_pandas(frame, preserve_index=False).to_reader()
    with cdp.sandbox() as box:
        report = cdp.send(
            reader, user_id="user_id", timestamp="event_time", event=cdp.lit("Application Opened"),
            destination=box.destination, progress=False,
        )  # fmt: skip
        assert report.counts["delivered"] == 40
        assert set(box.events()["properties"][0]) == {"note", "event"}


def test_presets_leave_it_out_too(tmp_path: Path) -> None:
    """Columns that a preset does not name are judged as any other."""
    (tmp_path / "mine.toml").write_text(
        '[mapping]\nuser_id = "user_id"\nevent = "event"\ntimestamp = "event_time"\n'
    )
    plan = pd.DataFrame(table(**PERSONAL)).cdp.plan(preset=str(tmp_path / "mine.toml"))
    assert plan.mapping.drop == ("email", "push_token", "ip")
    assert [each.column for each in plan.proposal.left_out] == ["email", "push_token", "ip"]


def test_crash_messages_are_sent() -> None:
    """What an app said when it crashed is not personal by default."""
    crash = {"exception_message": cycled("index out of range", "no such user 17")}
    assert proposed(table(**crash)).mapping.drop == ()


def test_no_question_about_personal_data() -> None:
    """It stays out and is listed, and nobody has to answer."""
    found = proposed(table(**PERSONAL))
    assert asked(found) == set()
    assert [each.reason for each in found.left_out] == [
        "its name says an e-mail address",
        "its name says a push token",
        "its name says an IP address",
    ]


def test_a_brace_at_the_start_makes_no_object() -> None:
    """A brace is a legal letter of an e-mail address; only text that is JSON has parts."""
    addresses = [f"{{{number}@example.com" for number in range(40)]
    assert judge(column("x7", addresses)) == "its cells are e-mail addresses"
