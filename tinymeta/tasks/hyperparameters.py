r"""
# Hyperparameters: how strongly to hold each weight

Linear and logistic regression on d features, of which only a few matter. The training set adapts the weights w, each held towards 0 with a
strength of its own, $e^{\theta_j} > 0$; the validation set judges the strengths, and has no regulariser:

$$ L(w, \theta) = \operatorname{mean}_i \ell(x_i^\top w, y_i) + \tfrac12 \sum_j e^{\theta_j} w_j^2, \qquad
   f(w) = \operatorname{mean}_i \ell(x_i^\top w, y_i) \text{ over the validation set}. $$

The best strengths are large for the features that don't matter, which otherwise would fit the noise, and small for those that do. In a
task, the training set is the support set, and the validation set the query set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import check_count, check_generator
from ..autodiff import softplus
from .few_shot import Data, Task


# ## Data
def draw_linear(rng: np.random.Generator, n: int = 1000, d: int = 20, relevant: int = 5) -> Task:
    r"""$y = x_1 + \dots + x_r + \epsilon$, of r relevant features, x and the noise standard normal; half of the points to validate with.

    >>> task = draw_linear(np.random.default_rng(0))
    >>> task.support.x.shape, task.query.y.shape
    ((500, 20), (500,))
    """
    _check(rng, n, d, relevant)
    x = rng.standard_normal((n, d))
    return _halves(x, x[:, :relevant].sum(axis=1) + rng.standard_normal(n))


# Where $\epsilon$ has the logistic distribution, $P(s + \epsilon > 0) = P(\epsilon > -s) = \sigma(s)$.
def draw_logistic(rng: np.random.Generator, n: int = 1000, d: int = 20, relevant: int = 5) -> Task:
    r"""y is 1 with probability $\sigma(3 x_1 + \dots + 3 x_r)$, else -1; x is standard normal; half of the points to validate with.

    >>> task = draw_logistic(np.random.default_rng(0))
    >>> np.unique(task.support.y)
    array([-1.,  1.])
    """
    _check(rng, n, d, relevant)
    x = rng.standard_normal((n, d))
    return _halves(x, np.sign(3 * x[:, :relevant].sum(axis=1) + rng.logistic(size=n)))


def _check(rng: Any, n: Any, d: Any, relevant: Any) -> None:
    check_generator("rng", rng)
    check_count("n", n, 2, of="the points")
    check_count("d", d, 1, of="the features")
    check_count("relevant", relevant, 0, of="the features that matter")


def _halves(x: np.ndarray, y: np.ndarray) -> Task:
    half = len(x) // 2
    return Task(Data(x[:half], y[:half]), Data(x[half:], y[half:]))


# ## Losses
def linear_inner(w: Any, theta: Any, task: Task) -> Any:
    """L(w, theta) with half the squared error.

    >>> linear_inner(np.ones(20), np.full(20, -np.inf), Task(Data(np.eye(20), np.zeros(20)), None))
    np.float64(0.5)
    """
    return _squared(w, task.support) + _penalty(w, theta)


def linear_outer(w: Any, theta: Any, task: Task) -> Any:
    """f(w) with half the squared error.

    >>> linear_outer(np.ones(20), None, Task(None, Data(np.eye(20), np.zeros(20))))
    np.float64(0.5)
    """
    return _squared(w, task.query)


def logistic_inner(w: Any, theta: Any, task: Task) -> Any:
    r"""L(w, theta) with $\ell = \log(1 + e^{-y\,x^\top w})$.

    >>> round(float(logistic_inner(np.zeros(20), np.zeros(20), draw_logistic(np.random.default_rng(0)))), 6)
    0.693147
    """
    return _logistic(w, task.support) + _penalty(w, theta)


def logistic_outer(w: Any, theta: Any, task: Task) -> Any:
    r"""f(w) with $\ell = \log(1 + e^{-y\,x^\top w})$.

    >>> round(float(logistic_outer(np.zeros(20), None, draw_logistic(np.random.default_rng(0)))), 6)
    0.693147
    """
    return _logistic(w, task.query)


def start(theta: Any, task: Task) -> Any:
    """Where the weights start, at 0: for `Bilevel(linear_inner, linear_outer, start)`.

    >>> start(None, draw_linear(np.random.default_rng(0), d=3))
    array([0., 0., 0.])
    """
    return np.zeros(task.support.x.shape[1], task.support.x.dtype)


def _squared(w: Any, data: Data) -> Any:
    return 0.5 * np.mean((data.x @ w - data.y) ** 2)


def _logistic(w: Any, data: Data) -> Any:
    return np.mean(softplus(-data.y * (data.x @ w)))


def _penalty(w: Any, theta: Any) -> Any:
    return 0.5 * np.sum(np.exp(theta) * w**2)
