"""The destination: the address that messages go to, and its API key."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from cdp_backfill.errors import ApiKeyError, DestinationError, MissingExtraError
from cdp_backfill.model import api_facts
from cdp_backfill.model.environment import in_notebook
from cdp_backfill.model.key_places import KeyPlace, check_place, key_at
from cdp_backfill.model.keyword_checks import checked_constructor, checked_keywords
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.secret import Secret
from cdp_backfill.model.views import Section, View, duration

Region = Literal["us", "eu"]

RATE_LIMIT: Final = api_facts.REQUESTS_PER_SECOND / 2
"""Requests per second by default: half of the documented limit is left to live traffic."""

_LETTERS: Final = frozenset(map(chr, range(33, 127)))

_KEYRING_SERVICE = "cdp-backfill"


@checked_constructor
@dataclass(frozen=True, init=False)
class Destination:
    """A source of the Pipelines API to send to.

    Args:
        api_key: The API key of the source. None looks for one when a run starts; see
            :func:`configure`. The key never shows in a repr, an error or a log;
            ``destination.api_key.reveal()`` returns it. A pickled destination has no key and
            looks for one where it is unpickled.
        region: The region of the account, ``"us"`` or ``"eu"``.
        base_url: Address that replaces the region's; it ends in ``/v1``.
        strict: Ask for strict mode (``X-Strict-Mode: 1``). Without it, the API answers 200 even to
            messages that it drops, so rows end as ``unknown``.
        rate_limit: Requests per second over all workers, or None for no limit. The default is
            half of the documented 1,000 (3,000 in 3 seconds), because live traffic shares it.
        workers: Most requests in flight, or None to let a run find its own concurrency, up to
            128.
        answer_timeout: Seconds from the end of a request to the end of its answer; sending a
            request may take as long.
        patience: Seconds for which a run waits for a server that is away: it goes on as long as its
            last success is younger. If nothing has ever been at the address (an unknown host, a
            refused connection), a run waits for 30 seconds at most.
        max_messages: Most messages in a request.
        insecure: Allow an address of another machine that begins with ``http://``: the key and all
            rows go there unencrypted.
        key_from: Where to find the key if ``api_key`` is None: the path of a file that holds
            nothing else, or a function that returns it. Unlike a key, it stays in a pickled
            destination, so that each worker of Spark or Dask finds the key for itself.

    Raises:
        DestinationError: The region is unknown, or another argument is invalid.

    >>> Destination(api_key="not-shown", region="eu")
    Destination(region='eu', url='https://cdp-eu.customer.io/v1')
    """

    api_key: Secret | None = field(default=None, repr=False)
    region: Region = "us"
    base_url: str | None = None
    strict: bool = True
    rate_limit: float | None = RATE_LIMIT
    workers: int | None = None
    answer_timeout: float = 60.0
    patience: float = 600.0
    max_messages: int = api_facts.MAX_REQUEST_MESSAGES
    insecure: bool = False
    key_from: KeyPlace | None = field(default=None, repr=False, compare=False)

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        region: Region = "us",
        base_url: str | None = None,
        strict: bool = True,
        rate_limit: float | None = RATE_LIMIT,
        workers: int | None = None,
        answer_timeout: float = 60.0,
        patience: float = 600.0,
        max_messages: int = api_facts.MAX_REQUEST_MESSAGES,
        insecure: bool = False,
        key_from: KeyPlace | None = None,
    ) -> None:
        values = {
            # Wrapped before anything can fail: a traceback may show the variables here.
            "api_key": _wrap(api_key),
            "region": region,
            "base_url": base_url,
            "strict": strict,
            "rate_limit": rate_limit,
            "workers": workers,
            "answer_timeout": answer_timeout,
            "patience": patience,
            "max_messages": max_messages,
            "insecure": insecure,
            "key_from": key_from,
        }
        del api_key
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        check_key(self.api_key)
        if self.region not in api_facts.REGIONS:
            raise DestinationError(
                f"There is no region {self.region!r}.{did_you_mean(str(self.region), ['us', 'eu'])}"
                f" Regions: {', '.join(api_facts.REGIONS)}."
            )
        if self.base_url is not None:
            _check_url(self.base_url)
            if self._is_exposed and self.insecure is not True:
                raise DestinationError(
                    f"The address {self.url} begins with http://, so the key and all rows would "
                    "go to another machine unencrypted. Use https://. In a network that you trust, "
                    "pass insecure=True."
                )
        if self.rate_limit is not None and not self.rate_limit > 0:
            raise DestinationError("rate_limit must be above 0, or None for no limit.")
        for name in ("answer_timeout", "patience"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
                raise DestinationError(f"{name} must be a number of seconds above 0.")
        for name in ("workers", "max_messages"):
            value = getattr(self, name)
            if name == "workers" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise DestinationError(f"{name} must be a whole number, 1 or more.")
        check_place(self.key_from)

    @property
    def url(self) -> str:
        """The address of the API, without a slash at its end."""
        return (self.base_url or api_facts.REGIONS[self.region]).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine, such as that of a sandbox."""
        host = urlsplit(self.url).hostname or ""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(host).is_loopback
        return host == "localhost"

    @property
    def _is_exposed(self) -> bool:
        """Whether what is sent can be read on its way to another machine."""
        return urlsplit(self.url).scheme != "https" and not self.is_local

    def with_key(self) -> Destination:
        """This destination with an API key, which is looked up if it has none.

        The places are, in this order: ``key_from``, and no other place if it is set;
        ``configure()`` for the same address, the variable ``CUSTOMERIO_CDP_API_KEY``, the keyring
        (if the extra is installed; stored under the address), and a prompt (in a terminal or
        notebook).

        Raises:
            ApiKeyError: There is no key in any place, or it is malformed.
        """
        if self.api_key is not None:
            return self
        if self.key_from is not None:
            return replace(self, api_key=check_key(key_at(self.key_from)))
        return replace(self, api_key=_find_key(self.url))

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"api_key": None}

    def __copy__(self) -> Self:
        return self  # nothing in it can change

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        if self.base_url is not None:
            return f"Destination(url={self.url!r})"
        return f"Destination(region={self.region!r}, url={self.url!r})"

    def __str__(self) -> str:
        return self._view().text()

    def _repr_html_(self) -> str:
        return self._view().html()

    def _view(self) -> View:
        place = "this machine" if self.is_local else f"region {self.region}"
        if self.base_url is not None and not self.is_local:
            place = "another address"
        strict = (
            "yes" if self.strict else "no: the API answers 200 to everything, rows end as unknown"
        )
        rate = "no limit" if self.rate_limit is None else f"{self.rate_limit:,g} per second"
        workers = f"up to {self.workers:,}" if self.workers else "adapted automatically, up to 128"
        lines: list[tuple[object, ...]] = [
            ("address", self.url),
            ("where", place),
            ("API key", self._key_state()),
            ("strict mode", strict),
            ("requests", f"{rate}, up to {self.max_messages:,} messages each"),
            ("in flight", workers),
            ("patience", f"waits up to {duration(self.patience)} for a server that is away"),
            ("timeout of an answer", duration(self.answer_timeout)),
        ]
        if self._is_exposed:
            lines.append(("encryption", "none: key and rows can be read on their way"))
        return View("Destination", [Section("Where messages are sent", (), lines)])

    def _key_state(self) -> str:
        if self.api_key is not None:
            return "set"
        if self.key_from is not None:
            return "not set here; a run looks where key_from= names"
        if api_facts.API_KEY_VARIABLE in os.environ:
            return f"not set here; ${api_facts.API_KEY_VARIABLE} is set"
        return "not set; a run looks in the keyring or asks"


_configured: Destination | None = None


@checked_keywords
def configure(
    api_key: str | Secret | None = None,
    *,
    region: Region = "us",
    base_url: str | None = None,
    insecure: bool = False,
    save_key: bool = False,
) -> Destination:
    """Set the destination of every later call that names none.

    In a notebook and at the prompt of Python, it asks for the key if there is none in
    ``$CUSTOMERIO_CDP_API_KEY`` or the keyring. What you type appears in no output, history or file.
    A script in a terminal asks when a run needs the key; a job without a terminal never asks.

    Args:
        api_key: The key of the source; None looks for it as above.
        region: The region of the account, ``"us"`` or ``"eu"``.
        base_url: Address that replaces the region's; it ends in ``/v1``.
        insecure: See :class:`Destination`.
        save_key: Store the key in the system keyring for later sessions, under the address, so
            that the keys of two regions do not mix. If there is no key yet, a terminal asks too.

    Returns:
        The destination, which you can also pass to ``send``.

    Raises:
        DestinationError: An argument is invalid, or there is no key to store.
        MissingExtraError: ``save_key`` without the extra ``keyring``.

    >>> configure("not-shown", region="eu")
    Destination(region='eu', url='https://cdp-eu.customer.io/v1')
    """
    global _configured  # noqa: PLW0603  # the one setting of a session
    api_key = _wrap(api_key)  # before anything can fail, as in a destination
    destination = Destination(api_key=api_key, region=region, base_url=base_url, insecure=insecure)
    if save_key:
        destination = destination.with_key()
        _save_key(destination)
    elif api_key is None and _is_interactive() and _stored_key(destination.url) is None:
        destination = replace(destination, api_key=_prompt_for_key(destination.url))
    _configured = destination
    return destination


def choose_destination(destination: Destination | None) -> Destination:
    """The destination of the call, or the configured one, or the US region."""
    if destination is not None and not isinstance(destination, Destination):
        raise DestinationError(
            f"destination must be a Destination, such as box.destination of a sandbox or "
            f"cdp.Destination(region='eu'), not {type(destination).__name__}."
        )
    return destination or _configured or Destination()


def resolve(destination: Destination | None) -> Destination:
    """The same, with its key.

    Raises:
        ApiKeyError: There is no key.
    """
    return choose_destination(destination).with_key()


def _wrap(key: str | Secret | None) -> Secret | None:
    return None if key is None else Secret(key)


def check_key(key: Secret | None) -> Secret | None:
    """The same key, checked.

    Raises:
        ApiKeyError: It is malformed.
    """
    if key is None:
        return None
    kind = type(key.reveal())
    if kind is not str:
        raise ApiKeyError(f"The API key must be text, not {kind.__name__}.")
    if not key:
        raise ApiKeyError("The API key is empty.")
    if not set(key.reveal()) <= _LETTERS:
        raise ApiKeyError(
            "The API key contains white space, a line break or another character that keys do not "
            "have. Copy it again without the text around it."
        )
    if ":" in key.reveal():
        raise ApiKeyError("The API key contains a colon. Pass the key alone, without a password.")
    return key


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # reading it checks it
    except ValueError as error:
        raise DestinationError(f"base_url is not an address: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise DestinationError("base_url must begin with https:// (or http://) and a host name.")
    if parts.username or parts.password:
        raise DestinationError("base_url must not contain credentials. Pass the key as api_key=.")
    if not parts.path.rstrip("/").endswith("/v1") or parts.query or parts.fragment:
        raise DestinationError("base_url must end in /v1, such as https://cdp.customer.io/v1.")


def _find_key(url: str) -> Secret:
    # A key that was configured for one address never goes to another.
    if _configured is not None and _configured.api_key and _configured.url == url:
        return _configured.api_key
    key = _stored_key(url) or _prompt_for_key(url)
    if key is None:
        raise ApiKeyError(
            f"There is no API key. Set ${api_facts.API_KEY_VARIABLE}, or in Python call "
            "cdp_backfill.configure() or pass destination=Destination(api_key=...)."
        )
    return key


def _stored_key(url: str) -> Secret | None:
    """The key in the environment, or the one in the keyring for an address."""
    value = os.environ.get(api_facts.API_KEY_VARIABLE)
    key, place = _wrap(value), f"${api_facts.API_KEY_VARIABLE}"
    del value
    if key is None:
        key, place = _wrap(_key_from_keyring(url) or None), "the keyring"
    try:
        return check_key(key)
    except ApiKeyError as error:
        raise ApiKeyError(f"{error} (The key comes from {place}.)") from None


def _is_interactive() -> bool:
    """Whether this is a notebook or a Python prompt."""
    return in_notebook() or hasattr(sys, "ps1")


def _prompt_for_key(url: str) -> Secret | None:
    in_terminal = sys.stdin is not None and sys.stdin.isatty()
    if not in_terminal and not in_notebook():
        return None
    try:
        typed = Secret(getpass.getpass(f"Customer.io Pipelines API key for {url}: ").strip())
    except (EOFError, NotImplementedError):  # a notebook that runs unattended
        return None
    return check_key(typed)


def _key_from_keyring(url: str) -> str | None:
    try:
        import keyring  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    with contextlib.suppress(Exception):  # a keyring that does not work counts as empty
        return keyring.get_password(_KEYRING_SERVICE, url)
    return None


def _save_key(destination: Destination) -> None:
    try:
        import keyring  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError.of("keyring", extra="keyring", purpose="save_key=True") from error
    if not _save_to_keyring(keyring, destination):
        # Not inside an except block: the traceback of the keyring's error could show the key.
        raise DestinationError("The key could not be saved to the system keyring.")


def _save_to_keyring(keyring: Any, destination: Destination) -> bool:
    key = destination.api_key
    if key is not None:
        with contextlib.suppress(Exception):
            keyring.set_password(_KEYRING_SERVICE, destination.url, key.reveal())
            return True
    return False
