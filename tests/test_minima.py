"""Where the adaptation ends: every method finds the same point, and says so when it doesn't."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit
from tinymeta.minima import METHODS
from tinymeta.tasks import quadratics, sinusoids

N = 6
TASK = quadratics.draw(np.random.default_rng(0), N)
QUADRATIC = tm.Bilevel(quadratics.inner, quadratics.outer)
THETA = np.random.default_rng(1).standard_normal(N)


def network_loss(phi, theta, task):
    return tm.nn.mean_squared_error(tm.nn.mlp(phi, task.support.x, np.tanh), task.support.y)


NETWORK = implicit.proximal(tm.Bilevel(network_loss, network_loss), 1.0)
WAVE = tm.tree.map(lambda x: x[0], sinusoids.draw(np.random.default_rng(2), 1))
WEIGHTS = tm.nn.initialize_mlp(np.random.default_rng(5), (1, 3, 1))


@pytest.mark.parametrize("method, lr, error", [("trust-exact", None, 1e-13), ("newton-cg", None, 1e-13), ("l-bfgs", None, 1e-7),
                                               ("gradient descent", 1.0, 1e-10), ("quadratic", None, 1e-13)])  # fmt: skip
def test_a_quadratic(method, lr, error):
    phi = implicit.solve_inner(QUADRATIC, THETA, TASK, method=method, lr=lr)
    truth = np.linalg.solve(TASK.A, TASK.b)
    assert np.linalg.norm(phi - truth) < error * np.linalg.norm(truth)
    np.testing.assert_allclose(implicit.stationarity(QUADRATIC, phi, THETA, TASK), np.linalg.norm(TASK.A @ phi - TASK.b), atol=1e-14)


@pytest.mark.parametrize("method, lr, stationarity", [("trust-exact", None, 1e-12), ("newton-cg", None, 1e-12), ("l-bfgs", None, 1e-6),
                                                      ("gradient descent", 0.02, 1e-10)])  # fmt: skip
def test_a_network(method, lr, stationarity):
    phi = implicit.solve_inner(NETWORK, WEIGHTS, WAVE, method=method, lr=lr)
    assert tm.tree.flatten(phi)[1] == tm.tree.flatten(WEIGHTS)[1]
    assert implicit.stationarity(NETWORK, phi, WEIGHTS, WAVE) < stationarity
    assert NETWORK.inner(phi, WEIGHTS, WAVE) < NETWORK.inner(WEIGHTS, WEIGHTS, WAVE)


def test_gradient_descent_with_a_number_of_steps_is_gradient_descent():
    phi = implicit.solve_inner(QUADRATIC, THETA, TASK, method="gradient descent", lr=0.3, iterations=7)
    truth = tm.maml.meta_gradient(QUADRATIC, THETA, TASK, steps=7, lr=0.3).phi
    np.testing.assert_allclose(phi, truth, rtol=1e-14)


@pytest.mark.parametrize("method", ["trust-exact", "newton-cg", "l-bfgs"])
def test_with_a_number_of_iterations_the_point_is_returned_as_it_is(method):
    one = implicit.solve_inner(NETWORK, WEIGHTS, WAVE, method=method, iterations=1)
    assert 1e-3 < implicit.stationarity(NETWORK, one, WEIGHTS, WAVE) < np.inf


# ## Failures
@pytest.mark.parametrize("method, lr", [("trust-exact", None), ("newton-cg", None), ("l-bfgs", None), ("gradient descent", 0.1)])
def test_a_loss_without_a_minimum(method, lr):
    with pytest.raises(RuntimeError, match=r"no stationary point that can be reached.*tm.implicit.proximal, or pass phi="):
        implicit.solve_inner(tm.Bilevel(lambda phi, theta, task: phi + np.log1p(np.exp(phi)), None), 0.0, None, method=method, lr=lr)


def test_a_loss_that_is_not_quadratic():
    with pytest.raises(RuntimeError, match=r"after 'quadratic'.*this one isn't quadratic; choose another method"):
        implicit.solve_inner(NETWORK, WEIGHTS, WAVE, method="quadratic")
    nearly = tm.Bilevel(lambda phi, theta, task: phi**2 + 1e-3 * phi**4 + phi, None)
    with pytest.raises(RuntimeError, match="isn't quadratic"):
        implicit.solve_inner(nearly, 1.0, None, method="quadratic")


def test_a_step_that_is_too_long():
    with pytest.raises(RuntimeError, match=r"after 'gradient descent'.*choose another lr \(it must be below 2 / the largest curvature\)"):
        implicit.solve_inner(QUADRATIC, THETA, TASK, method="gradient descent", lr=2.1)


def test_a_loss_that_overflows():
    cubic = tm.Bilevel(lambda phi, theta, task: -np.sum(phi**4), None)
    with pytest.raises(RuntimeError, match=r"no stationary point.*gradient norm (nan|inf|\d)"):
        implicit.solve_inner(cubic, np.ones(2), None, method="gradient descent", lr=1.0)


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="method='sgd': choose one of 'trust-exact', 'newton-cg', 'l-bfgs', 'gradient descent', 'quad"):
        implicit.solve_inner(QUADRATIC, THETA, TASK, method="sgd")
    for method, lr in (("l-bfgs", 0.1), ("gradient descent", None)):
        with pytest.raises(ValueError, match="'gradient descent' needs a learning rate, and the other methods have none"):
            implicit.solve_inner(QUADRATIC, THETA, TASK, method=method, lr=lr)


@pytest.mark.parametrize("method", METHODS)
def test_float32_stays_float32(method):
    lr = 1.0 if method == "gradient descent" else None
    phi = implicit.solve_inner(QUADRATIC, THETA.astype(np.float32), tm.tree.map(np.float32, TASK), method=method, lr=lr)
    truth = np.linalg.solve(TASK.A, TASK.b)
    assert phi.dtype == np.float32 and np.linalg.norm(phi - truth) < 1e-3 * np.linalg.norm(truth)


def test_a_start_of_whole_numbers():
    problem = tm.Bilevel(lambda phi, theta, task: (phi["a"] - 0.5) ** 2 + np.sum((phi["b"] - 1) ** 2), None)
    np.testing.assert_allclose(implicit.solve_inner(problem, {"a": 1, "b": np.zeros(2)}, None)["a"], 0.5, rtol=1e-14)
    with pytest.raises(TypeError, match=r"with respect to theta\['b'\]: it is bool\[2\], and only floats have derivatives"):
        implicit.solve_inner(problem, {"a": 1, "b": np.array([True, False])}, None)


# ## No minimum
def test_a_maximum_is_not_what_it_finds():
    hill = tm.Bilevel(lambda phi, theta, task: -np.sum(phi**2), None)
    for start, message in ((np.ones(2), "no stationary point"), (np.zeros(2), r"a maximum of the.*\(smallest curvature -2.0e\+00\)")):
        with pytest.raises(RuntimeError, match=message):
            implicit.solve_inner(hill, start, None)
    assert implicit.solve_inner(hill, np.zeros(2), None, iterations=1).tolist() == [0, 0]  # as it is


def test_a_quadratic_without_a_strict_minimum():
    for curvature, message in ((-1.0, "saddle point or a maximum"), (0.0, r"has no minimum, or many: choose another.*or pass phi=$")):
        saddle = tm.Bilevel(lambda phi, theta, task, c=curvature: phi[0] ** 2 + c * phi[1] ** 2, None)
        with pytest.raises(RuntimeError, match=message):
            implicit.solve_inner(saddle, np.ones(2), None, method="quadratic")


@pytest.mark.parametrize("method", METHODS)
def test_a_start_where_the_loss_is_not_finite(method):
    for start in (np.nan, 1e200):
        with pytest.raises(FloatingPointError, match="the inner loss or its gradient is not finite where the adaptation starts"):
            implicit.solve_inner(QUADRATIC, start * np.ones(N), TASK, method=method, lr=1.0 if method == "gradient descent" else None)


@pytest.mark.parametrize("iterations", [0, -1, 2.0])
def test_iterations_that_make_no_sense(iterations):
    with pytest.raises(ValueError, match=rf"iterations={iterations}: an integer, 1 or more, or None"):
        implicit.solve_inner(QUADRATIC, THETA, TASK, iterations=iterations)
