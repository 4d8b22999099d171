"""Shows progress as a bar of tqdm, as tqdm shows it wherever it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from cdp_backfill.results.progress import wording
from cdp_backfill.results.progress.display import Display

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp_backfill.results.progress.pace import Pace

_INTERVAL: Final = 0.1


class TqdmDisplay(Display):
    """A bar of ``tqdm.auto``: a widget in a notebook, a line elsewhere.

    It counts rows. Its time left is that of this package, not the average of tqdm, so it is unknown
    until the rate is steady.

    Args:
        clock: Monotonic time in seconds.
        options: Further arguments of tqdm, such as ``file``.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(_INTERVAL, clock=clock)
        self._options = options or {}
        self._bar: Any = None
        self._call: str | None = None

    def show(self, pace: Pace) -> None:
        """Redraw the bar; the rows after identities get a bar of their own."""
        now = pace.now
        done, total = now.tasks or (now.rows, now.total)
        if self._bar is not None and now.call != self._call:
            self._bar.close()
            self._bar = None
        if self._bar is None:
            from tqdm.auto import tqdm  # noqa: PLC0415  # it looks for widgets

            self._call = now.call
            # With miniters, tqdm does not draw from its own thread.
            self._bar = tqdm(
                total=total,
                unit=" rows",
                unit_scale=True,
                miniters=1,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
                **self._options,
            )
        bar = self._bar
        bar.total, bar.n = total, done
        bar.set_description(wording.title(now), refresh=False)
        failed = [f"{now.not_delivered:,} failed"] if now.not_delivered else []
        bar.set_postfix_str(", ".join([*wording.speed(pace), *failed]), refresh=False)
        bar.refresh()

    def close(self) -> None:
        """Show the final state and leave the bar in place."""
        super().close()
        if self._bar is not None:
            self._bar.close()
