r"""
# Optimizers, as pure functions

An optimizer is a pair of functions on nested parameters:

    state = optimizer.init(theta)
    theta, state = optimizer.update(theta, gradient, state)

Nothing is changed in place. They are written in NumPy, so they can be traced and differentiated like everything else, and
serve as the updates of an inner loop too (see `maml`). There $\alpha$ may itself be a function of what is learned: it is a
number, or a container shaped like theta with a number for each leaf or for each element, plain or traced. A state holds
floats; an int in it (a count of steps) is taken for a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .arguments import check_array, check_number, shown, wanted
from .autodiff import Tensor, tree
from .autodiff.reverse import repeated_axes

Rate = Any  # a number, or a container shaped like theta of numbers or arrays


class Optimizer(NamedTuple):
    """init(theta) -> state; update(theta, gradient, state) -> (theta, state)."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


def _check(alpha: Any, epsilon: Any = 0.0, **kept: Any) -> None:
    """The learning rate; epsilon; and the numbers below 1 that say how much of the past is kept. All may be Tensors."""
    if type(alpha) is not Tensor:
        _check_rate("alpha", alpha)
    for name, x in [("epsilon", epsilon), *kept.items()]:
        if type(x) is not Tensor or x.ndim:
            check_number(name, x, least=0, below=1 if name in kept else 1e150)  # the square of epsilon must be finite


def _check_rate(name: str, rate: Any) -> None:
    """A number, 0 or more; or containers of rates. What NumPy computed may have been learned, and be negative; Tensors aren't looked at."""
    if tree.children(rate) is not None:
        for part, leaf in zip(tree.names(rate, name), tree.flatten(rate)[0], strict=True):
            _check_rate(part, leaf)
    elif isinstance(rate, (np.ndarray, np.generic)):
        check_array(name, rate, of=RATES)
    elif type(rate) is not Tensor:
        check_number(name, rate, least=0, of=RATES)


RATES = "as learning rates: one for all, or containers like phi's, PerStep, or a function of theta"


def _zeros(theta: Any) -> Any:
    return tree.map(np.zeros_like, theta)


def rates(alpha: Rate, theta: Any) -> Any:
    """alpha as a tree shaped like theta: a number is the same for all leaves.

    Raises ValueError if alpha is neither a number nor shaped like theta; in place of an array there may be what broadcasts to it.

    >>> rates(0.1, {"W": np.ones(2), "b": np.zeros(1)})
    {'W': 0.1, 'b': 0.1}
    """
    if tree.children(alpha) is None and np.ndim(alpha) == 0:
        return tree.map(lambda _: alpha, theta)
    leaves, structure = tree.flatten(theta)
    found = tree.leaves_like(structure, alpha, "the learning rate")
    for rate, leaf in zip(found, leaves, strict=True):
        if repeated_axes(np.shape(rate), np.shape(leaf)) is None:
            raise ValueError(f"a learning rate of shape {np.shape(rate)} doesn't fit parameters of shape {np.shape(leaf)}: give one "
                             "number for all, or containers like the parameters', with a number or such an array for each")  # fmt: skip
    return tree.unflatten(structure, found)


class PerStep(NamedTuple):
    """A learning rate for each step of an inner loop (MAML++; Antoniou et al. 2019): `rates[t]` is that of step t.

    >>> from tinymeta import Bilevel, maml
    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2)
    >>> maml.adapt(problem, 1.0, None, steps=2, lr=PerStep([0.25, 0.5]))
    np.float64(0.0)
    """

    rates: Any


def rate_at(alpha: Any, t: int) -> Rate:
    """The learning rate of step t, whether alpha is a `PerStep` or one for all steps.

    >>> rate_at(PerStep([0.1, 0.2]), 1), rate_at(0.3, 1)
    (0.2, 0.3)
    """
    try:
        return alpha.rates[t] if isinstance(alpha, PerStep) else alpha
    except (TypeError, IndexError, KeyError):
        raise ValueError(f"PerStep(rates={shown(alpha.rates)}) has no learning rate for step {t}: give a sequence, one for each") from None


def floats_of(state: Any) -> Any:
    """A state with None, which is an empty container, in the place of each int: a count of steps has no derivative.

    >>> floats_of({"m": 0.5, "t": 3})
    {'m': 0.5, 't': None}
    """
    return tree.map(lambda x: None if isinstance(x, int) else x, state)


def check_rates(lr: Any, steps: int) -> None:
    """Learning rates of an inner loop.

    >>> check_rates({"W": 0.1, "b": "0.1"}, 5)
    Traceback (most recent call last):
    ValueError: lr['b']='0.1': a number, 0 or more, ...
    """
    if isinstance(lr, PerStep):
        check_per_step(lr, steps)
    if not tree.flatten(lr)[0]:
        raise wanted("lr", lr, f"numbers {RATES}")
    _check_rate("lr", lr)


def check_per_step(alpha: PerStep, steps: int) -> None:
    """That there is one for each step.

    >>> check_per_step(PerStep([0.1]), 2)
    Traceback (most recent call last):
    ValueError: PerStep has 1 learning rates for 2 steps: give one for each
    """
    rates = alpha.rates
    if not (isinstance(rates, (list, tuple)) or (isinstance(rates, (np.ndarray, Tensor)) and rates.ndim)):
        raise wanted("PerStep.rates", rates, "a list or an array, with a learning rate for each step", TypeError)
    if len(rates) != steps:
        raise ValueError(f"PerStep has {len(rates)} learning rates for {steps} steps: give one for each")


def sgd(alpha: Rate) -> Optimizer:
    r"""Gradient descent: $\theta \leftarrow \theta - \alpha g$.

    >>> optimizer = sgd(0.1)
    >>> optimizer.update(np.array([1.0]), np.array([2.0]), optimizer.init(np.array([1.0])))[0]
    array([0.8])
    """

    _check(alpha)

    def update(theta: Any, g: Any, state: None) -> tuple[Any, None]:
        return tree.map(lambda theta, alpha, g: theta - alpha * g, theta, rates(alpha, theta), g), None

    return Optimizer(lambda theta: None, update)


def momentum(alpha: Rate, mu: float = 0.9) -> Optimizer:
    r"""The heavy ball (Polyak 1964): $v \leftarrow \mu v + g$, $\theta \leftarrow \theta - \alpha v$.

    >>> optimizer = momentum(0.1)
    >>> optimizer.update(np.array([1.0]), np.array([2.0]), optimizer.init(np.array([1.0])))[0]
    array([0.8])
    """

    _check(alpha, mu=mu)

    def update(theta: Any, g: Any, v: Any) -> tuple[Any, Any]:
        v = tree.map(lambda v, g: mu * v + g, v, g)
        return tree.map(lambda theta, alpha, v: theta - alpha * v, theta, rates(alpha, theta), v), v

    return Optimizer(_zeros, update)


def rmsprop(alpha: Rate, rho: float = 0.9, epsilon: float = 1e-8) -> Optimizer:
    r"""Gradients divided by their recent size (Hinton 2012):
    $v \leftarrow \rho v + (1 - \rho) g^2$, $\theta \leftarrow \theta - \alpha g / \sqrt{v + \epsilon^2}$.

    >>> optimizer = rmsprop(0.1, rho=0.0)
    >>> optimizer.update(np.array([1.0]), np.array([2.0]), optimizer.init(np.array([1.0])))[0]
    array([0.9])
    """

    _check(alpha, epsilon, rho=rho)

    def update(theta: Any, g: Any, v: Any) -> tuple[Any, Any]:
        v = tree.map(lambda v, g: rho * v + (1 - rho) * g**2, v, g)
        step = lambda theta, alpha, g, v: theta - alpha * g / np.sqrt(v + epsilon**2)
        return tree.map(step, theta, rates(alpha, theta), g, v), v

    return Optimizer(_zeros, update)


def adam(alpha: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> Optimizer:
    r"""Adam (Kingma & Ba 2015, algorithm 1).

    $$ m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
       \theta \leftarrow \theta - \alpha\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t) + \epsilon^2}} $$

    The paper adds $\epsilon$ to the root; here its square stands under the root, so that the update has a derivative
    where v is 0. The two differ only where $\sqrt v$ is not much larger than $\epsilon$.

    >>> optimizer = adam(0.1)
    >>> theta, state = optimizer.update(np.array([1.0]), np.array([2.0]), optimizer.init(np.array([1.0])))
    >>> theta
    array([0.9])
    """

    _check(alpha, epsilon, beta_1=beta_1, beta_2=beta_2)

    def init(theta: Any) -> Any:
        return {"m": _zeros(theta), "v": _zeros(theta), "t": 0}

    def update(theta: Any, g: Any, state: Any) -> tuple[Any, Any]:
        t = state["t"] + 1
        m = tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, state["m"], g)
        v = tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g**2, state["v"], g)

        def step(theta: Any, alpha: Any, m: Any, v: Any) -> Any:
            return theta - alpha * (m / (1 - beta_1**t)) / np.sqrt(v / (1 - beta_2**t) + epsilon**2)

        return tree.map(step, theta, rates(alpha, theta), m, v), {"m": m, "v": v, "t": t}

    return Optimizer(init, update)
