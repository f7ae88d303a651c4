"""MAML: closed forms on quadratics, the ways to the same gradient against each other, the complex step on a network."""

import functools
import tracemalloc

import numpy as np
import pytest
from inner_loops import (
    ALPHA,
    E0,
    EACH_WAY,
    IDENTITY,
    QUADRATIC,
    SINUSOID,
    STEPS,
    TASK,
    THETA,
    WAYS,
    N,
    adapted,
    nested_problem,
    nested_rate,
    nested_theta,
    outer_gradient,
    power,
    relative_error,
)

import tinymeta as tm
from tinymeta import maml, optim
from tinymeta.autodiff.check import approximate_gradient
from tinymeta.tasks import quadratics, sinusoids


# ## Closed forms
@EACH_WAY
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
def test_quadratic(way, steps):
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=steps, lr=ALPHA, **way)
    assert relative_error(result.phi, adapted(steps)) < 1e-13
    assert relative_error(result.grad, power(steps).T @ outer_gradient(adapted(steps))) < 1e-12
    assert relative_error(result.value, quadratics.outer(adapted(steps), None, TASK)) < 1e-13


@EACH_WAY
def test_the_first_order_gradient_is_the_outer_gradient(way):
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, **way, order=1)
    assert relative_error(result.grad, outer_gradient(adapted(STEPS))) < 1e-12


@EACH_WAY
def test_a_shared_learning_rate_is_learned(way):
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    theta = {"phi": THETA, "alpha": np.array(ALPHA)}
    result = maml.meta_gradient(problem, theta, TASK, steps=STEPS, lr=lambda theta: theta["alpha"], **way)
    g = outer_gradient(adapted(STEPS))
    assert relative_error(result.grad["alpha"], -STEPS * g @ TASK.A @ power(STEPS - 1) @ E0) < 1e-12
    assert relative_error(result.grad["phi"], power(STEPS).T @ g) < 1e-12


@EACH_WAY
def test_meta_sgd_learns_a_rate_for_each_parameter(way):
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    alpha = np.linspace(0.05, 0.5, N)
    theta = {"phi": THETA, "alpha": alpha}
    result = maml.meta_gradient(problem, theta, TASK, steps=1, lr=lambda theta: theta["alpha"], **way)
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


@EACH_WAY
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_by_hand_where_the_first_order_gradient_has_the_wrong_sign_after_odd_steps(way, steps):
    a, c, d, theta, alpha = 2.0, 3.0, 5.0, 1.0, 0.8  # alpha a = 1.6: each step overshoots
    problem = tm.Bilevel(lambda phi, theta, task: a / 2 * phi**2, lambda phi, theta, task: c / 2 * (phi - d) ** 2)
    second = maml.meta_gradient(problem, theta, None, steps=steps, lr=alpha, **way)
    first = maml.meta_gradient(problem, theta, None, steps=steps, lr=alpha, **way, order=1)
    phi = (-0.6) ** steps * theta
    assert relative_error(second.grad, (-0.6) ** steps * c * (phi - d)) < 1e-13
    assert relative_error(first.grad, c * (phi - d)) < 1e-13
    assert (np.sign(first.grad) == np.sign(second.grad)) == (steps % 2 == 0)


# ## Truncation
@EACH_WAY
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_truncation_cuts_the_way_to_the_start(way, kept):
    """What is left is the way through theta in the last inner losses."""
    problem = tm.Bilevel(lambda phi, theta, task: quadratics.inner(phi, None, task) - theta @ phi, quadratics.outer)
    result = maml.meta_gradient(problem, THETA, TASK, steps=STEPS, lr=ALPHA, **way, truncate=kept)
    g = outer_gradient(result.phi)
    assert relative_error(1 + result.grad, 1 + ALPHA * sum((power(j) @ g for j in range(kept)), start=np.zeros(N))) < 1e-13
    assert maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, **way, truncate=kept).grad.tolist() == [0] * N


@EACH_WAY
def test_truncation_longer_than_the_adaptation_does_nothing(way):
    whole = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, **way)
    for kept in (STEPS + 1, 100):
        result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=STEPS, lr=ALPHA, **way, truncate=kept)
        assert result.grad.tolist() == whole.grad.tolist()
        assert result.info["hessian_products"] == STEPS * (N if way == WAYS["forward"] else 1)


@EACH_WAY
@pytest.mark.parametrize("kept", [1, 4, 30])
def test_truncated_at_the_optimum_it_is_the_neumann_series_of_the_implicit_gradient(way, kept):
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
    result = maml.meta_gradient(problem, strength, None, steps=kept + 2, lr=alpha, **way, truncate=kept)
    step = np.eye(4) - alpha * H
    series = alpha * sum(np.linalg.matrix_power(step, j) @ v for j in range(kept))
    assert relative_error(result.grad, -w @ series) < 1e-12
    # The remainder of the series is known, and with it the distance to the gradient of the implicit function theorem.
    exact = -w @ np.linalg.solve(H, v)
    remainder = np.linalg.matrix_power(step, kept) @ np.linalg.solve(H, v)
    assert abs(result.grad - exact - w @ remainder) < 1e-12 * abs(exact)
    assert np.abs(w @ remainder) > 1e-7 * abs(exact)  # so that the line above says something


# ## All ways: a network, nested containers, everything at once
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("truncate", [None, 0, 1, 3, 4, 9])
@pytest.mark.parametrize("weights", [None, [0.5, 0.0, -2.0, 1.0]])
def test_all_ways_agree(order, truncate, weights):
    options = {"steps": 4, "lr": nested_rate, "order": order, "truncate": truncate, "weights": weights}
    graph, *others = (maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, **options, **way) for way in WAYS.values())
    products = 0 if order == 1 else 4 if truncate is None else min(4, truncate)
    assert graph.info["hessian_products"] == products and len(graph.info["inner_losses"]) == 5
    for other in others:
        assert relative_error(other.grad, graph.grad) < 1e-12
        assert tm.tree.flatten(other.grad)[1] == tm.tree.flatten(nested_theta())[1] == tm.tree.flatten(graph.grad)[1]
        assert abs(other.value / graph.value - 1) < 1e-15 and relative_error(other.phi, graph.phi) == 0
        assert other.info["inner_losses"] == graph.info["inner_losses"]
    assert [other.info["hessian_products"] for other in others] == [products, products, 16 * products]


@EACH_WAY
def test_the_complex_step_on_everything_at_once(way):
    F = maml.objective(nested_problem(), steps=4, lr=nested_rate)
    result = maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=4, lr=nested_rate, **way)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, SINUSOID), nested_theta())) < 1e-12
    assert result.value == F(nested_theta(), SINUSOID)


@EACH_WAY
def test_the_complex_step_on_a_network(way):
    def loss(data):
        return lambda phi, theta, task: tm.nn.mean_squared_error(tm.nn.mlp(phi, getattr(task, data).x, np.tanh), getattr(task, data).y)

    problem = tm.Bilevel(loss("support"), loss("query"))
    theta = tm.nn.initialize_mlp(np.random.default_rng(5), (1, 6, 6, 1))
    F = maml.objective(problem, steps=5, lr=0.05)
    truth = approximate_gradient(lambda theta: F(theta, SINUSOID), theta)
    assert relative_error(maml.meta_gradient(problem, theta, SINUSOID, steps=5, lr=0.05, **way).grad, truth) < 1e-12
    first = maml.meta_gradient(problem, theta, SINUSOID, steps=5, lr=0.05, **way, order=1)
    assert relative_error(first.grad, truth) > 1e-2  # first order is something else, and the oracle sees it


@EACH_WAY
def test_first_order_is_a_stopped_gradient(way):
    """The definition, written down: each inner gradient is a constant, for phi and for theta."""
    problem, theta = nested_problem(), nested_theta()

    def F(theta):
        phi, alpha = problem.start(theta, SINUSOID), nested_rate(theta)
        for _ in range(3):
            g = tm.stop_gradient(tm.grad(problem.inner)(phi, theta, SINUSOID))
            phi = tm.tree.map(lambda phi, alpha, g: phi - alpha * g, phi, alpha, g)
        return problem.outer(phi, theta, SINUSOID)

    first, second = (maml.meta_gradient(problem, theta, SINUSOID, steps=3, lr=nested_rate, order=order, **way).grad for order in (1, 2))
    assert relative_error(first, tm.grad(F)(theta)) < 1e-13
    assert relative_error(first, second) > 1e-2


# ## Precision
@EACH_WAY
@pytest.mark.parametrize("order", [1, 2])
def test_float32_stays_float32(way, order):
    single = lambda x: np.asarray(x, np.float32)
    task, theta = tm.tree.map(single, SINUSOID), tm.tree.map(single, nested_theta())
    result = maml.meta_gradient(nested_problem(), theta, task, steps=2, lr=nested_rate, **way, order=order)
    assert {x.dtype for x in tm.tree.flatten((result.value, result.grad, result.phi))[0]} == {np.dtype(np.float32)}
    double = maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=2, lr=nested_rate, **way, order=order)
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


def objectives():
    adaptive = {"update": functools.partial(optim.adam, epsilon=0.1)}
    per_step = {"lr": lambda theta: maml.PerStep([np.exp(theta["rate"][0]), nested_rate(theta), 0.02])}
    return [adaptive, {"update": optim.rmsprop}, {"update": optim.momentum, "checkpoint": True}, {"truncate": 2}, {"order": 1} | adaptive,
            {"weights": [0.2, 0.3, 0.5], "checkpoint": True}, per_step]  # fmt: skip


@pytest.mark.parametrize("options", objectives(), ids=lambda options: ", ".join(options))
def test_every_objective_is_the_same_on_the_machine(options):
    F = maml.objective(nested_problem(), **({"steps": 3, "lr": nested_rate} | options))
    tasks = sinusoids.draw(np.random.default_rng(7), 3)
    step = tm.value_and_grad(lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks)))
    (value, gradient), (eager_value, eager_gradient) = tm.jit(step)(nested_theta(), tasks), step(nested_theta(), tasks)
    assert abs(value / eager_value - 1) < 1e-12 and relative_error(gradient, eager_gradient) < 1e-12
    single = maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, **({"steps": 3, "lr": nested_rate} | options))
    assert relative_error(tm.jit(tm.grad(F))(nested_theta(), SINUSOID), single.grad) < 1e-12


def test_an_objective_of_a_part_is_the_same_on_the_machine():
    F = maml.objective(nested_problem().adapting({"layers": [False, True], "scale": True}), steps=2, lr=0.05)
    assert relative_error(tm.jit(tm.grad(F))(nested_theta(), SINUSOID), tm.grad(F)(nested_theta(), SINUSOID)) < 1e-12


@pytest.mark.parametrize("products", [
    lambda phi, theta: maml.second_derivative_products(lambda phi, theta: nested_problem().inner(phi, theta, SINUSOID), phi, theta, phi)[0],
    lambda phi, theta: maml.gradient_tangent(lambda phi, theta: nested_problem().inner(phi, theta, SINUSOID), phi, theta, phi, theta)[0],
])  # fmt: skip
def test_the_products_are_the_same_on_the_machine(products):
    phi, theta = nested_problem().start(nested_theta(), SINUSOID), nested_theta()
    assert relative_error(tm.jit(products)(phi, theta), products(phi, theta)) < 1e-12


# ## Memory
def meta_gradient_of_few(steps, **way):
    """With respect to two numbers, so that forward mode is quick."""
    problem = tm.Bilevel(nested_problem().inner, nested_problem().outer, init=lambda theta, task: {"layers": LAYERS, "scale": 1.0})
    return maml.meta_gradient(problem, {"log_decay": np.array(-1.5), "rate": np.array([-3.5])}, SINUSOID, steps=steps, lr=0.01, **way)


LAYERS = nested_theta()["layers"]


def test_the_nodes_that_are_kept():
    def nodes(way, steps):
        return meta_gradient_of_few(steps, **WAYS[way]).info["nodes"]

    graph, recursion, forward = ([nodes(way, steps) for steps in (2, 4, 8, 16)] for way in ("graph", "recursion", "forward"))
    growth = np.diff(graph) / [2, 4, 8]
    assert growth.min() == growth.max() > 0
    assert len(set(recursion)) == len(set(forward)) == 1
    assert 0 < recursion[0] < graph[1] and 0 < forward[0] < graph[1]
    # In segments of 2, 4, 8, 16 steps: twice as many for four times the steps.
    segments = np.diff([nodes("checkpointed graph", steps) for steps in (4, 16, 64, 256)])
    assert segments.tolist() == (segments[0] * np.array([1, 2, 4])).tolist()
    assert nodes("checkpointed graph", 256) < nodes("graph", 256) / 8


def test_forward_mode_does_not_need_more_memory_for_more_steps():
    def peak(way, steps):
        tracemalloc.start()
        meta_gradient_of_few(steps, **WAYS[way])
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak("forward", 4) > 0  # what is cached on the way stays for the next
    assert peak("forward", 64) < 1.5 * peak("forward", 4)
    assert peak("graph", 64) > 8 * peak("graph", 4)
    assert peak("checkpointed graph", 64) < peak("graph", 64) / 3


# ## What makes no sense
@EACH_WAY
@pytest.mark.parametrize("wrong, message", [
    ({"steps": -1}, "steps=-1: an integer, 0 or more, the number of inner steps"),
    ({"steps": 2.0}, "steps=2.0: an integer, 0 or more"),
    ({"order": 3}, "order=3: choose one of 1, 2: 2 is the gradient, 1 drops the second derivatives"),
    ({"truncate": -1}, "truncate=-1: an integer, 0 or more, the number of last steps to differentiate; None for all"),
    ({"truncate": 1.5}, "truncate=1.5: "),
    ({"weights": [1.0, 2.0]}, r"weights=\[1.0, 2.0\]: finite numbers of shape \(1,\), one for the outer loss after each step"),
    ({"weights": [], "steps": 0}, "weights are of the outer losses after each step, and with steps=0 there is none"),
])  # fmt: skip
def test_arguments_that_make_no_sense(way, wrong, message):
    with pytest.raises(ValueError, match=message):
        maml.meta_gradient(QUADRATIC, THETA, TASK, **({"steps": 1, "lr": ALPHA} | way | wrong))
    if way == {}:
        with pytest.raises(ValueError, match=message):
            maml.objective(QUADRATIC, **({"steps": 1, "lr": ALPHA} | wrong))


def test_numpys_integers_are_integers():
    one, other = (maml.meta_gradient(QUADRATIC, THETA, TASK, steps=kind(3), lr=ALPHA, truncate=kind(2)).phi for kind in (int, np.int64))
    assert one.tolist() == other.tolist()


def test_an_unknown_method():
    with pytest.raises(ValueError, match="by='magic': choose one of 'graph', 'recursion', 'forward'"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=1, lr=ALPHA, by="magic")


@pytest.mark.parametrize("update", [optim.adam(0.1), "adam"])
def test_an_update_is_a_function_of_the_learning_rate(update):
    with pytest.raises(TypeError, match=r"update=.*: write update=tm.optim.adam, lr=0.1, not"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=1, lr=ALPHA, update=update)


@pytest.mark.parametrize("by", ["recursion", "forward"])
def test_checkpoints_are_for_the_graph(by):
    with pytest.raises(ValueError, match=f"checkpoint=True is for by='graph': by='{by}' has no graph of the whole loop"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=4, lr=ALPHA, by=by, checkpoint=True)


# ## What isn't finite
CUBIC = tm.Bilevel(lambda phi, theta, task: np.sum(phi**4), lambda phi, theta, task: np.sum(phi**2))


@EACH_WAY
def test_a_loop_that_diverges_names_the_step_and_the_rate(way):
    """phi = 10 becomes 10 - 4000 alpha, and so on, each time to the third power."""
    phi, losses = np.array([10.0]), []
    with np.errstate(all="ignore"):
        while not losses or np.isfinite(losses[-1]):
            losses.append(phi[0] ** 4)
            phi = phi - 0.5 * 4 * phi**3
    message = f"the inner loop diverged: the inner loss isn't finite after step {len(losses) - 1} of 20, made with alpha = 0.5. Take a"
    with pytest.raises(FloatingPointError, match=message):
        maml.meta_gradient(CUBIC, np.array([10.0]), None, steps=20, lr=0.5, **way)
    with pytest.raises(FloatingPointError, match=message):
        maml.reptile(CUBIC, np.array([10.0]), None, steps=20, lr=0.5)


def test_a_loop_that_diverges_in_a_step_of_its_own_rate():
    lr = maml.PerStep([np.array([0.001]), np.array([0.001]), np.array([1e200])])
    with pytest.raises(FloatingPointError, match=r"the inner loss isn't finite after step 3 of 3, made with alpha = 1e\+200\."):
        maml.meta_gradient(CUBIC, np.array([10.0]), None, steps=3, lr=lr)
    with pytest.raises(FloatingPointError, match=r"phi isn't finite after step 1 of 1, made with alpha = 0\.1 to 1e\+308\."):
        maml.meta_gradient(CUBIC, np.array([10.0, 1.0]), None, steps=1, lr=np.array([0.1, 1e308]))


@pytest.mark.parametrize("theta, what", [(np.array([np.nan]), "phi"), (np.array([1e200]), "the inner loss")])
def test_a_start_that_is_not_finite(theta, what):
    with pytest.raises(FloatingPointError, match=f"{what} isn't finite before the first inner step: look at theta and at the task"):
        maml.meta_gradient(CUBIC, theta, None, steps=2, lr=0.1)


@EACH_WAY
def test_a_loss_without_a_derivative(way):
    problem = tm.Bilevel(lambda phi, theta, task: np.sum(phi**2), lambda phi, theta, task: np.sum(np.sqrt(phi)))
    with pytest.raises(FloatingPointError, match="the meta-gradient isn't finite, though phi and the inner loss are after every step"):
        maml.meta_gradient(problem, np.zeros(1), None, steps=2, lr=0.1, **way)
    with pytest.raises(FloatingPointError, match="the outer loss isn't finite, though phi and the inner loss are"):
        maml.meta_gradient(problem, -np.ones(1), None, steps=2, lr=0.1, **way)


def test_steps_and_learning_rate_have_no_default():
    with pytest.raises(TypeError, match="steps"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, lr=0.1)
    with pytest.raises(TypeError, match="lr"):
        maml.meta_gradient(QUADRATIC, THETA, TASK, steps=1)


@EACH_WAY
def test_a_number_comes_back_as_an_array(way):
    result = maml.meta_gradient(tm.Bilevel(lambda phi, *_: phi**2, lambda phi, *_: phi**2), 3.0, None, steps=2, lr=0.25, **way)
    assert [type(x) for x in (result.value, result.grad, result.phi)] == [np.ndarray] * 3


def test_a_truncated_sweep_keeps_the_last_steps_only():
    kept = [maml.meta_gradient(CUBIC, 0.1 * np.ones(2), None, steps=40, lr=lambda theta: theta[0], truncate=k).info["nodes"]
            for k in (1, 5, 40)]  # fmt: skip
    assert kept[0] < kept[1] < kept[2] / 5
