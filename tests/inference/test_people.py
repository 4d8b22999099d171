"""Who did it: ids of people, of devices, of nobody."""

from __future__ import annotations

import string
import uuid
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdp_backfill as cdp
from tests.inference.proposing import asked, cycled, proposed, table

few = settings(max_examples=25, deadline=None)
UUIDS = [str(uuid.UUID(int=number * 7919)) for number in range(1, 41)]

ids = st.lists(
    st.one_of(
        st.integers(100, 10**12).map(str),
        st.uuids().map(str),
        st.from_regex(r"[a-z]{1,5}[-_][0-9]{2,8}", fullmatch=True).filter(
            lambda text: not text.startswith(("anon", "guest", "visit", "devic", "insta"))
        ),
    ),
    min_size=6,
    max_size=40,
    unique=True,
)


@few
@given(st.sampled_from(["user_id", "customerId", "MEMBER_ID", "shopper_uuid", "cust_no"]), ids)
def test_ids_of_people(name: str, cells: list[str]) -> None:
    """Ids that repeat or are unique, as numbers, words or UUIDs, are taken without a question."""
    for column in (cells, cycled(*cells, rows=3 * len(cells))):
        found = proposed(table(len(column), no="user_id", **{name: column}))
        assert found.mapping.user_id == name
        assert found.questions == ()


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (cycled("u1"), "all of its cells are the same"),
        (cycled(0, 1), "true or false"),
        (cycled(True, False), "not ids"),
        (cycled("retail", "wholesale", "online"), "only 3 values in 40 rows"),
        (cycled("seg-1", "seg-2"), "only 2 values in 40 rows"),
        (cycled(1.5, 2.25, 3.75), "lost digits"),
        (cycled(*[f"1.{n}E+10" for n in range(10, 50)]), "lost digits"),
        (cycled("2023-05-01", "2023-05-02", "2023-05-03"), "days or times"),
        (cycled(*[f"https://x.example/{n}" for n in range(40)]), "URLs"),
        (cycled(*[f'{{"id": {n}}}' for n in range(40)]), "JSON"),
        (cycled(*[f"Ada {letter}ovelace" for letter in string.ascii_letters]), "words, not ids"),
        (cycled(None), "empty"),
        (cycled("", "NULL"), "empty"),
    ],
)
def test_what_is_no_id_of_a_person(cells: list[Any], why: str) -> None:
    """A constant, a flag, a category, a number with lost digits: asked, with the reason."""
    found = proposed(table(user_id=cells))
    assert found.mapping.user_id is None
    (question,) = found.questions
    assert question.columns == ("user_id",)
    assert why in question.text
    assert question.answers[0] == "user_id='user_id'"


def test_e_mail_addresses_are_asked_about() -> None:
    """An id that is an e-mail address may be right, but a person has to say so."""
    found = proposed(table(user_id=[f"p{row}@example.com" for row in range(40)]))
    assert found.mapping.user_id is None
    assert "e-mail addresses" in found.questions[0].text
    assert found.questions[0].answers[0] == "user_id='user_id'"
    found = proposed(table(no="user_id", email=[f"p{row}@example.com" for row in range(40)]))
    assert found.mapping.user_id is None
    assert "personal data" in found.questions[0].text


def test_a_name_alone_needs_ids() -> None:
    """A column called customer is of ids or of names."""
    assert proposed(table(no="user_id", customer=cycled("c1", "c2", "c3"))).mapping.user_id
    names = cycled(*[word * 2 for word in string.ascii_lowercase[:20]])
    assert proposed(table(no="user_id", customer=names)).mapping.user_id is None


def test_a_bare_uid_may_be_of_the_row() -> None:
    """Random or counted, and different in every row, it may be the id of the row."""
    assert proposed(table(no="user_id", uid=UUIDS)).mapping.user_id is None
    assert proposed(table(no="user_id", uid=list(range(1, 41)))).mapping.user_id is None
    assert proposed(table(no="user_id", uid=UUIDS[:20] * 2)).mapping.user_id == "uid"
    assert proposed(table(no="user_id", uid=[f"u{n}" for n in range(40)])).mapping.user_id == "uid"


@few
@given(
    st.sampled_from(
        ["anonymous-", "anon_", "Guest:", "visitor.", "$device:", "device-", "install_"]
    ),
    st.sampled_from(["user_id", "distinct_id", "customer_id"]),
)
def test_ids_that_say_that_they_are_anonymous(beginning: str, name: str) -> None:
    """All of them: anonymousId. Some of them: a question with the line that tells them apart."""
    anonymous = [f"{beginning}{row}" for row in range(40)]
    found = proposed(table(no="user_id", **{name: anonymous}))
    assert (found.mapping.user_id, found.mapping.anonymous_id) == (None, name)
    assert found.questions == ()
    if not beginning.startswith("$"):
        mixed = [f"u-{row}" if row % 2 else anonymous[row] for row in range(40)]
        found = proposed(table(no="user_id", **{name: mixed}))
        assert asked(found) == {"user_id"}
        sent = answered(table(no="user_id", **{name: mixed}), found.questions[0].answers[0])
        assert [message.get("userId") for message in sent] == [
            cell if cell.startswith("u-") else None for cell in mixed
        ]


def answered(columns: dict[str, list[Any]], answer: str) -> list[dict[str, Any]]:
    """The messages after an answer is passed as it is written, with a device for each row."""
    frame = pd.DataFrame(columns | {"device_id": UUIDS[: len(columns["event"])]})
    keywords = eval(f"dict({answer})", {"cdp": cdp})  # noqa: S307  # our own text
    return frame.cdp.messages(len(frame), **keywords)  # type: ignore[no-any-return]


@pytest.mark.parametrize("flag", ["is_identified", "$is_identified", "is_anonymous"])
def test_flags(flag: str) -> None:
    """A flag says for all rows who is identified, or that a person must decide."""
    yes = "anonymous" not in flag
    ids = [f"p-{row}" for row in range(40)]
    for cells, fields in (
        (cycled(yes), ("distinct_id", None)),
        (cycled(not yes), (None, "distinct_id")),
        (cycled(str(not yes).lower()), (None, "distinct_id")),
    ):
        mapping = proposed(table(no="user_id", distinct_id=ids, **{flag: cells})).mapping
        assert (mapping.user_id, mapping.anonymous_id) == fields
    mixed = table(no="user_id", distinct_id=ids, **{flag: cycled(True, False)})
    found = proposed(mixed)
    assert asked(found) == {"user_id"}
    sent = answered(mixed, found.questions[0].answers[0])
    assert ["userId" in message for message in sent] == cycled(yes, not yes)


def test_an_id_that_is_the_one_of_the_device() -> None:
    """In all rows: anonymous. In some: a question. In none: a person."""
    people = [f"person-{row}" for row in range(40)]
    for name in ("distinct_id", "user_id"):
        same = proposed(table(no="user_id", **{name: UUIDS}, device_id=UUIDS)).mapping
        assert same.user_id is None
        assert same.anonymous_id in (name, "device_id")
        mixed = [UUIDS[row] if row % 3 else people[row] for row in range(40)]
        found = proposed(table(no="user_id", **{name: mixed}, device_id=UUIDS))
        assert asked(found) == {"user_id"}
        assert "nullif" in found.questions[0].answers[0]
        other = proposed(table(no="user_id", **{name: people}, device_id=UUIDS)).mapping
        assert (other.user_id, other.anonymous_id) == (name, "device_id")


def test_random_distinct_ids_are_asked_about() -> None:
    """They are of people after a login and of devices before."""
    found = proposed(table(no="user_id", distinct_id=UUIDS))
    assert found.mapping.user_id is None
    assert asked(found) == {"user_id"}


@pytest.mark.parametrize("word", ["guest", "Anonymous", "unknown", "not logged in"])
def test_words_for_nobody(word: str) -> None:
    """One person of that name would get the events of all who are not logged in."""
    cells = table(user_id=[word if row % 4 == 0 else f"u{row}" for row in range(40)])
    found = proposed(cells)
    assert asked(found) == {"user_id"}
    sent = answered(cells, found.questions[0].answers[0])
    assert sum("userId" in message for message in sent) == 30


def test_a_number_for_nobody() -> None:
    """Zero and minus one stand for nobody where they are the most frequent."""
    for nobody in (0, -1):
        cells = [nobody if row % 4 == 0 else 1000 + row for row in range(40)]
        assert asked(proposed(table(user_id=cells))) == {"user_id"}
    assert proposed(table(user_id=list(range(40)))).questions == ()


def test_people_who_compete() -> None:
    """Two kinds of people are asked about; copies are none."""
    one, other = [f"u{row}" for row in range(40)], [f"c{row}" for row in range(40)]
    found = proposed(table(user_id=one, customer_id=other))
    assert found.mapping.user_id is None
    assert found.questions[0].columns == ("user_id", "customer_id")
    assert proposed(table(user_id=one, customer_id=one)).mapping.user_id == "user_id"
    found = proposed(table(no="user_id", rider_id=one, passenger_id=other))
    assert found.mapping.user_id is None


@pytest.mark.parametrize(
    "name",
    [
        "account_id", "profile_id", "client_id", "contact_id", "owner_id", "worker_id",
        "external_id", "household_id", "identity", "email", "username", "warehouse_user_id",
        "record_uid",
    ],
)  # fmt: skip
def test_who_may_be_a_person_is_asked_even_beside_a_device(name: str) -> None:
    """A table of devices alone would join nobody, so the column is named in a question."""
    found = proposed(
        table(no="user_id", device_id=UUIDS, **{name: [f"x{n % 9}" for n in range(40)]})
    )
    assert found.mapping.user_id is None
    assert found.mapping.anonymous_id == "device_id"
    (question,) = found.questions
    assert question.columns == (name,)
    assert question.answers[0] == f"user_id={name!r}"


def test_a_device_alone_is_assumed_aloud() -> None:
    """Other ids beside a device are no question; that nobody is known is said."""
    found = proposed(table(no="user_id", device_id=UUIDS, campaign_id=cycled("a1", "a2", "a3")))
    assert found.questions == ()
    assert found.mapping.user_id is None
    (assumption,) = found.assumptions
    assert "No column is the id of a known person" in assumption.text


@pytest.mark.parametrize(
    "cells",
    [
        cycled("iPhone14,2", "Pixel 8", "SM-A536B"),
        cycled(1, 2, 3, 4, 5, 6, 7),
        cycled("d1"),
        cycled(True, False),
        cycled(None),
    ],
)
def test_what_is_no_id_of_a_device(cells: list[Any]) -> None:
    """Models, keys of a table of models, constants and flags are no ids of devices."""
    found = proposed(table(device_id=cells)).mapping
    assert found.anonymous_id is None
    assert "device" not in found.context


def test_anonymous_ids_that_compete() -> None:
    """They are asked about only where rows have no other id."""
    two = {"anonymous_id": UUIDS, "visitor_id": UUIDS[::-1]}
    assert proposed(table(**two)).questions == ()
    assert proposed(table(**two)).mapping.anonymous_id is None
    found = proposed(table(user_id=[None, *(f"u{n}" for n in range(39))], **two))
    assert asked(found) == {"anonymous_id"}


def test_a_table_sorted_by_person() -> None:
    """The first rows are of few people, the table is of many."""
    frame = pd.DataFrame({"user_id": [f"u{row // 8_000}" for row in range(6_000 * 8)]})
    frame = pd.concat([frame, pd.DataFrame({"user_id": [f"v{row}" for row in range(600)]})])
    frame["event"], frame["event_time"] = (
        "app_open",
        pd.date_range("2020", periods=len(frame), freq="min"),
    )
    assert frame.cdp.plan().mapping.user_id == "user_id"
    few_people = frame.head(40_000)
    assert few_people.cdp.plan().mapping.user_id is None


def test_expressions_of_answers_are_sql() -> None:
    """They also fit names with quotes, spaces and capitals."""
    name = 'the "User" Id'
    cells = {name: [f"u-{row}" if row % 2 else f"guest-{row}" for row in range(40)]}
    assert asked(proposed(table(no="user_id", **cells))) == {"user_id"}
    for odd in ("User ID", "userId"):
        mixed = {odd: cells[name]}
        (question,) = proposed(table(no="user_id", **mixed)).questions
        keywords = eval(f"dict({question.answers[0]})")  # noqa: S307  # our own text
        frame = pd.DataFrame(mixed)  # noqa: F841  # DuckDB reads it by its name
        query = f"SELECT {keywords['derive']['person']} FROM frame"  # noqa: S608  # our own text
        rows = duckdb.execute(query).fetchall()
        assert sum(row[0] is None for row in rows) == 20


@pytest.mark.parametrize(
    "name",
    ["rider_id", "patientUuid", "DRIVER_NO", "guest_ref", "id_client", "numéro_abonné", "Kundennr",
     "loyalty_member_id", "registered_user_id", "client_no"],
)  # fmt: skip
def test_people_in_a_role_and_in_other_languages(name: str) -> None:
    """The only person of a table is its person, whatever the role and the order of the words."""
    found = proposed(table(no="user_id", **{name: [f"x{n % 9}00" for n in range(40)]}))
    assert found.mapping.user_id == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rider_id", "driver_id"), ("buyer_id", "seller_id"), ("patient_id", "nurse_id"),
        ("player_id", "manager_id"), ("id_cliente", "id_repartidor"), ("Kunden_ID", "Fahrer_ID"),
        ("customer_id", "seat_user_id"), ("user_id", "identity"), ("person_id", "distinct_id"),
        ("parent_id", "child_id"),
    ],
)  # fmt: skip
def test_two_people_in_a_row_are_asked_about(one: str, other: str) -> None:
    """Nobody but the user knows which of two people did it."""
    ids = {one: [f"a{n % 9}00" for n in range(40)], other: [f"b{n % 7}00" for n in range(40)]}
    found = proposed(table(no="user_id", **ids))
    assert found.mapping.user_id is None
    assert asked(found) == {"user_id"}


def test_a_user_is_who_uses_the_app() -> None:
    """Beside a user, people in a role are other people."""
    ids = [f"b{n % 7}00" for n in range(40)]
    assert proposed(table(driver_id=ids, seller_id=ids)).mapping.user_id == "user_id"


def test_a_role_whose_devices_are_shared_is_asked_about() -> None:
    """Where one device has several drivers, the app is in other hands than theirs."""
    devices = [UUIDS[n % 5] for n in range(40)]
    drivers = [f"d{n % 7}00" for n in range(40)]
    found = proposed(table(no="user_id", device_id=devices, driver_id=drivers))
    assert found.mapping.user_id is None
    assert "used by another person" in found.questions[0].text
    own = [f"d{n % 5}00" for n in range(40)]
    assert proposed(table(no="user_id", device_id=devices, driver_id=own)).mapping.user_id


@pytest.mark.parametrize("name", ["idfa", "gaid", "advertising_id", "imei"])
def test_a_user_who_is_an_advertising_id_is_asked_about(name: str) -> None:
    """Such an id is no person, and nothing to send by accident."""
    found = proposed(table(no="user_id", user=UUIDS, **{name: UUIDS}))
    assert found.mapping.user_id is found.mapping.anonymous_id is None
    assert asked(found) == {"user_id"}


def test_a_row_number_is_no_role() -> None:
    """Numbers that count the rows are of the table."""
    found = proposed(table(no="user_id", respondent_no=list(range(1, 41))))
    assert found.mapping.user_id is None


def test_an_empty_column_of_people_is_no_question_beside_devices() -> None:
    """Where nobody ever logged in, the device is who."""
    found = proposed(table(no="user_id", user_id=[None] * 40, device_id=UUIDS))
    assert found.mapping.anonymous_id == "device_id"
    assert found.questions == ()
