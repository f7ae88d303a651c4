r"""
# Products of small matrices

$$ C = D + s\,A B, \qquad C_{ij} = D_{ij} + s \sum_p A_{ip} B_{pj} $$

A matrix is a triple (offset, row stride, column stride): a transposed one has its strides swapped, a bias that is the same in
each row has the row stride 0, a number that is the same everywhere has no strides at all. `D` may be `C` itself, or a zero.

**What limits a product.** A multiply-add of two vectors takes half a cycle, and so does a load. A loop that loads both factors for
each multiply-add runs at half the possible speed; one that loads and stores the sum as well, at a third. So a *tile* of C is kept in
registers while the loop runs along $p$: with 5 rows and 2 vectors of columns, there are 10 multiply-adds for 7 loads. At the edges
the tile is cut: rows beyond the last repeat the last one and are not stored, columns beyond the last are not touched in memory.
"""

import numpy as np

from .compiling import inner, kernel, spliced
from .maps import add_multiples
from .moves import transpose_strided
from .vectors import (
    SCRATCH,
    at,
    fma,
    lanes,
    load,
    scratch,
    splat,
    splat_four,
    splat_pair,
    sums_of_four,
    unknown,
    vload,
    vload_like,
    vload_part,
    vstore,
    vstore_part,
)

ROWS = np.int64(5)  # of a tile
BLOCK = np.int64(SCRATCH // 64)  # terms of a sum that are packed at once, a pair of registers each
LEFT, RIGHT = 1, 2  # which factor is stored transposed; 3 is both


@kernel
def product(W, c, a, b, m, k, n, transposed, d, d_row, d_column, scale):
    """C = D + s A B, for C of m x n, A of m x k, B of k x n, and s the number at the offset `scale`.

    D's row stride is n, 1 or 0, its column stride 1 or 0. C must not overlap A or B, and D only if it is C.
    """
    c, a, b, d, one = np.int64(c), np.int64(a), np.int64(b), np.int64(d), np.int64(1)
    m, k, n, d_row, d_column = np.int64(m), np.int64(k), np.int64(n), np.int64(d_row), np.int64(d_column)
    A = (a, one, m) if transposed & LEFT else (a, k, one)
    B = (b, one, k) if transposed & RIGHT else (b, n, one)
    C, D, s = (c, n, one), (d, d_row, d_column), load(W, scale)
    if n == 1:  # C' = D' + s B' A' has its vectors along C
        A, B, C, D, m, n = flipped(B), flipped(A), flipped(C), flipped(D), one, m
    by_rows, by_columns = B[2] == 1, B[1] == 1 and A[2] == 1
    if k == 1:
        add_multiples(W, c, d, s, A[0], B[0], m, n, D[1], D[2], 1, 0, 0, 1)  # a column times a row
    elif by_columns and not by_rows and m < 5:
        dot_product(W, C, A, B, D, s, m, k, n)
    elif by_rows and m == 1:
        row_product(W, C, A, B, D, s, k, n)
    else:
        packed = not by_rows or (m >= 32 and k >= 32 and k * n >= 4096)
        tiled_product(W, C, A, B, D, s, m, k, n, packed)


@inner
def flipped(M):
    """The transposed matrix."""
    return M[0], M[2], M[1]


@inner
def from_row(M, i):
    """Without the rows before the i-th."""
    return at(M, i, 0), M[1], M[2]


@inner
def from_column(M, j):
    """Without the columns before the j-th."""
    return at(M, 0, j), M[1], M[2]


# ## One row
# Nothing that is loaded from B serves a second row. But each sum waits for its last multiply-add, so there are many at once: long vectors.
@spliced
def row_product(W, C, A, B, D, s, k, n):
    """A has one row, and B's rows are contiguous."""
    step = 4 * lanes(W)
    for j in range(0, n - n % step, step):
        row_tile(W, from_column(C, j), A, from_column(B, j), from_column(D, j), s, k, None, splat_four(W, 0))
    j, columns = n - n % step, n % step
    if columns:
        row_tile(W, from_column(C, j), A, from_column(B, j), from_column(D, j), s, k, columns, splat_four(W, 0))


@inner
def row_tile(W, C, A, B, D, s, k, columns, zero):
    """As many columns as four registers have."""
    total, a, end, row = zero, A[0], at(A, 0, k), B[0]
    while a != end:
        total = fma(load(W, a), read_row(W, row, columns, zero), total)
        a, row = a + A[2], row + B[1]
    finish(W, C, D, s, 0, total, columns, zero)


# ## Tiles: vectors along the rows of B
# One vector of B times one number of A, for each of 5 rows, for all the rows of A and as many columns as fit into a vector.
# A loop that counted its terms would be unrolled by the compiler, with more to set up than a short sum takes: this one ends where A ends.
@inner
def tiles(W, C, A, B, D, s, m, k, columns, zero):
    """All rows of A, for a tile's columns."""
    for i in range(0, m, ROWS):
        rows = min(ROWS, m - i)
        a0, a1, a2 = at(A, i, 0), at(A, i + min(1, rows - 1), 0), at(A, i + min(2, rows - 1), 0)
        a3, a4 = at(A, i + min(3, rows - 1), 0), at(A, i + min(4, rows - 1), 0)
        s0 = s1 = s2 = s3 = s4 = zero
        p, end, row = np.int64(0), k * A[2], B[0]
        while p != end:
            b = read_row(W, row, columns, zero)
            s0 = fma(load(W, a0 + p), b, s0)
            s1 = fma(load(W, a1 + p), b, s1)
            s2 = fma(load(W, a2 + p), b, s2)
            s3 = fma(load(W, a3 + p), b, s3)
            s4 = fma(load(W, a4 + p), b, s4)
            p, row = p + A[2], row + B[1]
        if rows == ROWS:
            finish(W, C, D, s, i, s0, columns, zero)
            finish(W, C, D, s, i + 1, s1, columns, zero)
            finish(W, C, D, s, i + 2, s2, columns, zero)
            finish(W, C, D, s, i + 3, s3, columns, zero)
            finish(W, C, D, s, i + 4, s4, columns, zero)
        else:
            for row in range(i, i + rows):
                finish(W, C, D, s, row, s0, columns, zero)
                s0, s1, s2 = s1, s2, s3  # at most four


@inner
def finish(W, C, D, s, i, total, columns, zero):
    """Write a row: D, which has a column stride of 1 or 0, plus s times the sums."""
    d = read_row(W, at(D, i, 0), columns, zero) if D[2] else zero + load(W, at(D, i, 0))
    write_row(W, at(C, i, 0), fma(s, total, d), columns)


# `columns` is None if a vector has no more than these: then nothing is masked.
@inner
def read_row(W, offset, columns, zero):
    """A row of a tile from memory."""
    return vload_like(W, offset, zero) if columns is None else vload_part(W, offset, columns, zero)


@inner
def write_row(W, offset, v, columns):
    """A row of a tile to memory."""
    if columns is None:
        vstore(W, offset, v)
    else:
        vstore_part(W, offset, v, columns)


# For many rows of A it pays to copy the columns of B first, so that they lie side by side in the nearest cache, and then it doesn't
# matter how B is stored. A long sum is packed in blocks; after the first one, C is its own D.
@spliced
def tiled_product(W, C, A, B, D, s, m, k, n, packed):
    """All columns, a pair of registers after the other."""
    step, block = 2 * lanes(W), BLOCK if packed else max(k, 1)
    panel = (scratch(W), step, np.int64(1))
    for p in range(0, max(k, 1), block):
        terms = min(block, k - p)
        for j in range(0, n, step):
            columns, source = min(step, n - j), from_column(B, j)
            if packed:
                pack(W, panel, source, terms, columns)
                source = panel
            if columns == step:
                tiles(W, from_column(C, j), A, source, from_column(D, j), s, m, terms, None, splat_pair(W, 0))
            elif columns > lanes(W):
                tiles(W, from_column(C, j), A, source, from_column(D, j), s, m, terms, columns, splat_pair(W, 0))
            else:
                tiles(W, from_column(C, j), A, source, from_column(D, j), s, m, terms, columns, splat(W, 0))
        A, B, D = from_column(A, block), from_row(B, block), C


@spliced
def pack(W, panel, B, terms, columns):
    """The next terms of a few columns, side by side."""
    if B[2] == 1:
        zero = splat_pair(W, 0)
        for i in range(terms):
            vstore_part(W, at(panel, i, 0), vload_part(W, at(B, i, 0), columns, zero), columns)
    else:
        transpose_strided(W, panel[0], panel[1], B[0], B[2], columns, terms)


# ## Dot products: vectors along the sum
# If B is stored transposed, its columns are contiguous, as are the rows of A. One row and eight columns make eight sums of
# vectors; at the end their lanes are added, four sums at once. The terms that don't fill a vector go first.
@spliced
def dot_product(W, C, A, B, D, s, m, k, n):
    """B's columns are contiguous, and A has few rows."""
    for i in range(m):
        for j in range(0, n, 8):
            corner, start = from_column(from_row(C, i), j), from_column(from_row(D, i), j)
            dot_tile(W, corner, at(A, i, 0), from_column(B, j), start, s, k, min(8, n - j), splat(W, 0))


@spliced
def dot_tile(W, C, a, B, D, s, k, columns, zero):
    """One row of A times eight columns of B."""
    last = columns - 1
    b0, b1, b2, b3 = at(B, 0, 0), at(B, 0, min(1, last)), at(B, 0, min(2, last)), at(B, 0, min(3, last))
    b4, b5, b6, b7 = at(B, 0, min(4, last)), at(B, 0, min(5, last)), at(B, 0, min(6, last)), at(B, 0, min(7, last))
    p, step = k % lanes(W), unknown(lanes(W))
    x = vload_part(W, a, p, zero)
    s0, s1 = x * vload_part(W, b0, p, zero), x * vload_part(W, b1, p, zero)
    s2, s3 = x * vload_part(W, b2, p, zero), x * vload_part(W, b3, p, zero)
    s4, s5 = x * vload_part(W, b4, p, zero), x * vload_part(W, b5, p, zero)
    s6, s7 = x * vload_part(W, b6, p, zero), x * vload_part(W, b7, p, zero)
    while p != k:
        x = vload(W, a + p)
        s0, s1 = fma(x, vload(W, b0 + p), s0), fma(x, vload(W, b1 + p), s1)
        s2, s3 = fma(x, vload(W, b2 + p), s2), fma(x, vload(W, b3 + p), s3)
        s4, s5 = fma(x, vload(W, b4 + p), s4), fma(x, vload(W, b5 + p), s5)
        s6, s7 = fma(x, vload(W, b6 + p), s6), fma(x, vload(W, b7 + p), s7)
        p += step
    finish(W, C, D, s, 0, sums_of_four(s0, s1, s2, s3), min(4, columns), zero)
    if columns > 4:
        finish(W, from_column(C, 4), from_column(D, 4), s, 0, sums_of_four(s4, s5, s6, s7), columns - 4, zero)
