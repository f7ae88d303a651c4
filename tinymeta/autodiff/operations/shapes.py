r"""
# Shapes

These operations move elements and compute nothing. So each is linear, and its rule moves the cotangents back where
their elements came from. Where an element was copied, its copies' cotangents are added.
"""

import itertools
import math
import operator

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..tensor import data_of, implements, operation
from .reductions import normalize_axes

# ## Questions about a shape, which need no node
implements(np.shape)(lambda a: a.shape)
implements(np.ndim)(lambda a: a.ndim)
implements(np.iscomplexobj)(lambda x: x.dtype.kind == "c")
implements(np.result_type)(lambda *operands: np.result_type(*map(data_of, operands)))


@implements(np.size)
def size(a, axis=None):
    """np.size: how many elements, in all or along some axes."""
    return a.size if axis is None else math.prod(a.shape[i] for i in normalize_axes(axis, a.ndim))


# ## The shape of a Tensor, filled with a constant
# The exception: no element is moved, and there is no derivative.
@operation
def full_like(a, *, fill_value, dtype):
    """The same number everywhere, in the shape of a."""
    return np.full(np.shape(a), fill_value, dtype=dtype)


@implements(np.full_like)
def _full_like(a, fill_value, dtype=None):
    """np.full_like."""
    return full_like(a, fill_value=fill_value, dtype=np.dtype(dtype or a.dtype))


@implements(np.zeros_like)
def zeros_like(a, dtype=None):
    """np.zeros_like."""
    return _full_like(a, 0, dtype)


@implements(np.ones_like)
def ones_like(a, dtype=None):
    """np.ones_like."""
    return _full_like(a, 1, dtype)


# ## The same elements in another shape
@operation
def reshape_(a, *, shape):
    """The same elements, row-major, in another shape."""
    return np.reshape(a, shape)


@reshape_.rule
def _(c_bar, c, a, *, shape):
    return (np.reshape(c_bar, np.shape(a)),)


@implements(np.reshape)
def reshape(a, shape, order="C"):
    """np.reshape; one size may be -1, which is what is left."""
    if order != "C":
        raise TypeError(f"reshape with order={order!r} isn't supported: transpose first, then reshape")
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return reshape_(a, shape=tuple(map(operator.index, sizes)))


@implements("Tensor.reshape")
def _reshape(a, *shape):
    """x.reshape(2, 3) or x.reshape((2, 3))."""
    return reshape(a, shape[0] if len(shape) == 1 else shape)


@implements(np.ravel, "Tensor.flatten")
def ravel(a, order="C"):
    """np.ravel: all elements in a row."""
    return reshape(a, (-1,), order)


@implements(np.expand_dims)
def expand_dims(a, axis):
    """np.expand_dims: new axes of length 1 at these places of the result."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = a.ndim + len(axes)
    places = normalize_axes(axes, ndim)
    sizes = iter(a.shape)
    return reshape(a, tuple(1 if i in places else next(sizes) for i in range(ndim)))


@implements(np.squeeze)
def squeeze(a, axis=None):
    """np.squeeze: without these axes of length 1, or without any (None)."""
    axes = [i for i, n in enumerate(a.shape) if n == 1] if axis is None else normalize_axes(axis, a.ndim)
    if any(a.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze takes away axes of length 1; shape {a.shape} has another length at axis {axis}")
    return reshape(a, tuple(n for i, n in enumerate(a.shape) if i not in axes))


@implements("Tensor.copy")
def copy(a):
    """x.copy(): x itself, for a Tensor never changes."""
    return a


# ## Axes in another order
# $$ c_{\pi(i)} = a_i \qquad\Longrightarrow\qquad \bar a_i = \bar c_{\pi(i)} $$
# where $\pi$ moves the place $i = (i_0, i_1, \dots)$ to $(i_{\mathrm{axes}[0]}, i_{\mathrm{axes}[1]}, \dots)$. The inverse
# of a permutation tells of each axis where it went.
@operation
def transpose_(a, *, axes):
    """The axes in another order."""
    return np.transpose(a, axes)


@transpose_.rule
def _(c_bar, c, a, *, axes):
    return (np.transpose(c_bar, tuple(axes.index(i) for i in range(len(axes)))),)


@implements(np.transpose)
def transpose(a, axes=None):
    """np.transpose: the axes in this order, or backwards (None)."""
    return transpose_(a, axes=tuple(range(a.ndim))[::-1] if axes is None else normalize_axis_tuple(axes, a.ndim))


@implements("Tensor.transpose")
def _transpose(a, *axes):
    """x.transpose(1, 0), x.transpose((1, 0)) or x.transpose()."""
    return transpose(a, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    """np.moveaxis: some axes to other places, the rest in their order."""
    sources, destinations = normalize_axis_tuple(source, a.ndim), normalize_axis_tuple(destination, a.ndim)
    order = [i for i in range(a.ndim) if i not in sources]
    for target, origin in sorted(zip(destinations, sources, strict=True)):
        order.insert(target, origin)
    return transpose(a, order)


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    """np.swapaxes: two axes change places."""
    i, j = normalize_axis_tuple((axis1, axis2), a.ndim, allow_duplicate=True)
    order = list(range(a.ndim))
    order[i], order[j] = j, i
    return transpose(a, order)


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(a):
    """np.matrix_transpose: the last two axes change places."""
    return transpose_(a, axes=(*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


# ## Repeating along new or length-1 axes
# $$ c_{ij} = a_j \qquad\Longrightarrow\qquad \bar a_j = \sum_i \bar c_{ij} $$
# This sum is what the sweep does with any cotangent that is larger than its input, so the rule hands it on as it is.
@operation
def broadcast_to_(a, *, shape):
    """a repeated along new axes, and along those of length 1."""
    return np.broadcast_to(a, shape)


@broadcast_to_.rule
def _(c_bar, c, a, *, shape):
    return (c_bar,)


@implements(np.broadcast_to)
def broadcast_to(a, shape):
    """np.broadcast_to."""
    return broadcast_to_(a, shape=tuple(shape) if isinstance(shape, (tuple, list)) else (shape,))


# ## Joining and cutting
# $$ c = [a_1, \dots, a_n] \qquad\Longrightarrow\qquad [\bar a_1, \dots, \bar a_n] = \bar c $$
@operation
def concatenate_(*parts, axis):
    """Arrays one behind the other, along an axis."""
    return np.concatenate(parts, axis=axis)


@concatenate_.rule
def _(c_bar, c, *parts, axis):
    ends = np.cumsum([np.shape(part)[axis] for part in parts]).tolist()
    return tuple(cut(c_bar, end - np.shape(part)[axis], end, axis) for part, end in zip(parts, ends, strict=True))


def cut(a, start, end, axis):
    """a[..., start:end, ...] at an axis."""
    return a[(slice(None),) * axis + (slice(start, end),)]


@implements(np.concatenate)
def concatenate(arrays, axis=0):
    """np.concatenate; without an axis (None), of all elements in a row."""
    parts = list(arrays)
    if axis is None:
        parts, axis = [np.ravel(part) for part in parts], 0
    return concatenate_(*parts, axis=normalize_axis_index(axis, np.ndim(parts[0])))


@implements(np.stack)
def stack(arrays, axis=0):
    """np.stack: one behind the other, along a new axis."""
    return concatenate([np.expand_dims(part, axis) for part in arrays], axis)


@implements(np.vstack)
def vstack(arrays):
    """np.vstack: one under the other; a vector is a row."""
    return concatenate([np.reshape(part, (1, -1)) if np.ndim(part) < 2 else part for part in arrays], 0)


@implements(np.hstack)
def hstack(arrays):
    """np.hstack: side by side."""
    parts = [np.reshape(part, (-1,)) if np.ndim(part) == 0 else part for part in arrays]
    return concatenate(parts, 0 if np.ndim(parts[0]) == 1 else 1)


@implements(np.split)
def split(a, indices_or_sections, axis=0):
    """np.split: into so many equal parts, or before these places."""
    axis = normalize_axis_index(axis, a.ndim)
    n = a.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        if n % indices_or_sections:
            raise ValueError(f"split: an axis of length {n} doesn't divide into {indices_or_sections} equal parts")
        indices_or_sections = range(0, n, n // indices_or_sections)[1:]
    bounds = [0, *indices_or_sections, n]
    return [cut(a, start, end, axis) for start, end in itertools.pairwise(bounds)]


# ## The rest, composed
# To repeat, roll, flip or pad is to index along an axis, and the adjoint of indexing adds up what was repeated.
@implements(np.take)
def take(a, indices, axis=None):
    """np.take: the elements with these numbers, along an axis or of all in a row (None)."""
    if axis is None:
        a, axis = ravel(a), 0
    return a[(slice(None),) * normalize_axis_index(axis, a.ndim) + (indices,)]


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    """np.repeat: each element so many times."""
    if axis is None or a.ndim == 0:
        a, axis = ravel(a), axis or 0
    return take(a, np.repeat(np.arange(a.shape[normalize_axis_index(axis, a.ndim)]), repeats), axis)


@implements(np.tile)
def tile(a, reps):
    """np.tile: the whole array so many times along each axis."""
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    ndim = max(a.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    sizes = (1,) * (ndim - a.ndim) + a.shape
    pairs = [(r, n) for r, n in zip(reps, sizes, strict=True)]
    apart = reshape(a, tuple(m for _, n in pairs for m in (1, n)))
    return reshape(broadcast_to(apart, tuple(m for pair in pairs for m in pair)), tuple(math.prod(p) for p in pairs))


@implements(np.roll)
def roll(a, shift, axis=None):
    """np.roll: shifted in a circle, along one axis, several, or as one row (None)."""
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for s, i in zip(shifts.ravel().tolist(), axes.ravel().tolist(), strict=True):
        a = take(a, np.roll(np.arange(a.shape[i]), s), i)
    return a


@implements(np.flip)
def flip(a, axis=None):
    """np.flip: backwards along these axes, or all (None)."""
    axes = normalize_axes(axis, a.ndim)
    return a[tuple(slice(None, None, -1 if i in axes else 1) for i in range(a.ndim))]


@implements(np.pad)
def pad(array, pad_width, mode="constant", constant_values=0):
    """np.pad: with a constant around it, or with elements of its own."""
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap") or np.ndim(constant_values):
        raise TypeError(f"np.pad(mode={mode!r}) on Tensors takes one number as constant_values, or one of the modes that "
                        "copy elements: 'edge', 'reflect', 'symmetric', 'wrap'; compose others with np.concatenate")  # fmt: skip
    widths = np.broadcast_to(pad_width, (array.ndim, 2)).tolist()
    if mode == "constant":
        shape = tuple(n + before + after for n, (before, after) in zip(array.shape, widths, strict=True))
        inside = tuple(slice(before, before + n) for n, (before, _) in zip(array.shape, widths, strict=True))
        from .indexing import set_at

        return set_at(np.full(shape, constant_values, array.dtype), inside, array)
    for axis, width in enumerate(widths):
        array = take(array, np.pad(np.arange(array.shape[axis]), width, mode=mode), axis)
    return array


@implements(np.tril)
def tril(m, k=0):
    """np.tril: zeros above the k-th diagonal."""
    return np.where(np.tri(*m.shape[-2:], k=k, dtype=bool), m, 0)


@implements(np.triu)
def triu(m, k=0):
    """np.triu: zeros below the k-th diagonal."""
    return np.where(np.tri(*m.shape[-2:], k=k - 1, dtype=bool), 0, m)
