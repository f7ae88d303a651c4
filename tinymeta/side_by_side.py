r"""
# Every estimator on three problems

What `python -m tinymeta compare` shows: a quadratic, where all has a closed form; ridge regression, where theta are hyperparameters;
a small network on sine waves. Each section is one problem with one theta, and two dictionaries of estimators: those that claim
to be the *gradient* of what they run, and the *shortcuts*, which don't. A further estimator is one more line. Some have no meaning
somewhere: where phi is one array there is no part of it to adapt (ANIL); where theta is not phi's start there is no way from it to
$\phi_K$ (Reptile), and without a start in it the first order leaves nothing; where it is the start alone, a truncated sweep ends before it.

The closed forms, for the inner loss $\tfrac12 \phi^\top A \phi - b^\top \phi$, with g the outer gradient at the adapted parameters:

- K steps from $\theta$ end at $\phi_K = \phi^\star + (I - \alpha A)^K (\theta - \phi^\star)$, so $dF/d\theta = (I - \alpha A)^K g$; first
  order is g, and Reptile goes along $\theta - \phi_K$;
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

from . import evolution, implicit, learned_optimizer, maml, nn, optim
from .autodiff import grad, tree, value_and_grad
from .bilevel import Bilevel, Info, MetaGradient
from .comparison import Comparison, Estimator, compare, relative_error
from .proofs import network_loss
from .tasks import Task, hyperparameters, quadratics, sinusoids

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


# ## What all problems try
Configurable = Callable[..., MetaGradient]  # an estimator that takes options as well
ALONG: dict[str, dict[str, Any]] = {
    "by recursion": {"by": "recursion"}, "by forward mode": {"by": "forward"}, "checkpointed": {"checkpoint": True}}  # fmt: skip
UPDATES = {"momentum": partial(optim.momentum, mu=0.5), "RMSProp": optim.rmsprop, "Adam": optim.adam}
SOLVERS = {"Cholesky": "cholesky", "LU": "lu", "CG": "cg", "MINRES": "minres", "GMRES": "gmres", "Neumann series": "neumann"}


def _through_the_loop(name: str, unrolled: Configurable, steps: int) -> dict[str, Estimator]:
    """The gradient through an unrolled loop in four ways, through loops with other updates, and of the sum of the losses on the way."""
    ways = {f"{name}, {way}": partial(unrolled, **options) for way, options in ALONG.items()}
    updates = {f"unrolled {update}": partial(unrolled, update=UPDATES[update]) for update in UPDATES}
    return {name: unrolled, **ways, **updates, "unrolled, all losses": partial(unrolled, weights=[1 / steps] * steps)}


def _solved(name: str, implicit_: Configurable, operation: Estimator) -> dict[str, Estimator]:
    """The implicit gradient by every solver, and by the rule of the solution as an operation."""
    return {f"{name}, {solver}": partial(implicit_, solver=SOLVERS[solver]) for solver in SOLVERS} | {f"{name}, as an operation": operation}


def _hardly_solved(name: str, implicit_: Configurable, alpha: float) -> dict[str, Estimator]:
    """The implicit gradient with a solve that is changed, or ends early, or is left out."""
    return {
        f"{name}, damped by 0.1": partial(implicit_, damping=0.1),
        f"{name}, CG, 3 iterations": partial(implicit_, solver="cg", iterations=3),
        f"{name}, Neumann series, 5 terms": partial(implicit_, solver="neumann", iterations=5, alpha=alpha),
        f"{name}, identity": partial(implicit_, solver="identity", alpha=alpha),
    }


def _closed_solutions(name: str, H: Any, g: Any, alpha: float) -> dict[str, Any]:
    """What the solves above find for $H v = g$."""
    identity, exact = np.eye(len(g)), np.linalg.solve(H, g)
    powers = [np.linalg.matrix_power(identity - alpha * H, j) for j in range(5)]
    return {f"{name}, {solver}": exact for solver in (*SOLVERS, "as an operation")} | {
        f"{name}, damped by 0.1": np.linalg.solve(H + 0.1 * identity, g),
        f"{name}, Neumann series, 5 terms": alpha * sum(powers) @ g,
        f"{name}, identity": alpha * g,
    }


def as_an_operation(problem: Bilevel, theta: Any, task: Any) -> MetaGradient:
    r"""The implicit gradient with $\phi^\star$ as one node in the graph of F.

    >>> problem = Bilevel(lambda phi, theta, task: (phi - theta) ** 2 + phi**2, lambda phi, theta, task: phi**2)
    >>> as_an_operation(problem, 1.0, None).grad  # phi* = theta / 2
    array(0.5)
    """
    condition = lambda phi, theta: grad(problem.inner)(phi, theta, task)
    phi_star = implicit.solution(condition, lambda theta: implicit.solve_inner(problem, theta, task))

    def F(theta: Any) -> tuple[Any, Any]:
        phi = phi_star(theta)
        return problem.outer(phi, theta, task), phi

    (value, phi), gradient = value_and_grad(F, has_aux=True)(theta)
    return MetaGradient(value, gradient, phi, Info())


def with_proximal(strength: float, estimator: Configurable = implicit.meta_gradient) -> Configurable:
    """An estimator for the same problem with a proximal term, as in iMAML.

    >>> problem = Bilevel(lambda phi, theta, task: 0.5 * phi**2, lambda phi, theta, task: phi)
    >>> with_proximal(1.0)(problem, 4.0, None, solver="cholesky").grad  # 1 / (1 + 1/lambda)
    array(0.5)
    """

    def proximal(problem: Bilevel, theta: Any, task: Any, **options: Any) -> MetaGradient:
        return estimator(implicit.proximal(problem, strength), theta, task, **options)

    return proximal


# ## A quadratic
def quadratic(seed: int) -> list[Section]:
    """Six dimensions, condition number 10.

    >>> print(quadratic(0)[0].title)
    A quadratic; theta is where the adaptation starts
    """
    rng = np.random.default_rng(seed)
    task, start = quadratics.draw(rng, 6), rng.standard_normal(6)
    problem = Bilevel(quadratics.inner, quadratics.outer)
    return [_from_a_start(task, start), _with_learning_rates(task, start), _with_a_strength(task, start),
            *_learned("A quadratic", rng, problem, start, task)]  # fmt: skip


def _from_a_start(task: quadratics.Quadratic, start: Any) -> Section:
    steps, alpha, strength = 5, 0.5, 1.0
    minimum = np.linalg.solve(task.A, task.b)
    power = np.linalg.matrix_power(np.eye(6) - alpha * task.A, steps)
    H = task.A + strength * np.eye(6)
    g_unrolled = _outer_gradient(minimum + power @ (start - minimum), task)
    g_proximal = _outer_gradient(np.linalg.solve(H, task.b + strength * start), task)
    unrolled, imaml = partial(maml.meta_gradient, steps=steps, lr=alpha), with_proximal(strength)
    gradients = _through_the_loop("MAML", unrolled, steps) | _solved("iMAML", imaml, with_proximal(strength, as_an_operation))
    shortcuts: dict[str, Estimator] = {
        "MAML, first order": partial(unrolled, order=1),
        "Reptile": partial(maml.reptile, steps=steps, lr=alpha),
    }
    exact = {name: power @ g_unrolled for name in gradients if name.startswith("MAML")} | {
        "MAML, first order": g_unrolled,
        "Reptile": (np.eye(6) - power) @ (start - minimum),
    }
    exact |= {name: strength * v for name, v in _closed_solutions("iMAML", H, g_proximal, alpha).items()}
    return Section("A quadratic; theta is where the adaptation starts", Bilevel(quadratics.inner, quadratics.outer), start, task,
                   gradients, shortcuts | _hardly_solved("iMAML", imaml, alpha), exact)  # fmt: skip


def _with_learning_rates(task: quadratics.Quadratic, start: Any) -> Section:
    alpha = np.linspace(0.2, 0.7, 6)
    g_inner = task.A @ start - task.b
    g = _outer_gradient(start - alpha * g_inner, task)
    one_step = {"start": g - task.A @ (alpha * g), "alpha": -g_inner * g}
    meta_sgd = partial(maml.meta_gradient, lr=lambda theta: theta["alpha"])
    per_step = lambda theta: optim.PerStep([theta["alpha"], 0.5 * theta["alpha"][0]])
    gradients: dict[str, Estimator] = {
        "Meta-SGD, 1 step": partial(meta_sgd, steps=1),
        "Meta-SGD, 1 step, by recursion": partial(meta_sgd, steps=1, by="recursion"),
        "Meta-SGD, 5 steps": partial(meta_sgd, steps=5),
        "a rate for each step, 2 steps": partial(maml.meta_gradient, steps=2, lr=per_step),
        "iMAML, Cholesky": with_proximal(1.0),  # the end has forgotten the learning rates: 0 for them, and it warns
    }
    shortcuts: dict[str, Estimator] = {
        "Meta-SGD, first order": partial(meta_sgd, steps=1, order=1),
        "Meta-SGD, last 2 of 5 steps": partial(meta_sgd, steps=5, truncate=2),
    }
    exact = dict.fromkeys(list(gradients)[:2], one_step) | {"Meta-SGD, first order": one_step | {"start": g}}
    problem = Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"])
    return Section("A quadratic; theta is the start and a learning rate for each element", problem, {"start": start, "alpha": alpha}, task,
                   gradients, shortcuts, exact)  # fmt: skip


# With $\lambda = e^\eta$: $(A + \lambda I)\, d\phi^\star = (\theta - \phi^\star)\, d\lambda$ and $d\lambda = \lambda\, d\eta$.
def _with_a_strength(task: quadratics.Quadratic, start: Any) -> Section:
    problem = implicit.proximal(Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"]),
                                lambda theta: np.exp(theta["eta"]))  # fmt: skip
    strength, alpha = 0.8, 0.5
    H = task.A + strength * np.eye(6)
    phi = np.linalg.solve(H, task.b + strength * start)
    solutions = _closed_solutions("implicit", H, _outer_gradient(phi, task), alpha)
    exact = {name: {"start": strength * v, "eta": np.array(strength * (start - phi) @ v)} for name, v in solutions.items()}
    return Section("A quadratic; theta is the start and the logarithm eta of the proximal term's strength", problem,
                   {"start": start, "eta": np.log(strength)}, task, _solved("implicit", implicit.meta_gradient, as_an_operation),
                   _hardly_solved("implicit", implicit.meta_gradient, alpha), exact)  # fmt: skip


def _outer_gradient(phi: Any, task: quadratics.Quadratic) -> Any:
    return task.C @ (phi - task.d)


# ## Ridge regression
def ridge(seed: int) -> list[Section]:
    """Eight weights, of which four matter, each with a strength of its own; 20 points, and 20 to validate with.

    >>> ridge(0)[0].theta.shape
    (8,)
    """
    rng = np.random.default_rng(seed)
    task, theta = hyperparameters.draw_linear(rng, n=40, d=8, relevant=4), np.full(8, np.log(0.1))
    problem = Bilevel(hyperparameters.linear_inner, hyperparameters.linear_outer, hyperparameters.start)
    return [_regularised(problem, theta, task), *_learned("Ridge regression", rng, problem, theta, task)]


def _regularised(problem: Bilevel, theta: Any, task: Task) -> Section:
    steps = 20
    (X, y), (X_validation, y_validation) = task
    H = X.T @ X / 20 + np.diag(np.exp(theta))
    w = np.linalg.solve(H, X.T @ y / 20)
    g = X_validation.T @ (X_validation @ w - y_validation) / 20
    alpha = float(1 / np.linalg.norm(H, 2))
    unrolled = partial(maml.meta_gradient, steps=steps, lr=alpha)
    gradients = _through_the_loop("unrolled", unrolled, steps) | _solved("implicit", implicit.meta_gradient, as_an_operation)
    shortcuts = {"unrolled, last 5 of 20 steps": partial(unrolled, truncate=5)} | _hardly_solved("implicit", implicit.meta_gradient, alpha)
    exact = {name: -np.exp(theta) * w * v for name, v in _closed_solutions("implicit", H, g, alpha).items()}
    return Section("Ridge regression; theta is the logarithm of each weight's strength of regularisation", problem, theta, task,
                   gradients, shortcuts, exact)  # fmt: skip


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
    return [_adapted(problem, start, task), _with_rates_of_all(problem, start, task),
            *_learned("A network on a sine wave", rng, problem, start, task)]  # fmt: skip


def _adapted(problem: Bilevel, start: Any, task: Any) -> Section:
    steps, strength = 5, 2.0
    unrolled, imaml = partial(maml.meta_gradient, steps=steps, lr=0.1), with_proximal(strength)
    gradients = _through_the_loop("MAML", unrolled, steps) | {
        "ANIL, the last layer adapts": lambda problem, theta, task: unrolled(problem.adapting([False, True]), theta, task),
        **_solved("iMAML", imaml, with_proximal(strength, as_an_operation)),
    }
    shortcuts: dict[str, Estimator] = {
        "MAML, first order": partial(unrolled, order=1),
        "Reptile": partial(maml.reptile, steps=steps, lr=0.1),
        **_hardly_solved("iMAML", imaml, 0.1),
    }
    return Section("A network on a sine wave; theta is where the adaptation starts", problem, start, task, gradients, shortcuts, exact={})


def _with_rates_of_all(problem: Bilevel, start: Any, task: Any) -> Section:
    theta = {"start": start, "alpha": tree.map(lambda x: np.full_like(x, 0.1), start)}
    started = Bilevel(problem.inner, problem.outer, init=lambda theta, task: theta["start"])
    meta_sgd = partial(maml.meta_gradient, steps=5, lr=lambda theta: theta["alpha"])
    per_step = lambda theta: optim.PerStep([theta["alpha"], tree.map(np.mean, theta["alpha"])])
    gradients: dict[str, Estimator] = {
        "Meta-SGD": meta_sgd,
        "Meta-SGD, by recursion": partial(meta_sgd, by="recursion"),
        "a rate for each step, 2 steps": partial(maml.meta_gradient, steps=2, lr=per_step),
    }
    shortcuts: dict[str, Estimator] = {
        "Meta-SGD, first order": partial(meta_sgd, order=1),
        "Meta-SGD, last 2 of 5 steps": partial(meta_sgd, truncate=2),
    }
    return Section("A network on a sine wave; theta is the start and a learning rate for each element", started, theta, task, gradients,
                   shortcuts, exact={})  # fmt: skip


# ## A learned optimizer, on any of them
def _learned(title: str, rng: np.random.Generator, problem: Bilevel, theta: Any, task: Any) -> list[Section]:
    """Each kind of rule; theta of the problem stays as it is."""
    inner, outer = (lambda phi, weights, task, loss=loss: loss(phi, theta, task) for loss in (problem.inner, problem.outer))
    started = Bilevel(inner, outer, init=lambda weights, task: problem.start(theta, task))
    seeing = learned_optimizer.lstm(preprocess=True, embedding=lambda weights, task: np.array([0.5, -0.5]), embedding_size=2)
    cell, adam = learned_optimizer.meta_lstm(), learned_optimizer.classical(optim.adam)
    rules = {
        "the weights of an LSTM that learns to optimise": (learned_optimizer.LSTM, learned_optimizer.initialize(rng, hidden=2)),
        "the weights of one that sees logarithms, signs, and numbers about the task": (seeing, seeing.initialize(rng, hidden=2, layers=1)),
        "the weights of Ravi and Larochelle's cell": (cell, cell.initialize(rng, alpha=0.1)),
        "Adam's learning rate": (adam, np.array(0.1)),
    }
    return [_with_rule(f"{title}; theta is {name}", started, task, rule, weights) for name, (rule, weights) in rules.items()]


def _with_rule(title: str, problem: Bilevel, task: Any, rule: learned_optimizer.Rule, weights: Any) -> Section:
    unrolled = partial(learned_optimizer.meta_gradient, steps=5, rule=rule)
    kept, summed = partial(unrolled, second_derivatives=True), partial(unrolled, second_derivatives=True, losses="sum")
    F = learned_optimizer.objective(problem, steps=5, second_derivatives=True, rule=rule)
    gradients: dict[str, Estimator] = {"second derivatives kept": kept, "sum of the losses": summed}
    shortcuts: dict[str, Estimator] = {
        "second derivatives dropped": partial(unrolled, second_derivatives=False),
        "2 steps at a time": partial(kept, truncate=2),
        "sum of the losses, 2 steps at a time": partial(summed, truncate=2),
        "evolution strategies, 500 pairs": lambda problem, weights, task: evolution.evolution_strategies(
            F, weights, task, np.random.default_rng(0), sigma=0.01, pairs=500),
    }  # fmt: skip
    return Section(title, problem, weights, task, gradients, shortcuts, exact={})


PROBLEMS: dict[str, Callable[[int], list[Section]]] = {"quadratic": quadratic, "ridge": ridge, "sinusoid": sinusoid}


# ## Accuracy against cost
# iMAML's inner Hessian, $H = A + \lambda I$, here with condition number 71, and ways to $H^{-1} g$, more or less exactly. Each
# spends one Hessian product on a step:
# - *conjugate gradients* make k iterations at $\phi^\star$;
# - the *Neumann series* sums k terms there;
# - *unrolled* differentiates k steps of gradient descent on the proximal loss, which haven't arrived at $\phi^\star$ yet;
# - *truncated* makes many steps, and differentiates the last k.
class Point(NamedTuple):
    """What an estimator has spent, and how far it is from the exact gradient."""

    hessian_products: int
    nodes: int
    error: float


CONDITION, PROXIMAL, DIMENSIONS, ARRIVED = 71, 0.01, 100, 800
COUNTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500)
LARGEST = 1 + PROXIMAL  # eigenvalue of H
DESCENT = partial(maml.meta_gradient, lr=2 / (LARGEST + LARGEST / CONDITION))  # the fastest that one learning rate can be
BY_COUNT: dict[str, Callable[[int], Estimator]] = {
    "conjugate gradients": lambda k: partial(implicit.meta_gradient, solver="cg", iterations=k),
    "Neumann series": lambda k: partial(implicit.meta_gradient, solver="neumann", iterations=k, alpha=DESCENT.keywords["lr"]),
    "unrolled": lambda k: partial(DESCENT, steps=k),
    "truncated": lambda k: partial(DESCENT, steps=ARRIVED, truncate=k),
}


def ill_conditioned(seed: int) -> tuple[Bilevel, Any, Any, Any]:
    """The problem with its proximal term, theta, the task, and the exact gradient.

    >>> problem, theta, task, exact = ill_conditioned(0)
    >>> round(float(np.linalg.cond(task.A + PROXIMAL * np.eye(DIMENSIONS))), 6)
    71.0
    """
    rng = np.random.default_rng(seed)
    task = quadratics.draw(rng, DIMENSIONS, condition=1 / (LARGEST / CONDITION - PROXIMAL))
    theta = rng.standard_normal(DIMENSIONS)
    H = task.A + PROXIMAL * np.eye(DIMENSIONS)
    exact = PROXIMAL * np.linalg.solve(H, _outer_gradient(np.linalg.solve(H, task.b + PROXIMAL * theta), task))
    return implicit.proximal(Bilevel(quadratics.inner, quadratics.outer), PROXIMAL), theta, task, exact


def accuracy_against_cost(seed: int) -> dict[str, list[Point]]:
    """Each way to the meta-gradient of a quadratic, with 1, 2, 3, 5, ... 500 Hessian products (Rajeswaran et al. 2019, figure 2)."""
    problem, theta, task, exact = ill_conditioned(seed)

    def point(estimator: Estimator) -> Point:
        result = estimator(problem, theta, task)
        return Point(result.info["hessian_products"], result.info["nodes"], relative_error(result.grad, exact))

    return {name: [point(by_count(k)) for k in COUNTS] for name, by_count in BY_COUNT.items()}
