"""Bounds the memory that an expression needs for a row, from the sizes of the row's cells.

DuckDB counts what it keeps as a result, but not what functions and lambdas make on the way. So the
memory of a row is estimated before it is computed: each text, list or object that an expression
makes counts as large as it can be, and a lambda counts once for each item of its list. The bound
depends on the row alone, so the row has the same outcome whatever rows stand beside it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cdp_backfill.errors import MappingError
from cdp_backfill.messages.function_sizes import Estimate, Kind, called, cast, chosen, constant
from cdp_backfill.messages.size_polynomials import LEAST, Polynomial
from cdp_backfill.model.arrow_types import is_text

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    _Scope = Mapping[str, Estimate]
    _Request = tuple[dict[str, Any], _Scope]
    _Visit = Generator[_Request, Estimate, Estimate]

_MAX_TERMS: Final = 2_000
_FILTERS: Final = frozenset({"list_filter", "array_filter", "filter"})
_REDUCTIONS: Final = frozenset({"list_reduce", "array_reduce", "reduce"})
_TRUTHS: Final = frozenset({"COMPARISON", "BETWEEN", "CONJUNCTION"})


def of_column(name: str, kind: Any) -> Estimate:
    """A column, the size of whose cells has this name, in lower case.

    Args:
        name: Name of the column.
        kind: Its Arrow type.

    >>> of_column("Tags", pa.list_(pa.string())).items
    'text'
    """
    own = _arrow_kind(kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    items = _arrow_kind(kind.value_type) if is_list else "other"
    names = _longest_name(kind)
    size = Polynomial.of(name.casefold()) if own != "fixed" else Estimate().size
    return Estimate(size, kind=own, items=items, names=names)


def _longest_name(kind: Any) -> int:
    fields = [kind.field(place) for place in range(kind.num_fields)]
    return max((max(len(each.name), _longest_name(each.type)) for each in fields), default=0)


def _arrow_kind(kind: Any) -> Kind:
    if is_text(kind):
        return "text"
    types = pa.types
    fixed = types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind)
    return "fixed" if fixed else "other"


def of_expression(title: str, node: dict[str, Any], columns: _Scope) -> Estimate:
    """What an expression makes of a row.

    Args:
        title: The expression in errors, such as ``derive['x']``.
        node: The expression, as DuckDB writes it as JSON.
        columns: What it may use, by names in lower case.

    Raises:
        MappingError: It may multiply what it makes with each item of a list, or is too complex.
    """
    walk = _Walk(title)
    stack = [walk.visit(node, columns)]
    answer: Any = None
    while True:  # without recursion, as an expression can be nested deeply
        try:
            part, scope = stack[-1].send(answer)
            stack.append(walk.visit(part, scope))
            answer = None
        except StopIteration as end:
            stack.pop()
            answer = end.value
            if not stack:
                estimate: Estimate = answer
                # A column that is taken as it is gets a copy.
                return estimate if estimate.cost.terms else replace(estimate, cost=estimate.size)


class _Walk:
    """Visits the nodes of an expression. A visit asks for the estimates of the nodes inside."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._numbers: Iterator[int] = itertools.count()

    def visit(self, node: dict[str, Any], scope: _Scope) -> _Visit:
        kind, function = node["class"], str(node.get("function_name") or "").casefold()
        if kind == "CONSTANT":
            return constant(node.get("literal") or {})
        if kind == "COLUMN_REF":
            words = node["column_names"]
            found = replace(scope.get(words[0].casefold(), Estimate()), cost=Estimate().cost)
            # The type of a field inside is not looked up.
            return found if len(words) == 1 else replace(found, kind="other", items="other")
        inner = list(_children(node))
        if kind == "LAMBDA":  # an arrow of JSON
            inner, function, kind = [node["lhs"], node["expr"]], "->", "FUNCTION"
        elif kind == "FUNCTION":
            bodies = [each for each in inner if is_lambda(each)]
            if bodies:
                others = [each for each in inner if each is not bodies[0]]
                return (yield from self._over_items(function, bodies[0], others, scope))
        made = yield from _each(inner, scope)
        if kind == "FUNCTION":
            names = (str(each.get("name") or "") for each in node.get("arguments") or ())
            result = called(function, inner, made, max(map(len, names), default=0))
        elif kind == "CAST":
            result = cast(node.get("type_expr") or {}, made[0])
        else:
            result = _operated(node, made)
        is_item = node.get("type") == "ARRAY_EXTRACT"  # a part of what is counted already
        return self._with_cost(result, made, size=Estimate().size if is_item else None)

    def _over_items(
        self, function: str, body: dict[str, Any], inner: list[Any], scope: _Scope
    ) -> _Visit:
        """A function that calls a lambda for each item of its first argument."""
        others = yield from _each(inner, scope)
        source = others[0] if others else Estimate()
        params = parameters(body)
        if function == "invoke":
            bound = dict(zip(params, others, strict=False))
            result = yield body["expr"], {**scope, **bound}
            return self._with_cost(result, others, result.cost)
        name = f"ITEM {next(self._numbers)}"  # no column: their names are in lower case
        size = Estimate().size if source.items == "fixed" else Polynomial.of(name)
        item = Estimate(size, kind=source.items, names=source.names)
        bound = dict.fromkeys(params, Estimate())  # such as the position of the item
        if function in _REDUCTIONS:
            return (yield from self._reduced(body, {**scope, **bound}, item, name, others))
        bound |= dict(zip(params[:1], [item], strict=False))
        result = yield body["expr"], {**scope, **bound}
        cost = result.cost.summed(name, source.size)
        if function in _FILTERS:
            return self._with_cost(replace(source, cost=cost), others, cost)
        size = result.size.summed(name, source.size) + LEAST
        made = Estimate(size, kind="other", items=result.kind, names=result.names)
        return self._with_cost(made, others, cost)

    def _reduced(
        self,
        body: dict[str, Any],
        scope: _Scope,
        item: Estimate,
        name: str,
        others: list[Estimate],
    ) -> _Visit:
        """A function whose lambda goes on with what it made of the items before."""
        source, start = others[0], others[1] if len(others) > 1 else item
        so_far = f"{name} SO FAR"
        fixed = {start.kind, item.kind} == {"fixed"}
        size = Estimate().size if fixed else Polynomial.of(so_far)
        before = Estimate(size, kind=start.kind, items=start.items, names=start.names)
        bound = dict(zip(parameters(body)[:2], [before, item], strict=False))
        result = yield body["expr"], {**scope, **bound}
        if result.size.grows_beyond(so_far):
            raise MappingError(
                f"{self._title} uses list_reduce() with a result that can grow by a factor at each "
                "item. Use what is made so far only once, as in x || y, or use list_aggregate()."
            )
        first = start.size if len(others) > 1 else source.size
        last = first + result.size.without(so_far).summed(name, source.size) + LEAST
        if result.kind == "fixed":
            last = result.size
        cost = (result.cost + result.size).replaced(so_far, last).summed(name, source.size)
        made = Estimate(last, kind=result.kind, items=result.items, names=result.names)
        return self._with_cost(made, others, cost)

    def _with_cost(
        self,
        made: Estimate,
        inner: list[Estimate],
        more: Polynomial | None = None,
        size: Polynomial | None = None,
    ) -> Estimate:
        """A value with the cost of itself and of all that it is made of."""
        own = made.cost if more is None else more
        cost = Polynomial.total([own, size or made.size, *(each.cost for each in inner)])
        if len(cost.terms) > _MAX_TERMS:
            raise MappingError(
                f"{self._title} is too complex: what it makes cannot be bounded. Split it into "
                "several new columns."
            )
        return replace(made, cost=cost)


def _each(
    nodes: list[dict[str, Any]], scope: _Scope
) -> Generator[_Request, Estimate, list[Estimate]]:
    """The estimates of some nodes."""
    made = []
    for node in nodes:
        made.append((yield node, scope))  # noqa: PERF401  # a comprehension cannot yield
    return made


def _operated(node: dict[str, Any], made: list[Estimate]) -> Estimate:
    """The result of anything that is neither a function nor a cast."""
    kind, operator = node["class"], str(node.get("type"))
    if kind in _TRUTHS or operator.startswith(("COMPARE", "OPERATOR_NOT", "OPERATOR_IS")):
        return Estimate()
    if kind == "CASE" or operator == "OPERATOR_COALESCE":
        return chosen(made[1::2] + made[-1:] if kind == "CASE" else made)
    if operator in ("ARRAY_SLICE", "OPERATOR_TRY"):
        return replace(made[0], cost=Estimate().cost)
    if operator == "ARRAY_EXTRACT":
        return Estimate(made[0].size, kind=made[0].items, names=made[0].names)
    size = Polynomial.total(each.size for each in made)
    return Estimate(size, kind="other", names=sum(each.names for each in made))


def _children(node: Any) -> Iterator[dict[str, Any]]:
    """The nodes right inside a node, in their order."""
    for name, value in node.items():
        if name == "type_expr":
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                if "class" in each:
                    yield each
                else:
                    yield from _children(each)


def is_lambda(node: dict[str, Any]) -> bool:
    """Whether a node is a lambda, not an arrow, which is that of JSON."""
    return node.get("class") == "LAMBDA" and node.get("syntax_type") == "LAMBDA_KEYWORD"


def parameters(body: dict[str, Any]) -> list[str]:
    """The names that a lambda gives to its arguments."""
    left = body["lhs"]
    names = [left] if left["class"] == "COLUMN_REF" else list(_children(left))
    return [each["column_names"][0].casefold() for each in names if "column_names" in each]
