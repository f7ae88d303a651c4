r"""
# Training

The meta-objective is a mean over tasks, and each iteration takes a fresh batch of them:

$$ \theta \leftarrow \mathrm{update}\Big(\theta,\; \nabla_\theta \frac1B \sum_{i=1}^B F(\theta; \mathcal T_i)\Big). $$

Value and gradient of the mean are traced once; the program is run from then on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .autodiff import value_and_grad, vmap
from .machine import trace
from .optim import Optimizer

Draw = Callable[[np.random.Generator, int], Any]  # (rng, count) -> a batch of tasks, stacked along the first axis
CLEAR = "\r\x1b[K"  # the terminal's line


class Training(NamedTuple):
    """What `fit` returns."""

    theta: Any
    losses: np.ndarray
    """the mean loss over the batch, one for each iteration made"""
    interrupted: bool
    """whether Ctrl-C ended it"""


def fit(
    objective: Callable[[Any, Any], Any],
    theta: Any,
    draw: Draw,
    optimizer: Optimizer,
    *,
    iterations: int,
    meta_batch: int,
    rng: np.random.Generator,
    label: str = "training",
    quiet: bool = False,
) -> Training:
    """Minimise the mean of `objective(theta, task)` over random tasks.

    Parameters
    ----------
    objective : traceable scalar function of theta and one task
    theta : where to start
    draw : function (rng, count) that returns a batch of tasks
    optimizer : from `tinymeta.optim`
    iterations, meta_batch : how many updates, and how many tasks for each
    rng : where the randomness comes from: the same state gives the same result
    label, quiet : what the progress line says, and whether there is one

    Ctrl-C ends it cleanly: the result is what there is by then. Raises FloatingPointError if the loss is no longer finite.

    Example
    -------
    >>> import tinymeta as tm
    >>> result = fit(lambda theta, task: (theta - task) ** 2, np.zeros(()), lambda rng, count: rng.uniform(1, 3, count),
    ...              tm.optim.sgd(0.1), iterations=100, meta_batch=100, rng=np.random.default_rng(0), quiet=True)
    >>> round(float(result.theta), 1)
    2.0
    """

    def mean_loss(theta: Any, tasks: Any) -> Any:
        return np.mean(vmap(objective, (None, 0))(theta, tasks))

    program = trace(value_and_grad(mean_loss), theta, draw(np.random.default_rng(0), meta_batch))
    state, losses = optimizer.init(theta), []
    progress = Progress(label, iterations, quiet)
    interrupted = False
    try:
        for i in range(iterations):
            loss, gradient = program(theta, draw(rng, meta_batch))
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in iteration {i}: the inner or the outer learning rate is probably too large")
            theta, state = optimizer.update(theta, gradient, state)
            losses.append(float(loss))
            progress.show(i + 1, losses)
    except KeyboardInterrupt:
        interrupted = True
    progress.finish(len(losses), interrupted)
    return Training(theta, np.array(losses), interrupted)


class Progress:
    """A line on the terminal that tells how far it is, how fast, how long it will take, and the loss."""

    def __init__(self, label: str, total: int, quiet: bool) -> None:
        self.label, self.total, self.quiet = label, total, quiet
        self.begun = self.shown = time.monotonic()

    def show(self, done: int, losses: list[float]) -> None:
        """Say how it stands, a few times a second on a terminal and every ten seconds in a file."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if self.quiet or now - self.shown < (0.2 if terminal else 10.0):
            return
        self.shown = now
        rate = done / (now - self.begun)
        minutes, seconds = divmod(round((self.total - done) / rate), 60)
        line = (f"{self.label}: {done}/{self.total}, {rate:.0f} iterations a second, {minutes}:{seconds:02} left, "
                f"loss {np.mean(losses[-100:]):.3f}")  # fmt: skip
        print(f"{CLEAR}{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def finish(self, done: int, interrupted: bool) -> None:
        """Leave one line about the whole."""
        if not self.quiet:
            seconds = time.monotonic() - self.begun
            end = f"interrupted after {done} of {self.total} iterations" if interrupted else f"{done} iterations"
            print(f"{CLEAR if sys.stderr.isatty() else ''}{self.label}: {end} in {seconds:.1f} s", file=sys.stderr, flush=True)
