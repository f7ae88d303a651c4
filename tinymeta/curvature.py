r"""
# The Hessian of the inner loss, to look at

Everything that the implicit function theorem asks for, and everything that goes wrong with it, can be read off the eigenvalues of
$H = \nabla^2_{\phi\phi} L(\phi^\star)$. All positive: a minimum. One negative: a saddle, and no adaptation ends there. One near zero: a
valley whose floor is hardly curved, along which $\phi^\star$ flies away when $\theta$ moves. The largest over the smallest, the *condition
number*, is by how much a solve magnifies errors, and what an iterative solver has to pay for.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from .autodiff import hessian, ravel, tree
from .bilevel import Bilevel, check_problem, floats
from .machine import jit
from .solvers import Solver, is_positive_definite, lu


class Hessian:
    r"""A symmetric matrix, and what one wants to know about it. `np.asarray(H)` is the matrix.

    Parameters
    ----------
    matrix : shape (n, n)
    names, sizes : of the leaves of phi, in order: the matrix's blocks

    Example
    -------
    >>> H = Hessian(np.diag([1.0, 4.0]))
    >>> print(H)
    2 x 2 Hessian, positive definite: eigenvalues from 1 to 4, condition number 4
    >>> H.solve(np.array([1.0, 4.0]))
    array([1., 1.])
    >>> H.damping_bias(np.array([1.0, 0.0]), damping=1.0)  # 1 / (1 + 1) instead of 1 / 1
    0.5
    """

    def __init__(self, matrix: np.ndarray, names: tuple[str, ...] = (), sizes: tuple[int, ...] = ()):
        self.matrix, self.names, self.sizes = matrix, names, sizes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.matrix, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    @property
    def dtype(self) -> np.dtype:
        return self.matrix.dtype

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """The spectrum, from the smallest to the largest."""
        return np.linalg.eigvalsh(self.matrix)

    @property
    def condition(self) -> float:
        """The largest eigenvalue over the smallest, in size; infinite for a singular matrix."""
        sizes = np.abs(self.eigenvalues)
        return float(sizes.max() / sizes.min()) if sizes.min() else np.inf

    @cached_property
    def is_positive_definite(self) -> bool:
        """Whether phi is a strict minimum, to second order; eigenvalues that rounding could have made don't count."""
        return is_positive_definite(self.matrix)

    @cached_property
    def is_indefinite(self) -> bool:
        """Whether phi is a saddle point or a maximum: an eigenvalue is negative, by more than rounding makes it."""
        rounding = len(self.matrix) * np.finfo(self.dtype).eps * np.linalg.norm(self.matrix)
        return not self.is_positive_definite and bool(self.eigenvalues[0] < -rounding)

    # ## Damping
    # In an eigenvector's direction $H v = b$ is $\lambda_i v_i = b_i$. Damping makes it $(\lambda_i + \delta)\, \tilde v_i = b_i$: nothing
    # is divided by less than delta, and what was small is cut off. How much that changes the solution follows from the difference of both
    # equations:
    # $$ (H + \delta I)\,\tilde v = H v \quad\Longrightarrow\quad \tilde v - v = -\delta\,(H + \delta I)^{-1} v. $$
    def damping_bias(self, b: np.ndarray, damping: float) -> float:
        r"""By how much damping changes the solution of $H v = b$, relative to it: $\lVert \tilde v - v \rVert / \lVert v \rVert$;
        infinite if H is singular."""
        try:
            v = lu(self.matrix, b)
        except np.linalg.LinAlgError:
            return np.inf
        change = damping * self.solve(v, "lu", damping=damping)
        return float(np.linalg.norm(change) / np.linalg.norm(v)) if np.any(v) else 0.0

    def solve(self, b: np.ndarray, solver: str = "cholesky", *, damping: float = 0.0) -> np.ndarray:
        """The solution of (H + damping I) v = b; raises LinAlgError as `solvers.solve` does."""
        return Solver(solver, damping).attempt(self.matrix, b).v

    def __str__(self) -> str:
        n, smallest, largest = len(self.matrix), self.eigenvalues[0], self.eigenvalues[-1]
        kind = "positive definite" if self.is_positive_definite else "indefinite" if self.is_indefinite else "singular"
        return f"{n} x {n} Hessian, {kind}: eigenvalues from {smallest:.3g} to {largest:.3g}, condition number {self.condition:.3g}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def plot(self) -> Any:
        """The matrix as an image, with lines between the leaves of phi, and its spectrum. Returns the Figure."""
        import matplotlib.pyplot as plt

        figure, (image, spectrum) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        largest = float(np.abs(self.matrix).max()) or 1.0
        drawn = image.imshow(self.matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
        figure.colorbar(drawn, ax=image, shrink=0.8)
        ends = np.cumsum(self.sizes, dtype=int)
        for end in ends[:-1]:
            image.axhline(end - 0.5, color="black", linewidth=0.5)
            image.axvline(end - 0.5, color="black", linewidth=0.5)
        image.set(title="The Hessian of the inner loss", xticks=[], yticks=ends - np.array(self.sizes) / 2 - 0.5, yticklabels=self.names)
        numbers = np.arange(1, len(self.eigenvalues) + 1)
        for sign, color, label in ((1, "tab:blue", "positive"), (-1, "tab:red", "negative (its size)")):
            chosen = sign * self.eigenvalues > 0
            if np.any(chosen):
                spectrum.plot(numbers[chosen], np.abs(self.eigenvalues[chosen]), "o", color=color, markersize=4, label=label)
        spectrum.set(title=f"Condition number {self.condition:.3g}", xlabel="number", ylabel="eigenvalue", yscale="log")
        spectrum.spines[["top", "right"]].set_visible(False)
        if spectrum.lines:  # there are none for a matrix of zeros
            spectrum.legend(frameon=False)
        return figure


def inner_hessian(problem: Bilevel, phi: Any, theta: Any, task: Any) -> Hessian:
    r"""$H = \nabla^2_{\phi\phi} L(\phi, \theta)$, explicitly: one row and one column for each element of phi.

    Parameters
    ----------
    problem : its inner loss is meant
    phi, theta, task : nested containers of arrays

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: theta * phi["w"] @ phi["w"] + phi["b"] ** 2, None)
    >>> H = tm.implicit.inner_hessian(problem, {"w": np.ones(2), "b": 1.0}, 3.0, None)
    >>> H.matrix
    array([[6., 0., 0.],
           [0., 6., 0.],
           [0., 0., 2.]])
    >>> H.names, H.is_positive_definite
    (("phi['w']", "phi['b']"), True)
    """
    check_problem(problem, judged=False)
    vector, phi_tree = ravel(floats(phi, "phi"))
    matrix = jit(hessian(lambda phi: problem.inner(phi_tree(phi), theta, task)))(vector)
    sizes = tuple(int(np.size(leaf)) for leaf in tree.flatten(phi)[0])
    return Hessian(matrix, tuple(tree.names(phi, "phi")), sizes)
