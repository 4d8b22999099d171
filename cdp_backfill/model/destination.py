"""Where messages go, and the key that opens it."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from cdp_backfill.errors import DestinationError, MissingExtraError
from cdp_backfill.model import api_facts
from cdp_backfill.model.environment import in_notebook
from cdp_backfill.model.mapping_checks import did_you_mean
from cdp_backfill.model.secret import Secret
from cdp_backfill.model.views import Section, View, duration

Region = Literal["us", "eu"]

_LETTERS: Final = frozenset(map(chr, range(33, 127)))

_KEYRING_SERVICE = "cdp-backfill"


@dataclass(frozen=True, init=False)
class Destination:
    """A Pipelines API source to send to.

    Args:
        api_key: The key of the source. None looks for one when a run starts, see
            :func:`configure`. From here on it never shows, whatever shows the destination or
            fails with it; ``destination.api_key.reveal()`` gives it. A pickled destination has
            none, and looks for one where it arrives.
        region: ``"us"`` or ``"eu"``, where the account lives.
        base_url: Address that replaces the region's; it ends in ``/v1``.
        strict: Ask for strict mode (``X-Strict-Mode: 1``). Without it the API answers 200 even
            to what it drops, so that rows end as ``unknown``.
        rate_limit: Requests per second over all workers, or None for no limit. The default is
            the documented 3,000 requests per 3 seconds.
        workers: Requests in flight at most, or None to let a run find its own level, up to 128.
        timeout: Seconds to wait for an answer.
        max_attempts: Attempts per request, the first included.
        retry_seconds: Seconds after which a request gets no further attempt.
        max_messages: Messages per request at most.

    Raises:
        DestinationError: The region is unknown, or another argument cannot work.

    >>> Destination(api_key="not-shown", region="eu")
    Destination(region='eu', url='https://cdp-eu.customer.io/v1')
    """

    api_key: Secret | None = field(default=None, repr=False)
    region: Region = "us"
    base_url: str | None = None
    strict: bool = True
    rate_limit: float | None = api_facts.REQUESTS_PER_SECOND
    workers: int | None = None
    timeout: float = 60.0
    max_attempts: int = 6
    retry_seconds: float = 300.0
    max_messages: int = api_facts.MAX_REQUEST_MESSAGES

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        region: Region = "us",
        base_url: str | None = None,
        strict: bool = True,
        rate_limit: float | None = api_facts.REQUESTS_PER_SECOND,
        workers: int | None = None,
        timeout: float = 60.0,
        max_attempts: int = 6,
        retry_seconds: float = 300.0,
        max_messages: int = api_facts.MAX_REQUEST_MESSAGES,
    ) -> None:
        values = {
            # Wrapped before anything can fail: a traceback may show the variables here.
            "api_key": _wrap(api_key),
            "region": region,
            "base_url": base_url,
            "strict": strict,
            "rate_limit": rate_limit,
            "workers": workers,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "retry_seconds": retry_seconds,
            "max_messages": max_messages,
        }
        del api_key
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        checked_key(self.api_key)
        if self.region not in api_facts.REGIONS:
            raise DestinationError(
                f"There is no region {self.region!r}.{did_you_mean(str(self.region), ['us', 'eu'])}"
                f" Regions: {', '.join(api_facts.REGIONS)}."
            )
        if self.base_url is not None:
            _check_url(self.base_url)
        if self.rate_limit is not None and not self.rate_limit > 0:
            raise DestinationError("rate_limit must be above 0, or None for no limit.")
        for name in ("timeout", "retry_seconds"):
            if not getattr(self, name) > 0:
                raise DestinationError(f"{name} must be above 0 seconds.")
        for name in ("workers", "max_attempts", "max_messages"):
            value = getattr(self, name)
            if name == "workers" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise DestinationError(f"{name} must be a whole number from 1 on.")

    @property
    def url(self) -> str:
        """The address below which the calls live, without a slash at its end."""
        return (self.base_url or api_facts.REGIONS[self.region]).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as a sandbox is."""
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")

    def with_key(self) -> Destination:
        """This destination with an API key, looked up where none was given.

        Looked for in this order: ``configure()`` for the same address, the variable
        ``CUSTOMERIO_CDP_API_KEY``, the keyring (where the extra is installed; under the address),
        a prompt (in a terminal or notebook).

        Raises:
            DestinationError: There is no key anywhere, or what was found cannot be one.
        """
        if self.api_key is not None:
            return self
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
            place = "an address of its own"
        strict = "yes" if self.strict else "no: rows end as unknown, the API answers 200 to all"
        rate = "no limit" if self.rate_limit is None else f"{self.rate_limit:,g} a second"
        most = f"{self.workers:,}" if self.workers else "as many as the server bears, up to 128"
        lines: list[tuple[object, ...]] = [
            ("address", self.url),
            ("where", place),
            ("API key", self._key_state()),
            ("strict mode", strict),
            ("requests", f"{rate}, {self.max_messages:,} messages each at most"),
            ("at a time", most),
            ("attempts", f"up to {self.max_attempts}, for {duration(self.retry_seconds)}"),
            ("waits for an answer", duration(self.timeout)),
        ]
        return View("Destination", [Section("Where messages go", (), lines)])

    def _key_state(self) -> str:
        if self.api_key is not None:
            return "set"
        if api_facts.API_KEY_VARIABLE in os.environ:
            return f"not set here; ${api_facts.API_KEY_VARIABLE} has one"
        return "not set; a run looks in the keyring, or asks"


_configured: Destination | None = None


def configure(
    api_key: str | Secret | None = None,
    *,
    region: Region = "us",
    base_url: str | None = None,
    save_key: bool = False,
) -> Destination:
    """Set the destination of every later call that names none.

    In a notebook, and at the prompt of Python, it asks for the key if there is none in
    ``$CUSTOMERIO_CDP_API_KEY`` or the keyring. What is typed is in no output, history or file.
    Elsewhere, a script in a terminal asks once a run needs the key, and a job never does.

    Args:
        api_key: The key of the source; None looks for it as above.
        region: ``"us"`` or ``"eu"``.
        base_url: Address that replaces the region's; it ends in ``/v1``.
        save_key: Store the key in the system's keyring for later sessions, under the address: the
            keys of two regions do not mix. If there is none yet, a terminal is asked for it too.

    Returns:
        The destination, which can also be given to ``send`` as it is.

    Raises:
        DestinationError: An argument is wrong, or there is no key to store.
        MissingExtraError: ``save_key`` without the extra ``keyring``.

    >>> configure("not-shown", region="eu")
    Destination(region='eu', url='https://cdp-eu.customer.io/v1')
    """
    global _configured  # noqa: PLW0603  # the one setting that a session has
    api_key = _wrap(api_key)  # before anything can fail, as in a destination
    destination = Destination(api_key=api_key, region=region, base_url=base_url)
    if save_key:
        destination = destination.with_key()
        _save_key(destination)
    elif api_key is None and _somebody_is_there() and _stored_key(destination.url) is None:
        destination = replace(destination, api_key=_ask(destination.url))
    _configured = destination
    return destination


def chosen(destination: Destination | None) -> Destination:
    """The destination given, or the configured one, or the US region."""
    if destination is not None and not isinstance(destination, Destination):
        raise DestinationError(
            f"destination must be a Destination, such as box.destination of a sandbox or "
            f"cdp.Destination(region='eu'); this is a {type(destination).__name__}."
        )
    return destination or _configured or Destination()


def resolve(destination: Destination | None) -> Destination:
    """The same, always with a key.

    Raises:
        DestinationError: There is no key.
    """
    return chosen(destination).with_key()


def _wrap(key: str | Secret | None) -> Secret | None:
    return None if key is None else Secret(key)


def checked_key(key: Secret | None) -> Secret | None:
    """The same key.

    Raises:
        DestinationError: It cannot be one.
    """
    if key is None:
        return None
    kind = type(key.reveal())
    if kind is not str:
        raise DestinationError(f"The API key must be text, not {kind.__name__}.")
    if not key:
        raise DestinationError("The API key is empty.")
    if not set(key.reveal()) <= _LETTERS:
        raise DestinationError(
            "The API key holds white space, a line break or another character that no key has; "
            "copy it again without what surrounds it."
        )
    if ":" in key.reveal():
        raise DestinationError(
            "The API key holds a colon; give the key alone, without a password part."
        )
    return key


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # reading it checks it
    except ValueError as error:
        raise DestinationError(f"base_url is not an address: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise DestinationError("base_url must begin with https:// (or http://) and name a host.")
    if parts.username or parts.password:
        raise DestinationError("base_url must not hold credentials; give the key as api_key.")
    if not parts.path.rstrip("/").endswith("/v1") or parts.query or parts.fragment:
        raise DestinationError("base_url must end in /v1, such as https://cdp.customer.io/v1.")


def _find_key(url: str) -> Secret:
    # A key that was configured for one address is not shown to another.
    if _configured is not None and _configured.api_key and _configured.url == url:
        return _configured.api_key
    key = _stored_key(url) or _ask(url)
    if key is None:
        raise DestinationError(
            f"There is no API key. Set ${api_facts.API_KEY_VARIABLE}, or in Python call "
            "cdp_backfill.configure(), or give destination=Destination(api_key=...)."
        )
    return key


def _stored_key(url: str) -> Secret | None:
    """The key of the environment, or that of the keyring for an address."""
    found = os.environ.get(api_facts.API_KEY_VARIABLE)
    key, place = _wrap(found), f"${api_facts.API_KEY_VARIABLE}"
    del found
    if key is None:
        key, place = _wrap(_key_from_keyring(url) or None), "the keyring"
    try:
        return checked_key(key)
    except DestinationError as error:
        raise DestinationError(f"{error} (It was read from {place}.)") from None


def _somebody_is_there() -> bool:
    """Whether lines are typed one by one, in a notebook or at a prompt."""
    return in_notebook() or hasattr(sys, "ps1")


def _ask(url: str) -> Secret | None:
    in_terminal = sys.stdin is not None and sys.stdin.isatty()
    if not in_terminal and not in_notebook():
        return None
    try:
        typed = Secret(getpass.getpass(f"Customer.io Pipelines API key for {url}: ").strip())
    except (EOFError, NotImplementedError):  # a notebook that runs with nobody at it
        return None
    return checked_key(typed)


def _key_from_keyring(url: str) -> str | None:
    try:
        import keyring  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    with contextlib.suppress(Exception):  # no keyring that works: as if it were empty
        return keyring.get_password(_KEYRING_SERVICE, url)
    return None


def _save_key(destination: Destination) -> None:
    try:
        import keyring  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError.of("keyring", extra="keyring", purpose="save_key=True") from error
    if not _taken(keyring, destination):
        # Not while the keyring's own error is handled: its traceback could show the key.
        raise DestinationError("The keyring of this machine did not take the key.")


def _taken(keyring: Any, destination: Destination) -> bool:
    key = destination.api_key
    if key is not None:
        with contextlib.suppress(Exception):
            keyring.set_password(_KEYRING_SERVICE, destination.url, key.reveal())
            return True
    return False
