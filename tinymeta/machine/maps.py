r"""
# Element by element

The result has m rows of n elements. Each operand has its own strides, which say how it is broadcast: (n, 1) for a full matrix,
(0, 1) for one row, (1, 0) for one column, (0, 0) for one number. If none is a row or a column, m is best 1.
"""

import numpy as np

from .compiling import inner, kernel, spliced
from .vectors import fma, lanes, load, read, splat_four, splat_pair, unknown, vload_like, vload_part, vstore, vstore_part, write


# ## Functions of one array
# A long calculation waits for itself; four registers at once wait together.
@spliced
def map_one(function, W, y, x, n):
    """y = function(x), n elements."""
    step = 4 * lanes(W)
    for i in range(0, n, step):
        here = min(step, n - i)
        write(W, y + i, function(read(W, x + i, here, splat_four(W, 0))), here)


# ## Functions of two arrays
@spliced
def map_two(function, W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    """y = function(a, b), m rows of n elements."""
    step, n = unknown(2 * lanes(W)), np.int64(n)
    whole = n - n % (2 * lanes(W))
    for i in range(m if n else 0):
        to, left, right = y + i * n, a + i * a_row, b + i * b_row
        x, z = splat_pair(W, load(W, left)), splat_pair(W, load(W, right))
        j = np.int64(0)
        while j != whole:
            vstore(W, to + j, function(along(W, left + j, a_column, None, x), along(W, right + j, b_column, None, z)))
            j += step
        if n > whole:
            x, z = along(W, left + whole, a_column, n - whole, x), along(W, right + whole, b_column, n - whole, z)
            vstore_part(W, to + whole, function(x, z), n - whole)


@inner
def along(W, offset, step, count, repeated):
    """The next elements of a line: all that a vector has (None), or so many of them; if the line stays at one number, that."""
    if step == 0:
        return repeated
    return vload_like(W, offset, repeated) if count is None else vload_part(W, offset, count, repeated)


# ## Multiply and add
@kernel
def multiply_add(W, y, d, s, a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column):
    """y = d + s a b, element by element, with the number at the offset s."""
    add_multiples(W, y, d, load(W, s), a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column)


@inner
def add_multiples(W, y, d, s, a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column):
    """The same with the number s itself."""
    step = 2 * lanes(W)
    whole = n - n % step
    for i in range(m if n else 0):
        to, start, left, right = y + i * n, d + i * d_row, a + i * a_row, b + i * b_row
        u, v, w = splat_pair(W, load(W, start)), splat_pair(W, load(W, left)), splat_pair(W, load(W, right))
        for j in range(0, whole, step):
            x, z = along(W, left + j, a_column, None, v), along(W, right + j, b_column, None, w)
            vstore(W, to + j, fma(s * x, z, along(W, start + j, d_column, None, u)))
        if n > whole:
            x, z = along(W, left + whole, a_column, n - whole, v), along(W, right + whole, b_column, n - whole, w)
            vstore_part(W, to + whole, fma(s * x, z, along(W, start + whole, d_column, n - whole, u)), n - whole)
