"""Shapes: NumPy's answer for every way of asking, and its errors."""

import numpy as np
import pytest
from catalogue import errors, normal, value

import tinymeta as tm

CALLS = {
    "reshape int": lambda a: np.reshape(a, 24), "reshape -1": lambda a: np.reshape(a, (4, -1, 2)),
    "reshape list": lambda a: np.reshape(a, [4, 6]), "transpose": np.transpose, "transpose negative": lambda a: np.transpose(a, (-1, 0, 1)),
    "moveaxis int": lambda a: np.moveaxis(a, 0, -1), "moveaxis NumPy int": lambda a: np.moveaxis(a, np.int64(-1), np.int64(0)),
    "moveaxis several": lambda a: np.moveaxis(a, [0, -1], [1, 0]), "swapaxes": lambda a: np.swapaxes(a, -1, 0),
    "swapaxes same": lambda a: np.swapaxes(a, 1, 1), "expand_dims first": lambda a: np.expand_dims(a, 0),
    "expand_dims negative": lambda a: np.expand_dims(a, (-1, 1)), "squeeze all": lambda a: np.squeeze(a[:1, :, :1]),
    "squeeze one": lambda a: np.squeeze(a[:1, :, :1], -1), "squeeze several": lambda a: np.squeeze(a[:1, :, :1], (0, 2)),
    "broadcast_to int": lambda a: np.broadcast_to(a[0, 0, :1], 5), "broadcast_to same": lambda a: np.broadcast_to(a, (2, 3, 4)),
    "broadcast_to inner": lambda a: np.broadcast_to(a[:, :1], (2, 5, 4)), "broadcast_to outer": lambda a: np.broadcast_to(a, (2, 2, 3, 4)),
    "broadcast_to both": lambda a: np.broadcast_to(a[:, :1, :1], (3, 2, 5, 1)),
    "concatenate flat": lambda a: np.concatenate([a, 2 * a[0]], None), "concatenate": lambda a: np.concatenate([a, a[:, :1]], axis=-2),
    "concatenate constants": lambda a: np.concatenate([np.ones((1, 3, 4)), a]), "stack": lambda a: np.stack([a, 2 * a, a], axis=-1),
    "stack rows": lambda a: np.stack(list(a)), "vstack": lambda a: np.vstack([a[0], a[1]]), "hstack": lambda a: np.hstack([a, a]),
    "hstack vectors": lambda a: np.hstack([a[0, 0], a[0, 1], a[0, 0, 0]]), "split": lambda a: np.split(a, 3, 1)[2],
    "split NumPy int": lambda a: np.split(a, np.int64(2), -1)[0], "split at": lambda a: np.split(a, [1, 3, 9], -1)[2],
    "repeat": lambda a: np.repeat(a, 2), "repeat axis": lambda a: np.repeat(a, 3, -1), "repeat each": lambda a: np.repeat(a, [2, 0, 1], 1),
    "tile int": lambda a: np.tile(a, 2), "tile more": lambda a: np.tile(a, (2, 1, 3, 1)), "tile fewer": lambda a: np.tile(a, (2, 3)),
    "roll flat": lambda a: np.roll(a, 5), "roll": lambda a: np.roll(a, -1, 1), "roll several": lambda a: np.roll(a, (1, 2), (0, -1)),
    "roll twice": lambda a: np.roll(a, 1, (1, 2)), "flip all": np.flip, "flip several": lambda a: np.flip(a, (0, -1)),
    "pad": lambda a: np.pad(a, 1), "pad value": lambda a: np.pad(a, (1, 2), constant_values=3.5),
    "pad each": lambda a: np.pad(a, [(0, 1), (2, 0), (1, 1)]), "pad edge": lambda a: np.pad(a, 2, mode="edge"),
    "pad reflect": lambda a: np.pad(a, ((0, 1), (2, 1), (0, 2)), mode="reflect"), "pad symmetric": lambda a: np.pad(a, 2, mode="symmetric"),
    "pad wrap": lambda a: np.pad(a, 1, mode="wrap"), "tril": lambda a: np.tril(a, 1), "triu": lambda a: np.triu(a, -1),
    "tril of a vector": lambda a: np.tril(a[0, 0]), "take flat": lambda a: np.take(a, [23, 0, 0]), "take": lambda a: np.take(a, 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_value_and_derivative(name):
    f, x = CALLS[name], normal(2, 3, 4)
    np.testing.assert_array_equal(value(f, [x]), f(x))
    assert max(errors(f, [x], order=1)) < 1e-13


@pytest.mark.parametrize("n", [(1,), (1, 1), (2, 1), (1, 3)], ids=str)
def test_broadcast_to_of_length_1_axes_gives_gradients_of_the_right_shape(n):
    gradient = tm.grad(lambda a: np.sum(np.broadcast_to(a, (4, 2, 3))))(np.ones(n))
    np.testing.assert_array_equal(gradient, np.full(n, 24 / np.prod(n)))


def test_concatenate_of_two_precisions():
    a, b = np.ones(2, np.float32), np.ones(3)
    bars = tm.grad(lambda a, b: np.sum(np.concatenate([a, b]) * np.arange(5.0)), argnums=(0, 1))(a, b)
    assert [x.dtype for x in bars] == [np.float32, np.float64]
    np.testing.assert_array_equal(bars[1], [2, 3, 4])


def test_python_floats_can_be_stacked():
    assert tm.grad(lambda x: np.sum(np.stack([x, x**2]) * np.array([1.0, 10.0])))(3.0) == 61


def test_questions_about_a_shape_need_no_node():
    t = tm.tensor(normal(2, 3))
    assert (np.shape(t), np.ndim(t), np.size(t), np.size(t, 1), np.iscomplexobj(t)) == ((2, 3), 2, 6, 3, False)
    assert np.result_type(t, np.float32) == np.float64


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda a: np.reshape(a, (4, 2)), ValueError, r"reshape\(float64\[2, 3\].*cannot reshape"),
    (lambda a: np.reshape(a, (3, 2), order="F"), TypeError, "order='F'"),
    (lambda a: np.transpose(a, (0, 3)), ValueError, "axis 3 is out of bounds"),
    (lambda a: np.transpose(a, (0, 0)), ValueError, "repeated axis"),
    (lambda a: np.moveaxis(a, 0, 2), ValueError, "axis 2 is out of bounds"),
    (lambda a: np.swapaxes(a, 0, 5), ValueError, "axis 5 is out of bounds"),
    (lambda a: np.squeeze(a, 0), ValueError, "axes of length 1"),
    (lambda a: np.split(a, 4, 1), ValueError, "doesn't divide into 4"),
    (lambda a: np.broadcast_to(a, (2, 2)), ValueError, r"broadcast_to\(float64\[2, 3\]"),
    (lambda a: np.concatenate([a, np.ones((3, 2))]), ValueError, "must match exactly"),
    (lambda a: np.stack([a, np.ones(3)]), ValueError, "same number of dimensions"),
    (lambda a: np.pad(a, 1, mode="mean"), TypeError, "mode='mean'"),
    (lambda a: np.pad(a, 1, constant_values=(1, 2)), TypeError, "one number as constant_values"),
    (lambda a: np.concatenate([a, a], out=np.zeros((4, 3))), TypeError, "out"),
    (lambda a: np.concatenate([a, a], dtype=float), TypeError, "dtype"),
])  # fmt: skip
def test_errors_say_what_was_given(call, error, message):
    with pytest.raises(error, match=message):
        call(tm.tensor(normal(2, 3)))
