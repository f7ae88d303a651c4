"""jit: the same function, from a program."""

import numpy as np
import pytest

import tinymeta as tm

generator = np.random.default_rng(0)
W = generator.normal(size=(3, 2))
X = generator.normal(size=(5, 3))


def loss(theta, x):
    return np.mean(np.tanh(x @ theta["W"]) ** 2)


def counting(f):
    """f, and a list that grows with each run of its code."""
    runs = []

    def counted(*args):
        runs.append(args)
        return f(*args)

    return counted, runs


def test_the_code_runs_once_for_each_kind_of_arguments():
    f, runs = counting(lambda x: np.sin(x) * 2)
    jitted = tm.jit(f)
    for x in (X, X + 1, X.astype(np.float32), X[:2], X[:2] * 3):
        np.testing.assert_array_equal(jitted(x), np.sin(x) * 2)
    assert len(runs) == 3


def test_static_arguments_make_programs_of_their_own():
    f, runs = counting(lambda x, n, name: x * n if name == "times" else x + n)
    jitted = tm.jit(f)
    assert jitted(2.0, 3, "times") == 6 and jitted(2.0, 3, "plus") == 5 and jitted(3.0, 3, "times") == 9
    assert len(runs) == 2
    assert jitted(2.0, True, "times") == 2  # True is not the 1 that a cache would find
    assert jitted(2.0, 1, "times") == 2
    assert len(runs) == 4


def test_python_floats_are_inputs_and_stay_weak():
    f, runs = counting(lambda x, rate: x * rate)
    jitted = tm.jit(f)
    x = X.astype(np.float32)
    assert jitted(x, 0.5).dtype == np.float32
    np.testing.assert_array_equal(jitted(x, 2.0), x * 2)
    assert len(runs) == 1


def test_static_argnames():
    def scaled(x, scale, how=("up",)):
        return x * scale if "up" in how else x / scale

    jitted = tm.jit(scaled, static_argnames=["scale"])
    np.testing.assert_array_equal(jitted(X, 2.0), 2 * X)
    np.testing.assert_array_equal(jitted(X, scale=4.0), 4 * X)
    np.testing.assert_array_equal(jitted(x=X, scale=4.0, how=("down",)), X / 4)
    with pytest.raises(ValueError, match="no argument 'rate'"):
        tm.jit(scaled, static_argnames=["rate"])(X, 2.0)
    with pytest.raises(TypeError, match="must be hashable"):
        tm.jit(lambda x, a: x, static_argnames=["a"])(X, np.ones(2))


def test_all_ways_to_a_gradient_agree():
    theta = {"W": W}
    expected = tm.grad(loss)(theta, X)["W"]
    np.testing.assert_allclose(tm.jit(tm.grad(loss))(theta, X)["W"], expected, rtol=1e-12)
    np.testing.assert_allclose(tm.grad(tm.jit(loss))(theta, X)["W"], expected, rtol=1e-12)
    np.testing.assert_allclose(tm.jit(tm.grad(tm.jit(loss)))(theta, X)["W"], expected, rtol=1e-12)
    np.testing.assert_allclose(tm.hessian(tm.jit(loss))(theta, X)["W"]["W"], tm.hessian(loss)(theta, X)["W"]["W"], rtol=1e-12)


def test_a_captured_tensor_has_its_gradient():
    y = tm.tensor(3.0)
    times = tm.jit(lambda x: x * y)
    np.testing.assert_array_equal(tm.gradients(times(2.0), [y])[0].value, 2)
    assert tm.grad(lambda y: tm.jit(lambda x: x * y)(2.0))(3.0) == 2


def test_a_mapped_function_under_jit():
    mean = tm.jit(tm.value_and_grad(lambda theta, xs: np.mean(tm.vmap(loss, (None, 0))(theta, xs))))
    xs = generator.normal(size=(4, 5, 3))
    value, gradient = mean({"W": W}, xs)
    expected = tm.value_and_grad(lambda theta: sum(loss(theta, x) for x in xs) / 4)({"W": W})
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient["W"], expected[1]["W"], rtol=1e-12)


def test_a_python_if_on_a_value_explains_tracing():
    with pytest.raises(TypeError, match="traced"):
        tm.jit(lambda x: x if x > 0 else -x)(1.0)


def test_the_cache_has_a_bound():
    f, runs = counting(lambda x, n: x + n)
    jitted = tm.jit(f)
    for n in range(70):
        jitted(1.0, n)
    jitted(1.0, 69)
    assert len(runs) == 70
    jitted(1.0, 0)
    assert len(runs) == 71
