"""Work that is linear in the size of the graph, by count: twice the graph, twice the rules, twice the nodes, twice Python's steps."""

import numpy as np
import pytest

import tinymeta as tm
from tests.robustness.counting import bytecodes
from tinymeta.autodiff import reverse
from tinymeta.machine import execute

X, MATRIX = np.array([0.3, -1.2]), np.array([[0.5, 0.1], [-0.2, 0.4]])


def repeated(step, x, start=None):
    """A function that takes n steps, and its arguments."""

    def after(n):
        def f(x):
            y = x if start is None else start
            for k in range(n):
                y = step(y, x, k)
            return np.sum(y)

        return f, (x,)

    return after


def of_many_inputs(n):
    return lambda xs: sum(np.sum(np.sin(x) * x) for x in xs), ([X + k for k in range(n)],)


def stacked(n):
    return lambda x: np.sum(np.stack([np.sin(x * (k + 0.5)) for k in range(n)])), (X,)


LEFT = "what is left to NumPy"
GRAPHS = {
    "a chain": repeated(lambda y, x, k: np.sin(y) * 0.9 + y, X),
    "a wide sum": repeated(lambda y, x, k: y + np.sin(x * (k + 0.5)), X, 0.0),
    "a wide stack": stacked,
    "many inputs": of_many_inputs,
    "diamonds": repeated(lambda y, x, k: np.tanh(y + y), X),
    "diamonds of diamonds": repeated(lambda y, x, k: np.sin(y) * np.cos(y) + y * x, X),
    "products": repeated(lambda y, x, k: np.tanh(y @ x), MATRIX, MATRIX),
    "a sum of products": repeated(lambda y, x, k: y + (x + k) @ x, MATRIX, MATRIX),
    "a sum of products, the other way round": repeated(lambda y, x, k: (x + k) @ x + y, MATRIX, MATRIX),
    LEFT: repeated(lambda y, x, k: np.tanh(np.sort(y)), X),
    "maps": repeated(lambda y, x, k: tm.vmap(np.tanh)(y) + 1.0, MATRIX),
    "checkpoints": repeated(lambda y, x, k: tm.checkpoint(lambda y: np.tanh(y) * y)(y), MATRIX),
}
EACH = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())


def assert_linear(count, n):
    """What is added from n to 2n and from 2n to 3n is the same, but for what is done now and then (a list that grows)."""
    count(n)  # the first time, modules are loaded and caches filled
    once, twice, three_times = (count(k * n) for k in (1, 2, 3))
    assert three_times - twice <= 1.02 * (twice - once)


@pytest.fixture
def swept(monkeypatch):
    """What the sweeps do: how many rules they apply, and how often they look at a node."""
    counts = {"rules": 0, "looks": 0}

    def counted(name, function):
        def call(*args):
            counts[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(reverse, "_apply_rule", counted("rules", reverse._apply_rule))
    monkeypatch.setattr(reverse, "_leads_on", counted("looks", reverse._leads_on))
    return counts


def made(node, seen):
    """How many nodes there are behind one, each counted once."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if type(node) is tm.Tensor and node.index not in seen:
            seen.add(node.index)
            waiting += node.inputs
    return len(seen)


@EACH
def test_each_node_is_looked_at_twice_and_its_rule_is_applied_once(graph, swept):
    """Once on the way back to find it, once on the way forth to see what leads to it."""
    f, args = graph(50)
    leaves = tm.tree.map(tm.tensor, args)
    y = f(*leaves)
    nodes = made(y, set())
    reverse.sweep([y], [1.0], tm.tree.flatten(leaves)[0], record=False)
    inside = 3 if graph in (GRAPHS["maps"], GRAPHS["checkpoints"]) else 1  # blocks have graphs of their own
    assert 0 < swept["rules"] <= inside * nodes and swept["looks"] <= 2 * inside * nodes


@pytest.mark.parametrize("order", [1, 2])
def test_sixty_doublings_are_sixty_rules(swept, order):
    """There are 2^60 ways from the input to the output."""

    def f(x):
        for _ in range(60):
            x = x + x
        return x

    derivative = f if order == 1 else lambda x: tm.grad(lambda x: f(x * x))(x)
    assert tm.grad(derivative)(1.0) == 2.0 ** (59 + order)
    assert swept["rules"] <= 60 if order == 1 else swept["rules"] <= 4 * 62


@EACH
def test_the_sweep_is_linear(graph):
    def gradient(n):
        f, args = graph(n)
        return bytecodes(lambda: tm.grad(f)(*args))

    assert_linear(gradient, 15)


@pytest.mark.parametrize("graph", ["a chain", "a wide sum", "many inputs", "diamonds of diamonds"])
def test_the_sweep_of_a_sweep_is_linear(graph):
    def product(n):
        f, args = GRAPHS[graph](n)
        return bytecodes(lambda: tm.hvp(f, args[0], args[0]))

    assert_linear(product, 15)


@EACH
def test_tracing_is_linear_with_all_passes(graph):
    def traced(n):
        f, args = graph(n)
        return bytecodes(lambda: tm.trace(tm.value_and_grad(f), *args))

    assert_linear(traced, 15)


needs_machine = pytest.mark.skipif(not execute.machine_is_on(), reason="the machine is turned off, or there is no Numba")


@needs_machine
@pytest.mark.parametrize("graph", [graph for name, graph in GRAPHS.items() if name != LEFT])
def test_making_the_table_is_linear(graph):
    def table(n):
        f, args = graph(n)
        code = tm.trace(tm.value_and_grad(f), *args).code
        return bytecodes(lambda: execute.Executable(code, True))

    assert_linear(table, 15)


@needs_machine
@pytest.mark.parametrize("n", [10, 40, 90])
def test_many_short_tables_are_tried_a_few_times_each(n, monkeypatch):
    lower, tried = execute.lower, []
    monkeypatch.setattr(execute, "lower", lambda code, *args: (tried.append(len(code.instructions)), lower(code, *args))[1])
    f, args = GRAPHS[LEFT](n)
    code = tm.trace(tm.value_and_grad(f), *args).code
    executable = execute.Executable(code, True)
    assert sum(isinstance(step, execute.InNumPy) for step in executable.steps) == n
    assert sum(tried) <= 4 * len(code.instructions)
    assert [type(step).__name__ for step in executable.steps[: 2 * n]] == ["InNumPy", "Launch"] * n  # each as long as possible


def test_what_is_not_linear_is_found():
    numbers = list(range(100))
    assert_linear(lambda n: bytecodes(lambda: [k for k in numbers[:n]]), 15)
    with pytest.raises(AssertionError):
        assert_linear(lambda n: bytecodes(lambda: [[k for k in numbers[:m]] for m in range(n)]), 15)
