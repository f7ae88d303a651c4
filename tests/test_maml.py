"""MAML: closed forms on quadratics, two derivations against each other, the complex step on a network."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import maml
from tinymeta.autodiff.check import approximate_gradient
from tinymeta.tasks import quadratics, sinusoids

N, STEPS, ALPHA = 6, 5, 0.3
rng = np.random.default_rng(0)
TASK = quadratics.draw(rng, N)
THETA, IDENTITY = rng.standard_normal(N), np.eye(N)
E0 = THETA - np.linalg.solve(TASK.A, TASK.b)  # how far the start is from the minimum
QUADRATIC = tm.Bilevel(quadratics.inner, quadratics.outer)
METHODS = pytest.mark.parametrize("by", ["graph", "recursion"])


def outer_gradient(phi):
    return TASK.C @ (phi - TASK.d)


def power(k):
    return np.linalg.matrix_power(IDENTITY - ALPHA * TASK.A, k)


def adapted(k):
    return THETA - E0 + power(k) @ E0


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## Closed forms
@METHODS
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
def test_quadratic(by, steps):
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=steps, lr=ALPHA, by=by)
    assert relative_error(result.phi, adapted(steps)) < 1e-13
    assert relative_error(result.grad, power(steps).T @ outer_gradient(adapted(steps))) < 1e-12
    assert relative_error(result.value, quadratics.outer(adapted(steps), None, TASK)) < 1e-13


@METHODS
def test_the_first_order_gradient_is_the_outer_gradient(by):
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, by=by, order=1)
    assert relative_error(result.grad, outer_gradient(adapted(STEPS))) < 1e-12


@METHODS
def test_a_shared_learning_rate_is_learned(by):
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    theta = {"phi": THETA, "alpha": np.array(ALPHA)}
    result = maml.meta_gradient(problem, theta, TASK, steps=STEPS, lr=lambda theta: theta["alpha"], by=by)
    g = outer_gradient(adapted(STEPS))
    assert relative_error(result.grad["alpha"], -STEPS * g @ TASK.A @ power(STEPS - 1) @ E0) < 1e-12
    assert relative_error(result.grad["phi"], power(STEPS).T @ g) < 1e-12


@METHODS
def test_meta_sgd_learns_a_rate_for_each_parameter(by):
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    alpha = np.linspace(0.05, 0.5, N)
    theta = {"phi": THETA, "alpha": alpha}
    result = maml.meta_gradient(problem, theta, TASK, steps=1, lr=lambda theta: theta["alpha"], by=by)
    inner_gradient = TASK.A @ THETA - TASK.b
    g = outer_gradient(THETA - alpha * inner_gradient)
    assert relative_error(result.grad["alpha"], -inner_gradient * g) < 1e-12
    assert relative_error(result.grad["phi"], (IDENTITY - np.diag(alpha) @ TASK.A).T @ g) < 1e-12


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_reptile_moves_to_the_adapted_parameters(steps):
    phis, gradients = maml.inner_steps(QUADRATIC, THETA, TASK, steps=steps, lr=ALPHA)
    assert relative_error(THETA - phis[-1], (IDENTITY - power(steps)) @ E0) < 1e-12
    assert relative_error(THETA - phis[-1], ALPHA * np.sum(gradients, axis=0)) < 1e-12
    assert relative_error(gradients[0], TASK.A @ THETA - TASK.b) < 1e-12
    assert len(phis) == steps + 1 and len(gradients) == steps


@METHODS
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_by_hand_where_the_first_order_gradient_has_the_wrong_sign_after_odd_steps(by, steps):
    a, c, d, theta, alpha = 2.0, 3.0, 5.0, 1.0, 0.8  # alpha a = 1.6: each step overshoots
    problem = tm.Bilevel(lambda phi, theta, task: a / 2 * phi**2, lambda phi, theta, task: c / 2 * (phi - d) ** 2)
    second = maml.meta_gradient(problem, theta, None, steps=steps, lr=alpha, by=by)
    first = maml.meta_gradient(problem, theta, None, steps=steps, lr=alpha, by=by, order=1)
    phi = (-0.6) ** steps * theta
    assert relative_error(second.grad, (-0.6) ** steps * c * (phi - d)) < 1e-13
    assert relative_error(first.grad, c * (phi - d)) < 1e-13
    assert (np.sign(first.grad) == np.sign(second.grad)) == (steps % 2 == 0)


# ## Truncation
@METHODS
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_truncation_cuts_the_way_to_the_start(by, kept):
    """What is left is the way through theta in the last inner losses."""
    problem = tm.Bilevel(lambda phi, theta, task: quadratics.inner(phi, None, task) - theta @ phi, quadratics.outer)
    result = maml.meta_gradient(problem, THETA, TASK, steps=STEPS, lr=ALPHA, by=by, truncate=kept)
    g = outer_gradient(result.phi)
    assert relative_error(1 + result.grad, 1 + ALPHA * sum((power(j) @ g for j in range(kept)), start=np.zeros(N))) < 1e-13
    assert maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, by=by, truncate=kept).grad.tolist() == [0] * N


@METHODS
def test_truncation_longer_than_the_adaptation_does_nothing(by):
    whole = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, by=by)
    for kept in (STEPS + 1, 100):
        result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, by=by, truncate=kept)
        assert result.grad.tolist() == whole.grad.tolist()
        assert result.info["hessian_products"] == STEPS


@METHODS
@pytest.mark.parametrize("kept", [1, 4, 30])
def test_truncated_at_the_optimum_it_is_the_neumann_series_of_the_implicit_gradient(by, kept):
    """Ridge regression, started at its solution w, and differentiated with respect to the strength lambda."""
    generator = np.random.default_rng(3)
    X, y, strength, n = generator.standard_normal((12, 4)), generator.standard_normal(12), 0.3, 12
    H = X.T @ X / n + strength * np.eye(4)
    w = np.linalg.solve(H, X.T @ y / n)
    problem = tm.Bilevel(
        inner=lambda w, theta, task: 0.5 * np.mean((X @ w - y) ** 2) + 0.5 * theta * np.sum(w**2),
        outer=lambda w, theta, task: 0.5 * np.sum((w - 1) ** 2),
        init=lambda theta, task: w,
    )
    alpha, v = 0.4, w - 1
    result = maml.meta_gradient(problem, strength, None, steps=kept + 2, lr=alpha, by=by, truncate=kept)
    step = np.eye(4) - alpha * H
    series = alpha * sum(np.linalg.matrix_power(step, j) @ v for j in range(kept))
    assert relative_error(result.grad, -w @ series) < 1e-12
    # The remainder of the series is known, and with it the distance to the gradient of the implicit function theorem.
    exact = tm.implicit.meta_gradient(problem, strength, None, phi=w).grad
    remainder = np.linalg.matrix_power(step, kept) @ np.linalg.solve(H, v)
    assert abs(result.grad - exact - w @ remainder) < 1e-12 * abs(exact)
    assert np.abs(w @ remainder) > 1e-7 * abs(exact)  # so that the line above says something


# ## By the graph and by the recursion: a network, nested containers, everything at once
def nested_problem():
    """phi is nested and starts at a function of theta; both losses depend on theta as well."""

    def inner(phi, theta, task):
        prediction = tm.nn.mlp(phi["layers"], task.support.x, np.tanh) * phi["scale"]
        return tm.nn.mean_squared_error(prediction, task.support.y) + np.exp(theta["log_decay"]) * np.sum(phi["layers"][0]["W"] ** 2)

    def outer(phi, theta, task):
        prediction = tm.nn.mlp(phi["layers"], task.query.x, np.tanh) * phi["scale"]
        return tm.nn.mean_squared_error(prediction, task.query.y) + 0.1 * np.sum(theta["log_decay"] ** 2) + phi["scale"] * theta["rate"][0]

    return tm.Bilevel(inner, outer, init=lambda theta, task: {"layers": theta["layers"], "scale": 1 + theta["log_decay"] ** 2})


def nested_theta():
    generator = np.random.default_rng(1)
    return {"layers": tm.nn.initialize_mlp(generator, (1, 4, 1)), "log_decay": np.array(-1.5), "rate": np.array([-3.5, -4.0])}


def nested_rate(theta):
    """A rate for each layer, and one for the scale, from two numbers: a container shaped like phi."""
    slow, fast = np.exp(theta["rate"][1]), np.exp(theta["rate"][0])
    return {"layers": [{"W": slow, "b": fast}, {"W": fast, "b": fast}], "scale": slow}


SINUSOID = tm.tree.map(lambda x: x[0], sinusoids.draw(np.random.default_rng(2), 1))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("truncate", [None, 0, 1, 3, 4, 9])
def test_the_graph_and_the_recursion_agree(order, truncate):
    one, other = (
        maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=4, lr=nested_rate, order=order, by=by, truncate=truncate)
        for by in ("graph", "recursion")
    )
    assert relative_error(one.grad, other.grad) < 1e-12
    assert tm.tree.flatten(one.grad)[1] == tm.tree.flatten(nested_theta())[1] == tm.tree.flatten(other.grad)[1]
    assert one.value == other.value and relative_error(one.phi, other.phi) == 0
    products = 0 if order == 1 else 4 if truncate is None else min(4, truncate)
    assert one.info["hessian_products"] == other.info["hessian_products"] == products
    assert one.info["inner_losses"] == other.info["inner_losses"] and len(one.info["inner_losses"]) == 5


@METHODS
def test_the_complex_step_on_everything_at_once(by):
    F = maml.objective(nested_problem(), steps=4, lr=nested_rate)
    result = maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=4, lr=nested_rate, by=by)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, SINUSOID), nested_theta())) < 1e-12
    assert result.value == F(nested_theta(), SINUSOID)


@METHODS
def test_the_complex_step_on_a_network(by):
    def loss(data):
        return lambda phi, theta, task: tm.nn.mean_squared_error(tm.nn.mlp(phi, getattr(task, data).x, np.tanh), getattr(task, data).y)

    problem = tm.Bilevel(loss("support"), loss("query"))
    theta = tm.nn.initialize_mlp(np.random.default_rng(5), (1, 6, 6, 1))
    F = maml.objective(problem, steps=5, lr=0.05)
    truth = approximate_gradient(lambda theta: F(theta, SINUSOID), theta)
    assert relative_error(maml.meta_gradient(problem, theta, SINUSOID, steps=5, lr=0.05, by=by).grad, truth) < 1e-12
    first = maml.meta_gradient(problem, theta, SINUSOID, steps=5, lr=0.05, by=by, order=1)
    assert relative_error(first.grad, truth) > 1e-2  # first order is something else, and the oracle sees it


@METHODS
def test_first_order_is_a_stopped_gradient(by):
    """The definition, written down: each inner gradient is a constant, for phi and for theta."""
    problem, theta = nested_problem(), nested_theta()

    def F(theta):
        phi, alpha = problem.start(theta, SINUSOID), nested_rate(theta)
        for _ in range(3):
            g = tm.stop_gradient(tm.grad(problem.inner)(phi, theta, SINUSOID))
            phi = tm.tree.map(lambda phi, alpha, g: phi - alpha * g, phi, alpha, g)
        return problem.outer(phi, theta, SINUSOID)

    first, second = (
        maml.meta_gradient(problem, theta, SINUSOID, steps=3, lr=nested_rate, order=order, by=by).grad for order in (1, 2)
    )
    assert relative_error(first, tm.grad(F)(theta)) < 1e-13
    assert relative_error(first, second) > 1e-2


# ## The learning rate
def test_the_same_learning_rate_in_four_forms():
    forms = [ALPHA, np.full(N, ALPHA), lambda theta: ALPHA, lambda theta: ALPHA * np.ones_like(theta)]
    results = [maml.meta_gradient(QUADRATIC, THETA, TASK, steps=3, lr=lr, by=by).grad for lr in forms for by in ("graph", "recursion")]
    assert all(relative_error(result, results[0]) < 1e-14 for result in results)


def test_a_container_of_learning_rates():
    problem = tm.Bilevel(
        lambda phi, theta, task: phi["a"] ** 2 + np.sum(phi["b"][0] ** 2), lambda phi, theta, task: phi["a"] + np.sum(phi["b"][0])
    )
    theta = {"a": 1.0, "b": (np.array([2.0, 3.0]),)}
    lr = {"a": 0.25, "b": (np.array([0.125, 0.375]),)}
    result = maml.meta_gradient(problem, theta, None, steps=1, lr=lr)
    assert result.phi["a"] == 0.5 and result.phi["b"][0].tolist() == [1.5, 0.75]
    assert result.grad["a"] == 0.5 and result.grad["b"][0].tolist() == [0.75, 0.25]
    assert maml.learning_rates(0.1, None, theta) == {"a": 0.1, "b": (0.1,)}


def test_learning_rates_of_another_structure():
    with pytest.raises(ValueError, match=r"another structure: expected dict with \['a'\], got dict with \['b'\]"):
        maml.meta_gradient(tm.Bilevel(lambda phi, *_: phi["a"] ** 2, lambda phi, *_: phi["a"]), {"a": 1.0}, None, steps=1, lr={"b": 0.1})


# ## Precision
@METHODS
@pytest.mark.parametrize("order", [1, 2])
def test_float32_stays_float32(by, order):
    single = lambda x: np.asarray(x, np.float32)
    task, theta = tm.tree.map(single, SINUSOID), tm.tree.map(single, nested_theta())
    result = maml.meta_gradient(nested_problem(), theta, task, steps=2, lr=nested_rate, by=by, order=order)
    assert {x.dtype for x in tm.tree.flatten((result.value, result.grad, result.phi))[0]} == {np.dtype(np.float32)}
    double = maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=2, lr=nested_rate, by=by, order=order)
    assert 0 < relative_error(result.grad, double.grad) < 1e-5


# ## Training
def test_the_objective_traced_and_mapped_is_the_objective():
    problem, theta = nested_problem(), nested_theta()
    F = maml.objective(problem, steps=2, lr=nested_rate)
    tasks = sinusoids.draw(np.random.default_rng(7), 4)
    mean = lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks))
    others = sinusoids.draw(np.random.default_rng(8), 4)
    program = tm.trace(tm.value_and_grad(mean), theta, others)
    value, gradient = program(theta, tasks)
    eager_value, eager_gradient = tm.value_and_grad(mean)(theta, tasks)
    assert abs(value / eager_value - 1) < 1e-12 and relative_error(gradient, eager_gradient) < 1e-12
    # ... and both are the mean over single tasks.
    singles = [maml.meta_gradient(problem, theta, tm.tree.map(lambda x, i=i: x[i], tasks), steps=2, lr=nested_rate) for i in range(4)]
    assert relative_error(value, np.mean([single.value for single in singles])) < 1e-14
    assert relative_error(gradient, tm.tree.map(lambda *parts: sum(parts) / 4, *(single.grad for single in singles))) < 1e-13


def test_adapt_is_the_last_of_the_inner_steps_and_differentiable():
    assert relative_error(maml.adapt(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA), adapted(STEPS)) < 1e-13
    J = tm.jacobian(lambda theta: maml.adapt(QUADRATIC, theta, TASK, steps=STEPS, lr=ALPHA))(THETA)
    assert relative_error(J, power(STEPS)) < 1e-13


# ## Memory
def test_the_graph_grows_with_the_steps_and_the_recursion_does_not():
    def nodes(by, steps):
        return maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=steps, lr=0.01, by=by).info["nodes"]

    graph, recursion = ([nodes(by, steps) for steps in (2, 4, 8, 16)] for by in ("graph", "recursion"))
    growth = np.diff(graph) / [2, 4, 8]
    assert growth.min() == growth.max() > 0
    assert len(set(recursion)) == 1 and 0 < recursion[0] < graph[1]


# ## What makes no sense
@METHODS
@pytest.mark.parametrize("wrong, message", [
    ({"steps": -1}, "steps=-1: the number of inner steps is an integer, 0 or more"),
    ({"steps": 2.0}, "steps=2.0: the number of inner steps is an integer"),
    ({"order": 3}, "order=3: 2 is the gradient, 1 drops the second derivatives"),
    ({"truncate": -1}, "truncate=-1: the number of last steps to differentiate is an integer, 0 or more"),
    ({"truncate": 1.5}, "truncate=1.5: "),
])  # fmt: skip
def test_arguments_that_make_no_sense(by, wrong, message):
    with pytest.raises(ValueError, match=message):
        maml.meta_gradient(QUADRATIC, THETA, TASK, **({"steps": 1, "lr": ALPHA, "by": by} | wrong))


def test_numpys_integers_are_integers():
    one, other = (maml.meta_gradient(QUADRATIC, THETA, TASK, steps=kind(3), lr=ALPHA, truncate=kind(2)).phi for kind in (int, np.int64))
    assert one.tolist() == other.tolist()


def test_an_unknown_method():
    with pytest.raises(ValueError, match="by='magic': choose 'graph' or 'recursion'"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=1, lr=ALPHA, by="magic")


def test_steps_and_learning_rate_have_no_default():
    with pytest.raises(TypeError, match="steps"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, lr=0.1)
    with pytest.raises(TypeError, match="lr"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=1)


@METHODS
def test_a_number_comes_back_as_an_array(by):
    result = maml.meta_gradient(tm.Bilevel(lambda phi, *_: phi**2, lambda phi, *_: phi**2), 3.0, None, steps=2, lr=0.25, by=by)
    assert [type(x) for x in (result.value, result.grad, result.phi)] == [np.ndarray] * 3
