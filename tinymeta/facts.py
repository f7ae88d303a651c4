r"""
# What a sceptic can check

Facts about derivatives that were published, or that follow on paper in a line or two: whole numbers, identities, closed forms. Each is a
function: its docstring states the fact, its body computes pairs of what the library says and what is true, and the truth never uses what it
is to judge. `python -m tinymeta check` prints each with its error.

The quadratics' notation: the inner loss is $\tfrac12 \phi^\top A \phi - b^\top \phi$ with the minimum $\phi^\star = A^{-1} b$; the start is
$\theta$, and $e_0 = \theta - \phi^\star$; the outer loss is $\tfrac12 (\phi - d)^\top C (\phi - d)$, and $g$ its gradient at the adapted
$\phi$.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from . import evolution, implicit, learned_optimizer, maml, optim, solvers
from .autodiff import grad, hessian, hvp, jacobian, jvp, vjp
from .autodiff.operations.functions import log_softmax, logsumexp, sigmoid
from .bilevel import Bilevel
from .comparison import relative_error
from .machine import jit
from .tasks import quadratics

Pairs = Iterator[tuple[Any, Any]]  # of what is computed and what is true
FACTS: list[tuple[str, Callable[[], Pairs], float]] = []  # group, function, tolerance


class Result(NamedTuple):
    """How a fact has turned out."""

    group: str
    name: str
    statement: str
    error: float
    """the largest of its pairs, relative to the norm of the truth"""
    tolerance: float

    @property
    def holds(self) -> bool:
        return bool(self.error <= self.tolerance)


def fact(group: str, tolerance: float = 1e-12) -> Callable[[Callable[[], Pairs]], Callable[[], Pairs]]:
    """Decorator: this is one of the facts."""

    def register(function: Callable[[], Pairs]) -> Callable[[], Pairs]:
        FACTS.append((group, function, tolerance))
        return function

    return register


def check() -> Iterator[Result]:
    """Compute both sides of each fact, one after the other.

    >>> result = next(check())
    >>> result.name, result.holds
    ('tangent numbers', True)
    """
    for group, function, tolerance in FACTS:
        error = max(error_of(ours, truth) for ours, truth in function())
        yield Result(group, function.__name__.replace("_", " "), " ".join((function.__doc__ or "").split()), error, tolerance)


def error_of(ours: Any, truth: Any) -> float:
    """The relative error; infinite if the shapes differ, and for NaN, which is larger than nothing.

    >>> error_of(1.5, 1.0), error_of([1.0], 1.0), error_of(np.nan, 1.0)
    (0.5, inf, inf)
    """
    ours, truth = np.asarray(ours), np.asarray(truth)
    error = relative_error(ours, truth) if ours.shape == truth.shape else np.nan
    return np.inf if np.isnan(error) else error


# ## Whole numbers
# The derivatives at 0 of these functions are sequences that every table has. The order of nesting is theirs: the sixth number takes a
# gradient of a gradient of ... of a gradient.
def derivatives_at_zero(f: Callable[[Any], Any], count: int) -> list[float]:
    """f(0), f'(0), f''(0), ..."""
    found = []
    for _ in range(count):
        found.append(float(f(0.0)))
        f = grad(f)
    return found


@fact("whole numbers")
def tangent_numbers() -> Pairs:
    """The derivatives of tan at 0 are 0, 1, 0, 2, 0, 16, 0, 272 (OEIS A000182)."""
    yield derivatives_at_zero(lambda x: np.sin(x) / np.cos(x), 8), [0, 1, 0, 2, 0, 16, 0, 272]


@fact("whole numbers")
def euler_numbers() -> Pairs:
    """Those of 1/cosh are 1, 0, -1, 0, 5, 0, -61 (OEIS A122045)."""
    yield derivatives_at_zero(lambda x: 2 / (np.exp(x) + np.exp(-x)), 7), [1, 0, -1, 0, 5, 0, -61]


@fact("whole numbers")
def bell_numbers() -> Pairs:
    """Those of exp(exp(x) - 1) count the partitions of a set: 1, 1, 2, 5, 15, 52, 203 (OEIS A000110)."""
    yield derivatives_at_zero(lambda x: np.exp(np.exp(x) - 1), 7), [1, 1, 2, 5, 15, 52, 203]


@fact("whole numbers")
def factorials() -> Pairs:
    """Those of 1/(1 - x) are the factorials."""
    yield derivatives_at_zero(lambda x: 1 / (1 - x), 8), [math.factorial(k) for k in range(8)]


@fact("whole numbers")
def logistic_numbers() -> Pairs:
    """Those of the sigmoid are 1/2, 1/4, 0, -1/8, 0, 1/4: half of tanh(x/2), and so tangent numbers over powers of 2."""
    yield derivatives_at_zero(sigmoid, 6), [1 / 2, 1 / 4, 0, -1 / 8, 0, 1 / 4]


@fact("whole numbers")
def rosenbrock() -> Pairs:
    """At (1, 1), where (1 - x)^2 + 100 (y - x^2)^2 is smallest, its gradient is 0 and its Hessian (802, -400; -400, 200)."""
    f = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    yield grad(f)(np.ones(2)), np.zeros(2)
    yield hessian(f)(np.ones(2)), [[802, -400], [-400, 200]]


@fact("whole numbers")
def speelpenning() -> Pairs:
    """The gradient of the product of 1, ..., 6 has 720/k in place k (Speelpenning 1980)."""
    yield grad(lambda x: np.prod(x))(np.arange(1.0, 7.0)), 720 / np.arange(1, 7)


@fact("whole numbers", 5e-4)  # as exact as they are printed
def dropped_second_derivatives() -> Pairs:
    """With f = x^2 from 1 at the rate 0.1, minus the derivative of the sum of the losses after steps 1 to 6 with respect to the rate is
    19.33, and 25.92 without second derivatives."""
    problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2, init=lambda theta, task: 1.0)
    rule = learned_optimizer.classical(optim.sgd)
    for both, truth in ((True, 19.33), (False, 25.92)):
        F = learned_optimizer.objective(problem, steps=6, second_derivatives=both, losses="sum", rule=rule)
        yield -grad(F)(0.1, None), truth


# ## Identities of derivatives
RNG = np.random.default_rng(0)
X, V, W = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 4))


def network(x: Any) -> Any:
    """Something with a bit of everything in it, (4, 3) -> (4, 4)."""
    return np.tanh(x @ x.T) * np.exp(-np.mean(x**2, axis=1)) + log_softmax(W @ x @ x.T, axis=0)


@fact("identities")
def transpose() -> Pairs:
    """<w, J v> = <J'w, v>: forward and reverse mode are each other's transpose."""
    _, tangent = jvp(network, (X,), (V,))
    _, pullback = vjp(network, X)
    yield np.sum(W * tangent), np.sum(pullback(W)[0] * V)


@fact("identities")
def symmetry() -> Pairs:
    """The Hessian is symmetric, and its product with v is that of `hvp`."""
    f = lambda x: np.sum(network(x) ** 2)
    H = hessian(f)(X).reshape(12, 12)
    yield H, H.T
    yield hvp(f, X, V).ravel(), H @ V.ravel()


@fact("identities")
def euler_homogeneous() -> Pairs:
    """A function with f(t x) = t^k f(x) has <f'(x), x> = k f(x): here the cube of a norm, k = 3."""
    f = lambda x: np.linalg.norm(x) ** 3
    yield np.sum(grad(f)(X) * X), 3 * f(X)


@fact("identities")
def jacobi() -> Pairs:
    """The gradient of log det M is the transposed inverse, and that of tr(M^-1 B) is -(M^-1 B M^-1)'."""
    M, B = W + 5 * np.eye(4), RNG.normal(size=(4, 4))
    inverse = np.linalg.inv(M)
    yield grad(lambda M: np.log(np.linalg.det(M)))(M), inverse.T
    yield grad(lambda M: np.trace(np.linalg.solve(M, B)))(M), -(inverse @ B @ inverse).T


@fact("identities")
def softmax() -> Pairs:
    """p, the gradient of logsumexp, is softmax; its Jacobian is diag(p) - p p'; 1,000 more on each input changes neither."""
    x = X[0]
    p = np.exp(x) / np.sum(np.exp(x))
    for shift in (0.0, 1000.0):
        yield grad(logsumexp)(x + shift), p
        yield hessian(logsumexp)(x + shift), np.diag(p) - np.outer(p, p)


@fact("identities", 1e-11)
def chain() -> Pairs:
    """The Jacobian of x -> f(f(x)) is the product of the Jacobians; of the same on the machine, too."""
    f = lambda x: np.sin(W @ x) + x
    x = W[0]
    product = jacobian(f)(f(x)) @ jacobian(f)(x)
    yield jacobian(lambda x: f(f(x)))(x), product
    yield jit(jacobian(lambda x: f(f(x))))(x), product


# ## MAML
N, STEPS, ALPHA = 6, 5, 0.1
TASK, THETA, IDENTITY = quadratics.draw(RNG, N), RNG.normal(size=N), np.eye(N)
QUADRATIC = Bilevel(quadratics.inner, quadratics.outer)
E0 = THETA - np.linalg.solve(TASK.A, TASK.b)


def outer_gradient(phi: Any) -> Any:
    return TASK.C @ (phi - TASK.d)


def power(k: int) -> Any:
    return np.linalg.matrix_power(IDENTITY - ALPHA * TASK.A, k)


def adapted(k: int) -> Any:
    return THETA - E0 + power(k) @ E0


@fact("MAML")
def unrolled() -> Pairs:
    """k steps on a quadratic: the meta-gradient is (I - alpha A)^k g, by each way to it; to first order it is g."""
    for k in (1, STEPS, 50):
        g = outer_gradient(adapted(k))
        for options in ({}, {"checkpoint": True}, {"by": "recursion"}, {"by": "forward"}):
            yield maml.meta_gradient(QUADRATIC, THETA, TASK, steps=k, lr=ALPHA, **options).grad, power(k) @ g
        yield maml.meta_gradient(QUADRATIC, THETA, TASK, steps=k, lr=ALPHA, order=1).grad, g


@fact("MAML")
def shared_rate() -> Pairs:
    """The derivative with respect to alpha, one for all steps and weights, is -k g'A (I - alpha A)^(k-1) e0."""
    problem = Bilevel(quadratics.inner, quadratics.outer, init=lambda alpha, task: THETA)
    result = maml.meta_gradient(problem, np.array(ALPHA), TASK, steps=STEPS, lr=lambda alpha: alpha)
    yield result.grad, -STEPS * outer_gradient(adapted(STEPS)) @ TASK.A @ power(STEPS - 1) @ E0


@fact("MAML")
def meta_sgd() -> Pairs:
    """A rate for each weight, one step: -g_train * g for the rates, (I - diag(alpha) A)'g for the start."""
    alpha = RNG.uniform(0.05, 0.15, N)
    problem = Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"])
    result = maml.meta_gradient(problem, {"start": THETA, "alpha": alpha}, TASK, steps=1, lr=lambda theta: theta["alpha"])
    g_train = TASK.A @ E0
    g = outer_gradient(THETA - alpha * g_train)
    yield result.grad["alpha"], -g_train * g
    yield result.grad["start"], (IDENTITY - np.diag(alpha) @ TASK.A).T @ g


@fact("MAML")
def reptile() -> Pairs:
    """Reptile's direction is (I - (I - alpha A)^k) e0; with one step, alpha times the inner gradient."""
    for k in (1, STEPS):
        yield maml.reptile(QUADRATIC, THETA, TASK, steps=k, lr=ALPHA).grad, E0 - power(k) @ E0
    yield maml.reptile(QUADRATIC, THETA, TASK, steps=1, lr=ALPHA).grad, ALPHA * TASK.A @ E0


@fact("MAML")
def wrong_sign() -> Pairs:
    """Inner a/2 phi^2, outer c/2 (phi - d)^2: (1 - alpha a)^K c (phi_K - d). At alpha a = 1.6, K = 3 first order has the wrong sign."""
    a, c, d, theta, alpha = 2.0, 3.0, 0.5, 1.5, 0.8
    problem = Bilevel(lambda phi, theta, task: a / 2 * phi**2, lambda phi, theta, task: c / 2 * (phi - d) ** 2)
    phi = (1 - alpha * a) ** 3 * theta
    exact, first = (maml.meta_gradient(problem, theta, None, steps=3, lr=alpha, order=order).grad for order in (2, 1))
    yield exact, (1 - alpha * a) ** 3 * c * (phi - d)
    yield np.sign(first), -np.sign(exact)


# ## The implicit function theorem
@fact("implicit differentiation")
def curves() -> Pairs:
    """F(x, y) = 0 has dy/dx = -F_x / F_y: the circle, both branches; an ellipse; y^5 + y = x."""
    circle, ellipse = lambda y, x: x**2 + y**2 - 25, lambda y, x: x**2 / 25 + y**2 / 9 - 1
    for curve, y, x, slope in ((circle, 4.0, 3.0, -3 / 4), (circle, -4.0, 3.0, 3 / 4), (ellipse, 2.4, 3.0, -9 * 3 / (25 * 2.4)),
                               (lambda y, x: y**5 + y - x, 1.0, 2.0, 1 / 6)):  # fmt: skip
        yield implicit.root_jacobian(curve, y, x), slope


@fact("implicit differentiation")
def proximal() -> Pairs:
    """With lambda/2 |phi - theta|^2 the minimum is (A + lambda I)^-1 (b + lambda theta), the meta-gradient (I + A/lambda)^-1 g."""
    for strength, solver in itertools.product((0.1, 2.0, 50.0), ("cholesky", "lu", "cg", "minres", "gmres")):
        result = implicit.meta_gradient(implicit.proximal(QUADRATIC, strength), THETA, TASK, solver=solver, tolerance=1e-14)
        phi = np.linalg.solve(TASK.A + strength * IDENTITY, TASK.b + strength * THETA)
        yield result.phi, phi
        yield result.grad, np.linalg.solve(IDENTITY + TASK.A / strength, outer_gradient(phi))


@fact("implicit differentiation")
def proximal_strength() -> Pairs:
    """d phi*/d lambda = (A + lambda I)^-1 (theta - phi*)."""
    problem = implicit.proximal(Bilevel(quadratics.inner, quadratics.outer, init=lambda *_: THETA), lambda strength: strength)
    phi = np.linalg.solve(TASK.A + 2 * IDENTITY, TASK.b + 2 * THETA)
    ours = implicit.root_jacobian(lambda phi, strength: grad(problem.inner)(phi, strength, TASK), phi, 2.0)
    yield ours, np.linalg.solve(TASK.A + 2 * IDENTITY, THETA - phi)


@fact("implicit differentiation", 1e-11)
def ridge() -> Pairs:
    """w = (X'X + n diag(lambda))^-1 X'y moves by -n (...)^-1 e_j w_j with lambda_j, and by -n (...)^-1 w with one lambda for all."""
    data, labels = RNG.normal(size=(12, 4)), RNG.normal(size=12)
    loss = lambda w, strength: 0.5 * np.sum((data @ w - labels) ** 2) + 6 * np.sum(strength * w**2)
    for strength in (np.array([0.1, 0.2, 0.4, 0.8]), 0.3):
        M = data.T @ data + 12 * np.diag(np.broadcast_to(strength, 4))
        w = np.linalg.solve(M, data.T @ labels)
        each = -12 * np.linalg.inv(M) * w
        ours = implicit.root_jacobian(lambda w, strength: grad(loss)(w, strength), w, strength)
        yield ours, each if np.ndim(strength) else each.sum(axis=1)


@fact("implicit differentiation", 1e-11)
def data_weights_and_labels() -> Pairs:
    """With M = X'SX + rho I: dw/ds_i = M^-1 x_i (y_i - x_i'w), and dw/dy = M^-1 X'S (the distillation of labels)."""
    data, labels, weights = RNG.normal(size=(8, 3)), RNG.normal(size=8), RNG.uniform(0.5, 2, 8)
    M = data.T @ (weights[:, None] * data) + 0.5 * np.eye(3)
    w = np.linalg.solve(M, data.T @ (weights * labels))
    ours = implicit.root_jacobian(lambda w, t: data.T @ (t["s"] * (data @ w - t["y"])) + 0.5 * w, w, {"s": weights, "y": labels})
    yield ours["s"], np.linalg.solve(M, data.T * (labels - data @ w))
    yield ours["y"], np.linalg.solve(M, data.T * weights)


@fact("implicit differentiation")
def fixed_point() -> Pairs:
    """x = tanh(W x + u) moves by (I - D W)^-1 D with u, where D = diag(1 - x^2)."""
    weights, u, x = 0.1 * W, X[:, 0], np.zeros(4)
    for _ in range(200):
        x = np.tanh(weights @ x + u)
    D = np.diag(1 - x**2)
    condition = implicit.fixed_point(lambda x, u: np.tanh(weights @ x + u))
    yield implicit.root_jacobian(condition, x, u), np.linalg.solve(np.eye(4) - D @ weights, D)


# ## Solvers
@fact("solvers")
def conjugate_gradients() -> Pairs:
    """Conjugate gradients are exact after as many iterations as there are dimensions, up to rounding (here 6, condition number 10)."""
    yield solvers.solve(TASK.A, TASK.b, "cg", iterations=N).v, np.linalg.solve(TASK.A, TASK.b)


@fact("solvers")
def neumann_remainder() -> Pairs:
    """K terms of the Neumann series are (I - alpha A)^K A^-1 v short of the solution."""
    v = outer_gradient(THETA)
    for terms in (1, 3, 20):
        short = np.linalg.solve(TASK.A, v) - solvers.solve(TASK.A, v, "neumann", iterations=terms, alpha=ALPHA).v
        yield short, power(terms) @ np.linalg.solve(TASK.A, v)


@fact("solvers")
def the_bridge() -> Pairs:
    """Started at the minimum, backpropagation through K steps is the Neumann series with K terms: for a shift theta of the labels,
    inner 1/2 phi'A phi - (b + theta)'phi, it is alpha sum_j (I - alpha A)^j g."""
    minimum = np.linalg.solve(TASK.A, TASK.b)
    problem = Bilevel(lambda phi, theta, task: quadratics.inner(phi, theta, task) - theta @ phi, quadratics.outer, lambda *_: minimum)
    for terms in (1, 4):
        ours = maml.meta_gradient(problem, np.zeros(N), TASK, steps=terms, lr=ALPHA).grad
        yield ours, solvers.solve(TASK.A, outer_gradient(minimum), "neumann", iterations=terms, alpha=ALPHA).v
        yield ours, ALPHA * sum(power(j) for j in range(terms)) @ outer_gradient(minimum)


# ## Learned optimizers
@fact("learned optimizers")
def gradient_descent_as_a_cell() -> Pairs:
    """The cell state of the meta-learner LSTM with the gates f = 1 and i = alpha is phi under gradient descent (Ravi & Larochelle 2017)."""
    rule = learned_optimizer.meta_lstm()
    biases = {"i": np.log(ALPHA / (1 - ALPHA)), "f": 40.0}  # of sigmoids: alpha, and 1 - 4e-18
    theta = {gate: {"W": np.zeros((4, 1)), "b": np.array([b])} for gate, b in biases.items()}
    loss = lambda phi: quadratics.inner(phi, None, TASK)
    yield learned_optimizer.unroll(theta, loss, THETA, steps=STEPS, second_derivatives=False, rule=rule).phi, adapted(STEPS)


@fact("learned optimizers")
def classical_rules() -> Pairs:
    """Gradient descent as a learned rule has MAML's derivative with respect to its rate."""
    rule = learned_optimizer.classical(optim.sgd)
    problem = Bilevel(quadratics.inner, quadratics.outer, init=lambda alpha, task: THETA)
    ours = learned_optimizer.meta_gradient(problem, np.array(ALPHA), TASK, steps=STEPS, second_derivatives=True, rule=rule)
    yield ours.grad, -STEPS * outer_gradient(adapted(STEPS)) @ TASK.A @ power(STEPS - 1) @ E0


@fact("learned optimizers", 1e-10)
def evolution_on_a_quadratic() -> Pairs:
    """Antithetic evolution strategies along sqrt(d) e_i are exact on a quadratic, however far they step."""
    F = lambda theta, task: quadratics.inner(theta, None, task)
    axes = lambda rng, shape: np.sqrt(N) * np.eye(N)
    for sigma in (0.01, 1.0, 30.0):
        ours = evolution.evolution_strategies(F, THETA, TASK, RNG, sigma=sigma, pairs=N, directions=axes)
        yield ours.grad, TASK.A @ THETA - TASK.b


# ## The command
DESCRIPTION = """\
Computes what is known of derivatives from elsewhere, with tinymeta and by the known formula: whole numbers from tables, identities, and
closed forms of every meta-gradient. Prints the error of each, relative to the norm of the truth. Takes seconds, and writes nothing unless
told to.
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta check`."""
    parser = argparse.ArgumentParser("tinymeta check", allow_abbrev=False, description=DESCRIPTION,
                                     epilog="The exit status is 0 if all facts hold, 1 if one doesn't.")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write them as JUnit's XML")
    return parser


def run(options: argparse.Namespace) -> int:
    """Check, print, write."""
    from .cli import write_json

    results: list[Result] = []
    for result in check():
        if not results or results[-1].group != result.group:
            print(f"\n{result.group}")
        print(f"  {'holds' if result.holds else 'FAILS'} {result.error:8.1e}  {result.statement}", flush=True)
        results.append(result)
    failed = [result.name for result in results if not result.holds]
    print(f"\n{len(results) - len(failed)} of {len(results)} facts hold" + (f"; not: {', '.join(failed)}" if failed else ""))
    if options.json:
        write_json(options.json, {"facts": [result._asdict() | {"holds": result.holds} for result in results]})
    if options.junit:
        junit(results).write(options.junit, encoding="utf8", xml_declaration=True)
    return 1 if failed else 0


def junit(results: Sequence[Result]) -> ElementTree.ElementTree:
    """The results in the form that continuous integrations read."""
    failures = sum(not result.holds for result in results)
    suite = ElementTree.Element("testsuite", name="tinymeta check", tests=str(len(results)), failures=str(failures))
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname=f"tinymeta.{result.group}", name=result.name)
        if not result.holds:
            ElementTree.SubElement(case, "failure", message=f"{result.statement} The error is {result.error:.1e}")
    return ElementTree.ElementTree(suite)
