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

from .autodiff import grad, hessian, jacobian, ravel, tree, value_and_grad
from .autodiff.derivatives import inner_product
from .bilevel import Bilevel, Info, MetaGradient, arrays_out
from .machine import jit


# ## The Jacobian of a root
def root_jacobian(g: Callable[[Any, Any], Any], phi: Any, theta: Any) -> Any:
    r"""$d\phi^\star / d\theta$ of the solution of $g(\phi, \theta) = 0$, by one LU solve.

    Parameters
    ----------
    g : the condition; its value has as many elements as phi
    phi : the solution at theta, in nested containers
    theta : nested containers

    Returns
    -------
    The structure of phi outside and that of theta inside, with leaves of shape `phi.shape + theta.shape`.

    Warns (RuntimeWarning) if phi does not solve the condition. Raises ValueError if the number of equations is wrong, and
    LinAlgError if $\partial g / \partial \phi$ is singular.

    Example
    -------
    The circle $x^2 + y^2 = 25$ at (3, 4) has slope -3/4:

    >>> import tinymeta as tm
    >>> tm.implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 4.0, 3.0)
    array(-0.75)
    """
    phi_vector, phi_tree = ravel(_as_arrays(phi))
    theta_vector, theta_tree = ravel(_as_arrays(theta))

    def equations(phi: Any, theta: Any) -> Any:
        return ravel(g(phi_tree(phi), theta_tree(theta)))[0]

    residual = equations(phi_vector, theta_vector)
    if residual.shape != phi_vector.shape:
        raise ValueError(f"g has {residual.size} equations for {phi_vector.size} unknowns: the theorem needs as many as unknowns")
    # $$ J_\phi = \frac{\partial g}{\partial \phi}, \qquad J_\theta = \frac{\partial g}{\partial \theta}, \qquad
    #    J_\phi \frac{d\phi^\star}{d\theta} = -J_\theta $$
    J_phi, J_theta = jacobian(equations, argnums=(0, 1))(phi_vector, theta_vector)
    step = _solve_lu(J_phi, residual)
    _warn_if_far(step, phi_vector, "g(phi, theta) = 0")
    return _nest(-_solve_lu(J_phi, J_theta), phi, theta)


def _nest(matrix: np.ndarray, phi: Any, theta: Any) -> Any:
    """A matrix with a row for each element of phi and a column for each of theta, as nested containers."""
    blocks = _cut(matrix, phi, axis=0)
    return tree.map(lambda rows: _cut(rows, theta, axis=-1), blocks)


def _cut(array: np.ndarray, like: Any, axis: int) -> Any:
    leaves, structure = tree.flatten(like)
    parts = np.split(array, np.cumsum([np.size(x) for x in leaves])[:-1], axis)
    rest = array.shape[1:] if axis == 0 else array.shape[:-1]
    shapes = [np.shape(x) + rest if axis == 0 else rest + np.shape(x) for x in leaves]
    return tree.unflatten(structure, [np.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)])


def _as_arrays(x: Any) -> Any:
    """Numbers as arrays without axes; 3 means 3.0, as it does for `grad`."""
    return tree.map(lambda leaf: np.asarray(float(leaf) if type(leaf) is int else leaf), x)


# ## Where the adaptation ends
def solve_inner(problem: Bilevel, theta: Any, task: Any) -> Any:
    r"""$\phi^\star(\theta)$: a local minimum of the inner loss, from the problem's starting point.

    SciPy's trust-region method with the exact Hessian comes close; Newton steps $\phi \leftarrow \phi - H^{-1} \nabla L$ then take
    the gradient down to rounding, for as long as each of them makes it smaller.

    Raises RuntimeError if no stationary point is found.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2 + phi**2, lambda phi, theta, task: phi**2)
    >>> tm.implicit.solve_inner(problem, 1.0, None)
    array(0.5)
    """
    from scipy import optimize

    start, phi_tree = ravel(_as_arrays(problem.start(theta, task)))

    def loss(phi: Any) -> Any:
        return problem.inner(phi_tree(phi), theta, task)

    gradient, H = jit(grad(loss)), jit(hessian(loss))  # programs: called many times
    phi = optimize.minimize(loss, start, jac=gradient, hess=H, method="trust-exact", options={"gtol": 1e-8}).x
    while True:
        g = gradient(phi)
        try:
            closer = phi - np.linalg.solve(H(phi), g)
        except np.linalg.LinAlgError:
            break
        if not np.linalg.norm(gradient(closer)) < 0.5 * np.linalg.norm(g):
            break
        phi = closer
    if not np.linalg.norm(g) <= 1e-5 * (1 + np.linalg.norm(gradient(start))):
        raise RuntimeError(f"the inner loss has no stationary point that can be reached from the start (gradient norm "
                           f"{np.linalg.norm(g):.1e}): regularise it, for example with tm.implicit.proximal, or pass phi=")  # fmt: skip
    return phi_tree(phi)


# ## The meta-gradient
# Put $d\phi^\star / d\theta = -H^{-1} M$, with $M = \nabla^2_{\phi\theta} L$, into the chain rule:
# $$ \frac{dF}{d\theta} = \frac{\partial f}{\partial \theta} - M^\top H^{-\top} \frac{\partial f}{\partial \phi}. $$
# Read from the right: *one* solve with a vector, $H v = \partial f / \partial \phi$, and one product with $M^\top$. The matrix
# $d\phi^\star / d\theta$, a column for each element of $\theta$, is never formed.
def meta_gradient(
    problem: Bilevel, theta: Any, task: Any, *, phi: Any = None, solver: str = "cholesky", damping: float = 0.0
) -> MetaGradient:
    r"""$dF/d\theta$ for one task, at the end of the adaptation.

    Parameters
    ----------
    problem : the inner and outer loss. The inner loss must depend on theta, or the gradient is the direct part alone
    theta, task : nested containers of arrays
    phi : the adapted parameters, a stationary point of the inner loss; found by `solve_inner` if None
    solver : "cholesky" (H must be positive definite) or "lu" (H must be regular)
    damping : solve with H + damping I. It keeps the solve from blowing up, and biases the result

    Returns
    -------
    MetaGradient (value, grad, phi, info). In info: `stationarity`, the norm of the inner gradient at phi; `distance`, that of
    $H^{-1} \nabla_\phi L$, an estimate of how far phi is from the stationary point; `hessian`, the matrix; and, computed when asked
    for, its `eigenvalues` and `condition` number.

    Raises LinAlgError if H (damped) is not positive definite, for "cholesky", or singular, for "lu".
    Warns (RuntimeWarning) if phi is not stationary, and if "lu" solves with an indefinite H: there phi* is no minimum.

    Source: Bengio, Gradient-based optimization of hyperparameters (2000); Lorraine et al., Optimizing millions of
    hyperparameters by implicit differentiation (2020), eq. 2.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2 + phi**2, lambda phi, theta, task: phi**2)
    >>> result = tm.implicit.meta_gradient(problem, 1.0, None)  # phi* = theta / 2
    >>> result.phi, result.grad
    (array(0.5), array(0.5))
    """
    solve_with = {"cholesky": _solve_cholesky, "lu": _solve_lu}
    if solver not in solve_with:
        raise ValueError(f"solver={solver!r}: choose one of {', '.join(map(repr, solve_with))}")
    if phi is None:
        phi = solve_inner(problem, theta, task)
    phi = _as_arrays(phi)
    vector, phi_tree = ravel(phi)

    def inner_gradient(phi: Any, theta: Any) -> Any:
        return grad(problem.inner)(phi, theta, task)

    # $$ H = \nabla^2_{\phi\phi} L(\phi^\star, \theta) $$
    H = jit(hessian(lambda phi: problem.inner(phi_tree(phi), theta, task)))(vector)
    damped = H + damping * np.eye(len(H), dtype=H.dtype)
    # $$ \frac{\partial f}{\partial \phi}, \qquad \frac{\partial f}{\partial \theta} $$
    value, (f_phi, f_theta) = value_and_grad(problem.outer, argnums=(0, 1))(phi, theta, task)
    # $$ H v = \frac{\partial f}{\partial \phi} $$
    v = phi_tree(solve_with[solver](damped, ravel(f_phi)[0]))
    # $$ M^\top v = \frac{\partial}{\partial \theta} \langle \nabla_\phi L(\phi^\star, \theta), v \rangle $$
    M_product = grad(lambda theta: inner_product(inner_gradient(phi, theta), v))(theta)
    # $$ \frac{dF}{d\theta} = \frac{\partial f}{\partial \theta} - M^\top v $$
    gradient = tree.map(lambda f_theta, product: f_theta - product, f_theta, M_product)

    residual = ravel(inner_gradient(phi, theta))[0]
    step = solve_with[solver](damped, residual)
    _warn_if_far(step, vector, "the inner gradient = 0")
    if solver == "lu" and not _is_positive_definite(H):
        warnings.warn("the inner Hessian is not positive definite: phi is a saddle point or a maximum of the inner loss, and the "
                      "meta-gradient follows it there. Look at .info['eigenvalues']", RuntimeWarning, stacklevel=2)  # fmt: skip
    return arrays_out(MetaGradient(value, gradient, phi, _info(H, residual, step)))


def _info(H: np.ndarray, residual: np.ndarray, step: np.ndarray) -> Info:
    return Info(
        stationarity=float(np.linalg.norm(residual)),
        distance=float(np.linalg.norm(step)),
        hessian=H,
        eigenvalues=lambda: np.linalg.eigvalsh(H),
        condition=lambda: float(np.linalg.cond(H)),
    )


def _warn_if_far(step: np.ndarray, phi: np.ndarray, condition: str) -> None:
    distance, size = np.linalg.norm(step), np.linalg.norm(phi)
    if distance > 1e-4 * (1 + size):
        warnings.warn(f"phi does not solve {condition}: the solution is about {distance:.1e} away (phi has norm {size:.1e}). "
                      "The implicit derivative belongs to the solution; solve to a smaller residual first",
                      RuntimeWarning, stacklevel=3)  # fmt: skip


# ## Solvers
def _is_positive_definite(H: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        return False
    return True


def _solve_cholesky(H: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""$H = R^\top R$, then two triangular solves."""
    from scipy import linalg

    try:
        return linalg.cho_solve(linalg.cho_factor(H), b)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(H)[0])
        raise np.linalg.LinAlgError(
            f"the inner Hessian is not positive definite (smallest eigenvalue {smallest:.1e}): phi is not a strict minimum of the inner "
            f"loss. Adapt further; or add damping={max(2 * abs(smallest), 1e-8):.1e}, with its bias; or follow any stationary point with "
            "solver='lu'") from None  # fmt: skip


def _solve_lu(J: np.ndarray, b: np.ndarray) -> np.ndarray:
    """P J = L U, then two triangular solves."""
    from scipy import linalg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", linalg.LinAlgWarning)  # an exactly singular factor: the next line says so
        factors = linalg.lu_factor(J)
    pivots = np.abs(np.diag(factors[0]))
    if not pivots.min(initial=np.inf) > np.finfo(J.dtype).eps * pivots.max(initial=0.0):
        raise np.linalg.LinAlgError("the matrix of the implicit function theorem is singular: the solution is not locally unique, and "
                                    "has no derivative. Add a regulariser, or damping=")  # fmt: skip
    return linalg.lu_solve(factors, b)


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

    def inner(phi: Any, theta: Any, task: Any) -> Any:
        away = tree.map(lambda phi, start: phi - start, phi, problem.start(theta, task))
        lambda_ = strength(theta) if callable(strength) else strength
        return problem.inner(phi, theta, task) + 0.5 * lambda_ * inner_product(away, away)

    return Bilevel(inner, problem.outer, problem.init)
