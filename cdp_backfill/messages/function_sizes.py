"""How large what SQL functions make of their arguments is at most."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import duckdb

from cdp_backfill.messages.expression_limits import MAX_SIZE
from cdp_backfill.messages.size_polynomials import LEAST, Polynomial
from cdp_backfill.model.interrupts import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Kind = Literal["fixed", "text", "other"]
"""A value of few bytes, whatever is in it; a text; or anything else, such as a list."""

_LITTLE: Final = Polynomial({(): float(LEAST)})
_SHORT: Final = Polynomial({(): 128.0})
"""A text such as that of a number, a time or a digest."""
_NOTHING: Final = Polynomial({})

_PARSING: Final = 20.0
"""What reading JSON, or splitting a text, needs for a while, in sizes of the text."""

_UNKNOWN: Final = 20.0
"""How much larger the result of any other function is: a list of characters counts 17 for each."""

_UNKNOWN_TEXT: Final = 8.0
"""The same for a text, or for JSON, which escapes what is in it."""

_FACTORS: Final = {
    **dict.fromkeys(("lower", "upper", "lcase", "ucase", "hex", "to_hex", "strip_accents"), 2.0),
    **dict.fromkeys(("base64", "to_base64", "encode", "list_grade_up"), 2.0),
    **dict.fromkeys(("nfc_normalize", "translate", "url_encode"), 4.0),
}

_ARITHMETIC: Final = frozenset(
    {"+", "-", "*", "/", "//", "%", "**", "^", "&", "|", "<<", ">>", "~", "@", "!", "add"}
    | {"subtract", "multiply", "divide", "mod", "abs", "round", "trunc", "sign", "xor"}
)
"""Functions of numbers that also have a form for lists, bits or numbers of any length."""

_CHOOSING: Final = frozenset({"greatest", "least", "if", "ifnull", "coalesce", "nullif"})

_JOINING: Final = frozenset(
    {"||", "concat", "struct_pack", "row", "struct_insert", "struct_update", "struct_concat"}
    | {"list_value", "list_pack", "array_value", "map", "map_from_entries", "map_concat"}
    | {"list_concat", "list_cat", "array_concat", "array_cat", "list_append", "list_prepend"}
    | {"array_append", "array_prepend", "array_push_back", "array_push_front"}
)
_TAKING: Final = frozenset(
    {"trim", "ltrim", "rtrim", "substring", "substr", "left", "right", "reverse", "array_slice"}
    | {"list_slice", "list_extract", "array_extract", "list_element", "struct_extract", "flatten"}
    | {"struct_extract_at", "map_extract", "map_extract_value", "element_at", "list_sort"}
    | {"array_sort", "list_reverse_sort", "array_reverse_sort", "list_distinct", "array_distinct"}
    | {"list_reverse", "array_reverse", "array_pop_back", "array_pop_front", "list_where"}
    | {"map_keys", "map_values", "map_entries", "list_intersect", "list_min", "list_max"}
    | {"list_first", "list_last", "list_any_value", "split_part", "regexp_extract", "list_sum"}
)
_KEEPING: Final = frozenset(
    {"list_sort", "list_reverse_sort", "list_distinct", "list_reverse", "list_slice", "list_where"}
    | {"array_sort", "array_distinct", "array_reverse", "array_slice", "list_intersect"}
    | {"list_concat", "list_cat", "array_concat", "array_cat", "array_pop_back", "array_pop_front"}
)
"""Functions whose result has the items of their first argument."""

_JSON_TAKING: Final = frozenset(
    {"->", "->>", "json_extract", "json_extract_string", "json_extract_path", "json_value"}
    | {"json_extract_path_text", "json_keys", "json_type", "json_exists", "json_array_length"}
)
_RECURSIVE: Final = re.compile(r"\.\.|\*\*")
"""A path of JSON to values at all levels."""

_MULTIPLYING: Final = frozenset(
    {"list_aggregate", "list_aggr", "array_aggregate", "array_aggr", "aggregate"}
    | {"array_to_string", "array_to_string_comma_default", "concat_ws", "list_select"}
    | {"array_select", "switch"}
)
"""Functions that can put one argument beside each item of another one."""

_DIGESTS: Final = frozenset(
    {"md5", "sha1", "sha256", "typeof", "dayname", "monthname", "chr", "to_base", "format_bytes"}
)
_FIXED_TYPES: Final = frozenset(
    {"boolean", "bool", "logical", "tinyint", "smallint", "integer", "int", "int1", "int2", "int4"}
    | {"int8", "int16", "int32", "int64", "int128", "bigint", "long", "short", "signed", "oid"}
    | {"utinyint", "usmallint", "uinteger", "ubigint", "uint8", "uint16", "uint32", "uint64"}
    | {"hugeint", "uhugeint", "float", "float4", "float8", "real", "double", "decimal", "dec"}
    | {"numeric", "date", "time", "timestamp", "timestamptz", "timetz", "datetime", "interval"}
    | {"timestamp with time zone", "time with time zone", "timestamp_s", "timestamp_ms", "uuid"}
    | {"timestamp_us", "timestamp_ns", "timestamptz_ns", "time_ns"}
)
_TEXT_TYPES: Final = frozenset({"varchar", "text", "string", "char", "bpchar", "nvarchar"})


@dataclass(frozen=True)
class Estimate:
    """What a part of an expression makes of a row.

    Attributes:
        size: Bytes of its value at most.
        cost: Bytes of all that is made on the way to it.
        kind: What the value is.
        items: What the items of the value are.
        names: Characters of the longest name of a field inside its type.
    """

    size: Polynomial = _LITTLE
    cost: Polynomial = _NOTHING
    kind: Kind = "fixed"
    items: Kind = "other"
    names: int = 0


def kind_of_type(name: str) -> Kind:
    """What values of a type are, by its name in SQL without arguments.

    >>> kind_of_type("BIGINT"), kind_of_type("text"), kind_of_type("list")
    ('fixed', 'text', 'other')
    """
    name = name.casefold()
    return "fixed" if name in _FIXED_TYPES else "text" if name in _TEXT_TYPES else "other"


def constant(literal: dict[str, Any]) -> Estimate:
    """A number or a text that an expression writes out."""
    if literal.get("kind") != "STRING":
        return Estimate()
    size = float(LEAST + len(str(literal["text"]).encode(errors="replace")))
    return Estimate(Polynomial({(): size}), kind="text")


def chosen(options: Iterable[Estimate]) -> Estimate:
    """One of several values."""
    options = list(options)
    return Estimate(
        Polynomial.largest(each.size for each in options),
        kind=_common(each.kind for each in options),
        items=_common(each.items for each in options),
        names=max((each.names for each in options), default=0),
    )


def cast(type_node: dict[str, Any], value: Estimate) -> Estimate:
    """A value in another type.

    Args:
        type_node: The type, as DuckDB writes it as JSON.
        value: What is cast.
    """
    name = str(type_node.get("type_name", ""))
    kind = kind_of_type(name)
    if kind == "fixed":
        return Estimate()
    if kind == "text":
        return Estimate(_as_text([value]), kind="text")
    if name.casefold() == "json":
        return Estimate(_as_text([value]) * 2.0, value.size * _PARSING, kind="other")
    inner = [each for each in type_node.get("children") or () if each.get("type_name")]
    items = kind_of_type(str(inner[0]["type_name"])) if inner and name == "list" else "other"
    size = value.size * _UNKNOWN + _empty(type_node)
    return Estimate(size, kind="other", items=items, names=len(str(type_node)))


def _empty(type_node: dict[str, Any]) -> float:
    """Bytes of a value of a type without contents: an array has all of its items even then."""
    inner = list(type_node.get("children") or ())
    size = sum(_empty(each) for each in inner if each.get("class") == "TYPE") + LEAST
    if str(type_node.get("type_name")).casefold() == "array":
        size *= float(inner[-1].get("literal", {}).get("text", 1))
    return float(size)


@dataclass(frozen=True)
class _Call:
    """A call of a function.

    Attributes:
        function: Its name in lower case.
        arguments: Its arguments, as DuckDB writes them as JSON.
        made: What they are.
        kind: What DuckDB says that the result is.
        items: What DuckDB says that the items of the result are.
        names: Characters of the names of fields in the arguments.
    """

    function: str
    arguments: list[dict[str, Any]]
    made: list[Estimate]
    kind: Kind
    items: Kind
    names: int

    @property
    def total(self) -> Polynomial:
        return Polynomial.total(each.size for each in self.made)

    def size(self, place: int) -> Polynomial:
        """The size of an argument, even of one that is left out."""
        return self.made[place].size if place < len(self.made) else _LITTLE

    def number(self, place: int) -> float:
        """The number that an argument writes out, or the largest that is allowed."""
        try:
            return min(float(self.text(place)), float(MAX_SIZE))
        except ValueError:
            return float(MAX_SIZE)

    def text(self, place: int) -> str:
        """The text that an argument writes out, or an empty one."""
        node = self.arguments[place] if place < len(self.arguments) else {}
        return str((node.get("literal") or {}).get("text", ""))


def called(
    function: str, arguments: list[dict[str, Any]], made: list[Estimate], names: int = 0
) -> Estimate:
    """The result of a function. Its cost is that of the function alone.

    Args:
        function: Its name in lower case.
        arguments: Its arguments, as DuckDB writes them as JSON.
        made: What they are.
        names: Characters of the names that the call gives to its arguments.
    """
    kind, items = _result_kinds().get(function, ("other", "other"))
    names = max([names, *(each.names for each in made)])
    call = _Call(function, arguments, made, kind, items, names)
    if kind == "fixed" or (function in _ARITHMETIC and {each.kind for each in made} <= {"fixed"}):
        return Estimate(cost=call.total * _PARSING if "json" in function else _NOTHING)
    return _RULES.get(function, _any)(call)


def _any(call: _Call) -> Estimate:
    makes_text = call.kind == "text" or "json" in call.function
    factor = (_UNKNOWN_TEXT if makes_text else _UNKNOWN) + call.names / LEAST
    factor = _FACTORS.get(call.function, factor)
    return Estimate(call.total * factor + _SHORT, _NOTHING, call.kind, call.items, call.names)


def _digest(_: _Call) -> Estimate:
    return Estimate(_SHORT, kind="text")


def _choice(call: _Call) -> Estimate:
    return chosen(call.made[1:] if call.function == "if" else call.made)


def _padded(call: _Call) -> Estimate:
    return Estimate(call.size(0) + 4.0 * call.number(1), kind="text")


def _resized(call: _Call) -> Estimate:
    return Estimate(call.size(0) + call.size(2) * call.number(1), kind="other")


def _filled(call: _Call) -> Estimate:
    return Estimate(call.total + 32.0 * MAX_SIZE, kind="other")


def _with_replacements(call: _Call) -> Estimate:
    return Estimate(call.total * call.size(2), kind="text")


def _formatted(call: _Call) -> Estimate:
    form = call.text(0)
    width = sum(map(int, re.findall(r"\d+", form)))
    places = 1.0 + form.count("{") + form.count("%")
    return Estimate(_as_text(call.made) * places + 4.0 * width, kind="text")


def _multiplied(call: _Call) -> Estimate:
    rest = Polynomial.total(each.size for each in call.made[1:])
    size = _as_text(call.made) + call.size(0) * rest * (1 / LEAST) + LEAST
    return Estimate(size, kind="other", names=call.names)


def _zipped(call: _Call) -> Estimate:
    return Estimate(call.total * float(len(call.made)) + LEAST, kind="other", names=call.names)


def _taken(call: _Call) -> Estimate:
    first = call.made[0] if call.made else Estimate()
    cost = call.total * _PARSING if call.function == "split_part" else _NOTHING
    if call.function in _KEEPING:
        return Estimate(call.total, cost, "other", first.items, call.names)
    kind = call.kind if call.kind == "text" else first.items
    return Estimate(call.total, cost, kind, names=call.names)


def _matched(call: _Call) -> Estimate:
    return _multiplied(call) if call.made[2:] else _taken(call)


def _joined(call: _Call) -> Estimate:
    """Arguments one beside the other, in a text, a list or an object."""
    function, made, names, total = call.function, call.made, call.names, call.total + LEAST
    if function not in ("||", "concat"):
        keeps = function in _KEEPING
        items = _common(each.items if keeps else each.kind for each in made)
        return Estimate(total, kind="other", items=items, names=names)
    kinds = {each.kind for each in made}
    if kinds <= {"text", "fixed"}:
        return Estimate(_as_text(made), kind="text")
    items = _common(each.items for each in made)
    if kinds == {"other"} and items != "other":  # lists of equal items
        return Estimate(total, kind="other", items=items, names=names)
    return Estimate(_as_text(made), kind="other", names=names)


def _taken_from_json(call: _Call) -> Estimate:
    """What one path, or each path of a list, leads to."""
    text, size = call.size(0), _as_text(call.made[:1])
    path, is_written = call.text(1), bool(call.text(1))
    paths = call.made[1] if call.made[1:] else Estimate()
    if paths.kind == "other":  # a list of paths
        written = call.arguments[1].get("arguments")
        size *= float(len(written)) if written else paths.size * (1 / LEAST)
    elif _RECURSIVE.search(path) or (not is_written and paths.size.is_constant):
        size = text * text
    elif "*" in path or len(call.made) == 1:
        size = text * _UNKNOWN
    return Estimate(size, text * _PARSING, call.kind, call.items)


def _as_text(made: Iterable[Estimate]) -> Polynomial:
    """The size of values that are written as text, one after the other."""
    parts = []
    for each in made:
        part = each.size
        if each.kind == "fixed":
            part = _SHORT
        elif each.kind == "other":
            part = part * (4.0 + each.names / LEAST)
        parts.append(part)
    return Polynomial.total(parts)


def _common(kinds: Iterable[Kind]) -> Kind:
    found = set(kinds)
    return found.pop() if len(found) == 1 else "other"


@functools.cache
def _result_kinds() -> dict[str, tuple[Kind, Kind]]:
    """For each function of DuckDB, what its result is, and what the items of its result are."""
    with interruptible(), duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT lower(function_name), list(DISTINCT coalesce(return_type::VARCHAR, '')) "
            "FROM duckdb_functions() WHERE function_type = 'scalar' GROUP BY 1"
        ).fetchall()
    return {
        name: (
            _common(kind_of_type(each) for each in types),
            _common(kind_of_type(each[:-2] if each.endswith("[]") else "") for each in types),
        )
        for name, types in rows
    }


_RULES: Final[dict[str, Callable[[_Call], Estimate]]] = {
    **dict.fromkeys(_DIGESTS, _digest),
    **dict.fromkeys(_CHOOSING, _choice),
    **dict.fromkeys(_JSON_TAKING, _taken_from_json),
    **dict.fromkeys(("lpad", "rpad"), _padded),
    **dict.fromkeys(("list_resize", "array_resize"), _resized),
    **dict.fromkeys(("bitstring", "bar", "equi_width_bins"), _filled),
    **dict.fromkeys(("replace", "regexp_replace"), _with_replacements),
    **dict.fromkeys(("format", "printf"), _formatted),
    **dict.fromkeys(_MULTIPLYING, _multiplied),
    **dict.fromkeys(("list_zip", "array_zip"), _zipped),
    **dict.fromkeys(_JOINING, _joined),
    **dict.fromkeys(_TAKING, _taken),
    "regexp_extract": _matched,
}
"""How each function is counted that does not just make its arguments some times larger."""
