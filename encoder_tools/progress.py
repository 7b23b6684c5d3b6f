"""Progress on standard error: a bar on a terminal, lines elsewhere.

A line is ``LABEL: DONE/TOTAL UNIT (RATE, SECONDS LEFT)``. One is written every ten seconds, or at the interval in
`SECONDS_VARIABLE`. Programs that run a command parse these lines.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm

__all__ = ["BYTES", "PERCENT", "SECONDS_VARIABLE", "Progress"]

BYTES = "B"
PERCENT = "%"
SECONDS_VARIABLE = "GEOSAM_ES_PROGRESS_SECONDS"
"""Environment variable with the seconds between two lines."""

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager that shows the progress of a task on standard error.

    Parameters
    ----------
    label : str
        Name of the task.
    unit : str
        Unit of the counts; `BYTES` for bytes, `PERCENT` for shares, whose rate is not shown.
    """

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._bar: tqdm | None = None
        self._started = self._last_line = time.monotonic()
        self._first = self._last = self._shown = -1
        self._pause = _pause_seconds()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def __call__(self, done: int, total: int) -> None:
        """Show how many of ``total`` items are done.

        The rate is measured from the first call. If the count falls, a new task has begun, and the rate starts again.
        """
        if self._first < 0 or done < self._last:
            self._close_bar()
            self._started, self._first, self._shown = time.monotonic(), done, -1
        self._last = done
        if sys.stderr.isatty():
            self._draw(done, total)
        else:
            self._print(done, total)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            # Without the space, tqdm writes "7.2tiles/s".
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=self._label,
                unit=self._unit if self._unit == BYTES else f" {self._unit}",
                unit_scale=self._unit == BYTES,
                file=sys.stderr,
            )
        self._bar.update(done - self._bar.n)

    def _print(self, done: int, total: int) -> None:
        now = time.monotonic()
        is_end = done >= total
        if done == self._shown or (not is_end and now - self._last_line < self._pause):
            return
        self._shown, self._last_line = done, now
        elapsed = now - self._started
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        pace = [f"{self._amount(rate)}/s"] if rate > 0 and self._unit != PERCENT else []
        if rate > 0 and not is_end:
            pace.append(f"{(total - done) / rate:.0f} s left")
        text = f" ({', '.join(pace)})" if pace else ""
        print(f"{self._label}: {self._counts(done, total)}{text}", file=sys.stderr, flush=True)

    def _counts(self, done: int, total: int) -> str:
        if self._unit == BYTES:
            return f"{done / 1e6:.0f}/{total / 1e6:.0f} MB"
        return f"{done}/{total} {self._unit}"

    def _amount(self, rate: float) -> str:
        return f"{rate / 1e6:.1f} MB" if self._unit == BYTES else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def _pause_seconds() -> float:
    try:
        return float(os.environ[SECONDS_VARIABLE])
    except (KeyError, ValueError):
        return _SECONDS_BETWEEN_LINES
