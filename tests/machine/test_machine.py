"""The machine against NumPy: the same code, executed by both."""

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import tree
from tinymeta.machine import execute
from tinymeta.machine.code import Code
from tinymeta.machine.execute import Executable
from tinymeta.machine.lower import PRODUCT, WIDTH, Lowering, check_table

spec = importlib.util.spec_from_file_location("catalogue", Path(__file__).parents[1] / "autodiff" / "operations" / "catalogue.py")
catalogue = importlib.util.module_from_spec(spec)
spec.loader.exec_module(catalogue)
generator = np.random.default_rng(0)
needs_machine = pytest.mark.skipif(not execute.machine_is_on(), reason="the machine is turned off, or there is no Numba")


def assert_both_agree(f, *args, tolerance=1e-12):
    """The program of f on the machine equals the one in NumPy, relative to the norm of each result."""
    program = tm.trace(f, *args)
    leaves = [x for x in tree.flatten(args)[0] if not isinstance(x, (bool, int, str))]
    inputs = [x if type(x) is float else np.asarray(x) for x in leaves]
    ours, theirs = Executable(program.code, True)(inputs, program.captured), Executable(program.code, False)(inputs, program.captured)
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.linalg.norm(b.astype(float)))
    return program


def scalar(f):
    """A scalar function, by fixed weights that are all different."""

    def weighted(*xs):
        parts = tree.flatten(f(*xs))[0]
        return sum(np.sum(y * np.cos(np.arange(np.size(y), dtype=y.dtype)).reshape(np.shape(y))) for y in parts)

    return weighted


@needs_machine
@pytest.mark.parametrize("name", catalogue.EXAMPLES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_operation_and_its_gradient(name, dtype):
    f, *xs = catalogue.EXAMPLES[name]
    xs = [x.astype(dtype) for x in xs]
    tolerance = 1e-12 if dtype == np.float64 else 1e-4 if "cholesky" in name else 1e-5
    assert_both_agree(f, *xs, tolerance=tolerance)
    assert_both_agree(tm.grad(scalar(f), argnums=tuple(range(len(xs)))), *xs, tolerance=10 * tolerance)


@needs_machine
@pytest.mark.parametrize("name", catalogue.EXAMPLES)
def test_every_operation_over_rows(name):
    f, *xs = catalogue.EXAMPLES[name]
    rows = [np.stack([x, 1.1 * x, 0.9 * x]) for x in xs]
    assert_both_agree(tm.vmap(f), *rows)
    gradient = tm.grad(lambda *rows: np.mean(tm.vmap(scalar(f))(*rows)), argnums=tuple(range(len(xs))))
    assert_both_agree(gradient, *rows, tolerance=1e-11)


SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 1, 3), (4, 2, 1), (4, 1, 1), (4, 2, 3), (3, 3), (4, 4, 1)]


@needs_machine
@pytest.mark.parametrize("a", SHAPES)
def test_every_broadcasting_pair(a):
    for b in SHAPES:
        try:
            np.broadcast_shapes(a, b)
        except ValueError:
            continue
        x, y = generator.normal(size=a), generator.normal(size=b)
        program = assert_both_agree(lambda x, y: (x * y, x > y, np.where(x > y, x, y), np.maximum(x, y) - x / y), x, y)
        assert [type(step) for step in Executable(program.code, True).steps] == [execute.Table]


def left_to_numpy(program):
    """The names of the instructions that the machine leaves to NumPy, in bodies too."""
    executables = [Executable(program.code, True)]
    names = []
    for executable in executables:
        for step in executable.steps:
            if isinstance(step, execute.Map) and step.executable is not None:
                executables.append(step.executable)
            elif isinstance(step, execute.InNumPy) and step.notes:
                names.append(step.instruction.operation.name)
    return names


LABELS = np.array([2, 0, 1, -1])
LOGITS = generator.normal(size=(4, 3))


@needs_machine
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f, args", [
    (lambda x, i: x[i], (LOGITS, LABELS)), (lambda x, i: x[i, 1], (LOGITS, LABELS)),
    (lambda x, i: np.take_along_axis(x, i[:, None], 1), (LOGITS, LABELS)), (lambda x: x[[0, 2]][:, [1, 1]], (LOGITS,)),
    (lambda x: np.diagonal(x) + np.roll(x, 1, axis=0)[0], (LOGITS[:3],)), (lambda x, i: x[i[::2]], (LOGITS, LABELS)),
    (lambda x, i: x * (i[:, None] == np.arange(3)), (LOGITS, LABELS)), (lambda x, i: tm.nn.cross_entropy(x, i), (LOGITS, LABELS % 3)),
    (lambda x: (x > 0) & ~(x > 1) | (x < -1), (LOGITS,)), (lambda x: tm.set_at(x, (slice(1, 3), 0), 5.0), (LOGITS,)),
    (lambda x: np.cumsum(x, axis=0) @ x.T, (LOGITS,)), (lambda x: np.stack([x, 2 * x]) @ x.T, (LOGITS,)),
    (lambda x: tm.log_softmax(x) + tm.softmax(x), (LOGITS,)), (lambda x: np.remainder(x, 0.3) + x // 0.3 + tm.softplus(x), (LOGITS,)),
])  # fmt: skip
def test_nothing_of_this_is_left_to_numpy(f, args, dtype):
    x, *rest = args
    args = (x.astype(dtype), *rest)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert left_to_numpy(assert_both_agree(f, *args, tolerance=tolerance)) == []
    if f(*args).dtype == dtype:
        assert_both_agree(tm.grad(scalar(f)), *args, tolerance=tolerance)
        stacked = [np.stack([a, a]) for a in args]
        assert_both_agree(tm.vmap(f), *stacked, tolerance=tolerance)


@needs_machine
@pytest.mark.parametrize("wrong", [4, -5, 2**40, -(2**53)])
@pytest.mark.parametrize("f", [lambda x, i: x[i], lambda x, i: tm.vmap(lambda i: x[i])(i), lambda x, i: tm.grad(lambda x: np.sum(x[i]))(x)])
def test_an_index_that_is_out_of_range(f, wrong):
    program = tm.trace(f, LOGITS, LABELS)
    assert left_to_numpy(program) == []
    with pytest.raises(IndexError, match="out of range"):
        program(LOGITS, np.array([0, 1, wrong, 2]))
    program(LOGITS, LABELS)  # and it goes on


@needs_machine
def test_integers_that_no_float_holds_are_compared_exactly():
    i = np.array([2**53, 2**53 + 1, 3])
    program = tm.trace(lambda i, j: (i == j, i == 3), i, i)
    assert [list(part) for part in program(i, i[[1, 1, 2]])] == [[False, True, True], [False, False, True]]


@needs_machine
def test_integers_are_compared_exactly_with_constants_that_no_float_holds():
    i = np.array([2**53, 2**53 + 1, 3])
    assert list(tm.trace(lambda i: i == np.array(2**53 + 1), i)(i)) == [False, True, False]


@needs_machine
def test_products_that_are_summed_over_rows_add_to_the_sum_of_their_portion():
    def f(W, xs):
        return np.sum(tm.vmap(lambda x: np.sum(np.tanh(x @ W)) + np.sum(np.sin((x * x) @ W)))(xs))

    program = assert_both_agree(tm.grad(f), LOGITS.T[:, :2], generator.normal(size=(40, 5, 3)))
    lowered = next(step.lowered for step in Executable(program.code, True).steps if isinstance(step, execute.Map))
    assert sum(lowered.portion_steps) == lowered.sums == 6
    rows = [row for row in lowered.table.reshape(-1, WIDTH) if row[0] == PRODUCT and list(row[5:7]) == list(row[11:13])]  # C is D
    assert len(rows) == 2 and list(rows[0][5:7]) == list(rows[1][5:7])


@needs_machine
def test_what_the_machine_leaves_to_numpy_is_marked_and_the_rest_runs_on_it():
    def f(x):
        return np.tanh(np.linalg.solve(np.tanh(x @ x.T) + 3 * np.eye(3), x[:, 0]))

    program = assert_both_agree(f, LOGITS[:3])
    assert left_to_numpy(program) == ["solve"]
    assert [line.split()[2] for line in str(program).splitlines() if line.endswith("in NumPy")] == ["solve"]
    mapped = assert_both_agree(tm.value_and_grad(lambda x: np.mean(tm.vmap(f)(x) ** 2)), generator.normal(size=(6, 3, 3)), tolerance=1e-11)
    assert set(left_to_numpy(mapped)) == {"solve"}
    assert str(mapped).count("in NumPy") == left_to_numpy(mapped).count("solve") > 1


@needs_machine
def test_an_error_in_a_row_that_numpy_runs_is_raised():
    program = tm.trace(tm.vmap(np.linalg.inv), np.stack([np.eye(2)] * 3))
    with pytest.raises(np.linalg.LinAlgError):
        program(np.stack([np.eye(2), np.zeros((2, 2)), np.eye(2)]))


@needs_machine
def test_a_profile_has_all_instructions():
    program = tm.trace(tm.value_and_grad(mean_loss), THETA, *TASKS)
    head, *kinds, total = program.profile(THETA, *TASKS).splitlines()
    (block,) = (i for i in program.instructions if i.body)
    assert head.split() == ["operation", "count", "us", "share", "GFLOP/s"]
    counts = {line.split()[0]: 0 for line in kinds}
    for line in kinds:
        counts[line.split()[0]] += int(line.split("]")[1].split()[0])
    assert counts["tanh"] == 25 * sum(i.operation.name == "tanh" for i in block.body.instructions)
    assert counts["product"] == 25 * sum(i.operation.name == "product" for i in block.body.instructions)
    assert total.startswith("all")


@needs_machine
def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, -1e308, 1e-320])
    functions = (np.exp, np.tanh, tm.sigmoid, np.sqrt, np.abs, tm.relu, np.square, np.negative, np.log)

    def all_of(x):
        return [*(f(x) for f in functions), x > 0, x == x, np.maximum(x, 1.0), x * x, x / x]

    with np.errstate(all="ignore"):
        assert_both_agree(all_of, x)


@needs_machine
def test_arrays_of_any_layout():
    program = tm.trace(lambda x: np.tanh(x) * 2, np.ones((3, 4)))
    x = generator.normal(size=(3, 4))
    shifted = np.frombuffer(bytearray(1 + x.nbytes), dtype=np.uint8)[1:].view(np.float64).reshape(3, 4)  # at an odd address
    shifted[...] = x
    assert not shifted.flags.aligned
    wide = np.zeros((6, 8))
    wide[::2, ::2] = x
    for array in (x, shifted, np.asfortranarray(x), wide[::2, ::2], x[::-1][::-1], np.broadcast_to(x[0], (3, 4))):
        np.testing.assert_allclose(program(array), np.tanh(array) * 2, rtol=1e-14)


def mean_loss(theta, xs, ys):
    def loss(theta, x, y):
        return np.mean((np.tanh(x @ theta["W"] + theta["b"]) @ theta["v"] - y) ** 2)

    def adapted(x, y):
        g = tm.grad(loss)(theta, x, y)
        return loss(tm.tree.map(lambda t, g: t - 0.1 * g, theta, g), x, y)

    return np.mean(tm.vmap(adapted)(xs, ys))


THETA = {"W": generator.normal(size=(3, 20)), "b": generator.normal(size=20), "v": generator.normal(size=20)}
TASKS = generator.normal(size=(25, 10, 3)), generator.normal(size=(25, 10))


@needs_machine
def test_a_meta_gradient_runs_on_the_machine():
    program = assert_both_agree(tm.value_and_grad(mean_loss), THETA, *TASKS)
    step = Executable(program.code, True).steps[0]
    assert type(step) is execute.Map and step.lowered is not None
    assert step.lowered.arena < sum(np.prod(i.type.shape) + 8 for i in step.body.instructions), "places are used again"


@needs_machine
@pytest.mark.parametrize("threads", ["1", "2", "3", "7", "40"])
def test_results_are_the_same_to_the_bit_for_any_number_of_threads(threads, monkeypatch):
    program = tm.trace(tm.value_and_grad(mean_loss), THETA, *TASKS)
    monkeypatch.setenv("TINYMETA_THREADS", "1")
    expected, gradient = program(THETA, *TASKS)
    monkeypatch.setenv("TINYMETA_THREADS", threads)
    for _ in range(3):
        value, again = program(THETA, *TASKS)
        assert value == expected
        for name in THETA:
            np.testing.assert_array_equal(again[name], gradient[name])


@needs_machine
def test_several_threads_may_run_programs_at_once():
    from concurrent.futures import ThreadPoolExecutor

    program = tm.trace(tm.value_and_grad(mean_loss), THETA, *TASKS)
    expected = program(THETA, *TASKS)[0]
    with ThreadPoolExecutor(4) as pool:
        assert {float(value) for value, _ in pool.map(lambda _: program(THETA, *TASKS), range(40))} == {float(expected)}


def run_python(code, **environment):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=True)
    return result.stdout


CODE = """
import sys, numpy as np, tinymeta as tm
program = tm.trace(tm.grad(lambda x: np.sum(np.tanh(x @ x.T) ** 2)), np.ones((3, 3)))
print(program(np.arange(9.0).reshape(3, 3) / 10).sum().hex(), "numba" in sys.modules)
"""


@needs_machine
def test_numpy_instead_of_the_machine_by_the_environment():
    on, off = run_python(CODE, TINYMETA_MACHINE="numba").split(), run_python(CODE, TINYMETA_MACHINE="numpy").split()
    assert on[1] == "True" and off[1] == "False"
    np.testing.assert_allclose(float.fromhex(on[0]), float.fromhex(off[0]), rtol=1e-12)


def test_without_numba_there_is_numpy():
    hidden = "import sys; sys.modules['numba'] = None\n" + CODE.replace('"numba" in sys.modules', "sys.modules['numba'] is None")
    assert run_python(hidden, TINYMETA_MACHINE="numba").split()[1] == "True"


def test_parts_of_the_arena_never_overlap_and_free_neighbours_are_one():
    lowering = Lowering(Code({}, {}, {}, (), ()), ())
    sizes, used = np.random.default_rng(0).integers(1, 100, 500), []
    for k, size in enumerate(map(int, sizes)):
        used.append((lowering.allocate(size), size))
        if k % 3:
            lowering.release(*used.pop(k * 7 % len(used)))
        parts = sorted((place.offset, place.offset + size) for place, size in used)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(parts))
        assert all(start % 8 == 0 for start, _ in parts) and parts[-1][1] <= lowering.arena
    assert lowering.arena < 1.5 * sum(size + 8 for _, size in used)
    while used:
        lowering.release(*used.pop(len(used) // 2))
    assert lowering.free == [(lowering.arena, 0)]


def test_a_place_is_the_smallest_that_is_large_enough():
    lowering = Lowering(Code({}, {}, {}, (), ()), ())
    places = [lowering.allocate(size) for size in (32, 8, 16, 8)]
    lowering.release(places[0], 32)
    lowering.release(places[2], 16)
    assert lowering.allocate(16) == places[2]


def test_a_row_that_is_out_of_range_is_caught():
    table = np.zeros((2, WIDTH), np.int64)
    table[1, 2], table[1, 5:9] = 8, [0, 0, 2, 0]  # the second row: eight elements, from the first input to the arena
    check_table(table, [8, 2, 8])
    for sizes in ([7, 2, 8], [8, 2, 7]):
        with pytest.raises(AssertionError, match="out of range"):
            check_table(table, sizes)
    table[1, 6] = -1
    with pytest.raises(AssertionError, match="out of range"):
        check_table(table, [8, 2, 8])


UNWRITABLE = """
import warnings, numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import numpy as np, tinymeta as tm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = tm.trace(np.sin, np.ones(3))(np.ones(3))
print(len(caught), caught[0].category.__name__, "NUMBA_CACHE_DIR" in str(caught[0].message), result[0] == np.sin(1.0))
"""


@needs_machine
def test_without_a_writable_cache_it_warns_once_and_works():
    assert run_python(UNWRITABLE, TINYMETA_MACHINE="numba").split() == ["1", "RuntimeWarning", "True", "True"]
