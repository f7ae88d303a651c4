"""The implicit function theorem: closed forms, what the theorem asks for, and what is said when it isn't given."""

import warnings

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit
from tinymeta.tasks import quadratics, sinusoids

N = 6
rng = np.random.default_rng(0)
TASK = quadratics.draw(rng, N)
THETA, IDENTITY = rng.standard_normal(N), np.eye(N)
QUADRATIC = tm.Bilevel(quadratics.inner, quadratics.outer)
SOLVERS = pytest.mark.parametrize("solver", ["cholesky", "lu"])


def outer_gradient(phi):
    return TASK.C @ (phi - TASK.d)


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


# ## iMAML
@SOLVERS
@pytest.mark.parametrize("strength", [0.1, 2.0, 50.0])
def test_proximal(solver, strength):
    result = implicit.meta_gradient(implicit.proximal(QUADRATIC, strength), THETA, TASK, solver=solver)
    phi = np.linalg.solve(TASK.A + strength * IDENTITY, TASK.b + strength * THETA)
    assert relative_error(result.phi, phi) < 1e-12
    assert relative_error(result.grad, np.linalg.solve(IDENTITY + TASK.A / strength, outer_gradient(phi))) < 1e-12
    assert relative_error(result.value, quadratics.outer(phi, None, TASK)) < 1e-12


def test_a_strong_pull_gives_the_outer_gradient_and_none_gives_zero():
    """With lambda to infinity phi* is theta and dF/d theta is g; with lambda to 0 phi* forgets theta. Both as fast as lambda says."""
    g = outer_gradient(THETA)
    for strength in (1e4, 1e6):
        result = implicit.meta_gradient(implicit.proximal(QUADRATIC, strength), THETA, TASK)
        assert 0 < relative_error(result.grad, g) < 20 / strength
    for strength in (1e-4, 1e-6):
        result = implicit.meta_gradient(implicit.proximal(QUADRATIC, strength), THETA, TASK)
        assert 0 < np.linalg.norm(result.grad) < 50 * strength * np.linalg.norm(g)


@SOLVERS
def test_the_strength_as_a_part_of_theta(solver):
    start = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    problem = implicit.proximal(start, lambda theta: np.exp(theta["log_strength"]))
    theta = {"phi": THETA, "log_strength": np.array(0.7)}
    result = implicit.meta_gradient(problem, theta, TASK, solver=solver)
    strength = np.exp(0.7)
    M = TASK.A + strength * IDENTITY
    phi = np.linalg.solve(M, TASK.b + strength * THETA)
    v = np.linalg.solve(M, outer_gradient(phi))
    assert relative_error(result.grad["phi"], strength * v) < 1e-12
    assert relative_error(result.grad["log_strength"], strength * v @ (THETA - phi)) < 1e-12


def test_proximal_adds_half_the_squared_distance_from_the_start():
    phi = {"W": np.array([1.0, 2.0]), "b": np.array(3.0)}
    theta = {"W": np.array([0.0, 4.0]), "b": np.array(1.0)}
    problem = implicit.proximal(tm.Bilevel(lambda phi, theta, task: 10.0, None), 2.0)
    assert problem.inner(phi, theta, None) == 10 + 1 + 4 + 4


# ## What the theorem asks for
def test_a_regular_minimum_has_forgotten_the_initialisation():
    result = implicit.meta_gradient(QUADRATIC, THETA, TASK)
    assert relative_error(result.phi, np.linalg.solve(TASK.A, TASK.b)) < 1e-12
    assert result.grad.tolist() == [0] * N and np.linalg.norm(outer_gradient(result.phi)) > 0.1


def test_gradient_descent_that_runs_long_forgets_it_too():
    """The bridge to maml: the unrolled gradient with respect to the initialisation tends to the implicit one, 0."""
    sizes = [np.linalg.norm(tm.maml.meta_gradient(QUADRATIC, THETA, TASK, steps=k, lr=1.0).grad) for k in (10, 100, 300)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[2] < 1e-12


def test_the_direct_part_remains():
    problem = tm.Bilevel(quadratics.inner, lambda phi, theta, task: 3 * theta[0] + np.sum(phi))
    assert implicit.meta_gradient(problem, THETA, TASK).grad.tolist() == [3, 0, 0, 0, 0, 0]


SADDLE = tm.Bilevel(
    lambda phi, theta, task: 0.5 * (phi[0] - theta) ** 2 - 0.5 * (phi[1] - theta) ** 2, lambda phi, theta, task: np.sum(phi)
)
VALLEY = tm.Bilevel(lambda phi, theta, task: 0.5 * (phi[0] + phi[1] - theta) ** 2, lambda phi, theta, task: phi[0])


def test_an_indefinite_hessian_is_an_error_with_advice():
    with pytest.raises(np.linalg.LinAlgError) as error:
        implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]))
    for advice in ("not positive definite", "smallest eigenvalue -1.0e+00", "Adapt further", "damping=2.0e+00", "solver='lu'"):
        assert advice in str(error.value)


def test_an_indefinite_hessian_solved_by_lu_is_right_and_warns():
    with pytest.warns(RuntimeWarning, match=r"not positive definite: phi is a saddle point or a maximum.*info\['eigenvalues'\]"):
        result = implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), solver="lu")
    assert result.grad == 2.0 and result.info["eigenvalues"].tolist() == [-1, 1]


def test_the_advised_damping_is_enough_for_cholesky():
    result = implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), damping=2.0)
    np.testing.assert_allclose(result.grad, 1 / (1 + 2) - 1 / (-1 + 2), rtol=1e-15)


@pytest.mark.parametrize("solver, message", [("cholesky", "not positive definite"), ("lu", "singular.*Add a regulariser, or damping=")])
def test_a_singular_hessian_is_an_error_with_advice(solver, message):
    with pytest.raises(np.linalg.LinAlgError, match=message):
        implicit.meta_gradient(VALLEY, 3.0, None, phi=np.array([1.0, 2.0]), solver=solver)


@SOLVERS
def test_a_singular_hessian_damped(solver):
    """H = [[1, 1], [1, 1]], damped by delta: the part of the outer gradient in the valley is not moved by theta, and drops out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = implicit.meta_gradient(VALLEY, 3.0, None, phi=np.array([1.0, 2.0]), solver=solver, damping=0.5)
    np.testing.assert_allclose(result.grad, 1 / (2 + 0.5), rtol=1e-14)
    assert result.info["condition"] > 1e15 and len(caught) == (solver == "lu")


@SOLVERS
@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_the_bias_of_damping(solver, damping):
    problem = implicit.proximal(QUADRATIC, 2.0)
    exact, damped = (implicit.meta_gradient(problem, THETA, TASK, solver=solver, damping=d) for d in (0.0, damping))
    truth = 2 * np.linalg.solve(TASK.A + (2 + damping) * IDENTITY, outer_gradient(exact.phi))
    assert relative_error(damped.grad, truth) < 1e-12
    assert relative_error(damped.grad, exact.grad) > 0.1 * damping
    assert relative_error(damped.info["hessian"], TASK.A + 2 * IDENTITY) < 1e-13  # the Hessian itself, not the damped one


# ## A point that is not stationary
@SOLVERS
def test_a_point_that_is_not_stationary_warns(solver):
    problem = implicit.proximal(QUADRATIC, 2.0)
    phi = implicit.solve_inner(problem, THETA, TASK)
    with pytest.warns(RuntimeWarning, match="phi does not solve the inner gradient = 0: the solution is about 1.0e-02 away") as caught:
        result = implicit.meta_gradient(problem, THETA, TASK, phi=phi + 0.01 * IDENTITY[0], solver=solver)
    assert caught[0].filename == __file__  # it points at the caller
    np.testing.assert_allclose(result.info["distance"], 0.01, rtol=1e-10)
    np.testing.assert_allclose(result.info["stationarity"], 0.01 * np.linalg.norm((TASK.A + 2 * IDENTITY)[0]), rtol=1e-10)


def test_a_point_that_is_stationary_does_not_warn_and_info_says_why():
    result = implicit.meta_gradient(implicit.proximal(QUADRATIC, 2.0), THETA, TASK)
    assert result.info["stationarity"] < 1e-13 and result.info["distance"] < 1e-13
    eigenvalues = np.linspace(0.1, 1, N) + 2
    np.testing.assert_allclose(result.info["eigenvalues"], eigenvalues, rtol=1e-13)
    np.testing.assert_allclose(result.info["condition"], 3 / 2.1, rtol=1e-13)
    assert set(result.info) == {"stationarity", "distance", "hessian", "eigenvalues", "condition"}


def test_an_unknown_solver():
    with pytest.raises(ValueError, match="solver='qr': choose one of 'cholesky', 'lu'"):
        implicit.meta_gradient(QUADRATIC, THETA, TASK, solver="qr")


# ## Where the adaptation ends
def network_loss(phi, theta, task):
    return tm.nn.mean_squared_error(tm.nn.mlp(phi, task.support.x, np.tanh), task.support.y)


def test_a_network_is_solved_to_rounding():
    task = tm.tree.map(lambda x: x[0], sinusoids.draw(np.random.default_rng(2), 1))
    theta = tm.nn.initialize_mlp(np.random.default_rng(5), (1, 3, 1))
    problem = implicit.proximal(tm.Bilevel(network_loss, network_loss), 1.0)
    phi = implicit.solve_inner(problem, theta, task)
    assert tm.tree.flatten(phi)[1] == tm.tree.flatten(theta)[1]
    assert np.linalg.norm(tm.ravel(tm.grad(problem.inner)(phi, theta, task))[0]) < 1e-12
    assert problem.inner(phi, theta, task) < problem.inner(theta, theta, task)


def test_a_loss_without_a_minimum():
    with pytest.raises(RuntimeError, match=r"no stationary point that can be reached.*tm.implicit.proximal, or pass phi="):
        implicit.solve_inner(tm.Bilevel(lambda phi, theta, task: phi + np.log1p(np.exp(phi)), None), 0.0, None)


@SOLVERS
def test_float32_stays_float32(solver):
    task, theta = tm.tree.map(np.float32, TASK), THETA.astype(np.float32)
    problem = implicit.proximal(QUADRATIC, 2.0)
    result = implicit.meta_gradient(problem, theta, task, solver=solver)
    assert {x.dtype for x in (result.value, result.grad, result.phi, result.info["hessian"])} == {np.dtype(np.float32)}
    assert 0 < relative_error(result.grad, implicit.meta_gradient(problem, THETA, TASK).grad) < 1e-5


def test_a_number_comes_back_as_an_array():
    result = implicit.meta_gradient(tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2, lambda phi, theta, task: phi**2), 3.0, None)
    assert [type(x) for x in (result.value, result.grad, result.phi)] == [np.ndarray] * 3
    np.testing.assert_allclose(result.grad, 6, rtol=1e-14)
