r"""
# The proof of the three meta-gradients

Each estimator on a small network and a sinusoid task, against two oracles that know none of its rules: extrapolated
central differences of the outer loss, and its complex step. To differentiate the *implicit* outer loss by differences means to
solve the inner problem anew at each shifted $\theta$. And each on a quadratic, against its closed form:

- MAML: $\phi_K - \phi^\star = (I - \alpha A)^K (\theta - \phi^\star)$, so $\frac{dF}{d\theta} = (I - \alpha A)^K g$, where g is the outer
  gradient at $\phi_K$; first order is g itself;
- iMAML: $(A + \lambda I)\,\phi^\star = b + \lambda\theta$, so $\frac{dF}{d\theta} = \lambda (A + \lambda I)^{-1} g$;
- the learned optimizer with output weights 0 makes the constant step $\Delta\phi = s\,\beta$ from its output bias $\beta$ (s is the output
  scale): $\phi_K = \phi_0 - K s \beta \mathbf 1$, so $\frac{dF}{d\beta} = -K s\,\mathbf 1^\top g$.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import implicit, learned_optimizer, maml, nn
from .autodiff import grad, hessian, ravel, tree
from .autodiff.check import approximate_gradient
from .bilevel import Bilevel
from .comparison import relative_error
from .machine import trace
from .tasks import Task, quadratics, sinusoids

TOLERANCE = {"differences": 1e-8, "complex step": 1e-12, "closed form": 1e-12}
STEPS, ALPHA, PROXIMAL = 5, 0.1, 2.0


class Check(NamedTuple):
    """One estimator against one oracle."""

    estimator: str
    oracle: str
    error: float  # of the whole gradient, relative to its norm

    @property
    def passed(self) -> bool:
        return bool(self.error <= TOLERANCE[self.oracle])


def prove(seed: int = 0) -> Iterator[Check]:
    """All checks, one after the other."""
    rng = np.random.default_rng(seed)
    task = tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
    theta = nn.initialize_mlp(rng, (1, 4, 1))
    yield from _maml_on_a_network(theta, task)
    yield from _implicit_on_a_network(theta, task)
    yield from _learned_optimizer_on_a_network(rng, theta, task)
    yield from _closed_forms(rng)


def network_loss(data: str) -> Callable[[Any, Any, Task], Any]:
    """The mean squared error of a tanh network on the "support" or the "query" set of a task."""
    return lambda phi, theta, task: nn.mean_squared_error(nn.mlp(phi, getattr(task, data).x, np.tanh), getattr(task, data).y)


def _against_both(gradients: dict[str, Any], F: Callable[[Any], Any], theta: Any, F_on_arrays: Any = None) -> Iterator[Check]:
    """Several claims about the same derivative, against both oracles; differences need no graph, so F is traced once for them."""
    truths = {"differences": approximate_gradient(F_on_arrays or trace(F, theta), theta, "differences"),
              "complex step": approximate_gradient(F, theta, "complex")}  # fmt: skip
    for estimator, gradient in gradients.items():
        for oracle, truth in truths.items():
            yield Check(estimator, oracle, relative_error(gradient, truth))


def _maml_on_a_network(theta: Any, task: Task) -> Iterator[Check]:
    problem = Bilevel(network_loss("support"), network_loss("query"))
    F = maml.objective(problem, steps=STEPS, lr=ALPHA)
    gradients = {f"MAML, {STEPS} steps, by {by}": maml.meta_gradient(problem, theta, task, steps=STEPS, lr=ALPHA, by=by).grad
                 for by in ("graph", "recursion")}  # fmt: skip
    yield from _against_both(gradients, lambda theta: F(theta, task), theta)


def _implicit_on_a_network(theta: Any, task: Task) -> Iterator[Check]:
    problem = implicit.proximal(Bilevel(network_loss("support"), network_loss("query")), PROXIMAL)
    solution = implicit.solve_inner(problem, theta, task)
    start, phi_tree = ravel(solution)

    def derivatives(phi: Any, theta: Any) -> tuple[Any, Any]:
        loss = lambda phi: problem.inner(phi_tree(phi), theta, task)
        return grad(loss)(phi), hessian(loss)(phi)

    def F(theta: Any, derivatives: Callable[[Any, Any], Any]) -> Any:
        return problem.outer(phi_tree(_newton(derivatives, start, theta)), theta, task)

    gradients = {f"implicit, proximal, {solver}": implicit.meta_gradient(problem, theta, task, phi=solution, solver=solver).grad
                 for solver in ("cholesky", "lu")}  # fmt: skip
    program = trace(derivatives, start, theta)
    yield from _against_both(gradients, lambda theta: F(theta, derivatives), theta, lambda theta: F(theta, program))


def _newton(derivatives: Callable[[Any, Any], Any], phi: Any, theta: Any) -> Any:
    """The solution at a theta nearby, real or complex: three steps of Newton's method double the correct digits three times."""
    for _ in range(3):
        g, H = derivatives(phi, theta)
        phi = phi - np.linalg.solve(H, g)
    return phi


def _learned_optimizer_on_a_network(rng: np.random.Generator, phi_0: Any, task: Task) -> Iterator[Check]:
    problem = Bilevel(network_loss("support"), network_loss("query"), init=lambda theta, task: phi_0)
    theta = learned_optimizer.initialize(rng, hidden=2)
    F = learned_optimizer.objective(problem, steps=STEPS, second_derivatives=True)
    result = learned_optimizer.meta_gradient(problem, theta, task, steps=STEPS, second_derivatives=True)
    yield from _against_both({f"learned optimizer, {STEPS} steps": result.grad}, lambda theta: F(theta, task), theta)


def _closed_forms(rng: np.random.Generator) -> Iterator[Check]:
    n = 6
    task, theta, identity = quadratics.draw(rng, n), rng.standard_normal(n), np.eye(n)
    problem = Bilevel(quadratics.inner, quadratics.outer)

    def g(phi: Any) -> Any:
        return task.C @ (phi - task.d)

    power = np.linalg.matrix_power(identity - ALPHA * task.A, STEPS)
    minimum = np.linalg.solve(task.A, task.b)
    phi = minimum + power @ (theta - minimum)
    for by in ("graph", "recursion"):
        result = maml.meta_gradient(problem, theta, task, steps=STEPS, lr=ALPHA, by=by)
        yield Check(f"MAML, {STEPS} steps, by {by}", "closed form", relative_error(result.grad, power @ g(phi)))
    first = maml.meta_gradient(problem, theta, task, steps=STEPS, lr=ALPHA, order=1)
    yield Check(f"first-order MAML, {STEPS} steps", "closed form", relative_error(first.grad, g(phi)))

    M = task.A + PROXIMAL * identity
    phi = np.linalg.solve(M, task.b + PROXIMAL * theta)
    for solver in ("cholesky", "lu"):
        result = implicit.meta_gradient(implicit.proximal(problem, PROXIMAL), theta, task, solver=solver)
        truth = PROXIMAL * np.linalg.solve(M, g(phi))
        yield Check(f"implicit, proximal, {solver}", "closed form", relative_error(result.grad, truth))

    weights = learned_optimizer.initialize(rng, hidden=3)
    weights["output"] = {"W": np.zeros((3, 1)), "b": np.array([0.7])}
    started = Bilevel(quadratics.inner, quadratics.outer, init=lambda weights, task: theta)
    result = learned_optimizer.meta_gradient(started, weights, task, steps=STEPS, second_derivatives=True)
    scale = STEPS * learned_optimizer.OUTPUT_SCALE
    truth = -scale * np.sum(g(theta - scale * 0.7))
    yield Check(f"learned optimizer, {STEPS} steps", "closed form", relative_error(result.grad["output"]["b"], truth))


def table(checks: list[Check]) -> str:
    """The checks as text: a row for each estimator, a column for each oracle.

    >>> print(table([Check("MAML", "complex step", 1e-15)]))
    relative error against          differences   complex step    closed form
    MAML                                          1.0e-15 PASS
    tolerance                             1e-08          1e-12          1e-12
    """
    rows: dict[str, dict[str, str]] = {}
    for check in checks:
        rows.setdefault(check.estimator, {})[check.oracle] = f"{check.error:.1e} {'PASS' if check.passed else 'FAIL'}"
    lines = [f"{'relative error against':<28}" + "".join(f" {oracle:>14}" for oracle in TOLERANCE)]
    lines += [f"{name:<28}" + "".join(f" {cells.get(oracle, ''):>14}" for oracle in TOLERANCE) for name, cells in rows.items()]
    lines.append(f"{'tolerance':<28}" + "".join(f" {tolerance:>14.0e}" for tolerance in TOLERANCE.values()))
    return "\n".join(line.rstrip() for line in lines)
