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
    with pytest.warns(RuntimeWarning, match="theta enters neither the inner gradient nor the outer loss, so its meta-gradient is exactly zero"):
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
    with pytest.warns(RuntimeWarning, match=r"indefinite: phi is a saddle point or a maximum.*info\['eigenvalues'\]"):
        result = implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), solver="lu")
    assert result.grad == 2.0 and result.info["eigenvalues"].tolist() == [-1, 1]


def test_the_advised_damping_is_enough_for_cholesky():
    with pytest.warns(RuntimeWarning, match="indefinite: phi is a saddle point"):
        result = implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), damping=2.0)
    np.testing.assert_allclose(result.grad, 1 / (1 + 2) - 1 / (-1 + 2), rtol=1e-15)


@pytest.mark.parametrize("solver, message", [("cholesky", "not positive definite"), ("lu", "singular.*Add a regulariser, or damping=")])
def test_a_singular_hessian_is_an_error_with_advice(solver, message):
    with pytest.raises(np.linalg.LinAlgError, match=message):
        implicit.meta_gradient(VALLEY, 3.0, None, phi=np.array([1.0, 2.0]), solver=solver)


@SOLVERS
def test_a_singular_hessian_damped(solver):
    """H = [[1, 1], [1, 1]], damped by delta: the part of the outer gradient in the valley is not moved by theta, and drops out."""
    result = implicit.meta_gradient(VALLEY, 3.0, None, phi=np.array([1.0, 2.0]), solver=solver, damping=0.5)
    np.testing.assert_allclose(result.grad, 1 / (2 + 0.5), rtol=1e-14)
    assert result.info["condition"] > 1e15 and result.info["damping_bias"] == np.inf


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
    assert set(result.info) == {"stationarity", "distance", "status", "residual", "iterations", "hessian_products", "nodes", "hessian",
                                "eigenvalues", "condition", "damping_bias", "enters"}  # fmt: skip


def test_an_unknown_solver():
    with pytest.raises(ValueError, match="solver='qr': choose one of 'cholesky', 'lu', 'cg', 'minres', 'gmres', 'neumann', 'identity'"):
        implicit.meta_gradient(QUADRATIC, THETA, TASK, solver="qr")


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
