"""The LSTM optimizer on quadratics, with second derivatives dropped as in the paper: the gradients that the LSTM is shown are constants."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tinymeta as tm
from tinymeta.tasks import quadratics

from .common import Workload, cast, jax_with_float64, mean_of_jax, mean_of_tinymeta, mean_of_torch, repeated, with_torch


def learned_optimizer(dtype: Any, steps: int = 20, problems: int = 128) -> Workload:
    """Value and gradient, by the weights of two layers of 20, of the mean outer loss on ten-dimensional problems."""
    random = np.random.default_rng(2)
    drawn = [quadratics.draw(random, 10) for _ in range(problems)]
    arguments = tm.learned_optimizer.initialize(random), tm.tree.map(lambda *parts: np.stack(parts), *drawn)
    engines = {
        "tinymeta jit": lambda: tm.jit(lstm_of_tinymeta(steps)),
        "tinymeta vmap": lambda: lstm_of_tinymeta(steps),
        "JAX unrolled": lambda: lstm_of_jax(steps, scan=False),
        "JAX scan": lambda: lstm_of_jax(steps, scan=True),
        **with_torch(lambda: lstm_of_torch(steps)),
    }
    return Workload(f"LSTM optimizer, {steps} steps", np.dtype(dtype), engines, cast(arguments, dtype))


def lstm_of_tinymeta(steps: int) -> Callable[..., Any]:
    """As the library's user writes it."""
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda weights, task: np.ones_like(task.b))
    return mean_of_tinymeta(tm.learned_optimizer.objective(problem, steps=steps, second_derivatives=False))


def lstm_of_jax(steps: int, scan: bool) -> Callable[..., Any]:
    jax = jax_with_float64()

    def shown(phi: Any, task: Any) -> Any:
        return jax.lax.stop_gradient(jax.value_and_grad(quadratics.inner)(phi, None, task))

    return mean_of_jax(lstm_of_peer(jax.numpy, jax.nn.sigmoid, shown, steps, scan))


def lstm_of_torch(steps: int) -> Callable[..., Any]:
    import torch

    def shown(phi: Any, task: Any) -> Any:
        g, value = torch.func.grad_and_value(quadratics.inner)(phi, None, task)
        return value.detach(), g.detach()

    return mean_of_torch(lstm_of_peer(torch, torch.sigmoid, shown, steps))


def lstm_of_peer(np: Any, sigmoid: Any, shown: Callable[[Any, Any], Any], steps: int, scan: bool = False) -> Callable[[Any, Any], Any]:
    """F(weights, task), as `tm.learned_optimizer.objective` has it, in the peer's namespace; `shown` are the loss and its gradient."""

    def cell(layer: Any, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        z, n = np.concatenate([x, h], axis=1) @ layer["W"] + layer["b"], h.shape[1]
        i, f, o, g = (z[:, k * n : (k + 1) * n] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def F(weights: Any, task: Any) -> Any:
        def step(carried: Any) -> Any:
            phi, state = carried
            value, g = shown(phi, task)
            x, new_state = np.stack([phi, value * np.ones_like(phi), g], axis=1), []
            for layer, (h, c) in zip(weights["lstm"], state, strict=True):
                x, c = cell(layer, x, h, c)
                new_state.append((x, c))
            delta = tm.learned_optimizer.OUTPUT_SCALE * (x @ weights["output"]["W"] + weights["output"]["b"])
            return phi - delta[:, 0], new_state

        phi = np.ones_like(task.b)
        zero = np.zeros_like(phi[:, None] * weights["output"]["W"][:, 0])  # a row of units for each coordinate
        phi, _ = repeated(step, (phi, [(zero, zero) for _ in weights["lstm"]]), steps, scan)
        return quadratics.outer(phi, weights, task)

    return F
