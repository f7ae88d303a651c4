r"""
# The interpreter

One function that runs every program: it reads a row of the table, and calls the kernel that the row names. It is compiled once
for each of float64 and float32, and cached on disk.

A row's operands are (base, offset). The bases are offsets themselves, from the start of the arena W of the thread that runs to the
memory of inputs, constants and outputs: so the one array W is all that a kernel needs. `lower` makes the tables, and nobody else; a
row that is out of range would corrupt memory without a word.
"""

import math

import numpy as np

from . import kernels
from .compiling import inner, kernel, spliced
from .kernels import map_two, read, write
from .lower import (
    BINARY,
    CHOLESKY,
    COPY,
    FILL,
    FINE,
    FIRST,
    FUNCTIONS_OF_ONE,
    FUNCTIONS_OF_TWO,
    GATHER,
    INDEFINITE,
    MULTIPLY_ADD,
    OUT_OF_RANGE,
    PRODUCT,
    REDUCE,
    REDUCTIONS,
    REST,
    RESULT,
    SCATTER,
    SECOND,
    SINGULAR,
    SOLVE,
    THIRD,
    UNARY,
    WHERE,
    WIDTH,
)  # fmt: skip
from .moves import fill_row
from .vectors import choose, lanes, load, splat, store

(NEGATIVE, SQUARE, SQRT, EXP, LOG, TANH, SIGMOID, ABSOLUTE, RELU, SIGN, EXPM1, LOG1P, SIN, COS, TAN, SINH, COSH,
 ARCTAN, SOFTPLUS, ERF, GAMMALN, ISFINITE, ISNAN, FLOOR, CEIL, TRUNC, RINT) = range(len(FUNCTIONS_OF_ONE))  # fmt: skip
(ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, NOT_EQUAL,
 POWER, REMAINDER, FLOOR_DIVIDE) = range(len(FUNCTIONS_OF_TWO))  # fmt: skip
SUM, MAX, MIN, CUMSUM, SOFTMAX, LOG_SOFTMAX = range(len(REDUCTIONS))


# ## Functions of one array
@spliced
def of_one(function, W, y, x, n):
    if function == NEGATIVE:
        kernels.negative(W, y, x, n)
    elif function == SQUARE:
        kernels.square(W, y, x, n)
    elif function == SQRT:
        kernels.sqrt(W, y, x, n)
    elif function == EXP:
        kernels.exp(W, y, x, n)
    elif function == LOG:
        kernels.log(W, y, x, n)
    elif function == TANH:
        kernels.tanh(W, y, x, n)
    elif function == SIGMOID:
        kernels.sigmoid(W, y, x, n)
    elif function == ABSOLUTE:
        kernels.absolute(W, y, x, n)
    elif function == RELU:
        kernels.relu(W, y, x, n)
    elif function == SIGN:
        kernels.sign(W, y, x, n)
    else:
        for i in range(n):
            store(W, y + i, rarer(function, load(W, x + i)))


# A number at a time.
@inner
def rarer(function, x):
    if function == EXPM1:
        return math.expm1(x)
    elif function == LOG1P:
        return math.log1p(x)
    elif function == SIN:
        return math.sin(x)
    elif function == COS:
        return math.cos(x)
    elif function == TAN:
        return math.tan(x)
    elif function == SINH:
        return math.sinh(x)
    elif function == COSH:
        return math.cosh(x)
    elif function == ARCTAN:
        return math.atan(x)
    elif function == SOFTPLUS:
        return max(x, 0) + math.log1p(math.exp(-abs(x)))
    elif function == ERF:
        return math.erf(x)
    elif function == GAMMALN:
        return math.lgamma(x)
    elif function == ISFINITE:
        return x - x == 0
    elif function == ISNAN:
        return x != x
    elif function == FLOOR:
        return np.floor(x)
    elif function == CEIL:
        return np.ceil(x)
    elif function == TRUNC:
        return np.trunc(x)
    return np.rint(x)


@inner
def rarer_of_two(function, x, y):
    if function == POWER:
        return x**y
    elif function == REMAINDER:
        return np.remainder(x, y)
    return np.floor_divide(x, y)


# ## Functions of two arrays
# A comparison gives the numbers 1 and 0.
@inner
def ones_like(x):
    return choose(x == x, 1, choose(x == x, x, 1))  # also where x is NaN


@inner
def less_of(x, y):
    return choose(x < y, ones_like(x), 0)


@inner
def less_equal_of(x, y):
    return choose(x <= y, ones_like(x), 0)


@inner
def equal_of(x, y):
    return choose(x == y, ones_like(x), 0)


@inner
def not_equal_of(x, y):
    return choose(x == y, 0, ones_like(x))


@spliced
def of_two(function, W, y, a, b, m, n, a_row, a_column, b_row, b_column):
    if function == ADD:
        kernels.add(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == SUBTRACT:
        kernels.subtract(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == MULTIPLY:
        kernels.multiply(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == DIVIDE:
        kernels.divide(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == MAXIMUM:
        kernels.maximum(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == MINIMUM:
        kernels.minimum(W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == LESS:
        map_two(less_of, W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == LESS_EQUAL:
        map_two(less_equal_of, W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == GREATER:
        map_two(less_of, W, y, b, a, m, n, b_row, b_column, a_row, a_column)
    elif function == GREATER_EQUAL:
        map_two(less_equal_of, W, y, b, a, m, n, b_row, b_column, a_row, a_column)
    elif function == EQUAL:
        map_two(equal_of, W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    elif function == NOT_EQUAL:
        map_two(not_equal_of, W, y, a, b, m, n, a_row, a_column, b_row, b_column)
    else:
        for i in range(m):
            for j in range(n):
                left, right = load(W, a + i * a_row + j * a_column), load(W, b + i * b_row + j * b_column)
                store(W, y + i * n + j, rarer_of_two(function, left, right))


@spliced
def where(W, y, condition, a, b, n):
    """y = a where the condition isn't 0, else b."""
    zero = splat(W, 0)
    for i in range(0, n, lanes(W)):
        here = min(lanes(W), n - i)
        chosen = read(W, condition + i, here, zero) == zero
        write(W, y + i, choose(chosen, read(W, b + i, here, zero), read(W, a + i, here, zero)), here)


# ## Functions along an axis
@spliced
def along_axis(function, W, y, x, p, q, r):
    if function == SUM:
        kernels.sum_along(W, y, x, p, q, r)
    elif function == MAX:
        kernels.maximum_along(W, y, x, p, q, r)
    elif function == MIN:
        kernels.minimum_along(W, y, x, p, q, r)
    elif function == CUMSUM:
        kernels.running_sum(W, y, x, p, q, r)
    elif function == SOFTMAX:
        kernels.softmax(W, y, x, p, q)
    else:
        kernels.log_softmax(W, y, x, p, q)


# ## The loop
@inner
def operand(table, row, column, bases):
    return bases[table[row + column]] + table[row + column + 1]


@inner
def of_matrix(family, function, W, y, a, table, row, bases):
    """Elimination; whether it came to its end."""
    n0, n1, second = table[row + 2], table[row + 3], operand(table, row, SECOND, bases)
    if family == SOLVE:
        return kernels.solve(W, y, a, second, operand(table, row, THIRD, bases), n0, n1, table[row + REST], table[row + REST + 1])
    elif family == CHOLESKY:
        return kernels.cholesky(W, y, a, second, n0, n1)
    kernels.determinant(W, y, a, second, n0, n1, function)
    return True


@kernel
def interpret(W, table, bases):
    """Run the rows of a flat table once, up to the end or to one that fails; says how it ended."""
    for row in range(0, len(table), WIDTH):
        family, function, n0, n1, n2 = table[row], table[row + 1], table[row + 2], table[row + 3], table[row + 4]
        y, a = operand(table, row, RESULT, bases), operand(table, row, FIRST, bases)
        if family == PRODUCT:
            b, d = operand(table, row, SECOND, bases), operand(table, row, THIRD, bases)
            s = operand(table, row, REST + 3, bases)
            kernels.product(W, y, a, b, n0, n1, n2, table[row + REST], d, table[row + REST + 1], table[row + REST + 2], s)
        elif family == MULTIPLY_ADD:
            b, d, r = operand(table, row, SECOND, bases), operand(table, row, THIRD, bases), row + REST
            s = operand(table, row, REST + 6, bases)
            kernels.multiply_add(W, y, d, s, a, b, n0, n1, table[r + 4], table[r + 5], table[r], table[r + 1], table[r + 2], table[r + 3])
        elif family == BINARY:
            b, r = operand(table, row, SECOND, bases), row + REST
            of_two(function, W, y, a, b, n0, n1, table[r], table[r + 1], table[r + 2], table[r + 3])
        elif family == UNARY:
            of_one(function, W, y, a, n0)
        elif family == REDUCE:
            along_axis(function, W, y, a, n0, n1, n2)
        elif family == COPY:
            kernels.strided_copy(W, y, a, table, row + SECOND)
        elif family == WHERE:
            where(W, y, a, operand(table, row, SECOND, bases), operand(table, row, THIRD, bases), n0)
        elif family == GATHER:
            numbers, r = operand(table, row, SECOND, bases), row + REST
            if not kernels.gather(W, y, a, numbers, n0, n1, n2, table[r], table[r + 1]):
                return OUT_OF_RANGE
        elif family == SCATTER:
            numbers, r = operand(table, row, SECOND, bases), row + REST
            if not kernels.scatter_add(W, y, a, numbers, n0, n1, n2, table[r], table[r + 1]):
                return OUT_OF_RANGE
        elif family == FILL:
            fill_row(W, y, 0, n0)
        elif not of_matrix(family, function, W, y, a, table, row, bases):
            return SINGULAR if family == SOLVE else INDEFINITE
    return FINE
