"""Keywords add to what is proposed, and replace only what they name, however many there are."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from cdp_backfill import Mapping, key, lit
from cdp_backfill.inference import presets
from cdp_backfill.inference.presets.merging import add_fields
from tests.inference.proposing import ROWS, cycled, proposed, table

TABLE: Final = table(
    device_id=[f"0f3b{row % 9}c1a-55d1-4a1b-9c1d-0123456789ab" for row in range(ROWS)],
    app_version=cycled("1.10", "1.2"),
    os_name=cycled("iOS", "Android"),
    email=[f"a{row}@example.com" for row in range(ROWS)],
    plan_tier=cycled("free", "NULL"),
    note=cycled("NULL", "b"),
    extra=[f"e{row}" for row in range(ROWS)],
    other=[f"o{row}" for row in range(ROWS)],
    blob=cycled('{"k": 1}'),
    params=cycled('{"z": 1}'),
    bag=cycled('{"y": 1}'),
    seconds=[1_683_000_000 + row for row in range(ROWS)],
)

KEYWORDS: Final[dict[str, Any]] = {
    "user_id": "extra",
    "anonymous_id": "other",
    "event": lit("Application Opened"),
    "timestamp": "seconds",
    "timestamp_unit": "s",
    "timezone": "Europe/Berlin",
    "date_order": "DMY",
    "nonexistent": "shift_forward",
    "ambiguous": "latest",
    "message_id": key("extra"),
    "properties": {"tier": "plan_tier", "more": {"x": lit(1)}},
    "context": {"device": {"model": "plan_tier"}, "locale": lit("de")},
    "integrations": {"All": lit(False)},
    "events": {"app_open": "Application Foregrounded", "mine": "Application Opened"},
    "other_events": "skip",
    "allow_commands": ("User Deleted",),
    "rest": "properties",
    "drop": ("note",),
    "derive": {"new": "upper(extra)"},
    "expand": ("bag",),
    "json": ("blob",),
    "types": {"seconds": "int64"},
    "nulls": ("-",),
    "earliest": "2020-01-01",
    "oversize": "drop_largest",
    "droppable": ("params",),
    "duplicates": "skip",
}
NO_KEYWORD: Final = {"call", "traits"}  # identify= makes such a mapping
TOGETHER: Final = ({"oversize", "droppable"}, {"timestamp", "timestamp_unit"})

subsets = st.sets(st.sampled_from(sorted(KEYWORDS))).map(
    lambda names: names.union(*(both for both in TOGETHER if names & both))
)


def leaves(tree: dict[str, Any], *path: str) -> dict[tuple[str, ...], Any]:
    """The leaves of a nested dict."""
    result: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        result |= leaves(value, *path, name) if isinstance(value, dict) else {(*path, name): value}
    return result


def check(before: Mapping, after: Mapping, names: set[str], free: set[str]) -> None:
    """What the keywords name is theirs, and all else is as it was, but for some free fields."""
    for item in fields(Mapping):
        mine, both = getattr(before, item.name), getattr(after, item.name)
        theirs = KEYWORDS[item.name] if item.name in names else None
        if isinstance(theirs, dict) and item.name != "types":
            assert leaves(both) == leaves(mine) | leaves(theirs), item.name
        elif isinstance(theirs, tuple):
            assert set(both) == {*mine, *theirs}, item.name
        elif theirs is not None:
            assert both == theirs, item.name
        elif item.name not in free:
            assert both == mine, item.name


def test_each_field_of_a_mapping_is_among_the_keywords() -> None:
    """A new field is tested here, too."""
    assert {item.name for item in fields(Mapping)} == {*KEYWORDS, *NO_KEYWORD}


@settings(max_examples=25)
@given(subsets)
def test_keywords_add_to_a_proposal(names: set[str]) -> None:
    """Any number of keywords: the others are proposed as if there were none."""
    before = proposed(TABLE).mapping
    passed = {name: KEYWORDS[name] for name in names}
    after = proposed(TABLE, Mapping(**passed), **passed).mapping
    # A constant event has no spellings to translate.
    before = replace(before, events={}) if "event" in names else before
    check(before, after, names, set())


@settings(max_examples=20)
@given(subsets, st.sampled_from(presets.names()[::7]), st.booleans())
def test_keywords_add_to_a_preset(names: set[str], preset: str, has_drop: bool) -> None:
    """The same for presets; with another time, their unit and their zone end."""
    before = presets.load(preset).mapping
    if has_drop:
        before = replace(before, rest="properties", drop=["extra", "surplus"])
    after = add_fields(before, {name: KEYWORDS[name] for name in names})
    free = {"timestamp_unit", "date_order", "timezone"} if "timestamp" in names else set()
    if "user_id" in names:  # a column that a keyword names is no longer left out
        before = replace(before, drop=[name for name in before.drop if name != "extra"])
    check(before, after, names, free)
