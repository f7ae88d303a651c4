r"""
# Element by element

The result has m rows of n elements. Each operand has its own strides, which say how it is broadcast: (n, 1) for a full matrix,
(0, 1) for one row, (1, 0) for one column, (0, 0) for one number. If none is a row or a column, m is best 1.
"""

from .compiling import inner, kernel, spliced
from .vectors import fma, lanes, load, read, scratch, splat_four, splat_pair, vload_like, vload_part, vstore, vstore_part, write


# ## Functions of one array
# A long calculation waits for itself; four registers at once wait together.
@spliced
def map_one(function, W, y, x, n):
    step = 4 * lanes(W)
    for i in range(0, n, step):
        here = min(step, n - i)
        write(W, y + i, function(read(W, x + i, here, splat_four(W, 0))), here)


# ## Functions of two arrays
@spliced
def map_two(function, W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    space = scratch(W)
    for i in range(m if n else 0):
        to = y + i * n
        left = line(W, a + i * a_row, a_column, space)
        right = line(W, b + i * b_row, b_column, space + 2 * lanes(W))
        whole = n - n % (2 * lanes(W))
        for j in range(0, whole, 2 * lanes(W)):
            x = vload_like(W, left + j * a_column, splat_pair(W, 0))
            vstore(W, to + j, function(x, vload_like(W, right + j * b_column, splat_pair(W, 0))))
        if n > whole:
            x = vload_part(W, left + whole * a_column, n - whole, splat_pair(W, 0))
            v = function(x, vload_part(W, right + whole * b_column, n - whole, splat_pair(W, 0)))
            vstore_part(W, to + whole, v, n - whole)


# Where an operand stays at one number, it is read from a vector full of it: so the loop along the line is one and the same for all.
@inner
def line(W, x, step, space):
    """Where the vectors of a line are read: j elements along, at j * step."""
    if step:
        return x
    vstore(W, space, splat_pair(W, load(W, x)))
    return space


# ## Multiply and add
@kernel
def multiply_add(W, y, d, s, a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column):
    """y = d + s a b, element by element, with the number at the offset s."""
    add_multiples(W, y, d, load(W, s), a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column)


@inner
def add_multiples(W, y, d, s, a, b, m, n, d_row, d_column, a_row, a_column, b_row, b_column):
    space, pair = scratch(W), 2 * lanes(W)
    for i in range(m if n else 0):
        to, start = y + i * n, line(W, d + i * d_row, d_column, space)
        left, right = line(W, a + i * a_row, a_column, space + pair), line(W, b + i * b_row, b_column, space + 2 * pair)
        whole = n - n % pair
        for j in range(0, whole, pair):
            x = s * vload_like(W, left + j * a_column, splat_pair(W, 0))
            x = fma(x, vload_like(W, right + j * b_column, x), vload_like(W, start + j * d_column, x))
            vstore(W, to + j, x)
        if n > whole:
            x = s * vload_part(W, left + whole * a_column, n - whole, splat_pair(W, 0))
            x = fma(x, vload_part(W, right + whole * b_column, n - whole, x), vload_part(W, start + whole * d_column, n - whole, x))
            vstore_part(W, to + whole, x, n - whole)
