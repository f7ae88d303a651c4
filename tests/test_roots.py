"""Roots and fixed points: the Jacobian, its products, and the solution as an operation."""

import warnings

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit
from tinymeta.tasks import quadratics


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## The Jacobian of a root
@pytest.mark.parametrize("g, y, x, slope", [
    (lambda y, x: x**2 + y**2 - 25, 4.0, 3.0, -0.75),
    (lambda y, x: x**2 + y**2 - 25, -4.0, 3.0, 0.75),  # the other branch of the circle
    (lambda y, x: x**2 / 25 + y**2 / 9 - 1, 2.4, 3.0, -9 * 3 / (25 * 2.4)),
    (lambda y, x: y**5 + y - x, 1.0, 2.0, 1 / 6),
    (lambda y, x: y**5 + y - x, 1, 2, 1 / 6),  # 1 means 1.0
])  # fmt: skip
def test_curves(g, y, x, slope):
    assert relative_error(implicit.root_jacobian(g, y, x), slope) < 1e-14


def test_a_fixed_point():
    generator = np.random.default_rng(1)
    W, u, x = 0.3 * generator.standard_normal((5, 5)), generator.standard_normal(5), np.zeros(5)
    for _ in range(200):
        x = np.tanh(W @ x + u)
    D = np.diag(1 - x**2)
    J = implicit.root_jacobian(lambda x, u: np.tanh(W @ x + u) - x, x, u)
    assert relative_error(J, np.linalg.solve(np.eye(5) - D @ W, D)) < 1e-13


RIDGE_X, RIDGE_Y = np.random.default_rng(2).standard_normal((12, 4)), np.random.default_rng(3).standard_normal(12)


def ridge(strength):
    """The solution, and the matrix of its normal equations; the strength may differ from weight to weight."""
    M = RIDGE_X.T @ RIDGE_X + 12 * np.diag(np.broadcast_to(strength, 4))
    return np.linalg.solve(M, RIDGE_X.T @ RIDGE_Y), M


def ridge_loss(w, strength, task=None):
    return 0.5 * np.sum((RIDGE_X @ w - RIDGE_Y) ** 2) + 0.5 * 12 * np.sum(strength * w**2)


@pytest.mark.parametrize("strength", [0.3, np.array([0.1, 0.2, 0.4, 0.8])], ids=["shared", "one a weight"])
def test_the_strength_of_ridge_regression(strength):
    w, M = ridge(strength)
    each = -12 * np.linalg.inv(M) * w  # column j: -n inv(M) e_j w_j
    truth = each.sum(axis=1) if np.ndim(strength) == 0 else each
    J = implicit.root_jacobian(lambda w, strength: tm.grad(ridge_loss)(w, strength), w, strength)
    assert relative_error(J, truth) < 1e-12
    outer = lambda w, strength, task: 0.5 * np.sum((w - 1) ** 2) + np.sum(strength**2)
    problem = tm.Bilevel(ridge_loss, outer, init=lambda *_: np.zeros(4))
    for solver in ("cholesky", "lu"):
        result = implicit.meta_gradient(problem, strength, None, solver=solver)
        assert relative_error(result.phi, w) < 1e-12
        assert relative_error(result.grad, truth.T @ (w - 1) + 2 * strength) < 1e-12


def test_the_weights_and_the_labels_of_the_data():
    generator = np.random.default_rng(4)
    X, y, s, rho = generator.standard_normal((8, 3)), generator.standard_normal(8), generator.uniform(0.5, 2, 8), 0.5
    M = X.T @ (s[:, None] * X) + rho * np.eye(3)
    w = np.linalg.solve(M, X.T @ (s * y))

    def condition(w, data):
        return X.T @ (data["s"] * (X @ w - data["y"])) + rho * w

    J = implicit.root_jacobian(condition, w, {"s": s, "y": y})
    assert relative_error(J["s"], np.linalg.solve(M, X.T * (y - X @ w))) < 1e-12
    assert relative_error(J["y"], np.linalg.solve(M, X.T * s)) < 1e-12


def test_nested_unknowns_and_parameters():
    """a + b = theta[0] and a - b = sum of theta[1]: so a is half the sum of both, b half the difference."""
    phi = {"a": np.array(4.0), "b": (np.array([1.0]),)}
    theta = [2 * np.ones(()) + 3, np.array([[1.0, 2.0]])]
    g = lambda phi, theta: [phi["a"] + phi["b"][0] - theta[0], phi["a"] - phi["b"][0] - np.sum(theta[1])]
    J = implicit.root_jacobian(g, phi, theta)
    assert J["a"][0].tolist() == 0.5 and J["a"][1].tolist() == [[0.5, 0.5]]
    assert J["b"][0][0].tolist() == [0.5] and J["b"][0][1].tolist() == [[[-0.5, -0.5]]]


def test_a_condition_without_theta_has_solutions_that_do_not_move():
    assert implicit.root_jacobian(lambda phi, theta: phi**3 - 8, 2.0, np.ones(3)).tolist() == [0, 0, 0]


def test_a_root_that_is_none():
    message = r"phi does not solve g\(phi, theta\) = 0: the solution is about 1.* away.*solve to a smaller residual"
    with pytest.warns(RuntimeWarning, match=message):
        implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 6.0, 3.0)


def test_too_few_equations():
    with pytest.raises(ValueError, match="g has 1 equations for 2 unknowns: the theorem needs as many"):
        implicit.root_jacobian(lambda phi, theta: phi[:1] - theta, np.ones(2), 1.0)


def test_a_vertical_tangent():
    with pytest.raises(np.linalg.LinAlgError, match="singular: the solution is not locally unique"):
        implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 0.0, 5.0)


