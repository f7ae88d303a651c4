"""What is computed, by each engine: the same arithmetic on the same arrays.

An engine is a column of the table: a function of no arguments that makes the function to be timed. It imports what it needs, so
one that is not installed raises ImportError, and is skipped by name.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm
from tinymeta.tasks import quadratics, sinusoids

TASKS, PROBLEMS = 25, 128  # sinusoids for MAML, quadratics for the LSTM


class Workload(NamedTuple):
    """A row of the table: {engine: () -> function}, and the arguments that all the functions are called with."""

    name: str
    dtype: np.dtype
    engines: dict[str, Callable[[], Callable[..., Any]]]
    arguments: tuple[Any, ...]

    def arguments_of(self, engine: str) -> tuple[Any, ...]:
        """The arguments as this engine keeps its arrays, so that no call has to move them."""
        if not engine.startswith("JAX"):
            return self.arguments
        import jax

        return jax.device_put(self.arguments)


def cast(arguments: Any, dtype: Any) -> Any:
    return tm.tree.map(lambda x: np.asarray(x, dtype), arguments)


def jax_with_float64() -> Any:
    """JAX, allowed float64: float32 stays what it is."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def ready(function: Callable[..., Any]) -> Callable[..., Any]:
    """JAX returns before it has computed: wait for it."""
    import jax

    compiled = jax.jit(function)

    def waited(*arguments: Any) -> Any:
        return jax.block_until_ready(compiled(*arguments))

    return waited


def repeated(step: Callable[[Any, Any], tuple[Any, Any]], carried: Any, steps: int, scan: bool) -> Any:
    """A loop for JAX: one that it compiles as a loop, or one that is unrolled while it traces."""
    import jax

    if scan:
        return jax.lax.scan(step, carried, None, length=steps)[0]
    for _ in range(steps):
        carried, _ = step(carried, None)
    return carried


# ## The network
# `np` is NumPy for tinymeta, and autograd's or JAX's wrapped one for these. The parameters are a list W, b, W, b, W, b.
def network(np: Any, theta: list[Any], x: Any) -> Any:
    for W, b in zip(theta[:-2:2], theta[1:-2:2], strict=True):
        x = np.tanh(x @ W + b)
    return x @ theta[-2] + theta[-1]


def squared_error(np: Any, theta: list[Any], data: Any) -> Any:
    """The mean over points and outputs; one number for each task, if the parameters have an axis of tasks in front."""
    return np.mean((network(np, theta, data.x) - data.y) ** 2, axis=(-2, -1))


def initial_parameters(width: int = 40) -> list[np.ndarray]:
    layers = tm.nn.initialize_mlp(np.random.default_rng(0), (1, width, width, 1))
    return [layer[part] for layer in layers for part in ("W", "b")]


# ## MAML
def maml(steps: int, dtype: Any, tasks: int = TASKS, width: int = 40, lr: float = 0.01) -> Workload:
    """Value and gradient of the mean outer loss."""
    engines = {
        "tinymeta jit": lambda: tm.jit(maml_of_tinymeta(steps, lr)),
        "tinymeta vmap": lambda: maml_of_tinymeta(steps, lr),
        "tinymeta by hand": lambda: tm.value_and_grad(partial(maml_by_hand, np, tm.grad, steps, lr)),
        "autograd by hand": lambda: maml_of_autograd(steps, lr),
        "JAX unrolled": lambda: maml_of_jax(steps, lr, scan=False),
        "JAX scan": lambda: maml_of_jax(steps, lr, scan=True),
    }
    arguments = initial_parameters(width), sinusoids.draw(np.random.default_rng(1), tasks)
    return Workload(f"MAML, {steps} step{'s'[: steps > 1]}", np.dtype(dtype), engines, cast(arguments, dtype))


def maml_of_tinymeta(steps: int, lr: float) -> Callable[..., Any]:
    """As the library's user writes it."""
    problem = tm.Bilevel(
        inner=lambda phi, theta, task: squared_error(np, phi, task.support),
        outer=lambda phi, theta, task: squared_error(np, phi, task.query),
    )
    F = tm.maml.objective(problem, steps=steps, lr=lr)
    return tm.value_and_grad(lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks)))


# The same source for two engines: the tasks are an axis of every array, and the gradient of the sum of their losses holds each task's.
def maml_by_hand(np: Any, grad: Callable[..., Any], steps: int, lr: float, theta: list[Any], tasks: Any) -> Any:
    ones = np.ones((len(tasks.query.x), 1, 1), tasks.query.x.dtype)
    phi = [ones * part for part in theta]
    for _ in range(steps):
        g = grad(lambda phi: np.sum(squared_error(np, phi, tasks.support)))(phi)
        phi = [part - lr * slope for part, slope in zip(phi, g, strict=True)]
    return np.mean(squared_error(np, phi, tasks.query))


def maml_of_autograd(steps: int, lr: float) -> Callable[..., Any]:
    import autograd

    return autograd.value_and_grad(partial(maml_by_hand, autograd.numpy, autograd.grad, steps, lr))


def maml_of_jax(steps: int, lr: float, scan: bool) -> Callable[..., Any]:
    jax = jax_with_float64()
    loss = partial(squared_error, jax.numpy)

    def F(theta: Any, task: Any) -> Any:
        def step(phi: Any, _: Any) -> Any:
            g = jax.grad(loss)(phi, task.support)
            return [part - lr * slope for part, slope in zip(phi, g, strict=True)], None

        phi = repeated(step, theta, steps, scan)
        return loss(phi, task.query)

    return ready(jax.value_and_grad(lambda theta, tasks: jax.numpy.mean(jax.vmap(F, (None, 0))(theta, tasks))))


# ## The learned optimizer
# What the paper does: the gradients that the LSTM is shown are constants.
def learned_optimizer(dtype: Any, steps: int = 20, problems: int = PROBLEMS) -> Workload:
    """Value and gradient, by the weights of an LSTM of 20, of the mean outer loss; second derivatives dropped."""
    random = np.random.default_rng(2)
    drawn = [quadratics.draw(random, 10) for _ in range(problems)]
    arguments = tm.learned_optimizer.initialize(random), tm.tree.map(lambda *parts: np.stack(parts), *drawn)
    engines = {
        "tinymeta jit": lambda: tm.jit(lstm_of_tinymeta(steps, dtype)),
        "tinymeta vmap": lambda: lstm_of_tinymeta(steps, dtype),
        "JAX unrolled": lambda: lstm_of_jax(steps, dtype, scan=False),
        "JAX scan": lambda: lstm_of_jax(steps, dtype, scan=True),
    }
    return Workload(f"LSTM optimizer, {steps} steps", np.dtype(dtype), engines, cast(arguments, dtype))


def lstm_of_tinymeta(steps: int, dtype: Any) -> Callable[..., Any]:
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda weights, task: np.ones(10, dtype))
    F = tm.learned_optimizer.objective(problem, steps=steps, second_derivatives=False)
    return tm.value_and_grad(lambda weights, tasks: np.mean(tm.vmap(F, (None, 0))(weights, tasks)))


def lstm_of_jax(steps: int, dtype: Any, scan: bool) -> Callable[..., Any]:
    jax = jax_with_float64()
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def F(weights: Any, task: Any) -> Any:
        def step(carried: Any, _: Any) -> Any:
            phi, h, c = carried
            value, g = jax.lax.stop_gradient(jax.value_and_grad(quadratics.inner)(phi, None, task))
            x = jnp.stack([phi, value * jnp.ones_like(phi), g], axis=1)
            i, f, o, g = jnp.split(jnp.concatenate([x, h], axis=1) @ weights["lstm"]["W"] + weights["lstm"]["b"], 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            delta = tm.learned_optimizer.OUTPUT_SCALE * (h @ weights["output"]["W"] + weights["output"]["b"])
            return (phi - delta[:, 0], h, c), None

        start = jnp.ones(10, dtype), jnp.zeros((10, 20), dtype), jnp.zeros((10, 20), dtype)
        phi, *_ = repeated(step, start, steps, scan)
        return quadratics.outer(phi, weights, task)

    return ready(jax.value_and_grad(lambda weights, tasks: jnp.mean(jax.vmap(F, (None, 0))(weights, tasks))))


# ## The dense Hessian
def hessian(dtype: Any, width: int = 40) -> Workload:
    """All second derivatives of one task's inner loss, as one matrix."""
    theta = initial_parameters(width)
    shapes = [part.shape for part in theta]
    task = sinusoids.draw(np.random.default_rng(1), 1)
    data = tm.tree.map(lambda part: part[0], task.support)
    engines = {
        "tinymeta jit": lambda: tm.jit(tm.hessian(partial(loss_of_vector, np, shapes))),
        "tinymeta eager": lambda: tm.hessian(partial(loss_of_vector, np, shapes)),
        "autograd": lambda: hessian_of_autograd(shapes),
        "JAX, forward over reverse": lambda: hessian_of_jax(shapes, "jacfwd"),
        "JAX, reverse over reverse": lambda: hessian_of_jax(shapes, "jacrev"),
    }
    vector = np.concatenate([part.ravel() for part in theta])
    return Workload(f"Hessian, {vector.size:,} x {vector.size:,}", np.dtype(dtype), engines, cast((vector, data), dtype))


def loss_of_vector(np: Any, shapes: list[tuple[int, ...]], vector: Any, data: Any) -> Any:
    theta, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        theta.append(np.reshape(vector[start : start + size], shape))
        start += size
    return squared_error(np, theta, data)


def hessian_of_autograd(shapes: list[tuple[int, ...]]) -> Callable[..., Any]:
    import autograd

    return autograd.hessian(partial(loss_of_vector, autograd.numpy, shapes))


def hessian_of_jax(shapes: list[tuple[int, ...]], outer: str) -> Callable[..., Any]:
    jax = jax_with_float64()
    return ready(getattr(jax, outer)(jax.grad(partial(loss_of_vector, jax.numpy, shapes))))
