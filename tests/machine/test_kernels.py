"""Every kernel against its twin: the whole memory after one must be the memory after the other, whatever the sizes and the places."""

import ctypes
import inspect
import itertools
import mmap
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

kernels = pytest.importorskip("tinymeta.machine.kernels", exc_type=ImportError)
from tinymeta.machine import twins  # noqa: E402

SIZES = [*range(10), 15, 16, 17, 31, 33, 40, 70]
FEW = [0, 1, 2, 3, 4, 5, 7, 8, 9, 17]
BROADCASTS = {"full": lambda n: (n, 1), "row": lambda n: (0, 1), "column": lambda n: (1, 0), "number": lambda n: (0, 0)}
random = np.random.default_rng(0)


@pytest.fixture(params=[np.float64, np.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["inside", "outside"])
def apart(request):
    """Are the operands in arrays of their own?"""
    return request.param


def at_the_edge(x):
    """A copy behind which memory ends: to read on ends the process. (A vector has more elements than a row may have left.)"""
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), x.dtype)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = memory[size // x.itemsize - len(x) : size // x.itemsize]
    copy[...] = x
    return copy


def laid_out(dtype, operands, apart):
    """(W, all memory, offsets): the operands at odd places of W, with a guard on both sides; or each at the end of an array of its own."""
    operands = [np.ravel(x).astype(dtype) for x in operands]
    guard = np.full(5, 77, dtype)
    pieces = [np.concatenate([guard, x, guard]) for x in operands]
    if apart:
        if sys.platform != "win32":
            pieces = [at_the_edge(piece[:-5]) for piece in pieces]
        W = np.full(3, 55, dtype)
        starts = [(x.ctypes.data - W.ctypes.data) // W.itemsize for x in pieces]
        return W, [W, *pieces], [start + 5 for start in starts]
    W = np.concatenate([*pieces, guard])
    starts = np.cumsum([0, *(len(x) for x in pieces[:-1])])
    return W, [W], [int(start) + 5 for start in starts]


def memory_after(function, dtype, operands, more, apart):
    W, memory, offsets = laid_out(dtype, operands, apart)
    returned = function(W, *offsets, *more)
    return returned, np.concatenate(memory)


def agree(name, dtype, apart, operands, more=(), roundings=0, kernel=None):
    """The kernel and its twin leave the same memory.

    `roundings` allows for so many of them, relative to what the twin computes from the operands' sizes: no cancellation there.
    """
    kernel = kernel or getattr(kernels, name)
    returned, got = memory_after(kernel, dtype, operands, more, apart)
    expected, wanted = memory_after(getattr(twins, name), dtype, operands, more, apart)
    assert returned == expected
    if not roundings:
        np.testing.assert_array_equal(got, wanted)
    else:
        _, size = memory_after(getattr(twins, name), dtype, [np.abs(x) for x in operands], more, apart)
        excess = np.abs(got - wanted) - roundings * np.finfo(dtype).eps * np.abs(size)
        assert not np.any(excess > 0), (more, np.argmax(excess), np.max(excess))


def some(*shape):
    return random.normal(size=shape)


# ## Element by element
@pytest.mark.parametrize("name", ["negative", "square", "sqrt", "absolute", "sign", "relu", "copy"])
def test_exact_functions_of_one_array(name, dtype, apart):
    for n in SIZES:
        x = some(n)
        x[::3] = random.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42], len(x[::3]))
        agree(name, dtype, apart, [np.zeros(n), x], [n])


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid"])
def test_rounded_functions_of_one_array(name, dtype, apart):
    for n in SIZES:
        agree(name, dtype, apart, [np.zeros(n), 0.1 + np.abs(some(n))], [n], roundings=8)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_functions_of_two_arrays_broadcast(name, dtype, apart):
    for m, n in itertools.product([0, 1, 2, 5], FEW):
        full, short = some(m, n), some(max(m, n, 1))
        full[..., ::4] = random.choice([0.0, np.inf, -np.inf, np.nan])
        for left, right in itertools.product(BROADCASTS, repeat=2):
            operands = [np.zeros((m, n)), full if left == "full" else short, full if right == "full" else short[::-1]]
            agree(name, dtype, apart, operands, [m, n, *BROADCASTS[left](n), *BROADCASTS[right](n)])


def test_multiply_and_add(dtype, apart):
    for m, n in itertools.product([0, 1, 2, 5], FEW):
        full, short = some(m, n), some(max(m, n, 1))
        for kinds in itertools.product(BROADCASTS, repeat=3):
            d, a, b = (full if kind == "full" else short for kind in kinds)
            strides = [step for kind in kinds for step in BROADCASTS[kind](n)]
            agree("multiply_add", dtype, apart, [np.zeros((m, n)), d, some(1), a, b], [m, n, *strides], roundings=2)


@pytest.mark.parametrize("n", SIZES)
def test_a_result_may_replace_its_operand(n, dtype):
    x = np.concatenate([some(n), some(1), [1]]).astype(dtype)
    W = x.copy()
    kernels.tanh(W, 0, 0, n)
    kernels.add(W, 0, 0, n, 1, n, n, 1, 0, 0)
    kernels.multiply_add(W, 0, 0, n, 0, n + 1, 1, n, n, 1, n, 1, 0, 0)
    y = np.tanh(x[:n]) + x[n]
    np.testing.assert_allclose(W[:n], y + x[n] * y, rtol=0, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(W[n:], x[n:])


# ## The elementary functions in units of the last place
LONG = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
}


def samples(dtype):
    """Dense where the functions do something; all magnitudes, both signs, up to where they are 0 and infinite."""
    info = np.finfo(dtype)
    top, bottom = np.log2(info.max), np.log2(info.smallest_subnormal)
    signs = random.choice([-1.0, 1.0], 100_000)
    parts = [np.linspace(-4, 4, 200_001), random.uniform(-1.1 * top, 1.1 * top, 100_000)]
    parts += [signs * 2.0 ** random.uniform(bottom, top, 100_000)]
    parts += [1 + 1e-3 * some(50_000), random.uniform(0.68 * bottom - 5, 0.69 * info.minexp + 5, 50_000)]
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("name", LONG)
def test_errors_in_the_last_place(name, dtype):
    if dtype is np.float64 and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("no number type here is more precise than float64")
    x = np.abs(samples(dtype)) if name == "log" else samples(dtype)
    n = len(x)
    W = np.concatenate([x, np.zeros_like(x)])
    getattr(kernels, name)(W, n, 0, n)
    with np.errstate(all="ignore"):
        exact = LONG[name](x.astype(np.longdouble))
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(W[n:][~finite], rounded[~finite])
    errors = np.abs(W[n:][finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))
    assert np.max(errors) < 4


@pytest.mark.parametrize(
    "name, values",
    [
        ("exp", [1, 1, np.inf, 0, np.inf, 0, np.nan]),
        ("log", [-np.inf, -np.inf, np.inf, np.nan, np.log(1e4), np.nan, np.nan]),
        ("tanh", [0.0, -0.0, 1, -1, 1, -1, np.nan]),
        ("sigmoid", [0.5, 0.5, 1, 0, 1, 0, np.nan]),
    ],
)
def test_ends(name, values, dtype):
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1e4, -1e4, np.nan], dtype)
    W = np.concatenate([x, np.zeros_like(x)])
    getattr(kernels, name)(W, len(x), 0, len(x))
    np.testing.assert_array_max_ulp(W[len(x) :], np.array(values, dtype), 1)
    np.testing.assert_array_equal(np.signbit(W[len(x) :][:-1]), np.signbit(values[:-1]))


# ## Products
@pytest.mark.parametrize("transposed", range(4))
def test_products(transposed, dtype, apart):
    sizes = itertools.product([0, 1, 2, 4, 5, 6, 11, 33], [0, 1, 2, 3, 5, 8, 9, 33], [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 33])
    for (m, k, n), bias in zip(sizes, itertools.cycle(BROADCASTS)):
        operands = [np.zeros((m, n)), some(m, k), some(k, n)]
        check_product(dtype, apart, operands, m, k, n, transposed, bias)


@pytest.mark.parametrize("bias", BROADCASTS)
@pytest.mark.parametrize("m, k, n", [(40, 70, 70), (33, 300, 20), (7, 300, 5), (64, 64, 64), (1, 300, 1), (5, 0, 5)])
def test_larger_products_and_every_bias(m, k, n, bias, dtype, apart):
    for transposed in range(4):
        check_product(dtype, apart, [np.zeros((m, n)), some(m, k), some(k, n)], m, k, n, transposed, bias)


def check_product(dtype, apart, operands, m, k, n, transposed, bias):
    row, column = BROADCASTS[bias](n)
    start = some(max(m * n, m, n, 1))
    arguments = [m, k, n, transposed]

    def reordered(function):  # operands first, for `agree`
        return lambda W, c, a, b, d, scale, *sizes: function(W, c, a, b, *sizes, d, row, column, scale)

    twin, kernel = reordered(twins.product), reordered(kernels.product)
    operands = [*operands, start, some(1)]
    _, got = memory_after(kernel, dtype, operands, arguments, apart)
    _, wanted = memory_after(twin, dtype, operands, arguments, apart)
    _, size = memory_after(twin, dtype, [np.abs(x) for x in operands], arguments, apart)
    assert np.all(np.abs(got - wanted) <= (k + 3) * np.finfo(dtype).eps * size), (m, k, n, transposed, bias)


@pytest.mark.parametrize("m, k, n", [(3, 4, 5), (10, 40, 1), (40, 70, 70), (2, 300, 17)])
def test_a_product_added_to_its_result(m, k, n, dtype):
    a, b, c = some(m, k).astype(dtype), some(k, n).astype(dtype), some(m, n).astype(dtype)
    W = np.concatenate([a.ravel(), b.ravel(), c.ravel(), np.array([-0.1], dtype)])
    place = m * k + k * n
    kernels.product(W, place, 0, m * k, m, k, n, 0, place, n, 1, len(W) - 1)
    error = np.abs(W[place:-1].reshape(m, n) - (c + W[-1] * (a @ b)))
    assert np.all(error <= (k + 3) * np.finfo(dtype).eps * (np.abs(c) + np.abs(a) @ np.abs(b)))


# ## Reductions
@pytest.mark.parametrize("shape", [*itertools.product([0, 1, 3], FEW, [0, 1, 2, 5, 8, 9, 17]), (1, 5000, 1), (2, 70, 1), (1, 300, 40)])
def test_reductions(shape, dtype, apart):
    operands = [np.zeros((shape[0], shape[2])), some(*shape)]
    agree("sum_along", dtype, apart, operands, shape, roundings=30)
    agree("maximum_along", dtype, apart, operands, shape)
    agree("minimum_along", dtype, apart, operands, shape)
    agree("running_sum", dtype, apart, [np.zeros(shape), some(*shape)], shape, roundings=30)


@pytest.mark.parametrize("shape", [(1, 9, 1), (3, 40, 1), (2, 5, 9)])
def test_reductions_pass_nan_on(shape, dtype, apart):
    x = some(*shape)
    x[0, 4] = np.nan
    for name in ("sum_along", "maximum_along", "minimum_along"):
        _, got = memory_after(getattr(kernels, name), dtype, [np.zeros((shape[0], shape[2])), x], shape, apart)
        _, wanted = memory_after(getattr(twins, name), dtype, [np.zeros((shape[0], shape[2])), x], shape, apart)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))


def test_long_sums_lose_no_more_than_numpys(dtype):
    n, errors, rng = 200_000, [], np.random.default_rng(0)
    for _ in range(200):  # one sum is good or bad by luck
        x = rng.uniform(size=n).astype(dtype)
        W = np.append(x, dtype(0))
        kernels.sum_along(W, n, 0, 1, n, 1)
        errors.append(np.array([W[n], np.sum(x)], np.longdouble) - np.sum(x, dtype=np.longdouble))
    ours, numpys = np.sqrt(np.mean(np.square(errors), axis=0))
    assert ours <= 2 * numpys


@pytest.mark.parametrize("m, n", [*itertools.product([0, 1, 3], [0, 1, 2, 5, 8, 9, 40]), (2, 3000), (700, 3)])
@pytest.mark.parametrize("name, relative, absolute", [("softmax", 16, 0), ("log_softmax", 4, 16)])  # log_softmax cancels near 0
def test_softmax(name, relative, absolute, m, n, dtype, apart):
    operands, eps = [np.zeros((m, n)), 5 * some(m, n)], np.finfo(dtype).eps
    _, got = memory_after(getattr(kernels, name), dtype, operands, [m, n], apart)
    _, wanted = memory_after(getattr(twins, name), dtype, operands, [m, n], apart)
    np.testing.assert_allclose(got, wanted, rtol=relative * eps, atol=absolute * eps)


def test_softmax_of_large_numbers_and_of_nothing_finite(dtype):
    x = np.array([[1e4, 1e4, -1e4], [-np.inf, 0, 0], [-np.inf, -np.inf, -np.inf], [np.nan, 0, 0]], dtype)
    W = np.concatenate([x.ravel(), np.zeros(12, dtype)])
    kernels.softmax(W, 12, 0, 4, 3)
    np.testing.assert_array_equal(W[12:].reshape(4, 3), [[0.5, 0.5, 0], [0, 0.5, 0.5], [np.nan] * 3, [np.nan] * 3])


# ## Elimination
def room(dtype, n, *widths):
    """Where the matrices in the scratch memory end, and the memory."""
    lanes = 32 // np.dtype(dtype).itemsize
    ends = np.cumsum([-(-width // lanes) * lanes for width in (n, *widths)]).tolist()
    return np.full(n * ends[-1], np.nan), ends


def eliminated(name, dtype, apart, operands, more):
    """The result, and what is returned; nothing is touched but the first operand, which is the result, and the last, which is scratch."""
    W, memory, offsets = laid_out(dtype, operands, apart)
    returned = getattr(kernels, name)(W, *offsets, *more)
    result = twins.view(W, offsets[0], np.shape(operands[0])).astype(float)
    for k in (0, -1):
        twins.view(W, offsets[k], np.shape(operands[k]))[...] = operands[k]
    np.testing.assert_array_equal(np.concatenate(memory), np.concatenate(laid_out(dtype, operands, apart)[1]))
    return result, returned


ORDERS = [1, 2, 3, 5, 8, 9, 17, 33]


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("k", [1, 2, 4, 5, 8, 9, 17])
def test_solve(n, k, dtype, apart):
    scratch, ends = room(dtype, n, k)
    A, B = some(n, n).astype(dtype), some(n, k).astype(dtype)
    X, good = eliminated("solve", dtype, apart, [np.zeros((n, k)), A, B, scratch], [n, k, *ends])
    assert good is True
    residual = A.astype(float) @ X - B
    assert np.linalg.norm(residual) < 4 * np.finfo(dtype).eps * (np.linalg.norm(A) * np.linalg.norm(X) + np.linalg.norm(B))


@pytest.mark.parametrize("n", ORDERS)
def test_determinants(n, dtype, apart):
    scratch, [row] = room(dtype, n)
    for A in (some(n, n), np.eye(n)[::-1], -np.diag(1 + np.abs(some(n)))):
        A = A.astype(dtype).astype(float)
        sign, logarithm = np.linalg.slogdet(A)
        error = n * np.finfo(dtype).eps * np.linalg.cond(A)
        for part, expected in enumerate([sign * np.exp(logarithm), sign, logarithm]):
            got, _ = eliminated("determinant", dtype, apart, [np.zeros(()), A, scratch], [n, row, part])
            np.testing.assert_allclose(got, expected, rtol=0 if part == 1 else error, atol=error if part == 2 else 0)


@pytest.mark.parametrize("n", ORDERS)
def test_cholesky(n, dtype, apart):
    scratch, [row] = room(dtype, n)
    A = some(n, n)
    A = A @ A.T + np.eye(n) + 9 * np.triu(some(n, n), 1)  # the upper triangle isn't read
    L, good = eliminated("cholesky", dtype, apart, [np.full((n, n), 5.0), A, scratch], [n, row])
    assert good is True
    expected = np.linalg.cholesky(A)
    np.testing.assert_allclose(L, expected, rtol=0, atol=8 * np.finfo(dtype).eps * np.linalg.norm(A))


SPECIAL = [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 2.0, 0.0]), [[0.0]], -np.eye(2), [[np.nan]], [[0.0, 1.0], [np.nan, 1.0]],
           [[1.0, 1.0], [np.nan, 1.0]], [[np.inf]], [[1e-30, 0.0], [0.0, 1e30]],
           [[2.0, 4.0, 1.0], [1.0, 2.0, 5.0], [1.0, 1.0, 1.0]],  # the second pivot is 0 unless rows are exchanged
           [[1.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1e-20, 1.0]]]  # the second pivot is all but 0 if rows are exchanged  # fmt: skip


@pytest.mark.parametrize("A", SPECIAL, ids=str)
def test_elimination_of_singular_indefinite_and_special_matrices_as_in_numpy(A, dtype):
    n = len(A)
    calls = [("solve", [np.zeros((n, 1)), A, np.ones((n, 1))], [1], []), ("cholesky", [np.zeros((n, n)), A], [], []),
             *(("determinant", [np.zeros(()), A], [], [part]) for part in range(3))]  # fmt: skip
    for name, operands, widths, part in calls:
        scratch, ends = room(dtype, n, *widths)
        more = [n, *widths, *ends, *part]
        result, good = eliminated(name, dtype, False, [*operands, scratch], more)
        W, _, offsets = laid_out(dtype, [*operands, scratch], False)
        with np.errstate(all="ignore"):
            assert good == getattr(twins, name)(W, *offsets, *more)
        if good is not False:
            np.testing.assert_allclose(result, twins.view(W, offsets[0], np.shape(operands[0])), rtol=1e-6, atol=1e-6)


# ## Moves
@pytest.mark.parametrize("m, n", [*itertools.product(FEW, FEW), (40, 33)])
def test_transposes(m, n, dtype, apart):
    agree("transpose", dtype, apart, [np.zeros((n, m)), some(m, n)], [m, n])


@pytest.mark.parametrize(
    "shape, y_strides, x_strides",
    [
        ((2, 3, 4, 5), (60, 20, 5, 1), (60, 20, 5, 1)),
        ((2, 3, 4, 5), (60, 20, 5, 1), (1, 2, 6, 24)),  # all axes reversed
        ((2, 3, 9, 17), (459, 153, 17, 1), (459, 153, 1, 9)),  # the last two exchanged
        ((2, 3, 9, 17), (459, 153, 1, 9), (459, 153, 17, 1)),
        ((1, 2, 3, 20), (0, 60, 20, 1), (0, 20, 0, 1)),  # rows repeated
        ((1, 2, 3, 20), (0, 60, 20, 1), (0, 3, 1, 0)),  # columns repeated
        ((1, 1, 1, 13), (0, 0, 0, 1), (0, 0, 0, 2)),  # every other element
        ((1, 1, 4, 5), (0, 0, 9, 1), (0, 0, 5, 1)),  # into a slice
        ((1, 1, 4, 9), (0, 0, 18, 2), (0, 0, 9, 1)),
        ((1, 1, 0, 5), (0, 0, 5, 1), (0, 0, 0, 0)),
        ((1, 1, 5, 0), (0, 0, 0, 1), (0, 0, 1, 0)),
    ],
)
def test_strided_copies(shape, y_strides, x_strides, dtype, apart):
    table = np.array([9, *shape, *y_strides, *x_strides])
    agree("strided_copy", dtype, apart, [np.zeros(1000), some(1000)], [table, 1])


def test_a_strided_copy_backwards(dtype):
    W = np.concatenate([np.arange(11), np.zeros(11)]).astype(dtype)
    kernels.strided_copy(W, 11, 10, np.array([1, 1, 1, 11, 0, 0, 0, 1, 0, 0, 0, -1]), 0)
    np.testing.assert_array_equal(W[11:], np.arange(10, -1, -1))


@pytest.mark.parametrize("n", [0, 1, 3, 8, 9, 17])
@pytest.mark.parametrize("indices", [[], [0], [2, 0, 2, -1, 2], [-4, 3]])
def test_gather_and_scatter(indices, n, dtype, apart):
    count, rows = len(indices), 4
    agree("gather", dtype, apart, [np.zeros((count, n)), some(rows, n), indices], [count, rows, n, 0, n])
    agree("scatter_add", dtype, apart, [some(rows, n), some(count, n), indices], [count, rows, n, 0, n])
    of_one_row_each = some(count, rows, n)
    agree("gather", dtype, apart, [np.zeros((count, n)), of_one_row_each, indices], [count, rows, n, rows * n, n])
    agree("scatter_add", dtype, apart, [of_one_row_each, some(count, n), indices], [count, rows, n, rows * n, n])


@pytest.mark.parametrize("wrong", [4, -5, 1e30, np.nan])
def test_a_number_that_no_row_has_is_refused_and_nothing_is_touched(wrong, dtype, apart):
    indices = [0, wrong, 1]
    for name, operands in [("gather", [np.zeros((3, 2)), some(4, 2), indices]), ("scatter_add", [some(4, 2), some(3, 2), indices])]:
        returned, got = memory_after(getattr(kernels, name), dtype, operands, [3, 4, 2, 0, 2], apart)
        assert returned is False
        assert memory_after(getattr(twins, name), dtype, operands, [3, 4, 2, 0, 2], apart)[0] is False
        np.testing.assert_array_equal(got, np.concatenate(laid_out(dtype, operands, apart)[1]))


# ## The checks themselves
def test_one_element_too_many_is_caught(dtype):
    with pytest.raises(AssertionError):
        agree("exp", dtype, False, [np.zeros(7), some(7)], [7], 8, kernel=lambda W, y, x, n: kernels.exp(W, y, x, n + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="memory can't be forbidden so")
@pytest.mark.parametrize("offset, ended", [(-1, 0), (0, -signal.SIGSEGV)])
def test_to_read_behind_the_edge_ends_a_process(offset, ended):
    read = "edge = at_the_edge(np.ones(7)); ctypes.string_at(edge.ctypes.data + edge.nbytes + int(sys.argv[1]), 1)"
    code = f"import ctypes, mmap, sys\nimport numpy as np\n{inspect.getsource(at_the_edge)}\n{read}"
    assert subprocess.run([sys.executable, "-c", code, str(offset)]).returncode == ended


def test_an_error_of_a_few_roundings_too_many_is_caught(dtype, apart):
    def wrong(W, y, d, s, a, b, *strides):
        kernels.multiply_add(W, y, d, s, a, b, *strides)
        twins.view(W, y, [9])[:] *= 1 + 8 * np.finfo(dtype).eps

    operands = [np.zeros(9), 1 + np.abs(some(9)), np.ones(1), 1 + np.abs(some(9)), np.ones(1)]
    with pytest.raises(AssertionError):
        agree("multiply_add", dtype, apart, operands, [1, 9, 9, 1, 9, 1, 0, 0], 2, kernel=wrong)


# ## The house
def test_every_kernel_has_a_twin_with_the_same_arguments():
    for name in kernels.__all__:
        assert [*inspect.signature(getattr(kernels, name).py_func).parameters] == [*inspect.signature(getattr(twins, name)).parameters]


@pytest.mark.parametrize(
    "name, numbers",
    [
        ("add", (30, 0, 10, 2, 5, 5, 1, 0, 1)),
        ("multiply_add", (30, 0, 2, 10, 20, 2, 5, 5, 1, 0, 1, 1, 0)),
        ("softmax", (30, 0, 3, 5)),
        ("sum_along", (30, 0, 2, 3, 5)),
        ("product", (40, 0, 12, 3, 4, 3, 0, 0, 3, 1, 1)),
        ("gather", (30, 10, 1, 2, 4, 3, 0, 3)),
        ("scatter_add", (30, 10, 1, 2, 4, 3, 0, 3)),
    ],
)
def test_offsets_and_sizes_may_be_unsigned(name, numbers, dtype):
    signed, unsigned = np.arange(60, dtype=dtype), np.arange(60, dtype=dtype)
    getattr(kernels, name)(signed, *map(np.int64, numbers))
    getattr(kernels, name)(unsigned, *map(np.uint64, numbers))
    np.testing.assert_array_equal(signed, unsigned)
    assert not np.array_equal(signed, np.arange(60))


def run(code, **environment):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_compiles_nothing_and_tinymeta_imports_no_numba():
    code = """
    import sys, tinymeta
    assert "numba" not in sys.modules
    from tinymeta.machine import twins
    assert "numba" not in sys.modules
    from tinymeta.machine import kernels
    assert not any(getattr(kernels, name).signatures for name in kernels.__all__)
    """
    run(code)


def test_a_second_process_loads_what_the_first_one_compiled(tmp_path):
    code = """
    import numpy as np
    from tinymeta.machine import kernels
    for dtype in (np.float64, np.float32):
        kernels.tanh(np.ones(20, dtype), 10, 0, 10)
    kernels.product(np.ones(20), 10, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0)
    hits = [sum(k.stats.cache_hits.values()) for k in (kernels.tanh, kernels.product)]
    print(*hits, *(sum(k.stats.cache_misses.values()) for k in (kernels.tanh, kernels.product)))
    """
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "0 0 2 1"
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == "2 1 0 0"


def test_a_change_in_another_file_is_compiled_anew(tmp_path):
    package = tmp_path / "tinymeta"
    shutil.copytree(pathlib.Path(kernels.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    import numpy as np
    from tinymeta.machine import kernels
    assert kernels.__file__.startswith({str(tmp_path)!r})
    kernels.square(np.ones(20), 10, 0, 10)
    print(sum(kernels.square.stats.cache_hits.values()))
    """
    assert [run(code), run(code)] == ["0", "1"]
    with open(package / "machine" / "vectors.py", "a") as file:
        file.write("# changed\n")
    assert run(code) == "0"
