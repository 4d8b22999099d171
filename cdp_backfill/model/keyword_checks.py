"""Answers a misspelt keyword with the name that was meant."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from cdp_backfill.errors import KeywordError
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[Any])

_SECRET: Final = "api_key"  # noqa: S105  # the name of an argument
_CONSTRUCTORS: Final[dict[str, list[str]]] = {}
"""Arguments of the classes whose objects other functions take."""


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which names the most similar keyword if there is none of a name.

    Its signature stays as it is. A key among its arguments is wrapped before anything can fail,
    because a traceback may show the variables here.

    >>> @checked_keywords
    ... def send(*, user_id): ...
    >>> send(usr_id="uid")
    Traceback (most recent call last):
        ...
    cdp_backfill.KeywordError: send() has no argument 'usr_id'. Did you mean 'user_id'?
    """
    parameters = inspect.signature(function).parameters
    names = list(parameters)
    # Where a key has a default, as that of a sandbox, it is none of an account.
    has_secret = _SECRET in names and parameters[_SECRET].default is None
    place = names.index(_SECRET) if has_secret else 0

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if has_secret:
            if kwargs.get(_SECRET) is not None:
                kwargs[_SECRET] = Secret(kwargs[_SECRET])  # type: ignore[arg-type]
            if len(args) > place and args[place] is not None:
                key = Secret(args[place])  # type: ignore[arg-type]
                args = (*args[:place], key, *args[place + 1 :])  # type: ignore[assignment]
        for name in kwargs:
            if name not in names:
                raise KeywordError(_sentence(function, name, names))
        return function(*args, **kwargs)

    return checked


def checked_constructor(cls: C) -> C:
    """The same class, whose constructor answers a misspelt keyword in this way.

    A function that takes an object of the class says so where it gets an argument of the class.
    """
    cls.__init__ = checked_keywords(cls.__init__)
    _CONSTRUCTORS[cls.__name__] = list(inspect.signature(cls).parameters)
    return cls


def _sentence(function: Callable[..., Any], name: str, names: list[str]) -> str:
    title = function.__qualname__.removesuffix(".__init__")
    sentence = f"{title}() has no argument {name!r}."
    for constructor, arguments in _CONSTRUCTORS.items():
        if name in arguments and (argument := constructor.lower()) in names:
            return f"{sentence} Pass it as {argument}=cdp.{constructor}({name}=...)."
    return sentence + did_you_mean(name, [each for each in names if each != "self"])
