"""Reductions: every axis and keepdims, zeros in products, ties, the reductions of ufuncs, what is refused."""

import numpy as np
import pytest
from catalogue import REDUCTIONS, errors, normal, value

import tinymeta as tm

AXES = [None, 0, 1, 2, -1, -3, (0, 2), (-1, 1), (1,), (0, 1, 2), ()]
NUMPYS = {name: f for name, (f, _) in REDUCTIONS.items() if name != "logsumexp"}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("name", "axis"), [(name, axis) for name in NUMPYS for axis in AXES if (name, axis) != ("std", ())])
def test_every_axis_and_keepdims(name, axis, keepdims):
    x, f = normal(3, 4, 3), lambda a: NUMPYS[name](a, axis=axis, keepdims=keepdims)
    result = tm.tensor(x)
    assert f(result).shape == np.shape(f(x))
    np.testing.assert_allclose(f(result).value, f(x), rtol=1e-13, atol=1e-15)
    assert max(errors(f, [x])) < 1e-13


@pytest.mark.parametrize("f", [np.sum, np.prod, np.max, np.min, np.cumsum, lambda a, axis: np.repeat(a, 2, axis)])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_number_has_the_axes_of_a_vector_of_one_as_in_numpy(f, axis):
    x = np.array(0.7)
    result = f(tm.tensor(x), axis=axis)
    assert result.shape == np.shape(f(x, axis=axis))
    np.testing.assert_array_equal(result.value, f(x, axis=axis))
    assert max(errors(lambda a: f(a, axis=axis), [x])) < 1e-13
    with pytest.raises(ValueError, match="axis 1 is out of bounds"):
        f(tm.tensor(x), axis=1)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_cumsum_and_sort_along_every_axis(axis):
    x = normal(2, 3, 4)
    for f in (np.cumsum, np.sort):
        np.testing.assert_allclose(f(tm.tensor(x), axis=axis).value, f(x, axis=axis), rtol=1e-14)
        assert max(errors(lambda a, f=f: f(a, axis=axis), [x])) < 1e-13


@pytest.mark.parametrize("name", NUMPYS)
def test_truth_of_keepdims_is_what_counts(name):
    assert NUMPYS[name](tm.tensor(normal(2, 3)), axis=0, keepdims=1).shape == (1, 3)


@pytest.mark.parametrize("name", NUMPYS)
def test_python_floats(name):
    slope = tm.grad(lambda x: NUMPYS[name](np.stack([x, 2 * x, 0.5 * x])))(3.0)
    assert slope == pytest.approx(tm.grad(lambda x: NUMPYS[name](np.stack([x, 2 * x, 0.5 * x])))(np.array(3.0)), rel=1e-15)
    if name not in ("std", "var"):
        assert tm.grad(NUMPYS[name])(3.0) == 1


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("f", [np.var, np.std])
def test_ddof(f, ddof):
    x = normal(4, 3)
    np.testing.assert_allclose(value(lambda a: f(a, axis=0, ddof=ddof), [x]), f(x, axis=0, ddof=ddof), rtol=1e-14)
    assert max(errors(lambda a: f(a, axis=0, ddof=ddof), [x])) < 1e-13


def test_std_of_equal_elements_has_no_derivative():
    with pytest.warns(RuntimeWarning):
        assert np.isnan(tm.grad(np.std)(np.ones(3))).all()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("name", NUMPYS)
def test_value_and_dtype_on_other_dtypes(name, dtype):
    x = np.array([[1, 0, 1], [1, 1, 1]], dtype)
    expected = NUMPYS[name](x, axis=1)
    result = NUMPYS[name](tm.tensor(x), axis=1)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.value, expected, rtol=1e-6)


# ## Products with zeros
@pytest.mark.parametrize("x", [[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0, 0.0]], ids=str)
def test_prod_with_zeros_at_orders_1_and_2(x):
    x = np.array(x)
    i = np.arange(len(x))
    slope = [np.prod(x[i != j]) for j in i]
    curvature = [[np.prod(x[(i != j) & (i != k)]) * (j != k) for k in i] for j in i]
    np.testing.assert_array_equal(tm.grad(np.prod)(x), slope)
    np.testing.assert_array_equal(tm.hessian(np.prod)(x), curvature)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0,)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("f", [np.sum, np.prod])
def test_empty_sums_and_products(f, shape, keepdims):
    x = np.ones(shape)
    for axis in (None, 0, -1):
        result = f(tm.tensor(x), axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(result.value, f(x, axis=axis, keepdims=keepdims), strict=True)


# ## Ties
@pytest.mark.parametrize("f", [np.max, lambda a: -np.min(-a)])
def test_ties_share_equally(f):
    np.testing.assert_array_equal(tm.grad(f)(np.array([3.0, 1.0, 3.0, 3.0])), np.array([1, 0, 1, 1]) / 3)
    np.testing.assert_array_equal(tm.hessian(f)(np.array([3.0, 3.0])), np.zeros((2, 2)))


def test_ties_along_an_axis():
    x = np.array([[1.0, 1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(tm.grad(lambda a: np.sum(np.max(a, axis=1)))(x), [[0.5, 0.5], [0, 1]])


# ## np.add.reduce and its like
@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum], ids=lambda u: u.__name__)
@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"axis": None}, {"axis": -1, "keepdims": True}, {"axis": (0, 1)}], ids=str)
def test_reduce(ufunc, options):
    x = normal(2, 3)
    np.testing.assert_allclose(value(lambda a: ufunc.reduce(a, **options), [x]), ufunc.reduce(x, **options), rtol=1e-14)
    assert max(errors(lambda a: ufunc.reduce(a, **options), [x])) < 1e-13


@pytest.mark.parametrize("ufunc", [np.logical_and, np.logical_or], ids=lambda u: u.__name__)
@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"axis": 1, "keepdims": True}], ids=str)
def test_reduce_of_masks(ufunc, options):
    x = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(ufunc.reduce(tm.tensor(x), **options).value, ufunc.reduce(x, **options))


def test_accumulate():
    x = normal(2, 3)
    for options in ({}, {"axis": 1}):
        np.testing.assert_allclose(np.add.accumulate(tm.tensor(x), **options).value, np.add.accumulate(x, **options), rtol=1e-15)


# ## Refused
OPTIONS = {"where": np.array([True, False]), "out": np.zeros(()), "dtype": np.float32, "initial": 3.0}
NOT_NUMPYS = [("max", "dtype"), ("min", "dtype"), ("mean", "initial"), ("var", "initial"), ("std", "initial")]


@pytest.mark.parametrize(("name", "option"), [pair for name in NUMPYS for option in OPTIONS if (pair := (name, option)) not in NOT_NUMPYS])
def test_options_are_refused_by_name(name, option):
    with pytest.raises(TypeError, match=rf"{option}=.*np\.where\(condition, a, neutral\)"):
        NUMPYS[name](tm.tensor([1.0, 2.0]), **{option: OPTIONS[option]})


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2), (0, 5)], ids=str)
@pytest.mark.parametrize("name", NUMPYS)
def test_wrong_axes_are_errors(name, axis):
    with pytest.raises(ValueError, match=r"out of bounds|repeated axis"):
        NUMPYS[name](tm.tensor(normal(2, 3)), axis=axis)


# ## Methods
METHODS = {
    "sum": (0,), "mean": (-1,), "prod": (), "max": (1,), "min": (0,), "var": (1,), "std": (0,), "cumsum": (1,), "argmax": (1,),
    "argmin": (), "argsort": (0,), "all": (0,), "any": (), "round": (1,), "clip": (-0.5, 0.5), "swapaxes": (0, 1), "squeeze": (),
    "ravel": (), "repeat": (2, 0), "take": ([0, 1], 1), "diagonal": (1,), "trace": (), "dot": (np.ones(3),), "reshape": (3, -1),
    "transpose": (1, 0), "astype": (np.float32,), "flatten": (), "copy": (),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_ndarrays(name):
    x = normal(2, 3)
    expected = getattr(x, name)(*METHODS[name])
    result = getattr(tm.tensor(x), name)(*METHODS[name])
    assert result.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(result.value, expected, rtol=1e-13)


def test_keywords_of_methods_and_attributes():
    x = normal(2, 3)
    t = tm.tensor(x)
    np.testing.assert_allclose(t.sum(axis=0, keepdims=True).value, x.sum(axis=0, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(t.std(axis=1, ddof=1).value, x.std(axis=1, ddof=1), rtol=1e-14)
    np.testing.assert_array_equal(t.reshape((3, 2)).value, x.reshape((3, 2)))
    np.testing.assert_array_equal(t.T.value, x.T)
    np.testing.assert_array_equal(t.mT.value, x.mT)
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == (x.shape, x.ndim, x.size, x.dtype, len(x))
    np.testing.assert_array_equal([row.value for row in t], x)
