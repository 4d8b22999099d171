"""Expressions of somebody else: none ends the process, reads a file or asks for gigabytes."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from cdp_backfill.errors import MappingError
from cdp_backfill.messages import deriving
from cdp_backfill.messages.deriving import Deriver
from cdp_backfill.messages.expression_limits import MAX_LAYERS, MAX_LENGTH, MAX_SIZE
from cdp_backfill.messages.expressions import checked_columns

SCHEMA = pa.schema([("s", pa.string()), ("k", pa.int64()), ("l", pa.list_(pa.int64()))])


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        *(
            (f"\"{name}\"({{'a': k}}, TIMESTAMPTZ 'infinity')", "calls the operator")
            for name in ("!=", "=", "<", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "+")
        ),
        ('main."="(k, s)', "calls the operator"),
        ("operator(main.=)(k, s)", "derive"),
        ("k::VARIANT", "the type VARIANT"),
        ("""from_json(s, '{"b": "VARIANT"}')""", "the type VARIANT"),
        ("""from_json(s, '{"b": ["\\u0056ariant"]}')""", "the type VARIANT"),
        ("json_transform_strict(s, '\"variant\"')", "the type VARIANT"),
        ("json_transform(s, s)", "must be a text"),
        ("json_deserialize_sql(s::JSON)", "ends the process"),
        ("__internal_compress_string_utinyint(s)", "ends the process"),
        ("replace(s, 'a', s)", "Write what it puts in as a text of up to 1,000"),
        ("regexp_replace(s, '.', s || 'x', 'g')", "Write what it puts in as a text"),
        (f"replace(s, 'a', '{'x' * 1001}')", "Write what it puts in as a text"),
        ("lpad(s, k::INT, 'x')", "Write its size as a number of up to 10,000"),
        (f"rpad(s, {MAX_SIZE + 1}, 'x')", "Write its size as a number of up to 10,000"),
        ("list_resize(l, k)", "Write its size as a number of up to 10,000"),
        ("bitstring('1', greatest(k, 3)::INT)", "Write its size as a number of up to 10,000"),
        ("format(s, k)", "Write its format as a text"),
        ("format('{:>2000000000}', s)", "Write its format as a text"),
        ("format('{:{}}', s, k)", "Write its format as a text"),
        ("printf('%*d', k, k)", "Write its format as a text"),
        ("printf('%-2000000000s', s)", "Write its format as a text"),
        *(
            (f"{name}(s, s || 'b')", "takes minutes and gigabytes")
            for name in (
                *("levenshtein", "editdist3", "damerau_levenshtein"),
                *("jaro_similarity", "Jaro_Winkler_Similarity"),
            )
        ),
        ("concat(" + "s, " * 10_000 + "s)", "uses columns 10,001 times"),
        ("range(1000000000000)", "reads more"),
        ("repeat('x', 1000000000000)", "reads more"),
        ("(WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 1 FROM t) SELECT 1)", "subquery"),
        ("read_csv('/etc/passwd')", "reads more"),
        ("getenv('HOME')", "does not fit the table|whose result differs"),
        ("list_transform(l, lambda x: " * 50 + "k" + ")" * 50, "lambdas one inside"),
        ("[" * 200 + "k" + "]" * 200, "does not fit the table"),
        ("k" + "+k" * 30_000, "depth"),
        (" " * MAX_LENGTH + "k", "characters. The limit is 65,536"),
    ],
)
def test_what_is_refused(expression: str, words: str) -> None:
    """Before a row is read, with the name of the new column."""
    with pytest.raises(MappingError, match=words) as caught:
        Deriver({"x": expression}, SCHEMA)
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("lpad(s, 4, '0')", "00ab"),
        ("regexp_replace(replace(s, 'a', ''), 'b', 'c')", "c"),
        ("lpad(s, least(k, 10)::INT, '-')", "-ab"),
        ("format('{:>4}|{}', s, k)", "  ab|3"),
        ("printf('%05d', k)", "00003"),
        ("(l || [k])[1]::VARCHAR", "1"),
        ('from_json(\'{"b": 1}\', \'{"b": "INT"}\').b::VARCHAR', "1"),
        ("CASE WHEN k <> 4 AND s LIKE 'a%' AND k IS DISTINCT FROM 4 THEN -k END", -3),
        ("list_transform(l, lambda x: x + k)", [4, 5]),
        ("(k::INT)!::VARCHAR", "6"),
    ],
)
def test_what_stays(expression: str, expected: object) -> None:
    """What expressions need in earnest."""
    batch = pa.record_batch([pa.array(["ab"]), pa.array([3]), pa.array([[1, 2]])], schema=SCHEMA)
    ((array,), failed) = Deriver({"x": expression}, SCHEMA).apply(batch)
    assert (array.to_pylist(), failed) == ([expected], {})


def test_a_long_chain_of_columns() -> None:
    """Each uses the one before: DuckDB would need time that grows with their cube."""
    chain = {"c0": "k"} | {f"c{n}": f"c{n - 1} + 1" for n in range(1, MAX_LAYERS + 1)}
    with pytest.raises(MappingError, match="101 columns of which each uses the one before"):
        Deriver(chain, SCHEMA)


def test_no_operator_is_called_by_its_name() -> None:
    """DuckDB trusts the types of their arguments, and ends the process at some."""
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar' "
            "AND NOT regexp_full_match(function_name, '[A-Za-z0-9_]+')"
        ).fetchall()
        assert len(found) > 20
        for (name,) in found:
            with pytest.raises(MappingError, match="calls the operator"):
                checked_columns(connection, "x", f"\"{name}\"({{'a': 1}}, TIMESTAMPTZ 'infinity')")


@pytest.mark.parametrize("double", ["{0} || {0}", "[{0}, {0}]", "{{'a': {0}, 'b': {0}}}"])
def test_chains_of_doubling_columns_name_the_one_that_is_too_large(double: str) -> None:
    """Each column doubles the one before: the first beyond the limit is refused by its name."""
    chain = {f"c{n}": double.format(f"c{n - 1}" if n else "s") for n in range(40)}
    with pytest.raises(MappingError, match=r"derive\['c13'\] uses columns 16,384 times"):
        Deriver(chain, SCHEMA, only=["c39"])


def test_many_uses_within_the_limit_stay() -> None:
    """Columns that use others often, but do not multiply them, are computed."""
    chain = {f"c{n}": f"c{n - 1} + k" if n else "k" for n in range(50)}
    cases = "CASE " + " ".join(f"WHEN k = {n} THEN {n}" for n in range(2_000)) + " END"
    batch = pa.record_batch([pa.array(["ab"]), pa.array([3]), pa.array([[1, 2]])], schema=SCHEMA)
    arrays, failed = Deriver(chain | {"x": cases}, SCHEMA, only=["c49", "x"]).apply(batch)
    assert (arrays[-1].to_pylist(), arrays[-2].to_pylist(), failed) == ([3], [150], {})


@pytest.mark.parametrize("text", ["{}", "array_to_string({}, '')", "len({})"])
def test_what_expressions_make_is_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell for each letter of a cell fails where it is too large; other rows are computed."""
    monkeypatch.setattr(deriving, "MAX_MEMORY", 64 * 2**20)
    expression = text.format("list_transform(string_split(s, ''), lambda x: s)")
    deriver = Deriver({"d": expression}, SCHEMA)
    cells = pa.array(["ab", "x" * 30_000, None, "abc"])
    batch = pa.record_batch([cells, pa.nulls(4, pa.int64()), pa.nulls(4, SCHEMA[2].type)], SCHEMA)
    (array,), failed = deriver.apply(batch)
    assert array.is_valid().to_pylist()[::3] == [True, True]
    if text != "len({})":  # which never makes the texts
        assert failed["d"].tolist() == [False, True, False, False]
