"""Tracing: what becomes an instruction, what is baked in, what is refused; and that the program computes what the function does."""

import gc
import threading

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.tensor import data_of, is_tracing
from tinymeta.machine.execute import Executable, machine_is_on

generator = np.random.default_rng(0)
MATRIX = generator.normal(size=(4, 3))
SQUARE = generator.normal(size=(3, 3))
VECTOR = generator.normal(size=3)


def operations(program):
    """The names of all instructions, those in bodies too."""
    return [name for i in program.instructions for name in [i.operation.name, *(operations(i.body) if i.body else [])]]


def assert_agrees(f, example, *others):
    """Traced on `example`, the program equals `f`, run eagerly on Tensors, to 1e-12 of the norm, on the machine and in NumPy."""
    program = tm.trace(f, *example)
    for args in (example, *others):
        ours, structure = tm.tree.flatten(program(*args))
        expected, expected_structure = tm.tree.flatten(f(*tm.tree.map(tm.tensor, args)))
        assert structure == expected_structure
        inputs = [x for x in tm.tree.flatten(args)[0] if not isinstance(x, (bool, int, str))]
        in_numpy = Executable(program.code, machine=False)(inputs, program.captured)
        for a, b, c in zip(ours, map(data_of, expected), in_numpy, strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype == np.asarray(c).dtype
            for result in (a, c):
                np.testing.assert_allclose(result, b, rtol=1e-12, atol=1e-12 * np.linalg.norm(np.asarray(b, float)))
    return program


# ## The same results as the eager ones
FUNCTIONS = {
    "elementwise": (lambda x: np.exp(-x) * np.sin(x) / (1 + x**2), (MATRIX,)),
    "broadcasting": (lambda x, y: x + y - np.mean(x, axis=0), (MATRIX, VECTOR)),
    "products": (lambda x, y: x @ y @ VECTOR + np.einsum("ij,j->i", x, VECTOR), (MATRIX, SQUARE)),
    "linear algebra": (lambda x: np.linalg.solve(x, VECTOR) + np.linalg.inv(x)[0] + np.linalg.det(x), (SQUARE,)),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T + np.eye(3)), (SQUARE,)),
    "reductions": (lambda x: (np.var(x), np.prod(x, axis=1), np.cumsum(x, axis=0), np.linalg.norm(x)), (MATRIX,)),
    "shapes": (lambda x: np.concatenate([x.T.reshape(2, -1), np.stack([np.ravel(x)[:6]] * 2)]), (MATRIX,)),
    "indexing": (lambda x: x[1:, [0, 2]] * x[0, 0] + tm.set_at(x, 0, 5.0)[:3, :2], (MATRIX,)),
    "activations": (lambda x: tm.softmax(x) + tm.log_softmax(x) + tm.sigmoid(x) * tm.softplus(x) + tm.logsumexp(x), (MATRIX,)),
    "identity": (lambda x: (+x, tm.grad(lambda x: np.sum(x))(x)), (MATRIX,)),
    "gradient": (tm.grad(lambda x: np.sum(np.tanh(x) ** 3)), (MATRIX,)),
    "value and gradient": (tm.value_and_grad(lambda x, y: np.sum(np.sin(x @ y)), argnums=(0, 1)), (MATRIX, SQUARE)),
    "gradient of a gradient": (tm.grad(lambda x: np.sum(tm.grad(lambda x: np.sum(np.sin(x) * x))(x) ** 2)), (VECTOR,)),
    "third derivative": (tm.grad(lambda x: tm.grad(tm.grad(lambda x: np.sin(x) * np.exp(x)))(x)), (0.7,)),
    "Hessian": (tm.hessian(lambda x: np.sum(np.exp(x) * x[::-1])), (VECTOR,)),
    "Jacobian": (tm.jacobian(lambda x: np.tanh(SQUARE @ x)), (VECTOR,)),
    "Hessian product": (lambda x, v: tm.hvp(lambda x: np.sum(np.sin(x) ** 3), x, v), (VECTOR, VECTOR[::-1])),
    "Jacobian product": (lambda x, v: tm.jvp(np.tanh, (x,), (v,)), (VECTOR, VECTOR[::-1])),
    "pullback": (lambda x, v: tm.vjp(np.tanh, x)[1](v), (VECTOR, VECTOR[::-1])),
    "map": (tm.vmap(lambda x, y: np.tanh(x @ y), (0, None)), (MATRIX, SQUARE)),
    "map of other axes": (tm.vmap(lambda x: x[::2], 1, 1), (MATRIX,)),
    "map of a map": (tm.vmap(tm.vmap(lambda x: x**2 / (1 + x))), (MATRIX**2,)),
    "map of a gradient": (tm.vmap(tm.grad(lambda x: np.sum(x**3))), (MATRIX,)),
    "gradient of a map": (tm.grad(lambda x: np.sum(tm.vmap(np.tanh)(x) * x)), (MATRIX,)),
    "Hessian of a map": (tm.hessian(lambda x: np.sum(tm.vmap(lambda row: np.prod(np.sin(row)))(x * MATRIX))), (VECTOR,)),
    "checkpoint": (tm.checkpoint(lambda x: np.sin(x) @ SQUARE), (MATRIX,)),
    "gradient of a checkpoint": (tm.grad(lambda x: np.sum(tm.checkpoint(lambda x: np.sin(x) ** 2)(x))), (VECTOR,)),
    "Hessian of a checkpoint": (tm.hessian(lambda x: np.sum(tm.checkpoint(lambda x: np.sin(x) ** 2 * x[::-1])(x))), (VECTOR,)),
    "map of a checkpoint": (tm.grad(lambda x: np.sum(tm.vmap(tm.checkpoint(lambda x: np.sin(x) ** 2))(x))), (MATRIX,)),
    "checkpoint in a checkpoint": (tm.hessian(lambda x: np.sum(tm.checkpoint(lambda x: tm.checkpoint(np.sin)(x) * x)(x))), (VECTOR,)),
    "gradients in a gradient": (
        lambda x: tm.grad(lambda y: np.sum(y * tm.grad(lambda z: np.sum(z**2 * y * x))(x)))(x), (VECTOR,)),
    "Jacobian of a map": (tm.jacobian(lambda x: tm.vmap(lambda a: np.outer(a * x, x))(x)), (VECTOR,)),
    "map with constants among its results": (tm.vmap(lambda a: (a, np.ones(2), 3.0)), (VECTOR,)),
    "map whose rows stay out of its result": (tm.vmap(lambda a: np.ones(2)), (VECTOR,)),
    "stop_gradient": (tm.grad(lambda x: np.sum(tm.stop_gradient(x) * x)), (VECTOR,)),
    "rows one by one": (lambda x: sum(row * i for i, row in enumerate(x)), (MATRIX,)),
    "namedtuple of results": (np.linalg.slogdet, (SQUARE,)),
    "own operation on containers": (
        tm.grad(lambda x: np.sum(tm.custom_vjp(lambda p: {"a": p["q"] ** 2},
                                               lambda y_bar, y, p: ({"q": y_bar["a"] * 2 * p["q"]},))({"q": x})["a"])), (VECTOR,)),
    "own operation": (tm.custom_vjp(lambda x: x**3, lambda y_bar, y, x: (y_bar * 3 * x**2,)), (VECTOR,)),
    "gradient of an own operation": (
        tm.grad(lambda x: np.sum(np.sin(tm.custom_vjp(lambda x: x**3, lambda y_bar, y, x: (y_bar * 3 * x**2,))(x)))), (VECTOR,)),
    "second derivative of an own operation": (
        tm.hessian(lambda x: np.sum(np.sin(tm.custom_vjp(lambda x: x**3, lambda y_bar, y, x: (y_bar * 3 * x**2,))(x)))), (VECTOR,)),
}  # fmt: skip


@pytest.mark.parametrize(("f", "args"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_equal_to_eager(f, args):
    assert_agrees(f, args, tuple(x * 0.7 + 0.1 for x in args))


# ## One task's instructions for all tasks
def mean_squared_error(theta, batch):
    x, y = batch
    return np.mean((np.tanh(x @ theta["W1"] + theta["b1"]) @ theta["W2"] + theta["b2"] - y) ** 2)


def adapted_loss(theta, task):
    support, query = task
    phi = tm.tree.map(lambda t, g: t - 0.1 * g, theta, tm.grad(mean_squared_error)(theta, support))
    return mean_squared_error(phi, query)


def meta_loss(theta, tasks):
    return np.mean(tm.vmap(adapted_loss, (None, 0))(theta, tasks))


THETA = {"W1": generator.normal(size=(1, 5)), "b1": np.zeros(5), "W2": generator.normal(size=(5, 1)), "b2": np.zeros(1)}


def draw_tasks(count):
    return tuple((generator.normal(size=(count, 10, 1)), generator.normal(size=(count, 10, 1))) for _ in range(2))


def test_the_meta_gradient_of_25_tasks():
    program = assert_agrees(tm.value_and_grad(meta_loss), (THETA, draw_tasks(25)), (THETA, draw_tasks(25)))
    assert [name for name in operations(program)].count("map") == 1  # the losses and their gradients, in one


def test_the_number_of_instructions_does_not_depend_on_the_number_of_tasks():
    lengths = {len(tm.trace(tm.value_and_grad(meta_loss), THETA, draw_tasks(count))) for count in (2, 3, 25)}
    assert len(lengths) == 1


def test_one_task_alone_needs_about_as_many():
    one = tm.trace(tm.value_and_grad(adapted_loss), THETA, tm.tree.map(lambda x: x[0], draw_tasks(1)))
    many = tm.trace(tm.value_and_grad(meta_loss), THETA, draw_tasks(25))
    assert len(many) < 2 * len(one)


# ## Computed, not baked in
MASKS = {
    "relu": lambda x: tm.relu(x),
    "where": lambda x: np.where(x > 0, x, 2 * x),
    "comparison": lambda x: (x > 0) * x + (x <= -1),
    "logic": lambda x: np.where((x > 0) & ~(x > 1), x, 0),
    "max": lambda x: np.max(x),
    "maximum": lambda x: np.maximum(x, 0.3),
    "abs": np.abs,
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "argmax": lambda x: np.argmax(x),
    "gather": lambda x: x[np.argmax(x)] + x[np.argsort(x)[0]],
    "sort": lambda x: np.sort(x) * np.argsort(x),
    "floor": lambda x: np.floor(x) + np.round(x) + np.sign(x),
    "astype": lambda x: x.astype(int) + (x > 0).astype(float),
    "isfinite": lambda x: np.isfinite(np.where(x > 0, x, np.inf)),
    "gradient of relu": tm.grad(lambda x: np.sum(tm.relu(x) ** 2)),
    "gradient of max": tm.grad(lambda x: np.max(x) ** 2),
    "gradient of sort": tm.grad(lambda x: np.sum(np.sort(x) * np.arange(4))),
    "gradient of where": tm.grad(lambda x: np.sum(np.where(x > 0, np.sin(x), x))),
    "gradient of a gather": tm.grad(lambda x: x[np.argmax(x)] ** 2),
    "in a map": tm.vmap(lambda x: np.where(x > 0, x, x * 3)),
}


@pytest.mark.parametrize("f", MASKS.values(), ids=MASKS.keys())
def test_masks_are_computed_for_each_input(f):
    example = np.array([1.5, -0.2, 0.4, -1.7])
    others = [(-example,), (example[::-1],), (np.array([0.0, 3.0, -3.0, 0.5]),)]
    assert_agrees(f, (example,), *others)
    assert any(not np.array_equal(f(example), f(*args)) for args in others), "all inputs give the same: this tests nothing"


def test_integers_as_indices():
    assert_agrees(lambda x, i: x[i] * 2, (VECTOR, np.array([0, 1])), (VECTOR, np.array([2, 0])))
    assert_agrees(lambda x, i: np.take_along_axis(x, i, 1), (MATRIX, np.argsort(MATRIX, 1)), (MATRIX, np.zeros((4, 3), int)))


def test_a_boolean_array_is_an_input():
    assert_agrees(lambda x, mask: np.where(mask, x, -x), (VECTOR, VECTOR > 0), (VECTOR, VECTOR < 0))


# ## Captured values
def test_a_captured_tensor_keeps_its_value():
    t = tm.tensor(np.array([1.0, 2.0, 3.0]))
    program = tm.trace(lambda x: x * t, VECTOR)
    np.testing.assert_array_equal(program(np.ones(3)), [1, 2, 3])
    assert [x.tolist() for x in program.captured] == [[1, 2, 3]]
    assert "captured" in str(program)


def test_a_captured_array_is_copied():
    array = np.ones(3)
    program = tm.trace(lambda x: x * array, VECTOR)
    array[:] = 5
    np.testing.assert_array_equal(program(VECTOR), VECTOR)


def test_tensors_captured_by_blocks_and_gradients():
    t = tm.tensor(2.0)

    def f(x):
        u = t * np.sum(x)  # captured by the blocks inside, made inside of the trace
        rows = tm.vmap(lambda row: row * u + t)(MATRIX)
        return np.sum(rows * x) + tm.checkpoint(lambda: u * t * x[0])()

    assert_agrees(tm.value_and_grad(f), (VECTOR,), (VECTOR[::-1],))


def test_map_over_arrays_that_are_not_arguments():
    program = assert_agrees(lambda x: tm.vmap(lambda row: np.sum(row * x))(MATRIX), (VECTOR,), (VECTOR * 2,))
    assert operations(program).count("map") == 1
    assert_agrees(lambda x: x + np.sum(tm.vmap(lambda row: row**2)(MATRIX)), (VECTOR,), (VECTOR * 2,))


# ## Blocks
def test_a_map_in_a_map_is_an_instruction_with_a_body_in_its_body():
    program = tm.trace(tm.vmap(tm.vmap(np.sin)), MATRIX)
    (outer,) = [i for i in program.instructions if i.body]
    (inner,) = [i for i in outer.body.instructions if i.body]
    assert (outer.length, inner.length) == (4, 3)
    assert [i.operation.name for i in inner.body.instructions] == ["sin"]


def test_a_checkpoint_computes_again():
    """In the gradient's program sin is there twice: the second is never merged with the first."""
    f = tm.checkpoint(lambda x: np.sin(x) ** 2)
    program = tm.trace(tm.value_and_grad(lambda x: np.sum(f(x))), VECTOR)
    assert operations(program).count("sin") == 2
    without = tm.trace(tm.value_and_grad(lambda x: np.sum(np.sin(x) ** 2)), VECTOR)
    assert operations(without).count("sin") == 1


def test_a_checkpoint_saves_memory():
    def chain(x, wrapped):
        for _ in range(8):
            x = wrapped(lambda x: np.sin(np.sin(np.sin(np.sin(x)))))(x)
        return np.sum(x)

    x = np.ones(1000)
    plain, checkpointed = (tm.trace(tm.grad(lambda x, w=w: chain(x, w)), x) for w in (lambda f: f, tm.checkpoint))
    np.testing.assert_allclose(checkpointed(x), plain(x), rtol=1e-12)
    if machine_is_on():
        assert checkpointed.arena_bytes < 0.6 * plain.arena_bytes


def test_the_forward_of_an_own_operation_runs_again():
    calls = []

    def forward(x):
        calls.append(x.copy())
        return x**3

    program = tm.trace(tm.custom_vjp(forward, lambda y_bar, y, x: (y_bar * 3 * x**2,)), VECTOR)
    before = len(calls)
    program(VECTOR * 2)
    assert len(calls) == before + 1
    np.testing.assert_array_equal(calls[-1], VECTOR * 2)


# ## What can't be traced
@pytest.mark.parametrize("f", [
    lambda x: x if x[0] > 0 else -x,
    lambda x: x if np.all(x > 0) else -x,
    lambda x: x * x.value,
    lambda x: x[x > 0],
    lambda x: f"{x[0]:.2f}" and x,
    lambda x: tm.vmap(lambda row: row if row > 0 else -row)(x),
    lambda x: tm.checkpoint(lambda x: x if x[0] > 0 else -x)(x),
    tm.grad(lambda x: np.sum(x) if x[0] > 0 else -np.sum(x)),
])  # fmt: skip
def test_what_depends_on_a_value_raises_an_error_that_explains_tracing(f):
    with pytest.raises(TypeError, match=r"trace.*np\.where"):
        tm.trace(f, VECTOR)
    assert not is_tracing()


@pytest.mark.parametrize("f", [lambda x: float(x[0]) * x, lambda x: int(x[0]) * x, lambda x: x * np.asarray(x)])
def test_plain_numbers_are_refused(f):
    with pytest.raises(TypeError, match="gradient would be lost"):
        tm.trace(f, VECTOR)


def test_python_decides_by_shapes_and_static_arguments():
    def f(x, flag):
        return (x if flag else -x) if x.ndim == 1 and len(x) == 3 and x.size < 9 else x * 0

    np.testing.assert_array_equal(tm.trace(f, VECTOR, True)(VECTOR, True), VECTOR)
    np.testing.assert_array_equal(tm.trace(f, VECTOR, False)(VECTOR, False), -VECTOR)


def test_an_exception_leaves_tracing_off():
    def f(x):
        assert is_tracing()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tm.trace(f, VECTOR)
    assert not is_tracing()
    assert bool(tm.tensor(1.0) > 0)


@pytest.mark.parametrize("running", [True, False])
def test_the_collector_of_cycles_rests_meanwhile(running):
    def f(x, fail):
        assert not gc.isenabled()
        return {}[x] if fail else x * 2

    before = gc.isenabled()
    try:
        (gc.enable if running else gc.disable)()
        tm.trace(f, VECTOR, False)
        assert gc.isenabled() == running
        with pytest.raises(KeyError):
            tm.trace(f, VECTOR, True)
        assert gc.isenabled() == running
    finally:
        (gc.enable if before else gc.disable)()


# ## Threads
def test_tracing_is_a_matter_of_one_thread():
    """While one function is being traced, another thread may ask for truths, and trace a function of its own."""
    inside, go_on = threading.Event(), threading.Event()
    programs = {}

    def slow(x):
        inside.set()
        assert go_on.wait(10)
        return x * 2

    tracer = threading.Thread(target=lambda: programs.update(slow=tm.trace(slow, VECTOR)))
    tracer.start()
    try:
        assert inside.wait(10)
        assert not is_tracing()
        assert bool(tm.tensor(1.0) > 0)
        assert tm.tensor(2.0).value == 2
        programs["quick"] = tm.trace(lambda x: x * 3, VECTOR)
        assert not is_tracing()
    finally:
        go_on.set()
        tracer.join()
    np.testing.assert_array_equal(programs["slow"](VECTOR), VECTOR * 2)
    np.testing.assert_array_equal(programs["quick"](VECTOR), VECTOR * 3)


def test_two_traces_at_the_same_time():
    barrier = threading.Barrier(4, timeout=10)
    found = {}

    def trace_one(k):
        def f(x):
            barrier.wait()
            for _ in range(50):
                x = x * 1.5 + k
            barrier.wait()
            return tm.grad(lambda x: np.sum(np.sin(x) * k))(x)

        found[k] = tm.trace(f, VECTOR)

    threads = [threading.Thread(target=trace_one, args=(k,)) for k in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, program in found.items():
        x = VECTOR
        for _ in range(50):
            x = x * 1.5 + k
        np.testing.assert_array_equal(program(VECTOR), np.cos(x) * k)
    assert len(found) == 4
    assert len({len(program) for program in found.values()}) == 1, "no program has a node of another thread's"


def test_an_example_that_happens_to_be_singular_is_no_error():
    """While it is traced, one row of a Hessian stands for all of them, which makes a matrix of rank one."""

    def newton_step(x):
        f = lambda x: np.sum(x**4) + np.prod(x)
        return x - np.linalg.solve(tm.hessian(f)(x), tm.grad(f)(x))

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(tm.trace(newton_step, x)(x + 1), newton_step(x + 1), rtol=1e-14)
    with pytest.raises(np.linalg.LinAlgError):
        tm.trace(np.linalg.inv, np.eye(2))(np.ones((2, 2)))


CONSTANT = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize("f", [
    lambda c: tm.vjp(tm.vmap(np.sin), CONSTANT)[1](c * np.ones(3))[0],
    lambda c: tm.grad(lambda x: np.sum(tm.vmap(np.sin)(x) ** 2))(CONSTANT) * c,
    lambda c: tm.value_and_grad(lambda x: np.sum(tm.vmap(np.sin)(x) ** 2))(CONSTANT)[0] * c,
    lambda c: tm.hessian(lambda x: np.sum(tm.vmap(np.sin)(x) ** 2))(CONSTANT) * c,
    lambda c: tm.jacobian(lambda x: tm.vmap(tm.vmap(np.sin))(x[None] * CONSTANT[:, None]))(CONSTANT) * c,
    lambda c: tm.vmap(lambda row: tm.grad(lambda x: np.sum(tm.vmap(np.sin)(x) ** 2))(CONSTANT) * row)(c * CONSTANT),
])  # fmt: skip
def test_the_derivative_of_a_map_by_a_constant(f):
    """Under a trace one row of a map is run for all; no derivative may take its value for theirs."""
    np.testing.assert_allclose(tm.trace(f, 2.0)(2.0), f(2.0), rtol=1e-14)
