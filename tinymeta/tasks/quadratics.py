r"""
# Quadratics

The problems on which everything has a closed form. Inner and outer loss are

$$ L(\phi) = \tfrac12 \phi^\top A \phi - b^\top \phi, \qquad f(\phi) = \tfrac12 (\phi - d)^\top C\,(\phi - d), $$

with A and C symmetric positive definite. The inner Hessian is A wherever one stands, and gradient descent is linear:

$$ \phi_{t+1} - \phi^\star = (I - \alpha A)(\phi_t - \phi^\star), \qquad \phi^\star = A^{-1} b. $$
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_count, check_generator, check_number, wanted


class Quadratic(NamedTuple):
    """A task: A and C of shape (n, n), b and d of shape (n,)."""

    A: Any
    b: Any
    C: Any
    d: Any


def draw(rng: np.random.Generator, n: int, condition: float = 10.0) -> Quadratic:
    """A random task whose A and C have eigenvalues from 1 / `condition` to 1, evenly spaced.

    >>> task = draw(np.random.default_rng(0), 3)
    >>> np.linalg.eigvalsh(task.A)
    array([0.1 , 0.55, 1.  ])
    """

    check_generator("rng", rng)
    check_count("n", n, 1, of="the dimension")
    check_number("condition", condition, least=1)

    def positive_definite() -> np.ndarray:
        Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        return (Q * np.linspace(1 / condition, 1, n)) @ Q.T

    return Quadratic(positive_definite(), rng.standard_normal(n), positive_definite(), rng.standard_normal(n))


def inner(phi: Any, theta: Any, task: Quadratic) -> Any:
    """L(phi); theta is the initialisation and does not enter.

    >>> inner(np.ones(2), None, Quadratic(np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)))
    np.float64(1.0)
    """
    return 0.5 * phi @ task.A @ phi - task.b @ phi


def outer(phi: Any, theta: Any, task: Quadratic) -> Any:
    """f(phi).

    >>> outer(np.ones(2), None, Quadratic(np.eye(2), np.zeros(2), np.eye(2), np.ones(2)))
    np.float64(0.0)
    """
    return 0.5 * (phi - task.d) @ task.C @ (phi - task.d)


# ## Distances: the quadratics on which optimizers are learned
# $$ f(\phi) = |W \phi - y|^2, \qquad \phi_0 \sim \mathcal N(0, 0.01^2 I), $$
# the inner and the outer loss at once. Two versions are about, and their numbers don't compare: with W and y uniform in [0, 1], W has one
# singular value near n / 2, far above the others; with standard normal ones they are spread from near 0 to about 2 sqrt(n).
class Distance(NamedTuple):
    """A task: W of shape (n, n), y and the start phi_0 of shape (n,)."""

    W: Any
    y: Any
    phi_0: Any


def draw_distances(rng: np.random.Generator, count: int, n: int = 10, *, distribution: str) -> Distance:
    """A batch of random tasks, with arrays of shape (count, n, n), (count, n) and (count, n).

    Parameters: distribution, of the elements of W and y: "uniform" in [0, 1], as in the authors' code, or "normal", as in the paper's text.

    Raises ValueError for another distribution. Source: Andrychowicz et al. (2016), section 3.1.

    >>> draw_distances(np.random.default_rng(0), 128, distribution="uniform").W.shape
    (128, 10, 10)
    """
    check_generator("rng", rng)
    check_count("count", count, 1, of="the tasks")
    check_count("n", n, 1, of="the dimension")
    distributions: dict[str, Callable[..., Any]] = {"uniform": rng.random, "normal": rng.standard_normal}
    if not isinstance(distribution, str) or distribution not in distributions:
        raise wanted("distribution", distribution, "choose 'uniform' (the authors' code) or 'normal' (the paper's text)")
    values = distributions[distribution]
    return Distance(values((count, n, n)), values((count, n)), 0.01 * rng.standard_normal((count, n)))


def distance(phi: Any, theta: Any, task: Distance) -> Any:
    """f(phi), the inner and the outer loss.

    >>> distance(np.ones(2), None, Distance(np.eye(2), np.array([1.0, 3.0]), np.zeros(2)))
    np.float64(4.0)
    """
    return np.sum((task.W @ phi - task.y) ** 2)


def start(theta: Any, task: Distance) -> Any:
    """phi_0, for `Bilevel(distance, distance, start)`.

    >>> start(None, Distance(np.eye(2), np.ones(2), np.zeros(2)))
    array([0., 0.])
    """
    return task.phi_0
