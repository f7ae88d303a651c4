"""MAML's inner loop in all its kinds: learning rates, updates, losses along the way, parts of phi; and each kind broken on purpose."""

import functools

import numpy as np
import pytest
from inner_loops import (
    ALPHA,
    E0,
    EACH_WAY,
    IDENTITY,
    QUADRATIC,
    SINUSOID,
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
from tinymeta import bilevel, maml, optim
from tinymeta.autodiff.check import approximate_gradient
from tinymeta.tasks import quadratics


# ## The learning rate
def test_the_same_learning_rate_in_many_forms():
    forms = [ALPHA, np.full(N, ALPHA), lambda theta: ALPHA, lambda theta: ALPHA * np.ones_like(theta), maml.PerStep([ALPHA] * 3),
             maml.PerStep(np.full((3, N), ALPHA)), lambda theta: maml.PerStep([ALPHA, np.full(N, ALPHA), ALPHA])]  # fmt: skip
    results = [maml.meta_gradient(QUADRATIC, THETA, TASK, steps=3, lr=lr, **way).grad for lr in forms for way in WAYS.values()]
    assert all(relative_error(result, results[0]) < 1e-14 for result in results)


@EACH_WAY
def test_learning_rates_that_are_whole_numbers(way):
    exact = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=2, lr=1.0, **way).grad
    for lr in (1, np.int64(1), np.ones(N, int), maml.PerStep([1, 1]), maml.PerStep(np.ones(2, int)), lambda theta: np.ones(N, int)):
        assert relative_error(maml.meta_gradient(QUADRATIC, THETA, TASK, steps=2, lr=lr, **way).grad, exact) < 1e-14


@EACH_WAY
def test_a_meta_gradient_can_be_differentiated(way):
    """phi = (1 - 2 alpha)^K theta is linear in theta, so F is 0.5 s phi^2, and its second derivative s (1 - 2 alpha)^2K."""
    problem = tm.Bilevel(lambda phi, theta, task: np.sum(phi**2), lambda phi, theta, task: 1.5 * np.sum(phi**2))
    second = tm.jacobian(lambda theta: maml.meta_gradient(problem, theta, None, steps=3, lr=0.25, **way).grad)(np.ones(2))
    np.testing.assert_allclose(second, 3 * 0.5**6 * np.eye(2), rtol=1e-14, atol=1e-16)


def test_a_container_of_learning_rates():
    problem = tm.Bilevel(
        lambda phi, theta, task: phi["a"] ** 2 + np.sum(phi["b"][0] ** 2), lambda phi, theta, task: phi["a"] + np.sum(phi["b"][0])
    )
    theta = {"a": 1.0, "b": (np.array([2.0, 3.0]),)}
    lr = {"a": 0.25, "b": (np.array([0.125, 0.375]),)}
    result = maml.meta_gradient(problem, theta, None, steps=1, lr=lr)
    assert result.phi["a"] == 0.5 and result.phi["b"][0].tolist() == [1.5, 0.75]
    assert result.grad["a"] == 0.5 and result.grad["b"][0].tolist() == [0.75, 0.25]


@EACH_WAY
def test_a_learning_rate_for_each_step(way):
    """The steps are the factors of a product; the derivative by one of them leaves the others where they are."""
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
    rates = np.array([0.1, 0.5, 0.3])
    theta = {"phi": THETA, "rates": rates}
    result = maml.meta_gradient(problem, theta, TASK, steps=3, lr=lambda theta: maml.PerStep(theta["rates"]), **way)
    factors = [IDENTITY - rate * TASK.A for rate in rates]  # they commute
    g = outer_gradient(THETA - E0 + factors[2] @ factors[1] @ factors[0] @ E0)
    assert relative_error(result.grad["phi"], factors[2] @ factors[1] @ factors[0] @ g) < 1e-12
    truth = [-g @ TASK.A @ factors[s] @ factors[t] @ E0 for s, t in ((1, 2), (0, 2), (0, 1))]
    assert relative_error(result.grad["rates"], np.array(truth)) < 1e-12


@pytest.mark.parametrize("lr, message", [
    ({"b": 0.1}, r"the learning rate has another structure: expected dict with \['a'\], got dict with \['b'\]"),
    ([0.1], r"the learning rate has another structure"),
    (np.array([0.1, 0.2]), r"another structure: expected dict with \['a'\], got ndarray"),
    ({"a": np.array([0.1, 0.2, 0.3])}, r"a learning rate of shape \(3,\) doesn't fit parameters of shape \(2,\): give one number"),
    ({"a": np.array([[0.1, 0.2]])}, r"a learning rate of shape \(1, 2\) doesn't fit"),
    (maml.PerStep([0.1, 0.2]), "PerStep has 2 learning rates for 3 steps: give one for each"),
])  # fmt: skip
def test_learning_rates_that_do_not_fit(lr, message):
    problem = tm.Bilevel(lambda phi, *_: np.sum(phi["a"] ** 2), lambda phi, *_: np.sum(phi["a"]))
    with pytest.raises(ValueError, match=message):
        maml.meta_gradient(problem, {"a": np.ones(2)}, None, steps=3, lr=lr)


# ## Every update, every way, every kind of learning rate
UPDATES = {"sgd": optim.sgd, "momentum": optim.momentum, "rmsprop": functools.partial(optim.rmsprop, epsilon=0.1),
           "adam": functools.partial(optim.adam, epsilon=0.1), "adam, its own epsilon": optim.adam}  # fmt: skip
SMALL = (1, 2, 1)  # a network


def small_loss(data):
    return lambda phi, theta, task: tm.nn.mean_squared_error(tm.nn.mlp(phi, getattr(task, data).x, np.tanh), getattr(task, data).y)


SMALL_PROBLEM = tm.Bilevel(small_loss("support"), small_loss("query"), init=lambda theta, task: theta["phi"])


def rates_of_kind(kind):
    """A container of numbers, and how they are meant as learning rates of three steps."""
    generator = np.random.default_rng(4)
    network = tm.nn.initialize_mlp(generator, SMALL)
    per_leaf = lambda: tm.tree.map(lambda _: generator.uniform(0.02, 0.1), network)
    per_element = lambda: tm.tree.map(lambda x: generator.uniform(0.02, 0.1, x.shape), network)
    return {"number": (0.05, lambda x: x), "per leaf": (per_leaf(), lambda x: x), "per element": (per_element(), lambda x: x),
            "per step": (np.array([0.02, 0.1, 0.05]), maml.PerStep),
            "per step and leaf": ([per_leaf() for _ in range(3)], maml.PerStep)}[kind]  # fmt: skip


@functools.cache
def small_truth(update, kind, learned):
    """F, theta, how the loop goes, and the complex step's gradient."""
    rates, meant = rates_of_kind(kind)
    theta = {"phi": tm.nn.initialize_mlp(np.random.default_rng(6), SMALL), **({"rates": rates} if learned else {})}
    lr = (lambda theta: meant(theta["rates"])) if learned else meant(rates)
    options = {"steps": 3, "lr": lr, "update": UPDATES[update]}
    F = maml.objective(SMALL_PROBLEM, **options)
    return F, theta, options, approximate_gradient(lambda theta: F(theta, SINUSOID), theta)


@EACH_WAY
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("kind", ["number", "per leaf", "per element", "per step", "per step and leaf"])
@pytest.mark.parametrize("learned", [False, True])
def test_every_update_every_way_every_kind_of_learning_rate(way, update, kind, learned):
    F, theta, options, truth = small_truth(update, kind, learned)
    result = maml.meta_gradient(SMALL_PROBLEM, theta, SINUSOID, **options, **way)
    assert relative_error(result.grad, truth) < 1e-12
    assert result.value == F(theta, SINUSOID)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("truncate, order", [(None, 1), (2, 2), (2, 1)])
def test_every_update_truncated_and_of_first_order(update, truncate, order):
    _, theta, options, _ = small_truth(update, "per step", True)
    graph, *others = (
        maml.meta_gradient(SMALL_PROBLEM, theta, SINUSOID, **options, **way, truncate=truncate, order=order).grad for way in WAYS.values()
    )
    assert all(relative_error(other, graph) < 1e-12 for other in others)
    assert (graph["rates"][0] == 0) == (truncate == 2) and np.all(graph["rates"][1:] != 0)


@EACH_WAY
def test_momentum_on_a_quadratic(way):
    """The error e and the velocity v move linearly: v <- mu v + A e, e <- e - alpha v."""
    mu, k = 0.7, 6
    step = np.block([[IDENTITY - ALPHA * TASK.A, -ALPHA * mu * IDENTITY], [TASK.A, mu * IDENTITY]])
    moved = np.linalg.matrix_power(step, k)[:N, :N]  # of e_0, as v_0 = 0
    update = functools.partial(optim.momentum, mu=mu)
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=k, lr=ALPHA, update=update, **way)
    assert relative_error(result.phi, THETA - E0 + moved @ E0) < 1e-13
    assert relative_error(result.grad, moved.T @ outer_gradient(THETA - E0 + moved @ E0)) < 1e-12


@EACH_WAY
def test_an_update_of_ones_own_with_a_count_of_steps(way):
    """Its state holds a number of the kind that has no derivative, and one that depends on phi_0."""

    def shrinking(alpha):
        update = lambda phi, g, state: (phi - alpha * state[1] * g / (1 + state[0]), (state[0] + 1, state[1]))
        return optim.Optimizer(lambda phi: (0, np.sum(phi**2)), update)

    F = maml.objective(QUADRATIC, steps=3, lr=0.05, update=shrinking)
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=3, lr=0.05, update=shrinking, **way)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, TASK), THETA)) < 1e-12


# ## Broken on purpose
def broken_update(change):
    """The update that the recursion and the tangents go through, changed by stopping a derivative in it."""

    def update(loop, t, z, original=maml._update):
        Phi = original(loop, t, z)
        return lambda *inputs: Phi(*change(*inputs))

    return update


def broken_products(change):
    def products(*inputs, original=maml.second_derivative_products):
        (H_product, M_product), size = original(*inputs)
        return change(H_product, M_product), size

    return products


stop, nothing = tm.stop_gradient, lambda x: tm.tree.map(np.zeros_like, x)
BROKEN = {
    "the gradient is taken for a constant": ("graph", "grad", lambda f: lambda *args: stop(tm.grad(f)(*args))),
    "segments are cut from each other": ("checkpointed graph", "checkpoint", lambda f: lambda z, which: f(stop(z), which)),
    "H is a little too large": ("recursion", "second_derivative_products",
                                broken_products(lambda H, M: (tm.tree.map(lambda x: (1 + 1e-6) * x, H), M))),
    "M is missing": ("recursion", "second_derivative_products", broken_products(lambda H, M: (H, nothing(M)))),
    "the state is taken for a constant": ("recursion", "_update", broken_update(lambda z, g, alpha: ((z[0], stop(z[1])), g, alpha))),
    "phi itself is taken for a constant": ("recursion", "_update", broken_update(lambda z, g, alpha: ((stop(z[0]), z[1]), g, alpha))),
    "the rate is taken for a constant": ("recursion", "_update", broken_update(lambda z, g, alpha: (z, g, stop(alpha)))),
    "the state's tangent is missing": ("forward", "_update", broken_update(lambda z, g, alpha: ((z[0], stop(z[1])), g, alpha))),
    "the rate's tangent is missing": ("forward", "_update", broken_update(lambda z, g, alpha: (z, g, stop(alpha)))),
    "theta's tangent is missing": ("forward", "gradient_tangent",
                                   lambda *inputs, original=maml.gradient_tangent: original(*inputs[:-1], nothing(inputs[-1]))),
}  # fmt: skip


@pytest.mark.parametrize("way, name, broken", BROKEN.values(), ids=BROKEN.keys())
def test_the_complex_step_catches_what_is_broken_on_purpose(monkeypatch, way, name, broken):
    options = {"steps": 4, "lr": nested_rate, "update": optim.momentum}
    F = maml.objective(nested_problem(), **options)
    truth = approximate_gradient(lambda theta: F(theta, SINUSOID), nested_theta())

    def error():
        return relative_error(maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, **options, **WAYS[way]).grad, truth)

    assert error() < 1e-12
    monkeypatch.setattr(maml, name, broken)
    assert error() > 1e-8


# ## Multi-step loss
@EACH_WAY
def test_the_multi_step_loss_on_a_quadratic(way):
    weights = [0.1, 0.0, 0.7]
    result = maml.meta_gradient(QUADRATIC, THETA, TASK, steps=3, lr=ALPHA, weights=weights, **way)
    assert relative_error(result.value, sum(w * quadratics.outer(adapted(t), None, TASK) for t, w in enumerate(weights, 1))) < 1e-13
    assert relative_error(result.grad, sum(w * power(t) @ outer_gradient(adapted(t)) for t, w in enumerate(weights, 1))) < 1e-12
    assert relative_error(result.phi, adapted(3)) < 1e-13


@EACH_WAY
def test_the_multi_step_loss_of_the_last_step_alone_is_the_usual_one(way):
    one, other = (
        maml.meta_gradient(nested_problem(), nested_theta(), SINUSOID, steps=3, lr=nested_rate, weights=weights, **way)
        for weights in (None, (0, 0, 1))
    )
    assert one.value == other.value and relative_error(one.grad, other.grad) == 0


# ## A part of phi
@EACH_WAY
def test_only_the_last_layer_adapts(way):
    """ANIL by hand: the body is a constant of the inner loop, and learned all the same."""
    theta = {"phi": tm.nn.initialize_mlp(np.random.default_rng(6), SMALL)}

    def F(theta, task):
        body, head = theta["phi"]
        for _ in range(3):
            g = tm.grad(lambda head: SMALL_PROBLEM.inner([body, head], theta, task))(head)
            head = tm.tree.map(lambda head, g: head - 0.1 * g, head, g)
        return SMALL_PROBLEM.outer([body, head], theta, task)

    anil = SMALL_PROBLEM.adapting([False, True])
    result = maml.meta_gradient(anil, theta, SINUSOID, steps=3, lr=0.1, **way)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, SINUSOID), theta)) < 1e-12
    assert result.value == F(theta, SINUSOID)
    assert result.phi[0] == {"W": None, "b": None} and result.phi[1].keys() == {"W", "b"}
    whole = maml.meta_gradient(SMALL_PROBLEM, theta, SINUSOID, steps=3, lr=0.1, **way)
    assert relative_error(result.grad, whole.grad) > 1e-2


# ## Reptile
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_reptiles_direction(steps):
    result = maml.reptile(QUADRATIC, THETA, TASK, steps=steps, lr=ALPHA)
    np.testing.assert_allclose(result.grad, (IDENTITY - power(steps)) @ E0, rtol=0, atol=1e-13)
    assert relative_error(result.value, quadratics.outer(adapted(steps), None, TASK)) < 1e-13
    assert relative_error(result.phi, adapted(steps)) < 1e-13
    assert result.info["hessian_products"] == 0 and len(result.info["inner_losses"]) == steps + 1


def test_reptiles_direction_with_one_step_is_the_inner_gradient_times_alpha():
    result = maml.reptile(QUADRATIC, THETA, TASK, steps=1, lr=ALPHA)
    assert relative_error(result.grad, ALPHA * (TASK.A @ THETA - TASK.b)) < 1e-13
    other = maml.reptile(QUADRATIC, THETA, TASK, steps=3, lr=ALPHA, update=optim.adam)
    expected = maml.adapt(QUADRATIC, THETA, TASK, steps=3, lr=ALPHA, update=optim.adam)
    assert other.grad.tolist() == (THETA - expected).tolist()


def test_reptile_needs_a_theta_that_is_adapted_itself():
    with pytest.raises(ValueError, match="the adaptation must start at theta itself: a problem without init"):
        maml.reptile(SMALL_PROBLEM, {"phi": THETA}, None, steps=1, lr=ALPHA)


@pytest.mark.parametrize("update", [optim.sgd, optim.adam])
def test_reptile_for_training(update):
    options = {"steps": 3, "lr": ALPHA, "update": update}
    expected = maml.reptile(QUADRATIC, THETA, TASK, **options)
    F = maml.reptile_objective(QUADRATIC, **options)
    for make in (tm.value_and_grad, lambda F: tm.jit(tm.value_and_grad(F))):
        value, gradient = make(F)(THETA, TASK)
        np.testing.assert_allclose(gradient, expected.grad, rtol=1e-12)
        np.testing.assert_allclose(value, expected.value, rtol=1e-12)


# ## Each variant against its closed form, and broken on purpose
RATED = {"phi": THETA, "alpha": np.array(ALPHA)}
RATED_PROBLEM = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["phi"])
PRODUCT = tm.Bilevel(*2 * [lambda phi, theta, task: 0.5 * (phi["body"] * phi["head"] - 1) ** 2]).adapting({"body": False, "head": True})
AT = functools.partial(maml.meta_gradient, QUADRATIC, THETA, TASK, lr=ALPHA)
VARIANTS = {
    "a truncation that is one step too late": (
        lambda: maml.meta_gradient(RATED_PROBLEM, RATED, TASK, steps=4, lr=lambda theta: theta["alpha"], truncate=2).grad["alpha"],
        -2 * outer_gradient(adapted(4)) @ TASK.A @ power(3) @ E0,  # each of the last two steps moves by -A (I - alpha A)^3 e_0
        maml.InnerLoop, "first", property(lambda loop: loop.steps - loop.truncate + 1)),
    "first order that keeps the second": (
        lambda: AT(steps=4, order=1).grad, outer_gradient(adapted(4)), maml, "stop_gradient", lambda x: x),
    "weights that are one step too early": (
        lambda: AT(steps=3, weights=[0.1, 0.0, 0.7]).grad, 0.1 * power(1) @ outer_gradient(adapted(1)) + 0.7 * power(3)
        @ outer_gradient(adapted(3)), maml.InnerLoop, "weight", lambda loop, t: float(loop.weights[t]) if t < 3 else 0.0),
    "Reptile that stops a step before the end": (
        lambda: maml.reptile(QUADRATIC, THETA, TASK, steps=4, lr=ALPHA).grad, THETA - adapted(4),
        maml, "adapt", lambda *args, steps, adapt=maml.adapt, **options: adapt(*args, steps=steps - 1, **options)),
    "ANIL whose body is not learned": (  # head 3 - 0.125 * 2 * (2 * 3 - 1) = 1.75, residual (1 - 0.125 b^2) (b h - 1) = 2.5
        lambda: maml.meta_gradient(PRODUCT, {"body": 2.0, "head": 3.0}, None, steps=1, lr=0.125).grad, {"body": -2.5, "head": 2.5},
        bilevel, "merged", lambda part, whole, merged=bilevel.merged: merged(part, stop(whole))),
}  # fmt: skip


@pytest.mark.parametrize("gradient, truth, where, name, broken", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_closed_form_catches_a_variant_that_is_broken_on_purpose(monkeypatch, gradient, truth, where, name, broken):
    assert relative_error(gradient(), truth) < 1e-12
    monkeypatch.setattr(where, name, broken)
    assert relative_error(gradient(), truth) > 1e-3
