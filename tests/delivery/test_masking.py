"""A server that repeats the key shows it nowhere, whatever it does to it."""

from __future__ import annotations

import base64
import html
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_backfill.delivery.masking import KeyMask
from cdp_backfill.delivery.transport import error_reason
from cdp_backfill.errors import BackfillError
from cdp_backfill.model.secret import Secret
from tests.rows import OPENED, opens
from tests.servers import ReceivedRequest, Reply, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "a1B2/c3+D4=e5_F6-g7.h8"


def _basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _json(text: str) -> str:
    return "".join(f"\\u{ord(character):04X}" for character in text)


_FORMS: list[Callable[[str], str]] = [
    str,
    str.upper,
    str.lower,
    lambda key: key.encode().hex(),
    lambda key: _basic(f"{key}:"),
    lambda key: _basic(f"{key}:").rstrip("="),
    lambda key: base64.urlsafe_b64encode(f"{key}:".encode()).decode(),
    lambda key: _basic(f"Basic {key}"),
    lambda key: _basic(f"u:{key}"),
    lambda key: _basic(f'"{key}" is wrong'),
]
_ESCAPES: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, safe=""),
    lambda text: "".join(f"%{ord(character):02X}" for character in text),
    lambda text: "".join(f"%{ord(character):02x}" for character in text),
    html.escape,
    lambda text: "".join(f"&#{ord(character)};" for character in text),
    lambda text: "".join(f"&#x{ord(character):X};" for character in text),
    lambda text: "".join(f"&#{ord(character):05d}" for character in text),
    _json,
    lambda text: "".join(f"\\x{ord(character):02x}" for character in text),
    lambda text: "".join(f"\\{ord(character):03o}" for character in text),
    lambda text: "".join(f"\\u{{{ord(character):x}}}" for character in text),
    lambda text: text.replace("/", "\\/"),
]
_WRAPPERS: list[Callable[[str], str]] = [
    str,
    lambda text: json.dumps({"meta": {"errors": [f"wrong key {text}!"]}}),
    lambda text: f"<p>no <b>{text}</b></p>",
    lambda text: f'{{"error": "{text}',
]


@given(
    st.sampled_from(_FORMS),
    st.lists(st.sampled_from(_ESCAPES), max_size=3),
    st.sampled_from(_WRAPPERS),
    st.text("abcXYZ0189_-+/=.~", min_size=12, max_size=40),
)
def test_no_form_of_a_key_shows(
    form: Callable[[str], str],
    escapes: list[Callable[[str], str]],
    wrapper: Callable[[str], str],
    key: str,
) -> None:
    """Base64, hexadecimal, letter case and all usual escapes, also one on top of the other."""
    shown = form(key)
    for escape in escapes:
        shown = escape(shown)
    reason = error_reason(wrapper(shown).encode(), KeyMask(Secret(key)))
    assert "***" in reason
    assert len(reason) < len("no wrong key ***! is {error: '") + 20


def test_other_words_stay() -> None:
    """Only the key is replaced."""
    text = "The write key is not known; see https://example.com/%20a&amp;b"
    assert KeyMask(Secret(KEY)).apply(text) == text
    assert KeyMask(None).apply(text) == text


@pytest.mark.parametrize(
    "piece", ["\\", "&amp;", "a1", "%25", "a1B2/c3+D4=", "<", "<script", "</script>", "&#x0000"]
)
def test_a_hostile_answer_takes_no_time(piece: str) -> None:
    """No answer makes the search for the key run for long."""
    start = time.perf_counter()
    error_reason(piece.encode() * (65_536 // len(piece)), KeyMask(Secret(KEY)))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("status", [400, 401, 503])
def test_an_echoed_key_is_in_no_report(status: int, tmp_path: Path) -> None:
    """Neither in reasons nor in errors nor in saved files."""

    def answer(_: int, request: ReceivedRequest) -> Reply:
        said = request.headers["Authorization"]
        key = base64.b64decode(said.removeprefix("Basic ")).decode().rstrip(":")
        words = f"{said} {key} {quote(said)} {_json(key)} {key.upper()}"
        return Reply(status, json.dumps({"meta": {"errors": [words]}}).encode())

    texts = []
    with serving(answer) as server:
        destination = server.destination(api_key=KEY, patience=0.1)
        try:
            report = opens(2).cdp.send(OPENED, destination=destination, progress=False)
        except BackfillError as error:
            texts.append(str(error))
            report = error.report  # type: ignore[attr-defined]
    report.save(tmp_path)
    texts += [str(report), report._repr_html_(), report.failures.to_csv()]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    for text in texts:
        assert KEY.casefold() not in text.casefold()
        assert _basic(f"{KEY}:") not in text
        assert _json(KEY) not in text
