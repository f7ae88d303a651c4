"""The kernels beside NumPy, on one core: GFLOP/s of products, nanoseconds an element of the others, seconds of compilation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/kernels.py

Kernels are called from a compiled loop, as the machine does. Each number is the median of several runs, taken by turns with NumPy's: on a
machine that others use, compare within a line.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import time

import numba
import numpy as np

from tinymeta.machine import kernels

PRODUCTS = [  # (form, m, k, n): of MAML's meta-gradient, of the learned optimizer, of Omniglot's network, and larger ones
    ("A' B", 40, 10, 40), ("A B", 10, 40, 40), ("A B'", 10, 40, 40), ("A B'", 40, 40, 10), ("A' B", 1, 10, 40), ("A B", 10, 1, 40),
    ("A' B", 40, 10, 1), ("A B", 10, 40, 1), ("A B", 1, 40, 40), ("A B", 10, 43, 80), ("A' B", 23, 10, 80), ("A B'", 10, 80, 23),
    ("A B", 5, 784, 256), ("A B", 75, 784, 256), ("A' B", 784, 75, 256), ("A B'", 75, 256, 784), ("A B", 75, 64, 5), ("A B'", 75, 5, 64),
    ("A B", 64, 64, 64), ("A B'", 64, 64, 64), ("A B", 128, 128, 128), ("A' B", 128, 128, 128), ("A B'", 128, 128, 128),
    ("A B", 256, 256, 256), ("A B", 512, 512, 512),
]  # fmt: skip
TRANSPOSED = {"A B": 0, "A' B": 1, "A B'": 2}
RUNS = 15
random = np.random.default_rng(0)


@numba.njit(nogil=True)
def many(kernel, repetitions, W, numbers):
    for _ in range(repetitions):
        kernel(W, *numbers)


def medians(*functions):
    """Seconds a call; the functions by turns, each for about 2 ms a time."""
    repetitions = []
    for function in functions:
        function(1)
        start = time.perf_counter()
        function(10)
        repetitions.append(max(1, int(0.02 / (time.perf_counter() - start))))
    times = [[] for _ in functions]
    for _ in range(RUNS):
        for function, count, found in zip(functions, repetitions, times, strict=True):
            start = time.perf_counter()
            function(count)
            found.append((time.perf_counter() - start) / count)
    return [statistics.median(found) for found in times]


def repeated(function):
    def run(repetitions):
        for _ in range(repetitions):
            function()

    return run


def product(form, m, k, n, dtype):
    """(kernel, NumPy) in GFLOP/s."""
    W = random.normal(size=m * k + k * n + m * n + 2).astype(dtype)
    W[-2:] = 0, 1
    first, second = W[: m * k], W[m * k : m * k + k * n]
    a = first.reshape(k, m).T if form == "A' B" else first.reshape(m, k)
    b = second.reshape(n, k).T if form == "A B'" else second.reshape(k, n)
    out, c = np.empty((m, n), dtype), m * k + k * n
    numbers = (c, 0, m * k, m, k, n, TRANSPOSED[form], c + m * n, 0, 0, c + m * n + 1)
    seconds = medians(lambda count: many(kernels.product, count, W, numbers), repeated(lambda: np.matmul(a, b, out=out)))
    return [2e-9 * m * k * n / s for s in seconds]


def others(n, dtype):
    """{name: (the kernel's arguments, the same in NumPy)}, each on about n elements."""
    x, y, out = (0.1 + np.abs(random.normal(size=n)).astype(dtype) for _ in range(3))
    rows, square = max(n // 40, 1), max(int(n**0.5), 1)
    matrix, turned = x[: rows * 40].reshape(rows, 40), np.empty((square, square), dtype)
    one, two = (2 * n, 0, n), (2 * n, 0, n, 1, n, n, 1, n, 1)
    table = {name: (one, lambda f=f: f(x, out=out)) for name, f in [("exp", np.exp), ("log", np.log), ("tanh", np.tanh)]}
    table["sigmoid"] = one, lambda: 1 / (1 + np.exp(-x))
    table |= {name: (two, lambda f=f: f(x, y, out=out)) for name, f in [("add", np.add), ("divide", np.divide), ("maximum", np.maximum)]}
    table["multiply_add"] = (2 * n, 0, n, 0, n, 1, n, n, 1, n, 1, n, 1), lambda: np.add(x, y[0] * x * y, out=out)
    table["multiply_add "] = (2 * n, 0, n, n, n, 1, n, n, 1, n, 1, 0, 0), lambda: np.add(x, y[0] * y * y[0], out=out)  # by a number
    table["add "] = (2 * n, 0, n, rows, 40, 40, 1, 0, 1), lambda: np.add(matrix, y[:40], out=out[: rows * 40].reshape(rows, 40))  # a row
    table["sum_along"] = (2 * n, 0, 1, n, 1), lambda: np.sum(x)
    table["sum_along "] = (2 * n, 0, 1, rows, 40), lambda: np.sum(matrix, axis=0)
    table["softmax"] = (2 * n, 0, rows, 40), lambda: softmax(matrix)
    table["transpose"] = (2 * n, 0, square, square), lambda: np.copyto(turned, x[: square**2].reshape(square, square).T)
    return np.concatenate([x, y, out]), table


def softmax(rows):
    e = np.exp(rows - np.max(rows, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def main():
    print(f"{'GFLOP/s':24}  float64   NumPy   float32   NumPy")
    for form, m, k, n in PRODUCTS:
        double, single = product(form, m, k, n, np.float64), product(form, m, k, n, np.float32)
        print(f"{form:6}{f'{m} x {n} x {k}':18}{double[0]:9.1f}{double[1]:8.1f}{single[0]:10.1f}{single[1]:8.1f}")
    for n in (400, 40_000):
        print(f"\n{f'ns an element, {n}':24}  float64   NumPy   float32   NumPy")
        found = {}
        for dtype in (np.float64, np.float32):
            W, table = others(n, dtype)
            for name, (numbers, numpy) in table.items():
                kernel = getattr(kernels, name.strip())
                seconds = medians(lambda count, k=kernel, w=W, i=numbers: many(k, count, w, i), repeated(numpy))
                found.setdefault(name, []).extend(1e9 * s / n for s in seconds)
        for name, times in found.items():
            print(f"{name:24}{times[0]:9.2f}{times[1]:8.2f}{times[2]:10.2f}{times[3]:8.2f}")


if __name__ == "__main__":
    main()
