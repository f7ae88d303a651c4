"""
# The progress of a long computation

With tqdm installed, and somebody to look at it (a terminal, a notebook): tqdm's bar. Else a plain line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

CLEAR = "\r\x1b[K"  # the terminal's line


class Progress:
    """Tells how far it is, how fast, how long it will take, and the loss; `earlier` is how much was done before.

    >>> progress = Progress("training", total=100, quiet=True)
    >>> progress.show(1, [0.5])
    >>> progress.finish("100 iterations")
    """

    def __init__(self, label: str, total: int, quiet: bool, earlier: int = 0) -> None:
        self.label, self.total, self.quiet, self.earlier = label, total, quiet, earlier
        self.begun = self.shown = time.monotonic()
        self.bar = None if quiet else _bar(label, total, earlier)

    def show(self, done: int, losses: Sequence[float]) -> None:
        """Say how it stands, a few times a second where somebody looks and every ten seconds in a file."""
        if self.quiet:
            return
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.shown < (0.2 if terminal or self.bar else 10.0):
            return
        self.shown = now
        loss = f"loss {np.mean(losses[-100:]):.3f}"
        if self.bar:
            self.bar.set_postfix_str(loss, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        rate = (done - self.earlier) / (now - self.begun)
        minutes, seconds = divmod(round((self.total - done) / rate), 60)
        line = f"{self.label}: {done}/{self.total}, {rate:.0f} iterations a second, {minutes}:{seconds:02} left, {loss}"
        print(f"{CLEAR}{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def finish(self, end: str, then: str = "") -> None:
        """Leave one line about the whole: how it ended, and what can be done then."""
        if self.bar:
            self.bar.close()
        if not self.quiet:
            line = f"{self.label}: {end} in {time.monotonic() - self.begun:.1f} s{then}"
            print(f"{CLEAR if sys.stderr.isatty() else ''}{line}", file=sys.stderr, flush=True)


def _bar(label: str, total: int, earlier: int) -> Any:
    """tqdm's bar, or None if there is no tqdm or nobody to look at it."""
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(desc=label, total=total, initial=earlier, leave=False)
