"""The machine against NumPy: the same code, executed by both."""

import importlib.util
import itertools
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import tree
from tinymeta.machine import execute, launch, threads
from tinymeta.machine.code import Code
from tinymeta.machine.execute import Executable
from tinymeta.machine.launch import Launch
from tinymeta.machine.lower import COPY, PRODUCT, REDUCE, WIDTH, Lowering, check_table
from tinymeta.machine.lowerings import LARGEST

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
        assert [type(step) for step in Executable(program.code, True).steps] == [Launch]


def left_to_numpy(program):
    """The names of the instructions that the machine leaves to NumPy, in bodies too."""
    executables = [Executable(program.code, True)]
    names = []
    for executable in executables:
        for step in executable.steps:
            if isinstance(step, execute.Map):
                executables.append(step.executable)
            elif isinstance(step, execute.InNumPy):
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
    (lambda x: tm.log_softmax(x) + tm.softmax(x), (LOGITS,)), (lambda x: tm.log_softmax(x, 0) * tm.softmax(x, 0), (LOGITS,)),
    (lambda x: tm.softmax(np.reshape(x, (2, 3, 2)), 1), (LOGITS,)), (lambda x: np.remainder(x, 0.3) + x // 0.3 + tm.softplus(x), (LOGITS,)),
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
@pytest.mark.parametrize("f", [tm.softmax, tm.log_softmax])
def test_softmax_is_one_row_and_two_copies_more_along_another_axis_than_the_last(f):
    for axis, families in [(-1, [REDUCE]), (0, [COPY, REDUCE, COPY])]:
        program = tm.trace(lambda x, axis=axis: f(x, axis), LOGITS)
        (step,) = Executable(program.code, True).steps
        assert [row[0] for row in step.stages[0].lowered.table.reshape(-1, WIDTH)] == families
    x = np.array([[1000.0, 0.0, -np.inf], [-1000.0, -np.inf, -1001.0]])
    np.testing.assert_allclose(tm.trace(f, x)(x), f(x), rtol=1e-12)


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
    (step,) = Executable(program.code, True).steps
    lowered = step.stages[0].lowered
    assert sum(lowered.portion_steps) == 6
    rows = [row for row in lowered.table.reshape(-1, WIDTH) if row[0] == PRODUCT and list(row[5:7]) == list(row[11:13])]  # C is D
    assert len(rows) == 2 and list(rows[0][5:7]) == list(rows[1][5:7])


@needs_machine
def test_what_the_machine_leaves_to_numpy_is_marked_and_the_rest_runs_on_it():
    def f(x):
        return np.tanh(np.sort(np.tanh(x @ x.T)[:, 0]))

    program = assert_both_agree(f, LOGITS[:3])
    assert left_to_numpy(program) == ["argsort"]
    assert [line.split()[2] for line in str(program).splitlines() if "in NumPy" in line] == ["argsort"]
    mapped = assert_both_agree(tm.value_and_grad(lambda x: np.mean(tm.vmap(f)(x) ** 2)), generator.normal(size=(6, 3, 3)), tolerance=1e-11)
    assert set(left_to_numpy(mapped)) == {"argsort"}
    assert str(mapped).count("in NumPy") == left_to_numpy(mapped).count("argsort")
    assert "in NumPy" in str(tm.trace(np.argsort, LOGITS[0]))  # all of it is left


@needs_machine
def test_what_comes_after_an_instruction_of_another_dtype_runs_on_the_machine_too():
    """A mean of truth values is a float64; the float32 product behind it begins a table of its own."""
    program = tm.trace(lambda x: (np.mean(np.argmax(x, axis=1) == 1), np.tanh(x @ x.T)), LOGITS.astype(np.float32))
    assert left_to_numpy(program) == ["argmax"]


MATRICES = {  # each with a matrix that it refuses
    "solve": (lambda a: np.linalg.solve(a, a + 1), [[1.0, 2.0], [2.0, 4.0]], "Singular matrix"),
    "inv": (np.linalg.inv, [[0.0, 0.0], [1.0, 1.0]], "Singular matrix"),
    "cholesky": (np.linalg.cholesky, [[1.0, 2.0], [2.0, 1.0]], "Matrix is not positive definite"),
    "gradient of det": (tm.grad(np.linalg.det), [[1.0, 1.0], [1.0, 1.0]], "Singular matrix"),
    "gradient of slogdet": (tm.grad(lambda a: np.linalg.slogdet(a)[1]), [[1.0, 1.0], [1.0, 1.0]], "Singular matrix"),
}


@needs_machine
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_linear_algebra_runs_on_the_machine_and_refuses_what_numpy_refuses(name, threads, monkeypatch):
    monkeypatch.setenv("TINYMETA_THREADS", threads)
    f, wrong, message = MATRICES[name]
    good = np.stack([np.eye(2) + 0.1 * k for k in range(100)])
    for g, args, refused in [(f, good[3], np.array(wrong)), (tm.vmap(f), good, np.concatenate([good[:70], [wrong], good[71:]]))]:
        program = assert_both_agree(g, args)
        assert left_to_numpy(program) == []
        for machine in (True, False):
            with pytest.raises(np.linalg.LinAlgError, match=message):
                Executable(program.code, machine)([refused], program.captured)
        program(args)  # and it goes on


@needs_machine
def test_a_singular_matrix_has_a_determinant():
    program = assert_both_agree(lambda a: (np.linalg.det(a), np.linalg.slogdet(a).sign), np.ones((3, 2, 2)))
    assert left_to_numpy(program) == []
    program = tm.trace(lambda a: np.linalg.slogdet(a)[1], np.eye(2))
    assert program(np.ones((2, 2))) == -np.inf


@needs_machine
def test_large_matrices_are_left_to_lapack_and_errors_in_a_row_are_raised():
    program = tm.trace(tm.vmap(np.linalg.inv), np.stack([np.eye(LARGEST + 1)] * 3))
    assert left_to_numpy(program) == ["solve"]
    with pytest.raises(np.linalg.LinAlgError):
        program(np.stack([np.eye(LARGEST + 1), np.zeros((LARGEST + 1, LARGEST + 1)), np.eye(LARGEST + 1)]))
    assert left_to_numpy(tm.trace(np.linalg.inv, np.eye(LARGEST))) == []


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
    (step,) = Executable(program.code, True).steps
    assert type(step) is Launch
    body = next(i.body for i in program.instructions if i.body)
    assert step.arena < sum(np.prod(i.type.shape) + 8 for i in body.instructions), "places are used again"


# ## Launches
def many_stages(W, xs):
    """Maps and what stands between them: sums that the next map shares, rows that the next map reads."""
    rows = tm.vmap(lambda x: np.tanh(x @ W))(xs)
    center = np.mean(rows, axis=0) * 2
    spread = tm.vmap(lambda row: np.sum((row - center) ** 2))(rows)
    return np.sum(spread) + 1, rows, spread > 1


@needs_machine
@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 65, 200])
def test_stages_hand_their_results_on(rows):
    program = assert_both_agree(many_stages, generator.normal(size=(3, 4)), generator.normal(size=(rows, 5, 3)))
    (step,) = Executable(program.code, True).steps
    assert [stage.length for stage in step.stages] == [rows, 1, rows, 1]
    assert_both_agree(tm.grad(lambda W, xs: many_stages(W, xs)[0]), generator.normal(size=(3, 4)), generator.normal(size=(rows, 5, 3)))


@needs_machine
def test_results_are_the_callers_own():
    program = tm.trace(many_stages, np.ones((3, 4)), np.ones((2, 5, 3)))
    W, xs = generator.normal(size=(3, 4)), generator.normal(size=(2, 5, 3))
    first, again = program(W, xs), program(W, xs)
    first[1][...] = 7
    np.testing.assert_array_equal(program(W, xs)[1], again[1])
    assert first[1].flags.owndata and first[1].flags.writeable
    twice = tm.trace(lambda x: (x * 2, x * 2, x), np.ones(3))(np.ones(3))
    assert not any(np.shares_memory(a, b) for a, b in ((twice[0], twice[1]), (twice[0], twice[2])))


@needs_machine
def test_programs_of_both_dtypes_share_the_helpers():
    """A helper's arena is of the wrong dtype, or too small, again and again."""
    programs = []
    for size in (3, 200):
        for dtype in (np.float32, np.float64):
            args = generator.normal(size=(size, 4)).astype(dtype), generator.normal(size=(30, 5, size)).astype(dtype)
            program = tm.trace(lambda W, xs: tm.vmap(lambda x: np.sum(np.tanh(x @ W)))(xs), *args)
            programs.append((program, args, program(*args)))
    for _ in range(20):
        for program, args, expected in programs:
            np.testing.assert_array_equal(program(*args), expected)


def test_a_helper_works_with_the_callers_errstate():
    crew, seen = threads.Crew(1), queue.SimpleQueue()
    with np.errstate(over="raise", invalid="ignore"):
        crew.call(lambda: seen.put((threading.current_thread().name, np.geterr())))
        name, errors = seen.get(timeout=10)
    assert name == "tinymeta-0" and (errors["over"], errors["invalid"]) == ("raise", "ignore")


@needs_machine
def test_a_launch_after_one_that_was_interrupted(monkeypatch):
    """Ctrl-C while helpers are still at work: their memory lives on, and the next launch waits for them."""
    program = tm.trace(tm.value_and_grad(mean_loss), THETA, *TASKS)
    expected = program(THETA, *TASKS)[0]
    crew = threads.crew()
    if not crew.helpers:
        pytest.skip("there is one thread")
    crew.mailbox[threads.INSIDE] = 1  # as if somebody were

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program(THETA, *TASKS)
    monkeypatch.undo()
    crew.mailbox[threads.INSIDE] = 0
    for _ in range(5):
        assert program(THETA, *TASKS)[0] == expected


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


@needs_machine
@pytest.mark.parametrize("f", [lambda a: np.linalg.solve(a, a), np.linalg.cholesky, np.linalg.det])
def test_elimination_is_checked_for_room(f):
    lowered = Executable(tm.trace(f, np.eye(8)).code, True).steps[0].stages[0].lowered
    sizes = [lowered.arena, lowered.constants.size, 64, 1 if f is np.linalg.det else 64]  # the input, the output
    table = lowered.table.reshape(-1, WIDTH)
    check_table(table, sizes)
    for base in (0, 2, 3):
        with pytest.raises(AssertionError, match="out of range"):
            check_table(table, [size - (k == base) for k, size in enumerate(sizes)])


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
