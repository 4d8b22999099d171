"""Polynomials that bound the size of a value by the sizes of the cells that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

LEAST: Final = 16
"""Bytes that every value counts at least, also an item of a list: so a list of n bytes has at most
n / 16 items."""


class Polynomial:
    """A sum of products of sizes, whose factors are never negative. It is never changed.

    Args:
        terms: Products, as the sorted names of the sizes in them, to their factors.

    >>> text = Polynomial.of("text")
    >>> (text * text + 3).at({"text": np.array([2.0, 10.0])}, 2).tolist()
    [7.0, 103.0]
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[tuple[str, ...], float]) -> None:
        self.terms = {names: factor for names, factor in terms.items() if factor}

    @classmethod
    def of(cls, name: str) -> Polynomial:
        """The size of this name."""
        return cls({(name,): 1.0})

    @classmethod
    def total(cls, parts: Iterable[Polynomial]) -> Polynomial:
        """The sum of many."""
        terms: dict[tuple[str, ...], float] = {}
        for part in parts:
            for names, factor in part.terms.items():
                terms[names] = terms.get(names, 0.0) + factor
        return cls(terms)

    @classmethod
    def largest(cls, parts: Iterable[Polynomial]) -> Polynomial:
        """A polynomial that is nowhere below any of many."""
        terms: dict[tuple[str, ...], float] = {}
        for part in parts:
            for names, factor in part.terms.items():
                terms[names] = max(terms.get(names, 0.0), factor)
        return cls(terms)

    def __add__(self, other: Polynomial | float) -> Polynomial:
        return Polynomial.total([self, _polynomial(other)])

    def __mul__(self, other: Polynomial | float) -> Polynomial:
        terms: dict[tuple[str, ...], float] = {}
        for mine, factor in self.terms.items():
            for others, times in _polynomial(other).terms.items():
                names = tuple(sorted(mine + others))
                terms[names] = terms.get(names, 0.0) + factor * times
        return Polynomial(terms)

    @property
    def constant(self) -> float:
        """What it is at least, whatever the sizes."""
        return self.terms.get((), 0.0)

    @property
    def is_constant(self) -> bool:
        """Whether no size is in it."""
        return not any(self.terms)

    def grows_beyond(self, name: str) -> bool:
        """Whether it contains more of a size than this size once, such as its double or square."""
        return any(
            name in names and (names != (name,) or factor > 1)
            for names, factor in self.terms.items()
        )

    def without(self, name: str) -> Polynomial:
        """The products that do not contain a size."""
        return Polynomial({names: n for names, n in self.terms.items() if name not in names})

    def replaced(self, name: str, by: Polynomial) -> Polynomial:
        """The same with another polynomial in the place of a size."""
        parts = []
        for names, factor in self.terms.items():
            part = Polynomial({tuple(each for each in names if each != name): factor})
            for _ in range(names.count(name)):
                part *= by
            parts.append(part)
        return Polynomial.total(parts)

    def summed(self, name: str, items: Polynomial) -> Polynomial:
        """Its sum over the items of a list.

        Args:
            name: The size of an item in it.
            items: The size of the list: a sum of powers is nowhere above the power of the sum.
        """
        count = self.without(name) * items * (1 / LEAST)
        others = Polynomial({names: n for names, n in self.terms.items() if name in names})
        return count + others.replaced(name, items)

    def at(self, sizes: Mapping[str, NDArray[np.float64]], rows: int) -> NDArray[np.float64]:
        """Its value in each row.

        Args:
            sizes: Each size in each row.
            rows: Number of rows.
        """
        result = np.full(rows, self.constant)
        with np.errstate(over="ignore"):
            for names, factor in self.terms.items():
                if names:
                    product = np.full(rows, factor)
                    for name in names:
                        product *= sizes[name]
                    result += product
        return result


def _polynomial(value: Polynomial | float) -> Polynomial:
    return value if isinstance(value, Polynomial) else Polynomial({(): float(value)})
