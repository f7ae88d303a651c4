"""What NumPy lacks: stable at both ends, for arrays, numbers and Tensors alike."""

import numpy as np
import pytest
from catalogue import errors, normal, value
from scipy import special

import tinymeta as tm

PAIRS = [(tm.sigmoid, special.expit), (tm.softplus, lambda x: np.logaddexp(x, 0)), (tm.relu, lambda x: np.maximum(x, 0))]
EXTREMES = np.array([-1000.0, -40.0, -1.0, 0.5, 40.0, 1000.0])


@pytest.mark.parametrize(("f", "reference"), PAIRS)
def test_values_and_slopes_far_out(f, reference):
    np.testing.assert_allclose(f(EXTREMES), reference(EXTREMES), rtol=1e-15)
    slope = tm.grad(lambda x: np.sum(f(x)))(EXTREMES)
    s = special.expit(EXTREMES)
    expected = {tm.sigmoid: s * special.expit(-EXTREMES), tm.softplus: s, tm.relu: EXTREMES > 0}[f]
    np.testing.assert_allclose(slope, expected, rtol=1e-14, atol=1e-17)  # 1 - sigmoid(40) is 4e-18, and rounds to 0
    np.testing.assert_allclose(value(f, [EXTREMES + 1e-30j]).imag / 1e-30, expected, rtol=1e-14)


@pytest.mark.parametrize("f", [tm.sigmoid, tm.softplus, tm.relu, tm.logsumexp])
def test_numbers_lists_arrays_and_tensors_alike(f):
    assert f(0.5) == f(np.array(0.5)) == f(tm.tensor(0.5)).value
    assert f(1) == f(1.0)
    np.testing.assert_array_equal(f([1.0, 2.0]), f(np.array([1.0, 2.0])))
    assert f(np.ones(2, np.float32)).dtype == np.float32


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp(axis, keepdims):
    x, f = normal(2, 3, 4), lambda a: tm.logsumexp(a, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(f(x), special.logsumexp(x, axis=axis, keepdims=keepdims), rtol=1e-14)
    np.testing.assert_allclose(value(f, [x]), f(x), rtol=1e-15)
    assert max(errors(f, [x], order=3)) < 1e-13


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_and_its_logarithm(axis):
    x = normal(2, 3)
    for f, reference in ((tm.softmax, special.softmax), (tm.log_softmax, special.log_softmax)):
        np.testing.assert_allclose(f(x, axis=axis), reference(x, axis=axis), rtol=1e-14)
        assert max(errors(lambda a, f=f: f(a, axis=axis), [x], order=3)) < 1e-13


def test_softmax_of_large_and_infinite_arguments():
    x = np.array([1000.0, 0.0, -np.inf])
    np.testing.assert_array_equal(tm.softmax(x), [1, 0, 0])
    np.testing.assert_array_equal(tm.log_softmax(x), [0, -1000, -np.inf])
    np.testing.assert_array_equal(tm.jacobian(tm.softmax)(x), np.zeros((3, 3)))
    np.testing.assert_array_equal(tm.jacobian(tm.log_softmax)(x), np.eye(3) - [1, 0, 0])
    np.testing.assert_array_equal(tm.grad(lambda x: tm.logsumexp(x))(x), [1, 0, 0])
    np.testing.assert_array_equal(tm.grad(tm.logsumexp)(np.array([800.0, 800.0])), [0.5, 0.5])


def test_stop_gradient_leaves_arrays_alone():
    x = np.ones(2)
    assert tm.stop_gradient(x) is x


def test_stop_gradient_in_containers():
    x = {"a": 2.0, "b": (np.ones(2), None)}
    gradient = tm.grad(lambda x: np.sum(tm.stop_gradient(x)["b"][0] * x["a"]) + 0 * np.sum(x["b"][0]))(x)
    assert gradient["a"] == 2
    np.testing.assert_array_equal(gradient["b"][0], [0, 0])
