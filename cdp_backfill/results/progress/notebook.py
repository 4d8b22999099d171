"""Shows progress as the output of a notebook cell."""

from __future__ import annotations

import html
import math
import textwrap
import time
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.results.progress import wording
from cdp_backfill.results.progress.display import Display

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


class NotebookDisplay(Display):
    """One output of the cell, which is replaced as the run goes on. It needs no widgets.

    It has a text view and an HTML view, and each front end shows the better one that it supports:

    - **JupyterLab** and **Notebook 7** replace the output in place and save its last state. The
      tests use JupyterLab, which Notebook 7 is built from.
    - **Classic Notebook** supports ``update_display_data`` since version 5.0.
    - **VS Code** replaces the output in place. Some releases of early 2023 mixed up the outputs of
      a cell, which has been fixed.
    - **Colab** gives an output the ``display_id`` that it was displayed with, and replaces it.
    - **PyCharm** and other front ends with HTML do the same as Jupyter. One without HTML shows the
      text view.
    - **nbclient**, and so ``jupyter execute`` and ``nbconvert --execute``, keeps the last state.
    - A front end that ignores updates, such as a console, keeps the first state. The report
      follows in any case.

    Args:
        only_at_end: Show nothing before the end, for output that nobody can see during the run.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, *, only_at_end: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from IPython.display import DisplayHandle  # noqa: PLC0415  # a notebook has IPython

        super().__init__(_INTERVAL, first=math.inf if only_at_end else 0.0, clock=clock)
        self._handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self._displayed = False

    def show(self, pace: Pace) -> None:
        """Replace the output."""
        bundle = {"text/plain": text_view(pace), "text/html": html_view(pace)}
        (self._handle.update if self._displayed else self._handle.display)(bundle, raw=True)
        self._displayed = True


def _lines(pace: Pace) -> list[str]:
    now = pace.now
    percent = [wording.percent(now)] if now.share is not None else []
    first = ", ".join([*percent, wording.row_count(now), *wording.speed(pace)])
    lines = [first, ", ".join(wording.outcomes(now)), ", ".join(wording.traffic(pace))]
    return [line for line in lines if line]


def text_view(pace: Pace) -> str:
    """The progress as lines of text of at most 80 characters."""
    title = wording.title(pace.now)
    first, *more = _lines(pace)
    lines = [f"{title}: {first}", *more, *wording.reasons(pace.now)]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="    ") for line in lines)


def html_view(pace: Pace) -> str:
    """The same text with a bar, for light and dark themes; it is readable without its style."""
    now, title = pace.now, wording.title(pace.now)
    first, *more = map(html.escape, _lines(pace))
    parts = [_STYLE, f'<div class="cdp-live"><div><b>{title}:</b> {first}</div>']
    if now.share is not None:
        parts.append(f'<div class="t"><div style="width:{100 * now.share:.1f}%"></div></div>')
    parts.extend(f'<div class="q">{line}</div>' for line in more)
    parts.extend(f"<div>{html.escape(reason)}</div>" for reason in wording.reasons(now))
    return "".join([*parts, "</div>"])
