"""How much memory many meta-steps leave behind: eagerly, and on the machine."""

from __future__ import annotations

import gc
import os
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm
from tinymeta import maml, nn, optim
from tinymeta.autodiff.tensor import Tensor
from tinymeta.tasks import sinusoids

EARLIER = 30
"""steps before the measurement: what is made once and kept, such as programs and caches, is there by then"""
PER_LOSS, SLACK, RESIDENT = 40, 20_000, 2_000_000
"""Bytes that a step may leave: its loss, a float in a list. And what all may: some of Python's own, or of whoever else is at work in
the process, less than a hundred nodes; and whole pages."""


class Growth(NamedTuple):
    """What some steps have left behind, in bytes."""

    steps: int
    traced: int
    """of all that Python and NumPy have asked for"""
    resident: int
    """of the process, as the system sees it"""

    @property
    def is_flat(self) -> bool:
        return self.traced <= SLACK + PER_LOSS * self.steps and self.resident <= RESIDENT + PER_LOSS * self.steps


def loss(phi: Any, points: Any) -> Any:
    return nn.mean_squared_error(nn.mlp(phi, points.x), points.y)


PROBLEM = tm.Bilevel(lambda phi, theta, task: loss(phi, task.support), lambda phi, theta, task: loss(phi, task.query))
THETA = nn.initialize_mlp(np.random.default_rng(0), (1, 8, 1))


def eagerly(steps: int, callback: Callable[[int], Any]) -> None:
    """Adam, on one task a step."""
    rng, optimizer, theta = np.random.default_rng(0), optim.adam(1e-3), THETA
    state, losses = optimizer.init(theta), []
    for k in range(steps):
        task = tm.tree.map(lambda x: x[0], sinusoids.draw(rng, 1, 5, 5))
        result = maml.meta_gradient(PROBLEM, theta, task, steps=2, lr=0.01)
        losses.append(float(result.value))
        theta, state = optimizer.update(theta, result.grad, state)
        callback(k)


def on_the_machine(steps: int, callback: Callable[[int], Any]) -> None:
    """The same by `tm.fit`, on four tasks a step."""
    tm.fit(maml.objective(PROBLEM, steps=2, lr=0.01), THETA, lambda rng, count: sinusoids.draw(rng, count, 5, 5), optim.adam(1e-3),
           iterations=steps, meta_batch=4, seed=0, quiet=True, callbacks=[lambda record: callback(record.iteration - 1)])  # fmt: skip


WAYS = {"eagerly": eagerly, "on the machine": on_the_machine}


Way = Callable[[int, Callable[[int], Any]], None]


def growth(way: Way, steps: int) -> Growth:
    """By how much memory grows in so many steps, after some earlier ones. Two runs: to trace what is asked for takes memory too."""
    tracemalloc.start()
    try:
        traced = _growth(way, steps, lambda: tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return Growth(steps, traced, _growth(way, steps, resident))


def _growth(way: Way, steps: int, size: Callable[[], int]) -> int:
    seen = []

    def look(k: int) -> None:
        if k in (EARLIER, EARLIER + steps):
            gc.collect()
            seen.append(size())

    way(EARLIER + steps + 1, look)
    before, later = seen
    return later - before


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system doesn't say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# ## Nodes
def most_nodes_alive(run: Callable[[], Any]) -> int:
    """The most Tensors that were there at once, of those that it made."""
    alive: set[Any] = set()
    most, make = 0, Tensor.__init__

    def counted(self: Tensor, *args: Any) -> None:
        nonlocal most
        make(self, *args)
        alive.add(weakref.ref(self, alive.discard))
        most = max(most, len(alive))

    Tensor.__init__ = counted  # type: ignore[method-assign]
    try:
        run()
    finally:
        Tensor.__init__ = make  # type: ignore[method-assign]
    return most
