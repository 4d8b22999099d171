"""Numbers with their nouns, for sentences."""

from __future__ import annotations


def with_article(noun: str) -> str:
    """A noun with its article.

    >>> with_article("CSV"), with_article("Arrow"), with_article("ORC")
    ('a CSV', 'an Arrow', 'an ORC')
    """
    return f"{'an' if noun[0] in 'AEIO' else 'a'} {noun}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "row"), count(2_000, "row"), count(2, "person", "people")
    ('1 row', '2,000 rows', '2 people')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
