r"""
# Where the adaptation ends

$\phi^\star(\theta)$ is a stationary point of the inner loss, $\nabla_\phi L(\phi^\star, \theta) = 0$. The theorem doesn't ask how it was
found; its derivative is as good as the point is stationary. So whatever searches for it, the gradient that is left has the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import check_choice, check_count, check_number, wanted
from .autodiff import Tensor, grad, hessian, hvp, ravel, tree
from .bilevel import Bilevel, check_problem, floats, is_finite, started
from .machine import jit
from .solvers import Solver, cholesky, lu


def as_arrays(x: Any, name: str) -> Any:
    """Floats as arrays, numbers as such without axes; a TypeError by its name for what has no derivative.

    >>> as_arrays({"w": 3}, "phi")
    {'w': array(3.)}
    """

    def plain(leaf: Any, name: str) -> np.ndarray:
        if type(leaf) is Tensor:
            raise wanted(name, leaf, "an array: SciPy and NumPy solve for it, which can't be differentiated as a Tensor's graph", TypeError)
        return np.asarray(leaf)

    leaves, structure = tree.flatten(floats(x, name))
    return tree.unflatten(structure, [plain(leaf, name) for leaf, name in zip(leaves, tree.names(x, name), strict=True)])


class InnerLoss:
    """The inner loss of one task as a function of a vector, with its derivatives as programs: they are called many times."""

    def __init__(self, problem: Bilevel, theta: Any, task: Any, phi: Any):
        self.vector, self.phi_tree = ravel(phi)
        self.value: Callable[[Any], Any] = lambda phi: problem.inner(self.phi_tree(phi), theta, task)
        self.gradient = jit(grad(self.value))
        self.hessian = jit(hessian(self.value))
        self.product = jit(lambda phi, v: hvp(self.value, phi, v))


def solve_inner(
    problem: Bilevel, theta: Any, task: Any, *, method: str = "trust-exact", lr: float | None = None, iterations: int | None = None
) -> Any:
    r"""$\phi^\star(\theta)$: a local minimum of the inner loss, from the problem's starting point.

    Parameters
    ----------
    problem, theta, task : as everywhere
    method :
        "trust-exact", SciPy's trust-region method with the explicit Hessian, and Newton steps $\phi \leftarrow \phi - H^{-1} \nabla L$ at
        the end, for as long as H is positive definite and each makes the gradient smaller: down to rounding;
        "newton-cg", SciPy's, with Hessian products, and Newton steps by conjugate gradients at the end;
        "l-bfgs", SciPy's, with gradients alone;
        "gradient descent", steps of `lr`;
        "quadratic", one Newton step, which is exact if the loss is quadratic, and says so if it isn't
    lr : the learning rate of "gradient descent", and of no other method
    iterations : at most; None: until stationary. With a number, the point is returned as it is

    Returns
    -------
    phi, in the structure of the start

    Raises ValueError for options that make no sense; RuntimeError if no stationary point is found, or (with the Hessian at hand) one that
    is no minimum; FloatingPointError if the loss isn't finite at the start.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2 + phi**2, lambda phi, theta, task: phi**2)
    >>> tm.implicit.solve_inner(problem, 1.0, None)
    array(0.5)
    >>> tm.implicit.solve_inner(problem, 1.0, None, method="gradient descent", lr=0.125, iterations=1)
    array(0.75)
    """
    check_problem(problem, judged=False)
    check_choice("method", method, METHODS)
    if (lr is None) == (method == "gradient descent"):
        raise ValueError(f"lr={lr!r} with method={method!r}: 'gradient descent' needs a learning rate, and the other methods have none")
    if lr is not None:
        check_number("lr", lr, above=0, of="a learning rate")
    if iterations is not None:
        check_count("iterations", iterations, least=1, of="or None: until stationary")
    loss = InnerLoss(problem, theta, task, as_arrays(started(problem, theta, task), "phi"))
    with np.errstate(all="ignore"):  # what overflows is not stationary, and is said below
        scale = 1 + float(np.linalg.norm(loss.gradient(loss.vector)))
        if not is_finite((loss.value(loss.vector), scale)):
            raise FloatingPointError("the inner loss or its gradient is not finite where the adaptation starts: look at theta and the task")
        phi = METHODS[method](loss, scale, iterations, lr)
        if iterations is None:
            _check(loss, phi, method, scale)
    return loss.phi_tree(phi)


def _check(loss: InnerLoss, phi: np.ndarray, method: str, scale: float) -> None:
    """An error if phi is not stationary, or if a method that has the Hessian has ended where there is no minimum."""
    regularise = "regularise it, for example with tm.implicit.proximal, or pass phi="
    nearly = max(1e-5, 10 * float(np.sqrt(np.finfo(loss.vector.dtype).eps)))  # what methods that look at values alone can reach
    left = float(np.linalg.norm(loss.gradient(phi)))
    if not left <= nearly * scale:
        raise RuntimeError("the inner loss has no stationary point that can be reached from the start (gradient norm "
                           f"{left:.1e} after {method!r}): {_advice(method)}{regularise}")  # fmt: skip
    curvatures = np.linalg.eigvalsh(loss.hessian(phi)) if method in ("trust-exact", "quadratic") else np.zeros(0)
    if curvatures.min(initial=0.0) < -nearly * np.linalg.norm(curvatures):
        raise RuntimeError("the stationary point that was found is a saddle point or a maximum of the inner loss (smallest curvature "
                           f"{curvatures[0]:.1e}): start elsewhere, {regularise}")  # fmt: skip


def _advice(method: str) -> str:
    return {
        "quadratic": "one Newton step is exact for a quadratic loss, so this one isn't quadratic; choose another method, ",
        "gradient descent": "choose another lr (it must be below 2 / the largest curvature), or a quicker method, ",
    }.get(method, "")


def stationarity(problem: Bilevel, phi: Any, theta: Any, task: Any) -> float:
    r"""$\lVert \nabla_\phi L(\phi, \theta) \rVert$: how far from stationary a point is.

    >>> stationarity(Bilevel(lambda phi, theta, task: phi**2, None), 1.5, None, None)
    3.0
    """
    check_problem(problem, judged=False)
    return float(np.linalg.norm(ravel(grad(problem.inner)(as_arrays(phi, "phi"), theta, task))[0]))


# ## The methods
# Each takes (loss, scale of its gradients, iterations or None, learning rate or None) and returns the vector where it ended.
def _trust_exact(loss: InnerLoss, scale: float, iterations: int | None, lr: float | None) -> np.ndarray:
    from scipy import optimize

    options = {"gtol": 1e-8} | _at_most(iterations)
    phi = optimize.minimize(loss.value, loss.vector, jac=loss.gradient, hess=loss.hessian, method="trust-exact", options=options).x
    return phi if iterations is not None else _polished(loss, phi, lambda phi, g: cholesky(loss.hessian(phi), g))


def _polished(loss: InnerLoss, phi: np.ndarray, step: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Newton steps, for as long as each of them halves the gradient; where H isn't positive definite they would lead uphill."""
    while True:
        g = loss.gradient(phi)
        try:
            closer = phi - step(phi, g)
        except np.linalg.LinAlgError:
            return phi
        if not np.linalg.norm(loss.gradient(closer)) < 0.5 * np.linalg.norm(g):
            return phi
        phi = closer


def _newton_cg(loss: InnerLoss, scale: float, iterations: int | None, lr: float | None) -> np.ndarray:
    from scipy import optimize

    options = {"xtol": _precision(loss)} | _at_most(iterations)
    phi = optimize.minimize(loss.value, loss.vector, jac=loss.gradient, hessp=loss.product, method="Newton-CG", options=options).x
    step = lambda phi, g: Solver("cg").attempt(lambda v: loss.product(phi, v), g).v
    return phi if iterations is not None else _polished(loss, phi, step)


def _l_bfgs(loss: InnerLoss, scale: float, iterations: int | None, lr: float | None) -> np.ndarray:
    from scipy import optimize

    options = {"gtol": _precision(loss) * scale, "ftol": 0.0, "maxcor": 30} | _at_most(iterations)
    return optimize.minimize(loss.value, loss.vector, jac=loss.gradient, method="L-BFGS-B", options=options).x


def _gradient_descent(loss: InnerLoss, scale: float, iterations: int | None, lr: float | None) -> np.ndarray:
    phi = loss.vector
    for _ in range(10_000 if iterations is None else iterations):
        g = loss.gradient(phi)
        if not _precision(loss) * scale < np.linalg.norm(g) < 1e6 * scale:  # stationary, or diverged
            break
        phi = phi - lr * g
    return phi


# A quadratic $L(\phi) = \tfrac12 \phi^\top A\,\phi - b^\top \phi$ has the gradient $A \phi - b$, and from anywhere
# $$ \phi - A^{-1} (A \phi - b) = A^{-1} b = \phi^\star. $$
def _quadratic(loss: InnerLoss, scale: float, iterations: int | None, lr: float | None) -> np.ndarray:
    phi = loss.vector
    try:
        return phi - lu(loss.hessian(phi), loss.gradient(phi))
    except np.linalg.LinAlgError:
        raise RuntimeError("the inner Hessian is singular, so as a quadratic the inner loss has no minimum, or many: choose another "
                           "method, regularise it, for example with tm.implicit.proximal, or pass phi=") from None  # fmt: skip


METHODS = {"trust-exact": _trust_exact, "newton-cg": _newton_cg, "l-bfgs": _l_bfgs, "gradient descent": _gradient_descent,
           "quadratic": _quadratic}  # fmt: skip


def _at_most(iterations: int | None) -> dict[str, int]:
    return {} if iterations is None else {"maxiter": iterations}


def _precision(loss: InnerLoss) -> float:
    """Three quarters of the dtype's digits."""
    return float(np.finfo(loss.vector.dtype).eps) ** 0.75
