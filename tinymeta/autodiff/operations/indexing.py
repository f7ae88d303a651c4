r"""
# Indexing

To read at an index is a linear map $R$; written as a matrix, each of its rows has a single 1. Its adjoint
$R^\top$ takes one number for each element that was read and *adds* it where the element was read from: a
scatter-add. And the adjoint of the scatter-add is to read. The two are each other's rule.

$$ c = R\,a \;\Rightarrow\; \bar a = R^\top \bar c, \qquad\qquad c = R^\top a \;\Rightarrow\; \bar a = R\,\bar c $$

An index is made of integers, slices, None and Ellipsis, which are fixed, and of arrays, which may be Tensors: those
are inputs of the node, and `key` keeps the places where they go.
"""

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ...arguments import check_numbers, explained_by, shown
from ..tensor import OPERATIONS, Tensor, data_of, implements, is_tracing, operation

ARRAY = "array"  # stands in a key where an index array goes


def parse(index):
    """Split an index into its fixed part and its arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    key, arrays = [], []
    for part in parts:
        if isinstance(part, (bool, np.bool_, list, np.ndarray, Tensor)):
            empty = isinstance(part, list) and not part  # would be an array of floats
            array = part if isinstance(part, Tensor) else np.asarray(part, dtype=int if empty else None)
            if isinstance(part, Tensor) and part.dtype.kind == "b" and is_tracing():
                raise TypeError("a[mask] has a shape that depends on the mask's values, which a trace can't know: "
                                "use np.where(mask, a, 0)")  # fmt: skip
            if array.dtype.kind not in "iub":
                raise IndexError(f"an index must be an integer, a boolean or a slice, not {array.dtype}")
            key.append(ARRAY)
            arrays.append(array)
        elif part is None or part is Ellipsis or isinstance(part, slice):
            key.append(part)
        elif isinstance(part, (int, np.integer)):
            key.append(int(part))
        else:
            raise IndexError(f"can't index with {part!r}: use integers, slices, None, Ellipsis or arrays")
    return tuple(key), arrays


def assemble(key, arrays):
    """The index again, from its fixed part and its arrays."""
    arrays = iter(arrays)
    return tuple(data_of(next(arrays)) if part is ARRAY else part for part in key)


# ## Read
@operation
def getitem(a, *arrays, key):
    """The part of x that an index chooses: slices, integers, masks, index arrays."""
    return a[assemble(key, arrays)]


@getitem.rule
def _(c_bar, c, a, *arrays, key):
    return lambda: add_at(c_bar, *arrays, key=key, shape=a.shape), *(None for _ in arrays)


@implements("getitem")
def _getitem(a, index):
    key, arrays = parse(index)
    return getitem(a, *arrays, key=key)


# ## Scatter-add
@operation
def add_at(a, *arrays, key, shape):
    """Zeros of a shape, with a added at an index, once for each time that it names a place."""
    total = np.zeros(shape, np.asarray(a).dtype)
    if arrays:  # the same place may come several times
        np.add.at(total, assemble(key, arrays), a)
    else:
        total[key] = a
    return total


@add_at.rule
def _(c_bar, c, a, *arrays, key, shape):
    return getitem(c_bar, *arrays, key=key), *(None for _ in arrays)


# ## Write
# $$ c = a \text{ with } v \text{ written at an index}: \qquad \bar a = \bar c \text{ with 0 written there}, \qquad \bar v = R\,\bar c $$
# If an index array names a place twice, the last value written there is the one that counts, and only it has a cotangent:
# write each value's own number instead of the value, and see which numbers survived.
@operation
def put(a, v, *arrays, key):
    """a with v in the place of what the index chooses; a place that is named twice keeps the last one."""
    written = np.array(a, dtype=np.result_type(a, v) if np.iscomplexobj(v) else None)
    written[assemble(key, arrays)] = v
    return written


@put.rule
def _(c_bar, c, a, v, *arrays, key):
    def v_bar():
        read = getitem(c_bar, *arrays, key=key)
        if not arrays:
            return read
        numbers = np.arange(read.size).reshape(read.shape)
        survivors = getitem(put(np.full(a.shape, -1), numbers, *arrays, key=key), *arrays, key=key)
        return np.where(survivors == numbers, read, 0)

    return lambda: put(c_bar, 0, *arrays, key=key), v_bar, *(None for _ in arrays)


def _check_written(x, index, value):
    check_numbers("x", x, "to write into")
    check_numbers("value", value, "to write")


@explained_by(_check_written)
def set_at(x, index, value):
    """A copy of `x` in which `x[index] = value`: assignment for values that can't change.

    Parameters
    ----------
    x : array or Tensor
    index : whatever NumPy takes: integers, slices, index arrays, masks
    value : array, number or Tensor that broadcasts to the shape of `x[index]`

    Returns
    -------
    Array, or Tensor if one was given. Gradients flow to `x` (elsewhere) and to `value` (there); where an
    index array names a place twice, the last value counts, as in NumPy.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.set_at(np.zeros(3), 1, 5.0)
    array([0., 5., 0.])
    >>> tm.grad(lambda v: np.sum(tm.set_at(np.ones(3), 1, v) ** 2))(5.0)
    array(10.)
    """
    x = x if isinstance(x, (Tensor, np.ndarray)) else np.asarray(x)
    if isinstance(value, Tensor) and value.dtype.kind in "fc" and x.dtype.kind not in "fc":
        raise TypeError(f"set_at: a {value.dtype} written into an array of {x.dtype} would be cut to an integer, and its gradient "
                        "be lost: convert the array with .astype(float)")  # fmt: skip
    try:
        key, arrays = parse(index)
        return put(x, value, *arrays, key=key)
    except (IndexError, ValueError, TypeError) as error:
        given = f"x={shown(x)}, index={shown(index)}, value={shown(value)}"
        raise type(error)(f"set_at with {given}: {error}") from None


# ## Along an axis
@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    """np.take_along_axis: along one axis, an index for each element of the result."""
    if axis is None:
        arr, axis = np.ravel(arr), 0
    axis = normalize_axis_index(axis, np.ndim(arr))
    index = tuple(indices if i == axis else places for i, places in enumerate(np.indices(np.shape(arr), sparse=True)))
    return OPERATIONS["getitem"](arr if isinstance(arr, Tensor) else np.asarray(arr), index)


# ## Diagonals
# A diagonal is read with two index arrays; to put a vector on a diagonal is to add it there, to a matrix of zeros.
def _diagonal_places(rows, columns, offset):
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return i - min(offset, 0), i + max(offset, 0)


@implements(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    """np.diagonal: the elements (i, i + offset) of two axes, along a new last axis."""
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    i, j = _diagonal_places(*a.shape[-2:], offset)
    return a[..., i, j]


@implements(np.linalg.diagonal)
def _matrix_diagonal(x, /, *, offset=0):
    return diagonal(x, offset, -2, -1)


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1):
    """np.trace: the sum of a diagonal."""
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1)


@implements(np.linalg.trace)
def _matrix_trace(x, /, *, offset=0):
    return trace(x, offset, -2, -1)


@implements(np.diag)
def diag(v, k=0):
    """np.diag: a vector on the diagonal of a matrix of zeros, or the diagonal of a matrix."""
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"np.diag takes a vector or a matrix, not shape {v.shape}; for a batch use np.linalg.diagonal")
    n = len(v) + abs(k)
    return add_at(v, *_diagonal_places(n, n, k), key=(ARRAY, ARRAY), shape=(n, n))
