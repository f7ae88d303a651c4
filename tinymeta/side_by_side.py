r"""
# Every estimator on three problems

What `python -m tinymeta compare` shows: a quadratic, where all has a closed form; ridge regression, where theta are hyperparameters;
a small network on sine waves. Each section is one problem with one theta, and two dictionaries of estimators: those that claim
to be the *gradient* of what they run, and the *shortcuts*, which don't. A further estimator is one more line.

The closed forms, for the inner loss $\tfrac12 \phi^\top A \phi - b^\top \phi$, with g the outer gradient at the adapted parameters:

- K steps from $\theta$ end at $\phi_K = \phi^\star + (I - \alpha A)^K (\theta - \phi^\star)$, so $dF/d\theta = (I - \alpha A)^K g$; first
  order is g;
- with the proximal term, $(A + \lambda I)\,\phi^\star = b + \lambda\theta$ and $dF/d\theta = \lambda (A + \lambda I)^{-1} g$;
- one step with a learning rate for each element, $\phi = \theta - \alpha \odot (A\theta - b)$, has
  $dF/d\theta = (I - \operatorname{diag}(\alpha) A)^\top g$ and $dF/d\alpha = -(A\theta - b) \odot g$;
- ridge regression, $H w = X^\top y / n$ with $H = X^\top X / n + \operatorname{diag} e^\theta$, has
  $dw/d\theta_j = -H^{-1} e^{\theta_j} w_j e_j$, so $dF/d\theta = -e^\theta \odot w \odot H^{-1} g$.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import implicit, learned_optimizer, maml, nn
from .autodiff import tree
from .bilevel import Bilevel, MetaGradient
from .comparison import Comparison, Estimator, compare, relative_error
from .proofs import network_loss
from .tasks import quadratics, sinusoids

TOLERANCE = {"the truth": 1e-7, "its closed form": 1e-9}  # differences, and solves that stop at a small residual, are not exact either


class Section(NamedTuple):
    """One table: a problem, and what is done with it."""

    title: str
    problem: Bilevel
    theta: Any
    task: Any
    gradients: dict[str, Estimator]
    shortcuts: dict[str, Estimator]
    exact: dict[str, Any]

    def compare(self) -> Comparison:
        """All of them, side by side."""
        return compare(self.problem, self.theta, self.task, self.gradients | self.shortcuts, self.exact)

    def complaints(self, comparison: Comparison) -> list[str]:
        """What is not as it should be: an estimator that raised, a gradient that isn't the truth, a closed form that is missed."""
        found = []
        for row in comparison.rows:
            claims = {"its closed form": row.exact_error} | ({"the truth": row.error} if row.name in self.gradients else {})
            if row.failure:
                found.append(f"{row.name} failed")
            found += [f"{row.name} is {error:.1e} away from {what}" for what, error in claims.items()
                      if error is not None and not error <= TOLERANCE[what]]  # fmt: skip
        return found


def with_proximal(strength: float, **options: Any) -> Estimator:
    """iMAML: the implicit gradient of the same problem with a proximal term, as an estimator.

    >>> problem = Bilevel(lambda phi, theta, task: 0.5 * phi**2, lambda phi, theta, task: phi)
    >>> with_proximal(1.0, solver="cholesky")(problem, 4.0, None).grad  # 1 / (1 + 1/lambda)
    array(0.5)
    """

    def estimator(problem: Bilevel, theta: Any, task: Any) -> MetaGradient:
        return implicit.meta_gradient(implicit.proximal(problem, strength), theta, task, **options)

    return estimator


# ## A quadratic
def quadratic(seed: int) -> list[Section]:
    """Six dimensions, condition number 10.

    >>> print(quadratic(0)[0].title)
    A quadratic; theta is where the adaptation starts
    """
    rng = np.random.default_rng(seed)
    task, start = quadratics.draw(rng, 6), rng.standard_normal(6)
    learned = _learned("A quadratic", rng, Bilevel(quadratics.inner, quadratics.outer), start, task)
    return [_from_a_start(task, start), _with_learning_rates(task, start), learned]


def _from_a_start(task: quadratics.Quadratic, start: Any) -> Section:
    steps, alpha, strength = 5, 0.5, 1.0
    identity, minimum = np.eye(6), np.linalg.solve(task.A, task.b)
    power = np.linalg.matrix_power(identity - alpha * task.A, steps)
    H = task.A + strength * identity
    g_unrolled = _outer_gradient(minimum + power @ (start - minimum), task)
    g_proximal = _outer_gradient(np.linalg.solve(H, task.b + strength * start), task)
    unrolled = partial(maml.meta_gradient, steps=steps, lr=alpha)
    gradients: dict[str, Estimator] = {
        "MAML, by graph": unrolled,
        "MAML, by recursion": partial(unrolled, by="recursion"),
        "iMAML, Cholesky": with_proximal(strength, solver="cholesky"),
        "iMAML, LU": with_proximal(strength, solver="lu"),
    }
    shortcuts: dict[str, Estimator] = {
        "MAML, first order": partial(unrolled, order=1),
        "iMAML, damped by 0.1": with_proximal(strength, solver="cholesky", damping=0.1),
    }
    exact = {name: power @ g_unrolled if name.startswith("MAML") else strength * np.linalg.solve(H, g_proximal) for name in gradients}
    exact["MAML, first order"] = g_unrolled
    exact["iMAML, damped by 0.1"] = strength * np.linalg.solve(H + 0.1 * identity, g_proximal)
    return Section("A quadratic; theta is where the adaptation starts", Bilevel(quadratics.inner, quadratics.outer), start, task,
                   gradients, shortcuts, exact)  # fmt: skip


def _with_learning_rates(task: quadratics.Quadratic, start: Any) -> Section:
    alpha = np.linspace(0.2, 0.7, 6)
    g_inner = task.A @ start - task.b
    g = _outer_gradient(start - alpha * g_inner, task)
    one_step = {"start": g - task.A @ (alpha * g), "alpha": -g_inner * g}
    meta_sgd = partial(maml.meta_gradient, lr=lambda theta: theta["alpha"])
    gradients: dict[str, Estimator] = {
        "Meta-SGD, 1 step": partial(meta_sgd, steps=1),
        "Meta-SGD, by recursion": partial(meta_sgd, steps=1, by="recursion"),
        "Meta-SGD, 5 steps": partial(meta_sgd, steps=5),
        "iMAML, Cholesky": with_proximal(1.0, solver="cholesky"),  # the end has forgotten the learning rates: 0 for them
    }
    shortcuts: dict[str, Estimator] = {"Meta-SGD, first order": partial(meta_sgd, steps=1, order=1)}
    exact = {"Meta-SGD, 1 step": one_step, "Meta-SGD, by recursion": one_step, "Meta-SGD, first order": one_step | {"start": g}}
    problem = Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"])
    return Section("A quadratic; theta is the start and a learning rate for each element", problem, {"start": start, "alpha": alpha}, task,
                   gradients, shortcuts, exact)  # fmt: skip


def _outer_gradient(phi: Any, task: quadratics.Quadratic) -> Any:
    return task.C @ (phi - task.d)


# ## Ridge regression
class Split(NamedTuple):
    """Points to train on, and points to validate with."""

    X: Any
    y: Any
    X_validation: Any
    y_validation: Any


def _ridge_loss(w: Any, theta: Any, task: Split) -> Any:
    return 0.5 * np.mean((task.X @ w - task.y) ** 2) + 0.5 * np.sum(np.exp(theta) * w**2)


def _validation_loss(w: Any, theta: Any, task: Split) -> Any:
    return 0.5 * np.mean((task.X_validation @ w - task.y_validation) ** 2)


def ridge(seed: int) -> list[Section]:
    """Eight weights, of which four matter, each with a strength of its own; 20 points, and 20 to validate with.

    >>> ridge(0)[0].theta.shape
    (8,)
    """
    rng = np.random.default_rng(seed)
    weights, X = np.repeat([1.0, 0.0], 4), rng.standard_normal((40, 8))
    y = X @ weights + rng.standard_normal(40)
    task, theta = Split(X[:20], y[:20], X[20:], y[20:]), np.full(8, np.log(0.1))
    H = task.X.T @ task.X / 20 + np.diag(np.exp(theta))
    w = np.linalg.solve(H, task.X.T @ task.y / 20)
    g = task.X_validation.T @ (task.X_validation @ w - task.y_validation) / 20
    unrolled = partial(maml.meta_gradient, steps=20, lr=1 / np.linalg.norm(H, 2))
    gradients: dict[str, Estimator] = {
        "implicit, Cholesky": partial(implicit.meta_gradient, solver="cholesky"),
        "implicit, LU": partial(implicit.meta_gradient, solver="lu"),
        "unrolled, 20 steps, by graph": unrolled,
        "unrolled, 20 steps, by recursion": partial(unrolled, by="recursion"),
    }
    shortcuts: dict[str, Estimator] = {
        "unrolled, last 5 of 20 steps": partial(unrolled, truncate=5),
        "implicit, damped by 0.1": partial(implicit.meta_gradient, damping=0.1),
    }
    exact = {name: -np.exp(theta) * w * np.linalg.solve(H, g) for name in gradients if name.startswith("implicit")}
    exact["implicit, damped by 0.1"] = -np.exp(theta) * w * np.linalg.solve(H + 0.1 * np.eye(8), g)
    problem = Bilevel(_ridge_loss, _validation_loss, init=lambda theta, task: np.zeros(8))
    return [Section("Ridge regression; theta is the logarithm of each weight's strength of regularisation", problem, theta, task,
                    gradients, shortcuts, exact)]  # fmt: skip


# ## A network on sine waves
def sinusoid(seed: int) -> list[Section]:
    """A network 1-8-1 with tanh; 10 points to adapt to, and 10 to judge by.

    >>> [layer["W"].shape for layer in sinusoid(0)[0].theta]
    [(1, 8), (8, 1)]
    """
    rng = np.random.default_rng(seed)
    task = tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
    start = nn.initialize_mlp(rng, (1, 8, 1))
    problem = Bilevel(network_loss("support"), network_loss("query"))
    unrolled = partial(maml.meta_gradient, steps=5, lr=0.1)
    gradients: dict[str, Estimator] = {
        "MAML, by graph": unrolled,
        "MAML, by recursion": partial(unrolled, by="recursion"),
        "iMAML, Cholesky": with_proximal(2.0, solver="cholesky"),
        "iMAML, LU": with_proximal(2.0, solver="lu"),
    }
    shortcuts: dict[str, Estimator] = {"MAML, first order": partial(unrolled, order=1)}
    return [Section("A network on a sine wave; theta is where the adaptation starts", problem, start, task, gradients, shortcuts, exact={}),
            _learned("A network on a sine wave", rng, problem, start, task)]  # fmt: skip


# ## A learned optimizer, on any of them
def _learned(title: str, rng: np.random.Generator, problem: Bilevel, start: Any, task: Any) -> Section:
    unrolled = partial(learned_optimizer.meta_gradient, steps=5)
    gradients: dict[str, Estimator] = {"LSTM, second derivatives kept": partial(unrolled, second_derivatives=True)}
    shortcuts: dict[str, Estimator] = {"LSTM, second derivatives dropped": partial(unrolled, second_derivatives=False)}
    started = Bilevel(problem.inner, problem.outer, init=lambda weights, task: start)
    return Section(f"{title}; theta is the weights of an LSTM that learns to optimise", started,
                   learned_optimizer.initialize(rng, hidden=2), task, gradients, shortcuts, exact={})  # fmt: skip


PROBLEMS: dict[str, Callable[[int], list[Section]]] = {"quadratic": quadratic, "ridge": ridge, "sinusoid": sinusoid}


# ## Accuracy against cost
# iMAML's inner Hessian, $H = A + \lambda I$, here with condition number 71, and ways to $H^{-1} g$, more or less exactly. Each
# spends one Hessian product on a step:
# - *unrolled* differentiates k steps of gradient descent on the proximal loss, which haven't arrived at $\phi^\star$ yet;
# - *truncated* makes many steps, and differentiates the last k.
class Point(NamedTuple):
    """What an estimator has spent, and how far it is from the exact gradient."""

    hessian_products: int
    nodes: int
    error: float


CONDITION, PROXIMAL, DIMENSIONS, ARRIVED = 71, 0.01, 20, 800
COUNTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500)
LARGEST = 1 + PROXIMAL  # eigenvalue of H
DESCENT = partial(maml.meta_gradient, lr=2 / (LARGEST + LARGEST / CONDITION))  # the fastest that one learning rate can be
BY_COUNT: dict[str, Callable[[int], Estimator]] = {
    "unrolled": lambda k: partial(DESCENT, steps=k),
    "truncated": lambda k: partial(DESCENT, steps=ARRIVED, truncate=k),
}


def accuracy_against_cost(seed: int) -> dict[str, list[Point]]:
    """Each way to the meta-gradient of a quadratic, with 1, 2, 3, 5, ... 500 Hessian products (Rajeswaran et al. 2019, figure 2)."""
    rng = np.random.default_rng(seed)
    task = quadratics.draw(rng, DIMENSIONS, condition=1 / (LARGEST / CONDITION - PROXIMAL))
    theta = rng.standard_normal(DIMENSIONS)
    problem = implicit.proximal(Bilevel(quadratics.inner, quadratics.outer), PROXIMAL)
    H = task.A + PROXIMAL * np.eye(DIMENSIONS)
    exact = PROXIMAL * np.linalg.solve(H, _outer_gradient(np.linalg.solve(H, task.b + PROXIMAL * theta), task))

    def point(estimator: Estimator) -> Point:
        result = estimator(problem, theta, task)
        return Point(result.info["hessian_products"], result.info["nodes"], relative_error(result.grad, exact))

    return {name: [point(by_count(k)) for k in COUNTS] for name, by_count in BY_COUNT.items()}
