"""Random shapes, axes, indices and subscripts against NumPy, and their derivatives."""

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis")

from catalogue import BINARY, errors, value  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

import tinymeta as tm  # noqa: E402

settings = hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


def array(shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2, shape)


def holds(f, *xs):
    result, expected = value(f, xs), np.asarray(f(*xs))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    if np.size(expected):
        assert errors(f, xs, order=1)[0] < 1e-13


@settings
@hypothesis.given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.sampled_from(sorted(BINARY)))
def test_broadcasting(pair, name):
    holds(BINARY[name][0], *(np.asarray(array(shape, i)) for i, shape in enumerate(pair.input_shapes)))


@settings
@hypothesis.given(st.data(), st.sampled_from([np.sum, np.mean, np.prod, np.max, np.min, np.var]), st.booleans())
def test_reductions(data, f, keepdims):
    shape = data.draw(shapes)
    axes = st.none() | hnp.valid_tuple_axes(len(shape)) | st.integers(-len(shape), len(shape) - 1)
    axis = data.draw(axes)
    if f is np.var and np.var(array(shape), axis=axis).max() < 1e-20:
        return  # constant 0
    holds(lambda a: f(a, axis=axis, keepdims=keepdims), array(shape))


@settings
@hypothesis.given(st.data())
def test_basic_indices(data):
    shape = data.draw(shapes)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    holds(lambda a: 1.0 * a[index], array(shape))
    holds(lambda a, v: tm.set_at(a, index, v), array(shape), np.asarray(array(array(shape)[index].shape, 1)))


@settings
@hypothesis.given(st.data())
def test_index_arrays(data):
    shape = data.draw(shapes)
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=3, max_side=3)))
    holds(lambda a: a[index], array(shape))
    holds(lambda a, v: tm.set_at(a, index, v), array(shape), array(array(shape)[index].shape, 1))


@settings
@hypothesis.given(st.data())
def test_masks(data):
    shape = data.draw(shapes)
    mask = data.draw(hnp.arrays(bool, shape))
    holds(lambda a: a[mask], array(shape))
    holds(lambda a, v: tm.set_at(a, mask, v), array(shape), np.asarray(array((), 1)))


@settings
@hypothesis.given(st.data(), st.booleans(), st.booleans())
def test_einsum(data, ellipsis, explicit):
    letters = st.lists(st.sampled_from("ijkl"), max_size=3).map("".join)
    inputs = data.draw(st.lists(letters, min_size=1, max_size=3))
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in "ijkl"}
    used = sorted(set("".join(inputs)))
    output = "".join(data.draw(st.permutations(used))[: data.draw(st.integers(0, len(used)))])
    dots, batch = ("...", (2,)) if ellipsis else ("", ())
    text = ",".join(dots + part for part in inputs) + (f"->{dots}{output}" if explicit else "")
    length = lambda part, letter: 1 if part.count(letter) == 1 and data.draw(st.booleans()) else sizes[letter]
    factors = [array((*batch, *(length(part, letter) for letter in part)), i) for i, part in enumerate(inputs)]
    holds(lambda *factors: np.einsum(text, *factors), *factors)


@settings
@hypothesis.given(st.data())
def test_matmul(data):
    pair = data.draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_side=3, max_dims=3))
    holds(np.matmul, *(array(shape, i) for i, shape in enumerate(pair.input_shapes)))


@settings
@hypothesis.given(st.data())
def test_shapes(data):
    shape = data.draw(shapes)
    n = len(shape)
    order = tuple(data.draw(st.permutations(range(n))))
    axis = data.draw(st.integers(-n, n - 1))
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    repetitions = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    for f in (
        lambda a: np.transpose(a, order), lambda a: np.moveaxis(a, axis, order[0]), lambda a: np.flip(a, axis),
        lambda a: np.roll(a, order, order), lambda a: np.pad(a, widths), lambda a: np.tile(a, repetitions),
        lambda a: np.pad(a, widths, mode="wrap"), lambda a: np.repeat(a, 2, axis), lambda a: np.cumsum(a, axis),
        lambda a: np.stack([a, 2 * a], axis), lambda a: np.concatenate([a, a**2], axis), lambda a: np.reshape(a, (-1, shape[axis])),
        lambda a: np.broadcast_to(a, (2, *shape)), lambda a: np.expand_dims(a, (0, n + 1)),
    ):  # fmt: skip
        holds(f, array(shape))
