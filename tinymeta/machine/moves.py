r"""
# Moving numbers

Copies that change the order of the elements, and nothing else.
"""

import numpy as np

from .compiling import inner, kernel
from .vectors import at, lanes, load, read, splat, store, transpose_tile, write


# ## Transposes
# Of y and x, one is read or written across its rows, one element in each line of the cache. Squares of L x L elements (L lanes) pass
# through registers, and use whole lines of both.
@kernel
def transpose(W, y, x, m, n):
    """y (n x m) is x (m x n), transposed."""
    transpose_strided(W, y, m, x, n, m, n)


@inner
def transpose_strided(W, y, y_row, x, x_row, m, n):
    """The same, for rows that are further apart."""
    size = lanes(W)
    whole_rows, whole_columns = m - m % size, n - n % size
    for i in range(0, whole_rows, size):
        for j in range(0, whole_columns, size):
            transpose_tile(W, y + j * y_row + i, y_row, x + i * x_row + j, x_row)
    for i in range(m):
        for j in range(whole_columns if i < whole_rows else 0, n):
            store(W, y + j * y_row + i, load(W, x + i * x_row + j))


# ## Rows
@inner
def copy_row(W, y, x, n):
    """y = x, n elements side by side."""
    for i in range(0, n, lanes(W)):
        here = min(lanes(W), n - i)
        write(W, y + i, read(W, x + i, here, splat(W, 0)), here)


@inner
def fill_row(W, y, value, n):
    """n elements with the same value."""
    for i in range(0, n, lanes(W)):
        write(W, y + i, splat(W, value), min(lanes(W), n - i))


@kernel
def copy(W, y, x, n):
    """y = x, n elements."""
    copy_row(W, y, x, n)


@kernel
def strided_copy(W, y, x, table, entry):
    """y[i0, i1, i2, i3] = x[i0, i1, i2, i3], with any strides on both sides.

    From `entry` on, the table has the four lengths, the four strides of y and those of x, in elements. A stride of 0 repeats, a
    negative one goes backwards. Broadcasts, slices, transposes, pieces of a concatenation are all this.
    """
    n0, n1, n2, n3 = table[entry], table[entry + 1], table[entry + 2], table[entry + 3]
    y0, y1, y2, y3 = table[entry + 4], table[entry + 5], table[entry + 6], table[entry + 7]
    x0, x1, x2, x3 = table[entry + 8], table[entry + 9], table[entry + 10], table[entry + 11]
    for i0 in range(n0):
        for i1 in range(n1):
            to, source = y + i0 * y0 + i1 * y1, x + i0 * x0 + i1 * x1
            if y2 == 1 and x3 == 1:
                transpose_strided(W, to, y3, source, x2, n2, n3)
            else:
                for i2 in range(n2):
                    copy_line(W, at((to, y2, y3), i2, 0), y3, at((source, x2, x3), i2, 0), x3, n3)


@inner
def copy_line(W, y, y_step, x, x_step, n):
    """y = x, n elements with a step between them."""
    if y_step == 1 and x_step == 1:
        copy_row(W, y, x, n)
    elif y_step == 1 and x_step == 0 and n > 0:
        fill_row(W, y, load(W, x), n)
    else:
        for i in range(n):
            store(W, y + i * y_step, load(W, x + i * x_step))


# ## Rows by number
# Row i of x begins `apart` elements after row i - 1, and then as many steps further as the i-th number says: with apart = 0, numbers
# choose among the same rows for each i; with the step 1 and apart = n, each i has a row of n elements of its own to choose from. The
# numbers are data, floats like all in W, and data can be wrong: both functions look at all of them before they touch anything, and return
# False if there is one that isn't below the bound (NaN isn't). Negative ones count from the end.
@inner
def all_in_range(W, numbers, count, bound):
    """Whether each of the numbers is that of a row: from -bound up to below the bound."""
    good, bound = True, np.int64(bound)
    for i in range(numbers, numbers + count):
        good &= -bound <= load(W, i) < bound
    return good


@inner
def distance(W, numbers, i, bound, apart, step):
    """How far it is to the row of the i-th number."""
    number = np.int64(load(W, numbers + i))
    return i * apart + (number + bound if number < 0 else number) * step


@kernel
def gather(W, y, x, numbers, count, bound, n, apart, step):
    """Row i of y, n elements, is the one at x + i * apart + numbers[i] * step."""
    if not all_in_range(W, numbers, count, bound):
        return False
    for i in range(count):
        copy_row(W, y + i * n, x + distance(W, numbers, i, bound, apart, step), n)
    return True


@kernel
def scatter_add(W, y, x, numbers, count, bound, n, apart, step):
    """Row i of x, n elements, is added to the one at y + i * apart + numbers[i] * step, in the order of i."""
    if not all_in_range(W, numbers, count, bound):
        return False
    for i in range(count):
        to, source = y + distance(W, numbers, i, bound, apart, step), x + i * n
        for j in range(0, n, lanes(W)):
            here = min(lanes(W), n - j)
            write(W, to + j, read(W, to + j, here, splat(W, 0)) + read(W, source + j, here, splat(W, 0)), here)
    return True
