r"""
# Elimination: solve, determinant, Cholesky

Gaussian elimination takes multiples of one row of a matrix from the rows below it, until there are zeros below its diagonal,

$$ a_{i\cdot} \leftarrow a_{i\cdot} - \frac{a_{ic}}{a_{cc}}\,a_{c\cdot} \qquad \text{for } c = 1, 2, \dots \text{ and all } i > c, $$

and each time the row with the largest element on or below the diagonal in column c, the *pivot*, is first brought up to be row c.

For the small matrices that these kernels are for, most of whose rows fit into a few registers, this is as fast as LAPACK or faster. And
it needs neither SciPy, which takes longer to import than a small program to run, nor locks and threads that aren't the machine's.

In float32 they compute in float32; NumPy goes through float64 there, and rounds.

They work in scratch memory, on rows that are filled up to whole vectors. What is left of the diagonal, where the zeros would be, is never
read again; so the first vector of a row that is taken from another one may begin there.
"""

import math

import numpy as np

from .compiling import inner, kernel
from .lower import DETERMINANTS
from .moves import transpose_strided
from .vectors import lanes, load, read, splat, store, vload, vstore, write

_, SIGN, LOGARITHM = range(len(DETERMINANTS))


@inner
def spread(W, y, x, n):
    """Copy n elements, and zeros behind them to the end of the vector."""
    for j in range(0, n, lanes(W)):
        vstore(W, y + j, read(W, x + j, min(lanes(W), n - j), splat(W, 0)))


@inner
def take_from(W, y, x, factor, start, end):
    """y -= factor x, in the vectors from the one that the start is in up to the end."""
    for j in range(start - start % lanes(W), end, lanes(W)):
        vstore(W, y + j, vload(W, y + j) - factor * vload(W, x + j))


@inner
def exchange(W, y, x, n):
    """Two rows of n elements change places."""
    for j in range(0, n, lanes(W)):
        here, there = vload(W, y + j), vload(W, x + j)
        vstore(W, y + j, there)
        vstore(W, x + j, here)


@inner
def pivot_row(W, a, c, n, row):
    """The row with the largest element of column c on or below the diagonal."""
    best, largest = c, abs(load(W, a + c * row + c))
    for i in range(c + 1, n):
        size = abs(load(W, a + i * row + c))
        if size > largest:
            best, largest = i, size
    return best


@inner
def eliminate(W, a, n, row):
    """Bring the n rows at `a`, of `row` elements each, into triangular form; 0 if a pivot is 0, else 1 or -1: the sign of the exchanges."""
    sign = 1
    for c in range(n):
        top, pivot = a + c * row, pivot_row(W, a, c, n, row)
        if pivot != c:
            exchange(W, top, a + pivot * row, row)
            sign = -sign
        divisor = load(W, top + c)
        if divisor == 0:
            return 0
        for i in range(c + 1, n):
            take_from(W, a + i * row, top, load(W, a + i * row + c) / divisor, c + 1, row)
    return sign


# ## Solve
# $$ A X = B \;\rightarrow\; U X = C, \qquad x_c = \frac{1}{u_{cc}} \Big(c_c - \sum_{i > c} u_{ci}\,x_i\Big) \quad
#    \text{for } c = n, n - 1, \dots $$
# B's rows stand behind A's, and so they are treated alike.
@kernel
def solve(W, x, a, b, s, n, k, column, row):
    """A X = B for A of n x n and B of n x k; False if A is singular.

    At s there is room for n rows of `row` elements: first A's, and from `column` on B's, both in whole vectors.
    """
    x, a, b, s = np.int64(x), np.int64(a), np.int64(b), np.int64(s)
    n, k, column, row = np.int64(n), np.int64(k), np.int64(column), np.int64(row)
    for i in range(n):
        spread(W, s + i * row, a + i * n, n)
        spread(W, s + i * row + column, b + i * k, k)
    if eliminate(W, s, n, row) == 0:
        return False
    for c in range(n - 1, -1, -1):
        line = s + c * row
        for j in range(0, k, lanes(W)):
            total = vload(W, line + column + j)
            for i in range(c + 1, n):
                total = total - load(W, line + i) * vload(W, s + i * row + column + j)
            total = total / load(W, line + c)
            vstore(W, line + column + j, total)
            write(W, x + c * k + j, total, min(lanes(W), k - j))
    return True


# ## Determinant
# $$ \det A = \pm \prod_c u_{cc} = \pm \exp \sum_c \log |u_{cc}|, $$
# where each exchange of rows turns the sign. By its logarithm, so that no product on the way is too large or too small.
@kernel
def determinant(W, y, a, s, n, row, part):
    """The determinant of A of n x n, or its sign, or the logarithm of its absolute value; at s there is room for n rows."""
    y, a, s, n, row = np.int64(y), np.int64(a), np.int64(s), np.int64(n), np.int64(row)
    for i in range(n):
        spread(W, s + i * row, a + i * n, n)
    sign = eliminate(W, s, n, row)
    logarithm = 0.0 if sign else -math.inf
    for c in range(n if sign else 0):
        diagonal = load(W, s + c * row + c)
        sign = -sign if diagonal < 0 else sign
        logarithm += math.log(abs(diagonal))
    store(W, y, sign if part == SIGN else logarithm if part == LOGARITHM else sign * math.exp(logarithm))


# ## Cholesky
# For a symmetric matrix, what is left after each step is symmetric again: so the upper triangle is enough, and a pivot that isn't the
# largest is large enough if all are positive. Then
# $$ A = U^\top D^{-1} U = L L^\top, \qquad L = U^\top D^{-1/2}, \qquad D = \operatorname{diag}(u_{11}, u_{22}, \dots). $$
@kernel
def cholesky(W, l, a, s, n, row):
    """A = L L' for A of n x n, of which the lower triangle is read; False if it isn't positive definite. At s there is room for n rows."""
    l, a, s, n, row = np.int64(l), np.int64(a), np.int64(s), np.int64(n), np.int64(row)
    transpose_strided(W, s, row, a, n, n, n)
    for c in range(n):
        top = s + c * row
        divisor = load(W, top + c)
        if divisor <= 0:
            return False
        root = math.sqrt(divisor)
        store(W, l + c * n + c, root)
        for i in range(c + 1, n):
            store(W, l + c * n + i, 0)
            store(W, l + i * n + c, load(W, top + i) / root)
            take_from(W, s + i * row, top, load(W, top + i) / divisor, i, row)
    return True
