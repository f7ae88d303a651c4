r"""
# Roots and fixed points

The implicit function theorem doesn't care where a condition comes from. Let $g(\phi, \theta) = 0$ define $\phi^\star(\theta)$, with as many
equations as unknowns, and

$$ J = \frac{\partial g}{\partial \phi}, \qquad N = \frac{\partial g}{\partial \theta}, \qquad
   J\, \frac{d\phi^\star}{d\theta} = -N. $$

One solve answers one question. How the solution moves with $\theta$, in one direction $\dot\theta$; what a function of the solution owes to
$\theta$, from one cotangent $\bar\phi$; or all of it:

$$ J \dot\phi = -N \dot\theta, \qquad\qquad J^\top u = \bar\phi, \;\; \bar\theta = -N^\top u, \qquad\qquad
   \frac{d\phi^\star}{d\theta} = -J^{-1} N. $$

`solution` makes of the second one the rule of an operation, so that $\phi^\star$ can be used like any other function of $\theta$.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import check_array, check_function
from .autodiff import jacobian, jvp, ravel, tree, vjp
from .autodiff.blocks import custom_vjp, run
from .autodiff.operations.elementwise import identity
from .autodiff.reverse import sweep
from .autodiff.tensor import NotAnalytic, Tensor, data_of, is_tracing, tensor
from .machine import jit
from .minima import as_arrays
from .solvers import Solution, Solver, lu

Condition = Callable[..., Any]


class _Equations:
    """g(phi, theta) = 0 as a function of two vectors, and its residual at a point."""

    def __init__(self, g: Condition, phi: Any, theta: Any):
        check_function("g", g, "a function of (phi, theta), zero at the solution", 2)
        self.g = g
        self.phi, self.phi_tree = ravel(as_arrays(phi, "phi"))
        self.theta, self.theta_tree = ravel(as_arrays(theta, "theta"))
        self.residual = self(self.phi, self.theta)
        _check_finite(self.residual)
        if self.residual.shape != self.phi.shape:
            raise ValueError(f"g has {self.residual.size} equations for {self.phi.size} unknowns: the theorem needs as many as unknowns, "
                             "the numbers in phi, at any theta")  # fmt: skip

    def __call__(self, phi: Any, theta: Any) -> Any:
        return ravel(self.g(self.phi_tree(phi), self.theta_tree(theta)))[0]

    def jacobian(self) -> np.ndarray:
        return jacobian(self)(self.phi, self.theta)

    def forwards(self, v: Any) -> Any:
        """J v."""
        return jvp(lambda phi: self(phi, self.theta), (self.phi,), (v,))[1]

    def backwards(self, u: Any) -> Any:
        """J^T u."""
        return vjp(lambda phi: self(phi, self.theta), self.phi)[1](u)[0]

    def warn(self, distance: float, found: Solution | None = None) -> None:
        """About what makes the derivative doubtful, on behalf of the caller's caller."""
        for message in (too_far(distance, self.phi, "g(phi, theta) = 0"), found.advice if found else ""):
            if message:
                warnings.warn(message, RuntimeWarning, stacklevel=3)


def _check_finite(x: np.ndarray, at: Callable[[], str] = lambda: "phi and theta") -> None:
    if not np.all(np.isfinite(x)):
        raise FloatingPointError(f"g, or a derivative of it, is not finite at {at()}: the solver has diverged, or that isn't where the "
                                 "condition is defined")  # fmt: skip


def too_far(distance: float, phi: np.ndarray, condition: str) -> str:
    """A warning if the solution is further away than rounding explains, else nothing.

    >>> too_far(1e-9, np.ones(2), "g = 0")
    ''
    """
    size = np.linalg.norm(phi)
    if distance <= 1e-4 * (1 + size):
        return ""
    return (f"phi does not solve {condition}: the solution is about {distance:.1e} away (phi has norm {size:.1e}). "
            "The implicit derivative belongs to the solution; solve to a smaller residual first")  # fmt: skip


# ## The whole Jacobian
def root_jacobian(g: Condition, phi: Any, theta: Any) -> Any:
    r"""$d\phi^\star / d\theta$ of the solution of $g(\phi, \theta) = 0$, by LU factorisation.

    Parameters
    ----------
    g : the condition; its value has as many elements as phi
    phi : the solution at theta, in nested containers
    theta : nested containers

    Returns
    -------
    The structure of phi outside and that of theta inside, with leaves of shape `phi.shape + theta.shape`.

    Warns (RuntimeWarning) if phi does not solve the condition. Raises ValueError if the number of equations is wrong, LinAlgError if
    $\partial g / \partial \phi$ is singular, and FloatingPointError if it, or g, is not finite.

    Example
    -------
    The circle $x^2 + y^2 = 25$ at (3, 4) has slope -3/4:

    >>> import tinymeta as tm
    >>> tm.implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 4.0, 3.0)
    array(-0.75)
    """
    with np.errstate(all="ignore"):  # what isn't finite is told
        equations = _Equations(g, phi, theta)
        # $$ J \frac{d\phi^\star}{d\theta} = -N $$
        J, N = jacobian(equations, argnums=(0, 1))(equations.phi, equations.theta)
        _check_finite(N)
        equations.warn(float(np.linalg.norm(lu(J, equations.residual))))
    return _nest(-lu(J, N), phi, theta)


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


# ## Products with it
def root_jvp(g: Condition, phi: Any, theta: Any, theta_dot: Any, **settings: Any) -> Any:
    r"""$\dot\phi = \frac{d\phi^\star}{d\theta}\, \dot\theta$: how the solution of $g(\phi, \theta) = 0$ moves, if $\theta$ moves with
    $\dot\theta$.

    Parameters
    ----------
    g, phi, theta : as for `root_jacobian`
    theta_dot : shaped like theta
    settings : `solver`, "lu" by default, and its `damping`, `iterations`, `tolerance`, `alpha`, as for `solvers.solve`. With "gmres" or
        "neumann" no matrix is formed; "cholesky", "cg" and "minres" ask for a symmetric Jacobian, as that of a gradient

    Raises and warns as `root_jacobian` does, and if the solver fails.

    Example
    -------
    >>> import tinymeta as tm
    >>> tm.implicit.root_jvp(lambda y, x: x**2 + y**2 - 25, 4.0, 3.0, 1.0)
    array(-0.75)
    """
    with np.errstate(all="ignore"):  # what isn't finite is told
        equations = _Equations(g, phi, theta)
        solver = _solver(**settings)
        # $$ J \dot\phi = -N \dot\theta $$
        b = -jvp(lambda theta: equations(equations.phi, theta), (equations.theta,), (_vector(theta_dot, theta, "theta_dot"),))[1]
        J = equations.jacobian() if solver.needs_matrix else None
        found = solver(jit(equations.forwards) if J is None else J, b)
        away = distance(solver, J, equations.backwards, equations.residual, found.v, b)
    equations.warn(away, found)
    return equations.phi_tree(found.v)


def root_vjp(g: Condition, phi: Any, theta: Any, phi_bar: Any, **settings: Any) -> Any:
    r"""$\bar\theta = (\frac{d\phi^\star}{d\theta})^\top \bar\phi$: the gradient with respect to $\theta$ of a function of the solution of
    $g(\phi, \theta) = 0$, from its gradient $\bar\phi$ with respect to the solution.

    Parameters
    ----------
    g, phi, theta : as for `root_jacobian`
    phi_bar : shaped like phi
    settings : as for `root_jvp`

    Raises and warns as `root_jacobian` does, and if the solver fails.

    Example
    -------
    The fixed point of $x = \cos(u x)$, with no matrix and no product but of the map itself:

    >>> import tinymeta as tm
    >>> g = tm.implicit.fixed_point(lambda x, u: np.cos(u * x))
    >>> x = 0.7390851332151607  # at u = 1
    >>> round(float(tm.implicit.root_vjp(g, x, 1.0, 1.0, solver="neumann", alpha=1.0)), 6)
    -0.297474
    """
    with np.errstate(all="ignore"):  # what isn't finite is told
        equations = _Equations(g, phi, theta)
        solver = _solver(**settings)
        # $$ J^\top u = \bar\phi $$
        b = _vector(phi_bar, phi, "phi_bar")
        J = equations.jacobian() if solver.needs_matrix else None
        found = solver(jit(equations.backwards) if J is None else J.T, b)
        equations.warn(distance(solver, J, equations.backwards, equations.residual, found.v, b), found)
        # $$ \bar\theta = -N^\top u $$
        _, pullback = vjp(lambda theta: equations(equations.phi, theta), equations.theta)
        theta_bar = -pullback(found.v)[0]
        _check_finite(theta_bar)
    return equations.theta_tree(theta_bar)


def _solver(*, solver: str = "lu", **settings: Any) -> Solver:
    return Solver(solver, **settings)


def _vector(x: Any, like: Any, name: str) -> np.ndarray:
    """x as a vector, if it has the structure, and the shapes, of another."""
    leaves, structure = tree.flatten(as_arrays(like, name))
    found = tree.leaves_like(structure, x, name)
    for leaf, part, of in zip(leaves, found, tree.names(like, name), strict=True):
        check_array(of, part, leaf.shape)
    return ravel([np.asarray(part, leaf.dtype) for leaf, part in zip(leaves, found, strict=True)])[0]


# How far is the solution? By a Newton step, $\lVert J^{-1} g \rVert$; with the matrix that is one more solve. Without it, one product with
# g gives a bound: $\lVert g \rVert^2 = \langle J^{-1} g,\; J^\top g \rangle$, so
# $$ \lVert J^{-1} g \rVert \;\ge\; \frac{\lVert g \rVert^2}{\lVert J^\top g \rVert}. $$
# It may be small although the solution is far, along a direction in which g hardly changes. There the solve that was made knows more: how
# much $J^{-1}$ has lengthened b.
def distance(solver: Solver, J: Any, transposed: Callable[[np.ndarray], np.ndarray], g: np.ndarray, v: np.ndarray, b: np.ndarray) -> float:
    r"""About $\lVert J^{-1} g \rVert$: by the matrix J if it is there, else from a product with its transpose, and from J v = b.

    >>> distance(Solver("cg"), None, lambda g: 4 * g, np.array([2.0]), np.zeros(1), np.zeros(1))
    0.5
    """
    if J is not None:
        return float(np.linalg.norm(solver.attempt(J, g).v))
    size = np.linalg.norm(g)
    back = np.linalg.norm(transposed(g) + solver.damping * g) if size else 0.0
    return float(max(size**2 / back if back else 0.0, size * np.linalg.norm(v) / np.linalg.norm(b) if np.any(b) else 0.0))


# ## Fixed points
# $\phi = T(\phi, \theta)$ is the condition $\phi - T(\phi, \theta) = 0$, with $J = I - \frac{\partial T}{\partial \phi}$. If T is a
# contraction, the Neumann series with $\alpha = 1$ is $\sum_j (\frac{\partial T}{\partial \phi})^j = J^{-1}$: a term for each step.
def fixed_point(T: Callable[..., Any]) -> Condition:
    r"""The condition $g(\phi, \theta) = \phi - T(\phi, \theta)$ of a fixed point.

    >>> fixed_point(lambda x, u: u * x)(2.0, 0.5)
    1.0
    """
    check_function("T", T, "a function of (phi, theta), whose value is shaped like phi", 2)
    return lambda phi, *args: tree.map(lambda phi, image: phi - image, phi, T(phi, *args))


# ## The solution as an operation
# Its forward is any solver. Its rule is the theorem, and it needs nothing of what the solver did:
# $$ J^\top u = \bar\phi, \qquad \bar\theta = -N^\top u, \qquad \bar t = -\Big(\frac{\partial g}{\partial t}\Big)^{\!\top} u, $$
# for the arguments $\theta$ as for the Tensors $t$ that the code of g captures. The rule is written with operations ($J$ by `jacobian`, a
# linear solve, a sweep), all of them functions of $\phi^\star$, $\theta$ and t. So it can be differentiated again, and $\phi^\star$ in it
# is again the output of this operation.
def solution(g: Condition, solve: Callable[..., Any]) -> Callable[..., Any]:
    r"""The function $\phi^\star(\theta, \dots)$ that $g(\phi, \theta, \dots) = 0$ defines, differentiable any number of times.

    Parameters
    ----------
    g : g(phi, \*args), the condition, written in NumPy; as many equations as unknowns. Tensors that it captures are inputs like the others
    solve : solve(\*args) -> phi, any function of plain arrays that finds the solution: it is not differentiated

    Returns
    -------
    A function of the same \*args as `solve`, whose value has the structure of phi.

    Raises ValueError if the number of equations is wrong; LinAlgError, when differentiated, if $\partial g / \partial \phi$ is singular;
    TypeError under a trace, if g captures a Tensor: a program calls `solve` anew, which wouldn't see it.
    Warns (RuntimeWarning), when differentiated, if phi does not solve the condition.

    Source: Blondel et al., Efficient and modular implicit differentiation (2022), section 2.1.

    Example
    -------
    The real root of $y^5 + y = x$ by Newton's method, and its derivatives $1 / (5 y^4 + 1)$ and $-20 y^3 / (5 y^4 + 1)^3$ at x = 2, y = 1:

    >>> import tinymeta as tm
    >>> def newton(x):
    ...     y = 0.0
    ...     for _ in range(20):
    ...         y = y - (y**5 + y - x) / (5 * y**4 + 1)
    ...     return y
    >>> root = tm.implicit.solution(lambda y, x: y**5 + y - x, newton)
    >>> float(root(2.0)), float(6 * tm.grad(root)(2.0)), float(round(tm.grad(tm.grad(root))(2.0) * 6**3, 9))
    (1.0, 1.0, -20.0)
    """

    check_function("g", g, "a function of (phi, ...), zero at the solution")
    check_function("solve", solve, "a function of the arguments of g without phi, which finds the solution")

    def rule(phi_bar: Any, phi: Any, *args_and_captured: Any) -> tuple[Any, ...]:
        return _pull(g, phi_bar, phi, args_and_captured[:-1])

    @functools.wraps(solve)
    def solved(*args: Any) -> Any:
        plain = tree.map(data_of, args)
        if any(np.iscomplexobj(x) for x in tree.flatten(plain)[0]):
            raise NotAnalytic("the solver of an implicit solution is for real numbers")
        phi = _found(solve(*plain))
        graph = run(lambda: g(phi, *plain), [])
        equations, unknowns = (sum(np.size(x) for x in leaves) for leaves in (graph.outputs, tree.flatten(phi)[0]))
        if equations != unknowns:
            raise ValueError(f"g has {equations} equations for {unknowns} unknowns: the theorem needs as many as unknowns")
        if graph.captured and is_tracing():
            raise TypeError("under a trace, the condition of an implicit solution can't use Tensors that it isn't given: pass them as "
                            "arguments, to the condition and to the solver")  # fmt: skip
        # A program solves anew; elsewhere the solution is known by now.
        forward = (lambda *xs: _found(solve(*xs[:-1]))) if is_tracing() else (lambda *_: phi)
        return custom_vjp(forward, rule)(*args, graph.captured)

    return solved


def _found(phi: Any) -> Any:
    """What a solver returns, as arrays; a whole number that it found is a float all the same."""
    for name, leaf in zip(tree.names(phi, "solve(...)"), tree.flatten(phi)[0], strict=True):
        check_array(name, data_of(leaf), finite=False)
    return as_arrays(tree.map(lambda leaf: 1.0 * data_of(leaf), phi), "phi")


def _pull(g: Condition, phi_bar: Any, phi: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rule: the cotangents of the arguments, and a list with those of the captured Tensors."""
    record = any(type(x) is Tensor for x in tree.flatten(phi)[0])
    phi, args = tree.map(_on_top, (phi, args))
    unknowns, (given, structure) = tree.flatten(phi)[0], tree.flatten(args)
    vector, phi_tree = ravel(phi)
    graph = run(lambda *_: ravel(g(phi, *args))[0], [*unknowns, *given])
    J = jacobian(lambda vector: ravel(g(phi_tree(vector), *args))[0])(vector)
    if not is_tracing():  # under a trace there are no values
        residual = data_of(graph.outputs[0])
        _check_finite(residual, lambda: ", ".join(itertools.chain(*tree.argument_names(g, (phi, *args)))))
        warning = too_far(float(np.linalg.norm(lu(data_of(J), residual))), data_of(vector), "g(phi, ...) = 0")
        if warning:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
    # $$ J^\top u = \bar\phi $$
    u = np.linalg.solve((J if record else data_of(J)).T, ravel(phi_bar)[0])
    # $$ \bar\theta = -N^\top u, \qquad \bar t = -(\partial g / \partial t)^\top u, $$ without the ways through phi: there this sweep ends.
    targets = [*given, *graph.captured]
    found = sweep(graph.outputs, [-u], [*targets, *unknowns], record, partial=True)
    bars = [np.zeros(x.shape, x.dtype) if bar is None else bar for x, bar in zip(targets, found, strict=False)]
    return (*tree.unflatten(structure, bars[: len(given)]), bars[len(given) :])


def _on_top(x: Any) -> Tensor:
    """A node of its own: the same Tensor may be given twice, and captured as well."""
    return identity(x) if type(x) is Tensor else tensor(x)
