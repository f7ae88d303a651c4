"""What workloads have in common: their form, MAML's loop for the peers, and each engine's mean over tasks with its gradient.

An engine is a column of the table: a function of no arguments that makes the function to be timed. It imports what it needs, so
one that is not installed raises ImportError, and is skipped by name.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm


class Workload(NamedTuple):
    """A row of the table: {engine: () -> function}, and the arguments that all the functions are called with."""

    name: str
    dtype: np.dtype
    engines: dict[str, Callable[[], Callable[..., Any]]]
    arguments: tuple[Any, ...]
    checked_on: tuple[Any, ...] | None = None  # the arguments that the engines must agree on, where it is not the ones above

    @property
    def title(self) -> str:
        return f"{self.name}, {self.dtype}"

    def of(self, *engines: str) -> "Workload":
        """The same with these engines only."""
        return self._replace(engines={name: self.engines[name] for name in engines})


def as_kept_by(engine: str, arguments: Any) -> Any:
    """The arguments as this engine keeps its arrays, so that no call has to move them."""
    if engine.startswith("JAX"):
        return jax_with_float64().device_put(arguments)
    if engine.startswith("torch"):
        import torch

        return tm.tree.map(torch.from_numpy, arguments)
    return arguments


def cast(arguments: Any, dtype: Any) -> Any:
    """All arrays of numbers in this precision; labels stay integers."""
    return tm.tree.map(lambda x: np.asarray(x, dtype if np.asarray(x).dtype.kind == "f" else None), arguments)


def jax_with_float64() -> Any:
    """JAX, allowed float64: float32 stays what it is."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def ready(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled by JAX, which returns before it has computed: wait for it."""
    import jax

    compiled = jax.jit(function)

    def waited(*arguments: Any) -> Any:
        return jax.block_until_ready(compiled(*arguments))

    return waited


# ## The inner loop, for the peers
def repeated(step: Callable[[Any], Any], carried: Any, steps: int, scan: bool) -> Any:
    """A loop that runs, or is unrolled while it is traced; with `scan` one that JAX compiles as a loop."""
    if scan:
        import jax

        return jax.lax.scan(lambda carried, _: (step(carried), None), carried, None, length=steps)[0]
    for _ in range(steps):
        carried = step(carried)
    return carried


def maml_of_peer(problem: tm.Bilevel, grad: Callable[..., Any], steps: int, lr: float, scan: bool = False) -> Callable[[Any, Any], Any]:
    """F(theta, task), as `tm.maml.objective` has it, with the peer's `grad`; phi is a list of arrays."""

    def F(theta: Any, task: Any) -> Any:
        def step(phi: Any) -> Any:
            g = grad(problem.inner)(phi, theta, task)
            return [part - lr * slope for part, slope in zip(phi, g, strict=True)]

        return problem.outer(repeated(step, problem.start(theta, task), steps, scan), theta, task)

    return F


# ## The mean of F(theta, task) over tasks, and its gradient with respect to theta
def mean_of_tinymeta(F: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return tm.value_and_grad(lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks)))


def mean_of_jax(F: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    import jax

    return ready(jax.value_and_grad(lambda theta, tasks: jax.numpy.mean(jax.vmap(F, (None, 0))(theta, tasks))))


def mean_of_torch(F: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    import torch

    gradient_and_value = torch.func.grad_and_value(lambda theta, tasks: torch.mean(torch.func.vmap(F, (None, 0))(theta, tasks)))
    return lambda theta, tasks: gradient_and_value(theta, tasks)[::-1]


def with_torch(make: Callable[[], Callable[..., Any]]) -> dict[str, Callable[[], Callable[..., Any]]]:
    """Two engines: torch with all threads, and with one, which is faster where arrays are small."""

    def on_threads(count: int | None) -> Callable[..., Any]:
        import torch

        function, count = make(), count or os.cpu_count() or 1

        def run(*arguments: Any) -> Any:
            torch.set_num_threads(count)
            return function(*arguments)

        return run

    return {"torch.func": lambda: on_threads(None), "torch.func, 1 thread": lambda: on_threads(1)}


def mean_of_autograd(F: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """One task after the other."""
    import autograd

    def mean(theta: Any, tasks: Any) -> Any:
        count = len(tm.tree.flatten(tasks)[0][0])
        return sum(F(theta, tm.tree.map(lambda part: part[i], tasks)) for i in range(count)) / count  # noqa: B023 - used at once

    return autograd.value_and_grad(mean)
