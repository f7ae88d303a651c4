"""Optimizers: two steps by hand, on nested parameters, and differentiable everywhere."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import optim
from tinymeta.autodiff.check import approximate_gradient

ALPHA = 0.1
ALL = {"sgd": optim.sgd(ALPHA), "momentum": optim.momentum(ALPHA), "rmsprop": optim.rmsprop(ALPHA), "adam": optim.adam(ALPHA)}
EACH = pytest.mark.parametrize("optimizer", ALL.values(), ids=ALL.keys())


def two_steps(optimizer, theta, *gradients):
    """Theta after each of them."""
    state, thetas = optimizer.init(theta), []
    for g in gradients:
        theta, state = optimizer.update(theta, g, state)
        thetas.append(theta)
    return thetas


# Gradients 2 and then -4, from theta = 1.
BY_HAND = {
    "sgd": [1 - 0.2, 1 - 0.2 + 0.4],
    # v = 2; v = 0.9 * 2 - 4 = -2.2
    "momentum": [1 - 0.2, 1 - 0.2 + 0.22],
    # v = 0.1 * 4 = 0.4; v = 0.9 * 0.4 + 0.1 * 16 = 1.96
    "rmsprop": [1 - 0.2 / np.sqrt(0.4), 1 - 0.2 / np.sqrt(0.4) + 0.4 / 1.4],
    # m = 0.2, v = 0.004, corrected 2 and 4; m = 0.18 - 0.4 = -0.22, v = 0.003996 + 0.016 = 0.019996, divided by 0.19 and 0.001999
    "adam": [1 - 0.1, 1 - 0.1 + 0.1 * (0.22 / 0.19) / np.sqrt(0.019996 / 0.001999)],
}


@pytest.mark.parametrize("name", ALL)
def test_two_steps_by_hand(name):
    found = two_steps(ALL[name], np.array([1.0]), np.array([2.0]), np.array([-4.0]))
    np.testing.assert_allclose(np.ravel(found), BY_HAND[name], rtol=1e-14)


@pytest.mark.parametrize("optimizer, other", [
    (optim.momentum(0.1, mu=0.5), [1 - 0.2, 1 - 0.2 + 0.3]),
    (optim.rmsprop(0.1, rho=0.5, epsilon=3.0), [1 - 0.2 / np.sqrt(11), 1 - 0.2 / np.sqrt(11) + 0.4 / np.sqrt(18)]),
    (optim.adam(0.1, 0.5, 0.5, epsilon=3.0), [1 - 0.2 / np.sqrt(13), 1 - 0.2 / np.sqrt(13) + 0.1 * (1.5 / 0.75) / np.sqrt(9 / 0.75 + 9)]),
], ids=["momentum", "rmsprop", "adam"])  # fmt: skip
def test_their_other_numbers(optimizer, other):
    found = two_steps(optimizer, np.array([1.0]), np.array([2.0]), np.array([-4.0]))
    np.testing.assert_allclose(np.ravel(found), other, rtol=1e-14)


def test_adam_without_arguments_is_the_papers():
    one, other = (two_steps(o, 1.0, 2.0, 3.0) for o in (optim.adam(), optim.adam(1e-3, 0.9, 0.999, 1e-8)))
    assert one == other and one[0] == pytest.approx(0.999, abs=1e-15)


@EACH
def test_nested_parameters_are_updated_leaf_by_leaf_and_nothing_in_place(optimizer):
    theta = {"layers": [np.array([[1.0, 2.0]]), (np.array(3.0), None)], "none": {}}
    gradient = {"layers": [np.array([[0.5, -1.0]]), (np.array(2.0), None)], "none": {}}
    flat = tm.ravel(theta)[0]
    kept = flat.copy()
    nested = two_steps(optimizer, theta, gradient, gradient)[-1]
    vector = two_steps(optimizer, flat, *[tm.ravel(gradient)[0]] * 2)[-1]
    assert tm.tree.flatten(nested)[1] == tm.tree.flatten(theta)[1]
    assert tm.ravel(nested)[0].tolist() == vector.tolist() and not np.any(vector == kept)
    assert tm.ravel(theta)[0].tolist() == kept.tolist()


@EACH
def test_an_old_state_can_be_used_again(optimizer):
    theta, g = np.array([1.0, 2.0]), np.array([0.3, -0.1])
    _, state = optimizer.update(theta, g, optimizer.init(theta))
    first, _ = optimizer.update(theta, g, state)
    optimizer.update(theta, 10 * g, state)
    assert optimizer.update(theta, g, state)[0].tolist() == first.tolist()


@EACH
def test_float32_stays_float32(optimizer):
    theta = np.array([1.0, 2.0], np.float32)
    state = optimizer.init(theta)
    for _ in range(2):
        theta, state = optimizer.update(theta, theta, state)
    assert {x.dtype for x in tm.tree.flatten((theta, state))[0] if isinstance(x, np.ndarray)} == {np.dtype(np.float32)}


@EACH
def test_the_derivative_through_three_steps(optimizer):
    """A loss after three updates, differentiated with respect to where they start: as in a learned initialisation."""
    A = np.array([[2.0, 0.5], [0.5, 1.0]])

    def F(theta):
        state = optimizer.init(theta)
        for _ in range(3):
            theta, state = optimizer.update(theta, A @ theta - 1, state)
        return np.sum(np.sin(theta))

    theta = np.array([1.5, -0.7])
    np.testing.assert_allclose(tm.grad(F)(theta), approximate_gradient(F, theta), rtol=1e-12)


@pytest.mark.parametrize("name, slope", [("rmsprop", 1e7), ("adam", 1e7)])
def test_the_derivative_where_v_is_zero(name, slope):
    """At gradient 0 the step is -alpha g / epsilon to first order: steep, and finite. An epsilon beside the root gives NaN."""
    optimizer, theta = ALL[name], np.array([1.0])
    new, derivative = tm.value_and_grad(lambda g: np.sum(optimizer.update(theta, g, optimizer.init(theta))[0]))(np.zeros(1))
    assert new == 1.0
    np.testing.assert_allclose(derivative, -slope, rtol=1e-12)


# ## Learning rates
KINDS = {"sgd": optim.sgd, "momentum": optim.momentum, "rmsprop": optim.rmsprop, "adam": optim.adam}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_learning_rate_for_each_leaf_and_for_each_element(kind):
    theta = {"a": np.array([1.0, 2.0]), "b": (np.array(3.0),)}
    g = {"a": np.array([0.5, -1.0]), "b": (np.array(2.0),)}
    alpha = {"a": np.array([0.1, 0.2]), "b": (0.3,)}
    found = two_steps(kind(alpha), theta, g, g)[-1]
    for rate, where in ((0.1, lambda t: t["a"][0]), (0.2, lambda t: t["a"][1]), (0.3, lambda t: t["b"][0])):
        assert where(found) == where(two_steps(kind(rate), theta, g, g)[-1])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("alpha", [0.1, {"a": 0.1, "b": np.array([0.2, 0.3])}], ids=["number", "container"])
def test_the_derivative_by_the_learning_rate_eager_and_traced(kind, alpha):
    def F(alpha):
        theta = {"a": np.array(1.0), "b": np.array([2.0, 3.0])}
        theta = two_steps(kind(alpha), theta, *[tm.tree.map(lambda x, c=c: c * x, theta) for c in (1, -2, 3)])[-1]
        return np.sin(theta["a"]) + np.sum(theta["b"] ** 2)

    truth = tm.ravel(approximate_gradient(F, alpha))[0]
    np.testing.assert_allclose(tm.ravel(tm.grad(F)(alpha))[0], truth, rtol=1e-12)
    np.testing.assert_allclose(tm.ravel(tm.jit(tm.grad(F))(alpha))[0], truth, rtol=1e-12)


@pytest.mark.parametrize("alpha, message", [
    ([0.1], r"the learning rate has another structure: expected dict with \['a'\], got list"),
    (np.array([0.1, 0.2]), r"the learning rate has another structure: expected dict with \['a'\], got ndarray"),
    ({"a": np.ones(3)}, r"a learning rate of shape \(3,\) doesn't fit parameters of shape \(2,\): give one number for all, or containers"),
    ({"a": np.ones((2, 2))}, r"a learning rate of shape \(2, 2\) doesn't fit"),
])  # fmt: skip
def test_learning_rates_that_do_not_fit(alpha, message):
    theta = {"a": np.ones(2)}
    for kind in KINDS.values():
        optimizer = kind(alpha)
        with pytest.raises(ValueError, match=message):
            optimizer.update(theta, theta, optimizer.init(theta))


def test_a_rate_for_each_step():
    assert [optim.rate_at(optim.PerStep([0.1, {"a": 0.2}]), t) for t in range(2)] == [0.1, {"a": 0.2}]
    assert optim.rate_at({"a": 0.2}, 7) == {"a": 0.2}


def test_the_floats_of_a_state():
    state = optim.adam().init({"a": np.ones(2)})
    assert tm.tree.names(optim.floats_of(state)) == ["['m']['a']", "['v']['a']"] and optim.floats_of(None) is None


def test_adam_traced():
    """The count of steps is a Python number, so it is baked into a program; m and v are not."""
    optimizer, theta = optim.adam(0.1), np.array([1.0, 2.0])
    state = optimizer.init(theta)
    program = tm.trace(optimizer.update, theta, theta, state)
    assert program(theta, 3 * theta, state)[0].tolist() == optimizer.update(theta, 3 * theta, state)[0].tolist()
    with pytest.raises(TypeError, match="static argument"):
        program(theta, theta, state | {"t": 1})


def test_rates_that_were_learned_may_be_negative():
    for alpha in (np.float64(-0.1), np.array(-0.1), tm.tensor(-0.1), {"a": np.array([-0.1, 0.1])}):
        optim.adam(alpha)


@pytest.mark.parametrize("alpha", [
    np.nan, -0.1, np.inf, True, "0.1", np.str_("0.1"), {"a": [0.1, -0.1]}, np.array(["0.1"]), np.ma.masked_array([0.1])
])  # fmt: skip
def test_rates_that_are_none(alpha):
    for kind in KINDS.values():
        with pytest.raises((ValueError, TypeError), match=r"alpha(\['a'\]\[1\])?=.*number"):
            kind(alpha)


@pytest.mark.parametrize("name, x", [
    ("mu", 1.0), ("rho", -0.1), ("beta_1", 1), ("beta_2", np.nan), ("epsilon", -1e-8), ("epsilon", 1e300), ("mu", np.ones(2))
])  # fmt: skip
def test_other_numbers_that_make_no_sense(name, x):
    kind = {"mu": optim.momentum, "rho": optim.rmsprop}.get(name, optim.adam)
    with pytest.raises(ValueError, match=f"{name}=.*number, 0 or more"):
        kind(0.1, **{name: x})
    value = tm.grad(lambda x: np.sum(two_steps(kind(0.1, **{name: x}), 1.0, 2.0, 3.0)[1]))(0.5)  # it may be learned
    assert np.isfinite(value)


def test_a_step_without_a_rate():
    for rates in (0.1, [0.1], {"a": 0.1}, None):
        with pytest.raises(ValueError, match=r"PerStep\(rates=.*\) has no learning rate for step 1"):
            optim.rate_at(optim.PerStep(rates), 1)


def test_learning_rates_that_were_learned_may_be_anything_finite():
    for lr in (-np.float64(0.1), np.array(-0.1), {"W": np.array([0.1, -0.1])}, tm.tensor(-0.1), optim.PerStep(np.array([0.1, -0.1]))):
        optim.check_rates(lr, 2)


@pytest.mark.parametrize("lr, message", [
    (-0.1, r"lr=-0.1: a number, 0 or more, as learning rates: one for all, or containers like phi's, PerStep, or a function of theta"),
    ({"W": np.inf}, r"lr\['W'\]=inf: a number, 0 or more"), (True, "lr=True: a number"), ("0.1", "lr='0.1': a number"),
    (np.array([0.1, np.nan]), r"lr=float64\[2\]: finite numbers"), ({}, "lr=.*: numbers as learning rates"),
    (optim.PerStep([0.1, "b"]), r"lr\.rates\[1\]='b': a number"),
])  # fmt: skip
def test_learning_rates_that_make_no_sense(lr, message):
    with pytest.raises(ValueError, match=message):
        optim.check_rates(lr, 2)


@pytest.mark.parametrize("rates", [0.1, np.array(0.1), "ab", {0: 0.1, 1: 0.1}])
def test_rates_per_step_are_a_sequence(rates):
    with pytest.raises(TypeError, match=r"PerStep.rates=.*: a list or an array, with a learning rate for each step"):
        optim.check_rates(optim.PerStep(rates), 2)
