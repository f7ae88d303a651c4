"""MAML on images: the network without convolutions of the paper's Omniglot experiment (Finn et al. 2017), 5-way and 1-shot.

Images and labels are random: what counts here is the arithmetic. The layers are adapted; batch norm's scales and shifts are learned, and
not adapted, as in the paper. A bias before batch norm would be taken out again with the mean, so only the last layer has one.

Among more than a million ReLUs, some inputs are so close to 0 that float32 can't tell their sign. Two engines that add up in another order
then differ by about 1 % in the gradient, and both are right. So they are checked to agree in float64.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm
from tinymeta.tasks import Data, Task

from . import common
from .common import Workload, cast, maml_of_peer

WAYS, QUERIES = 5, 15  # classes, and images of each that are asked; one of each is given
SIZES = (784, 256, 128, 64, 64, WAYS)


def omniglot(dtype: Any, tasks: int = 32, sizes: tuple[int, ...] = SIZES, lr: float = 0.4) -> Workload:
    """Value and gradient of the mean outer loss after one inner step."""
    random = np.random.default_rng(3)
    arguments = initial_parameters(random, sizes), Task(draw(random, tasks, 1, sizes[0]), draw(random, tasks, QUERIES, sizes[0]))
    F = tm.maml.objective(problem(Functions(tm.relu, tm.nn.batch_norm, tm.nn.cross_entropy)), steps=1, lr=lr)
    engines = {
        "tinymeta jit": lambda: tm.jit(common.mean_of_tinymeta(F)),
        "tinymeta vmap": lambda: common.mean_of_tinymeta(F),
        "autograd": lambda: omniglot_of_autograd(lr),
        "JAX unrolled": lambda: omniglot_of_jax(lr, scan=False),
        "JAX scan": lambda: omniglot_of_jax(lr, scan=True),
        **common.with_torch(lambda: omniglot_of_torch(lr)),
    }
    return Workload("MAML, Omniglot, 1 step", np.dtype(dtype), engines, cast(arguments, dtype), checked_on=first_tasks(arguments, 2))


def first_tasks(arguments: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    theta, tasks = arguments
    return theta, tm.tree.map(lambda part: part[:count], tasks)


def initial_parameters(random: np.random.Generator, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The layers W, ..., W, b, and batch norm's parts after each but the last."""
    weights = [tm.nn.glorot_uniform(random, shape) for shape in pairwise(sizes)]
    return {"layers": [*weights, np.zeros(sizes[-1])], "norms": [{"scale": np.ones(n), "shift": np.zeros(n)} for n in sizes[1:-1]]}


def draw(random: np.random.Generator, tasks: int, shots: int, pixels: int) -> Data:
    labels = random.permuted(np.tile(np.arange(WAYS), (tasks, shots)), axis=1)
    return Data(random.uniform(0, 1, (tasks, WAYS * shots, pixels)), labels)


# ## The network, of what each engine calls by a name of its own
class Functions(NamedTuple):
    relu: Callable[[Any], Any]
    batch_norm: Callable[[Any, Any], Any]
    cross_entropy: Callable[[Any, Any], Any]


def problem(functions: Functions) -> tm.Bilevel:
    def loss(phi: list[Any], theta: Any, data: Any) -> Any:
        *hidden, W, b = phi
        x = data.x
        for layer, norm in zip(hidden, theta["norms"], strict=True):
            x = functions.relu(functions.batch_norm(norm, x @ layer))
        return functions.cross_entropy(x @ W + b, data.y)

    return tm.Bilevel(
        inner=lambda phi, theta, task: loss(phi, theta, task.support),
        outer=lambda phi, theta, task: loss(phi, theta, task.query),
        init=lambda theta, task: theta["layers"],
    )


def batch_norm(np: Any) -> Callable[[Any, Any], Any]:
    """`tm.nn.batch_norm` in the peer's namespace."""

    def normalized(theta: Any, x: Any) -> Any:
        deviation = x - np.mean(x, axis=0)
        return deviation * (theta["scale"] / np.sqrt(np.mean(deviation**2, axis=0) + 1e-5)) + theta["shift"]

    return normalized


def omniglot_of_jax(lr: float, scan: bool) -> Callable[..., Any]:
    jax = common.jax_with_float64()

    def cross_entropy(logits: Any, labels: Any) -> Any:
        return -jax.numpy.mean(jax.numpy.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))

    functions = Functions(jax.nn.relu, batch_norm(jax.numpy), cross_entropy)
    return common.mean_of_jax(maml_of_peer(problem(functions), jax.grad, 1, lr, scan))


def omniglot_of_torch(lr: float) -> Callable[..., Any]:
    import torch

    functions = Functions(torch.relu, batch_norm(torch), torch.nn.functional.cross_entropy)
    return common.mean_of_torch(maml_of_peer(problem(functions), torch.func.grad, 1, lr))


def omniglot_of_autograd(lr: float) -> Callable[..., Any]:
    import autograd
    import autograd.numpy as np

    def cross_entropy(logits: Any, labels: Any) -> Any:
        shifted = logits - np.max(logits, axis=1, keepdims=True)
        logarithms = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        return -np.mean(logarithms[np.arange(len(labels)), labels])

    functions = Functions(lambda x: x * (x > 0), batch_norm(np), cross_entropy)
    return common.mean_of_autograd(maml_of_peer(problem(functions), autograd.grad, 1, lr))
