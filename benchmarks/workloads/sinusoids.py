"""MAML on sinusoids: a small tanh network, many tasks of few points."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import tinymeta as tm
from tinymeta.tasks import sinusoids

from .common import Workload, cast, jax_with_float64, maml_of_peer, mean_of_jax, mean_of_tinymeta, mean_of_torch, with_torch


# `np` is NumPy for tinymeta, and for the peers their own namespace. The parameters are a list W, b, W, b, W, b.
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


def maml(steps: int, dtype: Any, tasks: int = 25, width: int = 40, lr: float = 0.01) -> Workload:
    """Value and gradient of the mean outer loss, of a 1-width-width-1 network and 10 + 10 points a task."""
    engines = {
        "tinymeta jit": lambda: tm.jit(maml_of_tinymeta(steps, lr)),
        "tinymeta vmap": lambda: maml_of_tinymeta(steps, lr),
        "tinymeta by hand": lambda: tm.value_and_grad(partial(maml_by_hand, np, tm.grad, steps, lr)),
        "autograd by hand": lambda: maml_of_autograd(steps, lr),
        "JAX unrolled": lambda: maml_of_jax(steps, lr, scan=False),
        "JAX scan": lambda: maml_of_jax(steps, lr, scan=True),
        **with_torch(lambda: maml_of_torch(steps, lr)),
    }
    arguments = initial_parameters(width), sinusoids.draw(np.random.default_rng(1), tasks)
    return Workload(f"MAML, {steps} step{'s'[: steps > 1]}", np.dtype(dtype), engines, cast(arguments, dtype))


def problem(np: Any) -> tm.Bilevel:
    return tm.Bilevel(
        inner=lambda phi, theta, task: squared_error(np, phi, task.support),
        outer=lambda phi, theta, task: squared_error(np, phi, task.query),
    )


def maml_of_tinymeta(steps: int, lr: float) -> Callable[..., Any]:
    """As the library's user writes it."""
    return mean_of_tinymeta(tm.maml.objective(problem(np), steps=steps, lr=lr))


def maml_of_jax(steps: int, lr: float, scan: bool) -> Callable[..., Any]:
    jax = jax_with_float64()
    return mean_of_jax(maml_of_peer(problem(jax.numpy), jax.grad, steps, lr, scan))


def maml_of_torch(steps: int, lr: float) -> Callable[..., Any]:
    import torch

    return mean_of_torch(maml_of_peer(problem(torch), torch.func.grad, steps, lr))


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
