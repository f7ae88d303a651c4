"""tm.debug: the first operation that makes NaN or infinity is named, and nothing else changes."""

import inspect
import threading

import numpy as np
import pytest

import tinymeta as tm
from tests.autodiff.operations.catalogue import EXAMPLES
from tinymeta import proofs
from tinymeta.tasks import sinusoids

X = np.array([1.0, 0.0, 2.0])


def line_of(text, function):
    lines, start = inspect.getsourcelines(function)
    (number,) = (start + k for k, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function).rsplit('/')[-1]}:{number}"


def complaint(f, *args):
    with pytest.raises(FloatingPointError) as caught, tm.debug():
        f(*args)
    return str(caught.value)


WAYS = {"eager": lambda f: f, "jit": tm.jit, "trace": lambda f: lambda *args: tm.trace(f, *args)(*args)}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


# ## What is named
def masked_logarithm(x):
    y = np.log(x)
    return np.sum(np.where(x > 0, y, 0.0))


def root(x):
    return np.sum(np.sqrt(x))


def test_what_a_branch_computes_that_is_not_taken():
    assert complaint(tm.grad(masked_logarithm), X) == (
        f"log makes infinity at [1], in {line_of('np.log', masked_logarithm)}\n    operand 0: float64[3], from 0 to 2, 0 at [1]")


@each_way
@np.errstate(all="ignore")
def test_the_derivative_belongs_to_the_line_that_is_differentiated(way):
    told = complaint(way(tm.grad(root)), X).splitlines()
    assert told[0] == f"divide makes infinity at [1], in the gradient of {line_of('np.sqrt', root)}"
    assert told[1:] == ["    operand 0: float64[3], from 1 to 1, 1 at [1]", "    operand 1: float64[3], from 0 to 2.82843, 0 at [1]"]


@each_way
@np.errstate(all="ignore")
def test_in_a_row_of_a_map(way):
    told = complaint(way(tm.vmap(tm.grad(lambda x: np.sqrt(x * x)))), X)
    assert told.startswith("divide makes infinity, in the gradient of") and told.count("operand") == 2


def test_what_is_given():
    told = complaint(tm.grad(lambda x: np.sum(x * 2.0)), np.array([1.0, np.nan]))
    assert told.startswith("multiply is given NaN at [1]") and "operand 0: float64[2], from 1 to 1, 1 NaN, nan at [1]" in told
    assert told.endswith("operand 1: 2.0")


def test_of_an_infinity_that_is_given_only_nan_is_told():
    mask = np.array([0.0, -np.inf])
    with tm.debug():
        p = tm.grad(lambda x: tm.logsumexp(x + mask))(np.zeros(2))
    assert p.tolist() == [1, 0]
    assert complaint(tm.grad(lambda x: np.sum(x * mask)), np.zeros(2)).startswith("multiply makes NaN at [1]")


def test_overflow_in_float32():
    assert complaint(tm.grad(lambda x: np.sum(np.exp(x))), np.full(2, 89, np.float32)).startswith("exp makes infinity at [0]")
    assert complaint(tm.grad(lambda x: np.exp(x)), np.array(1e3)).startswith("exp makes infinity, in")


@np.errstate(all="ignore")
def test_a_second_derivative():
    assert "makes infinity, in the gradient of gradient of" in complaint(tm.grad(tm.grad(lambda x: x**1.5)), 0.0)


def test_a_training_stops_and_keeps_what_it_has(tmp_path):
    def objective(theta, task):
        return np.sum(np.log(theta) * task)

    tasks = lambda rng, count: rng.uniform(1, 2, (count, 1))
    with pytest.raises(FloatingPointError, match=f"log makes NaN at .0., in {line_of('np.log', objective)}"), tm.debug():
        tm.fit(objective, np.array([0.5]), tasks, tm.optim.sgd(0.3), iterations=9, meta_batch=2, seed=0, quiet=True,
               checkpoint=tmp_path / "x.npz")  # fmt: skip
    assert tm.load_checkpoint(tmp_path / "x.npz").iteration == 1


# ## Nothing else changes
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_false_alarm_and_the_same_numbers(name):
    f, *xs = EXAMPLES[name]
    derivative = tm.grad(lambda *xs: np.sum(f(*xs) ** 2), argnums=range(len(xs)))
    expected = derivative(*xs)
    program = tm.trace(derivative, *xs)
    with tm.debug():
        results = [*derivative(*xs), *program(*xs)]
    assert all(type(x) is np.ndarray for x in results)
    for result, x in zip(results, expected * 2, strict=True):
        np.testing.assert_allclose(result, x, rtol=1e-12, atol=1e-13)


def test_the_meta_gradients():
    rng = np.random.default_rng(0)
    task, theta = tm.tree.map(lambda x: x[0], sinusoids.draw(rng, 1)), tm.nn.initialize_mlp(rng, (1, 4, 1))
    problem = tm.Bilevel(proofs.network_loss("support"), proofs.network_loss("query"))
    for compute in (lambda: tm.maml.meta_gradient(problem, theta, task, steps=3, lr=0.1),
                    lambda: tm.maml.meta_gradient(problem, theta, task, steps=3, lr=0.1, by="recursion"),
                    lambda: tm.implicit.meta_gradient(tm.implicit.proximal(problem, 2.0), theta, task)):  # fmt: skip
        expected = compute()
        with tm.debug():
            result = compute()
        np.testing.assert_allclose(tm.ravel(result.grad)[0], tm.ravel(expected.grad)[0], rtol=1e-12)
        assert type(result.value) is type(expected.value)


def test_it_is_over_afterwards_and_other_threads_know_nothing_of_it():
    f = np.errstate(all="ignore")(tm.grad(root))
    found = []
    with tm.debug():
        thread = threading.Thread(target=lambda: found.append(f(X)))
        thread.start()
        thread.join()
    assert np.isinf(f(X)[1]) and np.isinf(found[0][1])
