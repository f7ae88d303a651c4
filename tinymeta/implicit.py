r"""
# The gradient by the implicit function theorem

If the adaptation runs to its end, it does not matter how it got there. The end is a point where the inner gradient
vanishes, and that condition alone defines $\phi^\star$ as a function of $\theta$:

$$ \nabla_\phi L(\phi^\star(\theta), \theta) = 0 \quad \text{for all } \theta. $$

**The scalar case.** Let $F(x, y) = 0$ define $y(x)$. Differentiate along the curve: $F_x + F_y\, y' = 0$, so
$y' = -F_x / F_y$ wherever $F_y \ne 0$.

**Vectors.** Let $g(\phi, \theta) = 0$ define $\phi^\star(\theta)$, with as many equations as unknowns. In the same way

$$ \frac{\partial g}{\partial \phi} \frac{d\phi^\star}{d\theta} + \frac{\partial g}{\partial \theta} = 0
   \qquad\Longrightarrow\qquad
   \frac{d\phi^\star}{d\theta} = -\Big(\frac{\partial g}{\partial \phi}\Big)^{-1} \frac{\partial g}{\partial \theta}. $$

The theorem asks for a *regular* $\partial g / \partial \phi$, and for $\theta$ to enter g: a condition without $\theta$ has
solutions that don't move. For $g = \nabla_\phi L$ the matrix is the inner Hessian $H = \nabla^2_{\phi\phi} L$. At a minimum with
regular H it is positive definite, and the minimum has forgotten where the adaptation started. To make a starting point
matter, a proximal term ties $\phi$ to it: that is iMAML (`proximal`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import check_count, check_number
from .autodiff import grad, hvp, ravel, stop_gradient, tree, value_and_grad
from .autodiff.derivatives import inner_product
from .autodiff.reverse import sweep
from .autodiff.tensor import Tensor, tensor
from .bilevel import Bilevel, Info, MetaGradient, arrays_out, check_problem, floats, is_finite, second_derivative_products
from .curvature import Hessian, inner_hessian
from .machine import jit
from .maml import InnerLoop, adapt
from .minima import as_arrays, solve_inner, stationarity
from .roots import distance, fixed_point, root_jacobian, root_jvp, root_vjp, solution, too_far
from .solvers import Solution, Solver, conjugate_gradients, solve

__all__ = [
    "Hessian", "Solution", "fixed_point", "inner_hessian", "meta_gradient", "objective", "proximal", "root_jacobian", "root_jvp",
    "root_vjp", "solution", "solve", "solve_inner", "stationarity",
]  # fmt: skip


# ## The meta-gradient
# Put $d\phi^\star / d\theta = -H^{-1} M$, with $M = \nabla^2_{\phi\theta} L$, into the chain rule:
# $$ \frac{dF}{d\theta} = \frac{\partial f}{\partial \theta} - M^\top H^{-\top} \frac{\partial f}{\partial \phi}. $$
# Read from the right: *one* solve with a vector, $H v = \partial f / \partial \phi$, and one product with $M^\top$. The matrix
# $d\phi^\star / d\theta$, a column for each element of $\theta$, is never formed.
#
# The solve is `solvers.Solver`'s, by the matrix or by products. The pass that makes $M^\top v$ makes $H v$ as well, which says how well v
# solves the equation: no solver is believed without it.
def meta_gradient(
    problem: Bilevel,
    theta: Any,
    task: Any,
    *,
    phi: Any = None,
    solver: str = "cholesky",
    damping: float = 0.0,
    iterations: int | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
) -> MetaGradient:
    r"""$dF/d\theta$ for one task, at the end of the adaptation.

    Parameters
    ----------
    problem : the inner and outer loss. The inner gradient must depend on theta, or the gradient is the direct part alone
    theta, task : nested containers of arrays
    phi : the adapted parameters, a stationary point of the inner loss; found by `solve_inner` if None
    solver : how H v = df/dphi is solved:
        "cholesky" (H must be positive definite) and "lu" (H must be regular), with the explicit Hessian;
        "cg" (positive definite), "minres" and "gmres" (regular), by SciPy, with Hessian products alone;
        "neumann", the series $\alpha \sum_j (I - \alpha H)^j$, with Hessian products;
        "identity", no solve at all: H is taken for I / alpha. With alpha the inner learning rate, this is DARTS, one step of
        gradient descent differentiated; its error is of order one, and its residual tells
    damping : solve with H + damping I. It keeps the solve from blowing up, and biases the result, see `info["damping_bias"]`
    iterations : at most so many iterations of an iterative solver (terms of the Neumann series); None: until converged
    tolerance : the relative residual at which an iterative solver stops; by default 2e-12 in float64, 6e-6 in float32
    alpha : the step of the Neumann series, by default 1 / (an estimate of H's largest eigenvalue); or of "identity", by default 1

    Returns
    -------
    MetaGradient (value, grad, phi, info). In info:
        `stationarity`, the norm of the inner gradient at phi; `distance`, about how far phi is from the stationary point: the norm of
        $H^{-1} \nabla_\phi L$ (where H isn't formed, the larger of two estimates: as if $H^{-1}$ lengthened the inner gradient as it does
        the outer one; and a bound from below, by one more product, which isn't counted);
        `status`, `residual` (relative) and `iterations` of the solve; `hessian_products`, those that were made for this gradient, from phi
        on (the explicit Hessian of n parameters counts n); `nodes`, of the largest graph that was kept;
        and, computed when asked for: `hessian` (a `Hessian`, to print and to plot), its `eigenvalues` and `condition` number;
        `damping_bias`, the relative change of v by damping; `enters`, the leaves of theta that the "inner" gradient and the "outer" loss
        depend on.

    Raises LinAlgError if H (damped) is not positive definite, for "cholesky" and "cg", or singular, for "lu", and if the Neumann series
    diverges; FloatingPointError if a derivative is not finite.
    Warns (RuntimeWarning) if phi is not stationary; if the solve has not converged (with `iterations` given, only if it diverges); if H is
    seen to be indefinite: there phi* is no minimum; and if a leaf of theta enters neither the inner gradient nor the outer loss.

    Source: Bengio, Gradient-based optimization of hyperparameters (2000); Pedregosa, Hyperparameter optimization with approximate
    gradient (2016), for CG; Lorraine et al., Optimizing millions of hyperparameters by implicit differentiation (2020), eq. 2 and 4, for
    the Neumann series; Liu et al., DARTS (2019), eq. 6, for the identity.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2 + phi**2, lambda phi, theta, task: phi**2)
    >>> result = tm.implicit.meta_gradient(problem, 1.0, None)  # phi* = theta / 2
    >>> result.phi, result.grad
    (array(0.5), array(0.5))
    >>> print(result.info["hessian"])
    1 x 1 Hessian, positive definite: eigenvalues from 4 to 4, condition number 1
    """
    check_problem(problem)
    theta, method = floats(theta, "theta"), Solver(solver, damping, iterations, tolerance, alpha)
    with np.errstate(all="ignore"):  # what isn't finite is told
        phi = as_arrays(solve_inner(problem, theta, task) if phi is None else phi, "phi")
        g = ravel(grad(problem.inner)(phi, theta, task))[0]
        _check_finite(g)
        # $$ H = \nabla^2_{\phi\phi} L(\phi^\star, \theta) $$
        H = inner_hessian(problem, phi, theta, task) if method.needs_matrix else None
        # $$ \frac{\partial f}{\partial \phi}, \qquad \frac{\partial f}{\partial \theta} $$
        value, (f_phi, f_theta) = value_and_grad(problem.outer, argnums=(0, 1))(phi, theta, task)
        # $$ H v = \frac{\partial f}{\partial \phi} $$
        b, phi_tree = ravel(f_phi)
        product = _product(problem, phi, theta, task)
        attempt = method.attempt(product if H is None else H, b)
        # $$ M^\top v = \frac{\partial}{\partial \theta} \langle \nabla_\phi L(\phi^\star, \theta), v \rangle $$
        inner = lambda phi, theta: problem.inner(phi, theta, task)
        (H_product, M_product), nodes = second_derivative_products(inner, phi, theta, phi_tree(attempt.v))
        found = method.judge(attempt, ravel(H_product)[0], b)
        products = found.hessian_products + (0 if H is None else b.size)
        # $$ \frac{dF}{d\theta} = \frac{\partial f}{\partial \theta} - M^\top v $$
        gradient = tree.map(lambda f_theta, product: f_theta - product, f_theta, M_product)
        away = distance(method, H, product, g, found.v, b)
    if not is_finite((value, gradient)):
        raise FloatingPointError("the outer loss or the meta-gradient is not finite, though the inner gradient at phi is: a loss or a "
                                 "derivative of it has overflowed, or isn't defined there")  # fmt: skip

    enters = lambda: _enters(problem, phi, theta, task)
    for warning in (too_far(away, ravel(phi)[0], "the inner gradient = 0"), found.advice, _saddle(H, found), _idle(gradient, enters)):
        if warning:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
    explicit = H or (lambda: inner_hessian(problem, phi, theta, task))
    info = _info(explicit, found, damping, b, hessian_products=products, stationarity=float(np.linalg.norm(g)), distance=away,
                 nodes=nodes, enters=enters)  # fmt: skip
    return arrays_out(MetaGradient(value, gradient, phi, info))


def _info(hessian: Any, found: Solution, damping: float, b: np.ndarray, **entries: Any) -> Info:
    info: Info = Info(
        **entries,
        status=found.status,
        residual=found.residual,
        iterations=found.iterations,
        hessian=hessian,
        eigenvalues=lambda: info["hessian"].eigenvalues,
        condition=lambda: info["hessian"].condition,
        damping_bias=(lambda: info["hessian"].damping_bias(b, damping)) if damping else 0.0,
    )
    return info


# $v \mapsto H v$, the gradient of $\langle \nabla_\phi L, v \rangle$, as one program: phi and theta are constants in it, so all that
# doesn't depend on v has been computed when it is first run.
def _product(problem: Bilevel, phi: Any, theta: Any, task: Any) -> Callable[[Any], Any]:
    vector, phi_tree = ravel(phi)
    return jit(lambda v: hvp(lambda phi: problem.inner(phi_tree(phi), theta, task), vector, v))


# ## For training
# SciPy can't be traced, and a training repeats the same few products many thousand times. So here all counts are fixed: K steps of gradient
# descent towards $\phi^\star$, whose graph is dropped, k conjugate gradients for $H v = \partial f / \partial \phi$ there, and a function
# with the gradient of the theorem: with v, and $\phi$ in the first two terms, held constant, it is that of
# $$ \tilde F(\theta) = f(\phi, \theta) - \langle \nabla_\phi L(\phi, \theta), v \rangle. $$
def objective(problem: Bilevel, *, steps: int, lr: Any, iterations: int) -> Callable[[Any, Any], Any]:
    r"""A function of (theta, task) whose value is the outer loss at phi_K and whose gradient is the implicit one there, for training.

    Parameters
    ----------
    problem : with an inner loss that depends on theta, such as `proximal` makes
    steps, lr : K steps of gradient descent, as for `maml.objective`
    iterations : of conjugate gradients, a fixed number; nothing is checked, as under a trace values aren't known

    Source: Rajeswaran et al., Meta-learning with implicit gradients (2019), algorithm 2.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.implicit.proximal(tm.Bilevel(lambda phi, theta, task: 0.5 * phi**2, lambda phi, theta, task: phi), strength=1.0)
    >>> F = tm.implicit.objective(problem, steps=50, lr=0.25, iterations=1)
    >>> float(tm.grad(F)(4.0, None))  # 1 / (1 + 1/lambda)
    0.5
    """

    InnerLoop(problem, None, steps, lr)  # which checks them
    check_count("iterations", iterations, least=1, of="conjugate gradients")

    def F(theta: Any, task: Any) -> Any:
        phi = stop_gradient(adapt(problem, theta, task, steps=steps, lr=lr, order=1))
        inner = lambda phi, theta: problem.inner(phi, theta, task)
        b, phi_tree = ravel(grad(problem.outer)(phi, stop_gradient(theta), task))
        vector = ravel(phi)[0]
        v = conjugate_gradients(lambda p: hvp(lambda phi: inner(phi_tree(phi), stop_gradient(theta)), vector, p), b, iterations)
        slope = inner_product(grad(inner)(phi, theta), phi_tree(stop_gradient(v)))
        return problem.outer(phi, theta, task) - (slope - stop_gradient(slope))

    return F


# ## What the theorem asks for
def _check_finite(g: np.ndarray) -> None:
    if not np.all(np.isfinite(g)):
        raise FloatingPointError("the inner gradient at phi is not finite: the adaptation has diverged, or phi isn't where the inner loss "
                                 "is defined. Take smaller steps, or regularise it, for example with tm.implicit.proximal")  # fmt: skip


def _saddle(H: Hessian | None, found: Solution) -> str:
    """A warning if H is indefinite: by the matrix if it is there, else if the products have shown it."""
    if not (found.indefinite if H is None else H.is_indefinite):
        return ""
    return ("the inner Hessian is indefinite: phi is a saddle point or a maximum of the inner loss, and the meta-gradient "
            "follows it there. Look at .info['eigenvalues']")  # fmt: skip


# A condition without $\theta$ has solutions that don't move. The zero is right, but seldom what was meant.
def _enters(problem: Bilevel, phi: Any, theta: Any, task: Any) -> dict[str, list[str]]:
    """The leaves of theta that the inner gradient and the outer loss depend on, by name."""
    leaves, structure = tree.flatten(theta)
    nodes = [tensor(leaf) for leaf in leaves]
    given = tree.unflatten(structure, nodes)
    ends = {"inner": grad(problem.inner)(phi, given, task), "outer": problem.outer(phi, given, task)}

    def reached(end: Any) -> list[str]:
        outputs = [y for y in tree.flatten(end)[0] if type(y) is Tensor]
        found = sweep(outputs, [np.ones(y.shape) for y in outputs], nodes, record=False)
        return [name for name, bar in zip(tree.names(theta, "theta"), found, strict=True) if bar is not None]

    return {name: reached(end) for name, end in ends.items()}


def _idle(gradient: Any, enters: Callable[[], dict[str, list[str]]]) -> str:
    """A warning if a part of the gradient is zero because nothing depends on that leaf of theta."""
    zero = [name for name, part in zip(tree.names(gradient, "theta"), tree.flatten(gradient)[0], strict=True) if not np.any(part)]
    used = {name for names in enters().values() for name in names} if zero else set()
    idle = [name for name in zero if name not in used]
    if not idle:
        return ""
    return (f"{', '.join(idle)} enters neither the inner gradient nor the outer loss, so its meta-gradient is exactly zero: where the "
            "adaptation ends doesn't depend on how it gets there (learning rate, number of steps, starting point). Differentiate the steps "
            "themselves, with tm.maml.meta_gradient, or tie phi to its start, with tm.implicit.proximal")  # fmt: skip


# ## The proximal term
def proximal(problem: Bilevel, strength: Any) -> Bilevel:
    r"""The problem with an inner loss that remembers its start (iMAML):

    $$ L(\phi, \theta) + \frac{\lambda}{2} \lVert \phi - \phi_0(\theta) \rVert^2. $$

    The solution now depends on $\phi_0$: with $\phi_0 = \theta$ and an L without $\theta$ of its own, $M = -\lambda I$ and
    $$ \frac{dF}{d\theta} = (I + \tfrac1\lambda \nabla^2 L)^{-1} \frac{\partial f}{\partial \phi}. $$

    Parameters
    ----------
    problem : any problem
    strength : lambda: a number, or a function of theta (then it is a hyperparameter with a gradient)

    Source: Rajeswaran et al., Meta-learning with implicit gradients (2019), eq. 3 and 6.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: 0.5 * phi**2, lambda phi, theta, task: phi)
    >>> tm.implicit.meta_gradient(tm.implicit.proximal(problem, 1.0), 4.0, None).grad  # 1 / (1 + 1/lambda)
    array(0.5)
    """

    check_problem(problem, judged=False)
    if not (callable(strength) or type(strength) is Tensor):
        check_number("strength", strength, least=0, of="or a function of theta")

    def inner(phi: Any, theta: Any, task: Any) -> Any:
        leaves, structure = tree.flatten(problem.start(theta, task))
        away = [x - start for x, start in zip(tree.leaves_like(structure, phi, "phi"), leaves, strict=True)]
        lambda_ = strength(theta) if callable(strength) else strength
        return problem.inner(phi, theta, task) + 0.5 * lambda_ * inner_product(away, away)

    return Bilevel(inner, problem.outer, problem.init)
