r"""
# Reductions

A sum sends the same cotangent to each of its terms; a maximum sends it to the winner. Everything else here
is composed from sums, products and comparisons, and has the chain rule for its rule.

Each function takes NumPy's `axis` and `keepdims`. NumPy's `where=`, `out=` and `initial=` are refused, with a
word on what to write instead.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..tensor import OPERATIONS, implements, operation


def normalize_axes(axis, ndim):
    """The axes as a sorted tuple of numbers from 0 to ndim - 1; None means all."""
    if axis is None or (ndim == 0 and axis in (0, -1)):  # NumPy takes a number for a vector of one
        return tuple(range(ndim))
    return tuple(sorted(normalize_axis_tuple(axis, ndim)))


def refuse(name, options):
    """An error for the options of NumPy's reductions that have no rule here."""
    given = [key for key, value in options.items() if value is not None and value is not np._NoValue]
    if given:
        raise TypeError(f"np.{name}({given[0]}=...) isn't supported on Tensors: instead of where= write "
                        f"np.{name}(np.where(condition, a, neutral)); instead of dtype= use .astype; out= and initial= "
                        "have no replacement because Tensors are immutable")  # fmt: skip


def expand(x, axes):
    """Put the reduced axes back, with length 1."""
    shape = list(np.shape(x))
    for i in axes:
        shape.insert(i, 1)
    return np.reshape(x, tuple(shape))


# ## Sum
# $$ c = \sum_i a_i, \qquad dc = \sum_i da_i, \qquad \bar a_i = \bar c \text{ for every } i $$
@operation
def sum_(a, *, axis, keepdims):
    """The sum over some axes (a sorted tuple)."""
    return np.add.reduce(a, axis=axis, keepdims=keepdims)


@sum_.rule
def _(c_bar, c, a, *, axis, keepdims):
    if not keepdims and len(axis) < np.ndim(a):  # a number is repeated as it is
        c_bar = expand(c_bar, axis)
    return (np.broadcast_to(c_bar, np.shape(a)),)


@implements(np.sum)
def _sum(a, axis=None, dtype=None, out=None, keepdims=False, **options):
    """np.sum over one axis, several, or all (None)."""
    refuse("sum", {"dtype": dtype, "out": out, **options})
    return sum_(a, axis=normalize_axes(axis, a.ndim), keepdims=_flag(keepdims))


def _flag(keepdims):
    """NumPy's `keepdims`, which may be missing, as a bool."""
    return keepdims is not np._NoValue and bool(keepdims)


@implements(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, **options):
    """np.mean: the sum over the number of terms; integers become float64."""
    refuse("mean", {"dtype": dtype, "out": out, **options})
    axes = normalize_axes(axis, a.ndim)
    a = a if a.dtype.kind in "fc" else a.astype(float)
    return sum_(a, axis=axes, keepdims=_flag(keepdims)) / math.prod(a.shape[i] for i in axes)


# The variance is the mean of the squares $(a - m)^2$, not of $|a - m|^2$: the same for real numbers, and holomorphic.
@implements(np.var)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **options):
    """np.var: the mean of the squares of the distances from the mean, or their sum over n - ddof."""
    refuse("var", {"dtype": dtype, "out": out, **options})
    axes = normalize_axes(axis, a.ndim)
    n = math.prod(a.shape[i] for i in axes)
    return sum_(np.square(a - mean(a, axes, keepdims=True)), axis=axes, keepdims=_flag(keepdims)) / (n - ddof)


# At zero variance the derivative of the root is infinite, as it is for `np.sqrt`.
@implements(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **options):
    """np.std: the root of the variance."""
    return np.sqrt(var(a, axis, dtype, out, ddof, keepdims, **options))


# ## Product
# A product is a tree of multiplications: first half times second half, until one is left. The rule of multiplication
# never divides, so factors of zero need no special case, to any order.
@implements(np.prod)
def prod(a, axis=None, dtype=None, out=None, keepdims=False, **options):
    """np.prod over one axis, several, or all (None)."""
    refuse("prod", {"dtype": dtype, "out": out, **options})
    axes = normalize_axes(axis, a.ndim)
    a = a if a.dtype.kind in "fc" else a.astype(np.prod(np.ones(1, a.dtype)).dtype)  # small integers grow
    kept = [i for i in range(a.ndim) if i not in axes]
    kept_shape = tuple(a.shape[i] for i in kept)
    factors = np.reshape(np.transpose(a, (*axes, *kept)), (math.prod(a.shape[i] for i in axes), *kept_shape))
    while len(factors) > 1:
        half = len(factors) // 2
        odd = factors[2 * half :]
        factors = factors[:half] * factors[half : 2 * half]
        if len(odd):
            factors = np.concatenate([factors, odd])
    product = factors[0] if len(factors) else np.ones_like(np.sum(factors, axis=0))
    return expand(product, axes) if _flag(keepdims) else product


# ## Maximum and minimum
# $$ c = \max_i a_i, \qquad dc = da_{i^*}, \qquad \bar a_i = \frac{\bar c}{k}\,[a_i = c] $$
# where $k$ is the number of winners. If there are several, their share is the mean of the derivatives that the function has
# around the tie, and independent of the order of the elements.
@operation
def max_(a, *, axis, keepdims):
    """The largest element along some axes."""
    return np.max(a, axis=axis, keepdims=keepdims)


@operation
def min_(a, *, axis, keepdims):
    """The smallest element along some axes."""
    return np.min(a, axis=axis, keepdims=keepdims)


@max_.rule
@min_.rule
def _(c_bar, c, a, *, axis, keepdims):
    if not keepdims:
        c_bar, c = expand(c_bar, axis), expand(c, axis)
    winners = np.equal(a, c).astype(np.result_type(a))
    return (c_bar * (winners / np.sum(winners, axis=axis, keepdims=True)),)


@max_.holomorphic
def _(a, *, axis, keepdims):
    return _winner(np.max, a, axis, keepdims)


@min_.holomorphic
def _(a, *, axis, keepdims):
    return _winner(np.min, a, axis, keepdims)


def _winner(choose, a, axis, keepdims):
    """The winner by the real part, and the mean direction of all that tie."""
    wins = a.real == choose(a.real, axis=axis, keepdims=True)
    return choose(a.real, axis=axis, keepdims=keepdims) + 1j * np.mean(a.imag, axis=axis, keepdims=keepdims, where=wins)


@implements(np.max, np.amax)
def _max(a, axis=None, out=None, keepdims=False, **options):
    """np.max along one axis, several, or all (None)."""
    refuse("max", {"out": out, **options})
    return max_(a, axis=normalize_axes(axis, a.ndim), keepdims=_flag(keepdims))


@implements(np.min, np.amin)
def _min(a, axis=None, out=None, keepdims=False, **options):
    """np.min along one axis, several, or all (None)."""
    refuse("min", {"out": out, **options})
    return min_(a, axis=normalize_axes(axis, a.ndim), keepdims=_flag(keepdims))


# ## Running sum
# $$ c_i = \sum_{j \le i} a_j, \qquad \bar a_j = \sum_{i \ge j} \bar c_i $$
# the same running sum, from the other end.
@operation
def cumsum_(a, *, axis):
    """The running sum along an axis."""
    return np.cumsum(a, axis=axis)


@cumsum_.rule
def _(c_bar, c, a, *, axis):
    return (np.flip(np.cumsum(np.flip(c_bar, axis), axis), axis),)


@implements(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    """np.cumsum; without an axis, of all elements in a row."""
    refuse("cumsum", {"dtype": dtype, "out": out})
    if axis is None or a.ndim == 0:
        a, axis = np.ravel(a), axis or 0
    return cumsum_(a, axis=normalize_axis_index(axis, a.ndim))


# ## Softmax
# For the vectors $a$ along an axis. The sum over it is written out; the factor in front of it is the same for all terms:
# $$ c_i = \log \operatorname{softmax}(a)_i = a_i - \log \sum_j e^{a_j}, \qquad
#    dc_i = da_i - \frac{\sum_j e^{a_j}\,da_j}{\sum_j e^{a_j}} = da_i - \sum_j e^{c_j}\,da_j $$
# $$ \langle \bar c, dc \rangle = \sum_i \bar c_i\,da_i - \sum_i \bar c_i \sum_j e^{c_j}\,da_j
#    \quad\Rightarrow\quad \bar a_j = \bar c_j - e^{c_j} \sum_i \bar c_i $$
# The value doesn't change if a constant is taken from all $a_j$. It is the largest, so no exponential overflows; by the real part,
# for the complex step.
@operation
def log_softmax_(a, *, axis):
    """The logarithm of softmax along an axis."""
    shifted = _shifted(a, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@log_softmax_.rule
def _(c_bar, c, a, *, axis):
    return (c_bar - np.exp(c) * np.sum(c_bar, axis=axis, keepdims=True),)


# $$ c_i = \frac{e^{a_i}}{\sum_j e^{a_j}}, \qquad dc_i = c_i\,d \log c_i = c_i \Big(da_i - \sum_j c_j\,da_j\Big) $$
# $$ \langle \bar c, dc \rangle = \sum_i \bar c_i c_i\,da_i - \sum_i \bar c_i c_i \sum_j c_j\,da_j
#    \quad\Rightarrow\quad \bar a_j = c_j \Big(\bar c_j - \sum_i \bar c_i c_i\Big) $$
@operation
def softmax_(a, *, axis):
    """exp(a) over its sum along an axis."""
    e = np.exp(_shifted(a, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


@softmax_.rule
def _(c_bar, c, a, *, axis):
    return (c * (c_bar - np.sum(c_bar * c, axis=axis, keepdims=True)),)


def _shifted(a, axis):
    """a, less its largest element along an axis: then no exponential overflows."""
    return a - np.max(a.real, axis=axis, keepdims=True)


# ## Reductions whose derivative is zero
def _without_rule(function):
    """NumPy's reduction as an operation whose derivative is zero."""
    name = function.__name__

    def forward(a, *, axis, keepdims):
        return function(a.real, axis=axis, keepdims=keepdims)

    made = operation(forward, name)

    def reduced(a, axis=None, out=None, keepdims=False, **options):
        refuse(name, {"out": out, **options})
        return made(a, axis=axis, keepdims=_flag(keepdims))

    implements(function)(reduced)
    return made


argmax, argmin, all_, any_, count_nonzero = map(
    _without_rule, (np.argmax, np.argmin, np.all, np.any, np.count_nonzero)
)


# ## The same reductions as methods of ufuncs
# `np.add.reduce` is `np.sum` along the *first* axis, unless it is told otherwise.
def _along_first(function):
    return lambda a, axis=0, **options: OPERATIONS[function](a, axis, **options)


for _ufunc, _function in {np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min,
                          np.logical_and: np.all, np.logical_or: np.any}.items():  # fmt: skip
    OPERATIONS[_ufunc, "reduce"] = _along_first(_function)
OPERATIONS[np.add, "accumulate"] = _along_first(np.cumsum)


# ## Sorting


@operation
def argsort_(a, *, axis):
    """Where the elements of a sorted array are, along an axis; equal ones keep their order."""
    return np.argsort(a.real, axis=axis, kind="stable")


@implements(np.argsort)
def argsort(a, axis=-1, kind=None, *, stable=None):
    """np.argsort along an axis, or of all elements in a row (None)."""
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return argsort_(a, axis=axis)


# Sorting is an indexing by `argsort`, and so is its derivative.
@implements(np.sort)
def sort(a, axis=-1, kind=None, *, stable=None):
    """np.sort along an axis, or of all elements in a row (None)."""
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return np.take_along_axis(a, argsort(a, axis), axis)
