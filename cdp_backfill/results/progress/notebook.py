"""Progress as an output of a notebook's cell."""

from __future__ import annotations

import html
import math
import textwrap
import time
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.results.progress import words
from cdp_backfill.results.progress.showing import Display

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.progress.pace import Pace

_INTERVAL: Final = 0.15
_WIDTH: Final = 80

_STYLE: Final = (
    "<style>.cdp-live{font:13px/1.5 system-ui,sans-serif;max-width:60em;"
    "font-variant-numeric:tabular-nums}"
    ".cdp-live .t{height:6px;margin:.3em 0;border-radius:3px;overflow:hidden;"
    "background:color-mix(in srgb,currentColor 15%,transparent)}"
    ".cdp-live .t div{height:100%;border-radius:3px;"
    "background:color-mix(in srgb,currentColor 70%,transparent)}"
    ".cdp-live .q{opacity:.75}</style>"
)


class Live(Display):
    """One output of the cell, which is replaced as the run goes on; no widgets are needed.

    Both a text and an HTML view are sent, and each front end shows the better one that it can:

    - **JupyterLab** and **Notebook 7**, which is built of its parts, replace the output in place;
      what they save is its last state. JupyterLab is what the tests drive.
    - **Classic Notebook** knows ``update_display_data`` since version 5.0.
    - **VS Code** replaces it in place as well. Some of its releases of early 2023 mixed up
      outputs of one cell, which was mended.
    - **Colab** gives an output the ``display_id`` that it was displayed with, and replaces it.
    - **PyCharm** and others that draw HTML do as Jupyter does. One that draws none shows the text.
    - **nbclient**, and with it ``jupyter execute`` and ``nbconvert --execute``, keeps the last
      state.
    - A front end that ignores updates, as consoles may, keeps the first state; the report comes
      after it in any case.

    Args:
        only_the_end: Show nothing before the end, where nobody would see it.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, *, only_the_end: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from IPython.display import DisplayHandle  # noqa: PLC0415  # there is one in a notebook

        super().__init__(_INTERVAL, first=math.inf if only_the_end else 0.0, clock=clock)
        self._handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self._shown = False

    def show(self, pace: Pace) -> None:
        """Replace the output."""
        bundle = {"text/plain": text_view(pace), "text/html": html_view(pace)}
        (self._handle.update if self._shown else self._handle.display)(bundle, raw=True)
        self._shown = True


def _lines(pace: Pace) -> list[str]:
    now = pace.now
    known = [words.percent(now)] if now.total is not None else []
    first = ", ".join([*known, words.amount(now), *words.speed(pace)])
    lines = [first, ", ".join(words.outcomes(now)), ", ".join(words.traffic(pace))]
    return [line for line in lines if line]


def text_view(pace: Pace) -> str:
    """A few lines of text, none of them longer than 80 characters."""
    title = words.TITLES[pace.now.state]
    first, *more = _lines(pace)
    lines = [f"{title}: {first}", *more, *words.reasons(pace.now)]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="    ") for line in lines)


def html_view(pace: Pace) -> str:
    """The same with a bar, for light and for dark themes; it can be read without its style."""
    now, title = pace.now, words.TITLES[pace.now.state]
    first, *more = map(html.escape, _lines(pace))
    parts = [_STYLE, f'<div class="cdp-live"><div><b>{title}:</b> {first}</div>']
    if now.share is not None:
        parts.append(f'<div class="t"><div style="width:{100 * now.share:.1f}%"></div></div>')
    parts.extend(f'<div class="q">{line}</div>' for line in more)
    parts.extend(f"<div>{html.escape(reason)}</div>" for reason in words.reasons(now))
    return "".join([*parts, "</div>"])
