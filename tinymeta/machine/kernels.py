r"""
# Kernels: the machine's work

Each works on the flat array `W`; operands are offsets from its start (`vectors` says more), row-major, without gaps. `y` is the
result; in an element-wise kernel it may be one of the operands. Nothing is compiled before its first call with an array of float64 or
float32.

`twins` has the same functions with the same arguments in plain NumPy: to read first, to check against, to fall back on.
"""

import operator
from math import inf

import numpy as np

from .compiling import inner, kernel, spliced
from .elementary import exponential, logarithm, sigmoid_of, tanh_of
from .elimination import cholesky, determinant, solve
from .maps import map_one, map_two, multiply_add
from .moves import copy, gather, scatter_add, strided_copy, transpose
from .products import product
from .vectors import (
    choose,
    greatest,
    greatest_of_lanes,
    lanes,
    least,
    least_of_lanes,
    load,
    magnitude,
    read,
    scratch,
    splat,
    square_root,
    store,
    sum_of_lanes,
    vload,
    write,
)

__all__ = [
    "absolute", "add", "cholesky", "copy", "determinant", "divide", "exp", "gather", "log", "log_softmax", "maximum", "maximum_along",
    "minimum", "minimum_along", "multiply", "multiply_add", "negative", "product", "relu", "running_sum", "scatter_add", "sigmoid",
    "sign", "softmax", "solve", "sqrt", "square", "strided_copy", "subtract", "sum_along", "tanh", "transpose",
]  # fmt: skip


# ## Functions of one array
@kernel
def exp(W, y, x, n):
    """y = exp(x), n elements."""
    map_one(exponential, W, y, x, n)


@kernel
def log(W, y, x, n):
    """y = log(x), n elements."""
    map_one(logarithm, W, y, x, n)


@kernel
def tanh(W, y, x, n):
    """y = tanh(x), n elements."""
    map_one(tanh_of, W, y, x, n)


@kernel
def sigmoid(W, y, x, n):
    """y = 1 / (1 + exp(-x)), n elements."""
    map_one(sigmoid_of, W, y, x, n)


@kernel
def negative(W, y, x, n):
    """y = -x, n elements."""
    map_one(operator.neg, W, y, x, n)


@kernel
def sqrt(W, y, x, n):
    """y = sqrt(x), n elements."""
    map_one(square_root, W, y, x, n)


@kernel
def absolute(W, y, x, n):
    """y = |x|, n elements."""
    map_one(magnitude, W, y, x, n)


@inner
def square_of(x):
    """x^2 in each lane."""
    return x * x


@kernel
def square(W, y, x, n):
    """y = x^2, n elements."""
    map_one(square_of, W, y, x, n)


@inner
def sign_of(x):
    """-1, 0 or 1 in each lane; NaN stays."""
    return choose(x > 0, 1, choose(x < 0, -1, choose(x == 0, 0, x)))  # NaN is left


@kernel
def sign(W, y, x, n):
    """y = sign(x), n elements."""
    map_one(sign_of, W, y, x, n)


@inner
def relu_of(x):
    """max(x, 0) in each lane; NaN stays."""
    return greatest(x, 0)


@kernel
def relu(W, y, x, n):
    """y = max(x, 0), n elements."""
    map_one(relu_of, W, y, x, n)


# ## Functions of two arrays
@kernel
def add(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = a + b."""
    map_two(operator.add, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


@kernel
def subtract(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = a - b."""
    map_two(operator.sub, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


@kernel
def multiply(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = a b, element by element."""
    map_two(operator.mul, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


@kernel
def divide(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = a / b, element by element."""
    map_two(operator.truediv, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


@kernel
def maximum(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = max(a, b), element by element; NaN if one is."""
    map_two(greatest, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


@kernel
def minimum(W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = min(a, b), element by element; NaN if one is."""
    map_two(least, W, y, a, b, m, n, a_row, a_column, b_row, b_column)


# ## Reductions
# y[i, k] is made of x[i, :, k], for x of p x q x r: all elements are (1, n, 1), the rows of a matrix (1, m, n), its columns (m, n, 1).
@spliced
def reduce(combine, over_lanes, start, W, y, x, p, q, r):
    """One of the three reductions below."""
    if r == 1:
        for i in range(p):
            store(W, y + i, over_lanes(along_line(combine, W, x + i * q, q, splat(W, start))))
    else:
        for i in range(p):
            across_lines(combine, W, y + i * r, x + i * q * r, q, r, splat(W, start))


# One sum after the other would wait for each addition; four at a time don't. And many short sums lose fewer digits than a long one: after
# 2048 elements, another one is begun, and after 32 of these sums, another sum of them.
@spliced
def along_line(combine, W, x, n, start):
    """A vector that combines n elements."""
    total, part, size = start, start, lanes(W)
    for first in range(0, np.int64(n), 2048):
        if first % (32 * 2048) == 0:
            total, part = combine(total, part), start
        s0 = s1 = s2 = s3 = start
        last = min(first + 2048, np.int64(n))
        whole = last - (last - first) % (4 * size)
        for i in range(first, whole, 4 * size):
            s0, s1 = combine(s0, vload(W, x + i)), combine(s1, vload(W, x + i + size))
            s2, s3 = combine(s2, vload(W, x + i + 2 * size)), combine(s3, vload(W, x + i + 3 * size))
        for i in range(whole, last, size):
            s0 = combine(s0, read(W, x + i, min(size, last - i), start))
        part = combine(part, combine(combine(s0, s1), combine(s2, s3)))
    return combine(total, part)


@spliced
def across_lines(combine, W, y, x, q, r, start):
    """Combine q lines of r elements."""
    for k in range(0, r, lanes(W)):
        here, total = min(lanes(W), r - k), start
        for j in range(q):
            total = combine(total, read(W, x + j * r + k, here, start))
        write(W, y + k, total, here)


@kernel
def sum_along(W, y, x, p, q, r):
    """y[i, k] is the sum of x[i, :, k]."""
    reduce(operator.add, sum_of_lanes, 0.0, W, y, x, p, q, r)


@kernel
def maximum_along(W, y, x, p, q, r):
    """y[i, k] is the largest of x[i, :, k]."""
    reduce(greatest, greatest_of_lanes, -inf, W, y, x, p, q, r)


@kernel
def minimum_along(W, y, x, p, q, r):
    """y[i, k] is the smallest of x[i, :, k]."""
    reduce(least, least_of_lanes, inf, W, y, x, p, q, r)


@kernel
def running_sum(W, y, x, p, q, r):
    """y[i, j, k] = x[i, 0, k] + ... + x[i, j, k]"""
    for i in range(p):
        for k in range(r if q else 0):
            total = load(W, x + i * q * r + k)
            store(W, y + i * q * r + k, total)
            for j in range(1, q):
                total += load(W, x + (i * q + j) * r + k)
                store(W, y + (i * q + j) * r + k, total)


# ## Softmax
# $$ \operatorname{softmax}(x)_j = \frac{e^{x_j - t}}{\sum_i e^{x_i - t}}, \qquad
# \ln \operatorname{softmax}(x)_j = x_j - t - \ln \sum_i e^{x_i - t} $$
# for each row x, with its largest element t, so that no exponential overflows. A row may be short, and each step takes a while to
# begin; so it is taken for as many rows at once as have 1024 elements.
AT_ONCE = 1024


@kernel
def softmax(W, y, x, m, n):
    """y must not overlap x."""
    y, x, m, n, sums = np.int64(y), np.int64(x), np.int64(m), np.int64(n), scratch(W)
    group = max(1, AT_ONCE // max(n, 1))
    for i in range(0, m, group):
        rows = min(group, m - i)
        exponentials(W, y + i * n, sums, sums, x + i * n, rows, n)
        divide(W, y + i * n, y + i * n, sums, rows, n, n, 1, 1, 0)


@kernel
def log_softmax(W, y, x, m, n):
    """y must not overlap x."""
    y, x, m, n, tops, sums = np.int64(y), np.int64(x), np.int64(m), np.int64(n), scratch(W), scratch(W)
    group = max(1, AT_ONCE // max(n, 1))
    for i in range(0, m, group):
        rows = min(group, m - i)
        exponentials(W, y + i * n, tops, sums, x + i * n, rows, n)
        log(W, sums, sums, rows)
        subtract(W, y + i * n, x + i * n, tops, rows, n, n, 1, 1, 0)
        subtract(W, y + i * n, y + i * n, sums, rows, n, n, 1, 1, 0)


@inner
def exponentials(W, y, tops, sums, x, m, n):
    """For each row, its largest element; y, the exponentials of how much less the others are; and their sum, which may take its place."""
    maximum_along(W, tops, x, m, n, 1)
    subtract(W, y, x, tops, m, n, n, 1, 1, 0)
    exp(W, y, y, m * n)
    sum_along(W, sums, y, m, n, 1)
