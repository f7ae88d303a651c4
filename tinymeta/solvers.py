r"""
# H v = b, seven ways

The implicit function theorem asks for one linear solve. Two ways factorise the matrix and are exact up to rounding; four are iterations
that see H only through products $H p$, each as cheap as a few gradients; and one makes no solve at all:

| solver | what it needs of H | one iteration costs |
|---|---|---|
| `"cholesky"` | the matrix, positive definite | |
| `"lu"` | the matrix, regular | |
| `"cg"` | products; positive definite | one product, four vectors in memory |
| `"minres"` | products; symmetric | one product, seven vectors |
| `"gmres"` | products | one product, one more vector for each |
| `"neumann"` | products; positive definite, and $0 < \alpha < 2 / \lambda_{\max}$ | one product, two vectors |
| `"identity"` | nothing: $H$ is taken for $I / \alpha$ | nothing |

Whatever an iteration believes of itself, what counts is the *true* residual $\lVert H v - b \rVert / \lVert b \rVert$, from one more
product at its end. (An iteration updates its residual instead of computing it, and SciPy's conjugate gradients divide by $p^\top H p$
without looking at its sign.)
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .arguments import check_array, check_choice, check_count, check_number, wanted

Product = Callable[[np.ndarray], np.ndarray]
DENSE = ("cholesky", "lu")
ITERATIVE = ("cg", "minres", "gmres", "neumann")
SOLVERS = (*DENSE, *ITERATIVE, "identity")


class Solution(NamedTuple):
    """What a solver found, and how well it solves the equation."""

    v: np.ndarray
    status: str  # "solved" (by a factor), "converged", "stopped" (after the iterations asked for), "not converged", "diverged", "no solve"
    residual: float  # |H v - b| / |b|, computed anew
    iterations: int
    hessian_products: int
    indefinite: bool  # whether a direction p with p'Hp < 0 was met; if none was, H may be indefinite all the same
    advice: str  # what to do; empty if all is well


@dataclass(frozen=True)
class Solver:
    """One of the seven ways, with its settings. See `solve`."""

    name: str = "cholesky"
    damping: float = 0.0
    iterations: int | None = None
    tolerance: float | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_choice("solver", self.name, SOLVERS)
        check_number("damping", self.damping, least=0)
        if self.iterations is not None:
            check_count("iterations", self.iterations, least=1, of="or None: until converged")
        if self.tolerance is not None:
            check_number("tolerance", self.tolerance, least=0, of="the relative residual to stop at; None chooses one")
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0, of="the step of the Neumann series; None chooses one")

    @property
    def needs_matrix(self) -> bool:
        return self.name in DENSE

    def __call__(self, H: Any, b: np.ndarray) -> Solution:
        attempt = self.attempt(H, b)
        return self.judge(attempt, H(attempt.v) if callable(H) else np.asarray(H) @ attempt.v, b)

    def attempt(self, H: Any, b: np.ndarray) -> Solution:
        """The solution, without the product that judges it: for a caller that makes that product anyway, in a pass with others."""
        if not np.all(np.isfinite(b)):
            raise FloatingPointError("the right-hand side of H v = b is not finite: the loss or its derivative has overflowed")
        product = _Products(H if callable(H) else np.asarray(H).__matmul__, float(self.damping), b.dtype)
        if self.needs_matrix:
            matrix = product.matrix(b) if callable(H) else np.asarray(H)
            v, iterations = FACTORISE[self.name](matrix + product.damping * np.eye(len(matrix), dtype=matrix.dtype), b), 0
        elif self.name == "identity":
            v, iterations = b * (1.0 if self.alpha is None else self.alpha), 0
        elif not np.any(b):
            v, iterations = np.zeros_like(b), 0
        else:
            with np.errstate(all="ignore"):  # what came of it is judged by the residual
                v, iterations = self._iterate(product, b)
        return Solution(v, "not judged", np.nan, iterations, product.count, product.indefinite, "")

    def _iterate(self, product: _Products, b: np.ndarray) -> tuple[np.ndarray, int]:
        if self.name == "neumann":
            alpha = safe_step(product, b) if self.alpha is None else self.alpha
            return _neumann(product, b, self._tolerance(b), self.iterations or 10_000, float(alpha))
        krylov = {"cg": _cg, "minres": _minres, "gmres": _gmres}[self.name]
        return krylov(product, b, self._tolerance(b), self.iterations)

    def _tolerance(self, b: np.ndarray) -> float:
        """By default three quarters of the digits that the dtype has: 2e-12 in float64, 6e-6 in float32."""
        eps = float(np.finfo(b.dtype).eps)
        return eps**0.75 if self.tolerance is None else max(self.tolerance, eps)

    def judge(self, attempt: Solution, Hv: np.ndarray, b: np.ndarray) -> Solution:
        """Status and residual, from the product H v without damping."""
        size = np.linalg.norm(b)
        residual = float(np.linalg.norm(Hv + float(self.damping) * attempt.v - b) / size) if size else 0.0
        status, advice = self._status(residual, attempt.iterations, 10 * self._tolerance(b))
        if status == "diverged" and self.iterations is None:
            raise np.linalg.LinAlgError(advice)
        rounding = 100 * float(np.finfo(b.dtype).eps) * np.linalg.norm(attempt.v) * np.linalg.norm(Hv)
        indefinite = attempt.indefinite or bool(attempt.v @ Hv < -rounding)
        return attempt._replace(status=status, residual=residual, hessian_products=attempt.hessian_products + 1,
                                indefinite=indefinite, advice=advice)  # fmt: skip

    def _status(self, residual: float, iterations: int, tolerance: float) -> tuple[str, str]:
        """A word, and advice if all is not well."""
        if self.name == "identity":
            return "no solve", ""
        if self.needs_matrix:
            return "solved", "" if residual <= 1e3 * tolerance else (
                f"solver={self.name!r} leaves a relative residual of {residual:.1e}: H is nearly singular, and most digits are lost. "
                "Add a regulariser, or damping= (with its bias)")  # fmt: skip
        if residual <= tolerance:  # the residual that the iteration stopped at, and some room for its rounding
            return "converged", ""
        if self.name == "neumann" and not residual < 1:
            return "diverged", (
                f"the Neumann series diverges: after {iterations} terms the residual is {residual:.1e} times the right-hand side. It "
                "converges if H is positive definite and 0 < alpha < 2 / (the largest eigenvalue): choose a smaller alpha (None chooses "
                "one), or solver='minres', which takes an indefinite H")  # fmt: skip
        if self.iterations is not None:
            return "stopped", ""
        return "not converged", (
            f"solver={self.name!r} has not converged: after {iterations} iterations the relative residual is {residual:.1e}, not "
            f"{tolerance / 10:.1e}. H is ill-conditioned or singular: give a larger tolerance=, or damping= (with its bias), add a "
            "regulariser, or solve with the matrix (solver='cholesky' or 'lu')")  # fmt: skip


def solve(
    H: Any,
    b: np.ndarray,
    solver: str = "cholesky",
    *,
    damping: float = 0.0,
    iterations: int | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
) -> Solution:
    r"""Solve $(H + \delta I)\, v = b$.

    Parameters
    ----------
    H : the matrix, shape (n, n), or a function v -> H v
    b : shape (n,)
    solver : one of the seven in the table above
    damping : delta
    iterations : of an iterative solver, at most; None: until converged
    tolerance : the relative residual to stop at; by default 2e-12 in float64, 6e-6 in float32. ("minres" has another criterion in
        SciPy, and always goes down to rounding.)
    alpha : the step of the Neumann series; None chooses it, by ten power iterations. For "identity": v = alpha b, with 1 by default

    Returns
    -------
    Solution (v, status, residual, iterations, hessian_products, indefinite, advice).

    Raises LinAlgError where the method breaks down: H not positive definite ("cholesky", "cg"), singular ("lu"), or a Neumann series
    that diverges; FloatingPointError if something isn't finite. Warns (RuntimeWarning) if it has not converged, except
    where a number of `iterations` was asked for; then the status is "stopped".

    Example
    -------
    >>> import numpy as np
    >>> H, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([3.0, 3.0])
    >>> solve(H, b).v
    array([1., 1.])
    >>> found = solve(lambda v: H @ v, b, "cg")  # b is an eigenvector, so one iteration will do; one more product shows it
    >>> found.status, found.iterations, found.hessian_products
    ('converged', 1, 2)
    """
    method = Solver(solver, damping, iterations, tolerance, alpha)
    if not callable(H):
        H = _real("H", H, (None, None))
        if H.shape[0] != H.shape[1]:
            raise wanted("H", H, "a square matrix, or a function v -> H v")
    b = _real("b", b, (None if callable(H) else len(H),))
    if not b.size:
        raise wanted("b", b, "one number or more")
    found = method(H, b)
    if found.advice:
        warnings.warn(found.advice, RuntimeWarning, stacklevel=2)
    return found


def _real(name: str, x: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of floats; whether they are finite is asked later."""
    check_array(name, x, shape, finite=False)
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(float)


class _Products:
    """v -> (H + damping I) v, which counts its calls, and remembers how H has curved and stretched what it was given."""

    def __init__(self, H: Product, damping: float, dtype: np.dtype):
        self.H, self.damping, self.eps = H, damping, float(np.finfo(dtype).eps)
        self.count, self.curvature, self.stretch = 0, np.inf, 0.0

    def __call__(self, p: np.ndarray) -> np.ndarray:
        Hp = self._product(p)
        self.count += 1
        if not np.all(np.isfinite(Hp)):
            raise FloatingPointError("a product with the Hessian is not finite: the loss or a derivative of it has overflowed at phi. "
                                     "Did the adaptation diverge?")  # fmt: skip
        if np.any(p):  # GMRES asks for the product with 0, too
            self.curvature = min(self.curvature, float(p @ Hp / (p @ p)))
            self.stretch = max(self.stretch, float(np.linalg.norm(Hp) / np.linalg.norm(p)))
        return Hp + self.damping * p

    @property
    def indefinite(self) -> bool:
        """Whether a curvature was negative, by more than rounding makes it."""
        return self.curvature < -100 * self.eps * self.stretch

    def matrix(self, like: np.ndarray) -> np.ndarray:
        """H itself, column by column."""
        self.count += len(like)
        return np.stack([self._product(e) for e in np.eye(len(like), dtype=like.dtype)], axis=1)

    def _product(self, p: np.ndarray) -> np.ndarray:
        Hp = self.H(p)
        if np.shape(Hp) != p.shape:
            raise ValueError(f"H(v) has shape {np.shape(Hp)} for v of shape {p.shape}: H is a square matrix, or a function v -> H v")
        return Hp


# ## By the matrix
def cholesky(H: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""$H = R^\top R$, then two triangular solves.

    Raises LinAlgError, with advice, if H is not positive definite; FloatingPointError if it isn't finite.

    >>> cholesky(np.array([[4.0]]), np.array([2.0]))
    array([0.5])
    """
    from scipy import linalg

    _check_finite(H)
    with contextlib.suppress(np.linalg.LinAlgError):
        factor = linalg.cho_factor(H)
        if _regular(np.diag(factor[0]) ** 2):
            return linalg.cho_solve(factor, b)
    eigenvalues = np.linalg.eigvalsh(H)
    smallest, enough = eigenvalues[0], max(2 * abs(eigenvalues[0]), 1e-8 * abs(eigenvalues[-1])) or 1e-8
    raise np.linalg.LinAlgError(
        f"the inner Hessian is not positive definite (smallest eigenvalue {smallest:.1e}): phi is not a strict minimum of the inner "
        f"loss. Adapt further; or add damping={enough:.1e}, with its bias; or follow any stationary point with "
        "solver='lu'")  # fmt: skip


# A singular matrix is hardly ever singular to the last bit: rounding leaves a pivot of the size of the dtype's precision.
def is_positive_definite(H: np.ndarray) -> bool:
    """Whether a Cholesky factorisation succeeds, with all pivots above rounding.

    >>> is_positive_definite(np.eye(2)), is_positive_definite(np.ones((2, 2)))
    (True, False)
    """
    try:
        pivots = np.diag(np.linalg.cholesky(H)) ** 2
    except np.linalg.LinAlgError:
        return False
    return _regular(pivots)


def _regular(pivots: np.ndarray) -> bool:
    return bool(pivots.min(initial=np.inf) > 10 * len(pivots) * np.finfo(pivots.dtype).eps * pivots.max(initial=0.0))


def lu(J: np.ndarray, b: np.ndarray) -> np.ndarray:
    """P J = L U, then two triangular solves.

    Raises LinAlgError, with advice, if J is singular; FloatingPointError if it isn't finite.

    >>> lu(np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([1.0, 2.0]))
    array([1., 1.])
    """
    from scipy import linalg

    _check_finite(J)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", linalg.LinAlgWarning)  # an exactly singular factor: the next line says so
        factors = linalg.lu_factor(J)
    if not _regular(np.abs(np.diag(factors[0]))):
        raise np.linalg.LinAlgError("the matrix of the implicit function theorem is singular: the solution is not locally unique, and "
                                    "phi has no derivative. Add a regulariser, or damping=")  # fmt: skip
    return linalg.lu_solve(factors, b)


FACTORISE = {"cholesky": cholesky, "lu": lu}


def _check_finite(H: np.ndarray) -> None:
    if not np.all(np.isfinite(H)):
        raise FloatingPointError("the matrix of the implicit function theorem is not finite: the loss or a derivative of it has "
                                 "overflowed at phi. Did the adaptation diverge?")  # fmt: skip


# ## By products: SciPy's Krylov methods
# After k iterations v is the best vector, each in its own sense, of the space that $b, H b, \dots, H^{k-1} b$ span. For a matrix with d
# distinct eigenvalues d iterations are exact, up to rounding.
def _krylov(method: str, product: Product, b: np.ndarray, **options: Any) -> tuple[np.ndarray, int]:
    from scipy.sparse import linalg

    steps = itertools.count()
    operator = linalg.LinearOperator((b.size, b.size), matvec=product, dtype=b.dtype)
    v, _ = getattr(linalg, method)(operator, b, callback=lambda _: next(steps), **options)
    return v.astype(b.dtype, copy=False), next(steps)  # MINRES returns float64 whatever it is given


# Conjugate gradients minimise $\tfrac12 v^\top H v - b^\top v$ along one direction $p$ after the other; if $p^\top H p \le 0$,
# there is no minimum along it.
def _cg(product: Product, b: np.ndarray, tolerance: float, iterations: int | None) -> tuple[np.ndarray, int]:
    def curved(p: np.ndarray) -> np.ndarray:
        Hp = product(p)
        if not p @ Hp > 0:
            raise np.linalg.LinAlgError(
                f"conjugate gradients met a direction p with p'Hp / p'p = {p @ Hp / (p @ p):.1e}: the inner Hessian is not positive "
                "definite, so phi is not a strict minimum of the inner loss. Adapt further; or add damping=, with its bias; or follow any "
                "stationary point with solver='minres'")  # fmt: skip
        return Hp

    return _krylov("cg", curved, b, rtol=tolerance, maxiter=iterations or 10 * b.size)


# The same iteration in NumPy, for a trace: with $r_k = b - H v_k$,
# $$ \alpha_k = \frac{r_k^\top r_k}{p_k^\top H p_k}, \quad v_{k+1} = v_k + \alpha_k p_k, \quad r_{k+1} = r_k - \alpha_k H p_k, \quad
#    p_{k+1} = r_{k+1} + \frac{r_{k+1}^\top r_{k+1}}{r_k^\top r_k}\, p_k. $$
# A trace can't end early. So where there is no minimum along p, and once the residual is 0, $\alpha$ is 0 from then on.
def conjugate_gradients(product: Callable[[Any], Any], b: Any, iterations: int) -> Any:
    """A fixed number of iterations, traceable. It stays where it is after a direction p with p'Hp <= 0 (Steihaug 1983), and says nothing.

    >>> conjugate_gradients(lambda v: np.array([[2.0, 1.0], [1.0, 2.0]]) @ v, np.array([3.0, 0.0]), 2)
    array([ 2., -1.])
    """
    v, r, p, goes_on, tiny = np.zeros_like(b), b, b, 1.0, np.finfo(b.dtype).tiny
    for _ in range(iterations):
        Hp = product(p)
        squared, curvature = r @ r, p @ Hp
        goes_on = goes_on * (curvature > 0)
        alpha = goes_on * squared / np.where(curvature > 0, curvature, 1.0)
        v, r = v + alpha * p, r - alpha * Hp
        p = r + (r @ r) / np.maximum(squared, tiny) * p
    return v


def _minres(product: Product, b: np.ndarray, tolerance: float, iterations: int | None) -> tuple[np.ndarray, int]:
    return _krylov("minres", product, b, rtol=float(np.finfo(b.dtype).eps), maxiter=iterations or 10 * b.size)


# SciPy counts the restarts: one without any is k iterations, if k vectors may be kept.
def _gmres(product: Product, b: np.ndarray, tolerance: float, iterations: int | None) -> tuple[np.ndarray, int]:
    kept = iterations or min(b.size, 100)
    restarts = 1 if iterations else 10 * -(-b.size // kept)
    return _krylov("gmres", product, b, rtol=tolerance, restart=kept, maxiter=restarts, callback_type="pr_norm")


# ## By products: the Neumann series
# $$ \frac1h = \frac{\alpha}{1 - (1 - \alpha h)} = \alpha \sum_{j=0}^{\infty} (1 - \alpha h)^j \quad \text{if } |1 - \alpha h| < 1, \qquad
#    v_K = \alpha \sum_{j<K} (I - \alpha H)^j\, b $$
# A sum of K terms is what backpropagation through K steps of gradient descent at the minimum computes. Its residual is the next power:
# $$ r_K = b - H v_K = (I - \alpha H)^K b, \qquad v_{K+1} = v_K + \alpha\, r_K, \qquad r_{K+1} = r_K - \alpha H r_K. $$
def _neumann(product: Product, b: np.ndarray, tolerance: float, terms: int, alpha: float) -> tuple[np.ndarray, int]:
    v, r, size = alpha * b, b, np.linalg.norm(b)
    for k in range(1, terms):
        r = r - alpha * product(r)
        if not tolerance * size < np.linalg.norm(r) < 1000 * size:  # converged, or beyond hope
            return v, k
        v = v + alpha * r
    return v, terms


# The largest eigenvalue decides how large a step may be. Power iterations $x \leftarrow H x / \lVert H x \rVert$ turn towards its
# eigenvector, and $\lVert H x \rVert$ grows towards it from below: as soon as it is more than half of it, $\alpha = 1 / \lVert H x \rVert$
# is below $2 / \lambda_{\max}$.
def safe_step(product: Product, like: np.ndarray, iterations: int = 10) -> float:
    r"""A step $\alpha \approx 1 / \lambda_{\max}$, by power iterations from a random vector (always the same).

    >>> H = np.diag([1.0, 2.0, 4.0])
    >>> round(safe_step(lambda v: H @ v, np.zeros(3)), 3)
    0.25
    """
    x = np.random.default_rng(0).standard_normal(like.size).astype(like.dtype)
    for _ in range(iterations):
        x = product(x / np.linalg.norm(x))
        if not np.any(x):
            raise np.linalg.LinAlgError("the Hessian is zero in a random direction: it is singular. Add a regulariser, or damping=")
    return float(1 / np.linalg.norm(x))
