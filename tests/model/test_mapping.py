"""The declaration of what goes where."""

from __future__ import annotations

import copy
import pickle
import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill import Mapping, MappingError, lit
from cdp_backfill.messages import bind

if TYPE_CHECKING:
    from pathlib import Path

FULL = Mapping(
    user_id="uid",
    anonymous_id="device",
    event="action",
    timestamp="ts",
    timestamp_unit="ms",
    timezone="Europe/Berlin",
    message_id="id",
    properties={"version": "v", "plan": lit("pro"), "nested": {"deep": "x", "lit": "y"}},
    context={"device": {"model": "phone", "type": lit("ios")}, "locale": "loc"},
    integrations={"All": False, "Mixpanel": "mp"},
    events={"open": "Application Opened", 7: "Application Crashed", True: "Application Updated"},
    other_events="skip",
    rest="drop",
)
columns = st.text(min_size=1, max_size=8)
sources = columns | st.builds(lit, st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans())
trees = st.recursive(
    st.dictionaries(columns, sources, max_size=3),
    lambda below: st.dictionaries(columns, sources | below, max_size=3),
    max_leaves=6,
)


@given(
    st.builds(
        Mapping,
        user_id=st.none() | sources,
        timestamp=st.none() | sources,
        properties=trees,
        events=st.dictionaries(st.text(), st.just("Application Opened"), max_size=3),
        other_events=st.sampled_from(["invalid", "skip", "send"]),
    )
)
def test_toml_gives_back_what_was_saved(mapping: Mapping) -> None:
    """Any mapping survives being written as TOML and read again."""
    assert Mapping.from_toml(mapping.to_toml()) == mapping


def test_every_field_survives_toml_pickle_and_copy(tmp_path: Path) -> None:
    """A mapping that uses every field is the same after each way of moving it."""
    FULL.save(tmp_path / "m.toml")
    assert Mapping.load(tmp_path / "m.toml") == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL  # noqa: S301  # our own bytes
    assert copy.deepcopy(FULL) == FULL
    assert FULL.events == {
        "open": "Application Opened",
        "7": "Application Crashed",
        "true": "Application Updated",
    }


def test_a_mapping_does_not_follow_the_dict_it_was_made_of() -> None:
    """Changing the dict afterwards does not change the mapping."""
    tree = {"device": {"model": "phone"}}
    mapping = Mapping(context=tree)
    tree["device"]["model"] = "other"
    assert mapping.context == {"device": {"model": "phone"}}


def test_repr_shows_only_what_was_given() -> None:
    """The repr is short and can be read as Python."""
    mapping = Mapping(user_id="uid", event=lit("Application Opened"), rest="drop")
    assert repr(mapping) == "Mapping(user_id='uid', event=lit('Application Opened'), rest='drop')"
    assert eval(repr(mapping), {"Mapping": Mapping, "lit": lit}) == mapping  # noqa: S307


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"user_id": 3}, "user_id must be a column name or a constant"),
        ({"properties": ["a"]}, "properties must be a dict"),
        ({"properties": {"a": None}}, "is None"),
        ({"properties": {3: "a"}}, "must be text"),
        ({"other_events": "drop"}, "other_events must be one of 'invalid', 'skip', 'send'"),
        ({"rest": "keep"}, "rest must be one of"),
        ({"timestamp_unit": "sec"}, "timestamp_unit must be one of"),
        ({"timezone": "Mars/Base"}, "timezone 'Mars/Base' is unknown"),
        ({"context": {"devise": {"model": "m"}}}, r"no context\.devise\. Did you mean 'device'"),
        ({"context": {"device": {"modle": "m"}}}, r"device\.modle\. Did you mean 'model'"),
        ({"context": {"device": "m"}}, "holds further fields"),
        ({"context": {"locale": {"x": "m"}}}, "is a single value"),
        ({"integrations": {"All": lit("no")}}, "must be True, False or a column"),
        ({"integrations": {"All": {"x": "c"}}}, "must be True, False or a column"),
        ({"event": lit("Aplication Opened")}, "Did you mean 'Application Opened'"),
        ({"event": lit(" ")}, "must be text that is not empty"),
        ({"events": {"x": "Opened"}}, "not one of the seven"),
        ({"events": {1.5: "Application Opened"}}, "keys of events must be text"),
        ({"events": ["x"]}, "events must be a dict"),
    ],
)
def test_a_wrong_argument_gets_one_clear_error(arguments: dict[str, Any], words: str) -> None:
    """A mapping that is wrong in itself raises before there is any table."""
    with pytest.raises(MappingError, match=words):
        Mapping(**arguments)


@pytest.mark.parametrize("value", [None, float("nan"), {1: 2}, {1, 2}, [None], b"x"])
def test_a_constant_must_be_json(value: Any) -> None:
    """``lit`` takes what JSON can say, and not nothing."""
    with pytest.raises(MappingError):
        lit(value)


def test_a_tuple_is_a_list() -> None:
    """A constant is the same before and after it was saved."""
    mapping = Mapping(properties={"x": lit((1, (2, 3)))})
    assert Mapping.from_toml(mapping.to_toml()) == mapping


def test_any_event_name_with_send() -> None:
    """The API takes any event name; a constant one must be wanted aloud."""
    assert Mapping(event=lit("Order Completed"), other_events="send").event


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user_id = ", "valid TOML"),
        (f"user_id = {'[' * 9_000}{']' * 9_000}", "nested too deeply"),
        (f"user_id = '{'x' * 2**24}'", "more than 16,777,216 characters"),
        (f"{'a.' * 500_000}a = 'x'", "nested too deeply"),
        (f"[properties.{chr(34)}a{chr(34)}{' . b' * 300_000}]", "nested too deeply"),
        (f"p = {{ x = {chr(34) * 3} {chr(34)} {chr(34) * 3}, {'a.' * 500_000}a = 'x' }}", "nested"),
        (f"p = {{ x = {chr(39) * 3}{chr(34)}{chr(39) * 4}, {'a.' * 500_000}a = 'x' }}", "nested"),
        (f"p = {{ {(chr(34) + chr(92) + chr(34) * 2 + '.') * 90_000}a = 'x' }}", "nested"),
        (f"properties = {'{a=' * 200}'x'{'}' * 200}", "nested too deeply"),
        (f"properties = {{ a = {'[' * 90}{']' * 90} }}", "nested too deeply"),
        (f"user_id = {'1' * 5_000}", "valid TOML: .*digits"),
        ("user = 'x'", "Did you mean 'user_id'"),
        ("rest = 3", "rest"),
    ],
)
def test_toml_that_is_no_mapping(text: str, words: str) -> None:
    """A file that is wrong says what is wrong."""
    with pytest.raises(MappingError, match=words):
        Mapping.from_toml(text)


def test_toml_of_a_wide_table() -> None:
    """The mapping of a table with as many columns as may be is read back, and so is any text."""
    columns = {f"column_{'x' * 50}_{n}": "int64" for n in range(20_000)}
    dots = Mapping(
        event=lit("a.b" * 1_000), other_events="send", properties={"x": lit("...' \n.a")}
    )
    for mapping in (Mapping(user_id="uid", types=columns), dots):
        assert Mapping.from_toml(mapping.to_toml()) == mapping


def test_a_missing_file(tmp_path: Path) -> None:
    """A mapping file that is not there gets our error, not Python's."""
    with pytest.raises(MappingError, match="cannot be read"):
        Mapping.load(tmp_path / "no.toml")


SCHEMA = pa.schema(
    [
        ("customer_id", pa.int64()),
        ("ts", pa.timestamp("us")),
        ("epoch", pa.int64()),
        ("flag", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("at", pa.time64("us")),
        ("odd", pa.month_day_nano_interval()),
        ("version", pa.string()),
        ("raw", pa.binary()),
    ]
)
GOOD: dict[str, Any] = {
    "user_id": "customer_id",
    "event": lit("Application Opened"),
    "timestamp": "ts",
    "rest": "drop",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_id": "customerId"}, "no column 'customerId'. Did you mean 'customer_id'"),
        ({"user_id": "zzz"}, r"The table has 'customer_id', 'ts'.*lit\('zzz'\)"),
        ({"properties": {"x": {"y": "vesion"}}}, "Did you mean 'version'"),
        ({"event": None}, "has no event"),
        ({"timestamp": None}, "has no timestamp"),
        ({"user_id": None}, "has no user id"),
        ({"user_id": "tags"}, "user_id needs text or a whole number, but column 'tags'"),
        ({"user_id": "ts"}, "Convert it, or name another column"),
        ({"event": "tags"}, "event needs text"),
        ({"timestamp": "flag"}, "timestamp needs times"),
        ({"timestamp": "at"}, "timestamp needs times"),
        ({"timestamp_unit": "ms"}, "with a unit of their own"),
        ({"properties": {"version": "tags"}}, r"properties\.version needs text or numbers"),
        ({"properties": {"from_background": "ts"}}, "needs booleans"),
        ({"properties": {"x": "odd"}}, "JSON has no counterpart of the type"),
        ({"context": {"network": {"wifi": "raw"}}}, r"context\.network\.wifi needs booleans"),
        ({"properties": {"version": lit("1")}, "rest": "properties"}, "column 'odd'"),
        ({"properties": {"x": lit([1, "a"])}}, "values of one type"),
    ],
)
def test_a_mapping_that_does_not_fit_the_table(change: dict[str, Any], words: str) -> None:
    """A mapping that can never work raises from the columns alone, and names the nearest one."""
    with pytest.raises(MappingError, match=words):
        bind(Mapping(**(GOOD | change)), SCHEMA)


def test_a_column_that_would_hide_another_value() -> None:
    """Two sources for one property are a question, not a guess."""
    schema = pa.schema([("u", pa.string()), ("t", pa.date32()), ("version", pa.string())])
    mapping = Mapping(
        user_id="u", timestamp="t", event=lit("Application Opened"), properties={"version": "u"}
    )
    with pytest.raises(MappingError, match="'version' would become the property"):
        bind(mapping, schema)


def test_rest_leaves_bookkeeping_out() -> None:
    """The columns of a report and pandas' unnamed index never become properties."""
    frame = pd.DataFrame({"u": ["a"], "t": ["2023-01-01"], "x": [1], "cdp_code": ["oversize"]})
    schema = pa.Schema.from_pandas(frame).append(pa.field("__index_level_0__", pa.int64()))
    binding = bind(Mapping(user_id="u", timestamp="t", event=lit("Application Opened")), schema)
    assert binding.columns == ("u", "t", "x")


def test_columns_to_drop() -> None:
    """They stay out of what rest makes properties, and are kept in the file."""
    mapping = Mapping(user_id="u", drop=["email", "email", "ip"])
    assert mapping.drop == ("email", "ip")
    assert mapping.columns() == ["u", "email", "ip"]
    assert mapping.sources() == ["u"]
    assert Mapping.from_toml(mapping.to_toml()) == mapping
    assert "columns that are left out" in mapping._repr_html_()
    assert Mapping(rest="all").rest == "all"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop": ["a"], "rest": "all"}, "rest='all' sends every column"),
        ({"drop": ["a"], "user_id": "a"}, "'a', which also fills a field"),
        ({"drop": ["a"], "context": {"os": {"name": "a"}}}, "'a', which also fills a field"),
        ({"drop": ["a"], "expand": ["a"]}, "'a', which also fills a field"),
        ({"drop": "a"}, "drop must be a list of column names"),
        ({"rest": "some"}, "'properties', 'all', 'drop'"),
    ],
)
def test_drop_contradicts_nothing(fields: dict[str, Any], message: str) -> None:
    """A column cannot be both sent and left out."""
    with pytest.raises(MappingError, match=re.escape(message)):
        Mapping(**fields)


IDENTIFY = Mapping(
    call="identify",
    user_id="uid",
    anonymous_id="did",
    traits={"plan": "tariff", "home": {"city": "town"}, "source": lit("import")},
    integrations={"All": False},
)


def test_a_mapping_of_identify_calls() -> None:
    """It is complete with both ids, survives TOML, names its columns, and shows what it is."""
    assert Mapping.from_toml(IDENTIFY.to_toml()) == IDENTIFY
    assert IDENTIFY.complete
    assert IDENTIFY.columns() == ["uid", "did", "tariff", "town"]
    assert not Mapping(call="identify", user_id="uid").complete
    shown = IDENTIFY._repr_html_()
    assert "Mapping of identify calls" in shown
    assert "traits.home.city" in shown
    assert "Nothing can be sent without" not in shown
    assert "anonymous_id" in Mapping(call="identify", user_id="uid")._repr_html_()


def test_identify_calls_leave_out_what_is_not_named() -> None:
    """Only named columns become traits, and only the ids and these are read."""
    schema = pa.schema([(name, pa.string()) for name in ("uid", "did", "tariff", "town", "more")])
    binding = bind(IDENTIFY, schema)
    assert binding.columns == ("uid", "did", "tariff", "town")
    assert binding.guard_columns == ("uid", "did")
    with pytest.raises(MappingError, match="no user id or no anonymous id"):
        bind(Mapping(call="identify", user_id="uid"), schema)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"traits": {"a": "b"}}, "traits= belongs to call='identify'"),
        ({"call": "identify", "event": lit("Application Opened")}, "takes no event="),
        ({"call": "identify", "timestamp": "ts"}, "takes no timestamp="),
        ({"call": "identify", "rest": "drop"}, "takes no rest="),
        ({"call": "alias"}, "call must be"),
    ],
)
def test_what_belongs_to_another_call(arguments: dict[str, Any], words: str) -> None:
    """A field that would be ignored is refused."""
    with pytest.raises(MappingError, match=words):
        Mapping(**arguments)
