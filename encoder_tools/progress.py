"""Progress on the terminal: a bar where there is one, plain lines where there is not."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager that shows how far a task is, on standard error.

    Parameters
    ----------
    label : str
        What is being done.
    unit : str
        What is being counted; ``B`` for bytes.
    """

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._bar: tqdm | None = None
        self._started = time.monotonic()
        self._last_line = self._started
        self._shown = -1

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if sys.stderr.isatty():
            self._draw(done, total)
        else:
            self._print(done, total)

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total, desc=self._label, unit=self._unit, unit_scale=self._unit == "B", file=sys.stderr
            )
        self._bar.update(done - self._bar.n)

    def _print(self, done: int, total: int) -> None:
        now = time.monotonic()
        is_end = done >= total
        if done == self._shown or (not is_end and now - self._last_line < _SECONDS_BETWEEN_LINES):
            return
        self._shown, self._last_line = done, now
        elapsed = now - self._started
        rate = done / elapsed if elapsed > 0 else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and not is_end else ""
        print(f"{self._label}: {done}/{total} {self._unit} ({rate:.1f}/s{left})", file=sys.stderr, flush=True)
