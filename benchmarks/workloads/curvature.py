"""The dense Hessian of one sinusoid's inner loss: all second derivatives, as one matrix."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import tinymeta as tm
from tinymeta.tasks import sinusoids

from .common import Workload, cast, jax_with_float64, ready, with_torch
from .sinusoids import initial_parameters, squared_error


def hessian(dtype: Any, width: int = 40) -> Workload:
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
        **with_torch(lambda: hessian_of_torch(shapes)),
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


def hessian_of_torch(shapes: list[tuple[int, ...]]) -> Callable[..., Any]:
    import torch

    return torch.func.hessian(partial(loss_of_vector, torch, shapes))
