"""Reading and writing at an index, and what is made of it."""

import numpy as np
import pytest
from catalogue import errors, normal, value

import tinymeta as tm
from tinymeta.autodiff.tensor import tracing

MASK = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
INDICES = {
    "integer": 1, "negative": -1, "NumPy integer": np.int64(2), "slice": slice(1, None), "step": slice(None, None, 2),
    "negative step": slice(None, None, -1), "negative step and bounds": slice(2, 0, -1), "empty slice": slice(2, 2),
    "tuple": (1, 2), "integer and slice": (slice(None), -2), "Ellipsis": (..., 1), "only Ellipsis": ..., "None": None,
    "None inside": (slice(None), None, 1), "None and Ellipsis": (None, ..., None), "empty tuple": (),
    "list": [0, 2], "list with duplicates": [1, 1, -2], "array": np.array([[0, 1], [2, 2]]), "two arrays": ([0, 2, 2], [1, 3, 3]),
    "arrays that broadcast": ([[0], [2]], [1, 3, 1]), "array and slice": (slice(None, None, -1), [3, 0, 3]),
    "array and integer": ([2, 0], 1), "arrays apart": ([0, 2], None, [1, 3]), "empty list": [], "unsigned": np.array([1, 0], np.uint8),
    "mask": MASK, "mask of rows": np.array([True, False, True]), "mask of columns": (slice(None), np.array([True, False, True, True])),
    "mask as list": [True, False, True], "mask and integer": (np.array([True, False, True]), 2), "True": True, "False": False,
    "NumPy True": np.True_, "mask without any": np.zeros((3, 4), bool),
}  # fmt: skip


@pytest.mark.parametrize("name", INDICES)
def test_read(name):
    x, f = normal(3, 4), lambda a: 1.0 * a[INDICES[name]]
    np.testing.assert_array_equal(value(f, [x]), f(x))
    assert max(errors(f, [x], order=1)) < 1e-13


@pytest.mark.parametrize("name", INDICES)
def test_adjoint_of_reading_adds_what_was_read_twice(name):
    x, index = normal(3, 4), INDICES[name]
    expected = np.zeros_like(x)
    np.add.at(expected, index, 1.0)
    np.testing.assert_array_equal(tm.grad(lambda a: np.sum(a[index]))(x), expected)


@pytest.mark.parametrize("name", INDICES)
def test_write(name):
    x, index = normal(3, 4), INDICES[name]
    shape = x[index].shape
    for v in (normal(*shape), normal(*shape[-1:]), normal()):
        expected = x.copy()
        expected[index] = v
        np.testing.assert_array_equal(tm.set_at(x, index, v), expected)
        np.testing.assert_array_equal(value(lambda a, v: tm.set_at(a, index, v), [x, np.asarray(v)]), expected)
        assert max(errors(lambda a, v: tm.set_at(a, index, v) ** 2, [x, np.asarray(v)])) < 1e-13


def test_write_twice_to_one_place_the_last_value_counts():
    v_bar = tm.grad(lambda v: np.sum(tm.set_at(np.zeros(3), [0, 1, 0], v) * np.array([10.0, 20.0, 30.0])))(np.ones(3))
    np.testing.assert_array_equal(v_bar, [0, 20, 10])


def test_write_leaves_the_original_alone():
    x = np.ones(3)
    t = tm.tensor(x)
    tm.set_at(x, 0, 5.0), tm.set_at(t, 0, 5.0)
    np.testing.assert_array_equal(x, 1)
    np.testing.assert_array_equal(t.value, 1)
    assert tm.set_at(x, 0, 5.0).flags.writeable


def test_write_keeps_the_dtype_of_the_array():
    x = np.ones(3, np.float32)
    assert tm.set_at(x, 0, np.float64(2)).dtype == np.float32
    x_bar, v_bar = tm.grad(lambda x, v: np.sum(tm.set_at(x, 0, v)), argnums=(0, 1))(x, np.float64(2))
    assert (x_bar.dtype, v_bar.dtype) == (np.float32, np.float64)


def test_write_of_floats_into_integers_is_refused():
    with pytest.raises(TypeError, match=r"cut to an integer.*\.astype\(float\)"):
        tm.set_at(np.zeros(3, int), 0, tm.tensor(2.5))


def test_index_by_tensor():
    places = tm.tensor(np.array([2, 0, 2]))
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(tm.grad(lambda a: np.sum(a[places]))(x).value, [1, 0, 2])
    np.testing.assert_array_equal(tm.grad(lambda a: np.sum(a[a > 1.5] ** 2))(x), [0, 4, 6])
    with pytest.raises(TypeError, match=r"tm\.tensor\(a\)\[t\]"):
        [1.0, 2.0][tm.tensor(1)]


def test_mask_has_no_known_shape_under_a_trace():
    t = tm.tensor(normal(3))
    with tracing(), pytest.raises(TypeError, match=r"np\.where\(mask, a, 0\)"):
        t[t > 0]


@pytest.mark.parametrize(("index", "message"), [
    (1.0, "can't index with 1.0"), ("a", "can't index with 'a'"), (np.array([0.5]), "not float64"), (5, "out of bounds"),
    ([7], "out of bounds"), ((0, 0, 0), "too many indices"), (tm.tensor(np.array([0.5])), "not float64"),
], ids=repr)  # fmt: skip
def test_wrong_indices(index, message):
    with pytest.raises(IndexError, match=message):
        tm.tensor(normal(3, 4))[index]


def test_item_assignment_is_refused():
    with pytest.raises(TypeError, match=r"tm\.set_at\(t, index, value\)"):
        tm.tensor(np.ones(3))[0] = 5.0


# ## Along an axis
@pytest.mark.parametrize(("indices", "axis"), [
    ([[0, 1, 0], [2, 2, 2]], 1), ([[1, 0, 1, 1]], 0), ([[0], [-1], [1]], 1), ([[3, 0]], 1), ([0, 11, 0], None),
], ids=str)  # fmt: skip
def test_take_along_axis_broadcasts_as_numpy_does(indices, axis):
    x, indices = normal(3, 4), np.array(indices)
    if indices.shape == (2, 3):
        x = x[:2]
    f = lambda a: np.take_along_axis(a, indices, axis)
    np.testing.assert_array_equal(value(f, [x]), f(x))
    assert max(errors(f, [x], order=1)) < 1e-13


def test_take_along_axis_by_argsort_of_a_tensor():
    x = normal(2, 3)
    f = lambda a: np.take_along_axis(a, np.argsort(a, axis=1), axis=1) * np.arange(3.0)
    np.testing.assert_array_equal(value(f, [x]), f(x))
    assert max(errors(f, [x], order=1)) < 1e-13


def test_take_along_axis_of_a_wrong_axis():
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        np.take_along_axis(tm.tensor(normal(2, 2)), np.array([[0]]), 2)


# ## Diagonals
@pytest.mark.parametrize("offset", [-3, -2, -1, 0, 1, 2, 4])
def test_diagonals_at_every_offset(offset):
    for f, x in [
        (lambda a: np.diagonal(a, offset), normal(3, 4)), (lambda a: np.diagonal(a, offset, 2, 0), normal(3, 2, 4)),
        (lambda a: np.trace(a, offset), normal(4, 3)), (lambda a: np.diag(a, offset), normal(4, 3)),
        (lambda a: np.diag(a, offset), normal(3)), (lambda a: np.linalg.diagonal(a, offset=offset), normal(2, 3, 4)),
        (lambda a: np.linalg.trace(a, offset=offset), normal(2, 3, 4)),
    ]:  # fmt: skip
        np.testing.assert_allclose(value(f, [x]), f(x), rtol=1e-14)
        assert max(errors(f, [x], order=1)) < 1e-13


def test_diag_of_a_batch_is_an_error():
    with pytest.raises(ValueError, match=r"np\.linalg\.diagonal"):
        np.diag(tm.tensor(normal(2, 2, 2)))
