"""The implicit function theorem: closed forms, what the theorem asks for, and what is said when it isn't given."""

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
MATRIX_FREE = ["cg", "minres", "gmres", "neumann"]
EVERY_SOLVER = pytest.mark.parametrize("solver", ["cholesky", "lu", *MATRIX_FREE])
TIGHT = {"tolerance": 1e-14}  # for the iterative ones


def outer_gradient(phi):
    return TASK.C @ (phi - TASK.d)


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## iMAML
@EVERY_SOLVER
@pytest.mark.parametrize("strength", [0.1, 2.0, 50.0])
def test_proximal(solver, strength):
    result = implicit.meta_gradient(implicit.proximal(QUADRATIC, strength), THETA, TASK, solver=solver, **TIGHT)
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


@EVERY_SOLVER
def test_the_strength_as_a_part_of_theta(solver):
    start = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    problem = implicit.proximal(start, lambda theta: np.exp(theta["log_strength"]))
    theta = {"phi": THETA, "log_strength": np.array(0.7)}
    result = implicit.meta_gradient(problem, theta, TASK, solver=solver, **TIGHT)
    strength = np.exp(0.7)
    M = TASK.A + strength * IDENTITY
    phi = np.linalg.solve(M, TASK.b + strength * THETA)
    v = np.linalg.solve(M, outer_gradient(phi))
    assert relative_error(result.grad["phi"], strength * v) < 1e-12
    assert relative_error(result.grad["log_strength"], strength * v @ (THETA - phi)) < 1e-12


def test_how_the_solution_moves_with_the_strength():
    """dphi*/d lambda = inv(A + lambda I) (theta - phi*)."""
    problem = implicit.proximal(tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda *_: THETA), lambda strength: strength)
    phi = implicit.solve_inner(problem, 2.0, TASK)
    J = implicit.root_jacobian(lambda phi, strength: tm.grad(problem.inner)(phi, strength, TASK), phi, 2.0)
    assert relative_error(J, np.linalg.solve(TASK.A + 2 * IDENTITY, THETA - phi)) < 1e-12


def test_proximal_adds_half_the_squared_distance_from_the_start():
    phi = {"W": np.array([1.0, 2.0]), "b": np.array(3.0)}
    theta = {"W": np.array([0.0, 4.0]), "b": np.array(1.0)}
    problem = implicit.proximal(tm.Bilevel(lambda phi, theta, task: 10.0, None), 2.0)
    assert problem.inner(phi, theta, None) == 10 + 1 + 4 + 4


# ## Hyperparameters
HYPER_X, HYPER_Y = np.random.default_rng(4).standard_normal((8, 3)), np.random.default_rng(5).standard_normal(8)


def regression(w, theta, task):
    """Ridge regression, whose data have weights s and labels y, and whose weights have a strength each."""
    return 0.5 * np.sum(theta["s"] * (HYPER_X @ w - theta["y"]) ** 2) + 0.5 * 8 * np.sum(theta["strength"] * w**2)


REGRESSION = tm.Bilevel(regression, lambda w, theta, task: 0.5 * np.sum((w - 1) ** 2), init=lambda *_: np.zeros(3))
HYPER = {"s": np.random.default_rng(6).uniform(0.5, 2, 8), "y": HYPER_Y, "strength": np.array([0.1, 0.2, 0.4])}


@EVERY_SOLVER
def test_the_weights_and_labels_of_data_and_a_strength_for_each_weight(solver):
    """dw/ds_i = inv(M) x_i (y_i - x_i'w), dw/dy = inv(M) X'S, dw/d strength_j = -n inv(M) e_j w_j."""
    s, y, strength = HYPER.values()
    M = HYPER_X.T @ (s[:, None] * HYPER_X) + 8 * np.diag(strength)
    w = np.linalg.solve(M, HYPER_X.T @ (s * y))
    v = np.linalg.solve(M, w - 1)
    result = implicit.meta_gradient(REGRESSION, HYPER, None, solver=solver, **TIGHT)
    assert relative_error(result.phi, w) < 1e-12
    truth = {"s": HYPER_X @ v * (y - HYPER_X @ w), "y": s * (HYPER_X @ v), "strength": -8 * v * w}
    for name, part in truth.items():
        assert relative_error(result.grad[name], part) < 1e-12


def test_one_strength_for_all_weights():
    """dw/d strength = -n inv(M) w."""
    shared = tm.Bilevel(lambda w, theta, task: regression(w, HYPER | {"strength": theta}, task), REGRESSION.outer, REGRESSION.init)
    result = implicit.meta_gradient(shared, 0.3, None)
    M = HYPER_X.T @ (HYPER["s"][:, None] * HYPER_X) + 8 * 0.3 * np.eye(3)
    assert relative_error(result.grad, -8 * np.linalg.solve(M, result.phi - 1) @ result.phi) < 1e-12


def test_a_learning_rate_has_none_and_it_says_so():
    theta = {"phi": THETA, "lr": 0.1, "steps": {"momentum": np.array([0.9])}}
    problem = implicit.proximal(tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"]), 1.0)
    message = r"theta\['lr'\], theta\['steps'\]\['momentum'\] enters neither .*exactly zero.*learning rate.*tm.maml.*proximal"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        result = implicit.meta_gradient(problem, theta, TASK)
    assert caught[0].filename == __file__ and result.grad["lr"] == 0 and np.all(result.grad["phi"] != 0)
    assert result.info["enters"] == {"inner": ["theta['phi']"], "outer": []}


def test_which_leaves_of_theta_enter_where():
    problem = tm.Bilevel(lambda phi, theta, task: (phi - theta["a"]) ** 2 + theta["c"] ** 2, lambda phi, theta, task: phi**2 + theta["b"],
                         init=lambda *_: 0.0)  # fmt: skip
    with pytest.warns(RuntimeWarning, match=r"^theta\['c'\] enters neither"):  # it is in the inner loss, but not in its gradient
        result = implicit.meta_gradient(problem, {"a": 0.0, "b": 2.0, "c": 3.0}, None)
    assert result.info["enters"] == {"inner": ["theta['a']"], "outer": ["theta['b']"]}
    assert result.grad["a"] == 0  # at a = 0, by the way: the outer gradient vanishes there, and no warning names it


# ## Without the matrix
@pytest.mark.parametrize("solver, products", [("cholesky", N + 1), ("lu", N + 1), ("cg", N + 1), ("minres", N + 1), ("gmres", N + 2),
                                              ("identity", 1)])  # fmt: skip
def test_how_many_hessian_products_it_takes(solver, products, monkeypatch):
    """The explicit matrix is as many as it has columns; the last pass makes H v and M'v together."""
    made, right = [], implicit.second_derivative_products
    monkeypatch.setattr(implicit, "second_derivative_products", lambda *args: made.append(1) or right(*args))
    info = implicit.meta_gradient(implicit.proximal(QUADRATIC, 1.0), THETA, TASK, solver=solver).info
    assert info["hessian_products"] == products and len(made) == 1
    assert info["status"] == {"cholesky": "solved", "lu": "solved", "identity": "no solve"}.get(solver, "converged")
    assert info["residual"] < 1e-10 or solver == "identity"
    assert info["iterations"] == (0 if solver in ("cholesky", "lu", "identity") else N)
    assert 10 < info["nodes"] < 100


@pytest.mark.parametrize("solver", MATRIX_FREE)
def test_the_matrix_is_there_when_it_is_asked_for(solver):
    result = implicit.meta_gradient(implicit.proximal(QUADRATIC, 1.0), THETA, TASK, solver=solver)
    assert "hessian=<computed when asked for>" in repr(result.info)
    np.testing.assert_allclose(result.info["hessian"], TASK.A + IDENTITY, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.info["condition"], 2 / 1.1, rtol=1e-12)


@pytest.mark.parametrize("terms", [1, 3, 10])
def test_the_series_is_truncated_backpropagation_at_the_optimum(terms):
    """K terms of the Neumann series are K steps of gradient descent that start at phi*, differentiated."""
    anchored = tm.Bilevel(lambda w, theta, task: quadratics.inner(w, None, TASK) + 0.5 * theta * np.sum(w**2), quadratics.outer)
    phi = np.linalg.solve(TASK.A + 0.3 * IDENTITY, TASK.b)
    series = implicit.meta_gradient(anchored, 0.3, TASK, phi=phi, solver="neumann", iterations=terms, alpha=0.7)
    started = tm.Bilevel(anchored.inner, anchored.outer, init=lambda *_: phi)
    unrolled = tm.maml.meta_gradient(started, 0.3, TASK, steps=terms, lr=0.7)
    assert relative_error(series.grad, unrolled.grad) < 1e-12
    assert series.info["hessian_products"] == unrolled.info["hessian_products"] == terms and series.info["status"] == "stopped"


def test_the_identity_is_one_step_of_gradient_descent_differentiated():
    problem = implicit.proximal(QUADRATIC, 2.0)
    result = implicit.meta_gradient(problem, THETA, TASK, solver="identity", alpha=0.1)
    assert relative_error(result.grad, 0.1 * 2.0 * outer_gradient(result.phi)) < 1e-12
    assert 0.5 < result.info["residual"] < 1 and result.info["hessian_products"] == 1


def wave_loss(data):
    return lambda phi, theta, task: tm.nn.mean_squared_error(tm.nn.mlp(phi, getattr(task, data).x, np.tanh), getattr(task, data).y)


WAVES = implicit.proximal(tm.Bilevel(wave_loss("support"), wave_loss("query")), 1.0)
WAVE = tm.tree.map(lambda x: x[0], sinusoids.draw(np.random.default_rng(2), 1))
WEIGHTS = tm.nn.initialize_mlp(np.random.default_rng(5), (1, 3, 1))


@pytest.fixture(scope="module")
def minimum():
    return implicit.solve_inner(WAVES, WEIGHTS, WAVE)


@pytest.fixture(scope="module")
def differences(minimum):
    """The derivative of the very thing that is run, value by value, along a direction."""
    direction = tm.tree.map(lambda x: np.random.default_rng(x.size).standard_normal(x.shape), WEIGHTS)

    def F(h):
        theta = tm.tree.map(lambda x, d: x + h * d, WEIGHTS, direction)
        return implicit.meta_gradient(WAVES, theta, WAVE).value

    first, second = ((F(h) - F(-h)) / (2 * h) for h in (1e-3, 5e-4))
    return direction, (4 * second - first) / 3


@EVERY_SOLVER
def test_a_network_against_differences(solver, minimum, differences):
    direction, slope = differences
    gradient = implicit.meta_gradient(WAVES, WEIGHTS, WAVE, phi=minimum, solver=solver).grad
    np.testing.assert_allclose(tm.ravel(gradient)[0] @ tm.ravel(direction)[0], slope, rtol=1e-8)


@EVERY_SOLVER
def test_eagerly_and_on_the_machine_it_is_the_same(solver, minimum, monkeypatch):
    fast = implicit.meta_gradient(WAVES, WEIGHTS, WAVE, phi=minimum, solver=solver)
    for module in (implicit, tm.curvature, tm.minima):
        monkeypatch.setattr(module, "jit", lambda f: f)
    slow = implicit.meta_gradient(WAVES, WEIGHTS, WAVE, phi=minimum, solver=solver)
    assert relative_error(fast.grad, slow.grad) < 1e-11 and relative_error(fast.info["hessian"], slow.info["hessian"]) < 1e-12
    assert relative_error(implicit.solve_inner(WAVES, WEIGHTS, WAVE), minimum) < 1e-12


# ## A wrong formula is caught
@pytest.mark.parametrize("name, wrong", [
    ("M dropped", lambda products, v: ((products[0], tm.tree.map(lambda x: 0 * x, products[1])))),
    ("M off by a millionth", lambda products, v: (products[0], tm.tree.map(lambda x: (1 + 1e-6) * x, products[1]))),
    ("the sign", lambda products, v: (products[0], tm.tree.map(np.negative, products[1]))),
])  # fmt: skip
def test_a_wrong_product_disagrees_with_the_differences(name, wrong, minimum, differences, monkeypatch):
    right = implicit.second_derivative_products

    def patched(inner, phi, theta, v):
        products, nodes = right(inner, phi, theta, v)
        return wrong(products, v), nodes

    monkeypatch.setattr(implicit, "second_derivative_products", patched)
    direction, slope = differences
    gradient = implicit.meta_gradient(WAVES, WEIGHTS, WAVE, phi=minimum).grad
    assert abs(tm.ravel(gradient)[0] @ tm.ravel(direction)[0] - slope) > 1e-7 * abs(slope)


def test_conjugate_gradients_with_a_stale_residual_are_caught():
    """A step length from the residual before the last: after six steps the closed form is far, and the residual says it."""

    def stale(product, b, tolerance, iterations):
        v, r = np.zeros_like(b), b
        p, old = r, r @ r
        for _ in range(iterations):
            Hp = product(p)
            alpha = old / (p @ Hp)
            v, new_r = v + alpha * p, r - alpha * Hp
            p, old = new_r + (r @ r) / old * p, r @ r  # should be new_r @ new_r
            r = new_r
        return v, iterations

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tm.solvers, "_cg", stale)
        broken = implicit.meta_gradient(implicit.proximal(QUADRATIC, 0.1), THETA, TASK, solver="cg", iterations=N)
    right = implicit.meta_gradient(implicit.proximal(QUADRATIC, 0.1), THETA, TASK, solver="cg", iterations=N)
    exact = implicit.meta_gradient(implicit.proximal(QUADRATIC, 0.1), THETA, TASK)
    assert relative_error(right.grad, exact.grad) < 1e-10 < 1e-3 < relative_error(broken.grad, exact.grad)
    assert broken.info["status"] == "stopped" and broken.info["residual"] > 1e-3


# ## What the theorem asks for
def test_a_regular_minimum_has_forgotten_the_initialisation():
    with pytest.warns(RuntimeWarning, match="theta enters neither the inner gradient nor the outer loss.*exactly zero"):
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


@EVERY_SOLVER
def test_the_bias_of_damping_is_in_info(solver):
    problem = implicit.proximal(QUADRATIC, 2.0)
    exact = implicit.meta_gradient(problem, THETA, TASK, solver=solver, **TIGHT)
    damped = implicit.meta_gradient(problem, THETA, TASK, solver=solver, damping=0.5, **TIGHT)
    np.testing.assert_allclose(damped.info["damping_bias"], relative_error(damped.grad, exact.grad), rtol=1e-9)  # M = -2 I
    assert exact.info["damping_bias"] == 0


# ## Solvers that fail
def test_conjugate_gradients_at_a_saddle():
    with pytest.raises(np.linalg.LinAlgError, match=r"p'Hp / p'p = .*not positive definite.*Adapt further.*damping=.*'minres'"):
        implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), solver="cg")


@pytest.mark.parametrize("solver", ["minres", "gmres"])
def test_solvers_that_pass_over_a_saddle_warn(solver):
    tilted = tm.Bilevel(SADDLE.inner, lambda phi, theta, task: phi[0] + 2 * phi[1])
    with pytest.warns(RuntimeWarning, match="indefinite: phi is a saddle point or a maximum"):
        result = implicit.meta_gradient(tilted, 3.0, None, phi=np.array([3.0, 3.0]), solver=solver)
    np.testing.assert_allclose(result.grad, 3, rtol=1e-12)


def test_a_series_at_a_saddle():
    with pytest.raises(np.linalg.LinAlgError, match="the Neumann series diverges"):
        implicit.meta_gradient(SADDLE, 3.0, None, phi=np.array([3.0, 3.0]), solver="neumann")


def test_a_series_with_a_step_that_is_too_large():
    problem = implicit.proximal(QUADRATIC, 1.0)
    with pytest.raises(np.linalg.LinAlgError, match="choose a smaller alpha"):
        implicit.meta_gradient(problem, THETA, TASK, solver="neumann", alpha=1.1)
    with pytest.warns(RuntimeWarning, match="choose a smaller alpha") as caught:
        result = implicit.meta_gradient(problem, THETA, TASK, solver="neumann", alpha=1.1, iterations=100)
    assert result.info["status"] == "diverged" and caught[0].filename == __file__


@pytest.mark.parametrize("solver", MATRIX_FREE)
def test_so_many_iterations_as_were_asked_for_and_no_complaint(solver):
    result = implicit.meta_gradient(implicit.proximal(QUADRATIC, 1.0), THETA, TASK, solver=solver, iterations=2)
    assert (result.info["status"], result.info["iterations"]) == ("stopped", 2) and 1e-5 < result.info["residual"] < 1


def test_unconverged():
    curvatures = np.geomspace(1e-6, 1, N)
    flat = tm.Bilevel(lambda phi, theta, task: 0.5 * np.sum(curvatures * (phi - theta) ** 2), lambda phi, theta, task: np.sum(phi))
    message = "solver='neumann' has not converged: after 10000 iterations.*damping=.*'cholesky' or 'lu'"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        result = implicit.meta_gradient(flat, np.ones(N), None, phi=np.ones(N), solver="neumann")
    assert result.info["status"] == "not converged" and caught[0].filename == __file__


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_what_is_not_finite(solver):
    problem = implicit.proximal(QUADRATIC, 1.0)
    with pytest.raises(FloatingPointError, match=r"the inner gradient at phi is not finite: the adaptation has diverged.*proximal"):
        implicit.meta_gradient(problem, THETA, TASK, phi=THETA * np.nan, solver=solver)
    with pytest.raises(FloatingPointError, match="the right-hand side of H v = b is not finite"):
        implicit.meta_gradient(tm.Bilevel(problem.inner, lambda phi, theta, task: np.inf * np.sum(phi)), THETA, TASK, solver=solver)
    sharp = tm.Bilevel(lambda phi, theta, task: np.sum(np.abs(phi - theta) ** 1.5), lambda phi, theta, task: np.sum(phi))
    with pytest.raises(FloatingPointError, match=r"not finite.*overflowed"):
        implicit.meta_gradient(sharp, np.zeros(2), None, phi=np.zeros(2), solver=solver)


# ## A point that is not stationary
@EVERY_SOLVER
def test_a_point_that_is_not_stationary_warns(solver):
    problem = implicit.proximal(QUADRATIC, 2.0)
    phi = implicit.solve_inner(problem, THETA, TASK)
    message = r"phi does not solve the inner gradient = 0: the solution is about \d.\de-0[23] away"
    with pytest.warns(RuntimeWarning, match=message) as caught:
        result = implicit.meta_gradient(problem, THETA, TASK, phi=phi + 0.01 * IDENTITY[0], solver=solver)
    assert caught[0].filename == __file__  # it points at the caller
    np.testing.assert_allclose(result.info["distance"], 0.01, rtol=1e-10 if solver in ("cholesky", "lu") else 0.5)
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


@EVERY_SOLVER
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


# ## For training
@pytest.mark.parametrize("make", [tm.value_and_grad, lambda F: tm.jit(tm.value_and_grad(F))], ids=["eagerly", "on the machine"])
def test_the_objective_has_the_gradient_of_the_theorem(make):
    """At a point that isn't stationary, and with few conjugate gradients, as in a training."""
    start = tm.Bilevel(quadratics.inner, lambda phi, theta, task: quadratics.outer(phi, theta, task) + 0.1 * np.sum(theta["start"] ** 2),
                       init=lambda theta, task: theta["start"])  # fmt: skip
    problem = implicit.proximal(start, lambda theta: np.exp(theta["log_strength"]))
    theta = {"start": THETA, "log_strength": np.array(0.3)}
    value, gradient = make(implicit.objective(problem, steps=4, lr=0.3, iterations=2))(theta, TASK)
    phi = tm.maml.adapt(problem, theta, TASK, steps=4, lr=0.3)
    with pytest.warns(RuntimeWarning, match="does not solve"):
        expected = implicit.meta_gradient(problem, theta, TASK, phi=phi, solver="cg", iterations=2)
    assert relative_error(value, expected.value) < 1e-12 and relative_error(gradient, expected.grad) < 1e-12


def test_the_objective_with_all_its_conjugate_gradients_at_the_end_of_the_adaptation():
    problem = implicit.proximal(QUADRATIC, 2.0)
    gradient = tm.grad(implicit.objective(problem, steps=200, lr=0.4, iterations=N))(THETA, TASK)
    assert relative_error(gradient, implicit.meta_gradient(problem, THETA, TASK).grad) < 1e-11


# ## What products alone can tell
@pytest.mark.parametrize("solver", MATRIX_FREE)
def test_a_point_that_is_not_stationary_warns_whatever_the_outer_gradient(solver):
    """H = 3 I, of which neither an outer gradient of 0 nor one in a stiff direction knows how far phi is."""
    problem = implicit.proximal(tm.Bilevel(lambda phi, theta, task: np.sum((phi - 3) ** 2), lambda phi, theta, task: np.sum(theta**2)), 1.0)
    with pytest.warns(RuntimeWarning, match=r"phi does not solve the inner gradient = 0: the solution is about 1.4e\+02 away"):
        result = implicit.meta_gradient(problem, np.ones(2), None, phi=np.array([100.0, 100.0]), solver=solver)
    np.testing.assert_allclose(result.info["distance"], np.sqrt(2) * (100 - 7 / 3), rtol=1e-12)
    curvatures = np.array([1.0, 1e6])
    stiff = tm.Bilevel(lambda phi, theta, task: 0.5 * np.sum(curvatures * (phi - theta) ** 2), lambda phi, theta, task: phi[1])
    with pytest.warns(RuntimeWarning, match=r"the solution is about 5.0e\+00 away"):
        implicit.meta_gradient(stiff, np.zeros(2), None, phi=np.array([5.0, 0.0]), solver=solver, iterations=2)


def test_the_identity_sees_a_saddle_in_the_direction_it_takes():
    with pytest.warns(RuntimeWarning, match="indefinite: phi is a saddle point or a maximum"):
        tilted = tm.Bilevel(SADDLE.inner, lambda phi, theta, task: phi[0] + 2 * phi[1])
        implicit.meta_gradient(tilted, 3.0, None, phi=np.array([3.0, 3.0]), solver="identity")


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_what_overflows_is_told_in_the_librarys_own_words(solver):
    quartic = tm.Bilevel(lambda phi, theta, task: np.sum((phi - theta) ** 4), lambda phi, theta, task: np.sum(phi))
    with pytest.raises(FloatingPointError, match="the inner gradient at phi is not finite"):
        implicit.meta_gradient(quartic, THETA, None, phi=np.full(N, 1e200), solver=solver)
    steep = lambda phi, theta, task: np.sum(phi) + np.exp(1e3 * np.sum(np.abs(theta)))
    with pytest.raises(FloatingPointError, match="the outer loss or the meta-gradient is not finite, though the inner gradient at phi is"):
        implicit.meta_gradient(tm.Bilevel(quadratics.inner, steep), THETA, TASK, phi=np.linalg.solve(TASK.A, TASK.b), solver=solver)


@pytest.mark.parametrize("name, broken", [
    ("stop_gradient", lambda x: x),  # the graph of the adaptation is kept
    ("conjugate_gradients", lambda product, b, iterations, f=implicit.conjugate_gradients: f(product, b, 1)),
])  # fmt: skip
def test_an_objective_that_is_broken_on_purpose_is_caught(monkeypatch, name, broken):
    monkeypatch.setattr(implicit, name, broken)
    with pytest.raises(AssertionError):
        test_the_objective_with_all_its_conjugate_gradients_at_the_end_of_the_adaptation()


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.ones(2), "1", True])
def test_a_strength_that_makes_no_sense(strength):
    with pytest.raises(ValueError, match=r"strength=.*: a number, 0 or more, or a function of theta"):
        implicit.proximal(tm.Bilevel(lambda phi, theta, task: phi, None), strength)


def test_a_strength_may_be_a_tensor():
    problem = tm.Bilevel(lambda phi, theta, task: phi, None)
    slope = tm.grad(lambda strength: implicit.proximal(problem, strength).inner(3.0, 1.0, None))(2.0)
    assert slope == 2.0
