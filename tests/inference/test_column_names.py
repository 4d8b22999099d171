"""What a name says: whole words, heads and neutral modifiers."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.inference.column_names import (
    RULES,
    core_words,
    is_version_name,
    rank,
    split_words,
)
from cdp_backfill.inference.personal_data import named_personal
from tests.inference.proposing import asked, proposed, table

# Words that no rule knows, each of another thing than a person.
UNSEEN = [
    "aircraft",
    "airline",
    "airport",
    "album",
    "alert",
    "allergy",
    "alliance",
    "allocation",
    "ambulance",
    "amenity",
    "ancestor",
    "animal",
    "annex",
    "antenna",
    "apartment",
    "appliance",
    "appointment",
    "arena",
    "armory",
    "article",
    "asset",
    "assignment",
    "auction",
    "audience",
    "author",
    "avatar",
    "badge",
    "bakery",
    "ballot",
    "barcode",
    "basket",
    "battery",
    "beacon",
    "bed",
    "bill",
    "board",
    "boiler",
    "bond",
    "book",
    "booking",
    "booth",
    "bouquet",
    "branch",
    "brewery",
    "bridge",
    "broadcast",
    "bucket",
    "budget",
    "building",
    "bundle",
    "bus",
    "business",
    "cabin",
    "cable",
    "cafe",
    "calendar",
    "camera",
    "campaign",
    "canal",
    "candidate",
    "capsule",
    "car",
    "cargo",
    "cart",
    "case",
    "cashier",
    "category",
    "cell",
    "certificate",
    "chain",
    "channel",
    "chapter",
    "charger",
    "chat",
    "checklist",
    "checkout",
    "chunk",
    "church",
    "circle",
    "city",
    "class",
    "clinic",
    "club",
    "cluster",
    "coach",
    "code",
    "collection",
    "college",
    "color",
    "comment",
    "committee",
    "company",
    "competition",
    "component",
    "condition",
    "conference",
    "connector",
    "container",
    "contest",
    "contract",
    "conversation",
    "cookie",
    "corridor",
    "country",
    "coupon",
    "course",
    "court",
    "crane",
    "creative",
    "creature",
    "credit",
    "crew",
    "crop",
    "cuisine",
    "curriculum",
    "currency",
    "dashboard",
    "dataset",
    "deal",
    "debt",
    "delivery",
    "department",
    "deposit",
    "desk",
    "destination",
    "dish",
    "district",
    "division",
    "dock",
    "document",
    "dog",
    "domain",
    "donation",
    "door",
    "draft",
    "drone",
    "edition",
    "elevator",
    "engine",
    "entry",
    "episode",
    "equipment",
    "errand",
    "estate",
    "exam",
    "exhibit",
    "expense",
    "experiment",
    "export",
    "extension",
    "facility",
    "factory",
    "family",
    "farm",
    "feature",
    "feed",
    "fence",
    "ferry",
    "festival",
    "field",
    "file",
    "film",
    "fleet",
    "flight",
    "floor",
    "folder",
    "forum",
    "fragment",
    "franchise",
    "freight",
    "fund",
    "gallery",
    "game",
    "garage",
    "gate",
    "gateway",
    "genre",
    "gift",
    "goal",
    "grant",
    "graph",
    "group",
    "guild",
    "gym",
    "harbour",
    "hazard",
    "heater",
    "hotel",
    "incident",
    "industry",
    "ingredient",
    "inspection",
    "instrument",
    "insurance",
    "inventory",
    "invoice",
    "island",
    "issue",
    "itinerary",
    "journal",
    "journey",
    "keyword",
    "kiosk",
]

KNOWN_WORDS = {
    word
    for rule in RULES.values()
    for words in (*rule.heads, rule.before, rule.after)
    for word in words
}
unknown_words = st.text(string.ascii_lowercase, min_size=3, max_size=9).filter(
    lambda word: split_words(word) == (word,) and word not in KNOWN_WORDS
)


@pytest.mark.parametrize("word", UNSEEN)
def test_unseen_modifiers_end_in_a_question(word: str) -> None:
    """Any word before _id that is not known, however it is written, leads to a question."""
    for name in (f"{word}_id", f"{word.title()}Id", f"{word}_user_group_id", f"{word}_user_id"):
        found = proposed(table(no="user_id", **{name: [f"x{row % 9}" for row in range(40)]}))
        assert found.mapping.user_id is None
        assert found.mapping.anonymous_id is None
        assert "user_id" in asked(found)


def test_unseen_modifiers_are_many() -> None:
    """There are two hundred of them, each once."""
    assert len(set(UNSEEN)) >= 200


@given(unknown_words)
def test_no_unknown_word_before_an_id_is_a_person(word: str) -> None:
    """No invented word before _id, _user_id or _uid makes a person, a device or a message of it."""
    for name in (f"{word}_id", f"{word}_user_id", f"{word}_uid", f"{word}Uuid"):
        for field in ("user_id", "anonymous_id", "message_id"):
            assert rank(name, field) is None


@given(st.sampled_from(sorted(RULES)), unknown_words, st.data())
def test_one_unknown_word_is_enough(field: str, word: str, data: st.DataObject) -> None:
    """A name for a field is for none with an unknown word before, inside or behind it."""
    head = data.draw(st.sampled_from(sorted(RULES[field].heads)))
    assert RULES[field].rank(head) is not None
    place = data.draw(st.integers(0, len(head)))
    assert RULES[field].rank((*head[:place], word, *head[place:])) is None


@given(st.sampled_from(sorted(RULES)), st.data())
def test_ways_of_writing_are_one(field: str, data: st.DataObject) -> None:
    """Snake, kebab, camel and Pascal case, spaces and dots, capitals: the same name."""
    head = data.draw(st.sampled_from(sorted(RULES[field].heads)))
    if any(not word.isalpha() or len(word) == 1 for word in head):
        return
    wanted = rank("_".join(head), field)
    assert wanted is not None
    camel = head[0] + "".join(word.title() for word in head[1:])
    for name in (
        "-".join(head),
        " ".join(head).upper(),
        ".".join(head),
        camel,
        camel[:1].upper() + camel[1:],
        f"payload_{'_'.join(head)}",
    ):
        found = rank(name, field)
        if not (name.startswith("payload_") and len(head) == 1):
            assert found is not None, name


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("userID", "user_id"),
        ("USERID", "user_id"),
        ("CUST_ID", "user_id"),
        ("cust_no", "user_id"),
        ("external_user_id", "user_id"),
        ("app_user_id", "user_id"),
        ("user_id_sha256", "user_id"),
        ("Kundennummer", "user_id"),
        ("properties.$device_id", "anonymous_id"),
        ("AppsFlyer ID", "anonymous_id"),
        ("eventTimeUTC", "timestamp"),
        ("event_ts_ms", "timestamp"),
        ("OccurredUtc", "timestamp"),
        ("createdat", "timestamp"),
        ("EVT_NM", "event"),
        ("iOSVersion", "context.os.version"),
        ("OSVersion", "context.os.version"),
        ("mobileModelName", "context.device.model"),
        ("CFBundleShortVersionString", "properties.version"),
        ("geoip_country_code", "context.location.country"),
    ],
)
def test_neutral_words(name: str, field: str) -> None:
    """What apps, warehouses and languages add to a name does not change it."""
    assert rank(name, field) is not None


@pytest.mark.parametrize(
    "name",
    [
        "network_account_id", "account_id", "message_uid", "record_uid", "order_user", "company_id",
        "user_group_id", "user_session_id", "user_type", "user_agent_id", "member_level",
        "customer_segment_id", "created_by_user_id", "referrer_user_id", "admin_user_id",
        "client_id",
        "tenant_id", "worker_id", "host_id", "profile_id", "contact_id", "external_id",
        "amplitude_id",
        "data_id", "vendor_id", "ad_id", "user_count", "customer_since",
    ],
)  # fmt: skip
def test_other_things_than_a_person(name: str) -> None:
    """An account, a network, a message, a group, a guest: no name of a person's id."""
    assert rank(name, "user_id") is None


@pytest.mark.parametrize(
    "name",
    [
        "loaded_at", "event_received_at", "ingest_time", "synced_at", "export_date", "emitted_at",
        "_airbyte_extracted_at", "_fivetran_synced", "partition_time", "dt", "ds", "birth_date",
        "expires_at", "valid_until", "renewal_date", "billing_date", "invoice_date", "updated_at",
        "modified_on", "sent_at", "uploaded_at", "processed_time", "server_time",
        "collector_tstamp",
        "first_seen_at", "last_seen_at", "signup_date", "session_start_time",
        "scheduled_at",
        "event_end_time", "order_time", "user_created_at", "account_created_at", "kafka_ts",
        "block_ts",
    ],
)  # fmt: skip
def test_other_times_than_that_of_the_event(name: str) -> None:
    """Loading, receiving, syncing, exporting, billing, birth, expiry and partitions."""
    assert rank(name, "timestamp") is None


def test_wrappers_are_stripped() -> None:
    """What exports put before all names goes, but never from a word that then says nothing."""
    assert core_words("context_device_model") == ("device", "model")
    assert core_words("event_params_previous_app_version") == ("previous", "app", "version")
    assert core_words("payload_name") == ("payload", "name")
    assert core_words("event_properties") == ("event", "property")


@pytest.mark.parametrize(
    ("name", "is_version"),
    [
        ("plugin_version", True),
        ("App Ver", True),
        ("sdkVersionName", True),
        ("version_from", True),
        ("version_count", False),
        ("conversion", False),
        ("versioned", False),
    ],
)
def test_versions_by_name(name: str, is_version: bool) -> None:  # a table
    """Columns whose zeros are kept in files."""
    assert is_version_name(name) is is_version


@pytest.mark.parametrize("part", ["osid", "id ", "user_", "context_", "x"])
def test_names_without_end_are_read_at_once(part: str) -> None:
    """A name of a megabyte costs no more than its beginning and its end."""
    name = part * (1_000_000 // len(part)) + "_email"
    started = time.process_time()
    assert split_words(name)[-1] == "email"
    assert core_words(name)[-1] == "email"
    assert named_personal(name) == "an e-mail address"
    assert rank(name, "user_id") is None
    assert time.process_time() - started < 1
