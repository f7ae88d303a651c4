r"""
# Linear algebra

One factorisation or another does the work in the forward; the rules never reuse a factor as if it were a
constant. They are written with the operations themselves, so they can be differentiated again, to any order.
Leading axes are a batch.
"""

import numpy as np

from ..tensor import implements, operation
from .elementwise import stop_gradient
from .reductions import expand, normalize_axes

SlogdetResult = type(np.linalg.slogdet(np.eye(1)))  # NumPy's namedtuple


# ## Solve
# $$ A X = B, \qquad dA\,X + A\,dX = dB, \qquad dX = A^{-1}(dB - dA\,X) $$
# $$ \langle \bar X, A^{-1} dB \rangle = \langle A^{-\top} \bar X, dB \rangle \;\Rightarrow\; \bar B = A^{-\top} \bar X, \qquad
#    -\langle \bar X, A^{-1} dA\,X \rangle = -\langle \bar B X^\top, dA \rangle \;\Rightarrow\; \bar A = -\bar B X^\top $$
@operation
def solve_(a, b):
    """The X with A X = B, for matrices or batches of them."""
    return np.linalg.solve(a, b)


@solve_.rule
def _(x_bar, x, a, b):
    b_bar = np.linalg.solve(a.mT, x_bar)
    return lambda: -(b_bar @ x.mT), b_bar


# As in NumPy 2, `b` is a vector only if it has exactly one axis.
@implements(np.linalg.solve)
def solve(a, b):
    """np.linalg.solve, which takes a vector b for one column."""
    return solve_(a, b[:, None])[..., 0] if np.ndim(b) == 1 else solve_(a, b)


# ## Inverse
# is the solution of $A X = I$.
@implements(np.linalg.inv)
def inv(a):
    """np.linalg.inv: the solution for the identity."""
    return solve_(a, np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape))


# ## Determinant
# Jacobi's formula, for a regular matrix (at a singular one the rule raises LinAlgError):
# $$ d \det A = \det A\,\operatorname{tr}(A^{-1} dA) = \langle \det A\; A^{-\top}, dA \rangle, \qquad
#    d \log |\det A| = \langle A^{-\top}, dA \rangle $$
@implements(np.linalg.det)
@operation
def det(a):
    """np.linalg.det, of matrices or batches of them."""
    return np.linalg.det(a)


@det.rule
def _(c_bar, c, a):
    return ((c_bar * c)[..., None, None] * np.linalg.inv(a).mT,)


# The sign is piecewise constant.
@operation
def sign_of_determinant(a):
    """1, -1 or 0, which moves in jumps only."""
    return np.linalg.slogdet(a).sign


@operation
def log_absolute_determinant(a):
    """The logarithm of the determinant's size, where the determinant itself would overflow."""
    return np.linalg.slogdet(a).logabsdet


@log_absolute_determinant.rule
def _(c_bar, c, a):
    return (c_bar[..., None, None] * np.linalg.inv(a).mT,)


sign_of_determinant.not_analytic()
log_absolute_determinant.not_analytic()


@implements(np.linalg.slogdet)
def slogdet(a):
    """np.linalg.slogdet: the pair of both."""
    return SlogdetResult(sign_of_determinant(a), log_absolute_determinant(a))


# ## Cholesky
# $$ A = L L^\top, \qquad dA = dL\,L^\top + L\,dL^\top, \qquad L^{-1} dA\,L^{-\top} = L^{-1} dL + (L^{-1} dL)^\top $$
# $L^{-1} dL$ is lower triangular, and the right-hand side is it plus its transpose: so it is the lower half of the
# left-hand side, with the diagonal halved. Call that operator $\Phi$:
# $$ dL = L\,\Phi(L^{-1} dA\,L^{-\top}) $$
# $\Phi$ multiplies each element by 0, 1/2 or 1, so it is its own adjoint:
# $$ \langle \bar L, dL \rangle = \langle L^\top \bar L, \Phi(L^{-1} dA\,L^{-\top}) \rangle
#    = \langle \Phi(L^\top \bar L), L^{-1} dA\,L^{-\top} \rangle = \langle L^{-\top} \Phi(L^\top \bar L)\,L^{-1}, dA \rangle. $$
# The input is symmetric and so is $dA$: only the symmetric part of that cotangent counts, and it is what we return.
# (NumPy reads the lower triangle alone, so differences in single elements disagree: check `cholesky(a + a.T)` instead.)
# (Source: Murray, Differentiation of the Cholesky decomposition, 2016.)
@implements(np.linalg.cholesky)
@operation
def cholesky(a):
    """The lower triangle L with L L' = A, for symmetric positive definite A."""
    return np.linalg.cholesky(a)


@cholesky.rule
def _(l_bar, l, a):
    phi = np.tril(l.mT @ l_bar)
    phi = phi - 0.5 * phi * np.eye(a.shape[-1], dtype=a.dtype)
    left = np.linalg.solve(l.mT, phi)
    a_bar = np.linalg.solve(l.mT, left.mT).mT
    return (0.5 * (a_bar + a_bar.mT),)


cholesky.not_analytic()


# ## Norm
# $$ c = \sqrt{\textstyle\sum a_i^2}, \qquad dc = \Big\langle \frac{a}{c}, da \Big\rangle, \qquad 0 \text{ at } a = 0 $$
# It is composed, so this is no rule, but what follows from the chain rule. At 0 the norm has a kink, and 0 is the middle of
# the directions there. The root is kept away from 0 *before* it is taken, so that no infinity arises to be multiplied by 0.
#
# Squares overflow, and vanish, long before what is squared. But $\lVert a \rVert = s\,\lVert a / s \rVert$ for any $s > 0$: a constant,
# for whatever it is, c and its derivatives are the same.
@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """np.linalg.norm of vectors or matrices, along one axis, two, or all."""
    axes = tuple(range(x.ndim)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    if ord is not None and axis is None and x.ndim > 2:
        raise ValueError(f"norm of order {ord} takes a vector or a matrix, not shape {x.shape}")
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return _root_of_powers(x, 2, axes, keepdims)
    if len(axes) != 1:
        raise ValueError(f"the matrix norm of order {ord!r} has no rule here: 'fro' has, or compose it")
    if ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axes, keepdims=keepdims)
    if ord == 1:
        return np.sum(np.abs(x), axis=axes, keepdims=keepdims)
    if isinstance(ord, (int, float)) and ord > 0:
        return _root_of_powers(np.abs(x), ord, axes, keepdims)
    raise ValueError(f"norm of order {ord!r} has no rule here: it counts, or divides by, zeros")


def _root_of_powers(x, degree, axes, keepdims):
    s = _largest(x, axes)
    total = np.sum(np.square(x / s) if degree == 2 else (x / s) ** degree, axis=axes, keepdims=True)
    zero = total <= 0  # `<` is for the complex step, which makes it (ih)^2
    positive = np.where(zero, 1, total)
    c = np.where(zero, 0, s * (np.sqrt(positive) if degree == 2 else positive ** (1 / degree)))
    return c if keepdims else np.squeeze(c, axis=axes)


def _largest(x, axes):
    """The largest of the sizes, as a constant; 1 where there is none that one could divide by."""
    if x.size == 0:
        return 1
    largest = np.max(np.abs(stop_gradient(x)), axis=axes, keepdims=True)
    return np.where(np.logical_and(largest > 0, np.isfinite(largest)), largest, 1)


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    """np.linalg.vector_norm, of all elements if no axis is given."""
    axes = normalize_axes(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = np.reshape(np.transpose(x, (*kept, *axes)), (*(x.shape[i] for i in kept), -1))
    c = norm(rows, ord, -1)
    return expand(c, axes) if keepdims else c


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    """np.linalg.matrix_norm, over the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)
