r"""
# What NumPy lacks

Activations and losses are written with a handful of functions that NumPy doesn't have. These are stable at
both ends, and take arrays and Tensors alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ...arguments import check_flag, shown, wanted
from ..tensor import Tensor, is_tracing, own
from . import elementwise, reductions, special

# The wrappers of single operations are there for `help()` and for tracebacks: a function shows its signature and its name.


def relu(x: Any) -> Any:
    """max(x, 0), element by element. At 0 its derivative is taken to be 0.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return elementwise.relu(_array(x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), element by element, without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return special.sigmoid(_array(x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), element by element, without overflow.

    >>> softplus(np.array([-1000.0, 1000.0]))
    array([   0., 1000.])
    """
    return special.softplus(_array(x))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    r"""log(sum(exp(x))) along an axis, without overflow.

    $\log \sum_i e^{x_i} = m + \log \sum_i e^{x_i - m}$ for any m. With the maximum for m no exponent is positive; and as
    the value doesn't depend on m, m is a constant for the derivative.

    >>> logsumexp(np.array([1000.0, 1000.0]))
    array(1000.69314718)
    """
    check_flag("keepdims", keepdims)
    x = _array(x)
    if not x.size:
        raise wanted("x", x, "one element or more")
    axis = axis if axis is None else tuple(_axis(i, x) for i in (axis if isinstance(axis, tuple) else (axis,)))
    m = stop_gradient(np.max(x, axis=axis, keepdims=True))
    m = np.where(np.isfinite(m), m, 0)
    total = np.log(np.sum(np.exp(x - m), axis=axis, keepdims=True)) + m
    return total if keepdims else np.squeeze(total, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x): the logarithm of `softmax`, with its small values kept.

    >>> log_softmax(np.array([0.0, 0.0]))
    array([-0.69314718, -0.69314718])
    """
    x = _array(x)
    if not x.size:
        return x
    return reductions.log_softmax_(x, axis=_axis(axis, x))


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    x = _array(x)
    if not x.size:
        return x
    return reductions.softmax_(x, axis=_axis(axis, x))


def stop_gradient(x: Any) -> Any:
    """The same values, taken as constants by every derivative. Containers are handled leaf by leaf.

    >>> import tinymeta as tm
    >>> tm.grad(lambda x: x * tm.stop_gradient(x))(3.0)
    array(3.)
    """
    from .. import tree

    return tree.map(lambda leaf: _cut(leaf) if isinstance(leaf, Tensor) else leaf, x)


def _cut(x: Tensor) -> Tensor:
    """A node without inputs: no sweep will go there, so what came before needn't be kept. A trace needs it, to compute it again."""
    return elementwise.stop_gradient(x) if is_tracing() else Tensor(x.data, elementwise.stop_gradient, (), {}, x.oldest)


def _array(x: Any) -> Any:
    if type(x) is Tensor:
        return x
    array = x if type(x) is np.ndarray else np.asarray(own(x))
    if array.dtype.kind not in "biuf":
        raise wanted("x", x, "real numbers", TypeError)
    return array if array.dtype.kind != "b" else array.astype(float)


def _axis(axis: Any, x: Any) -> int:
    """The number of an axis of x, from 0."""
    if type(axis) is not bool and hasattr(axis, "__index__"):
        try:
            return normalize_axis_index(axis, x.ndim)
        except (TypeError, OverflowError, np.exceptions.AxisError):  # the last of which says only the number of axes
            pass
    raise ValueError(f"axis={shown(axis)}: the number of an axis is wanted, and x={shown(x)} has {x.ndim}")
