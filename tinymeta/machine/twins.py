r"""
# The kernels' twins

What each kernel computes, in a few lines of NumPy, with the same name and the same arguments. A kernel is checked against its
twin; where there is no Numba, the twin does its work.
"""

import numpy as np

LEFT, RIGHT = 1, 2  # which factor of a product is stored transposed


class Memory:
    """What NumPy asks of an object to see an array in it."""

    def __init__(self, owner, address, shape, strides):
        self.owner = owner
        self.__array_interface__ = {"version": 3, "typestr": owner.dtype.str, "data": (address, False), "shape": shape, "strides": strides}


def view(W, offset, shape, strides=None):
    """The array that starts at an offset from the start of W, be it in W or not; offset and strides count elements."""
    address = (W.ctypes.data + int(offset) * W.itemsize) % 2**64
    in_bytes = None if strides is None else tuple(int(step) * W.itemsize for step in strides)
    return np.asarray(Memory(W, address, tuple(map(int, shape)), in_bytes))


# ## Functions of one array
def twin_of_one(function):
    def twin(W, y, x, n):
        with np.errstate(all="ignore"):
            view(W, y, [n])[:] = function(view(W, x, [n]))

    return twin


exp, log, tanh, sqrt, negative, absolute, square, sign, copy = map(
    twin_of_one, (np.exp, np.log, np.tanh, np.sqrt, np.negative, np.absolute, np.square, np.sign, np.copy)
)
relu = twin_of_one(lambda x: np.maximum(x, 0))
sigmoid = twin_of_one(lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))))


# ## Functions of two arrays
def twin_of_two(function):
    def twin(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
        with np.errstate(all="ignore"):
            view(W, y, [m, n])[:] = function(view(W, a, [m, n], [a_row, a_column]), view(W, b, [m, n], [b_row, b_column]))

    return twin


add, subtract, multiply, divide, maximum, minimum = map(twin_of_two, (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum))


def multiply_add(W, y, d, s, a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column):
    terms = view(W, a, [m, n], [a_row, a_column]) * view(W, b, [m, n], [b_row, b_column])
    view(W, y, [m, n])[:] = view(W, d, [m, n], [d_row, d_column]) + view(W, s, []) * terms


# ## Products
def product(W, c, a, b, m, k, n, transposed, d, d_row, d_column, scale):
    A = view(W, a, [k, m]).T if transposed & LEFT else view(W, a, [m, k])
    B = view(W, b, [n, k]).T if transposed & RIGHT else view(W, b, [k, n])
    view(W, c, [m, n])[:] = view(W, d, [m, n], [d_row, d_column]) + view(W, scale, []) * (A @ B)


# ## Reductions
def sum_along(W, y, x, p, q, r):
    view(W, y, [p, r])[:] = np.sum(view(W, x, [p, q, r]), axis=1)


def maximum_along(W, y, x, p, q, r):
    view(W, y, [p, r])[:] = np.max(view(W, x, [p, q, r]), axis=1, initial=-np.inf)


def minimum_along(W, y, x, p, q, r):
    view(W, y, [p, r])[:] = np.min(view(W, x, [p, q, r]), axis=1, initial=np.inf)


def running_sum(W, y, x, p, q, r):
    view(W, y, [p, q, r])[:] = np.cumsum(view(W, x, [p, q, r]), axis=1)


def softmax(W, y, x, m, n):
    rows = view(W, x, [m, n])
    with np.errstate(all="ignore"):
        e = np.exp(rows - np.max(rows, axis=1, keepdims=True, initial=-np.inf))
        view(W, y, [m, n])[:] = e / np.sum(e, axis=1, keepdims=True)


def log_softmax(W, y, x, m, n):
    rows = view(W, x, [m, n])
    with np.errstate(all="ignore"):
        shifted = rows - np.max(rows, axis=1, keepdims=True, initial=-np.inf)
        view(W, y, [m, n])[:] = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


# ## Elimination
def solve(W, x, a, b, s, n, k, column, row):
    try:
        view(W, x, [n, k])[:] = np.linalg.solve(view(W, a, [n, n]), view(W, b, [n, k]))
    except np.linalg.LinAlgError:
        return False
    return True


def determinant(W, y, a, s, n, row, part):
    sign, logarithm = np.linalg.slogdet(view(W, a, [n, n]))
    view(W, y, [])[...] = (sign * np.exp(logarithm), sign, logarithm)[part]


def cholesky(W, l, a, s, n, row):
    try:
        view(W, l, [n, n])[:] = np.linalg.cholesky(view(W, a, [n, n]))
    except np.linalg.LinAlgError:
        return False
    return True


# ## Moves
def transpose(W, y, x, m, n):
    view(W, y, [n, m])[:] = view(W, x, [m, n]).T


def strided_copy(W, y, x, table, entry):
    shape, y_strides, x_strides = table[entry : entry + 12].reshape(3, 4)
    view(W, y, shape, y_strides)[:] = view(W, x, shape, x_strides)


def distances(W, numbers, count, bound, apart, step):
    """How far the rows are from the first; None if a number is out of range."""
    numbers = view(W, numbers, [count])
    good = np.all((-bound <= numbers) & (numbers < bound))
    return np.arange(count) * apart + numbers.astype(int) % bound * step if good else None


def gather(W, y, x, numbers, count, bound, n, apart, step):
    found = distances(W, numbers, count, bound, apart, step)
    for i, distance in enumerate([] if found is None else found):
        view(W, y + i * n, [n])[:] = view(W, x + distance, [n])
    return found is not None


def scatter_add(W, y, x, numbers, count, bound, n, apart, step):
    found = distances(W, numbers, count, bound, apart, step)
    for i, distance in enumerate([] if found is None else found):
        view(W, y + distance, [n])[:] += view(W, x + i * n, [n])
    return found is not None
