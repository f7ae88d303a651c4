r"""
# Quadratics

The problems on which everything has a closed form. Inner and outer loss are

$$ L(\phi) = \tfrac12 \phi^\top A \phi - b^\top \phi, \qquad f(\phi) = \tfrac12 (\phi - d)^\top C\,(\phi - d), $$

with A and C symmetric positive definite. The inner Hessian is A wherever one stands, and gradient descent is linear:

$$ \phi_{t+1} - \phi^\star = (I - \alpha A)(\phi_t - \phi^\star), \qquad \phi^\star = A^{-1} b. $$
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


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
